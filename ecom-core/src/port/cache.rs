//! The cache: degrades speed only (R15).

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::{CategoryId, ProductId};

/// What can be cached. Cheap to copy and to hash: the hot path makes one per read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheKey {
    /// A live product with its SKUs.
    Product(ProductId),
    /// The id of the live product with a slug, by the slug's 128-bit hash.
    ProductSlug(u128),
    /// The slug of a live category.
    Category(CategoryId),
    /// A live category, by its slug's 128-bit hash: whoever has a path can name all documents above it.
    CategorySlug(u128),
    /// The tree of live categories.
    CategoryTree,
    /// A count or page of products, by the hash of its query; all of them share [`CacheKey::ProductLists`].
    ProductList(u128),
    /// Stands for all [`CacheKey::ProductList`]s: invalidating it invalidates them.
    ProductLists,
}

/// A cached object; adapters that keep it elsewhere encode it with its [`Codec`].
pub type CacheValue = Arc<dyn Any + Send + Sync>;

/// How a kind of value crosses a process border.
pub struct Codec {
    /// To bytes.
    pub encode: fn(&(dyn Any + Send + Sync)) -> Option<Vec<u8>>,
    /// From bytes; `None` for what another release wrote.
    pub decode: fn(&[u8]) -> Option<CacheValue>,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").finish_non_exhaustive()
    }
}

/// Taken before a value is loaded, handed back with it: the fill is dropped where the key was invalidated in
/// between, so that an old read never overwrites a newer write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FillToken(pub u64);

/// How a cache does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct CacheStats {
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Values that were dropped to make room or for age.
    pub evictions: u64,
    /// Values held, about.
    pub entries: u64,
}

/// A cache of values with a time to live.
///
/// A failing adapter answers with a miss and an accepted fill, and keeps its error for `ping`: a missing cache
/// costs speed only. [`Cache::invalidate`] alone reports an error, because a shared cache that could not be told
/// may serve old values until their TTL.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Cache: Send + Sync + fmt::Debug {
    /// The adapter's name for people: `memory`, `redis` …
    fn name(&self) -> &'static str;

    /// What this process holds for `key`, without waiting and without counting a miss; `None` where the
    /// adapter holds nothing in process.
    fn local(&self, key: &CacheKey) -> Option<CacheValue>;

    /// What is held for `key`.
    async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue>;

    /// Taken before a load for `key`.
    async fn begin_fill(&self, key: &CacheKey) -> FillToken;

    /// Holds `value` for `ttl`, unless `key` was invalidated since `token` was taken. True where it is held.
    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool;

    /// Drops the keys here, and where the cache is shared everywhere; reads that start afterwards do not see the
    /// old values.
    ///
    /// # Errors
    /// `Unavailable` where a shared cache could not be told.
    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()>;

    /// Drops everything.
    ///
    /// # Errors
    /// As [`Self::invalidate`].
    async fn clear(&self) -> Result<()>;

    /// Whether it answers.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn ping(&self) -> Result<()>;

    /// How it does.
    fn stats(&self) -> CacheStats;
}

/// The cache that holds nothing (`CACHE_URL=none`).
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCache;

#[async_trait]
impl Cache for NoCache {
    fn name(&self) -> &'static str {
        "none"
    }
    fn local(&self, _: &CacheKey) -> Option<CacheValue> {
        None
    }
    async fn get(&self, _: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        None
    }
    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken(0)
    }
    async fn fill(&self, _: &CacheKey, _: CacheValue, _: &'static Codec, _: Duration, _: FillToken) -> bool {
        false
    }
    async fn invalidate(&self, _: &[CacheKey]) -> Result<()> {
        Ok(())
    }
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
