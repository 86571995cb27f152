//! A rebuild replaces the whole index while the old one continues to serve searches.

use super::SearchFixture;
use super::support::{
    acquire, add, applies, at, begin, begin_at, checkpoint_is, delete, hits_are, load, product, publish, release,
    revised, skip, state_is, text, upsert,
};
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::language::Language;
use crate::port::search::{BuildProgress, BuildStart, SearchDocument, SearchProvider};
use crate::testkit::check::{holds, same};
use crate::testkit::running::step;

tests! {
    __search_rebuild: [
        a_rebuild_replaces_everything_and_serves_meanwhile,
        r14_changes_during_a_rebuild_are_replayed_onto_it,
        a_dropped_rebuild_leaves_the_old_index,
        r14_a_build_that_was_left_is_continued,
        r14_a_build_that_does_not_fit_is_begun_anew,
        r14_a_build_that_another_process_continues_loses_nothing,
    ]
}

/// The new index replaces the old one atomically. Until then, the old one serves searches and accepts changes, and the
/// build goes on although the right to write is released meanwhile.
pub async fn a_rebuild_replaces_everything_and_serves_meanwhile(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(1, 5), revised(2, 5), revised(3, 5)]).await;
    let mut build = begin(provider).await;
    add(&mut *build, vec![revised(2, 4), revised(7, 2)]).await;
    add(&mut *build, Vec::new()).await;
    release(provider).await;
    add(&mut *build, vec![revised(8, 1)]).await;
    hits_are(provider, &text(""), [1, 2, 3], "The old index serves searches until the new one is published.").await;
    state_is(provider, &[(1, 5), (2, 5), (3, 5)], "a rebuild is being filled").await;
    checkpoint_is(provider, Some(at(1)), "a rebuild is being filled").await;
    applies(provider, vec![upsert(revised(4, 1))], at(2), 1, "a change while a rebuild is being filled").await;
    hits_are(provider, &text(""), [1, 2, 3, 4], "The old index accepts changes until the new one is published.").await;
    release(provider).await;
    publish(build, at(77)).await;
    hits_are(provider, &text(""), [2, 7, 8], "`publish` replaces the whole old index.").await;
    state_is(
        provider,
        &[(2, 4), (7, 2), (8, 1)],
        "a rebuild is published, with a lower revision than the old index had",
    )
    .await;
    checkpoint_is(provider, Some(at(77)), "a rebuild is published").await;
    release(provider).await;
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

/// The number of products of a build that is left, and of each of its pages.
const LEFT: u128 = 60;
const PAGE: u128 = 3;

fn of_page(page: u128) -> Vec<SearchDocument> {
    (1..=PAGE).map(|n| revised(page * PAGE + n, 1)).collect()
}

/// Begins a build at this start, adds 60 documents to it, and leaves it. Returns false, and reports the test as
/// skipped, if the provider does not continue builds.
async fn leave(provider: &dyn SearchProvider, start: BuildStart) -> bool {
    if !provider.capabilities().continues_builds {
        // It may ignore everything that the caller says about an earlier build.
        let build = begin_at(provider, start, Some(0)).await;
        let contract = "A provider without the capability `continues_builds` begins every build anew.";
        same(build.continued(), None, contract, "`continued` of a build");
        skip("rebuild", "continues_builds");
        return false;
    }
    let mut build = begin_at(provider, start, None).await;
    for page in 0..LEFT / PAGE {
        add(&mut *build, of_page(page)).await;
    }
    drop(build);
    true
}

/// Checks the progress of a build that was abandoned after `added` products and then continued, and returns the number
/// of the last product that it has.
fn last_of(continued: Option<BuildProgress>, start: BuildStart, added: u128, about: &str) -> u128 {
    let contract = "A build that was left is continued, if many products were added to it and it fits.";
    let Some(progress) = continued else { panic!("{contract}\n     case: {about}") };
    same(progress.start, start, "A build that is continued has the start of the earlier one.", about);
    let last = super::support::number(progress.after);
    let contract = "A build that is continued has all products up to one that was given to `add`.";
    holds(last.is_multiple_of(PAGE) && (PAGE..=added).contains(&last), contract, format_args!("{about}: {last}"));
    last
}

