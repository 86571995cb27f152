//! Bills and credit notes are read by id, number and order, and in lists.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::support::{customer, deleted, edited, products, update};
use crate::clock::Timestamp;
use crate::domain::common::IncludeDeleted;
use crate::domain::sales::bill::{Bill, BillFilter, BillKind, BillSort, BillStatus};
use crate::domain::sales::order::OrderRecord;
use crate::error::ErrorCode;
use crate::id::{BillId, IdSource as _, OrderId};
use crate::paging::{Keyset, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::code_of;
use crate::testkit::sample::Env;

tests! {
    __order_bills: [
        every_field_of_a_bill_survives_a_round_trip,
        a_bill_that_is_paid_keeps_its_number,
        r02_the_bills_of_a_deleted_order_hide_and_return_with_it,
        bills_are_found_by_every_filter,
        every_sort_pages_through_all_bills_exactly_once,
        a_cursor_of_another_list_of_bills_is_refused,
    ]
}

/// A bill is read by its id and by its number, and with the others of its order.
pub async fn every_field_of_a_bill_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let ada = customer(&env, storage, "ada@example.com").await;
    let (full, plain) = (env.full_order(&ada, &lamp), env.order());
    // The rows are not written in the order in which they are read.
    let mut shuffled = full.clone();
    shuffled.bills.reverse();
    shuffled.bills.sort_by_key(|b| b.corrects.is_some());
    env.insert_orders(storage, &[shuffled, plain.clone()]).await.unwrap();
    for record in [&full, &plain] {
        for bill in &record.bills {
            assert_eq!(
                read!(storage, bills.get(bill.id, IncludeDeleted::No)).as_ref(),
                Some(bill),
                "a bill is read as it was inserted"
            );
            let by_number = read!(storage, bills.get_by_number(&bill.number, IncludeDeleted::No));
            assert_eq!(by_number.as_ref(), Some(bill), "a bill is found by its number");
        }
        let of_order = read!(storage, bills.of_order(record.order.id, IncludeDeleted::No));
        assert_eq!(of_order, record.bills, "the bills come first, and then the credit notes, each by seq");
    }
    let all = IncludeDeleted::Yes;
    assert_eq!(read!(storage, bills.get(BillId(env.ids.next()), all)), None, "an unknown bill is not found");
    let lower = full.bills[0].number.to_lowercase();
    assert_eq!(read!(storage, bills.get_by_number(&lower, all)), None, "numbers are compared bytewise");
    assert_eq!(read!(storage, bills.of_order(OrderId(env.ids.next()), all)), [], "an unknown order has no bills");
}

/// An update changes the amounts, the payment type and the status of a bill.
pub async fn a_bill_that_is_paid_keeps_its_number(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let order = env.order();
    env.insert_orders(storage, std::slice::from_ref(&order)).await.unwrap();
    let mut after = edited(&env, &order);
    let bill = &mut after.bills[0];
    bill.status = BillStatus::Paid;
    bill.audit.edited(env.now(), &env.actor);
    update(&env, storage, &order, &after).await.unwrap();
    let number = &order.bills[0].number;
    assert_eq!(read!(storage, bills.get_by_number(number, IncludeDeleted::No)), after.bills.pop());
}

/// A bill is hidden while it has the time at which its order was deleted.
pub async fn r02_the_bills_of_a_deleted_order_hide_and_return_with_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let before = env.order();
    env.insert_orders(storage, std::slice::from_ref(&before)).await.unwrap();
    let gone = deleted(&env, &before);
    update(&env, storage, &before, &gone).await.unwrap();
    let mut back = edited(&env, &gone);
    back.order.audit.deleted_at = None;
    back.bills[0].audit.edited(env.now(), &env.actor);
    back.bills[0].audit.deleted_at = None;
    for (record, hidden) in [(&gone, true), (&back, false)] {
        let (bill, order) = (&record.bills[0], record.order.id);
        for deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
            let shown = (!hidden || deleted == IncludeDeleted::Yes).then(|| bill.clone());
            assert_eq!(read!(storage, bills.get(bill.id, deleted)), shown, "{deleted:?}");
            assert_eq!(read!(storage, bills.get_by_number(&bill.number, deleted)), shown, "{deleted:?}");
            let shown: Vec<Bill> = shown.into_iter().collect();
            assert_eq!(read!(storage, bills.of_order(order, deleted)), shown, "{deleted:?}");
            let filter = BillFilter { include_deleted: deleted, ..BillFilter::default() };
            let page = read!(storage, bills.list(&filter, BillSort::default(), &Paging::first(5)));
            assert_eq!(page.items, shown, "{deleted:?}");
            let count = Total { count: shown.len() as u64, exact: true };
            assert_eq!(read!(storage, bills.count(&filter, 10)), count, "{deleted:?}");
        }
        if hidden {
            assert_eq!(super::support::record(storage, order).await.as_ref(), Some(&gone), "a record has all bills");
            update(&env, storage, &gone, &back).await.unwrap();
        }
    }
}

