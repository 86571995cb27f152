//! Filters restrict a search.

use serde_json::json;

use super::SearchFixture;
use super::support::{
    catalog, category, filtered, has_text, hits, hits_are, load, refused, skip, strings, titled, within,
};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery};
use crate::port::search::SearchDocument;
use crate::testkit::check::same;
use crate::testkit::sample::usd;

tests! {
    __search_filters: [
        r06_category_filter_takes_the_subtree,
        filters_hold_all_together,
        filters_narrow_a_text,
        attributes_filter_by_their_json_text,
    ]
}

/// R6: a document contains the ancestors of its categories, and a filter by any of them finds it.
pub async fn r06_category_filter_takes_the_subtree(f: SearchFixture) {
    let provider = &*f.provider;
    let (root, audio, phones, garden) = (category(1), category(2), category(3), category(4));
    load(
        provider,
        vec![
            SearchDocument { categories: within(&[root]), price: Some(1), ..titled(1, "a") },
            SearchDocument { categories: within(&[audio, root]), price: Some(2), ..titled(2, "b") },
            SearchDocument { categories: within(&[phones, audio, root, root]), price: Some(3), ..titled(3, "c") },
            SearchDocument { categories: within(&[garden]), price: Some(4), ..titled(4, "d") },
            SearchDocument { price: Some(5), ..titled(5, "e") },
        ],
    )
    .await;
    for (categories, expected) in [
        (vec![root], vec![1, 2, 3]),
        (vec![audio], vec![2, 3]),
        (vec![phones], vec![3]),
        (vec![phones, garden], vec![3, 4]),
        (vec![category(9)], vec![]),
        (vec![], vec![1, 2, 3, 4, 5]),
    ] {
        let query = filtered(SearchFilter { categories: categories.clone(), ..SearchFilter::default() });
        let contract = "A filter by categories finds the documents that contain at least one of them.";
        same(hits(provider, &query).await, expected, contract, format_args!("{categories:?}"));
    }
}

/// Uses every filter with its bounds, and all filters together.
pub async fn filters_hold_all_together(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, catalog()).await;
    let none = SearchFilter::default;
    let texts = |b: &[&str]| b.iter().map(|b| (*b).to_owned()).collect::<Vec<_>>();
    for (filter, expected) in [
        (SearchFilter { brands: texts(&["strasse"]), ..none() }, vec![1, 2]),
        (SearchFilter { brands: texts(&[" BOREA ", "café"]), ..none() }, vec![3, 4, 5]),
        (SearchFilter { brands: texts(&["cafe"]), ..none() }, vec![]),
        (SearchFilter { brands: texts(&["bor"]), ..none() }, vec![]),
        (SearchFilter { tags: texts(&["RED"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: texts(&["red", "New"]), ..none() }, vec![1, 4]),
        (SearchFilter { tags: texts(&["red", "red"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: texts(&["red", "blue"]), ..none() }, vec![]),
        (SearchFilter { min_price: Some(usd(1_000)), max_price: Some(usd(2_000)), ..none() }, vec![2, 3, 4]),
        (SearchFilter { min_price: Some(usd(2_001)), ..none() }, vec![5]),
        (SearchFilter { max_price: Some(usd(999)), ..none() }, vec![1]),
        (
            SearchFilter { min_price: Some(usd(i64::MIN)), max_price: Some(usd(i64::MAX)), ..none() },
            vec![1, 2, 3, 4, 5],
        ),
        (SearchFilter { min_price: Some(usd(1_001)), max_price: Some(usd(1_499)), ..none() }, vec![]),
        (SearchFilter { availability: vec![AvailabilityStatus::OutOfStock], ..none() }, vec![3, 6]),
        (
            SearchFilter { availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::Limited], ..none() },
            vec![1, 2, 4, 5],
        ),
        (SearchFilter { min_rating: Some(400), ..none() }, vec![1, 2, 5]),
        (SearchFilter { status: Some(ProductStatus::Active), ..none() }, vec![1, 2, 3, 6]),
        (SearchFilter { status: Some(ProductStatus::Draft), ..none() }, vec![4]),
        (SearchFilter { status: Some(ProductStatus::Archived), ..none() }, vec![5]),
        (
            SearchFilter {
                categories: vec![category(2), category(3)],
                brands: texts(&["strasse", "borea"]),
                tags: texts(&["new"]),
                min_price: Some(usd(500)),
                max_price: Some(usd(1_999)),
                availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::OutOfStock],
                min_rating: Some(399),
                status: Some(ProductStatus::Active),
                ..none()
            },
            vec![1, 3],
        ),
    ] {
        let query = filtered(filter);
        let contract = "A hit matches all filters: one of the brands, all of the tags, and inclusive bounds. Texts are \
                        compared as a whole and without case.";
        same(hits(provider, &query).await, &*expected, contract, format_args!("{query:?}"));
        if provider.capabilities().facets {
            let counting = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..query };
            let contract = "A request for facets does not change the hits.";
            same(hits(provider, &counting).await, &*expected, contract, format_args!("{counting:?}"));
        }
    }
}

