//! Routes of live events.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::header::{ACCEPT, AUTHORIZATION, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use ecom_core::access::{Principal, Secret};
use ecom_core::id::EventId;
use ecom_core::platform::{LiveFilter, LiveKind};
use ecom_core::{ErrorCode, FieldCode, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::app::{App, HttpConfig};
use crate::cookie::{is_own_host, one};
use crate::dto::{Item, LiveEventView, LiveTicketView, json};
use crate::error::{ApiError, ApiResult};
use crate::extract::{NoBody, Query, word};
use crate::headers::{asks_for_web_socket, private};
use crate::idempotency::Post;
use crate::live::{Stream, server_sent, web_socket};
use crate::resource::Reply;
use crate::serve::Draining;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The parameters of a stream.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LiveParams {
    /// The kinds of events: `stock`, `prices`, `orders`, `products` and `categories`; several are repeated
    /// (`kind=stock&kind=prices`). Without any, the stream has all kinds that the caller may see.
    #[serde(default)]
    kind: Vec<String>,
    /// The ids of products, SKUs, orders or categories, at most 100; several are repeated. Without any, the stream has
    /// the events of all of them.
    #[serde(default)]
    id: Vec<String>,
    /// The id of the event after which the stream continues. The header `Last-Event-ID`, which browsers send when they
    /// open a stream again, takes precedence.
    #[serde(default)]
    last_event_id: Option<String>,
    /// A ticket of `POST /events/ticket`, in place of the header `Authorization`, which browsers cannot send here.
    #[serde(default)]
    ticket: Option<String>,
}

/// The header with the last event, for the documentation.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the derive")]
pub(crate) struct LastEventIdHeader {
    /// The id of the event after which the stream goes on.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<Uuid>,
}

/// How a client wants to get the events.
pub(crate) enum Wanted {
    /// As server-sent events.
    ServerSent,
    /// As messages of WebSocket.
    WebSocket(WebSocketUpgrade, Opener),
}

/// From where a WebSocket is opened. Browsers let pages of every site open one, without CORS, and send their cookies
/// along (RFC 6455, 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opener {
    /// From a program, from a page of this host, or from one whose origin the settings name.
    Known,
    /// From a page of another site, as the settings allow it for all of them.
    Anywhere,
}

/// Returns from where a WebSocket is opened, or an error if the settings do not allow it.
fn opener(parts: &Parts, config: &HttpConfig) -> ApiResult<Opener> {
    let (Ok(sent), Ok(host)) = (one(&parts.headers, ORIGIN), one(&parts.headers, HOST)) else { return Err(foreign()) };
    let Some(sent) = sent else { return Ok(Opener::Known) };
    let host = parts.uri.authority().map(Authority::as_str).or(host);
    let is_allowed = |name: &str| config.cors_origins.iter().any(|allowed| allowed == name);
    if is_own_host(sent, host, false) || (sent != "*" && is_allowed(sent)) {
        return Ok(Opener::Known);
    }
    if is_allowed("*") { Ok(Opener::Anywhere) } else { Err(foreign()) }
}

fn foreign() -> ApiError {
    let message = "a WebSocket must be opened by a page of this host or of an allowed origin, as Origin tells; where \
                   all origins are allowed, the request must have a token or a ticket, or no login at all";
    ApiError::new(ErrorCode::Forbidden, message)
}

impl FromRequestParts<Arc<App>> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        if asks_for_web_socket(&parts.headers) {
            return match WebSocketUpgrade::from_request_parts(parts, app).await {
                Ok(upgrade) => {
                    let opener = opener(parts, &app.config)?;
                    Ok(Self::WebSocket(upgrade, opener))
                }
                Err(_) => {
                    let message = "the request is not a valid WebSocket handshake (RFC 6455, 4.1)";
                    Err(ApiError::new(ErrorCode::BadRequest, message).at("Upgrade", FieldCode::Malformed))
                }
            };
        }
        let is_wanted = |accepted: &str| {
            let kind = accepted.split(';').next().unwrap_or_default();
            kind.trim().eq_ignore_ascii_case("text/event-stream")
        };
        let mut accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        if accepted.any(|value| value.split(',').any(is_wanted)) {
            return Ok(Self::ServerSent);
        }
        let message = "the response is a stream without an end: ask for it with `Accept: text/event-stream`, or begin \
                       a WebSocket";
        Err(ApiError::new(ErrorCode::BadRequest, message).at("Accept", FieldCode::Required))
    }
}

