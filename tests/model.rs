//! Random histories of the catalog against the model of the testkit: the same seed leaves the same state on every
//! database.
//!
//! `ECOM_MODEL_OPS` says how many operations, on every database; `ECOM_MODEL_SEED` replays a failure. With nothing said,
//! 100,000 on SQLite in memory and on each server, and a tenth of them on SQLite on a file: ten minutes on two cores.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "testkit"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::catalog::Sku;
use ecom_core::common::Deleted;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::Currency;
use ecom_core::paging::{Page, Paging};
use ecom_core::port::{
    CategoryRepository, Connection, InventoryRepository, NoCache, OutboxRepository, PoolStatus, ProductRepository,
    Repositories, SkuRepository, Storage, TouchedProduct, UnitOfWork,
};
use ecom_core::stock::{StockImbalance, StockLevel, StockMovement};
use ecom_core::testkit::model::{self, Divergence, Options, Report, run};
use ecom_core::testkit::shop::MakeCache;
use ecom_core::text::Slug;
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};
use tokio::sync::Semaphore;

/// Operations of one shop: enough for a catalog to grow, few enough that its lists stay quick to compare.
const OPERATIONS_PER_SHOP: u64 = 5_000;

fn said(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?.into_string().unwrap();
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// A fresh database, and what its shop caches with.
struct Fixture {
    storage: Arc<dyn Storage>,
    caches: MakeCache,
    _guard: Box<dyn Any + Send>,
}

fn cached(storage: SqlStorage, guard: impl Any + Send) -> Fixture {
    let caches = |clock| {
        Arc::new(MemoryCache::new(MemoryCacheOptions { clock: Some(clock), ..MemoryCacheOptions::default() })) as _
    };
    Fixture { storage: Arc::new(storage), caches: Box::new(caches), _guard: Box::new(guard) }
}

async fn sqlite_memory() -> Fixture {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    Fixture { storage: Arc::new(storage), caches: Box::new(|_| Arc::new(NoCache)), _guard: Box::new(()) }
}

async fn sqlite_file() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    cached(storage, dir)
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn server(database: test_servers::TestDatabase) -> Fixture {
    let mut options = ecom_storage::ServerOptions::from_url(&database.url).unwrap();
    // Many shops share the server.
    options.max_connections = 4;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    cached(storage, database.guard)
}

type Make = fn() -> Pin<Box<dyn Future<Output = Fixture> + Send>>;

/// The databases of this build; the first is the one that the others are compared with.
fn backends() -> Vec<(&'static str, Make)> {
    vec![
        ("sqlite in memory", || Box::pin(sqlite_memory())),
        ("sqlite on a file", || Box::pin(sqlite_file())),
        #[cfg(feature = "postgres")]
        ("postgres", || Box::pin(async { server(test_servers::postgres().await).await })),
        #[cfg(feature = "mysql")]
        ("mysql", || Box::pin(async { server(test_servers::mysql().await).await })),
    ]
}

/// Every shop runs on every database, and ends the same.
#[test]
fn r01_to_r17_the_same_seed_leaves_the_same_state_on_every_database() {
    let operations = said("ECOM_MODEL_OPS").unwrap_or(100_000);
    // A new one each time; who replays one shop says its seed.
    let seed = said("ECOM_MODEL_SEED").unwrap_or_else(|| {
        use std::hash::{BuildHasher as _, RandomState};
        RandomState::new().hash_one("seed") >> 16
    });
    println!("ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}");
    ecom_core::testkit::run(async move {
        // More than there are cores: a shop on a server mostly waits for it.
        let turns = Arc::new(Semaphore::new(8));
        let mut running = tokio::task::JoinSet::new();
        for shop in 0..operations.div_ceil(OPERATIONS_PER_SHOP) {
            let operations = OPERATIONS_PER_SHOP.min(operations - shop * OPERATIONS_PER_SHOP);
            let options = Options { seed: seed + shop, operations, check_every: 500 };
            for (name, make) in backends() {
                let every = match name {
                    "sqlite on a file" if said("ECOM_MODEL_OPS").is_none() => 10,
                    _ => 1,
                };
                if shop % every != 0 {
                    continue;
                }
                let turns = turns.clone();
                running.spawn(async move {
                    let _turn = turns.acquire().await.unwrap();
                    let start = Instant::now();
                    let fixture = make().await;
                    let report = run(fixture.storage.clone(), &fixture.caches, &options).await;
                    fixture.storage.close().await;
                    (name, options, report, start.elapsed())
                });
            }
        }
        let mut digests: BTreeMap<u64, BTreeMap<&str, String>> = BTreeMap::new();
        let mut spent: BTreeMap<&str, (u64, std::time::Duration)> = BTreeMap::new();
        let (mut done, mut refused) = (BTreeMap::new(), BTreeMap::new());
        while let Some(ended) = running.join_next().await {
            let (name, options, report, time) = ended.unwrap();
            let report: Report = report.unwrap_or_else(|divergence| panic!("{name}: {divergence}"));
            digests.entry(options.seed).or_default().insert(name, report.digest);
            let spent = spent.entry(name).or_default();
            *spent = (spent.0 + options.operations, spent.1 + time);
            for (kind, n) in report.done {
                *done.entry(kind).or_insert(0) += n;
            }
            for (kind, n) in report.refused {
                *refused.entry(kind).or_insert(0) += n;
            }
        }
        println!("{spent:?}\ndone: {done:?}\nrefused: {refused:?}");
        let mut compared = 0;
        for (seed, digests) in digests {
            let different: BTreeSet<&String> = digests.values().collect();
            assert_eq!(different.len(), 1, "ECOM_MODEL_SEED={seed}: the states differ: {digests:?}");
            compared += digests.len() - 1;
        }
        assert!(compared >= backends().len() - 1, "the databases were not compared");
        // A history in which nothing happens proves nothing.
        if operations >= 20_000 {
            let codes: BTreeSet<&str> = refused.keys().map(|(_, code)| *code).collect();
            for code in [
                "NOT_FOUND",
                "VALIDATION_FAILED",
                "VERSION_CONFLICT",
                "VERSION_REQUIRED",
                "DUPLICATE",
                "CATEGORY_CYCLE",
                "CATEGORY_NOT_EMPTY",
                "INSUFFICIENT_STOCK",
                "STATE_CONFLICT",
                "FLAT_WRITE_REFUSED",
                "CURRENCY_MISMATCH",
            ] {
                assert!(codes.contains(code), "nothing was refused as {code}: {refused:?}");
            }
            for name in model::operations() {
                assert!(done.contains_key(name), "{name} was never done: {done:?}");
            }
        }
    });
}

/// Half a history is the beginning of a whole one, and another seed is another history.
#[test]
fn a_seed_replays_its_history() {
    ecom_core::testkit::run(async {
        let digest = async |seed, operations| {
            let f = sqlite_memory().await;
            let options = Options { seed, operations, check_every: 100 };
            run(f.storage, &f.caches, &options).await.unwrap()
        };
        let first = digest(5, 400).await;
        assert_eq!(first, digest(5, 400).await);
        assert_ne!(first.digest, digest(6, 400).await.digest);
        assert_ne!(first.digest, digest(5, 399).await.digest);
    });
}

// ---------------------------------------------------------------- controls that are wrong on purpose

/// What a storage does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing.
    None,
    /// The 50th change of stock is acknowledged and not written.
    LosesAnAdjustment,
    /// Codes of SKUs are compared as they are written.
    MindsCase,
    /// The 50th change of stock is written twice.
    CountsTwice,
}

