//! The behaviour suites of the storage ports on PostgreSQL, each test in a database of its own.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use ecom_core::money::Currency;
use ecom_core::port::Storage as _;
use ecom_core::testkit::StorageFixture;
use ecom_storage::{ServerOptions, SqlStorage};

async fn database() -> StorageFixture {
    let database = test_servers::postgres().await;
    let mut options = ServerOptions::from_url(&database.url).unwrap();
    // Many tests share the server.
    options.max_connections = 8;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    StorageFixture::new(storage, database.guard)
}

ecom_core::storage_suite!(crate::database);
