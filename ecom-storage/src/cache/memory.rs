//! The in-process cache, on moka.
//!
//! # How a stale fill is kept out
//! All invalidations and all fills share one sequence. [`Cache::begin_fill`] hands out its present value; an
//! invalidation takes the next one and leaves it as a mark: on the stripe of the key that it drops, as the floor
//! of the group that it drops, or as every floor. A fill whose token is below the mark of its stripe or its floor
//! started before the invalidation and is refused. Check and insert happen under the stripe's lock, as do mark
//! and remove, so that neither slips between the other's two steps.
//!
//! A group is dropped in O(1), and so is everything: an entry keeps the token that it was filled with, and a read
//! takes no entry from below the floor. What lies below is overwritten or evicted in time, and is counted as held until
//! then.
//!
//! Keys that share one of the 1,024 stripes refuse each other's fills at times: that costs one more load.

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

/// How many entries a [`MemoryCache`] holds unless it is told.
pub const DEFAULT_CAPACITY: u64 = 100_000;

/// Says how much of the capacity an entry takes.
pub type Weigher = fn(&CacheKey, &CacheValue) -> u32;

/// Settings of a [`MemoryCache`].
#[derive(Clone, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct MemoryCacheOptions {
    /// The most entries, or with a `weigher` the most weight. Past it the least useful ones are evicted.
    pub capacity: u64,
    /// The weight of an entry; each weighs 1 without it.
    pub weigher: Option<Weigher>,
    /// What ages entries in place of the machine's monotonic clock, for tests.
    pub clock: Option<SharedClock>,
}

impl Default for MemoryCacheOptions {
    fn default() -> Self {
        Self { capacity: DEFAULT_CAPACITY, weigher: None, clock: None }
    }
}

impl fmt::Debug for MemoryCacheOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheOptions")
            .field("capacity", &self.capacity)
            .field("weighed", &self.weigher.is_some())
            .field("clock", &self.clock)
            .finish()
    }
}

/// The in-process cache: `CACHE_URL=memory://`.
///
/// Entries live until their own TTL, bounded by the capacity; TinyLFU decides who stays. Clones share one cache.
#[derive(Clone)]
pub struct MemoryCache {
    inner: Arc<Inner>,
}

struct Inner {
    entries: moka::sync::Cache<CacheKey, Entry, RandomState>,
    hasher: RandomState,
    clock: Option<SharedClock>,
    /// Of all invalidations; see the module.
    sequence: AtomicU64,
    /// Entries of each group from below this are gone.
    groups: [AtomicU64; CacheKey::GROUPS.len()],
    /// Entries that belong to no group from below this are gone.
    others: AtomicU64,
    /// The last invalidation of a key of the stripe.
    stripes: Box<[Mutex<u64>; STRIPES]>,
    counters: Box<[Counters; COUNTERS]>,
    evictions: Arc<AtomicU64>,
}

const STRIPES: usize = 1024;
const COUNTERS: usize = 32;
/// moka adds a TTL to a point in time: a bound that no cache lives to see keeps it from overflow.
const MAX_TTL: Duration = Duration::from_hours(10 * 366 * 24);

#[derive(Clone)]
struct Entry {
    value: CacheValue,
    /// The token that it was filled with.
    token: u64,
    life: Life,
}

/// How an entry ages.
#[derive(Clone, Copy)]
enum Life {
    /// By moka, on the machine's monotonic clock.
    For(Duration),
    /// By the injected clock.
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

/// Counters of the threads that share a slot; a cache line of their own, so that readers do not slow each other.
#[derive(Default)]
#[repr(align(128))]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The slot of this thread.
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
    /// Makes one.
    pub fn new(options: MemoryCacheOptions) -> Self {
        let hasher = RandomState::default();
        let evictions = Arc::new(AtomicU64::new(0));
        let evicted = evictions.clone();
        let mut builder = moka::sync::Cache::builder()
            .name("ecom")
            .max_capacity(options.capacity)
            .expire_after(PerEntry)
            .eviction_listener(move |_, _, cause: RemovalCause| {
                if cause.was_evicted() {
                    evicted.fetch_add(1, Ordering::Relaxed);
                }
            });
        if let Some(weigh) = options.weigher {
            builder = builder.weigher(move |key: &CacheKey, entry: &Entry| weigh(key, &entry.value));
        }
        Self {
            inner: Arc::new(Inner {
                entries: builder.build_with_hasher(hasher.clone()),
                hasher,
                clock: options.clock,
                sequence: AtomicU64::new(0),
                groups: Default::default(),
                others: AtomicU64::new(0),
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
        let mark = inner.mark();
        for floor in inner.groups.iter().chain([&inner.others]) {
            floor.fetch_max(mark, Ordering::SeqCst);
        }
        // Frees the memory; the floors alone decide what is read.
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
        if entry.token < self.floor(key).load(Ordering::Acquire) {
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

    /// What a key's token must not be below.
    #[inline]
    fn floor(&self, key: &CacheKey) -> &AtomicU64 {
        key.group_index().map_or(&self.others, |i| &self.groups[i])
    }

    fn stripe(&self, key: &CacheKey) -> &Mutex<u64> {
        #[expect(clippy::cast_possible_truncation, reason = "any part of the hash will do")]
        let hash = self.hasher.hash_one(key) as usize;
        &self.stripes[hash % STRIPES]
    }

    /// The mark of a new invalidation: above every token that was handed out before.
    fn mark(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn invalidate(&self, key: &CacheKey) {
        if key.is_group() {
            self.floor(key).fetch_max(self.mark(), Ordering::SeqCst);
            return;
        }
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
        _: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        let inner = &*self.inner;
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
        // A floor that rises after this check hides the entry, whose token is below it.
        if token < *stripe || token < inner.floor(key).load(Ordering::SeqCst) {
            return false;
        }
        inner.entries.insert(*key, Entry { value, token, life });
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

    /// There is nothing to end: the values go.
    async fn close(&self) {
        self.clear_local().await;
    }

    fn stats(&self) -> CacheStats {
        // moka books in batches; this is called seldom enough to close the books first.
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
