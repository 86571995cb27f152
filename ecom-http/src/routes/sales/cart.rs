//! Routes of carts. Each request shows the token of a guest's cart in the header `X-Cart-Token`, or its caller has the
//! permission. No response may be stored by a cache.

use ecom_core::id::{CartId, CartLineId, CustomerId};
use ecom_core::platform::AnswerSubject;
use ecom_core::sales::{
    CartFilter, CartInput, CartLineInput, CartLinePatch, CartPatch, CartState, CheckoutInput, CreatedCart, Order,
    PricedCart,
};
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{AssignInput, CartView, Item, List, MergeInput, OrderView};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{
    ById, ByLine, CartKey, CartTokenHeader, Cursor, Id, IfMatchHeader, Json, LineId, Numbers, OptionalIfMatchHeader,
    OptionalJson, Pages, Query, Shape, Version, word,
};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::{ErrorEnvelope, NotModified};
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for PricedCart {
    const FIELDS: &'static [&'static str] = CartView::FIELDS;
    type View<'a> = CartView<'a>;

    fn view(&self, format: &Format) -> CartView<'_> {
        CartView::new(self, None, format.numbers)
    }
}

impl Resource for PricedCart {
    const COLLECTION: &'static str = "/carts";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.cart.id.0, version: self.cart.audit.version, revision: self.cart.audit.version }
    }

    fn subject(&self) -> Option<AnswerSubject> {
        Some(self.cart.subject())
    }
}

impl Shown for CreatedCart {
    const FIELDS: &'static [&'static str] = CartView::FIELDS;
    type View<'a> = CartView<'a>;

    fn view(&self, format: &Format) -> CartView<'_> {
        CartView::new(&self.cart, self.token.as_ref(), format.numbers)
    }
}

impl Resource for CreatedCart {
    const COLLECTION: &'static str = PricedCart::COLLECTION;

    fn stamp(&self) -> Stamp {
        self.cart.stamp()
    }

    fn subject(&self) -> Option<AnswerSubject> {
        self.cart.subject()
    }
}

/// The filters of a list of carts.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CartParams {
    /// Lists only carts of the customer with this id.
    #[serde(default)]
    customer_id: Option<Uuid>,
    /// Lists only carts in this state: `open`, `ordered` or `merged`. Carts that have expired are open until they are
    /// removed.
    #[serde(default)]
    state: Option<String>,
    /// Lists only carts with this email address, ignoring case.
    #[serde(default)]
    email: Option<String>,
}

/// List carts
///
/// Carts are sorted by time of creation, newest first, and have the current prices and stock.
#[utoipa::path(
    get, path = "/carts", tag = "carts",
    security(("bearer" = ["carts:read"]), ("bearer" = ["own"])), params(Pages, Cursor, Shape, CartParams),
    responses((status = 200, description = "A page of carts", body = List<CartView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, shape, p)): Query<(Pages, Cursor, Shape, CartParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let state = word("state", p.state.as_deref(), CartState::ALL, CartState::as_str, &mut errors);
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<PricedCart>(&shape, &mut errors);
    let filter = CartFilter { customer: p.customer_id.map(CustomerId), state, email: p.email };
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().carts().list(&filter, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Create a cart
///
/// Without `customer_id`, the cart is a guest's, and the response has its `token`, which cannot be read again. A
/// customer has at most one open cart: if there is one, it takes over the lines and is returned with status 200.
/// `Idempotency-Key` is refused for a guest's cart, because the response has a secret, and responses are stored in
/// clear. `customer_id`, `source` and `external_id` require the permission `carts:write`.
#[utoipa::path(
    post, path = "/carts", tag = "carts",
    security((), ("bearer" = ["carts:write"]), ("bearer" = ["own"])), params(Numbers),
    request_body(content = Option<CartInput>, description = "The body can be empty."),
    responses(
        (status = 201, description = "The created cart; `Location` has its path", body = Item<CartView>),
        (status = 200, description = "The open cart of the customer", body = Item<CartView>),
    )
)]
pub(crate) async fn create(
    reply: Reply,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: OptionalJson(input), keyed }: Post<OptionalJson<CartInput>>,
) -> ApiResult {
    if input.customer_id.is_none() {
        keyed.refuse("the response has the token of the cart, which is not stored: send the request without a key")?;
    }
    let carts = reply.shop().carts();
    let within = |mut tx| async { Ok((carts.create_in(&mut tx, &input).await?, tx)) };
    let render = |done: &CreatedCart| {
        if done.created { reply.created(done, &numbers) } else { reply.written(done, &numbers) }
    };
    Ok(keyed.answer(&reply, carts.create(&input), within, render).await?)
}

