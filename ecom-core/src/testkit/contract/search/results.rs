//! Results are sorted, paged and counted.

use super::SearchFixture;
use super::support::{
    acquire, apply, at, catalog, checkpoint_is, exactly, filtered, hits_are, load, micros, number, product, request,
    search, state_is, text, titled, upsert,
};
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery, SearchSort};
use crate::error::Error;
use crate::port::search::SearchDocument;
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;

tests! {
    __search_results: [
        a_new_index_is_empty_and_answers,
        sorts_order_and_put_the_priceless_last,
        paging_is_stable_and_the_total_exact,
        what_a_provider_cannot_do_it_refuses,
    ]
}

/// A new index has no documents and no checkpoint, and supports all calls.
pub async fn a_new_index_is_empty_and_answers(f: SearchFixture) {
    let provider = &*f.provider;
    succeeds(provider.ping().await, "`ping` of a new index");
    holds(!provider.name().is_empty(), "`name` returns a name that is not empty.", "`name` is empty");
    checkpoint_is(provider, None, "nobody has written yet").await;
    // The holder of the right to write keeps it.
    acquire(provider).await;
    acquire(provider).await;
    checkpoint_is(provider, None, "`acquire_writer` writes nothing").await;
    state_is(provider, &[], "a new index").await;
    let found = search(provider, &text("")).await;
    same((found.hits.len(), found.total), (0, exactly(0)), "A new index finds nothing.", "an empty text");
    succeeds(provider.ping().await, "`ping` after a search");
}

/// Uses every order. Equal documents are ordered by id, and documents without a price come last in both directions.
pub async fn sorts_order_and_put_the_priceless_last(f: SearchFixture) {
    let provider = &*f.provider;
    let of = |n: u128, price, rating, created| SearchDocument {
        price,
        rating,
        created_at: micros(created),
        ..titled(n, "Lamp")
    };
    load(
        provider,
        vec![
            of(5, Some(300), 100, 1),
            of(4, None, 500, 5),
            of(3, Some(0), 500, -4_000_000_000_000_000),
            of(2, Some(300), 0, 3),
            of(1, None, 250, 5),
        ],
    )
    .await;
    let contract = "Hits are sorted by `sort` and then by id, and products without a price come last.";
    for (sort, expected) in [
        (SearchSort::PriceAsc, [3, 2, 5, 1, 4]),
        (SearchSort::PriceDesc, [2, 5, 3, 1, 4]),
        (SearchSort::RatingDesc, [3, 4, 1, 5, 2]),
        (SearchSort::CreatedDesc, [1, 4, 2, 5, 3]),
        (SearchSort::Relevance, [1, 4, 2, 5, 3]),
    ] {
        hits_are(provider, &SearchQuery { sort, ..text("") }, expected, contract).await;
        if sort != SearchSort::Relevance && provider.capabilities().full_text {
            hits_are(provider, &SearchQuery { sort, ..text("lamp") }, expected, contract).await;
        }
    }
}

/// Pages neither overlap nor omit a document, even if all documents are equal and the index was filled in several
/// batches.
pub async fn paging_is_stable_and_the_total_exact(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, Vec::new()).await;
    let all: Vec<u128> = (1..=57).collect();
    for (step, batch) in all.chunks(10).enumerate() {
        let ops = batch.iter().rev().map(|n| upsert(titled(*n, "Lamp"))).collect();
        apply(provider, ops, at(2 + i64::try_from(step).unwrap())).await;
    }
    for sort in SearchSort::ALL {
        for typed in if provider.capabilities().full_text { vec!["", "lamp", "lamb"] } else { vec![""] } {
            let mut seen = Vec::new();
            for offset in (0..60).step_by(9) {
                let query = SearchQuery { sort, offset, limit: 9, ..text(typed) };
                let found = search(provider, &query).await;
                same(found.total, exactly(57), "The total is the same on every page.", format_args!("{query:?}"));
                seen.extend(found.hits.iter().map(|h| number(h.id)));
            }
            let contract = "Pages neither overlap nor leave a match out, and equal hits are ordered by id.";
            same(&seen, &all, contract, format_args!("pages of 9 by {sort:?} of the text {typed:?}"));
        }
    }
    let found = search(provider, &SearchQuery { offset: 57, ..text("") }).await;
    same(
        (found.hits.len(), found.total),
        (0, exactly(57)),
        "A page after the last match is empty, and its total still counts all matches.",
        "57 matches",
    );
}

/// Exactly the queries that need a missing capability fail with `UNSUPPORTED`.
pub async fn what_a_provider_cannot_do_it_refuses(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, catalog()).await;
    let can = provider.capabilities();
    let facets = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
    let attribute = SearchFilter { attributes: vec![("a".into(), "b".into())], ..SearchFilter::default() };
    let mut pinned = request(&text(""));
    pinned.pinned.push(product(1));
    for (what, able, query) in [
        ("full_text", can.full_text, request(&text("lamp"))),
        ("facets", can.facets, request(&facets)),
        ("attribute_filters", can.attribute_filters, request(&filtered(attribute))),
        ("merchandising", can.merchandising, pinned),
    ] {
        step(format_args!("`search` of {query:?}"));
        let contract = "Exactly the queries that need a missing capability fail with `UNSUPPORTED`.";
        let (answered, about) = match provider.search(&query).await {
            Ok(_) => (true, format!("`{what}` is {able}, and the search succeeds")),
            Err(Error::Unsupported { .. }) => (false, format!("`{what}` is {able}, and the search is refused")),
            Err(e) => panic!("{contract}\n     case: {query:?} fails with {e:?}"),
        };
        holds(answered == able, contract, about);
    }
}
