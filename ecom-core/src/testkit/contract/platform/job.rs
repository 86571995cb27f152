//! The contract of [`JobRepository`](crate::port::JobRepository).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::platform::job::{Job, JobCounters, JobFilter, JobKind, JobLease, JobRejection, JobState};
use crate::error::{Error, ErrorCode, FieldCode};
use crate::id::{IdSource as _, JobId};
use crate::paging::{Keyset, Page, Paging, SortKey};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::sample::Env;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`JobRepository`](crate::port::JobRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    job_suite, job: fixture => &fixture.storage, __job_tests: [
        a_job_is_read_as_it_was_written,
        r01_a_job_of_another_version_is_not_overwritten,
        of_equal_jobs_one_waits_for_its_first_run,
        queued_jobs_are_found_by_kind,
        a_due_job_is_found_and_the_longest_due_comes_first,
        a_locked_job_is_skipped_by_others,
        of_many_workers_each_takes_other_jobs,
        a_list_filters_by_kind_and_state_and_pages_both_ways,
        a_cursor_of_another_list_is_refused,
        old_jobs_that_have_ended_are_removed,
        rejections_are_read_in_order_and_go_with_their_job,
    ]
}

const TTL: Duration = Duration::from_secs(30);

/// Returns a job that waits for its first run, unlike all others, because its parameters have its number.
fn numbered(env: &Env, kind: JobKind, n: u32) -> Job {
    let parameters = Map::from_iter([("n".to_owned(), json!(n))]);
    Job::new(JobId(env.ids.next()), kind, parameters, env.now(), &env.actor)
}

fn lease(env: &Env, expires_at: Timestamp) -> JobLease {
    JobLease { holder: env.ids.next(), expires_at }
}

/// Returns the job as a worker has taken it.
fn claimed(env: &Env, job: &Job) -> Job {
    let now = env.now();
    job.claimed(lease(env, now + TTL), now)
}

async fn insert(storage: &Arc<dyn Storage>, job: &Job) {
    attempt!(storage, jobs.insert(job)).unwrap();
}

async fn update(storage: &Arc<dyn Storage>, before: &Job, after: &Job) {
    attempt!(storage, jobs.update(before, after)).unwrap();
}

/// A job of every state, with all fields and with none.
pub async fn a_job_is_read_as_it_was_written(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "A job is read as it was written.";
    let parameters = json!({ "repair": true, "z": [1, null, { "ü": "🛋" }], "a": "b" }).as_object().unwrap().clone();
    let mut job = Job::new(JobId(env.ids.next()), JobKind::Verify, parameters, env.now(), &Actor::new("Grüße 🛒"));
    insert(storage, &job).await;
    same(read!(storage, jobs.get(job.id)), Some(job.clone()), contract, "queued");
    let counters = JobCounters::from([("written".to_owned(), 0), ("größe".to_owned(), u64::from(u32::MAX) * 1_000)]);
    let running = claimed(&env, &job);
    let renewed = running.renewed(running.lease.unwrap(), counters.clone(), env.now());
    let long = "ä\"\\🛋".repeat(250);
    let paused = renewed.failed(&long, false, counters.clone(), env.now());
    holds(paused.last_error.as_ref().is_some_and(|e| e.chars().count() == Job::MAX_ERROR), contract, "the test itself");
    let again = claimed(&env, &paused);
    let failed = again.failed("down", true, counters.clone(), env.now());
    let retried = failed.retried(env.now(), &env.actor);
    let last = claimed(&env, &retried);
    let back = last.released(env.now() + TTL, env.now());
    let done = claimed(&env, &back).succeeded(counters, env.now());
    let claimed_again = claimed(&env, &back);
    for after in [running, renewed, paused, again, failed, retried, last, back, claimed_again, done] {
        // The version of each state follows on that of the row.
        let mut after = after;
        after.audit.version = job.audit.version + 1;
        update(storage, &job, &after).await;
        same(read!(storage, jobs.get(job.id)), Some(after.clone()), contract, after.state.as_str());
        same(attempt!(storage, jobs.lock(job.id)).unwrap(), Some(after.clone()), contract, "`lock`");
        job = after;
    }
    let unknown = JobId(env.ids.next());
    same(read!(storage, jobs.get(unknown)), None, "A job that does not exist is not found.", "`get`");
    same(attempt!(storage, jobs.lock(unknown)).unwrap(), None, "A job that does not exist is not found.", "`lock`");
}