/// Returns the credential of a request.
fn credential(headers: &HeaderMap) -> Option<Secret> {
    let (_, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    Some(Secret::new(credential.trim()))
}

fn event_id(field: &str, text: &str, errors: &mut ValidationErrors) -> Option<EventId> {
    let id = text.parse().ok();
    if id.is_none() {
        errors.push(field, FieldCode::Malformed, "must be the id of an event, a UUID");
    }
    id
}

/// Receive live events
///
/// A request with `Accept: text/event-stream` gets server-sent events, and a WebSocket handshake gets the same messages
/// over a WebSocket. The data of a message is an event. Each event comes once, and the events of one aggregate come in
/// order. Levels of stock are those at the time at which the server reads the event.
///
/// Events of stock, prices and products are public if the product is active when the server reads the event, and those
/// of categories always are. Events of orders require `orders:read`; a customer gets those of its own orders. With
/// `products:read` or `products:write`, the stream has all products.
///
/// A client that has lost the connection names the last event in `Last-Event-ID`, as browsers do by themselves, and
/// misses nothing. If the log no longer has that event, the stream begins with the message `reset` and then sends new
/// events only: the client should load again what it shows. From time to time, the stream sends the id of the last
/// event that it has passed, whether sent or skipped, without data (over a WebSocket as the message `position`). The
/// nil UUID stands for the beginning of the log.
///
/// The last message, `end`, has the reason: `expired` (the stream has reached its longest duration, or the token has
/// expired), `lagged` (the client was too slow), `revoked` (the session has ended, or permissions have changed),
/// `unavailable`, `closed` or `shutdown`. The client can open the stream again after the last event. Messages of a
/// WebSocket are objects with `event`, `id` and `data`. It is closed with the code 1000 after `expired`, 1008 after
/// `revoked`, 1013 after `lagged` and `unavailable`, and 1001 after `closed` and `shutdown`.
#[utoipa::path(
    get, path = "/events", tag = "events",
    security((), ("bearer" = ["orders:read"])), params(LiveParams, LastEventIdHeader),
    responses(
        (status = 200, description = "A stream of events", content_type = "text/event-stream", body = LiveEventView),
        (status = 101, description = "A WebSocket"),
    )
)]
pub(crate) async fn events(
    reply: Reply,
    wanted: Wanted,
    Query((p,)): Query<(LiveParams,)>,
    headers: HeaderMap,
    draining: Option<Extension<Draining>>,
) -> ApiResult {
    let app = &reply.app;
    let mut errors = ValidationErrors::default();
    let kinds =
        p.kind.iter().filter_map(|k| word("kind", Some(k.as_str()), LiveKind::ALL, LiveKind::as_str, &mut errors));
    let kinds = kinds.collect();
    let mut ids = HashSet::new();
    for text in &p.id {
        match text.parse::<Uuid>() {
            Ok(id) => drop(ids.insert(id)),
            Err(_) => errors.push("id", FieldCode::Malformed, "must be a UUID"),
        }
    }
    let after = match (headers.get(LAST_EVENT_ID), &p.last_event_id) {
        (Some(sent), _) => event_id("Last-Event-ID", sent.to_str().unwrap_or_default(), &mut errors),
        (None, Some(text)) => event_id("last_event_id", text, &mut errors),
        (None, None) => None,
    };
    errors.into_result()?;
    let has_token = p.ticket.is_some() || headers.contains_key(AUTHORIZATION);
    let caller = reply.shop().principal().clone();
    // Only what a browser sends by itself, such as a cookie of the host, makes a page of another site a danger.
    if matches!(wanted, Wanted::WebSocket(_, Opener::Anywhere)) && !has_token && caller != app.config.anonymous {
        return Err(foreign());
    }
    // Before the ticket is taken, so that the client can try again with it.
    let full = || ApiError::new(ErrorCode::Unavailable, "the server has too many live clients; try again");
    let strangers = if p.ticket.is_none() && caller.is_anonymous() {
        Some(app.live_strangers.clone().try_acquire_owned().map_err(|_| full())?)
    } else {
        None
    };
    let place = (app.live.clone().try_acquire_owned().map_err(|_| full())?, strangers);
    let auth = app.shop.auth();
    let now = app.shop.clock().now();
    let mut until = now + app.config.live_lifetime;
    let who: Principal = match p.ticket {
        Some(_) if headers.contains_key(AUTHORIZATION) => {
            let message = "cannot be combined with the header Authorization: send one of the two";
            return Err(ApiError::field("ticket", FieldCode::Inconsistent, message));
        }
        Some(ticket) => auth.redeem_ticket(&Secret::new(ticket)).await?,
        None => caller,
    };
    let of_token = credential(&headers).and_then(|credential| auth.expires_at(&credential, &who));
    if let Some(end) = of_token.or_else(|| who.expires_at()) {
        until = until.min(end);
    }
    let live = app.shop.acting_as(&who).live().subscribe(&LiveFilter { kinds, ids }, after).await?;
    let stream = Stream {
        live,
        place,
        clock: app.shop.clock().clone(),
        until,
        heartbeat: app.config.live_heartbeat,
        numbers: app.config.numbers,
        draining: draining.map(|Extension(draining)| draining),
    };
    Ok(match wanted {
        Wanted::ServerSent => server_sent(stream),
        Wanted::WebSocket(upgrade, _) => web_socket(upgrade, stream),
    })
}

/// Create a ticket for live events
///
/// A browser cannot send a token in a header when it opens a stream. It sends the ticket as the parameter `ticket` of
/// `/events` instead. A ticket opens one stream, within a minute.
#[utoipa::path(
    post, path = "/events/ticket", tag = "events", security(("bearer" = [])),
    responses((status = 201, description = "The ticket", body = Item<LiveTicketView>))
)]
pub(crate) async fn ticket(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    keyed.refuse("the response has a secret, which is not stored: send the request without a key")?;
    let shop = reply.shop();
    let (ticket, expires_at) = shop.auth().issue_ticket(shop.principal()).await?;
    let view = LiveTicketView { ticket: ticket.reveal(), expires_at };
    Ok(private(json(StatusCode::CREATED, &Item::new(view, reply.target.path().to_owned()))?, None))
}
