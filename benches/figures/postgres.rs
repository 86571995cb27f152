//! Reads on PostgreSQL without a cache: in process against pgbench with the same statement, and over HTTP against a
//! plain program with the same statement. This run starts its own server, which flushes to disk.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use deadpool_postgres::Pool;
use ecom::adapters::{ServerOptions, SqlStorage};
use ecom::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom::common::IncludeDeleted;
use ecom::paging::Paging;
use ecom::port::{NoCache, Storage as _};
use serde::{Deserialize, Serialize};
use test_servers::Server;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::http::{load_each, once, serve};
use crate::orders;
use crate::support::{Bench, pair, shop_on, usd};

/// The number of tasks, of connections and of pgbench's clients.
const CLIENTS: usize = 64;
const PRICES: (i64, i64) = (2_000, 90_000);
const SECONDS: u64 = 3;
const ROUNDS: usize = 7;

pub async fn run() {
    println!("postgres: without a cache, {CLIENTS} clients");
    let server = Server::postgres().await;
    let mut options = ServerOptions::from_url(&server.url()).expect("a URL");
    options.max_connections = CLIENTS;
    let storage = SqlStorage::server(options).expect("a pool");
    let dir = tempfile::tempdir().expect("a folder");
    let b = Arc::new(shop_on(storage, Arc::new(NoCache), 10_000, dir).await);
    let (maintenance, connection) =
        tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    maintenance.batch_execute("VACUUM ANALYZE").await.expect("statistics");

    let by_id = b.storage.product_text();
    let page = b.storage.list_text(&filter(&b), ProductSort::PriceAsc, &first_page()).expect("a list");
    let ids: Vec<Uuid> = (0..CLIENTS).map(|i| b.products[i * 131 % b.products.len()].0).collect();
    // pgbench turns a variable into a parameter of the prepared statement.
    let by_id_script = by_id.replace("$1", ":id");
    let page_script = page.replace("$1", ":category").replace("$2", ":low").replace("$3", ":high");
    assert!(!page_script.contains('$'), "{page_script}");

    pair(
        "by id in process, against pgbench",
        "0.9",
        ROUNDS,
        async || {
            let (b, ids) = (b.clone(), ids.clone());
            tasks(move |i| {
                let (b, id) = (b.clone(), ecom::id::ProductId(ids[i % ids.len()]));
                async move {
                    black_box(b.shop.products().get_fresh(id, IncludeDeleted::No).await.expect("a product"));
                }
            })
            .await
        },
        async || pgbench(&server, &b, &by_id_script).await,
    )
    .await;
    pair(
        "a page of 20 by category and price in process, against pgbench",
        "0.8",
        ROUNDS,
        async || {
            let b = b.clone();
            tasks(move |_| {
                let b = b.clone();
                async move {
                    let mut db = b.storage.connect().await.expect("a connection");
                    let page = db.products().list(&filter(&b), ProductSort::PriceAsc, &first_page()).await;
                    assert_eq!(black_box(page.expect("a page")).items.len(), 20);
                }
            })
            .await
        },
        async || pgbench(&server, &b, &page_script).await,
    )
    .await;

    orders(&server, &b, &maintenance).await;

    let config = ecom_http::HttpConfig::default().access_log(false);
    let ours = serve(ecom_http::router(b.shop.clone(), config)).await;
    let bare = serve(bare(&server, by_id, page, b.category.0)).await;
    // Each connection requests another product, because the shop loads a product once for simultaneous requests.
    let paths: Vec<String> = ids.iter().map(|id| format!("/api/v1/products/{id}")).collect();
    let list = |low: usize| {
        format!("/api/v1/products?category={}&min_price={low}&max_price=900&sort=price_asc&cursor=", b.category)
    };
    let lists: Vec<String> = (20..20 + CLIENTS).map(list).collect();
    for (what, wanted, paths) in [("by id", "0.8", &paths), ("a page of 20", "0.8", &lists)] {
        println!("  ({} bytes against {})", once(ours, &paths[0]).await.len(), once(bare, &paths[0]).await.len());
        pair(
            &format!("{what} over HTTP, against bare axum, deadpool and tokio-postgres"),
            wanted,
            ROUNDS,
            async || load_each(ours, paths).await,
            async || load_each(bare, paths).await,
        )
        .await;
    }
}

fn filter(b: &Bench) -> ProductFilter {
    ProductFilter {
        category: Some(b.category),
        min_price: Some(usd(PRICES.0)),
        max_price: Some(usd(PRICES.1)),
        status: Some(ProductStatus::Active),
        ..ProductFilter::default()
    }
}

fn first_page() -> Paging {
    Paging::Keyset { after: None, limit: 20 }
}

