//! Many shops in one process: a registry that opens shops by name when they are needed, and closes them again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::platform::Pass;
use ecom_core::port::PoolStatus;
use ecom_core::{Dependency, Error, FieldCode, Result, Shop, ValidationErrors};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::ShopBuilder;

/// The name of a shop among [`Shops`]: 1 to 48 lower-case ASCII letters, digits and underscores. It begins with a
/// letter, so that it can be part of the name of a schema, a directory, an index or a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShopName(Arc<str>);

impl ShopName {
    /// The longest name.
    const MAX: usize = 48;

    /// Checks a name.
    ///
    /// # Errors
    /// `Validation` on field `shop`.
    pub fn new(name: &str) -> Result<Self> {
        let is_allowed = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && name.len() <= Self::MAX;
        if !is_allowed {
            let message = format!(
                "must have 1 to {} lower-case letters, digits and underscores, and begin with a letter",
                Self::MAX
            );
            return Err(Error::invalid("shop", FieldCode::Malformed, message));
        }
        Ok(Self(name.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ShopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShopName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

/// The limits of [`Shops`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ShopsLimits {
    /// The most shops that are open at a time, at least 1. If one more is needed, the one that was used least recently
    /// is closed. Default 200.
    pub max_open: usize,
    /// The time after which a shop that nobody uses is closed, at least 100 ms. Default 5 minutes.
    pub idle: Duration,
    /// The time for which [`Shops::get`] waits if `max_open` shops are in use. Default 10 s.
    pub wait: Duration,
    /// The maximum number of shared connections that one shop uses at a time, at least 1. Default: half of
    /// [`DatabaseSettings::max_connections`](crate::DatabaseSettings::max_connections), rounded up. It has no effect on
    /// SQLite.
    pub connections_per_shop: Option<usize>,
    /// How many shops get a pass of their background work at a time, at least 1. Default 2.
    pub passes: usize,
    /// The time in which each shop gets at least one pass, also if it is closed, at least 100 ms. Default 10 minutes.
    pub round: Duration,
    /// The memory in MiB of all caches in this process. Each shop whose builder sets no cache gets a cache of
    /// `cache_mib / max_open` MiB, but of at least 1 MiB. Default 256.
    pub cache_mib: u64,
}

impl Default for ShopsLimits {
    fn default() -> Self {
        Self {
            max_open: 200,
            idle: Duration::from_secs(300),
            wait: Duration::from_secs(10),
            connections_per_shop: None,
            passes: 2,
            round: Duration::from_secs(600),
            cache_mib: 256,
        }
    }
}

impl ShopsLimits {
    fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        for (field, number) in [
            ("max_open", self.max_open),
            ("connections_per_shop", self.connections_per_shop.unwrap_or(1)),
            ("passes", self.passes),
        ] {
            if number == 0 || number > Semaphore::MAX_PERMITS {
                errors.out_of_bounds(field, "must be at least 1");
            }
        }
        for (field, time) in [("idle", self.idle), ("round", self.round)] {
            if time < Duration::from_millis(100) {
                errors.out_of_bounds(field, "must be at least 100 ms");
            }
        }
        errors.into_result()
    }
}

/// The connections that shops share, by the URL of their server with `{shop}` in it.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pools: Mutex<HashMap<String, ecom_storage::ServerPool>>,
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl Servers {
    /// Returns the connections of a URL, which are made once.
    pub(crate) fn pool(
        &self,
        template: &str,
        make: impl FnOnce() -> Result<ecom_storage::ServerPool>,
    ) -> Result<ecom_storage::ServerPool> {
        let mut pools = self.pools.lock();
        if let Some(pool) = pools.get(template) {
            return Ok(pool.clone());
        }
        let pool = make()?;
        pools.insert(template.to_owned(), pool.clone());
        Ok(pool)
    }
}

impl Servers {
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    fn status(&self) -> PoolStatus {
        let sum = |all: PoolStatus, pool: &ecom_storage::ServerPool| {
            let one = pool.status();
            let all = all.max(all.max + one.max).size(all.size + one.size);
            all.idle(all.idle + one.idle).waiting(all.waiting + one.waiting)
        };
        self.pools.lock().values().fold(PoolStatus::default(), sum)
    }

    #[cfg(not(any(feature = "postgres", feature = "mysql")))]
    fn status(&self) -> PoolStatus {
        let _ = self;
        PoolStatus::default()
    }

    fn close(&self) {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        self.pools.lock().values().for_each(ecom_storage::ServerPool::close);
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        let _ = self;
    }
}

/// What a builder needs to open one of several shops.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub name: ShopName,
    /// Whether the database is created if it does not exist.
    #[cfg_attr(
        not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "without a database, no shop is opened")
    )]
    pub create: bool,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only the shops of a server share connections")
    )]
    pub servers: Arc<Servers>,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        expect(dead_code, reason = "only the shops of a server share connections")
    )]
    pub connections: Option<usize>,
    /// The memory of the cache in this process, in MiB.
    pub cache_mib: u64,
}

