//! Ports: the object-safe traits that adapters implement.
//!
//! `tests/newcomer/adapter` in the repository is a complete example: a cache and a search engine outside of this
//! library, which run their suites of `ecom_core::testkit`. The smallest adapters are [`NoCache`] and [`NoSearch`]. A
//! storage implements [`Storage`], [`Connection`], [`UnitOfWork`] and the repositories, whose accessors
//! [`repositories!`](crate::repositories) writes.
//!
//! # Wrappers
//! Each port has a twin, `Forward…`, for wrappers: objects that pass most calls to another adapter and change a few, as
//! tests need them. A wrapper implements the twin (`inner`, and the methods that it changes), which makes it a port:
//!
//! ```
//! use std::sync::Arc;
//!
//! use ecom_core::port::{ForwardStorage, Storage, UnitOfWork};
//! use ecom_core::{Dependency, Error, Result};
//!
//! /// A database that takes no writes.
//! #[derive(Debug)]
//! struct ReadOnly(Arc<dyn Storage>);
//!
//! #[async_trait::async_trait]
//! impl ForwardStorage for ReadOnly {
//!     fn inner(&self) -> &dyn Storage {
//!         &*self.0
//!     }
//!     async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
//!         Err(Error::unavailable(Dependency::Database, "read only"))
//!     }
//! }
//!
//! fn read_only(storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
//!     Arc::new(ReadOnly(storage))
//! }
//! ```
//!
//! Port and twin have methods of the same names, so a wrapper is called through `dyn Storage`, as adapters are.

#[macro_use]
mod forward;

/// The repositories of users, roles, API keys and sessions.
pub(crate) mod access {
    pub(crate) mod api_key;
    pub(crate) mod key_set;
    pub(crate) mod role;
    pub(crate) mod session;
    pub(crate) mod user;
}
pub(crate) mod cache;
/// The repositories of the catalog, and the store of image files.
pub(crate) mod catalog {
    pub(crate) mod category;
    pub(crate) mod feed;
    pub(crate) mod media;
    pub(crate) mod product;
    pub(crate) mod review;
    pub(crate) mod sku;
}
pub(crate) mod mailer;
/// The repositories of analytics, of the audit log, of idempotency keys, of jobs, of the outbox, of the search log, of
/// settings and of webhooks.
pub(crate) mod platform {
    pub(crate) mod analytics;
    pub(crate) mod audit_log;
    pub(crate) mod idempotency;
    pub(crate) mod job;
    pub(crate) mod outbox;
    pub(crate) mod search_log;
    pub(crate) mod setting;
    pub(crate) mod webhook;
}
pub(crate) mod rate_limiter;
/// The repositories of sales.
pub(crate) mod sales {
    pub(crate) mod cart;
    pub(crate) mod customer;
    pub(crate) mod offer;
    pub(crate) mod order;
}
pub(crate) mod search;
/// The repository of stock.
pub(crate) mod stock {
    pub(crate) mod inventory;
}
pub(crate) mod storage;
pub(crate) mod webhook_sender;

pub use self::access::api_key::{ApiKeyRepository, ForwardApiKeys};
pub use self::access::key_set::{ForwardKeySet, KeySetSource};
pub use self::access::role::{ForwardRoles, RoleRepository};
pub use self::access::session::{ForwardSessions, SessionRepository};
pub use self::access::user::{ForwardUsers, UserRepository};
pub use self::cache::{Cache, CacheKey, CacheLoad, CacheStats, CacheValue, Codec, FillToken, ForwardCache, NoCache};
pub use self::catalog::category::{CategoryRepository, CategoryUsage, ForwardCategories};
pub use self::catalog::feed::{FeedContent, FeedError, FeedRepository, Fetched, ForwardFeed, ForwardFeeds, ImportFeed};
pub use self::catalog::media::{ForwardMediaStore, ImageProcessor, MediaStore};
pub use self::catalog::product::{ForwardProducts, ProductRepository};
pub use self::catalog::review::{ForwardReviews, ReviewRepository, ReviewedProduct};
pub use self::catalog::sku::{ForwardSkus, SkuRepository};
pub use self::mailer::{ForwardMailer, MailError, MailTemplates, Mailer};
pub use self::platform::analytics::{AnalyticsRepository, ForwardAnalytics};
pub use self::platform::audit_log::{AuditLogRepository, ForwardAuditLog};
pub use self::platform::idempotency::{Claim, Claimed, ForwardIdempotency, IdempotencyRepository};
pub use self::platform::job::{ForwardJobs, JobRepository};
pub use self::platform::outbox::{ForwardOutbox, Lease, OutboxCursor, OutboxRepository};
pub use self::platform::search_log::{ForwardSearchLog, SearchLogRepository};
pub use self::platform::setting::{ForwardSettings, SettingRepository};
pub use self::platform::webhook::{
    ForwardWebhookDeliveries, ForwardWebhooks, WebhookDeliveryRepository, WebhookRepository,
};
pub use self::rate_limiter::{ForwardRateLimiter, NoRateLimiter, Quota, RateDecision, RateKey, RateLimiter};
pub use self::sales::cart::{CartRepository, ForwardCarts};
pub use self::sales::customer::{AddressRepository, CustomerRepository, ForwardAddresses, ForwardCustomers};
pub use self::sales::offer::{ForwardOffers, OfferRepository};
pub use self::sales::order::{
    BillRepository, ForwardBills, ForwardOrders, NumberedDocument, OrderRepository, OrderTrace,
};
pub use self::search::{
    Applied, BuildProgress, BuildStart, Checkpoint, FacetCount, ForwardSearch, IndexBuild, IndexOp, NoSearch,
    SearchCapabilities, SearchDocument, SearchHit, SearchProvider, SearchResults,
};
pub use self::stock::inventory::{ForwardInventory, InventoryRepository, TouchedProduct};
pub use self::storage::{
    Connection, ForwardStorage, ForwardUnitOfWork, PoolStatus, SchemaStatus, SharedCommitFailed, Storage, UnitOfWork,
};
pub use self::webhook_sender::{ForwardWebhookSender, WebhookAnswer, WebhookError, WebhookMessage, WebhookSender};

