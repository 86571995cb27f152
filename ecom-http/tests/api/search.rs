//! The search for products.

use serde_json::json;

use crate::support::{API, Api, id};

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

/// The words that were found are in `<em>`, and everything else is escaped.
#[tokio::test]
async fn highlights_show_what_was_found() {
    let api = Api::new().await;
    let lamp = api
        .product(json!({
            "title": "Lamp <i>& Co",
            "price": 30,
            "description": format!("{} A lamp for the desk.", "Some words. ".repeat(50)),
        }))
        .await;
    let other = api.product(json!({"title": "Light", "tags": ["lamp"], "price": 30})).await;
    api.shop.index().catch_up().await.unwrap();
    let j = api.get("/products/search?q=desk+lamp").await.ok(200).json();
    assert_eq!(j["meta"]["search"].get("highlights"), None);
    let j = api.get("/products/search?q=lamps&highlight=true").await.ok(200).json();
    let highlights = &j["meta"]["search"]["highlights"];
    assert_eq!(highlights[id(&lamp)]["title"], "<em>Lamp</em> &lt;i&gt;&amp; Co");
    let excerpt = highlights[id(&lamp)]["description"].as_str().unwrap();
    assert!(excerpt.ends_with("A <em>lamp</em> for the desk") && excerpt.len() < 230, "{excerpt}");
    assert_eq!(highlights[id(&other)], json!({"title": null, "description": null}));
    api.get("/products/search?highlight=maybe").await.refused(400, "BAD_REQUEST", "highlight");
}

#[tokio::test]
async fn suggestions_complete_what_is_typed() {
    let api = Api::new().await;
    api.category(json!({"name": "Headphones"})).await;
    api.category(json!({"name": "Garden"})).await;
    for (title, brand) in [("Wireless Headphones", "Tone"), ("Headset", "Headway"), ("Sun hat", "Garden Co")] {
        api.product(json!({"title": title, "brand": brand, "price": "9.50", "category": "headphones"})).await;
    }
    api.product(json!({"title": "Headlamp", "price": 1, "status": "draft"})).await;
    api.shop.index().catch_up().await.unwrap();
    let j = api.get("/products/suggest?q=head").await.ok(200).json();
    assert_eq!(j["data"]["queries"], json!(["headphones", "headset", "headway"]));
    assert_eq!(j["data"]["brands"], json!(["Headway"]));
    assert_eq!(j["data"]["categories"].as_array().unwrap().len(), 1);
    assert_eq!(j["data"]["categories"][0]["path"], "headphones");
    let titles: Vec<&str> =
        j["data"]["products"].as_array().unwrap().iter().map(|p| p["title"].as_str().unwrap()).collect();
    assert!(titles.len() == 3 && titles.contains(&"Headset") && !titles.contains(&"Headlamp"), "{titles:?}");
    assert_eq!(j["data"]["products"][0]["lowest_price"], "9.50");
    let j = api.get("/products/suggest?q=Wireless+hea&limit=1&numbers=true").await.ok(200).json();
    assert_eq!(j["data"]["queries"], json!(["Wireless headphones"]));
    assert_eq!(j["data"]["products"].as_array().unwrap().len(), 1);
    assert_eq!(j["data"]["products"][0]["lowest_price"], json!(9.5));
    for (typed, completed) in
        [("sun,ha", "sun,hat"), ("Wireless/headp", "Wireless/headphones"), ("sun hat ", ""), ("sun &", "")]
    {
        let j = api
            .get(&format!("/products/suggest?q={}", typed.replace('&', "%26").replace(' ', "+")))
            .await
            .ok(200)
            .json();
        let expected = if completed.is_empty() { json!([]) } else { json!([completed]) };
        assert_eq!(j["data"]["queries"], expected, "{typed}");
    }
    for nothing in ["/products/suggest", "/products/suggest?q=", "/products/suggest?q=--"] {
        let j = api.get(nothing).await.ok(200).json();
        assert_eq!(j["data"], json!({"queries": [], "categories": [], "brands": [], "products": []}), "{nothing}");
    }
    api.get("/products/suggest?limit=0").await.refused(422, "VALIDATION_FAILED", "limit");
    api.get(&format!("/products/suggest?q={}", "a+".repeat(33))).await.refused(422, "VALIDATION_FAILED", "q");
}

