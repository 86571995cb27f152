//! A shop with a million orders, on each database: the rate of orders against that of a shop with 10,000, and the last
//! page of a customer with 10,000 orders against the first one. This run starts its own servers, which flush to disk.
//!
//! The orders are made in SQL, with their lines, bills, histories and movements of stock, but without the events, which
//! the outbox does not keep for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::adapters::{ServerOptions, SqlStorage, SqliteOptions};
use ecom::id::CustomerId;
use ecom::paging::{Keyset, Page, Paging};
use ecom::port::NoCache;
use ecom::sales::{CustomerInput, DeliveryMethod, GuestInput, Order, OrderFilter, OrderInput, OrderSort};
use test_servers::{Kind, Server};

use super::{CALLERS, Prices, audit, line, place_each, prices, spread};
use crate::size::{Database, execute, settle};
use crate::support::{Bench, median, pair, rounds, shop_on};

const PRODUCTS: usize = 10_000;
pub const LARGE: usize = 1_000_000;
const SMALL: usize = 10_000;
/// The number of orders that one statement makes.
const CHUNK: usize = 10_000;
/// The number of customers. Half of the orders belong to them, and every hundredth order belongs to the first one.
const CUSTOMERS: usize = 1_000;
/// The number of email addresses of guests.
const GUESTS: usize = 100_000;
const PER_PAGE: u32 = 20;
const ROUNDS: usize = 5;
pub const TABLES: [&str; 7] =
    ["products", "skus", "orders", "order_lines", "bills", "order_changes", "stock_movements"];

/// A shop to measure, with its customers. The first one has every hundredth order.
pub struct Large {
    pub b: Bench,
    prices: Prices,
    customers: Arc<Vec<CustomerId>>,
}

pub async fn run() {
    println!("orders-size: a shop with {LARGE} orders, {CALLERS} callers");
    for (database, name) in
        [(Database::Sqlite, "SQLite"), (Database::Postgres, "PostgreSQL"), (Database::MySql, "MariaDB")]
    {
        let dir = tempfile::tempdir().expect("a folder");
        // Both shops run on one server, and its memory is sized for the larger one.
        let server = match database {
            Database::Sqlite => None,
            Database::Postgres => Some(Server::with(Kind::Postgres, &["shared_buffers=1GB"]).await),
            Database::MySql => Some(Server::with(Kind::MariaDb, &["innodb-buffer-pool-size=1G"]).await),
        };
        let mut urls = Vec::new();
        for shop in ["large", "small"] {
            urls.push(match &server {
                None => format!("sqlite://{}", dir.path().join(shop).display()),
                Some(server) => {
                    execute(&server.url(), &[format!("CREATE DATABASE {shop}")]).await;
                    let mut url = url::Url::parse(&server.url()).expect("a URL");
                    url.set_path(shop);
                    url.into()
                }
            });
        }
        let large = open(database, &urls[0], LARGE).await;
        let small = open(database, &urls[1], SMALL).await;
        settle(database, &urls[0], &TABLES).await;
        settle(database, &urls[1], &TABLES).await;

        let (ratio, first, last) = pages(&large).await;
        println!(
            "{name}, a customer with {} of {LARGE} orders: last page {:.0} µs, first page {:.0} µs, ratio {ratio:.2}; \
             wanted at most 1.2",
            LARGE / 100,
            last * 1e6,
            first * 1e6,
        );
        pair(
            &format!("{name}, orders with {LARGE} in the shop, against {SMALL}"),
            "0.9",
            ROUNDS,
            async || place(&large).await,
            async || place(&small).await,
        )
        .await;
        audit(&small.b.shop).await;
    }
}

