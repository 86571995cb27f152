//! Reviews of products, and the rating of a product that follows from them.

use derive_setters::Setters;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::catalog::product::{RatingSource, RatingSummary};
use crate::domain::common::{Audit, IncludeDeleted, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::domain::words::words;
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{CustomerId, ProductId, ReviewId};
use crate::money::{ExactDecimal, Rating, Stars};
use crate::text::{check_text, trimmed};

/// A review of a product. It is hidden while the product is soft-deleted, and it is removed permanently together with
/// the product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The id of the review.
    pub id: ReviewId,
    /// The product that is reviewed.
    pub product_id: ProductId,
    /// The customer who wrote the review. `None` if it has no customer, or if the customer was permanently deleted.
    pub customer_id: Option<CustomerId>,
    /// The rating in stars.
    pub rating: Stars,
    /// The text of the review, at most 5,000 characters.
    pub comment: Option<String>,
    /// When and by whom the review was created and edited, and its version. It counts as soft-deleted while its product
    /// is.
    pub audit: Audit,
}

impl Audited for Review {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        fields(self, &["id"])
    }

    fn customer(&self) -> Option<CustomerId> {
        self.customer_id
    }
}

impl Review {
    /// The maximum length of the comment, in characters.
    pub const MAX_COMMENT: usize = 5_000;
}

/// The filter of a list of reviews. A review must match every filter that is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReviewFilter {
    /// The reviews of this product.
    pub product: Option<ProductId>,
    /// The reviews of this customer.
    pub customer: Option<CustomerId>,
    /// The reviews with at least this rating.
    pub min_rating: Option<Stars>,
    /// The reviews with at most this rating.
    pub max_rating: Option<Stars>,
    /// Whether only reviews of active products are listed. [`ReviewService::list`](crate::catalog::ReviewService::list)
    /// sets it for principals who may not read other products.
    pub active_only: bool,
    /// Whether the reviews of soft-deleted products are listed (R2).
    pub include_deleted: IncludeDeleted,
}

impl ReviewFilter {
    /// Refuses a lower bound of the rating that is above the upper one.
    ///
    /// # Errors
    /// `Validation` on field `min_rating`.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if self.min_rating.zip(self.max_rating).is_some_and(|(min, max)| min > max) {
            errors.push("min_rating", FieldCode::Inconsistent, "must not be above `max_rating`");
        }
        errors.into_result()
    }
}

words! {
    /// The order of a list of reviews. Reviews with the same rating are ordered by id, in the same direction.
    #[derive(Default)]
    ReviewSort {
        /// By time of creation, newest first.
        #[default]
        CreatedDesc = "created_desc",
        /// By time of creation, oldest first.
        CreatedAsc = "created_asc",
        /// By rating, highest first; of equal ratings, the newest review first.
        RatingDesc = "rating_desc",
        /// By rating, lowest first; of equal ratings, the oldest review first.
        RatingAsc = "rating_asc",
    }
}

impl ReviewSort {
    /// Returns true if the list begins with the newest review or the highest rating.
    pub const fn is_descending(self) -> bool {
        matches!(self, Self::CreatedDesc | Self::RatingDesc)
    }

    /// Returns true if the list sorts by rating before the id.
    pub const fn is_by_rating(self) -> bool {
        matches!(self, Self::RatingDesc | Self::RatingAsc)
    }
}

/// The sum and the number of the reviews of a product, which are stored with it, so that a write of a review need not
/// read the other reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReviewTally {
    /// The sum of the ratings, in tenths of a star.
    pub sum: i64,
    /// The number of reviews.
    pub count: i64,
}

impl ReviewTally {
    /// Returns the tally after one rating was removed and one was added.
    #[must_use]
    pub fn after(self, removed: Option<Stars>, added: Option<Stars>) -> Self {
        let tenths = |stars: Option<Stars>| stars.map_or(0, |s| i64::from(s.tenths()));
        Self {
            sum: self.sum - tenths(removed) + tenths(added),
            count: self.count - i64::from(removed.is_some()) + i64::from(added.is_some()),
        }
    }

    /// Returns the mean of the ratings, rounded to two decimal places, half away from zero; 0 if there are no reviews
    /// (`docs/rules.md`, "Rating").
    pub fn mean(self) -> Rating {
        let hundredths = if self.count > 0 { (20 * self.sum + self.count) / (2 * self.count) } else { 0 };
        // The database keeps the sum between 0 and the maximum rating of all reviews.
        Rating::from_hundredths(hundredths).unwrap_or_default()
    }

    /// Returns the rating of the product after a change of its reviews. An external rating stays as it is.
    #[must_use]
    pub fn rating_after(self, before: RatingSummary) -> RatingSummary {
        match before.source {
            RatingSource::Reviews => {
                RatingSummary { mean: self.mean(), count: self.count, source: RatingSource::Reviews }
            }
            RatingSource::External => before,
        }
    }
}

/// A review to create or to replace (PUT).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReviewInput {
    /// The rating in stars: 0–5, with at most one decimal place.
    #[cfg_attr(feature = "openapi", schema(example = "4.5"))]
    #[setters(skip)]
    pub rating: ExactDecimal,
    /// The text of the review, at most 5,000 characters.
    #[cfg_attr(feature = "openapi", schema(max_length = 5000, example = "Bright, and easy to set up."))]
    #[serde(default)]
    pub comment: Option<String>,
    /// The customer who wrote the review. A customer has at most one review of a product. If it is absent, a replaced
    /// review keeps its own; another customer is refused.
    #[serde(default)]
    pub customer_id: Option<CustomerId>,
    /// The version of the review that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a review (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReviewPatch {
    /// The rating in stars: 0–5, with at most one decimal place; null is refused.
    #[serde(default)]
    pub rating: Patch<ExactDecimal>,
    /// The text of the review, at most 5,000 characters; null removes it.
    #[serde(default)]
    pub comment: Patch<String>,
    /// The version of the review that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// The values of a review that were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReviewValues {
    /// The rating.
    pub rating: Stars,
    /// The comment, without spaces around it.
    pub comment: Option<String>,
}

