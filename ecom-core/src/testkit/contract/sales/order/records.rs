//! Orders are read as they were written, with their lines, discounts, bills and history.

use std::sync::Arc;

use serde_json::json;

use super::support::{customer, deleted, edited, get, products, record, update};
use crate::domain::common::{Actor, Attributes, IncludeDeleted};
use crate::domain::sales::bill::{BillFilter, BillKind, BillSort, BillStatus, PaymentType};
use crate::domain::sales::customer::Customer;
use crate::domain::sales::order::{
    Buyer, ChangeKind, Order, OrderChange, OrderFilter, OrderLine, OrderRecord, OrderSort, OrderStatus, Totals,
};
use crate::error::ErrorCode;
use crate::id::{CartId, IdSource as _, OrderId};
use crate::money::Currency;
use crate::paging::Paging;
use crate::port::sales::order::OrderTrace;
use crate::port::storage::Storage;
use crate::testkit::code_of;
use crate::testkit::sample::{Env, usd};

tests! {
    __order_records: [
        every_field_survives_a_round_trip,
        an_order_of_many_lines_survives_a_round_trip,
        every_field_is_updated,
        an_update_writes_lines_discounts_and_bills,
        discounts_are_read_by_the_position_of_their_line,
        r01_an_update_from_an_old_version_changes_nothing,
        r02_soft_deleted_orders_are_hidden_unless_asked_for,
        every_version_has_an_entry_in_the_history,
        orders_are_found_by_the_carts_that_they_were_made_from,
        the_customers_of_orders_are_read,
        ids_are_read_in_chunks,
        r45_orders_of_a_customer_are_erased_in_parts,
        r45_orders_of_guests_are_linked_to_a_customer_by_their_email,
        r45_orders_that_are_linked_twice_at_once_are_linked_once,
        movements_are_summed_by_line,
        the_lock_of_orders_makes_writers_wait_for_each_other,
        the_number_of_statements_does_not_depend_on_the_number_of_lines,
    ]
}

/// Orders with all fields, and orders without optional fields, are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let ada = customer(&env, storage, "Zoë.O+tag@Example.com").await;
    let mut all = [env.full_order(&ada, &lamp), env.order(), deleted(&env, &env.order_of(&lamp, 2))];
    env.insert_orders(storage, &all).await.unwrap();
    for expected in &all {
        let found = read!(storage, orders.get(expected.order.id, IncludeDeleted::Yes));
        assert_eq!(found.as_ref(), Some(&expected.order), "an order is read as it was inserted");
        assert_eq!(
            record(storage, expected.order.id).await.as_ref(),
            Some(expected),
            "an order is read with everything that belongs to it"
        );
        let id = read!(storage, orders.id_of_number(&expected.order.number));
        assert_eq!(id, Some(expected.order.id), "an order is found by its number, even if it is soft-deleted");
        let history = read!(storage, orders.history(expected.order.id));
        assert_eq!(history, [env.order_change(expected, ChangeKind::Placed)], "the history is read as it was inserted");
    }
    let unknown = OrderId(env.ids.next());
    assert_eq!(get(storage, unknown).await, None, "`get` of an unknown order finds nothing");
    assert_eq!(read!(storage, orders.id_of_number("ORD-2026-000001")), None, "an unknown number finds nothing");
    assert_eq!(read!(storage, orders.history(unknown)), [], "an unknown order has no history");
    let ids = [all[2].order.id, unknown, all[0].order.id, all[2].order.id, all[1].order.id];
    all.sort_by_key(|r| r.order.id);
    assert_eq!(read!(storage, orders.records(&ids)), all, "`records` returns the orders that exist, each once, by id");
    assert_eq!(attempt!(storage, orders.lock(&ids)).unwrap(), all, "and so does `lock`");
    assert_eq!(attempt!(storage, orders.lock(&[])).unwrap(), [], "no order is locked");
    attempt!(storage, orders.insert(&[], &[])).unwrap();
}

