//! Jobs run once, under leases, in processes that can fail, hang or die, and an operator sees what became of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, json};

use super::ShopFixture;
use super::support::{LONG, PATIENCE, conflict, fields, me, until};
use crate::clock::{Clock as _, SharedClock};
use crate::config::ShopConfig;
use crate::domain::common::{Actor, DeleteMode};
use crate::domain::platform::job::{Job, JobCounters, JobFilter, JobKind, JobLease, JobState};
use crate::domain::search::query::SearchFilter;
use crate::error::{Conflict, Dependency, Error, ErrorCode};
use crate::id::{JobId, UuidV7Source};
use crate::paging::Paging;
use crate::port::search::{NoSearch, SearchProvider};
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::faults::{HeldIndex, Hold, SharedIndex};

tests! {
    __shop_jobs: [
        a_reindex_runs_in_the_background_and_reports,
        r14_the_index_follows_while_it_is_rebuilt,
        a_verify_reports_and_repairs_unless_it_must_not,
        an_equal_job_that_is_queued_is_not_made_again,
        jobs_enqueued_at_once_are_one,
        a_job_is_enqueued_with_the_transaction_of_a_host_or_not_at_all,
        two_workers_run_each_job_once,
        a_lease_is_renewed_with_counters_while_a_job_runs,
        the_next_worker_takes_over_from_one_that_died,
        a_worker_that_lost_its_lease_stops,
        a_late_worker_does_not_overwrite_the_result_of_the_next,
        a_stopped_worker_gives_its_job_back,
        a_job_that_keeps_failing_is_parked_and_can_be_run_again,
        an_error_that_lasts_and_a_panic_are_not_repeated,
        a_job_that_kills_its_workers_is_parked,
        a_process_that_may_not_write_the_index_takes_no_job,
        a_job_of_a_shared_index_runs_in_the_process_that_writes_it,
        bad_requests_for_jobs_are_refused,
    ]
}

/// Returns a shop with an index of its own view, which looks for jobs often.
fn process(f: &ShopFixture, search: Arc<dyn SearchProvider>, lease_ttl: Duration) -> Shop {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(lease_ttl).index_batch(1);
    let clock: SharedClock = f.clock.clone();
    let ids = Arc::new(UuidV7Source::new(clock.clone()));
    let (storage, cache) = (f.storage.clone(), f.cache());
    Shop::new(ShopParts { cache, clock, ids, config, ..ShopParts::new(storage, search) }).unwrap()
}

/// Returns a shop whose rebuilds wait for permits, of which there are some.
fn held(f: &ShopFixture, permits: usize, lease_ttl: Duration) -> (Shop, Arc<Hold>) {
    let (search, hold) = HeldIndex::over(f.search.clone(), permits);
    (process(f, search, lease_ttl), hold)
}

/// The number of permits of an index that is not held back.
const FREE: usize = 1_000_000;

/// Makes three products, and an index with them.
async fn three_products(f: &ShopFixture) {
    for n in 0..3 {
        f.plain(&format!("Lamp {n}")).await;
    }
    f.index_is_in_step("before").await;
}

async fn get(f: &ShopFixture, id: JobId) -> Job {
    f.shop.jobs().get(id).await.unwrap()
}

async fn ends(f: &ShopFixture, id: JobId, state: JobState) -> Job {
    until(&format!("the job is {}", state.as_str()), async || get(f, id).await.state == state).await;
    get(f, id).await
}

fn begun(hold: &Hold) -> u64 {
    hold.begun.load(Ordering::SeqCst)
}

/// Returns whether a rebuild writes documents, or waits for the permit to do so.
fn works(hold: &Hold) -> bool {
    hold.adding.load(Ordering::SeqCst) > 0
}

