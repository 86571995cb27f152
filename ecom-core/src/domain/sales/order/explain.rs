//! Where the amounts of an order come from, in words and with the parts that add up to each (`docs/rules.md`, R18, R21,
//! R27, R35, R36 and R39). Pure functions of a record and its history.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ChangeKind, LineKind, Order, OrderChange, OrderLine, OrderRecord, OrderStatus, Totals};
use crate::domain::sales::bill::{Bill, BillKind, BillStatus};
use crate::domain::sales::pricing::{Share, first_units, shares};
use crate::domain::words::words;
use crate::id::{OrderId, OrderLineId};
use crate::money::Money;

words! {
    /// What an amount of an order belongs to.
    #[non_exhaustive]
    ExplainedKind {
        /// A line.
        Line = "line",
        /// A bill.
        Bill = "bill",
        /// A credit note.
        CreditNote = "credit_note",
        /// The order.
        Order = "order",
    }
}

words! {
    /// The name of an amount of an order.
    #[non_exhaustive]
    AmountName {
        /// The price of a unit.
        UnitPrice = "unit_price",
        /// The sum of quantity × unit price.
        Subtotal = "subtotal",
        /// The cost of shipping.
        Shipping = "shipping",
        /// The discount.
        Discount = "discount",
        /// The tax that is added to the prices.
        TaxAdded = "tax_added",
        /// The tax that the prices include.
        TaxIncluded = "tax_included",
        /// The total.
        Total = "total",
        /// The net amount billed: the bills less the credit notes, void ones excluded. Payments are not subtracted, so
        /// a paid bill counts in full.
        Due = "due",
    }
}

/// The explanation of all amounts of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderExplanation {
    /// The order.
    pub order_id: OrderId,
    /// The number of the order.
    pub number: String,
    /// The version of the order that is explained.
    pub version: i64,
    /// The amounts: those of the lines by position, of the bills, of the credit notes, and of the order. Lines that
    /// were removed are left out.
    pub amounts: Vec<ExplainedAmount>,
}

/// An amount of an order, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedAmount {
    /// Which amount it is.
    pub of: AmountOf,
    /// The amount, as the order has it.
    pub amount: Money,
    /// How the amount is computed, with the number of the rule, for people.
    pub formula: String,
    /// The parts of the amount. They add up to it, unless somebody has changed the rows without the library, which an
    /// audit reports.
    pub parts: Vec<AmountPart>,
}

impl ExplainedAmount {
    /// Returns true if the parts add up to the amount.
    pub fn adds_up(&self) -> bool {
        self.amount.minor() == self.parts.iter().map(|p| p.amount.minor()).sum::<i64>()
    }
}

/// The name of an amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmountOf {
    /// What the amount belongs to.
    pub kind: ExplainedKind,
    /// The id of the line, the bill, the credit note or the order.
    pub id: Uuid,
    /// The line, bill, credit note or order, for people, such as `line 2 (Field Notebook)`.
    pub label: String,
    /// Which of its amounts it is.
    pub name: AmountName,
}

/// A part of an amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmountPart {
    /// What the part is, for people.
    pub label: String,
    /// The part, which is negative if it is subtracted.
    pub amount: Money,
}

impl OrderRecord {
    /// Explains every amount of the order. `history` is the history of the order; entries that are newer than the
    /// record are ignored. Credit notes are explained by the units that their entries name, and without these entries
    /// (R45) by their own amounts only.
    pub fn explain(&self, history: &[OrderChange]) -> OrderExplanation {
        let Order { id, number, audit, .. } = &self.order;
        let mut e = Explainer { record: self, amounts: Vec::new() };
        for line in self.order.lines.iter().filter(|l| l.quantity > 0) {
            e.line(line);
        }
        for bill in self.bills.iter().filter(|b| b.kind == BillKind::Bill) {
            e.bill(bill);
        }
        let credited = self.credited(history);
        for note in self.bills.iter().filter(|b| b.kind == BillKind::CreditNote) {
            e.note(note, credited.get(&note.seq).map_or(&[], Vec::as_slice));
        }
        e.order();
        OrderExplanation { order_id: *id, number: number.clone(), version: audit.version, amounts: e.amounts }
    }

