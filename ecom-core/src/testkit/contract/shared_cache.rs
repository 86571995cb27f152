//! The contract of a [`Cache`] that processes share, beyond the one of every [`cache`](super::cache).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::cache::{CODEC, TTL, all_kinds, decode, encode, invalidators, key, value, version_of};
use crate::port::cache::{Cache, CacheKey, CacheLoad, Codec};
use crate::testkit::{SharedCacheFixture, fresh_seed};

suite! {
    /// Runs the suite of a [`Cache`](crate::port::Cache) that processes share. Takes the path of an
    /// `async fn() -> SharedCacheFixture`; see [`testkit`](crate::testkit).
    shared_cache_suite, shared_cache: fixture => &fixture, __shared_cache_tests: [
        it_says_that_it_is_shared,
        what_one_fills_the_other_finds,
        r15_what_one_invalidates_is_gone_for_the_other_at_once,
        r15_what_one_clears_is_gone_for_the_other_at_once,
        r15_a_reader_held_in_another_process_does_not_put_an_old_value_back,
        r15_racing_processes_never_read_from_before_their_own_writes,
        r15_a_value_in_several_places_is_gone_after_its_ttl,
        r15_concurrent_misses_of_two_processes_load_once,
        r15_nobody_waits_for_a_load_that_was_given_up,
        r15_a_process_that_died_in_a_load_holds_others_up_for_a_moment_only,
        two_releases_do_not_read_each_other_and_hear_each_other,
        what_is_dropped_locally_is_still_shared,
    ]
}

/// Of another release.
static NEWER: Codec = Codec { version: 2, encode, decode };

/// Other processes learn of an invalidation by a message, at once: nobody measures how soon, this is the bound of a
/// test that waits.
const SOON: Duration = Duration::from_secs(5);

async fn read(cache: &Arc<dyn Cache>, key: &CacheKey) -> Option<u64> {
    match cache.local(key) {
        Some(v) => Some(version_of(&v)),
        None => cache.get(key, &CODEC).await.as_ref().map(version_of),
    }
}

async fn fill(cache: &Arc<dyn Cache>, key: &CacheKey, version: u64) {
    let token = cache.begin_fill(key).await;
    assert!(cache.fill(key, value(version), &CODEC, TTL, token).await, "a fill that nothing overtook: {key:?}");
}

async fn until_gone(cache: &Arc<dyn Cache>, key: &CacheKey) {
    let start = Instant::now();
    while let Some(version) = read(cache, key).await {
        assert!(start.elapsed() < SOON, "version {version} of {key:?} is still served by the other process");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Both say so.
pub async fn it_says_that_it_is_shared(f: &SharedCacheFixture) {
    assert!(f.one.cache.is_shared());
    assert!(f.other.is_shared());
    f.one.cache.ping().await.unwrap();
    f.other.ping().await.unwrap();
}

/// A load in one process serves the other.
pub async fn what_one_fills_the_other_finds(f: &SharedCacheFixture) {
    for (k, version) in all_kinds().iter().zip(1..) {
        fill(&f.one.cache, k, version).await;
    }
    for (k, version) in all_kinds().iter().zip(1..) {
        assert_eq!(read(&f.other, k).await, Some(version), "{k:?}");
        assert_eq!(f.other.get_many(&[*k], &CODEC).await[0].as_ref().map(version_of), Some(version), "{k:?}");
    }
}

/// By key, and by group.
pub async fn r15_what_one_invalidates_is_gone_for_the_other_at_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        for by in invalidators(k) {
            for (writer, reader) in [(&f.one.cache, &f.other), (&f.other, &f.one.cache)] {
                fill(writer, &k, 1).await;
                // Held by both, wherever each holds it.
                assert_eq!(read(reader, &k).await, Some(1), "{k:?}");
                writer.invalidate(&[by]).await.unwrap();
                assert_eq!(read(writer, &k).await, None, "the writer sees its own write: {k:?} by {by:?}");
                until_gone(reader, &k).await;
                fill(reader, &k, 2).await;
                until_read(writer, &k, 2).await;
                writer.invalidate(&[by]).await.unwrap();
                until_gone(reader, &k).await;
            }
        }
    }
}

async fn until_read(cache: &Arc<dyn Cache>, key: &CacheKey, version: u64) {
    let start = Instant::now();
    while read(cache, key).await != Some(version) {
        assert!(start.elapsed() < SOON, "version {version} of {key:?} is not read by the other process");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Everything.
pub async fn r15_what_one_clears_is_gone_for_the_other_at_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        assert_eq!(read(&f.other, &k).await, Some(1));
    }
    f.one.cache.clear().await.unwrap();
    for k in all_kinds() {
        assert_eq!(read(&f.one.cache, &k).await, None, "{k:?}");
        until_gone(&f.other, &k).await;
    }
    for k in all_kinds() {
        fill(&f.one.cache, &k, 2).await;
        until_read(&f.other, &k, 2).await;
    }
}

