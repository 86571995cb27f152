//! Webhooks and the log of their deliveries.
//!
//! A pending delivery has a time in the column `due_at` unless it waits for an earlier one of the same aggregate. So
//! the index of these times finds those that can be attempted, however many others wait behind them.

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::id::{EventId, WebhookDeliveryId, WebhookId};
use ecom_core::paging::{Keyset, Page, Paging, SortKey, Total};
use ecom_core::platform::{
    EventKind, SealedSecret, Webhook, WebhookDelivery, WebhookDeliveryFilter, WebhookHealth, WebhookOffReason,
};
use ecom_core::port::{WebhookDeliveryRepository, WebhookRepository};
use ecom_core::{Entity, Error, Result};
use uuid::Uuid;

use crate::sql::engine::builder::{Builder, MAX_LIST, bad_cursor, count, delete_rows, lock_rows, page};
use crate::sql::engine::columns::{Column, Table, Unique, Versioned, read_audit};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of webhooks.
static WEBHOOKS: Table<Webhook> = Table {
    name: "webhooks",
    entity: Entity::Webhook,
    columns: &[
        Column::fixed("id", |w| w.id.into()),
        Column::field("url", |w| w.url.as_str().into()),
        Column::field("description", |w| w.description.as_deref().into()),
        Column::json("events", |w| Value::json(&w.events)),
        Column::field("enabled", |w| i32::from(w.enabled).into()),
        Column::field("off_reason", |w| w.off_reason.map(WebhookOffReason::as_str).into()),
        Column::field("secret", |w| w.secret.0.as_slice().into()),
        Column::json("previous_secrets", |w| Value::json(&w.previous_secrets)),
        // An update leaves the health to `note_health`.
        Column::fixed("failures", |w| i64::from(w.health.failures).into()),
        Column::fixed("failing_since", |w| w.health.failing_since.into()),
        Column::fixed("failed_at", |w| w.health.failed_at.into()),
        Column::fixed("rests_until", |w| w.health.rests_until.into()),
        Column::fixed("succeeded_at", |w| w.health.succeeded_at.into()),
        Column::Audit(|w| &w.audit),
    ],
    unique: &[],
    parent: None,
};

/// The columns of deliveries.
pub static DELIVERIES: Table<WebhookDelivery> = Table {
    name: "webhook_deliveries",
    entity: Entity::WebhookDelivery,
    columns: &[
        Column::fixed("id", |d| d.id.into()),
        Column::fixed("webhook_id", |d| d.webhook_id.into()),
        Column::fixed("event_id", |d| d.event_id.into()),
        Column::fixed("kind", |d| d.kind.as_str().into()),
        Column::fixed("aggregate_id", |d| d.aggregate_id.into()),
        Column::fixed("seq", |d| d.seq.into()),
        Column::fixed("payload", |d| d.payload.as_str().into()),
        Column::field("state", |d| d.state.into()),
        Column::field("attempts", |d| i64::from(d.attempts).into()),
        Column::field("due_at", |d| d.due_at.into()),
        Column::field("holder", |d| d.holder.into()),
        Column::field("attempted_at", |d| d.attempted_at.into()),
        Column::field("duration_ms", |d| d.duration_ms.into()),
        Column::field("status", |d| d.status.map(i32::from).into()),
        Column::field("error", |d| d.error.as_deref().into()),
        Column::field("response", |d| d.response.as_deref().into()),
        Column::field("finished_at", |d| d.finished_at.into()),
        Column::Audit(|d| &d.audit),
    ],
    unique: &[Unique {
        index: "webhook_deliveries_event",
        columns: &["event_id", "webhook_id"],
        field: "event_id",
        value: |d| Some(d.event_id.to_string()),
    }],
    parent: Some(("webhook_id", |d| Some(d.webhook_id.0))),
};

