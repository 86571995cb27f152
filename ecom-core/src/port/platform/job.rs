//! The queue of jobs.

use crate::clock::Timestamp;
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobQueueState, JobRejection, JobState};
use crate::domain::platform::schedule::ScheduleState;
use crate::error::Result;
use crate::id::{JobId, JobQueueId, JobScheduleId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The jobs of a shop. The domain decides how a job changes; the repository stores it.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait JobRepository / ForwardJobs(&mut self): Send {
        /// Inserts a job.
        ///
        /// # Errors
        /// `DUPLICATE` on `unique_key` if the job and another one of the same kind with the same unique key both wait
        /// for their first run ([`Job::is_waiting`]).
        async fn insert(&mut self, job: &Job) -> Result<()>;

        /// Returns one job.
        async fn get(&mut self, id: JobId) -> Result<Option<Job>>;

        /// Locks a job until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: JobId) -> Result<Option<Job>>;

        /// As [`Self::lock`], for several jobs, in the order of their ids.
        async fn lock_many(&mut self, ids: &[JobId]) -> Result<Vec<Job>>;

        /// Returns a queued job of a kind with this unique key, if there is one.
        async fn queued(&mut self, kind: &JobKind, unique_key: &str) -> Result<Option<Job>>;

        /// Returns whether a job of one of these kinds is due at `now` ([`Job::due_at`]). One statement, which takes no
        /// lock.
        async fn is_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<bool>;

        /// Locks at most `limit` jobs of a kind that are due at `now` until the end of the transaction, and returns
        /// them, without those that other transactions have locked. Those of the highest priority come first, and of
        /// one priority, those that have been due for the longest time.
        async fn lock_due(&mut self, kind: &JobKind, now: Timestamp, limit: u32) -> Result<Vec<Job>>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, `NotFound` if it does not exist.
        async fn update(&mut self, before: &Job, after: &Job) -> Result<()>;

        /// As [`Self::update`], for several jobs: each pair has the job before and after the change. Jobs that change
        /// in the same way should share a statement, because workers take and end many jobs at once.
        ///
        /// # Errors
        /// As [`Self::update`], for the first job that has an error.
        async fn update_all(&mut self, changes: &[(Job, Job)]) -> Result<()>;

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

        /// Removes at most `limit` jobs that ended before `before`, whether they succeeded, failed or were canceled,
        /// with their rejections; only those of a kind if it is set. Returns how many jobs.
        async fn trim(&mut self, kind: Option<&JobKind>, before: Timestamp, limit: u32) -> Result<u64>;

        /// Returns how many jobs of each kind are in each state, sorted by kind, without those of which there are none;
        /// only those of a kind if it is set.
        async fn tally(&mut self, kind: Option<&JobKind>) -> Result<Vec<(JobKind, JobState, u64)>>;

        /// Counts jobs as [`Self::tally`] does, but only those of these states, and of each state at most the `bound`
        /// newest ones by their ids. So the cost has a bound, however many jobs there are.
        async fn tally_newest(&mut self, states: &[JobState], bound: u32) -> Result<Vec<(JobKind, JobState, u64)>>;

        /// Returns the states of all queues that have one, sorted by kind.
        async fn queues(&mut self) -> Result<Vec<JobQueueState>>;

        /// Locks the state of a queue until the end of the transaction, and returns it as it is then.
        async fn lock_queue(&mut self, id: JobQueueId) -> Result<Option<JobQueueState>>;

        /// Inserts the state of a queue.
        ///
        /// # Errors
        /// `DUPLICATE` on `kind` if the queue has a state already.
        async fn insert_queue(&mut self, state: &JobQueueState) -> Result<()>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row has another version than `before`, `NotFound` if it does not exist.
        async fn update_queue(&mut self, before: &JobQueueState, after: &JobQueueState) -> Result<()>;

        /// Returns the states of all schedules that have one, sorted by name.
        async fn schedules(&mut self) -> Result<Vec<ScheduleState>>;

        /// Locks the state of a schedule until the end of the transaction, and returns it as it is then.
        async fn lock_schedule(&mut self, id: JobScheduleId) -> Result<Option<ScheduleState>>;

        /// Inserts the state of a schedule.
        ///
        /// # Errors
        /// `DUPLICATE` on `name` if the schedule has a state already.
        async fn insert_schedule(&mut self, state: &ScheduleState) -> Result<()>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row has another version than `before`, `NotFound` if it does not exist.
        async fn update_schedule(&mut self, before: &ScheduleState, after: &ScheduleState) -> Result<()>;
    }
}