/// Several shops of one process, which are opened by their names when they are needed and closed when nobody uses them.
///
/// In the URLs of the builder, the name of the shop replaces `{shop}`. The shops of a server share its connections
/// ([`DatabaseSettings::max_connections`](crate::DatabaseSettings::max_connections) for all of them):
///
/// | Part | URL | Each shop has |
/// |---|---|---|
/// | database | `postgres://user@host/shops?schema={shop}` | a schema of one database |
/// | | `mysql://user@host/{shop}` | a database of one server |
/// | | `sqlite:///var/lib/shops/{shop}/shop.db` | a file, with two connections |
/// | search | `tantivy:///var/lib/shops/{shop}/index` | a directory, with memory for writes only during a pass |
/// | | `elasticsearch+http://host?index={shop}`, `meilisearch+http://host?index={shop}` | an index |
/// | cache | none given | an equal share of [`ShopsLimits::cache_mib`] |
/// | | `redis://host`, or `redis://host?prefix=ecom:{shop}:` also for copies of a shop | keys with the identity of its database, and a connection |
///
/// ```
/// # #[cfg(all(feature = "sqlite", feature = "tantivy"))]
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().display().to_string();
/// use ecom::catalog::ProductInput;
/// use ecom::{ShopBuilder, Shops, ShopsLimits};
///
/// let shops = Shops::new(ShopsLimits::default().max_open(50), move |_name| {
///     ShopBuilder::new()
///         .database(format!("sqlite://{directory}/{{shop}}/shop.db"))
///         .search(format!("tantivy://{directory}/{{shop}}/index"))
/// })?;
/// let background = shops.start();
/// shops.create("acme").await?;
///
/// let acme = shops.get("acme").await?;
/// acme.products().create(&ProductInput::new("Pen").price("2 USD".parse()?)).await?;
/// drop(acme);
///
/// assert!(shops.get("umbrella").await.is_err(), "it was not created");
/// background.shutdown().await;
/// shops.close().await;
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "sqlite", feature = "tantivy")))]
/// # fn main() {}
/// ```
///
/// # Background work
/// An open shop has no background tasks of its own. The work that [`Shops::start`] starts gives shops passes
/// ([`Shop::run_background_pass`]), a few at a time: it soon gives one to a shop that was opened or written to, and it
/// gives one to each known name in every [`round`](ShopsLimits::round). Names are not stored, so a process that has
/// restarted must [`add`](Shops::add) those of its shops. Feeds are polled at passes only. If several processes serve
/// the same shop with caches in the process, each sees the writes of the others after its next pass; with a cache on
/// Redis, it sees them at once. An application may also call [`Shop::start`] on a shop for as long as it keeps its
/// [`OpenShop`].
#[derive(Clone)]
pub struct Shops {
    inner: Arc<Inner>,
}

