//! The audit log.

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::common::Actor;
use ecom_core::id::{AuditLogEntryId, CustomerId, UserId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{AuditLogEntry, AuditLogFilter};
use ecom_core::port::AuditLogRepository;
use ecom_core::{Entity, Result};

use crate::sql::engine::builder::{Builder, after_time, between, count, lock_rows, page};
use crate::sql::engine::columns::{Column, Table};
use crate::sql::engine::dialect::{Dialect, Sql};
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of the audit log.
static AUDIT_LOG: Table<AuditLogEntry> = Table {
    name: "audit_log",
    entity: Entity::AuditLogEntry,
    columns: &[
        Column::fixed("id", |e| e.id.into()),
        Column::fixed("action", |e| Value::from(&e.action)),
        Column::derived("entity", |e| e.entity().into()),
        Column::fixed("aggregate_id", |e| e.aggregate_id.into()),
        Column::fixed("customer_id", |e| e.customer_id.into()),
        Column::json("value_before", |e| Value::opt_json(e.before.as_ref())),
        Column::json("value_after", |e| Value::opt_json(e.after.as_ref())),
        Column::field("erased_at", |e| e.erased_at.into()),
        Column::fixed("occurred_at", |e| e.occurred_at.into()),
        Column::fixed("actor", |e| e.actor.as_str().into()),
    ],
    unique: &[],
    parent: None,
};

static GET: Sql = Sql::of(&AUDIT_LOG, "SELECT {*} FROM audit_log WHERE id = $1");
static SELECT: Sql = Sql::of(&AUDIT_LOG, "SELECT {*}");
static UPDATE: Sql = Sql::new("UPDATE audit_log SET value_after = $2 WHERE id = $1");
static ERASE_CUSTOMER: Sql = Sql::new(
    "UPDATE audit_log SET value_before = NULL, value_after = NULL, erased_at = $2 \
     WHERE customer_id = $1 AND entity <> 'user' AND erased_at IS NULL",
);
static OF_USER: Sql =
    Sql::of(&AUDIT_LOG, "SELECT {*} FROM audit_log WHERE aggregate_id = $1 AND entity = 'user' AND erased_at IS NULL");
static ERASE: Sql = Sql::new("UPDATE audit_log SET value_before = $2, value_after = $3, erased_at = $4 WHERE id = $1");
/// The users that are or were a customer.
static USERS_OF: Sql = Sql::new(
    "SELECT id FROM users WHERE customer_id = $1 \
     UNION SELECT aggregate_id FROM audit_log WHERE customer_id = $1 AND entity = 'user'",
);

fn read_entry(r: &Row) -> Result<AuditLogEntry> {
    Ok(AuditLogEntry {
        id: AuditLogEntryId(r.uuid(const { AUDIT_LOG.at("id") })?),
        action: r.string(const { AUDIT_LOG.at("action") })?,
        aggregate_id: r.uuid(const { AUDIT_LOG.at("aggregate_id") })?,
        customer_id: r.opt_uuid(const { AUDIT_LOG.at("customer_id") })?.map(CustomerId),
        before: r.json(const { AUDIT_LOG.at("value_before") })?,
        after: r.json(const { AUDIT_LOG.at("value_after") })?,
        erased_at: r.opt_time(const { AUDIT_LOG.at("erased_at") })?,
        occurred_at: r.time(const { AUDIT_LOG.at("occurred_at") })?,
        actor: Actor::new(r.string(const { AUDIT_LOG.at("actor") })?),
    })
}

/// Adds the conditions of a filter.
fn filtered(b: &mut Builder<'_>, filter: &AuditLogFilter) {
    b.push(" FROM audit_log WHERE 1 = 1");
    if let Some(actor) = &filter.actor {
        b.push(" AND actor = ").bind(actor.clone());
    }
    if let Some(entity) = &filter.entity {
        b.push(" AND entity = ").bind(entity.clone());
    }
    if let Some(action) = &filter.action {
        b.push(" AND action = ").bind(action.clone());
    }
    if let Some(id) = filter.aggregate_id {
        b.push(" AND aggregate_id = ").bind(id);
    }
    between(b, "occurred_at", filter.from, filter.until);
}

fn list_statement(
    dialect: &Dialect,
    filter: &AuditLogFilter,
    paging: &Paging,
) -> Result<(String, Vec<Value<'static>>)> {
    let mut b = Builder::on(&SELECT, dialect);
    filtered(&mut b, filter);
    after_time(&mut b, "occurred_at", true, paging)?;
    page(&mut b, "occurred_at DESC, id DESC", paging);
    Ok(b.done())
}

/// The audit log of a SQL database.
pub type SqlAuditLog<'c> = SqlRepository<'c, dyn AuditLogRepository>;

impl SqlAuditLog<'_> {
    async fn erase_entries_of(&mut self, user: uuid::Uuid, now: Timestamp) -> Result<()> {
        for row in self.0.fetch_all(&OF_USER, vec![user.into()]).await? {
            let erased = read_entry(&row)?.erased(now);
            let (before, after) = (Value::opt_json(erased.before.as_ref())?, Value::opt_json(erased.after.as_ref())?);
            self.0.execute(&ERASE, vec![erased.id.into(), before, after, erased.erased_at.into()]).await?;
        }
        Ok(())
    }
}

