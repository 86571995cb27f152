//! Orders and bills: nothing oversold, nothing lost (R5, R7–R13, R16–R19, R23, R36, R39, R41, R43 and R44).

use std::collections::{BTreeSet, HashSet};

use futures::future::join_all;
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{conflict, fields, from, me, v};
use crate::access::{Permission, Principal};
use crate::config::ShopConfig;
use crate::domain::catalog::product::Product;
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::bill::{BillFilter, BillKind, BillPatch, BillSort, BillStatus, PaymentType};
use crate::domain::sales::cart::{CartAccess, CartInput, CartLineInput, CartLinePatch, CartToken};
use crate::domain::sales::customer::Customer;
use crate::domain::sales::order::explain::{AmountName, ExplainedKind};
use crate::domain::sales::order::input::{
    CancelUnits, CheckoutInput, LineChange, OrderEdit, OrderInput, OrderLineInput, OrderPatch,
};
use crate::domain::sales::order::{
    ChangeKind, DeliveryMethod, Order, OrderFilter, OrderLineFilter, OrderSort, OrderStatus,
};
use crate::domain::stock::inventory::StockReason;
use crate::error::{Conflict, Error, ErrorCode, FieldCode, Result, SalesConflict, StockConflict};
use crate::id::OrderId;
use crate::paging::Paging;
use crate::testkit::faults::Fault;

tests! {
    __shop_orders: [
        r07_an_order_takes_stock_and_writes_ledger_bill_and_history,
        r18_every_amount_of_an_order_is_explained,
        r07_the_demand_of_all_lines_is_summed_and_every_shortage_is_named,
        r07_orders_placed_at_once_sell_each_piece_once,
        r07_orders_of_several_processes_sell_each_piece_once,
        r07_a_refused_order_leaves_nothing,
        r07_an_order_whose_commit_was_not_answered_is_found_or_placed_once,
        r07_each_order_of_a_commit_that_was_not_answered_has_its_own_outcome,
        r20_checkouts_whose_commit_was_not_answered_return_the_order_of_the_cart,
        r08_a_wrong_price_is_refused_with_both_prices,
        r08_the_price_is_the_current_one_less_the_discount,
        r09_lines_of_a_pending_order_are_edited_and_stock_follows,
        r09_an_order_that_has_started_is_not_edited,
        r23_a_line_is_raised_although_its_sku_is_no_longer_tracked,
        r10_an_order_canceled_many_times_at_once_restores_stock_once,
        r10_a_deleted_sku_does_not_stop_a_cancel,
        r05_what_was_sold_is_not_removed_for_good,
        r01_edits_of_an_order_name_the_version,
        r02_the_bills_of_a_deleted_order_are_hidden_as_the_order_is,
        r13_each_change_of_an_order_has_its_event_without_personal_data,
        r17_references_to_what_is_not_there_name_the_field,
        r17_carts_and_orders_refuse_a_sku_alike,
        r16_the_code_of_a_draft_is_unknown_to_those_who_may_not_read_it,
        r19_an_order_keeps_what_was_sold,
        r36_units_are_canceled_with_a_credit_note,
        r39_a_paid_bill_is_frozen,
        r41_the_audit_is_clean_and_finds_what_somebody_broke,
        r43_numbers_are_unique_and_carry_the_year,
        r43_a_number_that_a_caller_took_is_skipped,
        r43_of_orders_placed_at_once_only_those_with_a_number_that_is_taken_fail,
        r44_a_draft_is_filled_later,
        lists_of_orders_and_bills_filter_and_page,
        lists_of_order_lines_show_what_was_sold,
        a_status_moves_only_as_the_rules_allow,
        a_deleted_order_is_canceled_and_hidden,
        an_order_by_code_finds_its_sku,
        r20_a_cart_checked_out_many_times_at_once_makes_one_order,
        r20_a_checkout_sells_the_lines_of_the_cart_at_the_prices_seen,
    ]
}

/// A product with one SKU, `stock` pieces at 10.00.
pub(super) async fn stocked(f: &ShopFixture, title: &str, stock: i64) -> Product {
    f.product(json!({ "title": title, "price": "10.00", "stock": stock })).await
}

async fn buyer(f: &ShopFixture) -> Customer {
    let input = json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" });
    f.shop.acting_as(me()).customers().create(&from(&input)).await.unwrap()
}

pub(super) fn guest(lines: Value) -> OrderInput {
    let mut order = json!({
        "customer": { "first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com" },
        "delivery_method": "on_hand",
    });
    order["lines"] = lines;
    from(&order)
}

pub(super) fn line(p: &Product, quantity: i64) -> Value {
    let price = p.skus[0].final_price(p.discount);
    json!({ "sku_id": p.skus[0].id, "quantity": quantity, "unit_price": price.amount() })
}

/// Returns the code of a refusal; `None` if the call succeeded.
fn code<T>(result: &Result<T>) -> Option<ErrorCode> {
    result.as_ref().err().map(Error::code)
}

impl ShopFixture {
    async fn placed(&self, lines: Value) -> Result<Order> {
        self.shop.acting_as(me()).orders().place(&guest(lines)).await
    }

    pub(super) async fn on_hand(&self, p: &Product) -> i64 {
        self.shop.inventory().level(p.skus[0].id).await.unwrap().on_hand
    }

    async fn again(&self, id: OrderId) -> Order {
        self.shop.orders().get(id, IncludeDeleted::Yes).await.unwrap()
    }

    pub(super) async fn audited(&self) {
        let report = self.shop.audit().run().await.unwrap();
        assert!(report.is_clean(), "the audit must be clean: {report:#?}");
    }
}

/// Every amount of an order is explained by parts that add up to it, which needs the permissions to read orders and bills.
pub async fn r18_every_amount_of_an_order_is_explained(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 10).await, stocked(f, "Ink", 5).await);
    let mut input = guest(json!([line(&pen, 3), line(&ink, 1)]));
    (input.discount, input.paid) = (Some("0.99".parse().unwrap()), true);
    let orders = f.shop.orders();
    let order = orders.place(&input).await.unwrap();
    let units = |quantity| [CancelUnits { line_id: order.lines[0].id, quantity }];
    orders.cancel_units(order.id, v(1), &units(1)).await.unwrap();
    orders.cancel_units(order.id, v(2), &units(2)).await.unwrap();
    orders.cancel(order.id).await.unwrap();
    let explained = orders.explain(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!((explained.order_id, &explained.number, explained.version), (order.id, &order.number, 4));
    for amount in &explained.amounts {
        assert!(amount.adds_up() && !amount.formula.is_empty() && !amount.of.label.is_empty(), "{amount:#?}");
    }
    let of = |kind: ExplainedKind| explained.amounts.iter().filter(|a| a.of.kind == kind).collect::<Vec<_>>();
    assert_eq!((of(ExplainedKind::Line).len(), of(ExplainedKind::Bill).len()), (8, 3));
    let notes = of(ExplainedKind::CreditNote);
    let first: Vec<&str> = notes.iter().map(|a| a.parts[0].label.as_str()).step_by(3).collect();
    assert_eq!(first[..2], ["unit 1 of 3 of line 1 (Pen)", "units 2–3 of 3 of line 1 (Pen)"]);
    assert!(notes.len() == 9 && first[2].starts_with("bill BILL-"), "{first:?}");
    let due = explained.amounts.last().unwrap();
    assert_eq!((due.of.name, due.amount.minor(), due.parts.len()), (AmountName::Due, 0, 4));

    for missing in [Permission::OrdersRead, Permission::BillsRead] {
        let who = Principal::new("user:clerk", Permission::ALL.iter().copied().filter(|p| *p != missing));
        let refused = f.shop.acting_as(&who).orders().explain(order.id, IncludeDeleted::No).await;
        assert!(matches!(refused, Err(Error::Forbidden { permission }) if permission == missing), "{refused:?}");
    }
    let gone = orders.explain(OrderId(uuid::Uuid::nil()), IncludeDeleted::Yes).await;
    assert_eq!(code(&gone), Some(ErrorCode::NotFound));
}