/// Runs [`CLIENTS`] tasks for some seconds, each of which repeats `one`.
async fn tasks<F>(one: impl Fn(usize) -> F + Clone + Send + 'static) -> (u64, Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for task in 0..CLIENTS {
        let one = one.clone();
        set.spawn(async move {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                one(task).await;
                n += 1;
            }
            n
        });
    }
    let n: u64 = set.join_all().await.into_iter().sum();
    (n, start.elapsed())
}

/// Returns pgbench's rate with a statement that it prepares.
async fn pgbench(server: &Server, b: &Bench, text: &str) -> (u64, Duration) {
    // A single line, because pgbench takes a line that starts with a backslash for a command.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    pgbench_script(server, b, &format!("{line};\n")).await
}

/// Returns pgbench's rate with a script, whose statements it prepares.
async fn pgbench_script(server: &Server, b: &Bench, script: &str) -> (u64, Duration) {
    let program = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL of Debian")
        .map(|d| d.expect("a folder").path().join("bin/pgbench"))
        .filter(|p| p.exists())
        .max()
        .expect("pgbench");
    let mut command = Command::new(program);
    let url = url::Url::parse(&server.url()).expect("a URL");
    command
        .args(["-n", "-M", "prepared", "-j", "2"])
        .args(["-c", &CLIENTS.to_string(), "-T", &SECONDS.to_string()])
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", url.username()]);
    for (name, value) in [
        ("id", b.products[0].to_string()),
        ("category", b.category.to_string()),
        ("low", PRICES.0.to_string()),
        ("high", PRICES.1.to_string()),
    ] {
        command.arg("-D").arg(format!("{name}={value}"));
    }
    let file = b.dir.path().join("script.sql");
    std::fs::write(&file, script).expect("a script");
    command.arg("-f").arg(file);
    command.arg(url.path().trim_start_matches('/'));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("pgbench runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let tps: f64 = text
        .lines()
        .find_map(|l| l.strip_prefix("tps = "))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .expect("a rate");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive rate")]
    (((tps * SECONDS as f64) as u64), Duration::from_secs(SECONDS))
}

#[derive(Clone)]
struct Bare {
    pool: Pool,
    by_id: &'static str,
    page: Arc<str>,
    category: Uuid,
}

#[derive(Deserialize)]
struct Prices {
    min_price: i64,
    max_price: i64,
}

/// A plain program: deadpool, tokio-postgres, and each row as JSON.
fn bare(server: &Server, by_id: &'static str, page: String, category: Uuid) -> Router {
    let config: tokio_postgres::Config = server.url().parse().expect("a URL");
    let manager = deadpool_postgres::Manager::new(config, tokio_postgres::NoTls);
    let pool = Pool::builder(manager).max_size(CLIENTS).build().expect("a pool");
    Router::new()
        .route(
            "/api/v1/products/{id}",
            get(|State(s): State<Bare>, UrlPath(id): UrlPath<Uuid>| async move { rows(&s, s.by_id, &[&id]).await }),
        )
        .route(
            "/api/v1/products",
            get(|State(s): State<Bare>, Query(p): Query<Prices>| async move {
                rows(&s, &s.page, &[&s.category, &(p.min_price * 100), &(p.max_price * 100)]).await
            }),
        )
        .with_state(Bare { pool, by_id, page: page.into(), category })
}

/// The row as a plain program would return it: a product with one of its SKUs.
#[derive(Serialize)]
struct Plain<'r> {
    id: Uuid,
    title: &'r str,
    slug: &'r str,
    description: Option<&'r str>,
    brand: Option<&'r str>,
    tags: &'r serde_json::value::RawValue,
    images: &'r serde_json::value::RawValue,
    attributes: &'r serde_json::value::RawValue,
    numbers: Vec<i64>,
    sku: Option<Uuid>,
}

async fn rows(
    s: &Bare,
    text: &str,
    args: &[&(dyn ToSql + Sync)],
) -> Result<([(axum::http::HeaderName, &'static str); 1], Vec<u8>), StatusCode> {
    let failed = |_: tokio_postgres::Error| StatusCode::SERVICE_UNAVAILABLE;
    let client = s.pool.get().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let statement = client.prepare_cached(text).await.map_err(failed)?;
    let rows = client.query(&statement, args).await.map_err(failed)?;
    let plain: Vec<Plain<'_>> = rows.iter().map(plain).collect();
    let body = serde_json::to_vec(&plain).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(axum::http::header::CONTENT_TYPE, "application/json")], body))
}

