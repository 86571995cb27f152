//! Routes of analytics.

use axum::http::StatusCode;
use chrono::NaiveDate;
use ecom_core::id::ProductId;
use ecom_core::money::Currency;
use ecom_core::platform::{DayRange, LowStockSku, ProductSales, ProductSalesSort};
use ecom_core::{FieldCode, ValidationErrors};
use serde::Deserialize;

use crate::csv::{Accepted, Output, table};
use crate::dto::{
    FunnelReportView, FunnelView, Item, JobView, List, LowStockView, ProductEventInput, ProductEventKind,
    ProductSalesView, SalesReportView, SalesView, json,
};
use crate::error::ApiResult;
use crate::extract::{ById, Cursor, Id, Json, NoBody, Numbers, Pages, Picked, Query, Shape, day, word};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::resource::{Format, Reply, Shown};

/// How many days a report covers by default.
const DAYS: u64 = 30;

/// The days of a report. Both are included.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DayParams {
    /// The first day, such as 2026-01-31, in the time zone of the shop; 29 days before `to` if absent. A range has at
    /// most 1,100 days.
    #[serde(default)]
    from: Option<String>,
    /// The last day, such as 2026-01-31; today if absent.
    #[serde(default)]
    to: Option<String>,
}

impl DayParams {
    /// Reads the parameters. Pushes an error for each one that is not a date.
    pub(super) fn check(&self, reply: &Reply, errors: &mut ValidationErrors) -> DayRange {
        let today = || -> NaiveDate { reply.config().time_zone.day_of(reply.app.shop.clock().now()) };
        let to = day("to", self.to.as_deref(), errors).unwrap_or_else(today);
        let from = day("from", self.from.as_deref(), errors).unwrap_or_else(|| DayRange::last(DAYS, to).from);
        DayRange { from, to }
    }
}

/// The parameter for the currency of a report.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CurrencyParam {
    /// The currency of the amounts, as its ISO 4217 code. It must be that of the shop, which is the default.
    #[serde(default)]
    currency: Option<String>,
}

impl CurrencyParam {
    /// Pushes an error for a text that is no currency, and for another currency than that of the shop.
    fn check(&self, shop: Currency, errors: &mut ValidationErrors) {
        match self.currency.as_deref().map(Currency::from_code) {
            None => {}
            Some(Ok(currency)) if currency == shop => {}
            Some(Ok(_)) => errors.out_of_bounds("currency", format!("must be {shop}, the currency of the shop")),
            Some(Err(_)) => {
                let message = "must be the ISO 4217 code of a currency with a minor unit, such as USD";
                errors.push("currency", FieldCode::Malformed, message);
            }
        }
    }
}

/// The parameter for the order of a list of products.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TopParams {
    /// The order of the list: `revenue_desc` (by net revenue; the default) or `units_desc` (by net units).
    #[serde(default)]
    sort: Option<String>,
}

impl Shown for ProductSales {
    const FIELDS: &'static [&'static str] = ProductSalesView::FIELDS;
    type View<'a> = ProductSalesView<'a>;

    fn view(&self, format: &Format) -> ProductSalesView<'_> {
        ProductSalesView::of(self, format)
    }
}

impl Shown for LowStockSku {
    const FIELDS: &'static [&'static str] = LowStockView::FIELDS;
    type View<'a> = LowStockView<'a>;

    fn view(&self, _: &Format) -> LowStockView<'_> {
        LowStockView::of(self)
    }
}

