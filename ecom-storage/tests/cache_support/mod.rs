//! Helpers for the tests of the caches on Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom_core::port::{Cache, CacheKey, CacheValue, Codec};
use ecom_core::{Dependency, Error};

pub static CODEC: Codec = Codec {
    version: 1,
    encode: |v| Some(v.downcast_ref::<u64>()?.to_be_bytes().to_vec()),
    decode: |b| Some(Arc::new(u64::from_be_bytes(b.try_into().ok()?))),
    size: |_| size_of::<u64>(),
};

pub const TTL: Duration = Duration::from_mins(5);
/// Longer than any recovery takes.
pub const SOON: Duration = Duration::from_secs(120);

pub const fn key(n: u128) -> CacheKey {
    CacheKey::ProductSlug(n)
}

pub async fn fill(cache: &dyn Cache, key: CacheKey, n: u64) -> bool {
    let token = cache.begin_fill(&key).await;
    cache.fill(&key, Arc::new(n), &CODEC, TTL, token).await
}

pub fn number(value: &CacheValue) -> u64 {
    *value.downcast_ref::<u64>().unwrap()
}

pub async fn read(cache: &dyn Cache, key: CacheKey) -> Option<u64> {
    cache.get(&key, &CODEC).await.as_ref().map(number)
}

/// Waits for a condition.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < SOON, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn assert_unavailable(result: &Result<(), Error>) {
    assert!(matches!(result, Err(Error::Unavailable { dependency: Dependency::Cache, .. })), "{result:?}");
}

/// Checks that reads miss at once. A thousand reads that each waited for the time limit would take minutes.
pub async fn assert_reads_miss_at_once(cache: &dyn Cache) {
    let start = Instant::now();
    for n in 0..1_000 {
        assert_eq!(read(cache, key(n)).await, None);
    }
    assert!(start.elapsed() < Duration::from_secs(120), "reads waited for a Redis that is lost");
}

/// Opens a connection beside the cache's.
pub async fn raw(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

pub async fn names(raw: &mut redis::aio::MultiplexedConnection, pattern: &str) -> Vec<String> {
    redis::cmd("KEYS").arg(pattern).query_async(raw).await.unwrap()
}
