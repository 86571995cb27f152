//! The reference server as the README starts it, with its access log in a file, against bare axum servers that return
//! the same bytes: both are processes of their own, built by the same profile. Then its memory with 100,000 products.

use std::fs::{self, File};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::any;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::http::{CONNECTIONS, load, on_connections, once, receive};
use crate::import;
use crate::support::{pair, rounds};

/// The argument that makes this program a bare server. The file with the body of its answers follows.
pub const BARE: &str = "bare-server";
const PRODUCTS: usize = 100_000;
const SECONDS: u64 = 2;
/// How long the server is under load before its memory is read.
const LOADED_SECONDS: u64 = 15;

/// Builds the server.
fn build() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--example", "server"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo");
    assert!(status.success(), "the server does not build");
}

pub async fn run() {
    println!("shipped: the server of the README, access log to a file, {CONNECTIONS} connections");
    build();
    let server = Server::start(tempfile::tempdir().expect("a folder"), &[]);
    let list = "/api/v1/products?per_page=20".to_owned();
    let first: serde_json::Value = serde_json::from_slice(&body(server.at, &list).await).expect("JSON");
    let product = format!("/api/v1/products/{}", first["data"][0]["id"].as_str().expect("an id"));
    let search = "/api/v1/products/search?q=headphones".to_owned();
    for (what, wanted, path) in [
        ("a product by id", "0.75", &product),
        ("a list of 20", "0.5", &list),
        ("a search for headphones", "0.5", &search),
    ] {
        let body = body(server.at, path).await;
        let bare = Server::bare(&body);
        pair(
            &format!("{what} from cache ({} bytes), against a bare axum server", body.len()),
            wanted,
            7,
            async || load(server.at, path).await,
            async || load(bare.at, path).await,
        )
        .await;
        if path == &search {
            // No two searches are equal, so that each is made.
            let distinct = Arc::new(AtomicUsize::new(0));
            pair(
                "a search for headphones, not from cache, against a bare axum server",
                "0.3",
                7,
                async || load_distinct(server.at, path, &distinct).await,
                async || load_distinct(bare.at, path, &distinct).await,
            )
            .await;
        }
    }
}

/// Requests a path for some seconds, with a bound of the price that excludes nothing and that is different each time.
async fn load_distinct(at: SocketAddr, path: &str, distinct: &Arc<AtomicUsize>) -> (u64, Duration) {
    let (path, distinct) = (path.to_owned(), distinct.clone());
    let of = move || format!("{path}&max_price={}", 100_000 + distinct.fetch_add(1, Ordering::Relaxed));
    load_made(at, Duration::from_secs(SECONDS), of).await
}

async fn load_made(
    at: SocketAddr,
    time: Duration,
    path: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> (u64, Duration) {
    on_connections(at, CONNECTIONS, move |_, mut io, start| {
        let path = path.clone();
        async move {
            let (mut n, mut response) = (0, Vec::new());
            while start.elapsed() < time {
                let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path());
                io.write_all(request.as_bytes()).await.expect("sent");
                receive(&mut io, &mut response).await;
                assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
                n += 1;
            }
            n
        }
    })
    .await
}

/// Prints the memory of a server with many products under reads, lists and searches, beyond the limit of its cache.
pub async fn memory() {
    println!("memory: the server of the README with {PRODUCTS} products");
    build();
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("products.ndjson");
    fs::write(&file, import::records(PRODUCTS)).expect("a file");
    let start = Instant::now();
    let server = Server::start(dir, &["--import", "products.ndjson"]);
    println!("{PRODUCTS} products imported by the server, and found by searches, in {:.1?}", start.elapsed());
    println!("  memory after the import: {}", server.memory());
    let server = server.again();
    println!("  memory after a new start: {}", server.memory());
    let ids = Arc::new(ids(server.at).await);
    let number = Arc::new(AtomicUsize::new(0));
    for _ in 0..rounds(2) {
        let (ids, number) = (ids.clone(), number.clone());
        let (n, time) = load_made(server.at, Duration::from_secs(LOADED_SECONDS), move || {
            let n = number.fetch_add(1, Ordering::Relaxed);
            let spread = n.wrapping_mul(2_654_435_761);
            match n % 4 {
                0 => format!("/api/v1/products?sort=price_asc&min_price={}", spread % 1_000),
                1 => format!("/api/v1/products/search?q=measured%20{}", spread % PRODUCTS),
                _ => format!("/api/v1/products/{}", ids[spread % ids.len()]),
            }
        })
        .await;
        let rate = n as f64 / time.as_secs_f64();
        println!(
            "  memory after {n} requests ({rate:.0}/s): {}; wanted at most 100 MB above the cache",
            server.memory()
        );
    }
}

