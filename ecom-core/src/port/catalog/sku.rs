//! SKUs.

use std::collections::HashSet;

use crate::domain::catalog::sku::Sku;
use crate::domain::common::IncludeDeleted;
use crate::domain::stock::inventory::StockMovement;
use crate::error::Result;
use crate::id::{ProductId, SkuId};
use crate::text::Slug;

port! {
    /// The SKUs of a shop.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait SkuRepository / ForwardSkus(&mut self): Send {
        /// Returns one SKU.
        async fn get(&mut self, id: SkuId, deleted: IncludeDeleted) -> Result<Option<Sku>>;

        /// Returns the live SKU with this code, ignoring case.
        async fn get_by_code(&mut self, code: &str) -> Result<Option<Sku>>;

        /// Returns the live SKUs with this barcode, by id, at most 100.
        async fn find_by_barcode(&mut self, barcode: &str) -> Result<Vec<Sku>>;

        /// Returns folded code, id and product of the live SKUs with one of these codes, ignoring case.
        async fn find_by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId, ProductId)>>;

        /// Returns the folded codes of live SKUs that are one of `bases`, or one of them with a number (`-2`).
        async fn taken_codes(&mut self, bases: &[Slug]) -> Result<HashSet<String>>;

        /// Returns the SKUs of a product by position; soft-deleted ones only if `deleted` asks for them.
        async fn of_product(&mut self, product: ProductId, deleted: IncludeDeleted) -> Result<Vec<Sku>>;

        /// Returns the soft-deleted SKUs of these products, in any order.
        async fn deleted_of(&mut self, products: &[ProductId]) -> Result<Vec<Sku>>;

        /// Inserts SKUs with their on hand, and the rows of the ledger in `opening` that explain it (R11).
        ///
        /// # Errors
        /// `DUPLICATE` for a taken code or external id.
        async fn insert(&mut self, skus: &[Sku], opening: &[StockMovement]) -> Result<()>;

        /// Writes `after` over `before`, which this transaction has locked (through its product). It does not write on
        /// hand and reserved, which only [`crate::port::InventoryRepository::apply`] changes.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &Sku, after: &Sku) -> Result<()>;

        /// Removes a SKU and its ledger for good.
        ///
        /// # Errors
        /// `HAS_SALES` if an order line refers to it.
        async fn purge(&mut self, id: SkuId) -> Result<()>;
    }
}
