//! The audit log over HTTP.

use serde_json::{Value, json};

use crate::support::{Api, column, golden, id, kept_private, lamp};

#[tokio::test]
async fn the_log_shows_who_has_changed_what() {
    let api = Api::new().await;
    let product = api.product(lamp()).await;
    let path = format!("/products/{}", id(&product));
    let etag = api.get(&path).await.ok(200).header("etag").to_owned();
    let patch = json!({ "title": "Reading Lamp", "slug": "desk-lamp" });
    api.call("PATCH", &format!("/api/v1{path}"), &[("if-match", &etag)], Some(&patch.to_string())).await.ok(200);

    let list = kept_private(api.get("/admin/audit-log").await.ok(200));
    assert_eq!(column(&list, "action"), ["product.updated", "product.created"], "the newest first");
    let edit = list.data()[0].clone();
    golden("audit_log_entry", &edit);
    assert_eq!(edit["entity_id"], product["id"]);
    assert_eq!((&edit["before"]["title"], &edit["after"]["title"]), (&json!("Desk Lamp"), &json!("Reading Lamp")));
    let made = &list.data()[1];
    assert_eq!((&made["before"], &made["after"]["brand"]), (&Value::Null, &json!("Lumen")));

    let of = async |query: &str| column(&api.get(&format!("/admin/audit-log?{query}")).await.ok(200), "action");
    assert_eq!(of("action=product.created").await, ["product.created"]);
    assert_eq!(of("entity=product&per_page=1").await, ["product.updated"]);
    assert_eq!(of("entity=customer").await, [""; 0]);
    assert_eq!(of(&format!("entity_id={}&actor={}", id(&product), edit["actor"].as_str().unwrap())).await.len(), 2);
    assert_eq!(of("actor=nobody").await, [""; 0]);
    assert_eq!(of("from=2020-01-01&until=9000-01-01").await.len(), 2);
    assert_eq!(of("until=2020-01-01").await, [""; 0]);
    let first = api.get("/admin/audit-log?cursor=&per_page=1").await.ok(200);
    let next = first.json()["links"]["next"].as_str().unwrap().to_owned();
    let second = api.call("GET", &next, &[], None).await.ok(200);
    assert_eq!(column(&second, "action"), ["product.created"]);
    let picked = api.get("/admin/audit-log?fields=action,actor&per_page=1").await.ok(200).data();
    assert_eq!(picked[0].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn parameters_that_match_no_entry_are_refused() {
    let api = Api::new().await;
    for query in
        ["actor=", "entity=%00", "action=", "from=yesterday", "until=1", "entity_id=7", "sort=action", "per_page=0"]
    {
        let answer = api.get(&format!("/admin/audit-log?{query}")).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{query}: {answer:?}");
    }
}
