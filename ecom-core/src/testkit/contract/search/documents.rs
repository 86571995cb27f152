//! Documents are added, replaced and deleted, and the highest revision wins (R14).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::{Just, Strategy as _, any, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::support::{at, exactly, facet, filtered, hits, load, number, priced, product, revised, state, text, upsert};
use crate::domain::platform::outbox::OutboxPosition;
use crate::id::ProductId;
use crate::port::search::{Checkpoint, Facet, IndexOp, SearchFilter, SearchProvider, SearchQuery, SearchSort};

tests! {
    __search_documents: [
        r14_late_older_revision_never_wins,
        r14_a_deleted_product_stays_deleted_for_late_documents,
        r14_order_within_a_batch_counts,
        r14_checkpoint_and_documents_move_together,
        r14_random_histories_equal_the_model,
        revisions_list_live_documents_by_id,
        a_batch_is_seen_whole_or_not_at_all,
    ]
}

/// R14: a document that is not newer than what the index has changes nothing.
pub async fn r14_late_older_revision_never_wins(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let late = vec![upsert(revised(1, 4)), upsert(revised(2, 5)), IndexOp::Delete { id: product(1), revision: 5 }];
    assert_eq!(provider.apply(late, at(2)).await.unwrap(), 0);
    assert_eq!(state(provider).await, [(1, 5), (2, 5)]);
    assert_eq!(priced(provider, 5).await, [1, 2]);
    assert_eq!(provider.apply(vec![upsert(revised(1, 6)), upsert(revised(2, 3))], at(3)).await.unwrap(), 1);
    assert_eq!(state(provider).await, [(1, 6), (2, 5)]);
    assert_eq!((priced(provider, 6).await, priced(provider, 5).await), (vec![1], vec![2]), "the old one is gone");
}

/// R14: a delete is remembered, so that what comes late does not bring the product back; a newer one does.
pub async fn r14_a_deleted_product_stays_deleted_for_late_documents(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let delete = |n, revision| IndexOp::Delete { id: product(n), revision };
    assert_eq!(provider.apply(vec![delete(1, 6), delete(9, 3)], at(2)).await.unwrap(), 2);
    assert_eq!(state(provider).await, [(2, 5)]);
    assert_eq!(hits(provider, &text("")).await, [2]);
    for sort in SearchSort::ALL {
        assert_eq!(hits(provider, &SearchQuery { sort, ..text("") }).await, [2], "{sort:?}");
    }
    if provider.capabilities().facets {
        let query = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
        let found = provider.search(&query).await.unwrap();
        assert_eq!(facet(&found, Facet::Rating), [("0", 1)], "what is deleted counts nowhere");
        assert_eq!(facet(&found, Facet::Availability), [("in_stock", 1)]);
    }
    let late = vec![upsert(revised(1, 5)), upsert(revised(1, 6)), upsert(revised(9, 2)), delete(1, 6)];
    assert_eq!(provider.apply(late, at(3)).await.unwrap(), 0);
    assert_eq!(state(provider).await, [(2, 5)]);
    assert_eq!(provider.apply(vec![upsert(revised(1, 7)), upsert(revised(9, 4))], at(4)).await.unwrap(), 2);
    assert_eq!(state(provider).await, [(1, 7), (2, 5), (9, 4)]);
    assert_eq!(hits(provider, &text("")).await, [1, 2, 9]);
}

/// R14: the rule holds between the ops of one batch too.
pub async fn r14_order_within_a_batch_counts(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    let delete = |n, revision| IndexOp::Delete { id: product(n), revision };
    let batch = vec![
        upsert(revised(1, 1)),
        upsert(revised(1, 3)),
        upsert(revised(1, 2)),
        delete(2, 4),
        upsert(revised(2, 3)),
        upsert(revised(3, 1)),
        delete(3, 2),
        upsert(revised(3, 3)),
        upsert(revised(4, 1)),
        delete(4, 2),
    ];
    assert_eq!(provider.apply(batch, at(2)).await.unwrap(), 8);
    assert_eq!(state(provider).await, [(1, 3), (3, 3)]);
    assert_eq!(priced(provider, 3).await, [1, 3]);
    assert_eq!(hits(provider, &text("")).await, [1, 3]);
}

