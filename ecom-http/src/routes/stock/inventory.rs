//! Routes of stock and of its ledger.

use axum::http::StatusCode;
use ecom_core::ValidationErrors;
use ecom_core::id::SkuId;
use ecom_core::stock::{Adjusted, StockAdjustment, StockMovement, StockReason};

use crate::dto::{AdjustInput, AdjustedView, Item, List, MovementView, StockView, json};
use crate::error::ApiResult;
use crate::extract::{ById, Cursor, Id, Json, Pages, Picked, Query};
use crate::headers::{located, private};
use crate::idempotency::Post;
use crate::resource::{Format, Reply, Shown};

impl Shown for StockMovement {
    const FIELDS: &'static [&'static str] = MovementView::FIELDS;
    type View<'a> = MovementView<'a>;

    fn view(&self, _: &Format) -> MovementView<'_> {
        self.into()
    }
}

/// Read the stock of a SKU
#[utoipa::path(
    get, path = "/skus/{id}/stock", tag = "inventory", security(()), params(ById),
    responses((status = 200, description = "The current stock of the SKU", body = Item<StockView>))
)]
pub(crate) async fn level(reply: Reply, Id(id): Id<SkuId>, Query(()): Query<()>) -> ApiResult {
    let level = reply.shop().inventory().level(id).await?;
    let item = Item::new(StockView::from(&level), reply.target.path().to_owned());
    Ok(private(json(StatusCode::OK, &item)?, None))
}

/// Adjust the stock of a SKU
///
/// Changes the stock by a difference. The request does not need a version and does not change one. It is refused if
/// less than 0 would be available, or if the SKU does not track its stock.
#[utoipa::path(
    post, path = "/skus/{id}/stock", tag = "inventory",
    security(("bearer" = ["stock:adjust"])), params(ById), request_body = AdjustInput,
    responses(
        (status = 201, description = "The stock after the adjustment, and its movement", body = Item<AdjustedView>),
    )
)]
pub(crate) async fn adjust(
    reply: Reply,
    Id(id): Id<SkuId>,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<AdjustInput>>,
) -> ApiResult {
    let adjustment = StockAdjustment {
        sku_id: id,
        delta: input.delta,
        reason: input.reason.unwrap_or(StockReason::Adjustment),
        reference: input.reference,
    };
    let inventory = reply.shop().inventory();
    let within = |mut tx| async { Ok((inventory.adjust_in(&mut tx, adjustment.clone()).await?, tx)) };
    let render = |done: &Adjusted| {
        let view = AdjustedView { stock: (&done.level).into(), movement: (&done.movement).into() };
        let path = reply.target.path();
        let response = json(StatusCode::CREATED, &Item::new(view, path.to_owned()))?;
        Ok(located(private(response, None), &format!("{path}/movements")))
    };
    Ok(keyed.answer(&reply, inventory.adjust(adjustment.clone()), within, render).await?)
}

/// List the stock movements of a SKU
///
/// Movements are sorted newest first. Their sum is the stock on hand of the SKU.
#[utoipa::path(
    get, path = "/skus/{id}/stock/movements", tag = "inventory",
    security(("bearer" = ["stock:read"])), params(ById, Pages, Cursor, Picked),
    responses((status = 200, description = "A page of stock movements", body = List<MovementView>))
)]
pub(crate) async fn movements(
    reply: Reply,
    Id(id): Id<SkuId>,
    Query((pages, cursor, picked)): Query<(Pages, Cursor, Picked)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<StockMovement>(&picked, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().inventory().movements(id, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}
