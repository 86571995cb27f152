//! The outbox: a log in the order of commits, and the cursors that are shared under a lease.

use std::time::Duration;

use async_trait::async_trait;
use ecom_core::clock::Timestamp;
use ecom_core::domain::{Actor, Event, EventKind, OutboxPosition};
use ecom_core::id::EventId;
use ecom_core::port::{Lease, OutboxRepository};
use ecom_core::{Error, Result};

use super::builder::insert_rows;
use super::dialect::Sql;
use super::error::Kind;
use super::executor::Executor;
use super::value::{Row, Value};

static READ: Sql = Sql::new(
    "SELECT {outbox_epoch}, seq, id, kind, aggregate_id, revision, data, occurred_at, actor FROM outbox_events \
     WHERE {outbox_after} ORDER BY {outbox_order} LIMIT $3",
);
static HEAD: Sql = Sql::new("SELECT {outbox_head_epoch}, {outbox_head}");
static HORIZON: Sql = Sql::new("SELECT {outbox_epoch}, seq - 1 FROM outbox_events ORDER BY {outbox_order} LIMIT 1");
static CURSOR: Sql =
    Sql::new("SELECT holder, fence, expires_at, epoch, seq FROM outbox_cursors WHERE consumer = $1{for_update}");
static NEW_CURSOR: Sql = Sql::new(
    "INSERT INTO outbox_cursors (consumer, holder, fence, expires_at, epoch, seq) VALUES ($1, $2, 1, $3, 0, 0)",
);
static TAKE: Sql =
    Sql::new("UPDATE outbox_cursors SET holder = $2, fence = $3, expires_at = $4 WHERE consumer = $1 AND fence = $5");
static ADVANCE: Sql =
    Sql::new("UPDATE outbox_cursors SET epoch = $4, seq = $5 WHERE consumer = $1 AND holder = $2 AND fence = $3");
// Only from the old end, so that the log has no holes: the horizon says what is gone.
static TRIM: Sql = Sql::new(
    "DELETE FROM outbox_events WHERE seq < coalesce((SELECT m.seq FROM (SELECT MIN(seq) AS seq FROM outbox_events \
     WHERE occurred_at >= $1) m), 9223372036854775807)",
);

/// The outbox of a SQL database.
pub struct SqlOutbox<'c>(pub Executor<'c>);

fn read_event(r: &Row) -> Result<(OutboxPosition, Event)> {
    let kind = EventKind::parse(r.text(3)?).ok_or(Error::Internal {
        context: "reading an event of a kind that this release does not know",
        source: None,
    })?;
    let event = Event {
        id: EventId(r.uuid(2)?),
        kind,
        aggregate_id: r.uuid(4)?,
        revision: r.i64(5)?,
        data: r.json(6)?,
        occurred_at: r.time(7)?,
        actor: Actor::new(r.text(8)?),
    };
    Ok((OutboxPosition { epoch: r.i64(0)?, seq: r.i64(1)? }, event))
}

#[async_trait]
impl OutboxRepository for SqlOutbox<'_> {
    async fn append(&mut self, events: &[Event]) -> Result<()> {
        if let Some(sql) = self.0.dialect().lock_outbox {
            self.0.fetch_all(sql, Vec::new()).await?;
        }
        insert_rows(
            &mut self.0,
            "INSERT INTO outbox_events (id, kind, aggregate_id, revision, data, occurred_at, actor)",
            7,
            events,
            |e, to| {
                to.extend([
                    e.id.into(),
                    e.kind.as_str().into(),
                    e.aggregate_id.into(),
                    e.revision.into(),
                    Value::json(&e.data)?,
                    e.occurred_at.into(),
                    e.actor.as_str().into(),
                ]);
                Ok(())
            },
        )
        .await??;
        Ok(())
    }

    async fn read(&mut self, after: OutboxPosition, limit: u32) -> Result<Vec<(OutboxPosition, Event)>> {
        let args = vec![after.epoch.into(), after.seq.into(), i64::from(limit).into()];
        self.0.fetch_all(&READ, args).await?.iter().map(read_event).collect()
    }

    async fn head(&mut self) -> Result<OutboxPosition> {
        match self.0.fetch_optional(&HEAD, Vec::new()).await? {
            Some(r) => Ok(OutboxPosition { epoch: r.i64(0)?, seq: r.i64(1)? }),
            None => Ok(OutboxPosition::default()),
        }
    }

    async fn horizon(&mut self) -> Result<OutboxPosition> {
        match self.0.fetch_optional(&HORIZON, Vec::new()).await? {
            Some(r) => Ok(OutboxPosition { epoch: r.i64(0)?, seq: r.i64(1)? }),
            None => self.head().await,
        }
    }

    async fn acquire(&mut self, consumer: &str, holder: &str, now: Timestamp, ttl: Duration) -> Result<Option<Lease>> {
        let ttl = chrono::TimeDelta::from_std(ttl).map_err(|e| Error::internal("computing the end of a lease", e))?;
        let until = now + ttl;
        let lease =
            |fence, position| Some(Lease { consumer: consumer.to_owned(), holder: holder.to_owned(), fence, position });
        let Some(r) = self.0.fetch_optional(&CURSOR, vec![consumer.into()]).await? else {
            return match self.0.execute(&NEW_CURSOR, vec![consumer.into(), holder.into(), until.into()]).await {
                Ok(_) => Ok(lease(1, OutboxPosition::default())),
                // Somebody else was first.
                Err(e) if matches!(e.kind, Kind::Unique(_)) => Ok(None),
                Err(e) => Err(e.into()),
            };
        };
        let (fence, expired) = (r.i64(1)?, r.time(2)? <= now);
        let ours = r.text(0)? == holder;
        if !ours && !expired {
            return Ok(None);
        }
        // Every statement that follows names the fence: who comes second changes nothing.
        let next = if ours && !expired { fence } else { fence + 1 };
        let args = vec![consumer.into(), holder.into(), next.into(), until.into(), fence.into()];
        let taken = self.0.execute(&TAKE, args).await? == 1;
        Ok(if taken { lease(next, OutboxPosition { epoch: r.i64(3)?, seq: r.i64(4)? }) } else { None })
    }

    async fn advance(&mut self, lease: &Lease, to: OutboxPosition) -> Result<bool> {
        let args = vec![
            Value::from(&lease.consumer),
            Value::from(&lease.holder),
            lease.fence.into(),
            to.epoch.into(),
            to.seq.into(),
        ];
        Ok(self.0.execute(&ADVANCE, args).await? == 1)
    }

    async fn trim(&mut self, before: Timestamp) -> Result<u64> {
        Ok(self.0.execute(&TRIM, vec![before.into()]).await?)
    }
}