fn counters(of: &[(&str, u64)]) -> JobCounters {
    of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// One job is enqueued before the background work starts, and one wakes it.
pub async fn a_reindex_runs_in_the_background_and_reports(f: &ShopFixture) {
    three_products(f).await;
    let gone = f.plain("Gone").await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    let shop = f.shop.acting_as(me());
    let queued = shop.jobs().enqueue_reindex().await.unwrap();
    assert_eq!((&queued.kind, queued.state, queued.attempts), (&JobKind::REINDEX, JobState::Queued, 0));
    assert_eq!((&queued.lease, queued.started_at, queued.finished_at), (&None, None, None));
    assert_eq!(&queued.audit.created_by, me().actor());
    assert_eq!(get(f, queued.id).await, queued);
    let head = f.head().await;
    let (worker, hold) = held(f, FREE, LONG);
    let background = worker.start();
    let done = ends(f, queued.id, JobState::Succeeded).await;
    assert_eq!(done.counters["written"], 3, "{done:?}");
    assert!(done.counters["read"] >= 3, "{done:?}");
    assert_eq!((done.attempts, &done.lease, &done.last_error), (1, &None, &None));
    assert_eq!((done.started_at, done.finished_at), (Some(f.clock.now()), Some(f.clock.now())));
    assert_eq!((&done.audit.created_by, &done.audit.updated_by), (me().actor(), &Actor::system()));
    assert_eq!((begun(&hold), hold.published.load(Ordering::SeqCst)), (1, 1));

    let second = worker.jobs().enqueue_reindex().await.unwrap();
    assert_ne!(second.id, done.id, "a job that has ended is not returned for a new one");
    ends(f, second.id, JobState::Succeeded).await;
    assert_eq!(begun(&hold), 2);
    background.shutdown().await;
    assert_eq!(get(f, done.id).await, done);
    f.index_is_in_step("after").await;
    assert_eq!(f.events_after(head).await, [], "a job has no event");
}

/// Searches find what is written while a rebuild runs, before and after its index is published.
pub async fn r14_the_index_follows_while_it_is_rebuilt(f: &ShopFixture) {
    three_products(f).await;
    let (worker, hold) = held(f, 0, LONG);
    let background = worker.start();
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    until("the rebuild has begun", async || works(&hold)).await;
    let during = f.created("Lantern").await;
    worker.search().wait_for(during, LONG).await.unwrap();
    assert_eq!(f.searched("lantern", SearchFilter::default()).await.len(), 1);
    assert_eq!(hold.published.load(Ordering::SeqCst), 0, "the rebuild still waits");
    hold.permits.add_permits(FREE);
    ends(f, job.id, JobState::Succeeded).await;
    assert_eq!(f.searched("lantern", SearchFilter::default()).await.len(), 1, "the new index has caught up");
    background.shutdown().await;
    f.index_is_in_step("after").await;
}

/// The index has lost its documents.
pub async fn a_verify_reports_and_repairs_unless_it_must_not(f: &ShopFixture) {
    three_products(f).await;
    let checkpoint = f.search.checkpoint().await.unwrap().unwrap();
    f.search.begin_rebuild(checkpoint.into(), None).await.unwrap().publish(checkpoint).await.unwrap();
    let background = process(f, f.search.clone(), LONG).start();
    let run = async |repair: bool| {
        let job = f.shop.jobs().enqueue_verify(repair).await.unwrap();
        assert_eq!(job.parameters, json!({ "repair": repair }).as_object().unwrap().clone());
        ends(f, job.id, JobState::Succeeded).await.counters
    };
    let found = counters(&[("compared", 3), ("missing", 3), ("stale", 0), ("extra", 0)]);
    assert_eq!(run(false).await, found);
    assert_eq!(run(false).await, found, "a verify without repair must change nothing");
    let mut repaired = found.clone();
    repaired.insert("repaired".to_owned(), 3);
    assert_eq!(run(true).await, repaired);
    assert_eq!(run(true).await, counters(&[("compared", 3), ("missing", 0), ("stale", 0), ("extra", 0)]));
    background.shutdown().await;
    f.index_is_in_step("after").await;
}

/// A job that runs is no longer queued.
pub async fn an_equal_job_that_is_queued_is_not_made_again(f: &ShopFixture) {
    three_products(f).await;
    let jobs = f.shop.jobs();
    let reindex = jobs.enqueue_reindex().await.unwrap();
    let (check, repair) = (jobs.enqueue_verify(false).await.unwrap(), jobs.enqueue_verify(true).await.unwrap());
    assert_eq!(HashSet::from([reindex.id, check.id, repair.id]).len(), 3, "each of them is another job");
    assert_eq!(f.shop.acting_as(me()).jobs().enqueue_reindex().await.unwrap(), reindex);
    assert_eq!(jobs.enqueue_verify(false).await.unwrap(), check);
    assert_eq!(jobs.enqueue_verify(true).await.unwrap(), repair);
    let (worker, hold) = held(f, 0, LONG);
    let background = worker.start();
    until("the reindex runs", async || works(&hold)).await;
    let next = jobs.enqueue_reindex().await.unwrap();
    assert_ne!(next.id, reindex.id, "what has changed since the job began must be indexed too");
    hold.permits.add_permits(FREE);
    for id in [reindex.id, check.id, repair.id, next.id] {
        assert_eq!(ends(f, id, JobState::Succeeded).await.attempts, 1);
    }
    background.shutdown().await;
    // A job that waits for another run is queued too.
    let (worker, hold) = held(f, FREE, LONG);
    *hold.errors.lock() = [Error::unavailable(Dependency::Search, "down")].into();
    let failing = jobs.enqueue_reindex().await.unwrap();
    let background = worker.start();
    until("the job has failed once", async || get(f, failing.id).await.last_error.is_some()).await;
    background.shutdown().await;
    assert_eq!(jobs.enqueue_reindex().await.unwrap().id, failing.id);
}

/// Ten processes enqueue the same job.
pub async fn jobs_enqueued_at_once_are_one(f: &ShopFixture) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let shop = process(f, f.search.clone(), LONG);
        tasks.spawn(async move { shop.jobs().enqueue_reindex().await.unwrap().id });
    }
    let ids: HashSet<JobId> = tasks.join_all().await.into_iter().collect();
    let listed = f.shop.jobs().list(&JobFilter::default(), &Paging::default()).await.unwrap().0.items;
    assert_eq!((ids.len(), listed.len()), (1, 1), "{ids:?}: {listed:?}");
}