/// Creates a shop with `orders` orders.
pub async fn open(database: Database, url: &str, orders: usize) -> Large {
    let storage = match database {
        Database::Sqlite => SqlStorage::sqlite(SqliteOptions::from_url(url).expect("a URL")),
        _ => {
            let mut options = ServerOptions::from_url(url).expect("a URL");
            options.max_connections = CALLERS;
            SqlStorage::server(options)
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let b = shop_on(storage.expect("a database"), Arc::new(NoCache), PRODUCTS, folder).await;
    let mut customers = Vec::with_capacity(CUSTOMERS);
    for n in 0..CUSTOMERS {
        let input = CustomerInput::new("Customer", format!("Number {n}"), format!("customer-{n}@example.com"));
        customers.push(b.shop.customers().create(&input).await.expect("a customer").id);
    }
    let start = Instant::now();
    execute(url, &fill(database, orders)).await;
    println!("  ({orders} orders made in {:.0?})", start.elapsed());
    let prices = prices(&b).await;
    Large { b, prices, customers: Arc::new(customers) }
}

/// Places orders, a half of which are of customers.
async fn place(shop: &Large) -> (u64, Duration) {
    let (prices, customers) = (shop.prices.clone(), shop.customers.clone());
    place_each(&shop.b, move |n| {
        let (first, second) = spread(n, prices.len());
        let (mixed, _) = spread(n.wrapping_mul(31), CUSTOMERS * GUESTS);
        let order = if n.is_multiple_of(2) {
            OrderInput::new(customers[mixed % CUSTOMERS], DeliveryMethod::OnHand)
        } else {
            let guest = GuestInput::new("Grace", "Hopper", format!("guest-{}@example.com", mixed % GUESTS));
            OrderInput::for_guest(guest, DeliveryMethod::OnHand)
        };
        order.line(line(&prices, first)).line(line(&prices, second))
    })
    .await
}

/// Returns the time of the last page of the customer with many orders divided by that of the first, as the median of
/// rounds, and the medians of the times of both, in seconds.
async fn pages(shop: &Large) -> (f64, f64, f64) {
    let (mut after, mut last, mut orders) = (None, None, 0);
    loop {
        let page = page(shop, after.clone()).await;
        orders += page.items.len();
        let Some(next) = page.next else { break };
        last = Some(next.clone());
        after = Some(next);
    }
    assert_eq!(orders, LARGE / 100);
    assert_eq!(page(shop, last.clone()).await.items.len(), PER_PAGE as usize);
    let (mut firsts, mut lasts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(9) {
        let (first, last) = (time(shop, None).await, time(shop, last.clone()).await);
        firsts.push(first);
        lasts.push(last);
        ratios.push(last / first);
    }
    (median(&mut ratios), median(&mut firsts), median(&mut lasts))
}

async fn page(shop: &Large, after: Option<Keyset>) -> Page<Order> {
    let filter = OrderFilter { customer: Some(shop.customers[0]), ..OrderFilter::default() };
    let paging = Paging::Keyset { after, limit: PER_PAGE };
    shop.b.shop.orders().list(&filter, OrderSort::PlacedDesc, &paging).await.expect("a page").0
}

async fn time(shop: &Large, after: Option<Keyset>) -> f64 {
    const TIMES: u32 = 200;
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(page(shop, after.clone()).await);
    }
    start.elapsed().as_secs_f64() / f64::from(TIMES)
}

/// Returns the statements that make orders of the last year: one order each half minute, the last one now.
fn fill(database: Database, orders: usize) -> Vec<String> {
    const STEP: usize = 30_000;
    let is = |wanted: Database| database == wanted;
    // An id of version 7 from the time of an order and a number.
    let id = |of: &str, slot: &str| match database {
        Database::Sqlite => format!("unhex(printf('%012x70008000%012x', {of}.ms, {of}.k * 8 + {slot}))"),
        Database::Postgres => format!(
            "(lpad(to_hex({of}.ms), 12, '0') || '70008000' || lpad(to_hex({of}.k * 8 + {slot}), 12, '0'))::uuid"
        ),
        Database::MySql => {
            format!("UNHEX(CONCAT(LPAD(HEX({of}.ms), 12, '0'), '70008000', LPAD(HEX({of}.k * 8 + {slot}), 12, '0')))")
        }
    };
    let at = match database {
        Database::Sqlite => "o.ms * 1000",
        Database::Postgres => "to_timestamp(o.ms / 1000.0)",
        Database::MySql => "TIMESTAMP('1970-01-01 00:00:00.000000') + INTERVAL o.ms * 1000 MICROSECOND",
    };
    let joined = |parts: &[&str]| match database {
        Database::MySql => format!("CONCAT({})", parts.join(", ")),
        _ => parts.join(" || "),
    };
    let number = |prefix: &str| {
        let digits = match database {
            Database::Sqlite => "printf('%08d', o.k)",
            Database::Postgres => "lpad(o.k::text, 8, '0')",
            Database::MySql => "LPAD(o.k, 8, '0')",
        };
        joined(&[&format!("'{prefix}-2000-'"), digits])
    };
    let email = joined(&["'guest-'", &format!("(o.k * 7919 % {GUESTS})"), "'@example.com'"]);
    let email = format!("coalesce(c.email, {email})");
    let integer = if is(Database::MySql) { "BIGINT" } else { "bigint" };
    let digits = "(SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                  SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    let half = if is(Database::MySql) { "DIV" } else { "/" };
    let mut statements = vec![
        format!(
            "CREATE TABLE bench_skus AS SELECT row_number() OVER (ORDER BY s.id) - 1 AS n, s.id, s.product_id, s.code, \
             s.option_values, s.price, (s.price * (10000 - p.discount) + 5000) {half} 10000 AS final, p.title \
             FROM skus s JOIN products p ON p.id = s.product_id"
        ),
        "CREATE UNIQUE INDEX bench_skus_n ON bench_skus (n)".to_owned(),
        "CREATE TABLE bench_customers AS SELECT row_number() OVER (ORDER BY id) - 1 AS n, id, first_name, last_name, \
         email, email_key FROM customers"
            .to_owned(),
        "CREATE UNIQUE INDEX bench_customers_n ON bench_customers (n)".to_owned(),
        format!(
            "CREATE TABLE bench_new (k {integer} PRIMARY KEY, ms {integer}, customer {integer}, first {integer}, \
             second {integer}, total {integer})"
        ),
    ];
    let now =
        usize::try_from(std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_millis()).expect("64 bits");
    let skus = PRODUCTS * 2;
    for done in (0..orders).step_by(CHUNK) {
        let done = if is(Database::Postgres) { format!("{done}::bigint") } else { done.to_string() };
        statements.push("DELETE FROM bench_new".to_owned());
        statements.push(format!(
            "INSERT INTO bench_new SELECT o.k, {start} + o.k * {STEP}, \
             CASE WHEN o.k % 100 = 0 THEN 0 WHEN o.k % 2 = 0 THEN 1 + o.k % {others} END, a.n, b.n, a.final + b.final \
             FROM (SELECT {done} + d1.n * 1000 + d2.n * 100 + d3.n * 10 + d4.n + 1 AS k \
             FROM {digits} d1 CROSS JOIN {digits} d2 CROSS JOIN {digits} d3 CROSS JOIN {digits} d4) o \
             JOIN bench_skus a ON a.n = o.k * 7919 % {skus} JOIN bench_skus b ON b.n = (o.k * 104729 + 7) % {skus} \
             ORDER BY o.k",
            start = now - orders * STEP,
            others = CUSTOMERS - 1,
        ));
        statements.push(format!(
            "INSERT INTO orders (id, number, customer_id, first_name, last_name, email, email_key, currency, exponent, \
             prices_include_tax, status, listing_state, delivery_method, subtotal, shipping, discount, tax_added, \
             tax_included, total, engine, placed_at, attributes, created_at, updated_at, created_by, updated_by, version) \
             SELECT {id}, {number}, c.id, coalesce(c.first_name, 'Grace'), coalesce(c.last_name, 'Hopper'), {email}, \
             {email}, 'USD', 2, 0, 0, 0, 1, o.total, 0, 0, 0, 0, o.total, 1, {at}, '{{}}', {at}, {at}, 'system', \
             'system', 1 FROM bench_new o LEFT JOIN bench_customers c ON c.n = o.customer ORDER BY o.k",
            id = id("o", "0"),
            number = number("ORD"),
        ));
        let of_lines = "FROM bench_new o CROSS JOIN (SELECT 1 AS n UNION ALL SELECT 2) p \
                        JOIN bench_skus s ON s.n = CASE p.n WHEN 1 THEN o.first ELSE o.second END ORDER BY o.k, p.n";
        statements.push(format!(
            "INSERT INTO order_lines (id, order_id, placed_at, position, bill_seq, kind, sku_id, product_id, code, title, \
             options, attributes, stock_mode, list_price, unit_price, quantity, canceled, subtotal, discount, tax_added, \
             tax_included, total) SELECT {}, {}, {at}, p.n, 1, 0, s.id, s.product_id, s.code, s.title, s.option_values, '{{}}', \
             1, s.price, s.final, 1, 0, s.final, 0, 0, 0, s.final {of_lines}",
            id("o", "p.n"),
            id("o", "0"),
        ));
        statements.push(format!(
            "INSERT INTO bills (id, order_id, kind, seq, number, subtotal, discount, shipping, tax_added, tax_included, \
             total, payment_type, status, date, created_at, updated_at, created_by, updated_by, version) \
             SELECT {}, {}, 0, 1, {}, o.total, 0, 0, 0, 0, o.total, 0, 0, {at}, {at}, {at}, 'system', 'system', 1 \
             FROM bench_new o ORDER BY o.k",
            id("o", "3"),
            id("o", "0"),
            number("BILL"),
        ));
        statements.push(format!(
            "INSERT INTO order_changes (order_id, seq, kind, to_status, data, actor, at) \
             SELECT {}, 1, 'placed', 0, '{{}}', 'system', {at} FROM bench_new o ORDER BY o.k",
            id("o", "0"),
        ));
        statements.push(format!(
            "INSERT INTO stock_movements (id, sku_id, delta, reason, reference, order_line_id, created_at, created_by) \
             SELECT {}, s.id, -1, 'order', {}, {}, {at}, 'system' {of_lines}",
            id("o", "p.n + 3"),
            number("ORD"),
            id("o", "p.n"),
        ));
    }
    statements.push(
        "UPDATE skus SET on_hand = (SELECT SUM(m.delta) FROM stock_movements m WHERE m.sku_id = skus.id)".to_owned(),
    );
    statements.extend(["bench_new", "bench_skus", "bench_customers"].map(|table| format!("DROP TABLE {table}")));
    statements
}
