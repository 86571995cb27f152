//! Imports of products over HTTP: formats, results row by row, dry runs, jobs with what was rejected, and bodies that
//! break off.

use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use ecom_core::access::{Permission, Principal};
use ecom_core::paging::Paging;
use ecom_core::platform::{Job, JobFilter, JobState};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{API, Answer, Api, open};

/// Four records, of which two are rejected.
const SOME_BAD: &str = r#"{"external_id": "1", "title": "Lamp", "price": "10.00", "sku": "LAMP"}
{"external_id": "2", "title": "Bulb", "price": "ten", "sku": "BULB"}
{"external_id": "3", "price": "1.00", "sku": "WIRE", "colour": "red"}
{"external_id": "4", "title": "Shade", "price": "4.00", "sku": "SHADE", "colour": "red"}
"#;

async fn import(api: &Api, query: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = Request::post(format!("{API}/ingest/products{query}"));
    let request = if content_type.is_empty() { request } else { request.header("content-type", content_type) };
    api.send(request.body(body.into()).unwrap()).await
}

fn results(data: &Value) -> Vec<&str> {
    data["rows"].as_array().unwrap().iter().map(|row| row["result"].as_str().unwrap()).collect()
}

async fn titles(api: &Api) -> Vec<String> {
    let list = api.get("/products?status=any&per_page=100&sort=title_asc").await;
    let list = if list.status.as_u16() == 200 { list } else { api.get("/products?status=any&per_page=100").await };
    let mut titles: Vec<String> =
        list.ok(200).data().as_array().unwrap().iter().map(|p| p["title"].as_str().unwrap().to_owned()).collect();
    titles.sort_unstable();
    titles
}

async fn jobs(api: &Api) -> Vec<Job> {
    api.shop.jobs().list(&JobFilter::default(), &Paging::first(100)).await.unwrap().0.items
}

