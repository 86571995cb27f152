//! Orders and reads of products on SQLite, through the shop and through other libraries, as the figures of
//! `docs/figures.md` do: a run measures two sides in turn, several times, each on a file of its own in the same folder.
//!
//! Orders have two lines each, are placed by 64 callers at once, and are flushed to disk (`synchronous = FULL`). The
//! shop is compared with plain `rusqlite`, which writes the same rows with one order per commit, and with
//! `stateset-embedded`, another embeddable commerce library. Reads are of a product by id with its SKUs, without a
//! cache, and are compared with `stateset-embedded`. It is a program of its own, in the folder `stateset`.
//!
//! `benches/peers/run` builds both programs and prints the ratios. With `--once`, each pair is measured once, to see
//! whether it can be measured at all.

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
use std::time::Instant;

use ecom::adapters::{SqlStorage, SqliteOptions};
use ecom::port::NoCache;

use placing::{CALLERS, ROUNDS, audit, place, prices, spread};
use plain::Plain;
use stateset::Peer;
use support::{Bench, fresh, pair, shop_on, tasks};

const PRODUCTS: usize = 1_000;
/// The number of reads that each task and each thread makes.
const READS: usize = 20_000;

// All sides use the allocator of the reference server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("ecom-peers PROGRAM [--once]: PROGRAM is that of the folder `stateset`; see benches/peers/run");
        std::process::exit(2);
    };
    for argument in arguments {
        assert_eq!(argument, "--once", "the only option");
        support::measure_once();
    }
    println!("peers: products by id, and orders of two lines each from {CALLERS} callers at once");
    println!("  (the shop and the plain program run on SQLite {})", rusqlite::version());
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

    let mut peer = Peer::start(&program, &dir.path().join("peer.db"), &skus);

    for (what, n) in [("1 task against 1 thread", 1), ("8 tasks against 8 threads", 8)] {
        pair(
            &format!("a product by id, against stateset-embedded 1.40, {what}"),
            "more than 1",
            ROUNDS,
            async || {
                let start = Instant::now();
                tasks(&b, n, READS, fresh).await;
                ((n * READS) as u64, start.elapsed())
            },
            async || peer.read(n, READS),
        )
        .await;
    }
    pair(
        "orders, against rusqlite with one order per commit",
        "2",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || plain.place(spread).await,
    )
    .await;
    pair(
        "orders, against stateset-embedded 1.40",
        "2.5",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || peer.place(),
    )
    .await;
    peer.close();
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
