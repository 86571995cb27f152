//! Rate limits: whom requests count for, which quota they have, and what the responses say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::ConnectInfo;
use ecom_core::access::{ApiKeyInput, Permission, Principal};
use ecom_core::port::{Quota, RateDecision, RateKey, RateLimiter};
use ecom_http::{HttpConfig, ProxyHeader, RateLimits};

use crate::support::{API, Answer, Api, open};

const LIST: &str = "/api/v1/categories";

fn quota(limit: u32) -> Quota {
    Quota::new(limit, Duration::from_secs(60))
}

fn limits() -> RateLimits {
    RateLimits::default()
        .address(Some(quota(3)))
        .principal(Some(quota(5)))
        .login(Some(quota(2)))
        .registration(Some(quota(1)))
        .orders(Some(quota(1)))
}

async fn api(limits: RateLimits) -> Api {
    Api::with(HttpConfig::default().anonymous(Principal::trusted("anonymous")).rate_limits(Some(limits))).await
}

/// Sends a request from an address, and as a principal if it is named.
async fn from(api: &Api, peer: &str, actor: &str, request: (&str, &str), headers: &[(&str, &str)]) -> Answer {
    let peer = ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 4711));
    let mut router = api.router.clone().layer(Extension(peer));
    if !actor.is_empty() {
        router = router.layer(Extension(Principal::trusted(actor)));
    }
    let body = (request.0 != "GET").then_some("{}");
    let api = Api { router, shop: api.shop.clone(), clock: api.clock.clone() };
    api.call(request.0, request.1, headers, body).await
}

async fn allowed(api: &Api, peer: &str, actor: &str, request: (&str, &str), headers: &[(&str, &str)]) -> u32 {
    for n in 0..20 {
        if from(api, peer, actor, request, headers).await.status == 429 {
            return n;
        }
    }
    20
}

#[tokio::test]
async fn a_response_says_what_is_left_and_a_refusal_when_to_try_again() {
    let api = api(limits()).await;
    for (left, reset) in [("2", "20"), ("1", "40"), ("0", "60")] {
        let a = from(&api, "192.0.2.1", "", ("GET", LIST), &[]).await.ok(200);
        assert_eq!(a.header("x-ratelimit-limit"), "3");
        assert_eq!((a.header("x-ratelimit-remaining"), a.header("x-ratelimit-reset")), (left, reset));
        assert_eq!(a.header("retry-after"), "");
    }
    let a = from(&api, "192.0.2.1", "", ("GET", LIST), &[]).await.refused(429, "RATE_LIMITED", "");
    assert_eq!((a.header("retry-after"), a.header("x-ratelimit-remaining")), ("20", "0"));
    assert_eq!(a.header("x-ratelimit-limit"), "3");
    // Others are not limited, and the routes of health never are.
    from(&api, "192.0.2.2", "", ("GET", LIST), &[]).await.ok(200);
    for path in ["/health", "/health/live", "/health/ready"] {
        let a = from(&api, "192.0.2.1", "", ("GET", path), &[]).await.ok(200);
        assert_eq!(a.header("x-ratelimit-limit"), "");
    }
    api.clock.advance(Duration::from_secs(20));
    from(&api, "192.0.2.1", "", ("GET", LIST), &[]).await.ok(200);
    from(&api, "192.0.2.1", "", ("GET", LIST), &[]).await.refused(429, "RATE_LIMITED", "");
}

#[tokio::test]
async fn requests_count_for_the_principal_or_else_for_the_address() {
    let api = api(limits()).await;
    let list = ("GET", LIST);
    assert_eq!(allowed(&api, "192.0.2.1", "user:1", list, &[]).await, 5);
    // Another address does not help a principal, and the principal leaves the address its own quota.
    assert_eq!(allowed(&api, "192.0.2.2", "user:1", list, &[]).await, 0);
    assert_eq!(allowed(&api, "192.0.2.1", "user:2", list, &[]).await, 5);
    assert_eq!(allowed(&api, "192.0.2.1", "", list, &[]).await, 3);
    assert_eq!(allowed(&api, "2001:db8::1", "", list, &[]).await, 3);
    assert_eq!(allowed(&api, "2001:db8::2", "", list, &[]).await, 0);
}

