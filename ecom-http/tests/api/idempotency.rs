//! POSTs with an `Idempotency-Key`, and their repetitions (R12, R42).

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::{Extension, Router};
use ecom_core::access::{Permission, Principal};
use ecom_http::{HttpConfig, router};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::feeds::{FEED, with_feed};
use crate::support::{API, Answer, Api, id, lamp, open};

/// Sends a POST with a key.
async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    let body = if body.is_null() { None } else { Some(body.to_string()) };
    api.call("POST", &format!("{API}{path}"), &[("idempotency-key", key)], body.as_deref()).await
}

/// Sends a request with a key twice, and checks that the second response is the first one and has no effect.
async fn twice(api: &Api, path: &str, status: u16, body: Value) -> Value {
    let key = format!("key:{path}");
    let first = post(api, path, &key, &body).await.ok(status);
    assert_eq!(first.header("idempotency-replayed"), "", "{path}");
    api.clock.advance(Duration::from_secs(1));
    let before = api.everything().await;
    let again = post(api, path, &key, &body).await.ok(status);
    assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
    for header in ["location", "etag", "content-type", "cache-control"] {
        assert_eq!(again.header(header), first.header(header), "{path}: {header}");
    }
    assert!(!first.header("content-type").is_empty());
    assert_eq!(again.bytes, first.bytes, "{path}");
    let stripped = repeated_by(api, path, &body, Principal::new("anonymous", [])).await;
    stripped.refused(403, "FORBIDDEN", "");
    assert_eq!(api.everything().await, before, "{path}: a repetition has no effect");
    first.data()
}

/// Sends the request of [`twice`] as another principal with the same actor, through a router that is nested.
async fn repeated_by(api: &Api, path: &str, body: &Value, who: Principal) -> Answer {
    let nested = Router::new().nest("/shops/{shop}", api.router.clone());
    let api = Api { router: nested.layer(Extension(who)), shop: api.shop.clone(), clock: api.clock.clone() };
    let body = if body.is_null() { None } else { Some(body.to_string()) };
    let key = format!("key:{path}");
    api.call("POST", &format!("/shops/tea{API}{path}"), &[("idempotency-key", &key)], body.as_deref()).await
}

/// Deletes a resource, so that it can be restored.
async fn deleted(api: &Api, path: &str, version: i64) {
    api.call("DELETE", &format!("{API}{path}?version={version}"), &[], None).await.ok(204);
}

