//! The queues of jobs: what runs the jobs of each kind, how often, for how long, and on which schedule.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use derive_setters::Setters;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::domain::common::Attributes;
use crate::domain::platform::job::{Job, JobKind, JobPriority, RetryPolicy};
use crate::domain::platform::schedule::CronLine;
use crate::error::{BoxError, Error, FieldCode, Result, ValidationErrors};
use crate::service::background::worker::Progress;
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;
use crate::shop::Shop;

/// Runs the jobs of a queue. A job runs at least once: if a process dies during a run, or right after it, another run
/// follows. A [`TransactionalJobHandler`] makes its effects in the database exactly once.
///
/// Several jobs run at once, in the tasks of the runtime, so that a handler must not block its thread. A run ends at an
/// await if its time limit has passed, if the job is canceled, or if the process stops. A handler that panics fails,
/// and its job stays failed, because a defect does not go away by itself.
///
/// A shutdown does not wait for the end of a run: it stops the run at once, and the job runs again later, from the
/// beginning, in another process or after the next start. Such a run does not count as an attempt.
///
/// ```
/// use ecom_core::platform::{JobError, JobHandler, JobQueue, JobRun};
///
/// #[derive(Debug)]
/// struct CountProducts;
///
/// #[async_trait::async_trait]
/// impl JobHandler for CountProducts {
///     async fn run(&self, run: &JobRun) -> Result<(), JobError> {
///         let query = ecom_core::catalog::ProductListQuery::default();
///         let page = run.shop().products().list(&query).await?;
///         run.count("products", page.page.items.len() as u64);
///         Ok(())
///     }
/// }
///
/// let queue = JobQueue::new("count-products", CountProducts).max_attempts(3).cron("nightly-count", "30 3 * * *");
/// ```
#[async_trait]
pub trait JobHandler: Send + Sync + fmt::Debug + 'static {
    /// Runs a job.
    ///
    /// # Errors
    /// A [`JobError`] if the job has failed. Errors of the shop become one with `?`.
    async fn run(&self, run: &JobRun) -> Result<(), JobError>;
}

/// Runs the jobs of a queue in a transaction, which also records that the job has succeeded. So all effects of a job in
/// the database happen exactly once, and none happens if the job fails, is canceled, or loses its process.
///
/// The transaction holds what it has locked until the end of the run, and on SQLite nobody else can write meanwhile. So
/// a run should be short; its time limit is at most [`JobQueue::MAX_TRANSACTION`]. If the process dies, another one
/// runs the job after that limit, or after [`ShopConfig::lease_ttl`](crate::config::ShopConfig::lease_ttl) if that is
/// longer.
///
/// On SQLite, each process runs one job of the queue at a time, whatever [`JobQueue::at_once`] says, and the time limit
/// of a run is at most half of `lease_ttl`, because other jobs cannot renew their leases meanwhile. The time for which
/// a run waits for other writers is part of it.
#[async_trait]
pub trait TransactionalJobHandler: Send + Sync + fmt::Debug + 'static {
    /// Runs a job by the `…_in` methods of the shop, or by statements of the application. If another transaction was in
    /// the way, all of it is rolled back and the call is repeated.
    ///
    /// # Errors
    /// A [`JobError`] if the job has failed. The transaction is then rolled back.
    async fn run(&self, tx: &mut Tx<'_>, run: &JobRun) -> Result<(), JobError>;
}

/// A run of a job.
#[derive(Debug)]
pub struct JobRun {
    pub(crate) cx: Arc<Context>,
    pub(crate) job: Job,
    pub(crate) progress: Arc<Progress>,
}

impl JobRun {
    /// Returns the job, with its parameters and the number of its attempts.
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// Returns the shop.
    pub fn shop(&self) -> Shop {
        Shop { cx: self.cx.clone() }
    }

    /// Adds to a counter of the job, which operators see. A failed run shows what it has counted, too.
    pub fn count(&self, name: &'static str, n: u64) {
        self.progress.add(name, n);
    }
}

