//! Random histories of orders, and the figures of analytics against a direct computation over these orders.
//!
//! The computation takes the amounts of cancellations from the bills and credit notes, and the units from what the test
//! has asked for. So it shares neither the rows nor the arithmetic of the figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{Days, NaiveDate};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rust_decimal::Decimal;

use super::START_MICROS;
use crate::clock::{Clock as _, ManualClock, SharedClock, TimeZone, Timestamp};
use crate::config::ShopConfig;
use crate::domain::catalog::product::{Product, ProductInput};
use crate::domain::common::{ExpectedVersion, IncludeDeleted};
use crate::domain::platform::analytics::{DayRange, ProductSalesSort};
use crate::domain::sales::bill::{BillKind, BillPatch};
use crate::domain::sales::order::input::{
    CancelUnits, ExtraLineInput, GuestInput, LineChange, OrderEdit, OrderInput, OrderLineInput,
};
use crate::domain::sales::order::{DeliveryMethod, LineKind, Order, OrderStatus};
use crate::error::Error;
use crate::id::{OrderId, ProductId, UuidV7Source};
use crate::money::Money;
use crate::paging::Paging;
use crate::port::search::NoSearch;
use crate::port::storage::Storage;
use crate::service::background::Pass;
use crate::shop::{Shop, ShopParts};

/// How many orders are placed between two comparisons.
const COMPARE_EVERY: u64 = 50;

/// The figures of a day: orders, units, subtotal, discount, total, canceled units, and the subtotal, the discount and
/// the total of what was canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Figures([i64; 9]);

/// The units and the amount of a product, and those that were canceled.
type OfProduct = [i64; 4];

/// The figures of products, by day.
type OfProducts = BTreeMap<(NaiveDate, ProductId), OfProduct>;

/// Units of a line that were canceled at a time.
struct Canceled {
    at: Timestamp,
    order: OrderId,
    kind: LineKind,
    product: Option<ProductId>,
    units: i64,
    /// The amount of the line, its units, and how many of them were canceled before.
    line: (i64, i64, i64),
}

struct Histories {
    shop: Shop,
    clock: Arc<ManualClock>,
    zone: TimeZone,
    rng: StdRng,
    products: Vec<Product>,
    orders: Vec<OrderId>,
    canceled: Vec<Canceled>,
    done: BTreeMap<&'static str, u64>,
}

fn open(storage: &Arc<dyn Storage>, clock: &Arc<ManualClock>, seed: u64, zone: &TimeZone) -> Shop {
    let shared: SharedClock = clock.clone();
    let config = ShopConfig::default().time_zone(zone.clone()).last_write_wins(true);
    let ids = Arc::new(UuidV7Source::seeded(shared.clone(), seed));
    Shop::new(ShopParts { clock: shared, ids, config, ..ShopParts::new(storage.clone(), Arc::new(NoSearch)) }).unwrap()
}

/// Places this many orders on an empty, migrated storage, and edits, bills, cancels and deletes each at random, while
/// months pass. Compares the figures of analytics with those of a direct computation, again and again, after a rebuild,
/// and in another time zone. Returns how often each change has happened.
///
/// # Errors
/// The first difference.
pub async fn sales_histories(
    storage: Arc<dyn Storage>,
    histories: u64,
    seed: u64,
) -> Result<BTreeMap<&'static str, u64>, String> {
    let clock = Arc::new(ManualClock::at_micros(START_MICROS));
    let zone: TimeZone = "Europe/Berlin".parse().unwrap();
    let shop = open(&storage, &clock, seed, &zone);
    let done = ["edit", "cancel units", "cancel", "pay", "discount", "start", "deliver", "delete"];
    let done = done.map(|name| (name, 0)).into();
    let (rng, products) = (StdRng::seed_from_u64(seed), Vec::new());
    let mut h = Histories { shop, clock, zone, rng, products, orders: Vec::new(), canceled: Vec::new(), done };
    h.stock().await;
    pass(&h.shop).await;
    for n in 1..=histories {
        h.history().await?;
        if n.is_multiple_of(COMPARE_EVERY) || n == histories {
            pass(&h.shop).await;
            h.compare("after the events").await?;
        }
    }
    h.shop.analytics().rebuild().await.map_err(|e| format!("the rebuild: {e}"))?;
    h.compare("after a rebuild").await?;
    h.zone = "Pacific/Auckland".parse().unwrap();
    h.shop = open(&storage, &h.clock, seed.wrapping_add(1), &h.zone);
    pass(&h.shop).await;
    pass(&h.shop).await;
    h.compare("in another time zone").await?;
    Ok(h.done)
}

