//! The search server and the process that syncs are killed again and again while they index a large catalog. Once both
//! are back, the index equals the database.

use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use ecom_core::Shop;
use ecom_core::catalog::ProductInput;
#[cfg(feature = "elasticsearch")]
use test_servers::Kind;
use test_servers::Server;

use super::{LIMIT, Place, Process, adjustment, input, open, say};

/// How many SKUs the catalog has; two of each product.
fn skus() -> usize {
    test_servers::given("ECOM_CRASH_SKUS").map_or(100_000, |n| n.parse().unwrap())
}

/// The process that syncs.
pub(super) async fn index(shop: Shop) {
    let _background = shop.start();
    say("indexing");
    std::future::pending::<()>().await;
}

async fn fill(shop: &Shop) -> Vec<ecom_core::id::SkuId> {
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
    let at = Place { dir: dir.path().to_owned(), database: None, search };
    let shop = open(&at).await;
    let start = Instant::now();
    let skus = fill(&shop).await;
    println!("{} products made in {:.1?}", skus.len(), start.elapsed());
    let noise = |n: u64| RandomState::new().hash_one(n);
    for round in 0..10 {
        let process = Process::start(&at, "index", "sync");
        process.line("indexing");
        // Writes go on all the while.
        for n in 0..50 {
            let sku = skus[usize::try_from(noise(n) % skus.len() as u64).unwrap()];
            shop.inventory().adjust(adjustment(sku, 1, format!("{round}-{n}"))).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(noise(round) % 4_000)).await;
        let is_server_first = noise(round).is_multiple_of(2);
        if is_server_first {
            server.kill9().await;
            tokio::time::sleep(Duration::from_millis(noise(round) % 1_000)).await;
        }
        process.kill();
        if is_server_first {
            server.start().await;
        }
        println!(
            "round {round}: killed the {}",
            if is_server_first { "server, and then the process" } else { "process" }
        );
    }
    let process = Process::start(&at, "index", "sync");
    process.line("indexing");
    let back = Instant::now();
    let report = loop {
        match shop.index().verify(false).await {
            Ok(report) if report.is_clean() && report.compared == skus.len() as u64 => break report,
            other => assert!(back.elapsed() < LIMIT * 5, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!("{}: {} products equal the database {:.1?} after both are back", product, report.compared, back.elapsed());
    process.kill();
}

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
