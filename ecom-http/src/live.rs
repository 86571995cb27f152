//! Streams of live events: server-sent events and WebSocket over one subscription of the shop.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use ecom_core::clock::{SharedClock, Timestamp};
use ecom_core::id::EventId;
use ecom_core::platform::{LiveEnd, LiveEvents, LiveMessage};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::dto::LiveEventView;
use crate::serve::Draining;

/// How long a client of server-sent events waits before it opens the stream again.
const RECONNECT: Duration = Duration::from_secs(2);
/// How long a client of a WebSocket may take to receive a message. A client that sends nothing for this time and two
/// heartbeats is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the end of a WebSocket may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum size of a message of a client, in bytes. Messages of clients are ignored.
const RECEIVED: usize = 4 * 1024;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// nginx does not buffer a response with this header.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream that was opened for a client.
pub(crate) struct Stream {
    pub live: LiveEvents,
    /// The place of the client among those of the process, and among those of strangers if it is one.
    #[expect(dead_code, reason = "it is held for as long as the stream")]
    pub place: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
    pub clock: SharedClock,
    /// When the stream ends, by the clock of the shop.
    pub until: Timestamp,
    /// The longest time without a message.
    pub heartbeat: Duration,
    /// Whether prices are JSON numbers.
    pub numbers: bool,
    /// Whether the server shuts down, if it reports it.
    pub draining: Option<Draining>,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The shop has ended the subscription.
    Shop(LiveEnd),
    /// The stream has reached its longest duration, or the credential of its client has expired.
    Expired,
    /// The server shuts down.
    Shutdown,
}

impl Why {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Shop(end) => end.as_str(),
            Self::Expired => "expired",
            Self::Shutdown => "shutdown",
        }
    }

    /// Returns the code with which a WebSocket is closed (RFC 6455, 7.4.1).
    const fn close_code(self) -> u16 {
        match self {
            Self::Shop(LiveEnd::Lagged | LiveEnd::Unavailable) => close_code::AGAIN,
            Self::Shop(LiveEnd::Revoked) => close_code::POLICY,
            Self::Shop(LiveEnd::Closed) | Self::Shutdown => close_code::AWAY,
            Self::Expired => close_code::NORMAL,
        }
    }
}

/// What a stream sends next.
enum Next {
    /// Something for the client: the name of the message, the id after which it can go on, and the data, as JSON.
    Message { name: &'static str, id: Option<EventId>, data: String },
    /// Nothing has happened for a while. The client can go on after this event.
    Heartbeat(Option<EventId>),
}

/// The state of a stream.
struct Source {
    stream: Stream,
    /// When the next heartbeat is due.
    beat_at: Instant,
    is_over: Option<Why>,
}

impl Source {
    fn new(stream: Stream) -> Self {
        let beat_at = Instant::now() + stream.heartbeat;
        Self { stream, beat_at, is_over: None }
    }

    /// Waits for what the client gets next; `None` after the end. If the call is dropped, nothing is lost.
    async fn next(&mut self) -> Option<Next> {
        if self.is_over.is_some() {
            return None;
        }
        let Stream { live, clock, until, heartbeat, numbers, draining, .. } = &mut self.stream;
        if clock.now() >= *until {
            return Some(self.end(Why::Expired));
        }
        let left = (*until - clock.now()).to_std().unwrap_or_default();
        let expires = Instant::now() + left;
        let next = tokio::select! {
            biased;
            () = begun(draining) => return Some(self.end(Why::Shutdown)),
            message = live.next() => match message {
                Some(LiveMessage::Event(event)) => {
                    let data = serde_json::to_string(&LiveEventView::of(&event, *numbers)).unwrap_or_default();
                    Next::Message { name: "message", id: Some(event.id), data }
                }
                Some(LiveMessage::Reset) => {
                    Next::Message { name: "reset", id: live.passed(), data: reason("trimmed") }
                }
                Some(LiveMessage::End(why)) => return Some(self.end(Why::Shop(why))),
                None => return Some(self.end(Why::Shop(LiveEnd::Closed))),
            },
            () = tokio::time::sleep_until(self.beat_at.min(expires)) => Next::Heartbeat(live.passed()),
        };
        self.beat_at = Instant::now() + *heartbeat;
        Some(next)
    }

