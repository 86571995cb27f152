//! The adapter of Elasticsearch and OpenSearch: the suite of the port on both, and what this adapter promises by
//! itself.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

#[path = "../support/documents.rs"]
mod documents;
mod faults;
mod outages;
#[path = "../support/proxy.rs"]
mod proxy;

use std::future::ready;

use ecom_core::testkit::SearchFixture;
use ecom_search::{ElasticsearchOptions, ElasticsearchSearch};
use test_servers::TestIndex;

fn on(product: &str, index: TestIndex) -> SearchFixture {
    let url = format!("{product}+{}?index={}&replicas=0&search_timeout_ms=60000", index.url, index.name);
    let open = move || ElasticsearchSearch::open(ElasticsearchOptions::from_url(&url).unwrap()).unwrap();
    SearchFixture::new(open(), index).reopen_with(move || ready(open()))
}

async fn on_elasticsearch() -> SearchFixture {
    on("elasticsearch", test_servers::elasticsearch())
}

async fn on_opensearch() -> SearchFixture {
    on("opensearch", test_servers::opensearch())
}

mod elasticsearch {
    ecom_core::search_suite!(crate::on_elasticsearch);
}

mod opensearch {
    ecom_core::search_suite!(crate::on_opensearch);
}
