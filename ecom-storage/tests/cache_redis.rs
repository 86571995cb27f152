//! The cache on Redis keeps the contract of its port, and its promises if Redis is slow or gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

mod cache_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_support::{CODEC, TTL, assert_reads_miss_at_once, assert_unavailable, fill, key, names, raw, read, until};
use ecom_core::port::{Cache, CacheKey};
use ecom_core::testkit::{CacheFixture, SharedCacheFixture};
use ecom_core::{Error, ErrorCode};
use ecom_storage::cache::{RedisCache, RedisOptions};
use test_servers::{Kind, Server};

/// Long time limits: the suites test what is correct, not how soon, on machines that are busy.
fn options(url: &str, prefix: &str) -> RedisOptions {
    let mut options = RedisOptions::from_url(url).unwrap();
    prefix.clone_into(&mut options.prefix);
    options.timeout = Duration::from_secs(5);
    options.load_wait = Duration::from_secs(5);
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

/// Opens a cache with a short time limit.
async fn brisk(server: &Server) -> RedisCache {
    RedisCache::open(brisk_options(server)).await.unwrap()
}

fn brisk_options(server: &Server) -> RedisOptions {
    RedisOptions::from_url(&format!("{}?timeout_ms=1000", server.url())).unwrap()
}

async fn until_back(cache: &RedisCache) {
    until("the cache is back", async || cache.ping().await.is_ok()).await;
}

#[tokio::test]
async fn r15_a_dead_redis_costs_a_bounded_delay_once_and_comes_back_by_itself() {
    let mut server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    assert_eq!(read(&cache, key(1)).await, Some(1));
    let token = cache.begin_fill(&key(2)).await;

    server.kill9().await;
    let start = Instant::now();
    assert_eq!(read(&cache, key(1)).await, None);
    assert_unavailable(&cache.ping().await);
    assert_unavailable(&cache.invalidate(&[key(1)]).await);
    assert!(!cache.fill(&key(2), Arc::new(2_u64), &CODEC, TTL, token).await);
    assert!(!fill(&cache, key(2), 2).await, "nothing can be filled");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_reads_miss_at_once(&cache).await;

    server.start().await;
    until_back(&cache).await;
    assert_eq!(read(&cache, key(1)).await, None, "it came back empty");
    assert!(fill(&cache, key(1), 3).await);
    assert_eq!(read(&cache, key(1)).await, Some(3));
    cache.invalidate(&[key(1)]).await.unwrap();
    assert_eq!(read(&cache, key(1)).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_a_stopped_redis_costs_those_under_way_their_time_limit_once() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    server.pause();
    let start = Instant::now();
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { read(&cache, key(1)).await })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), None);
    }
    assert!(start.elapsed() < Duration::from_secs(30), "each waits for its own time limit, not for those of others");
    assert_reads_miss_at_once(&cache).await;
    server.resume();
    until_back(&cache).await;
    assert_eq!(read(&cache, key(1)).await, Some(1), "nothing was invalidated meanwhile");
}

#[tokio::test]
async fn r15_what_could_not_be_told_is_told_before_reads_resume() {
    let server = Server::redis().await;
    let (cache, other) = (brisk(&server).await, RedisCache::open(options(&server.url(), "ecom:")).await.unwrap());
    for n in 1..=3 {
        assert!(fill(&cache, key(n), 1).await);
    }
    assert!(fill(&cache, CacheKey::ProductList(1), 1).await);
    let token = other.begin_fill(&key(4)).await;
    server.pause();
    // The first call is sent and gets no answer; the second one is not sent any more.
    assert_unavailable(&cache.invalidate(&[key(1)]).await);
    assert_unavailable(&cache.invalidate(&[key(2), key(4), CacheKey::ProductList(1)]).await);
    server.resume();
    until("reads resume", async || {
        for gone in [key(1), key(2), CacheKey::ProductList(1)] {
            assert_eq!(read(&cache, gone).await, None, "{gone:?} is from before a write of this process");
        }
        cache.ping().await.is_ok()
    })
    .await;
    for gone in [key(1), key(2), CacheKey::ProductList(1)] {
        assert_eq!(read(&cache, gone).await, None, "{gone:?}");
        assert_eq!(read(&other, gone).await, None, "other processes were told: {gone:?}");
    }
    assert!(!other.fill(&key(4), Arc::new(1_u64), &CODEC, TTL, token).await, "a load from before is refused");
    assert_eq!(read(&cache, key(3)).await, Some(1), "what was not invalidated is still there");
}

