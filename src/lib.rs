//! `ecom`: an embeddable e-commerce engine.
//!
//! The library has a catalog, stock, customers and search. Every backend is behind a trait and a feature flag, and a
//! REST layer serves everything. The builder opens a shop:
//!
//! ```
//! # #[cfg(all(feature = "sqlite", feature = "tantivy"))]
//! # async fn app() -> Result<(), Box<dyn std::error::Error>> {
//! use ecom::ShopBuilder;
//! use ecom::catalog::ProductInput;
//!
//! let shop = ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:").build().await?;
//! let background = shop.start();
//!
//! let notebook = ProductInput::new("Field Notebook").price("4.50 USD".parse()?).stock(20);
//! let notebook = shop.products().create(&notebook).await?;
//! assert_eq!(shop.products().get(notebook.id).await?.slug.as_str(), "field-notebook");
//!
//! shop.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Permissions
//! The services of [`Shop`] itself act as `system` and have all permissions. [`Shop::acting_as`] returns the same
//! services for a [`Principal`](access::Principal). They refuse calls for which the principal has no permission, and
//! they record it with every row and event that they write.
//!
//! ```
//! # async fn app(shop: ecom::Shop) -> ecom::Result<()> {
//! use ecom::access::{Permission, Principal};
//! use ecom::catalog::CategoryInput;
//!
//! let clerk = Principal::new("user:7", [Permission::CategoriesWrite]);
//! let tea = shop.acting_as(&clerk).categories().create(&CategoryInput::new("Tea")).await?;
//! assert_eq!(tea.audit.created_by.as_str(), "user:7");
//! # Ok(())
//! # }
//! ```
//!
//! # Transactions
//! Every write of a service has an `…_in` form that takes a transaction, so that either all writes of the transaction
//! happen, or none:
//!
//! ```
//! # async fn app(shop: ecom::Shop) -> Result<(), Box<dyn std::error::Error>> {
//! use ecom::catalog::{CategoryInput, ProductInput};
//!
//! let mut tx = shop.begin().await?;
//! let tea = shop.categories().create_in(&mut tx, &CategoryInput::new("Tea")).await?;
//! let sencha = ProductInput::new("Sencha").price("6.90 USD".parse()?).in_category(tea.id);
//! shop.products().create_in(&mut tx, &sencha).await?;
//! // The commit returns the work that remains: to invalidate caches and to wake the consumers.
//! tx.commit().await?.run().await;
//! # Ok(())
//! # }
//! ```
//!
//! `begin_on_sqlite`, `begin_on_rusqlite`, `begin_on_postgres` and `begin_on_mysql` in [`adapters`] begin such a
//! transaction on a connection of the application, which can also run its own statements in it.
//!
//! `examples/embed.rs` is a complete application without HTTP, `examples/transaction.rs` shares a transaction with the
//! shop, and `examples/server.rs` is the reference server.
//!
//! # Events
//! Every change writes an event in its own transaction. A [`Consumer`](platform::Consumer) runs in one process at a
//! time. It receives each event at least once, and the events of one aggregate in their order:
//!
//! ```
//! # async fn app(shop: ecom::Shop) -> ecom::Result<()> {
//! use std::sync::Arc;
//! use ecom::BoxError;
//! use ecom::platform::{Consumer, Event, OutboxPosition};
//!
//! #[derive(Debug)]
//! struct Prices;
//!
//! #[ecom::async_trait]
//! impl Consumer for Prices {
//!     fn name(&self) -> &str {
//!         "prices"
//!     }
//!
//!     async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
//!         for change in batch.iter().flat_map(|(_, event)| event.price_changes()) {
//!             println!("{}: {} is now {}", change.sku_id, change.old_final, change.new_final);
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut background = shop.start();
//! background.consume(Arc::new(Prices))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//! The docs cite rules by number (R1, R2, …). `docs/rules.md` in the repository has the text of each rule, the bounds
//! of all values, and the formulas.
//!
//! # Logs
//! The library emits events of the crate `tracing` and never installs a subscriber. `tracing_subscriber::fmt::init()`
//! shows them. Their targets are the names of the crates (`ecom_core`, `ecom_storage`, `ecom_search`, `ecom_http`), and
//! `ecom::event` for the named events that operators search for ([`log_event`]). The spans of traces have the target
//! `ecom::trace` ([`trace`]). A server installs the subscriber of `ecom::logging` (feature `logging`).
//!
//! # Metrics
//! The library records through the facade of the crate `metrics` and installs no recorder by itself; [`metrics`] lists
//! what it records. With the feature `metrics`, `HttpConfig::metrics` of the REST layer adds `/metrics` for Prometheus
//! and installs the recorder. An application with a recorder of its own calls [`metrics::enable`].
//!
//! # Stability
//! Before 1.0, a minor release may change the traits of [`port`]: `Repositories` and the traits of the repositories
//! grow with every aggregate, and `SearchProvider` grows with search. `Cache`, `Storage` and `UnitOfWork` are not
//! expected to change. The changelog lists every change of the services, the inputs and the domain types.
//!
//! # Features
//! Features are additive, each compiles alone, and code of a feature that is not turned on is not compiled. The default
//! build does not contain the client of a database, cache, search or mail server.
//!
//! | Feature | Default | Adds | URL or item |
//! |---|---|---|---|
//! | `sqlite` | yes | SQLite, in a file or in memory | `sqlite://path`, `sqlite::memory:` |
//! | `memory` | yes | the in-process cache and rate limiter | `memory://` |
//! | `tantivy` | yes | the embedded search engine, on disk or in memory | `tantivy://directory`, `tantivy::memory:` |
//! | `config` | yes | settings of a server from the environment, `.env` and a TOML file; turns on `http` | `ecom::config` |
//! | `http` | by `config` | the REST layer, as an `axum::Router` to serve or to nest | `ecom::http` |
//! | `postgres` | no | PostgreSQL 13+, tested on 15 | `postgres://…`, through PgBouncer with `?pooler=transaction` |
//! | `mysql` | no | MySQL 8, MariaDB 10.6+, tested on MariaDB 10.11 | `mysql://…` |
//! | `redis` | no | a cache and a rate limiter that processes share, on Redis 7+; with `memory` also a cache in two tiers | `redis://…`, `rediss://…`, `tiered+redis://…` |
//! | `elasticsearch` | no | Elasticsearch 8 and 9, tested on 9.4; OpenSearch 2 and 3, tested on 3.8 | `elasticsearch+https://…`, `opensearch+https://…` |
//! | `meilisearch` | no | Meilisearch 1.18+, tested on 1.50 | `meilisearch+https://…` |
//! | `mail` | yes | mails to users, written to files or to the log, and their templates | `file:///directory`, `log:` |
//! | `smtp` | no | mails through a mail server; turns on `mail` | `smtp://…`, `smtps://…` |
//! | `media` | yes | uploads of images, whose files are in a directory | `file:///directory` |
//! | `media-s3` | no | the files of uploaded images on S3, or on a server that speaks its protocol; turns on `media` | `s3://…` |
//! | `metrics` | yes | metrics for Prometheus at `/metrics`, and the recorder of the crate `metrics` that collects them; turns on `http` | `ecom::http::MetricsAccess` |
//! | `webhooks` | yes | webhooks, which send events to receivers over HTTP; addresses that are not public are refused unless a setting allows them | [`ShopBuilder::webhooks`] |
//! | `oidc` | no | tokens of an issuer of OpenID Connect, whose keys are fetched over HTTPS; turns on `http` | [`ShopBuilder::oidc`] |
//! | `ingest` | no | feeds: files, URLs, and the paged API of DummyJSON, which the shop polls, and imports when they have changed | [`ShopBuilder::feed`] |
//! | `admin` | yes | the admin page at `/admin`, for the staff of a shop; turns on `http` | `HttpConfig::admin_page` of `ecom::http` |
//! | `logging` | yes | the log of a server, on standard error or in files that rotate; turns on `config` | `ecom::logging` |
//! | `otlp` | no | traces, which are sent to an OpenTelemetry collector; turns on `logging` | `ecom::logging` |
//! | `testkit` | no | the behaviour suites that any adapter runs with one line | `ecom::testkit`, `ecom::storage_suite!` … |
//! | `mocks` | no | mocks of the ports, for the unit tests of an application | `ecom::mocks` |
//!
//! An application that embeds the shop without its REST layer turns the default features off and lists those that it
//! uses: `default-features = false, features = ["sqlite", "tantivy", "memory"]`.
//!
//! # Where to look
//! | For | See |
//! |---|---|
//! | how to open a shop, from URLs or from your own adapters | [`ShopBuilder`] |
//! | many shops in one process, which share connections | [`Shops`] |
//! | the services of a shop | [`Shop`] |
//! | the types, inputs and services of an area | [`catalog`], [`stock`], [`sales`], [`access`], [`search`], [`platform`]; [`common`] has the types that all areas share |
//! | money, texts, pages, ids, times | [`money`], [`text`], [`paging`], [`id`], [`clock`] |
//! | the errors | [`Error`], [`ErrorCode`] |
//! | an adapter of your own | the traits of [`port`], and `testkit`, which tests an adapter |

