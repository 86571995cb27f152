//! Search engines over the same 100,000 products: the time to build the index, the rate of searches, and how much the
//! adapter adds to a bare HTTP client that sends the same JSON.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use ecom::adapters::{
    ElasticsearchOptions, ElasticsearchSearch, MemoryCache, MemoryCacheOptions, TantivyOptions, TantivySearch,
};
use ecom::id::ProductId;
use ecom::port::{Checkpoint, SearchProvider};
use ecom::search::{Facet, SearchQuery, SearchRequest, SearchSort, Synonyms};
use ecom::stock::{StockAdjustment, StockReason};
use ecom::{Shop, ShopParts};
use test_servers::{Kind, Server};

/// The checkpoint of a build.
const START: Checkpoint = Checkpoint {
    database: uuid::Uuid::nil(),
    position: ecom::platform::OutboxPosition { seq: 1 },
    version: uuid::Uuid::nil(),
    language: ecom::search::Language::English,
};
/// The last product of each batch. The builds are not continued.
const LAST: ProductId = ProductId(uuid::Uuid::max());

use crate::support::{Bench, median, pair, rounds, shop};

const PRODUCTS: usize = 100_000;

/// Measures the engines that `is_wanted`.
pub async fn run(is_wanted: impl Fn(&str) -> bool) {
    println!("engines: {PRODUCTS} products");
    let b = shop(PRODUCTS).await;
    if is_wanted("tantivy") {
        let index = b.dir.path().join("index");
        let tantivy = TantivySearch::open(TantivyOptions::directory(index)).await.expect("an index");
        measure(&b, Arc::new(tantivy), "the process").await;
    }
    for kind in [Kind::Elasticsearch, Kind::OpenSearch] {
        let product = if kind == Kind::OpenSearch { "opensearch" } else { "elasticsearch" };
        if !is_wanted(product) {
            continue;
        }
        let server = Server::with(kind, &[]).await;
        let recorder = Recorder::before(server.url()).await;
        let provider = |url: &str| {
            let options = ElasticsearchOptions::from_url(&format!("{product}+{url}?replicas=0")).expect("a URL");
            Arc::new(ElasticsearchSearch::open(options).expect("a provider"))
        };
        // What the adapter sends is recorded, and a bare client sends it again.
        let through = provider(&recorder.url);
        rebuild(&b, through.clone()).await;
        let bulks = recorder.take("_bulk");
        let direct = provider(&server.url());
        overhead_of_indexing(&b, direct.clone(), &server.url(), &recorder.taken(&Method::PUT), &bulks).await;
        // The bare client has replaced the index.
        rebuild(&b, through.clone()).await;
        for (what, query) in queries() {
            let request = SearchRequest::new(query, &Synonyms::default()).expect("a request");
            through.search(&request).await.expect("results");
            // A search with few matches makes a second call, for the partial matches.
            let calls = recorder.take("_search");
            overhead_of_searching(what, &*direct, &request, &server.url(), &calls).await;
        }
        measure(&b, direct, &format!("the server, {} MB", server.memory() / 1_000_000)).await;
    }
    #[cfg(feature = "meilisearch")]
    if is_wanted("meilisearch")
        && let Some(server) = Server::meilisearch().await
    {
        let url = server.url();
        let (key, host) = url.trim_start_matches("http://").split_once('@').unwrap_or(("", &url));
        let (key, address) = (key.trim_start_matches(':'), format!("http://{host}"));
        let recorder = Recorder::before(address.clone()).await;
        let provider = |url: &str| {
            let url = format!("meilisearch+{url}?api_key={key}");
            let options = ecom::adapters::MeilisearchOptions::from_url(&url).expect("a URL");
            Arc::new(ecom::adapters::MeilisearchSearch::open(options).expect("a provider"))
        };
        let through = provider(&recorder.url);
        rebuild(&b, through.clone()).await;
        let calls = recorder.take("/indexes");
        let direct = provider(&address);
        overhead_of_tasks(&b, direct.clone(), &address, &calls).await;
        for (what, query) in queries() {
            let request = SearchRequest::new(query, &Synonyms::default()).expect("a request");
            recorder.take("/");
            through.search(&request).await.expect("results");
            let calls = recorder.take("multi-search");
            overhead_of_searching(what, &*direct, &request, &address, &calls).await;
        }
        measure(&b, direct, &format!("the server, {} MB", server.memory() / 1_000_000)).await;
    }
}

