//! Jobs: operations that take long, as rows of a queue. A worker takes a job under a lease, and the row shows its
//! state, its counters and its last error.
//!
//! The functions here make the next state of a job from the one before. They do no I/O; the service and the worker
//! write what they return.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit};
use crate::domain::words::words;
use crate::id::JobId;

words! {
    /// The operation that a job runs.
    JobKind {
        /// Builds the search index anew and then replaces it.
        Reindex = "reindex",
        /// Compares the search index with the database. The parameter `repair` is whether differences are repaired.
        Verify = "verify",
        /// Makes a mail to a user and sends it. The parameter `mail` is the kind of the mail, and `user` is the id of
        /// the user.
        Mail = "mail",
        /// Imports a file or the body of a request. The process that has the source runs it at once, so that no import
        /// is ever queued. The parameter `of` is the kind of the records, `source` the system that their ids belong
        /// to, `file` the name of the source, `feed` the name of the feed, and `dry_run` whether nothing is written.
        Import = "import",
    }
}

impl JobKind {
    /// The kinds that only a process that may write to the search index runs.
    pub(crate) const OF_INDEX: &'static [Self] = &[Self::Reindex, Self::Verify];
    /// The kinds that only a process with a mailer runs.
    pub(crate) const OF_MAIL: &'static [Self] = &[Self::Mail];
    /// The kinds that only the process that has created them can run.
    pub(crate) const OF_CREATOR: &'static [Self] = &[Self::Import];

    /// Returns how many runs of a job can fail before it stays failed. Mails are tried for some six hours, because a
    /// mail server can be down for longer than an index.
    pub const fn max_attempts(self) -> u32 {
        match self {
            Self::Reindex | Self::Verify => Job::MAX_ATTEMPTS,
            Self::Mail => 12,
            // Nobody else has the source.
            Self::Import => 1,
        }
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
    /// The parameters of the operation.
    pub parameters: Map<String, Value>,
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
    /// When the job has ended; `None` unless it has succeeded or failed.
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// The jobs of this kind.
    pub kind: Option<JobKind>,
    /// The jobs in this state.
    pub state: Option<JobState>,
}

/// The pause before the second run of a job, in seconds. Each pause that follows is four times as long, up to
/// [`MAX_PAUSE`].
const FIRST_PAUSE: i64 = 5;
/// The longest pause, in seconds.
const MAX_PAUSE: i64 = 3_600;

impl Job {
    /// How many runs of a job can fail before it stays failed, unless [`JobKind::max_attempts`] of its kind differs.
    pub const MAX_ATTEMPTS: u32 = 5;
    /// How long a job is kept after it has ended: 30 days.
    pub const KEPT: Duration = Duration::from_secs(30 * 86_400);
    /// The maximum length of the last error, in characters.
    pub const MAX_ERROR: usize = 1_000;
    /// The maximum size of all rejections that the job of an import keeps, in bytes: 16 MiB. The job only counts
    /// the rejections beyond it.
    pub const MAX_REJECTIONS: usize = 16 << 20;

    /// Returns a new job, which is due at once.
    pub fn new(id: JobId, kind: JobKind, parameters: Map<String, Value>, now: Timestamp, by: &Actor) -> Self {
        Self {
            id,
            kind,
            parameters,
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
            JobState::Succeeded | JobState::Failed => None,
        }
    }

    /// Returns true if the job waits for its first run. Of the jobs that do, no two have the same kind and parameters.
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

    /// Returns the job after a run has failed. It runs again after a pause, unless the error is lasting or there were
    /// too many runs.
    pub(crate) fn failed(&self, error: &str, lasting: bool, counters: JobCounters, now: Timestamp) -> Self {
        let last_error = Some(error.chars().take(Self::MAX_ERROR).collect());
        if lasting || self.attempts >= self.kind.max_attempts() {
            return Self { counters, last_error, finished_at: Some(now), ..self.then(JobState::Failed, now) };
        }
        let pause = (FIRST_PAUSE * 4_i64.pow(self.attempts.saturating_sub(1).min(8))).min(MAX_PAUSE);
        let run_after = now + chrono::TimeDelta::seconds(pause);
        Self { counters, last_error, run_after, ..self.then(JobState::Queued, now) }
    }

    /// Returns a failed job as an operator runs it again. It keeps its last error until it has succeeded.
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
        Job::new(JobId(Uuid::from_u128(1)), JobKind::Reindex, Map::new(), at(0), &Actor::new("user:1"))
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
            job = job.claimed(lease(7, 30), at(0)).failed("down", false, JobCounters::new(), at(0));
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
    fn a_lasting_error_is_not_tried_again_and_a_long_one_is_cut() {
        let running = job().claimed(lease(7, 30), at(0));
        let failed = running.failed(&"ä".repeat(5_000), true, JobCounters::new(), at(1));
        assert_eq!((failed.state, failed.attempts), (JobState::Failed, 1));
        assert_eq!(failed.last_error.unwrap().chars().count(), Job::MAX_ERROR);
    }

    #[test]
    fn a_job_that_is_given_back_has_not_run() {
        let back = job().claimed(lease(7, 30), at(0)).released(at(4), at(1));
        assert_eq!((back.state, back.attempts, back.lease, back.due_at()), (JobState::Queued, 0, None, Some(at(4))));
    }
}
