//! Jobs: operations that take long, as rows of a queue. A worker takes a job under a lease, and the row shows its
//! state, its counters and its last error.
//!
//! The functions here make the next state of a job from the one before. They do no I/O; the service and the worker
//! write what they return.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit};
use crate::domain::platform::idempotency::RequestHash;
use crate::domain::words::words;
use crate::error::ValidationErrors;
use crate::id::{JobId, JobQueueId};

/// The kind of a job, such as `reindex`: the name of what it does. The jobs of a kind are a queue of their own.
///
/// Applications name the kinds of their jobs themselves ([`JobQueue`](crate::platform::JobQueue)). A name has 1 to 64
/// of `a`–`z`, `0`–`9`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobKind(Cow<'static, str>);

impl JobKind {
    /// Builds the search index anew and then replaces it.
    pub const REINDEX: Self = Self(Cow::Borrowed("reindex"));
    /// Compares the search index with the database. The parameter `repair` is whether differences are repaired.
    pub const VERIFY: Self = Self(Cow::Borrowed("verify"));
    /// Makes a mail to a user and sends it. The parameter `mail` is the kind of the mail, and `user` is the id of the
    /// user.
    pub const MAIL: Self = Self(Cow::Borrowed("mail"));
    /// Imports a file or the body of a request. The process that has the source runs it at once, so that no import is
    /// ever queued. The parameter `of` is the kind of the records, `source` the system that their ids belong to, `file`
    /// the name of the source, `feed` the name of the feed, and `dry_run` whether nothing is written.
    pub const IMPORT: Self = Self(Cow::Borrowed("import"));
    /// Computes the figures of sales of analytics anew from the orders.
    pub const ANALYTICS_REBUILD: Self = Self(Cow::Borrowed("analytics-rebuild"));
    /// Removes the files of uploaded images that nothing names any more. A schedule creates it once a day, if the shop
    /// has a [`media_retention`](crate::config::ShopConfig::media_retention).
    pub const MEDIA_CLEANUP: Self = Self(Cow::Borrowed("media-cleanup"));

    /// The kinds of the shop's own jobs, which applications cannot register or enqueue.
    pub const OF_SHOP: &'static [Self] =
        &[Self::REINDEX, Self::VERIFY, Self::MAIL, Self::IMPORT, Self::ANALYTICS_REBUILD, Self::MEDIA_CLEANUP];

    /// Returns the kind with a name. [`Self::check`] checks the name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Pushes an error if the name is malformed.
    pub fn check(&self, field: &str, errors: &mut ValidationErrors) {
        errors.check_name(field, &self.0);
    }
}

impl From<&'static str> for JobKind {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for JobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

words! {
    /// The place of a job in its queue. The due jobs of a higher priority begin first; those of one priority begin in
    /// the order in which they became due. Queues do not wait for each other, except `reindex` and `verify`, which
    /// share a worker.
    JobPriority {
        /// The job begins after all others.
        Low = "low",
        /// The priority of a job that sets none.
        Normal = "normal",
        /// The job begins before all others.
        High = "high",
    }
}

words! {
    /// The state of a job.
    JobState {
        /// The job waits for a worker: for its first run, or for another one after a failure.
        Queued = "queued",
        /// A worker runs the job. If its lease runs out, another worker takes the job over.
        Running = "running",
        /// The job has ended.
        Succeeded = "succeeded",
        /// The job has failed and does not run again by itself. An operator can run it again.
        Failed = "failed",
        /// An operator has canceled the job. An operator can run it again.
        Canceled = "canceled",
    }
}

/// The counters of a job by name, such as `written`.
pub type JobCounters = BTreeMap<String, u64>;

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The id.
    pub id: JobId,
    /// The operation.
    pub kind: JobKind,
    /// The parameters of the operation: a JSON object of at most [`Self::MAX_PARAMETERS`] bytes.
    pub parameters: Map<String, Value>,
    /// A key that no other job of the kind has while both wait for their first run; `None` if the job is not unique.
    pub unique_key: Option<String>,
    /// The place in the queue.
    pub priority: JobPriority,
    /// The state.
    pub state: JobState,
    /// What the current run, or else the last one, has counted so far.
    pub counters: JobCounters,
    /// How often a worker has taken the job since it was enqueued, or since an operator has run it again.
    pub attempts: u32,
    /// Why the last run failed; `None` if no run has failed, or if the job has succeeded since.
    pub last_error: Option<String>,
    /// The lease of the worker that runs the job; `None` unless it is running.
    pub lease: Option<JobLease>,
    /// The earliest time of the next run.
    pub run_after: Timestamp,
    /// When the current run, or else the last one, has begun; `None` before the first run.
    pub started_at: Option<Timestamp>,
    /// When the job has ended; `None` unless it has succeeded or failed, or was canceled.
    pub finished_at: Option<Timestamp>,
    /// When and by whom the job was enqueued and last changed, and its version. The version increases with every change
    /// of the row, also with those of a worker.
    pub audit: Audit,
}

