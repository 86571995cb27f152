//! A cache that is a map behind a lock. It never evicts, so it is for small shops.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ecom::clock::{SharedClock, Timestamp};
use ecom::port::{Cache, CacheKey, CacheStats, CacheValue, Codec, FillToken};
use ecom::{Result, async_trait};

struct State {
    values: HashMap<CacheKey, (CacheValue, Timestamp)>,
    /// Counts invalidations. The token of a fill is the count at its begin.
    count: u64,
    /// The count at which a key was invalidated last.
    invalidated: HashMap<CacheKey, u64>,
    /// The count at which everything was dropped last.
    cleared: u64,
    hits: u64,
    misses: u64,
}

/// A map of values.
pub struct MapCache {
    clock: SharedClock,
    state: Mutex<State>,
}

impl std::fmt::Debug for MapCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapCache").finish_non_exhaustive()
    }
}

impl MapCache {
    /// Returns an empty cache whose values age by a clock.
    pub fn new(clock: SharedClock) -> Self {
        let (values, invalidated) = (HashMap::new(), HashMap::new());
        let state = State { values, count: 0, invalidated, cleared: 0, hits: 0, misses: 0 };
        Self { clock, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Cache for MapCache {
    fn name(&self) -> &'static str {
        "map"
    }

    fn local(&self, key: &CacheKey) -> Option<CacheValue> {
        let mut state = self.state();
        let now = self.clock.now();
        let value = state.values.get(key).filter(|(_, end)| now < *end).map(|(value, _)| value.clone());
        state.hits += u64::from(value.is_some());
        value
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn get(&self, key: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        let value = self.local(key);
        self.state().misses += u64::from(value.is_none());
        value
    }

    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken { local: self.state().count, ..FillToken::default() }
    }

    async fn fill(
        &self,
        key: &CacheKey,
        value: CacheValue,
        _: &'static Codec,
        ttl: Duration,
        token: FillToken,
    ) -> bool {
        let mut state = self.state();
        let last = state.invalidated.get(key).copied().unwrap_or(0).max(state.cleared);
        if token.local < last {
            return false;
        }
        state.values.insert(*key, (value, self.clock.now() + ttl));
        true
    }

    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        self.invalidate_local(keys).await;
        Ok(())
    }

    async fn invalidate_local(&self, keys: &[CacheKey]) {
        let mut state = self.state();
        for key in keys {
            state.count += 1;
            let count = state.count;
            state.invalidated.insert(*key, count);
            state.values.remove(key);
        }
    }

    async fn clear(&self) -> Result<()> {
        self.clear_local().await;
        Ok(())
    }

    async fn clear_local(&self) {
        let mut state = self.state();
        state.count += 1;
        state.cleared = state.count;
        state.values.clear();
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> CacheStats {
        let state = self.state();
        CacheStats::default().hits(state.hits).misses(state.misses).entries(state.values.len() as u64)
    }

    async fn close(&self) {
        self.clear_local().await;
    }
}
