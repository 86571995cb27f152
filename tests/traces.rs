//! Traces and the log of a process, with a collector that decodes what it gets. All is one test, because a process has
//! one subscriber.

#![cfg(all(feature = "otlp", feature = "sqlite", feature = "memory", feature = "webhooks"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use ecom::access::Principal;
use ecom::adapters::WebhookSenderOptions;
use ecom::adapters::outbound::OutboundOptions;
use ecom::catalog::ProductInput;
use ecom::config::{LogConfig, LogFormat, SecretUrl, TraceConfig};
use ecom::http::{HttpConfig, router};
use ecom::platform::{EventKind, Pass, WebhookInput};
use ecom::rust_decimal::Decimal;
use ecom::{ShopBuilder, trace};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::Value;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

/// What the collector and the receiver of webhooks have got.
#[derive(Default)]
struct Got {
    spans: Mutex<Vec<Span>>,
    /// The headers `traceparent` of webhooks.
    hooks: Mutex<Vec<String>>,
}

/// A collector and a receiver of webhooks, on a thread of their own.
struct Servers {
    address: SocketAddr,
    got: Arc<Got>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

async fn collect(State(got): State<Arc<Got>>, body: Bytes) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    got.spans.lock().extend(scopes.flat_map(|scope| scope.spans));
    // The empty message.
    Vec::new()
}

async fn receive(State(got): State<Arc<Got>>, headers: HeaderMap) -> StatusCode {
    let parent = headers.get("traceparent").map_or("", |value| value.to_str().unwrap());
    got.hooks.lock().push(parent.to_owned());
    StatusCode::OK
}

impl Servers {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::new(Got::default()));
        let app =
            Router::new().route("/v1/traces", post(collect)).route("/hook", post(receive)).with_state(got.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = pin!(axum::serve(listener, app).into_future());
                tokio::select! {
                    served = serving => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address, got, stop, thread }
    }

    /// Returns the span of a trace with this name, and its children.
    fn span(&self, trace: &str, name: &str) -> (Span, Vec<Span>) {
        let spans = self.got.spans.lock();
        let of_trace: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
        let names: Vec<&str> = of_trace.iter().map(|span| span.name.as_str()).collect();
        let found = of_trace.iter().find(|span| span.name == name);
        let found = (*found.unwrap_or_else(|| panic!("no span `{name}` in {names:?}"))).clone();
        let children = of_trace.iter().filter(|span| span.parent_span_id == found.span_id).map(|span| (*span).clone());
        let children = children.collect();
        (found, children)
    }

    fn traces(&self) -> BTreeSet<String> {
        self.got.spans.lock().iter().map(|span| hex(&span.trace_id)).collect()
    }

    fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

/// Sends a request with these headers, and returns the status of the response.
async fn call(app: &Router, method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap().status()
}

