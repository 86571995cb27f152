//! Jobs: enqueues operations that take long, and shows what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobQueueState, JobRejection, JobState};
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::JobId;
use crate::paging::{Page, Paging, Total};
use crate::port::platform::job::JobRepository;
use crate::port::search::NoSearch;
use crate::port::storage::Repositories as _;
use crate::service::platform::job_queue::{JobQueue, NewJob};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// A queue with the numbers of its jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobQueueStatus {
    /// The kind of the jobs.
    pub kind: JobKind,
    /// Whether no job of the queue begins.
    pub paused: bool,
    /// The number of jobs in each state, by [`JobState::as_str`].
    pub jobs: BTreeMap<&'static str, u64>,
}

/// The service of the jobs of a shop: operations that take long, mails, and the jobs of the application
/// ([`JobQueue`]). The background work runs them ([`Shop::start`](crate::Shop::start)), in any process of the shop that
/// can.
///
/// A worker holds a lease while it runs a job, and writes its counters as it goes. If its process dies, another one
/// runs the job again from the beginning, once the lease has run out. A run that fails because a backend is down is
/// repeated after a pause that grows. After as many runs as its queue allows, or after an error that lasts, the job
/// stays failed, until [`JobService::retry`] runs it again.
///
/// The processes of a shop can each have an index of their own, in a directory that they do not share. A job then works
/// on the index of the process that takes it, and not on the others.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// let job = shop.jobs().enqueue_reindex().await?;
/// let job = shop.jobs().get(job.id).await?;
/// println!("{}: {:?}", job.state.as_str(), job.counters);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct JobService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> JobService<'a> {
    /// The largest limit of [`Self::rejections`].
    pub const MAX_REJECTIONS: u32 = 1_000;

    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Enqueues a rebuild of the search index, as
    /// [`IndexSyncService::rebuild`](crate::search::IndexSyncService::rebuild) does it. Its counters are `read`, the
    /// products that were read, `written`, the documents that were written, and `refused`, those that the search engine
    /// refuses. If such a job is queued already, it is
    /// returned, and no other one is made.
    ///
    /// # Errors
    /// `Unsupported` for a shop without search, `Unavailable`.
    pub async fn enqueue_reindex(&self) -> Result<Job> {
        self.check_index()?;
        self.cx.write(|mut tx| async move { Ok((self.enqueue_reindex_in(&mut tx).await?, tx)) }).await
    }

    /// [`Self::enqueue_reindex`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::enqueue_reindex`].
    pub async fn enqueue_reindex_in(&self, tx: &mut Tx<'_>) -> Result<Job> {
        self.check_index()?;
        self.enqueue_of_index(tx, JobKind::REINDEX, Map::new()).await
    }

    /// Enqueues a comparison of index and database, as
    /// [`IndexSyncService::verify`](crate::search::IndexSyncService::verify) does it, after the index has caught up
    /// with the log. Its counters are `compared`, `missing`, `stale`, `extra`, `repaired`, the products whose documents
    /// were repaired, and `refused`, those whose documents the search engine refuses. If such a job with the same
    /// `repair` is queued already, it is returned, and no other one is made.
    ///
    /// # Errors
    /// `Unsupported` for a shop without search, `Unavailable`.
    pub async fn enqueue_verify(&self, repair: bool) -> Result<Job> {
        self.check_index()?;
        self.cx.write(|mut tx| async move { Ok((self.enqueue_verify_in(&mut tx, repair).await?, tx)) }).await
    }

    /// [`Self::enqueue_verify`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::enqueue_verify`].
    pub async fn enqueue_verify_in(&self, tx: &mut Tx<'_>, repair: bool) -> Result<Job> {
        self.check_index()?;
        self.enqueue_of_index(tx, JobKind::VERIFY, Map::from_iter([("repair".to_owned(), json!(repair))])).await
    }

    /// Refuses a principal who may not write the index, and a shop without one, whose jobs no process would run.
    fn check_index(&self) -> Result<()> {
        self.who.require(Permission::IndexWrite)?;
        if self.cx.indices.main.provider.name() == NoSearch::NAME { Err(NoSearch::lacks()) } else { Ok(()) }
    }

    /// Enqueues a job of the application, whose queue it has registered with `ShopBuilder::job_queue`. If a job of the
    /// kind with the same unique key is queued already, it is returned, and no other one is made. The permission is
    /// `jobs:write`.
    ///
    /// ```
    /// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
    /// use ecom_core::platform::NewJob;
    ///
    /// let mut tx = shop.begin().await?;
    /// // … writes of the application, of which the job is a part …
    /// let job = shop.jobs().enqueue_in(&mut tx, &NewJob::new("crm-sync").parameter("customer", "4711")).await?;
    /// tx.commit().await?.run().await;
    /// println!("{}", shop.jobs().get(job.id).await?.state.as_str());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Validation` if the kind is not registered, if the parameters have more than 64 KiB, or if another field is out
    /// of bounds. `Unavailable`.
    pub async fn enqueue(&self, job: &NewJob) -> Result<Job> {
        self.check(job)?;
        self.cx.write(|mut tx| async move { Ok((self.enqueue_in(&mut tx, job).await?, tx)) }).await
    }

    /// [`Self::enqueue`] inside a transaction: the job exists if the transaction is committed. Call it after all other
    /// writes of the transaction, because jobs come last in the order of the locks. A queued job that it returns does
    /// not begin before the end of the transaction.
    ///
    /// # Errors
    /// As [`Self::enqueue`].
    pub async fn enqueue_in(&self, tx: &mut Tx<'_>, job: &NewJob) -> Result<Job> {
        self.check(job)?;
        self.insert(tx, job).await
    }

    fn check(&self, job: &NewJob) -> Result<()> {
        self.who.require(Permission::JobsWrite)?;
        job.check(&self.cx.queues, self.cx.now())
    }

    /// Enqueues a job of the index. Its parameters are its unique key, so that no two with the same parameters wait.
    async fn enqueue_of_index(&self, tx: &mut Tx<'_>, kind: JobKind, parameters: Map<String, Value>) -> Result<Job> {
        // The previous release stores the hash of this text, so both releases find each other's jobs.
        let key = Value::Object(parameters.clone()).to_string();
        self.insert(tx, &NewJob::new(kind).parameters(parameters).unique_key(key)).await
    }

    /// Enqueues a job of any kind, also of the shop's own kinds. The caller checks the permission.
    pub(crate) async fn insert(&self, tx: &mut Tx<'_>, new: &NewJob) -> Result<Job> {
        tx.started();
        tx.wake();
        let found = match &new.unique_key {
            Some(key) => tx.jobs().queued(&new.kind, key).await?,
            None => None,
        };
        if let Some(found) = found {
            // Without the lock, a worker could take the found job and run it before the transaction is committed, so
            // that the run would not see what the transaction has written. A job that runs by now does not count.
            let locked = tx.jobs().lock(found.id).await?;
            if let Some(queued) = locked.filter(|job| job.state == JobState::Queued) {
                return tx.ended(Ok(queued));
            }
        }
        let now = self.cx.now();
        let id = JobId(self.cx.ids.next());
        let job = Job {
            unique_key: new.unique_key.clone(),
            priority: new.priority,
            run_after: new.run_at.unwrap_or(now + new.delay).max(now),
            ..Job::new(id, new.kind.clone(), new.parameters.clone(), now, self.who.actor())
        };
        let inserted = tx.jobs().insert(&job).await;
        // Another transaction has enqueued the same job meanwhile, which the next try finds.
        tx.or_next_name(inserted, |field| field == "unique_key")?;
        tx.ended(Ok(job))
    }

    /// Returns a job.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsRead)?;
        let found = self.cx.storage.connect().await?.jobs().get(id).await?;
        found.ok_or_else(|| Error::not_found(Entity::Job, id))
    }

    /// Returns at most `limit` records, 1 to 1,000, that the import of this job has refused, in the order of their
    /// indexes, those after the index `after` if it is set. Returns none for other jobs.
    ///
    /// # Errors
    /// `NotFound` if the job does not exist, `Validation` if the limit is out of bounds, `Unavailable`.
    pub async fn rejections(&self, id: JobId, after: Option<u64>, limit: u32) -> Result<Vec<JobRejection>> {
        self.who.require(Permission::JobsRead)?;
        if !(1..=Self::MAX_REJECTIONS).contains(&limit) {
            let message = format!("must be between 1 and {}", Self::MAX_REJECTIONS);
            return Err(Error::invalid("limit", FieldCode::OutOfBounds, message));
        }
        let mut db = self.cx.storage.connect().await?;
        let rejections = db.jobs().rejections(id, after, limit).await?;
        if rejections.is_empty() && db.jobs().get(id).await?.is_none() {
            return Err(Error::not_found(Entity::Job, id));
        }
        Ok(rejections)
    }

    /// Returns a page of jobs, newest first, and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` if the limit of the page is out of bounds, `Unavailable`.
    pub async fn list(&self, filter: &JobFilter, paging: &Paging) -> Result<(Page<Job>, Option<Total>)> {
        self.who.require(Permission::JobsRead)?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.jobs().list(filter, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.jobs().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Runs a failed or canceled job again, with as many attempts as a new one.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the job has neither failed nor been canceled, if it is an import, or if it never
    /// began and another job with its unique key waits, `Unavailable`.
    pub async fn retry(&self, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.retry_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::retry`] inside a transaction. Call it after all other writes of the transaction, because jobs come last
    /// in the order of the locks.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub async fn retry_in(&self, tx: &mut Tx<'_>, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        tx.started();
        let before = tx.jobs().lock(id).await?.ok_or_else(|| Error::not_found(Entity::Job, id))?;
        if !matches!(before.state, JobState::Failed | JobState::Canceled) {
            let state = before.state.as_str();
            let message = format!("job {id} is {state}: only a failed or canceled job can be run again");
            return Err(Conflict::State { message }.into());
        }
        if before.kind == JobKind::IMPORT {
            let message = format!("job {id} cannot be run again: repeat the import that it belongs to");
            return Err(Conflict::State { message }.into());
        }
        let after = before.retried(self.cx.now(), self.who.actor());
        let updated = tx.jobs().update(&before, &after).await;
        updated.map_err(|error| match &error {
            Error::Conflict(c) if matches!(**c, Conflict::Duplicate { field: "unique_key", .. }) => {
                let message = format!(
                    "job {id} cannot be run again while another job with its unique key waits for its first run: \
                     cancel that job, or try again once it has begun"
                );
                Error::from(Conflict::State { message })
            }
            _ => error,
        })?;
        tx.wake();
        tx.ended(Ok(after))
    }

    /// Cancels a job that is queued or running. A run ends when its worker next renews its lease, at the latest after a
    /// third of [`ShopConfig::lease_ttl`](crate::config::ShopConfig::lease_ttl), and what it has done by then stays. A
    /// run of a transactional handler goes on, and is rolled back at its end; on SQLite, this call waits for its
    /// transaction and fails if the job has succeeded by then. A job that was canceled already is returned unchanged.
    /// The permission is `jobs:write`.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the job has ended, or if it is an import, `Unavailable`.
    pub async fn cancel(&self, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.cancel_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::cancel`] inside a transaction. Call it after all other writes of the transaction, because jobs come last
    /// in the order of the locks.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub async fn cancel_in(&self, tx: &mut Tx<'_>, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        tx.started();
        let before = tx.jobs().lock(id).await?.ok_or_else(|| Error::not_found(Entity::Job, id))?;
        let refused = match before.state {
            JobState::Canceled => return tx.ended(Ok(before)),
            JobState::Succeeded | JobState::Failed => Some("it has ended"),
            JobState::Queued | JobState::Running if before.kind == JobKind::IMPORT => {
                Some("an import ends with the request or the feed that it belongs to")
            }
            JobState::Queued | JobState::Running => None,
        };
        if let Some(why) = refused {
            let message = format!("job {id} cannot be canceled: {why}");
            return Err(Conflict::State { message }.into());
        }
        let after = before.canceled(self.cx.now(), self.who.actor());
        tx.jobs().update(&before, &after).await?;
        tx.ended(Ok(after))
    }

    /// Returns the queues of the shop and those of which there are jobs, sorted by kind, with the numbers of their
    /// jobs. The permission is `jobs:read`.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn queues(&self) -> Result<Vec<JobQueueStatus>> {
        self.who.require(Permission::JobsRead)?;
        let mut db = self.cx.storage.connect().await?;
        self.status(&mut *db.jobs(), None).await
    }

    /// Pauses a queue: none of its jobs begins until [`Self::resume`], in any process, from the next poll on
    /// ([`ShopConfig::poll_interval`](crate::config::ShopConfig::poll_interval)). Jobs that run go on, and others can
    /// be enqueued. The permission is `jobs:write`.
    ///
    /// # Errors
    /// `Validation` if the kind is malformed ([`JobKind::check`]), `NotFound` if the shop has no such queue and no job
    /// of the kind, `STATE_CONFLICT` for imports, which are never queued, `Unavailable`.
    pub async fn pause(&self, kind: &JobKind) -> Result<JobQueueStatus> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.pause_in(&mut tx, kind).await?, tx)) }).await
    }

    /// [`Self::pause`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn pause_in(&self, tx: &mut Tx<'_>, kind: &JobKind) -> Result<JobQueueStatus> {
        self.set_paused(tx, kind, true).await
    }

    /// Resumes a queue. The permission is `jobs:write`.
    ///
    /// # Errors
    /// As [`Self::pause`].
    pub async fn resume(&self, kind: &JobKind) -> Result<JobQueueStatus> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.resume_in(&mut tx, kind).await?, tx)) }).await
    }

    /// [`Self::resume`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::resume`].
    pub async fn resume_in(&self, tx: &mut Tx<'_>, kind: &JobKind) -> Result<JobQueueStatus> {
        self.set_paused(tx, kind, false).await
    }

    async fn set_paused(&self, tx: &mut Tx<'_>, kind: &JobKind, paused: bool) -> Result<JobQueueStatus> {
        self.who.require(Permission::JobsWrite)?;
        let mut errors = ValidationErrors::default();
        kind.check("kind", &mut errors);
        errors.into_result()?;
        if *kind == JobKind::IMPORT {
            let message = "imports are never queued, so their queue cannot be paused or resumed".to_owned();
            return Err(Conflict::State { message }.into());
        }
        tx.started();
        let (id, now, by) = (JobQueueState::id_of(kind), self.cx.now(), self.who.actor());
        let before = tx.jobs().lock_queue(id).await?;
        match &before {
            Some(before) if before.paused != paused => {
                tx.jobs().update_queue(before, &before.set(paused, now, by)).await?;
            }
            Some(_) => {}
            None => {
                let inserted = tx.jobs().insert_queue(&JobQueueState::new(kind.clone(), paused, now, by)).await;
                // Another transaction has inserted it meanwhile, which the next try finds.
                tx.or_next_name(inserted, |field| field == "kind")?;
            }
        }
        let status = self.status(&mut *tx.jobs(), Some(kind)).await?.pop();
        let is_known = before.is_some()
            || self.cx.queues.get(kind).is_some()
            || JobKind::OF_SHOP.contains(kind)
            || status.as_ref().is_some_and(|status| status.jobs.values().any(|n| *n > 0));
        let status = status.filter(|_| is_known).ok_or_else(|| Error::not_found(Entity::JobQueue, kind))?;
        tx.wake();
        tx.ended(Ok(status))
    }

    /// Returns the status of one queue, or of all.
    async fn status(&self, jobs: &mut dyn JobRepository, only: Option<&JobKind>) -> Result<Vec<JobQueueStatus>> {
        let (states, tally) = (jobs.queues().await?, jobs.tally(only).await?);
        let known = self.cx.queues.all().iter().map(JobQueue::kind).chain(JobKind::OF_SHOP);
        let found = tally.iter().map(|(kind, ..)| kind).chain(states.iter().map(|state| &state.kind));
        let kinds: BTreeSet<&JobKind> =
            known.chain(found).filter(|kind| only.is_none_or(|only| only == *kind)).collect();
        let shown = |kind: &JobKind| {
            let mut jobs: BTreeMap<&'static str, u64> = JobState::ALL.iter().map(|state| (state.as_str(), 0)).collect();
            for (_, state, n) in tally.iter().filter(|(of, ..)| of == kind) {
                jobs.insert(state.as_str(), *n);
            }
            let paused = states.iter().any(|state| state.kind == *kind && state.paused);
            JobQueueStatus { kind: kind.clone(), paused, jobs }
        };
        Ok(kinds.into_iter().map(shown).collect())
    }
}