/// An order may have 500 lines; they keep their positions.
pub async fn an_order_of_many_lines_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 7).await;
    let mut large = env.order();
    for n in 0..Order::MAX_LINES {
        let line = env.order_line(&large.order, &products[n % 7], 1 + n as i64);
        large.order.lines.push(line);
    }
    // The rows are not written in the order of their positions.
    let mut shuffled = large.clone();
    shuffled.order.lines.reverse();
    let other = env.order_of(&products[0], 1);
    env.insert_orders(storage, &[shuffled, other.clone()]).await.unwrap();
    assert_eq!(get(storage, large.order.id).await, Some(large.order), "lines are read by position");
    assert_eq!(record(storage, other.order.id).await, Some(other), "each order has its own lines");
}

/// An update sets and clears every field that can change.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let ada = customer(&env, storage, "ada@example.com").await;
    let (before, other) = (env.order(), env.order_of(&lamp, 1));
    env.insert_orders(storage, &[before.clone(), other.clone()]).await.unwrap();
    let full = env.full_order(&ada, &lamp).order;
    let mut after = edited(&env, &before);
    // An order keeps its identity, and its lines are another test.
    after.order = Order {
        id: before.order.id,
        number: before.order.number.clone(),
        cart_id: None,
        customer_id: None,
        prices_include_tax: false,
        engine: 1,
        placed_at: before.order.placed_at,
        lines: Vec::new(),
        audit: after.order.audit,
        ..full
    };
    update(&env, storage, &before, &after).await.unwrap();
    assert_eq!(get(storage, before.order.id).await.as_ref(), Some(&after.order), "every field is updated");
    let by_email = OrderFilter { email: Some("ADA@example.com".to_owned()), ..OrderFilter::default() };
    let listed = read!(storage, orders.list(&by_email, OrderSort::default(), &Paging::first(9)));
    assert_eq!(listed.items, [after.order.clone()], "a list finds the order by its new email");
    let mut emptied = edited(&env, &after);
    emptied.order = Order { erased_at: after.order.erased_at, audit: emptied.order.audit, ..before.order.clone() };
    emptied.order.buyer = Buyer::default();
    update(&env, storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, before.order.id).await.as_ref(), Some(&emptied.order), "every field is emptied");
    assert_eq!(emptied.order.attributes, Attributes::default());
    let listed = read!(storage, orders.list(&by_email, OrderSort::default(), &Paging::first(9)));
    assert_eq!(listed.items, [], "an email that was erased finds nothing");
    assert_eq!(record(storage, other.order.id).await, Some(other), "other orders stay as they are");
}

