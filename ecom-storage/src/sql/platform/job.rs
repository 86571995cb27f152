//! The queue of jobs.
//!
//! The column `due_at` is the time from which a worker can take the row, whether it is queued or its lease has run out.
//! One index has the rows of each kind by priority and by this time, so that each statement that takes jobs reads only
//! rows that are due, however many others wait, are delayed or have ended.

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::id::{JobId, JobQueueId, JobScheduleId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{
    Job, JobFilter, JobKind, JobLease, JobPriority, JobQueueState, JobRejection, JobState, RequestHash, ScheduleState,
};
use ecom_core::port::JobRepository;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, bad_cursor, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::pool::SqlStorage;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of jobs.
pub static JOBS: Table<Job> = Table {
    name: "jobs",
    entity: Entity::Job,
    columns: &[
        Column::fixed("id", |j| j.id.into()),
        Column::fixed("kind", |j| j.kind.as_str().into()),
        Column::json("parameters", |j| Value::json(&j.parameters)),
        Column::fixed("unique_key", |j| j.unique_key.as_deref().into()),
        Column::fixed("priority", |j| j.priority.into()),
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
        field: "unique_key",
        value: |j| j.unique_key.clone(),
    }],
    parent: None,
};

/// The columns of the states of queues.
pub static QUEUES: Table<JobQueueState> = Table {
    name: "job_queues",
    entity: Entity::JobQueue,
    columns: &[
        Column::fixed("id", |q| q.id.into()),
        Column::fixed("kind", |q| q.kind.as_str().into()),
        Column::field("paused", |q| i32::from(q.paused).into()),
        Column::Audit(|q| &q.audit),
    ],
    unique: &[Unique {
        index: "job_queues_kind",
        columns: &["kind"],
        field: "kind",
        value: |q| Some(q.kind.as_str().to_owned()),
    }],
    parent: None,
};

