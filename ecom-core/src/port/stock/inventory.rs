//! Stock and its ledger.

use crate::domain::platform::audit::LedgerSum;
use crate::domain::stock::inventory::{StockImbalance, StockLevel, StockMovement};
use crate::error::Result;
use crate::id::{ProductId, SkuId};
use crate::paging::{Page, Paging};

/// A product whose document changed with its stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TouchedProduct {
    /// The id of the product.
    pub product_id: ProductId,
    /// Its revision after the change.
    pub revision: i64,
    /// Whether the best availability of its SKUs changed, by which lists filter.
    pub availability_changed: bool,
}

port! {
    /// The stock of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait InventoryRepository / ForwardInventory(&mut self): Send {
        /// Returns the stock levels of those of `ids` that exist, by id.
        async fn levels(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>>;

        /// As [`Self::levels`], and locks them until the end of the transaction, in id order (R7).
        async fn lock(&mut self, ids: &[SkuId]) -> Result<Vec<StockLevel>>;

        /// Adds the movements to on hand and to the ledger, updates the availability of the products, and increases
        /// their revisions once each. The caller has locked the SKUs and checked that their stock is tracked and that no
        /// level becomes negative; the database checks the latter as well. It needs a fixed number of statements per 100 movements.
        ///
        /// # Errors
        /// `INSUFFICIENT_STOCK` if a level would become negative; the transaction must then be rolled back.
        async fn apply(&mut self, movements: &[StockMovement]) -> Result<Vec<TouchedProduct>>;

        /// Returns the ledger of a SKU, newest first.
        async fn movements(&mut self, sku: SkuId, paging: &Paging) -> Result<Page<StockMovement>>;

        /// Returns how many movements a SKU has.
        async fn count_movements(&mut self, sku: SkuId) -> Result<u64>;

        /// Returns the ledger sums of at most `limit` SKUs after one, by id, soft-deleted ones included. One statement,
        /// so that each sum belongs to its on hand.
        async fn ledgers(&mut self, after: Option<SkuId>, limit: u32) -> Result<Vec<LedgerSum>>;

        /// Returns the SKUs whose on hand is not the sum of their movements, in one query (R11). Empty unless there is
        /// a defect.
        async fn imbalances(&mut self) -> Result<Vec<StockImbalance>>;
    }
}
