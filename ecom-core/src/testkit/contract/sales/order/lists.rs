//! Lists of orders filter, sort and page.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::support::{customer, deleted, products};
use crate::clock::Timestamp;
use crate::domain::common::IncludeDeleted;
use crate::domain::sales::bill::BillFilter;
use crate::domain::sales::order::{
    DeliveryMethod, Order, OrderFilter, OrderRecord, OrderSort, OrderStatus, PostalAddress,
};
use crate::error::ErrorCode;
use crate::id::{CustomerId, IdSource as _, SkuId};
use crate::paging::{Keyset, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::code_of;
use crate::testkit::sample::Env;
use crate::text::fold_key;

tests! {
    __order_lists: [
        orders_are_found_by_every_filter,
        every_sort_pages_through_all_orders_exactly_once,
        orders_that_come_and_go_move_no_cursor,
        a_cursor_of_another_list_is_refused,
        counts_stop_at_their_bound,
    ]
}

/// Sets the time at which an order was placed.
fn placed(mut record: OrderRecord, at: Timestamp) -> OrderRecord {
    record.order.placed_at = at;
    record
}

fn sorted(mut orders: Vec<Order>, sort: OrderSort) -> Vec<Order> {
    match sort {
        OrderSort::PlacedAsc => orders.sort_by_key(|o| (o.placed_at, o.id)),
        OrderSort::PlacedDesc => orders.sort_by_key(|o| Reverse((o.placed_at, o.id))),
    }
    orders
}

async fn walk(storage: &Arc<dyn Storage>, filter: &OrderFilter, sort: OrderSort, limit: u32) -> Vec<Order> {
    let (mut found, mut after) = (Vec::new(), None::<Keyset>);
    let mut pages = Pages::over(1_000);
    loop {
        pages.turn();
        let page = read!(storage, orders.list(filter, sort, &Paging::Keyset { after, limit }));
        assert!(page.items.len() <= limit as usize, "a page has at most `limit` orders");
        found.extend(page.items);
        let Some(next) = page.next else { return found };
        let decoded = Keyset::decode(&next.encode(), sort.as_str()).unwrap();
        assert_eq!(decoded, next, "a decoded cursor must equal the one that was encoded");
        after = Some(next);
    }
}

/// The filters can be combined. Emails are compared by their folded keys, and a range of times includes its beginning
/// and not its end.
pub async fn orders_are_found_by_every_filter(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 3).await;
    let customers =
        [customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await];
    let start = env.now();
    let hour = |n: u64| start + Duration::from_secs(3_600 * n);
    let mut all = Vec::new();
    let emails = ["Straße@example.com", "STRASSE@example.com", "zoë@example.com"];
    for n in 0..48_usize {
        let mut record = env.order();
        // Lists do not sort by id.
        record.order.placed_at = hour((n as u64 * 7) % 5);
        record.order.customer_id = customers.get(n % 3).map(|c| c.id);
        record.order.buyer.email = Some(emails[n % 4 % 3].to_owned());
        record.order.status = OrderStatus::ALL[n % 4];
        record.order.canceled_at = (record.order.status == OrderStatus::Canceled).then(|| hour(9));
        record.order.delivery_method = DeliveryMethod::ALL[n / 4 % 3];
        record.order.shipping_address =
            Some(PostalAddress { street: "S".to_owned(), city: "C".to_owned(), ..PostalAddress::default() });
        for product in &products[..n % 3] {
            // A SKU may be on several lines of one order.
            for _ in 0..=n % 2 {
                let line = env.order_line(&record.order, product, 1);
                record.order.lines.push(line);
            }
        }
        if n % 5 == 4 {
            record = deleted(&env, &record);
        }
        all.push(record);
    }
    env.insert_orders(storage, &all).await.unwrap();
    let none = OrderFilter::default;
    let mut filters = vec![none()];
    for customer in [customers[0].id, CustomerId(env.ids.next())] {
        filters.push(OrderFilter { customer: Some(customer), ..none() });
    }
    for email in ["straSSe@EXAMPLE.com", "zoe@example.com", "ZOË@example.com", "%"] {
        filters.push(OrderFilter { email: Some(email.to_owned()), ..none() });
    }
    filters.extend(OrderStatus::ALL.iter().map(|s| OrderFilter { status: Some(*s), ..none() }));
    filters.extend(DeliveryMethod::ALL.iter().map(|m| OrderFilter { delivery_method: Some(*m), ..none() }));
    for sku in [products[0].skus[0].id, products[1].skus[0].id, products[2].skus[0].id, SkuId(env.ids.next())] {
        filters.push(OrderFilter { sku: Some(sku), ..none() });
    }
    for (from, until) in [(Some(1), None), (None, Some(3)), (Some(1), Some(3)), (Some(2), Some(2)), (Some(9), None)] {
        filters.push(OrderFilter { from: from.map(hour), until: until.map(hour), ..none() });
    }
    // Each pair of filters, and the filters alone.
    let mut pairs = Vec::new();
    for a in &filters {
        for b in &filters {
            pairs.push(OrderFilter {
                customer: a.customer.or(b.customer),
                email: a.email.clone().or_else(|| b.email.clone()),
                status: a.status.or(b.status),
                delivery_method: a.delivery_method.or(b.delivery_method),
                sku: a.sku.or(b.sku),
                from: a.from.or(b.from),
                until: a.until.or(b.until),
                include_deleted: IncludeDeleted::No,
            });
        }
    }
    pairs.dedup();
    let mut connection = storage.connect().await.unwrap();
    for filter in pairs {
        for include_deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
            let filter = OrderFilter { include_deleted, ..filter.clone() };
            let matches = |o: &Order| {
                (include_deleted == IncludeDeleted::Yes || o.audit.is_live())
                    && filter.customer.is_none_or(|c| o.customer_id == Some(c))
                    && filter.email.as_ref().is_none_or(|e| fold_key(o.buyer.email.as_ref().unwrap()) == fold_key(e))
                    && filter.status.is_none_or(|s| o.status == s)
                    && filter.delivery_method.is_none_or(|m| o.delivery_method == m)
                    && filter.sku.is_none_or(|s| o.lines.iter().any(|l| l.sku_id == Some(s)))
                    && filter.from.is_none_or(|from| o.placed_at >= from)
                    && filter.until.is_none_or(|until| o.placed_at < until)
            };
            let expected: Vec<Order> = all.iter().map(|r| r.order.clone()).filter(matches).collect();
            let count = connection.orders().count(&filter, 1_000).await.unwrap();
            assert_eq!(count, Total { count: expected.len() as u64, exact: true }, "{filter:?}");
            let page = connection.orders().list(&filter, OrderSort::PlacedDesc, &Paging::first(1_000)).await.unwrap();
            assert_eq!(page.next, None, "{filter:?}");
            assert_eq!(page.items, sorted(expected, OrderSort::PlacedDesc), "{filter:?}");
        }
    }
}

