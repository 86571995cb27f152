//! The changes of an order, as pure functions from one state to the next. Each returns the next state, the changes of
//! stock and the entry of the history; the service locks, reads and writes. `docs/rules.md` has the rules (R7–R10, R18,
//! R19, R27, R35, R36, R39 and R44).

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::input::{CancelUnits, CheckedEdit, CheckedExtra, CheckedLine, CheckedOrder, OrderPatch, SkuRef};
use super::{
    AdjustmentKind, Buyer, ChangeKind, LineKind, Order, OrderAdjustment, OrderChange, OrderLine, OrderRecord,
    OrderStatus, PostalAddress, Totals,
};
use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit, Patch};
use crate::domain::sales::bill::{Bill, BillKind, BillPatch, BillStatus, PaymentType};
use crate::domain::sales::offer::Offer;
use crate::domain::sales::pricing::{ENGINE, allocate, bounded, first_units, subtotal};
use crate::error::{
    Entity, Error, FieldCode, PriceMismatch, Result, SalesConflict, Shortage, StockConflict, ValidationErrors,
};
use crate::id::{BillId, CartId, IdSource, OrderAdjustmentId, OrderId, OrderLineId, SkuId};
use crate::money::{Currency, Money, price_of};
use crate::text::fold_key;

/// The label of a discount that the staff gave.
const MANUAL: &str = "Discount";

/// The actor and the time of a change, and the source of new ids.
pub(crate) struct Stamp<'a> {
    pub now: Timestamp,
    pub actor: &'a Actor,
    pub ids: &'a dyn IdSource,
}

/// A change of stock by an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StockChange {
    pub sku_id: SkuId,
    /// The line that moves the stock; `None` for pieces that are booked in ([`Offers::booked_in`]).
    pub line_id: Option<OrderLineId>,
    pub delta: i64,
}

/// The next state of an order, its changes of stock, and the entry of the history.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub record: OrderRecord,
    pub stock: Vec<StockChange>,
    pub change: OrderChange,
}

/// The SKUs that an order sells, by id and by folded code, as they are sold now.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    pub by_id: HashMap<SkuId, Offer>,
    pub by_code: HashMap<String, SkuId>,
}

impl Offers {
    fn find(&self, sku: &SkuRef) -> Option<&Offer> {
        match sku {
            SkuRef::Id(id) => self.by_id.get(id),
            // The code was looked up before the SKU was locked.
            SkuRef::Code(code) => {
                let key = fold_key(code);
                self.by_id.get(self.by_code.get(&key)?).filter(|o| fold_key(&o.code) == key)
            }
        }
    }

    /// Applies changes of stock, so that the next order of a batch sees the stock that this one left.
    pub fn apply(&mut self, stock: &[StockChange]) {
        for change in stock {
            if let Some(offer) = self.by_id.get_mut(&change.sku_id) {
                offer.on_hand += change.delta;
            }
        }
    }

    /// Returns changes of stock, and before them the pieces that are missing of SKUs that no longer track their stock.
    /// Such a SKU is never short, and a line that took stock accounts for all of its units (R23), so the pieces that it
    /// takes in addition are booked in first.
    fn booked_in(&self, stock: Vec<StockChange>) -> Vec<StockChange> {
        let mut moved: BTreeMap<SkuId, i64> = BTreeMap::new();
        for change in &stock {
            *moved.entry(change.sku_id).or_default() += change.delta;
        }
        let missing = moved.into_iter().filter_map(|(sku_id, moved)| {
            let left = self.by_id.get(&sku_id).filter(|o| !o.tracked)?.on_hand + moved;
            (left < 0).then_some(StockChange { sku_id, line_id: None, delta: -left })
        });
        missing.chain(stock).collect()
    }

    /// Checks that each line sells something that is for sale, at the price that the buyer was shown (R8), and that
    /// there is enough stock for the sum of all lines and of `demand` (R7).
    ///
    /// # Errors
    /// `Validation` with each SKU that cannot be sold. If all can be sold, `PRICE_MISMATCH` with every wrong price and
    /// every shortage, or, if all prices are current, `INSUFFICIENT_STOCK` with every shortage.
    fn sell<'o, 'l>(&'o self, lines: &'l [CheckedLine], mut demand: HashMap<SkuId, i64>) -> Result<Vec<Sale<'l, 'o>>> {
        let mut errors = ValidationErrors::default();
        let mut sales = Vec::with_capacity(lines.len());
        for line in lines {
            let (field, named) = match &line.sku {
                SkuRef::Id(id) => (format!("{}.sku_id", line.field), id.to_string()),
                SkuRef::Code(code) => (format!("{}.sku", line.field), code.clone()),
            };
            let found = self.find(&line.sku).filter(|offer| !(line.hides_drafts && offer.is_draft()));
            if let Some(offer) = Offer::for_sale(found, field, &named, &mut errors) {
                sales.push(Sale { line, offer, price: line.fixed.unwrap_or_else(|| offer.unit_price()) });
            }
        }
        errors.into_result()?;
        let mut prices = Vec::new();
        for Sale { line, offer, price } in &sales {
            if let Some(shown) = line.shown.filter(|shown| line.fixed.is_none() && shown != price) {
                let field = format!("{}.unit_price", line.field);
                prices.push(PriceMismatch { field, sku_id: offer.sku_id.0, expected: *price, found: shown });
            }
            *demand.entry(offer.sku_id).or_default() += line.quantity;
        }
        let shortages = self.shortages(demand);
        if !prices.is_empty() {
            return Err(SalesConflict::PriceMismatch { prices, shortages }.into());
        }
        if !shortages.is_empty() {
            return Err(StockConflict::Insufficient { shortages }.into());
        }
        Ok(sales)
    }

