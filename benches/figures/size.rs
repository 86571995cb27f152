//! A page of 20 with category and price filter, sorted by price, with 1,000,000 products against 10,000, on each
//! database: the first and the last page by cursor. This run starts its own servers, which flush to disk.
//!
//! The library creates the first 10,000 products. The others are copies of them, made in SQL, with their own ids,
//! slugs, codes and prices.

use std::time::Instant;

use ecom::adapters::{ServerOptions, SqlStorage, SqliteOptions};
use ecom::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom::paging::{Keyset, Paging};
use ecom::port::{NoCache, Storage as _};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use test_servers::Server;

use crate::support::{Bench, median, shop_on, usd};

const SMALL: usize = 10_000;
const TIMES: u32 = 100;
const TABLES: [&str; 5] = ["products", "skus", "product_categories", "product_listings", "product_tags"];

/// A kind of database. The server of `MySql` is MariaDB.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
    MySql,
}

pub async fn run() {
    println!("size: a page of 20 by category and price, sorted by price");
    let dir = tempfile::tempdir().expect("a folder");
    for (database, name) in
        [(Database::Sqlite, "SQLite"), (Database::Postgres, "PostgreSQL"), (Database::MySql, "MariaDB")]
    {
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Server::postgres().await),
            Database::MySql => Some(Server::mariadb().await),
        };
        let url = match &server {
            None => format!("sqlite://{}", dir.path().join("shop.db").display()),
            Some(server) => server.url(),
        };
        let storage = match database {
            Database::Sqlite => SqlStorage::sqlite(SqliteOptions::from_url(&url).expect("a URL")),
            _ => SqlStorage::server(ServerOptions::from_url(&url).expect("a URL")),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let b = shop_on(storage.expect("a database"), std::sync::Arc::new(NoCache), SMALL, folder).await;
        settle(database, &url, &TABLES).await;
        let small = measure(&b).await;
        let start = Instant::now();
        copy(database, &url).await;
        settle(database, &url, &TABLES).await;
        println!("  (a million on {name} made in {:.0?})", start.elapsed());
        let large = measure(&b).await;
        println!(
            "{name}, 1,000,000 against 10,000: first page {:.2} ({:.0} µs), last page {:.2} ({:.0} µs); wanted at \
             most 2",
            large.0 / small.0,
            large.0 * 1e6,
            large.1 / small.1,
            large.1 * 1e6,
        );
    }
}

/// Executes statements, each on a connection of its own.
pub async fn execute(url: &str, statements: &[String]) {
    for sql in statements {
        let sql = AssertSqlSafe(sql.clone());
        if url.starts_with("sqlite") {
            let mut c = sqlx::SqliteConnection::connect(url).await.expect("a connection");
            c.execute(sql).await.expect("executed");
        } else if url.starts_with("postgres") {
            let mut c = sqlx::PgConnection::connect(url).await.expect("a connection");
            c.execute(sql).await.expect("executed");
        } else {
            let mut c = sqlx::MySqlConnection::connect(url).await.expect("a connection");
            c.execute(sql).await.expect("executed");
        }
    }
}

/// Updates the statistics and, on PostgreSQL, the visibility map, as an hour of autovacuum would have done.
pub async fn settle(database: Database, url: &str, tables: &[&str]) {
    let statements: Vec<String> = match database {
        Database::Sqlite => vec!["ANALYZE".into(), "PRAGMA wal_checkpoint(TRUNCATE)".into()],
        Database::Postgres => vec!["VACUUM ANALYZE".into(), "CHECKPOINT".into()],
        Database::MySql => tables.iter().map(|t| format!("ANALYZE TABLE {t}")).collect(),
    };
    execute(url, &statements).await;
}

