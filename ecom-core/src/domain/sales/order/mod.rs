//! Orders, with their lines, discounts and history. An order is a snapshot: it keeps the titles, prices, buyer and
//! addresses of its sale, and nothing outside of the order changes them (R18, R19).

pub(crate) mod change;
pub(crate) mod explain;
pub(crate) mod input;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::domain::common::{Actor, Attributes, Audit, ExternalRef, IncludeDeleted};
use crate::domain::platform::idempotency::AnswerSubject;
use crate::domain::sales::bill::{Bill, BillKind, BillStatus};
use crate::domain::sales::customer::{Address, AddressInput};
use crate::domain::sales::pricing::first_units;
use crate::domain::words::words;
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{CartId, CustomerId, OrderAdjustmentId, OrderId, OrderLineId, ProductId, SkuId};
use crate::money::{Currency, Money};
use crate::text::check_text;

words! {
    /// The status of an order. It moves from pending to in progress to delivered, and from pending or in progress to
    /// canceled.
    OrderStatus {
        /// The order was placed; its lines can be edited (R9).
        Pending = "pending",
        /// The work on the order has started.
        InProgress = "in_progress",
        /// The order was delivered.
        Delivered = "delivered",
        /// The order was canceled, and its stock was restored (R10).
        Canceled = "canceled",
    }
}

words! {
    /// How the buyer receives the goods. `drive_thru`: the buyer collects the goods at the drive-through. `on_hand`:
    /// the buyer receives the goods in the shop (not related to stock on hand). `home_delivery`: the goods are
    /// delivered to the shipping address.
    DeliveryMethod {
        /// The buyer collects the goods at the drive-through.
        DriveThru = "drive_thru",
        /// The buyer receives the goods in the shop. The name is not related to stock on hand.
        OnHand = "on_hand",
        /// The goods are delivered to the shipping address.
        HomeDelivery = "home_delivery",
    }
}

words! {
    /// What a line of an order sells.
    LineKind {
        /// A SKU.
        Sku = "sku",
        /// Something that the catalog does not have.
        Custom = "custom",
        /// A fee or a surcharge.
        Fee = "fee",
    }
}

words! {
    /// Where a discount on a line comes from.
    AdjustmentKind {
        /// A discount that the staff gave.
        Manual = "manual",
        /// A promotion.
        Promotion = "promotion",
    }
}

/// The sums of a line, an order or a bill. `total = subtotal + shipping − discount + tax_added`; `tax_included` is not
/// added to the total. Every amount is in the currency of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The sum of quantity × unit price.
    pub subtotal: Money,
    /// Shipping, less its discounts; 0 on lines.
    pub shipping: Money,
    /// The discounts on lines.
    pub discount: Money,
    /// Taxes that are added to the prices.
    pub tax_added: Money,
    /// Taxes that the prices include.
    pub tax_included: Money,
    /// The total.
    pub total: Money,
}

impl Totals {
    /// Returns the totals of a subtotal and a discount in minor units, without shipping and taxes.
    pub fn of(subtotal: i64, discount: i64, currency: Currency) -> Self {
        let money = |minor| Money::from_minor(minor, currency);
        Self {
            subtotal: money(subtotal),
            shipping: money(0),
            discount: money(discount),
            tax_added: money(0),
            tax_included: money(0),
            total: money(subtotal - discount),
        }
    }

    /// Returns the sums of each amount.
    pub fn sum<'t>(parts: impl IntoIterator<Item = &'t Self>, currency: Currency) -> Self {
        parts.into_iter().fold(Self::of(0, 0, currency), |a, b| a.combine(b, 1))
    }

    /// Returns the differences of each amount.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        self.combine(other, -1)
    }

    /// Returns the sums of each amount; `None` if one does not fit into 64 bits.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let of = |a: Money, b: Money| Some(Money::from_minor(a.minor().checked_add(b.minor())?, a.currency()));
        Some(Self {
            subtotal: of(self.subtotal, other.subtotal)?,
            shipping: of(self.shipping, other.shipping)?,
            discount: of(self.discount, other.discount)?,
            tax_added: of(self.tax_added, other.tax_added)?,
            tax_included: of(self.tax_included, other.tax_included)?,
            total: of(self.total, other.total)?,
        })
    }

    fn combine(&self, other: &Self, sign: i64) -> Self {
        let of = |a: Money, b: Money| Money::from_minor(a.minor() + sign * b.minor(), a.currency());
        Self {
            subtotal: of(self.subtotal, other.subtotal),
            shipping: of(self.shipping, other.shipping),
            discount: of(self.discount, other.discount),
            tax_added: of(self.tax_added, other.tax_added),
            tax_included: of(self.tax_included, other.tax_included),
            total: of(self.total, other.total),
        }
    }

    /// Returns true if the total is the sum of its terms and none of them is negative.
    pub fn add_up(&self) -> bool {
        let m = |money: Money| money.minor();
        m(self.total) == m(self.subtotal) + m(self.shipping) - m(self.discount) + m(self.tax_added)
            && m(self.discount) <= m(self.subtotal)
            && [self.subtotal, self.shipping, self.discount, self.tax_added, self.tax_included, self.total]
                .iter()
                .all(|a| a.minor() >= 0)
    }
}

