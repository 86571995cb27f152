//! The representation of jobs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::platform::{Job, JobCounters, JobKind, JobPriority, JobQueueStatus, JobState};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A job: an operation that takes long, or that happens later.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobView<'a> {
    /// The id of the job.
    pub id: Uuid,
    /// The operation: `reindex`, `verify`, `mail`, `import`, `analytics-rebuild`, `media-cleanup`, or the kind of a job
    /// of the application.
    #[schema(value_type = String, example = "reindex")]
    pub kind: &'a JobKind,
    /// The parameters of the operation, such as `repair` of `verify`.
    #[schema(value_type = Object, example = json!({"repair": true}))]
    pub parameters: &'a Map<String, Value>,
    /// A key that no other job of the kind has while both wait for their first run; null if the job is not unique.
    pub unique_key: Option<&'a str>,
    /// The place in the queue. Due jobs of a higher priority begin first.
    pub priority: JobPriority,
    /// The state. A job that has failed or was canceled does not run again by itself.
    pub state: JobState,
    /// The counters of the current run, or of the last one: `read`, `written` and `refused` of a reindex; `compared`,
    /// `missing`, `stale`, `extra`, `repaired` and `refused` of a verify; `sent` or `skipped` of a mail; `read`,
    /// `inserted`, `updated`, `unchanged`, `rejected`, `dropped`, `skipped`, `categories_created` and
    /// `rejections_not_kept` of an import. A counter that is absent is 0.
    #[schema(value_type = std::collections::HashMap<String, u64>, example = json!({"read": 1500, "written": 1500}))]
    pub counters: &'a JobCounters,
    /// How often the job has begun to run since it was enqueued, or since an operator has run it again.
    pub attempts: u32,
    /// Why the last run failed; null if no run has failed, or if the job has succeeded since.
    pub last_error: Option<&'a str>,
    /// The earliest time of the next run (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub run_after: DateTime<Utc>,
    /// When another process takes over a job that is running, unless its process renews its lease (RFC 3339, UTC); null
    /// if the job is not running.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// When the current run, or else the last one, has begun (RFC 3339, UTC); null before the first run.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub started_at: Option<DateTime<Utc>>,
    /// When the job has succeeded or failed, or was canceled (RFC 3339, UTC); null before.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub finished_at: Option<DateTime<Utc>>,
    /// The version, which increases with every change.
    pub version: i64,
    /// When the job was enqueued (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the job was last changed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who enqueued the job.
    pub created_by: &'a str,
    /// The actor who last changed the job: `system` for the process that runs it.
    pub updated_by: &'a str,
}

impl<'a> JobView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "kind",
        "parameters",
        "unique_key",
        "priority",
        "state",
        "counters",
        "attempts",
        "last_error",
        "run_after",
        "lease_expires_at",
        "started_at",
        "finished_at",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    ];

    /// Returns the representation.
    pub(crate) fn of(job: &'a Job) -> Self {
        Self {
            id: job.id.0,
            kind: &job.kind,
            parameters: &job.parameters,
            unique_key: job.unique_key.as_deref(),
            priority: job.priority,
            state: job.state,
            counters: &job.counters,
            attempts: job.attempts,
            last_error: job.last_error.as_deref(),
            run_after: job.run_after,
            lease_expires_at: job.lease.map(|lease| lease.expires_at),
            started_at: job.started_at,
            finished_at: job.finished_at,
            version: job.audit.version,
            created_at: job.audit.created_at,
            updated_at: job.audit.updated_at,
            created_by: job.audit.created_by.as_str(),
            updated_by: job.audit.updated_by.as_str(),
        }
    }
}

/// A queue of jobs: those of one kind.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobQueueView<'a> {
    /// The kind of the jobs.
    #[schema(value_type = String, example = "mail")]
    pub kind: &'a JobKind,
    /// Whether no job of the queue begins.
    pub paused: bool,
    /// The number of jobs in each state.
    #[schema(
        value_type = std::collections::HashMap<String, u64>,
        example = json!({"queued": 2, "running": 1, "succeeded": 310, "failed": 0, "canceled": 0})
    )]
    pub jobs: &'a BTreeMap<&'static str, u64>,
}

impl<'a> JobQueueView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &["kind", "paused", "jobs"];

    /// Returns the representation.
    pub(crate) fn of(queue: &'a JobQueueStatus) -> Self {
        Self { kind: &queue.kind, paused: queue.paused, jobs: &queue.jobs }
    }
}

/// A comparison of the search index with the database.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyInput {
    /// Whether differences are repaired; true if it is absent.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub repair: bool,
}

const fn yes() -> bool {
    true
}

impl Default for VerifyInput {
    fn default() -> Self {
        Self { repair: true }
    }
}
