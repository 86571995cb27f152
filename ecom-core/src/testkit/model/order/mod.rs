//! Orders and bills: their rows in the model, the operations on them, and their comparison. Amounts, stock, statuses
//! and credit notes are computed from the rules, in `amounts.rs` and in each operation.

mod amounts;
mod change;
mod place;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::comparison::{Checked, Refusal, hash_of, read, read_ok, same};
use super::customer::Walk;
use super::{Operation, Part, Runner, World};
use crate::clock::Timestamp;
use crate::domain::access::principal::Principal;
use crate::domain::common::{Actor, Attributes, IncludeDeleted};
use crate::domain::sales::bill::{Bill, BillFilter, BillKind, BillSort, BillStatus};
use crate::domain::sales::order::{
    AdjustmentKind, Buyer, ChangeKind, DeliveryMethod, Order, OrderAdjustment, OrderFilter, OrderLine, OrderLineFilter,
    OrderRecord, OrderSort, OrderStatus,
};
use crate::domain::stock::inventory::StockReason;
use crate::error::ErrorCode;
use crate::id::{BillId, CartId, CustomerId, OrderId, OrderLineId, ProductId, SkuId};
use crate::paging::Paging;
use crate::text::fold_key;

pub(super) const PART: Part = Part { operations: OPERATIONS, compare: |r| Box::pin(r.compare_orders()) };

const OPERATIONS: &[Operation] = &[
    Operation { name: "place order", weight: |_| 70, run: |r| Box::pin(r.place_order()) },
    Operation { name: "check out cart", weight: |_| 45, run: |r| Box::pin(r.check_out()) },
    Operation { name: "edit order", weight: |_| 55, run: |r| Box::pin(r.edit_order()) },
    Operation { name: "patch order", weight: |_| 12, run: |r| Box::pin(r.patch_order()) },
    Operation { name: "cancel units", weight: |_| 30, run: |r| Box::pin(r.cancel_units()) },
    Operation { name: "cancel order", weight: |_| 10, run: |r| Box::pin(r.cancel_order()) },
    Operation { name: "start order", weight: |_| 14, run: |r| Box::pin(r.move_order(OrderStatus::InProgress)) },
    Operation { name: "deliver order", weight: |_| 20, run: |r| Box::pin(r.move_order(OrderStatus::Delivered)) },
    Operation { name: "patch bill", weight: |_| 40, run: |r| Box::pin(r.patch_bill()) },
    Operation { name: "delete order", weight: |_| 8, run: |r| Box::pin(r.delete_order()) },
    Operation { name: "restore order", weight: |_| 8, run: |r| Box::pin(r.restore_order()) },
    Operation { name: "read order", weight: |_| 12, run: |r| Box::pin(r.read_order()) },
    Operation { name: "list orders", weight: |_| 14, run: |r| Box::pin(r.list_orders()) },
    Operation { name: "list order lines", weight: |_| 8, run: |r| Box::pin(r.list_order_lines()) },
    Operation { name: "list bills", weight: |_| 8, run: |r| Box::pin(r.list_bills()) },
];

/// An entry of a history: seq, kind, status before and after, actor and time.
type Entry = (i64, ChangeKind, Option<OrderStatus>, OrderStatus, Actor, Timestamp);

/// The orders of the model.
#[derive(Debug, Default)]
pub(super) struct Orders {
    rows: BTreeMap<OrderId, OrderRecord>,
    history: BTreeMap<OrderId, Vec<Entry>>,
    /// The greatest counters of the numbers of orders and of bills so far.
    last: [i64; 2],
}

/// A change of stock: the SKU, the position of the line, and the pieces.
type Taken = (SkuId, i32, i64);

/// The position in [`Taken`] of pieces that no line has moved.
const NO_LINE: i32 = 0;

impl World {
    pub(super) fn is_sold_sku(&self, id: SkuId) -> bool {
        self.orders.rows.values().any(|r| r.order.lines.iter().any(|l| l.sku_id == Some(id)))
    }

    pub(super) fn is_sold_product(&self, id: ProductId) -> bool {
        self.orders.rows.values().any(|r| r.order.lines.iter().any(|l| l.product_id == Some(id)))
    }

