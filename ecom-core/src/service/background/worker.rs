//! The worker of jobs: it takes jobs that are due, runs each under a lease, and records what became of them.
//!
//! Every statement that a worker writes about its jobs checks the holder of the lease, under a lock of the row. So a
//! worker that has lost a job, and learns of it late, writes nothing. One transaction records the ends of all jobs that
//! have ended meanwhile, and takes the next ones.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use super::lease::keep_by;
use super::tasks::said;
use super::work::Work;
use crate::clock::Timestamp;
use crate::domain::access::principal::Principal;
use crate::domain::common::Audit;
use crate::domain::platform::job::{Job, JobCounters, JobKind, JobLease, JobState};
use crate::error::{BoxError, Error, Result, WithCauses};
use crate::id::JobId;
use crate::metrics;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::platform::job_queue::{
    AfterFailure, Handler, JobError, JobQueue, JobRun, NewJob, Runner, TransactionalJobHandler,
};
use crate::service::run::context::Context;
use crate::service::run::notice::Notice;
use crate::service::run::transaction::Tx;
use crate::trace;

/// How long a job waits for another process after one that could not run it has given it back.
pub(crate) const GIVEN_BACK: Duration = Duration::from_secs(1);
/// The most jobs that one transaction takes.
const TAKEN_AT_ONCE: u32 = 100;
/// The error of a job whose last run had no result, because the process died or lost the lease.
const DIED: &str =
    "the last runs had no result, because the process died or lost its lease; read the logs, and retry the job";

/// The error of a job that only its creator could run, and whose process died.
const ABANDONED: &str =
    "the process that ran the job died or lost its lease; what it had written stays, and the import can be repeated";

/// The error of a job whose operation has panicked.
const PANICKED: &str = "the run has panicked; the log of the process has the message";

/// What a job has counted so far. The operation adds to it, and the worker writes it with each renewal of the lease.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<JobCounters>);

impl Progress {
    /// Adds to a counter.
    pub fn add(&self, name: &'static str, n: u64) {
        *self.0.lock().entry(name.to_owned()).or_default() += n;
    }

    /// Replaces all counters.
    pub fn set(&self, counters: JobCounters) {
        *self.0.lock() = counters;
    }

    fn counters(&self) -> JobCounters {
        self.0.lock().clone()
    }
}

/// A job that this process runs, and the instant until which it certainly holds the lease, by the clock of this
/// machine.
pub(crate) struct Held {
    job: Job,
    holder: Uuid,
    until: Instant,
}

impl Held {
    /// Returns the id of the job.
    pub fn id(&self) -> JobId {
        self.job.id
    }
}

/// The end of a run.
#[derive(Debug)]
enum End {
    Succeeded,
    /// The transaction of the handler has recorded that the job has succeeded.
    Recorded,
    Failed {
        error: String,
        lasting: bool,
    },
    /// This process cannot run the job, or not to its end.
    GivenBack {
        pause: Duration,
    },
    /// Another worker has the job, or it was canceled.
    Lost,
}

/// A run that has ended, and what it has counted.
struct Ended {
    held: Held,
    end: End,
    counters: JobCounters,
}

/// Returns those of some queues that are not paused.
async fn open<'a>(cx: &Context, queues: impl Iterator<Item = &'a JobQueue>) -> Result<Vec<&'a JobQueue>> {
    let queues: Vec<&JobQueue> = queues.collect();
    if queues.is_empty() {
        return Ok(queues);
    }
    let states = cx.storage.connect().await?.jobs().queues().await?;
    let is_paused = |kind: &JobKind| states.iter().any(|state| state.paused && state.kind == *kind);
    Ok(queues.into_iter().filter(|queue| !is_paused(queue.kind())).collect())
}

/// Returns whether a job of one of these queues waits for a worker.
async fn is_due(cx: &Context, queues: &[&JobQueue]) -> Result<bool> {
    let kinds: Vec<JobKind> = queues.iter().map(|queue| queue.kind().clone()).collect();
    if kinds.is_empty() { Ok(false) } else { cx.storage.connect().await?.jobs().is_due(&kinds, cx.now()).await }
}

/// Returns whether a job of the index waits for a worker.
///
/// # Errors
/// `Unavailable` if the database cannot be reached.
pub(super) async fn index_is_due(cx: &Context) -> Result<bool> {
    let queues = open(cx, cx.queues.of(Runner::Index)).await?;
    is_due(cx, &queues).await
}

