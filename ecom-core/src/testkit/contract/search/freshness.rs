//! The checkpoint describes the documents that searches find, so that cached results and searches that wait for an event
//! can rely on it (R15).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use super::SearchFixture;
use super::support::{acquire, applies, at, begin, checkpoint_is, filtered, load, publish, revised, search, upsert};
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::port::search::{Checkpoint, SearchProvider};
use crate::testkit::check::{holds, succeeds};
use crate::testkit::running::step;
use crate::testkit::sample::usd;

tests! {
    __search_freshness: [
        r15_the_checkpoint_has_the_version_of_the_last_change,
        r15_a_search_finds_what_the_checkpoint_before_it_names,
    ]
}

/// The version changes while the position stays, as in a repair and in a rebuild, and the position changes while the
/// version stays, as after events that change no document.
pub async fn r15_the_checkpoint_has_the_version_of_the_last_change(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 1)]).await;
    let version = |n: u128| Checkpoint { version: Uuid::from_u128(n), ..at(1) };
    applies(provider, vec![upsert(revised(1, 2))], version(7), 1, "a change at the same position").await;
    checkpoint_is(provider, Some(version(7)), "a change at the same position stores its version").await;
    applies(provider, Vec::new(), version(8), 0, "no ops, and only another version").await;
    checkpoint_is(provider, Some(version(8)), "a batch without ops stores its version").await;
    let moved = Checkpoint { position: at(5).position, ..version(8) };
    applies(provider, Vec::new(), moved, 0, "no ops, and only another position").await;
    checkpoint_is(provider, Some(moved), "a batch without ops stores its position, and the version as it is").await;
    let build = begin(provider).await;
    let rebuilt = Checkpoint { version: Uuid::from_u128(9), ..moved };
    publish(build, rebuilt).await;
    checkpoint_is(provider, Some(rebuilt), "a rebuild at the same position stores its version").await;
}

/// Readers read the checkpoint and then search, while documents change all the time.
pub async fn r15_a_search_finds_what_the_checkpoint_before_it_names(f: SearchFixture) {
    const CHANGES: i64 = 60;
    load(&*f.provider, vec![revised(1, 1)]).await;
    acquire(&*f.provider).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (provider, done) = (f.provider.clone(), done.clone());
        readers.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                finds_at_least_its_checkpoint(&*provider).await;
                tokio::task::yield_now().await;
            }
        });
    }
    for seq in 2..=CHANGES {
        applies(&*f.provider, vec![upsert(revised(1, seq))], at(seq), 1, "a newer document").await;
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    while let Some(reader) = readers.join_next().await {
        if let Err(failed) = reader {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
}

/// The price of the document is its revision, which is the position of the checkpoint.
async fn finds_at_least_its_checkpoint(provider: &dyn SearchProvider) {
    step("`checkpoint`");
    let Some(seen) = succeeds(provider.checkpoint().await, "`checkpoint`") else { return };
    let least = seen.position.seq;
    let filter = SearchFilter { min_price: Some(usd(least)), ..SearchFilter::default() };
    let query: SearchQuery = filtered(filter);
    let found = search(provider, &query).await;
    holds(
        found.hits.len() == 1,
        "A search that begins after `checkpoint` has returned finds what was applied with that checkpoint.",
        format_args!("`checkpoint` has returned position {least}, and the search finds an older document"),
    );
}
