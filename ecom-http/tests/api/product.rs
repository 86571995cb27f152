//! The API over SQLite, Tantivy and the in-process cache, all in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![expect(clippy::many_single_char_names, clippy::similar_names, reason = "answers of a test are a, b, c")]

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use ecom_core::clock::{ManualClock, SharedClock};
use ecom_core::id::UuidV7Source;
use ecom_core::port::Storage as _;
use ecom_core::{Shop, ShopParts};
use ecom_http::{HttpConfig, router};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

const API: &str = "/api/v1";

struct Api {
    router: Router,
    shop: Shop,
    clock: Arc<ManualClock>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    fn data(&self) -> Value {
        self.json()["data"].clone()
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    #[track_caller]
    fn ok(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self
    }
    /// An error in the envelope, of this status and code, whose details name the field.
    #[track_caller]
    fn refused(self, status: u16, code: &str, field: &str) -> Self {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        assert_eq!(self.status.as_u16(), status, "{text}");
        let e = &self.json()["error"];
        assert_eq!(e["code"], code, "{text}");
        assert!(!e["message"].as_str().unwrap().is_empty(), "{text}");
        assert!(e["timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
        assert_eq!(e["request_id"].as_str().unwrap(), self.header("x-request-id"), "{text}");
        let named = e["details"].as_array().unwrap().iter().any(|d| d["field"] == field);
        assert!(field.is_empty() || named, "{field}: {text}");
        assert!(self.bytes.len() < 4_000, "an error is short: {}", self.bytes.len());
        self
    }
}

impl Api {
    async fn new() -> Self {
        Self::with(HttpConfig::default()).await
    }

    async fn with(config: HttpConfig) -> Self {
        let clock = Arc::new(ManualClock::at_micros(1_750_000_000_000_000));
        let shared: SharedClock = clock.clone();
        let storage = SqlStorage::sqlite(SqliteOptions::memory()).unwrap();
        storage.migrate().await.unwrap();
        let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        let mut parts = ShopParts::new(Arc::new(storage), Arc::new(search));
        parts.cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
        parts.ids = Arc::new(UuidV7Source::seeded(shared.clone(), 7));
        parts.clock = shared;
        let shop = Shop::new(parts).unwrap();
        Self { router: router(shop.clone(), config), shop, clock }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut r = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        for (k, v) in headers {
            r = r.header(*k, *v);
        }
        if body.is_some() && !headers.iter().any(|(k, _)| *k == "content-type") {
            r = r.header("content-type", "application/json");
        }
        self.send(r.body(body.map_or_else(Body::empty, |b| Body::from(b.to_owned()))).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", &format!("{API}{path}"), &[], None).await
    }
    async fn write(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call(method, &format!("{API}{path}"), &[], Some(&body.to_string())).await
    }
    async fn product(&self, body: Value) -> Value {
        self.clock.advance(Duration::from_secs(1));
        self.write("POST", "/products", body).await.ok(201).data()
    }
    async fn category(&self, body: Value) -> Value {
        self.write("POST", "/categories", body).await.ok(201).data()
    }

    /// Everything that bad input could have changed.
    async fn everything(&self) -> String {
        let mut all = String::new();
        for path in ["/products?status=any&include_deleted=true&per_page=100", "/categories?include_deleted=true"] {
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

fn id(v: &Value) -> &str {
    v["id"].as_str().unwrap()
}

fn lamp() -> Value {
    json!({"title": "Desk Lamp", "price": "19.99", "stock": 12, "sku": "LAMP-1", "brand": "Lumen"})
}

#[track_caller]
fn golden(name: &str, found: &Value) {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = format!("{}\n", serde_json::to_string_pretty(found).unwrap());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    // As values: the order of keys is nobody's business.
    let kept: Value = serde_json::from_str(&kept).unwrap_or_default();
    assert_eq!(*found, kept, "{path} differs; UPDATE_GOLDEN=1 writes it anew");
}

#[tokio::test]
async fn a_product_reads_as_its_golden_document() {
    let api = Api::new().await;
    let audio = api.category(json!({"name": "Audio"})).await;
    api.category(json!({"name": "Headphones", "parent_id": id(&audio)})).await;
    let made = api
        .product(json!({
            "title": "Studio Headphones", "brand": "Harmon", "category": "audio/headphones", "tags": ["wired"],
            "description": "Closed back.", "discount_percentage": 12.5, "attributes": {"color": "black"},
            "images": [{"url": "https://example.com/a.jpg", "alt": "Front"}],
            "skus": [
                {"code": "SH-32", "price": 99.99, "stock": 4, "option_values": {"ohm": "32"}, "weight": "0.31",
                 "dimensions": {"width": 18, "height": "20.5", "depth": 9}, "barcode": "4006381333931"},
                {"code": "SH-250", "price": "129.00", "stock": 20, "option_values": {"ohm": "250"}}
            ]
        }))
        .await;
    let read = api.get(&format!("/products/{}", id(&made))).await.ok(200);
    golden("product", &read.json());
    assert_eq!(read.header("etag"), "\"1.1\"");
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(made, read.data());
}

#[tokio::test]
async fn an_error_reads_as_its_golden_envelope() {
    let api = Api::new().await;
    let body = json!({"title": "", "price": "-1", "discount_percentage": "100.01"}).to_string();
    let a = api.call("POST", &format!("{API}/products"), &[("x-request-id", "golden-1")], Some(&body)).await;
    golden("error", &a.refused(422, "VALIDATION_FAILED", "price").json());
}

#[tokio::test]
async fn numbers_and_fields_are_the_clients_choice() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    assert_eq!(p["price"], "19.99");
    let path = format!("/products/{}", id(&p));
    let n = api.get(&format!("{path}?numbers=true")).await.ok(200);
    assert!(String::from_utf8(n.bytes.clone()).unwrap().contains("\"price\":19.99"));
    let f = api.get(&format!("{path}?fields=title,price")).await.ok(200).data();
    assert_eq!(f, json!({"title": "Desk Lamp", "price": "19.99"}));
    let l = api.get("/products?fields=slug").await.ok(200).data();
    assert_eq!(l, json!([{"slug": "desk-lamp"}]));
    api.get(&format!("{path}?fields=title,nope")).await.refused(400, "BAD_REQUEST", "fields");
    api.get("/products?fields=nope").await.refused(400, "BAD_REQUEST", "fields");
    // Every field that can be picked is there, and the other way round.
    for (path, data) in [(path.as_str(), p.clone()), ("/products?", api.get("/products").await.data()[0].clone())] {
        let names: Vec<&String> = data.as_object().unwrap().keys().collect();
        let join = names.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(",");
        let sep = if path.contains('?') { "" } else { "?" };
        api.get(&format!("{path}{sep}fields={join}")).await.ok(200);
    }
    let numbers = Api::with(HttpConfig { numbers: true, ..HttpConfig::default() }).await;
    let p = numbers.product(lamp()).await;
    assert_eq!(p["price"], json!(19.99));
    assert_eq!(numbers.get(&format!("/products/{}", id(&p))).await.data()["final_price"], json!(19.99));
}

#[tokio::test]
async fn r15_reads_say_whether_the_cache_had_them_and_never_show_what_is_older_than_a_write() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let path = format!("/products/{}", id(&p));
    assert_eq!(api.get(&path).await.ok(200).header("x-cache"), "MISS");
    let hit = api.get(&path).await.ok(200);
    assert_eq!(hit.header("x-cache"), "HIT");
    assert!(hit.header("cache-control").starts_with("public"));
    assert_eq!(api.get("/products/desk-lamp").await.ok(200).data(), hit.data());
    let sku = p["skus"][0]["id"].as_str().unwrap();
    api.write("POST", &format!("/skus/{sku}/stock"), json!({"delta": -2})).await.ok(201);
    let after = api.get(&path).await.ok(200);
    assert_eq!((after.data()["stock"].as_i64(), after.data()["version"].as_i64()), (Some(10), Some(1)));
    assert_ne!(after.header("etag"), hit.header("etag"));
    assert_eq!(api.get("/products").await.ok(200).header("x-cache"), "MISS");
    assert_eq!(api.get("/products").await.ok(200).header("x-cache"), "HIT");
}

#[tokio::test]
async fn an_unchanged_product_is_not_sent_again() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    for path in [format!("{API}/products/{}", id(&p)), format!("{API}/products/desk-lamp?fields=title")] {
        let tag = api.call("GET", &path, &[], None).await.ok(200).header("etag").to_owned();
        for said in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let a = api.call("GET", &path, &[("if-none-match", &said)], None).await.ok(304);
            assert!(a.bytes.is_empty());
            assert_eq!(a.header("etag"), tag);
        }
        api.call("GET", &path, &[("if-none-match", "\"9.9\"")], None).await.ok(200);
    }
}

#[tokio::test]
async fn r01_a_stale_write_changes_nothing() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let path = format!("{API}/products/{}", id(&p));
    let patch = |m: &'static str, tag: Option<&'static str>, body: Value| {
        let (api, path) = (&api, path.clone());
        async move {
            let headers: Vec<_> = tag.iter().map(|t| ("if-match", *t)).collect();
            api.call(m, &path, &headers, Some(&body.to_string())).await
        }
    };
    let a = patch("PATCH", Some("\"1.1\""), json!({"title": "Lamp"})).await.ok(200);
    assert_eq!(a.header("etag"), "\"2.2\"");
    let before = api.everything().await;
    patch("PATCH", None, json!({"title": "x"})).await.refused(428, "VERSION_REQUIRED", "version");
    patch("PATCH", Some("\"1.1\""), json!({"title": "x"})).await.refused(412, "VERSION_CONFLICT", "version");
    patch("PATCH", None, json!({"title": "x", "version": 1})).await.refused(409, "VERSION_CONFLICT", "version");
    patch("PATCH", Some("\"2.2\""), json!({"title": "x", "version": 1})).await.refused(
        422,
        "VALIDATION_FAILED",
        "version",
    );
    patch("PATCH", Some("2"), json!({"title": "x"})).await.refused(400, "BAD_REQUEST", "If-Match");
    patch("PUT", Some("\"1.1\""), lamp()).await.refused(412, "VERSION_CONFLICT", "version");
    api.call("DELETE", &path, &[("if-match", "\"1.9\"")], None).await.refused(412, "VERSION_CONFLICT", "version");
    api.call("DELETE", &format!("{path}?version=1"), &[], None).await.refused(409, "VERSION_CONFLICT", "version");
    api.call("DELETE", &path, &[], None).await.refused(428, "VERSION_REQUIRED", "version");
    assert_eq!(before, api.everything().await);
    // The revision of the tag does not count: a sale does not make an editor fail.
    patch("PUT", Some("\"2.99\""), lamp()).await.ok(200);
    patch("PATCH", None, json!({"title": "Lamp 3", "version": 3})).await.ok(200);
}

#[tokio::test]
async fn r02_deleted_products_are_hidden_and_come_back() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let path = format!("/products/{}", id(&p));
    let gone = api.call("DELETE", &format!("{API}{path}"), &[("if-match", "\"1.1\"")], None).await.ok(204);
    assert!(gone.bytes.is_empty());
    api.get(&path).await.refused(404, "NOT_FOUND", "");
    api.get("/products/desk-lamp").await.refused(404, "NOT_FOUND", "");
    assert_eq!(api.get("/products").await.data(), json!([]));
    let shown = api.get(&format!("{path}?include_deleted=true")).await.ok(200);
    assert!(shown.data()["deleted_at"].is_string());
    assert!(shown.header("cache-control").contains("no-store"));
    assert_eq!(api.get("/products?include_deleted=true").await.data().as_array().unwrap().len(), 1);
    // The name is free meanwhile.
    let version = shown.data()["version"].as_i64().unwrap();
    let other = api.product(lamp()).await;
    assert_eq!((other["slug"].as_str(), other["sku"].as_str()), (Some("desk-lamp"), Some("LAMP-1")));
    let again = format!("{path}/restore?version={version}");
    let refused = api.write("POST", &again, json!({})).await;
    assert!(refused.status == StatusCode::CONFLICT || refused.status == StatusCode::OK, "{refused:?}");
    let other_path = format!("{API}/products/{}?force=true&version=1", id(&other));
    api.call("DELETE", &other_path, &[], None).await.ok(204);
    if refused.status == StatusCode::CONFLICT {
        api.write("POST", &again, json!({})).await.ok(200);
    }
    api.get(&path).await.ok(200);
}

#[tokio::test]
async fn lists_page_by_number_and_by_cursor() {
    let api = Api::new().await;
    for i in 0..7 {
        api.product(json!({"title": format!("Thing {i}"), "price": format!("{}.00", 10 + i)})).await;
    }
    let a = api.get("/products?sort=price_asc&per_page=3&page=2").await.ok(200);
    let j = a.json();
    assert_eq!(
        j["meta"]["pagination"],
        json!({"total": 7, "page": 2, "per_page": 3, "total_pages": 3, "has_next": true})
    );
    let l = |n: &str| j["links"][n].as_str().unwrap_or("").to_owned();
    assert_eq!(l("self"), "/api/v1/products?sort=price_asc&per_page=3&page=2");
    assert_eq!(l("first"), "/api/v1/products?sort=price_asc&per_page=3&page=1");
    assert_eq!(l("prev"), l("first"));
    assert_eq!(l("next"), "/api/v1/products?sort=price_asc&per_page=3&page=3");
    assert_eq!(l("last"), l("next"));
    assert!(a.header("link").contains('<') && a.header("link").contains("rel=\"next\""));
    let titles = |v: &Value| {
        v["data"].as_array().unwrap().iter().map(|p| p["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(titles(&j), ["Thing 3", "Thing 4", "Thing 5"]);
    let s = api.get("/products?sort=price_asc&skip=3&limit=3").await.ok(200).json();
    assert_eq!(titles(&s), titles(&j));
    assert_eq!(s["links"]["next"], "/api/v1/products?sort=price_asc&limit=3&skip=6");
    assert_eq!(s["links"]["prev"], "/api/v1/products?sort=price_asc&limit=3&skip=0");

    // By cursor, as the links lead.
    let mut path = "/api/v1/products?sort=price_asc&per_page=3&cursor=".to_owned();
    let mut seen = Vec::new();
    loop {
        let j = api.call("GET", &path, &[], None).await.ok(200).json();
        seen.extend(titles(&j));
        let p = &j["meta"]["pagination"];
        assert!(p.get("total").is_none() && p.get("page").is_none(), "{p}");
        match j["links"]["next"].as_str() {
            Some(next) => {
                assert!(next.ends_with(p["next_cursor"].as_str().unwrap()));
                path = next.to_owned();
            }
            None => {
                assert_eq!(p["has_next"], false);
                break;
            }
        }
    }
    assert_eq!(seen, (0..7).map(|i| format!("Thing {i}")).collect::<Vec<_>>());
    // A cursor belongs to its sort.
    let first = api.get("/products?sort=price_asc&per_page=3&cursor=").await.json();
    let cursor = first["meta"]["pagination"]["next_cursor"].as_str().unwrap().to_owned();
    api.get(&format!("/products?sort=title_asc&cursor={cursor}")).await.refused(400, "BAD_REQUEST", "cursor");
    // An empty list has a first page.
    let none = api.get("/products?brand=nobody").await.ok(200).json();
    assert_eq!(none["meta"]["pagination"]["total"], 0);
    assert_eq!(none["links"]["last"], "/api/v1/products?brand=nobody&page=1");
}

#[tokio::test]
async fn r06_lists_filter_and_say_by_what_else() {
    let api = Api::new().await;
    let home = api.category(json!({"name": "Home"})).await;
    api.category(json!({"name": "Lighting", "parent_id": "home"})).await;
    api.product(json!({"title": "Lamp", "price": 20, "stock": 100, "brand": "Lumen", "category": "lighting"})).await;
    api.product(json!({"title": "Rug", "price": 80, "category": id(&home), "tags": ["Wool"]})).await;
    api.product(json!({"title": "Draft", "price": 5, "status": "draft"})).await;
    let count =
        async |q: &str| api.get(&format!("/products?{q}")).await.ok(200).json()["meta"]["pagination"]["total"].clone();
    for (query, n) in [
        ("category=home", 2),
        ("category=home/lighting", 1),
        ("category=lighting&max_price=19.99", 0),
        ("min_price=20&max_price=80.00", 2),
        ("brand=LUMEN", 1),
        ("tag=wool", 1),
        ("availability=in_stock", 1),
        ("availability=out_of_stock", 1),
        ("status=draft", 1),
        ("status=any", 3),
    ] {
        assert_eq!(count(query).await, n, "{query}");
    }
    let f = api.get("/products?include=filters").await.ok(200).json()["meta"]["filters"].clone();
    assert_eq!(f["brands"], json!([{"name": "Lumen", "count": 1}]));
    assert_eq!(f["price_range"], json!({"min": "20.00", "max": "80.00"}));
    assert_eq!(f["categories"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn r17_every_bad_input_has_its_own_error_and_leaves_nothing_behind() {
    let api = Api::new().await;
    let root = api.category(json!({"name": "Root"})).await;
    let leaf = api.category(json!({"name": "Leaf", "parent_id": "root"})).await;
    let p = api.product(json!({"title": "Desk Lamp", "price": 1, "sku": "LAMP-1", "category": "leaf"})).await;
    let sku = p["skus"][0]["id"].as_str().unwrap().to_owned();
    let before = api.everything().await;

    let text = async |body: &str| api.call("POST", &format!("{API}/products"), &[], Some(body)).await;
    text("{\"title\": ").await.refused(400, "BAD_REQUEST", "body");
    text("{} {}").await.refused(422, "VALIDATION_FAILED", "title");
    text("{\"title\":\"a\",\"price\":1} x").await.refused(400, "BAD_REQUEST", "body");
    text("[]").await.refused(400, "BAD_REQUEST", "body");
    text("").await.refused(422, "VALIDATION_FAILED", "body");
    let post = async |b: Value| api.write("POST", "/products", b).await;
    post(json!({"title": "a", "price": -1})).await.refused(422, "VALIDATION_FAILED", "price");
    post(json!({"title": "a", "price": "9.999"})).await.refused(422, "VALIDATION_FAILED", "price");
    post(json!({"title": "a", "price": "nine"})).await.refused(400, "BAD_REQUEST", "price");
    post(json!({"title": "a", "price": 1, "stock": "many"})).await.refused(400, "BAD_REQUEST", "stock");
    post(json!({"title": "a", "price": 1, "colour": "red"})).await.refused(400, "BAD_REQUEST", "colour");
    post(json!({"title": "a", "skus": [{"price": 1, "size": 4}]})).await.refused(400, "BAD_REQUEST", "skus[0].size");
    post(json!({"title": "a", "skus": [{"price": -1}]})).await.refused(422, "VALIDATION_FAILED", "skus[0].price");
    post(json!({"title": "a", "price": 1, "status": "gone"})).await.refused(400, "BAD_REQUEST", "status");
    post(json!({"title": "a", "price": 1, "category": "nowhere"})).await.refused(
        422,
        "VALIDATION_FAILED",
        "categories[0]",
    );
    post(json!({"title": "a", "price": 1, "sku": "lamp-1"})).await.refused(409, "DUPLICATE", "code");
    post(json!({"title": "a", "price": 1, "currency": "EUR"})).await.refused(409, "CURRENCY_MISMATCH", "currency");
    let long = "x".repeat(60_000);
    post(json!({"title": "a", "price": 1, "description": long})).await.refused(422, "VALIDATION_FAILED", "description");
    let huge = "x".repeat(10_000_000);
    post(json!({"title": "a", "price": 1, "description": huge})).await.refused(413, "PAYLOAD_TOO_LARGE", "");
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let body = lamp().to_string();
        let path = format!("{API}/products");
        api.call("POST", &path, &[("content-type", kind)], Some(&body)).await.refused(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "",
        );
    }
    for (query, status, field) in [
        ("cursor=!!!", 400, "cursor"),
        ("cursor=e30", 400, "cursor"),
        ("page=0", 422, "page"),
        ("page=-1", 422, "page"),
        ("page=x", 400, "page"),
        ("per_page=101", 422, "per_page"),
        ("per_page=0", 422, "per_page"),
        ("limit=101", 422, "limit"),
        ("skip=-1", 422, "skip"),
        ("min_price=5&max_price=4", 422, "min_price"),
        ("min_price=abc", 400, "min_price"),
        ("max_price=1.999", 422, "max_price"),
        ("category=nowhere", 422, "category"),
        ("sort=best", 422, "sort"),
        ("availability=soon", 422, "availability"),
        ("status=sold", 422, "status"),
        ("include=all", 422, "include"),
        ("colour=red", 400, "colour"),
        ("page=1&page=2", 400, "page"),
        ("include_deleted=maybe", 400, "include_deleted"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        api.get(&format!("/products?{query}")).await.refused(status, code, field);
    }
    api.get(&format!("/products?brand={}", "x".repeat(9_000))).await.refused(413, "PAYLOAD_TOO_LARGE", "");
    // An id that is no UUID: a slug on reads, refused on writes.
    api.get("/products/no-such-thing").await.refused(404, "NOT_FOUND", "");
    api.write("PATCH", "/products/no-uuid", json!({"version": 1})).await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus/no-uuid").await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus/no-uuid/stock").await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus").await.refused(422, "VALIDATION_FAILED", "code");
    // Categories.
    let r = format!("/categories/{}", id(&root));
    api.write("POST", &format!("{r}/move"), json!({"parent_id": id(&leaf), "version": root["version"]})).await.refused(
        409,
        "CATEGORY_CYCLE",
        "parent_id",
    );
    api.write("PATCH", &r, json!({"name": "x", "version": 99})).await.refused(409, "VERSION_CONFLICT", "version");
    api.write("POST", "/categories", json!({"name": "ROOT"})).await.refused(409, "DUPLICATE", "name");
    api.write("POST", "/categories", json!({})).await.refused(422, "VALIDATION_FAILED", "name");
    let l = format!("{API}/categories/{}", id(&leaf));
    let tag = api.call("GET", &l, &[], None).await.ok(200).header("etag").to_owned();
    api.call("DELETE", &l, &[("if-match", &tag)], None).await.refused(409, "CATEGORY_NOT_EMPTY", "id");
    // Stock.
    let stock = format!("/skus/{sku}/stock");
    api.write("POST", &stock, json!({"delta": 0})).await.refused(422, "VALIDATION_FAILED", "delta");
    api.write("POST", &stock, json!({"delta": 1, "reason": "magic"})).await.refused(400, "BAD_REQUEST", "reason");
    let short = api.write("POST", &stock, json!({"delta": -5})).await.refused(409, "INSUFFICIENT_STOCK", "");
    assert_eq!(short.json()["error"]["details"][0]["requested"], 5);
    // Searches.
    api.get("/products/search?q=x&cursor=").await.refused(400, "BAD_REQUEST", "cursor");
    api.get("/products/search?page=0").await.refused(422, "VALIDATION_FAILED", "page");
    api.get("/products/search?facets=colour").await.refused(422, "VALIDATION_FAILED", "facets");
    api.get("/products/search?min_rating=6").await.refused(422, "VALIDATION_FAILED", "min_rating");

    assert_eq!(before, api.everything().await, "bad input left something behind");
}

#[tokio::test]
async fn r17_what_nearly_fits_is_refused_by_its_field() {
    let api = Api::new().await;
    let p =
        api.product(json!({"title": "Crate", "price": "3", "dimensions": {"width": 1, "height": 2, "depth": 3}})).await;
    let path = format!("/products/{}", p["id"].as_str().unwrap());
    let before = api.everything().await;
    let v = |body: Value| {
        let mut body = body;
        if let Some(o) = body.as_object_mut() {
            o.insert("version".to_owned(), json!(1));
        }
        body
    };
    for (body, status, field) in [
        (json!(["HACK", "hack"]), 400, "body"),
        (json!([]), 400, "body"),
        (v(json!({"images": [["/a"]]})), 400, "images[0]"),
        (v(json!({"dimensions": [1, 2, 3]})), 400, "dimensions"),
        (v(json!({"status": 5})), 400, "status"),
        (v(json!({"price": "-1"})), 422, "price"),
        (v(json!({"price": "1.999"})), 422, "price"),
        (v(json!({"price": "1_000"})), 400, "price"),
        (v(json!({"stock": -1})), 422, "stock"),
        (v(json!({"sku": ""})), 422, "sku"),
        (v(json!({"sku": "a\nb"})), 422, "sku"),
        (v(json!({"slug": "-"})), 422, "slug"),
    ] {
        let answer = api.write("PATCH", &path, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", String::from_utf8_lossy(&answer.bytes));
        assert_eq!(answer.json()["error"]["details"][0]["field"], field, "{body}");
    }
    assert_eq!(api.everything().await, before);

    let merged = api.write("PATCH", &path, v(json!({"dimensions": {"width": 5}}))).await.ok(200).json();
    assert_eq!(merged["data"]["dimensions"], json!({"width": "5.00", "height": "2.00", "depth": "3.00"}));
    api.call("DELETE", &format!("/api/v1{path}?version=2"), &[], None).await.ok(204);
    api.write("POST", &format!("{path}/restore"), json!({"version": 3})).await.ok(200);
}

#[tokio::test]
async fn skus_and_their_ledger() {
    let api = Api::new().await;
    let p = api.product(json!({"title": "Shirt", "discount_percentage": 50, "price": "20.00", "stock": 3})).await;
    let path = format!("/products/{}/skus", id(&p));
    let made =
        api.write("POST", &path, json!({"code": "SHIRT-L", "price": 30, "barcode": "123", "stock": 1})).await.ok(201);
    let s = made.data();
    assert_eq!(made.header("location"), format!("{API}/skus/{}", id(&s)));
    assert_eq!((s["final_price"].as_str(), s["available"].as_i64()), (Some("15.00"), Some(1)));
    assert_eq!(api.get(&path).await.ok(200).data().as_array().unwrap().len(), 2);
    assert_eq!(api.get("/products/shirt/skus").await.ok(200).data().as_array().unwrap().len(), 2);
    assert_eq!(api.get("/skus?code=shirt-l").await.ok(200).data()[0]["id"], s["id"]);
    assert_eq!(api.get("/skus?barcode=123").await.ok(200).data()[0]["final_price"], "15.00");
    assert_eq!(api.get("/skus?code=none").await.ok(200).data(), json!([]));
    // A flat write to a product with several SKUs is refused.
    let version = api.get("/products/shirt").await.data()["version"].clone();
    api.write("PATCH", &format!("/products/{}", id(&p)), json!({"price": 1, "version": version})).await.refused(
        409,
        "FLAT_WRITE_REFUSED",
        "price",
    );

    let sku = format!("/skus/{}", id(&s));
    let read = api.get(&sku).await.ok(200);
    let tag = read.header("etag").to_owned();
    api.call("GET", &format!("{API}{sku}"), &[("if-none-match", &tag)], None).await.ok(304);
    let a =
        api.write("POST", &format!("{sku}/stock"), json!({"delta": 5, "reason": "received", "reference": "D-1"})).await;
    assert_eq!(a.ok(201).data()["stock"]["on_hand"], 6);
    // Stock moves the tag and not the version.
    api.call("GET", &format!("{API}{sku}"), &[("if-none-match", &tag)], None).await.ok(200);
    assert_eq!(api.get(&format!("{sku}/stock")).await.ok(200).data()["available"], 6);
    let m = api.get(&format!("{sku}/stock/movements")).await.ok(200).data();
    let deltas: Vec<i64> = m.as_array().unwrap().iter().map(|m| m["delta"].as_i64().unwrap()).collect();
    assert_eq!((deltas.iter().sum::<i64>(), deltas.len()), (6, 2));
    let c = api.get(&format!("{sku}/stock/movements?per_page=1&cursor=")).await.ok(200).json();
    assert_eq!(c["meta"]["pagination"]["has_next"], true);
    let next = c["links"]["next"].as_str().unwrap();
    assert_eq!(api.call("GET", next, &[], None).await.ok(200).json()["meta"]["pagination"]["has_next"], false);

    let edited =
        api.call("PATCH", &format!("{API}{sku}"), &[("if-match", &tag)], Some("{\"price\": \"31.00\"}")).await.ok(200);
    assert_eq!(edited.data()["price"], "31.00");
    api.call("PATCH", &format!("{API}{sku}"), &[("if-match", &tag)], Some("{}")).await.refused(
        412,
        "VERSION_CONFLICT",
        "version",
    );
    let version = edited.data()["version"].clone();
    let put = json!({"code": "SHIRT-XL", "price": 32, "version": version});
    let version = api.write("PUT", &sku, put).await.ok(200).data()["version"].clone();
    api.call("DELETE", &format!("{API}{sku}?version={version}"), &[], None).await.ok(204);
    api.get(&sku).await.refused(404, "NOT_FOUND", "");
    let gone = api.get(&format!("{sku}?include_deleted=true")).await.ok(200).data();
    let back = format!("{sku}/restore?version={}", gone["version"]);
    api.write("POST", &back, json!({})).await.ok(200);
}

#[tokio::test]
async fn r03_categories_and_their_tree() {
    let api = Api::new().await;
    let made = api.write("POST", "/categories", json!({"name": "Electronics"})).await.ok(201);
    let e = made.data();
    assert_eq!(made.header("location"), format!("{API}/categories/{}", id(&e)));
    let a = api.category(json!({"name": "Audio", "parent_id": "electronics"})).await;
    let h = api.category(json!({"name": "Headphones", "parent_id": "electronics/audio"})).await;
    assert_eq!(h["path"], "electronics/audio/headphones");
    let slugs =
        |v: Value| v.as_array().unwrap().iter().map(|c| c["slug"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(slugs(api.get("/categories/headphones/ancestors").await.ok(200).data()), ["electronics", "audio"]);
    assert_eq!(slugs(api.get("/categories/electronics/children").await.ok(200).data()), ["audio"]);
    assert_eq!(slugs(api.get("/categories?parent_id=").await.ok(200).data()), ["electronics"]);
    assert_eq!(slugs(api.get("/categories?parent_id=electronics").await.ok(200).data()), ["audio"]);
    api.get("/categories?parent_id=none").await.refused(422, "VALIDATION_FAILED", "parent_id");
    let t = api.get("/categories/tree").await.ok(200);
    assert_eq!(t.data()[0]["children"][0]["children"][0]["name"], "Headphones");
    assert_eq!(api.get("/categories/tree").await.header("x-cache"), "HIT");

    // A rename takes the subtree along.
    let tag = api.get("/categories/audio").await.header("etag").to_owned();
    let path = format!("{API}/categories/{}", id(&a));
    let patched =
        api.call("PATCH", &path, &[("if-match", &tag)], Some("{\"name\":\"Sound\",\"slug\":\"sound\"}")).await.ok(200);
    assert_eq!(patched.data()["path"], "electronics/sound");
    assert_eq!(api.get("/categories/headphones").await.data()["path"], "electronics/sound/headphones");
    let tag = api.get("/categories/headphones").await.header("etag").to_owned();
    let mv = format!("{API}/categories/{}/move", id(&h));
    let moved = api.call("POST", &mv, &[("if-match", &tag)], Some("{\"parent_id\":null}")).await.ok(200);
    assert_eq!((moved.data()["path"].as_str(), moved.data()["depth"].as_i64()), (Some("headphones"), Some(1)));
    api.call("POST", &mv, &[], Some("{\"version\":1}")).await.refused(422, "VALIDATION_FAILED", "parent_id");
    let version = moved.data()["version"].clone();
    let path = format!("{API}/categories/{}", id(&h));
    api.call("DELETE", &format!("{path}?version={version}"), &[], None).await.ok(204);
    api.call("GET", &path, &[], None).await.refused(404, "NOT_FOUND", "");
    let gone = api.call("GET", &format!("{path}?include_deleted=true"), &[], None).await.ok(200).data();
    api.call("POST", &format!("{path}/restore?version={}", gone["version"]), &[], None).await.ok(200);
}

#[tokio::test]
async fn search_finds_filters_and_counts() {
    let api = Api::new().await;
    api.category(json!({"name": "Home"})).await;
    api.product(json!({"title": "Brass Lamp", "price": 30, "brand": "Lumen", "category": "home", "stock": 50})).await;
    api.product(json!({"title": "Floor Lamp", "price": 90, "brand": "Halo", "stock": 50})).await;
    api.product(json!({"title": "Rug", "price": 90, "brand": "Halo"})).await;
    api.shop.index().catch_up().await.unwrap();
    let j = api.get("/products/search?q=lamps").await.ok(200).json();
    assert_eq!(j["data"].as_array().unwrap().len(), 2);
    let m = &j["meta"]["search"];
    assert_eq!((m["query"].as_str(), m["total_hits"].as_u64()), (Some("lamps"), Some(2)));
    assert_eq!(m["facets"]["brands"].as_array().unwrap().len(), 2);
    assert_eq!(m["facets"]["categories"][0]["label"], "Home");
    assert_eq!(m["facets"]["prices"][0]["value"], "25.00");
    assert_eq!(j["meta"]["pagination"]["total"], 2);
    let j = api.get("/products/search?q=lamp&brand=halo&brand=nobody&facets=brands&fields=title").await.ok(200).json();
    assert_eq!(j["data"], json!([{"title": "Floor Lamp"}]));
    assert_eq!(j["meta"]["search"]["facets"].as_object().unwrap().len(), 1);
    let j = api.get("/products/search?category=home&facets=").await.ok(200).json();
    assert_eq!((j["data"].as_array().unwrap().len(), &j["meta"]["search"]["facets"]), (1, &json!({})));
    api.get("/products/search?category=none").await.refused(422, "VALIDATION_FAILED", "category");
    let j = api.get("/products/search?sort=price_desc&per_page=1&page=2").await.ok(200).json();
    assert_eq!(j["meta"]["pagination"]["total_pages"], 3);
    assert_eq!(j["links"]["next"], "/api/v1/products/search?sort=price_desc&per_page=1&page=3");
}

#[tokio::test]
async fn every_response_has_an_id_and_is_safe() {
    let api = Api::new().await;
    let a = api.call("GET", "/health/live", &[("x-request-id", "abc-1")], None).await.ok(200);
    assert_eq!(a.header("x-request-id"), "abc-1");
    let long = "x".repeat(129);
    for bad in ["has space", long.as_str()] {
        let a = api.call("GET", "/health/live", &[("x-request-id", bad)], None).await.ok(200);
        assert_eq!(uuid::Uuid::try_parse(a.header("x-request-id")).unwrap().get_version_num(), 7);
    }
    for path in ["/", "/nowhere", "/api/v1/products", "/docs/"] {
        let a = api.call("GET", path, &[], None).await;
        assert_eq!(a.header("x-content-type-options"), "nosniff", "{path}");
        assert!(a.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert!(!a.header("x-request-id").is_empty(), "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_trailing_slashes() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    api.call("GET", "/nowhere", &[], None).await.refused(404, "NOT_FOUND", "");
    api.call("GET", "/nowhere/", &[], None).await.refused(404, "NOT_FOUND", "");
    api.call("GET", "/api/v1/nowhere", &[], None).await.refused(404, "NOT_FOUND", "");
    let a = api.call("DELETE", "/api/v1/products", &[], None).await.refused(405, "METHOD_NOT_ALLOWED", "");
    assert!(a.header("allow").contains("GET") && a.header("allow").contains("POST"), "{a:?}");
    let a = api.call("PUT", "/api/v1/products/", &[], None).await.refused(405, "METHOD_NOT_ALLOWED", "");
    assert!(a.header("allow").contains("GET"));
    let plain = api.get(&format!("/products/{}", id(&p))).await.ok(200);
    let slash = api.get(&format!("/products/{}/", id(&p))).await.ok(200);
    assert_eq!(plain.json(), slash.json());
    let list = api.get("/products/?per_page=1").await.ok(200).json();
    assert_eq!(list["links"]["self"], "/api/v1/products?per_page=1");
    api.write("POST", "/products/", json!({"title": "Second", "price": 2})).await.ok(201);
    api.call("HEAD", "/api/v1/products", &[], None).await.ok(200);
}

#[tokio::test]
async fn gzip_for_those_who_ask() {
    let api = Api::new().await;
    for i in 0..20 {
        api.product(json!({"title": format!("Thing {i}"), "price": 1})).await;
    }
    let path = format!("{API}/products");
    let plain = api.call("GET", &path, &[], None).await.ok(200);
    assert_eq!(plain.header("content-encoding"), "");
    let zipped = api.call("GET", &path, &[("accept-encoding", "br, gzip")], None).await.ok(200);
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.header("vary").to_ascii_lowercase().contains("accept-encoding"));
    assert!(zipped.bytes.starts_with(&[0x1f, 0x8b]) && zipped.bytes.len() * 3 < plain.bytes.len());
}

#[tokio::test]
async fn the_router_can_be_nested_and_moved() {
    let api = Api::with(HttpConfig { api_prefix: "shop/".to_owned(), ..HttpConfig::default() }).await;
    let body = lamp().to_string();
    let nested = Router::new().nest("/outer", api.router.clone());
    let api = Api { router: nested, ..api };
    let made = api.call("POST", "/outer/shop/products", &[], Some(&body)).await.ok(201);
    let at = made.header("location").to_owned();
    assert!(at.starts_with("/outer/shop/products/"), "{at}");
    let read = api.call("GET", &at, &[], None).await.ok(200).json();
    assert_eq!(read["links"]["self"], at);
    assert_eq!(api.call("GET", &format!("{at}/"), &[], None).await.ok(200).json(), read);
    let root = api.call("GET", "/outer", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["products"], "/outer/shop/products");
    // Another router over the same shop has links of its own.
    let other = Api { router: router(api.shop.clone(), HttpConfig::default()), ..api };
    let path = format!("{API}/products/{}", at.rsplit('/').next().unwrap());
    assert_eq!(other.call("GET", &path, &[], None).await.ok(200).json()["links"]["self"], path);
}

#[tokio::test]
async fn health_says_how_each_dependency_does() {
    let api = Api::new().await;
    for path in ["/health", "/health/ready"] {
        let h = api.call("GET", path, &[], None).await.ok(200).json();
        assert_eq!(h["status"], "healthy");
        assert_eq!(h["dependencies"]["database"]["adapter"], "sqlite");
        assert!(h["dependencies"]["search"]["latency_ms"].is_number());
        assert!(h["pool"]["max"].as_u64().unwrap() >= 1);
    }
    api.shop.storage().close().await;
    let down = api.call("GET", "/health", &[], None).await.ok(503).json();
    assert_eq!(
        (down["status"].as_str(), down["dependencies"]["database"]["status"].as_str()),
        (Some("unhealthy"), Some("down"))
    );
    api.call("GET", "/health/live", &[], None).await.ok(200);
    let a = api.get("/products").await.refused(503, "UNAVAILABLE", "");
    assert!(!a.header("retry-after").is_empty());
}

#[tokio::test]
async fn pages_other_origins_may_call_where_configured() {
    let api =
        Api::with(HttpConfig { cors_origins: vec!["https://shop.example".to_owned()], ..HttpConfig::default() }).await;
    let origin = ("origin", "https://shop.example");
    let a = api.call("GET", "/api/v1/products", &[origin], None).await.ok(200);
    assert_eq!(a.header("access-control-allow-origin"), "https://shop.example");
    let a = api.call("GET", "/api/v1/products", &[("origin", "https://evil.example")], None).await.ok(200);
    assert_eq!(a.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn the_document_has_every_route_and_nothing_else() {
    let api = Api::new().await;
    let doc = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let text = doc["info"]["description"].as_str().unwrap();
    for code in ecom_core::ErrorCode::ALL {
        assert!(text.contains(&format!("| `{code}` | ")), "R16: the table lacks {code}");
    }
    let paths = doc["paths"].as_object().unwrap();
    assert!(paths.len() >= 20, "{}", paths.len());
    let all = ["get", "post", "put", "patch", "delete"];
    let ids: Vec<&str> =
        paths.values().flat_map(|item| all.iter().filter_map(|m| item.get(*m)?["operationId"].as_str())).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::HashSet<_>>().len(), "{ids:?}");
    for (path, item) in paths {
        let concrete = path.replace("{id}", "019ab000-0000-7000-8000-000000000000");
        // `Allow` of a method that no route has lists those that the route has.
        let allow = api.call("TRACE", &concrete, &[], None).await.ok(405).header("allow").to_ascii_lowercase();
        let mounted: Vec<&str> = all.into_iter().filter(|m| allow.split(',').any(|a| a == *m)).collect();
        let documented: Vec<&str> = all.into_iter().filter(|m| item.get(*m).is_some()).collect();
        assert_eq!(mounted, documented, "{path}: {allow}");
        for m in documented {
            let responses = item[m]["responses"].as_object().unwrap();
            assert!(responses.keys().any(|s| s.starts_with('2')), "{m} {path}");
            let own = path == "/" || path.starts_with("/health");
            assert!(own || responses.contains_key("422"), "{m} {path} has no errors");
        }
    }
    // No reference leads nowhere.
    let text = doc.to_string();
    let schemas = doc["components"]["schemas"].as_object().unwrap();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    assert!(schemas["ProductInput"]["properties"].as_object().unwrap().contains_key("discount_percentage"));
}

#[tokio::test]
async fn the_pages_load_nothing_from_outside() {
    let api = Api::new().await;
    assert_eq!(api.call("GET", "/docs", &[], None).await.ok(308).header("location"), "/docs/");
    for path in ["/docs/", "/redoc"] {
        let a = api.call("GET", path, &[], None).await.ok(200);
        assert!(a.header("content-type").starts_with("text/html"), "{path}");
        let html = String::from_utf8(a.bytes.clone()).unwrap();
        for outside in ["src=\"http", "href=\"http", "src=\"//", "href=\"//", "@import", "fonts.googleapis", "cdn."] {
            assert!(!html.contains(outside), "{path} has {outside}");
        }
        let policy = a.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
    }
    let script = api.call("GET", "/docs/swagger-ui-bundle.js", &[], None).await.ok(200);
    assert!(script.header("content-type").contains("javascript"));
    api.call("GET", "/docs/nothing.js", &[], None).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn r17_a_description_of_10_mb_is_refused_over_a_socket_too() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = Api::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, api.router.clone()).into_future());
    let body = json!({"title": "a", "price": 1, "description": "x".repeat(10_000_000)}).to_string();
    let head = format!(
        "POST {API}/products HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
    server.abort();
}
