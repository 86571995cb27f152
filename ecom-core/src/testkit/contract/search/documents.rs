//! Documents are added, replaced and deleted, and the highest revision wins (R14).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::{Just, Strategy as _, any, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use super::SearchFixture;
use super::support::{
    acquire, add, applies, apply, at, begin, checkpoint_is, delete, exactly, facet, filtered, hits, hits_are, load,
    number, page, priced, product, publish, revised, search, state_is, text, upsert,
};
use crate::domain::search::query::{Facet, SearchFilter, SearchQuery, SearchSort};
use crate::id::ProductId;
use crate::port::search::{Checkpoint, SearchProvider};
use crate::testkit::check::{holds, same, succeeds};
use crate::testkit::running::step;

tests! {
    __search_documents: [
        r14_late_older_revision_never_wins,
        r14_a_deleted_product_stays_deleted_for_late_documents,
        r14_order_within_a_batch_counts,
        r14_checkpoint_and_documents_move_together,
        r14_a_writer_that_does_not_know_the_checkpoint_changes_nothing,
        r14_random_histories_equal_the_model,
        revisions_list_live_documents_by_id,
        a_batch_is_seen_whole_or_not_at_all,
    ]
}

/// R14: a document whose revision is not above that in the index changes nothing.
pub async fn r14_late_older_revision_never_wins(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let about = "an older document, one of the same revision, and a delete of the same revision";
    applies(provider, vec![upsert(revised(1, 4)), upsert(revised(2, 5)), delete(1, 5)], at(2), 0, about).await;
    state_is(provider, &[(1, 5), (2, 5)], about).await;
    let contract = "A search finds each product in its highest revision only.";
    same(priced(provider, 5).await, [1, 2], contract, about);
    let about = "a newer document and an older one";
    applies(provider, vec![upsert(revised(1, 6)), upsert(revised(2, 3))], at(3), 1, about).await;
    state_is(provider, &[(1, 6), (2, 5)], about).await;
    same((priced(provider, 6).await, priced(provider, 5).await), (vec![1], vec![2]), contract, about);
}

/// R14: the index remembers the revision of a delete, so that only a newer document adds the product again.
pub async fn r14_a_deleted_product_stays_deleted_for_late_documents(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5), revised(2, 5)]).await;
    let about = "a delete of a product, and a delete of a product that the index has never contained";
    applies(provider, vec![delete(1, 6), delete(9, 3)], at(2), 2, about).await;
    state_is(provider, &[(2, 5)], about).await;
    let contract = "A search does not find deleted documents.";
    for sort in SearchSort::ALL {
        hits_are(provider, &SearchQuery { sort, ..text("") }, [2], contract).await;
    }
    if provider.capabilities().facets {
        let query = SearchQuery { facets: Facet::ALL.to_vec(), price_bounds: vec![0], ..text("") };
        let found = search(provider, &query).await;
        let contract = "Facets do not count deleted documents.";
        same(facet(&found, Facet::Prices), [("0", 1)], contract, about);
        same(facet(&found, Facet::Availability), [("in_stock", 1)], contract, about);
    }
    let about = "documents that are not newer than the delete of their product";
    let late = vec![upsert(revised(1, 5)), upsert(revised(1, 6)), upsert(revised(9, 2)), delete(1, 6)];
    applies(provider, late, at(3), 0, about).await;
    state_is(provider, &[(2, 5)], about).await;
    let about = "documents that are newer than the delete of their product";
    applies(provider, vec![upsert(revised(1, 7)), upsert(revised(9, 4))], at(4), 2, about).await;
    state_is(provider, &[(1, 7), (2, 5), (9, 4)], about).await;
    hits_are(provider, &text(""), [1, 2, 9], "A newer document adds a deleted product again.").await;
}

