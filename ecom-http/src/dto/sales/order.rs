//! The representations of orders, of their lines and of their histories.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::common::Attributes;
use ecom_core::id::OrderLineId;
use ecom_core::money::{Currency, ExactDecimal, Money};
use ecom_core::sales::{
    AmountName, Buyer, CancelUnits, ChangeKind, DeliveryMethod, ExplainedKind, LineChange, LineKind, Order,
    OrderChange, OrderEdit, OrderExplanation, OrderLine, OrderLineInput, OrderStatus, PostalAddress,
};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::dto::Amount;

/// The buyer of an order, as it was when the order was placed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BuyerView<'a> {
    /// The first name; null if it was erased.
    #[schema(example = "Ada")]
    pub first_name: Option<&'a str>,
    /// The last name; null if it was erased.
    #[schema(example = "Lovelace")]
    pub last_name: Option<&'a str>,
    /// The email address; null if it was erased.
    #[schema(format = "email", example = "ada@example.com")]
    pub email: Option<&'a str>,
    /// The telephone number; null if there is none.
    #[schema(example = "+442079460018")]
    pub telephone: Option<&'a str>,
}

impl<'a> From<&'a Buyer> for BuyerView<'a> {
    fn from(b: &'a Buyer) -> Self {
        Self {
            first_name: b.first_name.as_deref(),
            last_name: b.last_name.as_deref(),
            email: b.email.as_deref(),
            telephone: b.telephone.as_deref(),
        }
    }
}

/// A postal address, as it was when the order was placed or last edited.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct PostalAddressView<'a> {
    /// The street.
    #[schema(example = "Ockham Lane")]
    pub street: &'a str,
    /// The house number; null if there is none.
    #[schema(example = "12a")]
    pub number: Option<&'a str>,
    /// The city.
    #[schema(example = "London")]
    pub city: &'a str,
    /// The state or province; null if there is none.
    pub region: Option<&'a str>,
    /// The postal code; null if there is none.
    #[schema(example = "SW1Y 4LB")]
    pub postal_code: Option<&'a str>,
    /// The country, as its ISO 3166-1 alpha-2 code in upper case; null if it is not known.
    #[schema(example = "GB")]
    pub country: Option<&'a str>,
}

impl<'a> From<&'a PostalAddress> for PostalAddressView<'a> {
    fn from(a: &'a PostalAddress) -> Self {
        Self {
            street: &a.street,
            number: a.number.as_deref(),
            city: &a.city,
            region: a.region.as_deref(),
            postal_code: a.postal_code.as_deref(),
            country: a.country.as_deref(),
        }
    }
}

/// A line of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderLineView<'a> {
    /// The id of the line.
    pub id: Uuid,
    /// The id of the order.
    pub order_id: Uuid,
    /// When the order was placed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub placed_at: DateTime<Utc>,
    /// The position in the order. Positions of lines that were removed are not used again.
    pub position: i32,
    /// What the line sells.
    pub kind: LineKind,
    /// The id of the SKU that the line sells; null for a custom line and for a fee.
    pub sku_id: Option<Uuid>,
    /// The id of the product of the SKU; null for a custom line and for a fee.
    pub product_id: Option<Uuid>,
    /// The code of the SKU, as it was sold; null for a custom line and for a fee.
    #[schema(example = "NOTEBOOK-A5")]
    pub code: Option<&'a str>,
    /// The title of the product, as it was sold, or of the custom line or fee.
    pub title: &'a str,
    /// The values of the SKU's options, as they were sold, such as `{"size": "M"}`.
    pub options: &'a BTreeMap<String, String>,
    /// Free attributes, such as an engraving.
    pub attributes: &'a Attributes,
    /// The price of a unit before the discount of the product.
    pub list_price: Amount,
    /// The price of a unit.
    pub unit_price: Amount,
    /// The currency of the amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// The number of units that were sold.
    pub quantity: i64,
    /// How many of these units were canceled. The amounts are those of all units, whether canceled or not; credit notes
    /// have the amounts of canceled units.
    pub canceled: i64,
    /// The quantity × the unit price.
    pub subtotal: Amount,
    /// The line's share of the discount on its bill.
    pub discount: Amount,
    /// The tax that is added to the price.
    pub tax_added: Amount,
    /// The tax that the price includes.
    pub tax_included: Amount,
    /// The total: subtotal − discount + added tax.
    pub total: Amount,
    /// The number, within the order, of the bill that the line is on.
    pub bill_seq: i32,
}

