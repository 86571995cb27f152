//! The contract of [`Cache`](crate::port::Cache).

use std::any::Any;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::id::ProductId;
use crate::port::cache::{CacheKey, CacheLoad, CacheValue, Codec, FillToken};
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;
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
        r15_what_is_dropped_locally_is_gone_from_the_process,
        what_is_dropped_locally_leaves_other_keys,
        r15_what_another_task_invalidated_is_never_read_again,
        r15_racing_fills_never_outlive_an_invalidation,
        values_survive_the_codec,
        several_are_read_and_filled_at_once,
        r15_an_abandoned_load_leaves_nothing_behind,
        it_answers_and_counts,
        it_counts_what_the_process_holds,
        what_is_replaced_or_invalidated_is_no_eviction,
        a_closed_cache_holds_nothing,
    ]
}

/// The value that the suite caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Versioned {
    version: u64,
    text: String,
}

pub(super) static CODEC: Codec = Codec { version: 1, encode, decode, size };

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

pub(super) fn size(value: &(dyn Any + Send + Sync)) -> usize {
    value.downcast_ref::<Versioned>().map_or(0, |v| size_of::<Versioned>() + v.text.len())
}

pub(super) const TTL: Duration = Duration::from_mins(5);

pub(super) fn key(n: u128) -> CacheKey {
    CacheKey::Product(ProductId(Uuid::from_u128(n)))
}

pub(super) fn value(version: u64) -> CacheValue {
    Arc::new(Versioned { version, text: format!("version {version}, ünïcödé") })
}

pub(super) fn version_of(value: &CacheValue) -> u64 {
    value.downcast_ref::<Versioned>().expect("A cache returns a value of the type that it was given.").version
}

/// Returns the version that a read finds. If the process holds the value, both kinds of read must agree.
async fn read(f: &CacheFixture, key: &CacheKey) -> Option<u64> {
    step(format_args!("`get` of {key}"));
    let found = f.cache.get(key, &CODEC).await.as_ref().map(version_of);
    if let Some(local) = f.cache.local(key) {
        same(Some(version_of(&local)), found, "`local` returns what `get` returns, or nothing.", key);
    }
    found
}

/// Panics unless a read of `key` finds this version. `contract` is the violated part of the contract.
async fn reads(f: &CacheFixture, key: &CacheKey, expected: Option<u64>, contract: &str, about: impl Display) {
    same(read(f, key).await, expected, contract, format_args!("a read of {key}: {about}"));
}

async fn token_for(f: &CacheFixture, key: &CacheKey) -> FillToken {
    step(format_args!("`begin_fill` of {key}"));
    f.cache.begin_fill(key).await
}

/// Fills with an earlier token. Returns whether the cache has accepted the value.
async fn fill_with(f: &CacheFixture, key: &CacheKey, version: u64, token: FillToken) -> bool {
    step(format_args!("`fill` of {key}"));
    f.cache.fill(key, value(version), &CODEC, TTL, token).await
}

async fn fill_for(f: &CacheFixture, key: &CacheKey, version: u64, ttl: Duration) {
    let token = token_for(f, key).await;
    step(format_args!("`fill` of {key}"));
    let held = f.cache.fill(key, value(version), &CODEC, ttl, token).await;
    holds(
        held,
        "A fill is accepted unless its key was invalidated after its token was taken.",
        format_args!("{key}, version {version}"),
    );
}

async fn fill(f: &CacheFixture, key: &CacheKey, version: u64) {
    fill_for(f, key, version, TTL).await;
}

async fn invalidate(f: &CacheFixture, keys: &[CacheKey]) {
    step(format_args!("`invalidate` of {keys:?}"));
    succeeds(f.cache.invalidate(keys).await, format_args!("`invalidate` of {keys:?}"));
}

async fn clear(f: &CacheFixture) {
    step("`clear`");
    succeeds(f.cache.clear().await, "`clear`");
}

const INVALIDATED: &str = "A read that starts after an invalidation does not see the old value.";
const OVERTAKEN: &str = "A fill whose key was invalidated since its token was taken is dropped, and returns false.";
const OTHERS: &str = "An invalidation drops the keys that it names, no others.";

pub(super) fn all_kinds() -> Vec<CacheKey> {
    CacheKey::every_kind(7).collect()
}

/// Checks that both `local` and `get` find nothing.
pub async fn a_new_cache_holds_nothing(f: &CacheFixture) {
    for k in all_kinds() {
        holds(f.cache.local(&k).is_none(), "A new cache holds nothing.", format_args!("`local` of {k}"));
        reads(f, &k, None, "A new cache holds nothing.", "nobody has filled it").await;
    }
}

