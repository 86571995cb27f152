//! Jobs of an application: each runs as its queue says, in any process, and one with a transactional handler takes
//! effect exactly once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::ShopFixture;
use super::support::{LONG, adjustment, conflict, fields, me, until};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobPriority, JobState};
use crate::error::{Conflict, Error, ErrorCode, FieldCode, Result};
use crate::id::{JobId, SkuId};
use crate::paging::Paging;
use crate::service::background::Pass;
use crate::service::platform::job_queue::{JobError, JobHandler, JobQueue, JobRun, NewJob, TransactionalJobHandler};
use crate::service::run::transaction::Tx;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;

tests! {
    __shop_job_queues: [
        a_transactional_job_takes_effect_once_although_its_workers_die,
        a_transactional_job_that_fails_has_no_effect,
        a_job_is_enqueued_with_the_writes_of_a_transaction_or_not_at_all,
        a_unique_job_that_waits_is_not_made_again,
        a_canceled_job_cannot_be_retried_while_another_one_waits,
        jobs_begin_by_priority_and_not_before_their_time,
        a_failing_job_pauses_for_longer_and_longer_until_it_is_parked,
        a_panic_and_a_time_limit_end_a_run_and_not_the_worker,
        a_postponed_run_is_no_attempt,
        a_canceled_job_does_not_run_or_ends,
        a_paused_queue_begins_no_job_until_it_is_resumed,
        a_schedule_fires_once_in_all_processes,
        bad_queues_and_bad_jobs_are_refused,
    ]
}

/// The kind of the jobs.
const KIND: &str = "crm-sync";

/// An action of the handler of these tests in a run.
#[derive(Debug, Clone, Copy)]
enum Act {
    Succeed,
    Fail,
    Panic,
    Hang,
    Postpone(Duration),
}

/// A handler that does as the test says.
#[derive(Debug)]
struct Script {
    /// The acts of the next runs. A run without one succeeds.
    acts: Mutex<VecDeque<Act>>,
    /// The parameter `n` of each job that has begun.
    begun: Mutex<Vec<u64>>,
    /// How many runs were dropped.
    dropped: Arc<AtomicU64>,
    permits: Semaphore,
    /// The SKU of which each run of a transactional handler adds a piece.
    sku: Option<SkuId>,
}

impl Script {
    fn new(acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        Arc::new(Self {
            acts: Mutex::new(acts.into_iter().collect()),
            begun: Mutex::default(),
            dropped: Arc::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            sku: None,
        })
    }

    fn of(sku: SkuId, acts: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let Some(script) = Arc::into_inner(Self::new(acts)) else { unreachable!("nobody else has it") };
        Arc::new(Self { sku: Some(sku), ..script })
    }

    fn begun(&self) -> Vec<u64> {
        self.begun.lock().clone()
    }

