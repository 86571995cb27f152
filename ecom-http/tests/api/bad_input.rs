//! Bad input to every resource: each case has its own error and changes nothing.

use std::io::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, id, lamp, open};

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
        ("sort=best", 400, "sort"),
        ("availability=soon", 400, "availability"),
        ("status=sold", 400, "status"),
        ("include=all", 400, "include"),
        ("colour=red", 400, "colour"),
        ("page=1&page=2", 400, "page"),
        ("tag=a&tag=b", 400, "tag"),
        ("brand=%ff", 400, "brand"),
        ("fields=", 422, "fields"),
        ("fields=,%20", 422, "fields"),
        ("brand=%E2%80%8B", 422, "brand"),
        ("include_deleted=maybe", 400, "include_deleted"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        api.get(&format!("/products?{query}")).await.refused(status, code, field);
    }
    api.get(&format!("/products?brand={}", "x".repeat(9_000))).await.refused(414, "URI_TOO_LONG", "");
    // A key that is not a UUID is read as a slug by reads, and is refused by writes.
    api.get("/products/no-such-thing").await.refused(404, "NOT_FOUND", "");
    api.write("PATCH", "/products/no-uuid", json!({"version": 1})).await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus/no-uuid").await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus/no-uuid/stock").await.refused(400, "BAD_REQUEST", "id");
    api.get("/skus").await.refused(422, "VALIDATION_FAILED", "code");
    // Bad input to categories.
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
    // Bad input to stock.
    let stock = format!("/skus/{sku}/stock");
    api.write("POST", &stock, json!({"delta": 0})).await.refused(422, "VALIDATION_FAILED", "delta");
    api.write("POST", &stock, json!({"delta": 1, "reason": "magic"})).await.refused(400, "BAD_REQUEST", "reason");
    let short = api.write("POST", &stock, json!({"delta": -5})).await.refused(409, "INSUFFICIENT_STOCK", "");
    assert_eq!(short.json()["error"]["details"][0]["requested"], 5);
    // Bad input to searches.
    api.get("/products/search?q=x&cursor=").await.refused(400, "BAD_REQUEST", "cursor");
    api.get("/products/search?page=0").await.refused(422, "VALIDATION_FAILED", "page");
    api.get("/products/search?facets=colour").await.refused(400, "BAD_REQUEST", "facets");
    api.get("/products/search?sort=best").await.refused(400, "BAD_REQUEST", "sort");
    // A resource that is created has no version yet.
    for (path, body) in [
        ("/products", json!({"title": "a", "price": 1, "version": 1})),
        ("/categories", json!({"name": "a", "version": 1})),
        (&format!("/products/{}/skus", id(&p)), json!({"price": 1, "version": 1})),
        ("/customers", json!({"first_name": "a", "last_name": "b", "email": "a@example.com", "version": 1})),
    ] {
        api.write("POST", path, body).await.refused(400, "BAD_REQUEST", "version");
    }
    api.get("/products/search?min_rating=6").await.refused(422, "VALIDATION_FAILED", "min_rating");

    assert_eq!(before, api.everything().await, "bad input must not change any row");
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

