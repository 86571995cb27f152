//! The behaviour suites of the storage ports, on a file and in memory; that of transactions also over short ones, behind
//! a wrapper.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod releases;

use ecom_core::Result;
use ecom_core::money::Currency;
use ecom_core::port::{ForwardRepositories, ForwardStorage, ForwardUnitOfWork, Repositories, Storage, UnitOfWork};
use ecom_core::testkit::StorageFixture;
use ecom_storage::{SqlStorage, SqliteOptions};

async fn file() -> StorageFixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    releases::record(&storage);
    StorageFixture::new(storage, dir)
}

async fn memory() -> StorageFixture {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    releases::record(&storage);
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
    releases::record(&storage);
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

#[tokio::test]
async fn the_statements_of_the_release_before_run_on_this_schema() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    SqlStorage::sqlite(SqliteOptions::file(&path)).unwrap().migrate(Currency::USD).await.unwrap();
    let database = rusqlite::Connection::open(&path).unwrap();
    let required = "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c \
                    WHERE t.type = 'table' AND c.\"notnull\" = 1 AND c.dflt_value IS NULL AND c.hidden = 0 \
                    AND NOT (c.pk = 1 AND upper(c.type) = 'INTEGER')";
    let mut required = database.prepare(required).unwrap();
    let required = required.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let required: Vec<(String, String)> = required.collect::<rusqlite::Result<_>>().unwrap();
    let mut wrong = Vec::new();
    for statement in releases::recorded("sqlite") {
        let mut errors = releases::unset_columns(&required, &statement.text);
        errors.extend(database.prepare(&statement.text).err().map(|e| e.to_string()));
        if !errors.is_empty() {
            wrong.push((statement, errors.join("; ")));
        }
    }
    releases::assert_served(&wrong);
}