    async fn act(&self, run: &JobRun) -> Result<(), JobError> {
        /// Counts a run that is dropped before its end.
        struct Dropped(Arc<AtomicU64>, bool);
        impl Drop for Dropped {
            fn drop(&mut self) {
                if !self.1 {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        let mut dropped = Dropped(self.dropped.clone(), false);
        self.begun.lock().push(run.job().parameters.get("n").and_then(Value::as_u64).unwrap_or_default());
        let permit = self.permits.acquire().await.map_err(|_| JobError::permanent("the test has ended"))?;
        drop(permit);
        let act = self.acts.lock().pop_front().unwrap_or(Act::Succeed);
        if matches!(act, Act::Hang) {
            std::future::pending::<()>().await;
        }
        dropped.1 = true;
        match act {
            Act::Fail => Err(JobError::new("the CRM is away").source("connecting to http://admin:secret@crm/")),
            Act::Panic => panic!("secret"),
            Act::Postpone(pause) => Err(JobError::postpone(pause)),
            Act::Succeed | Act::Hang => {
                run.count("synced", 1);
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
struct Scripted(Arc<Script>);

#[async_trait]
impl JobHandler for Scripted {
    async fn run(&self, run: &JobRun) -> Result<(), JobError> {
        self.0.act(run).await
    }
}

#[async_trait]
impl TransactionalJobHandler for Scripted {
    async fn run(&self, tx: &mut Tx<'_>, run: &JobRun) -> Result<(), JobError> {
        if let Some(sku) = self.0.sku {
            run.shop().inventory().adjust_in(tx, adjustment(sku, 1)).await?;
        }
        self.0.act(run).await
    }
}

/// Returns a queue whose jobs the script runs.
fn queue(script: &Arc<Script>) -> JobQueue {
    JobQueue::new(KIND, Scripted(script.clone()))
}

/// Returns a process of the shop with queues.
fn process(f: &ShopFixture, queues: impl IntoIterator<Item = JobQueue>) -> Shop {
    build(f, queues, LONG).unwrap()
}

fn build(f: &ShopFixture, queues: impl IntoIterator<Item = JobQueue>, lease_ttl: Duration) -> Result<Shop> {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(lease_ttl);
    Shop::new(ShopParts { config, job_queues: queues.into_iter().collect(), ..f.parts() })
}

fn numbered(n: u64) -> NewJob {
    NewJob::new(KIND).parameter("n", n)
}

async fn get(f: &ShopFixture, id: JobId) -> Job {
    f.shop.jobs().get(id).await.unwrap()
}

async fn ends(f: &ShopFixture, id: JobId, state: JobState) -> Job {
    until(&format!("the job is {}", state.as_str()), async || get(f, id).await.state == state).await;
    get(f, id).await
}

async fn all(f: &ShopFixture) -> Vec<Job> {
    let filter = JobFilter { kind: Some(KIND.into()), state: None };
    f.shop.jobs().list(&filter, &Paging::first(1_000)).await.unwrap().0.items
}

async fn on_hand(f: &ShopFixture, sku: SkuId) -> i64 {
    f.shop.inventory().level(sku).await.unwrap().on_hand
}

/// Does the background work of a process that is due now.
async fn pass(shop: &Shop) {
    shop.run_background_pass(Pass::Events, std::future::pending()).await;
}

/// Three processes run the jobs. Some are dropped in the middle, and leases run out while others still work.
pub async fn a_transactional_job_takes_effect_once_although_its_workers_die(f: &ShopFixture) {
    const JOBS: u64 = 30;
    let sku = f.plain("Lamp").await.default_sku().unwrap().id;
    let before = on_hand(f, sku).await;
    let script = Script::of(sku, []);
    let of_script = || JobQueue::transactional(KIND, Scripted(script.clone())).max_attempts(100).at_once(3);
    let shops = [(); 3].map(|()| process(f, [of_script()]));
    for n in 0..JOBS {
        shops[0].jobs().enqueue(&numbered(n)).await.unwrap();
    }
    // Each job has ended, is taken, or pauses after a failed run.
    let none_is_due = async || all(f).await.iter().all(|job| job.due_at().is_none_or(|at| at > f.clock.now()));
    for round in 0..5 {
        let seen = script.begun().len();
        let mut running: Vec<_> = shops.iter().map(Shop::start).collect();
        let have_begun = async || script.begun().len() > seen + round || none_is_due().await;
        until("some jobs have begun", have_begun).await;
        drop(running.remove(round % 3));
        f.clock.advance(LONG * 2);
        drop(running);
        f.clock.advance(LONG * 2);
    }
    // On a busy machine, a run can exceed its time limit, and then its job pauses. So the clock must move on, but only
    // while no job runs, since the leases would run out.
    let all_succeed = async || {
        futures::future::join_all(shops.iter().map(pass)).await;
        f.clock.advance(LONG * 2);
        all(f).await.iter().all(|job| job.state == JobState::Succeeded)
    };
    until("all jobs have succeeded", all_succeed).await;
    assert_eq!(on_hand(f, sku).await, before + JOBS as i64, "each job must add one piece");
    let jobs = all(f).await;
    assert_eq!(jobs.len() as u64, JOBS);
    assert!(jobs.iter().all(|job| job.counters["synced"] == 1), "{jobs:#?}");
    let distinct: HashSet<u64> = script.begun().into_iter().collect();
    assert_eq!(distinct.len() as u64, JOBS);
}

/// The run fails after its write, and then succeeds.
pub async fn a_transactional_job_that_fails_has_no_effect(f: &ShopFixture) {
    let sku = f.plain("Lamp").await.default_sku().unwrap().id;
    let before = on_hand(f, sku).await;
    let script = Script::of(sku, [Act::Fail, Act::Panic]);
    let shop = process(f, [JobQueue::transactional(KIND, Scripted(script.clone()))]);
    let job = shop.jobs().enqueue(&numbered(1)).await.unwrap();
    pass(&shop).await;
    let failed = get(f, job.id).await;
    assert_eq!((failed.state, failed.attempts, &failed.lease), (JobState::Queued, 1, &None));
    assert_eq!((on_hand(f, sku).await, failed.last_error.as_deref()), (before, Some("the CRM is away")));
    f.clock.advance(LONG);
    pass(&shop).await;
    assert_eq!((get(f, job.id).await.state, on_hand(f, sku).await), (JobState::Failed, before));
    shop.jobs().retry(job.id).await.unwrap();
    pass(&shop).await;
    let done = get(f, job.id).await;
    assert_eq!((done.state, on_hand(f, sku).await), (JobState::Succeeded, before + 1));
}

/// The application commits, or does not.
pub async fn a_job_is_enqueued_with_the_writes_of_a_transaction_or_not_at_all(f: &ShopFixture) {
    let sku = f.plain("Lamp").await.default_sku().unwrap().id;
    let before = on_hand(f, sku).await;
    let shop = process(f, [queue(&Script::new([]))]);
    for commits in [false, true] {
        let mut tx = shop.begin().await.unwrap();
        shop.inventory().adjust_in(&mut tx, adjustment(sku, 5)).await.unwrap();
        let job = shop.jobs().enqueue_in(&mut tx, &numbered(1)).await.unwrap();
        if commits {
            tx.commit().await.unwrap().run().await;
            assert_eq!(get(f, job.id).await, job);
        } else {
            drop(tx);
            assert_eq!(code_of(shop.jobs().get(job.id).await, "it was rolled back"), ErrorCode::NotFound);
        }
        assert_eq!(on_hand(f, sku).await, before + if commits { 5 } else { 0 });
    }
}

/// Ten processes enqueue a job with the same key. A job that has run is no longer in the way.
pub async fn a_unique_job_that_waits_is_not_made_again(f: &ShopFixture) {
    let script = Script::new([]);
    let (of_script, other) = (|| queue(&script), || JobQueue::new("other", Scripted(Script::new([]))));
    let keyed = |n| numbered(n).unique_key("4711");
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..10 {
        let shop = process(f, [of_script()]);
        tasks.spawn(async move { shop.jobs().enqueue(&keyed(n)).await.unwrap().id });
    }
    let ids: HashSet<JobId> = tasks.join_all().await.into_iter().collect();
    assert_eq!((ids.len(), all(f).await.len()), (1, 1), "{ids:?}");
    let shop = process(f, [of_script(), other()]);
    let first = shop.jobs().enqueue(&keyed(1)).await.unwrap();
    assert!(ids.contains(&first.id));
    let more = [keyed(1).unique_key("4712"), numbered(1), NewJob::new("other").unique_key("4711")];
    for job in &more {
        assert_ne!(shop.jobs().enqueue(job).await.unwrap().id, first.id, "{job:?}");
    }
    script.permits.forget_permits(Semaphore::MAX_PERMITS);
    let background = shop.start();
    until("the jobs run", async || script.begun().len() == 3).await;
    let second = shop.jobs().enqueue(&keyed(2)).await.unwrap();
    assert_ne!(second.id, first.id, "the first one runs already");
    script.permits.add_permits(1_000);
    until("all have run", async || all(f).await.iter().all(|job| job.state == JobState::Succeeded)).await;
    background.shutdown().await;
    // A job that waits for another run is queued, too.
    let script = Script::new([Act::Fail]);
    let shop = process(f, [queue(&script)]);
    let failed = shop.jobs().enqueue(&keyed(3)).await.unwrap();
    pass(&shop).await;
    let failed = get(f, failed.id).await;
    assert_eq!((failed.state, failed.attempts, failed.is_waiting()), (JobState::Queued, 1, false));
    let again = shop.jobs().enqueue(&keyed(4)).await.unwrap();
    assert_eq!((again.id, script.begun()), (failed.id, vec![3]));

    // A database with one writer has no other transaction that could take the job meanwhile.
    if !f.storage.has_one_writer() {
        f.clock.advance(LONG);
        let mut tx = shop.begin().await.unwrap();
        assert_eq!(shop.jobs().enqueue_in(&mut tx, &keyed(5)).await.unwrap().id, failed.id);
        pass(&shop).await;
        assert_eq!(script.begun(), [3], "the job must not run before what the transaction writes is committed");
        tx.commit().await.unwrap().run().await;
        pass(&shop).await;
        assert_eq!(script.begun(), [3, 3]);
        assert_eq!(get(f, failed.id).await.state, JobState::Succeeded);
    }
}

/// Another job with its key waits, so that both would wait for their first run.
pub async fn a_canceled_job_cannot_be_retried_while_another_one_waits(f: &ShopFixture) {
    let shop = process(f, [queue(&Script::new([]))]);
    let (jobs, keyed) = (shop.jobs(), |n| numbered(n).unique_key("4711"));
    let canceled = jobs.enqueue(&keyed(1)).await.unwrap();
    jobs.cancel(canceled.id).await.unwrap();
    let waiting = jobs.enqueue(&keyed(2)).await.unwrap();
    assert_ne!(waiting.id, canceled.id);
    let refused = conflict(jobs.retry(canceled.id).await, "another job with its key waits");
    assert!(matches!(refused, Conflict::State { .. }), "{refused}");
    assert_eq!(get(f, canceled.id).await.state, JobState::Canceled, "a refused call must write nothing");
    pass(&shop).await;
    assert_eq!(get(f, waiting.id).await.state, JobState::Succeeded);
    jobs.retry(canceled.id).await.unwrap();
    pass(&shop).await;
    assert_eq!(get(f, canceled.id).await.state, JobState::Succeeded);
}

/// The queue runs one job at a time. The clock stands still until the jobs that are due have run.
pub async fn jobs_begin_by_priority_and_not_before_their_time(f: &ShopFixture) {
    let script = Script::new([]);
    let shop = process(f, [queue(&script).at_once(1)]);
    let late = f.clock.now() + chrono::TimeDelta::seconds(90);
    for job in [
        numbered(1).priority(JobPriority::Low),
        numbered(2).delay(Duration::from_secs(60)).priority(JobPriority::High),
        numbered(3),
        numbered(4).priority(JobPriority::High),
        numbered(5).run_at(late),
        numbered(6).priority(JobPriority::High),
        numbered(7).run_at(f.clock.now() - chrono::TimeDelta::days(9)),
    ] {
        shop.jobs().enqueue(&job).await.unwrap();
    }
    pass(&shop).await;
    assert_eq!(script.begun(), [4, 6, 3, 7, 1]);
    f.clock.advance(Duration::from_millis(59_999));
    pass(&shop).await;
    assert_eq!(script.begun().len(), 5, "no job begins before its time");
    f.clock.advance(Duration::from_millis(1));
    pass(&shop).await;
    assert_eq!(script.begun()[5..], [2]);
    f.clock.advance(Duration::from_secs(30));
    pass(&shop).await;
    assert_eq!(script.begun()[6..], [5]);
    assert!(all(f).await.iter().all(|job| job.state == JobState::Succeeded));
}

/// Each pause is four times as long as the one before, less a random part.
pub async fn a_failing_job_pauses_for_longer_and_longer_until_it_is_parked(f: &ShopFixture) {
    let script = Script::new([Act::Fail; 4]);
    let pauses = (Duration::from_secs(10), Duration::from_secs(100));
    let shop = process(f, [queue(&script).max_attempts(4).pauses(pauses.0, pauses.1)]);
    let job = shop.jobs().enqueue(&numbered(1)).await.unwrap();
    for (n, longest) in [(1, 10), (2, 40), (3, 100)] {
        pass(&shop).await;
        let waiting = get(f, job.id).await;
        assert_eq!((waiting.state, waiting.attempts), (JobState::Queued, n));
        let pause = (waiting.run_after - f.clock.now()).num_milliseconds();
        assert!((longest * 500..=longest * 1_000).contains(&pause), "{pause} ms after run {n}");
        pass(&shop).await;
        assert_eq!(script.begun().len(), n as usize, "it waits");
        f.clock.advance(Duration::from_secs(100));
    }
    pass(&shop).await;
    let parked = get(f, job.id).await;
    assert_eq!((parked.state, parked.attempts), (JobState::Failed, 4));
    assert_eq!(parked.last_error.as_deref(), Some("the CRM is away"), "the cause is not shown");
    let filter = JobFilter { kind: Some(KIND.into()), state: Some(JobState::Failed) };
    let listed = f.shop.jobs().list(&filter, &Paging::default()).await.unwrap().0.items;
    assert_eq!(listed, [parked]);
    f.clock.advance(LONG * 100);
    pass(&shop).await;
    assert_eq!(script.begun().len(), 4, "a parked job does not run by itself");
    f.shop.acting_as(me()).jobs().retry(job.id).await.unwrap();
    pass(&shop).await;
    let done = get(f, job.id).await;
    assert_eq!((done.state, done.attempts, done.counters["synced"]), (JobState::Succeeded, 1, 1));
}

/// The next job runs, whatever the one before did.
pub async fn a_panic_and_a_time_limit_end_a_run_and_not_the_worker(f: &ShopFixture) {
    let sku = f.plain("Lamp").await.default_sku().unwrap().id;
    let before = on_hand(f, sku).await;
    for transactional in [false, true] {
        // A transactional run must begin and write within its limit, also where only one transaction can write.
        let limit = if transactional { Duration::from_secs(3) } else { Duration::from_millis(200) };
        let script = Script::of(sku, [Act::Panic, Act::Hang]);
        let handler = Scripted(script.clone());
        let of_script =
            if transactional { JobQueue::transactional(KIND, handler) } else { JobQueue::new(KIND, handler) };
        let shop = process(f, [of_script.at_once(1).max_attempts(1).time_limit(limit)]);
        let mut jobs = Vec::new();
        for n in 0..3 {
            jobs.push(shop.jobs().enqueue(&numbered(n)).await.unwrap().id);
        }
        pass(&shop).await;
        let [panicked, hung, last] = &jobs[..] else { panic!("three jobs") };
        let panicked = get(f, *panicked).await;
        let error = panicked.last_error.unwrap();
        assert!(panicked.state == JobState::Failed && error.contains("panicked"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let hung = get(f, *hung).await;
        let error = hung.last_error.unwrap();
        assert!(hung.state == JobState::Failed && error.contains("time limit of"), "{error}");
        assert_eq!(script.dropped.load(Ordering::SeqCst), 1, "the run that hangs is dropped");
        assert_eq!(get(f, *last).await.state, JobState::Succeeded);
    }
    assert_eq!(on_hand(f, sku).await, before + 1, "only the last transactional run has an effect");
}

/// The job could not do its work yet.
pub async fn a_postponed_run_is_no_attempt(f: &ShopFixture) {
    let script = Script::new([Act::Postpone(Duration::from_secs(7)); 3]);
    let shop = process(f, [queue(&script).max_attempts(1)]);
    let job = shop.jobs().enqueue(&numbered(1)).await.unwrap();
    for n in 1..=3 {
        pass(&shop).await;
        let waiting = get(f, job.id).await;
        assert_eq!((waiting.state, waiting.attempts, &waiting.last_error), (JobState::Queued, 0, &None));
        assert_eq!((waiting.run_after - f.clock.now()).num_seconds(), 7);
        assert_eq!(script.begun().len(), n);
        f.clock.advance(Duration::from_secs(7));
    }
    pass(&shop).await;
    assert_eq!(get(f, job.id).await.state, JobState::Succeeded);

    // Pauses have bounds.
    let shop = process(f, [queue(&Script::new([Duration::ZERO, Duration::MAX].map(Act::Postpone)))]);
    let job = shop.jobs().enqueue(&numbered(2)).await.unwrap();
    for pause in [Duration::from_millis(10), NewJob::MAX_DELAY] {
        pass(&shop).await;
        assert_eq!((get(f, job.id).await.run_after - f.clock.now()).to_std().unwrap(), pause);
        f.clock.advance(Duration::from_millis(10));
    }
}

/// Jobs that wait, run, and run in a transaction.
pub async fn a_canceled_job_does_not_run_or_ends(f: &ShopFixture) {
    let sku = f.plain("Lamp").await.default_sku().unwrap().id;
    let before = on_hand(f, sku).await;
    let script = Script::new([Act::Hang]);
    let shop = build(f, [queue(&script).at_once(1)], Duration::from_secs(1)).unwrap();
    let jobs = f.shop.acting_as(me()).jobs();
    let (running, waiting) =
        (shop.jobs().enqueue(&numbered(1)).await.unwrap(), shop.jobs().enqueue(&numbered(2)).await.unwrap());
    let canceled = jobs.cancel(waiting.id).await.unwrap();
    assert_eq!((canceled.state, canceled.finished_at), (JobState::Canceled, Some(f.clock.now())));
    assert_eq!((&canceled.audit.updated_by, canceled.audit.version), (me().actor(), 2));
    assert_eq!(jobs.cancel(waiting.id).await.unwrap(), canceled, "once more changes nothing");
    let background = shop.start();
    until("the first job runs", async || script.begun() == [1]).await;
    jobs.cancel(running.id).await.unwrap();
    until("the run has ended", async || script.dropped.load(Ordering::SeqCst) == 1).await;
    let next = shop.jobs().enqueue(&numbered(3)).await.unwrap();
    ends(f, next.id, JobState::Succeeded).await;
    assert_eq!(script.begun(), [1, 3]);
    for id in [running.id, waiting.id] {
        assert_eq!(get(f, id).await.state, JobState::Canceled);
    }
    assert!(matches!(conflict(jobs.cancel(next.id).await, "it has ended"), Conflict::State { .. }));
    jobs.retry(waiting.id).await.unwrap();
    ends(f, waiting.id, JobState::Succeeded).await;
    background.shutdown().await;
    assert_eq!(code_of(jobs.cancel(JobId(f.shop.ids().next())).await, "an unknown job"), ErrorCode::NotFound);

    // A database with one writer takes the cancelation after the transaction of the run, which it then cannot undo.
    if !f.storage.has_one_writer() {
        let script = Script::of(sku, []);
        script.permits.forget_permits(Semaphore::MAX_PERMITS);
        let shop = process(f, [JobQueue::transactional("effects", Scripted(script.clone()))]);
        let job = shop.jobs().enqueue(&NewJob::new("effects")).await.unwrap();
        let background = shop.start();
        until("the job runs", async || !script.begun().is_empty()).await;
        jobs.cancel(job.id).await.unwrap();
        script.permits.add_permits(1_000);
        let next = shop.jobs().enqueue(&NewJob::new("effects")).await.unwrap();
        ends(f, next.id, JobState::Succeeded).await;
        background.shutdown().await;
        assert_eq!(get(f, job.id).await.state, JobState::Canceled);
        assert_eq!(on_hand(f, sku).await, before + 1, "a canceled transaction has no effect");
    }
}

/// Jobs of other queues run. The numbers of jobs are counted.
pub async fn a_paused_queue_begins_no_job_until_it_is_resumed(f: &ShopFixture) {
    let (script, other) = (Script::new([]), Script::new([]));
    let shop = process(f, [queue(&script), JobQueue::new("other", Scripted(other.clone()))]);
    let (kind, jobs) = (JobKind::new(KIND), f.shop.acting_as(me()).jobs());
    assert_eq!(code_of(jobs.pause(&kind).await, "a queue that this process does not know"), ErrorCode::NotFound);
    shop.jobs().enqueue(&numbered(1)).await.unwrap();
    shop.jobs().enqueue(&NewJob::new("other")).await.unwrap();
    for _ in 0..2 {
        let paused = jobs.pause(&kind).await.unwrap();
        assert_eq!((paused.paused, paused.jobs["queued"], paused.jobs["running"]), (true, 1, 0));
    }
    pass(&shop).await;
    assert_eq!((script.begun().len(), other.begun().len()), (0, 1));
    let status = async || {
        let all = jobs.queues().await.unwrap();
        assert!(all.is_sorted_by_key(|queue| queue.kind.clone()), "{all:?}");
        let known: Vec<&JobKind> = all.iter().map(|queue| &queue.kind).collect();
        assert!(JobKind::OF_SHOP.iter().all(|kind| known.contains(&kind)), "{known:?}");
        let of = |kind: &str| all.iter().find(|queue| queue.kind.as_str() == kind).cloned().unwrap();
        (of(KIND), of("other"))
    };
    let (this, that) = status().await;
    assert_eq!((this.paused, this.jobs["queued"], that.paused, that.jobs["succeeded"]), (true, 1, false, 1));
    assert!(!jobs.resume(&kind).await.unwrap().paused);
    pass(&shop).await;
    assert_eq!(script.begun(), [1]);
    let (this, _) = status().await;
    assert_eq!((this.paused, this.jobs["queued"], this.jobs["succeeded"]), (false, 0, 1));
    jobs.pause(&JobKind::REINDEX).await.unwrap();
    let reindex = shop.jobs().enqueue_reindex().await.unwrap();
    pass(&shop).await;
    assert_eq!(get(f, reindex.id).await.state, JobState::Queued, "the shop's own queues can be paused, too");
    jobs.resume(&JobKind::REINDEX).await.unwrap();
    pass(&shop).await;
    assert_eq!(get(f, reindex.id).await.state, JobState::Succeeded);
    let import = conflict(jobs.pause(&JobKind::IMPORT).await, "imports are not queued");
    assert!(matches!(import, Conflict::State { .. }), "{import}");
    for bad in ["", "CRM", " crm-sync", "crm-sync ", "crm sync"] {
        for refused in [jobs.pause(&JobKind::new(bad)).await, jobs.resume(&JobKind::new(bad)).await] {
            assert_eq!(fields(refused, bad)["kind"], FieldCode::Malformed, "{bad}");
        }
    }
    match jobs.pause(&JobKind::new("fax")).await {
        Err(Error::NotFound { key, .. }) => assert_eq!(key, "fax", "the error names the kind"),
        other => panic!("a queue that nobody has must not be found, but the result is {other:?}"),
    }
}

/// Three processes look at once, and a fourth one starts later. The clock moves only between their looks.
pub async fn a_schedule_fires_once_in_all_processes(f: &ShopFixture) {
    let script = Script::new([]);
    let hourly = || {
        let parameters = json!({ "n": 7 }).as_object().cloned().unwrap_or_default();
        queue(&script).cron_with("hourly", "0 * * * *", parameters)
    };
    let shops = [(); 3].map(|()| process(f, [hourly()]));
    let look = async || {
        futures::future::join_all(shops.iter().map(pass)).await;
        // The second pass runs what the first one has created.
        futures::future::join_all(shops.iter().map(pass)).await;
        script.begun()
    };
    let hour = Duration::from_secs(3_600);
    // It is 3:04 at first.
    assert!(look().await.is_empty(), "a new schedule fires at its next time");
    f.clock.advance(Duration::from_secs(55 * 60));
    assert!(look().await.is_empty(), "it is 3:59");
    f.clock.advance(Duration::from_secs(60));
    assert_eq!(look().await, [7], "it is 4:00");
    assert_eq!(look().await.len(), 1);
    let restarted = process(f, [hourly()]);
    pass(&restarted).await;
    assert_eq!(script.begun().len(), 1, "a process that starts later fires no time again");
    f.clock.advance(hour * 5);
    assert_eq!(look().await.len(), 2, "times that were missed are made up for once");
    f.clock.advance(hour);
    assert_eq!(look().await.len(), 3);
    // A job that still waits is not created again, as in a paused queue.
    let kind = JobKind::new(KIND);
    shops[0].jobs().pause(&kind).await.unwrap();
    for _ in 0..3 {
        f.clock.advance(hour);
        assert_eq!(look().await.len(), 3);
    }
    shops[0].jobs().resume(&kind).await.unwrap();
    assert_eq!(look().await.len(), 4);
    let jobs = all(f).await;
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded && job.audit.created_by.as_str() == "system"));
    // A process with another line plans anew when it starts.
    let daily = process(f, [queue(&script).cron("hourly", "30 3 * * *")]);
    pass(&daily).await;
    f.clock.advance(hour);
    pass(&daily).await;
    assert_eq!(script.begun().len(), 4, "the next time is 3:30");
    f.clock.advance(hour * 24);
    // The second pass runs what the first one has created.
    for _ in 0..2 {
        pass(&daily).await;
    }
    assert_eq!(script.begun().len(), 5);
}

/// A queue or a job that is refused leaves nothing in the database.
pub async fn bad_queues_and_bad_jobs_are_refused(f: &ShopFixture) {
    let script = Script::new([]);
    let refused = |queues: Vec<JobQueue>| {
        let names = fields(build(f, queues, LONG), "a bad queue");
        names.into_keys().collect::<Vec<_>>()
    };
    for bad in ["* * * *", "61 * * * *", "0 0 30 2 *", "daily", "* * * * * *"] {
        assert_eq!(refused(vec![queue(&script).cron("nightly", bad)]), ["job_queues.crm-sync.cron.nightly"], "{bad}");
    }
    match build(f, [queue(&script).cron("nightly", "61 * * * *")], LONG) {
        Err(Error::Validation(e)) => assert!(e.0[0].message.contains("`61 * * * *` is not a cron line"), "{e:?}"),
        other => panic!("a bad cron line must be refused, but the shop is {other:?}"),
    }
    let twice = queue(&script).cron("nightly", "@daily").cron("nightly", "@hourly").cron("Bad Name", "@daily");
    assert_eq!(refused(vec![twice]).len(), 2);
    assert_eq!(refused(vec![JobQueue::new("Größe", Scripted(script.clone()))]), ["job_queues[0].kind"]);
    assert_eq!(refused(vec![queue(&script), queue(&script)]), ["job_queues.crm-sync.kind"]);
    assert_eq!(refused(vec![JobQueue::new("mail", Scripted(script.clone()))]), ["job_queues.mail.kind"]);
    let all_bad = queue(&script).max_attempts(0).at_once(0).time_limit(Duration::MAX).kept(Duration::MAX);
    assert_eq!(refused(vec![all_bad.pauses(Duration::ZERO, Duration::ZERO)]).len(), 5);
    let long = JobQueue::transactional(KIND, Scripted(script.clone())).time_limit(Duration::from_secs(11));
    assert_eq!(refused(vec![long]), ["job_queues.crm-sync.time_limit"]);

    let shop = process(f, [queue(&script)]);
    let jobs = shop.jobs();
    let ten_megabytes = numbered(1).parameter("text", "x".repeat(10_000_000));
    let largest = numbered(1).parameter("t", "x".repeat(Job::MAX_PARAMETERS - r#"{"n":1,"t":""}"#.len()));
    let too_large = numbered(1).parameter("t", "x".repeat(Job::MAX_PARAMETERS + 1 - r#"{"n":1,"t":""}"#.len()));
    for (job, field) in [
        (ten_megabytes, "parameters"),
        (too_large, "parameters"),
        (numbered(1).parameter("text", "a\0b"), "parameters"),
        (numbered(1).unique_key(""), "unique_key"),
        (numbered(1).unique_key("x".repeat(201)), "unique_key"),
        (numbered(1).unique_key("a "), "unique_key"),
        (numbered(1).delay(Duration::MAX), "delay"),
        (numbered(1).run_at(chrono::DateTime::<chrono::Utc>::MAX_UTC), "run_at"),
        (NewJob::new("unknown"), "kind"),
        (NewJob::new(JobKind::MAIL), "kind"),
    ] {
        let names = fields(jobs.enqueue(&job).await, field);
        assert_eq!(names.into_keys().collect::<Vec<_>>(), [field]);
    }
    let unknown = fields(jobs.enqueue(&NewJob::new("unknown")).await, "an unknown kind");
    assert_eq!(unknown["kind"], FieldCode::Unknown);
    assert!(all(f).await.is_empty(), "a refused call must write nothing");
    let job = jobs.enqueue(&largest).await.unwrap();
    assert_eq!(get(f, job.id).await, job);
}