/// Placing an order takes the stock and writes the ledger, the bill and the history, and the order reads as it was placed.
pub async fn r07_an_order_takes_stock_and_writes_ledger_bill_and_history(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 10).await, stocked(f, "Ink", 5).await);
    let ada = buyer(f).await;
    let input: OrderInput = from(&json!({
        "customer_id": ada.id,
        "delivery_method": "home_delivery",
        "shipping_address": { "street": "Ockham Lane", "city": "London", "country": "gb" },
        "payment_type": "card",
        "discount": "3.00",
        "attributes": { "gift": true },
        "lines": [line(&pen, 2), line(&ink, 1)],
    }));
    let order = f.shop.acting_as(me()).orders().place(&input).await.unwrap();
    assert_eq!(order.status, OrderStatus::Pending);
    assert_eq!(order.buyer.email.as_deref(), Some("ada@example.com"));
    assert_eq!(order.totals.total.to_string(), "27.00 USD");
    assert_eq!(order.shipping_address.as_ref().and_then(|a| a.country.as_deref()), Some("GB"));
    assert_eq!((f.on_hand(&pen).await, f.on_hand(&ink).await), (8, 4));
    assert_eq!(f.again(order.id).await, order, "the order must read as it was placed");
    let bills = f.shop.bills().of_order(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!((bills.len(), bills[0].totals, bills[0].status), (1, order.totals, BillStatus::Open));
    let (page, _) = f.shop.inventory().movements(pen.skus[0].id, &Paging::first(10)).await.unwrap();
    let taken = &page.items[0];
    assert_eq!((taken.delta, taken.reason, taken.order_line_id), (-2, StockReason::Order, Some(order.lines[0].id)));
    assert_eq!(taken.reference.as_deref(), Some(order.number.as_str()));
    let history = f.shop.orders().history(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!((history.len(), history[0].kind, history[0].to), (1, ChangeKind::Placed, OrderStatus::Pending));
    f.audited().await;
}

/// The demand of several lines of one SKU is summed before it is compared with the stock.
pub async fn r07_the_demand_of_all_lines_is_summed_and_every_shortage_is_named(f: &ShopFixture) {
    let (pen, ink, cap) = (stocked(f, "Pen", 3).await, stocked(f, "Ink", 1).await, stocked(f, "Cap", 9).await);
    let lines = json!([line(&pen, 2), line(&ink, 2), line(&pen, 2), line(&cap, 1)]);
    match conflict(f.placed(lines).await, "two lines of one SKU that together ask for more than there is") {
        Conflict::Stock(StockConflict::Insufficient { shortages }) => {
            let short: BTreeSet<_> = shortages.iter().map(|s| (s.sku_id, s.requested, s.available)).collect();
            assert_eq!(short, BTreeSet::from([(pen.skus[0].id.0, 4, 3), (ink.skus[0].id.0, 2, 1)]));
        }
        other => panic!("the error must be INSUFFICIENT_STOCK, but is {other}"),
    }
    f.placed(json!([line(&pen, 2), line(&pen, 1)])).await.unwrap();
    assert_eq!(f.on_hand(&pen).await, 0);
}

/// Of orders that are placed at once, as many succeed as there are pieces.
pub async fn r07_orders_placed_at_once_sell_each_piece_once(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 20).await, stocked(f, "Ink", 1_000).await);
    let orders = (0..60).map(|_| f.placed(json!([line(&pen, 1), line(&ink, 2)])));
    let placed = join_all(orders).await;
    let sold = placed.iter().filter(|o| o.is_ok()).count();
    assert_eq!((sold, f.on_hand(&pen).await, f.on_hand(&ink).await), (20, 0, 960));
    for refusal in placed.into_iter().filter(Result::is_err) {
        assert_eq!(code(&refusal), Some(ErrorCode::InsufficientStock));
    }
    f.audited().await;
}

/// Several processes that sell the same SKUs neither oversell nor block each other.
pub async fn r07_orders_of_several_processes_sell_each_piece_once(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 30).await, stocked(f, "Ink", 30).await);
    let shops: Vec<_> = (0..3).map(|_| f.another(ShopConfig::default(), f.cache())).collect();
    let orders = (0..90).map(|i| {
        let shop = &shops[i % 3];
        // In both orders, so that locks would wait in a circle if they were taken in the order of the lines.
        let lines = if i % 2 == 0 { [line(&pen, 1), line(&ink, 1)] } else { [line(&ink, 1), line(&pen, 1)] };
        let input = guest(json!(lines));
        async move { shop.orders().place(&input).await }
    });
    let placed = join_all(orders).await;
    let sold = placed.iter().filter(|o| o.is_ok()).count();
    assert_eq!((sold, f.on_hand(&pen).await, f.on_hand(&ink).await), (30, 0, 0));
    for refusal in placed.into_iter().filter(Result::is_err) {
        assert_eq!(code(&refusal), Some(ErrorCode::InsufficientStock), "contention must not reach the caller");
    }
    f.audited().await;
}

/// An order that is refused leaves no row and no event.
pub async fn r07_a_refused_order_leaves_nothing(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 3).await;
    let before = f.snapshot().await;
    assert!(f.placed(json!([line(&pen, 4)])).await.is_err());
    let discount = OrderInput { discount: Some(31.into()), ..guest(json!([line(&pen, 3)])) };
    assert!(f.shop.orders().place(&discount).await.is_err());
    assert_eq!(f.snapshot().await, before, "a refused order must write nothing");
    let all = OrderFilter { include_deleted: IncludeDeleted::Yes, ..OrderFilter::default() };
    let (page, _) = f.shop.orders().list(&all, OrderSort::default(), &Paging::first(10)).await.unwrap();
    assert!(page.items.is_empty(), "a refused order must not be stored");
}

/// The answer of the commit is lost, after the commit or before it. The call returns the order that was written, or
/// writes it, also if the lines name their SKUs by code.
pub async fn r07_an_order_whose_commit_was_not_answered_is_found_or_placed_once(f: &ShopFixture) {
    let pen = f.product(json!({ "title": "Pen", "price": "10.00", "stock": 10, "sku": "pen" })).await;
    let (shop, storage) = f.unsteady();
    let by_code = json!({ "sku": "pen", "quantity": 1, "unit_price": "10" });
    let mut left = 10;
    for line in [line(&pen, 1), by_code] {
        for (fault, commits) in [(Fault::AnswerLost, 1), (Fault::CommitLost, 2)] {
            storage.plan(&[fault]);
            let order = shop.orders().place(&guest(json!([line]))).await.unwrap();
            left -= 1;
            assert_eq!((storage.commits(), f.on_hand(&pen).await), (commits, left), "{fault:?}");
            assert_eq!(f.again(order.id).await, order, "{fault:?}");
        }
    }
    let (page, _) =
        f.shop.orders().list(&OrderFilter::default(), OrderSort::default(), &Paging::first(10)).await.unwrap();
    assert_eq!(page.items.len(), 4);
    // The second answer is lost as well: the caller learns that the outcome is unknown.
    storage.plan(&[Fault::CommitLost, Fault::AnswerLost]);
    let lost = shop.orders().place(&guest(json!([line(&pen, 1)]))).await.unwrap_err();
    assert!(lost.outcome_unknown(), "{lost:?}");
    assert_eq!(f.on_hand(&pen).await, left - 1);
    f.audited().await;
}

/// Of orders that shared a commit whose answer was lost, as many are returned as there are pieces, and each of the others
/// is refused for its own reason.
pub async fn r07_each_order_of_a_commit_that_was_not_answered_has_its_own_outcome(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    for fault in [Fault::AnswerLost, Fault::CommitLost] {
        let pen = stocked(f, "Pen", 5).await;
        storage.plan(&[fault]);
        let inputs: Vec<OrderInput> = (0..12).map(|_| guest(json!([line(&pen, 1)]))).collect();
        let orders = shop.orders();
        let (placed, refused): (Vec<_>, Vec<_>) =
            join_all(inputs.iter().map(|i| orders.place(i))).await.into_iter().partition(Result::is_ok);
        assert_eq!((placed.len(), refused.len(), f.on_hand(&pen).await), (5, 7, 0), "{fault:?}: {refused:?}");
        for refusal in refused {
            assert_eq!(code(&refusal), Some(ErrorCode::InsufficientStock), "{fault:?}: {refusal:?}");
        }
    }
    f.audited().await;
}

