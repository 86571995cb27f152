//! Routes of products.

use ecom_core::catalog::{
    AvailabilityStatus, Product, ProductFilter, ProductInput, ProductListQuery, ProductPatch, ProductSort,
    ProductStatus,
};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::ProductId;
use ecom_core::text::check_text;
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;

use crate::dto::{FiltersView, Item, List, ProductView};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, ByKey, Cursor, Force, IfMatchHeader, Json, Key, Numbers, Pages, Query, Shape, ShowDeleted, Version,
    VersionBody, prices, unversioned, word,
};
use crate::headers::{listed, no_content};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Product {
    const FIELDS: &'static [&'static str] = ProductView::FIELDS;
    type View<'a> = ProductView<'a>;

    fn view(&self, format: &Format) -> ProductView<'_> {
        ProductView::of(self, format.currency, format.numbers)
    }
}

impl Resource for Product {
    const COLLECTION: &'static str = "/products";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.revision }
    }
}

/// Read a product
///
/// The product is given by its id or slug. A value that is not a UUID is a slug.
#[utoipa::path(
    get, path = "/products/{id}", tag = "products", security(()), params(ByKey, Shape, ShowDeleted),
    responses((status = 200, description = "The product", body = Item<ProductView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, key: Key) -> ApiResult {
    let products = reply.shop().products();
    // The most frequent read is answered before anything is parsed.
    if let (Key::Id(id), None) = (&key, reply.target.query())
        && let Some(value) = products.cached(ProductId(*id))
    {
        return Ok(reply.whole(&value, true));
    }
    let (shape, deleted): (Shape, ShowDeleted) = reply.query()?;
    let format = reply.only_format::<Product>(&shape)?;
    if let (Key::Id(id), IncludeDeleted::Yes) = (&key, deleted.choice()) {
        return reply.private(&products.get_fresh(ProductId(*id), IncludeDeleted::Yes).await?, &format);
    }
    let found = match key {
        Key::Id(id) => products.get(ProductId(id)).await?,
        Key::Slug(slug) => products.get_by_slug(&slug).await?,
    };
    reply.found(&found, &format)
}

/// The filters of a list of products.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// The sort order: `created_desc` (default), `created_asc`, `price_asc`, `price_desc`, `title_asc`, `title_desc` or
    /// `rating_desc`. Prices are the lowest final prices of the products.
    #[serde(default)]
    sort: Option<String>,
    /// Lists only products in this category or its descendants. The category is given by its id, slug or path.
    #[serde(default)]
    category: Option<String>,
    /// Lists only products whose lowest final price is at least this amount, in the shop's currency.
    #[serde(default)]
    min_price: Option<String>,
    /// Lists only products whose lowest final price is at most this amount, in the shop's currency.
    #[serde(default)]
    max_price: Option<String>,
    /// Lists only products of this brand, ignoring case.
    #[serde(default)]
    brand: Option<String>,
    /// Lists only products with this tag, ignoring case.
    #[serde(default)]
    tag: Option<String>,
    /// Lists only products whose best availability over their SKUs is this one: `in_stock`, `limited` or
    /// `out_of_stock`.
    #[serde(default)]
    availability: Option<String>,
    /// Lists only products with this status: `active` (default), `draft`, `archived`, or `any` for all.
    #[serde(default)]
    status: Option<String>,
    /// `filters` adds `meta.filters`, the values by which the list can be filtered further.
    #[serde(default)]
    include: Option<String>,
}