    pub(super) fn is_buyer(&self, id: CustomerId) -> bool {
        self.orders.rows.values().any(|r| r.order.customer_id == Some(id))
    }

    /// Returns the order with this number.
    pub(super) fn numbered_order(&self, number: &str) -> Option<OrderId> {
        self.orders.rows.values().find(|r| r.order.number == number).map(|r| r.order.id)
    }

    fn live_order(&self, id: OrderId) -> Option<&OrderRecord> {
        self.orders.rows.get(&id).filter(|r| r.order.audit.is_live())
    }

    fn order_of_cart(&self, cart: CartId) -> Option<&OrderRecord> {
        self.orders.rows.values().find(|r| r.order.cart_id == Some(cart))
    }

    fn bills(&self) -> impl Iterator<Item = &Bill> {
        self.orders.rows.values().flat_map(|r| &r.bills)
    }

    /// Returns the unique values of an order that another one has.
    fn order_conflicts(&self, order: &Order, bill_number: Option<&String>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut live = self.orders.rows.values().filter(|r| r.order.audit.is_live() && r.order.id != order.id);
        if order.external.is_some() && live.any(|r| r.order.external == order.external) {
            refusals.push(Refusal::Duplicate("external_id"));
        }
        if bill_number.is_some_and(|n| self.bills().any(|b| b.number == *n)) {
            refusals.push(Refusal::Duplicate("bill_number"));
        }
        refusals
    }
}

/// Returns whether a bill no longer changes: it is paid or void, or one of its lines has canceled units.
fn is_frozen(record: &OrderRecord, bill: &Bill) -> bool {
    bill.status != BillStatus::Open || record.order.lines.iter().any(|l| l.bill_seq == bill.seq && l.canceled > 0)
}

/// Returns the last bill of an order that is not a credit note.
fn newest(record: &OrderRecord) -> &Bill {
    record.bills.iter().filter(|b| b.kind == BillKind::Bill).max_by_key(|b| b.seq).unwrap()
}

/// Returns a record without the numbers that the database chose, which differ between databases after refusals.
fn unnumbered(record: &OrderRecord) -> OrderRecord {
    let mut record = record.clone();
    record.order.number.clear();
    for bill in record.bills.iter_mut().filter(|b| b.number.starts_with("BILL-")) {
        bill.number.clear();
    }
    record
}

