//! Known items are among the first three hits, in our own sample catalog and in DummyJSON's products. The latter are in
//! ../shared/data, which is not a part of this project; where they are missing, they are not measured. By default,
//! every fifth product of the sample is searched for, and with `ECOM_RELEVANCE=all` each.

use ecom_core::port::SearchProvider;
use ecom_core::testkit::relevance::relevance;

use crate::corpus::{documents, products};

async fn known_items_are_found_in(path: &str, step: usize, provider: &dyn SearchProvider) {
    let Some(products) = products(path) else { return };
    for found in relevance(provider, &documents(&products), step).await.unwrap() {
        println!("{} in {path}: {found}", provider.name());
        assert!(found.queries > 20 && found.percent() >= 95.0, "{} in {path}: {found}", provider.name());
    }
}

const SAMPLE: &str = "sample/products.ndjson";
const DUMMYJSON: &str = "../shared/data/dummyjson-products.json";

fn step() -> usize {
    if std::env::var_os("ECOM_RELEVANCE").is_some() { 1 } else { 5 }
}

#[cfg(feature = "tantivy")]
#[tokio::test]
async fn known_items_are_found_by_tantivy() {
    use ecom_search::{TantivyOptions, TantivySearch};

    for (path, step) in [(SAMPLE, step()), (DUMMYJSON, 1)] {
        let provider = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
        known_items_are_found_in(path, step, &provider).await;
    }
}

#[cfg(feature = "meilisearch")]
#[tokio::test]
async fn known_items_are_found_by_meilisearch() {
    for (path, step) in [(SAMPLE, step()), (DUMMYJSON, 1)] {
        let Some(index) = test_servers::meilisearch() else { return };
        known_items_are_found_in(path, step, &crate::corpus::meilisearch(&index)).await;
    }
}

#[cfg(feature = "elasticsearch")]
mod servers {
    use super::*;
    use crate::corpus::server;

    async fn known_items_are_found_by(product: &str, index: fn() -> test_servers::TestIndex) {
        for (path, step) in [(SAMPLE, step()), (DUMMYJSON, 1)] {
            let index = index();
            known_items_are_found_in(path, step, &server(product, &index)).await;
        }
    }

    #[tokio::test]
    async fn known_items_are_found_by_elasticsearch() {
        known_items_are_found_by("elasticsearch", test_servers::elasticsearch).await;
    }

    #[tokio::test]
    async fn known_items_are_found_by_opensearch() {
        known_items_are_found_by("opensearch", test_servers::opensearch).await;
    }
}