#[cfg(feature = "sqlite")]
impl crate::sql::SqlStorage {
    /// Returns the query plan of a list of entries, for tests.
    ///
    /// # Errors
    /// `Unavailable`, and those of the list.
    #[doc(hidden)]
    pub async fn explain_audit_log(&self, filter: &AuditLogFilter, paging: &Paging) -> Result<Vec<String>> {
        let (text, args) = list_statement(self.dialect(), filter, paging)?;
        self.explain(&text, args).await
    }
}

#[async_trait]
impl AuditLogRepository for SqlAuditLog<'_> {
    async fn append(&mut self, entries: &[AuditLogEntry]) -> Result<()> {
        AUDIT_LOG.insert(&mut self.0, entries).await
    }

    async fn lock(&mut self, id: AuditLogEntryId) -> Result<Option<AuditLogEntry>> {
        lock_rows(&mut self.0, "audit_log", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_entry).transpose()
    }

    async fn update(&mut self, entry: &AuditLogEntry) -> Result<()> {
        self.0.execute(&UPDATE, vec![entry.id.into(), Value::opt_json(entry.after.as_ref())?]).await?;
        Ok(())
    }

    async fn list(&mut self, filter: &AuditLogFilter, paging: &Paging) -> Result<Page<AuditLogEntry>> {
        let (text, args) = list_statement(self.0.dialect(), filter, paging)?;
        let entries = self.0.fetch_all(text, args).await?.iter().map(read_entry).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(entries, paging.limit(), |e| Keyset {
            sort: "occurred_desc".to_owned(),
            key: SortKey::Int(e.occurred_at.timestamp_micros()),
            id: e.id.0,
        }))
    }

    async fn count(&mut self, filter: &AuditLogFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| filtered(b, filter)).await
    }

    async fn erase_customer(&mut self, id: CustomerId, now: Timestamp) -> Result<()> {
        self.0.execute(&ERASE_CUSTOMER, vec![id.into(), now.into()]).await?;
        Ok(())
    }

    async fn erase_users_of(&mut self, customer: CustomerId, now: Timestamp) -> Result<()> {
        for user in self.0.fetch_all(&USERS_OF, vec![customer.into()]).await? {
            self.erase_entries_of(user.uuid(0)?, now).await?;
        }
        Ok(())
    }

    async fn erase_user(&mut self, id: UserId, now: Timestamp) -> Result<()> {
        self.erase_entries_of(id.0, now).await
    }
}
