//! Files that are damaged, foreign, locked, or on a disk that is full or read-only: a clear error, nothing is lost, and
//! other calls go on.

use std::path::Path;
use std::time::Duration;

use ecom_core::common::IncludeDeleted;
use ecom_core::money::Currency;
use ecom_core::port::*;
use ecom_core::sales::{CustomerFilter, CustomerSort};
use ecom_core::{Error, ErrorCode, WithCauses};
use ecom_storage::{SqlStorage, SqliteOptions};

use crate::support::{TestResult, add_one, at, category, file, product, write_categories, write_products};

fn impatient(path: &Path) -> SqlStorage {
    let mut options = SqliteOptions::file(path);
    options.busy_timeout = Duration::from_millis(100);
    SqlStorage::sqlite(options).unwrap()
}

/// Checks that a caller can be told of the error, and returns the text for the log of the operator.
fn harmless(e: &Error) -> String {
    let text = e.to_string().to_ascii_lowercase();
    for word in ["select", "insert", "update ", "pragma", "malformed", "shop.db", "tmp", "sqlite_"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    WithCauses(e).to_string()
}

/// Checks that a write was refused because of the database, and certainly has not happened.
fn refused(e: &Error) -> String {
    assert!(e.code() == ErrorCode::Unavailable && e.is_retryable() && !e.outcome_unknown(), "{e:?}");
    harmless(e)
}

/// Waits until the connections of a file that was closed have let go of it.
async fn closed(s: SqlStorage, path: &Path) {
    s.close().await;
    drop(s);
    let log = path.with_extension("db-wal");
    while log.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_as_it_is() -> TestResult {
    for (foreign, name) in [
        (
            "CREATE TABLE products (id INTEGER PRIMARY KEY, price REAL); INSERT INTO products VALUES (7, 1.5)",
            "products",
        ),
        ("CREATE TABLE Orders (n INTEGER)", "orders"),
        ("CREATE VIEW audit_log AS SELECT 1", "audit_log"),
    ] {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("shop.db");
        let other = rusqlite::Connection::open(&path)?;
        other.execute_batch(foreign)?;
        let schema = "SELECT group_concat(sql) FROM sqlite_master";
        let before: String = other.query_row(schema, [], |row| row.get(0))?;
        let e = at(&dir).migrate(Currency::USD).await.unwrap_err();
        assert_eq!(e.code(), ErrorCode::Validation);
        let text = harmless(&e);
        assert!(text.contains(&format!("another program has a table `{name}`")), "{text}");
        assert!(text.contains("name a database of the shop's own"), "{text}");
        assert_eq!(other.query_row(schema, [], |row| row.get::<_, String>(0))?, before, "nothing is written");
    }
    // Tables with other names are in nobody's way.
    let dir = tempfile::tempdir()?;
    rusqlite::Connection::open(dir.path().join("shop.db"))?.execute_batch("CREATE TABLE invoices (n INTEGER)")?;
    let s = at(&dir);
    for _ in 0..2 {
        s.migrate(Currency::USD).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_as_it_is() -> TestResult {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("shop.db");
    let notes = "no database ".repeat(2_000);
    std::fs::write(&path, &notes)?;
    let e = at(&dir).migrate(Currency::USD).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Validation);
    assert!(harmless(&e).contains("is not an SQLite database: name another file"), "{e}");
    assert_eq!(std::fs::read_to_string(&path)?, notes);
    Ok(())
}

/// Overwrites the first page of a table and those of its indexes, while nobody has the file open.
fn damage(path: &Path, table: &str) -> TestResult {
    let conn = rusqlite::Connection::open(path)?;
    let mut pages = conn.prepare("SELECT rootpage FROM sqlite_master WHERE tbl_name = $1 AND rootpage > 0")?;
    let pages: Vec<u32> = pages.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut bytes = std::fs::read(path)?;
    assert!(pages.len() > 1 && bytes.len() % 4_096 == 0);
    for page in pages {
        let page = usize::try_from(page)?;
        bytes[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    }
    Ok(std::fs::write(path, bytes)?)
}

/// Pages of one table are damaged: who reads it gets an error that names the remedy, and nobody else does.
#[tokio::test]
async fn a_damaged_page_fails_those_who_read_it_and_nobody_else() -> TestResult {
    let (dir, s) = file().await;
    let path = dir.path().join("shop.db");
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    closed(s, &path).await;
    damage(&path, "customers")?;

    let s = at(&dir);
    s.migrate(Currency::USD).await?;
    for short in [false, true] {
        let listed = s
            .connect()
            .await?
            .customers()
            .list(&CustomerFilter::default(), CustomerSort::CreatedAsc, &ecom_core::paging::Paging::first(10))
            .await;
        let e = listed.unwrap_err();
        assert!(e.code() == ErrorCode::Internal && !e.is_retryable(), "{e:?}");
        let text = harmless(&e);
        assert!(text.contains("is damaged: restore it from a backup") && text.contains("malformed"), "{text}");
        // A transaction that meets the page is not written.
        let mut unit = if short { s.begin_short().await? } else { s.begin().await? };
        unit.categories().insert(&[category(&format!("Lost {short}"), None)]).await?;
        let met = unit.customers().lock(ecom_core::id::CustomerId(uuid::Uuid::from_u128(7))).await;
        assert_eq!(met.unwrap_err().code(), ErrorCode::Internal);
        assert!(unit.commit().await.is_err());
        // Others read and write.
        add_one(&s, p.skus[0].id).await?;
        assert!(s.connect().await?.products().get(p.id, IncludeDeleted::No).await?.is_some());
        assert!(s.connect().await?.categories().tree().await?.is_empty());
    }
    assert_eq!(s.connect().await?.inventory().levels(&[p.skus[0].id]).await?[0].on_hand, 12);
    Ok(())
}

#[tokio::test]
async fn a_file_that_another_program_has_locked_is_read_and_can_be_written_afterwards() -> TestResult {
    let (dir, first) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&first, std::slice::from_ref(&p)).await?;
    drop(first);
    let path = dir.path().join("shop.db");
    let s = impatient(&path);
    s.migrate(Currency::USD).await?;
    let id = p.skus[0].id;
    let other = rusqlite::Connection::open(&path)?;
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM product_tags")?;
    for short in [false, true] {
        let begun = if short { s.begin_short().await } else { s.begin().await };
        let Err(e) = begun else { return Err("the file is locked".into()) };
        let text = refused(&e);
        assert!(text.contains("another process has had the lock") && text.contains("busy_timeout"), "{text}");
        assert!(s.connect().await?.products().get(p.id, IncludeDeleted::No).await?.is_some(), "reads go on");
    }
    other.execute_batch("ROLLBACK")?;
    add_one(&s, id).await?;
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 11);
    drop(other);

    // A program that keeps all others out, also those that read, when the shop starts.
    closed(s, &path).await;
    let other = rusqlite::Connection::open(&path)?;
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; DELETE FROM product_tags; COMMIT")?;
    let s = impatient(&path);
    let text = refused(&s.migrate(Currency::USD).await.unwrap_err());
    assert!(text.contains("another process has had the lock"), "{text}");
    drop(other);
    s.migrate(Currency::USD).await?;
    add_one(&s, id).await?;
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 12);
    Ok(())
}

/// Disks of the tests' own, which only a process in a name space of its own can have.
#[cfg(target_os = "linux")]
mod disks {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;

    const DISK: &str = "ECOM_TEST_DISK";

    #[expect(clippy::disallowed_methods, reason = "the parent test tells this process what to do")]
    fn disk() -> Option<std::path::PathBuf> {
        std::env::var(DISK).ok().map(Into::into)
    }

    /// A command in a name space of its own, where it may mount a disk.
    fn unshare(script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    }

    /// Runs a test of this module on a disk of 8 MB. Skips it on systems that forbid name spaces, and says so.
    fn on_a_small_disk(test: &str) -> TestResult {
        let dir = tempfile::tempdir()?;
        let mount = "mount -t tmpfs -o size=8m tmpfs \"$0\"";
        if !unshare(mount).arg(dir.path()).output().is_ok_and(|tried| tried.status.success()) {
            println!("skipped: this system does not let a test mount a disk of its own");
            return Ok(());
        }
        let ran = unshare(&format!("{mount} && exec \"$1\" --exact \"$2\" --nocapture"))
            .arg(dir.path())
            .arg(std::env::current_exe()?)
            .arg(format!("broken::disks::{test}"))
            .env(DISK, dir.path())
            .output()?;
        let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(
            ran.status.success() && output.contains("1 passed"),
            "in a name space with a disk of its own: {output}"
        );
        Ok(())
    }

    /// Fills the disk to the last byte.
    fn filled(dir: &Path) -> std::io::Result<std::path::PathBuf> {
        let path = dir.join("filler");
        let mut filler = std::fs::File::create(&path)?;
        loop {
            match filler.write_all(&[7; 512]) {
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => return Ok(path),
                done => done?,
            }
        }
    }

    /// Adds one piece in a short transaction.
    async fn add_one_briefly(s: &SqlStorage, id: ecom_core::id::SkuId) -> ecom_core::Result<()> {
        let mut tx = s.begin_short().await?;
        tx.inventory().lock(&[id]).await?;
        tx.inventory().apply(&[crate::support::movement(id, 1)]).await?;
        tx.commit().await
    }

    #[test]
    fn on_a_full_disk_reads_go_on_and_no_write_is_half_done() -> TestResult {
        on_a_small_disk("child_process_on_a_full_disk")
    }

    /// The work of the test above. It does nothing if it is run alone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn child_process_on_a_full_disk() -> TestResult {
        let Some(dir) = disk() else { return Ok(()) };
        for durable in [true, false] {
            let path = dir.join(format!("{durable}.db"));
            let mut options = SqliteOptions::file(&path);
            options.durable = durable;
            let s = SqlStorage::sqlite(options.clone())?;
            s.migrate(Currency::USD).await?;
            let p = product(&format!("Pen {durable}"), &[], 100, 1);
            write_products(&s, std::slice::from_ref(&p)).await?;
            let id = p.skus[0].id;
            let filler = filled(&dir)?;
            let (mut written, mut failed, mut says_why) = (0, [0; 2], false);
            while failed.iter().any(|n| *n < 5) {
                let tasks: Vec<_> = (0..8_usize)
                    .map(|n| {
                        let s = s.clone();
                        let add = async move {
                            if n % 2 == 0 { add_one(&s, id).await } else { add_one_briefly(&s, id).await }
                        };
                        (n % 2, tokio::spawn(add))
                    })
                    .collect();
                for (kind, task) in tasks {
                    match task.await? {
                        Ok(()) => written += 1,
                        // Another one of its group was refused.
                        Err(e) if e.is_contention() => {}
                        Err(e) => {
                            says_why |= refused(&e).contains("database or disk is full");
                            failed[kind] += 1;
                        }
                    }
                }
                let level = s.connect().await?.inventory().levels(&[id]).await?[0].on_hand;
                assert_eq!(level, 10 + written, "what was acknowledged is there, and nothing else");
            }
            assert!(says_why, "the log of the operator names the reason");
            std::fs::remove_file(filler)?;
            add_one(&s, id).await?;
            add_one_briefly(&s, id).await?;
            assert!(s.connect().await?.inventory().imbalances().await?.is_empty());
            closed(s, &path).await;
            let s = SqlStorage::sqlite(options)?;
            s.migrate(Currency::USD).await?;
            assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 12 + written);
            assert_eq!(raw_integrity(&path)?, "ok");
            closed(s, &path).await;
            std::fs::remove_file(path)?;
        }
        Ok(())
    }

    fn raw_integrity(path: &Path) -> rusqlite::Result<String> {
        rusqlite::Connection::open(path)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))
    }

    #[test]
    fn a_read_only_disk_is_refused_at_the_start_and_writes_later() -> TestResult {
        on_a_small_disk("child_process_on_a_read_only_disk")
    }

    /// The work of the test above. It does nothing if it is run alone.
    #[tokio::test]
    async fn child_process_on_a_read_only_disk() -> TestResult {
        let Some(dir) = disk() else { return Ok(()) };
        let path = dir.join("shop.db");
        let s = SqlStorage::sqlite(SqliteOptions::file(&path))?;
        s.migrate(Currency::USD).await?;
        let top = category("Office", None);
        write_categories(&s, std::slice::from_ref(&top)).await?;
        closed(s, &path).await;
        let remount = |how: &str| {
            let done = Command::new("mount").args(["-o", how]).arg(&dir).status();
            assert!(done.is_ok_and(|status| status.success()), "mount -o {how}");
        };
        let missing = dir.join("missing.db");
        remount("remount,ro");
        for path in [&path, &missing] {
            let e = SqlStorage::sqlite(SqliteOptions::file(path))?.migrate(Currency::USD).await.unwrap_err();
            assert_eq!(e.code(), ErrorCode::Validation, "{e:?}");
            let text = harmless(&e);
            assert!(
                text.contains("must be allowed to read and write it") || text.contains("cannot write to"),
                "{text}"
            );
        }
        remount("remount,rw");
        let s = SqlStorage::sqlite(SqliteOptions::file(&path))?;
        s.migrate(Currency::USD).await?;
        assert!(s.connect().await?.categories().get(top.id, IncludeDeleted::No).await?.is_some());
        let other = category("Paper", None);
        write_categories(&s, std::slice::from_ref(&other)).await?;
        Ok(())
    }
}
