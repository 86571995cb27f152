//! Elasticsearch on three nodes.

use std::time::Duration;

use test_servers::cluster::Elasticsearch;

use super::{Sale, run};
use crate::{Place, index_agrees};

/// The elected master is killed under orders and searches; the shop goes on selling, and the index follows.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r14_elasticsearch_follows_after_it_has_lost_a_node() {
    run(async {
        let mut cluster = Elasticsearch::start().await;
        let server = test_servers::Server::postgres().await;
        let dir = tempfile::tempdir().unwrap();
        let search = format!("elasticsearch+{}?index=clusters&replicas=1&search_timeout_ms=2000", cluster.url());
        let at = [(); 2].map(|()| Place {
            dir: dir.path().to_owned(),
            database: Some(server.url()),
            search: Some(search.clone()),
            cache: None,
        });
        let mut sale = Sale::begin("Elasticsearch", &at).await;
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
        index_agrees(&shop, "Elasticsearch").await;
        background.shutdown().await;
    });
}
