//! Routes of orders and of their lines. All responses contain personal data, so shared caches must not store them.

use ecom_core::common::ExpectedVersion;
use ecom_core::id::{CustomerId, OrderId, OrderLineId, ProductId, SkuId};
use ecom_core::platform::AnswerSubject;
use ecom_core::sales::{
    DeliveryMethod, Order, OrderChange, OrderEdit, OrderExplanation, OrderFilter, OrderInput, OrderLine,
    OrderLineFilter, OrderPatch, OrderSort, OrderStatus, SalesConflict,
};
use ecom_core::{Conflict, Entity, Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{
    AddLineInput, CancelInput, ChangeLineInput, Item, List, OrderChangeView, OrderExplanationView, OrderLineView,
    OrderView, shown_lines,
};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, ByLine, ByNumber, Cursor, Id, IfMatchHeader, Json, Key, LineId, Numbers, OptionalIfMatchHeader, OptionalJson,
    Pages, Picked, Query, Shape, ShowDeleted, Version, VersionBody, moment, word,
};
use crate::headers::{located, no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Order {
    const FIELDS: &'static [&'static str] = OrderView::FIELDS;
    type View<'a> = OrderView<'a>;

    fn view(&self, format: &Format) -> OrderView<'_> {
        OrderView::of(self, format.numbers)
    }
}

impl Resource for Order {
    const COLLECTION: &'static str = "/orders";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }

    fn subject(&self) -> Option<AnswerSubject> {
        Order::subject(self)
    }
}

impl Shown for OrderLine {
    const FIELDS: &'static [&'static str] = OrderLineView::FIELDS;
    type View<'a> = OrderLineView<'a>;

    fn view(&self, format: &Format) -> OrderLineView<'_> {
        OrderLineView::of(self, format.numbers)
    }
}

impl Shown for OrderExplanation {
    const FIELDS: &'static [&'static str] = OrderExplanationView::FIELDS;
    type View<'a> = OrderExplanationView<'a>;

    fn view(&self, format: &Format) -> OrderExplanationView<'_> {
        OrderExplanationView::of(self, format.currency, format.numbers)
    }
}

impl Resource for OrderExplanation {
    const COLLECTION: &'static str = Order::COLLECTION;

    fn stamp(&self) -> Stamp {
        Stamp { id: self.order_id.0, version: self.version, revision: self.version }
    }
}

impl Shown for OrderChange {
    const FIELDS: &'static [&'static str] = OrderChangeView::FIELDS;
    type View<'a> = OrderChangeView<'a>;

    fn view(&self, _: &Format) -> OrderChangeView<'_> {
        self.into()
    }
}

/// The filters of a list of orders.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrderParams {
    /// The sort order: `placed_desc` (default) or `placed_asc`.
    #[serde(default)]
    sort: Option<String>,
    /// Lists only orders whose buyer has this email address, ignoring case.
    #[serde(default)]
    email: Option<String>,
    /// Lists only orders with this status: `pending`, `in_progress`, `delivered` or `canceled`.
    #[serde(default)]
    status: Option<String>,
    /// Lists only orders with this delivery method. `drive_thru`: the buyer collects the goods at the drive-through.
    /// `on_hand`: the buyer receives the goods in the shop (not related to stock on hand). `home_delivery`: the goods
    /// are delivered to the shipping address.
    #[serde(default)]
    delivery_method: Option<String>,
    /// Lists only orders that sell the SKU with this id.
    #[serde(default)]
    sku_id: Option<Uuid>,
    /// Lists only orders that were placed at this time or later: a time (RFC 3339), or a date, which starts at 00:00
    /// UTC.
    #[param(example = "2026-01-01")]
    #[serde(default)]
    from: Option<String>,
    /// Lists only orders that were placed before this time: a time (RFC 3339), or a date, which starts at 00:00 UTC.
    #[param(example = "2026-02-01T00:00:00Z")]
    #[serde(default)]
    until: Option<String>,
}

/// The filter by customer of the list of all orders.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CustomerParam {
    /// Lists only orders of the customer with this id.
    #[serde(default)]
    customer_id: Option<Uuid>,
}

