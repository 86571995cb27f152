//! Searches with more matches than the adapter ranks at once: 500.

use std::collections::BTreeSet;

use ecom_core::port::{IndexOp, SearchDocument, SearchProvider};
use ecom_core::search::{Boost, Matching, SearchFilter, SearchQuery, SearchRequest, Synonyms};
use ecom_core::testkit::SearchFixture;

use crate::documents::{at, document, product};

const PRODUCTS: u128 = 1_300;
const PAGE: u32 = 325;

/// A third of the lamps is found by their title, a third by a tag, and a third by their description.
fn lamp(n: u128) -> SearchDocument {
    let (title, tag, description) = match n % 3 {
        0 => ("Lamp", "light", None),
        1 => ("Thing", "light", Some("A lamp.".to_owned())),
        _ => ("Thing", "lamps", None),
    };
    SearchDocument {
        title: format!("{title} {n}"),
        tags: vec![tag.to_owned()],
        description,
        categories: Vec::new(),
        ..document(n, 1)
    }
}

fn request(text: &str, offset: u64) -> SearchRequest {
    let query = SearchQuery { text: text.to_owned(), offset, limit: PAGE, ..SearchQuery::default() };
    SearchRequest::new(query, &Synonyms::default()).unwrap()
}

async fn hits(provider: &dyn SearchProvider, request: &SearchRequest) -> Vec<u128> {
    provider.search(request).await.unwrap().hits.into_iter().map(|hit| hit.id.0.as_u128()).collect()
}

/// Returns the hits of all pages, and checks that each product is on one of them, that the counts are the same on each,
/// and that scores fall.
async fn pages(provider: &dyn SearchProvider, text: &str, matches: u64) -> Vec<u128> {
    let (mut all, mut last) = (Vec::new(), f32::MAX);
    let count = u64::try_from(PRODUCTS).unwrap();
    for offset in (0..count).step_by(PAGE as usize) {
        let found = provider.search(&request(text, offset)).await.unwrap();
        assert_eq!((found.total.count, found.partial), (matches, count - matches), "{text} after {offset}");
        assert_eq!(found.hits.len(), PAGE as usize, "{text} after {offset}");
        for hit in found.hits {
            assert!(hit.score <= last, "{text} after {offset}: {} after {last}", hit.score);
            last = hit.score;
            all.push(hit.id.0.as_u128());
        }
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each product is on one page");
    all
}

pub(crate) async fn more_matches_than_are_ranked_at_once(f: SearchFixture) {
    let provider = &*f.provider;
    let ops = (1..=PRODUCTS).map(|n| IndexOp::Upsert(Box::new(lamp(n)))).collect();
    provider.apply(ops, None, at(1)).await.unwrap().unwrap();
    let titles = usize::try_from(PRODUCTS / 3).unwrap();
    let all = pages(provider, "lamp", u64::try_from(PRODUCTS).unwrap()).await;
    assert!(all[..titles].iter().all(|n| n % 3 == 0), "matches in the title come first: {:?}", &all[..titles]);
    assert_eq!(all[0], 3, "equal ones are ordered by id");
    // Products with most of the words are as many.
    let all = pages(provider, "zebra lamp", 0).await;
    assert!(all[..titles].iter().all(|n| n % 3 == 0), "matches in the title come first: {:?}", &all[..titles]);
    let mut pinned = request("lamp", 0);
    pinned.pinned = vec![product(1_300), product(1)];
    let found = hits(provider, &pinned).await;
    assert_eq!((&found[..2], found[2]), (&[1_300, 1][..], 3));
    let mut boosted = request("lamp", 0);
    let filter = SearchFilter { brands: vec!["brand 3".to_owned()], ..SearchFilter::default() };
    boosted.boosts = vec![Boost { filter, factor: 10.0 }];
    let found = hits(provider, &boosted).await;
    assert!(found[..186].iter().all(|n| n % 7 == 3), "the 186 products that are boosted come first: {found:?}");
    let mut any = request("lamp thing", 0);
    any.matching = Matching::Any;
    let found = hits(provider, &any).await;
    assert!(found.iter().all(|n| n % 3 != 0), "products with both words come first: {found:?}");
}
