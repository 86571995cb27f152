//! Serves a router over TCP, within limits that no client can exceed.
//!
//! [`serve`] takes the place of `axum::serve`, which waits without a limit for the head of a request. Each connection
//! has an [`Activity`], which records what the connection waits for, and one timer, which compares the record with the
//! limits. The timer is not reset by requests: it ends at the earliest time at which any limit could be exceeded, and
//! then starts again.
//!
//! hyper's own time limits are not used. That of the head also ends idle connections, and hyper-util does not apply it
//! while it waits for the first bytes, by which it recognizes HTTP/2.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::{ACCEPT, HOST};
use axum::http::{HeaderValue, Request, Response, Version};
use bytes::Bytes;
use derive_setters::Setters;
use ecom_core::clock::{Clock as _, SystemClock};
use ecom_core::id::{IdSource as _, UuidV7Source};
use ecom_core::{ErrorCode, FieldCode};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tower::Service as _;

use crate::error::ApiError;
use crate::headers::asks_for_web_socket;

/// How often a connection is looked at while it is closed.
const SETTLE: Duration = Duration::from_millis(100);
/// How many connections beyond the limit get a response at a time. Others are closed without one.
const REFUSALS: usize = 64;
/// The maximum time spent on a refused connection, and the maximum number of bytes that are read from it and discarded.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const REFUSAL_BYTES: usize = 64 * 1024;
/// The pause after a connection could not be accepted, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of [`serve`].
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[non_exhaustive]
pub struct ServeConfig {
    /// The time within which the head of a request must arrive: from the start of a connection, or from the first byte
    /// of a later request. Default 10 s.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests. Default 75 s, more than the 60 s of most load balancers,
    /// so that they close idle connections first.
    pub keep_alive_timeout: Duration,
    /// How long a client may take none of a response that is ready. Default 30 s.
    pub send_timeout: Duration,
    /// The maximum number of connections at a time. A connection beyond it gets a 503 with `Retry-After` and is closed.
    /// Each connection needs a file descriptor. Default 10,000.
    pub max_connections: usize,
    /// The maximum number of headers of a request; HTTP/1 only. Default 100.
    pub max_headers: usize,
    /// The maximum size of the head of a request, in bytes, at least 8 KiB. The response to a larger one is not in the
    /// envelope of errors, so this should exceed the limits of [`HttpConfig`](crate::HttpConfig). Default 64 KiB.
    pub head_limit: usize,
    /// The maximum number of requests at a time on a connection of HTTP/2. Default 100.
    pub max_streams: u32,
    /// How many requests of a connection of HTTP/2 the client may cancel before the server has begun them. If there are
    /// more, the connection is closed. Default 20.
    pub max_resets: usize,
    /// The time after which the server pings a silent connection of HTTP/2. If there is no answer within
    /// `header_timeout`, the connection is closed. Default 20 s.
    pub ping_interval: Duration,
    /// How long a shutdown waits for requests in progress. Default 30 s.
    pub shutdown_timeout: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            send_timeout: Duration::from_secs(30),
            max_connections: 10_000,
            max_headers: 100,
            head_limit: 64 * 1024,
            max_streams: 100,
            max_resets: 20,
            ping_interval: Duration::from_secs(20),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// The outcome of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The number of connections whose requests were still in progress at the end of
    /// [`ServeConfig::shutdown_timeout`], and were given up.
    pub unanswered: usize,
}

/// Serves a router over HTTP/1 and HTTP/2 (without TLS) until `shutdown` is ready, and then until the requests in
/// progress are answered.
///
/// - Connections have TCP_NODELAY, because responses are small.
/// - The address of the peer is in the extensions of each request, as axum's `ConnectInfo<SocketAddr>`.
/// - A connection whose client sends nothing, sends too slowly or does not read the response is closed; see
///   [`ServeConfig`]. The time limit of requests is that of [`HttpConfig`](crate::HttpConfig).
/// - A shutdown closes the listener, and closes connections without a request in progress at once. A request of whose
///   body nothing arrives for `header_timeout` is given up.
///
/// ```no_run
/// # async fn app(shop: ecom_core::Shop) -> std::io::Result<()> {
/// use ecom_http::{HttpConfig, ServeConfig, router, serve};
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
/// let router = router(shop, HttpConfig::default());
/// let shutdown = async { drop(tokio::signal::ctrl_c().await) };
/// let stopped = serve(listener, router, ServeConfig::default(), shutdown).await;
/// println!("{} requests were not answered", stopped.unanswered);
/// # Ok(())
/// # }
/// ```
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: ServeConfig,
    shutdown: impl Future<Output = ()>,
) -> Stopped {
    let (phase, _) = watch::channel(Phase::Running);
    let (begins, begun) = watch::channel(false);
    {
        let draining = Draining { begun, phase: phase.clone() };
        let accepting = accept(listener, router, &config, &phase, draining);
        tokio::select! {
            () = accepting => {}
            () = shutdown => {}
        }
    }
    begins.send_replace(true);
    phase.send_replace(Phase::Draining);
    let mut unanswered = 0;
    if tokio::time::timeout(config.shutdown_timeout, phase.closed()).await.is_err() {
        unanswered = phase.receiver_count();
        phase.send_replace(Phase::Ended);
        phase.closed().await;
    }
    Stopped { unanswered }
}

