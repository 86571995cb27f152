//! Stock: adjustments that share commits, and the ledger.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::sku::MAX_STOCK;
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::platform::outbox::{EventDetails, EventKind};
use crate::domain::stock::inventory::{
    Adjusted, StockAdjustment, StockImbalance, StockLevel, StockMovement, StockReason,
};
use crate::error::{Dependency, Entity, Error, FieldCode, Result, Shortage, StockConflict, ValidationErrors};
use crate::id::{ProductId, SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::run::after_commit::Forget;
use crate::service::run::context::Context;
use crate::service::run::queue::{Pending, Posting};
use crate::service::run::transaction::{Change, Tx};
use crate::text::check_text;

/// Frees the queue if a worker panics, and releases the callers that wait.
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

/// The service of a shop's stock and its ledger.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, sku: ecom_core::id::SkuId) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::stock::{StockAdjustment, StockReason};
///
/// let wet = StockAdjustment::new(sku, -3, StockReason::Damaged).reference("wet box");
/// let adjusted = shop.inventory().adjust(wet).await?;
/// println!("{} pieces can be sold", adjusted.level.available());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct InventoryService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> InventoryService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns the stock of a SKU as the database has it now.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn level(&self, sku: SkuId) -> Result<StockLevel> {
        let found = self.cx.storage.connect().await?.inventory().levels(&[sku]).await?.pop();
        found.ok_or_else(|| Error::not_found(Entity::Sku, sku))
    }

    /// Adjusts stock. Adjustments that arrive while another one commits share the next commit. Each call returns once
    /// its own adjustment is on disk, and fails alone. Dropping the call does not undo the adjustment.
    ///
    /// # Errors
    /// `Validation`, `NotFound`, `STOCK_NOT_TRACKED` if the SKU does not track its stock, `INSUFFICIENT_STOCK` if less
    /// than 0 pieces would be available, `Unavailable`.
    pub async fn adjust(&self, adjustment: StockAdjustment) -> Result<Adjusted> {
        self.who.require(Permission::StockAdjust)?;
        check(&adjustment)?;
        let posting = Posting { adjustment, actor: self.who.actor().clone() };
        let (answer, answered) = oneshot::channel();
        let lead = {
            let mut queue = self.cx.stock.lock();
            queue.waiting.push(Pending { posting, answer });
            !std::mem::replace(&mut queue.running, true)
        };
        if lead {
            tokio::spawn(work(self.cx.clone()));
        }
        // The worker ended without an answer, so it is not known whether its commit happened.
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
        self.who.require(Permission::StockAdjust)?;
        check(&adjustment)?;
        let posting = Posting { adjustment, actor: self.who.actor().clone() };
        let adjusted = adjust_all_in(self.cx, tx, &[posting]).await?.pop();
        adjusted.ok_or(Error::Internal { context: "an adjustment is missing", source: None })?
    }

    /// Returns the ledger of a SKU, newest first and, with [`Paging::Offset`], how many rows it has.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn movements(&self, sku: SkuId, paging: &Paging) -> Result<(Page<StockMovement>, Option<Total>)> {
        self.who.require(Permission::StockRead)?;
        paging.check()?;
        let mut db = self.cx.storage.connect().await?;
        if db.skus().get(sku, IncludeDeleted::Yes).await?.is_none() {
            return Err(Error::not_found(Entity::Sku, sku));
        }
        let page = db.inventory().movements(sku, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(Total { count: db.inventory().count_movements(sku).await?, exact: true }),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Returns the SKUs whose on hand is not the sum of their movements, in one query (R11).
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn imbalances(&self) -> Result<Vec<StockImbalance>> {
        self.who.require(Permission::StockRead)?;
        self.cx.storage.connect().await?.inventory().imbalances().await
    }
}

