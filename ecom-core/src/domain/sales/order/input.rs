//! The inputs of the calls that place and change orders, and their checks.

use derive_setters::Setters;
use serde::Deserialize;
use serde_json::Value;

use super::{DeliveryMethod, LineKind, Order, OrderLine, PostalAddress};
use crate::domain::catalog::category::check_external;
use crate::domain::common::{Attributes, Patch};
use crate::domain::sales::bill::PaymentType;
use crate::domain::sales::customer::{AddressInput, CustomerInput};
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{AddressId, CustomerId, OrderLineId, SkuId};
use crate::money::{Currency, ExactDecimal, Money, price_of};
use crate::text::{check_text, trimmed};

/// An order to place.
///
/// Some fields are privileged: a principal needs `orders:discount` for `discount`, for a `price_override` and for
/// `extra_lines`, and `bills:write` for `bill_number` and `paid`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderInput {
    /// The customer who buys. Either this or `customer` is required.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub customer_id: Option<CustomerId>,
    /// The name, email and telephone number of a guest who buys.
    #[serde(default)]
    pub customer: Option<GuestInput>,
    /// The lines: at most 500. An order without lines is filled later, while it is pending.
    #[serde(default)]
    pub lines: Vec<OrderLineInput>,
    /// How the buyer receives the goods.
    pub delivery_method: Option<DeliveryMethod>,
    /// An address of the customer to deliver to. `home_delivery` requires this or `shipping_address`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub address_id: Option<AddressId>,
    /// The address to deliver to.
    #[serde(default)]
    pub shipping_address: Option<AddressInput>,
    /// The address on the bill, if it is another one.
    #[serde(default)]
    pub billing_address: Option<AddressInput>,
    /// How the bill is paid; `cash` if absent.
    #[serde(default)]
    pub payment_type: PaymentType,
    /// A reference to the shipment, 1–255 characters.
    #[serde(default)]
    pub tracking: Option<String>,
    /// Free attributes: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// The system that the order was imported from, 1–100 characters; requires `external_id`.
    #[serde(default)]
    pub source: Option<String>,
    /// The id of the order in that system, 1–255 characters; requires `source`.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Requires `orders:discount`: a discount on the whole order, in the major unit of the currency. It is spread over
    /// the lines (R27) and must not exceed the subtotal.
    #[serde(default)]
    pub discount: Option<ExactDecimal>,
    /// Requires `orders:discount`: lines that the catalog does not have, and fees.
    #[serde(default)]
    pub extra_lines: Vec<ExtraLineInput>,
    /// Requires `bills:write`: the number of the bill, 1–50 characters of `A–Z`, `0–9`, `-`, `/` and `.`, unique for
    /// ever.
    #[serde(default)]
    pub bill_number: Option<String>,
    /// Requires `bills:write`: true if the bill has already been paid.
    #[serde(default)]
    pub paid: bool,
}

/// The input of a checkout, which turns a cart into an order. The lines are those of the cart, and the buyer is the
/// customer of the cart or, for a guest's cart, `customer`.
///
/// The privileged fields require the same permissions as those of an order that is placed directly.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CheckoutInput {
    /// The name, email and telephone number of the guest. It is required for a guest's cart, and refused for that of a
    /// customer.
    #[serde(default)]
    pub customer: Option<GuestInput>,
    /// How the buyer receives the goods.
    pub delivery_method: Option<DeliveryMethod>,
    /// An address of the customer to deliver to. `home_delivery` requires this or `shipping_address`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub address_id: Option<AddressId>,
    /// The address to deliver to.
    #[serde(default)]
    pub shipping_address: Option<AddressInput>,
    /// The address on the bill, if it is another one.
    #[serde(default)]
    pub billing_address: Option<AddressInput>,
    /// How the bill is paid; `cash` if absent.
    #[serde(default)]
    pub payment_type: PaymentType,
    /// Free attributes of the order: a JSON object of at most 16 KiB, nested at most 30 levels deep; empty if absent.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// Requires `orders:discount`: a discount on the whole order, in the major unit of the currency.
    #[serde(default)]
    pub discount: Option<ExactDecimal>,
    /// Requires `orders:discount`: lines that the catalog does not have, and fees.
    #[serde(default)]
    pub extra_lines: Vec<ExtraLineInput>,
    /// Requires `bills:write`: the number of the bill.
    #[serde(default)]
    pub bill_number: Option<String>,
    /// Requires `bills:write`: true if the bill has already been paid.
    #[serde(default)]
    pub paid: bool,
}

