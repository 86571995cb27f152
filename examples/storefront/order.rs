//! The confirmation of an order, and the page that finds an order again.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use ecom::Error;
use ecom::common::IncludeDeleted;
use ecom::id::OrderId;
use ecom::money::Money;
use ecom::port::{Quota, RateKey};
use ecom::sales::{DeliveryMethod, Order, OrderStatus};
use serde::Serialize;

use crate::Site;
use crate::view::{options, price};
use crate::web::{CartKey, Failure, Fields, ORDER};

/// How often an address may try to find an order, and how often one order may be tried. Order numbers are counted up,
/// so that the email address is what others must not guess.
const TRIES: Quota = Quota::new(10, Duration::from_secs(600));

#[derive(Serialize)]
struct Row {
    title: String,
    options: String,
    quantity: i64,
    canceled: i64,
    price: String,
    total: String,
}

#[derive(Serialize)]
struct OrderPage {
    number: String,
    status: &'static str,
    is_new: bool,
    placed_on: String,
    delivery: String,
    email: Option<String>,
    tracking: Option<String>,
    rows: Vec<Row>,
    subtotal: String,
    shipping: Option<String>,
    discount: Option<String>,
    tax: Option<String>,
    total: String,
}

#[derive(Serialize)]
struct FindPage {
    /// The order that the link of a mail names; the form then asks for the email address only.
    id: String,
    number: String,
    email: String,
    is_unknown: bool,
}

impl OrderPage {
    fn of(order: &Order, is_new: bool) -> Self {
        let totals = &order.totals;
        let above_zero = |money: Money| (money.minor() > 0).then(|| price(money));
        let city = order.shipping_address.as_ref().map_or("your address", |address| address.city.as_str());
        Self {
            number: order.number.clone(),
            status: match order.status {
                OrderStatus::Pending => "We have received your order.",
                OrderStatus::InProgress => "We are preparing your order.",
                OrderStatus::Delivered => "Your order was delivered.",
                OrderStatus::Canceled => "Your order was canceled.",
            },
            is_new,
            placed_on: order.placed_at.format("%-d %B %Y").to_string(),
            delivery: match order.delivery_method {
                DeliveryMethod::HomeDelivery => format!("Delivery to {city}"),
                DeliveryMethod::DriveThru | DeliveryMethod::OnHand => "You collect it in the shop".to_owned(),
            },
            email: order.buyer.email.clone(),
            tracking: order.tracking.clone(),
            rows: order
                .lines
                .iter()
                .filter(|line| line.quantity > 0)
                .map(|line| Row {
                    title: line.title.clone(),
                    options: options(&line.options),
                    quantity: line.quantity,
                    canceled: line.canceled,
                    price: price(line.unit_price),
                    total: price(line.totals.total),
                })
                .collect(),
            subtotal: price(totals.subtotal),
            shipping: above_zero(totals.shipping),
            discount: above_zero(totals.discount),
            tax: above_zero(totals.tax_added),
            total: price(totals.total),
        }
    }
}

/// The confirmation of the last order, which only the browser with the cookie of its cart can see.
pub async fn show(State(site): Site, Path(cart): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let Some(key) = CartKey::read(&headers, ORDER).filter(|key| key.id.to_string() == cart) else {
        return Ok(Redirect::to("/order").into_response());
    };
    let order = site.browser().orders().get_by_cart(key.id, &key.access).await?;
    Ok(site.page("order.html", &headers, OrderPage::of(&order, true)).await?.into_response())
}

/// The form that finds an order. Mails of the shop lead here, with the id of the order.
pub async fn ask(State(site): Site, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let id = fields.get("id").parse::<OrderId>().map(|id| id.to_string()).unwrap_or_default();
    let page = FindPage { id, number: String::new(), email: String::new(), is_unknown: false };
    site.page("find_order.html", &headers, page).await
}

/// Shows an order to a shopper who knows its number, or has its mail, and knows the email address of the buyer. A wrong
/// number and a wrong address have the same response.
pub async fn find(
    State(site): Site,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let form = Fields::of(&body);
    let (id, number, email) = (form.get("id"), form.get("number"), form.get("email"));
    site.count_client("storefront.find", peer.ip(), &headers, TRIES).await?;
    let named = id.parse::<OrderId>();
    // Only what leads to the order, so that a try with another value in the other field counts for the same order.
    let order = named.as_ref().map_or_else(|_| number.to_lowercase(), OrderId::to_string);
    site.count(RateKey::new("storefront.find.order", order.as_bytes()), TRIES).await?;
    // A guest has no permission to read orders by number. The storefront, which has it, compares the address.
    let orders = site.shop.orders();
    let found = match named {
        Ok(id) => orders.get(id, IncludeDeleted::No).await,
        Err(_) => orders.get_by_number(number, IncludeDeleted::No).await,
    };
    let order = match found {
        Ok(order) => Some(order),
        Err(Error::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let is_of = |order: &Order| order.buyer.email.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(email));
    if let Some(order) = order.filter(is_of) {
        return Ok(site.page("order.html", &headers, OrderPage::of(&order, false)).await?.into_response());
    }
    let page = FindPage { id: id.to_owned(), number: number.to_owned(), email: email.to_owned(), is_unknown: true };
    Ok((StatusCode::NOT_FOUND, site.page("find_order.html", &headers, page).await?).into_response())
}