type Template = dyn Fn(&ShopName) -> ShopBuilder + Send + Sync;

struct Inner {
    limits: ShopsLimits,
    template: Box<Template>,
    servers: Arc<Servers>,
    slots: Mutex<BTreeMap<ShopName, Arc<Slot>>>,
    /// A permit for each shop that may be open.
    places: Arc<Semaphore>,
    /// A shop is no longer in use.
    freed: Notify,
    due: Due,
    closed: AtomicBool,
}

/// The place of a name.
struct Slot {
    name: ShopName,
    /// Whether rounds come to it.
    known: AtomicBool,
    /// Whether it was taken out of the registry; changes under `turn`.
    gone: AtomicBool,
    /// Held by the call that opens or closes the shop.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Held by the pass of the shop.
    passing: tokio::sync::Mutex<()>,
    /// The pass that was ordered while another one was under way.
    again: Mutex<Option<Pass>>,
    entry: Mutex<Option<Arc<Entry>>>,
}

/// An open shop.
struct Entry {
    shop: Shop,
    /// The handles; changes under the lock of the slot.
    users: AtomicUsize,
    last_used: Mutex<Instant>,
    /// Whether it was opened or used by more than a pass.
    wanted: AtomicBool,
    /// The task that waits for its events.
    watch: AbortHandle,
    _place: OwnedSemaphorePermit,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The shops that are to get a pass.
#[derive(Default)]
struct Due {
    state: Mutex<(VecDeque<ShopName>, HashMap<ShopName, Pass>)>,
    added: Notify,
}

impl Due {
    fn add(&self, name: &ShopName, pass: Pass) {
        let mut state = self.state.lock();
        let (queue, passes) = &mut *state;
        match passes.get_mut(name) {
            Some(waiting) if pass == Pass::Everything => *waiting = pass,
            Some(_) => {}
            None => {
                passes.insert(name.clone(), pass);
                queue.push_back(name.clone());
            }
        }
        drop(state);
        self.added.notify_one();
    }

    async fn next(&self) -> (ShopName, Pass) {
        loop {
            let added = self.added.notified();
            let (found, is_more) = {
                let mut state = self.state.lock();
                let (queue, passes) = &mut *state;
                let found = queue.pop_front().and_then(|name| passes.remove_entry(&name));
                (found, !queue.is_empty())
            };
            if is_more {
                // A notification is for one worker, and several additions may have shared one.
                self.added.notify_one();
            }
            match found {
                Some(found) => return found,
                None => added.await,
            }
        }
    }
}

/// How a shop is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// For a caller, if it exists.
    Use,
    /// For a caller, and it is created if it does not exist.
    Creation,
    /// For a pass.
    Pass,
}

/// A handle of an open shop. The shop stays open at least for as long as the handle exists, unless [`Shops::remove`] or
/// [`Shops::close`] closes it. The handle dereferences to the [`Shop`]; a clone of the `Shop` does not keep it open.
pub struct OpenShop {
    inner: Arc<Inner>,
    slot: Arc<Slot>,
    entry: Arc<Entry>,
    why: For,
}

impl fmt::Debug for OpenShop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenShop").field(&self.slot.name).finish()
    }
}

impl OpenShop {
    /// Returns the name of the shop.
    pub fn name(&self) -> &ShopName {
        &self.slot.name
    }
}

impl Deref for OpenShop {
    type Target = Shop;

    fn deref(&self) -> &Shop {
        &self.entry.shop
    }
}

impl Drop for OpenShop {
    fn drop(&mut self) {
        let _entry = self.slot.entry.lock();
        if self.why != For::Pass {
            *self.entry.last_used.lock() = Instant::now();
        }
        if self.entry.users.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.inner.freed.notify_waiters();
        }
    }
}

