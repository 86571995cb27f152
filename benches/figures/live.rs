//! Live events: how long after the commit of a write a subscription has its event, in the process that wrote and in
//! another one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::money::Currency;
use ecom::platform::{LiveFilter, LiveMessage};
use ecom::port::{NoCache, NoSearch, Storage};
use ecom::stock::{StockAdjustment, StockReason};
use ecom::{Shop, ShopConfig, ShopParts};

use crate::support::{Bench, rounds, shop_on};

/// The subscriptions that wait for each event.
const SUBSCRIPTIONS: usize = 100;
/// The events of a run.
const EVENTS: usize = 200;
/// How long a run waits for an event before it fails.
const LIMIT: Duration = Duration::from_secs(60);

pub async fn run() {
    println!("live: {SUBSCRIPTIONS} subscriptions, on one SQLite file, with the default settings");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("shop.db");
    let open = || SqlStorage::sqlite(SqliteOptions::file(&path)).expect("a database");
    let b = shop_on(open(), Arc::new(NoCache), 20, dir).await;
    latency("in the process that writes", "100 ms", &b, &b.shop, 40).await;
    // Another process has its own connections, and learns of writes from the log alone.
    let other: Arc<dyn Storage> = Arc::new(open());
    other.migrate(Currency::USD).await.expect("a schema");
    let reader = Shop::new(ShopParts::new(other, Arc::new(NoSearch))).expect("a shop");
    // That process looks for events at intervals, and a write can come at any time between two looks.
    let interval = ShopConfig::default().poll_interval.as_millis();
    latency("in another process", "1 s", &b, &reader, u64::try_from(interval).expect("a short interval")).await;
    reader.close().await;
}

/// Adjusts stock, and measures the time until each subscription of `reader` has the event. The pauses after each event
/// are spread over `interval`, in milliseconds.
async fn latency(what: &str, wanted: &str, b: &Bench, reader: &Shop, interval: u64) {
    let sku = b.shop.products().get(b.products[0]).await.expect("a product").value.skus[0].id;
    let (told, _) = tokio::sync::broadcast::channel::<Instant>(16);
    let (sender, mut times) = tokio::sync::mpsc::unbounded_channel();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..SUBSCRIPTIONS {
        let mut events = reader.live().subscribe(&LiveFilter::default(), None).await.expect("a subscription");
        let (mut written, sender) = (told.subscribe(), sender.clone());
        clients.spawn(async move {
            while let Some(LiveMessage::Event(_)) = events.next().await {
                let arrived = Instant::now();
                // The event can be faster than the answer of the call that wrote it.
                let Ok(committed) = written.recv().await else { return };
                if sender.send(arrived.saturating_duration_since(committed)).is_err() {
                    return;
                }
            }
        });
    }
    let mut all = Vec::new();
    for n in 0..rounds(EVENTS).max(20) {
        let adjustment = StockAdjustment::new(sku, 1, StockReason::Received);
        b.shop.inventory().adjust(adjustment).await.expect("an adjustment");
        told.send(Instant::now()).expect("the clients listen");
        for _ in 0..SUBSCRIPTIONS {
            let time = tokio::time::timeout(LIMIT, times.recv()).await;
            all.push(time.expect("each subscription gets each event").expect("a time"));
        }
        tokio::time::sleep(Duration::from_millis(n as u64 * 37 % interval)).await;
    }
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
    println!("  {what}: p50 {:.1?}, p99 {:.1?}, longest {:.1?}; wanted p99 under {wanted}", at(50), at(99), at(100));
}