/// Compares a rebuild on Meilisearch, without the time in which it reads the products, with a bare client that sends
/// the same documents and waits until the server has indexed them.
#[cfg(feature = "meilisearch")]
async fn overhead_of_tasks(b: &Bench, provider: Arc<dyn SearchProvider>, server: &str, calls: &[Recorded]) {
    let client = reqwest::Client::new();
    let documents = documents(b).await;
    let is_of = |call: &&Recorded, method: Method, part: &str| call.method == method && call.path.contains(part);
    let set = calls.iter().find(|call| is_of(call, Method::PATCH, "/settings")).expect("the settings");
    let index = set.path.trim_end_matches("/settings").to_owned();
    let create = calls.iter().find(|call| {
        let name = index.rsplit('/').next().unwrap_or_default();
        call.method == Method::POST && call.path == "/indexes" && String::from_utf8_lossy(&call.body).contains(name)
    });
    let create = create.expect("the call that makes the index");
    let writes: Vec<&Recorded> =
        calls.iter().filter(|c| is_of(c, Method::POST, "/documents?") && c.path.starts_with(&index)).collect();
    pair(
        "  meilisearch: documents indexed through the provider against a bare client",
        "0.8",
        3,
        async || {
            let mut build = provider.begin_rebuild(START.into(), None).await.expect("a build");
            let batches: Vec<_> = documents.chunks(500).map(<[_]>::to_vec).collect();
            let start = Instant::now();
            for batch in batches {
                build.add(batch, LAST).await.expect("documents");
            }
            build.publish(START).await.expect("an index");
            (PRODUCTS as u64, start.elapsed())
        },
        async || {
            let gone = Recorded { method: Method::DELETE, path: index.clone(), body: Bytes::new(), ..create.clone() };
            for call in [&gone, create, set] {
                finished(&client, server, create, &send(&client, server, call).await).await;
            }
            let start = Instant::now();
            let mut last = Bytes::new();
            for call in &writes {
                last = send(&client, server, call).await;
            }
            finished(&client, server, create, &last).await;
            (PRODUCTS as u64, start.elapsed())
        },
    )
    .await;
}

