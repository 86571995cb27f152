//! SKUs over the wire.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ecom_core::catalog::{AvailabilityStatus, Dimensions, Sku};
use ecom_core::common::Attributes;
use ecom_core::money::{Money, Percentage};
use serde::Serialize;
use uuid::Uuid;

use crate::dto::Amount;

/// Width, height and depth.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DimensionsView {
    /// Width.
    pub width: Amount,
    /// Height.
    pub height: Amount,
    /// Depth.
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
    /// Its id.
    pub id: Uuid,
    /// The product it belongs to.
    pub product_id: Uuid,
    /// Its place among the product's SKUs; the first is the default SKU.
    pub position: i32,
    /// Its code, unique.
    #[schema(example = "NOTEBOOK-A5")]
    pub code: &'a str,
    /// `{"size": "M", "color": "red"}`.
    pub option_values: &'a BTreeMap<String, String>,
    /// Free attributes.
    pub attributes: &'a Attributes,
    /// Before the product's discount.
    pub price: Amount,
    /// ISO 4217.
    #[schema(example = "USD")]
    pub currency: &'static str,
    /// After the product's discount: price × (1 − discount / 100), rounded.
    pub final_price: Amount,
    /// Pieces in the house.
    pub stock: i64,
    /// Pieces promised.
    pub reserved: i64,
    /// Pieces that can be sold.
    pub available: i64,
    /// What a shopper may be told.
    pub availability_status: AvailabilityStatus,
    /// At or under this many available it is `limited`.
    pub low_stock_threshold: i64,
    /// Weight.
    pub weight: Option<Amount>,
    /// Dimensions.
    pub dimensions: Option<DimensionsView>,
    /// EAN, UPC or the like.
    pub barcode: Option<&'a str>,
    /// The system it was imported from.
    pub source: Option<&'a str>,
    /// Its id in that system.
    pub external_id: Option<&'a str>,
    /// Moves when somebody edits it; not with stock.
    pub version: i64,
    /// When it was made.
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When it was edited last.
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// When it was soft-deleted.
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
