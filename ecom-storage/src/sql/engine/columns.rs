//! One table of columns by name per aggregate. It makes the select list, INSERT and UPDATE with their parameters, the
//! positions that reads use, and the `DUPLICATE` conflict of each unique index.
//!
//! ```text
//! pub static SUPPLIERS: Table<Supplier> = Table {
//!     name: "suppliers",
//!     entity: Entity::Supplier,
//!     columns: &[
//!         Column::fixed("id", |s| s.id.into()),
//!         Column::field("name", |s| Value::from(&s.name)),
//!         Column::derived("name_key", |s| fold_key(&s.name).into()),
//!         Column::Audit(|s| &s.audit),
//!     ],
//!     unique: &[Unique { index: "suppliers_name_live", columns: &["name_key"], field: "name", value: |s| … }],
//!     parent: None,
//! };
//! static WRITES: Versioned<Supplier> = Versioned::new(&SUPPLIERS);
//! static GET: Sql = Sql::of(&SUPPLIERS, "SELECT {*} FROM suppliers WHERE id = $1");
//!
//! let name = row.string(const { SUPPLIERS.at("name") })?;
//! ```

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt::Write as _;

use ecom_core::common::{Actor, Audit, ExternalRef};
use ecom_core::money::{Currency, Money};
use ecom_core::sales::Totals;
use ecom_core::text::fold_key;
use ecom_core::{Conflict, Entity, Error, Result};
use uuid::Uuid;

use crate::sql::engine::builder::{Builder, insert_rows};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::error::{DbError, Kind, gone};
use crate::sql::engine::executor::Executor;
use crate::sql::engine::value::{Row, Value};

/// One column, or a group of columns that several tables share.
pub enum Column<T: 'static> {
    /// A single column.
    One(One<T>),
    /// The source and the external id.
    External(fn(&T) -> &Option<ExternalRef>),
    /// The amounts of an order or a bill.
    Totals(fn(&T) -> &Totals),
    /// The columns of [`Audit`]: times, actors and the version.
    Audit(fn(&T) -> &Audit),
}

/// One column of a table: which statements name it, and the value that they write.
pub struct One<T: 'static> {
    name: &'static str,
    written: Written<T>,
    selected: bool,
    updated: bool,
}

/// The value that statements write into a column.
enum Written<T: 'static> {
    /// Statements write no value, because the database maintains the column.
    No,
    Value(for<'a> fn(&'a T) -> Value<'a>),
    Json(for<'a> fn(&'a T) -> Result<Value<'a>>),
    Counter(fn(&T) -> i64),
}

