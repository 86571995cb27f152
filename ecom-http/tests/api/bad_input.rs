//! Bad input to every resource: each has its own error and changes nothing.

use serde_json::{Value, json};

use crate::support::{API, Api, id, lamp};

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
