//! The refresh token as a cookie, and the protection against requests that pages of other sites make with it (CSRF).
//!
//! The protection follows the OWASP cheat sheet "Cross-Site Request Forgery Prevention": the cookie is
//! `SameSite=Strict`, a header is required that no form can send, and `Sec-Fetch-Site`, or `Origin` in browsers without
//! it, must show that the request comes from this host or from an allowed origin.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use ecom_core::ErrorCode;
use ecom_core::access::{Secret, Tokens};
use ecom_core::clock::Timestamp;

use crate::app::{App, HttpConfig};
use crate::error::{ApiError, ApiResult};
use crate::extract::RequestTarget;

const X_REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The name of the cookie. The prefix makes browsers refuse one that was set without TLS.
const SECURE: &str = "__Secure-ecom-refresh";
const PLAIN: &str = "ecom-refresh";

/// The cookie of a request and of its response, if the refresh token is a cookie.
pub(crate) struct RefreshCookie(Option<Used>);

struct Used {
    sent: Option<Secret>,
    /// The reason to refuse the request, if it may come from a page of another site.
    refusal: Option<&'static str>,
    path: String,
    is_secure: bool,
    now: Timestamp,
}

impl FromRequestParts<Arc<App>> for RefreshCookie {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        if !app.config.refresh_cookie {
            return Ok(Self(None));
        }
        let base = RequestTarget::of(parts).base().to_owned();
        // A host may have nested the router below a path that the client chooses.
        if !base.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_.~%".contains(&b)) {
            return Err(ApiError::new(
                ErrorCode::BadRequest,
                "the path of the API must not contain special characters",
            ));
        }
        let is_secure = app.config.refresh_cookie_secure;
        let authority = parts.uri.authority().map(Authority::as_str);
        Ok(Self(Some(Used {
            sent: sent(&parts.headers, name(is_secure)),
            refusal: refusal(&parts.headers, authority, &app.config),
            path: format!("{base}{}/auth", app.config.api_prefix),
            is_secure,
            now: app.shop.clock().now(),
        })))
    }
}

impl RefreshCookie {
    /// Returns whether the refresh token is a cookie.
    pub(crate) const fn is_used(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a request that may come from a page of another site, if the refresh token is a cookie.
    pub(crate) fn guard(&self) -> ApiResult<()> {
        match self.0.as_ref().and_then(|used| used.refusal) {
            Some(why) => Err(ApiError::new(ErrorCode::Forbidden, why)),
            None => Ok(()),
        }
    }

    /// Returns the refresh token that the client has sent as a cookie.
    pub(crate) fn sent(&self) -> Option<&Secret> {
        self.0.as_ref()?.sent.as_ref()
    }

    /// Adds the cookie with the refresh token to a response.
    pub(crate) fn set(&self, response: &mut Response, tokens: &Tokens) {
        if let Some(used) = &self.0 {
            let age = (tokens.refresh_expires_at - used.now).num_seconds().max(0);
            used.add(response, tokens.refresh.reveal(), age);
        }
    }

    /// Adds the removal of the cookie to a response.
    pub(crate) fn clear(&self, response: &mut Response) {
        if let Some(used) = &self.0 {
            used.add(response, "", 0);
        }
    }
}

impl Used {
    fn add(&self, response: &mut Response, value: &str, age: i64) {
        let (name, path) = (name(self.is_secure), &self.path);
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
        if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
            cookie.set_sensitive(true);
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
}

const fn name(is_secure: bool) -> &'static str {
    if is_secure { SECURE } else { PLAIN }
}

/// Returns the value of a cookie. If it was sent twice, both are ignored, because another host of the domain may have
/// set one of them.
fn sent(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(found, _)| *found == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(Secret::new(value)),
        _ => None,
    }
}

