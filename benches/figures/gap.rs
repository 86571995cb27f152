//! The longest gap of a task that ticks every millisecond while others use the same runtime: how long work on SQLite
//! keeps a thread of the runtime.

use std::hint::black_box;
use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::catalog::{ImportOptions, ProductFilter, ProductListQuery, ProductSort};
use ecom::paging::Paging;
use ecom::port::NoCache;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::import;
use crate::orders::{Prices, place, prices, spread};
use crate::support::{Bench, fresh, shop_on, tasks};

const PRODUCTS: usize = 20_000;

pub fn run() {
    println!("gap: a task that ticks every millisecond, on a runtime with work on a SQLite file (synchronous = FULL)");
    for (name, runtime) in [("2 threads", Builder::new_multi_thread()), ("1 thread", Builder::new_current_thread())] {
        let mut runtime = runtime;
        on(name, &runtime.worker_threads(2).enable_all().build().expect("a runtime"));
    }
}

fn on(name: &str, runtime: &Runtime) {
    let (b, prices) = runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
        let b = Arc::new(shop_on(storage, Arc::new(NoCache), PRODUCTS, dir).await);
        let prices = prices(&b).await;
        (b, prices)
    });
    let loads: [(&str, Load); 4] = [
        ("nothing", idle),
        ("8 tasks read by id", reads),
        ("64 tasks place orders", orders),
        ("lists and an import", long),
    ];
    for (what, load) in loads {
        let (b, prices) = (b.clone(), prices.clone());
        let gaps = runtime.block_on(async move {
            let stop = Arc::new(AtomicBool::new(false));
            let ticker = tokio::spawn(tick(stop.clone()));
            load(b, prices).await;
            stop.store(true, Ordering::Relaxed);
            ticker.await.expect("gaps")
        });
        // Of a thousand gaps, how many are longer.
        let except = |longer: usize| gaps[gaps.len() - 1 - gaps.len() * longer / 1_000] * 1e3;
        let (longest, p999, p99) = (except(0), except(1), except(10));
        println!("{name}, {what}: the longest gap {longest:.1} ms, p99.9 {p999:.1} ms, p99 {p99:.1} ms");
    }
}

/// Returns the times between ticks, in seconds and in order, until it is stopped.
async fn tick(stop: Arc<AtomicBool>) -> Vec<f64> {
    let mut interval = tokio::time::interval(Duration::from_millis(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    let (mut gaps, mut last) = (Vec::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        interval.tick().await;
        gaps.push(last.elapsed().as_secs_f64());
        last = Instant::now();
    }
    gaps.sort_by(f64::total_cmp);
    gaps
}

/// Starts the work that the runtime does beside the ticks.
type Load = fn(Arc<Bench>, Prices) -> Work;
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

fn idle(_: Arc<Bench>, _: Prices) -> Work {
    Box::pin(tokio::time::sleep(Duration::from_secs(2)))
}

fn reads(b: Arc<Bench>, _: Prices) -> Work {
    Box::pin(async move { tasks(&b, 8, 20_000, fresh).await })
}

fn orders(b: Arc<Bench>, prices: Prices) -> Work {
    Box::pin(async move {
        place(&b, &prices, spread).await;
    })
}

/// Pages far from the beginning of a list, which take long, while an import writes.
fn long(b: Arc<Bench>, _: Prices) -> Work {
    Box::pin(async move {
        let mut set = JoinSet::new();
        for task in 0..4 {
            let shop = b.shop.clone();
            set.spawn(async move {
                for i in 0..100_u64 {
                    let offset = 15_000 + 40 * i + task;
                    let query = ProductListQuery {
                        filter: ProductFilter::default(),
                        sort: ProductSort::TitleAsc,
                        paging: Paging::Offset { offset, limit: 100 },
                    };
                    black_box(shop.products().list(&query).await.expect("a page"));
                }
            });
        }
        let options = ImportOptions::default().source("bench").batch(1_000);
        let report = b.shop.import().products(Cursor::new(import::records(5_000)), options, |_| ()).await;
        assert_eq!(report.expect("an import").rejected, 0);
        set.join_all().await;
    })
}