/// Returns a page of orders.
async fn page_of_orders(
    reply: &Reply,
    (pages, cursor, shape, deleted): (Pages, Cursor, Shape, ShowDeleted),
    customer: Option<CustomerId>,
    p: OrderParams,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let sort = word("sort", p.sort.as_deref(), OrderSort::ALL, OrderSort::as_str, &mut errors).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let format = reply.format::<Order>(&shape, &mut errors);
    let method = p.delivery_method.as_deref();
    let filter = OrderFilter {
        customer,
        email: p.email,
        status: word("status", p.status.as_deref(), OrderStatus::ALL, OrderStatus::as_str, &mut errors),
        delivery_method: word("delivery_method", method, DeliveryMethod::ALL, DeliveryMethod::as_str, &mut errors),
        sku: p.sku_id.map(SkuId),
        from: moment("from", p.from.as_deref(), &mut errors),
        until: moment("until", p.until.as_deref(), &mut errors),
        include_deleted: deleted.choice(),
    };
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().orders().list(&filter, sort, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// List orders
///
/// Orders are returned with their lines.
#[utoipa::path(
    get, path = "/orders", tag = "orders", security(("bearer" = ["orders:read"]), ("bearer" = ["own"])),
    params(Pages, Cursor, Shape, ShowDeleted, CustomerParam, OrderParams),
    responses((status = 200, description = "A page of orders", body = List<OrderView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, shape, deleted, of, p)): Query<(
        Pages,
        Cursor,
        Shape,
        ShowDeleted,
        CustomerParam,
        OrderParams,
    )>,
) -> ApiResult {
    page_of_orders(&reply, (pages, cursor, shape, deleted), of.customer_id.map(CustomerId), p).await
}

/// List the orders of a customer
///
/// Orders are returned with their lines.
#[utoipa::path(
    get, path = "/customers/{id}/orders", tag = "orders",
    security(("bearer" = ["customers:read", "orders:read"]), ("bearer" = ["own"])),
    params(ById, Pages, Cursor, Shape, ShowDeleted, OrderParams),
    responses((status = 200, description = "A page of the customer's orders", body = List<OrderView>))
)]
pub(crate) async fn of_customer(
    reply: Reply,
    Id(id): Id<CustomerId>,
    Query((pages, cursor, shape, deleted, p)): Query<(Pages, Cursor, Shape, ShowDeleted, OrderParams)>,
) -> ApiResult {
    reply.shop().customers().get(id, deleted.choice()).await?;
    page_of_orders(&reply, (pages, cursor, shape, deleted), Some(id), p).await
}

/// The filters of a list of order lines.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrderLineParams {
    /// The sort order: `placed_desc` (default) or `placed_asc`, by the time at which the order was placed.
    #[serde(default)]
    sort: Option<String>,
    /// Lists only lines of the order with this id.
    #[serde(default)]
    order_id: Option<Uuid>,
    /// Lists only lines that sell the SKU with this id.
    #[serde(default)]
    sku_id: Option<Uuid>,
    /// Lists only lines that sell a SKU of the product with this id.
    #[serde(default)]
    product_id: Option<Uuid>,
    /// Lists only lines of orders of the customer with this id.
    #[serde(default)]
    customer_id: Option<Uuid>,
    /// Lists only lines of orders with this status: `pending`, `in_progress`, `delivered` or `canceled`.
    #[serde(default)]
    status: Option<String>,
    /// Lists only lines of orders that were placed at this time or later: a time (RFC 3339), or a date, which starts at
    /// 00:00 UTC.
    #[param(example = "2026-01-01")]
    #[serde(default)]
    from: Option<String>,
    /// Lists only lines of orders that were placed before this time: a time (RFC 3339), or a date, which starts at
    /// 00:00 UTC.
    #[param(example = "2026-02-01T00:00:00Z")]
    #[serde(default)]
    until: Option<String>,
}

