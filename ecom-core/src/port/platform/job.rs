//! The queue of jobs.

use crate::clock::Timestamp;
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobRejection};
use crate::error::Result;
use crate::id::JobId;
use crate::paging::{Page, Paging, Total};

port! {
    /// The jobs of a shop. The domain decides how a job changes; the repository stores it.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait JobRepository / ForwardJobs(&mut self): Send {
        /// Inserts a job.
        ///
        /// # Errors
        /// `DUPLICATE` on `kind` if it waits for its first run ([`Job::is_waiting`]), as another job of the same kind
        /// with the same parameters does.
        async fn insert(&mut self, job: &Job) -> Result<()>;

        /// Returns one job.
        async fn get(&mut self, id: JobId) -> Result<Option<Job>>;

        /// Locks a job until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: JobId) -> Result<Option<Job>>;

        /// Returns the queued jobs of a kind, oldest first, at most 100.
        async fn queued(&mut self, kind: JobKind) -> Result<Vec<Job>>;

        /// Returns whether a job of one of these kinds is due at `now` ([`Job::due_at`]). One statement, which takes no
        /// lock.
        async fn is_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<bool>;

        /// Locks a job of one of these kinds that is due at `now` until the end of the transaction, and returns it: the
        /// one that has been due for the longest time, without those that other transactions have locked. Returns
        /// `None` if there is none.
        async fn lock_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<Option<Job>>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, `NotFound` if it does not exist.
        async fn update(&mut self, before: &Job, after: &Job) -> Result<()>;

        /// Returns a page of jobs, newest first: one statement whatever the limit.
        async fn list(&mut self, filter: &JobFilter, paging: &Paging) -> Result<Page<Job>>;

        /// Counts the jobs that match, up to `bound`.
        async fn count(&mut self, filter: &JobFilter, bound: u64) -> Result<Total>;

        /// Adds records that imports have refused. No two of a job may have the same index.
        ///
        /// # Errors
        /// `Validation` on `job_id` if a job does not exist.
        async fn add_rejections(&mut self, rejections: &[JobRejection]) -> Result<()>;

        /// Returns at most `limit` rejections of a job in the order of their indexes, those after the index `after` if
        /// it is set.
        async fn rejections(&mut self, id: JobId, after: Option<u64>, limit: u32) -> Result<Vec<JobRejection>>;

        /// Removes at most `limit` jobs that ended before `before`, whether they succeeded or failed, with their
        /// rejections. Returns how many jobs.
        async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64>;
    }
}
