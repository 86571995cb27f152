//! The in-process cache keeps the contract of its port, and its own bounds.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::clock::ManualClock;
use ecom_core::port::{Cache, CacheKey, CacheValue, Codec, FillToken, ForwardCache};
use ecom_core::testkit::{CacheFixture, cache as suite, run};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};

async fn make() -> CacheFixture {
    let clock = Arc::new(ManualClock::at_micros(1_767_323_045_678_901));
    let cache = MemoryCache::new(MemoryCacheOptions::default().clock(clock.clone()));
    CacheFixture { cache: Arc::new(cache), clock_advance: Box::new(move |by| clock.advance(by)), guard: Box::new(()) }
}

ecom_core::cache_suite!(make);

/// The same suite on the machine's clock, by which entries expire in a shop.
mod on_the_machines_clock {
    use super::*;

    async fn make() -> CacheFixture {
        CacheFixture {
            cache: Arc::new(MemoryCache::default()),
            clock_advance: Box::new(std::thread::sleep),
            guard: Box::new(()),
        }
    }

    ecom_core::cache_suite!(make);
}

static CODEC: Codec = Codec { version: 1, encode: |_| None, decode: |_| None, size };

/// Returns the length of a text of bytes, and 0 for other values.
fn size(value: &(dyn Any + Send + Sync)) -> usize {
    value.downcast_ref().map_or(0, Vec::<u8>::len)
}

async fn fill(cache: &MemoryCache, n: u128, value: CacheValue) -> bool {
    let key = CacheKey::ProductSlug(n);
    let token = cache.begin_fill(&key).await;
    cache.fill(&key, value, &CODEC, Duration::from_mins(5), token).await
}

#[test]
fn it_never_holds_more_than_fits_and_counts_what_it_evicts() {
    run(async {
        let most = 1_000_000;
        for (length, fit) in [(0, 3_906), (10_000, 97)] {
            let cache = MemoryCache::new(MemoryCacheOptions::default().max_bytes(most));
            for n in 0..5_000 {
                fill(&cache, n, Arc::new(vec![0u8; length])).await;
            }
            let stats = cache.stats();
            assert!((fit / 2..=fit).contains(&stats.entries), "{stats:?}");
            assert_eq!(stats.entries + stats.evictions, 5_000, "{stats:?}");
        }
    });
}

#[test]
fn replaced_and_invalidated_values_are_no_evictions() {
    run(async {
        let cache = MemoryCache::default();
        fill(&cache, 1, Arc::new(1)).await;
        fill(&cache, 1, Arc::new(2)).await;
        fill(&cache, 2, Arc::new(3)).await;
        cache.invalidate(&[CacheKey::ProductSlug(1)]).await.unwrap();
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.evictions), (1, 0));
        cache.clear().await.unwrap();
        assert_eq!(cache.stats().evictions, 0);
    });
}

#[test]
fn a_read_hands_out_the_object_itself() {
    run(async {
        let cache = MemoryCache::default();
        let value: CacheValue = Arc::new("object".to_owned());
        assert!(fill(&cache, 1, value.clone()).await);
        let found = cache.local(&CacheKey::ProductSlug(1)).unwrap();
        assert!(Arc::ptr_eq(&found, &value));
    });
}

#[test]
fn a_ttl_without_end_is_no_overflow() {
    run(async {
        let cache = MemoryCache::default();
        let key = CacheKey::CategoryTree;
        let token = cache.begin_fill(&key).await;
        assert!(cache.fill(&key, Arc::new(1), &CODEC, Duration::MAX, token).await);
        assert!(cache.local(&key).is_some());
    });
}

/// A control that is wrong on purpose: it accepts fills that an invalidation overtook.
#[derive(Debug)]
struct Careless(MemoryCache);

#[async_trait::async_trait]
impl ForwardCache for Careless {
    fn inner(&self) -> &dyn Cache {
        &self.0
    }
    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        _: FillToken,
    ) -> bool {
        let late = self.0.begin_fill(key).await;
        self.0.fill(key, value, codec, ttl, late).await
    }
}

#[test]
fn the_suite_catches_a_cache_that_takes_stale_fills() {
    let careless = || CacheFixture {
        cache: Arc::new(Careless(MemoryCache::default())),
        clock_advance: Box::new(|_| {}),
        guard: Box::new(()),
    };
    for race in [true, false] {
        let outcome = std::panic::catch_unwind(|| {
            run(async {
                let f = careless();
                if race {
                    suite::r15_racing_fills_never_outlive_an_invalidation(&f).await;
                } else {
                    suite::r15_a_fill_that_an_invalidation_overtook_is_dropped(&f).await;
                }
            });
        });
        assert!(outcome.is_err(), "a stale fill went unseen (race: {race})");
    }
}
