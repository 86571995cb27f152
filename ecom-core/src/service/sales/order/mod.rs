//! Orders. Those that arrive together share a commit ([`place`]); every other change of an order is a write of its own.
//! `domain/sales/order/change.rs` decides what a change does; this folder locks, reads and writes.
//!
//! Locks are taken in one order (R24): customers, orders, SKUs, products.

pub(crate) mod place;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::Datelike as _;

use self::place::{Placing, lock_offers, place_all_in};
use crate::domain::access::policy::Reach;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::common::{Actor, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::bill::{Bill, BillKind, BillStatus};
use crate::domain::sales::cart::CartAccess;
use crate::domain::sales::order::change::{Offers, Stamp, Step, StockChange};
use crate::domain::sales::order::explain::OrderExplanation;
use crate::domain::sales::order::input::{
    BuyerFrom, CancelUnits, CheckedEdit, CheckedLine, CheckoutInput, OrderEdit, OrderInput, OrderPatch, SkuRef,
};
use crate::domain::sales::order::{
    ChangeKind, LineKind, Order, OrderChange, OrderFilter, OrderLine, OrderLineFilter, OrderRecord, OrderSort,
    OrderStatus,
};
use crate::domain::stock::inventory::{StockMovement, StockReason};
use crate::error::{Entity, Error, PriceMismatch, Result, SalesConflict};
use crate::id::{BillId, CartId, EventId, OrderId, OrderLineId, SkuId, StockMovementId};
use crate::paging::{Page, Paging, Total};
use crate::port::sales::order::NumberedDocument;
use crate::port::storage::Repositories as _;
use crate::service::platform::idempotency::{KeyedCall, Once};
use crate::service::run::context::Context;
use crate::service::run::notice::{Notice, not_placed, refusal};
use crate::service::run::queue::submit;
use crate::service::run::transaction::{Change, Tx};
use crate::service::stock::inventory::post;

/// The service of the orders of a shop.
///
/// A customer reads and places its own orders without a permission. While one is pending, the customer also edits its
/// lines at the current prices, changes its delivery and cancels it.
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

/// How many times an order that changes while it is read is read again.
pub(crate) const TRIES: usize = 10;

impl<'a> OrderService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns an order with its lines; a soft-deleted one only if `deleted` asks for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: OrderId, deleted: IncludeDeleted) -> Result<Order> {
        let reach = self.who.reach(Permission::OrdersRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.orders().get(id, deleted).await?;
        found.filter(|order| reach.covers(order.customer_id)).ok_or_else(|| Error::not_found(Entity::Order, id))
    }

    /// Returns the order of a cart. A guest, who has the token of the cart, follows the order by this call.
    ///
    /// # Errors
    /// `NotFound` of the cart, and of the order if there is none yet or it is soft-deleted; `Unavailable`.
    pub async fn get_by_cart(&self, cart: CartId, access: &CartAccess) -> Result<Order> {
        let access = access.of(self.who, Permission::OrdersRead)?;
        let mut db = self.cx.storage.connect().await?;
        let found = db.carts().get(cart).await?;
        access.check(cart, found)?;
        let gone = || Error::not_found(Entity::Order, format!("of cart {cart}"));
        let (_, id) = db.orders().of_carts(&[cart]).await?.pop().ok_or_else(gone)?;
        db.orders().get(id, IncludeDeleted::No).await?.ok_or_else(gone)
    }

    /// Returns the order with a number, such as `ORD-2026-000123`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get_by_number(&self, number: &str, deleted: IncludeDeleted) -> Result<Order> {
        let reach = self.who.reach(Permission::OrdersRead)?;
        self.who.require_shown(deleted)?;
        let gone = || Error::not_found(Entity::Order, number);
        // No number contains such a character, and not every database accepts it.
        if number.contains(char::is_control) {
            return Err(gone());
        }
        let mut db = self.cx.storage.connect().await?;
        let id = db.orders().id_of_number(number).await?.ok_or_else(gone)?;
        db.orders().get(id, deleted).await?.filter(|order| reach.covers(order.customer_id)).ok_or_else(gone)
    }

    /// Returns an order with its discounts, bills and credit notes; a soft-deleted one only if `deleted` asks for it
    /// (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn record(&self, id: OrderId, deleted: IncludeDeleted) -> Result<OrderRecord> {
        let (orders, bills) = (self.who.reach(Permission::OrdersRead)?, self.who.reach(Permission::BillsRead)?);
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        for _ in 0..TRIES {
            let found = db.orders().records(&[id]).await?.pop();
            let is_covered = |order: &Order| orders.covers(order.customer_id) && bills.covers(order.customer_id);
            let record =
                found.filter(|r| is_covered(&r.order) && (deleted == IncludeDeleted::Yes || r.order.audit.is_live()));
            let record = record.ok_or_else(|| Error::not_found(Entity::Order, id))?;
            // Every change of the order or its bills increases the version, so what is read between two reads of one
            // version belongs together.
            let trace = db.orders().traces(&[id]).await?.pop();
            if trace.is_none_or(|t| t.version == record.order.audit.version) {
                return Ok(record);
            }
        }
        Err(Error::Contention { source: None })
    }

    /// Explains where each amount of an order comes from: of its lines, its bills and credit notes, and of the order
    /// itself (R18, R27, R35); of a soft-deleted order only if `deleted` asks for it (R2). It requires `orders:read`
    /// and `bills:read`.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn explain(&self, id: OrderId, deleted: IncludeDeleted) -> Result<OrderExplanation> {
        let record = self.record(id, deleted).await?;
        // The history is read after the record, so that it has an entry for each version up to that of the record.
        let mut history = self.cx.storage.connect().await?.orders().history(id).await?;
        history.retain(|change| change.seq <= record.order.audit.version);
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
        let reach = self.who.reach(Permission::OrdersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        let filter = &OrderFilter { customer: reach.narrow(filter.customer)?, ..filter.clone() };
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

    /// Returns a page of the lines of all orders and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`]. Lines that were removed from their order are not listed.
    ///
    /// ```
    /// # async fn app(shop: ecom_core::Shop, lamp: ecom_core::id::ProductId) -> ecom_core::Result<()> {
    /// use ecom_core::paging::Paging;
    /// use ecom_core::sales::{OrderLineFilter, OrderSort};
    ///
    /// let sales = OrderLineFilter { product: Some(lamp), ..OrderLineFilter::default() };
    /// let (page, _) = shop.orders().lines(&sales, OrderSort::PlacedDesc, &Paging::default()).await?;
    /// for line in page.items {
    ///     println!("{} × {} on {}", line.quantity, line.title, line.placed_at);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Validation` of a range of times that ends before it begins, `Unavailable`.
    pub async fn lines(
        &self,
        filter: &OrderLineFilter,
        sort: OrderSort,
        paging: &Paging,
    ) -> Result<(Page<OrderLine>, Option<Total>)> {
        let reach = self.who.reach(Permission::OrdersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        let filter = &OrderLineFilter { customer: reach.narrow(filter.customer)?, ..filter.clone() };
        paging.check()?;
        filter.check()?;
        let mut db = self.cx.storage.connect().await?;
        let page = db.orders().lines(filter, sort, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.orders().count_lines(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Returns the history of an order, oldest first: one entry for each version of the order; that of a soft-deleted
    /// order only if `deleted` asks for it (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn history(&self, id: OrderId, deleted: IncludeDeleted) -> Result<Vec<OrderChange>> {
        let reach = self.who.reach(Permission::OrdersRead)?;
        self.who.require_shown(deleted)?;
        let mut db = self.cx.storage.connect().await?;
        if !db.orders().get(id, deleted).await?.is_some_and(|order| reach.covers(order.customer_id)) {
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
        self.submitted(placing).await
    }

    /// [`Self::place`] at most once for a key (R12). The order shares its commit with others, as without a key; its key
    /// and its answer are written in the same commit. If an earlier call with the key and the same hash has placed its
    /// order, the answer of that call is returned. The permissions that the input needs are checked even if the stored
    /// answer is returned. A refused call leaves its key free.
    ///
    /// # Errors
    /// Those of [`Self::place`]; `IDEMPOTENCY_KEY_REUSED` if the earlier call had another hash;
    /// `IDEMPOTENCY_ANSWER_ERASED` if its answer was erased (R45); `Validation` of an answer that is too long;
    /// `Contention` if a call with the key and another hash was being refused at the same time; the error of the
    /// function of `call`.
    pub async fn place_once(&self, input: &OrderInput, call: KeyedCall<Order>) -> Result<Once<Order>> {
        let placing = self.placing(input)?;
        self.submitted_once(placing, call).await
    }

    async fn submitted(&self, placing: Placing) -> Result<Order> {
        placed(not_placed(refusal(submit(self.cx, placing).await))?)
    }

    async fn submitted_once(&self, placing: Placing, call: KeyedCall<Order>) -> Result<Once<Order>> {
        let done = not_placed(refusal(submit(self.cx, Placing { keyed: Some(call), ..placing }).await))?;
        Ok(match done {
            Once::Ran(record) => Once::Ran(record.order),
            Once::Replayed(answer) => Once::Replayed(answer),
        })
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
        let done = place_all_in(self.cx, tx, &[placing]).await;
        let (done, _) = not_placed(refusal(tx.ended(done)?.pop().ok_or(MISSING)?))?;
        placed(done)
    }

    /// Turns a cart into an order. The order is placed as by [`Self::place`] (R20). The lines are sold at the prices
    /// that the shopper last confirmed, which must be the current ones (R8). A second checkout, even with another
    /// input, returns the existing order. With the token of a guest's cart, no permission is needed, except for the
    /// privileged fields.
    ///
    /// # Errors
    /// `NotFound` of the cart, `CART_EXPIRED`, `CART_MERGED`, and those of [`Self::place`].
    pub async fn checkout(&self, cart: CartId, access: &CartAccess, input: &CheckoutInput) -> Result<Order> {
        let placing = self.checking_out(cart, access, input)?;
        self.submitted(placing).await
    }

    /// [`Self::checkout`] at most once for a key, as [`Self::place_once`] does.
    ///
    /// # Errors
    /// Those of [`Self::checkout`] and of [`Self::place_once`].
    pub async fn checkout_once(
        &self,
        cart: CartId,
        access: &CartAccess,
        input: &CheckoutInput,
        call: KeyedCall<Order>,
    ) -> Result<Once<Order>> {
        let placing = self.checking_out(cart, access, input)?;
        self.submitted_once(placing, call).await
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
        let access = access.of(self.who, Permission::OrdersWrite)?;
        let order = input.to_order();
        self.require_privileges(&order)?;
        let input = order.check(self.cx.config.currency, BuyerFrom::Cart)?;
        let (id, actor) = (OrderId(self.cx.ids.next()), self.who.actor().clone());
        let event = EventId(self.cx.ids.next());
        Ok(Placing { id, event, input, cart: Some((cart, access)), keyed: None, actor })
    }

    fn require_privileges(&self, input: &OrderInput) -> Result<()> {
        if input.sets_prices() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        if input.sets_bill() {
            self.who.require(Permission::BillsWrite)?;
        }
        if input.source.is_some() || input.external_id.is_some() || input.tracking.is_some() {
            self.who.require(Permission::OrdersWrite)?;
        }
        Ok(())
    }

    /// Hides the draft products whose SKUs the lines name by code, if the caller may not read drafts. A SKU that a line
    /// names by id is not hidden: ids cannot be guessed, so the caller learned it while the product was active.
    fn hide_drafts(&self, lines: &mut [CheckedLine]) {
        for line in lines {
            line.hides_drafts = matches!(line.sku, SkuRef::Code(_)) && !self.who.reads_all_products();
        }
    }

    fn placing(&self, input: &OrderInput) -> Result<Placing> {
        self.who.reach(Permission::OrdersWrite)?.check_named(input.customer_id)?;
        self.require_privileges(input)?;
        let mut input = input.check(self.cx.config.currency, BuyerFrom::Input)?;
        self.hide_drafts(&mut input.lines);
        let (id, actor) = (OrderId(self.cx.ids.next()), self.who.actor().clone());
        let event = EventId(self.cx.ids.next());
        Ok(Placing { id, event, input, cart: None, keyed: None, actor })
    }

    /// Edits the lines and the discount of a pending order. Stock and totals follow in the same transaction (R9, R39).
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT`, `BILL_FROZEN`, and those of
    /// [`Self::place`].
    pub async fn edit(&self, id: OrderId, expected: ExpectedVersion, edit: &OrderEdit) -> Result<Order> {
        refusal(self.cx.write(|mut tx| async move { Ok((self.edit_in(&mut tx, id, expected, edit).await?, tx)) }).await)
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
        let reach = self.who.reach(Permission::OrdersWrite)?;
        if edit.sets_prices() {
            self.who.require(Permission::OrdersDiscount)?;
        }
        let expected = expected.or_named(edit.version)?;
        let mut edit = edit.check(self.cx.config.currency)?;
        self.hide_drafts(&mut edit.add);
        tx.started();
        let before = self.lock(tx, id, reach, Some(expected)).await?;
        let changed: BTreeSet<_> = edit.change.iter().map(|c| c.line_id).collect();
        let of_lines = before.order.lines.iter().filter(|l| changed.contains(&l.id)).filter_map(|l| l.sku_id);
        let offers = lock_offers(tx, of_lines.collect(), edit.add.iter()).await?;
        if reach != Reach::All {
            check_own_edit(reach, &before, &edit, &offers)?;
        }
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
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `ORDER_STATUS_CONFLICT`, `STATE_CONFLICT` if the personal
    /// data of the order was erased, `Validation`, `Unavailable`.
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
        let reach = self.who.reach(Permission::OrdersWrite)?;
        if patch.tracking.is_present() || patch.attributes.is_present() {
            reach.require_all()?;
        }
        let expected = expected.or_named(patch.version)?;
        self.change(tx, id, reach, Some(expected), |order, stamp| {
            check_pending(reach, order)?;
            order.patch(patch, stamp)
        })
        .await
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
        self.change(tx, id, Reach::All, guarded(expected), |order, stamp| order.start(stamp).map(Some)).await
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
        self.change(tx, id, Reach::All, guarded(expected), |order, stamp| order.deliver(stamp).map(Some)).await
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
        let reach = self.who.reach(Permission::OrdersWrite)?;
        self.change(tx, id, reach, None, |record, stamp| match record.order.status {
            OrderStatus::Canceled => Ok(None),
            _ => check_pending(reach, record).and_then(|()| record.cancel(stamp)).map(Some),
        })
        .await
    }

    /// Cancels some units of an order that is pending or in progress, restores their stock, and adds a credit note for
    /// each bill concerned (R36). If no unit is left, the whole order is canceled. An order that has no units is canceled
    /// by an empty list, with its version.
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
        let reach = self.who.reach(Permission::OrdersWrite)?;
        self.change(tx, id, reach, Some(expected), |order, stamp| {
            check_pending(reach, order)?;
            check_goods(reach, order, units.iter().map(|unit| unit.line_id))?;
            order.cancel_units(units, stamp).map(Some)
        })
        .await
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
        let mut before = self.lock(tx, id, Reach::All, Some(expected)).await?;
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
        reach: Reach,
        expected: Option<ExpectedVersion>,
        step: impl FnOnce(&OrderRecord, &Stamp<'_>) -> Result<Option<Step>> + Send,
    ) -> Result<Order> {
        tx.started();
        let before = self.lock(tx, id, reach, expected).await?;
        let changed = match step(&before, &self.stamp())? {
            Some(step) => self.save(tx, before, step).await.map(|saved| saved.order),
            None => Ok(before.order),
        };
        tx.ended(changed)
    }

    pub(super) fn stamp(&self) -> Stamp<'_> {
        Stamp { now: self.cx.now(), actor: self.who.actor(), ids: &*self.cx.ids }
    }

    /// Locks a live order that the caller may change and, if a version is expected, checks that it is the one that the
    /// writer read (R1).
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: OrderId,
        reach: Reach,
        expected: Option<ExpectedVersion>,
    ) -> Result<OrderRecord> {
        let found = tx.orders().lock(&[id]).await?.pop();
        let found = found.filter(|r| r.order.audit.is_live() && reach.covers(r.order.customer_id));
        let record = found.ok_or_else(|| Error::not_found(Entity::Order, id))?;
        if let Some(expected) = expected {
            expected.check(Entity::Order, id, record.order.audit.version, self.cx.config.last_write_wins)?;
        }
        Ok(record)
    }

    /// Writes a change of an order that the transaction has locked, with its movements of stock and its event. Returns
    /// the order with the numbers of its new bills.
    pub(super) async fn save(&self, tx: &mut Tx<'_>, before: OrderRecord, step: Step) -> Result<OrderRecord> {
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
        let levels = levels.into_iter().map(|l| (l.sku_id, l)).collect();
        let mut changes = post(tx, &movements, &levels).await?;
        let was_open = |id: BillId| before.bills.iter().any(|b| b.id == id && b.status != BillStatus::Paid);
        let pays = |b: &Bill| b.kind == BillKind::Bill && b.status == BillStatus::Paid && was_open(b.id);
        let kind = match change.kind {
            ChangeKind::Billed if record.bills.iter().any(pays) => EventKind::OrderPaid,
            kind => event_of(kind),
        };
        changes.push(Change::event_only(kind, record.order.id, record.order.audit.version, self.who.actor()));
        tx.emit_all(changes).await?;
        let (order, number) = (record.order.id, record.order.number.clone());
        match kind {
            EventKind::OrderCanceled => tx.note(Notice::OrderCanceled { order, number }),
            EventKind::OrderPaid => tx.note(Notice::PaymentRecorded { order, number }),
            _ => {}
        }
        Ok(record)
    }
}

/// Refuses a change by a customer of an order that the shop is already working on.
fn check_pending(reach: Reach, record: &OrderRecord) -> Result<()> {
    if record.order.status == OrderStatus::Pending { Ok(()) } else { reach.require_all() }
}

/// Refuses a change by a customer of lines that staff has added: custom lines and fees.
fn check_goods(reach: Reach, record: &OrderRecord, lines: impl Iterator<Item = OrderLineId>) -> Result<()> {
    let changed: BTreeSet<OrderLineId> = lines.collect();
    let is_goods = |line: &OrderLine| line.kind == LineKind::Sku || !changed.contains(&line.id);
    if record.order.lines.iter().all(is_goods) { Ok(()) } else { reach.require_all() }
}

/// Refuses an edit by a customer of what staff has granted: lines that are no goods, and orders with a discount, which
/// is an amount and would stay the same. More units are sold at the current price only (R8).
fn check_own_edit(reach: Reach, record: &OrderRecord, edit: &CheckedEdit, offers: &Offers) -> Result<()> {
    check_goods(reach, record, edit.change.iter().map(|change| change.line_id))?;
    if record.bills.iter().any(|bill| bill.totals.discount.minor() != 0) {
        reach.require_all()?;
    }
    let mut prices = Vec::new();
    for (i, change) in edit.change.iter().enumerate().filter(|(_, change)| !change.reprice) {
        let Some(line) = record.order.lines.iter().find(|line| line.id == change.line_id) else { continue };
        // The price of a SKU that is not for sale is not public, and the edit refuses more units of it later.
        let offer = line.sku_id.and_then(|sku| offers.by_id.get(&sku)).filter(|offer| offer.is_for_sale());
        let is_more = change.quantity.is_some_and(|quantity| quantity > line.quantity);
        if let Some(offer) = offer.filter(|offer| is_more && offer.unit_price() != line.unit_price) {
            let (expected, found) = (offer.unit_price(), line.unit_price);
            let field = format!("change[{i}].quantity");
            prices.push(PriceMismatch { field, sku_id: offer.sku_id.0, expected, found });
        }
    }
    if prices.is_empty() { Ok(()) } else { Err(SalesConflict::PriceMismatch { prices, shortages: Vec::new() }.into()) }
}

const MISSING: Error = Error::Internal { context: "an order is missing", source: None };

/// Returns the order of a call without a key.
fn placed(done: Once<OrderRecord>) -> Result<Order> {
    match done {
        Once::Ran(record) => Ok(record.order),
        Once::Replayed(_) => Err(MISSING),
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
