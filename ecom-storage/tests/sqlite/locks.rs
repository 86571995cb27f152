//! Many tasks on one database, and a lock that another connection holds.

use std::time::Duration;

use ecom_core::common::IncludeDeleted;
use ecom_core::money::Currency;
use ecom_core::port::*;
use ecom_core::{Error, ErrorCode};
use ecom_storage::{SqlStorage, SqliteOptions};

use crate::support::{TestResult, add_one, at, file, memory, product, write_products};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_never_see_a_lock() -> TestResult {
    let (dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let other = at(&dir);
    let id = p.skus[0].id;
    let mut tasks = Vec::new();
    for i in 0..64 {
        // Half of them use a second pool, as another process would.
        let s = if i % 2 == 0 { s.clone() } else { other.clone() };
        tasks.push(tokio::spawn(async move {
            for _ in 0..4 {
                add_one(&s, id).await?;
                s.connect().await?.inventory().levels(&[id]).await?;
            }
            Ok::<_, Error>(())
        }));
    }
    for t in tasks {
        t.await??;
    }
    let mut c = s.connect().await?;
    assert_eq!(c.inventory().levels(&[id]).await?[0].on_hand, 10 + 64 * 4);
    assert!(c.inventory().imbalances().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_another_process_is_told_to_try_again() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.busy_timeout = Duration::from_secs(1);
    let (a, b) = (SqlStorage::sqlite(options.clone())?, SqlStorage::sqlite(options)?);
    a.migrate(Currency::USD).await?;
    let held = a.begin().await?;
    let Err(e) = b.begin().await else { return Err("the file is taken".into()) };
    assert_eq!(e.code(), ErrorCode::Unavailable);
    assert!(e.is_retryable() && !e.outcome_unknown());
    drop(held);
    b.begin().await?.commit().await?;
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_a_transaction_of_this_process_learns_of_it() -> TestResult {
    let dir = tempfile::tempdir()?;
    for (mut options, words) in [
        (
            SqliteOptions::file(dir.path().join("shop.db")),
            "is the one writer of the SQLite database: commit or drop it",
        ),
        (SqliteOptions::memory(), "the one connection of the database in memory"),
    ] {
        options.acquire_timeout = Duration::from_millis(100);
        let s = SqlStorage::sqlite(options)?;
        s.migrate(Currency::USD).await?;
        let held = s.begin().await?;
        let Err(e) = s.begin().await else { return Err("there is one writer".into()) };
        assert!(e.is_retryable() && !e.outcome_unknown());
        let why = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        assert!(why.contains(words) && why.contains("acquire_timeout"), "{why}");
        drop(held);
        s.begin().await?.commit().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_in_memory_serves_sixteen_tasks() -> TestResult {
    let s = memory().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (s, p) = (s.clone(), p.id);
            tokio::spawn(async move {
                for _ in 0..20 {
                    add_one(&s, id).await?;
                    assert!(s.connect().await?.products().get(p, IncludeDeleted::No).await?.is_some());
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for t in tasks {
        t.await??;
    }
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 10 + 320);
    Ok(())
}
