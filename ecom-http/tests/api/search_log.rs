//! The search log: texts that are searched for, and those that find nothing.

use std::time::Duration;

use ecom_core::access::{Permission, Principal};
use ecom_http::HttpConfig;
use serde_json::{Value, json};

use crate::support::{API, Answer, Api, column, golden, kept_private, lamp};

const POPULAR: &str = "/analytics/search-terms";
const WITHOUT: &str = "/analytics/zero-results";

/// Returns an API whose shop has a lamp, after these searches.
async fn searched(texts: &[&str]) -> Api {
    let api = Api::new().await;
    api.product(lamp()).await;
    api.shop.index().catch_up().await.unwrap();
    search(&api, texts).await;
    api
}

async fn search(api: &Api, texts: &[&str]) {
    for text in texts {
        api.get(&format!("/products/search?q={}", text.replace(' ', "+"))).await.ok(200);
    }
    api.shop.search_log().flush().await.unwrap();
}

/// Returns the texts and their searches.
fn counted(list: &Answer) -> Vec<(String, u64)> {
    let rows = list.data();
    let row = |row: &Value| (row["query"].as_str().unwrap().to_owned(), row["searches"].as_u64().unwrap());
    rows.as_array().unwrap().iter().map(row).collect()
}

fn has(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    counts.iter().map(|(text, n)| ((*text).to_owned(), *n)).collect()
}

#[tokio::test]
async fn searches_are_listed_by_their_number() {
    let api = searched(&["desk", "Lamp", "zebra", "zebra", "lamp", "LAMP", "huge lamp"]).await;
    api.get("/products/search?q=lamp&page=2").await.ok(200);
    api.get("/products/search?q=zebra&analytics=false").await.ok(200);
    api.get("/products/search").await.ok(200);
    api.get("/products/suggest?q=lamp").await.ok(200);
    search(&api, &[]).await;
    let list = kept_private(api.get(POPULAR).await.ok(200));
    assert_eq!(counted(&list)[..2], has(&[("LAMP", 3), ("zebra", 2)]));
    assert_eq!(list.json()["meta"]["pagination"]["total"], 4);
    golden("search_term", &list.data()[1]);
    let partial = list.data().as_array().unwrap().iter().find(|row| row["query"] == "huge lamp").cloned();
    assert_eq!(partial, Some(json!({"query": "huge lamp", "searches": 1, "without_result": 0, "partial_result": 1})));
    let list = kept_private(api.get(WITHOUT).await.ok(200));
    assert_eq!(list.data(), json!([{"query": "zebra", "searches": 2, "without_result": 2, "partial_result": 0}]));
    let picked = api.get(&format!("{WITHOUT}?fields=query")).await.ok(200).data();
    assert_eq!(picked, json!([{"query": "zebra"}]));
}

#[tokio::test]
async fn searches_are_listed_by_day_and_default_to_30_days() {
    // The clock starts at 2025-06-15.
    let api = searched(&["lamp"]).await;
    api.clock.advance(Duration::from_secs(29 * 86_400));
    search(&api, &["lamp", "rug"]).await;
    let of = async |query: &str| {
        let mut list = counted(&api.get(&format!("{POPULAR}{query}")).await.ok(200));
        list.sort();
        list
    };
    assert_eq!(of("").await, has(&[("lamp", 2), ("rug", 1)]));
    assert_eq!(of("?from=2025-06-16").await, has(&[("lamp", 1), ("rug", 1)]));
    assert_eq!(of("?to=2025-07-13").await, has(&[("lamp", 1)]));
    assert_eq!(of("?from=2025-06-15&to=2025-06-15").await, has(&[("lamp", 1)]));
    assert_eq!(of("?to=2025-06-14").await, has(&[]));
    api.clock.advance(Duration::from_secs(86_400));
    assert_eq!(of("").await, has(&[("lamp", 1), ("rug", 1)]));
    assert_eq!(of("?to=2025-07-14").await, has(&[("lamp", 2), ("rug", 1)]));
}

