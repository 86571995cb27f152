//! A plain program on `rusqlite`, on a database that the shop has made: one thread writes, and each order is a commit
//! of its own. It checks prices and stock, and writes the rows that the shop writes; `rows.rs` compares them. It does
//! not check the input otherwise, and leaves out that a sale can change the availability of a product.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ecom::money::Decimal;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::placing::{CALLERS, Choice, Prices, SECONDS, number};

/// A SKU, and the unit price that the buyer saw, in cents.
type Line = (Uuid, i64);

/// An order that waits for the writer.
struct Job {
    lines: [Line; 2],
    done: oneshot::Sender<Uuid>,
}

/// The program. Its writer ends when it is closed.
pub struct Plain {
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<()>,
    skus: Vec<Line>,
}

impl Plain {
    /// Opens a database that the shop has made and closed.
    pub fn open(path: &Path, prices: &Prices) -> Self {
        let mut db = Connection::open(path).expect("a database");
        // As the shop opens it.
        for (pragma, value) in [
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),
            ("foreign_keys", "ON"),
            ("temp_store", "MEMORY"),
            ("cache_size", "-16384"),
            ("wal_autocheckpoint", "4000"),
            ("journal_size_limit", "67108864"),
        ] {
            db.pragma_update(None, pragma, value).expect(pragma);
        }
        assert_eq!(db.pragma_query_value(None, "synchronous", |r| r.get::<_, i64>(0)), Ok(2), "synchronous = FULL");
        db.set_prepared_statement_cache_capacity(256);
        let (jobs, waiting) = mpsc::channel::<Job>();
        let writer = std::thread::spawn(move || {
            for Job { lines, done } in waiting {
                let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).expect("a transaction");
                let order = place(&tx, &lines).expect("an order");
                tx.commit().expect("a commit");
                let _ = done.send(order);
            }
        });
        let cents = |price: Decimal| i64::try_from(price * Decimal::ONE_HUNDRED).expect("whole cents");
        Self { jobs, writer, skus: prices.iter().map(|(sku, price)| (sku.0, cents(*price))).collect() }
    }

    /// Places orders for some seconds, as `place` does with the shop.
    pub async fn place(&self, choose: Choice) -> (u64, Duration) {
        let start = Instant::now();
        let mut set = tokio::task::JoinSet::new();
        for caller in 0..CALLERS {
            let (jobs, skus) = (self.jobs.clone(), self.skus.clone());
            set.spawn(async move {
                let mut n = 0;
                while start.elapsed() < Duration::from_secs(SECONDS) {
                    let (first, second) = choose(number(caller, n), skus.len());
                    send(&jobs, [skus[first], skus[second]]).await;
                    n += 1;
                }
                n as u64
            });
        }
        let n: u64 = set.join_all().await.into_iter().sum();
        (n, start.elapsed())
    }

    /// Places one order and returns its id.
    pub async fn place_one(&self, first: usize, second: usize) -> Uuid {
        send(&self.jobs, [self.skus[first], self.skus[second]]).await
    }

    /// Ends the writer and closes the database.
    pub fn close(self) {
        drop(self.jobs);
        self.writer.join().expect("the writer ends");
    }
}

async fn send(jobs: &mpsc::Sender<Job>, lines: [Line; 2]) -> Uuid {
    let (done, answered) = oneshot::channel();
    jobs.send(Job { lines, done }).expect("the writer runs");
    answered.await.expect("an order")
}

/// A SKU as it is sold.
struct Offer {
    sku: Uuid,
    product: Uuid,
    code: String,
    title: String,
    options: String,
    list_price: i64,
    unit_price: i64,
    available: i64,
}

const OFFER: &str = "SELECT s.id, s.product_id, s.code, p.title, s.option_values, s.price, \
     (s.price * (10000 - p.discount) + 5000) / 10000, s.on_hand - s.reserved \
     FROM skus s JOIN products p ON p.id = s.product_id \
     WHERE s.id = ?1 AND s.deleted_at IS NULL AND p.deleted_at IS NULL AND p.status = 1";
const NUMBER: &str = "UPDATE document_numbers SET value = value + 1 WHERE kind = ?1 RETURNING value";
const ORDER: &str = "INSERT INTO orders (id, number, first_name, last_name, email, email_key, currency, exponent, \
     prices_include_tax, status, listing_state, delivery_method, subtotal, shipping, discount, tax_added, tax_included, \
     total, engine, placed_at, attributes, created_at, updated_at, created_by, updated_by, version) \
     VALUES (?1, ?2, 'Grace', 'Hopper', 'grace@example.com', 'grace@example.com', 'USD', 2, 0, 0, 0, 1, ?3, 0, 0, 0, 0, \
     ?3, 1, ?4, '{}', ?4, ?4, 'system', 'system', 1)";
const LINE: &str = "INSERT INTO order_lines (id, order_id, placed_at, position, bill_seq, kind, sku_id, product_id, code, \
     title, options, attributes, stock_mode, list_price, unit_price, quantity, canceled, subtotal, discount, tax_added, \
     tax_included, total) VALUES (?1, ?2, ?11, ?3, 1, 0, ?4, ?5, ?6, ?7, ?8, '{}', 1, ?9, ?10, 1, 0, ?10, 0, 0, 0, ?10)";
