//! What is done once a transaction has committed.

use super::context::Context;
use crate::port::cache::CacheKey;
use crate::shop::Shop;

/// What a host runs once the transaction that a `…_in` call worked in has committed: caches forget, consumers
/// wake. Forgotten, caches of this process learn of it from the outbox within
/// [`ShopConfig::poll_interval`] and the index follows at its next poll.
#[derive(Debug, Default)]
#[must_use = "run it after the commit, or caches stay old until the outbox is read"]
pub struct AfterCommit {
    pub(crate) keys: Vec<CacheKey>,
    pub(crate) clear: bool,
}

impl AfterCommit {
    pub(crate) fn of(keys: impl IntoIterator<Item = CacheKey>) -> Self {
        Self { keys: keys.into_iter().collect(), clear: false }
    }

    /// Both.
    pub fn and(mut self, other: Self) -> Self {
        self.keys.extend(other.keys);
        self.clear |= other.clear;
        self
    }

    /// Does it.
    ///
    /// A shared cache that cannot be told is logged, not reported: the write has happened.
    pub async fn run(self, shop: &Shop) {
        self.run_in(&shop.cx).await;
    }

    pub(crate) async fn run_in(self, cx: &Context) {
        let told = if self.clear { cx.cache.clear().await } else { cx.cache.invalidate(&self.keys).await };
        if let Err(error) = told {
            tracing::warn!(%error, "the cache was not told of a write; old values may be served until their TTL");
        }
        cx.events.send_replace(());
    }
}