#[tokio::test]
async fn searches_are_paged_both_ways() {
    let texts: Vec<String> = (0..7).map(|n| format!("zebra {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let api = searched(&texts).await;
    search(&api, &["zebra 3", "zebra 3", "zebra 5"]).await;
    for path in [POPULAR, WITHOUT] {
        let all = column(&api.get(path).await.ok(200), "query");
        assert_eq!((all.len(), &all[..2]), (7, ["zebra 3".to_owned(), "zebra 5".to_owned()].as_slice()));
        assert_eq!(column(&api.get(&format!("{path}?page=2&per_page=3")).await.ok(200), "query"), all[3..6]);
        assert_eq!(column(&api.get(&format!("{path}?skip=6&limit=3")).await.ok(200), "query"), all[6..]);
        let (mut found, mut next) = (Vec::new(), format!("{path}?cursor=&per_page=3"));
        for _ in 0..4 {
            let page = api.get(&next).await.ok(200);
            found.extend(column(&page, "query"));
            match page.json()["links"]["next"].as_str() {
                Some(link) => next = link.trim_start_matches(API).to_owned(),
                None => break,
            }
        }
        assert_eq!(found, all);
    }
    let page = api.get(&format!("{POPULAR}?cursor=&per_page=3")).await.ok(200).json();
    let cursor = page["meta"]["pagination"]["next_cursor"].as_str().unwrap().to_owned();
    api.get(&format!("{WITHOUT}?cursor={cursor}")).await.refused(400, "BAD_REQUEST", "cursor");
}

#[tokio::test]
async fn r17_bad_parameters_are_named() {
    let api = Api::new().await;
    for path in [POPULAR, WITHOUT] {
        let get = async |query: &str| api.get(&format!("{path}?{query}")).await;
        for bad in ["yesterday", "2025-6-1", "2025-02-30", "0000-01-01", "2025-06-01T00:00:00Z", ""] {
            get(&format!("from={bad}")).await.refused(400, "BAD_REQUEST", "from");
            get(&format!("to={bad}")).await.refused(400, "BAD_REQUEST", "to");
        }
        get("from=x&to=y&fields=id").await.refused(400, "BAD_REQUEST", "to");
        get("from=2025-06-02&to=2025-06-01").await.refused(422, "VALIDATION_FAILED", "from");
        get("from=2025-06-16").await.refused(422, "VALIDATION_FAILED", "from");
        get("day=2025-06-01").await.refused(400, "BAD_REQUEST", "day");
        get("from=2025-06-01&from=2025-06-02").await.refused(400, "BAD_REQUEST", "from");
        get("per_page=0").await.refused(422, "VALIDATION_FAILED", "per_page");
        get("cursor=x").await.refused(400, "BAD_REQUEST", "cursor");
        get("fields=id").await.refused(400, "BAD_REQUEST", "fields");
        api.write("POST", path, json!({})).await.refused(405, "METHOD_NOT_ALLOWED", "");
    }
}

#[tokio::test]
async fn analytics_need_their_permission() {
    let others = Permission::ALL.iter().copied().filter(|p| *p != Permission::AnalyticsRead);
    let api = Api::with(HttpConfig::default().anonymous(Principal::new("user:1", others))).await;
    for path in [POPULAR, WITHOUT] {
        let refused = api.get(path).await.refused(403, "FORBIDDEN", "").json();
        assert!(refused["error"]["message"].as_str().unwrap().contains("analytics:read"), "{refused}");
    }
    let api = Api::with(HttpConfig::default().anonymous(Principal::new("user:1", [Permission::AnalyticsRead]))).await;
    assert_eq!(api.get(POPULAR).await.ok(200).data(), json!([]));
    let root = api.call("GET", "/", &[], None).await.ok(200).json();
    assert_eq!(
        (&root["links"]["search_terms"], &root["links"]["zero_results"]),
        (&json!(format!("{API}{POPULAR}")), &json!(format!("{API}{WITHOUT}")))
    );
}
