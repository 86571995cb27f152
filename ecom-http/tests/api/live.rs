//! Live events as server-sent events and as WebSocket, and the tickets that open them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request};
use ecom_core::access::{Permission, Principal, Secret, UserInput};
use ecom_core::config::ShopConfig;
use ecom_core::port::NoSearch;
use ecom_http::{HttpConfig, ServeConfig, serve};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::support::{API, Api, Log, golden, id, kept_private, lamp, open};

/// Longer than anything that a test waits for.
const LONG: Duration = Duration::from_secs(60);

/// Settings whose streams notice soon that the clock of the test has moved.
fn brisk() -> HttpConfig {
    open().live_heartbeat(Duration::from_millis(20))
}

/// A stream of server-sent events.
struct Sse {
    headers: HeaderMap,
    body: BodyDataStream,
    text: String,
}

/// A block of fields.
#[derive(Debug, Default, PartialEq)]
struct Block {
    event: String,
    id: String,
    data: String,
    retry: String,
}

impl Sse {
    async fn open(api: &Api, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = Request::get(format!("{API}/events{query}")).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.status.as_u16(), 200);
        Self { headers: parts.headers, body: body.into_data_stream(), text: String::new() }
    }

    /// Returns the next block, or `None` after the end.
    async fn block(&mut self) -> Option<Block> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let mut fields = Block::default();
                for line in block.lines() {
                    let (name, value) = line.split_once(':').expect("a field has a colon");
                    let value = value.trim_start();
                    match name {
                        "event" => value.clone_into(&mut fields.event),
                        "id" => value.clone_into(&mut fields.id),
                        "data" => value.clone_into(&mut fields.data),
                        "retry" => value.clone_into(&mut fields.retry),
                        // A comment.
                        _ => assert_eq!(name, "", "{line}"),
                    }
                }
                self.text = String::from(rest);
                return Some(fields);
            }
            let part = tokio::time::timeout(LONG, self.body.next()).await.expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&part?.unwrap()).unwrap());
        }
    }

    /// Returns the next block with data.
    async fn message(&mut self) -> Block {
        loop {
            let block = self.block().await.expect("the stream goes on");
            if !block.data.is_empty() {
                return block;
            }
        }
    }

    async fn event(&mut self) -> Value {
        let block = self.message().await;
        assert_eq!(block.event, "", "{block:?}");
        let event: Value = serde_json::from_str(&block.data).unwrap();
        assert_eq!(event["id"], block.id);
        event
    }

    /// Checks that the stream ends for a reason.
    async fn ends(mut self, reason: &str) {
        let block = self.message().await;
        assert_eq!((&*block.event, &*block.data), ("end", &*format!("{{\"reason\":\"{reason}\"}}")));
        assert_eq!(self.block().await, None);
    }
}

async fn adjust(api: &Api, product: &Value, delta: i64) {
    let path = format!("/skus/{}/stock", id(&product["skus"][0]));
    api.write("POST", &path, json!({"delta": delta, "reference": "RMA-17"})).await.ok(201);
}

