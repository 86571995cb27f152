//! A site with its own routes and its own login, and a shop below `/shop`.

use axum::Router;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use ecom::access::{Permission, Principal};
use ecom::http::{HttpConfig, router};
use ecom::{Shop, ShopBuilder};

/// Opens a shop in memory.
///
/// # Errors
/// Those of the builder.
pub async fn shop() -> ecom::Result<Shop> {
    ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:").build().await
}

/// Returns settings under which a visitor who is not logged in can look at the catalog and change nothing.
pub fn settings() -> HttpConfig {
    HttpConfig::default().access_log(false).authentication(false).anonymous(Principal::new("anonymous", []))
}

/// Puts the principal into the request. A real site would look up its session.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let principal = match request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        Some("Bearer owner") => Some(Principal::trusted("user:owner")),
        Some("Bearer clerk") => Some(Principal::new("user:clerk", [Permission::StockAdjust, Permission::StockRead])),
        _ => None,
    };
    if let Some(principal) = principal {
        request.extensions_mut().insert(principal);
    }
    next.run(request).await
}

/// Returns the site with the shop nested. Both use the same login.
pub fn nested(shop: Shop) -> Router {
    Router::new()
        .route("/", get(|| async { "the site" }))
        .route("/health", get(|| async { "the site is well" }))
        .nest("/shop", router(shop, settings()))
        .layer(from_fn(authenticate))
        .fallback(|| async { "the site has no such page" })
}

/// Returns the same shop nested below two paths.
pub fn twice(shop: Shop) -> Router {
    Router::new().nest("/a", router(shop.clone(), settings())).nest("/b", router(shop, settings()))
}

/// Returns the API merged with the routes of the site, without the operational routes.
pub fn merged(shop: Shop) -> Router {
    Router::new()
        .route("/health", get(|| async { "the site is well" }))
        .fallback(|| async { "the site has no such page" })
        .merge(router(shop, settings().root_routes(false)).layer(from_fn(authenticate)))
}
