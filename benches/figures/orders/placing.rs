//! Places orders of two lines from many callers at once. `benches/peers` uses this file too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::id::SkuId;
use ecom::money::Decimal;
use ecom::sales::{DeliveryMethod, GuestInput, OrderInput, OrderLineInput};

use crate::support::Bench;

// The path is relative to this folder, also where `benches/peers` includes this file.
#[path = "choice.rs"]
mod choice;

pub use choice::{CALLERS, Choice, SECONDS, number, spread};

pub const ROUNDS: usize = 7;

/// SKUs with the prices at which they are sold.
pub type Prices = Arc<Vec<(SkuId, Decimal)>>;

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

/// The same SKU for all orders.
pub const fn hot(_: usize, _: usize) -> (usize, usize) {
    (0, 0)
}

/// Places orders for some seconds.
pub async fn place(b: &Bench, prices: &Prices, choose: Choice) -> (u64, Duration) {
    let prices = prices.clone();
    place_each(b, move |n| {
        let (first, second) = choose(n, prices.len());
        order(&prices, first, second)
    })
    .await
}

/// Places orders for some seconds. `make` makes an order from a number, which is different for each.
pub async fn place_each(
    b: &Bench,
    make: impl Fn(usize) -> OrderInput + Clone + Send + Sync + 'static,
) -> (u64, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..CALLERS {
        let (shop, make) = (b.shop.clone(), make.clone());
        set.spawn(async move {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                shop.orders().place(&make(number(task, n))).await.expect("an order");
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
    let guest = GuestInput::new("Grace", "Hopper", "grace@example.com");
    OrderInput::for_guest(guest, DeliveryMethod::OnHand).line(line(prices, first)).line(line(prices, second))
}

/// Returns a line for one piece of a SKU.
pub fn line(prices: &Prices, at: usize) -> OrderLineInput {
    OrderLineInput::new(prices[at].0, 1, prices[at].1)
}

/// Checks that nothing was oversold or lost.
pub async fn audit(shop: &ecom::Shop) {
    let report = shop.audit().run().await.expect("an audit");
    assert!(report.is_clean(), "{:?}", report.findings.first());
    println!("  (audit of {} orders: clean)", report.orders);
}
