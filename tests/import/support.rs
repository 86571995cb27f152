//! Shops, records, input files and dead letters that the tests of imports share.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ecom::catalog::{Category, Product, ProductFilter, ProductSort};
use ecom::catalog::{DeadLetters, ImportOptions, ImportReport, ProductListQuery};
use ecom::common::IncludeDeleted;
use ecom::paging::Paging;
use ecom::{Shop, ShopBuilder};
use serde_json::{Value, json};

/// Dead letters in memory.
#[derive(Clone, Default)]
pub struct Letters(Arc<Mutex<Vec<u8>>>);

impl Write for Letters {
    fn write(&mut self, b: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(b);
        Ok(b.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Letters {
    pub fn read(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap();
        bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    pub fn options(&self) -> ImportOptions {
        ImportOptions::default().dead_letters(DeadLetters::Writer(Box::new(self.clone())))
    }
}

/// Makes a test of each function for each database that is compiled in. [`shop`] opens a shop on that database.
macro_rules! on_each_database {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::support::on($crate::support::Database::Sqlite, super::$test()).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::support::on($crate::support::Database::Postgres, super::$test()).await;
            })*
        }

        #[cfg(feature = "mysql")]
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::support::on($crate::support::Database::MySql, super::$test()).await;
            })*
        }
    };
}

/// A database that the tests run on.
#[derive(Clone, Copy)]
pub enum Database {
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
    #[cfg(feature = "mysql")]
    MySql,
}

/// The database of a test, and what keeps those that it has made.
struct Place {
    database: Database,
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    guards: Mutex<Vec<test_servers::DatabaseGuard>>,
}

tokio::task_local! {
    static PLACE: Place;
}

/// Runs a test on a database.
pub async fn on(database: Database, test: impl Future<Output = ()>) {
    let place = Place {
        database,
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        guards: Mutex::default(),
    };
    PLACE.scope(place, test).await;
}

/// Returns the URL of a new database, on the server of the test.
#[cfg_attr(
    not(any(feature = "postgres", feature = "mysql")),
    expect(clippy::unused_async, reason = "servers are waited for")
)]
async fn url() -> String {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    let kept = |made: test_servers::TestDatabase| {
        PLACE.with(|place| place.guards.lock().unwrap().push(made.guard));
        made.url
    };
    match PLACE.with(|place| place.database) {
        Database::Sqlite => "sqlite::memory:".to_owned(),
        #[cfg(feature = "postgres")]
        Database::Postgres => {
            let migrate = async |url: &str| ShopBuilder::new().database(url).migrate().await.unwrap();
            kept(test_servers::postgres_with_tables(migrate).await)
        }
        #[cfg(feature = "mysql")]
        Database::MySql => kept(test_servers::mysql().await),
    }
}

/// Returns the builder of a shop on a new database.
pub async fn builder() -> ShopBuilder {
    ShopBuilder::new().database(url().await).search("tantivy::memory:")
}

pub async fn shop() -> Shop {
    builder().await.build().await.unwrap()
}

pub async fn products(shop: &Shop, text: impl Into<Vec<u8>>, options: ImportOptions) -> ImportReport {
    shop.import().products(Cursor::new(text.into()), options, |_| {}).await.unwrap()
}

/// Imports, and returns the report with its dead letters.
pub async fn import(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = products(shop, text, letters.options()).await;
    (report, letters.read())
}

pub async fn import_categories(shop: &Shop, text: impl Into<Vec<u8>>) -> (ImportReport, Vec<Value>) {
    let letters = Letters::default();
    let report = shop.import().categories(Cursor::new(text.into()), letters.options(), |_| {}).await.unwrap();
    (report, letters.read())
}

pub fn counts(r: &ImportReport) -> [u64; 5] {
    assert_eq!(r.read, r.inserted + r.updated + r.unchanged + r.rejected, "{r:?}");
    [r.read, r.inserted, r.updated, r.unchanged, r.rejected]
}

pub fn data(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    let found = std::fs::read(path).ok();
    if found.is_none() {
        println!("SKIPPED: ../shared/data/{name} is not here");
    }
    found
}

pub fn sample(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sample").join(name)).unwrap()
}

pub async fn all_products(shop: &Shop) -> Vec<Product> {
    let query = ProductListQuery {
        filter: ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() },
        sort: ProductSort::CreatedAsc,
        paging: Paging::Offset { offset: 0, limit: 1_000 },
    };
    let mut all: Vec<Product> =
        shop.products().list(&query).await.unwrap().page.items.iter().map(|p| (***p).clone()).collect();
    all.sort_by_key(|p| p.id);
    all
}

pub async fn tree(shop: &Shop) -> Vec<Category> {
    shop.storage().connect().await.unwrap().categories().tree().await.unwrap()
}

pub async fn outbox_head(shop: &Shop) -> ecom::platform::OutboxPosition {
    shop.events().head().await.unwrap()
}

pub async fn assert_balanced(shop: &Shop) {
    let off = shop.storage().connect().await.unwrap().inventory().imbalances().await.unwrap();
    assert!(off.is_empty(), "R11: {off:?}");
}

pub fn find<'a>(all: &'a [Product], external_id: &str) -> &'a Product {
    all.iter().find(|p| p.external.as_ref().is_some_and(|x| x.external_id == external_id)).unwrap()
}

pub fn record(id: u32) -> Value {
    json!({"id": id, "title": format!("Thing {id}"), "category": "things", "price": 9.99, "stock": 5,
           "sku": format!("SKU-{id}")})
}

pub fn lines(records: &[Value]) -> String {
    records.iter().flat_map(|r| [r.to_string(), "\n".to_owned()]).collect()
}

pub fn fields(letter: &Value) -> Vec<String> {
    letter["fields"].as_array().unwrap().iter().map(|f| f["field"].as_str().unwrap().to_owned()).collect()
}
