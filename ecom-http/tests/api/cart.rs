//! Carts: the token of a guest, documents with the prices of the moment, lines, merges, lists, and bad input.

use std::time::Duration;

use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, golden, id, lamp, open};

const NOBODY: &str = "019ab000-0000-7000-8000-000000000000";

/// No cache keeps anything of the answer.
#[track_caller]
fn kept_private(a: Answer) -> Answer {
    let expected = if a.status.is_success() { "private, no-store" } else { "no-store" };
    assert_eq!(a.header("cache-control"), expected, "{a:?}");
    assert_eq!(a.header("x-cache"), "");
    a
}

fn line(product: &Value, quantity: i64) -> Value {
    json!({"sku_id": product["skus"][0]["id"], "quantity": quantity, "unit_price": product["final_price"]})
}

/// A guest's cart, and the value of the header that opens it.
struct Guest {
    path: String,
    token: String,
}

impl Api {
    async fn guest(&self) -> Guest {
        let made = self.call("POST", &format!("{API}/carts"), &[], None).await.ok(201).data();
        Guest { path: format!("/carts/{}", id(&made)), token: made["token"].as_str().unwrap().to_owned() }
    }

    async fn as_guest(&self, guest: &Guest, method: &str, below: &str, body: Option<Value>) -> Answer {
        let url = format!("{API}{}{below}", guest.path);
        let body = body.map(|b| b.to_string());
        kept_private(self.call(method, &url, &[("x-cart-token", &guest.token)], body.as_deref()).await)
    }

    async fn shopper(&self, email: &str) -> Value {
        let body = json!({"first_name": "Ada", "last_name": "L", "email": email});
        self.write("POST", "/customers", body).await.ok(201).data()
    }
}

#[tokio::test]
async fn a_cart_reads_as_its_golden_document() {
    let api = Api::new().await;
    let mut body = lamp();
    body["discount_percentage"] = json!("10");
    let lamp = api.product(body).await;
    let cart = json!({
        "email": "ada@example.com",
        "attributes": {"gift": true},
        "lines": [{"sku": "lamp-1", "quantity": 2, "unit_price": "17.99", "attributes": {"engraving": "A"}}],
    });
    let made = kept_private(api.write("POST", "/carts", cart).await.ok(201));
    let mut data = made.data();
    assert_eq!(made.header("location"), format!("{API}/carts/{}", id(&data)));
    assert_eq!(made.header("etag"), format!("\"1.1-{}\"", id(&data).replace('-', "")));
    let token = data.as_object_mut().unwrap().remove("token").unwrap();
    assert_eq!(token.as_str().unwrap().len(), 43);
    let (path, token) = (format!("/carts/{}", id(&data)), token.as_str().unwrap());
    let read = async |query: &str| {
        let url = format!("{API}{path}{query}");
        kept_private(api.call("GET", &url, &[("x-cart-token", token)], None).await.ok(200))
    };
    let cart = read("").await;
    assert_eq!(cart.data(), data, "the token is shown once");
    assert!(!String::from_utf8_lossy(&cart.bytes).contains(token));

    // The price rises, and most of the stock is sold.
    let changed = json!({"discount_percentage": 0, "version": lamp["version"]});
    api.write("PATCH", &format!("/products/{}", id(&lamp)), changed).await.ok(200);
    let stock = format!("/skus/{}/stock", id(&lamp["skus"][0]));
    api.write("POST", &stock, json!({"delta": -11})).await.ok(201);
    let later = read("").await;
    golden("cart", &json!({"cart": cart.json(), "later": later.json()}));
    let row = &later.data()["lines"][0];
    assert_eq!((&row["unit_price"], &row["seen_price"]), (&json!("19.99"), &json!("17.99")));
    assert_eq!((&row["price_changed"], &row["insufficient_stock"]), (&json!(true), &json!(true)));
    assert_eq!(later.data()["version"], 1, "a read writes nothing");
    // No condition hides a new price.
    let url = format!("{API}{path}");
    let headers = [("x-cart-token", token), ("if-none-match", cart.header("etag"))];
    api.call("GET", &url, &headers, None).await.ok(200);

    let numbers = read("?numbers=true&fields=id,subtotal").await.data();
    assert_eq!(numbers, json!({"id": data["id"], "subtotal": 39.98}));
    let names: Vec<&str> = data.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(read(&format!("?fields={}", names.join(","))).await.data(), later.data());
    api.get(&format!("{path}?fields=token")).await.refused(400, "BAD_REQUEST", "fields");
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["carts"], format!("{API}/carts"));
}

