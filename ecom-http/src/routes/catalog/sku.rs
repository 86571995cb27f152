//! SKUs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ecom_core::catalog::{Product, Sku, SkuInput, SkuPatch};
use ecom_core::common::Deleted;
use ecom_core::id::{ProductId, SkuId};
use ecom_core::money::Percentage;
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::dto::{Fields, Item, List, SkuView, json, respond_list};
use crate::error::{ApiError, ApiResult};
use crate::extract::{By, Here, Id, IfMatch, Json, Key, Query, VersionBody};
use crate::routes::catalog::product::id_of;
use crate::routes::{
    BodyParams, DeleteParams, ReadParams, WriteParams, conditional, deleted, etag, located, no_content, private, public,
};

/// What a SKU shows of its product.
struct Owner {
    discount: Percentage,
    /// Moves also with stock and discount, which a SKU's own version does not.
    revision: i64,
}

impl From<&Product> for Owner {
    fn from(p: &Product) -> Self {
        Self { discount: p.discount, revision: p.revision }
    }
}

async fn owner(app: &App, id: ProductId) -> Result<Owner, Error> {
    match app.shop.products().get(id).await {
        Ok(found) => Ok(Owner::from(&**found.value)),
        Err(Error::NotFound { .. }) => Ok(Owner::from(&app.shop.products().get_fresh(id, Deleted::Include).await?)),
        Err(other) => Err(other),
    }
}

fn one(
    status: StatusCode,
    sku: &Sku,
    owner: &Owner,
    here: &Here,
    fields: &Fields,
    numbers: bool,
    app: &App,
) -> ApiResult {
    let view = SkuView::of(sku, owner.discount, numbers);
    let this = path_of(sku, here, app);
    if fields.all() {
        json(status, &Item::new(view, this))
    } else {
        json(status, &Item::new(fields.pick(&view)?, this))
    }
}

fn path_of(sku: &Sku, here: &Here, app: &App) -> String {
    format!("{}{}/skus/{}", here.base(), app.config.api_prefix, sku.id)
}

async fn written(status: StatusCode, sku: &Sku, here: &Here, numbers: Option<bool>, app: &App) -> ApiResult {
    let owner = owner(app, sku.product_id).await?;
    let mut none = ValidationErrors::default();
    let all = Fields::parse(None, SkuView::FIELDS, &mut none);
    let response = one(status, sku, &owner, here, &all, numbers.unwrap_or(app.config.numbers), app)?;
    Ok(private(response, Some(etag(sku.audit.version, owner.revision))))
}

/// SKUs of a product
#[utoipa::path(
    get, path = "/products/{id}/skus", tag = "skus",
    params(("id" = String, Path, description = "Id or slug of the product"), ReadParams),
    responses((status = 200, description = "All its SKUs, by position", body = List<SkuView>))
)]
pub(crate) async fn of_product(
    State(app): State<Arc<App>>,
    key: Key,
    here: Here,
    Query(params): Query<ReadParams>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let fields = Fields::parse(params.fields.as_deref(), SkuView::FIELDS, &mut errors);
    errors.into_result()?;
    let product = id_of(&app, key).await?;
    let shown = deleted(params.include_deleted);
    let skus = app.shop.skus().of_product(product, shown).await?;
    let owner = owner(&app, product).await?;
    let response = several(&skus, |_| owner.discount, &here, &fields, params.numbers, &app)?;
    Ok(if shown == Deleted::Include { private(response, None) } else { public(response, None, None) })
}

fn several(
    skus: &[Sku],
    discount: impl Fn(&Sku) -> Percentage,
    here: &Here,
    fields: &Fields,
    numbers: Option<bool>,
    app: &App,
) -> ApiResult {
    let numbers = numbers.unwrap_or(app.config.numbers);
    let views = skus.iter().map(|s| SkuView::of(s, discount(s), numbers));
    if fields.all() {
        respond_list(&List::whole(views.collect(), here))
    } else {
        respond_list(&List::whole(views.map(|v| fields.pick(&v)).collect::<ApiResult<Vec<Value>>>()?, here))
    }
}

/// How a SKU is found.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FindParams {
    /// Its code, in any case.
    #[serde(default)]
    code: Option<String>,
    /// Its barcode; several SKUs may have it.
    #[serde(default)]
    barcode: Option<String>,
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

