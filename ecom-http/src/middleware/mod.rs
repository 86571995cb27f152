//! The middleware of all requests: their ids, limits of rate and size, security headers and log lines, compression, and
//! the envelope of errors.

mod client;
mod compressed;
mod loopback;
mod rate_limit;

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::header::{
    ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
    VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ecom_core::access::{ApiKey, Principal, Secret};
use ecom_core::port::RateDecision;
use ecom_core::trace::{self, InRequest};
use ecom_core::{Dependency, Error, ErrorCode, FieldCode, log_event, metrics};
use futures::FutureExt as _;
use hyper::body::{Frame as BodyFrame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tower::{Layer, Service, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tracing::instrument::{Instrument as _, Instrumented};
use tracing::{Level, Span, field};

use self::rate_limit::{Limit, address_limit, limit, with_limit};
use crate::app::{App, HttpConfig};
use crate::error::{ApiError, ApiResult};
use crate::etag::weaken;
use crate::extract::X_CART_TOKEN;
use crate::headers::with_event;
use crate::metrics::{Rerouted, method_label};
use crate::resource::Recording;
use crate::routes::catalog::media::FILES;

pub use self::client::{ProxyHeader, UnknownProxyHeader};
pub(crate) use self::compressed::Compressed;
pub use self::rate_limit::RateLimits;
pub(crate) use self::rate_limit::{X_RATELIMIT_LIMIT, X_RATELIMIT_REMAINING, X_RATELIMIT_RESET};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const DENY: HeaderValue = HeaderValue::from_static("DENY");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");
const NOTHING_ELSE: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
/// How long a scrape of the metrics waits until its caller is known. Prometheus gives up after 10 s by default, and the
/// page may take six.
const SCRAPE_LIMIT: Duration = Duration::from_secs(2);

/// The layer that puts [`Front`] around a router.
#[derive(Clone)]
pub(crate) struct FrontLayer(pub Arc<App>);

impl<S: Clone> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front { inner, app: self.0.clone() }
    }
}

/// The service of the middleware; see the [module](self).
#[derive(Clone)]
pub(crate) struct Front<S> {
    inner: S,
    app: Arc<App>,
}

impl<S> Service<Request> for Front<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = InRequest<Instrumented<Answer>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let id = request_id(&request, &self.app);
        let shown: Arc<str> = id.to_str().unwrap_or_default().into();
        let span = span_of(&request, &shown);
        let answer = trace::in_request_now(shown.clone(), || span.in_scope(|| self.answer(request, id)));
        trace::in_request(shown, answer.instrument(span))
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

impl<S> Front<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Answers a request whose id is known.
    fn answer(&mut self, mut request: Request, id: HeaderValue) -> Answer {
        let (app, start) = (self.app.clone(), Instant::now());
        let line = (app.config.access_log && tracing::enabled!(target: "ecom_http::access", Level::INFO))
            .then(|| LogLine { method: request.method().clone(), uri: request.uri().clone() });
        let measured = metrics::is_enabled().then(|| {
            let route = request.extensions().get::<MatchedPath>().cloned();
            Measured { method: method_label(request.method()), route }
        });
        let recording = (!request.method().is_safe()).then(|| Recording(app.shop.recording()));
        if let Some(recording) = &recording {
            request.extensions_mut().insert(recording.clone());
        }
        let class = Class::of(&request, &app.config);
        let mut frame =
            Frame { id, app, class, start, line, measured, recording, decision: None, refusal: None, place: None };
        let checked = too_large(&request, &frame.app.config)
            .and_then(|()| unambiguous(&request, &frame.app.config))
            .and_then(|()| loopback::check(&request, &frame.app.config));
        if let Err(error) = checked {
            return frame.refuse(error);
        }
        frame.place = frame.app.places.clone().try_acquire_owned().ok();
        if frame.place.is_none() && !matches!(class, Class::Health | Class::Metrics) {
            let message = "the server has too many requests at the moment; try again";
            return frame.refuse(ApiError::new(ErrorCode::Unavailable, message));
        }
        let Some(credential) = bearer(&request, &frame) else { return self.limit(request, frame) };
        if let Some(principal) = frame.app.shop.auth().authenticate_now(&credential) {
            remember_reader(&frame, &credential, &principal);
            request.extensions_mut().insert(principal);
            return self.limit(request, frame);
        }
        let mut ready = self.ready();
        Box::pin(async move {
            // An API key that this process has not verified yet costs a statement, so it counts against the address
            // first.
            if credential.reveal().starts_with(ApiKey::MARK)
                && !frame.app.shop.auth().has_verified(&credential)
                && let Some(limit) = address_limit(&request, &frame.app.config)
            {
                let decision = frame.app.shop.rate_limiter().check(limit.key, limit.quota).await;
                frame.decision = Some(decision);
                if decision.retry_after.is_some() {
                    return ready.limited(request, frame, limit).await;
                }
            }
            let known = if class == Class::Metrics {
                guard(Box::pin(soon(frame.app.shop.auth().authenticate(&credential))), &frame.app).await
            } else {
                guard(frame.app.shop.auth().authenticate(&credential), &frame.app).await
            };
            match known {
                Ok(Ok(principal)) => {
                    remember_reader(&frame, &credential, &principal);
                    request.extensions_mut().insert(principal);
                    // The request counts for the principal, and the response shows the quota of the principal.
                    frame.decision = None;
                }
                // A client that renews its tokens may send the old one too.
                Ok(Err(Error::Unauthenticated)) if class == Class::Logins && is_open(&request, &frame.app) => {}
                // The metrics show that the database is down.
                #[cfg(feature = "metrics")]
                Ok(Err(error @ Error::Unavailable { .. })) if class == Class::Metrics => {
                    match frame.app.page.remembered(&credential) {
                        Some(principal) => drop(request.extensions_mut().insert(principal)),
                        None => frame.refusal = Some(error.into()),
                    }
                }
                // A request with an invalid credential counts for the client's address.
                Ok(Err(error)) => frame.refusal = Some(error.into()),
                Err(error) => frame.refusal = Some(error),
            }
            ready.limit(request, frame).await
        })
    }

    /// Takes the service that `poll_ready` has prepared, and leaves a clone.
    fn ready(&mut self) -> Self {
        let clone = self.clone();
        std::mem::replace(self, clone)
    }

    /// Answers a request within its rate limit.
    fn limit(&mut self, request: Request, mut frame: Frame) -> Answer {
        let is_free = matches!(frame.class, Class::Health | Class::Files);
        let limited = if is_free { None } else { limit(&request, &frame.app.config) };
        let Some(limit) = limited else { return self.admit(request, frame) };
        if limit.counts_address && frame.decision.is_some() {
            // The request has counted before its credential was looked up.
            return self.admit(request, frame);
        }
        frame.decision = frame.app.shop.rate_limiter().check_now(limit.key, limit.quota);
        if frame.decision.is_some() {
            return self.limited(request, frame, limit);
        }
        let mut ready = self.ready();
        Box::pin(async move {
            frame.decision = Some(frame.app.shop.rate_limiter().check(limit.key, limit.quota).await);
            ready.limited(request, frame, limit).await
        })
    }

    /// Answers a request, unless its rate limit refuses it.
    fn limited(&mut self, request: Request, frame: Frame, limit: Limit) -> Answer {
        match frame.decision.and_then(|decision| decision.retry_after) {
            None => self.admit(request, frame),
            Some(retry_after) => {
                let (event, quota) = (log_event::LIMIT_HIT, limit.name);
                metrics::count(metrics::RATE_LIMITED_TOTAL, &[("quota", quota)], 1);
                tracing::info!(target: log_event::TARGET, event, quota, "rate limit hit");
                frame.refuse(Error::RateLimited { retry_after }.into())
            }
        }
    }

    /// Answers a request, unless its credential is not valid.
    fn admit(&mut self, mut request: Request, mut frame: Frame) -> Answer {
        if let Some(error) = frame.refusal.take() {
            return frame.refuse(error);
        }
        if request.headers().get(ACCEPT_ENCODING).is_some_and(accepts_gzip) {
            // The header is replaced, so that the compression comes to the same decision. A client that accepts no
            // available encoding gets the plain response, because 406 could be the response to a completed write.
            request.headers_mut().insert(ACCEPT_ENCODING, GZIP);
            // The service is made for this request only, because the router clones its layers for each request, and
            // most clients do not accept gzip.
            // The fastest level takes a quarter of the time of the default one, and a page of a list becomes 11 kB in
            // place of 8 kB.
            let quality = CompressionLevel::Fastest;
            // Lists are compressed once, and the layer leaves them as they are.
            let (mut inner, app) = (self.inner.clone(), frame.app.clone());
            let with_lists = service_fn(move |request: Request| {
                let app = app.clone();
                inner.call(request).map(move |answer| answer.map(|response| app.compressed.apply(response)))
            });
            let answer = Compression::new(with_lists).gzip(true).quality(quality).call(request);
            Box::pin(async move {
                let answer = answer.map(|r| r.map(|r| r.map(Body::new)));
                let mut response = frame.response(answer).await;
                // A 304 has the same tag that a 200 would have.
                let compressed = response.headers().contains_key(CONTENT_ENCODING);
                if compressed || response.status() == StatusCode::NOT_MODIFIED {
                    weaken(response.headers_mut());
                }
                let response = noting(response, frame.recording.as_ref());
                Ok(frame.finish(response))
            })
        } else {
            let answer = self.inner.call(request);
            Box::pin(async move {
                let response = noting(frame.response(answer).await, frame.recording.as_ref());
                Ok(frame.finish(response))
            })
        }
    }
}