const BILL: &str = "INSERT INTO bills (id, order_id, kind, seq, number, subtotal, discount, shipping, tax_added, \
     tax_included, total, payment_type, status, date, created_at, updated_at, created_by, updated_by, version) \
     VALUES (?1, ?2, 0, 1, ?3, ?4, 0, 0, 0, 0, ?4, 0, 0, ?5, ?5, ?5, 'system', 'system', 1)";
const CHANGE: &str = "INSERT INTO order_changes (order_id, seq, kind, to_status, data, actor, at) \
     VALUES (?1, 1, 'placed', 0, '{}', 'system', ?2)";
const TAKE: &str = "UPDATE skus SET on_hand = on_hand - 1 WHERE id = ?1";
const MOVEMENT: &str = "INSERT INTO stock_movements (id, sku_id, delta, reason, reference, order_line_id, created_at, \
     created_by) VALUES (?1, ?2, -1, 'order', ?3, ?4, ?5, 'system')";
const REVISION: &str = "UPDATE products SET revision = revision + 1 WHERE id = ?1 RETURNING revision";
const EVENT: &str = "INSERT INTO outbox_events (id, kind, aggregate_id, revision, data, occurred_at, actor) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'system')";

/// Places an order in a transaction and returns its id.
fn place(tx: &Transaction<'_>, lines: &[Line; 2]) -> rusqlite::Result<Uuid> {
    let id = |row: &Row<'_>, column: usize| row.get(column).map(Uuid::from_bytes);
    let mut offers = Vec::with_capacity(lines.len());
    for (sku, shown) in lines {
        let read = |row: &Row<'_>| {
            Ok(Offer {
                sku: id(row, 0)?,
                product: id(row, 1)?,
                code: row.get(2)?,
                title: row.get(3)?,
                options: row.get(4)?,
                list_price: row.get(5)?,
                unit_price: row.get(6)?,
                available: row.get(7)?,
            })
        };
        let offer = tx.prepare_cached(OFFER)?.query_row([sku.as_bytes()], read).optional()?.expect("the SKU is sold");
        assert_eq!(offer.unit_price, *shown, "the price is the one that the buyer saw");
        let wanted = lines.iter().filter(|(other, _)| other == sku).count();
        assert!(offer.available >= i64::try_from(wanted).unwrap_or(i64::MAX), "there is enough stock");
        offers.push(offer);
    }
    let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
    let at = i64::try_from(now.as_micros()).expect("a time before the year 294247");
    let year = year(now.as_secs());
    let numbered = |kind: &str, word: &str| -> rusqlite::Result<String> {
        let value: i64 = tx.prepare_cached(NUMBER)?.query_row([kind], |row| row.get(0))?;
        Ok(format!("{word}-{year}-{value:06}"))
    };
    let (order, total) = (Uuid::now_v7(), offers.iter().map(|o| o.unit_price).sum::<i64>());
    let (number, bill) = (numbered("order", "ORD")?, numbered("bill", "BILL")?);
    tx.prepare_cached(ORDER)?.execute(params![order.as_bytes(), number, total, at])?;
    let mut stock: Vec<(Uuid, String)> = Vec::with_capacity(offers.len());
    let mut taken = Vec::with_capacity(offers.len());
    for (position, o) in (1..).zip(&offers) {
        let line = Uuid::now_v7();
        tx.prepare_cached(LINE)?.execute(params![
            line.as_bytes(),
            order.as_bytes(),
            position,
            o.sku.as_bytes(),
            o.product.as_bytes(),
            o.code,
            o.title,
            o.options,
            o.list_price,
            o.unit_price,
            at,
        ])?;
        taken.push(line);
        let change = format!(r#"{{"delta":-1,"reason":"order","reference":"{number}","sku_id":"{}"}}"#, o.sku);
        match stock.iter_mut().find(|(product, _)| *product == o.product) {
            Some((_, changes)) => *changes = format!("{changes},{change}"),
            None => stock.push((o.product, change)),
        }
    }
    tx.prepare_cached(BILL)?.execute(params![Uuid::now_v7().as_bytes(), order.as_bytes(), bill, total, at])?;
    tx.prepare_cached(CHANGE)?.execute(params![order.as_bytes(), at])?;
    for (o, line) in offers.iter().zip(&taken) {
        tx.prepare_cached(TAKE)?.execute([o.sku.as_bytes()])?;
        let movement = Uuid::now_v7();
        tx.prepare_cached(MOVEMENT)?.execute(params![
            movement.as_bytes(),
            o.sku.as_bytes(),
            number,
            line.as_bytes(),
            at
        ])?;
    }
    for (product, changes) in &stock {
        let revision: i64 = tx.prepare_cached(REVISION)?.query_row([product.as_bytes()], |row| row.get(0))?;
        let data = format!(r#"{{"stock":[{changes}]}}"#);
        let event = Uuid::now_v7();
        tx.prepare_cached(EVENT)?.execute(params![
            event.as_bytes(),
            "stock.changed",
            product.as_bytes(),
            revision,
            data,
            at
        ])?;
    }
    let event = Uuid::now_v7();
    tx.prepare_cached(EVENT)?.execute(params![event.as_bytes(), "order.placed", order.as_bytes(), 1, "null", at])?;
    Ok(order)
}

/// Returns the year in UTC of a number of seconds since 1970.
fn year(seconds: u64) -> u64 {
    let mut days = seconds / 86_400;
    for year in 1970.. {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = 365 + u64::from(leap);
        if days < length {
            return year;
        }
        days -= length;
    }
    unreachable!("some year has that day")
}
