//! The contract of [`Cache`](crate::port::Cache).

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::id::ProductId;
use crate::port::cache::{CacheKey, CacheLoad, CacheValue, Codec};
use crate::testkit::{CacheFixture, fresh_seed};

suite! {
    /// Runs the suite of [`Cache`](crate::port::Cache). Takes the path of an `async fn() -> CacheFixture`; see
    /// [`testkit`](crate::testkit).
    cache_suite, cache: fixture => &fixture, __cache_tests: [
        a_new_cache_holds_nothing,
        what_is_filled_is_found,
        every_kind_of_key_is_kept_apart,
        a_fill_replaces_what_was_there,
        r15_a_value_is_gone_after_its_ttl,
        r15_a_refill_starts_a_new_ttl,
        r15_invalidated_keys_are_gone_and_others_stay,
        r15_an_invalidated_key_can_be_filled_again,
        clear_drops_everything,
        r15_a_fill_that_an_invalidation_overtook_is_dropped,
        r15_a_fill_that_a_clear_overtook_is_dropped,
        an_invalidation_leaves_fills_of_other_keys_alone,
        r15_invalidating_a_group_drops_all_of_it_and_nothing_else,
        r15_a_fill_that_the_invalidation_of_its_group_overtook_is_dropped,
        r15_what_is_dropped_locally_is_gone_from_the_process,
        r15_what_another_task_invalidated_is_never_read_again,
        r15_racing_fills_never_outlive_an_invalidation,
        r15_racing_fills_never_outlive_an_invalidation_of_their_group,
        values_survive_the_codec,
        several_are_read_and_filled_at_once,
        r15_an_abandoned_load_leaves_nothing_behind,
        it_answers_and_counts,
    ]
}

/// What the suite caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Versioned {
    version: u64,
    text: String,
}

pub(super) static CODEC: Codec = Codec { version: 1, encode, decode };

pub(super) fn encode(value: &(dyn Any + Send + Sync)) -> Option<Vec<u8>> {
    let v = value.downcast_ref::<Versioned>()?;
    let mut out = v.version.to_be_bytes().to_vec();
    out.extend_from_slice(v.text.as_bytes());
    Some(out)
}

pub(super) fn decode(bytes: &[u8]) -> Option<CacheValue> {
    let (version, text) = bytes.split_first_chunk::<8>()?;
    let text = std::str::from_utf8(text).ok()?.to_owned();
    Some(Arc::new(Versioned { version: u64::from_be_bytes(*version), text }))
}

pub(super) const TTL: Duration = Duration::from_mins(5);

pub(super) fn key(n: u128) -> CacheKey {
    CacheKey::Product(ProductId(Uuid::from_u128(n)))
}

pub(super) fn value(version: u64) -> CacheValue {
    Arc::new(Versioned { version, text: format!("version {version}, ünïcödé") })
}

pub(super) fn version_of(value: &CacheValue) -> u64 {
    value.downcast_ref::<Versioned>().expect("a cache hands back the type that it was given").version
}

/// The version that a read finds. Where the process holds one, both ways to read must agree.
async fn read(f: &CacheFixture, key: &CacheKey) -> Option<u64> {
    let found = f.cache.get(key, &CODEC).await.as_ref().map(version_of);
    if let Some(local) = f.cache.local(key) {
        assert_eq!(Some(version_of(&local)), found, "`local` and `get` must not disagree on {key:?}");
    }
    found
}

async fn fill_for(f: &CacheFixture, key: &CacheKey, version: u64, ttl: Duration) -> bool {
    let token = f.cache.begin_fill(key).await;
    f.cache.fill(key, value(version), &CODEC, ttl, token).await
}

async fn fill(f: &CacheFixture, key: &CacheKey, version: u64) {
    assert!(fill_for(f, key, version, TTL).await, "a fill that nothing overtook must be held: {key:?}");
}

/// A key with this number of every kind that has values.
pub(super) fn kinds(number: u128) -> impl Iterator<Item = CacheKey> {
    CacheKey::every_kind(number).filter(|k| *k != CacheKey::ProductLists)
}

pub(super) fn all_kinds() -> Vec<CacheKey> {
    kinds(7).collect()
}

/// The keys whose invalidation invalidates `key`: itself, and its group.
pub(super) fn invalidators(key: CacheKey) -> impl Iterator<Item = CacheKey> {
    std::iter::once(key).chain(key.group().filter(|group| *group != key))
}

