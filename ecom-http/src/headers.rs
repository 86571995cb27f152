//! Headers of responses: the rules for HTTP caches, whether the value came from the cache, the path of a new resource,
//! and the last event of a write.

use axum::http::header::{CACHE_CONTROL, ETAG, LOCATION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::EventId;

pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// The header of a write with the id of its last event, for which a search can wait.
pub(crate) const X_LAST_EVENT_ID: HeaderName = HeaderName::from_static("x-last-event-id");
const HIT: HeaderValue = HeaderValue::from_static("HIT");
const MISS: HeaderValue = HeaderValue::from_static("MISS");
/// Shared caches may store the response, but they must revalidate it, so that it is never older than the shop's data.
pub(crate) const PUBLIC: HeaderValue = HeaderValue::from_static("public, no-cache");
/// The file at a path never changes, so browsers and shared caches need not revalidate it.
pub(crate) const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// Returns whether a request wants to begin a WebSocket. A client can name other protocols in `Upgrade`, such as `h2c`.
pub(crate) fn asks_for_web_socket(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    named.any(|value| value.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")))
}

/// Returns the value of `X-Cache`.
pub(crate) fn cache_word(hit: bool) -> HeaderValue {
    if hit { HIT } else { MISS }
}

/// Adds the headers of a public read. `hit` is whether the value came from the cache; it is `None` for reads that do
/// not use the cache.
pub(crate) fn public(mut response: Response, etag: Option<HeaderValue>, hit: Option<bool>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, PUBLIC);
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if let Some(hit) = hit {
        headers.insert(X_CACHE, cache_word(hit));
    }
    response
}

/// Adds the headers of a response that shared caches must not store: that of a write, or one with stock, personal data
/// or soft-deleted rows.
pub(crate) fn private(mut response: Response, etag: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, PRIVATE);
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    response
}

/// Adds the headers of a list. Shared caches must not store it if it can contain soft-deleted rows.
pub(crate) fn listed(response: Response, deleted: IncludeDeleted, hit: Option<bool>) -> Response {
    match deleted {
        IncludeDeleted::Yes => private(response, None),
        IncludeDeleted::No => public(response, None, hit),
    }
}

/// Returns the response 304 for a client that already has the document.
pub(crate) fn not_modified(etag: &HeaderValue, hit: Option<bool>) -> Response {
    public(StatusCode::NOT_MODIFIED.into_response(), Some(etag.clone()), hit)
}

/// Adds the last event of a write, if it has written any.
pub(crate) fn with_event(headers: &mut HeaderMap, event: Option<EventId>) {
    if let Some(value) = event.and_then(|event| HeaderValue::from_str(&event.to_string()).ok()) {
        headers.insert(X_LAST_EVENT_ID, value);
    }
}

/// Adds the header `Location`.
pub(crate) fn located(mut response: Response, path: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// Returns the response to a delete.
pub(crate) fn no_content() -> Response {
    private(StatusCode::NO_CONTENT.into_response(), None)
}
