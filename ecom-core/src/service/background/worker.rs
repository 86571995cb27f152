//! The worker of jobs: it takes a job that is due, runs it under a lease, and records what became of it.
//!
//! Every statement that a worker writes about its job names the holder of the lease, under a lock of the row. So a
//! worker that has lost its job, and learns of it late, writes nothing.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::lease::keep_by;
use super::tasks::said;
use crate::domain::access::principal::Principal;
use crate::domain::common::Audit;
use crate::domain::platform::job::{Job, JobCounters, JobKind, JobLease};
use crate::error::{Error, Result, WithCauses};
use crate::id::JobId;
use crate::port::mailer::MailError;
use crate::port::storage::Repositories as _;
use crate::service::access::mail;
use crate::service::run::context::Context;
use crate::service::search::index::IndexSyncService;

/// How long a job waits for another process after one has given it back.
const GIVEN_BACK: Duration = Duration::from_secs(1);
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

/// The error of a failed run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A backend of the shop has failed.
    #[error(transparent)]
    Shop(#[from] Error),
    /// A mail was not sent.
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl Failure {
    /// Returns true if another run would fail in the same way.
    fn is_lasting(&self) -> bool {
        match self {
            Self::Shop(error) => !error.is_retryable(),
            Self::Mail(error) => error.is_permanent,
        }
    }
}

/// The end of a run.
enum End {
    Succeeded,
    Failed {
        error: String,
        lasting: bool,
    },
    /// This process cannot run the job, or not to its end.
    GivenBack {
        pause: Duration,
    },
}

/// Returns whether a job of one of these kinds waits for a worker.
pub(super) async fn is_due(cx: &Context, kinds: &[JobKind]) -> Result<bool> {
    cx.storage.connect().await?.jobs().is_due(kinds, cx.now()).await
}

/// Runs one job of these kinds that is due, and returns false if there is none. A job that fails is no error of this
/// function. If the shop stops meanwhile, or the call is dropped, another process runs the job again: after a stop at
/// once, after a drop when the lease has run out.
///
/// # Errors
/// `Unavailable` if the database cannot be reached.
pub(super) async fn run_one(cx: &Arc<Context>, kinds: &[JobKind], stopped: &watch::Receiver<bool>) -> Result<bool> {
    let Some(mut held) = claim(cx, kinds).await? else { return Ok(false) };
    let (id, kind) = (held.job.id, held.job.kind.as_str());
    tracing::info!(job = %id, kind, attempt = held.job.attempts, "a job has begun");
    let progress = Progress::default();
    let job = held.job.clone();
    let work = AssertUnwindSafe(perform(cx, &job, &progress)).catch_unwind();
    let mut stopped = stopped.clone();
    let end = tokio::select! {
        biased;
        done = work => match done {
            Ok(done) => ended(done),
            Err(panic) => panicked(&held.job, &*panic),
        },
        () = keep(cx, &mut held, &progress) => {
            tracing::warn!(job = %id, kind, "the lease of a job was lost, so that its run is abandoned");
            return Ok(true);
        }
        _ = stopped.wait_for(|s| *s) => End::GivenBack { pause: Duration::ZERO },
    };
    conclude(cx, &held, &end, &progress).await?;
    Ok(true)
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
    let parameters = &parameters;
    let job = cx
        .write(|mut tx| async move {
            let now = cx.now();
            // A job that was created by a commit of unknown outcome is not created again.
            let found = tx.jobs().get(id).await?;
            if let Some(job) = found {
                return Ok((job, tx));
            }
            let job = Job::new(id, kind, parameters.clone(), now, who.actor());
            let mut job = job.claimed(JobLease { holder, expires_at: now + ttl }, now);
            job.audit = Audit::created(now, who.actor());
            tx.jobs().insert(&job).await?;
            Ok((job, tx))
        })
        .await?;
    Ok(Held { job, holder, until: asked + ttl })
}

/// Runs the work of a job of [`begin_here`], renews its lease meanwhile, and records its end. `flaw` finds the reason
/// why work without an error counts as failed. If the lease runs out, the work goes on, because nobody else does it, and
/// takes the lease again once the database answers.
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
    if let Err(error) = conclude(cx, &held, &end, progress).await {
        let (job, kind) = (held.job.id, held.job.kind.as_str());
        tracing::warn!(%job, kind, error = %WithCauses(&error), "the result of a job could not be recorded");
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
    if is_due(cx, JobKind::OF_CREATOR).await? {
        claim(cx, JobKind::OF_CREATOR).await?;
    }
    Ok(())
}

/// Logs that a run has panicked, and returns its end.
fn panicked(job: &Job, panic: &(dyn std::any::Any + Send)) -> End {
    // The message of a panic may contain anything.
    tracing::error!(job = %job.id, kind = job.kind.as_str(), error = said(panic), "a run of a job has panicked");
    End::Failed { error: PANICKED.to_owned(), lasting: true }
}

/// Records the end of a run, for as long as the lease certainly lasts.
async fn conclude(cx: &Arc<Context>, held: &Held, end: &End, progress: &Progress) -> Result<()> {
    let Held { job: Job { id, kind, .. }, holder, until } = held;
    let (id, kind) = (*id, kind.as_str());
    let counters = progress.counters();
    let change = |job: &Job| {
        let now = cx.now();
        match end {
            End::Succeeded => job.succeeded(counters.clone(), now),
            End::Failed { error, lasting } => job.failed(error, *lasting, counters.clone(), now),
            End::GivenBack { pause } => job.released(now + *pause, now),
        }
    };
    let recorded = loop {
        match record(cx, id, *holder, change).await {
            Err(error) if error.is_retryable() && Instant::now() < *until => {
                tracing::debug!(job = %id, kind, %error, "the result of a job is not recorded yet");
                tokio::time::sleep(cx.config.lease_ttl / 12).await;
            }
            recorded => break recorded?,
        }
    };
    let Some(job) = recorded else {
        tracing::warn!(job = %id, kind, "a job was taken over by another worker before its result was recorded");
        return Ok(());
    };
    let (state, counters, error) = (job.state.as_str(), &job.counters, job.last_error.as_deref());
    tracing::info!(job = %id, kind, state, ?counters, error, "a job has ended");
    Ok(())
}

/// Takes a job that is due. A job whose workers have died too often is failed instead, and the next one is taken.
async fn claim(cx: &Arc<Context>, kinds: &[JobKind]) -> Result<Option<Held>> {
    let holder = cx.ids.next();
    let (asked, ttl) = (Instant::now(), cx.config.lease_ttl);
    let claimed = cx.write(|mut tx| async move {
        let now = cx.now();
        loop {
            let due = tx.jobs().lock_due(kinds, now).await?;
            let Some(before) = due else { return Ok((None, tx)) };
            if before.attempts >= before.kind.max_attempts() {
                let why = if JobKind::OF_CREATOR.contains(&before.kind) { ABANDONED } else { DIED };
                let after = before.failed(why, true, before.counters.clone(), now);
                tx.jobs().update(&before, &after).await?;
                continue;
            }
            let after = before.claimed(JobLease { holder, expires_at: now + ttl }, now);
            tx.jobs().update(&before, &after).await?;
            return Ok((Some(after), tx));
        }
    });
    Ok(claimed.await?.map(|job| Held { job, holder, until: asked + ttl }))
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

/// Runs the operation of a job. Returns false if this process cannot run it.
async fn perform(cx: &Arc<Context>, job: &Job, progress: &Progress) -> Result<bool, Failure> {
    let index = IndexSyncService::new(cx, Principal::system());
    match job.kind {
        JobKind::Mail => mail::send(cx, job, progress).await,
        JobKind::Reindex => Ok(index.rebuild_counted(progress).await?.writer),
        // The process that has created an import runs it.
        JobKind::Import => Ok(false),
        JobKind::Verify => {
            let repair = job.parameters.get("repair").and_then(Value::as_bool).unwrap_or(true);
            if !index.catch_up().await?.writer {
                return Ok(false);
            }
            let report = index.verify_counted(repair, progress).await?;
            Ok(!repair || report.is_clean() || report.repaired || report.refused > 0)
        }
    }
}

/// Returns the end of a run from the result of its operation.
fn ended(done: Result<bool, Failure>) -> End {
    match done {
        Ok(true) => End::Succeeded,
        Ok(false) => End::GivenBack { pause: GIVEN_BACK },
        Err(error) => {
            tracing::warn!(error = %WithCauses(&error), "a run of a job has failed");
            // The text of an error contains no SQL, path or secret; its causes may.
            End::Failed { error: error.to_string(), lasting: error.is_lasting() }
        }
    }
}