/// Pages by cursor and by offset, of several sizes, together contain every order once. Many orders were placed at the
/// same time, and follow each other by id.
pub async fn every_sort_pages_through_all_orders_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 1).await;
    let ada = customer(&env, storage, "ada@example.com").await;
    let start = env.now();
    let all: Vec<OrderRecord> = (0..50_u64)
        .map(|n| {
            let mut record = placed(env.order_of(&products[0], 1), start + Duration::from_secs((n * 37 % 50) / 12));
            record.order.customer_id = (n % 2 == 0).then_some(ada.id);
            record
        })
        .collect();
    env.insert_orders(storage, &all).await.unwrap();
    let all: Vec<Order> = all.into_iter().map(|r| r.order).collect();
    let of_ada: Vec<Order> = all.iter().filter(|o| o.customer_id.is_some()).cloned().collect();
    for sort in OrderSort::ALL {
        for (filter, all) in [
            (OrderFilter::default(), &all),
            (OrderFilter { include_deleted: IncludeDeleted::Yes, ..OrderFilter::default() }, &all),
            (OrderFilter { status: Some(OrderStatus::Pending), ..OrderFilter::default() }, &all),
            (OrderFilter { sku: Some(products[0].skus[0].id), ..OrderFilter::default() }, &all),
            (OrderFilter { customer: Some(ada.id), ..OrderFilter::default() }, &of_ada),
        ] {
            let expected = sorted(all.clone(), *sort);
            for limit in [1, 7, 25, 1_000] {
                assert_eq!(
                    walk(storage, &filter, *sort, limit).await,
                    expected,
                    "{filter:?}: pages of {limit} by cursor"
                );
                let mut by_offset = Vec::new();
                while by_offset.len() < expected.len() {
                    let paging = Paging::Offset { offset: by_offset.len() as u64, limit };
                    let page = read!(storage, orders.list(&filter, *sort, &paging));
                    assert!(!page.items.is_empty(), "a page before the end is not empty");
                    by_offset.extend(page.items);
                    assert_eq!(page.next.is_some(), by_offset.len() < expected.len(), "whether there is a next page");
                }
                assert_eq!(by_offset, expected, "{filter:?}: pages of {limit} by offset");
            }
        }
    }
    let beyond = read!(
        storage,
        orders.list(&OrderFilter::default(), OrderSort::PlacedAsc, &Paging::Offset { offset: 50, limit: 5 })
    );
    assert_eq!((beyond.items, beyond.next), (Vec::new(), None), "a page beyond the end is empty");
}

