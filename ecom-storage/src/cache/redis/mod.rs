//! The cache on Redis, which processes share.
//!
//! [`layout`] defines the keys and messages, and [`link`] handles the loss of the connection.

mod decoded;
pub(crate) mod errors;
mod forget;
mod layout;
mod link;
mod options;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::port::{Cache, CacheKey, CacheLoad, CacheStats, CacheValue, Codec, FillToken};
use ecom_core::{Error, FieldCode, Result};

use decoded::Decoded;
use forget::Forget;
use layout::{Begun, Held, Layout};
use link::Link;
pub use options::{DEFAULT_DECODED_BYTES, DEFAULT_LOAD_WAIT, DEFAULT_PREFIX, DEFAULT_TIMEOUT, RedisOptions};
#[cfg(feature = "memory")]
pub(super) use {
    layout::heard,
    options::{memory_mib, unknown},
};

/// The first pause between two checks for the value that another process loads; it doubles each time.
const POLL: Duration = Duration::from_millis(2);
const MAX_POLL: Duration = Duration::from_millis(32);

/// The cache on a Redis server (7 or later): `CACHE_URL=redis://…`.
///
/// Processes that use the same server, database, prefix and namespace share their values. While Redis cannot be
/// reached, reads miss at once, the shop continues to work, and the cache reconnects in the background. Values live
/// until their TTL ends or until Redis evicts them. A `maxmemory` with an `allkeys-…` policy is supported and
/// recommended.
///
/// The statistics count no evictions and no entries, because only the server knows them. Clones share one connection.
#[derive(Clone, Debug)]
pub struct RedisCache {
    link: Link,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layout: Arc<Layout>,
    decoded: Decoded,
    load_wait: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layout")
    }
}

/// A decoded value and the time at which it expires at the latest.
pub(super) struct Aging {
    pub(super) value: CacheValue,
    #[cfg_attr(not(feature = "memory"), expect(dead_code, reason = "it is for a tier in process"))]
    pub(super) end: Option<Instant>,
}

/// The next step of a reader after a miss.
pub(super) enum Next {
    Found(Aging),
    Begun(u64),
}

impl Shared {
    fn decode(&self, key: &CacheKey, held: &Held, codec: &'static Codec, asked: Instant) -> Option<Aging> {
        let value = self.decoded.get_or_decode(key, held.bytes(), codec.decode)?;
        Some(Aging { value, end: held.ttl.and_then(|ttl| asked.checked_add(ttl)) })
    }
}

impl RedisCache {
    /// Connects to Redis. If Redis cannot be reached, returns a cache that continues to connect in the background. Must
    /// be called on a tokio runtime.
    ///
    /// # Errors
    /// `Validation` on field `cache` if the server refuses the user, the password, the database or the commands.
    pub async fn open(options: RedisOptions) -> Result<Self> {
        let refused = |_| {
            Error::invalid(
                "cache",
                FieldCode::OutOfBounds,
                "is refused by Redis: check the user, the password and the number of the database, and that the user \
                 may run scripts, read, write and publish",
            )
        };
        let layout = Arc::new(Layout::new(&options));
        let client = options.client().map_err(refused)?;
        let link = Link::open(client, options.timeout, layout.clone()).await.map_err(refused)?;
        let shared = Shared {
            layout,
            decoded: Decoded::new(options.decoded_bytes),
            load_wait: options.load_wait,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        Ok(Self { link, shared: Arc::new(shared) })
    }

    /// Reads the value of each key, and if `aging` is set, the time at which it expires.
    pub(super) async fn read(&self, keys: &[CacheKey], codec: &'static Codec, aging: bool) -> Vec<Option<Aging>> {
        let asked = Instant::now();
        let layout = &self.shared.layout;
        let found = if keys.is_empty() {
            None
        } else {
            self.link.call(async |c| layout.get(c, keys, codec.version, aging).await).await
        };
        let found = found.unwrap_or_default();
        let decode = |(held, key): (&Option<Held>, _)| self.shared.decode(key, held.as_ref()?, codec, asked);
        let mut found: Vec<_> = found.iter().zip(keys).map(decode).collect();
        found.resize_with(keys.len(), || None);
        let hits = found.iter().flatten().count() as u64;
        self.shared.hits.fetch_add(hits, Ordering::Relaxed);
        self.shared.misses.fetch_add(keys.len() as u64 - hits, Ordering::Relaxed);
        found
    }

    /// Returns the tokens of loads. The token 0 means that the value cannot be stored now.
    pub(super) async fn begin(&self, keys: &[CacheKey]) -> Vec<u64> {
        let layout = &self.shared.layout;
        let tokens = if keys.is_empty() { None } else { self.link.call(async |c| layout.begin(c, keys).await).await };
        tokens.filter(|t| t.len() == keys.len()).unwrap_or_else(|| vec![0; keys.len()])
    }

    /// Returns the token of a load, or the value that another process loaded while this one waited.
    pub(super) async fn load(&self, key: &CacheKey, codec: &'static Codec) -> Next {
        let layout = &self.shared.layout;
        let start = Instant::now();
        let mut pause = POLL;
        loop {
            let asked = Instant::now();
            let joined = match self.link.call(async |c| layout.load(c, key, codec.version).await).await {
                None => return Next::Begun(0),
                Some(Begun::Ours(token)) => return Next::Begun(token),
                Some(Begun::Theirs(token)) => token,
                Some(Begun::Value(held)) => match self.shared.decode(key, &held, codec, asked) {
                    Some(value) => return Next::Found(value),
                    // The value cannot be decoded, so this process overwrites it.
                    None => return Next::Begun(self.begin(&[*key]).await[0]),
                },
            };
            let left = self.shared.load_wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Next::Begun(joined);
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(MAX_POLL);
        }
    }

    /// Stores values, and returns which ones it stored.
    pub(super) async fn store(
        &self,
        values: &[(CacheKey, CacheValue, u64)],
        codec: &'static Codec,
        ttl: Duration,
    ) -> Vec<bool> {
        let mut stored = vec![false; values.len()];
        // Redis has no TTL below a millisecond.
        if ttl < Duration::from_millis(1) {
            return stored;
        }
        let mut places = Vec::with_capacity(values.len());
        let mut encoded = Vec::with_capacity(values.len());
        for (i, (key, value, token)) in values.iter().enumerate() {
            if *token != 0
                && let Some(bytes) = (codec.encode)(&**value)
            {
                places.push(i);
                encoded.push((*key, bytes, *token));
            }
        }
        if encoded.is_empty() {
            return stored;
        }
        let layout = &self.shared.layout;
        let answer = self.link.call(async |c| layout.fill(c, &encoded, codec.version, ttl).await).await;
        for (i, yes) in places.into_iter().zip(answer.unwrap_or_default()) {
            stored[i] = yes;
        }
        stored
    }

    async fn forget(&self, what: Forget) -> Result<()> {
        let link = self.link.clone();
        // The invalidation runs in a task of its own, so that it happens even if the caller is cancelled: the write has
        // already been committed.
        let told = tokio::spawn(async move { link.forget(what).await });
        told.await.unwrap_or_else(|e| Err(Error::internal("invalidating the cache after a write", e)))
    }

    /// Opens a second connection, which receives the invalidations of all processes; see [`heard`].
    #[cfg(feature = "memory")]
    pub(super) async fn listen(
        &self,
        messages: tokio::sync::mpsc::UnboundedSender<redis::PushInfo>,
    ) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        let mut connection = self.link.subscriber(messages).await?;
        connection.subscribe(self.shared.layout.channel()).await?;
        Ok(connection)
    }
}