fn plain(r: &tokio_postgres::Row) -> Plain<'_> {
    let mut numbers = Vec::with_capacity(16);
    let (mut texts, mut json, mut ids) = (Vec::with_capacity(8), Vec::with_capacity(4), Vec::with_capacity(2));
    for (i, column) in r.columns().iter().enumerate() {
        match column.type_().name() {
            "int8" => numbers.extend(r.get::<_, Option<i64>>(i)),
            "int4" => numbers.extend(r.get::<_, Option<i32>>(i).map(i64::from)),
            "text" => texts.push(r.get::<_, Option<&str>>(i)),
            "uuid" => ids.push(r.get::<_, Option<Uuid>>(i)),
            "jsonb" => json.push(r.get::<_, Option<tokio_postgres::types::Json<&serde_json::value::RawValue>>>(i)),
            _ => {}
        }
    }
    let json = |i: usize| json.get(i).and_then(|j| j.as_ref()).map_or(serde_json::value::RawValue::NULL, |j| j.0);
    let text = |i: usize| texts.get(i).copied().flatten();
    Plain {
        id: ids.first().copied().flatten().unwrap_or_default(),
        title: text(0).unwrap_or_default(),
        slug: text(1).unwrap_or_default(),
        description: text(2),
        brand: text(3),
        tags: json(0),
        images: json(1),
        attributes: json(2),
        numbers,
        sku: ids.get(1).copied().flatten(),
    }
}

/// Measures orders against pgbench on the server of this run.
async fn orders(server: &Server, b: &Arc<Bench>, maintenance: &tokio_postgres::Client) {
    let prices = orders::prices(b).await;
    maintenance.batch_execute(ORDER_TABLES).await.expect("the tables of the comparison");
    let (function, textbook, hot) = (ORDER_CALL, TEXTBOOK, TEXTBOOK_HOT);
    for (what, wanted, choose, script) in [
        (
            "orders, against a function of the server with one order per commit",
            "2.5",
            orders::spread as orders::Choice,
            function,
        ),
        ("orders, against a textbook transaction", "0.8", orders::spread, textbook),
        ("orders on one SKU, against a textbook transaction on one row", "4", orders::hot, hot),
    ] {
        pair(
            what,
            wanted,
            ROUNDS,
            async || orders::place(b, &prices, choose).await,
            async || pgbench_script(server, b, script).await,
        )
        .await;
    }
    pair(
        "orders on one SKU, against random SKUs",
        "0.8",
        ROUNDS,
        async || orders::place(b, &prices, orders::hot).await,
        async || orders::place(b, &prices, orders::spread).await,
    )
    .await;
    orders::audit(b).await;
}

/// The tables of the textbook transaction, the SKUs by number, and a function that places an order of two lines: it
/// locks SKUs and products and writes the rows that the library writes.
const ORDER_TABLES: &str = "
CREATE TABLE bench_skus AS SELECT row_number() OVER (ORDER BY id)::int AS n, id FROM skus;
ALTER TABLE bench_skus ADD PRIMARY KEY (n);
CREATE TABLE bench_items (id int PRIMARY KEY, stock bigint NOT NULL CHECK (stock >= 0), price bigint NOT NULL);
INSERT INTO bench_items SELECT n, 1000000000, 999 FROM bench_skus;
CREATE TABLE bench_orders (id bigserial PRIMARY KEY, email text NOT NULL, total bigint NOT NULL, at timestamptz NOT NULL);
CREATE TABLE bench_lines (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES bench_orders, item int NOT NULL REFERENCES bench_items, quantity int NOT NULL, price bigint NOT NULL);
CREATE INDEX ON bench_lines (order_id);
CREATE TABLE bench_bills (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES bench_orders, total bigint NOT NULL);
CREATE FUNCTION bench_place(a int, b int) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
    o uuid := gen_random_uuid(); l1 uuid := gen_random_uuid(); l2 uuid := gen_random_uuid();
    t timestamptz := clock_timestamp(); s1 record; s2 record; ids uuid[]; total bigint; num bigint; bnum bigint; price1 bigint; price2 bigint; p record;
