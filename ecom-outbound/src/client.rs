//! The HTTP client that refuses addresses that are not public.

use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use derive_setters::Setters;
use ecom_core::{Error, FieldCode, Result, trace};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Url};

/// The settings of an [`OutboundClient`].
#[derive(Debug, Clone, Setters)]
#[non_exhaustive]
pub struct OutboundOptions {
    /// The time limit for opening a connection, including TLS. Default 10 s.
    pub connect_timeout: Duration,
    /// How many redirects are followed at most. Default 5. With 0, a redirect is a response like any other.
    pub max_redirects: usize,
    /// Whether redirects may lead to another host. Set it to false if requests have headers with secrets. Default true.
    pub other_hosts: bool,
    /// The networks that may be called although their addresses are not public.
    #[setters(skip)]
    allowed: Vec<IpNet>,
    #[setters(skip)]
    resolver: Option<Resolver>,
}

impl Default for OutboundOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            max_redirects: 5,
            other_hosts: true,
            allowed: Vec::new(),
            resolver: None,
        }
    }
}

impl OutboundOptions {
    /// Allows the addresses of a network, such as `10.1.0.0/16` or `127.0.0.1`, although they are not public.
    ///
    /// # Errors
    /// `Validation` if the text is neither a network nor an address.
    pub fn allow(mut self, network: &str) -> Result<Self> {
        let parsed = network.parse::<IpNet>().or_else(|_| network.parse::<IpAddr>().map(IpNet::from));
        let message = "must be networks such as 10.1.0.0/16, or addresses";
        self.allowed.push(parsed.map_err(|_| Error::invalid("allow", FieldCode::Malformed, message))?);
        Ok(self)
    }

    /// Replaces the DNS resolver of the system. The addresses that the new one returns are checked too.
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Resolver(Arc::new(resolver)));
        self
    }
}

/// The resolver whose addresses are checked.
#[derive(Clone)]
struct Resolver(Arc<dyn Resolve>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// The reason for which an [`OutboundClient`] refuses a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The URL or the name leads to an address that is not public.
    #[error("the address is not public: it belongs to this machine or to a private network, or is reserved")]
    PrivateAddress,
    /// The URL has another scheme than `http` and `https`, or no host.
    #[error("the URL does not begin with `http://` or `https://`")]
    Scheme,
    /// A redirect leads from `https` to `http`.
    #[error("a redirect leads from https to http")]
    Downgrade,
    /// A redirect leads to another host.
    #[error("a redirect leads to another host, which must not get the headers of the request")]
    OtherHost,
    /// There are too many redirects.
    #[error("there are too many redirects")]
    Redirects,
}

impl Refusal {
    /// Returns the refusal that has made a call fail, if there is one.
    pub fn of(error: &reqwest::Error) -> Option<Self> {
        let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref::<Self>() {
                return Some(*refusal);
            }
            cause = error.source();
        }
        None
    }
}

/// An HTTP client that refuses addresses that are not public; see [the crate](crate). It does not decompress responses.
///
/// ```
/// # async fn app() -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_outbound::{OutboundClient, OutboundOptions, Refusal};
///
/// let client = OutboundClient::new(&OutboundOptions::default())?;
/// let metadata = "http://169.254.169.254/latest/meta-data/".parse()?;
/// assert_eq!(client.get(&metadata).err(), Some(Refusal::PrivateAddress));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OutboundClient {
    http: Client,
    rules: Rules,
}

/// What is checked of a URL before it is called.
#[derive(Debug, Clone)]
struct Rules {
    allowed: Arc<[IpNet]>,
    other_hosts: bool,
    max_redirects: usize,
}