    /// Returns the SKUs of which less is available than `demand`, by id.
    fn shortages(&self, demand: HashMap<SkuId, i64>) -> Vec<Shortage> {
        let mut short: Vec<Shortage> = demand
            .into_iter()
            .filter(|(_, requested)| *requested > 0)
            .filter_map(|(id, requested)| {
                let available = match self.by_id.get(&id) {
                    Some(offer) => offer.available()?,
                    None => 0,
                };
                (requested > available).then_some(Shortage { sku_id: id.0, requested, available })
            })
            .collect();
        short.sort_by_key(|s| s.sku_id);
        short
    }
}

/// A line that can be sold.
struct Sale<'l, 'o> {
    line: &'l CheckedLine,
    offer: &'o Offer,
    price: Money,
}

/// The values that placing an order needs besides its input.
pub(crate) struct Context<'a> {
    pub id: OrderId,
    pub cart: Option<CartId>,
    pub buyer: Buyer,
    pub shipping_address: Option<PostalAddress>,
    pub currency: Currency,
    pub stamp: &'a Stamp<'a>,
}

/// Places an order (R7, R8). Its number and the number of its bill are still empty.
///
/// # Errors
/// Those of [`Offers::sell`]; `Validation` if the discount is above the subtotal or an amount is too large.
pub(crate) fn place(input: &CheckedOrder, cx: Context<'_>, offers: &Offers) -> Result<Step> {
    let Context { id, cart, buyer, shipping_address, currency, stamp } = cx;
    let audit = Audit::created(stamp.now, stamp.actor);
    let order = Order {
        id,
        number: String::new(),
        cart_id: cart,
        customer_id: input.customer_id,
        buyer,
        status: OrderStatus::Pending,
        delivery_method: input.delivery_method,
        shipping_address,
        billing_address: input.billing_address.clone(),
        tracking: input.tracking.clone(),
        prices_include_tax: false,
        totals: Totals::of(0, 0, currency),
        engine: ENGINE,
        placed_at: stamp.now,
        canceled_at: None,
        erased_at: None,
        attributes: input.attributes.clone(),
        external: input.external.clone(),
        lines: Vec::with_capacity(input.lines.len() + input.extra_lines.len()),
        audit,
    };
    let mut record = OrderRecord { order, adjustments: Vec::new(), bills: Vec::with_capacity(1) };
    let mut stock = Vec::with_capacity(input.lines.len());
    record.add_bill(BillKind::Bill, None, input.payment_type, stamp);
    if let Some(bill) = record.bills.first_mut() {
        bill.number = input.bill_number.clone().unwrap_or_default();
        if input.paid {
            bill.status = BillStatus::Paid;
        }
    }
    let sales = offers.sell(&input.lines, HashMap::new())?;
    record.add_lines(("lines", &sales), ("extra_lines", &input.extra_lines), 1, stamp, &mut stock)?;
    record.spread(1, input.discount.minor(), "discount", stamp)?;
    record.settle()?;
    let change = record.history(ChangeKind::Placed, None, Value::Null, stamp);
    Ok(Step { record, stock, change })
}

impl OrderRecord {
    fn currency(&self) -> Currency {
        self.order.currency()
    }

    fn money(&self, minor: i64) -> Money {
        Money::from_minor(minor, self.currency())
    }

    /// Returns the bills, without the credit notes.
    fn real_bills(&self) -> impl DoubleEndedIterator<Item = &Bill> {
        self.bills.iter().filter(|b| b.kind == BillKind::Bill)
    }

    /// Returns the credit notes of a bill, without those that are void.
    fn notes(&self, bill: BillId) -> impl Iterator<Item = &Bill> {
        self.bills.iter().filter(move |n| n.corrects == Some(bill) && n.status != BillStatus::Void)
    }