/// A filled value can be read back any number of times.
pub async fn what_is_filled_is_found(f: &CacheFixture) {
    fill(f, &key(1), 3).await;
    for n in 1..=3 {
        reads(f, &key(1), Some(3), "A filled value is found until its TTL ends.", format_args!("read {n} of 3")).await;
    }
    reads(f, &key(2), None, "A key that was not filled is a miss.", "another key was filled").await;
}

/// Keys of different kinds with the same number are different keys.
pub async fn every_kind_of_key_is_kept_apart(f: &CacheFixture) {
    for (k, version) in all_kinds().iter().zip(1..) {
        fill(f, k, version).await;
    }
    for (k, version) in all_kinds().iter().zip(1..) {
        let contract = "Keys of different kinds are different keys, also with the same number.";
        reads(f, k, Some(version), contract, "every kind was filled with the number 7").await;
    }
}

/// The last accepted fill wins.
pub async fn a_fill_replaces_what_was_there(f: &CacheFixture) {
    fill(f, &key(1), 1).await;
    fill(f, &key(1), 2).await;
    reads(f, &key(1), Some(2), "A fill replaces the value that was there.", "filled twice").await;
}

/// Each entry is held until its own TTL has passed, and is gone afterwards.
pub async fn r15_a_value_is_gone_after_its_ttl(f: &CacheFixture) {
    fill_for(f, &key(1), 1, Duration::from_secs(3)).await;
    fill_for(f, &key(2), 2, Duration::from_hours(1)).await;
    (f.clock_advance)(Duration::from_secs(1));
    reads(f, &key(1), Some(1), "A value is held until its TTL has passed.", "a TTL of 3 s, after 1 s").await;
    (f.clock_advance)(Duration::from_millis(2_100));
    reads(f, &key(1), None, "A value is gone once its TTL has passed.", "a TTL of 3 s, after 3.1 s").await;
    reads(f, &key(2), Some(2), "Each value has a TTL of its own.", "a TTL of 1 h, after 3.1 s").await;
}

/// The TTL begins with the last fill, whatever the TTL of the previous value was.
pub async fn r15_a_refill_starts_a_new_ttl(f: &CacheFixture) {
    let contract = "A fill starts a new TTL, whatever the TTL of the previous value was.";
    fill_for(f, &key(1), 1, Duration::from_secs(2)).await;
    (f.clock_advance)(Duration::from_secs(1));
    fill_for(f, &key(1), 2, Duration::from_secs(3)).await;
    (f.clock_advance)(Duration::from_millis(1_500));
    reads(f, &key(1), Some(2), contract, "a TTL of 3 s, 1.5 s after the last fill and 2.5 s after the first").await;
    (f.clock_advance)(Duration::from_millis(1_700));
    reads(f, &key(1), None, contract, "a TTL of 3 s, 3.2 s after the last fill").await;
}

/// Named keys are dropped, and other keys stay.
pub async fn r15_invalidated_keys_are_gone_and_others_stay(f: &CacheFixture) {
    for n in 1..=4 {
        fill(f, &key(n), n as u64).await;
    }
    invalidate(f, &[key(1), key(3), key(99)]).await;
    let about = "1 and 3 of the keys 1 to 4 are invalidated in one call";
    reads(f, &key(1), None, INVALIDATED, about).await;
    reads(f, &key(2), Some(2), OTHERS, about).await;
    reads(f, &key(3), None, INVALIDATED, about).await;
    reads(f, &key(4), Some(4), OTHERS, about).await;
    invalidate(f, &[]).await;
    reads(f, &key(2), Some(2), OTHERS, "an invalidation without keys").await;
}

/// The value of a load that begins after the invalidation is held.
pub async fn r15_an_invalidated_key_can_be_filled_again(f: &CacheFixture) {
    for k in all_kinds() {
        fill(f, &k, 1).await;
        invalidate(f, &[k]).await;
        reads(f, &k, None, INVALIDATED, "").await;
        fill(f, &k, 2).await;
        reads(f, &k, Some(2), "An invalidated key can be filled again.", "").await;
    }
}

/// All keys are dropped, and can be filled again.
pub async fn clear_drops_everything(f: &CacheFixture) {
    for k in all_kinds() {
        fill(f, &k, 1).await;
    }
    clear(f).await;
    for k in all_kinds() {
        reads(f, &k, None, "`clear` drops everything.", "every kind was filled").await;
    }
    for k in all_kinds() {
        fill(f, &k, 2).await;
        reads(f, &k, Some(2), "A cleared cache can be filled again.", "").await;
    }
}