/// The error of a job.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// The message, which operators see: without secrets, and without personal data.
    pub message: String,
    /// Whether the job runs again.
    pub next: AfterFailure,
    /// The cause, which is logged and not shown.
    #[source]
    pub source: Option<BoxError>,
}

/// Whether and when a job runs again after a run has returned an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterFailure {
    /// The job runs again after a pause, unless it has failed too often.
    Retry,
    /// The job stays failed, because another run would fail in the same way.
    Park,
    /// The job runs again after this pause. The run does not count as an attempt. A pause of less than 10 ms counts as
    /// 10 ms, and one of more than 365 days as 365 days.
    Postpone(Duration),
}

impl JobError {
    /// The shortest pause of a job that was postponed.
    pub(crate) const MIN_PAUSE: Duration = Duration::from_millis(10);

    /// Returns the error of a job that runs again after a pause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), next: AfterFailure::Retry, source: None }
    }

    /// Returns the error of a job that stays failed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self { next: AfterFailure::Park, ..Self::new(message) }
    }

    /// Returns the error of a job that could not do its work yet, and runs again after this pause. One of less than
    /// 10 ms counts as 10 ms, and one of more than 365 days as 365 days.
    pub fn postpone(pause: Duration) -> Self {
        Self { next: AfterFailure::Postpone(pause), ..Self::new("the job was postponed") }
    }

    /// Sets the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// An error of the shop. Another run follows if the error [can pass](Error::is_retryable).
impl From<Error> for JobError {
    fn from(error: Error) -> Self {
        // The text of an error contains no SQL, path or secret; its causes may.
        let next = if error.is_retryable() { AfterFailure::Retry } else { AfterFailure::Park };
        Self { message: error.to_string(), next, source: Some(error.into()) }
    }
}

/// How a queue runs its jobs.
#[derive(Debug, Clone)]
pub(crate) enum Handler {
    Plain(Arc<dyn JobHandler>),
    Transactional(Arc<dyn TransactionalJobHandler>),
    /// The process that has created a job runs it at once.
    Creator,
}

/// Which task of the background work runs the jobs of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// The worker of each process.
    Worker,
    /// The task that may write to the search index.
    Index,
    /// No task: the process that creates a job runs it.
    Creator,
}

/// A schedule that creates jobs.
#[derive(Debug, Clone)]
pub(crate) struct JobSchedule {
    pub name: Arc<str>,
    /// The line, or its text and why it cannot be read.
    pub cron: Result<CronLine, (String, String)>,
    pub parameters: Map<String, Value>,
}

/// A queue: a kind of jobs with their handler and settings. `ShopBuilder::job_queue` registers it, in every process of
/// the shop. Every process with background work ([`Shop::start`]) runs its jobs.
#[derive(Debug, Clone)]
pub struct JobQueue {
    kind: JobKind,
    pub(crate) handler: Handler,
    pub(crate) runner: Runner,
    pub(crate) retry: RetryPolicy,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) at_once: u32,
    pub(crate) kept: Duration,
    pub(crate) schedules: Vec<JobSchedule>,
}

impl JobQueue {
    /// The time limit of a run if the queue sets none: 10 minutes.
    pub const TIME_LIMIT: Duration = Duration::from_secs(600);
    /// The longest time limit of a queue with a transactional handler, and the one that it has if it sets none:
    /// 10 seconds.
    pub const MAX_TRANSACTION: Duration = Duration::from_secs(10);

    /// Returns a queue whose jobs run at least once. The kind has 1 to 64 of `a`–`z`, `0`–`9`, `-` and `_`, and is none
    /// of [`JobKind::OF_SHOP`].
    pub fn new(kind: impl Into<JobKind>, handler: impl JobHandler) -> Self {
        Self::with(kind.into(), Handler::Plain(Arc::new(handler)), Self::TIME_LIMIT)
    }

    /// Returns a queue whose jobs make their effects in the database exactly once; see [`TransactionalJobHandler`].
    pub fn transactional(kind: impl Into<JobKind>, handler: impl TransactionalJobHandler) -> Self {
        Self::with(kind.into(), Handler::Transactional(Arc::new(handler)), Self::MAX_TRANSACTION)
    }

