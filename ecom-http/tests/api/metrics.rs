//! `/metrics`: what a scrape shows, to whom, and of a database that is down. The recorder belongs to the process, in
//! which other tests run, so that a test looks at routes of its own.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use ecom_core::access::{ApiKeyInput, Permission, Principal};
use ecom_core::port::{NoCache, NoSearch};
use ecom_http::{HttpConfig, MetricsAccess, router};
use futures::FutureExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::{Api, Log, id, lamp, open};

async fn scrape(api: &Api, headers: &[(&str, &str)]) -> String {
    let page = api.call("GET", "/metrics", headers, None).await.ok(200);
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(page.header("cache-control"), "private, no-store");
    String::from_utf8(page.bytes).unwrap()
}

/// Returns the sum over the series of a metric that have these labels, and how many they are.
fn sum(text: &str, metric: &str, labels: &[(&str, &str)]) -> (f64, usize) {
    let is_of = |line: &&str| {
        let rest = line.strip_prefix(metric);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}\"")))
    };
    let values: Vec<f64> =
        text.lines().filter(is_of).map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    (values.iter().sum(), values.len())
}

#[tokio::test]
async fn a_scrape_shows_requests_by_route_and_nothing_that_a_client_invents() {
    let api = Api::with(open().api_prefix("/scraped").metrics(MetricsAccess::Open)).await;
    let made = api.call("POST", "/scraped/products", &[], Some(&lamp().to_string())).await.ok(201).data();
    let path = format!("/scraped/products/{}", id(&made));
    // A trailing slash is the same route.
    for path in [path.clone(), format!("{path}/")] {
        api.call("GET", &path, &[], None).await.ok(200);
    }
    api.call("GET", "/scraped/products/hostile-slug", &[], None).await.ok(404);
    for hostile in ["/scraped/hostile%22%7D%0Ahostile", "/hostile{a=\"b\"}", "/scraped/hostile/", "/hostile//"] {
        if let Ok(uri) = hostile.parse::<axum::http::Uri>() {
            api.call("GET", &uri.to_string(), &[], None).await.ok(404);
        }
    }
    api.call("HOSTILE", "/scraped/products", &[], None).await.ok(405);
    let order = json!({
        "delivery_method": "on_hand",
        "customer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "lines": [{"sku": "LAMP-1", "quantity": 1, "unit_price": "1.00"}],
    });
    api.call("POST", "/scraped/orders", &[], Some(&order.to_string())).await.refused(409, "PRICE_MISMATCH", "");

    let text = scrape(&api, &[]).await;
    let product = ("route", "/scraped/products/{id}");
    assert_eq!(sum(&text, "ecom_http_requests_total", &[product, ("method", "GET"), ("status", "200")]), (2.0, 1));
    assert_eq!(sum(&text, "ecom_http_requests_total", &[product, ("status", "404")]), (1.0, 1));
    let took = "ecom_http_request_duration_seconds";
    assert_eq!(sum(&text, &format!("{took}_count"), &[product, ("status", "2xx")]), (2.0, 1));
    assert_eq!(sum(&text, &format!("{took}_bucket"), &[product, ("status", "2xx"), ("le", "+Inf")]), (2.0, 1));
    let products = ("route", "/scraped/products");
    assert_eq!(sum(&text, "ecom_http_requests_total", &[products, ("method", "other"), ("status", "405")]), (1.0, 1));
    assert!(sum(&text, "ecom_http_requests_total", &[("route", "unmatched"), ("status", "404")]).0 >= 2.0);
    assert!(!text.contains("hostile") && !text.contains("HOSTILE"), "{text}");

    for (metric, labels) in [
        ("ecom_db_statement_duration_seconds_count", &[("statement", "insert products")][..]),
        ("ecom_db_statements_total", &[]),
        ("ecom_db_pool_max_connections", &[]),
        ("ecom_dependency_up", &[("dependency", "database"), ("adapter", "sqlite")]),
        ("ecom_http_requests_in_flight", &[]),
        ("ecom_orders_refused_total", &[("reason", "PRICE_MISMATCH")]),
        ("ecom_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
    ] {
        let (value, series) = sum(&text, metric, labels);
        assert!(value >= 1.0 && series == 1, "{metric} {labels:?} is {value} in {series} series");
    }
    // Counters without labels begin at 0, and so do the jobs of the shop.
    for (metric, labels) in [
        ("ecom_audit_findings_total", &[][..]),
        ("ecom_jobs", &[("kind", "reindex"), ("state", "failed")]),
        ("ecom_webhooks", &[("state", "switched_off")]),
    ] {
        assert_eq!(sum(&text, metric, labels).1, 1, "{metric}");
    }
    // Each line of a metric follows its type, and no metric comes twice.
    let types: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    for metric in ecom_core::metrics::ALL {
        let line = format!("# TYPE {} {}", metric.name, metric.kind.as_str());
        assert!(types.iter().filter(|known| **known == line).count() <= 1, "{line}");
    }
    assert!(types.iter().all(|line| {
        let name = line.split(' ').nth(2).unwrap();
        ecom_core::metrics::ALL.iter().any(|metric| metric.name == name)
    }));
}

#[tokio::test]
async fn a_request_whose_client_has_not_waited_for_the_answer_is_counted_and_logged() {
    let api = Api::with(open().api_prefix("/gone").metrics(MetricsAccess::Open)).await;
    api.call("GET", "/gone/products", &[], None).await.ok(200);
    let (log, _guard) = Log::capture();
    // The handler waits for a body that never arrives.
    let body = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::post("/gone/products").header("content-type", "application/json");
    let request = request.header("x-request-id", "gone-1").body(body).unwrap();
    assert!(api.router.clone().oneshot(request).now_or_never().is_none(), "the request must wait for its body");
    let lines = log.lock().clone();
    assert!(lines.contains("request_id=gone-1 method=POST path=/gone/products status=499 "), "{lines}");
    let text = scrape(&api, &[]).await;
    let products = ("route", "/gone/products");
    let requests = "ecom_http_requests_total";
    assert_eq!(sum(&text, requests, &[products, ("method", "POST"), ("status", "499")]), (1.0, 1));
    assert_eq!(sum(&text, requests, &[products]), (2.0, 2), "a request with an answer counts once");
}

#[tokio::test]
async fn a_scrape_needs_the_permission_unless_the_setting_opens_it() {
    let api = Api::new().await;
    let of = |config: HttpConfig| Api {
        router: router(api.shop.clone(), config),
        shop: api.shop.clone(),
        clock: api.clock.clone(),
    };
    let restricted = HttpConfig::default().metrics(MetricsAccess::Restricted);
    let as_caller = |permission| restricted.clone().anonymous(Principal::new("monitor", [permission]));
    let get = async |api: &Api| api.call("GET", "/metrics", &[], None).await;
    get(&api).await.refused(404, "NOT_FOUND", "");
    get(&of(restricted.clone())).await.refused(401, "UNAUTHENTICATED", "");
    get(&of(as_caller(Permission::OrdersWrite))).await.refused(403, "FORBIDDEN", "");
    get(&of(as_caller(Permission::JobsRead))).await.ok(200);
    get(&of(HttpConfig::default().metrics(MetricsAccess::Open))).await.ok(200);
    get(&of(restricted.clone().root_routes(false))).await.ok(404);
    let root = of(restricted).call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["metrics"], "/metrics");
    assert!(api.call("GET", "/", &[], None).await.ok(200).json()["links"].get("metrics").is_none());
}