/// List order lines
///
/// Lists the lines of all orders. Lines that were removed from their order are not included.
#[utoipa::path(
    get, path = "/order-lines", tag = "orders",
    security(("bearer" = ["orders:read"]), ("bearer" = ["own"])),
    params(Pages, Cursor, Shape, ShowDeleted, OrderLineParams),
    responses((status = 200, description = "A page of order lines", body = List<OrderLineView>))
)]
pub(crate) async fn list_lines(
    reply: Reply,
    Query((pages, cursor, shape, deleted, p)): Query<(Pages, Cursor, Shape, ShowDeleted, OrderLineParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let sort = word("sort", p.sort.as_deref(), OrderSort::ALL, OrderSort::as_str, &mut errors).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let format = reply.format::<OrderLine>(&shape, &mut errors);
    let filter = OrderLineFilter {
        order: p.order_id.map(OrderId),
        sku: p.sku_id.map(SkuId),
        product: p.product_id.map(ProductId),
        customer: p.customer_id.map(CustomerId),
        status: word("status", p.status.as_deref(), OrderStatus::ALL, OrderStatus::as_str, &mut errors),
        from: moment("from", p.from.as_deref(), &mut errors),
        until: moment("until", p.until.as_deref(), &mut errors),
        include_deleted: deleted.choice(),
    };
    errors.into_result()?;
    let (page, total) = reply.shop().orders().lines(&filter, sort, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Place an order
///
/// Takes the stock of all lines, or fails with the SKUs of which too little is available. The prices in the request
/// must be the current ones (R8). The order gets a bill. Some fields require further permissions.
#[utoipa::path(
    post, path = "/orders", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])), params(Numbers), request_body = OrderInput,
    responses(
        (status = 201, description = "The placed order; `Location` has its path", body = Item<OrderView>),
    )
)]
pub(crate) async fn place(
    reply: Reply,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<OrderInput>>,
) -> ApiResult {
    let orders = reply.shop().orders();
    let frame = reply.clone();
    let render = move |placed: &_| frame.created::<Order>(placed, &numbers);
    Ok(keyed.answer_once(orders.place(&input), |call| orders.place_once(&input, call), render).await?)
}

/// Read an order
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders",
    security(("bearer" = ["orders:read"]), ("bearer" = ["own"])), params(ByNumber, Shape, ShowDeleted),
    responses((status = 200, description = "The order", body = Item<OrderView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, key: Key, Query((shape, deleted)): Query<(Shape, ShowDeleted)>) -> ApiResult {
    let format = reply.only_format::<Order>(&shape)?;
    let shop = reply.shop();
    let order = match key {
        Key::Id(id) => shop.orders().get(id.into(), deleted.choice()).await?,
        Key::Slug(number) => shop.orders().get_by_number(&number, deleted.choice()).await?,
    };
    reply.personal(&order, &format)
}

/// Change the delivery of an order
///
/// The body is a merge patch (RFC 7396). The order must be pending or in progress. If the personal data of the order
/// was erased, the request fails with `STATE_CONFLICT`, so that no new personal data is added (R45).
#[utoipa::path(
    patch, path = "/orders/{id}", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader, Numbers), request_body = OrderPatch,
    responses((status = 200, description = "The changed order", body = Item<OrderView>))
)]
pub(crate) async fn patch(
    w: Write<OrderId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<OrderPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().orders().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// Cancel and delete an order
///
/// The order is canceled, unless it already is, and soft-deleted. A delivered order is refused.
#[utoipa::path(
    delete, path = "/orders/{id}", tag = "orders",
    security(("bearer" = ["orders:write"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The order is canceled and deleted"))
)]
pub(crate) async fn delete(w: Write<OrderId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().orders().delete(w.id, read).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted order
///
/// The order stays canceled.
#[utoipa::path(
    post, path = "/orders/{id}/restore", tag = "orders",
    security(("bearer" = ["orders:write"])), params(ById, IfMatchHeader, Version, Numbers),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored order", body = Item<OrderView>))
)]
pub(crate) async fn restore(
    w: Write<OrderId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let orders = w.shop().orders();
    let within = |mut tx| async { Ok((orders.restore_in(&mut tx, w.id, read).await?, tx)) };
    let render = |restored: &_| w.written::<Order>(restored, &numbers);
    w.done(keyed.answer(&w, orders.restore(w.id, read), within, render).await)
}

/// Edit the lines of an order
///
/// All changes happen together, or none of them happens. The order must be pending, and stock and amounts follow (R9).
/// Lines keep the price at which they were sold, unless `reprice` is true, and new lines have the current price. If a
/// line's bill is paid, or if units of any line on that bill were canceled, a change of the line fails with
/// `BILL_FROZEN` (R39). Some fields require further permissions.
#[utoipa::path(
    post, path = "/orders/{id}/edit", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader, Numbers), request_body = OrderEdit,
    responses((status = 200, description = "The edited order", body = Item<OrderView>))
)]
pub(crate) async fn edit(
    w: Write<OrderId>,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(edit), keyed }: Post<Json<OrderEdit>>,
) -> ApiResult {
    let read = w.read(edit.version)?;
    let orders = w.shop().orders();
    let within = |mut tx| async { Ok((orders.edit_in(&mut tx, w.id, read, &edit).await?, tx)) };
    let render = |edited: &_| w.written::<Order>(edited, &numbers);
    w.done(keyed.answer(&w, orders.edit(w.id, read, &edit), within, render).await)
}