/// Every checkout of a cart returns its order, also the one that shared the lost commit.
pub async fn r20_checkouts_whose_commit_was_not_answered_return_the_order_of_the_cart(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    let pen = stocked(f, "Pen", 10).await;
    for (n, fault) in [Fault::AnswerLost, Fault::CommitLost].into_iter().enumerate() {
        let made = shop.carts().create(&CartInput::default().line(from(&line(&pen, 2)))).await.unwrap();
        let (cart, access) = (made.cart.cart.id, CartAccess::from(made.token.unwrap()));
        storage.plan(&[fault]);
        let (orders, input) = (shop.orders(), checkout());
        let made = join_all((0..4).map(|_| orders.checkout(cart, &access, &input))).await;
        let orders: Vec<Order> = made.into_iter().map(Result::unwrap).collect();
        assert!(orders.iter().all(|o| *o == orders[0] && o.cart_id == Some(cart)), "{fault:?}: {orders:#?}");
        assert_eq!(f.on_hand(&pen).await, 10 - 2 * (i64::try_from(n).unwrap() + 1), "{fault:?}");
    }
    f.audited().await;
}

/// A price that is not the current one is refused with both prices.
pub async fn r08_a_wrong_price_is_refused_with_both_prices(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 3).await;
    let lines = json!([line(&pen, 1), { "sku_id": pen.skus[0].id, "quantity": 1, "unit_price": "9.99" }]);
    match conflict(f.placed(lines).await, "a price that is not the current one") {
        Conflict::Sales(SalesConflict::PriceMismatch { prices, .. }) => {
            assert_eq!(prices.len(), 1);
            assert_eq!(prices[0].field, "lines[1].unit_price");
            assert_eq!(
                (prices[0].expected.to_string(), prices[0].found.to_string()),
                ("10.00 USD".to_owned(), "9.99 USD".to_owned())
            );
        }
        other => panic!("the error must be PRICE_MISMATCH, but is {other}"),
    }
    assert_eq!(f.on_hand(&pen).await, 3);
}

/// The current price is the list price less the discount of the product.
pub async fn r08_the_price_is_the_current_one_less_the_discount(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 3).await;
    let pen = f.patch(&pen, json!({ "discount_percentage": "33.33" })).await.unwrap();
    let old = json!([{ "sku_id": pen.skus[0].id, "quantity": 1, "unit_price": "10.00" }]);
    assert_eq!(code(&f.placed(old).await), Some(ErrorCode::PriceMismatch));
    let order = f.placed(json!([line(&pen, 1)])).await.unwrap();
    let sold = &order.lines[0];
    assert_eq!(
        (sold.list_price.to_string(), sold.unit_price.to_string()),
        ("10.00 USD".to_owned(), "6.67 USD".to_owned())
    );
}

/// Stock, totals and the bill follow an edit of the lines in the same transaction.
pub async fn r09_lines_of_a_pending_order_are_edited_and_stock_follows(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 10).await, stocked(f, "Ink", 10).await);
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    let orders = f.shop.acting_as(me()).orders();
    let edit = OrderEdit::default()
        .with(LineChange::quantity(order.lines[0].id, 5))
        .line(from::<OrderLineInput>(&line(&ink, 3)));
    let order = orders.edit(order.id, v(1), &edit).await.unwrap();
    assert_eq!((order.totals.total.to_string(), order.audit.version), ("80.00 USD".to_owned(), 2));
    assert_eq!((f.on_hand(&pen).await, f.on_hand(&ink).await), (5, 7));
    let remove = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 0));
    let order = orders.edit(order.id, v(2), &remove).await.unwrap();
    assert_eq!((order.lines[0].quantity, f.on_hand(&pen).await), (0, 10));
    let back = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 1));
    let refused = fields(orders.edit(order.id, v(3), &back).await, "a line that was removed");
    assert_eq!(refused["change[0].line_id"], FieldCode::Inconsistent);
    let much = OrderEdit::default().with(LineChange::quantity(order.lines[1].id, 11));
    assert_eq!(code(&orders.edit(order.id, v(3), &much).await), Some(ErrorCode::InsufficientStock));
    let bills = f.shop.bills().of_order(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!(bills[0].totals, order.totals, "the bill must follow the lines");
    f.audited().await;
}

/// An order that is in progress is not edited.
pub async fn r09_an_order_that_has_started_is_not_edited(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    let orders = f.shop.acting_as(me()).orders();
    let order = orders.start(order.id, ExpectedVersion::Unspecified).await.unwrap();
    let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 1));
    let refused = orders.edit(order.id, v(order.audit.version), &edit).await;
    assert_eq!(code(&refused), Some(ErrorCode::OrderStatusConflict));
    assert_eq!(f.on_hand(&pen).await, 8);
}

/// A SKU that is not tracked is never short. A line that took its stock before accounts for every unit nevertheless, so
/// the pieces that are missing are booked in first.
pub async fn r23_a_line_is_raised_although_its_sku_is_no_longer_tracked(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 5).await;
    let sku = &pen.skus[0];
    let order = f.placed(json!([line(&pen, 4)])).await.unwrap();
    let (orders, skus) = (f.shop.acting_as(me()).orders(), f.shop.acting_as(me()).skus());
    skus.patch(sku.id, v(sku.audit.version), from(&json!({ "track_stock": false }))).await.unwrap();
    let taken = async || {
        let moved = read!(f.storage, orders.moved(&[order.id]));
        moved.iter().find(|(line, _)| *line == order.lines[0].id).map_or(0, |(_, sum)| -sum)
    };
    let mut version = 1;
    for (quantity, on_hand) in [(5, 0), (8, 0), (7, 1), (9, 0)] {
        let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, quantity));
        let edited = orders.edit(order.id, v(version), &edit).await.unwrap();
        version = edited.audit.version;
        assert_eq!((edited.lines[0].quantity, f.on_hand(&pen).await), (quantity, on_hand));
        assert_eq!(taken().await, quantity, "a line accounts for its units");
        f.audited().await;
    }
    let (page, _) = f.shop.inventory().movements(sku.id, &Paging::first(20)).await.unwrap();
    let booked = page.items.iter().filter(|m| m.reason == StockReason::Adjustment);
    let booked: Vec<_> = booked.map(|m| (m.delta, m.order_line_id, m.reference.as_deref())).collect();
    assert_eq!(booked, [(1, None, Some(order.number.as_str())), (3, None, Some(order.number.as_str()))]);

    // A new line of the SKU takes no stock, and a cancellation gives all pieces back that lines have taken.
    let more = OrderEdit::default().line(from::<OrderLineInput>(&line(&pen, 100)));
    orders.edit(order.id, v(version), &more).await.unwrap();
    assert_eq!(f.on_hand(&pen).await, 0);
    orders.cancel(order.id).await.unwrap();
    assert_eq!((f.on_hand(&pen).await, taken().await), (9, 0));
    f.audited().await;
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// However often and from wherever an order is canceled, its stock is restored once.
pub async fn r10_an_order_canceled_many_times_at_once_restores_stock_once(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 10).await, stocked(f, "Ink", 10).await);
    let order = f.placed(json!([line(&pen, 2), line(&ink, 3)])).await.unwrap();
    let other = f.another(ShopConfig::default(), f.cache());
    let cancels = (0..40).map(|i| {
        let shop = if i % 2 == 0 { &f.shop } else { &other };
        async move { shop.orders().cancel(order.id).await }
    });
    for canceled in join_all(cancels).await {
        assert_eq!(canceled.unwrap().status, OrderStatus::Canceled);
    }
    assert_eq!((f.on_hand(&pen).await, f.on_hand(&ink).await), (10, 10));
    let history = f.shop.orders().history(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!(history.iter().filter(|c| c.kind == ChangeKind::Canceled).count(), 1);
    f.audited().await;
}

/// An order is canceled although its product was deleted.
pub async fn r10_a_deleted_sku_does_not_stop_a_cancel(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    f.delete(&f.fresh(pen.id).await, DeleteMode::Soft).await.unwrap();
    let order = f.shop.orders().cancel(order.id).await.unwrap();
    assert_eq!((order.status, f.on_hand(&pen).await), (OrderStatus::Canceled, 10));
    f.audited().await;
}