#[tokio::test]
async fn a_scrape_is_answered_although_all_places_are_taken() {
    let api = Api::with(open().max_requests(0).metrics(MetricsAccess::Restricted)).await;
    api.get("/products").await.refused(503, "UNAVAILABLE", "");
    scrape(&api, &[]).await;
}

#[tokio::test]
async fn a_scrape_shows_that_the_database_is_down_to_whom_it_answered_before() {
    let api = Api::changed(HttpConfig::default().metrics(MetricsAccess::Restricted), Arc::new(NoSearch), |parts| {
        // So that a key is looked up in the database each time.
        parts.cache = Arc::new(NoCache);
    })
    .await;
    let mut keys = Vec::new();
    for name in ["monitor", "other"] {
        let made = api.shop.api_keys().create(&ApiKeyInput::new(name, [Permission::JobsRead])).await.unwrap();
        keys.push(format!("Bearer {}", made.secret.reveal()));
    }
    let up = [("dependency", "database")];
    let text = scrape(&api, &[("authorization", &keys[0])]).await;
    assert_eq!(sum(&text, "ecom_dependency_up", &up), (1.0, 1));
    assert_ne!(sum(&text, "ecom_jobs", &[]).1, 0);

    api.shop.storage().close().await;
    // Another router has not read the state of the shop yet, and knows no caller.
    let router = router(api.shop.clone(), HttpConfig::default().metrics(MetricsAccess::Open));
    let opened = Api { router, shop: api.shop.clone(), clock: api.clock.clone() };
    let text = scrape(&opened, &[]).await;
    assert_eq!(sum(&text, "ecom_dependency_up", &up), (0.0, 1));
    assert_eq!(sum(&text, "ecom_jobs", &[]).1, 0, "what cannot be read is left out");
    scrape(&api, &[("authorization", &keys[0])]).await;
    let other = [("authorization", keys[1].as_str())];
    api.call("GET", "/metrics", &other, None).await.refused(503, "UNAVAILABLE", "");
}
