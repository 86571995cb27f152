//! On MariaDB: orders against a textbook transaction, which writes far fewer rows, from a plain program on `sqlx`. This
//! run starts its own server, which flushes to disk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom::adapters::{ServerOptions, SqlStorage};
use ecom::port::NoCache;
use sqlx::{Connection as _, Executor as _, MySqlConnection};
use test_servers::Server;

use super::{CALLERS, ROUNDS, SECONDS, audit, number, place, prices, spread};
use crate::support::{pair, shop_on};

/// The number of rows with stock of the textbook transaction. The shop has as many SKUs.
const ITEMS: usize = 20_000;

pub async fn run() {
    println!("orders on MariaDB: two lines each, from {CALLERS} callers at once");
    let server = Server::mariadb().await;
    let mut options = ServerOptions::from_url(&server.url()).expect("a URL");
    options.max_connections = CALLERS;
    let storage = SqlStorage::server(options).expect("a pool");
    let dir = tempfile::tempdir().expect("a folder");
    let b = shop_on(storage, Arc::new(NoCache), ITEMS / 2, dir).await;
    let skus = prices(&b).await;
    let mut plain = Vec::with_capacity(CALLERS);
    for _ in 0..CALLERS {
        plain.push(MySqlConnection::connect(&server.url()).await.expect("a connection"));
    }
    for statement in TABLES {
        plain[0].execute(statement).await.expect("the tables of the comparison");
    }
    pair(
        "orders, against a textbook transaction",
        "1",
        ROUNDS,
        async || place(&b, &skus, spread).await,
        async || textbook(&mut plain).await,
    )
    .await;
    audit(&b.shop).await;
}

/// Runs the textbook transaction for some seconds on each connection.
async fn textbook(connections: &mut Vec<MySqlConnection>) -> (u64, Duration) {
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for (caller, mut c) in connections.drain(..).enumerate() {
        set.spawn(async move {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let (x, y) = spread(number(caller, n), ITEMS);
                transact(&mut c, x.min(y), x.max(y)).await.expect("a transaction");
                n += 1;
            }
            (c, n as u64)
        });
    }
    let mut total = 0;
    for (c, n) in set.join_all().await {
        connections.push(c);
        total += n;
    }
    (total, start.elapsed())
}

/// Locks two items, takes one piece of each, and writes an order, its lines and its bill. The statements are prepared
/// once per connection.
async fn transact(c: &mut MySqlConnection, a: usize, b: usize) -> Result<(), sqlx::Error> {
    const READ: &str = "SELECT id, stock, price FROM bench_items WHERE id IN (?, ?) ORDER BY id FOR UPDATE";
    const TAKE: &str = "UPDATE bench_items SET stock = stock - 1 WHERE id = ?";
    const ORDER: &str = "INSERT INTO bench_orders (email, total, at) VALUES ('grace@example.com', 1998, NOW(6))";
    const LINE: &str = "INSERT INTO bench_lines (order_id, item, quantity, price) VALUES (?, ?, 1, 999)";
    const BILL: &str = "INSERT INTO bench_bills (order_id, total) VALUES (?, 1998)";
    let (a, b) = (i32::try_from(a).unwrap_or_default(), i32::try_from(b).unwrap_or_default());
    let mut tx = c.begin().await?;
    sqlx::query(READ).bind(a).bind(b).fetch_all(&mut *tx).await?;
    sqlx::query(TAKE).bind(a).execute(&mut *tx).await?;
    sqlx::query(TAKE).bind(b).execute(&mut *tx).await?;
    let order = sqlx::query(ORDER).execute(&mut *tx).await?.last_insert_id();
    sqlx::query(LINE).bind(order).bind(a).execute(&mut *tx).await?;
    sqlx::query(LINE).bind(order).bind(b).execute(&mut *tx).await?;
    sqlx::query(BILL).bind(order).execute(&mut *tx).await?;
    tx.commit().await
}

/// The tables of the textbook transaction, as on PostgreSQL.
const TABLES: [&str; 5] = [
    "CREATE TABLE bench_items (id INT PRIMARY KEY, stock BIGINT NOT NULL CHECK (stock >= 0), price BIGINT NOT NULL)",
    "INSERT INTO bench_items SELECT ROW_NUMBER() OVER (ORDER BY id) - 1, 1000000000, 999 FROM skus",
    "CREATE TABLE bench_orders (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(254) NOT NULL, total BIGINT NOT NULL,
        at DATETIME(6) NOT NULL
    )",
    "CREATE TABLE bench_lines (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BIGINT NOT NULL, item INT NOT NULL, quantity INT NOT NULL,
        price BIGINT NOT NULL, FOREIGN KEY (order_id) REFERENCES bench_orders (id),
        FOREIGN KEY (item) REFERENCES bench_items (id)
    )",
    "CREATE TABLE bench_bills (
        id BIGINT AUTO_INCREMENT PRIMARY KEY, order_id BIGINT NOT NULL, total BIGINT NOT NULL,
        FOREIGN KEY (order_id) REFERENCES bench_orders (id)
    )",
];
