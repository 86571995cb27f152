//! Facets count the values of all matches.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::SearchFixture;
use super::support::{
    applies, apply, at, catalog, category, exactly, facet, filtered, load, refused, search, skip, strings, text,
    titled, upsert, within,
};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery};
use crate::port::search::{SearchDocument, SearchProvider, SearchResults};
use crate::testkit::check::{holds, same};
use crate::testkit::sample::usd;
use crate::text::fold_key;

tests! {
    __search_facets: [
        facets_count_all_matches,
        facets_take_every_filter_but_their_own,
        facets_agree_with_the_filters_that_they_stand_for,
        facets_narrow_with_the_text,
        facets_count_a_repeated_value_once,
        facets_join_spellings_and_have_at_most_100_values,
    ]
}

/// Returns whether facets are counted. If not, the provider must refuse them, and the test is reported as skipped.
async fn has_facets(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().facets;
    if !able {
        refused(provider, &SearchQuery { facets: vec![Facet::Brands], ..text("") }, "facets").await;
        skip("facets", "facets");
    }
    able
}

const BOUNDS: [i64; 3] = [1_000, 2_000, 3_000];

fn counting(filter: SearchFilter) -> SearchQuery {
    SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: BOUNDS.to_vec(), ..filtered(filter) }
}

/// Panics unless the facet has these values with these counts, in this order.
fn facet_is<const N: usize>(found: &SearchResults, of: Facet, expected: [(&str, u64); N], contract: &str) {
    same(facet(found, of), expected, contract, format_args!("{of:?}"));
}

/// The counts include all matches, and not only those on the page. Values without a match are left out.
pub async fn facets_count_all_matches(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    load(provider, catalog()).await;
    let query = SearchQuery { limit: 1, offset: 1, ..counting(SearchFilter::default()) };
    let found = search(provider, &query).await;
    same(
        (found.hits.len(), found.total),
        (1, exactly(6)),
        "A page has `limit` hits, and the total counts all matches.",
        "",
    );
    let ids = [1, 2, 3].map(|n| category(n).to_string());
    let contract =
        "A facet counts all matches and not only the page. It has the values of matches, the largest count first.";
    facet_is(&found, Facet::Categories, [(ids[0].as_str(), 5), (&ids[1], 2), (&ids[2], 2)], contract);
    facet_is(&found, Facet::Availability, [("in_stock", 3), ("out_of_stock", 2), ("limited", 1)], contract);
    let brands = facet(&found, Facet::Brands);
    same(brands.iter().map(|b| b.1).collect::<Vec<_>>(), [2, 2, 1], contract, format_args!("{brands:?}"));
    let written: BTreeSet<&str> = brands.iter().map(|b| b.0).collect();
    holds(
        written.is_subset(&["Straße", "STRASSE", "Borea", "Café"].into()),
        "A facet returns a brand or tag in the spelling of a document.",
        format_args!("{brands:?}"),
    );
    let tags: Vec<(String, u64)> = facet(&found, Facet::Tags).into_iter().map(|(v, n)| (v.to_lowercase(), n)).collect();
    let mut sorted = tags.clone();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let expected = [("new", 3), ("red", 3), ("blue", 1), ("sale", 1)].map(|(v, n)| (v.to_owned(), n));
    same(sorted, expected, contract, "Tags");
    holds(tags.is_sorted_by_key(|t| std::cmp::Reverse(t.1)), contract, format_args!("{tags:?}"));
    let contract = "A price counts in the range of the highest bound that is not above it, if there is one.";
    facet_is(&found, Facet::Prices, [("1000", 2), ("2000", 2)], contract);
    let contract =
        "A rating counts under each number of whole stars that it has or exceeds, and the facet is sorted by stars.";
    facet_is(&found, Facet::Rating, [("1", 4), ("2", 4), ("3", 4), ("4", 3), ("5", 1)], contract);
    let none =
        search(provider, &counting(SearchFilter { brands: strings(["nobody"]), ..SearchFilter::default() })).await;
    if provider.capabilities().disjunctive_facets {
        let contract = "If nothing matches, only the facet whose own filter is left out may have values.";
        holds(none.facets.iter().all(|(f, n)| *f == Facet::Brands || n.is_empty()), contract, format_args!("{none:?}"));
    }
}