    /// Returns the units that each credit note takes back, by the seq of the note. Notes of a whole cancellation have
    /// none.
    fn credited(&self, history: &[OrderChange]) -> HashMap<i32, Vec<Credited<'_>>> {
        let mut notes: HashMap<i32, Vec<Credited<'_>>> = HashMap::new();
        let mut canceled: HashMap<OrderLineId, i64> = HashMap::new();
        let mut seq = 0;
        let of_units = history
            .iter()
            .filter(|c| c.kind == ChangeKind::UnitsCanceled && c.seq <= self.order.audit.version)
            .map(|c| CanceledUnits::deserialize(&c.data).unwrap_or_default().lines);
        for units in of_units {
            // Without the units, it is not known how many notes the change has made.
            if units.is_empty() {
                break;
            }
            // Bills in the order in which the change names them: each gets the next note.
            let mut of_bills: Vec<(i32, Vec<Credited<'_>>)> = Vec::new();
            for UnitsOfLine { line_id, quantity: units } in units {
                let Some(line) = self.order.lines.iter().find(|l| l.id == line_id) else { continue };
                let before = canceled.entry(line_id).or_default();
                let credited = Credited { line, before: *before, units };
                *before += units;
                match of_bills.iter_mut().find(|(bill, _)| *bill == line.bill_seq) {
                    Some((_, some)) => some.push(credited),
                    None => of_bills.push((line.bill_seq, vec![credited])),
                }
            }
            for (_, credited) in of_bills {
                seq += 1;
                notes.insert(seq, credited);
            }
        }
        notes
    }
}

/// The data of a change that canceled units.
#[derive(Default, Deserialize)]
struct CanceledUnits {
    lines: Vec<UnitsOfLine>,
}

#[derive(Deserialize)]
struct UnitsOfLine {
    line_id: OrderLineId,
    quantity: i64,
}

/// Units of a line that a credit note takes back.
#[derive(Clone, Copy)]
struct Credited<'a> {
    line: &'a OrderLine,
    /// How many units of the line were canceled before.
    before: i64,
    units: i64,
}

impl Credited<'_> {
    fn gross(&self) -> i64 {
        self.units * self.line.unit_price.minor()
    }

    /// Returns the value of the units, less their share of the discount (R35).
    fn net(&self) -> i64 {
        let (of, quantity) = (net(&self.line.totals), self.line.quantity);
        first_units(of, self.before + self.units, quantity) - first_units(of, self.before, quantity)
    }

    /// Returns the units in words, such as `units 2–3 of 5 of line 1 (Pen)`.
    fn label(&self) -> String {
        let (first, last) = (self.before + 1, self.before + self.units);
        let units = if first == last { format!("unit {first}") } else { format!("units {first}–{last}") };
        format!("{units} of {} of {}", self.line.quantity, line_label(self.line))
    }
}

fn net(totals: &Totals) -> i64 {
    totals.subtotal.minor() - totals.discount.minor()
}

fn line_label(line: &OrderLine) -> String {
    format!("line {} ({})", line.position, line.title)
}

fn bill_label(bill: &Bill) -> String {
    match bill.kind {
        BillKind::Bill => format!("bill {}", bill.number),
        BillKind::CreditNote => format!("credit note {}", bill.number),
    }
}

struct Explainer<'a> {
    record: &'a OrderRecord,
    amounts: Vec<ExplainedAmount>,
}

/// The name of an amount, and the function that reads it from totals.
type NamedAmount = (AmountName, fn(&Totals) -> Money);

