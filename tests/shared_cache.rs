//! The rules of cached reads over caches on Redis, and two shops that share a cache.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "redis", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::sync::Arc;
use std::time::Duration;

use ecom_core::catalog::ProductInput;
use ecom_core::money::Currency;
use ecom_core::port::{Cache, Storage as _};
use ecom_core::testkit::shop::ShopFixture;
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCacheOptions, RedisCache, RedisOptions, TieredCache, TieredOptions};
use ecom_storage::{SqlStorage, SqliteOptions};

/// Creates a shop on a new database; `open` opens the cache of a process.
async fn shop<C: Cache + 'static, F: Future<Output = C>>(
    open: impl Fn(RedisOptions) -> F + Send + Sync + 'static,
) -> ShopFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let search = TantivyOptions::memory().writer_memory(15_000_000);
    let search = TantivySearch::open(search).await.unwrap();
    let server = test_servers::redis();
    let caches = move |_| {
        let mut options = RedisOptions::from_url(&server.url).unwrap();
        options.prefix.clone_from(&server.prefix);
        // The suite tests what is correct, not how soon, on machines that are busy.
        options.timeout = Duration::from_secs(5);
        let opened = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(open(options)));
        Arc::new(opened) as Arc<dyn Cache>
    };
    ShopFixture::new(storage, search, Box::new(caches), dir)
}

async fn on_redis() -> ShopFixture {
    shop(async |options| RedisCache::open(options).await.unwrap()).await
}

async fn in_two_tiers() -> ShopFixture {
    shop(async |redis| {
        let cache = TieredCache::open(TieredOptions { redis, memory: MemoryCacheOptions::default() }).await.unwrap();
        while !cache.holds_in_process() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cache
    })
    .await
}

mod redis {
    ecom_core::shop_cache_suite!(crate::on_redis);
}

mod tiered {
    ecom_core::shop_cache_suite!(crate::in_two_tiers);
}

/// Returns the builder of a shop from URLs, as a process of a deployment uses it.
fn process(directory: &std::path::Path, cache: &str) -> ecom::ShopBuilder {
    on_files(directory).cache(cache)
}

/// As [`process`], without a choice of the cache.
fn on_files(directory: &std::path::Path) -> ecom::ShopBuilder {
    ecom::ShopBuilder::new()
        .database(format!("sqlite://{}", directory.join("shop.db").display()))
        .search("tantivy::memory:")
}

fn lamp() -> ProductInput {
    serde_json::from_value(serde_json::json!({ "title": "Lamp", "price": "9.99" })).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_concurrent_misses_in_two_processes_load_once() {
    let server = test_servers::redis();
    let mut redis = RedisOptions::from_url(&server.url).unwrap();
    redis.prefix.clone_from(&server.prefix);
    (redis.timeout, redis.load_wait) = (Duration::from_secs(5), Duration::from_secs(5));
    let open = async |tiered: bool| -> Arc<dyn Cache> {
        let redis = redis.clone();
        if tiered {
            let memory = MemoryCacheOptions::default();
            let cache = TieredCache::open(TieredOptions { redis, memory }).await.unwrap();
            Arc::new(cache) as Arc<dyn Cache>
        } else {
            Arc::new(RedisCache::open(redis).await.unwrap())
        }
    };
    for tiered in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let caches = [open(tiered).await, open(tiered).await];
        let build = |cache: &Arc<dyn Cache>| on_files(dir.path()).with_cache(cache.clone()).build();
        let (one, two) = (build(&caches[0]).await.unwrap(), build(&caches[1]).await.unwrap());
        let id = one.products().create(&lamp()).await.unwrap().id;
        let statements = || one.storage().statements() + two.storage().statements();
        let forget = async || {
            for cache in &caches {
                cache.clear().await.unwrap();
            }
        };
        // Once before, for connections that are opened late.
        for shop in [&one, &two] {
            forget().await;
            shop.products().get(id).await.unwrap();
        }
        forget().await;
        let before = statements();
        one.products().get(id).await.unwrap();
        let load = statements() - before;
        assert!(load > 0);
        forget().await;
        let before = statements();
        let mut readers = tokio::task::JoinSet::new();
        for shop in [&one, &two].into_iter().cycle().take(64) {
            let shop = shop.clone();
            readers.spawn(async move { shop.products().get(id).await.unwrap().value.title.clone() });
        }
        assert!(readers.join_all().await.iter().all(|title| title == "Lamp"));
        assert_eq!(statements() - before, load, "tiered {tiered}: one load for all readers of both processes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shops_on_one_redis_are_told_apart_by_their_databases() {
    let server = test_servers::redis();
    let url = format!("{}?prefix={}&timeout_ms=5000", server.url, server.prefix);
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (process(a.path(), &url).build().await.unwrap(), process(b.path(), &url).build().await.unwrap());
    a.products().create(&lamp()).await.unwrap();
    assert_eq!(a.products().get_by_slug("lamp").await.unwrap().value.title, "Lamp");
    assert!(b.products().get_by_slug("lamp").await.is_err(), "it is in the other shop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shop_opens_and_works_without_its_redis_and_not_with_a_wrong_password() {
    let mut server = test_servers::Server::with(test_servers::Kind::Redis, &["requirepass=open-sesame"]).await;
    let dir = tempfile::tempdir().unwrap();
    for scheme in ["", "tiered+"] {
        let wrong = format!("{scheme}redis://:hunter2@127.0.0.1:{}", server.port());
        let error = process(dir.path(), &wrong).build().await.unwrap_err();
        let ecom::Error::Validation(fields) = &error else { panic!("{error:?}") };
        assert_eq!(fields.0[0].field, "cache");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    server.kill9().await;
    let shop = process(dir.path(), &format!("tiered+{}", server.url())).build().await.unwrap();
    let id = shop.products().create(&lamp()).await.unwrap().id;
    assert_eq!(shop.products().get(id).await.unwrap().value.title, "Lamp");
    let health = shop.health(Duration::from_secs(5)).await;
    assert!(health.can_serve() && !health.is_whole(), "{health:?}");
    server.start().await;
    let start = std::time::Instant::now();
    while !shop.health(Duration::from_secs(5)).await.is_whole() {
        assert!(start.elapsed() < Duration::from_secs(120), "the shop does not use Redis again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shop.products().get(id).await.unwrap().value.title, "Lamp");
}
