//! Jobs: enqueues operations that take long, and shows what became of them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobRejection, JobState};
use crate::error::{Conflict, Entity, Error, FieldCode, Result};
use crate::id::JobId;
use crate::paging::{Page, Paging, Total};
use crate::port::search::NoSearch;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// The service of the jobs of a shop: operations that take long, and mails. The background work runs them
/// ([`Shop::start`](crate::Shop::start)), in any process of the shop that can.
///
/// A worker holds a lease while it runs a job, and writes its counters as it goes. If its process dies, another one
/// runs the job again from the beginning, once the lease has run out. A run that fails because a backend is down is
/// repeated after a pause that grows. After [`JobKind::max_attempts`] runs, or after an error that lasts, the job stays
/// failed, until [`JobService::retry`] runs it again.
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
        self.enqueue_in(tx, JobKind::Reindex, Map::new()).await
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
        self.enqueue_in(tx, JobKind::Verify, Map::from_iter([("repair".to_owned(), json!(repair))])).await
    }

    /// Refuses a principal who may not write the index, and a shop without one, whose jobs no process would run.
    fn check_index(&self) -> Result<()> {
        self.who.require(Permission::IndexWrite)?;
        if self.cx.indices.main.provider.name() == NoSearch::NAME { Err(NoSearch::lacks()) } else { Ok(()) }
    }

    async fn enqueue_in(&self, tx: &mut Tx<'_>, kind: JobKind, parameters: Map<String, Value>) -> Result<Job> {
        tx.started();
        tx.wake();
        let queued = tx.jobs().queued(kind).await?;
        if let Some(queued) = queued.into_iter().find(|job| job.parameters == parameters) {
            return tx.ended(Ok(queued));
        }
        let id = JobId(self.cx.ids.next());
        let job = Job::new(id, kind, parameters, self.cx.now(), self.who.actor());
        let inserted = tx.jobs().insert(&job).await;
        // Another transaction has enqueued the same job meanwhile, which the next try finds.
        tx.or_next_name(inserted, |field| field == "kind")?;
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

    /// Runs a failed job again, with as many attempts as a new one.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the job has not failed, or if it is an import, `Unavailable`.
    pub async fn retry(&self, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.retry_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::retry`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub async fn retry_in(&self, tx: &mut Tx<'_>, id: JobId) -> Result<Job> {
        self.who.require(Permission::JobsWrite)?;
        tx.started();
        let before = tx.jobs().lock(id).await?.ok_or_else(|| Error::not_found(Entity::Job, id))?;
        if before.state != JobState::Failed {
            let message = format!("job {id} is {}: only a failed job can be run again", before.state.as_str());
            return Err(Conflict::State { message }.into());
        }
        if JobKind::OF_CREATOR.contains(&before.kind) {
            let message = format!("job {id} cannot be run again: repeat the import that it belongs to");
            return Err(Conflict::State { message }.into());
        }
        let after = before.retried(self.cx.now(), self.who.actor());
        tx.jobs().update(&before, &after).await?;
        tx.wake();
        tx.ended(Ok(after))
    }
}
