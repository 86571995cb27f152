//! How the SQL text differs between the databases. Each database's own file defines its [`Dialect`].

use std::fmt;
use std::sync::OnceLock;

use crate::sql::engine::columns::Described;
use crate::sql::engine::statement::Statement;

/// How a database hands out the numbers of documents (R43).
#[derive(Debug)]
pub enum Numbers {
    /// A row has the last number. The statement adds `$2` to the row of the kind `$1` and returns the result. Only for a
    /// database with one writer: otherwise, all orders would wait for the row.
    #[cfg(feature = "sqlite")]
    Row(&'static Sql),
    /// A sequence of each kind. The statement of a kind returns `$1` numbers.
    #[cfg(feature = "postgres")]
    Sequences {
        /// The numbers of orders.
        orders: &'static Sql,
        /// The numbers of bills.
        bills: &'static Sql,
    },
    /// A table of each kind, `order_numbers` and `bill_numbers`, whose counter makes the number of each row that is
    /// inserted. The statement returns the first number of the last INSERT, and the difference between two numbers.
    #[cfg(feature = "mysql")]
    Inserts(&'static Sql),
}

/// The SQL text that differs between databases.
#[derive(Debug)]
pub struct Dialect {
    /// The name in messages and URLs.
    pub name: &'static str,
    /// The index of this database's text in a [`Sql`].
    pub slot: usize,
    /// Whether parameters are sent as `$1`. If not, they become `?`.
    pub numbered: bool,
    /// The statement that starts a transaction that may write.
    pub begin: &'static str,
    /// The tokens of statement templates and the text that replaces each.
    pub fragments: &'static [(&'static str, &'static str)],
    /// Locks the category tree until the end of the transaction. `None` if a transaction that may write has the
    /// database to itself.
    pub lock_tree: Option<&'static Sql>,
    /// As `lock_tree`, but several transactions may hold it.
    pub hold_tree: Option<&'static Sql>,
    /// The end of a SELECT that locks the rows it finds. Empty if a transaction that may write has the database to
    /// itself.
    pub for_update: &'static str,
    /// As `for_update`, but several transactions may lock a row so at once, and none of them writes it.
    pub for_share: &'static str,
    /// Whether events get their position in the outbox after their commit. False if there is one writer, so that the
    /// numbers of inserts are in the order of commits.
    pub sequences_outbox: bool,
    /// Whether the rows of `a CROSS JOIN b LEFT JOIN c` come in the order of `a`, so that a page that is sorted already
    /// is not sorted again.
    pub joins_in_order: bool,
    /// Whether `(a, b) > (x, y)` is a range of an index on both columns.
    pub row_values: bool,
    /// Returns 1 once no other process migrates this database, and holds the lock until the connection or its
    /// transaction ends. `None` if a transaction that may write has the database to itself.
    pub migration_lock: Option<&'static Sql>,
    /// Returns a row that describes what is wrong with the database, before it is used. Returns no row if it is fine.
    pub setup: Option<&'static Sql>,
    /// Returns a row that describes what is wrong with a transaction that a host began, or no row if it is fine. Also
    /// makes the transaction the writer, if the database has one writer.
    pub host_check: Option<&'static Sql>,
    /// Returns a row if the tables of [`migrate`](crate::sql::engine::migrate) exist, so that a user without the right
    /// to create tables need not try.
    pub has_tables: &'static Sql,
    /// Returns the names of all tables and views of the database, as the database compares them.
    pub names: &'static Sql,
    /// Returns the names of the indexes and the statements that create them. `None` if the database cannot drop or
    /// create an index in a transaction.
    pub indexes: Option<&'static Sql>,
    /// How the numbers of documents are made.
    pub numbers: Numbers,
    /// Whether a transaction can still be used after one of its statements failed.
    pub survives_errors: bool,
    /// Whether an INSERT that skips rows that exist already returns how many rows it has inserted.
    pub counts_inserts: bool,
    /// Whether the database is a file that the settings name. If it cannot be opened before its schema was ever seen, the
    /// settings are wrong. A server may still come to have the database that it does not have yet.
    pub is_file: bool,
}

impl Dialect {
    /// Replaces the tokens of a template.
    pub fn render(&self, template: &str) -> String {
        let mut text = template.replace("{for_update}", self.for_update);
        for (token, with) in self.fragments {
            if text.contains(token) {
                text = text.replace(token, with);
            }
        }
        text
    }
}

/// A statement with a fixed text: a template with `$1…$n`, which is turned into each database's text once.
///
/// A template names the columns of a [`Table`](crate::sql::engine::columns::Table) with a token: `{*}` is the select
/// list, `{p.*}` the select list under the alias `p`.
pub struct Sql {
    template: &'static str,
    tables: Tables,
    texts: [OnceLock<Prepared>; 3],
    statement: OnceLock<&'static Statement>,
}

/// The tables that a template names.
enum Tables {
    No,
    /// One table, without an alias.
    One(&'static dyn Described),
    /// Several tables, each with its alias.
    Several(&'static [(&'static str, &'static dyn Described)]),
}

impl fmt::Debug for Sql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sql").field(&self.template).finish()
    }
}

/// The text of a statement for one database.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The text.
    pub text: String,
    /// If placeholders have no numbers: the parameter that each stands for.
    pub order: Option<Vec<usize>>,
}

impl Sql {
    /// Makes a statement from a template that names no table.
    pub const fn new(template: &'static str) -> Self {
        Self::with(template, Tables::No)
    }

