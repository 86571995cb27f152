//! The behaviour suites of the storage ports, on a file and in memory; that of transactions also over short ones, behind
//! a wrapper.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

use ecom_core::Result;
use ecom_core::money::Currency;
use ecom_core::port::{ForwardRepositories, ForwardStorage, ForwardUnitOfWork, Repositories, Storage, UnitOfWork};
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

/// A wrapper that changes nothing but the length of transactions: all of them are short, and share commits.
#[derive(Debug)]
struct Short(SqlStorage);

#[async_trait::async_trait]
impl ForwardStorage for Short {
    fn inner(&self) -> &dyn Storage {
        &self.0
    }
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(ShortUnit(self.0.begin_short().await?)))
    }
}

struct ShortUnit(Box<dyn UnitOfWork>);

impl ForwardRepositories for ShortUnit {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.0
    }
}

#[async_trait::async_trait]
impl ForwardUnitOfWork for ShortUnit {
    fn unit(&mut self) -> &mut dyn UnitOfWork {
        &mut *self.0
    }
    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork> {
        self.0
    }
}

async fn short() -> StorageFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    StorageFixture::new(Short(storage), dir)
}

mod on_a_file {
    ecom_core::storage_suite!(crate::file);
}

mod in_memory {
    ecom_core::storage_suite!(crate::memory);
}

mod short_on_a_file {
    ecom_core::unit_of_work_suite!(crate::short);
}