/// The state of [`Shops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ShopsStatus {
    /// The number of names that are known.
    pub known: usize,
    /// The number of shops that are open.
    pub open: usize,
    /// The number of open shops that are in use.
    pub in_use: usize,
    /// The sum over the pools of connections that shops share; all zero if the databases are files.
    pub connections: PoolStatus,
}

impl fmt::Debug for Shops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shops").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Shops {
    /// Returns a registry without shops. `template` makes the builder of a shop, with URLs that contain `{shop}`; it is
    /// called each time that a shop is opened. Nothing is opened yet.
    ///
    /// # Errors
    /// `Validation` on the fields of the limits that are out of bounds.
    pub fn new(
        limits: ShopsLimits,
        template: impl Fn(&ShopName) -> ShopBuilder + Send + Sync + 'static,
    ) -> Result<Self> {
        limits.check()?;
        let inner = Inner {
            places: Arc::new(Semaphore::new(limits.max_open)),
            limits,
            template: Box::new(template),
            servers: Arc::default(),
            slots: Mutex::default(),
            freed: Notify::new(),
            due: Due::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Adds the name of a shop that exists, so that it gets its passes. It is not opened.
    ///
    /// # Errors
    /// `Validation` on field `shop` for a name that is not allowed.
    pub fn add(&self, name: &str) -> Result<()> {
        let slot = self.inner.slot(&ShopName::new(name)?);
        slot.known.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Opens a shop, unless it is open already. Calls for the same shop at the same time open it once. The shop stays
    /// open at least until the returned handle is dropped, and its name becomes known.
    ///
    /// # Errors
    /// - `Validation` on field `shop` for a name that is not allowed, and on field `database` for a shop that was not
    ///   created.
    /// - `Unavailable` if [`ShopsLimits::max_open`] shops are in use for longer than [`ShopsLimits::wait`], or after
    ///   [`Self::close`].
    /// - Those of [`ShopBuilder::build`].
    pub async fn get(&self, name: &str) -> Result<OpenShop> {
        self.inner.open(&ShopName::new(name)?, For::Use).await
    }

    /// Creates the schema (PostgreSQL), the database (MySQL) or the file (SQLite) of a shop if it does not exist, and
    /// opens the shop as [`Self::get`] does.
    ///
    /// # Errors
    /// Those of [`Self::get`], and `Validation` on field `database` if the database user may not create schemas or
    /// databases, even if that of the shop exists already.
    pub async fn create(&self, name: &str) -> Result<OpenShop> {
        self.inner.open(&ShopName::new(name)?, For::Creation).await
    }

    /// Closes a shop, even if it is in use, and forgets its name. Calls of handles that still exist fail with
    /// `Unavailable`. The data of the shop stays, and [`Self::get`] opens it again. Returns whether the name was known.
    pub async fn remove(&self, name: &str) -> bool {
        let Ok(name) = ShopName::new(name) else { return false };
        let slot = self.inner.slots.lock().get(&name).cloned();
        let Some(slot) = slot else { return false };
        let was_known = slot.known.load(Ordering::Relaxed);
        self.inner.close(slot, true, |_| true).await;
        was_known
    }

    /// Returns the known names in alphabetical order.
    pub fn names(&self) -> Vec<ShopName> {
        self.inner.known().iter().map(|slot| slot.name.clone()).collect()
    }

    /// Returns the state of the registry.
    pub fn status(&self) -> ShopsStatus {
        let mut status = ShopsStatus { connections: self.inner.servers.status(), ..ShopsStatus::default() };
        for slot in self.inner.slots.lock().values() {
            status.known += usize::from(slot.known.load(Ordering::Relaxed));
            if let Some(entry) = &*slot.entry.lock() {
                status.open += 1;
                status.in_use += usize::from(entry.users.load(Ordering::Relaxed) > 0);
            }
        }
        status
    }

    /// Starts the background work of all shops, as [`Shops`] describes, and closes shops that are not used. A process
    /// calls this once.
    pub fn start(&self) -> ShopsBackground {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..self.inner.limits.passes {
            tasks.spawn(self.inner.clone().work(stopped.clone()));
        }
        tasks.spawn(until(stopped.clone(), self.inner.clone().go_round()));
        tasks.spawn(until(stopped, self.inner.clone().close_idle()));
        ShopsBackground { stop, tasks }
    }

    /// Closes all shops, also those in use, and the connections that they share. Later calls fail with `Unavailable`.
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        let slots: Vec<_> = self.inner.slots.lock().values().cloned().collect();
        let closed = slots.into_iter().map(|slot| self.inner.close(slot, true, |_| true));
        futures::future::join_all(closed).await;
        self.inner.servers.close();
    }
}

/// Runs work until the stop, at which it is dropped between two of its steps.
async fn until(mut stopped: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|s| *s) => {}
        () = work => {}
    }
}

