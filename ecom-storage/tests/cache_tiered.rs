//! The cache in two tiers keeps the contract of its port, and holds nothing in process while it hears nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom_core::testkit::{CacheFixture, SharedCacheFixture};
use ecom_storage::cache::{TieredCache, TieredOptions};

/// Long limits: the suites ask what is right, not how soon, on machines that are busy.
fn options(url: &str, prefix: &str) -> TieredOptions {
    let mut options = TieredOptions::from_url(&format!("tiered+{url}")).unwrap();
    prefix.clone_into(&mut options.redis.prefix);
    options.redis.timeout = Duration::from_secs(5);
    options.redis.load_wait = Duration::from_secs(2);
    options
}

async fn open(options: TieredOptions) -> TieredCache {
    let cache = TieredCache::open(options).await.unwrap();
    until("it listens", || cache.holds_in_process()).await;
    cache
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn make() -> CacheFixture {
    make_two().await.one
}

async fn make_two() -> SharedCacheFixture {
    let server = test_servers::redis();
    let options = options(&server.url, &server.prefix);
    let one = open(options.clone()).await;
    let other = open(options).await;
    let one =
        CacheFixture { cache: Arc::new(one), clock_advance: Box::new(std::thread::sleep), guard: Box::new(server) };
    SharedCacheFixture { one, other: Arc::new(other) }
}

ecom_core::cache_suite!(make);
ecom_core::shared_cache_suite!(make_two);
