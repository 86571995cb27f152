//! The audit of the shop.

use ecom_core::access::{Permission, Principal};
use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Api, kept_private, lamp};

async fn audit(api: &Api) -> crate::support::Answer {
    api.call("POST", &format!("{API}/admin/audit"), &[], None).await
}

#[tokio::test]
async fn r41_an_audit_counts_what_it_has_checked_and_reports_findings() {
    let api = Api::new().await;
    api.product(lamp()).await;
    let report = kept_private(audit(&api).await.ok(200)).data();
    assert_eq!(report, json!({"clean": true, "skus": 1, "orders": 0, "findings": []}));
    let order = json!({
        "customer": {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"},
        "delivery_method": "on_hand",
        "lines": [{"sku": "LAMP-1", "quantity": 2, "unit_price": "19.99"}],
    });
    api.write("POST", "/orders", order).await.ok(201);
    let report = audit(&api).await.ok(200).data();
    assert_eq!((&report["orders"], &report["findings"]), (&json!(1), &json!([])));
    let refused = api.call("POST", &format!("{API}/admin/audit?deep=true"), &[], None).await;
    refused.refused(400, "BAD_REQUEST", "deep");
    api.get("/admin/audit").await.refused(405, "METHOD_NOT_ALLOWED", "");
    let document = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    let operation = &document["paths"]["/api/v1/admin/audit"]["post"];
    assert_eq!(operation["parameters"], Value::Null, "an audit changes nothing and takes no key");
}

#[tokio::test]
async fn an_audit_needs_its_permission() {
    let without = |missing| Principal::new("user:1", Permission::ALL.iter().copied().filter(move |p| *p != missing));
    let api = Api::with(HttpConfig::default().anonymous(without(Permission::AuditRun))).await;
    let refused = audit(&api).await.refused(403, "FORBIDDEN", "");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("audit:run"));
    let api = Api::with(HttpConfig::default().anonymous(Principal::new("user:1", [Permission::AuditRun]))).await;
    audit(&api).await.ok(200);
}