/// Find SKUs
///
/// By code or by barcode; an empty list where there is none.
#[utoipa::path(
    get, path = "/skus", tag = "skus", params(FindParams),
    responses((status = 200, description = "The SKUs", body = List<SkuView>))
)]
pub(crate) async fn find(State(app): State<Arc<App>>, here: Here, Query(p): Query<FindParams>) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let fields = Fields::parse(p.fields.as_deref(), SkuView::FIELDS, &mut errors);
    for (field, text) in [("code", &p.code), ("barcode", &p.barcode)] {
        if let Some(t) = text {
            ecom_core::text::check_text(field, t, 1, 100, &mut errors);
        }
    }
    match (&p.code, &p.barcode) {
        (None, None) => errors.push("code", FieldCode::Required, "is required, or `barcode`"),
        (Some(_), Some(_)) => {
            errors.push("barcode", FieldCode::Inconsistent, "goes in place of `code`, not beside it");
        }
        _ => {}
    }
    errors.into_result()?;
    let skus = match (&p.code, &p.barcode) {
        (Some(code), _) => match app.shop.skus().get_by_code(code).await {
            Ok(sku) => vec![sku],
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(other) => return Err(other.into()),
        },
        (None, Some(barcode)) => app.shop.skus().find_by_barcode(barcode).await?,
        (None, None) => Vec::new(),
    };
    let products: Vec<ProductId> = skus.iter().map(|s| s.product_id).collect();
    let owners = app.shop.products().get_many(&products).await?;
    let discount =
        |s: &Sku| owners.iter().find(|p| p.id == s.product_id).map_or_else(Percentage::default, |p| p.discount);
    Ok(public(several(&skus, discount, &here, &fields, p.numbers, &app)?, None, None))
}

/// Read a SKU
#[utoipa::path(
    get, path = "/skus/{id}", tag = "skus",
    params(("id" = uuid::Uuid, Path, description = "Id"), ReadParams),
    responses(
        (status = 200, description = "The SKU", body = Item<SkuView>),
        (status = 304, description = "If-None-Match names it as it is"),
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    headers: HeaderMap,
    Query(params): Query<ReadParams>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let fields = Fields::parse(params.fields.as_deref(), SkuView::FIELDS, &mut errors);
    errors.into_result()?;
    let shown = deleted(params.include_deleted);
    let sku = app.shop.skus().get(id, shown).await?;
    let owner = owner(&app, sku.product_id).await?;
    let numbers = params.numbers.unwrap_or(app.config.numbers);
    let tag = etag(sku.audit.version, owner.revision);
    let body = || one(StatusCode::OK, &sku, &owner, &here, &fields, numbers, &app);
    if shown == Deleted::Include {
        return Ok(private(body()?, Some(tag)));
    }
    conditional(&headers, tag, None, body)
}

/// Add a SKU to a product
#[utoipa::path(
    post, path = "/products/{id}/skus", tag = "skus",
    params(("id" = uuid::Uuid, Path, description = "Id of the product"), BodyParams),
    request_body = SkuInput,
    responses((status = 201, description = "Made; `Location` says where", body = Item<SkuView>))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Id(product): Id<ProductId>,
    here: Here,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(input): Json<SkuInput>,
) -> ApiResult {
    let made = app.shop.skus().create(product, &input, &actor).await?;
    let response = written(StatusCode::CREATED, &made, &here, params.numbers, &app).await?;
    Ok(located(response, &path_of(&made, &here, &app)))
}

/// Replace a SKU
#[utoipa::path(
    put, path = "/skus/{id}", tag = "skus",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        BodyParams
    ),
    request_body = SkuInput,
    responses((status = 200, description = "Replaced", body = Item<SkuView>))
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(input): Json<SkuInput>,
) -> ApiResult {
    if input.id.is_some_and(|said| said != id) {
        return Err(ApiError::field("id", FieldCode::Inconsistent, "is not the id of the path"));
    }
    let read = if_match.read(input.version)?;
    let done = app.shop.skus().replace(id, read, &input, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app).await
}

/// Change a SKU
///
/// A merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/skus/{id}", tag = "skus",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        BodyParams
    ),
    request_body = SkuPatch,
    responses((status = 200, description = "Changed", body = Item<SkuView>))
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<BodyParams>,
    Json(patch): Json<SkuPatch>,
) -> ApiResult {
    let read = if_match.read(patch.version)?;
    let done = app.shop.skus().patch(id, read, patch, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app).await
}

/// Delete a SKU
///
/// It can be restored, unless `force` deletes it for good.
#[utoipa::path(
    delete, path = "/skus/{id}", tag = "skus",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        DeleteParams
    ),
    responses((status = 204, description = "Deleted"))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<DeleteParams>,
) -> ApiResult {
    let read = if_match.read(params.version)?;
    app.shop.skus().delete(id, read, params.mode(), &actor).await.map_err(|e| if_match.error(e))?;
    Ok(no_content())
}

/// Restore a SKU
#[utoipa::path(
    post, path = "/skus/{id}/restore", tag = "skus",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        WriteParams
    ),
    request_body(content = VersionBody, description = "Or nothing"),
    responses((status = 200, description = "Restored", body = Item<SkuView>))
)]
pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<WriteParams>,
    body: VersionBody,
) -> ApiResult {
    let read = if_match.read(body.version.or(params.version))?;
    let done = app.shop.skus().restore(id, read, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, params.numbers, &app).await
}
