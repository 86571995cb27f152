//! The cache. Without it, or if it fails, the shop is slower but behaves the same (R15).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::Result;
use crate::id::{CategoryId, ProductId, SessionId, SettingId};

/// The key of a cached document. Cheap to copy and to hash, since the hot path makes one per read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheKey {
    /// A live product with its SKUs.
    Product(ProductId),
    /// The id of the live product with a slug, by the slug's 128-bit hash.
    ProductSlug(u128),
    /// The slug of a live category.
    Category(CategoryId),
    /// A live category, by the 128-bit hash of its slug: a path alone names the documents of all categories in it.
    CategorySlug(u128),
    /// The tree of live categories.
    CategoryTree,
    /// A page of products, by the hash of its query.
    ProductList(u128),
    /// The values by which a list of products can be narrowed, by the hash of its filter.
    ProductFilters(u128),
    /// The stamp of a part of the catalog that lists of products are made from, by the hash of its name.
    Listing(u128),
    /// A page of categories, by the hash of its query.
    CategoryList(u128),
    /// The stamp of the categories, which lists of categories are made from.
    CategoryListing,
    /// A setting that a shop edits while it runs.
    Setting(SettingId),
    /// The result of a search, by the hash of the request and of the version of the index.
    Search(u128),
    /// The roles of the shop.
    Roles,
    /// A session, with what its user may do.
    Session(SessionId),
    /// An API key, by the first 128 bits of the hash of its secret.
    ApiKey(u128),
}

impl CacheKey {
    /// Every kind of key once, as a function of the number that distinguishes the keys of a kind.
    const KINDS: [fn(u128) -> Self; 15] = [
        |number| Self::Product(ProductId(Uuid::from_u128(number))),
        Self::ProductSlug,
        |number| Self::Category(CategoryId(Uuid::from_u128(number))),
        Self::CategorySlug,
        |_| Self::CategoryTree,
        Self::ProductList,
        Self::ProductFilters,
        Self::Listing,
        Self::CategoryList,
        |_| Self::CategoryListing,
        |number| Self::Setting(SettingId(Uuid::from_u128(number))),
        Self::Search,
        |_| Self::Roles,
        |number| Self::Session(SessionId(Uuid::from_u128(number))),
        Self::ApiKey,
    ];

    /// Returns whether the value of the key is a stamp: a random number that stands for a part of the database. Other
    /// values record the stamps of the parts that they are made from, so that invalidating one stamp makes all of them
    /// stale.
    pub const fn is_stamp(&self) -> bool {
        matches!(self, Self::Listing(_) | Self::CategoryListing)
    }

    /// Returns a key of every kind, with `number` in those that have one, for the tests of adapters.
    pub fn every_kind(number: u128) -> impl Iterator<Item = Self> {
        Self::KINDS.into_iter().map(move |make| make(number))
    }

    /// The name of the kind in the text form, and the number of the key if its kind has more than one key.
    const fn parts(&self) -> (&'static str, Option<u128>) {
        match self {
            Self::Product(id) => ("product", Some(id.0.as_u128())),
            Self::ProductSlug(hash) => ("product-slug", Some(*hash)),
            Self::Category(id) => ("category", Some(id.0.as_u128())),
            Self::CategorySlug(hash) => ("category-slug", Some(*hash)),
            Self::CategoryTree => ("category-tree", None),
            Self::ProductList(hash) => ("product-list", Some(*hash)),
            Self::ProductFilters(hash) => ("product-filters", Some(*hash)),
            Self::Listing(hash) => ("listing", Some(*hash)),
            Self::CategoryList(hash) => ("category-list", Some(*hash)),
            Self::CategoryListing => ("category-listing", None),
            Self::Setting(id) => ("setting", Some(id.0.as_u128())),
            Self::Search(hash) => ("search", Some(*hash)),
            Self::Roles => ("roles", None),
            Self::Session(id) => ("session", Some(id.0.as_u128())),
            Self::ApiKey(hash) => ("api-key", Some(*hash)),
        }
    }