    /// Returns true if the lines of a bill no longer change: it is paid or void, or one of its lines has canceled units
    /// (R39).
    fn is_frozen(&self, bill: &Bill) -> bool {
        bill.status != BillStatus::Open || self.order.lines.iter().any(|l| l.bill_seq == bill.seq && l.canceled > 0)
    }

    /// Returns the bill with this number within the order.
    fn bill(&self, seq: i32) -> Option<&Bill> {
        self.real_bills().find(|b| b.seq == seq)
    }

    fn refused(&self, required: &'static str) -> Error {
        let Order { id, status, .. } = self.order;
        SalesConflict::OrderStatus { order: id.0, status: status.as_str(), required }.into()
    }

    /// Refuses a change of an order that is delivered or canceled.
    fn require_open(&self) -> Result<()> {
        match self.order.status {
            OrderStatus::Pending | OrderStatus::InProgress => Ok(()),
            _ => Err(self.refused("pending or in_progress")),
        }
    }

    /// Adds a bill or a credit note without amounts and without a number.
    fn add_bill(&mut self, kind: BillKind, corrects: Option<BillId>, payment_type: PaymentType, stamp: &Stamp<'_>) {
        let seq = self.bills.iter().filter(|b| b.kind == kind).map(|b| b.seq).max().unwrap_or(0) + 1;
        self.bills.push(Bill {
            id: BillId(stamp.ids.next()),
            order_id: self.order.id,
            kind,
            seq,
            corrects,
            number: String::new(),
            totals: Totals::of(0, 0, self.currency()),
            payment_type,
            status: BillStatus::Open,
            date: stamp.now,
            audit: Audit::created(stamp.now, stamp.actor),
        });
        self.bills.sort_by_key(|b| (b.kind == BillKind::CreditNote, b.seq));
    }

    /// Adds lines to a bill and their demand to `stock`. Lines and extra lines have the names of their fields.
    ///
    /// # Errors
    /// `Validation` if the order would have too many lines or an amount is too large.
    fn add_lines(
        &mut self,
        (field, sales): (&str, &[Sale<'_, '_>]),
        (extra_field, extra): (&str, &[CheckedExtra]),
        bill_seq: i32,
        stamp: &Stamp<'_>,
        stock: &mut Vec<StockChange>,
    ) -> Result<()> {
        let currency = self.currency();
        let mut position = self.order.lines.iter().map(|l| l.position).max().unwrap_or(0);
        if self.order.lines.len() + sales.len() + extra.len() > Order::MAX_LINES {
            let message = format!(
                "would lead to more than {} lines, and removed lines count: place another order for the rest",
                Order::MAX_LINES
            );
            let field = if sales.is_empty() { extra_field } else { field };
            return Err(Error::invalid(field, FieldCode::OutOfBounds, message));
        }
        for Sale { line, offer, price } in sales {
            position += 1;
            let id = OrderLineId(stamp.ids.next());
            bounded(offer.list_price.minor().into(), currency, &format!("{}.unit_price", line.field))?;
            let amount = subtotal(line.quantity, *price, &format!("{}.quantity", line.field))?;
            if offer.tracked {
                stock.push(StockChange { sku_id: offer.sku_id, line_id: Some(id), delta: -line.quantity });
            }
            self.order.lines.push(OrderLine {
                id,
                order_id: self.order.id,
                placed_at: self.order.placed_at,
                position,
                bill_seq,
                kind: LineKind::Sku,
                sku_id: Some(offer.sku_id),
                product_id: Some(offer.product_id),
                code: Some(offer.code.clone()),
                title: offer.title.clone(),
                options: offer.option_values.clone(),
                attributes: line.attributes.clone(),
                takes_stock: offer.tracked,
                list_price: offer.list_price,
                unit_price: *price,
                quantity: line.quantity,
                canceled: 0,
                totals: Totals::of(amount, 0, currency),
            });
        }
        for (i, line) in extra.iter().enumerate() {
            position += 1;
            let amount = subtotal(line.quantity, line.unit_price, &format!("{extra_field}[{i}].quantity"))?;
            self.order.lines.push(OrderLine {
                id: OrderLineId(stamp.ids.next()),
                order_id: self.order.id,
                placed_at: self.order.placed_at,
                position,
                bill_seq,
                kind: line.kind,
                sku_id: None,
                product_id: None,
                code: None,
                title: line.title.clone(),
                options: BTreeMap::new(),
                attributes: line.attributes.clone(),
                takes_stock: false,
                list_price: line.unit_price,
                unit_price: line.unit_price,
                quantity: line.quantity,
                canceled: 0,
                totals: Totals::of(amount, 0, currency),
            });
        }
        Ok(())
    }

