//! The cart and the checkout.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use ecom::catalog::Product;
use ecom::common::{Cached, ExpectedVersion};
use ecom::id::{CartLineId, SkuId};
use ecom::money::Money;
use ecom::sales::{
    AddressInput, CartInput, CartLineInput, CartLinePatch, CheckoutInput, DeliveryMethod, GuestInput, PricedCart,
    PricedLine,
};
use ecom::text::Slug;
use ecom::{Error, FieldCode, FieldError};
use serde::Serialize;

use crate::view::{Picture, options, price, tint};
use crate::web::{CART, CartKey, Failure, Fields, ORDER, is_gone, remove};
use crate::{Site, Storefront};

/// The most pieces that a shopper orders of a variant.
const MOST: i64 = 1_000;

/// A line of the cart.
#[derive(Serialize)]
struct Row {
    id: String,
    title: String,
    options: String,
    /// The product; `None` if it is not sold any more.
    href: Option<String>,
    picture: Option<Picture>,
    tint: u32,
    quantity: i64,
    price: String,
    total: Option<String>,
    /// What keeps the line from being ordered, in words.
    problem: Option<String>,
    price_changed: bool,
}

#[derive(Serialize)]
struct CartPage {
    rows: Vec<Row>,
    subtotal: Option<String>,
    /// Whether a price differs from the one that the shopper has seen, so that the shopper must accept it.
    has_new_prices: bool,
    can_order: bool,
    notice: Option<&'static str>,
}

/// A field of the form of the checkout.
#[derive(Serialize)]
struct Input {
    name: &'static str,
    label: &'static str,
    kind: &'static str,
    autocomplete: &'static str,
    is_required: bool,
    value: String,
    error: Option<String>,
    /// The values of a selection, with their names.
    options: &'static [(&'static str, &'static str)],
}

#[derive(Serialize)]
struct CheckoutPage {
    /// The cart, which the form names, so that a second submission finds the order of the first one.
    cart: String,
    rows: Vec<Row>,
    subtotal: Option<String>,
    buyer: Vec<Input>,
    address: Vec<Input>,
    is_pickup: bool,
    has_errors: bool,
}

/// A field: its name, its path in the errors of the library, its label, its type, and its `autocomplete`.
type Spec = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// The fields about the buyer.
const BUYER: [Spec; 4] = [
    ("first_name", "customer.first_name", "First name", "text", "given-name"),
    ("last_name", "customer.last_name", "Last name", "text", "family-name"),
    ("email", "customer.email", "Email address", "email", "email"),
    ("telephone", "customer.telephone", "Telephone (optional)", "tel", "tel"),
];
/// The fields of the address. They have no attribute `required`, because an order that is collected needs no address.
const ADDRESS: [Spec; 6] = [
    ("street", "shipping_address.street", "Street", "text", "address-line1"),
    ("number", "shipping_address.number", "Number", "text", "address-line2"),
    ("postal_code", "shipping_address.postal_code", "Postal code", "text", "postal-code"),
    ("city", "shipping_address.city", "City", "text", "address-level2"),
    ("region", "shipping_address.region", "State (optional)", "text", "address-level1"),
    ("country", "shipping_address.country", "Country", "select", "country"),
];
/// The countries to which the shop delivers.
const COUNTRIES: [(&str, &str); 12] = [
    ("AT", "Austria"),
    ("BE", "Belgium"),
    ("CA", "Canada"),
    ("FR", "France"),
    ("DE", "Germany"),
    ("IE", "Ireland"),
    ("IT", "Italy"),
    ("NL", "Netherlands"),
    ("ES", "Spain"),
    ("CH", "Switzerland"),
    ("GB", "United Kingdom"),
    ("US", "United States"),
];

impl Row {
    fn of(line: &PricedLine, product: Option<&Product>) -> Self {
        let problem = if line.unavailable {
            Some("This is not sold any more. Remove it to order the rest.".to_owned())
        } else if line.insufficient_stock {
            Some(match line.available {
                None | Some(..=0) => "This is sold out. Remove it to order the rest.".to_owned(),
                Some(left) => format!("Only {left} left: choose a smaller quantity."),
            })
        } else if line.price_changed {
            let (before, now) = (price(line.line.seen_price), price(line.unit_price));
            Some(format!("The price has changed from {before} to {now}."))
        } else {
            None
        };
        let image = product.and_then(|product| product.images.first().map(|image| Picture::of(image, product)));
        Self {
            id: line.line.id.to_string(),
            title: line.title.clone(),
            options: options(&line.option_values),
            href: product.map(|product| format!("/p/{}", product.slug)),
            picture: image,
            tint: product.map_or(0, tint),
            quantity: line.line.quantity,
            price: price(line.unit_price),
            total: line.line_total.map(price),
            problem,
            price_changed: line.price_changed,
        }
    }
}

/// Returns whether a cart can be ordered as it is.
fn can_order(cart: &PricedCart) -> bool {
    let is_fine = |line: &PricedLine| !(line.unavailable || line.insufficient_stock || line.price_changed);
    !cart.lines.is_empty() && cart.subtotal.is_some() && cart.lines.iter().all(is_fine)
}

