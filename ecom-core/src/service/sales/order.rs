//! Orders and their bills. Orders that arrive together share a commit; every other change of an order is a write of its
//! own. `domain/sales/order/change.rs` decides what a change does; this file locks, reads and writes.
//!
//! Locks are taken in one order (R24): customers, orders, SKUs, products.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::Datelike as _;

use crate::clock::Timestamp;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::{Actor, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::bill::{Bill, BillFilter, BillKind, BillPatch, BillSort, BillStatus};
use crate::domain::sales::cart::{Cart, CartAccess, CartState};
use crate::domain::sales::order::change::{self, Offers, Stamp, Step, StockChange};
use crate::domain::sales::order::explain::OrderExplanation;
use crate::domain::sales::order::input::{
    BuyerFrom, CancelUnits, CheckedLine, CheckedOrder, CheckoutInput, OrderEdit, OrderInput, OrderPatch, SkuRef,
};
use crate::domain::sales::order::{
    Buyer, ChangeKind, Order, OrderChange, OrderFilter, OrderRecord, OrderSort, OrderStatus, PostalAddress,
};
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{AddressId, BillId, CartId, CustomerId, OrderId, SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::sales::order::NumberedDocument;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;
use crate::service::run::queue::{Batched, Queue, submit};
use crate::service::run::transaction::{Change, Tx};
use crate::service::stock::inventory::post;

/// An order that waits to be placed.
pub(crate) struct Placing {
    /// The id of the order. It is made once per call, so that the order is found after an unknown outcome.
    pub id: OrderId,
    pub input: CheckedOrder,
    /// The cart that the order is made from, and what lets the caller into it.
    pub cart: Option<(CartId, CartAccess)>,
    pub actor: Actor,
}

impl Batched for Placing {
    type Answer = OrderRecord;

    const DOING: &'static str = "placing orders";

    fn queue(cx: &Context) -> &Queue<Self> {
        &cx.orders
    }

    fn most(cx: &Context) -> usize {
        cx.config.order_batch
    }

    async fn run(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &[Self]) -> Result<Vec<Result<OrderRecord>>> {
        place_all_in(cx, tx, calls).await
    }

    async fn recover(cx: &Arc<Context>, calls: &[Self]) -> Result<Vec<Option<OrderRecord>>> {
        let carts = Carts::ids(calls);
        let mut lines: Vec<&CheckedLine> = Vec::new();
        for call in calls {
            lines.extend(&call.input.lines);
        }
        if lines.is_empty() && carts.is_empty() {
            return Err(Error::Internal { context: "the lost transaction held no lock to wait for", source: None });
        }
        let mut tx = Tx::new(cx.clone(), cx.storage.begin().await?);
        // Waits until the lost transaction has ended.
        tx.carts().lock(&carts).await?;
        lock_offers(&mut tx, BTreeSet::new(), lines).await?;
        let ids: Vec<OrderId> = calls.iter().map(|c| c.id).collect();
        let mut found: HashMap<OrderId, OrderRecord> =
            tx.orders().records(&ids).await?.into_iter().map(|r| (r.order.id, r)).collect();
        Ok(calls.iter().map(|call| found.remove(&call.id)).collect())
    }
}

/// The service of the orders of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::ProductInput;
/// use ecom_core::sales::{CustomerInput, DeliveryMethod, OrderInput, OrderLineInput};
///
/// let pen = shop.products().create(&ProductInput::new("Pen").price("2 USD".parse()?).stock(3)).await?;
/// let ada = shop.customers().create(&CustomerInput::new("Ada", "Lovelace", "ada@example.com")).await?;
/// let two_pens = OrderLineInput::new(pen.skus[0].id, 2, pen.skus[0].price.amount());
/// let order = shop.orders().place(&OrderInput::new(ada.id, DeliveryMethod::OnHand).line(two_pens)).await?;
/// println!("{}: {}", order.number, order.totals.total);
///
/// shop.orders().cancel(order.id).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct OrderService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> OrderService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns an order with its lines; a soft-deleted one only if `deleted` asks for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: OrderId, deleted: IncludeDeleted) -> Result<Order> {
        self.who.require(Permission::OrdersRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.orders().get(id, deleted).await?;
        found.ok_or_else(|| Error::not_found(Entity::Order, id))
    }

    /// Returns the order with a number, such as `ORD-2026-000123`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_number(&self, number: &str, deleted: IncludeDeleted) -> Result<Order> {
        self.who.require(Permission::OrdersRead)?;
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        let gone = || Error::not_found(Entity::Order, number);
        let id = db.orders().id_of_number(number).await?.ok_or_else(gone)?;
        db.orders().get(id, deleted).await?.ok_or_else(gone)
    }

    /// Returns a live order with its discounts, bills and credit notes.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn record(&self, id: OrderId) -> Result<OrderRecord> {
        self.who.require(Permission::OrdersRead)?;
        self.who.require(Permission::BillsRead)?;
        let found = self.cx.storage.connect().await?.orders().records(&[id]).await?.pop();
        found.filter(|r| r.order.audit.is_live()).ok_or_else(|| Error::not_found(Entity::Order, id))
    }

    /// Explains where each amount of a live order comes from: of its lines, its bills and credit notes, and of the
    /// order itself (R18, R27, R35). It requires `orders:read` and `bills:read`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn explain(&self, id: OrderId) -> Result<OrderExplanation> {
        let record = self.record(id).await?;
        // The history is read after the record, so that it has an entry for each version up to that of the record.
        let history = self.cx.storage.connect().await?.orders().history(id).await?;
        Ok(record.explain(&history))
    }

    /// Returns a page of orders with their lines and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` of a filter that no order can match, `Unavailable`.
    pub async fn list(
        &self,
        filter: &OrderFilter,
        sort: OrderSort,
        paging: &Paging,
    ) -> Result<(Page<Order>, Option<Total>)> {
        self.who.require(Permission::OrdersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.orders().list(filter, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.orders().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Returns the history of an order, oldest first: one entry for each version of the order.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn history(&self, id: OrderId) -> Result<Vec<OrderChange>> {
        self.who.require(Permission::OrdersRead)?;
        let mut db = self.cx.storage.connect().await?;
        if db.orders().get(id, IncludeDeleted::No).await?.is_none() {
            return Err(Error::not_found(Entity::Order, id));
        }
        db.orders().history(id).await
    }

    /// Places an order: takes the stock, and writes the order, its bill, the ledger and the events in one commit, or
    /// nothing at all (R7). Orders that arrive while others are being committed share the next commit. Each call
    /// returns once its own order is on disk, and fails alone. Dropping the call does not undo the order.
    ///
    /// # Errors
    /// `Validation`; `PRICE_MISMATCH` with every price that is not the current one (R8); `INSUFFICIENT_STOCK` with
    /// every SKU of which too little is available; `DUPLICATE` on `bill_number` or `external_id`; `Unavailable`.
    pub async fn place(&self, input: &OrderInput) -> Result<Order> {
        let placing = self.placing(input)?;
        Ok(submit(self.cx, placing).await?.order)
    }

    /// [`Self::place`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::place`].
    pub async fn place_in(&self, tx: &mut Tx<'_>, input: &OrderInput) -> Result<Order> {
        let placing = self.placing(input)?;
        self.placed_in(tx, placing).await
    }

    async fn placed_in(&self, tx: &mut Tx<'_>, placing: Placing) -> Result<Order> {
        tx.started();
        // A refusal has written nothing.
        let placed = place_all_in(self.cx, tx, &[placing]).await;
        let placed = tx.ended(placed)?.pop();
        Ok(placed.ok_or(Error::Internal { context: "an order is missing", source: None })??.order)
    }

    /// Makes a cart an order, as [`Self::place`] does (R20). The lines are sold at the prices that the shopper last
    /// confirmed, which must be the current ones (R8). A cart makes one order: a second checkout returns the same
    /// order. With the token of a guest's cart, no permission is needed, except for the privileged fields.
    ///
    /// # Errors
    /// `NotFound` of the cart, `CART_EXPIRED`, `CART_MERGED`, and those of [`Self::place`].
    pub async fn checkout(&self, cart: CartId, access: &CartAccess, input: &CheckoutInput) -> Result<Order> {
        let placing = self.checking_out(cart, access, input)?;
        Ok(submit(self.cx, placing).await?.order)
    }

    /// [`Self::checkout`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::checkout`].
    pub async fn checkout_in(
        &self,
        tx: &mut Tx<'_>,
        cart: CartId,
        access: &CartAccess,
        input: &CheckoutInput,
    ) -> Result<Order> {
        let placing = self.checking_out(cart, access, input)?;
        self.placed_in(tx, placing).await
    }

    fn checking_out(&self, cart: CartId, access: &CartAccess, input: &CheckoutInput) -> Result<Placing> {
        if *access == CartAccess::Permission {
            self.who.require(Permission::OrdersWrite)?;
        }
        let order = input.to_order();
        self.require_privileges(&order)?;
        let input = order.check(self.cx.config.currency, BuyerFrom::Cart)?;
        let (id, actor) = (OrderId(self.cx.ids.next()), self.who.actor().clone());
        Ok(Placing { id, input, cart: Some((cart, access.clone())), actor })
    }

    fn require_privileges(&self, input: &OrderInput) -> Result<()> {
        if input.sets_prices() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        if input.sets_bill() {
            self.who.require(Permission::BillsWrite)?;
        }
        Ok(())
    }

    fn placing(&self, input: &OrderInput) -> Result<Placing> {
        self.who.require(Permission::OrdersWrite)?;
        self.require_privileges(input)?;
        let input = input.check(self.cx.config.currency, BuyerFrom::Input)?;
        Ok(Placing { id: OrderId(self.cx.ids.next()), input, cart: None, actor: self.who.actor().clone() })
    }

    /// Edits the lines and the discount of a pending order. Stock and totals follow in the same transaction (R9, R39).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT`, `BILL_FROZEN`, and those of
    /// [`Self::place`].
    pub async fn edit(&self, id: OrderId, expected: ExpectedVersion, edit: &OrderEdit) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.edit_in(&mut tx, id, expected, edit).await?, tx)) }).await
    }

    /// [`Self::edit`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::edit`].
    pub async fn edit_in(
        &self,
        tx: &mut Tx<'_>,
        id: OrderId,
        expected: ExpectedVersion,
        edit: &OrderEdit,
    ) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        if edit.sets_prices() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        let expected = expected.or_named(edit.version)?;
        let edit = edit.check(self.cx.config.currency)?;
        tx.started();
        let before = self.lock(tx, id, Some(expected)).await?;
        let changed: BTreeSet<_> = edit.change.iter().map(|c| c.line_id).collect();
        let of_lines = before.order.lines.iter().filter(|l| changed.contains(&l.id)).filter_map(|l| l.sku_id);
        let offers = lock_offers(tx, of_lines.collect(), edit.add.iter()).await?;
        let saved = match before.edit(&edit, &offers, &self.stamp())? {
            Some(step) => self.save(tx, before, step).await.map(|saved| saved.order),
            None => Ok(before.order),
        };
        tx.ended(saved)
    }

    /// Patches the delivery, the tracking reference or the attributes of an order that is pending or in progress (RFC
    /// 7396, R1).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT`, `STATE_CONFLICT` if the personal data
    /// of the order was erased, `Validation`, `Unavailable`.
    pub async fn patch(&self, id: OrderId, expected: ExpectedVersion, patch: OrderPatch) -> Result<Order> {
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: OrderId,
        expected: ExpectedVersion,
        patch: OrderPatch,
    ) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        let expected = expected.or_named(patch.version)?;
        self.change(tx, id, Some(expected), |order, stamp| order.patch(patch, stamp)).await
    }

    /// Starts the work on a pending order. A version is optional, since the status guards the step.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `ORDER_STATUS_CONFLICT`, `STATE_CONFLICT` if no unit is left to deliver,
    /// `Unavailable`.
    pub async fn start(&self, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.start_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::start`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_in(&self, tx: &mut Tx<'_>, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        self.change(tx, id, guarded(expected), |order, stamp| order.start(stamp).map(Some)).await
    }

    /// Records that an order in progress was delivered. A version is optional, since the status guards the step.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `ORDER_STATUS_CONFLICT`, `Unavailable`.
    pub async fn deliver(&self, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.deliver_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::deliver`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::deliver`].
    pub async fn deliver_in(&self, tx: &mut Tx<'_>, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        self.change(tx, id, guarded(expected), |order, stamp| order.deliver(stamp).map(Some)).await
    }

    /// Cancels a whole order and restores its stock exactly once (R10, R36). It needs no version and is safe to repeat:
    /// a canceled order is returned as it is.
    ///
    /// # Errors
    /// `NotFound`, `ORDER_STATUS_CONFLICT` if the order is delivered, `Unavailable`.
    pub async fn cancel(&self, id: OrderId) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.cancel_in(&mut tx, id).await?, tx)) }).await
    }

    /// [`Self::cancel`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::cancel`].
    pub async fn cancel_in(&self, tx: &mut Tx<'_>, id: OrderId) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        self.change(tx, id, None, |record, stamp| match record.order.status {
            OrderStatus::Canceled => Ok(None),
            _ => record.cancel(stamp).map(Some),
        })
        .await
    }

    /// Cancels some units of an order that is pending or in progress, restores their stock, and adds a credit note for
    /// each bill concerned (R36). If no unit is left, the whole order is canceled.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT`, `Validation`, `Unavailable`.
    pub async fn cancel_units(&self, id: OrderId, expected: ExpectedVersion, units: &[CancelUnits]) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.cancel_units_in(&mut tx, id, expected, units).await?, tx)) }).await
    }

    /// [`Self::cancel_units`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::cancel_units`].
    pub async fn cancel_units_in(
        &self,
        tx: &mut Tx<'_>,
        id: OrderId,
        expected: ExpectedVersion,
        units: &[CancelUnits],
    ) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        self.change(tx, id, Some(expected), |order, stamp| order.cancel_units(units, stamp).map(Some)).await
    }

    /// Cancels an order, if it is not canceled, and soft-deletes it.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT` if the order is delivered,
    /// `Unavailable`.
    pub async fn delete(&self, id: OrderId, expected: ExpectedVersion) -> Result<()> {
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: OrderId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::OrdersWrite)?;
        tx.started();
        let mut before = self.lock(tx, id, Some(expected)).await?;
        if before.order.status != OrderStatus::Canceled {
            let step = before.cancel(&self.stamp())?;
            before = self.save(tx, before, step).await?;
        }
        let step = before.delete(&self.stamp());
        let saved = self.save(tx, before, step).await.map(drop);
        tx.ended(saved)
    }

    /// Restores a soft-deleted order. It stays canceled.
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if the order is not deleted, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `DUPLICATE` on
    /// `external_id`, `Unavailable`.
    pub async fn restore(&self, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: OrderId, expected: ExpectedVersion) -> Result<Order> {
        self.who.require(Permission::OrdersWrite)?;
        tx.started();
        let found = tx.orders().lock(&[id]).await?.pop();
        let before = found.ok_or_else(|| Error::not_found(Entity::Order, id))?;
        before.order.audit.check_deleted("order", id)?;
        expected.check(Entity::Order, id, before.order.audit.version, self.cx.config.last_write_wins)?;
        let step = before.restore(&self.stamp());
        let saved = self.save(tx, before, step).await.map(|saved| saved.order);
        tx.ended(saved)
    }

    /// Locks a live order, decides what `step` makes of it, and writes the result, if anything changes.
    async fn change(
        &self,
        tx: &mut Tx<'_>,
        id: OrderId,
        expected: Option<ExpectedVersion>,
        step: impl FnOnce(&OrderRecord, &Stamp<'_>) -> Result<Option<Step>> + Send,
    ) -> Result<Order> {
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let changed = match step(&before, &self.stamp())? {
            Some(step) => self.save(tx, before, step).await.map(|saved| saved.order),
            None => Ok(before.order),
        };
        tx.ended(changed)
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp { now: self.cx.now(), actor: self.who.actor(), ids: &*self.cx.ids }
    }

    /// Locks a live order and, if a version is expected, checks that it is the one that the writer read (R1).
    async fn lock(&self, tx: &mut Tx<'_>, id: OrderId, expected: Option<ExpectedVersion>) -> Result<OrderRecord> {
        let found = tx.orders().lock(&[id]).await?.pop().filter(|r| r.order.audit.is_live());
        let record = found.ok_or_else(|| Error::not_found(Entity::Order, id))?;
        if let Some(expected) = expected {
            expected.check(Entity::Order, id, record.order.audit.version, self.cx.config.last_write_wins)?;
        }
        Ok(record)
    }

    /// Writes a change of an order that the transaction has locked, with its movements of stock and its event. Returns
    /// the order with the numbers of its new bills.
    async fn save(&self, tx: &mut Tx<'_>, before: OrderRecord, step: Step) -> Result<OrderRecord> {
        let Step { mut record, stock, change } = step;
        let skus: Vec<SkuId> = stock.iter().map(|s| s.sku_id).collect();
        let levels = tx.inventory().lock(&skus).await?;
        let unnumbered = record.bills.iter().filter(|b| b.number.is_empty()).count();
        let year = record.order.audit.updated_at.year();
        let mut numbers = tx.orders().next_numbers(NumberedDocument::Bill, year, unnumbered).await?.into_iter();
        for bill in record.bills.iter_mut().filter(|b| b.number.is_empty()) {
            bill.number = taken(numbers.next())?;
        }
        let written = tx.orders().update(&before, &record, &change).await;
        tx.or_next_name(written, |field| field == "bill_number")?;
        let reason = if change.kind == ChangeKind::Edited { StockReason::LineChange } else { StockReason::Cancel };
        let movements: Vec<StockMovement> =
            stock.iter().map(|s| movement(self.cx, s, reason, &record.order, self.who.actor())).collect();
        let product_of = levels.into_iter().map(|l| (l.sku_id, l.product_id)).collect();
        let mut changes = post(tx, &movements, &product_of).await?;
        let was_open = |id: BillId| before.bills.iter().any(|b| b.id == id && b.status != BillStatus::Paid);
        let pays = |b: &Bill| b.kind == BillKind::Bill && b.status == BillStatus::Paid && was_open(b.id);
        let kind = match change.kind {
            ChangeKind::Billed if record.bills.iter().any(pays) => EventKind::OrderPaid,
            kind => event_of(kind),
        };
        changes.push(Change::new(kind, record.order.id, record.order.audit.version, self.who.actor()));
        tx.emit_all(changes).await?;
        Ok(record)
    }
}