impl ReviewInput {
    /// Returns a review without a customer.
    ///
    /// ```
    /// use ecom_core::catalog::ReviewInput;
    ///
    /// # fn main() -> Result<(), ecom_core::money::NumberError> {
    /// let review = ReviewInput::new("4.5".parse::<ecom_core::money::ExactDecimal>()?).comment("Bright.");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(rating: impl Into<ExactDecimal>) -> Self {
        Self { rating: rating.into(), comment: None, customer_id: None, version: None }
    }

    /// Checks the input and returns its values as they are stored.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<ReviewValues> {
        let mut e = ValidationErrors::default();
        let rating = stars("rating", self.rating.0, &mut e);
        if let Some(comment) = &self.comment {
            check_text("comment", comment, 0, Review::MAX_COMMENT, &mut e);
        }
        e.into_result()?;
        Ok(ReviewValues { rating: rating.unwrap_or_default(), comment: trimmed(self.comment.as_deref()) })
    }

    /// Refuses a customer who is not the one of the review, because a review stays with its customer.
    ///
    /// # Errors
    /// `Validation` on field `customer_id`.
    pub(crate) fn check_customer(&self, review: &Review) -> Result<()> {
        let mut e = ValidationErrors::default();
        if self.customer_id.is_some() && self.customer_id != review.customer_id {
            e.push("customer_id", FieldCode::Inconsistent, "must be the customer of the review, or be left out");
        }
        e.into_result()
    }
}

impl ReviewPatch {
    /// Merges the patch into a review and returns the result as an input.
    ///
    /// # Errors
    /// `Validation` with every field that must not be null.
    pub(crate) fn onto(self, review: &Review) -> Result<ReviewInput> {
        let mut e = ValidationErrors::default();
        let mut input = ReviewInput { comment: review.comment.clone(), ..ReviewInput::new(review.rating.decimal()) };
        self.rating.apply_required(&mut input.rating, "rating", &mut e);
        self.comment.apply(&mut input.comment);
        e.into_result()?;
        Ok(input)
    }
}

/// Returns the rating of a review. If the number is not a rating, the function pushes an error under `field` and
/// returns `None`.
fn stars(field: &str, number: Decimal, errors: &mut ValidationErrors) -> Option<Stars> {
    match Stars::exact(number) {
        Ok(stars) => Some(stars),
        Err(why) => {
            errors.out_of_bounds(field, why.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(tenths: &[i64]) -> ReviewTally {
        let ratings = tenths.iter().map(|n| Stars::from_tenths(*n).unwrap());
        ratings.fold(ReviewTally::default(), |tally, stars| tally.after(None, Some(stars)))
    }

    #[test]
    fn the_mean_rounds_half_away_from_zero() {
        for (tenths, mean) in [
            (&[][..], 0),
            (&[0], 0),
            (&[50], 500),
            (&[45, 50], 475),
            (&[10, 10, 20], 133),
            (&[10, 20, 20], 167),
            // 1/8 of a tenth is 1.25 hundredths, 3/8 are 3.75, and 4/8 are 5.
            (&[1, 0, 0, 0, 0, 0, 0, 0], 1),
            (&[3, 0, 0, 0, 0, 0, 0, 0], 4),
            // 1/4 of a tenth is 2.5 hundredths, which are rounded up.
            (&[1, 0, 0, 0], 3),
        ] {
            assert_eq!(tally(tenths).mean().hundredths(), mean, "{tenths:?}");
        }
    }

    #[test]
    fn the_mean_agrees_with_decimal_arithmetic() {
        proptest::proptest!(|(tenths in proptest::collection::vec(0i64..=50, 1..200))| {
            let sum: Decimal = tenths.iter().map(|n| Decimal::new(*n, 1)).sum();
            let mean = (sum / Decimal::from(tenths.len()))
                .round_dp_with_strategy(2, rust_decimal::RoundingStrategy::MidpointAwayFromZero);
            proptest::prop_assert_eq!(tally(&tenths).mean().decimal(), mean);
        });
    }

    #[test]
    fn an_external_rating_stays() {
        let external =
            RatingSummary { mean: Rating::from_hundredths(417).unwrap(), count: 90, source: RatingSource::External };
        assert_eq!(tally(&[50]).rating_after(external), external);
        let own = tally(&[50]).rating_after(RatingSummary::default());
        assert_eq!((own.mean.hundredths(), own.count), (500, 1));
    }

    #[test]
    fn r17_every_bad_field_of_a_review_is_named() {
        let input = ReviewInput::new(Decimal::new(51, 1)).comment("x".repeat(5_001));
        let Err(crate::Error::Validation(e)) = input.check() else { panic!("must be refused") };
        assert_eq!(e.0.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), ["rating", "comment"]);
        let good = ReviewInput::new(5).comment(" Two\nlines \n").check().unwrap();
        assert_eq!(
            good,
            ReviewValues { rating: Stars::from_tenths(50).unwrap(), comment: Some("Two\nlines".to_owned()) }
        );
        assert_eq!(ReviewInput::new(0).comment(" \u{200b}").check().unwrap().comment, None);
    }
}
