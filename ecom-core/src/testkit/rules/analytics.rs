//! Analytics: the figures of sales are those of the orders, whatever happens, and what is counted counts once (R46).

use std::time::Duration;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;

use super::ShopFixture;
use super::orders::{guest, line, stocked};
use super::support::{fields, from, me, v};
use crate::clock::{Clock as _, TimeZone};
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::analytics::{DayFigures, DayRange, DaySales, ProductSales, ProductSalesSort};
use crate::domain::platform::job::{Job, JobFilter, JobKind, JobState};
use crate::domain::sales::cart::CartInput;
use crate::domain::sales::order::input::{CancelUnits, ExtraLineInput, LineChange, OrderEdit, OrderInput};
use crate::domain::sales::order::{Order, OrderCancellation, OrderRecord};
use crate::error::{ErrorCode, FieldCode};
use crate::id::ProductId;
use crate::money::Money;
use crate::paging::Paging;
use crate::service::background::Pass;
use crate::service::platform::analytics::{FIRST_DAY, unrecorded};
use crate::shop::Shop;
use crate::testkit::code_of;
use crate::testkit::faults::Fault;

tests! {
    __shop_analytics: [
        r46_orders_count_on_the_day_placed_and_cancellations_on_theirs,
        r46_an_edit_changes_the_day_on_which_the_order_was_placed,
        r46_the_delivery_of_an_order_does_not_cost_a_read_of_its_day,
        r46_products_are_sorted_by_what_is_left_of_their_sales,
        r46_a_rebuild_mends_figures_and_changes_no_others,
        r46_days_that_are_over_are_rolled_up,
        r46_a_rebuild_beside_the_background_work_counts_every_order_once,
        r46_an_erasure_changes_no_figure,
        r46_what_an_earlier_release_has_canceled_is_recorded,
        r46_a_change_of_the_time_zone_rebuilds_the_figures,
        r46_events_that_were_trimmed_lead_to_a_rebuild,
        r46_carts_and_views_count_once,
        r46_views_survive_a_database_that_fails,
        skus_that_are_low_in_stock_are_listed,
        r17_ranges_of_days_are_bounded,
    ]
}

const DAY: Duration = Duration::from_secs(86_400);

/// Does the background work of a process that is due now.
async fn pass(shop: &Shop) {
    shop.run_background_pass(Pass::Events, std::future::pending()).await;
}

impl ShopFixture {
    fn today(&self) -> NaiveDate {
        self.clock.now().date_naive()
    }

    async fn sold(&self, input: &OrderInput) -> Order {
        self.shop.acting_as(me()).orders().place(input).await.unwrap()
    }

    async fn canceled(&self, order: &Order, quantity: i64) {
        let units = [CancelUnits { line_id: order.lines[0].id, quantity }];
        let version = self.shop.orders().get(order.id, IncludeDeleted::No).await.unwrap().audit.version;
        self.shop.acting_as(me()).orders().cancel_units(order.id, v(version), &units).await.unwrap();
    }

    async fn rebuilds(&self) -> Vec<Job> {
        let filter = JobFilter { kind: Some(JobKind::ANALYTICS_REBUILD), state: None };
        self.shop.jobs().list(&filter, &Paging::first(100)).await.unwrap().0.items
    }
}

/// Orders, units, total, canceled units, and their value.
type Row = (u64, i64, i64, i64, i64);

fn row(sales: &DaySales) -> Row {
    let DaySales { orders, units, placed, canceled_units, canceled, .. } = sales;
    (*orders, *units, placed.total.minor(), *canceled_units, canceled.total.minor())
}

/// Returns the sales of each of the last days.
async fn last(f: &ShopFixture, shop: &Shop, days: u64) -> Vec<Row> {
    let report = shop.analytics().sales(&DayRange::last(days, f.today())).await.unwrap();
    assert!(report.is_complete);
    assert_eq!(report.days.len() as u64, days);
    report.days.iter().map(|(_, sales)| row(sales)).collect()
}