/// Contains the list of repositories, and generates the code that has a line for each.
///
/// `repositories! { impl MyRepository for MyConnection }` implements [`Repositories`] for the connection of a storage
/// adapter, if one generic type is all its repositories: `MyRepository<'_, dyn ProductRepository>` implements
/// [`ProductRepository`](crate::port::ProductRepository), and so on. An accessor returns
/// `Box::new(MyRepository::<dyn ProductRepository>::new(self.lend()))`; the adapter writes `new` and `lend`.
#[macro_export]
macro_rules! repositories {
    // The trait and its twin, for this crate.
    (@list trait; $($(#[$doc:meta])+ $name:ident: $Port:ident,)+) => {
        port! {
            /// Gives access to the repositories: the same on a pooled connection and inside a unit of work.
            pub trait Repositories / ForwardRepositories(&mut self): Send {
                $($(#[$doc])+ fn $name(&mut self) -> Box<dyn $crate::port::$Port + '_>;)+
            }
        }
    };
    // The implementation of an adapter.
    (@list impl $Repository:ident for $Connection:ty; $($(#[$doc:meta])+ $name:ident: $Port:ident,)+) => {
        impl $crate::port::Repositories for $Connection {
            $(fn $name(&mut self) -> Box<dyn $crate::port::$Port + '_> {
                Box::new($Repository::<dyn $crate::port::$Port>::new(self.lend()))
            })+
        }
    };
    // The list: the accessor of each repository, and its trait.
    ($($what:tt)+) => {
        $crate::repositories! {
            @list $($what)+;
            /// Products.
            products: ProductRepository,
            /// Categories.
            categories: CategoryRepository,
            /// SKUs.
            skus: SkuRepository,
            /// Reviews of products.
            reviews: ReviewRepository,
            /// The states of feeds.
            feeds: FeedRepository,
            /// Stock and its ledger.
            inventory: InventoryRepository,
            /// Customers.
            customers: CustomerRepository,
            /// Addresses of customers.
            addresses: AddressRepository,
            /// Carts.
            carts: CartRepository,
            /// SKUs as they are sold.
            offers: OfferRepository,
            /// Orders.
            orders: OrderRepository,
            /// Bills and credit notes.
            bills: BillRepository,
            /// Roles.
            roles: RoleRepository,
            /// Users.
            users: UserRepository,
            /// API keys.
            api_keys: ApiKeyRepository,
            /// Sessions, one-time tokens and failed logins.
            sessions: SessionRepository,
            /// The log of events.
            outbox: OutboxRepository,
            /// Idempotency keys and the answers that they stand for.
            idempotency: IdempotencyRepository,
            /// Settings that a shop edits while it runs.
            settings: SettingRepository,
            /// The queue of jobs.
            jobs: JobRepository,
            /// The audit log.
            audit_log: AuditLogRepository,
            /// The search log.
            search_log: SearchLogRepository,
            /// Webhooks.
            webhooks: WebhookRepository,
            /// The deliveries of webhooks.
            webhook_deliveries: WebhookDeliveryRepository,
            /// The figures of analytics.
            analytics: AnalyticsRepository,
        }
    };
}

repositories! { trait }