/// The host rolls back, or commits.
pub async fn a_job_is_enqueued_with_the_transaction_of_a_host_or_not_at_all(f: &ShopFixture) {
    let mut tx = f.shop.begin().await.unwrap();
    let job = f.shop.jobs().enqueue_verify_in(&mut tx, true).await.unwrap();
    drop(tx);
    assert_eq!(code_of(f.shop.jobs().get(job.id).await, "it was rolled back"), ErrorCode::NotFound);
    let mut tx = f.shop.begin().await.unwrap();
    let job = f.shop.jobs().enqueue_verify_in(&mut tx, true).await.unwrap();
    tx.commit().await.unwrap().run().await;
    assert_eq!(get(f, job.id).await, job);
}

/// Several jobs, and two processes that look for them all the time.
pub async fn two_workers_run_each_job_once(f: &ShopFixture) {
    three_products(f).await;
    let (a, b) = (held(f, FREE, LONG), held(f, FREE, LONG));
    let running = [a.0.start(), b.0.start()];
    for round in 0..5 {
        let jobs = f.shop.jobs();
        let all = [jobs.enqueue_reindex().await.unwrap(), jobs.enqueue_verify(false).await.unwrap()];
        for job in all {
            let done = ends(f, job.id, JobState::Succeeded).await;
            assert_eq!((done.attempts, done.audit.version), (1, 3), "round {round}: {done:?}");
        }
    }
    for background in running {
        background.shutdown().await;
    }
    assert_eq!(begun(&a.1) + begun(&b.1), 5, "each reindex must run once");
}

/// The job runs for longer than a lease. The row shows what it has counted.
pub async fn a_lease_is_renewed_with_counters_while_a_job_runs(f: &ShopFixture) {
    three_products(f).await;
    // Long enough for a machine that stalls.
    let ttl = Duration::from_secs(5);
    let (worker, hold) = held(f, 1, ttl);
    let (other, idle) = held(f, FREE, ttl);
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let background = worker.start();
    until("the first document is written", async || hold.adding.load(Ordering::SeqCst) == 2).await;
    let second = other.start();
    let first = get(f, job.id).await.lease.expect("a running job has a lease");
    // The machine's clock decides when the lease is renewed. The clock of the lease goes on after a renewal only, so
    // that no lease ends before it, and passes the end of the first lease with the second step.
    let mut last = first;
    for _ in 0..2 {
        f.clock.advance(ttl * 3 / 5);
        until("the lease is renewed", async || {
            let lease = get(f, job.id).await.lease;
            lease.is_some_and(|lease| lease.expires_at > last.expires_at)
        })
        .await;
        last = get(f, job.id).await.lease.expect("a running job has a lease");
    }
    assert!(f.clock.now() > first.expires_at, "the first lease must have ended");
    let asked = idle.asked.load(Ordering::SeqCst);
    until("the other worker looks for jobs", async || idle.asked.load(Ordering::SeqCst) > asked + 1).await;
    until("the row shows the document", async || get(f, job.id).await.counters.get("written") == Some(&1)).await;
    let running = get(f, job.id).await;
    let lease = running.lease.expect("a running job has a lease");
    assert_eq!((lease.holder, running.attempts), (first.holder, 1), "a worker that renews its lease must keep it");
    assert!(lease.expires_at > first.expires_at);
    hold.permits.add_permits(FREE);
    let done = ends(f, job.id, JobState::Succeeded).await;
    assert_eq!((done.attempts, done.counters["written"]), (1, 3));
    assert_eq!(begun(&idle), 0);
    for background in [background, second] {
        background.shutdown().await;
    }
}