/// A miss, both ways.
pub async fn a_new_cache_holds_nothing(f: &CacheFixture) {
    for k in all_kinds() {
        assert!(f.cache.local(&k).is_none(), "{k:?}");
        assert!(f.cache.get(&k, &CODEC).await.is_none(), "{k:?}");
    }
}

/// A filled value is read back, as often as one likes.
pub async fn what_is_filled_is_found(f: &CacheFixture) {
    fill(f, &key(1), 3).await;
    for _ in 0..3 {
        assert_eq!(read(f, &key(1)).await, Some(3));
    }
    assert_eq!(read(f, &key(2)).await, None);
}

/// Keys of different kinds with the same number are different keys.
pub async fn every_kind_of_key_is_kept_apart(f: &CacheFixture) {
    for (k, version) in all_kinds().iter().zip(1..) {
        fill(f, k, version).await;
    }
    for (k, version) in all_kinds().iter().zip(1..) {
        assert_eq!(read(f, k).await, Some(version), "{k:?}");
    }
}

/// The last accepted fill wins.
pub async fn a_fill_replaces_what_was_there(f: &CacheFixture) {
    fill(f, &key(1), 1).await;
    fill(f, &key(1), 2).await;
    assert_eq!(read(f, &key(1)).await, Some(2));
}

/// Held before its TTL has passed, gone after it; each entry by its own.
pub async fn r15_a_value_is_gone_after_its_ttl(f: &CacheFixture) {
    assert!(fill_for(f, &key(1), 1, Duration::from_secs(3)).await);
    assert!(fill_for(f, &key(2), 2, Duration::from_hours(1)).await);
    (f.clock_advance)(Duration::from_secs(1));
    assert_eq!(read(f, &key(1)).await, Some(1), "its TTL has not passed");
    (f.clock_advance)(Duration::from_millis(2_100));
    assert_eq!(read(f, &key(1)).await, None, "its TTL has passed");
    assert_eq!(read(f, &key(2)).await, Some(2), "the TTL of another entry is its own");
}

/// The TTL counts from the last fill, whatever TTL the value before had.
pub async fn r15_a_refill_starts_a_new_ttl(f: &CacheFixture) {
    assert!(fill_for(f, &key(1), 1, Duration::from_secs(2)).await);
    (f.clock_advance)(Duration::from_secs(1));
    assert!(fill_for(f, &key(1), 2, Duration::from_secs(3)).await);
    (f.clock_advance)(Duration::from_millis(1_500));
    assert_eq!(read(f, &key(1)).await, Some(2), "the TTL of the value before has passed, its own has not");
    (f.clock_advance)(Duration::from_millis(1_700));
    assert_eq!(read(f, &key(1)).await, None);
}

/// What is named is dropped, what is not named stays.
pub async fn r15_invalidated_keys_are_gone_and_others_stay(f: &CacheFixture) {
    for n in 1..=4 {
        fill(f, &key(n), n as u64).await;
    }
    f.cache.invalidate(&[key(1), key(3), key(99)]).await.unwrap();
    assert_eq!(read(f, &key(1)).await, None);
    assert_eq!(read(f, &key(2)).await, Some(2));
    assert_eq!(read(f, &key(3)).await, None);
    assert_eq!(read(f, &key(4)).await, Some(4));
    f.cache.invalidate(&[]).await.unwrap();
    assert_eq!(read(f, &key(2)).await, Some(2));
}

/// An invalidation does not outlast itself: a load that starts after it is held.
pub async fn r15_an_invalidated_key_can_be_filled_again(f: &CacheFixture) {
    for k in all_kinds() {
        let both: Vec<CacheKey> = invalidators(k).collect();
        for by in invalidators(k).map(|by| vec![by]).chain([both]) {
            fill(f, &k, 1).await;
            f.cache.invalidate(&by).await.unwrap();
            assert_eq!(read(f, &k).await, None, "{k:?} by {by:?}");
            fill(f, &k, 2).await;
            assert_eq!(read(f, &k).await, Some(2), "{k:?} by {by:?}");
        }
    }
}

/// Everything goes, and it fills again.
pub async fn clear_drops_everything(f: &CacheFixture) {
    for k in all_kinds() {
        fill(f, &k, 1).await;
    }
    f.cache.clear().await.unwrap();
    for k in all_kinds() {
        assert_eq!(read(f, &k).await, None, "{k:?}");
    }
    for k in all_kinds() {
        fill(f, &k, 2).await;
        assert_eq!(read(f, &k).await, Some(2), "{k:?}");
    }
}

