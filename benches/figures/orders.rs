//! Orders of two lines from 64 tasks at once. Each comparison runs in turn on one database that flushes to disk.
//!
//! On PostgreSQL, orders through the library are compared with pgbench: with a function on the server that writes the
//! same rows with one order per commit, and with a textbook transaction that writes far fewer rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::id::SkuId;
use ecom::money::Decimal;
use ecom::port::NoCache;
use ecom::sales::{DeliveryMethod, GuestInput, OrderInput, OrderLineInput};

use crate::support::{Bench, pair, shop_on};

const TASKS: usize = 64;
const SECONDS: u64 = 3;
const ROUNDS: usize = 5;

/// SKUs with the prices at which they are sold.
pub type Prices = Arc<Vec<(SkuId, Decimal)>>;

pub async fn run() {
    println!("orders: two lines each, from {TASKS} tasks at once, on one SQLite file");
    let open = |durable: bool| async move {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = SqliteOptions::file(dir.path().join("shop.db"));
        options.durable = durable;
        let storage = SqlStorage::sqlite(options).expect("a database");
        shop_on(storage, Arc::new(NoCache), 1_000, dir).await
    };
    let (durable, fast) = (open(true).await, open(false).await);
    let (prices, fast_prices) = (prices(&durable).await, prices(&fast).await);
    pair(
        "orders, against orders that are not flushed to disk",
        "0.6",
        ROUNDS,
        async || place(&durable, &prices, spread).await,
        async || place(&fast, &fast_prices, spread).await,
    )
    .await;
    pair(
        "orders on one SKU, against random SKUs",
        "0.9",
        ROUNDS,
        async || place(&durable, &prices, hot).await,
        async || place(&durable, &prices, spread).await,
    )
    .await;
    audit(&durable).await;
}

/// Returns the SKUs of the products of a shop.
pub async fn prices(b: &Bench) -> Prices {
    let mut prices = Vec::new();
    for chunk in b.products.chunks(500) {
        for product in b.shop.products().get_many(chunk).await.expect("products") {
            let discount = product.discount;
            prices.extend(product.skus.iter().map(|s| (s.id, s.final_price(discount).amount())));
        }
    }
    Arc::new(prices)
}

/// Returns the places of the two SKUs of an order.
pub type Choice = fn(usize, usize) -> (usize, usize);

/// SKUs that are spread over the catalog.
pub fn spread(n: usize, skus: usize) -> (usize, usize) {
    let mixed = n.wrapping_mul(2_654_435_761) >> 7;
    (mixed % skus, (mixed / 7 + 1) % skus)
}

/// The same SKU for all orders.
pub const fn hot(_: usize, _: usize) -> (usize, usize) {
    (0, 0)
}

/// Places orders for some seconds.
pub async fn place(b: &Bench, prices: &Prices, choose: Choice) -> (u64, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (shop, prices) = (b.shop.clone(), prices.clone());
        set.spawn(async move {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let (first, second) = choose(task * 1_000_003 + n, prices.len());
                let order = order(&prices, first, second);
                shop.orders().place(&order).await.expect("an order");
                n += 1;
            }
            n as u64
        });
    }
    let n: u64 = set.join_all().await.into_iter().sum();
    (n, start.elapsed())
}

/// Returns an order of a guest for two SKUs.
pub fn order(prices: &Prices, first: usize, second: usize) -> OrderInput {
    let guest = GuestInput {
        first_name: "Grace".to_owned(),
        last_name: "Hopper".to_owned(),
        email: "grace@example.com".to_owned(),
        telephone: None,
    };
    let line = |at: usize| OrderLineInput::new(prices[at].0, 1, prices[at].1);
    OrderInput::for_guest(guest, DeliveryMethod::OnHand).line(line(first)).line(line(second))
}

/// Checks that nothing was oversold or lost.
pub async fn audit(b: &Bench) {
    let report = b.shop.audit().run().await.expect("an audit");
    assert!(report.is_clean(), "{:?}", report.findings.first());
    println!("  (audit of {} orders: clean)", report.orders);
}