static WRITES: Versioned<Webhook> = Versioned::new(&WEBHOOKS);
static GET: Sql = Sql::of(&WEBHOOKS, "SELECT {*} FROM webhooks WHERE id = $1");
static SELECT: Sql = Sql::of(&WEBHOOKS, "SELECT {*} FROM webhooks WHERE 1 = 1");
static ENABLED: Sql = Sql::of(&WEBHOOKS, "SELECT {*} FROM webhooks WHERE enabled = 1 ORDER BY id");
static DUE: Sql = Sql::new(
    "SELECT w.id FROM webhooks w WHERE w.enabled = 1 AND (w.rests_until IS NULL OR w.rests_until <= $1) \
     AND EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id AND d.due_at <= $1) ORDER BY w.id",
);
static NOTE_HEALTH: Sql = Sql::new(
    "UPDATE webhooks SET failures = $2, failing_since = $3, failed_at = $4, rests_until = $5, succeeded_at = $6 \
     WHERE id = $1",
);
static DELETE: Sql = Sql::new("DELETE FROM webhooks WHERE id = $1");
/// The most deliveries that one statement removes together with their webhook.
const DELETED_AT_ONCE: i64 = 1_000;

static DELIVERY_WRITES: Versioned<WebhookDelivery> = Versioned::new(&DELIVERIES);
static GET_DELIVERY: Sql = Sql::of(&DELIVERIES, "SELECT {*} FROM webhook_deliveries WHERE id = $1");
static SELECT_DELIVERIES: Sql = Sql::of(&DELIVERIES, "SELECT {*} FROM webhook_deliveries WHERE 1 = 1");
static DUE_DELIVERIES: Sql = Sql::of(
    &DELIVERIES,
    "SELECT {*} FROM webhook_deliveries WHERE webhook_id = $1 AND due_at <= $2 ORDER BY due_at, seq LIMIT $3",
);
/// The order and the comparison of `due_at` with the earliest time are those of an index, so that it reads two of its
/// entries, however many deliveries of the aggregate wait.
static NEXT: Sql = Sql::of(
    &DELIVERIES,
    "SELECT {*} FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending' AND aggregate_id = $2 \
     AND due_at IS NULL AND NOT EXISTS (SELECT 1 FROM webhook_deliveries o WHERE o.webhook_id = $1 \
     AND o.state = 'pending' AND o.aggregate_id = $2 AND o.due_at >= $3) ORDER BY due_at, seq, id LIMIT 1",
);
static ORPHANS: Sql = Sql::of(
    &DELIVERIES,
    "SELECT {*} FROM webhook_deliveries d WHERE d.state = 'pending' AND d.due_at IS NULL AND NOT EXISTS (SELECT 1 \
     FROM webhook_deliveries o WHERE o.webhook_id = d.webhook_id AND o.state = 'pending' \
     AND o.aggregate_id = d.aggregate_id AND (o.due_at IS NOT NULL OR o.seq < d.seq \
     OR (o.seq = d.seq AND o.id < d.id))) ORDER BY d.id LIMIT $1",
);
static HASTEN: Sql = Sql::new(
    "UPDATE webhook_deliveries SET due_at = $2, version = version + 1, updated_at = $2 \
     WHERE webhook_id = $1 AND due_at > $2 AND holder IS NULL",
);

fn number(n: i64) -> Result<u32> {
    u32::try_from(n).map_err(|e| Error::internal("reading a row", e))
}

fn read_webhook(r: &Row) -> Result<Webhook> {
    let events: Vec<String> = r.json(const { WEBHOOKS.at("events") })?;
    let off_reason = r.opt_text(const { WEBHOOKS.at("off_reason") })?;
    Ok(Webhook {
        id: WebhookId(r.uuid(const { WEBHOOKS.at("id") })?),
        url: r.string(const { WEBHOOKS.at("url") })?,
        description: r.opt_string(const { WEBHOOKS.at("description") })?,
        // A newer release may know more kinds and reasons.
        events: events.iter().filter_map(|kind| EventKind::parse(kind)).collect(),
        enabled: r.i32(const { WEBHOOKS.at("enabled") })? != 0,
        off_reason: off_reason.and_then(WebhookOffReason::parse),
        secret: SealedSecret(r.bytes(const { WEBHOOKS.at("secret") })?.to_vec()),
        previous_secrets: r.json(const { WEBHOOKS.at("previous_secrets") })?,
        health: WebhookHealth {
            failures: number(r.i64(const { WEBHOOKS.at("failures") })?)?,
            failing_since: r.opt_time(const { WEBHOOKS.at("failing_since") })?,
            failed_at: r.opt_time(const { WEBHOOKS.at("failed_at") })?,
            rests_until: r.opt_time(const { WEBHOOKS.at("rests_until") })?,
            succeeded_at: r.opt_time(const { WEBHOOKS.at("succeeded_at") })?,
        },
        audit: read_audit(r, const { WEBHOOKS.at("created_at") })?,
    })
}