/// Returns whether a document matches the filters, without the filter on the field of `except`.
fn passes(d: &SearchDocument, f: &SearchFilter, except: Option<Facet>) -> bool {
    let checked = |facet| except != Some(facet);
    let key = |text: &String| fold_key(text);
    let tags: BTreeSet<String> = d.tags.iter().map(key).collect();
    let text_of = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    (!checked(Facet::Categories)
        || f.categories.is_empty()
        || f.categories.iter().any(|c| d.categories.iter().any(|own| own.id == *c)))
        && (!checked(Facet::Brands)
            || f.brands.is_empty()
            || d.brand.as_ref().is_some_and(|own| f.brands.iter().any(|b| key(b) == key(own))))
        && (!checked(Facet::Tags) || f.tags.iter().all(|t| tags.contains(&key(t))))
        && (!checked(Facet::Prices)
            || (f.min_price.is_none_or(|min| d.price.is_some_and(|p| p >= min.minor()))
                && f.max_price.is_none_or(|max| d.price.is_some_and(|p| p <= max.minor()))))
        && (!checked(Facet::Rating) || f.min_rating.is_none_or(|min| d.rating >= min))
        && (!checked(Facet::Availability) || f.availability.is_empty() || f.availability.contains(&d.availability))
        && f.status.is_none_or(|s| d.status == s)
        && f.attributes.iter().all(|(n, v)| d.attributes.0.get(n).is_some_and(|own| fold_key(&text_of(own)) == key(v)))
}

/// Returns the values under which a document is counted.
fn values(d: &SearchDocument, of: Facet) -> BTreeSet<String> {
    match of {
        Facet::Categories => d.categories.iter().map(|c| c.id.to_string()).collect(),
        Facet::Brands => d.brand.iter().map(|b| fold_key(b)).collect(),
        Facet::Tags => d.tags.iter().map(|t| fold_key(t)).collect(),
        Facet::Prices => {
            let bound = d.price.and_then(|p| BOUNDS.into_iter().rfind(|b| *b <= p));
            bound.iter().map(ToString::to_string).collect()
        }
        Facet::Rating => (1..=d.rating / 100).map(|stars| stars.to_string()).collect(),
        Facet::Availability => [d.availability.as_str().to_owned()].into(),
    }
}

/// A facet counts the documents that match the text and every filter, including filters without a facet. If the
/// provider has `disjunctive_facets`, the filter on the counted field is left out.
pub async fn facets_take_every_filter_but_their_own(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    let can = provider.capabilities();
    if !can.disjunctive_facets {
        skip("facets", "disjunctive_facets");
    }
    if !can.attribute_filters {
        skip("facets", "attribute_filters");
    }
    let documents: Vec<SearchDocument> = catalog()
        .into_iter()
        .zip(["Red", "red", "Blue", "RED", "Blue", "red"])
        .map(|(d, color)| SearchDocument {
            attributes: serde_json::from_value(json!({ "color": color })).unwrap(),
            ..d
        })
        .collect();
    load(provider, documents.clone()).await;
    let none = SearchFilter::default;
    let mut filters = vec![
        none(),
        SearchFilter { categories: vec![category(2)], ..none() },
        SearchFilter { brands: strings(["strasse"]), ..none() },
        SearchFilter { min_price: Some(usd(1_600)), ..none() },
        SearchFilter { max_price: Some(usd(1_500)), ..none() },
        SearchFilter { tags: strings(["red", "new"]), ..none() },
        SearchFilter { min_rating: Some(400), ..none() },
        SearchFilter { availability: vec![AvailabilityStatus::InStock], ..none() },
        SearchFilter { status: Some(ProductStatus::Active), ..none() },
        SearchFilter { status: Some(ProductStatus::Archived), ..none() },
    ];
    if can.attribute_filters {
        filters.push(SearchFilter { attributes: vec![("color".into(), "red".into())], ..none() });
    }
    // Filters are used individually and in pairs. A document that fails the filters on two fields is not counted in the
    // facet of either field.
    let pairs = filters.iter().flat_map(|a| filters.iter().map(move |b| both(a, b)));
    for filter in pairs {
        let query = counting(filter);
        let found = search(provider, &query).await;
        for of in Facet::ALL {
            let except = Some(of).filter(|_| can.disjunctive_facets);
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            for value in documents.iter().filter(|d| passes(d, &query.filter, except)).flat_map(|d| values(d, of)) {
                *expected.entry(value).or_default() += 1;
            }
            let folds = matches!(of, Facet::Brands | Facet::Tags);
            let counted: BTreeMap<String, u64> = facet(&found, of)
                .into_iter()
                .map(|(v, n)| (if folds { fold_key(v) } else { v.to_owned() }, n))
                .collect();
            let contract = "A facet counts the documents that match every filter, also status and attributes. With \
                            `disjunctive_facets`, the filter on the facet's own field is left out.";
            same(counted, expected, contract, format_args!("{of:?} of {:?}", query.filter));
        }
    }
}

