//! The representation of stock.

use chrono::{DateTime, Utc};
use ecom_core::catalog::AvailabilityStatus;
use ecom_core::stock::{StockLevel, StockMovement, StockReason};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The stock of a SKU.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct StockView {
    /// The id of the SKU.
    pub sku_id: Uuid,
    /// The id of the product of the SKU.
    pub product_id: Uuid,
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// Whether the stock is tracked. If it is not, the SKU is always in stock and adjustments are refused.
    pub tracked: bool,
    /// The number of pieces that can be sold: on hand − reserved. It is no limit if the stock is not tracked.
    pub available: i64,
    /// If this many or fewer pieces are available, the availability is `limited`.
    pub low_stock_threshold: i64,
    /// The availability that shoppers see.
    pub availability_status: AvailabilityStatus,
}

impl From<&StockLevel> for StockView {
    fn from(l: &StockLevel) -> Self {
        Self {
            sku_id: l.sku_id.0,
            product_id: l.product_id.0,
            on_hand: l.on_hand,
            reserved: l.reserved,
            tracked: l.tracked,
            available: l.available(),
            low_stock_threshold: l.low_stock_threshold,
            availability_status: l.availability(),
        }
    }
}

/// A stock movement: a row of the ledger.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MovementView<'a> {
    /// The id of the movement.
    pub id: Uuid,
    /// The id of the SKU whose stock has changed.
    pub sku_id: Uuid,
    /// The number of pieces added (positive) or removed (negative).
    pub delta: i64,
    /// The reason of the movement.
    pub reason: StockReason,
    /// A reference to a document, such as an order number or a delivery note; null if there is none.
    pub reference: Option<&'a str>,
    /// When the movement was recorded (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// The actor who recorded the movement.
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

/// The result of an adjustment of stock.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AdjustedView<'a> {
    /// The stock right after the adjustment.
    pub stock: StockView,
    /// The row of the ledger that records the adjustment.
    pub movement: MovementView<'a>,
}

/// A change of stock on hand by a difference. It does not need a version and does not change one (R1).
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"delta": -2, "reason": "damaged", "reference": "RMA-17"}))]
pub(crate) struct AdjustInput {
    /// The number of pieces to add (positive) or to remove (negative): −10¹² to 10¹², not 0.
    pub delta: i64,
    /// The reason of the adjustment; `adjustment` if absent. `initial` is refused.
    #[serde(default)]
    pub reason: Option<StockReason>,
    /// A reference to a document, such as a delivery note; 1–255 characters.
    #[serde(default)]
    pub reference: Option<String>,
}