/// A worker is killed in the middle of a job.
pub async fn the_next_worker_takes_over_from_one_that_died(f: &ShopFixture) {
    three_products(f).await;
    let (first, dying) = held(f, 1, LONG);
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let background = first.start();
    until("the first worker has the job", async || works(&dying)).await;
    drop(background);
    until("the first worker is dead", async || dying.dropped.load(Ordering::SeqCst) == 1).await;
    let (second, hold) = held(f, FREE, LONG);
    let background = second.start();
    until("the second worker looks for jobs", async || hold.asked.load(Ordering::SeqCst) > 5).await;
    let waiting = get(f, job.id).await;
    assert_eq!((waiting.state, waiting.attempts), (JobState::Running, 1), "the lease has not run out");
    assert_eq!(begun(&hold), 0);
    f.clock.advance(LONG * 2);
    let done = ends(f, job.id, JobState::Succeeded).await;
    assert_eq!((done.attempts, done.counters["written"]), (2, 3), "the second run counts from the beginning");
    background.shutdown().await;
    f.index_is_in_step("after").await;
}

/// Lets the lease of the first worker run out, until another one has the job.
async fn taken_over(f: &ShopFixture, id: JobId, ttl: Duration) {
    until("the second worker has the job", async || {
        let job = get(f, id).await;
        // Only then nobody can have taken it over yet, so that the clock does not end the lease of the second worker.
        if job.lease.is_some_and(|lease| lease.expires_at > f.clock.now()) && job.attempts == 1 {
            f.clock.advance(ttl * 2);
        }
        job.attempts == 2
    })
    .await;
}

/// The worker hangs, and another one takes the job over.
pub async fn a_worker_that_lost_its_lease_stops(f: &ShopFixture) {
    three_products(f).await;
    let ttl = Duration::from_secs(1);
    let ((first, hung), (second, hold)) = (held(f, 0, ttl), held(f, 0, LONG));
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let one = first.start();
    until("the first worker has the job", async || works(&hung)).await;
    let two = second.start();
    taken_over(f, job.id, ttl).await;
    until("the first run is abandoned", async || hung.dropped.load(Ordering::SeqCst) == 1).await;
    assert_eq!(hung.published.load(Ordering::SeqCst), 0);
    hold.permits.add_permits(FREE);
    assert_eq!(ends(f, job.id, JobState::Succeeded).await.attempts, 2);
    for background in [one, two] {
        background.shutdown().await;
    }
}

/// The first worker finishes after its lease has run out, while the next one works, and then again after its end.
pub async fn a_late_worker_does_not_overwrite_the_result_of_the_next(f: &ShopFixture) {
    three_products(f).await;
    for ended in [false, true] {
        let ((first, late), (second, hold)) = (held(f, 0, LONG), held(f, if ended { FREE } else { 0 }, LONG));
        let job = f.shop.jobs().enqueue_reindex().await.unwrap();
        let one = first.start();
        until("the first worker has the job", async || works(&late)).await;
        let two = second.start();
        taken_over(f, job.id, LONG).await;
        if ended {
            ends(f, job.id, JobState::Succeeded).await;
        } else {
            until("the second worker has begun", async || works(&hold)).await;
        }
        let before = get(f, job.id).await;
        late.permits.add_permits(FREE);
        until("the first worker has finished", async || late.published.load(Ordering::SeqCst) == 1).await;
        one.shutdown().await;
        assert_eq!(get(f, job.id).await, before, "a late worker must write nothing");
        hold.permits.add_permits(FREE);
        let done = ends(f, job.id, JobState::Succeeded).await;
        assert_eq!((done.attempts, done.counters["written"]), (2, 3));
        two.shutdown().await;
    }
}