/// A product or customer that an order refers to is only soft-deleted.
pub async fn r05_what_was_sold_is_not_removed_for_good(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let ada = buyer(f).await;
    let input = OrderInput::new(ada.id, DeliveryMethod::OnHand).line(from(&line(&pen, 1)));
    let order = f.shop.orders().place(&input).await.unwrap();
    f.shop.orders().cancel(order.id).await.unwrap();
    let fresh = f.fresh(pen.id).await;
    assert_eq!(code(&f.delete(&fresh, DeleteMode::Force).await), Some(ErrorCode::HasSales));
    let removed = f.shop.customers().delete(ada.id, v(1), DeleteMode::Force).await;
    assert_eq!(code(&removed), Some(ErrorCode::HasSales));
    f.delete(&fresh, DeleteMode::Soft).await.unwrap();
    f.shop.customers().delete(ada.id, v(1), DeleteMode::Soft).await.unwrap();
    assert_eq!(f.again(order.id).await.buyer.first_name.as_deref(), Some("Ada"));
    f.audited().await;
}

/// An edit names the version of the order; of several writers of one version, one wins.
pub async fn r01_edits_of_an_order_name_the_version(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    let orders = f.shop.acting_as(me()).orders();
    let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 1));
    let without = orders.edit(order.id, ExpectedVersion::Unspecified, &edit).await;
    assert_eq!(code(&without), Some(ErrorCode::VersionRequired));
    assert_eq!(code(&orders.edit(order.id, v(2), &edit).await), Some(ErrorCode::VersionConflict));
    let units = [CancelUnits { line_id: order.lines[0].id, quantity: 1 }];
    let edits = (0..10).map(|_| orders.cancel_units(order.id, v(1), &units));
    let done = join_all(edits).await.into_iter().flatten().count();
    assert_eq!((done, f.on_hand(&pen).await), (1, 9), "of ten writers of one version, one must win");
    let tracked: OrderPatch = from(&json!({ "tracking": " TRACK-1 " }));
    assert_eq!(code(&orders.patch(order.id, v(1), tracked.clone()).await), Some(ErrorCode::VersionConflict));
    let patched = orders.patch(order.id, v(2), tracked.clone()).await.unwrap();
    assert_eq!((patched.tracking.as_deref(), patched.audit.version), (Some("TRACK-1"), 3));
    let same = orders.patch(order.id, v(3), tracked).await.unwrap();
    assert_eq!(same.audit.version, 3, "a patch that changes nothing must not increase the version");
}

/// Each change of an order has its event, and no event holds personal data.
pub async fn r13_each_change_of_an_order_has_its_event_without_personal_data(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let head = f.head().await;
    let order = f.placed(json!([line(&pen, 3)])).await.unwrap();
    let orders = f.shop.acting_as(me()).orders();
    let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 2));
    orders.edit(order.id, v(1), &edit).await.unwrap();
    orders.start(order.id, v(2)).await.unwrap();
    orders.cancel_units(order.id, v(3), &[CancelUnits { line_id: order.lines[0].id, quantity: 1 }]).await.unwrap();
    orders.cancel(order.id).await.unwrap();
    let events = f.events_after(head).await;
    let kinds: Vec<EventKind> = events.iter().filter(|e| e.aggregate_id == order.id.0).map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::OrderPlaced,
            EventKind::OrderUpdated,
            EventKind::OrderStarted,
            EventKind::OrderUnitsCanceled,
            EventKind::OrderCanceled
        ]
    );
    let stock: Vec<i64> =
        events.iter().filter(|e| e.aggregate_id == pen.id.0).map(|e| e.stock_changes()[0].delta).collect();
    assert_eq!(stock, [-3, 1, 1, 1]);
    for event in &events {
        let text = event.data.to_string();
        assert!(
            !text.contains("Grace") && !text.contains("example.com"),
            "an event must not hold personal data: {text}"
        );
    }
}

/// A reference to what does not exist, or cannot be sold, names its field.
pub async fn r17_references_to_what_is_not_there_name_the_field(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let draft = f.product(json!({ "title": "Draft", "price": "1", "stock": 1, "status": "draft" })).await;
    let gone = stocked(f, "Gone", 1).await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    let lines = json!([
        line(&pen, 1),
        { "sku_id": uuid::Uuid::nil(), "quantity": 1, "unit_price": "1" },
        line(&gone, 1),
        line(&draft, 1),
        { "sku": "no such code", "quantity": 1, "unit_price": "1" },
    ]);
    let refused = fields(f.placed(lines).await, "an order of what cannot be sold");
    assert_eq!(refused.len(), 4);
    assert_eq!(refused["lines[1].sku_id"], FieldCode::ReferenceNotFound);
    assert_eq!(refused["lines[2].sku_id"], FieldCode::ReferenceNotFound);
    assert_eq!(refused["lines[3].sku_id"], FieldCode::NotForSale);
    assert_eq!(refused["lines[4].sku"], FieldCode::ReferenceNotFound);
    let (ada, bob) = (buyer(f).await, json!({ "first_name": "Bob", "last_name": "B", "email": "b@example.com" }));
    let bob = f.shop.customers().create(&from(&bob)).await.unwrap();
    let home = f.shop.addresses().create(bob.id, &from(&json!({ "street": "S", "city": "C" }))).await.unwrap();
    let order: OrderInput = from(&json!({
        "customer_id": ada.id, "delivery_method": "home_delivery", "address_id": home.id, "lines": [line(&pen, 1)],
    }));
    let refused = fields(f.shop.orders().place(&order).await, "the address of another customer");
    assert_eq!(refused["address_id"], FieldCode::ReferenceNotFound);
    let order = OrderInput::new(uuid::Uuid::nil().into(), DeliveryMethod::OnHand).line(from(&line(&pen, 1)));
    let refused = fields(f.shop.orders().place(&order).await, "a customer who does not exist");
    assert_eq!(refused["customer_id"], FieldCode::ReferenceNotFound);
    assert_eq!(f.on_hand(&pen).await, 10);
}

/// A SKU that cannot be sold is refused with the same code and the same message by a cart and by an order.
pub async fn r17_carts_and_orders_refuse_a_sku_alike(f: &ShopFixture) {
    let draft = f.product(json!({ "title": "Draft", "price": "10", "sku": "D-1", "status": "draft" })).await;
    let gone = stocked(f, "Gone", 1).await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    let lines = json!([
        line(&draft, 1),
        { "sku": "d-1", "quantity": 1, "unit_price": "10" },
        line(&gone, 1),
        { "sku_id": uuid::Uuid::nil(), "quantity": 1, "unit_price": "1" },
        { "sku": "no such code", "quantity": 1, "unit_price": "1" },
    ]);
    let refused = |error: Error| match error {
        Error::Validation(errors) => errors.0,
        other => panic!("the error must be a validation error, but is {other:?}"),
    };
    let order = refused(f.placed(lines.clone()).await.unwrap_err());
    let cart = refused(f.shop.carts().create(&from(&json!({ "lines": lines }))).await.unwrap_err());
    assert_eq!(cart, order);
    let codes: Vec<FieldCode> = order.iter().map(|e| e.code).collect();
    let gone = FieldCode::ReferenceNotFound;
    assert_eq!(codes, [FieldCode::NotForSale, FieldCode::NotForSale, gone, gone, gone]);

    // The same codes for the price of a line that was in the cart before.
    let pen = stocked(f, "Pen", 1).await;
    let made = f.shop.carts().create(&CartInput::default().line(from(&line(&pen, 1)))).await.unwrap();
    let (id, line, access) = (made.cart.cart.id, made.cart.cart.lines[0].id, CartAccess::Permission);
    let confirm = CartLinePatch::confirm(pen.skus[0].price);
    let confirmed = async || {
        let any = ExpectedVersion::Unspecified;
        fields(f.shop.carts().change_line(id, &access, any, line, &confirm).await, "confirm")["unit_price"]
    };
    let pen = f.patch(&pen, json!({ "status": "archived" })).await.unwrap();
    assert_eq!(confirmed().await, FieldCode::NotForSale);
    f.delete(&pen, DeleteMode::Soft).await.unwrap();
    assert_eq!(confirmed().await, FieldCode::ReferenceNotFound);
}

