//! Clusters of PostgreSQL that would give wrong answers: ecom refuses them.

use std::sync::Arc;
use std::time::Duration;

use ecom_core::catalog::ProductInput;
use ecom_core::money::Currency;
use ecom_core::port::{NoSearch, Storage as _};
use ecom_core::{Error, RefusedServer, Shop, ShopParts};
use ecom_storage::sqlx::{self, Connection as _, PgConnection};
use ecom_storage::{ServerOptions, SqlStorage};
use test_servers::cluster::Delayed;

use super::run;

/// Opens a shop as a new process would.
async fn open(url: &str) -> Result<Shop, Error> {
    let storage = SqlStorage::server(ServerOptions::from_url(url)?)?;
    storage.migrate(Currency::USD).await?;
    Shop::new(ShopParts::new(Arc::new(storage), Arc::new(NoSearch)))
}

/// Writes a product and reads it.
async fn sells(shop: &Shop, title: &str) -> Result<(), Error> {
    let input: ProductInput = serde_json::from_str(&format!("{{\"title\":\"{title}\",\"price\":\"7.50\"}}")).unwrap();
    let id = shop.products().create(&input).await?.id;
    assert_eq!(shop.products().get(id).await?.title, title);
    Ok(())
}

/// Asserts that a call was refused for a reason that contains a word.
fn refused<T>(what: &str, answer: Result<T, Error>, word: &str) {
    let error = answer.err().unwrap_or_else(|| panic!("{what}: it is not refused"));
    let refused = RefusedServer::among_causes(&error).unwrap_or_else(|| panic!("{what}: {error:?}"));
    assert!(refused.reason.contains(word), "{what}: {refused}");
    println!("{what}: {refused}");
}

/// Returns how many products a plain client counts.
async fn counted(url: &str) -> i64 {
    let mut c = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM products").fetch_one(&mut c).await.unwrap()
}

/// A standby that is a minute behind, Pgpool-II in front of it, and a primary that goes on after the standby was
/// promoted.
#[test]
#[ignore = "starts a cluster: run `tests/run clusters`"]
fn r15_a_late_standby_a_proxy_that_splits_and_an_old_primary_are_refused() {
    run(async {
        let mut cluster = Delayed::start().await;
        let through_proxy = format!("postgres://ecom@127.0.0.1:{}/postgres", cluster.proxy.port());
        let shop = open(&through_proxy).await.unwrap();
        sells(&shop, "Lamp").await.unwrap();
        // A plain client reads the old state, where the standby does not even have the table.
        let mut late = PgConnection::connect(&cluster.standby.url()).await.unwrap();
        let text = "SELECT to_regclass('products') IS NULL";
        assert!(sqlx::query_scalar::<_, bool>(text).fetch_one(&mut late).await.unwrap(), "the standby is not late");
        refused("a standby that is a minute behind", open(&cluster.standby.url()).await, "standby");
        refused("Pgpool-II that balances reads", open(&cluster.pgpool.url()).await, "proxy");
        cluster.turn_off_load_balancing().await;
        sells(&open(&cluster.pgpool.url()).await.unwrap(), "Lamp through Pgpool-II").await.unwrap();
        assert_eq!(counted(&cluster.primary.url()).await, 2);

        // The split: the standby becomes a primary, and the old one goes on.
        cluster.promote().await;
        cluster.lead_to(true).await;
        // The first call finds that its connection is closed.
        let _ = shop.identity().await;
        sells(&shop, "On the new primary").await.unwrap();
        cluster.lead_to(false).await;
        let _ = sells(&shop, "Lost").await;
        refused("the old primary of a split", sells(&shop, "Lost").await, "old primary");
        let health = shop.health(Duration::from_secs(5)).await;
        assert!(!health.can_serve() && health.dependencies[0].refused.is_some(), "{health:?}");
        cluster.lead_to(true).await;
        let _ = shop.identity().await;
        sells(&shop, "On the new primary again").await.unwrap();
        assert_eq!((counted(&cluster.primary.url()).await, counted(&cluster.standby.url()).await), (2, 4));
    });
}