/// Returns the messages of an error's details.
fn messages(answer: &Answer) -> String {
    answer.json()["error"]["details"].as_array().unwrap().iter().map(|d| d["message"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn r17_a_query_says_what_is_wrong_with_it() {
    let api = Api::new().await;
    let words = vec!["word"; 33].join("+");
    for (path, status, field, message) in [
        ("/products?fields=", 422, "fields", "at least one field; leave the parameter out"),
        ("/products/search?fields=", 422, "fields", "at least one field"),
        ("/customers?fields=", 422, "fields", "at least one field"),
        ("/products?tag=a&tag=b", 400, "tag", "occurs 2 times, but must occur only once"),
        ("/products/search?q=a&q=b&q=c", 400, "q", "occurs 3 times"),
        ("/products/search?q=%ff", 400, "q", "must be percent-encoded UTF-8"),
        ("/products/search?tag=a&tag=%C3", 400, "tag", "must be percent-encoded UTF-8"),
        ("/customers?name=%ff", 400, "name", "must be percent-encoded UTF-8"),
        ("/addresses?customer_id=7", 400, "customer_id", "must be a UUID"),
        ("/products?page=99999999999999999999", 400, "page", "must be a smaller number"),
        ("/products?include_deleted=yes", 400, "include_deleted", "must be `true` or `false`"),
        ("/products?sort=best", 400, "sort", "must be one of "),
        ("/products?per_page=0", 422, "per_page", "must be between 1 and 100"),
        ("/products?limit=0", 422, "limit", "must be between 1 and 100"),
        (&format!("/products/search?q={words}"), 422, "q", "32 words"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        let found = messages(&api.get(path).await.refused(status, code, field));
        assert!(found.contains(message), "{path}: {found}");
    }
}

#[tokio::test]
async fn r17_a_body_says_what_is_wrong_with_it() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let before = api.everything().await;
    let one = format!("/products/{}", id(&p));
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let (deep, deeper) = (nested(60), nested(200));
    for (method, path, body, status, field, message) in [
        ("POST", "/products", r#"{"title":"\u200b\u2060","price":1}"#, 422, "title", "visible character"),
        ("POST", "/products", r#"{"title":"a","price":1,"tags":["\u200d"]}"#, 422, "tags[0]", "visible character"),
        ("POST", "/products", r#"{"title":"a","price":1,"sku":"\u3164"}"#, 422, "sku", "visible character"),
        ("POST", "/categories", r#"{"name":"\ufeff"}"#, 422, "name", "visible character"),
        ("POST", "/products", r#"{"title":"a","price":1,"stock":123456789012345678901}"#, 400, "stock", "64 bits"),
        ("POST", "/products", r#"{"title":7,"price":1}"#, 400, "title", "must be a string"),
        ("POST", "/products", r#"{"title":"a","price":1,"tags":"b"}"#, 400, "tags", "must be an array"),
        ("PATCH", &one, r#"{"title":"\u00ad","version":1}"#, 422, "title", "visible character"),
        (
            "POST",
            "/products",
            r#"{"title":"a","price":1,"attributes":{"n":18446744073709551616}}"#,
            400,
            "attributes",
            "18446744073709551616, which needs more than 64 bits",
        ),
        (
            "PATCH",
            &one,
            r#"{"version":1,"attributes":{"n":[-9223372036854775809]}}"#,
            400,
            "attributes",
            "contains at `n[0]` the integer -9223372036854775809, which needs more than 64 bits: send it as a string",
        ),
        (
            "POST",
            "/products",
            r#"{"title":"a","skus":[{"price":1,"attributes":{"n":99999999999999999999}}]}"#,
            400,
            "skus[0].attributes",
            "64 bits",
        ),
        (
            "POST",
            "/products",
            r#"{"title":"a","skus":[{"price":1,"option_values":{"size":"M","size":"L"}}]}"#,
            400,
            "skus[0].option_values.size",
            "must not occur twice",
        ),
        (
            "PATCH",
            &one,
            r#"{"version":1,"attributes":{"a":{"b":1,"b":2}}}"#,
            400,
            "attributes.a.b",
            "must not occur twice",
        ),
        ("PATCH", &one, &format!(r#"{{"version":1,"attributes":{{"a":{deep}}}}}"#), 422, "attributes", "30 levels"),
        ("PATCH", &one, &format!(r#"{{"version":1,"attributes":{{"a":{deeper}}}}}"#), 400, "attributes", "30 levels"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        let answer = api.call(method, &format!("{API}{path}"), &[], Some(body)).await.refused(status, code, field);
        let found = messages(&answer);
        assert!(found.contains(message), "{body}: {found}");
    }
    for kind in ["application/json; charset=utf-16", "application/json;charset=\"iso-8859-1\""] {
        let path = format!("{API}/products");
        let a = api.call("POST", &path, &[("content-type", kind)], Some("{}")).await;
        let a = a.refused(415, "UNSUPPORTED_MEDIA_TYPE", "");
        assert!(a.json()["error"]["message"].as_str().unwrap().contains("UTF-8"), "{kind}");
    }
    assert_eq!(before, api.everything().await, "bad input must not change any row");
    let kind = [("content-type", "application/json; charset=UTF-8")];
    let fine = r#"{"title":"Fine","price":1,"attributes":{"n":18446744073709551615,"e":1e30}}"#;
    let made = api.call("POST", &format!("{API}/products"), &kind, Some(fine)).await.ok(201).data();
    assert_eq!(made["attributes"]["n"], u64::MAX);
}

#[tokio::test]
async fn r16_a_request_whose_head_is_too_large_has_an_error_in_the_envelope() {
    let api = Api::with(open().query_limit(100).header_limit(300)).await;
    let long = "x".repeat(101);
    for path in [format!("{API}/products?brand={long}"), format!("{API}/products/{long}")] {
        api.call("GET", &path, &[], None).await.refused(414, "URI_TOO_LONG", "");
    }
    api.get("/products?brand=x").await.ok(200);
    let value = "x".repeat(100);
    let headers = [("x-a", value.as_str()), ("x-b", &value), ("x-c", &value)];
    let path = format!("{API}/products");
    api.call("GET", &path, &headers, None).await.refused(431, "HEADERS_TOO_LARGE", "");
    api.call("GET", &path, &headers[1..], None).await.ok(200);
}

#[tokio::test]
async fn r16_a_body_that_comes_too_slowly_is_a_timeout_of_the_request() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = Api::with(open().request_timeout(Duration::from_millis(400))).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, api.router.clone()).into_future());
    let head = format!(
        "POST {API}/products HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\
         connection: close\r\n\r\n{{\"title\":"
    );
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("REQUEST_TIMEOUT"), "{answer}");
    server.abort();
}

#[tokio::test]
async fn r17_a_page_beyond_the_end_leads_back_to_the_last_page() {
    let api = Api::new().await;
    for title in ["A", "B", "C"] {
        api.product(json!({"title": title, "price": 1})).await;
    }
    for (path, prev) in [
        ("/products?per_page=2&page=900", Some("page=2")),
        ("/products?per_page=2&page=2", Some("page=1")),
        ("/products?limit=2&skip=900", Some("skip=2")),
        ("/products?per_page=2&page=1", None),
    ] {
        let links = api.get(path).await.ok(200).json()["links"].clone();
        let found = links["prev"].as_str().and_then(|link| link.rsplit('&').next());
        assert_eq!(found, prev, "{path}: {links}");
    }
}

#[tokio::test]
async fn r17_a_body_that_is_not_utf8_is_refused() {
    let api = Api::new().await;
    let body = b"{\"title\": \"caf\xe9\", \"price\": 1}".to_vec();
    let request = Request::post(format!("{API}/products"))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let response = tower::ServiceExt::oneshot(api.router.clone(), request).await.unwrap();
    assert_eq!(response.status(), 400);
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
    let error: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(error["error"]["details"][0]["message"], "must be UTF-8, but contains other bytes", "{error}");
}

/// A small body cannot grow into a large one, because bodies are never decompressed.
#[tokio::test]
async fn r17_a_compressed_body_is_refused_and_stays_compressed() {
    let api = Api::new().await;
    let before = api.everything().await;
    let bomb = json!({"title": "a", "price": 1, "description": "x".repeat(5_000_000)});
    for json in [lamp(), bomb] {
        let mut zipped = GzEncoder::new(Vec::new(), Compression::best());
        zipped.write_all(json.to_string().as_bytes()).unwrap();
        let zipped = zipped.finish().unwrap();
        assert!(zipped.len() < 100_000, "the body is within the limit");
        for coding in ["gzip", "x-gzip", "GZIP", "gzip, gzip"] {
            let request = Request::post(format!("{API}/products"))
                .header("content-type", "application/json")
                .header("content-encoding", coding)
                .body(Body::from(zipped.clone()));
            let refused = api.send(request.unwrap()).await.refused(415, "UNSUPPORTED_MEDIA_TYPE", "");
            assert!(String::from_utf8_lossy(&refused.bytes).contains("must not be compressed"), "{refused:?}");
        }
    }
    assert_eq!(before, api.everything().await, "bad input must not change any row");
    // The name of no coding is one, and a list is refused even if its first header is.
    for codings in [&["identity"][..], &["Identity", "identity"], &["identity", "br"], &["gzip, identity"], &[""]] {
        let request = Request::post(format!("{API}/products")).header("content-type", "application/json");
        let request = codings.iter().fold(request, |request, coding| request.header("content-encoding", *coding));
        let answer = api.send(request.body(Body::from(lamp().to_string())).unwrap()).await;
        let is_plain = codings.iter().all(|coding| coding.eq_ignore_ascii_case("identity"));
        assert_eq!(answer.status.as_u16() == 415, !is_plain, "{codings:?}: {answer:?}");
    }
}

/// No text makes the server try more and more ways to read it, as regular expressions that backtrack do.
#[test]
fn r17_texts_that_almost_fit_are_read_quickly() {
    let texts = [
        format!("{}!", "a".repeat(200)),
        format!("{}@", "a.".repeat(100)),
        format!("a@{}!", "a.".repeat(100)),
        format!("a@{}", "a-".repeat(100)),
        format!("{}!", "-".repeat(200)),
        format!("a{}!", " ".repeat(200)),
        format!("{}!", "\"\\".repeat(100)),
        format!("{}!", "1,".repeat(100)),
        format!("{}x", "1".repeat(200)),
        format!("http://{}!", "a.".repeat(90)),
        format!("{}!", "(a+)+".repeat(40)),
        format!("{}!", "e\u{301}".repeat(100)),
    ];
    for text in texts {
        let (done, ended) = mpsc::channel();
        let sent = text.clone();
        // A thread of its own, because what never ends cannot be interrupted.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(reads(&sent));
            done.send(()).unwrap();
        });
        assert!(ended.recv_timeout(Duration::from_secs(30)).is_ok(), "this text must be read quickly: {text}");
    }
}

/// Sends a text as the value of each field, parameter and header that has a grammar. The outcome does not matter.
async fn reads(text: &str) {
    let api = Api::new().await;
    for (path, body) in [
        ("/customers", json!({"first_name": text, "last_name": "b", "email": text, "telephone": text})),
        ("/products", json!({"title": text, "slug": text, "sku": text, "price": text, "tags": [text]})),
        ("/products", json!({"title": "a", "price": 1, "images": [{"url": text}], "barcode": text})),
        ("/auth/login", json!({"email": text, "password": text})),
        ("/categories", json!({"name": text, "slug": text, "parent_id": text})),
    ] {
        assert!(api.write("POST", path, body).await.status.as_u16() < 500, "{path}");
    }
    let value: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
    for path in [
        "/products/search?q=",
        "/products/suggest?q=",
        "/products?sort=",
        "/products?cursor=",
        "/products?fields=",
        "/products?min_price=",
        "/products?updated_since=",
        "/customers?email=",
        "/customers?name=",
        "/products/",
    ] {
        assert!(api.get(&format!("{path}{value}")).await.status.as_u16() < 500, "{path}");
    }
    let header = text.replace('\u{301}', "e");
    for name in ["accept", "accept-encoding", "authorization", "if-match", "if-none-match", "idempotency-key", "cookie"]
    {
        let product = lamp().to_string();
        let answer = api.call("POST", &format!("{API}/products"), &[(name, &header)], Some(&product)).await;
        assert!(answer.status.as_u16() < 500, "{name}");
    }
}

/// A proxy in front could check another credential than the one that counts.
#[tokio::test]
async fn several_credentials_are_refused() {
    let api = Api::new().await;
    let cart = api.write("POST", "/carts", json!({})).await.ok(201).data();
    let path = format!("{API}/carts/{}", id(&cart));
    let token = cart["token"].as_str().unwrap();
    api.call("GET", &path, &[("x-cart-token", token)], None).await.ok(200);
    for second in [token, "other", ""] {
        let headers = [("x-cart-token", token), ("x-cart-token", second)];
        api.call("GET", &path, &headers, None).await.refused(400, "BAD_REQUEST", "X-Cart-Token");
        api.call("DELETE", &path, &headers, None).await.refused(400, "BAD_REQUEST", "X-Cart-Token");
    }
    let body = r#"{"name": "robot", "permissions": ["stock:adjust"]}"#;
    let key = api.call("POST", &format!("{API}/api-keys"), &[], Some(body)).await.ok(201).data();
    let bearer = format!("Bearer {}", key["secret"].as_str().unwrap());
    let path = format!("{API}/products");
    for second in [&bearer, "Bearer x", "Basic dXNlcjpwYXNz", ""] {
        for headers in [[&bearer, second], [second, &bearer]] {
            let headers = headers.map(|value| ("authorization", value));
            api.call("GET", &path, &headers, None).await.refused(400, "BAD_REQUEST", "Authorization");
        }
    }
    // The credentials of an application are its own.
    let own = Api::with(open().authentication(false)).await;
    own.call("GET", &path, &[("authorization", "a"), ("authorization", "b")], None).await.ok(200);
}