async fn top(f: &ShopFixture, sort: ProductSalesSort) -> Vec<ProductSales> {
    let range = DayRange::last(30, f.today());
    f.shop.analytics().top_products(&range, sort, &Paging::first(100)).await.unwrap().0.items
}

/// Over all days, the net is what was not canceled.
pub async fn r46_orders_count_on_the_day_placed_and_cancellations_on_theirs(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let mut discounted = guest(json!([line(&pen, 3)]));
    discounted.discount = Some("0.99".parse().unwrap());
    let first = f.sold(&discounted).await;
    f.clock.advance(DAY);
    f.canceled(&first, 1).await;
    let mut wrapped = guest(json!([line(&pen, 2)]));
    wrapped.extra_lines.push(ExtraLineInput::fee("Wrapping", Decimal::new(100, 2)));
    let second = f.sold(&wrapped).await;
    f.clock.advance(DAY);
    let orders = f.shop.acting_as(me()).orders();
    orders.cancel(first.id).await.unwrap();
    orders.cancel(first.id).await.unwrap();
    orders.delete(second.id, v(1)).await.unwrap();
    pass(&f.shop).await;
    let expected = vec![(0, 0, 0, 0, 0), (1, 3, 2_901, 0, 0), (1, 2, 2_100, 1, 967), (0, 0, 0, 4, 1_934 + 2_100)];
    assert_eq!(last(f, &f.shop, 4).await, expected, "a fee has an amount and no units");
    pass(&f.shop).await;
    assert_eq!(last(f, &f.shop, 4).await, expected);
    let report = f.shop.analytics().sales(&DayRange::last(4, f.today())).await.unwrap();
    let total = report.total;
    assert_eq!((total.net_units(), total.net().total.minor()), (0, 0));
    assert_eq!((total.placed.subtotal.minor(), total.placed.discount.minor()), (5_100, 99));
    assert_eq!((total.canceled.subtotal, total.canceled.discount), (total.placed.subtotal, total.placed.discount));
    assert_eq!(total.average_order_value().map(Money::minor), Some(2_501));
    assert_eq!((report.time_zone.as_str(), total.checkouts), ("UTC", 0));
}

/// The figures follow the current lines of an order, and its day stays.
pub async fn r46_an_edit_changes_the_day_on_which_the_order_was_placed(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let order = f.sold(&guest(json!([line(&pen, 2)]))).await;
    pass(&f.shop).await;
    assert_eq!(last(f, &f.shop, 1).await, [(1, 2, 2_000, 0, 0)]);
    f.clock.advance(DAY);
    let orders = f.shop.acting_as(me()).orders();
    let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 5)).discount(Decimal::new(100, 2));
    orders.edit(order.id, v(1), &edit).await.unwrap();
    pass(&f.shop).await;
    assert_eq!(last(f, &f.shop, 2).await, [(1, 5, 4_900, 0, 0), (0, 0, 0, 0, 0)]);
}

/// Orders are delivered days after they were placed, and a day can have very many.
pub async fn r46_the_delivery_of_an_order_does_not_cost_a_read_of_its_day(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let order = f.sold(&guest(json!([line(&pen, 2)]))).await;
    pass(&f.shop).await;
    let computed = read!(f.storage, analytics.state()).version;
    f.shop.acting_as(me()).orders().start(order.id, v(1)).await.unwrap();
    pass(&f.shop).await;
    assert_eq!(read!(f.storage, analytics.state()).version, computed);
    f.canceled(&order, 1).await;
    pass(&f.shop).await;
    assert!(read!(f.storage, analytics.state()).version > computed);
    assert_eq!(last(f, &f.shop, 1).await, [(1, 2, 2_000, 1, 1_000)]);
}

