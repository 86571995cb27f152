//! A shop in memory, and requests to its REST API.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Builder;
use axum::http::{HeaderMap, StatusCode};
use ecom_core::access::Principal;
use ecom_core::clock::{ManualClock, SharedClock};
use ecom_core::id::UuidV7Source;
use ecom_core::money::Currency;
use ecom_core::port::{RateLimiter, Storage as _};
use ecom_core::{Shop, ShopParts};
use ecom_http::{HttpConfig, router};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::{SqlStorage, SqliteOptions};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// A shop whose clock stands still, so that an input always has the same result.
pub(crate) struct TestShop {
    runtime: Runtime,
    pub shop: Shop,
    pub router: Router,
}

/// A response, whose body is JSON.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl TestShop {
    /// Returns an empty shop, in which requests need no login and are not limited.
    pub fn open() -> Self {
        let config = HttpConfig::default().anonymous(Principal::trusted("anonymous")).rate_limits(None);
        Self::new(config, |own| own)
    }

    /// Returns an empty shop with these settings, and with the rate limiter that `limiter` returns.
    pub fn new(config: HttpConfig, limiter: impl FnOnce(Arc<dyn RateLimiter>) -> Arc<dyn RateLimiter>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let shop = runtime.block_on(async {
            let clock: SharedClock = Arc::new(ManualClock::at_micros(1_750_000_000_000_000));
            let storage = SqlStorage::sqlite(SqliteOptions::memory()).expect("a database");
            storage.migrate(Currency::USD).await.expect("migrations");
            let search = TantivySearch::open(TantivyOptions::memory()).await.expect("an index");
            let mut parts = ShopParts::new(Arc::new(storage), Arc::new(search));
            parts.rate_limiter = limiter(parts.rate_limiter);
            parts.ids = Arc::new(UuidV7Source::seeded(clock.clone(), 7));
            parts.clock = clock;
            Shop::new(parts).expect("a shop")
        });
        Self { router: router(shop.clone(), config.access_log(false)), shop, runtime }
    }

    /// Runs a call of a service.
    pub fn run<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// Sends a request, and returns `None` if it is not valid HTTP, so that no server would pass it on.
    pub fn send(&self, request: Builder, body: Option<&str>) -> Option<Answer> {
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(Body::from(body.to_owned())).ok()?,
            None => request.body(Body::empty()).ok()?,
        };
        Some(self.answer(request))
    }

    /// Sends a request.
    pub fn answer(&self, request: Request) -> Answer {
        self.run(async {
            let response = self.router.clone().oneshot(request).await.expect("a router always answers");
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.expect("the body is in memory").to_bytes();
            let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
            Answer { status: parts.status, headers: parts.headers, body }
        })
    }

    /// Reads a path of the API. Returns `None` if the path is not valid in HTTP.
    pub fn get(&self, path: &str) -> Option<Answer> {
        self.send(Request::get(format!("/api/v1{path}")), None)
    }

    /// Creates a resource, and returns it.
    pub fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.send(Request::post(format!("/api/v1{path}")), Some(&body.to_string())).expect("valid HTTP");
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        answer.body["data"].clone()
    }

    /// Fills the shop with a few rows of most kinds.
    pub fn fill(&self) {
        self.create("/categories", &json!({"name": "Lamps"}));
        let customer = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
        let customer = self.create("/customers", &customer);
        for (title, price) in [("Desk Lamp", "19.99"), ("Floor Lamp", "89.00"), ("Ümlaut Lamp", "0.01")] {
            let product = json!({
                "title": title, "price": price, "stock": 9, "brand": "Lumen", "tags": ["light", "warm"],
                "category": "lamps", "attributes": {"watts": 7}
            });
            let product = self.create("/products", &product);
            let id = product["id"].as_str().expect("an id");
            self.create(&format!("/products/{id}/reviews"), &json!({"rating": 4, "comment": "Bright"}));
            let line = json!({"sku_id": product["skus"][0]["id"], "quantity": 1, "unit_price": price});
            let order = json!({"customer_id": customer["id"], "delivery_method": "on_hand", "lines": [line]});
            self.create("/orders", &order);
            self.create("/carts", &json!({}));
        }
        self.run(async { self.shop.index().catch_up().await }).expect("the index follows");
    }
}

impl Answer {
    /// Panics unless the response is one of an input that is refused: 400 or 422, in the envelope of errors, with the
    /// fields that are wrong.
    pub fn is_refusal(&self, input: &str) {
        let error = &self.body["error"];
        let code = match self.status {
            StatusCode::BAD_REQUEST => "BAD_REQUEST",
            StatusCode::UNPROCESSABLE_ENTITY => "VALIDATION_FAILED",
            status => panic!("{input:?} has {status}: {}", self.body),
        };
        assert_eq!(error["code"], code, "{input:?}");
        assert_eq!(error["request_id"].as_str(), self.headers["x-request-id"].to_str().ok(), "{input:?}");
        let details = error["details"].as_array().expect("a list of details");
        assert!(!details.is_empty() && details.iter().all(|d| d["field"].is_string()), "{input:?}: {error}");
    }
}

/// Returns a value that lives as long as the process, for the shops of a thread: a runtime cannot be dropped with the
/// variables of its thread.
pub(crate) fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
