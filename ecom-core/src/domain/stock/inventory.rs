//! Stock: levels, and the append-only ledger that explains them.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::id::{ProductId, SkuId, StockMovementId};

/// Why on hand changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StockReason {
    /// The first stock of a new SKU.
    Initial,
    /// Somebody counted, received or wrote off.
    Adjustment,
    /// An import said how much there is.
    Import,
    /// Goods came in.
    Received,
    /// A customer sent something back.
    Returned,
    /// Broken, lost or given away.
    Damaged,
}

impl StockReason {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Initial, Self::Adjustment, Self::Import, Self::Received, Self::Returned, Self::Damaged];

    /// The word on disk and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Adjustment => "adjustment",
            Self::Import => "import",
            Self::Received => "received",
            Self::Returned => "returned",
            Self::Damaged => "damaged",
        }
    }

    /// From the word.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// A row of the append-only ledger of on hand. For every SKU the sum of its movements is its on hand (R11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockMovement {
    /// Its id; sorts by time.
    pub id: StockMovementId,
    /// Which SKU.
    pub sku_id: SkuId,
    /// Pieces in (positive) or out (negative); never 0.
    pub delta: i64,
    /// Why.
    pub reason: StockReason,
    /// What it refers to: an order number, a delivery note; at most 255 characters.
    pub reference: Option<String>,
    /// When.
    pub created_at: Timestamp,
    /// Who.
    pub created_by: Actor,
}

/// The stock of a SKU at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// Which SKU.
    pub sku_id: SkuId,
    /// Of which product.
    pub product_id: ProductId,
    /// Pieces in the house.
    pub on_hand: i64,
    /// Pieces promised.
    pub reserved: i64,
    /// At or under this many available it counts as low.
    pub low_stock_threshold: i64,
    /// False where the SKU or its product is soft-deleted.
    pub live: bool,
}

impl StockLevel {
    /// Pieces that can be sold.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }
}

/// A SKU whose ledger does not add up to its on hand: always a defect (R11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockImbalance {
    /// Which SKU.
    pub sku_id: SkuId,
    /// What the SKU says.
    pub on_hand: i64,
    /// What its movements add up to.
    pub ledger: i64,
}

/// A change of on hand. A delta: it needs no version and moves none (R1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjustment {
    /// Which SKU.
    pub sku_id: SkuId,
    /// Pieces in (positive) or out (negative); not 0.
    pub delta: i64,
    /// Why.
    pub reason: StockReason,
    /// The document that it refers to, such as a delivery note; at most 255 characters.
    pub reference: Option<String>,
}

impl StockAdjustment {
    /// Returns an adjustment by `delta` pieces that refers to nothing.
    pub const fn new(sku_id: SkuId, delta: i64, reason: StockReason) -> Self {
        Self { sku_id, delta, reason, reference: None }
    }

    /// Names the document that the adjustment refers to.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

/// What an adjustment did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// The stock right after it.
    pub level: StockLevel,
    /// Its row in the ledger.
    pub movement: StockMovement,
}
