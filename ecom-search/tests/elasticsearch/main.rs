//! The adapter of Elasticsearch and OpenSearch: the suite of the port on both, and what this adapter promises by
//! itself.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

#[path = "../support/documents.rs"]
mod documents;
mod faults;
mod outages;
#[path = "../support/proxy.rs"]
mod proxy;

use ecom_core::testkit::SearchFixture;
use ecom_search::{ElasticsearchOptions, ElasticsearchSearch};
use test_servers::TestIndex;

fn open(product: &str, index: &TestIndex) -> ElasticsearchSearch {
    let url = format!("{product}+{}?index={}&replicas=0&search_timeout_ms=60000", index.url, index.name);
    ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap()
}

async fn on_elasticsearch() -> SearchFixture {
    let index = test_servers::elasticsearch();
    SearchFixture::new(open("elasticsearch", &index), index)
}

async fn on_opensearch() -> SearchFixture {
    let index = test_servers::opensearch();
    SearchFixture::new(open("opensearch", &index), index)
}

mod elasticsearch {
    ecom_core::search_suite!(crate::on_elasticsearch);
}

mod opensearch {
    ecom_core::search_suite!(crate::on_opensearch);
}
