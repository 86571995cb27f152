//! The contract of [`FeedRepository`](crate::port::FeedRepository).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Map;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::feed::{FeedState, FeedVersion};
use crate::domain::common::Actor;
use crate::domain::platform::job::{Job, JobKind, JobLease};
use crate::error::ErrorCode;
use crate::id::JobId;
use crate::port::storage::Storage;
use crate::testkit::check::same;
use crate::testkit::code_of;

suite! {
    /// Runs the suite of [`FeedRepository`](crate::port::FeedRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    feed_suite, feed: fixture => &fixture.storage, __feed_tests: [
        a_state_is_stored_whole,
        a_feed_has_one_state,
        r01_a_state_of_another_version_is_not_overwritten,
        a_state_outlives_the_job_of_its_import,
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_700_000_000 + second, 123_456_000).unwrap()
}

fn new(name: &str) -> FeedState {
    FeedState::new(name, at(0), &Actor::new("user:editor"))
}

/// Inserts a job that the state can name.
async fn job(storage: &Arc<dyn Storage>, n: u128) -> JobId {
    let id = JobId(Uuid::from_u128(n));
    let job = Job::new(id, JobKind::IMPORT, Map::new(), at(0), &Actor::system());
    let job = job.claimed(JobLease { holder: Uuid::from_u128(n), expires_at: at(1) }, at(0));
    attempt!(storage, jobs.insert(&job)).unwrap();
    attempt!(storage, jobs.update(&job, &job.succeeded(job.counters.clone(), at(1)))).unwrap();
    job.id
}

/// The longest texts, and every field with and without a value.
pub async fn a_state_is_stored_whole(storage: &Arc<dyn Storage>) {
    let contract = "A state is read as it was written.";
    let before = new("erp");
    same(read!(storage, feeds.get(before.id)), None, contract, "before the insert");
    attempt!(storage, feeds.insert(&before)).unwrap();
    same(read!(storage, feeds.get(before.id)), Some(before.clone()), contract, "`get`");
    let version = FeedVersion::new("ä".repeat(FeedVersion::MAX));
    let job = job(storage, 1).await;
    let every = Duration::from_secs(300);
    let importing = before.importing(&[255; 32], version.as_ref(), job, every, at(2));
    attempt!(storage, feeds.update(&before, &importing)).unwrap();
    same(attempt!(storage, feeds.lock(before.id)).unwrap(), Some(importing.clone()), contract, "`lock`");
    let done = u64::from(u32::MAX) * 7;
    let failed = importing.failed(&"ä".repeat(FeedState::MAX_ERROR), done, None, every, at(4));
    attempt!(storage, feeds.update(&importing, &failed)).unwrap();
    same(read!(storage, feeds.get(before.id)), Some(failed.clone()), contract, "after a failure");
    let other = new("shop");
    attempt!(storage, feeds.insert(&other)).unwrap();
    let imported = failed.imported(every, at(6));
    attempt!(storage, feeds.update(&failed, &imported)).unwrap();
    let ids = [before.id, FeedState::id_of("missing"), other.id];
    let mut many = read!(storage, feeds.get_many(&ids));
    many.sort_by(|a, b| a.name.cmp(&b.name));
    same(many, vec![imported, other], "`get_many` returns the states that exist.", "two of three");
    same(read!(storage, feeds.get_many(&[])), vec![], "`get_many` returns the states that exist.", "no ids");
}

/// Two processes poll a new feed at once.
pub async fn a_feed_has_one_state(storage: &Arc<dyn Storage>) {
    let state = new("erp");
    attempt!(storage, feeds.insert(&state)).unwrap();
    let mut second = state.clone();
    second.id = FeedState::id_of("another id");
    assert_eq!(code_of(attempt!(storage, feeds.insert(&second)), "the name is taken"), ErrorCode::Duplicate);
    same(read!(storage, feeds.get(state.id)), Some(state), "A refused insert changes nothing.", "the first");
}

/// The version of the row is compared.
pub async fn r01_a_state_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let before = new("erp");
    let every = Duration::from_secs(300);
    let after = before.unchanged(every, at(1));
    assert_eq!(code_of(attempt!(storage, feeds.update(&before, &after)), "there is no row"), ErrorCode::NotFound);
    attempt!(storage, feeds.insert(&before)).unwrap();
    attempt!(storage, feeds.update(&before, &after)).unwrap();
    let late = before.requested(at(2), &Actor::new("user:late"));
    let refused = attempt!(storage, feeds.update(&before, &late));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(read!(storage, feeds.get(before.id)), Some(after), "A refused update changes nothing.", "version 2");
}

/// Old jobs are removed, and the state then names none.
pub async fn a_state_outlives_the_job_of_its_import(storage: &Arc<dyn Storage>) {
    let before = new("erp");
    attempt!(storage, feeds.insert(&before)).unwrap();
    let job = job(storage, 1).await;
    let after = before.importing(&[1], None, job, Duration::from_secs(300), at(2));
    attempt!(storage, feeds.update(&before, &after)).unwrap();
    same(
        attempt!(storage, jobs.trim(None, at(100), 10)).unwrap(),
        1,
        "A job that a feed names is removed.",
        "`jobs.trim`",
    );
    let rest = FeedState { last_job: None, ..after };
    same(read!(storage, feeds.get(before.id)), Some(rest), "A state outlives its job.", "`get`");
}
