//! A product by id with its SKUs and prices, in process: from cache against a bare moka get of an `Arc`, and from
//! SQLite against rusqlite on the calling thread, with the same statement and as much decoded.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ecom::Shop;
use ecom::catalog::Product;
use ecom::id::ProductId;
use uuid::Uuid;

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

/// The product that a plain program would build from the statement's rows, with as much in it as that of the shop.
#[derive(Debug, Default)]
struct Plain {
    texts: Vec<Option<String>>,
    numbers: Vec<i64>,
    ids: Vec<Uuid>,
    tags: Vec<String>,
    images: Vec<PlainImage>,
    attributes: serde_json::Map<String, serde_json::Value>,
    options: BTreeMap<String, String>,
    categories: Vec<(i64, Uuid, String, String, String)>,
}

#[derive(Debug, serde::Deserialize)]
#[expect(dead_code, reason = "read so that the driver decodes it")]
struct PlainImage {
    url: String,
    alt: Option<String>,
}

/// The positions of the columns of the statement, by their kind.
struct Columns {
    json: HashMap<&'static str, Vec<usize>>,
    categories: usize,
    others: Vec<usize>,
}

impl Columns {
    fn of(statement: &rusqlite::Statement<'_>) -> Self {
        let names = statement.column_names();
        let mut json = HashMap::new();
        for name in ["tags", "images", "attributes", "option_values"] {
            let at = |n: &(usize, &&str)| (*n.1 == name).then_some(n.0);
            json.insert(name, names.iter().enumerate().filter_map(|n| at(&n)).collect::<Vec<_>>());
        }
        // The expression has no name that is one word.
        let categories = names.iter().position(|n| n.contains('(')).expect("the categories");
        let is_other = |n: &usize| *n != categories && !json.values().any(|at| at.contains(n));
        let others = (0..names.len()).filter(is_other).collect();
        Self { json, categories, others }
    }
}

/// A connection as a plain program opens it, with the settings that the shop has.
fn open(b: &Bench) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(b.dir.path().join("shop.db")).expect("a connection");
    conn.pragma_update(None, "mmap_size", 256 << 20).expect("a setting");
    conn.pragma_update(None, "cache_size", -16_384).expect("a setting");
    conn
}

/// Reads a product with rusqlite on the calling thread.
fn read_plainly(conn: &rusqlite::Connection, text: &str, columns: &Columns, id: Uuid) -> Vec<Plain> {
    let mut statement = conn.prepare_cached(text).expect("a statement");
    let rows = statement.query_map([id.as_bytes().as_slice()], |row| plain(row, columns)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn plain(row: &rusqlite::Row<'_>, columns: &Columns) -> rusqlite::Result<Plain> {
    use rusqlite::types::ValueRef;
    let mut plain = Plain::default();
    for at in &columns.others {
        match row.get_ref(*at)? {
            ValueRef::Null => plain.texts.push(None),
            ValueRef::Integer(number) => plain.numbers.push(number),
            ValueRef::Text(text) => plain.texts.push(Some(std::str::from_utf8(text).expect("a text").to_owned())),
            ValueRef::Blob(id) => plain.ids.push(Uuid::from_slice(id).expect("an id")),
            ValueRef::Real(_) => unreachable!("no column is a float"),
        }
    }
    plain.tags = json(row, columns.json["tags"][0])?;
    plain.images = json(row, columns.json["images"][0])?;
    plain.attributes = json(row, columns.json["attributes"][0])?;
    plain.options = json(row, columns.json["option_values"][0])?;
    plain.categories = json(row, columns.categories)?;
    Ok(plain)
}

fn json<T: serde::de::DeserializeOwned + Default>(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(at)?.as_str_or_null().expect("a text");
    Ok(text.map_or_else(T::default, |text| serde_json::from_str(text).expect("JSON")))
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
                            let conn = open(b);
                            let columns = Columns::of(&conn.prepare(text).expect("a statement"));
                            for i in 0..N {
                                let id = ids[(i + t * 97) % ids.len()].0;
                                black_box(read_plainly(&conn, text, &columns, id));
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