impl<T> Column<T> {
    /// A column that is selected and inserted, and that an update leaves alone.
    pub const fn fixed(name: &'static str, value: for<'a> fn(&'a T) -> Value<'a>) -> Self {
        Self::One(One { name, written: Written::Value(value), selected: true, updated: false })
    }

    /// A column that is selected, inserted and updated.
    pub const fn field(name: &'static str, value: for<'a> fn(&'a T) -> Value<'a>) -> Self {
        Self::One(One { name, written: Written::Value(value), selected: true, updated: true })
    }

    /// As [`Self::field`], with a value that is stored as JSON.
    pub const fn json(name: &'static str, value: for<'a> fn(&'a T) -> Result<Value<'a>>) -> Self {
        Self::One(One { name, written: Written::Json(value), selected: true, updated: true })
    }

    /// A column that is inserted and updated but not selected: statements filter or sort by it.
    pub const fn derived(name: &'static str, value: for<'a> fn(&'a T) -> Value<'a>) -> Self {
        Self::One(One { name, written: Written::Value(value), selected: false, updated: true })
    }

    /// A number that an update moves by the difference between the two states, so that what another transaction added
    /// meanwhile is kept.
    pub const fn counter(name: &'static str, value: fn(&T) -> i64) -> Self {
        Self::One(One { name, written: Written::Counter(value), selected: true, updated: true })
    }

    /// A column that is only selected: the database, or other statements, write it.
    pub const fn kept(name: &'static str) -> Self {
        Self::One(One { name, written: Written::No, selected: true, updated: false })
    }
}

impl<T> One<T> {
    const fn is_inserted(&self) -> bool {
        !matches!(self.written, Written::No)
    }

    /// Adds the value that an INSERT writes.
    fn bind<'q>(&self, row: &'q T, to: &mut Vec<Value<'q>>) -> Result<()> {
        match self.written {
            Written::No => {}
            Written::Value(value) => to.push(value(row)),
            Written::Json(value) => to.push(value(row)?),
            Written::Counter(value) => to.push(value(row).into()),
        }
        Ok(())
    }
}

/// The columns of [`Audit`].
static AUDIT: [Column<Audit>; 6] = [
    Column::fixed("created_at", |a| a.created_at.into()),
    Column::field("updated_at", |a| a.updated_at.into()),
    Column::fixed("created_by", |a| a.created_by.as_str().into()),
    Column::field("updated_by", |a| a.updated_by.as_str().into()),
    Column::field("version", |a| a.version.into()),
    Column::field("deleted_at", |a| a.deleted_at.into()),
];

/// The columns of [`Totals`].
static TOTALS: [Column<Totals>; 6] = [
    Column::field("subtotal", |t| t.subtotal.minor().into()),
    Column::field("shipping", |t| t.shipping.minor().into()),
    Column::field("discount", |t| t.discount.minor().into()),
    Column::field("tax_added", |t| t.tax_added.minor().into()),
    Column::field("tax_included", |t| t.tax_included.minor().into()),
    Column::field("total", |t| t.total.minor().into()),
];

/// The columns of [`ExternalRef`].
static EXTERNAL: [Column<Option<ExternalRef>>; 2] = [
    Column::field("source", |e| e.as_ref().map(|e| e.source.as_str()).into()),
    Column::field("external_id", |e| e.as_ref().map(|e| e.external_id.as_str()).into()),
];

/// Reads the audit columns, which start at `at`.
pub fn read_audit(r: &Row, at: usize) -> Result<Audit> {
    Ok(Audit {
        created_at: r.time(at + const { position(&AUDIT, "created_at") })?,
        updated_at: r.time(at + const { position(&AUDIT, "updated_at") })?,
        created_by: Actor::new(r.text(at + const { position(&AUDIT, "created_by") })?),
        updated_by: Actor::new(r.text(at + const { position(&AUDIT, "updated_by") })?),
        version: r.i64(at + const { position(&AUDIT, "version") })?,
        deleted_at: r.opt_time(at + const { position(&AUDIT, "deleted_at") })?,
    })
}

/// Reads the amounts of an order or a bill, which start at `at`.
pub fn read_totals(r: &Row, at: usize, currency: Currency) -> Result<Totals> {
    let money = |column: usize| Ok::<_, Error>(Money::from_minor(r.i64(at + column)?, currency));
    Ok(Totals {
        subtotal: money(const { position(&TOTALS, "subtotal") })?,
        shipping: money(const { position(&TOTALS, "shipping") })?,
        discount: money(const { position(&TOTALS, "discount") })?,
        tax_added: money(const { position(&TOTALS, "tax_added") })?,
        tax_included: money(const { position(&TOTALS, "tax_included") })?,
        total: money(const { position(&TOTALS, "total") })?,
    })
}

/// Reads source and external id, which start at `at`.
pub fn read_external(r: &Row, at: usize) -> Result<Option<ExternalRef>> {
    let source = r.opt_text(at + const { position(&EXTERNAL, "source") })?;
    let id = r.opt_text(at + const { position(&EXTERNAL, "external_id") })?;
    Ok(source.zip(id).map(|(source, id)| ExternalRef::new(source, id)))
}

/// A unique index over the live rows of a table. It has the same name on every database.
pub struct Unique<T: 'static> {
    /// The name of the index.
    pub index: &'static str,
    /// The columns of the index, which SQLite's errors name in place of the index.
    pub columns: &'static [&'static str],
    /// The field that `DUPLICATE` names.
    pub field: &'static str,
    /// The value of the row that `DUPLICATE` reports as taken.
    pub value: fn(&T) -> Option<String>,
}

/// A table: its columns, its unique indexes, and what its foreign key refers to.
pub struct Table<T: 'static> {
    /// The name of the table.
    pub name: &'static str,
    /// The kind of the rows, for errors.
    pub entity: Entity,
    /// The columns of the table.
    pub columns: &'static [Column<T>],
    /// The unique indexes of the table.
    pub unique: &'static [Unique<T>],
    /// The field whose foreign key can refuse a row, and the id that it holds.
    pub parent: Option<Parent<T>>,
}

