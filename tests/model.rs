//! Random histories of the catalog, compared with the model of the testkit: the same seed leaves the same state on
//! every database.
//!
//! Each run has a new seed, which it prints. A failure prints the values of `ECOM_MODEL_SEED` and `ECOM_MODEL_OPS` that
//! replay it.
//!
//! `ECOM_MODEL_OPS` sets how many operations each database runs. The default is 10,000 on SQLite in memory, enough for
//! every operation to occur, and 5,000 on SQLite in a file and on each server. Before a release, run
//! `ECOM_MODEL_OPS=1000000`. `ECOM_MODEL_DATABASE`, such as `memory`, restricts the run to the databases whose name
//! contains it.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "testkit"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::catalog::Sku;
use ecom_core::money::Currency;
use ecom_core::port::{
    Connection, ForwardInventory, ForwardRepositories, ForwardSkus, ForwardStorage, ForwardUnitOfWork,
    InventoryRepository, NoCache, Repositories, SkuRepository, Storage, TouchedProduct, UnitOfWork,
};
use ecom_core::stock::StockMovement;
use ecom_core::testkit::model::{self, Divergence, Options, Report, run};
use ecom_core::testkit::shop::MakeCache;
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};
use tokio::sync::Semaphore;

/// Operations of one shop: enough for the catalog to grow, and few enough that its lists are quick to compare.
const OPERATIONS_PER_SHOP: u64 = 5_000;

fn said(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?.into_string().unwrap();
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// A new database, and the cache of its shop.
struct Fixture {
    storage: Arc<dyn Storage>,
    caches: MakeCache,
    _guard: Box<dyn Any + Send>,
}

fn cached(storage: SqlStorage, guard: impl Any + Send) -> Fixture {
    let caches = |clock| Arc::new(MemoryCache::new(MemoryCacheOptions::default().clock(clock))) as _;
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

/// Returns the databases of this build whose name contains `ECOM_MODEL_DATABASE`. The others are compared with the first
/// one.
fn backends() -> Vec<(&'static str, Make)> {
    let all: Vec<(&'static str, Make)> = vec![
        ("sqlite in memory", || Box::pin(sqlite_memory())),
        ("sqlite on a file", || Box::pin(sqlite_file())),
        #[cfg(feature = "postgres")]
        ("postgres", || Box::pin(async { server(test_servers::postgres().await).await })),
        #[cfg(feature = "mysql")]
        ("mysql", || Box::pin(async { server(test_servers::mysql().await).await })),
    ];
    let wanted = std::env::var_os("ECOM_MODEL_DATABASE").and_then(|name| name.into_string().ok()).unwrap_or_default();
    let some: Vec<_> = all.into_iter().filter(|(name, _)| name.contains(&wanted)).collect();
    assert!(!some.is_empty(), "no database of this build is named ECOM_MODEL_DATABASE={wanted}");
    some
}

/// Every shop runs on every database, and ends in the same state.
#[test]
fn r01_to_r17_the_same_seed_leaves_the_same_state_on_every_database() {
    let operations = said("ECOM_MODEL_OPS").unwrap_or(10_000);
    // A new seed for each run. Set the seed to replay one shop.
    let seed = said("ECOM_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed") >> 16);
    println!("ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}");
    ecom_core::testkit::run(async move {
        // More than there are cores, because a shop on a server mostly waits for it.
        let turns = Arc::new(Semaphore::new(8));
        let mut running = tokio::task::JoinSet::new();
        let mut shops: HashMap<tokio::task::Id, (&str, Options)> = HashMap::new();
        for shop in 0..operations.div_ceil(OPERATIONS_PER_SHOP) {
            let operations = OPERATIONS_PER_SHOP.min(operations - shop * OPERATIONS_PER_SHOP);
            let options = Options { seed: seed + shop, operations, check_every: 500 };
            for (name, make) in backends() {
                // By default, the databases that take longer run the first shop only.
                if shop > 0 && name != "sqlite in memory" && said("ECOM_MODEL_OPS").is_none() {
                    continue;
                }
                let turns = turns.clone();
                let task = running.spawn(async move {
                    let _turn = turns.acquire().await.unwrap();
                    let start = Instant::now();
                    let fixture = make().await;
                    let report = run(fixture.storage.clone(), &fixture.caches, &options).await;
                    fixture.storage.close().await;
                    (name, options, report, start.elapsed())
                });
                shops.insert(task.id(), (name, options));
            }
        }
        let mut digests: BTreeMap<(u64, u64), BTreeMap<&str, String>> = BTreeMap::new();
        let mut spent: BTreeMap<&str, (u64, std::time::Duration)> = BTreeMap::new();
        let (mut done, mut refused) = (BTreeMap::new(), BTreeMap::new());
        while let Some(ended) = running.join_next().await {
            let (name, options, report, time) = ended.unwrap_or_else(|panicked| {
                let (name, Options { seed, operations, .. }) = shops[&panicked.id()];
                panic!("{name}: {panicked}\nreplay it with ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}")
            });
            let report: Report = report.unwrap_or_else(|divergence| panic!("{name}: {divergence}"));
            digests.entry((options.seed, options.operations)).or_default().insert(name, report.digest);
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
        for ((seed, operations), digests) in digests {
            let different: BTreeSet<&String> = digests.values().collect();
            let replay = format!("replay it with ECOM_MODEL_SEED={seed} ECOM_MODEL_OPS={operations}");
            assert_eq!(different.len(), 1, "the states differ: {digests:?}\n{replay}");
            compared += digests.len() - 1;
        }
        assert!(compared >= backends().len() - 1, "the databases were not compared");
        // A long history without any of these operations proves nothing.
        if spent.values().any(|(operations, _)| *operations >= 10_000) {
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
                "STOCK_NOT_TRACKED",
                "STATE_CONFLICT",
                "FLAT_WRITE_REFUSED",
                "CURRENCY_MISMATCH",
                "PRICE_MISMATCH",
                "ORDER_STATUS_CONFLICT",
                "BILL_FROZEN",
                "HAS_SALES",
                "CART_ORDERED",
                "CART_MERGED",
            ] {
                assert!(codes.contains(code), "nothing was refused as {code}: {refused:?}");
            }
            for name in model::operations() {
                assert!(done.contains_key(name), "{name} was never done: {done:?}");
            }
        }
    });
}

/// Half of a history is the beginning of the whole, and another seed makes another history.
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

/// The figures of analytics are those of a direct computation, on every database.
///
/// `ECOM_MODEL_HISTORIES` sets how many orders have a history on each database. The default is 1,000 on SQLite in
/// memory, and fewer on the others, which take longer.
#[test]
fn r46_analytics_equal_a_direct_computation_over_random_histories_of_orders() {
    let histories = said("ECOM_MODEL_HISTORIES");
    let seed = said("ECOM_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed") >> 16);
    println!("ECOM_MODEL_SEED={seed}");
    ecom_core::testkit::run(async move {
        let mut running = tokio::task::JoinSet::new();
        for (name, make) in backends() {
            let histories = histories.unwrap_or(if name == "sqlite in memory" { 1_000 } else { 150 });
            running.spawn(async move {
                let start = Instant::now();
                let fixture = make().await;
                let done = model::sales_histories(fixture.storage.clone(), histories, seed).await;
                fixture.storage.close().await;
                let replay = format!("replay it with ECOM_MODEL_SEED={seed} ECOM_MODEL_HISTORIES={histories}");
                let changes = done.unwrap_or_else(|what| panic!("{name}: {what}\n{replay}"));
                println!("{name}: {histories} histories, {changes:?}, {:.1?}", start.elapsed());
                // A run without one of the changes proves nothing about it. Some are too rare for a short run.
                assert!(histories < 1_000 || changes.values().all(|n| *n > 0), "{name}: {changes:?}");
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    });
}

// ---------------------------------------------------------------- controls that are wrong on purpose

/// A defect of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// No defect.
    None,
    /// The 50th change of stock is acknowledged and not written.
    LosesAnAdjustment,
    /// SKU codes are compared with their case.
    MindsCase,
    /// The 50th change of stock is written twice.
    CountsTwice,
}

/// A defect, and how often stock has changed.
#[derive(Clone, Debug)]
struct Defect {
    fault: Fault,
    applied: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Faulty(SqlStorage, Defect);

/// A connection, a unit of work or a repository with a defect.
struct Wrong<T>(T, Defect);

#[async_trait]
impl ForwardStorage for Faulty {
    fn inner(&self) -> &dyn Storage {
        &self.0
    }

    async fn connect(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(Wrong(self.0.connect().await?, self.1.clone())))
    }

    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(Wrong(self.0.begin().await?, self.1.clone())))
    }
}