fn read_delivery(r: &Row) -> Result<WebhookDelivery> {
    let status = r.opt_i32(const { DELIVERIES.at("status") })?;
    Ok(WebhookDelivery {
        id: WebhookDeliveryId(r.uuid(const { DELIVERIES.at("id") })?),
        webhook_id: WebhookId(r.uuid(const { DELIVERIES.at("webhook_id") })?),
        event_id: EventId(r.uuid(const { DELIVERIES.at("event_id") })?),
        kind: r.string(const { DELIVERIES.at("kind") })?,
        aggregate_id: r.uuid(const { DELIVERIES.at("aggregate_id") })?,
        seq: r.i64(const { DELIVERIES.at("seq") })?,
        payload: r.string(const { DELIVERIES.at("payload") })?,
        state: r.stored(const { DELIVERIES.at("state") })?,
        attempts: number(r.i64(const { DELIVERIES.at("attempts") })?)?,
        due_at: r.opt_time(const { DELIVERIES.at("due_at") })?,
        holder: r.opt_uuid(const { DELIVERIES.at("holder") })?,
        attempted_at: r.opt_time(const { DELIVERIES.at("attempted_at") })?,
        duration_ms: r.opt_i64(const { DELIVERIES.at("duration_ms") })?,
        status: status.map(u16::try_from).transpose().map_err(|e| Error::internal("reading a row", e))?,
        error: r.opt_string(const { DELIVERIES.at("error") })?,
        response: r.opt_string(const { DELIVERIES.at("response") })?,
        finished_at: r.opt_time(const { DELIVERIES.at("finished_at") })?,
        audit: read_audit(r, const { DELIVERIES.at("created_at") })?,
    })
}

/// Adds the condition that a row comes after the position of a cursor, in a list whose newest rows come first.
fn after(b: &mut Builder<'_>, paging: &Paging) -> Result<()> {
    if let Paging::Keyset { after: Some(k), .. } = paging {
        if k.key != SortKey::Id {
            return Err(bad_cursor());
        }
        b.push(" AND id < ").bind(k.id);
    }
    Ok(())
}

/// Returns the position of a row in a list whose newest rows come first.
fn keyset(id: Uuid) -> Keyset {
    Keyset { sort: "created_desc".to_owned(), key: SortKey::Id, id }
}

/// The webhooks of a SQL database.
pub type SqlWebhooks<'c> = SqlRepository<'c, dyn WebhookRepository>;

