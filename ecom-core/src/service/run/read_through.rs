//! Reads through the cache: one load per key at a time, and no stale fill (R15).
//!
//! # Stamps
//! A value that is made from many rows, such as a page of a list, becomes stale with writes that cannot name its key.
//! It names the parts of the database that it is made from instead ([`CacheKey::is_stamp`]), and a write names the parts
//! that it changes. The cache has a stamp for each part, a random number. A load reads the stamps of its parts, or
//! makes them, before it reads the database, and the value records them. A reader uses the value only if the cache
//! still has the same stamps. So to invalidate a stamp makes all values stale that are made from its part, those of
//! loads under way too, and a stamp that was evicted does the same.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tracing::{Instrument as _, field};

use crate::error::{Error, Result};
use crate::port::cache::{Cache, CacheKey, CacheLoad, CacheStats, CacheValue, Codec, FillToken};
use crate::trace;

/// A cached value with the values that its readers attached to it.
pub struct Cached<T> {
    value: T,
    /// The stamps of the parts of the database that the value is made from, if it does not depend on its key alone.
    stamps: Vec<(CacheKey, Stamp)>,
    attached: Slot,
}

/// A slot for one attachment.
type Slot = OnceLock<Box<Attachment<dyn Any + Send + Sync>>>;

/// An attachment, with the slot for the next one.
struct Attachment<A: ?Sized> {
    next: Slot,
    value: A,
}

impl<T> Cached<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self::stamped(value, Vec::new())
    }

    const fn stamped(value: T, stamps: Vec<(CacheKey, Stamp)>) -> Self {
        Self { value, stamps, attached: OnceLock::new() }
    }

    /// Returns the attachment of type `A`, which the first call makes from the value: something that is costly to make
    /// and worth keeping for as long as the value is cached.
    ///
    /// Each reader attaches its own type. Calls with the same type share one attachment, also across threads, and wait
    /// while one of them makes it. The type that was attached first is found fastest. Attachments stay in the process:
    /// a shared cache does not store them. `make` must not attach to the same value.
    pub fn attached<A: Any + Send + Sync>(&self, make: impl FnOnce(&T) -> A) -> &A {
        let mut make = Some(make);
        let mut slot = &self.attached;
        loop {
            let attachment = slot.get_or_init(|| match make.take() {
                Some(make) => Box::new(Attachment { next: OnceLock::new(), value: make(&self.value) }),
                None => unreachable!("an attachment that this call made is the one that it looks for"),
            });
            match attachment.value.downcast_ref() {
                Some(value) => return value,
                None => slot = &attachment.next,
            }
        }
    }
}