/// Read a cart
///
/// The cart has the current prices and stock, and reports what has changed since the shopper last confirmed the prices.
#[utoipa::path(
    get, path = "/carts/{id}", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:read"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, Shape),
    responses(
        (status = 200, description = "The cart", body = Item<CartView>),
        (
            status = 409, body = ErrorEnvelope,
            description = "CART_EXPIRED, or CART_MERGED with the cart that has its lines now in `details`",
        ),
    )
)]
pub(crate) async fn read(
    reply: Reply,
    Id(id): Id<CartId>,
    CartKey(access): CartKey,
    Query((shape,)): Query<(Shape,)>,
) -> ApiResult {
    let format = reply.only_format::<PricedCart>(&shape)?;
    reply.private(&reply.shop().carts().get(id, &access).await?, &format)
}

/// Change a cart
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/carts/{id}", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, IfMatchHeader, Numbers),
    request_body = CartPatch, responses((status = 200, description = "The changed cart", body = Item<CartView>))
)]
pub(crate) async fn patch(
    w: Write<CartId>,
    CartKey(access): CartKey,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<CartPatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().carts().patch(w.id, &access, read, patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// Delete a cart
///
/// The cart and its lines are deleted permanently. A cart from which an order was placed is not deleted.
#[utoipa::path(
    delete, path = "/carts/{id}", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, IfMatchHeader, Version),
    responses((status = 204, description = "The cart is deleted"))
)]
pub(crate) async fn delete(
    w: Write<CartId>,
    CartKey(access): CartKey,
    Query((version,)): Query<(Version,)>,
) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().carts().delete(w.id, &access, read).await)?;
    Ok(no_content())
}

/// Add a line to a cart
///
/// If the cart has a line with the same SKU and attributes, the quantities are added. More pieces than are available
/// can be added; the response reports it. The request needs no version; if it names one, it is checked.
#[utoipa::path(
    post, path = "/carts/{id}/lines", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, OptionalIfMatchHeader, Numbers),
    request_body = CartLineInput, responses((status = 200, description = "The cart", body = Item<CartView>))
)]
pub(crate) async fn add_line(
    w: Write<CartId>,
    CartKey(access): CartKey,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(line), keyed }: Post<Json<CartLineInput>>,
) -> ApiResult {
    let read = w.read(None)?;
    let carts = w.shop().carts();
    let within = |mut tx| async { Ok((carts.add_line_in(&mut tx, w.id, &access, read, &line).await?, tx)) };
    let render = |cart: &PricedCart| w.written(cart, &numbers);
    w.done(keyed.answer(&w, carts.add_line(w.id, &access, read, &line), within, render).await)
}

/// Remove all lines of a cart
///
/// The request needs no version; if it names one, it is checked.
#[utoipa::path(
    delete, path = "/carts/{id}/lines", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, OptionalIfMatchHeader, Version, Numbers),
    responses((status = 200, description = "The empty cart", body = Item<CartView>))
)]
pub(crate) async fn clear(
    w: Write<CartId>,
    CartKey(access): CartKey,
    Query((version, numbers)): Query<(Version, Numbers)>,
) -> ApiResult {
    let read = w.read(version.version)?;
    let done = w.shop().carts().clear(w.id, &access, read).await;
    w.written(&w.done(done)?, &numbers)
}

/// Change a line of a cart
///
/// Sets the quantity, confirms the current price, or both. The request needs no version; if it names one, it is
/// checked.
#[utoipa::path(
    patch, path = "/carts/{id}/lines/{line_id}", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, ByLine, CartTokenHeader, OptionalIfMatchHeader, Numbers), request_body = CartLinePatch,
    responses((status = 200, description = "The cart", body = Item<CartView>))
)]
pub(crate) async fn change_line(
    w: Write<CartId>,
    LineId(line): LineId<CartLineId>,
    CartKey(access): CartKey,
    Query((numbers,)): Query<(Numbers,)>,
    Json(patch): Json<CartLinePatch>,
) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().carts().change_line(w.id, &access, read, line, &patch).await;
    w.written(&w.done(done)?, &numbers)
}