/// A postal address as an order keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PostalAddress {
    /// The street.
    pub street: String,
    /// The house number.
    pub number: Option<String>,
    /// The city.
    pub city: String,
    /// The state or province.
    pub region: Option<String>,
    /// The postal code.
    pub postal_code: Option<String>,
    /// The country, as its ISO 3166-1 alpha-2 code in upper case.
    pub country: Option<String>,
}

impl From<Address> for PostalAddress {
    fn from(a: Address) -> Self {
        let Address { street, number, city, region, postal_code, country, .. } = a;
        Self { street, number, city, region, postal_code, country }
    }
}

impl From<AddressInput> for PostalAddress {
    fn from(a: AddressInput) -> Self {
        let AddressInput { street, number, city, region, postal_code, country, version: _ } = a;
        Self { street, number, city, region, postal_code, country }
    }
}

/// The buyer of an order, as the order keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Buyer {
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The email address.
    pub email: Option<String>,
    /// The telephone number.
    pub telephone: Option<String>,
}

/// An order with its lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The id of the order.
    pub id: OrderId,
    /// The number, such as `ORD-2026-000123`, unique for ever (R43).
    pub number: String,
    /// The cart that the order was made from.
    pub cart_id: Option<CartId>,
    /// The customer; `None` for a guest. The order of a guest becomes a customer's if a user of that customer verifies
    /// the email address of the order.
    pub customer_id: Option<CustomerId>,
    /// The buyer, as it was when the order was placed.
    pub buyer: Buyer,
    /// The status.
    pub status: OrderStatus,
    /// How the buyer receives the goods.
    pub delivery_method: DeliveryMethod,
    /// The address of a home delivery.
    pub shipping_address: Option<PostalAddress>,
    /// The address on the bill, if it is another one.
    pub billing_address: Option<PostalAddress>,
    /// A reference to the shipment, 1–255 characters.
    pub tracking: Option<String>,
    /// Whether the prices include tax.
    pub prices_include_tax: bool,
    /// The amounts, which are the sums of the order's bills.
    pub totals: Totals,
    /// The version of the arithmetic that computed the amounts.
    pub engine: i32,
    /// When the order was placed.
    pub placed_at: Timestamp,
    /// When the order was canceled.
    pub canceled_at: Option<Timestamp>,
    /// When the personal data of the order was erased (R45): the buyer, the addresses, the tracking reference, the
    /// attributes of the order and its lines, and the external reference. Nothing brings such data back.
    pub erased_at: Option<Timestamp>,
    /// Free attributes.
    pub attributes: Attributes,
    /// The record that the order was imported from.
    pub external: Option<ExternalRef>,
    /// The lines, by position. A line that was removed has the quantity 0.
    pub lines: Vec<OrderLine>,
    /// When and by whom the order was created and edited, and its version, which every change of the order, its lines
    /// and its bills increases.
    pub audit: Audit,
}

impl Order {
    /// The maximum number of lines of an order.
    pub const MAX_LINES: usize = 500;

    /// Returns the currency of all amounts of the order.
    pub const fn currency(&self) -> Currency {
        self.totals.total.currency()
    }

    /// Returns whose personal data the order contains, for the answers that are stored with idempotency keys; `None` if
    /// it was erased.
    pub fn subject(&self) -> Option<AnswerSubject> {
        let subject = self.customer_id.map_or(AnswerSubject::Guest(self.id.0), AnswerSubject::Customer);
        self.erased_at.is_none().then_some(subject)
    }

