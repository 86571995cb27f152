//! The rate limiter, which counts the calls of each caller.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};

/// How many calls a key may make: `limit` at once, and then as many within each `period`, evenly spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// The number of calls, at least 1.
    pub limit: u32,
    /// The time after which a key that has used its quota has all of it again.
    pub period: Duration,
}

impl Quota {
    /// The longest period.
    pub const MAX_PERIOD: Duration = Duration::from_hours(366 * 24);

    /// Returns the quota of `limit` calls within `period`.
    pub const fn new(limit: u32, period: Duration) -> Self {
        Self { limit, period }
    }

    /// Returns the time after which one call of a used quota comes back, in microseconds and at least 1. `period`
    /// counts as [`Self::MAX_PERIOD`] at most.
    pub fn step_micros(&self) -> u64 {
        let period = u64::try_from(self.period.min(Self::MAX_PERIOD).as_micros()).unwrap_or(u64::MAX);
        (period / u64::from(self.limit.max(1))).max(1)
    }

    /// Returns the time after which all calls of a used quota have come back, in microseconds.
    pub fn burst_micros(&self) -> u64 {
        self.step_micros() * u64::from(self.limit.max(1))
    }
}

/// The key of a caller: a hash of the kind of calls that are counted, and of the caller. Limiters store keys and no
/// names or addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateKey(pub u128);

impl RateKey {
    /// Returns the key of a caller. Calls of different kinds are counted apart.
    pub fn new(kind: &str, caller: &[u8]) -> Self {
        // The kind is hashed by itself, so that no caller can have the key of another kind.
        let seed = xxhash_rust::xxh3::xxh3_64(kind.as_bytes());
        Self(xxhash_rust::xxh3::xxh3_128_with_seed(caller, seed))
    }
}

/// The text form is the same in every process and release.
impl fmt::Display for RateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The decision about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateDecision {
    /// `None` if the call is allowed, or else the time after which the next one is.
    pub retry_after: Option<Duration>,
    /// The limit of the quota.
    pub limit: u32,
    /// How many more calls are allowed now.
    pub remaining: u32,
    /// The time after which the whole quota is available again, if there are no more calls.
    pub reset: Duration,
}

impl RateDecision {
    /// Decides about a call by the generic cell rate algorithm (GCRA), which stores one number per key: the time at
    /// which its quota is whole again. Returns the decision, and the number to store, or `None` if it stays.
    ///
    /// The times are in microseconds. `whole` is 0 for a key that is not stored.
    pub fn by_gcra(quota: Quota, whole: u64, now: u64) -> (Self, Option<u64>) {
        let (step, burst) = (quota.step_micros(), quota.burst_micros());
        // A clock that was set back must not make the quota last longer than it is.
        let used = whole.saturating_sub(now).min(burst);
        let wait = used.saturating_add(step).saturating_sub(burst);
        if wait > 0 {
            return (Self::refused(quota, wait, used), None);
        }
        (Self::allowed(quota, used + step), Some(now.saturating_add(used + step)))
    }

    /// Returns the decision about an allowed call, after which the quota is whole in `used` microseconds.
    pub fn allowed(quota: Quota, used: u64) -> Self {
        let remaining = quota.burst_micros().saturating_sub(used) / quota.step_micros();
        Self {
            retry_after: None,
            limit: quota.limit.max(1),
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_micros(used),
        }
    }

    /// Returns the decision about a call that is refused for `wait` microseconds, while the quota is whole in `used`
    /// microseconds.
    pub fn refused(quota: Quota, wait: u64, used: u64) -> Self {
        Self {
            retry_after: Some(Duration::from_micros(wait)),
            limit: quota.limit.max(1),
            remaining: 0,
            reset: Duration::from_micros(used),
        }
    }

    /// Returns whether the call is allowed.
    pub const fn is_allowed(&self) -> bool {
        self.retry_after.is_none()
    }