/// The checkpoint reads back as it was applied, with and without documents.
pub async fn r14_checkpoint_and_documents_move_together(provider: &dyn SearchProvider) {
    assert!(provider.acquire_writer().await.unwrap());
    let mut last = None;
    for seq in [3, 9, i64::MAX - 1] {
        assert_eq!(provider.checkpoint().await.unwrap(), last);
        assert_eq!(provider.apply(vec![upsert(revised(1, seq))], at(seq)).await.unwrap(), 1);
        last = Some(at(seq));
        assert_eq!(provider.checkpoint().await.unwrap(), last);
        assert_eq!(state(provider).await, [(1, seq)]);
    }
    assert_eq!(provider.apply(Vec::new(), at(i64::MAX)).await.unwrap(), 0);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(i64::MAX)), "it moves without documents too");
    assert_eq!(provider.apply(Vec::new(), at(i64::MAX)).await.unwrap(), 0, "applying again changes nothing");
    let other = Checkpoint { database: Uuid::from_u128(0xDC), position: OutboxPosition { seq: 1 } };
    assert_eq!(provider.apply(Vec::new(), other).await.unwrap(), 0);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(other));
}

/// R14: after any batches of any revisions in any order, the index has the highest revision of each product.
pub async fn r14_random_histories_equal_the_model(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    // Deterministic, so that a failure repeats.
    let mut runner = TestRunner::deterministic();
    let op = prop_oneof![3 => Just(false), 1 => Just(true)];
    let batches = proptest::collection::vec((0..12u128, 1..40i64, op, any::<bool>()), 0..25);
    // Revision, and whether it is live.
    let mut model: BTreeMap<u128, (i64, bool)> = BTreeMap::new();
    for round in 0..40 {
        // Later rounds reach higher, so that something changes in each.
        let batch = batches.new_tree(&mut runner).unwrap().current();
        let mut expected = 0;
        let mut ops = Vec::new();
        for (n, revision, delete, late) in batch {
            let revision = if late { revision } else { revision + round * 4 };
            if model.get(&n).is_none_or(|(r, _)| revision > *r) {
                model.insert(n, (revision, !delete));
                expected += 1;
            }
            ops.push(if delete { IndexOp::Delete { id: product(n), revision } } else { upsert(revised(n, revision)) });
        }
        let debug = format!("round {round}: {ops:?}");
        assert_eq!(provider.apply(ops, at(round + 2)).await.unwrap(), expected, "{debug}");
        let live: Vec<(u128, i64)> = model.iter().filter(|(_, v)| v.1).map(|(n, v)| (*n, v.0)).collect();
        assert_eq!(state(provider).await, live, "{debug}");
        let mut by_price = live.clone();
        by_price.sort_by_key(|(n, price)| (*price, *n));
        let found = hits(provider, &filtered(SearchFilter::default())).await;
        assert_eq!(found, by_price.iter().map(|l| l.0).collect::<Vec<_>>(), "{debug}");
        assert_eq!(provider.checkpoint().await.unwrap(), Some(at(round + 2)));
    }
}

/// Pages of `revisions` go on where the last one ended, over all steps that filled the index.
pub async fn revisions_list_live_documents_by_id(provider: &dyn SearchProvider) {
    load(provider, Vec::new()).await;
    // Ids far apart, in both halves of their bits.
    let n = |i: u128| (i % 7) << 96 | i << 3;
    let mut expected = Vec::new();
    for step in 0..5u128 {
        let ids: Vec<u128> = (0..11).map(|i| n(step * 11 + i)).collect();
        provider.apply(ids.iter().map(|i| upsert(revised(*i, 3))).collect(), at(2)).await.unwrap();
        expected.extend(ids.into_iter().map(|i| (product(i), 3)));
    }
    let gone = n(20);
    provider.apply(vec![IndexOp::Delete { id: product(gone), revision: 4 }], at(3)).await.unwrap();
    expected.retain(|(id, _)| number(*id) != gone);
    expected.sort_unstable();
    let mut seen: Vec<(ProductId, i64)> = Vec::new();
    loop {
        let page = provider.revisions(seen.last().map(|l| l.0), 7).await.unwrap();
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

/// Searches that run while batches are applied see each of them whole or not at all.
pub async fn a_batch_is_seen_whole_or_not_at_all(provider: &dyn SearchProvider) {
    let batch = |revision| (1..=20).map(|n| upsert(revised(n, revision))).collect::<Vec<_>>();
    load(provider, Vec::new()).await;
    provider.apply(batch(1), at(2)).await.unwrap();
    let done = AtomicBool::new(false);
    let write = async {
        for revision in 2..12 {
            assert_eq!(provider.apply(batch(revision), at(revision + 1)).await.unwrap(), 20);
            assert_eq!(priced(provider, revision).await.len(), 20, "searchable on return");
        }
        done.store(true, Ordering::SeqCst);
    };
    let read = async {
        let mut searches = 0;
        while !done.load(Ordering::SeqCst) {
            let found = provider.search(&filtered(SearchFilter::default())).await.unwrap();
            assert_eq!(found.total, exactly(20));
            let price = 1 + searches % 12;
            let n = priced(provider, price).await.len();
            assert!(n == 0 || n == 20, "{n} of 20 have the price {price}");
            searches += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}
