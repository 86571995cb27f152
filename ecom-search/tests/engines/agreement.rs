//! Every engine finds what Tantivy finds: the same products, totals and facets, in the same order where the order does
//! not depend on how rare a word is.

use std::collections::BTreeSet;

use ecom_core::catalog::{AvailabilityStatus, ProductStatus};
use ecom_core::id::ProductId;
use ecom_core::money::{Currency, Money};
use ecom_core::port::{IndexOp, SearchDocument, SearchProvider, SearchResults};
use ecom_core::search::{
    Boost, Facet, Language, Matching, SearchFilter, SearchQuery, SearchRequest, SearchSort, Synonym, Synonyms,
};
use ecom_search::{TantivyOptions, TantivySearch};

use crate::corpus::{documents, products};
use crate::documents::{apply, at};

/// Texts as shoppers type them.
const TEXTS: &[&str] = &[
    "",
    "lamp",
    "lamps",
    "running shoes",
    "runner",
    "t-shirt",
    "tshirt",
    "t shirt",
    "wi-fi",
    "wifi router",
    "usb 3.1",
    "usb3.1 hub",
    "head phones",
    "headphones wireless",
    "hedphones",
    "key board",
    "keyboard cable",
    "cheap kettle",
    "sneakers for kids",
    "red dress size m",
    "iphone case black",
    "4k tv 55",
    "500ml bottle",
    "500 ml",
    "coffe",
    "coffee mug",
    "chef's knife",
    "chefs knife",
    "café table",
    "c++",
    "!?",
    "LAN-1552",
    "lan1552",
    "1552",
    "the",
    "for the kitchen",
    "water bottle steel",
    "stainless steel water bottle 500 ml with straw",
    "garden chair",
    "gardn chiar",
    "organic green tea",
    "yoga mat",
    "desk lamp led",
    "led",
    "noise cancelling",
    "noise-cancelling head-pho",
    "cell phone",
    "sofa",
    "zzzzzz",
    "zzzzzz lamp",
    "a very long text of many words that a shopper pastes from some other page about a wireless keyboard and a mouse",
];

fn ids(results: &SearchResults) -> Vec<ProductId> {
    results.hits.iter().map(|hit| hit.id).collect()
}

/// Returns every text with every kind of request.
fn requests(documents: &[SearchDocument]) -> Vec<SearchRequest> {
    let synonyms = Synonyms::new(
        &[
            Synonym::two_way(["sofa", "couch"]),
            Synonym::two_way(["cell phone", "mobile phone", "smartphone"]),
            Synonym::two_way(["sneakers", "trainers", "running shoes"]),
        ],
        Language::English,
    )
    .unwrap();
    let usd = |minor| Some(Money::from_minor(minor, Currency::USD));
    let brand = documents.iter().find_map(|d| d.brand.clone()).unwrap();
    let tag = documents.iter().find_map(|d| d.tags.first().cloned()).unwrap();
    let category = documents.iter().find_map(|d| d.categories.last()).unwrap().id;
    let filters = [
        SearchFilter::default(),
        SearchFilter { min_price: usd(100), max_price: usd(600), ..SearchFilter::default() },
        SearchFilter {
            brands: vec![brand.to_uppercase()],
            availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::Limited],
            ..SearchFilter::default()
        },
        SearchFilter {
            tags: vec![tag],
            categories: vec![category],
            min_rating: Some(100),
            status: Some(ProductStatus::Active),
            ..SearchFilter::default()
        },
    ];
    let by = SearchSort::Relevance;
    let mut requests = Vec::new();
    for (n, text) in TEXTS.iter().enumerate() {
        for (kind, filter) in filters.iter().enumerate() {
            let query = SearchQuery {
                text: (*text).to_owned(),
                filter: filter.clone(),
                // Every second one is by relevance.
                sort: if (n + kind) % 2 == 0 { by } else { SearchSort::ALL[(n + kind) % SearchSort::ALL.len()] },
                facets: if kind == 1 { Vec::new() } else { Facet::ALL.to_vec() },
                price_bounds: vec![0, 200, 500],
                offset: if kind == 2 { 3 } else { 0 },
                limit: if kind == 0 { 500 } else { 20 },
            };
            let mut request = SearchRequest::new(query, &synonyms).unwrap();
            if kind == 3 {
                request.pinned = documents.iter().take(3).map(|d| d.id).collect();
                request.hidden = documents.iter().skip(3).step_by(5).map(|d| d.id).collect();
                let filter = SearchFilter { min_price: usd(500), ..SearchFilter::default() };
                request.boosts = vec![Boost { filter: filter.clone(), factor: 0.2 }, Boost { filter, factor: 0.3 }];
            }
            if (n + kind) % 7 == 0 {
                request.matching = Matching::All;
            } else if (n + kind) % 7 == 1 {
                request = request.for_any_word();
            }
            requests.push(request);
        }
    }
    requests
}

async fn load(provider: &dyn SearchProvider, documents: &[SearchDocument]) {
    assert!(provider.acquire_writer().await.unwrap());
    let ops = documents.iter().map(|d| IndexOp::Upsert(Box::new(d.clone()))).collect();
    assert_eq!(apply(provider, ops, at(1)).await.unwrap(), documents.len() as u64);
}

async fn agrees_with_tantivy(provider: &dyn SearchProvider) {
    let documents = documents(&products("sample/products.ndjson").unwrap());
    let tantivy = TantivySearch::open(TantivyOptions::memory()).await.unwrap();
    load(&tantivy, &documents).await;
    load(provider, &documents).await;
    let requests = requests(&documents);
    let (mut found, mut first) = (0, 0);
    for request in &requests {
        let (one, other) = (tantivy.search(request).await.unwrap(), provider.search(request).await.unwrap());
        let about = format!("{} for {request:?}", provider.name());
        assert_eq!((one.total, one.partial), (other.total, other.partial), "{about}");
        assert_eq!(one.facets, other.facets, "{about}");
        let (one, other) = (ids(&one), ids(&other));
        if request.is_scored() {
            // A word that is rarer by one engine's count may change the order of equal matches.
            if request.query().limit == 500 {
                let set = |ids: &[ProductId]| ids.iter().copied().collect::<BTreeSet<_>>();
                assert_eq!(set(&one), set(&other), "{about}");
            }
            assert_eq!(one.len(), other.len(), "{about}");
            found += usize::from(!one.is_empty());
            first += usize::from(!one.is_empty() && one[0] == other[0]);
        } else {
            assert_eq!(one, other, "{about}");
        }
    }
    println!("{}: {} requests agree; {first} of {found} have the same first hit", provider.name(), requests.len());
    assert!(first * 10 >= found * 8, "{first} of {found} requests have the same first hit");
}

#[cfg(feature = "meilisearch")]
#[tokio::test]
async fn meilisearch_agrees_with_tantivy() {
    let Some(index) = test_servers::meilisearch() else { return };
    agrees_with_tantivy(&crate::corpus::meilisearch(&index)).await;
}

#[cfg(feature = "elasticsearch")]
mod servers {
    use super::agrees_with_tantivy;
    use crate::corpus::server;

    #[tokio::test]
    async fn elasticsearch_agrees_with_tantivy() {
        let index = test_servers::elasticsearch();
        agrees_with_tantivy(&server("elasticsearch", &index)).await;
    }

    #[tokio::test]
    async fn opensearch_agrees_with_tantivy() {
        let index = test_servers::opensearch();
        agrees_with_tantivy(&server("opensearch", &index)).await;
    }
}
