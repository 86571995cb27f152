//! Routes of bills and credit notes. Shared caches must not store their responses.

use ecom_core::id::{BillId, OrderId};
use ecom_core::sales::{Bill, BillFilter, BillKind, BillPatch, BillSort, BillStatus};
use ecom_core::{Entity, Error, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{BillView, Item, List};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{
    ById, ByNumber, Cursor, Id, IfMatchHeader, Json, Key, Numbers, Pages, Query, Shape, ShowDeleted, moment, word,
};
use crate::headers::private;
use crate::openapi::{ErrorEnvelope, NotModified};
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Bill {
    const FIELDS: &'static [&'static str] = BillView::FIELDS;
    type View<'a> = BillView<'a>;

    fn view(&self, format: &Format) -> BillView<'_> {
        BillView::of(self, format.numbers)
    }
}

impl Resource for Bill {
    const COLLECTION: &'static str = "/bills";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }
}

/// The filters of a list of bills.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BillParams {
    /// The sort order: `date_desc` (default) or `date_asc`.
    #[serde(default)]
    sort: Option<String>,
    /// Lists only bills of the order with this id.
    #[serde(default)]
    order_id: Option<Uuid>,
    /// Lists only bills (`bill`) or only credit notes (`credit_note`).
    #[serde(default)]
    kind: Option<String>,
    /// Lists only bills with this status: `open`, `paid` or `void`.
    #[serde(default)]
    status: Option<String>,
    /// Lists only bills of this date or a later one: a time (RFC 3339), or a date, which starts at 00:00 UTC.
    #[param(example = "2026-01-01")]
    #[serde(default)]
    from: Option<String>,
    /// Lists only bills before this date: a time (RFC 3339), or a date, which starts at 00:00 UTC.
    #[param(example = "2026-02-01T00:00:00Z")]
    #[serde(default)]
    until: Option<String>,
}

/// List bills and credit notes
#[utoipa::path(
    get, path = "/bills", tag = "bills",
    security(("bearer" = ["bills:read"]), ("bearer" = ["own"])), params(Pages, Cursor, Shape, ShowDeleted, BillParams),
    responses(
        (status = 200, description = "A page of bills and credit notes", body = List<BillView>),
        (status = 404, description = "NOT_FOUND: a customer has named the order of another.", body = ErrorEnvelope),
    )
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, shape, deleted, p)): Query<(Pages, Cursor, Shape, ShowDeleted, BillParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let sort = word("sort", p.sort.as_deref(), BillSort::ALL, BillSort::as_str, &mut errors).unwrap_or_default();
    let part = pages.check_with(&cursor, sort.as_str(), &reply.app.config, &mut errors);
    let format = reply.format::<Bill>(&shape, &mut errors);
    let filter = BillFilter {
        order: p.order_id.map(OrderId),
        kind: word("kind", p.kind.as_deref(), BillKind::ALL, BillKind::as_str, &mut errors),
        status: word("status", p.status.as_deref(), BillStatus::ALL, BillStatus::as_str, &mut errors),
        from: moment("from", p.from.as_deref(), &mut errors),
        until: moment("until", p.until.as_deref(), &mut errors),
        include_deleted: deleted.choice(),
    };
    errors.into_result()?;
    let (page, total) = reply.shop().bills().list(&filter, sort, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Read a bill or a credit note
#[utoipa::path(
    get, path = "/bills/{id}", tag = "bills",
    security(("bearer" = ["bills:read"]), ("bearer" = ["own"])), params(ByNumber, Shape, ShowDeleted),
    responses((status = 200, description = "The bill", body = Item<BillView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, key: Key, Query((shape, deleted)): Query<(Shape, ShowDeleted)>) -> ApiResult {
    let format = reply.only_format::<Bill>(&shape)?;
    let shop = reply.shop();
    let bill = match key {
        Key::Id(id) => shop.bills().get(id.into(), deleted.choice()).await?,
        Key::Slug(number) => shop.bills().get_by_number(&number, deleted.choice()).await?,
    };
    reply.personal(&bill, &format)
}

/// Change a bill
///
/// The body is a merge patch (RFC 7396). The payment type can be changed while the bill is open. The discount can be
/// changed while the bill is open, none of its lines has canceled units, and the order is pending or in progress. A
/// credit note refuses a discount. `paid` records the payment of a bill, or the refund of a credit note. A paid bill
/// stays paid. With a `discount`, it also requires `orders:discount`.
#[utoipa::path(
    patch, path = "/bills/{id}", tag = "bills",
    security(("bearer" = ["bills:write"])), params(ById, IfMatchHeader, Numbers), request_body = BillPatch,
    responses((status = 200, description = "The changed bill", body = Item<BillView>))
)]
pub(crate) async fn patch(
    w: Write<BillId>,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<BillPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().bills().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// List the bills of an order
///
/// Its bills come first, and then its credit notes, each oldest first.
#[utoipa::path(
    get, path = "/orders/{id}/bills", tag = "bills",
    security(("bearer" = ["bills:read"]), ("bearer" = ["own"])), params(ById, Shape, ShowDeleted),
    responses((status = 200, description = "The bills and credit notes of the order", body = List<BillView>))
)]
pub(crate) async fn of_order(
    reply: Reply,
    Id(id): Id<OrderId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<Bill>(&shape)?;
    let bills = reply.shop().bills().of_order(id, deleted.choice()).await?;
    Ok(private(reply.all(bills.iter(), &format)?, None))
}

/// Read the bill of an order
///
/// If lines were added after the bill of the order was frozen (R39), the order has several bills. The newest one is
/// returned.
#[utoipa::path(
    get, path = "/orders/{id}/bill", tag = "bills",
    security(("bearer" = ["bills:read"]), ("bearer" = ["own"])), params(ById, Shape, ShowDeleted),
    responses((status = 200, description = "The newest bill of the order", body = Item<BillView>), NotModified)
)]
pub(crate) async fn newest_of_order(
    reply: Reply,
    Id(id): Id<OrderId>,
    Query((shape, deleted)): Query<(Shape, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<Bill>(&shape)?;
    let bills = reply.shop().bills().of_order(id, deleted.choice()).await?;
    let newest = bills.iter().filter(|b| b.kind == BillKind::Bill).max_by_key(|b| b.seq);
    reply.personal(newest.ok_or_else(|| Error::not_found(Entity::Order, id))?, &format)
}
