//! Events: what others must learn of, written in the transaction of the change (R13).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::id::EventId;
pub use crate::id::EventKind;

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Consumers are idempotent by it.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// To which aggregate.
    pub aggregate_id: Uuid,
    /// The aggregate's revision after the change; orders events of one aggregate.
    pub revision: i64,
    /// More about it; small.
    pub data: Value,
    /// When.
    pub occurred_at: Timestamp,
    /// Who.
    pub actor: Actor,
}

/// The answer of a read of the outbox.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EventBatch {
    /// Events in their order, each with its position. An event of a kind that this release does not know is left out:
    /// a newer release that runs on the same database wrote it.
    pub events: Vec<(OutboxPosition, Event)>,
    /// The position to read on from: that of the last event that was read, whether it was left out or not. It is the
    /// position that the read began after if there was nothing to read.
    pub end: OutboxPosition,
    /// Whether the read ended at its limit, so that there may be more.
    pub full: bool,
}

/// A place in the outbox. Ordered; everything at or before it has committed, and nothing is ever put before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct OutboxPosition {
    /// Sequence number, from 1; 0 is before the first event.
    pub seq: i64,
}
