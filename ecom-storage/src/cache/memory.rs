//! The in-process cache, on moka.
//!
//! # How a stale fill is refused
//! All invalidations and all fills share one sequence. [`Cache::begin_fill`] returns its current value as the token. An
//! invalidation takes the next value and stores it as a mark: on the stripe of the key that it drops, or as the floor of
//! all entries if it drops everything. A fill whose token is below the mark of its stripe or below the floor started
//! before the invalidation and is refused. Check and insert happen under the lock of the stripe, as do mark and remove,
//! so that neither can come between the two steps of the other.
//!
//! To drop everything takes O(1): an entry keeps the token of its fill, and a read ignores entries below the floor.
//!
//! Keys that share one of the 1,024 stripes sometimes refuse each other's fills, which costs one more load.

use std::cell::Cell;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use derive_setters::Setters;
use ecom_core::Result;
use ecom_core::clock::{SharedClock, Timestamp};
use ecom_core::port::{Cache, CacheKey, CacheStats, CacheValue, Codec, FillToken};
use foldhash::fast::RandomState;
use moka::Expiry;
use moka::notification::RemovalCause;
use parking_lot::Mutex;

/// The default of [`MemoryCacheOptions::max_bytes`]: 256 MiB.
pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

/// Settings of a [`MemoryCache`].
#[derive(Clone, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct MemoryCacheOptions {
    /// The most memory that the entries take, in bytes, by the estimate of their [`Codec`]. Beyond it, the least used
    /// entries are evicted. By default [`DEFAULT_MAX_BYTES`].
    pub max_bytes: u64,
    /// The clock by which entries expire, for tests. Without it, entries expire by the monotonic clock of the machine.
    pub clock: Option<SharedClock>,
}

impl Default for MemoryCacheOptions {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, clock: None }
    }
}

impl fmt::Debug for MemoryCacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheOptions").field("max_bytes", &self.max_bytes).field("clock", &self.clock).finish()
    }
}

/// The in-process cache: `CACHE_URL=memory://`.
///
/// Entries live until their own TTL, as far as they fit into the memory; TinyLFU decides which ones stay. Clones share
/// one cache.
#[derive(Clone)]
pub struct MemoryCache {
    inner: Arc<Inner>,
}

struct Inner {
    entries: moka::sync::Cache<CacheKey, Entry, RandomState>,
    hasher: RandomState,
    clock: Option<SharedClock>,
    /// The sequence of all invalidations; see the module.
    sequence: AtomicU64,
    /// The floor of all entries: those below it have been dropped.
    floor: AtomicU64,
    /// The last invalidation of a key of each stripe.
    stripes: Box<[Mutex<u64>; STRIPES]>,
    counters: Box<[Counters; COUNTERS]>,
    evictions: Arc<AtomicU64>,
}

const STRIPES: usize = 1024;
const COUNTERS: usize = 32;
/// About how much memory the cache itself needs for an entry.
const ENTRY_BYTES: usize = 256;
/// The longest TTL. moka adds a TTL to a point in time, so that a longer one could overflow.
const MAX_TTL: Duration = Duration::from_hours(10 * 366 * 24);

#[derive(Clone)]
struct Entry {
    value: CacheValue,
    /// The token that the entry was filled with.
    token: u64,
    life: Life,
    /// How many bytes of memory it takes.
    size: u32,
}

/// How an entry expires.
#[derive(Clone, Copy)]
enum Life {
    /// moka drops the entry after this time on the monotonic clock of the machine.
    For(Duration),
    /// The entry expires at this time of the injected clock.
    Until(Timestamp),
}

struct PerEntry;

impl Expiry<CacheKey, Entry> for PerEntry {
    fn expire_after_create(&self, _: &CacheKey, entry: &Entry, _: Instant) -> Option<Duration> {
        match entry.life {
            Life::For(ttl) => Some(ttl),
            Life::Until(_) => None,
        }
    }

    fn expire_after_update(
        &self,
        key: &CacheKey,
        entry: &Entry,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, entry, now)
    }
}

/// Counters of the threads that share a slot. Each slot has a cache line of its own, so that readers do not slow down
/// each other.
#[derive(Default)]
#[repr(align(128))]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Returns the slot of this thread.
fn slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SLOT.with(|s| {
        let mut n = s.get();
        if n == usize::MAX {
            n = NEXT.fetch_add(1, Ordering::Relaxed) % COUNTERS;
            s.set(n);
        }
        n
    })
}