impl<'a> OrderLineView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "order_id",
        "placed_at",
        "position",
        "kind",
        "sku_id",
        "product_id",
        "code",
        "title",
        "options",
        "attributes",
        "list_price",
        "unit_price",
        "currency",
        "quantity",
        "canceled",
        "subtotal",
        "discount",
        "tax_added",
        "tax_included",
        "total",
        "bill_seq",
    ];

    pub(crate) fn of(l: &'a OrderLine, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        Self {
            id: l.id.0,
            order_id: l.order_id.0,
            placed_at: l.placed_at,
            position: l.position,
            kind: l.kind,
            sku_id: l.sku_id.map(Into::into),
            product_id: l.product_id.map(Into::into),
            code: l.code.as_deref(),
            title: &l.title,
            options: &l.options,
            attributes: &l.attributes,
            list_price: money(l.list_price),
            unit_price: money(l.unit_price),
            currency: l.unit_price.currency().code(),
            quantity: l.quantity,
            canceled: l.canceled,
            subtotal: money(l.totals.subtotal),
            discount: money(l.totals.discount),
            tax_added: money(l.totals.tax_added),
            tax_included: money(l.totals.tax_included),
            total: money(l.totals.total),
            bill_seq: l.bill_seq,
        }
    }
}

/// Returns the lines that were not removed. Removed ones have the quantity 0 and no amounts; the history names them.
pub(crate) fn shown_lines(order: &Order) -> impl Iterator<Item = &OrderLine> {
    order.lines.iter().filter(|l| l.quantity > 0)
}

/// An order with its lines.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderView<'a> {
    /// The id of the order.
    pub id: Uuid,
    /// The number, unique for ever.
    #[schema(example = "ORD-2026-000123")]
    pub number: &'a str,
    /// The id of the cart that the order was made from; null if there was none.
    pub cart_id: Option<Uuid>,
    /// The id of the customer; null for a guest.
    pub customer_id: Option<Uuid>,
    /// The buyer, as it was when the order was placed.
    pub customer: BuyerView<'a>,
    /// The status.
    pub status: OrderStatus,
    /// How the buyer receives the goods.
    pub delivery_method: DeliveryMethod,
    /// The address of the delivery; null if there is none.
    #[schema(inline)]
    pub shipping_address: Option<PostalAddressView<'a>>,
    /// The address on the bill; null if it is that of the delivery.
    #[schema(inline)]
    pub billing_address: Option<PostalAddressView<'a>>,
    /// The reference to the shipment; null if there is none.
    pub tracking: Option<&'a str>,
    /// The currency of all amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// Whether the prices include tax.
    pub prices_include_tax: bool,
    /// The sum of the lines' subtotals.
    pub subtotal: Amount,
    /// The cost of shipping, less its discounts.
    pub shipping: Amount,
    /// The sum of the lines' discounts.
    pub discount: Amount,
    /// The tax that is added to the prices.
    pub tax_added: Amount,
    /// The tax that the prices include.
    pub tax_included: Amount,
    /// The total: subtotal + shipping − discount + added tax. Canceled units do not reduce it; credit notes have their
    /// amounts.
    pub total: Amount,
    /// When the order was placed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub placed_at: DateTime<Utc>,
    /// When the order was canceled (RFC 3339, UTC); null if it was not.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub canceled_at: Option<DateTime<Utc>>,
    /// When the personal data of the order was erased (RFC 3339, UTC); null if it was not.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub erased_at: Option<DateTime<Utc>>,
    /// The lines, by position. Lines that were removed are not included.
    pub lines: Vec<OrderLineView<'a>>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The system that the order was imported from; null if the order was not imported.
    pub source: Option<&'a str>,
    /// The id of the order in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases with every change of the order, its lines and its bills. Writes name it (R1).
    pub version: i64,
    /// When the order was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the order was last changed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the order.
    pub created_by: &'a str,
    /// The actor who last changed the order.
    pub updated_by: &'a str,
    /// When the order was soft-deleted (RFC 3339, UTC); null for a live one.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl<'a> OrderView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "number",
        "cart_id",
        "customer_id",
        "customer",
        "status",
        "delivery_method",
        "shipping_address",
        "billing_address",
        "tracking",
        "currency",
        "prices_include_tax",
        "subtotal",
        "shipping",
        "discount",
        "tax_added",
        "tax_included",
        "total",
        "placed_at",
        "canceled_at",
        "erased_at",
        "lines",
        "attributes",
        "source",
        "external_id",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];

    pub(crate) fn of(o: &'a Order, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        Self {
            id: o.id.0,
            number: &o.number,
            cart_id: o.cart_id.map(Into::into),
            customer_id: o.customer_id.map(Into::into),
            customer: (&o.buyer).into(),
            status: o.status,
            delivery_method: o.delivery_method,
            shipping_address: o.shipping_address.as_ref().map(Into::into),
            billing_address: o.billing_address.as_ref().map(Into::into),
            tracking: o.tracking.as_deref(),
            currency: o.currency().code(),
            prices_include_tax: o.prices_include_tax,
            subtotal: money(o.totals.subtotal),
            shipping: money(o.totals.shipping),
            discount: money(o.totals.discount),
            tax_added: money(o.totals.tax_added),
            tax_included: money(o.totals.tax_included),
            total: money(o.totals.total),
            placed_at: o.placed_at,
            canceled_at: o.canceled_at,
            erased_at: o.erased_at,
            lines: shown_lines(o).map(|l| OrderLineView::of(l, numbers)).collect(),
            attributes: &o.attributes,
            source: o.external.as_ref().map(|x| x.source.as_str()),
            external_id: o.external.as_ref().map(|x| x.external_id.as_str()),
            version: o.audit.version,
            created_at: o.audit.created_at,
            updated_at: o.audit.updated_at,
            created_by: o.audit.created_by.as_str(),
            updated_by: o.audit.updated_by.as_str(),
            deleted_at: o.audit.deleted_at,
        }
    }
}