    /// Spreads the manual discount of a bill over its lines (R27).
    ///
    /// # Errors
    /// `Validation` on `field` if the discount is above the subtotal of the lines.
    fn spread(&mut self, bill_seq: i32, discount: i64, field: &str, stamp: &Stamp<'_>) -> Result<()> {
        let currency = self.currency();
        let mut of_bill: Vec<&mut OrderLine> = self.order.lines.iter_mut().filter(|l| l.bill_seq == bill_seq).collect();
        let weights: Vec<i64> = of_bill.iter().map(|l| l.totals.subtotal.minor()).collect();
        let shares = allocate(discount, &weights).ok_or_else(|| {
            let sum = Money::from_minor(weights.iter().sum(), currency);
            let discount = Money::from_minor(discount, currency);
            let message = format!(
                "is {discount}, but the lines of the bill add up to {sum}: lower the discount in the same request, or \
                 keep more on the bill"
            );
            Error::invalid(field, FieldCode::OutOfBounds, message)
        })?;
        for (line, share) in of_bill.iter_mut().zip(shares) {
            line.totals = Totals::of(line.totals.subtotal.minor(), share, currency);
            let at = self.adjustments.iter().position(|a| a.line_id == line.id && a.kind == AdjustmentKind::Manual);
            match (at, share) {
                (Some(at), 0) => drop(self.adjustments.remove(at)),
                (Some(at), share) => self.adjustments[at].amount = Money::from_minor(share, currency),
                (None, 0) => {}
                (None, share) => self.adjustments.push(OrderAdjustment {
                    id: OrderAdjustmentId(stamp.ids.next()),
                    order_id: self.order.id,
                    line_id: line.id,
                    kind: AdjustmentKind::Manual,
                    label: MANUAL.to_owned(),
                    step: 1,
                    amount: Money::from_minor(share, currency),
                }),
            }
        }
        let places: HashMap<OrderLineId, i32> = self.order.lines.iter().map(|l| (l.id, l.position)).collect();
        self.adjustments.sort_by_key(|a| (places.get(&a.line_id).copied(), a.step));
        Ok(())
    }

    /// Recomputes the sums of the bills from their lines, and those of the order from its bills (R39).
    ///
    /// # Errors
    /// `Validation` on `lines` if a sum is too large.
    fn settle(&mut self) -> Result<()> {
        let currency = self.currency();
        let sum: i128 = self.order.lines.iter().map(|l| i128::from(l.totals.subtotal.minor())).sum();
        bounded(sum, currency, "lines")?;
        for bill in self.bills.iter_mut().filter(|b| b.kind == BillKind::Bill) {
            let lines = self.order.lines.iter().filter(|l| l.bill_seq == bill.seq).map(|l| &l.totals);
            bill.totals = Totals::sum(lines, currency);
        }
        self.order.totals = Totals::sum(self.real_bills().map(|b| &b.totals), currency);
        Ok(())
    }

    fn history(&self, kind: ChangeKind, from: Option<OrderStatus>, data: Value, stamp: &Stamp<'_>) -> OrderChange {
        OrderChange {
            order_id: self.order.id,
            seq: self.order.audit.version,
            kind,
            from,
            to: self.order.status,
            data: if data.is_null() { json!({}) } else { data },
            actor: stamp.actor.clone(),
            at: stamp.now,
        }
    }

    /// Ends a change: records the edit of the order and of the bills that changed, and adds the entry of the history.
    fn step(
        mut self,
        before: &Self,
        kind: ChangeKind,
        data: Value,
        stock: Vec<StockChange>,
        stamp: &Stamp<'_>,
    ) -> Step {
        self.order.audit.edited(stamp.now, stamp.actor);
        for bill in &mut self.bills {
            if before.bills.iter().any(|b| b.id == bill.id && b != bill) {
                bill.audit.edited(stamp.now, stamp.actor);
            }
        }
        let change = self.history(kind, Some(before.order.status), data, stamp);
        Step { record: self, stock, change }
    }

