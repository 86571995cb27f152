//! Many shops in one process: on one set of connections each sees its own rows only, and the registry keeps its limits.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ecom::catalog::{Product, ProductInput, ProductListQuery};
use ecom::common::IncludeDeleted;
use ecom::sales::{DeliveryMethod, GuestInput, OrderInput, OrderLineInput};
use ecom::search::SearchQuery;
use ecom::{DatabaseSettings, Error, ErrorCode, Shop, ShopBuilder, ShopConfig, Shops, ShopsLimits};

/// How long a test waits for something that must happen.
const SOON: Duration = Duration::from_secs(120);

/// A place for the databases of many shops.
struct Ground {
    /// The URL of a database, with `{shop}` in it.
    url: String,
    dir: tempfile::TempDir,
    #[cfg(all(feature = "postgres", feature = "mysql"))]
    server: Option<test_servers::TestDatabase>,
}

impl Ground {
    fn files() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/{{shop}}/shop.db", dir.path().display());
        Self {
            url,
            dir,
            #[cfg(all(feature = "postgres", feature = "mysql"))]
            server: None,
        }
    }

    /// Returns the shops of this place. They share `connections` connections to a server.
    fn shops(&self, limits: ShopsLimits, connections: usize) -> Shops {
        self.counted(limits, connections, Arc::default())
    }

    /// As [`Self::shops`]; also counts how often a shop is opened.
    fn counted(&self, limits: ShopsLimits, connections: usize, opened: Arc<AtomicUsize>) -> Shops {
        let (url, index) = (self.url.clone(), index(self.dir.path()));
        let new = move |_: &ecom::ShopName| {
            opened.fetch_add(1, Ordering::SeqCst);
            builder(&url, connections).search(&index)
        };
        Shops::new(limits, new).unwrap()
    }
}

fn index(directory: &Path) -> String {
    format!("tantivy://{}/{{shop}}/index", directory.display())
}

fn builder(url: &str, connections: usize) -> ShopBuilder {
    let settings = DatabaseSettings::default().max_connections(connections).acquire_timeout(Duration::from_secs(60));
    let config = ShopConfig::default().search_log(false);
    ShopBuilder::new().database(url).database_settings(settings).cache("none").config(config)
}

fn limits() -> ShopsLimits {
    ShopsLimits::default().wait(Duration::from_secs(60))
}

fn lamp(title: &str) -> ProductInput {
    ProductInput::new(title).price("2.50 USD".parse().unwrap()).stock(1_000)
}

async fn add(shop: &Shop, title: &str) -> Product {
    shop.products().create(&lamp(title)).await.unwrap()
}

fn order(product: &Product) -> OrderInput {
    let guest = GuestInput {
        email: "ada@example.com".to_owned(),
        first_name: "Ada".to_owned(),
        last_name: "Lovelace".to_owned(),
        ..GuestInput::default()
    };
    let sku = &product.skus[0];
    OrderInput::for_guest(guest, DeliveryMethod::OnHand).line(OrderLineInput::new(sku.id, 1, sku.price.amount()))
}

/// Returns the titles of all products.
async fn titles(shop: &Shop) -> Vec<String> {
    let list = shop.products().list(&ProductListQuery::default()).await.unwrap();
    let mut titles: Vec<String> = list.page.items.iter().map(|p| p.title.clone()).collect();
    titles.sort();
    titles
}

/// Returns the titles of the products that a search finds.
async fn finds(shop: &Shop, text: &str) -> Vec<String> {
    let query = SearchQuery { text: text.to_owned(), ..SearchQuery::default() };
    let found = shop.search().search(&query).await.unwrap();
    found.products.iter().map(|product| product.title.clone()).collect()
}

async fn wait_until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is().await {
        assert!(start.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the tests on a place.
macro_rules! on {
    ($ground:expr => $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            let ground = $ground;
            crate::$name(&ground).await;
            ground.clear().await;
        })*
    };
}