/// Adds the last event that the request has written. The response of a repeated request has the stored header.
fn noting(mut response: Response, recording: Option<&Recording>) -> Response {
    with_event(response.headers_mut(), recording.and_then(|Recording(shop)| shop.last_event()));
    response
}

/// The routes that the middleware treats in another way than the others. It looks at the path of a request once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// The routes of health, to which no limit of requests applies.
    Health,
    /// The metrics, which are answered also while the server has too many requests or its database is down.
    Metrics,
    /// The files of images and of the admin page. They have no quota. A page shows dozens of images, which browsers and
    /// CDNs keep, and the admin page loads dozens of files at once, which cost almost nothing. Requests for images that
    /// do not exist need no quota either, because they cost less than requests for existing ones. A path that cannot be
    /// the name of an image is refused without a read, and the number of simultaneous reads is bounded (`App::files`).
    Files,
    /// The routes below `/auth`. Those of them that anybody may call exchange or end credentials, and need no valid one
    /// in the header.
    Logins,
    /// Imports, which take as long as their bodies.
    Imports,
    /// All others.
    Other,
}

impl Class {
    fn of(request: &Request, config: &HttpConfig) -> Self {
        let path = request.uri().path().trim_end_matches('/');
        match path {
            "/health" | "/health/live" | "/health/ready" => return Self::Health,
            "/metrics" if cfg!(feature = "metrics") => return Self::Metrics,
            _ => {}
        }
        match path.strip_prefix(config.api_prefix.as_str()) {
            Some("/ingest/products") => return Self::Imports,
            Some(own) if own.starts_with("/auth/") => return Self::Logins,
            _ => {}
        }
        let is_image = || request.uri().path().strip_prefix(FILES).is_some_and(|rest| rest.starts_with('/'));
        if config.root_routes && (is_image() || is_of_page(request, config)) { Self::Files } else { Self::Other }
    }
}

