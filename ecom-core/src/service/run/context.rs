//! The state that all services of a shop share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::queue::Queue;
use super::read_through::ReadThrough;
use crate::clock::{SharedClock, Timestamp};
use crate::config::ShopConfig;
use crate::id::IdSource;
use crate::port::search::SearchProvider;
use crate::port::storage::Storage;
use crate::service::sales::order::place::Placing;
use crate::service::search::settings::Ready;
use crate::service::stock::inventory::Posting;

/// The state that all services of a shop share.
#[derive(Debug)]
pub(crate) struct Context {
    pub storage: Arc<dyn Storage>,
    pub search: Arc<dyn SearchProvider>,
    pub cache: ReadThrough,
    pub clock: SharedClock,
    pub ids: Arc<dyn IdSource>,
    pub config: ShopConfig,
    /// Adjustments of stock that wait for the next commit.
    pub adjustments: Queue<Posting>,
    /// Orders that wait for the next commit.
    pub orders: Queue<Placing>,
    /// The settings that searches use.
    pub search_settings: Ready,
    /// Wakes the followers of the log. Each follower keeps one wake-up while it works.
    pub events: watch::Sender<()>,
    /// Held by a write while it makes the next name, after another write took the one that it had made.
    pub naming: tokio::sync::Mutex<()>,
    /// Held by the task that writes the index: a rebuild and a catch-up that overlap would lose events.
    pub indexing: tokio::sync::Mutex<()>,
    /// Stops the background work that was started, for [`Shop::close`](crate::Shop::close).
    pub background: parking_lot::Mutex<Vec<watch::Sender<bool>>>,
    /// The id of the database, after it was read once.
    pub identity: tokio::sync::OnceCell<uuid::Uuid>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns a pause between half of `pause` and all of it, so that callers that failed together do not retry
    /// together.
    pub fn jitter(&self, pause: Duration) -> Duration {
        // The end of an id is random, and replays from its seed.
        let [.., high, low] = self.ids.next().into_bytes();
        pause.mul_f64(0.5 + f64::from(u16::from_be_bytes([high, low])) / 131_072.0)
    }
}