/// Runs one job of each kind of the index that is due, and returns false if there is none. A job that fails is no error
/// of this function. If the shop stops meanwhile, or the call is dropped, another process runs the job again: after a
/// stop at once, after a drop when the lease has run out.
///
/// # Errors
/// `Unavailable` if the database cannot be reached.
pub(super) async fn run_of_index(cx: &Arc<Context>, stopped: &watch::Receiver<bool>) -> Result<bool> {
    let mut ran = false;
    for queue in open(cx, cx.queues.of(Runner::Index)).await? {
        if *stopped.borrow() {
            break;
        }
        for held in settle(cx, &[], &[(queue, 1)]).await? {
            ran = true;
            let ended = run_held(cx.clone(), queue.clone(), held, stopped.clone()).await;
            settle(cx, &[ended], &[]).await?;
        }
    }
    Ok(ran)
}

/// The work of the jobs that any process can run: as many at once as their queues allow, each in a task of its own.
pub(super) struct Worker {
    cx: Arc<Context>,
    stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Returns the worker of a shop.
    pub fn new(cx: &Arc<Context>, stopped: &watch::Receiver<bool>) -> Self {
        Self { cx: cx.clone(), stopped: stopped.clone() }
    }

    /// Returns the queues of which this process can begin jobs now, and how many jobs of each.
    async fn free<'a>(&'a self, running: &Running) -> Result<Vec<(&'a JobQueue, u32)>> {
        if *self.stopped.borrow() {
            return Ok(Vec::new());
        }
        let has_one_writer = self.cx.storage.has_one_writer();
        let free = |queue: &&JobQueue| running.slots(queue, has_one_writer) > 0;
        let queues = open(&self.cx, self.cx.queues.of(Runner::Worker).filter(free)).await?;
        let slots = |queue: &JobQueue| running.slots(queue, has_one_writer).min(TAKEN_AT_ONCE);
        Ok(queues.into_iter().map(|queue| (queue, slots(queue))).collect())
    }

    /// Records the ends of jobs, and begins as many as are due and there are slots for.
    async fn turn(&self, running: &mut Running) -> Result<()> {
        let free = self.free(running).await?;
        let queues: Vec<&JobQueue> = free.iter().map(|(queue, _)| *queue).collect();
        if running.ended.is_empty() && !is_due(&self.cx, &queues).await? {
            return Ok(());
        }
        for held in settle(&self.cx, &running.ended, &free).await? {
            if let Some(queue) = queues.iter().find(|queue| *queue.kind() == held.job.kind) {
                running.begin(&self.cx, queue, held, &self.stopped);
            }
        }
        running.ended.clear();
        Ok(())
    }
}

#[async_trait]
impl Work for Worker {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let mut events = self.cx.events.subscribe();
        let mut running = Running::default();
        loop {
            events.mark_unchanged();
            let turned = self.turn(&mut running).await;
            if turned.is_err() {
                // Ends that cannot be recorded are lost with their leases, not earlier, and the jobs run again.
                running.ended.retain(|ended| Instant::now() < ended.held.until);
            }
            if running.tasks.is_empty() && running.ended.is_empty() {
                return Ok(turned.map(|()| false)?);
            }
            if let Err(error) = turned {
                tracing::warn!(error = %WithCauses(&error), "jobs are neither begun nor ended at the moment");
            }
            let stopping = *self.stopped.borrow();
            tokio::select! {
                biased;
                Some(done) = running.tasks.join_next_with_id() => running.collect(done),
                _ = events.changed(), if !stopping => {}
                () = tokio::time::sleep(self.cx.config.poll_interval) => {}
            }
        }
    }
}

/// The jobs that the worker of a process runs.
#[derive(Default)]
struct Running {
    tasks: JoinSet<Ended>,
    kinds: HashMap<Id, JobKind>,
    /// Runs whose ends are not recorded yet.
    ended: Vec<Ended>,
}

impl Running {
    /// Returns how many more jobs of a queue can run.
    fn slots(&self, queue: &JobQueue, has_one_writer: bool) -> u32 {
        let busy = self.kinds.values().filter(|kind| *kind == queue.kind()).count();
        queue.most_at_once(has_one_writer).saturating_sub(u32::try_from(busy).unwrap_or(u32::MAX))
    }

    fn begin(&mut self, cx: &Arc<Context>, queue: &JobQueue, held: Held, stopped: &watch::Receiver<bool>) {
        let run = run_held(cx.clone(), queue.clone(), held, stopped.clone());
        let id = self.tasks.spawn(run).id();
        self.kinds.insert(id, queue.kind().clone());
    }