/// The clock does not move, so that no lease runs out.
pub async fn a_stopped_worker_gives_its_job_back(f: &ShopFixture) {
    three_products(f).await;
    let (worker, hold) = held(f, 0, LONG);
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let background = worker.start();
    until("the worker has the job", async || works(&hold)).await;
    tokio::time::timeout(PATIENCE, background.shutdown()).await.expect("the shutdown must end");
    let back = get(f, job.id).await;
    assert_eq!((back.state, back.attempts, &back.lease), (JobState::Queued, 0, &None));
    let background = process(f, f.search.clone(), LONG).start();
    assert_eq!(ends(f, job.id, JobState::Succeeded).await.attempts, 1);
    background.shutdown().await;
}

/// The index is down at every run. The text of the error has no secret.
pub async fn a_job_that_keeps_failing_is_parked_and_can_be_run_again(f: &ShopFixture) {
    three_products(f).await;
    let down = || Error::unavailable(Dependency::Search, "connecting to http://admin:secret@search/");
    let (worker, hold) = held(f, FREE, LONG);
    *hold.errors.lock() = std::iter::repeat_with(down).take(Job::MAX_ATTEMPTS as usize).collect();
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let background = worker.start();
    until("the first run has failed", async || get(f, job.id).await.last_error.is_some()).await;
    // The clock does not move, so that the job pauses while another one runs.
    let other = f.shop.jobs().enqueue_verify(true).await.unwrap();
    ends(f, other.id, JobState::Succeeded).await;
    let paused = get(f, job.id).await;
    assert_eq!((paused.state, paused.attempts, &paused.lease), (JobState::Queued, 1, &None));
    assert!(paused.run_after > f.clock.now(), "{paused:?}");
    let refused = conflict(f.shop.jobs().retry(job.id).await, "the job has not failed for good");
    assert!(matches!(refused, Conflict::State { .. }), "{refused}");

    until("the job is parked", async || {
        f.clock.advance(Duration::from_secs(10));
        get(f, job.id).await.state == JobState::Failed
    })
    .await;
    let parked = get(f, job.id).await;
    assert_eq!((parked.attempts, begun(&hold)), (Job::MAX_ATTEMPTS, u64::from(Job::MAX_ATTEMPTS)));
    assert!(parked.finished_at.is_some() && parked.lease.is_none());
    let error = parked.last_error.clone().unwrap();
    assert!(error.contains("search index") && !error.contains("secret"), "{error}");
    f.clock.advance(LONG * 100);
    let after = f.shop.jobs().enqueue_verify(true).await.unwrap();
    ends(f, after.id, JobState::Succeeded).await;
    assert_eq!(get(f, job.id).await, parked, "a job that was parked does not run by itself");

    let again = f.shop.acting_as(me()).jobs().retry(job.id).await.unwrap();
    assert_eq!((again.state, again.attempts, &again.audit.updated_by), (JobState::Queued, 0, me().actor()));
    let done = ends(f, job.id, JobState::Succeeded).await;
    assert_eq!((done.attempts, &done.last_error, done.counters["written"]), (1, &None, 3));
    let refused = conflict(f.shop.jobs().retry(job.id).await, "the job has succeeded");
    assert!(refused.to_string().contains("succeeded"), "{refused}");
    background.shutdown().await;
}