mod files {
    on! {
        crate::Ground::files() =>
        shops_see_their_own_rows_only
        a_call_that_fails_or_is_dropped_leaves_no_trace_in_another_shop
        fifty_shops_serve_reads_and_orders_at_the_same_time
        a_shop_is_opened_once_for_many_callers
        a_shop_that_does_not_exist_is_refused
    }
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
mod postgres {
    on! {
        crate::servers::on_postgres().await =>
        shops_see_their_own_rows_only
        a_call_that_fails_or_is_dropped_leaves_no_trace_in_another_shop
        fifty_shops_serve_reads_and_orders_at_the_same_time
        a_shop_is_opened_once_for_many_callers
        a_shop_that_does_not_exist_is_refused
    }
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
mod mysql {
    on! {
        crate::servers::on_mysql().await =>
        shops_see_their_own_rows_only
        a_call_that_fails_or_is_dropped_leaves_no_trace_in_another_shop
        fifty_shops_serve_reads_and_orders_at_the_same_time
        a_shop_is_opened_once_for_many_callers
        a_shop_that_does_not_exist_is_refused
    }
}

/// The same titles, slugs and numbers exist in each shop, on two connections that serve both in turn.
async fn shops_see_their_own_rows_only(ground: &Ground) {
    let shops = ground.shops(limits(), 2);
    let (a, b) = (shops.create("acme").await.unwrap(), shops.create("bolt").await.unwrap());
    assert_ne!(a.identity().await.unwrap(), b.identity().await.unwrap());
    let mut made = Vec::new();
    for n in 0..6 {
        let (of_a, of_b) = (add(&a, &format!("Lamp {n}")).await, add(&b, &format!("Lamp {n}")).await);
        assert_eq!(of_a.slug, of_b.slug);
        made.push((of_a, of_b));
    }
    add(&b, "Only here").await;
    let mut numbers = Vec::new();
    for (of_a, of_b) in &made {
        for (mine, other, shop) in [(of_a, of_b, &a), (of_b, of_a, &b)] {
            assert_eq!(shop.products().get(mine.id).await.unwrap().title, mine.title);
            let error = shop.products().get(other.id).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::NotFound, "{error}");
            let placed = shop.orders().place(&order(mine)).await.unwrap();
            assert_eq!(placed.lines[0].product_id, Some(mine.id));
            numbers.push(placed.number);
            let error = shop.orders().place(&order(other)).await.unwrap_err();
            assert!(!error.is_retryable(), "the SKU does not exist here: {error}");
        }
    }
    assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1]), "each shop has its own numbers: {numbers:?}");
    assert_eq!((titles(&a).await.len(), titles(&b).await.len()), (6, 7));
    shops.close().await;
    let error = a.products().get_fresh(made[0].0.id, IncludeDeleted::No).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert_eq!(shops.get("acme").await.unwrap_err().code(), ErrorCode::Unavailable);
}

/// Calls that a constraint refuses, transactions that are dropped half-way, and calls that are cancelled at any point
/// leave connections behind that the other shop uses next.
async fn a_call_that_fails_or_is_dropped_leaves_no_trace_in_another_shop(ground: &Ground) {
    let shops = ground.shops(limits(), 2);
    let (a, b) = (shops.create("acme").await.unwrap(), shops.create("bolt").await.unwrap());
    add(&a, "A").await;
    add(&b, "B").await;
    for n in 0..60_u64 {
        let title = format!("Gone {n}");
        let (this, other, own) = if n % 2 == 0 { (&a, &b, "B") } else { (&b, &a, "A") };
        match n % 3 {
            0 => {
                let mut tx = this.begin().await.unwrap();
                this.products().create_in(&mut tx, &lamp(&title)).await.unwrap();
                drop(tx);
            }
            1 => {
                let slug = Some(if n % 2 == 0 { "a" } else { "b" }.to_owned());
                let taken = ProductInput { slug, ..lamp(&title) };
                assert!(this.products().create(&taken).await.is_err(), "the slug is taken");
            }
            _ => {
                // It ends at another await each time, and may also be done.
                let brief = Duration::from_micros(n * n * 3);
                let _ = tokio::time::timeout(brief, titles(this)).await;
                let mut tx = this.begin().await.unwrap();
                let (products, input) = (this.products(), lamp(&title));
                let _ = tokio::time::timeout(brief, products.create_in(&mut tx, &input)).await;
                drop(tx);
            }
        }
        assert_eq!(titles(other).await, [own], "after call {n}");
    }
    assert_eq!(titles(&a).await, ["A"]);
    assert_eq!(titles(&b).await, ["B"]);
    shops.close().await;
}

