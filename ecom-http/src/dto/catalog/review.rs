//! The representation of reviews.

use chrono::{DateTime, Utc};
use ecom_core::catalog::Review;
use serde::Serialize;
use uuid::Uuid;

use crate::dto::Amount;

/// A review of a product.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReviewView<'a> {
    /// The id of the review.
    pub id: Uuid,
    /// The id of the product that is reviewed.
    pub product_id: Uuid,
    /// The id of the customer who wrote the review; null if it has no customer, or if the customer was permanently
    /// deleted.
    pub customer_id: Option<Uuid>,
    /// The rating in stars, 0–5, with one decimal place.
    #[schema(example = "4.5")]
    pub rating: Amount,
    /// The text of the review; null if there is none.
    #[schema(example = "Bright, and easy to set up.")]
    pub comment: Option<&'a str>,
    /// The version, which increases when somebody edits the review. Writes name it (R1).
    pub version: i64,
    /// When the review was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the review was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the review.
    pub created_by: &'a str,
    /// The actor who last edited the review.
    pub updated_by: &'a str,
    /// When the product of the review was soft-deleted (RFC 3339, UTC); null while the product is live.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl<'a> ReviewView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "product_id",
        "customer_id",
        "rating",
        "comment",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];

    /// Returns the representation. `numbers` is whether the rating is a JSON number.
    pub(crate) fn of(r: &'a Review, numbers: bool) -> Self {
        Self {
            id: r.id.0,
            product_id: r.product_id.0,
            customer_id: r.customer_id.map(|c| c.0),
            rating: Amount::new(r.rating.decimal(), numbers),
            comment: r.comment.as_deref(),
            version: r.audit.version,
            created_at: r.audit.created_at,
            updated_at: r.audit.updated_at,
            created_by: r.audit.created_by.as_str(),
            updated_by: r.audit.updated_by.as_str(),
            deleted_at: r.audit.deleted_at,
        }
    }
}
