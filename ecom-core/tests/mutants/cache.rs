//! A plain reference cache in memory, with a place for each bug.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::clock::{Clock as _, ManualClock, Timestamp};
use ecom_core::port::{Cache, CacheKey, CacheStats, CacheValue, Codec, FillToken};
use ecom_core::testkit::CacheFixture;
use parking_lot::Mutex;

use self::CacheMutant as M;

crate::runner::mutants! {
    /// A bug of a cache.
    CacheMutant {
        InvalidateDoesNothing: "`invalidate` drops nothing",
        InvalidateLocalDoesNothing: "`invalidate_local` drops nothing" default,
        ClearDoesNothing: "`clear` drops nothing",
        ClearLocalDoesNothing: "`clear_local` drops nothing" default,
        InvalidateLocalClears: "`invalidate_local` drops everything",
        FirstKeyOnly: "`invalidate` of several keys drops the first only",
        StampsClear: "the invalidation of a stamp drops everything",
        StaleFills: "a fill is held although its key was invalidated meanwhile" default,
        StaleFillsAfterClear: "a fill is held although the cache was cleared meanwhile",
        StaleFillsOfStamps: "a fill is held although its key, a stamp, was invalidated meanwhile",
        StaleFillsAfterLocal: "a fill is held although its key was dropped locally meanwhile",
        AnyInvalidationRefuses: "an invalidation refuses all fills that were begun",
        InvalidatedForGood: "a key that was invalidated is never held again",
        RefusedSaysHeld: "a fill that is dropped returns true",
        HeldSaysRefused: "a fill that is held returns false",
        CheckedTooEarly: "a fill is checked against invalidations some time before it is held",
        LocalIsStale: "`local` returns what was invalidated",
        FirstFillStays: "a fill does not replace the value that was there",
        TtlIgnored: "values are held forever",
        TtlOfTheFirstFill: "a fill keeps the TTL of the value before",
        OneTtlForAll: "every value has the TTL of the last fill",
        KindsMixed: "a product and a slug with the same number share an entry",
        NumbersMixed: "two keys of the same kind share an entry",
        GetManyBackwards: "`get_many` returns the values in the opposite order",
        GetManyLeavesOut: "`get_many` returns only what is held",
        FillManyShifted: "`fill_many` holds each value under the next key",
        FillManyUnchecked: "`fill_many` holds what was invalidated meanwhile",
        OneTokenForAll: "`begin_fill_many` returns one token",
        AbandonInvalidatesForGood: "a key whose load was abandoned is never held again",
        AbandonFillsNothing: "an abandoned load leaves an empty value",
        ValuesShared: "a value is held without its text",
        EntriesAlwaysZero: "`stats().entries` is 0" default,
        EntriesCountFills: "`stats().entries` counts all fills",
        HitsNotCounted: "`stats().hits` is 0",
        MissesNotCounted: "`stats().misses` is 0",
        LocalCountsMisses: "`local` counts a miss",
        InvalidationsAreEvictions: "`stats().evictions` counts what was invalidated",
        ReplacedAreEvictions: "`stats().evictions` counts what was replaced",
        CloseDropsNothing: "a closed cache still holds its values",
        CloseLeavesStamps: "a closed cache still holds stamps",
        NoName: "the cache has no name",
    }
}

/// A fresh cache, with a bug or without.
pub(crate) fn cache_fixture(mutant: Option<M>) -> CacheFixture {
    let clock = Arc::new(ManualClock::at_micros(1_767_323_045_678_901));
    let cache = Reference { mutant, clock: clock.clone(), state: Mutex::default() };
    CacheFixture { cache: Arc::new(cache), clock_advance: Box::new(move |by| clock.advance(by)), guard: Box::new(()) }
}