/// Nobody finds out by carts and orders which codes the drafts have. A product that was archived was public before.
pub async fn r16_the_code_of_a_draft_is_unknown_to_those_who_may_not_read_it(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    f.product(json!({ "title": "Draft", "price": "10", "sku": "code-1", "status": "draft" })).await;
    f.product(json!({ "title": "Old", "price": "10", "sku": "code-2", "status": "archived" })).await;
    let ada = buyer(f).await;
    let customer = Principal::new("user:ada", []).with_customer(ada.id);
    let lines = ["code-1", "code-2", "code-3"].map(|code| json!({ "sku": code, "quantity": 1, "unit_price": "10" }));
    let order = json!({ "customer_id": ada.id, "delivery_method": "on_hand", "lines": lines });
    let of_pen: OrderInput = from(&json!({
        "customer_id": ada.id, "delivery_method": "on_hand", "lines": [line(&pen, 1)],
    }));
    let placed = f.shop.acting_as(&customer).orders().place(&of_pen).await.unwrap();
    let errors = |outcome: Result<()>| match outcome {
        Err(Error::Validation(errors)) => errors.0.into_iter().map(|e| (e.code, e.message)).collect::<Vec<_>>(),
        other => panic!("the error must be a validation error, but is {other:?}"),
    };
    let asked = async |who: &Principal| {
        let shop = f.shop.acting_as(who);
        let edit = from(&json!({ "add": lines }));
        [
            errors(shop.carts().create(&from(&json!({ "lines": lines, "customer_id": ada.id }))).await.map(drop)),
            errors(shop.orders().place(&from(&order)).await.map(drop)),
            errors(shop.orders().edit(placed.id, v(placed.audit.version), &edit).await.map(drop)),
        ]
    };
    let (draft, old, unknown) = ("code-1", "code-2", "code-3");
    let gone = |code: &str| (FieldCode::ReferenceNotFound, format!("refers to SKU `{code}`, which does not exist"));
    let refused =
        |code: &str| (FieldCode::NotForSale, format!("refers to SKU `{code}`, whose product is not for sale"));
    let hidden = vec![gone(draft), refused(old), gone(unknown)];
    assert_eq!(asked(&customer).await, [hidden.clone(), hidden.clone(), hidden]);
    let shown = vec![refused(draft), refused(old), gone(unknown)];
    assert_eq!(asked(me()).await, [shown.clone(), shown.clone(), shown]);
    // The line of a cart that has become a draft is not for sale, and not gone.
    let with_pen: CartInput = from(&json!({ "customer_id": ada.id, "lines": [line(&pen, 1)] }));
    let made = f.shop.acting_as(&customer).carts().create(&with_pen).await.unwrap();
    let cart = made.cart.cart.id;
    f.patch(&f.fresh(pen.id).await, json!({ "status": "draft" })).await.unwrap();
    let checkout = from(&json!({ "delivery_method": "on_hand" }));
    let outcome = f.shop.acting_as(&customer).orders().checkout(cart, &CartAccess::Permission, &checkout).await;
    assert_eq!(fields(outcome, "a draft in the cart")["lines[0].sku_id"], FieldCode::NotForSale);
}

/// A later change of the product or the customer does not change an order.
pub async fn r19_an_order_keeps_what_was_sold(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let ada = buyer(f).await;
    let input = OrderInput::new(ada.id, DeliveryMethod::OnHand).line(from(&line(&pen, 2)));
    let order = f.shop.orders().place(&input).await.unwrap();
    f.patch(&f.fresh(pen.id).await, json!({ "title": "Quill", "price": "99.00" })).await.unwrap();
    f.shop.customers().patch(ada.id, v(1), from(&json!({ "first_name": "Augusta" }))).await.unwrap();
    assert_eq!(f.again(order.id).await, order, "nothing outside of an order must change what it says");
}

/// Canceling units restores their stock and credits them; the last unit cancels the order.
pub async fn r36_units_are_canceled_with_a_credit_note(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let input = OrderInput { discount: Some(2.into()), ..guest(json!([line(&pen, 3)])) };
    let orders = f.shop.acting_as(me()).orders();
    let order = orders.place(&input).await.unwrap();
    let units = [CancelUnits { line_id: order.lines[0].id, quantity: 1 }];
    let order = orders.cancel_units(order.id, v(1), &units).await.unwrap();
    assert_eq!((order.lines[0].canceled, f.on_hand(&pen).await), (1, 8));
    let bills = f.shop.bills().of_order(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!((bills.len(), bills[1].kind, bills[1].corrects), (2, BillKind::CreditNote, Some(bills[0].id)));
    assert_eq!(
        (bills[1].totals.total.to_string(), bills[1].totals.discount.to_string()),
        ("9.33 USD".to_owned(), "0.67 USD".to_owned())
    );
    assert!(bills[1].number.starts_with("BILL-2026-"), "{}", bills[1].number);
    let much = [CancelUnits { line_id: order.lines[0].id, quantity: 3 }];
    let refused = fields(orders.cancel_units(order.id, v(2), &much).await, "more units than are left");
    assert_eq!(refused["lines[0].quantity"], FieldCode::OutOfBounds);
    let rest = [CancelUnits { line_id: order.lines[0].id, quantity: 2 }];
    let order = orders.cancel_units(order.id, v(2), &rest).await.unwrap();
    assert_eq!((order.status, f.on_hand(&pen).await), (OrderStatus::Canceled, 10));
    let record = f.shop.orders().record(order.id, IncludeDeleted::No).await.unwrap();
    assert!(record.bills.iter().all(|b| b.status == BillStatus::Void), "{record:?}");
    assert_eq!(record.due().minor(), 0);
    f.audited().await;
}

/// The lines of a paid bill no longer change, and new lines go on a further bill.
pub async fn r39_a_paid_bill_is_frozen(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 10).await, stocked(f, "Ink", 10).await);
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    let (orders, bills) = (f.shop.acting_as(me()).orders(), f.shop.acting_as(me()).bills());
    let bill = bills.of_order(order.id, IncludeDeleted::No).await.unwrap().remove(0);
    let pay = BillPatch { paid: Some(true), ..BillPatch::default() };
    let stale = bills.patch(bill.id, v(7), pay.clone()).await;
    assert_eq!(code(&stale), Some(ErrorCode::VersionConflict));
    let head = f.head().await;
    let paid = bills.patch(bill.id, v(1), pay.clone()).await.unwrap();
    assert_eq!((paid.status, paid.audit.version), (BillStatus::Paid, 2));
    assert_eq!(bills.patch(bill.id, v(2), pay).await.unwrap().audit.version, 2, "paying twice must change nothing");
    assert_eq!(f.events_after(head).await.into_iter().map(|e| e.kind).collect::<Vec<_>>(), [EventKind::OrderPaid]);
    let order = f.again(order.id).await;
    let less = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 1));
    assert_eq!(code(&orders.edit(order.id, v(2), &less).await), Some(ErrorCode::BillFrozen));
    let discount: BillPatch = from(&json!({ "discount": "1.00" }));
    assert_eq!(code(&bills.patch(bill.id, v(2), discount).await), Some(ErrorCode::BillFrozen));
    let more = OrderEdit::default().line(from::<OrderLineInput>(&line(&ink, 1)));
    let order = orders.edit(order.id, v(2), &more).await.unwrap();
    let all = bills.of_order(order.id, IncludeDeleted::No).await.unwrap();
    assert_eq!((all.len(), all[1].seq, all[1].totals.total.to_string()), (2, 2, "10.00 USD".to_owned()));
    assert_eq!(order.totals.total.to_string(), "30.00 USD");
    f.audited().await;
}