    fn end(&mut self, why: Why) -> Next {
        if why == Why::Shop(LiveEnd::Lagged) {
            tracing::info!("a live client was dropped, because it was too slow");
        }
        self.is_over = Some(why);
        Next::Message { name: "end", id: None, data: reason(why.as_str()) }
    }
}

/// Returns the response with a stream of server-sent events.
pub(crate) fn server_sent(stream: Stream) -> Response {
    let mut source = Source::new(stream);
    // A client that loses the connection before it has received an event resumes after this id.
    let first = with_id(Event::default().retry(RECONNECT).comment("live"), source.stream.live.passed());
    let rest = futures::stream::unfold(source, |mut source| async move {
        let event = match source.next().await? {
            Next::Heartbeat(id) => with_id(Event::default().comment(""), id),
            Next::Message { name, id, data } => {
                let event = with_id(Event::default().data(data), id);
                // Browsers pass events without a name to `onmessage`.
                if name == "message" { event } else { event.event(name) }
            }
        };
        Some((event, source))
    });
    let events = futures::StreamExt::chain(futures::stream::once(std::future::ready(first)), rest);
    let mut response = Sse::new(futures::StreamExt::map(events, Ok::<_, Infallible>)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn with_id(event: Event, id: Option<EventId>) -> Event {
    match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}

/// Returns the response that begins a WebSocket.
pub(crate) fn web_socket(upgrade: WebSocketUpgrade, stream: Stream) -> Response {
    let open = stream.draining.as_ref().map(Draining::hold);
    upgrade.max_message_size(RECEIVED).max_frame_size(RECEIVED).write_buffer_size(0).on_upgrade(
        move |socket| async move {
            serve(socket, Source::new(stream)).await;
            drop(open);
        },
    )
}

/// Sends the events to a client until the stream ends or the client goes away.
async fn serve(mut socket: WebSocket, mut source: Source) {
    let mut heard_at = Instant::now();
    let mut shown = source.stream.live.passed();
    let mut sent = send(&mut socket, &source, frame("position", shown, None)).await;
    while sent.is_ok() {
        let next = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                // The client has nothing to say, except that it is there.
                Some(Ok(_)) => {
                    heard_at = Instant::now();
                    continue;
                }
            },
            next = source.next() => next,
        };
        sent = match next {
            None => break,
            Some(Next::Message { name, id, data }) => {
                shown = id.or(shown);
                send(&mut socket, &source, frame(name, id, Some(&data))).await
            }
            // A client that answers no pings is gone.
            Some(Next::Heartbeat(_)) if heard_at.elapsed() > SEND_TIMEOUT + source.stream.heartbeat * 2 => return,
            Some(Next::Heartbeat(id)) => {
                let is_new = id.is_some() && id != shown;
                shown = id.or(shown);
                let positioned =
                    if is_new { send(&mut socket, &source, frame("position", id, None)).await } else { Ok(()) };
                match positioned {
                    Ok(()) => send(&mut socket, &source, Message::Ping(bytes::Bytes::new())).await,
                    Err(why) => Err(why),
                }
            }
        };
    }
    let why = sent.err().or(source.is_over).unwrap_or(Why::Shop(LiveEnd::Closed));
    let close = Message::Close(Some(CloseFrame { code: why.close_code(), reason: why.as_str().into() }));
    let closed = async {
        if socket.send(close).await.is_ok() {
            while let Some(Ok(_)) = socket.recv().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
}

/// Returns the data of a message that is no event.
fn reason(word: &str) -> String {
    format!("{{\"reason\":\"{word}\"}}")
}

/// Returns a message of WebSocket, whose fields are those of server-sent events. Names and ids need no escapes, and the
/// data is JSON.
fn frame(name: &str, id: Option<EventId>, data: Option<&str>) -> Message {
    let id = id.map(|id| format!(",\"id\":\"{id}\"")).unwrap_or_default();
    let data = data.map(|data| format!(",\"data\":{data}")).unwrap_or_default();
    Message::Text(format!("{{\"event\":\"{name}\"{id}{data}}}").into())
}

/// Sends a message. It fails if the client does not take it before the time is over, the subscription ends, or the
/// server shuts down.
async fn send(socket: &mut WebSocket, source: &Source, message: Message) -> Result<(), Why> {
    let (ended, mut draining) = (source.stream.live.ended(), source.stream.draining.clone());
    tokio::select! {
        biased;
        sent = tokio::time::timeout(SEND_TIMEOUT, socket.send(message)) => match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Why::Shop(LiveEnd::Lagged)),
        },
        why = ended => Err(Why::Shop(why)),
        () = begun(&mut draining) => Err(Why::Shutdown),
    }
}

/// Waits until the shutdown of the server begins, if the server reports it.
async fn begun(draining: &mut Option<Draining>) {
    match draining {
        Some(draining) => draining.begun().await,
        None => std::future::pending().await,
    }
}