/// The version of the row is compared.
pub async fn r01_a_job_of_another_version_is_not_overwritten(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let job = numbered(&env, JobKind::Reindex, 1);
    let first = claimed(&env, &job);
    let missing = attempt!(storage, jobs.update(&job, &first));
    assert_eq!(code_of(missing, "the row does not exist"), ErrorCode::NotFound);
    insert(storage, &job).await;
    update(storage, &job, &first).await;
    let refused = attempt!(storage, jobs.update(&job, &claimed(&env, &job)));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(read!(storage, jobs.get(job.id)), Some(first), "A refused update changes nothing.", "version 2");
}

/// A job that has run, or that has other parameters or another kind, is in nobody's way.
pub async fn of_equal_jobs_one_waits_for_its_first_run(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let of = |kind, parameters: serde_json::Value| {
        let parameters = parameters.as_object().unwrap().clone();
        Job::new(JobId(env.ids.next()), kind, parameters, env.now(), &env.actor)
    };
    let both = || json!({ "a": 1, "b": { "c": 2 } });
    let first = of(JobKind::Verify, both());
    insert(storage, &first).await;
    for other in [
        of(JobKind::Reindex, both()),
        of(JobKind::Verify, json!({})),
        of(JobKind::Verify, json!({ "a": 1 })),
        of(JobKind::Verify, json!({ "a": 1, "b": { "c": 3 } })),
    ] {
        insert(storage, &other).await;
    }
    let twin = of(JobKind::Verify, both());
    is_taken("kind", attempt!(storage, jobs.insert(&twin)), "an equal job waits");
    same(read!(storage, jobs.get(twin.id)), None, "A refused insert writes nothing.", "the second one");
    let running = claimed(&env, &first);
    update(storage, &first, &running).await;
    insert(storage, &twin).await;
    // The first one has run, so it can be queued beside the other.
    update(storage, &running, &running.failed("down", false, JobCounters::new(), env.now())).await;
    let third = of(JobKind::Verify, both());
    is_taken("kind", attempt!(storage, jobs.insert(&third)), "the second one waits");
}

/// Jobs in other states and of other kinds are not found.
pub async fn queued_jobs_are_found_by_kind(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut queued = Vec::new();
    for n in 0..12 {
        let job = numbered(&env, if n % 2 == 0 { JobKind::Reindex } else { JobKind::Verify }, n);
        insert(storage, &job).await;
        let running = claimed(&env, &job);
        match n {
            0..4 => queued.push(job),
            4..6 => {
                let paused = running.failed("down", false, JobCounters::new(), env.now());
                update(storage, &job, &Job { audit: running.audit.clone(), ..paused.clone() }).await;
                queued.push(Job { audit: running.audit.clone(), ..paused });
            }
            6..8 => update(storage, &job, &running).await,
            8..10 => {
                let done = running.succeeded(JobCounters::new(), env.now());
                update(storage, &job, &Job { audit: running.audit, ..done }).await;
            }
            _ => {
                let failed = running.failed("broken", true, JobCounters::new(), env.now());
                update(storage, &job, &Job { audit: running.audit, ..failed }).await;
            }
        }
    }
    for kind in JobKind::ALL {
        let expected: Vec<Job> = queued.iter().filter(|j| j.kind == *kind).cloned().collect();
        let contract = "`queued` returns the queued jobs of a kind, oldest first.";
        same(read!(storage, jobs.queued(*kind)), expected, contract, kind.as_str());
    }
}

/// Takes the next job as a worker does, and returns it as it was.
async fn take(storage: &Arc<dyn Storage>, env: &Env, kinds: &[JobKind], now: Timestamp) -> Option<Job> {
    let mut unit = storage.begin().await.unwrap();
    let job = unit.jobs().lock_due(kinds, now).await.unwrap()?;
    let after = job.claimed(lease(env, now + TTL), now);
    unit.jobs().update(&job, &after).await.unwrap();
    unit.commit().await.unwrap();
    Some(job)
}