    /// Makes a statement from a template over one table: `{*}` is its select list, `{name}` its name and `{update}` the
    /// UPDATE of one row.
    pub const fn of(table: &'static dyn Described, template: &'static str) -> Self {
        Self::with(template, Tables::One(table))
    }

    /// Makes a statement from a template over several tables, each with its alias: `{p.*}` is the select list of the
    /// table `p`.
    pub const fn over(tables: &'static [(&'static str, &'static dyn Described)], template: &'static str) -> Self {
        Self::with(template, Tables::Several(tables))
    }

    const fn with(template: &'static str, tables: Tables) -> Self {
        let texts = [OnceLock::new(), OnceLock::new(), OnceLock::new()];
        Self { template, tables, texts, statement: OnceLock::new() }
    }

    /// Returns the template with the columns of its tables.
    fn spelled_out(&self) -> String {
        match self.tables {
            Tables::No => self.template.to_owned(),
            Tables::One(table) => self
                .template
                .replace("{*}", &table.select(""))
                .replace("{name}", table.name())
                .replace("{update}", &table.update()),
            Tables::Several(tables) => tables.iter().fold(self.template.to_owned(), |text, (alias, table)| {
                text.replace(&format!("{{{alias}.*}}"), &table.select(alias))
            }),
        }
    }

    /// Returns the statement, by which metrics and log name it.
    pub fn statement(&self) -> &'static Statement {
        self.statement.get_or_init(|| Statement::of(&self.spelled_out()))
    }

    /// Returns the text for a database.
    pub fn prepared(&self, dialect: &Dialect) -> &Prepared {
        self.texts[dialect.slot].get_or_init(|| {
            let text = dialect.render(&self.spelled_out());
            if dialect.numbered { Prepared { text, order: None } } else { unnumbered(&text) }
        })
    }
}

/// Turns `$1…$n` into `?` and returns which parameter each stands for. A `$` inside quotes stays.
pub fn unnumbered(text: &str) -> Prepared {
    let mut out = String::with_capacity(text.len());
    let mut order = Vec::new();
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                quoted = !quoted;
                out.push(c);
            }
            '$' if !quoted && chars.peek().is_some_and(char::is_ascii_digit) => {
                let mut n = 0;
                while let Some(d) = chars.peek().and_then(|d| d.to_digit(10)) {
                    n = n * 10 + d as usize;
                    chars.next();
                }
                order.push(n.saturating_sub(1));
                out.push('?');
            }
            _ => out.push(c),
        }
    }
    Prepared { text: out, order: Some(order) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_parameters_become_question_marks_in_their_order() {
        let p = unnumbered("SELECT $2, '$1', $1 WHERE a = $2 AND b = $10");
        assert_eq!(p.text, "SELECT ?, '$1', ? WHERE a = ? AND b = ?");
        assert_eq!(p.order, Some(vec![1, 0, 1, 9]));
    }
}