#[tokio::test]
async fn events_have_the_documented_fields() {
    let api = Api::new().await;
    let product = api.product(lamp()).await;
    let mut sse = Sse::open(&api, "?kind=stock&kind=prices", &[("accept-encoding", "gzip")]).await;
    let header = |name: &str| sse.headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!((header("cache-control"), header("content-encoding")), ("no-store", ""));
    assert_eq!((header("x-accel-buffering"), header("x-content-type-options")), ("no", "nosniff"));
    assert!(!header("x-request-id").is_empty());
    let first = sse.block().await.unwrap();
    assert!(first.id.parse::<uuid::Uuid>().is_ok() && first.retry == "2000", "{first:?}");
    api.clock.advance(Duration::from_secs(1));
    adjust(&api, &product, -2).await;
    let patch = json!({"price": "17.50", "version": 1});
    let answer = api.write("PATCH", &format!("/products/{}", id(&product)), patch).await.ok(200);
    let (stock, prices) = (sse.event().await, sse.event().await);
    assert_eq!(prices["id"], answer.header("x-last-event-id"));
    golden("live_stock", &stock);
    golden("live_prices", &prices);
    // A client may offer another protocol in the same request.
    Sse::open(&api, "", &[("upgrade", "h2c"), ("connection", "upgrade, http2-settings")]).await;
    let mut numbers = Sse::open(
        &Api { router: ecom_http::router(api.shop.clone(), open().numbers(true)), ..api },
        &format!("?kind=prices&last_event_id={}", first.id),
        &[],
    )
    .await;
    let data = numbers.message().await.data;
    assert!(data.contains("\"price\":17.50,") && data.contains("\"previous_price\":19.99,"), "{data}");
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event() {
    let api = Api::new().await;
    let product = api.product(lamp()).await;
    let first = Sse::open(&api, "", &[]).await.block().await.unwrap().id;
    for _ in 0..3 {
        adjust(&api, &product, -1).await;
    }
    let mut sse = Sse::open(&api, "", &[("last-event-id", &first)]).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(sse.event().await["id"].as_str().unwrap().to_owned());
    }
    // A browser that opens a stream again sends the same query as before.
    let query = format!("?last_event_id={first}");
    let mut sse = Sse::open(&api, &query, &[("last-event-id", &ids[1])]).await;
    assert_eq!(sse.event().await["id"], *ids[2]);
    let mut sse = Sse::open(&api, &query, &[]).await;
    assert_eq!(sse.event().await["id"], *ids[0]);
    let unknown = "0197a0b0-0000-7000-8000-000000000000";
    let mut sse = Sse::open(&api, "", &[("last-event-id", unknown)]).await;
    let reset = sse.message().await;
    assert_eq!((&*reset.event, &*reset.data, &*reset.id), ("reset", "{\"reason\":\"trimmed\"}", &*ids[2]));
}

#[tokio::test]
async fn an_event_that_is_left_out_moves_the_position() {
    let api = Api::with(brisk()).await;
    let product = api.product(lamp()).await;
    let mut sse = Sse::open(&api, "?kind=prices", &[]).await;
    let first = sse.block().await.unwrap().id;
    adjust(&api, &product, -1).await;
    while sse.block().await.unwrap().id == first {}
}

#[tokio::test]
async fn r17_a_bad_request_for_events_names_the_field() {
    let api = Api::new().await;
    let sse = ("accept", "text/event-stream");
    let id = "0197a0b0-0000-7000-8000-000000000000";
    for (query, headers, field) in [
        ("?kind=stocks", vec![sse], "kind"),
        ("?kind=stock&kind=", vec![sse], "kind"),
        ("?id=7", vec![sse], "id"),
        ("?kinds=stock", vec![sse], "kinds"),
        ("?last_event_id=7", vec![sse], "last_event_id"),
        ("", vec![sse, ("last-event-id", "7")], "Last-Event-ID"),
        ("", vec![], "Accept"),
        ("", vec![("accept", "application/json, */*")], "Accept"),
        ("", vec![("upgrade", "websocket"), ("connection", "upgrade")], "Upgrade"),
        ("", vec![("upgrade", "h2c, WebSocket"), ("connection", "upgrade")], "Upgrade"),
        ("", vec![("upgrade", "h2c"), ("connection", "upgrade")], "Accept"),
    ] {
        let answer = api.call("GET", &format!("{API}/events{query}"), &headers, None).await;
        answer.refused(400, "BAD_REQUEST", field);
    }
    let many: String = (0..101).fold("?".to_owned(), |mut query, n| {
        let _ = write!(query, "&id={}{n:03}", &id[..33]);
        query
    });
    api.call("GET", &format!("{API}/events{many}"), &[sse], None).await.refused(422, "VALIDATION_FAILED", "id");
}