#[tokio::test]
async fn orders_logins_and_registrations_have_quotas_of_their_own() {
    let api = api(limits()).await;
    for (path, expected) in [("/orders", 1), ("/auth/login", 2), ("/auth/register", 1), ("/carts", 3)] {
        let path = format!("{API}{path}");
        assert_eq!(allowed(&api, "192.0.2.1", "", ("POST", &path), &[]).await, expected, "{path}");
    }
    // A checkout is an order, and a trailing slash does not change the route.
    for path in ["/carts/01977420-dfe8-703e-85c1-d2d64e9d34e8/checkout", "/orders/"] {
        assert_eq!(allowed(&api, "192.0.2.1", "", ("POST", &format!("{API}{path}")), &[]).await, 0, "{path}");
    }
    // Requests for mails and their tokens count as logins.
    for path in ["/auth/verify", "/auth/verify/resend", "/auth/forgot-password", "/auth/reset-password"] {
        assert_eq!(allowed(&api, "192.0.2.1", "", ("POST", &format!("{API}{path}")), &[]).await, 0, "{path}");
    }
    // A principal does not multiply the logins of its address.
    let login = format!("{API}/auth/login");
    assert_eq!(allowed(&api, "192.0.2.1", "user:1", ("POST", &login), &[]).await, 0);
    assert_eq!(allowed(&api, "192.0.2.1", "user:1", ("POST", &format!("{API}/orders")), &[]).await, 1);
    // Each has a switch.
    let off = RateLimits::default().address(None).principal(None).login(None).registration(None).orders(None);
    let api = self::api(off).await;
    for path in ["/orders", "/auth/login", "/auth/register", "/carts"] {
        assert_eq!(allowed(&api, "192.0.2.1", "", ("POST", &format!("{API}{path}")), &[]).await, 20, "{path}");
    }
}