    /// Takes note of a task that has ended, and of all others that have.
    fn collect(&mut self, first: Result<(Id, Ended), JoinError>) {
        let mut next = Some(first);
        while let Some(done) = next {
            match done {
                Ok((id, ended)) => {
                    self.kinds.remove(&id);
                    self.ended.push(ended);
                }
                // Only if the runtime ends: a run catches its panics.
                Err(error) => {
                    self.kinds.remove(&error.id());
                }
            }
            next = self.tasks.try_join_next_with_id();
        }
    }
}

/// Runs a job that this process holds, to its end, until its lease is lost, or until the shop stops.
async fn run_held(cx: Arc<Context>, queue: JobQueue, mut held: Held, mut stopped: watch::Receiver<bool>) -> Ended {
    let (id, kind) = (held.job.id, held.job.kind.as_str().to_owned());
    tracing::debug!(job = %id, kind, attempt = held.job.attempts, "a job has begun");
    let progress = Arc::new(Progress::default());
    let run = JobRun { cx: cx.clone(), job: held.job.clone(), progress: progress.clone() };
    let holder = held.holder;
    let span = tracing::debug_span!(
        target: trace::TARGET,
        "job",
        otel.kind = "consumer",
        otel.name = %format_args!("job {kind}"),
        job = %id,
        attempt = held.job.attempts,
    );
    let work = AssertUnwindSafe(perform(&queue, &run, holder)).catch_unwind().instrument(span);
    let renews = !matches!(queue.handler, Handler::Transactional(_));
    let lost = async {
        if renews {
            keep(&cx, &mut held, &progress).await;
        } else {
            // Its lease lasts as long as its time limit, and its transaction checks at the end who holds the job.
            std::future::pending::<()>().await;
        }
    };
    let end = tokio::select! {
        biased;
        done = work => done.unwrap_or_else(|panic| panicked(&run.job, &*panic)),
        () = lost => End::Lost,
        _ = stopped.wait_for(|s| *s) => End::GivenBack { pause: Duration::ZERO },
    };
    Ended { held, end, counters: progress.counters() }
}

/// Runs the handler of a job, within its time limit.
async fn perform(queue: &JobQueue, run: &JobRun, holder: Uuid) -> End {
    let work = async {
        match &queue.handler {
            Handler::Plain(handler) => handler.run(run).await.map(|()| End::Succeeded),
            Handler::Transactional(handler) => run_in_transaction(&**handler, run, holder).await,
            Handler::Creator => Err(JobError::postpone(GIVEN_BACK)),
        }
    };
    let limit = queue.limit(run.cx.config.lease_ttl, run.cx.storage.has_one_writer());
    let Ok(done) = tokio::time::timeout(limit, work).await else {
        let error = format!("the run has exceeded its time limit of {limit:?}");
        return End::Failed { error, lasting: false };
    };
    done.unwrap_or_else(|error| match error.next {
        AfterFailure::Postpone(pause) => End::GivenBack { pause: pause.clamp(JobError::MIN_PAUSE, NewJob::MAX_DELAY) },
        next => {
            tracing::warn!(job = %run.job.id, error = %WithCauses(&error), "a run of a job has failed");
            End::Failed { lasting: next == AfterFailure::Park, error: error.message }
        }
    })
}

/// Runs a handler in a transaction that also records that the job has succeeded.
async fn run_in_transaction(
    handler: &dyn TransactionalJobHandler,
    run: &JobRun,
    holder: Uuid,
) -> Result<End, JobError> {
    /// Why the transaction was rolled back, unless the database is the reason.
    enum Undone {
        Failed(JobError),
        Lost,
    }
    let undone: &Mutex<Option<Undone>> = &Mutex::new(None);
    let rolled_back = |why: Undone| {
        *undone.lock() = Some(why);
        Error::Internal { context: "running a job", source: None }
    };
    let written = run.cx.write_at_length(|mut tx: Tx<'static>| async move {
        run.progress.set(JobCounters::new());
        if let Err(error) = handler.run(&mut tx, run).await {
            return Err(match contention(error) {
                Ok(contention) => contention,
                Err(error) => rolled_back(Undone::Failed(error)),
            });
        }
        let found = tx.jobs().lock(run.job.id).await?;
        let Some(before) = found.filter(|job| job.is_held_by(holder)) else {
            return Err(rolled_back(Undone::Lost));
        };
        let after = before.succeeded(run.progress.counters(), run.cx.now());
        tx.jobs().update(&before, &after).await?;
        Ok(((), tx))
    });
    let written = written.await;
    match (written, undone.lock().take()) {
        (Ok(()), _) => Ok(End::Recorded),
        (Err(_), Some(Undone::Failed(error))) => Err(error),
        (Err(_), Some(Undone::Lost)) => Ok(End::Lost),
        (Err(error), None) => Err(error.into()),
    }
}