/// Returns a version that a step checks only if the caller names one.
const fn guarded(expected: ExpectedVersion) -> Option<ExpectedVersion> {
    match expected {
        ExpectedVersion::Unspecified => None,
        exact @ ExpectedVersion::Exact(_) => Some(exact),
    }
}

const fn event_of(kind: ChangeKind) -> EventKind {
    match kind {
        ChangeKind::Placed => EventKind::OrderPlaced,
        ChangeKind::Edited | ChangeKind::Patched | ChangeKind::Billed => EventKind::OrderUpdated,
        ChangeKind::Started => EventKind::OrderStarted,
        ChangeKind::Delivered => EventKind::OrderDelivered,
        ChangeKind::UnitsCanceled => EventKind::OrderUnitsCanceled,
        ChangeKind::Canceled => EventKind::OrderCanceled,
        ChangeKind::Deleted => EventKind::OrderDeleted,
        ChangeKind::Restored => EventKind::OrderRestored,
        ChangeKind::Erased => EventKind::OrderErased,
    }
}

fn movement(cx: &Context, stock: &StockChange, reason: StockReason, order: &Order, actor: &Actor) -> StockMovement {
    StockMovement {
        id: StockMovementId(cx.ids.next()),
        sku_id: stock.sku_id,
        delta: stock.delta,
        reason: if stock.line_id.is_some() { reason } else { StockReason::Adjustment },
        reference: Some(order.number.clone()),
        order_line_id: stock.line_id,
        created_at: order.audit.updated_at,
        created_by: actor.clone(),
    }
}