#[tokio::test]
async fn only_trusted_proxies_name_the_client() {
    let trusted = vec!["10.0.0.0/8".parse().unwrap()];
    let api = api(limits().trusted_proxies(trusted.clone())).await;
    let list = ("GET", LIST);
    // A client that is no proxy changes nothing with any header.
    let mut allowed_requests = 0;
    for n in 0..20 {
        let claimed = format!("198.51.100.{n}");
        let forwarded = format!("for={claimed}");
        let headers = [("x-forwarded-for", &*claimed), ("x-real-ip", &claimed), ("forwarded", &forwarded)];
        allowed_requests += u32::from(from(&api, "192.0.2.1", "", list, &headers).await.status == 200);
    }
    assert_eq!(allowed_requests, 3);
    // Clients behind a proxy are counted apart, whatever they send to it.
    for client in ["198.51.100.1", "198.51.100.2"] {
        let mut allowed_requests = 0;
        for n in 0..20 {
            let line = format!("203.0.113.{n}, {client}");
            let headers = [("x-forwarded-for", &*line), ("forwarded", "for=127.0.0.1"), ("x-real-ip", "127.0.0.1")];
            allowed_requests += u32::from(from(&api, "10.0.0.1", "", list, &headers).await.status == 200);
        }
        assert_eq!(allowed_requests, 3, "{client}");
    }
    let api = self::api(limits().trusted_proxies(trusted).proxy_header(ProxyHeader::Forwarded)).await;
    for n in 0..4 {
        let line = format!("for=203.0.113.{n}, for=\"198.51.100.9:{n}\"");
        let a = from(&api, "10.0.0.1", "", list, &[("forwarded", &line), ("x-forwarded-for", "127.0.0.1")]).await;
        assert_eq!(a.status, if n < 3 { 200 } else { 429 });
    }
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[tokio::test]
async fn made_up_keys_count_for_the_address_before_they_are_looked_up() {
    let api = api(limits()).await;
    let list = ("GET", LIST);
    let send = |n: usize| {
        let authorization = bearer(&format!("ecom_{n:043}"));
        let api = &api;
        async move { from(api, "192.0.2.1", "", list, &[("authorization", &authorization)]).await }
    };
    for n in 0..3 {
        let a = send(n).await.refused(401, "UNAUTHENTICATED", "");
        assert_eq!(a.header("x-ratelimit-remaining"), (2 - n).to_string());
    }
    let before = api.shop.storage().statements();
    for n in 0..50 {
        let a = send(n).await.refused(429, "RATE_LIMITED", "");
        assert_eq!((a.header("x-ratelimit-limit"), a.header("retry-after")), ("3", "20"));
    }
    assert_eq!(api.shop.storage().statements(), before, "no key was looked up");
    // Other addresses are not limited, and the routes of health never are.
    let other = bearer("ecom_other");
    from(&api, "192.0.2.2", "", list, &[("authorization", &other)]).await.refused(401, "UNAUTHENTICATED", "");
    from(&api, "192.0.2.1", "", ("GET", "/health/live"), &[("authorization", &other)]).await.ok(200);
}

#[tokio::test]
async fn a_key_that_is_known_counts_for_its_principal_only() {
    let api = api(limits()).await;
    let input = ApiKeyInput::new("robot", [Permission::OrdersRead]);
    let made = api.shop.api_keys().create(&input).await.unwrap();
    let authorization = bearer(made.secret.reveal());
    let headers = [("authorization", &*authorization)];
    let list = ("GET", LIST);
    // The first request is counted for the address too, because nobody knows the key yet.
    assert_eq!(allowed(&api, "192.0.2.1", "", list, &headers).await, 5);
    assert_eq!(allowed(&api, "192.0.2.1", "", list, &[]).await, 2);
    api.clock.advance(Duration::from_secs(60));
    assert_eq!(allowed(&api, "192.0.2.1", "", list, &[]).await, 3);
    // The address has used its quota, and the key has not.
    let a = from(&api, "192.0.2.1", "", list, &headers).await.ok(200);
    assert_eq!(a.header("x-ratelimit-limit"), "5");
    // A key that has ended counts for the address again.
    api.shop.api_keys().delete(made.key.id, 1.into()).await.unwrap();
    let known = from(&api, "192.0.2.3", "", list, &headers).await.refused(401, "UNAUTHENTICATED", "");
    assert_eq!(known.header("x-ratelimit-limit"), "3");
    assert_eq!(allowed(&api, "192.0.2.3", "", list, &headers).await, 2);
    let before = api.shop.storage().statements();
    from(&api, "192.0.2.3", "", list, &headers).await.refused(429, "RATE_LIMITED", "");
    assert_eq!(api.shop.storage().statements(), before);
}

#[tokio::test]
async fn a_request_without_a_place_looks_up_nothing() {
    let api = Api::with(HttpConfig::default().max_requests(0)).await;
    let before = api.shop.storage().statements();
    for key in ["ecom_made_up", "a.b.c"] {
        let headers = [("authorization", &*bearer(key))];
        from(&api, "192.0.2.1", "", ("GET", LIST), &headers).await.refused(503, "UNAVAILABLE", "");
    }
    assert_eq!(api.shop.storage().statements(), before);
    let a = from(&api, "192.0.2.1", "", ("GET", "/health/live"), &[]).await.ok(200);
    assert_eq!(a.header("x-ratelimit-limit"), "");
}

/// A limiter that has to wait for another server.
#[derive(Debug)]
struct Remote(Arc<dyn RateLimiter>);

#[async_trait::async_trait]
impl ecom_core::port::ForwardRateLimiter for Remote {
    fn inner(&self) -> &dyn RateLimiter {
        &*self.0
    }
    fn check_now(&self, _: RateKey, _: Quota) -> Option<RateDecision> {
        None
    }
    async fn check(&self, key: RateKey, quota: Quota) -> RateDecision {
        tokio::task::yield_now().await;
        self.0.check(key, quota).await
    }
}

#[tokio::test]
async fn a_shared_limiter_is_waited_for() {
    let api = Api::limited_by(open().rate_limits(Some(limits())), |own| Arc::new(Remote(own))).await;
    assert_eq!(allowed(&api, "192.0.2.1", "", ("GET", LIST), &[]).await, 3);
    let a = from(&api, "192.0.2.1", "", ("GET", LIST), &[("accept-encoding", "gzip")]).await;
    assert_eq!(a.refused(429, "RATE_LIMITED", "").header("x-ratelimit-limit"), "3");
}

#[test]
fn every_operation_except_health_documents_the_refusal() {
    let document = ecom_http::openapi_json(&open(), "");
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let is_documented = operation["responses"]["429"].is_object();
            assert_eq!(is_documented, !path.starts_with("/health"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn limits_are_readable_by_pages_of_other_origins() {
    let api = Api::with(open().cors_origins(vec!["https://shop.example".to_owned()])).await;
    let a = api.call("GET", LIST, &[("origin", "https://shop.example")], None).await.ok(200);
    let exposed = a.header("access-control-expose-headers").to_ascii_lowercase();
    for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"] {
        assert!(exposed.contains(name), "{exposed}");
    }
}
