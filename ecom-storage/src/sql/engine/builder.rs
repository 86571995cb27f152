//! Statements whose text depends on the call: filters, lists of ids, rows to insert. Lists are padded to a few sizes,
//! so that there are few different texts and prepared statements are reused.

use std::fmt::Write as _;

use chrono::Datelike as _;
use ecom_core::clock::Timestamp;
use ecom_core::paging::{Paging, SortKey, Total};

use ecom_core::{Error, FieldCode};

use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::error::DbResult;
use crate::sql::engine::executor::{Executor, Text};
use crate::sql::engine::value::Value;

/// The sizes that lists in `IN (…)` are padded to.
const LIST_SIZES: [usize; 8] = [1, 8, 32, 128, 512, 2_048, 8_192, 30_000];
/// The maximum number of values of one `IN (…)`, below every database's limit of parameters.
pub const MAX_LIST: usize = 30_000;
/// The maximum number of rows of one INSERT, a power of two.
const MAX_ROWS: usize = 128;
/// The maximum number of rows that one call inserts one by one.
const MAX_REPEATED_ROWS: usize = 1_024;

/// A statement's text and its parameters.
#[derive(Default)]
pub struct Builder<'q> {
    text: String,
    args: Vec<Value<'q>>,
}

impl<'q> Builder<'q> {
    /// Creates a statement that starts with `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), args: Vec::new() }
    }

    /// Creates a statement that starts with a fixed text without parameters.
    pub fn on(sql: &'static Sql, dialect: &Dialect) -> Self {
        Self::new(sql.prepared(dialect).text.as_str())
    }

    /// Adds text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter.
    pub fn bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.args.push(value.into());
        let _ = write!(self.text, "${}", self.args.len());
        self
    }

    /// Adds `(…)` with the values, padded with the last one. There must be at least one value.
    pub fn list<V: Into<Value<'q>> + Clone>(&mut self, values: &[V]) -> &mut Self {
        let n = LIST_SIZES.into_iter().find(|s| *s >= values.len()).unwrap_or(values.len());
        self.args.reserve(n);
        self.text.push('(');
        for i in 0..n {
            if i > 0 {
                self.text.push(',');
            }
            if let Some(v) = values.get(i).or(values.last()) {
                self.bind(v.clone());
            }
        }
        self.text.push(')');
        self
    }

    /// Adds ` LIMIT n` as text: pages have few sizes, and a planner that knows the size walks an index instead of
    /// sorting.
    pub fn limit(&mut self, n: i64) -> &mut Self {
        self.push(" LIMIT ");
        if n <= 1_001 {
            let _ = write!(self.text, "{n}");
            return self;
        }
        self.bind(n)
    }

    /// Returns the text and the parameters.
    pub fn done(self) -> (String, Vec<Value<'q>>) {
        (self.text, self.args)
    }
}

/// Counts rows, up to `bound`. `matching` adds `FROM …` and the conditions.
pub async fn count<'q>(
    x: &mut Executor<'_>,
    bound: u64,
    matching: impl FnOnce(&mut Builder<'q>),
) -> ecom_core::Result<Total> {
    let mut b = Builder::new("SELECT COUNT(*) FROM (SELECT 1");
    matching(&mut b);
    // One row more than the bound, to find out whether there are more.
    b.limit(i64::try_from(bound).unwrap_or(i64::MAX).saturating_add(1)).push(") counted");
    let (text, args) = b.done();
    let row = x.fetch_optional(text, args).await?;
    Ok(Total::bounded(row.map_or(Ok(0), |r| r.count(0))?, bound))
}

/// Adds the end of a page's statement: the order, a limit of one row more than the page, and the offset.
pub fn page(b: &mut Builder<'_>, order: &str, paging: &Paging) {
    b.push(" ORDER BY ").push(order).limit(i64::from(paging.limit()) + 1);
    if let Paging::Offset { offset, .. } = paging {
        b.push(" OFFSET ").bind(i64::try_from(*offset).unwrap_or(i64::MAX));
    }
}

/// Returns the error for a cursor whose key has another kind than the list's.
pub fn bad_cursor() -> Error {
    Error::invalid("cursor", FieldCode::Malformed, "is not a cursor of this list: start again from the first page")
}