#[derive(Debug)]
struct Reference {
    mutant: Option<M>,
    clock: Arc<ManualClock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<CacheKey, (CacheValue, Timestamp)>,
    /// For a bug: what was ever filled.
    stale: HashMap<CacheKey, CacheValue>,
    /// Counts invalidations. A token is its value when the load began.
    sequence: u64,
    /// The last invalidation of a key.
    keys: HashMap<CacheKey, u64>,
    /// The last one of everything.
    all: u64,
    fills: u64,
    stats: CacheStats,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl State {
    /// Whether a fill that began with this token was overtaken.
    fn overtaken(&self, key: &CacheKey, token: u64, mutant: Option<M>) -> bool {
        let mark = |key: &CacheKey| self.keys.get(key).copied().unwrap_or(0);
        let by_key = mutant != Some(M::StaleFills) && !(key.is_stamp() && mutant == Some(M::StaleFillsOfStamps));
        (by_key && token < mark(key))
            || (mutant != Some(M::StaleFillsAfterClear) && token < self.all)
            || (mutant == Some(M::AnyInvalidationRefuses) && token < self.sequence)
    }

    fn drop_all(&mut self) {
        self.sequence += 1;
        self.all = self.sequence;
        self.entries.clear();
    }

    fn drop_keys(&mut self, keys: &[CacheKey], mutant: Option<M>) {
        for key in keys {
            self.sequence += 1;
            if mutant == Some(M::StampsClear) && key.is_stamp() {
                self.drop_all();
            }
            let before = self.entries.len();
            self.keys.insert(*key, self.sequence);
            self.entries.remove(key);
            if mutant == Some(M::InvalidationsAreEvictions) {
                self.stats.evictions += (before - self.entries.len()) as u64;
            }
        }
    }
}

impl Reference {
    fn is(&self, mutant: M) -> bool {
        self.mutant == Some(mutant)
    }

    /// The entry of a key; with a bug, keys share one.
    fn place(&self, key: &CacheKey) -> CacheKey {
        match key {
            CacheKey::Product(id) if self.is(M::KindsMixed) => CacheKey::ProductSlug(id.0.as_u128()),
            CacheKey::Product(_) if self.is(M::NumbersMixed) => CacheKey::ProductSlug(0),
            other => *other,
        }
    }

    fn read(&self, key: &CacheKey) -> Option<CacheValue> {
        let mut state = self.state.lock();
        let (value, end) = state.entries.get(&self.place(key))?;
        if self.clock.now() >= *end && !self.is(M::TtlIgnored) {
            return None;
        }
        let value = value.clone();
        state.stats.hits += u64::from(!self.is(M::HitsNotCounted));
        Some(value)
    }

    fn hold(&self, key: &CacheKey, value: CacheValue, ttl: Duration, token: u64, checked: bool) -> bool {
        let place = self.place(key);
        let mut state = self.state.lock();
        if !checked && state.overtaken(key, token, self.mutant) {
            return self.is(M::RefusedSaysHeld);
        }
        let forever = chrono::TimeDelta::try_days(365_000).expect("a thousand years");
        let mut end = self.clock.now() + chrono::TimeDelta::from_std(ttl).map_or(forever, |ttl| ttl.min(forever));
        match state.entries.get(&place) {
            Some(_) if self.is(M::FirstFillStays) => return true,
            Some((_, first)) if self.is(M::TtlOfTheFirstFill) => end = *first,
            _ => {}
        }
        if self.is(M::OneTtlForAll) {
            state.entries.values_mut().for_each(|entry| entry.1 = end);
        }
        state.fills += 1;
        state.stale.insert(place, value.clone());
        let replaced = state.entries.insert(place, (value, end)).is_some();
        state.stats.evictions += u64::from(replaced && self.is(M::ReplacedAreEvictions));
        !self.is(M::HeldSaysRefused)
    }

    /// Makes a key refuse all fills from now on: a bug.
    fn poison(&self, keys: impl Iterator<Item = CacheKey>) {
        let mut state = self.state.lock();
        for key in keys {
            state.keys.insert(key, u64::MAX);
        }
    }
}

#[async_trait]
impl Cache for Reference {
    fn name(&self) -> &'static str {
        if self.is(M::NoName) { "" } else { "reference" }
    }

