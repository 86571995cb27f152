//! Stock: adjustments that share commits, and the ledger.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::catalog::sku::MAX_STOCK;
use crate::domain::common::{Actor, Deleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::stock::inventory::{
    Adjusted, StockAdjustment, StockImbalance, StockLevel, StockMovement, StockReason,
};
use crate::error::{Conflict, Dependency, Entity, Error, FieldCode, Result, Shortage, ValidationErrors};
use crate::id::{SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::run::after_commit::Forget;
use crate::service::run::context::Context;
use crate::service::run::queue::Pending;
use crate::service::run::transaction::{Change, Tx};
use crate::text::check_text;

/// Where a worker panics, frees the queue and lets those who wait go.
struct Turn {
    cx: Arc<Context>,
    working: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.working {
            let mut queue = self.cx.stock.lock();
            queue.running = false;
            queue.waiting.clear();
        }
    }
}

/// The stock of a shop.
#[derive(Debug, Clone, Copy)]
pub struct InventoryService<'a> {
    cx: &'a Arc<Context>,
}

impl<'a> InventoryService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>) -> Self {
        Self { cx }
    }

    /// The stock of a SKU, as the database has it now.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn level(&self, sku: SkuId) -> Result<StockLevel> {
        let found = self.cx.storage.connect().await?.inventory().levels(&[sku]).await?.pop();
        found.ok_or_else(|| Error::not_found(Entity::Sku, sku))
    }

    /// Adjusts stock. Adjustments that arrive while another commits share the next commit; each is answered
    /// once its own is on disk, and fails alone. Dropping the call does not take it back.
    ///
    /// # Errors
    /// `Validation`, `NotFound`, `INSUFFICIENT_STOCK` where less than 0 would be available, `Unavailable`.
    pub async fn adjust(&self, adjustment: StockAdjustment) -> Result<Adjusted> {
        check(&adjustment)?;
        let (answer, answered) = oneshot::channel();
        let lead = {
            let mut queue = self.cx.stock.lock();
            queue.waiting.push(Pending { adjustment, answer });
            !std::mem::replace(&mut queue.running, true)
        };
        if lead {
            tokio::spawn(work(self.cx.clone()));
        }
        // The worker went without an answer: whether its commit happened is not known.
        answered.await.unwrap_or(Err(Error::Unavailable {
            dependency: Dependency::Database,
            outcome_unknown: true,
            source: None,
        }))
    }

    /// [`Self::adjust`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::adjust`].
    pub async fn adjust_in(&self, tx: &mut Tx<'_>, adjustment: StockAdjustment) -> Result<Adjusted> {
        check(&adjustment)?;
        let adjusted = adjust_all_in(self.cx, tx, &[adjustment]).await?.pop();
        adjusted.ok_or(Error::Internal { context: "an adjustment is missing", source: None })?
    }

    /// The ledger of a SKU, newest first; with [`Paging::Offset`] also how many rows.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn movements(&self, sku: SkuId, paging: &Paging) -> Result<(Page<StockMovement>, Option<Total>)> {
        let mut db = self.cx.storage.connect().await?;
        if db.skus().get(sku, Deleted::Include).await?.is_none() {
            return Err(Error::not_found(Entity::Sku, sku));
        }
        let page = db.inventory().movements(sku, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(Total { count: db.inventory().count_movements(sku).await?, exact: true }),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// R11 in one query: SKUs whose on hand is not the sum of their movements.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn imbalances(&self) -> Result<Vec<StockImbalance>> {
        self.cx.storage.connect().await?.inventory().imbalances().await
    }
}

fn check(a: &StockAdjustment) -> Result<()> {
    let mut e = ValidationErrors::default();
    if a.delta == 0 || a.delta.checked_abs().is_none_or(|d| d > MAX_STOCK) {
        e.out_of_bounds("delta", format!("must be between -{MAX_STOCK} and {MAX_STOCK}, and not 0"));
    }
    if a.reason == StockReason::Initial {
        e.push("reason", FieldCode::OutOfBounds, "`initial` is the library's own");
    }
    if let Some(r) = &a.reference {
        check_text("reference", r, 1, 255, &mut e);
    }
    e.into_result()
}