/// Returns the ids of some thousands of products.
async fn ids(at: SocketAddr) -> Vec<String> {
    let mut ids = Vec::new();
    let mut path = "/api/v1/products?per_page=100&cursor=".to_owned();
    while ids.len() < PRODUCTS {
        let page: serde_json::Value = serde_json::from_slice(&body(at, &path).await).expect("JSON");
        let id = |p: &serde_json::Value| p["id"].as_str().expect("an id").to_owned();
        ids.extend(page["data"].as_array().expect("products").iter().map(id));
        let Some(next) = page["meta"]["next_cursor"].as_str() else { break };
        path = format!("/api/v1/products?per_page=100&cursor={next}");
    }
    ids
}

/// Returns the body of an answer.
async fn body(at: SocketAddr, path: &str) -> Vec<u8> {
    let answer = once(at, path).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    answer[end + 4..].to_vec()
}

/// A server in a process of its own, which ends with it.
struct Server {
    process: Child,
    at: SocketAddr,
    /// `None` once another process uses it.
    dir: Option<TempDir>,
}

impl Server {
    /// Starts the reference server in a directory.
    fn start(dir: TempDir, arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program");
        let target = program.ancestors().nth(2).expect("the target directory");
        let mut command = Command::new(target.join("examples/server"));
        command.args(arguments).env("ECOM_RATE_LIMIT", "off").env("ECOM_LISTEN", "127.0.0.1:0");
        Self::spawn(command, dir)
    }

    /// Ends the server and starts another one on its data.
    fn again(mut self) -> Self {
        let dir = self.dir.take().expect("a directory");
        drop(self);
        Self::start(dir, &[])
    }

    /// Starts a bare axum server.
    fn bare(body: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("body");
        fs::write(&file, body).expect("a file");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg(BARE).arg(file);
        Self::spawn(command, dir)
    }

    fn spawn(mut command: Command, dir: TempDir) -> Self {
        let log = dir.path().join("log");
        let file = File::create(&log).expect("a file");
        command.current_dir(dir.path()).stdout(file.try_clone().expect("a file")).stderr(file).stdin(Stdio::null());
        let mut process = command.spawn().expect("a server");
        loop {
            if let Some(at) = address(&log) {
                return Self { process, at, dir: Some(dir) };
            }
            let ended = process.try_wait().expect("a status");
            assert!(ended.is_none(), "{}", fs::read_to_string(&log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Describes the resident memory, as Linux counts it: what the process has allocated, and mapped files.
    fn memory(&self) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kb| kb / 1024)
        };
        match (megabytes("RssAnon:"), megabytes("RssFile:"), megabytes("VmHWM:")) {
            (Some(own), Some(files), Some(most)) => {
                format!("{own} MB of its own and {files} MB of mapped files, at most {most} MB so far")
            }
            _ => "not known on this system".to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the address that a server has printed.
fn address(log: &Path) -> Option<SocketAddr> {
    let lines = std::io::BufReader::new(File::open(log).ok()?).lines();
    lines.map_while(Result::ok).find_map(|line| line.split_once(" listens on http://")?.1.trim().parse().ok())
}

/// Answers every request with the contents of a file, until the process is killed.
pub async fn bare(file: &Path) {
    let body = Bytes::from(fs::read(file).expect("the body"));
    let app = Router::new().fallback(any(move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body) }
    }));
    let at = crate::http::serve(app).await;
    println!("a bare server listens on http://{at}");
    std::future::pending::<()>().await;
}
