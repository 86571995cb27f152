//! The contract of [`RateLimiter`](crate::port::RateLimiter).

use std::fmt::Display;
use std::time::Duration;

use crate::port::rate_limiter::{Quota, RateDecision, RateKey};
use crate::testkit::RateLimiterFixture;
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;

suite! {
    /// Runs the suite of [`RateLimiter`](crate::port::RateLimiter). Takes the path of an
    /// `async fn() -> RateLimiterFixture`; see [`testkit`](crate::testkit).
    rate_limiter_suite, rate_limiter: fixture => &fixture, __rate_limiter_tests: [
        a_key_makes_as_many_calls_as_its_quota_and_no_more,
        keys_are_counted_apart,
        a_call_comes_back_after_the_time_that_the_refusal_names,
        the_whole_quota_is_back_after_the_period,
        calls_at_the_same_time_never_exceed_the_quota_together,
        a_refused_call_does_not_count,
        another_quota_applies_at_once,
        extreme_quotas_are_within_bounds,
        a_call_is_counted_once_by_either_method,
        it_answers,
    ]
}

/// A period in which no test waits for a call to come back.
const LONG: Duration = Duration::from_hours(24);

const LIMITS: &str = "A key makes `limit` calls at once, and further calls are refused until one comes back.";

fn key(n: u128) -> RateKey {
    RateKey::new("suite", &n.to_be_bytes())
}

async fn check(f: &RateLimiterFixture, key: RateKey, quota: Quota) -> RateDecision {
    step(format_args!("`check` of {key}"));
    let decision = f.limiter.check(key, quota).await;
    same(decision.limit, quota.limit.max(1), "A decision has the limit of its quota.", format_args!("{quota:?}"));
    holds(
        decision.remaining < decision.limit,
        "A call that was allowed no longer remains, and none remains after a refusal.",
        format_args!("{decision:?}"),
    );
    decision
}

/// Makes calls until one is refused, at most `most`, and returns the number of those that were allowed.
async fn allowed(f: &RateLimiterFixture, key: RateKey, quota: Quota, most: u32) -> u32 {
    for n in 0..most {
        if !check(f, key, quota).await.is_allowed() {
            return n;
        }
    }
    most
}

/// Checks that `key` makes `expected` more calls and no further ones.
async fn allows(f: &RateLimiterFixture, key: RateKey, quota: Quota, expected: u32, about: impl Display) {
    same(allowed(f, key, quota, expected + 1).await, expected, LIMITS, about);
}

/// The decisions count down, and a refusal says when the next call is allowed.
pub async fn a_key_makes_as_many_calls_as_its_quota_and_no_more(f: &RateLimiterFixture) {
    let quota = Quota::new(5, LONG);
    for n in 1..=5 {
        let decision = check(f, key(1), quota).await;
        let about = format!("call {n} of 5: {decision:?}");
        same(decision.retry_after, None, LIMITS, &about);
        same(decision.remaining, 5 - n, "`remaining` is the number of calls that are still allowed.", &about);
        let most = LONG / 5 * n;
        let contract = "`reset` is the time after which the whole quota is available again.";
        holds(decision.reset <= most && decision.reset >= most / 2, contract, about);
    }
    let decision = check(f, key(1), quota).await;
    let about = format!("the sixth call: {decision:?}");
    let contract = "A refused call says when the next one is allowed, which is at most `period / limit` later.";
    let within = decision.retry_after.is_some_and(|wait| !wait.is_zero() && wait <= LONG / 5);
    holds(within, contract, &about);
    same(decision.remaining, 0, "No call remains after a refusal.", about);
}

/// A key that has used its quota does not touch others.
pub async fn keys_are_counted_apart(f: &RateLimiterFixture) {
    let quota = Quota::new(2, LONG);
    for n in 0..50 {
        allows(f, key(n), quota, 2, format_args!("a new key, after {n} others have used their quota")).await;
    }
    allows(f, key(7), quota, 0, "a key that has used its quota, after others have made calls").await;
}

/// Calls come back one after another.
pub async fn a_call_comes_back_after_the_time_that_the_refusal_names(f: &RateLimiterFixture) {
    let quota = Quota::new(4, Duration::from_secs(12));
    allows(f, key(1), quota, 4, "a new key").await;
    let wait = check(f, key(1), quota).await.retry_after.unwrap_or_default();
    (f.clock_advance)(wait + Duration::from_millis(2));
    // Each call comes back after 3 s, so that a machine that is busy for less does not fail the test.
    allows(f, key(1), quota, 1, format_args!("after {wait:?}, which the refusal named")).await;
}