/// Canceled sales do not move a product up in the list.
pub async fn r46_products_are_sorted_by_what_is_left_of_their_sales(f: &ShopFixture) {
    let (pen, ink) = (stocked(f, "Pen", 100).await, stocked(f, "Ink", 100).await);
    let lamp = f.product(json!({ "title": "Lamp", "price": "80.00", "stock": 9 })).await;
    f.sold(&guest(json!([line(&pen, 7), line(&lamp, 1)]))).await;
    let canceled = f.sold(&guest(json!([line(&ink, 9), line(&pen, 1)]))).await;
    f.canceled(&canceled, 8).await;
    pass(&f.shop).await;
    let of = |sales: Vec<ProductSales>| -> Vec<(ProductId, i64, i64)> {
        sales.iter().map(|p| (p.product_id, p.net_units(), p.net_revenue().minor())).collect()
    };
    // Equal products are in the order of their ids.
    let by_revenue = [(pen.id, 8, 8_000), (lamp.id, 1, 8_000), (ink.id, 1, 1_000)];
    assert_eq!(of(top(f, ProductSalesSort::Revenue).await), by_revenue);
    let by_units = [(pen.id, 8, 8_000), (ink.id, 1, 1_000), (lamp.id, 1, 8_000)];
    assert_eq!(of(top(f, ProductSalesSort::Units).await), by_units);
    let range = DayRange::last(1, f.today());
    let analytics = f.shop.analytics();
    let mut paging = Paging::first(1);
    let mut found = Vec::new();
    loop {
        let page = analytics.top_products(&range, ProductSalesSort::Units, &paging).await.unwrap().0;
        found.extend(page.items.iter().map(|p| p.product_id));
        let Some(after) = page.next else { break };
        paging = Paging::Keyset { after: Some(after), limit: 1 };
    }
    assert_eq!(found, [pen.id, ink.id, lamp.id]);
    let offset = Paging::Offset { offset: 1, limit: 1 };
    let (page, total) = analytics.top_products(&range, ProductSalesSort::Revenue, &offset).await.unwrap();
    assert_eq!((page.items[0].product_id, total.map(|t| t.count)), (lamp.id, Some(3)));
}

/// A rebuild corrects rows that somebody has changed by hand.
pub async fn r46_a_rebuild_mends_figures_and_changes_no_others(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let order = f.sold(&guest(json!([line(&pen, 4)]))).await;
    f.clock.advance(DAY);
    f.canceled(&order, 1).await;
    pass(&f.shop).await;
    let (right, products) = (last(f, &f.shop, 30).await, top(f, ProductSalesSort::Units).await);
    assert_eq!(f.shop.acting_as(me()).analytics().rebuild().await.unwrap(), 2);
    assert_eq!((last(f, &f.shop, 30).await, top(f, ProductSalesSort::Units).await), (right.clone(), products.clone()));
    let none = DaySales::none(f.shop.config().currency);
    let wrong = DayFigures { sales: DaySales { orders: 7, ..none }, products: Vec::new() };
    for days in [0, 1, 9] {
        let day = f.today() - chrono::Days::new(days);
        attempt!(f.storage, analytics.replace(day, &wrong)).unwrap();
    }
    assert_ne!(last(f, &f.shop, 30).await, right);
    let job = f.shop.acting_as(me()).analytics().enqueue_rebuild().await.unwrap();
    assert_eq!(f.shop.acting_as(me()).analytics().enqueue_rebuild().await.unwrap().id, job.id);
    pass(&f.shop).await;
    let ended = f.shop.jobs().get(job.id).await.unwrap();
    assert_eq!((ended.state, ended.counters["days"]), (JobState::Succeeded, 3));
    assert_eq!((last(f, &f.shop, 30).await, top(f, ProductSalesSort::Units).await), (right, products));
}

/// The background work rolls them up, and again after a rebuild. `roll_up` returns `None` if the storage needs no
/// rollups or has them all.
pub async fn r46_days_that_are_over_are_rolled_up(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    f.sold(&guest(json!([line(&pen, 4)]))).await;
    pass(&f.shop).await;
    let first = f.today();
    f.clock.advance(DAY * 70);
    f.sold(&guest(json!([line(&pen, 5)]))).await;
    pass(&f.shop).await;
    assert_eq!(attempt!(f.storage, analytics.roll_up(FIRST_DAY, f.today())).unwrap(), None);
    let units = async || {
        let range = DayRange { from: first, to: f.today() };
        let list = f.shop.analytics().top_products(&range, ProductSalesSort::Units, &Paging::first(10)).await;
        list.unwrap().0.items.iter().map(|of| of.units).collect::<Vec<_>>()
    };
    assert_eq!(units().await, [9]);
    let nothing = DayFigures { sales: DaySales::none(f.shop.config().currency), products: Vec::new() };
    attempt!(f.storage, analytics.replace(first, &nothing)).unwrap();
    assert_eq!(units().await, [5]);
    f.shop.analytics().rebuild().await.unwrap();
    assert_eq!(attempt!(f.storage, analytics.roll_up(FIRST_DAY, f.today())).unwrap(), None);
    assert_eq!(units().await, [9]);
}

