//! A product by id with its SKUs and prices, in process: from cache against a bare moka get of an `Arc`, and from
//! SQLite against rusqlite on the calling thread, with the same statement and as much decoded.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ecom::Shop;
use ecom::catalog::Product;
use ecom::id::ProductId;
use uuid::Uuid;

use crate::plain::{self, Columns};
use crate::support::{Bench, fresh, pair, shop, tasks};

pub async fn run() {
    println!("read: a product by id, in process");
    let b = shop(1_000).await;
    cached(&b).await;
    stored(&b).await;
    threads(&b).await;
}

async fn cached(b: &Bench) {
    const N: usize = 1_000_000;
    let bare: moka::sync::Cache<Uuid, Arc<Product>> = moka::sync::Cache::new(100_000);
    for id in &b.products {
        let p = b.shop.products().get(*id).await.expect("a product");
        bare.insert(id.0, Arc::new((**p.value).clone()));
    }
    pair(
        "by id from cache, against a bare moka get",
        "0.5",
        7,
        async || {
            let start = Instant::now();
            for i in 0..N {
                let id = b.products[i % b.products.len()];
                black_box(b.shop.products().get(id).await.expect("a product"));
            }
            (N as u64, start.elapsed())
        },
        async || {
            let start = Instant::now();
            for i in 0..N {
                let id = b.products[i % b.products.len()];
                black_box(bare.get(&id.0).expect("a product"));
            }
            (N as u64, start.elapsed())
        },
    )
    .await;
}

/// Measures reads of the shop from SQLite against rusqlite on the calling thread: one task against one thread, and
/// eight against eight.
async fn stored(b: &Bench) {
    const N: usize = 20_000;
    let text = b.storage.product_text();
    for (what, n) in [("1 task against 1 thread", 1), ("8 tasks against 8 threads", 8)] {
        pair(
            &format!("by id from SQLite, against rusqlite with the same statement, {what}"),
            "0.7",
            7,
            async || {
                let start = Instant::now();
                tasks(b, n, N, fresh).await;
                ((n * N) as u64, start.elapsed())
            },
            async || {
                let ids = &b.products;
                let start = Instant::now();
                std::thread::scope(|threads| {
                    for t in 0..n {
                        threads.spawn(move || {
                            let conn = plain::open(b);
                            let columns = Columns::of(&conn.prepare(text).expect("a statement"));
                            for i in 0..N {
                                let id = ids[(i + t * 97) % ids.len()].0;
                                black_box(plain::read(&conn, text, &columns, [id.as_bytes().as_slice()]));
                            }
                        });
                    }
                });
                ((n * N) as u64, start.elapsed())
            },
        )
        .await;
    }
}

async fn from_cache(shop: Shop, id: ProductId) {
    black_box(shop.products().get(id).await.expect("a product"));
}

/// Prints the rates of one task and of eight, from cache, for comparison with other shops.
async fn threads(b: &Bench) {
    const N: usize = 500_000;
    for (name, n) in [("1 task", 1), ("8 tasks", 8)] {
        let start = Instant::now();
        tasks(b, n, N, from_cache).await;
        let rate = (N * n) as f64 / start.elapsed().as_secs_f64();
        println!("by id from cache, {name}: {rate:.0}/s");
    }
}
