//! Searches while the search engine is down: 503 with `Retry-After`, or the answer of the fallback.

use std::sync::Arc;

use ecom_core::port::SearchProvider;
use ecom_search::{TantivyOptions, TantivySearch};
use serde_json::json;

use crate::support::{Api, column, lamp};

async fn engine() -> Arc<dyn SearchProvider> {
    Arc::new(TantivySearch::open(TantivyOptions::memory()).await.unwrap())
}

#[tokio::test]
async fn r16_a_search_whose_engine_is_down_is_503_with_retry_after_and_the_shop_is_degraded() {
    let main = engine().await;
    let api = Api::searching(main.clone(), None).await;
    api.product(lamp()).await;
    api.shop.index().catch_up().await.unwrap();
    main.close().await;
    for _ in 0..6 {
        for path in ["/products/search?q=lamp", "/products/suggest?q=la"] {
            let refused = api.get(path).await.refused(503, "UNAVAILABLE", "");
            assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|s| (1..=10).contains(&s)), "{refused:?}");
        }
    }
    let health = api.call("GET", "/health", &[], None).await.ok(200).json();
    assert_eq!((&health["status"], &health["dependencies"]["search"]["status"]), (&json!("degraded"), &json!("down")));
    assert_eq!(health["dependencies"]["search_fallback"], json!(null));
    api.call("GET", "/health/ready", &[], None).await.ok(200);
    let rug = api.product(json!({"title": "Rug", "price": 5, "stock": 3})).await;
    assert_eq!(column(&api.get("/products?sort=title_asc").await.ok(200), "title"), ["Desk Lamp", "Rug"]);
    let line = json!({"sku_id": rug["skus"][0]["id"], "quantity": 1, "unit_price": 5});
    let ada = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
    let order = json!({"customer": ada, "delivery_method": "on_hand", "lines": [line]});
    api.write("POST", "/orders", order).await.ok(201);
}

#[tokio::test]
async fn r14_the_fallback_answers_and_the_shop_is_degraded() {
    let (main, fallback) = (engine().await, engine().await);
    let api = Api::searching(main.clone(), Some(fallback)).await;
    api.product(lamp()).await;
    api.shop.index().catch_up().await.unwrap();
    let health = api.call("GET", "/health", &[], None).await.ok(200).json();
    assert_eq!((&health["status"], &health["searches_by_fallback"]), (&json!("healthy"), &json!(0)));
    assert_eq!(health["dependencies"]["search_fallback"]["status"], "up");
    main.close().await;
    let recorded = api.write("POST", "/products", json!({"title": "Lamp shade", "price": 3, "stock": 1})).await.ok(201);
    assert!(api.shop.index().catch_up().await.is_err(), "the main index cannot follow");
    let event = recorded.header("x-last-event-id");
    let found = api.get(&format!("/products/search?q=lamp&facets=all&at_least={event}")).await.ok(200);
    let mut titles = column(&found, "title");
    titles.sort();
    assert_eq!(titles, ["Desk Lamp", "Lamp shade"]);
    let health = api.call("GET", "/health", &[], None).await.ok(200).json();
    assert_eq!((&health["status"], &health["searches_by_fallback"]), (&json!("degraded"), &json!(1)));
    assert_eq!(health["dependencies"]["search"]["status"], "down");
}