/// The rebuild and the background work compute and write the figures of a day in any order.
pub async fn r46_a_rebuild_beside_the_background_work_counts_every_order_once(f: &ShopFixture) {
    const ORDERS: u64 = 24;
    let pen = stocked(f, "Pen", 1_000).await;
    let other = f.another(ShopConfig::default(), f.cache());
    let place = async {
        for n in 0..ORDERS {
            let order = f.sold(&guest(json!([line(&pen, 2)]))).await;
            if n.is_multiple_of(4) {
                f.canceled(&order, 1).await;
            }
        }
    };
    let rebuild = async {
        for _ in 0..4 {
            f.shop.analytics().rebuild().await.unwrap();
        }
    };
    let follow = async {
        for _ in 0..4 {
            pass(&f.shop).await;
            pass(&other).await;
        }
    };
    futures::join!(place, rebuild, follow);
    pass(&f.shop).await;
    let expected = vec![(ORDERS, 48, 48_000, 6, 6_000)];
    assert_eq!(last(f, &f.shop, 1).await, expected);
    f.shop.analytics().rebuild().await.unwrap();
    assert_eq!(last(f, &f.shop, 1).await, expected);
}

/// Places an order of a customer, and cancels units of it twice.
async fn of_customer(f: &ShopFixture) -> OrderRecord {
    let pen = stocked(f, "Pen", 100).await;
    let input = json!({ "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" });
    let ada = f.shop.acting_as(me()).customers().create(&from(&input)).await.unwrap();
    let mut input: OrderInput =
        from(&json!({ "customer_id": ada.id, "delivery_method": "on_hand", "lines": [line(&pen, 7)] }));
    input.discount = Some("1.00".parse().unwrap());
    let order = f.sold(&input).await;
    for quantity in [1, 3] {
        f.clock.advance(DAY);
        f.canceled(&order, quantity).await;
    }
    f.shop.orders().record(order.id, IncludeDeleted::No).await.unwrap()
}

/// The history of an order loses the units that were canceled, and the figures keep them.
pub async fn r46_an_erasure_changes_no_figure(f: &ShopFixture) {
    let record = of_customer(f).await;
    pass(&f.shop).await;
    let before = last(f, &f.shop, 3).await;
    f.shop.customers().erase(record.order.customer_id.unwrap()).await.unwrap();
    f.shop.analytics().rebuild().await.unwrap();
    assert_eq!(last(f, &f.shop, 3).await, before);
    assert_eq!(before.iter().map(|(.., units, _)| units).sum::<i64>(), 4);
}

/// The cancellations are read from the history. If that was erased, they count at the last change that can have made
/// them.
pub async fn r46_what_an_earlier_release_has_canceled_is_recorded(f: &ShopFixture) {
    let OrderRecord { order, bills, .. } = of_customer(f).await;
    let kept = read!(f.storage, orders.cancellations(order.id));
    let history = read!(f.storage, orders.history(order.id));
    assert_eq!(unrecorded(&order, &history, &[]), kept);
    assert_eq!(unrecorded(&order, &history, &kept[..1]), kept[1..]);
    assert_eq!(unrecorded(&order, &history, &kept), []);
    // The credit notes have the same values.
    let notes: Vec<_> = bills.iter().filter(|bill| bill.corrects.is_some()).map(|bill| bill.totals).collect();
    assert_eq!(kept.iter().map(|of| of.totals).collect::<Vec<_>>(), notes);
    f.shop.customers().erase(order.customer_id.unwrap()).await.unwrap();
    let history = read!(f.storage, orders.history(order.id));
    let all = unrecorded(&order, &history, &[]);
    let of = |all: &[OrderCancellation]| {
        let (units, total): (Vec<_>, Vec<_>) = all.iter().map(|of| (of.units, of.totals.total.minor())).unzip();
        (units.iter().sum::<i64>(), total.iter().sum::<i64>())
    };
    assert_eq!((all.len(), of(&all)), (1, of(&kept)));
    assert_eq!(read!(f.storage, orders.without_cancellations(None, 10)), []);
}

