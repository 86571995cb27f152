//! What every service works with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::queue::StockQueue;
use super::read_through::ReadThrough;
use crate::clock::{SharedClock, Timestamp};
use crate::config::ShopConfig;
use crate::id::IdSource;
use crate::port::search::SearchProvider;
use crate::port::storage::Storage;

/// What every service works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub storage: Arc<dyn Storage>,
    pub search: Arc<dyn SearchProvider>,
    pub cache: ReadThrough,
    pub clock: SharedClock,
    pub ids: Arc<dyn IdSource>,
    pub config: ShopConfig,
    pub stock: StockQueue,
    /// Wakes what follows the log; each follower keeps one wake-up while it works.
    pub events: watch::Sender<()>,
    /// Held by a write that lost a made name to another, while it makes the next one.
    pub naming: tokio::sync::Mutex<()>,
    /// Held by whoever writes the index: a rebuild and a catch-up that overlap would lose events.
    pub indexing: tokio::sync::Mutex<()>,
    /// Stops the background work that was started, for [`Shop::close`](crate::Shop::close).
    pub background: parking_lot::Mutex<Vec<watch::Sender<bool>>>,
    /// The id of the database, once it was read.
    pub identity: tokio::sync::OnceCell<uuid::Uuid>,
}

impl Context {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Between half of `pause` and all of it, so that those who failed together do not come back together.
    pub fn jitter(&self, pause: Duration) -> Duration {
        // The tail of an id is random, and replays from its seed.
        let [.., high, low] = self.ids.next().into_bytes();
        pause.mul_f64(0.5 + f64::from(u16::from_be_bytes([high, low])) / 131_072.0)
    }
}
