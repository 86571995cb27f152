//! The names of statements, by which the metrics and the log show them, and the times that they take.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use ecom_core::log_event;
use ecom_core::metrics::{self, Histogram};
use parking_lot::RwLock;

/// A statement that takes this long is logged.
const SLOW: Duration = Duration::from_secs(1);
/// The maximum number of tables of one verb that have a name of their own. The statements of the library name fewer
/// tables.
const MOST: usize = 200;

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Select,
    Insert,
    Update,
    Delete,
    Begin,
    Commit,
    Rollback,
    /// Anything else.
    Script,
}

impl Verb {
    const COUNT: usize = 8;

    const fn word(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Script => "script",
        }
    }
}

/// A kind of statements: those with one verb and one first table. There is one object for each, which lives as long as
/// the process, as the recorder of metrics does.
#[derive(Debug)]
pub struct Statement {
    name: String,
    /// The metric of the times, once metrics are recorded.
    took: OnceLock<Histogram>,
}

/// The statements of a verb, by their tables.
type ByTable = RwLock<HashMap<String, &'static Statement>>;

static KNOWN: LazyLock<[ByTable; Verb::COUNT]> = LazyLock::new(Default::default);

impl Statement {
    /// Returns the statement of a text.
    pub fn of(text: &str) -> &'static Self {
        let (verb, table) = parts(text);
        Self::named(verb, table)
    }

    /// Returns the name, such as `select products`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the statement of a verb without a table.
    pub fn without_table(verb: Verb) -> &'static Self {
        Self::named(verb, "")
    }

    fn named(verb: Verb, table: &str) -> &'static Self {
        let by_table = &KNOWN[verb as usize];
        let found = by_table.read().get(table).copied();
        if let Some(found) = found {
            return found;
        }
        let mut by_table = by_table.write();
        let table = if by_table.len() < MOST { table } else { "" };
        if let Some(found) = by_table.get(table).copied() {
            return found;
        }
        let word = verb.word();
        let name = if table.is_empty() { word.to_owned() } else { format!("{word} {table}") };
        let statement: &'static Self = Box::leak(Box::new(Self { name, took: OnceLock::new() }));
        by_table.insert(table.to_owned(), statement);
        statement
    }
}

/// Returns the verb and the first table of a text; the table is empty if the text names none.
fn parts(text: &str) -> (Verb, &str) {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    match &text[..end] {
        "SELECT" | "WITH" => (Verb::Select, table_after(text, " FROM ")),
        "INSERT" => (Verb::Insert, table_after(text, " INTO ")),
        "UPDATE" => (Verb::Update, word(&text[end..])),
        "DELETE" => (Verb::Delete, table_after(text, " FROM ")),
        _ => (Verb::Script, ""),
    }
}

/// Returns the first table that follows `mark`. Subqueries have none.
fn table_after<'t>(text: &'t str, mark: &str) -> &'t str {
    let mut tables = text.match_indices(mark).map(|(at, _)| word(&text[at + mark.len()..]));
    tables.find(|table| !table.is_empty()).unwrap_or_default()
}

/// Returns the name at the beginning of a text. Tables have lower-case names.
fn word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// The time of a statement that is under way.
pub struct Timer {
    statement: &'static Statement,
    start: Instant,
}

impl Timer {
    pub fn start(statement: &'static Statement) -> Self {
        Self { statement, start: Instant::now() }
    }

    /// Records the time of the statement, which has ended, and logs it if it was slow.
    pub fn end(self) {
        let took = self.start.elapsed();
        let name = self.statement.name.as_str();
        if metrics::is_enabled() {
            let histogram = self
                .statement
                .took
                .get_or_init(|| metrics::histogram(metrics::DB_STATEMENT_DURATION_SECONDS, &[("statement", name)]));
            histogram.record(took.as_secs_f64());
        }
        if took >= SLOW {
            metrics::count(metrics::DB_SLOW_STATEMENTS_TOTAL, &[("statement", name)], 1);
            let (event, took_ms) = (log_event::SLOW_STATEMENT, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            tracing::warn!(target: log_event::TARGET, event, statement = name, took_ms, "a statement was slow");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_statement_is_named_by_its_verb_and_its_first_table() {
        for (text, name) in [
            ("SELECT id, title FROM products p WHERE id = $1", "select products"),
            ("SELECT 1 FROM (SELECT pg_advisory_xact_lock(1) FROM ecom_meta) locked", "select ecom_meta"),
            ("WITH RECURSIVE c AS (SELECT id FROM categories) SELECT * FROM c", "select categories"),
            ("SELECT coalesce(MAX(seq), 0)", "select"),
            ("INSERT INTO order_lines (id) VALUES ($1)", "insert order_lines"),
            ("INSERT IGNORE INTO outbox_cursors VALUES (?)", "insert outbox_cursors"),
            ("UPDATE skus SET on_hand = $1", "update skus"),
            ("DELETE FROM sessions WHERE id = $1", "delete sessions"),
            ("CREATE INDEX a ON b (c)", "script"),
            ("", "script"),
        ] {
            assert_eq!(Statement::of(text).name, name, "{text}");
            assert!(std::ptr::eq(Statement::of(text), Statement::of(text)), "{text} is made once");
        }
        assert_eq!(Statement::without_table(Verb::Commit).name, "commit");
    }

    #[test]
    fn the_number_of_names_is_bounded() {
        // No statement of this verb has a table.
        let name = |n: usize| Statement::named(Verb::Rollback, &format!("invented_{n}")).name.as_str();
        let names: HashSet<&str> = (0..2 * MOST).map(name).collect();
        assert!(names.len() <= MOST + 1 && names.contains("rollback"), "{}", names.len());
    }
}