impl Storefront {
    /// Returns the lines of a cart, with links to the products that are still sold.
    async fn rows(&self, cart: &PricedCart) -> Result<Vec<Row>, Failure> {
        let ids: Vec<_> = cart.lines.iter().map(|line| line.product_id).collect();
        let products: Vec<Arc<Cached<Product>>> = self.browser().products().get_many(&ids).await?;
        let product = |line: &PricedLine| products.iter().find(|product| product.id == line.product_id);
        Ok(cart.lines.iter().map(|line| Row::of(line, product(line).map(|product| &***product))).collect())
    }

    /// Adds a line to a cart, or to a new one if there is none that can be used.
    async fn with_line(&self, known: Option<CartKey>, line: CartLineInput) -> ecom::Result<CartKey> {
        let carts = self.browser().carts();
        if let Some(key) = known {
            match carts.add_line(key.id, &key.access, ExpectedVersion::Unspecified, &line).await {
                Ok(_) => return Ok(key),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let created = carts.create(&CartInput::default().line(line)).await?;
        let missing = Error::Internal { context: "a guest's cart has no token", source: None };
        Ok(CartKey::new(created.cart.cart.id, &created.token.ok_or(missing)?))
    }

    /// Returns the page of the checkout, with what the shopper has typed and what is wrong with it.
    async fn checkout_page(
        &self,
        headers: &HeaderMap,
        (key, cart): (&CartKey, &PricedCart),
        form: &Fields,
        errors: &[FieldError],
    ) -> Result<Html<String>, Failure> {
        let page = CheckoutPage {
            cart: key.id.to_string(),
            rows: self.rows(cart).await?,
            subtotal: cart.subtotal.map(price),
            buyer: inputs(&BUYER, form, errors),
            address: inputs(&ADDRESS, form, errors),
            is_pickup: form.get("delivery") == DeliveryMethod::OnHand.as_str(),
            has_errors: !errors.is_empty(),
        };
        self.page("checkout.html", headers, page).await
    }
}

/// Returns what is wrong with a field. The message completes a sentence that begins with the name of the field.
fn in_words(error: &FieldError) -> String {
    if error.code == FieldCode::Required { "This is required.".to_owned() } else { format!("This {}.", error.message) }
}

fn inputs(fields: &[Spec], form: &Fields, errors: &[FieldError]) -> Vec<Input> {
    let input = |&(name, path, label, kind, autocomplete): &Spec| Input {
        name,
        label,
        kind,
        autocomplete,
        is_required: matches!(name, "first_name" | "last_name" | "email"),
        value: form.get(name).to_owned(),
        error: errors.iter().find(|error| error.field == path).map(in_words),
        options: if kind == "select" { &COUNTRIES } else { &[] },
    };
    fields.iter().map(input).collect()
}

pub async fn show(State(site): Site, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Html<String>, Failure> {
    let fields = Fields::of(query.as_deref().unwrap_or_default());
    let cart = site.cart(&headers).await?.map(|(_, cart)| cart);
    let rows = match &cart {
        Some(cart) => site.rows(cart).await?,
        None => Vec::new(),
    };
    let page = CartPage {
        has_new_prices: rows.iter().any(|row| row.price_changed),
        can_order: cart.as_ref().is_some_and(can_order),
        subtotal: cart.and_then(|cart| cart.subtotal).map(price),
        rows,
        notice: match fields.get("notice") {
            "added" => Some("Added to your cart."),
            "changed" => Some("Something in your cart has changed. Please look at it again before you order."),
            _ => None,
        },
    };
    site.page("cart.html", &headers, page).await
}

/// Adds the variant that the form names, at the price that its page has shown.
pub async fn add(State(site): Site, headers: HeaderMap, body: String) -> Result<Response, Failure> {
    let form = Fields::of(&body);
    // A slug has no character that could lead to another site.
    let slug = Slug::parse(form.get("product")).map_err(|_| Failure::no_page())?;
    let back = |notice: &str| Redirect::to(&format!("/p/{slug}?notice={notice}")).into_response();
    let sku = form.get("sku");
    let seen = form.get(&format!("price-{sku}")).parse::<Money>();
    let (Ok(sku), Ok(seen)) = (sku.parse::<SkuId>(), seen) else { return Ok(back("unavailable")) };
    let quantity = form.get("quantity").parse().unwrap_or(1_i64).clamp(1, MOST);
    let line = CartLineInput::new(sku, quantity, seen);
    match site.with_line(CartKey::read(&headers, CART), line).await {
        Ok(key) => {
            Ok((AppendHeaders([key.set(CART, site.is_secure)]), Redirect::to("/cart?notice=added")).into_response())
        }
        Err(Error::Conflict(_)) => Ok(back("price")),
        Err(Error::Validation(_)) => Ok(back("unavailable")),
        Err(error) => Err(error.into()),
    }
}

/// Sets the quantity of a line; 0 removes it.
pub async fn change(
    State(site): Site,
    Path(line): Path<CartLineId>,
    headers: HeaderMap,
    body: String,
) -> Result<Redirect, Failure> {
    let Some(key) = CartKey::read(&headers, CART) else { return Ok(Redirect::to("/cart?notice=changed")) };
    let carts = site.browser().carts();
    let any = ExpectedVersion::Unspecified;
    let changed = match Fields::of(&body).get("quantity").parse::<i64>() {
        Ok(0) => carts.remove_line(key.id, &key.access, any, line).await,
        Ok(quantity) => {
            let patch = CartLinePatch::quantity(quantity.clamp(1, MOST));
            carts.change_line(key.id, &key.access, any, line, &patch).await
        }
        Err(_) => return Ok(Redirect::to("/cart")),
    };
    match changed {
        Ok(_) => Ok(Redirect::to("/cart")),
        // The line or the cart is gone, or the sum would be too large: the page shows the cart as it is.
        Err(Error::NotFound { .. } | Error::Conflict(_) | Error::Validation(_)) => {
            Ok(Redirect::to("/cart?notice=changed"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Accepts the new prices that the page of the cart has shown. If a price has changed again, the shopper sees the cart
/// once more.
pub async fn accept_prices(State(site): Site, headers: HeaderMap) -> Result<Redirect, Failure> {
    let Some((key, cart)) = site.cart(&headers).await? else { return Ok(Redirect::to("/cart?notice=changed")) };
    let carts = site.browser().carts();
    let changed: Vec<&PricedLine> = cart.lines.iter().filter(|line| line.price_changed).collect();
    for line in changed {
        let patch = CartLinePatch::confirm(line.unit_price);
        match carts.change_line(key.id, &key.access, ExpectedVersion::Unspecified, line.line.id, &patch).await {
            Ok(_) => {}
            Err(Error::NotFound { .. } | Error::Conflict(_)) => return Ok(Redirect::to("/cart?notice=changed")),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Redirect::to("/cart"))
}

pub async fn checkout(State(site): Site, headers: HeaderMap) -> Result<Response, Failure> {
    match site.cart(&headers).await? {
        Some((key, cart)) if can_order(&cart) => {
            Ok(site.checkout_page(&headers, (&key, &cart), &Fields::default(), &[]).await?.into_response())
        }
        _ => Ok(Redirect::to("/cart?notice=changed").into_response()),
    }
}

/// Places the order of the cart.
///
/// A cart is ordered once (R20): of two submissions of the form, such as those of a double click, the second one gets
/// the order of the first one, so that the cart does what an idempotency key does for other calls. A submission that
/// arrives after the browser has forgotten the cart is recognized by the cart that the form names.
pub async fn place(State(site): Site, headers: HeaderMap, body: String) -> Result<Response, Failure> {
    let form = Fields::of(&body);
    let named = |key: &CartKey| key.id.to_string() == form.get("cart");
    let Some(key) = CartKey::read(&headers, CART).filter(named) else {
        let ordered = CartKey::read(&headers, ORDER).filter(named);
        let to = ordered.map_or_else(|| "/cart?notice=changed".to_owned(), |key| format!("/order/{}", key.id));
        return Ok(Redirect::to(&to).into_response());
    };
    // On the heap, because the future is large.
    let placed = Box::pin(site.browser().orders().checkout(key.id, &key.access, &order_of(&form))).await;
    let errors = match placed {
        Ok(_) => {
            let cookies = AppendHeaders([key.set(ORDER, site.is_secure), remove(CART, site.is_secure)]);
            return Ok((cookies, Redirect::to(&format!("/order/{}", key.id))).into_response());
        }
        Err(Error::Validation(errors)) => errors.0,
        // A price or the stock has changed, or the cart is gone: the page of the cart says which lines are affected.
        Err(Error::Conflict(_) | Error::NotFound { .. }) => {
            return Ok(Redirect::to("/cart?notice=changed").into_response());
        }
        Err(error) => return Err(error.into()),
    };
    let has_field = |error: &FieldError| BUYER.iter().chain(&ADDRESS).any(|field| field.1 == error.field);
    match site.cart(&headers).await? {
        Some((key, cart)) if errors.iter().all(has_field) => {
            let page = site.checkout_page(&headers, (&key, &cart), &form, &errors).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
        }
        _ => Ok(Redirect::to("/cart?notice=changed").into_response()),
    }
}

fn order_of(form: &Fields) -> CheckoutInput {
    let guest = GuestInput {
        telephone: form.filled("telephone"),
        ..GuestInput::new(form.get("first_name"), form.get("last_name"), form.get("email"))
    };
    if form.get("delivery") == DeliveryMethod::OnHand.as_str() {
        return CheckoutInput::for_guest(guest, DeliveryMethod::OnHand);
    }
    let address = AddressInput {
        street: form.get("street").to_owned(),
        number: form.filled("number"),
        city: form.get("city").to_owned(),
        region: form.filled("region"),
        postal_code: form.filled("postal_code"),
        country: form.filled("country"),
        version: None,
    };
    CheckoutInput::for_guest(guest, DeliveryMethod::HomeDelivery).shipping_address(address)
}