    fn with(kind: JobKind, handler: Handler, time_limit: Duration) -> Self {
        Self {
            kind,
            handler,
            runner: Runner::Worker,
            retry: RetryPolicy::DEFAULT,
            time_limit: Some(time_limit),
            at_once: 8,
            kept: Job::KEPT,
            schedules: Vec::new(),
        }
    }

    /// Returns a queue of the shop's own jobs, whose runs have no time limit.
    pub(crate) fn of_shop(kind: JobKind, handler: Handler, runner: Runner) -> Self {
        Self { runner, time_limit: None, at_once: 1, ..Self::with(kind, handler, Self::TIME_LIMIT) }
    }

    /// Sets how many runs of a job can fail before it stays failed: 1 to 100. Default 5.
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.retry.max_attempts = attempts;
        self
    }

    /// Sets the pause after the first failed run and the longest pause, from 10 ms to 30 days. Each pause is four times
    /// as long as the one before. A random part of up to half of each pause is left out, so that jobs that failed
    /// together do not run together again. Default 5 s and 1 hour.
    pub const fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.retry.first_pause = first;
        self.retry.max_pause = longest;
        self
    }

    /// Sets the time limit of a run, from 10 ms to 24 hours. Default [`Self::TIME_LIMIT`]. A run that takes longer is
    /// dropped at an await, and has failed. With a transactional handler, the limit is at most
    /// [`Self::MAX_TRANSACTION`], and on SQLite a longer one than half of
    /// [`ShopConfig::lease_ttl`](crate::config::ShopConfig::lease_ttl) counts as that half.
    pub const fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Sets how many jobs of the queue each process runs at once: 1 to 1,000. Default 8. On SQLite, a queue with a
    /// transactional handler runs one job at a time, because only one transaction can write.
    pub const fn at_once(mut self, jobs: u32) -> Self {
        self.at_once = jobs;
        self
    }

    /// Sets how long jobs are kept after their end, up to [`Job::KEPT`], which is the default.
    pub const fn kept(mut self, time: Duration) -> Self {
        self.kept = time;
        self
    }

    /// Adds a schedule, which creates a job without parameters at the times of a cron line; see [`Self::cron_with`].
    pub fn cron(self, name: &str, line: &str) -> Self {
        self.cron_with(name, line, Map::new())
    }

    /// Adds a schedule, which creates a job with these parameters at the times of a cron line of five fields (minute,
    /// hour, day of the month, month, day of the week), **in UTC**. The name has the form of a kind. It identifies the
    /// schedule in all processes of the shop, which together create one job for each time. If no process runs at the
    /// time, the next one creates the job when it starts: one job, however many times it has missed.
    pub fn cron_with(mut self, name: &str, line: &str, parameters: Map<String, Value>) -> Self {
        let cron = CronLine::parse(line).map_err(|error| (line.chars().take(CronLine::MAX).collect(), error));
        self.schedules.push(JobSchedule { name: name.into(), cron, parameters });
        self
    }

    /// Returns the kind of the jobs.
    pub const fn kind(&self) -> &JobKind {
        &self.kind
    }

    /// Returns how long the first lease of a job lasts. A transactional run does not renew it, so it covers the time
    /// limit.
    pub(crate) fn lease(&self, ttl: Duration) -> Duration {
        match self.handler {
            Handler::Transactional(_) => ttl.max(self.time_limit.unwrap_or_default()),
            _ => ttl,
        }
    }

    /// Returns how many jobs of the queue a process runs at once. If the storage has one writer, the transactions of
    /// several runs would only wait for each other.
    pub(crate) const fn most_at_once(&self, has_one_writer: bool) -> u32 {
        match self.handler {
            Handler::Transactional(_) if has_one_writer => 1,
            _ => self.at_once,
        }
    }

    /// Returns the time limit of a run. If the storage has one writer, a transactional run keeps all other jobs from
    /// renewing their leases, which last for `ttl`.
    pub(crate) fn limit(&self, ttl: Duration, has_one_writer: bool) -> Duration {
        let limit = self.time_limit.unwrap_or(Duration::MAX);
        match self.handler {
            Handler::Transactional(_) if has_one_writer => limit.min(ttl / 2),
            _ => limit,
        }
    }

    /// Checks the settings of all queues of a shop.
    ///
    /// # Errors
    /// `Validation` on fields `job_queues…` if a name is malformed or used twice, if a setting is out of bounds, or if
    /// a cron line cannot be read.
    pub fn check_all(queues: &[Self]) -> Result<()> {
        let mut errors = ValidationErrors::default();
        let mut names: Vec<&str> = Vec::new();
        for (n, queue) in queues.iter().enumerate() {
            queue.kind.check(&format!("job_queues[{n}].kind"), &mut errors);
            let field = |name: &str| format!("job_queues.{}.{name}", queue.kind);
            let is_taken = queues.iter().take(n).any(|other| other.kind == queue.kind);
            if is_taken || JobKind::OF_SHOP.contains(&queue.kind) {
                errors.push(field("kind"), FieldCode::Inconsistent, "must not be the kind of another queue");
            }
            let RetryPolicy { max_attempts, first_pause, max_pause } = queue.retry;
            if !(1..=100).contains(&max_attempts) {
                errors.out_of_bounds(field("max_attempts"), "must be between 1 and 100");
            }
            let bounds = Duration::from_millis(10)..=Duration::from_secs(30 * 86_400);
            if !bounds.contains(&first_pause) || !bounds.contains(&max_pause) || first_pause > max_pause {
                errors.out_of_bounds(field("pauses"), "must be between 10 ms and 30 days, the shorter one first");
            }
            let limit = queue.time_limit.unwrap_or(Self::TIME_LIMIT);
            let (longest, bounds) = match queue.handler {
                Handler::Transactional(_) => (Self::MAX_TRANSACTION, "must be between 10 ms and 10 s"),
                _ => (Duration::from_secs(86_400), "must be between 10 ms and 24 hours"),
            };
            if !(Duration::from_millis(10)..=longest).contains(&limit) {
                errors.out_of_bounds(field("time_limit"), bounds);
            }
            if !(1..=1_000).contains(&queue.at_once) {
                errors.out_of_bounds(field("at_once"), "must be between 1 and 1000");
            }
            if queue.kept > Job::KEPT {
                errors.out_of_bounds(field("kept"), "must be at most 30 days");
            }
            for schedule in &queue.schedules {
                let field = |name: &str| format!("job_queues.{}.cron.{}{name}", queue.kind, schedule.name);
                JobKind::new(schedule.name.to_string()).check(&field(".name"), &mut errors);
                if names.contains(&&*schedule.name) {
                    errors.push(field(".name"), FieldCode::Inconsistent, "must not be the name of another schedule");
                }
                names.push(&schedule.name);
                if let Err((line, error)) = &schedule.cron {
                    errors.push(field(""), FieldCode::Malformed, format!("`{line}` {error}"));
                }
                check_parameters(&field(".parameters"), &schedule.parameters, &mut errors);
            }
        }
        errors.into_result()
    }
}

