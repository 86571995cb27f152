//! Writes return their last event, searches wait for it, and results of searches are cached.

use ecom_core::id::EventId;
use ecom_core::platform::{EventKind, OutboxPosition};
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, column, id, lamp, open};

const HEADER: &str = "x-last-event-id";

impl Api {
    /// Returns the id and kind of the last event of the log.
    async fn last_event(&self) -> Option<(EventId, EventKind)> {
        let log = self.shop.events().read(OutboxPosition::default(), 10_000).await.unwrap();
        log.events.last().map(|(_, event)| (event.id, event.kind))
    }

    async fn keyed(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.call("POST", &format!("{API}{path}"), &[("idempotency-key", key)], Some(&body.to_string())).await
    }
}

/// The header names the last event of the log after each kind of write.
#[tokio::test]
async fn a_write_returns_its_last_event() {
    let api = Api::new().await;
    let made = api.write("POST", "/products", lamp()).await.ok(201);
    let product = made.data();
    let path = format!("/products/{}", id(&product));
    let sku = id(&product["skus"][0]).to_owned();
    let guest = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
    let order = json!({
        "customer": guest,
        "delivery_method": "on_hand",
        "lines": [{"sku_id": sku, "quantity": 1, "unit_price": "19.99"}],
    });
    let (event, kind) = api.last_event().await.unwrap();
    assert_eq!((made.header(HEADER), kind), (event.to_string().as_str(), EventKind::ProductCreated));
    for (method, path, body, status, expected) in [
        ("PATCH", path.clone(), json!({"title": "Lamp", "version": 1}), 200, EventKind::ProductUpdated),
        (
            "PUT",
            path.clone(),
            json!({"title": "Lamp", "price": "19.99", "sku": "LAMP-1", "version": 2}),
            200,
            EventKind::ProductUpdated,
        ),
        ("POST", format!("/skus/{sku}/stock"), json!({"delta": 5}), 201, EventKind::StockChanged),
        ("POST", "/orders".to_owned(), order, 201, EventKind::OrderPlaced),
        ("POST", "/customers".to_owned(), guest, 201, EventKind::CustomerCreated),
        (
            "PUT",
            "/search/synonyms".to_owned(),
            json!({"synonyms": [{"synonyms": ["a", "b"]}], "version": 1}),
            200,
            EventKind::SettingChanged,
        ),
        ("DELETE", format!("{path}?version=3"), json!({}), 204, EventKind::ProductDeleted),
    ] {
        let written = api.write(method, &path, body).await.ok(status);
        let (event, kind) = api.last_event().await.unwrap();
        assert_eq!((written.header(HEADER), kind), (event.to_string().as_str(), expected), "{method} {path}");
    }
    // Nothing has changed.
    for unchanged in [
        api.get("/products").await.ok(200),
        api.write("POST", "/products", json!({"title": "", "price": 1})).await.ok(422),
        api.write("PUT", "/search/synonyms", json!({"synonyms": [{"synonyms": ["a", "b"]}], "version": 2}))
            .await
            .ok(200),
        api.write("POST", "/admin/audit", json!({})).await,
    ] {
        assert_eq!(unchanged.header(HEADER), "", "{unchanged:?}");
    }
}

/// A repetition has written nothing, and returns the event of the first request.
#[tokio::test]
async fn r12_a_repeated_request_returns_the_event_of_the_first() {
    let api = Api::new().await;
    let product = api.product(lamp()).await;
    let order = json!({
        "customer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "delivery_method": "on_hand",
        "lines": [{"sku_id": product["skus"][0]["id"], "quantity": 1, "unit_price": "19.99"}],
    });
    for (path, body) in [("/products", json!({"title": "Rug", "price": 5})), ("/orders", order)] {
        let first = api.keyed(path, "k", &body).await.ok(201);
        assert_eq!(first.header(HEADER), api.last_event().await.unwrap().0.to_string(), "{path}");
        api.category(json!({"name": format!("After {}", &path[1..])})).await;
        let again = api.keyed(path, "k", &body).await.ok(201);
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.all(HEADER), [first.header(HEADER)], "{path}");
    }
}

/// The background work syncs the index; no request waits for a poll.
#[tokio::test]
async fn a_search_with_at_least_finds_the_write() {
    let api = Api::new().await;
    let background = api.shop.start();
    for n in 1..=3 {
        let written = api.write("POST", "/products", json!({"title": format!("Lamp {n}"), "price": n})).await.ok(201);
        let event = format!("at_least={}&wait_ms=20000", written.header(HEADER));
        let found = api.get(&format!("/products/search?q=lamp&sort=price_asc&{event}")).await.ok(200);
        assert_eq!(column(&found, "title"), (1..=n).map(|n| format!("Lamp {n}")).collect::<Vec<_>>());
        let suggested = api.get(&format!("/products/suggest?q=lam&{event}")).await.ok(200).data();
        assert_eq!(suggested["products"].as_array().unwrap().len(), n);
        let related = api.get(&format!("/products/{}/related?{event}", id(&written.data()))).await.ok(200);
        assert_eq!(related.data().as_array().unwrap().len(), n - 1);
    }
    background.shutdown().await;
}

