use crate::support::Api;
#[tokio::test]
async fn dump() {
    let api = Api::new().await;
    let doc = api.call("GET", "/openapi.json", &[], None).await.ok(200).json();
    std::fs::write(std::env::var("DUMP").unwrap_or("/tmp/oa/x.json".into()), serde_json::to_string_pretty(&doc).unwrap()).unwrap();
}
