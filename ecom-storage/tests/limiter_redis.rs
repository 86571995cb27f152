//! The rate limiter on Redis keeps the contract of its port, and decides by itself while Redis is gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

use std::time::{Duration, Instant};

use ecom_core::port::{Quota, RateKey, RateLimiter as _};
use ecom_core::testkit::RateLimiterFixture;
use ecom_core::{Dependency, Error};
use ecom_storage::cache::RedisOptions;
use ecom_storage::limiter::RedisLimiter;
use test_servers::Server;

fn options(url: &str, prefix: &str) -> RedisOptions {
    let mut options = RedisOptions::from_url(url).unwrap();
    prefix.clone_into(&mut options.prefix);
    // Long, because the suite tests what is correct, on machines that are busy.
    options.timeout = Duration::from_secs(5);
    options
}

async fn make() -> RateLimiterFixture {
    let server = test_servers::redis();
    let limiter = RedisLimiter::open(options(&server.url, &server.prefix)).await.unwrap();
    RateLimiterFixture::new(limiter, std::thread::sleep).guard(server)
}

ecom_core::rate_limiter_suite!(make);

const DAY: Duration = Duration::from_hours(24);

fn key(n: u32) -> RateKey {
    RateKey::new("test", &n.to_be_bytes())
}

async fn allowed(limiter: &RedisLimiter, n: u32, quota: Quota) -> u32 {
    let mut made = 0;
    while limiter.check(key(n), quota).await.is_allowed() {
        made += 1;
    }
    made
}

async fn raw(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn processes_count_together_and_shops_apart() {
    let server = test_servers::redis();
    let ours = options(&server.url, &server.prefix);
    let mut other_shop = ours.clone();
    other_shop.namespace = "other".to_owned();
    let one = RedisLimiter::open(ours.clone()).await.unwrap();
    let two = RedisLimiter::open(ours).await.unwrap();
    let apart = RedisLimiter::open(other_shop).await.unwrap();
    let quota = Quota::new(5, DAY);
    for limiter in [&one, &two, &one, &two, &one] {
        assert!(limiter.check(key(1), quota).await.is_allowed());
    }
    assert_eq!((allowed(&one, 1, quota).await, allowed(&two, 1, quota).await), (0, 0));
    assert_eq!(allowed(&apart, 1, quota).await, 5);
}

#[tokio::test]
async fn keys_expire_when_their_quota_is_whole() {
    let server = test_servers::redis();
    let limiter = RedisLimiter::open(options(&server.url, &server.prefix)).await.unwrap();
    limiter.check(key(1), Quota::new(10, Duration::from_secs(1_000))).await;
    let mut raw = raw(&server.url).await;
    let names: Vec<String> =
        redis::cmd("KEYS").arg(format!("{}*{}", server.prefix, key(1))).query_async(&mut raw).await.unwrap();
    let [name] = names.as_slice() else { panic!("{names:?}") };
    let left: i64 = redis::cmd("PTTL").arg(name).query_async(&mut raw).await.unwrap();
    assert!((1..=100_000).contains(&left), "{left} ms");
}

#[tokio::test]
async fn while_redis_is_gone_each_process_limits_on_its_own() {
    let mut server = Server::redis().await;
    let limiter = RedisLimiter::open(options(&server.url(), "gone:")).await.unwrap();
    let quota = Quota::new(5, DAY);
    assert_eq!(allowed(&limiter, 1, quota).await, 5);
    server.kill9().await;
    let start = Instant::now();
    while limiter.ping().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let down = limiter.ping().await;
    assert!(matches!(down, Err(Error::Unavailable { dependency: Dependency::RateLimiter, .. })), "{down:?}");
    assert_eq!(allowed(&limiter, 2, quota).await, 5);
    // A lost Redis costs no time: a thousand calls that each waited for their time limit would take an hour.
    let start = Instant::now();
    for n in 0..1_000 {
        assert!(limiter.check_now(key(1_000 + n), quota).is_some());
    }
    assert!(start.elapsed() < Duration::from_secs(60), "calls wait for a Redis that is lost");
    server.start().await;
    let start = Instant::now();
    while limiter.ping().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "the limiter does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(limiter.check_now(key(1), quota), None);
    assert_eq!(allowed(&limiter, 3, quota).await, 5);
}

#[tokio::test]
async fn a_limiter_opens_while_redis_is_down_and_refuses_a_wrong_password() {
    let limiter = RedisLimiter::open(options("redis://127.0.0.1:1", "x:")).await.unwrap();
    assert_eq!(allowed(&limiter, 1, Quota::new(3, DAY)).await, 3);
    let server = test_servers::redis();
    let url = server.url.replacen("redis://", "redis://nobody:wrong@", 1);
    let error = RedisLimiter::open(options(&url, "x:")).await.unwrap_err();
    assert!(error.to_string().contains("rate_limiter"), "{error}");
}