/// Queued jobs are due after their pause, and running ones after their lease.
pub async fn a_due_job_is_found_and_the_longest_due_comes_first(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let both = JobKind::ALL;
    let contract = "A job is due from the time that `Job::due_at` returns.";
    let is_due = async |kinds: &[JobKind], now| read!(storage, jobs.is_due(kinds, now));
    let start = env.now();
    holds(!is_due(both, start).await, contract, "no job");
    same(take(storage, &env, both, start).await, None, contract, "no job");

    let at = |seconds: i64| start + chrono::TimeDelta::seconds(seconds);
    let mut jobs = Vec::new();
    for (n, due) in [(0, 50), (1, 20), (2, 40), (3, 30)] {
        let mut job = numbered(&env, if n == 2 { JobKind::Verify } else { JobKind::Reindex }, n);
        if n == 3 {
            job = job.claimed(lease(&env, at(due)), start);
        } else {
            job.run_after = at(due);
        }
        insert(storage, &job).await;
        jobs.push(job);
    }
    let ended = numbered(&env, JobKind::Reindex, 9);
    insert(storage, &ended.claimed(lease(&env, at(1)), start).succeeded(JobCounters::new(), start)).await;

    holds(!is_due(both, at(20) - chrono::TimeDelta::microseconds(1)).await, contract, "a moment before");
    holds(is_due(both, at(20)).await && is_due(&[JobKind::Reindex], at(20)).await, contract, "at that time");
    holds(!is_due(&[JobKind::Verify], at(39)).await && !is_due(&[], at(99)).await, contract, "another kind");
    same(take(storage, &env, &[], at(99)).await, None, contract, "no kind");
    same(take(storage, &env, &[JobKind::Verify], at(39)).await, None, contract, "another kind");
    let order = "`lock_due` returns the job that has been due for the longest time.";
    for (n, about) in [(1, "queued"), (3, "its lease has run out"), (2, "queued"), (0, "queued")] {
        same(take(storage, &env, both, at(50)).await, Some(jobs[n].clone()), order, about);
    }
    same(take(storage, &env, both, at(50)).await, None, contract, "all of them are taken");
    same(take(storage, &env, both, at(79)).await, None, contract, "the leases are held");
    let again = take(storage, &env, &[JobKind::Verify], at(80)).await.map(|job| (job.id, job.attempts));
    same(again, Some((jobs[2].id, 1)), contract, "the lease has run out");
}

/// A worker that has found a job does not hold up another one, which finds the next job. A database with one writer
/// lets the other wait instead.
pub async fn a_locked_job_is_skipped_by_others(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let now = env.now();
    let (first, second) = (numbered(&env, JobKind::Reindex, 1), numbered(&env, JobKind::Reindex, 2));
    for job in [&first, &second] {
        insert(storage, job).await;
    }
    let now = now + TTL;
    let contract = "A job that another transaction has locked is skipped, and free again after a rollback.";
    let mut one = storage.begin().await.unwrap();
    same(one.jobs().lock_due(JobKind::ALL, now).await.unwrap(), Some(first.clone()), contract, "the first worker");
    let mut other = {
        let (storage, env) = (storage.clone(), Env::new(7));
        tokio::spawn(async move { take(&storage, &env, JobKind::ALL, now).await })
    };
    // On a database with one writer, the other one has its turn after the rollback.
    let has_one_writer = storage.has_one_writer();
    let limit = Duration::from_secs(if has_one_writer { 1 } else { 30 });
    let skipped = tokio::time::timeout(limit, &mut other).await;
    one.rollback().await.unwrap();
    let taken = match skipped {
        Ok(taken) => taken.unwrap(),
        Err(_) => other.await.unwrap(),
    };
    let is_second = taken.as_ref() == Some(&second);
    holds(
        is_second || has_one_writer && taken.as_ref() == Some(&first),
        contract,
        format_args!("the second worker: {taken:?}"),
    );
    let left = take(storage, &env, JobKind::ALL, now).await;
    same(left, Some(if is_second { first } else { second }), contract, "after the rollback");
}

