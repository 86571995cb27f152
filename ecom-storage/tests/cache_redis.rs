//! The cache on Redis keeps the contract of its port, and its promises when Redis is slow or gone.

use std::sync::Arc;
use std::time::Duration;

use ecom_core::testkit::{CacheFixture, SharedCacheFixture};
use ecom_storage::cache::{RedisCache, RedisOptions};

/// Long limits: the suites ask what is right, not how soon, on machines that are busy.
fn options(url: &str, prefix: &str) -> RedisOptions {
    let mut options = RedisOptions::from_url(url).unwrap();
    prefix.clone_into(&mut options.prefix);
    options.timeout = Duration::from_secs(5);
    options.load_wait = Duration::from_secs(2);
    options
}

async fn make() -> CacheFixture {
    make_two().await.one
}

async fn make_two() -> SharedCacheFixture {
    let server = test_servers::redis();
    let options = options(&server.url, &server.prefix);
    let one = RedisCache::open(options.clone()).await.unwrap();
    let other = RedisCache::open(options).await.unwrap();
    let one =
        CacheFixture { cache: Arc::new(one), clock_advance: Box::new(std::thread::sleep), guard: Box::new(server) };
    SharedCacheFixture { one, other: Arc::new(other) }
}

ecom_core::cache_suite!(make);
ecom_core::shared_cache_suite!(make_two);