/// List the lines of an order
///
/// Lines are sorted by position. Lines that were removed are not included.
#[utoipa::path(
    get, path = "/orders/{id}/lines", tag = "orders",
    security(("bearer" = ["orders:read"]), ("bearer" = ["own"])), params(ById, Shape, ShowDeleted),
    responses((status = 200, description = "The lines of the order", body = List<OrderLineView>))
)]
pub(crate) async fn lines(
    reply: Reply,
    Id(id): Id<OrderId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<OrderLine>(&shape)?;
    let order = reply.shop().orders().get(id, deleted.choice()).await?;
    Ok(private(reply.all(shown_lines(&order), &format)?, None))
}

/// Returns the error of an edit of one line, whose fields are those of the line and not those of an edit. A line that
/// the path names, and that the order does not have, is not found.
fn of_line(error: Error, edit: &str, line: Option<OrderLineId>) -> Error {
    let own = |field: &str| match field {
        // The order has too many lines.
        "add" | "add_extra" => "lines".to_owned(),
        _ => field.strip_prefix(edit).unwrap_or(field).to_owned(),
    };
    match error {
        Error::Validation(mut errors) => {
            for e in &mut errors.0 {
                e.field = own(&e.field);
            }
            let unknown = |code| matches!(code, FieldCode::ReferenceNotFound | FieldCode::Inconsistent);
            match line.filter(|_| errors.0.iter().any(|e| e.field == "line_id" && unknown(e.code))) {
                Some(line) => Error::not_found(Entity::OrderLine, line),
                None => Error::Validation(errors),
            }
        }
        Error::Conflict(conflict) => Error::Conflict(Box::new(match *conflict {
            Conflict::Sales(SalesConflict::PriceMismatch { mut prices, shortages }) => {
                for p in &mut prices {
                    p.field = own(&p.field);
                }
                SalesConflict::PriceMismatch { prices, shortages }.into()
            }
            Conflict::Sales(SalesConflict::BillFrozen { field, bill, number }) => {
                SalesConflict::BillFrozen { field: own(&field), bill, number }.into()
            }
            other => other,
        })),
        other => other,
    }
}

/// Add a line to an order
///
/// The order must be pending, and the line is sold at the current price. The response is the order with the new line;
/// `Location` has the path of the line. With a `price_override`, it also requires `orders:discount`.
#[utoipa::path(
    post, path = "/orders/{id}/lines", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])),
    params(ById, IfMatchHeader, Numbers), request_body = AddLineInput,
    responses(
        (status = 201, description = "The order with the new line; `Location` has its path", body = Item<OrderView>),
    )
)]
pub(crate) async fn add_line(
    w: Write<OrderId>,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<AddLineInput>>,
) -> ApiResult {
    let read = w.read(input.version)?;
    let (orders, edit) = (w.shop().orders(), OrderEdit::from(input));
    let within = |mut tx| async { Ok((orders.edit_in(&mut tx, w.id, read, &edit).await?, tx)) };
    let render = |order: &Order| {
        let response = w.created(order, &numbers)?;
        // Positions only increase, so the new line is the last one.
        Ok(match order.lines.iter().max_by_key(|l| l.position) {
            Some(line) => located(response, &format!("{}/{}", w.target.path(), line.id)),
            None => response,
        })
    };
    let done = keyed.answer(&w, orders.edit(w.id, read, &edit), within, render).await;
    w.done(done.map_err(|e| of_line(e, "add[0].", None)))
}

