//! Routes of reviews.

use ecom_core::catalog::{Review, ReviewFilter, ReviewInput, ReviewPatch, ReviewSort};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::{CustomerId, ProductId, ReviewId};
use ecom_core::money::{ExactDecimal, Stars};
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use super::product::id_of;
use crate::dto::{Item, List, ReviewView};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, ByKey, Cursor, Id, IfMatchHeader, Json, Key, Numbers, Pages, Query, Shape, ShowDeleted, Version, unversioned,
    word,
};
use crate::headers::{listed, no_content};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Review {
    const FIELDS: &'static [&'static str] = ReviewView::FIELDS;
    type View<'a> = ReviewView<'a>;

    fn view(&self, format: &Format) -> ReviewView<'_> {
        ReviewView::of(self, format.numbers)
    }
}

impl Resource for Review {
    const COLLECTION: &'static str = "/reviews";

    fn stamp(&self) -> Stamp {
        // A deletion and a restore of the product change the representation, but not the version.
        let revision = self.audit.deleted_at.map_or(self.audit.version, |at| at.timestamp_micros());
        Stamp { id: self.id.0, version: self.audit.version, revision }
    }
}

/// The order of a list of reviews, and its filters by rating.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReviewParams {
    /// The sort order: `created_desc` (default), `created_asc`, `rating_desc` or `rating_asc`.
    #[serde(default)]
    sort: Option<String>,
    /// Lists only reviews whose rating is at least this, 0–5 with at most one decimal place.
    #[serde(default)]
    min_rating: Option<String>,
    /// Lists only reviews whose rating is at most this, 0–5 with at most one decimal place.
    #[serde(default)]
    max_rating: Option<String>,
}

/// Returns a rating, or pushes an error and returns `None`.
fn stars(field: &str, sent: Option<&str>, errors: &mut ValidationErrors) -> Option<Stars> {
    match sent?.parse::<ExactDecimal>() {
        Err(why) => {
            errors.push(field, FieldCode::Malformed, why.to_string());
            None
        }
        Ok(number) => match Stars::exact(number.0) {
            Err(why) => {
                errors.out_of_bounds(field, why.to_string());
                None
            }
            Ok(stars) => Some(stars),
        },
    }
}

/// Returns a page of reviews. `failed` converts an error of the list into the response, because the product is given by
/// the path or by a parameter.
async fn page_of_reviews(
    reply: &Reply,
    (pages, cursor, shape, p): (Pages, Cursor, Shape, ReviewParams),
    filter: ReviewFilter,
    failed: impl Fn(Error) -> ApiError,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let e = &mut errors;
    let sort = word("sort", p.sort.as_deref(), ReviewSort::ALL, ReviewSort::as_str, e).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, e);
    let min_rating = stars("min_rating", p.min_rating.as_deref(), e);
    let max_rating = stars("max_rating", p.max_rating.as_deref(), e);
    let format = reply.format::<Review>(&shape, e);
    let filter = ReviewFilter { min_rating, max_rating, ..filter };
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().reviews().list(&filter, sort, &part.paging).await.map_err(failed)?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(listed(list.respond(), filter.include_deleted, None))
}

/// List the reviews of a product
#[utoipa::path(
    get, path = "/products/{id}/reviews", tag = "reviews", security(()),
    params(ByKey, Pages, Cursor, Shape, ShowDeleted, ReviewParams),
    responses((status = 200, description = "A page of the product's reviews", body = List<ReviewView>))
)]
pub(crate) async fn of_product(
    reply: Reply,
    key: Key,
    Query((pages, cursor, shape, deleted, p)): Query<(Pages, Cursor, Shape, ShowDeleted, ReviewParams)>,
) -> ApiResult {
    let product = Some(id_of(&reply, key).await?);
    let filter = ReviewFilter { product, include_deleted: deleted.choice(), ..ReviewFilter::default() };
    page_of_reviews(&reply, (pages, cursor, shape, p), filter, ApiError::from).await
}

