//! The rules of the services over the embedded adapters, once with all of them and once with the fewest, and over each
//! database server that is compiled in.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::sync::Arc;
use std::time::Duration;

use ecom_core::money::Currency;
use ecom_core::platform::{Consumer, Event, OutboxPosition};
use ecom_core::port::{NoCache, Storage as _};
use ecom_core::testkit::shop::ShopFixture;
use ecom_core::{Shop, ShopParts};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};
use sqlx::Connection as _;

async fn index() -> TantivySearch {
    let options = TantivyOptions::memory().writer_memory(15_000_000);
    TantivySearch::open(options).await.unwrap()
}

async fn whole() -> ShopFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let caches = |clock| {
        let options = MemoryCacheOptions::default().clock(clock);
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
async fn migrated(url: &str) -> SqlStorage {
    let mut options = ecom_storage::ServerOptions::from_url(url).unwrap();
    // Many tests share the server.
    options.max_connections = 8;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    storage
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn server(database: test_servers::TestDatabase) -> ShopFixture {
    let storage = migrated(&database.url).await;
    let caches = |clock| {
        let options = MemoryCacheOptions::default().clock(clock);
        Arc::new(MemoryCache::new(options)) as _
    };
    ShopFixture::new(storage, index().await, Box::new(caches), database.guard)
}

#[cfg(feature = "postgres")]
async fn on_postgres() -> ShopFixture {
    server(test_servers::postgres_with_tables(migrated).await).await
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

/// Two releases on one database: the older one follows the log past events whose kind only the newer one knows.
#[tokio::test]
async fn r13_consumers_and_the_index_pass_over_events_of_unknown_kinds() {
    #[derive(Debug)]
    struct Mail(std::sync::Mutex<Vec<Event>>);

    #[async_trait::async_trait]
    impl Consumer for Mail {
        fn name(&self) -> &'static str {
            "mail"
        }

        async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), ecom_core::BoxError> {
            self.0.lock().unwrap().extend(batch.iter().map(|(_, event)| event.clone()));
            Ok(())
        }
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let storage = Arc::new(SqlStorage::sqlite(SqliteOptions::file(&path)).unwrap());
    storage.migrate(Currency::USD).await.unwrap();
    let shop = Shop::new(ShopParts::new(storage.clone(), Arc::new(index().await))).unwrap();
    shop.index().catch_up().await.unwrap();
    for name in ["A", "B"] {
        let input = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
        shop.categories().create(&input).await.unwrap();
    }
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::query("UPDATE outbox_events SET kind = 'shipment.sent' WHERE seq = 2").execute(&mut raw).await.unwrap();
    let head = shop.events().head().await.unwrap();
    assert_eq!(head.seq, 2);

    let report = shop.index().catch_up().await.unwrap();
    assert_eq!((report.events, report.rebuilt), (1, false));
    let mut background = shop.start();
    let mail = Arc::new(Mail(std::sync::Mutex::default()));
    background.consume(mail.clone()).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let place = loop {
        let at = sqlx::query_scalar::<_, i64>("SELECT seq FROM outbox_cursors WHERE consumer = 'mail'");
        let at = at.fetch_optional(&mut raw).await.unwrap();
        if at == Some(head.seq) || std::time::Instant::now() > deadline {
            break at;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    background.shutdown().await;
    assert_eq!(place, Some(head.seq), "the position moves past the unknown event");
    assert_eq!(mail.0.lock().unwrap().len(), 1);
    // The same when only the unknown event is left, and when it is trimmed: no consumer has missed anything.
    let mut tx = storage.begin().await.unwrap();
    assert_eq!(tx.outbox().trim(shop.clock().now() + chrono::TimeDelta::days(1)).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert!(!shop.index().catch_up().await.unwrap().rebuilt);
}
