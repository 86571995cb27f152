//! Measures the cost of logins and limits: reads and orders with a token against those without, the rate limiter, and
//! reads while many log in, or while many hold connections. This process serves both sides of a pair in the same way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use ecom::access::{Principal, Secret, UserInput};
use ecom::adapters::{MemoryCache, MemoryCacheOptions, MemoryLimiter};
use ecom::clock::{SharedClock, SystemClock};
use ecom::http::{HttpConfig, RateLimits, ServeConfig, router};
use ecom::port::{NoSearch, Quota, RateLimiter};
use ecom::sales::CustomerInput;
use ecom::{Shop, ShopParts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::http::{CONNECTIONS, on_connections, receive, serve};
use crate::support::{Bench, median, pair, rounds, shop};

/// How many sessions the reads with a token have.
const TOKENS: usize = 1_000;
/// How many addresses log in, and how many logins they attempt in a second.
const ADDRESSES: usize = 200;
const PASSWORD: &str = "correct horse battery";
const SHOPPER: &str = "shopper@example.com";
/// How long a load goes on.
const SECONDS: u64 = 2;
/// How many clients hold connections, and how long they wait between two bytes.
const SLOW: usize = 2_000;
const PAUSE: Duration = Duration::from_secs(1);
/// How long the logins go on.
const LOGIN_SECONDS: usize = 5;

pub async fn run() {
    println!("access: over HTTP, {CONNECTIONS} connections");
    let b = shop(1_000).await;
    let tokens = register(&b.shop, TOKENS).await;
    let bare = HttpConfig::default().access_log(false).rate_limits(None);
    let open = bare.clone().anonymous(Principal::trusted("bench"));
    let (closed, open) = (serve(router(b.shop.clone(), bare)).await, serve(router(b.shop.clone(), open)).await);

    let with = |token: &String| get(&b, &format!("Authorization: Bearer {token}\r\n"));
    let bearing: Vec<String> = tokens.iter().map(with).collect();
    let anonymous = vec![get(&b, "")];
    pair(
        "by id from cache with one of 1,000 tokens, against no login",
        "0.9",
        7,
        async || send(closed, &bearing).await,
        async || send(closed, &anonymous).await,
    )
    .await;

    // A customer orders for itself.
    let shopper = shopper(&b).await;
    let orders = |header: &str| order_requests(&shopper.skus, &shopper.customer, header);
    let (with, without) = (orders(&format!("Authorization: Bearer {}\r\n", shopper.token)), orders(""));
    pair(
        "orders with a login, against orders without one",
        "0.95",
        7,
        async || send(closed, &with).await,
        async || send(open, &without).await,
    )
    .await;

    let limits = RateLimits::default().address(Some(Quota::new(1_000_000, Duration::from_secs(1))));
    let limited = HttpConfig::default().access_log(false).rate_limits(Some(limits));
    let limited = serve(router(limited_shop(&b), limited)).await;
    pair(
        "by id from cache with the rate limiter in process, against none",
        "0.97",
        7,
        async || send(limited, &anonymous).await,
        async || send(closed, &anonymous).await,
    )
    .await;
}

/// The request that reads a product.
fn get(b: &Bench, header: &str) -> String {
    format!("GET /api/v1/products/{} HTTP/1.1\r\nHost: x\r\n{header}\r\n", b.products[42])
}

/// Registers users and returns an access token of each.
async fn register(shop: &Shop, number: usize) -> Vec<String> {
    let start = Instant::now();
    let mut tokens = Vec::with_capacity(number);
    for n in 0..number {
        let user = UserInput::new(email(n)).password(Secret::new(PASSWORD));
        let made = shop.auth().register(&user, None).await.expect("a user");
        tokens.push(made.access.reveal().to_owned());
    }
    println!("  ({number} users made in {:.1?})", start.elapsed());
    tokens
}

fn email(n: usize) -> String {
    format!("user{n}@example.com")
}

/// A user who is a customer, and what it orders.
struct Shopper {
    customer: String,
    token: String,
    /// The SKUs, with their prices.
    skus: Vec<(String, String)>,
}

async fn shopper(b: &Bench) -> Shopper {
    let customer = b.shop.customers().create(&CustomerInput::new("Ada", "L", SHOPPER)).await.expect("a customer");
    let mut user = UserInput::new(SHOPPER).password(Secret::new(PASSWORD));
    user.customer_id = Some(customer.id);
    b.shop.users().create(&user).await.expect("a user");
    let made = b.shop.auth().login(SHOPPER, &Secret::new(PASSWORD), None).await.expect("a login");
    let mut skus = Vec::new();
    for id in b.products.iter().take(CONNECTIONS) {
        let product = b.shop.products().get(*id).await.expect("a product");
        let price = product.skus[0].final_price(product.discount);
        skus.push((product.skus[0].id.to_string(), price.amount().to_string()));
    }
    Shopper { customer: customer.id.to_string(), token: made.access.reveal().to_owned(), skus }
}

fn order_requests(skus: &[(String, String)], customer: &str, header: &str) -> Vec<String> {
    let request = |(sku, price): &(String, String)| {
        let line = serde_json::json!({"sku_id": sku, "quantity": 1, "unit_price": price});
        let body = serde_json::json!({"customer_id": customer, "delivery_method": "on_hand", "lines": [line]});
        let body = body.to_string();
        format!(
            "POST /api/v1/orders HTTP/1.1\r\nHost: x\r\n{header}Content-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        )
    };
    skus.iter().map(request).collect()
}

/// Returns a shop on the same database that counts requests in process.
fn limited_shop(b: &Bench) -> Shop {
    let clock: SharedClock = Arc::new(SystemClock);
    let limiter: Arc<dyn RateLimiter> = Arc::new(MemoryLimiter::new(100_000, clock));
    let mut parts = ShopParts::new(b.storage.clone(), Arc::new(NoSearch));
    parts.cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    parts.rate_limiter = limiter;
    Shop::new(parts).expect("a shop")
}

/// Sends requests for some seconds over [`CONNECTIONS`], from a separate thread. The connections take turns with the
/// requests, and each sends one once the one before it has been answered.
async fn send(at: SocketAddr, requests: &[String]) -> (u64, Duration) {
    let requests: Arc<[String]> = requests.into();
    on_connections(at, CONNECTIONS, move |i, mut io, start| {
        let requests = requests.clone();
        async move {
            let mut buffer = Vec::with_capacity(16 * 1024);
            let mut n = 0;
            while start.elapsed() < Duration::from_secs(SECONDS) {
                let request = &requests[(i + n * CONNECTIONS) % requests.len()];
                let status = exchange(&mut io, request, &mut buffer).await;
                assert!(matches!(status, 200 | 201), "{}", String::from_utf8_lossy(&buffer));
                n += 1;
            }
            n as u64
        }
    })
    .await
}

/// Sends a request, reads the whole response, and returns its status.
async fn exchange(io: &mut TcpStream, request: &str, response: &mut Vec<u8>) -> u16 {
    io.write_all(request.as_bytes()).await.expect("sent");
    receive(io, response).await;
    std::str::from_utf8(&response[9..12]).ok().and_then(|text| text.parse().ok()).expect("a status")
}

/// Prints how many of 200 logins a second succeed, and how long reads take meanwhile.
pub async fn logins() {
    let b = &shop(1_000).await;
    let read = &get(b, "");
    register(&b.shop, ADDRESSES).await;
    let limits = RateLimits::default().trusted_proxies(vec!["127.0.0.1/32".parse().expect("a network")]);
    // The hashes are what limits the logins here.
    let limits = limits.address(Some(Quota::new(1_000_000, Duration::from_secs(1)))).login(None);
    let at = serve(router(limited_shop(b), HttpConfig::default().access_log(false).rate_limits(Some(limits)))).await;
    // The hashes of one core.
    let start = Instant::now();
    let alone = 20;
    for n in 0..alone {
        b.shop.auth().login(&email(n), &Secret::new(PASSWORD), None).await.expect("a login");
    }
    let hashes = alone as f64 / start.elapsed().as_secs_f64();
    let mut ratios = (Vec::new(), Vec::new());
    for round in 0..rounds(3) {
        let before = p99(at, read, async || tokio::time::sleep(Duration::from_secs(SECONDS)).await).await;
        let (made, refused, others) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let tally = Arc::new((made, refused, others));
        let attempts = tally.clone();
        let during = p99(at, read, async || apart(move || async move { attempt(at, &attempts).await }).await).await;
        let (made, refused, others) =
            (tally.0.load(Ordering::Relaxed), tally.1.load(Ordering::Relaxed), tally.2.load(Ordering::Relaxed));
        let rate = made as f64 / LOGIN_SECONDS as f64;
        println!(
            "  round {round}: {made} logins, {refused} times 503, {others} others; p99 of reads {during:.2} ms, before \
             {before:.2} ms"
        );
        ratios.0.push(rate / hashes);
        ratios.1.push(during / before);
    }
    println!(
        "logins from 200 addresses, of the {hashes:.0} hashes a second of one core: ratio {:.2}; wanted 0.8",
        median(&mut ratios.0)
    );
    println!("p99 of reads while they log in, against before: ratio {:.2}; wanted at most 2", median(&mut ratios.1));
}

/// Attempts logins for some seconds, each from its own address in turn.
async fn attempt(at: SocketAddr, tally: &Arc<(AtomicUsize, AtomicUsize, AtomicUsize)>) {
    let mut all = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(ADDRESSES).unwrap_or(1));
    for n in 0..ADDRESSES * LOGIN_SECONDS {
        tick.tick().await;
        let tally = tally.clone();
        all.spawn(async move {
            let user = n % ADDRESSES;
            let body = serde_json::json!({"email": email(user), "password": PASSWORD}).to_string();
            let request = format!(
                "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.{user}\r\nContent-Type: \
                 application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut io = TcpStream::connect(at).await.expect("a connection");
            let status = exchange(&mut io, &request, &mut Vec::new()).await;
            let counter = match status {
                200 => &tally.0,
                503 => &tally.1,
                _ => &tally.2,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }
    while all.join_next().await.is_some() {}
}

/// Prints how long reads take while clients hold connections that they do not use: a quarter of them sends nothing, a
/// quarter a byte of a head now and then, a quarter half of a body, and a quarter takes no response. A connection that
/// the server closes is opened again.
pub async fn slow_clients() {
    let b = &shop(1_000).await;
    let read = &get(b, "");
    let at = serve_with_limits(router(b.shop.clone(), HttpConfig::default().access_log(false).rate_limits(None))).await;
    let mut ratios = Vec::new();
    for round in 0..rounds(3) {
        let before = p99(at, read, async || tokio::time::sleep(Duration::from_secs(SECONDS)).await).await;
        let open = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (counted, read_of_clients) = (open.clone(), read.to_owned());
        let clients = tokio::spawn(apart(move || async move {
            let mut slow = JoinSet::new();
            for n in 0..SLOW {
                slow.spawn(hold_on(at, n, read_of_clients.clone(), counted.clone()));
            }
            let _ = stopped.await;
        }));
        // The server closes some of them meanwhile.
        while open.load(Ordering::Relaxed) < SLOW * 9 / 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let during = p99(at, read, async || tokio::time::sleep(Duration::from_secs(SECONDS)).await).await;
        let held = open.load(Ordering::Relaxed);
        println!("  round {round}: {held} slow clients; p99 of reads {during:.2} ms, before {before:.2} ms");
        drop(stop);
        clients.await.expect("clients");
        ratios.push(during / before);
    }
    println!("p99 of reads with {SLOW} slow clients, against none: ratio {:.2}; wanted at most 2", median(&mut ratios));
}

/// Holds a connection, and opens another one when the server has closed it.
async fn hold_on(at: SocketAddr, n: usize, read: String, open: Arc<AtomicUsize>) {
    // Not all at the same time.
    tokio::time::sleep(PAUSE * u32::try_from(n).unwrap_or(0) / u32::try_from(SLOW).unwrap_or(1)).await;
    loop {
        let Ok(io) = TcpStream::connect(at).await else { continue };
        open.fetch_add(1, Ordering::Relaxed);
        hold(io, n % 4, &read).await;
        open.fetch_sub(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE / 10).await;
    }
}

/// Holds a connection in one of four ways until the server closes it.
async fn hold(mut io: TcpStream, way: usize, read: &str) {
    let mut byte = [0];
    match way {
        0 => drop(io.read(&mut byte).await),
        1 => {
            for part in read.as_bytes().chunks(1) {
                if io.write_all(part).await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        2 => {
            let head =
                "POST /api/v1/carts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
            if io.write_all(format!("{head}\r\n{{\"lines\":").as_bytes()).await.is_ok() {
                drop(io.read(&mut byte).await);
            }
        }
        _ => {
            // Some responses, none of which is taken.
            while io.write_all(read.as_bytes()).await.is_ok() {
                tokio::time::sleep(PAUSE * 10).await;
            }
        }
    }
}

/// Serves a router with the limits of connections that the reference server has.
async fn serve_with_limits(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(ecom::http::serve(listener, app, ServeConfig::default(), std::future::pending()));
    at
}

/// Runs clients on a thread of their own, so that they wait for processors and not for the tasks of the server.
async fn apart<F: Future<Output: Send + 'static>>(clients: impl FnOnce() -> F + Send + 'static) -> F::Output {
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _ = done.send(runtime.block_on(clients()));
    });
    ended.await.expect("clients")
}

/// Returns the p99 of a read, in milliseconds, that is sent again and again while `meanwhile` runs.
async fn p99(at: SocketAddr, read: &str, meanwhile: impl AsyncFnOnce()) -> f64 {
    let read = read.to_owned();
    let reading = apart(move || async move {
        let mut io = TcpStream::connect(at).await.expect("a connection");
        io.set_nodelay(true).expect("no delay");
        let (mut times, mut buffer) = (Vec::new(), Vec::new());
        let end = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < end {
            let start = Instant::now();
            assert_eq!(exchange(&mut io, &read, &mut buffer).await, 200, "a product");
            times.push(start.elapsed().as_secs_f64() * 1e3);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    });
    tokio::join!(reading, meanwhile()).0
}
