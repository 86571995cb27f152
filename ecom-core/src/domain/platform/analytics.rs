//! Analytics: the sales of a day, what was viewed and put into carts, and what is low in stock.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use chrono::{Datelike as _, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::clock::TimeZone;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::sales::order::Totals;
use crate::domain::words::words;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{ProductId, SkuId};
use crate::money::{Currency, Money};

/// A range of days in the time zone of the shop. Both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayRange {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
}

impl DayRange {
    /// The maximum number of days: three years.
    pub const MAX_DAYS: u64 = 1_100;

    /// Returns the last `days` days up to `today`.
    pub fn last(days: u64, today: NaiveDate) -> Self {
        let from = today.checked_sub_days(chrono::Days::new(days.saturating_sub(1)));
        Self { from: from.unwrap_or(NaiveDate::MIN).min(today), to: today }
    }

    /// Checks that both days are in the years 1 to 9999, that `from` is not after `to`, and that the range has at most
    /// [`Self::MAX_DAYS`] days.
    ///
    /// # Errors
    /// `Validation` on `from` or `to`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        for (field, day) in [("from", self.from), ("to", self.to)] {
            if !(1..=9999).contains(&day.year()) {
                errors.out_of_bounds(field, "must be in the years 1 to 9999");
            }
        }
        if self.from > self.to {
            errors.push("from", FieldCode::Inconsistent, "must not be after `to`");
        } else if (self.to - self.from).num_days().unsigned_abs() >= Self::MAX_DAYS {
            let message = format!("must be less than {} days before `to`: read shorter ranges", Self::MAX_DAYS);
            errors.out_of_bounds("from", message);
        }
        errors.into_result()
    }

    /// Returns the days in order.
    pub fn days(&self) -> impl Iterator<Item = NaiveDate> {
        let to = self.to;
        self.from.iter_days().take_while(move |day| *day <= to)
    }
}

/// The sales of one day, or of several. Orders count on the day on which they were placed, with their lines as they are
/// now, and canceled units on the day on which they were canceled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaySales {
    /// The number of orders placed.
    pub orders: u64,
    /// How many of them were made from a cart.
    pub checkouts: u64,
    /// The number of units of these orders, without fees.
    pub units: i64,
    /// The amounts of these orders, canceled units included.
    pub placed: Totals,
    /// The number of units that were canceled, without fees.
    pub canceled_units: i64,
    /// The value of what was canceled (R35).
    pub canceled: Totals,
}

impl DaySales {
    /// Returns the figures of a day without sales.
    pub fn none(currency: Currency) -> Self {
        let none = Totals::of(0, 0, currency);
        Self { orders: 0, checkouts: 0, units: 0, placed: none, canceled_units: 0, canceled: none }
    }

    /// Returns the number of units placed less those canceled. It is negative on a day on which more was canceled than
    /// sold.
    pub const fn net_units(&self) -> i64 {
        self.units - self.canceled_units
    }

    /// Returns the amounts placed less those canceled.
    pub fn net(&self) -> Totals {
        self.placed.less(&self.canceled)
    }

    /// Returns the total of the orders placed, divided by their number and rounded to the minor unit, half away from
    /// zero; `None` without orders.
    pub fn average_order_value(&self) -> Option<Money> {
        let (total, orders) = (i128::from(self.placed.total.minor()), i128::from(self.orders));
        if orders == 0 {
            return None;
        }
        // Totals of orders are not negative.
        let minor = i64::try_from((2 * total + orders) / (2 * orders)).ok()?;
        Some(Money::from_minor(minor, self.placed.total.currency()))
    }

    /// Returns the sum of two figures; `None` if an amount does not fit into 64 bits.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            orders: self.orders.checked_add(other.orders)?,
            checkouts: self.checkouts.checked_add(other.checkouts)?,
            units: self.units.checked_add(other.units)?,
            placed: self.placed.checked_add(&other.placed)?,
            canceled_units: self.canceled_units.checked_add(other.canceled_units)?,
            canceled: self.canceled.checked_add(&other.canceled)?,
        })
    }
}

/// The sales of one product on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductDay {
    /// The product.
    pub product_id: ProductId,
    /// The number of units of orders placed on the day.
    pub units: i64,
    /// The sum of the totals of their lines.
    pub revenue: Money,
    /// The number of units that were canceled on the day.
    pub canceled_units: i64,
    /// The value of the canceled units (R35).
    pub canceled: Money,
}

