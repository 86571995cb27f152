//! The contract of [`AnalyticsRepository`](crate::port::AnalyticsRepository).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use uuid::Uuid;

use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::platform::analytics::{
    AnalyticsState, CreatedCarts, DayFigures, DayRange, DaySales, Funnel, LowStockSku, ProductDay, ProductSales,
    ProductSalesSort, ProductViews,
};
use crate::domain::sales::order::Totals;
use crate::error::ErrorCode;
use crate::id::ProductId;
use crate::money::Currency;
use crate::paging::{Keyset, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::{Pages, holds, same};
use crate::testkit::code_of;
use crate::testkit::sample::{Env, usd};

suite! {
    /// Runs the suite of [`AnalyticsRepository`](crate::port::AnalyticsRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    analytics_suite, analytics: fixture => &fixture.storage, __analytics_tests: [
        the_state_is_stored_whole_and_its_version_is_claimed_once,
        r46_the_figures_of_a_day_are_replaced_as_a_whole,
        r46_top_products_have_the_figures_of_the_range_whatever_was_rolled_up,
        r46_days_that_are_years_apart_are_rolled_up,
        r46_top_products_are_sorted_by_what_is_left_and_page_both_ways,
        r46_figures_are_computed_from_the_orders_of_a_time,
        r46_views_and_carts_add_up,
        skus_that_are_low_in_stock_page_both_ways,
    ]
}

const UNITS: ProductSalesSort = ProductSalesSort::Units;
const REVENUE: ProductSalesSort = ProductSalesSort::Revenue;
/// Up to how many products are counted.
const BOUND: u64 = 100;

/// The figures of products, by day.
type Figures = BTreeMap<NaiveDate, Vec<ProductDay>>;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn range(from: &str, to: &str) -> DayRange {
    DayRange { from: day(from), to: day(to) }
}

fn none() -> DaySales {
    DaySales::none(Currency::USD)
}

/// Returns what was sold of a product on a day, and what was canceled: units and amounts.
fn sold(product: &Product, placed: (i64, i64), canceled: (i64, i64)) -> ProductDay {
    let (units, canceled_units) = (placed.0, canceled.0);
    let (revenue, canceled) = (usd(placed.1), usd(canceled.1));
    ProductDay { product_id: product.id, units, revenue, canceled_units, canceled }
}

/// Returns the figures of a day with these products.
fn figures(products: &[ProductDay]) -> DayFigures {
    let sum = |of: fn(&ProductDay) -> i64| products.iter().map(of).sum::<i64>();
    let sales = DaySales {
        orders: u64::from(!products.is_empty()),
        checkouts: 0,
        units: sum(|p| p.units),
        placed: Totals::of(sum(|p| p.revenue.minor()), 0, Currency::USD),
        canceled_units: sum(|p| p.canceled_units),
        canceled: Totals::of(sum(|p| p.canceled.minor()), 0, Currency::USD),
    };
    DayFigures { sales, products: products.to_vec() }
}

async fn replace(storage: &Arc<dyn Storage>, on: NaiveDate, figures: &DayFigures) {
    attempt!(storage, analytics.replace(on, figures)).unwrap();
}

async fn top(storage: &Arc<dyn Storage>, range: &DayRange, sort: ProductSalesSort) -> Vec<ProductSales> {
    read!(storage, analytics.top_products(range, sort, &Paging::first(1_000), BOUND)).0.items
}

/// Stores some products.
async fn products(storage: &Arc<dyn Storage>, number: usize) -> Vec<Product> {
    let env = Env::default();
    let all: Vec<Product> = (0..number).map(|n| env.priced(&format!("Product {n}"), 100, 50)).collect();
    env.insert_products(storage, &all).await.unwrap();
    all
}

/// Returns positions of other lists, whose keys have other types.
fn of_other_lists() -> [Paging; 2] {
    [SortKey::Text("a".to_owned()), SortKey::Id].map(|key| {
        let after = Keyset { sort: UNITS.as_str().to_owned(), key, id: Uuid::nil() };
        Paging::Keyset { after: Some(after), limit: 10 }
    })
}

