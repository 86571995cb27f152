//! On PostgreSQL: orders through the library and over HTTP against pgbench, which calls a function on the server that
//! writes the same rows with one order per commit, and orders through the library against a textbook transaction, which
//! writes far fewer rows. This run starts its own server, which flushes to disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ecom::access::Principal;
use ecom::adapters::{ServerOptions, SqlStorage};
use ecom::port::NoCache;
use test_servers::Server;
use tokio::io::AsyncWriteExt as _;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{CALLERS, Choice, Prices, ROUNDS, SECONDS, audit, hot, number, order, place, prices, spread};
use crate::http::{on_connections, receive, serve};
use crate::pgbench;
use crate::postgres::connect;
use crate::support::{Bench, pair, shop_on};

pub async fn run() {
    println!("orders on PostgreSQL: two lines each, from {CALLERS} callers at once");
    let server = Server::postgres().await;
    let mut options = ServerOptions::from_url(&server.url()).expect("a URL");
    options.max_connections = CALLERS;
    let storage = SqlStorage::server(options).expect("a pool");
    let dir = tempfile::tempdir().expect("a folder");
    let b = shop_on(storage, Arc::new(NoCache), 10_000, dir).await;
    let skus = prices(&b).await;
    let client = connect(&server).await;
    client.batch_execute(TABLES).await.expect("the tables of the comparison");
    client.batch_execute(FUNCTION).await.expect("the function of the comparison");
    check_rows(&b, &skus, &client).await;
    // Connections keep the plans that they made while the tables were empty, until the statistics change.
    place(&b, &skus, spread).await;
    client.batch_execute("VACUUM ANALYZE").await.expect("statistics");

    let script = |script: &'static str| pgbench::run(&server, b.dir.path(), script, &[], CALLERS, SECONDS);
    pair(
        "orders, against a function of the server with one order per commit",
        "2.5",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || script(CALL).await,
    )
    .await;
    let config = ecom_http::HttpConfig::default().access_log(false).anonymous(Principal::trusted("bench"));
    let at = serve(ecom_http::router(b.shop.clone(), config)).await;
    pair(
        "orders over HTTP, against a function of the server with one order per commit",
        "2",
        ROUNDS,
        async || post(at, &skus, spread).await,
        async || script(CALL).await,
    )
    .await;
    pair(
        "orders, against a textbook transaction",
        "0.8",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || script(TEXTBOOK).await,
    )
    .await;
    pair(
        "orders on one SKU, against a textbook transaction on one row",
        "4",
        ROUNDS,
        async || place(&b, &skus, hot).await,
        async || script(TEXTBOOK_HOT).await,
    )
    .await;
    pair(
        "orders on one SKU, against random SKUs",
        "0.8",
        ROUNDS,
        async || place(&b, &skus, hot).await,
        async || place(&b, &skus, spread).await,
    )
    .await;
    audit(&b.shop).await;
}

/// Places orders over HTTP for some seconds, from a separate thread with [`CALLERS`] connections. A connection sends an
/// order once the one before it has been answered.
async fn post(at: SocketAddr, prices: &Prices, choose: Choice) -> (u64, Duration) {
    let prices = prices.clone();
    on_connections(at, CALLERS, move |caller, mut io, start| {
        let prices = prices.clone();
        async move {
            let mut response = Vec::with_capacity(16 * 1024);
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let (first, second) = choose(number(caller, n), prices.len());
                io.write_all(request(&prices, first, second).as_bytes()).await.expect("sent");
                receive(&mut io, &mut response).await;
                assert!(response.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&response));
                n += 1;
            }
            n as u64
        }
    })
    .await
}