/// Ten workers take jobs until there are none.
pub async fn of_many_workers_each_takes_other_jobs(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all = HashSet::new();
    for n in 0..40 {
        let job = numbered(&env, JobKind::Reindex, n);
        insert(storage, &job).await;
        all.insert(job.id);
    }
    let now = env.now();
    let mut workers = tokio::task::JoinSet::new();
    for n in 0..10 {
        let storage = storage.clone();
        workers.spawn(async move {
            let env = Env::new(100 + n);
            let (mut taken, mut idle) = (Vec::new(), 0);
            // A worker that finds every due job locked by others looks again.
            while idle < 3 {
                match take(&storage, &env, JobKind::ALL, now).await {
                    Some(job) => taken.push(job.id),
                    None => idle += 1,
                }
            }
            taken
        });
    }
    let mut taken: Vec<JobId> = workers.join_all().await.concat();
    while let Some(job) = take(storage, &env, JobKind::ALL, now).await {
        taken.push(job.id);
    }
    let contract = "Of many workers, exactly one takes each job.";
    same(taken.len(), 40, contract, "how many jobs were taken");
    same(taken.into_iter().collect::<HashSet<_>>(), all, contract, "which jobs were taken");
}

async fn list(storage: &Arc<dyn Storage>, filter: &JobFilter, paging: &Paging) -> Page<Job> {
    read!(storage, jobs.list(filter, paging))
}

/// Both kinds of paging, with every filter.
pub async fn a_list_filters_by_kind_and_state_and_pages_both_ways(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all = Vec::new();
    for n in 0..23 {
        let job = numbered(&env, if n % 3 == 0 { JobKind::Verify } else { JobKind::Reindex }, n);
        let running = claimed(&env, &job);
        let job = match n % 4 {
            0 => job,
            1 => running,
            2 => running.succeeded(JobCounters::new(), env.now()),
            _ => running.failed("broken", true, JobCounters::new(), env.now()),
        };
        insert(storage, &job).await;
        all.insert(0, job);
    }
    let kinds = JobKind::ALL.iter().copied().map(Some).chain([None]);
    for kind in kinds {
        for state in JobState::ALL.iter().copied().map(Some).chain([None]) {
            let filter = JobFilter { kind, state };
            let matches = |j: &&Job| kind.is_none_or(|k| j.kind == k) && state.is_none_or(|s| j.state == s);
            let expected: Vec<Job> = all.iter().filter(matches).cloned().collect();
            let about = format!("{filter:?}");
            let contract = "A list has the jobs that match, newest first, each on one page.";
            let (mut after, mut found, mut pages) = (None, Vec::new(), Pages::over(expected.len()));
            loop {
                pages.turn();
                let page = list(storage, &filter, &Paging::Keyset { after, limit: 4 }).await;
                holds(page.items.len() <= 4, contract, &about);
                found.extend(page.items);
                match page.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            same(&found, &expected, contract, &about);
            for offset in [0, 2, expected.len() as u64, 100] {
                let page = list(storage, &filter, &Paging::Offset { offset, limit: 5 }).await;
                let rows: Vec<Job> = expected.iter().skip(offset as usize).take(5).cloned().collect();
                same(page.items, rows, contract, format_args!("{about} from {offset}"));
                same(page.next.is_some(), expected.len() as u64 > offset + 5, contract, &about);
            }
            let total = read!(storage, jobs.count(&filter, 10));
            let counted = (expected.len().min(10) as u64, expected.len() <= 10);
            same((total.count, total.exact), counted, "A count stops at its bound.", &about);
        }
    }
}

/// The key of the cursor has another type than that of the list.
pub async fn a_cursor_of_another_list_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for key in [SortKey::Int(1), SortKey::Text("a".to_owned())] {
        let after = Some(Keyset { sort: "created_desc".to_owned(), key, id: env.ids.next() });
        let paging = Paging::Keyset { after, limit: 5 };
        let mut connection = storage.connect().await.unwrap();
        match connection.jobs().list(&JobFilter::default(), &paging).await {
            Err(Error::Validation(e)) => {
                same(
                    (e.0[0].field.as_str(), e.0[0].code),
                    ("cursor", FieldCode::Malformed),
                    "It is refused.",
                    "cursor",
                );
            }
            other => panic!("a cursor of another list must be refused, but the call returns {other:?}"),
        }
    }
}