/// A key that pauses for the period starts anew.
pub async fn the_whole_quota_is_back_after_the_period(f: &RateLimiterFixture) {
    let quota = Quota::new(3, Duration::from_secs(1));
    for round in 0..2 {
        let made = allowed(f, key(1), quota, 3).await;
        same(made, 3, "After `period` without calls, the whole quota is available.", format_args!("round {round}"));
        (f.clock_advance)(Duration::from_millis(1_010));
    }
}

/// Many tasks share a key.
pub async fn calls_at_the_same_time_never_exceed_the_quota_together(f: &RateLimiterFixture) {
    let quota = Quota::new(100, LONG);
    step("`check` by 8 tasks");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let limiter = f.limiter.clone();
            tokio::spawn(async move {
                let mut allowed = 0;
                for _ in 0..50 {
                    allowed += u32::from(limiter.check(key(1), quota).await.is_allowed());
                }
                allowed
            })
        })
        .collect();
    let mut all = 0;
    for task in tasks {
        all += succeeds(task.await, "a task that calls `check`");
    }
    same(
        all,
        100,
        "Calls at the same time never exceed the quota together.",
        "400 calls of 8 tasks, with a limit of 100",
    );
}

/// A caller that keeps calling gets its next call no later.
pub async fn a_refused_call_does_not_count(f: &RateLimiterFixture) {
    let quota = Quota::new(1, LONG);
    let first = check(f, key(1), quota).await;
    for _ in 0..20 {
        let refused = check(f, key(1), quota).await;
        let contract = "A refused call does not count, so the next call is not allowed any later.";
        holds(refused.reset <= first.reset, contract, format_args!("{refused:?} after {first:?}"));
    }
}

/// Settings change at a restart, while the limiter keeps its state.
pub async fn another_quota_applies_at_once(f: &RateLimiterFixture) {
    let (small, large) = (Quota::new(2, LONG), Quota::new(10, LONG));
    allows(f, key(1), small, 2, "a new key").await;
    // Of a quota of 10, none is left either, because the whole period is used. A key without calls has all of it.
    allows(f, key(2), large, 10, "another key, with a larger quota").await;
    allows(f, key(2), small, 0, "the smaller quota, after 10 calls of the larger one").await;
    let quick = Quota::new(10, Duration::from_millis(1));
    let decision = check(f, key(3), quick).await;
    holds(decision.is_allowed(), LIMITS, format_args!("a quota that comes back within a millisecond: {decision:?}"));
}

/// No quota makes the arithmetic overflow.
pub async fn extreme_quotas_are_within_bounds(f: &RateLimiterFixture) {
    let mut n = 0;
    for limit in [0, 1, 1_000, u32::MAX] {
        for period in [Duration::ZERO, Duration::from_micros(1), Quota::MAX_PERIOD, Duration::MAX] {
            n += 1;
            let quota = Quota::new(limit, period);
            let decision = check(f, key(n), quota).await;
            holds(decision.is_allowed(), "The first call of a key is allowed.", format_args!("{quota:?}"));
            let contract = "A quota is whole again after `Quota::MAX_PERIOD` at most, or after the time of its steps.";
            let most = Quota::MAX_PERIOD.max(Duration::from_micros(u64::from(u32::MAX)));
            holds(decision.reset <= most, contract, format_args!("{quota:?}: {decision:?}"));
        }
    }
}

/// `check_now` is `check` without waiting.
pub async fn a_call_is_counted_once_by_either_method(f: &RateLimiterFixture) {
    let quota = Quota::new(4, LONG);
    let mut made = 0;
    for _ in 0..2 {
        let now = f.limiter.check_now(key(1), quota);
        made += u32::from(now.is_some_and(|decision| decision.is_allowed()));
        made += u32::from(check(f, key(1), quota).await.is_allowed());
    }
    let contract = "`check_now` counts a call as `check` does, and counts nothing if it returns nothing.";
    same(made + allowed(f, key(1), quota, 5).await, 4, contract, "calls of both methods, with a limit of 4");
}

/// The limiter has a name and responds to a ping.
pub async fn it_answers(f: &RateLimiterFixture) {
    holds(!f.limiter.name().is_empty(), "`name` returns a name that is not empty.", "`name` is empty");
    succeeds(f.limiter.ping().await, "`ping`");
    step("`close`");
    f.limiter.close().await;
}
