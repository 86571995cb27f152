//! A shop of `stateset-embedded` 1.40, used as its documentation describes.
//!
//! An order writes one row in `orders`, one per line in `order_items` and in `inventory_reservations`, and updates a
//! row of `inventory_balances` per line, in one transaction. It reserves the stock, and fails if there is not enough.
//! It writes no bill, no history, no ledger of stock and no events. It checks that the product of a SKU is active, but
//! no price: the caller states it. Its optional events and webhooks are not compiled in.
//!
//! A product is read by two calls, one for the product and one for its variants, which are the SKUs. They read no stock
//! and no categories.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use stateset_db::{DatabaseConfig, SqliteDatabase, SqliteDurability};
use stateset_embedded::{
    Commerce, CreateCustomer, CreateInventoryItem, CreateOrder, CreateOrderItem, CreateProduct, CreateProductVariant,
    CustomerId, OrderFilter, ProductId, ProductVariant, StockPolicy, VariantOption,
};

use crate::choice::{CALLERS, Choice, SECONDS, number};

/// The number of its connections, which is its default. Only one of them can write at a time.
const CONNECTIONS: u32 = 5;

/// The sizes of a product, one per SKU, as in the shop of `ecom`.
const SIZES: [&str; 2] = ["M", "L"];

/// A shop of `stateset-embedded`. Its calls block.
pub struct Shop {
    commerce: Commerce,
    customer: CustomerId,
    products: Vec<ProductId>,
    skus: Vec<ProductVariant>,
    placed: AtomicU64,
}

impl Shop {
    /// Creates a shop with a SKU per price, and a product per two SKUs.
    pub fn create(path: &Path, prices: &[Decimal]) -> Self {
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
        let (mut products, mut skus) = (Vec::new(), Vec::with_capacity(prices.len()));
        for (i, pair) in prices.chunks(SIZES.len()).enumerate() {
            let variant = |(size, price): (&str, &Decimal)| CreateProductVariant {
                sku: format!("B-{i}-{size}"),
                price: *price,
                options: Some(vec![VariantOption { name: "size".to_owned(), value: size.to_owned() }]),
                ..CreateProductVariant::default()
            };
            let product = CreateProduct {
                name: format!("Measured product {i}"),
                description: Some(
                    "A product that stands for the usual ones: two sentences of text. This is the second.".to_owned(),
                ),
                variants: Some(SIZES.into_iter().zip(pair).map(variant).collect()),
                ..CreateProduct::default()
            };
            let product = commerce.products().create(product).expect("a product").id;
            commerce.products().activate(product).expect("an active product");
            products.push(product);
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
        Self { commerce, customer, products, skus, placed: AtomicU64::new(0) }
    }

    /// Places orders for some seconds, from [`CALLERS`] threads. Returns how many, and the time that it took.
    pub fn place(&self, choose: Choice) -> (u64, Duration) {
        let start = Instant::now();
        let n = on_threads(CALLERS, |caller| {
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let (first, second) = choose(number(caller, n), self.skus.len());
                self.place_one(first, second);
                n += 1;
            }
            n as u64
        });
        self.placed.fetch_add(n, Ordering::Relaxed);
        (n, start.elapsed())
    }

    fn place_one(&self, first: usize, second: usize) {
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
            customer_id: self.customer,
            items: vec![item(&self.skus[first]), item(&self.skus[second])],
            stock_policy: StockPolicy::RejectIfInsufficient,
            ..CreateOrder::default()
        };
        self.commerce.orders().create(order).expect("an order");
    }

    /// Reads products with their SKUs, `each` on every thread. Returns how many, and the time that it took.
    pub fn read(&self, threads: usize, each: usize) -> (u64, Duration) {
        let start = Instant::now();
        let n = on_threads(threads, |thread| {
            for i in 0..each {
                // The same order of products as with the shop.
                let id = self.products[(i + thread * 97) % self.products.len()];
                let product = self.commerce.products().get(id).expect("a product").expect("the product exists");
                let variants = self.commerce.products().get_variants(id).expect("variants");
                assert_eq!(variants.len(), SIZES.len(), "variants of a product");
                black_box((product, variants));
            }
            each as u64
        });
        (n, start.elapsed())
    }

    /// Checks that all orders are there.
    pub fn check(&self) {
        let orders = self.commerce.orders().count(OrderFilter::default()).expect("a number");
        assert_eq!(orders, self.placed.load(Ordering::Relaxed), "orders of stateset-embedded");
    }
}

/// Runs a function on `n` threads, each with its number, and returns the sum of the results.
fn on_threads(n: usize, run: impl Fn(usize) -> u64 + Sync) -> u64 {
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..n).map(|i| scope.spawn(move || run(i))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread ends")).sum()
    })
}