    /// Edits the lines and the discount of a pending order (R9, R39). Returns `None` if nothing changes.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT` unless the order is pending, `BILL_FROZEN` for a line whose bill no longer changes,
    /// `Validation`, and those of [`Offers::sell`].
    pub(crate) fn edit(&self, edit: &CheckedEdit, offers: &Offers, stamp: &Stamp<'_>) -> Result<Option<Step>> {
        if self.order.status != OrderStatus::Pending {
            return Err(self.refused("pending"));
        }
        let mut next = self.clone();
        let currency = self.currency();
        let mut stock = Vec::new();
        let mut demand: HashMap<SkuId, i64> = HashMap::new();
        let mut touched: Vec<i32> = Vec::new();
        let mut log = Vec::new();
        let mut errors = ValidationErrors::default();
        for (i, change) in edit.change.iter().enumerate() {
            let field = format!("change[{i}]");
            let Some(line) = next.order.lines.iter_mut().find(|l| l.id == change.line_id) else {
                let message = format!("names line `{}`, which this order does not have", change.line_id);
                errors.push(format!("{field}.line_id"), FieldCode::ReferenceNotFound, message);
                continue;
            };
            if let Some(bill) = self.bill(line.bill_seq).filter(|b| self.is_frozen(b)) {
                let (field, number) = (format!("{field}.line_id"), bill.number.clone());
                return Err(SalesConflict::BillFrozen { field, bill: bill.id.0, number }.into());
            }
            if line.quantity == 0 {
                let message = "names a line that was removed: add a new line";
                errors.push(format!("{field}.line_id"), FieldCode::Inconsistent, message);
                continue;
            }
            let quantity = change.quantity.unwrap_or(line.quantity);
            let more = quantity - line.quantity;
            if let Some(sku) = line.sku_id {
                let offer = offers.by_id.get(&sku);
                if (more > 0 || change.reprice) && !offer.is_some_and(Offer::is_for_sale) {
                    let message = format!("names a line of SKU `{sku}`, which is no longer for sale");
                    errors.push(format!("{field}.line_id"), FieldCode::NotForSale, message);
                    continue;
                }
                if let Some(offer) = offer.filter(|_| change.reprice) {
                    bounded(offer.list_price.minor().into(), currency, &format!("{field}.reprice"))?;
                    (line.list_price, line.unit_price) = (offer.list_price, offer.unit_price());
                }
                if line.takes_stock && more != 0 {
                    stock.push(StockChange { sku_id: sku, line_id: Some(line.id), delta: -more });
                    *demand.entry(sku).or_default() += more;
                }
            }
            log.push(json!({"line_id": line.id, "from": line.quantity, "to": quantity}));
            line.quantity = quantity;
            let amount = subtotal(quantity, line.unit_price, &format!("{field}.quantity"))?;
            line.totals = Totals::of(amount, 0, currency);
            touched.push(line.bill_seq);
        }
        errors.into_result()?;
        let sales = offers.sell(&edit.add, demand)?;
        let newest = next.real_bills().next_back().map(|b| (b.seq, b.payment_type, next.is_frozen(b)));
        let mut newest_seq = newest.map_or(1, |(seq, ..)| seq);
        if !sales.is_empty() || !edit.add_extra.is_empty() {
            if let Some((_, payment_type, true)) = newest {
                next.add_bill(BillKind::Bill, None, payment_type, stamp);
                newest_seq += 1;
            }
            let first = next.order.lines.len();
            next.add_lines(("add", &sales), ("add_extra", &edit.add_extra), newest_seq, stamp, &mut stock)?;
            let added = next.order.lines.iter().skip(first);
            log.extend(added.map(|l| json!({"line_id": l.id, "from": 0, "to": l.quantity})));
            touched.push(newest_seq);
        }
        let mut discounts: HashMap<i32, i64> = next.real_bills().map(|b| (b.seq, b.totals.discount.minor())).collect();
        if let Some(discount) = edit.discount {
            let Some(bill) = next.bill(newest_seq).filter(|b| !next.is_frozen(b)) else {
                let bill = self.real_bills().next_back();
                let (bill, number) = bill.map_or_else(Default::default, |b| (b.id.0, b.number.clone()));
                return Err(SalesConflict::BillFrozen { field: "discount".to_owned(), bill, number }.into());
            };
            discounts.insert(bill.seq, discount.minor());
            touched.push(newest_seq);
        }
        touched.sort_unstable();
        touched.dedup();
        for seq in touched {
            next.spread(seq, discounts.get(&seq).copied().unwrap_or(0), "discount", stamp)?;
        }
        next.settle()?;
        if next == *self {
            return Ok(None);
        }
        let stock = offers.booked_in(stock);
        Ok(Some(next.step(self, ChangeKind::Edited, json!({"lines": log}), stock, stamp)))
    }

    /// Patches the delivery, the tracking reference or the attributes. Returns `None` if nothing changes.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT` if the order is delivered or canceled, `STATE_CONFLICT` if its personal data was erased,
    /// `Validation`.
    pub(crate) fn patch(&self, patch: OrderPatch, stamp: &Stamp<'_>) -> Result<Option<Step>> {
        self.require_open()?;
        if self.order.erased_at.is_some() {
            let message = format!(
                "the personal data of order {} was erased, so it cannot be patched; it can still be started, \
                 delivered, edited and canceled",
                self.order.number
            );
            return Err(crate::error::Conflict::State { message }.into());
        }
        let mut next = self.clone();
        patch.onto(&mut next.order)?;
        if next.order == self.order {
            return Ok(None);
        }
        Ok(Some(next.step(self, ChangeKind::Patched, Value::Null, Vec::new(), stamp)))
    }

