//! The behaviour suites of the storage ports, on a file and in memory.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use ecom_core::money::Currency;
use ecom_core::port::Storage;
use ecom_core::testkit::StorageFixture;
use ecom_storage::{SqlStorage, SqliteOptions};

async fn file() -> StorageFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    StorageFixture::new(storage, dir)
}

async fn memory() -> StorageFixture {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    StorageFixture::new(storage, ())
}

mod on_a_file {
    ecom_core::storage_suite!(crate::file);
}

mod in_memory {
    ecom_core::storage_suite!(crate::memory);
}