    /// Returns true if the order contains none of the data that an erasure clears.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.buyer == Buyer::default()
            && self.shipping_address.is_none()
            && self.billing_address.is_none()
            && self.tracking.is_none()
            && self.attributes.0.is_empty()
            && self.external.is_none()
    }
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderLine {
    /// The id of the line.
    pub id: OrderLineId,
    /// The order.
    pub order_id: OrderId,
    /// When the order was placed. Lists of lines sort by it.
    pub placed_at: Timestamp,
    /// The position in the order; it starts at 1.
    pub position: i32,
    /// The [`seq`](Bill::seq) of the bill that the line belongs to.
    pub bill_seq: i32,
    /// What the line sells.
    pub kind: LineKind,
    /// The SKU that the line sells.
    pub sku_id: Option<SkuId>,
    /// The product of the SKU.
    pub product_id: Option<ProductId>,
    /// The code of the SKU, as it was sold.
    pub code: Option<String>,
    /// The title of the product, as it was sold, or of the custom line.
    pub title: String,
    /// The values of the SKU's options, as they were sold.
    pub options: BTreeMap<String, String>,
    /// Free attributes, such as an engraving.
    pub attributes: Attributes,
    /// Whether the line has taken its units from stock. A SKU whose stock was not tracked has not.
    pub takes_stock: bool,
    /// The price before the discount of the product.
    pub list_price: Money,
    /// The price of a unit.
    pub unit_price: Money,
    /// The number of units; 0 if the line was removed.
    pub quantity: i64,
    /// How many of the units were canceled.
    pub canceled: i64,
    /// The amounts of all units, whether canceled or not.
    pub totals: Totals,
}

impl OrderLine {
    /// The largest quantity of a line.
    pub const MAX_QUANTITY: i64 = 1_000_000;

    /// Returns the number of units that were not canceled.
    pub const fn remaining(&self) -> i64 {
        self.quantity - self.canceled
    }
}

/// The units of a line that one change of its order has canceled, with their value (R35, R36). Nothing changes it: a
/// bill with canceled units is frozen (R39), and an erasure keeps it (R45).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancellation {
    /// The order.
    pub order_id: OrderId,
    /// The line.
    pub line_id: OrderLineId,
    /// The version of the order after the change.
    pub seq: i64,
    /// What the line sells.
    pub kind: LineKind,
    /// The product of the line's SKU.
    pub product_id: Option<ProductId>,
    /// The number of units, above 0.
    pub units: i64,
    /// The value of the units.
    pub totals: Totals,
    /// When they were canceled.
    pub at: Timestamp,
}

impl OrderCancellation {
    /// Returns what a change has canceled, by the state of the order before and after it.
    pub fn between(before: &Order, after: &Order, change: &OrderChange) -> Vec<Self> {
        let canceled = |line: &OrderLine| {
            let old = before.lines.iter().find(|old| old.id == line.id);
            let from = old.map_or(0, |old| old.canceled);
            Self::of(line, from, line.canceled - from, change.seq, change.at)
        };
        after.lines.iter().filter_map(canceled).collect()
    }

    /// Returns the cancellation of `units` units of a line, of which `from` were canceled before; `None` if there are
    /// none.
    pub(crate) fn of(line: &OrderLine, from: i64, units: i64, seq: i64, at: Timestamp) -> Option<Self> {
        if units <= 0 {
            return None;
        }
        let value =
            |amount: i64| first_units(amount, from + units, line.quantity) - first_units(amount, from, line.quantity);
        let (all, currency) = (&line.totals, line.totals.total.currency());
        let subtotal = units * line.unit_price.minor();
        let paid = value(all.subtotal.minor() - all.discount.minor());
        let (tax_added, tax_included) = (value(all.tax_added.minor()), value(all.tax_included.minor()));
        let money = |minor| Money::from_minor(minor, currency);
        let totals = Totals {
            tax_added: money(tax_added),
            tax_included: money(tax_included),
            total: money(paid + tax_added),
            ..Totals::of(subtotal, subtotal - paid, currency)
        };
        let (order_id, line_id) = (line.order_id, line.id);
        Some(Self { order_id, line_id, seq, kind: line.kind, product_id: line.product_id, units, totals, at })
    }
}

/// A discount on a line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderAdjustment {
    /// The id of the adjustment.
    pub id: OrderAdjustmentId,
    /// The order.
    pub order_id: OrderId,
    /// The line.
    pub line_id: OrderLineId,
    /// Where the discount comes from.
    pub kind: AdjustmentKind,
    /// The text for people.
    pub label: String,
    /// The position of the adjustment in the calculation of the line's total.
    pub step: i32,
    /// The amount, above 0.
    pub amount: Money,
}

/// An order with everything that belongs to it: its lines, its discounts, its bills and credit notes.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRecord {
    /// The order.
    pub order: Order,
    /// The discounts, by line position and step.
    pub adjustments: Vec<OrderAdjustment>,
    /// The bills, then the credit notes, each by seq.
    pub bills: Vec<Bill>,
}

