//! Orders of two lines from 64 callers at once, on SQLite with `synchronous = FULL`: through the shop, with plain
//! `rusqlite`, which writes the same rows with one order per commit, and with `stateset-embedded`, another embeddable
//! commerce library. Each has a file of its own in the same folder. A run measures two sides in turn, several times, as
//! the figures of `docs/figures.md` do.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml` prints the ratios. With `-- --once`, each pair is
//! measured once, to see whether it can be measured at all.

#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

#[path = "../../figures/orders/placing.rs"]
#[expect(dead_code, reason = "the figures use the rest")]
mod placing;
mod plain;
mod rows;
mod stateset;
#[path = "../../figures/support.rs"]
#[expect(dead_code, reason = "the figures use the rest")]
mod support;

use std::path::Path;
use std::sync::Arc;

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::port::NoCache;

use placing::{CALLERS, ROUNDS, audit, place, prices, spread};
use plain::Plain;
use stateset::Peer;
use support::{Bench, pair, shop_on};

const PRODUCTS: usize = 1_000;

// All sides use the allocator of the reference server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    if std::env::args().any(|a| a == "--once") {
        support::measure_once();
    }
    println!("peers: orders of two lines each, from {CALLERS} callers at once, on SQLite {}", rusqlite::version());
    let dir = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (dir.path().join("shop.db"), dir.path().join("plain.db"));
    let b = create(&ours).await;
    let skus = prices(&b).await;
    // The file of the plain program is made by the shop as well.
    let made = create(&theirs).await;
    let plain_skus = prices(&made).await;
    made.shop.close().await;
    let plain = Plain::open(&theirs, &plain_skus);
    rows::check(&b, &skus, &ours, &plain, &theirs).await;

    pair(
        "orders, against rusqlite with one order per commit",
        "2",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || plain.place(spread).await,
    )
    .await;
    let peer = Peer::open(&dir.path().join("peer.db"), &skus);
    pair(
        "orders, against stateset-embedded 1.40",
        "2.5",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || peer.place(spread).await,
    )
    .await;
    peer.check();
    audit(&b.shop).await;
    // The shop finds nothing wrong with the orders of the plain program either.
    plain.close();
    let shop = ecom::ShopBuilder::new()
        .database(format!("sqlite://{}", theirs.display()))
        .search("none")
        .build()
        .await
        .expect("a shop");
    audit(&shop).await;
}

/// Creates a shop on a file, whose commits are flushed to disk.
async fn create(path: &Path) -> Bench {
    let storage = SqlStorage::sqlite(SqliteOptions::file(path)).expect("a database");
    shop_on(storage, Arc::new(NoCache), PRODUCTS, tempfile::tempdir().expect("a folder")).await
}