impl OutboundClient {
    /// Returns a client. Nothing is called yet.
    ///
    /// # Errors
    /// `Internal` if the client cannot be made.
    pub fn new(options: &OutboundOptions) -> Result<Self> {
        let OutboundOptions { connect_timeout, max_redirects, other_hosts, allowed, resolver } = options.clone();
        let rules = Rules { allowed: allowed.into(), other_hosts, max_redirects };
        let (of_redirects, of_names) = (rules.clone(), rules.clone());
        let resolver = resolver.unwrap_or_else(|| Resolver(Arc::new(OfMachine)));
        let redirects = match max_redirects {
            0 => Policy::none(),
            _ => Policy::custom(move |attempt| match of_redirects.follows(attempt.previous(), attempt.url()) {
                Ok(()) => attempt.follow(),
                Err(refusal) => attempt.error(refusal),
            }),
        };
        let http = Client::builder()
            .no_proxy()
            // It would contain the query of a URL, and with it a key.
            .referer(false)
            // Another crate of the program may turn these on for all clients, and limits would count other bytes.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(concat!("ecom/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .redirect(redirects)
            .dns_resolver(Arc::new(Guarded { resolver, rules: of_names }))
            .build()
            .map_err(|e| Error::internal("making an HTTP client", e))?;
        Ok(Self { http, rules })
    }

    /// Checks the scheme of a URL, and its host if that is an address or `localhost`, without a call.
    ///
    /// # Errors
    /// The [`Refusal`] of the URL.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        self.rules.check(url)
    }

    /// Returns a request for a URL, which the caller completes and sends.
    ///
    /// # Errors
    /// The [`Refusal`] of the URL. A name is checked when the request is sent; [`Refusal::of`] finds out whether an
    /// error is a refusal.
    pub fn get(&self, url: &Url) -> Result<RequestBuilder, Refusal> {
        self.rules.check(url)?;
        Ok(traced(self.http.get(url.clone())))
    }

    /// As [`Self::get`], for a request with the method POST.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn post(&self, url: &Url) -> Result<RequestBuilder, Refusal> {
        self.rules.check(url)?;
        Ok(traced(self.http.post(url.clone())))
    }
}

/// Adds the headers that continue the trace of the current span, if it belongs to one.
fn traced(request: RequestBuilder) -> RequestBuilder {
    trace::headers().into_iter().fold(request, |request, (name, value)| request.header(name, value))
}

impl Rules {
    /// Returns true for an address that may be called.
    fn reaches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }

    /// Checks the scheme of a URL, and the host if that is an address or `localhost` (RFC 6761).
    fn check(&self, url: &Url) -> Result<(), Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme);
        }
        let host = url.host_str().ok_or(Refusal::Scheme)?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let plain = host.trim_end_matches('.');
        let is_this_machine = plain == "localhost" || plain.ends_with(".localhost");
        let reaches = match address {
            // The resolver is not asked for addresses.
            Ok(address) => self.reaches(address),
            Err(_) if is_this_machine => {
                self.reaches(Ipv4Addr::LOCALHOST.into()) || self.reaches(Ipv6Addr::LOCALHOST.into())
            }
            Err(_) => true,
        };
        if reaches { Ok(()) } else { Err(Refusal::PrivateAddress) }
    }

    /// Checks a redirect: the URLs before it, and where it leads.
    fn follows(&self, before: &[Url], to: &Url) -> Result<(), Refusal> {
        // The first URL is no redirect.
        if before.len() > self.max_redirects {
            return Err(Refusal::Redirects);
        }
        self.check(to)?;
        let Some(from) = before.last() else { return Ok(()) };
        if from.scheme() == "https" && to.scheme() != "https" {
            return Err(Refusal::Downgrade);
        }
        let is_upgrade = from.scheme() == "http" && to.scheme() == "https" && to.port().is_none();
        let same_host = from.host_str() == to.host_str()
            && (from.port_or_known_default() == to.port_or_known_default() || is_upgrade);
        if self.other_hosts || same_host { Ok(()) } else { Err(Refusal::OtherHost) }
    }
}

/// The resolver of the machine.
struct OfMachine;