#[tokio::test]
async fn a_guest_s_cart_needs_its_token_unless_the_caller_may_read_carts() {
    use ecom_core::access::{Permission, Principal};

    let config = HttpConfig::default().anonymous(Principal::new("anonymous", [Permission::ProductsWrite]));
    let api = Api::with(config).await;
    let lamp = api.product(lamp()).await;
    let (guest, other) = (api.guest().await, api.guest().await);
    let added = api.as_guest(&guest, "POST", "/lines", Some(line(&lamp, 1))).await.ok(200).data();
    let row = format!("/lines/{}", id(&added["lines"][0]));
    let calls = [
        ("GET", String::new(), None),
        ("PATCH", String::new(), Some(json!({"email": "a@example.com", "version": 2}))),
        ("POST", "/lines".to_owned(), Some(line(&lamp, 1))),
        ("DELETE", "/lines".to_owned(), None),
        ("PATCH", row.clone(), Some(json!({"quantity": 2}))),
        ("DELETE", row, None),
        ("POST", "/merge".to_owned(), Some(json!({"into": other.path[7..], "into_token": other.token}))),
        ("DELETE", "?version=2".to_owned(), None),
    ];
    for (method, below, body) in &calls {
        let url = format!("{API}{}{below}", guest.path);
        let body = body.as_ref().map(Value::to_string);
        for wrong in [other.token.as_str(), "", "\u{e9}", &guest.token[1..]] {
            let answer = api.call(method, &url, &[("x-cart-token", wrong)], body.as_deref()).await;
            kept_private(answer.refused(404, "NOT_FOUND", ""));
        }
        kept_private(api.call(method, &url, &[], body.as_deref()).await.refused(403, "FORBIDDEN", ""));
    }
    api.get("/carts").await.refused(403, "FORBIDDEN", "");
    let mine = json!({"customer_id": NOBODY});
    api.write("POST", "/carts", mine.clone()).await.refused(403, "FORBIDDEN", "");
    api.as_guest(&guest, "POST", "/assign", Some(mine)).await.refused(403, "FORBIDDEN", "");
    assert_eq!(api.as_guest(&guest, "GET", "", None).await.ok(200).data(), added);
}

