//! A storefront on the embedded library: `cargo run --release --example storefront`.
//!
//! It serves the pages of a shop: categories, search, products, the cart, the checkout and orders. It uses the services
//! of the library directly, and works without JavaScript. It has the settings of the reference server
//! (`ecom::config`), and thereby its data: both can run at the same time, and an order that is placed here arrives
//! there. It listens on 127.0.0.1:8080, or on the address that the last argument names. An empty shop gets the sample
//! catalog, unless the first argument is `--no-sample`.
//!
//! `pages.rs` has the pages of the catalog, `cart.rs` the cart and the checkout, `order.rs` the orders. `view.rs` makes
//! the values that the templates show, and `web.rs` reads cookies and forms and turns errors into pages.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use ecom::access::Principal;
use ecom::catalog::{ImportOptions, MediaFile, ProductListQuery};
use ecom::config::ServerConfig;
use ecom::http::RateLimits;
use ecom::paging::Paging;
use ecom::port::{Quota, RateKey};
use ecom::sales::{CartState, PricedCart};
use ecom::{ActingShop, Shop};
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;
use tokio::net::TcpListener;

use crate::view::Link;
use crate::web::{CART, CartKey, Failure};

mod cart;
mod order;
mod pages;
#[path = "../server/pictures.rs"]
mod pictures;
mod view;
mod web;

type AnyError = Box<dyn Error + Send + Sync>;

const SAMPLE_CATEGORIES: &str = include_str!("../../sample/categories.json");
const SAMPLE_PRODUCTS: &str = include_str!("../../sample/products.ndjson");

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/script.js");
const ICON: &str = include_str!("assets/icon.svg");

/// The templates. Those whose names end in `.html` escape what they show.
const TEMPLATES: [(&str, &str); 13] = [
    ("layout.html", include_str!("templates/layout.html")),
    ("card.html", include_str!("templates/card.html")),
    ("field.html", include_str!("templates/field.html")),
    ("filters.html", include_str!("templates/filters.html")),
    ("home.html", include_str!("templates/home.html")),
    ("list.html", include_str!("templates/list.html")),
    ("suggest.html", include_str!("templates/suggest.html")),
    ("product.html", include_str!("templates/product.html")),
    ("cart.html", include_str!("templates/cart.html")),
    ("checkout.html", include_str!("templates/checkout.html")),
    ("order.html", include_str!("templates/order.html")),
    ("find_order.html", include_str!("templates/find_order.html")),
    ("error.html", include_str!("templates/error.html")),
];

/// Headers of every response. Pages load nothing from other hosts, so the pictures of products must be served by this
/// host, too. A shop with pictures on another host adds it to `img-src`.
const SECURITY: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    // Browsers send `Origin: null` with forms if the policy is `no-referrer`.
    ("referrer-policy", "same-origin"),
];

/// The largest form, in bytes: the one with the new prices of a cart of 500 lines has some 30 KiB.
const BODY_LIMIT: usize = 64 * 1024;
/// How many forms an address may send.
const FORMS: Quota = Quota::new(120, Duration::from_secs(60));

/// What all requests share.
struct Storefront {
    shop: Shop,
    /// The shopper, who needs no permissions: the catalog is public, and the token of a cart opens the cart.
    shopper: Principal,
    /// Finds the client by whose address forms are counted; `None` if rate limits are off.
    limits: Option<RateLimits>,
    templates: Environment<'static>,
    /// Whether browsers reach the storefront over TLS, so that they send the cookies over TLS only.
    is_secure: bool,
}

/// The argument of handlers with what all requests share.
type Site = State<Arc<Storefront>>;

/// What the frame around every page shows.
#[derive(Serialize)]
struct Layout {
    name: String,
    sections: Vec<Link>,
    /// How many pieces the cart has.
    pieces: i64,
}

/// What an error page shows.
#[derive(Serialize)]
struct ErrorPage {
    message: &'static str,
}

