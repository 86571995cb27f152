//! The cache in two tiers: in process, in front of Redis.
//!
//! # How the tier in process stays correct
//! Every invalidation is published after its keys were deleted from Redis, and each process listens on a second
//! connection. A reader takes the token of the tier in process before it reads Redis or the database. So if a message
//! arrives before the value is stored, the tier refuses the value (see the in-process cache). The process that writes
//! drops its own keys before and after the invalidation in Redis, so that it sees its own write at once.
//!
//! A message is lost only with the connection that would have delivered it. From the moment at which its end is noticed
//! until a new connection listens, the tier in process is empty and stores nothing. A connection that died silently is
//! found by the pings on it. Until then a value is as old as its TTL at most: a value that came from Redis keeps the
//! expiry that it has there, so that the TTLs of the two tiers never add up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::port::{Cache, CacheKey, CacheLoad, CacheStats, CacheValue, Codec, FillToken};
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::memory::{MemoryCache, MemoryCacheOptions};
use super::redis::{Aging, Next, RedisCache, RedisOptions, heard, memory_mib, unknown};

/// The time between two pings on the connection that listens.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The pause after the first failed try to listen; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Settings of a [`TieredCache`].
#[derive(Clone, Debug)]
pub struct TieredOptions {
    /// The tier that processes share. It keeps no decoded values, because the tier in process keeps them.
    pub redis: RedisOptions,
    /// The tier in process. An injected clock applies to this tier only.
    pub memory: MemoryCacheOptions,
}

impl TieredOptions {
    /// Reads `tiered+redis://…` or `tiered+rediss://…` with `memory_mib`, the size of the tier in process (256), and
    /// the parameters of [`RedisOptions::from_url`] except `decoded_mib`.
    ///
    /// # Errors
    /// `Validation` on field `cache`, with a message that does not show the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        let (redis, rest) = RedisOptions::split(url.strip_prefix("tiered+").unwrap_or(url))?;
        let mut memory = MemoryCacheOptions::default();
        for (name, value) in rest {
            match name.as_str() {
                "memory_mib" => memory.max_bytes = memory_mib(&value)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(Self { redis, memory })
    }
}

/// An in-process cache in front of Redis: `CACHE_URL=tiered+redis://…`.
///
/// A read of a value that this process holds costs as much as with the in-process cache. An invalidation by any process
/// drops the value in all of them at once. If Redis is lost, this process drops its values too, and reads go to the
/// database until Redis is back.
#[derive(Debug)]
pub struct TieredCache {
    local: Arc<Tier>,
    shared: RedisCache,
    listener: JoinHandle<()>,
}

/// The tier in process.
struct Tier {
    memory: MemoryCache,
    /// Whether this process receives the invalidations of the others.
    hears: AtomicBool,
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("memory", &self.memory).field("hears", &self.hears).finish()
    }
}

impl Tier {
    /// Returns the tier in process, or `None` while this process does not receive the invalidations of the others.
    fn get(&self) -> Option<&MemoryCache> {
        self.hears.load(Ordering::Acquire).then_some(&self.memory)
    }

    fn hears(&self, yes: bool) {
        if yes {
            // Nothing that was filled in between was kept; fills that began before are refused.
            self.memory.forget_all();
            self.hears.store(true, Ordering::Release);
        } else {
            self.hears.store(false, Ordering::Release);
            self.memory.forget_all();
        }
    }

    /// Keeps a value that came from Redis until it expires there.
    async fn keep(&self, key: &CacheKey, aging: &Aging, codec: &'static Codec, token: FillToken) {
        if let Some(memory) = self.get()
            && let Some(end) = aging.end
            && let Some(ttl) = end.checked_duration_since(Instant::now())
        {
            memory.fill(key, aging.value.clone(), codec, ttl, token).await;
        }
    }

    fn hear(&self, message: &[u8]) {
        match heard(message) {
            Some(keys) => self.memory.forget(&keys),
            None => self.memory.forget_all(),
        }
    }
}

/// Listens until the task is dropped.
async fn listen(tier: Arc<Tier>, redis: RedisCache) {
    let mut pause = PAUSE;
    loop {
        let result = listen_once(&tier, &redis, &mut pause).await;
        if tier.hears.load(Ordering::Acquire) {
            tracing::warn!(
                error = result.err().map(tracing::field::display),
                "receives no invalidations: this process holds no cached values until it does"
            );
        }
        tier.hears(false);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Listens on one connection until it ends.
async fn listen_once(tier: &Tier, redis: &RedisCache, pause: &mut Duration) -> RedisResult<()> {
    let (sender, mut messages) = mpsc::unbounded_channel::<PushInfo>();
    let mut connection = redis.listen(sender).await?;
    tier.hears(true);
    *pause = PAUSE;
    let heartbeat = async {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            if let Err(error) = redis::cmd("PING").query_async::<()>(&mut connection).await {
                return error;
            }
        }
    };
    tokio::pin!(heartbeat);
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            error = &mut heartbeat => return Err(error),
        };
        match message {
            Some(PushInfo { kind: PushKind::Message, data }) => match data.get(1) {
                Some(Value::BulkString(text)) => tier.hear(text),
                _ => tier.memory.forget_all(),
            },
            Some(PushInfo { kind: PushKind::Subscribe, .. }) => {}
            // The connection or the subscription has ended.
            _ => return Ok(()),
        }
    }
}

