//! The background loops of a shop: each follows the outbox for something of its own (R13).

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::{Event, OutboxPosition};
use crate::error::{Entity, Result};
use crate::id::ProductId;
use crate::port::CacheKey;
use crate::service::EventLog;
use crate::shop::Shop;

/// The longest wait between two tries of a loop whose backend is down.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Waits for `pause`, for an event of this process where `wake`, or for the stop; false at the stop.
async fn wait(shop: &Shop, stopped: &mut watch::Receiver<bool>, pause: Duration, wake: bool) -> bool {
    let event = shop.cx.events.notified();
    tokio::select! {
        _ = stopped.wait_for(|s| *s) => false,
        () = tokio::time::sleep(pause) => true,
        () = event, if wake => true,
    }
}

/// The index follows the outbox: at once for this process's writes, within the poll interval for others'.
pub(crate) async fn index_loop(shop: Shop, mut stopped: watch::Receiver<bool>) {
    let poll = shop.cx.config.poll_interval;
    let mut pause = poll;
    loop {
        match shop.index().catch_up().await {
            Ok(report) => {
                if report.rebuilt {
                    tracing::info!(documents = report.written, "search index built");
                }
                pause = poll;
            }
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "search index falls behind");
                pause = (pause * 2).min(MAX_BACKOFF);
            }
        }
        // A backend that is down is not asked again at every write.
        if !wait(&shop, &mut stopped, pause, pause == poll).await {
            return;
        }
    }
}

/// The in-process cache learns of other processes' writes.
pub(crate) async fn cache_loop(shop: Shop, mut stopped: watch::Receiver<bool>) {
    let mut at: Option<OutboxPosition> = None;
    loop {
        match follow(&shop, &mut at).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "the cache does not learn of other processes' writes"),
        }
        if !wait(&shop, &mut stopped, shop.cx.config.poll_interval, false).await {
            return;
        }
    }
}

async fn follow(shop: &Shop, at: &mut Option<OutboxPosition>) -> Result<()> {
    let cx = &shop.cx;
    let Some(mut from) = *at else {
        let head = cx.storage.connect().await?.outbox().head().await?;
        *at = Some(head);
        // What was cached before the head was known may be older than it.
        return cx.cache.clear().await;
    };
    loop {
        let batch = EventLog::new(&*cx.storage).read(from, 500).await?;
        let Some((end, _)) = batch.last() else { return Ok(()) };
        if batch.iter().any(|(_, e)| e.kind.entity() == Entity::Category) {
            cx.cache.clear().await?;
        } else {
            cx.cache.invalidate(&keys(batch.iter().map(|(_, e)| e))).await?;
        }
        from = *end;
        *at = Some(from);
    }
}

fn keys<'e>(events: impl Iterator<Item = &'e Event>) -> Vec<CacheKey> {
    let mut keys: Vec<CacheKey> = events
        .filter(|e| e.kind.entity() == Entity::Product)
        .map(|e| CacheKey::Product(ProductId(e.aggregate_id)))
        .collect();
    keys.extend([CacheKey::ProductLists, CacheKey::CategoryTree]);
    keys
}

/// Old events go.
pub(crate) async fn trim_loop(shop: Shop, mut stopped: watch::Receiver<bool>) {
    const EVERY: Duration = Duration::from_secs(600);
    loop {
        if !wait(&shop, &mut stopped, EVERY, false).await {
            return;
        }
        if let Err(error) = trim(&shop).await {
            tracing::warn!(%error, "old events were not trimmed");
        }
    }
}

async fn trim(shop: &Shop) -> Result<()> {
    let cx = &shop.cx;
    let before = cx.now() - cx.config.outbox_retention;
    let mut tx = cx.storage.begin().await?;
    let gone = tx.outbox().trim(before).await?;
    tx.commit().await?;
    tracing::debug!(gone, "old events trimmed");
    Ok(())
}