impl ForwardRepositories for Wrong<Box<dyn Connection>> {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.0
    }

    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        Box::new(Wrong(self.0.skus(), self.1.clone()))
    }
}

impl Connection for Wrong<Box<dyn Connection>> {}

impl ForwardRepositories for Wrong<Box<dyn UnitOfWork>> {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.0
    }

    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        Box::new(Wrong(self.0.skus(), self.1.clone()))
    }

    fn inventory(&mut self) -> Box<dyn InventoryRepository + '_> {
        Box::new(Wrong(self.0.inventory(), self.1.clone()))
    }
}

impl ForwardUnitOfWork for Wrong<Box<dyn UnitOfWork>> {
    fn unit(&mut self) -> &mut dyn UnitOfWork {
        &mut *self.0
    }

    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork> {
        self.0
    }
}

#[async_trait]
impl ForwardInventory for Wrong<Box<dyn InventoryRepository + '_>> {
    fn inner(&mut self) -> &mut dyn InventoryRepository {
        &mut *self.0
    }

    async fn apply(&mut self, movements: &[StockMovement]) -> Result<Vec<TouchedProduct>> {
        let n = self.1.applied.fetch_add(1, Ordering::Relaxed);
        match self.1.fault {
            Fault::LosesAnAdjustment if n == 50 => Ok(Vec::new()),
            Fault::CountsTwice if n == 50 => {
                let touched = self.0.apply(movements).await?;
                let twice: Vec<StockMovement> = movements
                    .iter()
                    .map(|m| StockMovement { id: uuid::Uuid::from_u128(m.id.0.as_u128() + 1).into(), ..m.clone() })
                    .collect();
                self.0.apply(&twice).await?;
                Ok(touched)
            }
            _ => self.0.apply(movements).await,
        }
    }
}

#[async_trait]
impl ForwardSkus for Wrong<Box<dyn SkuRepository + '_>> {
    fn inner(&mut self) -> &mut dyn SkuRepository {
        &mut *self.0
    }

    async fn get_by_code(&mut self, code: &str) -> Result<Option<Sku>> {
        let found = self.0.get_by_code(code).await?;
        Ok(found.filter(|s| self.1.fault != Fault::MindsCase || s.code == code))
    }
}

async fn with_fault(fault: Fault) -> std::result::Result<Report, Divergence> {
    let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let storage = Arc::new(Faulty(storage, Defect { fault, applied: Arc::default() }));
    let caches: MakeCache = Box::new(|_| Arc::new(NoCache));
    run(storage, &caches, &Options { seed: 7, operations: 2_000, check_every: 500 }).await
}

/// The model must find each defect and report where, and must find none in a storage without a defect.
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