impl CheckoutInput {
    /// Returns the checkout of a customer's cart.
    pub fn new(delivery: DeliveryMethod) -> Self {
        Self { delivery_method: Some(delivery), ..Self::default() }
    }

    /// Returns the checkout of a guest's cart.
    pub fn for_guest(guest: GuestInput, delivery: DeliveryMethod) -> Self {
        Self { customer: Some(guest), ..Self::new(delivery) }
    }

    /// Returns the order without the lines and the customer of the cart.
    pub(crate) fn to_order(&self) -> OrderInput {
        OrderInput {
            customer: self.customer.clone(),
            delivery_method: self.delivery_method,
            address_id: self.address_id,
            shipping_address: self.shipping_address.clone(),
            billing_address: self.billing_address.clone(),
            payment_type: self.payment_type,
            attributes: self.attributes.clone(),
            discount: self.discount,
            extra_lines: self.extra_lines.clone(),
            bill_number: self.bill_number.clone(),
            paid: self.paid,
            ..OrderInput::default()
        }
    }
}

/// The source of the buyer of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuyerFrom {
    /// The input names the buyer.
    Input,
    /// The buyer may be the customer of a cart, which is not yet known.
    Cart,
}

/// The buyer of an order who is not a customer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GuestInput {
    /// The first name, 1–100 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Ada"))]
    pub first_name: String,
    /// The last name, 1–100 characters.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 100, example = "Lovelace"))]
    pub last_name: String,
    /// The email address, at most 254 characters.
    #[cfg_attr(feature = "openapi", schema(max_length = 254, format = "email", example = "ada@example.com"))]
    pub email: String,
    /// The telephone number: 7–20 digits that do not start with 0, after an optional `+`. Spaces, dots, dashes and
    /// parentheses are removed.
    #[serde(default)]
    pub telephone: Option<String>,
}

/// A line of an order to place, or to add to an order.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderLineInput {
    /// The id of the SKU. Either this or `sku` is required.
    #[serde(default)]
    #[setters(skip)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub sku_id: Option<SkuId>,
    /// The code of the SKU.
    #[serde(default)]
    #[setters(skip)]
    pub sku: Option<String>,
    /// The number of units, 1–1,000,000.
    #[setters(skip)]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 1_000_000))]
    pub quantity: i64,
    /// The price of a unit that the buyer was shown, in the major unit of the currency. It must be the current one
    /// (R8).
    #[serde(default)]
    #[setters(skip)]
    pub unit_price: Option<ExactDecimal>,
    /// Free attributes, such as an engraving. Two lines may sell one SKU.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    #[setters(skip)]
    pub attributes: Attributes,
    /// Requires `orders:discount`: the price of a unit, in place of the current one.
    #[serde(default)]
    pub price_override: Option<ExactDecimal>,
}

/// A line that the catalog does not have, or a fee.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExtraLineInput {
    /// The kind of the line: `custom` or `fee`.
    pub kind: LineKind,
    /// The text on the order, 1–255 characters.
    pub title: String,
    /// The number of units, 1–1,000,000.
    #[serde(default = "one")]
    pub quantity: i64,
    /// The price of a unit, in the major unit of the currency.
    pub unit_price: ExactDecimal,
    /// Free attributes.
    #[serde(default, deserialize_with = "Attributes::from_input")]
    pub attributes: Attributes,
}

const fn one() -> i64 {
    1
}

/// Changes of the lines and the discount of a pending order, which happen together or not at all (R9, R39).
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderEdit {
    /// Lines to add, at the current prices.
    #[serde(default)]
    pub add: Vec<OrderLineInput>,
    /// Lines to change or to remove.
    #[serde(default)]
    pub change: Vec<LineChange>,
    /// Requires `orders:discount`: lines to add that the catalog does not have, and fees.
    #[serde(default)]
    pub add_extra: Vec<ExtraLineInput>,
    /// Requires `orders:discount`: the discount on the newest bill, in the major unit of the currency.
    #[serde(default)]
    pub discount: Option<ExactDecimal>,
    /// The version of the order that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    #[setters(skip)]
    pub version: Option<i64>,
}

