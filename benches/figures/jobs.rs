//! Jobs: how many that do nothing two workers run in a second, and what it costs to enqueue one in the transaction of
//! an order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::async_trait;
use ecom::platform::{JobError, JobHandler, JobQueue, JobRun, NewJob};
use ecom::port::{NoCache, NoSearch, Storage};
use ecom::{Shop, ShopConfig, ShopParts};

use crate::orders::{Prices, order, prices, spread};
use crate::support::{Bench, median, pair, rounds, shop_on};

/// The jobs of a round, and the number of workers.
const JOBS: usize = 10_000;
const WORKERS: usize = 2;
const ROUNDS: usize = 5;
/// The orders of a round.
const ORDERS: u64 = 300;

/// A handler that does nothing.
#[derive(Debug)]
struct Nothing(Arc<AtomicU64>);

#[async_trait]
impl JobHandler for Nothing {
    async fn run(&self, _: &JobRun) -> Result<(), JobError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Measures jobs on one SQLite file.
pub async fn on_sqlite() {
    println!("jobs: {WORKERS} workers, on one SQLite file that is flushed to disk");
    let dir = tempfile::tempdir().expect("a folder");
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
    run(storage, dir, 2_000).await;
}

/// Measures jobs on a PostgreSQL of its own.
#[cfg(feature = "postgres")]
pub async fn on_postgres() {
    println!("jobs: {WORKERS} workers, on PostgreSQL");
    let server = test_servers::Server::postgres().await;
    let options = ecom::adapters::ServerOptions::from_url(&server.url()).expect("a URL");
    let storage = SqlStorage::server(options).expect("a pool");
    run(storage, tempfile::tempdir().expect("a folder"), 5_000).await;
}

async fn run(storage: SqlStorage, dir: tempfile::TempDir, wanted: u64) {
    let b = shop_on(storage, Arc::new(NoCache), 1_000, dir).await;
    let done = Arc::new(AtomicU64::new(0));
    let process = || {
        let parts = ShopParts::new(b.storage.clone() as Arc<dyn Storage>, Arc::new(NoSearch));
        let job_queues = vec![JobQueue::new("nothing", Nothing(done.clone())).at_once(100)];
        let config = ShopConfig::default().poll_interval(Duration::from_millis(50));
        Shop::new(ShopParts { job_queues, config, ..parts }).expect("a shop")
    };
    let shops: Vec<Shop> = std::iter::repeat_with(process).take(WORKERS).collect();
    let mut rates = Vec::new();
    for _ in 0..rounds(ROUNDS) {
        for _ in 0..JOBS / 500 {
            let mut tx = shops[0].begin().await.expect("a transaction");
            for n in 0..500 {
                let job = NewJob::new("nothing").parameter("n", n);
                shops[0].jobs().enqueue_in(&mut tx, &job).await.expect("a job");
            }
            drop(tx.commit().await.expect("a commit"));
        }
        done.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let running: Vec<_> = shops.iter().map(Shop::start).collect();
        // The list of the queues counts all jobs, so that it is read at the end only.
        while done.load(Ordering::Relaxed) < JOBS as u64 || queued(&shops[0]).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        rates.push(JOBS as f64 / start.elapsed().as_secs_f64());
        for background in running {
            background.shutdown().await;
        }
        assert_eq!(done.load(Ordering::Relaxed), JOBS as u64, "each job runs once");
    }
    let rate = median(&mut rates);
    println!("jobs that do nothing: {rate:.0}/s (from {:.0}); wanted {wanted}/s", rates[0]);
    let skus = prices(&b).await;
    let enqueuer = &shops[0];
    pair(
        "orders that enqueue a job in their transaction, against orders that do not",
        "0.9",
        ROUNDS,
        async || place(&b, &skus, Some(enqueuer)).await,
        async || place(&b, &skus, None).await,
    )
    .await;
}

/// Returns the number of jobs that have not ended.
async fn queued(shop: &Shop) -> u64 {
    let queues = shop.jobs().queues().await.expect("the queues");
    let nothing = queues.iter().find(|queue| queue.kind.as_str() == "nothing").expect("the queue");
    nothing.jobs["queued"] + nothing.jobs["running"]
}

/// Places orders one after the other, each in a transaction of its own, which may also enqueue a job.
async fn place(b: &Bench, skus: &Prices, jobs: Option<&Shop>) -> (u64, Duration) {
    let start = Instant::now();
    for n in 0..ORDERS {
        let (first, second) = spread(usize::try_from(n).expect("a small number"), skus.len());
        let mut tx = b.shop.begin().await.expect("a transaction");
        let placed = b.shop.orders().place_in(&mut tx, &order(skus, first, second)).await.expect("an order");
        if let Some(shop) = jobs {
            let job = NewJob::new("nothing").parameter("order", placed.id.to_string());
            shop.jobs().enqueue_in(&mut tx, &job).await.expect("a job");
        }
        tx.commit().await.expect("a commit").run().await;
    }
    (ORDERS, start.elapsed())
}