fn check(a: &StockAdjustment) -> Result<()> {
    let mut e = ValidationErrors::default();
    if a.delta == 0 || a.delta.checked_abs().is_none_or(|d| d > MAX_STOCK) {
        e.out_of_bounds("delta", format!("must be between -{MAX_STOCK} and {MAX_STOCK}, and not 0"));
    }
    if a.reason == StockReason::Initial {
        e.push(
            "reason",
            FieldCode::OutOfBounds,
            "must not be `initial`, which is reserved for the first stock of a SKU",
        );
    }
    if let Some(r) = &a.reference {
        check_text("reference", r, 1, 255, &mut e);
    }
    e.into_result()
}

/// Commits batches until no caller waits.
async fn work(cx: Arc<Context>) {
    let mut turn = Turn { cx: cx.clone(), working: true };
    loop {
        let batch: Vec<Pending> = {
            let mut queue = cx.stock.lock();
            if queue.waiting.is_empty() {
                // Set under the lock, so that the next caller becomes the worker.
                queue.running = false;
                turn.working = false;
                break;
            }
            let n = queue.waiting.len().min(cx.config.adjustment_batch);
            queue.waiting.drain(..n).collect()
        };
        let (postings, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|p| (p.posting, p.answer)).unzip();
        let (cx, postings) = (&cx, &postings);
        let written = cx.write(|mut tx| async move { Ok((adjust_all_in(cx, &mut tx, postings).await?, tx)) });
        match written.await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(result);
                }
                // Callers that were just answered and adjust again should join the next commit, not the one after.
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

/// Makes all adjustments that are possible, in their order. Returns for each what it did or why it was refused.
async fn adjust_all_in(cx: &Context, tx: &mut Tx<'_>, postings: &[Posting]) -> Result<Vec<Result<Adjusted>>> {
    let now = cx.now();
    let mut ids: Vec<SkuId> = postings.iter().map(|o| o.adjustment.sku_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut levels: HashMap<SkuId, StockLevel> =
        tx.inventory().lock(&ids).await?.into_iter().map(|l| (l.sku_id, l)).collect();
    let mut movements = Vec::with_capacity(postings.len());
    let results: Vec<Result<Adjusted>> = postings
        .iter()
        .map(|Posting { adjustment: a, actor }| {
            let level =
                levels.get_mut(&a.sku_id).filter(|l| l.live).ok_or_else(|| Error::not_found(Entity::Sku, a.sku_id))?;
            if !level.tracked {
                return Err(StockConflict::NotTracked { sku_id: a.sku_id.0 }.into());
            }
            if level.available() + a.delta < 0 && a.delta < 0 {
                let shortage =
                    Shortage { sku_id: a.sku_id.0, requested: -a.delta, available: level.available().max(0) };
                return Err(StockConflict::Insufficient { shortages: vec![shortage] }.into());
            }
            if level.on_hand + a.delta > MAX_STOCK {
                let message = format!("must not raise the stock above {MAX_STOCK}");
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
                created_by: actor.clone(),
            };
            movements.push(movement.clone());
            Ok(Adjusted { level: *level, movement })
        })
        .collect();
    if movements.is_empty() {
        return Ok(results);
    }
    let touched = tx.inventory().apply(&movements).await?;
    let mut of_product: HashMap<ProductId, Vec<&StockMovement>> = HashMap::new();
    for m in &movements {
        if let Some(level) = levels.get(&m.sku_id) {
            of_product.entry(level.product_id).or_default().push(m);
        }
    }
    let changes = touched.into_iter().map(|t| {
        let movements = of_product.remove(&t.product_id).unwrap_or_default();
        // An event has one actor: the actor of the movements or, if they have several, the system.
        let mut actors: Vec<&Actor> = movements.iter().map(|m| &m.created_by).collect();
        actors.dedup();
        Change {
            kind: EventKind::StockChanged,
            id: t.product_id.0,
            revision: t.revision,
            actor: if let [one] = *actors { one.clone() } else { Actor::system() },
            stale: Forget::default(),
            details: EventDetails { stock: movements.into_iter().map(Into::into).collect(), prices: Vec::new() },
        }
    });
    tx.emit_all(changes.collect()).await?;
    Ok(results)
}
