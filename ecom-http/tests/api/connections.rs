//! The limits of connections and of requests at a time, over sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::routing::{get, post};
use ecom_core::access::Principal;
use ecom_http::{HttpConfig, ServeConfig, Stopped, serve};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::support::{API, Api, open};

/// Longer than anything that a test waits for.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Stopped>,
}

impl Server {
    async fn start(router: Router, config: ServeConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, router, config, async { drop(stopped.await) }));
        Self { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Opens a connection and sends some bytes.
    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut io = self.connect().await;
        io.write_all(bytes).await.unwrap();
        io
    }

    async fn stop(self) -> Stopped {
        drop(self.stop);
        tokio::time::timeout(LONG, self.task).await.expect("the server stops").unwrap()
    }
}

/// Limits that a test exceeds soon.
fn brisk() -> ServeConfig {
    ServeConfig::default().header_timeout(SHORT).keep_alive_timeout(SHORT).send_timeout(SHORT)
}

/// Limits that no test exceeds.
fn patient() -> ServeConfig {
    ServeConfig::default().header_timeout(LONG * 10).keep_alive_timeout(LONG * 10).send_timeout(LONG * 10)
}

fn small() -> Router {
    Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/large", get(|| async { vec![b'x'; 64 << 20] }))
}

/// Returns a router whose handler waits until it is told to go on.
fn waiting() -> (Router, Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tells, waits) = (begun.clone(), go.clone());
    let handler = move || async move {
        tells.notify_one();
        waits.notified().await;
        "done"
    };
    (Router::new().route("/", get(handler)), begun, go)
}

