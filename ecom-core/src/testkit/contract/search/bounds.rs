//! A provider supports every query within the bounds of [`SearchQuery::check`] (R17).

use super::SearchFixture;
use super::support::{
    catalog, category, exactly, facet, filtered, finds, has_text, hits, hits_are, load, search, skip, text, titled,
};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery, SearchSort};
use crate::testkit::check::same;
use crate::testkit::sample::usd;

tests! {
    __search_bounds: [
        r17_a_page_holds_as_many_hits_as_the_port_allows,
        r17_the_deepest_page_is_answered,
        r17_the_longest_lists_of_a_filter_are_answered,
        r17_the_most_price_ranges_are_counted,
        r17_the_longest_text_is_searched,
    ]
}

/// A page has as many hits as the query requests, up to the limit of the port.
pub async fn r17_a_page_holds_as_many_hits_as_the_port_allows(f: SearchFixture) {
    let provider = &*f.provider;
    let n = u128::from(SearchQuery::MAX_LIMIT) + 5;
    load(provider, (1..=n).map(|i| titled(i, "Lamp")).collect()).await;
    let contract = "A page has `limit` hits, up to 1,000, if so many matches follow the `offset`.";
    for sort in [SearchSort::Relevance, SearchSort::PriceAsc] {
        for (offset, limit, expected) in [(0, 1_000, 1_000), (0, 101, 101), (3, 750, 750), (900, 1_000, 105)] {
            let query = SearchQuery { sort, offset, limit, ..text("") };
            let found = search(provider, &query).await;
            same(found.hits.len(), expected, contract, format_args!("{query:?} over {n} matches"));
            same(found.total, exactly(1_005), "The total counts all matches.", format_args!("{query:?}"));
        }
    }
}

/// A page after the last match is empty and has the total.
pub async fn r17_the_deepest_page_is_answered(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![titled(1, "Lamp")]).await;
    let query = SearchQuery { offset: SearchQuery::MAX_OFFSET, limit: SearchQuery::MAX_LIMIT, ..text("") };
    let found = search(provider, &query).await;
    let contract = "A page past the last match is empty, and its total still counts all matches.";
    same((found.hits.len(), found.total), (0, exactly(1)), contract, format_args!("{query:?}"));
}

/// Each list of a filter has 64 values, and numbers have their smallest and largest values.
pub async fn r17_the_longest_lists_of_a_filter_are_answered(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![catalog().remove(0)]).await;
    let none = SearchFilter::default;
    let max = SearchQuery::MAX_FILTER_VALUES;
    let many = |last: &str| {
        let mut values: Vec<String> = (1..max).map(|n| format!("other {n}")).collect();
        values.push(last.to_owned());
        values
    };
    let categories = (2..).map(category).take(max).collect();
    let availability = [AvailabilityStatus::OutOfStock, AvailabilityStatus::InStock].repeat(max / 2);
    let long = "x".repeat(SearchQuery::MAX_FILTER_TEXT);
    let contract =
        "A filter with the maximum number and length of values that the port allows works like a shorter one.";
    for (filter, found) in [
        (SearchFilter { categories, ..none() }, true),
        (SearchFilter { brands: many("strasse"), ..none() }, true),
        (SearchFilter { brands: vec![long.clone()], ..none() }, false),
        (SearchFilter { tags: vec!["red".to_owned(); max], ..none() }, true),
        (SearchFilter { tags: many("red"), ..none() }, false),
        (SearchFilter { tags: vec![long], ..none() }, false),
        (SearchFilter { availability, ..none() }, true),
        (SearchFilter { min_rating: Some(0), ..none() }, true),
        (SearchFilter { min_rating: Some(SearchQuery::MAX_RATING), ..none() }, false),
        (SearchFilter { min_price: Some(usd(i64::MIN)), max_price: Some(usd(i64::MAX)), ..none() }, true),
    ] {
        let query = filtered(filter);
        let n = hits(provider, &query).await.len();
        same(n, usize::from(found), contract, format_args!("the number of hits of {query:?}"));
    }
    if !provider.capabilities().attribute_filters {
        return skip("bounds", "attribute_filters");
    }
    let attributes = (0..max).map(|n| (format!("name {n}"), "value".to_owned())).collect();
    hits_are(provider, &filtered(SearchFilter { attributes, ..none() }), [], contract).await;
}

/// The query has a hundred price ranges.
pub async fn r17_the_most_price_ranges_are_counted(f: SearchFixture) {
    let provider = &*f.provider;
    if !provider.capabilities().facets {
        return skip("bounds", "facets");
    }
    load(provider, vec![titled(1, "Lamp")]).await;
    let price_bounds: Vec<i64> = (0..).map(|n| 950 + n).take(SearchQuery::MAX_PRICE_BOUNDS).collect();
    let query = SearchQuery { facets: vec![Facet::Prices], price_bounds, ..text("") };
    let found = search(provider, &query).await;
    let contract = "Each price counts in the range of the highest bound that is not above it.";
    same(facet(&found, Facet::Prices), [("1000", 1)], contract, format_args!("{query:?}"));
}

/// The text has the maximum number of characters and words.
pub async fn r17_the_longest_text_is_searched(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "bounds").await {
        return;
    }
    let word = "x".repeat(20);
    load(provider, vec![titled(1, "Lamp"), titled(2, &word)]).await;
    let contract = "A text of at most 512 characters and 32 words is searched and not refused.";
    finds(provider, &"lamp ".repeat(SearchQuery::MAX_WORDS), [1], contract).await;
    finds(provider, &format!("{word} ").repeat(24), [2], contract).await;
    finds(provider, &"y".repeat(SearchQuery::MAX_TEXT), [], contract).await;
    finds(provider, &"ö".repeat(SearchQuery::MAX_TEXT), [], contract).await;
    finds(provider, &"z-".repeat(SearchQuery::MAX_WORDS), [], contract).await;
}
