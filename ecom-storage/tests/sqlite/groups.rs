//! Short transactions that share a commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ecom_core::access::Principal;
use ecom_core::catalog::CategoryInput;
use ecom_core::common::IncludeDeleted;
use ecom_core::id::SkuId;
use ecom_core::money::Currency;
use ecom_core::port::*;
use ecom_core::{Error, ErrorCode, Shop, ShopParts};
use ecom_storage::{SqlStorage, SqliteOptions};

use crate::support::{TestResult, category, file, movement, product, raw, write_products};

/// Creates a database whose short transactions join a commit however late they end.
async fn patient(statement_timeout: Duration) -> (tempfile::TempDir, SqlStorage) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.statement_timeout = statement_timeout;
    options.commit_window = Duration::from_secs(60);
    let s = SqlStorage::sqlite(options).unwrap();
    s.migrate(Currency::USD).await.unwrap();
    (dir, s)
}

/// Makes the statement that inserts a category `Endless` never end.
const ENDLESS: &str = "\
    CREATE TABLE numbers (n INTEGER); \
    INSERT INTO numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000) SELECT n FROM c; \
    CREATE TRIGGER endless AFTER INSERT ON categories WHEN NEW.name = 'Endless' BEGIN \
    UPDATE numbers SET n = (SELECT count(*) FROM numbers a, numbers b, numbers c WHERE a.n + b.n + c.n = 0); END";

/// Adds one piece to the stock of a SKU in a short transaction, which is committed or dropped.
async fn add_one_briefly(s: &SqlStorage, id: SkuId, commits: bool) -> ecom_core::Result<()> {
    let mut tx = s.begin_short().await?;
    assert!(tx.inventory().lock(&[id]).await?[0].live);
    tx.inventory().apply(&[movement(id, 1)]).await?;
    if commits {
        return tx.commit().await;
    }
    let seen = tx.depends_on();
    drop(tx);
    match seen {
        Some(seen) => seen.await,
        None => Ok(()),
    }
}

async fn on_hand(s: &SqlStorage, id: SkuId) -> i64 {
    s.connect().await.unwrap().inventory().levels(&[id]).await.unwrap()[0].on_hand
}