/// Returns the access token of a new user with these roles.
async fn log_in(api: &Api, roles: &[&str]) -> Secret {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let input = UserInput { roles, ..UserInput::new("ada@example.com") }.password("correct horse");
    api.shop.users().create(&input).await.unwrap();
    api.shop.auth().login("ada@example.com", &Secret::new("correct horse"), None).await.unwrap().access
}

#[tokio::test]
async fn r16_events_of_orders_need_a_permission() {
    let api = Api::with(brisk().anonymous(Principal::anonymous([]))).await;
    let orders = format!("{API}/events?kind=orders");
    let sse = ("accept", "text/event-stream");
    api.call("GET", &orders, &[sse], None).await.refused(401, "UNAUTHENTICATED", "");
    let token = log_in(&api, &[]).await;
    let who = api.shop.auth().authenticate(&token).await.unwrap();
    let token = format!("Bearer {}", token.reveal());
    api.call("GET", &orders, &[sse, ("authorization", &token)], None).await.refused(403, "FORBIDDEN", "");
    // What anybody may see, anybody gets.
    Sse::open(&api, "", &[]).await;
    // A stream ends with its session.
    let stream = Sse::open(&api, "", &[("authorization", &token)]).await;
    api.shop.auth().logout(&who).await.unwrap();
    stream.ends("revoked").await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_after_its_longest_duration() {
    let api = Api::with(brisk().live_lifetime(Duration::from_secs(20 * 60))).await;
    let token = format!("Bearer {}", log_in(&api, &["staff"]).await.reveal());
    let of_token = Sse::open(&api, "", &[("authorization", &token)]).await;
    let mut of_anybody = Sse::open(&api, "", &[]).await;
    api.clock.advance(Duration::from_secs(15 * 60));
    of_token.ends("expired").await;
    let product = api.product(lamp()).await;
    assert_eq!(of_anybody.event().await["aggregate_id"], product["id"]);
    api.clock.advance(Duration::from_secs(5 * 60));
    of_anybody.ends("expired").await;
}

#[tokio::test]
async fn a_client_beyond_the_limit_is_refused() {
    let api = Api::with(open().live_clients(1)).await;
    let first = Sse::open(&api, "", &[]).await;
    let sse = [("accept", "text/event-stream")];
    let refused = api.call("GET", &format!("{API}/events"), &sse, None).await.refused(503, "UNAVAILABLE", "");
    assert!(!refused.header("retry-after").is_empty());
    drop(first);
    Sse::open(&api, "", &[]).await;
}

async fn ticket(api: &Api, headers: &[(&str, &str)]) -> String {
    let answer = api.call("POST", &format!("{API}/events/ticket"), headers, None).await.ok(201);
    let data = kept_private(answer).data();
    assert!(data["expires_at"].as_str().unwrap().ends_with('Z'));
    data["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn r15_a_ticket_opens_one_stream_within_a_minute() {
    let api = Api::with(brisk().anonymous(Principal::anonymous([]))).await;
    let sse = ("accept", "text/event-stream");
    let path = format!("{API}/events/ticket");
    // A place in the code that logs, and that another test reaches first, would stay silent.
    api.call("POST", &path, &[], None).await.refused(401, "UNAUTHENTICATED", "");
    let (log, _guard) = Log::capture();
    api.call("POST", &path, &[], None).await.refused(401, "UNAUTHENTICATED", "");
    let token = format!("Bearer {}", log_in(&api, &["staff"]).await.reveal());
    let login = ("authorization", &*token);
    let keyed = [login, ("idempotency-key", "k")];
    api.call("POST", &path, &keyed, None).await.refused(400, "BAD_REQUEST", "Idempotency-Key");

    let first = ticket(&api, &[login]).await;
    let url = format!("{API}/events?kind=orders&ticket={first}");
    api.call("GET", &url, &[sse, login], None).await.refused(422, "VALIDATION_FAILED", "ticket");
    // A refused request leaves the ticket as it is.
    api.call("GET", &url.replace("orders", "order"), &[sse], None).await.refused(400, "BAD_REQUEST", "kind");
    let stream = Sse::open(&api, &format!("?kind=orders&ticket={first}"), &[]).await;
    api.call("GET", &url, &[sse], None).await.refused(401, "UNAUTHENTICATED", "");

    let second = ticket(&api, &[login]).await;
    api.clock.advance(Duration::from_secs(60));
    let late = format!("{API}/events?ticket={second}");
    api.call("GET", &late, &[sse], None).await.refused(401, "UNAUTHENTICATED", "");
    // The stream does not end with the token by which its ticket was made.
    api.clock.advance(Duration::from_secs(15 * 60));
    drop(stream);
    let lines = log.lock().clone();
    assert!(lines.contains("path=/api/v1/events "), "{lines}");
    assert!(!lines.contains(&first) && !lines.contains(&second), "a ticket must not be logged");
}

/// Opens many streams, of which a tenth is never read. The others get all events, and the buffers stay bounded. The
/// clients that were dropped miss nothing and get nothing twice when they come back.
async fn many_clients(clients: usize) {
    const BUFFER: usize = 16;
    const EVENTS: usize = 60;
    let api = Api::changed(open().live_clients(clients), Arc::new(NoSearch), |parts| {
        parts.config = ShopConfig::default().live_buffer(BUFFER);
    })
    .await;
    let product = api.product(lamp()).await;
    let (mut stalled, mut readers) = (Vec::new(), tokio::task::JoinSet::new());
    let received = Arc::new(AtomicUsize::new(0));
    for n in 0..clients {
        let mut sse = Sse::open(&api, "?kind=stock", &[]).await;
        sse.block().await.unwrap();
        if n % 10 == 0 {
            // The stream waits for its first event, and then nobody reads it.
            assert!(futures::poll!(sse.body.next()).is_pending());
            stalled.push(sse);
            continue;
        }
        let received = received.clone();
        readers.spawn(async move {
            let mut found = Vec::new();
            for _ in 0..EVENTS {
                let event = sse.event().await;
                found.push(event["stock"][0]["delta"].as_i64().unwrap());
                received.fetch_add(1, Ordering::Relaxed);
            }
            found
        });
    }
    let reading = clients - stalled.len();
    for n in 1..=EVENTS {
        adjust(&api, &product, i64::try_from(n).unwrap()).await;
        let all = async {
            while received.load(Ordering::Relaxed) < reading * n {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG * 4, all).await.expect("nobody waits for those that do not read");
        if n == EVENTS - 1 {
            assert_eq!(api.shop.live().subscribers(), reading, "the stalled clients must be dropped");
        }
    }
    let expected: Vec<i64> = (1..=i64::try_from(EVENTS).unwrap()).collect();
    for found in readers.join_all().await {
        assert_eq!(found, expected, "each client gets each event once and in order");
    }
    for mut sse in stalled {
        let mut last = Value::Null;
        for delta in &expected[..BUFFER] {
            last = sse.event().await;
            assert_eq!(last["stock"][0]["delta"], *delta);
        }
        sse.ends("lagged").await;
        let headers = [("last-event-id", last["id"].as_str().unwrap())];
        let mut again = Sse::open(&api, "?kind=stock", &headers).await;
        for delta in &expected[BUFFER..] {
            assert_eq!(again.event().await["stock"][0]["delta"], *delta);
        }
    }
}

#[tokio::test]
async fn many_clients_get_all_events_although_some_do_not_read() {
    many_clients(200).await;
}

#[tokio::test]
#[ignore = "takes long: run it with --ignored"]
async fn a_thousand_clients_get_all_events_although_some_do_not_read() {
    many_clients(1_000).await;
}

/// A server over sockets.
struct Server {
    address: std::net::SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<ecom_http::Stopped>,
}

impl Server {
    async fn start(api: &Api) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let config = ServeConfig::default().shutdown_timeout(LONG * 10);
        let task = tokio::spawn(serve(listener, api.router.clone(), config, async { drop(stopped.await) }));
        Self { address, stop, task }
    }

    async fn send(&self, head: &str) -> TcpStream {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        io.write_all(format!("{head}\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        io
    }

    async fn web_socket(&self, query: &str) -> Client {
        let head = format!(
            "GET {API}/events{query} HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
        );
        let mut client = Client { io: self.send(&head).await };
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.bytes::<1>().await[0]);
        }
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        client
    }

    /// Stops the server, which must not wait for its streams.
    async fn stop(self) {
        drop(self.stop);
        let stopped = tokio::time::timeout(LONG, self.task).await.expect("the server stops").unwrap();
        assert_eq!(stopped.unanswered, 0);
    }
}

/// A client of WebSocket (RFC 6455).
struct Client {
    io: TcpStream,
}

#[derive(Debug, PartialEq)]
enum Frame {
    Message(Value),
    Ping,
    Close(u16, String),
}

impl Client {
    async fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        tokio::time::timeout(LONG, self.io.read_exact(&mut bytes)).await.expect("a message").unwrap();
        bytes
    }

    async fn frame(&mut self) -> Frame {
        let [first, length] = self.bytes().await;
        let length = match length {
            126 => usize::from(u16::from_be_bytes(self.bytes().await)),
            n => usize::from(n),
        };
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await.unwrap();
        match first {
            0x81 => Frame::Message(serde_json::from_slice(&payload).unwrap()),
            0x89 => Frame::Ping,
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Frame::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            other => panic!("{other:#x}"),
        }
    }

    /// Returns the next message that is no heartbeat.
    async fn message(&mut self) -> Value {
        loop {
            match self.frame().await {
                Frame::Message(message) => return message,
                // A pong with the mask 0.
                Frame::Ping => self.io.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.unwrap(),
                close @ Frame::Close(..) => panic!("{close:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_web_socket_has_the_events_of_server_sent_events() {
    let api = Api::with(brisk().anonymous(Principal::anonymous([]))).await;
    let server = Server::start(&api).await;
    let staff = Principal::new("user:staff", [Permission::OrdersRead, Permission::ProductsRead]);
    let (ticket, _) = api.shop.auth().issue_ticket(&staff).await.unwrap();
    let mut client = server.web_socket(&format!("?kind=stock&kind=products&ticket={}", ticket.reveal())).await;
    let first = client.message().await;
    assert_eq!((&first["event"], &first["id"]), (&json!("position"), &json!(uuid::Uuid::nil())));
    let input = json!({"title": "P", "stock": 3, "price": "1.00", "status": "draft"}).to_string();
    let input: ecom_core::catalog::ProductInput = serde_json::from_str(&input).unwrap();
    let product = api.shop.products().create(&input).await.unwrap();
    let created = client.message().await;
    assert_eq!((&created["event"], &created["data"]["kind"]), (&json!("message"), &json!("product.created")));
    assert_eq!(created["data"]["aggregate_id"], json!(product.id));
    assert_eq!(
        created["data"]["stock"],
        json!([{"sku_id": product.skus[0].id, "delta": 3, "on_hand": 3, "available": 3}])
    );
    assert_eq!(created["id"], created["data"]["id"]);
    // What a client sends is ignored, and an event that it does not get moves its position.
    client.io.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    api.shop.categories().create(&ecom_core::catalog::CategoryInput::new("C")).await.unwrap();
    let moved = client.message().await;
    assert_eq!(moved["event"], "position");
    let mut again =
        server.web_socket(&format!("?kind=categories&last_event_id={}", created["id"].as_str().unwrap())).await;
    again.message().await;
    assert_eq!(again.message().await["id"], moved["id"]);
    // A client that does not know the ticket gets an answer of HTTP.
    let mut refused = server
        .send(&format!(
            "GET {API}/events?ticket=x HTTP/1.1\r\nconnection: close, upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
        ))
        .await;
    let mut answer = String::new();
    tokio::time::timeout(LONG, refused.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("UNAUTHENTICATED"), "{answer}");

    while api.shop.live().subscribers() < 2 {
        tokio::task::yield_now().await;
    }
    api.shop.live().end_all();
    let mut ended = Vec::new();
    loop {
        match again.frame().await {
            Frame::Message(message) => ended.push(message),
            Frame::Ping => {}
            Frame::Close(code, reason) => {
                assert_eq!((code, &*reason), (1001, "closed"));
                break;
            }
        }
    }
    assert_eq!(ended, [json!({"event": "end", "data": {"reason": "closed"}})]);
    server.stop().await;
}

/// Sends a handshake of a page with an origin, and checks the status of the answer.
async fn opens(server: &Server, query: &str, headers: &str, status: &str) {
    let head = format!(
        "GET {API}/events{query} HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}"
    );
    let mut io = server.send(&head).await;
    let mut answer = [0; 12];
    tokio::time::timeout(LONG, io.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{headers}");
}

/// Browsers let pages of every site open a WebSocket. The tests address the server as `x`.
#[tokio::test]
async fn r16_a_web_socket_of_a_page_of_another_site_is_refused() {
    let allowed = vec!["https://app.example".to_owned()];
    let api = Api::with(open().cors_origins(allowed)).await;
    let server = Server::start(&api).await;
    for (origin, status) in [
        ("http://x", "101"),
        ("https://x", "101"),
        ("https://app.example", "101"),
        ("https://evil.example", "403"),
        ("https://x.evil.example", "403"),
        ("null", "403"),
        ("*", "403"),
    ] {
        opens(&server, "", &format!("origin: {origin}"), status).await;
    }
    server.stop().await;

    // Where all sites are allowed, a page must know a token, or the caller is nobody.
    let nobody = Principal::anonymous([]);
    let api = Api::with(open().cors_origins(vec!["*".to_owned()]).anonymous(nobody)).await;
    let token = log_in(&api, &["staff"]).await;
    let server = Server::start(&api).await;
    opens(&server, "", "origin: https://evil.example", "101").await;
    let with_token = format!("origin: https://evil.example\r\nauthorization: Bearer {}", token.reveal());
    opens(&server, "", &with_token, "101").await;
    server.stop().await;
}

#[tokio::test]
async fn strangers_get_at_most_half_of_the_places() {
    let api = Api::with(brisk().live_clients(2).anonymous(Principal::anonymous([]))).await;
    let token = format!("Bearer {}", log_in(&api, &["staff"]).await.reveal());
    let _first = Sse::open(&api, "", &[]).await;
    let sse = [("accept", "text/event-stream")];
    api.call("GET", &format!("{API}/events"), &sse, None).await.refused(503, "UNAVAILABLE", "");
    Sse::open(&api, "", &[("authorization", &token)]).await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_does_not_wait_for_them() {
    let api = Api::with(open()).await;
    let server = Server::start(&api).await;
    let mut socket = server.web_socket("").await;
    socket.message().await;
    let mut sse = server.send(&format!("GET {API}/events HTTP/1.1\r\naccept: text/event-stream")).await;
    let mut text = String::new();
    let mut buffer = [0; 1_024];
    while !text.contains("retry:") {
        let n = tokio::time::timeout(LONG, sse.read(&mut buffer)).await.expect("the head").unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    server.stop().await;
    tokio::time::timeout(LONG, sse.read_to_string(&mut text)).await.expect("the stream ends").unwrap();
    assert!(
        text.contains("event: end\ndata: {\"reason\":\"shutdown\"}")
            || text.contains("data: {\"reason\":\"shutdown\"}\nevent: end"),
        "{text}"
    );
    assert_eq!(socket.frame().await, Frame::Message(json!({"event": "end", "data": {"reason": "shutdown"}})));
    assert_eq!(socket.frame().await, Frame::Close(1001, "shutdown".to_owned()));
}