#[tokio::test]
async fn r15_more_than_can_be_kept_is_told_as_everything() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    server.pause();
    assert_unavailable(&cache.ping().await);
    let many: Vec<CacheKey> = (10..10_020).map(key).collect();
    assert_unavailable(&cache.invalidate(&many).await);
    server.resume();
    until("reads resume", async || cache.ping().await.is_ok()).await;
    assert_eq!(read(&cache, key(1)).await, None);
    assert!(fill(&cache, key(1), 2).await);
    assert_eq!(read(&cache, key(1)).await, Some(2));
}

#[tokio::test]
async fn r15_a_server_that_comes_back_with_an_old_snapshot_serves_nothing_of_it() {
    let mut server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    redis::cmd("SAVE").query_async::<()>(&mut raw(&server.url()).await).await.unwrap();
    cache.invalidate(&[key(1)]).await.unwrap();
    assert!(names(&mut raw(&server.url()).await, "*v:*").await.is_empty());
    server.kill9().await;
    server.start().await;
    let held = names(&mut raw(&server.url()).await, "*v:*").await;
    assert_eq!(held.len(), 1, "the snapshot brought the old value back: {held:?}");
    until("reads resume", async || {
        assert_eq!(read(&cache, key(1)).await, None, "it was invalidated after the snapshot");
        cache.ping().await.is_ok()
    })
    .await;
    assert_eq!(read(&cache, key(1)).await, None);
}

#[tokio::test]
async fn r15_flushed_and_evicted_epochs_bring_no_old_value_back() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    let mut raw = raw(&server.url()).await;
    let list = CacheKey::ProductList(1);
    for k in [key(1), list] {
        assert!(fill(&cache, k, 1).await);
    }
    let token = cache.begin_fill(&key(2)).await;
    redis::cmd("FLUSHALL").query_async::<()>(&mut raw).await.unwrap();
    assert!(!cache.fill(&key(2), Arc::new(1_u64), &CODEC, TTL, token).await, "its lease was deleted");
    for k in [key(1), list] {
        assert_eq!(read(&cache, k).await, None);
        assert!(fill(&cache, k, 2).await);
        assert_eq!(read(&cache, k).await, Some(2));
    }
    let epoch = names(&mut raw, "*:epoch").await;
    assert_eq!(epoch.len(), 1);
    redis::cmd("DEL").arg(&epoch).query_async::<()>(&mut raw).await.unwrap();
    assert_eq!(read(&cache, key(1)).await, None);
    // The fill makes an epoch, which differs from the old one.
    assert!(fill(&cache, CacheKey::ProductList(2), 1).await);
    for k in [key(1), list] {
        assert_eq!(read(&cache, k).await, None);
    }
}

#[tokio::test]
async fn r15_a_redis_without_memory_still_forgets() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    let list = CacheKey::ProductList(1);
    for k in [key(1), key(2), key(3), list] {
        assert!(fill(&cache, k, 1).await);
    }
    let mut raw = raw(&server.url()).await;
    let mut config = redis::cmd("CONFIG");
    config.arg("SET").arg("maxmemory").arg("1").query_async::<()>(&mut raw).await.unwrap();
    assert!(!fill(&cache, key(4), 1).await, "the cache accepts no fill");
    assert_eq!(read(&cache, key(1)).await, Some(1), "the cache returns the values that it holds");
    cache.invalidate(&[key(1), list]).await.unwrap();
    assert_eq!(read(&cache, key(1)).await, None);
    assert_eq!(read(&cache, list).await, None);
    assert_eq!(read(&cache, key(2)).await, Some(1));
    cache.clear().await.unwrap();
    assert_eq!(read(&cache, key(2)).await, None);
    cache.ping().await.unwrap();
}

#[tokio::test]
async fn it_opens_without_redis_and_takes_it_up_when_it_is_there() {
    let mut server = Server::redis().await;
    server.kill9().await;
    let cache = brisk(&server).await;
    assert_unavailable(&cache.ping().await);
    assert_unavailable(&cache.invalidate(&[key(1)]).await);
    assert_reads_miss_at_once(&cache).await;
    server.start().await;
    until_back(&cache).await;
    assert!(fill(&cache, key(1), 1).await);
    assert_eq!(read(&cache, key(1)).await, Some(1));
}

