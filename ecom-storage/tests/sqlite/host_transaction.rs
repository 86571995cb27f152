//! Writes inside a transaction of the host application.

use std::sync::Arc;

use ecom_core::access::Principal;
use ecom_core::catalog::{CategoryInput, ProductInput};
use ecom_core::common::IncludeDeleted;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::NoSearch;
use ecom_core::{Error, Shop, ShopParts};
use ecom_storage::{begin_on_rusqlite, begin_on_sqlite, on_rusqlite, on_sqlite};
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use crate::support::{TestResult, file};

fn pen() -> ProductInput {
    serde_json::from_str(r#"{"title": "Pen", "price": "1.00", "stock": 3}"#).unwrap()
}

async fn titles(shop: &Shop) -> Vec<String> {
    let mut db = shop.storage().connect().await.unwrap();
    let ids = db.products().revisions(None, 100).await.unwrap();
    let ids: Vec<_> = ids.into_iter().map(|(id, _)| id).collect();
    db.products().get_many(&ids, IncludeDeleted::No).await.unwrap().into_iter().map(|p| p.title).collect()
}

#[tokio::test]
async fn a_host_writes_inside_its_own_transaction() -> TestResult {
    let (dir, s) = file().await;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let mut c = SqliteConnection::connect(&url).await?;
    c.execute("CREATE TABLE host_table (id INTEGER)").await?;
    let actor = Principal::trusted("host");

    // The host begins its transaction itself.
    for keep in [false, true] {
        let mut host = c.begin().await?;
        let mut tx = on_sqlite(&shop, &mut host).await?;
        shop.acting_as(&actor).products().create_in(&mut tx, &pen()).await?;
        let after = tx.finish()?;
        host.execute("INSERT INTO host_table VALUES (1)").await?;
        if keep {
            host.commit().await?;
        } else {
            host.rollback().await?;
        }
        after.run().await;
        assert_eq!(titles(&shop).await.len(), usize::from(keep));
    }

    // The library begins the transaction.
    let category: CategoryInput = serde_json::from_str(r#"{"name": "Desk"}"#)?;
    for keep in [false, true] {
        let mut tx = begin_on_sqlite(&shop, &mut c).await?;
        shop.acting_as(&actor).categories().create_in(&mut tx, &category).await?;
        let input: ProductInput = serde_json::from_str(r#"{"title": "Ink", "price": 2, "category": "desk"}"#)?;
        shop.acting_as(&actor).products().create_in(&mut tx, &input).await?;
        let own = tx.connection::<SqliteConnection>().ok_or("the host's connection")?;
        own.execute("INSERT INTO host_table VALUES (2)").await?;
        if keep {
            tx.commit().await?.run().await;
        } else {
            drop(tx);
        }
        assert_eq!(titles(&shop).await.len(), 1 + usize::from(keep));
    }
    let counted = shop.categories().get_by_slug("desk").await?.value.product_count;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM host_table").fetch_one(&mut c).await?;
    assert_eq!((counted, rows), (1, 2));
    // Events exist for the changes that were committed, and for no others.
    assert_eq!(shop.events().read(OutboxPosition::default(), 100).await?.events.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_hosts_transaction_that_cannot_work_is_refused() -> TestResult {
    let (_dir, s) = file().await;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let (other, stranger) = file().await;
    drop(stranger);
    let refused = |e: Error, word: &str| {
        let Error::Validation(errors) = &e else { panic!("{e:?}") };
        assert!(errors.0[0].field == "connection" && errors.0[0].message.contains(word), "{e}");
    };
    let url = format!("sqlite://{}", other.path().join("shop.db").display());
    let mut c = SqliteConnection::connect(&url).await?;
    refused(begin_on_sqlite(&shop, &mut c).await.unwrap_err(), "not a connection to the database");
    refused(on_sqlite(&shop, &mut c.begin().await?).await.unwrap_err(), "not a connection to the database");
    c.execute("PRAGMA foreign_keys = OFF").await?;
    refused(begin_on_sqlite(&shop, &mut c).await.unwrap_err(), "foreign keys");
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_the_host_began_is_not_committed_by_the_library() -> TestResult {
    let (dir, s) = file().await;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let mut c = SqliteConnection::connect(&url).await?;
    let mut host = c.begin().await?;
    let mut tx = on_sqlite(&shop, &mut host).await?;
    shop.acting_as(&Principal::trusted("host")).products().create_in(&mut tx, &pen()).await?;
    assert!(matches!(tx.commit().await, Err(Error::Unsupported { .. })));
    host.rollback().await?;
    assert_eq!(titles(&shop).await, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn r13_a_host_that_forgets_to_finish_loses_no_event() -> TestResult {
    let (dir, s) = file().await;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let mut c = SqliteConnection::connect(&url).await?;
    let mut host = c.begin().await?;
    let mut tx = on_sqlite(&shop, &mut host).await?;
    let product = shop.acting_as(&Principal::trusted("host")).products().create_in(&mut tx, &pen()).await?;
    drop(tx);
    host.commit().await?;
    let log = shop.events().read(OutboxPosition::default(), 100).await?.events;
    assert_eq!(log.iter().map(|(_, e)| e.aggregate_id).collect::<Vec<_>>(), [product.id.0]);
    Ok(())
}

#[tokio::test]
async fn a_host_writes_inside_its_own_transaction_of_rusqlite() -> TestResult {
    let (dir, s) = file().await;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let mut c = rusqlite::Connection::open(dir.path().join("shop.db"))?;
    c.execute_batch("CREATE TABLE host_table (id INTEGER)")?;
    let actor = Principal::trusted("host");

    // The host begins its transaction itself.
    let e = on_rusqlite(&shop, &mut c).await.unwrap_err();
    assert!(e.to_string().contains("begin one with BEGIN IMMEDIATE"), "{e}");
    for end in ["ROLLBACK", "COMMIT"] {
        c.execute_batch("BEGIN IMMEDIATE; INSERT INTO host_table VALUES (1)")?;
        let mut tx = on_rusqlite(&shop, &mut c).await?;
        shop.acting_as(&actor).products().create_in(&mut tx, &pen()).await?;
        let after = tx.finish()?;
        c.execute_batch(end)?;
        after.run().await;
        assert_eq!(titles(&shop).await.len(), usize::from(end == "COMMIT"));
    }
    c.execute_batch("BEGIN IMMEDIATE")?;
    let tx = on_rusqlite(&shop, &mut c).await?;
    assert!(matches!(tx.commit().await, Err(Error::Unsupported { .. })));
    c.execute_batch("ROLLBACK")?;

    // The library begins the transaction.
    for keep in [false, true] {
        let mut tx = begin_on_rusqlite(&shop, &mut c).await?;
        let input: ProductInput = serde_json::from_str(r#"{"title": "Ink", "price": 2}"#)?;
        shop.acting_as(&actor).products().create_in(&mut tx, &input).await?;
        let own = tx.connection::<rusqlite::Connection>().ok_or("the host's connection")?;
        own.execute_batch("INSERT INTO host_table VALUES (2)")?;
        if keep {
            tx.commit().await?.run().await;
        } else {
            drop(tx);
        }
        assert!(c.is_autocommit());
        assert_eq!(titles(&shop).await.len(), 1 + usize::from(keep));
    }
    let rows: i64 = c.query_row("SELECT COUNT(*) FROM host_table", [], |r| r.get(0))?;
    assert_eq!(rows, 2);
    Ok(())
}