/// One update adds and changes lines, discounts and bills, and leaves those of other orders.
pub async fn an_update_writes_lines_discounts_and_bills(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 90).await;
    let with_lines = |n: usize| {
        let mut record = env.order();
        for product in &products[..n] {
            let line = env.order_line(&record.order, product, 2);
            record.order.lines.push(line);
        }
        record.adjustments = record.order.lines.iter().map(|line| env.adjustment(line, 5)).collect();
        record
    };
    let (before, other) = (with_lines(80), with_lines(3));
    env.insert_orders(storage, &[before.clone(), other.clone()]).await.unwrap();
    let mut after = edited(&env, &before);
    for (n, line) in after.order.lines.iter_mut().enumerate().take(70) {
        let (quantity, price) = (n as i64 % 5, 90 + n as i64);
        *line = OrderLine {
            quantity,
            canceled: quantity / 2,
            list_price: usd(price + 10),
            unit_price: usd(price),
            totals: Totals {
                tax_added: usd(3),
                tax_included: usd(4),
                total: usd(quantity * price - quantity + 3),
                ..Totals::of(quantity * price, quantity, Currency::USD)
            },
            ..line.clone()
        };
    }
    for product in &products[80..] {
        let line = OrderLine { bill_seq: 2, ..env.order_line(&after.order, product, 1) };
        after.order.lines.push(line);
    }
    after.adjustments.retain(|a| a.line_id.0.as_u128() % 2 == 0);
    let last = after.order.lines.last().map(|line| env.adjustment(line, 9));
    after.adjustments.extend(last);
    let mut bill = env.bill(&after.order, BillKind::Bill, 2);
    bill.totals = Totals::of(1_000, 9, Currency::USD);
    let mut note = env.bill(&after.order, BillKind::CreditNote, 1);
    note.corrects = Some(before.bills[0].id);
    let paid = &mut after.bills[0];
    (paid.status, paid.payment_type) = (BillStatus::Paid, PaymentType::Card);
    paid.totals = Totals {
        shipping: usd(5),
        tax_added: usd(7),
        tax_included: usd(8),
        total: usd(2_000),
        ..Totals::of(1_998, 10, Currency::USD)
    };
    paid.audit.edited(env.now(), &env.actor);
    after.bills.extend([bill, note]);
    update(&env, storage, &before, &after).await.unwrap();
    assert_eq!(record(storage, before.order.id).await.as_ref(), Some(&after), "an update writes every difference");
    assert_eq!(record(storage, other.order.id).await.as_ref(), Some(&other), "other orders stay as they are");
    // An update without a difference writes the version and the entry of the history.
    let same = edited(&env, &after);
    update(&env, storage, &after, &same).await.unwrap();
    assert_eq!(record(storage, before.order.id).await.as_ref(), Some(&same));
    let mut bare = edited(&env, &same);
    bare.adjustments.clear();
    update(&env, storage, &same, &bare).await.unwrap();
    assert_eq!(record(storage, before.order.id).await.as_ref(), Some(&bare), "an update removes every discount");
    assert_eq!(read!(storage, orders.history(before.order.id)).len(), 4);
}

/// Discounts come by the position of the line and then by step, in whatever order they were made.
pub async fn discounts_are_read_by_the_position_of_their_line(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 3).await;
    let mut order = env.order();
    for product in &products {
        let line = env.order_line(&order.order, product, 2);
        order.order.lines.push(line);
    }
    let of = |line: usize, step: i32| {
        let made = env.adjustment(&order.order.lines[line], 1);
        crate::domain::sales::order::OrderAdjustment { step, ..made }
    };
    let (late, early) = ([of(2, 1), of(1, 2), of(1, 1)], [of(0, 2), of(0, 1)]);
    order.adjustments = late.iter().chain(&early).cloned().collect();
    env.insert_orders(storage, std::slice::from_ref(&order)).await.unwrap();
    let read = record(storage, order.order.id).await.unwrap().adjustments;
    let expected = [&early[1], &early[0], &late[2], &late[1], &late[0]].map(Clone::clone);
    assert_eq!(read, expected);
}

/// An update from an old version is refused before anything is written.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let order = env.order_of(&lamp, 2);
    env.insert_orders(storage, std::slice::from_ref(&order)).await.unwrap();
    let mut winner = edited(&env, &order);
    winner.order.tracking = Some("first".to_owned());
    update(&env, storage, &order, &winner).await.unwrap();
    let mut loser = edited(&env, &order);
    loser.order.tracking = Some("second".to_owned());
    loser.order.lines[0].canceled = 1;
    loser.adjustments = vec![env.adjustment(&order.order.lines[0], 1)];
    loser.bills.push(env.bill(&order.order, BillKind::Bill, 2));
    let refused = update(&env, storage, &order, &loser).await;
    assert_eq!(code_of(refused, "an update from an old version"), ErrorCode::VersionConflict);
    assert_eq!(record(storage, order.order.id).await, Some(winner), "the newer version stays");
    assert_eq!(read!(storage, orders.history(order.order.id)).len(), 2, "a refused update has no entry");
    // A bill has a version of its own.
    let mut stale = order.clone();
    stale.order.audit.version = 2;
    stale.bills[0].audit.version = 2;
    let mut after = edited(&env, &stale);
    after.bills[0].status = BillStatus::Paid;
    after.bills[0].audit.edited(env.now(), &env.actor);
    let refused = update(&env, storage, &stale, &after).await;
    assert_eq!(code_of(refused, "a bill of an old version"), ErrorCode::VersionConflict);
}

