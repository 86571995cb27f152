//! Databases that break under load, on servers of each test's own. Afterwards, acknowledged writes are there, the
//! ledger adds up, and caches and indexes agree with the database. Every caller was answered in time, and the shop
//! recovered by itself.

#![cfg(all(any(feature = "postgres", feature = "mysql"), feature = "memory", feature = "tantivy"))]
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecom_core::access::Principal;
use ecom_core::catalog::ProductListQuery;
use ecom_core::catalog::{ProductFilter, ProductInput, ProductPatch, ProductSort};
use ecom_core::common::{ExpectedVersion, IncludeDeleted};
use ecom_core::config::ShopConfig;
use ecom_core::id::{OrderId, ProductId, SkuId};
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::Background;
use ecom_core::port::Storage as _;
use ecom_core::sales::{DeliveryMethod, GuestInput, OrderFilter, OrderInput, OrderLineInput, OrderSort};
use ecom_core::stock::StockAdjustment;
use ecom_core::stock::StockReason;
use ecom_core::{ErrorCode, Result, Shop, ShopParts};
use ecom_http::HttpConfig;
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{ServerOptions, SqlStorage};
use test_servers::{Kind, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The time limits of the options below: for a connection, and for the statement that notices the failure.
const ACQUIRE: Duration = Duration::from_secs(2);
const STATEMENT: Duration = Duration::from_secs(2);
/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(120);
const TASKS: u64 = 6;

/// Waits until each of these counters has risen this much.
async fn reach(counters: &[AtomicU64], times: u64, what: &str) {
    let before: Vec<u64> = counters.iter().map(|n| n.load(Ordering::SeqCst)).collect();
    let start = Instant::now();
    while counters.iter().zip(&before).any(|(n, before)| n.load(Ordering::SeqCst) < before + times) {
        assert!(start.elapsed() < LIMIT, "{what}: {counters:?} after {before:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn me() -> Principal {
    Principal::trusted("user:faults")
}

/// Opens another shop, as another process would.
async fn open(url: &str) -> Shop {
    let mut options = ServerOptions::from_url(url).unwrap();
    options.max_connections = 12;
    options.acquire_timeout = ACQUIRE;
    options.statement_timeout = STATEMENT;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let search = TantivySearch::open(TantivyOptions::memory().writer_memory(15_000_000));
    let config = ShopConfig::default().poll_interval(Duration::from_millis(100));
    let cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    let parts = ShopParts { cache, config, ..ShopParts::new(Arc::new(storage), Arc::new(search.await.unwrap())) };
    Shop::new(parts).unwrap()
}

/// The outcomes of the writes of one task.
#[derive(Debug, Default)]
struct Told {
    products: Vec<(ProductId, String)>,
    brands: BTreeMap<ProductId, u64>,
    adjusted: Vec<(SkuId, String)>,
    /// Writes that certainly did not happen.
    refused: Vec<(SkuId, String)>,
    /// Writes that may have happened.
    unknown: Vec<(SkuId, String)>,
    orders: Vec<(OrderId, String)>,
    /// Orders that were certainly not placed.
    refused_orders: Vec<String>,
    /// Orders that may have been placed.
    unknown_orders: Vec<String>,
    errors: u64,
    slowest: Duration,
}

#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    /// How many calls of each task succeeded.
    succeeded: Vec<AtomicU64>,
    /// How many calls of each task were answered, with whatever outcome.
    answered: Vec<AtomicU64>,
}

impl Load {
    fn of_tasks(tasks: u64) -> Self {
        let zeros = || (0..tasks).map(|_| AtomicU64::new(0)).collect();
        Self { stop: AtomicBool::new(false), succeeded: zeros(), answered: zeros() }
    }

    /// Waits until each task has succeeded this many times more.
    async fn goes_on(&self, times: u64, what: &str) {
        reach(&self.succeeded, times, what).await;
    }

    /// Waits until each task has had this many answers more, with whatever outcome.
    async fn is_answered(&self, times: u64, what: &str) {
        reach(&self.answered, times, what).await;
    }
}

/// Creates, adjusts, patches, places orders and reads until it is stopped. Every error must be one of an unavailable
/// database.
async fn work(shop: Shop, name: String, load: Arc<Load>, task: usize) -> Told {
    let mut told = Told::default();
    let mut last: Option<(ProductId, SkuId)> = None;
    let mut n = 0_u64;
    while !load.stop.load(Ordering::SeqCst) {
        n += 1;
        let key = format!("{name}-{n}");
        let start = Instant::now();
        let done: Result<()> = match (n % 5, last) {
            (0, _) | (_, None) => {
                let json = format!("{{\"title\":\"Lamp {key}\",\"price\":\"7.50\",\"stock\":3}}");
                let input: ProductInput = serde_json::from_str(&json).unwrap();
                shop.acting_as(&me()).products().create(&input).await.map(|p| {
                    last = Some((p.id, p.skus[0].id));
                    told.products.push((p.id, p.title));
                })
            }
            (1, Some((id, _))) => match shop.products().get_fresh(id, IncludeDeleted::No).await {
                Err(e) => Err(e),
                Ok(p) => {
                    let patch: ProductPatch = serde_json::from_str(&format!("{{\"brand\":\"{n}\"}}")).unwrap();
                    let read = ExpectedVersion::Exact(p.audit.version);
                    shop.acting_as(&me()).products().patch(id, read, patch).await.map(|_| {
                        told.brands.insert(id, n);
                    })
                }
            },
            (2, Some((id, _))) => shop.products().get(id).await.map(drop),
            (3, Some((_, sku_id))) => {
                let price: ecom_core::money::ExactDecimal = "7.50".parse().unwrap();
                let email = format!("{key}@example.com");
                let guest =
                    GuestInput { first_name: "Ada".into(), last_name: "Lovelace".into(), email, telephone: None };
                let order = OrderInput::for_guest(guest, DeliveryMethod::OnHand)
                    .attribute("key", key.as_str())
                    .line(OrderLineInput::new(sku_id, 1, price));
                match shop.orders().place(&order).await {
                    Ok(order) => {
                        told.orders.push((order.id, key.clone()));
                        Ok(())
                    }
                    Err(e) => {
                        let orders =
                            if e.outcome_unknown() { &mut told.unknown_orders } else { &mut told.refused_orders };
                        orders.push(key.clone());
                        Err(e)
                    }
                }
            }
            (_, Some((_, sku_id))) => {
                let reference = Some(key.clone());
                let adjustment = StockAdjustment { sku_id, delta: 2, reason: StockReason::Received, reference };
                match shop.inventory().adjust(adjustment).await {
                    Ok(_) => {
                        told.adjusted.push((sku_id, key.clone()));
                        Ok(())
                    }
                    Err(e) => {
                        let answers = if e.outcome_unknown() { &mut told.unknown } else { &mut told.refused };
                        answers.push((sku_id, key.clone()));
                        Err(e)
                    }
                }
            }
        };
        told.slowest = told.slowest.max(start.elapsed());
        load.answered[task].fetch_add(1, Ordering::SeqCst);
        match done {
            Ok(()) => drop(load.succeeded[task].fetch_add(1, Ordering::SeqCst)),
            Err(e) => {
                assert_eq!(e.code(), ErrorCode::Unavailable, "{key}: {e:?}");
                assert!(e.is_retryable() && !e.to_string().contains("127.0.0.1"), "{key}: {e:?}");
                told.errors += 1;
                // Retries as a caller would, though sooner than `Retry-After` asks for.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    told
}

/// Returns the status line and the headers of an HTTP response.
async fn ask(port: u16, path: &str) -> String {
    let mut c = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    c.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, c.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    answer.split("\r\n\r\n").next().unwrap().to_lowercase()
}

async fn serve(shop: Shop) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = ecom_http::router(shop, HttpConfig::default());
    (port, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A restart by an administrator.
    Restart,
    /// SIGKILL, after which the next start recovers.
    Kill9,
    /// SIGSTOP until every caller was answered: connections stay open, and the server does not answer.
    Pause,
}

/// A path whose reads are never cached.
const UNCACHED: &str = "/api/v1/skus/0193b5a6-0000-7000-8000-000000000001";

async fn breaks_under_load(kind: Kind, fault: Fault) {
    let mut server = Server::with(kind, &[]).await;
    let shops = [open(&server.url()).await, open(&server.url()).await];
    let background: Vec<Background> = shops.iter().map(Shop::start).collect();
    let (port, http) = serve(shops[0].clone()).await;
    let head = ask(port, UNCACHED).await;
    assert!(head.starts_with("http/1.1 404"), "{head}");

    let load = Arc::new(Load::of_tasks(TASKS));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..usize::try_from(TASKS).unwrap() {
        let (shop, load) = (shops[task % shops.len()].clone(), load.clone());
        tasks.spawn(work(shop, format!("t{task}"), load, task));
    }
    load.goes_on(40, "at first").await;

    match fault {
        Fault::Restart => server.restart().await,
        Fault::Kill9 => {
            server.kill9().await;
            unavailable(port).await;
            server.start().await;
        }
        Fault::Pause => {
            server.pause();
            // The first answer may have come before the pause; all others come while nothing answers.
            let answers = load.is_answered(3, "while the server is stopped");
            let asked = async {
                for _ in 0..2 {
                    unavailable(port).await;
                }
            };
            tokio::join!(answers, asked);
            server.resume();
        }
    }
    let since = Instant::now();
    load.goes_on(20, "after the fault").await;
    println!("{kind:?} {fault:?}: every task goes on {:?} after the server", since.elapsed());
    let head = ask(port, UNCACHED).await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    load.stop.store(true, Ordering::SeqCst);
    let told: Vec<Told> = tasks.join_all().await;

    let errors: u64 = told.iter().map(|t| t.errors).sum();
    let slowest = told.iter().map(|t| t.slowest).max().unwrap();
    let unknown: usize = told.iter().map(|t| t.unknown.len()).sum();
    let writes: usize = told.iter().map(|t| t.products.len() + t.adjusted.len()).sum();
    println!("{kind:?} {fault:?}: {writes} writes, {errors} errors, {unknown} unknown, slowest answer {slowest:?}");
    let orders: usize = told.iter().map(|t| t.orders.len()).sum();
    let unknown: usize = told.iter().map(|t| t.unknown_orders.len()).sum();
    println!("{kind:?} {fault:?}: {orders} orders, {unknown} unknown");
    if !matches!(fault, Fault::Restart) {
        assert!(errors > 0, "no call failed during the fault");
    }
    nothing_is_lost(&shops[0], &told).await;
    no_order_is_lost_or_doubled(&shops[0], &told).await;
    for shop in &shops {
        all_agree(shop).await;
    }
    for b in background {
        b.shutdown().await;
    }
    http.abort();
    for shop in &shops {
        shop.storage().close().await;
    }
}

/// Checks that HTTP answers 503 with `Retry-After`, and that health reports the failure.
async fn unavailable(port: u16) {
    let head = ask(port, UNCACHED).await;
    assert!(head.starts_with("http/1.1 503") && head.contains("\r\nretry-after: "), "{head}");
    let head = ask(port, "/health/ready").await;
    assert!(head.starts_with("http/1.1 503"), "{head}");
    let head = ask(port, "/health/live").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
}

/// Checks that everything acknowledged is there exactly once, and that nothing is there that was certainly refused.
async fn nothing_is_lost(shop: &Shop, told: &[Told]) {
    for t in told {
        for (id, title) in &t.products {
            let p = shop.products().get_fresh(*id, IncludeDeleted::No).await.unwrap();
            assert_eq!(p.title, *title);
            assert_eq!(p.skus.len(), 1);
            if let Some(n) = t.brands.get(id) {
                // One more may have been written whose answer was lost.
                let brand: u64 = p.brand.as_deref().unwrap().parse().unwrap();
                assert!(brand >= *n, "{id}: {brand}, acknowledged {n}");
            }
        }
        let mut references: BTreeMap<SkuId, BTreeMap<String, u64>> = BTreeMap::new();
        for (sku, _) in t.adjusted.iter().chain(&t.refused).chain(&t.unknown) {
            if references.contains_key(sku) {
                continue;
            }
            let found = references.entry(*sku).or_default();
            let mut paging = Paging::first(100);
            loop {
                let (page, _) = shop.inventory().movements(*sku, &paging).await.unwrap();
                for m in page.items {
                    *found.entry(m.reference.unwrap_or_default()).or_default() += 1;
                }
                match page.next {
                    None => break,
                    after => paging = Paging::Keyset { after, limit: 100 },
                }
            }
        }
        let times = |(sku, key): &(SkuId, String)| references[sku].get(key).copied().unwrap_or(0);
        for a in &t.adjusted {
            assert_eq!(times(a), 1, "acknowledged: {a:?}");
        }
        for a in &t.refused {
            assert_eq!(times(a), 0, "certainly refused: {a:?}");
        }
        for a in &t.unknown {
            assert!(times(a) <= 1, "of unknown outcome: {a:?}");
        }
    }
    // R11: the ledger adds up.
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
}

/// Checks that every acknowledged order is there exactly once, and that none is there that was certainly refused.
async fn no_order_is_lost_or_doubled(shop: &Shop, told: &[Told]) {
    let mut found: BTreeMap<String, Vec<OrderId>> = BTreeMap::new();
    let mut after = None;
    loop {
        let paging = Paging::Keyset { after, limit: 200 };
        let (page, _) = shop.orders().list(&OrderFilter::default(), OrderSort::default(), &paging).await.unwrap();
        for order in page.items {
            let key = order.attributes.0["key"].as_str().unwrap();
            found.entry(key.to_owned()).or_default().push(order.id);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let of = |key: &String| found.get(key).map_or(&[][..], Vec::as_slice);
    for t in told {
        for (id, key) in &t.orders {
            assert_eq!(of(key), [*id], "acknowledged: {key}");
        }
        for key in &t.refused_orders {
            assert!(of(key).is_empty(), "certainly refused: {key}: {:?}", of(key));
        }
        for key in &t.unknown_orders {
            assert!(of(key).len() <= 1, "of unknown outcome: {key}: {:?}", of(key));
        }
    }
    let asked: usize = told.iter().map(|t| t.orders.len() + t.refused_orders.len() + t.unknown_orders.len()).sum();
    assert!(found.len() <= asked, "orders that nobody asked for");
    let report = shop.audit().run().await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

/// R14, R15: index and cache of a process agree with the database, without calling for it.
async fn all_agree(shop: &Shop) {
    let start = Instant::now();
    loop {
        let report = shop.index().verify(false).await.unwrap();
        if report.is_clean() && report.compared > 0 {
            break;
        }
        assert!(start.elapsed() < LIMIT, "the index does not follow: {report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut after = None;
    loop {
        let query = ProductListQuery {
            filter: ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() },
            sort: ProductSort::CreatedAsc,
            paging: Paging::Keyset { after: after.take(), limit: 100 },
        };
        let list = shop.products().list(&query).await.unwrap();
        for p in &list.value.page.items {
            while shop.products().get(p.id).await.unwrap().value != *p {
                assert!(start.elapsed() < LIMIT, "the cache has an old {}", p.id);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        after.clone_from(&list.value.page.next);
        if after.is_none() {
            return;
        }
    }
}

macro_rules! faults {
    ($($feature:literal $module:ident $kind:ident;)*) => {$(
        #[cfg(feature = $feature)]
        mod $module {
            use super::*;

            #[test]
            fn r11_r14_r15_restarted_under_load_it_loses_nothing() {
                ecom_core::testkit::run(breaks_under_load(Kind::$kind, Fault::Restart));
            }

            #[test]
            fn r11_r14_r15_killed_under_load_it_loses_nothing() {
                ecom_core::testkit::run(breaks_under_load(Kind::$kind, Fault::Kill9));
            }

            #[test]
            fn r11_r14_r15_stopped_for_10_s_it_loses_nothing_and_callers_are_told() {
                ecom_core::testkit::run(breaks_under_load(Kind::$kind, Fault::Pause));
            }
        }
    )*};
}

faults! {
    "postgres" postgres Postgres;
    "mysql" mariadb MariaDb;
}
