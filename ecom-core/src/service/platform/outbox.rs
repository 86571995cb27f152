//! The one way to read the outbox. It assigns positions to the events that have committed before it reads them (R13).

use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::outbox::{EventBatch, OutboxPosition};
use crate::error::Result;
use crate::id::EventId;
use crate::port::storage::{Connection, Repositories as _};
use crate::service::run::context::Context;
use crate::service::run::transaction::Manner;

/// The most events that one transaction assigns positions to.
const PLACED_AT_ONCE: u32 = 1_024;

/// The log of events, as consumers read it.
///
/// A call finds everything that had committed before it. A consumer remembers the end of the last batch that it has
/// handled, and reads on from there. Consumers that share a position are [`Consumer`](crate::platform::Consumer)s.
///
/// Every method fails with [`Error::Forbidden`](crate::Error::Forbidden) if the principal lacks
/// [`Permission::EventsRead`](crate::access::Permission::EventsRead).
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::platform::OutboxPosition;
///
/// let mut position = OutboxPosition::default();
/// loop {
///     let batch = shop.events().read(position, 500).await?;
///     for (_, event) in &batch.events {
///         println!("{} {}", event.kind.as_str(), event.aggregate_id);
///     }
///     position = batch.end;
///     if !batch.full {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct EventLog<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> EventLog<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Reads at most `limit` events after `after`, in order. Read on from the end of the batch, which is also past the
    /// events whose kind this release does not know.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read(&self, after: OutboxPosition, limit: u32) -> Result<EventBatch> {
        self.who.require(Permission::EventsRead)?;
        self.settled().await?.outbox().read(after, limit).await
    }

    /// Returns the end of the log.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn head(&self) -> Result<OutboxPosition> {
        self.who.require(Permission::EventsRead)?;
        self.settled().await?.outbox().head().await
    }

    /// Returns the position before the oldest event that is kept, and the end of the log. A consumer whose position is
    /// outside of these has missed events, or its position comes from another state of this database, such as one
    /// before a restore.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn bounds(&self) -> Result<(OutboxPosition, OutboxPosition)> {
        self.who.require(Permission::EventsRead)?;
        let mut db = self.settled().await?;
        // Read in this order, so that the horizon is not after the head if events are trimmed in between.
        let horizon = db.outbox().horizon().await?;
        Ok((horizon, db.outbox().head().await?))
    }

    /// Returns the position of an event that has committed, or `None` if there never was such an event. For an event
    /// that has been removed since (R13), it returns the position before the oldest event that is kept.
    ///
    /// The log does not remember the ids of removed events. An id that it does not have counts as that of a removed
    /// event if events have been removed, and if the time in the id is not after that of the oldest event that is kept;
    /// if no event is kept, it must not be after now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn position(&self, event: EventId) -> Result<Option<OutboxPosition>> {
        self.who.require(Permission::EventsRead)?;
        let mut db = self.settled().await?;
        if let Some(found) = db.outbox().find(event).await? {
            return Ok(Some(found));
        }
        let horizon = db.outbox().horizon().await?;
        let oldest = db.outbox().oldest().await?;
        let seconds_and_nanos = event.0.get_timestamp().filter(|_| event.0.get_version_num() == 7);
        let millis = seconds_and_nanos.map(|at| {
            let (seconds, nanos) = at.to_unix();
            i64::try_from(seconds)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000)
                .saturating_add(i64::from(nanos / 1_000_000))
        });
        let until = oldest.unwrap_or_else(|| self.cx.now()).timestamp_millis();
        let is_removed = horizon > OutboxPosition::default() && millis.is_some_and(|millis| millis <= until);
        Ok(is_removed.then_some(horizon))
    }

    /// Returns a connection, after all events that had committed have their positions.
    pub(super) async fn settled(&self) -> Result<Box<dyn Connection>> {
        loop {
            let mut db = self.cx.storage.connect().await?;
            if !db.outbox().pending().await? {
                return Ok(db);
            }
            drop(db);
            let placed = self.cx.write_as(Manner::ForAll, |mut tx| async move {
                let placed = tx.outbox().sequence(PLACED_AT_ONCE).await?;
                Ok((placed, tx))
            });
            let placed = placed.await?;
            // Events that commit meanwhile are left to the next call: under load this one would never end.
            if placed < u64::from(PLACED_AT_ONCE) {
                return self.cx.storage.connect().await;
            }
        }
    }
}
