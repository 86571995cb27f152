//! The feeds, and the shop that imports them, against a server on this machine that behaves in every way.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use ecom_core::catalog::{Feed, FeedState, FeedVersion, ImportKind, ImportOptions};
use ecom_core::clock::ManualClock;
use ecom_core::config::ShopConfig;
use ecom_core::id::UuidV7Source;
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{Job, JobFilter, JobState};
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed, NoSearch, Storage as _};
use ecom_core::sales::{CartFilter, CustomerFilter, CustomerSort};
use ecom_core::{Shop, ShopParts};
use ecom_ingest::outbound::{OutboundClient, OutboundOptions, Refusal};
use ecom_ingest::{DummyJsonFeed, FileFeed, HttpFeed, HttpFeedOptions};
use ecom_storage::SqlStorage;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Returns a file of real input, or says that it is not here.
fn data(name: &str) -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    let file = std::fs::read(&path).ok();
    if file.is_none() {
        eprintln!("skipped: there is no {}", path.display());
    }
    file
}

/// What the server answers at a path.
#[derive(Clone, Default)]
struct Content {
    body: Vec<u8>,
    headers: Vec<(&'static str, String)>,
    /// Whether conditions of requests count.
    conditional: bool,
    /// How many bytes are sent before the connection breaks off.
    breaks_after: Option<usize>,
    /// How many bytes are sent before nothing is sent any more.
    hangs_after: Option<usize>,
    status: Option<u16>,
    redirect: Option<String>,
}

#[derive(Default)]
struct Site {
    content: parking_lot::Mutex<HashMap<String, Content>>,
    /// Arrays that are served in pages, and the change of `total` with each call.
    pages: parking_lot::Mutex<HashMap<String, Pages>>,
    calls: AtomicUsize,
    /// The headers of the last call.
    seen: parking_lot::Mutex<HeaderMap>,
}

#[derive(Clone, Default)]
struct Pages {
    name: &'static str,
    records: Vec<Value>,
    /// The most records of a page.
    cap: usize,
    /// The number of calls during which `total` changes.
    unsteady: usize,
    ignores_skip: bool,
    /// The first record that the server does not have although `total` counts it.
    lacks_from: Option<usize>,
}

async fn serve(
    State(site): State<Arc<Site>>,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    site.calls.fetch_add(1, Ordering::SeqCst);
    (*site.seen.lock()).clone_from(&headers);
    if uri.path() == "/silent" {
        return std::future::pending().await;
    }
    let pages = site.pages.lock().get(uri.path()).cloned();
    if let Some(pages) = pages {
        return page(&site, &pages, uri.path(), &query);
    }
    let Some(content) = site.content.lock().get(uri.path()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(to) = content.redirect {
        return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response();
    }
    let has = |asked: &str, sent: &str| {
        let sent = content.headers.iter().find(|(name, _)| *name == sent).map(|(_, value)| value.as_bytes());
        sent.is_some() && headers.get(asked).map(axum::http::HeaderValue::as_bytes) == sent
    };
    if content.conditional && (has("if-none-match", "etag") || has("if-modified-since", "last-modified")) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let parts = |n: usize| {
        let part = Ok::<_, std::io::Error>(Bytes::copy_from_slice(content.body.get(..n).unwrap()));
        futures::stream::iter([part])
    };
    let body = match (content.breaks_after, content.hangs_after) {
        (Some(n), _) => {
            // The part before must have left when the connection breaks off.
            let broken = futures::stream::once(async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(std::io::ErrorKind::ConnectionReset.into())
            });
            Body::from_stream(parts(n).chain(broken))
        }
        (_, Some(n)) => Body::from_stream(parts(n).chain(futures::stream::pending())),
        _ => Body::from(content.body.clone()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(content.status.unwrap_or(200)).unwrap();
    for (name, value) in &content.headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

fn page(site: &Site, pages: &Pages, path: &str, query: &HashMap<String, String>) -> Response {
    let number = |name: &str| query.get(name).and_then(|n| n.parse::<usize>().ok()).unwrap();
    let (limit, skip) = (number("limit").min(pages.cap), if pages.ignores_skip { 0 } else { number("skip") });
    let served = &pages.records[..pages.lacks_from.unwrap_or(pages.records.len())];
    let records: Vec<&Value> = served.iter().skip(skip).take(limit).collect();
    let mut total = pages.records.len();
    if pages.unsteady > 0 {
        total += pages.unsteady;
        site.pages.lock().get_mut(path).unwrap().unsteady -= 1;
    }
    let text = serde_json::to_string_pretty(&json!({
        pages.name: records, "total": total, "skip": skip, "limit": records.len(),
    }));
    ([(header::CONTENT_TYPE, "application/json")], text.unwrap()).into_response()
}

/// A server on this machine.
struct Server {
    address: SocketAddr,
    site: Arc<Site>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, site) = (listener.local_addr().unwrap(), Arc::<Site>::default());
        let app = Router::new().fallback(serve).with_state(site.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, site, task }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn put(&self, path: &str, content: Content) {
        self.site.content.lock().insert(path.to_owned(), content);
    }

    fn put_pages(&self, path: &str, pages: Pages) {
        self.site.pages.lock().insert(path.to_owned(), pages);
    }

    fn calls(&self) -> usize {
        self.site.calls.load(Ordering::SeqCst)
    }
}

/// Content with an `ETag`, and a server that understands it.
fn tagged(body: impl Into<Vec<u8>>, etag: &str) -> Content {
    let headers = vec![("etag", format!("\"{etag}\""))];
    Content { body: body.into(), headers, conditional: true, ..Content::default() }
}

fn plain(body: impl Into<Vec<u8>>) -> Content {
    Content { body: body.into(), ..Content::default() }
}

fn redirect(to: impl Into<String>) -> Content {
    Content { redirect: Some(to.into()), ..Content::default() }
}

/// Returns options that allow the server of the test, and nothing else that is private.
fn options() -> HttpFeedOptions {
    HttpFeedOptions::default().outbound(OutboundOptions::default().allow("127.0.0.1").unwrap())
}

fn feed(server: &Server, path: &str) -> HttpFeed {
    HttpFeed::new(&server.url(path), options()).unwrap()
}

/// Reads the whole content.
async fn read(content: FeedContent) -> (Vec<u8>, std::io::Result<()>) {
    let (mut reader, pump) = content.into_parts();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        let end = reader.read_to_end(&mut text).map(drop);
        (text, end)
    });
    let pump = async {
        if let Some(pump) = pump {
            pump.await;
        }
    };
    tokio::join!(reading, pump).0.unwrap()
}

async fn changed(feed: &dyn ImportFeed, known: Option<&FeedVersion>) -> (Option<FeedVersion>, Vec<u8>) {
    match feed.fetch(known).await.unwrap() {
        Fetched::Unchanged => panic!("the source must have changed"),
        Fetched::Changed(content) => {
            let version = content.version().cloned();
            let (text, end) = read(content).await;
            end.unwrap();
            (version, text)
        }
    }
}

async fn is_unchanged(feed: &dyn ImportFeed, known: Option<&FeedVersion>) -> bool {
    matches!(feed.fetch(known).await.unwrap(), Fetched::Unchanged)
}

async fn refused(feed: &dyn ImportFeed) -> FeedError {
    feed.fetch(None).await.map(drop).unwrap_err()
}

/// A shop in memory that polls feeds. Time passes when the test advances the clock.
struct World {
    shop: Shop,
    storage: Arc<SqlStorage>,
    clock: Arc<ManualClock>,
}

impl World {
    async fn of(feeds: Vec<Feed>) -> Self {
        let storage = Arc::new(SqlStorage::open("sqlite::memory:").unwrap());
        storage.migrate(Currency::USD).await.unwrap();
        let clock = Arc::new(ManualClock::at_micros(1_767_323_045_678_901));
        let config = ShopConfig::default().poll_interval(Duration::from_millis(10));
        let ids = Arc::new(UuidV7Source::new(clock.clone()));
        let parts = ShopParts::new(storage.clone(), Arc::new(NoSearch));
        let shop = Shop::new(ShopParts { feeds, clock: clock.clone(), ids, config, ..parts }).unwrap();
        Self { shop, storage, clock }
    }

