//! Filters narrow a search.

use serde_json::json;

use super::support::{catalog, category, filtered, has_text, hits, load, refused, strings, titled};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::error::ErrorCode;
use crate::port::search::{Facet, SearchDocument, SearchFilter, SearchProvider, SearchQuery};

tests! {
    __search_filters: [
        r06_category_filter_takes_the_subtree,
        filters_hold_all_together,
        filters_narrow_a_text,
        attributes_filter_by_their_json_text,
    ]
}

/// R6: documents name the categories above their own; any of those finds them.
pub async fn r06_category_filter_takes_the_subtree(provider: &dyn SearchProvider) {
    let (root, audio, phones, garden) = (category(1), category(2), category(3), category(4));
    load(
        provider,
        vec![
            SearchDocument { categories: vec![root], price: Some(1), ..titled(1, "a") },
            SearchDocument { categories: vec![audio, root], price: Some(2), ..titled(2, "b") },
            SearchDocument { categories: vec![phones, audio, root, root], price: Some(3), ..titled(3, "c") },
            SearchDocument { categories: vec![garden], price: Some(4), ..titled(4, "d") },
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
        assert_eq!(hits(provider, &query).await, expected, "{categories:?}");
    }
}

/// Every filter, its bounds, and all of them at once.
pub async fn filters_hold_all_together(provider: &dyn SearchProvider) {
    load(provider, catalog()).await;
    let none = SearchFilter::default;
    let brands = |b: &[&str]| b.iter().map(|b| (*b).to_owned()).collect::<Vec<_>>();
    for (filter, expected) in [
        (SearchFilter { brands: brands(&["strasse"]), ..none() }, vec![1, 2]),
        (SearchFilter { brands: brands(&[" BOREA ", "café"]), ..none() }, vec![3, 4, 5]),
        (SearchFilter { brands: brands(&["cafe"]), ..none() }, vec![]),
        (SearchFilter { brands: brands(&["bor"]), ..none() }, vec![]),
        (SearchFilter { tags: brands(&["RED"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: brands(&["red", "New"]), ..none() }, vec![1, 4]),
        (SearchFilter { tags: brands(&["red", "red"]), ..none() }, vec![1, 2, 4]),
        (SearchFilter { tags: brands(&["red", "blue"]), ..none() }, vec![]),
        (SearchFilter { min_price: Some(1_000), max_price: Some(2_000), ..none() }, vec![2, 3, 4]),
        (SearchFilter { min_price: Some(2_001), ..none() }, vec![5]),
        (SearchFilter { max_price: Some(999), ..none() }, vec![1]),
        (SearchFilter { min_price: Some(i64::MIN), max_price: Some(i64::MAX), ..none() }, vec![1, 2, 3, 4, 5]),
        (SearchFilter { min_price: Some(2), max_price: Some(1), ..none() }, vec![]),
        (SearchFilter { availability: vec![AvailabilityStatus::OutOfStock], ..none() }, vec![3, 6]),
        (
            SearchFilter { availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::Limited], ..none() },
            vec![1, 2, 4, 5],
        ),
        (SearchFilter { min_rating: Some(400), ..none() }, vec![1, 2, 5]),
        (SearchFilter { status: Some(ProductStatus::Active), ..none() }, vec![1, 2, 3, 6]),
        (SearchFilter { status: Some(ProductStatus::Draft), ..none() }, vec![4]),
        (
            SearchFilter {
                categories: vec![category(2), category(3)],
                brands: brands(&["strasse", "borea"]),
                tags: brands(&["new"]),
                min_price: Some(500),
                max_price: Some(1_999),
                availability: vec![AvailabilityStatus::InStock, AvailabilityStatus::OutOfStock],
                min_rating: Some(399),
                status: Some(ProductStatus::Active),
                ..none()
            },
            vec![1, 3],
        ),
    ] {
        let query = filtered(filter);
        assert_eq!(hits(provider, &query).await, expected, "{query:?}");
        if provider.capabilities().facets {
            // Counting what is filtered by must not change what is found.
            let counting = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..query };
            assert_eq!(hits(provider, &counting).await, expected, "{counting:?}");
        }
    }
}

/// Text and filters hold together.
pub async fn filters_narrow_a_text(provider: &dyn SearchProvider) {
    if !has_text(provider).await {
        return;
    }
    let mut documents = catalog();
    documents.push(SearchDocument { brand: Some("Borea".into()), ..titled(7, "Kettle") });
    load(provider, documents).await;
    let filter = SearchFilter { brands: strings(["borea"]), ..SearchFilter::default() };
    assert_eq!(hits(provider, &SearchQuery { text: "lamp".into(), ..filtered(filter.clone()) }).await, [3, 4]);
    assert_eq!(hits(provider, &SearchQuery { text: "kettle".into(), ..filtered(filter.clone()) }).await, [7]);
    assert_eq!(hits(provider, &SearchQuery { text: "kettle lamp".into(), ..filtered(filter) }).await, [0u128; 0]);
}

/// Top-level attributes, case-insensitively, by the text of their JSON.
pub async fn attributes_filter_by_their_json_text(provider: &dyn SearchProvider) {
    let by = |name: &str, value: &str| {
        filtered(SearchFilter { attributes: vec![(name.to_owned(), value.to_owned())], ..SearchFilter::default() })
    };
    if !provider.capabilities().attribute_filters {
        return refused(provider, &by("color", "red"), ErrorCode::Unsupported, "a filter by attribute").await;
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
    assert_eq!(hits(provider, &by("color", "RED")).await, [1]);
    assert_eq!(hits(provider, &by("color", "dark RED")).await, [2]);
    assert_eq!(hits(provider, &by("color", "dark")).await, [0u128; 0], "the whole value");
    assert_eq!(hits(provider, &by("size", "42")).await, [1, 3]);
    assert_eq!(hits(provider, &by("size", "4.5")).await, [2]);
    assert_eq!(hits(provider, &by("organic", "true")).await, [1]);
    let both = SearchFilter {
        attributes: vec![("color".into(), "red".into()), ("organic".into(), "false".into())],
        ..SearchFilter::default()
    };
    assert_eq!(hits(provider, &filtered(both)).await, [0u128; 0], "all of them must hold");
}