/// An invalidation happens between the token and the fill, so that the loaded value may be old.
pub async fn r15_a_fill_that_an_invalidation_overtook_is_dropped(f: &CacheFixture) {
    for k in all_kinds() {
        let token = token_for(f, &k).await;
        invalidate(f, &[k]).await;
        same(fill_with(f, &k, 1, token).await, false, OVERTAKEN, format_args!("`fill` of {k}"));
        reads(f, &k, None, OVERTAKEN, "it was invalidated during its load").await;
    }
    // The fill does not overwrite a newer value either.
    let token = token_for(f, &key(1)).await;
    invalidate(f, &[key(1)]).await;
    fill(f, &key(1), 2).await;
    same(fill_with(f, &key(1), 1, token).await, false, OVERTAKEN, "`fill` over a newer value");
    reads(
        f,
        &key(1),
        Some(2),
        OVERTAKEN,
        "it was invalidated during the load of version 1, and version 2 was filled since",
    )
    .await;
}

/// A clear happens between the token and the fill.
pub async fn r15_a_fill_that_a_clear_overtook_is_dropped(f: &CacheFixture) {
    for k in all_kinds() {
        let token = token_for(f, &k).await;
        clear(f).await;
        same(fill_with(f, &k, 1, token).await, false, OVERTAKEN, format_args!("`fill` of {k} after a `clear`"));
        reads(f, &k, None, OVERTAKEN, "the cache was cleared during its load").await;
    }
}

/// An adapter may refuse some fills of other keys, but not most of them.
pub async fn an_invalidation_leaves_fills_of_other_keys_alone(f: &CacheFixture) {
    let mut tokens = Vec::new();
    for n in 1..=64 {
        tokens.push((key(n), token_for(f, &key(n)).await));
    }
    invalidate(f, &[key(1_000)]).await;
    let mut held = 0;
    for (k, token) in tokens {
        if fill_with(f, &k, 1, token).await {
            held += 1;
            reads(
                f,
                &k,
                Some(1),
                "A value whose fill returned true is found.",
                "another key was invalidated meanwhile",
            )
            .await;
        }
    }
    let contract = "After an invalidation of one key, at most 8 of 64 fills of other keys are refused.";
    holds(held >= 56, contract, format_args!("{} of 64 fills are refused", 64 - held));
}

/// Drops by key and all at once. Shared values stay in the shared cache; a cache that is not shared drops
/// them.
pub async fn r15_what_is_dropped_locally_is_gone_from_the_process(f: &CacheFixture) {
    let contract = "`invalidate_local` and `clear_local` drop the values that this process holds. A shared cache keeps \
                    its shared values.";
    let shared = f.cache.is_shared().then_some(1);
    for k in all_kinds() {
        for by in [Some(k), None] {
            let about = match by {
                Some(by) => format!("`invalidate_local` of {by}"),
                None => "`clear_local`".to_owned(),
            };
            let drop_locally = async || {
                step(&about);
                match by {
                    Some(by) => f.cache.invalidate_local(&[by]).await,
                    None => f.cache.clear_local().await,
                }
            };
            fill(f, &k, 1).await;
            drop_locally().await;
            holds(f.cache.local(&k).is_none(), contract, format_args!("`local` of {k} after {about}"));
            reads(f, &k, shared, contract, format_args!("after {about}")).await;
            // A load that began before does not bring the value back either.
            clear(f).await;
            let token = token_for(f, &k).await;
            drop_locally().await;
            fill_with(f, &k, 1, token).await;
            let about = format!("after {about} and a fill whose token was taken before");
            holds(f.cache.local(&k).is_none(), contract, format_args!("`local` of {k} {about}"));
            reads(f, &k, shared, contract, about).await;
        }
    }
}

/// Only named keys are dropped.
pub async fn what_is_dropped_locally_leaves_other_keys(f: &CacheFixture) {
    for by in all_kinds() {
        for k in all_kinds() {
            fill(f, &k, 1).await;
        }
        step(format_args!("`invalidate_local` of {by}"));
        f.cache.invalidate_local(&[by]).await;
        for k in all_kinds().into_iter().filter(|k| *k != by) {
            reads(f, &k, Some(1), OTHERS, format_args!("after `invalidate_local` of {by}")).await;
        }
    }
}