/// One job rebuilds them for all processes.
pub async fn r46_a_change_of_the_time_zone_rebuilds_the_figures(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    // It is the evening before in New York.
    f.sold(&guest(json!([line(&pen, 1)]))).await;
    pass(&f.shop).await;
    assert_eq!(last(f, &f.shop, 2).await, [(0, 0, 0, 0, 0), (1, 1, 1_000, 0, 0)]);
    assert_eq!(f.rebuilds().await.len(), 0, "the events of the first order were enough");
    let zone: TimeZone = "America/New_York".parse().unwrap();
    let there = || f.another(ShopConfig::default().time_zone(zone.clone()), f.cache());
    let moved = there();
    pass(&moved).await;
    pass(&moved).await;
    assert_eq!(last(f, &moved, 2).await, [(1, 1, 1_000, 0, 0), (0, 0, 0, 0, 0)]);
    let report = f.shop.analytics().sales(&DayRange::last(1, f.today())).await.unwrap();
    assert_eq!((report.time_zone.as_str(), report.is_complete), ("America/New_York", true));
    // A process that has started before counts by the days of the figures.
    f.sold(&guest(json!([line(&pen, 2)]))).await;
    pass(&there()).await;
    assert_eq!(last(f, &f.shop, 2).await, [(2, 3, 3_000, 0, 0), (0, 0, 0, 0, 0)]);
    let states: Vec<JobState> = f.rebuilds().await.iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Succeeded]);
}

/// A process has been away for longer than events are kept.
pub async fn r46_events_that_were_trimmed_lead_to_a_rebuild(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    f.sold(&guest(json!([line(&pen, 1)]))).await;
    pass(&f.shop).await;
    f.sold(&guest(json!([line(&pen, 1)]))).await;
    f.head().await;
    attempt!(f.storage, outbox.trim(f.clock.now() + Duration::from_secs(1))).unwrap();
    f.sold(&guest(json!([line(&pen, 1)]))).await;
    pass(&f.shop).await;
    pass(&f.shop).await;
    assert_eq!(last(f, &f.shop, 1).await, [(3, 3, 3_000, 0, 0)]);
    assert_eq!(f.rebuilds().await.len(), 1);
}

/// Carts are counted by their events, and views when the requests arrive.
pub async fn r46_carts_and_views_count_once(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let draft = f.product(json!({ "title": "Draft", "price": 1, "status": "draft" })).await;
    for _ in 0..3 {
        f.shop.carts().create(&CartInput::default()).await.unwrap();
    }
    f.sold(&guest(json!([line(&pen, 1)]))).await;
    pass(&f.shop).await;
    f.clock.advance(DAY);
    f.shop.carts().create(&CartInput::default()).await.unwrap();
    let other = f.another(ShopConfig::default(), f.cache());
    let stranger = Principal::anonymous([]);
    for shop in [&f.shop, &other, &other] {
        shop.acting_as(&stranger).analytics().note_view(pen.id).await.unwrap();
    }
    let hidden = f.shop.acting_as(&stranger).analytics().note_view(draft.id).await;
    assert_eq!(code_of(hidden, "a view of a draft"), ErrorCode::NotFound);
    for shop in [&f.shop, &other, &f.shop] {
        pass(shop).await;
        shop.analytics().flush().await.unwrap();
    }
    let report = f.shop.analytics().funnel(&DayRange::last(3, f.today())).await.unwrap();
    let of: Vec<_> = report.days.iter().map(|(_, of)| (of.views, of.carts, of.checkouts, of.orders)).collect();
    assert_eq!(of, [(0, 0, 0, 0), (0, 3, 0, 1), (3, 1, 0, 0)]);
    assert_eq!((report.total.views, report.total.carts, report.total.orders), (3, 4, 1));
    assert_eq!(top(f, ProductSalesSort::Revenue).await[0].views, 3);
}