#[tokio::test]
async fn each_record_has_its_result_and_what_was_rejected_can_be_mended_and_sent_again() {
    let api = Api::new().await;
    let answer = import(&api, "?source=erp", "application/x-ndjson", SOME_BAD).await.ok(200);
    let data = answer.data();
    assert_eq!(results(&data), ["inserted", "rejected", "rejected", "inserted"], "{data}");
    for (field, n) in [("read", 4), ("inserted", 2), ("updated", 0), ("unchanged", 0), ("rejected", 2)] {
        assert_eq!(data[field], n, "{field}: {data}");
    }
    assert_eq!(
        (&data["rows_are"], &data["ended_early"], &data["dry_run"]),
        (&json!("all"), &Value::Null, &json!(false))
    );
    assert_eq!(data["unknown_fields"], json!({"colour": 2}));
    let bad = &data["rows"][1];
    assert_eq!((&bad["index"], &bad["line"], &bad["external_id"]), (&json!(1), &json!(2), &json!("2")));
    assert_eq!(bad["error"]["details"][0]["field"], "price", "{bad}");
    assert_eq!(titles(&api).await, ["Lamp", "Shade"]);

    let path = answer.header("location").to_owned();
    assert_eq!(path, format!("{API}/admin/jobs/{}", data["job_id"].as_str().unwrap()));
    let job = api.call("GET", &path, &[], None).await.ok(200).data();
    assert_eq!((&job["kind"], &job["state"]), (&json!("import"), &json!("succeeded")));
    assert_eq!(job["counters"], json!({"read": 4, "inserted": 2, "rejected": 2}));
    assert_eq!(job["parameters"], json!({"of": "products", "source": "erp"}));
    let listed = api.get("/admin/jobs?kind=import").await.ok(200).data();
    assert_eq!(listed[0]["id"], job["id"]);
    api.call("POST", &format!("{path}/retry"), &[], None).await.refused(409, "STATE_CONFLICT", "");

    let rejected = api.call("GET", &format!("{path}/rejected"), &[], None).await.ok(200);
    assert_eq!(rejected.header("content-type"), "application/x-ndjson");
    assert!(rejected.header("content-disposition").starts_with("attachment; filename=\"rejected-"));
    let mended = String::from_utf8(rejected.bytes).unwrap().replace("ten", "2.00");
    assert_eq!(mended.lines().count(), 2);
    let again = import(&api, "?source=erp&format=dead_letters", "application/x-ndjson", mended).await.ok(200).data();
    assert_eq!(results(&again), ["inserted", "rejected"], "{again}");
    assert_eq!(titles(&api).await, ["Bulb", "Lamp", "Shade"]);

    let before = api.everything().await.len();
    let twice = import(&api, "?source=erp", "application/x-ndjson", SOME_BAD).await.ok(200).data();
    assert_eq!(results(&twice), ["unchanged", "rejected", "rejected", "unchanged"], "{twice}");
    // Only the row of the job is new.
    assert!(api.everything().await.len() > before);
    let unknown = "/admin/jobs/0197a6d0-0000-7000-8000-000000000000/rejected";
    api.get(unknown).await.refused(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_happen_and_writes_nothing() {
    let api = Api::new().await;
    let data = import(&api, "?dry_run=true", "application/x-ndjson", SOME_BAD).await.ok(200).data();
    assert_eq!(results(&data), ["inserted", "rejected", "rejected", "inserted"], "{data}");
    assert_eq!(data["dry_run"], true);
    assert!(titles(&api).await.is_empty());
    let category = json!({"external_id": "1", "title": "L", "price": 1, "categories": ["new"]}).to_string();
    let refused = import(&api, "?create_categories=false", "", category.clone()).await.ok(200).data();
    assert_eq!(results(&refused), ["rejected"], "{refused}");
    let made = import(&api, "", "", category).await.ok(200).data();
    assert_eq!((results(&made), &made["categories_created"]), (vec!["inserted"], &json!(1)));
}

#[tokio::test]
async fn a_body_has_any_of_the_formats_and_may_be_compressed() {
    let api = Api::new().await;
    let one = |n: u32| json!({"external_id": n, "title": format!("P{n}"), "price": n});
    let map = r#"{"delimiter":";","columns":{"Nummer":"sku","Name":"title","Preis":"price"},"decimal_comma":true}"#;
    let map: String = form_urlencoded::byte_serialize(map.as_bytes()).collect();
    let shopify = "Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Variant SKU,Variant Price\n\
                   mug,Mug,,,Title,Default Title,MUG,5.00\n";
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(one(6).to_string().as_bytes()).unwrap();
    for (query, content_type, body) in [
        (String::new(), "application/json", one(1).to_string().into_bytes()),
        (String::new(), "application/json; charset=utf-8", json!([one(2)]).to_string().into_bytes()),
        (String::new(), "", json!({"products": [one(3)]}).to_string().into_bytes()),
        (String::new(), "text/csv", b"sku,title,price\nC-1,Cup,4.50\n".to_vec()),
        (format!("?columns={map}"), "text/csv", "Nummer;Name;Preis\nT-1;Tee;1.234,50\n".into()),
        (String::new(), "text/csv", shopify.into()),
        ("?format=shopify".to_owned(), "text/plain", shopify.replace("mug", "jug").replace("MUG", "JUG").into()),
        (String::new(), "application/gzip", compressed.finish().unwrap()),
    ] {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let data = import(&api, &query, content_type, body).await.ok(200).data();
        assert_eq!(results(&data), ["inserted"], "{content_type} {shown}: {data}");
    }
    let tea = api.get("/skus?code=T-1").await.ok(200).data();
    assert_eq!(tea[0]["price"], "1234.50", "{tea}");
}

#[tokio::test]
async fn r17_bad_parameters_and_bodies_are_refused_before_anything_is_written() {
    let api = Api::new().await;
    let good = || json!({"external_id": 1, "title": "P", "price": 1}).to_string();
    for (query, status, code, field) in [
        ("?format=xml", 400, "BAD_REQUEST", "format"),
        ("?columns=1", 400, "BAD_REQUEST", "columns"),
        ("?columns=%7B%22columns%22%3A%7B%22a%22%3A%22nothing%22%7D%7D", 400, "BAD_REQUEST", "columns"),
        ("?format=json&columns=%7B%7D", 422, "VALIDATION_FAILED", "columns"),
        ("?dry_run=perhaps", 400, "BAD_REQUEST", "dry_run"),
        ("?source=", 422, "VALIDATION_FAILED", "source"),
        ("?colour=red", 400, "BAD_REQUEST", "colour"),
    ] {
        let answer = import(&api, query, "application/json", good()).await;
        assert!(jobs(&api).await.is_empty(), "{query}");
        let e = answer.json()["error"].clone();
        assert_eq!(e["details"][0]["field"].as_str().unwrap().split('.').next(), Some(field), "{query}: {e}");
        assert_eq!((answer.status.as_u16(), e["code"].as_str().unwrap()), (status, code), "{query}: {e}");
    }
    for (content_type, encoding) in [("application/xml", ""), ("multipart/form-data", ""), ("application/json", "br")] {
        let request = Request::post(format!("{API}/ingest/products")).header("content-type", content_type);
        let request = if encoding.is_empty() { request } else { request.header("content-encoding", encoding) };
        let answer = api.send(request.body(Body::from(good())).unwrap()).await;
        answer.refused(415, "UNSUPPORTED_MEDIA_TYPE", "");
    }
    assert!(jobs(&api).await.is_empty() && titles(&api).await.is_empty());
    import(&api, "", "application/json", "").await.ok(200);
    import(&api, "", "application/json", "hello").await.refused(400, "BAD_REQUEST", "body");
    assert!(titles(&api).await.is_empty());
    let who = Principal::new("user:1", [Permission::ImportRun, Permission::ProductsRead]);
    let other = Api {
        router: ecom_http::router(api.shop.clone(), open().anonymous(who)),
        shop: api.shop.clone(),
        clock: api.clock.clone(),
    };
    let before = jobs(&api).await.len();
    import(&other, "", "application/json", good()).await.refused(403, "FORBIDDEN", "");
    assert_eq!(jobs(&api).await.len(), before);
}

#[tokio::test]
async fn a_body_may_be_larger_than_others_but_not_than_its_own_limit() {
    let api = Api::with(open().body_limit(1_024).import_limit(100_000)).await;
    let row = |n: usize| format!("{}\n", json!({"external_id": n, "title": format!("P{n}"), "price": 1}));
    let text: String = (0..1_200).map(row).collect();
    assert!(text.len() < 100_000);
    let data = import(&api, "", "application/x-ndjson", text.clone()).await.ok(200).data();
    assert_eq!((&data["inserted"], &data["rows_are"], &data["rows"]), (&json!(1_200), &json!("rejected"), &json!([])));
    let longer: String = (0..4_000).map(row).collect();
    let data = import(&api, "", "application/x-ndjson", longer).await.ok(200).data();
    assert!(data["ended_early"]["reason"].as_str().unwrap().contains("larger than the limit"), "{data}");
    assert!(data["read"].as_u64().unwrap() > 1_200, "{data}");
}

/// A part of a body: NDJSON with one record.
fn part(n: u32) -> Bytes {
    format!("{}\n", json!({"external_id": n, "title": format!("P{n}"), "price": 1})).into()
}

#[tokio::test]
async fn what_came_before_a_break_is_imported_and_the_job_has_failed() {
    let api = Api::with(open().request_timeout(Duration::from_millis(300))).await;
    let broken =
        stream::iter([Ok(part(1)), Ok(part(2)), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
    let stalled = stream::iter([Ok::<_, std::io::Error>(part(3))]).chain(stream::pending());
    for (body, inserted) in [(Body::from_stream(broken), 2), (Body::from_stream(stalled), 1)] {
        let data = import(&api, "", "application/x-ndjson", body).await.ok(200).data();
        assert_eq!(data["inserted"], inserted, "{data}");
        assert!(data["ended_early"]["reason"].is_string(), "{data}");
        let job = jobs(&api).await.remove(0);
        assert_eq!(job.state, JobState::Failed);
        assert!(job.last_error.unwrap().starts_with("it ended early"));
    }
    assert_eq!(titles(&api).await, ["P1", "P2", "P3"]);
}

/// The request is dropped, as the server does when the client closes its connection.
#[tokio::test]
async fn an_import_whose_client_goes_away_records_its_end() {
    let api = Api::new().await;
    let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(part(1))]).chain(stream::pending()));
    let request = Request::post(format!("{API}/ingest/products")).body(body).unwrap();
    let call = tokio::spawn(api.router.clone().oneshot(request));
    while jobs(&api).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    call.abort();
    let _ = call.await;
    let end = async {
        while jobs(&api).await[0].state == JobState::Running {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), end).await.expect("the job must end");
    assert_eq!(jobs(&api).await[0].state, JobState::Failed);
    assert_eq!(titles(&api).await, ["P1"]);
}
