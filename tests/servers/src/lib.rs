//! Servers for tests.
//!
//! **Shared servers**, for tests that leave them as they are: [`postgres`], [`mysql`] and [`redis`] give each test a
//! place of its own on the servers of `TEST_POSTGRES_URL`, `TEST_MYSQL_URL` and `TEST_REDIS_URL`. `tests/run` sets
//! these; by hand, `cargo run -p test-servers` starts the servers and prints the lines to paste. A variable that is
//! not set fails the test.
//!
//! **Servers to break**, for fault tests: [`Server`] starts one that belongs to the test alone.
//!
//! Linux only: the children of a server are found in `/proc`.

#![expect(clippy::missing_panics_doc, reason = "for tests: whatever goes wrong panics")]

mod database;
mod server;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

pub use database::{DatabaseGuard, TestDatabase, TestRedis, mysql, postgres, redis, sweep};
pub use server::{Kind, Server, version};

/// The URL in `variable`; panics with what to do where it is not set.
pub fn required(variable: &str) -> String {
    given(variable).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: run `tests/run`, or set it to a server on which tests may make databases \
             (`cargo run -p test-servers` starts one)"
        )
    })
}

/// The URL in `variable`, if there is one.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration but these variables")]
pub fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|url| !url.is_empty())
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what a killed run left behind is known by its age")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A number that differs in every process.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A name that nothing else has, with the time in it.
fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}_{:08x}_{}", now(), random() >> 32, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What the names of all test databases start with.
const PREFIX: &str = "ecom_test_";
