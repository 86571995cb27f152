//! Several processes on one file.

use ecom_core::money::Currency;
use ecom_core::port::*;
use ecom_storage::{SqlStorage, SqliteOptions};

use crate::support::{TestResult, add_one, file, product, write_products};

const CHILD: &str = "ECOM_TEST_CHILD";

#[expect(clippy::disallowed_methods, reason = "the parent test tells this process what to do")]
fn told() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// The other process of the test below. It does nothing if it is run alone.
#[tokio::test]
async fn child_process_that_writes() -> TestResult {
    let Some(told) = told() else { return Ok(()) };
    let (path, id) = told.split_once('|').ok_or("two parts")?;
    let s = SqlStorage::sqlite(SqliteOptions::file(path))?;
    s.migrate(Currency::USD).await?;
    for _ in 0..50 {
        add_one(&s, id.parse()?).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_file_never_see_a_lock() -> TestResult {
    let (dir, s) = file().await;
    let p = product("Pen", &[], 100, 1);
    write_products(&s, std::slice::from_ref(&p)).await?;
    let id = p.skus[0].id;
    let path = dir.path().join("shop.db");
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(
            std::process::Command::new(std::env::current_exe()?)
                .args(["--exact", "processes::child_process_that_writes"])
                .env(CHILD, format!("{}|{id}", path.display()))
                .stdout(std::process::Stdio::null())
                .spawn()?,
        );
    }
    for _ in 0..50 {
        add_one(&s, id).await?;
    }
    for mut c in children {
        assert!(tokio::task::spawn_blocking(move || c.wait()).await??.success());
    }
    assert_eq!(s.connect().await?.inventory().levels(&[id]).await?[0].on_hand, 160);
    Ok(())
}