impl Drop for TieredCache {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl TieredCache {
    /// Opens both tiers, as [`RedisCache::open`] does.
    ///
    /// # Errors
    /// As [`RedisCache::open`].
    pub async fn open(options: TieredOptions) -> Result<Self> {
        // The tier in process already keeps values decoded.
        let mut redis = options.redis;
        redis.decoded_bytes = 0;
        let shared = RedisCache::open(redis).await?;
        let tier = Tier { memory: MemoryCache::new(options.memory), hears: AtomicBool::new(false) };
        let local = Arc::new(tier);
        let listener = tokio::spawn(listen(local.clone(), shared.clone()));
        Ok(Self { local, shared, listener })
    }

    /// Returns whether the tier in process is in use: it is while this process receives the invalidations of the
    /// others.
    pub fn holds_in_process(&self) -> bool {
        self.local.hears.load(Ordering::Acquire)
    }

    async fn token(&self, key: &CacheKey) -> FillToken {
        self.local.memory.begin_fill(key).await
    }
}

#[async_trait]
impl Cache for TieredCache {
    fn name(&self) -> &'static str {
        "tiered"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn local(&self, key: &CacheKey) -> Option<CacheValue> {
        self.local.get()?.local(key)
    }

    async fn get(&self, key: &CacheKey, codec: &'static Codec) -> Option<CacheValue> {
        if let Some(value) = self.local(key) {
            return Some(value);
        }
        let token = self.token(key).await;
        let aging = self.shared.read(&[*key], codec, true).await.pop().flatten()?;
        self.local.keep(key, &aging, codec, token).await;
        Some(aging.value)
    }

    async fn get_many(&self, keys: &[CacheKey], codec: &'static Codec) -> Vec<Option<CacheValue>> {
        let mut found: Vec<_> = keys.iter().map(|k| self.local(k)).collect();
        let places: Vec<usize> = (0..keys.len()).filter(|&i| found[i].is_none()).collect();
        let absent: Vec<CacheKey> = places.iter().map(|&i| keys[i]).collect();
        let Some(first) = absent.first() else { return found };
        let token = self.token(first).await;
        for (i, aging) in places.into_iter().zip(self.shared.read(&absent, codec, true).await) {
            if let Some(aging) = aging {
                self.local.keep(&keys[i], &aging, codec, token).await;
                found[i] = Some(aging.value);
            }
        }
        found
    }

    async fn begin_fill(&self, key: &CacheKey) -> FillToken {
        let token = self.token(key).await;
        FillToken { shared: self.shared.begin_fill(key).await.shared, ..token }
    }

    async fn begin_fill_many(&self, keys: &[CacheKey]) -> Vec<FillToken> {
        let Some(first) = keys.first() else { return Vec::new() };
        let token = self.token(first).await;
        self.shared.begin(keys).await.into_iter().map(|shared| FillToken { shared, ..token }).collect()
    }

    async fn begin_load(&self, key: &CacheKey, codec: &'static Codec) -> CacheLoad {
        let token = self.token(key).await;
        match self.shared.load(key, codec).await {
            Next::Found(aging) => {
                self.local.keep(key, &aging, codec, token).await;
                CacheLoad::Found(aging.value)
            }
            Next::Begun(shared) => CacheLoad::Begun(FillToken { shared, ..token }),
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
        let end = Instant::now().checked_add(ttl);
        let held = self.shared.fill(key, value.clone(), codec, ttl, token).await;
        if held {
            self.local.keep(key, &Aging { value, end }, codec, token).await;
        }
        held
    }

    async fn fill_many(&self, values: Vec<(CacheKey, CacheValue, FillToken)>, codec: &'static Codec, ttl: Duration) {
        let end = Instant::now().checked_add(ttl);
        let entries: Vec<_> = values.iter().map(|(k, v, t)| (*k, v.clone(), t.shared)).collect();
        let held = self.shared.store(&entries, codec, ttl).await;
        for ((key, value, token), held) in values.into_iter().zip(held) {
            if held {
                self.local.keep(&key, &Aging { value, end }, codec, token).await;
            }
        }
    }

    async fn abandon(&self, loads: &[(CacheKey, FillToken)]) {
        self.shared.abandon(loads).await;
    }

    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        self.local.memory.forget(keys);
        let told = self.shared.invalidate(keys).await;
        // Drops what was read from Redis in between.
        self.local.memory.forget(keys);
        told
    }

    async fn invalidate_local(&self, keys: &[CacheKey]) {
        self.local.memory.forget(keys);
    }

    async fn clear(&self) -> Result<()> {
        self.local.memory.forget_all();
        let told = self.shared.clear().await;
        self.local.memory.forget_all();
        told
    }

    async fn clear_local(&self) {
        self.local.memory.forget_all();
    }

    async fn ping(&self) -> Result<()> {
        self.shared.ping().await
    }

    async fn close(&self) {
        self.listener.abort();
        self.local.hears.store(false, Ordering::Release);
        self.local.memory.close().await;
        self.shared.close().await;
    }

    fn stats(&self) -> CacheStats {
        let (local, shared) = (self.local.memory.stats(), self.shared.stats());
        // A read that misses in process goes on to Redis and is counted there.
        local.hits(local.hits + shared.hits).misses(shared.misses)
    }
}