/// Returns true for the files of the admin page, if the page is served.
#[cfg(feature = "admin")]
fn is_of_page(request: &Request, config: &HttpConfig) -> bool {
    config.admin_page && request.method().is_safe() && crate::routes::admin::is_file(request.uri().path())
}

/// As with the feature `admin`, without which there is no page.
#[cfg(not(feature = "admin"))]
const fn is_of_page(_: &Request, _: &HttpConfig) -> bool {
    false
}

/// Remembers who reads the metrics, for the time in which the database is down.
#[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "no metrics"))]
fn remember_reader(frame: &Frame, credential: &Secret, principal: &Principal) {
    #[cfg(feature = "metrics")]
    if frame.class == Class::Metrics && principal.may(ecom_core::access::Permission::JobsRead) {
        frame.app.page.remember(credential, principal);
    }
}

/// Returns true for a route that anybody may call.
fn is_open(request: &Request, app: &App) -> bool {
    app.admission.is_open(request.method(), request.uri().path().trim_end_matches('/'))
}

/// Refuses a request whose path, query string or headers exceed the limits.
fn too_large(request: &Request, config: &HttpConfig) -> ApiResult<()> {
    let uri = request.uri();
    let limit = config.query_limit;
    for (part, length) in [("path", uri.path().len()), ("query string", uri.query().map_or(0, str::len))] {
        if length > limit {
            let message = format!("the {part} exceeds the limit of {limit} bytes");
            return Err(ApiError::new(ErrorCode::UriTooLong, message));
        }
    }
    let limit = config.header_limit;
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers > limit {
        let message = format!("the headers exceed the limit of {limit} bytes");
        return Err(ApiError::new(ErrorCode::HeadersTooLarge, message));
    }
    Ok(())
}