impl ProductDay {
    /// Returns the sum of two figures of the same product; `None` if an amount does not fit into 64 bits.
    fn checked_add(&self, other: &Self) -> Option<Self> {
        let money = |a: Money, b: Money| Some(Money::from_minor(a.minor().checked_add(b.minor())?, a.currency()));
        Some(Self {
            product_id: self.product_id,
            units: self.units.checked_add(other.units)?,
            revenue: money(self.revenue, other.revenue)?,
            canceled_units: self.canceled_units.checked_add(other.canceled_units)?,
            canceled: money(self.canceled, other.canceled)?,
        })
    }
}

/// The figures of one day, as the orders have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayFigures {
    /// The sales.
    pub sales: DaySales,
    /// The products that were sold or canceled, by id.
    pub products: Vec<ProductDay>,
}

impl DayFigures {
    /// Returns the sum of the figures of two parts of a day; `None` if an amount does not fit into 64 bits.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sales = self.sales.checked_add(&other.sales)?;
        let mut products: BTreeMap<ProductId, ProductDay> =
            self.products.into_iter().map(|of| (of.product_id, of)).collect();
        for of in other.products {
            match products.entry(of.product_id) {
                Entry::Occupied(mut here) => *here.get_mut() = here.get().checked_add(&of)?,
                Entry::Vacant(free) => drop(free.insert(of)),
            }
        }
        Some(Self { sales, products: products.into_values().collect() })
    }
}

/// The state of the figures that are made from orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalyticsState {
    /// The name of the time zone whose days the figures have.
    pub time_zone: String,
    /// A number that increases with each change of the figures that are made from orders.
    pub version: i64,
    /// The number of times that a rebuild was required.
    pub requested: i64,
    /// The value of `requested` that the last complete rebuild has covered.
    pub built: i64,
}

impl AnalyticsState {
    /// Returns true if no rebuild is required or under way.
    pub const fn is_complete(&self) -> bool {
        self.built >= self.requested
    }

    /// Returns the time zone.
    ///
    /// # Errors
    /// `Internal` if this release does not know the zone.
    pub fn zone(&self) -> Result<TimeZone> {
        self.time_zone.parse().map_err(|e: Error| Error::internal("reading the time zone of the figures", e))
    }

    /// Returns the state after a rebuild for a time zone was required.
    #[must_use]
    pub fn rebuild_required(&self, zone: &TimeZone) -> Self {
        Self {
            time_zone: zone.name().to_owned(),
            version: self.version + 1,
            requested: self.requested + 1,
            built: self.built,
        }
    }

    /// Returns the state after a rebuild that began in the state `begun`.
    #[must_use]
    pub fn rebuilt(&self, begun: &Self) -> Self {
        Self { version: self.version + 1, built: self.built.max(begun.requested), ..self.clone() }
    }
}

/// How often one product was viewed on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductViews {
    /// The day, in the time zone of the shop.
    pub day: NaiveDate,
    /// The product.
    pub product_id: ProductId,
    /// The number of views.
    pub views: u64,
}

/// The carts that were created on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedCarts {
    /// The day, in the time zone of the shop.
    pub day: NaiveDate,
    /// The number of carts.
    pub carts: u64,
}

/// The steps from a view to an order, counted over one day or over several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Funnel {
    /// How often products were viewed.
    pub views: u64,
    /// The number of carts created.
    pub carts: u64,
    /// The number of orders that were made from carts.
    pub checkouts: u64,
    /// The number of orders placed, in whatever way.
    pub orders: u64,
}

impl Funnel {
    /// Returns the sum of two funnels.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            views: self.views.saturating_add(other.views),
            carts: self.carts.saturating_add(other.carts),
            checkouts: self.checkouts.saturating_add(other.checkouts),
            orders: self.orders.saturating_add(other.orders),
        }
    }
}

/// A report with a row for each day of a range, also for days without figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyReport<T> {
    /// The range.
    pub range: DayRange,
    /// The name of the time zone whose days these are.
    pub time_zone: String,
    /// False while the figures are being rebuilt, after an update or a change of the time zone. Some days may still
    /// have old figures then, or none.
    pub is_complete: bool,
    /// The days, in order.
    pub days: Vec<(NaiveDate, T)>,
    /// The sum of all days.
    pub total: T,
}

/// The sales of one product over some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductSales {
    /// The product, which may be soft-deleted.
    pub product_id: ProductId,
    /// The title of the product, as it is now.
    pub title: String,
    /// The number of units of orders placed on these days.
    pub units: i64,
    /// The sum of the totals of their lines.
    pub revenue: Money,
    /// The number of units that were canceled on these days.
    pub canceled_units: i64,
    /// The value of the canceled units (R35).
    pub canceled: Money,
    /// How often the product was viewed.
    pub views: u64,
}