fn taken(number: Option<String>) -> Result<String> {
    number.ok_or(Error::Internal { context: "a number of a document is missing", source: None })
}

/// Locks the SKUs that lines name, and `more`, and returns them as they are sold.
async fn lock_offers<'l>(
    tx: &mut Tx<'_>,
    more: BTreeSet<SkuId>,
    lines: impl IntoIterator<Item = &'l CheckedLine> + Send,
) -> Result<Offers> {
    let (mut ids, mut codes) = (more, Vec::new());
    for line in lines {
        match &line.sku {
            SkuRef::Id(id) => drop(ids.insert(*id)),
            SkuRef::Code(code) => codes.push(code.clone()),
        }
    }
    let by_code: HashMap<String, SkuId> = tx.offers().by_codes(&codes).await?.into_iter().collect();
    ids.extend(by_code.values());
    let ids: Vec<SkuId> = ids.into_iter().collect();
    let offers = tx.offers().lock(&ids).await?;
    Ok(Offers { by_id: offers.into_iter().map(|o| (o.sku_id, o)).collect(), by_code })
}

/// The customers and addresses that a batch of orders refers to, held against changes.
struct Buyers {
    customers: HashMap<CustomerId, Buyer>,
    addresses: HashMap<AddressId, (CustomerId, PostalAddress)>,
}