async fn fifty_shops_serve_reads_and_orders_at_the_same_time(ground: &Ground) {
    const SHOPS: usize = 50;
    const CONNECTIONS: usize = 5;
    let shops = ground.shops(limits(), CONNECTIONS);
    let mut making = tokio::task::JoinSet::new();
    for n in 0..SHOPS {
        let shops = shops.clone();
        making.spawn(async move {
            let shop = shops.create(&format!("shop_{n}")).await.unwrap();
            (n, add(&shop, &format!("Lamp of {n}")).await)
        });
    }
    let mut products: Vec<_> = making.join_all().await;
    products.sort_by_key(|(n, _)| *n);
    assert_eq!(shops.status().open, SHOPS);
    let mut calls = tokio::task::JoinSet::new();
    for (n, product) in products {
        let shops = shops.clone();
        calls.spawn(async move {
            let shop = shops.get(&format!("shop_{n}")).await.unwrap();
            for round in 1..=3_u32 {
                let read = shop.products().get_fresh(product.id, IncludeDeleted::No).await.unwrap();
                assert_eq!(read.title, format!("Lamp of {n}"));
                shop.orders().place(&order(&product)).await.unwrap();
                let left = shop.products().get_fresh(product.id, IncludeDeleted::No).await.unwrap().skus[0].available();
                assert_eq!(left, 1_000 - i64::from(round));
                assert_eq!(titles(&shop).await, [format!("Lamp of {n}")]);
            }
        });
    }
    let mut most = 0;
    while !calls.is_empty() {
        tokio::select! {
            done = calls.join_next() => done.unwrap().unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => most = most.max(ground.connections().await),
        }
    }
    most = most.max(ground.connections().await);
    if ground.is_server() {
        // Those of migrations have ended.
        assert!((1..=CONNECTIONS).contains(&most), "{most} connections");
        let status = shops.status().connections;
        assert_eq!((status.max, status.waiting), (CONNECTIONS, 0));
        assert_eq!(status.idle, status.size);
    }
    shops.close().await;
}

async fn a_shop_is_opened_once_for_many_callers(ground: &Ground) {
    let opened = Arc::new(AtomicUsize::new(0));
    let shops = ground.counted(limits(), 4, opened.clone());
    drop(shops.create("acme").await.unwrap());
    assert!(shops.remove("acme").await);
    assert_eq!((shops.names().len(), shops.status().open), (0, 0));
    opened.store(0, Ordering::SeqCst);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let shops = shops.clone();
            tokio::spawn(async move { shops.get("acme").await.unwrap().identity().await.unwrap() })
        })
        .collect();
    let mut identities = Vec::new();
    for call in calls {
        identities.push(call.await.unwrap());
    }
    identities.dedup();
    assert_eq!((identities.len(), opened.load(Ordering::SeqCst)), (1, 1));
    shops.close().await;
}