    /// Starts the work on a pending order.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT`; `STATE_CONFLICT` if no unit is left to deliver (R44).
    pub(crate) fn start(&self, stamp: &Stamp<'_>) -> Result<Step> {
        if self.order.status != OrderStatus::Pending {
            return Err(self.refused("pending"));
        }
        if self.order.lines.iter().all(|l| l.remaining() == 0) {
            let message = format!("order {} has no units to deliver: add lines, or cancel it", self.order.number);
            return Err(crate::error::Conflict::State { message }.into());
        }
        let mut next = self.clone();
        next.order.status = OrderStatus::InProgress;
        Ok(next.step(self, ChangeKind::Started, Value::Null, Vec::new(), stamp))
    }

    /// Records that an order in progress was delivered.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT`.
    pub(crate) fn deliver(&self, stamp: &Stamp<'_>) -> Result<Step> {
        if self.order.status != OrderStatus::InProgress {
            return Err(self.refused("in_progress"));
        }
        let mut next = self.clone();
        next.order.status = OrderStatus::Delivered;
        Ok(next.step(self, ChangeKind::Delivered, Value::Null, Vec::new(), stamp))
    }

    /// Cancels units of lines: restores their stock, and adds one credit note for each bill concerned, valued by R35.
    /// If no unit is left, the whole order is canceled (R36). For an order without units, the list is empty.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT` if the order is delivered or canceled, `Validation`.
    pub(crate) fn cancel_units(&self, units: &[CancelUnits], stamp: &Stamp<'_>) -> Result<Step> {
        self.require_open()?;
        let mut errors = ValidationErrors::default();
        let mut next = self.clone();
        let mut stock = Vec::new();
        let mut credits: Vec<(i32, i64, i64)> = Vec::new();
        let mut log = Vec::new();
        if units.is_empty() && next.order.lines.iter().any(|l| l.remaining() > 0) {
            errors.push("lines", FieldCode::Required, "must name at least one line");
        }
        for (i, CancelUnits { line_id, quantity }) in units.iter().enumerate() {
            let Some(line) = next.order.lines.iter_mut().find(|l| l.id == *line_id) else {
                let message = format!("names line `{line_id}`, which this order does not have");
                errors.push(format!("lines[{i}].line_id"), FieldCode::ReferenceNotFound, message);
                continue;
            };
            let left = line.remaining();
            if left == 0 {
                let message = "names a line without units that can be canceled: leave the line out";
                errors.push(format!("lines[{i}].line_id"), FieldCode::Inconsistent, message);
                continue;
            }
            if *quantity < 1 || *quantity > left {
                let message = format!("must be between 1 and {left}, the units that were not canceled");
                errors.out_of_bounds(format!("lines[{i}].quantity"), message);
                continue;
            }
            let paid = line.totals.subtotal.minor() - line.totals.discount.minor();
            let value = first_units(paid, line.canceled + quantity, line.quantity)
                - first_units(paid, line.canceled, line.quantity);
            let gross = quantity * line.unit_price.minor();
            match credits.iter_mut().find(|(seq, ..)| *seq == line.bill_seq) {
                Some((_, subtotal, credit)) => (*subtotal, *credit) = (*subtotal + gross, *credit + value),
                None => credits.push((line.bill_seq, gross, value)),
            }
            line.canceled += quantity;
            log.push(json!({"line_id": line.id, "quantity": quantity}));
            if let (true, Some(sku_id)) = (line.takes_stock, line.sku_id) {
                stock.push(StockChange { sku_id, line_id: Some(line.id), delta: *quantity });
            }
        }
        errors.into_result()?;
        if next.order.lines.iter().all(|l| l.remaining() == 0) {
            return self.cancel(stamp);
        }
        for (seq, gross, net) in credits {
            let Some(bill) = next.bill(seq).map(|b| (b.id, b.payment_type)) else { continue };
            next.credit(bill, Totals::of(gross, gross - net, self.currency()), stamp);
        }
        Ok(next.step(self, ChangeKind::UnitsCanceled, json!({"lines": log}), stock, stamp))
    }

    fn credit(&mut self, (bill, payment_type): (BillId, PaymentType), totals: Totals, stamp: &Stamp<'_>) {
        self.add_bill(BillKind::CreditNote, Some(bill), payment_type, stamp);
        // The newest credit note is the last one.
        if let Some(note) = self.bills.last_mut() {
            note.totals = totals;
        }
    }