/// Returns what the list must have for a range.
fn expected(all: &Figures, products: &[Product], range: &DayRange, sort: ProductSalesSort) -> Vec<ProductSales> {
    let mut sums: BTreeMap<ProductId, ProductSales> = BTreeMap::new();
    for of in all.range(range.from..=range.to).flat_map(|(_, rows)| rows) {
        let sum = sums.entry(of.product_id).or_insert_with(|| ProductSales {
            product_id: of.product_id,
            title: products.iter().find(|p| p.id == of.product_id).unwrap().title.clone(),
            units: 0,
            revenue: usd(0),
            canceled_units: 0,
            canceled: usd(0),
            views: 0,
        });
        sum.units += of.units;
        sum.revenue = usd(sum.revenue.minor() + of.revenue.minor());
        sum.canceled_units += of.canceled_units;
        sum.canceled = usd(sum.canceled.minor() + of.canceled.minor());
    }
    let mut list: Vec<ProductSales> = sums.into_values().collect();
    list.sort_by_key(|product| (Reverse(sort.figure(product)), product.product_id));
    list
}

/// A new database has no orders, so that no rebuild is required. A claim that is rolled back has not happened.
pub async fn the_state_is_stored_whole_and_its_version_is_claimed_once(storage: &Arc<dyn Storage>) {
    let new = read!(storage, analytics.state());
    let contract = "A new database has the time zone UTC and requires no rebuild.";
    same((new.time_zone.as_str(), new.is_complete()), ("UTC", true), contract, "a new database");
    same(attempt!(storage, analytics.lock()).unwrap(), new.clone(), "`lock` returns the state.", "a new database");
    let after = AnalyticsState {
        time_zone: "America/Argentina/ComodRivadavia".to_owned(),
        version: new.version + 5,
        requested: new.requested + 3,
        built: new.built + 1,
    };
    attempt!(storage, analytics.update(&after)).unwrap();
    same(read!(storage, analytics.state()), after.clone(), "The state is read as it was written.", "after the update");
    let contract = "`claim` moves the version on by one, and returns false if the state has another version.";
    let first = after.version;
    for (version, claimed) in [(first, true), (first, false), (first + 2, false), (first + 1, true)] {
        same(attempt!(storage, analytics.claim(version)).unwrap(), claimed, contract, version - first);
    }
    let mut tx = storage.begin().await.unwrap();
    holds(tx.analytics().claim(first + 2).await.unwrap(), contract, "in a transaction");
    tx.rollback().await.unwrap();
    let claimed = AnalyticsState { version: first + 2, ..after };
    same(read!(storage, analytics.state()), claimed, contract, "after a rollback");
}