impl ProductSales {
    /// Returns the number of units placed less those canceled.
    pub const fn net_units(&self) -> i64 {
        self.units - self.canceled_units
    }

    /// Returns the revenue less the value of what was canceled.
    pub fn net_revenue(&self) -> Money {
        Money::from_minor(self.revenue.minor() - self.canceled.minor(), self.revenue.currency())
    }
}

words! {
    /// The order of a list of products by their sales. Products with equal figures are in the order of their ids.
    #[derive(Default)]
    ProductSalesSort {
        /// Those with the highest net revenue first.
        #[default]
        Revenue = "revenue_desc",
        /// Those with the most net units first.
        Units = "units_desc",
    }
}

impl ProductSalesSort {
    /// Returns the figure by which a product is sorted.
    pub fn figure(self, product: &ProductSales) -> i64 {
        match self {
            Self::Revenue => product.net_revenue().minor(),
            Self::Units => product.net_units(),
        }
    }
}

/// A SKU of an active product that is low in stock: no more pieces are available than its low-stock threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowStockSku {
    /// The SKU.
    pub sku_id: SkuId,
    /// The code of the SKU.
    pub code: String,
    /// The product of the SKU.
    pub product_id: ProductId,
    /// The title of the product.
    pub title: String,
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// The low-stock threshold.
    pub low_stock_threshold: i64,
}

impl LowStockSku {
    /// Returns the number of pieces that can be sold.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Returns the availability that shoppers see.
    pub const fn availability(&self) -> AvailabilityStatus {
        AvailabilityStatus::of(self.available(), self.low_stock_threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn r17_a_range_of_days_is_checked() {
        let today = day("2026-03-01");
        let range = DayRange::last(30, today);
        assert_eq!((range.from, range.to), (day("2026-01-31"), today));
        assert_eq!(range.days().count(), 30);
        assert!(range.check().is_ok() && DayRange::last(1, today).check().is_ok());
        assert!(DayRange::last(DayRange::MAX_DAYS, today).check().is_ok());
        let backwards = DayRange { from: today, to: range.from };
        for bad in [
            backwards,
            DayRange::last(DayRange::MAX_DAYS + 1, today),
            DayRange::last(36_525, today),
            DayRange { from: NaiveDate::MIN, to: NaiveDate::MAX },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn r46_the_average_is_rounded_half_away_from_zero() {
        let of = |orders, total| {
            let placed = Totals::of(total, 0, Currency::USD);
            DaySales { orders, placed, ..DaySales::none(Currency::USD) }.average_order_value().map(Money::minor)
        };
        assert_eq!((of(2, 5), of(3, 10), of(3, 11), of(0, 0)), (Some(3), Some(3), Some(4), None));
        assert_eq!(of(1, i64::MAX), Some(i64::MAX));
    }

    #[test]
    fn r46_sums_are_checked_for_overflow() {
        let most = DaySales { placed: Totals::of(i64::MAX, 0, Currency::USD), ..DaySales::none(Currency::USD) };
        let one = DaySales { placed: Totals::of(1, 0, Currency::USD), ..DaySales::none(Currency::USD) };
        assert_eq!(most.checked_add(&one), None);
        assert_eq!(one.checked_add(&one).map(|sum| sum.net().total.minor()), Some(2));
    }

    #[test]
    fn r46_the_parts_of_a_day_add_up() {
        let money = |units: i64| Money::from_minor(units.saturating_mul(100), Currency::USD);
        let of = |id: u128, units: i64, canceled_units: i64| ProductDay {
            product_id: ProductId(uuid::Uuid::from_u128(id)),
            units,
            revenue: money(units),
            canceled_units,
            canceled: money(canceled_units),
        };
        let part = |orders: u64, products: &[ProductDay]| DayFigures {
            sales: DaySales { orders, ..DaySales::none(Currency::USD) },
            products: products.to_vec(),
        };
        let day = part(2, &[of(1, 3, 0), of(3, 1, 0)]).checked_add(part(1, &[of(2, 5, 0), of(3, 2, 4)]));
        assert_eq!(day, Some(part(3, &[of(1, 3, 0), of(2, 5, 0), of(3, 3, 4)])));
        assert_eq!(part(1, &[of(1, i64::MAX, 0)]).checked_add(part(1, &[of(1, 1, 0)])), None);
    }
}
