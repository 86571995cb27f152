//! Reads columns of MySQL rows.

use chrono::NaiveDate;
use ecom_core::clock::Timestamp;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;
use sqlx::types::Json;
use uuid::Uuid;

type R<T> = Result<T, sqlx::Error>;

pub(crate) fn i64(r: &MySqlRow, i: usize) -> R<i64> {
    r.try_get(i)
}

pub(crate) fn opt_i64(r: &MySqlRow, i: usize) -> R<Option<i64>> {
    r.try_get(i)
}

pub(crate) fn opt_i32(r: &MySqlRow, i: usize) -> R<Option<i32>> {
    r.try_get(i)
}

pub(crate) fn i32(r: &MySqlRow, i: usize) -> R<i32> {
    r.try_get(i)
}

// sqlx's type check is skipped, because keys are VARBINARY. The bytes must still be UTF-8.
pub(crate) fn text(r: &MySqlRow, i: usize) -> R<&str> {
    r.try_get_unchecked(i)
}

pub(crate) fn opt_text(r: &MySqlRow, i: usize) -> R<Option<&str>> {
    r.try_get_unchecked(i)
}

pub(crate) fn bytes(r: &MySqlRow, i: usize) -> R<&[u8]> {
    r.try_get(i)
}

pub(crate) fn opt_bytes(r: &MySqlRow, i: usize) -> R<Option<&[u8]>> {
    r.try_get(i)
}

pub(crate) fn uuid(r: &MySqlRow, i: usize) -> R<Uuid> {
    r.try_get(i)
}

pub(crate) fn opt_uuid(r: &MySqlRow, i: usize) -> R<Option<Uuid>> {
    r.try_get(i)
}

pub(crate) fn time(r: &MySqlRow, i: usize) -> R<Timestamp> {
    r.try_get(i)
}

pub(crate) fn opt_time(r: &MySqlRow, i: usize) -> R<Option<Timestamp>> {
    r.try_get(i)
}

pub(crate) fn date(r: &MySqlRow, i: usize) -> R<NaiveDate> {
    r.try_get(i)
}

pub(crate) fn json<T: DeserializeOwned + Default>(r: &MySqlRow, i: usize) -> R<T> {
    Ok(r.try_get::<Option<Json<T>>, _>(i)?.map_or_else(T::default, |j| j.0))
}
