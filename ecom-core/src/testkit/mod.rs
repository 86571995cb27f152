//! Behaviour suites (feature `testkit`): the contracts of the ports and the rules of the services, as tests that any
//! adapter can run.
//!
//! # Testing an adapter
//! An adapter provides a function that makes a new, empty backend, and passes its path to the suite:
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
//! This is the complete `tests/storage.rs`. Each rule is a separate `#[test]` in a module with the name of the port
//! (`product::r06_category_filter_takes_the_subtree`), with its own runtime and fixture.
//! [`storage_suite!`](crate::storage_suite) runs all suites of a storage. The suite of a single port is
//! [`unit_of_work_suite!`](crate::unit_of_work_suite), [`category_suite!`](crate::category_suite),
//! [`product_suite!`](crate::product_suite), [`sku_suite!`](crate::sku_suite), [`review_suite!`](crate::review_suite),
//! [`inventory_suite!`](crate::inventory_suite), [`customer_suite!`](crate::customer_suite),
//! [`cart_suite!`](crate::cart_suite), [`offer_suite!`](crate::offer_suite), [`order_suite!`](crate::order_suite),
//! [`role_suite!`](crate::role_suite), [`user_suite!`](crate::user_suite), [`api_key_suite!`](crate::api_key_suite),
//! [`session_suite!`](crate::session_suite), [`outbox_suite!`](crate::outbox_suite),
//! [`idempotency_suite!`](crate::idempotency_suite), [`setting_suite!`](crate::setting_suite),
//! [`feed_suite!`](crate::feed_suite), [`job_suite!`](crate::job_suite), [`audit_log_suite!`](crate::audit_log_suite),
//! [`search_log_suite!`](crate::search_log_suite), [`analytics_suite!`](crate::analytics_suite) or
//! [`webhook_suite!`](crate::webhook_suite). Caches run [`cache_suite!`](crate::cache_suite), and caches that processes
//! share also run [`shared_cache_suite!`](crate::shared_cache_suite). Rate limiters run
//! [`rate_limiter_suite!`](crate::rate_limiter_suite), mailers [`mailer_suite!`](crate::mailer_suite), and stores of
//! image files [`media_store_suite!`](crate::media_store_suite). Search engines run
//! [`search_suite!`](crate::search_suite). [`shop_suite!`](crate::shop_suite) tests the services over a complete set of
//! adapters, [`shop_search_suite!`](crate::shop_search_suite) only what depends on the search engine, and
//! [`shop_cache_suite!`](crate::shop_cache_suite) only what reads through the cache. Each suite can be used once per
//! module. The function is passed by its name or by a `crate::` path.
//!
//! A function that cannot make its fixture must panic, so that a missing server makes the run fail.
//! `tests/newcomer/adapter` in the repository is a complete crate with a cache, a search engine and their suites.
//!
//! If the capabilities of a search engine include `own_checkpoint`, the suite also reopens it, and the fixture needs a
//! function for this:
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
//! The name and the message of a failed test describe the violated part of the contract. A test whose name begins with
//! `r06_` proves rule R6. Random tests print their seed; see [`inventory::stock_history`]. A test that has not ended
//! after three minutes fails, and the message contains its name and the call for which it waits.
//!
//! Tests of missing capabilities are reported on stderr, one line per test:
//! `skipped: search suite, text: the provider lacks full_text (search::words_are_stemmed)`.
//!
//! # Testing the suites
//! `ecom-core/tests/mutants` runs the suites of search engines and caches against a reference adapter with planted
//! bugs, each of which a test must detect. `search_suite!(@tests)` and `cache_suite!(@tests)` return the tests as
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

use futures::future::BoxFuture;
use rand::Rng as _;

use crate::error::{Conflict, Error, ErrorCode, Result};
use crate::port::cache::Cache;
use crate::port::catalog::media::MediaStore;
use crate::port::mailer::Mailer;
use crate::port::rate_limiter::RateLimiter;
use crate::port::search::NoSearch;
use crate::port::storage::Storage;
use crate::shop::{Shop, ShopParts};

/// Runs one read on a new connection.
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

