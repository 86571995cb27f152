//! On SQLite: orders that are flushed to disk against orders that are not, and orders on one SKU against random SKUs.

use std::sync::Arc;

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::port::NoCache;

use super::{CALLERS, ROUNDS, audit, hot, place, prices, spread};
use crate::support::{pair, shop_on};

pub async fn run() {
    println!("orders: two lines each, from {CALLERS} tasks at once, on one SQLite file");
    let open = |durable: bool| async move {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = SqliteOptions::file(dir.path().join("shop.db"));
        options.durable = durable;
        let storage = SqlStorage::sqlite(options).expect("a database");
        shop_on(storage, Arc::new(NoCache), 1_000, dir).await
    };
    let (durable, fast) = (open(true).await, open(false).await);
    let (skus, fast_skus) = (prices(&durable).await, prices(&fast).await);
    pair(
        "orders, against orders that are not flushed to disk",
        "0.6",
        ROUNDS,
        async || place(&durable, &skus, spread).await,
        async || place(&fast, &fast_skus, spread).await,
    )
    .await;
    pair(
        "orders on one SKU, against random SKUs",
        "0.9",
        ROUNDS,
        async || place(&durable, &skus, hot).await,
        async || place(&durable, &skus, spread).await,
    )
    .await;
    audit(&durable.shop).await;
}
