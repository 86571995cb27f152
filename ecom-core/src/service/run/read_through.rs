//! Reads through the cache: one load per key at a time, and no stale fill (R15).

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::port::cache::{Cache, CacheKey, CacheLoad, CacheStats, CacheValue, Codec, FillToken};

/// A cached value with the values that its readers attached to it.
pub struct Cached<T> {
    value: T,
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
        Self { value, attached: OnceLock::new() }
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
    /// The encoding for other processes.
    const CODEC: Codec = Codec {
        version: CODEC_VERSION,
        encode: |v| serde_json::to_vec(&v.downcast_ref::<Cached<Self>>()?.value).ok(),
        decode: |b| Some(Arc::new(Cached::new(serde_json::from_slice::<Self>(b).ok()?))),
        size: |v| v.downcast_ref::<Cached<Self>>().map_or(0, |cached| memory_of(&cached.value)),
    };
    /// [`Self::CODEC`] as a reference.
    const CODEC_REF: &'static Codec = &Self::CODEC;
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Cacheable for T {}

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

/// A load that was begun, with the value that it found.
type LoadOf<T> = (CacheKey, FillToken, Option<Arc<Cached<T>>>);

/// The cache, as the services use it.
pub struct ReadThrough {
    cache: Arc<dyn Cache>,
    loading: Mutex<HashMap<CacheKey, Arc<OnceCell<Loaded>>>>,
}

impl fmt::Debug for ReadThrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadThrough").field(&self.cache).finish()
    }
}

impl ReadThrough {
    /// Reads through this cache.
    pub fn new(cache: Arc<dyn Cache>) -> Self {
        Self { cache, loading: Mutex::default() }
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
        self.cache.local(key)?.downcast().ok()
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
        if let Some(value) = self.local(&key) {
            return Ok(Some(Lookup { value, hit: true }));
        }
        if let Some(value) = self.cache.get(&key, T::CODEC_REF).await.and_then(|v| v.downcast().ok()) {
            return Ok(Some(Lookup { value, hit: true }));
        }
        let cell = self.loading.lock().entry(key).or_default().clone();
        // If this load is cancelled, the next waiting caller takes it over.
        let loaded = cell
            .get_or_init(|| async {
                let token = match self.cache.begin_load(&key, T::CODEC_REF).await {
                    CacheLoad::Found(value) => return Ok(Some((value, true))),
                    CacheLoad::Begun(token) => token,
                };
                match load.await {
                    Ok(Some(v)) => {
                        let value: CacheValue = Arc::new(Cached::new(v));
                        self.cache.fill(&key, value.clone(), T::CODEC_REF, ttl, token).await;
                        Ok(Some((value, false)))
                    }
                    nothing => {
                        self.cache.abandon(&[(key, token)]).await;
                        nothing.map(|_| None).map_err(Arc::new)
                    }
                }
            })
            .await
            .clone();
        self.forget(&key, &cell);
        match loaded {
            Ok(v) => Ok(v.and_then(|(v, hit)| Some(Lookup { value: v.downcast().ok()?, hit }))),
            Err(shared) => {
                drop(cell);
                Err(Arc::try_unwrap(shared).unwrap_or_else(|shared| share(&shared)))
            }
        }
    }

    /// Returns the cached values of several keys. The caller loads the others, beginning with [`Self::begin_many`].
    pub(crate) async fn get_many<T: Cacheable>(&self, keys: &[CacheKey]) -> Vec<Option<Arc<Cached<T>>>> {
        let found = self.cache.get_many(keys, T::CODEC_REF).await;
        found.into_iter().map(|v| v?.downcast().ok()).collect()
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

    fn forget(&self, key: &CacheKey, cell: &Arc<OnceCell<Loaded>>) {
        let mut loading = self.loading.lock();
        if loading.get(key).is_some_and(|c| Arc::ptr_eq(c, cell)) {
            loading.remove(key);
        }
    }

    /// Drops keys. Later readers do not join the loads of these keys that are under way, since those may read values
    /// from before the write that invalidates.
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
        if keys.iter().any(CacheKey::is_group) {
            loading.retain(|k, _| k.group().is_none_or(|group| !keys.contains(&group)));
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