/// An order that is placed or deleted between two pages moves none of the others.
pub async fn orders_that_come_and_go_move_no_cursor(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let at = env.now();
    let all: Vec<OrderRecord> = (0..10).map(|_| placed(env.order(), at)).collect();
    env.insert_orders(storage, &all).await.unwrap();
    let expected = sorted(all.iter().map(|r| r.order.clone()).collect(), OrderSort::PlacedDesc);
    let page = read!(storage, orders.list(&OrderFilter::default(), OrderSort::PlacedDesc, &Paging::first(4)));
    assert_eq!(page.items, expected[..4]);
    // The last order of the page goes, and a new one comes first.
    let last = all.iter().find(|r| r.order.id == expected[3].id).unwrap();
    super::support::update(&env, storage, last, &deleted(&env, last)).await.unwrap();
    env.insert_orders(storage, &[env.order()]).await.unwrap();
    let paging = Paging::Keyset { after: page.next, limit: 100 };
    let rest = read!(storage, orders.list(&OrderFilter::default(), OrderSort::PlacedDesc, &paging));
    assert_eq!(rest.items, expected[4..]);
}

/// The key of a cursor is a time.
pub async fn a_cursor_of_another_list_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for key in [SortKey::Id, SortKey::Text("a".to_owned()), SortKey::Int(i64::MAX)] {
        let keyset = Keyset { sort: "placed_desc".to_owned(), key: key.clone(), id: env.ids.next() };
        let paging = Paging::Keyset { after: Some(keyset), limit: 5 };
        let mut connection = storage.connect().await.unwrap();
        let refused = connection.orders().list(&OrderFilter::default(), OrderSort::PlacedDesc, &paging).await;
        assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation, "{key:?}");
    }
}

/// A count above the bound is the bound, and not exact.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    env.insert_orders(storage, &[env.order(), env.order(), env.order()]).await.unwrap();
    for (bound, count, exact) in [(2, 2, false), (3, 3, true), (10, 3, true)] {
        assert_eq!(read!(storage, orders.count(&OrderFilter::default(), bound)), Total { count, exact });
        assert_eq!(read!(storage, bills.count(&BillFilter::default(), bound)), Total { count, exact });
    }
}
