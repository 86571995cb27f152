//! Reviews of products. A write of a review locks the product and changes its rating in the same transaction.

use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::review::{Review, ReviewFilter, ReviewInput, ReviewPatch, ReviewSort, ReviewValues};
use crate::domain::common::{Audit, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::error::{Entity, Error, FieldCode, Result};
use crate::id::{CustomerId, ProductId, ReviewId};
use crate::money::Stars;
use crate::paging::{Page, Paging, Total};
use crate::port::catalog::review::ReviewedProduct;
use crate::port::storage::Repositories as _;
use crate::service::catalog::product::ProductService;
use crate::service::run::context::Context;
use crate::service::run::listing::Aspect;
use crate::service::run::transaction::{Change, Tx};

/// The service of the reviews of a shop.
///
/// A product whose rating comes from reviews shows the mean and the number of its reviews, which change in the
/// transaction that writes a review. Reviews leave an external rating as it is.
///
/// A customer writes its own reviews without a permission.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists. Reads need no permission,
/// except to include soft-deleted rows.
///
/// ```
/// # async fn app(shop: ecom_core::Shop, lamp: ecom_core::id::ProductId) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::{ReviewFilter, ReviewInput, ReviewSort};
/// use ecom_core::paging::Paging;
///
/// let review = shop.reviews().create(lamp, &ReviewInput::new(4).comment("Bright.")).await?;
///
/// let filter = ReviewFilter { product: Some(lamp), ..ReviewFilter::default() };
/// let (page, _) = shop.reviews().list(&filter, ReviewSort::RatingDesc, &Paging::default()).await?;
/// assert_eq!(page.items, [review]);
/// assert_eq!(shop.products().get(lamp).await?.rating.mean.to_string(), "4.00");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ReviewService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ReviewService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a review; those of soft-deleted products only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: ReviewId, deleted: IncludeDeleted) -> Result<Review> {
        self.who.require_shown(deleted)?;
        let gone = || Error::not_found(Entity::Review, id);
        let found = self.cx.storage.connect().await?.reviews().get(id, deleted).await?.ok_or_else(gone)?;
        if deleted == IncludeDeleted::No && !self.shows(found.product_id).await? {
            return Err(gone());
        }
        Ok(found)
    }

    /// Returns true if the principal may read a product.
    async fn shows(&self, id: ProductId) -> Result<bool> {
        let products = ProductService::new(self.cx, self.who);
        Ok(products.reads_all() || !products.get_many(&[id]).await?.is_empty())
    }

    /// Returns a page of reviews and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`]. Reviews of products that the principal may not read are left out.
    ///
    /// # Errors
    /// `NotFound` if the filter names a product that does not exist, `Validation` if the lower bound of the rating is
    /// above the upper one, `Unavailable`.
    pub async fn list(
        &self,
        filter: &ReviewFilter,
        sort: ReviewSort,
        paging: &Paging,
    ) -> Result<(Page<Review>, Option<Total>)> {
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        if let Some(id) = filter.product.filter(|_| filter.include_deleted == IncludeDeleted::No)
            && !self.shows(id).await?
        {
            return Err(Error::not_found(Entity::Product, id));
        }
        let reads_all = ProductService::new(self.cx, self.who).reads_all();
        let filter = &ReviewFilter { active_only: filter.active_only || !reads_all, ..filter.clone() };
        let mut db = self.cx.storage.connect().await?;
        let page = db.reviews().list(filter, sort, paging).await?;
        if page.items.is_empty()
            && let Some(id) = filter.product
            && db.products().get(id, filter.include_deleted).await?.is_none()
        {
            return Err(Error::not_found(Entity::Product, id));
        }
        let total = match paging {
            Paging::Offset { .. } => Some(db.reviews().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        Ok((page, total))
    }

    /// Adds a review to a live product.
    ///
    /// # Errors
    /// `Validation`, also on `product_id` and `customer_id` if the product or the customer does not exist or is
    /// soft-deleted, `DUPLICATE` on `customer_id` if the customer has reviewed the product, `Unavailable`.
    pub async fn create(&self, product: ProductId, input: &ReviewInput) -> Result<Review> {
        self.reviewer(input)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, product, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, product: ProductId, input: &ReviewInput) -> Result<Review> {
        let customer_id = self.reviewer(input)?;
        let ReviewValues { rating, comment } = input.check()?;
        tx.started();
        if let Some(customer) = customer_id {
            // The customer is not deleted before the review is written.
            let held = tx.customers().hold(&[customer]).await?.pop();
            if !held.is_some_and(|c| c.audit.is_live()) {
                return Err(unknown("customer_id", Entity::Customer, customer));
            }
        }
        let reviewed = tx.reviews().lock_product(product).await?.filter(|p| p.live);
        let reviewed = reviewed.ok_or_else(|| unknown("product_id", Entity::Product, product))?;
        let products = ProductService::new(self.cx, self.who);
        if !products.reads_all() && products.get_in(tx, product, IncludeDeleted::No).await.is_err() {
            return Err(unknown("product_id", Entity::Product, product));
        }
        let review = Review {
            id: ReviewId(self.cx.ids.next()),
            product_id: product,
            customer_id,
            rating,
            comment,
            audit: Audit::created(self.cx.now(), self.who.actor()),
        };
        tx.reviews().insert(std::slice::from_ref(&review)).await?;
        tx.emit(Change::created(EventKind::ReviewCreated, &review, self.who.actor())).await?;
        self.rate(tx, reviewed, None, Some(rating)).await?;
        tx.ended(Ok(review))
    }

    /// Replaces a review (PUT, R1). It stays with its product and its customer.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Validation`, `Unavailable`.
    pub async fn replace(&self, id: ReviewId, expected: ExpectedVersion, input: &ReviewInput) -> Result<Review> {
        self.who.reach(Permission::ReviewsWrite)?;
        let expected = expected.or_named(input.version)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: ReviewId,
        expected: ExpectedVersion,
        input: &ReviewInput,
    ) -> Result<Review> {
        self.who.reach(Permission::ReviewsWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check()?;
        tx.started();
        let (before, reviewed) = self.lock(tx, id, expected).await?;
        input.check_customer(&before)?;
        let written = self.update_in(tx, before, reviewed, values).await;
        tx.ended(written)
    }

    /// Merges a patch into a review (RFC 7396, R1).
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: ReviewId, expected: ExpectedVersion, patch: ReviewPatch) -> Result<Review> {
        self.who.reach(Permission::ReviewsWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: ReviewId,
        expected: ExpectedVersion,
        patch: ReviewPatch,
    ) -> Result<Review> {
        self.who.reach(Permission::ReviewsWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let (before, reviewed) = self.lock(tx, id, expected).await?;
        let values = patch.onto(&before)?.check()?;
        let written = self.update_in(tx, before, reviewed, values).await;
        tx.ended(written)
    }

    /// Writes checked values over a review whose product is locked, if they differ.
    async fn update_in(
        &self,
        tx: &mut Tx<'_>,
        before: Review,
        reviewed: ReviewedProduct,
        values: ReviewValues,
    ) -> Result<Review> {
        let mut after = Review { rating: values.rating, comment: values.comment, ..before.clone() };
        if after == before {
            return Ok(before);
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.reviews().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::ReviewUpdated, &before, &after, self.who.actor())).await?;
        self.rate(tx, reviewed, Some(before.rating), Some(after.rating)).await?;
        Ok(after)
    }

    /// Removes a review for good.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn delete(&self, id: ReviewId, expected: ExpectedVersion) -> Result<()> {
        self.who.reach(Permission::ReviewsWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: ReviewId, expected: ExpectedVersion) -> Result<()> {
        self.who.reach(Permission::ReviewsWrite)?;
        tx.started();
        let (before, reviewed) = self.lock(tx, id, expected).await?;
        tx.reviews().purge(id).await?;
        tx.emit(Change::removed(EventKind::ReviewDeleted, &before, self.who.actor())).await?;
        let rated = self.rate(tx, reviewed, Some(before.rating), None).await;
        tx.ended(rated)
    }

    /// Returns the customer of a new review: the one that the input names, or else the principal, if it is a customer
    /// and may not write reviews of others.
    fn reviewer(&self, input: &ReviewInput) -> Result<Option<CustomerId>> {
        self.who.reach(Permission::ReviewsWrite)?.narrow(input.customer_id)
    }

    /// Locks the customer and the product of a review that is shown and that the principal may write, and checks that
    /// the review is the one that the writer read (R1).
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: ReviewId,
        expected: ExpectedVersion,
    ) -> Result<(Review, ReviewedProduct)> {
        let gone = || Error::not_found(Entity::Review, id);
        let found = tx.reviews().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?;
        // Everybody may read the review, so it is not answered as one that does not exist.
        self.who.reach(Permission::ReviewsWrite)?.check_named(found.customer_id)?;
        if let Some(customer) = found.customer_id {
            // A permanent deletion of the customer changes the review too.
            tx.customers().hold(&[customer]).await?;
        }
        let reviewed = tx.reviews().lock_product(found.product_id).await?.ok_or_else(gone)?;
        // Read again, now that nobody else can write it.
        let before = tx.reviews().get(id, IncludeDeleted::No).await?.ok_or_else(gone)?;
        expected.check(Entity::Review, id, before.audit.version, self.cx.config.last_write_wins)?;
        Ok((before, reviewed))
    }

    /// Changes the tally of a product after one of its reviews has changed. If its document shows another rating then,
    /// its revision increases and the change is recorded.
    async fn rate(
        &self,
        tx: &mut Tx<'_>,
        before: ReviewedProduct,
        removed: Option<Stars>,
        added: Option<Stars>,
    ) -> Result<()> {
        let tally = before.tally.after(removed, added);
        let rating = tally.rating_after(before.rating);
        let shows = rating != before.rating;
        if tally == before.tally && !shows {
            return Ok(());
        }
        let after = ReviewedProduct { tally, rating, revision: before.revision + i64::from(shows), ..before };
        tx.reviews().rate(&after).await?;
        if shows {
            // The audit log has the review.
            let (kind, actor) = (EventKind::ProductUpdated, self.who.actor());
            let aspect = (rating.mean != before.rating.mean).then_some(Aspect::Rating);
            tx.emit(Change::event_only(kind, after.id, after.revision, actor).of_aspects(aspect)).await?;
        }
        Ok(())
    }
}

/// Returns the error for a field that refers to a row that does not exist or is soft-deleted.
fn unknown(field: &'static str, entity: Entity, id: impl Into<uuid::Uuid>) -> Error {
    Error::invalid(field, FieldCode::ReferenceNotFound, Error::not_found(entity, id.into()).to_string())
}