/// A change of a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LineChange {
    /// The id of the line.
    #[cfg_attr(feature = "openapi", schema(value_type = uuid::Uuid))]
    pub line_id: OrderLineId,
    /// The new number of units, at most 1,000,000; 0 removes the line. The quantity stays if it is absent.
    #[serde(default)]
    pub quantity: Option<i64>,
    /// True to sell the line at the current price from now on. Otherwise, it keeps the price at which it was sold.
    #[serde(default)]
    pub reprice: bool,
}

impl LineChange {
    /// Returns a change of the quantity; 0 removes the line.
    pub const fn quantity(line_id: OrderLineId, quantity: i64) -> Self {
        Self { line_id, quantity: Some(quantity), reprice: false }
    }

    /// Returns a change to the current price.
    pub const fn reprice(line_id: OrderLineId) -> Self {
        Self { line_id, quantity: None, reprice: true }
    }
}

/// Units of a line to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelUnits {
    /// The id of the line.
    #[cfg_attr(feature = "openapi", schema(value_type = uuid::Uuid))]
    pub line_id: OrderLineId,
    /// The number of units, at least 1 and at most those that were not canceled.
    pub quantity: i64,
}

/// A merge patch of an order (RFC 7396): fields that it leaves out stay unchanged. It is possible while the order is
/// pending or in progress.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderPatch {
    /// How the buyer receives the goods; null is refused.
    #[serde(default)]
    pub delivery_method: Patch<DeliveryMethod>,
    /// The address to deliver to; null removes it, which a home delivery does not allow.
    #[serde(default)]
    pub shipping_address: Patch<AddressInput>,
    /// The address on the bill; null removes it.
    #[serde(default)]
    pub billing_address: Patch<AddressInput>,
    /// A reference to the shipment, 1–255 characters; null removes it.
    #[serde(default)]
    pub tracking: Patch<String>,
    /// Changes of the attributes, merged into the existing ones (RFC 7396); null removes all of them.
    #[serde(default, deserialize_with = "Attributes::from_patch")]
    pub attributes: Patch<Attributes>,
    /// The version of the order that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A checked line, whose SKU may still be named by its code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedLine {
    /// The path of the line in the input, such as `lines[0]`.
    pub field: String,
    pub sku: SkuRef,
    /// Whether the buyer must not learn that the code is one of a draft.
    pub hides_drafts: bool,
    pub quantity: i64,
    pub shown: Option<Money>,
    pub fixed: Option<Money>,
    pub attributes: Attributes,
}

/// A SKU by its id or by its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SkuRef {
    Id(SkuId),
    Code(String),
}

/// A checked line without a SKU.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedExtra {
    pub kind: LineKind,
    pub title: String,
    pub quantity: i64,
    pub unit_price: Money,
    pub attributes: Attributes,
}

/// A checked order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedOrder {
    pub customer_id: Option<CustomerId>,
    pub guest: Option<CustomerInput>,
    pub lines: Vec<CheckedLine>,
    pub extra_lines: Vec<CheckedExtra>,
    pub delivery_method: DeliveryMethod,
    pub address_id: Option<AddressId>,
    pub shipping_address: Option<PostalAddress>,
    pub billing_address: Option<PostalAddress>,
    pub payment_type: PaymentType,
    pub tracking: Option<String>,
    pub attributes: Attributes,
    pub external: Option<crate::domain::common::ExternalRef>,
    pub discount: Money,
    pub bill_number: Option<String>,
    pub paid: bool,
}

fn check_quantity(field: &str, quantity: i64, min: i64, e: &mut ValidationErrors) {
    if !(min..=OrderLine::MAX_QUANTITY).contains(&quantity) {
        e.out_of_bounds(format!("{field}.quantity"), format!("must be between {min} and {}", OrderLine::MAX_QUANTITY));
    }
}

impl GuestInput {
    /// Returns a guest without a telephone number.
    pub fn new(first_name: impl Into<String>, last_name: impl Into<String>, email: impl Into<String>) -> Self {
        let (first_name, last_name, email) = (first_name.into(), last_name.into(), email.into());
        Self { first_name, last_name, email, telephone: None }
    }

    fn to_customer(&self) -> CustomerInput {
        CustomerInput {
            telephone: self.telephone.clone(),
            ..CustomerInput::new(&self.first_name, &self.last_name, &self.email)
        }
    }
}

