//! The outbox: a log in the order of commits, and the cursors that consumers share under a lease.
//!
//! On a database with many writers, a number that is assigned at the insert says nothing about when the row becomes
//! visible: events of a slow transaction would slip behind a reader that has already passed their number. There, rows
//! are inserted without a position (`seq IS NULL`), and a sequencer assigns positions to those that have committed.
//! Writers never wait for it or for each other.

use std::time::Duration;

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::common::Actor;
use ecom_core::id::EventId;
use ecom_core::platform::{Event, EventBatch, EventKind, OutboxPosition};
use ecom_core::port::{Lease, OutboxCursor, OutboxRepository};
use ecom_core::{Entity, Error, Result};

use crate::sql::engine::builder::{Builder, case_size};
use crate::sql::engine::columns::{Column, Table};
use crate::sql::engine::dialect::Sql;
use crate::sql::engine::repository::SqlRepository;
use crate::sql::engine::value::{Row, Value};

/// The columns of the log.
static EVENTS: Table<Event> = Table {
    name: "outbox_events",
    entity: Entity::Event,
    columns: &[
        Column::kept("seq"),
        Column::fixed("id", |e| e.id.into()),
        Column::fixed("kind", |e| e.kind.as_str().into()),
        Column::fixed("aggregate_id", |e| e.aggregate_id.into()),
        Column::fixed("revision", |e| e.revision.into()),
        Column::json("data", |e| Value::json(&e.data)),
        Column::fixed("occurred_at", |e| e.occurred_at.into()),
        Column::fixed("actor", |e| e.actor.as_str().into()),
    ],
    unique: &[],
    parent: None,
};

/// The columns of cursors. Only statements of their own write them.
static CURSORS: Table<Lease> = Table {
    name: "outbox_cursors",
    entity: Entity::Event,
    columns: &[Column::kept("holder"), Column::kept("fence"), Column::kept("expires_at"), Column::kept("seq")],
    unique: &[],
    parent: None,
};

static READ: Sql = Sql::of(&EVENTS, "SELECT {*} FROM outbox_events WHERE seq > $1 ORDER BY seq LIMIT $2");
static FIND: Sql = Sql::new("SELECT seq FROM outbox_events WHERE id = $1 AND seq IS NOT NULL");
static OLDEST: Sql = Sql::new("SELECT occurred_at FROM outbox_events WHERE seq IS NOT NULL ORDER BY seq LIMIT 1");
static HEAD: Sql = Sql::new("SELECT {outbox_head}");
static HORIZON: Sql = Sql::new("SELECT coalesce((SELECT MIN(seq) - 1 FROM outbox_events), {outbox_head})");
static PENDING: Sql = Sql::new("SELECT n FROM outbox_events WHERE seq IS NULL LIMIT 1");
// A statement of its own: one sequencer runs at a time, and its next statement sees all positions that the previous one
// assigned.
static LOCK_HEAD: Sql = Sql::new("SELECT seq FROM outbox_head WHERE id = 1 FOR UPDATE");
// Events of one aggregate have ascending `n`, since its row is locked before they are written.
static UNPLACED: Sql = Sql::new("SELECT n FROM outbox_events WHERE seq IS NULL ORDER BY n LIMIT $1");
static MOVE_HEAD: Sql = Sql::new("UPDATE outbox_head SET seq = $1 WHERE id = 1");
static CURSOR: Sql = Sql::of(&CURSORS, "SELECT {*} FROM outbox_cursors WHERE consumer = $1{for_update}");
// The new cursor belongs to no holder, so that the process that inserts it acquires it like every other process.
static NEW_CURSOR: Sql = Sql::new(
    "INSERT INTO outbox_cursors (consumer, holder, fence, expires_at, seq) VALUES ($1, '', 0, $2, 0) {outbox_if_new}",
);
static TAKE: Sql =
    Sql::new("UPDATE outbox_cursors SET holder = $2, fence = $3, expires_at = $4 WHERE consumer = $1 AND fence = $5");