/// Views that could not be written are written later, unless they may have been written already.
pub async fn r46_views_survive_a_database_that_fails(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let (shop, storage) = f.unsteady();
    let view = async || shop.analytics().note_view(pen.id).await.unwrap();
    let seen = async || {
        shop.analytics().flush().await.unwrap();
        shop.analytics().funnel(&DayRange::last(1, f.today())).await.unwrap().total.views
    };
    view().await;
    storage.plan(&[Fault::Contention; 40]);
    assert!(shop.analytics().flush().await.is_err());
    storage.plan(&[]);
    assert_eq!(seen().await, 1);
    for fault in [Fault::AnswerLost, Fault::CommitLost] {
        let before = seen().await;
        view().await;
        storage.plan(&[fault]);
        assert!(shop.analytics().flush().await.is_err());
        assert_eq!(
            seen().await,
            before + u64::from(fault == Fault::AnswerLost),
            "{fault:?}: a view counts at most once"
        );
    }
}

/// Only SKUs of active products that track their stock are listed, those with the fewest pieces first.
pub async fn skus_that_are_low_in_stock_are_listed(f: &ShopFixture) {
    let made = |title: &str, stock: i64, more: serde_json::Value| {
        let mut input = json!({ "title": title, "price": 1, "stock": stock });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        f.product(input)
    };
    let plenty = made("Plenty", 100, json!({})).await;
    let few = made("Few", 3, json!({})).await;
    let gone = made("Gone", 0, json!({})).await;
    made("Draft", 0, json!({ "status": "draft" })).await;
    let deleted = made("Deleted", 0, json!({})).await;
    f.delete(&deleted, crate::domain::common::DeleteMode::Soft).await.unwrap();
    let analytics = f.shop.analytics();
    let (page, total) = analytics.low_stock(&Paging::Offset { offset: 0, limit: 10 }).await.unwrap();
    let found: Vec<_> = page.items.iter().map(|sku| (sku.product_id, sku.available())).collect();
    assert_eq!(found, [(gone.id, 0), (few.id, 3)]);
    assert_eq!(total.map(|total| total.count), Some(2));
    let first = analytics.low_stock(&Paging::first(1)).await.unwrap().0;
    let rest = Paging::Keyset { after: first.next, limit: 10 };
    let rest = analytics.low_stock(&rest).await.unwrap().0;
    assert_eq!(rest.items.iter().map(|sku| sku.product_id).collect::<Vec<_>>(), [few.id]);
    f.adjust(plenty.skus[0].id, -99).await.unwrap();
    assert_eq!(analytics.low_stock(&Paging::first(10)).await.unwrap().0.items.len(), 3);
}

/// Bad ranges are refused before anything is read.
pub async fn r17_ranges_of_days_are_bounded(f: &ShopFixture) {
    let analytics = f.shop.analytics();
    let today = f.today();
    let backwards = DayRange { from: today, to: today.pred_opt().unwrap() };
    for (range, code) in [(backwards, FieldCode::Inconsistent), (DayRange::last(36_525, today), FieldCode::OutOfBounds)]
    {
        let refused = [
            fields(analytics.sales(&range).await, "sales"),
            fields(analytics.funnel(&range).await, "the funnel"),
            fields(analytics.top_products(&range, ProductSalesSort::Units, &Paging::first(1)).await, "products"),
        ];
        for refused in refused {
            assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("from".to_owned(), code)]);
        }
    }
    let most = DayRange::last(DayRange::MAX_DAYS, today);
    assert_eq!(analytics.sales(&most).await.unwrap().days.len() as u64, DayRange::MAX_DAYS);
}