impl OrderLineInput {
    /// Returns a line that sells a SKU at the price that the buyer was shown.
    ///
    /// ```
    /// use ecom_core::sales::OrderLineInput;
    ///
    /// # fn lines(sku: ecom_core::id::SkuId) -> Result<(), Box<dyn std::error::Error>> {
    /// let pens = OrderLineInput::new(sku, 3, "1.20".parse::<ecom_core::money::ExactDecimal>()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(sku: SkuId, quantity: i64, unit_price: impl Into<ExactDecimal>) -> Self {
        Self { sku_id: Some(sku), quantity, unit_price: Some(unit_price.into()), ..Self::default() }
    }

    /// Returns a line that sells the SKU with a code at the price that the buyer was shown.
    pub fn with_code(code: impl Into<String>, quantity: i64, unit_price: impl Into<ExactDecimal>) -> Self {
        Self { sku: Some(code.into()), quantity, unit_price: Some(unit_price.into()), ..Self::default() }
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    fn check(&self, field: &str, currency: Currency, e: &mut ValidationErrors) -> Option<CheckedLine> {
        let before = e.0.len();
        let sku = match (&self.sku_id, trimmed(self.sku.as_deref())) {
            (Some(id), None) => Some(SkuRef::Id(*id)),
            (None, Some(code)) => {
                check_text(&format!("{field}.sku"), &code, 1, 100, e);
                Some(SkuRef::Code(code))
            }
            (Some(_), Some(_)) => {
                e.push(format!("{field}.sku"), FieldCode::Inconsistent, "must not be sent together with `sku_id`");
                None
            }
            (None, None) => {
                e.push(format!("{field}.sku_id"), FieldCode::Required, "is required, unless `sku` names the SKU");
                None
            }
        };
        check_quantity(field, self.quantity, 1, e);
        let price = |d: Option<ExactDecimal>, name: &str, e: &mut ValidationErrors| {
            d.and_then(|d| price_of(d, currency, &format!("{field}.{name}"), e))
        };
        let shown = price(self.unit_price, "unit_price", e);
        let fixed = price(self.price_override, "price_override", e);
        if self.unit_price.is_none() && self.price_override.is_none() {
            let message = "is required: send the price that the buyer was shown";
            e.push(format!("{field}.unit_price"), FieldCode::Required, message);
        }
        self.attributes.check(&format!("{field}.attributes"), e);
        (e.0.len() == before).then_some(sku?).map(|sku| CheckedLine {
            field: field.to_owned(),
            hides_drafts: false,
            sku,
            quantity: self.quantity,
            shown,
            fixed,
            attributes: self.attributes.clone(),
        })
    }
}

impl ExtraLineInput {
    /// Returns a fee.
    pub fn fee(title: impl Into<String>, amount: impl Into<ExactDecimal>) -> Self {
        let (title, unit_price, attributes) = (title.into(), amount.into(), Attributes::default());
        Self { kind: LineKind::Fee, title, quantity: 1, unit_price, attributes }
    }

    /// Returns a line that the catalog does not have.
    pub fn custom(title: impl Into<String>, quantity: i64, unit_price: impl Into<ExactDecimal>) -> Self {
        let (title, unit_price, attributes) = (title.into(), unit_price.into(), Attributes::default());
        Self { kind: LineKind::Custom, title, quantity, unit_price, attributes }
    }

    fn check(&self, field: &str, currency: Currency, e: &mut ValidationErrors) -> Option<CheckedExtra> {
        if self.kind == LineKind::Sku {
            e.out_of_bounds(format!("{field}.kind"), "must be `custom` or `fee`; send SKUs in the other lines");
        }
        check_text(&format!("{field}.title"), self.title.trim(), 1, 255, e);
        check_quantity(field, self.quantity, 1, e);
        self.attributes.check(&format!("{field}.attributes"), e);
        let unit_price = price_of(self.unit_price, currency, &format!("{field}.unit_price"), e)?;
        Some(CheckedExtra {
            kind: self.kind,
            title: self.title.trim().to_owned(),
            quantity: self.quantity,
            unit_price,
            attributes: self.attributes.clone(),
        })
    }
}

/// Checks lines and returns those that are valid.
fn check_lines(
    (name, lines): (&str, &[OrderLineInput]),
    (extra_name, extra): (&str, &[ExtraLineInput]),
    currency: Currency,
    e: &mut ValidationErrors,
) -> (Vec<CheckedLine>, Vec<CheckedExtra>) {
    if lines.len() + extra.len() > Order::MAX_LINES {
        e.out_of_bounds(name, format!("must have at most {} lines", Order::MAX_LINES));
        return (Vec::new(), Vec::new());
    }
    let lines = lines.iter().enumerate().filter_map(|(i, l)| l.check(&format!("{name}[{i}]"), currency, e)).collect();
    let extra =
        extra.iter().enumerate().filter_map(|(i, l)| l.check(&format!("{extra_name}[{i}]"), currency, e)).collect();
    (lines, extra)
}