/// Every read hides soft-deleted orders, and reads that can include them return them.
pub async fn r02_soft_deleted_orders_are_hidden_unless_asked_for(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let (live, gone) = (env.order_of(&lamp, 1), env.order_of(&lamp, 1));
    env.insert_orders(storage, &[live.clone(), gone.clone()]).await.unwrap();
    let hidden = deleted(&env, &gone);
    update(&env, storage, &gone, &hidden).await.unwrap();
    assert_eq!(get(storage, gone.order.id).await, None, "`get` hides a soft-deleted order");
    let found = read!(storage, orders.get(gone.order.id, IncludeDeleted::Yes));
    assert_eq!(found.as_ref(), Some(&hidden.order), "`get` returns a soft-deleted order if it is asked to");
    for (include_deleted, expected) in
        [(IncludeDeleted::No, vec![live.order.clone()]), (IncludeDeleted::Yes, vec![hidden.order.clone(), live.order])]
    {
        for status in [None, Some(gone.order.status)] {
            let filter = OrderFilter { status, include_deleted, ..OrderFilter::default() };
            let listed = read!(storage, orders.list(&filter, OrderSort::PlacedDesc, &Paging::first(9))).items;
            assert_eq!(listed, expected, "{filter:?}");
            assert_eq!(read!(storage, orders.count(&filter, 9)).count, expected.len() as u64, "{filter:?}");
        }
    }
    let mut back = edited(&env, &hidden);
    back.order.audit.deleted_at = None;
    update(&env, storage, &hidden, &back).await.unwrap();
    assert_eq!(get(storage, gone.order.id).await, Some(back.order), "a restored order is shown again");
}

/// Entries are read oldest first.
pub async fn every_version_has_an_entry_in_the_history(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (mut order, other) = (env.order(), env.order());
    env.insert_orders(storage, &[order.clone(), other.clone()]).await.unwrap();
    let mut expected = vec![env.order_change(&order, ChangeKind::Placed)];
    for kind in ChangeKind::ALL {
        let after = edited(&env, &order);
        let change = env.order_change(&after, *kind);
        attempt!(storage, orders.update(&order, &after, &change)).unwrap();
        expected.push(change);
        order = after;
    }
    assert_eq!(read!(storage, orders.history(order.order.id)), expected);
    let entries = expected.len() as i64;
    let mut traces = read!(storage, orders.traces(&[order.order.id, OrderId(env.ids.next()), other.order.id]));
    traces.sort_unstable_by_key(|t| t.id);
    let last = expected.last().map(|change| change.to);
    let trace = |id, entries, status| OrderTrace { id, version: entries, entries, status, cart: None };
    let mut wanted = vec![trace(order.order.id, entries, last), trace(other.order.id, 1, Some(OrderStatus::Pending))];
    wanted.sort_unstable_by_key(|t| t.id);
    assert_eq!(traces, wanted, "`traces` returns the version, the number of entries and the last status");
    assert_eq!(read!(storage, orders.traces(&[])), []);
}

/// Soft-deleted orders are found too, since a cart makes one order for ever.
pub async fn orders_are_found_by_the_carts_that_they_were_made_from(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let from = |cart: CartId| {
        let mut record = env.order();
        record.order.cart_id = Some(cart);
        record
    };
    let carts: Vec<CartId> = (0..4).map(|_| CartId(env.ids.next())).collect();
    let orders = [from(carts[0]), deleted(&env, &from(carts[1])), from(carts[2]), env.order()];
    env.insert_orders(storage, &orders).await.unwrap();
    let mut found = read!(storage, orders.of_carts(&[carts[3], carts[1], carts[0]]));
    found.sort_unstable();
    let mut expected = vec![(carts[0], orders[0].order.id), (carts[1], orders[1].order.id)];
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(read!(storage, orders.of_carts(&[])), []);
}

