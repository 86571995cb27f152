//! Paging by offset and by cursor (keyset), which is the same for every list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, FieldCode, Result};

/// The part of a list that a read returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paging {
    /// The part after a number of rows. The cost grows with `offset`.
    Offset {
        /// The number of rows to skip.
        offset: u64,
        /// The maximum number of rows to return.
        limit: u32,
    },
    /// The part after a given row. A page costs the same at any depth.
    Keyset {
        /// The last row of the previous page; `None` for the first page.
        after: Option<Keyset>,
        /// The maximum number of rows to return.
        limit: u32,
    },
}

impl Default for Paging {
    /// Returns the first [`Paging::DEFAULT_LIMIT`] rows.
    fn default() -> Self {
        Self::first(Self::DEFAULT_LIMIT)
    }
}

impl Paging {
    /// The number of rows on a page by default.
    pub const DEFAULT_LIMIT: u32 = 20;

    /// Selects the first `limit` rows.
    pub const fn first(limit: u32) -> Self {
        Self::Keyset { after: None, limit }
    }

    /// The maximum number of rows that a service returns at once.
    pub const MAX_LIMIT: u32 = 100_000;

    /// Checks that the limit is 1 to [`Paging::MAX_LIMIT`].
    ///
    /// # Errors
    /// `Validation` on field `limit`.
    pub fn check(&self) -> Result<()> {
        if (1..=Self::MAX_LIMIT).contains(&self.limit()) {
            return Ok(());
        }
        let message = format!("must be between 1 and {}", Self::MAX_LIMIT);
        Err(Error::invalid("limit", FieldCode::OutOfBounds, message))
    }

    /// Returns the maximum number of rows to return.
    pub const fn limit(&self) -> u32 {
        match self {
            Self::Offset { limit, .. } | Self::Keyset { limit, .. } => *limit,
        }
    }
}

/// The position of a row in a sorted list: the value by which the list sorts, and the id, which orders equal values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyset {
    /// The sort order of the list. A cursor cannot be used with another one.
    #[serde(rename = "s")]
    pub sort: String,
    /// The value of the row by which the list sorts.
    #[serde(rename = "k")]
    pub key: SortKey,
    /// The id of the row.
    #[serde(rename = "i")]
    pub id: Uuid,
}

/// A value by which a list sorts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortKey {
    /// The list sorts by id alone.
    Id,
    /// A number of minor units, hundredths or microseconds.
    Int(i64),
    /// The folded key of a text ([`fold_key`](crate::text::fold_key)).
    Text(String),
}

impl Keyset {
    /// Returns the position as an opaque text, which callers send back.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Parses the cursor of a list that is sorted by `sort`.
    ///
    /// # Errors
    /// `Validation` (malformed) on field `cursor`.
    pub fn decode(text: &str, sort: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid("cursor", FieldCode::Malformed, why);
        if text.len() > 2_000 {
            return Err(bad("is not a cursor of this list: start again from the first page"));
        }
        let keyset: Self = URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|b| serde_json::from_slice(&b).ok())
            .ok_or_else(|| bad("is not a cursor of this list: start again from the first page"))?;
        // No key of a row contains such a character, and not every database takes it.
        if matches!(&keyset.key, SortKey::Text(key) if key.contains('\0')) {
            return Err(bad("is not a cursor of this list: start again from the first page"));
        }
        if keyset.sort != sort {
            return Err(bad("belongs to a list with another sort order: start again from the first page"));
        }
        Ok(keyset)
    }
}

/// The number of rows that match a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// The number of rows, or the bound at which the count stopped.
    pub count: u64,
    /// False if the count stopped at the bound, so that there are at least `count` rows.
    pub exact: bool,
}

impl Total {
    /// Returns the total for a count that stops after `bound + 1` rows.
    pub const fn bounded(counted: u64, bound: u64) -> Self {
        if counted > bound { Self { count: bound, exact: false } } else { Self { count: counted, exact: true } }
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows, in order.
    pub items: Vec<T>,
    /// The position after which the next page starts; `None` on the last page.
    pub next: Option<Keyset>,
}

impl<T> Page<T> {
    /// Returns a page of at most `limit` rows. The caller fetches `limit + 1` rows, so that a surplus row shows that
    /// there is another page.
    pub fn from_overfetch(mut items: Vec<T>, limit: u32, keyset: impl FnOnce(&T) -> Keyset) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(keyset) } else { None };
        Self { items, next }
    }

    /// Returns the page with each item converted by `f`.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_no_character_that_a_database_refuses() {
        let cursor =
            |key: &str| Keyset { sort: "name".to_owned(), key: SortKey::Text(key.to_owned()), id: Uuid::nil() };
        assert!(Keyset::decode(&cursor("lamp").encode(), "name").is_ok());
        for key in ["\0", "lamp\0"] {
            assert!(Keyset::decode(&cursor(key).encode(), "name").is_err());
        }
    }
}
