//! Migrations that run at the same time, and those that are refused.

use ecom_core::ErrorCode;
use ecom_core::port::*;

use crate::support::{TestResult, at, file};

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

async fn raw(dir: &tempfile::TempDir, sql: &'static str) -> TestResult {
    use sqlx::Connection as _;
    let url = format!("sqlite://{}", dir.path().join("shop.db").display());
    let mut c = sqlx::SqliteConnection::connect(&url).await?;
    sqlx::query(sql).execute(&mut c).await?;
    c.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_and_an_edited_migration_are_refused() -> TestResult {
    for (sql, word) in [
        ("INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)", "newer"),
        ("UPDATE ecom_migrations SET checksum = 'x'", "does not know"),
    ] {
        let (dir, s) = file().await;
        raw(&dir, sql).await?;
        let e = s.migrate(Currency::USD).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Internal);
        assert!(e.to_string().contains(word), "{e}");
    }
    Ok(())
}
