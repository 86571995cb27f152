//! The work after the commit of a transaction.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::context::Context;
use super::notice::Notice;
use crate::id::EventId;
use crate::port::cache::CacheKey;

/// The work that remains after a transaction has committed: it logs the named events of the write
/// ([`log_event`](crate::log_event)), invalidates the caches and wakes the consumers.
///
/// A host that commits the transaction itself calls [`AfterCommit::run`] afterwards. If it does not, every process,
/// this one included, learns of the write from the outbox within
/// [`ShopConfig::poll_interval`](crate::config::ShopConfig::poll_interval), and the named events of the write are not
/// logged.
#[must_use = "run it after the commit, or caches stay old until the outbox is read"]
pub struct AfterCommit {
    cx: Arc<Context>,
    forget: Forget,
    /// The last event that the transaction wrote.
    last_event: Option<EventId>,
    /// Whether the transaction wrote events or a job. Otherwise, nothing in the background is woken.
    wakes: bool,
    /// The named events of the write.
    notices: Vec<Notice>,
}

/// The cached documents that a transaction makes stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forget {
    /// These documents.
    Keys(HashSet<CacheKey>),
    /// All documents, because so many of them show the change.
    Everything,
}

impl Default for Forget {
    fn default() -> Self {
        Self::Keys(HashSet::new())
    }
}

impl Forget {
    /// Adds the documents of another change.
    pub fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Everything, _) => {}
            (_, Self::Everything) => *self = Self::Everything,
            (Self::Keys(keys), Self::Keys(others)) => keys.extend(others),
        }
    }
}

impl fmt::Debug for AfterCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AfterCommit").field("forget", &self.forget).finish_non_exhaustive()
    }
}

impl AfterCommit {
    pub(super) fn new(
        cx: Arc<Context>,
        forget: Forget,
        last_event: Option<EventId>,
        wakes: bool,
        notices: Vec<Notice>,
    ) -> Self {
        Self { cx, forget, last_event, wakes, notices }
    }

    /// Returns the last event that the transaction wrote, or `None` if it wrote none. A search that waits for it
    /// ([`SearchService::wait_for`](crate::search::SearchService::wait_for)) finds all that the transaction wrote.
    pub const fn last_event(&self) -> Option<EventId> {
        self.last_event
    }

    /// Logs the named events, invalidates the caches and wakes the consumers.
    ///
    /// If a shared cache cannot be reached, that is logged and not returned, because the write has happened.
    pub async fn run(self) {
        let cx = &self.cx;
        self.notices.iter().for_each(Notice::log);
        let told = match &self.forget {
            Forget::Everything => cx.cache.clear().await,
            Forget::Keys(keys) => cx.cache.invalidate(&keys.iter().copied().collect::<Vec<_>>()).await,
        };
        if let Err(error) = told {
            tracing::warn!(%error, "could not invalidate the shared cache after a write; it is repeated from the outbox");
        }
        cx.note(self.last_event);
        if self.wakes {
            cx.events.send_replace(());
        }
    }
}
