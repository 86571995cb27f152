//! A provider with the capability `own_checkpoint` keeps its content when it is closed and opened again (R14).
//!
//! A provider without the capability is a server, which is responsible for its own durability. A provider whose index
//! is lost when it is closed opens empty and without a checkpoint, as every fixture of this suite does.

use super::SearchFixture;
use super::support::{
    acquire, add, applies, at, begin, checkpoint_is, delete, hits_are, load, publish, revised, skip, state_is, text,
    upsert,
};
use crate::testkit::running::skipped;

tests! {
    __search_durability: [
        r14_what_was_applied_is_there_after_reopening,
        r14_the_checkpoint_is_never_ahead_of_the_documents,
        r14_deleted_revisions_are_there_after_reopening,
        r14_a_published_rebuild_is_there_after_reopening,
    ]
}

const APPLIED: &str =
    "Changes are durable once `apply` has returned: the index has them after the provider was opened again.";

/// Returns whether the provider has the capability `own_checkpoint`. If it does not, the test is reported as skipped.
fn keeps_its_checkpoint(f: &SearchFixture) -> bool {
    let able = f.provider.capabilities().own_checkpoint;
    if !able {
        skip("durability", "own_checkpoint");
    }
    able
}

/// Closes the provider and opens it again. If its index is lost, the test is reported as skipped.
async fn reopened(f: SearchFixture) -> Option<SearchFixture> {
    let f = f.reopen().await;
    if f.is_none() {
        skipped("search", "durability", "the provider keeps its index in memory");
    }
    f
}

/// Documents, replaced documents and the checkpoint are applied several times.
pub async fn r14_what_was_applied_is_there_after_reopening(f: SearchFixture) {
    if !keeps_its_checkpoint(&f) {
        return;
    }
    load(&*f.provider, vec![revised(1, 5), revised(2, 5), revised(3, 5)]).await;
    applies(&*f.provider, vec![upsert(revised(2, 6)), delete(3, 6)], at(2), 2, "a newer document and a delete").await;
    let Some(mut f) = reopened(f).await else { return };
    for round in 0..2 {
        let provider = &*f.provider;
        // The checkpoint can be read before a process has acquired the right to write.
        checkpoint_is(provider, Some(at(2 + round)), "opened again").await;
        let mut expected = vec![(1, 5), (2, 6)];
        expected.extend((0..round).map(|n| (10 + u128::from(n.unsigned_abs()), 1)));
        state_is(provider, &expected, format_args!("opened again. {APPLIED}")).await;
        acquire(provider).await;
        checkpoint_is(provider, Some(at(2 + round)), "opened again, with the right to write").await;
        let new = vec![upsert(revised(10 + u128::from(round.unsigned_abs()), 1)), upsert(revised(1, 5))];
        applies(provider, new, at(3 + round), 1, "opened again, with a new document and one that the index has").await;
        let Some(again) = reopened(f).await else { return };
        f = again;
    }
    hits_are(&*f.provider, &text(""), [1, 2, 10, 11], APPLIED).await;
}

/// If the checkpoint were ahead of the documents, the events between them would never be applied.
pub async fn r14_the_checkpoint_is_never_ahead_of_the_documents(f: SearchFixture) {
    if !keeps_its_checkpoint(&f) {
        return;
    }
    load(&*f.provider, (1..=20).map(|n| revised(n, 1)).collect()).await;
    let Some(f) = reopened(f).await else { return };
    let all: Vec<(u128, i64)> = (1..=20).map(|n| (n, 1)).collect();
    state_is(&*f.provider, &all, format_args!("opened again after one `apply`. {APPLIED}")).await;
    checkpoint_is(&*f.provider, Some(at(1)), "opened again after one `apply`").await;
    acquire(&*f.provider).await;
    applies(&*f.provider, Vec::new(), at(7), 0, "no ops").await;
    let Some(f) = reopened(f).await else { return };
    checkpoint_is(&*f.provider, Some(at(7)), "opened again after an `apply` without ops").await;
    state_is(&*f.provider, &all, format_args!("opened again after an `apply` without ops. {APPLIED}")).await;
}

/// Without these revisions, a late document would add a deleted product again.
pub async fn r14_deleted_revisions_are_there_after_reopening(f: SearchFixture) {
    if !keeps_its_checkpoint(&f) {
        return;
    }
    load(&*f.provider, vec![revised(1, 5), revised(2, 5)]).await;
    applies(&*f.provider, vec![delete(1, 6), delete(9, 3)], at(2), 2, "deletes").await;
    let Some(f) = reopened(f).await else { return };
    let provider = &*f.provider;
    acquire(provider).await;
    let late = vec![upsert(revised(1, 5)), upsert(revised(1, 6)), upsert(revised(9, 3)), upsert(revised(2, 4))];
    let about = "opened again, with documents that are not newer than the document or the delete in the index";
    applies(provider, late, at(3), 0, about).await;
    state_is(provider, &[(2, 5)], about).await;
    applies(provider, vec![upsert(revised(1, 7))], at(4), 1, "a newer document of a deleted product").await;
}

/// A published index is there, and an unpublished one is not.
pub async fn r14_a_published_rebuild_is_there_after_reopening(f: SearchFixture) {
    if !keeps_its_checkpoint(&f) {
        return;
    }
    load(&*f.provider, vec![revised(1, 5), revised(2, 5)]).await;
    let mut build = begin(&*f.provider).await;
    add(&mut *build, vec![revised(2, 4), revised(7, 1)]).await;
    publish(build, at(70)).await;
    let mut build = begin(&*f.provider).await;
    add(&mut *build, vec![revised(8, 1)]).await;
    drop(build);
    let Some(f) = reopened(f).await else { return };
    let about = "opened again after one rebuild was published and another one dropped";
    checkpoint_is(&*f.provider, Some(at(70)), about).await;
    state_is(&*f.provider, &[(2, 4), (7, 1)], about).await;
    hits_are(&*f.provider, &text(""), [2, 7], "A rebuild is durable once `publish` has returned.").await;
}
