//! The representation of feeds.

use chrono::{DateTime, Utc};
use ecom_core::catalog::FeedStatus;
use serde::Serialize;
use uuid::Uuid;

/// A feed: a source that the shop polls and imports.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct FeedView<'a> {
    /// The id of the feed, which follows from its name.
    pub id: Uuid,
    /// The name of the feed.
    #[schema(example = "erp")]
    pub name: &'a str,
    /// The kind of the records: `products`, `categories`, `customers` or `carts`.
    #[schema(example = "products")]
    pub kind: &'static str,
    /// Where the source is, without passwords and without the query of a URL.
    #[schema(example = "https://erp.example.com/products.csv")]
    pub location: String,
    /// The time from the end of a poll to the next one, in seconds.
    #[schema(example = 300)]
    pub interval_seconds: u64,
    /// Whether an import of the source runs.
    pub running: bool,
    /// When the source was last polled (RFC 3339, UTC); null before the first poll.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub polled_at: Option<DateTime<Utc>>,
    /// When an import of the source last reached its end (RFC 3339, UTC); null before.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub imported_at: Option<DateTime<Utc>>,
    /// The time of the next poll (RFC 3339, UTC). While an import runs, it is the time after which the import is
    /// repeated if its process has died.
    #[serde(serialize_with = "crate::dto::time")]
    pub next_poll_at: DateTime<Utc>,
    /// The job of the last import, which has its counters; null before the first import, and after the job was removed.
    pub last_job_id: Option<Uuid>,
    /// How many polls in a row have failed. An import that runs counts as one of them until its end.
    pub failures: u32,
    /// Why the last poll has failed; null if it has not.
    pub last_error: Option<&'a str>,
    /// The version of the state of the feed, which increases with every change.
    pub version: i64,
    /// When the state of the feed was created (RFC 3339, UTC); before that, the time of the request.
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the state of the feed was last changed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
}

impl<'a> FeedView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "name",
        "kind",
        "location",
        "interval_seconds",
        "running",
        "polled_at",
        "imported_at",
        "next_poll_at",
        "last_job_id",
        "failures",
        "last_error",
        "version",
        "created_at",
        "updated_at",
    ];

    /// Returns the representation.
    pub(crate) fn of(FeedStatus { feed, state, .. }: &'a FeedStatus) -> Self {
        Self {
            id: state.id.0,
            name: feed.name(),
            kind: feed.kind().as_str(),
            location: feed.source().location(),
            interval_seconds: feed.interval().as_secs(),
            running: state.running,
            polled_at: state.polled_at,
            imported_at: state.imported_at,
            next_poll_at: state.next_poll_at,
            last_job_id: state.last_job.map(|id| id.0),
            failures: state.failures,
            last_error: state.last_error.as_deref(),
            version: state.audit.version,
            created_at: state.audit.created_at,
            updated_at: state.audit.updated_at,
        }
    }
}
