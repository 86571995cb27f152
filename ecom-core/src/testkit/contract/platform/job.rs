//! The contract of [`JobRepository`](crate::port::JobRepository).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::platform::job::{
    Job, JobCounters, JobFilter, JobKind, JobLease, JobPriority, JobQueueState, JobRejection, JobState,
};
use crate::domain::platform::schedule::{CronLine, ScheduleState};
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
        r01_jobs_that_change_together_change_as_each_alone,
        of_jobs_with_one_key_one_waits_for_its_first_run,
        a_queued_job_is_found_by_its_key,
        a_due_job_is_found_and_the_longest_due_comes_first,
        due_jobs_of_a_higher_priority_come_first,
        a_locked_job_is_skipped_by_others,
        of_many_workers_each_takes_other_jobs,
        a_list_filters_by_kind_and_state_and_pages_both_ways,
        a_cursor_of_another_list_is_refused,
        old_jobs_that_have_ended_are_removed,
        rejections_are_read_in_order_and_go_with_their_job,
        jobs_are_counted_by_kind_and_state,
        the_state_of_a_queue_is_stored_once,
        the_state_of_a_schedule_is_stored_once,
    ]
}

const TTL: Duration = Duration::from_secs(30);
/// The pause after a failed run.
const PAUSE: Option<Duration> = Some(Duration::from_secs(5));