/// The kind, the id and the label of the line, bill, credit note or order that amounts belong to.
type Of = (ExplainedKind, Uuid, String);

impl Explainer<'_> {
    fn money(&self, minor: i64) -> Money {
        Money::from_minor(minor, self.record.order.currency())
    }

    fn part(&self, label: impl Into<String>, minor: i64) -> AmountPart {
        AmountPart { label: label.into(), amount: self.money(minor) }
    }

    fn push(
        &mut self,
        (kind, id, label): &Of,
        name: AmountName,
        amount: Money,
        formula: impl Into<String>,
        parts: Vec<AmountPart>,
    ) {
        let of = AmountOf { kind: *kind, id: *id, label: label.clone(), name };
        self.amounts.push(ExplainedAmount { of, amount, formula: formula.into(), parts });
    }

    /// Returns a part for each group of units that a credit note takes back.
    fn units<'c>(&self, credited: &[Credited<'c>], value: impl Fn(&Credited<'c>) -> i64) -> Vec<AmountPart> {
        credited.iter().map(|c| self.part(c.label(), value(c))).collect()
    }

    /// Explains a total by its terms. Terms that are always 0 in this release are left out.
    fn total(&mut self, of: &Of, totals: &Totals) {
        let mut parts = vec![self.part("subtotal", totals.subtotal.minor())];
        let terms = [("shipping", totals.shipping, 1), ("discount", totals.discount, -1), ("tax", totals.tax_added, 1)];
        for (label, term, sign) in terms {
            if term.minor() != 0 {
                parts.push(self.part(label, sign * term.minor()));
            }
        }
        self.push(of, AmountName::Total, totals.total, "subtotal + shipping − discount + added tax (R18)", parts);
    }

    fn line(&mut self, line: &OrderLine) {
        let of = (ExplainedKind::Line, line.id.0, line_label(line));
        self.unit_price(&of, line);
        let product = self.part(format!("{} × {}", line.quantity, line.unit_price), line.totals.subtotal.minor());
        let formula = "quantity × unit price, canceled units included (R18)";
        self.push(&of, AmountName::Subtotal, line.totals.subtotal, formula, vec![product]);
        self.discount(&of, line);
        self.total(&of, &line.totals);
    }

    fn unit_price(&mut self, of: &Of, line: &OrderLine) {
        let OrderLine { list_price, unit_price, .. } = line;
        let difference = unit_price.minor() - list_price.minor();
        let (formula, first, second) = match (line.kind, difference) {
            (LineKind::Custom | LineKind::Fee, _) => ("the price that the staff set", "price that the staff set", ""),
            (LineKind::Sku, 0) => ("the list price of the SKU (R21)", "list price", ""),
            (LineKind::Sku, ..0) => (
                "the list price of the SKU less the discount of the product, or a lower price that the staff set (R21)",
                "list price",
                "discount of the product, or manual price reduction",
            ),
            (LineKind::Sku, _) => {
                ("a price that the staff set, above the list price of the SKU (R21)", "list price", "set by the staff")
            }
        };
        let mut parts = vec![self.part(first, list_price.minor())];
        if difference != 0 {
            parts.push(self.part(second, difference));
        }
        self.push(of, AmountName::UnitPrice, *unit_price, formula, parts);
    }

    /// Explains the discount of a line: its share of the discount on its bill (R27).
    fn discount(&mut self, of: &Of, line: &OrderLine) {
        let record = self.record;
        let discount = line.totals.discount;
        let bill = record.bills.iter().find(|b| b.kind == BillKind::Bill && b.seq == line.bill_seq);
        let on_bill = bill.map_or(0, |b| b.totals.discount.minor());
        if on_bill == 0 && discount.minor() == 0 {
            return self.push(of, AmountName::Discount, discount, "no discount", Vec::new());
        }
        let lines: Vec<&OrderLine> = record.order.lines.iter().filter(|l| l.bill_seq == line.bill_seq).collect();
        let weights: Vec<i64> = lines.iter().map(|l| l.totals.subtotal.minor()).collect();
        let of_lines = shares(on_bill, &weights).unwrap_or_default();
        let own = lines.iter().position(|l| l.id == line.id).and_then(|at| of_lines.get(at));
        let (Some(bill), Some(Share { floor, remainder, extra })) = (bill, own.copied()) else {
            return self.adjustments(of, line);
        };
        if floor + i64::from(extra) != discount.minor() {
            return self.adjustments(of, line);
        }
        let (on_bill, weight, sum) = (self.money(on_bill), line.totals.subtotal, self.money(weights.iter().sum()));
        let formula = format!(
            "share of the discount of {on_bill} on {}: the weight of the line is its subtotal, {weight} of {sum} (R27)",
            bill_label(bill)
        );
        let mut parts = vec![self.part(format!("{on_bill} × {weight} / {sum}, rounded down"), floor)];
        if extra {
            let steps = of_lines.iter().filter(|s| s.extra).count();
            let label = format!(
                "a minor unit, since the remainder {remainder} / {} is among the {steps} greatest",
                sum.minor()
            );
            parts.push(self.part(label, 1));
        }
        self.push(of, AmountName::Discount, discount, formula, parts);
    }

    /// Explains the discount of a line by its stored adjustments.
    fn adjustments(&mut self, of: &Of, line: &OrderLine) {
        let own = self.record.adjustments.iter().filter(|a| a.line_id == line.id);
        let parts = own.map(|a| self.part(a.label.as_str(), a.amount.minor())).collect();
        self.push(of, AmountName::Discount, line.totals.discount, "the adjustments of the line (R18)", parts);
    }

    fn bill(&mut self, bill: &Bill) {
        let of = (ExplainedKind::Bill, bill.id.0, bill_label(bill));
        let lines: Vec<&OrderLine> =
            self.record.order.lines.iter().filter(|l| l.bill_seq == bill.seq && l.quantity > 0).collect();
        let parts = |amount: fn(&Totals) -> Money| -> Vec<AmountPart> {
            let of_lines = lines.iter().map(|l| (line_label(l), amount(&l.totals).minor()));
            of_lines.filter(|(_, minor)| *minor != 0).map(|(label, minor)| self.part(label, minor)).collect()
        };
        let (subtotal, discount) = (parts(|t| t.subtotal), parts(|t| t.discount));
        let formula = "the subtotals of the lines on the bill (R39)";
        self.push(&of, AmountName::Subtotal, bill.totals.subtotal, formula, subtotal);
        let formula = match bill.totals.discount.minor() {
            0 => "no discount",
            _ => "the discount that the staff gave on the bill, as it is spread over its lines (R27)",
        };
        self.push(&of, AmountName::Discount, bill.totals.discount, formula, discount);
        self.total(&of, &bill.totals);
    }

    /// Explains a credit note by the units that it takes back, or, after a cancellation of the whole order, by what the
    /// earlier notes left of its bill.
    fn note(&mut self, note: &Bill, credited: &[Credited<'_>]) {
        let record = self.record;
        let of = (ExplainedKind::CreditNote, note.id.0, bill_label(note));
        let Totals { subtotal, discount, total, .. } = note.totals;
        let (gross, net): (i64, i64) =
            (credited.iter().map(Credited::gross).sum(), credited.iter().map(Credited::net).sum());
        if !credited.is_empty() && (gross, net) == (subtotal.minor(), total.minor()) {
            let (subtotals, nets) = (self.units(credited, Credited::gross), self.units(credited, Credited::net));
            let discounts = self.units(credited, |c| c.gross() - c.net());
            let formula = "canceled units × unit price (R35)";
            self.push(&of, AmountName::Subtotal, subtotal, formula, subtotals);
            let formula = "the subtotal of the canceled units less their value (R35)";
            self.push(&of, AmountName::Discount, discount, formula, discounts);
            let formula = "the value of the canceled units: the first k of the q units of a line are worth \
                           (subtotal − discount) × k / q, rounded (R35)";
            return self.push(&of, AmountName::Total, total, formula, nets);
        }
        let bill = record.bills.iter().find(|b| Some(b.id) == note.corrects);
        let earlier = || record.bills.iter().filter(|n| n.corrects == note.corrects && n.seq < note.seq);
        let left = bill.map(|bill| {
            let noted: Vec<&Totals> = earlier().map(|n| &n.totals).collect();
            bill.totals.less(&Totals::sum(noted, record.order.currency()))
        });
        let (Some(bill), true) = (bill, record.order.status == OrderStatus::Canceled && left == Some(note.totals))
        else {
            let parts = vec![self.part("canceled units", subtotal.minor())];
            self.push(&of, AmountName::Subtotal, subtotal, "canceled units × unit price (R35)", parts);
            let parts = vec![self.part("share of the canceled units", discount.minor())];
            self.push(&of, AmountName::Discount, discount, "the discount on the canceled units (R35)", parts);
            return self.total(&of, &note.totals);
        };
        let amounts: [NamedAmount; 3] = [
            (AmountName::Subtotal, |t| t.subtotal),
            (AmountName::Discount, |t| t.discount),
            (AmountName::Total, |t| t.total),
        ];
        for (name, amount) in amounts {
            let mut parts = vec![self.part(bill_label(bill), amount(&bill.totals).minor())];
            parts.extend(earlier().map(|n| self.part(bill_label(n), -amount(&n.totals).minor())));
            let formula = "the amount of the bill less its earlier credit notes, because the order was canceled (R36)";
            self.push(&of, name, amount(&note.totals), formula, parts);
        }
    }

    fn order(&mut self) {
        let record = self.record;
        let order = &record.order;
        let of = (ExplainedKind::Order, order.id.0, format!("order {}", order.number));
        let amounts: [NamedAmount; 5] = [
            (AmountName::Subtotal, |t| t.subtotal),
            (AmountName::Shipping, |t| t.shipping),
            (AmountName::Discount, |t| t.discount),
            (AmountName::TaxAdded, |t| t.tax_added),
            (AmountName::TaxIncluded, |t| t.tax_included),
        ];
        for (name, amount) in amounts {
            let sum = amount(&order.totals);
            let always = matches!(name, AmountName::Subtotal | AmountName::Discount);
            if !always && sum.minor() == 0 {
                continue;
            }
            let bills = record.bills.iter().filter(|b| b.kind == BillKind::Bill);
            let parts = bills.map(|b| self.part(bill_label(b), amount(&b.totals).minor())).collect();
            self.push(&of, name, sum, "the sum of the bills (R39)", parts);
        }
        self.total(&of, &order.totals);
        let counted = record.bills.iter().filter(|b| b.status != BillStatus::Void).map(|b| {
            let sign = if b.kind == BillKind::Bill { 1 } else { -1 };
            self.part(bill_label(b), sign * b.totals.total.minor())
        });
        let parts = counted.collect();
        let formula = "the bills less the credit notes, void ones excluded; payments are not subtracted (R36)";
        self.push(&of, AmountName::Due, record.due(), formula, parts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r18_an_amount_adds_up_or_does_not() {
        let money = |minor| Money::from_minor(minor, crate::money::Currency::USD);
        let part = |minor| AmountPart { label: String::new(), amount: money(minor) };
        let of =
            AmountOf { kind: ExplainedKind::Order, id: Uuid::nil(), label: String::new(), name: AmountName::Total };
        let mut amount =
            ExplainedAmount { of, amount: money(3), formula: String::new(), parts: vec![part(5), part(-2)] };
        assert!(amount.adds_up());
        amount.parts.pop();
        assert!(!amount.adds_up());
    }
}
