//! The cache in two tiers keeps the contract of its port, and holds nothing in process while it receives no
//! invalidations.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod cache_support;

use std::sync::Arc;
use std::time::Duration;

use cache_support::{
    CODEC, TTL, assert_reads_miss_at_once, assert_unavailable, fill, key, names, number, raw, read, until,
};
use ecom_core::port::{Cache, CacheKey};
use ecom_core::testkit::{CacheFixture, SharedCacheFixture};
use ecom_storage::cache::{RedisCache, TieredCache, TieredOptions};
use test_servers::Server;

/// Long time limits: the suites test what is correct, not how soon, on machines that are busy.
fn options(url: &str, prefix: &str) -> TieredOptions {
    let mut options = TieredOptions::from_url(&format!("tiered+{url}")).unwrap();
    prefix.clone_into(&mut options.redis.prefix);
    options.redis.timeout = Duration::from_secs(5);
    options.redis.load_wait = Duration::from_secs(5);
    options
}

async fn open(options: TieredOptions) -> TieredCache {
    let cache = TieredCache::open(options).await.unwrap();
    until_it_holds(&cache).await;
    cache
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

async fn until_it_holds(cache: &TieredCache) {
    until("invalidations of others are heard", async || cache.holds_in_process()).await;
}

async fn brisk(server: &Server) -> TieredCache {
    open(TieredOptions::from_url(&format!("tiered+{}?timeout_ms=1000&memory_mib=1", server.url())).unwrap()).await
}

fn local(cache: &TieredCache, key: CacheKey) -> Option<u64> {
    cache.local(&key).as_ref().map(number)
}

#[tokio::test]
async fn what_comes_from_redis_is_held_in_process() {
    let server = Server::redis().await;
    let (cache, other) = (brisk(&server).await, brisk(&server).await);
    for n in 1..=3 {
        assert!(fill(&cache, key(n), 1).await);
        assert_eq!(local(&cache, key(n)), Some(1), "the value that it loaded itself");
        assert_eq!(local(&other, key(n)), None);
    }
    assert_eq!(read(&other, key(1)).await, Some(1));
    assert_eq!(local(&other, key(1)), Some(1));
    let found = other.get_many(&[key(1), key(2), key(9), key(3)], &CODEC).await;
    let found: Vec<_> = found.iter().map(|v| v.as_ref().map(number)).collect();
    assert_eq!(found, [Some(1), Some(1), None, Some(1)]);
    assert_eq!(local(&other, key(3)), Some(1));
    // A read from the tier in process sends nothing to Redis.
    let before = other.stats().hits;
    assert_eq!(read(&other, key(2)).await, Some(1));
    assert_eq!(other.stats().hits, before + 1);
}

#[tokio::test]
async fn r15_a_lost_message_costs_what_is_held_in_process_and_nothing_else() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    for n in 1..=2 {
        assert!(fill(&cache, key(n), 1).await);
        assert_eq!(local(&cache, key(n)), Some(1));
    }
    let mut raw = raw(&server.url()).await;
    let gone: Vec<String> = names(&mut raw, "*:v:*01").await;
    assert_eq!(gone.len(), 1);
    // Another process invalidates while this one does not listen, so the message is lost.
    let mut pipe = redis::pipe();
    pipe.atomic().cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").cmd("UNLINK").arg(&gone);
    let (killed, deleted): (u64, u64) = pipe.query_async(&mut raw).await.unwrap();
    assert_eq!((killed, deleted), (1, 1));
    until("what was held is gone", async || local(&cache, key(1)).is_none()).await;
    assert_eq!(read(&cache, key(1)).await, None);
    until_it_holds(&cache).await;
    assert_eq!(read(&cache, key(1)).await, None);
    assert_eq!(read(&cache, key(2)).await, Some(1), "Redis still has it");
    assert_eq!(local(&cache, key(2)), Some(1), "and it is held again");
}

#[tokio::test]
async fn r15_a_load_from_before_the_loss_is_not_held_after_it() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    let token = cache.begin_fill(&key(1)).await;
    let mut raw = raw(&server.url()).await;
    let mut kill = redis::cmd("CLIENT");
    let killed: u64 = kill.arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut raw).await.unwrap();
    assert_eq!(killed, 1);
    until("the loss is seen", async || !cache.holds_in_process()).await;
    until_it_holds(&cache).await;
    // Redis may accept it, because the lease is still there.
    cache.fill(&key(1), Arc::new(1_u64), &CODEC, TTL, token).await;
    assert_eq!(local(&cache, key(1)), None);
}

