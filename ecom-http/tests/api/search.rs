//! The search for products.

use serde_json::json;

use crate::support::{Api, id};

#[tokio::test]
async fn search_finds_filters_and_counts() {
    let api = Api::new().await;
    api.category(json!({"name": "Home"})).await;
    api.product(json!({"title": "Brass Lamp", "price": 30, "brand": "Lumen", "category": "home", "stock": 50})).await;
    api.product(json!({"title": "Floor Lamp", "price": 90, "brand": "Halo", "stock": 50})).await;
    api.product(json!({"title": "Rug", "price": 90, "brand": "Halo"})).await;
    api.shop.index().catch_up().await.unwrap();
    let j = api.get("/products/search?q=lamps&facets=all").await.ok(200).json();
    assert_eq!(j["data"].as_array().unwrap().len(), 2);
    let m = &j["meta"]["search"];
    assert_eq!((m["query"].as_str(), m["total_hits"].as_u64()), (Some("lamps"), Some(2)));
    assert_eq!(m["facets"]["brands"].as_array().unwrap().len(), 2);
    assert_eq!(m["facets"]["categories"][0]["label"], "Home");
    let prices =
        json!({"value": "25.00", "label": "25.00–49.99", "filter": "min_price=25.00&max_price=49.99", "count": 1});
    assert_eq!(m["facets"]["prices"][0], prices);
    assert_eq!(m["facets"]["brands"][0]["filter"], "brand=Halo");
    assert_eq!(j["meta"]["pagination"]["total"], 2);
    let j = api.get("/products/search?q=lamp&brand=halo&brand=nobody&facets=brands&fields=title").await.ok(200).json();
    assert_eq!(j["data"], json!([{"title": "Floor Lamp"}]));
    assert_eq!(j["meta"]["search"]["facets"].as_object().unwrap().len(), 1);
    for none in ["", "&facets="] {
        let j = api.get(&format!("/products/search?category=home{none}")).await.ok(200).json();
        assert_eq!((j["data"].as_array().unwrap().len(), &j["meta"]["search"]["facets"]), (1, &json!({})));
    }
    api.get("/products/search?category=none").await.refused(422, "VALIDATION_FAILED", "category");
    let j = api.get("/products/search?sort=price_desc&per_page=1&page=2").await.ok(200).json();
    assert_eq!(j["meta"]["pagination"]["total_pages"], 3);
    assert_eq!(j["links"]["next"], "/api/v1/products/search?sort=price_desc&per_page=1&page=3");
}

/// The filter of every value of every facet finds as many products as the facet has counted.
#[tokio::test]
async fn a_facet_links_to_the_filter_that_it_stands_for() {
    let api = Api::new().await;
    api.category(json!({"name": "Home & Garden"})).await;
    let ada = api.customer("Ada", "Lovelace", "ada@example.com").await;
    for (title, price, rating) in [("Lamp", "24.99", 4.5), ("Rug", "25.00", 4.0), ("Vase", "50.00", 1.5)] {
        let product = api
            .product(json!({
                "title": title,
                "price": price,
                "brand": format!("Brand+{title}"),
                "tags": ["Läufer & Co", title],
                "category": "home-garden",
                "stock": 9,
            }))
            .await;
        let review = json!({"rating": rating, "customer_id": id(&ada)});
        api.write("POST", &format!("/products/{}/reviews", id(&product)), review).await.ok(201);
    }
    api.shop.index().catch_up().await.unwrap();
    let found = api.get("/products/search?facets=all").await.ok(200).json();
    let mut filters = 0;
    for (facet, values) in found["meta"]["search"]["facets"].as_object().unwrap() {
        for value in values.as_array().unwrap() {
            let filter = value["filter"].as_str().unwrap();
            let narrowed = api.get(&format!("/products/search?{filter}")).await.ok(200).json();
            assert_eq!(narrowed["meta"]["search"]["total_hits"], value["count"], "{facet}: {value}");
            filters += 1;
        }
    }
    assert!(filters > 12, "{found}");
}

/// Products that match most words follow those that match all of them, and are counted apart.
#[tokio::test]
async fn products_that_match_most_words_follow() {
    let api = Api::new().await;
    for title in ["Steel kettle", "Red kettle", "Lamp"] {
        api.product(json!({"title": title, "price": 30})).await;
    }
    api.shop.index().catch_up().await.unwrap();
    let counts = |j: &serde_json::Value| {
        let (search, pagination) = (&j["meta"]["search"], &j["meta"]["pagination"]);
        [&search["total_hits"], &search["partial_hits"], &pagination["total"]].map(|n| n.as_u64().unwrap())
    };
    let j = api.get("/products/search?q=red+kettle&fields=title").await.ok(200).json();
    assert_eq!(j["data"], json!([{"title": "Red kettle"}, {"title": "Steel kettle"}]));
    assert_eq!(counts(&j), [1, 1, 2]);
    let j = api.get("/products/search?q=cheap+kettle&per_page=1").await.ok(200).json();
    assert_eq!(counts(&j), [0, 2, 2]);
    assert_eq!(j["links"]["next"], "/api/v1/products/search?q=cheap+kettle&per_page=1&page=2");
    let j = api.get("/products/search?q=kettle&per_page=1").await.ok(200).json();
    assert_eq!(counts(&j), [2, 0, 2]);
}
