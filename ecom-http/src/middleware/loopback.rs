//! The refusal of requests that do not name this machine ([`HttpConfig::loopback_only`]).

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Uri};
use ecom_core::ErrorCode;

use crate::app::HttpConfig;
use crate::error::{ApiError, ApiResult};

/// Refuses a request that a page of another site may have made, if the settings ask for it. A page can make a browser
/// send a request to a name of its own that leads to this machine, but then `Host` is that name, and it cannot change
/// `Origin`.
pub(super) fn check(request: &Request, config: &HttpConfig) -> ApiResult<()> {
    if !config.loopback_only {
        return Ok(());
    }
    let headers = request.headers();
    let mut hosts =
        headers.get_all(HOST).iter().map(is_loopback_host).chain(request.uri().authority().map(is_loopback));
    // No host at all is none of this machine.
    if hosts.next() != Some(true) || hosts.any(|is_loopback| !is_loopback) {
        let message = "the server needs no login, so it accepts only requests whose Host is this machine, such as \
                       localhost or 127.0.0.1: use that address, or turn authentication on";
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    let is_allowed = |origin: &HeaderValue| {
        let named = config.cors_origins.iter().any(|allowed| allowed != "*" && allowed.as_bytes() == origin.as_bytes());
        named || is_loopback_origin(origin)
    };
    if headers.get_all(ORIGIN).iter().all(is_allowed) {
        return Ok(());
    }
    let message = "the server needs no login, so it accepts no requests of pages of other sites: allow the origin by \
                   name (CORS), or turn authentication on";
    Err(ApiError::new(ErrorCode::Forbidden, message))
}

fn is_loopback_host(host: &HeaderValue) -> bool {
    host.to_str().ok().and_then(|host| host.parse().ok()).is_some_and(|host| is_loopback(&host))
}

fn is_loopback_origin(origin: &HeaderValue) -> bool {
    let uri = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some_and(is_loopback)
    })
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match address.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn is_accepted(uri: &str, headers: &[(&str, &str)]) -> bool {
        let origins = vec!["https://app.example".to_owned(), "*".to_owned()];
        let config = HttpConfig::default().loopback_only(true).cors_origins(origins);
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(Body::empty()).unwrap(), &config).is_ok()
    }

    #[test]
    fn only_hosts_of_this_machine_are_accepted() {
        for good in
            ["localhost", "LocalHost:8000", "shop.localhost", "127.0.0.1:8000", "127.8.9.1", "[::1]:80", "[::1]"]
        {
            assert!(is_accepted("/", &[("host", good)]), "{good}");
            assert!(is_accepted(&format!("http://{good}/"), &[]), "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:8000",
            "localhost.evil.example",
            "evillocalhost",
            "127.0.0.1.evil.example",
            "0.0.0.0:8000",
            "192.168.0.7",
            "[::]",
            "[2001:db8::1]:80",
            "",
            "localhost, evil.example",
        ] {
            assert!(!is_accepted("/", &[("host", bad)]), "{bad}");
            assert!(!is_accepted("http://localhost/", &[("host", bad)]), "{bad}");
            assert!(!is_accepted("/", &[("host", "localhost"), ("host", bad)]), "{bad}");
        }
        assert!(!is_accepted("http://evil.example/", &[("host", "localhost")]));
        assert!(!is_accepted("/", &[]));
    }

    #[test]
    fn only_origins_of_this_machine_or_of_the_settings_are_accepted() {
        let with = |origins: &[&str]| {
            let origins = origins.iter().map(|origin| ("origin", *origin));
            is_accepted("/", &[("host", "localhost")].into_iter().chain(origins).collect::<Vec<_>>())
        };
        for good in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173", "https://app.example"] {
            assert!(with(&[good]), "{good}");
        }
        for bad in [
            "https://evil.example",
            "http://localhost.evil.example",
            "https://app.example:8443",
            "http://app.example",
            "ftp://localhost",
            "localhost",
            "null",
            "*",
            "",
        ] {
            assert!(!with(&[bad]), "{bad}");
            assert!(!with(&["http://localhost", bad]), "{bad}");
        }
    }

    #[test]
    fn without_the_setting_every_host_is_accepted() {
        let request = Request::builder().header("host", "evil.example").header("origin", "null").body(Body::empty());
        assert!(check(&request.unwrap(), &HttpConfig::default()).is_ok());
    }
}