/// Returns the error of the shop if another transaction was in the way of a handler.
fn contention(mut error: JobError) -> Result<Error, JobError> {
    match error.source.take().map(<dyn std::error::Error + Send + Sync>::downcast::<Error>) {
        Some(Ok(of_shop)) if of_shop.is_contention() => Ok(*of_shop),
        source => {
            error.source = source.map(|source| match source {
                Ok(of_shop) => of_shop as BoxError,
                Err(other) => other,
            });
            Err(error)
        }
    }
}

/// Creates a job that the caller runs at once with [`run_here`], under a lease like that of a worker. No other process
/// takes it over; if the lease runs out, [`fail_abandoned`] ends it.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn begin_here(
    cx: &Arc<Context>,
    who: &Principal,
    kind: JobKind,
    parameters: Map<String, Value>,
) -> Result<Held> {
    let (id, holder) = (JobId(cx.ids.next()), cx.ids.next());
    let (asked, ttl) = (Instant::now(), cx.config.lease_ttl);
    let (kind, parameters) = (&kind, &parameters);
    let job = cx
        .write(|mut tx| async move {
            let now = cx.now();
            // A job that was created by a commit of unknown outcome is not created again.
            let found = tx.jobs().get(id).await?;
            if let Some(job) = found {
                return Ok((job, tx));
            }
            let job = Job::new(id, kind.clone(), parameters.clone(), now, who.actor());
            let mut job = job.claimed(JobLease { holder, expires_at: now + ttl }, now);
            job.audit = Audit::created(now, who.actor());
            tx.jobs().insert(&job).await?;
            Ok((job, tx))
        })
        .await?;
    Ok(Held { job, holder, until: asked + ttl })
}

