//! Behaviour suites: the contracts of the ports and the rules of the services, as tests that any adapter runs (feature
//! `testkit`).
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
//!     storage.migrate(Currency::USD).await.unwrap();
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
//! [`inventory_suite!`](crate::inventory_suite), [`customer_suite!`](crate::customer_suite) or
//! [`outbox_suite!`](crate::outbox_suite); caches run [`cache_suite!`](crate::cache_suite), those that processes share also
//! [`shared_cache_suite!`](crate::shared_cache_suite), search engines run [`search_suite!`](crate::search_suite), and
//! [`shop_suite!`](crate::shop_suite) proves the services over a whole set of adapters. Use each once per module, and pass
//! the function by its name or by a `crate::` path.
//!
//! A fixture that cannot be made must panic: a missing server fails the run, it never passes silently.
//!
//! A search engine whose capabilities claim `own_checkpoint` is also opened again, so its fixture says how:
//!
//! ```ignore
//! use ecom_core::testkit::SearchFixture;
//!
//! async fn make() -> SearchFixture {
//!     let directory = tempfile::tempdir().unwrap();
//!     let path = directory.path().to_owned();
//!     let open = move || MySearch::open(path.clone());
//!     SearchFixture::new(open().await, directory).reopen_with(open)
//! }
//!
//! ecom_core::search_suite!(make);
//! ```
//!
//! # Reading a failure
//! A test says in its name and message which part of the contract is broken; names that begin with `r06_` prove
//! rule R6. What is random prints its seed; see [`inventory::stock_history`]. A test that has not ended after three
//! minutes fails with its name and with what it waits for.
//!
//! What an adapter's capabilities leave out is reported on stderr, one line per test:
//! `skipped: search suite, text: the provider lacks full_text (search::words_are_stemmed)`.
//!
//! # Testing the suites
//! `ecom-core/tests/mutants` runs the suites of search engines and caches against a reference adapter with bugs planted
//! on purpose, each of which a test must catch. `search_suite!(@tests)` and `cache_suite!(@tests)` return the tests as
//! values ([`Test`]).

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
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;

use crate::error::{Conflict, Error, ErrorCode, Result};
use crate::port::cache::Cache;
use crate::port::search::NoSearch;
use crate::port::storage::Storage;
use crate::shop::{Shop, ShopParts};

/// One read on a connection of its own.
macro_rules! read {
    ($storage:expr, $repository:ident.$method:ident($($arg:expr),* $(,)?)) => {{
        let call = concat!("`", stringify!($repository), ".", stringify!($method), "`");
        $crate::testkit::running::step(call);
        let mut connection = $crate::testkit::check::succeeds($storage.connect().await, "`connect`");
        let answer = connection.$repository().$method($($arg),*).await;
        drop(connection);
        $crate::testkit::check::succeeds(answer, call)
    }};
}

/// One call in a unit of work of its own, committed where it succeeds and dropped where it fails.
macro_rules! attempt {
    ($storage:expr, $repository:ident.$method:ident($($arg:expr),* $(,)?)) => {{
        $crate::testkit::running::step(concat!("`", stringify!($repository), ".", stringify!($method), "`"));
        let mut uow = $crate::testkit::check::succeeds($storage.begin().await, "`begin`");
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

#[macro_use]
mod suite;

/// The contracts of the ports: one suite per repository, for the unit of work, the caches and the search engines.
mod contract {
    pub mod cache;
    pub mod catalog {
        pub mod category;
        pub mod product;
        pub mod sku;
    }
    pub mod platform {
        pub mod outbox;
        pub mod unit_of_work;
    }
    pub mod sales {
        pub mod customer;
    }
    pub mod search;
    pub mod shared_cache;
    pub mod stock {
        pub mod inventory;
    }
}
mod check;
mod faults;
pub mod model;
mod rules;
mod running;
pub mod sample;

/// The contract of [`Cache`].
pub use self::contract::cache::listed as cache;
/// The contract of [`CategoryRepository`](crate::port::CategoryRepository).
pub use self::contract::catalog::category::listed as category;
/// The contract of [`ProductRepository`](crate::port::ProductRepository).
pub use self::contract::catalog::product::listed as product;
/// The contract of [`SkuRepository`](crate::port::SkuRepository).
pub use self::contract::catalog::sku::listed as sku;
/// The contract of [`OutboxRepository`](crate::port::OutboxRepository).
pub use self::contract::platform::outbox::listed as outbox;
/// The contract of [`Storage`] and its units of work.
pub use self::contract::platform::unit_of_work::listed as unit_of_work;
/// The contract of [`CustomerRepository`](crate::port::CustomerRepository) and
/// [`AddressRepository`](crate::port::AddressRepository).
pub use self::contract::sales::customer::listed as customer;
pub use self::contract::search::SearchFixture;
/// The contract of a [`Cache`] that processes share, beyond [`cache`].
pub use self::contract::shared_cache::listed as shared_cache;
pub use self::running::{Test, run, run_test, run_within};

/// The contract of [`InventoryRepository`](crate::port::InventoryRepository).
pub mod inventory {
    pub use super::contract::stock::inventory::{listed::*, stock_history};
}

/// The contract of [`SearchProvider`](crate::port::SearchProvider).
pub mod search {
    pub use super::contract::search::listed::*;
}

/// The rules that a [`Shop`] keeps over any set of adapters.
pub mod shop {
    pub use super::rules::{MakeCache, ShopFixture, index_history, listed::*, stock_storm, tree_history, tree_storm};
}

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

impl CacheFixture {
    /// Returns the fixture of a cache. `clock_advance` lets time pass for it: it moves a clock that the cache was given,
    /// such as [`ManualClock`](crate::clock::ManualClock), or sleeps.
    pub fn new(cache: impl Cache + 'static, clock_advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { cache: Arc::new(cache), clock_advance: Box::new(clock_advance), guard: Box::new(()) }
    }

    /// Keeps something until the test has ended, such as a temporary directory.
    #[must_use]
    pub fn guard(mut self, guard: impl Any + Send) -> Self {
        self.guard = Box::new(guard);
        self
    }
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

/// Runs every suite of a storage. Takes the path of an `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
#[macro_export]
macro_rules! storage_suite {
    ($make:path) => {
        $crate::unit_of_work_suite!($make);
        $crate::category_suite!($make);
        $crate::product_suite!($make);
        $crate::sku_suite!($make);
        $crate::inventory_suite!($make);
        $crate::customer_suite!($make);
        $crate::outbox_suite!($make);
    };
}

/// A shop with default settings over a storage, without an index and without a cache.
pub(crate) fn shop_over(storage: &Arc<dyn Storage>) -> Shop {
    Shop::new(ShopParts::new(storage.clone(), Arc::new(NoSearch))).unwrap()
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

/// Fails unless the call is refused as `DUPLICATE` of this field.
#[track_caller]
pub(crate) fn is_taken<T>(field: &str, result: Result<T>, what: &str) {
    assert_eq!(duplicate_field(result, what), field, "{what}: `DUPLICATE` names the field that is taken");
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