async fn pass(shop: &Shop) {
    shop.run_background_pass(Pass::Events, std::future::pending()).await;
}

impl Histories {
    async fn stock(&mut self) {
        for (n, price) in ["10.00", "3.33", "0.07", "99.99", "1.50"].into_iter().enumerate() {
            let price = format!("{price} USD").parse::<Money>().unwrap();
            let input = ProductInput::new(format!("Product {n}")).price(price).stock(100_000_000);
            self.products.push(self.shop.products().create(&input).await.unwrap());
        }
    }

    /// Lets up to some hours pass.
    fn wait(&mut self) {
        let minutes = self.rng.random_range(0..150_u64);
        self.clock.advance(Duration::from_secs(minutes * 60 + 1));
    }

    /// Places an order, and changes it some times.
    async fn history(&mut self) -> Result<(), String> {
        self.wait();
        let guest = GuestInput::new("Grace", "Hopper", "grace@example.com");
        let mut input = OrderInput::for_guest(guest, DeliveryMethod::OnHand);
        for _ in 0..self.rng.random_range(1..=4) {
            let sku = &self.products[self.rng.random_range(0..self.products.len())].skus[0];
            input = input.line(OrderLineInput::new(sku.id, self.rng.random_range(1..=7), sku.price.amount()));
        }
        if self.rng.random_bool(0.3) {
            input.extra_lines.push(ExtraLineInput::fee("Wrapping", Decimal::new(self.rng.random_range(1..500), 2)));
        }
        if self.rng.random_bool(0.3) {
            let quantity = self.rng.random_range(1..=3);
            input.extra_lines.push(ExtraLineInput::custom("Repair", quantity, Decimal::new(1_234, 2)));
        }
        if self.rng.random_bool(0.4) {
            input.discount = Some(Decimal::new(self.rng.random_range(1..=7), 2).into());
        }
        input.paid = self.rng.random_bool(0.3);
        let mut order = self.shop.orders().place(&input).await.map_err(|e| format!("an order is refused: {e}"))?;
        self.orders.push(order.id);
        for _ in 0..self.rng.random_range(0..=5) {
            self.wait();
            let Some(after) = self.change(&order).await? else { continue };
            self.note(&order, &after);
            order = after;
        }
        Ok(())
    }

