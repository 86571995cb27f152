//! Rows that were read from SQLite. Tables are STRICT, so the type of a column is known.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate};
use ecom_core::BoxError;
use ecom_core::clock::Timestamp;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use crate::sql::engine::value as engine;

/// A row of a result. The rows of a result share their values, so that a row is not an allocation of its own.
pub struct Row {
    values: Arc<Values>,
    /// The position of the row's first value.
    start: usize,
    /// The position after its last value.
    end: usize,
}

/// The values of the rows of a result, one row after the other.
#[derive(Debug, Default)]
pub(super) struct Values {
    cells: Vec<Cell>,
    /// The texts and blobs of all cells.
    bytes: Vec<u8>,
}

/// A value. A text and a blob are a range of [`Values::bytes`].
#[derive(Debug, Clone, Copy)]
enum Cell {
    Null,
    Integer(i64),
    Real,
    Text { start: usize, end: usize },
    Blob { start: usize, end: usize },
}

/// The error for a column whose value has another type.
#[derive(Debug, thiserror::Error)]
#[error("column {column} is not {wanted}")]
struct OtherType {
    column: usize,
    wanted: &'static str,
}

type R<T> = Result<T, BoxError>;

impl Values {
    /// Returns no values, with room for a few rows of this many columns.
    pub(super) fn for_rows_of(columns: usize) -> Self {
        Self { cells: Vec::with_capacity(4 * columns), bytes: Vec::with_capacity(32 * columns) }
    }

    /// Appends a value.
    pub(super) fn push(&mut self, value: ValueRef<'_>) {
        let start = self.bytes.len();
        let end = |bytes: &mut Vec<u8>, value: &[u8]| {
            bytes.extend_from_slice(value);
            bytes.len()
        };
        let cell = match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(_) => Cell::Real,
            ValueRef::Text(text) => Cell::Text { start, end: end(&mut self.bytes, text) },
            ValueRef::Blob(blob) => Cell::Blob { start, end: end(&mut self.bytes, blob) },
        };
        self.cells.push(cell);
    }

    /// Returns the rows, which have this many columns.
    pub(super) fn into_rows(self, columns: usize) -> Vec<engine::Row> {
        let (values, count) = (Arc::new(self), columns.max(1));
        let row = |n| engine::Row::Sqlite(Row { values: values.clone(), start: n * count, end: (n + 1) * count });
        (0..values.cells.len() / count).map(row).collect()
    }
}

impl Row {
    fn cell(&self, column: usize) -> Option<Cell> {
        self.values.cells.get(self.start..self.end)?.get(column).copied()
    }

    fn bytes_at(&self, start: usize, end: usize) -> &[u8] {
        self.values.bytes.get(start..end).unwrap_or_default()
    }
}

fn other<T>(column: usize, wanted: &'static str) -> R<T> {
    Err(OtherType { column, wanted }.into())
}

/// Returns a value that must not be NULL.
fn some<T>(value: Option<T>, column: usize) -> R<T> {
    value.ok_or_else(|| OtherType { column, wanted: "a value, but NULL" }.into())
}

pub(crate) fn opt_i64(r: &Row, i: usize) -> R<Option<i64>> {
    match r.cell(i) {
        Some(Cell::Integer(number)) => Ok(Some(number)),
        Some(Cell::Null) => Ok(None),
        _ => other(i, "a number"),
    }
}

pub(crate) fn i64(r: &Row, i: usize) -> R<i64> {
    some(opt_i64(r, i)?, i)
}

pub(crate) fn opt_i32(r: &Row, i: usize) -> R<Option<i32>> {
    Ok(opt_i64(r, i)?.map(i32::try_from).transpose()?)
}

pub(crate) fn i32(r: &Row, i: usize) -> R<i32> {
    some(opt_i32(r, i)?, i)
}

pub(crate) fn opt_text(r: &Row, i: usize) -> R<Option<&str>> {
    match r.cell(i) {
        Some(Cell::Text { start, end }) => Ok(Some(std::str::from_utf8(r.bytes_at(start, end))?)),
        Some(Cell::Null) => Ok(None),
        _ => other(i, "a text"),
    }
}

pub(crate) fn text(r: &Row, i: usize) -> R<&str> {
    some(opt_text(r, i)?, i)
}

pub(crate) fn opt_bytes(r: &Row, i: usize) -> R<Option<&[u8]>> {
    match r.cell(i) {
        Some(Cell::Blob { start, end }) => Ok(Some(r.bytes_at(start, end))),
        Some(Cell::Null) => Ok(None),
        _ => other(i, "a blob"),
    }
}

pub(crate) fn bytes(r: &Row, i: usize) -> R<&[u8]> {
    some(opt_bytes(r, i)?, i)
}

pub(crate) fn opt_uuid(r: &Row, i: usize) -> R<Option<Uuid>> {
    Ok(opt_bytes(r, i)?.map(Uuid::from_slice).transpose()?)
}

pub(crate) fn uuid(r: &Row, i: usize) -> R<Uuid> {
    some(opt_uuid(r, i)?, i)
}

pub(crate) fn opt_time(r: &Row, i: usize) -> R<Option<Timestamp>> {
    let time = |micros| {
        DateTime::from_timestamp_micros(micros).ok_or_else(|| OtherType { column: i, wanted: "a time in range" }.into())
    };
    opt_i64(r, i)?.map(time).transpose()
}

pub(crate) fn time(r: &Row, i: usize) -> R<Timestamp> {
    some(opt_time(r, i)?, i)
}

pub(crate) fn date(r: &Row, i: usize) -> R<NaiveDate> {
    Ok(text(r, i)?.parse()?)
}
