//! The worked examples of `docs/rules.md`, and random histories of orders.

use std::collections::HashMap;

use proptest::prelude::*;

use super::change::{Context, Offers, Stamp, Step, place};
use super::explain::{AmountName, ExplainedKind};
use super::input::{
    BuyerFrom, CancelUnits, ExtraLineInput, GuestInput, LineChange, OrderEdit, OrderInput, OrderLineInput,
};
use super::{Buyer, DeliveryMethod, Order, OrderChange, OrderRecord, OrderStatus};
use crate::clock::{ManualClock, SharedClock};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::common::{Actor, Patch};
use crate::domain::sales::bill::{Bill, BillKind, BillPatch, BillStatus};
use crate::domain::sales::offer::Offer;
use crate::error::{Conflict, Error, Result, SalesConflict, StockConflict};
use crate::id::{IdSource as _, OrderId, ProductId, SkuId, UuidV7Source};
use crate::money::{Currency, ExactDecimal, Money, Percentage};

/// A shop without a database: offers whose stock follows the orders.
struct Desk {
    clock: SharedClock,
    ids: UuidV7Source,
    actor: Actor,
    currency: Currency,
    offers: Offers,
    skus: Vec<SkuId>,
    initial: HashMap<SkuId, i64>,
    histories: HashMap<OrderId, Vec<OrderChange>>,
}

impl Desk {
    /// Offers SKUs at these prices in minor units, of which there are 100 pieces each.
    fn selling(currency: Currency, prices: &[i64]) -> Self {
        let clock: SharedClock = std::sync::Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
        let ids = UuidV7Source::seeded(clock.clone(), 1);
        let mut offers = Offers::default();
        let mut skus = Vec::new();
        for (i, price) in prices.iter().enumerate() {
            let sku = SkuId(ids.next());
            skus.push(sku);
            let offer = Offer {
                sku_id: sku,
                product_id: ProductId(ids.next()),
                code: format!("SKU-{i}"),
                title: format!("Product {i}"),
                option_values: std::collections::BTreeMap::default(),
                list_price: Money::from_minor(*price, currency),
                discount: Percentage::default(),
                status: ProductStatus::Active,
                live: true,
                tracked: true,
                on_hand: 100,
                reserved: 0,
                low_stock_threshold: 5,
            };
            offers.by_id.insert(sku, offer);
        }
        let initial = skus.iter().map(|s| (*s, 100)).collect();
        Self { clock, ids, actor: Actor::system(), currency, offers, skus, initial, histories: HashMap::new() }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp { now: self.clock.now(), actor: &self.actor, ids: &self.ids }
    }

    fn amount(&self, minor: i64) -> ExactDecimal {
        ExactDecimal(Money::from_minor(minor, self.currency).amount())
    }

    fn line(&self, at: usize, quantity: i64) -> OrderLineInput {
        let offer = &self.offers.by_id[&self.skus[at]];
        OrderLineInput::new(offer.sku_id, quantity, offer.unit_price().amount())
    }

    fn order(&self, lines: &[(usize, i64)], discount: i64) -> OrderInput {
        let guest = GuestInput {
            first_name: "Ada".to_owned(),
            last_name: "Lovelace".to_owned(),
            email: "ada@example.com".to_owned(),
            telephone: None,
        };
        let input = OrderInput::for_guest(guest, DeliveryMethod::OnHand).discount(self.amount(discount));
        lines.iter().fold(input, |input, (at, quantity)| input.line(self.line(*at, *quantity)))
    }

    fn place(&mut self, input: &OrderInput) -> Result<OrderRecord> {
        let checked = input.check(self.currency, BuyerFrom::Input)?;
        let stamp = self.stamp();
        let cx = Context {
            id: OrderId(self.ids.next()),
            cart: None,
            buyer: Buyer { first_name: Some("Ada".to_owned()), ..Buyer::default() },
            shipping_address: None,
            currency: self.currency,
            stamp: &stamp,
        };
        let step = place(&checked, cx, &self.offers)?;
        Ok(self.take(step))
    }

    fn take(&mut self, step: Step) -> OrderRecord {
        self.offers.apply(&step.stock);
        assert_eq!(step.record.findings(), [""; 0], "{:#?}", step.record);
        assert_eq!(step.change.seq, step.record.order.audit.version);
        let history = self.histories.entry(step.record.order.id).or_default();
        history.push(step.change);
        for amount in step.record.explain(history).amounts {
            assert!(amount.adds_up(), "{amount:#?} of {:#?}", step.record);
        }
        step.record
    }