/// The background work of [`Shops`]. If it is dropped, the work is aborted, and other processes wait until the leases
/// of the passes under way run out.
#[must_use = "dropping it aborts the background work: keep it until `ShopsBackground::shutdown`"]
#[derive(Debug)]
pub struct ShopsBackground {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl ShopsBackground {
    /// Begins no further pass, lets those under way end their steps and give up their leases, and waits for that.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Inner {
    fn slot(&self, name: &ShopName) -> Arc<Slot> {
        let make = || {
            Arc::new(Slot {
                name: name.clone(),
                known: AtomicBool::new(false),
                gone: AtomicBool::new(false),
                turn: Arc::default(),
                passing: tokio::sync::Mutex::default(),
                again: Mutex::default(),
                entry: Mutex::default(),
            })
        };
        self.slots.lock().entry(name.clone()).or_insert_with(make).clone()
    }

    fn known(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().values().filter(|slot| slot.known.load(Ordering::Relaxed)).cloned().collect()
    }

    /// Returns a handle of the shop if it is open.
    fn handle(self: &Arc<Self>, slot: &Arc<Slot>, why: For) -> Option<OpenShop> {
        let held = slot.entry.lock();
        let entry = held.as_ref()?.clone();
        entry.users.fetch_add(1, Ordering::Relaxed);
        if why != For::Pass {
            entry.wanted.store(true, Ordering::Relaxed);
        }
        drop(held);
        Some(OpenShop { inner: self.clone(), slot: slot.clone(), entry, why })
    }