/// A field that refers to a row of another table, and the id that it holds.
pub type Parent<T> = (&'static str, fn(&T) -> Option<Uuid>);

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether `name` is a selected column, and its position among them. If it is not, the number of selected columns.
const fn find<T>(columns: &[Column<T>], name: &str) -> (bool, usize) {
    let (mut i, mut at) = (0, 0);
    while i < columns.len() {
        match &columns[i] {
            Column::One(c) => {
                if c.selected {
                    if same(c.name, name) {
                        return (true, at);
                    }
                    at += 1;
                }
            }
            Column::External(_) => match find(&EXTERNAL, name) {
                (true, n) => return (true, at + n),
                (false, n) => at += n,
            },
            Column::Totals(_) => match find(&TOTALS, name) {
                (true, n) => return (true, at + n),
                (false, n) => at += n,
            },
            Column::Audit(_) => match find(&AUDIT, name) {
                (true, n) => return (true, at + n),
                (false, n) => at += n,
            },
        }
        i += 1;
    }
    (false, at)
}

const fn position<T>(columns: &[Column<T>], name: &str) -> usize {
    match find(columns, name) {
        (true, at) => at,
        (false, _) => panic!("the table has no such column"),
    }
}

impl<T> Table<T> {
    /// The position of a column in the select list. Call it in a `const` block: an unknown name does not compile.
    pub const fn at(&self, name: &str) -> usize {
        position(self.columns, name)
    }

    /// How many columns the select list has.
    pub const fn width(&self) -> usize {
        find(self.columns, "").1
    }

    /// Inserts rows, in statements of at most 128 rows.
    ///
    /// # Errors
    /// `DUPLICATE` if a unique index refuses a row, `Validation` if the row that `parent` names does not exist.
    pub async fn insert<R: Borrow<T> + Sync>(&'static self, x: &mut Executor<'_>, rows: &[R]) -> Result<()> {
        let mut head = format!("INSERT INTO {} (", self.name);
        let mut width = 0;
        self.each(&mut |name, inserted, _, _| {
            if inserted {
                head.push_str(if width == 0 { "" } else { ", " });
                head.push_str(name);
                width += 1;
            }
        });
        head.push(')');
        insert_rows(x, &head, width, rows, |row, to| self.bind(row.borrow(), to))
            .await?
            .map_err(|e| self.refused(e, rows))
    }

    /// Adds the values of one row, in the order of [`Self::each`].
    fn bind<'q>(&self, row: &'q T, to: &mut Vec<Value<'q>>) -> Result<()> {
        fn all<'q, P>(columns: &[Column<P>], row: &'q P, to: &mut Vec<Value<'q>>) -> Result<()> {
            for column in columns {
                match column {
                    Column::One(c) => c.bind(row, to)?,
                    Column::External(part) => all(&EXTERNAL, part(row), to)?,
                    Column::Totals(part) => all(&TOTALS, part(row), to)?,
                    Column::Audit(part) => all(&AUDIT, part(row), to)?,
                }
            }
            Ok(())
        }
        all(self.columns, row, to)
    }

    /// Adds the values that an UPDATE sets, in the order of [`Described::update`].
    fn bind_changes<'q>(&self, before: &T, after: &'q T, to: &mut Vec<Value<'q>>) -> Result<()> {
        fn all<'q, P>(columns: &[Column<P>], before: &P, after: &'q P, to: &mut Vec<Value<'q>>) -> Result<()> {
            for column in columns {
                match column {
                    Column::One(One { updated: false, .. }) => {}
                    Column::One(One { written: Written::Counter(value), .. }) => {
                        to.push((value(after) - value(before)).into());
                    }
                    Column::One(c) => c.bind(after, to)?,
                    Column::External(part) => all(&EXTERNAL, part(before), part(after), to)?,
                    Column::Totals(part) => all(&TOTALS, part(before), part(after), to)?,
                    Column::Audit(part) => all(&AUDIT, part(before), part(after), to)?,
                }
            }
            Ok(())
        }
        all(self.columns, before, after, to)
    }

    /// Returns the library's error for a failed statement that wrote `rows`.
    fn refused<R: Borrow<T>>(&self, e: DbError, rows: &[R]) -> Error {
        match (&e.kind, self.parent) {
            (Kind::Unique(index), _) => {
                // An id that follows from a unique value, such as the name of a feed, collides when the value does.
                let is_primary = index == "PRIMARY" || index.strip_prefix(self.name) == Some("_pkey");
                let of_primary = if is_primary { self.unique.first() } else { None };
                let found = self.unique.iter().find(|u| u.index == index).or(of_primary);
                let Some(unique) = found else { return e.into() };
                let value = colliding(rows, |r| (unique.value)(r.borrow()));
                duplicate(self.entity, unique.field, value)
            }
            (Kind::ForeignKey(_), Some((field, id))) => {
                let ids = rows.iter().filter_map(|r| id(r.borrow())).take(5);
                gone(field, &ids.map(|i| i.to_string()).collect::<Vec<_>>().join("`, `"))
            }
            _ => e.into(),
        }
    }
}