#[derive(Debug)]
struct Faulty {
    storage: SqlStorage,
    fault: Fault,
    applied: Arc<AtomicU64>,
}

struct Wrong<T> {
    inner: T,
    fault: Fault,
    applied: Arc<AtomicU64>,
}

impl Faulty {
    fn wrap<T>(&self, inner: T) -> Wrong<T> {
        Wrong { inner, fault: self.fault, applied: self.applied.clone() }
    }
}

#[async_trait]
impl Storage for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn connect(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(self.wrap(self.storage.connect().await?)))
    }

    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(self.wrap(self.storage.begin().await?)))
    }

    async fn migrate(&self, currency: Currency) -> Result<()> {
        self.storage.migrate(currency).await
    }

    fn currency(&self) -> Option<Currency> {
        self.storage.currency()
    }

    async fn identity(&self) -> Result<uuid::Uuid> {
        self.storage.identity().await
    }

    async fn ping(&self) -> Result<()> {
        self.storage.ping().await
    }

    fn pool_status(&self) -> PoolStatus {
        self.storage.pool_status()
    }

    fn statements(&self) -> u64 {
        self.storage.statements()
    }

    async fn close(&self) {
        self.storage.close().await;
    }
}

macro_rules! wrong_repositories {
    ($inner:ty) => {
        impl Repositories for Wrong<$inner> {
            fn products(&mut self) -> Box<dyn ProductRepository + '_> {
                self.inner.products()
            }

            fn categories(&mut self) -> Box<dyn CategoryRepository + '_> {
                self.inner.categories()
            }

            fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
                Box::new(Wrong { inner: self.inner.skus(), fault: self.fault, applied: self.applied.clone() })
            }

            fn inventory(&mut self) -> Box<dyn InventoryRepository + '_> {
                Box::new(Wrong { inner: self.inner.inventory(), fault: self.fault, applied: self.applied.clone() })
            }

            fn outbox(&mut self) -> Box<dyn OutboxRepository + '_> {
                self.inner.outbox()
            }
        }
    };
}