    /// Reads the text form. Returns `None` for a key that this release does not know.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, number) = match text.split_once(':') {
            Some((kind, hex)) => (kind, Some(u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?)),
            None => (text, None),
        };
        Self::every_kind(number.unwrap_or_default()).find(|key| key.parts() == (kind, number))
    }
}

/// The text form is the same in every process and release, for adapters that store values outside of the process.
impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, Some(number)) => write!(f, "{kind}:{number:032x}"),
            (kind, None) => f.write_str(kind),
        }
    }
}

/// A cached object. Adapters that store it outside of the process encode it with its [`Codec`].
pub type CacheValue = Arc<dyn Any + Send + Sync>;

/// How a kind of value is encoded for other processes, and how large it is in this one.
pub struct Codec {
    /// The version of the encoding. In a shared cache, a value of another version is a miss.
    pub version: u64,
    /// Encodes a value as bytes. Returns `None` if it is of another type or cannot be encoded.
    pub encode: fn(&(dyn Any + Send + Sync)) -> Option<Vec<u8>>,
    /// Decodes a value from bytes. Returns `None` if they are not a value of this kind.
    pub decode: fn(&[u8]) -> Option<CacheValue>,
    /// Estimates how many bytes of memory a value takes, with what its readers attach to it. Returns 0 for a value of
    /// another type.
    pub size: fn(&(dyn Any + Send + Sync)) -> usize,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A token that a reader takes before it loads a value, and passes to the fill. The cache drops the fill if the key was
/// invalidated in between, so that an old read never overwrites a newer write. Its numbers belong to the adapter; the
/// default token is for a fill that the adapter will drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FillToken {
    /// For the values that this process holds.
    pub local: u64,
    /// For the values that processes share.
    pub shared: u64,
}

/// The next step of a reader after a miss; see [`Cache::begin_load`].
#[derive(Debug, Clone)]
pub enum CacheLoad {
    /// Nothing: another caller, maybe in another process, has loaded the value meanwhile.
    Found(CacheValue),
    /// It loads the value, and then calls [`Cache::fill`] or [`Cache::abandon`].
    Begun(FillToken),
}

/// The statistics of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, derive_setters::Setters)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Values that were dropped for lack of space or for their age. A value that is replaced or invalidated is not
    /// counted.
    pub evictions: u64,
    /// About how many values this process holds; 0 if the adapter holds none in process, so that [`Cache::local`]
    /// always returns `None`. Values that were invalidated may count until their memory is freed.
    pub entries: u64,
}