/// Token, invalidation, fill: the value that was loaded may be old.
pub async fn r15_a_fill_that_an_invalidation_overtook_is_dropped(f: &CacheFixture) {
    for k in all_kinds() {
        let token = f.cache.begin_fill(&k).await;
        f.cache.invalidate(&[k]).await.unwrap();
        assert!(!f.cache.fill(&k, value(1), &CODEC, TTL, token).await, "an overtaken fill says that it is not held");
        assert_eq!(read(f, &k).await, None, "{k:?}");
    }
    // A newer value is not overwritten either.
    let token = f.cache.begin_fill(&key(1)).await;
    f.cache.invalidate(&[key(1)]).await.unwrap();
    fill(f, &key(1), 2).await;
    assert!(!f.cache.fill(&key(1), value(1), &CODEC, TTL, token).await);
    assert_eq!(read(f, &key(1)).await, Some(2));
}

/// Token, clear, fill: as with an invalidation.
pub async fn r15_a_fill_that_a_clear_overtook_is_dropped(f: &CacheFixture) {
    for k in all_kinds() {
        let token = f.cache.begin_fill(&k).await;
        f.cache.clear().await.unwrap();
        assert!(!f.cache.fill(&k, value(1), &CODEC, TTL, token).await, "{k:?}");
        assert_eq!(read(f, &k).await, None, "{k:?}");
    }
}

/// An adapter may refuse a fill now and then, not the fills of most other keys.
pub async fn an_invalidation_leaves_fills_of_other_keys_alone(f: &CacheFixture) {
    let mut tokens = Vec::new();
    for n in 1..=64 {
        tokens.push((key(n), f.cache.begin_fill(&key(n)).await));
    }
    f.cache.invalidate(&[key(1_000)]).await.unwrap();
    let mut held = 0;
    for (k, token) in tokens {
        if f.cache.fill(&k, value(1), &CODEC, TTL, token).await {
            held += 1;
            assert_eq!(read(f, &k).await, Some(1), "a fill that says it is held is held");
        }
    }
    assert!(held >= 56, "an invalidation of one key refused {} of 64 fills of others", 64 - held);
}

/// One key stands for all that belong to it.
pub async fn r15_invalidating_a_group_drops_all_of_it_and_nothing_else(f: &CacheFixture) {
    for group in CacheKey::GROUPS {
        let keys: Vec<CacheKey> = (1..=20).flat_map(kinds).collect();
        for k in &keys {
            fill(f, k, 1).await;
        }
        f.cache.invalidate(&[group]).await.unwrap();
        for k in &keys {
            let expected = if k.group() == Some(group) { None } else { Some(1) };
            assert_eq!(read(f, k).await, expected, "{k:?} by {group:?}");
        }
        for k in keys.iter().filter(|k| k.group() == Some(group)) {
            fill(f, k, 5).await;
            assert_eq!(read(f, k).await, Some(5), "{k:?} by {group:?}");
        }
    }
}

/// Tokens, invalidation of a group, fills: those of the group are dropped, and no others.
pub async fn r15_a_fill_that_the_invalidation_of_its_group_overtook_is_dropped(f: &CacheFixture) {
    for group in CacheKey::GROUPS {
        f.cache.clear().await.unwrap();
        let mut tokens = Vec::new();
        for k in all_kinds() {
            tokens.push((k, f.cache.begin_fill(&k).await));
        }
        f.cache.invalidate(&[group]).await.unwrap();
        for (k, token) in tokens {
            let held = f.cache.fill(&k, value(1), &CODEC, TTL, token).await;
            assert_eq!(held, k.group() != Some(group), "{k:?} by {group:?}");
            assert_eq!(read(f, &k).await, held.then_some(1), "{k:?} by {group:?}");
        }
        // A newer value is not overwritten either.
        for k in all_kinds().into_iter().filter(|k| k.group() == Some(group)) {
            let token = f.cache.begin_fill(&k).await;
            f.cache.invalidate(&[group]).await.unwrap();
            fill(f, &k, 2).await;
            assert!(!f.cache.fill(&k, value(1), &CODEC, TTL, token).await, "{k:?} by {group:?}");
            assert_eq!(read(f, &k).await, Some(2), "{k:?} by {group:?}");
        }
    }
}