/// Jobs that wait or run stay, however old they are.
pub async fn old_jobs_that_have_ended_are_removed(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut kept = Vec::new();
    for n in 0..8 {
        let job = numbered(&env, JobKind::Verify, n);
        insert(storage, &job).await;
        let running = claimed(&env, &job);
        let after = match n % 4 {
            0 => job.clone(),
            1 => running,
            2 => running.succeeded(JobCounters::new(), env.now()),
            _ => running.failed("broken", true, JobCounters::new(), env.now()),
        };
        if n % 4 > 0 {
            update(storage, &job, &after).await;
        }
        if n % 4 < 2 {
            kept.insert(0, after);
        }
    }
    let contract = "`trim` removes jobs that ended before a time, at most so many, and returns how many.";
    let limit = env.now() + TTL;
    same(attempt!(storage, jobs.trim(env.now() - TTL, 100)).unwrap(), 0, contract, "none has ended before");
    for gone in [3, 1, 0] {
        same(attempt!(storage, jobs.trim(limit, 3)).unwrap(), gone, contract, "four jobs, at most three at a time");
    }
    let left = list(storage, &JobFilter::default(), &Paging::first(100)).await;
    same(left.items, kept, contract, "jobs that wait or run");
}

/// A letter can be as long as a record.
pub async fn rejections_are_read_in_order_and_go_with_their_job(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "`rejections` returns at most `limit` rejections after an index, in the order of their indexes.";
    let (job, other) = (numbered(&env, JobKind::Import, 1), numbered(&env, JobKind::Import, 2));
    let of = |job: &Job, index: u64, letter: &str| JobRejection {
        job_id: job.id,
        index,
        line: index + 2,
        letter: letter.to_owned(),
    };
    let unknown = attempt!(storage, jobs.add_rejections(&[of(&job, 0, "{}")]));
    assert_eq!(code_of(unknown, "a job that does not exist"), ErrorCode::Validation);
    for job in [&job, &other] {
        insert(storage, job).await;
        update(storage, job, &claimed(&env, job).succeeded(JobCounters::new(), env.now())).await;
    }
    let long = format!("{{\"record\":\"{}\"}}", "Größe 🛋 \\u0000 ".repeat(50_000));
    let all = [of(&job, 0, "{}"), of(&job, 7, &long), of(&job, 8, "{\"a\":'"), of(&job, 4_000_000_000, "{}")];
    attempt!(storage, jobs.add_rejections(&all[..2])).unwrap();
    attempt!(storage, jobs.add_rejections(&all[2..])).unwrap();
    attempt!(storage, jobs.add_rejections(&[])).unwrap();
    let others = [of(&other, 3, "{}")];
    attempt!(storage, jobs.add_rejections(&others)).unwrap();
    let read = async |after, limit| read!(storage, jobs.rejections(job.id, after, limit));
    same(read(None, 100).await, all.to_vec(), contract, "all");
    same(read(None, 2).await, all[..2].to_vec(), contract, "the first two");
    same(read(Some(7), 1).await, all[2..3].to_vec(), contract, "the one after index 7");
    same(read(Some(4_000_000_000), 1).await, Vec::new(), contract, "after the last one");
    same(attempt!(storage, jobs.trim(env.now() + TTL, 1)).unwrap(), 1, "`trim` removes jobs.", "one of them");
    let left = [read!(storage, jobs.rejections(job.id, None, 9)), read!(storage, jobs.rejections(other.id, None, 9))];
    let gone = "`trim` removes the rejections of a job with it, and no others.";
    same(left, [Vec::new(), others.to_vec()], gone, "the older one");
}
