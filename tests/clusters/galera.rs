//! MariaDB with Galera.

use test_servers::cluster::Galera;

use super::{Sale, place, run};
use crate::orders::open;

/// All processes use one node, which is killed and comes back.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r07_r11_r12_galera_loses_no_order_with_its_writer() {
    run(async {
        let mut cluster = Galera::start().await;
        let dir = tempfile::tempdir().unwrap();
        let at = [(); 3].map(|()| place(dir.path(), cluster.url()));
        let mut sale = Sale::begin("Galera with one writer", &at).await;
        for writer in 0..2 {
            sale.note("the writer is killed");
            cluster.nodes[writer].kill9().await;
            sale.goes_on().await;
            sale.note("the killed node is started again");
            cluster.nodes[writer].start().await;
            cluster.is_whole().await;
            sale.goes_on().await;
        }
        sale.end(&[]).await;
    });
}

/// Each process uses a node of its own, and writes the same rows as the others. First without a fault, then with a node
/// that is killed with its process waiting for it.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r07_r11_r12_galera_loses_no_order_with_three_writers() {
    run(async {
        let mut cluster = Galera::start().await;
        let dir = tempfile::tempdir().unwrap();
        let at: Vec<_> = cluster.nodes.iter().map(|node| place(dir.path(), node.url())).collect();
        let mut sale = Sale::begin("Galera with three writers", &at).await;
        for _ in 0..4 {
            sale.goes_on().await;
        }
        sale.note("a node is killed");
        cluster.nodes[2].kill9().await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        sale.note("the killed node is started again");
        cluster.nodes[2].start().await;
        cluster.is_whole().await;
        sale.goes_on().await;
        let mut others = Vec::new();
        for at in &at[1..] {
            others.push(open(at).await);
        }
        sale.end(&others).await;
    });
}
