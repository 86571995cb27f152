//! Rate limits: which quota a request has, and for whom it counts.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use derive_setters::Setters;
use ecom_core::access::Principal;
use ecom_core::port::{Quota, RateDecision, RateKey};
use ipnet::IpNet;

use super::client::{ProxyHeader, client};
use crate::app::HttpConfig;

pub(crate) const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
pub(crate) const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
pub(crate) const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The quotas of requests. `principal` and `orders` count per principal, `orders` per address without one; the others
/// count per client address. An address of IPv6 counts with all others of its /64 network. A quota of `None` does not
/// limit.
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[non_exhaustive]
pub struct RateLimits {
    /// Requests without a principal, per address, and requests with an API key that this process has not verified yet,
    /// before the key is looked up. Default 100 in 60 s.
    pub address: Option<Quota>,
    /// Requests with a [`Principal`] in their extensions, per principal. Default 1,000 in 60 s.
    pub principal: Option<Quota>,
    /// Logins, changes of passwords, and requests for mails and their tokens, per address. Default 10 in 60 s.
    pub login: Option<Quota>,
    /// Registrations, per address. Default 10 in an hour.
    pub registration: Option<Quota>,
    /// Orders that are placed, per principal or address. Default 30 in 60 s.
    pub orders: Option<Quota>,
    /// The networks of the proxies whose [`Self::proxy_header`] names the client. Default none.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which the trusted proxies name the client. The proxy must set it or append to it. Default
    /// `X-Forwarded-For`.
    pub proxy_header: ProxyHeader,
}

impl Default for RateLimits {
    fn default() -> Self {
        let in_a_minute = |limit| Some(Quota::new(limit, Duration::from_secs(60)));
        Self {
            address: in_a_minute(100),
            principal: in_a_minute(1_000),
            login: in_a_minute(10),
            registration: Some(Quota::new(10, Duration::from_secs(3_600))),
            orders: in_a_minute(30),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::default(),
        }
    }
}

impl RateLimits {
    /// Returns the key under which the calls of a client are counted, for quotas that an application has itself.
    ///
    /// `kind` separates the quota from others, `peer` is the address of the connection, and `headers` are those of the
    /// request. If the peer is one of [`Self::trusted_proxies`], the client is the one that [`Self::proxy_header`]
    /// names. An address of IPv6 counts with all others of its /64 network.
    pub fn client_key(&self, kind: &str, peer: IpAddr, headers: &HeaderMap) -> RateKey {
        match client(peer, headers, self.proxy_header, &self.trusted_proxies) {
            IpAddr::V4(address) => RateKey::new(kind, &address.octets()),
            // A subscriber has at least a /64 network.
            IpAddr::V6(address) => RateKey::new(kind, &address.octets()[..8]),
        }
    }
}

/// A kind of requests that has a quota of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Login,
    Registration,
    Orders,
}

/// The routes of each class, below the API prefix. `{}` stands for one segment.
const ROUTES: [(Method, &str, Class); 9] = [
    (Method::POST, "/auth/login", Class::Login),
    (Method::POST, "/auth/password", Class::Login),
    (Method::POST, "/auth/verify", Class::Login),
    (Method::POST, "/auth/verify/resend", Class::Login),
    (Method::POST, "/auth/forgot-password", Class::Login),
    (Method::POST, "/auth/reset-password", Class::Login),
    (Method::POST, "/auth/register", Class::Registration),
    (Method::POST, "/orders", Class::Orders),
    (Method::POST, "/carts/{}/checkout", Class::Orders),
];

impl Class {
    /// Returns the class of a request, or `None` if it has no quota of its own.
    fn of(method: &Method, path: &str, prefix: &str) -> Option<Self> {
        if *method != Method::POST {
            return None;
        }
        // Routes also match with a trailing slash.
        let path = path.strip_prefix(prefix)?.trim_end_matches('/');
        let matches = |pattern: &str| {
            let (mut found, mut wanted) = (path.split('/'), pattern.split('/'));
            loop {
                match (found.next(), wanted.next()) {
                    (None, None) => return true,
                    (Some(f), Some(w)) if f == w || (w == "{}" && !f.is_empty()) => {}
                    _ => return false,
                }
            }
        };
        ROUTES.iter().find(|(_, pattern, _)| matches(pattern)).map(|(_, _, class)| *class)
    }
}

/// The limit of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub key: RateKey,
    pub quota: Quota,
    /// The name of the quota in log lines.
    pub name: &'static str,
    /// Whether the quota is that of requests without a principal, per address.
    pub counts_address: bool,
}