/// Runs the work of a job of [`begin_here`], renews its lease meanwhile, and records its end. `flaw` finds the reason
/// why work without an error counts as failed. If the lease runs out, the work goes on, because nobody else does it,
/// and takes the lease again once the database answers.
///
/// # Errors
/// The errors of the work.
pub(crate) async fn run_here<T>(
    cx: &Arc<Context>,
    mut held: Held,
    progress: &Progress,
    work: impl Future<Output = Result<T>>,
    flaw: impl FnOnce(&T) -> Option<String>,
) -> Result<T> {
    let lasting = true;
    let done = {
        let work = AssertUnwindSafe(work).catch_unwind();
        let keeping = async {
            loop {
                keep(cx, &mut held, progress).await;
                if !take_again(cx, &mut held, progress).await {
                    return std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = keeping => unreachable!("it is pending for ever"),
        }
    };
    let end = match &done {
        Ok(Ok(value)) => flaw(value).map_or(End::Succeeded, |error| End::Failed { error, lasting }),
        Ok(Err(error)) => End::Failed { error: error.to_string(), lasting },
        Err(panic) => panicked(&held.job, &**panic),
    };
    let job = held.job.id;
    let ended = Ended { held, end, counters: progress.counters() };
    if let Err(error) = settle(cx, &[ended], &[]).await {
        tracing::warn!(%job, error = %WithCauses(&error), "the result of a job could not be recorded");
    }
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Takes a lease again that was not renewed in time, and returns false if the job has been ended meanwhile.
async fn take_again(cx: &Arc<Context>, held: &mut Held, progress: &Progress) -> bool {
    let (id, holder, ttl) = (held.job.id, held.holder, cx.config.lease_ttl);
    tracing::warn!(job = %id, "the lease of a job was not renewed in time; its work goes on");
    loop {
        let asked = Instant::now();
        match renew(cx, id, holder, progress.counters()).await {
            Ok(true) => {
                held.until = asked + ttl;
                return true;
            }
            Ok(false) => return false,
            Err(_) => tokio::time::sleep(ttl / 4).await,
        }
    }
}

/// Ends the jobs of dead processes that no other process can run.
///
/// # Errors
/// `Unavailable`.
pub(super) async fn fail_abandoned(cx: &Arc<Context>) -> Result<()> {
    let queues: Vec<&JobQueue> = cx.queues.of(Runner::Creator).collect();
    if is_due(cx, &queues).await? {
        // An import in bulk may not have come to it. The jobs end later, so that it is tried again if the database
        // cannot be reached, or if this process dies, too.
        let restored = match cx.storage.restore_indexes().await {
            Err(error) if error.is_retryable() => return Err(error),
            restored => restored,
        };
        let all: Vec<_> = queues.into_iter().map(|queue| (queue, TAKEN_AT_ONCE)).collect();
        settle(cx, &[], &all).await?;
        restored?;
    }
    Ok(())
}

/// Logs that a run has panicked, and returns its end.
fn panicked(job: &Job, panic: &(dyn std::any::Any + Send)) -> End {
    // The message of a panic may contain anything.
    tracing::error!(job = %job.id, kind = job.kind.as_str(), error = said(panic), "a run of a job has panicked");
    End::Failed { error: PANICKED.to_owned(), lasting: true }
}

/// Records the ends of runs, and takes due jobs: of each queue at most the number in `free`. If the database cannot be
/// reached, it tries again until the leases of the runs may have run out.
///
/// # Errors
/// `Unavailable`.
async fn settle(cx: &Arc<Context>, ended: &[Ended], free: &[(&JobQueue, u32)]) -> Result<Vec<Held>> {
    let until = ended.iter().map(|ended| ended.held.until).max();
    loop {
        match try_settle(cx, ended, free).await {
            Err(error) if error.is_retryable() && until.is_some_and(|until| Instant::now() < until) => {
                tracing::debug!(%error, "the results of jobs are not recorded yet");
                tokio::time::sleep(cx.config.lease_ttl / 12).await;
            }
            settled => return settled,
        }
    }
}

async fn try_settle(cx: &Arc<Context>, ended: &[Ended], free: &[(&JobQueue, u32)]) -> Result<Vec<Held>> {
    let ids: Vec<JobId> = ended.iter().filter(|ended| ended.needs_record()).map(|ended| ended.held.job.id).collect();
    let (holder, asked, ttl) = (cx.ids.next(), Instant::now(), cx.config.lease_ttl);
    let ids = &ids;
    let settled = cx.write(|mut tx| async move {
        let now = cx.now();
        let mut changes = Vec::with_capacity(ids.len());
        let locked = tx.jobs().lock_many(ids).await?;
        for before in locked {
            let of = ended.iter().find(|ended| ended.held.job.id == before.id);
            let Some(of) = of.filter(|of| before.is_held_by(of.held.holder)) else { continue };
            if let Some(after) = of.after(cx, &before, now) {
                changes.push((before, after));
            }
        }
        tx.jobs().update_all(&changes).await?;
        let recorded: Vec<Job> = changes.into_iter().map(|(_, after)| after).collect();
        recorded.iter().filter(|job| job.state == JobState::Failed).for_each(|job| tx.note(Notice::parked(job)));
        let mut taken = Vec::new();
        for (queue, slots) in free {
            taken.extend(take(&mut tx, queue, *slots, holder, ttl, now).await?);
        }
        Ok(((recorded, taken), tx))
    });
    let (recorded, taken) = settled.await?;
    for ended in ended {
        ended.log(recorded.iter().find(|job| job.id == ended.held.job.id));
    }
    let until = |job: &Job| {
        let lease = free.iter().find(|(queue, _)| *queue.kind() == job.kind).map(|(queue, _)| queue.lease(ttl));
        asked + lease.unwrap_or(ttl)
    };
    Ok(taken.into_iter().map(|job| Held { until: until(&job), job, holder }).collect())
}

/// Takes at most `slots` jobs of a queue that are due. A job whose workers have died too often is failed instead.
async fn take(
    tx: &mut Tx<'_>,
    queue: &JobQueue,
    slots: u32,
    holder: Uuid,
    ttl: Duration,
    now: Timestamp,
) -> Result<Vec<Job>> {
    let mut taken = Vec::new();
    loop {
        let left = slots.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
        let due = if left == 0 { Vec::new() } else { tx.jobs().lock_due(queue.kind(), now, left).await? };
        if due.is_empty() {
            return Ok(taken);
        }
        let mut changes = Vec::with_capacity(due.len());
        for before in due {
            let after = if before.attempts >= queue.retry.max_attempts {
                let why = if queue.runner == Runner::Creator { ABANDONED } else { DIED };
                before.failed(why, None, before.counters.clone(), now)
            } else {
                before.claimed(JobLease { holder, expires_at: now + queue.lease(ttl) }, now)
            };
            changes.push((before, after));
        }
        tx.jobs().update_all(&changes).await?;
        for (_, after) in changes {
            if after.is_held_by(holder) {
                taken.push(after);
            } else {
                tx.note(Notice::parked(&after));
            }
        }
    }
}

impl Ended {
    /// Returns false if there is nothing to record.
    fn needs_record(&self) -> bool {
        !matches!(self.end, End::Recorded | End::Lost)
    }

    /// Returns the job after the run.
    fn after(&self, cx: &Context, before: &Job, now: Timestamp) -> Option<Job> {
        let counters = self.counters.clone();
        Some(match &self.end {
            End::Recorded | End::Lost => return None,
            End::Succeeded => before.succeeded(counters, now),
            End::Failed { error, lasting } => {
                let retry = cx.queues.get(&before.kind).filter(|_| !*lasting).map(|queue| queue.retry);
                let pause = retry.and_then(|retry| retry.pause(before.attempts)).map(|pause| cx.jitter(pause));
                before.failed(error, pause, counters, now)
            }
            End::GivenBack { pause } => before.released(now + *pause, now),
        })
    }

    /// Returns the outcome of the run, as metrics name it. `recorded` is the job after the run, if this process has
    /// stored it.
    const fn outcome(&self, recorded: Option<&Job>) -> &'static str {
        match (&self.end, recorded) {
            (End::Succeeded, Some(_)) | (End::Recorded, _) => "succeeded",
            (End::GivenBack { .. }, Some(_)) => "postponed",
            (End::Failed { .. }, Some(job)) if matches!(job.state, JobState::Failed) => "parked",
            (End::Failed { .. }, Some(_)) => "retried",
            (End::Lost, _) | (_, None) => "lost",
        }
    }

    /// Logs and counts the end of the run. `recorded` is the job after the run, if this process has stored it.
    fn log(&self, recorded: Option<&Job>) {
        let (id, kind) = (self.held.job.id, self.held.job.kind.as_str());
        metrics::count(metrics::JOB_RUNS_TOTAL, &[("kind", kind), ("outcome", self.outcome(recorded))], 1);
        match (&self.end, recorded) {
            (End::Recorded, _) => {
                tracing::info!(job = %id, kind, state = "succeeded", counters = ?self.counters, "a job has ended");
            }
            (End::Lost, _) => {
                tracing::warn!(job = %id, kind, "a run was abandoned: its job was canceled, or another worker has it");
            }
            (_, Some(job)) => {
                let (state, counters, error) = (job.state.as_str(), &job.counters, job.last_error.as_deref());
                tracing::info!(job = %id, kind, state, ?counters, error, "a job has ended");
            }
            (_, None) => {
                tracing::warn!(job = %id, kind, "a job was canceled or taken over before its result was recorded");
            }
        }
    }
}

/// Writes a change of a job and returns the job, or `None` if this holder no longer has it.
async fn record(
    cx: &Arc<Context>,
    id: JobId,
    holder: Uuid,
    change: impl Fn(&Job) -> Job + Copy,
) -> Result<Option<Job>> {
    cx.write(|mut tx| async move {
        let Some(before) = tx.jobs().lock(id).await?.filter(|job| job.is_held_by(holder)) else {
            return Ok((None, tx));
        };
        let after = change(&before);
        tx.jobs().update(&before, &after).await?;
        Ok((Some(after), tx))
    })
    .await
}

/// Renews the lease of a job for as long as that succeeds, and returns once it is lost.
async fn keep(cx: &Arc<Context>, held: &mut Held, progress: &Progress) {
    let ttl = cx.config.lease_ttl;
    let (id, holder) = (held.job.id, held.holder);
    let renew = || renew(cx, id, holder, progress.counters()).boxed();
    keep_by(renew, ttl, &mut held.until).await;
}

/// Renews the lease of a job and writes its counters. Returns false if this holder no longer has the job.
async fn renew(cx: &Arc<Context>, id: JobId, holder: Uuid, counters: JobCounters) -> Result<bool> {
    let renewed = |job: &Job| {
        let now = cx.now();
        job.renewed(JobLease { holder, expires_at: now + cx.config.lease_ttl }, counters.clone(), now)
    };
    Ok(record(cx, id, holder, &renewed).await?.is_some())
}