mod builder;
#[cfg(feature = "config")]
pub mod config;
#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "mail"))]
mod log_events;
#[cfg(feature = "logging")]
pub mod logging;
mod shops;

/// The attribute of implementations of the traits of [`port`] and of [`Consumer`](platform::Consumer).
pub use async_trait::async_trait;
pub use builder::{DatabaseSettings, ShopBuilder};
/// The settings of a shop.
pub use ecom_core::config::ShopConfig;
#[cfg(feature = "mocks")]
pub use ecom_core::mocks;
#[cfg(feature = "testkit")]
pub use ecom_core::testkit;
pub use ecom_core::{
    ActingShop, AfterCommit, BoxError, Conflict, Dependency, DependencyHealth, Entity, Error, ErrorCode, FieldCode,
    FieldError, Health, Mailing, Media, RefusedServer, Resting, Result, Shop, ShopParts, Tx, ValidationErrors,
    WithCauses, access, catalog, circuit, clock, common, id, log_event, metrics, money, paging, platform, port, sales,
    search, stock, text, trace,
};
#[cfg(feature = "testkit")]
pub use ecom_core::{
    analytics_suite, api_key_suite, audit_log_suite, cache_suite, cart_suite, category_suite, customer_suite,
    feed_suite, idempotency_suite, inventory_suite, job_suite, mailer_suite, media_store_suite, offer_suite,
    order_suite, outbox_suite, product_suite, rate_limiter_suite, review_suite, role_suite, search_log_suite,
    search_suite, session_suite, setting_suite, shared_cache_suite, shop_search_suite, shop_suite, sku_suite,
    storage_suite, unit_of_work_suite, user_suite, webhook_suite,
};
/// The crate with [`Decimal`](rust_decimal::Decimal), the type of amounts.
pub use rust_decimal;
pub use shops::{OpenShop, ShopName, Shops, ShopsBackground, ShopsLimits, ShopsStatus};
/// The crate with [`Uuid`](uuid::Uuid), the type of ids.
pub use uuid;