/// Refuses a request with two credentials of one kind, of which a proxy in front could see another one than the server.
fn unambiguous(request: &Request, config: &HttpConfig) -> ApiResult<()> {
    let is_ours = config.authentication && request.extensions().get::<Principal>().is_none();
    for (name, shown) in [(X_CART_TOKEN, "X-Cart-Token"), (AUTHORIZATION, "Authorization")] {
        if (name == X_CART_TOKEN || is_ours) && request.headers().get_all(name).iter().nth(1).is_some() {
            let message = format!("the request has several headers {shown}: send one");
            return Err(ApiError::new(ErrorCode::BadRequest, message).at(shown, FieldCode::Inconsistent));
        }
    }
    Ok(())
}

/// Returns the credential of a request with `Authorization: Bearer`, unless the application has found out who calls.
fn bearer(request: &Request, frame: &Frame) -> Option<Secret> {
    let is_ours = frame.app.config.authentication && frame.class != Class::Health;
    if !is_ours || request.extensions().get::<Principal>().is_some() {
        return None;
    }
    let (scheme, credential) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| Secret::new(credential.trim()))
}

/// Waits for a value within the time limit. A timeout and a panic become errors.
async fn guard<T>(value: impl Future<Output = T>, app: &App) -> ApiResult<T> {
    within(app.config.request_timeout, value).await
}

/// Waits for a value within a time limit. A timeout and a panic become errors.
async fn within<T>(limit: Duration, value: impl Future<Output = T>) -> ApiResult<T> {
    let caught = AssertUnwindSafe(value).catch_unwind();
    match tokio::time::timeout(limit, caught).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(ApiError::panicked()),
        Err(elapsed) => {
            // The interrupted call may still have written.
            let error = Error::Unavailable {
                dependency: Dependency::Database,
                outcome_unknown: true,
                source: Some(elapsed.into()),
            };
            Err(error.into())
        }
    }
}

/// Waits for a value for a scrape of the metrics, which must end although a database hangs.
async fn soon<T>(value: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let found = tokio::time::timeout(SCRAPE_LIMIT, value).await;
    found.unwrap_or_else(|elapsed| Err(Error::unavailable(Dependency::Database, elapsed)))
}

struct LogLine {
    method: axum::http::Method,
    uri: axum::http::Uri,
}

/// What the metrics need of a request.
struct Measured {
    method: &'static str,
    route: Option<MatchedPath>,
}

/// The state of a request while it is answered. If it is dropped before that, the request is logged and counted as one
/// without an answer.
struct Frame {
    id: HeaderValue,
    app: Arc<App>,
    class: Class,
    start: Instant,
    /// `None` if requests are not logged, or after this one was logged.
    line: Option<LogLine>,
    /// `None` if metrics are not recorded, or after this request was counted.
    measured: Option<Measured>,
    recording: Option<Recording>,
    /// The decision of the rate limiter, if the request is limited.
    decision: Option<RateDecision>,
    /// The error to return after the request has been counted.
    refusal: Option<ApiError>,
    /// The permit of the request, which counts against [`HttpConfig::max_requests`].
    place: Option<OwnedSemaphorePermit>,
}

impl Frame {
    /// Waits for a response within the time limit. A timeout and a panic become error responses.
    async fn response(&self, answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
        let limit = if self.class == Class::Imports { Duration::MAX } else { self.app.config.request_timeout };
        match within(limit, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(error) => error.into_response(),
        }
    }

    /// Returns an answer that is an error.
    fn refuse(self, error: ApiError) -> Answer {
        Box::pin(std::future::ready(Ok(self.finish(error.into_response()))))
    }

