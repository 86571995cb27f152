//! A product by id from cache over HTTP, against a bare axum handler that returns the same bytes. This process serves
//! both in the same way; the load comes from a separate thread over keep-alive connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{pair, shop};

pub const CONNECTIONS: usize = 64;

pub async fn run() {
    println!("http: a product by id from cache, {CONNECTIONS} connections");
    let b = shop(100).await;
    let id = b.products[42];
    let config = ecom_http::HttpConfig::default().access_log(false);
    let ours = serve(ecom_http::router(b.shop.clone(), config)).await;
    let path = format!("/api/v1/products/{id}");
    let answer = once(ours, &path).await;
    let body = answer.split(|b| *b == b'\n').next_back().map(<[u8]>::to_vec).unwrap_or_default();
    let body = Bytes::from(body);
    println!("  (an answer has {} bytes, {} of them body)", answer.len(), body.len());
    let bare = serve(Router::new().route(
        "/api/v1/products/{id}",
        get(move || {
            let body = body.clone();
            async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], body) }
        }),
    ))
    .await;
    pair(
        "by id from cache over HTTP, against a bare axum handler",
        "0.7",
        7,
        async || load(ours, &path).await,
        async || load(bare, &path).await,
    )
    .await;
}

/// Serves a router that knows the addresses of its clients.
pub async fn serve(app: Router) -> std::net::SocketAddr {
    use axum::serve::ListenerExt as _;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let listener = listener.tap_io(|io| {
        let _ = io.set_nodelay(true);
    });
    let app = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    at
}

pub async fn once(at: std::net::SocketAddr, path: &str) -> Vec<u8> {
    let mut io = TcpStream::connect(at).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    io.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    io.read_to_end(&mut answer).await.expect("answered");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    answer
}

/// Requests one path for two seconds over [`CONNECTIONS`], from a separate thread.
pub async fn load(at: std::net::SocketAddr, path: &str) -> (u64, Duration) {
    load_each(at, &[path.to_owned()]).await
}

/// As [`load`], but each connection requests one of `paths`, in turn.
pub async fn load_each(at: std::net::SocketAddr, paths: &[String]) -> (u64, Duration) {
    let requests: Vec<String> = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    on_connections(at, CONNECTIONS, move |i, mut io, start| {
        let request = requests[i % requests.len()].clone();
        async move {
            let mut buffer = vec![0; 64 * 1024];
            let length = warm(&mut io, request.as_bytes(), &mut buffer).await;
            let mut n = 0u64;
            while start.elapsed() < Duration::from_secs(2) {
                io.write_all(request.as_bytes()).await.expect("sent");
                let mut read = 0;
                while read < length {
                    let got = io.read(&mut buffer).await.expect("answered");
                    assert!(got > 0, "closed");
                    read += got;
                }
                n += 1;
            }
            n
        }
    })
    .await
}

/// Runs `one` on each of some connections at once, from a separate thread. It gets the number of its connection, the
/// connection, and the start of the run, and returns how many requests it has made. Returns their sum, and the time.
pub async fn on_connections<F>(
    at: std::net::SocketAddr,
    connections: usize,
    one: impl Fn(usize, TcpStream, Instant) -> F + Send + Sync + 'static,
) -> (u64, Duration)
where
    F: Future<Output = u64> + Send,
{
    let one = Arc::new(one);
    let (done, answered) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tally = runtime.block_on(async move {
            let start = Instant::now();
            let mut set = tokio::task::JoinSet::new();
            for i in 0..connections {
                let one = one.clone();
                set.spawn(async move {
                    let io = TcpStream::connect(at).await.expect("a connection");
                    io.set_nodelay(true).expect("no delay");
                    one(i, io, start).await
                });
            }
            let n: u64 = set.join_all().await.into_iter().sum();
            (n, start.elapsed())
        });
        let _ = done.send(tally);
    });
    answered.await.expect("a tally")
}

/// Reads a whole response.
pub async fn receive(io: &mut TcpStream, response: &mut Vec<u8>) {
    response.clear();
    let mut whole = None;
    while whole.is_none_or(|whole| response.len() < whole) {
        assert!(io.read_buf(response).await.expect("a response") > 0, "the connection was closed");
        if whole.is_none()
            && let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).expect("a length");
            whole = Some(end + 4 + length.trim().parse::<usize>().expect("a number"));
        }
    }
}

/// Returns the length of an answer, which is the same for all answers.
async fn warm(io: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> usize {
    io.write_all(request).await.expect("sent");
    let mut read = 0;
    loop {
        read += io.read(&mut buffer[read..]).await.expect("answered");
        let text = String::from_utf8_lossy(&buffer[..read]).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let body: usize = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .and_then(|l| l.trim().parse().ok())
                .expect("a content length");
            let length = head.len() + 4 + body;
            while read < length {
                read += io.read(&mut buffer[read..]).await.expect("answered");
            }
            return length;
        }
    }
}
