//! Cookies, forms and errors.

use std::sync::Arc;

use axum::http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use ecom::id::CartId;
use ecom::sales::{CartAccess, CartToken};
use ecom::{Error, ErrorCode, WithCauses};
use url::form_urlencoded::{Serializer, parse};

use crate::view::Choice;

/// The cookie with the open cart of a shopper.
pub const CART: &str = "cart";
/// The cookie with the cart of the last order.
pub const ORDER: &str = "order";
/// How long browsers keep both, in seconds: as long as the shop keeps a cart by default.
const COOKIE_AGE: u32 = 30 * 24 * 60 * 60;

/// A guest's cart: its id, and the token that opens it and the order that is made from it.
#[derive(Clone)]
pub struct CartKey {
    pub id: CartId,
    pub access: CartAccess,
    text: Arc<str>,
}

impl CartKey {
    pub fn new(id: CartId, token: &CartToken) -> Self {
        let text = format!("{id}.{}", token.reveal()).into();
        Self { id, access: CartAccess::from(token.clone()), text }
    }

    /// Reads the cart from a cookie of the request.
    pub fn read(headers: &HeaderMap, cookie: &str) -> Option<Self> {
        let sent = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = sent.flat_map(|value| value.split("; "));
        let text = pairs.find_map(|pair| pair.strip_prefix(cookie)?.strip_prefix('='))?;
        let (id, token) = text.split_once('.')?;
        Some(Self::new(id.parse().ok()?, &CartToken::new(token)))
    }

    /// Returns the header that stores the cart in a cookie. No script can read it, and browsers do not send it with
    /// forms of other sites.
    pub fn set(&self, cookie: &str, is_secure: bool) -> (HeaderName, String) {
        set_cookie(cookie, &self.text, COOKIE_AGE, is_secure)
    }
}

/// Returns the header that removes a cookie.
pub fn remove(cookie: &str, is_secure: bool) -> (HeaderName, String) {
    set_cookie(cookie, "", 0, is_secure)
}

fn set_cookie(name: &str, value: &str, age: u32, is_secure: bool) -> (HeaderName, String) {
    let secure = if is_secure { "; Secure" } else { "" };
    (SET_COOKIE, format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"))
}

/// Returns whether a request comes from a page of this storefront. Browsers state it in `Sec-Fetch-Site`, or else in
/// `Origin`. A request with neither is refused, because it cannot be distinguished from one of another site.
pub fn is_own_form(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    // HTTP/2 has the host in the URI.
    let host = uri.authority().map(Authority::as_str).or_else(|| text(HOST.as_str()));
    let origin = text(ORIGIN.as_str()).and_then(|origin| origin.split_once("://"));
    origin.zip(host).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
}

/// The fields of a form or of a query string.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

/// The fields that select a page of a list, which another filter or order makes void.
const PAGING: [&str; 2] = ["after", "page"];

impl Fields {
    pub fn of(text: &str) -> Self {
        Self(parse(text.as_bytes()).into_owned().collect())
    }

    /// Returns the first value of a field without white space around it; an empty text if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.trim())
    }

    /// Returns the value of a field; `None` if it is empty.
    pub fn filled(&self, name: &str) -> Option<String> {
        Some(self.get(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Returns all values of a field that are not empty.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(field, value)| field == name && !value.is_empty());
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Returns the fields of a list without those of the paging and without some others.
    pub fn others(&self, without: &[&str]) -> Vec<(String, String)> {
        let is_other = |name: &str| !PAGING.contains(&name) && !without.contains(&name);
        self.0.iter().filter(|(name, value)| is_other(name) && !value.is_empty()).cloned().collect()
    }

    /// Returns the query string with another value of a field.
    pub fn with(&self, name: &str, value: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(self.others(&[name])).append_pair(name, value);
        format!("?{}", query.finish())
    }

    /// Returns the link that adds a value to a filter, or removes it if it is there. If the filter takes one value
    /// only, the value replaces the other one.
    pub fn choice(&self, label: &str, count: Option<u64>, (name, value): (&str, &str), takes_many: bool) -> Choice {
        let is_on = self.0.iter().any(|(field, chosen)| field == name && chosen == value);
        let mut kept = self.others(&[]);
        kept.retain(|(field, chosen)| field != name || (takes_many && chosen != value));
        let mut query = Serializer::new(String::new());
        query.extend_pairs(kept);
        if !is_on {
            query.append_pair(name, value);
        }
        Choice { label: label.to_owned(), count, href: format!("?{}", query.finish()), is_on }
    }
}

/// Returns true if the error means that a cart can no longer be used, so that the shopper needs a new one.
pub fn is_gone(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::NotFound | ErrorCode::CartExpired | ErrorCode::CartOrdered | ErrorCode::CartMerged
    )
}

/// What a shopper reads in place of a page.
#[derive(Debug, Clone)]
pub struct Failure {
    pub status: StatusCode,
    pub message: &'static str,
}

impl Failure {
    pub const fn no_page() -> Self {
        let message = "We cannot find this page. It may have moved, or the product may no longer be sold.";
        Self { status: StatusCode::NOT_FOUND, message }
    }

    pub const fn foreign_form() -> Self {
        let message = "This form was not sent from a page of this shop. Go back, reload the page, and try again.";
        Self { status: StatusCode::FORBIDDEN, message }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, message) = match &error {
            Error::NotFound { .. } => return Self::no_page(),
            Error::Validation(_) => (StatusCode::BAD_REQUEST, "The shop does not understand this request."),
            Error::Conflict(_) => (
                StatusCode::CONFLICT,
                "Something has changed in the meantime. Go back, reload the page, and try again.",
            ),
            Error::RateLimited { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "These are too many requests. Wait a minute, and try again.")
            }
            other if other.is_retryable() => {
                (StatusCode::SERVICE_UNAVAILABLE, "The shop is not available at the moment. Try again in a minute.")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong in the shop. We are sorry."),
        };
        if status.is_server_error() {
            tracing::error!(error = %WithCauses(&error), "a page failed");
        }
        Self { status, message }
    }
}

impl From<minijinja::Error> for Failure {
    fn from(error: minijinja::Error) -> Self {
        Error::internal("a template cannot be rendered", error).into()
    }
}

impl IntoResponse for Failure {
    /// Returns a response from which the layer around all handlers makes an error page.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
