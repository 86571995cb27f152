//! Statements on a connection of the host, of sqlx or of rusqlite. The host decides how long they may take.

use std::time::Duration;

use rusqlite::types::ValueRef;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, Executor as _, Row as _, SqlStr, TypeInfo as _, ValueRef as _};

use super::connection::{Retry, is_busy};
use super::error::{classify, classify_sqlx};
use super::row::Values;
use super::statement::{self, Watch, Work};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::value::{Row, Value};

/// A connection of the host.
#[derive(Debug)]
pub enum HostConnection<'c> {
    /// A connection of sqlx.
    Sqlx(&'c mut SqliteConnection),
    /// A connection of rusqlite.
    Rusqlite(&'c mut rusqlite::Connection),
}

fn run<T>(conn: &rusqlite::Connection, text: &SqlStr, args: &[Value<'_>], work: Work<T>) -> DbResult<T> {
    work(conn, &Watch::new(), text.as_str(), args).map_err(classify)
}

impl HostConnection<'_> {
    /// Returns all rows.
    pub(crate) async fn fetch_all(&mut self, text: SqlStr, args: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
        match self {
            Self::Sqlx(conn) => {
                let query = sqlx::query_with(text, arguments(args)?);
                rows(&conn.fetch_all(query).await.map_err(classify_sqlx)?)
            }
            Self::Rusqlite(conn) => run(conn, &text, &args, statement::fetch_all),
        }
    }

    /// Returns the first row.
    pub(crate) async fn fetch_optional(&mut self, text: SqlStr, args: Vec<Value<'_>>) -> DbResult<Option<Row>> {
        match self {
            Self::Sqlx(conn) => {
                let query = sqlx::query_with(text, arguments(args)?);
                let row = conn.fetch_optional(query).await.map_err(classify_sqlx)?;
                Ok(rows(row.as_slice())?.pop())
            }
            Self::Rusqlite(conn) => run(conn, &text, &args, statement::fetch_optional),
        }
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, text: SqlStr, args: Vec<Value<'_>>) -> DbResult<u64> {
        match self {
            Self::Sqlx(conn) => {
                let query = sqlx::query_with(text, arguments(args)?);
                Ok(conn.execute(query).await.map_err(classify_sqlx)?.rows_affected())
            }
            Self::Rusqlite(conn) => run(conn, &text, &args, statement::execute),
        }
    }

    /// Runs a text of several statements.
    pub(crate) async fn script(&mut self, text: &'static str) -> DbResult<()> {
        match self {
            Self::Sqlx(conn) => conn.execute(sqlx::raw_sql(text)).await.map(drop).map_err(classify_sqlx),
            Self::Rusqlite(conn) => conn.execute_batch(text).map_err(classify),
        }
    }
}

/// Runs a statement that waits for other writers, on a connection of rusqlite in autocommit. The task waits, in place of
/// the thread, for as long as the connection's busy timeout says.
pub(crate) async fn await_turn(conn: &mut rusqlite::Connection, text: &'static str) -> DbResult<()> {
    let limit: u32 = conn.query_row("PRAGMA busy_timeout", [], |row| row.get(0)).map_err(classify)?;
    let limit = Duration::from_millis(limit.into());
    let waiting = Waiting(conn, limit);
    waiting.0.busy_timeout(Duration::ZERO).map_err(classify)?;
    let mut retry = Retry::new(limit);
    loop {
        let done = waiting.0.execute_batch(text);
        match done {
            Err(e) if is_busy(&e) && retry.pause().await => {}
            done => return done.map_err(classify),
        }
    }
}

/// A connection of rusqlite whose busy timeout is zero, until this is dropped.
struct Waiting<'c>(&'c mut rusqlite::Connection, Duration);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let _ = self.0.busy_timeout(self.1);
    }
}

fn arguments(values: Vec<Value<'_>>) -> DbResult<SqliteArguments> {
    let mut args = SqliteArguments::default();
    args.reserve(values.len(), 0);
    for v in values {
        match v {
            Value::I32(v) => args.add(v),
            Value::I64(v) => args.add(v),
            Value::Text(v) => args.add(v),
            Value::Json(v) => args.add(v),
            Value::Bytes(v) => args.add(v),
            Value::Uuid(v) => args.add(v),
            Value::Time(v) => args.add(v.map(|t| t.timestamp_micros())),
            Value::Date(v) => args.add(v),
        }
        .map_err(|source| DbError { kind: Kind::Other, source })?;
    }
    Ok(args)
}

/// Copies rows of sqlx.
fn rows(rows: &[SqliteRow]) -> DbResult<Vec<Row>> {
    let mut values = Values::default();
    for row in rows {
        for column in 0..row.len() {
            copy(row, column, &mut values).map_err(classify_sqlx)?;
        }
    }
    Ok(values.into_rows(rows.first().map_or(1, SqliteRow::len)))
}

fn copy(row: &SqliteRow, column: usize, values: &mut Values) -> sqlx::Result<()> {
    let raw = row.try_get_raw(column)?;
    if raw.is_null() {
        values.push(ValueRef::Null);
        return Ok(());
    }
    match raw.type_info().name() {
        "INTEGER" => values.push(ValueRef::Integer(row.try_get_unchecked(column)?)),
        "TEXT" => values.push(ValueRef::Text(row.try_get_unchecked::<&str, _>(column)?.as_bytes())),
        "BLOB" => values.push(ValueRef::Blob(row.try_get_unchecked(column)?)),
        _ => values.push(ValueRef::Real(row.try_get_unchecked(column)?)),
    }
    Ok(())
}
