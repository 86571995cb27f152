//! Products.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use ecom_core::catalog::{
    AvailabilityStatus, Product, ProductFilter, ProductInput, ProductPatch, ProductSort, ProductStatus,
};
use ecom_core::catalog::{ProductList, ProductListQuery};
use ecom_core::common::Deleted;
use ecom_core::common::{Cached, Lookup};
use ecom_core::id::ProductId;
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::dto::{Fields, FiltersView, Item, JSON, List, ProductView, RenderedList, json, respond_list};
use crate::error::{ApiError, ApiResult};
use crate::extract::{By, Here, Id, IfMatch, Json, Key, Paged, Query, VersionBody, page_of};
use crate::routes::{
    BodyParams, DeleteParams, PUBLIC, ReadParams, WriteParams, X_CACHE, cache_word, conditional, deleted, etag,
    is_known, located, no_content, not_modified, present, prices, private, public, word,
};

/// A product as it goes over the wire, kept beside the cached value for as long as that lives.
struct Rendered {
    /// The path of the collection that its links name.
    collection: Box<str>,
    numbers: bool,
    body: Bytes,
    etag: HeaderValue,
}

impl Rendered {
    fn of(p: &Product, collection: &str, numbers: bool, app: &App) -> Self {
        let view = ProductView::of(p, app.shop.config().currency, numbers);
        let item = Item::new(view, format!("{collection}{}", p.id));
        // Only text, numbers and maps with text keys: it has a representation.
        let body = serde_json::to_vec(&item).unwrap_or_default().into();
        Self { collection: collection.into(), numbers, body, etag: etag(p.audit.version, p.revision) }
    }

    fn respond(&self, if_none_match: Option<&HeaderValue>, hit: bool) -> Response {
        if is_known(if_none_match, &self.etag) {
            return not_modified(&self.etag, hit);
        }
        let mut response = Response::new(Body::from(self.body.clone()));
        let headers = response.headers_mut();
        headers.reserve(10);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, PUBLIC);
        headers.insert(X_CACHE, cache_word(hit));
        response
    }
}

fn respond(found: &Lookup<Product>, here: &Here, if_none_match: Option<&HeaderValue>, app: &App) -> Response {
    respond_value(&found.value, found.hit, here, if_none_match, app)
}

fn respond_value(
    value: &Cached<Product>,
    hit: bool,
    here: &Here,
    if_none_match: Option<&HeaderValue>,
    app: &App,
) -> Response {
    let (collection, numbers) = (here.collection(), app.config.numbers);
    let r = value.attached(|p| Rendered::of(p, collection, numbers, app));
    if r.numbers == numbers && *r.collection == *collection {
        return r.respond(if_none_match, hit);
    }
    // Another router over the same shop got there first.
    Rendered::of(value, collection, numbers, app).respond(if_none_match, hit)
}

/// What a read of a product needs of its request, and nothing more: this is the hot path.
pub(crate) struct ReadRequest {
    key: Key,
    here: Here,
    if_none_match: Option<HeaderValue>,
}

impl FromRequestParts<Arc<App>> for ReadRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let key = Key::from_request_parts(parts, app).await?;
        Ok(Self { key, here: Here::of(parts), if_none_match: parts.headers.get(IF_NONE_MATCH).cloned() })
    }
}