/// R14: the rule also applies within a batch.
pub async fn r14_order_within_a_batch_counts(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, Vec::new()).await;
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
    let about = "several ops of one product in one batch";
    applies(provider, batch, at(2), 8, about).await;
    state_is(provider, &[(1, 3), (3, 3)], about).await;
    let contract = "The ops of a batch are applied as if each were a batch of its own.";
    same(priced(provider, 3).await, [1, 3], contract, about);
    hits_are(provider, &text(""), [1, 3], contract).await;
}

/// The checkpoint is read back as it was applied, with and without documents.
pub async fn r14_checkpoint_and_documents_move_together(f: SearchFixture) {
    let provider = &*f.provider;
    acquire(provider).await;
    let mut last = None;
    for seq in [3, 9, i64::MAX - 1] {
        checkpoint_is(provider, last, "before the next batch").await;
        applies(provider, vec![upsert(revised(1, seq))], at(seq), 1, "a newer document").await;
        last = Some(at(seq));
        checkpoint_is(provider, last, "after a batch").await;
        state_is(provider, &[(1, seq)], "after a batch").await;
    }
    applies(provider, Vec::new(), at(i64::MAX), 0, "no ops").await;
    checkpoint_is(provider, Some(at(i64::MAX)), "a batch without ops stores its checkpoint").await;
    applies(provider, Vec::new(), at(i64::MAX), 0, "no ops, and the same checkpoint").await;
    applies(provider, vec![upsert(revised(1, 1))], at(5), 0, "an old document, and a lower checkpoint").await;
    checkpoint_is(provider, Some(at(5)), "a batch stores its checkpoint even if it is lower and no op is newer").await;
    let other = Checkpoint { database: Uuid::from_u128(0xDC), ..at(1) };
    applies(provider, Vec::new(), other, 0, "the checkpoint of another database").await;
    checkpoint_is(provider, Some(other), "the checkpoint includes the id of the database").await;
}

/// R14: after any batches of any revisions in any order, the index has the highest revision of each product.
pub async fn r14_random_histories_equal_the_model(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, Vec::new()).await;
    // The cases are deterministic, so that a failure can be repeated.
    let mut runner = TestRunner::deterministic();
    let op = prop_oneof![3 => Just(false), 1 => Just(true)];
    let batches = proptest::collection::vec((0..12u128, 1..40i64, op, any::<bool>()), 0..25);
    // The revision of each product, and whether it is live.
    let mut model: BTreeMap<u128, (i64, bool)> = BTreeMap::new();
    for round in 0..40 {
        // Later rounds have higher revisions, so that each round has changes.
        let batch = batches.new_tree(&mut runner).unwrap().current();
        let mut expected = 0;
        let mut ops = Vec::new();
        for (n, revision, deleted, late) in batch {
            let revision = if late { revision } else { revision + round * 4 };
            if model.get(&n).is_none_or(|(r, _)| revision > *r) {
                model.insert(n, (revision, !deleted));
                expected += 1;
            }
            ops.push(if deleted { delete(n, revision) } else { upsert(revised(n, revision)) });
        }
        let about = format!("round {round}: {ops:?}");
        applies(provider, ops, at(round + 2), expected, &about).await;
        let live: Vec<(u128, i64)> = model.iter().filter(|(_, v)| v.1).map(|(n, v)| (*n, v.0)).collect();
        state_is(provider, &live, &about).await;
        let mut by_price = live.clone();
        by_price.sort_by_key(|(n, price)| (*price, *n));
        let found = hits(provider, &filtered(SearchFilter::default())).await;
        let expected: Vec<u128> = by_price.iter().map(|l| l.0).collect();
        same(found, expected, "A search finds each live product in its highest revision.", &about);
        checkpoint_is(provider, Some(at(round + 2)), &about).await;
    }
}