/// By key, by group and all together; what is shared stays there, and all goes if nothing is.
pub async fn r15_what_is_dropped_locally_is_gone_from_the_process(f: &CacheFixture) {
    let shared = f.cache.is_shared().then_some(1);
    for k in all_kinds() {
        for by in invalidators(k).map(Some).chain([None]) {
            let drop_locally = async || match by {
                Some(by) => f.cache.invalidate_local(&[by]).await,
                None => f.cache.clear_local().await,
            };
            fill(f, &k, 1).await;
            drop_locally().await;
            assert!(f.cache.local(&k).is_none(), "{k:?} by {by:?}");
            assert_eq!(read(f, &k).await, shared, "{k:?} by {by:?}");
            // Nor does a load that was begun before bring it back.
            f.cache.clear().await.unwrap();
            let token = f.cache.begin_fill(&k).await;
            drop_locally().await;
            f.cache.fill(&k, value(1), &CODEC, TTL, token).await;
            assert!(f.cache.local(&k).is_none(), "{k:?} by {by:?}");
            assert_eq!(read(f, &k).await, shared, "{k:?} by {by:?}");
        }
    }
}

/// An invalidation that has returned holds for reads on every thread.
pub async fn r15_what_another_task_invalidated_is_never_read_again(f: &CacheFixture) {
    for round in 0..200 {
        fill(f, &key(1), round).await;
        let cache = f.cache.clone();
        tokio::spawn(async move { cache.invalidate(&[key(1)]).await }).await.unwrap().unwrap();
        assert_eq!(read(f, &key(1)).await, None);
    }
}