#[tokio::test]
async fn r12_every_kind_of_post_is_answered_once() {
    let api = with_feed(open()).await;
    let mut kinds = Vec::new();
    let mut kind = |path: &str| kinds.push(format!("{API}{path}"));

    kind("/categories");
    let tea = twice(&api, "/categories", 201, json!({"name": "Tea"})).await;
    kind("/categories/{id}/move");
    let pot = api.category(json!({"name": "Pot"})).await;
    let path = format!("/categories/{}/move", id(&pot));
    assert_eq!(twice(&api, &path, 200, json!({"parent_id": id(&tea), "version": 1})).await["path"], "tea/pot");
    kind("/categories/{id}/restore");
    deleted(&api, &format!("/categories/{}", id(&pot)), 2).await;
    twice(&api, &format!("/categories/{}/restore?version=3", id(&pot)), 200, Value::Null).await;

    kind("/products");
    let product = twice(&api, "/products?numbers=true", 201, lamp()).await;
    assert_eq!(product["price"], 19.99);
    kind("/products/{id}/images");
    let path = format!("/products/{}/images?version=1", id(&product));
    let key = [("idempotency-key", "key:image"), ("content-type", "image/png")];
    let first = api.call("POST", &format!("{API}{path}"), &key, Some("800x600")).await.ok(200);
    let again = api.call("POST", &format!("{API}{path}"), &key, Some("800x600")).await.ok(200);
    assert_eq!((again.header("idempotency-replayed"), &again.bytes), ("true", &first.bytes));
    assert_eq!(first.data()["images"].as_array().unwrap().len(), 1);
    kind("/products/{id}/skus");
    let path = format!("/products/{}/skus", id(&product));
    let sku = twice(&api, &path, 201, json!({"code": "LAMP-2", "price": "30.00", "stock": 2})).await;
    kind("/skus/{id}/stock");
    let path = format!("/skus/{}/stock", id(&sku));
    let adjusted = twice(&api, &path, 201, json!({"delta": 5, "reason": "received"})).await;
    assert_eq!(adjusted["stock"]["on_hand"], 7);
    assert_eq!(api.get(&path).await.ok(200).data()["on_hand"], 7, "the stock is adjusted once");
    kind("/skus/{id}/restore");
    deleted(&api, &format!("/skus/{}", id(&sku)), 1).await;
    let restored = twice(&api, &format!("/skus/{}/restore", id(&sku)), 200, json!({"version": 2})).await;
    assert_eq!(restored["final_price"], "30.00");
    kind("/products/{id}/restore");
    let version = api.get(&format!("/products/{}", id(&product))).await.data()["version"].as_i64().unwrap();
    deleted(&api, &format!("/products/{}", id(&product)), version).await;
    twice(&api, &format!("/products/{}/restore?version={}", id(&product), version + 1), 200, Value::Null).await;

    kind("/customers");
    let ada = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
    let customer = twice(&api, "/customers", 201, ada).await;
    kind("/customers/{id}/addresses");
    let path = format!("/customers/{}/addresses", id(&customer));
    twice(&api, &path, 201, json!({"street": "Ockham Lane", "city": "London"})).await;
    assert_eq!(api.get(&path).await.ok(200).data().as_array().unwrap().len(), 1);
    kind("/customers/{id}/restore");
    deleted(&api, &format!("/customers/{}", id(&customer)), 1).await;
    twice(&api, &format!("/customers/{}/restore?version=2", id(&customer)), 200, Value::Null).await;

    kind("/products/{id}/reviews");
    let path = format!("/products/{}/reviews", id(&product));
    twice(&api, &path, 201, json!({"rating": 4, "customer_id": id(&customer)})).await;

    let lines = json!([{"sku_id": id(&sku), "quantity": 1, "unit_price": "30.00"}]);
    kind("/carts");
    let cart = twice(&api, "/carts", 201, json!({"customer_id": id(&customer), "lines": lines})).await;
    kind("/carts/{id}/lines");
    let path = format!("/carts/{}/lines", id(&cart));
    let filled = twice(&api, &path, 200, json!({"sku_id": id(&sku), "quantity": 1, "unit_price": "30.00"})).await;
    assert_eq!(filled["lines"][0]["quantity"], 2, "the line is added once");
    kind("/carts/{id}/merge");
    let guest = api.write("POST", "/carts", json!({"lines": lines})).await.ok(201).data();
    let merged = twice(&api, &format!("/carts/{}/merge", id(&guest)), 200, json!({"into": id(&cart)})).await;
    assert_eq!(id(&merged), id(&cart));
    kind("/carts/{id}/assign");
    let guest = api.write("POST", "/carts", json!({})).await.ok(201).data();
    let path = format!("/carts/{}/assign", id(&guest));
    assert_eq!(id(&twice(&api, &path, 200, json!({"customer_id": id(&customer)})).await), id(&cart));
    kind("/carts/{id}/checkout");
    let path = format!("/carts/{}/checkout", id(&cart));
    twice(&api, &path, 201, json!({"delivery_method": "on_hand"})).await;
    kind("/orders");
    let pen = api.product(json!({"title": "Pen", "price": 2, "stock": 20, "sku": "PEN"})).await;
    let pens = |quantity: i64| json!({"sku": "PEN", "quantity": quantity, "unit_price": 2});
    let body = json!({"customer_id": id(&customer), "delivery_method": "on_hand", "lines": [pens(3)]});
    let order = twice(&api, "/orders", 201, body).await;
    let path = format!("/orders/{}", id(&order));
    kind("/orders/{id}/lines");
    let mut line = pens(2);
    line["version"] = json!(1);
    let added = twice(&api, &format!("{path}/lines"), 201, line).await;
    kind("/orders/{id}/edit");
    let line = id(&added["lines"][1]).to_owned();
    let edit = json!({"change": [{"line_id": line, "quantity": 4}], "version": 2});
    twice(&api, &format!("{path}/edit"), 200, edit).await;
    kind("/orders/{id}/cancel");
    let units = json!({"lines": [{"line_id": line, "quantity": 1}], "version": 3});
    twice(&api, &format!("{path}/cancel"), 200, units).await;
    let stock = format!("/skus/{}/stock", id(&pen["skus"][0]));
    assert_eq!(api.get(&stock).await.ok(200).data()["on_hand"], 14, "units are canceled once");
    kind("/orders/{id}/start");
    twice(&api, &format!("{path}/start"), 200, Value::Null).await;
    kind("/orders/{id}/deliver");
    assert_eq!(twice(&api, &format!("{path}/deliver"), 200, Value::Null).await["version"], 6);
    kind("/orders/{id}/restore");
    let body = json!({"customer_id": id(&customer), "delivery_method": "on_hand"});
    let empty = api.write("POST", "/orders", body).await.ok(201).data();
    deleted(&api, &format!("/orders/{}", id(&empty)), 1).await;
    twice(&api, &format!("/orders/{}/restore?version=3", id(&empty)), 200, Value::Null).await;

    kind("/admin/verify");
    twice(&api, "/admin/verify", 202, json!({"repair": false})).await;
    kind("/admin/reindex");
    let job = twice(&api, "/admin/reindex", 202, Value::Null).await;
    kind("/admin/jobs/{id}/retry");
    api.parked(&job).await;
    twice(&api, &format!("/admin/jobs/{}/retry", id(&job)), 202, Value::Null).await;
    kind("/admin/jobs/{id}/cancel");
    twice(&api, &format!("/admin/jobs/{}/cancel", id(&job)), 200, Value::Null).await;
    kind("/admin/job-queues/{kind}/pause");
    twice(&api, "/admin/job-queues/mail/pause", 200, Value::Null).await;
    kind("/admin/job-queues/{kind}/resume");
    twice(&api, "/admin/job-queues/mail/resume", 200, Value::Null).await;

    let hook = json!({"url": "https://example.com/hooks", "events": ["order.placed"]});
    let hook = api.write("POST", "/webhooks", hook).await.ok(201).data();
    kind("/webhooks/{id}/test");
    let delivery = twice(&api, &format!("/webhooks/{}/test", id(&hook)), 202, Value::Null).await;
    assert_eq!(api.get("/webhooks/deliveries").await.ok(200).data().as_array().unwrap().len(), 1);
    kind("/webhooks/deliveries/{id}/replay");
    twice(&api, &format!("/webhooks/deliveries/{}/replay", id(&delivery)), 202, Value::Null).await;

    kind("/analytics/rebuild");
    twice(&api, "/analytics/rebuild", 202, Value::Null).await;

    kind("/admin/feeds/{name}/run");
    twice(&api, &format!("/admin/feeds/{FEED}/run"), 202, Value::Null).await;

    kind("/customers/{id}/erase");
    assert!(
        twice(&api, &format!("/customers/{}/erase", id(&customer)), 200, Value::Null).await["erased_at"].is_string()
    );

    kind("/roles");
    twice(&api, "/roles", 201, json!({"name": "clerk", "permissions": ["orders:read"]})).await;
    kind("/users/{id}/restore");
    let user = api.write("POST", "/users", json!({"email": "ada@example.com"})).await.ok(201).data();
    deleted(&api, &format!("/users/{}", id(&user)), 1).await;
    twice(&api, &format!("/users/{}/restore?version=2", id(&user)), 200, Value::Null).await;

    // No POST is missing above, and each documents the header. An audit changes nothing, an import that is repeated
    // writes nothing, and requests and responses with secrets are not stored.
    let is_stored = |path: &str| {
        !path.ends_with("/admin/audit")
            && !path.contains("/ingest/")
            && !path.contains("/auth/")
            && !path.ends_with("/users")
            && !path.ends_with("/api-keys")
            && !path.ends_with("/webhooks")
            && !path.ends_with("/rotate-secret")
            && !path.ends_with("/events/ticket")
            && !path.ends_with("/products/{id}/events")
    };
    let document = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let mut posts: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(post) = item.get("post").filter(|_| is_stored(path)) else { continue };
        posts.push(path.clone());
        let named = |p: &&Value| p["name"] == "Idempotency-Key";
        let parameter = post["parameters"].as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((&parameter["in"], &parameter["required"]), (&json!("header"), &json!(false)), "{path}");
        assert!(post["responses"]["409"]["description"].as_str().unwrap().contains("IDEMPOTENCY_KEY_REUSED"), "{path}");
        let success = ["201", "202", "200"].iter().find_map(|status| post["responses"].get(status)).unwrap();
        assert!(success["headers"]["Idempotency-Replayed"].is_object(), "{path}");
    }
    posts.sort();
    kinds.sort();
    assert_eq!(posts, kinds);
}