    /// Returns the formula and the parts of an amount of an order.
    fn explained(
        &self,
        order: &OrderRecord,
        kind: ExplainedKind,
        at: usize,
        name: AmountName,
    ) -> (String, Vec<(String, i64)>) {
        let amounts = order.explain(&self.histories[&order.order.id]).amounts;
        let found = amounts.into_iter().filter(|a| a.of.kind == kind && a.of.name == name).nth(at).unwrap();
        (found.formula, found.parts.into_iter().map(|p| (p.label, p.amount.minor())).collect())
    }

    fn edit(&mut self, order: &OrderRecord, edit: &OrderEdit) -> Result<OrderRecord> {
        let step = order.edit(&edit.check(self.currency)?, &self.offers, &self.stamp())?;
        Ok(step.map_or_else(|| order.clone(), |step| self.take(step)))
    }

    fn set(&mut self, order: &OrderRecord, line: usize, quantity: i64) -> Result<OrderRecord> {
        self.edit(order, &OrderEdit::default().with(LineChange::quantity(order.order.lines[line].id, quantity)))
    }

    fn cancel_units(&mut self, order: &OrderRecord, line: usize, quantity: i64) -> Result<OrderRecord> {
        let units = [CancelUnits { line_id: order.order.lines[line].id, quantity }];
        let step = order.cancel_units(&units, &self.stamp())?;
        Ok(self.take(step))
    }

    fn cancel(&mut self, order: &OrderRecord) -> Result<OrderRecord> {
        let step = order.cancel(&self.stamp())?;
        Ok(self.take(step))
    }

    fn pay(&mut self, order: &OrderRecord, bill: usize) -> OrderRecord {
        self.patch_bill(order, bill, &BillPatch { paid: Some(true), ..BillPatch::default() }).unwrap()
    }

    fn patch_bill(&mut self, order: &OrderRecord, bill: usize, patch: &BillPatch) -> Result<OrderRecord> {
        let step = order.patch_bill(order.bills[bill].id, patch, &self.stamp())?;
        Ok(step.map_or_else(|| order.clone(), |step| self.take(step)))
    }

    fn on_hand(&self, at: usize) -> i64 {
        self.offers.by_id[&self.skus[at]].on_hand
    }
}

fn discounts(order: &OrderRecord) -> Vec<i64> {
    order.order.lines.iter().filter(|l| l.quantity > 0).map(|l| l.totals.discount.minor()).collect()
}

fn total(order: &OrderRecord) -> i64 {
    order.order.totals.total.minor()
}

fn notes(order: &OrderRecord) -> Vec<(i64, i64)> {
    let notes = order.bills.iter().filter(|b| b.kind == BillKind::CreditNote);
    notes.map(|n| (n.totals.total.minor(), n.totals.discount.minor())).collect()
}

fn statuses(order: &OrderRecord) -> Vec<BillStatus> {
    order.bills.iter().map(|b: &Bill| b.status).collect()
}

fn refused<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, Vec<String>) {
    match result {
        Err(Error::Validation(e)) => ("VALIDATION_FAILED", e.0.into_iter().map(|f| f.field).collect()),
        Err(Error::Conflict(c)) => (c.code().as_str(), Vec::new()),
        other => panic!("must be refused: {other:?}"),
    }
}

#[test]
fn r18_a_discount_is_spread_over_the_lines() {
    let mut desk = Desk::selling(Currency::USD, &[400, 4500]);
    let order = desk.place(&desk.order(&[(0, 1), (1, 1)], 500)).unwrap();
    assert_eq!((discounts(&order), total(&order)), (vec![41, 459], 4400));

    let mut desk = Desk::selling(Currency::JPY, &[333, 333, 334]);
    let order = desk.place(&desk.order(&[(0, 1), (1, 1), (2, 1)], 100)).unwrap();
    let totals: Vec<i64> = order.order.lines.iter().map(|l| l.totals.total.minor()).collect();
    assert_eq!((discounts(&order), totals), (vec![33, 33, 34], vec![300, 300, 300]));
}

#[test]
fn r18_a_discount_above_the_subtotal_is_refused() {
    let mut desk = Desk::selling(Currency::USD, &[400]);
    assert_eq!(refused(desk.place(&desk.order(&[(0, 1)], 401))), ("VALIDATION_FAILED", vec!["discount".to_owned()]));
    assert_eq!(desk.on_hand(0), 100);
}

