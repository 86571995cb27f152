//! The search for products.

use serde_json::json;

use crate::support::Api;

#[tokio::test]
async fn search_finds_filters_and_counts() {
    let api = Api::new().await;
    api.category(json!({"name": "Home"})).await;
    api.product(json!({"title": "Brass Lamp", "price": 30, "brand": "Lumen", "category": "home", "stock": 50})).await;
    api.product(json!({"title": "Floor Lamp", "price": 90, "brand": "Halo", "stock": 50})).await;
    api.product(json!({"title": "Rug", "price": 90, "brand": "Halo"})).await;
    api.shop.index().catch_up().await.unwrap();
    let j = api.get("/products/search?q=lamps").await.ok(200).json();
    assert_eq!(j["data"].as_array().unwrap().len(), 2);
    let m = &j["meta"]["search"];
    assert_eq!((m["query"].as_str(), m["total_hits"].as_u64()), (Some("lamps"), Some(2)));
    assert_eq!(m["facets"]["brands"].as_array().unwrap().len(), 2);
    assert_eq!(m["facets"]["categories"][0]["label"], "Home");
    assert_eq!(m["facets"]["prices"][0]["value"], "25.00");
    assert_eq!(j["meta"]["pagination"]["total"], 2);
    let j = api.get("/products/search?q=lamp&brand=halo&brand=nobody&facets=brands&fields=title").await.ok(200).json();
    assert_eq!(j["data"], json!([{"title": "Floor Lamp"}]));
    assert_eq!(j["meta"]["search"]["facets"].as_object().unwrap().len(), 1);
    let j = api.get("/products/search?category=home&facets=").await.ok(200).json();
    assert_eq!((j["data"].as_array().unwrap().len(), &j["meta"]["search"]["facets"]), (1, &json!({})));
    api.get("/products/search?category=none").await.refused(422, "VALIDATION_FAILED", "category");
    let j = api.get("/products/search?sort=price_desc&per_page=1&page=2").await.ok(200).json();
    assert_eq!(j["meta"]["pagination"]["total_pages"], 3);
    assert_eq!(j["links"]["next"], "/api/v1/products/search?sort=price_desc&per_page=1&page=3");
}
