//! Servers for tests.
//!
//! **Shared servers**, for tests that leave them intact: [`postgres`], [`mysql`], [`redis`], [`elasticsearch`] and
//! [`opensearch`] give each test a database, prefix or index of its own on the servers of `TEST_POSTGRES_URL`,
//! `TEST_MYSQL_URL`, `TEST_REDIS_URL`, `TEST_ELASTICSEARCH_URL` and `TEST_OPENSEARCH_URL`. `tests/run` sets these
//! variables. To set them by hand, `cargo run -p test-servers` starts the servers and prints the lines to paste. A test
//! whose variable is not set fails. [`meilisearch`] is the exception, because there is no package of that server:
//! without `TEST_MEILISEARCH_URL`, its tests say that they are skipped.
//!
//! **Servers to break**, for fault tests: [`Server`] starts one that belongs to the test alone. The program of
//! Meilisearch is named by `TEST_MEILISEARCH_PROGRAM`.
//!
//! **Clusters**, for the tests of `tests/run clusters`: [`cluster`] starts several servers that replicate.
//!
//! Linux only: the children of a server are found in `/proc`.

#![expect(clippy::missing_panics_doc, reason = "for tests: whatever goes wrong panics")]

pub mod cluster;
mod database;
mod package;
mod search;
pub mod security;
mod server;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

pub use database::{DatabaseGuard, TestDatabase, TestRedis, mysql, postgres, postgres_with_tables, redis, sweep};
pub use search::{TestIndex, TestMeilisearch, elasticsearch, http, meilisearch, opensearch, parse};
pub use server::{Kind, Server, mails, version};

/// Returns the URL in `variable`. If it is not set, panics with a message that explains what to do.
pub fn required(variable: &str) -> String {
    given(variable).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: run `tests/run`, or set it to a server on which tests may make databases \
             (`cargo run -p test-servers` starts one)"
        )
    })
}

/// Returns the URL in `variable`, if it is set.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration but these variables")]
pub fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// Returns the seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what a killed run left behind is known by its age")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Returns a number that differs in every process.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Returns a unique name that contains the time.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}_{:08x}_{}", now(), random() >> 32, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The prefix of the names of all test databases.
const PREFIX: &str = "ecom_test_";
