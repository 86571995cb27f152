//! Facets count the values of all matches.

use std::collections::{BTreeMap, BTreeSet};

use super::support::{
    at, catalog, category, exactly, facet, filtered, load, number, refused, strings, text, titled, upsert,
};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::error::ErrorCode;
use crate::port::search::{Facet, SearchDocument, SearchFilter, SearchProvider, SearchQuery};

tests! {
    __search_facets: [
        facets_count_all_matches,
        facets_leave_out_the_filter_of_their_own_field,
        facets_join_spellings_and_have_at_most_100_values,
    ]
}

/// Whether facets are counted; a provider that cannot says so here.
async fn has_facets(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().facets;
    if !able {
        let query = SearchQuery { facets: vec![Facet::Brands], ..text("") };
        refused(provider, &query, ErrorCode::Unsupported, "a facet").await;
    }
    able
}

/// All matches count, not those of the page; values that none has are left out.
pub async fn facets_count_all_matches(provider: &dyn SearchProvider) {
    if !has_facets(provider).await {
        return;
    }
    load(provider, catalog()).await;
    let query = SearchQuery {
        facets: Facet::ALL.to_vec(),
        price_bounds: vec![1_000, 2_000, 3_000],
        limit: 1,
        offset: 1,
        ..text("")
    };
    let found = provider.search(&query).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (1, exactly(6)));
    assert_eq!(found.facets.iter().map(|(f, _)| *f).collect::<Vec<_>>(), Facet::ALL, "in the order asked for");
    let ids = [1, 2, 3].map(|n| category(n).to_string());
    assert_eq!(facet(&found, Facet::Categories), [(ids[0].as_str(), 5), (&ids[1], 2), (&ids[2], 2)]);
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(brands[2].0, "Café", "as written");
    assert!(brands.iter().any(|b| b.0 == "Borea"));
    assert_eq!(
        facet(&found, Facet::Prices),
        [("1000", 2), ("2000", 2)],
        "from the bound up; those below count nowhere"
    );
    let tags: Vec<(String, u64)> = facet(&found, Facet::Tags).into_iter().map(|(v, n)| (v.to_lowercase(), n)).collect();
    let mut sorted = tags.clone();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    assert_eq!(sorted, [("new".into(), 3), ("red".into(), 3), ("blue".into(), 1), ("sale".into(), 1)]);
    assert!(tags.is_sorted_by_key(|t| std::cmp::Reverse(t.1)), "most first");
    assert_eq!(facet(&found, Facet::Rating), [("0", 2), ("3", 1), ("4", 2), ("5", 1)], "whole stars, by value");
    assert_eq!(facet(&found, Facet::Availability), [("in_stock", 3), ("out_of_stock", 2), ("limited", 1)]);
    if provider.capabilities().full_text {
        let none = provider.search(&SearchQuery { text: "unheard".into(), ..query }).await.unwrap();
        assert!(none.facets.iter().all(|(_, counts)| counts.is_empty()), "{none:?}");
    }
}

