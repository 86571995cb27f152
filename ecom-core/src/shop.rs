//! The shop: services over one set of adapters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::clock::{SharedClock, SystemClock, Timestamp};
use crate::config::ShopConfig;
use crate::domain::{Actor, Event, EventKind};
use crate::error::{Dependency, Error, FieldCode, Result, ValidationErrors};
use crate::id::{EventId, IdSource, UuidV7Source};
use crate::port::{Cache, CacheKey, NoCache, PoolStatus, SearchProvider, Storage};
use crate::service::{
    CategoryService, Consumer, EventLog, ImportService, IndexSyncService, InventoryService, ProductService,
    ReadThrough, SearchService, SkuService, StockQueue, sync,
};
use crate::text::check_text;

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

/// What every service works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub storage: Arc<dyn Storage>,
    pub search: Arc<dyn SearchProvider>,
    pub cache: ReadThrough,
    pub clock: SharedClock,
    pub ids: Arc<dyn IdSource>,
    pub config: ShopConfig,
    pub stock: StockQueue,
    /// Wakes what follows the log; each follower keeps one wake-up while it works.
    pub events: watch::Sender<()>,
    /// Held by a write that lost a made name to another, while it makes the next one.
    pub naming: tokio::sync::Mutex<()>,
    /// Held by whoever writes the index: a rebuild and a catch-up that overlap would lose events.
    pub indexing: tokio::sync::Mutex<()>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Between half of `pause` and all of it, so that those who failed together do not come back together.
    pub fn jitter(&self, pause: Duration) -> Duration {
        // The tail of an id is random, and replays from its seed.
        let [.., high, low] = self.ids.next().into_bytes();
        pause.mul_f64(0.5 + f64::from(u16::from_be_bytes([high, low])) / 131_072.0)
    }

    pub fn event(&self, kind: EventKind, id: impl Into<uuid::Uuid>, revision: i64, actor: &Actor) -> Event {
        Event {
            id: EventId(self.ids.next()),
            kind,
            aggregate_id: id.into(),
            revision,
            data: serde_json::Value::Null,
            occurred_at: self.now(),
            actor: actor.clone(),
        }
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
    /// `Validation` where the settings cannot work.
    pub fn new(parts: ShopParts) -> Result<Self> {
        parts.config.check()?;
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
        EventLog::new(&*self.cx.storage)
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

    /// Its database, for units of work that the host composes with the services' `…_in` calls.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.cx.storage
    }

    /// Starts the background work: the index follows the outbox, caches learn of other processes' writes, old
    /// events are trimmed; consumers of the host's own are added to what it returns. Call once per process; stop it
    /// with [`Background::shutdown`].
    pub fn start(&self) -> Background {
        let (stop, stopped) = watch::channel(false);
        let tasks = sync::jobs(&self.cx, &stopped).into_iter().collect();
        Background { cx: self.cx.clone(), stop, stopped, tasks, consumers: HashSet::new() }
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

/// How a dependency does.
#[derive(Debug, Clone, Copy)]
pub struct DependencyHealth {
    /// Which one.
    pub dependency: Dependency,
    /// The adapter.
    pub name: &'static str,
    /// Whether it answered in time.
    pub up: bool,
    /// How long that took.
    pub latency: Duration,
}

/// How a shop does.
#[derive(Debug, Clone)]
pub struct Health {
    /// Each dependency.
    pub dependencies: Vec<DependencyHealth>,
    /// The pool of the database.
    pub pool: PoolStatus,
    /// The cache.
    pub cache: crate::port::CacheStats,
}

impl Health {
    /// True where the shop can serve: the database is up.
    pub fn can_serve(&self) -> bool {
        self.dependencies.iter().all(|d| d.up || d.dependency != Dependency::Database)
    }

    /// True where nothing is down.
    pub fn is_whole(&self) -> bool {
        self.dependencies.iter().all(|d| d.up)
    }
}

/// The background work of a shop. Dropped, it is aborted between two steps of its work, never within a commit
/// that it would not repeat, and other processes wait for its leases to run out.
#[derive(Debug)]
pub struct Background {
    cx: Arc<Context>,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
    tasks: JoinSet<()>,
    consumers: HashSet<String>,
}

impl Background {
    /// Runs a consumer of the log here, whenever no other process does; see [`Consumer`].
    ///
    /// # Errors
    /// `Validation` for a name that is empty, too long, the library's own, or that of a consumer which runs already.
    pub fn consume(&mut self, consumer: Arc<dyn Consumer>) -> Result<()> {
        let name = consumer.name();
        let mut errors = ValidationErrors::default();
        check_text("name", name, 1, 100, &mut errors);
        errors.into_result()?;
        if sync::RESERVED.contains(&name) || !self.consumers.insert(name.to_owned()) {
            let message = format!("`{name}` is the name of another consumer");
            return Err(Error::invalid("name", FieldCode::OutOfBounds, message));
        }
        self.tasks.spawn(sync::consume(self.cx.clone(), consumer, self.stopped.clone()));
        Ok(())
    }

    /// Lets each task finish its step, releases its leases, so that other processes go on at once, and waits for it. A
    /// consumer that takes longer than [`ShopConfig::lease_ttl`] is dropped, and its batch comes again.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// What a host runs once the transaction that a `…_in` call worked in has committed: caches forget, consumers
/// wake. Forgotten, caches of this process learn of it from the outbox within
/// [`ShopConfig::poll_interval`] and the index follows at its next poll.
#[derive(Debug, Default)]
#[must_use = "run it after the commit, or caches stay old until the outbox is read"]
pub struct AfterCommit {
    pub(crate) keys: Vec<CacheKey>,
    pub(crate) clear: bool,
}

impl AfterCommit {
    pub(crate) fn of(keys: impl IntoIterator<Item = CacheKey>) -> Self {
        Self { keys: keys.into_iter().collect(), clear: false }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.clear |= other.clear;
        self
    }

    /// Does it.
    ///
    /// A shared cache that cannot be told is logged, not reported: the write has happened.
    pub async fn run(self, shop: &Shop) {
        self.run_in(&shop.cx).await;
    }

    pub(crate) async fn run_in(self, cx: &Context) {
        let told = if self.clear { cx.cache.clear().await } else { cx.cache.invalidate(&self.keys).await };
        if let Err(error) = told {
            tracing::warn!(%error, "the cache was not told of a write; old values may be served until their TTL");
        }
        cx.events.send_replace(());
    }
}
