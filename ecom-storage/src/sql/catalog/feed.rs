//! The states of feeds.

use async_trait::async_trait;
use ecom_core::catalog::{FeedState, FeedVersion};
use ecom_core::id::{FeedId, JobId};
use ecom_core::port::FeedRepository;
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, MAX_LIST, lock_rows};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::Row;

/// The columns of feeds.
pub static FEEDS: Table<FeedState> = Table {
    name: "feeds",
    entity: Entity::Feed,
    columns: &[
        Column::fixed("id", |f| f.id.into()),
        Column::fixed("name", |f| f.name.as_str().into()),
        Column::field("settings", |f| f.settings.as_slice().into()),
        Column::field("source_version", |f| f.version.as_ref().map(FeedVersion::as_str).into()),
        Column::field("begun_version", |f| f.begun.as_ref().map(FeedVersion::as_str).into()),
        Column::field("done", |f| i64::try_from(f.done).unwrap_or(i64::MAX).into()),
        Column::field("running", |f| i32::from(f.running).into()),
        Column::field("polled_at", |f| f.polled_at.into()),
        Column::field("imported_at", |f| f.imported_at.into()),
        Column::field("next_poll_at", |f| f.next_poll_at.into()),
        Column::field("last_job", |f| f.last_job.map(|job| job.0).into()),
        Column::field("failures", |f| i64::from(f.failures).into()),
        Column::field("last_error", |f| f.last_error.as_deref().into()),
        Column::Audit(|f| &f.audit),
    ],
    unique: &[Unique { index: "feeds_name", columns: &["name"], field: "name", value: |f| Some(f.name.clone()) }],
    parent: Some(("last_job", |f| f.last_job.map(|job| job.0))),
};

static WRITES: Versioned<FeedState> = Versioned::new(&FEEDS);
static GET: Sql = Sql::of(&FEEDS, "SELECT {*} FROM feeds WHERE id = $1");
static MANY: Sql = Sql::of(&FEEDS, "SELECT {*} FROM feeds WHERE id IN ");

fn read_feed(r: &Row) -> Result<FeedState> {
    let version = |text: Option<String>| text.and_then(FeedVersion::new);
    Ok(FeedState {
        id: FeedId(r.uuid(const { FEEDS.at("id") })?),
        name: r.string(const { FEEDS.at("name") })?,
        settings: r.bytes(const { FEEDS.at("settings") })?.to_vec(),
        version: version(r.opt_string(const { FEEDS.at("source_version") })?),
        begun: version(r.opt_string(const { FEEDS.at("begun_version") })?),
        done: r.count(const { FEEDS.at("done") })?,
        running: r.i32(const { FEEDS.at("running") })? != 0,
        polled_at: r.opt_time(const { FEEDS.at("polled_at") })?,
        imported_at: r.opt_time(const { FEEDS.at("imported_at") })?,
        next_poll_at: r.time(const { FEEDS.at("next_poll_at") })?,
        last_job: r.opt_uuid(const { FEEDS.at("last_job") })?.map(JobId),
        failures: u32::try_from(r.i64(const { FEEDS.at("failures") })?)
            .map_err(|e| Error::internal("reading a row", e))?,
        last_error: r.opt_string(const { FEEDS.at("last_error") })?,
        audit: read_audit(r, const { FEEDS.at("created_at") })?,
    })
}

/// The states of feeds of a SQL database.
pub type SqlFeeds<'c> = SqlRepository<'c, dyn FeedRepository>;

#[async_trait]
impl FeedRepository for SqlFeeds<'_> {
    async fn insert(&mut self, state: &FeedState) -> Result<()> {
        FEEDS.insert(&mut self.0, &[state]).await
    }

    async fn get(&mut self, id: FeedId) -> Result<Option<FeedState>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_feed).transpose()
    }

    async fn lock(&mut self, id: FeedId) -> Result<Option<FeedState>> {
        lock_rows(&mut self.0, "feeds", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn update(&mut self, before: &FeedState, after: &FeedState) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn get_many(&mut self, ids: &[FeedId]) -> Result<Vec<FeedState>> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(MAX_LIST) {
            let mut b = Builder::on(&MANY, self.0.dialect());
            b.list(some);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                found.push(read_feed(&row)?);
            }
        }
        Ok(found)
    }
}
