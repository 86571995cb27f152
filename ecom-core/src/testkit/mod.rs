//! Behaviour suites: what every adapter of a port must do, as tests that any adapter runs (feature `testkit`).
//!
//! # Proving an adapter
//! Write one function that makes a fresh, empty backend, and hand its path to the suite:
//!
//! ```ignore
//! use ecom_core::testkit::StorageFixture;
//!
//! async fn make() -> StorageFixture {
//!     let dir = tempfile::tempdir().unwrap();
//!     let storage = MyStorage::open(dir.path()).await.unwrap();
//!     storage.migrate().await.unwrap();
//!     StorageFixture::new(storage, dir)
//! }
//!
//! ecom_core::storage_suite!(make);
//! ```
//!
//! That is the whole of `tests/storage.rs`. Each rule becomes a `#[test]` of its own in a module named by the
//! port (`product::r06_category_filter_takes_the_subtree`), on a runtime of its own, with a fixture of its own.
//! [`storage_suite!`](crate::storage_suite) runs all suites of a storage; one port alone is
//! [`unit_of_work_suite!`](crate::unit_of_work_suite), [`category_suite!`](crate::category_suite),
//! [`product_suite!`](crate::product_suite), [`sku_suite!`](crate::sku_suite),
//! [`inventory_suite!`](crate::inventory_suite) or [`outbox_suite!`](crate::outbox_suite); caches run
//! [`cache_suite!`](crate::cache_suite), those that processes share also
//! [`shared_cache_suite!`](crate::shared_cache_suite), and [`shop_suite!`](crate::shop_suite) proves the services over a whole set
//! of adapters. Use each once per module.
//!
//! A fixture that cannot be made must panic: a missing server fails the run, it never passes silently.
//!
//! # Reading a failure
//! A test says in its name and message which part of the contract is broken; names that begin with `r06_` prove
//! rule R6. What is random prints its seed; see [`inventory::stock_history`].

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::missing_errors_doc,
    clippy::many_single_char_names,
    clippy::cloned_ref_to_slice_refs,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "these are tests: a broken expectation panics, and their numbers are small"
)]

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use crate::error::{Conflict, Error, ErrorCode, Result};
use crate::port::{Cache, Storage};

/// One read on a connection of its own.
macro_rules! read {
    ($storage:expr, $repository:ident.$method:ident($($arg:expr),* $(,)?)) => {{
        let mut connection = $storage.connect().await.unwrap();
        let answer = connection.$repository().$method($($arg),*).await;
        drop(connection);
        answer.unwrap()
    }};
}

/// One call in a unit of work of its own, committed where it succeeds and dropped where it fails.
macro_rules! attempt {
    ($storage:expr, $repository:ident.$method:ident($($arg:expr),* $(,)?)) => {{
        let mut uow = $storage.begin().await.unwrap();
        let answer = uow.$repository().$method($($arg),*).await;
        match answer {
            Ok(answer) => uow.commit().await.map(|()| answer),
            Err(e) => {
                drop(uow);
                Err(e)
            }
        }
    }};
}

mod contract;
mod faults;
pub mod model;
pub mod rules;
pub mod sample;

pub use self::contract::catalog::{category, product, sku};
pub use self::contract::platform::{outbox, unit_of_work};
pub use self::contract::stock::inventory;
pub use self::contract::{cache, search, shared_cache};
pub use self::rules as shop;

/// An empty storage for one test: migrated, in a shop that sells in USD.
pub struct StorageFixture {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// What must outlive it: a temporary directory, a schema that is dropped with it.
    pub guard: Box<dyn Any + Send>,
}

impl StorageFixture {
    /// Of a storage and what must outlive it (`()` if nothing).
    pub fn new(storage: impl Storage + 'static, guard: impl Any + Send) -> Self {
        Self { storage: Arc::new(storage), guard: Box::new(guard) }
    }
}

impl fmt::Debug for StorageFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageFixture").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// An empty cache for one test.
pub struct CacheFixture {
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// Lets this much time pass for the cache: moves its clock, or sleeps.
    pub clock_advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// What must outlive it.
    pub guard: Box<dyn Any + Send>,
}

