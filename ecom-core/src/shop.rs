//! The shop: services over one set of adapters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::clock::{SharedClock, SystemClock};
use crate::config::ShopConfig;
use crate::error::{Conflict, Dependency, Error, Result};
use crate::health::{DependencyHealth, Health};
use crate::id::{IdSource, UuidV7Source};
use crate::port::cache::{Cache, NoCache};
use crate::port::search::SearchProvider;
use crate::port::storage::{Storage, UnitOfWork};
use crate::service::background::Background;
use crate::service::catalog::category::CategoryService;
use crate::service::catalog::import::ImportService;
use crate::service::catalog::product::ProductService;
use crate::service::catalog::sku::SkuService;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;
use crate::service::run::queue::StockQueue;
use crate::service::run::read_through::ReadThrough;
use crate::service::run::transaction::Tx;
use crate::service::sales::customer::{AddressService, CustomerService};
use crate::service::search::index::IndexSyncService;
use crate::service::search::query::SearchService;
use crate::service::stock::inventory::InventoryService;

/// The adapters and injected values that a shop is built from.
#[derive(Debug)]
pub struct ShopParts {
    /// The database, migrated.
    pub storage: Arc<dyn Storage>,
    /// The index.
    pub search: Arc<dyn SearchProvider>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// The clock.
    pub clock: SharedClock,
    /// Where ids come from.
    pub ids: Arc<dyn IdSource>,
    /// Settings.
    pub config: ShopConfig,
}

impl ShopParts {
    /// With the machine's clock, ids from it, no cache and default settings.
    pub fn new(storage: Arc<dyn Storage>, search: Arc<dyn SearchProvider>) -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        Self { storage, search, cache: Arc::new(NoCache), clock, ids, config: ShopConfig::default() }
    }
}

/// An embeddable shop. Cheap to clone; every clone is the same shop.
///
/// Reads and writes work at once; the search index follows once [`Shop::start`] runs its background work, or
/// when [`IndexSyncService::catch_up`] is called by hand.
#[derive(Debug, Clone)]
pub struct Shop {
    pub(crate) cx: Arc<Context>,
}

impl Shop {
    /// Builds a shop from its parts.
    ///
    /// # Errors
    /// `Validation` if the settings cannot work, `CURRENCY_MISMATCH` if the database keeps prices in another currency,
    /// `Internal` if [`Storage::migrate`] has not been called.
    pub fn new(parts: ShopParts) -> Result<Self> {
        parts.config.check()?;
        let shop = parts.config.currency;
        match parts.storage.currency() {
            Some(database) if database == shop => {}
            Some(database) => {
                let (database, shop) = (database.to_string(), shop.to_string());
                return Err(Conflict::DatabaseCurrency { database, shop }.into());
            }
            None => {
                let context = "the storage of a shop must be migrated: call `Storage::migrate` first";
                return Err(Error::Internal { context, source: None });
            }
        }
        Ok(Self {
            cx: Arc::new(Context {
                storage: parts.storage,
                search: parts.search,
                cache: ReadThrough::new(parts.cache),
                clock: parts.clock,
                ids: parts.ids,
                config: parts.config,
                stock: StockQueue::default(),
                events: watch::Sender::default(),
                naming: tokio::sync::Mutex::default(),
                indexing: tokio::sync::Mutex::default(),
                identity: tokio::sync::OnceCell::default(),
            }),
        })
    }

    /// Products.
    pub fn products(&self) -> ProductService<'_> {
        ProductService::new(&self.cx)
    }

    /// Categories.
    pub fn categories(&self) -> CategoryService<'_> {
        CategoryService::new(&self.cx)
    }

    /// SKUs.
    pub fn skus(&self) -> SkuService<'_> {
        SkuService::new(&self.cx)
    }

    /// Stock and its ledger.
    pub fn inventory(&self) -> InventoryService<'_> {
        InventoryService::new(&self.cx)
    }

    /// Customers.
    pub fn customers(&self) -> CustomerService<'_> {
        CustomerService::new(&self.cx)
    }

    /// Addresses of customers.
    pub fn addresses(&self) -> AddressService<'_> {
        AddressService::new(&self.cx)
    }

    /// Search.
    pub fn search(&self) -> SearchService<'_> {
        SearchService::new(&self.cx)
    }

    /// The index: follow, rebuild, verify.
    pub fn index(&self) -> IndexSyncService<'_> {
        IndexSyncService::new(&self.cx)
    }

    /// What has happened, for consumers that keep their place in the log themselves.
    pub fn events(&self) -> EventLog<'_> {
        EventLog::new(&self.cx)
    }

    /// Imports.
    pub fn import(&self) -> ImportService<'_> {
        ImportService::new(&self.cx)
    }

    /// Its settings.
    pub fn config(&self) -> &ShopConfig {
        &self.cx.config
    }

    /// Its clock.
    pub fn clock(&self) -> &SharedClock {
        &self.cx.clock
    }

    /// Its ids.
    pub fn ids(&self) -> &Arc<dyn IdSource> {
        &self.cx.ids
    }

    /// Begins a transaction, for several writes that happen together or not at all.
    ///
    /// # Errors
    /// `Unavailable` if no connection is free, or the turn to write does not come, within the adapter's time limit.
    pub async fn begin(&self) -> Result<Tx<'static>> {
        Ok(self.transaction(self.cx.storage.begin().await?))
    }

    /// The id of the database, made at its first migration.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn identity(&self) -> Result<uuid::Uuid> {
        self.cx.identity.get_or_try_init(|| self.cx.storage.identity()).await.copied()
    }

    /// A transaction of the shop over a unit of work that an adapter opened for a host, such as one on the host's own
    /// connection. Applications call `begin_on_…` and `on_…` of the SQL adapters.
    pub fn transaction<'t>(&self, unit: Box<dyn UnitOfWork + 't>) -> Tx<'t> {
        Tx::new(self.cx.clone(), unit)
    }

    /// The database.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.cx.storage
    }

    /// Starts the background work: the index follows the outbox, caches learn of other processes' writes, old
    /// events are trimmed; consumers of the host's own are added to what it returns. Call once per process; stop it
    /// with [`Background::shutdown`](crate::platform::Background::shutdown).
    pub fn start(&self) -> Background {
        Background::start(&self.cx)
    }

    /// Asks every dependency for a sign of life, at most `limit` each.
    pub async fn health(&self, limit: Duration) -> Health {
        async fn probe(
            dependency: Dependency,
            name: &'static str,
            limit: Duration,
            call: impl Future<Output = Result<()>>,
        ) -> DependencyHealth {
            let start = Instant::now();
            let up = matches!(tokio::time::timeout(limit, call).await, Ok(Ok(())));
            DependencyHealth { dependency, name, up, latency: start.elapsed() }
        }
        let cx = &self.cx;
        let (database, search, cache) = futures::join!(
            probe(Dependency::Database, cx.storage.name(), limit, cx.storage.ping()),
            probe(Dependency::Search, cx.search.name(), limit, cx.search.ping()),
            probe(Dependency::Cache, cx.cache.name(), limit, cx.cache.ping()),
        );
        Health { dependencies: vec![database, search, cache], pool: cx.storage.pool_status(), cache: cx.cache.stats() }
    }
}