static ADVANCE: Sql = Sql::new("UPDATE outbox_cursors SET seq = $4 WHERE consumer = $1 AND holder = $2 AND fence = $3");
// A lease without a holder is free, as that of a new cursor is. The time of the release is kept, because the metrics
// show which work was done recently.
static RELEASE: Sql = Sql::new(
    "UPDATE outbox_cursors SET holder = '', expires_at = $4 WHERE consumer = $1 AND holder = $2 AND fence = $3",
);
static ALL_CURSORS: Sql = Sql::new("SELECT consumer, seq, expires_at FROM outbox_cursors ORDER BY consumer");
// Trims only from the oldest event on, so that the log has no holes and the horizon describes all that is gone.
static TRIM: Sql = Sql::new(
    "DELETE FROM outbox_events WHERE seq < coalesce((SELECT m.seq FROM (SELECT MIN(seq) AS seq FROM outbox_events \
     WHERE occurred_at >= $1) m), 9223372036854775807)",
);

/// The outbox of a SQL database.
pub type SqlOutbox<'c> = SqlRepository<'c, dyn OutboxRepository>;

/// The maximum number of events to which one statement assigns positions.
const SEQUENCED_AT_ONCE: usize = 128;

impl SqlOutbox<'_> {
    async fn position(&mut self, sql: &'static Sql) -> Result<OutboxPosition> {
        let row = self.0.fetch_optional(sql, Vec::new()).await?;
        let row = row
            .ok_or(Error::Internal { context: "reading the head of the outbox, whose row is missing", source: None })?;
        Ok(OutboxPosition { seq: row.i64(0)? })
    }
}

fn position(r: &Row) -> Result<OutboxPosition> {
    Ok(OutboxPosition { seq: r.i64(const { EVENTS.at("seq") })? })
}

/// Reads an event, or returns `None` if this release does not know its kind: a newer release wrote it.
fn read_event(r: &Row) -> Result<Option<Event>> {
    let Some(kind) = EventKind::parse(r.text(const { EVENTS.at("kind") })?) else { return Ok(None) };
    Ok(Some(Event {
        id: EventId(r.uuid(const { EVENTS.at("id") })?),
        kind,
        aggregate_id: r.uuid(const { EVENTS.at("aggregate_id") })?,
        revision: r.i64(const { EVENTS.at("revision") })?,
        data: r.json(const { EVENTS.at("data") })?,
        occurred_at: r.time(const { EVENTS.at("occurred_at") })?,
        actor: Actor::new(r.text(const { EVENTS.at("actor") })?),
    }))
}

/// Reads a row of [`ALL_CURSORS`].
fn read_cursor(r: &Row) -> Result<OutboxCursor> {
    let position = OutboxPosition { seq: r.i64(1)? };
    Ok(OutboxCursor { consumer: r.string(0)?, position, lease_ends: r.time(2)? })
}