    async fn state(&self, name: &str) -> Option<FeedState> {
        self.storage.connect().await.unwrap().feeds().get(FeedState::id_of(name)).await.unwrap()
    }

    /// Waits until the poll of a feed that is due has ended, and returns its state.
    async fn polled(&self, name: &str) -> FeedState {
        use ecom_core::clock::Clock as _;
        let now = self.clock.now();
        for _ in 0..60_000 {
            match self.state(name).await {
                Some(state) if state.polled_at == Some(now) && !state.running && state.next_poll_at > now => {
                    return state;
                }
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
        panic!("the feed {name} must be polled: {:?}", self.state(name).await)
    }

    /// Lets time pass until the next poll, and waits for its end.
    async fn next(&self, name: &str) -> FeedState {
        use ecom_core::clock::Clock as _;
        let next = self.state(name).await.unwrap().next_poll_at;
        self.clock.advance((next - self.clock.now()).to_std().unwrap());
        self.polled(name).await
    }

    /// Returns the jobs, oldest first.
    async fn jobs(&self) -> Vec<Job> {
        let mut jobs = self.shop.jobs().list(&JobFilter::default(), &Paging::first(100)).await.unwrap().0.items;
        jobs.reverse();
        jobs
    }

    async fn products(&self) -> usize {
        self.storage.connect().await.unwrap().products().revisions(None, 10_000).await.unwrap().len()
    }
}

fn counters(job: &Job) -> Vec<(&str, u64)> {
    job.counters.iter().map(|(name, n)| (name.as_str(), *n)).collect()
}

fn lamps(count: usize) -> String {
    let line = |n| format!("{}\n", json!({ "external_id": n, "title": format!("Lamp {n}"), "price": "5" }));
    (0..count).map(line).collect()
}

#[tokio::test]
async fn the_paged_api_of_dummyjson_is_imported_once_for_each_change() {
    let names = ["products", "users", "carts"];
    let files = names.map(|name| data(&format!("dummyjson-{name}.json")));
    let [Some(products), Some(users), Some(carts)] = files else { return };
    let server = Server::start().await;
    let kinds = [ImportKind::Products, ImportKind::Customers, ImportKind::Carts];
    let mut feeds = Vec::new();
    for ((name, file), kind) in names.into_iter().zip([products, users, carts]).zip(kinds) {
        let records = serde_json::from_slice(&file).unwrap();
        server.put_pages(&format!("/{name}"), Pages { name, records, cap: 30, ..Pages::default() });
        let api = DummyJsonFeed::new(&server.url(&format!("/{name}?select=all")), options()).unwrap();
        // Carts refer to the others, which are there before carts are tried again.
        feeds.push(Feed::new(name, kind, Arc::new(api)));
    }
    let carts = feeds.pop().unwrap();
    let world = World::of(feeds).await;
    let background = world.shop.start();
    for (name, count) in [("products", 194), ("users", 208)] {
        let state = world.polled(name).await;
        assert_eq!((state.failures, state.last_error), (0, None));
        let job = world.shop.jobs().get(state.last_job.unwrap()).await.unwrap();
        assert_eq!((job.state, job.counters["read"]), (JobState::Succeeded, count), "{name}: {job:?}");
        assert_eq!(job.counters["inserted"], count, "{name}: {job:?}");
    }
    assert_eq!(world.products().await, 194);
    let all = CustomerFilter::default();
    let page = Paging::Offset { offset: 0, limit: 1 };
    let total = world.shop.customers().list(&all, CustomerSort::CreatedAsc, &page).await.unwrap().1;
    assert_eq!(total.unwrap().count, 208);
    world.next("products").await;
    assert_eq!(world.jobs().await.len(), 2, "an unchanged source makes no job");
    server.site.pages.lock().get_mut("/products").unwrap().records[7]["title"] = json!("Another title");
    let state = world.next("products").await;
    let job = world.shop.jobs().get(state.last_job.unwrap()).await.unwrap();
    assert_eq!(counters(&job), [("read", 194), ("unchanged", 193), ("updated", 1)]);
    background.shutdown().await;

    let shop = Shop::new(ShopParts { feeds: vec![carts], ..ShopParts::new(world.storage.clone(), Arc::new(NoSearch)) });
    let shop = shop.unwrap();
    let background = shop.start();
    let state = async || shop.feeds().list().await.unwrap().remove(0).state;
    for _ in 0..60_000 {
        if state().await.imported_at.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let state = state().await;
    assert!(state.imported_at.is_some(), "{state:?}");
    background.shutdown().await;
    let carts = shop.carts().list(&CartFilter::default(), &page).await.unwrap();
    assert_eq!(carts.1.unwrap().count, 208);
    let job = shop.jobs().get(state.last_job.unwrap()).await.unwrap();
    assert_eq!((job.state, job.counters["inserted"]), (JobState::Succeeded, 208), "{job:?}");
}

#[tokio::test]
async fn pages_are_read_again_if_their_total_changes_and_stop_at_one_that_adds_nothing() {
    let server = Server::start().await;
    let records: Vec<Value> = (0..25).map(|n| json!({ "id": n, "title": "two\nlines" })).collect();
    let pages = Pages { name: "products", records, cap: 10, ..Pages::default() };
    let feed = DummyJsonFeed::new(&server.url("/p"), options()).unwrap().page(50);
    let lines = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().lines().count();

    server.put_pages("/p", pages.clone());
    let (version, text) = changed(&feed, None).await;
    assert_eq!((lines(&text), server.calls()), (25, 3), "three pages, a record per line");
    assert!(is_unchanged(&feed, version.as_ref()).await);

    server.put_pages("/p", Pages { unsteady: 3, ..pages.clone() });
    let (again, text) = changed(&feed, None).await;
    assert_eq!((again, lines(&text)), (version, 25));

    server.put_pages("/p", Pages { unsteady: 1_000, ..pages.clone() });
    assert!(refused(&feed).await.to_string().contains("has changed during each of"));

    server.put_pages("/p", Pages { lacks_from: Some(20), ..pages.clone() });
    assert_eq!(lines(&changed(&feed, None).await.1), 20, "an empty page is the last one");

    server.put_pages("/p", Pages { ignores_skip: true, ..pages });
    assert!(refused(&feed).await.to_string().contains("the source ignores `skip`"));

    let feed = |path: &str| DummyJsonFeed::new(&server.url(path), options()).unwrap();
    server.put("/list", plain("[{\"id\": 1}]"));
    assert!(refused(&feed("/list")).await.to_string().contains("is not an object"));
    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(b"{\"users\": [{\"id\": 1}], \"total\": 1}").unwrap();
    server.put("/zipped", plain(zipped.finish().unwrap()));
    assert_eq!(changed(&feed("/zipped"), None).await.1, b"{\"id\": 1}\n");
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    bomb.write_all(&vec![b' '; 40 << 20]).unwrap();
    server.put("/bomb", plain(bomb.finish().unwrap()));
    assert!(refused(&feed("/bomb")).await.to_string().contains("is larger than"));
}

#[tokio::test]
async fn a_url_is_asked_only_for_what_has_changed() {
    let server = Server::start().await;
    let modified = || vec![("last-modified", "Sat, 28 Nov 2026 07:00:00 GMT".to_owned())];
    server.put("/etag", tagged("one", "1"));
    let conditional = Content { headers: modified(), conditional: true, ..plain("one") };
    server.put("/modified", conditional);
    server.put("/ignores", Content { conditional: false, ..tagged("one", "1") });
    server.put("/ignores-both", Content { headers: modified(), ..plain("one") });
    server.put("/nothing", plain("one"));
    for path in ["/etag", "/modified", "/ignores", "/ignores-both", "/nothing"] {
        let feed = feed(&server, path);
        let (version, text) = changed(&feed, None).await;
        assert_eq!(text, b"one", "{path}");
        assert!(version.is_some() && is_unchanged(&feed, version.as_ref()).await, "{path}: {version:?}");
        let has = |name: &str| server.site.seen.lock().contains_key(name);
        assert_eq!(has("if-none-match"), matches!(path, "/etag" | "/ignores"), "{path}");
        assert_eq!(has("if-modified-since"), path.contains("modified") || path == "/ignores-both", "{path}");
    }
    let (version, _) = changed(&feed(&server, "/etag"), None).await;
    server.put("/etag", tagged("two", "2"));
    let (next, text) = changed(&feed(&server, "/etag"), version.as_ref()).await;
    assert!(next != version && text == b"two");
    let (version, _) = changed(&feed(&server, "/nothing"), None).await;
    server.put("/nothing", plain("two"));
    assert_eq!(changed(&feed(&server, "/nothing"), version.as_ref()).await.1, b"two");
}

#[tokio::test]
async fn statuses_are_errors_that_say_what_to_do() {
    let server = Server::start().await;
    assert!(refused(&feed(&server, "/missing")).await.to_string().ends_with("404; check the URL of the feed"));
    let status = |status| Content { status: Some(status), ..Content::default() };
    server.put("/login", status(401));
    assert!(refused(&feed(&server, "/login")).await.to_string().ends_with("401; check the credentials of the feed"));
    server.put("/busy", Content { headers: vec![("retry-after", "120".to_owned())], ..status(503) });
    let busy = refused(&feed(&server, "/busy")).await;
    assert_eq!(busy.retry_after, Some(Duration::from_secs(120)));
    let (sent, until) = ("Sat, 28 Nov 2026 23:59:30 GMT", "Sun, 29 Nov 2026 00:01:00 GMT");
    let headers = vec![("date", sent.to_owned()), ("retry-after", until.to_owned())];
    server.put("/later", Content { headers, ..status(429) });
    assert_eq!(refused(&feed(&server, "/later")).await.retry_after, Some(Duration::from_secs(90)));
    server.put("/odd", status(304));
    assert!(refused(&feed(&server, "/odd")).await.to_string().contains("was not asked for"));
    server.put("/br", Content { headers: vec![("content-encoding", "br".to_owned())], ..plain("x") });
    assert!(refused(&feed(&server, "/br")).await.to_string().contains("not gzip"));
    let gone = HttpFeed::new("http://127.0.0.1:9/secret?key=secret", options()).unwrap();
    let error = refused(&gone).await;
    let all = format!("{}", ecom_core::WithCauses(&error));
    assert!(all.contains("cannot be reached") && !all.contains("secret"), "{all}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = Server::start().await;
    let options = || options().response_timeout(Duration::from_millis(100)).idle_timeout(Duration::from_millis(100));
    let feed = |path: &str| HttpFeed::new(&server.url(path), options()).unwrap();
    assert!(refused(&feed("/silent")).await.to_string().contains("has not answered within 0.1 s"));
    // It sends a version, so that the content is read while it is imported.
    server.put("/slow", Content { hangs_after: Some(3), ..tagged("one two", "1") });
    let Fetched::Changed(content) = feed("/slow").fetch(None).await.unwrap() else { panic!("it must have changed") };
    let (text, end) = read(content).await;
    assert_eq!((text.as_slice(), end.unwrap_err().kind()), (b"one".as_slice(), std::io::ErrorKind::TimedOut));
    server.put("/slow", Content { hangs_after: Some(3), ..plain("one two") });
    assert!(refused(&feed("/slow")).await.to_string().contains("has sent nothing for 0.1 s"));
    let paged = DummyJsonFeed::new(&server.url("/slow"), options()).unwrap();
    assert!(refused(&paged).await.to_string().contains("has sent nothing for 0.1 s"));
}

#[tokio::test]
async fn a_source_that_is_too_large_is_refused() {
    let server = Server::start().await;
    let feed = |path: &str| HttpFeed::new(&server.url(path), options().max_bytes(1_000)).unwrap();
    server.put("/long", tagged(vec![b'x'; 1_001], "1"));
    assert!(refused(&feed("/long")).await.to_string().contains("1000 bytes"), "the length is announced");
    let unannounced = Content { hangs_after: Some(1_001), ..tagged(vec![b'x'; 1_001], "1") };
    server.put("/stream", unannounced.clone());
    let Fetched::Changed(content) = feed("/stream").fetch(None).await.unwrap() else { panic!("it must have changed") };
    let error = read(content).await.1.unwrap_err();
    assert!(error.to_string().contains("1000 bytes"), "{error}");
    server.put("/spooled", Content { headers: Vec::new(), ..unannounced });
    assert!(refused(&feed("/spooled")).await.to_string().contains("1000 bytes"));
    server.put("/fits", tagged(vec![b'x'; 1_000], "1"));
    assert_eq!(changed(&feed("/fits"), None).await.1.len(), 1_000);
}

#[tokio::test]
async fn redirects_are_followed_within_bounds_and_never_inward() {
    let server = Server::start().await;
    server.put("/end", tagged("one", "1"));
    for n in 0..7 {
        let to = if n == 0 { "/end".to_owned() } else { format!("/r{}", n - 1) };
        server.put(&format!("/r{n}"), redirect(to));
    }
    assert_eq!(changed(&feed(&server, "/r4"), None).await.1, b"one", "five redirects");
    assert!(refused(&feed(&server, "/r5")).await.to_string().contains("too many redirects"));
    server.put("/loop", redirect("/loop"));
    assert!(refused(&feed(&server, "/loop")).await.to_string().contains("too many redirects"));
    let port = server.address.port();
    for inward in [
        format!("http://127.0.0.2:{port}/end"),
        format!("http://[::1]:{port}/end"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://localhost:{port}/end"),
    ] {
        server.put("/in", redirect(inward.clone()));
        let resolver = Names::of([vec!["127.0.0.2"]]);
        let outbound = OutboundOptions::default().allow("127.0.0.1").unwrap().resolver(resolver);
        let feed = HttpFeed::new(&server.url("/in"), options().outbound(outbound)).unwrap();
        let calls = server.calls();
        let error = refused(&feed).await.to_string();
        assert!(error.contains("is refused") && error.contains("not public"), "{inward}: {error}");
        assert_eq!(server.calls(), calls + 1, "{inward}");
    }
    server.put("/out", redirect("file:///etc/passwd"));
    assert!(feed(&server, "/out").fetch(None).await.is_err());
    // The headers of a feed are for its host only.
    let (secret, other) = ("Bearer secret", Server::start().await);
    other.put("/end", tagged("one", "1"));
    server.put("/other", redirect(other.url("/end")));
    let with = |path: &str| HttpFeed::new(&server.url(path), options().header("X-Key", secret).unwrap()).unwrap();
    assert_eq!(changed(&with("/r0"), None).await.1, b"one");
    assert_eq!(server.site.seen.lock().get("x-key").unwrap(), secret);
    assert!(refused(&with("/other")).await.to_string().contains("another host"));
    assert_eq!(other.calls(), 0);
    assert_eq!(changed(&feed(&server, "/other"), None).await.1, b"one");
}

/// A resolver that answers each question in another way.
struct Names {
    answers: parking_lot::Mutex<Vec<Vec<&'static str>>>,
    asked: Arc<AtomicUsize>,
}

impl Names {
    fn of(answers: impl IntoIterator<Item = Vec<&'static str>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self { answers: parking_lot::Mutex::new(answers), asked: Arc::default() }
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().pop().unwrap_or_default();
        let all: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(Box::new(all.into_iter()) as Addrs) })
    }
}

/// The name leads to an address that is allowed, and then to one inside. Every answer is checked, and connections are
/// made to the checked addresses: a request asks once, and addresses beside an allowed one are not tried.
#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_is_refused() {
    let server = Server::start().await;
    server.put("/end", tagged("one", "1"));
    let url = format!("http://rebind.test:{}/end", server.address.port());
    // Nothing listens at the second address of the first answer that is allowed.
    let names = Names::of([vec!["127.0.0.2", "127.0.0.1"], vec!["127.0.0.2", "10.0.0.1", "169.254.169.254"], vec![]]);
    let asked = names.asked.clone();
    let outbound = OutboundOptions::default().allow("127.0.0.1").unwrap().resolver(names);
    let client = OutboundClient::new(&outbound).unwrap();
    let get = || client.get(&url.parse().unwrap()).unwrap().header("connection", "close").send();
    assert_eq!(get().await.unwrap().text().await.unwrap(), "one");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the name is resolved once for a connection");
    let error = get().await.unwrap_err();
    assert_eq!((Refusal::of(&error), server.calls()), (Some(Refusal::PrivateAddress), 1), "{error}");
    let unknown = get().await.unwrap_err();
    assert_eq!(Refusal::of(&unknown), None, "a name without an address is no refusal");
}

#[tokio::test]
async fn a_source_that_breaks_off_is_a_failed_job_and_the_next_poll_continues() {
    let server = Server::start().await;
    let text = lamps(500);
    let middle = text.len() / 2;
    server.put("/lamps", Content { breaks_after: Some(middle), ..tagged(text.clone(), "1") });
    let source = Arc::new(feed(&server, "/lamps"));
    let options = || ImportOptions::default().batch(50);
    let world = World::of(vec![Feed::new("lamps", ImportKind::Products, source).options(options)]).await;
    let background = world.shop.start();
    let failed = world.polled("lamps").await;
    assert_eq!((failed.failures, &failed.version), (1, &None));
    let error = failed.last_error.unwrap();
    assert!(error.contains("the connection has broken off before the end of the source"), "{error}");
    let some = world.products().await;
    assert!(some > 200 && some < 300, "what has arrived is imported: {some}");
    assert_eq!(failed.done, some as u64);
    server.put("/lamps", tagged(text, "1"));
    let good = world.next("lamps").await;
    assert_eq!((good.failures, world.products().await), (0, 500));
    world.next("lamps").await;
    background.shutdown().await;
    let jobs = world.jobs().await;
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [JobState::Failed, JobState::Succeeded]);
    let rest = 500 - some as u64;
    assert_eq!(counters(&jobs[1]), [("inserted", rest), ("read", rest), ("skipped", some as u64)]);
    assert_eq!(server.site.seen.lock().get("if-none-match").unwrap(), "\"1\"");
}

#[tokio::test]
async fn a_compressed_export_of_shopify_behind_a_url_is_imported_once() {
    let Some(csv) = data("shopify-apparel.csv") else { return };
    let mut zipped = GzEncoder::new(Vec::new(), Compression::default());
    zipped.write_all(&csv).unwrap();
    let zipped = zipped.finish().unwrap();
    let server = Server::start().await;
    server.put("/file.csv.gz", tagged(zipped.clone(), "1"));
    let mut encoded = tagged(zipped, "1");
    encoded.headers.push(("content-encoding", "gzip".to_owned()));
    server.put("/file.csv", encoded);
    let named = |name: &str, path: &str| Feed::new(name, ImportKind::Products, Arc::new(feed(&server, path)));
    let world = World::of(vec![named("file", "/file.csv.gz")]).await;
    let background = world.shop.start();
    world.polled("file").await;
    let imported = world.products().await;
    assert!(imported > 10, "{imported}");
    server.site.content.lock().get_mut("/file.csv.gz").unwrap().headers = vec![("etag", "\"2\"".to_owned())];
    world.next("file").await;
    background.shutdown().await;
    let jobs = world.jobs().await;
    assert_eq!((jobs.len(), jobs[0].counters["inserted"]), (2, imported as u64));
    assert_eq!(counters(&jobs[1]), [("read", imported as u64), ("unchanged", imported as u64)]);
    let (_, text) = changed(&feed(&server, "/file.csv"), None).await;
    assert!(text.starts_with(&[0x1f, 0x8b]), "the import decompresses what the server has compressed");
}

#[tokio::test]
async fn a_file_is_imported_when_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("products.ndjson");
    let feed = FileFeed::new(&path);
    assert!(refused(&feed).await.to_string().contains("does not exist"));
    assert_eq!(feed.location(), "products.ndjson");
    let put = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    put("one");
    let (version, text) = changed(&feed, None).await;
    assert!(text == b"one" && is_unchanged(&feed, version.as_ref()).await);
    put("two");
    let (next, text) = changed(&feed, version.as_ref()).await;
    assert!(next != version && text == b"two", "it has the same size");
    // The file is written while it is read.
    let Fetched::Changed(content) = feed.fetch(None).await.unwrap() else { panic!("it must have changed") };
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b" and more").unwrap();
    let error = read(content).await.1.unwrap_err().to_string();
    assert!(error.contains("was written while it was read"), "{error}");
    // Another one takes its place while it is read.
    let Fetched::Changed(content) = feed.fetch(None).await.unwrap() else { panic!("it must have changed") };
    put("three");
    let (text, end) = read(content).await;
    assert!(text == b"two and more" && end.is_ok(), "the old file is read to its end");
    assert!(refused(&FileFeed::new(folder.path())).await.to_string().contains("not that of a file"));
}