    /// Cancels the whole order (R10, R36): it restores the units that are left, voids open bills with their credit
    /// notes, and adds to each paid bill a credit note for the amount that its earlier ones have left.
    ///
    /// # Errors
    /// `ORDER_STATUS_CONFLICT` if the order is delivered or canceled.
    pub(crate) fn cancel(&self, stamp: &Stamp<'_>) -> Result<Step> {
        self.require_open()?;
        let mut next = self.clone();
        let mut stock = Vec::new();
        for line in &mut next.order.lines {
            let left = line.remaining();
            if let (true, Some(sku_id), true) = (line.takes_stock, line.sku_id, left > 0) {
                stock.push(StockChange { sku_id, line_id: Some(line.id), delta: left });
            }
            line.canceled = line.quantity;
        }
        for bill in self.real_bills() {
            match bill.status {
                BillStatus::Open => {
                    for b in next.bills.iter_mut().filter(|b| b.id == bill.id || b.corrects == Some(bill.id)) {
                        b.status = BillStatus::Void;
                    }
                }
                BillStatus::Paid => {
                    let credited = Totals::sum(self.notes(bill.id).map(|n| &n.totals), self.currency());
                    let left = bill.totals.less(&credited);
                    if left.total.minor() > 0 || left.subtotal.minor() > 0 {
                        next.credit((bill.id, bill.payment_type), left, stamp);
                    }
                }
                BillStatus::Void => {}
            }
        }
        next.order.status = OrderStatus::Canceled;
        next.order.canceled_at = Some(stamp.now);
        Ok(next.step(self, ChangeKind::Canceled, Value::Null, stock, stamp))
    }

    /// Hides or shows the order with its bills.
    fn set_deleted(&mut self, at: Option<Timestamp>) {
        self.order.audit.deleted_at = at;
        for bill in &mut self.bills {
            bill.audit.deleted_at = at;
        }
    }

    /// Hides the order with its bills (R2).
    pub(crate) fn delete(&self, stamp: &Stamp<'_>) -> Step {
        let mut next = self.clone();
        next.set_deleted(Some(stamp.now));
        next.step(self, ChangeKind::Deleted, Value::Null, Vec::new(), stamp)
    }

    /// Shows a hidden order and its bills again (R2).
    pub(crate) fn restore(&self, stamp: &Stamp<'_>) -> Step {
        let mut next = self.clone();
        next.set_deleted(None);
        next.step(self, ChangeKind::Restored, Value::Null, Vec::new(), stamp)
    }

    /// Patches a bill (R39). Returns `None` if nothing changes.
    ///
    /// # Errors
    /// `BILL_FROZEN` for a change that the status of the bill does not allow, `ORDER_STATUS_CONFLICT` for a discount on
    /// an order that is delivered or canceled, `Validation`.
    pub(crate) fn patch_bill(&self, id: BillId, patch: &BillPatch, stamp: &Stamp<'_>) -> Result<Option<Step>> {
        let currency = self.currency();
        let mut next = self.clone();
        let Some(bill) = self.bills.iter().find(|b| b.id == id) else {
            return Err(Error::not_found(Entity::Bill, id));
        };
        let frozen = |field: &str| {
            let (field, number) = (field.to_owned(), bill.number.clone());
            Error::from(SalesConflict::BillFrozen { field, bill: bill.id.0, number })
        };
        let mut errors = ValidationErrors::default();
        let mut payment_type = bill.payment_type;
        patch.payment_type.clone().apply_required(&mut payment_type, "payment_type", &mut errors);
        let discount = match &patch.discount {
            Patch::Keep => None,
            Patch::Clear => Some(self.money(0)),
            Patch::Set(d) => price_of(*d, currency, "discount", &mut errors),
        };
        if patch.paid == Some(false) && bill.status == BillStatus::Paid {
            errors.push("paid", FieldCode::Inconsistent, "must not be false: a paid bill stays paid");
        }
        errors.into_result()?;
        if payment_type != bill.payment_type && bill.status != BillStatus::Open {
            return Err(frozen("payment_type"));
        }
        if let Some(discount) = discount.filter(|d| *d != bill.totals.discount) {
            self.require_open()?;
            if bill.kind == BillKind::CreditNote || self.is_frozen(bill) {
                return Err(frozen("discount"));
            }
            next.spread(bill.seq, discount.minor(), "discount", stamp)?;
            next.settle()?;
        }
        let pays = patch.paid == Some(true) && bill.status != BillStatus::Paid;
        if pays && bill.status == BillStatus::Void {
            return Err(frozen("paid"));
        }
        if let Some(b) = next.bills.iter_mut().find(|b| b.id == id) {
            b.payment_type = payment_type;
            if pays {
                b.status = BillStatus::Paid;
            }
        }
        if next == *self {
            return Ok(None);
        }
        Ok(Some(next.step(self, ChangeKind::Billed, json!({"bill_id": id, "paid": pays}), Vec::new(), stamp)))
    }