/// Read a product
///
/// By id or slug: what is no UUID is a slug.
#[utoipa::path(
    get, path = "/products/{id}", tag = "products",
    params(("id" = String, Path, description = "Id or slug"), ReadParams),
    responses(
        (status = 200, description = "The product", body = Item<ProductView>),
        (status = 304, description = "If-None-Match names it as it is"),
    )
)]
pub(crate) async fn read(State(app): State<Arc<App>>, request: ReadRequest) -> ApiResult {
    let products = app.shop.products();
    let ReadRequest { key, here, if_none_match } = request;
    let tag = if_none_match.as_ref();
    let Some(query) = here.query() else {
        return match key {
            Key::Id(id) => {
                if let Some(value) = products.cached(ProductId(id)) {
                    return Ok(respond_value(&value, true, &here, tag, &app));
                }
                Ok(respond(&products.get(ProductId(id)).await?, &here, tag, &app))
            }
            Key::Slug(slug) => Ok(respond(&products.get_by_slug(&slug).await?, &here, tag, &app)),
        };
    };
    let Query(params) = Query::<ReadParams>::parse(query)?;
    let mut errors = ValidationErrors::default();
    let fields = Fields::parse(params.fields.as_deref(), ProductView::FIELDS, &mut errors);
    errors.into_result()?;
    let numbers = params.numbers.unwrap_or(app.config.numbers);
    if params.include_deleted == Some(true) {
        let product = match &key {
            Key::Id(id) => products.get_fresh(ProductId(*id), Deleted::Include).await?,
            Key::Slug(slug) => (**products.get_by_slug(slug).await?.value).clone(),
        };
        let response = one(StatusCode::OK, &product, &here, &fields, numbers, &app)?;
        return Ok(private(response, Some(etag(product.audit.version, product.revision))));
    }
    let found = match key {
        Key::Id(id) => products.get(ProductId(id)).await?,
        Key::Slug(slug) => products.get_by_slug(&slug).await?,
    };
    let p = &found.value;
    let mut headers = HeaderMap::new();
    if let Some(tag) = if_none_match {
        headers.insert(IF_NONE_MATCH, tag);
    }
    conditional(&headers, etag(p.audit.version, p.revision), Some(found.hit), || {
        one(StatusCode::OK, p, &here, &fields, numbers, &app)
    })
}

fn one(status: StatusCode, p: &Product, here: &Here, fields: &Fields, numbers: bool, app: &App) -> ApiResult {
    let view = ProductView::of(p, app.shop.config().currency, numbers);
    let this = format!("{}{}/products/{}", here.base(), app.config.api_prefix, p.id);
    if fields.all() {
        json(status, &Item::new(view, this))
    } else {
        json(status, &Item::new(fields.pick(&view)?, this))
    }
}

/// The answer of a write.
fn written(status: StatusCode, p: &Product, here: &Here, numbers: Option<bool>, app: &App) -> ApiResult {
    let mut none = ValidationErrors::default();
    let all = Fields::parse(None, ProductView::FIELDS, &mut none);
    let response = one(status, p, here, &all, numbers.unwrap_or(app.config.numbers), app)?;
    Ok(private(response, Some(etag(p.audit.version, p.revision))))
}

/// The parameters of a list of products.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// The page, from 1.
    #[serde(default)]
    page: Option<i64>,
    /// Rows of a page, 1 to 100; 20 if absent.
    #[serde(default)]
    per_page: Option<i64>,
    /// Rows to skip, in place of `page`.
    #[serde(default)]
    skip: Option<i64>,
    /// Rows of a page, in place of `per_page`.
    #[serde(default)]
    limit: Option<i64>,
    /// Paging by cursor, in place of `page`: empty to start, then `next_cursor`. Costs the same at any depth.
    #[serde(default, deserialize_with = "present")]
    cursor: Option<String>,
    /// `created_desc` (default), `created_asc`, `price_asc`, `price_desc`, `title_asc`, `title_desc`, `rating_desc`.
    #[serde(default)]
    sort: Option<String>,
    /// Id, slug or path of a category: those in it and below.
    #[serde(default)]
    category: Option<String>,
    /// The lowest final price is at least this.
    #[serde(default)]
    min_price: Option<String>,
    /// The lowest final price is at most this.
    #[serde(default)]
    max_price: Option<String>,
    /// This brand, in any case.
    #[serde(default)]
    brand: Option<String>,
    /// With this tag, in any case.
    #[serde(default)]
    tag: Option<String>,
    /// `in_stock`, `limited`, `out_of_stock`: the best over the SKUs.
    #[serde(default)]
    availability: Option<String>,
    /// `active` (default), `draft`, `archived`, `any`.
    #[serde(default)]
    status: Option<String>,
    /// Soft-deleted ones too.
    #[serde(default)]
    include_deleted: Option<bool>,
    /// `filters`: with `meta.filters`, what the list could be narrowed by.
    #[serde(default)]
    include: Option<String>,
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

