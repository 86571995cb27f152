//! Typed parameters of statements and typed rows of results, the same for the three databases.

use std::borrow::Cow;

use chrono::NaiveDate;
use ecom_core::clock::Timestamp;
use ecom_core::id::{
    AddressId, ApiKeyId, AuditLogEntryId, BillId, CartId, CategoryId, CustomerId, EventId, FeedId, JobId, JobQueueId,
    JobScheduleId, OrderAdjustmentId, OrderId, OrderLineId, ProductId, ReviewId, RoleId, SessionId, SettingId, SkuId,
    StockMovementId, UserId, WebhookDeliveryId, WebhookId,
};
use ecom_core::money::NumberError;
use ecom_core::{BoxError, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::sql::engine::stored::Stored;

/// Checks a stored number or text whose bounds the schema enforces.
///
/// # Errors
/// `Internal` if it is nevertheless out of its bounds.
pub fn bounded<T>(v: std::result::Result<T, NumberError>) -> Result<T> {
    v.map_err(|e| Error::internal("reading a row", e))
}

/// A parameter of a statement; `None` is a NULL of that type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'q> {
    /// A 32-bit number.
    I32(Option<i32>),
    /// A 64-bit number.
    I64(Option<i64>),
    /// A text.
    Text(Option<Cow<'q, str>>),
    /// An id.
    Uuid(Option<Uuid>),
    /// Bytes.
    Bytes(Option<Cow<'q, [u8]>>),
    /// A JSON text.
    Json(Option<String>),
    /// A time in microseconds.
    Time(Option<Timestamp>),
    /// A day.
    Date(Option<NaiveDate>),
}

impl Value<'_> {
    /// Returns the name of its type.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::I32(_) => "i32",
            Self::I64(_) => "i64",
            Self::Text(_) => "text",
            Self::Uuid(_) => "uuid",
            Self::Bytes(_) => "bytes",
            Self::Json(_) => "json",
            Self::Time(_) => "time",
            Self::Date(_) => "date",
        }
    }

    /// Returns the value with texts and bytes of its own.
    #[cfg(feature = "sqlite")]
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::I32(v) => Value::I32(v),
            Self::I64(v) => Value::I64(v),
            Self::Text(v) => Value::Text(v.map(|v| Cow::Owned(v.into_owned()))),
            Self::Uuid(v) => Value::Uuid(v),
            Self::Bytes(v) => Value::Bytes(v.map(|v| Cow::Owned(v.into_owned()))),
            Self::Json(v) => Value::Json(v),
            Self::Time(v) => Value::Time(v),
            Self::Date(v) => Value::Date(v),
        }
    }

    /// Returns a serializable value as JSON, or NULL.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn opt_json<T: Serialize>(value: Option<&T>) -> Result<Self> {
        value.map_or(Ok(Self::Json(None)), Self::json)
    }

    /// Returns any serializable value as JSON.
    ///
    /// # Errors
    /// `Internal` if it cannot be serialized, which no type of the domain causes.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serde_json::to_string(value).map(|s| Self::Json(Some(s))).map_err(|e| Error::internal("encoding JSON", e))
    }
}

macro_rules! from {
    ($($ty:ty => $variant:ident, $v:ident => $e:expr;)*) => {$(
        impl<'q> From<$ty> for Value<'q> {
            fn from($v: $ty) -> Self { Self::$variant(Some($e)) }
        }
        impl<'q> From<Option<$ty>> for Value<'q> {
            fn from(v: Option<$ty>) -> Self { Self::$variant(v.map(|$v| $e)) }
        }
    )*};
}

from! {
    i32 => I32, v => v;
    i64 => I64, v => v;
    &'q str => Text, v => Cow::Borrowed(v);
    &'q String => Text, v => Cow::Borrowed(v.as_str());
    String => Text, v => Cow::Owned(v);
    &'q [u8] => Bytes, v => Cow::Borrowed(v);
    Vec<u8> => Bytes, v => Cow::Owned(v);
    Uuid => Uuid, v => v;
    AddressId => Uuid, v => v.0;
    ApiKeyId => Uuid, v => v.0;
    BillId => Uuid, v => v.0;
    CartId => Uuid, v => v.0;
    CategoryId => Uuid, v => v.0;
    OrderAdjustmentId => Uuid, v => v.0;
    OrderId => Uuid, v => v.0;
    OrderLineId => Uuid, v => v.0;
    ProductId => Uuid, v => v.0;
    SkuId => Uuid, v => v.0;
    ReviewId => Uuid, v => v.0;
    RoleId => Uuid, v => v.0;
    SessionId => Uuid, v => v.0;
    SettingId => Uuid, v => v.0;
    CustomerId => Uuid, v => v.0;
    StockMovementId => Uuid, v => v.0;
    EventId => Uuid, v => v.0;
    FeedId => Uuid, v => v.0;
    JobId => Uuid, v => v.0;
    JobQueueId => Uuid, v => v.0;
    JobScheduleId => Uuid, v => v.0;
    AuditLogEntryId => Uuid, v => v.0;
    UserId => Uuid, v => v.0;
    WebhookId => Uuid, v => v.0;
    WebhookDeliveryId => Uuid, v => v.0;
    Timestamp => Time, v => v;
    NaiveDate => Date, v => v;
}

