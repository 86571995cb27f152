//! The representation of SKUs.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::catalog::{AvailabilityStatus, Dimensions, Sku};
use ecom_core::common::Attributes;
use ecom_core::money::{Money, Percentage};
use serde::Serialize;
use uuid::Uuid;

use crate::dto::Amount;

/// The width, height and depth of a SKU, in the shop's unit of length.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DimensionsView {
    /// The width.
    pub width: Amount,
    /// The height.
    pub height: Amount,
    /// The depth.
    pub depth: Amount,
}

impl DimensionsView {
    pub(crate) fn of(d: &Dimensions, numbers: bool) -> Self {
        let amount = |m: ecom_core::money::Measure| Amount::new(m.decimal(), numbers);
        Self { width: amount(d.width), height: amount(d.height), depth: amount(d.depth) }
    }
}

/// A SKU (product variant).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SkuView<'a> {
    /// The id of the SKU.
    pub id: Uuid,
    /// The id of the product that the SKU belongs to.
    pub product_id: Uuid,
    /// The position among the SKUs of the product. The first live one is the default SKU.
    pub position: i32,
    /// The code, unique among live SKUs, ignoring case.
    #[schema(example = "NOTEBOOK-A5")]
    pub code: &'a str,
    /// The values of the options, such as `{"size": "M", "color": "red"}`.
    pub option_values: &'a BTreeMap<String, String>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// The price before the product's discount.
    pub price: Amount,
    /// The currency of the prices, as its ISO 4217 code.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// The price after the product's discount: price × (1 − discount / 100), rounded to the minor unit of the currency,
    /// half away from zero.
    pub final_price: Amount,
    /// The number of pieces in stock.
    pub stock: i64,
    /// Whether the stock is tracked. If it is not, the SKU is always in stock and its stock does not move.
    pub track_stock: bool,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// The number of pieces that can be sold: stock − reserved. It is no limit if the stock is not tracked.
    pub available: i64,
    /// The availability that shoppers see.
    pub availability_status: AvailabilityStatus,
    /// If this many or fewer pieces are available, the availability is `limited`.
    pub low_stock_threshold: i64,
    /// The weight, in the shop's unit of weight; null if it is not known.
    pub weight: Option<Amount>,
    /// The dimensions; null if they are not known.
    pub dimensions: Option<DimensionsView>,
    /// The EAN, UPC or another code that scanners read; null if there is none.
    pub barcode: Option<&'a str>,
    /// The system that the SKU was imported from; null if it was not imported.
    pub source: Option<&'a str>,
    /// The id of the SKU in that system.
    pub external_id: Option<&'a str>,
    /// The version, which increases when somebody edits the SKU. A change of stock does not increase it. Writes name it
    /// (R1).
    pub version: i64,
    /// When the SKU was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the SKU was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// When the SKU was soft-deleted (RFC 3339, UTC); null for a live one.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl<'a> SkuView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "product_id",
        "position",
        "code",
        "option_values",
        "attributes",
        "price",
        "currency",
        "final_price",
        "stock",
        "track_stock",
        "reserved",
        "available",
        "availability_status",
        "low_stock_threshold",
        "weight",
        "dimensions",
        "barcode",
        "source",
        "external_id",
        "version",
        "created_at",
        "updated_at",
        "deleted_at",
    ];

    pub(crate) fn of(s: &'a Sku, discount: Percentage, numbers: bool) -> Self {
        let money = |m: Money| Amount::new(m.amount(), numbers);
        Self {
            id: s.id.0,
            product_id: s.product_id.0,
            position: s.position,
            code: &s.code,
            option_values: &s.option_values,
            attributes: &s.attributes,
            price: money(s.price),
            currency: s.price.currency().code(),
            final_price: money(s.final_price(discount)),
            stock: s.on_hand,
            track_stock: s.track_stock,
            reserved: s.reserved,
            available: s.available(),
            availability_status: s.availability(),
            low_stock_threshold: s.low_stock_threshold,
            weight: s.weight.map(|w| Amount::new(w.decimal(), numbers)),
            dimensions: s.dimensions.as_ref().map(|d| DimensionsView::of(d, numbers)),
            barcode: s.barcode.as_deref(),
            source: s.external.as_ref().map(|x| x.source.as_str()),
            external_id: s.external.as_ref().map(|x| x.external_id.as_str()),
            version: s.audit.version,
            created_at: s.audit.created_at,
            updated_at: s.audit.updated_at,
            deleted_at: s.audit.deleted_at,
        }
    }
}