/// After an invalidation has returned, no thread reads the value.
pub async fn r15_what_another_task_invalidated_is_never_read_again(f: &CacheFixture) {
    for round in 0..200 {
        fill(f, &key(1), round).await;
        let cache = f.cache.clone();
        step("`invalidate` in another task");
        let invalidated = tokio::spawn(async move { cache.invalidate(&[key(1)]).await }).await;
        succeeds(succeeds(invalidated, "a task"), "`invalidate` in another task");
        reads(f, &key(1), None, INVALIDATED, "invalidated by another task").await;
    }
}

/// The model of R15, with a database of one number per key. Writers increase a number, invalidate, and then
/// acknowledge. Loaders fill the numbers that they read. No read may return a lower number than was acknowledged before
/// it began.
async fn race(f: &CacheFixture, keys: &[CacheKey]) {
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
                        succeeds(cache.invalidate(&[k]).await, "`invalidate`");
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
                            let about = format_args!("seed {seed}: {k} has {version} after {floor} was invalidated");
                            holds(version >= floor, INVALIDATED, about);
                        }
                    }
                }
                if rng.random_bool(0.1) {
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    step("readers and writers that race");
    for t in tasks {
        succeeds(t.await, "a task that reads or writes");
    }
    for (i, k) in keys.iter().enumerate() {
        if let Some(version) = read(f, k).await {
            let contract =
                "A fill whose key was invalidated since its token was taken is dropped, so that no old value remains.";
            same(version, database[i].load(Ordering::SeqCst), contract, format_args!("seed {seed}: {k}"));
        }
    }
}

/// Many tasks use few keys.
pub async fn r15_racing_fills_never_outlive_an_invalidation(f: &CacheFixture) {
    const KEYS: &[CacheKey] =
        &[CacheKey::CategoryTree, CacheKey::ProductSlug(1), CacheKey::ProductSlug(2), CacheKey::CategorySlug(1)];
    race(f, KEYS).await;
}

/// A value is read back unchanged, even from an adapter that stores bytes.
pub async fn values_survive_the_codec(f: &CacheFixture) {
    for (n, text) in
        ["", "ünïcödé 🛒", "line\nbreak\0nul"].into_iter().map(str::to_owned).chain(["x".repeat(100_000)]).enumerate()
    {
        let k = key(n as u128);
        let sent = Versioned { version: u64::MAX - n as u64, text };
        let token = token_for(f, &k).await;
        let about = format!("a value of {} bytes", sent.text.len());
        step(&about);
        let held = f.cache.fill(&k, Arc::new(sent.clone()), &CODEC, TTL, token).await;
        holds(held, "A fill is accepted unless its key was invalidated after its token was taken.", &about);
        let found = f.cache.get(&k, &CODEC).await;
        let found = found.as_ref().and_then(|v| v.downcast_ref::<Versioned>());
        holds(found == Some(&sent), "A read returns the value that was filled, of the same type.", &about);
    }
}

/// Batches treat each key as single calls do. A value that was invalidated during its load is dropped without the
/// others.
pub async fn several_are_read_and_filled_at_once(f: &CacheFixture) {
    let keys: Vec<CacheKey> = (1..=5).map(key).chain(all_kinds().into_iter().filter(|k| *k != key(7))).collect();
    let by = key(2);
    step("`get_many`, `begin_fill_many` and `fill_many`");
    let empty = f.cache.get_many(&keys, &CODEC).await;
    let contract = "`get_many` returns for each key, in order, what `get` returns.";
    same(empty.len(), keys.len(), contract, "the number of answers");
    holds(empty.iter().all(Option::is_none), contract, "the cache was cleared");
    let tokens = f.cache.begin_fill_many(&keys).await;
    same(tokens.len(), keys.len(), "`begin_fill_many` returns a token for each key, in order.", "");
    invalidate(f, &[by]).await;
    let values = keys.iter().zip(tokens).zip(1..).map(|((k, t), n)| (*k, value(n), t)).collect();
    f.cache.fill_many(values, &CODEC, TTL).await;
    let found = f.cache.get_many(&keys, &CODEC).await;
    let mut refused = 0;
    for ((k, found), n) in keys.iter().zip(found).zip(1..) {
        let found = found.as_ref().map(version_of);
        let about = format!("{k}, after {by} was invalidated between `begin_fill_many` and `fill_many`");
        same(found, read(f, k).await, contract, &about);
        if *k == by {
            same(found, None, OVERTAKEN, &about);
        } else {
            let contract = "`fill_many` stores each value under its own key.";
            holds(found.is_none_or(|v| v == n), contract, format_args!("{about}: {found:?}, not {n}"));
            refused += usize::from(found.is_none());
        }
    }
    // See `an_invalidation_leaves_fills_of_other_keys_alone`.
    let contract = "An invalidation of a key refuses at most one of these other fills.";
    holds(refused <= 1, contract, format_args!("{by} refused {refused} fills of others"));
    let contract = "A batch without keys returns nothing.";
    same(f.cache.get_many(&[], &CODEC).await.len(), 0, contract, "`get_many`");
    same(f.cache.begin_fill_many(&[]).await.len(), 0, contract, "`begin_fill_many`");
    f.cache.fill_many(Vec::new(), &CODEC, TTL).await;
}