/// Each facet counts what would match if its own filter were not there, and all others hold.
pub async fn facets_leave_out_the_filter_of_their_own_field(provider: &dyn SearchProvider) {
    if !has_facets(provider).await || !provider.capabilities().disjunctive_facets {
        return;
    }
    load(provider, catalog()).await;
    let filter = SearchFilter {
        brands: strings(["strasse"]),
        max_price: Some(1_500),
        status: Some(ProductStatus::Active),
        ..SearchFilter::default()
    };
    let query = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0, 1_000], ..filtered(filter.clone()) };
    let found = provider.search(&query).await.unwrap();
    assert_eq!(found.hits.iter().map(|h| number(h.id)).collect::<Vec<_>>(), [1, 2]);
    // Without the brand filter: 1, 2, 3.
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(brands[1].0, "Borea");
    // Without the price filter nothing more of that brand is active: 1, 2.
    assert_eq!(facet(&found, Facet::Prices), [("0", 1), ("1000", 1)]);
    // All filters: 1, 2.
    assert_eq!(facet(&found, Facet::Rating), [("4", 2)]);
    assert_eq!(
        facet(&found, Facet::Availability).into_iter().collect::<BTreeMap<_, _>>(),
        [("in_stock", 1), ("limited", 1)].into()
    );
    // Every kind of filter alone: its own facet is as without it, the total is not.
    let open = provider
        .search(&SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0, 1_000], ..text("") })
        .await
        .unwrap();
    let none = SearchFilter::default;
    for (of, filter, total) in [
        (Facet::Categories, SearchFilter { categories: vec![category(2)], ..none() }, 2),
        (Facet::Brands, SearchFilter { brands: strings(["borea"]), ..none() }, 2),
        (Facet::Prices, SearchFilter { min_price: Some(1_600), ..none() }, 2),
        (Facet::Tags, SearchFilter { tags: strings(["red", "new"]), ..none() }, 2),
        (Facet::Rating, SearchFilter { min_rating: Some(450), ..none() }, 2),
        (Facet::Availability, SearchFilter { availability: vec![AvailabilityStatus::Limited], ..none() }, 1),
    ] {
        let found = provider
            .search(&SearchQuery { facets: vec![of], price_bounds: vec![0, 1_000], ..filtered(filter.clone()) })
            .await
            .unwrap();
        assert_eq!(found.total, exactly(total), "{of:?}");
        assert_eq!(facet(&found, of), facet(&open, of), "{of:?} leaves out its own filter");
        // Other facets take it.
        let other = if of == Facet::Brands { Facet::Categories } else { Facet::Brands };
        let found = provider.search(&SearchQuery { facets: vec![other], ..filtered(filter) }).await.unwrap();
        assert!(
            facet(&found, other).iter().map(|c| c.1).max().unwrap() <= total,
            "{other:?} takes the filter of {of:?}"
        );
    }
    // A document that fails two filters counts for neither facet.
    let two = SearchFilter { brands: strings(["borea"]), min_rating: Some(450), ..none() };
    let found =
        provider.search(&SearchQuery { facets: vec![Facet::Brands, Facet::Rating], ..filtered(two) }).await.unwrap();
    assert_eq!(found.total, exactly(0));
    assert_eq!(facet(&found, Facet::Brands).iter().map(|b| b.1).collect::<Vec<_>>(), [1, 1], "1 and 5");
    assert_eq!(facet(&found, Facet::Rating), [("0", 1), ("3", 1)], "4 and 3");
}

/// One value per folded key, whatever the spelling; the most frequent hundred.
pub async fn facets_join_spellings_and_have_at_most_100_values(provider: &dyn SearchProvider) {
    if !has_facets(provider).await {
        return;
    }
    load(provider, Vec::new()).await;
    let of = |n: u128, brand: String| SearchDocument { brand: Some(brand), ..titled(n, "x") };
    let first = (0..150).map(|n| upsert(of(n, format!("Brand {n}")))).collect();
    provider.apply(first, at(2)).await.unwrap();
    // The last ten are the most frequent, partly written in another way and in another step.
    let more = (140..150).map(|n| upsert(of(n + 100, format!("BRAND  {n}")))).collect();
    provider.apply(more, at(3)).await.unwrap();
    let query = SearchQuery { facets: vec![Facet::Brands, Facet::Brands], ..text("") };
    let found = provider.search(&query).await.unwrap();
    let brands = facet(&found, Facet::Brands);
    assert_eq!(brands.len(), 100);
    assert_eq!(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [[2; 10].as_slice(), &[1; 90]].concat());
    let keys: BTreeSet<String> = brands.iter().map(|b| crate::text::fold_key(b.0)).collect();
    assert_eq!(keys.len(), 100);
    assert!((140..150).all(|n| keys.contains(&format!("brand {n}"))));
}