/// The right of one worker to run a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLease {
    /// The holder: an id that a worker makes for each run, so that a run which has lost the job is not taken for the
    /// next one.
    pub holder: Uuid,
    /// When another worker can take the job.
    pub expires_at: Timestamp,
}

/// A record that an import has refused, as the job of the import keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRejection {
    /// The job of the import.
    pub job_id: JobId,
    /// The index of the record in the source, from 0.
    pub index: u64,
    /// The line that the record starts on, from 1.
    pub line: u64,
    /// The dead letter: a JSON object with the reason and the record, which an import reads again.
    pub letter: String,
}

/// The filter of a list of jobs. A job must match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// The jobs of this kind.
    pub kind: Option<JobKind>,
    /// The jobs in this state.
    pub state: Option<JobState>,
}

/// How often a job runs that keeps failing, and the pauses between its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// How many runs of a job can fail before it stays failed.
    pub max_attempts: u32,
    /// The pause after the first run. Each pause that follows is four times as long.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

impl RetryPolicy {
    /// The policy of a queue that sets none.
    pub const DEFAULT: Self = Self {
        max_attempts: Job::MAX_ATTEMPTS,
        first_pause: Duration::from_secs(5),
        max_pause: Duration::from_secs(3_600),
    };

    /// Returns the pause after a number of failed runs, or `None` if the job has failed too often.
    pub fn pause(&self, attempts: u32) -> Option<Duration> {
        let factor = 4_u32.saturating_pow(attempts.saturating_sub(1));
        (attempts < self.max_attempts).then(|| self.first_pause.saturating_mul(factor).min(self.max_pause))
    }
}

/// The state of a queue: the jobs of a kind. A queue without a state is not paused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobQueueState {
    /// The id, which [`Self::id_of`] derives from the kind.
    pub id: JobQueueId,
    /// The kind of the jobs.
    pub kind: JobKind,
    /// Whether no job of the queue begins. Jobs that run go on.
    pub paused: bool,
    /// When and by whom the queue was first paused and last paused or resumed, and its version.
    pub audit: Audit,
}

impl JobQueueState {
    /// Returns the id of the queue of a kind.
    pub fn id_of(kind: &JobKind) -> JobQueueId {
        JobQueueId(named("job queue", kind.as_str()))
    }

    /// Returns the state of a queue that somebody pauses or resumes for the first time.
    pub fn new(kind: JobKind, paused: bool, now: Timestamp, by: &Actor) -> Self {
        Self { id: Self::id_of(&kind), kind, paused, audit: Audit::created(now, by) }
    }

    /// Returns the queue as it is paused or resumed.
    pub(crate) fn set(&self, paused: bool, now: Timestamp, by: &Actor) -> Self {
        let mut after = Self { paused, ..self.clone() };
        after.audit.edited(now, by);
        after
    }
}

/// Returns an id that is derived from a name.
pub(super) fn named(entity: &str, name: &str) -> Uuid {
    RequestHash::of([entity.as_bytes(), name.as_bytes()]).to_id()
}

impl Job {
    /// How many runs of a job can fail before it stays failed, unless its queue sets another number.
    pub const MAX_ATTEMPTS: u32 = 5;
    /// The maximum size of the parameters as JSON, in bytes: 64 KiB.
    pub const MAX_PARAMETERS: usize = 64 << 10;
    /// The maximum length of the unique key, in characters.
    pub const MAX_UNIQUE_KEY: usize = 200;
    /// How long a job is kept after it has ended, unless its queue sets another time: 30 days.
    pub const KEPT: Duration = Duration::from_secs(30 * 86_400);
    /// The maximum length of the last error, in characters.
    pub const MAX_ERROR: usize = 1_000;
    /// The maximum size of all rejections that the job of an import keeps, in bytes: 16 MiB. The job only counts
    /// the rejections beyond it.
    pub const MAX_REJECTIONS: usize = 16 << 20;

