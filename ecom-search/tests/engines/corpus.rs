//! The documents that every engine gets.

use std::fs;
use std::path::Path;

use ecom_core::port::SearchDocument;

use crate::documents::{category, document};

/// Reads products: a JSON array, or one object in each line.
pub(crate) fn products(path: &str) -> Option<Vec<serde_json::Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let Ok(text) = fs::read_to_string(&path) else {
        println!("SKIPPED: {} is not here", path.display());
        return None;
    };
    let lines = || text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Some(serde_json::from_str(&text).unwrap_or_else(|_| lines()))
}

/// Returns the documents of products of our own format or of DummyJSON's.
pub(crate) fn documents(products: &[serde_json::Value]) -> Vec<SearchDocument> {
    let of = |(n, p): (u128, &serde_json::Value)| {
        let text = |name: &str| p[name].as_str().map(str::to_owned);
        let texts = |name: &str| -> Vec<String> {
            p[name].as_array().into_iter().flatten().filter_map(|v| Some(v.as_str()?.to_owned())).collect()
        };
        let path = text("category").or_else(|| texts("categories").into_iter().next()).unwrap_or_default();
        SearchDocument {
            brand: text("brand"),
            tags: texts("tags"),
            categories: (1..).zip(path.rsplit('/')).map(|(n, name)| category(n, name)).collect(),
            description: text("description"),
            title: text("title").unwrap(),
            ..document(n, 1)
        }
    };
    (1..).zip(products).map(of).collect()
}

/// Opens an index of a search server.
#[cfg(feature = "elasticsearch")]
pub(crate) fn server(product: &str, index: &test_servers::TestIndex) -> ecom_search::ElasticsearchSearch {
    let url = format!("{product}+{}?index={}&replicas=0&search_timeout_ms=60000", index.url, index.name);
    let options = ecom_search::ElasticsearchOptions::from_url(&url).unwrap();
    ecom_search::ElasticsearchSearch::open(options).unwrap()
}

/// Opens an index of a Meilisearch server.
#[cfg(feature = "meilisearch")]
pub(crate) fn meilisearch(index: &test_servers::TestMeilisearch) -> ecom_search::MeilisearchSearch {
    let url = format!("meilisearch+{}?index={}&search_timeout_ms=60000", index.url, index.name);
    let options = ecom_search::MeilisearchOptions::from_url(&url).unwrap();
    ecom_search::MeilisearchSearch::open(options).unwrap()
}