/// Orders with bills and credit notes of every status, at few different dates.
fn orders(env: &Env, count: usize) -> Vec<OrderRecord> {
    let start = env.now();
    let date = |n: usize| start + Duration::from_secs(3_600 * (n as u64 * 7 % 5));
    (0..count)
        .map(|n| {
            let mut record = env.order();
            let note = Bill {
                corrects: Some(record.bills[0].id),
                status: BillStatus::ALL[(n + 1) % 3],
                date: date(n + 1),
                ..env.bill(&record.order, BillKind::CreditNote, 1)
            };
            (record.bills[0].status, record.bills[0].date) = (BillStatus::ALL[n % 3], date(n));
            record.bills.push(note);
            record
        })
        .collect()
}

fn sorted(mut bills: Vec<Bill>, sort: BillSort) -> Vec<Bill> {
    match sort {
        BillSort::DateAsc => bills.sort_by_key(|b| (b.date, b.id)),
        BillSort::DateDesc => bills.sort_by_key(|b| Reverse((b.date, b.id))),
    }
    bills
}

/// The filters can be combined, and a range of dates includes its beginning and not its end.
pub async fn bills_are_found_by_every_filter(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let orders = orders(&env, 24);
    env.insert_orders(storage, &orders).await.unwrap();
    let all: Vec<Bill> = orders.iter().flat_map(|r| r.bills.clone()).collect();
    let dates: Vec<Timestamp> = sorted(all.clone(), BillSort::DateAsc).iter().map(|b| b.date).collect();
    let ranges = [(None, None), (Some(dates[20]), None), (None, Some(dates[20])), (Some(dates[10]), Some(dates[40]))];
    let mut connection = storage.connect().await.unwrap();
    for order in [None, Some(orders[3].order.id), Some(OrderId(env.ids.next()))] {
        for kind in [None, Some(BillKind::Bill), Some(BillKind::CreditNote)] {
            for status in [None].into_iter().chain(BillStatus::ALL.iter().map(|s| Some(*s))) {
                for (from, until) in ranges {
                    let filter = BillFilter { order, kind, status, from, until, ..BillFilter::default() };
                    let matches = |b: &Bill| {
                        order.is_none_or(|o| b.order_id == o)
                            && kind.is_none_or(|k| b.kind == k)
                            && status.is_none_or(|s| b.status == s)
                            && from.is_none_or(|from| b.date >= from)
                            && until.is_none_or(|until| b.date < until)
                    };
                    let expected: Vec<Bill> = all.iter().filter(|b| matches(b)).cloned().collect();
                    let total = connection.bills().count(&filter, 1_000).await.unwrap();
                    assert_eq!(total, Total { count: expected.len() as u64, exact: true }, "{filter:?}");
                    let page = connection.bills().list(&filter, BillSort::DateDesc, &Paging::first(1_000)).await;
                    assert_eq!(page.unwrap().items, sorted(expected, BillSort::DateDesc), "{filter:?}");
                }
            }
        }
    }
}

/// Pages by cursor and by offset, of several sizes, together contain every bill once. Many bills have the same date.
pub async fn every_sort_pages_through_all_bills_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let orders = orders(&env, 20);
    env.insert_orders(storage, &orders).await.unwrap();
    let all: Vec<Bill> = orders.iter().flat_map(|r| r.bills.clone()).collect();
    let notes: Vec<Bill> = all.iter().filter(|b| b.kind == BillKind::CreditNote).cloned().collect();
    for sort in BillSort::ALL {
        for (filter, all) in [
            (BillFilter::default(), &all),
            (BillFilter { kind: Some(BillKind::CreditNote), ..BillFilter::default() }, &notes),
        ] {
            let expected = sorted(all.clone(), *sort);
            for limit in [1, 7, 20, 1_000] {
                let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let page = read!(storage, bills.list(&filter, *sort, &Paging::Keyset { after, limit }));
                    by_cursor.extend(page.items);
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(by_cursor, expected, "{filter:?}: pages of {limit} by cursor");
                let mut by_offset = Vec::new();
                while by_offset.len() < expected.len() {
                    let paging = Paging::Offset { offset: by_offset.len() as u64, limit };
                    let page = read!(storage, bills.list(&filter, *sort, &paging));
                    assert!(!page.items.is_empty(), "a page before the end is not empty");
                    by_offset.extend(page.items);
                }
                assert_eq!(by_offset, expected, "{filter:?}: pages of {limit} by offset");
            }
        }
    }
}

/// The key of a cursor is a time.
pub async fn a_cursor_of_another_list_of_bills_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keyset = Keyset { sort: "date_desc".to_owned(), key: SortKey::Id, id: env.ids.next() };
    let paging = Paging::Keyset { after: Some(keyset), limit: 5 };
    let mut connection = storage.connect().await.unwrap();
    let refused = connection.bills().list(&BillFilter::default(), BillSort::DateDesc, &paging).await;
    assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation);
}
