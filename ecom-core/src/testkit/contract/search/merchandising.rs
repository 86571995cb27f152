//! Products that are pinned, hidden or boosted, searches for any of the words, and synonyms.

use super::SearchFixture;
use super::support::{
    exactly, facet, has_text, load, numbers, product, request, search_for, skip, split, strings, text, titled,
};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::search::language::Language;
use crate::domain::search::query::{Boost, Facet, Matching, SearchFilter, SearchQuery, SearchRequest, SearchSort};
use crate::domain::search::synonyms::{Synonym, Synonyms};
use crate::port::search::{SearchDocument, SearchProvider};
use crate::testkit::check::same;

tests! {
    __search_merchandising: [
        pinned_products_come_first_whatever_the_text_is,
        hidden_products_never_match,
        boosts_change_the_order_by_relevance,
        any_of_the_words_is_enough_if_asked_for,
        synonyms_find_what_the_others_find,
    ]
}

/// Whether the provider can pin, hide and boost products of a search by text; otherwise the test is reported as
/// skipped.
async fn has_merchandising(provider: &dyn SearchProvider) -> bool {
    let able = provider.capabilities().merchandising;
    if !able {
        skip("merchandising", "merchandising");
    }
    able && has_text(provider, "merchandising").await
}

/// The facet of brands, if the provider can count it.
fn brands(provider: &dyn SearchProvider) -> Vec<Facet> {
    if provider.capabilities().facets { vec![Facet::Brands] } else { Vec::new() }
}

async fn found(provider: &dyn SearchProvider, request: &SearchRequest) -> Vec<u128> {
    numbers(&search_for(provider, request).await)
}

/// Pinned products match if they pass the filters, and are first by relevance, in their order.
pub async fn pinned_products_come_first_whatever_the_text_is(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_merchandising(provider).await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Desk lamp"),
            SearchDocument { price: Some(3_000), brand: Some("Acme".into()), ..titled(2, "Chair") },
            SearchDocument { price: Some(2_000), ..titled(3, "Lamp") },
            SearchDocument { price: Some(4_000), ..titled(4, "Table") },
            SearchDocument { status: ProductStatus::Draft, ..titled(5, "Lamp") },
        ],
    )
    .await;
    let active = SearchFilter { status: Some(ProductStatus::Active), ..SearchFilter::default() };
    let pin = |typed: &str, sort, pinned: &[u128], offset| {
        let query = SearchQuery { filter: active.clone(), sort, offset, facets: brands(provider), ..text(typed) };
        let mut request = request(&query);
        request.pinned = pinned.iter().map(|n| product(*n)).collect();
        request
    };
    let contract = "By relevance, pinned products come first, in the order in which they are pinned, if they pass the \
                    filters. They need not match the text.";
    for (request, expected) in [
        (pin("lamp", SearchSort::Relevance, &[4, 5, 2, 99], 0), [4, 2, 3, 1].as_slice()),
        (pin("lamp", SearchSort::Relevance, &[1], 0), &[1, 3]),
        (pin("lamp", SearchSort::Relevance, &[4, 5, 2], 1), &[2, 3, 1]),
        (pin("unheard", SearchSort::Relevance, &[4], 0), &[4]),
        (pin("", SearchSort::Relevance, &[4, 3], 0), &[4, 3, 1, 2]),
        (pin("lamp", SearchSort::PriceAsc, &[4, 2], 0), &[1, 3, 2, 4]),
    ] {
        same(found(provider, &request).await, expected, contract, format_args!("the hits of {request:?}"));
    }
    let results = search_for(provider, &pin("lamp", SearchSort::Relevance, &[4, 5, 2], 0)).await;
    same(results.total, exactly(4), "The total counts pinned products that pass the filters.", "2 of 3, and 2 lamps");
    if provider.capabilities().facets {
        same(
            facet(&results, Facet::Brands),
            [("Acme", 1)],
            "Facets count pinned products that pass the filters.",
            "the brand of a pinned chair",
        );
    }
}

/// Hidden products are neither hits nor counted.
pub async fn hidden_products_never_match(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_merchandising(provider).await {
        return;
    }
    let branded = |n| SearchDocument { brand: Some("Acme".into()), ..titled(n, "Red lamp") };
    load(provider, vec![branded(1), branded(2), titled(3, "Lamp")]).await;
    let contract = "Hidden products never match: not the text, not most of it, and not without a text.";
    for (typed, expected) in [("lamp", [2, 3].as_slice()), ("", &[2, 3]), ("red lamp", &[2, 3]), ("red", &[2])] {
        let mut request = request(&SearchQuery { facets: brands(provider), ..text(typed) });
        request.hidden = vec![product(1), product(77)];
        let results = search_for(provider, &request).await;
        let mut hits = numbers(&results);
        hits.sort_unstable();
        same(hits, expected, contract, format_args!("the hits of {request:?}"));
        if provider.capabilities().facets {
            same(facet(&results, Facet::Brands), [("Acme", 1)], "Facets do not count hidden products.", typed);
        }
    }
    let mut request = request(&text("lamp"));
    (request.pinned, request.hidden) = (vec![product(1), product(2)], vec![product(1)]);
    same(found(provider, &request).await, [2, 3], "A product that is pinned and hidden is hidden.", "of 1 and 2");
}