impl Resolve for OfMachine {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

/// A resolver that removes the addresses that must not be called. Connections are made to what it returns.
struct Guarded {
    resolver: Resolver,
    rules: Rules,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, rules) = (self.resolver.0.resolve(name), self.rules.clone());
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.collect();
            let none = all.is_empty();
            let kept: Vec<SocketAddr> = all.into_iter().filter(|a| rules.reaches(a.ip())).collect();
            if kept.is_empty() && !none {
                return Err(Refusal::PrivateAddress.into());
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

/// Returns true for an address of the public internet. It is false for the blocks of the IANA registries of
/// special-purpose addresses that are not globally reachable, for multicast, for addresses that contain such an IPv4
/// address (mapped, NAT64, 6to4), and for the metadata service of Azure, which has a public address.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

#[expect(clippy::unnested_or_patterns, reason = "each block stands for itself, as in the registry")]
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, d] = address.octets();
    !matches!(
        (a, b, c, d),
        // This network; private (RFC 1918); shared by carriers (RFC 6598), with the metadata of Alibaba; loopback.
        (0 | 10 | 127, ..) | (100, 64..=127, ..) | (172, 16..=31, ..) | (192, 168, ..)
        // Link-local, with the metadata of most clouds; of protocols, with the metadata of Oracle; relays of 6to4.
        | (169, 254, ..) | (192, 0, 0, _) | (192, 88, 99, _)
        // Documentation; benchmarks.
        | (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) | (198, 18..=19, ..)
        // Multicast; reserved and broadcast.
        | (224..=255, ..)
        // The metadata of Azure.
        | (168, 63, 129, 16)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let s = address.segments();
    let v4_at = |n: usize| {
        let [high, low] = [s[n], s[n + 1]].map(u16::to_be_bytes);
        is_public_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]))
    };
    match s {
        // With an IPv4 address: mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => v4_at(6),
        [0x2002, ..] => v4_at(1),
        // Only this part is given to hosts. Loopback, private, link-local and multicast addresses are outside of it,
        // those of protocols (with Teredo) and of documentation within.
        [0x2000..=0x3fff, ..] => !matches!(s, [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_machines_networks_and_clouds_are_not_public() {
        let private = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "168.63.129.17",
            "169.253.0.1",
            "192.0.1.1",
            "192.167.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
        ];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_redirect_does_not_leave_https_or_the_host_of_secrets() {
        let rules = |other_hosts| Rules { allowed: Arc::from([]), other_hosts, max_redirects: 5 };
        let url = |text: &str| text.parse::<Url>().unwrap();
        let follows = |from: &str, to: &str, other_hosts| rules(other_hosts).follows(&[url(from)], &url(to)).err();
        let (plain, safe) = ("http://example.com/a", "https://example.com/b");
        assert_eq!(follows(plain, safe, false), None);
        assert_eq!(follows(safe, plain, true), Some(Refusal::Downgrade));
        assert_eq!(follows(safe, "https://example.org/", true), None);
        assert_eq!(follows(safe, "https://example.org/", false), Some(Refusal::OtherHost));
        assert_eq!(follows(safe, "https://example.com:8443/", false), Some(Refusal::OtherHost));
        assert_eq!(follows(plain, "https://example.com:8443/", false), Some(Refusal::OtherHost));
        assert_eq!(follows(safe, "https://10.0.0.1/", true), Some(Refusal::PrivateAddress));
        assert_eq!(follows(safe, "ftp://example.com/", true), Some(Refusal::Scheme));
        let many = vec![url(safe); 6];
        assert_eq!(rules(true).follows(&many, &url(safe)).err(), Some(Refusal::Redirects));
        assert_eq!(rules(true).follows(&many[1..], &url(safe)).err(), None);
    }

    #[test]
    fn a_url_is_refused_for_its_scheme_or_for_an_address_in_any_notation() {
        let client = OutboundClient::new(&OutboundOptions::default()).unwrap();
        let refused = |url: &str| client.get(&url.parse().unwrap()).err();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "http://user:secret@10.0.0.1:8080/",
        ] {
            assert_eq!(refused(url), Some(Refusal::PrivateAddress), "{url}");
        }
        for url in ["file:///etc/passwd", "ftp://8.8.8.8/", "data:text/plain,x"] {
            assert_eq!(refused(url), Some(Refusal::Scheme), "{url}");
        }
        assert_eq!(refused("https://1.1.1.1/"), None);
        let options = OutboundOptions::default().allow("10.1.0.0/16").unwrap().allow("::1").unwrap();
        let inside = OutboundClient::new(&options).unwrap();
        let allowed = |url: &str| inside.check(&url.parse().unwrap()).is_ok();
        assert!(allowed("http://10.1.2.3/") && allowed("http://[::ffff:10.1.2.3]/") && allowed("http://[::1]/"));
        assert!(!allowed("http://10.2.0.1/") && !allowed("http://127.0.0.1/"));
        assert!(OutboundOptions::default().allow("localhost").is_err());
    }
}
