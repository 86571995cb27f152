//! The outbox: a log that consumers read with cursors (R13).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::platform::outbox::{Event, EventBatch, OutboxPosition};
use crate::error::Result;
use crate::id::EventId;

/// The right of one holder to move a shared cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The name of the consumer that the cursor belongs to.
    pub consumer: String,
    /// The process that holds the lease.
    pub holder: String,
    /// A number that increases with every change of holder, so that a holder that has lost the lease is refused.
    pub fence: i64,
    /// The position of the consumer.
    pub position: OutboxPosition,
}

/// A shared cursor: the position of a consumer, or the lease of other work, whose position stays 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxCursor {
    /// The name of the consumer or of the work.
    pub consumer: String,
    /// The position of the consumer; 0 if it has not moved yet.
    pub position: OutboxPosition,
    /// When the last lease ends, or has ended.
    pub lease_ends: Timestamp,
}

port! {
    /// The log of events of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait OutboxRepository / ForwardOutbox(&mut self): Send {
        /// Writes events, in the transaction of the change.
        async fn append(&mut self, events: &[Event]) -> Result<()>;

        /// Assigns sequence numbers to at most `limit` committed events that have none, and returns how many. The
        /// numbers are higher than all that were assigned before, and the events of one aggregate get theirs in the
        /// order in which they were appended. Call it in a unit of work of its own: other calls wait for it to end,
        /// appends do not. An adapter whose events are numbered in the order of commits at once assigns none.
        ///
        /// Consumers read through [`EventLog`](crate::platform::EventLog), which calls it when it is needed.
        async fn sequence(&mut self, limit: u32) -> Result<u64>;

        /// Returns whether committed events wait for [`Self::sequence`]: one statement, or none if they never do.
        async fn pending(&mut self) -> Result<bool>;

        /// Reads at most `limit` events whose position is after `after`, in order. An event that commits late gets a
        /// later position, and is never skipped. An event of a kind that this release does not know is left out of the
        /// batch, and the end of the batch is past it.
        async fn read(&mut self, after: OutboxPosition, limit: u32) -> Result<EventBatch>;

        /// Returns the position of an event, or `None` if the log does not have it, or has not given it a position yet.
        async fn find(&mut self, id: EventId) -> Result<Option<OutboxPosition>>;

        /// Returns the time of the oldest event that is kept, also of a kind that this release does not know, or `None`
        /// if none is kept that has a position. Every event that [`Self::trim`] has removed occurred before it.
        async fn oldest(&mut self) -> Result<Option<Timestamp>>;

        /// Returns the end of the log: every event without a position will get a later one.
        async fn head(&mut self) -> Result<OutboxPosition>;

        /// Returns the position before the oldest event that is still kept. A consumer whose position is before it has
        /// missed events, and starts from a full read of the data.
        async fn horizon(&mut self) -> Result<OutboxPosition>;

        /// Takes or renews the lease on a shared cursor. Returns `None` if another process holds it. A new consumer
        /// starts at position 0.
        async fn acquire(
            &mut self,
            consumer: &str,
            holder: &str,
            now: Timestamp,
            ttl: Duration,
        ) -> Result<Option<Lease>>;

        /// Moves the cursor. Returns false if the lease was lost in between.
        async fn advance(&mut self, lease: &Lease, to: OutboxPosition) -> Result<bool>;

        /// Ends a lease early, at `now`. It is free for every holder from then on, also for one whose clock is behind.
        /// Changes nothing if the lease was lost in between.
        async fn release(&mut self, lease: &Lease, now: Timestamp) -> Result<()>;

        /// Returns all shared cursors, sorted by name. There is one for each consumer, and one for each kind of work
        /// that only one process does at a time.
        async fn cursors(&mut self) -> Result<Vec<OutboxCursor>>;

        /// Removes events that occurred before `before`, from the oldest on. Returns how many.
        async fn trim(&mut self, before: Timestamp) -> Result<u64>;
    }
}