/// List products
#[utoipa::path(
    get, path = "/products", tag = "products", security(()), params(Pages, Cursor, Shape, ShowDeleted, ListParams),
    responses((status = 200, description = "A page of products", body = List<ProductView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, shape, deleted, p)): Query<(Pages, Cursor, Shape, ShowDeleted, ListParams)>,
) -> ApiResult {
    let currency = reply.config().currency;
    let mut errors = ValidationErrors::default();
    let e = &mut errors;
    let sort = word("sort", p.sort.as_deref(), &ProductSort::ALL, ProductSort::as_str, e).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, e);
    let (min_price, max_price) = prices(p.min_price.as_deref(), p.max_price.as_deref(), currency, e);
    let availability =
        word("availability", p.availability.as_deref(), &AvailabilityStatus::ALL, AvailabilityStatus::as_str, e);
    let status = match p.status.as_deref() {
        None => Some(ProductStatus::Active),
        Some("any") => None,
        sent => word("status", sent, &ProductStatus::ALL, ProductStatus::as_str, e),
    };
    let with_filters = word("include", p.include.as_deref(), &["filters"], |w| w, e).is_some();
    ProductFilter::check_texts(p.brand.as_deref(), p.tag.as_deref(), e);
    if let Some(text) = &p.category {
        check_text("category", text, 1, 4_000, e);
    }
    let format = reply.format::<Product>(&shape, e);
    errors.into_result()?;

    let deleted = deleted.choice();
    let categories = reply.shop().categories();
    let resolve = async |text: &str| categories.resolve(text).await.map_err(|e| ApiError::reference(e, "category"));
    // Live products are in live categories. If the list has any products, the category of an id exists, and it need not
    // be looked up.
    let mut unseen = None;
    let category = match p.category.as_deref().map(|text| (text, text.parse())) {
        None => None,
        Some((text, Ok(id))) if deleted == IncludeDeleted::No => {
            unseen = Some(text);
            Some(id)
        }
        Some((text, _)) => Some(resolve(text).await?.value.id),
    };
    let filter = ProductFilter {
        category,
        min_price,
        max_price,
        brand: p.brand,
        tag: p.tag,
        availability,
        status,
        include_deleted: deleted,
        updated_since: None,
    };
    let products = reply.shop().products();
    let filters = if with_filters { Some(products.filters(&filter).await?) } else { None };
    let query = ProductListQuery { filter, sort, paging: part.paging.clone() };
    let found = products.list(&query).await?;
    if let Some(text) = unseen
        && found.value.page.items.is_empty()
    {
        resolve(text).await?;
    }
    let mut frame = reply.frame(&found.page, found.total, &part);
    frame.meta.filters = filters.as_ref().map(|filters| FiltersView::of(&filters.values, format.numbers));
    let list = reply.rows(frame, &found.page.items, &format)?;
    let hit = found.hit && filters.is_none_or(|filters| filters.hit);
    Ok(listed(list.respond(), deleted, Some(hit)))
}

/// Create a product
///
/// The request has either `skus`, or the flat fields of one default SKU, with at least a `price`.
#[utoipa::path(
    post, path = "/products", tag = "products",
    security(("bearer" = ["products:write"])), params(Numbers), request_body = ProductInput,
    responses(
        (status = 201, description = "The created product; `Location` has its path", body = Item<ProductView>),
    )
)]
pub(crate) async fn create(
    reply: Reply,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<ProductInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let products = reply.shop().products();
    let within = |mut tx| async { Ok((products.create_in(&mut tx, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Product>(made, &numbers);
    Ok(keyed.answer(&reply, products.create(&input), within, render).await?)
}

/// Replace a product
///
/// Fields that the request leaves out are cleared, except `source` and `external_id`; without `slug`, the slug is
/// derived from the title. SKUs that the request does not list are soft-deleted.
#[utoipa::path(
    put, path = "/products/{id}", tag = "products",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Numbers), request_body = ProductInput,
    responses((status = 200, description = "The replaced product", body = Item<ProductView>))
)]
pub(crate) async fn replace(
    w: Write<ProductId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<ProductInput>,
) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().products().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &numbers)
}

/// Change a product
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/products/{id}", tag = "products",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Numbers), request_body = ProductPatch,
    responses((status = 200, description = "The changed product", body = Item<ProductView>))
)]
pub(crate) async fn patch(
    w: Write<ProductId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<ProductPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().products().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// Delete a product
///
/// The product is soft-deleted with its SKUs and can be restored, unless `force` deletes it permanently. Its reviews are
/// hidden or deleted with it.
#[utoipa::path(
    delete, path = "/products/{id}", tag = "products",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Force, Version),
    responses((status = 204, description = "The product is deleted"))
)]
pub(crate) async fn delete(w: Write<ProductId>, Query((force, version)): Query<(Force, Version)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().products().delete(w.id, read, force.mode()).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted product
///
/// The SKUs that were deleted with the product are restored too. Its categories must not be soft-deleted.
#[utoipa::path(
    post, path = "/products/{id}/restore", tag = "products",
    security(("bearer" = ["products:write"])), params(ById, IfMatchHeader, Version, Numbers),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored product", body = Item<ProductView>))
)]
pub(crate) async fn restore(
    w: Write<ProductId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let products = w.shop().products();
    let within = |mut tx| async { Ok((products.restore_in(&mut tx, w.id, read).await?, tx)) };
    let render = |restored: &_| w.written::<Product>(restored, &numbers);
    w.done(keyed.answer(&w, products.restore(w.id, read), within, render).await)
}

/// Returns the id of the product with an id or slug. It does not check whether an id exists.
pub(crate) async fn id_of(reply: &Reply, key: Key) -> Result<ProductId, Error> {
    match key {
        Key::Id(id) => Ok(ProductId(id)),
        Key::Slug(slug) => Ok(reply.shop().products().get_by_slug(&slug).await?.value.id),
    }
}
