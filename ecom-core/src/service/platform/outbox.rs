//! The one way to read the outbox: what has committed gets its place in the log before the log is read (R13).

use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::outbox::{EventBatch, OutboxPosition};
use crate::error::Result;
use crate::port::storage::{Connection, Repositories as _};
use crate::service::run::context::Context;

/// Events that one transaction places.
const PLACED_AT_ONCE: u32 = 1_024;

/// The log of events, as consumers read it.
///
/// Whatever had committed before a call is found by it. A consumer remembers the end of the last batch that it
/// has handled and reads on from there; consumers that share a position do so as a [`Consumer`](crate::platform::Consumer).
#[derive(Debug, Clone, Copy)]
pub struct EventLog<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> EventLog<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Reads at most `limit` events after `after`, in order. Read on from the end of the batch, which is also past events
    /// of kinds that this release does not know.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn read(&self, after: OutboxPosition, limit: u32) -> Result<EventBatch> {
        self.who.require(Permission::EventsRead)?;
        self.settled().await?.outbox().read(after, limit).await
    }

    /// The end of the log.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn head(&self) -> Result<OutboxPosition> {
        self.who.require(Permission::EventsRead)?;
        self.settled().await?.outbox().head().await
    }

    /// The place before the oldest event that is kept, and the end of the log. Who stands outside of them has missed
    /// events, or knows some of another life of this database.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn bounds(&self) -> Result<(OutboxPosition, OutboxPosition)> {
        self.who.require(Permission::EventsRead)?;
        let mut db = self.settled().await?;
        // In this order, so that a trim in between leaves the horizon before the head.
        let horizon = db.outbox().horizon().await?;
        Ok((horizon, db.outbox().head().await?))
    }

    /// A connection on which everything that had committed has its place.
    async fn settled(&self) -> Result<Box<dyn Connection>> {
        loop {
            let mut db = self.cx.storage.connect().await?;
            if !db.outbox().pending().await? {
                return Ok(db);
            }
            drop(db);
            let placed = self.cx.write_together(|mut tx| async move {
                let placed = tx.outbox().sequence(PLACED_AT_ONCE).await?;
                Ok((placed, tx))
            });
            let placed = placed.await?;
            // What has committed since is not this call's: under load it would never end.
            if placed < u64::from(PLACED_AT_ONCE) {
                return self.cx.storage.connect().await;
            }
        }
    }
}