/// Returns the limit of a request, or `None` if it is not limited.
pub(super) fn limit(request: &Request, config: &HttpConfig) -> Option<Limit> {
    let limits = config.rate_limits.as_ref()?;
    let principal = request.extensions().get::<Principal>();
    let class = Class::of(request.method(), request.uri().path(), &config.api_prefix);
    let (name, quota) = match (class, principal) {
        (Some(Class::Login), _) => ("login", limits.login),
        (Some(Class::Registration), _) => ("registration", limits.registration),
        (Some(Class::Orders), _) => ("orders", limits.orders),
        (None, Some(_)) => ("principal", limits.principal),
        (None, None) => ("address", limits.address),
    };
    let quota = quota?;
    // Logins and registrations count for the address, even if the request has a principal.
    let by_principal = principal.filter(|_| !matches!(class, Some(Class::Login | Class::Registration)));
    let key = match by_principal {
        // The first byte separates the names of actors from addresses.
        Some(principal) => RateKey::new(name, &[b"a", principal.actor().as_str().as_bytes()].concat()),
        None => key_of_client(name, request, limits)?,
    };
    Some(Limit { key, quota, name, counts_address: (class, principal) == (None, None) })
}

/// Returns the limit of the client's address, or `None` if addresses are not limited.
pub(super) fn address_limit(request: &Request, config: &HttpConfig) -> Option<Limit> {
    let limits = config.rate_limits.as_ref()?;
    let (name, quota) = ("address", limits.address?);
    Some(Limit { key: key_of_client(name, request, limits)?, quota, name, counts_address: true })
}

/// Returns the key of the client of a request, or `None` if the server does not tell the address of the peer.
fn key_of_client(kind: &str, request: &Request, limits: &RateLimits) -> Option<RateKey> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        if !WARNED.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "requests have no `ConnectInfo<SocketAddr>`, so that they are not limited by address: use \
                 `ecom_http::serve`, or axum's `into_make_service_with_connect_info`"
            );
        }
        return None;
    };
    Some(limits.client_key(kind, peer.ip(), request.headers()))
}

/// Adds the headers of a decision to a response.
pub(super) fn with_limit(headers: &mut HeaderMap, decision: &RateDecision) {
    let numbers = [
        (X_RATELIMIT_LIMIT, decision.limit.into()),
        (X_RATELIMIT_REMAINING, decision.remaining.into()),
        (X_RATELIMIT_RESET, whole_seconds(decision.reset)),
    ];
    // `HeaderValue::from(u64)` allocates twice, so the three values share one buffer.
    let (mut text, mut ends) = (String::with_capacity(32), [0; 3]);
    for ((_, number), end) in numbers.iter().zip(&mut ends) {
        let _ = write!(text, "{number}");
        *end = text.len();
    }
    let (text, mut start) = (Bytes::from(text), 0);
    for ((name, _), end) in numbers.into_iter().zip(ends) {
        if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
            headers.insert(name, value);
        }
        start = end;
    }
    if let Some(wait) = decision.retry_after {
        headers.insert(RETRY_AFTER, whole_seconds(wait).max(1).into());
    }
}

/// Returns a time in whole seconds, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_their_classes() {
        let class = |method: Method, path: &str| Class::of(&method, path, "/api/v1");
        for (path, expected) in [
            ("/api/v1/orders", Some(Class::Orders)),
            ("/api/v1/orders/", Some(Class::Orders)),
            ("/api/v1/carts/0197-a/checkout", Some(Class::Orders)),
            ("/api/v1/carts/0197-a/checkout//", Some(Class::Orders)),
            ("/api/v1/auth/login", Some(Class::Login)),
            ("/api/v1/auth/verify", Some(Class::Login)),
            ("/api/v1/auth/verify/resend", Some(Class::Login)),
            ("/api/v1/auth/forgot-password/", Some(Class::Login)),
            ("/api/v1/auth/reset-password", Some(Class::Login)),
            ("/api/v1/auth/register", Some(Class::Registration)),
            ("/api/v1/carts//checkout", None),
            ("/api/v1/carts/0197-a/lines", None),
            ("/api/v1/orders/0197-a/cancel", None),
            ("/api/v1/products", None),
            ("/orders", None),
        ] {
            assert_eq!(class(Method::POST, path), expected, "{path}");
            assert_eq!(class(Method::GET, path), None, "{path}");
        }
        assert_eq!(Class::of(&Method::POST, "/orders", ""), Some(Class::Orders));
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_count_together() {
        let limits = RateLimits::default();
        let key = |address: &str| limits.client_key("address", address.parse().unwrap(), &HeaderMap::new());
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn a_key_is_that_of_the_client_behind_a_trusted_proxy() {
        let limits = RateLimits::default().trusted_proxies(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        let key = |peer: &str, headers: &HeaderMap| limits.client_key("forms", peer.parse().unwrap(), headers);
        let of_client = key("192.0.2.1", &HeaderMap::new());
        assert_eq!(key("10.0.0.1", &headers), of_client);
        assert_ne!(key("203.0.113.9", &headers), of_client);
    }

    #[test]
    fn times_are_rounded_up() {
        for (millis, seconds) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
