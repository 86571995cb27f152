//! The queue of jobs.
//!
//! The column `due_at` is the time from which a worker can take the row, whether it is queued or its lease has run out,
//! so that one index finds the next job.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::id::JobId;
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{Job, JobFilter, JobKind, JobLease, JobRejection, RequestHash};
use ecom_core::port::JobRepository;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, bad_cursor, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::stored::Stored as _;
use crate::sql::engine::value::{Row, Value};

/// The columns of jobs.
pub static JOBS: Table<Job> = Table {
    name: "jobs",
    entity: Entity::Job,
    columns: &[
        Column::fixed("id", |j| j.id.into()),
        Column::fixed("kind", |j| j.kind.into()),
        Column::json("parameters", |j| Value::json(&j.parameters)),
        Column::field("state", |j| j.state.into()),
        Column::json("counters", |j| Value::json(&j.counters)),
        Column::field("attempts", |j| i64::from(j.attempts).into()),
        Column::field("last_error", |j| j.last_error.as_deref().into()),
        Column::field("lease_holder", |j| j.lease.map(|lease| lease.holder).into()),
        Column::field("lease_expires_at", |j| j.lease.map(|lease| lease.expires_at).into()),
        Column::field("run_after", |j| j.run_after.into()),
        Column::field("started_at", |j| j.started_at.into()),
        Column::field("finished_at", |j| j.finished_at.into()),
        Column::derived("due_at", |j| j.due_at().into()),
        Column::derived("waiting", |j| waiting(j).into()),
        Column::Audit(|j| &j.audit),
    ],
    unique: &[Unique {
        index: "jobs_waiting",
        columns: &["waiting"],
        field: "kind",
        value: |j| Some(j.kind.as_str().to_owned()),
    }],
    parent: None,
};

/// The columns of rejections.
static REJECTIONS: Table<JobRejection> = Table {
    name: "job_rejections",
    entity: Entity::Job,
    columns: &[
        Column::fixed("job_id", |r| r.job_id.into()),
        Column::fixed("record_index", |r| position(r.index).into()),
        Column::fixed("line", |r| position(r.line).into()),
        Column::fixed("letter", |r| r.letter.as_str().into()),
    ],
    unique: &[],
    parent: Some(("job_id", |r| Some(r.job_id.0))),
};

static WRITES: Versioned<Job> = Versioned::new(&JOBS);
static GET: Sql = Sql::of(&JOBS, "SELECT {*} FROM jobs WHERE id = $1");
static SELECT: Sql = Sql::of(&JOBS, "SELECT {*} FROM jobs");
static ENDED: Sql = Sql::of(
    &JOBS,
    "SELECT id FROM jobs WHERE state IN ('succeeded', 'failed') AND finished_at < $1 ORDER BY id LIMIT $2",
);
static QUEUED: Sql = Sql::of(&JOBS, "SELECT {*} FROM jobs WHERE kind = $1 AND state = 'queued' ORDER BY id LIMIT 100");

static REJECTED: Sql = Sql::of(
    &REJECTIONS,
    "SELECT {*} FROM job_rejections WHERE job_id = $1 AND record_index > $2 ORDER BY record_index LIMIT $3",
);