/// List products
#[utoipa::path(
    get, path = "/products", tag = "products", params(ListParams),
    responses((status = 200, description = "A page of products", body = List<ProductView>))
)]
pub(crate) async fn list(State(app): State<Arc<App>>, here: Here, Query(p): Query<ListParams>) -> ApiResult {
    let currency = app.shop.config().currency;
    let mut errors = ValidationErrors::default();
    let e = &mut errors;
    let sort = word("sort", p.sort.as_deref(), &ProductSort::ALL, ProductSort::as_str, e).unwrap_or_default();
    let cursor = p.cursor.as_deref().map(|c| (c, sort.as_str()));
    let paged = page_of((p.page, p.per_page), (p.skip, p.limit), cursor, app.config.max_page_size, e);
    let (min_price, max_price) = prices(p.min_price.as_deref(), p.max_price.as_deref(), currency, e);
    let availability =
        word("availability", p.availability.as_deref(), &AvailabilityStatus::ALL, AvailabilityStatus::as_str, e);
    let status = match p.status.as_deref() {
        None => Some(ProductStatus::Active),
        Some("any") => None,
        said => word("status", said, &ProductStatus::ALL, ProductStatus::as_str, e),
    };
    let with_filters = match p.include.as_deref() {
        None => false,
        Some("filters") => true,
        Some(_) => {
            e.out_of_bounds("include", "must be `filters`");
            false
        }
    };
    ProductFilter::check_texts(p.brand.as_deref(), p.tag.as_deref(), e);
    if let Some(text) = &p.category {
        ecom_core::text::check_text("category", text, 1, 4_000, e);
    }
    let fields = Fields::parse(p.fields.as_deref(), ProductView::FIELDS, e);
    errors.into_result()?;
    let Some(paged) = paged else { return Err(ApiError::field("page", FieldCode::Malformed, "cannot be read")) };

    let deleted = deleted(p.include_deleted);
    let resolve =
        async |text: &str| app.shop.categories().resolve(text).await.map_err(|e| ApiError::reference(e, "category"));
    // Live products are in live categories: where there are any, an id needs no look of its own.
    let mut unseen = None;
    let category = match p.category.as_deref().map(|text| (text, text.parse())) {
        None => None,
        Some((text, Ok(id))) if deleted == Deleted::Hide => {
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
        deleted,
        updated_since: None,
    };
    let numbers = p.numbers.unwrap_or(app.config.numbers);
    let filters = if with_filters {
        Some(FiltersView::of(app.shop.products().filters(&filter).await?, currency, numbers))
    } else {
        None
    };
    let query = ProductListQuery { filter, sort, paging: paged.paging.clone() };
    let found = app.shop.products().list(&query).await?;
    let page = &found.value.page;
    if let Some(text) = unseen
        && page.items.is_empty()
    {
        resolve(text).await?;
    }
    let response = if fields.all() && filters.is_none() {
        let this = format!("{}?{}", here.path(), here.query().unwrap_or_default());
        let rendered = found.value.attached(|l| {
            let list = RenderedList::of(&whole_page(l, None, numbers, &paged, &here, &app)).ok()?;
            Some(RenderedPage { this: this.clone(), numbers, list })
        });
        match rendered {
            Some(r) if r.this == this && r.numbers == numbers => r.list.respond(),
            // The same page was asked for in other words.
            _ => respond_list(&whole_page(&found.value, None, numbers, &paged, &here, &app))?,
        }
    } else if fields.all() {
        respond_list(&whole_page(&found.value, filters, numbers, &paged, &here, &app))?
    } else {
        let views = page.items.iter().map(|x| ProductView::of(x, currency, numbers));
        let rows = views.map(|v| fields.pick(&v)).collect::<ApiResult<Vec<Value>>>()?;
        let mut list = List::page(rows, page.next.as_ref(), page.next.is_some(), found.value.total, &paged, &here);
        list.meta.filters = filters;
        respond_list(&list)?
    };
    Ok(if query.filter.deleted == Deleted::Include {
        private(response, None)
    } else {
        public(response, None, Some(found.hit))
    })
}

/// A page of products as it goes over the wire, kept beside the cached page for as long as that lives.
struct RenderedPage {
    /// Path and query of the request, which its links name.
    this: String,
    numbers: bool,
    list: RenderedList,
}

/// A page of products with all of their fields.
fn whole_page<'p>(
    found: &'p ProductList,
    filters: Option<FiltersView>,
    numbers: bool,
    paged: &Paged,
    here: &Here,
    app: &App,
) -> List<ProductView<'p>> {
    let currency = app.shop.config().currency;
    let page = &found.page;
    let views = page.items.iter().map(|p| ProductView::of(p, currency, numbers)).collect();
    let mut list = List::page(views, page.next.as_ref(), page.next.is_some(), found.total, paged, here);
    list.meta.filters = filters;
    list
}