/// R14: a process that has read the checkpoint before another one moved it, or replaced the index, writes nothing.
pub async fn r14_a_writer_that_does_not_know_the_checkpoint_changes_nothing(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5)]).await;
    applies(provider, vec![upsert(revised(2, 5))], at(2), 1, "a change").await;
    let elsewhere = Checkpoint { database: Uuid::from_u128(0xDC), ..at(2) };
    let repaired = Checkpoint { version: Uuid::from_u128(7), ..at(2) };
    let others = [None, Some(at(1)), Some(at(3)), Some(elsewhere), Some(repaired)];
    stale(provider, &others, at(2), &[(1, 5), (2, 5)]).await;
    let mut build = begin(provider).await;
    add(&mut *build, vec![revised(4, 1)]).await;
    publish(build, at(1)).await;
    stale(provider, &[None, Some(at(2))], at(1), &[(4, 1)]).await;
    applies(provider, vec![upsert(revised(1, 6))], at(2), 1, "a change by a process that knows the checkpoint").await;
    state_is(provider, &[(1, 6), (4, 1)], "a change by a process that knows the checkpoint").await;
}

/// Applies a change with each of these checkpoints, of which none is that of the index.
async fn stale(provider: &dyn SearchProvider, others: &[Option<Checkpoint>], known: Checkpoint, state: &[(u128, i64)]) {
    for before in others {
        let call = format!("`apply` after {before:?} to an index at {known:?}");
        step(&call);
        let applied = succeeds(provider.apply(vec![upsert(revised(3, 5))], *before, at(9)).await, &call);
        same(applied, None, "`apply` returns `None` if the index has another checkpoint than the caller knows.", &call);
        checkpoint_is(provider, Some(known), &call).await;
        // Only such a provider must have refused the document too.
        if provider.capabilities().own_checkpoint {
            state_is(provider, state, &call).await;
        }
    }
}

/// Each page of `revisions` continues after the previous one, in whatever batches the index was filled.
pub async fn revisions_list_live_documents_by_id(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, Vec::new()).await;
    // The ids differ in both halves of their bits.
    let n = |i: u128| (i % 7) << 96 | i << 3;
    let mut expected = Vec::new();
    for step in 0..5u128 {
        let ids: Vec<u128> = (0..11).map(|i| n(step * 11 + i)).collect();
        apply(provider, ids.iter().map(|i| upsert(revised(*i, 3))).collect(), at(2)).await;
        expected.extend(ids.into_iter().map(|i| (product(i), 3)));
    }
    let gone = n(20);
    applies(provider, vec![delete(gone, 4)], at(3), 1, "a delete").await;
    expected.retain(|(id, _)| number(*id) != gone);
    expected.sort_unstable();
    let mut seen: Vec<(ProductId, i64)> = Vec::new();
    // Each page begins above the previous one, so there cannot be more pages than documents.
    for _ in 0..=expected.len() {
        let page = page(provider, seen.last().map(|l| l.0), 7).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let contract = "The pages of `revisions` list every live document once, by id.";
    same(seen, expected, contract, "pages of 7 over 54 documents");
}

/// Searches that run while batches are applied find all documents of a batch or none.
pub async fn a_batch_is_seen_whole_or_not_at_all(f: SearchFixture) {
    let provider = &*f.provider;
    let batch = |revision| (1..=20).map(|n| upsert(revised(n, revision))).collect::<Vec<_>>();
    load(provider, Vec::new()).await;
    apply(provider, batch(1), at(2)).await;
    let done = AtomicBool::new(false);
    let write = async {
        for revision in 2..12 {
            applies(provider, batch(revision), at(revision + 1), 20, "a newer revision of all documents").await;
            let found = priced(provider, revision).await.len();
            same(
                found,
                20,
                "A search after `apply` has returned finds its changes.",
                format_args!("revision {revision}"),
            );
        }
        done.store(true, Ordering::SeqCst);
    };
    let read = async {
        let mut searches = 0;
        while !done.load(Ordering::SeqCst) {
            let contract = "A search finds all changes of a batch or none.";
            let found = search(provider, &filtered(SearchFilter::default())).await;
            same(found.total, exactly(20), contract, "a search for all documents while batches replace them");
            let price = 1 + searches % 12;
            let n = priced(provider, price).await.len();
            holds(n == 0 || n == 20, contract, format_args!("{n} of 20 documents have revision {price}"));
            searches += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(write, read);
}
