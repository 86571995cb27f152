//! The search server and the process that syncs are killed again and again while they index a large catalog. Once both
//! are back, the index equals the database.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::catalog::ProductInput;
use ecom_core::config::ShopConfig;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::Currency;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{
    BuildProgress, BuildStart, Checkpoint, ForwardSearch, IndexBuild, SearchDocument, SearchProvider, Storage as _,
};
use ecom_core::{Result, Shop, ShopParts};
#[cfg(feature = "elasticsearch")]
use test_servers::Kind;
use test_servers::Server;

use super::{LIMIT, Place, Process, adjustment, engine, input, open, say, storage};

/// How many SKUs the catalog has; two of each product.
fn skus() -> usize {
    test_servers::given("ECOM_CRASH_SKUS").map_or(100_000, |n| n.parse().unwrap())
}

/// Prints each build and each of its batches, for the test to count.
#[derive(Debug)]
struct Reporting(Arc<dyn SearchProvider>);

#[async_trait]
impl ForwardSearch for Reporting {
    fn inner(&self) -> &dyn SearchProvider {
        &*self.0
    }
    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        let build = self.0.begin_rebuild(start, since).await?;
        say(if build.continued().is_some() { "continues" } else { "begins" });
        Ok(Box::new(ReportingBuild(build)))
    }
}

struct ReportingBuild(Box<dyn IndexBuild>);

#[async_trait]
impl IndexBuild for ReportingBuild {
    fn continued(&self) -> Option<BuildProgress> {
        self.0.continued()
    }
    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        say(&format!("adds {}", documents.len()));
        self.0.add(documents, after).await
    }
    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        let refused = self.0.publish(checkpoint).await?;
        say("publishes");
        Ok(refused)
    }
}

/// What the processes have printed.
#[derive(Debug, Default)]
struct Reported {
    begun: usize,
    continued: usize,
    added: usize,
    published: usize,
}

impl Reported {
    fn read(&mut self, lines: &[String]) {
        for line in lines {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("begins", _) => self.begun += 1,
                ("continues", _) => self.continued += 1,
                ("adds", n) => self.added += n.parse::<usize>().unwrap(),
                ("publishes", _) => self.published += 1,
                _ => {}
            }
        }
    }
}

/// Another process takes over a second after a kill.
fn config() -> ShopConfig {
    ShopConfig::default().poll_interval(Duration::from_millis(100)).lease_ttl(Duration::from_secs(1))
}

/// The process that syncs.
pub(super) async fn index(at: &Place) {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let parts = ShopParts::new(Arc::new(storage), Arc::new(Reporting(engine(at).await)));
    let shop = Shop::new(ShopParts { config: config(), ..parts }).unwrap();
    let _background = shop.start();
    say("indexing");
    std::future::pending::<()>().await;
}

async fn fill(shop: &Shop) -> Vec<SkuId> {
    let mut made = Vec::new();
    let products: Vec<usize> = (0..skus() / 2).collect();
    for chunk in products.chunks(500) {
        let inputs: Vec<ProductInput> = chunk
            .iter()
            .map(|n| {
                let sku =
                    |size: &str| serde_json::json!({ "code": format!("C-{n}-{size}"), "price": n + 1, "stock": 9 });
                let brand = format!("Brand {}", n % 50);
                let skus = [sku("M"), sku("L")];
                input(&serde_json::json!({ "title": format!("Lamp {n}"), "brand": brand, "skus": skus }))
            })
            .collect();
        let mut tx = shop.begin().await.unwrap();
        let products = shop.products().create_many_in(&mut tx, &inputs).await.unwrap();
        tx.commit().await.unwrap().run().await;
        made.extend(products.iter().map(|product| product.skus[0].id));
    }
    made
}