    /// Logs and counts the request, unless that is done. `rerouted` is the route that has answered it, if that is not
    /// the one that was matched first.
    fn record(&mut self, status: StatusCode, rerouted: Option<MatchedPath>) {
        let span = Span::current();
        span.record("http.response.status_code", status.as_u16());
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
        if let Some(Measured { method, route }) = self.measured.take() {
            self.app.requests.record(method, rerouted.or(route).as_ref(), status, self.start.elapsed());
        }
        if let Some(line) = self.line.take() {
            tracing::info!(
                target: "ecom_http::access",
                request_id = self.id.to_str().unwrap_or_default(),
                method = line.method.as_str(),
                path = line.uri.path(),
                status = status.as_u16(),
                took_us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX),
            );
        }
    }

    /// Completes a response, and logs and measures the request.
    fn finish(mut self, mut response: Response) -> Response {
        let status = response.status();
        let rerouted = response.extensions_mut().remove::<Rerouted>().map(|Rerouted(route)| route);
        if status.is_client_error() || status.is_server_error() {
            response = in_envelope(response, self.id.to_str().unwrap_or_default(), &self.app);
        }
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(X_FRAME_OPTIONS, DENY);
        headers.insert(REFERRER_POLICY, NO_REFERRER);
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING_ELSE);
        // With CORS, that layer sets the header, because it adds the origin.
        if self.app.config.cors_origins.is_empty() {
            headers.insert(VARY, BY_ENCODING);
        } else {
            headers.remove(VARY);
        }
        if let Some(decision) = &self.decision {
            with_limit(headers, decision);
        }
        self.record(response.status(), rerouted);
        let id = std::mem::replace(&mut self.id, HeaderValue::from_static(""));
        response.headers_mut().insert(X_REQUEST_ID, id);
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        // The body is written while it is sent.
        match trace::request_id() {
            Some(id) => response.map(|body| Body::new(Sending { body, id })),
            None => response,
        }
    }
}

impl Drop for Frame {
    /// Records a request without an answer, because its client has closed the connection or the server has stopped.
    fn drop(&mut self) {
        if self.line.is_some() || self.measured.is_some() {
            self.record(client_closed(), None);
        }
    }
}

/// Returns the status 499, which nginx logs for a client that did not wait for the answer. It is only logged and
/// counted, and no response has it.
fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