/// A search with the filter that a value stands for, in place of the filter on the same field, finds as many documents
/// as the facet has counted.
pub async fn facets_agree_with_the_filters_that_they_stand_for(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    let documents: Vec<SearchDocument> = catalog();
    load(provider, documents).await;
    for filter in [SearchFilter::default(), SearchFilter { min_rating: Some(400), ..SearchFilter::default() }] {
        let found = search(provider, &counting(filter.clone())).await;
        for of in Facet::ALL {
            let replaces = provider.capabilities().disjunctive_facets;
            for (value, count) in facet(&found, of) {
                let mut narrowed = both(&filter, &standing_for(of, value));
                if of == Facet::Rating && !replaces {
                    narrowed.min_rating = narrowed.min_rating.max(filter.min_rating);
                }
                let total = search(provider, &filtered(narrowed.clone())).await.total;
                let contract = "A value of a facet counts what a search with the filter of this value finds.";
                same(total, exactly(count), contract, format_args!("the value {value:?} of {of:?}: {narrowed:?}"));
            }
        }
    }
}

/// Returns the filter that a value of a facet stands for.
fn standing_for(of: Facet, value: &str) -> SearchFilter {
    let none = SearchFilter::default();
    let number = || value.parse::<i64>().unwrap();
    match of {
        Facet::Categories => SearchFilter { categories: vec![value.parse().unwrap()], ..none },
        Facet::Brands => SearchFilter { brands: vec![value.to_owned()], ..none },
        Facet::Tags => SearchFilter { tags: vec![value.to_owned()], ..none },
        Facet::Prices => SearchFilter {
            min_price: Some(usd(number())),
            max_price: BOUNDS.into_iter().find(|bound| *bound > number()).map(|next| usd(next - 1)),
            ..none
        },
        Facet::Rating => SearchFilter { min_rating: Some(number() * 100), ..none },
        Facet::Availability => {
            let of = AvailabilityStatus::ALL.into_iter().find(|a| a.as_str() == value).unwrap();
            SearchFilter { availability: vec![of], ..none }
        }
    }
}

/// Returns the filters of `a` and `b`. On the same field, the filter of `b` is used.
fn both(a: &SearchFilter, b: &SearchFilter) -> SearchFilter {
    let (a, b) = (a.clone(), b.clone());
    let either = |a: Vec<String>, b: Vec<String>| if b.is_empty() { a } else { b };
    let (min_price, max_price) =
        if b.min_price.or(b.max_price).is_some() { (b.min_price, b.max_price) } else { (a.min_price, a.max_price) };
    SearchFilter {
        categories: if b.categories.is_empty() { a.categories } else { b.categories },
        brands: either(a.brands, b.brands),
        tags: either(a.tags, b.tags),
        min_price,
        max_price,
        availability: if b.availability.is_empty() { a.availability } else { b.availability },
        min_rating: b.min_rating.or(a.min_rating),
        attributes: if b.attributes.is_empty() { a.attributes } else { b.attributes },
        status: b.status.or(a.status),
    }
}