async fn nothing_drifts(product: &str, mut server: Server, parameters: &str) {
    let dir = tempfile::tempdir().unwrap();
    let search = Some(format!("{product}+{}?{parameters}", server.url()));
    let at = Place { dir: dir.path().to_owned(), search, ..Place::default() };
    let shop = open(&at).await;
    let start = Instant::now();
    let skus = fill(&shop).await;
    println!("{} products made in {:.1?}", skus.len(), start.elapsed());
    let noise = |n: u64| RandomState::new().hash_one(n);
    let mut reported = Reported::default();
    // The index is not complete before the last kill.
    let batches = skus.len() as u64 / u64::from(config().index_batch);
    let most = batches / KILLS - 1;
    assert!(most > 0, "ECOM_CRASH_SKUS must be at least {}", 4 * KILLS * u64::from(config().index_batch));
    for round in 1..=KILLS {
        let process = Process::start(&at, "index", "sync");
        process.line("indexing");
        // Writes go on all the while.
        for n in 0..50 {
            let sku = skus[usize::try_from(noise(n) % skus.len() as u64).unwrap()];
            shop.inventory().adjust(adjustment(sku, 1, format!("{round}-{n}"))).await.unwrap();
        }
        for _ in 0..=noise(round) % most {
            process.line("adds");
        }
        tokio::time::sleep(Duration::from_millis(noise(round) % 100)).await;
        let is_server_first = noise(round).is_multiple_of(2);
        if is_server_first {
            server.kill9().await;
            tokio::time::sleep(Duration::from_millis(noise(round) % 1_000)).await;
        }
        reported.read(&process.kill());
        if is_server_first {
            server.start().await;
        }
        let killed = if is_server_first { "the server, and then the process" } else { "the process" };
        println!("kill {round} of {killed}: {reported:?}");
    }
    let process = Process::start(&at, "index", "sync");
    process.line("indexing");
    let back = Instant::now();
    let search = engine(&at).await;
    let head = shop.events().head().await.unwrap();
    while !search.checkpoint().await.is_ok_and(|at| at.is_some_and(|at| at.position >= head)) {
        assert!(back.elapsed() < LIMIT * 5, "{reported:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = back.elapsed();
    let report = shop.index().verify(false).await.unwrap();
    assert!(report.is_clean() && report.compared == skus.len() as u64, "{report:?}");
    let before = reported.added;
    reported.read(&process.kill());
    let left = reported.added - before;
    println!(
        "{product}: equal to the database {took:.1?} after both are back; {left} products were left: {reported:?}"
    );
    // A kill costs what was under way, and not what was there.
    let most = skus.len() + usize::try_from(KILLS).unwrap() * UNDER_WAY;
    assert!(reported.added <= most, "{} products were added, and {most} would do", reported.added);
}

/// How often the process is killed.
const KILLS: u64 = 10;
/// The most products that a killed process has read, and that are not known to be in the index: ten batches of 500.
const UNDER_WAY: usize = 5_000;

#[cfg(feature = "elasticsearch")]
const FAST: &str = "replicas=0&write_timeout_ms=5000";

#[cfg(feature = "meilisearch")]
#[test]
#[ignore = "starts a server of its own and takes minutes: ECOM_CRASH_SKUS=100000, with --ignored"]
fn r14_kills_of_meilisearch_and_of_the_process_leave_the_index_equal_to_the_database() {
    ecom_core::testkit::run(async {
        let Some(server) = Server::meilisearch().await else { return };
        nothing_drifts("meilisearch", server, "").await;
    });
}

#[cfg(feature = "elasticsearch")]
#[test]
#[ignore = "starts a server of its own and takes minutes: ECOM_CRASH_SKUS=100000, with --ignored"]
fn r14_kills_of_elasticsearch_and_of_the_process_leave_the_index_equal_to_the_database() {
    ecom_core::testkit::run(async {
        nothing_drifts("elasticsearch", Server::with(Kind::Elasticsearch, &[]).await, FAST).await;
    });
}

#[cfg(feature = "elasticsearch")]
#[test]
#[ignore = "starts a server of its own and takes minutes: ECOM_CRASH_SKUS=100000, with --ignored"]
fn r14_kills_of_opensearch_and_of_the_process_leave_the_index_equal_to_the_database() {
    ecom_core::testkit::run(async {
        nothing_drifts("opensearch", Server::with(Kind::OpenSearch, &[]).await, FAST).await;
    });
}
