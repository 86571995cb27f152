//! An API over a shop in memory, and requests to it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use ecom_core::access::Principal;
use ecom_core::clock::{ManualClock, SharedClock};
use ecom_core::id::UuidV7Source;
use ecom_core::money::Currency;
use ecom_core::platform::{Job, JobState};
use ecom_core::port::{NoSearch, RateLimiter, SearchProvider, Storage as _};
use ecom_core::testkit::receiver::Receiver;
use ecom_core::{Mailing, Shop, ShopParts};
use ecom_http::{HttpConfig, router};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::limiter::MemoryLimiter;
use ecom_storage::{SqlStorage, SqliteOptions};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[cfg(feature = "servers")]
use crate::feeds::feed;

pub const API: &str = "/api/v1";

/// Returns settings with which requests need no login.
pub fn open() -> HttpConfig {
    HttpConfig::default().anonymous(Principal::trusted("anonymous"))
}

pub struct Api {
    pub router: Router,
    pub shop: Shop,
    pub clock: Arc<ManualClock>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    /// Returns all values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect()
    }
    #[track_caller]
    pub fn ok(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    /// Panics unless the response is an error with this status and code whose details name `field`. If `field` is
    /// empty, the details are not checked.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str, field: &str) -> Self {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        assert_eq!(self.status.as_u16(), status, "{text}");
        let e = &self.json()["error"];
        assert_eq!(e["code"], code, "{text}");
        assert!(!e["message"].as_str().unwrap().is_empty(), "{text}");
        assert!(e["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
        assert_eq!(e["request_id"].as_str().unwrap(), self.header("x-request-id"), "{text}");
        let named = e["details"].as_array().unwrap().iter().any(|d| d["field"] == field);
        assert!(field.is_empty() || named, "{field}: {text}");
        assert!(self.bytes.len() < 4_000, "an error must have less than 4,000 bytes, but has {}", self.bytes.len());
        self
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::with(open()).await
    }

    pub async fn with(config: HttpConfig) -> Self {
        let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        Self::of(config, Arc::new(search), None, None, |own| own).await
    }

    /// Returns an API over a database of a server, whose shop has a feed.
    #[cfg(feature = "servers")]
    pub async fn on_server(config: HttpConfig, database: &test_servers::TestDatabase) -> Self {
        let storage = SqlStorage::server(ecom_storage::ServerOptions::from_url(&database.url).unwrap()).unwrap();
        storage.migrate(Currency::USD).await.unwrap();
        let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        Self::changed(config, Arc::new(search), |parts| {
            parts.storage = Arc::new(storage);
            parts.feeds = vec![feed()];
        })
        .await
    }

    /// Returns an API whose rate limiter wraps the one in process.
    pub async fn limited_by(
        config: HttpConfig,
        limiter: impl FnOnce(Arc<dyn RateLimiter>) -> Arc<dyn RateLimiter>,
    ) -> Self {
        let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        Self::of(config, Arc::new(search), None, None, limiter).await
    }

    /// Returns an API whose shop has these search engines.
    pub async fn searching(search: Arc<dyn SearchProvider>, fallback: Option<Arc<dyn SearchProvider>>) -> Self {
        Self::of(open(), search, fallback, None, |own| own).await
    }

    /// Returns an API whose shop sends mails.
    pub async fn mailing(mailing: Mailing) -> Self {
        Self::of(open(), Arc::new(NoSearch), None, Some(mailing), |own| own).await
    }

    async fn of(
        config: HttpConfig,
        search: Arc<dyn SearchProvider>,
        fallback: Option<Arc<dyn SearchProvider>>,
        mailing: Option<Mailing>,
        limiter: impl FnOnce(Arc<dyn RateLimiter>) -> Arc<dyn RateLimiter>,
    ) -> Self {
        Self::changed(config, search, |parts| {
            parts.search_fallback = fallback;
            parts.mailing = mailing;
            parts.rate_limiter = limiter(parts.rate_limiter.clone());
        })
        .await
    }

    /// Returns an API whose shop has changed parts.
    pub async fn changed(
        config: HttpConfig,
        search: Arc<dyn SearchProvider>,
        change: impl FnOnce(&mut ShopParts),
    ) -> Self {
        let clock = Arc::new(ManualClock::at_micros(1_750_000_000_000_000));
        let shared: SharedClock = clock.clone();
        let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
        storage.migrate(Currency::USD).await.unwrap();
        let mut parts = ShopParts::new(Arc::new(storage), search);
        parts.rate_limiter = Arc::new(MemoryLimiter::new(1_000, shared.clone()));
        parts.cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
        parts.ids = Arc::new(UuidV7Source::seeded(shared.clone(), 7));
        parts.clock = shared;
        parts.webhooks = Some(Receiver::new());
        change(&mut parts);
        let shop = Shop::new(parts).unwrap();
        Self { router: router(shop.clone(), config), shop, clock }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut r = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (k, v) in headers {
            r = r.header(*k, *v);
        }
        if body.is_some() && !headers.iter().any(|(k, _)| *k == "content-type") {
            r = r.header("content-type", "application/json");
        }
        self.send(r.body(body.map_or_else(Body::empty, |b| Body::from(b.to_owned()))).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", &format!("{API}{path}"), &[], None).await
    }
    pub async fn write(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call(method, &format!("{API}{path}"), &[], Some(&body.to_string())).await
    }
    pub async fn product(&self, body: Value) -> Value {
        self.clock.advance(Duration::from_secs(1));
        self.write("POST", "/products", body).await.ok(201).data()
    }
    pub async fn category(&self, body: Value) -> Value {
        self.write("POST", "/categories", body).await.ok(201).data()
    }

    pub async fn customer(&self, first_name: &str, last_name: &str, email: &str) -> Value {
        let body = json!({"first_name": first_name, "last_name": last_name, "email": email});
        self.write("POST", "/customers", body).await.ok(201).data()
    }

    pub async fn address(&self, customer: &Value, body: Value) -> Value {
        self.write("POST", &format!("/customers/{}/addresses", id(customer)), body).await.ok(201).data()
    }

    /// Makes a job that is queued one that has failed too often, and returns it.
    pub async fn parked(&self, job: &Value) -> Job {
        let mut unit = self.shop.storage().begin().await.unwrap();
        let before = unit.jobs().lock(id(job).parse().unwrap()).await.unwrap().unwrap();
        let mut after = before.clone();
        after.state = JobState::Failed;
        after.last_error = Some("the search index is not available at the moment; try again".to_owned());
        after.attempts = Job::MAX_ATTEMPTS;
        (after.started_at, after.finished_at) = (Some(before.run_after), Some(before.run_after));
        after.audit.version += 1;
        unit.jobs().update(&before, &after).await.unwrap();
        unit.commit().await.unwrap();
        after
    }

    /// Returns all rows that a write could have changed, as text.
    pub async fn everything(&self) -> String {
        let mut all = String::new();
        for path in [
            "/products?status=any&include_deleted=true&per_page=100",
            "/categories?include_deleted=true",
            "/customers?include_deleted=true",
            "/orders?include_deleted=true&per_page=100",
            "/bills?include_deleted=true&per_page=100",
            "/admin/jobs?per_page=100",
        ] {
            all.push_str(&String::from_utf8(self.get(path).await.ok(200).bytes).unwrap());
        }
        for p in self.get("/products?status=any&per_page=100").await.data().as_array().unwrap() {
            for s in p["skus"].as_array().unwrap() {
                let path = format!("/skus/{}/stock/movements", id(s));
                all.push_str(&self.get(&path).await.ok(200).data().to_string());
            }
        }
        all
    }
}

pub fn id(v: &Value) -> &str {
    v["id"].as_str().unwrap()
}

/// Checks that no shared cache may store the response.
#[track_caller]
pub fn kept_private(a: Answer) -> Answer {
    let expected = if a.status.is_success() || a.status.as_u16() == 304 { "private, no-store" } else { "no-store" };
    assert_eq!(a.header("cache-control"), expected, "{a:?}");
    assert_eq!(a.header("x-cache"), "");
    a
}

/// Returns one field of each row of a list.
pub fn column(list: &Answer, field: &str) -> Vec<String> {
    list.data().as_array().unwrap().iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

pub fn lamp() -> Value {
    json!({"title": "Desk Lamp", "price": "19.99", "stock": 12, "sku": "LAMP-1", "brand": "Lumen"})
}

#[track_caller]
pub fn golden(name: &str, found: &Value) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = format!("{}\n", serde_json::to_string_pretty(found).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    // The documents are compared as values, because the order of their keys does not matter.
    let kept: Value = serde_json::from_str(&kept).unwrap_or_default();
    assert_eq!(*found, kept, "{path} differs; run the tests with UPDATE_GOLDEN=1 to update it");
}

/// A log that a test reads.
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// Captures the log of the current thread, until the guard is dropped. Call the code that logs once before this:
    /// otherwise, a log statement that another test reaches first stays silent.
    pub fn capture() -> (Arc<Mutex<String>>, tracing::subscriber::DefaultGuard) {
        let text = Arc::<Mutex<String>>::default();
        (text.clone(), tracing::subscriber::set_default(Self(text)))
    }
}

impl tracing::field::Visit for &Log {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        let _ = write!(self.0.lock(), "{}={value} ", field.name());
    }

    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0.lock(), "{}={value:?} ", field.name());
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut &*self);
        self.0.lock().push('\n');
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