/// Returns the value of the only row, or the value that two rows of a batch share. `None` if a row of the batch
/// collides with a row of the database: its error does not name the row.
fn colliding<R>(rows: &[R], value: impl Fn(&R) -> Option<String>) -> Option<String> {
    if let [one] = rows {
        return value(one);
    }
    let mut seen = HashSet::new();
    rows.iter().filter_map(value).find(|v| !seen.insert(fold_key(v)))
}

/// Returns the conflict over a unique index.
pub fn duplicate(entity: Entity, field: &'static str, value: Option<String>) -> Error {
    Conflict::Duplicate { entity, field, value: value.unwrap_or_else(|| "(not known)".to_owned()) }.into()
}

/// A unique index without the type of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// The name of the index.
    pub name: &'static str,
    /// The columns of the index.
    pub columns: &'static [&'static str],
    /// The kind of the rows.
    pub entity: Entity,
    /// The field that `DUPLICATE` names.
    pub field: &'static str,
}

/// A table without the type of its rows, as templates and lists of all tables use it.
pub trait Described: Sync {
    /// Returns the name of the table.
    fn name(&self) -> &'static str;

    /// Calls `with` for each column, with its name, whether it is inserted, whether it is selected, and what an update
    /// does with it.
    fn each(&self, with: &mut dyn FnMut(&'static str, bool, bool, Change));

    /// Returns the unique indexes of the table.
    fn indexes(&self) -> Vec<Index>;

    /// Returns the select list. If `alias` is not empty, each column has it and a dot in front.
    fn select(&self, alias: &str) -> String {
        let mut list = String::new();
        self.each(&mut |name, _, selected, _| {
            if selected {
                let (comma, dot) = (if list.is_empty() { "" } else { ", " }, if alias.is_empty() { "" } else { "." });
                let _ = write!(list, "{comma}{alias}{dot}{name}");
            }
        });
        list
    }

    /// Returns the UPDATE of one row. `$1` is its id, `$2` the version that it must have, and the others are the new
    /// values.
    fn update(&self) -> String {
        let mut text = format!("UPDATE {} SET ", self.name());
        let mut n = 2;
        self.each(&mut |name, _, _, change| {
            let comma = if n == 2 { "" } else { ", " };
            let _ = match change {
                Change::No => return,
                Change::Set => write!(text, "{comma}{name} = ${}", n + 1),
                Change::Add => write!(text, "{comma}{name} = {name} + ${}", n + 1),
            };
            n += 1;
        });
        text + " WHERE id = $1 AND version = $2"
    }
}

/// What an UPDATE does with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The UPDATE leaves the column as it is.
    No,
    /// The UPDATE sets the column.
    Set,
    /// The UPDATE adds to the column.
    Add,
}

impl<T> Described for Table<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn each(&self, with: &mut dyn FnMut(&'static str, bool, bool, Change)) {
        fn all<P>(columns: &[Column<P>], with: &mut dyn FnMut(&'static str, bool, bool, Change)) {
            for column in columns {
                match column {
                    Column::One(c) => {
                        let change = match c.written {
                            _ if !c.updated => Change::No,
                            Written::Counter(_) => Change::Add,
                            _ => Change::Set,
                        };
                        with(c.name, c.is_inserted(), c.selected, change);
                    }
                    Column::External(_) => all(&EXTERNAL, with),
                    Column::Totals(_) => all(&TOTALS, with),
                    Column::Audit(_) => all(&AUDIT, with),
                }
            }
        }
        all(self.columns, with);
    }

    fn indexes(&self) -> Vec<Index> {
        let index = |u: &Unique<T>| Index { name: u.index, columns: u.columns, entity: self.entity, field: u.field };
        self.unique.iter().map(index).collect()
    }
}

/// A table whose rows have an id and a version, with the statements that update one row.
pub struct Versioned<T: 'static> {
    table: &'static Table<T>,
    id: for<'a> fn(&'a T) -> Value<'a>,
    audit: fn(&T) -> &Audit,
    update: Sql,
    version: Sql,
}