/// Returns the request of the order that [`order`] makes for the library.
fn request(prices: &Prices, first: usize, second: usize) -> String {
    let line = |at: usize| {
        let (sku, price) = &prices[at];
        format!(r#"{{"sku_id":"{sku}","quantity":1,"unit_price":"{price}"}}"#)
    };
    let body = format!(
        r#"{{"customer":{{"first_name":"Grace","last_name":"Hopper","email":"grace@example.com"}},"delivery_method":"on_hand","lines":[{},{}]}}"#,
        line(first),
        line(second),
    );
    format!(
        "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len(),
    )
}

/// The rows that an order wrote: of each table their number, their columns that are not null, and their size.
type Written = Vec<(&'static str, i64, Option<String>, i64)>;

/// Places an order through the library and one with the function, on the same SKUs. Checks that both write the same
/// rows: in each table the same number, with the same columns, of the same size, and the same stock and revisions.
async fn check_rows(b: &Bench, prices: &Prices, client: &Client) {
    let sku = |n: i32| async move {
        let row = client.query_one("SELECT id FROM bench_skus WHERE n = $1", &[&n]).await.expect("a SKU");
        let id: Uuid = row.get(0);
        prices.iter().position(|(sku, _)| sku.0 == id).expect("a price")
    };
    let numbers = (4_001, 9_002);
    let (first, second) = (sku(numbers.0).await, sku(numbers.1).await);
    let before = stock(client).await;
    let ours = b.shop.orders().place(&order(prices, first, second)).await.expect("an order").id.0;
    let between = stock(client).await;
    let theirs = client.query_one("SELECT bench_place($1, $2)", &[&numbers.0, &numbers.1]).await.expect("an order");
    let after = stock(client).await;
    let (ours, theirs) = (written(client, ours).await, written(client, theirs.get(0)).await);
    assert_eq!(ours, theirs, "the library and the function write different rows");
    assert_eq!((between.0 - before.0, between.1 - before.1), (-2, 2), "stock and revisions");
    assert_eq!((after.0 - between.0, after.1 - between.1), (-2, 2), "stock and revisions");
    let rows = ours.iter().filter(|t| t.1 > 0).map(|(table, rows, ..)| format!("{rows} in {table}"));
    println!("  (the library and the function write the same rows: {})", rows.collect::<Vec<_>>().join(", "));
}

/// Returns the pieces on hand of all SKUs, and the sum of the revisions of all products.
async fn stock(client: &Client) -> (i64, i64) {
    let text = "SELECT (SELECT sum(on_hand) FROM skus)::bigint, (SELECT sum(revision) FROM products)::bigint";
    let row = client.query_one(text, &[]).await.expect("sums");
    (row.get(0), row.get(1))
}

async fn written(client: &Client, order: Uuid) -> Written {
    let mut tables = Vec::new();
    for (table, of_order) in [
        ("orders", "t.id = $1"),
        ("order_lines", "t.order_id = $1"),
        ("order_adjustments", "t.order_id = $1"),
        ("bills", "t.order_id = $1"),
        ("order_changes", "t.order_id = $1"),
        ("stock_movements", "t.order_line_id IN (SELECT id FROM order_lines WHERE order_id = $1)"),
        (
            "outbox_events",
            "t.aggregate_id = $1 OR EXISTS (SELECT 1 FROM orders o WHERE o.id = $1 \
             AND t.data @> jsonb_build_object('stock', jsonb_build_array(jsonb_build_object('reference', o.number))))",
        ),
    ] {
        let text = format!(
            "SELECT count(*), string_agg(DISTINCT (SELECT string_agg(c.key, ' ' ORDER BY c.key) \
             FROM jsonb_each(to_jsonb(t)) c WHERE c.value <> 'null'), '; '), coalesce(sum(pg_column_size(t.*)), 0) \
             FROM {table} t WHERE {of_order}"
        );
        let row = client.query_one(&text, &[&order]).await.expect("rows");
        tables.push((table, row.get(0), row.get(1), row.get(2)));
    }
    tables
}

/// The tables of the textbook transaction, and the SKUs by number, in the order of their ids.
const TABLES: &str = "
CREATE TABLE bench_skus AS SELECT row_number() OVER (ORDER BY id)::int AS n, id FROM skus;
ALTER TABLE bench_skus ADD PRIMARY KEY (n);
CREATE TABLE bench_items (id int PRIMARY KEY, stock bigint NOT NULL CHECK (stock >= 0), price bigint NOT NULL);
INSERT INTO bench_items SELECT n, 1000000000, 999 FROM bench_skus;
CREATE TABLE bench_orders (
    id bigserial PRIMARY KEY, email text NOT NULL, total bigint NOT NULL, at timestamptz NOT NULL
);
CREATE TABLE bench_lines (
    id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES bench_orders,
    item int NOT NULL REFERENCES bench_items, quantity int NOT NULL, price bigint NOT NULL
);
CREATE INDEX ON bench_lines (order_id);
CREATE TABLE bench_bills (
    id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES bench_orders, total bigint NOT NULL
);";

/// A function that places an order of a guest for one piece each of two SKUs, by their numbers. It takes the locks of
/// the library in the same order, checks stock and status, and writes the rows that the library writes, with ids of
/// version 7. It does not check the input, and leaves out that a sale can change the availability of a product.
const FUNCTION: &str = r#"
CREATE FUNCTION bench_id(prefix text) RETURNS uuid LANGUAGE sql AS $f$
    SELECT overlay(gen_random_uuid()::text PLACING prefix FROM 1 FOR 15)::uuid
$f$;

CREATE FUNCTION bench_place(a int, b int) RETURNS uuid LANGUAGE plpgsql AS $f$
DECLARE
    s1 record; s2 record; p record; p1 record; p2 record;
    t timestamptz; prefix text; o uuid; l1 uuid; l2 uuid; num text; price1 bigint; price2 bigint; total bigint;
    e1 jsonb; e2 jsonb;
BEGIN
    SELECT s.id, s.product_id, s.code, s.option_values, s.price, s.on_hand - s.reserved AS available INTO STRICT s1
        FROM skus s WHERE s.id = (SELECT k.id FROM bench_skus k WHERE k.n = least(a, b)) AND s.deleted_at IS NULL
        FOR NO KEY UPDATE;
    IF a = b THEN
        s2 := s1;
    ELSE
        SELECT s.id, s.product_id, s.code, s.option_values, s.price, s.on_hand - s.reserved AS available INTO STRICT s2
            FROM skus s WHERE s.id = (SELECT k.id FROM bench_skus k WHERE k.n = greatest(a, b)) AND s.deleted_at IS NULL
            FOR NO KEY UPDATE;
    END IF;
    FOR p IN SELECT id, title, discount, status FROM products
        WHERE id IN (s1.product_id, s2.product_id) AND deleted_at IS NULL ORDER BY id FOR NO KEY UPDATE
    LOOP
        IF p.id = s1.product_id THEN p1 := p; END IF;
        IF p.id = s2.product_id THEN p2 := p; END IF;
    END LOOP;
    IF p1.status <> 1 OR p2.status <> 1 THEN RAISE EXCEPTION 'not sold'; END IF;
    IF s1.available < 1 + (a = b)::int OR s2.available < 1 THEN RAISE EXCEPTION 'short'; END IF;
    t := clock_timestamp();
    prefix := lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0');
    prefix := left(prefix, 8) || '-' || right(prefix, 4) || '-7';
    o := bench_id(prefix); l1 := bench_id(prefix); l2 := bench_id(prefix);
    price1 := (s1.price * (10000 - p1.discount) + 5000) / 10000;
    price2 := (s2.price * (10000 - p2.discount) + 5000) / 10000;
    total := price1 + price2;
    num := to_char(t AT TIME ZONE 'UTC', '"ORD"-YYYY-') || lpad(nextval('order_numbers')::text, 6, '0');
    INSERT INTO orders (id, number, first_name, last_name, email, email_key, currency, exponent, prices_include_tax,
        status, listing_state, delivery_method, subtotal, shipping, discount, tax_added, tax_included, total, engine,
        placed_at, attributes, created_at, updated_at, created_by, updated_by, version)
        VALUES (o, num, 'Grace', 'Hopper', 'grace@example.com', 'grace@example.com', 'USD', 2, 0,
        0, 0, 1, total, 0, 0, 0, 0, total, 1, t, '{}', t, t, 'system', 'system', 1);
    INSERT INTO order_lines (id, order_id, placed_at, position, bill_seq, kind, sku_id, product_id, code, title, options,
        attributes, stock_mode, list_price, unit_price, quantity, canceled, subtotal, discount, tax_added,
        tax_included, total)
        VALUES (l1, o, t, 1, 1, 0, s1.id, s1.product_id, s1.code, p1.title, s1.option_values,
        '{}', 1, s1.price, price1, 1, 0, price1, 0, 0, 0, price1),
        (l2, o, t, 2, 1, 0, s2.id, s2.product_id, s2.code, p2.title, s2.option_values,
        '{}', 1, s2.price, price2, 1, 0, price2, 0, 0, 0, price2);
    INSERT INTO bills (id, order_id, kind, seq, number, subtotal, discount, shipping, tax_added, tax_included, total,
        payment_type, status, date, created_at, updated_at, created_by, updated_by, version)
        VALUES (bench_id(prefix), o, 0, 1,
        to_char(t AT TIME ZONE 'UTC', '"BILL"-YYYY-') || lpad(nextval('bill_numbers')::text, 6, '0'),
        total, 0, 0, 0, 0, total, 0, 0, t, t, t, 'system', 'system', 1);
    INSERT INTO order_changes (order_id, seq, kind, to_status, data, actor, at)
        VALUES (o, 1, 'placed', 0, '{}', 'system', t);
    UPDATE skus SET on_hand = on_hand - 1 - (a = b)::int WHERE id IN (s1.id, s2.id);
    INSERT INTO stock_movements (id, sku_id, delta, reason, reference, order_line_id, created_at, created_by)
        VALUES (bench_id(prefix), s1.id, -1, 'order', num, l1, t, 'system'),
        (bench_id(prefix), s2.id, -1, 'order', num, l2, t, 'system');
    e1 := jsonb_build_object('sku_id', s1.id, 'delta', -1, 'reason', 'order', 'reference', num);
    e2 := jsonb_build_object('sku_id', s2.id, 'delta', -1, 'reason', 'order', 'reference', num);
    WITH touched AS (
        UPDATE products SET revision = revision + 1 WHERE id IN (s1.product_id, s2.product_id) RETURNING id, revision
    )
    INSERT INTO outbox_events (id, kind, aggregate_id, revision, data, occurred_at, actor)
        SELECT bench_id(prefix), 'stock.changed', id, revision, jsonb_build_object('stock',
            CASE WHEN s1.product_id = s2.product_id THEN jsonb_build_array(e1, e2)
            WHEN id = s1.product_id THEN jsonb_build_array(e1) ELSE jsonb_build_array(e2) END), t, 'system' FROM touched
        UNION ALL SELECT bench_id(prefix), 'order.placed', o, 1, 'null', t, 'system';
    RETURN o;
END $f$;"#;

const CALL: &str = "\\set a random(1, 20000)
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