#[async_trait]
impl WebhookRepository for SqlWebhooks<'_> {
    async fn insert(&mut self, webhook: &Webhook) -> Result<()> {
        WEBHOOKS.insert(&mut self.0, &[webhook]).await
    }

    async fn get(&mut self, id: WebhookId) -> Result<Option<Webhook>> {
        let row = self.0.fetch_optional(&GET, vec![id.into()]).await?;
        row.as_ref().map(read_webhook).transpose()
    }

    async fn lock(&mut self, id: WebhookId) -> Result<Option<Webhook>> {
        lock_rows(&mut self.0, "webhooks", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn lock_many(&mut self, ids: &[WebhookId]) -> Result<Vec<Webhook>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        lock_rows(&mut self.0, "webhooks", "id", ids).await?;
        let mut b = Builder::on(&SELECT, self.0.dialect());
        b.push(" AND id IN ").list(ids).push(" ORDER BY id");
        let (text, args) = b.done();
        self.0.fetch_all(text, args).await?.iter().map(read_webhook).collect()
    }

    async fn enabled(&mut self) -> Result<Vec<Webhook>> {
        self.0.fetch_all(&ENABLED, vec![]).await?.iter().map(read_webhook).collect()
    }

    async fn due(&mut self, now: Timestamp) -> Result<Vec<WebhookId>> {
        let rows = self.0.fetch_all(&DUE, vec![now.into()]).await?;
        rows.iter().map(|r| Ok(WebhookId(r.uuid(0)?))).collect()
    }

    async fn list(&mut self, paging: &Paging) -> Result<Page<Webhook>> {
        let mut b = Builder::on(&SELECT, self.0.dialect());
        after(&mut b, paging)?;
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let webhooks = self.0.fetch_all(text, args).await?.iter().map(read_webhook).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(webhooks, paging.limit(), |w| keyset(w.id.0)))
    }

    async fn count(&mut self, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| {
            b.push(" FROM webhooks");
        })
        .await
    }

    async fn update(&mut self, before: &Webhook, after: &Webhook) -> Result<()> {
        WRITES.update(&mut self.0, before, after).await
    }

    async fn note_health(&mut self, id: WebhookId, health: &WebhookHealth) -> Result<()> {
        let WebhookHealth { failures, failing_since, failed_at, rests_until, succeeded_at } = *health;
        let args = vec![
            id.into(),
            i64::from(failures).into(),
            failing_since.into(),
            failed_at.into(),
            rests_until.into(),
            succeeded_at.into(),
        ];
        self.0.execute(&NOTE_HEALTH, args).await?;
        Ok(())
    }

    async fn delete(&mut self, id: WebhookId) -> Result<()> {
        // In parts, since one statement that removes very many deliveries would exceed its time limit.
        loop {
            let mut b = Builder::new("SELECT id FROM webhook_deliveries WHERE webhook_id = ");
            b.bind(id).limit(DELETED_AT_ONCE);
            let (text, args) = b.done();
            let rows = self.0.fetch_all(text, args).await?;
            let ids = rows.iter().map(|r| r.uuid(0)).collect::<Result<Vec<_>>>()?;
            if ids.is_empty() {
                break;
            }
            delete_rows(&mut self.0, "webhook_deliveries", "id", &ids).await?;
        }
        self.0.execute(&DELETE, vec![id.into()]).await?;
        Ok(())
    }
}

/// Adds the conditions of a filter.
fn filtered(b: &mut Builder<'_>, filter: &WebhookDeliveryFilter) {
    if let Some(webhook) = filter.webhook_id {
        b.push(" AND webhook_id = ").bind(webhook);
    }
    if let Some(state) = filter.state {
        b.push(" AND state = ").bind(state);
    }
    if let Some(kind) = &filter.kind {
        b.push(" AND kind = ").bind(kind.clone());
    }
    if let Some(event) = filter.event_id {
        b.push(" AND event_id = ").bind(event);
    }
}

/// The deliveries of webhooks of a SQL database.
pub type SqlWebhookDeliveries<'c> = SqlRepository<'c, dyn WebhookDeliveryRepository>;