/// A load that has found nothing is abandoned. The next load does not wait for it, and its value is held.
pub async fn r15_an_abandoned_load_leaves_nothing_behind(f: &CacheFixture) {
    for k in all_kinds() {
        let token = begin_load(f, &k).await;
        f.cache.abandon(&[(k, token)]).await;
        reads(f, &k, None, "An abandoned load stores no value.", "").await;
        let token = begin_load(f, &k).await;
        let contract = "After a load was abandoned, the next load begins at once and its value is accepted.";
        same(fill_with(f, &k, 1, token).await, true, contract, k);
        reads(f, &k, Some(1), contract, "").await;
    }
}

async fn begin_load(f: &CacheFixture, key: &CacheKey) -> FillToken {
    step(format_args!("`begin_load` of {key}"));
    match f.cache.begin_load(key, &CODEC).await {
        CacheLoad::Begun(token) => token,
        CacheLoad::Found(_) => {
            panic!("`begin_load` finds only values that the cache holds.\n     case: nobody has filled {key}")
        }
    }
}

/// The cache has a name, responds to a ping, and counts hits and misses.
pub async fn it_answers_and_counts(f: &CacheFixture) {
    holds(!f.cache.name().is_empty(), "`name` returns a name that is not empty.", "`name` is empty");
    succeeds(f.cache.ping().await, "`ping`");
    let before = f.cache.stats();
    fill(f, &key(1), 1).await;
    let found = f.cache.get(&key(1), &CODEC).await.is_some() && f.cache.get(&key(1), &CODEC).await.is_some();
    holds(found, "A filled value is found until its TTL ends.", key(1));
    holds(f.cache.get(&key(2), &CODEC).await.is_none(), "A key that was not filled is a miss.", key(2));
    // A lookup in the process only is not a miss, because the caller then calls `get`.
    holds(f.cache.local(&key(2)).is_none(), "A key that was not filled is a miss.", key(2));
    let after = f.cache.stats();
    same(after.hits - before.hits, 2, "`stats().hits` counts the reads that found a value.", "two of three reads");
    let contract = "`stats().misses` counts the reads that found nothing; `local` counts no miss.";
    same(after.misses - before.misses, 1, contract, "one `get` of three, and one `local`");
    same(
        after.evictions,
        before.evictions,
        "`stats().evictions` counts only values that were dropped for lack of space or for their age.",
        "no value was",
    );
}

/// The number is approximate: an adapter may count values that are already gone.
pub async fn it_counts_what_the_process_holds(f: &CacheFixture) {
    for (n, version) in (1..=50).flat_map(|n| (1..=4).map(move |version| (n, version))) {
        fill(f, &key(n), version).await;
    }
    let held = (1..=50).filter(|n| f.cache.local(&key(*n)).is_some()).count() as u64;
    let entries = f.cache.stats().entries;
    let contract = "`stats().entries` is about the number of values that this process holds, and 0 if it holds none.";
    holds((held / 2..=held * 2).contains(&entries), contract, format_args!("{entries} entries, and {held} are held"));
}

/// Evictions indicate that the cache is too small.
pub async fn what_is_replaced_or_invalidated_is_no_eviction(f: &CacheFixture) {
    let before = f.cache.stats().evictions;
    for k in all_kinds() {
        fill(f, &k, 1).await;
        fill(f, &k, 2).await;
        invalidate(f, &[k]).await;
        fill(f, &k, 3).await;
    }
    clear(f).await;
    let contract = "A value that is replaced, invalidated or cleared does not count as an eviction.";
    same(f.cache.stats().evictions, before, contract, "`stats().evictions`");
}

/// The shop closes its cache last, and nothing that it held may be read by a clone that is still there.
pub async fn a_closed_cache_holds_nothing(f: &CacheFixture) {
    for k in all_kinds() {
        fill(f, &k, 1).await;
    }
    step("`close`");
    f.cache.close().await;
    for k in all_kinds() {
        let contract = "`close` drops every value that this process holds.";
        holds(f.cache.local(&k).is_none(), contract, "`local` after `close`");
    }
}