/// All queues of a shop: its own ones, and those of the application.
#[derive(Debug)]
pub(crate) struct Queues(Vec<JobQueue>);

impl Queues {
    pub fn new(own: Vec<JobQueue>, registered: Vec<JobQueue>) -> Self {
        Self(own.into_iter().chain(registered).collect())
    }

    pub fn all(&self) -> &[JobQueue] {
        &self.0
    }

    pub fn get(&self, kind: &JobKind) -> Option<&JobQueue> {
        self.0.iter().find(|queue| queue.kind == *kind)
    }

    /// Returns the queues whose jobs a task runs.
    pub fn of(&self, runner: Runner) -> impl Iterator<Item = &JobQueue> {
        self.0.iter().filter(move |queue| queue.runner == runner)
    }
}

/// A job to enqueue.
///
/// ```
/// use std::time::Duration;
///
/// use ecom_core::platform::{JobPriority, NewJob};
/// use serde_json::json;
///
/// let job = NewJob::new("crm-sync")
///     .parameter("customer", json!("4711"))
///     .unique_key("4711")
///     .priority(JobPriority::Low)
///     .delay(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone, PartialEq, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct NewJob {
    /// The kind, whose queue the application has registered.
    #[setters(skip)]
    pub kind: JobKind,
    /// The parameters: a JSON object of at most 64 KiB, nested at most 30 levels deep.
    pub parameters: Map<String, Value>,
    /// The unique key, 1–200 characters, without white space at its ends. If a job of the kind with this key is queued
    /// already, [`JobService::enqueue`](crate::platform::JobService::enqueue) returns that job instead of creating one.
    #[setters(into)]
    pub unique_key: Option<String>,
    /// The place in the queue.
    pub priority: JobPriority,
    /// The earliest time of the first run.
    pub run_at: Option<Timestamp>,
    /// The time from the call to the earliest first run, unless there is a `run_at`: at most 365 days.
    pub delay: Duration,
}