/// A customer gets its own stored responses, and those of the customer that it was before no longer.
#[tokio::test]
async fn r16_a_customer_gets_no_stored_responses_of_another_customer() {
    let api = Api::new().await;
    let ada = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let bob = api.customer("Bob", "Babbage", "bob@example.com").await;
    let path = format!("/customers/{}/addresses", id(&ada));
    let body = json!({"street": "Ockham Lane", "city": "London"});
    let user = |customer: &Value| Principal::new("user:1", []).with_customer(id(customer).parse().unwrap());
    let made = repeated_by(&api, &path, &body, user(&ada)).await.ok(201);
    let again = repeated_by(&api, &path, &body, user(&ada)).await.ok(201);
    assert_eq!((again.header("idempotency-replayed"), &again.bytes), ("true", &made.bytes));
    repeated_by(&api, &path, &body, user(&bob)).await.refused(403, "FORBIDDEN", "");
    repeated_by(&api, &path, &body, Principal::new("user:1", [])).await.refused(403, "FORBIDDEN", "");
    let staff = Principal::new("user:1", [Permission::CustomersWrite]);
    assert_eq!(repeated_by(&api, &path, &body, staff).await.ok(201).header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn r45_stored_responses_about_an_erased_customer_are_gone() {
    let api = Api::new().await;
    let pen = api.product(json!({"title": "Pen", "price": 2, "stock": 20})).await;
    let line = json!({"sku_id": id(&pen["skus"][0]), "quantity": 1, "unit_price": 2});
    let ada = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
    let customer = post(&api, "/customers", "k", &ada).await.ok(201).data();
    let of_ada = format!("/customers/{}", id(&customer));
    let order = json!({"customer_id": id(&customer), "delivery_method": "on_hand", "lines": [line]});
    let placed = post(&api, "/orders", "k", &order).await.ok(201).data();
    let guest = json!({"customer": ada, "delivery_method": "on_hand", "lines": [line]});
    let cart = json!({"customer_id": id(&customer), "email": "ada@example.com", "lines": [line]});
    let made = post(&api, "/carts", "k", &cart).await.ok(201).data();
    let keyed = [
        ("/customers".to_owned(), ada.clone()),
        ("/orders".to_owned(), order),
        (format!("/orders/{}/start", id(&placed)), Value::Null),
        (format!("{of_ada}/addresses"), json!({"street": "Ockham Lane", "city": "London"})),
        ("/carts".to_owned(), cart),
        (format!("/carts/{}/lines", id(&made)), line.clone()),
        (format!("/carts/{}/checkout", id(&made)), json!({"delivery_method": "on_hand"})),
    ];
    for (path, body) in &keyed {
        post(&api, path, "k", body).await.ok(if path.ends_with("start") || path.ends_with("lines") {
            200
        } else {
            201
        });
    }
    let others = [("/products", lamp(), "p"), ("/orders", guest, "g")];
    for (path, body, key) in &others {
        post(&api, path, key, body).await.ok(201);
    }
    let erased = post(&api, &format!("{of_ada}/erase"), "k", &Value::Null).await.ok(200);
    let before = api.everything().await;
    for (path, body) in &keyed {
        let refused = post(&api, path, "k", body).await.refused(409, "IDEMPOTENCY_ANSWER_ERASED", "Idempotency-Key");
        assert!(!String::from_utf8_lossy(&refused.bytes).contains("Lovelace"), "{path}");
    }
    for (path, body, key) in &others {
        let again = post(&api, path, key, body).await.ok(201);
        assert_eq!(again.header("idempotency-replayed"), "true", "{path}: the responses of others stay");
    }
    let again = post(&api, &format!("{of_ada}/erase"), "k", &Value::Null).await.ok(200);
    assert_eq!((again.header("idempotency-replayed"), again.json()), ("true", erased.json()));
    // Later responses about the order have nothing personal, and are stored as others.
    let deliver = format!("/orders/{}/deliver", id(&placed));
    post(&api, &deliver, "k", &Value::Null).await.ok(200);
    api.call("POST", &format!("{API}{of_ada}/erase"), &[], None).await.ok(200);
    assert_eq!(post(&api, &deliver, "k", &Value::Null).await.ok(200).header("idempotency-replayed"), "true");
    assert_ne!(api.everything().await, before);
}

#[tokio::test]
async fn r12_a_key_that_another_request_has_used_is_refused() {
    let api = Api::new().await;
    post(&api, "/products", "k", &lamp()).await.ok(201);
    let before = api.everything().await;
    let mut other = lamp();
    other["price"] = json!("1.00");
    let refused = post(&api, "/products", "k", &other).await.refused(409, "IDEMPOTENCY_KEY_REUSED", "Idempotency-Key");
    assert_eq!(refused.json()["error"]["details"][0]["key"], "k");
    // Another query, and the same JSON in other bytes, are other requests too.
    post(&api, "/products?numbers=true", "k", &lamp()).await.refused(409, "IDEMPOTENCY_KEY_REUSED", "");
    let spaced = format!("{} ", lamp());
    let headers = [("idempotency-key", "k")];
    let url = format!("{API}/products");
    api.call("POST", &url, &headers, Some(&spaced)).await.refused(409, "IDEMPOTENCY_KEY_REUSED", "");
    assert_eq!(api.everything().await, before);
    // Another path of the same route is another request, and another route has keys of its own.
    let c = api.category(json!({"name": "Tea"})).await;
    post(&api, &format!("/categories/{}/move", id(&c)), "k", &json!({"parent_id": null, "version": 1})).await.ok(200);
    let d = api.category(json!({"name": "Pot"})).await;
    let path = format!("/categories/{}/move", id(&d));
    post(&api, &path, "k", &json!({"parent_id": null, "version": 1})).await.refused(409, "IDEMPOTENCY_KEY_REUSED", "");
}

#[tokio::test]
async fn r42_a_refused_request_leaves_its_key_free() {
    let api = Api::new().await;
    let mut bad = lamp();
    bad["price"] = json!("-1");
    for _ in 0..2 {
        post(&api, "/products", "k", &bad).await.refused(422, "VALIDATION_FAILED", "price");
    }
    post(&api, "/products", "k", &json!({"titel": "x"})).await.refused(400, "BAD_REQUEST", "titel");
    let p = post(&api, "/products", "k", &lamp()).await.ok(201).data();
    let path = format!("/skus/{}/stock", id(&p["skus"][0]));
    post(&api, &path, "k", &json!({"delta": -13})).await.refused(409, "INSUFFICIENT_STOCK", "");
    api.write("POST", &path, json!({"delta": 1})).await.ok(201);
    post(&api, &path, "k", &json!({"delta": -13})).await.ok(201);
    let again = post(&api, &path, "k", &json!({"delta": -13})).await.ok(201);
    assert_eq!((again.header("idempotency-replayed"), &again.data()["stock"]["on_hand"]), ("true", &json!(0)));
    // A stale version is refused with the same status as without a key.
    let c = api.category(json!({"name": "Tea"})).await;
    let url = format!("{API}/categories/{}/move", id(&c));
    let stale = format!("\"7.1-{}\"", id(&c));
    for key in [None, Some(("idempotency-key", "k"))] {
        let headers: Vec<_> = [("if-match", stale.as_str())].into_iter().chain(key).collect();
        api.call("POST", &url, &headers, Some("{\"parent_id\": null}")).await.refused(
            412,
            "VERSION_CONFLICT",
            "version",
        );
    }
}

#[tokio::test]
async fn r42_a_bad_key_is_refused_before_anything_happens() {
    let api = Api::new().await;
    let before = api.everything().await;
    for bad in ["", "a b", "ä", &"k".repeat(256)] {
        post(&api, "/products", bad, &lamp()).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
    }
    let headers = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let url = format!("{API}/products");
    let body = lamp().to_string();
    api.call("POST", &url, &headers, Some(&body)).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
    assert_eq!(api.everything().await, before);
    post(&api, "/products", &"k".repeat(255), &lamp()).await.ok(201);
    // Other methods ignore the header.
    let made = api.product(json!({"title": "Pen", "price": 1})).await;
    for body in [json!({"brand": "A", "version": 1}), json!({"brand": "B", "version": 2})] {
        let url = format!("{API}/products/{}", id(&made));
        let patched = api.call("PATCH", &url, &[("idempotency-key", "k k")], Some(&body.to_string())).await.ok(200);
        assert_eq!(patched.data()["brand"], body["brand"]);
    }
}

#[tokio::test]
async fn r42_a_guests_cart_is_not_created_with_a_key_because_its_token_is_not_stored() {
    let api = Api::new().await;
    let refused = post(&api, "/carts", "k", &json!({})).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("token of the cart"), "{message}");
    post(&api, "/carts", "k", &Value::Null).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
    assert_eq!(api.get("/carts").await.ok(200).data(), json!([]));
    let guest = Api::with(HttpConfig::default().anonymous(Principal::anonymous([]))).await;
    post(&guest, "/carts", "k", &json!({})).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
    let ada = api.customer("Ada", "Lovelace", "ada@example.com").await;
    let cart = post(&api, "/carts", "k", &json!({"customer_id": id(&ada)})).await.ok(201).data();
    assert_eq!(cart.get("token"), None);
}

#[tokio::test]
async fn r42_a_key_of_a_guest_belongs_to_the_token_of_the_cart() {
    let api = Api::with(HttpConfig::default().anonymous(Principal::new("guest", []))).await;
    let lamp = api.shop.products().create(&serde_json::from_value(lamp()).unwrap()).await.unwrap();
    let line = json!({"sku_id": lamp.skus[0].id, "quantity": 1, "unit_price": "19.99"}).to_string();
    let create = async || api.write("POST", "/carts", json!({})).await.ok(201).data();
    let (a, b) = (create().await, create().await);
    let add = async |cart: &Value, token: Option<&Value>| {
        let token = token.map(|t| ("x-cart-token", t.as_str().unwrap()));
        let headers: Vec<_> = [("idempotency-key", "k")].into_iter().chain(token).collect();
        api.call("POST", &format!("{API}/carts/{}/lines", id(cart)), &headers, Some(&line)).await
    };
    add(&a, Some(&a["token"])).await.ok(200);
    let again = add(&a, Some(&a["token"])).await.ok(200);
    assert_eq!((again.header("idempotency-replayed"), &again.data()["lines"][0]["quantity"]), ("true", &json!(1)));
    // Another guest has keys of their own, and nobody gets a stored response without the token.
    let other = add(&b, Some(&b["token"])).await.ok(200);
    assert_eq!(other.header("idempotency-replayed"), "");
    add(&a, Some(&json!("another"))).await.refused(404, "NOT_FOUND", "");
    add(&a, None).await.refused(403, "FORBIDDEN", "");
}

#[tokio::test]
async fn r12_many_clients_with_one_key_get_one_answer() {
    let api = std::sync::Arc::new(Api::new().await);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { post(&api, "/products", "k", &lamp()).await.ok(201) })
        })
        .collect();
    let (mut bodies, mut replayed) = (Vec::new(), 0);
    for t in tasks {
        let answer = t.await.unwrap();
        replayed += i32::from(answer.header("idempotency-replayed") == "true");
        bodies.push(answer.bytes);
    }
    bodies.dedup();
    assert_eq!((bodies.len(), replayed), (1, 49));
    assert_eq!(api.get("/products").await.ok(200).data().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn r42_a_key_belongs_to_its_caller_and_its_route_wherever_the_router_is_nested() {
    let api = Api::new().await;
    let site = Router::new().nest("/a", router(api.shop.clone(), open())).nest("/b", router(api.shop.clone(), open()));
    let send = async |path: &str, actor: &str, name: &str| {
        let request = Request::post(path)
            .header("idempotency-key", "k")
            .header("content-type", "application/json")
            .extension(Principal::trusted(actor))
            .body(Body::from(json!({ "name": name }).to_string()))
            .unwrap();
        let response = site.clone().oneshot(request).await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        (response.status().as_u16(), replayed)
    };
    assert_eq!(send("/a/api/v1/categories", "ada", "Tea").await, (201, false));
    assert_eq!(send("/b/api/v1/categories", "ada", "Tea").await, (201, true));
    assert_eq!(send("/a/api/v1/categories/", "ada", "Tea").await, (201, true), "a trailing slash is the same resource");
    assert_eq!(send("/a/api/v1/categories", "bob", "Pot").await, (201, false));
    assert_eq!(send("/a/api/v1/categories", "ada", "Pot").await, (409, false));
}

#[tokio::test]
async fn scripts_of_other_origins_can_send_a_key_and_see_a_replay() {
    let api = Api::with(open().cors_origins(vec!["https://shop.example".to_owned()])).await;
    let headers = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "idempotency-key"),
    ];
    let allowed = api.call("OPTIONS", &format!("{API}/products"), &headers, None).await.ok(200);
    assert!(["*", "idempotency-key"].contains(&allowed.header("access-control-allow-headers")), "{allowed:?}");
    let got = api.call("GET", &format!("{API}/products"), &headers[..1], None).await.ok(200);
    assert!(got.header("access-control-expose-headers").contains("idempotency-replayed"), "{got:?}");
}