/// Reports the shutdown of a server to the streams without an end, as an extension of requests that may begin one.
#[derive(Debug, Clone)]
pub(crate) struct Draining {
    begun: watch::Receiver<bool>,
    phase: watch::Sender<Phase>,
}

impl Draining {
    /// Waits until the shutdown begins.
    pub(crate) async fn begun(&mut self) {
        let _ = self.begun.wait_for(|begun| *begun).await;
    }

    /// Returns a value that keeps the shutdown waiting until it is dropped. A WebSocket holds one, because the server
    /// no longer tracks its connection after the upgrade.
    pub(crate) fn hold(&self) -> impl Send + Sync + use<> {
        self.phase.subscribe()
    }

    /// Returns true for requests that may begin a stream.
    fn concerns(request: &Request<Incoming>) -> bool {
        let is_event_stream = |value: &HeaderValue| value.to_str().is_ok_and(|v| v.contains("text/event-stream"));
        let headers = request.headers();
        asks_for_web_socket(headers) || headers.get_all(ACCEPT).iter().any(is_event_stream)
    }
}

/// The phases of a server, which its connections observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Requests in progress are answered.
    Draining,
    /// Every connection is closed.
    Ended,
}

/// Accepts connections without end.
async fn accept(
    listener: TcpListener,
    router: Router,
    config: &ServeConfig,
    phase: &watch::Sender<Phase>,
    draining: Draining,
) {
    let builder = Arc::new(builder(config));
    let limits = Limits::of(config);
    let places = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let ids = Arc::new(UuidV7Source::new(Arc::new(SystemClock)));
    let (mut is_full, mut is_failing) = (false, false);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if is_of_peer(&error) => continue,
            Err(error) => {
                if !is_failing {
                    tracing::error!(%error, "cannot accept connections");
                }
                is_failing = true;
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        is_failing = false;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection without TCP_NODELAY");
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            if !is_full {
                tracing::warn!(limit = config.max_connections, "connection limit reached: further ones are refused");
            }
            is_full = true;
            if let Ok(turn) = refusals.clone().try_acquire_owned() {
                tokio::spawn(refuse(stream, turn, ids.clone()));
            }
            continue;
        };
        is_full = false;
        let activity = Arc::new(Activity::new());
        let site = Site { router: router.clone(), ids: ids.clone(), draining: draining.clone() };
        let io = TokioIo::new(Observed { stream, activity: activity.clone(), _place: place });
        tokio::spawn(connection(io, peer, builder.clone(), site, activity, limits, phase.subscribe()));
    }
}

/// Returns whether an error of `accept` concerns only the connection that was to be accepted.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn builder(config: &ServeConfig) -> auto::Builder<TokioExecutor> {
    let head_limit = config.head_limit.max(8 * 1024);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().header_read_timeout(None).max_buf_size(head_limit);
    if config.max_headers != ServeConfig::default().max_headers {
        // hyper allocates for each request if the number is set.
        builder.http1().max_headers(config.max_headers);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(head_limit).unwrap_or(u32::MAX))
        .max_concurrent_streams(config.max_streams)
        .max_pending_accept_reset_streams(config.max_resets)
        .keep_alive_interval(config.ping_interval)
        .keep_alive_timeout(config.header_timeout);
    builder
}

