//! Reads columns of PostgreSQL rows.

use chrono::NaiveDate;
use ecom_core::clock::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

type R<T> = Result<T, sqlx::Error>;

pub(crate) fn i64(r: &PgRow, i: usize) -> R<i64> {
    r.try_get(i)
}

pub(crate) fn opt_i64(r: &PgRow, i: usize) -> R<Option<i64>> {
    r.try_get(i)
}

pub(crate) fn opt_i32(r: &PgRow, i: usize) -> R<Option<i32>> {
    r.try_get(i)
}

pub(crate) fn i32(r: &PgRow, i: usize) -> R<i32> {
    r.try_get(i)
}

pub(crate) fn text(r: &PgRow, i: usize) -> R<&str> {
    r.try_get(i)
}

pub(crate) fn opt_text(r: &PgRow, i: usize) -> R<Option<&str>> {
    r.try_get(i)
}

pub(crate) fn bytes(r: &PgRow, i: usize) -> R<&[u8]> {
    r.try_get(i)
}

pub(crate) fn opt_bytes(r: &PgRow, i: usize) -> R<Option<&[u8]>> {
    r.try_get(i)
}

pub(crate) fn uuid(r: &PgRow, i: usize) -> R<Uuid> {
    r.try_get(i)
}

pub(crate) fn opt_uuid(r: &PgRow, i: usize) -> R<Option<Uuid>> {
    r.try_get(i)
}

pub(crate) fn time(r: &PgRow, i: usize) -> R<Timestamp> {
    r.try_get(i)
}

pub(crate) fn opt_time(r: &PgRow, i: usize) -> R<Option<Timestamp>> {
    r.try_get(i)
}

pub(crate) fn date(r: &PgRow, i: usize) -> R<NaiveDate> {
    r.try_get(i)
}

pub(crate) fn json<T: DeserializeOwned + Default>(r: &PgRow, i: usize) -> R<T> {
    Ok(r.try_get::<Option<Json<T>>, _>(i)?.map_or_else(T::default, |j| j.0))
}
