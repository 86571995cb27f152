//! Stock adjustments that wait for the next commit.

use std::fmt;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::domain::common::Actor;
use crate::domain::stock::inventory::{Adjusted, StockAdjustment};
use crate::error::Result;

/// An adjustment with its actor.
pub(crate) struct Posting {
    pub adjustment: StockAdjustment,
    pub actor: Actor,
}

/// An adjustment with the caller that waits for its result.
pub(crate) struct Pending {
    pub posting: Posting,
    pub answer: oneshot::Sender<Result<Adjusted>>,
}

/// Adjustments that wait for the next commit.
#[derive(Default)]
pub(crate) struct StockQueue(Mutex<QueueState>);

#[derive(Default)]
pub(crate) struct QueueState {
    pub waiting: Vec<Pending>,
    /// Whether a worker is committing batches.
    pub running: bool,
}

impl StockQueue {
    pub fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.0.lock()
    }
}

impl fmt::Debug for StockQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StockQueue").finish_non_exhaustive()
    }
}
