//! Lists of orders filter, sort and page.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::support::{customer, deleted, products};
use crate::clock::Timestamp;
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::sales::bill::BillFilter;
use crate::domain::sales::customer::Customer;
use crate::domain::sales::order::{
    DeliveryMethod, LineKind, Order, OrderFilter, OrderLine, OrderLineFilter, OrderRecord, OrderSort, OrderStatus,
    PostalAddress, Totals,
};
use crate::error::ErrorCode;
use crate::id::{CustomerId, IdSource as _, OrderId, ProductId, SkuId};
use crate::money::Currency;
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
        lines_are_found_by_every_filter,
        every_sort_pages_through_all_lines_exactly_once,
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
                    && filter.sku.is_none_or(|s| o.lines.iter().any(|l| l.quantity > 0 && l.sku_id == Some(s)))
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
        let refused = connection.orders().lines(&OrderLineFilter::default(), OrderSort::PlacedDesc, &paging).await;
        assert_eq!(code_of(refused, "a cursor of another list of lines"), ErrorCode::Validation, "{key:?}");
    }
}

/// A count above the bound is the bound, and not exact.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = products(&env, storage, 1).await.remove(0);
    let order = || env.order_of(&lamp, 1);
    env.insert_orders(storage, &[order(), order(), order()]).await.unwrap();
    for (bound, count, exact) in [(2, 2, false), (3, 3, true), (10, 3, true)] {
        assert_eq!(read!(storage, orders.count(&OrderFilter::default(), bound)), Total { count, exact });
        assert_eq!(read!(storage, bills.count(&BillFilter::default(), bound)), Total { count, exact });
        let lines = read!(storage, orders.count_lines(&OrderLineFilter::default(), bound));
        assert_eq!(lines, Total { count, exact });
    }
}

/// Returns orders of 0 to 2 lines of these products, placed at few different times, and with them lines that were
/// removed and lines that sell no SKU.
fn with_lines(env: &Env, products: &[Product], customers: &[Customer], count: usize) -> Vec<OrderRecord> {
    let start = env.now();
    let orders = (0..count).map(|n| {
        let mut record = placed(env.order(), start + Duration::from_secs((n as u64 * 7) % 5 * 3_600));
        record.order.customer_id = customers.get(n % 3).map(|c| c.id);
        record.order.status = OrderStatus::ALL[n % 4];
        record.order.canceled_at = (record.order.status == OrderStatus::Canceled).then_some(start);
        for product in &products[..n % 3] {
            // A SKU may be on several lines of one order.
            for _ in 0..=n % 2 {
                let line = env.order_line(&record.order, product, 1);
                record.order.lines.push(line);
            }
        }
        if n % 6 == 1 {
            let line = &mut record.order.lines[0];
            (line.quantity, line.totals) = (0, Totals::of(0, 0, Currency::USD));
        }
        if n % 7 == 3 {
            let fee = env.order_line(&record.order, &products[0], 1);
            let fee = OrderLine { kind: LineKind::Fee, sku_id: None, product_id: None, code: None, ..fee };
            record.order.lines.push(fee);
        }
        if n % 5 == 4 { deleted(env, &record) } else { record }
    });
    orders.collect()
}

fn sorted_lines(mut lines: Vec<OrderLine>, sort: OrderSort) -> Vec<OrderLine> {
    match sort {
        OrderSort::PlacedAsc => lines.sort_by_key(|l| (l.placed_at, l.id)),
        OrderSort::PlacedDesc => lines.sort_by_key(|l| Reverse((l.placed_at, l.id))),
    }
    lines
}