/// Rows of one version whose columns get the same values.
struct Group<'a, T> {
    version: i64,
    values: Vec<Value<'a>>,
    members: Vec<&'a (T, T)>,
}

impl<T> Versioned<T> {
    /// Makes the statements of a table, which must have a fixed column `id` and the audit columns: another table does
    /// not compile.
    pub const fn new(table: &'static Table<T>) -> Self {
        let (mut id, mut audit, mut i) = (None, None, 0);
        while i < table.columns.len() {
            match &table.columns[i] {
                Column::One(One { name, written: Written::Value(value), .. }) if same(name, "id") => id = Some(*value),
                Column::Audit(part) => audit = Some(*part),
                _ => {}
            }
            i += 1;
        }
        let (Some(id), Some(audit)) = (id, audit) else { panic!("the table has no id or no version") };
        let version = Sql::of(table, "SELECT version FROM {name} WHERE id = $1");
        Self { table, id, audit, update: Sql::of(table, "{update}"), version }
    }

    /// Updates one row from `before` to `after`.
    ///
    /// # Errors
    /// As [`Table::insert`], and `VERSION_CONFLICT` if the row has another version than `before`, `NotFound` if it does
    /// not exist.
    pub async fn update(&'static self, x: &mut Executor<'_>, before: &T, after: &T) -> Result<()> {
        let expected = (self.audit)(before).version;
        let mut args = vec![(self.id)(before), expected.into()];
        self.table.bind_changes(before, after, &mut args)?;
        let changed =
            x.execute(&self.update, args).await.map_err(|e| self.table.refused(e, std::slice::from_ref(after)))?;
        if changed > 0 {
            return Ok(());
        }
        Err(self.conflict(x, before, expected).await?)
    }

    /// Updates several rows, each from the first to the second value. Rows whose columns get the same values share a
    /// statement.
    ///
    /// # Errors
    /// As [`Self::update`], for the first row that has another version or does not exist.
    pub async fn update_all(&'static self, x: &mut Executor<'_>, changes: &[(T, T)]) -> Result<()> {
        let mut groups: Vec<Group<'_, T>> = Vec::new();
        for change in changes {
            let version = (self.audit)(&change.0).version;
            let mut values = Vec::new();
            self.table.bind_changes(&change.0, &change.1, &mut values)?;
            match groups.iter_mut().find(|group| group.version == version && group.values == values) {
                Some(group) => group.members.push(change),
                None => groups.push(Group { version, values, members: vec![change] }),
            }
        }
        for Group { version, values, members } in groups {
            if let [(before, after)] = members[..] {
                self.update(x, before, after).await?;
                continue;
            }
            let mut values = values.into_iter();
            let mut b = Builder::new(format!("UPDATE {} SET ", self.table.name));
            let mut is_first = true;
            self.table.each(&mut |name, _, _, change| {
                if change == Change::No {
                    return;
                }
                let comma = if is_first { "" } else { ", " };
                is_first = false;
                b.push(comma).push(name).push(" = ");
                if change == Change::Add {
                    b.push(name).push(" + ");
                }
                if let Some(value) = values.next() {
                    b.bind(value);
                }
            });
            let ids: Vec<Value<'_>> = members.iter().map(|(before, _)| (self.id)(before)).collect();
            b.push(" WHERE version = ").bind(version).push(" AND id IN ").list(&ids);
            let (text, args) = b.done();
            let refused = |e| {
                let rows: Vec<&T> = members.iter().map(|(_, after)| after).collect();
                self.table.refused(e, &rows)
            };
            let written = x.execute(text, args).await.map_err(refused)?;
            if written == members.len() as u64 {
                continue;
            }
            let mut conflict = None;
            for (before, after) in members {
                let found = self.conflict(x, before, version).await?;
                // A row that another transaction has brought to the new version looks like one of this statement.
                let now = (self.audit)(after).version;
                let is_new = match &found {
                    Error::Conflict(of_row) => {
                        matches!(**of_row, Conflict::Version { actual, .. } if actual == now)
                    }
                    _ => false,
                };
                if !is_new {
                    return Err(found);
                }
                conflict = conflict.or(Some(found));
            }
            let none = || Error::Internal { context: "rows were not updated once each", source: None };
            return Err(conflict.unwrap_or_else(none));
        }
        Ok(())
    }