/// The filters of the list of all reviews.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AboutParams {
    /// Lists only reviews of the product with this id.
    #[serde(default)]
    product_id: Option<Uuid>,
    /// Lists only reviews of the customer with this id.
    #[serde(default)]
    customer_id: Option<Uuid>,
}

/// List reviews
///
/// Lists the reviews of all products.
#[utoipa::path(
    get, path = "/reviews", tag = "reviews",
    security(()), params(Pages, Cursor, Shape, ShowDeleted, ReviewParams, AboutParams),
    responses((status = 200, description = "A page of reviews", body = List<ReviewView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, shape, deleted, p, about)): Query<(
        Pages,
        Cursor,
        Shape,
        ShowDeleted,
        ReviewParams,
        AboutParams,
    )>,
) -> ApiResult {
    let filter = ReviewFilter {
        product: about.product_id.map(ProductId),
        customer: about.customer_id.map(CustomerId),
        include_deleted: deleted.choice(),
        ..ReviewFilter::default()
    };
    let failed = |e| ApiError::reference(e, "product_id");
    page_of_reviews(&reply, (pages, cursor, shape, p), filter, failed).await
}

/// Review a product
///
/// A new review changes the rating and the number of reviews of the product, unless the product has an external rating.
/// If the product does not exist, the request fails with `VALIDATION_FAILED` on `product_id`, not with `NOT_FOUND`.
#[utoipa::path(
    post, path = "/products/{id}/reviews", tag = "reviews",
    security(("bearer" = ["reviews:write"]), ("bearer" = ["own"])), params(ById, Numbers), request_body = ReviewInput,
    responses(
        (status = 201, description = "The created review; `Location` has its path", body = Item<ReviewView>),
    )
)]
pub(crate) async fn create(
    reply: Reply,
    Id(product): Id<ProductId>,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<ReviewInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let reviews = reply.shop().reviews();
    let within = |mut tx| async { Ok((reviews.create_in(&mut tx, product, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Review>(made, &numbers);
    Ok(keyed.answer(&reply, reviews.create(product, &input), within, render).await?)
}

/// Read a review
#[utoipa::path(
    get, path = "/reviews/{id}", tag = "reviews", security(()), params(ById, Shape, ShowDeleted),
    responses((status = 200, description = "The review", body = Item<ReviewView>), NotModified)
)]
pub(crate) async fn read(
    reply: Reply,
    Id(id): Id<ReviewId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<Review>(&shape)?;
    let review = reply.shop().reviews().get(id, deleted.choice()).await?;
    match deleted.choice() {
        IncludeDeleted::Yes => reply.private(&review, &format),
        IncludeDeleted::No => reply.public(&review, &format, None),
    }
}

/// Replace a review
///
/// The comment is removed if the request leaves it out; the review stays with its product and its customer.
#[utoipa::path(
    put, path = "/reviews/{id}", tag = "reviews",
    security(("bearer" = ["reviews:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader, Numbers), request_body = ReviewInput,
    responses((status = 200, description = "The replaced review", body = Item<ReviewView>))
)]
pub(crate) async fn replace(
    w: Write<ReviewId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<ReviewInput>,
) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().reviews().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &numbers)
}

/// Change a review
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/reviews/{id}", tag = "reviews",
    security(("bearer" = ["reviews:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader, Numbers), request_body = ReviewPatch,
    responses((status = 200, description = "The changed review", body = Item<ReviewView>))
)]
pub(crate) async fn patch(
    w: Write<ReviewId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<ReviewPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().reviews().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// Delete a review
///
/// The deletion is permanent, because reviews cannot be soft-deleted individually.
#[utoipa::path(
    delete, path = "/reviews/{id}", tag = "reviews",
    security(("bearer" = ["reviews:write"]), ("bearer" = ["own"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The review is deleted"))
)]
pub(crate) async fn delete(w: Write<ReviewId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().reviews().delete(w.id, read).await)?;
    Ok(no_content())
}