/// Creates 99 copies of every row.
async fn copy(database: Database, url: &str) {
    // The first digits of a UUIDv7 are its time and the same in all rows; the copies differ in these digits.
    let series = match database {
        Database::Postgres => "generate_series(1, 99) AS k(n)",
        _ => "(WITH RECURSIVE k(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM k WHERE n < 99) SELECT n FROM k) k",
    };
    let id = |column: &str| match database {
        Database::Sqlite => {
            format!("unhex(printf('%03X', k.n + 256) || substr(hex({column}), 4))")
        }
        Database::Postgres => {
            format!("overlay(t.{column}::text placing lpad(to_hex(k.n + 256), 3, '0') from 1 for 3)::uuid")
        }
        Database::MySql => format!("UNHEX(INSERT(HEX(t.{column}), 1, 3, LPAD(HEX(k.n + 256), 3, '0')))"),
    };
    let text = |column: &str| match database {
        Database::MySql => format!("CONCAT(t.{column}, '-', k.n)"),
        _ => format!("t.{column} || '-' || k.n"),
    };
    let more = |column: &str| format!("t.{column} + k.n");
    let mut statements = Vec::new();
    for (table, columns, changed) in [
        (
            "products",
            "id title title_key slug description brand brand_key status listing_state tags images attributes discount \
             warranty_information shipping_information rating rating_count rating_source source external_id min_price \
             max_price price_key availability revision created_at updated_at created_by updated_by version deleted_at",
            vec![
                ("id", id("id")),
                ("title", text("title")),
                ("title_key", text("title_key")),
                ("slug", text("slug")),
                ("min_price", more("min_price")),
                ("max_price", more("max_price")),
                ("price_key", more("price_key")),
            ],
        ),
        ("product_categories", "product_id category_id position", vec![("product_id", id("product_id"))]),
        ("product_tags", "product_id tag_key", vec![("product_id", id("product_id"))]),
        (
            "product_listings",
            "category_id product_id direct state price_key rating title_key",
            vec![("product_id", id("product_id")), ("price_key", more("price_key")), ("title_key", text("title_key"))],
        ),
        (
            "skus",
            "id product_id position code code_key option_values attributes price weight width height depth on_hand \
             reserved track_stock low_stock_threshold barcode source external_id created_at updated_at created_by \
             updated_by version deleted_at",
            vec![
                ("id", id("id")),
                ("product_id", id("product_id")),
                ("code", text("code")),
                ("code_key", text("code_key")),
                ("price", more("price")),
            ],
        ),
    ] {
        let columns: Vec<&str> = columns.split_whitespace().collect();
        let values: Vec<String> = columns
            .iter()
            .map(|c| changed.iter().find(|(n, _)| n == c).map_or_else(|| format!("t.{c}"), |(_, v)| v.clone()))
            .collect();
        // The rows are inserted in the order of the copies, so that each chunk is one transaction.
        statements.push(format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {series} CROSS JOIN {table} t",
            columns.join(", "),
            values.join(", "),
        ));
    }
    execute(url, &statements).await;
}

fn filter(b: &Bench) -> ProductFilter {
    ProductFilter {
        category: Some(b.category),
        min_price: Some(usd(2_000)),
        max_price: Some(usd(90_000)),
        status: Some(ProductStatus::Active),
        ..ProductFilter::default()
    }
}

async fn page(b: &Bench, after: Option<Keyset>, limit: u32) -> ecom::paging::Page<ecom::catalog::Product> {
    let mut db = b.storage.connect().await.expect("a connection");
    let paging = Paging::Keyset { after, limit };
    db.products().list(&filter(b), ProductSort::PriceAsc, &paging).await.expect("a page")
}

/// Returns the seconds for the first page and for the last full page, as medians of rounds.
async fn measure(b: &Bench) -> (f64, f64) {
    let mut last = None;
    let mut after = None;
    loop {
        let page = page(b, after.clone(), 100).await;
        match page.next {
            Some(next) => {
                last = after;
                after = Some(next);
            }
            None => break,
        }
    }
    assert!(last.is_some(), "a list of several pages");
    assert_eq!(page(b, last.clone(), 20).await.items.len(), 20);
    let (mut first_times, mut last_times) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        first_times.push(time(b, None).await);
        last_times.push(time(b, last.clone()).await);
    }
    (median(&mut first_times), median(&mut last_times))
}

async fn time(b: &Bench, after: Option<Keyset>) -> f64 {
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(page(b, after.clone(), 20).await);
    }
    start.elapsed().as_secs_f64() / f64::from(TIMES)
}
