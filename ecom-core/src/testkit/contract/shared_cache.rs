//! The contract of a [`Cache`] that processes share, in addition to that of every [`cache`](super::cache).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::cache::{CODEC, TTL, all_kinds, decode, encode, key, size, value, version_of};
use crate::port::cache::{Cache, CacheKey, CacheLoad, Codec, FillToken};
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;
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

/// The codec of another release.
static NEWER: Codec = Codec { version: 2, encode, decode, size };

/// How long a test waits for the message with which other processes receive an invalidation. It is not a measure of the
/// delay.
const SOON: Duration = Duration::from_secs(30);

async fn read(cache: &Arc<dyn Cache>, key: &CacheKey) -> Option<u64> {
    step(format_args!("a read of {key}"));
    match cache.local(key) {
        Some(v) => Some(version_of(&v)),
        None => cache.get(key, &CODEC).await.as_ref().map(version_of),
    }
}

async fn fill(cache: &Arc<dyn Cache>, key: &CacheKey, version: u64) {
    step(format_args!("a fill of {key}"));
    let token = cache.begin_fill(key).await;
    fill_with(cache, key, version, &CODEC, token, "its key was not invalidated during the load").await;
}

/// Fills with an earlier token. The cache must accept the value.
async fn fill_with(
    cache: &Arc<dyn Cache>,
    key: &CacheKey,
    version: u64,
    codec: &'static Codec,
    token: FillToken,
    about: &str,
) {
    let held = cache.fill(key, value(version), codec, TTL, token).await;
    holds(
        held,
        "A fill is accepted unless its key was invalidated after its token was taken.",
        format_args!("{key}: {about}"),
    );
}

/// Panics unless a read finds this version. `contract` is the violated part of the contract.
async fn reads(cache: &Arc<dyn Cache>, key: &CacheKey, expected: Option<u64>, contract: &str, about: &str) {
    same(read(cache, key).await, expected, contract, format_args!("a read of {key}: {about}"));
}

/// Begins a load of a key that no process holds or loads.
async fn begin_load(cache: &Arc<dyn Cache>, key: &CacheKey, codec: &'static Codec, about: &str) -> FillToken {
    step(format_args!("`begin_load` of {key}"));
    match cache.begin_load(key, codec).await {
        CacheLoad::Begun(token) => token,
        CacheLoad::Found(_) => {
            panic!("`begin_load` finds only values of the same version of the codec.\n     case: {key}, {about}")
        }
    }
}

async fn invalidate(cache: &Arc<dyn Cache>, keys: &[CacheKey]) {
    step(format_args!("`invalidate` of {keys:?}"));
    succeeds(cache.invalidate(keys).await, format_args!("`invalidate` of {keys:?}"));
}

async fn clear(cache: &Arc<dyn Cache>) {
    step("`clear`");
    succeeds(cache.clear().await, "`clear`");
}

const SHARED: &str = "A value that one process fills is found by the other.";
const OWN: &str = "A process never reads a value that it has invalidated before.";
const OVERTAKEN: &str =
    "A fill whose key any process invalidated since its token was taken is dropped, and returns false.";
const LOCAL: &str =
    "`invalidate_local` and `clear_local` drop the values that this process holds, and no shared values.";