/// A reader took its token, read the database and is held there; another process writes and invalidates; then the
/// reader goes on.
pub async fn r15_a_reader_held_in_another_process_does_not_put_an_old_value_back(f: &SharedCacheFixture) {
    for k in all_kinds() {
        for by in invalidators(k).map(Some).chain([None]) {
            let token = f.one.cache.begin_fill(&k).await;
            // Here the reader holds what it read, and the other process writes.
            match by {
                Some(by) => f.other.invalidate(&[by]).await.unwrap(),
                None => f.other.clear().await.unwrap(),
            }
            let held = f.one.cache.fill(&k, value(1), &CODEC, TTL, token).await;
            assert!(!held, "a fill from before an invalidation by {by:?} is refused: {k:?}");
            assert_eq!(read(&f.one.cache, &k).await, None, "{k:?} by {by:?}");
            assert_eq!(read(&f.other, &k).await, None, "{k:?} by {by:?}");

            // A value that somebody loaded since is not overwritten by it either.
            let token = f.one.cache.begin_fill(&k).await;
            f.other.invalidate(&[by.unwrap_or(k)]).await.unwrap();
            fill(&f.other, &k, 2).await;
            assert!(!f.one.cache.fill(&k, value(1), &CODEC, TTL, token).await, "{k:?} by {by:?}");
            until_read(&f.one.cache, &k, 2).await;
            assert_eq!(read(&f.other, &k).await, Some(2), "{k:?} by {by:?}");
            f.other.clear().await.unwrap();
            until_gone(&f.one.cache, &k).await;
        }
    }
}

