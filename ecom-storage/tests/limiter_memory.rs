//! The rate limiter in process keeps the contract of its port, and its own bounds.

use std::sync::Arc;
use std::time::Duration;

use ecom_core::clock::ManualClock;
use ecom_core::port::{Quota, RateKey, RateLimiter as _};
use ecom_core::testkit::RateLimiterFixture;
use ecom_storage::limiter::MemoryLimiter;

fn at_start(keys: usize) -> (MemoryLimiter, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at_micros(1_767_323_045_678_901));
    (MemoryLimiter::new(keys, clock.clone()), clock)
}

async fn make() -> RateLimiterFixture {
    let (limiter, clock) = at_start(1_000);
    RateLimiterFixture::new(limiter, move |by| clock.advance(by))
}

ecom_core::rate_limiter_suite!(make);

/// The same suite on the machine's clock.
mod on_the_machines_clock {
    use super::*;

    async fn make() -> RateLimiterFixture {
        RateLimiterFixture::new(MemoryLimiter::default(), std::thread::sleep)
    }

    ecom_core::rate_limiter_suite!(make);
}

fn key(n: u32) -> RateKey {
    RateKey::new("test", &n.to_be_bytes())
}

fn is_allowed(limiter: &MemoryLimiter, n: u32, quota: Quota) -> bool {
    limiter.check_now(key(n), quota).is_some_and(|decision| decision.is_allowed())
}

#[test]
fn a_million_addresses_neither_fill_the_memory_nor_free_a_limited_caller() {
    let (limiter, clock) = at_start(1_000);
    let quota = Quota::new(3, Duration::from_secs(3_600));
    let caller = 0;
    while is_allowed(&limiter, caller, quota) {}
    for n in 1..=1_000_000 {
        assert!(is_allowed(&limiter, n, quota), "address {n}");
        clock.advance(Duration::from_micros(1));
    }
    assert!(limiter.keys() <= 2_000, "{} keys", limiter.keys());
    assert!(!is_allowed(&limiter, caller, quota), "a caller that has used its quota is forgotten");
}

#[test]
fn idle_keys_are_dropped() {
    let (limiter, clock) = at_start(100_000);
    let quota = Quota::new(10, Duration::from_secs(60));
    for n in 0..500 {
        is_allowed(&limiter, n, quota);
    }
    assert_eq!(limiter.keys(), 500);
    clock.advance(Duration::from_secs(61));
    // Each map drops its idle keys at its next new key.
    for n in 1_000..1_500 {
        is_allowed(&limiter, n, quota);
    }
    assert!(limiter.keys() < 600, "{} keys", limiter.keys());
}