    /// Makes a random change, and returns the order after it; `None` if the change is refused.
    async fn change(&mut self, order: &Order) -> Result<Option<Order>, String> {
        let any = ExpectedVersion::Unspecified;
        let shop = self.shop.clone();
        let (orders, id) = (shop.orders(), order.id);
        let line = order.lines[self.rng.random_range(0..order.lines.len())].clone();
        let (name, changed) = match self.rng.random_range(0..16) {
            0..=2 => {
                let quantity = self.rng.random_range(0..=8);
                let mut edit = OrderEdit::default().with(LineChange::quantity(line.id, quantity));
                if self.rng.random_bool(0.3) {
                    let sku = &self.products[0].skus[0];
                    edit.add.push(OrderLineInput::new(sku.id, 2, sku.price.amount()));
                }
                ("edit", orders.edit(id, any, &edit).await)
            }
            3..=8 => {
                let quantity = self.rng.random_range(1..=line.remaining().max(1));
                ("cancel units", orders.cancel_units(id, any, &[CancelUnits { line_id: line.id, quantity }]).await)
            }
            9 => ("cancel", orders.cancel(id).await),
            10..=12 => {
                let record = orders.record(id, IncludeDeleted::Yes).await.map_err(|e| e.to_string())?;
                let bill = record.bills.iter().rfind(|bill| bill.kind == BillKind::Bill).ok_or("no bill")?;
                let (name, patch) = if self.rng.random_bool(0.5) {
                    ("pay", BillPatch { paid: Some(true), ..BillPatch::default() })
                } else {
                    let discount = Decimal::new(self.rng.random_range(0..=9), 2).into();
                    let discount = crate::domain::common::Patch::Set(discount);
                    ("discount", BillPatch { discount, ..BillPatch::default() })
                };
                let patched = shop.bills().patch(bill.id, any, patch).await;
                (
                    name,
                    match patched {
                        Ok(_) => orders.get(id, IncludeDeleted::Yes).await,
                        Err(error) => Err(error),
                    },
                )
            }
            13 => ("start", orders.start(id, any).await),
            14 => ("deliver", orders.deliver(id, any).await),
            _ => (
                "delete",
                match orders.delete(id, any).await {
                    Ok(()) => orders.get(id, IncludeDeleted::Yes).await,
                    Err(error) => Err(error),
                },
            ),
        };
        match changed {
            Ok(after) => {
                *self.done.entry(name).or_default() += 1;
                Ok(Some(after))
            }
            Err(Error::Conflict(_) | Error::Validation(_) | Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(format!("{name}: {error}")),
        }
    }

    /// Notes what a change has canceled.
    fn note(&mut self, before: &Order, after: &Order) {
        for line in &after.lines {
            let old = before.lines.iter().find(|old| old.id == line.id).map_or(0, |old| old.canceled);
            if line.canceled > old {
                self.canceled.push(Canceled {
                    at: self.clock.now(),
                    order: after.id,
                    kind: line.kind,
                    product: line.product_id,
                    units: line.canceled - old,
                    line: (line.totals.total.minor(), line.quantity, old),
                });
            }
        }
    }

    /// Computes the figures of all days, and those of their products, from the orders.
    async fn compute(&self) -> Result<(BTreeMap<NaiveDate, Figures>, OfProducts), String> {
        let mut days: BTreeMap<NaiveDate, Figures> = BTreeMap::new();
        let mut products = OfProducts::new();
        let mut add = |at: Timestamp, figure: usize, n: i64| {
            days.entry(self.zone.day_of(at)).or_default().0[figure] += n;
        };
        for id in &self.orders {
            let record = self.shop.orders().record(*id, IncludeDeleted::Yes).await.map_err(|e| e.to_string())?;
            let (order, totals) = (&record.order, &record.order.totals);
            let placed = order.placed_at;
            add(placed, 0, 1);
            for (i, amount) in [totals.subtotal, totals.discount, totals.total].into_iter().enumerate() {
                add(placed, 2 + i, amount.minor());
            }
            for line in &order.lines {
                if line.kind != LineKind::Fee {
                    add(placed, 1, line.quantity);
                }
                if let Some(product) = line.product_id.filter(|_| line.quantity > 0) {
                    let of = products.entry((self.zone.day_of(placed), product)).or_default();
                    of[0] += line.quantity;
                    of[1] += line.totals.total.minor();
                }
            }
            // The credit notes are worth the units that were canceled, and the end of the order is worth what is left.
            let mut left = [totals.subtotal.minor(), totals.discount.minor(), totals.total.minor()];
            for note in record.bills.iter().filter(|bill| bill.kind == BillKind::CreditNote) {
                let of = [note.totals.subtotal, note.totals.discount, note.totals.total].map(Money::minor);
                for (i, amount) in of.into_iter().enumerate() {
                    add(note.date, 6 + i, amount);
                    left[i] -= amount;
                }
            }
            if order.status == OrderStatus::Canceled {
                let at = order.canceled_at.ok_or("a canceled order has no time")?;
                for (i, amount) in left.into_iter().enumerate() {
                    add(at, 6 + i, amount);
                }
            }
        }
        for Canceled { at, order, kind, product, units, line } in &self.canceled {
            if *kind != LineKind::Fee {
                add(*at, 5, *units);
            }
            if let Some(product) = product {
                let of = products.entry((self.zone.day_of(*at), *product)).or_default();
                of[2] += units;
                let (amount, quantity, before) = *line;
                let first = |units: i64| rounded(amount, units, quantity);
                of[3] += first(before + units) - first(before);
            }
            assert!(self.orders.contains(order));
        }
        days.retain(|_, figures| *figures != Figures::default());
        Ok((days, products))
    }

    /// Compares the reports with the computation.
    async fn compare(&self, when: &str) -> Result<(), String> {
        let (days, products) = self.compute().await?;
        let today = self.zone.day_of(self.clock.now());
        let range = DayRange::last(1_000, today);
        let analytics = self.shop.analytics();
        let report = analytics.sales(&range).await.map_err(|e| format!("{when}: {e}"))?;
        if !report.is_complete || report.time_zone != self.zone.name() {
            return Err(format!(
                "{when}: the figures are those of {}, complete: {}",
                report.time_zone, report.is_complete
            ));
        }
        let mut found = BTreeMap::new();
        for (day, sales) in &report.days {
            let (placed, canceled) = (&sales.placed, &sales.canceled);
            let amounts = [placed.subtotal, placed.discount, placed.total].map(Money::minor);
            let of_canceled = [canceled.subtotal, canceled.discount, canceled.total].map(Money::minor);
            let mut figures = [0; 9];
            (figures[0], figures[1]) = (sales.orders as i64, sales.units);
            figures[2..5].copy_from_slice(&amounts);
            figures[5] = sales.canceled_units;
            figures[6..].copy_from_slice(&of_canceled);
            if figures != [0; 9] {
                found.insert(*day, Figures(figures));
            }
        }
        for day in found.keys().chain(days.keys()) {
            let (found, expected) = (found.get(day), days.get(day));
            if found != expected {
                return Err(format!("{when}: {day} has {found:?}, and by the orders {expected:?}"));
            }
        }
        for (days, before) in [(1_000, 0), (90, 0), (80, 9), (64, 1), (33, 2), (5, 30)] {
            let to = today.checked_sub_days(Days::new(before)).ok_or("no such day")?;
            self.compare_products(&DayRange::last(days, to), &products).await.map_err(|e| format!("{when}: {e}"))?;
        }
        Ok(())
    }

    /// Compares the list of products of a range with the computation.
    async fn compare_products(&self, range: &DayRange, products: &OfProducts) -> Result<(), String> {
        let mut expected: BTreeMap<ProductId, OfProduct> = BTreeMap::new();
        for ((day, product), of) in products {
            if (range.from..=range.to).contains(day) {
                let sums = expected.entry(*product).or_default();
                for (sum, figure) in sums.iter_mut().zip(of) {
                    *sum += figure;
                }
            }
        }
        let analytics = self.shop.analytics();
        let page = analytics.top_products(range, ProductSalesSort::Units, &Paging::first(1_000)).await;
        let page = page.map_err(|e| e.to_string())?.0;
        let found: BTreeMap<ProductId, OfProduct> = page
            .items
            .iter()
            .map(|p| (p.product_id, [p.units, p.revenue.minor(), p.canceled_units, p.canceled.minor()]))
            .collect();
        if found == expected { Ok(()) } else { Err(format!("{range:?}: {found:?}, and by the orders {expected:?}")) }
    }
}

/// Returns the value of the first units of a line (R35), rounded half away from zero, by exact decimals.
fn rounded(amount: i64, units: i64, quantity: i64) -> i64 {
    let exact = Decimal::from(amount) * Decimal::from(units) / Decimal::from(quantity);
    let strategy = rust_decimal::RoundingStrategy::MidpointAwayFromZero;
    exact.round_dp_with_strategy(0, strategy).try_into().unwrap()
}