/// Read a line of an order
///
/// The entity tag contains the version of the order.
#[utoipa::path(
    get, path = "/orders/{id}/lines/{line_id}", tag = "orders",
    security(("bearer" = ["orders:read"]), ("bearer" = ["own"])), params(ById, ByLine, Shape, ShowDeleted),
    responses((status = 200, description = "The line", body = Item<OrderLineView>), NotModified)
)]
pub(crate) async fn read_line(
    reply: Reply,
    Id(id): Id<OrderId>,
    LineId(line): LineId<OrderLineId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<OrderLine>(&shape)?;
    let order = reply.shop().orders().get(id, deleted.choice()).await?;
    let found = shown_lines(&order).find(|l| l.id == line);
    reply.part_of(&order, found.ok_or_else(|| Error::not_found(Entity::OrderLine, line))?, &format)
}

/// Change a line of an order
///
/// The order must be pending. `DELETE` removes the line.
#[utoipa::path(
    patch, path = "/orders/{id}/lines/{line_id}", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])), params(ById, ByLine, IfMatchHeader, Numbers),
    request_body = ChangeLineInput,
    responses((status = 200, description = "The order with the changed line", body = Item<OrderView>))
)]
pub(crate) async fn change_line(
    w: Write<OrderId>,
    LineId(line): LineId<OrderLineId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(input): Json<ChangeLineInput>,
) -> ApiResult {
    let read = w.read(input.version)?;
    if input.quantity.is_none() && !input.reprice {
        let message = "is required, unless `reprice` is true";
        return Err(ApiError::field("quantity", FieldCode::Required, message));
    }
    if input.quantity == Some(0) {
        let message = "must be at least 1; DELETE removes the line";
        return Err(ApiError::field("quantity", FieldCode::OutOfBounds, message));
    }
    let done = w.shop().orders().edit(w.id, read, &input.of(line)).await;
    let order = w.done(done.map_err(|e| of_line(e, "change[0].", Some(line))))?;
    w.written(&order, &numbers)
}

/// Remove a line from an order
///
/// The order must be pending. The stock of the line is given back. The request is refused if the discount on the bill
/// would exceed the subtotal of the remaining lines: `edit` can lower the discount and remove the line at once.
#[utoipa::path(
    delete, path = "/orders/{id}/lines/{line_id}", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])),
    params(ById, ByLine, IfMatchHeader, Version, Numbers),
    responses((status = 200, description = "The order without the line", body = Item<OrderView>))
)]
pub(crate) async fn remove_line(
    w: Write<OrderId>,
    LineId(line): LineId<OrderLineId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
) -> ApiResult {
    let read = w.read(version.version)?;
    let removed = ChangeLineInput { quantity: Some(0), reprice: false, version: None };
    let done = w.shop().orders().edit(w.id, read, &removed.of(line)).await;
    let order = w.done(done.map_err(|e| of_line(e, "change[0].", Some(line))))?;
    w.written(&order, &numbers)
}

/// Cancel an order, or some of its units
///
/// Without `lines`, the whole order is canceled, its stock is given back exactly once, its open bills become void, and
/// paid bills get credit notes. This takes no version: `version` and `If-Match` are refused. It is safe to repeat. With
/// `lines`, the version is required, and these units are canceled: their stock is given back, and each bill concerned
/// gets a credit note. If no unit is left, the order is canceled. For an order without units, the list is empty. The
/// order must be pending or in progress.
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders",
    security(("bearer" = ["orders:write"]), ("bearer" = ["own"])), params(ById, OptionalIfMatchHeader, Numbers),
    request_body(content = Option<CancelInput>, description = "The units to cancel. The body can be empty."),
    responses((status = 200, description = "The order after the cancellation", body = Item<OrderView>))
)]
pub(crate) async fn cancel(
    w: Write<OrderId>,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: OptionalJson(input), keyed }: Post<OptionalJson<CancelInput>>,
) -> ApiResult {
    let read = w.read(input.version)?;
    if input.lines.is_none() && read != ExpectedVersion::Unspecified {
        let message = "must not be sent without `lines`: canceling the whole order needs no version";
        return Err(ApiError::field("version", FieldCode::Inconsistent, message));
    }
    let (orders, units) = (w.shop().orders(), input.lines.as_deref());
    let plain = async {
        match units {
            Some(units) => orders.cancel_units(w.id, read, units).await,
            None => orders.cancel(w.id).await,
        }
    };
    let within = |mut tx| async {
        let order = match units {
            Some(units) => orders.cancel_units_in(&mut tx, w.id, read, units).await?,
            None => orders.cancel_in(&mut tx, w.id).await?,
        };
        Ok((order, tx))
    };
    let render = |order: &_| w.written::<Order>(order, &numbers);
    w.done(keyed.answer(&w, plain, within, render).await)
}

