//! Changes of orders and bills.

use std::collections::{BTreeMap, BTreeSet};

use super::amounts::{MAX_AMOUNT, settle, spread, sum, totals, worth};
use super::{BillId, Checked, NO_LINE, OrderId, OrderLineId, Refusal, Runner, Taken, is_frozen, newest};
use crate::domain::common::{Attributes, Audit, ExpectedVersion, Patch};
use crate::domain::sales::bill::{Bill, BillKind, BillPatch, BillStatus, PaymentType};
use crate::domain::sales::order::input::{CancelUnits, LineChange, OrderEdit, OrderPatch};
use crate::domain::sales::order::{
    ChangeKind, DeliveryMethod, OrderLine, OrderRecord, OrderStatus, PostalAddress, Totals,
};
use crate::error::ErrorCode;
use crate::id::SkuId;
use crate::testkit::model::generator::{attributes, decimal};

const STATUS: Refusal = Refusal::Code(ErrorCode::OrderStatusConflict);
const FROZEN: Refusal = Refusal::Code(ErrorCode::BillFrozen);

const fn is_open(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Pending | OrderStatus::InProgress)
}

impl Runner<'_> {
    /// Returns the live order, the version that the caller sends, and why it is refused so far.
    fn order_to_change(&mut self, id: OrderId) -> (Option<OrderRecord>, ExpectedVersion, Vec<Refusal>) {
        match self.world.live_order(id).cloned() {
            None => (None, ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(record) => {
                let (read, stale) = self.version(record.order.audit.version);
                (Some(record), read, stale.into_iter().collect())
            }
        }
    }

    fn new_bill(&self, of: &OrderRecord, kind: BillKind, payment_type: PaymentType, audit: Audit) -> Bill {
        Bill {
            id: BillId(Self::missing::<OrderId>().0),
            order_id: of.order.id,
            kind,
            seq: of.bills.iter().filter(|b| b.kind == kind).count() as i32 + 1,
            corrects: None,
            number: String::new(),
            totals: totals(0, 0),
            payment_type,
            status: BillStatus::Open,
            date: self.now(),
            audit,
        }
    }

    /// Predicts the state after the changes of lines, the additions and the discount of an edit.
    fn predict_edit(
        &self,
        before: &OrderRecord,
        edit: &OrderEdit,
        asked: &[super::place::Asked],
        extra: &[super::place::Extra],
        discount: Option<i64>,
        audit: Audit,
    ) -> Result<(OrderRecord, Vec<Taken>), Vec<Refusal>> {
        let mut want = before.clone();
        let mut taken: Vec<Taken> = Vec::new();
        let mut demand: BTreeMap<SkuId, i64> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        let (mut bad, mut refusals) = (BTreeSet::new(), Vec::new());
        for (i, change) in edit.change.iter().enumerate() {
            let Some(line) = want.order.lines.iter_mut().find(|l| l.id == change.line_id) else {
                bad.insert(format!("change[{i}].line_id"));
                continue;
            };
            if before.bills.iter().any(|b| b.kind == BillKind::Bill && b.seq == line.bill_seq && is_frozen(before, b)) {
                refusals.push(FROZEN);
                continue;
            }
            let quantity = change.quantity.unwrap_or(line.quantity);
            let more = quantity - line.quantity;
            let offered = line.sku_id.map(|sku| (sku, self.world.offered(sku)));
            let is_gone = offered.is_some_and(|(_, offered)| !offered.is_some_and(|(_, is_for_sale)| is_for_sale));
            if line.quantity == 0 || (is_gone && (more > 0 || change.reprice)) {
                bad.insert(format!("change[{i}].line_id"));
                continue;
            }
            if let (true, Some((sku, Some((price, _))))) = (change.reprice, offered) {
                (line.list_price, line.unit_price) = (self.world.skus[&sku].price, price);
            }
            if let (true, Some(sku)) = (line.takes_stock && more != 0, line.sku_id) {
                taken.push((sku, line.position, -more));
                *demand.entry(sku).or_default() += more;
            }
            if change.reprice && i128::from(line.list_price.minor()) > MAX_AMOUNT {
                refusals.push(Refusal::field(&format!("change[{i}].reprice")));
            }
            line.quantity = quantity;
            if i128::from(quantity) * i128::from(line.unit_price.minor()) > MAX_AMOUNT {
                refusals.push(Refusal::field(&format!("change[{i}].quantity")));
                // The amount of this line cannot be computed.
                line.quantity = 0;
            }
            touched.insert(line.bill_seq);
        }
        if !bad.is_empty() {
            refusals.push(Refusal::Fields(bad));
        }
        if refusals.is_empty() {
            refusals = self.world.unsold(asked, demand);
        }
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut last = newest(before).seq;
        if !(asked.is_empty() && extra.is_empty()) {
            if is_frozen(before, newest(before)) {
                let bill = self.new_bill(before, BillKind::Bill, newest(before).payment_type, audit);
                want.bills.push(bill);
                last += 1;
            }
            touched.insert(last);
            taken.extend(self.world.sold(&mut want, last, asked, extra, "add_extra").map_err(|refusal| vec![refusal])?);
        }
        let mut discounts: BTreeMap<i32, i64> = BTreeMap::new();
        for bill in want.bills.iter().filter(|b| b.kind == BillKind::Bill) {
            discounts.insert(bill.seq, bill.totals.discount.minor());
        }
        if let Some(discount) = discount {
            if is_frozen(&want, newest(&want)) {
                return Err(vec![FROZEN]);
            }
            discounts.insert(last, discount);
            touched.insert(last);
        }
        for seq in touched {
            if !spread(&mut want, seq, discounts[&seq]) {
                return Err(vec![Refusal::field("discount")]);
            }
        }
        if !settle(&mut want) {
            return Err(vec![Refusal::field("lines")]);
        }
        // A line that took stock takes it although the SKU is no longer tracked. Missing pieces are booked in first.
        let mut booked: Vec<Taken> = Vec::new();
        for (sku, row) in self.world.skus.iter().filter(|(_, row)| !row.track_stock) {
            let moved: i64 = taken.iter().filter(|(id, ..)| id == sku).map(|(.., delta)| delta).sum();
            if row.on_hand + moved < 0 {
                booked.push((*sku, NO_LINE, -row.on_hand - moved));
            }
        }
        booked.append(&mut taken);
        Ok((want, booked))
    }

    pub(super) async fn edit_order(&mut self) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        let (before, read, mut refusals) = self.order_to_change(id);
        let mut edit = OrderEdit::default();
        let mut bad = BTreeSet::new();
        let mut lines: Vec<OrderLine> = before.iter().flat_map(|r| r.order.lines.clone()).collect();
        for i in 0..self.any(&[0, 1, 1, 2, 3]) {
            let Some(line) = self.one_of(&lines) else { break };
            lines.retain(|l| l.id != line.id);
            let quantity = match self.below(12) {
                0 => Some(0),
                1 => Some(1),
                2..6 => Some((line.quantity + 1 + self.below(2) as i64).min(OrderLine::MAX_QUANTITY)),
                6..9 => Some((line.quantity - 1).max(0)),
                9 => Some(line.quantity),
                10 if self.chance(30) => Some(OrderLine::MAX_QUANTITY),
                _ => None,
            };
            let mut change = LineChange { line_id: line.id, quantity, reprice: self.chance(25) };
            if self.chance(2) {
                change.quantity = Some(-1);
                bad.insert(format!("change[{i}].quantity"));
            }
            if self.chance(2) {
                change.line_id = Self::missing();
            }
            edit.change.push(change);
        }
        if self.chance(2)
            && let Some(first) = edit.change.first().cloned()
        {
            bad.insert(format!("change[{}].line_id", edit.change.len()));
            if first.quantity == Some(-1) {
                bad.insert(format!("change[{}].quantity", edit.change.len()));
            }
            edit.change.push(first);
        }
        let missing: OrderLineId = Self::missing();
        for (i, change) in edit.change.iter().enumerate() {
            let is_repeated = edit.change[..i].iter().any(|c| c.line_id == change.line_id);
            if is_repeated && change.line_id == missing {
                bad.insert(format!("change[{i}].line_id"));
            }
        }
        let mut asked = Vec::new();
        for n in 0..self.any(&[0, 0, 0, 1, 1, 2]) {
            let (input, line) = self.asked_line(format!("add[{n}]"), &mut bad);
            edit.add.push(input);
            asked.push(line);
        }
        let (input, extra) = self.extra_lines("add_extra", 10, &mut bad);
        edit.add_extra = input;
        let mut discount = None;
        if self.chance(20) {
            discount = Some(self.below(1_500) as i64);
            edit.discount = discount.map(decimal);
        } else if self.chance(2) {
            edit.discount = Some(decimal(-1));
            bad.insert("discount".to_owned());
        }
        if edit == OrderEdit::default() {
            bad.insert("change".to_owned());
        }
        self.begins((id, read, &edit));
        let mut predicted = None;
        if !bad.is_empty() {
            refusals = vec![Refusal::Fields(bad)];
        } else if let (true, Some(before)) = (refusals.is_empty(), &before) {
            let audit = Audit::created(self.now(), who.actor());
            if before.order.status == OrderStatus::Pending {
                match self.predict_edit(before, &edit, &asked, &extra, discount, audit) {
                    Ok(next) => predicted = Some(next),
                    Err(why) => refusals = why,
                }
            } else {
                refusals.push(STATUS);
            }
        }
        let answer = self.shop.acting_as(&who).orders().edit(id, read, &edit).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let ((mut want, taken), before) = (predicted.unwrap(), before.unwrap());
            if want == before {
                return super::same("the answer", &got, &before.order);
            }
            self.order_edited(&before, &mut want, &who);
            self.order_written(Some(&got), id, want, &[ChangeKind::Edited], &taken, &who).await?;
        }
        Ok(())
    }

    pub(super) async fn patch_order(&mut self) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        let (before, read, mut refusals) = self.order_to_change(id);
        let mut patch = OrderPatch::default();
        let mut bad = BTreeSet::new();
        if self.chance(30) {
            patch.delivery_method = Patch::Set(self.one_of(DeliveryMethod::ALL).unwrap());
        } else if self.chance(2) {
            patch.delivery_method = Patch::Clear;
            bad.insert("delivery_method".to_owned());
        }
        let mut address = |percent: u32, name: &str, to: &mut Patch<_>, bad: &mut BTreeSet<String>| {
            if !self.chance(percent) {
                return None;
            }
            if self.chance(40) {
                *to = Patch::Clear;
                return Some(None);
            }
            let (input, wrong) = self.address_input();
            bad.extend(wrong.into_iter().map(|field| format!("{name}.{field}")));
            let stored = super::place::postal(&input);
            *to = Patch::Set(input);
            Some(Some(stored))
        };
        let shipping: Option<Option<PostalAddress>> =
            address(30, "shipping_address", &mut patch.shipping_address, &mut bad);
        let billing = address(20, "billing_address", &mut patch.billing_address, &mut bad);
        if self.chance(40) {
            patch.tracking = self.any(&[Patch::Clear, Patch::Set(" 1Z ".to_owned()), Patch::Set("🧺".to_owned())]);
        } else if self.chance(2) {
            patch.tracking = Patch::Set("x".repeat(256));
            bad.insert("tracking".to_owned());
        }
        if self.chance(30) {
            patch.attributes = self.any(&[Patch::Clear, Patch::Set(attributes("{\"n\": null, \"z\": {\"y\": 1}}"))]);
        }
        self.begins((id, read, &patch));
        let mut want = before.clone();
        if let (true, Some(want)) = (refusals.is_empty(), &mut want) {
            let order = &mut want.order;
            if let Patch::Set(method) = patch.delivery_method {
                order.delivery_method = method;
            }
            if let Some(shipping) = shipping {
                order.shipping_address = shipping;
            }
            if let Some(billing) = billing {
                order.billing_address = billing;
            }
            match &patch.tracking {
                Patch::Keep => {}
                Patch::Clear => order.tracking = None,
                Patch::Set(tracking) => order.tracking = Some(tracking.trim().to_owned()),
            }
            match &patch.attributes {
                Patch::Keep => {}
                Patch::Clear => order.attributes = Attributes::default(),
                Patch::Set(changes) => order.attributes.merge(changes),
            }
            let has_no_address =
                order.delivery_method == DeliveryMethod::HomeDelivery && order.shipping_address.is_none();
            if !is_open(order.status) {
                refusals.push(STATUS);
            } else if order.erased_at.is_some() {
                refusals.push(Refusal::Code(ErrorCode::StateConflict));
            } else if !bad.is_empty() {
                refusals.push(Refusal::Fields(bad));
            } else if has_no_address {
                refusals.push(Refusal::field("shipping_address"));
            }
        }
        let answer = self.shop.acting_as(&who).orders().patch(id, read, patch).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (before, mut want) = (before.unwrap(), want.unwrap());
            if want == before {
                return super::same("the answer", &got, &before.order);
            }
            self.order_edited(&before, &mut want, &who);
            self.order_written(Some(&got), id, want, &[ChangeKind::Patched], &[], &who).await?;
        }
        Ok(())
    }

    /// Returns the order after it was canceled as a whole, and the stock that it restores (R36).
    fn canceled(&self, before: &OrderRecord, audit: &Audit) -> (OrderRecord, Vec<Taken>) {
        let mut want = before.clone();
        let mut restored = Vec::new();
        for line in &mut want.order.lines {
            let left = line.quantity - line.canceled;
            if let (true, Some(sku)) = (line.takes_stock && left > 0, line.sku_id) {
                restored.push((sku, line.position, left));
            }
            line.canceled = line.quantity;
        }
        for bill in before.bills.iter().filter(|b| b.kind == BillKind::Bill) {
            let notes = before.bills.iter().filter(|b| b.corrects == Some(bill.id));
            match bill.status {
                BillStatus::Open => {
                    for b in want.bills.iter_mut().filter(|b| b.id == bill.id || b.corrects == Some(bill.id)) {
                        b.status = BillStatus::Void;
                    }
                }
                BillStatus::Paid => {
                    let credited = sum(notes.map(|b| &b.totals));
                    let part =
                        |of: fn(&Totals) -> crate::money::Money| of(&bill.totals).minor() - of(&credited).minor();
                    let left = totals(part(|t| t.subtotal), part(|t| t.discount));
                    if left.subtotal.minor() > 0 || left.total.minor() > 0 {
                        let note = self.new_bill(&want, BillKind::CreditNote, bill.payment_type, audit.clone());
                        want.bills.push(Bill { corrects: Some(bill.id), totals: left, ..note });
                    }
                }
                BillStatus::Void => {}
            }
        }
        want.order.status = OrderStatus::Canceled;
        want.order.canceled_at = Some(self.now());
        (want, restored)
    }

    pub(super) async fn cancel_units(&mut self) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        let (before, read, mut refusals) = self.order_to_change(id);
        let lines: Vec<OrderLine> = before.iter().flat_map(|r| r.order.lines.clone()).collect();
        let left: Vec<OrderLine> = lines.iter().filter(|l| l.quantity > l.canceled).cloned().collect();
        let mut units = Vec::new();
        for _ in 0..self.any(&[1, 1, 1, 2, 3]) {
            let from = if self.chance(95) { &left } else { &lines };
            let Some(line) = self.one_of(from) else { break };
            let rest = line.quantity - line.canceled;
            let quantity = match self.below(20) {
                0 => 0,
                1 => rest + 1,
                2..9 => rest,
                _ => 1 + self.below(usize::try_from(rest.max(1)).unwrap()) as i64,
            };
            let line_id = if self.chance(2) { Self::missing() } else { line.id };
            units.push(CancelUnits { line_id, quantity });
        }
        self.begins((id, read, &units));
        let audit = Audit::created(self.now(), who.actor());
        let mut predicted = None;
        if let (true, Some(before)) = (refusals.is_empty(), &before) {
            let mut want = before.clone();
            let (mut restored, mut bad) = (Vec::new(), BTreeSet::new());
            let mut credits: Vec<(i32, i64, i64)> = Vec::new();
            for (i, CancelUnits { line_id, quantity }) in units.iter().enumerate() {
                let Some(line) = want.order.lines.iter_mut().find(|l| l.id == *line_id) else {
                    bad.insert(format!("lines[{i}].line_id"));
                    continue;
                };
                if line.canceled == line.quantity {
                    bad.insert(format!("lines[{i}].line_id"));
                    continue;
                }
                if *quantity < 1 || line.canceled + quantity > line.quantity {
                    bad.insert(format!("lines[{i}].quantity"));
                    continue;
                }
                let net = line.totals.subtotal.minor() - line.totals.discount.minor();
                let value =
                    worth(net, line.canceled + quantity, line.quantity) - worth(net, line.canceled, line.quantity);
                line.canceled += quantity;
                if let (true, Some(sku)) = (line.takes_stock, line.sku_id) {
                    restored.push((sku, line.position, *quantity));
                }
                let gross = quantity * line.unit_price.minor();
                match credits.iter_mut().find(|c| c.0 == line.bill_seq) {
                    Some(c) => *c = (c.0, c.1 + gross, c.2 + value),
                    None => credits.push((line.bill_seq, gross, value)),
                }
            }
            if units.is_empty() && want.order.lines.iter().any(|l| l.canceled < l.quantity) {
                bad.insert("lines".to_owned());
            }
            for (seq, gross, net) in credits {
                let bill = before.bills.iter().find(|b| b.kind == BillKind::Bill && b.seq == seq).unwrap();
                let note = self.new_bill(&want, BillKind::CreditNote, bill.payment_type, audit.clone());
                want.bills.push(Bill { corrects: Some(bill.id), totals: totals(gross, gross - net), ..note });
            }
            let is_all = want.order.lines.iter().all(|l| l.canceled == l.quantity);
            if !is_open(before.order.status) {
                refusals.push(STATUS);
            } else if !bad.is_empty() {
                refusals.push(Refusal::Fields(bad));
            } else if is_all {
                let (want, restored) = self.canceled(before, &audit);
                predicted = Some((want, restored, ChangeKind::Canceled));
            } else {
                predicted = Some((want, restored, ChangeKind::UnitsCanceled));
            }
        }
        let answer = self.shop.acting_as(&who).orders().cancel_units(id, read, &units).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (mut want, restored, kind) = predicted.unwrap();
            self.order_edited(&before.unwrap(), &mut want, &who);
            self.order_written(Some(&got), id, want, &[kind], &restored, &who).await?;
        }
        Ok(())
    }

    pub(super) async fn cancel_order(&mut self) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        self.begins(id);
        let before = self.world.live_order(id).cloned();
        let refusals = match before.as_ref().map(|r| r.order.status) {
            None => vec![Refusal::Code(ErrorCode::NotFound)],
            Some(OrderStatus::Delivered) => vec![STATUS],
            Some(_) => Vec::new(),
        };
        let answer = self.shop.acting_as(&who).orders().cancel(id).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let before = before.unwrap();
            if before.order.status == OrderStatus::Canceled {
                return super::same("a repeated cancel", &got, &before.order);
            }
            let (mut want, restored) = self.canceled(&before, &Audit::created(self.now(), who.actor()));
            self.order_edited(&before, &mut want, &who);
            self.order_written(Some(&got), id, want, &[ChangeKind::Canceled], &restored, &who).await?;
        }
        Ok(())
    }

    /// Starts or delivers an order. A version is optional.
    pub(super) async fn move_order(&mut self, to: OrderStatus) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        let before = self.world.live_order(id).cloned();
        let version = before.as_ref().map_or(1, |r| r.order.audit.version);
        let (read, stale) = match self.below(20) {
            0 => (ExpectedVersion::Exact(version + 1), Some(Refusal::Code(ErrorCode::VersionConflict))),
            1..6 => (ExpectedVersion::Exact(version), None),
            _ => (ExpectedVersion::Unspecified, None),
        };
        self.begins((id, read));
        let (from, kind) = match to {
            OrderStatus::InProgress => (OrderStatus::Pending, ChangeKind::Started),
            _ => (OrderStatus::InProgress, ChangeKind::Delivered),
        };
        let refusals = match &before {
            None => vec![Refusal::Code(ErrorCode::NotFound)],
            Some(_) if stale.is_some() => stale.into_iter().collect(),
            Some(r) if r.order.status != from => vec![STATUS],
            Some(r) if from == OrderStatus::Pending && r.order.lines.iter().all(|l| l.canceled == l.quantity) => {
                vec![Refusal::Code(ErrorCode::StateConflict)]
            }
            Some(_) => Vec::new(),
        };
        let shop = self.shop.acting_as(&who);
        let answer = match kind {
            ChangeKind::Started => shop.orders().start(id, read).await,
            _ => shop.orders().deliver(id, read).await,
        };
        if let Some(got) = self.judge(answer, &refusals)? {
            let before = before.unwrap();
            let mut want = before.clone();
            want.order.status = to;
            self.order_edited(&before, &mut want, &who);
            self.order_written(Some(&got), id, want, &[kind], &[], &who).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_order(&mut self) -> Checked<()> {
        let id = self.some_order();
        let who = self.principal();
        let (before, read, mut refusals) = self.order_to_change(id);
        self.begins((id, read));
        if refusals.is_empty() && before.as_ref().is_some_and(|r| r.order.status == OrderStatus::Delivered) {
            refusals.push(STATUS);
        }
        let answer = self.shop.acting_as(&who).orders().delete(id, read).await;
        if self.judge(answer, &refusals)?.is_some() {
            let mut before = before.unwrap();
            let (mut restored, mut kinds) = (Vec::new(), vec![ChangeKind::Deleted]);
            if before.order.status != OrderStatus::Canceled {
                let (mut canceled, stock) = self.canceled(&before, &Audit::created(self.now(), who.actor()));
                self.order_edited(&before, &mut canceled, &who);
                (before, restored) = (canceled, stock);
                kinds.insert(0, ChangeKind::Canceled);
            }
            let mut want = before.clone();
            want.bills.iter_mut().for_each(|b| b.audit.deleted_at = Some(self.now()));
            self.order_edited(&before, &mut want, &who);
            want.order.audit.deleted_at = Some(self.now());
            self.order_written(None, id, want, &kinds, &restored, &who).await?;
        }
        Ok(())
    }

    pub(super) async fn restore_order(&mut self) -> Checked<()> {
        let rows = self.world.orders.rows.values();
        let gone: Vec<OrderId> = rows.filter(|r| !r.order.audit.is_live()).map(|r| r.order.id).collect();
        let gone = if self.chance(90) { self.one_of(&gone) } else { None };
        let id = gone.unwrap_or_else(|| self.some_order());
        let who = self.principal();
        let before = self.world.orders.rows.get(&id).cloned();
        let (read, refusals) = match &before {
            None => (ExpectedVersion::Exact(1), vec![Refusal::Code(ErrorCode::NotFound)]),
            Some(r) => {
                let (read, stale) = self.version(r.order.audit.version);
                let mut refusals: Vec<Refusal> = stale.into_iter().collect();
                if r.order.audit.is_live() {
                    refusals.push(Refusal::Code(ErrorCode::StateConflict));
                } else if refusals.is_empty() {
                    refusals = self.world.order_conflicts(&r.order, None);
                }
                (read, refusals)
            }
        };
        self.begins((id, read));
        let answer = self.shop.acting_as(&who).orders().restore(id, read).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let before = before.unwrap();
            let mut want = before.clone();
            want.order.audit.deleted_at = None;
            want.bills.iter_mut().for_each(|b| b.audit.deleted_at = None);
            self.order_edited(&before, &mut want, &who);
            self.order_written(Some(&got), id, want, &[ChangeKind::Restored], &[], &who).await?;
        }
        Ok(())
    }

    /// Patches a bill or a credit note, also one of a canceled or deleted order.
    pub(super) async fn patch_bill(&mut self) -> Checked<()> {
        let of = self.some_order();
        let own: Vec<BillId> = self.world.bills().filter(|b| b.order_id == of).map(|b| b.id).collect();
        let all: Vec<BillId> =
            if self.chance(85) && !own.is_empty() { own } else { self.world.bills().map(|b| b.id).collect() };
        let id = self.some_id(&all, &all);
        let who = self.principal();
        let mut live = self.world.orders.rows.values().filter(|r| r.order.audit.is_live());
        let before = live.find(|r| r.bills.iter().any(|b| b.id == id)).cloned();
        let bill = before.as_ref().and_then(|r| r.bills.iter().find(|b| b.id == id)).cloned();
        let (read, stale) = self.version(bill.as_ref().map_or(1, |b| b.audit.version));
        let mut patch = BillPatch::default();
        let mut bad = BTreeSet::new();
        if self.chance(20) {
            patch.payment_type = Patch::Set(self.any(&[PaymentType::Cash, PaymentType::Card]));
        } else if self.chance(2) {
            patch.payment_type = Patch::Clear;
            bad.insert("payment_type".to_owned());
        }
        let mut discount = None;
        match self.below(40) {
            0 => {
                patch.discount = Patch::Set(decimal(-1));
                bad.insert("discount".to_owned());
            }
            1..4 => {
                patch.discount = Patch::Clear;
                discount = Some(0);
            }
            4..16 => {
                let minor = self.below(2_000) as i64;
                patch.discount = Patch::Set(decimal(minor));
                discount = Some(minor);
            }
            _ => {}
        }
        patch.paid = self.any(&[None, None, Some(true), Some(true), Some(false)]);
        if patch.paid == Some(false) && bill.as_ref().is_some_and(|b| b.status == BillStatus::Paid) {
            bad.insert("paid".to_owned());
        }
        self.begins((id, read, &patch));
        let mut refusals = Vec::new();
        let mut want = before.clone();
        if let (Some(before), Some(bill), Some(want)) = (&before, &bill, &mut want) {
            refusals.extend(stale);
            let discount = discount.filter(|d| *d != bill.totals.discount.minor());
            let payment_type = if let Patch::Set(p) = patch.payment_type { p } else { bill.payment_type };
            let pays = patch.paid == Some(true) && bill.status != BillStatus::Paid;
            if !refusals.is_empty() {
            } else if !bad.is_empty() {
                refusals.push(Refusal::Fields(bad));
            } else if payment_type != bill.payment_type && bill.status != BillStatus::Open {
                refusals.push(FROZEN);
            } else if discount.is_some() && !is_open(before.order.status) {
                refusals.push(STATUS);
            } else if discount.is_some() && (bill.kind == BillKind::CreditNote || is_frozen(before, bill)) {
                refusals.push(FROZEN);
            } else if discount.is_some_and(|d| !spread(want, bill.seq, d)) {
                refusals.push(Refusal::field("discount"));
            } else if pays && bill.status == BillStatus::Void {
                refusals.push(FROZEN);
            }
            settle(want);
            let own = want.bills.iter_mut().find(|b| b.id == id).unwrap();
            own.payment_type = payment_type;
            if pays {
                own.status = BillStatus::Paid;
            }
        } else {
            refusals.push(Refusal::Code(ErrorCode::NotFound));
        }
        let answer = self.shop.acting_as(&who).bills().patch(id, read, patch).await;
        if let Some(got) = self.judge(answer, &refusals)? {
            let (before, mut want) = (before.unwrap(), want.unwrap());
            if want == before {
                return super::same("the answer", &Some(got), &bill);
            }
            self.order_edited(&before, &mut want, &who);
            let own = want.bills.iter().find(|b| b.id == id).cloned();
            super::same("the answer", &Some(got), &own)?;
            let order = want.order.id;
            self.order_written(None, order, want, &[ChangeKind::Billed], &[], &who).await?;
        }
        Ok(())
    }
}