impl MemoryCache {
    /// Creates an empty cache.
    pub fn new(options: MemoryCacheOptions) -> Self {
        let hasher = RandomState::default();
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = evictions.clone();
        let builder = moka::sync::Cache::builder()
            .name("ecom")
            .max_capacity(options.max_bytes)
            .weigher(|_: &CacheKey, entry: &Entry| entry.size)
            .expire_after(PerEntry)
            .eviction_listener(move |_, _, cause: RemovalCause| {
                if cause.was_evicted() {
                    evicted.fetch_add(1, Ordering::Relaxed);
                }
            });
        Self {
            inner: Arc::new(Inner {
                entries: builder.build_with_hasher(hasher.clone()),
                hasher,
                clock: options.clock,
                sequence: AtomicU64::new(0),
                floor: AtomicU64::new(0),
                stripes: Box::new([const { Mutex::new(0) }; STRIPES]),
                counters: Box::new(std::array::from_fn(|_| Counters::default())),
                evictions,
            }),
        }
    }

    pub(crate) fn forget(&self, keys: &[CacheKey]) {
        for key in keys {
            self.inner.invalidate(key);
        }
    }

    pub(crate) fn forget_all(&self) {
        let inner = &*self.inner;
        inner.floor.fetch_max(inner.mark(), Ordering::SeqCst);
        // This only frees the memory; the floor decides which entries are read.
        inner.entries.invalidate_all();
    }
}

impl Default for MemoryCache {
    fn default() -> Self {
        Self::new(MemoryCacheOptions::default())
    }
}

impl Inner {
    #[inline]
    fn read(&self, key: &CacheKey) -> Option<CacheValue> {
        let entry = self.entries.get(key)?;
        if entry.token < self.floor.load(Ordering::Acquire) {
            return None;
        }
        if let (Life::Until(end), Some(clock)) = (entry.life, &self.clock)
            && clock.now() >= end
        {
            return None;
        }
        self.counters[slot()].hits.fetch_add(1, Ordering::Relaxed);
        Some(entry.value)
    }

    fn stripe(&self, key: &CacheKey) -> &Mutex<u64> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
        let hash = self.hasher.hash_one(key) as usize;
        &self.stripes[hash % STRIPES]
    }

    /// Takes the mark of a new invalidation, which is above every token that was returned before.
    fn mark(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn invalidate(&self, key: &CacheKey) {
        let mut stripe = self.stripe(key).lock();
        *stripe = self.mark();
        self.entries.invalidate(key);
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("entries", &self.inner.entries.entry_count()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Cache for MemoryCache {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn local(&self, key: &CacheKey) -> Option<CacheValue> {
        self.inner.read(key)
    }

    async fn get(&self, key: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        let found = self.inner.read(key);
        if found.is_none() {
            self.inner.counters[slot()].misses.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken { local: self.inner.sequence.load(Ordering::SeqCst), shared: 0 }
    }

    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        let inner = &*self.inner;
        let size = u32::try_from((codec.size)(&*value).saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX);
        let ttl = ttl.min(MAX_TTL);
        let life = match &inner.clock {
            None => Life::For(ttl),
            Some(clock) => {
                let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
                Life::Until(clock.now() + chrono::TimeDelta::microseconds(micros))
            }
        };
        let token = token.local;
        let stripe = inner.stripe(key).lock();
        // If the floor rises after this check, it hides the entry, whose token is below it.
        if token < *stripe || token < inner.floor.load(Ordering::SeqCst) {
            return false;
        }
        inner.entries.insert(*key, Entry { value, token, life, size });
        true
    }

    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        self.forget(keys);
        Ok(())
    }

    async fn invalidate_local(&self, keys: &[CacheKey]) {
        self.forget(keys);
    }

    async fn clear(&self) -> Result<()> {
        self.forget_all();
        Ok(())
    }

    async fn clear_local(&self) {
        self.forget_all();
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Drops the values. There is no connection to close.
    async fn close(&self) {
        self.clear_local().await;
    }

    fn stats(&self) -> CacheStats {
        // moka updates its counts in batches. This method is called seldom enough to bring them up to date first.
        self.inner.entries.run_pending_tasks();
        let sum = |of: fn(&Counters) -> &AtomicU64| {
            self.inner.counters.iter().map(|c| of(c).load(Ordering::Relaxed)).sum::<u64>()
        };
        CacheStats::default()
            .hits(sum(|c| &c.hits))
            .misses(sum(|c| &c.misses))
            .evictions(self.inner.evictions.load(Ordering::Relaxed))
            .entries(self.inner.entries.entry_count())
    }
}