/// Soft-deleted orders have their customers too, and orders of guests have none.
pub async fn the_customers_of_orders_are_read(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let ada = customer(&env, storage, "ada@example.com").await;
    let of_ada = || {
        let mut record = env.order();
        record.order.customer_id = Some(ada.id);
        record
    };
    let orders = [of_ada(), deleted(&env, &of_ada()), env.order()];
    env.insert_orders(storage, &orders).await.unwrap();
    let mut asked: Vec<OrderId> = orders.iter().map(|record| record.order.id).collect();
    asked.push(OrderId(env.ids.next()));
    let mut found = read!(storage, orders.customers(&asked));
    found.sort_unstable_by_key(|(id, _)| *id);
    let mut expected = vec![(asked[0], Some(ada.id)), (asked[1], Some(ada.id)), (asked[2], None)];
    expected.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(found, expected);
    assert_eq!(read!(storage, orders.customers(&[])), []);
}

/// Erased orders keep their numbers, lines, amounts, discounts and bills, and have an entry in their histories.
pub async fn r45_orders_of_a_customer_are_erased_in_parts(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let (ada, bob) =
        (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await);
    let full = |of: &Customer| {
        let mut record = env.full_order(of, &lamp);
        record.order.erased_at = None;
        record
    };
    let mut plain = env.order_of(&lamp, 1);
    plain.order.customer_id = Some(ada.id);
    let done = env.full_order(&ada, &lamp);
    let all = [full(&ada), deleted(&env, &full(&ada)), plain, done, full(&bob), env.order()];
    env.insert_orders(storage, &all).await.unwrap();
    let actor = Actor::new("user:eraser");
    let at = env.now();
    let mut parts = Vec::new();
    let mut statements = Vec::new();
    loop {
        let before = storage.statements();
        let part = attempt!(storage, orders.erase(ada.id, 2, at, &actor)).unwrap();
        statements.push(storage.statements() - before);
        parts.push(part.len());
        for (id, version) in &part {
            let before = all.iter().find(|r| r.order.id == *id).unwrap();
            assert_eq!(*version, before.order.audit.version + 1);
        }
        if part.len() < 2 {
            break;
        }
    }
    assert_eq!(parts, [2, 1], "an order is erased once, and those of others are not");
    assert_eq!(statements[0], statements[1], "the number of statements does not depend on the number of orders");
    for before in &all {
        let id = before.order.id;
        let found = record(storage, id).await.unwrap();
        let history = read!(storage, orders.history(id));
        if before.order.customer_id != Some(ada.id) || before.order.erased_at.is_some() {
            assert_eq!((&found, history.len()), (before, 1), "this order must not change");
            continue;
        }
        let mut expected = before.clone();
        let order = &mut expected.order;
        order.buyer = Buyer::default();
        (order.shipping_address, order.billing_address, order.tracking) = (None, None, None);
        (order.attributes, order.external) = (Attributes::default(), None);
        order.lines.iter_mut().for_each(|l| l.attributes = Attributes::default());
        order.erased_at = Some(at);
        order.audit.edited(at, &actor);
        assert_eq!(found, expected);
        let mut placed = env.order_change(before, ChangeKind::Placed);
        placed.data = json!({});
        let erased = OrderChange {
            seq: placed.seq + 1,
            kind: ChangeKind::Erased,
            from: Some(before.order.status),
            actor: actor.clone(),
            at,
            ..placed.clone()
        };
        assert_eq!(history, [placed, erased]);
    }
    let by_email = OrderFilter { include_deleted: IncludeDeleted::Yes, ..OrderFilter::default() };
    for email in [&ada.email, &all[2].order.buyer.email.clone().unwrap()] {
        let filter = OrderFilter { email: Some(email.clone()), ..by_email.clone() };
        let found = read!(storage, orders.list(&filter, OrderSort::PlacedDesc, &Paging::first(9))).items;
        assert!(found.iter().all(|o| o.erased_at != Some(at)), "no list finds an erased order by its email");
    }
    let of_ada = OrderFilter { customer: Some(ada.id), ..by_email };
    assert_eq!(read!(storage, orders.count(&of_ada, 9)).count, 4, "erased orders stay those of the customer");
}

