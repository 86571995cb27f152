//! The SQL adapter: repositories written once, over a thin executor.

/// The repositories of users, roles, API keys and sessions.
mod access {
    pub(crate) mod api_key;
    pub(crate) mod role;
    pub(crate) mod session;
    pub(crate) mod user;
}
/// The repositories of the catalog.
mod catalog {
    pub(crate) mod category;
    pub(crate) mod feed;
    pub(crate) mod product;
    pub(crate) mod review;
    pub(crate) mod sku;
}
pub(crate) mod engine;
/// The repositories of analytics, of idempotency keys, of jobs, of the outbox, of the search log, of settings and of
/// webhooks.
mod platform {
    pub(crate) mod analytics;
    pub(crate) mod audit_log;
    pub(crate) mod idempotency;
    pub(crate) mod job;
    pub(crate) mod outbox;
    mod rollup;
    pub(crate) mod search_log;
    pub(crate) mod setting;
    pub(crate) mod webhook;
}
/// The repositories of sales.
mod sales {
    pub(crate) mod bill;
    pub(crate) mod cart;
    pub(crate) mod customer;
    pub(crate) mod offer;
    pub(crate) mod order;
}
/// The repository of stock.
mod stock {
    pub(crate) mod inventory;
}

use engine::columns::Described;
#[cfg(feature = "mysql")]
pub use engine::host::{begin_on_mysql, on_mysql};
#[cfg(feature = "postgres")]
pub use engine::host::{begin_on_postgres, on_postgres};
#[cfg(feature = "sqlite")]
pub use engine::host::{begin_on_rusqlite, begin_on_sqlite, on_rusqlite, on_sqlite};
use engine::migrate::{Migration, migration};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use engine::options::ServerOptions;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use engine::pool::ServerPool;
pub use engine::pool::SqlStorage;

/// Every migration, oldest first: its number and the name of its files.
pub(crate) const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_catalog"),
    migration!(2, "0002_customers"),
    migration!(3, "0003_orders"),
    migration!(4, "0004_reviews"),
    migration!(5, "0005_idempotency"),
    migration!(6, "0006_sales"),
    migration!(7, "0007_settings"),
    migration!(8, "0008_jobs"),
    migration!(9, "0009_search_log"),
    migration!(10, "0010_access"),
    migration!(11, "0011_audit_log"),
    migration!(12, "0012_guest_answers"),
    migration!(13, "0013_job_rejections"),
    migration!(14, "0014_feeds"),
    migration!(15, "0015_job_queue"),
    migration!(16, "0016_live"),
    migration!(17, "0017_deferred_indexes"),
    migration!(18, "0018_webhooks"),
    migration!(19, "0019_analytics"),
    migration!(20, "0020_shop_jobs"),
    migration!(21, "0021_product_rollups"),
    migration!(22, "0022_job_indexes"),
];

/// The last migration of the latest release; `None` before the first release. The current schema also serves processes
/// of that release (`docs/upgrades.md`).
pub(crate) const RELEASED_BEFORE: Option<i64> = None;

/// The tables with unique indexes. A violation becomes the `DUPLICATE` that the table defines. If an index refuses a
/// row, its table determines the `DUPLICATE` to return.
pub(crate) static TABLES: &[&dyn Described] = &[
    &catalog::category::CATEGORIES,
    &catalog::feed::FEEDS,
    &catalog::product::PRODUCTS,
    &catalog::review::REVIEWS,
    &platform::job::JOBS,
    &platform::job::QUEUES,
    &platform::job::SCHEDULES,
    &platform::webhook::DELIVERIES,
    &catalog::sku::SKUS,
    &sales::customer::CUSTOMERS,
    &sales::cart::CARTS,
    &sales::order::ORDERS,
    &sales::bill::BILLS,
    &access::role::ROLES,
    &access::user::USERS,
    &access::api_key::API_KEYS,
];
