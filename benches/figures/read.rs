//! A product by id with its SKUs and prices, in process: from cache against a bare moka get of an `Arc`, and from
//! SQLite against plain sqlx with the same statement.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ecom::catalog::Product;
use ecom::common::IncludeDeleted;
use sqlx::{ConnectOptions as _, Row as _};
use uuid::Uuid;

use crate::support::{Bench, pair, shop};

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

/// The value that a plain program would build from the statement's rows.
#[derive(Debug)]
#[expect(dead_code, reason = "read so that the driver decodes it")]
struct Plain {
    texts: Vec<Option<String>>,
    numbers: Vec<Option<i64>>,
    id: Uuid,
    sku: Option<Uuid>,
}

async fn stored(b: &Bench) {
    const N: usize = 20_000;
    let text = b.storage.product_text();
    let mut conn = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(b.dir.path().join("shop.db"))
        .read_only(true)
        .connect()
        .await
        .expect("a connection");
    pair(
        "by id from SQLite, against plain sqlx on one connection",
        "0.7",
        7,
        async || {
            let start = Instant::now();
            for i in 0..N {
                let id = b.products[i % b.products.len()];
                black_box(b.shop.products().get_fresh(id, IncludeDeleted::No).await.expect("a product"));
            }
            (N as u64, start.elapsed())
        },
        async || {
            let start = Instant::now();
            for i in 0..N {
                let id = b.products[i % b.products.len()].0;
                let rows = sqlx::query(text).bind(id).fetch_all(&mut conn).await.expect("rows");
                black_box(rows.iter().map(plain).collect::<Vec<_>>());
            }
            (N as u64, start.elapsed())
        },
    )
    .await;
}

fn plain(r: &sqlx::sqlite::SqliteRow) -> Plain {
    const TEXTS: [usize; 17] = [1, 2, 3, 4, 6, 7, 8, 10, 11, 15, 16, 20, 21, 24, 28, 29, 30];
    const NUMBERS: [usize; 17] = [5, 9, 12, 13, 14, 17, 18, 19, 22, 23, 27, 31, 32, 36, 37, 38, 42];
    Plain {
        id: r.get(0),
        sku: r.get(25),
        texts: TEXTS.iter().map(|i| r.get(*i)).collect(),
        numbers: NUMBERS.iter().map(|i| r.get(*i)).collect(),
    }
}

/// Measures one thread and eight, from cache and from the database, for comparison with other shops.
async fn threads(b: &Bench) {
    for (name, tasks) in [("1 task", 1), ("8 tasks", 8)] {
        for cached in [true, false] {
            let n = if cached { 500_000 } else { 10_000 };
            let start = Instant::now();
            let mut set = tokio::task::JoinSet::new();
            for t in 0..tasks {
                let (shop, ids) = (b.shop.clone(), b.products.clone());
                set.spawn(async move {
                    for i in 0..n {
                        let id = ids[(i + t * 97) % ids.len()];
                        if cached {
                            black_box(shop.products().get(id).await.expect("a product"));
                        } else {
                            black_box(shop.products().get_fresh(id, IncludeDeleted::No).await.expect("a product"));
                        }
                    }
                });
            }
            set.join_all().await;
            let rate = (n * tasks) as f64 / start.elapsed().as_secs_f64();
            println!("by id, {name}, {}: {rate:.0}/s", if cached { "from cache" } else { "from SQLite" });
        }
    }
}