/// Returns a position in a source as the database stores it.
fn position(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn read_rejection(r: &Row) -> Result<JobRejection> {
    let position = |at| Ok::<_, Error>(u64::try_from(r.i64(at)?).unwrap_or_default());
    Ok(JobRejection {
        job_id: JobId(r.uuid(const { REJECTIONS.at("job_id") })?),
        index: position(const { REJECTIONS.at("record_index") })?,
        line: position(const { REJECTIONS.at("line") })?,
        letter: r.string(const { REJECTIONS.at("letter") })?,
    })
}

/// Returns the hash of kind and parameters of a job that waits for its first run, which no other such job has.
fn waiting(job: &Job) -> Option<Vec<u8>> {
    // A map of which the database has returned the fields in another order has the same hash.
    let parameters: BTreeMap<_, _> = job.parameters.iter().collect();
    let text = serde_json::to_vec(&parameters).unwrap_or_default();
    let hash = RequestHash::of([job.kind.as_str().as_bytes(), &text]);
    job.is_waiting().then(|| hash.as_bytes().to_vec())
}

fn read_job(r: &Row) -> Result<Job> {
    let attempts = r.i64(const { JOBS.at("attempts") })?;
    let holder = r.opt_uuid(const { JOBS.at("lease_holder") })?;
    let expires_at = r.opt_time(const { JOBS.at("lease_expires_at") })?;
    Ok(Job {
        id: JobId(r.uuid(const { JOBS.at("id") })?),
        kind: r.stored(const { JOBS.at("kind") })?,
        parameters: r.json(const { JOBS.at("parameters") })?,
        state: r.stored(const { JOBS.at("state") })?,
        counters: r.json(const { JOBS.at("counters") })?,
        attempts: u32::try_from(attempts).map_err(|e| Error::internal("reading a row", e))?,
        last_error: r.opt_string(const { JOBS.at("last_error") })?,
        lease: holder.zip(expires_at).map(|(holder, expires_at)| JobLease { holder, expires_at }),
        run_after: r.time(const { JOBS.at("run_after") })?,
        started_at: r.opt_time(const { JOBS.at("started_at") })?,
        finished_at: r.opt_time(const { JOBS.at("finished_at") })?,
        audit: read_audit(r, const { JOBS.at("created_at") })?,
    })
}

/// Adds the conditions that a job has one of these kinds and is due.
fn due(b: &mut Builder<'_>, kinds: &[JobKind], now: Timestamp) {
    let words: Vec<&str> = kinds.iter().map(|kind| kind.disk()).collect();
    b.push(" WHERE due_at <= ").bind(now).push(" AND kind IN ").list(&words);
}

/// Adds the conditions of a filter.
fn filtered(b: &mut Builder<'_>, filter: &JobFilter) {
    b.push(" WHERE 1 = 1");
    if let Some(kind) = filter.kind {
        b.push(" AND kind = ").bind(kind);
    }
    if let Some(state) = filter.state {
        b.push(" AND state = ").bind(state);
    }
}

/// The jobs of a SQL database.
pub type SqlJobs<'c> = SqlRepository<'c, dyn JobRepository>;

#[async_trait]
impl JobRepository for SqlJobs<'_> {
    async fn insert(&mut self, job: &Job) -> Result<()> {
        JOBS.insert(&mut self.0, &[job]).await
    }

    async fn get(&mut self, id: JobId) -> Result<Option<Job>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_job).transpose()
    }

    async fn lock(&mut self, id: JobId) -> Result<Option<Job>> {
        lock_rows(&mut self.0, "jobs", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn queued(&mut self, kind: JobKind) -> Result<Vec<Job>> {
        self.0.fetch_all(&QUEUED, vec![kind.into()]).await?.iter().map(read_job).collect()
    }

    async fn is_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<bool> {
        if kinds.is_empty() {
            return Ok(false);
        }
        let mut b = Builder::new("SELECT 1 FROM jobs");
        due(&mut b, kinds, now);
        b.limit(1);
        let (text, args) = b.done();
        Ok(self.0.fetch_optional(text, args).await?.is_some())
    }

    async fn lock_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<Option<Job>> {
        if kinds.is_empty() {
            return Ok(None);
        }
        let mut b = Builder::on(&SELECT, self.0.dialect());
        due(&mut b, kinds, now);
        b.push(" ORDER BY due_at, id").limit(1);
        if !self.0.dialect().for_update.is_empty() {
            b.push(self.0.dialect().for_update).push(" SKIP LOCKED");
        }
        let (text, args) = b.done();
        let row = self.0.fetch_optional(text, args).await?;
        row.as_ref().map(read_job).transpose()
    }

    async fn update(&mut self, before: &Job, after: &Job) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn list(&mut self, filter: &JobFilter, paging: &Paging) -> Result<Page<Job>> {
        let mut b = Builder::on(&SELECT, self.0.dialect());
        filtered(&mut b, filter);
        if let Paging::Keyset { after: Some(k), .. } = paging {
            if k.key != SortKey::Id {
                return Err(bad_cursor());
            }
            b.push(" AND id < ").bind(k.id);
        }
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let jobs = self.0.fetch_all(text, args).await?.iter().map(read_job).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(jobs, paging.limit(), |j| Keyset {
            sort: "created_desc".to_owned(),
            key: SortKey::Id,
            id: j.id.0,
        }))
    }

    async fn count(&mut self, filter: &JobFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| {
            b.push(" FROM jobs");
            filtered(b, filter);
        })
        .await
    }

    async fn add_rejections(&mut self, rejections: &[JobRejection]) -> Result<()> {
        REJECTIONS.insert(&mut self.0, rejections).await
    }

    async fn rejections(&mut self, id: JobId, after: Option<u64>, limit: u32) -> Result<Vec<JobRejection>> {
        let args = vec![id.into(), after.map_or(-1, position).into(), i64::from(limit).into()];
        self.0.fetch_all(&REJECTED, args).await?.iter().map(read_rejection).collect()
    }

    async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        // Two statements, since MySQL allows no limit in a subquery.
        let rows = self.0.fetch_all(&ENDED, vec![before.into(), i64::from(limit).into()]).await?;
        let ids = rows.iter().map(|r| r.uuid(0)).collect::<Result<Vec<_>>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        // A job that is retried meanwhile has ended no longer.
        let mut b = Builder::new("DELETE FROM jobs WHERE state IN ('succeeded', 'failed') AND id IN ");
        b.list(&ids);
        let (text, args) = b.done();
        Ok(self.0.execute(text, args).await?)
    }
}