/// Checks the number of an order or a bill that a caller chose.
fn check_number(field: &str, number: &str, e: &mut ValidationErrors) {
    let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'/' | b'.');
    if !(1..=50).contains(&number.len()) || !number.bytes().all(allowed) {
        e.out_of_bounds(field, "must have 1 to 50 characters of A–Z, 0–9, `-`, `/` and `.`");
    }
}

impl OrderInput {
    /// Returns an order of a customer without lines.
    ///
    /// ```
    /// use ecom_core::sales::{DeliveryMethod, OrderInput, OrderLineInput};
    ///
    /// # fn order(ada: ecom_core::id::CustomerId, sku: ecom_core::id::SkuId) -> Result<(), Box<dyn std::error::Error>> {
    /// let order = OrderInput::new(ada, DeliveryMethod::OnHand)
    ///     .line(OrderLineInput::new(sku, 2, "9.99".parse::<ecom_core::money::ExactDecimal>()?));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(customer: CustomerId, delivery: DeliveryMethod) -> Self {
        Self { customer_id: Some(customer), delivery_method: Some(delivery), ..Self::default() }
    }

    /// Returns an order of a guest without lines.
    pub fn for_guest(guest: GuestInput, delivery: DeliveryMethod) -> Self {
        Self { customer: Some(guest), delivery_method: Some(delivery), ..Self::default() }
    }

    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: OrderLineInput) -> Self {
        self.lines.push(line);
        self
    }

    /// Sets one attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.0.insert(name.into(), value.into());
        self
    }

    /// Checks the input before anything is read.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self, currency: Currency, from: BuyerFrom) -> Result<CheckedOrder> {
        let mut e = ValidationErrors::default();
        let guest = match (&self.customer, self.customer_id) {
            (Some(guest), None) => e.nested("customer.", guest.to_customer().check())?,
            (None, Some(_)) => None,
            (Some(_), Some(_)) => {
                e.push("customer", FieldCode::Inconsistent, "must not be sent together with `customer_id`");
                None
            }
            (None, None) if from == BuyerFrom::Cart => None,
            (None, None) => {
                let message = "is required, unless `customer` has the name and email of a guest";
                e.push("customer_id", FieldCode::Required, message);
                None
            }
        };
        let (lines, extra_lines) =
            check_lines(("lines", &self.lines), ("extra_lines", &self.extra_lines), currency, &mut e);
        if self.delivery_method.is_none() {
            e.push("delivery_method", FieldCode::Required, "is required");
        }
        let address = |field: &str, a: &Option<AddressInput>, e: &mut ValidationErrors| -> Result<_> {
            let checked = a.as_ref().map(|a| e.nested(&format!("{field}."), a.check())).transpose()?;
            Ok(checked.flatten().map(PostalAddress::from))
        };
        let shipping_address = address("shipping_address", &self.shipping_address, &mut e)?;
        let billing_address = address("billing_address", &self.billing_address, &mut e)?;
        if self.address_id.is_some() && self.shipping_address.is_some() {
            e.push("address_id", FieldCode::Inconsistent, "must not be sent together with `shipping_address`");
        }
        if self.address_id.is_some() && self.customer_id.is_none() && from == BuyerFrom::Input {
            let message = "requires `customer_id`: a guest sends `shipping_address`";
            e.push("address_id", FieldCode::Inconsistent, message);
        }
        let no_address = self.address_id.is_none() && self.shipping_address.is_none();
        if self.delivery_method == Some(DeliveryMethod::HomeDelivery) && no_address {
            let message = "is required for a home delivery, unless `address_id` names an address of the customer";
            e.push("shipping_address", FieldCode::Required, message);
        }
        if let Some(tracking) = &self.tracking {
            check_text("tracking", tracking.trim(), 1, 255, &mut e);
        }
        self.attributes.check("attributes", &mut e);
        check_external("", self.source.as_deref(), self.external_id.as_deref(), &mut e);
        let discount = self.discount.and_then(|d| price_of(d, currency, "discount", &mut e));
        if let Some(number) = &self.bill_number {
            check_number("bill_number", number, &mut e);
        }
        e.into_result()?;
        Ok(CheckedOrder {
            customer_id: self.customer_id,
            guest,
            lines,
            extra_lines,
            delivery_method: self.delivery_method.unwrap_or(DeliveryMethod::OnHand),
            address_id: self.address_id,
            shipping_address,
            billing_address,
            payment_type: self.payment_type,
            tracking: trimmed(self.tracking.as_deref()),
            attributes: self.attributes.clone(),
            external: crate::domain::common::ExternalRef::of(self.source.as_deref(), self.external_id.as_deref()),
            discount: discount.unwrap_or_else(|| Money::from_minor(0, currency)),
            bill_number: self.bill_number.clone(),
            paid: self.paid,
        })
    }

    /// Returns true if the input has a field that requires `orders:discount`.
    pub(crate) fn sets_prices(&self) -> bool {
        self.discount.is_some() || !self.extra_lines.is_empty() || self.lines.iter().any(|l| l.price_override.is_some())
    }

    /// Returns true if the input has a field that requires `bills:write`.
    pub(crate) const fn sets_bill(&self) -> bool {
        self.bill_number.is_some() || self.paid
    }
}

