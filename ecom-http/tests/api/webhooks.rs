//! Webhooks: subscriptions, their secrets, and the log of their deliveries.

use std::sync::Arc;
use std::time::Duration;

use ecom_core::platform::Pass;
use ecom_core::port::NoSearch;
use ecom_core::testkit::receiver::{Answer, Receiver};
use serde_json::{Value, json};

use crate::support::{API, Api, column, golden, id, kept_private, lamp, open};

const URL: &str = "https://example.com/hooks/shop";

async fn with(receiver: &Arc<Receiver>) -> Api {
    let sender = receiver.clone();
    Api::changed(open(), Arc::new(NoSearch), |parts| parts.webhooks = Some(sender)).await
}

fn input() -> Value {
    json!({"url": URL, "description": "The ERP", "events": ["product.updated", "product.created"]})
}

async fn subscribed(api: &Api) -> Value {
    api.write("POST", "/webhooks", input()).await.ok(201).data()
}

/// Does the background work that is due now: events become deliveries, and these are attempted.
async fn pass(api: &Api) {
    for _ in 0..2 {
        api.shop.run_background_pass(Pass::Events, std::future::pending()).await;
    }
}

async fn post(api: &Api, path: &str) -> crate::support::Answer {
    api.call("POST", &format!("{API}{path}"), &[], None).await
}

