//! Orders through `stateset-embedded` 1.40, as its documentation places them.
//!
//! An order writes one row in `orders`, one per line in `order_items` and in `inventory_reservations`, and updates a row
//! of `inventory_balances` per line, in one transaction. It reserves the stock, and fails if there is not enough. It
//! writes no bill, no history, no ledger of stock and no events. It checks that the product of a SKU is active, but no
//! price: the caller states it. Its optional events and webhooks are not compiled in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom::money::Decimal;
use stateset_db::{DatabaseConfig, SqliteDatabase, SqliteDurability};
use stateset_embedded::{
    Commerce, CreateCustomer, CreateInventoryItem, CreateOrder, CreateOrderItem, CreateProduct, CreateProductVariant,
    CustomerId, OrderFilter, ProductVariant, StockPolicy,
};

use crate::placing::{CALLERS, Choice, Prices, SECONDS, number};

/// The number of its connections, which is its default. Only one of them can write at a time.
const CONNECTIONS: u32 = 5;

/// A shop of `stateset-embedded`.
pub struct Peer {
    commerce: Arc<Commerce>,
    customer: CustomerId,
    skus: Arc<Vec<ProductVariant>>,
    placed: AtomicU64,
}

impl Peer {
    /// Creates a shop that sells as many SKUs as ours, at the same prices.
    pub fn open(path: &Path, prices: &Prices) -> Self {
        let config = DatabaseConfig { url: path.display().to_string(), max_connections: CONNECTIONS };
        let db = SqliteDatabase::new_with_durability(&config, SqliteDurability::Full).expect("a database");
        let synchronous = db.storage_status().expect("its settings").synchronous;
        assert_eq!(synchronous, 2, "synchronous = FULL");
        let commerce = Commerce::with_database(Arc::new(db));
        let customer = CreateCustomer {
            email: "grace@example.com".to_owned(),
            first_name: "Grace".to_owned(),
            last_name: "Hopper".to_owned(),
            ..CreateCustomer::default()
        };
        let customer = commerce.customers().create(customer).expect("a customer").id;
        let mut skus = Vec::with_capacity(prices.len());
        for (i, pair) in prices.chunks(2).enumerate() {
            let variant = |(size, (_, price)): (&str, &(_, Decimal))| CreateProductVariant {
                sku: format!("B-{i}-{size}"),
                price: *price,
                ..CreateProductVariant::default()
            };
            let product = CreateProduct {
                name: format!("Measured product {i}"),
                variants: Some(["M", "L"].into_iter().zip(pair).map(variant).collect()),
                ..CreateProduct::default()
            };
            let product = commerce.products().create(product).expect("a product").id;
            commerce.products().activate(product).expect("an active product");
            for variant in commerce.products().get_variants(product).expect("variants") {
                let item = CreateInventoryItem {
                    sku: variant.sku.clone(),
                    name: format!("Measured product {i}"),
                    initial_quantity: Some(Decimal::from(1_000_000)),
                    ..CreateInventoryItem::default()
                };
                commerce.inventory().create_item(item).expect("an item");
                skus.push(variant);
            }
        }
        assert_eq!(skus.len(), prices.len());
        Self { commerce: Arc::new(commerce), customer, skus: Arc::new(skus), placed: AtomicU64::new(0) }
    }

    /// Places orders for some seconds, from [`CALLERS`] threads, because its calls block.
    pub async fn place(&self, choose: Choice) -> (u64, Duration) {
        let (customer, start) = (self.customer, Instant::now());
        let mut threads = Vec::with_capacity(CALLERS);
        for caller in 0..CALLERS {
            let (commerce, skus) = (self.commerce.clone(), self.skus.clone());
            threads.push(std::thread::spawn(move || {
                let mut n = 0;
                while start.elapsed() < Duration::from_secs(SECONDS) {
                    let (first, second) = choose(number(caller, n), skus.len());
                    let item = |variant: &ProductVariant| CreateOrderItem {
                        product_id: variant.product_id,
                        variant_id: Some(variant.id),
                        sku: variant.sku.clone(),
                        name: "Measured product".to_owned(),
                        quantity: 1,
                        unit_price: variant.price,
                        ..CreateOrderItem::default()
                    };
                    let order = CreateOrder {
                        customer_id: customer,
                        items: vec![item(&skus[first]), item(&skus[second])],
                        stock_policy: StockPolicy::RejectIfInsufficient,
                        ..CreateOrder::default()
                    };
                    commerce.orders().create(order).expect("an order");
                    n += 1;
                }
                n as u64
            }));
        }
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(|t| t.join().expect("a thread ends")).sum::<u64>()
        });
        let n = joined.await.expect("the threads end");
        self.placed.fetch_add(n, Ordering::Relaxed);
        (n, start.elapsed())
    }

    /// Checks that all orders are there.
    pub fn check(&self) {
        let orders = self.commerce.orders().count(OrderFilter::default()).expect("a number");
        assert_eq!(orders, self.placed.load(Ordering::Relaxed), "orders of stateset-embedded");
    }
}