/// Adds the conditions that a time is at or after `from` and before `until`, if they are set.
pub fn between(b: &mut Builder<'_>, column: &str, from: Option<Timestamp>, until: Option<Timestamp>) {
    if let Some(from) = from {
        b.push(" AND ").push(column).push(" >= ").bind(from);
    }
    if let Some(until) = until {
        b.push(" AND ").push(column).push(" < ").bind(until);
    }
}

/// Adds the condition that a row comes after the position of a cursor in a list that is sorted by a time and the id.
///
/// # Errors
/// `Validation` for a cursor of another list.
pub fn after_time(b: &mut Builder<'_>, column: &str, newest_first: bool, paging: &Paging) -> ecom_core::Result<()> {
    let Paging::Keyset { after: Some(k), .. } = paging else { return Ok(()) };
    let SortKey::Int(micros) = k.key else { return Err(bad_cursor()) };
    let time = Timestamp::from_timestamp_micros(micros).filter(|t| (1..=9999).contains(&t.year()));
    let time = time.ok_or_else(bad_cursor)?;
    let (strictly, or_equal) = if newest_first { (" < ", " <= ") } else { (" > ", " >= ") };
    b.push(" AND ").push(column).push(or_equal).bind(time);
    b.push(" AND (").push(column).push(strictly).bind(time).push(" OR id").push(strictly).bind(k.id).push(")");
    Ok(())
}

/// Locks the rows of `table` that have one of `values` in `column`, in id order. Does nothing on a database without row
/// locks.
pub async fn lock_rows<'q, V: Into<Value<'q>> + Clone>(
    x: &mut Executor<'_>,
    table: &str,
    column: &str,
    values: &[V],
) -> DbResult<()> {
    let for_update = x.dialect().for_update;
    if for_update.is_empty() || values.is_empty() {
        return Ok(());
    }
    let mut b = Builder::new("SELECT id FROM ");
    b.push(table).push(" WHERE ").push(column).push(" IN ").list(values).push(" ORDER BY id").push(for_update);
    let (text, args) = b.done();
    x.fetch_all(text, args).await?;
    Ok(())
}

/// Deletes the rows of `table` that have one of `ids` in `column`.
pub async fn delete_rows(x: &mut Executor<'_>, table: &str, column: &str, ids: &[uuid::Uuid]) -> DbResult<()> {
    for chunk in ids.chunks(MAX_LIST) {
        let mut b = Builder::new("DELETE FROM ");
        b.push(table).push(" WHERE ").push(column).push(" IN ").list(chunk);
        let (text, args) = b.done();
        x.execute(text, args).await?;
    }
    Ok(())
}

/// Returns the size that a `CASE` with `n` keys is padded to.
pub fn case_size(n: usize) -> usize {
    [1, 8, 32, 128].into_iter().find(|s| *s >= n).unwrap_or(n)
}

