//! The rules of the services, over the embedded adapters in two sets: all of them, and the least; and over each
//! database server that is built in.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::sync::Arc;

use ecom_core::port::NoCache;
use ecom_core::port::Storage as _;
use ecom_core::testkit::shop::ShopFixture;
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};

async fn index() -> TantivySearch {
    let options = TantivyOptions { writer_memory: 15_000_000, ..TantivyOptions::memory() };
    TantivySearch::open(options).await.unwrap()
}

async fn whole() -> ShopFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let caches = |clock| {
        let options = MemoryCacheOptions { clock: Some(clock), ..MemoryCacheOptions::default() };
        Arc::new(MemoryCache::new(options)) as _
    };
    ShopFixture::new(storage, index().await, Box::new(caches), dir)
}

async fn least() -> ShopFixture {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    ShopFixture::new(storage, index().await, Box::new(|_| Arc::new(NoCache)), ())
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn server(database: test_servers::TestDatabase) -> ShopFixture {
    let mut options = ecom_storage::ServerOptions::from_url(&database.url).unwrap();
    // Many tests share the server.
    options.max_connections = 8;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let caches = |clock| {
        let options = MemoryCacheOptions { clock: Some(clock), ..MemoryCacheOptions::default() };
        Arc::new(MemoryCache::new(options)) as _
    };
    ShopFixture::new(storage, index().await, Box::new(caches), database.guard)
}

#[cfg(feature = "postgres")]
async fn on_postgres() -> ShopFixture {
    server(test_servers::postgres().await).await
}

#[cfg(feature = "mysql")]
async fn on_mysql() -> ShopFixture {
    server(test_servers::mysql().await).await
}

#[cfg(feature = "postgres")]
mod postgres {
    ecom_core::shop_suite!(crate::on_postgres);
}

#[cfg(feature = "mysql")]
mod mysql {
    ecom_core::shop_suite!(crate::on_mysql);
}

mod file_with_cache {
    ecom_core::shop_suite!(crate::whole);
}

mod memory_without_cache {
    ecom_core::shop_suite!(crate::least);
}
