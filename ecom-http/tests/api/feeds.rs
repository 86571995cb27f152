//! Feeds over REST: what they show, and polls on request.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::catalog::{Feed, FeedVersion, ImportKind};
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed};
use ecom_core::testkit::shelf::Shelf;
use ecom_http::HttpConfig;
use ecom_search::{TantivyOptions, TantivySearch};
use serde_json::{Value, json};

use crate::support::{API, Api, golden, id, kept_private, open};

/// The name of the feed of these tests.
pub const FEED: &str = "erp";

/// A source with one product, whose version never changes.
#[derive(Debug)]
struct OneProduct;

#[async_trait::async_trait]
impl ImportFeed for OneProduct {
    fn location(&self) -> String {
        "https://erp.example.com/products.json".to_owned()
    }

    fn identity(&self) -> String {
        self.location()
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        let version = FeedVersion::new("1");
        if known == version.as_ref() {
            return Ok(Fetched::Unchanged);
        }
        let text = r#"[{"external_id": "1", "title": "Lamp", "price": "5.00", "sku": "LAMP"}]"#;
        Ok(Fetched::Changed(FeedContent::from_reader(version, Cursor::new(text))))
    }
}

/// Returns the feed.
pub fn feed() -> Feed {
    Feed::new(FEED, ImportKind::Products, Arc::new(OneProduct)).every(Duration::from_secs(60))
}

/// Returns an API whose shop has a feed, and takes uploads of images.
pub async fn with_feed(config: HttpConfig) -> Api {
    let search = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
    Api::changed(config, Arc::new(search), |parts| {
        parts.feeds = vec![feed()];
        parts.media = Some(Shelf::new().media());
    })
    .await
}

/// Waits until the feed is as it should be, and returns it.
async fn reaches(api: &Api, is_there: impl Fn(&Value) -> bool) -> Value {
    let start = std::time::Instant::now();
    loop {
        let feed = api.get("/admin/feeds/erp").await.ok(200).data();
        if is_there(&feed) {
            return feed;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "the feed must be polled: {feed}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_feed_is_shown_and_polled_on_request() {
    let api = with_feed(open()).await;
    let new = kept_private(api.get("/admin/feeds/erp").await.ok(200)).data();
    golden("feed", &new);
    let list = kept_private(api.get("/admin/feeds").await.ok(200));
    assert_eq!(list.data(), json!([new]));
    assert_eq!(
        api.get("/admin/feeds?fields=name,failures").await.ok(200).data(),
        json!([{"name": FEED, "failures": 0}])
    );

    let background = api.shop.start();
    let imported = reaches(&api, |feed| !feed["imported_at"].is_null()).await;
    assert_eq!((&imported["running"], &imported["failures"]), (&json!(false), &json!(0)));
    let job = imported["last_job_id"].as_str().unwrap();
    let job = api.get(&format!("/admin/jobs/{job}")).await.ok(200).data();
    assert_eq!(job["counters"], json!({"read": 1, "inserted": 1}));

    // The clock stands still, so that only a request makes the feed due.
    let run = api.call("POST", &format!("{API}/admin/feeds/erp/run"), &[], None).await.ok(202);
    assert_eq!(run.header("location"), format!("{API}/admin/feeds/erp"));
    let requested = run.data();
    assert_eq!((id(&requested), &requested["polled_at"]), (id(&imported), &imported["polled_at"]));
    assert_eq!(requested["next_poll_at"], imported["polled_at"], "it is due now");
    let version = requested["version"].as_i64().unwrap();
    let polled = reaches(&api, |feed| feed["version"].as_i64() > Some(version)).await;
    assert_eq!(polled["next_poll_at"], imported["next_poll_at"], "the next poll comes after the interval");
    assert_eq!(polled["last_job_id"], imported["last_job_id"], "the source has not changed");
    background.shutdown().await;
}

#[tokio::test]
async fn a_feed_that_does_not_exist_is_404() {
    let api = with_feed(open()).await;
    for name in ["shop", &"x".repeat(200), "%00"] {
        api.get(&format!("/admin/feeds/{name}")).await.refused(404, "NOT_FOUND", "");
        let run = format!("{API}/admin/feeds/{name}/run");
        api.call("POST", &run, &[], None).await.refused(404, "NOT_FOUND", "");
    }
    api.get("/admin/feeds/%ff").await.refused(400, "BAD_REQUEST", "name");
    let run = format!("{API}/admin/feeds/erp/run");
    api.call("POST", &run, &[], Some(r#"{"skip": 1}"#)).await.refused(400, "BAD_REQUEST", "skip");
    assert_eq!(Api::new().await.get("/admin/feeds").await.ok(200).data(), json!([]), "a shop without feeds");
}