impl Buyers {
    async fn hold(tx: &mut Tx<'_>, calls: &[Placing], of_carts: Vec<CustomerId>) -> Result<Self> {
        let named = calls.iter().filter_map(|c| c.input.customer_id);
        let ids: BTreeSet<CustomerId> = named.chain(of_carts).collect();
        let ids: Vec<CustomerId> = ids.into_iter().collect();
        let held = tx.customers().hold(&ids).await?;
        let customers = held.into_iter().filter(|c| c.audit.is_live()).map(|c| {
            let buyer = Buyer {
                first_name: Some(c.first_name),
                last_name: Some(c.last_name),
                email: Some(c.email),
                telephone: c.telephone,
            };
            (c.id, buyer)
        });
        let customers = customers.collect();
        let ids: Vec<AddressId> = calls.iter().filter_map(|c| c.input.address_id).collect();
        let found = tx.addresses().get_many(&ids).await?;
        let addresses = found.into_iter().map(|a| (a.id, (a.customer_id, PostalAddress::from(a)))).collect();
        Ok(Self { customers, addresses })
    }

    /// Returns the buyer and the address of an order.
    ///
    /// # Errors
    /// `Validation` on `customer_id` and `address_id`. An address of another customer does not exist for this one.
    fn of(&self, input: &CheckedOrder) -> Result<(Buyer, Option<PostalAddress>)> {
        let mut errors = ValidationErrors::default();
        let buyer = match (&input.guest, input.customer_id) {
            (Some(guest), _) => Buyer {
                first_name: Some(guest.first_name.clone()),
                last_name: Some(guest.last_name.clone()),
                email: Some(guest.email.clone()),
                telephone: guest.telephone.clone(),
            },
            (None, Some(id)) => self.customers.get(&id).cloned().unwrap_or_else(|| {
                let message = format!("names customer `{id}`, which does not exist");
                errors.push("customer_id", FieldCode::ReferenceNotFound, message);
                Buyer::default()
            }),
            (None, None) => Buyer::default(),
        };
        let address = match input.address_id {
            Some(id) => match self.addresses.get(&id).filter(|(owner, _)| Some(*owner) == input.customer_id) {
                Some((_, address)) => Some(address.clone()),
                None => {
                    let message = format!("names address `{id}`, which this customer does not have");
                    errors.push("address_id", FieldCode::ReferenceNotFound, message);
                    None
                }
            },
            None => input.shipping_address.clone(),
        };
        errors.into_result()?;
        Ok((buyer, address))
    }
}