/// Tells a client that the server has no connection for it.
async fn refuse(mut stream: TcpStream, _turn: OwnedSemaphorePermit, ids: Arc<UuidV7Source>) {
    let error = ApiError::new(ErrorCode::Unavailable, "the server has too many connections; try again");
    let response = error.render(&ids.next().to_string(), SystemClock.now());
    let (parts, body) = response.into_parts();
    let Ok(body) = body.collect().await else { return };
    let body = body.to_bytes();
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", parts.status, body.len());
    for (name, value) in &parts.headers {
        text.extend([name.as_str(), ": ", value.to_str().unwrap_or_default(), "\r\n"]);
    }
    text.push_str("\r\n");
    let answered = async {
        stream.write_all(text.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // If the connection were closed while the client still sends, the client could lose the response.
        let mut rest = (&mut stream).take(REFUSAL_BYTES as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(REFUSAL_TIME, answered).await;
}

/// What answers the requests of a connection.
struct Site {
    router: Router,
    ids: Arc<UuidV7Source>,
    draining: Draining,
}

impl Site {
    /// Answers a request. One of HTTP/1.1 without exactly one `Host` is refused (RFC 9112, 3.2), since a proxy in front
    /// could take it for a request to another host than the router does.
    fn answer(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, std::convert::Infallible>> + use<> {
        let is_wrong = request.version() == Version::HTTP_11 && request.headers().get_all(HOST).iter().count() != 1;
        let refused = is_wrong.then(|| {
            let error = ApiError::new(ErrorCode::BadRequest, "a request must have one header Host");
            error.at("Host", FieldCode::Inconsistent).render(&self.ids.next().to_string(), SystemClock.now())
        });
        let answer = refused.is_none().then(|| self.router.clone().call(request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Ok(refused.unwrap_or_default()),
            }
        }
    }
}

/// The time limits of connections, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Limits {
    header: u64,
    keep_alive: u64,
    send: u64,
}

impl Limits {
    fn of(config: &ServeConfig) -> Self {
        let (header, keep_alive) = (millis(config.header_timeout), millis(config.keep_alive_timeout));
        Self { header, keep_alive, send: millis(config.send_timeout) }
    }

    /// Returns the time within which no limit that does not run yet can be exceeded.
    fn shortest(&self) -> u64 {
        self.header.min(self.keep_alive).min(self.send)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 366 * 24 * 3_600_000)
}

/// Serves a connection until the client closes it, a limit is exceeded, or the server stops.
async fn connection(
    io: TokioIo<Observed>,
    peer: SocketAddr,
    builder: Arc<auto::Builder<TokioExecutor>>,
    site: Site,
    activity: Arc<Activity>,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) {
    let requests = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let handling = Handling::begin(&requests, request.version());
        let stream_may_begin = Draining::concerns(&request);
        let mut request = request.map(|body| Upload::body(body, &requests));
        if stream_may_begin {
            request.extensions_mut().insert(site.draining.clone());
        }
        request.extensions_mut().insert(ConnectInfo(peer));
        let answer = site.answer(request);
        async move {
            let response = answer.await?;
            Ok::<_, std::convert::Infallible>(handling.respond(response))
        }
    });
    let mut served = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut timer = pin!(tokio::time::sleep(Duration::from_millis(limits.shortest())));
    let mut is_closing = false;
    loop {
        tokio::select! {
            biased;
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, error, "a connection ended with an error");
                }
                return;
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Ended {
                    return;
                }
                is_closing = true;
                served.as_mut().graceful_shutdown();
                // What has arrived already is read first.
                timer.as_mut().reset(Instant::now() + SETTLE);
            }
            () = timer.as_mut() => {
                let now = activity.now();
                if is_closing {
                    if activity.is_done(now, &limits) {
                        return;
                    }
                    timer.as_mut().reset(Instant::now() + SETTLE);
                    continue;
                }
                let deadline = activity.deadline(&limits);
                if deadline.is_some_and(|deadline| deadline <= now) {
                    if !activity.is_idle_http2() {
                        tracing::debug!(%peer, "a connection exceeded a time limit");
                        return;
                    }
                    // The client learns which of its requests were not begun.
                    is_closing = true;
                    served.as_mut().graceful_shutdown();
                    timer.as_mut().reset(Instant::now() + SETTLE);
                } else {
                    let soonest = now + limits.shortest();
                    let next = deadline.map_or(soonest, |deadline| deadline.min(soonest));
                    timer.as_mut().reset(activity.start + Duration::from_millis(next));
                }
            }
        }
    }
}