/// Returns the reason to refuse a request that may come from a page of another site; `None` if it comes from an allowed
/// one. `authority` is that of the request line.
fn refusal(headers: &HeaderMap, authority: Option<&str>, config: &HttpConfig) -> Option<&'static str> {
    if !headers.contains_key(X_REQUESTED_WITH) {
        return Some("the header X-Requested-With is required, with any value, since the refresh token is a cookie");
    }
    let foreign = Some(
        "the request must come from a page of this host or of an allowed origin, as Sec-Fetch-Site or Origin tells, \
         since the refresh token is a cookie",
    );
    let (Ok(site), Ok(origin), Ok(host)) = (one(headers, SEC_FETCH_SITE), one(headers, ORIGIN), one(headers, HOST))
    else {
        return foreign;
    };
    let is_allowed = origin.is_some_and(|origin| {
        // No page has the origin `*`, and in the settings it allows none to use the cookie.
        origin != "*" && config.cors_origins.iter().any(|allowed| allowed == origin)
    });
    let is_own = match (site, origin) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => is_own_host(origin, authority.or(host), config.refresh_cookie_secure),
        (None, None) => false,
    };
    if is_own || is_allowed { None } else { foreign }
}

/// Returns whether an origin is that of this host. A page without TLS is not, if the cookie needs it.
pub(crate) fn is_own_host(origin: &str, host: Option<&str>, is_secure: bool) -> bool {
    let origin = match origin.strip_prefix("https://") {
        Some(rest) => Some(rest.strip_suffix(":443").unwrap_or(rest)),
        None if is_secure => None,
        None => origin.strip_prefix("http://").map(|rest| rest.strip_suffix(":80").unwrap_or(rest)),
    };
    let host = host.map(|host| host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host));
    origin.zip(host).is_some_and(|(origin, host)| !host.is_empty() && origin.eq_ignore_ascii_case(host))
}

/// Returns the value of a header that must not be sent twice.
pub(crate) fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_of_another_site_is_refused() {
        let config = HttpConfig::default().cors_origins(vec!["https://app.shop.example".to_owned(), "*".to_owned()]);
        let is_refused = |pairs: &[(&'static str, &'static str)]| {
            let mut all = vec![("x-requested-with", "fetch"), ("host", "shop.example")];
            all.extend(pairs);
            refusal(&headers(&all), None, &config).is_some()
        };
        for good in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://shop.example")],
            &[("origin", "https://shop.example")],
            &[("origin", "https://SHOP.example:443")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://app.shop.example")],
            &[("origin", "https://app.shop.example")],
        ] {
            assert!(!is_refused(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "")],
            &[("sec-fetch-site", "same-site"), ("origin", "https://shop.example")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin")],
            &[("origin", "https://evil.example"), ("origin", "https://shop.example")],
            &[("origin", "null")],
            &[("origin", "*")],
            &[("origin", "")],
            &[("origin", "https://")],
            &[("origin", "http://shop.example")],
            &[("origin", "https://shop.example.evil.example")],
            &[("origin", "https://evil.example/shop.example")],
            &[("origin", "https://shop.example:8443")],
            &[("origin", "https://shop.example"), ("host", "evil.example")],
            &[("referer", "https://shop.example/")],
        ] {
            assert!(is_refused(bad), "{bad:?}");
        }
        // Without the header that forms cannot send, and with a host of HTTP/2.
        let own = headers(&[("sec-fetch-site", "same-origin")]);
        assert!(refusal(&own, None, &config).is_some());
        let http2 = headers(&[("x-requested-with", "fetch"), ("origin", "https://shop.example")]);
        assert!(refusal(&http2, Some("shop.example"), &config).is_none());
        assert!(refusal(&http2, None, &config).is_some());
        // On a machine of developers.
        let plain = config.refresh_cookie_secure(false);
        let local =
            headers(&[("x-requested-with", "x"), ("host", "127.0.0.1:8000"), ("origin", "http://127.0.0.1:8000")]);
        assert!(refusal(&local, None, &plain).is_none());
    }

    #[test]
    fn a_cookie_is_found_among_others_and_only_once() {
        let found = |lines: &[&'static str]| {
            let pairs: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            sent(&headers(&pairs), SECURE).map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(found(&["a=b; __Secure-ecom-refresh=x-1; c=d"]).as_deref(), Some("x-1"));
        assert_eq!(found(&["a=b", "__Secure-ecom-refresh=x=y"]).as_deref(), Some("x=y"));
        for none in [
            &[][..],
            &["ecom-refresh=x"],
            &["__Secure-ecom-refresh"],
            &["x__Secure-ecom-refresh=x"],
            &["__Secure-ecom-refresh=x; __Secure-ecom-refresh=y"],
            &["__Secure-ecom-refresh=x", "__Secure-ecom-refresh=x"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
    }
}