port! {
    /// A cache of values with a time to live. An implementation runs `ecom_core::cache_suite!` (feature `testkit`);
    /// `tests/newcomer/adapter/src/cache.rs` in the repository is an example.
    ///
    /// An adapter that fails returns misses and accepts fills, and reports its error in `ping`, since a missing cache
    /// costs speed only. [`Cache::invalidate`] and [`Cache::clear`] alone report an error, because a shared cache that
    /// could not be invalidated may return old values until their TTL.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait Cache / ForwardCache(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages: `memory`, `redis` …
        fn name(&self) -> &'static str;

        /// Returns the value that this process holds for `key`, without waiting and without counting a miss; `None` if
        /// the adapter holds nothing in process.
        fn local(&self, key: &CacheKey) -> Option<CacheValue>;

        /// Returns whether other processes read the same values.
        fn is_shared(&self) -> bool;

        /// Returns the value for `key`.
        async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue>;

        /// Returns the token of a load of `key`, which a reader takes before it loads.
        async fn begin_fill(&self, key: &CacheKey) -> FillToken;

        /// Stores `value` for `ttl`, unless `key` was invalidated since `token` was taken. Returns whether it is
        /// stored.
        async fn fill(
            &self,
            key: &CacheKey,
            value: CacheValue,
            codec: &'static Codec,
            ttl: Duration,
            token: FillToken,
        ) -> bool;

        /// Drops the keys here, and everywhere if the cache is shared; reads that start afterwards do not see the old
        /// values.
        ///
        /// # Errors
        /// `Unavailable` if a shared cache could not be invalidated.
        async fn invalidate(&self, keys: &[CacheKey]) -> Result<()>;

        /// Drops the keys from what this process holds, and nothing elsewhere, for callers whose writer invalidates the
        /// shared values. Fills that were begun are not held in this process. The same as [`Self::invalidate`] if
        /// nothing is shared.
        async fn invalidate_local(&self, keys: &[CacheKey]);

        /// Drops everything.
        ///
        /// # Errors
        /// As [`Self::invalidate`].
        async fn clear(&self) -> Result<()>;

        /// Drops everything that this process holds, and nothing elsewhere. The same as [`Self::clear`] if nothing is
        /// shared.
        async fn clear_local(&self);

        /// Checks that the cache answers.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn ping(&self) -> Result<()>;

        /// Returns the statistics.
        fn stats(&self) -> CacheStats;

        /// Ends connections and background work, and drops everything that this process holds.
        async fn close(&self);
    } provided {
        /// Returns the value for each of `keys`, in their order, in at most one round trip.
        async fn get_many(&self, keys: &[CacheKey], codec: &'static Codec) -> Vec<Option<CacheValue>> {
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(self.get(key, codec).await);
            }
            found
        }

        /// Returns the tokens of loads of all of `keys`, in their order, in at most one round trip.
        async fn begin_fill_many(&self, keys: &[CacheKey]) -> Vec<FillToken> {
            let mut tokens = Vec::with_capacity(keys.len());
            for key in keys {
                tokens.push(self.begin_fill(key).await);
            }
            tokens
        }

        /// As [`Self::begin_fill`], after a miss. If another process is loading `key`, it waits for the value, so that
        /// concurrent misses of one key load once. It never waits longer than a fraction of a second, whatever happens
        /// to the other load.
        async fn begin_load(&self, key: &CacheKey, codec: &'static Codec) -> CacheLoad {
            let _ = codec;
            CacheLoad::Begun(self.begin_fill(key).await)
        }

        /// As [`Self::fill`], for several values, in at most one round trip.
        async fn fill_many(
            &self,
            values: Vec<(CacheKey, CacheValue, FillToken)>,
            codec: &'static Codec,
            ttl: Duration,
        ) {
            for (key, value, token) in values {
                self.fill(&key, value, codec, ttl, token).await;
            }
        }

        /// Ends loads that will not be filled, because they failed or found nothing, so that no caller waits for them.
        async fn abandon(&self, loads: &[(CacheKey, FillToken)]) {
            let _ = loads;
        }
    }
}

/// The cache that holds nothing (`CACHE_URL=none`).
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

#[async_trait]
impl Cache for NoCache {
    fn name(&self) -> &'static str {
        "none"
    }
    fn is_shared(&self) -> bool {
        false
    }
    async fn close(&self) {}
    fn local(&self, _: &CacheKey) -> Option<CacheValue> {
        None
    }
    async fn get(&self, _: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        None
    }
    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken::default()
    }
    async fn fill(&self, _: &CacheKey, _: CacheValue, _: &'static Codec, _: Duration, _: FillToken) -> bool {
        false
    }
    async fn invalidate(&self, _: &[CacheKey]) -> Result<()> {
        Ok(())
    }
    async fn invalidate_local(&self, _: &[CacheKey]) {}
    async fn clear_local(&self) {}
    async fn clear(&self) -> Result<()> {
        Ok(())
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_come_back_from_their_text() {
        for number in [0, 7, 1 << 100, u128::MAX] {
            let mut texts = HashSet::new();
            for key in CacheKey::every_kind(number) {
                assert_eq!(CacheKey::parse(&key.to_string()), Some(key));
                assert!(texts.insert(key.to_string()), "{key} is the text of two kinds");
            }
        }
        let number = "00000000000000000000000000000007";
        assert_eq!(CacheKey::CategoryList(7).to_string(), format!("category-list:{number}"));
        for other in [
            "",
            "product",
            "product:7",
            &format!("basket:{number}"),
            "category-tree:",
            &format!("category-tree:{number}"),
        ] {
            assert_eq!(CacheKey::parse(other), None, "{other}");
        }
    }
}
