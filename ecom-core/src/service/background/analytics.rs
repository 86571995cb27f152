//! The work that keeps the figures of analytics: it follows the log of events, and adds what this process has counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDate;

use super::consumer::LeaseLost;
use super::work::Work;
use crate::domain::access::principal::Principal;
use crate::domain::platform::analytics::CreatedCarts;
use crate::domain::platform::outbox::{EventBatch, EventKind};
use crate::error::{BoxError, Entity, Error};
use crate::id::OrderId;
use crate::log_event;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::platform::analytics::{FIRST_DAY, compute, days_of, prepare, require_rebuild, roll_up};
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Manner, Tx};

/// The most events of a step. However many orders of a day are among them, the figures of the day are computed once.
const BATCH: u32 = 10_000;
/// How often figures are computed again, because a rebuild has replaced others meanwhile.
const TRIES: usize = 20;

/// Follows the log: it recomputes the figures of sales of the days that the orders in it concern, and counts new carts.
/// One process at a time does this. The figures, the counts and the position in the log are written in one transaction,
/// so that each cart counts once. Then it rolls up the days that are over, some spans in each step.
pub(super) struct FollowSales {
    cx: Arc<Context>,
    /// Whether this process has compared its time zone with that of the figures.
    is_prepared: bool,
    /// The first day that may have to be rolled up, if there may be one. A process that starts looks for such days
    /// after the first events of orders.
    rolls_up_from: Option<NaiveDate>,
}

/// The outcome of the transaction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Done {
        /// The first of the days whose figures of sales were computed.
        first_day: Option<NaiveDate>,
    },
    /// Another transaction has replaced figures since these were computed.
    Outdated,
    LeaseLost,
}

impl FollowSales {
    /// The name of the task, and of its lease and position in the log.
    pub const NAME: &'static str = "analytics";

    pub fn new(cx: &Arc<Context>) -> Self {
        Self { cx: cx.clone(), is_prepared: false, rolls_up_from: None }
    }

    /// Handles a batch of events, and moves the position to its end.
    async fn handle(&self, batch: &EventBatch, lease: &Lease) -> Result<Written, Error> {
        let (cx, end) = (&self.cx, batch.end);
        let events = || batch.events.iter().map(|(_, event)| event);
        let orders: BTreeSet<OrderId> =
            events().filter(|event| changes_figures(event.kind)).map(|event| OrderId(event.aggregate_id)).collect();
        let orders: Vec<OrderId> = orders.into_iter().collect();
        let created: Vec<_> =
            events().filter(|e| e.kind == EventKind::CartCreated).map(|event| event.occurred_at).collect();
        let mut db = cx.storage.connect().await?;
        let state = db.analytics().state().await?;
        let zone = state.zone()?;
        let days = days_of(&mut *db, &zone, &orders).await?;
        let figures = compute(&mut *db, &zone, &days).await?;
        drop(db);
        let mut carts: BTreeMap<_, u64> = BTreeMap::new();
        for at in created {
            *carts.entry(zone.day_of(at)).or_default() += 1;
        }
        let carts: Vec<CreatedCarts> = carts.into_iter().map(|(day, carts)| CreatedCarts { day, carts }).collect();
        let (figures, carts, version) = (&figures, &carts, state.version);
        let write = |mut tx: Tx<'static>| async move {
            // The version also guards the time zone, by which carts are counted.
            let changes = !figures.is_empty() || !carts.is_empty();
            if changes && !tx.analytics().claim(version).await? {
                return Ok((Written::Outdated, tx));
            }
            if !tx.outbox().advance(lease, end).await? {
                return Ok((Written::LeaseLost, tx));
            }
            for (day, figures) in figures {
                tx.analytics().replace(*day, figures).await?;
            }
            tx.analytics().add_carts(carts).await?;
            Ok((Written::Done { first_day: figures.first().map(|(day, _)| *day) }, tx))
        };
        let manner = if figures.is_empty() { Manner::Short } else { Manner::Long };
        cx.write_as(manner, write).await
    }

    /// Rolls up some spans of days, and returns true if there may be more. A span that cannot be rolled up waits for
    /// the next events of orders: reports read its days meanwhile, and the figures of sales go on.
    async fn roll_up(&mut self) -> bool {
        if let Some(from) = self.rolls_up_from {
            self.rolls_up_from = roll_up(&self.cx, from).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "days were not rolled up; reports read each of them until the next attempt");
                None
            });
        }
        self.rolls_up_from.is_some()
    }
}

/// Returns whether an event of this kind can change the figures of a day. What happens to an order later does not,
/// unless its lines or amounts change: so the delivery of an order does not cost a read of the day of its placing. The
/// deletion of an order that is not delivered cancels it first, which is an event of its own.
fn changes_figures(kind: EventKind) -> bool {
    let is_without_amounts = matches!(
        kind,
        EventKind::OrderStarted
            | EventKind::OrderDelivered
            | EventKind::OrderDeleted
            | EventKind::OrderRestored
            | EventKind::OrderErased
    );
    kind.entity() == Entity::Order && !is_without_amounts
}

#[async_trait]
impl Work for FollowSales {
    async fn step(&mut self, lease: Option<&mut Lease>) -> Result<bool, BoxError> {
        let Some(lease) = lease else { return Ok(false) };
        let cx = self.cx.clone();
        let is_first = !self.is_prepared;
        if is_first {
            prepare(&cx).await?;
            self.is_prepared = true;
        }
        let log = EventLog::new(&cx, Principal::system());
        let mut batch = log.read(lease.position, BATCH).await?;
        let is_empty = batch.end == lease.position;
        // Only asked if there may be a gap, so that following the log costs one statement.
        let hole = batch.events.first().is_none_or(|(first, _)| first.seq != lease.position.seq + 1);
        if is_first || (hole && !is_empty) {
            let horizon = log.bounds().await?.0;
            if lease.position < horizon {
                tracing::warn!(
                    target: log_event::TARGET,
                    event = log_event::EVENTS_MISSED,
                    consumer = Self::NAME,
                    "events were trimmed before they were handled; the figures of sales are rebuilt"
                );
                let zone = cx.storage.connect().await?.analytics().state().await?.zone()?;
                require_rebuild(&cx, &zone).await?;
                batch.end = batch.end.max(horizon);
            }
        }
        if batch.end == lease.position {
            return Ok(self.roll_up().await);
        }
        for _ in 0..TRIES {
            match self.handle(&batch, lease).await? {
                Written::Done { first_day } => {
                    lease.position = batch.end;
                    if let Some(day) = first_day {
                        // A new walk begins at the first day, because other processes may have replaced figures, too.
                        self.rolls_up_from = Some(self.rolls_up_from.map_or(FIRST_DAY, |from| from.min(day)));
                    }
                    return Ok(batch.full || self.roll_up().await);
                }
                Written::Outdated => {}
                Written::LeaseLost => return Err(LeaseLost.into()),
            }
        }
        Err(Error::Contention { source: None }.into())
    }
}

/// Adds the views of products that this process has counted to the database.
pub(super) struct CountViews(pub Arc<Context>);

#[async_trait]
impl Work for CountViews {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        self.0.views.flush(&self.0).await?;
        Ok(false)
    }
}