/// Nobody syncs the index. The search does not return old results.
#[tokio::test]
async fn a_search_with_at_least_fails_if_the_index_is_behind() {
    let api = Api::new().await;
    api.product(lamp()).await;
    api.shop.index().catch_up().await.unwrap();
    let event =
        api.write("POST", "/products", json!({"title": "Rug", "price": 1})).await.ok(201).header(HEADER).to_owned();
    for path in ["/products/search?", "/products/suggest?q=rug&", "/products/desk-lamp/related?"] {
        let behind = api.get(&format!("{path}at_least={event}&wait_ms=20")).await.refused(503, "UNAVAILABLE", "");
        assert_eq!(behind.header("retry-after"), "1");
        let message = behind.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&event) && message.contains("try again"), "{message}");
        api.get(&format!("{path}at_least={event}x")).await.refused(400, "BAD_REQUEST", "at_least");
        for wait in ["0", "20001"] {
            api.get(&format!("{path}at_least={event}&wait_ms={wait}")).await.refused(
                422,
                "VALIDATION_FAILED",
                "wait_ms",
            );
        }
        let never = EventId(api.shop.ids().next());
        let refused = api.get(&format!("{path}at_least={never}")).await.refused(422, "VALIDATION_FAILED", "at_least");
        assert_eq!(refused.json()["error"]["details"][0]["code"], "reference_not_found");
    }
    api.shop.index().catch_up().await.unwrap();
    let found = api.get(&format!("/products/search?at_least={event}&sort=price_asc")).await.ok(200);
    assert_eq!(column(&found, "title"), ["Rug", "Desk Lamp"]);
}

/// `X-Cache` says whether the result of the engine came from the cache.
#[tokio::test]
async fn r15_searches_are_cached_until_the_index_changes() {
    let api = Api::new().await;
    for title in ["Brass lamp", "Floor lamp"] {
        api.product(json!({"title": title, "price": 1})).await;
    }
    api.shop.index().catch_up().await.unwrap();
    let paths = ["/products/search?q=lamp&facets=all", "/products/suggest?q=la", "/products/brass-lamp/related"];
    for round in 0..2 {
        for path in paths {
            for expected in ["MISS", "HIT", "HIT"] {
                let found = api.get(path).await.ok(200);
                assert_eq!(found.header("x-cache"), expected, "{path}, round {round}");
                assert_eq!(found.header("cache-control"), "public, no-cache");
            }
        }
        let cold = api.get(paths[0]).await.ok(200).json();
        assert_eq!(cold["meta"]["search"]["facets"].as_object().unwrap().len(), 6);
        let title = format!("Lamp {round}");
        api.product(json!({"title": title, "price": 1})).await;
        let found = api.get(paths[0]).await.ok(200);
        assert_eq!((found.header("x-cache"), found.data().as_array().unwrap().len()), ("HIT", 2 + round));
        api.shop.index().catch_up().await.unwrap();
    }
    assert_eq!(api.get(paths[0]).await.ok(200).data().as_array().unwrap().len(), 4);
}

/// Scripts of other origins can read the header, and the OpenAPI document describes it for writes only.
#[tokio::test]
async fn the_last_event_is_exposed_and_documented() {
    let api = Api::with(open().cors_origins(vec!["https://shop.example".to_owned()])).await;
    let read = api.call("GET", &format!("{API}/products"), &[("origin", "https://shop.example")], None).await.ok(200);
    assert!(read.header("access-control-expose-headers").split(',').any(|name| name.trim() == HEADER), "{read:?}");
    let document: Value = serde_json::from_str(&ecom_http::openapi_json(&open(), "")).unwrap();
    let mut described = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let writes = method != "get" && path != &format!("{API}/admin/audit") && status.starts_with('2');
                assert_eq!(response["headers"]["X-Last-Event-Id"].is_object(), writes, "{method} {path} {status}");
                described += usize::from(writes);
            }
        }
    }
    assert!(described > 30, "{described} responses have the header");
    let search = &document["paths"][format!("{API}/products/search")]["get"]["parameters"];
    for name in ["at_least", "wait_ms"] {
        assert!(search.as_array().unwrap().iter().any(|p| p["name"] == name), "{name}");
    }
}