/// The audit of a sound shop is clean, and the audit of a broken one names the rows.
pub async fn r41_the_audit_is_clean_and_finds_what_somebody_broke(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let order = f.placed(json!([line(&pen, 3)])).await.unwrap();
    let report = f.shop.audit().run().await.unwrap();
    assert_eq!((report.skus, report.orders, report.is_clean()), (1, 1, true), "{report:?}");
    // What a program without the rules would do: it writes the rows of an order and forgets the stock.
    let mut record = read!(f.storage, orders.records(&[order.id])).remove(0);
    record.order.audit.version = 2;
    record.order.lines[0].canceled = 1;
    let before = read!(f.storage, orders.records(&[order.id])).remove(0);
    let mut change = f.shop.orders().history(order.id, IncludeDeleted::No).await.unwrap().remove(0);
    change.seq = 2;
    attempt!(f.storage, orders.update(&before, &record, &change)).unwrap();
    let report = f.shop.audit().run().await.unwrap();
    let found: Vec<&str> = report.findings.iter().map(|x| x.message.as_str()).collect();
    assert!(found.iter().any(|m| m.contains("R23")), "the audit must find units without stock: {found:?}");
    assert!(found.iter().any(|m| m.contains("R35")), "the audit must find units without a credit note: {found:?}");
    // Another such program moves the order on without an entry that says so.
    let before = read!(f.storage, orders.records(&[order.id])).remove(0);
    let mut record = before.clone();
    record.order.audit.version = 3;
    record.order.status = OrderStatus::Delivered;
    change.seq = 3;
    attempt!(f.storage, orders.update(&before, &record, &change)).unwrap();
    let report = f.shop.audit().run().await.unwrap();
    let found: Vec<&str> = report.findings.iter().map(|x| x.message.as_str()).collect();
    let wrong = "the status is delivered, but the history ends with pending (R19)";
    assert!(found.contains(&wrong), "the audit must find a status that the history does not have: {found:?}");
}

/// Numbers are unique across processes, carry the year of the order, and do not restart.
pub async fn r43_numbers_are_unique_and_carry_the_year(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let other = f.another(ShopConfig::default(), f.cache());
    let orders = (0..40).map(|i| {
        let shop = if i % 2 == 0 { &f.shop } else { &other };
        let input = guest(json!([line(&pen, 1)]));
        async move { shop.orders().place(&input).await.unwrap().number }
    });
    let numbers: HashSet<String> = join_all(orders).await.into_iter().collect();
    assert_eq!(numbers.len(), 40);
    assert!(numbers.iter().all(|n| n.starts_with("ORD-2026-") && n.len() == 15), "{numbers:?}");
    let before = f.placed(json!([line(&pen, 1)])).await.unwrap();
    f.clock.advance(std::time::Duration::from_secs(366 * 24 * 3600));
    let after = f.placed(json!([line(&pen, 1)])).await.unwrap();
    assert!(after.number.starts_with("ORD-2027-"), "{}", after.number);
    let counter = |o: &Order| o.number.rsplit('-').next().unwrap().parse::<i64>().unwrap();
    assert!(counter(&after) > counter(&before), "the counter must not restart with the year");
    assert_eq!(f.shop.orders().get_by_number(&after.number, IncludeDeleted::No).await.unwrap(), after);
}

/// A number that a caller chose is used once, and the library skips it.
pub async fn r43_a_number_that_a_caller_took_is_skipped(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let first = f.placed(json!([line(&pen, 1)])).await.unwrap();
    let bill = f.shop.bills().of_order(first.id, IncludeDeleted::No).await.unwrap().remove(0);
    let counter: i64 = bill.number.rsplit('-').next().unwrap().parse().unwrap();
    // A server may skip numbers, so all of the next ones are taken.
    for next in counter + 1..counter + 30 {
        let number = format!("BILL-2026-{next:06}");
        let input = OrderInput { bill_number: Some(number.clone()), ..guest(json!([line(&pen, 1)])) };
        let order = f.shop.orders().place(&input).await.unwrap();
        assert_eq!(f.shop.bills().of_order(order.id, IncludeDeleted::No).await.unwrap()[0].number, number);
        let again = f.shop.orders().place(&input).await;
        assert_eq!(code(&again), Some(ErrorCode::Duplicate), "a number must be used once");
    }
    let order = f.placed(json!([line(&pen, 1)])).await.unwrap();
    let made = f.shop.bills().of_order(order.id, IncludeDeleted::No).await.unwrap().remove(0).number;
    assert!(made > format!("BILL-2026-{:06}", counter + 3), "{made} must come after the numbers that were taken");
    f.audited().await;
}

/// An order that the database refuses fails alone, and each caller of its batch gets the answer of its own order.
pub async fn r43_of_orders_placed_at_once_only_those_with_a_number_that_is_taken_fail(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 1_000).await;
    let inputs: Vec<OrderInput> = (0..40)
        .map(|n| {
            let order = guest(json!([line(&pen, n + 1)]));
            let number = format!("B-{}", n % 5);
            if n % 2 == 0 { OrderInput { bill_number: Some(number), ..order } } else { order }
        })
        .collect();
    let orders = f.shop.orders();
    let placed = join_all(inputs.iter().map(|input| orders.place(input))).await;
    let mut taken = HashSet::new();
    for (n, result) in placed.into_iter().enumerate() {
        match (result, &inputs[n].bill_number) {
            (Ok(order), number) => {
                assert_eq!(
                    order.lines[0].quantity,
                    i64::try_from(n).unwrap() + 1,
                    "caller {n} must get the answer of its own order"
                );
                if let Some(number) = number {
                    assert!(taken.insert(number.clone()), "{number} must be used once");
                }
            }
            (refused, number) => {
                assert_eq!(code(&refused), Some(ErrorCode::Duplicate), "caller {n}");
                assert!(number.is_some(), "caller {n} has chosen no number");
            }
        }
    }
    assert_eq!(taken.len(), 5, "one order of each number must be placed");
    f.audited().await;
}

/// An order without lines is filled while it is pending.
pub async fn r44_a_draft_is_filled_later(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let orders = f.shop.acting_as(me()).orders();
    let draft = orders.place(&guest(json!([]))).await.unwrap();
    assert_eq!(draft.totals.total.minor(), 0);
    assert_eq!(code(&orders.start(draft.id, v(1)).await), Some(ErrorCode::StateConflict));
    let discount = OrderInput { discount: Some(1.into()), ..guest(json!([])) };
    assert_eq!(fields(orders.place(&discount).await, "a discount on nothing")["discount"], FieldCode::OutOfBounds);
    let edit = OrderEdit::default().line(from::<OrderLineInput>(&line(&pen, 2)));
    let order = orders.edit(draft.id, v(1), &edit).await.unwrap();
    assert_eq!((order.totals.total.to_string(), f.on_hand(&pen).await), ("20.00 USD".to_owned(), 8));
    f.audited().await;
}