/// Writes all figures, then others, then none, and some in a transaction that is rolled back.
pub async fn r46_the_figures_of_a_day_are_replaced_as_a_whole(storage: &Arc<dyn Storage>) {
    let contract = "The figures of a day are those that were written last.";
    let shelf = products(storage, 3).await;
    let totals = |n: i64| Totals {
        shipping: usd(n + 1),
        tax_added: usd(n + 2),
        tax_included: usd(n + 3),
        total: usd(3_000_000_000_000 + n),
        ..Totals::of(n + 4, n + 5, Currency::USD)
    };
    let every = DaySales {
        orders: 21,
        checkouts: 22,
        units: 23,
        placed: totals(30),
        canceled_units: 24,
        canceled: Totals { shipping: usd(0), ..totals(40) },
    };
    let [first, second, last] = ["2026-01-31", "2026-02-01", "9999-12-31"].map(day);
    let written = DayFigures { sales: every, products: vec![sold(&shelf[0], (1, 2), (3, 4))] };
    replace(storage, second, &written).await;
    for (on, sales) in [(first, every), (last, DaySales { orders: 1, ..none() })] {
        replace(storage, on, &DayFigures { sales, products: Vec::new() }).await;
    }
    let stored = async |from, to| read!(storage, analytics.sales(&DayRange { from, to }));
    same(stored(first, second).await, [(first, every), (second, every)], contract, "two days");
    same(stored(second, second).await, [(second, every)], contract, "one day");
    same(stored(last, last).await.len(), 1, contract, "the last day that there is");
    let changed =
        [sold(&shelf[0], (7, 700), (0, 0)), sold(&shelf[1], (5, 500), (5, 500)), sold(&shelf[2], (0, 0), (1, 9))];
    let all = Figures::from([(second, changed.to_vec())]);
    let one_day = DayRange { from: second, to: second };
    // The second time, nothing changes.
    for _ in 0..2 {
        replace(storage, second, &figures(&changed)).await;
        same(stored(second, second).await, [(second, figures(&changed).sales)], contract, "after a change");
        same(top(storage, &one_day, UNITS).await, expected(&all, &shelf, &one_day, UNITS), contract, "the products");
    }
    let nothing = DayFigures { sales: none(), products: Vec::new() };
    let mut tx = storage.begin().await.unwrap();
    tx.analytics().replace(second, &nothing).await.unwrap();
    tx.rollback().await.unwrap();
    same(top(storage, &one_day, UNITS).await.len(), 3, contract, "after a rollback");
    let next = async |from| read!(storage, analytics.next_day(from));
    same((next(first).await, next(second).await), (Some(first), Some(second)), "`next_day` has its day.", "with sales");
    replace(storage, second, &nothing).await;
    same(stored(first, second).await, [(first, every)], contract, "without figures");
    same(top(storage, &one_day, UNITS).await, Vec::<ProductSales>::new(), contract, "without figures");
    same(next(second).await, Some(last), "`next_day` leaves out days without figures.", "the second of three days");
}

/// Compares the list with the sum of the days of each range.
async fn compare(
    storage: &Arc<dyn Storage>,
    all: &Figures,
    products: &[Product],
    ranges: &[(&str, &str)],
    about: &str,
) {
    let contract = "The list has the sums of the figures of the days of its range.";
    for (from, to) in ranges {
        let range = range(from, to);
        let about = format!("{about}, {from} to {to}");
        let expected = expected(all, products, &range, REVENUE);
        let paging = Paging::Offset { offset: 0, limit: 1_000 };
        let (page, total) = read!(storage, analytics.top_products(&range, REVENUE, &paging, BOUND));
        same(total, Some(Total { count: expected.len() as u64, exact: true }), contract, &about);
        same(page.items, expected, contract, &about);
    }
}

/// Rolls up all days before `today`.
async fn roll_up(storage: &Arc<dyn Storage>, today: NaiveDate) {
    let mut next = Some(day("1970-01-01"));
    for _ in 0..1_000 {
        let Some(from) = next else { return };
        let mut tx = storage.begin().await.unwrap();
        tx.analytics().lock().await.unwrap();
        next = tx.analytics().roll_up(from, today).await.unwrap();
        tx.commit().await.unwrap();
    }
    panic!("`roll_up` must return `None` once there is nothing more to do, but has returned a day 1,000 times");
}