/// The carts that a batch makes orders from, locked, and the orders that were already made from them.
struct Carts {
    carts: HashMap<CartId, Cart>,
    orders: HashMap<CartId, OrderRecord>,
}

impl Carts {
    fn ids(calls: &[Placing]) -> Vec<CartId> {
        calls.iter().filter_map(|c| c.cart.as_ref().map(|(id, _)| *id)).collect()
    }

    /// Returns the customers of the carts, which are held before the carts are locked (R24).
    async fn customers(tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Vec<CustomerId>> {
        let carts = tx.carts().get_many(&Self::ids(calls)).await?;
        Ok(carts.into_iter().filter_map(|cart| cart.customer_id).collect())
    }

    async fn lock(tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Self> {
        let locked = tx.carts().lock(&Self::ids(calls)).await?;
        let carts: HashMap<CartId, Cart> = locked.into_iter().map(|c| (c.id, c)).collect();
        let ordered: Vec<CartId> = carts.values().filter(|c| c.state == CartState::Ordered).map(|c| c.id).collect();
        let mut orders = HashMap::new();
        if !ordered.is_empty() {
            let made = tx.orders().of_carts(&ordered).await?;
            let ids: Vec<OrderId> = made.iter().map(|(_, order)| *order).collect();
            let records = tx.orders().records(&ids).await?;
            orders.extend(records.into_iter().filter_map(|r| Some((r.order.cart_id?, r))));
        }
        Ok(Self { carts, orders })
    }

    /// Returns what a call asks for: the order that its cart has already become, or the input with the lines and the
    /// customer of the cart.
    ///
    /// # Errors
    /// `NotFound`, `CART_EXPIRED`, `CART_MERGED`, and `Validation` of an empty cart and of a buyer who is missing or
    /// named twice.
    fn wanted(&self, call: &Placing, now: Timestamp) -> Result<Wanted> {
        let Some((id, access)) = &call.cart else { return Ok(Wanted::Order(Box::new(call.input.clone()))) };
        let cart = access.check(*id, self.carts.get(id).cloned())?;
        if let Some(order) = self.orders.get(id) {
            return Ok(Wanted::Placed(Box::new(order.clone())));
        }
        cart.check_open(now)?;
        let mut input = call.input.clone();
        let mut errors = ValidationErrors::default();
        if cart.lines.is_empty() {
            errors.push("lines", FieldCode::Required, "is required: the cart has no lines");
        }
        match (cart.customer_id, &input.guest) {
            (Some(_), Some(_)) => {
                errors.push("customer", FieldCode::Inconsistent, "must not be sent: the cart belongs to a customer");
            }
            (None, None) => {
                errors.push("customer", FieldCode::Required, "is required: the cart belongs to a guest");
            }
            _ => {}
        }
        if input.address_id.is_some() && cart.customer_id.is_none() {
            let message = "requires a customer's cart: a guest sends `shipping_address`";
            errors.push("address_id", FieldCode::Inconsistent, message);
        }
        errors.into_result()?;
        input.customer_id = cart.customer_id;
        let lines = cart.lines.into_iter().enumerate().map(|(i, line)| CheckedLine {
            field: format!("lines[{i}]"),
            sku: SkuRef::Id(line.sku_id),
            quantity: line.quantity,
            shown: Some(line.seen_price),
            fixed: None,
            attributes: line.attributes,
        });
        input.lines = lines.collect();
        Ok(Wanted::Order(Box::new(input)))
    }
}

/// The order that a call of a batch asks for.
enum Wanted {
    /// An order to place.
    Order(Box<CheckedOrder>),
    /// An order that was placed before.
    Placed(Box<OrderRecord>),
}

/// The outcome of a call of a batch.
enum Outcome {
    /// The order is the one at this index of those that are inserted.
    Inserted(usize),
    /// An order that was placed before.
    Placed(Box<OrderRecord>),
}

/// Places all orders that are possible, in their order, with a fixed number of statements. Returns for each the order,
/// or why it was refused.
async fn place_all_in(cx: &Arc<Context>, tx: &mut Tx<'_>, calls: &[Placing]) -> Result<Vec<Result<OrderRecord>>> {
    let of_carts = Carts::customers(tx, calls).await?;
    let buyers = Buyers::hold(tx, calls, of_carts).await?;
    let carts = Carts::lock(tx, calls).await?;
    let wanted: Vec<Result<Wanted>> = calls.iter().map(|call| carts.wanted(call, cx.now())).collect();
    let mut lines: Vec<&CheckedLine> = Vec::new();
    for wanted in &wanted {
        if let Ok(Wanted::Order(input)) = wanted {
            lines.extend(&input.lines);
        }
    }
    let mut offers = lock_offers(tx, BTreeSet::new(), lines).await?;
    // The time is read after the locks were granted, so that the times of orders on one SKU are in their order.
    let now = cx.now();
    let mut steps: Vec<Step> = Vec::with_capacity(calls.len());
    let mut actors: Vec<&Actor> = Vec::with_capacity(calls.len());
    let mut made_from: HashMap<CartId, usize> = HashMap::new();
    let mut outcomes: Vec<Result<Outcome>> = Vec::with_capacity(calls.len());
    for (call, wanted) in calls.iter().zip(wanted) {
        let input = match wanted {
            Ok(Wanted::Order(input)) => input,
            Ok(Wanted::Placed(record)) => {
                outcomes.push(Ok(Outcome::Placed(record)));
                continue;
            }
            Err(refusal) => {
                outcomes.push(Err(refusal));
                continue;
            }
        };
        let cart = call.cart.as_ref().map(|(id, _)| *id);
        // If an earlier call of this batch checks out the same cart, both get the same order.
        if let Some(at) = cart.and_then(|id| made_from.get(&id)) {
            outcomes.push(Ok(Outcome::Inserted(*at)));
            continue;
        }
        let stamp = Stamp { now, actor: &call.actor, ids: &*cx.ids };
        let step = buyers.of(&input).and_then(|(buyer, shipping_address)| {
            let (id, currency) = (call.id, cx.config.currency);
            let place = change::Context { id, cart, buyer, shipping_address, currency, stamp: &stamp };
            change::place(&input, place, &offers)
        });
        outcomes.push(step.map(|step| {
            offers.apply(&step.stock);
            made_from.extend(cart.map(|id| (id, steps.len())));
            steps.push(step);
            actors.push(&call.actor);
            Outcome::Inserted(steps.len() - 1)
        }));
    }
    let records = insert_orders(cx, tx, steps, &actors, &offers, calls).await?;
    let record = |at: usize| records.get(at).cloned();
    let results = outcomes.into_iter().map(|outcome| match outcome? {
        Outcome::Placed(record) => Ok(*record),
        Outcome::Inserted(at) => record(at).ok_or(Error::Internal { context: "an order is missing", source: None }),
    });
    Ok(results.collect())
}

/// Writes new orders, with their numbers, movements of stock, carts and events.
async fn insert_orders(
    cx: &Arc<Context>,
    tx: &mut Tx<'_>,
    steps: Vec<Step>,
    actors: &[&Actor],
    offers: &Offers,
    calls: &[Placing],
) -> Result<Vec<OrderRecord>> {
    let Some(first) = steps.first() else { return Ok(Vec::new()) };
    let (now, year) = (first.record.order.placed_at, first.record.order.placed_at.year());
    let unnumbered = steps.iter().flat_map(|s| &s.record.bills).filter(|b| b.number.is_empty()).count();
    let mut numbers = tx.orders().next_numbers(NumberedDocument::Order, year, steps.len()).await?.into_iter();
    let mut bill_numbers = tx.orders().next_numbers(NumberedDocument::Bill, year, unnumbered).await?.into_iter();
    let (mut records, mut history) = (Vec::with_capacity(steps.len()), Vec::with_capacity(steps.len()));
    let (mut movements, mut events) = (Vec::new(), Vec::with_capacity(steps.len()));
    for (Step { mut record, stock, change }, actor) in steps.into_iter().zip(actors) {
        record.order.number = taken(numbers.next())?;
        for bill in record.bills.iter_mut().filter(|b| b.number.is_empty()) {
            bill.number = taken(bill_numbers.next())?;
        }
        movements.extend(stock.iter().map(|s| movement(cx, s, StockReason::Order, &record.order, actor)));
        events.push(Change::new(EventKind::OrderPlaced, record.order.id, record.order.audit.version, actor));
        records.push(record);
        history.push(change);
    }
    let written = tx.orders().insert(&records, &history).await;
    // A number that an import or a caller took is skipped (R43), unless this batch chose one itself.
    let chosen = calls.iter().any(|c| c.input.bill_number.is_some());
    tx.or_next_name(written, |field| field == "number" || (field == "bill_number" && !chosen))?;
    let product_of = offers.by_id.values().map(|o| (o.sku_id, o.product_id)).collect();
    let mut changes = post(tx, &movements, &product_of).await?;
    changes.append(&mut events);
    // Each cart records who ordered it.
    let mut ordered: HashMap<&Actor, Vec<CartId>> = HashMap::new();
    for (record, actor) in records.iter().zip(actors) {
        if let Some(cart) = record.order.cart_id {
            ordered.entry(actor).or_default().push(cart);
        }
    }
    for (actor, carts) in ordered {
        tx.carts().set_ordered(&carts, now, actor).await?;
    }
    tx.emit_all(changes).await?;
    Ok(records)
}

/// The service of the bills and credit notes of a shop. They are created by the calls of [`OrderService`].
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, order: ecom_core::id::OrderId) -> ecom_core::Result<()> {
/// use ecom_core::common::IncludeDeleted;
/// use ecom_core::sales::BillPatch;
///
/// let bill = shop.bills().of_order(order, IncludeDeleted::No).await?.remove(0);
/// let paid = BillPatch { paid: Some(true), ..BillPatch::default() };
/// let bill = shop.bills().patch(bill.id, bill.audit.version.into(), paid).await?;
/// println!("{} over {} is paid", bill.number, bill.totals.total);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BillService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> BillService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a bill; one of a soft-deleted order only if `deleted` asks for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: BillId, deleted: IncludeDeleted) -> Result<Bill> {
        self.who.require(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.bills().get(id, deleted).await?;
        found.ok_or_else(|| Error::not_found(Entity::Bill, id))
    }

    /// Returns the bill with a number, such as `BILL-2026-000123`; one of a soft-deleted order only if `deleted` asks
    /// for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_number(&self, number: &str, deleted: IncludeDeleted) -> Result<Bill> {
        self.who.require(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.bills().get_by_number(number, deleted).await?;
        found.ok_or_else(|| Error::not_found(Entity::Bill, number))
    }

    /// Returns the bills of an order, and then its credit notes, oldest first; those of a soft-deleted order only if
    /// `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound` if there is no such order, `Unavailable`.
    pub async fn of_order(&self, order: OrderId, deleted: IncludeDeleted) -> Result<Vec<Bill>> {
        self.who.require(Permission::BillsRead)?;
        self.who.require_shown(deleted)?;
        let bills = self.cx.storage.connect().await?.bills().of_order(order, deleted).await?;
        // Every order has a bill.
        if bills.is_empty() { Err(Error::not_found(Entity::Order, order)) } else { Ok(bills) }
    }

    /// Returns a page of bills and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` of a range of dates that ends before it begins, `Unavailable`.
    pub async fn list(
        &self,
        filter: &BillFilter,
        sort: BillSort,
        paging: &Paging,
    ) -> Result<(Page<Bill>, Option<Total>)> {
        self.who.require(Permission::BillsRead)?;
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.bills().list(filter, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.bills().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Patches the payment type or the discount of a bill, or records that it was paid (R39).
    ///
    /// # Errors
    /// `NotFound`, also if its order is soft-deleted, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `BILL_FROZEN`, `ORDER_STATUS_CONFLICT`, `Validation`,
    /// `Unavailable`.
    pub async fn patch(&self, id: BillId, expected: ExpectedVersion, patch: BillPatch) -> Result<Bill> {
        let patch = &patch;
        self.cx.write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch).await?, tx)) }).await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::patch`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: BillId,
        expected: ExpectedVersion,
        patch: &BillPatch,
    ) -> Result<Bill> {
        self.who.require(Permission::BillsWrite)?;
        if patch.discount.is_present() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        let expected = expected.or_named(patch.version)?;
        let gone = || Error::not_found(Entity::Bill, id);
        tx.started();
        let order = tx.bills().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?.order_id;
        let locked = tx.orders().lock(&[order]).await?.pop();
        // The order was live before it was locked, and may have been deleted since.
        let before = locked.filter(|r| r.order.audit.is_live()).ok_or_else(gone)?;
        let bill = before.bills.iter().find(|b| b.id == id).ok_or_else(gone)?.clone();
        expected.check(Entity::Bill, id, bill.audit.version, self.cx.config.last_write_wins)?;
        let orders = OrderService::new(self.cx, self.who);
        let Some(step) = before.patch_bill(id, patch, &orders.stamp())? else { return tx.ended(Ok(bill)) };
        let patched = step.record.bills.iter().find(|b| b.id == id).cloned();
        orders.save(tx, before, step).await?;
        tx.ended(patched.ok_or_else(gone))
    }
}