impl Runner<'_> {
    /// Returns the id of an order: mostly of a live one that can change.
    fn some_order(&mut self) -> OrderId {
        let is_open = |r: &&OrderRecord| {
            r.order.audit.is_live() && matches!(r.order.status, OrderStatus::Pending | OrderStatus::InProgress)
        };
        let open: Vec<OrderId> = self.world.orders.rows.values().filter(is_open).map(|r| r.order.id).collect();
        let live = self.world.orders.rows.values().filter(|r| r.order.audit.is_live());
        let live: Vec<OrderId> = live.map(|r| r.order.id).collect();
        let all: Vec<OrderId> = self.world.orders.rows.keys().copied().collect();
        let from = if self.chance(85) { open } else { live };
        self.some_id(&from, &all)
    }

    /// Reads an order from the storage, also a soft-deleted one.
    async fn stored_order(&self, id: OrderId) -> Checked<OrderRecord> {
        let mut db = read("connecting", self.storage.connect().await)?;
        let found = read("the record", db.orders().records(&[id]).await)?.pop();
        found.ok_or_else(|| format!("order {id} is not stored"))
    }

    /// Checks the number of a new document, which rises and carries the year.
    fn is_next(&mut self, prefix: &str, number: &str) -> Checked<()> {
        let counter: i64 = number.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let year = chrono::Datelike::year(&self.now());
        same("the number", &number.to_owned(), &format!("{prefix}-{year}-{counter:06}"))?;
        let last = &mut self.world.orders.last[usize::from(prefix == "BILL")];
        if counter <= *last {
            return Err(format!("{number} is not above {last}"));
        }
        *last = counter;
        Ok(())
    }

    /// Takes over the ids and numbers of new rows, and makes the discounts of the lines rows.
    fn adopt(&mut self, want: &mut OrderRecord, got: &OrderRecord) -> Checked<()> {
        let missing: OrderLineId = Self::missing();
        if want.order.id == Self::missing() {
            self.world.is_new(got.order.id.0)?;
            self.is_next("ORD", &got.order.number)?;
            want.order.id = got.order.id;
            want.order.number.clone_from(&got.order.number);
        }
        for line in &mut want.order.lines {
            line.order_id = want.order.id;
            if line.id == missing
                && let Some(own) = got.order.lines.iter().find(|l| l.position == line.position)
            {
                self.world.is_new(own.id.0)?;
                line.id = own.id;
            }
        }
        for bill in &mut want.bills {
            bill.order_id = want.order.id;
            if bill.id == BillId(missing.0)
                && let Some(own) = got.bills.iter().find(|b| (b.kind, b.seq) == (bill.kind, bill.seq))
            {
                self.world.is_new(own.id.0)?;
                bill.id = own.id;
                if bill.number.is_empty() {
                    self.is_next("BILL", &own.number)?;
                    bill.number.clone_from(&own.number);
                }
            }
        }
        want.bills.sort_by_key(|b| (b.kind == BillKind::CreditNote, b.seq));
        let before = std::mem::take(&mut want.adjustments);
        for line in want.order.lines.iter().filter(|l| l.totals.discount.minor() > 0) {
            let amount = line.totals.discount;
            if let Some(own) = before.iter().find(|a| a.line_id == line.id) {
                want.adjustments.push(OrderAdjustment { amount, ..own.clone() });
            } else if let Some(own) = got.adjustments.iter().find(|a| a.line_id == line.id) {
                self.world.is_new(own.id.0)?;
                want.adjustments.push(OrderAdjustment {
                    id: own.id,
                    order_id: want.order.id,
                    line_id: line.id,
                    kind: AdjustmentKind::Manual,
                    label: "Discount".to_owned(),
                    step: 1,
                    amount,
                });
            }
        }
        Ok(())
    }

    /// Records the edit of an order and of those of its bills that differ.
    fn order_edited(&self, before: &OrderRecord, want: &mut OrderRecord, who: &Principal) {
        let now = self.now();
        want.order.audit.edited(now, who.actor());
        for bill in &mut want.bills {
            // New bills do not have their ids yet.
            if before.bills.iter().any(|b| (b.kind, b.seq) == (bill.kind, bill.seq) && b != bill) {
                bill.audit.edited(now, who.actor());
            }
        }
    }

    /// Compares an order that has changed with the prediction, and takes the effect on stock and history over.
    async fn order_written(
        &mut self,
        answer: Option<&Order>,
        id: OrderId,
        mut want: OrderRecord,
        kinds: &[ChangeKind],
        taken: &[Taken],
        who: &Principal,
    ) -> Checked<()> {
        let got = self.stored_order(id).await?;
        self.adopt(&mut want, &got)?;
        same("the order", &got, &want)?;
        if let Some(answer) = answer {
            same("the answer", answer, &want.order)?;
        }
        same("what is due", &got.due().minor(), &amounts::due(&want))?;
        if want.order.status == OrderStatus::Canceled {
            same("what is due after the cancellation", &amounts::due(&want), &0)?;
        } else {
            same("what is due for the units that are left", &amounts::due(&want), &amounts::due_of_lines(&want))?;
        }
        let now = self.now();
        let before = self.world.orders.rows.get(&id).map(|r| r.order.status);
        let entries = self.world.orders.history.entry(id).or_default();
        let mut status = before;
        for (n, kind) in kinds.iter().enumerate() {
            let seq = want.order.audit.version - (kinds.len() - 1 - n) as i64;
            let to = want.order.status;
            entries.push((seq, *kind, status, to, who.actor().clone(), now));
            status = Some(to);
        }
        let reason = match kinds[0] {
            ChangeKind::Placed => StockReason::Order,
            ChangeKind::Edited => StockReason::LineChange,
            _ => StockReason::Cancel,
        };
        let mut products = BTreeSet::new();
        for (sku, position, delta) in taken {
            let line = want.order.lines.iter().find(|l| l.position == *position).map(|l| l.id);
            let row = self.world.skus.get_mut(sku).unwrap();
            row.on_hand += delta;
            products.insert(row.product_id);
            let reason = if *position == NO_LINE { StockReason::Adjustment } else { reason };
            self.moved_for(line, *sku, *delta, reason, Some(want.order.number.clone()), who.actor());
        }
        self.world.orders.rows.insert(id, want);
        self.compare_history(id).await?;
        for product in products {
            let got = read_ok(self.shop.products().get_fresh(product, IncludeDeleted::Yes).await)?;
            self.product_answer(&got)?;
        }
        Ok(())
    }

    async fn compare_history(&mut self, id: OrderId) -> Checked<()> {
        let mut db = read("connecting", self.storage.connect().await)?;
        let rows = read("the history", db.orders().history(id).await)?;
        drop(db);
        let got: Vec<Entry> = rows.iter().map(|c| (c.seq, c.kind, c.from, c.to, c.actor.clone(), c.at)).collect();
        same("the history", &got, &self.world.orders.history[&id])?;
        self.digest_at_end(&rows);
        Ok(())
    }

    /// Compares the orders of a customer whose personal data was erased.
    pub(super) async fn orders_erased(&mut self, customer: CustomerId, who: &Principal) -> Checked<()> {
        let now = self.now();
        let of = |r: &&mut OrderRecord| r.order.customer_id == Some(customer) && r.order.erased_at.is_none();
        let mut ids = Vec::new();
        for record in self.world.orders.rows.values_mut().filter(of) {
            let order = &mut record.order;
            order.buyer = Buyer::default();
            (order.shipping_address, order.billing_address, order.tracking) = (None, None, None);
            (order.attributes, order.external) = (Attributes::default(), None);
            order.lines.iter_mut().for_each(|l| l.attributes = Attributes::default());
            order.erased_at = Some(now);
            order.audit.edited(now, who.actor());
            let status = order.status;
            let entry = (order.audit.version, ChangeKind::Erased, Some(status), status, who.actor().clone(), now);
            self.world.orders.history.entry(order.id).or_default().push(entry);
            ids.push(order.id);
        }
        for id in ids {
            same("the order", &self.stored_order(id).await?, &self.world.orders.rows[&id])?;
            self.compare_history(id).await?;
        }
        Ok(())
    }

    async fn read_order(&mut self) -> Checked<()> {
        let id = self.some_order();
        self.begins(id);
        let orders = self.shop.orders();
        let want = self.world.live_order(id);
        let deleted = self.world.orders.rows.get(&id);
        same("the order", &orders.get(id, IncludeDeleted::No).await.ok().as_ref(), &want.map(|r| &r.order))?;
        same("a deleted order", &orders.get(id, IncludeDeleted::Yes).await.ok().as_ref(), &deleted.map(|r| &r.order))?;
        same("the record", &orders.record(id, IncludeDeleted::No).await.ok().as_ref(), &want)?;
        same("a deleted record", &orders.record(id, IncludeDeleted::Yes).await.ok().as_ref(), &deleted)?;
        let Some(record) = deleted else {
            let answer = self.shop.bills().of_order(id, IncludeDeleted::Yes).await;
            return self.judge(answer, &[Refusal::Code(ErrorCode::NotFound)]).map(drop);
        };
        let by_number = orders.get_by_number(&record.order.number, IncludeDeleted::No).await;
        same("the order by number", &by_number.ok().as_ref(), &want.map(|r| &r.order))?;
        let bills = self.shop.bills();
        for deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
            let is_shown = deleted == IncludeDeleted::Yes || want.is_some();
            let of_order = bills.of_order(id, deleted).await.ok();
            same("the bills", &of_order.as_ref(), &is_shown.then_some(&record.bills))?;
            for bill in &record.bills {
                let shown = is_shown.then_some(bill);
                same("the bill", &bills.get(bill.id, deleted).await.ok().as_ref(), &shown)?;
                let by_number = bills.get_by_number(&bill.number, deleted).await.ok();
                same("the bill by number", &by_number.as_ref(), &shown)?;
            }
        }
        Ok(())
    }

    /// Returns a time range that starts or ends at the time of some order.
    fn some_range(&mut self, times: &[Timestamp]) -> (Option<Timestamp>, Option<Timestamp>) {
        let mut one = |percent: u32| if self.chance(percent) { self.one_of(times) } else { None };
        (one(25), one(25))
    }

    async fn list_orders(&mut self) -> Checked<()> {
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let times: Vec<Timestamp> = self.world.orders.rows.values().map(|r| r.order.placed_at).collect();
        let (from, until) = self.some_range(&times);
        let mut filter = OrderFilter { from, until, include_deleted: deleted, ..OrderFilter::default() };
        if self.chance(30) {
            filter.customer = Some(self.some_customer());
        }
        if self.chance(15) {
            filter.email = Some(self.any(&["GRACE@example.com", "ADA@Example.COM", "grüsse@例え.jp", "%"]).to_owned());
        }
        if self.chance(30) {
            filter.status = self.one_of(OrderStatus::ALL);
        }
        if self.chance(30) {
            filter.delivery_method = self.one_of(DeliveryMethod::ALL);
        }
        if self.chance(20) {
            filter.sku = Some(self.some_sku());
        }
        let (sort, limit) = (self.one_of(OrderSort::ALL).unwrap(), 1 + self.below(8) as u32);
        self.begins((&filter, sort, limit));
        if from.zip(until).is_some_and(|(from, until)| from > until) {
            let answer = self.shop.orders().list(&filter, sort, &Paging::first(limit)).await;
            return self.judge(answer, &[Refusal::field("from")]).map(drop);
        }
        let matches = |o: &Order| {
            (deleted == IncludeDeleted::Yes || o.audit.is_live())
                && filter.customer.is_none_or(|c| o.customer_id == Some(c))
                && filter
                    .email
                    .as_ref()
                    .is_none_or(|e| o.buyer.email.as_ref().is_some_and(|own| fold_key(own) == fold_key(e)))
                && filter.status.is_none_or(|s| o.status == s)
                && filter.delivery_method.is_none_or(|m| o.delivery_method == m)
                && filter.sku.is_none_or(|s| o.lines.iter().any(|l| l.quantity > 0 && l.sku_id == Some(s)))
                && from.is_none_or(|t| o.placed_at >= t)
                && until.is_none_or(|t| o.placed_at < t)
        };
        let mut want: Vec<Order> =
            self.world.orders.rows.values().map(|r| &r.order).filter(|o| matches(o)).cloned().collect();
        match sort {
            OrderSort::PlacedAsc => want.sort_by_key(|o| (o.placed_at, o.id)),
            OrderSort::PlacedDesc => want.sort_by_key(|o| Reverse((o.placed_at, o.id))),
        }
        let mut walk = Walk::new(want, limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.orders().list(&filter, sort, &paging).await)?;
        }
        Ok(())
    }

    async fn list_order_lines(&mut self) -> Checked<()> {
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let times: Vec<Timestamp> = self.world.orders.rows.values().map(|r| r.order.placed_at).collect();
        let (from, until) = self.some_range(&times);
        let mut filter = OrderLineFilter { from, until, include_deleted: deleted, ..OrderLineFilter::default() };
        if self.chance(20) {
            filter.customer = Some(self.some_customer());
        }
        if self.chance(30) {
            filter.status = self.one_of(OrderStatus::ALL);
        }
        match self.below(6) {
            0 => filter.order = Some(self.some_order()),
            1 | 2 => filter.sku = Some(self.some_sku()),
            3 => {
                let sku = self.some_sku();
                filter.product = self.world.skus.get(&sku).map(|s| s.product_id);
            }
            _ => {}
        }
        let (sort, limit) = (self.one_of(OrderSort::ALL).unwrap(), 1 + self.below(8) as u32);
        self.begins((&filter, sort, limit));
        if from.zip(until).is_some_and(|(from, until)| from > until) {
            let answer = self.shop.orders().lines(&filter, sort, &Paging::first(limit)).await;
            return self.judge(answer, &[Refusal::field("from")]).map(drop);
        }
        let of_order = |o: &&Order| {
            (deleted == IncludeDeleted::Yes || o.audit.is_live())
                && filter.order.is_none_or(|id| o.id == id)
                && filter.customer.is_none_or(|c| o.customer_id == Some(c))
                && filter.status.is_none_or(|s| o.status == s)
                && from.is_none_or(|t| o.placed_at >= t)
                && until.is_none_or(|t| o.placed_at < t)
        };
        let matches = |l: &&OrderLine| {
            l.quantity > 0
                && filter.sku.is_none_or(|s| l.sku_id == Some(s))
                && filter.product.is_none_or(|p| l.product_id == Some(p))
        };
        let orders = self.world.orders.rows.values().map(|r| &r.order).filter(of_order);
        let mut want: Vec<OrderLine> = orders.flat_map(|o| &o.lines).filter(matches).cloned().collect();
        match sort {
            OrderSort::PlacedAsc => want.sort_by_key(|l| (l.placed_at, l.id)),
            OrderSort::PlacedDesc => want.sort_by_key(|l| Reverse((l.placed_at, l.id))),
        }
        let mut walk = Walk::new(want, limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.orders().lines(&filter, sort, &paging).await)?;
        }
        Ok(())
    }

    async fn list_bills(&mut self) -> Checked<()> {
        let times: Vec<Timestamp> = self.world.bills().map(|b| b.date).collect();
        let (from, until) = self.some_range(&times);
        let deleted = if self.chance(30) { IncludeDeleted::Yes } else { IncludeDeleted::No };
        let mut filter = BillFilter { from, until, include_deleted: deleted, ..BillFilter::default() };
        if self.chance(20) {
            filter.order = Some(self.some_order());
        }
        if self.chance(40) {
            filter.kind = self.one_of(BillKind::ALL);
        }
        if self.chance(40) {
            filter.status = self.one_of(BillStatus::ALL);
        }
        let (sort, limit) = (self.one_of(BillSort::ALL).unwrap(), 1 + self.below(8) as u32);
        self.begins((&filter, sort, limit));
        if from.zip(until).is_some_and(|(from, until)| from > until) {
            let answer = self.shop.bills().list(&filter, sort, &Paging::first(limit)).await;
            return self.judge(answer, &[Refusal::field("from")]).map(drop);
        }
        let matches = |b: &&Bill| {
            (deleted == IncludeDeleted::Yes || b.audit.is_live())
                && filter.order.is_none_or(|o| b.order_id == o)
                && filter.kind.is_none_or(|k| b.kind == k)
                && filter.status.is_none_or(|s| b.status == s)
                && from.is_none_or(|t| b.date >= t)
                && until.is_none_or(|t| b.date < t)
        };
        let mut want: Vec<Bill> = self.world.bills().filter(matches).cloned().collect();
        match sort {
            BillSort::DateAsc => want.sort_by_key(|b| (b.date, b.id)),
            BillSort::DateDesc => want.sort_by_key(|b| Reverse((b.date, b.id))),
        }
        let mut walk = Walk::new(want, limit);
        while let Some(paging) = walk.next.take() {
            walk.reads(self.shop.bills().list(&filter, sort, &paging).await)?;
        }
        Ok(())
    }

    /// Compares all orders with everything that belongs to them, and lets the shop audit itself.
    async fn compare_orders(&mut self) -> Checked<()> {
        let ids: Vec<OrderId> = self.world.orders.rows.keys().copied().collect();
        let mut db = read("connecting", self.storage.connect().await)?;
        same("the ids", &read("the ids", db.orders().ids_after(None, 100_000).await)?, &ids)?;
        let rows = read("the orders", db.orders().records(&ids).await)?;
        let moved = read("the movements", db.orders().moved(&ids).await)?;
        drop(db);
        same("the orders", &rows, &self.world.orders.rows.values().cloned().collect())?;
        let moved: BTreeMap<OrderLineId, i64> = moved.into_iter().collect();
        for line in rows.iter().flat_map(|r| &r.order.lines) {
            let want = if line.takes_stock { line.canceled - line.quantity } else { 0 };
            same("the movements of a line", &moved.get(&line.id).copied().unwrap_or(0), &want)?;
        }
        let report = read("the audit", self.shop.audit().run().await)?;
        same("the findings of the audit", &report.findings, &Vec::new())?;
        same("how many orders it has seen", &report.orders, &(ids.len() as u64))?;
        if self.at_end {
            for record in rows.iter().map(unnumbered) {
                let hashes = [hash_of(&record.order), hash_of(&record.adjustments), hash_of(&record.bills)];
                self.digest_at_end(&hashes);
            }
            for id in ids {
                self.compare_history(id).await?;
            }
        }
        Ok(())
    }
}