/// Stores the figures of days.
async fn store(storage: &Arc<dyn Storage>, all: &Figures) {
    let mut tx = storage.begin().await.unwrap();
    for (on, rows) in all {
        tx.analytics().replace(*on, &figures(rows)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Covers more than two months. After they were rolled up, some days get other figures, their first sales, or lose all
/// sales.
pub async fn r46_top_products_have_the_figures_of_the_range_whatever_was_rolled_up(storage: &Arc<dyn Storage>) {
    const RANGES: [(&str, &str); 5] = [
        ("2026-01-25", "2026-04-04"),
        ("2026-01-27", "2026-03-31"),
        ("2026-01-28", "2026-04-01"),
        ("2026-02-10", "2026-03-03"),
        ("2026-02-14", "2026-02-14"),
    ];
    let shelf = products(storage, 3).await;
    let [first, today] = ["2026-01-25", "2026-04-02"].map(day);
    let mut all = Figures::new();
    for n in (0..70_i64).filter(|n| n % 9 != 8) {
        let on_sale = shelf.iter().zip(0_i64..).filter(|(_, i)| (n + i) % 2 == 0);
        let rows = on_sale.map(|(of, i)| sold(of, (n + i + 1, 100 * n + i), (n % 3, 7 * (n % 3)))).collect();
        all.insert(first + Days::new(n.unsigned_abs()), rows);
    }
    store(storage, &all).await;
    compare(storage, &all, &shelf, &RANGES, "nothing is rolled up").await;
    roll_up(storage, today).await;
    compare(storage, &all, &shelf, &RANGES, "rolled up").await;
    let changes = [
        ("2026-02-14", vec![sold(&shelf[2], (1_000, 5), (0, 0))]),
        ("2026-02-02", vec![sold(&shelf[1], (3, 90_000), (1, 2))]),
        ("2026-03-31", Vec::new()),
        ("2026-04-03", vec![sold(&shelf[0], (1, 1), (0, 0))]),
    ];
    for (on, rows) in changes {
        replace(storage, day(on), &figures(&rows)).await;
        all.insert(day(on), rows);
    }
    compare(storage, &all, &shelf, &RANGES, "changed after it was rolled up").await;
    roll_up(storage, today).await;
    compare(storage, &all, &shelf, &RANGES, "rolled up again").await;
    attempt!(storage, analytics.discard_rollups()).unwrap();
    compare(storage, &all, &shelf, &RANGES, "discarded").await;
    roll_up(storage, day("2026-06-01")).await;
    compare(storage, &all, &shelf, &RANGES, "rolled up once more").await;
}

/// There are years without sales in between. Then a day of each time with sales changes, the last one first.
pub async fn r46_days_that_are_years_apart_are_rolled_up(storage: &Arc<dyn Storage>) {
    const RANGES: [(&str, &str); 3] =
        [("2009-12-20", "2021-05-31"), ("2009-12-23", "2012-02-27"), ("2012-02-26", "2020-08-01")];
    let shelf = products(storage, 2).await;
    let today = day("2026-04-02");
    let mut all = Figures::new();
    for (first, days) in [("2009-12-20", 9_u64), ("2012-02-25", 9), ("2020-06-01", 70)] {
        for n in 0..days {
            let units = i64::try_from(n).unwrap() + 1;
            let rows = shelf.iter().map(|of| sold(of, (units, 100 * units), (0, 0))).collect();
            all.insert(day(first) + Days::new(n), rows);
        }
    }
    store(storage, &all).await;
    roll_up(storage, today).await;
    compare(storage, &all, &shelf, &RANGES, "rolled up").await;
    for on in ["2020-07-01", "2012-02-26", "2009-12-24"].map(day) {
        let rows = vec![sold(&shelf[1], (500, 7), (2, 3))];
        replace(storage, on, &figures(&rows)).await;
        all.insert(on, rows);
        compare(storage, &all, &shelf, &RANGES, "changed after it was rolled up").await;
        roll_up(storage, today).await;
        compare(storage, &all, &shelf, &RANGES, "rolled up again").await;
    }
}

/// Pages by offset and by cursor, through equal figures and a net below zero.
pub async fn r46_top_products_are_sorted_by_what_is_left_and_page_both_ways(storage: &Arc<dyn Storage>) {
    let shelf = products(storage, 7).await;
    let on = day("2026-01-02");
    let rows: Vec<ProductDay> = shelf
        .iter()
        .zip(0_i64..)
        .map(|(product, i)| sold(product, (10 + i % 2, 1_000), (4 * (i % 3), 600 * (i % 3))))
        .collect();
    replace(storage, on, &figures(&rows)).await;
    let (all, range) = (Figures::from([(on, rows)]), DayRange { from: on, to: on });
    let contract = "The list is sorted by the net, the highest first, and then by id; its pages follow on each other.";
    for sort in ProductSalesSort::ALL {
        let expected = expected(&all, &shelf, &range, *sort);
        let (mut found, mut after, mut pages) = (Vec::new(), None, Pages::over(expected.len()));
        loop {
            pages.turn();
            let paging = Paging::Keyset { after, limit: 2 };
            let (page, total) = read!(storage, analytics.top_products(&range, *sort, &paging, BOUND));
            same(total, None::<Total>, "A page by cursor has no number of all products.", sort.as_str());
            found.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        same(&found, &expected, contract, format_args!("{} by cursor", sort.as_str()));
        for offset in [0_usize, 3, 6, 7] {
            let paging = Paging::Offset { offset: offset as u64, limit: 3 };
            let page = read!(storage, analytics.top_products(&range, *sort, &paging, BOUND)).0.items;
            let expected: Vec<ProductSales> = found.iter().skip(offset).take(3).cloned().collect();
            same(page, expected, contract, format_args!("{} from row {offset}", sort.as_str()));
        }
    }
    let paging = Paging::Offset { offset: 0, limit: 2 };
    for (bound, counted) in [(7, Total { count: 7, exact: true }), (3, Total { count: 3, exact: false })] {
        let before = storage.statements();
        let (_, total) = read!(storage, analytics.top_products(&range, UNITS, &paging, bound));
        let cost = storage.statements() - before;
        same(total, Some(counted), "A count stops at its bound.", bound);
        holds(cost <= 3, "A page with the number of products takes at most three statements.", cost);
    }
    let later = DayRange { from: day("2026-01-03"), to: day("2026-01-09") };
    let (page, total) = read!(storage, analytics.top_products(&later, UNITS, &paging, BOUND));
    let found = (page.items.len(), total);
    same(found, (0, Some(Total { count: 0, exact: true })), "Days without sales have no products.", "a week later");
    for paging in of_other_lists() {
        for range in [range, later] {
            let refused =
                storage.connect().await.unwrap().analytics().top_products(&range, UNITS, &paging, BOUND).await;
            assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation);
        }
    }
}

/// The end of a range of times does not belong to it.
pub async fn r46_figures_are_computed_from_the_orders_of_a_time(storage: &Arc<dyn Storage>) {
    let (env, moment) = (Env::default(), Duration::from_micros(1));
    let pen = env.priced("Pen", 250, 50);
    env.insert_products(storage, std::slice::from_ref(&pen)).await.unwrap();
    let orders = [env.order_of(&pen, 3), env.order_of(&pen, 4)];
    env.insert_orders(storage, &orders).await.unwrap();
    let [first, second] = [&orders[0], &orders[1]].map(|record| record.order.placed_at);
    let of = |number: u64, units: i64| {
        let placed = Totals::of(250 * units, 0, Currency::USD);
        let sales = DaySales { orders: number, units, placed, ..none() };
        DayFigures { sales, products: vec![sold(&pen, (units, 250 * units), (0, 0))] }
    };
    let contract = "`compute` adds up the orders that were placed from the first time until before the second one.";
    let compute = async |from, until| read!(storage, analytics.compute(from, until));
    same(compute(first, second).await, of(1, 3), contract, "the first order");
    same(compute(first, second + moment).await, of(2, 7), contract, "two orders");
    same(compute(first + moment, second + moment).await, of(1, 4), contract, "the second order");
    let nothing = DayFigures { sales: none(), products: Vec::new() };
    same(compute(first + moment, second).await, nothing, contract, "the time between them");
    let next = async |from| read!(storage, analytics.next_sale(from));
    let found = (next(first).await, next(first + moment).await, next(second + moment).await);
    same(found, (Some(first), Some(second), None), "`next_sale` has its time.", "two orders");
    let ids = orders.each_ref().map(|record| record.order.id);
    let mut times = read!(storage, analytics.times(&ids));
    times.sort_unstable();
    same(times, [first, second], "`times` has the times at which the orders were placed.", "two orders");
    same(read!(storage, analytics.times(&[])).len(), 0, "`times` has only the orders that it is given.", "no orders");
}

/// Adds within one call, in several calls, and more views than one statement takes.
pub async fn r46_views_and_carts_add_up(storage: &Arc<dyn Storage>) {
    let shelf = products(storage, 1).await;
    let pen = &shelf[0];
    let [first, second, third] = ["2026-01-31", "2026-02-01", "2026-02-02"].map(day);
    let view = |day, product_id, views| ProductViews { day, product_id, views };
    let many: Vec<ProductViews> = (1..=300).map(|n| view(first, ProductId(Uuid::from_u128(n)), 2)).rev().collect();
    let of_pen = [view(second, pen.id, 3), view(first, pen.id, 5), view(third, pen.id, 1_000)];
    for views in [&many[..], &of_pen, &of_pen, &[]] {
        attempt!(storage, analytics.add_views(views)).unwrap();
    }
    let carts = |day, carts| CreatedCarts { day, carts };
    for created in [&[carts(second, 4), carts(first, 1)][..], &[carts(second, 6)], &[]] {
        attempt!(storage, analytics.add_carts(created)).unwrap();
    }
    let contract = "Views and carts are added to those of their days.";
    let of = |views, carts| Funnel { views, carts, ..Funnel::default() };
    let found = read!(storage, analytics.traffic(&DayRange { from: first, to: second }));
    same(found, [(first, of(610, 1)), (second, of(6, 10))], contract, "two days of three");
    replace(storage, second, &figures(&[sold(pen, (1, 100), (0, 0))])).await;
    let contract = "The list has the views of its range.";
    for (from, to, views) in [(first, second, 16), (second, second, 6), (second, third, 2_006)] {
        let found = top(storage, &DayRange { from, to }, UNITS).await;
        let found: Vec<_> = found.iter().map(|of| (of.product_id, of.views)).collect();
        same(found, [(pen.id, views)], contract, format_args!("{from} to {to}"));
    }
}

/// Drafts and SKUs with more stock than their threshold are not listed.
pub async fn skus_that_are_low_in_stock_page_both_ways(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let stocks = [5, 0, 6, 3, 3, 0].into_iter().enumerate();
    let mut all: Vec<Product> = stocks.map(|(n, stock)| env.priced(&format!("Lamp {n}"), 100, stock)).collect();
    all[5].status = ProductStatus::Draft;
    env.insert_products(storage, &all).await.unwrap();
    let mut expected: Vec<LowStockSku> = all[..5]
        .iter()
        .filter(|product| product.skus[0].on_hand <= 5)
        .map(|product| LowStockSku {
            sku_id: product.skus[0].id,
            code: product.skus[0].code.clone(),
            product_id: product.id,
            title: product.title.clone(),
            on_hand: product.skus[0].on_hand,
            reserved: 0,
            low_stock_threshold: 5,
        })
        .collect();
    expected.sort_by_key(|sku| (sku.available(), sku.sku_id));
    let contract = "The SKUs with the fewest available pieces come first, equal ones by id.";
    let first = read!(storage, analytics.low_stock(&Paging::first(3)));
    let rest = read!(storage, analytics.low_stock(&Paging::Keyset { after: first.next, limit: 3 }));
    holds(rest.next.is_none(), contract, "the last page");
    same([first.items, rest.items].concat(), &expected[..], contract, "by cursor");
    let paging = Paging::Offset { offset: 1, limit: 2 };
    same(read!(storage, analytics.low_stock(&paging)).items, &expected[1..3], contract, "by offset");
    for (bound, counted) in [(4, Total { count: 4, exact: true }), (3, Total { count: 3, exact: false })] {
        same(read!(storage, analytics.count_low_stock(bound)), counted, "A count stops at its bound.", bound);
    }
    for paging in of_other_lists() {
        let refused = storage.connect().await.unwrap().analytics().low_stock(&paging).await;
        assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation);
    }
}