    async fn open(self: &Arc<Self>, name: &ShopName, why: For) -> Result<OpenShop> {
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Error::unavailable(Dependency::Database, "the shops of this process were closed"));
            }
            let slot = if why == For::Pass {
                // A pass does not bring back a shop that was removed.
                let found = self.slots.lock().get(name).cloned();
                found.ok_or_else(|| Error::unavailable(Dependency::Database, "the shop was removed"))?
            } else {
                self.slot(name)
            };
            if let Some(handle) = self.handle(&slot, why) {
                return Ok(handle);
            }
            let turn = slot.turn.clone().lock_owned().await;
            if slot.gone.load(Ordering::Relaxed) {
                continue;
            }
            if let Some(handle) = self.handle(&slot, why) {
                return Ok(handle);
            }
            let opened = self.build(&slot, why).await;
            if opened.is_err() && !slot.known.load(Ordering::Relaxed) {
                self.forget(&slot);
            }
            drop(turn);
            return opened;
        }
    }

    /// Opens the shop of a slot. The caller has its turn.
    async fn build(self: &Arc<Self>, slot: &Arc<Slot>, why: For) -> Result<OpenShop> {
        let place = self.place().await?;
        let of = Place {
            name: slot.name.clone(),
            create: why == For::Creation,
            servers: self.servers.clone(),
            connections: self.limits.connections_per_shop,
            cache_mib: (self.limits.cache_mib / self.limits.max_open as u64).max(1),
        };
        // Boxed, because the calls that open a shop contain it.
        let shop = Box::pin((self.template)(&slot.name).place(of)?.build()).await?;
        let entry = Arc::new(Entry {
            watch: self.watch(&slot.name, &shop),
            shop,
            users: AtomicUsize::new(1),
            last_used: Mutex::new(Instant::now()),
            wanted: AtomicBool::new(why != For::Pass),
            _place: place,
        });
        *slot.entry.lock() = Some(entry.clone());
        slot.known.store(true, Ordering::Relaxed);
        if why != For::Pass {
            // Its index may be behind.
            self.due.add(&slot.name, Pass::Events);
        }
        Ok(OpenShop { inner: self.clone(), slot: slot.clone(), entry, why })
    }

    /// Starts the task that orders a pass after writes.
    fn watch(self: &Arc<Self>, name: &ShopName, shop: &Shop) -> AbortHandle {
        /// How long the next pass of a shop waits for further writes.
        const PAUSE: Duration = Duration::from_millis(100);
        let (inner, name, mut signal) = (Arc::downgrade(self), name.clone(), shop.event_signal());
        let watch = tokio::spawn(async move {
            while signal.changed().await {
                let Some(inner) = inner.upgrade() else { return };
                inner.due.add(&name, Pass::Events);
                drop(inner);
                tokio::time::sleep(PAUSE).await;
            }
        });
        watch.abort_handle()
    }

    /// Waits for a place among the open shops, and closes another one if needed.
    async fn place(self: &Arc<Self>) -> Result<OwnedSemaphorePermit> {
        let found = async {
            loop {
                let mut freed = std::pin::pin!(self.freed.notified());
                freed.as_mut().enable();
                if let Ok(place) = self.places.clone().try_acquire_owned() {
                    return place;
                }
                if self.close_one().await {
                    continue;
                }
                tokio::select! {
                    place = self.places.clone().acquire_owned() => {
                        if let Ok(place) = place {
                            return place;
                        }
                    }
                    () = freed => {}
                }
            }
        };
        tokio::time::timeout(self.limits.wait, found).await.map_err(|_| {
            let (most, wait) = (self.limits.max_open, self.limits.wait);
            let message =
                format!("{most} shops were in use for {wait:?}: drop handles that are not used, or raise `max_open`");
            Error::unavailable(Dependency::Database, message)
        })
    }

    /// Closes the shop that was used least recently and is not in use. Returns false if all are in use.
    async fn close_one(self: &Arc<Self>) -> bool {
        let oldest = {
            let slots = self.slots.lock();
            let unused = slots.values().filter_map(|slot| {
                let entry = slot.entry.lock();
                let entry = entry.as_ref().filter(|e| e.users.load(Ordering::Relaxed) == 0)?;
                Some((*entry.last_used.lock(), slot))
            });
            unused.min_by_key(|(at, _)| *at).map(|(_, slot)| slot.clone())
        };
        match oldest {
            Some(slot) => {
                // Several callers may have chosen the same one.
                self.close(slot, false, |_| true).await;
                true
            }
            None => false,
        }
    }

    /// Closes the shop of a slot, and returns whether it did. Unless the slot is removed, a shop in use stays open.
    async fn close(
        self: &Arc<Self>,
        slot: Arc<Slot>,
        remove: bool,
        condition: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> bool {
        let inner = self.clone();
        // A task, so that a shop is closed completely even if the caller is dropped.
        let closed = tokio::spawn(async move {
            let _turn = slot.turn.clone().lock_owned().await;
            if remove {
                slot.known.store(false, Ordering::Relaxed);
                inner.forget(&slot);
            }
            let may = |e: &mut Arc<Entry>| remove || (e.users.load(Ordering::Relaxed) == 0 && condition(e));
            let entry = slot.entry.lock().take_if(may);
            let Some(entry) = entry else { return false };
            entry.shop.close().await;
            true
        });
        closed.await.unwrap_or(false)
    }

    /// Takes a slot out of the registry. The caller has its turn.
    fn forget(&self, slot: &Arc<Slot>) {
        slot.gone.store(true, Ordering::Relaxed);
        let mut slots = self.slots.lock();
        if slots.get(&slot.name).is_some_and(|found| Arc::ptr_eq(found, slot)) {
            slots.remove(&slot.name);
        }
    }

    /// Gives shops their passes.
    async fn work(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        /// The time after which the worker lets a pass, such as a long import, go on beside the next ones.
        const LONG: Duration = Duration::from_secs(30);
        let mut long = JoinSet::new();
        loop {
            let (name, pass) = tokio::select! {
                biased;
                _ = stopped.wait_for(|s| *s) => break,
                next = self.due.next() => next,
            };
            while long.try_join_next().is_some() {}
            let slot = self.slots.lock().get(&name).cloned();
            let Some(slot) = slot else { continue };
            let mut running = Box::pin(self.clone().pass(slot, pass, stopped.clone()));
            tokio::select! {
                () = &mut running => {}
                () = tokio::time::sleep(LONG) => drop(long.spawn(running)),
            }
        }
        while long.join_next().await.is_some() {}
    }

    /// Gives a shop a pass, which ends early at the stop. If one is under way, that orders the next one at its end.
    async fn pass(self: Arc<Self>, slot: Arc<Slot>, pass: Pass, stopped: watch::Receiver<bool>) {
        let Ok(one) = slot.passing.try_lock() else {
            let mut again = slot.again.lock();
            if *again != Some(Pass::Everything) {
                *again = Some(pass);
            }
            drop(again);
            // If that one has just ended, it has not seen the order.
            if slot.passing.try_lock().is_ok() {
                self.order_again(&slot);
            }
            return;
        };
        let unfinished = match self.open(&slot.name, For::Pass).await {
            Ok(shop) => {
                let mut end = stopped.clone();
                let ends = async {
                    let _ = end.wait_for(|s| *s).await;
                };
                shop.run_background_pass(pass, ends).await
            }
            Err(_) if slot.gone.load(Ordering::Relaxed) => false,
            Err(error) => {
                tracing::warn!(shop = %slot.name, %error, "a shop was not opened for its background work");
                true
            }
        };
        // A shop that only its pass has needed makes room at once.
        self.close(slot.clone(), false, |entry| !entry.wanted.load(Ordering::Relaxed)).await;
        drop(one);
        self.order_again(&slot);
        if unfinished && !*stopped.borrow() {
            let (inner, name, pause) = (Arc::downgrade(&self), slot.name.clone(), self.limits.round / 20);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                if let Some(inner) = inner.upgrade() {
                    inner.due.add(&name, pass);
                }
            });
        }
    }

    /// Orders the pass that was called for during another one.
    fn order_again(&self, slot: &Slot) {
        if let Some(pass) = slot.again.lock().take() {
            self.due.add(&slot.name, pass);
        }
    }

    /// Orders a pass for each shop, evenly over a round.
    async fn go_round(self: Arc<Self>) {
        loop {
            let known = self.known();
            let pause = self.limits.round / u32::try_from(known.len()).unwrap_or(u32::MAX).max(1);
            for slot in &known {
                self.due.add(&slot.name, Pass::Everything);
                tokio::time::sleep(pause).await;
            }
            if known.is_empty() {
                tokio::time::sleep(pause.min(Duration::from_secs(1))).await;
            }
        }
    }

    /// Closes shops that nobody has used for some time.
    async fn close_idle(self: Arc<Self>) {
        let idle = self.limits.idle;
        loop {
            tokio::time::sleep(idle / 4).await;
            let open: Vec<_> = self.slots.lock().values().filter(|s| s.entry.lock().is_some()).cloned().collect();
            for slot in open {
                self.close(slot, false, move |entry| entry.last_used.lock().elapsed() >= idle).await;
            }
        }
    }
}