/// Read the sales by day
///
/// Orders count on the day on which they were placed, with their lines as they are now, and canceled units on the day
/// on which they were canceled; `net` is the difference. Soft-deleted orders count, too. The figures follow the orders
/// within `ECOM_ANALYTICS_INTERVAL` seconds (10 by default). With `format=csv` or `Accept: text/csv`, the response has
/// a row for each day.
#[utoipa::path(
    get, path = "/analytics/sales", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(DayParams, CurrencyParam, Numbers, Output),
    responses((
        status = 200, description = "The sales of the days, and their sum",
        content((Item<SalesReportView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn sales(
    reply: Reply,
    accepted: Accepted,
    Query((days, currency, numbers, output)): Query<(DayParams, CurrencyParam, Numbers, Output)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let range = days.check(&reply, &mut errors);
    currency.check(reply.config().currency, &mut errors);
    let is_csv = output.is_csv(accepted, &mut errors);
    let format = reply.format::<ProductSales>(&numbers, &mut errors);
    errors.into_result()?;
    let report = reply.shop().analytics().sales(&range).await?;
    if is_csv {
        let rows = report.days.iter().map(|(day, sales)| SalesView::of(Some(*day), sales, &format));
        return table("sales", SalesView::FIELDS, rows, None);
    }
    let item = Item::new(SalesReportView::of(&report, &format), reply.target.path_and_query());
    Ok(private(json(StatusCode::OK, &item)?, None))
}

/// Read the funnel by day
///
/// Counts what leads to orders: views of products (`POST /products/{id}/events`), carts on the day on which they were
/// created, and orders on the day on which they were placed.
#[utoipa::path(
    get, path = "/analytics/funnel", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(DayParams, Output),
    responses((
        status = 200, description = "The funnel of the days, and their sum",
        content((Item<FunnelReportView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn funnel(
    reply: Reply,
    accepted: Accepted,
    Query((days, output)): Query<(DayParams, Output)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let range = days.check(&reply, &mut errors);
    let is_csv = output.is_csv(accepted, &mut errors);
    errors.into_result()?;
    let report = reply.shop().analytics().funnel(&range).await?;
    if is_csv {
        let rows = report.days.iter().map(|(day, funnel)| FunnelView::of(Some(*day), funnel));
        return table("funnel", FunnelView::FIELDS, rows, None);
    }
    let item = Item::new(FunnelReportView::of(&report), reply.target.path_and_query());
    Ok(private(json(StatusCode::OK, &item)?, None))
}

/// List the products that sell best
///
/// Lists the products that were sold or canceled on the days `from` to `to`, by net revenue or net units.
#[utoipa::path(
    get, path = "/analytics/top-products", tag = "analytics",
    security(("bearer" = ["analytics:read"])),
    params(Pages, Cursor, Shape, DayParams, CurrencyParam, TopParams, Output),
    responses((
        status = 200, description = "A page of products with their sales",
        content((List<ProductSalesView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn top_products(
    reply: Reply,
    accepted: Accepted,
    Query((pages, cursor, shape, days, currency, top, output)): Query<(
        Pages,
        Cursor,
        Shape,
        DayParams,
        CurrencyParam,
        TopParams,
        Output,
    )>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let range = days.check(&reply, &mut errors);
    currency.check(reply.config().currency, &mut errors);
    let all = ProductSalesSort::ALL;
    let sort = word("sort", top.sort.as_deref(), all, ProductSalesSort::as_str, &mut errors).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let is_csv = output.is_csv(accepted, &mut errors);
    let format = reply.format::<ProductSales>(&shape, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().analytics().top_products(&range, sort, &part.paging).await?;
    let frame = reply.frame(&page, total, &part);
    if is_csv {
        let rows = page.items.iter().map(|product| product.view(&format));
        return table("top-products", &format.fields.of(ProductSales::FIELDS), rows, Some(&frame.links));
    }
    Ok(private(format.rows(frame, page.items.iter())?.respond(), None))
}

/// List the SKUs that are low in stock
///
/// Lists the SKUs of active products that track their stock, and of which at most the low-stock threshold is available
/// now. Those with the fewest available pieces come first.
#[utoipa::path(
    get, path = "/analytics/low-stock", tag = "analytics",
    security(("bearer" = ["analytics:read"])), params(Pages, Cursor, Picked, Output),
    responses((
        status = 200, description = "A page of SKUs",
        content((List<LowStockView> = "application/json"), (String = "text/csv"))
    ))
)]
pub(crate) async fn low_stock(
    reply: Reply,
    accepted: Accepted,
    Query((pages, cursor, picked, output)): Query<(Pages, Cursor, Picked, Output)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "available_asc", &reply.app.config, &mut errors);
    let is_csv = output.is_csv(accepted, &mut errors);
    let format = reply.format::<LowStockSku>(&picked, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().analytics().low_stock(&part.paging).await?;
    let frame = reply.frame(&page, total, &part);
    if is_csv {
        let rows = page.items.iter().map(|sku| sku.view(&format));
        return table("low-stock", &format.fields.of(LowStockSku::FIELDS), rows, Some(&frame.links));
    }
    Ok(private(format.rows(frame, page.items.iter())?.respond(), None))
}

/// Rebuild the figures of sales
///
/// Enqueues a job that computes the figures of all days anew from the orders. The result is the same as before, unless
/// somebody has changed the rows of the figures by hand. If such a job is queued already, the response has that one.
#[utoipa::path(
    post, path = "/analytics/rebuild", tag = "analytics", security(("bearer" = ["jobs:write"])),
    responses((status = 202, description = "The queued job; `Location` has its path", body = Item<JobView>))
)]
pub(crate) async fn rebuild(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    let analytics = reply.shop().analytics();
    let within = |mut tx| async { Ok((analytics.enqueue_rebuild_in(&mut tx).await?, tx)) };
    let render = |job: &_| reply.accepted::<ecom_core::platform::Job>(job);
    Ok(keyed.answer(&reply, analytics.enqueue_rebuild(), within, render).await?)
}

/// Count an event of a product
///
/// The page of a product sends `{"kind": "view"}` when a shopper opens it. The server counts views in memory and adds
/// them to the database every `ECOM_ANALYTICS_INTERVAL` seconds. Anybody can send such requests, so the numbers of
/// views are only an indication.
#[utoipa::path(
    post, path = "/products/{id}/events", tag = "analytics", security(()), params(ById),
    request_body = ProductEventInput,
    responses((status = 204, description = "The event was counted"))
)]
pub(crate) async fn count_event(
    reply: Reply,
    Id(id): Id<ProductId>,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<ProductEventInput>>,
) -> ApiResult {
    keyed.refuse("events of products are counted in memory: send the request without a key")?;
    match input.kind {
        ProductEventKind::View => reply.shop().analytics().note_view(id).await?,
    }
    Ok(no_content())
}
