//! A rebuild replaces the whole index while the old one continues to serve searches.

use super::SearchFixture;
use super::support::{
    acquire, add, applies, at, begin, checkpoint_is, delete, hits_are, load, publish, revised, state_is, text, upsert,
};

tests! {
    __search_rebuild: [
        a_rebuild_replaces_everything_and_serves_meanwhile,
        r14_changes_during_a_rebuild_are_replayed_onto_it,
        a_dropped_rebuild_leaves_the_old_index,
    ]
}

/// The new index replaces the old one atomically. Until then, the old one serves searches and accepts changes.
pub async fn a_rebuild_replaces_everything_and_serves_meanwhile(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5), revised(2, 5), revised(3, 5)]).await;
    let mut build = begin(provider).await;
    add(&mut *build, vec![revised(2, 4), revised(7, 2)]).await;
    add(&mut *build, Vec::new()).await;
    add(&mut *build, vec![revised(8, 1)]).await;
    hits_are(provider, &text(""), [1, 2, 3], "The old index serves searches until the new one is published.").await;
    state_is(provider, &[(1, 5), (2, 5), (3, 5)], "a rebuild is being filled").await;
    checkpoint_is(provider, Some(at(1)), "a rebuild is being filled").await;
    applies(provider, vec![upsert(revised(4, 1))], at(2), 1, "a change while a rebuild is being filled").await;
    hits_are(provider, &text(""), [1, 2, 3, 4], "The old index accepts changes until the new one is published.").await;
    publish(build, at(77)).await;
    hits_are(provider, &text(""), [2, 7, 8], "`publish` replaces the whole old index.").await;
    state_is(
        provider,
        &[(2, 4), (7, 2), (8, 1)],
        "a rebuild is published, with a lower revision than the old index had",
    )
    .await;
    checkpoint_is(provider, Some(at(77)), "a rebuild is published").await;
    acquire(provider).await;
    applies(
        provider,
        vec![upsert(revised(2, 5)), upsert(revised(8, 1))],
        at(78),
        1,
        "changes after a rebuild is published",
    )
    .await;
    state_is(provider, &[(2, 5), (7, 2), (8, 1)], "changes after a rebuild is published").await;
    // A second rebuild replaces the first one.
    let build = begin(provider).await;
    publish(build, at(80)).await;
    hits_are(provider, &text(""), [], "A rebuild without documents publishes an empty index.").await;
    checkpoint_is(provider, Some(at(80)), "a second rebuild is published").await;
}

/// R14: after a rebuild from a checkpoint, all later changes are applied. The result equals the model, whichever index
/// has received a change.
pub async fn r14_changes_during_a_rebuild_are_replayed_onto_it(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, (1..=10).map(|n| revised(n, 1)).collect()).await;
    let mut build = begin(provider).await;
    add(&mut *build, (1..=5).map(|n| revised(n, 1)).collect()).await;
    let since = || vec![upsert(revised(2, 2)), delete(3, 2), upsert(revised(9, 3)), upsert(revised(11, 1))];
    applies(provider, since(), at(9), 4, "changes while a rebuild is being filled").await;
    // The other documents are read from the database after the change, so that they already contain it in part.
    add(&mut *build, (6..=10).map(|n| revised(n, if n == 9 { 3 } else { 1 })).collect()).await;
    publish(build, at(1)).await;
    checkpoint_is(provider, Some(at(1)), "a rebuild is published with the checkpoint at which the replay begins").await;
    applies(provider, since(), at(9), 3, "the same changes on the new index, which already contains one of them").await;
    let expected = [(1, 1), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 3), (10, 1), (11, 1)];
    state_is(provider, &expected, "a rebuild, and the changes since its checkpoint").await;
}

/// A build that is not published changes nothing, and another build can begin.
pub async fn a_dropped_rebuild_leaves_the_old_index(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5)]).await;
    for _ in 0..2 {
        let mut build = begin(provider).await;
        add(&mut *build, vec![revised(2, 1)]).await;
        drop(build);
        state_is(provider, &[(1, 5)], "a rebuild was dropped").await;
        checkpoint_is(provider, Some(at(1)), "a rebuild was dropped").await;
    }
    applies(provider, vec![upsert(revised(3, 1))], at(2), 1, "a change after two rebuilds were dropped").await;
    hits_are(provider, &text(""), [1, 3], "A rebuild that is dropped does not change the index.").await;
}
