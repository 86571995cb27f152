//! The examples that take the URL of a database are run as programs, and do the same on each database.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy", feature = "testkit"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::any::Any;
use std::process::Command;

/// Returns the URL of a new database of each kind, with the value that keeps it.
async fn databases() -> Vec<(String, Box<dyn Any + Send>)> {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", dir.path().join("shop.db").display());
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), expect(unused_mut, reason = "the servers are more"))]
    let mut all: Vec<(String, Box<dyn Any + Send>)> = vec![(file, Box::new(dir))];
    #[cfg(feature = "postgres")]
    {
        let database = test_servers::postgres().await;
        all.push((database.url, Box::new(database.guard)));
    }
    #[cfg(feature = "mysql")]
    {
        let database = test_servers::mysql().await;
        all.push((database.url, Box::new(database.guard)));
    }
    all
}

/// Returns what an example prints on a database. Cargo builds the examples with the tests.
fn output(example: &str, url: &str) -> String {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.extend(["examples", example]);
    assert!(program.exists(), "`cargo build --examples` with the features of this test makes {}", program.display());
    let output = Command::new(program).arg(url).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let scheme = url.split(':').next().unwrap_or_default();
    assert!(output.status.success(), "{example} on {scheme}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn says_everywhere(example: &'static str, expected: &'static str) {
    for (url, _guard) in databases().await {
        // Twice, because the second run finds what the first one left.
        for _ in 0..2 {
            let url = url.clone();
            assert_eq!(tokio::task::spawn_blocking(move || output(example, &url)).await.unwrap(), expected);
        }
    }
}

#[test]
fn one_app_runs_on_every_database() {
    ecom_core::testkit::run(says_everywhere("embed", "37 left of TEA-50\nSencha Yabukita: 6.21 to 11.25 USD\n"));
}

#[test]
fn a_host_has_the_shop_in_its_own_transaction_on_every_database() {
    ecom_core::testkit::run(says_everywhere("transaction", "Gyokuro of 1 is in\n"));
}