/// Returns a job that waits for its first run. Its number is its unique key.
fn numbered(env: &Env, kind: JobKind, n: u32) -> Job {
    let parameters = Map::from_iter([("n".to_owned(), json!(n))]);
    Job { unique_key: Some(n.to_string()), ..Job::new(JobId(env.ids.next()), kind, parameters, env.now(), &env.actor) }
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
    let mut job = Job::new(JobId(env.ids.next()), JobKind::VERIFY, parameters, env.now(), &Actor::new("Grüße 🛒"));
    job.unique_key = Some("🛋".repeat(Job::MAX_UNIQUE_KEY));
    job.priority = JobPriority::High;
    insert(storage, &job).await;
    same(read!(storage, jobs.get(job.id)), Some(job.clone()), contract, "queued");
    let counters = JobCounters::from([("written".to_owned(), 0), ("größe".to_owned(), u64::from(u32::MAX) * 1_000)]);
    let running = claimed(&env, &job);
    let renewed = running.renewed(running.lease.unwrap(), counters.clone(), env.now());
    let long = "ä\"\\🛋".repeat(250);
    let paused = renewed.failed(&long, PAUSE, counters.clone(), env.now());
    holds(paused.last_error.as_ref().is_some_and(|e| e.chars().count() == Job::MAX_ERROR), contract, "the test itself");
    let again = claimed(&env, &paused);
    let failed = again.failed("down", None, counters.clone(), env.now());
    let canceled = failed.canceled(env.now(), &env.actor);
    let retried = failed.retried(env.now(), &env.actor);
    let last = claimed(&env, &retried);
    let back = last.released(env.now() + TTL, env.now());
    let done = claimed(&env, &back).succeeded(counters, env.now());
    let claimed_again = claimed(&env, &back);
    for after in [running, renewed, paused, again, failed, canceled, retried, last, back, claimed_again, done] {
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
    let job = numbered(&env, JobKind::REINDEX, 1);
    let first = claimed(&env, &job);
    let missing = attempt!(storage, jobs.update(&job, &first));
    assert_eq!(code_of(missing, "the row does not exist"), ErrorCode::NotFound);
    insert(storage, &job).await;
    update(storage, &job, &first).await;
    let refused = attempt!(storage, jobs.update(&job, &claimed(&env, &job)));
    assert_eq!(code_of(refused, "the row has another version"), ErrorCode::VersionConflict);
    same(read!(storage, jobs.get(job.id)), Some(first), "A refused update changes nothing.", "version 2");
}

/// Jobs with equal and with different changes, and a job of another version among them.
pub async fn r01_jobs_that_change_together_change_as_each_alone(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let jobs: Vec<Job> = (1..=5).map(|n| numbered(&env, JobKind::REINDEX, n)).collect();
    for job in &jobs {
        insert(storage, job).await;
    }
    let lease = lease(&env, env.now() + TTL);
    let mut changes: Vec<(Job, Job)> = jobs.iter().map(|job| (job.clone(), job.claimed(lease, env.now()))).collect();
    changes[3].1 = jobs[3].canceled(env.now(), &env.actor);
    attempt!(storage, jobs.update_all(&[])).unwrap();
    attempt!(storage, jobs.update_all(&changes)).unwrap();
    for (_, after) in &changes {
        let contract = "Jobs that change together are written as each of them alone.";
        same(read!(storage, jobs.get(after.id)), Some(after.clone()), contract, after.state.as_str());
    }

    let ended = |job: &Job| job.succeeded(JobCounters::new(), env.now());
    let mut changes: Vec<(Job, Job)> =
        [&changes[0].1, &changes[1].1, &changes[2].1].map(|job| (job.clone(), ended(job))).into();
    update(storage, &changes[1].0, &changes[1].1).await;
    let refused = attempt!(storage, jobs.update_all(&changes));
    assert_eq!(code_of(refused, "a row has another version"), ErrorCode::VersionConflict);
    let contract = "If one of several changes is refused, none is written.";
    same(read!(storage, jobs.get(changes[0].0.id)), Some(changes[0].0.clone()), contract, "the first job");
    changes.remove(1);
    changes.push((numbered(&env, JobKind::REINDEX, 6), ended(&changes[0].0)));
    let missing = attempt!(storage, jobs.update_all(&changes));
    assert_eq!(code_of(missing, "a row does not exist"), ErrorCode::NotFound);
}

/// A job that has run, or that has another key, none, or another kind, is in nobody's way.
pub async fn of_jobs_with_one_key_one_waits_for_its_first_run(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let of = |kind, key: Option<&str>| Job {
        unique_key: key.map(str::to_owned),
        ..Job::new(JobId(env.ids.next()), kind, Map::new(), env.now(), &env.actor)
    };
    let first = of(JobKind::VERIFY, Some("a"));
    insert(storage, &first).await;
    for other in [
        of(JobKind::REINDEX, Some("a")),
        of(JobKind::VERIFY, Some("A")),
        of(JobKind::VERIFY, Some("b")),
        of(JobKind::VERIFY, None),
        of(JobKind::VERIFY, None),
    ] {
        insert(storage, &other).await;
    }
    let twin = of(JobKind::VERIFY, Some("a"));
    is_taken("unique_key", attempt!(storage, jobs.insert(&twin)), "a job with the key waits");
    same(read!(storage, jobs.get(twin.id)), None, "A refused insert writes nothing.", "the second one");
    let running = claimed(&env, &first);
    update(storage, &first, &running).await;
    insert(storage, &twin).await;
    // The first one has run, so it can be queued beside the other.
    update(storage, &running, &running.failed("down", PAUSE, JobCounters::new(), env.now())).await;
    let third = of(JobKind::VERIFY, Some("a"));
    is_taken("unique_key", attempt!(storage, jobs.insert(&third)), "the second one waits");
    let canceled = twin.canceled(env.now(), &env.actor);
    update(storage, &twin, &canceled).await;
    insert(storage, &third).await;
}

/// Jobs in other states and of other kinds are not found.
pub async fn a_queued_job_is_found_by_its_key(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "`queued` returns a queued job of the kind with the key.";
    let job = numbered(&env, JobKind::VERIFY, 1);
    let find = async |kind: JobKind, key: &str| read!(storage, jobs.queued(&kind, key));
    same(find(JobKind::VERIFY, "1").await, None, contract, "no job");
    insert(storage, &job).await;
    insert(storage, &numbered(&env, JobKind::VERIFY, 2)).await;
    same(find(JobKind::VERIFY, "1").await, Some(job.clone()), contract, "it waits for its first run");
    same(find(JobKind::REINDEX, "1").await, None, contract, "another kind");
    same(find(JobKind::VERIFY, "10").await, None, contract, "another key");
    let running = claimed(&env, &job);
    update(storage, &job, &running).await;
    same(find(JobKind::VERIFY, "1").await, None, contract, "it runs");
    let paused = running.failed("down", PAUSE, JobCounters::new(), env.now());
    update(storage, &running, &paused).await;
    same(find(JobKind::VERIFY, "1").await, Some(paused.clone()), contract, "it waits for another run");
    let canceled = paused.canceled(env.now(), &env.actor);
    update(storage, &paused, &canceled).await;
    same(find(JobKind::VERIFY, "1").await, None, contract, "it was canceled");
}

/// Takes the next job of a kind as a worker does, and returns it as it was.
async fn take(storage: &Arc<dyn Storage>, env: &Env, kind: &JobKind, now: Timestamp) -> Option<Job> {
    let mut unit = storage.begin().await.unwrap();
    let job = unit.jobs().lock_due(kind, now, 1).await.unwrap().pop()?;
    let after = job.claimed(lease(env, now + TTL), now);
    unit.jobs().update(&job, &after).await.unwrap();
    unit.commit().await.unwrap();
    Some(job)
}

/// Queued jobs are due after their pause, and running ones after their lease.
pub async fn a_due_job_is_found_and_the_longest_due_comes_first(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (this, other) = (JobKind::REINDEX, JobKind::VERIFY);
    let both = &[this.clone(), other.clone()];
    let contract = "A job is due from the time that `Job::due_at` returns.";
    let is_due = async |kinds: &[JobKind], now| read!(storage, jobs.is_due(kinds, now));
    let start = env.now();
    holds(!is_due(both, start).await, contract, "no job");
    same(take(storage, &env, &this, start).await, None, contract, "no job");

    let at = |seconds: i64| start + chrono::TimeDelta::seconds(seconds);
    let mut jobs = Vec::new();
    for (n, due) in [(0, 50), (1, 20), (2, 40), (3, 30)] {
        let mut job = numbered(&env, if n == 2 { other.clone() } else { this.clone() }, n);
        if n == 3 {
            job = job.claimed(lease(&env, at(due)), start);
        } else {
            job.run_after = at(due);
        }
        insert(storage, &job).await;
        jobs.push(job);
    }
    let ended = numbered(&env, this.clone(), 9).claimed(lease(&env, at(1)), start);
    insert(storage, &ended.succeeded(JobCounters::new(), start)).await;

    holds(!is_due(both, at(20) - chrono::TimeDelta::microseconds(1)).await, contract, "a moment before");
    holds(is_due(both, at(20)).await && is_due(std::slice::from_ref(&this), at(20)).await, contract, "at that time");
    let is_other_due = is_due(std::slice::from_ref(&other), at(39)).await;
    holds(!is_other_due && !is_due(&[], at(99)).await, contract, "another kind");
    same(take(storage, &env, &other, at(39)).await, None, contract, "another kind");
    let order = "`lock_due` returns the jobs that have been due for the longest time.";
    for (n, about) in [(1, "queued"), (3, "its lease has run out"), (0, "queued")] {
        same(take(storage, &env, &this, at(50)).await, Some(jobs[n].clone()), order, about);
    }
    same(take(storage, &env, &other, at(50)).await, Some(jobs[2].clone()), order, "the other kind");
    same(take(storage, &env, &this, at(50)).await, None, contract, "all of them are taken");
    same(take(storage, &env, &this, at(79)).await, None, contract, "the leases are held");
    let again = take(storage, &env, &other, at(80)).await.map(|job| (job.id, job.attempts));
    same(again, Some((jobs[2].id, 1)), contract, "the lease has run out");
}

/// A job of a high priority that is due later comes before the others.
pub async fn due_jobs_of_a_higher_priority_come_first(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let start = env.now();
    let at = |seconds: i64| start + chrono::TimeDelta::seconds(seconds);
    let mut jobs = Vec::new();
    let (low, normal, high) = (JobPriority::Low, JobPriority::Normal, JobPriority::High);
    for (n, (priority, due)) in
        [(low, 1), (normal, 2), (high, 9), (normal, 1), (high, 8), (high, 99)].into_iter().enumerate()
    {
        let mut job = numbered(&env, JobKind::VERIFY, n as u32);
        (job.priority, job.run_after) = (priority, at(due));
        insert(storage, &job).await;
        jobs.push(job);
    }
    let due = async |limit| {
        let mut unit = storage.begin().await.unwrap();
        let due = unit.jobs().lock_due(&JobKind::VERIFY, at(10), limit).await.unwrap();
        unit.rollback().await.unwrap();
        due.iter().map(|job| jobs.iter().position(|other| other.id == job.id).unwrap()).collect::<Vec<_>>()
    };
    let contract = "`lock_due` returns at most `limit` jobs, the highest priority first.";
    for limit in [0, 1, 3, 4, 100] {
        let expected: Vec<usize> = [4, 2, 3, 1, 0].into_iter().take(limit).collect();
        same(due(limit as u32).await, expected, contract, format_args!("at most {limit}"));
    }
    let ids: Vec<JobId> = [&jobs[5], &jobs[0]].map(|job| job.id).into_iter().chain([JobId(env.ids.next())]).collect();
    let locked = attempt!(storage, jobs.lock_many(&ids)).unwrap();
    same(locked, vec![jobs[0].clone(), jobs[5].clone()], "`lock_many` returns jobs in the order of their ids.", "two");
    same(attempt!(storage, jobs.lock_many(&[])).unwrap(), Vec::new(), "`lock_many` returns jobs.", "none");
}

/// A worker that has found a job does not hold up another one, which finds the next job. A database with one writer
/// lets the other wait instead.
pub async fn a_locked_job_is_skipped_by_others(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let now = env.now();
    let (first, second) = (numbered(&env, JobKind::REINDEX, 1), numbered(&env, JobKind::REINDEX, 2));
    for job in [&first, &second] {
        insert(storage, job).await;
    }
    let now = now + TTL;
    let contract = "A job that another transaction has locked is skipped, and free again after a rollback.";
    let mut one = storage.begin().await.unwrap();
    same(
        one.jobs().lock_due(&JobKind::REINDEX, now, 1).await.unwrap(),
        vec![first.clone()],
        contract,
        "the first worker",
    );
    let mut other = {
        let (storage, env) = (storage.clone(), Env::new(7));
        tokio::spawn(async move { take(&storage, &env, &JobKind::REINDEX, now).await })
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
    let left = take(storage, &env, &JobKind::REINDEX, now).await;
    same(left, Some(if is_second { first } else { second }), contract, "after the rollback");
}

/// Ten workers take jobs until there are none.
pub async fn of_many_workers_each_takes_other_jobs(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut all = HashSet::new();
    for n in 0..40 {
        let job = numbered(&env, JobKind::REINDEX, n);
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
                match take(&storage, &env, &JobKind::REINDEX, now).await {
                    Some(job) => taken.push(job.id),
                    None => idle += 1,
                }
            }
            taken
        });
    }
    let mut taken: Vec<JobId> = workers.join_all().await.concat();
    while let Some(job) = take(storage, &env, &JobKind::REINDEX, now).await {
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
        let job = numbered(&env, if n % 3 == 0 { JobKind::VERIFY } else { JobKind::REINDEX }, n);
        let running = claimed(&env, &job);
        let job = match n % 4 {
            0 => job,
            1 => running,
            2 => running.succeeded(JobCounters::new(), env.now()),
            _ => running.failed("broken", None, JobCounters::new(), env.now()),
        };
        let job = if n % 7 == 6 { job.canceled(env.now(), &env.actor) } else { job };
        insert(storage, &job).await;
        all.insert(0, job);
    }
    let kinds = [Some(JobKind::REINDEX), Some(JobKind::VERIFY), Some(JobKind::MAIL), None];
    for kind in kinds {
        for state in JobState::ALL.iter().copied().map(Some).chain([None]) {
            let filter = JobFilter { kind: kind.clone(), state };
            let matches = |j: &&Job| kind.as_ref().is_none_or(|k| j.kind == *k) && state.is_none_or(|s| j.state == s);
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
        let job = numbered(&env, JobKind::VERIFY, n);
        insert(storage, &job).await;
        let running = claimed(&env, &job);
        let after = match n % 4 {
            0 => job.clone(),
            1 => running,
            2 => running.succeeded(JobCounters::new(), env.now()),
            _ => running.failed("broken", None, JobCounters::new(), env.now()),
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
    let trim =
        async |kind: Option<JobKind>, before, most| attempt!(storage, jobs.trim(kind.as_ref(), before, most)).unwrap();
    same(trim(None, env.now() - TTL, 100).await, 0, contract, "none has ended before");
    same(trim(Some(JobKind::REINDEX), limit, 100).await, 0, contract, "none of the kind");
    same(trim(Some(JobKind::VERIFY), limit, 1).await, 1, contract, "one of the kind");
    for gone in [2, 1, 0] {
        same(trim(None, limit, 2).await, gone, contract, "three jobs, at most two at a time");
    }
    let left = list(storage, &JobFilter::default(), &Paging::first(100)).await;
    same(left.items, kept, contract, "jobs that wait or run");
}

/// A letter can be as long as a record.
pub async fn rejections_are_read_in_order_and_go_with_their_job(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "`rejections` returns at most `limit` rejections after an index, in the order of their indexes.";
    let (job, other) = (numbered(&env, JobKind::IMPORT, 1), numbered(&env, JobKind::IMPORT, 2));
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
    same(attempt!(storage, jobs.trim(None, env.now() + TTL, 1)).unwrap(), 1, "`trim` removes jobs.", "one of them");
    let left = [read!(storage, jobs.rejections(job.id, None, 9)), read!(storage, jobs.rejections(other.id, None, 9))];
    let gone = "`trim` removes the rejections of a job with it, and no others.";
    same(left, [Vec::new(), others.to_vec()], gone, "the older one");
}

/// Kinds and states without jobs are left out.
pub async fn jobs_are_counted_by_kind_and_state(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "`tally` counts the jobs of each kind in each state.";
    same(read!(storage, jobs.tally(None)), Vec::new(), contract, "no job");
    for n in 0..5 {
        let job = numbered(&env, if n < 2 { JobKind::VERIFY } else { JobKind::new("crm-sync") }, n);
        let running = claimed(&env, &job);
        insert(storage, &if n == 4 { running } else { job }).await;
    }
    let mut found = read!(storage, jobs.tally(None));
    found.sort_by_key(|(kind, state, _)| (kind.clone(), state.as_str()));
    let expected = vec![
        (JobKind::new("crm-sync"), JobState::Queued, 2),
        (JobKind::new("crm-sync"), JobState::Running, 1),
        (JobKind::VERIFY, JobState::Queued, 2),
    ];
    same(found, expected, contract, "five jobs");
    let of_kind = read!(storage, jobs.tally(Some(&JobKind::VERIFY)));
    let contract = "`tally` counts only the jobs of a kind if it is set.";
    same(of_kind, vec![(JobKind::VERIFY, JobState::Queued, 2)], contract, "five jobs");
    let contract = "`tally_newest` counts the newest jobs of each of the given states, up to the bound.";
    same(read!(storage, jobs.tally_newest(&[], 3)), Vec::new(), contract, "no state");
    same(read!(storage, jobs.tally_newest(&[JobState::Failed], 3)), Vec::new(), contract, "a state without jobs");
    let mut found = read!(storage, jobs.tally_newest(&[JobState::Queued, JobState::Running], 3));
    found.sort_by_key(|(kind, state, _)| (kind.clone(), state.as_str()));
    let expected = vec![
        (JobKind::new("crm-sync"), JobState::Queued, 2),
        (JobKind::new("crm-sync"), JobState::Running, 1),
        (JobKind::VERIFY, JobState::Queued, 1),
    ];
    same(found, expected, contract, "three of the four queued jobs, and the running one");
}

/// A queue has one state.
pub async fn the_state_of_a_queue_is_stored_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "The state of a queue is read as it was written.";
    let (mail, crm) = (JobKind::MAIL, JobKind::new("crm-sync"));
    let new = |kind: &JobKind| JobQueueState::new(kind.clone(), true, env.now(), &env.actor);
    let (first, second) = (new(&mail), new(&crm));
    for state in [&first, &second] {
        attempt!(storage, jobs.insert_queue(state)).unwrap();
    }
    is_taken("kind", attempt!(storage, jobs.insert_queue(&first)), "the queue has one");
    same(read!(storage, jobs.queues()), vec![second.clone(), first.clone()], contract, "sorted by kind");
    let resumed = first.set(false, env.now(), &env.actor);
    attempt!(storage, jobs.update_queue(&first, &resumed)).unwrap();
    same(attempt!(storage, jobs.lock_queue(first.id)).unwrap(), Some(resumed.clone()), contract, "`lock_queue`");
    let late = attempt!(storage, jobs.update_queue(&first, &resumed));
    assert_eq!(code_of(late, "the row has another version"), ErrorCode::VersionConflict);
    let unknown = JobQueueState::id_of(&JobKind::VERIFY);
    same(attempt!(storage, jobs.lock_queue(unknown)).unwrap(), None, "A queue without a state has none.", "verify");
}

/// A schedule has one state.
pub async fn the_state_of_a_schedule_is_stored_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let contract = "The state of a schedule is read as it was written.";
    let cron = CronLine::parse("30 3 * * *").unwrap();
    let (first, second) = (ScheduleState::new("z", &cron, env.now()), ScheduleState::new("a", &cron, env.now()));
    for state in [&first, &second] {
        attempt!(storage, jobs.insert_schedule(state)).unwrap();
    }
    is_taken("name", attempt!(storage, jobs.insert_schedule(&first)), "the schedule has one");
    same(read!(storage, jobs.schedules()), vec![second.clone(), first.clone()], contract, "sorted by name");
    let fired = first.fired(&cron, first.next_at);
    attempt!(storage, jobs.update_schedule(&first, &fired)).unwrap();
    same(attempt!(storage, jobs.lock_schedule(first.id)).unwrap(), Some(fired.clone()), contract, "`lock_schedule`");
    let late = attempt!(storage, jobs.update_schedule(&first, &fired));
    assert_eq!(code_of(late, "the row has another version"), ErrorCode::VersionConflict);
    let unknown = ScheduleState::id_of("b");
    same(attempt!(storage, jobs.lock_schedule(unknown)).unwrap(), None, "A new schedule has no state.", "b");
}