async fn a_shop_that_does_not_exist_is_refused(ground: &Ground) {
    let opened = Arc::new(AtomicUsize::new(0));
    let shops = ground.counted(limits(), 2, opened.clone());
    let long = "a".repeat(49);
    for bad in
        ["", "Acme", "1st", "a-b", "a b", "a\";DROP SCHEMA public;--", "a`b", "../etc", "a/b", "ä", "{shop}", &long]
    {
        for refused in [shops.get(bad).await.err(), shops.create(bad).await.err(), shops.add(bad).err()] {
            let Some(Error::Validation(fields)) = refused else { panic!("{bad}: {refused:?}") };
            assert_eq!(fields.0[0].field, "shop", "{bad}");
        }
        assert!(!shops.remove(bad).await);
    }
    assert_eq!(opened.load(Ordering::SeqCst), 0, "nothing is opened for a bad name");
    for _ in 0..2 {
        let error = shops.get("nobody").await.unwrap_err();
        let Error::Validation(fields) = &error else { panic!("{error:?}") };
        assert_eq!(fields.0[0].field, "database", "{error}");
        assert!(error.to_string().contains("create"), "{error}");
    }
    assert!(shops.names().is_empty());
    drop(shops.create("nobody").await.unwrap());
    drop(shops.get("nobody").await.unwrap());
    drop(shops.create("nobody").await.unwrap());
    assert_eq!(shops.names().len(), 1);
    shops.close().await;
}

/// The registry itself, on files.
mod registry {
    use super::*;

    fn open_names(shops: &Shops) -> usize {
        shops.status().open
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_shop_that_was_used_least_recently_makes_room() {
        let ground = Ground::files();
        let opened = Arc::new(AtomicUsize::new(0));
        let limits = ShopsLimits::default().max_open(3).wait(Duration::from_millis(200));
        let shops = ground.counted(limits, 1, opened.clone());
        let mut kept = BTreeMap::new();
        for name in ["a", "b", "c"] {
            kept.insert(name, shops.create(name).await.unwrap());
        }
        let error = shops.create("d").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "all are in use: {error}");
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason.contains("raise `max_open`"), "{reason}");
        // The handles end in this order, so that `b` is the one that was used least recently.
        for name in ["b", "a", "c"] {
            kept.remove(name);
        }
        drop(shops.create("d").await.unwrap());
        assert_eq!(open_names(&shops), 3);
        let before = opened.load(Ordering::SeqCst);
        for name in ["a", "c", "d"] {
            drop(shops.get(name).await.unwrap());
        }
        assert_eq!(opened.load(Ordering::SeqCst), before, "they are still open");
        let a = shops.get("a").await.unwrap();
        drop(shops.get("b").await.unwrap());
        assert_eq!(opened.load(Ordering::SeqCst), before + 1, "it was closed");
        assert_eq!(
            a.products().get_by_slug("x").await.unwrap_err().code(),
            ErrorCode::NotFound,
            "in use, so still open"
        );
        assert_eq!(shops.names().len(), 4);
        // A caller waits for the handle of another one.
        let all = [shops.get("b").await.unwrap(), shops.get("d").await.unwrap(), a];
        let waiting = tokio::spawn({
            let shops = shops.clone();
            async move { shops.get("c").await }
        });
        tokio::task::yield_now().await;
        drop(all);
        waiting.await.unwrap().unwrap();
        shops.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_shop_that_nobody_uses_is_closed_and_opens_again() {
        let ground = Ground::files();
        let shops = ground.shops(ShopsLimits::default().idle(Duration::from_millis(100)), 1);
        let background = shops.start();
        let used = shops.create("used").await.unwrap();
        let product = add(&shops.create("idle").await.unwrap(), "Lamp").await;
        wait_until("the idle shop is closed", async || open_names(&shops) == 1).await;
        assert!(used.identity().await.is_ok());
        let again = shops.get("idle").await.unwrap();
        assert_eq!(again.products().get(product.id).await.unwrap().title, "Lamp");
        assert!(shops.remove("used").await, "also a shop in use");
        let error = used.products().get_by_slug("x").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
        background.shutdown().await;
        shops.close().await;
    }