/// A body that is written while it is sent, for the request with this id.
struct Sending {
    body: Body,
    id: Arc<str>,
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BodyFrame<Bytes>, axum::Error>>> {
        let Self { body, id } = self.get_mut();
        trace::in_request_now(id.clone(), || Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn in_envelope(mut response: Response, id: &str, app: &App) -> Response {
    let own = response.extensions_mut().remove::<Arc<ApiError>>();
    if own.is_none() && response.headers().get(CONTENT_TYPE).is_some_and(|t| t == "application/json") {
        // The response has its own JSON body, such as the report of health.
        return response;
    }
    let error = own.unwrap_or_else(|| Arc::new(ApiError::of_status(response.status())));
    error.log(id);
    let mut rendered = error.render(id, app.shop.clock().now());
    if let Some(allow) = response.headers_mut().remove(ALLOW) {
        rendered.headers_mut().insert(ALLOW, allow);
    }
    rendered
}

/// Returns the id that the client has sent, if it has 1 to 128 visible ASCII characters, or else a new one.
fn request_id(request: &Request, app: &App) -> HeaderValue {
    if let Some(sent) = request.headers().get(X_REQUEST_ID) {
        let b = sent.as_bytes();
        if (1..=128).contains(&b.len()) && b.iter().all(u8::is_ascii_graphic) {
            return sent.clone();
        }
    }
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = app.shop.ids().next().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Returns the span of a request. It continues the trace of the caller, if the headers contain one.
fn span_of(request: &Request, id: &str) -> Span {
    let text = |name: HeaderName| request.headers().get(name)?.to_str().ok();
    let parent = text(TRACEPARENT);
    trace::continuing(parent, parent.and_then(|_| text(TRACESTATE)), || {
        let method = request.method().as_str();
        let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
        tracing::debug_span!(
            target: trace::TARGET,
            "request",
            otel.kind = "server",
            otel.name = %format_args!("{method} {route}"),
            otel.status_code = field::Empty,
            http.request.method = method,
            http.response.status_code = field::Empty,
            http.route = route,
            url.path = request.uri().path(),
            request_id = id,
        )
    })
}

/// Returns true if a response to a request with this Accept-Encoding is compressed.
fn accepts_gzip(accepted: &HeaderValue) -> bool {
    let weight = |coding: &str| {
        accepted.to_str().unwrap_or_default().split(',').find_map(|item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let named = name.trim();
            let matches =
                named.eq_ignore_ascii_case(coding) || (coding == "gzip" && named.eq_ignore_ascii_case("x-gzip"));
            matches
                .then(|| parameters.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()).unwrap_or(1.0))
        })
    };
    let gzip = weight("gzip").or_else(|| weight("*")).unwrap_or(0.0);
    gzip > 0.0 && gzip >= weight("identity").unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::http::header::RETRY_AFTER;
    use axum::routing::get;
    use ecom_core::port::Storage as _;
    use ecom_core::{Shop, ShopParts};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn broken(path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
        let storage = ecom_storage::SqlStorage::sqlite(ecom_storage::SqliteOptions::memory()).unwrap();
        storage.migrate(ecom_core::money::Currency::USD).await.unwrap();
        let search = ecom_search::TantivySearch::open(ecom_search::TantivyOptions::memory()).await.unwrap();
        let shop = Shop::new(ShopParts::new(Arc::new(storage), Arc::new(search))).unwrap();
        let config = HttpConfig::default().request_timeout(Duration::from_millis(20));
        let app = Arc::new(App::new(shop, config, crate::admission::Admission::default()));
        let router: Router = Router::new()
            .route("/panic", get(|| async { panic!("the secret of line 7") as StatusCode }))
            .route("/slow", get(|| async { tokio::time::sleep(Duration::from_secs(60)).await }))
            .layer(FrontLayer(app));
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn a_client_gets_gzip_if_it_prefers_it() {
        for (accepted, gzip) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("br", false),
            ("gzip;q=0", false),
            ("identity;q=1, gzip;q=0.5", false),
            ("gzip;q=0, *", false),
        ] {
            assert_eq!(accepts_gzip(&HeaderValue::from_static(accepted)), gzip, "{accepted}");
        }
    }

    #[test]
    fn the_class_of_a_request_follows_from_its_path() {
        let config = HttpConfig::default();
        let class =
            |path: &str, config: &HttpConfig| Class::of(&Request::get(path).body(Body::empty()).unwrap(), config);
        let metrics = if cfg!(feature = "metrics") { Class::Metrics } else { Class::Other };
        for (path, expected) in [
            ("/health", Class::Health),
            ("/health/ready/", Class::Health),
            ("/health/other", Class::Other),
            ("/metrics/", metrics),
            ("/api/v1/metrics", Class::Other),
            ("/api/v1/auth/login", Class::Logins),
            ("/auth/login", Class::Other),
            ("/api/v1/ingest/products/", Class::Imports),
            ("/api/v1/ingest/products/1", Class::Other),
            ("/media/abc/400.webp", Class::Files),
            ("/media", Class::Other),
            ("/mediation/abc", Class::Other),
            ("/api/v1/products", Class::Other),
            ("/", Class::Other),
        ] {
            assert_eq!(class(path, &config), expected, "{path}");
        }
        let config = config.root_routes(false).api_prefix("/shop");
        assert_eq!(class("/media/abc/400.webp", &config), Class::Other, "the files are not served");
        assert_eq!(class("/shop/auth/login", &config), Class::Logins);
    }

    #[tokio::test]
    async fn r16_a_panic_is_an_error_in_the_envelope_that_shows_nothing() {
        let (status, headers, body) = broken("/panic").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(body.contains("\"INTERNAL\"") && !body.contains("secret"), "{body}");
        assert!(body.contains(headers[&X_REQUEST_ID].to_str().unwrap()), "{body}");
    }

    #[tokio::test]
    async fn r16_a_request_that_takes_too_long_gets_retry_after() {
        let (status, headers, body) = broken("/slow").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("\"UNAVAILABLE\"") && headers.contains_key(RETRY_AFTER), "{body}");
    }
}
