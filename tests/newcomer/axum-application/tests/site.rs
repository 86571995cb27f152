//! The site answers as its author intended, and the shop's links lead back to the path that it is nested below.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{Method, Request, Response, StatusCode};
use axum_application::{merged, nested, shop, twice};
use serde_json::Value;
use tower::ServiceExt as _;

async fn send(site: &Router, method: Method, path: &str, token: &str, body: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        // One of the links leads to a stream of events, which has to be asked for.
        .header(ACCEPT, "application/json, text/event-stream")
        .body(Body::from(body.to_owned()))
        .expect("a request");
    site.clone().oneshot(request).await.expect("infallible")
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

async fn json(site: &Router, path: &str) -> Value {
    let response = send(site, Method::GET, path, "", "").await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    serde_json::from_str(&text(response).await).expect("JSON")
}

const PEN: &str = r#"{"title": "Pen", "price": "2", "stock": 3}"#;

#[tokio::test]
async fn the_site_decides_who_calls() {
    let site = nested(shop().await.expect("a shop"));
    let refused = send(&site, Method::POST, "/shop/api/v1/products", "", PEN).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(text(refused).await.contains("products:write"));
    let refused = send(&site, Method::POST, "/shop/api/v1/products", "clerk", PEN).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);

    let made = send(&site, Method::POST, "/shop/api/v1/products", "owner", PEN).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = serde_json::from_str(&text(made).await).expect("JSON");
    assert_eq!(made["data"]["created_by"], "user:owner");

    let stock = format!("/shop/api/v1/skus/{}/stock", made["data"]["skus"][0]["id"].as_str().expect("an id"));
    let adjusted = send(&site, Method::POST, &stock, "clerk", r#"{"delta": -1}"#).await;
    assert_eq!(adjusted.status(), StatusCode::CREATED);
    let deleted = send(&site, Method::GET, "/shop/api/v1/products?include_deleted=true", "clerk", "").await;
    assert_eq!(deleted.status(), StatusCode::FORBIDDEN);
    assert_eq!(json(&site, "/shop/api/v1/products").await["data"][0]["title"], "Pen");
}

#[tokio::test]
async fn every_link_resolves_where_the_shop_is_nested() {
    let site = nested(shop().await.expect("a shop"));
    let made = send(&site, Method::POST, "/shop/api/v1/products/", "owner", PEN).await;
    let location = made.headers()[LOCATION].to_str().expect("a path").to_owned();
    assert!(location.starts_with("/shop/api/v1/products/"), "{location}");
    assert_eq!(json(&site, &location).await["links"]["self"], location.as_str());

    let root = json(&site, "/shop").await;
    for (name, link) in root["links"].as_object().expect("links") {
        let link = link.as_str().expect("a link");
        assert!(link.starts_with("/shop"), "{name}: {link}");
        let answer = send(&site, Method::GET, link, "owner", "").await;
        let moved = answer.status().is_redirection();
        assert!(answer.status().is_success() || moved, "{name}: {link} is {}", answer.status());
        if moved {
            let to = answer.headers()[LOCATION].to_str().expect("a path");
            assert_eq!(send(&site, Method::GET, to, "", "").await.status(), StatusCode::OK, "{to}");
        }
    }
    let list = json(&site, "/shop/api/v1/products?per_page=1").await;
    assert!(list["links"]["self"].as_str().expect("a link").starts_with("/shop/api/v1/products"), "{list}");
}

#[tokio::test]
async fn the_openapi_document_names_the_server_that_it_came_from() {
    let shop = shop().await.expect("a shop");
    let both = twice(shop.clone());
    for (site, base) in [(nested(shop.clone()), "/shop"), (both.clone(), "/a"), (both, "/b")] {
        let document = json(&site, &format!("{base}/openapi.json")).await;
        assert_eq!(document["servers"][0]["url"], base);
        // The path that "Try it out" requests.
        assert!(document["paths"]["/api/v1/products"].is_object());
        assert_eq!(send(&site, Method::GET, &format!("{base}/api/v1/products"), "", "").await.status(), StatusCode::OK);
        let page = text(send(&site, Method::GET, &format!("{base}/docs/"), "", "").await).await;
        assert!(page.contains("swagger"), "{base}");
    }
}

#[tokio::test]
async fn the_site_keeps_its_own_routes() {
    let shop = shop().await.expect("a shop");
    for site in [nested(shop.clone()), merged(shop)] {
        assert_eq!(text(send(&site, Method::GET, "/health", "", "").await).await, "the site is well");
        assert_eq!(text(send(&site, Method::GET, "/nothing", "", "").await).await, "the site has no such page");
    }
}

#[tokio::test]
async fn a_merged_api_has_no_root_routes_and_answers_unknown_paths_in_its_envelope() {
    let site = merged(shop().await.expect("a shop"));
    assert!(json(&site, "/api/v1/products/").await["data"].is_array());
    assert_eq!(text(send(&site, Method::GET, "/openapi.json", "", "").await).await, "the site has no such page");
    let unknown = send(&site, Method::GET, "/api/v1/nothing", "", "").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(text(unknown).await.contains("NOT_FOUND"));
    let document = ecom::http::openapi_json(&axum_application::settings().root_routes(false), "");
    assert!(document.contains("/api/v1/products") && !document.contains("/health"));
}