#[tokio::test]
async fn a_connection_that_is_closed_while_idle_is_replaced() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    let mut raw = raw(&server.url()).await;
    for _ in 0..3 {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        let killed: u64 = kill.query_async(&mut raw).await.unwrap();
        assert!(killed >= 1, "the cache was connected");
        until("it is read again", async || read(&cache, key(1)).await == Some(1)).await;
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_or_missing_is_refused_at_the_start_and_not_shown() {
    let server = Server::with(Kind::Redis, &["requirepass=open-sesame"]).await;
    let port = server.port();
    for url in [
        format!("redis://127.0.0.1:{port}"),
        format!("redis://:hunter2@127.0.0.1:{port}"),
        format!("redis://hunter2:hunter2@127.0.0.1:{port}"),
        format!("redis://:open-sesame@127.0.0.1:{port}/99"),
    ] {
        let options = RedisOptions::from_url(&url).unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = RedisCache::open(options).await.unwrap_err();
        let Error::Validation(fields) = &error else { panic!("{error:?}") };
        assert_eq!(fields.0[0].field, "cache");
        assert!(!format!("{error} {error:?}").contains("hunter2") && !format!("{error:?}").contains("sesame"));
    }
    let cache = brisk(&server).await;
    assert!(fill(&cache, key(1), 1).await);
    assert_eq!(read(&cache, key(1)).await, Some(1));
    assert!(!format!("{cache:?}").contains("sesame"));
}

#[tokio::test]
async fn an_invalidation_whose_caller_goes_away_is_told() {
    let server = test_servers::redis();
    let options = options(&server.url, &server.prefix);
    let (cache, other) = (RedisCache::open(options.clone()).await.unwrap(), RedisCache::open(options).await.unwrap());
    for n in 0..50 {
        assert!(fill(&cache, key(n), 1).await);
        let keys = [key(n)];
        tokio::select! {
            biased;
            told = cache.invalidate(&keys) => told.unwrap(),
            () = std::future::ready(()) => {}
        }
    }
    for n in 0..50 {
        until("it is told", async || read(&other, key(n)).await.is_none()).await;
    }
}

#[tokio::test]
async fn a_read_is_one_command_however_many_keys() {
    let server = Server::redis().await;
    let cache = brisk(&server).await;
    let keys: Vec<CacheKey> = (0..20).map(key).collect();
    for k in &keys[..10] {
        assert!(fill(&cache, *k, 1).await);
    }
    let mut raw = raw(&server.url()).await;
    redis::cmd("CONFIG").arg("RESETSTAT").query_async::<()>(&mut raw).await.unwrap();
    assert_eq!(cache.get_many(&keys, &CODEC).await.iter().flatten().count(), 10);
    assert_eq!(read(&cache, key(1)).await, Some(1));
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await.unwrap();
    let calls: Vec<&str> =
        stats.lines().filter_map(|l| l.strip_prefix("cmdstat_")).filter(|l| !l.starts_with("config")).collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(calls[0].starts_with("mget:calls=2,"), "{calls:?}");
}

#[tokio::test]
async fn shops_that_share_a_server_are_kept_apart() {
    let server = test_servers::redis();
    let mut options = options(&server.url, &server.prefix);
    let one = RedisCache::open(options.clone()).await.unwrap();
    options.namespace = "0190".to_owned();
    let two = RedisCache::open(options).await.unwrap();
    let lists = [CacheKey::ProductList(1), CacheKey::CategoryList(1)];
    for k in [key(1), lists[0], lists[1]] {
        assert!(fill(&one, k, 1).await);
        assert_eq!(read(&two, k).await, None);
        assert!(fill(&two, k, 2).await);
    }
    one.invalidate(&lists).await.unwrap();
    for k in lists {
        assert_eq!((read(&one, k).await, read(&two, k).await), (None, Some(2)), "{k:?}");
    }
    one.clear().await.unwrap();
    assert_eq!(read(&two, key(1)).await, Some(2));
    let mut raw = raw(&server.url).await;
    let all = names(&mut raw, &format!("{}*", server.prefix)).await;
    assert!(all.len() >= 5, "all keys start with the prefix: {all:?}");
}

/// The user may only use keys with another prefix: opening the cache fails, instead of every read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_may_not_touch_the_keys_is_refused() {
    let server = Server::redis().await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut admin = client.get_multiplexed_async_connection().await.unwrap();
    let mut rule = redis::cmd("ACL");
    rule.arg("SETUSER").arg("shop").arg("on").arg(">word").arg("~ecom:*").arg("&ecom:*").arg("+@all");
    rule.query_async::<()>(&mut admin).await.unwrap();
    let open = async |prefix: &str| {
        let url = server.url().replace("redis://", "redis://shop:word@");
        RedisCache::open(RedisOptions::from_url(&format!("{url}?prefix={prefix}")).unwrap()).await
    };
    open("ecom:").await.unwrap().ping().await.unwrap();
    assert_eq!(open("other:").await.unwrap_err().code(), ErrorCode::Validation);
}
