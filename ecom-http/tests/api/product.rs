//! Products: their document, cache, versions, soft deletion, lists and refused edits.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, golden, id, lamp, open};

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
    assert_eq!(read.header("etag"), format!("\"1.1-{}\"", id(&made).replace('-', "")));
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(made, read.data());
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
    // Every field of a document can be picked.
    for (path, data) in [(path.as_str(), p.clone()), ("/products?", api.get("/products").await.data()[0].clone())] {
        let names: Vec<&String> = data.as_object().unwrap().keys().collect();
        let join = names.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(",");
        let sep = if path.contains('?') { "" } else { "?" };
        api.get(&format!("{path}{sep}fields={join}")).await.ok(200);
    }
    let numbers = Api::with(open().numbers(true)).await;
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

    // The page is cached by now, but not the values by which it can be narrowed.
    let narrowing = "/products?include=filters";
    assert_eq!(api.get(narrowing).await.ok(200).header("x-cache"), "MISS");
    let hit = api.get(narrowing).await.ok(200);
    assert_eq!(hit.header("x-cache"), "HIT");
    let highest = |a: &Answer| a.json()["meta"]["filters"]["price_range"]["max"].clone();
    assert_eq!(highest(&hit), json!("19.99"));
    api.write("POST", "/products", json!({"title": "Floor Lamp", "price": "250.00"})).await.ok(201);
    let after = api.get(narrowing).await.ok(200);
    assert_eq!((after.header("x-cache"), highest(&after)), ("MISS", json!("250.00")));
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
    assert_eq!(a.header("etag"), format!("\"2.2-{}\"", id(&p).replace('-', "")));
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
    // The revision in the tag is not compared, so that a sale does not make the write of an editor fail.
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
    // Another product can use the slug and the code in the meantime.
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

    // The links of pages by cursor lead through the whole list.
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
    // A cursor of another sort is refused.
    let first = api.get("/products?sort=price_asc&per_page=3&cursor=").await.json();
    let cursor = first["meta"]["pagination"]["next_cursor"].as_str().unwrap().to_owned();
    api.get(&format!("/products?sort=title_asc&cursor={cursor}")).await.refused(400, "BAD_REQUEST", "cursor");
    // The last page of an empty list is its first page.
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
async fn a_list_sorted_by_price_shows_the_price_that_it_is_sorted_by() {
    let api = Api::new().await;
    for (title, prices) in [("A", [30, 5]), ("B", [10, 20]), ("C", [7, 40])] {
        let skus: Vec<_> = prices.iter().map(|price| json!({"price": price})).collect();
        api.product(json!({"title": title, "skus": skus, "discount_percentage": 10})).await;
    }
    api.shop.index().catch_up().await.unwrap();
    for path in ["/products?sort=price_asc", "/products/search?sort=price_asc"] {
        let data = api.get(path).await.ok(200).data();
        let lowest: Vec<&str> = data.as_array().unwrap().iter().map(|p| p["lowest_price"].as_str().unwrap()).collect();
        assert_eq!(lowest, ["4.50", "6.30", "9.00"], "{path}");
        assert_eq!(data[0]["final_price"], "27.00", "the flat price is that of the default SKU");
    }
    let picked = api.get("/products?fields=lowest_price&numbers=true&sort=price_desc").await.ok(200).data();
    assert_eq!(picked[0], json!({"lowest_price": 9.0}));
}