/// Create a product
///
/// With `skus`, or with the flat fields of one default SKU.
#[utoipa::path(
    post, path = "/products", tag = "products", params(BodyParams), request_body = ProductInput,
    responses((status = 201, description = "Made; `Location` says where", body = Item<ProductView>))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    here: Here,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(input): Json<ProductInput>,
) -> ApiResult {
    let made = app.shop.products().create(&input, &actor).await?;
    let response = written(StatusCode::CREATED, &made, &here, params.numbers, &app)?;
    Ok(located(response, &format!("{}{}/products/{}", here.base(), app.config.api_prefix, made.id)))
}

/// Replace a product
///
/// What is not said is gone; SKUs that are not named are soft-deleted.
#[utoipa::path(
    put, path = "/products/{id}", tag = "products",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        BodyParams
    ),
    request_body = ProductInput,
    responses((status = 200, description = "Replaced", body = Item<ProductView>))
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    Id(id): Id<ProductId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(input): Json<ProductInput>,
) -> ApiResult {
    let read = if_match.read(input.version)?;
    let done = app.shop.products().replace(id, read, &input, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app)
}

/// Change a product
///
/// A merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/products/{id}", tag = "products",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        BodyParams
    ),
    request_body = ProductPatch,
    responses((status = 200, description = "Changed", body = Item<ProductView>))
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Id(id): Id<ProductId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(patch): Json<ProductPatch>,
) -> ApiResult {
    let read = if_match.read(patch.version)?;
    let done = app.shop.products().patch(id, read, patch, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app)
}

/// Delete a product
///
/// It can be restored, unless `force` deletes it for good.
#[utoipa::path(
    delete, path = "/products/{id}", tag = "products",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        DeleteParams
    ),
    responses((status = 204, description = "Deleted"))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Id(id): Id<ProductId>,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<DeleteParams>,
) -> ApiResult {
    let read = if_match.read(params.version)?;
    app.shop.products().delete(id, read, params.mode(), &actor).await.map_err(|e| if_match.error(e))?;
    Ok(no_content())
}

/// Restore a product
#[utoipa::path(
    post, path = "/products/{id}/restore", tag = "products",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        WriteParams
    ),
    request_body(content = VersionBody, description = "Or nothing"),
    responses((status = 200, description = "Restored", body = Item<ProductView>))
)]
pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    Id(id): Id<ProductId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<WriteParams>,
    body: VersionBody,
) -> ApiResult {
    let read = if_match.read(body.version.or(params.version))?;
    let done = app.shop.products().restore(id, read, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app)
}

/// The id of a product by id or slug.
pub(crate) async fn id_of(app: &App, key: Key) -> Result<ProductId, Error> {
    match key {
        Key::Id(id) => Ok(ProductId(id)),
        Key::Slug(slug) => Ok(app.shop.products().get_by_slug(&slug).await?.value.id),
    }
}