impl<T> Deref for Cached<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Cached<T> {
    /// Compares the values, without what is attached to them.
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Cached<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A value that a read found, and whether it came from the cache. It derefs to the value.
#[derive(Debug)]
pub struct Lookup<T> {
    /// The value.
    pub value: Arc<Cached<T>>,
    /// Whether the value came from the cache.
    pub hit: bool,
}

impl<T> Deref for Lookup<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// The version of this release's encoding. Values that another release encoded are not read, whether the types changed
/// or not.
const CODEC_VERSION: u64 = {
    // FNV-1a: every release computes the same hash of the same text.
    let text = env!("CARGO_PKG_VERSION").as_bytes();
    let (mut hash, mut i) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while i < text.len() {
        hash = (hash ^ text[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
};

/// A value that can be cached: plain data, encoded as JSON for other processes.
pub trait Cacheable: Serialize + DeserializeOwned + Send + Sync + Sized + 'static {
    /// The encoding for other processes: an array of the stamps and the value.
    const CODEC: Codec = Codec {
        version: CODEC_VERSION,
        encode: |v| {
            let cached = v.downcast_ref::<Cached<Self>>()?;
            let stamps: Vec<(String, Stamp)> = cached.stamps.iter().map(|(key, at)| (key.to_string(), *at)).collect();
            serde_json::to_vec(&(stamps, &cached.value)).ok()
        },
        decode: |b| {
            let (stamps, value) = serde_json::from_slice::<(Vec<(String, Stamp)>, Self)>(b).ok()?;
            let stamps = stamps.into_iter().map(|(key, at)| Some((CacheKey::parse(&key)?, at)));
            Some(Arc::new(Cached::stamped(value, stamps.collect::<Option<_>>()?)))
        },
        size: |v| v.downcast_ref::<Cached<Self>>().map_or(0, |cached| memory_of(&cached.value)),
    };
    /// [`Self::CODEC`] as a reference.
    const CODEC_REF: &'static Codec = &Self::CODEC;
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for T {}

/// The number that stands for the state of a part of the database. It is unique among all processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp(u64);

/// The time to live of a stamp. The values that record it expire earlier.
const STAMP_TTL: Duration = Duration::from_hours(24);

/// Estimates how many bytes of memory a value takes: three times its length as JSON, which is once as the value and, as
/// far as readers attach something to it, once or twice as what they have rendered.
fn memory_of<T: Serialize>(value: &T) -> usize {
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length(0);
    match serde_json::to_writer(&mut length, value) {
        Ok(()) => length.0.saturating_mul(3),
        Err(_) => 0,
    }
}

/// A value, and whether it came from the cache.
type Loaded = Result<Option<(CacheValue, bool)>, Arc<Error>>;

/// A load that callers share.
#[derive(Default)]
struct Load {
    outcome: OnceCell<Loaded>,
    /// The stamps of the parts that the value is made from, once they are known.
    parts: OnceLock<Vec<CacheKey>>,
}

impl Load {
    /// Returns whether the value may be made from one of these parts.
    fn is_made_from(&self, parts: &HashSet<CacheKey>) -> bool {
        self.parts.get().is_none_or(|own| own.iter().any(|part| parts.contains(part)))
    }
}

/// A load that was begun, with the value that it found.
type LoadOf<T> = (CacheKey, FillToken, Option<Arc<Cached<T>>>);

/// The cache, as the services use it.
pub struct ReadThrough {
    cache: Arc<dyn Cache>,
    loading: Mutex<HashMap<CacheKey, Arc<Load>>>,
    /// Makes stamps: a counter that is hashed with a random key. Processes compare them, so they need to be unique;
    /// they do not need to replay from a seed.
    words: RandomState,
    stamped: AtomicU64,
}

impl fmt::Debug for ReadThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadThrough").field(&self.cache).finish()
    }
}

impl ReadThrough {
    /// Reads through this cache.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, loading: Mutex::default(), words: RandomState::new(), stamped: AtomicU64::new(0) }
    }

    /// Returns the name of the adapter.
    pub fn name(&self) -> &'static str {
        self.cache.name()
    }

    /// Returns whether other processes read the same values.
    pub fn is_shared(&self) -> bool {
        self.cache.is_shared()
    }

    /// Returns the statistics of the cache.
    pub fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Closes the cache.
    pub async fn close(&self) {
        self.cache.close().await;
    }