/// The model of R15: a database of one number per key. Writers move a number, invalidate and then acknowledge;
/// loaders fill what they read; nobody reads a number from below what was acknowledged before the read began.
async fn race(f: &CacheFixture, keys: &[CacheKey], invalidates: fn(CacheKey) -> CacheKey) {
    let seed: u64 = fresh_seed();
    println!("seed {seed}");
    let numbers = || Arc::new(keys.iter().map(|_| AtomicU64::new(0)).collect::<Vec<_>>());
    let (database, acknowledged) = (numbers(), numbers());
    let mut tasks = Vec::new();
    for task in 0..12 {
        let (cache, database, acknowledged) = (f.cache.clone(), database.clone(), acknowledged.clone());
        let keys = keys.to_vec();
        let mut rng = StdRng::seed_from_u64(seed ^ task);
        tasks.push(tokio::spawn(async move {
            for _ in 0..400 {
                let i = rng.random_range(0..keys.len());
                let k = keys[i];
                match task % 4 {
                    0 => {
                        let version = database[i].fetch_add(1, Ordering::SeqCst) + 1;
                        cache.invalidate(&[invalidates(k)]).await.unwrap();
                        acknowledged[i].fetch_max(version, Ordering::SeqCst);
                    }
                    1 | 2 => {
                        let token = cache.begin_fill(&k).await;
                        let version = database[i].load(Ordering::SeqCst);
                        if rng.random_bool(0.5) {
                            tokio::task::yield_now().await;
                        }
                        cache.fill(&k, value(version), &CODEC, TTL, token).await;
                    }
                    _ => {
                        let floor = acknowledged[i].load(Ordering::SeqCst);
                        let found = match cache.local(&k) {
                            Some(v) => Some(v),
                            None => cache.get(&k, &CODEC).await,
                        };
                        if let Some(v) = found {
                            let version = version_of(&v);
                            assert!(
                                version >= floor,
                                "seed {seed}: read {version} of {k:?} after {floor} was acknowledged"
                            );
                        }
                    }
                }
                if rng.random_bool(0.1) {
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    for (i, k) in keys.iter().enumerate() {
        if let Some(version) = read(f, k).await {
            assert_eq!(version, database[i].load(Ordering::SeqCst), "seed {seed}: an old value stayed under {k:?}");
        }
    }
}

/// Many tasks on few keys.
pub async fn r15_racing_fills_never_outlive_an_invalidation(f: &CacheFixture) {
    const KEYS: &[CacheKey] =
        &[CacheKey::CategoryTree, CacheKey::ProductSlug(1), CacheKey::ProductSlug(2), CacheKey::CategorySlug(1)];
    race(f, KEYS, |k| k).await;
}

/// Many tasks on few keys of a group, which one key invalidates.
pub async fn r15_racing_fills_never_outlive_an_invalidation_of_their_group(f: &CacheFixture) {
    for group in CacheKey::GROUPS {
        let keys: HashSet<CacheKey> = (1..=3).flat_map(kinds).filter(|k| k.group() == Some(group)).collect();
        let keys: Vec<CacheKey> = keys.into_iter().collect();
        race(f, &keys, |k| k.group().unwrap_or(k)).await;
    }
}

/// What comes back equals what went in, also through an adapter that keeps bytes.
pub async fn values_survive_the_codec(f: &CacheFixture) {
    for (n, text) in
        ["", "ünïcödé 🛒", "line\nbreak\0nul"].into_iter().map(str::to_owned).chain(["x".repeat(100_000)]).enumerate()
    {
        let k = key(n as u128);
        let sent = Versioned { version: u64::MAX - n as u64, text };
        let token = f.cache.begin_fill(&k).await;
        assert!(f.cache.fill(&k, Arc::new(sent.clone()), &CODEC, TTL, token).await);
        let found = f.cache.get(&k, &CODEC).await.expect("what was filled is found");
        assert_eq!(found.downcast_ref::<Versioned>(), Some(&sent));
    }
}

/// Batches do for each key what single calls do: a value that an invalidation overtook is dropped alone.
pub async fn several_are_read_and_filled_at_once(f: &CacheFixture) {
    let keys: Vec<CacheKey> = (1..=5).map(key).chain(kinds(7).filter(|k| k.group().is_some())).collect();
    for by in CacheKey::GROUPS.into_iter().chain([key(2)]) {
        f.cache.clear().await.unwrap();
        assert!(f.cache.get_many(&keys, &CODEC).await.iter().all(Option::is_none));
        let tokens = f.cache.begin_fill_many(&keys).await;
        assert_eq!(tokens.len(), keys.len());
        f.cache.invalidate(&[by]).await.unwrap();
        let values = keys.iter().zip(tokens).zip(1..).map(|((k, t), n)| (*k, value(n), t)).collect();
        f.cache.fill_many(values, &CODEC, TTL).await;
        let found = f.cache.get_many(&keys, &CODEC).await;
        let mut refused = 0;
        for ((k, found), n) in keys.iter().zip(found).zip(1..) {
            let found = found.as_ref().map(version_of);
            assert_eq!(read(f, k).await, found, "{k:?}");
            if invalidators(*k).any(|i| i == by) {
                assert_eq!(found, None, "{k:?} by {by:?}");
            } else {
                assert!(found.is_none_or(|v| v == n), "{k:?} is {found:?}, not {n}");
                refused += usize::from(found.is_none());
            }
        }
        // See `an_invalidation_leaves_fills_of_other_keys_alone`.
        assert!(refused <= usize::from(!by.is_group()), "{by:?} refused {refused} fills of others");
    }
    assert!(f.cache.get_many(&[], &CODEC).await.is_empty());
    assert!(f.cache.begin_fill_many(&[]).await.is_empty());
    f.cache.fill_many(Vec::new(), &CODEC, TTL).await;
}

/// A load that found nothing is given up; the next one is not held up by it, and is held.
pub async fn r15_an_abandoned_load_leaves_nothing_behind(f: &CacheFixture) {
    for k in all_kinds() {
        let CacheLoad::Begun(token) = f.cache.begin_load(&k, &CODEC).await else { panic!("{k:?}: nothing is held") };
        f.cache.abandon(&[(k, token)]).await;
        assert_eq!(read(f, &k).await, None);
        let CacheLoad::Begun(token) = f.cache.begin_load(&k, &CODEC).await else { panic!("{k:?}: nothing is held") };
        assert!(f.cache.fill(&k, value(1), &CODEC, TTL, token).await, "{k:?}");
        assert_eq!(read(f, &k).await, Some(1));
    }
}

/// It has a name, answers a ping, and counts hits and misses.
pub async fn it_answers_and_counts(f: &CacheFixture) {
    assert!(!f.cache.name().is_empty());
    f.cache.ping().await.unwrap();
    let before = f.cache.stats();
    fill(f, &key(1), 1).await;
    assert!(f.cache.get(&key(1), &CODEC).await.is_some());
    assert!(f.cache.get(&key(1), &CODEC).await.is_some());
    assert!(f.cache.get(&key(2), &CODEC).await.is_none());
    // Looking in the process alone is no miss: the caller goes on to `get`.
    assert!(f.cache.local(&key(2)).is_none());
    let after = f.cache.stats();
    assert_eq!(after.hits - before.hits, 2);
    assert_eq!(after.misses - before.misses, 1);
    assert_eq!(after.evictions, before.evictions, "nothing was evicted");
}
