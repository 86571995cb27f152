//! Reviews: documents, versions, the rating of the product, lists, and bad input.

use std::time::Duration;

use ecom_core::access::{Permission, Principal};
use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, golden, id, lamp};

const NOBODY: &str = "019ab000-0000-7000-8000-000000000000";

impl Api {
    async fn reviewed(&self, product: &Value, body: Value) -> Value {
        self.clock.advance(Duration::from_secs(1));
        self.write("POST", &format!("/products/{}/reviews", id(product)), body).await.ok(201).data()
    }

    async fn ada(&self) -> Value {
        let body = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
        self.write("POST", "/customers", body).await.ok(201).data()
    }

    /// The mean and the number of reviews that the product shows.
    async fn rating(&self, product: &Value) -> (String, i64) {
        let p = self.get(&format!("/products/{}", id(product))).await.ok(200).data();
        (p["rating"].as_str().unwrap().to_owned(), p["review_count"].as_i64().unwrap())
    }

    /// All products and reviews, deleted ones too.
    async fn all(&self) -> (String, Value) {
        let reviews = self.get("/reviews?include_deleted=true&per_page=100").await.ok(200).json();
        (self.everything().await, reviews)
    }
}

fn ratings(list: &Answer) -> Vec<String> {
    list.data().as_array().unwrap().iter().map(|r| r["rating"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_review_reads_as_its_golden_document() {
    let api = Api::new().await;
    let (p, ada) = (api.product(lamp()).await, api.ada().await);
    let body = json!({"rating": 4.5, "comment": " Bright,\nand easy to set up. ", "customer_id": id(&ada)});
    let made = api.write("POST", &format!("/products/{}/reviews", id(&p)), body).await.ok(201);
    let r = made.data();
    assert_eq!(made.header("location"), format!("{API}/reviews/{}", id(&r)));
    assert_eq!(made.header("etag"), format!("\"1.1-{}\"", id(&r).replace('-', "")));
    assert_eq!(made.header("cache-control"), "private, no-store");
    let read = api.get(&format!("/reviews/{}", id(&r))).await.ok(200);
    assert_eq!(read.header("cache-control"), "public, no-cache");
    golden("review", &read.json());
    assert_eq!(read.data(), r);
    // Numbers, and fields.
    let text = String::from_utf8(api.get(&format!("/reviews/{}?numbers=true", id(&r))).await.ok(200).bytes).unwrap();
    assert!(text.contains("\"rating\":4.5"), "{text}");
    let picked = api.get(&format!("/reviews/{}?fields=rating", id(&r))).await.ok(200);
    assert_eq!(picked.data(), json!({"rating": "4.5"}));
    assert_ne!(picked.header("etag"), read.header("etag"));
    // A client that has the document.
    let url = format!("{API}/reviews/{}", id(&r));
    let tag = read.header("etag");
    api.call("GET", &url, &[("if-none-match", tag)], None).await.ok(304);
    // The product shows the review, and the root links all reviews.
    assert_eq!(api.rating(&p).await, ("4.50".to_owned(), 1));
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["reviews"], format!("{API}/reviews"));
}

#[tokio::test]
async fn r01_writes_name_the_version_that_they_read_and_the_rating_follows() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let r = api.reviewed(&p, json!({"rating": 4, "comment": "Bright."})).await;
    api.reviewed(&p, json!({"rating": "1.5"})).await;
    assert_eq!(api.rating(&p).await, ("2.75".to_owned(), 2));
    let path = format!("/reviews/{}", id(&r));
    let url = format!("{API}{path}");
    let first = api.get(&path).await.ok(200).header("etag").to_owned();
    let patch = async |tag: &str| api.call("PATCH", &url, &[("if-match", tag)], Some("{\"rating\": 3}")).await;
    let changed = patch(&first).await.ok(200);
    assert_eq!((&changed.data()["version"], &changed.data()["comment"]), (&json!(2), &json!("Bright.")));
    assert_eq!(api.rating(&p).await, ("2.25".to_owned(), 2));
    patch(&first).await.refused(412, "VERSION_CONFLICT", "version");
    patch(&format!("\"2.2-{}\"", NOBODY.replace('-', ""))).await.refused(412, "VERSION_CONFLICT", "If-Match");
    for (method, body) in [("PATCH", json!({"rating": 0})), ("PUT", json!({"rating": 0}))] {
        api.write(method, &path, body.clone()).await.refused(428, "VERSION_REQUIRED", "version");
        let mut old = body;
        old["version"] = json!(1);
        api.write(method, &path, old).await.refused(409, "VERSION_CONFLICT", "version");
    }
    api.call("DELETE", &url, &[], None).await.refused(428, "VERSION_REQUIRED", "version");
    api.call("DELETE", &format!("{url}?version=1"), &[], None).await.refused(409, "VERSION_CONFLICT", "version");
    // A PUT removes the comment that it leaves out.
    let put = api.write("PUT", &path, json!({"rating": "5", "version": 2})).await.ok(200).data();
    assert_eq!((&put["rating"], &put["comment"], &put["product_id"]), (&json!("5.0"), &json!(null), &p["id"]));
    assert_eq!(api.rating(&p).await, ("3.25".to_owned(), 2));
    // There is no soft deletion.
    api.call("DELETE", &format!("{url}?version=3&force=true"), &[], None).await.refused(400, "BAD_REQUEST", "force");
    api.call("DELETE", &format!("{url}?version=3"), &[], None).await.ok(204);
    api.get(&format!("{path}?include_deleted=true")).await.refused(404, "NOT_FOUND", "");
    assert_eq!(api.rating(&p).await, ("1.50".to_owned(), 1));
}

#[tokio::test]
async fn a_customer_reviews_a_product_once() {
    let api = Api::new().await;
    let (p, ada) = (api.product(lamp()).await, api.ada().await);
    let body = json!({"rating": 4, "customer_id": id(&ada)});
    let r = api.reviewed(&p, body.clone()).await;
    let path = format!("/products/{}/reviews", id(&p));
    let twice = api.write("POST", &path, body).await.refused(409, "DUPLICATE", "customer_id");
    assert_eq!(twice.json()["error"]["details"][0]["value"], ada["id"]);
    assert_eq!(api.rating(&p).await, ("4.00".to_owned(), 1));
    // A replacement names the same customer or none.
    let own = format!("/reviews/{}", id(&r));
    let put = json!({"rating": 3, "customer_id": id(&ada), "version": 1});
    api.write("PUT", &own, put).await.ok(200);
    let put = api.write("PUT", &own, json!({"rating": 2, "version": 2})).await.ok(200).data();
    assert_eq!(put["customer_id"], ada["id"]);
    let other = json!({"rating": 3, "customer_id": NOBODY, "version": 3});
    api.write("PUT", &own, other).await.refused(422, "VALIDATION_FAILED", "customer_id");
    // The customer is deleted for good, and the review stays.
    api.call("DELETE", &format!("{API}/customers/{}?version=1&force=true", id(&ada)), &[], None).await.ok(204);
    let left = api.get(&own).await.ok(200);
    assert_eq!((&left.data()["customer_id"], &left.data()["version"]), (&json!(null), &json!(4)));
    assert!(left.header("etag").starts_with("\"4.4-"), "{left:?}");
}

#[tokio::test]
async fn r02_reviews_hide_and_return_with_their_product() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let r = api.reviewed(&p, json!({"rating": 4})).await;
    let (product, review) = (format!("/products/{}", id(&p)), format!("/reviews/{}", id(&r)));
    let own = format!("{product}/reviews");
    let operators = format!("{review}?include_deleted=true");
    let live = api.get(&operators).await.ok(200).header("etag").to_owned();
    api.call("DELETE", &format!("{API}{product}?version=1"), &[], None).await.ok(204);
    for path in [&review, &own] {
        api.get(path).await.refused(404, "NOT_FOUND", "");
    }
    assert_eq!(api.get("/reviews").await.ok(200).data(), json!([]));
    let hidden = api.get(&operators).await.ok(200);
    assert_ne!(hidden.header("etag"), live);
    assert_eq!(hidden.header("cache-control"), "private, no-store");
    assert!(hidden.data()["deleted_at"].is_string(), "{hidden:?}");
    let listed = api.get(&format!("{own}?include_deleted=true")).await.ok(200);
    assert_eq!(
        (listed.data()[0]["id"].clone(), listed.header("cache-control")),
        (r["id"].clone(), "private, no-store")
    );
    api.write("POST", &own, json!({"rating": 1})).await.refused(422, "VALIDATION_FAILED", "product_id");
    api.write("PATCH", &review, json!({"rating": 1, "version": 1})).await.refused(404, "NOT_FOUND", "");
    api.get(&format!("/reviews?product_id={}", id(&p))).await.refused(422, "VALIDATION_FAILED", "product_id");
    api.write("POST", &format!("{product}/restore?version=2"), json!({})).await.ok(200);
    assert_eq!(api.get(&review).await.ok(200).data(), r);
    assert_eq!(api.rating(&p).await, ("4.00".to_owned(), 1));
    api.call("DELETE", &format!("{API}{product}?version=3&force=true"), &[], None).await.ok(204);
    api.get(&operators).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn reviews_are_listed_by_product_customer_rating_page_and_cursor() {
    let api = Api::new().await;
    let (p, ada) = (api.product(lamp()).await, api.ada().await);
    let q = api.product(json!({"title": "Desk", "price": 1})).await;
    for rating in ["3", "4.5", "0.5", "4.5"] {
        api.reviewed(&p, json!({"rating": rating})).await;
    }
    api.reviewed(&q, json!({"rating": 2, "customer_id": id(&ada)})).await;
    let of_p = format!("product_id={}", id(&p));
    let of_p_best = format!("{of_p}&sort=rating_desc&min_rating=3");
    let of_ada = format!("customer_id={}", id(&ada));
    let of_ada_and_p = format!("{of_ada}&{of_p}");
    let of_nobody = format!("customer_id={NOBODY}");
    for (query, expected) in [
        ("", &["2.0", "4.5", "0.5", "4.5", "3.0"][..]),
        ("sort=created_asc", &["3.0", "4.5", "0.5", "4.5", "2.0"]),
        ("sort=rating_desc", &["4.5", "4.5", "3.0", "2.0", "0.5"]),
        ("sort=rating_asc", &["0.5", "2.0", "3.0", "4.5", "4.5"]),
        ("min_rating=3&sort=created_asc", &["3.0", "4.5", "4.5"]),
        ("max_rating=2.0", &["2.0", "0.5"]),
        ("min_rating=0.6&max_rating=3&sort=rating_asc", &["2.0", "3.0"]),
        (&of_p, &["4.5", "0.5", "4.5", "3.0"]),
        (&of_p_best, &["4.5", "4.5", "3.0"]),
        (&of_ada, &["2.0"]),
        (&of_ada_and_p, &[]),
        (&of_nobody, &[]),
        ("per_page=2&page=2", &["0.5", "4.5"]),
        ("skip=4", &["3.0"]),
    ] {
        let list = api.get(&format!("/reviews?{query}")).await.ok(200);
        assert_eq!(ratings(&list), expected, "{query}");
        assert_eq!(list.header("cache-control"), "public, no-cache", "{query}");
    }
    let own = format!("/products/{}/reviews", id(&p));
    let list = api.get(&format!("{own}?sort=rating_asc&per_page=3")).await.ok(200);
    assert_eq!(ratings(&list), ["0.5", "3.0", "4.5"]);
    assert_eq!(list.json()["meta"]["pagination"]["total"], 4);
    // The slug names the product too.
    assert_eq!(ratings(&api.get("/products/desk-lamp/reviews?max_rating=1").await.ok(200)), ["0.5"]);
    // Every sort walks by cursor through all rows, once each.
    for sort in ["created_desc", "created_asc", "rating_desc", "rating_asc"] {
        for path in ["/reviews".to_owned(), own.clone()] {
            let whole = api.get(&format!("{path}?sort={sort}")).await.ok(200).data();
            let (mut walked, mut next) = (Vec::new(), Some(format!("{API}{path}?sort={sort}&per_page=1&cursor=")));
            while let Some(url) = next {
                let list = api.call("GET", &url, &[], None).await.ok(200);
                walked.extend(list.data().as_array().unwrap().clone());
                next = list.json()["links"]["next"].as_str().map(str::to_owned);
            }
            assert_eq!(json!(walked), whole, "{sort} {path}");
        }
    }
    // A cursor of another sort is refused.
    let list = api.get("/reviews?sort=rating_asc&per_page=1&cursor=").await.ok(200).json();
    let cursor = list["meta"]["pagination"]["next_cursor"].as_str().unwrap();
    api.get(&format!("/reviews?cursor={cursor}")).await.refused(400, "BAD_REQUEST", "cursor");
}

#[tokio::test]
async fn r17_bad_input_names_its_fields_and_leaves_nothing_behind() {
    let api = Api::new().await;
    let p = api.product(lamp()).await;
    let r = api.reviewed(&p, json!({"rating": 4})).await;
    let before = api.all().await;
    let (own, review) = (format!("/products/{}/reviews", id(&p)), format!("/reviews/{}", id(&r)));
    let refused = async |method: &str, path: &str, body: Value, status: u16, field: &str| {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        api.write(method, path, body).await.refused(status, code, field);
    };
    for (field, value, status) in [
        ("rating", json!(5.1), 422),
        ("rating", json!("-1"), 422),
        ("rating", json!("4.25"), 422),
        ("rating", json!("four"), 400),
        ("rating", json!(true), 400),
        ("comment", json!("x".repeat(5_001)), 422),
        ("comment", json!("a\u{0}"), 422),
        ("comment", json!(7), 400),
        ("product_id", json!(NOBODY), 400),
        ("stars", json!(5), 400),
    ] {
        let mut body = json!({"rating": 3});
        body[field] = value.clone();
        refused("POST", &own, body.clone(), status, field).await;
        body["version"] = json!(1);
        refused("PUT", &review, body, status, field).await;
        refused("PATCH", &review, json!({field: value, "version": 1}), status, field).await;
    }
    refused("POST", &own, json!({"comment": "Bright."}), 422, "rating").await;
    refused("POST", &own, json!({"rating": 3, "customer_id": NOBODY}), 422, "customer_id").await;
    refused("POST", &own, json!({"rating": 3, "customer_id": "ada"}), 400, "customer_id").await;
    refused("PATCH", &review, json!({"customer_id": null, "version": 1}), 400, "customer_id").await;
    refused("PATCH", &review, json!({"rating": null, "version": 1}), 422, "rating").await;
    refused("POST", &format!("/products/{NOBODY}/reviews"), json!({"rating": 3}), 422, "product_id").await;
    refused("POST", "/products/desk-lamp/reviews", json!({"rating": 3}), 400, "id").await;
    for (method, path) in [
        ("GET", format!("/reviews/{NOBODY}")),
        ("GET", format!("/products/{NOBODY}/reviews")),
        ("GET", "/products/no-such-lamp/reviews".to_owned()),
        ("DELETE", format!("/reviews/{NOBODY}?version=1")),
    ] {
        api.call(method, &format!("{API}{path}"), &[], None).await.refused(404, "NOT_FOUND", "");
    }
    api.get("/reviews/best").await.refused(400, "BAD_REQUEST", "id");
    for (path, status, field) in [
        ("/reviews?sort=stars", 400, "sort"),
        ("/reviews?min_rating=6", 422, "min_rating"),
        ("/reviews?max_rating=1.55", 422, "max_rating"),
        ("/reviews?min_rating=4&max_rating=3", 422, "min_rating"),
        ("/reviews?product_id=lamp", 400, "product_id"),
        ("/reviews?customer=ada", 400, "customer"),
        ("/reviews?per_page=101", 422, "per_page"),
        ("/reviews?cursor=!!!", 400, "cursor"),
        ("/reviews?fields=stars", 400, "fields"),
        ("/products/desk-lamp/reviews?customer_id=x", 400, "customer_id"),
    ] {
        let code = if status == 400 { "BAD_REQUEST" } else { "VALIDATION_FAILED" };
        api.get(path).await.refused(status, code, field);
    }
    let malformed = api.get("/reviews?min_rating=many").await;
    assert!(malformed.status.is_client_error(), "{malformed:?}");
    assert_eq!(before, api.all().await, "bad input left something behind");
}

#[tokio::test]
async fn a_caller_without_permission_reads_reviews_and_writes_none() {
    let owner = Api::new().await;
    let p = owner.product(lamp()).await;
    let r = owner.reviewed(&p, json!({"rating": 4})).await;
    let config = HttpConfig::default().anonymous(Principal::new("guest", []));
    let guest = Api {
        router: ecom_http::router(owner.shop.clone(), config),
        shop: owner.shop.clone(),
        clock: owner.clock.clone(),
    };
    let (own, review) = (format!("/products/{}/reviews", id(&p)), format!("/reviews/{}", id(&r)));
    for path in [&own, &review, &"/reviews".to_owned()] {
        guest.get(path).await.ok(200);
        guest.get(&format!("{path}?include_deleted=true")).await.refused(403, "FORBIDDEN", "");
    }
    guest.write("POST", &own, json!({"rating": 1})).await.refused(403, "FORBIDDEN", "");
    guest.write("PUT", &review, json!({"rating": 1, "version": 1})).await.refused(403, "FORBIDDEN", "");
    guest.write("PATCH", &review, json!({"rating": 1, "version": 1})).await.refused(403, "FORBIDDEN", "");
    let refused = guest.call("DELETE", &format!("{API}{review}?version=1"), &[], None).await;
    let message = refused.refused(403, "FORBIDDEN", "").json()["error"]["message"].to_string();
    assert!(message.contains(Permission::ReviewsWrite.as_str()), "{message}");
    assert_eq!(owner.rating(&p).await, ("4.00".to_owned(), 1));
}