/// A column that [`update_rows`] sets, and its value in a row.
pub type SetColumn<T> = (&'static str, for<'a> fn(&'a T) -> Value<'a>);

/// Sets `columns` of rows that differ from each other, in statements of at most 32 rows. `id` returns the id of a row.
/// Returns how many rows were found.
pub async fn update_rows<T: Sync>(
    x: &mut Executor<'_>,
    table: &str,
    columns: &[SetColumn<T>],
    rows: &[&T],
    id: impl Fn(&T) -> uuid::Uuid + Send,
) -> DbResult<u64> {
    let mut found = 0;
    for chunk in rows.chunks(32) {
        let n = case_size(chunk.len());
        let mut b = Builder::new("UPDATE ");
        b.push(table).push(" SET ");
        for (i, (column, value)) in columns.iter().enumerate() {
            b.push(if i == 0 { "" } else { ", " }).push(column).push(" = CASE id");
            for at in 0..n {
                if let Some(row) = chunk.get(at).or(chunk.last()) {
                    b.push(" WHEN ").bind(id(row)).push(" THEN ").bind(value(row));
                }
            }
            b.push(" ELSE ").push(column).push(" END");
        }
        let ids: Vec<uuid::Uuid> = chunk.iter().map(|row| id(row)).collect();
        b.push(" WHERE id IN ").list(&ids);
        let (text, args) = b.done();
        found += x.execute(text, args).await?;
    }
    Ok(found)
}

/// Inserts rows: `head` is `INSERT INTO t (…)`, and `row` pushes exactly `columns` values of one row. Each statement
/// inserts a power of two of rows, or one row if the database prefers that. If a row is refused, others may be inserted
/// already, so the transaction must be rolled back.
pub async fn insert_rows<'q, T>(
    x: &mut Executor<'_>,
    head: &str,
    columns: usize,
    rows: &'q [T],
    mut row: impl FnMut(&'q T, &mut Vec<Value<'q>>) -> ecom_core::Result<()>,
) -> ecom_core::Result<DbResult<()>> {
    let one_by_one = x.repeats();
    let mut rest = rows;
    while !rest.is_empty() {
        let n = match rest.len() {
            len if one_by_one => len.min(MAX_REPEATED_ROWS),
            len if len >= MAX_ROWS => MAX_ROWS,
            len => 1 << len.ilog2(),
        };
        let (now, later) = rest.split_at(n);
        rest = later;
        let mut args = Vec::with_capacity(n * columns);
        for r in now {
            row(r, &mut args)?;
        }
        if one_by_one {
            if let Err(e) = x.execute(Text::Repeated(repeated(head, columns)), args).await {
                return Ok(Err(e));
            }
            continue;
        }
        let mut text = String::with_capacity(head.len() + 8 + n * columns * 6);
        text.push_str(head);
        text.push_str(" VALUES ");
        let mut p = 0;
        for i in 0..n {
            text.push_str(if i == 0 { "(" } else { ",(" });
            for c in 0..columns {
                p += 1;
                let _ = write!(text, "{}${p}", if c == 0 { "" } else { "," });
            }
            text.push(')');
        }
        if let Err(e) = x.execute(text, args).await {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

/// Returns the statement that inserts one row of the values that are bound.
fn repeated(head: &str, columns: usize) -> String {
    let mut text = String::with_capacity(head.len() + 12 + 2 * columns);
    text.push_str(head);
    text.push_str(" VALUES (?");
    for _ in 1..columns {
        text.push_str(",?");
    }
    text.push(')');
    text
}

/// Returns half-open ranges that contain every numbered variant of a slug: `phone-0` up to `phone-:`.
fn numbered_ranges(base: &str) -> Vec<(String, String)> {
    let mut heads: Vec<&str> = Vec::new();
    for digits in 1..=9 {
        let head = &base[..base.len().min(ecom_core::text::Slug::MAX - 1 - digits)];
        let head = head.trim_end_matches('-');
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    heads.into_iter().map(|h| (format!("{h}-0"), format!("{h}-:"))).collect()
}

/// Returns the values of `column`, over the live rows of `table`, that are one of `bases`, or one of them with a
/// number.
pub async fn taken(
    x: &mut Executor<'_>,
    table: &str,
    column: &str,
    bases: &[ecom_core::text::Slug],
) -> ecom_core::Result<std::collections::HashSet<String>> {
    let mut out = std::collections::HashSet::new();
    let mut ranges: Vec<(String, String)> = bases
        .iter()
        .flat_map(|b| {
            // The slug itself: the range up to its successor in bytewise order.
            let mut r = numbered_ranges(b.as_str());
            r.push((b.to_string(), format!("{b}\u{1}")));
            r
        })
        .collect();
    ranges.sort();
    ranges.dedup();
    for chunk in ranges.chunks(128) {
        let mut b = Builder::default();
        for i in 0..case_size(chunk.len()) {
            if i > 0 {
                b.push(" UNION ALL ");
            }
            if let Some((lo, hi)) = chunk.get(i).or(chunk.last()) {
                b.push("SELECT ").push(column).push(" FROM ").push(table);
                b.push(" WHERE deleted_at IS NULL AND ").push(column).push(" >= ").bind(lo.clone());
                b.push(" AND ").push(column).push(" < ").bind(hi.clone());
            }
        }
        let (text, args) = b.done();
        for r in x.fetch_all(text, args).await? {
            let found = r.text(0)?;
            // The ranges also contain values such as `phone-3g`.
            let numbered = found.rsplit_once('-').is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
            if numbered || bases.iter().any(|b| b.as_str() == found) {
                out.insert(found.to_owned());
            }
        }
    }
    Ok(out)
}
