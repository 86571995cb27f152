//! Stock over the wire.

use chrono::{DateTime, Utc};
use ecom_core::catalog::AvailabilityStatus;
use ecom_core::stock::{StockLevel, StockMovement, StockReason};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stock of a SKU.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct StockView {
    /// Which SKU.
    pub sku_id: Uuid,
    /// Of which product.
    pub product_id: Uuid,
    /// Pieces in the house.
    pub on_hand: i64,
    /// Pieces promised.
    pub reserved: i64,
    /// Pieces that can be sold.
    pub available: i64,
    /// At or under this many available it is `limited`.
    pub low_stock_threshold: i64,
    /// What a shopper may be told.
    pub availability_status: AvailabilityStatus,
}

impl From<&StockLevel> for StockView {
    fn from(l: &StockLevel) -> Self {
        Self {
            sku_id: l.sku_id.0,
            product_id: l.product_id.0,
            on_hand: l.on_hand,
            reserved: l.reserved,
            available: l.available(),
            low_stock_threshold: l.low_stock_threshold,
            availability_status: AvailabilityStatus::of(l.available(), l.low_stock_threshold),
        }
    }
}

/// A row of the ledger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MovementView<'a> {
    /// Its id.
    pub id: Uuid,
    /// Which SKU.
    pub sku_id: Uuid,
    /// Pieces in (positive) or out (negative).
    pub delta: i64,
    /// Why.
    pub reason: StockReason,
    /// What it refers to.
    pub reference: Option<&'a str>,
    /// When.
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// Who.
    pub created_by: &'a str,
}

impl MovementView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] =
        &["id", "sku_id", "delta", "reason", "reference", "created_at", "created_by"];
}

impl<'a> From<&'a StockMovement> for MovementView<'a> {
    fn from(m: &'a StockMovement) -> Self {
        Self {
            id: m.id.0,
            sku_id: m.sku_id.0,
            delta: m.delta,
            reason: m.reason,
            reference: m.reference.as_deref(),
            created_at: m.created_at,
            created_by: m.created_by.as_str(),
        }
    }
}

/// What an adjustment did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AdjustedView<'a> {
    /// The stock right after it.
    pub stock: StockView,
    /// Its row of the ledger.
    pub movement: MovementView<'a>,
}

/// A change of on hand. It names no version and moves none (R1).
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"delta": -2, "reason": "damaged", "reference": "RMA-17"}))]
pub(crate) struct AdjustInput {
    /// Pieces in (positive) or out (negative); not 0.
    pub delta: i64,
    /// Why; `adjustment` if absent.
    #[serde(default)]
    pub reason: Option<StockReason>,
    /// What it refers to, at most 255 characters.
    #[serde(default)]
    pub reference: Option<String>,
}