fn of_guest(env: &Env, email: &str) -> OrderRecord {
    let mut record = env.order();
    record.order.buyer.email = Some(email.to_owned());
    record
}

/// The orders of others, of customers, and of addresses that only look alike stay as they are, and so do erased ones.
pub async fn r45_orders_of_guests_are_linked_to_a_customer_by_their_email(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let (ada, bob) = (customer(&env, storage, "ada@straße.de").await, customer(&env, storage, "bob@example.com").await);
    let full = |email: &str| {
        let mut record = env.full_order(&ada, &lamp);
        (record.order.customer_id, record.order.erased_at) = (None, None);
        record.order.buyer.email = Some(email.to_owned());
        record
    };
    let mut erased = full("ada@straße.de");
    erased.order.erased_at = Some(env.now());
    let mut own = of_guest(&env, "ada@straße.de");
    own.order.customer_id = Some(ada.id);
    let mut others = of_guest(&env, "ada@straße.de");
    others.order.customer_id = Some(bob.id);
    let all = [
        full("ada@straße.de"),
        deleted(&env, &full("Ada@STRAßE.de")),
        of_guest(&env, "ADA@straße.DE"),
        of_guest(&env, "ada@strasse.de"),
        of_guest(&env, "ada@STRASSE.de"),
        of_guest(&env, "grace@example.com"),
        erased,
        own,
        others,
    ];
    env.insert_orders(storage, &all).await.unwrap();
    let actor = Actor::new("user:ada");
    let at = env.now();
    let linked = attempt!(storage, orders.link("ada@straße.de", ada.id, at, &actor)).unwrap();
    let mut expected: Vec<_> = all[..3].iter().map(|r| (r.order.id, r.order.audit.version + 1)).collect();
    expected.sort_unstable();
    assert_eq!(linked, expected, "the orders are returned by id, with their new versions");
    for (n, before) in all.iter().enumerate() {
        let id = before.order.id;
        let (found, history) = (record(storage, id).await.unwrap(), read!(storage, orders.history(id)));
        if n >= 3 {
            assert_eq!((&found, history.len()), (before, 1), "order {n} must not change");
            continue;
        }
        let mut expected = before.clone();
        expected.order.customer_id = Some(ada.id);
        expected.order.audit.edited(at, &actor);
        assert_eq!(found, expected, "only the customer of order {n} changes");
        let placed = env.order_change(before, ChangeKind::Placed);
        let entry = OrderChange {
            seq: placed.seq + 1,
            kind: ChangeKind::Patched,
            from: Some(before.order.status),
            data: json!({ "customer_id": ada.id }),
            actor: actor.clone(),
            at,
            ..placed.clone()
        };
        assert_eq!(history, [placed, entry]);
    }
    assert_eq!(attempt!(storage, orders.link("ada@straße.de", bob.id, at, &actor)).unwrap(), [], "linked once");
    assert_eq!(attempt!(storage, orders.link("nobody@example.com", ada.id, at, &actor)).unwrap(), []);

    // Few orders and many of them need as many statements. The last address has more than one statement changes.
    let mut counted = Vec::new();
    for (n, count) in [2, 128, 700].into_iter().enumerate() {
        let email = format!("{n}@example.com");
        let orders: Vec<OrderRecord> = (0..count).map(|_| of_guest(&env, &email)).collect();
        env.insert_orders(storage, &orders).await.unwrap();
        let before = storage.statements();
        let linked = attempt!(storage, orders.link(&email, ada.id, at, &actor)).unwrap();
        counted.push(storage.statements() - before);
        assert_eq!(linked.len(), count);
    }
    assert_eq!(counted[0], counted[1], "the number of statements does not depend on the number of orders");
    let of_ada = OrderFilter { customer: Some(ada.id), ..OrderFilter::default() };
    assert_eq!(read!(storage, orders.count(&of_ada, 9_999)).count, 2 + 1 + 2 + 128 + 700);
}