/// The state of a connection. Times are milliseconds since its start. Every number is only a hint for its timer, so no
/// order between them is needed.
struct Activity {
    start: Instant,
    /// The requests in progress: from the end of the head until the response is sent or given up.
    open: AtomicU32,
    /// Those that are not answered yet.
    handled: AtomicU32,
    /// Handlers that wait for the body of their request.
    uploads: AtomicU32,
    /// Responses that wait for the application, and not for the client.
    unready: AtomicU32,
    /// The time since which no request has been in progress.
    idle: AtomicU64,
    /// The time at which the head of a request of HTTP/1 began to arrive; 0 if none has.
    head: AtomicU64,
    /// The last time at which bytes of a request or a response in progress were moved.
    progress: AtomicU64,
    has_served: AtomicBool,
    is_http2: AtomicBool,
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Activity {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            open: AtomicU32::new(0),
            handled: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
            unready: AtomicU32::new(0),
            idle: AtomicU64::new(0),
            head: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
        }
    }

    /// Returns the time, which is never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Returns the time at which the connection is closed unless its state changes; `None` while a handler works.
    fn deadline(&self, limits: &Limits) -> Option<u64> {
        let read = |time: &AtomicU64| time.load(Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) > 0 {
            let waits_for_client =
                self.handled.load(Ordering::Relaxed) == 0 && self.unready.load(Ordering::Relaxed) == 0;
            return waits_for_client.then(|| read(&self.progress) + limits.send);
        }
        if !self.has_served.load(Ordering::Relaxed) {
            return Some(limits.header);
        }
        Some(match read(&self.head) {
            0 => read(&self.idle) + limits.keep_alive,
            head => head + limits.header,
        })
    }

    /// Returns whether a connection that is being closed has nothing more to do.
    fn is_done(&self, now: u64, limits: &Limits) -> bool {
        let (open, handled) = (self.open.load(Ordering::Relaxed), self.handled.load(Ordering::Relaxed));
        let stalls = open == handled && handled == self.uploads.load(Ordering::Relaxed);
        open == 0
            || (stalls && self.progress.load(Ordering::Relaxed) + limits.header <= now)
            || self.deadline(limits).is_some_and(|deadline| deadline <= now)
    }

    fn is_idle_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed) && self.open.load(Ordering::Relaxed) == 0
    }

    /// Records that bytes have arrived.
    fn has_read(&self) {
        if self.open.load(Ordering::Relaxed) > 0 {
            self.progress.store(self.now(), Ordering::Relaxed);
        } else if self.head.load(Ordering::Relaxed) == 0 && !self.is_http2.load(Ordering::Relaxed) {
            self.head.store(self.now(), Ordering::Relaxed);
        }
    }

    fn moved(&self) {
        self.progress.store(self.now(), Ordering::Relaxed);
    }
}

/// A request in progress.
struct Open(Arc<Activity>);

impl Drop for Open {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.idle.store(activity.now(), Ordering::Relaxed);
        activity.head.store(0, Ordering::Relaxed);
        activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is not answered yet.
struct Handling(Option<Open>);

impl Handling {
    fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        activity.open.fetch_add(1, Ordering::Relaxed);
        activity.handled.fetch_add(1, Ordering::Relaxed);
        activity.has_served.store(true, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            activity.is_http2.store(true, Ordering::Relaxed);
        }
        activity.moved();
        Self(Some(Open(activity.clone())))
    }

    fn respond(mut self, response: Response<Body>) -> Response<Download> {
        let open = self.0.take();
        if let Some(Open(activity)) = &open {
            activity.moved();
            activity.handled.fetch_sub(1, Ordering::Relaxed);
        }
        response.map(|body| Download { body, is_unready: false, open })
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        if let Some(Open(activity)) = &self.0 {
            activity.handled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Keeps one of the counters of an [`Activity`] in step with a flag.
fn count(counter: &AtomicU32, flag: &mut bool, is_set: bool) {
    if is_set && !*flag {
        counter.fetch_add(1, Ordering::Relaxed);
    } else if *flag && !is_set {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
    *flag = is_set;
}

/// The body of a request.
struct Upload {
    body: Incoming,
    is_awaited: bool,
    activity: Arc<Activity>,
}

impl Upload {
    fn body(body: Incoming, activity: &Arc<Activity>) -> Body {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::new(Self { body, is_awaited: false, activity: activity.clone() })
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let this = &mut *self;
        count(&this.activity.uploads, &mut this.is_awaited, frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        count(&self.activity.uploads, &mut self.is_awaited, false);
    }
}

/// The body of a response, which ends its request when it is sent or given up.
struct Download {
    body: Body,
    is_unready: bool,
    open: Option<Open>,
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let this = &mut *self;
        if let Some(Open(activity)) = &this.open {
            count(&activity.unready, &mut this.is_unready, frame.is_pending());
            activity.moved();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(Open(activity)) = &self.open {
            count(&activity.unready, &mut self.is_unready, false);
        }
    }
}

/// A connection that records when bytes are moved. It holds its place among the connections until it is closed, also
/// after an upgrade to another protocol.
struct Observed {
    stream: TcpStream,
    activity: Arc<Activity>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() && buf.filled().len() > before {
            self.activity.has_read();
        }
        read
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if written.is_ready() {
            self.activity.moved();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if written.is_ready() {
            self.activity.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