/// The adapters, for applications that open them without the builder.
pub mod adapters {
    #[cfg(feature = "oidc")]
    pub use ecom_http::HttpKeySet;
    #[cfg(feature = "ingest")]
    pub use ecom_ingest::{DummyJsonFeed, FileFeed, HttpFeed, HttpFeedOptions};
    #[cfg(feature = "mail")]
    pub use ecom_mail::{FileMailer, LogMailer, Templates};
    #[cfg(feature = "smtp")]
    pub use ecom_mail::{SmtpMailer, SmtpOptions, SmtpTls};
    #[cfg(feature = "media")]
    pub use ecom_media::{ImageOptions, Images, ObjectMediaStore};
    /// An HTTP client that refuses addresses that are not public.
    #[cfg(any(feature = "ingest", feature = "webhooks"))]
    pub use ecom_outbound as outbound;
    #[cfg(feature = "webhooks")]
    pub use ecom_outbound::{HttpWebhookSender, WebhookSenderOptions};
    #[cfg(feature = "elasticsearch")]
    pub use ecom_search::{Authentication, ElasticsearchOptions, ElasticsearchSearch};
    #[cfg(feature = "tantivy")]
    pub use ecom_search::{Location, TantivyOptions, TantivySearch};
    #[cfg(feature = "meilisearch")]
    pub use ecom_search::{MeilisearchOptions, MeilisearchSearch};
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub use ecom_storage::SqlStorage;
    #[cfg(feature = "sqlite")]
    pub use ecom_storage::SqliteOptions;
    #[cfg(feature = "redis")]
    pub use ecom_storage::cache::{DEFAULT_DECODED_BYTES, RedisCache, RedisOptions};
    #[cfg(feature = "memory")]
    pub use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
    #[cfg(all(feature = "redis", feature = "memory"))]
    pub use ecom_storage::cache::{TieredCache, TieredOptions};
    #[cfg(feature = "memory")]
    pub use ecom_storage::limiter::MemoryLimiter;
    #[cfg(feature = "redis")]
    pub use ecom_storage::limiter::RedisLimiter;
    /// The crate with the connections that `begin_on_rusqlite` and `on_rusqlite` take.
    #[cfg(feature = "sqlite")]
    pub use ecom_storage::rusqlite;
    /// The crate with the connections that the other functions `begin_on_…` and `on_…` take.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub use ecom_storage::sqlx;
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub use ecom_storage::{ServerOptions, ServerPool};
    #[cfg(feature = "mysql")]
    pub use ecom_storage::{begin_on_mysql, on_mysql};
    #[cfg(feature = "postgres")]
    pub use ecom_storage::{begin_on_postgres, on_postgres};
    #[cfg(feature = "sqlite")]
    pub use ecom_storage::{begin_on_rusqlite, begin_on_sqlite, on_rusqlite, on_sqlite};
}

/// The REST layer. [`router`](http::router) returns a plain `axum::Router`, and [`serve`](http::serve) serves it within
/// limits.
#[cfg(feature = "http")]
pub mod http {
    pub use ecom_http::*;
}