/// The columns of the states of schedules.
pub static SCHEDULES: Table<ScheduleState> = Table {
    name: "job_schedules",
    entity: Entity::JobSchedule,
    columns: &[
        Column::fixed("id", |s| s.id.into()),
        Column::fixed("name", |s| s.name.as_str().into()),
        Column::field("cron", |s| s.cron.as_str().into()),
        Column::field("next_at", |s| s.next_at.into()),
        Column::field("fired_at", |s| s.fired_at.into()),
        Column::Audit(|s| &s.audit),
    ],
    unique: &[Unique {
        index: "job_schedules_name",
        columns: &["name"],
        field: "name",
        value: |s| Some(s.name.clone()),
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
static QUEUED: Sql = Sql::of(
    &JOBS,
    "SELECT {*} FROM jobs WHERE waiting = $1 \
     UNION ALL SELECT {*} FROM jobs WHERE kind = $2 AND unique_key = $3 AND state = 'queued' AND waiting IS NULL",
);

static QUEUE_WRITES: Versioned<JobQueueState> = Versioned::new(&QUEUES);
static ALL_QUEUES: Sql = Sql::of(&QUEUES, "SELECT {*} FROM job_queues ORDER BY kind");
static GET_QUEUE: Sql = Sql::of(&QUEUES, "SELECT {*} FROM job_queues WHERE id = $1");

static SCHEDULE_WRITES: Versioned<ScheduleState> = Versioned::new(&SCHEDULES);
static ALL_SCHEDULES: Sql = Sql::of(&SCHEDULES, "SELECT {*} FROM job_schedules ORDER BY name");
static GET_SCHEDULE: Sql = Sql::of(&SCHEDULES, "SELECT {*} FROM job_schedules WHERE id = $1");

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

/// Returns the hash of a kind and a unique key.
fn unique_hash(kind: &JobKind, key: &str) -> Vec<u8> {
    RequestHash::of([kind.as_str(), key].map(str::as_bytes)).as_bytes().to_vec()
}

/// Returns the hash of kind and unique key of a job that waits for its first run, which no other such job has.
fn waiting(job: &Job) -> Option<Vec<u8>> {
    job.unique_key.as_ref().filter(|_| job.is_waiting()).map(|key| unique_hash(&job.kind, key))
}

fn read_kind(r: &Row, at: usize) -> Result<JobKind> {
    Ok(JobKind::new(r.string(at)?))
}

fn read_queue(r: &Row) -> Result<JobQueueState> {
    Ok(JobQueueState {
        id: JobQueueId(r.uuid(const { QUEUES.at("id") })?),
        kind: read_kind(r, const { QUEUES.at("kind") })?,
        paused: r.i32(const { QUEUES.at("paused") })? != 0,
        audit: read_audit(r, const { QUEUES.at("created_at") })?,
    })
}

fn read_schedule(r: &Row) -> Result<ScheduleState> {
    Ok(ScheduleState {
        id: JobScheduleId(r.uuid(const { SCHEDULES.at("id") })?),
        name: r.string(const { SCHEDULES.at("name") })?,
        cron: r.string(const { SCHEDULES.at("cron") })?,
        next_at: r.time(const { SCHEDULES.at("next_at") })?,
        fired_at: r.opt_time(const { SCHEDULES.at("fired_at") })?,
        audit: read_audit(r, const { SCHEDULES.at("created_at") })?,
    })
}

fn read_job(r: &Row) -> Result<Job> {
    let attempts = r.i64(const { JOBS.at("attempts") })?;
    let holder = r.opt_uuid(const { JOBS.at("lease_holder") })?;
    let expires_at = r.opt_time(const { JOBS.at("lease_expires_at") })?;
    Ok(Job {
        id: JobId(r.uuid(const { JOBS.at("id") })?),
        kind: read_kind(r, const { JOBS.at("kind") })?,
        parameters: r.json(const { JOBS.at("parameters") })?,
        unique_key: r.opt_string(const { JOBS.at("unique_key") })?,
        priority: r.stored(const { JOBS.at("priority") })?,
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

/// Reads a kind, a state and a number of jobs.
fn read_tally(r: &Row) -> Result<(JobKind, JobState, u64)> {
    Ok((read_kind(r, 0)?, r.stored(1)?, r.count(2)?))
}

/// Returns the statement that counts the newest jobs of some states, by kind. It has a part for each state, each of
/// which reads the end of a range of the index `jobs_state`. The bound is a part of the text, so that a planner that
/// reuses its plan knows it.
fn newest(states: &[JobState], bound: u32) -> (String, Vec<Value<'static>>) {
    let mut b = Builder::new(String::new());
    for (n, state) in states.iter().enumerate() {
        b.push(if n == 0 { "" } else { " UNION ALL " });
        b.push("SELECT kind, state, COUNT(*) FROM (SELECT kind, state FROM jobs WHERE state = ").bind(*state);
        b.push(&format!(" ORDER BY id DESC LIMIT {bound}) newest GROUP BY kind, state"));
    }
    b.done()
}

#[cfg(feature = "sqlite")]
impl SqlStorage {
    /// Returns the query plan of counting the newest jobs, for tests. There must be at least one state.
    ///
    /// # Errors
    /// `Unavailable`.
    #[doc(hidden)]
    pub async fn explain_newest_jobs(&self, states: &[JobState], bound: u32) -> Result<Vec<String>> {
        let (text, args) = newest(states, bound);
        self.explain(&text, args).await
    }
}

/// The priorities, the highest one first.
const PRIORITIES: [JobPriority; 3] = [JobPriority::High, JobPriority::Normal, JobPriority::Low];

/// Adds the conditions of a filter.
fn filtered(b: &mut Builder<'_>, filter: &JobFilter) {
    b.push(" WHERE 1 = 1");
    if let Some(kind) = &filter.kind {
        b.push(" AND kind = ").bind(kind.as_str().to_owned());
    }
    if let Some(state) = filter.state {
        b.push(" AND state = ").bind(state);
    }
}

/// Returns the arguments of [`QUEUED`].
fn queued_args<'q>(kind: &'q JobKind, unique_key: &'q str) -> Vec<Value<'q>> {
    vec![unique_hash(kind, unique_key).into(), kind.as_str().into(), unique_key.into()]
}

impl SqlStorage {
    /// Returns the plan that the database makes for the search for a queued job with a unique key, for tests that check
    /// the use of indexes.
    #[doc(hidden)]
    pub async fn explain_queued_job(&self, kind: &JobKind, unique_key: &str) -> Result<Vec<String>> {
        self.explain(&QUEUED.prepared(self.dialect()).text, queued_args(kind, unique_key)).await
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

    async fn lock_many(&mut self, ids: &[JobId]) -> Result<Vec<Job>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        lock_rows(&mut self.0, "jobs", "id", ids).await?;
        let mut b = Builder::on(&SELECT, self.0.dialect());
        b.push(" WHERE id IN ").list(ids).push(" ORDER BY id");
        let (text, args) = b.done();
        self.0.fetch_all(text, args).await?.iter().map(read_job).collect()
    }

    async fn queued(&mut self, kind: &JobKind, unique_key: &str) -> Result<Option<Job>> {
        let rows = self.0.fetch_all(&QUEUED, queued_args(kind, unique_key)).await?;
        rows.first().map(read_job).transpose()
    }

    async fn is_due(&mut self, kinds: &[JobKind], now: Timestamp) -> Result<bool> {
        if kinds.is_empty() {
            return Ok(false);
        }
        let words: Vec<&str> = kinds.iter().map(JobKind::as_str).collect();
        let mut b = Builder::new("SELECT 1 FROM jobs WHERE kind IN ");
        b.list(&words).push(" AND priority IN ").list(&PRIORITIES).push(" AND due_at <= ").bind(now).limit(1);
        let (text, args) = b.done();
        Ok(self.0.fetch_optional(text, args).await?.is_some())
    }

    async fn lock_due(&mut self, kind: &JobKind, now: Timestamp, limit: u32) -> Result<Vec<Job>> {
        let mut jobs = Vec::new();
        // A statement for each priority, since the index has no order of time over all of them.
        for priority in PRIORITIES {
            let left = limit.saturating_sub(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            if left == 0 {
                break;
            }
            let mut b = Builder::on(&SELECT, self.0.dialect());
            b.push(" WHERE kind = ").bind(kind.as_str()).push(" AND priority = ").bind(priority);
            b.push(" AND due_at <= ").bind(now).push(" ORDER BY due_at, id").limit(i64::from(left));
            if !self.0.dialect().for_update.is_empty() {
                b.push(self.0.dialect().for_update).push(" SKIP LOCKED");
            }
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                jobs.push(read_job(&row)?);
            }
        }
        Ok(jobs)
    }

    async fn update(&mut self, before: &Job, after: &Job) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn update_all(&mut self, changes: &[(Job, Job)]) -> Result<()> {
        WRITES.update_all(&mut self.0, changes).await
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

    async fn trim(&mut self, kind: Option<&JobKind>, before: Timestamp, limit: u32) -> Result<u64> {
        // Two statements, since MySQL allows no limit in a subquery.
        let mut b = Builder::new("SELECT id FROM jobs WHERE finished_at < ");
        b.bind(before);
        if let Some(kind) = kind {
            b.push(" AND kind = ").bind(kind.as_str());
        }
        b.push(" ORDER BY finished_at").limit(i64::from(limit));
        let (text, args) = b.done();
        let rows = self.0.fetch_all(text, args).await?;
        let ids = rows.iter().map(|r| r.uuid(0)).collect::<Result<Vec<_>>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        // A job that is retried meanwhile has ended no longer.
        let mut b = Builder::new("DELETE FROM jobs WHERE finished_at < ");
        b.bind(before).push(" AND id IN ").list(&ids);
        let (text, args) = b.done();
        Ok(self.0.execute(text, args).await?)
    }

    async fn tally(&mut self, kind: Option<&JobKind>) -> Result<Vec<(JobKind, JobState, u64)>> {
        let mut b = Builder::new("SELECT kind, state, COUNT(*) FROM jobs");
        if let Some(kind) = kind {
            b.push(" WHERE kind = ").bind(kind.as_str());
        }
        b.push(" GROUP BY kind, state ORDER BY kind, state");
        let (text, args) = b.done();
        self.0.fetch_all(text, args).await?.iter().map(read_tally).collect()
    }

    async fn tally_newest(&mut self, states: &[JobState], bound: u32) -> Result<Vec<(JobKind, JobState, u64)>> {
        if states.is_empty() {
            return Ok(Vec::new());
        }
        let (text, args) = newest(states, bound);
        let rows = self.0.fetch_all(text, args).await?;
        let mut found = rows.iter().map(read_tally).collect::<Result<Vec<_>>>()?;
        found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Ok(found)
    }

    async fn queues(&mut self) -> Result<Vec<JobQueueState>> {
        self.0.fetch_all(&ALL_QUEUES, vec![]).await?.iter().map(read_queue).collect()
    }

    async fn lock_queue(&mut self, id: JobQueueId) -> Result<Option<JobQueueState>> {
        lock_rows(&mut self.0, "job_queues", "id", &[id]).await?;
        let row = self.0.fetch_optional(&GET_QUEUE, vec![id.into()]).await?;
        row.as_ref().map(read_queue).transpose()
    }

    async fn insert_queue(&mut self, state: &JobQueueState) -> Result<()> {
        QUEUES.insert(&mut self.0, &[state]).await
    }

    async fn update_queue(&mut self, before: &JobQueueState, after: &JobQueueState) -> Result<()> {
        QUEUE_WRITES.update(&mut self.0, before, after).await
    }

    async fn schedules(&mut self) -> Result<Vec<ScheduleState>> {
        self.0.fetch_all(&ALL_SCHEDULES, vec![]).await?.iter().map(read_schedule).collect()
    }

    async fn lock_schedule(&mut self, id: JobScheduleId) -> Result<Option<ScheduleState>> {
        lock_rows(&mut self.0, "job_schedules", "id", &[id]).await?;
        let row = self.0.fetch_optional(&GET_SCHEDULE, vec![id.into()]).await?;
        row.as_ref().map(read_schedule).transpose()
    }

    async fn insert_schedule(&mut self, state: &ScheduleState) -> Result<()> {
        SCHEDULES.insert(&mut self.0, &[state]).await
    }

    async fn update_schedule(&mut self, before: &ScheduleState, after: &ScheduleState) -> Result<()> {
        SCHEDULE_WRITES.update(&mut self.0, before, after).await
    }
}