/// Waits until Meilisearch has ended a task, which need not succeed. `call` is a call with the key.
#[cfg(feature = "meilisearch")]
async fn finished(client: &reqwest::Client, server: &str, call: &Recorded, enqueued: &[u8]) {
    let enqueued: serde_json::Value = serde_json::from_slice(enqueued).expect("a task");
    let path = format!("/tasks/{}", enqueued["taskUid"]);
    let look = Recorded { method: Method::GET, path, body: Bytes::new(), ..call.clone() };
    loop {
        let task: serde_json::Value = serde_json::from_slice(&send(client, server, &look).await).expect("a task");
        if matches!(task["status"].as_str(), Some("succeeded" | "failed" | "canceled")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn queries() -> Vec<(&'static str, SearchQuery)> {
    let of = |text: &str, facets: &[Facet]| SearchQuery {
        text: text.to_owned(),
        facets: facets.to_vec(),
        ..SearchQuery::default()
    };
    vec![
        ("two words", of("product 4711", &[])),
        ("a typing error", of("mesaured 4711", &[])),
        ("two words, three facets", of("shelf measured", &[Facet::Brands, Facet::Categories, Facet::Tags])),
        ("by price", SearchQuery { sort: SearchSort::PriceAsc, ..of("measured", &[]) }),
    ]
}

fn shop_with(b: &Bench, search: Arc<dyn SearchProvider>) -> Shop {
    Shop::new(ShopParts::new(b.storage.clone(), search)).expect("a shop")
}

async fn rebuild(b: &Bench, search: Arc<dyn SearchProvider>) -> Duration {
    let start = Instant::now();
    let report = shop_with(b, search).index().rebuild().await.expect("an index");
    assert_eq!(report.written, PRODUCTS as u64);
    start.elapsed()
}

/// Prints how long suggestions take for texts that are typed letter by letter.
async fn suggestions(b: &Bench, search: Arc<dyn SearchProvider>) {
    let name = search.name();
    let mut parts = ShopParts::new(b.storage.clone(), search);
    parts.cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    let shop = Shop::new(parts).expect("a shop");
    let typed = ["measured product 4711", "product 123", "brand 17", "shelf 2 3", "two sentences", "mesaured 99"];
    let beginnings = |text: &'static str| (1..=text.len()).map(move |end| &text[..end]);
    let mut times = Vec::new();
    for text in typed.into_iter().flat_map(beginnings).cycle().take(rounds(20) * 50) {
        let start = Instant::now();
        shop.search().suggest(text, 5).await.expect("suggestions");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let p50 = median(&mut times);
    let p99 = times[times.len() * 99 / 100];
    println!("  {name}: suggestions p50 {p50:.2} ms, p99 {p99:.2} ms; wanted p99 5 ms in process");
}

/// Prints how long it takes from the commit of a write until searches find it, while other writes go on.
async fn freshness(b: &Bench, search: Arc<dyn SearchProvider>) {
    let name = search.name();
    let shop = shop_with(b, search);
    shop.index().catch_up().await.expect("an index in step");
    let background = shop.start();
    let mut skus = Vec::new();
    for id in b.products.iter().take(200) {
        skus.push(shop.products().get(*id).await.expect("a product").skus[0].id);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (shop, skus, next, is_over) = (shop.clone(), skus.clone(), next.clone(), is_over.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let sku = skus[next.fetch_add(1, Ordering::Relaxed) % skus.len()];
                    let adjustment = StockAdjustment::new(sku, 1, StockReason::Received);
                    shop.inventory().adjust(adjustment).await.expect("an adjustment");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for n in 0..rounds(20) * 20 {
        let recording = shop.recording();
        let adjustment = StockAdjustment::new(skus[n % skus.len()], 1, StockReason::Received);
        recording.inventory().adjust(adjustment).await.expect("an adjustment");
        let event = recording.last_event().expect("an event");
        let start = Instant::now();
        shop.search().wait_for(event, Duration::from_secs(30)).await.expect("the index follows");
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    is_over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
    background.shutdown().await;
    let p50 = median(&mut times);
    let p99 = times[times.len() * 99 / 100];
    let changes = next.load(Ordering::Relaxed);
    println!(
        "  {name}: from commit to searchable beside {changes} other writes: p50 {p50:.1} ms, p99 {p99:.1} ms; wanted \
         p99 1000 ms"
    );
}

/// Prints a line of the table.
async fn measure(b: &Bench, search: Arc<dyn SearchProvider>, memory: &str) {
    let name = search.name();
    let built = rebuild(b, search.clone()).await;
    for (what, query) in queries() {
        let request = Arc::new(SearchRequest::new(query, &Synonyms::default()).expect("a request"));
        let next = Arc::new(AtomicUsize::new(0));
        let total = rounds(20) * 100;
        let start = Instant::now();
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let (search, request, next) = (search.clone(), request.clone(), next.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while next.fetch_add(1, Ordering::Relaxed) < total {
                        let start = Instant::now();
                        search.search(&request).await.expect("results");
                        times.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for caller in callers {
            times.extend(caller.await.expect("a caller"));
        }
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        let p50 = median(&mut times);
        let p99 = times[times.len() * 99 / 100];
        println!("  {name}, {what}: {rate:.0} searches/s with 16 callers, p50 {p50:.1} ms, p99 {p99:.1} ms");
    }
    println!("  {name}: index built in {built:.1?} (memory: {memory})");
    suggestions(b, search.clone()).await;
    freshness(b, search).await;
}

async fn overhead_of_searching(
    what: &str,
    provider: &dyn SearchProvider,
    request: &SearchRequest,
    server: &str,
    calls: &[Recorded],
) {
    let client = reqwest::Client::new();
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(7) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let start = Instant::now();
            provider.search(request).await.expect("results");
            a.push(start.elapsed().as_secs_f64() * 1e3);
            let start = Instant::now();
            for call in calls {
                send(&client, server, call).await;
            }
            b.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let (a, b) = (median(&mut a), median(&mut b));
        ours.push(a);
        bare.push(b);
        ratios.push(a / b);
    }
    println!(
        "  {}, {what}: p50 {:.2} ms against {:.2} ms of a bare client, ratio {:.2}; wanted at most 1.2",
        provider.name(),
        median(&mut ours),
        median(&mut bare),
        median(&mut ratios)
    );
}

/// Compares what a rebuild sends, without the time in which it reads the products, with a bare client that sends the
/// same calls.
async fn overhead_of_indexing(
    b: &Bench,
    provider: Arc<ElasticsearchSearch>,
    server: &str,
    created: &[Recorded],
    bulks: &[Recorded],
) {
    let client = reqwest::Client::new();
    let documents = documents(b).await;
    let name = provider.name();
    let create =
        created.iter().find(|call| call.body.starts_with(b"{\"aliases\"")).expect("the call that makes the index");
    pair(
        &format!("  {name}: documents indexed through the provider against a bare client"),
        "0.8",
        3,
        async || {
            let mut build = provider.begin_rebuild(START.into(), None).await.expect("a build");
            let batches: Vec<_> = documents.chunks(500).map(<[_]>::to_vec).collect();
            let start = Instant::now();
            for batch in batches {
                build.add(batch, LAST).await.expect("documents");
            }
            // Waits for the documents that are on their way.
            build.add(Vec::new(), LAST).await.expect("all documents");
            let took = start.elapsed();
            drop(build);
            (PRODUCTS as u64, took)
        },
        async || {
            let path = create.path.split('?').next().unwrap_or_default().to_owned();
            let _ = client.delete(format!("{server}{path}")).send().await;
            send(&client, server, create).await;
            let start = Instant::now();
            for call in bulks {
                send(&client, server, call).await;
            }
            let took = start.elapsed();
            let _ = client.delete(format!("{server}{path}")).send().await;
            (PRODUCTS as u64, took)
        },
    )
    .await;
}

/// Returns the documents of all products, which a provider that keeps them gets from a rebuild.
async fn documents(b: &Bench) -> Vec<ecom::port::SearchDocument> {
    let keeper = Arc::new(crate::keeper::Keeper::default());
    rebuild(b, keeper.clone()).await;
    keeper.take()
}

async fn send(client: &reqwest::Client, server: &str, call: &Recorded) -> Bytes {
    let mut request = client.request(call.method.clone(), format!("{server}{}", call.path));
    if let Some(authorization) = &call.authorization {
        request = request.header("authorization", authorization);
    }
    let answer = request.header("content-type", "application/json").body(call.body.clone()).send().await;
    let answer = answer.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.bytes().await.expect("a body")
}

/// A call as the adapter made it.
#[derive(Clone)]
struct Recorded {
    method: Method,
    path: String,
    authorization: Option<HeaderValue>,
    body: Bytes,
}

/// A proxy that records calls.
struct Recorder {
    url: String,
    calls: Arc<Mutex<Vec<Recorded>>>,
}

type Proxy = (reqwest::Client, String, Arc<Mutex<Vec<Recorded>>>);

impl Recorder {
    async fn before(server: String) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let app = axum::Router::new().fallback(forward).with_state((reqwest::Client::new(), server, calls.clone()));
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, calls }
    }

    /// Takes the recorded calls whose path contains a text.
    fn take(&self, path: &str) -> Vec<Recorded> {
        let mut calls = self.calls.lock().expect("no panic");
        let (taken, rest) = calls.drain(..).partition(|call| call.path.contains(path));
        *calls = rest;
        taken
    }

    /// Returns the recorded calls of a method.
    fn taken(&self, method: &Method) -> Vec<Recorded> {
        self.calls.lock().expect("no panic").iter().filter(|call| call.method == *method).cloned().collect()
    }
}

async fn forward(
    State((client, server, calls)): State<Proxy>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (axum::http::StatusCode, Bytes) {
    let path = uri.to_string();
    let authorization = headers.get("authorization").cloned();
    let call = Recorded { method, path, authorization, body };
    calls.lock().expect("no panic").push(call.clone());
    let mut request = client.request(call.method, format!("{server}{}", call.path));
    if let Some(authorization) = call.authorization {
        request = request.header("authorization", authorization);
    }
    let request = request.header("content-type", "application/json").body(call.body);
    let answer = request.send().await.expect("the server answers");
    (answer.status(), answer.bytes().await.expect("a body"))
}
