//! Stock and its ledger.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use ecom_core::id::SkuId;
use ecom_core::stock::StockAdjustment;
use ecom_core::stock::StockReason;
use ecom_core::{FieldCode, ValidationErrors};
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::dto::{AdjustInput, AdjustedView, Fields, Item, List, MovementView, StockView, json, respond_list};
use crate::error::{ApiError, ApiResult};
use crate::extract::{By, Here, Id, Json, Query, page_of};
use crate::routes::{located, present, private};

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// Stock of a SKU
#[utoipa::path(
    get, path = "/skus/{id}/stock", tag = "inventory",
    params(("id" = uuid::Uuid, Path, description = "Id of the SKU")),
    responses((status = 200, description = "Its stock now", body = Item<StockView>))
)]
pub(crate) async fn level(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    Query(NoParams {}): Query<NoParams>,
) -> ApiResult {
    let level = app.shop.inventory().level(id).await?;
    Ok(private(json(StatusCode::OK, &Item::new(StockView::from(&level), here.path().to_owned()))?, None))
}

/// Adjust the stock of a SKU
///
/// By a difference: it needs no version and moves none. Stock never goes under zero.
#[utoipa::path(
    post, path = "/skus/{id}/stock", tag = "inventory",
    params(("id" = uuid::Uuid, Path, description = "Id of the SKU")),
    request_body = AdjustInput,
    responses((status = 201, description = "Adjusted: the stock and the row of the ledger", body = Item<AdjustedView>))
)]
pub(crate) async fn adjust(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    By(actor): By,
    Query(NoParams {}): Query<NoParams>,
    Json(input): Json<AdjustInput>,
) -> ApiResult {
    let adjustment = StockAdjustment {
        sku_id: id,
        delta: input.delta,
        reason: input.reason.unwrap_or(StockReason::Adjustment),
        reference: input.reference,
        actor,
    };
    let done = app.shop.inventory().adjust(adjustment).await?;
    let view = AdjustedView { stock: (&done.level).into(), movement: (&done.movement).into() };
    let response = json(StatusCode::CREATED, &Item::new(view, here.path().to_owned()))?;
    Ok(located(private(response, None), &format!("{}/movements", here.path())))
}

/// The parameters of a list of movements.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MovementParams {
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
    /// Paging by cursor, in place of `page`: empty to start, then `next_cursor`.
    #[serde(default, deserialize_with = "present")]
    cursor: Option<String>,
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
}

/// The ledger of a SKU
///
/// Newest first. The movements of a SKU add up to its on hand.
#[utoipa::path(
    get, path = "/skus/{id}/stock/movements", tag = "inventory",
    params(("id" = uuid::Uuid, Path, description = "Id of the SKU"), MovementParams),
    responses((status = 200, description = "A page of movements", body = List<MovementView>))
)]
pub(crate) async fn movements(
    State(app): State<Arc<App>>,
    Id(id): Id<SkuId>,
    here: Here,
    Query(p): Query<MovementParams>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let cursor = p.cursor.as_deref().map(|c| (c, "created_desc"));
    let max = app.config.max_page_size;
    let paged = page_of((p.page, p.per_page), (p.skip, p.limit), cursor, max, &mut errors);
    let fields = Fields::parse(p.fields.as_deref(), MovementView::FIELDS, &mut errors);
    errors.into_result()?;
    let Some(paged) = paged else { return Err(ApiError::field("page", FieldCode::Malformed, "cannot be read")) };
    let (page, total) = app.shop.inventory().movements(id, &paged.paging).await?;
    let views = page.items.iter().map(MovementView::from);
    let (next, more) = (page.next.as_ref(), page.next.is_some());
    let response = if fields.all() {
        respond_list(&List::page(views.collect(), next, more, total, &paged, &here))?
    } else {
        let rows = views.map(|v| fields.pick(&v)).collect::<ApiResult<Vec<Value>>>()?;
        respond_list(&List::page(rows, next, more, total, &paged, &here))?
    };
    Ok(private(response, None))
}