#[test]
fn r36_other_lines_keep_their_discounts_when_one_is_canceled() {
    let mut desk = Desk::selling(Currency::USD, &[5000, 5000]);
    let order = desk.place(&desk.order(&[(0, 1), (1, 1)], 1000)).unwrap();
    let order = desk.cancel_units(&order, 1, 1).unwrap();
    assert_eq!((notes(&order), order.due().minor()), (vec![(4500, 500)], 4500));
    assert_eq!(discounts(&order), [500, 500]);
    assert_eq!(refused(desk.cancel_units(&order, 1, 1)).1, ["lines[0].line_id"], "the line has no units left");
}

#[test]
fn r39_the_discount_of_an_open_bill_is_spread_again_after_an_edit() {
    let mut desk = Desk::selling(Currency::USD, &[2150, 1400, 2300]);
    let order = desk.place(&desk.order(&[(0, 2), (1, 1), (2, 1)], 300)).unwrap();
    assert_eq!((discounts(&order), total(&order)), (vec![161, 53, 86], 7700));
    let order = desk.set(&order, 2, 0).unwrap();
    assert_eq!((discounts(&order), total(&order)), (vec![226, 74], 5400));
    let order = desk.set(&order, 0, 1).unwrap();
    assert_eq!((discounts(&order), total(&order)), (vec![182, 118], 3250));
    let both = OrderEdit::default()
        .with(LineChange::quantity(order.order.lines[0].id, 0))
        .with(LineChange::quantity(order.order.lines[1].id, 0));
    assert_eq!(refused(desk.edit(&order, &both)), ("VALIDATION_FAILED", vec!["discount".to_owned()]));
    assert_eq!((desk.on_hand(0), desk.on_hand(1), desk.on_hand(2)), (99, 99, 100));
}

#[test]
fn r35_units_of_an_open_bill_are_credited_and_the_last_one_voids_it() {
    let mut desk = Desk::selling(Currency::USD, &[334]);
    let order = desk.place(&desk.order(&[(0, 3)], 2)).unwrap();
    assert_eq!(total(&order), 1000);
    let order = desk.cancel_units(&order, 0, 1).unwrap();
    assert_eq!(notes(&order), [(333, 1)]);
    let order = desk.cancel_units(&order, 0, 1).unwrap();
    assert_eq!((notes(&order), order.due().minor()), (vec![(333, 1), (334, 0)], 333));
    let order = desk.cancel_units(&order, 0, 1).unwrap();
    assert_eq!(order.order.status, OrderStatus::Canceled);
    assert_eq!(statuses(&order), [BillStatus::Void; 3]);
    assert_eq!((order.due().minor(), desk.on_hand(0), total(&order)), (0, 100, 1000));
    assert_eq!(refused(desk.cancel(&order)).0, "ORDER_STATUS_CONFLICT", "the service answers a repetition");
}

#[test]
fn r36_a_paid_bill_is_credited_what_its_credit_notes_left() {
    let mut desk = Desk::selling(Currency::USD, &[5000, 5000]);
    let order = desk.place(&desk.order(&[(0, 1), (1, 1)], 1000).paid(true)).unwrap();
    let order = desk.cancel_units(&order, 1, 1).unwrap();
    assert_eq!(notes(&order), [(4500, 500)]);
    let order = desk.cancel(&order).unwrap();
    assert_eq!(notes(&order), [(4500, 500), (4500, 500)]);
    assert_eq!((order.due().minor(), total(&order)), (0, 9000));
    assert_eq!(order.bills[0].status, BillStatus::Paid);
}

#[test]
fn r39_new_lines_of_a_paid_order_go_on_a_further_bill() {
    let mut desk = Desk::selling(Currency::USD, &[1000, 500, 700]);
    let order = desk.place(&desk.order(&[(0, 2), (1, 1)], 100)).unwrap();
    let totals: Vec<i64> = order.order.lines.iter().map(|l| l.totals.total.minor()).collect();
    assert_eq!(totals, [1920, 480]);
    let order = desk.pay(&order, 0);
    assert_eq!(refused(desk.set(&order, 0, 1)).0, "BILL_FROZEN");
    let order = desk.cancel_units(&order, 0, 1).unwrap();
    assert_eq!(notes(&order), [(960, 40)]);
    let order = desk.edit(&order, &OrderEdit::default().line(desk.line(2, 3))).unwrap();
    assert_eq!((order.bills[1].totals.total.minor(), total(&order), order.due().minor()), (2100, 4500, 3540));
    let patch = BillPatch { discount: Patch::Set(desk.amount(100)), ..BillPatch::default() };
    let order = desk.patch_bill(&order, 1, &patch).unwrap();
    assert_eq!((total(&order), order.due().minor()), (4400, 3440));
    let order = desk.set(&order, 2, 1).unwrap();
    assert_eq!((order.bills[1].totals.total.minor(), total(&order), order.due().minor()), (600, 3000, 2040));
    let order = desk.cancel(&order).unwrap();
    assert_eq!(order.bills[1].status, BillStatus::Void);
    assert_eq!((notes(&order), order.due().minor()), (vec![(960, 40), (1440, 60)], 0));
    assert_eq!((desk.on_hand(0), desk.on_hand(1), desk.on_hand(2)), (100, 100, 100));
}

