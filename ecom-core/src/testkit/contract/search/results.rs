//! Results are sorted, paged and counted, and queries out of bounds are refused.

use super::support::{
    at, catalog, exactly, filtered, finds, has_text, hits, load, micros, number, refused, set, text, titled, upsert,
};
use crate::error::{Error, ErrorCode};
use crate::port::search::{Facet, SearchDocument, SearchFilter, SearchProvider, SearchQuery, SearchSort};

tests! {
    __search_results: [
        a_new_index_is_empty_and_answers,
        r17_what_is_out_of_bounds_is_refused,
        sorts_order_and_put_the_priceless_last,
        paging_is_stable_and_the_total_exact,
        what_a_provider_cannot_do_it_refuses,
    ]
}

/// A new index has nothing, no checkpoint, and answers.
pub async fn a_new_index_is_empty_and_answers(provider: &dyn SearchProvider) {
    provider.ping().await.unwrap();
    assert!(!provider.name().is_empty());
    assert_eq!(provider.checkpoint().await.unwrap(), None);
    assert!(provider.acquire_writer().await.unwrap());
    assert!(provider.acquire_writer().await.unwrap(), "who has the right to write keeps it");
    assert_eq!(provider.checkpoint().await.unwrap(), None);
    assert_eq!(provider.revisions(None, 10).await.unwrap(), []);
    let found = provider.search(&text("")).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(0)));
    provider.ping().await.unwrap();
}

/// Bounds of the port: never slow, always said.
pub async fn r17_what_is_out_of_bounds_is_refused(provider: &dyn SearchProvider) {
    load(provider, vec![titled(1, "Lamp")]).await;
    let code = ErrorCode::Validation;
    refused(provider, &SearchQuery { offset: 10_001, ..text("") }, code, "an offset over 10,000").await;
    refused(provider, &SearchQuery { limit: 1_001, ..text("") }, code, "a limit over 1,000").await;
    if provider.capabilities().facets {
        let query = |price_bounds| SearchQuery { facets: vec![Facet::Prices], price_bounds, ..text("") };
        refused(provider, &query(vec![2, 1]), code, "falling price bounds").await;
        refused(provider, &query((0..101).collect()), code, "101 price bounds").await;
    }
    let found = provider.search(&SearchQuery { offset: 10_000, limit: 1_000, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(1)));
    let found = provider.search(&SearchQuery { limit: 0, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(1)), "a limit of 0 asks for the total");
    if !has_text(provider).await {
        return;
    }
    // Cut or refused, but never tried as it is.
    for long in ["lamp ".repeat(200), "x".repeat(513), "x-".repeat(250), "lamp ".repeat(33), "ö".repeat(1_000_000)] {
        match provider.search(&text(&long)).await {
            Ok(_) => {}
            Err(e) => assert_eq!(e.code(), code, "a long text: {e:?}"),
        }
    }
    assert_eq!(finds(provider, "lamp lamp lamp lamp lamp lamp lamp lamp").await, set([1]));
}

/// Every sort; ties by id; without a price last in both directions.
pub async fn sorts_order_and_put_the_priceless_last(provider: &dyn SearchProvider) {
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
    for (sort, expected) in [
        (SearchSort::PriceAsc, [3, 2, 5, 1, 4]),
        (SearchSort::PriceDesc, [2, 5, 3, 1, 4]),
        (SearchSort::RatingDesc, [3, 4, 1, 5, 2]),
        (SearchSort::CreatedDesc, [1, 4, 2, 5, 3]),
        (SearchSort::Relevance, [1, 4, 2, 5, 3]),
    ] {
        assert_eq!(hits(provider, &SearchQuery { sort, ..text("") }).await, expected, "{sort:?}");
        if sort != SearchSort::Relevance && provider.capabilities().full_text {
            assert_eq!(hits(provider, &SearchQuery { sort, ..text("lamp") }).await, expected, "{sort:?} with a text");
        }
    }
}

/// Pages neither overlap nor leave out, also where everything ties and the index was filled in several steps.
pub async fn paging_is_stable_and_the_total_exact(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    let all: Vec<u128> = (1..=57).collect();
    for (step, batch) in all.chunks(10).enumerate() {
        let ops = batch.iter().rev().map(|n| upsert(titled(*n, "Lamp"))).collect();
        provider.apply(ops, at(2 + i64::try_from(step).unwrap())).await.unwrap();
    }
    for sort in SearchSort::ALL {
        for typed in if provider.capabilities().full_text { vec!["", "lamp", "lamb"] } else { vec![""] } {
            let mut seen = Vec::new();
            for offset in (0..60).step_by(9) {
                let query = SearchQuery { sort, offset, limit: 9, ..text(typed) };
                let found = provider.search(&query).await.unwrap();
                assert_eq!(found.total, exactly(57), "{sort:?} at {offset}");
                seen.extend(found.hits.iter().map(|h| number(h.id)));
            }
            assert_eq!(seen, all, "{sort:?} of `{typed}`: ties are ordered by id");
        }
    }
    let found = provider.search(&SearchQuery { offset: 57, ..text("") }).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (0, exactly(57)));
}

/// What the capabilities exclude fails with `UNSUPPORTED`, and nothing else does.
pub async fn what_a_provider_cannot_do_it_refuses(provider: &dyn SearchProvider) {
    load(provider, catalog()).await;
    let can = provider.capabilities();
    let facets = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
    let attribute = SearchFilter { attributes: vec![("a".into(), "b".into())], ..SearchFilter::default() };
    for (what, able, query) in [
        ("text", can.full_text, text("lamp")),
        ("facets", can.facets, facets),
        ("attributes", can.attribute_filters, filtered(attribute)),
    ] {
        match provider.search(&query).await {
            Ok(_) => assert!(able, "{what} must be refused"),
            Err(e) => assert!(!able && matches!(e, Error::Unsupported { .. }), "{what}: {e:?}"),
        }
    }
}
