//! The rate limiter in process.
//!
//! A key is stored as the time at which its quota is whole again ([`RateDecision::by_gcra`]), in one of several maps
//! with a lock each. A key whose time has passed is the same as one that is not stored, so it can be dropped at any
//! time. A full map first drops such keys, and then those whose quotas are whole soonest. A caller that has used its
//! quota therefore stays limited, however many other addresses an attacker has.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::clock::{SharedClock, SystemClock};
use ecom_core::port::{Quota, RateDecision, RateKey, RateLimiter};
use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// The default number of keys that a limiter stores, which take about 10 MB.
pub const DEFAULT_KEYS: usize = 200_000;

/// The number of maps.
const SHARDS: usize = 64;
/// The time after which a map drops the keys whose quota is whole, in microseconds.
const SWEEP: u64 = 60_000_000;

/// The rate limiter in this process: `memory://`.
pub struct MemoryLimiter {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    most: usize,
    clock: SharedClock,
}

#[derive(Default)]
struct Shard {
    /// The time at which the quota of a key is whole.
    whole: HashMap<RateKey, u64, RandomState>,
    swept: u64,
}

impl fmt::Debug for MemoryLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLimiter").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

impl Default for MemoryLimiter {
    fn default() -> Self {
        Self::new(DEFAULT_KEYS, Arc::new(SystemClock))
    }
}

impl MemoryLimiter {
    /// Returns a limiter that stores about `keys` keys at most.
    pub fn new(keys: usize, clock: SharedClock) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::default(), most: keys.div_ceil(SHARDS).max(2), clock }
    }

    /// Returns the number of keys that the limiter stores.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().whole.len()).sum()
    }

    pub(super) fn decide(&self, key: RateKey, quota: Quota) -> RateDecision {
        let now = u64::try_from(self.clock.now().timestamp_micros()).unwrap_or(0);
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)].lock();
        let stored = shard.whole.get(&key).copied();
        let (decision, next) = RateDecision::by_gcra(quota, stored.unwrap_or(0), now);
        if let Some(next) = next {
            if stored.is_none() && (shard.whole.len() >= self.most || now.saturating_sub(shard.swept) > SWEEP) {
                shard.sweep(now, self.most);
            }
            shard.whole.insert(key, next);
        }
        decision
    }
}

impl Shard {
    /// Drops the keys whose quota is whole. If more than `most` keys remain, also drops the eighth of them whose quotas
    /// are whole soonest, so that the cost of a sweep is shared by many calls.
    fn sweep(&mut self, now: u64, most: usize) {
        self.swept = now;
        self.whole.retain(|_, whole| *whole > now);
        if self.whole.len() >= most {
            let mut times: Vec<u64> = self.whole.values().copied().collect();
            let (_, bound, _) = times.select_nth_unstable(most / 8);
            let bound = *bound;
            self.whole.retain(|_, whole| *whole > bound);
        }
        self.whole.shrink_to(most / 4);
    }
}

#[async_trait]
impl RateLimiter for MemoryLimiter {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn check_now(&self, key: RateKey, quota: Quota) -> Option<RateDecision> {
        Some(self.decide(key, quota))
    }
    async fn check(&self, key: RateKey, quota: Quota) -> RateDecision {
        self.decide(key, quota)
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) {}
}