/// R14: what a process has added before it was killed is not added again.
pub async fn r14_a_build_that_was_left_is_continued(f: SearchFixture) {
    load(&*f.provider, vec![revised(2, 9)]).await;
    let start = at(10).into();
    if !leave(&*f.provider, start).await {
        return;
    }
    state_is(&*f.provider, &[(2, 9)], "a build was left").await;
    let (mut f, mut last, mut added) = (f.in_another_process().await, 0, LEFT);
    // The second process is killed too, and the third one continues from where that one has come.
    for (process, seq) in [(2, 10), (3, 20)] {
        acquire(&*f.provider).await;
        let mut build = begin_at(&*f.provider, at(seq).into(), Some(10)).await;
        let about = format!("process {process}");
        let found = last_of(build.continued(), start, added, &about);
        holds(found > last, "A build that is continued again has more of the products.", &about);
        // A page that the index has already is added once more.
        (last, added) = (found, added + LEFT);
        for page in last / PAGE - 1..added / PAGE {
            add(&mut *build, of_page(page)).await;
        }
        if process == 2 {
            drop(build);
            f = f.in_another_process().await;
        } else {
            publish(build, at(10)).await;
        }
    }
    let all: Vec<(u128, i64)> = (1..=added).map(|n| (n, 1)).collect();
    state_is(&*f.provider, &all, "a build was continued and published").await;
    checkpoint_is(&*f.provider, Some(at(10)), "a build was continued and published").await;
    let build = begin_at(&*f.provider, at(20).into(), Some(10)).await;
    same(build.continued(), None, "A build that was published is not continued.", "`continued` of the next build");
    publish(build, at(20)).await;
    hits_are(&*f.provider, &text(""), [], "The next build has nothing of the one that was published.").await;
}

/// The build that was left is of another database or language, or the outbox lacks events since it began, or was
/// restored to a state before it began, or the caller wants nothing of it.
pub async fn r14_a_build_that_does_not_fit_is_begun_anew(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(2, 9)]).await;
    let left: BuildStart = at(10).into();
    let ours = BuildStart { position: OutboxPosition { seq: 20 }, ..left };
    for (start, since, about) in [
        (BuildStart { database: uuid::Uuid::from_u128(7), ..ours }, Some(0), "a build of another database was left"),
        (BuildStart { language: Language::German, ..ours }, Some(0), "a build in another language was left"),
        (ours, Some(11), "a build was left that has begun before `since`"),
        (BuildStart { position: OutboxPosition { seq: 9 }, ..left }, Some(0), "a build was left that has begun later"),
        (ours, None, "a build was left, and there is no `since`"),
    ] {
        if !leave(provider, left).await {
            return;
        }
        let mut build = begin_at(provider, start, since).await;
        same(build.continued(), None, "A build is continued only if it fits, and only with `since`.", about);
        add(&mut *build, vec![revised(500, 1)]).await;
        publish(build, at(20)).await;
        state_is(provider, &[(500, 1)], format_args!("{about}, and a new one was published")).await;
    }
}

/// The process that has begun the build was stopped, and not killed, and goes on after another one has continued it.
/// One of the two publishes the whole index, and the other one fails.
pub async fn r14_a_build_that_another_process_continues_loses_nothing(f: SearchFixture) {
    let provider = &*f.provider;
    load(provider, vec![revised(2, 9)]).await;
    let start = at(10).into();
    // The product after the last one of the build has changed since the stopped process has read it.
    let rest = |after: u128, revision: i64| {
        let mut rest: Vec<_> = (after + 1..=LEFT).map(|n| revised(n, 1)).collect();
        rest.push(revised(LEFT + 1, revision));
        rest
    };
    let mut all: Vec<(u128, i64)> = (1..=LEFT).map(|n| (n, 1)).collect();
    all.push((LEFT + 1, 5));
    for is_faster in [false, true] {
        if !leave(provider, start).await {
            return;
        }
        let about = if is_faster { "the stopped process publishes first" } else { "the stopped process is late" };
        let mut stopped = begin_at(provider, at(19).into(), Some(0)).await;
        let mut second = begin_at(provider, at(20).into(), Some(0)).await;
        let had = last_of(stopped.continued(), start, LEFT, about);
        let has = last_of(second.continued(), start, LEFT, about);
        add(&mut *second, rest(has, 5)).await;
        step("`add` to a build that another process has continued");
        let added = stopped.add(rest(had, 2), product(LEFT + 1)).await;
        let (published, by) = if is_faster {
            step("`publish` of a build that another process has continued");
            let first = stopped.publish(at(11)).await;
            holds(added.is_ok() || first.is_err(), "A build is not published after `add` has failed.", about);
            step("`publish` of the build that has continued another one");
            (second.publish(at(10)).await.is_ok(), first.is_ok())
        } else {
            publish(second, at(10)).await;
            step("`publish` of a build that was published by another process");
            (true, stopped.publish(at(11)).await.is_ok())
        };
        holds(published != by, "Of two processes, one publishes a build, and the other one fails.", about);
        state_is(provider, &all, about).await;
        checkpoint_is(provider, Some(at(if published { 10 } else { 11 })), about).await;
    }
}