/// An entry of the history of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderChangeView<'a> {
    /// The version of the order after the change. Every version has one entry.
    pub seq: i64,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The status before the change; null when the order was placed.
    pub from: Option<OrderStatus>,
    /// The status after the change.
    pub to: OrderStatus,
    /// What changed: an object that depends on the kind. `edited`: `lines` with `line_id` and the quantities `from` and
    /// `to`, empty if only the discount changed. `units_canceled`: `lines` with `line_id` and `quantity`. `billed`:
    /// `bill_id`, and `paid`, which is true if the change set the status of the bill to paid. `patched`: `customer_id`,
    /// if the order was a guest's and became that of this customer. Empty for all other kinds, and for all changes
    /// before an erasure of the personal data (R45).
    #[schema(value_type = Object)]
    pub data: &'a serde_json::Value,
    /// The actor who made the change.
    pub actor: &'a str,
    /// When the change was made (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub at: DateTime<Utc>,
}

impl OrderChangeView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &["seq", "kind", "from", "to", "data", "actor", "at"];
}

impl<'a> From<&'a OrderChange> for OrderChangeView<'a> {
    fn from(c: &'a OrderChange) -> Self {
        Self { seq: c.seq, kind: c.kind, from: c.from, to: c.to, data: &c.data, actor: c.actor.as_str(), at: c.at }
    }
}

/// Where the amounts of an order come from.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct OrderExplanationView<'a> {
    /// The id of the order.
    pub order_id: Uuid,
    /// The number of the order.
    #[schema(example = "ORD-2026-000123")]
    pub number: &'a str,
    /// The version of the order that is explained.
    pub version: i64,
    /// The currency of all amounts, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// The amounts of the lines by position, of the bills, of the credit notes, and of the order.
    pub amounts: Vec<ExplainedAmountView<'a>>,
}

/// An amount of an order, and where it comes from.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ExplainedAmountView<'a> {
    /// Which amount it is.
    pub of: AmountOfView<'a>,
    /// The amount.
    pub amount: Amount,
    /// How the amount is computed, with the number of the rule.
    #[schema(example = "quantity × unit price, canceled units included (R18)")]
    pub formula: &'a str,
    /// The parts, which add up to the amount.
    pub parts: Vec<AmountPartView<'a>>,
}

