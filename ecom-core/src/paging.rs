//! Paging: by page number (offset) and by cursor (keyset), the same on every list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, FieldCode, Result};

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// By rows to skip. The cost grows with `offset`.
    Offset {
        /// Rows to skip.
        offset: u64,
        /// Rows to return.
        limit: u32,
    },
    /// By the last row of the page before (`None`: from the start). A page costs the same at any depth.
    Keyset {
        /// Where the page before ended.
        after: Option<Keyset>,
        /// Rows to return.
        limit: u32,
    },
}

impl Default for Paging {
    /// The first [`Paging::DEFAULT_LIMIT`] rows.
    fn default() -> Self {
        Self::first(Self::DEFAULT_LIMIT)
    }
}

impl Paging {
    /// Rows of a page if the caller does not say how many.
    pub const DEFAULT_LIMIT: u32 = 20;

    /// The first `limit` rows.
    pub const fn first(limit: u32) -> Self {
        Self::Keyset { after: None, limit }
    }

    /// The most rows that a service returns at once.
    pub const MAX_LIMIT: u32 = 100_000;

    /// Refuses a page without rows, and one that is too large.
    ///
    /// # Errors
    /// `Validation` on field `limit`.
    pub fn check(&self) -> Result<()> {
        if (1..=Self::MAX_LIMIT).contains(&self.limit()) {
            return Ok(());
        }
        let message = format!("must be 1 to {} rows", Self::MAX_LIMIT);
        Err(Error::invalid("limit", FieldCode::OutOfBounds, message))
    }

    /// Rows to return.
    pub const fn limit(&self) -> u32 {
        match self {
            Self::Offset { limit, .. } | Self::Keyset { limit, .. } => *limit,
        }
    }
}

/// The place of a row in a sorted list: the value it sorts by, and its id where values are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyset {
    /// The sort it belongs to, so that a cursor is not used with another one.
    #[serde(rename = "s")]
    pub sort: String,
    /// The value that the row sorts by.
    #[serde(rename = "k")]
    pub key: SortKey,
    /// The row's id.
    #[serde(rename = "i")]
    pub id: Uuid,
}

/// A value that a list sorts by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortKey {
    /// The list sorts by id alone.
    Id,
    /// A number: minor units, hundredths, microseconds.
    Int(i64),
    /// A folded text.
    Text(String),
}

impl Keyset {
    /// The opaque text that callers hand back.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads a cursor made for `sort`.
    ///
    /// # Errors
    /// `Validation` (malformed) on field `cursor`.
    pub fn decode(text: &str, sort: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid("cursor", FieldCode::Malformed, why);
        if text.len() > 2_000 {
            return Err(bad("is not a cursor of this list; start again without it"));
        }
        let keyset: Self = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .ok_or_else(|| bad("is not a cursor of this list; start again without it"))?;
        if keyset.sort != sort {
            return Err(bad("belongs to another sort; start again without it"));
        }
        Ok(keyset)
    }
}

/// How many rows a filter matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// The number, or the bound that was reached.
    pub count: u64,
    /// False where counting stopped at the bound: there are at least `count`.
    pub exact: bool,
}

impl Total {
    /// From a count that stopped after `bound + 1` rows.
    pub const fn bounded(counted: u64, bound: u64) -> Self {
        if counted > bound { Self { count: bound, exact: false } } else { Self { count: counted, exact: true } }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows, in order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last page.
    pub next: Option<Keyset>,
}

impl<T> Page<T> {
    /// Makes a page of rows that were fetched with `limit + 1`: the one too many says that there are more.
    pub fn from_overfetch(mut items: Vec<T>, limit: u32, keyset: impl FnOnce(&T) -> Keyset) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(keyset) } else { None };
        Self { items, next }
    }

    /// The same page with other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}
