//! Categories and their tree.

use serde_json::{Value, json};

use crate::support::{API, Api, id};

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

    // A rename changes the paths of the whole subtree.
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
async fn r15_lists_of_categories_say_whether_the_cache_had_them_and_are_never_older_than_a_write() {
    let api = Api::new().await;
    api.category(json!({"name": "Electronics"})).await;
    api.category(json!({"name": "Audio", "parent_id": "electronics"})).await;
    let lists = ["/categories", "/categories?parent_id=&fields=name,product_count", "/categories/electronics/children"];
    let is_cached = async || {
        for path in lists {
            let miss = api.get(path).await.ok(200);
            let hit = api.get(path).await.ok(200);
            assert_eq!((miss.header("x-cache"), hit.header("x-cache")), ("MISS", "HIT"), "{path}");
            assert!(hit.header("cache-control").starts_with("public"), "{path}");
            assert_eq!(hit.data(), miss.data(), "{path}");
        }
    };
    is_cached().await;
    let p = api.write("POST", "/products", json!({"title": "Radio", "price": "9", "category": "audio"})).await.ok(201);
    assert_eq!(api.get("/categories/electronics/children").await.ok(200).data()[0]["product_count"], 1);
    api.call("DELETE", &format!("{API}/products/{}?version=1", id(&p.data())), &[], None).await.ok(204);
    is_cached().await;
    assert_eq!(api.get("/categories/electronics/children").await.ok(200).data()[0]["product_count"], 0);
    let operators = api.call("GET", &format!("{API}/categories?include_deleted=true"), &[], None).await.ok(200);
    assert!(operators.header("cache-control").starts_with("private"));
}
