//! Analytics: sales, products, stock and the funnel, as JSON and as CSV.

use std::time::Duration;

use ecom_core::access::{Permission, Principal};
use ecom_core::platform::Pass;
use ecom_http::{HttpConfig, router};
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, golden, id, kept_private, lamp, open};

const REPORTS: [&str; 6] = [
    "/analytics/sales",
    "/analytics/funnel",
    "/analytics/top-products",
    "/analytics/low-stock",
    "/analytics/search-terms",
    "/analytics/zero-results",
];

/// Does the background work that is due.
async fn pass(api: &Api) {
    api.shop.run_background_pass(Pass::Events, std::future::pending()).await;
}

async fn placed(api: &Api, sku: &str, quantity: i64, unit_price: &str) -> Value {
    let body = json!({
        "customer": {"first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com"},
        "delivery_method": "on_hand",
        "lines": [{"sku": sku, "quantity": quantity, "unit_price": unit_price}],
    });
    api.write("POST", "/orders", body).await.ok(201).data()
}

/// Returns an API whose shop has sold two lamps on 2025-06-15, and one of them was canceled a day later.
async fn sold() -> (Api, Value) {
    let api = Api::new().await;
    let lamp = api.product(lamp()).await;
    let order = placed(&api, "LAMP-1", 2, "19.99").await;
    api.clock.advance(Duration::from_secs(86_400));
    let units = json!({"lines": [{"line_id": order["lines"][0]["id"], "quantity": 1}], "version": 1});
    api.write("POST", &format!("/orders/{}/cancel", id(&order)), units).await.ok(200);
    for _ in 0..3 {
        api.write("POST", &format!("/products/{}/events", id(&lamp)), json!({"kind": "view"})).await.ok(204);
    }
    api.write("POST", "/carts", json!({})).await.ok(201);
    pass(&api).await;
    (api, lamp)
}

async fn csv(api: &Api, path: &str) -> Answer {
    let answer = kept_private(api.call("GET", &format!("{API}{path}"), &[("accept", "text/csv")], None).await.ok(200));
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    answer
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.bytes.clone()).unwrap()
}

#[tokio::test]
async fn sales_are_those_of_each_day() {
    let (api, _) = sold().await;
    let answer = kept_private(api.get("/analytics/sales?from=2025-06-14&to=2025-06-16").await.ok(200));
    golden("sales", &answer.data());
    let numbers = api.get("/analytics/sales?from=2025-06-15&to=2025-06-15&numbers=true&currency=USD").await.ok(200);
    assert_eq!(numbers.data()["total"]["total"], json!(39.98));
    let by_default = api.get("/analytics/sales").await.ok(200).data();
    assert_eq!((&by_default["from"], &by_default["to"]), (&json!("2025-05-18"), &json!("2025-06-16")));
    assert_eq!(by_default["days"].as_array().unwrap().len(), 30);
    let table = csv(&api, "/analytics/sales?from=2025-06-15&to=2025-06-16").await;
    assert_eq!(table.header("content-disposition"), "attachment; filename=\"sales.csv\"");
    assert_eq!(
        text(&table),
        "day,orders,checkouts,units,subtotal,discount,shipping,tax_added,tax_included,total,average_order_value,\
         canceled_units,canceled,net_units,net\n\
         2025-06-15,1,0,2,39.98,0.00,0.00,0.00,0.00,39.98,39.98,0,0.00,2,39.98\n\
         2025-06-16,0,0,0,0.00,0.00,0.00,0.00,0.00,0.00,,1,19.99,-1,-19.99\n"
    );
}

#[tokio::test]
async fn products_stock_and_the_funnel_are_listed() {
    let (api, lamp) = sold().await;
    let top = kept_private(api.get("/analytics/top-products?sort=units_desc").await.ok(200));
    let mut first = top.data()[0].clone();
    assert_eq!(first["product_id"], lamp["id"]);
    first["product_id"] = json!("01977417-0000-7000-8000-000000000000");
    golden("product_sales", &first);
    assert_eq!(top.json()["meta"]["pagination"]["total"], 1);
    let picked = api.get("/analytics/top-products?fields=title,net_units&cursor=").await.ok(200).data();
    assert_eq!(picked, json!([{"title": "Desk Lamp", "net_units": 1}]));
    let table = csv(&api, "/analytics/top-products?fields=net_units,title").await;
    assert_eq!(text(&table), "title,net_units\nDesk Lamp,1\n");
    let funnel = kept_private(api.get("/analytics/funnel?from=2025-06-15").await.ok(200));
    golden("funnel", &funnel.data());
    assert_eq!(
        text(&csv(&api, "/analytics/funnel?from=2025-06-15").await),
        "day,views,carts,checkouts,orders\n2025-06-15,0,0,0,1\n2025-06-16,3,1,0,0\n"
    );
    assert_eq!(api.get("/analytics/low-stock").await.ok(200).data(), json!([]));
    let sku = lamp["skus"][0]["id"].as_str().unwrap();
    api.write("POST", &format!("/skus/{sku}/stock"), json!({"delta": -9})).await.ok(201);
    let low = kept_private(api.get("/analytics/low-stock").await.ok(200));
    let mut first = low.data()[0].clone();
    for field in ["sku_id", "product_id"] {
        assert!(first[field].is_string());
        first[field] = json!("01977417-0000-7000-8000-000000000000");
    }
    golden("low_stock", &first);
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(root["links"]["sales"], json!(format!("{API}/analytics/sales")));
}