/// Remove a line of a cart
///
/// The request needs no version; if it names one, it is checked.
#[utoipa::path(
    delete, path = "/carts/{id}/lines/{line_id}", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, ByLine, CartTokenHeader, OptionalIfMatchHeader, Version, Numbers),
    responses((status = 200, description = "The cart without the line", body = Item<CartView>))
)]
pub(crate) async fn remove_line(
    w: Write<CartId>,
    LineId(line): LineId<CartLineId>,
    CartKey(access): CartKey,
    Query((version, numbers)): Query<(Version, Numbers)>,
) -> ApiResult {
    let read = w.read(version.version)?;
    let done = w.shop().carts().remove_line(w.id, &access, read, line).await;
    w.written(&w.done(done)?, &numbers)
}

/// Merge a guest's cart into another cart
///
/// The other cart takes over the lines and is returned; of equal lines, the greater quantity stays. A repeated request
/// changes nothing (R20). Unless the request has the tokens of both carts, it requires `carts:write`.
#[utoipa::path(
    post, path = "/carts/{id}/merge", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, Numbers), request_body = MergeInput,
    responses((status = 200, description = "The cart that has the lines now", body = Item<CartView>))
)]
pub(crate) async fn merge(
    reply: Reply,
    Id(id): Id<CartId>,
    CartKey(access): CartKey,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<MergeInput>>,
) -> ApiResult {
    let (into, into_access) = (CartId(input.into), input.access());
    let carts = reply.shop().carts();
    let within = |mut tx| async {
        let merged = carts.merge_in(&mut tx, id, &access, into, &into_access).await?;
        Ok((merged, tx))
    };
    let render = |cart: &PricedCart| reply.written(cart, &numbers);
    Ok(keyed.answer(&reply, carts.merge(id, &access, into, &into_access), within, render).await?)
}

/// Assign a guest's cart to a customer
///
/// The cart becomes the customer's, and its token opens it no longer. If the customer has an open cart, the cart is
/// merged into that one, which is returned (R20).
#[utoipa::path(
    post, path = "/carts/{id}/assign", tag = "carts",
    security(("bearer" = ["carts:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, Numbers), request_body = AssignInput,
    responses((status = 200, description = "The cart of the customer", body = Item<CartView>))
)]
pub(crate) async fn assign(
    reply: Reply,
    Id(id): Id<CartId>,
    CartKey(access): CartKey,
    Query((numbers,)): Query<(Numbers,)>,
    Post { body: Json(input), keyed }: Post<Json<AssignInput>>,
) -> ApiResult {
    let (carts, customer) = (reply.shop().carts(), CustomerId(input.customer_id));
    let within = |mut tx| async { Ok((carts.assign_in(&mut tx, id, &access, customer).await?, tx)) };
    let render = |cart: &PricedCart| reply.written(cart, &numbers);
    Ok(keyed.answer(&reply, carts.assign(id, &access, customer), within, render).await?)
}

/// Read the order of a cart
///
/// A guest follows an order by the cart that it was made from.
#[utoipa::path(
    get, path = "/carts/{id}/order", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["orders:read"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader, Shape),
    responses((status = 200, description = "The order of the cart", body = Item<OrderView>), NotModified)
)]
pub(crate) async fn order(
    reply: Reply,
    Id(id): Id<CartId>,
    CartKey(access): CartKey,
    Query((shape,)): Query<(Shape,)>,
) -> ApiResult {
    let format = reply.only_format::<Order>(&shape)?;
    let order = reply.shop().orders().get_by_cart(id, &access).await?;
    reply.personal(&order, &format)
}

/// Check out a cart
///
/// Turns the cart into an order: takes the stock of all lines, or fails with the SKUs of which too little is available.
/// The prices that the shopper last confirmed must be the current ones (R8). A second checkout, even with another body,
/// returns the existing order with status 201 (R20). Some fields require further permissions in any case.
#[utoipa::path(
    post, path = "/carts/{id}/checkout", tag = "carts",
    security(("cart_token" = []), ("bearer" = ["orders:write"]), ("bearer" = ["own"])),
    params(ById, CartTokenHeader), request_body = CheckoutInput,
    responses(
        (status = 201, description = "The order of the cart; `Location` has its path", body = Item<OrderView>),
    )
)]
pub(crate) async fn checkout(
    reply: Reply,
    Id(id): Id<CartId>,
    CartKey(access): CartKey,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<CheckoutInput>>,
) -> ApiResult {
    let orders = reply.shop().orders();
    let frame = reply.clone();
    let render = move |order: &_| frame.created::<Order>(order, &());
    let once = |call| orders.checkout_once(id, &access, &input, call);
    Ok(keyed.answer_once(orders.checkout(id, &access, &input), once, render).await?)
}
