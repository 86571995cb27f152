//! The address of a client behind proxies.
//!
//! A header that names the client counts only if the peer of the connection is a trusted proxy. Each proxy appends the
//! address from which it has received the request, so the list is read from its end: the first address that is not that
//! of a trusted proxy is the client's. What stands before it was sent by the client, which may write anything.
//!
//! Only one header is read, and the setting names it, because a proxy passes the others on as the client has sent them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// The header in which trusted proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, to which each proxy appends one.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): elements with the parameter `for`, to which each proxy appends one.
    Forwarded,
    /// `X-Real-IP`: one address, which the proxy sets.
    XRealIp,
}

impl ProxyHeader {
    /// Every header.
    pub const ALL: [Self; 3] = [Self::XForwardedFor, Self::Forwarded, Self::XRealIp];

    /// Returns the name of the header.
    pub const fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
            Self::XRealIp => HeaderName::from_static("x-real-ip"),
        }
    }
}

/// The error for a text that is not the name of a [`ProxyHeader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownProxyHeader;

impl FromStr for ProxyHeader {
    type Err = UnknownProxyHeader;

    fn from_str(name: &str) -> Result<Self, UnknownProxyHeader> {
        Self::ALL.into_iter().find(|h| name.eq_ignore_ascii_case(h.name().as_str())).ok_or(UnknownProxyHeader)
    }
}

/// Returns the address of the client of a request that came from `peer`.
///
/// If a trusted proxy names no client, or what it names cannot be read, its own address is returned, so that nobody
/// evades a limit by a malformed header.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, header: ProxyHeader, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut last = peer.to_canonical();
    if !is_trusted(&last) {
        return last;
    }
    let name = header.name();
    // Several lines are one list, in their order.
    for value in headers.get_all(&name).iter().rev() {
        for hop in hops(header, value).rev() {
            let Some(address) = hop else { return last };
            last = address;
            if !is_trusted(&address) || header == ProxyHeader::XRealIp {
                return last;
            }
        }
    }
    last
}

/// Returns the addresses of a line, in their order. `None` is one that cannot be read.
fn hops(header: ProxyHeader, value: &HeaderValue) -> impl DoubleEndedIterator<Item = Option<IpAddr>> {
    let Ok(text) = value.to_str() else { return Hops::Unreadable(Some(None).into_iter()) };
    match header {
        ProxyHeader::XForwardedFor => Hops::Plain(text.split(',')),
        ProxyHeader::XRealIp => Hops::Unreadable(Some(node(text)).into_iter()),
        ProxyHeader::Forwarded => Hops::Elements(forwarded(text).into_iter()),
    }
}

enum Hops<'a> {
    Plain(std::str::Split<'a, char>),
    Elements(std::vec::IntoIter<Option<IpAddr>>),
    Unreadable(std::option::IntoIter<Option<IpAddr>>),
}

impl Iterator for Hops<'_> {
    type Item = Option<IpAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Plain(items) => items.next().map(node),
            Self::Elements(items) => items.next(),
            Self::Unreadable(item) => item.next(),
        }
    }
}

impl DoubleEndedIterator for Hops<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Self::Plain(items) => items.next_back().map(node),
            Self::Elements(items) => items.next_back(),
            Self::Unreadable(item) => item.next_back(),
        }
    }
}

/// Reads an address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`. Returns `None` for anything else, such as `unknown` or a name that hides the address.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse::<Ipv6Addr>().ok()?),
            None => text.parse::<SocketAddr>().ok()?.ip(),
        },
    };
    Some(address.to_canonical())
}

/// Returns the addresses of the parameters `for` of a header `Forwarded`, one for each element. A line that does not
/// follow the grammar is one element without an address.
fn forwarded(text: &str) -> Vec<Option<IpAddr>> {
    let mut elements = Vec::new();
    let mut rest = text;
    loop {
        let mut found = None;
        loop {
            // Empty pairs and elements are allowed.
            rest = rest.trim_start_matches([' ', '\t']);
            if let Some(after) = rest.strip_prefix(';') {
                rest = after;
                continue;
            }
            if rest.is_empty() || rest.starts_with(',') {
                break;
            }
            let Some((name, value, after)) = pair(rest) else { return vec![None] };
            if name.eq_ignore_ascii_case("for") {
                // A parameter occurs once in an element.
                found = if found.is_none() { Some(node(&value)) } else { Some(None) };
            }
            rest = after.trim_start_matches([' ', '\t']);
            if !(rest.is_empty() || rest.starts_with([';', ','])) {
                return vec![None];
            }
        }
        elements.push(found.flatten());
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None => return elements,
        }
    }
}

