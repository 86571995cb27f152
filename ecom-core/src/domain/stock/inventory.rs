//! Stock: the levels, and the append-only ledger of the movements that lead to them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::domain::catalog::product::Product;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Actor;
use crate::id::{OrderLineId, ProductId, SkuId, StockMovementId};

/// The reason of a stock movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StockReason {
    /// The first stock of a new SKU.
    Initial,
    /// The stock was corrected, for example after a count.
    Adjustment,
    /// An import set the stock.
    Import,
    /// Goods were received.
    Received,
    /// A customer returned goods.
    Returned,
    /// Pieces were broken, lost or given away.
    Damaged,
    /// An order has taken pieces.
    Order,
    /// The cancellation of an order, or of some of its units, gave pieces back.
    Cancel,
    /// An edit of an order has taken pieces or gave them back.
    LineChange,
}

impl StockReason {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Initial,
        Self::Adjustment,
        Self::Import,
        Self::Received,
        Self::Returned,
        Self::Damaged,
        Self::Order,
        Self::Cancel,
        Self::LineChange,
    ];

    /// Returns true for a reason that only the library records, and that an adjustment must not have.
    pub const fn is_reserved(self) -> bool {
        matches!(self, Self::Initial | Self::Order | Self::Cancel | Self::LineChange)
    }

    /// Returns the word in the database, in requests and in responses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Adjustment => "adjustment",
            Self::Import => "import",
            Self::Received => "received",
            Self::Returned => "returned",
            Self::Damaged => "damaged",
            Self::Order => "order",
            Self::Cancel => "cancel",
            Self::LineChange => "line_change",
        }
    }

    /// Returns the reason for a word, or `None` if the word is unknown.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// A row of the append-only ledger of stock on hand. The stock on hand of a SKU is the sum of its movements (R11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockMovement {
    /// The id of the movement. Ids increase with time.
    pub id: StockMovementId,
    /// The SKU whose stock has changed.
    pub sku_id: SkuId,
    /// The number of pieces added (positive) or removed (negative); never 0.
    pub delta: i64,
    /// The reason of the movement.
    pub reason: StockReason,
    /// A reference to a document, such as an order number or a delivery note; at most 255 characters.
    pub reference: Option<String>,
    /// The order line that the movement belongs to.
    pub order_line_id: Option<OrderLineId>,
    /// When the movement was recorded.
    pub created_at: Timestamp,
    /// The actor who recorded the movement.
    pub created_by: Actor,
}

/// The stock of a SKU at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockLevel {
    /// The SKU.
    pub sku_id: SkuId,
    /// The product of the SKU.
    pub product_id: ProductId,
    /// The number of pieces in stock.
    pub on_hand: i64,
    /// The number of pieces in stock that are reserved.
    pub reserved: i64,
    /// Whether the stock is tracked. If it is not, the SKU is always in stock, and nothing moves its stock.
    pub tracked: bool,
    /// If this many or fewer pieces are available, the availability is limited.
    pub low_stock_threshold: i64,
    /// False if the SKU or its product is soft-deleted.
    pub live: bool,
}

impl StockLevel {
    /// Returns the number of pieces that can be sold: on hand − reserved. It is no limit if the stock is not tracked.
    pub const fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Returns the availability that shoppers see.
    pub const fn availability(&self) -> AvailabilityStatus {
        if self.tracked {
            AvailabilityStatus::of(self.available(), self.low_stock_threshold)
        } else {
            AvailabilityStatus::InStock
        }
    }
}

/// A SKU that has become low: its availability was `in_stock`, and a change has made it `limited` or `out_of_stock`. It
/// becomes low again only after it was `in_stock` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LowStock {
    /// The SKU.
    pub sku_id: SkuId,
    /// The product of the SKU.
    pub product_id: ProductId,
    /// The number of pieces that can be sold after the change.
    pub available: i64,
    /// The low-stock threshold of the SKU after the change.
    pub threshold: i64,
}

impl LowStock {
    /// Returns the SKU if it has become low between two levels.
    pub(crate) fn crossed(before: &StockLevel, after: &StockLevel) -> Option<Self> {
        let is_in_stock = |level: &StockLevel| level.availability() == AvailabilityStatus::InStock;
        (is_in_stock(before) && !is_in_stock(after)).then_some(Self {
            sku_id: after.sku_id,
            product_id: after.product_id,
            available: after.available(),
            threshold: after.low_stock_threshold,
        })
    }

    /// Returns the SKUs that have become low between two states of a product, of those that both states have.
    pub(crate) fn between(before: &Product, after: &Product) -> Vec<Self> {
        if !before.audit.is_live() || !after.audit.is_live() {
            return Vec::new();
        }
        let crossed = after.skus.iter().filter_map(|new| {
            let old = before.skus.iter().find(|old| old.id == new.id)?;
            let has_crossed = old.availability() == AvailabilityStatus::InStock
                && new.availability() != AvailabilityStatus::InStock
                && new.audit.is_live();
            has_crossed.then_some(Self {
                sku_id: new.id,
                product_id: after.id,
                available: new.available(),
                threshold: new.low_stock_threshold,
            })
        });
        crossed.collect()
    }

    /// Returns the data of the event.
    pub(crate) fn data(&self) -> Value {
        json!(self)
    }
}

/// A SKU whose stock on hand is not the sum of its movements, which is always a defect (R11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockImbalance {
    /// The SKU.
    pub sku_id: SkuId,
    /// The stock on hand of the SKU.
    pub on_hand: i64,
    /// The sum of the movements of the SKU.
    pub ledger: i64,
}

/// A change of stock on hand by a difference. It does not need a version and does not change one (R1). It is refused if
/// the stock of the SKU is not tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjustment {
    /// The SKU.
    pub sku_id: SkuId,
    /// The number of pieces to add (positive) or to remove (negative): −10¹² to 10¹², not 0.
    pub delta: i64,
    /// The reason of the adjustment.
    pub reason: StockReason,
    /// A reference to a document, such as a delivery note; 1–255 characters.
    pub reference: Option<String>,
}

impl StockAdjustment {
    /// Returns an adjustment by `delta` pieces without a reference to a document.
    pub const fn new(sku_id: SkuId, delta: i64, reason: StockReason) -> Self {
        Self { sku_id, delta, reason, reference: None }
    }

    /// Sets the reference to a document.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

/// The result of an adjustment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    /// The stock right after the adjustment.
    pub level: StockLevel,
    /// The row of the adjustment in the ledger.
    pub movement: StockMovement,
}
