//! Elasticsearch and OpenSearch on three nodes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::port::Storage as _;
use ecom_core::search::SearchQuery;
use ecom_core::{Shop, ShopParts};
use ecom_search::{TantivyOptions, TantivySearch};
use test_servers::Server;
use test_servers::cluster::Elasticsearch;

use super::{LIMIT, Sale, run};
use crate::{Place, engine, index_agrees, input, storage};

/// The places of two processes on a database and a cluster.
fn places(dir: &Path, server: &Server, cluster: &Elasticsearch) -> [Place; 2] {
    let (product, url) = (cluster.product(), cluster.url());
    let search = format!("{product}+{url}?index=clusters&replicas=1&search_timeout_ms=2000");
    [(); 2].map(|()| Place {
        dir: dir.to_owned(),
        database: Some(server.url()),
        search: Some(search.clone()),
        cache: None,
    })
}

/// The elected master is killed under orders and searches; the shop goes on selling, and the index follows.
async fn follows_after_a_node_is_lost(name: &'static str, mut cluster: Elasticsearch) {
    let server = Server::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let at = places(dir.path(), &server, &cluster);
    let mut sale = Sale::begin(name, &at).await;
    let master = cluster.master().unwrap();
    sale.note("the elected master is killed");
    cluster.nodes[master].kill9().await;
    sale.goes_on().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    sale.note("the killed node is started again");
    cluster.nodes[master].start().await;
    cluster.is_whole().await;
    sale.goes_on().await;
    let shop = sale.shop.clone();
    sale.end(&[]).await;
    let background = shop.start();
    index_agrees(&shop, name).await;
    background.shutdown().await;
}

#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r14_elasticsearch_follows_after_it_has_lost_a_node() {
    run(async { follows_after_a_node_is_lost("Elasticsearch", Elasticsearch::start().await).await });
}

#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r14_opensearch_follows_after_it_has_lost_a_node() {
    run(async { follows_after_a_node_is_lost("OpenSearch", Elasticsearch::opensearch().await).await });
}

/// Opens a shop with an embedded index that answers while the server of the place does not.
async fn open_with_fallback(at: &Place) -> Shop {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let embedded = TantivyOptions::directory(at.dir.join("fallback")).writer_memory(15_000_000);
    let parts = ShopParts {
        search_fallback: Some(Arc::new(TantivySearch::open(embedded).await.unwrap())),
        config: ShopConfig::default().poll_interval(Duration::from_millis(100)),
        ..ShopParts::new(Arc::new(storage), engine(at).await)
    };
    Shop::new(parts).unwrap()
}

/// Creates a lamp, and waits until a search finds this number of lamps.
async fn a_lamp_is_found(shop: &Shop, lamps: u64) {
    let lamp = input(&serde_json::json!({ "title": "Lamp", "price": 1 }));
    shop.products().create(&lamp).await.unwrap();
    let query = SearchQuery { text: "lamp".to_owned(), ..SearchQuery::default() };
    let since = Instant::now();
    loop {
        let found = shop.search().search(&query).await;
        match &found {
            Ok(found) if found.total.count == lamps => return,
            Ok(_) => {}
            Err(e) => assert!(e.is_retryable(), "{e:?}"),
        }
        assert!(since.elapsed() < LIMIT, "{lamps} lamps are not found: {found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All nodes are killed: the fallback answers searches and finds new products, the shop goes on selling, and both
/// indices agree with the database once the nodes are back.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r14_a_fallback_answers_while_all_nodes_of_elasticsearch_are_down() {
    run(async {
        let mut cluster = Elasticsearch::start().await;
        let server = Server::postgres().await;
        let dir = tempfile::tempdir().unwrap();
        let at = places(dir.path(), &server, &cluster);
        let mut sale = Sale::begin("Elasticsearch with a fallback", &at).await;
        let shop = open_with_fallback(&at[0]).await;
        let background = shop.start();
        a_lamp_is_found(&shop, 1).await;
        let before = shop.health(Duration::from_secs(10)).await.searches_by_fallback;
        sale.note("all nodes are killed");
        for node in &mut cluster.nodes {
            node.kill9().await;
        }
        sale.goes_on().await;
        a_lamp_is_found(&shop, 2).await;
        let answered = shop.health(Duration::from_secs(10)).await.searches_by_fallback;
        assert!(answered > before, "{answered} searches were answered by the fallback");
        sale.note("the nodes are started again");
        // None of them answers before two have elected a master.
        futures::future::join_all(cluster.nodes.iter_mut().map(Server::start)).await;
        cluster.is_whole().await;
        sale.goes_on().await;
        sale.end(&[]).await;
        index_agrees(&shop, "Elasticsearch with a fallback").await;
        background.shutdown().await;
    });
}
