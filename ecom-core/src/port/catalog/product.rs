//! Products.

use std::collections::HashSet;

use crate::domain::catalog::product::{Product, ProductFilter, ProductFilters, ProductSort};
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::{CategoryId, ProductId};
use crate::paging::{Page, Paging, Total};
use crate::text::Slug;

port! {
    /// The products of a shop. Every read of a product includes its live SKUs and its categories, in one round trip.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait ProductRepository / ForwardProducts(&mut self): Send {
        /// Returns one product.
        async fn get(&mut self, id: ProductId, deleted: IncludeDeleted) -> Result<Option<Product>>;

        /// Returns the live product with a slug.
        async fn get_by_slug(&mut self, slug: &str) -> Result<Option<Product>>;

        /// Returns those of `ids` that exist, by id, with a fixed number of statements for any number of ids.
        async fn get_many(&mut self, ids: &[ProductId], deleted: IncludeDeleted) -> Result<Vec<Product>>;

        /// Locks those of `ids` that exist until the end of the transaction and returns them as they are then,
        /// soft-deleted ones too. The tree must be held
        /// ([`CategoryRepository::hold_tree`](crate::port::CategoryRepository::hold_tree)). Their SKUs are locked
        /// first; both in id order. Every update and purge comes after it.
        async fn lock(&mut self, ids: &[ProductId]) -> Result<Vec<Product>>;

        /// Returns the products with one of these external ids of a source, soft-deleted ones too.
        async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<(String, ProductId)>>;

        /// Returns the slugs of live products that are one of `bases`, or one of them with a number (`-2`).
        async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>>;

        /// Returns a page of a list: one statement whatever the limit.
        async fn list(&mut self, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Result<Page<Product>>;

        /// Counts the products that match, up to `bound`.
        async fn count(&mut self, filter: &ProductFilter, bound: u64) -> Result<Total>;

        /// Returns the values by which the products that match could be narrowed.
        async fn filters(&mut self, filter: &ProductFilter) -> Result<ProductFilters>;

        /// Returns the ids of all products in a category and below it, soft-deleted ones too, after `after`, by id.
        async fn ids_in_category(
            &mut self,
            category: CategoryId,
            after: Option<ProductId>,
            limit: u32,
        ) -> Result<Vec<ProductId>>;

        /// Returns id and revision of all products, soft-deleted ones too, after `after`, by id.
        async fn revisions(&mut self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>>;

        /// Inserts products with their category links; [`crate::port::SkuRepository::insert`] inserts their SKUs in the
        /// same transaction. The prices and the availability that lists use are computed from [`Product::skus`].
        ///
        /// # Errors
        /// `DUPLICATE` for a taken slug or external id, `Validation` (reference) for a category that does not exist.
        async fn insert(&mut self, products: &[Product]) -> Result<()>;

        /// Writes `after` over `before`, which this transaction has locked, with its links and everything that lists
        /// derive from it. `after.revision` and `after.audit.version` are the new ones. The reviews of a product hide
        /// and return with it.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &Product, after: &Product) -> Result<()>;

        /// Updates what lists derive from the category tree for these products, after their categories were renamed or
        /// moved, and increases their revisions.
        async fn refresh_categories(&mut self, ids: &[ProductId]) -> Result<()>;

        /// Removes a product, its SKUs and its reviews for good.
        ///
        /// # Errors
        /// `HAS_SALES` if an order line refers to it.
        async fn purge(&mut self, product: &Product) -> Result<()>;
    }
}