impl Storefront {
    fn new(shop: Shop, limits: Option<RateLimits>) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, source) in TEMPLATES {
            templates.add_template(name, source)?;
        }
        let is_secure = shop.config().public_url.starts_with("https://");
        Ok(Self { shop, shopper: Principal::new("guest", []), limits, templates, is_secure })
    }

    /// Returns the services of the shop for a shopper.
    fn browser(&self) -> ActingShop<'_> {
        self.shop.acting_as(&self.shopper)
    }

    /// Returns the open cart of the request, with current prices and stock.
    async fn cart(&self, headers: &HeaderMap) -> Result<Option<(CartKey, PricedCart)>, Failure> {
        let Some(key) = CartKey::read(headers, CART) else { return Ok(None) };
        match self.browser().carts().get(key.id, &key.access).await {
            Ok(cart) if cart.cart.state == CartState::Open => Ok(Some((key, cart))),
            Ok(_) => Ok(None),
            Err(error) if web::is_gone(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renders a page in the frame of all pages.
    async fn page(
        &self,
        template: &str,
        headers: &HeaderMap,
        content: impl Serialize,
    ) -> Result<Html<String>, Failure> {
        let content = Value::from(Serde(content));
        let tree = self.browser().categories().tree().await?.value;
        let cart = self.cart(headers).await?;
        let layout = Layout {
            name: self.shop.config().shop_name.clone(),
            sections: tree.iter().filter(|c| c.parent_id.is_none()).map(Link::to_category).collect(),
            pieces: cart.map_or(0, |(_, cart)| cart.lines.iter().map(|line| line.line.quantity).sum()),
        };
        self.render(template, context! { layout => Serde(layout), page => content })
    }

    fn render(&self, template: &str, values: Value) -> Result<Html<String>, Failure> {
        Ok(Html(self.templates.get_template(template)?.render(values)?))
    }

    /// Returns the page that tells the shopper what went wrong.
    async fn failed(&self, failure: &Failure, headers: &HeaderMap) -> Response {
        match self.page("error.html", headers, ErrorPage { message: failure.message }).await {
            Ok(page) => (failure.status, page).into_response(),
            // The frame needs the database, too.
            Err(_) => (failure.status, failure.message).into_response(),
        }
    }

    /// Refuses forms of other sites, and too many forms of one client.
    async fn admit(&self, is_own_form: bool, peer: Option<IpAddr>, headers: &HeaderMap) -> Result<(), Failure> {
        if !is_own_form {
            return Err(Failure::foreign_form());
        }
        match peer {
            Some(peer) => self.count_client("storefront.form", peer, headers, FORMS).await,
            None => Ok(()),
        }
    }

    /// Counts a call of a client, and refuses it if there are too many. As in the reference server,
    /// `ECOM_TRUSTED_PROXIES` names the proxies whose header with the address of the client is trusted, and
    /// `ECOM_RATE_LIMIT=off` turns the limit off.
    async fn count_client(&self, kind: &str, peer: IpAddr, headers: &HeaderMap, quota: Quota) -> Result<(), Failure> {
        match &self.limits {
            Some(limits) => self.count(limits.client_key(kind, peer, headers), quota).await,
            None => Ok(()),
        }
    }

    /// Counts a call, and refuses it if there are too many.
    async fn count(&self, key: RateKey, quota: Quota) -> Result<(), Failure> {
        Ok(self.shop.rate_limiter().check(key, quota).await.into_result()?)
    }
}

/// Checks forms before they are handled, and completes every response.
async fn around(State(site): Site, request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let is_own_form = web::is_own_form(&headers, request.uri());
    let admitted = if request.method().is_safe() { Ok(()) } else { site.admit(is_own_form, peer, &headers).await };
    let mut response = match admitted {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        response = site.failed(&failure, &headers).await;
    }
    for (name, value) in SECURITY {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Pages show the cart of one shopper.
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-store"));
    response
}

/// Returns the response with a file that is compiled in.
fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=300")], text)
}

/// A file of an uploaded image, at the URL that products name by default. A file with a name never changes.
async fn media(State(site): Site, Path(name): Path<String>) -> Result<Response, Failure> {
    let file = MediaFile::parse(&name).ok_or_else(Failure::no_page)?;
    let found = match site.browser().media().read(&file).await {
        // The shop takes no uploads.
        Err(ecom::Error::Unsupported { .. }) => None,
        found => found?,
    };
    let content = found.ok_or_else(Failure::no_page)?;
    let kind = file.format().content_type();
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")], content).into_response())
}

fn router(site: Arc<Storefront>) -> Router {
    Router::new()
        .route("/", get(pages::home))
        .route("/c/{slug}", get(pages::category))
        .route("/search", get(pages::search))
        .route("/suggest", get(pages::suggest))
        .route("/p/{slug}", get(pages::product))
        .route("/cart", get(cart::show).post(cart::add))
        .route("/cart/prices", post(cart::accept_prices))
        .route("/cart/{line}", post(cart::change))
        .route("/checkout", get(cart::checkout).post(cart::place))
        .route("/order", get(order::ask).post(order::find))
        .route("/order/{cart}", get(order::show))
        .route("/media/{*file}", get(media))
        .route("/assets/style.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/script.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/assets/icon.svg", get(|| async { asset("image/svg+xml", ICON) }))
        .fallback(|| async { Failure::no_page() })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(site.clone(), around))
        .with_state(site)
        // The pictures of the sample.
        .merge(pictures::router())
}

/// Loads the sample catalog into a shop without products.
async fn load_sample(shop: &Shop) -> ecom::Result<()> {
    let first = ProductListQuery { paging: Paging::first(1), ..ProductListQuery::default() };
    if !shop.products().list(&first).await?.value.page.items.is_empty() {
        return Ok(());
    }
    let options = || ImportOptions::default().source("sample");
    shop.import().categories(SAMPLE_CATEGORIES.as_bytes(), options(), |_| {}).await?;
    shop.import().products(SAMPLE_PRODUCTS.as_bytes(), options(), |_| {}).await?;
    // The background work does this continuously; here, the first page is complete at once.
    shop.index().catch_up().await?;
    Ok(())
}

async fn run() -> Result<(), AnyError> {
    let config = ServerConfig::load()?;
    // Dropped at the end, which writes the lines that still wait.
    let _log = ecom::logging::start(&config.log, config.traces.as_ref())?;
    let mut arguments = std::env::args().skip(1).peekable();
    let wants_sample = arguments.next_if(|argument| argument == "--no-sample").is_none();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("cannot listen on {address}: {e}"))?;
    let shop = config.shop_builder().build().await?;
    if wants_sample {
        load_sample(&shop).await?;
    }
    let background = shop.start();
    let site = Arc::new(Storefront::new(shop.clone(), config.http.rate_limits.clone())?);
    println!("the storefront listens on http://{}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    ecom::http::serve(listener, router(site), config.serve.clone(), interrupted).await;
    background.shutdown().await;
    shop.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    Box::pin(run()).await
}