/// Lists of orders and bills apply every filter, and a page costs two statements.
pub async fn lists_of_orders_and_bills_filter_and_page(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 100).await, stocked(f, "Ink", 100).await);
    let ada = buyer(f).await;
    let orders = f.shop.acting_as(me()).orders();
    let mut placed = Vec::new();
    for i in 0..7 {
        f.clock.advance(std::time::Duration::from_secs(60));
        let item = if i % 2 == 0 { &pen } else { &ink };
        let method = if i < 3 { DeliveryMethod::DriveThru } else { DeliveryMethod::OnHand };
        let input = if i % 3 == 0 {
            OrderInput::new(ada.id, method).line(from(&line(item, 1)))
        } else {
            OrderInput { delivery_method: Some(method), ..guest(json!([line(item, 1)])) }
        };
        placed.push(orders.place(&input).await.unwrap());
    }
    orders.cancel(placed[1].id).await.unwrap();
    orders.delete(placed[2].id, v(1)).await.unwrap();
    let listed = async |filter: OrderFilter| {
        let (page, total) =
            orders.list(&filter, OrderSort::PlacedAsc, &Paging::Offset { offset: 0, limit: 10 }).await.unwrap();
        assert_eq!(total.unwrap().count, page.items.len() as u64);
        page.items.iter().map(|o| placed.iter().position(|p| p.id == o.id).unwrap()).collect::<Vec<_>>()
    };
    let any = OrderFilter::default;
    assert_eq!(listed(any()).await, [0, 1, 3, 4, 5, 6]);
    assert_eq!(listed(OrderFilter { include_deleted: IncludeDeleted::Yes, ..any() }).await, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(listed(OrderFilter { customer: Some(ada.id), ..any() }).await, [0, 3, 6]);
    assert_eq!(listed(OrderFilter { email: Some("GRACE@example.com".to_owned()), ..any() }).await, [1, 4, 5]);
    assert_eq!(listed(OrderFilter { status: Some(OrderStatus::Canceled), ..any() }).await, [1]);
    assert_eq!(listed(OrderFilter { delivery_method: Some(DeliveryMethod::DriveThru), ..any() }).await, [0, 1]);
    assert_eq!(listed(OrderFilter { sku: Some(ink.skus[0].id), ..any() }).await, [1, 3, 5]);
    let (from, until) = (Some(placed[3].placed_at), Some(placed[5].placed_at));
    assert_eq!(listed(OrderFilter { from, until, ..any() }).await, [3, 4]);
    for sort in [OrderSort::PlacedDesc, OrderSort::PlacedAsc] {
        let mut seen = Vec::new();
        let mut paging = Paging::Keyset { after: None, limit: 2 };
        loop {
            let before = f.storage.statements();
            let (page, _) = orders.list(&any(), sort, &paging).await.unwrap();
            assert_eq!(f.storage.statements() - before, 2, "a page must cost two statements");
            seen.extend(page.items.iter().map(|o| (o.id, o.lines.len())));
            match page.next {
                Some(next) => paging = Paging::Keyset { after: Some(next), limit: 2 },
                None => break,
            }
        }
        let mut expected: Vec<_> = placed.iter().filter(|o| o.id != placed[2].id).map(|o| (o.id, 1)).collect();
        if sort == OrderSort::PlacedDesc {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let bills = f.shop.bills();
    let (page, total) =
        bills.list(&BillFilter::default(), BillSort::DateDesc, &Paging::Offset { offset: 0, limit: 3 }).await.unwrap();
    assert_eq!((page.items.len(), total.unwrap().count), (3, 6));
    let void = BillFilter { status: Some(BillStatus::Void), ..BillFilter::default() };
    let (page, _) = bills.list(&void, BillSort::DateAsc, &Paging::first(10)).await.unwrap();
    assert_eq!(page.items.iter().map(|b| b.order_id).collect::<Vec<_>>(), [placed[1].id]);
}

/// Lines of all orders are listed, also those that an edit has added, and not those that an edit has removed.
pub async fn lists_of_order_lines_show_what_was_sold(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 100).await, stocked(f, "Ink", 100).await);
    let ada = buyer(f).await;
    let orders = f.shop.acting_as(me()).orders();
    let mut placed = Vec::new();
    for n in 0..4 {
        f.clock.advance(std::time::Duration::from_secs(60));
        let mut input = guest(json!([line(&pen, n + 1), line(&ink, 1)]));
        if n == 2 {
            (input.customer, input.customer_id) = (None, Some(ada.id));
        }
        placed.push(orders.place(&input).await.unwrap());
    }
    f.clock.advance(std::time::Duration::from_secs(60));
    let edit = OrderEdit::default().with(LineChange::quantity(placed[1].lines[1].id, 0));
    let edited = orders.edit(placed[1].id, v(1), &edit.line(from(&line(&pen, 7)))).await.unwrap();
    orders.start(placed[2].id, v(1)).await.unwrap();
    orders.delete(placed[3].id, v(1)).await.unwrap();
    let listed = async |filter: OrderLineFilter| {
        let paging = Paging::Offset { offset: 0, limit: 20 };
        let (page, total) = orders.lines(&filter, OrderSort::PlacedAsc, &paging).await.unwrap();
        assert_eq!(total.unwrap().count, page.items.len() as u64);
        for line in &page.items {
            let order = placed.iter().find(|o| o.id == line.order_id).unwrap();
            assert_eq!(line.placed_at, order.placed_at, "an added line has the time of its order");
        }
        page.items.iter().map(|l| (l.sku_id == Some(pen.skus[0].id), l.quantity)).collect::<Vec<_>>()
    };
    let any = OrderLineFilter::default;
    let (p, i) = (|quantity| (true, quantity), (false, 1));
    assert_eq!(listed(any()).await, [p(1), i, p(2), p(7), p(3), i]);
    let all = OrderLineFilter { include_deleted: IncludeDeleted::Yes, ..any() };
    assert_eq!(listed(all).await, [p(1), i, p(2), p(7), p(3), i, p(4), i]);
    assert_eq!(listed(OrderLineFilter { product: Some(pen.id), ..any() }).await, [p(1), p(2), p(7), p(3)]);
    assert_eq!(listed(OrderLineFilter { sku: Some(ink.skus[0].id), ..any() }).await, [i, i]);
    assert_eq!(listed(OrderLineFilter { order: Some(edited.id), ..any() }).await, [p(2), p(7)]);
    assert_eq!(listed(OrderLineFilter { customer: Some(ada.id), ..any() }).await, [p(3), i]);
    assert_eq!(listed(OrderLineFilter { status: Some(OrderStatus::InProgress), ..any() }).await, [p(3), i]);
    let (from, until) = (Some(placed[1].placed_at), Some(placed[2].placed_at));
    assert_eq!(listed(OrderLineFilter { from, until, ..any() }).await, [p(2), p(7)]);
    let (page, total) = orders.lines(&any(), OrderSort::PlacedDesc, &Paging::first(3)).await.unwrap();
    assert_eq!((page.items.len(), total, page.next.is_some()), (3, None, true));
    let turned = OrderLineFilter { from: until, until: from, ..any() };
    let refused = orders.lines(&turned, OrderSort::PlacedDesc, &Paging::first(3)).await;
    assert_eq!(fields(refused, "a range that ends before it begins")["from"], FieldCode::Inconsistent);
    f.audited().await;
}

/// The status moves from pending to in progress to delivered, or to canceled.
pub async fn a_status_moves_only_as_the_rules_allow(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let orders = f.shop.acting_as(me()).orders();
    let any = ExpectedVersion::Unspecified;
    let order = f.placed(json!([line(&pen, 1)])).await.unwrap();
    assert_eq!(code(&orders.deliver(order.id, any).await), Some(ErrorCode::OrderStatusConflict));
    orders.start(order.id, any).await.unwrap();
    assert_eq!(code(&orders.start(order.id, any).await), Some(ErrorCode::OrderStatusConflict));
    assert_eq!(code(&orders.start(order.id, v(1)).await), Some(ErrorCode::VersionConflict));
    let done = orders.deliver(order.id, any).await.unwrap();
    assert_eq!(done.status, OrderStatus::Delivered);
    assert_eq!(code(&orders.cancel(order.id).await), Some(ErrorCode::OrderStatusConflict));
    assert_eq!(code(&orders.delete(order.id, v(3)).await), Some(ErrorCode::OrderStatusConflict));
    let patch: OrderPatch = from(&json!({ "tracking": "T" }));
    assert_eq!(code(&orders.patch(order.id, v(3), patch).await), Some(ErrorCode::OrderStatusConflict));
    assert_eq!(f.on_hand(&pen).await, 99);
    let statuses: Vec<_> =
        orders.history(order.id, IncludeDeleted::No).await.unwrap().iter().map(|c| (c.from, c.to)).collect();
    assert_eq!(
        statuses,
        [
            (None, OrderStatus::Pending),
            (Some(OrderStatus::Pending), OrderStatus::InProgress),
            (Some(OrderStatus::InProgress), OrderStatus::Delivered)
        ]
    );
    let order = f.placed(json!([line(&pen, 1)])).await.unwrap();
    orders.start(order.id, any).await.unwrap();
    assert_eq!(orders.cancel(order.id).await.unwrap().status, OrderStatus::Canceled, "from in progress");
    f.audited().await;
}

/// Deleting an order cancels it first; a restored one stays canceled.
pub async fn a_deleted_order_is_canceled_and_hidden(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let orders = f.shop.acting_as(me()).orders();
    let order = f.placed(json!([line(&pen, 4)])).await.unwrap();
    orders.delete(order.id, v(1)).await.unwrap();
    assert_eq!(f.on_hand(&pen).await, 10);
    assert_eq!(code(&orders.cancel(order.id).await), Some(ErrorCode::NotFound));
    let hidden = f.again(order.id).await;
    for (deleted, found) in [(IncludeDeleted::No, Some(ErrorCode::NotFound)), (IncludeDeleted::Yes, None)] {
        assert_eq!(code(&orders.get(order.id, deleted).await), found);
        assert_eq!(code(&orders.record(order.id, deleted).await), found);
        assert_eq!(code(&orders.explain(order.id, deleted).await), found);
        assert_eq!(code(&orders.history(order.id, deleted).await), found);
    }
    let back = orders.restore(order.id, v(hidden.audit.version)).await.unwrap();
    assert_eq!((back.status, back.audit.is_live()), (OrderStatus::Canceled, true));
    assert_eq!(code(&orders.restore(order.id, v(back.audit.version)).await), Some(ErrorCode::StateConflict));
    assert_eq!(f.on_hand(&pen).await, 10);
    f.audited().await;
}

