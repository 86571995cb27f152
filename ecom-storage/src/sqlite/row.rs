//! Reads columns of SQLite rows. Tables are STRICT, so the type of a column is known and not checked again.

use chrono::{DateTime, NaiveDate};
use ecom_core::clock::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

type R<T> = Result<T, sqlx::Error>;

pub(crate) fn i64(r: &SqliteRow, i: usize) -> R<i64> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_i64(r: &SqliteRow, i: usize) -> R<Option<i64>> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_i32(r: &SqliteRow, i: usize) -> R<Option<i32>> {
    r.try_get_unchecked(i)
}

pub(crate) fn i32(r: &SqliteRow, i: usize) -> R<i32> {
    r.try_get_unchecked(i)
}

pub(crate) fn text(r: &SqliteRow, i: usize) -> R<&str> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_text(r: &SqliteRow, i: usize) -> R<Option<&str>> {
    r.try_get_unchecked(i)
}

pub(crate) fn bytes(r: &SqliteRow, i: usize) -> R<&[u8]> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_bytes(r: &SqliteRow, i: usize) -> R<Option<&[u8]>> {
    r.try_get_unchecked(i)
}

pub(crate) fn uuid(r: &SqliteRow, i: usize) -> R<Uuid> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_uuid(r: &SqliteRow, i: usize) -> R<Option<Uuid>> {
    r.try_get_unchecked(i)
}

fn micros(i: usize, micros: i64) -> R<Timestamp> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| sqlx::Error::ColumnDecode { index: i.to_string(), source: "the time is out of range".into() })
}

pub(crate) fn time(r: &SqliteRow, i: usize) -> R<Timestamp> {
    micros(i, i64(r, i)?)
}

pub(crate) fn opt_time(r: &SqliteRow, i: usize) -> R<Option<Timestamp>> {
    opt_i64(r, i)?.map(|m| micros(i, m)).transpose()
}

pub(crate) fn date(r: &SqliteRow, i: usize) -> R<NaiveDate> {
    r.try_get_unchecked(i)
}