/// Reads `name=value`, whose value is a token or a quoted string. Returns them and the text that follows.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        // Some proxies do not quote an address of IPv6, or one with a port.
        let end = rest.find([';', ',', ' ', '\t', '"']).unwrap_or(rest.len());
        let (value, after) = rest.split_at(end);
        return (!value.is_empty()).then(|| (name, value.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trusted() -> Vec<IpNet> {
        ["10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap()).to_vec()
    }

    fn of(peer: &str, header: ProxyHeader, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), HeaderValue::from_str(line).unwrap());
        }
        client(peer.parse().unwrap(), &headers, header, &trusted()).to_string()
    }

    #[test]
    fn a_peer_that_is_no_proxy_is_the_client_whatever_it_says() {
        for header in ProxyHeader::ALL {
            for line in ["198.51.100.7", "for=198.51.100.7", "10.0.0.1"] {
                assert_eq!(of("203.0.113.9", header, &[line]), "203.0.113.9", "{line}");
                assert_eq!(of("::ffff:203.0.113.9", header, &[line]), "203.0.113.9", "{line}");
            }
        }
    }

    #[test]
    fn a_proxy_names_the_client() {
        use ProxyHeader::{Forwarded, XForwardedFor, XRealIp};
        for (header, lines, found) in [
            (XForwardedFor, &["198.51.100.7"][..], "198.51.100.7"),
            // A client sends a list of its own, to which the proxies append.
            (XForwardedFor, &["127.0.0.1, 192.0.2.1, 198.51.100.7"], "198.51.100.7"),
            (XForwardedFor, &["127.0.0.1", "198.51.100.7, 10.1.1.1", "10.2.2.2"], "198.51.100.7"),
            (XForwardedFor, &["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
            (XForwardedFor, &["198.51.100.7:4711"], "198.51.100.7"),
            (XForwardedFor, &["[2001:db8::7]:4711"], "2001:db8::7"),
            (XForwardedFor, &["[2001:db8::7]"], "2001:db8::7"),
            (XForwardedFor, &["2001:db8::7"], "2001:db8::7"),
            (XForwardedFor, &["::ffff:198.51.100.7"], "198.51.100.7"),
            (XForwardedFor, &["198.51.100.7, ::ffff:10.1.1.1"], "198.51.100.7"),
            (XForwardedFor, &["198.51.100.7, 2001:db8:1::5"], "198.51.100.7"),
            // What cannot be read belongs to the proxy that has sent it.
            (XForwardedFor, &["198.51.100.7, unknown"], "10.0.0.1"),
            (XForwardedFor, &["198.51.100.7, garbage, 10.1.1.1"], "10.1.1.1"),
            (XForwardedFor, &[""], "10.0.0.1"),
            (XForwardedFor, &["198.51.100.7,"], "10.0.0.1"),
            (XForwardedFor, &["198.51.100.7, 1.2.3.4.5"], "10.0.0.1"),
            (XForwardedFor, &["198.51.100.7, fe80::1%eth0"], "10.0.0.1"),
            (XForwardedFor, &["198.51.100.7, 010.0.0.1"], "10.0.0.1"),
            (XForwardedFor, &[], "10.0.0.1"),
            (XRealIp, &["198.51.100.7"], "198.51.100.7"),
            (XRealIp, &["127.0.0.1", "198.51.100.7"], "198.51.100.7"),
            (XRealIp, &["127.0.0.1, 198.51.100.7"], "10.0.0.1"),
            (Forwarded, &["for=198.51.100.7"], "198.51.100.7"),
            (Forwarded, &["For=\"198.51.100.7:4711\";proto=https;by=203.0.113.43"], "198.51.100.7"),
            (Forwarded, &["for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
            (Forwarded, &["for=\"[2001:db8:cafe::17]\""], "2001:db8:cafe::17"),
            (Forwarded, &["for=127.0.0.1, for=198.51.100.7;host=\"a,b;for=1.1.1.1\", for=10.1.1.1"], "198.51.100.7"),
            (Forwarded, &["for=127.0.0.1", "for=198.51.100.7 , for=10.1.1.1"], "198.51.100.7"),
            (Forwarded, &["host=\"a\\\"b\";for=198.51.100.7"], "198.51.100.7"),
            (Forwarded, &["for=\"\\1\\98.51.100.7\""], "198.51.100.7"),
            // Hidden addresses.
            (Forwarded, &["for=198.51.100.7, for=_hidden"], "10.0.0.1"),
            (Forwarded, &["for=198.51.100.7, for=unknown, for=10.1.1.1"], "10.1.1.1"),
            (Forwarded, &["for=198.51.100.7, proto=https"], "10.0.0.1"),
            (Forwarded, &["for=198.51.100.7;for=127.0.0.1"], "10.0.0.1"),
            // A quote that the client opens cannot swallow what the proxy appends and leave an address of its choice.
            (Forwarded, &["for=\"127.0.0.1, for=198.51.100.7"], "10.0.0.1"),
            (Forwarded, &["for=127.0.0.1;x=\", for=198.51.100.7"], "10.0.0.1"),
            (Forwarded, &["for=\"127.0.0.1\\", "for=198.51.100.7"], "198.51.100.7"),
            (Forwarded, &["for", "=1"], "10.0.0.1"),
            (Forwarded, &["for="], "10.0.0.1"),
            (Forwarded, &["for=198.51.100.7 127.0.0.1"], "10.0.0.1"),
        ] {
            assert_eq!(of("10.0.0.1", header, lines), found, "{header:?} {lines:?}");
            assert_eq!(of("::ffff:10.0.0.1", header, lines), found, "{header:?} {lines:?}");
        }
    }

    #[test]
    fn only_the_header_of_the_setting_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.7"));
        headers.insert("x-real-ip", HeaderValue::from_static("127.0.0.1"));
        headers.insert("forwarded", HeaderValue::from_static("for=127.0.0.1"));
        let found = client("10.0.0.1".parse().unwrap(), &headers, ProxyHeader::XForwardedFor, &trusted());
        assert_eq!(found.to_string(), "198.51.100.7");
    }

    #[test]
    fn a_very_long_list_is_read_from_its_end() {
        let line = format!("{}198.51.100.7", "127.0.0.1,".repeat(3_000));
        assert_eq!(of("10.0.0.1", ProxyHeader::XForwardedFor, &[&line]), "198.51.100.7");
        let line = format!("{}for=198.51.100.7", "for=127.0.0.1,".repeat(3_000));
        assert_eq!(of("10.0.0.1", ProxyHeader::Forwarded, &[&line]), "198.51.100.7");
    }

    proptest! {
        #[test]
        fn no_header_makes_a_parser_panic(bytes: Vec<u8>, text in "[fFoOrR=\"\\\\,; \\[\\]:.0-9a-f_%-]{0,60}") {
            let texts = [String::from_utf8_lossy(&bytes).into_owned(), text];
            for value in [HeaderValue::from_bytes(&bytes), HeaderValue::from_str(&texts[1])].into_iter().flatten() {
                for header in ProxyHeader::ALL {
                    let mut headers = HeaderMap::new();
                    headers.insert(header.name(), value.clone());
                    client("10.0.0.1".parse().unwrap(), &headers, header, &trusted());
                }
            }
            for text in &texts {
                node(text);
                forwarded(text);
            }
        }

        /// Whatever a client sends, what the proxy appends decides.
        #[test]
        fn a_client_never_chooses_its_address(sent in "[ -~]{0,80}", last: [u8; 4]) {
            let address = IpAddr::from(last);
            prop_assume!(last[0] != 10);
            for (header, appended) in [
                (ProxyHeader::XForwardedFor, format!("{sent}, {address}")),
                (ProxyHeader::Forwarded, format!("{sent}, for={address}")),
            ] {
                let found = of("10.0.0.1", header, &[&appended]);
                prop_assert!(found == address.to_string() || found == "10.0.0.1", "{} is {}", appended, found);
            }
        }
    }
}