    /// Returns a new job of normal priority, which is not unique and due at once.
    pub fn new(id: JobId, kind: JobKind, parameters: Map<String, Value>, now: Timestamp, by: &Actor) -> Self {
        Self {
            id,
            kind,
            parameters,
            unique_key: None,
            priority: JobPriority::Normal,
            state: JobState::Queued,
            counters: JobCounters::new(),
            attempts: 0,
            last_error: None,
            lease: None,
            run_after: now,
            started_at: None,
            finished_at: None,
            audit: Audit::created(now, by),
        }
    }

    /// Returns when a worker can take the job: a queued one after its pause, a running one after its lease. Returns
    /// `None` for a job that has ended.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            JobState::Queued => Some(self.run_after),
            JobState::Running => Some(self.lease.map_or(self.run_after, |lease| lease.expires_at)),
            JobState::Succeeded | JobState::Failed | JobState::Canceled => None,
        }
    }

    /// Returns true if the job waits for its first run. No two waiting jobs of a kind have the same unique key.
    pub fn is_waiting(&self) -> bool {
        self.state == JobState::Queued && self.started_at.is_none()
    }

    /// Returns true if this holder runs the job.
    pub fn is_held_by(&self, holder: Uuid) -> bool {
        self.state == JobState::Running && self.lease.is_some_and(|lease| lease.holder == holder)
    }

    /// Returns the job in another state. A worker has made the change.
    fn then(&self, state: JobState, now: Timestamp) -> Self {
        let mut after = Self { state, lease: None, finished_at: None, ..self.clone() };
        after.audit.edited(now, &Actor::system());
        after
    }

    /// Returns the job as a worker takes it.
    pub(crate) fn claimed(&self, lease: JobLease, now: Timestamp) -> Self {
        let mut after = self.then(JobState::Running, now);
        after.lease = Some(lease);
        after.attempts += 1;
        after.counters = JobCounters::new();
        after.started_at = Some(now);
        after
    }

    /// Returns the job with another lease, and with what its worker has counted.
    pub(crate) fn renewed(&self, lease: JobLease, counters: JobCounters, now: Timestamp) -> Self {
        Self { lease: Some(lease), counters, ..self.then(JobState::Running, now) }
    }

    /// Returns the job as a worker gives it back that cannot run it, or cannot finish it. The run does not count.
    pub(crate) fn released(&self, run_after: Timestamp, now: Timestamp) -> Self {
        let attempts = self.attempts.saturating_sub(1);
        Self { run_after, attempts, counters: JobCounters::new(), ..self.then(JobState::Queued, now) }
    }

    /// Returns the job after its operation has succeeded.
    pub(crate) fn succeeded(&self, counters: JobCounters, now: Timestamp) -> Self {
        Self { counters, last_error: None, finished_at: Some(now), ..self.then(JobState::Succeeded, now) }
    }

    /// Returns the job after a run has failed. It runs again after `pause`, or stays failed if that is `None`.
    pub(crate) fn failed(&self, error: &str, pause: Option<Duration>, counters: JobCounters, now: Timestamp) -> Self {
        // Some databases cannot store NUL characters.
        let last_error = Some(error.chars().filter(|c| *c != '\0').take(Self::MAX_ERROR).collect());
        match pause {
            None => Self { counters, last_error, finished_at: Some(now), ..self.then(JobState::Failed, now) },
            Some(pause) => Self { counters, last_error, run_after: now + pause, ..self.then(JobState::Queued, now) },
        }
    }

    /// Returns the job as an operator cancels it.
    pub(crate) fn canceled(&self, now: Timestamp, by: &Actor) -> Self {
        let mut after = Self { finished_at: Some(now), ..self.then(JobState::Canceled, now) };
        after.audit.updated_by = by.clone();
        after
    }

    /// Returns a failed or canceled job as an operator runs it again. It keeps its last error until it has succeeded.
    pub(crate) fn retried(&self, now: Timestamp, by: &Actor) -> Self {
        let mut after = Self { attempts: 0, run_after: now, ..self.then(JobState::Queued, now) };
        after.audit.updated_by = by.clone();
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_700_000_000 + second, 0).unwrap()
    }

    fn lease(holder: u128, until: i64) -> JobLease {
        JobLease { holder: Uuid::from_u128(holder), expires_at: at(until) }
    }

    fn job() -> Job {
        Job::new(JobId(Uuid::from_u128(1)), JobKind::REINDEX, Map::new(), at(0), &Actor::new("user:1"))
    }

    #[test]
    fn a_job_is_due_after_its_pause_or_after_its_lease() {
        let queued = job();
        assert!(queued.is_waiting());
        assert_eq!(queued.due_at(), Some(at(0)));
        let running = queued.claimed(lease(7, 30), at(1));
        assert!(!running.is_waiting() && running.is_held_by(Uuid::from_u128(7)));
        assert!(!running.is_held_by(Uuid::from_u128(8)));
        assert_eq!((running.due_at(), running.started_at, running.attempts), (Some(at(30)), Some(at(1)), 1));
        let renewed = running.renewed(lease(7, 60), JobCounters::from([("written".to_owned(), 3)]), at(2));
        assert_eq!((renewed.due_at(), renewed.started_at, renewed.attempts), (Some(at(60)), Some(at(1)), 1));
        let done = renewed.succeeded(renewed.counters.clone(), at(3));
        assert_eq!((done.due_at(), done.lease, done.finished_at), (None, None, Some(at(3))));
        assert_eq!((done.counters["written"], done.audit.version), (3, 4));
        assert!(!done.is_held_by(Uuid::from_u128(7)));
    }

    #[test]
    fn pauses_grow_until_the_job_stays_failed() {
        let mut job = job();
        let mut pauses = Vec::new();
        loop {
            let running = job.claimed(lease(7, 30), at(0));
            let pause = RetryPolicy::DEFAULT.pause(running.attempts);
            job = running.failed("down", pause, JobCounters::new(), at(0));
            if job.state == JobState::Failed {
                break;
            }
            assert!(!job.is_waiting(), "a job that has run is not coalesced with a new one");
            pauses.push((job.run_after - at(0)).num_seconds());
        }
        assert_eq!(pauses, [5, 20, 80, 320]);
        assert_eq!((job.attempts, job.due_at(), job.finished_at), (Job::MAX_ATTEMPTS, None, Some(at(0))));
        let again = job.retried(at(9), &Actor::new("user:2"));
        assert_eq!((again.state, again.attempts, again.due_at()), (JobState::Queued, 0, Some(at(9))));
        assert_eq!((again.last_error.as_deref(), again.audit.updated_by.as_str()), (Some("down"), "user:2"));
    }

    #[test]
    fn a_job_without_another_run_stays_failed_and_a_long_error_is_cut() {
        let running = job().claimed(lease(7, 30), at(0));
        let failed = running.failed(&"ä\0".repeat(5_000), None, JobCounters::new(), at(1));
        assert_eq!((failed.state, failed.attempts), (JobState::Failed, 1));
        assert_eq!(failed.last_error.unwrap().chars().count(), Job::MAX_ERROR);
    }

    #[test]
    fn pauses_end_at_the_longest_one() {
        let policy = RetryPolicy { max_attempts: 40, max_pause: Duration::from_secs(60), ..RetryPolicy::DEFAULT };
        let pauses = [1, 2, 3, 39].map(|attempts| policy.pause(attempts).unwrap().as_secs());
        assert_eq!((pauses, policy.pause(40)), ([5, 20, 60, 60], None));
    }

    #[test]
    fn a_canceled_job_has_no_lease_and_can_run_again() {
        let canceled = job().claimed(lease(7, 30), at(0)).canceled(at(1), &Actor::new("user:2"));
        assert_eq!((canceled.state, canceled.lease, canceled.due_at()), (JobState::Canceled, None, None));
        assert_eq!((canceled.finished_at, canceled.audit.updated_by.as_str()), (Some(at(1)), "user:2"));
        assert!(!canceled.is_held_by(Uuid::from_u128(7)));
        assert_eq!(canceled.retried(at(2), &Actor::system()).due_at(), Some(at(2)));
    }

    #[test]
    fn a_kind_is_a_plain_name() {
        let is_good = |name: &'static str| {
            let mut errors = ValidationErrors::default();
            JobKind::new(name).check("kind", &mut errors);
            errors.0.is_empty()
        };
        assert!(is_good("crm-sync_2"));
        for bad in
            ["", "CRM", "a b", "größe", "a/b", "x23456789012345678901234567890123456789012345678901234567890abcdef"]
        {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn a_job_that_is_given_back_has_not_run() {
        let back = job().claimed(lease(7, 30), at(0)).released(at(4), at(1));
        assert_eq!((back.state, back.attempts, back.lease, back.due_at()), (JobState::Queued, 0, None, Some(at(4))));
    }
}
