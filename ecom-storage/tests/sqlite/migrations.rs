//! Migrations that run at the same time, and those that are refused.

use ecom_core::ErrorCode;
use ecom_core::catalog::ProductFilter;
use ecom_core::common::IncludeDeleted;
use ecom_core::money::Currency;
use ecom_core::port::*;

use crate::support::{TestResult, at, category, file, product, raw, rows, write_categories, write_products};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn migrations_run_once_also_from_many_at_once() -> TestResult {
    let dir = tempfile::tempdir()?;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let s = at(&dir);
            tokio::spawn(async move {
                s.migrate(Currency::USD).await?;
                s.identity().await
            })
        })
        .collect();
    let mut identities = Vec::new();
    for t in tasks {
        identities.push(t.await??);
    }
    identities.dedup();
    assert_eq!(identities.len(), 1);
    let s = at(&dir);
    s.migrate(Currency::USD).await?;
    assert_eq!(s.identity().await?, identities[0]);
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_and_an_edited_migration_are_refused() -> TestResult {
    for (sql, word) in [
        ("INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)", "newer"),
        ("UPDATE ecom_migrations SET checksum = 'x'", "does not know"),
    ] {
        let (dir, s) = file().await;
        raw(&dir, "UPDATE ecom_meta SET value = '999' WHERE name = 'serves_from'").await?;
        raw(&dir, sql).await?;
        let e = s.migrate(Currency::USD).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Internal);
        assert!(e.to_string().contains(word), "{e}");
    }
    Ok(())
}

/// The next release has migrated the database, and its schema serves this release too.
#[tokio::test]
async fn a_newer_schema_that_serves_this_release_is_used_and_left_as_it_is() -> TestResult {
    let (dir, s) = file().await;
    assert!(s.schema_status().await?.is_ready());
    raw(&dir, "INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)").await?;
    let of = "SELECT name, value FROM ecom_meta ORDER BY name";
    let before = rows(&dir, of).await?;
    let other = at(&dir);
    other.migrate(Currency::USD).await?;
    let status = other.schema_status().await?;
    assert!(status.is_ready() && status.newer == ["later"], "{status:?}");
    assert!(other.connect().await?.products().get_by_slug("pen").await?.is_none());
    assert_eq!(rows(&dir, of).await?, before);
    // A later release again, which no longer serves this one.
    raw(&dir, "UPDATE ecom_meta SET value = '998' WHERE name = 'serves_from'").await?;
    assert!(!other.schema_status().await?.is_ready());
    other.migrate(Currency::USD).await.unwrap_err();
    // A migration of this release is missing.
    raw(&dir, "UPDATE ecom_meta SET value = '1' WHERE name = 'serves_from'").await?;
    raw(&dir, "DELETE FROM ecom_migrations WHERE version = 1").await?;
    let status = other.schema_status().await?;
    assert!(!status.is_served && status.pending == ["0001_catalog"], "{status:?}");
    other.migrate(Currency::USD).await.unwrap_err();
    Ok(())
}

#[tokio::test]
async fn the_status_of_an_older_schema_lists_what_is_pending_and_changes_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let s = at(&dir);
    let new = s.schema_status().await?;
    assert!(new.is_served && !new.is_ready() && new.pending[0] == "0001_catalog", "{new:?}");
    assert!(rows(&dir, "SELECT name, value FROM ecom_meta").await.is_err(), "no table was made");
    s.migrate(Currency::USD).await?;
    raw(&dir, "DELETE FROM ecom_migrations WHERE name = '0018_webhooks'").await?;
    let old = at(&dir).schema_status().await?;
    assert_eq!((old.pending, old.newer, old.is_served), (vec!["0018_webhooks".to_owned()], Vec::new(), true));
    raw(&dir, "UPDATE ecom_migrations SET checksum = 'x'").await?;
    let e = at(&dir).schema_status().await.unwrap_err();
    assert!(e.to_string().contains("does not know"), "{e}");
    Ok(())
}

#[tokio::test]
async fn a_second_currency_is_refused_and_nothing_is_written() -> TestResult {
    let (dir, s) = file().await;
    assert_eq!(s.currency(), Some(Currency::USD));
    let p = product("Pen", &[], 1_234, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    // The database of an older release: the currency must be compared before the migration runs.
    raw(&dir, "DELETE FROM ecom_migrations").await?;
    let other = at(&dir);
    assert_eq!(other.currency(), None);
    let e = other.migrate(Currency::JPY).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::CurrencyMismatch);
    let message = e.to_string();
    assert!(message.contains("JPY") && message.contains("configure the shop for USD"), "{message}");
    assert_eq!(other.currency(), None);
    let found: Vec<(String, String)> = rows(&dir, "SELECT name, value FROM ecom_meta WHERE name = 'currency'").await?;
    assert_eq!(found, [("currency".to_owned(), "USD".to_owned())]);
    let applied: Vec<(String, String)> = rows(&dir, "SELECT name, checksum FROM ecom_migrations").await?;
    assert_eq!(applied, []);
    // The storage that has the currency works on.
    assert_eq!(s.migrate(Currency::JPY).await.unwrap_err().code(), ErrorCode::CurrencyMismatch);
    assert_eq!(s.currency(), Some(Currency::USD));
    assert_eq!(s.connect().await?.products().get(p.id, IncludeDeleted::No).await?, Some(p));
    Ok(())
}

#[tokio::test]
async fn of_many_currencies_at_once_one_is_stored() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut stored = Vec::new();
    let migrations = [Currency::USD, Currency::EUR, Currency::JPY].map(|currency| {
        let s = at(&dir);
        tokio::spawn(async move { s.migrate(currency).await.map(|()| s.currency()) })
    });
    for m in migrations {
        match m.await? {
            Ok(currency) => stored.push(currency),
            Err(e) => assert_eq!(e.code(), ErrorCode::CurrencyMismatch, "{e}"),
        }
    }
    assert_eq!(stored.len(), 1, "{stored:?}");
    Ok(())
}

#[tokio::test]
async fn a_price_is_not_read_before_the_currency_is_known() -> TestResult {
    let (dir, s) = file().await;
    let c = category("Office", None);
    write_categories(&s, std::slice::from_ref(&c)).await?;
    write_products(&s, &[product("Pen", &[&c], 100, 1)]).await?;
    let other = at(&dir);
    let mut db = other.connect().await?;
    assert_eq!(db.categories().tree().await?.len(), 1);
    assert_eq!(db.products().count(&ProductFilter::default(), 9).await?.count, 1);
    let e = db.products().get_by_slug("pen").await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Internal);
    assert!(e.to_string().contains("call `migrate` first"), "{e}");
    drop(db);
    other.migrate(Currency::USD).await?;
    assert!(other.connect().await?.products().get_by_slug("pen").await?.is_some());
    Ok(())
}