    /// Returns the decision as a result.
    ///
    /// # Errors
    /// `RateLimited` if the call is not allowed.
    pub const fn into_result(self) -> Result<()> {
        match self.retry_after {
            None => Ok(()),
            Some(retry_after) => Err(Error::RateLimited { retry_after }),
        }
    }
}

port! {
    /// A limiter of the calls of each key. An implementation runs `ecom_core::rate_limiter_suite!` (feature `testkit`).
    ///
    /// A limiter always decides. If one that several processes share is lost, it decides by the calls of this process
    /// alone, and reports its error in `ping`.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait RateLimiter / ForwardRateLimiter(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages: `memory`, `redis` …
        fn name(&self) -> &'static str;

        /// Returns whether the calls of several processes are counted together.
        fn is_shared(&self) -> bool;

        /// Counts a call and decides about it, if this needs no waiting; `None` if [`Self::check`] must be called
        /// instead, in which case nothing is counted.
        fn check_now(&self, key: RateKey, quota: Quota) -> Option<RateDecision>;

        /// Counts a call and decides about it. A refused call does not count. Calls at the same time never exceed the
        /// quota together. A quota that differs from that of earlier calls of the key applies at once.
        async fn check(&self, key: RateKey, quota: Quota) -> RateDecision;

        /// Checks that the limiter answers.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn ping(&self) -> Result<()>;

        /// Ends connections and background work.
        async fn close(&self);
    }
}

/// The limiter that allows every call.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRateLimiter;

#[async_trait]
impl RateLimiter for NoRateLimiter {
    fn name(&self) -> &'static str {
        "none"
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn check_now(&self, _: RateKey, quota: Quota) -> Option<RateDecision> {
        Some(RateDecision::allowed(quota, 0))
    }
    async fn check(&self, _: RateKey, quota: Quota) -> RateDecision {
        RateDecision::allowed(quota, 0)
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_different_kinds_differ() {
        let key = RateKey::new("login", b"10.0.0.1");
        assert_eq!(key, RateKey::new("login", b"10.0.0.1"));
        assert_ne!(key, RateKey::new("login", b"10.0.0.2"));
        assert_ne!(key, RateKey::new("orders", b"10.0.0.1"));
        assert_eq!(RateKey(7).to_string(), "00000000000000000000000000000007");
    }

    proptest! {
        /// In any window, a key makes at most its burst and what has come back since.
        #[test]
        fn gcra_never_allows_more_than_the_quota(
            limit in 1_u32..20,
            period in 1_u64..10_000_000,
            pauses in proptest::collection::vec(0_u64..2_000_000, 1..200),
        ) {
            let quota = Quota::new(limit, Duration::from_micros(period));
            let (mut whole, mut now, mut allowed) = (0, 1_750_000_000_000_000, Vec::new());
            for pause in pauses {
                now += pause;
                let (decision, next) = RateDecision::by_gcra(quota, whole, now);
                prop_assert_eq!(decision.is_allowed(), next.is_some());
                prop_assert!(decision.remaining < limit);
                prop_assert!(decision.reset <= Duration::from_micros(quota.burst_micros()));
                if let Some(wait) = decision.retry_after {
                    let wait = u64::try_from(wait.as_micros()).unwrap();
                    prop_assert!(!RateDecision::by_gcra(quota, whole, now + wait - 1).0.is_allowed());
                    prop_assert!(RateDecision::by_gcra(quota, whole, now + wait).0.is_allowed());
                } else {
                    allowed.push(now);
                }
                whole = next.unwrap_or(whole);
            }
            for (i, from) in allowed.iter().enumerate() {
                for (j, to) in allowed.iter().enumerate().skip(i) {
                    let most = u64::from(limit) + (to - from) / quota.step_micros();
                    prop_assert!(((j - i) as u64) < most);
                }
            }
        }

        #[test]
        fn gcra_never_overflows(limit: u32, seconds: u64, whole: u64, now: u64) {
            let quota = Quota::new(limit, Duration::from_secs(seconds));
            RateDecision::by_gcra(quota, whole, now);
        }
    }
}