/// Reads until the server closes the connection.
async fn rest(io: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(LONG, io.read_to_end(&mut bytes)).await.expect("the connection is closed");
    // A connection that is closed with unread bytes is reset.
    assert!(read.is_ok() || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one response of a length that it announces.
async fn response(io: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length =
                length.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        let n = tokio::time::timeout(LONG, io.read(&mut buffer)).await.expect("a response").unwrap();
        assert!(n > 0, "the connection ended within a response: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn connections_whose_client_is_too_slow_are_closed() {
    let server = Server::start(small(), brisk()).await;
    for bytes in
        [&b""[..], b"G", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: "]
    {
        let answer = rest(&mut server.send(bytes).await).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{}: {answer}", String::from_utf8_lossy(bytes));
    }
    // A byte now and then does not help.
    let mut io = server.connect().await;
    let start = Instant::now();
    while io.write_all(b"G").await.is_ok() {
        assert!(start.elapsed() < LONG, "the connection is never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A connection that is idle after a response is closed, and so is one with half of a second request.
    for more in [&b""[..], b"GET / HT"] {
        let mut io = server.send(GET).await;
        assert!(response(&mut io).await.starts_with("HTTP/1.1 200"));
        io.write_all(more).await.unwrap();
        assert_eq!(rest(&mut io).await, "");
    }
    assert_eq!(server.stop().await.unanswered, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_given_up() {
    let server = Server::start(small(), brisk()).await;
    let mut io = server.send(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::sleep(SHORT * 6).await;
    let mut bytes = Vec::new();
    let _ = tokio::time::timeout(LONG, io.read_to_end(&mut bytes)).await.expect("the connection is closed");
    assert!(bytes.len() < 64 << 20, "the response must be cut");
}

#[tokio::test]
async fn a_handler_may_take_longer_than_a_client() {
    let (router, begun, go) = waiting();
    let server = Server::start(router, brisk()).await;
    let mut io = server.send(GET).await;
    begun.notified().await;
    tokio::time::sleep(SHORT * 4).await;
    go.notify_one();
    assert!(response(&mut io).await.ends_with("done"));
}

#[tokio::test]
async fn connections_without_a_request_do_not_hold_up_a_shutdown() {
    let (router, begun, go) = waiting();
    let server = Server::start(router, patient()).await;
    let mut open = Vec::new();
    for _ in 0..100 {
        for bytes in [&b""[..], b"GET / HTTP/1.1\r\nho", b"PRI * HT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            open.push(server.send(bytes).await);
        }
    }
    let mut io = server.send(GET).await;
    begun.notified().await;
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    for mut io in open {
        rest(&mut io).await;
    }
    // The listener is closed, and the request in progress is answered.
    assert!(TcpStream::connect(address).await.is_err());
    assert!(!stopping.is_finished());
    go.notify_one();
    assert!(rest(&mut io).await.ends_with("done"));
    assert_eq!(stopping.await.unwrap().unanswered, 0);
}

#[tokio::test]
async fn a_shutdown_gives_up_a_body_that_does_not_come_and_a_handler_that_does_not_end() {
    let server = Server::start(small(), patient().header_timeout(SHORT)).await;
    let mut io = server.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf").await;
    tokio::time::sleep(SHORT).await;
    assert_eq!(server.stop().await.unanswered, 0);
    rest(&mut io).await;

    let (router, begun, _go) = waiting();
    let server = Server::start(router, patient().shutdown_timeout(SHORT)).await;
    let _io = server.send(GET).await;
    begun.notified().await;
    assert_eq!(server.stop().await.unanswered, 1);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_gets_a_503_and_is_closed() {
    let server = Server::start(small(), patient().max_connections(2)).await;
    let (mut one, two) = (server.send(GET).await, server.connect().await);
    response(&mut one).await;
    let answer = rest(&mut server.send(GET).await).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "UNAVAILABLE");
    // A place becomes free when a connection ends.
    drop(two);
    let start = Instant::now();
    loop {
        let mut io = server.send(GET).await;
        if response(&mut io).await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(start.elapsed() < LONG, "no place becomes free");
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_gets_a_503_and_health_is_answered() {
    let api = Api::with(open().max_requests(2)).await;
    let server = Server::start(api.router.clone(), patient()).await;
    // The handlers wait for the bodies of these requests.
    let head = format!("POST {API}/products HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
    let head = format!("{head}content-length: 2\r\n\r\n{{");
    let mut slow = [server.send(head.as_bytes()).await, server.send(head.as_bytes()).await];
    let one = format!("GET {API}/products HTTP/1.1\r\nhost: x\r\n\r\n");
    let start = Instant::now();
    let refused = loop {
        let answer = response(&mut server.send(one.as_bytes()).await).await;
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(start.elapsed() < LONG, "{answer}");
    };
    assert!(refused.contains("retry-after: 1\r\n") && refused.contains("UNAVAILABLE"), "{refused}");
    for path in ["/health", "/health/live", "/health/ready"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = response(&mut server.send(bytes.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    for io in &mut slow {
        io.write_all(b"}").await.unwrap();
        assert!(response(io).await.starts_with("HTTP/1.1 422"));
    }
    let answer = response(&mut server.send(one.as_bytes()).await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn http2_is_served_within_the_same_limits() {
    let (router, begun, go) = waiting();
    let server = Server::start(router.merge(Router::new().route("/quick", get(|| async {}))), brisk()).await;
    let io = TokioIo::new(server.connect().await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), io).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = |path: &str| Request::get(format!("http://x{path}")).body(Body::empty()).unwrap();
    let waits = client.send_request(request("/"));
    begun.notified().await;
    // A request in progress keeps the connection open for others.
    tokio::time::sleep(SHORT * 4).await;
    assert_eq!(client.send_request(request("/quick")).await.unwrap().status(), 200);
    go.notify_one();
    assert_eq!(waits.await.unwrap().status(), 200);
    let ended = tokio::time::timeout(LONG, ended).await.expect("the idle connection is closed").unwrap();
    assert!(ended.is_ok(), "the client is told: {ended:?}");
}

/// RFC 9112, 3.2. HTTP/1.0 has no such rule, and HTTP/2 has `:authority`.
#[tokio::test]
async fn a_request_has_one_host() {
    let server = Server::start(small(), patient()).await;
    for (line, hosts, status) in [
        ("GET / HTTP/1.1", "host: x\r\n", "200"),
        ("GET http://x/ HTTP/1.1", "host: x\r\n", "200"),
        ("GET / HTTP/1.0", "", "200"),
        ("GET / HTTP/1.1", "", "400"),
        ("GET http://x/ HTTP/1.1", "", "400"),
        ("GET / HTTP/1.1", "host: x\r\nhost: x\r\n", "400"),
        ("GET / HTTP/1.1", "host: x\r\nHost: evil.example\r\n", "400"),
    ] {
        let request = format!("{line}\r\n{hosts}connection: close\r\n\r\n");
        let answer = rest(&mut server.send(request.as_bytes()).await).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request}{answer}");
        let is_in_envelope = answer.contains(r#""code":"BAD_REQUEST""#) && answer.contains("one header Host");
        assert_eq!(is_in_envelope, status == "400", "{answer}");
    }
    // The connection goes on after a refused request.
    let mut io = server.send(b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(response(&mut io).await.contains("400"));
    io.write_all(GET).await.unwrap();
    assert!(response(&mut io).await.contains("200"));
}

/// A page of another site in a browser on this machine, by DNS rebinding or by a form.
#[tokio::test]
async fn a_server_on_loopback_without_logins_answers_this_machine_alone() {
    let api = Api::with(open().loopback_only(true)).await;
    let server = Server::start(api.router.clone(), patient()).await;
    let call = async |head: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{head}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        rest(&mut server.send(request.as_bytes()).await).await
    };
    let (body, port) = (r#"{"name": "Tea"}"#, server.address.port());
    let post = format!("POST {API}/categories HTTP/1.1");
    let (host, origin) = ("whose Host is this machine", "pages of other sites");
    for (head, why) in [
        (format!("GET {API}/customers HTTP/1.1\r\nhost: rebound.evil.example:{port}"), host),
        (format!("GET http://evil.example{API}/customers HTTP/1.1\r\nhost: localhost:{port}"), host),
        (format!("GET {API}/customers HTTP/1.0"), host),
        (format!("{post}\r\nhost: rebound.evil.example:{port}\r\norigin: http://localhost:{port}"), host),
        (format!("{post}\r\nhost: localhost:{port}\r\norigin: https://evil.example"), origin),
        (format!("{post}\r\nhost: localhost:{port}\r\norigin: null"), origin),
    ] {
        let answer = call(&head, body).await;
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 403 Forbidden"), "{head}: {answer}");
        assert!(answer.contains("FORBIDDEN") && answer.contains(why), "{answer}");
    }
    assert_eq!(api.shop.categories().tree().await.unwrap().value.len(), 0);
    let own = format!("{post}\r\nhost: localhost:{port}\r\norigin: http://127.0.0.1:{port}");
    assert!(call(&own, body).await.starts_with("HTTP/1.1 201"));
    let answer = call(&format!("GET {API}/customers HTTP/1.1\r\nhost: {}", server.address), "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Without the setting, the application decides who reaches the router.
    let any = Api::with(open()).await;
    let headers = [("host", "shop.example"), ("origin", "https://evil.example")];
    any.call("GET", &format!("{API}/customers"), &headers, None).await.ok(200);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(small(), patient().head_limit(8 * 1024).max_headers(10)).await;
    let many = "x: 1\r\n".repeat(11);
    for headers in [format!("x: {}\r\n", "y".repeat(10_000)), many] {
        let answer = rest(&mut server.send(format!("GET / HTTP/1.1\r\n{headers}\r\n").as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

/// Requests whose end a proxy and the server could see at different places are refused, or are the last ones of their
/// connection.
#[tokio::test]
async fn no_request_is_smuggled() {
    let api = Api::with(HttpConfig::default().anonymous(Principal::trusted("anonymous"))).await;
    let server = Server::start(api.router.clone(), patient()).await;
    let hidden = format!("GET {API}/customers HTTP/1.1\r\nhost: x\r\n\r\n");
    let chunked = format!("0\r\n\r\n{hidden}");
    let length = chunked.len();
    for headers in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: 0, {length}\r\n"),
        "content-length: +5\r\n".to_owned(),
        "content-length: 0x5\r\n".to_owned(),
        "content-length: -1\r\n".to_owned(),
        "content-length : 5\r\n".to_owned(),
        format!("content-length: {length}\r\n transfer-encoding: chunked\r\n"),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding: \x0bchunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "x: y\rtransfer-encoding: chunked\r\n".to_owned(),
        "x: y\0\r\n".to_owned(),
        "x y: z\r\n".to_owned(),
        ": z\r\n".to_owned(),
    ] {
        let bytes = format!("POST {API}/products HTTP/1.1\r\nhost: x\r\n{headers}\r\n{chunked}");
        let answer = rest(&mut server.send(bytes.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{headers}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers}: {answer}");
    }
    // Lines that end with a bare LF are read as lines, so that nothing can hide between two of them.
    let bytes = format!("POST {API}/products HTTP/1.1\nhost: x\ncontent-length: 0\nconnection: close\n\n");
    let answer = rest(&mut server.send(bytes.as_bytes()).await).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    // An old version has no chunks.
    let bytes = format!("POST {API}/products HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n{chunked}");
    assert_eq!(rest(&mut server.send(bytes.as_bytes()).await).await.matches("HTTP/1.").count(), 1);
}

/// No value of a request becomes a header of its own in the response.
#[tokio::test]
async fn no_header_is_injected() {
    let api = Api::with(HttpConfig::default().anonymous(Principal::trusted("anonymous"))).await;
    let server = Server::start(api.router.clone(), patient()).await;
    let product = api.product(crate::support::lamp()).await;
    let id = product["id"].as_str().unwrap();
    let injected = "%0d%0ax-injected:%20yes";
    for (method, target, headers) in [
        ("GET", "/health/live".to_owned(), "x-request-id: a\rx-injected: yes\r\n"),
        ("GET", "/health/live".to_owned(), "x-request-id: a\u{85}x-injected: yes\r\n"),
        ("GET", format!("{API}/products?brand=a{injected}"), ""),
        ("GET", format!("{API}/products?cursor=a{injected}"), ""),
        ("GET", format!("{API}/products/a{injected}"), ""),
        ("GET", format!("{API}/products/{id}{injected}"), ""),
        ("GET", format!("/a{injected}/"), ""),
        ("GET", format!("{API}/products"), "origin: http://a\rx-injected: yes\r\n"),
        ("POST", format!("{API}/products"), "idempotency-key: a\rx-injected: yes\r\n"),
    ] {
        let bytes = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        let answer = rest(&mut server.send(bytes.as_bytes()).await).await;
        let head = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(head, _)| head);
        assert!(head.starts_with("HTTP/1.1 "), "{target}: {answer}");
        let names = head.lines().skip(1).map(|line| line.split(':').next().unwrap_or_default());
        assert!(!names.into_iter().any(|name| name.eq_ignore_ascii_case("x-injected")), "{target}: {answer}");
        assert!(!head.replace("\r\n", "").contains(['\r', '\n']), "{target}: {answer}");
    }
}

/// Each kind of body has a limit of depth, and no parser needs a stack as deep as the body.
#[tokio::test]
async fn r17_bodies_that_are_nested_too_deeply_are_refused() {
    let api = Api::new().await;
    let product = api.product(crate::support::lamp()).await;
    let (id, sku) = (product["id"].as_str().unwrap(), product["skus"][0]["id"].as_str().unwrap());
    for (method, path) in [
        ("POST", "/products".to_owned()),
        ("PUT", format!("/products/{id}")),
        ("PATCH", format!("/products/{id}")),
        ("POST", format!("/products/{id}/restore")),
        ("POST", format!("/products/{id}/skus")),
        ("POST", format!("/products/{id}/reviews")),
        ("POST", format!("/skus/{sku}/stock")),
        ("POST", "/categories".to_owned()),
        ("POST", "/customers".to_owned()),
        ("POST", "/carts".to_owned()),
        ("POST", "/orders".to_owned()),
        ("PUT", "/search/synonyms".to_owned()),
        ("PUT", "/search/rules".to_owned()),
        ("POST", "/admin/reindex".to_owned()),
    ] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for field in ["attributes", "lines", "version", "x"] {
                let depth = 100_000;
                let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let body = format!("{{\"{field}\":{value}}}");
                let answer = api.call(method, &format!("{API}{path}"), &[], Some(&body)).await;
                let status = answer.status.as_u16();
                assert!(matches!(status, 400 | 413 | 422), "{method} {path} {field}: {status}");
            }
        }
    }
}
