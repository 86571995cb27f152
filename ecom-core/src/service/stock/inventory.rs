//! Stock: adjustments that share commits, and the ledger.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::sku::MAX_STOCK;
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::platform::outbox::{EventDetails, EventKind};
use crate::domain::stock::inventory::{Adjusted, LowStock, StockAdjustment, StockImbalance, StockLevel, StockMovement};
use crate::error::{Entity, Error, FieldCode, Result, Shortage, StockConflict, ValidationErrors};
use crate::id::{EventId, ProductId, SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::storage::Repositories as _;
use crate::service::catalog::product::ProductService;
use crate::service::run::context::Context;
use crate::service::run::listing::Aspect;
use crate::service::run::queue::{Batched, Done, Queue, submit};
use crate::service::run::transaction::{Change, Tx};
use crate::text::check_text;

/// An adjustment with its actor.
pub(crate) struct Posting {
    adjustment: StockAdjustment,
    actor: Actor,
}

impl Batched for Posting {
    type Answer = Adjusted;

    const DOING: &'static str = "adjusting stock";

    fn queue(cx: &Context) -> &Queue<Self> {
        &cx.adjustments
    }

    fn most(cx: &Context) -> usize {
        cx.config.adjustment_batch
    }

    fn rows(&self) -> usize {
        1
    }

    fn locks(&self, each: &mut dyn FnMut(u128)) {
        each(self.adjustment.sku_id.0.as_u128());
    }

    async fn run(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &[Self]) -> Result<Vec<Result<Done<Adjusted>>>> {
        adjust_all_in(cx, tx, calls).await
    }

    async fn recover(_: &Arc<Context>, _: &[Self]) -> Result<Vec<Option<Done<Adjusted>>>> {
        Err(Error::Internal { context: "an adjustment has no id by which it could be found", source: None })
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

    /// Returns the stock of a SKU as the database has it now. Without `stock:read`, its product must be one that the
    /// principal may read.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn level(&self, sku: SkuId) -> Result<StockLevel> {
        let gone = || Error::not_found(Entity::Sku, sku);
        let found = self.cx.storage.connect().await?.inventory().levels(&[sku]).await?.pop().ok_or_else(gone)?;
        if !self.who.may(Permission::StockRead) {
            let products = ProductService::new(self.cx, self.who).get_many(&[found.product_id]).await?;
            products.first().ok_or_else(gone)?;
        }
        Ok(found)
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
        submit(self.cx, posting).await
    }

    /// [`Self::adjust`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::adjust`].
    pub async fn adjust_in(&self, tx: &mut Tx<'_>, adjustment: StockAdjustment) -> Result<Adjusted> {
        self.who.require(Permission::StockAdjust)?;
        check(&adjustment)?;
        let posting = Posting { adjustment, actor: self.who.actor().clone() };
        tx.started();
        let adjusted = adjust_all_in(self.cx, tx, &[posting]).await?.pop();
        // A refused adjustment has written nothing.
        tx.ended(Ok(()))?;
        let (adjusted, _) = adjusted.ok_or(Error::Internal { context: "an adjustment is missing", source: None })??;
        Ok(adjusted)
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
    if a.reason.is_reserved() {
        let message = format!("must not be `{}`, which only the library records", a.reason.as_str());
        e.push("reason", FieldCode::OutOfBounds, message);
    }
    if let Some(r) = &a.reference {
        check_text("reference", r, 1, 255, &mut e);
    }
    e.into_result()
}

/// Makes all adjustments that are possible, in their order. Returns for each what it did, with the event of its product,
/// or why it was refused.
async fn adjust_all_in(cx: &Context, tx: &mut Tx<'_>, postings: &[Posting]) -> Result<Vec<Result<Done<Adjusted>>>> {
    let now = cx.now();
    let mut ids: Vec<SkuId> = postings.iter().map(|o| o.adjustment.sku_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut levels: HashMap<SkuId, StockLevel> =
        tx.inventory().lock(&ids).await?.into_iter().map(|l| (l.sku_id, l)).collect();
    let before = levels.clone();
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
                order_line_id: None,
                created_at: now,
                created_by: actor.clone(),
            };
            movements.push(movement.clone());
            Ok(Adjusted { level: *level, movement })
        })
        .collect();
    let mut events: HashMap<SkuId, EventId> = HashMap::new();
    if !movements.is_empty() {
        let mut changes = post(tx, &movements, &before).await?;
        let mut of_product: HashMap<Uuid, EventId> = HashMap::with_capacity(changes.len());
        for change in &mut changes {
            let event = EventId(cx.ids.next());
            change.event = Some(event);
            of_product.insert(change.id, event);
        }
        tx.emit_all(changes).await?;
        events.extend(before.values().filter_map(|l| Some((l.sku_id, *of_product.get(&l.product_id.0)?))));
    }
    let event_of = |done: Adjusted| {
        let event = events.get(&done.level.sku_id).copied();
        (done, event)
    };
    Ok(results.into_iter().map(|result| result.map(event_of)).collect())
}

/// Applies movements of SKUs that the transaction has locked, and returns the changes of their products for
/// [`Tx::emit_all`]. `levels` are those before the movements. A SKU becomes low by the sum of its movements, since
/// nobody sees a level in between.
pub(crate) async fn post(
    tx: &mut Tx<'_>,
    movements: &[StockMovement],
    levels: &HashMap<SkuId, StockLevel>,
) -> Result<Vec<Change<'static>>> {
    if movements.is_empty() {
        return Ok(Vec::new());
    }
    let touched = tx.inventory().apply(movements).await?;
    let mut of_product: HashMap<ProductId, Vec<&StockMovement>> = HashMap::new();
    let mut deltas: BTreeMap<SkuId, i64> = BTreeMap::new();
    for m in movements {
        *deltas.entry(m.sku_id).or_default() += m.delta;
        if let Some(level) = levels.get(&m.sku_id) {
            of_product.entry(level.product_id).or_default().push(m);
        }
    }
    let mut low_of: HashMap<ProductId, Vec<LowStock>> = HashMap::new();
    for (sku, delta) in deltas {
        let crossed = levels
            .get(&sku)
            .and_then(|before| LowStock::crossed(before, &StockLevel { on_hand: before.on_hand + delta, ..*before }));
        if let Some(low) = crossed {
            low_of.entry(low.product_id).or_default().push(low);
        }
    }
    let changes = touched.into_iter().map(|t| {
        let movements = of_product.remove(&t.product_id).unwrap_or_default();
        // An event has one actor: the actor of the movements or, if they have several, the system.
        let mut actors: Vec<&Actor> = movements.iter().map(|m| &m.created_by).collect();
        actors.dedup();
        let actor = if let [one] = *actors { one.clone() } else { Actor::system() };
        let stock = movements.into_iter().map(Into::into).collect();
        let low = low_of.remove(&t.product_id).unwrap_or_default();
        let details = EventDetails { stock, low, ..EventDetails::default() };
        let aspect = t.availability_changed.then_some(Aspect::Availability);
        let change = Change::event_only(EventKind::StockChanged, t.product_id, t.revision, &actor);
        change.of_aspects(aspect).details(details)
    });
    Ok(changes.collect())
}