/// Facets count only documents that match the text.
pub async fn facets_narrow_with_the_text(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    if !provider.capabilities().full_text {
        return skip("facets", "full_text");
    }
    let of = |n, title: &str, brand: &str| SearchDocument { brand: Some(brand.to_owned()), ..titled(n, title) };
    load(provider, vec![of(1, "Lamp", "Borea"), of(2, "Lamp", "Halo"), of(3, "Kettle", "Borea")]).await;
    let contract =
        "A facet counts only documents that match the text, even if the filter on its own field is left out.";
    let query = |text: &str| SearchQuery { text: text.to_owned(), ..counting(SearchFilter::default()) };
    let found = search(provider, &query("kettle")).await;
    facet_is(&found, Facet::Brands, [("Borea", 1)], contract);
    facet_is(&found, Facet::Availability, [("in_stock", 1)], contract);
    let found = search(provider, &query("unheard")).await;
    holds(found.facets.iter().all(|(_, counts)| counts.is_empty()), contract, format_args!("{found:?}"));
    if provider.capabilities().disjunctive_facets {
        let filter = SearchFilter { brands: strings(["halo"]), ..SearchFilter::default() };
        let found = search(provider, &SearchQuery { filter, ..query("kettle") }).await;
        facet_is(&found, Facet::Brands, [("Borea", 1)], contract);
    }
}

/// A document that has a value several times is counted once.
pub async fn facets_count_a_repeated_value_once(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    let (home, light) = (category(1), category(2));
    let repeated = SearchDocument {
        tags: strings(["Red", "red", "RED ", "red", "new"]),
        categories: within(&[home, light, home, light, home]),
        ..titled(1, "Lamp")
    };
    let single = SearchDocument { tags: strings(["red"]), categories: within(&[home]), ..titled(2, "Lamp") };
    load(provider, vec![repeated, single]).await;
    let found = search(provider, &counting(SearchFilter::default())).await;
    let contract =
        "A document that has a value several times, even in several spellings, is counted once for that value.";
    let ids = [home, light].map(|c| c.to_string());
    facet_is(&found, Facet::Categories, [(ids[0].as_str(), 2), (&ids[1], 1)], contract);
    let tags: Vec<(String, u64)> = facet(&found, Facet::Tags).into_iter().map(|(v, n)| (fold_key(v), n)).collect();
    same(tags, [("red".to_owned(), 2), ("new".to_owned(), 1)], contract, "Tags");
}

/// All spellings with the same folded key are one value. A facet has the hundred most frequent values.
pub async fn facets_join_spellings_and_have_at_most_100_values(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_facets(provider).await {
        return;
    }
    load(provider, Vec::new()).await;
    let of = |n: u128, brand: String| SearchDocument { brand: Some(brand), ..titled(n, "x") };
    let first = (0..150).map(|n| upsert(of(n, format!("Brand {n}")))).collect();
    applies(provider, first, at(2), 150, "150 new documents").await;
    // The last ten values are the most frequent ones, partly in another spelling and in another batch.
    let more = (140..150).map(|n| upsert(of(n + 100, format!("BRAND  {n}")))).collect();
    apply(provider, more, at(3)).await;
    let query = SearchQuery { facets: vec![Facet::Brands, Facet::Brands], ..text("") };
    let found = search(provider, &query).await;
    let brands = facet(&found, Facet::Brands);
    let counts: Vec<u64> = brands.iter().map(|b| b.1).collect();
    let contract = "A facet has the 100 most frequent values at most, and counts all spellings of a value together.";
    same(counts, [[2; 10].as_slice(), &[1; 90]].concat(), contract, "150 brands, ten of them in two spellings");
    let keys: BTreeSet<String> = brands.iter().map(|b| fold_key(b.0)).collect();
    same(keys.len(), 100, contract, format_args!("different values among {brands:?}"));
    holds((140..150).all(|n| keys.contains(&format!("brand {n}"))), contract, format_args!("{brands:?}"));
}