    /// Returns the error for a row that an update with the expected version did not find.
    async fn conflict(&'static self, x: &mut Executor<'_>, of: &T, expected: i64) -> Result<Error> {
        let Value::Uuid(Some(id)) = (self.id)(of) else {
            return Ok(Error::Internal { context: "updating a row without an id", source: None });
        };
        let entity = self.table.entity;
        Ok(match x.fetch_optional(&self.version, vec![id.into()]).await? {
            Some(row) => Conflict::Version { entity, id, expected, actual: row.i64(0)? }.into(),
            None => Error::not_found(entity, id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing {
        name: String,
        revision: i64,
        external: Option<ExternalRef>,
        audit: Audit,
    }

    static THINGS: Table<Thing> = Table {
        name: "things",
        entity: Entity::Product,
        columns: &[
            Column::fixed("id", |_| Uuid::nil().into()),
            Column::derived("name_key", |t| fold_key(&t.name).into()),
            Column::field("name", |t| Value::from(&t.name)),
            Column::kept("count"),
            Column::External(|t| &t.external),
            Column::counter("revision", |t| t.revision),
            Column::Audit(|t| &t.audit),
        ],
        unique: &[],
        parent: None,
    };

    #[test]
    fn a_table_makes_its_list_its_update_and_its_positions() {
        assert_eq!(
            THINGS.select("t"),
            "t.id, t.name, t.count, t.source, t.external_id, t.revision, t.created_at, t.updated_at, t.created_by, \
             t.updated_by, t.version, t.deleted_at"
        );
        assert!(THINGS.select("").starts_with("id, name, count"));
        assert_eq!(
            THINGS.update(),
            "UPDATE things SET name_key = $3, name = $4, source = $5, external_id = $6, revision = revision + $7, \
             updated_at = $8, updated_by = $9, version = $10, deleted_at = $11 WHERE id = $1 AND version = $2"
        );
        assert_eq!(const { (THINGS.at("id"), THINGS.at("name"), THINGS.at("count")) }, (0, 1, 2));
        assert_eq!(const { (THINGS.at("external_id"), THINGS.at("version"), THINGS.width()) }, (4, 10, 12));
    }

    #[test]
    fn a_counter_is_moved_by_the_difference_and_inserted_as_it_is() {
        let at = |revision| Thing {
            name: "A".to_owned(),
            revision,
            external: None,
            audit: Audit::created(chrono::DateTime::UNIX_EPOCH, &Actor::system()),
        };
        let (before, after) = (at(3), at(5));
        let (mut inserted, mut changed) = (Vec::new(), Vec::new());
        THINGS.bind(&after, &mut inserted).unwrap();
        THINGS.bind_changes(&before, &after, &mut changed).unwrap();
        assert_eq!((inserted.len(), changed.len()), (12, 9));
        assert!(matches!((&inserted[5], &changed[4]), (Value::I64(Some(5)), Value::I64(Some(2)))));
    }

    #[test]
    #[should_panic(expected = "no such column")]
    fn a_column_that_is_only_written_has_no_position() {
        THINGS.at("name_key");
    }
}