/// Hits match both the text and the filters.
pub async fn filters_narrow_a_text(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "filters").await {
        return;
    }
    let mut documents = catalog();
    documents.push(SearchDocument { brand: Some("Borea".into()), ..titled(7, "Kettle") });
    load(provider, documents).await;
    let filter = SearchFilter { brands: strings(["borea"]), ..SearchFilter::default() };
    let of = |text: &str| SearchQuery { text: text.into(), ..filtered(filter.clone()) };
    let contract = "A hit matches both the text and the filters.";
    hits_are(provider, &of("lamp"), [3, 4], contract).await;
    hits_are(provider, &of("kettle"), [7], contract).await;
    hits_are(provider, &of("kettle lamp"), [], contract).await;
}

/// Top-level attributes are compared by their JSON text, ignoring case.
pub async fn attributes_filter_by_their_json_text(f: SearchFixture) {
    let provider = &*f.provider;
    let by = |name: &str, value: &str| {
        filtered(SearchFilter { attributes: vec![(name.to_owned(), value.to_owned())], ..SearchFilter::default() })
    };
    if !provider.capabilities().attribute_filters {
        refused(provider, &by("color", "red"), "attribute_filters").await;
        return skip("filters", "attribute_filters");
    }
    let with = |n: u128, value: serde_json::Value| SearchDocument {
        attributes: serde_json::from_value(value).unwrap(),
        price: Some(i64::try_from(n).unwrap()),
        ..titled(n, "x")
    };
    load(
        provider,
        vec![
            with(1, json!({"color": "Red", "size": 42, "organic": true})),
            with(2, json!({"color": "Dark red", "size": 4.5, "organic": false})),
            with(3, json!({"colour": "red", "inner": {"color": "red"}, "size": "42"})),
        ],
    )
    .await;
    let contract = "An attribute filter matches a top-level attribute with that name and that value, ignoring case.";
    hits_are(provider, &by("color", "RED"), [1], contract).await;
    hits_are(provider, &by("color", "dark RED"), [2], contract).await;
    hits_are(provider, &by("color", "dark"), [], "An attribute filter does not match a part of a value.").await;
    let contract = "An attribute that is not a string is compared by its JSON text.";
    hits_are(provider, &by("size", "42"), [1, 3], contract).await;
    hits_are(provider, &by("size", "4.5"), [2], contract).await;
    hits_are(provider, &by("organic", "true"), [1], contract).await;
    let both = SearchFilter {
        attributes: vec![("color".into(), "red".into()), ("organic".into(), "false".into())],
        ..SearchFilter::default()
    };
    hits_are(provider, &filtered(both), [], "A hit matches all attributes of the filter.").await;
}