BEGIN
    SELECT array_agg(id ORDER BY id) INTO ids FROM bench_skus WHERE n IN (a, b);
    PERFORM id FROM skus WHERE id = ANY(ids) ORDER BY id FOR NO KEY UPDATE;
    SELECT * INTO s1 FROM skus WHERE id = ids[1];
    SELECT * INTO s2 FROM skus WHERE id = ids[array_length(ids, 1)];
    PERFORM id FROM products WHERE id IN (s1.product_id, s2.product_id) ORDER BY id FOR NO KEY UPDATE;
    SELECT round(s1.price * (10000 - discount) / 10000.0) INTO price1 FROM products WHERE id = s1.product_id;
    SELECT round(s2.price * (10000 - discount) / 10000.0) INTO price2 FROM products WHERE id = s2.product_id;
    IF s1.on_hand < 1 OR s2.on_hand < 1 THEN RAISE EXCEPTION 'short'; END IF;
    total := price1 + price2;
    num := nextval('order_numbers'); bnum := nextval('bill_numbers');
    INSERT INTO orders (id, number, first_name, last_name, email, email_key, currency, exponent, prices_include_tax, status, listing_state, delivery_method, subtotal, shipping, discount, tax_added, tax_included, total, engine, placed_at, attributes, created_at, updated_at, created_by, updated_by, version)
        VALUES (o, 'ORD-2026-' || lpad(num::text, 6, '0'), 'Grace', 'Hopper', 'grace@example.com', 'grace@example.com', 'USD', 2, 0, 0, 0, 1, total, 0, 0, 0, 0, total, 1, t, '{}', t, t, 'system', 'system', 1);
    INSERT INTO order_lines (id, order_id, position, bill_seq, kind, sku_id, product_id, code, title, options, attributes, stock_mode, list_price, unit_price, quantity, canceled, subtotal, discount, tax_added, tax_included, total)
        VALUES (l1, o, 1, 1, 0, s1.id, s1.product_id, s1.code, 'Measured product', s1.option_values, '{}', 1, s1.price, price1, 1, 0, price1, 0, 0, 0, price1),
               (l2, o, 2, 1, 0, s2.id, s2.product_id, s2.code, 'Measured product', s2.option_values, '{}', 1, s2.price, price2, 1, 0, price2, 0, 0, 0, price2);
    INSERT INTO bills (id, order_id, kind, seq, number, subtotal, discount, shipping, tax_added, tax_included, total, payment_type, status, date, created_at, updated_at, created_by, updated_by, version)
        VALUES (gen_random_uuid(), o, 0, 1, 'BILL-2026-' || lpad(bnum::text, 6, '0'), total, 0, 0, 0, 0, total, 0, 0, t, t, t, 'system', 'system', 1);
    INSERT INTO order_changes (order_id, seq, kind, to_status, data, actor, at) VALUES (o, 1, 'placed', 0, '{}', 'system', t);
    UPDATE skus SET on_hand = on_hand - 1 WHERE id = s1.id;
    UPDATE skus SET on_hand = on_hand - 1 WHERE id = s2.id;
    INSERT INTO stock_movements (id, sku_id, delta, reason, reference, order_line_id, created_at, created_by)
        VALUES (gen_random_uuid(), s1.id, -1, 'order', 'ORD', l1, t, 'system'), (gen_random_uuid(), s2.id, -1, 'order', 'ORD', l2, t, 'system');
    UPDATE products SET revision = revision + 1 WHERE id IN (s1.product_id, s2.product_id);
    FOR p IN SELECT id, revision FROM products WHERE id IN (s1.product_id, s2.product_id) LOOP
        INSERT INTO outbox_events (id, kind, aggregate_id, revision, data, occurred_at, actor)
            VALUES (gen_random_uuid(), 'stock.changed', p.id, p.revision, '{\"stock\": []}', t, 'system');
    END LOOP;
    INSERT INTO outbox_events (id, kind, aggregate_id, revision, data, occurred_at, actor)
        VALUES (gen_random_uuid(), 'order.placed', o, 1, '{}', t, 'system');
END $f$;";

const ORDER_CALL: &str = "\\set a random(1, 20000)
\\set b random(1, 20000)
SELECT bench_place(:a, :b);
";

const TEXTBOOK: &str = "\\set x random(1, 20000)
\\set y random(1, 20000)
\\set a least(:x, :y)
\\set b greatest(:x, :y)
BEGIN;
SELECT id, stock, price FROM bench_items WHERE id IN (:a, :b) ORDER BY id FOR UPDATE;
UPDATE bench_items SET stock = stock - 1 WHERE id = :a;
UPDATE bench_items SET stock = stock - 1 WHERE id = :b;
INSERT INTO bench_orders (email, total, at) VALUES ('grace@example.com', 1998, now());
INSERT INTO bench_lines (order_id, item, quantity, price) VALUES (currval('bench_orders_id_seq'), :a, 1, 999);
INSERT INTO bench_lines (order_id, item, quantity, price) VALUES (currval('bench_orders_id_seq'), :b, 1, 999);
INSERT INTO bench_bills (order_id, total) VALUES (currval('bench_orders_id_seq'), 1998);
COMMIT;
";

const TEXTBOOK_HOT: &str = "BEGIN;
SELECT id, stock, price FROM bench_items WHERE id = 1 FOR UPDATE;
UPDATE bench_items SET stock = stock - 1 WHERE id = 1;
UPDATE bench_items SET stock = stock - 1 WHERE id = 1;
INSERT INTO bench_orders (email, total, at) VALUES ('grace@example.com', 1998, now());
INSERT INTO bench_lines (order_id, item, quantity, price) VALUES (currval('bench_orders_id_seq'), 1, 1, 999);
INSERT INTO bench_lines (order_id, item, quantity, price) VALUES (currval('bench_orders_id_seq'), 1, 1, 999);
INSERT INTO bench_bills (order_id, total) VALUES (currval('bench_orders_id_seq'), 1998);
COMMIT;
";