#[tokio::test]
async fn a_webhook_is_created_shown_changed_and_deleted() {
    let api = Api::new().await;
    let made = kept_private(api.write("POST", "/webhooks", input()).await.ok(201));
    let mut webhook = made.data();
    let path = format!("/webhooks/{}", id(&webhook));
    assert_eq!((made.header("location"), made.header("x-last-event-id").is_empty()), (&*format!("{API}{path}"), false));
    assert_eq!(webhook["events"], json!(["product.created", "product.updated"]));
    let secret = webhook.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"), "{secret}");
    let mut shown = webhook.clone();
    shown["id"] = json!("the id");
    golden("webhook", &shown);
    let read = kept_private(api.get(&path).await.ok(200));
    assert_eq!(read.data(), webhook, "the secret is shown once");
    assert_eq!(api.get("/webhooks").await.ok(200).data(), json!([webhook]));
    let tag = [("if-none-match", read.header("etag"))];
    api.call("GET", &format!("{API}{path}"), &tag, None).await.ok(304);

    api.write("PATCH", &path, json!({"enabled": false})).await.refused(428, "VERSION_REQUIRED", "");
    let patch = json!({"enabled": false, "description": null, "version": 1});
    let changed = api.write("PATCH", &path, patch.clone()).await.ok(200).data();
    let of_change = (&changed["enabled"], &changed["description"], &changed["version"]);
    assert_eq!(of_change, (&json!(false), &Value::Null, &json!(2)));
    api.write("PATCH", &path, patch).await.refused(409, "VERSION_CONFLICT", "");
    let gone = api.call("DELETE", &format!("{API}{path}"), &[("if-match", read.header("etag"))], None).await;
    gone.refused(412, "VERSION_CONFLICT", "");
    api.call("DELETE", &format!("{API}{path}?version=2"), &[], None).await.ok(204);
    api.get(&path).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn a_secret_is_replaced_and_both_sign_for_a_time() {
    let receiver = Receiver::new();
    let api = with(&receiver).await;
    let webhook = subscribed(&api).await;
    let path = format!("/webhooks/{}/rotate-secret", id(&webhook));
    let rotated = kept_private(post(&api, &path).await.ok(200)).data();
    assert!(rotated["secret"].is_string() && rotated["secret"] != webhook["secret"]);
    assert!(rotated["previous_secret_until"].is_string(), "{rotated}");
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let chosen = api.write("POST", &path, json!({"secret": own, "overlap_seconds": 60})).await.ok(200).data();
    assert_eq!((&chosen["secret"], &chosen["version"]), (&json!(own), &json!(3)));
    api.product(lamp()).await;
    pass(&api).await;
    let message = receiver.taken().pop().unwrap();
    assert_eq!(message.signature.matches("v1,").count(), 3, "{}", message.signature);
    api.write("POST", &path, json!({"secret": "short"})).await.refused(422, "VALIDATION_FAILED", "secret");
    let long = json!({"overlap_seconds": 2_592_001});
    api.write("POST", &path, long).await.refused(422, "VALIDATION_FAILED", "overlap_seconds");
    let headers = [("idempotency-key", "k")];
    api.call("POST", &format!("{API}{path}"), &headers, None).await.refused(400, "BAD_REQUEST", "Idempotency-Key");
}

#[tokio::test]
async fn the_log_shows_deliveries_and_replays_them() {
    let receiver = Receiver::new();
    let api = with(&receiver).await;
    let webhook = subscribed(&api).await;
    receiver.decides(|_| Answer::Status(500));
    let product = api.product(lamp()).await;
    pass(&api).await;
    let list = kept_private(api.get(&format!("/webhooks/deliveries?webhook_id={}", id(&webhook))).await.ok(200));
    let delivery = list.data()[0].clone();
    assert_eq!(delivery["payload"]["data"]["aggregate_id"], product["id"]);
    let path = format!("/webhooks/deliveries/{}", id(&delivery));
    assert_eq!(api.get(&path).await.ok(200).data(), delivery);
    assert!(delivery["duration_ms"].is_number(), "{delivery}");
    let mut shown = delivery.clone();
    shown["duration_ms"] = json!(12);
    shown["next_attempt_at"] = json!("the pause is random");
    let sku = &mut shown["payload"]["data"]["stock"][0]["sku_id"];
    assert_eq!(*sku, product["skus"][0]["id"]);
    *sku = json!("the SKU");
    shown["payload"]["data"]["id"] = json!("the event");
    shown["payload"]["data"]["aggregate_id"] = json!("the product");
    for (field, text) in [("id", "the id"), ("webhook_id", "the webhook"), ("event_id", "the event")] {
        shown[field] = json!(text);
    }
    shown["aggregate_id"] = json!("the product");
    golden("webhook_delivery", &shown);
    let failing = api.get(&format!("/webhooks/{}", id(&webhook))).await.ok(200).data();
    assert_eq!((&failing["failures"], failing["failing_since"].is_string()), (&json!(1), true));

    receiver.decides(|_| Answer::Status(200));
    let queued = kept_private(post(&api, &format!("{path}/replay")).await.ok(202));
    assert_eq!((queued.header("location"), &queued.data()["attempts"]), (&*format!("{API}{path}"), &json!(0)));
    pass(&api).await;
    let done = api.get(&path).await.ok(200).data();
    assert_eq!((&done["state"], &done["status"], &done["error"]), (&json!("succeeded"), &json!(200), &Value::Null));
    let test = post(&api, &format!("/webhooks/{}/test", id(&webhook))).await.ok(202).data();
    assert_eq!((&test["kind"], &test["payload"]["type"]), (&json!("webhook.test"), &json!("webhook.test")));
    pass(&api).await;
    let kinds = |list: &crate::support::Answer| column(list, "kind");
    assert_eq!(kinds(&api.get("/webhooks/deliveries?kind=webhook.test").await.ok(200)), ["webhook.test"]);
    let done = api.get("/webhooks/deliveries?state=succeeded&fields=kind").await.ok(200);
    assert_eq!(kinds(&done), ["webhook.test", "product.created"]);
    assert_eq!(api.get("/webhooks/deliveries?state=failed").await.ok(200).data(), json!([]));
    let page = api.get("/webhooks/deliveries?per_page=1&cursor=").await.ok(200);
    assert_eq!(kinds(&page), ["webhook.test"]);
    let next = page.json()["links"]["next"].as_str().unwrap().to_owned();
    let rest = api.call("GET", &next, &[], None).await.ok(200);
    assert_eq!((kinds(&rest), &rest.json()["links"]["next"]), (vec!["product.created".to_owned()], &Value::Null));
    let of_event = format!("/webhooks/deliveries?event_id={}", delivery["event_id"].as_str().unwrap());
    assert_eq!(kinds(&api.get(&of_event).await.ok(200)), ["product.created"]);
}

#[tokio::test]
async fn r17_bad_webhooks_are_refused() {
    let api = Api::new().await;
    let send = async |change: Value| {
        let mut body = input();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        api.write("POST", "/webhooks", body).await
    };
    for url in [
        "http://example.com/".to_owned(),
        "https://refused.test/".to_owned(),
        "https://ada:secret@example.com/".to_owned(),
        "https://example.com/#top".to_owned(),
        "ftp://example.com/".to_owned(),
        format!("https://example.com/{}", "a".repeat(10_000)),
        String::new(),
    ] {
        let refused = send(json!({"url": url})).await.refused(422, "VALIDATION_FAILED", "url");
        assert!(!String::from_utf8_lossy(&refused.bytes).contains("ada:secret"));
    }
    send(json!({"url": "hooks"})).await.refused(400, "BAD_REQUEST", "url");
    let unknown = send(json!({"events": ["order.exploded"]})).await.refused(422, "VALIDATION_FAILED", "events[0]");
    assert!(String::from_utf8_lossy(&unknown.bytes).contains("order.units_canceled"), "the kinds are listed");
    let double = json!({"events": ["order.placed", "order.placed"]});
    send(double).await.refused(422, "VALIDATION_FAILED", "events[1]");
    send(json!({"events": []})).await.refused(422, "VALIDATION_FAILED", "events");
    send(json!({"secret": "whsec_AAAA"})).await.refused(422, "VALIDATION_FAILED", "secret");
    send(json!({"retries": 3})).await.refused(400, "BAD_REQUEST", "retries");
    api.get("/webhooks/deliveries?state=lost").await.refused(400, "BAD_REQUEST", "state");
    api.get("/webhooks/deliveries?webhook_id=x").await.refused(400, "BAD_REQUEST", "webhook_id");
    api.get("/webhooks/deliveries?fields=secret").await.refused(400, "BAD_REQUEST", "fields");
    api.get("/webhooks/latest").await.refused(400, "BAD_REQUEST", "");
    let unknown = "01890000-0000-7000-8000-000000000000";
    post(&api, &format!("/webhooks/{unknown}/test")).await.refused(404, "NOT_FOUND", "");
    post(&api, &format!("/webhooks/deliveries/{unknown}/replay")).await.refused(404, "NOT_FOUND", "");
    let headers = [("idempotency-key", "k"), ("content-type", "application/json")];
    let keyed = api.call("POST", &format!("{API}/webhooks"), &headers, Some(&input().to_string())).await;
    keyed.refused(400, "BAD_REQUEST", "Idempotency-Key");
    assert_eq!(api.get("/webhooks").await.ok(200).data(), json!([]));
}

#[tokio::test]
async fn a_webhook_that_is_off_is_not_called() {
    let receiver = Receiver::new();
    let api = with(&receiver).await;
    let webhook = subscribed(&api).await;
    receiver.decides(|_| Answer::Status(410));
    api.product(lamp()).await;
    pass(&api).await;
    let off = api.get(&format!("/webhooks/{}", id(&webhook))).await.ok(200).data();
    assert_eq!((&off["enabled"], &off["off_reason"], &off["version"]), (&json!(false), &json!("gone"), &json!(2)));
    post(&api, &format!("/webhooks/{}/test", id(&webhook))).await.refused(409, "STATE_CONFLICT", "");
    api.clock.advance(Duration::from_secs(86_400));
    pass(&api).await;
    assert_eq!(receiver.messages().len(), 1);
}