/// Start the work on an order
///
/// The order must be pending and have units to deliver. Its lines can no longer be edited. A version is optional,
/// because an order can be started only once; if the request names one, it is checked.
#[utoipa::path(
    post, path = "/orders/{id}/start", tag = "orders",
    security(("bearer" = ["orders:write"])), params(ById, OptionalIfMatchHeader, Version, Numbers),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The order in progress", body = Item<OrderView>))
)]
pub(crate) async fn start(
    w: Write<OrderId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let orders = w.shop().orders();
    let within = |mut tx| async { Ok((orders.start_in(&mut tx, w.id, read).await?, tx)) };
    let render = |started: &_| w.written::<Order>(started, &numbers);
    w.done(keyed.answer(&w, orders.start(w.id, read), within, render).await)
}

/// Record that an order was delivered
///
/// The order must be in progress. A version is optional, because an order can be delivered only once; if the request
/// names one, it is checked.
#[utoipa::path(
    post, path = "/orders/{id}/deliver", tag = "orders",
    security(("bearer" = ["orders:write"])), params(ById, OptionalIfMatchHeader, Version, Numbers),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The delivered order", body = Item<OrderView>))
)]
pub(crate) async fn deliver(
    w: Write<OrderId>,
    Query((version, numbers)): Query<(Version, Numbers)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let orders = w.shop().orders();
    let within = |mut tx| async { Ok((orders.deliver_in(&mut tx, w.id, read).await?, tx)) };
    let render = |delivered: &_| w.written::<Order>(delivered, &numbers);
    w.done(keyed.answer(&w, orders.deliver(w.id, read), within, render).await)
}

/// Read the history of an order
///
/// Entries are sorted oldest first. Every version of the order has one. `data` of an entry depends on its `kind`.
#[utoipa::path(
    get, path = "/orders/{id}/history", tag = "orders",
    security(("bearer" = ["orders:read"]), ("bearer" = ["own"])), params(ById, Picked, ShowDeleted),
    responses((status = 200, description = "The history of the order", body = List<OrderChangeView>))
)]
pub(crate) async fn history(
    reply: Reply,
    Id(id): Id<OrderId>,
    Query((picked, deleted)): Query<(Picked, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<OrderChange>(&picked)?;
    let history = reply.shop().orders().history(id, deleted.choice()).await?;
    Ok(private(reply.all(history.iter(), &format)?, None))
}

/// Explain the amounts of an order
///
/// For each amount of the lines, the bills, the credit notes and the order, the response has the formula in words and
/// the parts that add up to the amount. `due` is the net amount billed: the bills less the credit notes, void ones
/// excluded. Payments are not subtracted, so a paid bill counts in full. The entity tag is that of the order.
#[utoipa::path(
    get, path = "/orders/{id}/explain", tag = "orders",
    security(("bearer" = ["orders:read", "bills:read"]), ("bearer" = ["own"])), params(ById, Shape, ShowDeleted),
    responses(
        (status = 200, description = "The explained amounts", body = Item<OrderExplanationView>),
        NotModified
    )
)]
pub(crate) async fn explain(
    reply: Reply,
    Id(id): Id<OrderId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<OrderExplanation>(&shape)?;
    let explained = reply.shop().orders().explain(id, deleted.choice()).await?;
    reply.part_of(&explained, &explained, &format)
}