wrong_repositories!(Box<dyn Connection>);
wrong_repositories!(Box<dyn UnitOfWork>);

impl Connection for Wrong<Box<dyn Connection>> {}

#[async_trait]
impl UnitOfWork for Wrong<Box<dyn UnitOfWork>> {
    async fn commit(self: Box<Self>) -> Result<()> {
        self.inner.commit().await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.inner.rollback().await
    }
}

#[async_trait]
impl InventoryRepository for Wrong<Box<dyn InventoryRepository + '_>> {
    async fn levels(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>> {
        self.inner.levels(ids).await
    }

    async fn lock(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>> {
        self.inner.lock(ids).await
    }

    async fn apply(&mut self, movements: &[StockMovement]) -> Result<Vec<TouchedProduct>> {
        let n = self.applied.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::LosesAnAdjustment if n == 50 => Ok(Vec::new()),
            Fault::CountsTwice if n == 50 => {
                let touched = self.inner.apply(movements).await?;
                let twice: Vec<StockMovement> = movements
                    .iter()
                    .map(|m| StockMovement { id: uuid::Uuid::from_u128(m.id.0.as_u128() + 1).into(), ..m.clone() })
                    .collect();
                self.inner.apply(&twice).await?;
                Ok(touched)
            }
            _ => self.inner.apply(movements).await,
        }
    }

    async fn movements(&mut self, sku: SkuId, paging: &Paging) -> Result<Page<StockMovement>> {
        self.inner.movements(sku, paging).await
    }

    async fn count_movements(&mut self, sku: SkuId) -> Result<u64> {
        self.inner.count_movements(sku).await
    }

    async fn imbalances(&mut self) -> Result<Vec<StockImbalance>> {
        self.inner.imbalances().await
    }
}

#[async_trait]
impl SkuRepository for Wrong<Box<dyn SkuRepository + '_>> {
    async fn get(&mut self, id: SkuId, deleted: Deleted) -> Result<Option<Sku>> {
        self.inner.get(id, deleted).await
    }

    async fn get_by_code(&mut self, code: &str) -> Result<Option<Sku>> {
        let found = self.inner.get_by_code(code).await?;
        Ok(found.filter(|s| self.fault != Fault::MindsCase || s.code == code))
    }

    async fn find_by_barcode(&mut self, barcode: &str) -> Result<Vec<Sku>> {
        self.inner.find_by_barcode(barcode).await
    }

    async fn find_by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId, ProductId)>> {
        self.inner.find_by_codes(codes).await
    }

    async fn taken_codes(&mut self, bases: &[Slug]) -> Result<std::collections::HashSet<String>> {
        self.inner.taken_codes(bases).await
    }

    async fn of_product(&mut self, product: ProductId, deleted: Deleted) -> Result<Vec<Sku>> {
        self.inner.of_product(product, deleted).await
    }

    async fn insert(&mut self, skus: &[Sku], opening: &[StockMovement]) -> Result<()> {
        self.inner.insert(skus, opening).await
    }

    async fn update(&mut self, before: &Sku, after: &Sku) -> Result<()> {
        self.inner.update(before, after).await
    }

    async fn purge(&mut self, id: SkuId) -> Result<()> {
        self.inner.purge(id).await
    }
}

async fn with_fault(fault: Fault) -> std::result::Result<Report, Divergence> {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let storage = Arc::new(Faulty { storage, fault, applied: Arc::default() });
    let caches: MakeCache = Box::new(|_| Arc::new(NoCache));
    run(storage, &caches, &Options { seed: 7, operations: 2_000, check_every: 500 }).await
}

/// The model must find each defect, and say where; and find none where there is none.
#[test]
fn r11_the_model_finds_a_storage_that_is_wrong_on_purpose() {
    ecom_core::testkit::run(async {
        with_fault(Fault::None).await.unwrap();
        for fault in [Fault::LosesAnAdjustment, Fault::MindsCase, Fault::CountsTwice] {
            let found = with_fault(fault).await.expect_err(&format!("{fault:?} is not found"));
            println!("{fault:?}: {found}");
            assert!(found.operations > 50 || fault == Fault::MindsCase, "{fault:?}: {found}");
            assert!(found.to_string().contains("ECOM_MODEL_SEED=7 ECOM_MODEL_OPS="), "{found}");
            if fault == Fault::MindsCase {
                assert!(found.operation.starts_with("read SKU by code"), "{found}");
            }
        }
    });
}