#[async_trait]
impl Cache for RedisCache {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn local(&self, _: &CacheKey) -> Option<CacheValue> {
        None
    }

    async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue> {
        self.read(&[*key], codec, false).await.pop().flatten().map(|a| a.value)
    }

    async fn get_many(&self, keys: &[CacheKey], codec: &'static Codec) -> Vec<Option<CacheValue>> {
        self.read(keys, codec, false).await.into_iter().map(|a| a.map(|a| a.value)).collect()
    }

    async fn begin_fill(&self, key: &CacheKey) -> FillToken {
        FillToken { local: 0, shared: self.begin(&[*key]).await[0] }
    }

    async fn begin_fill_many(&self, keys: &[CacheKey]) -> Vec<FillToken> {
        self.begin(keys).await.into_iter().map(|shared| FillToken { local: 0, shared }).collect()
    }

    async fn begin_load(&self, key: &CacheKey, codec: &'static Codec) -> CacheLoad {
        match self.load(key, codec).await {
            Next::Found(aging) => CacheLoad::Found(aging.value),
            Next::Begun(shared) => CacheLoad::Begun(FillToken { local: 0, shared }),
        }
    }

    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        self.store(&[(*key, value, token.shared)], codec, ttl).await[0]
    }

    async fn fill_many(&self, values: Vec<(CacheKey, CacheValue, FillToken)>, codec: &'static Codec, ttl: Duration) {
        let values: Vec<_> = values.into_iter().map(|(k, v, t)| (k, v, t.shared)).collect();
        self.store(&values, codec, ttl).await;
    }

    async fn abandon(&self, loads: &[(CacheKey, FillToken)]) {
        let loads: Vec<_> = loads.iter().filter(|(_, t)| t.shared != 0).map(|(k, t)| (*k, t.shared)).collect();
        if !loads.is_empty() {
            let layout = &self.shared.layout;
            self.link.call(async |c| layout.abandon(c, &loads).await).await;
        }
    }

    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        if keys.is_empty() { Ok(()) } else { self.forget(Forget::of(keys)).await }
    }

    async fn invalidate_local(&self, _: &[CacheKey]) {}

    async fn clear(&self) -> Result<()> {
        self.forget(Forget::all()).await
    }

    async fn clear_local(&self) {}

    async fn ping(&self) -> Result<()> {
        self.link.ping().await
    }

    async fn close(&self) {
        self.link.close();
        self.clear_local().await;
    }

    fn stats(&self) -> CacheStats {
        let (hits, misses) = (&self.shared.hits, &self.shared.misses);
        CacheStats::default().hits(hits.load(Ordering::Relaxed)).misses(misses.load(Ordering::Relaxed))
    }
}