/// An empty cache that two processes share, for one test.
pub struct SharedCacheFixture {
    /// The cache of one process. A reader waits 1 to 5 s for the load of the other process.
    pub one: CacheFixture,
    /// The cache of the other process.
    pub other: Arc<dyn Cache>,
}

impl fmt::Debug for SharedCacheFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedCacheFixture").field("one", &self.one).field("other", &self.other).finish()
    }
}

impl fmt::Debug for CacheFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheFixture").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// Runs a test on a multi-thread runtime of its own; for the suites' macros, so that the crate that runs them
/// needs no tokio.
pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Makes one `#[test]` per function of a suite.
#[doc(hidden)]
#[macro_export]
macro_rules! __suite {
    ($(#[$doc:meta])* $module:ident, $fixture:ident => $subject:expr, $make:path, [$($test:ident,)*]) => {
        $(#[$doc])*
        mod $module {
            #[allow(unused_imports, clippy::allow_attributes, reason = "the factory may be named by a full path")]
            use super::*;
            $(
                #[test]
                fn $test() {
                    $crate::testkit::run(async {
                        let $fixture = $make().await;
                        $crate::testkit::$module::$test($subject).await;
                    });
                }
            )*
        }
    };
}

/// Runs every suite of a storage. Takes the path of an `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
#[macro_export]
macro_rules! storage_suite {
    ($make:path) => {
        $crate::unit_of_work_suite!($make);
        $crate::category_suite!($make);
        $crate::product_suite!($make);
        $crate::sku_suite!($make);
        $crate::inventory_suite!($make);
        $crate::outbox_suite!($make);
    };
}

/// A seed that is new at every run; whoever takes it prints it.
pub(crate) fn fresh_seed() -> u64 {
    rand::make_rng::<rand::rngs::StdRng>().next_u64()
}

/// The code of an error; panics with `what` where the call succeeded.
pub(crate) fn code_of<T>(result: Result<T>, what: &str) -> ErrorCode {
    match result {
        Ok(_) => panic!("{what}: this must fail"),
        Err(e) => e.code(),
    }
}

/// The field that a `DUPLICATE` names.
pub(crate) fn duplicate_field<T>(result: Result<T>, what: &str) -> &'static str {
    match result {
        Err(Error::Conflict(c)) => match *c {
            Conflict::Duplicate { field, .. } => field,
            other => panic!("{what}: must be DUPLICATE, is {other}"),
        },
        Err(other) => panic!("{what}: must be DUPLICATE, is {other:?}"),
        Ok(_) => panic!("{what}: must be DUPLICATE, but succeeds"),
    }
}

#[cfg(test)]
mod tests {
    /// A test that its suite's macro does not list would never run.
    #[test]
    fn every_test_of_a_suite_is_in_its_list() {
        for (name, source) in [
            ("cache", include_str!("contract/cache.rs")),
            ("category", include_str!("contract/catalog/category.rs")),
            ("inventory", include_str!("contract/stock/inventory.rs")),
            ("outbox", include_str!("contract/platform/outbox.rs")),
            ("product", include_str!("contract/catalog/product/mod.rs")),
            ("search", include_str!("contract/search/mod.rs")),
            ("shop", include_str!("rules/mod.rs")),
            ("sku", include_str!("contract/catalog/sku.rs")),
            ("unit_of_work", include_str!("contract/platform/unit_of_work.rs")),
        ] {
            let list = source.split_once("macro_rules!").unwrap().1.split_once("\n}\n").unwrap().0;
            let tests: Vec<&str> = source
                .split("\npub async fn ")
                .skip(1)
                .filter(|f| !f.contains_seed_argument())
                .map(|f| f.split('(').next().unwrap())
                .collect();
            assert!(!tests.is_empty(), "{name} has no tests");
            for test in tests {
                assert!(list.contains(&format!(" {test},\n")), "{name}_suite! does not list {test}");
            }
        }
    }

    trait SeedArgument {
        fn contains_seed_argument(&self) -> bool;
    }

    impl SeedArgument for &str {
        /// Helpers that replay a seed are not tests of the list.
        fn contains_seed_argument(&self) -> bool {
            self.split('{').next().unwrap().contains("seed: u64")
        }
    }
}