/// Returns the lines of a log file.
fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const READ: &str = "0af7651916cd43dd8448eb211c80319c";
const WRITE: &str = "1af7651916cd43dd8448eb211c80319c";
const UNSAMPLED: &str = "2af7651916cd43dd8448eb211c80319c";
const TREE: &str = "3af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_traced_from_its_caller_to_its_statements_and_each_of_its_lines_has_its_id() {
    let servers = Servers::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs/server.log");
    let config = LogConfig::default().format(LogFormat::Json).file(file.clone());
    let endpoint = format!("http://{}", servers.address);
    let traces = TraceConfig::new(SecretUrl::new(endpoint.clone())).sample(Decimal::ONE);
    let log = ecom::logging::start(&config, Some(&traces)).unwrap();
    assert!(ecom::logging::start(&LogConfig::default(), None).is_err(), "a process has one subscriber");

    let outbound = OutboundOptions::default().allow("127.0.0.1").unwrap();
    let webhooks = WebhookSenderOptions::default().allow_http(true).outbound(outbound);
    let builder = ShopBuilder::new().database("sqlite::memory:").search("none").webhooks(webhooks);
    let shop = builder.build().await.unwrap();
    let pen = shop.products().create(&ProductInput::new("Pen").price("2 USD".parse().unwrap())).await.unwrap();
    let http = HttpConfig::default().anonymous(Principal::trusted("test")).rate_limits(None);
    let app = router(shop.clone(), http);

    // The context of the caller is continued, and its decision counts.
    let by_id = format!("/api/v1/products/{}", pen.id);
    let parent = |trace: &str, flags: &str| format!("00-{trace}-{PARENT}-{flags}");
    for (trace, flags) in [(UNSAMPLED, "00"), (READ, "01")] {
        let header = parent(trace, flags);
        assert_eq!(call(&app, "GET", &by_id, &[("traceparent", &header)], "").await, StatusCode::OK);
    }
    // The read came from the cache of the process, so another one asks the database.
    let header = parent(TREE, "01");
    assert_eq!(call(&app, "GET", "/api/v1/categories/tree", &[("traceparent", &header)], "").await, StatusCode::OK);
    let header = parent(WRITE, "01");
    let tea = r#"{"name": "Tea"}"#;
    assert_eq!(call(&app, "POST", "/api/v1/categories", &[("traceparent", &header)], tea).await, StatusCode::CREATED);
    log.flush_traces();
    let (read, _) = servers.span(READ, "GET /api/v1/products/{id}");
    assert_eq!(hex(&read.parent_span_id), PARENT);
    let (_, children) = servers.span(TREE, "GET /api/v1/categories/tree");
    assert!(names(&children).contains(&"cache"), "{:?}", names(&children));
    let (_, children) = servers.span(TREE, "cache");
    assert!(names(&children).iter().any(|name| name.starts_with("select ")), "{:?}", names(&children));
    let (_, children) = servers.span(WRITE, "POST /api/v1/categories");
    assert!(names(&children).contains(&"write catalog/category"), "{:?}", names(&children));
    let (_, children) = servers.span(WRITE, "write catalog/category");
    assert!(names(&children).contains(&"insert categories"), "{:?}", names(&children));
    assert!(!servers.traces().contains(UNSAMPLED));

    // A call of a webhook carries the context of its own trace.
    let hook = WebhookInput::new(format!("{endpoint}/hook"), [EventKind::CategoryCreated]);
    shop.webhooks().create(&hook).await.unwrap();
    assert_eq!(call(&app, "POST", "/api/v1/categories", &[], r#"{"name": "Ink"}"#).await, StatusCode::CREATED);
    for _ in 0..2 {
        shop.run_background_pass(Pass::Events, std::future::pending()).await;
    }
    log.flush_traces();
    let sent = servers.got.hooks.lock().first().cloned().unwrap();
    let parts: Vec<&str> = sent.split('-').collect();
    let [version, trace_id, span_id, flags] = parts[..] else { panic!("{sent}") };
    assert_eq!((version, flags), ("00", "01"));
    assert_eq!(hex(&servers.span(trace_id, "webhook").0.span_id), span_id);

    // Requests go on without the collector.
    servers.stop();
    let id = [("x-request-id", "r-\"1\"")];
    for _ in 0..3 {
        assert_eq!(call(&app, "GET", &by_id, &id, "").await, StatusCode::OK);
        log.flush_traces();
    }
    let wrong = r#"{"email": "nobody@example.com", "password": "wrong password"}"#;
    assert_eq!(call(&app, "POST", "/api/v1/auth/login", &id, wrong).await, StatusCode::UNAUTHORIZED);
    trace::in_request_now("r-9".into(), || tracing::error!("a line of an error"));
    shop.close().await;
    drop(log);

    let all = lines(&file);
    let of_request = |target: &str| {
        all.iter().filter(|line| line["request_id"] == "r-\"1\"" && line["target"] == target).collect::<Vec<_>>()
    };
    assert_eq!(of_request("ecom_http::access").len(), 4);
    assert_eq!(of_request("ecom::event")[0]["fields"]["event"], "login_failed");
    let accesses = all.iter().filter(|line| line["target"] == "ecom_http::access");
    assert!(accesses.clone().count() > 4 && accesses.clone().all(|line| line["request_id"].is_string()));
    let lost = all.iter().filter(|line| line["target"] == "ecom::logging::otlp").count();
    assert_eq!(lost, 1, "a collector that is down is logged once");
    let errors = lines(&config.errors_file().unwrap());
    let [error] = &*errors else { panic!("{errors:?}") };
    assert_eq!(error["request_id"], "r-9");
    assert_eq!(error["fields"]["message"], "a line of an error");
    assert!(all.contains(error), "the log has all lines");
}
