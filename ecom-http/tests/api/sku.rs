//! SKUs, their stock and its movements.

use serde_json::json;

use crate::support::{API, Api, id};

#[tokio::test]
async fn skus_and_their_ledger() {
    let api = Api::new().await;
    let p = api.product(json!({"title": "Shirt", "discount_percentage": 50, "price": "20.00", "stock": 3})).await;
    let path = format!("/products/{}/skus", id(&p));
    let made =
        api.write("POST", &path, json!({"code": "SHIRT-L", "price": 30, "barcode": "123", "stock": 1})).await.ok(201);
    let s = made.data();
    assert_eq!(made.header("location"), format!("{API}/skus/{}", id(&s)));
    assert_eq!((s["final_price"].as_str(), s["available"].as_i64()), (Some("15.00"), Some(1)));
    assert_eq!(api.get(&path).await.ok(200).data().as_array().unwrap().len(), 2);
    assert_eq!(api.get("/products/shirt/skus").await.ok(200).data().as_array().unwrap().len(), 2);
    assert_eq!(api.get("/skus?code=shirt-l").await.ok(200).data()[0]["id"], s["id"]);
    assert_eq!(api.get("/skus?barcode=123").await.ok(200).data()[0]["final_price"], "15.00");
    assert_eq!(api.get("/skus?code=none").await.ok(200).data(), json!([]));
    // A flat write to a product with several SKUs is refused.
    let version = api.get("/products/shirt").await.data()["version"].clone();
    api.write("PATCH", &format!("/products/{}", id(&p)), json!({"price": 1, "version": version})).await.refused(
        409,
        "FLAT_WRITE_REFUSED",
        "price",
    );

    let sku = format!("/skus/{}", id(&s));
    let read = api.get(&sku).await.ok(200);
    let tag = read.header("etag").to_owned();
    api.call("GET", &format!("{API}{sku}"), &[("if-none-match", &tag)], None).await.ok(304);
    let a =
        api.write("POST", &format!("{sku}/stock"), json!({"delta": 5, "reason": "received", "reference": "D-1"})).await;
    assert_eq!(a.ok(201).data()["stock"]["on_hand"], 6);
    // A movement of stock changes the entity tag and not the version.
    api.call("GET", &format!("{API}{sku}"), &[("if-none-match", &tag)], None).await.ok(200);
    assert_eq!(api.get(&format!("{sku}/stock")).await.ok(200).data()["available"], 6);
    let m = api.get(&format!("{sku}/stock/movements")).await.ok(200).data();
    let deltas: Vec<i64> = m.as_array().unwrap().iter().map(|m| m["delta"].as_i64().unwrap()).collect();
    assert_eq!((deltas.iter().sum::<i64>(), deltas.len()), (6, 2));
    let c = api.get(&format!("{sku}/stock/movements?per_page=1&cursor=")).await.ok(200).json();
    assert_eq!(c["meta"]["pagination"]["has_next"], true);
    let next = c["links"]["next"].as_str().unwrap();
    assert_eq!(api.call("GET", next, &[], None).await.ok(200).json()["meta"]["pagination"]["has_next"], false);

    let edited =
        api.call("PATCH", &format!("{API}{sku}"), &[("if-match", &tag)], Some("{\"price\": \"31.00\"}")).await.ok(200);
    assert_eq!(edited.data()["price"], "31.00");
    api.call("PATCH", &format!("{API}{sku}"), &[("if-match", &tag)], Some("{}")).await.refused(
        412,
        "VERSION_CONFLICT",
        "version",
    );
    let version = edited.data()["version"].clone();
    let put = json!({"code": "SHIRT-XL", "price": 32, "version": version});
    let version = api.write("PUT", &sku, put).await.ok(200).data()["version"].clone();
    api.call("DELETE", &format!("{API}{sku}?version={version}"), &[], None).await.ok(204);
    api.get(&sku).await.refused(404, "NOT_FOUND", "");
    let gone = api.get(&format!("{sku}?include_deleted=true")).await.ok(200).data();
    let back = format!("{sku}/restore?version={}", gone["version"]);
    api.write("POST", &back, json!({})).await.ok(200);
}

#[tokio::test]
async fn a_sku_that_does_not_track_its_stock() {
    let api = Api::new().await;
    let p = api.product(json!({"title": "Gift card", "price": 5, "track_stock": false})).await;
    assert_eq!((&p["track_stock"], &p["stock"]), (&json!(false), &json!(0)));
    assert_eq!((&p["availability_status"], &p["skus"][0]["track_stock"]), (&json!("in_stock"), &json!(false)));
    let sku = format!("/skus/{}", id(&p["skus"][0]));
    let level = api.get(&format!("{sku}/stock")).await.ok(200).data();
    assert_eq!((&level["tracked"], &level["availability_status"]), (&json!(false), &json!("in_stock")));
    let refused = api.write("POST", &format!("{sku}/stock"), json!({"delta": 1})).await;
    let refused = refused.refused(409, "STOCK_NOT_TRACKED", "track_stock").json();
    assert_eq!(refused["error"]["details"][0]["sku_id"], p["skus"][0]["id"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("set its `track_stock` to true"), "{refused}");
    api.write("PATCH", &sku, json!({"stock": 3, "version": 1})).await.refused(422, "VALIDATION_FAILED", "stock");
    let new = json!({"title": "Voucher", "price": 5, "track_stock": false, "stock": 3});
    api.write("POST", "/products", new).await.refused(422, "VALIDATION_FAILED", "stock");
    assert_eq!(api.get(&format!("{sku}/stock/movements")).await.ok(200).data(), json!([]));

    let on = api.write("PATCH", &sku, json!({"track_stock": true, "stock": 3, "version": 1})).await.ok(200).data();
    assert_eq!((&on["track_stock"], &on["stock"], &on["version"]), (&json!(true), &json!(3), &json!(2)));
    assert_eq!(on["availability_status"], "limited");
    let list = async |a: &str| api.get(&format!("/products?availability={a}")).await.ok(200).data();
    assert_eq!((list("in_stock").await, list("limited").await[0]["id"].clone()), (json!([]), p["id"].clone()));
    let off = api.write("PUT", &sku, json!({"price": 5, "track_stock": false, "stock": 3, "version": 2})).await.ok(200);
    assert_eq!((&off.data()["track_stock"], &off.data()["stock"]), (&json!(false), &json!(3)));
    assert_eq!(list("in_stock").await[0]["id"], p["id"]);
    let put = api.write("PUT", &sku, json!({"price": 5, "version": 3})).await.ok(200).data();
    assert_eq!(put["track_stock"], true, "a replacement without the field tracks the stock");
}