#[async_trait]
impl WebhookDeliveryRepository for SqlWebhookDeliveries<'_> {
    async fn insert(&mut self, deliveries: &[WebhookDelivery]) -> Result<()> {
        DELIVERIES.insert(&mut self.0, deliveries).await
    }

    async fn get(&mut self, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>> {
        let row = self.0.fetch_optional(&GET_DELIVERY, vec![id.into()]).await?;
        row.as_ref().map(read_delivery).transpose()
    }

    async fn lock(&mut self, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>> {
        lock_rows(&mut self.0, "webhook_deliveries", "id", &[id]).await?;
        // A statement of its own, since the read must see the change that the lock waited for.
        self.get(id).await
    }

    async fn known(&mut self, webhook: WebhookId, events: &[EventId]) -> Result<Vec<EventId>> {
        let mut found = Vec::new();
        for some in events.chunks(MAX_LIST - 1) {
            let mut b = Builder::new("SELECT event_id FROM webhook_deliveries WHERE webhook_id = ");
            b.bind(webhook).push(" AND event_id IN ").list(some);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                found.push(EventId(row.uuid(0)?));
            }
        }
        Ok(found)
    }

    async fn pending_of(&mut self, webhook: WebhookId, aggregates: &[Uuid]) -> Result<Vec<Uuid>> {
        let mut found = Vec::new();
        for some in aggregates.chunks(MAX_LIST - 1) {
            let mut b = Builder::new("SELECT DISTINCT aggregate_id FROM webhook_deliveries WHERE webhook_id = ");
            b.bind(webhook).push(" AND state = 'pending' AND aggregate_id IN ").list(some);
            let (text, args) = b.done();
            for row in self.0.fetch_all(text, args).await? {
                found.push(row.uuid(0)?);
            }
        }
        Ok(found)
    }

    async fn due(&mut self, webhook: WebhookId, now: Timestamp, limit: u32) -> Result<Vec<WebhookDelivery>> {
        let args = vec![webhook.into(), now.into(), i64::from(limit).into()];
        self.0.fetch_all(&DUE_DELIVERIES, args).await?.iter().map(read_delivery).collect()
    }

    async fn next_of(&mut self, webhook: WebhookId, aggregate: Uuid) -> Result<Option<WebhookDelivery>> {
        let args = vec![webhook.into(), aggregate.into(), Timestamp::UNIX_EPOCH.into()];
        let row = self.0.fetch_optional(&NEXT, args).await?;
        row.as_ref().map(read_delivery).transpose()
    }

    async fn orphans(&mut self, limit: u32) -> Result<Vec<WebhookDelivery>> {
        self.0.fetch_all(&ORPHANS, vec![i64::from(limit).into()]).await?.iter().map(read_delivery).collect()
    }

    async fn update(&mut self, before: &WebhookDelivery, after: &WebhookDelivery) -> Result<()> {
        DELIVERY_WRITES.update(&mut self.0, before, after).await
    }

    async fn hasten(&mut self, webhook: WebhookId, now: Timestamp) -> Result<()> {
        self.0.execute(&HASTEN, vec![webhook.into(), now.into()]).await?;
        Ok(())
    }

    async fn list(&mut self, filter: &WebhookDeliveryFilter, paging: &Paging) -> Result<Page<WebhookDelivery>> {
        let mut b = Builder::on(&SELECT_DELIVERIES, self.0.dialect());
        filtered(&mut b, filter);
        after(&mut b, paging)?;
        page(&mut b, "id DESC", paging);
        let (text, args) = b.done();
        let found = self.0.fetch_all(text, args).await?.iter().map(read_delivery).collect::<Result<Vec<_>>>()?;
        Ok(Page::from_overfetch(found, paging.limit(), |d| keyset(d.id.0)))
    }

    async fn count(&mut self, filter: &WebhookDeliveryFilter, bound: u64) -> Result<Total> {
        count(&mut self.0, bound, |b| {
            b.push(" FROM webhook_deliveries WHERE 1 = 1");
            filtered(b, filter);
        })
        .await
    }

    async fn trim(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        // Two statements, since MySQL allows no limit in a subquery.
        let mut b = Builder::new("SELECT id FROM webhook_deliveries WHERE created_at < ");
        b.bind(before).push(" ORDER BY created_at").limit(i64::from(limit));
        let (text, args) = b.done();
        let rows = self.0.fetch_all(text, args).await?;
        let ids = rows.iter().map(|r| r.uuid(0)).collect::<Result<Vec<_>>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        let mut b = Builder::new("DELETE FROM webhook_deliveries WHERE id IN ");
        b.list(&ids);
        let (text, args) = b.done();
        Ok(self.0.execute(text, args).await?)
    }
}
