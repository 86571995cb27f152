//! Jobs: operations on the index that take long.

use std::time::Duration;

use ecom_core::access::{Permission, Principal};
use ecom_core::platform::Background;
use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, column, golden, id, kept_private, lamp};

async fn post(api: &Api, path: &str, body: Option<&str>) -> Answer {
    api.call("POST", &format!("{API}{path}"), &[], body).await
}

/// Enqueues a job and returns it.
async fn enqueued(api: &Api, path: &str, body: Option<&str>) -> Value {
    let answer = kept_private(post(api, path, body).await.ok(202));
    let job = answer.data();
    assert_eq!(answer.header("location"), format!("{API}/admin/jobs/{}", id(&job)));
    assert_eq!(answer.json()["links"]["self"], format!("{API}/admin/jobs/{}", id(&job)));
    assert!(!answer.header("etag").is_empty());
    job
}

/// Waits until the job has ended, and returns it.
async fn ended(api: &Api, job: &Value) -> Value {
    let start = std::time::Instant::now();
    loop {
        let job = api.get(&format!("/admin/jobs/{}", id(job))).await.ok(200).data();
        if job["finished_at"] != Value::Null {
            return job;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "the job must end: {job}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn stop(background: Background) {
    background.shutdown().await;
}

#[tokio::test]
async fn a_job_is_enqueued_runs_and_is_shown() {
    let api = Api::new().await;
    api.product(lamp()).await;
    let queued = enqueued(&api, "/admin/reindex", None).await;
    golden("job", &queued);
    assert_eq!(enqueued(&api, "/admin/reindex", Some("{}")).await, queued, "it is queued already");
    let check = enqueued(&api, "/admin/verify", Some(r#"{"repair":false}"#)).await;
    let repair = enqueued(&api, "/admin/verify", None).await;
    assert_eq!((&check["parameters"], &repair["parameters"]), (&json!({"repair": false}), &json!({"repair": true})));
    assert_eq!(enqueued(&api, "/admin/verify", Some("{}")).await, repair, "it is queued already");
    let read = kept_private(api.get(&format!("/admin/jobs/{}", id(&queued))).await.ok(200));
    assert_eq!(read.data(), queued);

    let background = api.shop.start();
    let done = ended(&api, &queued).await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("succeeded"), &json!(1)));
    assert_eq!((&done["counters"]["read"], &done["counters"]["written"]), (&json!(1), &json!(1)));
    assert_eq!((&done["lease_expires_at"], &done["last_error"]), (&Value::Null, &Value::Null));
    assert_eq!((&done["created_by"], &done["updated_by"]), (&json!("anonymous"), &json!("system")));
    for job in [&check, &repair] {
        let done = ended(&api, job).await;
        let counters = json!({"compared": 1, "missing": 0, "stale": 0, "extra": 0});
        assert_eq!((&done["state"], &done["counters"]), (&json!("succeeded"), &counters));
    }
    stop(background).await;

    let path = format!("{API}/admin/jobs/{}", id(&queued));
    let read = api.call("GET", &path, &[("if-none-match", read.header("etag"))], None).await;
    let tag = read.ok(200).header("etag").to_owned();
    api.call("GET", &path, &[("if-none-match", &tag)], None).await.ok(304);
    let picked = api.get(&format!("/admin/jobs/{}?fields=state,counters", id(&queued))).await.ok(200).data();
    assert_eq!(picked, json!({"state": "succeeded", "counters": {"read": 1, "written": 1}}));
}

#[tokio::test]
async fn jobs_are_listed_by_kind_and_state_with_both_pagings() {
    let api = Api::new().await;
    let background = api.shop.start();
    let mut all = Vec::new();
    for _ in 0..3 {
        for (path, body) in [("/admin/reindex", None), ("/admin/verify", Some(r#"{"repair":false}"#))] {
            api.clock.advance(Duration::from_secs(1));
            let job = enqueued(&api, path, body).await;
            ended(&api, &job).await;
            all.insert(0, id(&job).to_owned());
        }
    }
    stop(background).await;
    let queued = enqueued(&api, "/admin/reindex", None).await;
    all.insert(0, id(&queued).to_owned());
    let list = kept_private(api.get("/admin/jobs").await.ok(200));
    assert_eq!(column(&list, "id"), all);
    assert_eq!(list.json()["meta"]["pagination"]["total"], 7);
    let of = async |query: &str| column(&api.get(&format!("/admin/jobs?{query}")).await.ok(200), "id");
    assert_eq!(of("state=queued").await, all[..1]);
    assert_eq!(of("state=failed").await, [""; 0]);
    assert_eq!(of("kind=verify").await, [all[1].clone(), all[3].clone(), all[5].clone()]);
    assert_eq!(of("kind=reindex&state=succeeded").await, [all[2].clone(), all[4].clone(), all[6].clone()]);
    assert_eq!(of("page=2&per_page=3").await, all[3..6]);
    assert_eq!(of("skip=6&limit=3").await, all[6..]);
    let (mut found, mut next) = (Vec::new(), "/admin/jobs?cursor=&per_page=2".to_owned());
    for _ in 0..4 {
        let page = api.get(&next).await.ok(200);
        found.extend(column(&page, "id"));
        let link = page.json()["links"]["next"].as_str().map(|link| link.trim_start_matches(API).to_owned());
        match link {
            Some(link) => next = link,
            None => break,
        }
    }
    assert_eq!(found, all);
    assert_eq!(of("kind=fax").await, [""; 0]);
    api.get("/admin/jobs?kind=Fax").await.refused(400, "BAD_REQUEST", "kind");
    api.get("/admin/jobs?state=done").await.refused(400, "BAD_REQUEST", "state");
    api.get("/admin/jobs?since=1").await.refused(400, "BAD_REQUEST", "since");
    api.get("/admin/jobs?cursor=x").await.refused(400, "BAD_REQUEST", "cursor");
    api.get("/admin/jobs?fields=holder").await.refused(400, "BAD_REQUEST", "fields");
}

#[tokio::test]
async fn r17_bad_requests_enqueue_nothing() {
    let api = Api::new().await;
    for body in [r#"{"repair":1}"#, r#"{"repair":null}"#, r#"{"repair":"true"}"#] {
        post(&api, "/admin/verify", Some(body)).await.refused(400, "BAD_REQUEST", "repair");
    }
    post(&api, "/admin/verify", Some(r#"{"repair":true,"deep":1}"#)).await.refused(400, "BAD_REQUEST", "deep");
    post(&api, "/admin/verify", Some("[true]")).await.refused(400, "BAD_REQUEST", "body");
    post(&api, "/admin/verify?repair=true", None).await.refused(400, "BAD_REQUEST", "repair");
    post(&api, "/admin/reindex", Some(r#"{"repair":true}"#)).await.refused(400, "BAD_REQUEST", "repair");
    api.get("/admin/reindex").await.refused(405, "METHOD_NOT_ALLOWED", "");
    api.get("/admin/jobs/latest").await.refused(400, "BAD_REQUEST", "");
    let unknown = "01890000-0000-7000-8000-000000000000";
    api.get(&format!("/admin/jobs/{unknown}")).await.refused(404, "NOT_FOUND", "");
    post(&api, &format!("/admin/jobs/{unknown}/retry"), None).await.refused(404, "NOT_FOUND", "");
    assert_eq!(api.get("/admin/jobs").await.ok(200).data(), json!([]));
    let queued = enqueued(&api, "/admin/reindex", None).await;
    let retry = format!("/admin/jobs/{}/retry", id(&queued));
    post(&api, &retry, None).await.refused(409, "STATE_CONFLICT", "");
    post(&api, &retry, Some(r#"{"now":true}"#)).await.refused(400, "BAD_REQUEST", "now");
    assert_eq!(api.get("/admin/jobs").await.ok(200).data(), json!([queued]));
}

#[tokio::test]
async fn r12_a_repeated_request_enqueues_one_job() {
    let api = Api::new().await;
    let path = format!("{API}/admin/verify");
    let send = async |key: &str, body: &str| api.call("POST", &path, &[("idempotency-key", key)], Some(body)).await;
    let first = send("a", r#"{"repair":true}"#).await.ok(202);
    let background = api.shop.start();
    let done = ended(&api, &first.data()).await;
    let replayed = send("a", r#"{"repair":true}"#).await.ok(202);
    assert_eq!((replayed.data(), replayed.header("idempotency-replayed")), (first.data(), "true"));
    assert_eq!(replayed.header("location"), first.header("location"));
    send("a", r#"{"repair":false}"#).await.refused(409, "IDEMPOTENCY_KEY_REUSED", "Idempotency-Key");
    let second = send("b", r#"{"repair":true}"#).await.ok(202).data();
    assert_ne!(id(&second), id(&done), "another key is another request");
    ended(&api, &second).await;
    stop(background).await;
}

#[tokio::test]
async fn a_failed_job_is_run_again() {
    let api = Api::new().await;
    let job = enqueued(&api, "/admin/reindex", None).await;
    let failed = api.parked(&job).await;
    let parked = api.get("/admin/jobs?state=failed").await.ok(200).data()[0].clone();
    assert_eq!((&parked["attempts"], &parked["last_error"]), (&json!(5), &json!(failed.last_error)));

    let again = enqueued(&api, &format!("/admin/jobs/{}/retry", id(&job)), None).await;
    assert_eq!(
        (&again["state"], &again["attempts"], &again["finished_at"]),
        (&json!("queued"), &json!(0), &Value::Null)
    );
    let background = api.shop.start();
    let done = ended(&api, &job).await;
    assert_eq!((&done["state"], &done["last_error"]), (&json!("succeeded"), &Value::Null));
    stop(background).await;
}

#[tokio::test]
async fn a_job_is_canceled_and_a_queue_is_paused() {
    let api = Api::new().await;
    let paused = kept_private(post(&api, "/admin/job-queues/reindex/pause", None).await.ok(200)).data();
    let none = json!({"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0});
    assert_eq!(paused, json!({"kind": "reindex", "paused": true, "jobs": none}));
    let job = enqueued(&api, "/admin/reindex", None).await;
    let background = api.shop.start();
    let verified = enqueued(&api, "/admin/verify", None).await;
    ended(&api, &verified).await;
    let list = kept_private(api.get("/admin/job-queues").await.ok(200));
    assert_eq!(column(&list, "kind"), ["analytics-rebuild", "import", "mail", "media-cleanup", "reindex", "verify"]);
    let of_reindex = list.data()[4].clone();
    assert_eq!((&of_reindex["paused"], &of_reindex["jobs"]["queued"]), (&json!(true), &json!(1)), "{of_reindex}");
    let canceled = kept_private(post(&api, &format!("/admin/jobs/{}/cancel", id(&job)), None).await.ok(200)).data();
    assert_eq!((&canceled["state"], &canceled["updated_by"]), (&json!("canceled"), &json!("anonymous")));
    assert!(canceled["finished_at"].is_string(), "{canceled}");
    let resumed = post(&api, "/admin/job-queues/reindex/resume", None).await.ok(200).data();
    assert_eq!((&resumed["paused"], &resumed["jobs"]["canceled"]), (&json!(false), &json!(1)));
    enqueued(&api, &format!("/admin/jobs/{}/retry", id(&job)), None).await;
    assert_eq!(ended(&api, &job).await["state"], "succeeded");
    stop(background).await;
    let cancel = format!("/admin/jobs/{}/cancel", id(&job));
    post(&api, &cancel, None).await.refused(409, "STATE_CONFLICT", "");
    post(&api, &cancel, Some(r#"{"now":true}"#)).await.refused(400, "BAD_REQUEST", "now");
    post(&api, "/admin/job-queues/fax/pause", None).await.refused(404, "NOT_FOUND", "");
    post(&api, "/admin/job-queues/import/pause", None).await.refused(409, "STATE_CONFLICT", "");
    post(&api, "/admin/job-queues/mail/pause?now=1", None).await.refused(400, "BAD_REQUEST", "now");
    api.get("/admin/job-queues?fields=size").await.refused(400, "BAD_REQUEST", "fields");
    assert_eq!(column(&api.get("/admin/job-queues?fields=kind").await.ok(200), "kind").len(), 6);
}

#[tokio::test]
async fn jobs_need_their_permissions() {
    let without = |missing| Principal::new("user:1", Permission::ALL.iter().copied().filter(move |p| *p != missing));
    let unknown = "/admin/jobs/01890000-0000-7000-8000-000000000000";
    for (method, path, permission) in [
        ("POST", "/admin/reindex".to_owned(), Permission::IndexWrite),
        ("POST", "/admin/verify".to_owned(), Permission::IndexWrite),
        ("GET", "/admin/jobs".to_owned(), Permission::JobsRead),
        ("GET", unknown.to_owned(), Permission::JobsRead),
        ("POST", format!("{unknown}/retry"), Permission::JobsWrite),
        ("POST", format!("{unknown}/cancel"), Permission::JobsWrite),
        ("GET", "/admin/job-queues".to_owned(), Permission::JobsRead),
        ("POST", "/admin/job-queues/mail/pause".to_owned(), Permission::JobsWrite),
        ("POST", "/admin/job-queues/mail/resume".to_owned(), Permission::JobsWrite),
    ] {
        let api = Api::with(HttpConfig::default().anonymous(without(permission))).await;
        let refused = api.call(method, &format!("{API}{path}"), &[], None).await.refused(403, "FORBIDDEN", "");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(permission.as_str()), "{message}");
    }
    let api = Api::with(HttpConfig::default().anonymous(Principal::new("user:1", [Permission::IndexWrite]))).await;
    enqueued(&api, "/admin/reindex", None).await;
}

#[tokio::test]
async fn jobs_are_documented_and_linked() {
    let api = Api::new().await;
    let document = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    for (path, status) in [
        ("/admin/reindex", "202"),
        ("/admin/verify", "202"),
        ("/admin/jobs/{id}/retry", "202"),
        ("/admin/jobs/{id}/cancel", "200"),
        ("/admin/job-queues/{kind}/pause", "200"),
        ("/admin/job-queues/{kind}/resume", "200"),
    ] {
        let operation = &document["paths"][format!("{API}{path}")]["post"];
        assert!(operation["responses"][status]["headers"].get("Idempotency-Replayed").is_some(), "{path}: {operation}");
        assert!(operation["responses"].get("409").is_some(), "{path}");
    }
    let parameters = &document["paths"][format!("{API}/admin/jobs")]["get"]["parameters"];
    for name in ["kind", "state", "cursor", "page", "fields"] {
        assert!(parameters.as_array().unwrap().iter().any(|p| p["name"] == name), "{name}: {parameters}");
    }
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert!(root.to_string().contains("/admin/jobs"), "{root}");
}