    fn local(&self, key: &CacheKey) -> Option<CacheValue> {
        if self.is(M::LocalIsStale) {
            return self.state.lock().stale.get(key).cloned();
        }
        let found = self.read(key);
        if found.is_none() && self.is(M::LocalCountsMisses) {
            self.state.lock().stats.misses += 1;
        }
        found
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn get(&self, key: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        let found = self.read(key);
        if found.is_none() && !self.is(M::MissesNotCounted) {
            self.state.lock().stats.misses += 1;
        }
        found
    }

    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken { local: self.state.lock().sequence, shared: 0 }
    }

    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        codec: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        let value = match self.mutant {
            Some(M::ValuesShared) => {
                let Some(cut) = (codec.encode)(&*value).and_then(|bytes| (codec.decode)(&bytes[..8])) else {
                    return false;
                };
                cut
            }
            _ => value,
        };
        if self.is(M::CheckedTooEarly) {
            if self.state.lock().overtaken(key, token.local, self.mutant) {
                return false;
            }
            tokio::task::yield_now().await;
            return self.hold(key, value, ttl, token.local, true);
        }
        self.hold(key, value, ttl, token.local, false)
    }

    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        let keys = if self.is(M::FirstKeyOnly) { &keys[..keys.len().min(1)] } else { keys };
        if !self.is(M::InvalidateDoesNothing) {
            self.state.lock().drop_keys(keys, self.mutant);
        }
        if self.is(M::InvalidatedForGood) {
            self.poison(keys.iter().copied());
        }
        Ok(())
    }

    async fn invalidate_local(&self, keys: &[CacheKey]) {
        let mut state = self.state.lock();
        match self.mutant {
            Some(M::InvalidateLocalDoesNothing) => {}
            Some(M::InvalidateLocalClears) => state.drop_all(),
            Some(M::StaleFillsAfterLocal) => {
                state.entries.retain(|k, _| !keys.contains(k));
            }
            _ => state.drop_keys(keys, self.mutant),
        }
    }

    async fn clear(&self) -> Result<()> {
        if !self.is(M::ClearDoesNothing) {
            self.state.lock().drop_all();
        }
        Ok(())
    }

    async fn clear_local(&self) {
        if !self.is(M::ClearLocalDoesNothing) {
            self.state.lock().drop_all();
        }
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {
        match self.mutant {
            Some(M::CloseDropsNothing) => {}
            Some(M::CloseLeavesStamps) => self.state.lock().entries.retain(|key, _| key.is_stamp()),
            _ => self.state.lock().drop_all(),
        }
    }

    fn stats(&self) -> CacheStats {
        let state = self.state.lock();
        let entries = match self.mutant {
            Some(M::EntriesAlwaysZero) => 0,
            Some(M::EntriesCountFills) => state.fills,
            _ => state.entries.len() as u64,
        };
        state.stats.entries(entries)
    }

    async fn get_many(&self, keys: &[CacheKey], codec: &'static Codec) -> Vec<Option<CacheValue>> {
        let mut found = Vec::new();
        for key in keys {
            found.push(self.get(key, codec).await);
        }
        match self.mutant {
            Some(M::GetManyBackwards) => found.reverse(),
            Some(M::GetManyLeavesOut) => found.retain(Option::is_some),
            _ => {}
        }
        found
    }

    async fn begin_fill_many(&self, keys: &[CacheKey]) -> Vec<FillToken> {
        let token = FillToken { local: self.state.lock().sequence, shared: 0 };
        vec![token; if self.is(M::OneTokenForAll) { keys.len().min(1) } else { keys.len() }]
    }

    async fn fill_many(&self, values: Vec<(CacheKey, CacheValue, FillToken)>, codec: &'static Codec, ttl: Duration) {
        let mut keys: Vec<CacheKey> = values.iter().map(|v| v.0).collect();
        if self.is(M::FillManyShifted) && !keys.is_empty() {
            keys.rotate_left(1);
        }
        for (key, (_, value, token)) in keys.into_iter().zip(values) {
            if self.is(M::FillManyUnchecked) {
                self.hold(&key, value, ttl, token.local, true);
            } else {
                self.fill(&key, value, codec, ttl, token).await;
            }
        }
    }

    async fn abandon(&self, loads: &[(CacheKey, FillToken)]) {
        match self.mutant {
            Some(M::AbandonInvalidatesForGood) => self.poison(loads.iter().map(|l| l.0)),
            Some(M::AbandonFillsNothing) => {
                for (key, token) in loads {
                    self.hold(key, Arc::new(()), Duration::from_secs(60), token.local, true);
                }
            }
            _ => {}
        }
    }
}