/// Transactions that link the same orders wait for each other, and the later ones find none.
pub async fn r45_orders_that_are_linked_twice_at_once_are_linked_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (ada, bob) = (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "b@example.com").await);
    let all: Vec<OrderRecord> = (0..40).map(|_| of_guest(&env, "guest@example.com")).collect();
    env.insert_orders(storage, &all).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (storage, to, at) = (storage.clone(), if n % 2 == 0 { ada.id } else { bob.id }, env.now());
        tasks.spawn(async move {
            let actor = Actor::new("user:x");
            attempt!(&storage, orders.link("guest@example.com", to, at, &actor)).map(|linked| (to, linked.len()))
        });
    }
    let done = tasks.join_all().await;
    let linked: Vec<_> = done.into_iter().map(Result::unwrap).filter(|(_, linked)| *linked > 0).collect();
    let [(to, count)] = linked[..] else { panic!("one transaction links all orders: {linked:?}") };
    assert_eq!(count, 40);
    for before in &all {
        let found = record(storage, before.order.id).await.unwrap().order;
        assert_eq!((found.customer_id, found.audit.version), (Some(to), before.order.audit.version + 1));
        assert_eq!(read!(storage, orders.history(found.id)).len(), 2);
    }
}

/// Soft-deleted orders are among them.
pub async fn ids_are_read_in_chunks(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut orders: Vec<OrderRecord> = (0..9).map(|_| env.order()).collect();
    orders[4] = deleted(&env, &orders[4]);
    env.insert_orders(storage, &orders).await.unwrap();
    let mut expected: Vec<OrderId> = orders.iter().map(|r| r.order.id).collect();
    expected.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let chunk = read!(storage, orders.ids_after(after, 4));
        assert!(chunk.len() <= 4, "a chunk has at most `limit` ids");
        let Some(last) = chunk.last() else { break };
        after = Some(*last);
        found.extend(chunk);
    }
    assert_eq!(found, expected);
}

/// Lines without movements are left out.
pub async fn movements_are_summed_by_line(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 2).await;
    let mut order = env.order();
    for product in [&products[0], &products[1], &products[0]] {
        let line = env.order_line(&order.order, product, 5);
        order.order.lines.push(line);
    }
    let other = env.order_of(&products[0], 1);
    env.insert_orders(storage, &[order.clone(), other.clone()]).await.unwrap();
    let lines = &order.order.lines;
    let moved = |line: &OrderLine, delta: i64| crate::domain::stock::inventory::StockMovement {
        order_line_id: Some(line.id),
        ..env.movement(line.sku_id.unwrap(), delta)
    };
    let movements = [
        moved(&lines[0], -5),
        moved(&lines[2], -5),
        moved(&lines[0], 2),
        moved(&lines[2], 5),
        moved(&other.order.lines[0], -1),
        env.movement(products[0].skus[0].id, 7),
    ];
    attempt!(storage, inventory.apply(&movements)).unwrap();
    let mut found = read!(storage, orders.moved(&[order.order.id]));
    found.sort_unstable();
    let mut expected = vec![(lines[0].id, -3), (lines[2].id, 0)];
    expected.sort_unstable();
    assert_eq!(found, expected, "a line whose movements add up to 0 is among them");
    assert_eq!(read!(storage, orders.moved(&[])), []);
}