/// The name of an amount of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AmountOfView<'a> {
    /// What the amount belongs to.
    pub kind: ExplainedKind,
    /// The id of the line, the bill, the credit note or the order.
    pub id: Uuid,
    /// The line, bill, credit note or order, for people.
    #[schema(example = "line 1 (Field Notebook)")]
    pub label: &'a str,
    /// Which of its amounts it is.
    pub name: AmountName,
}

/// A part of an amount of an order.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AmountPartView<'a> {
    /// What the part is.
    #[schema(example = "3 × 4.50 USD")]
    pub label: &'a str,
    /// The part, which is negative if it is subtracted.
    pub amount: Amount,
}

impl<'a> OrderExplanationView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &["order_id", "number", "version", "currency", "amounts"];

    pub(crate) fn of(explanation: &'a OrderExplanation, currency: Currency, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        let amounts = explanation.amounts.iter().map(|a| ExplainedAmountView {
            of: AmountOfView { kind: a.of.kind, id: a.of.id, label: &a.of.label, name: a.of.name },
            amount: money(a.amount),
            formula: &a.formula,
            parts: a.parts.iter().map(|p| AmountPartView { label: &p.label, amount: money(p.amount) }).collect(),
        });
        Self {
            order_id: explanation.order_id.0,
            number: &explanation.number,
            version: explanation.version,
            currency: currency.code(),
            amounts: amounts.collect(),
        }
    }
}

/// A line to add to a pending order.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sku": "NOTEBOOK-A5", "quantity": 2, "unit_price": "4.50", "version": 1}))]
pub(crate) struct AddLineInput {
    /// The id of the SKU. Either this or `sku` is required.
    #[serde(default)]
    pub sku_id: Option<Uuid>,
    /// The code of the SKU.
    #[serde(default)]
    pub sku: Option<String>,
    /// The number of units, 1–1,000,000.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
    /// The price of a unit that the buyer was shown, in the major unit of the currency. It must be the current one
    /// (R8).
    #[serde(default)]
    pub unit_price: Option<ExactDecimal>,
    /// Free attributes, such as an engraving. Two lines may sell one SKU.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    pub attributes: Attributes,
    /// The price of a unit, in place of the current one. Requires the permission `orders:discount`.
    #[serde(default)]
    pub price_override: Option<ExactDecimal>,
    /// The version of the order that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl From<AddLineInput> for OrderEdit {
    fn from(input: AddLineInput) -> Self {
        let AddLineInput { sku_id, sku, quantity, unit_price, attributes, price_override, version } = input;
        let sku_id = sku_id.map(Into::into);
        let line = OrderLineInput { sku_id, sku, quantity, unit_price, attributes, price_override };
        Self { version, ..Self::default().line(line) }
    }
}

/// A change of a line of a pending order.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"quantity": 3, "version": 1}))]
pub(crate) struct ChangeLineInput {
    /// The new number of units, 1–1,000,000. The quantity does not change if it is absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quantity: Option<i64>,
    /// Whether the line is sold at the current price from now on; false if absent. Otherwise, it keeps the price at
    /// which it was sold.
    #[serde(default)]
    pub reprice: bool,
    /// The version of the order that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl ChangeLineInput {
    /// Returns the edit of a line.
    pub(crate) fn of(self, line_id: OrderLineId) -> OrderEdit {
        let Self { quantity, reprice, version } = self;
        OrderEdit { version, ..OrderEdit::default().with(LineChange { line_id, quantity, reprice }) }
    }
}

/// The units of an order to cancel.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"lines": [{"line_id": "019ab000-0000-7000-8000-000000000000", "quantity": 1}], "version": 1}))]
pub(crate) struct CancelInput {
    /// The lines with the units to cancel. If it is absent, the whole order is canceled.
    #[serde(default, deserialize_with = "sent")]
    #[schema(nullable = false)]
    pub lines: Option<Vec<CancelUnits>>,
    /// The version of the order that the client read (R1), unless `If-Match` names it. It is required with `lines`, and
    /// refused without them.
    #[serde(default)]
    pub version: Option<i64>,
}

/// Deserializes a field that may be absent but not null, so that a null does not cancel the whole order.
fn sent<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<CancelUnits>>, D::Error> {
    Vec::deserialize(d).map(Some)
}
