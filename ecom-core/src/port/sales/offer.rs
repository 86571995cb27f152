//! SKUs as the shop sells them.

use crate::domain::sales::offer::Offer;
use crate::error::Result;
use crate::id::SkuId;

port! {
    /// The SKUs of a shop as it sells them: prices and stock, read from the rows of SKUs and products and never from a
    /// cache.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait OfferRepository / ForwardOffers(&mut self): Send {
        /// Returns the offers of those of `ids` that exist, soft-deleted ones included, by SKU id.
        async fn get(&mut self, ids: &[SkuId]) -> Result<Vec<Offer>>;

        /// As [`Self::get`], and locks the SKUs and then their products until the end of the transaction, each in id
        /// order (R24). Price, discount, status and stock do not change meanwhile.
        async fn lock(&mut self, ids: &[SkuId]) -> Result<Vec<Offer>>;

        /// Returns the ids of the live SKUs that have one of these codes, with the folded code
        /// ([`fold_key`](crate::text::fold_key)).
        async fn by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId)>>;
    }
}