impl NewJob {
    /// The longest delay: 365 days.
    pub const MAX_DELAY: Duration = Duration::from_secs(365 * 86_400);

    /// Returns a job without parameters, of normal priority, which is not unique and due at once.
    pub fn new(kind: impl Into<JobKind>) -> Self {
        Self {
            kind: kind.into(),
            parameters: Map::new(),
            unique_key: None,
            priority: JobPriority::Normal,
            run_at: None,
            delay: Duration::ZERO,
        }
    }

    /// Sets one of the parameters.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Checks the job.
    pub(crate) fn check(&self, queues: &Queues, now: Timestamp) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if queues.get(&self.kind).is_none() || JobKind::OF_SHOP.contains(&self.kind) {
            let message = "must be a kind that the application has registered with `ShopBuilder::job_queue`";
            errors.push("kind", FieldCode::Unknown, message);
        }
        check_parameters("parameters", &self.parameters, &mut errors);
        if let Some(key) = &self.unique_key {
            crate::text::check_text("unique_key", key, 1, Job::MAX_UNIQUE_KEY, &mut errors);
            if key.trim() != key {
                errors.push("unique_key", FieldCode::Malformed, "must not begin or end with white space");
            }
        }
        if self.run_at.is_some_and(|at| at > now + Self::MAX_DELAY) {
            errors.out_of_bounds("run_at", "must be at most 365 days ahead");
        }
        if self.delay > Self::MAX_DELAY {
            errors.out_of_bounds("delay", "must be at most 365 days");
        }
        errors.into_result()
    }
}

/// Pushes an error if the parameters of a job are too large, or if a database could not store them.
fn check_parameters(field: &str, parameters: &Map<String, Value>, errors: &mut ValidationErrors) {
    Attributes::check_map(parameters, Job::MAX_PARAMETERS, field, errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nothing;

    #[async_trait]
    impl JobHandler for Nothing {
        async fn run(&self, _: &JobRun) -> Result<(), JobError> {
            Ok(())
        }
    }

    #[async_trait]
    impl TransactionalJobHandler for Nothing {
        async fn run(&self, _: &mut Tx<'_>, _: &JobRun) -> Result<(), JobError> {
            Ok(())
        }
    }

    #[test]
    fn a_database_with_one_writer_runs_one_short_transaction_at_a_time() {
        let (ttl, plain) = (Duration::from_secs(5), JobQueue::new("plain", Nothing));
        let transactional = JobQueue::transactional("transactional", Nothing);
        for one_writer in [false, true] {
            assert_eq!((plain.most_at_once(one_writer), plain.limit(ttl, one_writer)), (8, JobQueue::TIME_LIMIT));
        }
        let of = |queue: &JobQueue, one_writer| (queue.most_at_once(one_writer), queue.limit(ttl, one_writer));
        assert_eq!(of(&transactional, false), (8, JobQueue::MAX_TRANSACTION));
        assert_eq!(of(&transactional, true), (1, ttl / 2));
        let short = transactional.time_limit(Duration::from_secs(1));
        assert_eq!(of(&short, true), (1, Duration::from_secs(1)));
    }
}
