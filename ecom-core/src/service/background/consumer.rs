//! Consumers of the log of events: batches in order, each at least once (R13).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::work::Work;
use crate::domain::access::principal::Principal;
use crate::domain::platform::outbox::{Event, OutboxPosition};
use crate::error::{BoxError, Result};
use crate::log_event;
use crate::port::cache::CacheKey;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::platform::outbox::EventLog;
use crate::service::run::after_commit::Forget;
use crate::service::run::context::Context;
use crate::service::run::stale;

/// The position at which a consumer begins if it has never run on this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartPosition {
    /// At the oldest event that is kept.
    #[default]
    Oldest,
    /// After the newest event, for a consumer that needs no earlier ones.
    Head,
}

/// A consumer of events: for example, it sends mail, calls webhooks or fills a warehouse.
///
/// One process at a time runs it, under a lease in the database
/// ([`ShopConfig::lease_ttl`](crate::config::ShopConfig::lease_ttl)). If that process ends, the next one takes over at
/// once; if it dies or hangs, the next one takes over after the lease has run out. The processes share one position in
/// the log. It moves only after [`Consumer::handle`] has returned `Ok`, and only if the process still holds the lease.
/// So every event is delivered at least once, and the events of one aggregate come in order. A consumer recognizes an
/// event that it has handled by [`Event::id`].
///
/// Pass it to [`Background::consume`](crate::platform::Background::consume), in every process that may run it.
///
/// ```
/// use ecom_core::platform::{Consumer, Event, EventKind, OutboxPosition};
///
/// #[derive(Debug)]
/// struct Announce;
///
/// #[async_trait::async_trait]
/// impl Consumer for Announce {
///     fn name(&self) -> &str {
///         "announce"
///     }
///
///     async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), ecom_core::BoxError> {
///         for (_, event) in batch.iter().filter(|(_, e)| e.kind == EventKind::ProductCreated) {
///             println!("new: {}", event.aggregate_id);
///         }
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Consumer: Send + Sync + fmt::Debug {
    /// Returns the name of its position in the log: 1 to 100 characters, the same in every process and release.
    /// [`Background::consume`] refuses the names that the library itself uses: `analytics`, `cache`, `index`, `trim`,
    /// `idempotency`, `abandoned-jobs`, `carts`, `abandoned-carts`, `search-log`, `user-mail`, `webhook-events`,
    /// `import-categories`, and all that begin with `index-` or `feed-`.
    ///
    /// [`Background::consume`]: crate::platform::Background::consume
    fn name(&self) -> &str;

    /// Returns the position at which it begins the first time.
    fn start(&self) -> StartPosition {
        StartPosition::Oldest
    }

    /// Returns the most events of a batch, 1 to 10,000.
    fn batch(&self) -> u32 {
        500
    }

    /// Handles events in their order, and returns after its work is durable. After an error, a panic, or the death of
    /// the process, the batch is delivered again from its beginning, possibly with more events at its end.
    ///
    /// The call is dropped at an await if the lease is lost, or if it does not end in time at a shutdown. Everything
    /// that it waits for should have a time limit, since a call that hangs keeps its lease.
    ///
    /// # Errors
    /// Any error. It is logged, and the batch is tried again, in this process or another, after a pause that grows.
    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError>;

    /// Is called before a batch if events were missed: the consumer begins at [`StartPosition::Head`], or was away for
    /// longer than [`outbox_retention`](crate::config::ShopConfig::outbox_retention). A consumer that derives data from
    /// events must rebuild all of it here.
    ///
    /// # Errors
    /// As [`Self::handle`].
    async fn missed(&self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The position of a shared consumer that has never run.
const NEW: OutboxPosition = OutboxPosition { seq: 0 };
/// The position of a consumer that began at the head of an empty log, so that it has missed nothing.
const BEGUN: OutboxPosition = OutboxPosition { seq: -1 };

/// Another process held the lease when the work under it was done.
#[derive(Debug, thiserror::Error)]
#[error("the lease was lost; whoever has it now goes on")]
pub(crate) struct LeaseLost;

/// Passes the log to a consumer, batch by batch.
pub(crate) struct Follow {
    cx: Arc<Context>,
    consumer: Arc<dyn Consumer>,
    /// The position, if this process has its own instead of a shared one; `None` until it has one.
    own: Option<OutboxPosition>,
}

impl Follow {
    pub fn new(cx: Arc<Context>, consumer: Arc<dyn Consumer>) -> Self {
        // Only the consumer of the cache of this process has no lease, and asks for it: it goes on where it was before.
        let own = *cx.forgotten.lock();
        Self { cx, consumer, own }
    }

    async fn move_to(&mut self, lease: Option<&mut Lease>, to: OutboxPosition) -> Result<(), BoxError> {
        let Some(lease) = lease else {
            // The only consumer without a lease is that of the cache of this process.
            self.own = Some(to);
            *self.cx.forgotten.lock() = Some(to);
            return Ok(());
        };
        let held = &*lease;
        let moved = self.cx.write(|mut tx| async move {
            let done = tx.outbox().advance(held, to).await?;
            Ok((done, tx))
        });
        if !moved.await? {
            return Err(LeaseLost.into());
        }
        lease.position = to;
        Ok(())
    }
}

#[async_trait]
impl Work for Follow {
    async fn step(&mut self, mut lease: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = self.cx.clone();
        let log = EventLog::new(&cx, Principal::system());
        let place = match &lease {
            Some(lease) => Some(lease.position).filter(|p| *p != NEW),
            None => self.own,
        };
        let at = match (place, self.consumer.start()) {
            (Some(at), _) => at,
            (None, StartPosition::Oldest) => NEW,
            (None, StartPosition::Head) => {
                let head = log.head().await?;
                self.consumer.missed().await?;
                let head = if head == NEW { BEGUN } else { head };
                self.move_to(lease.as_deref_mut(), head).await?;
                head
            }
        };
        let limit = self.consumer.batch().clamp(1, 10_000);
        let batch = log.read(at, limit).await?;
        if batch.end == at {
            return Ok(false);
        }
        // Only asked if there may be a gap, so that following the log costs one statement.
        let seen = at.max(NEW);
        let hole = batch.events.first().is_none_or(|(first, _)| first.seq != seen.seq + 1);
        if place.is_some() && hole && seen < log.bounds().await?.0 {
            let (event, consumer) = (log_event::EVENTS_MISSED, self.consumer.name());
            tracing::warn!(target: log_event::TARGET, event, consumer, "events were trimmed before they were handled");
            self.consumer.missed().await?;
        }
        // The batch leaves out events of kinds that this release does not know; the position moves past them.
        if !batch.events.is_empty() {
            self.consumer.handle(&batch.events).await?;
        }
        self.move_to(lease, batch.end).await?;
        Ok(batch.full)
    }
}

/// Drops the cached documents that the writes of other processes make stale.
///
/// Each process drops them from its own cache, at its own position in the log. A shared cache is invalidated by one
/// process at a time, in case a writer died between its commit and its invalidation.
#[derive(Debug)]
pub(crate) struct Invalidate {
    pub cx: Arc<Context>,
    pub shared: bool,
}

impl Invalidate {
    pub const NAME: &'static str = "cache";

    /// Drops from the cache of this process what is stale by the events up to a position, before the background work
    /// comes to them. It does nothing if the background work does not run, since nothing else is dropped then either.
    pub async fn until(cx: &Arc<Context>, position: OutboxPosition) -> Result<()> {
        const AT_ONCE: u32 = 500;
        let Some(mut at) = *cx.forgotten.lock() else { return Ok(()) };
        while at < position {
            let batch = cx.storage.connect().await?.outbox().read(at, AT_ONCE).await?;
            if batch.end == at {
                break;
            }
            match stale::of(batch.events.iter().map(|(_, event)| event)) {
                Forget::Everything => cx.cache.clear_local().await,
                Forget::Keys(keys) => cx.cache.invalidate_local(&keys.into_iter().collect::<Vec<_>>()).await,
            }
            at = batch.end;
        }
        Ok(())
    }

    async fn clear(&self) -> Result<(), BoxError> {
        if self.shared {
            self.cx.cache.clear().await?;
        } else {
            self.cx.cache.clear_local().await;
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for Invalidate {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn start(&self) -> StartPosition {
        StartPosition::Head
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        match stale::of(batch.iter().map(|(_, e)| e)) {
            Forget::Everything => return self.clear().await,
            Forget::Keys(keys) => {
                let keys: Vec<CacheKey> = keys.into_iter().collect();
                if self.shared {
                    self.cx.cache.invalidate(&keys).await?;
                } else {
                    self.cx.cache.invalidate_local(&keys).await;
                }
            }
        }
        Ok(())
    }

    /// Values that were cached before the position was known may be older than the position.
    async fn missed(&self) -> Result<(), BoxError> {
        self.clear().await
    }
}