#[tokio::test]
async fn r15_nothing_is_held_in_process_while_redis_is_dead() {
    let mut server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    server.kill9().await;
    until("the loss is seen", async || !cache.holds_in_process()).await;
    assert_eq!(local(&cache, key(1)), None);
    assert!(!fill(&cache, key(1), 2).await);
    assert_eq!(local(&cache, key(1)), None);
    assert_unavailable(&cache.invalidate(&[key(1)]).await);
    assert_unavailable(&cache.ping().await);
    assert_reads_miss_at_once(&cache).await;
    server.start().await;
    until_it_holds(&cache).await;
    until("it is filled again", async || fill(&cache, key(1), 3).await).await;
    assert_eq!(local(&cache, key(1)), Some(3));
}

#[tokio::test]
async fn r15_a_redis_that_says_nothing_is_not_trusted_for_long() {
    let server = Server::redis().await;
    let (cache, other) = (brisk(&server).await, brisk(&server).await);
    for n in 1..=2 {
        assert!(fill(&cache, key(n), 1).await);
        assert_eq!(read(&other, key(n)).await, Some(1));
    }
    server.pause();
    assert_unavailable(&cache.invalidate(&[key(1)]).await);
    assert_eq!(local(&cache, key(1)), None, "the writer sees its own write whatever Redis does");
    assert_eq!(read(&cache, key(1)).await, None);
    // No connection was closed; the pings notice it.
    until("the silence is noticed", async || !cache.holds_in_process() && !other.holds_in_process()).await;
    assert_eq!(local(&other, key(1)), None);
    server.resume();
    until("reads resume", async || {
        assert_eq!(read(&cache, key(1)).await, None, "the value is older than a write of this process");
        cache.ping().await.is_ok() && other.ping().await.is_ok()
    })
    .await;
    until_it_holds(&cache).await;
    until_it_holds(&other).await;
    assert_eq!(read(&cache, key(1)).await, None);
    until("the other process was told", async || read(&other, key(1)).await.is_none()).await;
    assert_eq!(read(&other, key(2)).await, Some(1), "what was not invalidated is still there");
}

#[tokio::test]
async fn r15_processes_with_and_without_a_tier_hear_each_other() {
    let server = test_servers::redis();
    let options = options(&server.url, &server.prefix);
    let plain = RedisCache::open(options.redis.clone()).await.unwrap();
    let tiered = open(options).await;
    assert!(fill(&plain, key(1), 1).await);
    assert_eq!(read(&tiered, key(1)).await, Some(1));
    assert_eq!(local(&tiered, key(1)), Some(1));
    plain.invalidate(&[key(1)]).await.unwrap();
    until("it is heard", async || local(&tiered, key(1)).is_none()).await;
    assert_eq!(read(&tiered, key(1)).await, None);
}

#[tokio::test]
async fn r15_a_message_of_another_release_that_is_not_understood_drops_everything() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    let mut raw = raw(&server.url()).await;
    let channels: Vec<String> = redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut raw).await.unwrap();
    assert_eq!(channels.len(), 1);
    let known = format!("{}\n", key(2));
    for (message, gone) in [(known.as_str(), false), ("baskets", true), (&format!("{known}basket:1"), true)] {
        assert!(fill(&cache, key(1), 1).await);
        until("it is held", async || read(&cache, key(1)).await.is_some() && local(&cache, key(1)).is_some()).await;
        assert!(fill(&cache, key(2), 1).await);
        redis::cmd("PUBLISH").arg(&channels[0]).arg(message).query_async::<()>(&mut raw).await.unwrap();
        until("it is heard", async || local(&cache, key(2)).is_none()).await;
        assert_eq!(local(&cache, key(1)).is_none(), gone, "{message}");
    }
}

#[test]
fn a_tiered_url_says_all_of_it() {
    let options = TieredOptions::from_url("tiered+rediss://h/1?memory_mib=7&prefix=shop:&timeout_ms=250").unwrap();
    assert_eq!(options.memory.max_bytes, 7 << 20);
    assert_eq!(options.redis.prefix, "shop:");
    for bad in
        ["tiered+redis://h?memory_mib=0", "tiered+redis://h?memory_mib=x", "tiered+redis://h?size=7", "tiered+x://h"]
    {
        assert!(TieredOptions::from_url(bad).is_err(), "{bad}");
    }
}