/// Runs one call in a new unit of work, which is committed if the call succeeds, and dropped if it fails.
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
    pub mod access {
        pub mod api_key;
        pub mod role;
        pub mod session;
        pub mod user;
    }
    pub mod cache;
    pub mod catalog {
        pub mod category;
        pub mod feed;
        pub mod media;
        pub mod product;
        pub mod review;
        pub mod sku;
    }
    pub mod mailer;
    pub mod platform {
        pub mod analytics;
        pub mod audit_log;
        pub mod idempotency;
        pub mod job;
        pub mod outbox;
        pub mod search_log;
        pub mod setting;
        pub mod unit_of_work;
        pub mod webhook;
    }
    pub mod rate_limiter;
    pub mod sales {
        pub mod cart;
        pub mod customer;
        pub mod offer;
        pub mod order;
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
pub mod postbox;
pub mod receiver;
pub mod relevance;
mod rules;
mod running;
pub mod sample;
pub mod shelf;

/// The contract of [`ApiKeyRepository`](crate::port::ApiKeyRepository).
pub use self::contract::access::api_key::listed as api_key;
/// The contract of [`RoleRepository`](crate::port::RoleRepository).
pub use self::contract::access::role::listed as role;
/// The contract of [`SessionRepository`](crate::port::SessionRepository).
pub use self::contract::access::session::listed as session;
/// The contract of [`UserRepository`](crate::port::UserRepository).
pub use self::contract::access::user::listed as user;
/// The contract of [`Cache`].
pub use self::contract::cache::listed as cache;
/// The contract of [`CategoryRepository`](crate::port::CategoryRepository).
pub use self::contract::catalog::category::listed as category;
/// The contract of [`FeedRepository`](crate::port::FeedRepository).
pub use self::contract::catalog::feed::listed as feed;
/// The contract of [`MediaStore`].
pub use self::contract::catalog::media::listed as media_store;
/// The contract of [`ProductRepository`](crate::port::ProductRepository).
pub use self::contract::catalog::product::listed as product;
/// The contract of [`ReviewRepository`](crate::port::ReviewRepository).
pub use self::contract::catalog::review::listed as review;
/// The contract of [`SkuRepository`](crate::port::SkuRepository).
pub use self::contract::catalog::sku::listed as sku;
/// The contract of [`Mailer`].
pub use self::contract::mailer::listed as mailer;
/// The contract of [`AnalyticsRepository`](crate::port::AnalyticsRepository).
pub use self::contract::platform::analytics::listed as analytics;
/// The contract of [`AuditLogRepository`](crate::port::AuditLogRepository).
pub use self::contract::platform::audit_log::listed as audit_log;
/// The contract of [`IdempotencyRepository`](crate::port::IdempotencyRepository).
pub use self::contract::platform::idempotency::listed as idempotency;
/// The contract of [`JobRepository`](crate::port::JobRepository).
pub use self::contract::platform::job::listed as job;
/// The contract of [`OutboxRepository`](crate::port::OutboxRepository).
pub use self::contract::platform::outbox::listed as outbox;
/// The contract of [`SearchLogRepository`](crate::port::SearchLogRepository).
pub use self::contract::platform::search_log::listed as search_log;
/// The contract of [`SettingRepository`](crate::port::SettingRepository).
pub use self::contract::platform::setting::listed as setting;
/// The contract of [`Storage`] and its units of work.
pub use self::contract::platform::unit_of_work::listed as unit_of_work;
/// The contract of [`WebhookRepository`](crate::port::WebhookRepository) and
/// [`WebhookDeliveryRepository`](crate::port::WebhookDeliveryRepository).
pub use self::contract::platform::webhook::listed as webhook;
/// The contract of [`RateLimiter`].
pub use self::contract::rate_limiter::listed as rate_limiter;
/// The contract of [`CartRepository`](crate::port::CartRepository).
pub use self::contract::sales::cart::listed as cart;
/// The contract of [`CustomerRepository`](crate::port::CustomerRepository) and
/// [`AddressRepository`](crate::port::AddressRepository).
pub use self::contract::sales::customer::listed as customer;
/// The contract of [`OfferRepository`](crate::port::OfferRepository).
pub use self::contract::sales::offer::listed as offer;
/// The contract of [`OrderRepository`](crate::port::OrderRepository) and
/// [`BillRepository`](crate::port::BillRepository).
pub use self::contract::sales::order::listed as order;
pub use self::contract::search::SearchFixture;
/// The contract of a [`Cache`] that processes share, in addition to [`cache`].
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

/// The rules of a [`Shop`] that depend on the search engine.
pub mod shop_search {
    pub use super::rules::searching::listed::*;
}

/// The rules of a [`Shop`] whose reads go through the cache.
pub mod shop_cache {
    pub use super::rules::caching::listed::*;
}

/// The rules of a [`Shop`] over any set of adapters.
pub mod shop {
    pub use super::rules::{MakeCache, ShopFixture, index_history, listed::*, stock_storm, tree_history, tree_storm};
}

/// An empty storage for one test, migrated for a shop that sells in USD.
pub struct StorageFixture {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// A value that must be dropped after the storage, such as a temporary directory or a schema.
    pub guard: Box<dyn Any + Send>,
}

impl StorageFixture {
    /// Returns the fixture of a storage. `guard` is dropped after the storage; it can be `()`.
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
    /// Lets time pass for the cache: it advances the clock of the cache, or sleeps.
    pub clock_advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// A value that must be dropped after the cache.
    pub guard: Box<dyn Any + Send>,
}

impl CacheFixture {
    /// Returns the fixture of a cache. `clock_advance` lets time pass for the cache: it advances the clock of the
    /// cache, such as a [`ManualClock`](crate::clock::ManualClock), or sleeps.
    pub fn new(cache: impl Cache + 'static, clock_advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { cache: Arc::new(cache), clock_advance: Box::new(clock_advance), guard: Box::new(()) }
    }

    /// Keeps a value until the test has ended, such as a temporary directory.
    #[must_use]
    pub fn guard(mut self, guard: impl Any + Send) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

/// A rate limiter that has counted no calls, for one test.
pub struct RateLimiterFixture {
    /// The limiter.
    pub limiter: Arc<dyn RateLimiter>,
    /// Lets time pass for the limiter: it advances the clock of the limiter, or sleeps.
    pub clock_advance: Box<dyn Fn(Duration) + Send + Sync>,
    /// A value that must be dropped after the limiter.
    pub guard: Box<dyn Any + Send>,
}

impl RateLimiterFixture {
    /// Returns the fixture of a limiter. `clock_advance` lets time pass for the limiter: it advances the clock of the
    /// limiter, or sleeps.
    pub fn new(limiter: impl RateLimiter + 'static, clock_advance: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { limiter: Arc::new(limiter), clock_advance: Box::new(clock_advance), guard: Box::new(()) }
    }

    /// Keeps a value until the test has ended.
    #[must_use]
    pub fn guard(mut self, guard: impl Any + Send) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

impl fmt::Debug for RateLimiterFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiterFixture").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

/// A mail that has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReceivedMail {
    /// The address of the sender.
    pub from: String,
    /// The addresses to which the mail was delivered.
    pub to: Vec<String>,
    /// The name of the receiver in the header `To`.
    pub to_name: Option<String>,
    /// The subject.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The HTML.
    pub html: Option<String>,
    /// The names of all headers, in lower case. Adapters without headers leave it empty.
    pub headers: Vec<String>,
}

/// The function with which a [`MailerFixture`] returns the mails that have arrived.
pub type Received = Box<dyn Fn() -> BoxFuture<'static, Vec<ReceivedMail>> + Send + Sync>;

/// A mailer that has sent nothing, for one test.
pub struct MailerFixture {
    /// The mailer.
    pub mailer: Arc<dyn Mailer>,
    /// Returns all mails that have arrived since the fixture was made.
    pub received: Received,
    /// An address that the mailer refuses for good, if it refuses any.
    pub refused: Option<String>,
    /// An address that the mailer refuses at the moment, if it refuses any.
    pub busy: Option<String>,
    /// A value that must be dropped after the mailer.
    pub guard: Box<dyn Any + Send>,
}

impl MailerFixture {
    /// Returns the fixture of a mailer that refuses no address. `received` returns the mails that have arrived.
    pub fn new<F>(mailer: impl Mailer + 'static, received: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<ReceivedMail>> + Send + 'static,
    {
        let received: Received = Box::new(move || Box::pin(received()));
        Self { mailer: Arc::new(mailer), received, refused: None, busy: None, guard: Box::new(()) }
    }

    /// Keeps a value until the test has ended.
    #[must_use]
    pub fn guard(mut self, guard: impl Any + Send) -> Self {
        self.guard = Box::new(guard);
        self
    }
}

impl fmt::Debug for MailerFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailerFixture").field("mailer", &self.mailer).finish_non_exhaustive()
    }
}

/// An empty store of image files, for one test.
pub struct MediaStoreFixture {
    /// The store.
    pub store: Arc<dyn MediaStore>,
    /// A value that must be dropped after the store.
    pub guard: Box<dyn Any + Send>,
}

impl MediaStoreFixture {
    /// Returns the fixture of a store, which keeps `guard` until the test has ended.
    pub fn new(store: impl MediaStore + 'static, guard: impl Any + Send) -> Self {
        Self { store: Arc::new(store), guard: Box::new(guard) }
    }
}

impl fmt::Debug for MediaStoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStoreFixture").field("store", &self.store).finish_non_exhaustive()
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

/// Runs every suite of a storage. Takes the path of an `async fn() -> StorageFixture`:
///
/// ```ignore
/// ecom_core::storage_suite!(make);
/// ```
///
/// The docs of [`testkit`](crate::testkit) have the function `make`.
#[macro_export]
macro_rules! storage_suite {
    ($make:path) => {
        $crate::unit_of_work_suite!($make);
        $crate::category_suite!($make);
        $crate::product_suite!($make);
        $crate::sku_suite!($make);
        $crate::review_suite!($make);
        $crate::inventory_suite!($make);
        $crate::customer_suite!($make);
        $crate::cart_suite!($make);
        $crate::offer_suite!($make);
        $crate::order_suite!($make);
        $crate::role_suite!($make);
        $crate::user_suite!($make);
        $crate::api_key_suite!($make);
        $crate::session_suite!($make);
        $crate::outbox_suite!($make);
        $crate::idempotency_suite!($make);
        $crate::setting_suite!($make);
        $crate::feed_suite!($make);
        $crate::audit_log_suite!($make);
        $crate::job_suite!($make);
        $crate::search_log_suite!($make);
        $crate::analytics_suite!($make);
        $crate::webhook_suite!($make);
    };
}

/// Returns a shop with default settings over a storage, without search and without a cache.
pub(crate) fn shop_over(storage: &Arc<dyn Storage>) -> Shop {
    Shop::new(ShopParts::new(storage.clone(), Arc::new(NoSearch))).unwrap()
}

/// Returns a new seed for every run. Callers print it.
pub(crate) fn fresh_seed() -> u64 {
    rand::make_rng::<rand::rngs::StdRng>().next_u64()
}

/// Returns the code of an error. Panics with `what` if the call has succeeded.
pub(crate) fn code_of<T>(result: Result<T>, what: &str) -> ErrorCode {
    match result {
        Ok(_) => panic!("{what}: the call must fail, but succeeds"),
        Err(e) => e.code(),
    }
}

/// Panics unless the call has failed with `DUPLICATE` on this field.
#[track_caller]
pub(crate) fn is_taken<T>(field: &str, result: Result<T>, what: &str) {
    assert_eq!(duplicate_field(result, what), field, "{what}: `DUPLICATE` must name the field whose value is taken");
}

/// Returns the field of a `DUPLICATE`.
pub(crate) fn duplicate_field<T>(result: Result<T>, what: &str) -> &'static str {
    match result {
        Err(Error::Conflict(c)) => match *c {
            Conflict::Duplicate { field, .. } => field,
            other => panic!("{what}: the call must fail with `DUPLICATE`, but fails with {other}"),
        },
        Err(other) => panic!("{what}: the call must fail with `DUPLICATE`, but fails with {other:?}"),
        Ok(_) => panic!("{what}: the call must fail with `DUPLICATE`, but succeeds"),
    }
}
