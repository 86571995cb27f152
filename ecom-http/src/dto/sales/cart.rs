//! The representation of carts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::common::Attributes;
use ecom_core::sales::{CartAccess, CartState, CartToken, PricedCart, PricedLine};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dto::Amount;

/// A cart with the prices and the stock at the moment of the response.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CartView<'a> {
    /// The id of the cart.
    pub id: Uuid,
    /// The secret that opens the cart, for the header `X-Cart-Token`. It is present only in the response that creates a
    /// guest's cart, and cannot be read again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// The customer whom the cart belongs to; null for a guest's cart.
    pub customer_id: Option<Uuid>,
    /// The email address of the shopper; null if it is not known.
    #[schema(format = "email", example = "ada@example.com")]
    pub email: Option<&'a str>,
    /// The currency of all prices.
    #[schema(example = "USD")]
    pub currency: &'a str,
    /// Whether the cart is open, ordered or merged.
    pub state: CartState,
    /// The cart that this one was merged into; null if it was not.
    pub merged_into: Option<Uuid>,
    /// When the cart expires, unless it is changed before (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub expires_at: DateTime<Utc>,
    /// The lines, oldest first.
    pub lines: Vec<CartLineView<'a>>,
    /// The sum of the lines that can be sold; null if it is above 10^15 minor units.
    pub subtotal: Option<Amount>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The system that the cart was imported from; null if the cart was not imported.
    pub source: Option<&'a str>,
    /// The id of the cart in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases with every change of the cart and of its lines. Writes name it (R1).
    pub version: i64,
    /// When the cart was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the cart was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the cart.
    pub created_by: &'a str,
    /// The actor who last edited the cart.
    pub updated_by: &'a str,
}

impl<'a> CartView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "customer_id",
        "email",
        "currency",
        "state",
        "merged_into",
        "expires_at",
        "lines",
        "subtotal",
        "attributes",
        "source",
        "external_id",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    ];

    pub(crate) fn new(priced: &'a PricedCart, token: Option<&'a CartToken>, numbers: bool) -> Self {
        let cart = &priced.cart;
        Self {
            id: cart.id.0,
            token: token.map(CartToken::reveal),
            customer_id: cart.customer_id.map(|id| id.0),
            email: cart.email.as_deref(),
            currency: cart.currency.code(),
            state: cart.state,
            merged_into: cart.merged_into.map(|id| id.0),
            expires_at: cart.expires_at,
            lines: priced.lines.iter().map(|line| CartLineView::new(line, numbers)).collect(),
            subtotal: priced.subtotal.map(|sum| Amount::new(sum.amount(), numbers)),
            attributes: &cart.attributes,
            source: cart.external.as_ref().map(|x| x.source.as_str()),
            external_id: cart.external.as_ref().map(|x| x.external_id.as_str()),
            version: cart.audit.version,
            created_at: cart.audit.created_at,
            updated_at: cart.audit.updated_at,
            created_by: cart.audit.created_by.as_str(),
            updated_by: cart.audit.updated_by.as_str(),
        }
    }
}

/// A line of a cart, with the price and the stock at the moment of the response.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CartLineView<'a> {
    /// The id of the line.
    pub id: Uuid,
    /// The SKU.
    pub sku_id: Uuid,
    /// The product of the SKU.
    pub product_id: Uuid,
    /// The code of the SKU.
    #[schema(example = "LAMP-RED")]
    pub sku: &'a str,
    /// The title of the product.
    #[schema(example = "Desk lamp")]
    pub title: &'a str,
    /// The values of the SKU's options.
    pub option_values: &'a BTreeMap<String, String>,
    /// Free attributes, such as an engraving. Lines of one SKU with different attributes are different lines.
    pub attributes: &'a Attributes,
    /// The number of pieces.
    #[schema(example = 2)]
    pub quantity: i64,
    /// The current unit price; if the line is unavailable, the one that the shopper last confirmed.
    pub unit_price: Amount,
    /// The unit price that the shopper last confirmed.
    pub seen_price: Amount,
    /// The quantity times the unit price; null if it is above 10^15 minor units.
    pub line_total: Option<Amount>,
    /// How many pieces of the SKU can be sold: 0 if the line is unavailable, null if the stock of the SKU is not
    /// tracked.
    pub available: Option<i64>,
    /// Whether the unit price is not the one that the shopper last confirmed.
    pub price_changed: bool,
    /// Whether the SKU cannot be sold any more, because it or its product was deleted or the product is not active.
    pub unavailable: bool,
    /// Whether the lines of this SKU have more pieces, in sum, than can be sold. False if the line is unavailable.
    pub insufficient_stock: bool,
}

impl<'a> CartLineView<'a> {
    fn new(priced: &'a PricedLine, numbers: bool) -> Self {
        let line = &priced.line;
        Self {
            id: line.id.0,
            sku_id: line.sku_id.0,
            product_id: priced.product_id.0,
            sku: &priced.code,
            title: &priced.title,
            option_values: &priced.option_values,
            attributes: &line.attributes,
            quantity: line.quantity,
            unit_price: Amount::new(priced.unit_price.amount(), numbers),
            seen_price: Amount::new(line.seen_price.amount(), numbers),
            line_total: priced.line_total.map(|total| Amount::new(total.amount(), numbers)),
            available: priced.available,
            price_changed: priced.price_changed,
            unavailable: priced.unavailable,
            insufficient_stock: priced.insufficient_stock,
        }
    }
}

/// The cart that another cart is merged into.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeInput {
    /// The id of the cart that takes over the lines.
    pub into: Uuid,
    /// The token of that cart, if it is a guest's and the caller does not have the permission `carts:write`.
    #[serde(default)]
    pub into_token: Option<String>,
}

impl MergeInput {
    /// Returns what lets the caller into the cart that takes over the lines.
    pub(crate) fn access(self) -> CartAccess {
        self.into_token.map_or(CartAccess::Permission, |text| CartAccess::Token(CartToken::new(text)))
    }
}

/// The customer whom a cart is assigned to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssignInput {
    /// The id of the customer.
    pub customer_id: Uuid,
}