    /// Returns what is wrong with the record (R2, R18, R19, R27, R35, R36, R39, R45): one text for each finding. The
    /// result is empty unless there is a defect or somebody has changed the rows.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let order = &self.order;
        let currency = self.currency();
        let mut check = |ok: bool, text: String| {
            if !ok {
                found.push(text);
            }
        };
        for line in &order.lines {
            let name = format!("line {}", line.id);
            let product = i128::from(line.quantity) * i128::from(line.unit_price.minor());
            check(line.placed_at == order.placed_at, format!("{name}: its `placed_at` is not that of its order (R19)"));
            check(
                i128::from(line.totals.subtotal.minor()) == product,
                format!("{name}: the subtotal is not quantity × unit price (R18)"),
            );
            check(line.totals.add_up(), format!("{name}: the total is not the sum of its terms (R18)"));
            check(
                (0..=line.quantity).contains(&line.canceled),
                format!("{name}: the canceled units are not within its quantity (R36)"),
            );
            let adjusted: i64 =
                self.adjustments.iter().filter(|a| a.line_id == line.id).map(|a| a.amount.minor()).sum();
            check(
                adjusted == line.totals.discount.minor(),
                format!("{name}: the adjustments do not add up to the discount (R18)"),
            );
            check(self.bill(line.bill_seq).is_some(), format!("{name}: its bill does not exist (R39)"));
        }
        for adjustment in &self.adjustments {
            let known = order.lines.iter().any(|l| l.id == adjustment.line_id);
            check(known, format!("adjustment {}: its line does not exist (R18)", adjustment.id));
        }
        for bill in self.real_bills() {
            let name = format!("bill {}", bill.id);
            let lines: Vec<&OrderLine> = order.lines.iter().filter(|l| l.bill_seq == bill.seq).collect();
            check(
                bill.totals == Totals::sum(lines.iter().map(|l| &l.totals), currency),
                format!("{name}: its lines do not add up to its amounts (R39)"),
            );
            let weights: Vec<i64> = lines.iter().map(|l| l.totals.subtotal.minor()).collect();
            let shares: Vec<i64> = lines.iter().map(|l| l.totals.discount.minor()).collect();
            let spread = allocate(bill.totals.discount.minor(), &weights);
            check(spread == Some(shares), format!("{name}: the discount is not spread over the lines by R27"));
            let credited: i64 = self.notes(bill.id).map(|n| n.totals.total.minor()).sum();
            let expected: i64 = match (order.status, bill.status) {
                (OrderStatus::Canceled, BillStatus::Paid) => bill.totals.total.minor(),
                (OrderStatus::Canceled, _) => 0,
                _ => lines
                    .iter()
                    .map(|l| first_units(l.totals.subtotal.minor() - l.totals.discount.minor(), l.canceled, l.quantity))
                    .sum(),
            };
            check(
                credited == expected,
                format!("{name}: the credit notes are not worth the canceled units (R35, R36)"),
            );
            let credited: i64 = self.notes(bill.id).map(|n| n.totals.subtotal.minor()).sum();
            let expected: i64 = match (order.status, bill.status) {
                (OrderStatus::Canceled, BillStatus::Paid) => bill.totals.subtotal.minor(),
                (OrderStatus::Canceled, _) => 0,
                _ => lines.iter().map(|l| l.unit_price.minor() * l.canceled).sum(),
            };
            check(
                credited == expected,
                format!("{name}: the subtotals of the credit notes are not those of the canceled units (R35)"),
            );
            let void = bill.status == BillStatus::Void;
            check(
                !void || order.status == OrderStatus::Canceled,
                format!("{name}: void, but the order is not canceled (R36)"),
            );
            let open = bill.status == BillStatus::Open;
            check(
                !open || order.status != OrderStatus::Canceled,
                format!("{name}: open, but the order is canceled (R36)"),
            );
        }
        for bill in &self.bills {
            check(
                bill.audit.deleted_at == order.audit.deleted_at,
                format!("bill {}: not hidden together with its order (R2)", bill.id),
            );
        }
        for note in self.bills.iter().filter(|b| b.kind == BillKind::CreditNote) {
            check(
                note.totals.add_up(),
                format!("credit note {}: the total is not the sum of its terms (R18)", note.id),
            );
            let corrects = note.corrects.is_some_and(|id| self.real_bills().any(|b| b.id == id));
            check(corrects, format!("credit note {}: the bill that it corrects does not exist (R39)", note.id));
        }
        let sums = Totals::sum(self.real_bills().map(|b| &b.totals), currency);
        check(order.totals == sums, format!("order {}: the bills do not add up to its amounts (R18)", order.id));
        check(
            order.erased_at.is_none() || order.is_anonymous(),
            format!("order {}: erased, but it has personal data (R45)", order.id),
        );
        let canceled = order.status == OrderStatus::Canceled;
        check(
            canceled == order.canceled_at.is_some(),
            format!("order {}: the status and the time of the cancellation disagree (R36)", order.id),
        );
        check(
            !canceled || order.lines.iter().all(|l| l.remaining() == 0),
            format!("order {}: canceled, but it has units that are not (R36)", order.id),
        );
        found
    }
}
