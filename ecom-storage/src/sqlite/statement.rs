//! Statements on an open connection, run on the calling thread: parameters, rows, and the time limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::Null;
use rusqlite::{CachedStatement, Connection};

use super::row::Values;
use crate::sql::engine::value::{Row, Value};

type R<T> = rusqlite::Result<T>;

/// What a statement does on a connection. The watch is told about the statement before it runs.
pub(super) type Work<T> = fn(&Connection, &Watch, &str, &[Value<'_>]) -> R<T>;

/// How many instructions of SQLite's virtual machine run between two looks at the clock, some 10 µs of work.
const INSTRUCTIONS: i32 = 1_000;

/// Interrupts statements that run for too long.
#[derive(Debug)]
pub(super) struct Watch {
    origin: Instant,
    /// When the running statement is interrupted, in nanoseconds after `origin`.
    deadline: AtomicU64,
    /// How long a statement may run, in nanoseconds: one that only reads, and any other.
    limits: [AtomicU64; 2],
}

impl Watch {
    /// Returns a watch without limits.
    pub(super) fn new() -> Arc<Self> {
        let limits = [AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX)];
        Arc::new(Self { origin: Instant::now(), deadline: AtomicU64::new(u64::MAX), limits })
    }

    /// Makes the connection ask the watch while it runs a statement.
    pub(super) fn install(self: &Arc<Self>, conn: &Connection) -> R<()> {
        let this = self.clone();
        conn.progress_handler(INSTRUCTIONS, Some(move || this.now() > this.deadline.load(Ordering::Relaxed)))
    }

    /// Sets how long the next statement may run: one that only reads, and any other.
    pub(super) fn limit(&self, reading: Duration, writing: Duration) {
        for (limit, time) in self.limits.iter().zip([reading, writing]) {
            limit.store(nanos(time), Ordering::Relaxed);
        }
    }

    /// Lets what runs next take as long as it needs.
    pub(super) fn stop(&self) {
        self.deadline.store(u64::MAX, Ordering::Relaxed);
    }

    fn start(&self, statement: &CachedStatement<'_>) {
        let limit = self.limits[usize::from(!statement.readonly())].load(Ordering::Relaxed);
        self.deadline.store(self.now().saturating_add(limit), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Prepares a statement, or takes it from the cache.
fn ready<'c>(conn: &'c Connection, watch: &Watch, text: &str) -> R<CachedStatement<'c>> {
    // SQLite also asks the watch while it prepares a statement, when the deadline is still that of the one before.
    watch.stop();
    let statement = conn.prepare_cached(text)?;
    watch.start(&statement);
    Ok(statement)
}

fn bind_all(statement: &mut CachedStatement<'_>, args: &[Value<'_>]) -> R<()> {
    (1..).zip(args).try_for_each(|(at, value)| bind(statement, at, value))
}

fn bind(statement: &mut CachedStatement<'_>, at: usize, value: &Value<'_>) -> R<()> {
    match value {
        Value::I32(Some(number)) => statement.raw_bind_parameter(at, *number),
        Value::I64(Some(number)) => statement.raw_bind_parameter(at, *number),
        Value::Text(Some(text)) => statement.raw_bind_parameter(at, &**text),
        Value::Json(Some(text)) => statement.raw_bind_parameter(at, text.as_str()),
        Value::Bytes(Some(bytes)) => statement.raw_bind_parameter(at, &**bytes),
        Value::Uuid(Some(id)) => statement.raw_bind_parameter(at, id.as_bytes().as_slice()),
        Value::Time(Some(time)) => statement.raw_bind_parameter(at, time.timestamp_micros()),
        Value::Date(Some(date)) => statement.raw_bind_parameter(at, date.to_string()),
        Value::I32(None)
        | Value::I64(None)
        | Value::Text(None)
        | Value::Json(None)
        | Value::Bytes(None)
        | Value::Uuid(None)
        | Value::Time(None)
        | Value::Date(None) => statement.raw_bind_parameter(at, Null),
    }
}

/// Reads at most this many rows.
fn read(conn: &Connection, watch: &Watch, text: &str, args: &[Value<'_>], most: usize) -> R<Vec<Row>> {
    let mut statement = ready(conn, watch, text)?;
    bind_all(&mut statement, args)?;
    let columns = statement.column_count();
    // A statement that writes runs to its end, where SQLite checks foreign keys.
    let most = if statement.readonly() { most } else { usize::MAX };
    let mut rows = statement.raw_query();
    let mut values = Values::for_rows_of(columns);
    let mut count = 0;
    while count < most
        && let Some(row) = rows.next()?
    {
        for column in 0..columns {
            values.push(row.get_ref(column)?);
        }
        count += 1;
    }
    Ok(values.into_rows(columns))
}

/// Returns all rows.
pub(super) fn fetch_all(conn: &Connection, watch: &Watch, text: &str, args: &[Value<'_>]) -> R<Vec<Row>> {
    read(conn, watch, text, args, usize::MAX)
}

/// Returns the first row.
pub(super) fn fetch_optional(conn: &Connection, watch: &Watch, text: &str, args: &[Value<'_>]) -> R<Option<Row>> {
    Ok(read(conn, watch, text, args, 1)?.into_iter().next())
}

/// Returns how many rows the statement changed. A statement with fewer parameters than there are values runs once for
/// each set of values, and what it did before an error stays in the transaction.
pub(super) fn execute(conn: &Connection, watch: &Watch, text: &str, args: &[Value<'_>]) -> R<u64> {
    let mut statement = ready(conn, watch, text)?;
    let width = statement.parameter_count();
    if width == 0 {
        return step(conn, &mut statement);
    }
    debug_assert!(args.len().is_multiple_of(width), "{} values for {width} parameters", args.len());
    args.chunks(width).try_fold(0, |changed, args| {
        bind_all(&mut statement, args)?;
        Ok(changed + step(conn, &mut statement)?)
    })
}

/// Runs a statement to its end, and returns how many rows it changed.
fn step(conn: &Connection, statement: &mut CachedStatement<'_>) -> R<u64> {
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    drop(rows);
    Ok(conn.changes())
}