impl OrderRecord {
    /// Returns the net amount billed: the bills less the credit notes, void ones excluded. Payments are not subtracted,
    /// so a paid bill counts in full.
    pub fn due(&self) -> Money {
        let minor = self.bills.iter().filter(|b| b.status != BillStatus::Void).map(|b| match b.kind {
            BillKind::Bill => b.totals.total.minor(),
            BillKind::CreditNote => -b.totals.total.minor(),
        });
        Money::from_minor(minor.sum(), self.order.currency())
    }
}

/// An entry of the history of an order. Every version of the order has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderChange {
    /// The order.
    pub order_id: OrderId,
    /// The version of the order after the change.
    pub seq: i64,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The status before; `None` when the order was placed.
    pub from: Option<OrderStatus>,
    /// The status afterwards.
    pub to: OrderStatus,
    /// What changed, as a JSON object. `edited`: `lines` with `line_id` and the quantities `from` and `to`, empty if
    /// only the discount changed. `units_canceled`: `lines` with `line_id` and `quantity`. `billed`: `bill_id`, and
    /// `paid`, which is true if the change set the status of the bill to paid. `patched`: `customer_id`, if the order
    /// was a guest's and became that of this customer. Empty for all other kinds, and for all changes before an erasure
    /// of the personal data (R45).
    pub data: Value,
    /// The actor who made the change.
    pub actor: Actor,
    /// The time of the change.
    pub at: Timestamp,
}

words! {
    /// The kind of a change of an order.
    #[non_exhaustive]
    ChangeKind {
        /// The order was placed.
        Placed = "placed",
        /// Its lines or its discount were edited.
        Edited = "edited",
        /// Its delivery, tracking or attributes were edited, or the order of a guest became that of a customer.
        Patched = "patched",
        /// One of its bills was edited or paid.
        Billed = "billed",
        /// The work on it has started.
        Started = "started",
        /// It was delivered.
        Delivered = "delivered",
        /// Some of its units were canceled.
        UnitsCanceled = "units_canceled",
        /// It was canceled.
        Canceled = "canceled",
        /// It was soft-deleted.
        Deleted = "deleted",
        /// It was restored.
        Restored = "restored",
        /// The personal data of the order was erased.
        Erased = "erased",
    }
}

/// The filter of a list of orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// The orders of this customer.
    pub customer: Option<CustomerId>,
    /// The orders whose buyer has this email, ignoring case.
    pub email: Option<String>,
    /// The orders with this status.
    pub status: Option<OrderStatus>,
    /// The orders with this delivery method.
    pub delivery_method: Option<DeliveryMethod>,
    /// The orders that sell this SKU.
    pub sku: Option<SkuId>,
    /// The orders placed at this time or later.
    pub from: Option<Timestamp>,
    /// The orders placed before this time.
    pub until: Option<Timestamp>,
    /// Whether soft-deleted orders are listed (R2).
    pub include_deleted: IncludeDeleted,
}

impl OrderFilter {
    /// Refuses an email that no order can have, and a range of times that ends before it begins.
    ///
    /// # Errors
    /// `Validation` on fields `email` and `from`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if let Some(email) = &self.email {
            check_text("email", email, 1, 254, &mut errors);
        }
        check_range(self.from, self.until, &mut errors);
        errors.into_result()
    }
}

/// The filter of a list of order lines. Lines that were removed from their order are not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderLineFilter {
    /// The lines of this order.
    pub order: Option<OrderId>,
    /// The lines that sell this SKU.
    pub sku: Option<SkuId>,
    /// The lines that sell a SKU of this product.
    pub product: Option<ProductId>,
    /// The lines of the orders of this customer.
    pub customer: Option<CustomerId>,
    /// The lines of orders with this status.
    pub status: Option<OrderStatus>,
    /// The lines of orders placed at this time or later.
    pub from: Option<Timestamp>,
    /// The lines of orders placed before this time.
    pub until: Option<Timestamp>,
    /// Whether the lines of soft-deleted orders are listed (R2).
    pub include_deleted: IncludeDeleted,
}

impl OrderLineFilter {
    /// Refuses a range of times that ends before it begins.
    ///
    /// # Errors
    /// `Validation` on field `from`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        check_range(self.from, self.until, &mut errors);
        errors.into_result()
    }
}

pub(crate) fn check_range(from: Option<Timestamp>, until: Option<Timestamp>, errors: &mut ValidationErrors) {
    if from.zip(until).is_some_and(|(from, until)| from > until) {
        errors.push("from", FieldCode::Inconsistent, "must not be after `until`");
    }
}

words! {
    /// The order of a list of orders, or of their lines. Equal ones are sorted by id.
    #[derive(Default)]
    OrderSort {
        /// By the time when they were placed, newest first.
        #[default]
        PlacedDesc = "placed_desc",
        /// By the time when they were placed, oldest first.
        PlacedAsc = "placed_asc",
    }
}
