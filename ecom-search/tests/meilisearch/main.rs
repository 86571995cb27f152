//! The adapter of Meilisearch: the suite of the port, and what this adapter promises by itself.
//!
//! There is no package of the server. Where `TEST_MEILISEARCH_URL` names one (`http://:<key>@<host>`), the suite runs
//! on it; everywhere, it runs on recorded answers of a real server. To record them again, run the tests of [`recorded`]
//! with `ECOM_RECORD=1`, on a server without other work.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

#[path = "../support/documents.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod documents;
mod faults;
mod large;
mod outages;
#[path = "../support/proxy.rs"]
mod proxy;
mod recorded;
mod recording;

use std::any::Any;
use std::future::ready;
use std::io::Write as _;

use ecom_core::testkit::{SearchFixture, Test, run_test};
use ecom_search::{MeilisearchOptions, MeilisearchSearch};

fn open(url: &str, index: &str) -> MeilisearchSearch {
    let url = format!("meilisearch+{url}?index={index}&search_timeout_ms=60000");
    MeilisearchSearch::open(MeilisearchOptions::from_url(&url).unwrap()).unwrap()
}

/// Returns a fixture whose provider can be opened again, as another process does. `guard` is dropped after it.
fn fixture(url: String, index: String, guard: impl Any + Send) -> SearchFixture {
    let open = move || open(&url, &index);
    SearchFixture::new(open(), guard).reopen_with(move || ready(open()))
}

/// Returns the tests of the suite, and those of [`large`].
fn suite() -> Vec<Test<SearchFixture>> {
    let mut tests: Vec<Test<SearchFixture>> = ecom_core::search_suite!(@tests);
    tests.push(Test {
        name: "more_matches_than_are_ranked_at_once",
        run: |f| Box::pin(large::more_matches_than_are_ranked_at_once(f)),
    });
    tests
}

/// Runs each test, and panics with the names of all that have failed.
fn run_each(tests: Vec<Test<SearchFixture>>, run: impl Fn(Test<SearchFixture>) + std::panic::RefUnwindSafe) {
    let mut failed = Vec::new();
    let count = tests.len();
    for test in tests {
        if std::panic::catch_unwind(|| run(test)).is_err() {
            failed.push(test.name);
        }
    }
    let _ = writeln!(std::io::stdout(), "{} of {count} tests of the suite passed", count - failed.len());
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_server_passes_the_suite() {
    if test_servers::meilisearch().is_none() {
        return;
    }
    run_each(suite(), |test| {
        run_test(test.name, move || async move {
            let index = test_servers::meilisearch().unwrap();
            (test.run)(fixture(index.url.clone(), index.name.clone(), index)).await;
        });
    });
}