/// The filters can be combined. Lines that were removed are left out, and lines of soft-deleted orders unless they are
/// asked for.
pub async fn lines_are_found_by_every_filter(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 3).await;
    let customers =
        [customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await];
    let all = with_lines(&env, &products, &customers, 60);
    env.insert_orders(storage, &all).await.unwrap();
    let mut times: Vec<Timestamp> = all.iter().map(|r| r.order.placed_at).collect();
    times.sort_unstable();
    times.dedup();
    let none = OrderLineFilter::default;
    let mut filters = vec![none()];
    for order in [all[11].order.id, all[14].order.id, OrderId(env.ids.next())] {
        filters.push(OrderLineFilter { order: Some(order), ..none() });
    }
    for sku in [products[0].skus[0].id, products[1].skus[0].id, products[2].skus[0].id, SkuId(env.ids.next())] {
        filters.push(OrderLineFilter { sku: Some(sku), ..none() });
    }
    for product in [products[1].id, ProductId(env.ids.next())] {
        filters.push(OrderLineFilter { product: Some(product), ..none() });
    }
    for customer in [customers[0].id, CustomerId(env.ids.next())] {
        filters.push(OrderLineFilter { customer: Some(customer), ..none() });
    }
    filters.extend(OrderStatus::ALL.iter().map(|s| OrderLineFilter { status: Some(*s), ..none() }));
    for (from, until) in [(Some(1), None), (None, Some(3)), (Some(1), Some(3)), (Some(2), Some(2))] {
        let (from, until) = (from.map(|n: usize| times[n]), until.map(|n: usize| times[n]));
        filters.push(OrderLineFilter { from, until, ..none() });
    }
    let mut connection = storage.connect().await.unwrap();
    for a in &filters {
        for b in &filters {
            for include_deleted in [IncludeDeleted::No, IncludeDeleted::Yes] {
                let filter = OrderLineFilter {
                    order: a.order.or(b.order),
                    sku: a.sku.or(b.sku),
                    product: a.product.or(b.product),
                    customer: a.customer.or(b.customer),
                    status: a.status.or(b.status),
                    from: a.from.or(b.from),
                    until: a.until.or(b.until),
                    include_deleted,
                };
                let of_order = |o: &Order| {
                    (include_deleted == IncludeDeleted::Yes || o.audit.is_live())
                        && filter.order.is_none_or(|id| o.id == id)
                        && filter.customer.is_none_or(|c| o.customer_id == Some(c))
                        && filter.status.is_none_or(|s| o.status == s)
                        && filter.from.is_none_or(|from| o.placed_at >= from)
                        && filter.until.is_none_or(|until| o.placed_at < until)
                };
                let matches = |l: &&OrderLine| {
                    l.quantity > 0
                        && filter.sku.is_none_or(|s| l.sku_id == Some(s))
                        && filter.product.is_none_or(|p| l.product_id == Some(p))
                };
                let orders = all.iter().map(|r| &r.order).filter(|o| of_order(o));
                let expected: Vec<OrderLine> = orders.flat_map(|o| &o.lines).filter(matches).cloned().collect();
                let count = connection.orders().count_lines(&filter, 1_000).await.unwrap();
                assert_eq!(count, Total { count: expected.len() as u64, exact: true }, "{filter:?}");
                let paging = Paging::first(1_000);
                let page = connection.orders().lines(&filter, OrderSort::PlacedDesc, &paging).await.unwrap();
                assert_eq!(page.next, None, "{filter:?}");
                assert_eq!(page.items, sorted_lines(expected, OrderSort::PlacedDesc), "{filter:?}");
            }
        }
    }
}

/// Pages by cursor and by offset, of several sizes, together contain every line once, and each is one statement. Many
/// orders were placed at the same time, and have several lines.
pub async fn every_sort_pages_through_all_lines_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = products(&env, storage, 2).await;
    let ada = customer(&env, storage, "ada@example.com").await;
    let all = with_lines(&env, &products, std::slice::from_ref(&ada), 60);
    env.insert_orders(storage, &all).await.unwrap();
    let orders = all.iter().map(|r| &r.order).filter(|o| o.audit.is_live());
    let lines: Vec<OrderLine> = orders.flat_map(|o| o.lines.clone()).filter(|l| l.quantity > 0).collect();
    let sku = products[1].skus[0].id;
    let of_sku: Vec<OrderLine> = lines.iter().filter(|l| l.sku_id == Some(sku)).cloned().collect();
    let own: Vec<OrderId> = all.iter().filter(|r| r.order.customer_id.is_some()).map(|r| r.order.id).collect();
    let of_ada: Vec<OrderLine> = lines.iter().filter(|l| own.contains(&l.order_id)).cloned().collect();
    for sort in OrderSort::ALL {
        for (filter, lines) in [
            (OrderLineFilter::default(), &lines),
            (OrderLineFilter { sku: Some(sku), ..OrderLineFilter::default() }, &of_sku),
            (OrderLineFilter { product: Some(products[1].id), ..OrderLineFilter::default() }, &of_sku),
            (OrderLineFilter { customer: Some(ada.id), ..OrderLineFilter::default() }, &of_ada),
        ] {
            let expected = sorted_lines(lines.clone(), *sort);
            for limit in [1, 7, 25, 1_000] {
                let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
                let mut pages = Pages::over(expected.len());
                loop {
                    pages.turn();
                    let before = storage.statements();
                    let page = read!(storage, orders.lines(&filter, *sort, &Paging::Keyset { after, limit }));
                    assert_eq!(storage.statements() - before, 1, "a page is one statement");
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
                    let page = read!(storage, orders.lines(&filter, *sort, &paging));
                    assert!(!page.items.is_empty(), "a page before the end is not empty");
                    by_offset.extend(page.items);
                    assert_eq!(page.next.is_some(), by_offset.len() < expected.len(), "whether there is a next page");
                }
                assert_eq!(by_offset, expected, "{filter:?}: pages of {limit} by offset");
            }
        }
    }
}