#[tokio::test]
async fn lines_are_added_changed_removed_and_cleared() {
    let api = Api::new().await;
    let lamp = api.product(lamp()).await;
    let guest = api.guest().await;
    api.as_guest(&guest, "POST", "/lines", Some(line(&lamp, 2))).await.ok(200);
    let cart = api.as_guest(&guest, "POST", "/lines", Some(line(&lamp, 3))).await.ok(200);
    assert!(cart.header("etag").starts_with("\"3.3-"), "{cart:?}");
    assert_eq!((&cart.data()["lines"][0]["quantity"], &cart.data()["subtotal"]), (&json!(5), &json!("99.95")));
    let row = format!("/lines/{}", id(&cart.data()["lines"][0]));
    let set = api.as_guest(&guest, "PATCH", &row, Some(json!({"quantity": 1, "unit_price": 19.99}))).await.ok(200);
    assert_eq!((&set.data()["lines"][0]["quantity"], &set.data()["version"]), (&json!(1), &json!(4)));

    // A version that is given is checked.
    let tag = cart.header("etag").to_owned();
    let url = format!("{API}{}{row}", guest.path);
    let headers = [("x-cart-token", guest.token.as_str()), ("if-match", &tag)];
    let stale = api.call("PATCH", &url, &headers, Some(r#"{"quantity":9}"#)).await;
    stale.refused(412, "VERSION_CONFLICT", "version");
    let stale = api.as_guest(&guest, "PATCH", &row, Some(json!({"quantity": 9, "version": 3}))).await;
    stale.refused(409, "VERSION_CONFLICT", "version");
    api.as_guest(&guest, "DELETE", &format!("{row}?version=3"), None).await.refused(409, "VERSION_CONFLICT", "version");
    api.as_guest(&guest, "PATCH", "", Some(json!({"email": null}))).await.refused(428, "VERSION_REQUIRED", "version");
    api.as_guest(&guest, "DELETE", "", None).await.refused(428, "VERSION_REQUIRED", "version");

    let wrong = json!({"sku": "LAMP-1", "quantity": 1, "unit_price": "18"});
    let refused = api.as_guest(&guest, "POST", "/lines", Some(wrong)).await;
    let refused = refused.refused(409, "PRICE_MISMATCH", "unit_price").json();
    let detail = &refused["error"]["details"][0];
    assert_eq!((&detail["expected"], &detail["found"]), (&json!("19.99"), &json!("18.00")));
    assert_eq!(detail["sku_id"], lamp["skus"][0]["id"]);

    let removed = api.as_guest(&guest, "DELETE", &row, None).await.ok(200).data();
    assert_eq!((&removed["lines"], &removed["subtotal"]), (&json!([]), &json!("0.00")));
    api.as_guest(&guest, "DELETE", &row, None).await.refused(404, "NOT_FOUND", "");
    api.as_guest(&guest, "POST", "/lines", Some(line(&lamp, 1))).await.ok(200);
    assert_eq!(api.as_guest(&guest, "DELETE", "/lines", None).await.ok(200).data()["lines"], json!([]));
    let patch = json!({"email": "ada@example.com", "attributes": {"gift": true}, "version": 7});
    assert_eq!(api.as_guest(&guest, "PATCH", "", Some(patch)).await.ok(200).data()["email"], "ada@example.com");
    api.as_guest(&guest, "DELETE", "?version=8", None).await.ok(204);
    api.as_guest(&guest, "GET", "", None).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn r20_carts_merge_are_assigned_and_name_their_successor() {
    let api = Api::new().await;
    let lamp = api.product(lamp()).await;
    let ada = api.shopper("ada@example.com").await;
    let (one, two) = (api.guest().await, api.guest().await);
    api.as_guest(&one, "POST", "/lines", Some(line(&lamp, 4))).await.ok(200);
    api.as_guest(&two, "POST", "/lines", Some(line(&lamp, 3))).await.ok(200);
    let into = json!({"into": two.path[7..], "into_token": two.token});
    let merged = api.as_guest(&one, "POST", "/merge", Some(into.clone())).await.ok(200).data();
    assert_eq!((&merged["id"], &merged["lines"][0]["quantity"]), (&json!(two.path[7..]), &json!(4)));
    let again = api.as_guest(&one, "POST", "/merge", Some(into)).await.ok(200).data();
    assert_eq!(again, merged);
    let gone = api.as_guest(&one, "GET", "", None).await.refused(409, "CART_MERGED", "id").json();
    assert_eq!(gone["error"]["details"][0]["merged_into"], merged["id"]);

    let body = json!({"customer_id": ada["id"]});
    let own = api.as_guest(&two, "POST", "/assign", Some(body.clone())).await.ok(200).data();
    assert_eq!((&own["customer_id"], &own["id"]), (&ada["id"], &merged["id"]));
    api.as_guest(&two, "GET", "", None).await.refused(404, "NOT_FOUND", "");
    // A second cart of the customer is the first.
    let found = kept_private(api.write("POST", "/carts", body.clone()).await.ok(200)).data();
    assert_eq!((&found["id"], found.get("token")), (&merged["id"], None));
    let three = api.guest().await;
    api.as_guest(&three, "POST", "/lines", Some(line(&lamp, 7))).await.ok(200);
    let own = api.as_guest(&three, "POST", "/assign", Some(body)).await.ok(200).data();
    assert_eq!((&own["id"], &own["lines"][0]["quantity"]), (&merged["id"], &json!(7)));

    let list = kept_private(api.get(&format!("/carts?customer_id={}&state=open", id(&ada))).await.ok(200));
    assert_eq!(list.data(), json!([own]));
    let merged = api.get("/carts?state=merged&fields=id,merged_into").await.ok(200).data();
    assert_eq!(merged.as_array().unwrap().len(), 2);
    assert!(merged.as_array().unwrap().iter().all(|c| c["merged_into"] == own["id"]), "{merged}");
}

#[tokio::test]
async fn an_expired_cart_is_refused() {
    let api = Api::new().await;
    let guest = api.guest().await;
    api.clock.advance(Duration::from_secs(30 * 86_400));
    api.as_guest(&guest, "GET", "", None).await.refused(409, "CART_EXPIRED", "id");
    let patch = json!({"email": null, "version": 1});
    api.as_guest(&guest, "PATCH", "", Some(patch)).await.refused(409, "CART_EXPIRED", "id");
    api.as_guest(&guest, "DELETE", "?version=1", None).await.ok(204);
}

#[tokio::test]
async fn lists_of_carts_page_and_filter() {
    let api = Api::new().await;
    for n in 0..5 {
        api.write("POST", "/carts", json!({"email": format!("c{}@example.com", n % 2)})).await.ok(201);
    }
    let page = kept_private(api.get("/carts?per_page=2&page=2").await.ok(200)).json();
    assert_eq!((&page["meta"]["pagination"]["total"], page["data"].as_array().unwrap().len()), (&json!(5), 2));
    let first = api.get("/carts?cursor=&limit=3&email=C0@EXAMPLE.com").await.ok(200).json();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["meta"]["pagination"]["has_next"]), (3, &json!(false)));
    for (bad, field) in [("email=", "email"), ("per_page=0", "per_page")] {
        api.get(&format!("/carts?{bad}")).await.refused(422, "VALIDATION_FAILED", field);
    }
    api.get("/carts?state=closed").await.refused(400, "BAD_REQUEST", "state");
    api.get("/carts?customer_id=7").await.refused(400, "BAD_REQUEST", "customer_id");
    api.get("/carts?cursor=x").await.refused(400, "BAD_REQUEST", "cursor");
    api.get("/carts?sort=name").await.refused(400, "BAD_REQUEST", "sort");
}

#[tokio::test]
async fn r17_bad_carts_name_each_field() {
    let api = Api::new().await;
    let lamp = api.product(lamp()).await;
    let guest = api.guest().await;
    let good = line(&lamp, 1);
    let with = |field: &str, value: Value| {
        let mut line = good.clone();
        line[field] = value;
        line
    };
    for (body, status, code, field) in [
        (with("quantity", json!(0)), 422, "VALIDATION_FAILED", "quantity"),
        (with("quantity", json!(1.5)), 400, "BAD_REQUEST", "quantity"),
        (with("quantity", json!("1")), 400, "BAD_REQUEST", "quantity"),
        (with("sku_id", json!(NOBODY)), 422, "VALIDATION_FAILED", "sku_id"),
        (with("sku_id", json!("7")), 400, "BAD_REQUEST", "sku_id"),
        (with("sku", json!("LAMP-1")), 422, "VALIDATION_FAILED", "sku"),
        (with("unit_price", json!("x")), 400, "BAD_REQUEST", "unit_price"),
        (with("unit_price", json!("1.999")), 422, "VALIDATION_FAILED", "unit_price"),
        (with("price", json!(1)), 400, "BAD_REQUEST", "price"),
        (with("attributes", json!([])), 400, "BAD_REQUEST", "attributes"),
        (json!({"sku": "LAMP-1", "quantity": 1}), 422, "VALIDATION_FAILED", "unit_price"),
    ] {
        let text = body.to_string();
        let answer = api.as_guest(&guest, "POST", "/lines", Some(body)).await;
        assert!(answer.json()["error"]["details"][0]["field"] == field, "{text}: {answer:?}");
        answer.refused(status, code, field);
    }
    for (body, status, code, field) in [
        (json!({"lines": [good, with("quantity", json!(-1))]}), 422, "VALIDATION_FAILED", "lines[1].quantity"),
        (json!({"lines": [[NOBODY, null, 1, 1, {}]]}), 400, "BAD_REQUEST", "lines[0]"),
        (json!({"email": "nobody"}), 422, "VALIDATION_FAILED", "email"),
        (json!({"token": "mine"}), 400, "BAD_REQUEST", "token"),
        (json!({"customer_id": NOBODY}), 422, "VALIDATION_FAILED", "customer_id"),
        (json!({"lines": vec![good.clone(); 501]}), 422, "VALIDATION_FAILED", "lines"),
    ] {
        api.write("POST", "/carts", body).await.refused(status, code, field);
    }
    let itself = json!({"into": guest.path[7..], "into_token": guest.token});
    api.as_guest(&guest, "POST", "/merge", Some(itself)).await.refused(422, "VALIDATION_FAILED", "into");
    api.as_guest(&guest, "POST", "/merge", Some(json!({"into": NOBODY}))).await.refused(404, "NOT_FOUND", "");
    api.as_guest(&guest, "PATCH", "/lines/7", Some(json!({"quantity": 1}))).await.refused(
        400,
        "BAD_REQUEST",
        "line_id",
    );
    api.get("/carts/seven").await.refused(400, "BAD_REQUEST", "id");
    assert_eq!(api.as_guest(&guest, "GET", "", None).await.ok(200).data()["version"], 1);
}

#[tokio::test]
async fn a_browser_may_send_the_token_from_another_origin() {
    let mut config = open();
    config.cors_origins = vec!["https://shop.example".to_owned()];
    let api = Api::with(config).await;
    let headers = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-cart-token,content-type"),
    ];
    let allowed = api.call("OPTIONS", &format!("{API}/carts/{NOBODY}/lines"), &headers, None).await.ok(200);
    let named = allowed.header("access-control-allow-headers").to_lowercase();
    assert!(named == "*" || named.contains("x-cart-token"), "{named}");
}