/// A checked edit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedEdit {
    pub add: Vec<CheckedLine>,
    pub add_extra: Vec<CheckedExtra>,
    pub change: Vec<LineChange>,
    pub discount: Option<Money>,
}

impl OrderEdit {
    /// Adds a line.
    #[must_use]
    pub fn line(mut self, line: OrderLineInput) -> Self {
        self.add.push(line);
        self
    }

    /// Changes or removes a line.
    #[must_use]
    pub fn with(mut self, change: LineChange) -> Self {
        self.change.push(change);
        self
    }

    /// Checks the edit before anything is read.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self, currency: Currency) -> Result<CheckedEdit> {
        let mut e = ValidationErrors::default();
        let (add, add_extra) = check_lines(("add", &self.add), ("add_extra", &self.add_extra), currency, &mut e);
        let mut seen = std::collections::HashSet::new();
        for (i, change) in self.change.iter().enumerate() {
            let field = format!("change[{i}]");
            if let Some(quantity) = change.quantity {
                check_quantity(&field, quantity, 0, &mut e);
            }
            if !seen.insert(change.line_id) {
                let message = "is named twice: send one change for each line";
                e.push(format!("{field}.line_id"), FieldCode::Inconsistent, message);
            }
        }
        let discount = self.discount.and_then(|d| price_of(d, currency, "discount", &mut e));
        if self.add.is_empty() && self.add_extra.is_empty() && self.change.is_empty() && self.discount.is_none() {
            e.push("change", FieldCode::Required, "is required, unless `add`, `add_extra` or `discount` is sent");
        }
        e.into_result()?;
        Ok(CheckedEdit { add, add_extra, change: self.change.clone(), discount })
    }

    /// Returns true if the edit has a field that requires `orders:discount`.
    pub(crate) fn sets_prices(&self) -> bool {
        self.discount.is_some() || !self.add_extra.is_empty() || self.add.iter().any(|l| l.price_override.is_some())
    }
}

impl OrderPatch {
    /// Merges the patch into an order.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn onto(self, order: &mut Order) -> Result<()> {
        let mut e = ValidationErrors::default();
        let address =
            |field: &str, patch: Patch<AddressInput>, to: &mut Option<PostalAddress>, e: &mut ValidationErrors| {
                match patch {
                    Patch::Keep => {}
                    Patch::Clear => *to = None,
                    Patch::Set(a) => *to = e.nested(&format!("{field}."), a.check())?.map(PostalAddress::from),
                }
                Ok::<_, Error>(())
            };
        self.delivery_method.apply_required(&mut order.delivery_method, "delivery_method", &mut e);
        address("shipping_address", self.shipping_address, &mut order.shipping_address, &mut e)?;
        address("billing_address", self.billing_address, &mut order.billing_address, &mut e)?;
        self.tracking.apply(&mut order.tracking);
        order.tracking = match order.tracking.take() {
            Some(tracking) => {
                check_text("tracking", tracking.trim(), 1, 255, &mut e);
                Some(tracking.trim().to_owned())
            }
            None => None,
        };
        self.attributes.merge_into(&mut order.attributes);
        order.attributes.check("attributes", &mut e);
        if order.delivery_method == DeliveryMethod::HomeDelivery && order.shipping_address.is_none() && e.0.is_empty() {
            e.push("shipping_address", FieldCode::Required, "is required for a home delivery");
        }
        e.into_result()
    }
}