#[tokio::test]
async fn related_products_are_alike() {
    let api = Api::new().await;
    api.category(json!({"name": "Lamps"})).await;
    let desk =
        api.product(json!({"title": "Brass desk lamp", "price": 1, "category": "lamps", "tags": ["brass"]})).await;
    for (title, category) in
        [("Floor lamp", "lamps"), ("Brass floor lamp", "lamps"), ("Brass bell", ""), ("Lantern", "lamps"), ("Rug", "")]
    {
        let categories = if category.is_empty() { json!([]) } else { json!([category]) };
        api.product(json!({"title": title, "price": 1, "categories": categories})).await;
    }
    api.shop.index().catch_up().await.unwrap();
    let of = format!("/products/{}/related", id(&desk));
    let titles = async |path: &str| crate::support::column(&api.get(path).await.ok(200), "title");
    assert_eq!(titles(&of).await, ["Brass floor lamp", "Floor lamp", "Lantern", "Brass bell"]);
    assert_eq!(titles(&format!("{of}?limit=1&fields=title")).await, ["Brass floor lamp"]);
    assert_eq!(titles("/products/brass-desk-lamp/related?limit=2").await.len(), 2);
    api.get(&format!("{of}?limit=51")).await.refused(422, "VALIDATION_FAILED", "limit");
    api.get("/products/nothing/related").await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn synonyms_and_rules_are_edited_and_used() {
    let api = Api::new().await;
    let chair = api.product(json!({"title": "Chair", "price": 1})).await;
    api.product(json!({"title": "Sofa", "price": 1})).await;
    api.shop.index().catch_up().await.unwrap();
    let first = api.get("/search/synonyms").await.ok(200);
    assert_eq!((&first.data()["synonyms"], &first.data()["version"]), (&json!([]), &json!(1)));
    assert_eq!(first.json()["links"]["self"], "/api/v1/search/synonyms");
    let tag = first.header("etag").to_owned();
    let put = async |path: &str, headers: &[(&str, &str)], body: serde_json::Value| {
        api.call(
            "PUT",
            &format!("{API}{path}"),
            &[&[("content-type", "application/json")], headers].concat(),
            Some(&body.to_string()),
        )
        .await
    };
    let synonyms = json!([{"synonyms": ["sofa", "couch"]}, {"input": "seat", "synonyms": ["sofa"]}]);
    let written = put("/search/synonyms", &[("if-match", &tag)], json!({"synonyms": synonyms})).await.ok(200);
    assert_eq!((&written.data()["synonyms"], &written.data()["version"]), (&synonyms, &json!(2)));
    let found =
        async |q: &str| crate::support::column(&api.get(&format!("/products/search?q={q}")).await.ok(200), "title");
    assert_eq!(found("couch").await, ["Sofa"]);
    assert_eq!(found("seats").await, ["Sofa"]);
    put("/search/synonyms", &[("if-match", &tag)], json!({"synonyms": []})).await.refused(412, "VERSION_CONFLICT", "");
    put("/search/synonyms", &[], json!({"synonyms": []})).await.refused(428, "VERSION_REQUIRED", "version");
    let circle = json!([{"input": "a", "synonyms": ["b"]}, {"input": "b", "synonyms": ["a"]}]);
    let refused = put("/search/synonyms", &[], json!({"synonyms": circle, "version": 2})).await;
    refused.refused(422, "VALIDATION_FAILED", "synonyms[0]");
    put("/search/synonyms", &[], json!({"words": []})).await.refused(400, "BAD_REQUEST", "words");

    let rules = json!([{
        "name": "Chairs before sofas",
        "query": "couch",
        "query_match": "contains",
        "disabled": false,
        "starts_at": "2020-01-01T00:00:00Z",
        "pin": [id(&chair)],
        "boost": [{"brand": "Acme", "factor": 2.0}],
    }]);
    let written = put("/search/rules", &[], json!({"rules": rules, "version": 1})).await.ok(200);
    assert_eq!(written.data()["rules"], rules);
    assert_eq!(api.get("/search/rules").await.ok(200).data()["rules"], rules);
    assert_eq!(found("blue+couch").await, ["Chair", "Sofa"]);
    assert_eq!(found("sofa").await, ["Sofa"]);
    let bad = json!([{"name": "x", "hide": [id(&chair)], "boost": [{"factor": 50}]}]);
    let refused = put("/search/rules", &[], json!({"rules": bad, "version": 2})).await;
    refused.refused(422, "VALIDATION_FAILED", "rules[0].boost[0].factor");
    let clerk = ecom_core::access::Principal::new("clerk", []);
    assert!(api.shop.acting_as(&clerk).search_settings().rules().await.is_err());
}