/// Commits batch after batch until nobody waits.
async fn work(cx: Arc<Context>) {
    let mut turn = Turn { cx: cx.clone(), working: true };
    loop {
        let batch: Vec<Pending> = {
            let mut queue = cx.stock.lock();
            if queue.waiting.is_empty() {
                // Under the lock, so that whoever comes next leads.
                queue.running = false;
                turn.working = false;
                break;
            }
            let n = queue.waiting.len().min(cx.config.adjustment_batch);
            queue.waiting.drain(..n).collect()
        };
        let (adjustments, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|p| (p.adjustment, p.answer)).unzip();
        let (cx, adjustments) = (&cx, &adjustments);
        let written = cx.write(|mut tx| async move { Ok((adjust_all_in(cx, &mut tx, adjustments).await?, tx)) });
        match written.await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
                // Those who were answered and come again belong into the next commit, not into the one after.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                let shared = Arc::new(error);
                for answer in answers {
                    let source: Option<crate::BoxError> = Some(Box::new(shared.clone()));
                    let _ = answer.send(Err(match *shared {
                        Error::Unavailable { dependency, outcome_unknown, .. } => {
                            Error::Unavailable { dependency, outcome_unknown, source }
                        }
                        Error::Contention { .. } => Error::Contention { source },
                        _ => Error::Internal { context: "adjusting stock", source },
                    }));
                }
            }
        }
    }
}

/// Makes all adjustments that are possible, in their order, and returns what each did or why it was refused.
async fn adjust_all_in(
    cx: &Context,
    tx: &mut Tx<'_>,
    adjustments: &[StockAdjustment],
) -> Result<Vec<Result<Adjusted>>> {
    let now = cx.now();
    let mut ids: Vec<SkuId> = adjustments.iter().map(|a| a.sku_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut levels: HashMap<SkuId, StockLevel> =
        tx.inventory().lock(&ids).await?.into_iter().map(|l| (l.sku_id, l)).collect();
    let mut movements = Vec::with_capacity(adjustments.len());
    let results: Vec<Result<Adjusted>> = adjustments
        .iter()
        .map(|a| {
            let level =
                levels.get_mut(&a.sku_id).filter(|l| l.live).ok_or_else(|| Error::not_found(Entity::Sku, a.sku_id))?;
            if level.available() + a.delta < 0 && a.delta < 0 {
                let shortage =
                    Shortage { sku_id: a.sku_id.0, requested: -a.delta, available: level.available().max(0) };
                return Err(Conflict::InsufficientStock { shortages: vec![shortage] }.into());
            }
            if level.on_hand + a.delta > MAX_STOCK {
                let message = format!("would bring the stock over {MAX_STOCK}");
                return Err(Error::invalid("delta", FieldCode::OutOfBounds, message));
            }
            level.on_hand += a.delta;
            let movement = StockMovement {
                id: StockMovementId(cx.ids.next()),
                sku_id: a.sku_id,
                delta: a.delta,
                reason: a.reason,
                reference: a.reference.clone(),
                created_at: now,
                created_by: a.actor.clone(),
            };
            movements.push(movement.clone());
            Ok(Adjusted { level: *level, movement })
        })
        .collect();
    if movements.is_empty() {
        return Ok(results);
    }
    let touched = tx.inventory().apply(&movements).await?;
    let system = Actor::system();
    let actor = if let [one] = adjustments { &one.actor } else { &system };
    let changes = touched.into_iter().map(|t| Change {
        kind: EventKind::StockChanged,
        id: t.product_id.0,
        revision: t.revision,
        stale: Forget::default(),
    });
    tx.emit_all(actor, changes.collect()).await?;
    Ok(results)
}