/// Scores are multiplied by the factors of all boosts that apply.
pub async fn boosts_change_the_order_by_relevance(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_merchandising(provider).await {
        return;
    }
    load(
        provider,
        vec![
            SearchDocument { tags: strings(["lamp"]), brand: Some("Acme".into()), ..titled(1, "Light") },
            SearchDocument { brand: Some("Borea".into()), price: Some(1), ..titled(2, "Lamp") },
            SearchDocument { brand: Some("Coda".into()), ..titled(3, "Lamp of a desk") },
            SearchDocument { brand: Some("Acme".into()), ..titled(4, "Chair with a desk") },
        ],
    )
    .await;
    let boost = |brand: &str, factor| Boost {
        filter: SearchFilter { brands: strings([brand]), ..SearchFilter::default() },
        factor,
    };
    let boosted = |typed: &str, sort, boosts: &[Boost]| {
        let mut request = request(&SearchQuery { sort, ..text(typed) });
        request.boosts = boosts.to_vec();
        request
    };
    let (by, contract) = (SearchSort::Relevance, "By relevance, scores are multiplied by the factors of the boosts.");
    for (request, expected) in [
        (boosted("lamp", by, &[]), [2, 3, 1].as_slice()),
        (boosted("lamp", by, &[boost("acme", 2.0)]), &[1, 2, 3]),
        (boosted("lamp", by, &[boost("borea", 0.5)]), &[3, 1, 2]),
        (boosted("lamp", by, &[boost("acme", 2.0), boost("coda", 3.0)]), &[3, 1, 2]),
        (boosted("lamp", by, &[boost("acme", 4.0), boost("acme", 0.2)]), &[2, 3, 1]),
        (boosted("lamp", by, &[boost("unheard", 10.0)]), &[2, 3, 1]),
        (boosted("lamp", SearchSort::PriceAsc, &[boost("coda", 10.0)]), &[2, 1, 3]),
        // A partial match never comes before a match.
        (boosted("lamp desk", by, &[boost("acme", 10.0), boost("coda", 0.1)]), &[3, 4, 1, 2]),
    ] {
        same(found(provider, &request).await, expected, contract, format_args!("the hits of {request:?}"));
    }
}

/// A search for any of the words finds products with one, and those with more first.
pub async fn any_of_the_words_is_enough_if_asked_for(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "merchandising").await {
        return;
    }
    load(provider, vec![titled(1, "Lamp"), titled(2, "Red chair"), titled(3, "Red lamp"), titled(4, "Table")]).await;
    let any = |typed: &str, sort| {
        let mut request = request(&SearchQuery { sort, ..text(typed) });
        request.matching = Matching::Any;
        request
    };
    let mut all = request(&text("red lamp"));
    all.matching = Matching::All;
    same(
        found(provider, &all).await,
        [3],
        "A search for all of the words alone finds no others.",
        "the hits of `red lamp`",
    );
    let contract = "A search for any of the words finds products with at least one, and by relevance those with more \
                    words first. They are matches, and none follows.";
    for (request, expected) in [
        (any("red lamp", SearchSort::Relevance), [3, 1, 2].as_slice()),
        (any("lamp unheard", SearchSort::Relevance), &[1, 3]),
        (any("unheard", SearchSort::Relevance), &[]),
        (any("--", SearchSort::Relevance), &[]),
        (any("red lamp", SearchSort::PriceAsc), &[1, 2, 3]),
    ] {
        let results = search_for(provider, &request).await;
        same(numbers(&results), expected, contract, format_args!("the hits of {request:?}"));
        same(
            (results.total, results.partial),
            (exactly(expected.len() as u64), 0),
            contract,
            format_args!("{request:?}"),
        );
    }
}

/// Synonyms match as the words themselves do, with a lower score.
pub async fn synonyms_find_what_the_others_find(f: SearchFixture) {
    let provider = &*f.provider;
    if !has_text(provider, "merchandising").await {
        return;
    }
    load(
        provider,
        vec![
            titled(1, "Blue sofa"),
            SearchDocument { description: Some("A couch.".into()), ..titled(2, "Blue seat") },
            titled(3, "Mobile phone"),
            titled(4, "Phone with a mobile antenna"),
            titled(5, "Cell phone"),
            SearchDocument { description: Some("With a phone.".into()), ..titled(6, "Mobile home") },
            titled(7, "Tablet"),
            titled(8, "iPad"),
            SearchDocument { description: Some("A cellphone-case.".into()), ..titled(9, "Cover") },
            titled(10, "Couchette"),
        ],
    )
    .await;
    let synonyms = Synonyms::new(
        &[
            Synonym::two_way(["sofa", "couch"]),
            Synonym::two_way(["cell phone", "mobile phone"]),
            Synonym::one_way("tablet", ["ipad"]),
        ],
        Language::English,
    )
    .unwrap();
    let contract = "A word or phrase finds what its synonyms find, as words of any field, after what it finds itself, and \
                    a synonym of several words needs all of them in one field.";
    for (typed, expected) in [
        ("couch", [2, 1, 10].as_slice()),
        ("blue sofas", &[1, 2]),
        ("cell phone", &[5, 9, 3, 4]),
        ("cellphones", &[5, 9, 3, 4]),
        ("mobile phone", &[3, 4, 6, 5, 9]),
        ("tablet", &[7, 8]),
        ("ipad", &[8]),
    ] {
        let request = SearchRequest::new(text(typed), &synonyms).unwrap();
        let (hits, _) = split(&request, &search_for(provider, &request).await);
        same(hits, expected, contract, format_args!("the matches of {typed:?}"));
    }
}