/// A defect does not go away by itself. The worker goes on with other jobs.
pub async fn an_error_that_lasts_and_a_panic_are_not_repeated(f: &ShopFixture) {
    three_products(f).await;
    let (worker, hold) = held(f, FREE, LONG);
    let background = worker.start();
    for panics in [false, true] {
        if panics {
            hold.panics.store(true, Ordering::SeqCst);
        } else {
            let broken = Error::internal("reading the index", "SELECT secret FROM /var/lib");
            *hold.errors.lock() = [broken].into();
        }
        let job = f.shop.jobs().enqueue_reindex().await.unwrap();
        let parked = ends(f, job.id, JobState::Failed).await;
        assert_eq!(parked.attempts, 1);
        let error = parked.last_error.unwrap();
        assert!(error.contains(if panics { "panicked" } else { "reading the index" }), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let next = f.shop.jobs().enqueue_reindex().await.unwrap();
        ends(f, next.id, JobState::Succeeded).await;
    }
    background.shutdown().await;
}

/// Every process that has run the job has died.
pub async fn a_job_that_kills_its_workers_is_parked(f: &ShopFixture) {
    three_products(f).await;
    let now = f.clock.now();
    let mut job = Job::new(JobId(f.shop.ids().next()), JobKind::REINDEX, Map::new(), now, me().actor());
    let lease = JobLease { holder: f.shop.ids().next(), expires_at: now + LONG };
    job = Job { attempts: Job::MAX_ATTEMPTS - 1, ..job.claimed(lease, now) };
    attempt!(f.storage, jobs.insert(&job)).unwrap();
    let (worker, hold) = held(f, 0, LONG);
    f.clock.advance(LONG * 2);
    let background = worker.start();
    until("the last run has begun", async || works(&hold)).await;
    drop(background);
    until("its worker is dead", async || hold.dropped.load(Ordering::SeqCst) == 1).await;
    f.clock.advance(LONG * 2);
    let (worker, hold) = held(f, FREE, LONG);
    let background = worker.start();
    let parked = ends(f, job.id, JobState::Failed).await;
    assert_eq!((parked.attempts, begun(&hold)), (Job::MAX_ATTEMPTS, 0));
    assert!(parked.last_error.unwrap().contains("process"));
    background.shutdown().await;
}

/// Another process has the right to write the index.
pub async fn a_process_that_may_not_write_the_index_takes_no_job(f: &ShopFixture) {
    three_products(f).await;
    let (worker, hold) = held(f, FREE, LONG);
    hold.writer.store(false, Ordering::SeqCst);
    let job = f.shop.jobs().enqueue_reindex().await.unwrap();
    let background = worker.start();
    until("the process looks for jobs", async || hold.asked.load(Ordering::SeqCst) > 10).await;
    assert_eq!(get(f, job.id).await, job);
    hold.writer.store(true, Ordering::SeqCst);
    assert_eq!(ends(f, job.id, JobState::Succeeded).await.attempts, 1);
    background.shutdown().await;
}

/// One of two processes has the lease of the index. The other one enqueues a job and stops.
pub async fn a_job_of_a_shared_index_runs_in_the_process_that_writes_it(f: &ShopFixture) {
    three_products(f).await;
    let searches = [SharedIndex::over(f.search.clone()), SharedIndex::over(f.search.clone())];
    let shops = searches.each_ref().map(|search| process(f, search.clone(), LONG));
    let asked = |n: usize| searches[n].asked.load(Ordering::SeqCst);
    let mut running: Vec<_> = shops.iter().map(|shop| Some(shop.start())).collect();
    until("one process writes the index", async || asked(0) + asked(1) > 0).await;
    let (writer, other) = if asked(0) > 0 { (0, 1) } else { (1, 0) };
    let job = shops[other].jobs().enqueue_reindex().await.unwrap();
    let done = ends(f, job.id, JobState::Succeeded).await;
    assert_eq!((done.attempts, done.counters["written"], asked(other)), (1, 3, 0));
    let background = running[writer].take();
    background.expect("it runs").shutdown().await;
    let job = shops[writer].jobs().enqueue_verify(true).await.unwrap();
    assert_eq!(ends(f, job.id, JobState::Succeeded).await.attempts, 1);
    assert!(asked(other) > 0, "the next process with the lease must go on");
    for background in running.into_iter().flatten() {
        background.shutdown().await;
    }
}

/// Jobs that do not exist, pages out of bounds, and a shop without search.
pub async fn bad_requests_for_jobs_are_refused(f: &ShopFixture) {
    let jobs = f.shop.jobs();
    let unknown = JobId(f.shop.ids().next());
    assert_eq!(code_of(jobs.get(unknown).await, "an unknown job"), ErrorCode::NotFound);
    assert_eq!(code_of(jobs.retry(unknown).await, "an unknown job"), ErrorCode::NotFound);
    let nothing = jobs.list(&JobFilter::default(), &Paging::first(0)).await;
    assert_eq!(fields(nothing, "no rows").into_keys().collect::<Vec<_>>(), ["limit"]);
    let without = process(f, Arc::new(NoSearch), LONG);
    for refused in [without.jobs().enqueue_reindex().await, without.jobs().enqueue_verify(true).await] {
        assert_eq!(code_of(refused, "a shop without search"), ErrorCode::Unsupported);
    }
    let (page, total) = jobs.list(&JobFilter::default(), &Paging::Offset { offset: 0, limit: 5 }).await.unwrap();
    assert_eq!((page.items, total.map(|t| t.count)), (Vec::new(), Some(0)), "a refused call must write nothing");
}