#[test]
fn r07_orders_of_a_batch_see_what_the_earlier_ones_left() {
    let mut desk = Desk::selling(Currency::USD, &[100]);
    let sku = desk.skus[0];
    if let Some(offer) = desk.offers.by_id.get_mut(&sku) {
        offer.on_hand = 5;
    }
    desk.place(&desk.order(&[(0, 4)], 0)).unwrap();
    match desk.place(&desk.order(&[(0, 1), (0, 1)], 0)) {
        Err(Error::Conflict(c)) => match *c {
            Conflict::Stock(StockConflict::Insufficient { shortages }) => {
                assert_eq!((shortages[0].requested, shortages[0].available, shortages.len()), (2, 1, 1));
            }
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
    desk.place(&desk.order(&[(0, 1)], 0)).unwrap();
    assert_eq!(desk.on_hand(0), 0);
}

#[test]
fn r08_every_wrong_price_and_every_shortage_is_named() {
    let mut desk = Desk::selling(Currency::USD, &[100, 200]);
    let mut input = desk.order(&[(0, 1), (1, 101), (0, 1)], 0);
    input.lines[0].unit_price = Some(desk.amount(99));
    input.lines[2].unit_price = Some(desk.amount(101));
    match desk.place(&input) {
        Err(Error::Conflict(c)) => match *c {
            Conflict::Sales(SalesConflict::PriceMismatch { prices, shortages }) => {
                let fields: Vec<&str> = prices.iter().map(|p| p.field.as_str()).collect();
                assert_eq!(fields, ["lines[0].unit_price", "lines[2].unit_price"]);
                assert_eq!((prices[0].expected.minor(), prices[0].found.minor()), (100, 99));
                assert_eq!((shortages[0].requested, shortages[0].available), (101, 100));
            }
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn r44_an_order_without_lines_takes_no_discount_and_does_not_start() {
    let mut desk = Desk::selling(Currency::USD, &[100]);
    assert_eq!(refused(desk.place(&desk.order(&[], 1))).1, ["discount"]);
    let draft = desk.place(&desk.order(&[], 0)).unwrap();
    assert_eq!(refused(draft.start(&desk.stamp()).map(|s| s.record)).0, "STATE_CONFLICT");
    let order = desk.edit(&draft, &OrderEdit::default().line(desk.line(0, 2))).unwrap();
    assert_eq!(total(&order), 200);
    assert!(order.start(&desk.stamp()).is_ok());
}

#[test]
fn r36_an_empty_list_of_units_cancels_only_an_order_without_units() {
    let mut desk = Desk::selling(Currency::USD, &[400]);
    let none: &[CancelUnits] = &[];
    let order = desk.place(&desk.order(&[(0, 1)], 0)).unwrap();
    assert_eq!(refused(order.cancel_units(none, &desk.stamp())), ("VALIDATION_FAILED", vec!["lines".to_owned()]));

    let order = desk.place(&desk.order(&[], 0)).unwrap();
    let step = order.cancel_units(none, &desk.stamp()).unwrap();
    let canceled = desk.take(step);
    assert_eq!(canceled.order.status, OrderStatus::Canceled);
    assert_eq!(refused(canceled.cancel_units(none, &desk.stamp())).0, "ORDER_STATUS_CONFLICT");
}

#[test]
fn r17_a_bad_order_names_every_field() {
    let desk = Desk::selling(Currency::USD, &[100]);
    let mut input = desk.order(&[(0, 0), (0, 1_000_001)], 0);
    input.lines[1].unit_price = None;
    input.delivery_method = Some(DeliveryMethod::HomeDelivery);
    input.extra_lines.push(ExtraLineInput::fee(" ", 1));
    let (_, fields) = refused(input.check(Currency::USD, BuyerFrom::Input));
    assert_eq!(
        fields,
        ["lines[0].quantity", "lines[1].quantity", "lines[1].unit_price", "extra_lines[0].title", "shipping_address"]
    );
    let many = OrderInput { lines: vec![desk.line(0, 1); Order::MAX_LINES + 1], ..desk.order(&[], 0) };
    assert_eq!(refused(many.check(Currency::USD, BuyerFrom::Input)).1, ["lines"]);
}

#[test]
fn r17_an_edit_that_leads_to_too_many_lines_names_those_that_it_adds() {
    let mut desk = Desk::selling(Currency::USD, &[100]);
    let fees = |n| vec![ExtraLineInput::fee("Gift wrap", 2); n];
    let input = OrderInput { extra_lines: fees(Order::MAX_LINES), ..desk.order(&[], 0) };
    let order = desk.place(&input).unwrap();
    assert_eq!(refused(desk.edit(&order, &OrderEdit::default().line(desk.line(0, 1)))).1, ["add"]);
    let fee = OrderEdit { add_extra: fees(1), ..OrderEdit::default() };
    assert_eq!(refused(desk.edit(&order, &fee)).1, ["add_extra"]);
}

fn labeled<const N: usize>(parts: [(&str, i64); N]) -> Vec<(String, i64)> {
    parts.map(|(label, minor)| (label.to_owned(), minor)).to_vec()
}

#[test]
fn r27_a_discount_is_explained_by_weight_and_remainder() {
    let mut desk = Desk::selling(Currency::USD, &[4300, 1400, 2300]);
    let order = desk.place(&desk.order(&[(0, 1), (1, 1), (2, 1)], 299)).unwrap();
    let (formula, parts) = desk.explained(&order, ExplainedKind::Line, 0, AmountName::Discount);
    assert!(formula.contains("2.99 USD on bill ") && formula.contains("43.00 USD of 80.00 USD (R27)"), "{formula}");
    let step = "a minor unit, since the remainder 5700 / 8000 is among the 2 greatest";
    assert_eq!(parts, labeled([("2.99 USD × 43.00 USD / 80.00 USD, rounded down", 160), (step, 1)]));
    let (_, parts) = desk.explained(&order, ExplainedKind::Line, 1, AmountName::Discount);
    assert_eq!(parts, labeled([("2.99 USD × 14.00 USD / 80.00 USD, rounded down", 52)]));
    let (_, parts) = desk.explained(&order, ExplainedKind::Bill, 0, AmountName::Discount);
    assert_eq!(parts, labeled([("line 1 (Product 0)", 161), ("line 2 (Product 1)", 52), ("line 3 (Product 2)", 86)]));
}

#[test]
fn r21_a_unit_price_is_explained_by_list_price_and_discount() {
    let mut desk = Desk::selling(Currency::USD, &[1000]);
    if let Some(offer) = desk.offers.by_id.get_mut(&desk.skus[0]) {
        offer.discount = Percentage::exact(10.into()).unwrap();
    }
    let mut input = desk.order(&[(0, 3)], 0);
    input.extra_lines.push(ExtraLineInput::fee("Gift wrap", 2));
    input.lines.push(OrderLineInput { price_override: Some(desk.amount(1200)), ..desk.line(0, 1) });
    let order = desk.place(&input).unwrap();
    let price = |at| desk.explained(&order, ExplainedKind::Line, at, AmountName::UnitPrice).1;
    let reduction = "discount of the product, or manual price reduction";
    assert_eq!(price(0), labeled([("list price", 1000), (reduction, -100)]));
    assert_eq!(price(1), labeled([("list price", 1000), ("set by the staff", 200)]));
    assert_eq!(price(2), labeled([("price that the staff set", 200)]));
    let (_, parts) = desk.explained(&order, ExplainedKind::Line, 0, AmountName::Subtotal);
    assert_eq!(parts, labeled([("3 × 9.00 USD", 2700)]));
}

#[test]
fn r35_a_credit_note_is_explained_by_the_units_that_it_takes_back() {
    let mut desk = Desk::selling(Currency::USD, &[334, 500]);
    let order = desk.place(&desk.order(&[(0, 3), (1, 1)], 2).paid(true)).unwrap();
    let order = desk.cancel_units(&order, 0, 1).unwrap();
    let order = desk.cancel_units(&order, 0, 2).unwrap();
    let note = |order: &_, desk: &Desk, at, name| desk.explained(order, ExplainedKind::CreditNote, at, name).1;
    assert_eq!(note(&order, &desk, 0, AmountName::Total), labeled([("unit 1 of 3 of line 1 (Product 0)", 334)]));
    assert_eq!(note(&order, &desk, 1, AmountName::Subtotal), labeled([("units 2–3 of 3 of line 1 (Product 0)", 668)]));
    let order = desk.cancel(&order).unwrap();
    let (formula, parts) = desk.explained(&order, ExplainedKind::CreditNote, 2, AmountName::Total);
    assert!(formula.contains("(R36)"), "{formula}");
    assert_eq!(parts.iter().map(|(_, minor)| *minor).collect::<Vec<_>>(), [1500, -334, -667]);
    let (_, due) = desk.explained(&order, ExplainedKind::Order, 0, AmountName::Due);
    assert_eq!(due.iter().map(|(_, minor)| *minor).sum::<i64>(), 0);
    // Without its history, every amount still adds up.
    assert!(order.explain(&[]).amounts.iter().all(super::explain::ExplainedAmount::adds_up));
}

#[derive(Debug, Clone)]
enum Act {
    Edit { line: usize, quantity: i64 },
    Add { sku: usize, quantity: i64 },
    CancelUnits { line: usize, quantity: i64 },
    Pay { bill: usize },
    Discount { bill: usize, share: u8 },
    Start,
    Cancel,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0usize..6, 0i64..12).prop_map(|(line, quantity)| Act::Edit { line, quantity }),
        3 => (0usize..4, 1i64..12).prop_map(|(sku, quantity)| Act::Add { sku, quantity }),
        4 => (0usize..6, 1i64..6).prop_map(|(line, quantity)| Act::CancelUnits { line, quantity }),
        1 => (0usize..3).prop_map(|bill| Act::Pay { bill }),
        2 => (0usize..3, 0u8..=110).prop_map(|(bill, share)| Act::Discount { bill, share }),
        1 => Just(Act::Start),
        1 => Just(Act::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        crate::domain::sales::pricing::cases(2_000)
    ))]

    /// After every step of every history, all sums add up (`Desk::take` checks them), and at the end stock and amounts
    /// due are those of the units that were not canceled.
    #[test]
    fn r18_r39_every_history_of_an_order_adds_up(
        prices in prop::collection::vec(0i64..100_000, 4),
        lines in prop::collection::vec((0usize..4, 1i64..12), 0..4),
        share in 0u8..=100,
        acts in prop::collection::vec(act(), 0..14),
    ) {
        let mut desk = Desk::selling(Currency::USD, &prices);
        let subtotal: i64 = lines.iter().map(|(at, quantity)| prices[*at] * quantity).sum();
        let mut order = desk.place(&desk.order(&lines, subtotal * i64::from(share) / 100)).unwrap();
        for act in acts {
            let next = match act {
                Act::Edit { line, quantity } if line < order.order.lines.len() => desk.set(&order, line, quantity),
                Act::Add { sku, quantity } => {
                    desk.edit(&order, &OrderEdit::default().line(desk.line(sku, quantity)))
                }
                Act::CancelUnits { line, quantity } if line < order.order.lines.len() => {
                    desk.cancel_units(&order, line, quantity)
                }
                Act::Pay { bill } if bill < order.bills.len() => {
                    desk.patch_bill(&order, bill, &BillPatch { paid: Some(true), ..BillPatch::default() })
                }
                Act::Discount { bill, share } if bill < order.bills.len() => {
                    let discount = order.bills[bill].totals.subtotal.minor() * i64::from(share) / 100;
                    let patch = BillPatch { discount: Patch::Set(desk.amount(discount)), ..BillPatch::default() };
                    desk.patch_bill(&order, bill, &patch)
                }
                Act::Start => order.start(&desk.stamp()).map(|step| desk.take(step)),
                Act::Cancel => desk.cancel(&order),
                _ => continue,
            };
            if let Ok(next) = next {
                order = next;
            }
        }
        for sku in &desk.skus {
            let sold: i64 =
                order.order.lines.iter().filter(|l| l.sku_id == Some(*sku)).map(super::OrderLine::remaining).sum();
            prop_assert_eq!(desk.offers.by_id[sku].on_hand + sold, desk.initial[sku], "conservation (R11)");
        }
        if order.order.status == OrderStatus::Canceled {
            prop_assert_eq!(order.due().minor(), 0, "nothing is due for a canceled order");
        }
        prop_assert!(order.due().minor() >= 0);
    }
}