    /// A search finds what was written soon after, and the shop has no background work of its own.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_write_brings_its_shop_a_pass() {
        let ground = Ground::files();
        // No round comes to them in the time of this test.
        let shops = ground.shops(ShopsLimits::default().round(Duration::from_secs(86_400)), 1);
        let background = shops.start();
        for name in ["a", "b", "c"] {
            let shop = shops.create(name).await.unwrap();
            add(&shop, &format!("Lamp of {name}")).await;
        }
        for name in ["a", "b", "c"] {
            let shop = shops.get(name).await.unwrap();
            wait_until("a search finds the product", async || {
                finds(&shop, "lamp").await == [format!("Lamp of {name}")]
            })
            .await;
        }
        let idle = shops.get("a").await.unwrap();
        wait_until("a shop without writes sends no statements", async || {
            let before = idle.storage().statements();
            tokio::time::sleep(Duration::from_millis(300)).await;
            idle.storage().statements() == before
        })
        .await;
        background.shutdown().await;
        shops.close().await;
    }

    /// Its index was behind when its process ended, and nobody opens it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_closed_shop_gets_its_passes_too() {
        let ground = Ground::files();
        let before = ground.shops(limits(), 1);
        add(&before.create("acme").await.unwrap(), "Lamp").await;
        drop(before.create("bolt").await.unwrap());
        before.close().await;

        let opened = Arc::new(AtomicUsize::new(0));
        let shops = ground.counted(ShopsLimits::default().round(Duration::from_millis(200)), 1, opened.clone());
        shops.add("acme").unwrap();
        shops.add("bolt").unwrap();
        assert_eq!((shops.status().known, shops.status().open), (2, 0));
        let background = shops.start();
        wait_until("each shop gets two passes", async || opened.load(Ordering::SeqCst) >= 4).await;
        background.shutdown().await;
        assert_eq!(open_names(&shops), 0, "a shop is closed after its pass");
        let acme = shops.get("acme").await.unwrap();
        assert_eq!(finds(&acme, "lamp").await, ["Lamp"], "the pass has brought the index up to date");
        shops.close().await;
    }

    #[tokio::test]
    async fn a_url_that_all_shops_would_share_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |what: &str| format!("{}/{what}", dir.path().display());
        for (database, search, field) in [
            (format!("sqlite://{}", at("shop.db")), "none".to_owned(), "database"),
            (format!("sqlite://{}", at("{shop}.db")), format!("tantivy://{}", at("index")), "search"),
        ] {
            let shops = Shops::new(limits(), move |_| ShopBuilder::new().database(&database).search(&search)).unwrap();
            let Error::Validation(fields) = shops.create("acme").await.unwrap_err() else { panic!("{field}") };
            assert_eq!(fields.0[0].field, field);
            assert!(fields.0[0].message.contains("{shop}"), "{fields:?}");
        }
        for (bad, field) in [
            (ShopsLimits::default().max_open(0), "max_open"),
            (ShopsLimits::default().passes(0), "passes"),
            (ShopsLimits::default().connections_per_shop(0), "connections_per_shop"),
            (ShopsLimits::default().idle(Duration::ZERO), "idle"),
            (ShopsLimits::default().round(Duration::ZERO), "round"),
        ] {
            let Err(Error::Validation(fields)) = Shops::new(bad, |_| ShopBuilder::new()) else { panic!("{field}") };
            assert_eq!(fields.0[0].field, field);
        }
    }
}

#[cfg(not(all(feature = "postgres", feature = "mysql")))]
impl Ground {
    fn is_server(&self) -> bool {
        let _ = self;
        false
    }

    async fn connections(&self) -> usize {
        std::future::ready(0).await
    }

    async fn clear(self) {
        drop(self);
        std::future::ready(()).await;
    }
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
#[path = "shops/servers.rs"]
mod servers;

#[cfg(all(feature = "redis", feature = "elasticsearch"))]
#[path = "shops/shared.rs"]
mod shared;
