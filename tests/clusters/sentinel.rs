//! Redis with Sentinel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ecom_core::Shop;
use ecom_core::catalog::ProductPatch;
use ecom_core::common::{ExpectedVersion, IncludeDeleted};
use ecom_core::id::ProductId;
use test_servers::cluster::Sentinel;

use super::{Sale, run};
use crate::orders::open;
use crate::{Place, input};

/// Writes in one process, and reads the write through the cache in another, until it is told to end.
async fn reads_follow_writes(
    writer: Shop,
    reader: Shop,
    id: ProductId,
    end: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
) {
    let mut version = 1;
    while !end.load(Ordering::SeqCst) {
        let round = rounds.fetch_add(1, Ordering::SeqCst);
        let patch: ProductPatch = serde_json::from_str(&format!("{{\"brand\":\"Brand {round}\"}}")).unwrap();
        version = writer.products().patch(id, ExpectedVersion::Exact(version), patch).await.unwrap().audit.version;
        // The second read finds what the first one has stored.
        for _ in 0..2 {
            let read = reader.products().get(id).await.unwrap();
            assert_eq!(read.value.brand.as_deref(), Some(format!("Brand {round}").as_str()), "an old value is served");
        }
    }
}

/// The master is killed while the shop sells and reads through the cache, and comes back.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r15_sentinel_promotes_a_replica_and_no_old_value_is_served() {
    run(async {
        let mut cluster = Sentinel::start().await;
        let server = test_servers::Server::postgres().await;
        let dir = tempfile::tempdir().unwrap();
        let cache = Some(format!("{}?timeout_ms=1000", cluster.url()));
        let at = [(); 2].map(|()| Place {
            dir: dir.path().to_owned(),
            database: Some(server.url()),
            search: None,
            cache: cache.clone(),
        });
        let mut sale = Sale::begin("Redis with Sentinel", &at).await;
        let (one, two) = (sale.shop.clone(), open(&at[1]).await);
        let lamp = input(&serde_json::json!({ "title": "Lamp", "price": 1 }));
        let id = one.products().create(&lamp).await.unwrap().id;
        let (end, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let follow = tokio::spawn(reads_follow_writes(one.clone(), two.clone(), id, end.clone(), rounds.clone()));
        for _ in 0..2 {
            let master = cluster.master().unwrap();
            sale.note("the master is killed");
            cluster.nodes[master].kill9().await;
            sale.goes_on().await;
            while cluster.master().is_none_or(|now| now == master) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            sale.note("the killed server is started again");
            cluster.nodes[master].start().await;
            cluster.is_whole().await;
            sale.goes_on().await;
        }
        end.store(true, Ordering::SeqCst);
        follow.await.unwrap();
        println!("Redis with Sentinel: {} writes were read by another process", rounds.load(Ordering::SeqCst));
        // Both processes use the new master again.
        for shop in [&one, &two] {
            shop.products().get(id).await.unwrap();
            assert!(shop.products().get(id).await.unwrap().hit, "the cache is in use");
            assert!(shop.health(Duration::from_secs(5)).await.is_whole());
        }
        assert_eq!(
            one.products().get(id).await.unwrap().value.brand,
            two.products().get_fresh(id, IncludeDeleted::No).await.unwrap().brand
        );
        sale.end(&[]).await;
    });
}