/// The model of R15 with two processes: each reads at least what it acknowledged itself, at any time, and when all is
/// quiet both read what the database has, or nothing.
pub async fn r15_racing_processes_never_read_from_before_their_own_writes(f: &SharedCacheFixture) {
    const KEYS: [CacheKey; 5] = [
        CacheKey::CategoryTree,
        CacheKey::CategoryList(1),
        CacheKey::ProductSlug(1),
        CacheKey::ProductList(1),
        CacheKey::ProductList(2),
    ];
    let seed = fresh_seed();
    println!("seed {seed}");
    let numbers = || Arc::new(KEYS.map(|_| AtomicU64::new(0)));
    let database = numbers();
    let mut tasks = Vec::new();
    for (process, cache) in [&f.one.cache, &f.other].into_iter().enumerate() {
        let acknowledged = numbers();
        for task in 0..6 {
            let (cache, database, acknowledged) = (cache.clone(), database.clone(), acknowledged.clone());
            let mut rng = StdRng::seed_from_u64(seed ^ (process as u64 * 64 + task));
            tasks.push(tokio::spawn(async move {
                for _ in 0..200 {
                    let i = rng.random_range(0..KEYS.len());
                    let k = KEYS[i];
                    match task % 3 {
                        0 => {
                            let version = database[i].fetch_add(1, Ordering::SeqCst) + 1;
                            let by = k.group().filter(|_| rng.random_bool(0.7)).unwrap_or(k);
                            cache.invalidate(&[by]).await.unwrap();
                            acknowledged[i].fetch_max(version, Ordering::SeqCst);
                        }
                        1 => {
                            let token = cache.begin_fill(&k).await;
                            let version = database[i].load(Ordering::SeqCst);
                            if rng.random_bool(0.5) {
                                tokio::task::yield_now().await;
                            }
                            cache.fill(&k, value(version), &CODEC, TTL, token).await;
                        }
                        _ => {
                            let floor = acknowledged[i].load(Ordering::SeqCst);
                            if let Some(version) = read(&cache, &k).await {
                                assert!(
                                    version >= floor,
                                    "seed {seed}: process {process} read {version} of {k:?} after it wrote {floor}"
                                );
                            }
                        }
                    }
                }
            }));
        }
    }
    for t in tasks {
        t.await.unwrap();
    }
    for (i, k) in KEYS.iter().enumerate() {
        let now = database[i].load(Ordering::SeqCst);
        for cache in [&f.one.cache, &f.other] {
            let start = Instant::now();
            while let Some(version) = read(cache, k).await.filter(|v| *v != now) {
                assert!(start.elapsed() < SOON, "seed {seed}: {version} stayed under {k:?}, the database has {now}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// What a process took from the other's cache lives no longer for that.
pub async fn r15_a_value_in_several_places_is_gone_after_its_ttl(f: &SharedCacheFixture) {
    let token = f.one.cache.begin_fill(&key(1)).await;
    assert!(f.one.cache.fill(&key(1), value(1), &CODEC, Duration::from_secs(3), token).await);
    (f.one.clock_advance)(Duration::from_secs(2));
    assert_eq!(read(&f.other, &key(1)).await, Some(1), "its TTL has not passed");
    assert_eq!(f.other.get_many(&[key(1)], &CODEC).await[0].as_ref().map(version_of), Some(1));
    (f.one.clock_advance)(Duration::from_millis(1_200));
    assert_eq!(read(&f.other, &key(1)).await, None, "its TTL has passed, wherever it was taken from");
    assert_eq!(read(&f.one.cache, &key(1)).await, None, "its TTL has passed");
}

/// The second waits for the first, and finds what it filled.
pub async fn r15_concurrent_misses_of_two_processes_load_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        let CacheLoad::Begun(token) = f.one.cache.begin_load(&k, &CODEC).await else { panic!("nothing is held") };
        let other = f.other.clone();
        let waiter = tokio::spawn(async move { other.begin_load(&k, &CODEC).await });
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert!(!waiter.is_finished(), "it waits for the load of the other process: {k:?}");
        assert!(f.one.cache.fill(&k, value(1), &CODEC, TTL, token).await);
        match waiter.await.unwrap() {
            CacheLoad::Found(v) => assert_eq!(version_of(&v), 1, "{k:?}"),
            CacheLoad::Begun(_) => panic!("both processes load {k:?}"),
        }
    }
}

/// The second goes on once the first says that there is nothing.
pub async fn r15_nobody_waits_for_a_load_that_was_given_up(f: &SharedCacheFixture) {
    let CacheLoad::Begun(token) = f.one.cache.begin_load(&key(1), &CODEC).await else { panic!("nothing is held") };
    f.one.cache.abandon(&[(key(1), token)]).await;
    let start = Instant::now();
    let CacheLoad::Begun(token) = f.other.begin_load(&key(1), &CODEC).await else { panic!("nothing is held") };
    assert!(start.elapsed() < Duration::from_millis(900), "it waited for a load that was given up");
    assert!(f.other.fill(&key(1), value(1), &CODEC, TTL, token).await);
}

/// The second loads itself after a while, and what it loads is held.
pub async fn r15_a_process_that_died_in_a_load_holds_others_up_for_a_moment_only(f: &SharedCacheFixture) {
    let CacheLoad::Begun(_) = f.one.cache.begin_load(&key(1), &CODEC).await else { panic!("nothing is held") };
    let load = tokio::time::timeout(Duration::from_secs(10), f.other.begin_load(&key(1), &CODEC)).await;
    let Ok(CacheLoad::Begun(token)) = load else { panic!("nobody fills it: {load:?}") };
    assert!(f.other.fill(&key(1), value(2), &CODEC, TTL, token).await, "what it loads itself is held");
    assert_eq!(read(&f.one.cache, &key(1)).await, Some(2));
}

/// A rolling deployment: values of the other release are misses, its invalidations count.
pub async fn two_releases_do_not_read_each_other_and_hear_each_other(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        assert!(f.other.get(&k, &NEWER).await.is_none(), "a value of another release was read: {k:?}");
        let CacheLoad::Begun(token) = f.other.begin_load(&k, &NEWER).await else {
            panic!("a value of another release was found: {k:?}")
        };
        assert!(f.other.fill(&k, value(2), &NEWER, TTL, token).await, "it is overwritten: {k:?}");
        assert_eq!(f.other.get(&k, &NEWER).await.as_ref().map(version_of), Some(2), "{k:?}");
        f.one.cache.invalidate(&[k]).await.unwrap();
        until_unread(&f.other, &k).await;
        if let Some(group) = k.group() {
            let CacheLoad::Begun(token) = f.other.begin_load(&k, &NEWER).await else { panic!("{k:?} is gone") };
            assert!(f.other.fill(&k, value(3), &NEWER, TTL, token).await, "{k:?}");
            f.one.cache.invalidate(&[group]).await.unwrap();
            until_unread(&f.other, &k).await;
        }
    }
}

/// Waits until the newer release reads nothing.
async fn until_unread(cache: &Arc<dyn Cache>, key: &CacheKey) {
    let start = Instant::now();
    while cache.get(key, &NEWER).await.is_some() {
        assert!(start.elapsed() < SOON, "the other release was not heard: {key:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Only what is in process goes.
pub async fn what_is_dropped_locally_is_still_shared(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        for by in invalidators(k) {
            f.one.cache.invalidate_local(&[by]).await;
            assert!(f.one.cache.local(&k).is_none(), "{k:?} by {by:?}");
            assert_eq!(read(&f.other, &k).await, Some(1), "{k:?} by {by:?}");
            assert_eq!(read(&f.one.cache, &k).await, Some(1), "{k:?} by {by:?}");
        }
        f.one.cache.clear_local().await;
        assert!(f.one.cache.local(&k).is_none(), "{k:?}");
        assert_eq!(read(&f.one.cache, &k).await, Some(1), "{k:?}");
    }
}
