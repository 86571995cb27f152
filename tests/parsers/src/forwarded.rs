use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderValue;
use ecom_core::port::{Quota, RateDecision, RateKey, RateLimiter};
use ecom_http::{HttpConfig, ProxyHeader, RateLimits};
use parking_lot::Mutex;

use crate::shop::{TestShop, kept};

/// A rate limiter that notes for whom a request counts.
#[derive(Debug, Default)]
struct Noting(Mutex<Option<RateKey>>);

#[async_trait::async_trait]
impl RateLimiter for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn check_now(&self, key: RateKey, quota: Quota) -> Option<RateDecision> {
        *self.0.lock() = Some(key);
        Some(RateDecision::allowed(quota, 0))
    }

    async fn check(&self, key: RateKey, quota: Quota) -> RateDecision {
        *self.0.lock() = Some(key);
        RateDecision::allowed(quota, 0)
    }

    async fn ping(&self) -> ecom_core::Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

/// A server that trusts the proxies of a network and reads one header.
struct Server {
    shop: TestShop,
    noted: Arc<Noting>,
    header: ProxyHeader,
}

thread_local! {
    static SERVERS: &'static [Server] = kept(ProxyHeader::ALL.map(|header| {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().expect("a network")).to_vec();
        let limits = RateLimits::default().trusted_proxies(trusted).proxy_header(header);
        let noted = Arc::new(Noting::default());
        let limiter = noted.clone();
        let shop = TestShop::new(HttpConfig::default().rate_limits(Some(limits)), |_| limiter);
        Server { shop, noted, header }
    }));
}

const CLIENT: &str = "198.51.100.7";
const STRANGER: &str = "203.0.113.9";
/// The proxy that is the peer of the server, and one before it.
const PROXIES: [&str; 2] = ["10.0.0.1", "10.1.1.1"];

impl Server {
    /// Returns for whom a request counts that comes from `peer` with these lines of the header.
    fn counted(&self, peer: &str, lines: &[HeaderValue]) -> RateKey {
        let mut request = Request::get("/nothing");
        for line in lines {
            request = request.header(self.header.name(), line);
        }
        let peer: IpAddr = peer.parse().expect("an address");
        let mut request = request.body(axum::body::Body::empty()).expect("valid HTTP");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer, 4_711)));
        *self.noted.0.lock() = None;
        self.shop.answer(request);
        self.noted.0.lock().expect("the request is counted")
    }

    /// Panics unless a request counts for one of `allowed`.
    fn check(&self, peer: &str, lines: &[HeaderValue], allowed: &[&str]) {
        let found = self.counted(peer, lines);
        let is_allowed = allowed.iter().any(|address| self.counted(address, &[]) == found);
        assert!(is_allowed, "{}: {lines:?} from {peer} counts for none of {allowed:?}", self.header.name());
    }
}

/// Headers that name the client: whatever a client sends, its request counts for the address from which it came to the
/// first trusted proxy, or, if the line that the proxy has extended cannot be read, for a proxy.
///
/// The input has the lines that the client sends, separated by line feeds.
pub fn forwarded(input: &[u8]) {
    let sent: Vec<HeaderValue> =
        input.split(|b| *b == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).take(20).collect();
    SERVERS.with(|servers| {
        for server in *servers {
            let [peer, before] = PROXIES;
            // Without a proxy, nothing counts but the peer.
            server.check(STRANGER, &sent, &[STRANGER]);
            if server.header == ProxyHeader::XRealIp {
                // The proxy replaces the header, or adds a line.
                server.check(peer, &[node(server.header, CLIENT)], &[CLIENT]);
            }
            // Each proxy adds a line of its own.
            let added = [&sent[..], &[node(server.header, CLIENT)]].concat();
            server.check(peer, &added, &[CLIENT]);
            if server.header == ProxyHeader::XRealIp {
                continue;
            }
            let twice = [&added[..], &[node(server.header, before)]].concat();
            server.check(peer, &twice, &[CLIENT]);
            // Each proxy extends the last line.
            let Some((last, first)) = sent.split_last() else { continue };
            let extended = joined(last, &node(server.header, CLIENT));
            server.check(peer, &[first, std::slice::from_ref(&extended)].concat(), &[CLIENT, peer]);
            let extended = joined(&extended, &node(server.header, before));
            server.check(peer, &[first, &[extended]].concat(), &[CLIENT, before, peer]);
        }
    });
}

/// Returns what a proxy adds for an address.
fn node(header: ProxyHeader, address: &str) -> HeaderValue {
    let text = if header == ProxyHeader::Forwarded { format!("for={address}") } else { address.to_owned() };
    HeaderValue::try_from(text).expect("an address is a header")
}

fn joined(line: &HeaderValue, more: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(&[line.as_bytes(), b", ", more.as_bytes()].concat()).expect("two headers are one")
}
