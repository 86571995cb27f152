//! A rebuild replaces the whole index while the old one goes on answering.

use super::support::{at, hits, load, product, revised, state, text, upsert};
use crate::port::search::{IndexOp, SearchProvider};

tests! {
    __search_rebuild: [
        a_rebuild_replaces_everything_and_serves_meanwhile,
        r14_changes_during_a_rebuild_are_replayed_onto_it,
        a_dropped_rebuild_leaves_the_old_index,
    ]
}

/// The new index replaces the old one at once and whole; until then the old one serves and takes changes.
pub async fn a_rebuild_replaces_everything_and_serves_meanwhile(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5), revised(2, 5), revised(3, 5)]).await;
    let mut build = provider.begin_rebuild().await.unwrap();
    build.add(vec![revised(2, 4), revised(7, 2)]).await.unwrap();
    build.add(Vec::new()).await.unwrap();
    build.add(vec![revised(8, 1)]).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 2, 3], "the old one serves");
    assert_eq!(state(provider).await, [(1, 5), (2, 5), (3, 5)]);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)));
    provider.apply(vec![upsert(revised(4, 1))], at(2)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 2, 3, 4], "the old one takes changes");
    build.publish(at(77)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [2, 7, 8]);
    assert_eq!(state(provider).await, [(2, 4), (7, 2), (8, 1)], "an older revision too: it is what the database has");
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(77)));
    assert!(provider.acquire_writer().await.unwrap());
    assert_eq!(provider.apply(vec![upsert(revised(2, 5)), upsert(revised(8, 1))], at(78)).await.unwrap(), 1);
    assert_eq!(state(provider).await, [(2, 5), (7, 2), (8, 1)]);
    // A second one, over the first.
    let build = provider.begin_rebuild().await.unwrap();
    build.publish(at(80)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [0u128; 0]);
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(80)));
}

/// R14: a rebuild as of a checkpoint, then everything since: the result is the model, whatever went where.
pub async fn r14_changes_during_a_rebuild_are_replayed_onto_it(provider: &dyn SearchProvider) {
    load(provider, (1..=10).map(|n| revised(n, 1)).collect()).await;
    let mut build = provider.begin_rebuild().await.unwrap();
    build.add((1..=5).map(|n| revised(n, 1)).collect()).await.unwrap();
    let since = || {
        vec![
            upsert(revised(2, 2)),
            IndexOp::Delete { id: product(3), revision: 2 },
            upsert(revised(9, 3)),
            upsert(revised(11, 1)),
        ]
    };
    assert_eq!(provider.apply(since(), at(9)).await.unwrap(), 4);
    // The rest is read from the database after the change, so that it has part of it already.
    build.add((6..=10).map(|n| revised(n, if n == 9 { 3 } else { 1 })).collect()).await.unwrap();
    build.publish(at(1)).await.unwrap();
    assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)), "where the replay starts");
    assert_eq!(provider.apply(since(), at(9)).await.unwrap(), 3);
    let expected = [(1, 1), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 3), (10, 1), (11, 1)];
    assert_eq!(state(provider).await, expected);
}

/// A build that is not published changes nothing, and another one can follow.
pub async fn a_dropped_rebuild_leaves_the_old_index(provider: &dyn SearchProvider) {
    load(provider, vec![revised(1, 5)]).await;
    for _ in 0..2 {
        let mut build = provider.begin_rebuild().await.unwrap();
        build.add(vec![revised(2, 1)]).await.unwrap();
        drop(build);
        assert_eq!(state(provider).await, [(1, 5)]);
        assert_eq!(provider.checkpoint().await.unwrap(), Some(at(1)));
    }
    provider.apply(vec![upsert(revised(3, 1))], at(2)).await.unwrap();
    assert_eq!(hits(provider, &text("")).await, [1, 3]);
}