/// A line may name its SKU by the code, ignoring case.
pub async fn an_order_by_code_finds_its_sku(f: &ShopFixture) {
    let pen = f.product(json!({ "title": "Pen", "price": "1.00", "stock": 5, "sku": "Pen-Blue" })).await;
    let order = f.placed(json!([{ "sku": "PEN-blue", "quantity": 2, "unit_price": "1" }])).await.unwrap();
    let line = &order.lines[0];
    assert_eq!((line.sku_id, line.code.as_deref()), (Some(pen.skus[0].id), Some("Pen-Blue")));
    assert_eq!(f.on_hand(&pen).await, 3);
}

/// Neither a read nor a list shows the bills of a soft-deleted order, unless it asks for them, and no patch finds them.
pub async fn r02_the_bills_of_a_deleted_order_are_hidden_as_the_order_is(f: &ShopFixture) {
    use IncludeDeleted::{No, Yes};

    let pen = stocked(f, "Pen", 10).await;
    let (orders, bills) = (f.shop.acting_as(me()).orders(), f.shop.acting_as(me()).bills());
    let order = f.placed(json!([line(&pen, 2)])).await.unwrap();
    let kept = f.placed(json!([line(&pen, 1)])).await.unwrap();
    let bill = bills.of_order(order.id, No).await.unwrap().remove(0);
    orders.delete(order.id, v(1)).await.unwrap();
    let gone = f.again(order.id).await;
    let hidden = bills.get(bill.id, Yes).await.unwrap();
    assert_eq!((hidden.status, hidden.audit.deleted_at), (BillStatus::Void, gone.audit.deleted_at));
    assert!(hidden.audit.version > bill.audit.version, "{hidden:?}");
    assert_eq!(bills.get_by_number(&bill.number, Yes).await.unwrap(), hidden);
    assert_eq!(bills.of_order(order.id, Yes).await.unwrap(), std::slice::from_ref(&hidden));
    let listed = async |include_deleted| {
        let filter = BillFilter { include_deleted, ..BillFilter::default() };
        let paging = Paging::Offset { offset: 0, limit: 10 };
        let (page, total) = bills.list(&filter, BillSort::DateAsc, &paging).await.unwrap();
        assert_eq!(total.unwrap().count, page.items.len() as u64);
        page.items.into_iter().map(|b| b.order_id).collect::<BTreeSet<_>>()
    };
    assert_eq!(listed(Yes).await, BTreeSet::from([order.id, kept.id]));
    assert_eq!(listed(No).await, BTreeSet::from([kept.id]));

    let before = f.log().await;
    let patch = BillPatch { payment_type: crate::common::Patch::Set(PaymentType::Card), ..BillPatch::default() };
    let refused = [
        bills.get(bill.id, No).await.map(drop),
        bills.get_by_number(&bill.number, No).await.map(drop),
        bills.of_order(order.id, No).await.map(drop),
        bills.patch(bill.id, v(hidden.audit.version), patch).await.map(drop),
    ];
    for result in refused {
        assert_eq!(code(&result), Some(ErrorCode::NotFound), "{result:?}");
    }
    assert_eq!(f.log().await, before, "a refused patch writes nothing");
    assert_eq!(bills.get(bill.id, Yes).await.unwrap(), hidden);
    f.audited().await;

    orders.restore(order.id, v(gone.audit.version)).await.unwrap();
    let shown = bills.get(bill.id, No).await.unwrap();
    assert_eq!((shown.status, shown.audit.deleted_at), (BillStatus::Void, None));
    assert_eq!(listed(No).await, BTreeSet::from([order.id, kept.id]));
    f.audited().await;
}

/// However often and from wherever a cart is checked out at once, it makes one order, which every caller gets.
pub async fn r20_a_cart_checked_out_many_times_at_once_makes_one_order(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 200).await;
    let line: CartLineInput = from(&line(&pen, 2));
    let made = f.shop.carts().create(&CartInput::default().line(line)).await.unwrap();
    let (cart, access) = (made.cart.cart.id, CartAccess::from(made.token.unwrap()));
    let other = f.another(ShopConfig::default(), f.cache());
    let (access, input) = (&access, &checkout());
    let checkouts = (0..100).map(|i| {
        let shop = if i % 2 == 0 { &f.shop } else { &other };
        async move { shop.orders().checkout(cart, access, input).await }
    });
    let orders: Vec<Order> = join_all(checkouts).await.into_iter().map(Result::unwrap).collect();
    assert!(orders.iter().all(|o| *o == orders[0]), "every checkout must return the same order");
    assert_eq!((orders[0].cart_id, f.on_hand(&pen).await), (Some(cart), 198));
    let again = f.shop.orders().checkout(cart, access, input).await.unwrap();
    assert_eq!(again.id, orders[0].id, "a later checkout must return the same order");
    let more = f
        .shop
        .carts()
        .add_line(cart, access, ExpectedVersion::Unspecified, &CartLineInput::new(pen.skus[0].id, 1, pen.skus[0].price))
        .await;
    assert_eq!(code(&more), Some(ErrorCode::CartOrdered));
    f.shop.orders().delete(again.id, v(1)).await.unwrap();
    let hidden = f.shop.orders().checkout(cart, access, input).await;
    assert_eq!(code(&hidden), Some(ErrorCode::CartOrdered), "a soft-deleted order must not be shown");
    f.audited().await;
}

/// A checkout sells the lines of the cart at the prices that the shopper has confirmed, or refuses them.
pub async fn r20_a_checkout_sells_the_lines_of_the_cart_at_the_prices_seen(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 5).await, stocked(f, "Ink", 5).await);
    let lines = CartInput::default().line(from(&line(&pen, 2))).line(from(&line(&ink, 6)));
    let made = f.shop.carts().create(&lines).await.unwrap();
    let (cart, access) = (made.cart.cart, CartAccess::from(made.token.unwrap()));
    let checked_out = async || f.shop.orders().checkout(cart.id, &access, &checkout()).await;
    assert_eq!(code(&checked_out().await), Some(ErrorCode::InsufficientStock));
    let ink_line = cart.lines.iter().find(|l| l.sku_id == ink.skus[0].id).unwrap().id;
    let any = ExpectedVersion::Unspecified;
    f.shop.carts().change_line(cart.id, &access, any, ink_line, &from(&json!({ "quantity": 5 }))).await.unwrap();
    let pen = f.patch(&pen, json!({ "price": "11.00" })).await.unwrap();
    match conflict(checked_out().await, "a price that has changed since the shopper saw it") {
        Conflict::Sales(SalesConflict::PriceMismatch { prices, .. }) => {
            assert_eq!((prices.len(), prices[0].expected, prices[0].sku_id), (1, pen.skus[0].price, pen.skus[0].id.0));
        }
        other => panic!("the error must be PRICE_MISMATCH, but is {other}"),
    }
    let pen_line = cart.lines.iter().find(|l| l.sku_id == pen.skus[0].id).unwrap().id;
    f.shop
        .carts()
        .change_line(cart.id, &access, any, pen_line, &from(&json!({ "unit_price": "11.00" })))
        .await
        .unwrap();
    let stranger = CartAccess::from(CartToken::new("another token"));
    let refused = f.shop.orders().checkout(cart.id, &stranger, &checkout()).await;
    assert_eq!(
        code(&refused),
        Some(ErrorCode::NotFound),
        "a token that does not open the cart must not tell that it exists"
    );
    let order = checked_out().await.unwrap();
    assert_eq!((order.totals.total.to_string(), order.lines.len()), ("72.00 USD".to_owned(), 2));
    assert_eq!((f.on_hand(&pen).await, f.on_hand(&ink).await), (3, 0));
    let empty = f.shop.carts().create(&CartInput::default()).await.unwrap();
    let access = CartAccess::from(empty.token.unwrap());
    let refused = f.shop.orders().checkout(empty.cart.cart.id, &access, &checkout()).await;
    assert_eq!(fields(refused, "an empty cart")["lines"], FieldCode::Required);
    f.audited().await;
}

pub(super) fn checkout() -> CheckoutInput {
    from(&json!({
        "customer": { "first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com" },
        "delivery_method": "on_hand",
    }))
}