    /// Checks that the cache answers.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn ping(&self) -> Result<()> {
        self.cache.ping().await
    }

    /// Returns the value that this process holds, without waiting.
    pub fn local<T: Cacheable>(&self, key: &CacheKey) -> Option<Arc<Cached<T>>> {
        let value: Arc<Cached<T>> = self.cache.local(key)?.downcast().ok()?;
        let same = |(part, at): &(CacheKey, Stamp)| {
            self.cache
                .local(part)
                .is_some_and(|now| now.downcast_ref::<Cached<Stamp>>().is_some_and(|now| **now == *at))
        };
        value.stamps.iter().all(same).then_some(value)
    }

    /// Returns a value of the cache as its type, if the parts that it is made from have not changed.
    async fn current<T: Cacheable>(&self, value: CacheValue) -> Option<Arc<Cached<T>>> {
        let value: Arc<Cached<T>> = value.downcast().ok()?;
        if value.stamps.is_empty() {
            return Some(value);
        }
        let parts: Vec<CacheKey> = value.stamps.iter().map(|(part, _)| *part).collect();
        let now = self.stamps(&parts).await;
        value.stamps.iter().zip(now).all(|((_, at), now)| now == Some(*at)).then_some(value)
    }

    /// Returns the stamps that the cache has.
    async fn stamps(&self, parts: &[CacheKey]) -> Vec<Option<Stamp>> {
        let found = self.cache.get_many(parts, Stamp::CODEC_REF).await;
        found.into_iter().map(|v| Some(**v?.downcast_ref::<Cached<Stamp>>()?)).collect()
    }

    /// Returns the stamps of these parts, and makes those that the cache lacks. Returns `None` if the cache does not
    /// keep one of them.
    async fn stamps_or_new(&self, parts: &[CacheKey]) -> Option<Vec<(CacheKey, Stamp)>> {
        let mut found = self.stamps(parts).await;
        let missing: Vec<CacheKey> =
            parts.iter().zip(&found).filter(|(_, stamp)| stamp.is_none()).map(|(part, _)| *part).collect();
        if !missing.is_empty() {
            let tokens = self.cache.begin_fill_many(&missing).await;
            let new = || Stamp(self.words.hash_one(self.stamped.fetch_add(1, Ordering::Relaxed)));
            let fills = missing.iter().zip(tokens).map(|(part, token)| {
                let stamp: CacheValue = Arc::new(Cached::new(new()));
                (*part, stamp, token)
            });
            self.cache.fill_many(fills.collect(), Stamp::CODEC_REF, STAMP_TTL).await;
            // Others may make the same stamp at once, and one of theirs counts.
            found = self.stamps(parts).await;
        }
        parts.iter().zip(found).map(|(part, stamp)| Some((*part, stamp?))).collect()
    }

    /// Returns the value from the cache, or else from `load`, and caches it for `ttl`. Concurrent misses of one key
    /// load once, and the callers that waited share the error of the load. `None` is not cached.
    ///
    /// # Errors
    /// Those of `load`.
    pub async fn get_or_load<T, F>(&self, key: CacheKey, ttl: Duration, load: F) -> Result<Option<Lookup<T>>>
    where
        T: Cacheable,
        F: Future<Output = Result<Option<T>>> + Send,
    {
        self.get_or_make(key, ttl, async { Ok(Some(Vec::new())) }, load).await
    }

    /// As [`Self::get_or_load`], for a value that is made from the parts of the database that `parts` returns: it is
    /// stale once the stamp of one of them was invalidated. A value whose parts are `None` is not cached. `parts` may
    /// read through the cache; it is called after a miss, before `load`.
    ///
    /// # Errors
    /// Those of `parts` and `load`.
    pub async fn get_or_make<T, P, F>(
        &self,
        key: CacheKey,
        ttl: Duration,
        parts: P,
        load: F,
    ) -> Result<Option<Lookup<T>>>
    where
        T: Cacheable,
        P: Future<Output = Result<Option<Vec<CacheKey>>>> + Send,
        F: Future<Output = Result<Option<T>>> + Send,
    {
        if let Some(value) = self.local(&key) {
            return Ok(Some(Lookup { value, hit: true }));
        }
        let span = tracing::debug_span!(target: trace::TARGET, "cache", cache.key = %key, cache.hit = field::Empty);
        let found = self.shared_or_made(key, ttl, parts, load).instrument(span.clone()).await;
        if let Ok(Some(lookup)) = &found {
            span.record("cache.hit", lookup.hit);
        }
        found
    }

    /// Returns the value from the cache that processes share, or else makes it, as [`Self::get_or_make`] describes.
    async fn shared_or_made<T, P, F>(
        &self,
        key: CacheKey,
        ttl: Duration,
        parts: P,
        load: F,
    ) -> Result<Option<Lookup<T>>>
    where
        T: Cacheable,
        P: Future<Output = Result<Option<Vec<CacheKey>>>> + Send,
        F: Future<Output = Result<Option<T>>> + Send,
    {
        let found = self.cache.get(&key, T::CODEC_REF).await;
        let is_stale = found.is_some();
        if let Some(found) = found
            && let Some(value) = self.current(found).await
        {
            return Ok(Some(Lookup { value, hit: true }));
        }
        let shared = self.loading.lock().entry(key).or_default().clone();
        // If this load is cancelled, the next waiting caller takes it over.
        let loaded = shared
            .outcome
            .get_or_init(|| async {
                if is_stale {
                    // Other processes must not wait for a value that is there already. If it cannot be invalidated,
                    // they find that it is stale, as this one did.
                    let _ = self.cache.invalidate(&[key]).await;
                }
                let token = match self.cache.begin_load(&key, T::CODEC_REF).await {
                    CacheLoad::Found(found) => match self.current::<T>(found).await {
                        Some(value) => return Ok(Some((value as CacheValue, true))),
                        None => self.cache.begin_fill(&key).await,
                    },
                    CacheLoad::Begun(token) => token,
                };
                // The parts are found after the token was taken. If their names change meanwhile, everything is
                // invalidated, so that the fill is refused.
                let made = async {
                    let stamps = match parts.await? {
                        None => None,
                        Some(parts) => self.stamps_or_new(shared.parts.get_or_init(|| parts)).await,
                    };
                    Ok::<_, Error>(load.await?.map(|value| (value, stamps)))
                };
                match made.await {
                    Ok(Some((value, Some(stamps)))) => {
                        let value: CacheValue = Arc::new(Cached::stamped(value, stamps));
                        self.cache.fill(&key, value.clone(), T::CODEC_REF, ttl, token).await;
                        Ok(Some((value, false)))
                    }
                    other => {
                        self.cache.abandon(&[(key, token)]).await;
                        match other {
                            Ok(value) => {
                                Ok(value.map(|(value, _)| (Arc::new(Cached::new(value)) as CacheValue, false)))
                            }
                            Err(error) => Err(Arc::new(error)),
                        }
                    }
                }
            })
            .await
            .clone();
        self.forget(&key, &shared);
        match loaded {
            Ok(v) => Ok(v.and_then(|(v, hit)| Some(Lookup { value: v.downcast().ok()?, hit }))),
            Err(error) => {
                drop(shared);
                Err(Arc::try_unwrap(error).unwrap_or_else(|error| share(&error)))
            }
        }
    }

    /// Returns the cached values of several keys. The caller loads the others, beginning with [`Self::begin_many`].
    pub(crate) async fn get_many<T: Cacheable>(&self, keys: &[CacheKey]) -> Vec<Option<Arc<Cached<T>>>> {
        let mut current = Vec::with_capacity(keys.len());
        for found in self.cache.get_many(keys, T::CODEC_REF).await {
            current.push(match found {
                Some(found) => self.current(found).await,
                None => None,
            });
        }
        current
    }

    /// Begins loads of several keys, whose values go to [`Self::fill_many`].
    pub(crate) async fn begin_many(&self, keys: &[CacheKey]) -> Vec<FillToken> {
        self.cache.begin_fill_many(keys).await
    }

    /// Caches the values that were read after [`Self::begin_many`]; `None` if there was no value.
    pub(crate) async fn fill_many<T: Cacheable>(&self, loads: Vec<LoadOf<T>>, ttl: Duration) {
        let (mut fills, mut nothing) = (Vec::with_capacity(loads.len()), Vec::new());
        for (key, token, value) in loads {
            match value {
                Some(value) => fills.push((key, value as CacheValue, token)),
                None => nothing.push((key, token)),
            }
        }
        self.cache.fill_many(fills, T::CODEC_REF, ttl).await;
        if !nothing.is_empty() {
            self.cache.abandon(&nothing).await;
        }
    }

    fn forget(&self, key: &CacheKey, load: &Arc<Load>) {
        let mut loading = self.loading.lock();
        if loading.get(key).is_some_and(|l| Arc::ptr_eq(l, load)) {
            loading.remove(key);
        }
    }

    /// Drops keys, and with stamps the values that are made from their parts. Later readers do not join the loads of
    /// these values that are under way, since those may read from before the write that invalidates.
    ///
    /// # Errors
    /// `Unavailable` if a shared cache could not be invalidated.
    pub async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        self.leave(keys);
        self.cache.invalidate(keys).await
    }

    /// Drops keys that another process wrote from what this process holds, and nothing elsewhere.
    pub async fn invalidate_local(&self, keys: &[CacheKey]) {
        self.leave(keys);
        self.cache.invalidate_local(keys).await;
    }

    /// Makes later readers of these keys begin loads of their own.
    fn leave(&self, keys: &[CacheKey]) {
        let mut loading = self.loading.lock();
        for k in keys {
            loading.remove(k);
        }
        if loading.is_empty() {
            return;
        }
        let parts: HashSet<CacheKey> = keys.iter().filter(|k| k.is_stamp()).copied().collect();
        if !parts.is_empty() {
            loading.retain(|_, load| !load.is_made_from(&parts));
        }
    }

    /// Drops everything.
    ///
    /// # Errors
    /// `Unavailable` if a shared cache could not be invalidated.
    pub async fn clear(&self) -> Result<()> {
        self.loading.lock().clear();
        self.cache.clear().await
    }

    /// Drops everything that this process holds.
    pub async fn clear_local(&self) {
        self.loading.lock().clear();
        self.cache.clear_local().await;
    }
}