#[async_trait]
impl OutboxRepository for SqlOutbox<'_> {
    async fn append(&mut self, events: &[Event]) -> Result<()> {
        EVENTS.insert(&mut self.0, events).await
    }

    async fn read(&mut self, after: OutboxPosition, limit: u32) -> Result<EventBatch> {
        let args = vec![after.seq.into(), i64::from(limit).into()];
        let rows = self.0.fetch_all(&READ, args).await?;
        let mut batch =
            EventBatch { events: Vec::with_capacity(rows.len()), end: after, full: rows.len() >= limit as usize };
        for r in &rows {
            batch.end = position(r)?;
            batch.events.extend(read_event(r)?.map(|event| (batch.end, event)));
        }
        Ok(batch)
    }

    async fn find(&mut self, id: EventId) -> Result<Option<OutboxPosition>> {
        let row = self.0.fetch_optional(&FIND, vec![id.into()]).await?;
        row.map(|r| Ok(OutboxPosition { seq: r.i64(0)? })).transpose()
    }

    async fn oldest(&mut self) -> Result<Option<Timestamp>> {
        let row = self.0.fetch_optional(&OLDEST, Vec::new()).await?;
        row.map(|r| r.time(0)).transpose()
    }

    async fn head(&mut self) -> Result<OutboxPosition> {
        self.position(&HEAD).await
    }

    async fn horizon(&mut self) -> Result<OutboxPosition> {
        self.position(&HORIZON).await
    }

    async fn pending(&mut self) -> Result<bool> {
        if !self.0.dialect().sequences_outbox {
            return Ok(false);
        }
        Ok(self.0.fetch_optional(&PENDING, Vec::new()).await?.is_some())
    }

    async fn sequence(&mut self, limit: u32) -> Result<u64> {
        if !self.0.dialect().sequences_outbox {
            return Ok(0);
        }
        let mut seq = self.position(&LOCK_HEAD).await?.seq;
        let rows = self.0.fetch_all(&UNPLACED, vec![i64::from(limit).into()]).await?;
        let unplaced = rows.iter().map(|r| r.i64(0)).collect::<Result<Vec<i64>>>()?;
        for chunk in unplaced.chunks(SEQUENCED_AT_ONCE) {
            let mut b = Builder::new("UPDATE outbox_events SET seq = CASE n");
            for i in 0..case_size(chunk.len()) {
                let i = i.min(chunk.len() - 1);
                b.push(" WHEN ").bind(chunk[i]).push(" THEN ").bind(seq + 1 + i64::try_from(i).unwrap_or(0));
            }
            b.push(" ELSE seq END WHERE n IN ").list(chunk);
            let (text, args) = b.done();
            self.0.execute(text, args).await?;
            seq += i64::try_from(chunk.len()).unwrap_or(0);
        }
        if !unplaced.is_empty() {
            self.0.execute(&MOVE_HEAD, vec![seq.into()]).await?;
        }
        Ok(unplaced.len() as u64)
    }

    async fn acquire(&mut self, consumer: &str, holder: &str, now: Timestamp, ttl: Duration) -> Result<Option<Lease>> {
        let ttl = chrono::TimeDelta::from_std(ttl).map_err(|e| Error::internal("computing the end of a lease", e))?;
        let until = now + ttl;
        let mut found = self.0.fetch_optional(&CURSOR, vec![consumer.into()]).await?;
        if found.is_none() {
            self.0.execute(&NEW_CURSOR, vec![consumer.into(), Timestamp::UNIX_EPOCH.into()]).await?;
            found = self.0.fetch_optional(&CURSOR, vec![consumer.into()]).await?;
        }
        let Some(r) = found else { return Ok(None) };
        let fence = r.i64(const { CURSORS.at("fence") })?;
        let held_by = r.text(const { CURSORS.at("holder") })?;
        let is_free = held_by.is_empty() || r.time(const { CURSORS.at("expires_at") })? <= now;
        let ours = held_by == holder;
        if !ours && !is_free {
            return Ok(None);
        }
        // Every later statement names the fence, so that of two processes the second one changes nothing.
        let next = if ours && !is_free { fence } else { fence + 1 };
        let args = vec![consumer.into(), holder.into(), next.into(), until.into(), fence.into()];
        let taken = self.0.execute(&TAKE, args).await? == 1;
        let position = OutboxPosition { seq: r.i64(const { CURSORS.at("seq") })? };
        let lease = || Lease { consumer: consumer.to_owned(), holder: holder.to_owned(), fence: next, position };
        Ok(taken.then(lease))
    }

    async fn advance(&mut self, lease: &Lease, to: OutboxPosition) -> Result<bool> {
        let args = vec![Value::from(&lease.consumer), Value::from(&lease.holder), lease.fence.into(), to.seq.into()];
        Ok(self.0.execute(&ADVANCE, args).await? == 1)
    }

    async fn release(&mut self, lease: &Lease, now: Timestamp) -> Result<()> {
        let args = vec![Value::from(&lease.consumer), Value::from(&lease.holder), lease.fence.into(), now.into()];
        self.0.execute(&RELEASE, args).await?;
        Ok(())
    }

    async fn cursors(&mut self) -> Result<Vec<OutboxCursor>> {
        let rows = self.0.fetch_all(&ALL_CURSORS, Vec::new()).await?;
        rows.iter().map(read_cursor).collect()
    }

    async fn trim(&mut self, before: Timestamp) -> Result<u64> {
        Ok(self.0.execute(&TRIM, vec![before.into()]).await?)
    }
}