async fn until_gone(cache: &Arc<dyn Cache>, key: &CacheKey) {
    let start = Instant::now();
    while let Some(version) = read(cache, key).await {
        let contract = "A value that one process invalidates is dropped by the other process too.";
        holds(
            start.elapsed() < SOON,
            contract,
            format_args!("version {version} of {key} is still served after {SOON:?}"),
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The caches of both processes report that they are shared.
pub async fn it_says_that_it_is_shared(f: &SharedCacheFixture) {
    for cache in [&f.one.cache, &f.other] {
        holds(cache.is_shared(), "`is_shared` returns true for a cache that processes share.", "`is_shared` is false");
        succeeds(cache.ping().await, "`ping`");
    }
}

/// The other process finds the value of a load.
pub async fn what_one_fills_the_other_finds(f: &SharedCacheFixture) {
    for (k, version) in all_kinds().iter().zip(1..) {
        fill(&f.one.cache, k, version).await;
    }
    for (k, version) in all_kinds().iter().zip(1..) {
        reads(&f.other, k, Some(version), SHARED, "every kind was filled by the other process").await;
        same(many(&f.other, *k).await, Some(version), SHARED, format_args!("`get_many` of {k}"));
    }
}

/// Returns the version that `get_many` finds for one key.
async fn many(cache: &Arc<dyn Cache>, key: CacheKey) -> Option<u64> {
    cache.get_many(&[key], &CODEC).await.first().and_then(Option::as_ref).map(version_of)
}

/// Each process invalidates what the other one holds.
pub async fn r15_what_one_invalidates_is_gone_for_the_other_at_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        for (writer, reader) in [(&f.one.cache, &f.other), (&f.other, &f.one.cache)] {
            fill(writer, &k, 1).await;
            // Both processes hold the value.
            reads(reader, &k, Some(1), SHARED, "filled by the other process").await;
            invalidate(writer, &[k]).await;
            reads(writer, &k, None, OWN, "invalidated by this process").await;
            until_gone(reader, &k).await;
            fill(reader, &k, 2).await;
            until_read(writer, &k, 2).await;
            invalidate(writer, &[k]).await;
            until_gone(reader, &k).await;
        }
    }
}

async fn until_read(cache: &Arc<dyn Cache>, key: &CacheKey, version: u64) {
    let start = Instant::now();
    while read(cache, key).await != Some(version) {
        holds(start.elapsed() < SOON, SHARED, format_args!("version {version} of {key} is not read after {SOON:?}"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One process clears the cache.
pub async fn r15_what_one_clears_is_gone_for_the_other_at_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        reads(&f.other, &k, Some(1), SHARED, "filled by the other process").await;
    }
    clear(&f.one.cache).await;
    for k in all_kinds() {
        reads(&f.one.cache, &k, None, OWN, "cleared by this process").await;
        until_gone(&f.other, &k).await;
    }
    for k in all_kinds() {
        fill(&f.one.cache, &k, 2).await;
        until_read(&f.other, &k, 2).await;
    }
}

/// A reader takes its token, reads the database and is held back. Another process writes and invalidates. Then the
/// reader continues.
pub async fn r15_a_reader_held_in_another_process_does_not_put_an_old_value_back(f: &SharedCacheFixture) {
    for k in all_kinds() {
        for by in [Some(k), None] {
            let token = f.one.cache.begin_fill(&k).await;
            // The reader has read the database, and now the other process writes.
            match by {
                Some(by) => invalidate(&f.other, &[by]).await,
                None => clear(&f.other).await,
            }
            let about = by.map_or_else(
                || "the cache was cleared during its load".to_owned(),
                |by| format!("{by} was invalidated during its load"),
            );
            let held = f.one.cache.fill(&k, value(1), &CODEC, TTL, token).await;
            same(held, false, OVERTAKEN, format_args!("`fill` of {k}: {about}"));
            reads(&f.one.cache, &k, None, OVERTAKEN, &about).await;
            reads(&f.other, &k, None, OVERTAKEN, &about).await;

            // The fill does not overwrite a value that was loaded since either.
            let token = f.one.cache.begin_fill(&k).await;
            invalidate(&f.other, &[by.unwrap_or(k)]).await;
            fill(&f.other, &k, 2).await;
            let held = f.one.cache.fill(&k, value(1), &CODEC, TTL, token).await;
            same(held, false, OVERTAKEN, format_args!("`fill` of {k} over a newer value: {about}"));
            until_read(&f.one.cache, &k, 2).await;
            reads(&f.other, &k, Some(2), OVERTAKEN, &about).await;
            clear(&f.other).await;
            until_gone(&f.one.cache, &k).await;
        }
    }
}

/// The model of R15 with two processes. Each process always reads at least its own acknowledged writes, and after all
/// writes, both read the value of the database or nothing.
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
                            succeeds(cache.invalidate(&[k]).await, "`invalidate`");
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
                                let about =
                                    format_args!("seed {seed}: process {process} read {version} of {k} after {floor}");
                                holds(version >= floor, OWN, about);
                            }
                        }
                    }
                }
            }));
        }
    }
    step("processes that race");
    for t in tasks {
        succeeds(t.await, "a task that reads or writes");
    }
    for (i, k) in KEYS.iter().enumerate() {
        let now = database[i].load(Ordering::SeqCst);
        for cache in [&f.one.cache, &f.other] {
            let start = Instant::now();
            while let Some(version) = read(cache, k).await.filter(|v| *v != now) {
                let about = format_args!("seed {seed}: {k} has {version} and the database {now}, after {SOON:?}");
                holds(
                    start.elapsed() < SOON,
                    "After all writes have ended, every process reads the value of the database, or nothing.",
                    about,
                );
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// A value that a process has read from the shared cache does not live longer in that process.
pub async fn r15_a_value_in_several_places_is_gone_after_its_ttl(f: &SharedCacheFixture) {
    let token = f.one.cache.begin_fill(&key(1)).await;
    let held = f.one.cache.fill(&key(1), value(1), &CODEC, Duration::from_secs(3), token).await;
    holds(held, "A fill is accepted unless its key was invalidated after its token was taken.", key(1));
    (f.one.clock_advance)(Duration::from_secs(2));
    let contract = "A value is held until its TTL has passed since its fill, also by a process that did not fill it.";
    reads(&f.other, &key(1), Some(1), contract, "a TTL of 3 s, after 2 s").await;
    same(many(&f.other, key(1)).await, Some(1), contract, "`get_many` with a TTL of 3 s, after 2 s");
    (f.one.clock_advance)(Duration::from_millis(1_200));
    reads(&f.other, &key(1), None, contract, "a TTL of 3 s, after 3.2 s").await;
    reads(&f.one.cache, &key(1), None, contract, "a TTL of 3 s, after 3.2 s, in the process that filled it").await;
}

/// The second process waits for the first one, and finds its value.
pub async fn r15_concurrent_misses_of_two_processes_load_once(f: &SharedCacheFixture) {
    for k in all_kinds() {
        let token = begin_load(&f.one.cache, &k, &CODEC, "nobody has filled it").await;
        let other = f.other.clone();
        let waiter = tokio::spawn(async move { other.begin_load(&k, &CODEC).await });
        tokio::time::sleep(Duration::from_millis(30)).await;
        let contract = "`begin_load` waits a limited time for the load of another process, and returns its value.";
        holds(!waiter.is_finished(), contract, format_args!("{k}: the second process does not wait"));
        fill_with(&f.one.cache, &k, 1, &CODEC, token, "a load for which another process waits").await;
        step(format_args!("`begin_load` of {k} in the other process"));
        match succeeds(waiter.await, "a task that loads") {
            CacheLoad::Found(v) => same(version_of(&v), 1, contract, k),
            CacheLoad::Begun(_) => panic!("{contract}\n     case: both processes load {k}"),
        }
    }
}

/// The second process continues when the first one abandons its load.
pub async fn r15_nobody_waits_for_a_load_that_was_given_up(f: &SharedCacheFixture) {
    begin_load(&f.one.cache, &key(1), &CODEC, "nobody has filled it").await;
    let start = Instant::now();
    begin_load(&f.other, &key(1), &CODEC, "another process loads").await;
    let in_vain = start.elapsed();
    let mut waited = Vec::new();
    for n in 2..12 {
        let token = begin_load(&f.one.cache, &key(n), &CODEC, "nobody has filled it").await;
        f.one.cache.abandon(&[(key(n), token)]).await;
        let start = Instant::now();
        let token = begin_load(&f.other, &key(n), &CODEC, "the load of the other process was abandoned").await;
        waited.push(start.elapsed());
        fill_with(&f.other, &key(n), 1, &CODEC, token, "a load after one that was abandoned").await;
        // A busy machine may hold one of them up, but not all.
        if start.elapsed() < in_vain / 2 {
            return;
        }
    }
    let contract = "`begin_load` does not wait for an abandoned load.";
    holds(false, contract, format_args!("it waited {waited:?}, and {in_vain:?} for a load that goes on"));
}

/// After a short time, the second process loads the value itself, and the value is held.
pub async fn r15_a_process_that_died_in_a_load_holds_others_up_for_a_moment_only(f: &SharedCacheFixture) {
    begin_load(&f.one.cache, &key(1), &CODEC, "nobody has filled it").await;
    let contract = "`begin_load` waits a limited time for another process, and then begins a load of its own.";
    step("`begin_load` while another process loads");
    let load = tokio::time::timeout(Duration::from_secs(60), f.other.begin_load(&key(1), &CODEC)).await;
    let Ok(CacheLoad::Begun(token)) = load else {
        panic!("{contract}\n     case: nobody fills, and it returns {load:?}")
    };
    fill_with(&f.other, &key(1), 2, &CODEC, token, "a load of its own after waiting in vain").await;
    reads(&f.one.cache, &key(1), Some(2), SHARED, "filled by the process that waited in vain").await;
}

/// In a rolling deployment, values of the other release are misses, and its invalidations are effective.
pub async fn two_releases_do_not_read_each_other_and_hear_each_other(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        let contract = "A value of another version of the codec is a miss, and is overwritten.";
        let newer = async || f.other.get(&k, &NEWER).await.as_ref().map(version_of);
        same(newer().await, None, contract, format_args!("a read of {k}, filled by another release"));
        let token = begin_load(&f.other, &k, &NEWER, "filled by another release").await;
        fill_with(&f.other, &k, 2, &NEWER, token, "over a value of another release").await;
        same(newer().await, Some(2), contract, format_args!("a read of {k}, filled by this release"));
        invalidate(&f.one.cache, &[k]).await;
        until_unread(&f.other, &k).await;
    }
}

/// Waits until the newer release finds no value.
async fn until_unread(cache: &Arc<dyn Cache>, key: &CacheKey) {
    let start = Instant::now();
    while cache.get(key, &NEWER).await.is_some() {
        let contract = "An invalidation drops the values of every version of the codec.";
        holds(start.elapsed() < SOON, contract, format_args!("{key} is still read after {SOON:?}"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Only the values in this process are dropped.
pub async fn what_is_dropped_locally_is_still_shared(f: &SharedCacheFixture) {
    for k in all_kinds() {
        fill(&f.one.cache, &k, 1).await;
        f.one.cache.invalidate_local(&[k]).await;
        let about = format!("after `invalidate_local` of {k} in one process");
        holds(f.one.cache.local(&k).is_none(), LOCAL, format_args!("`local` of {k} {about}"));
        reads(&f.other, &k, Some(1), LOCAL, &about).await;
        reads(&f.one.cache, &k, Some(1), LOCAL, &about).await;
        f.one.cache.clear_local().await;
        let about = "after `clear_local` in one process";
        holds(f.one.cache.local(&k).is_none(), LOCAL, format_args!("`local` of {k} {about}"));
        reads(&f.other, &k, Some(1), LOCAL, about).await;
        reads(&f.one.cache, &k, Some(1), LOCAL, about).await;
    }
}