/// Returns the number of pages that commits have written to the log.
fn pages_written(dir: &tempfile::TempDir) -> u64 {
    std::fs::metadata(dir.path().join("shop.db-wal")).unwrap().len() / 4_120
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_wait_share_a_commit_and_each_has_its_own_outcome() -> TestResult {
    let (dir, s) = patient(Duration::from_secs(5)).await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    // What one transaction with a commit of its own writes.
    let before = pages_written(&dir);
    add_one_briefly(&s, id, true).await?;
    let alone = pages_written(&dir) - before;
    assert!(alone > 0);

    // They all wait while this one is open.
    let held = s.begin_short().await?;
    let tasks: Vec<_> = (0..64)
        .map(|i| {
            let s = s.clone();
            tokio::spawn(async move { add_one_briefly(&s, id, i % 4 != 0).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = pages_written(&dir);
    held.commit().await?;
    for task in tasks {
        task.await??;
    }
    let together = pages_written(&dir) - before;
    assert!(together < 48 * alone / 2, "{together} pages, {alone} for one transaction");
    assert_eq!(on_hand(&s, id).await, 10 + 1 + 48, "a quarter was rolled back");
    assert!(s.connect().await?.inventory().imbalances().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_dropped_at_any_time_leaves_the_others_whole() -> TestResult {
    let (_dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    let mut acknowledged = 0;
    for round in 0..10 {
        let (tasks, given_up): (Vec<_>, Vec<_>) = (0..24)
            .map(|i| {
                let s = s.clone();
                let patience = if i % 3 == 0 { Duration::from_micros(50 * (round * 24 + i)) } else { Duration::MAX };
                let task = async move {
                    let patiently = async {
                        loop {
                            // A call that is dropped while its statement runs breaks its group.
                            match add_one_briefly(&s, id, true).await {
                                Err(e) if e.is_contention() => {}
                                done => return done,
                            }
                        }
                    };
                    tokio::time::timeout(patience, patiently).await.ok()
                };
                (tokio::spawn(task), i % 3 == 0)
            })
            .unzip();
        for (task, may_end) in tasks.into_iter().zip(given_up) {
            match task.await? {
                Some(done) => {
                    done?;
                    acknowledged += 1;
                }
                None => assert!(may_end),
            }
        }
    }
    // A long transaction gets its turn, so no group was left open.
    s.begin().await?.commit().await?;
    let found = on_hand(&s, id).await - 10;
    // A commit whose caller has gone may have happened.
    assert!((acknowledged..=240).contains(&found), "{found} of {acknowledged}");
    assert!(s.connect().await?.inventory().imbalances().await?.is_empty());
    Ok(())
}

/// Nobody may be told of a write that is not on disk.
#[tokio::test]
async fn what_a_transaction_has_seen_of_others_is_durable_once_it_says_so() -> TestResult {
    let (_dir, s) = patient(Duration::from_secs(5)).await;
    let top = category("Office", None);
    let mut first = s.begin_short().await?;
    assert!(first.depends_on().is_none(), "nobody has written before");
    let writer = {
        let (s, top) = (s.clone(), top.clone());
        tokio::spawn(async move {
            let mut tx = s.begin_short().await?;
            tx.categories().insert(std::slice::from_ref(&top)).await?;
            tx.commit().await
        })
    };
    tokio::task::yield_now().await;
    let reader = {
        let s = s.clone();
        tokio::spawn(async move {
            let mut tx = s.begin_short().await?;
            let found = tx.categories().get(top.id, IncludeDeleted::No).await?;
            let committed = s.connect().await?.categories().get(top.id, IncludeDeleted::No).await?;
            let seen = tx.depends_on();
            drop(tx);
            assert!(found.is_some() && committed.is_none(), "it has seen a write that is not committed");
            seen.ok_or(Error::Unauthenticated)?.await?;
            let committed = s.connect().await?.categories().get(top.id, IncludeDeleted::No).await?;
            assert!(committed.is_some());
            Ok::<_, Error>(())
        })
    };
    tokio::task::yield_now().await;
    drop(first);
    writer.await??;
    reader.await??;
    Ok(())
}

#[tokio::test]
async fn a_statement_that_never_ends_breaks_its_own_transaction_and_the_others_can_run_again() -> TestResult {
    let (dir, s) = patient(Duration::from_millis(300)).await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    raw(&dir, ENDLESS).await?;
    let held = s.begin_short().await?;
    let brief = {
        let s = s.clone();
        tokio::spawn(async move { add_one_briefly(&s, id, true).await })
    };
    tokio::task::yield_now().await;
    let endless = {
        let s = s.clone();
        tokio::spawn(async move {
            let mut tx = s.begin_short().await?;
            tx.categories().insert(&[category("Endless", None)]).await?;
            tx.commit().await
        })
    };
    tokio::task::yield_now().await;
    drop(held);
    let (brief, endless) = (brief.await?.unwrap_err(), endless.await?.unwrap_err());
    assert!(endless.code() == ErrorCode::Unavailable && !endless.outcome_unknown(), "{endless:?}");
    let Error::Contention { source: Some(why) } = &brief else {
        return Err(format!("it is certainly rolled back: {brief:?}").into());
    };
    assert!(why.is::<SharedCommitFailed>(), "{why:?}");
    assert_eq!(on_hand(&s, id).await, 10);
    add_one_briefly(&s, id, true).await?;
    assert_eq!(on_hand(&s, id).await, 11);
    Ok(())
}

/// The statement ends later than a write is tried again after contention.
#[tokio::test]
async fn a_write_that_shares_a_commit_with_a_statement_that_never_ends_runs_again() -> TestResult {
    let (dir, s) = patient(Duration::from_millis(2_300)).await;
    raw(&dir, ENDLESS).await?;
    let shop = Shop::new(ShopParts::new(Arc::new(s.clone()), Arc::new(NoSearch)))?;
    let create = |name: &'static str| {
        let shop = shop.clone();
        tokio::spawn(async move {
            let input = CategoryInput::new(name);
            shop.acting_as(Principal::system()).categories().create(&input).await.map(|c| c.id)
        })
    };
    // The first calls open the connections.
    create("First").await??;
    let held = s.begin_short().await?;
    let (office, endless) = (create("Office"), create("Endless"));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    drop(held);
    let endless = endless.await?.unwrap_err();
    assert!(endless.code() == ErrorCode::Unavailable && !endless.outcome_unknown(), "{endless:?}");
    let office = office.await??;
    let names: Vec<String> = s.connect().await?.categories().tree().await?.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["First", "Office"]);
    assert!(s.connect().await?.categories().get(office, IncludeDeleted::No).await?.is_some());
    Ok(())
}

/// A read that takes long runs elsewhere, and so does not keep the only thread of this runtime.
#[tokio::test]
async fn a_long_read_does_not_stop_other_tasks_and_is_interrupted_in_the_end() -> TestResult {
    let (dir, s) = patient(Duration::from_millis(400)).await;
    let top = category("Office", None);
    crate::support::write_categories(&s, std::slice::from_ref(&top)).await?;
    raw(
        &dir,
        "CREATE TABLE numbers (n INTEGER); \
         INSERT INTO numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000) SELECT n FROM c; \
         ALTER TABLE categories RENAME TO stored_categories; \
         CREATE VIEW categories AS SELECT * FROM stored_categories WHERE \
         (SELECT count(*) FROM numbers a, numbers b, numbers c WHERE a.n + b.n + c.n = 0) = 0",
    )
    .await?;
    let ended = Arc::new(AtomicBool::new(false));
    let reader = {
        let (s, ended) = (s.clone(), ended.clone());
        tokio::spawn(async move {
            let found = s.connect().await?.categories().get(top.id, IncludeDeleted::No).await;
            ended.store(true, Ordering::Relaxed);
            found.map(drop)
        })
    };
    let mut steps = 0_u32;
    while !ended.load(Ordering::Relaxed) {
        steps += 1;
        tokio::task::yield_now().await;
    }
    assert!(steps > 100, "{steps} steps of another task");
    let e = reader.await?.unwrap_err();
    assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
    s.connect().await?.products().count(&ecom_core::catalog::ProductFilter::default(), 10).await?;
    Ok(())
}

#[tokio::test]
async fn who_waits_too_long_for_a_turn_learns_of_it() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.acquire_timeout = Duration::from_millis(100);
    let s = SqlStorage::sqlite(options)?;
    s.migrate(Currency::USD).await?;
    for short in [true, false] {
        let held = if short { s.begin_short().await? } else { s.begin().await? };
        let Err(e) = s.begin_short().await else { return Err("there is one writer".into()) };
        assert!(e.is_retryable() && !e.outcome_unknown());
        let why = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
        assert!(why.contains("is the one writer of the SQLite database"), "{why}");
        drop(held);
        s.begin_short().await?.commit().await?;
    }
    Ok(())
}

/// The log of a file whose commits do not wait for the disk is written to the file all the same, so that it does not
/// grow for ever.
#[tokio::test]
async fn the_log_of_commits_that_do_not_wait_is_written_to_the_file() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut options = SqliteOptions::file(dir.path().join("shop.db"));
    options.durable = false;
    let s = SqlStorage::sqlite(options)?;
    s.migrate(Currency::USD).await?;
    let description = "x".repeat(5_000);
    for batch in 0..120 {
        let rows: Vec<_> = (0..100)
            .map(|n| {
                let mut row = category(&format!("C {batch} {n}"), None);
                row.description = Some(description.clone());
                row
            })
            .collect();
        crate::support::write_categories(&s, &rows).await?;
    }
    // A description does not fit in one page.
    assert!(pages_written(&dir) < 8_000, "{} pages of more than 12,000 are in the log", pages_written(&dir));
    Ok(())
}
