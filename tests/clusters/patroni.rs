//! PostgreSQL under Patroni.

use test_servers::cluster::Patroni;

use super::{Sale, place, run};

/// One of three etcd is down all the time. The leader is killed, then comes back as a follower while the next leader is
/// killed.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r07_r11_r12_patroni_loses_no_order_with_its_leader() {
    run(async {
        let mut cluster = Patroni::start().await;
        let dir = tempfile::tempdir().unwrap();
        let at = [(); 3].map(|()| place(dir.path(), cluster.url()));
        let mut sale = Sale::begin("Patroni", &at).await;
        sale.note("one of three etcd is killed");
        cluster.stores[0].kill9().await;
        sale.goes_on().await;
        for _ in 0..2 {
            let leader = cluster.leader().await;
            sale.note("the leader is killed");
            cluster.members[leader].kill9().await;
            sale.goes_on().await;
            assert_ne!(cluster.leader().await, leader);
            sale.note("the killed member is started again");
            cluster.members[leader].start().await;
            cluster.is_whole().await;
            sale.goes_on().await;
        }
        sale.note("the killed etcd is started again");
        cluster.stores[0].start().await;
        sale.goes_on().await;
        sale.end(&[]).await;
    });
}