#[tokio::test]
async fn the_text_of_a_stranger_is_no_formula_in_a_table() {
    let api = Api::new().await;
    api.product(lamp()).await;
    api.shop.index().catch_up().await.unwrap();
    api.get("/products/search?q=%3DSUM(A1,%22x%22)").await.ok(200);
    api.shop.search_log().flush().await.unwrap();
    let table = csv(&api, "/analytics/zero-results").await;
    assert_eq!(text(&table), "query,searches,without_result,partial_result\n\"'=SUM(A1,\"\"x\"\")\",1,1,0\n");
    let path = format!("{API}/analytics/zero-results?format=json");
    let json = api.call("GET", &path, &[("accept", "text/csv")], None).await.ok(200).data();
    assert_eq!(json[0]["query"], "=SUM(A1,\"x\")");
}

#[tokio::test]
async fn a_rebuild_is_a_job() {
    let (api, _) = sold().await;
    let path = "/analytics/sales?from=2025-06-14&to=2025-06-16";
    let before = api.get(path).await.ok(200).data();
    let job = api.call("POST", &format!("{API}/analytics/rebuild"), &[], None).await.ok(202);
    assert_eq!(job.header("location"), format!("{API}/admin/jobs/{}", id(&job.data())));
    assert_eq!((&job.data()["kind"], &job.data()["state"]), (&json!("analytics-rebuild"), &json!("queued")));
    pass(&api).await;
    let ended = api.get(&format!("/admin/jobs/{}", id(&job.data()))).await.ok(200).data();
    assert_eq!((&ended["state"], &ended["counters"]), (&json!("succeeded"), &json!({"days": 2})));
    assert_eq!(api.get(path).await.ok(200).data(), before);
}

#[tokio::test]
async fn r17_bad_reports_are_named() {
    let api = Api::new().await;
    for path in REPORTS {
        let get = async |query: &str| api.get(&format!("{path}?{query}")).await;
        get("format=xml").await.refused(400, "BAD_REQUEST", "format");
        get("unknown=1").await.refused(400, "BAD_REQUEST", "unknown");
        if path == "/analytics/low-stock" {
            continue;
        }
        get("from=1925-06-15").await.refused(422, "VALIDATION_FAILED", "from");
        get("from=2025-06-02&to=2025-06-01").await.refused(422, "VALIDATION_FAILED", "from");
        get("from=yesterday").await.refused(400, "BAD_REQUEST", "from");
        get("to=2025-02-30&format=csv").await.refused(400, "BAD_REQUEST", "to");
    }
    for path in ["/analytics/sales", "/analytics/top-products"] {
        let get = async |query: &str| api.get(&format!("{path}?{query}")).await;
        get("currency=EUR").await.refused(422, "VALIDATION_FAILED", "currency");
        get("currency=US").await.refused(400, "BAD_REQUEST", "currency");
        get("currency=XXQ").await.refused(400, "BAD_REQUEST", "currency");
    }
    api.get("/analytics/top-products?sort=views").await.refused(400, "BAD_REQUEST", "sort");
    api.get("/analytics/low-stock?cursor=x").await.refused(400, "BAD_REQUEST", "cursor");
}

#[tokio::test]
async fn r17_bad_events_of_products_are_refused() {
    let api = Api::new().await;
    let lamp = api.product(lamp()).await;
    let path = format!("/products/{}/events", id(&lamp));
    api.write("POST", &path, json!({})).await.refused(422, "VALIDATION_FAILED", "kind");
    api.write("POST", &path, json!({"kind": "sale"})).await.refused(400, "BAD_REQUEST", "kind");
    api.write("POST", &path, json!({"kind": "view", "n": 1000})).await.refused(400, "BAD_REQUEST", "n");
    let gone = "/products/01977417-0000-7000-8000-000000000000/events";
    api.write("POST", gone, json!({"kind": "view"})).await.refused(404, "NOT_FOUND", "");
    let keyed = [("idempotency-key", "k")];
    let keyed = api.call("POST", &format!("{API}{path}"), &keyed, Some(r#"{"kind": "view"}"#)).await;
    keyed.refused(400, "BAD_REQUEST", "Idempotency-Key");
    let draft = json!({"title": "Draft", "price": 1, "status": "draft"});
    let draft = api.product(draft).await;
    let stranger = HttpConfig::default().rate_limits(None).anonymous(Principal::anonymous([]));
    let stranger = Api { router: router(api.shop.clone(), stranger), shop: api.shop.clone(), clock: api.clock.clone() };
    let path = format!("/products/{}/events", id(&draft));
    stranger.write("POST", &path, json!({"kind": "view"})).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn reports_need_their_permission() {
    let others = Permission::ALL.iter().copied().filter(|p| *p != Permission::AnalyticsRead);
    let api = Api::with(open().anonymous(Principal::new("user:1", others))).await;
    for path in REPORTS {
        let refused = api.get(path).await.refused(403, "FORBIDDEN", "").json();
        assert!(refused["error"]["message"].as_str().unwrap().contains("analytics:read"), "{refused}");
    }
    let api = Api::with(open().anonymous(Principal::new("user:1", [Permission::AnalyticsRead]))).await;
    for path in REPORTS {
        api.get(path).await.ok(200);
    }
    api.call("POST", &format!("{API}/analytics/rebuild"), &[], None).await.refused(403, "FORBIDDEN", "");
}