/// Writers lock two orders in different sequences. Each sees what the writer before it has written.
pub async fn the_lock_of_orders_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let (a, b) = (env.order_of(&lamp, 100), env.order_of(&lamp, 100));
    env.insert_orders(storage, &[a.clone(), b.clone()]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, mut ids) = (storage.clone(), [a.order.id, b.order.id]);
        if seed % 2 == 1 {
            ids.reverse();
        }
        tasks.spawn(async move {
            let env = Env::new(1_000 + seed);
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.orders().lock(&ids).await.unwrap();
            tokio::task::yield_now().await;
            for before in &locked {
                let mut after = edited(&env, before);
                after.order.lines[0].canceled += 1;
                after.bills.push(env.bill(&after.order, BillKind::Bill, before.bills.len() as i32 + 1));
                let change = env.order_change(&after, ChangeKind::Edited);
                uow.orders().update(before, &after, &change).await.unwrap();
            }
            uow.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    for id in [a.order.id, b.order.id] {
        let found = record(storage, id).await.unwrap();
        let order = &found.order;
        assert_eq!((order.lines[0].canceled, order.audit.version, found.bills.len()), (8, 9, 9), "no change is lost");
        assert_eq!(read!(storage, orders.history(id)).len(), 9);
    }
}

/// Reads, inserts and updates of 1 line and of 128 lines cost the same, and those of 1 order and of 128 orders.
pub async fn the_number_of_statements_does_not_depend_on_the_number_of_lines(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 1).await;
    let mut costs = Vec::new();
    for (orders, lines) in [(1, 1), (1, 128), (128, 1)] {
        let records: Vec<OrderRecord> = (0..orders)
            .map(|_| {
                let mut record = env.order();
                for _ in 0..lines {
                    let line = env.order_line(&record.order, &products[0], 2);
                    record.adjustments.push(env.adjustment(&line, 1));
                    record.order.lines.push(line);
                }
                record
            })
            .collect();
        let changes: Vec<_> = records.iter().map(|r| env.order_change(r, ChangeKind::Placed)).collect();
        let ids: Vec<OrderId> = records.iter().map(|r| r.order.id).collect();
        let mut uow = storage.begin().await.unwrap();
        let mut counts = vec![storage.statements()];
        uow.orders().insert(&records, &changes).await.unwrap();
        counts.push(storage.statements());
        uow.orders().get(ids[0], IncludeDeleted::No).await.unwrap();
        counts.push(storage.statements());
        let all = Paging::first(1_000);
        uow.orders().list(&OrderFilter::default(), OrderSort::default(), &all).await.unwrap();
        counts.push(storage.statements());
        uow.orders().records(&ids).await.unwrap();
        counts.push(storage.statements());
        uow.orders().lock(&ids).await.unwrap();
        counts.push(storage.statements());
        uow.orders().traces(&ids).await.unwrap();
        uow.orders().moved(&ids).await.unwrap();
        uow.orders().history(ids[0]).await.unwrap();
        uow.bills().of_order(ids[0], IncludeDeleted::No).await.unwrap();
        uow.bills().list(&BillFilter::default(), BillSort::default(), &all).await.unwrap();
        counts.push(storage.statements());
        let mut after = edited(&env, &records[0]);
        after.order.lines.iter_mut().take(32).for_each(|line| line.canceled = 1);
        after.adjustments.iter_mut().for_each(|a| a.amount = usd(2));
        after.bills[0].audit.edited(env.now(), &env.actor);
        let change = env.order_change(&after, ChangeKind::Edited);
        uow.orders().update(&records[0], &after, &change).await.unwrap();
        counts.push(storage.statements());
        uow.commit().await.unwrap();
        costs.push(counts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<u64>>());
    }
    assert_eq!(costs[0], costs[1], "1 line and 128 lines");
    assert_eq!(costs[0], costs[2], "1 order and 128 orders");
    assert_eq!(costs[0][..4], [5, 2, 2, 4], "an insert, a read, a page and the records of orders");
    assert_eq!(costs[0][5..], [5, 7], "five reads of one statement each, and an update that cancels units");
}