/// A row of a result. Columns are read by their position in the select list.
pub enum Row {
    /// A row of SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(crate::sqlite::row::Row),
    /// A row of PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
    /// A row of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(sqlx::mysql::MySqlRow),
}

/// Returns the error for a column that cannot be read.
fn unreadable(e: impl Into<BoxError>) -> Error {
    Error::internal("reading a row", e)
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident -> $ty:ty;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// `Internal` if the column holds a value of another type.
        #[inline]
        pub fn $name(&self, index: usize) -> Result<$ty> {
            match self {
                #[cfg(feature = "sqlite")]
                Self::Sqlite(r) => crate::sqlite::row::$name(r, index).map_err(unreadable),
                #[cfg(feature = "postgres")]
                Self::Postgres(r) => crate::postgres::row::$name(r, index).map_err(unreadable),
                #[cfg(feature = "mysql")]
                Self::MySql(r) => crate::mysql::row::$name(r, index).map_err(unreadable),
            }
        }
    )*};
}

impl Row {
    getters! {
        /// Reads a 64-bit number.
        i64 -> i64;
        /// Reads a 64-bit number or NULL.
        opt_i64 -> Option<i64>;
        /// Reads a 32-bit number.
        i32 -> i32;
        /// Reads a 32-bit number or NULL.
        opt_i32 -> Option<i32>;
        /// Reads a text, borrowed from the row.
        text -> &str;
        /// Reads a text, borrowed from the row, or NULL.
        opt_text -> Option<&str>;
        /// Reads bytes, borrowed from the row.
        bytes -> &[u8];
        /// Reads bytes, borrowed from the row, or NULL.
        opt_bytes -> Option<&[u8]>;
        /// Reads an id.
        uuid -> Uuid;
        /// Reads an id or NULL.
        opt_uuid -> Option<Uuid>;
        /// Reads a time.
        time -> Timestamp;
        /// Reads a time or NULL.
        opt_time -> Option<Timestamp>;
        /// Reads a day.
        date -> NaiveDate;
    }

    /// Reads a text as an owned string.
    ///
    /// # Errors
    /// `Internal` if the column holds a value of another type.
    #[inline]
    pub fn string(&self, index: usize) -> Result<String> {
        self.text(index).map(str::to_owned)
    }

    /// Reads a text, or NULL, as an owned string.
    ///
    /// # Errors
    /// `Internal` if the column holds a value of another type.
    #[inline]
    pub fn opt_string(&self, index: usize) -> Result<Option<String>> {
        Ok(self.opt_text(index)?.map(str::to_owned))
    }

    /// Reads a number that must be 0 or more.
    ///
    /// # Errors
    /// `Internal` if the column holds another value.
    pub fn count(&self, index: usize) -> Result<u64> {
        u64::try_from(self.i64(index)?).map_err(|e| Error::internal("reading a row", e))
    }

    /// Reads an enum that is stored as a number or a word.
    ///
    /// # Errors
    /// `Internal` if the column holds a number or word that this release does not know.
    #[inline]
    pub fn stored<T: Stored>(&self, index: usize) -> Result<T> {
        T::read(self, index)
    }

    /// Returns true if a column of numbers is NULL.
    ///
    /// # Errors
    /// `Internal` if the column holds a value of another type.
    pub fn is_null(&self, index: usize) -> Result<bool> {
        Ok(self.opt_i32(index)?.is_none())
    }

    /// Reads a value that is stored as JSON. An empty list or object, or NULL, is not parsed.
    ///
    /// # Errors
    /// `Internal` if the column holds a value of another type.
    pub fn json<T: DeserializeOwned + Default>(&self, index: usize) -> Result<T> {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(r) => match crate::sqlite::row::opt_text(r, index).map_err(unreadable)? {
                None => Ok(T::default()),
                Some(text) => serde_json::from_str(text).map_err(|e| Error::internal("reading a row's JSON", e)),
            },
            #[cfg(feature = "postgres")]
            Self::Postgres(r) => crate::postgres::row::json(r, index).map_err(unreadable),
            #[cfg(feature = "mysql")]
            Self::MySql(r) => crate::mysql::row::json(r, index).map_err(unreadable),
        }
    }
}
