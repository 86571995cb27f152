//! Reviews.

use crate::domain::catalog::product::RatingSummary;
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewSort, ReviewTally};
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::{ProductId, ReviewId};
use crate::paging::{Page, Paging, Total};

/// The part of a product that depends on its reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReviewedProduct {
    /// The id of the product.
    pub id: ProductId,
    /// Whether the product is live.
    pub live: bool,
    /// The rating that its document shows.
    pub rating: RatingSummary,
    /// The sum and the number of its reviews, whatever the source of the rating is.
    pub tally: ReviewTally,
    /// The revision of the product.
    pub revision: i64,
}

port! {
    /// The reviews of a shop's products. A review is hidden while its product is soft-deleted.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait ReviewRepository / ForwardReviews(&mut self): Send {
        /// Returns one review.
        async fn get(&mut self, id: ReviewId, deleted: IncludeDeleted) -> Result<Option<Review>>;

        /// Locks a product until the end of the transaction, soft-deleted or not, and returns its rating and tally as
        /// they are then. It holds the tree of categories, as
        /// [`CategoryRepository::hold_tree`](crate::port::CategoryRepository::hold_tree) does. A transaction takes
        /// this lock before it writes a review of the product.
        async fn lock_product(&mut self, id: ProductId) -> Result<Option<ReviewedProduct>>;

        /// Writes rating, tally and revision of a product that this transaction has locked, and the rating in
        /// everything that lists derive from it.
        async fn rate(&mut self, product: &ReviewedProduct) -> Result<()>;

        /// Returns a page of a list: one statement whatever the limit.
        async fn list(&mut self, filter: &ReviewFilter, sort: ReviewSort, paging: &Paging) -> Result<Page<Review>>;

        /// Counts the reviews that match, up to `bound`.
        async fn count(&mut self, filter: &ReviewFilter, bound: u64) -> Result<Total>;

        /// Inserts reviews of products that this transaction has locked. It does not write the ratings of the
        /// products.
        ///
        /// # Errors
        /// `DUPLICATE` on `customer_id` if the customer has reviewed the product, `Validation` (reference) for a
        /// product that does not exist.
        async fn insert(&mut self, reviews: &[Review]) -> Result<()>;

        /// Writes `after` over `before`, whose product this transaction has locked. It does not write the rating of the
        /// product.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn update(&mut self, before: &Review, after: &Review) -> Result<()>;

        /// Removes a review for good. It does not write the rating of the product.
        async fn purge(&mut self, id: ReviewId) -> Result<()>;
    }
}