/// Returns the error of a load for one of the callers that waited for it.
fn share(shared: &Arc<Error>) -> Error {
    match &**shared {
        Error::Unavailable { dependency, outcome_unknown, .. } => Error::Unavailable {
            dependency: *dependency,
            outcome_unknown: *outcome_unknown,
            source: Some(Box::new(shared.clone())),
        },
        Error::Unsupported { provider, capability } => Error::Unsupported { provider, capability },
        _ => Error::internal("a load that several readers shared", shared.clone()),
    }
}

/// Returns a 128-bit hash of a text. It is the same in every process and release, because shared caches use it in keys.
pub(crate) fn text_hash(text: &str) -> u128 {
    xxhash_rust::xxh3::xxh3_128(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn each_type_is_attached_once() {
        let made = Cell::new(0);
        let count = |n: u32| {
            made.set(made.get() + n);
            made.get()
        };
        let cached = Cached::new("four".to_owned());
        assert_eq!(*cached.attached(|v| v.len() + count(1) as usize), 5);
        assert_eq!(*cached.attached(|v| format!("{v} {}", count(10))), "four 11");
        assert_eq!(*cached.attached(|_| count(100)), 111);
        let length: &usize = cached.attached(|_| unreachable!("it is attached"));
        let text: &String = cached.attached(|_| unreachable!("it is attached"));
        let number: &u32 = cached.attached(|_| unreachable!("it is attached"));
        assert_eq!((*length, text.as_str(), *number), (5, "four 11", 111));
        assert!(std::ptr::eq(length, cached.attached(|_| 0_usize)), "it is the same object");
        assert_eq!(&**cached, "four");
    }

    #[test]
    fn attachments_live_as_long_as_the_value() {
        let (first, second) = (Arc::new(()), Arc::new(Some(())));
        let cached = Cached::new(());
        cached.attached(|()| first.clone());
        cached.attached(|()| second.clone());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 2));
        drop(cached);
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1));
    }

    #[test]
    fn an_attachment_that_could_not_be_made_is_made_by_the_next_reader() {
        let cached = Cached::new(1);
        let broken = std::panic::AssertUnwindSafe(|| *cached.attached::<u32>(|_| panic!("on purpose")));
        assert!(std::panic::catch_unwind(broken).is_err());
        assert_eq!(*cached.attached(|v| v + 1), 2);
    }

    #[test]
    fn readers_on_other_threads_find_the_same_attachments() {
        for _ in 0..200 {
            let (cached, start) = (Cached::new(7), Barrier::new(4));
            let addresses = std::thread::scope(|s| {
                let threads: Vec<_> = (0..4_usize)
                    .map(|n| {
                        let (cached, start) = (&cached, &start);
                        s.spawn(move || {
                            start.wait();
                            let (number, text) = if n % 2 == 0 {
                                let number: *const usize = cached.attached(|_| n);
                                (number, std::ptr::from_ref::<String>(cached.attached(|_| n.to_string())))
                            } else {
                                let text = std::ptr::from_ref::<String>(cached.attached(|_| n.to_string()));
                                (std::ptr::from_ref::<usize>(cached.attached(|_| n)), text)
                            };
                            (number.addr(), text.addr())
                        })
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect::<Vec<_>>()
            });
            assert!(addresses.iter().all(|a| *a == addresses[0]), "two attachments of one type");
        }
    }
}
