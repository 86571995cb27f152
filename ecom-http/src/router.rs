//! The router and its settings.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, OriginalUri, Request};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use ecom_core::Shop;
use tower::ServiceExt as _;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::admission::Admission;
use crate::app::{App, HttpConfig};
use crate::error::ApiError;
use crate::headers::X_LAST_EVENT_ID;
use crate::idempotency::IDEMPOTENCY_REPLAYED;
use crate::metrics::{Rerouted, UNKNOWN};
use crate::middleware::{FrontLayer, X_RATELIMIT_LIMIT, X_RATELIMIT_REMAINING, X_RATELIMIT_RESET};
use crate::{openapi, routes};

/// Returns the REST API of a shop, as a router that an application serves, nests or merges.
///
/// The paths of the API begin with [`HttpConfig::api_prefix`]. Unless [`HttpConfig::root_routes`] is false, the router
/// also has `/health`, `/health/live`, `/health/ready`, `/openapi.json`, `/docs`, `/redoc`, `/metrics` if the settings
/// turn it on, `/admin` with the feature `admin`, `/`, which links to all others, and `/media/…`, which serves the
/// files of uploaded images.
///
/// If the router is nested, its links, and the `servers` of its OpenAPI document, begin with the path at which it is
/// nested:
///
/// ```no_run
/// # fn app(shop: ecom_core::Shop) -> axum::Router {
/// use axum::Router;
/// use axum::routing::get;
/// use ecom_http::{HttpConfig, router};
///
/// Router::new()
///     .route("/health", get(|| async { "mine" }))
///     .nest("/shop", router(shop, HttpConfig::default()))
/// # }
/// ```
///
/// [`HttpConfig::route_groups`] leaves out routes, so that areas of the shop can run as services of their own, each
/// with a part of the API over the same database:
///
/// ```no_run
/// # fn app(shop: ecom_core::Shop) -> axum::Router {
/// # use ecom_http::{HttpConfig, RouteGroup, router};
/// router(shop, HttpConfig::default().route_groups(vec![RouteGroup::CATALOG, RouteGroup::SEARCH]))
/// # }
/// ```
///
/// Requests without a [`Principal`](ecom_core::access::Principal) in their extensions act as
/// [`HttpConfig::anonymous`], which by default has no permissions.
///
/// axum serves a router that is nested at `/shop` at `/shop`, and not at `/shop/`; below that, a trailing slash makes
/// no difference. The router can be nested at several paths, but only once at each; otherwise axum panics with a
/// message that names the path.
///
/// If the router is merged into another one, axum panics if both have the same path. Without the root routes, the
/// router answers all paths below the prefix and no others, and it has no fallback unless the prefix is empty:
///
/// ```no_run
/// # fn app(shop: ecom_core::Shop) -> axum::Router {
/// # use axum::Router;
/// # use axum::routing::get;
/// # use ecom_http::{HttpConfig, router};
/// Router::new()
///     .route("/health", get(|| async { "mine" }))
///     .fallback(|| async { "nothing here" })
///     .merge(router(shop, HttpConfig::default().root_routes(false)))
/// # }
/// ```
pub fn router(shop: Shop, config: HttpConfig) -> Router {
    let config = config.bounded();
    let (routes, document) = documented(&config).split_for_parts();
    let app = Arc::new(App::new(shop, config, Admission::of(&document)));
    let root_routes = app.config.root_routes;
    let routes = if root_routes {
        let pages = routes::docs::pages(openapi::Text::of(document, &app.config).into());
        routes.merge(pages).merge(routes::catalog::media::files())
    } else {
        routes
    };
    #[cfg(feature = "admin")]
    let routes = if root_routes && app.config.admin_page { routes.merge(routes::admin::pages()) } else { routes };
    let routes = routes.with_state(app.clone());

    // A path that matches no route is routed again without its trailing slash. This does not slow down known paths.
    let again = routes.clone().layer(from_fn(noting_route));
    let unknown = move |request: Request| {
        let again = again.clone();
        async move { without_slash(again, request).await }
    };
    let routes = match app.config.api_prefix.as_str() {
        prefix if !root_routes && !prefix.is_empty() => routes.route(&format!("{prefix}/{UNKNOWN}"), any(unknown)),
        _ => routes.fallback(unknown),
    };
    let routes = routes.layer(FrontLayer(app.clone()));
    if app.config.cors_origins.is_empty() { routes } else { routes.layer(cors(&app.config)) }
}

/// Returns the OpenAPI document of [`router`] as JSON. `base` is the path at which the router is nested, such as
/// `/shop`; it is empty if the router is not nested.
pub fn openapi_json(config: &HttpConfig, base: &str) -> String {
    let config = config.clone().bounded();
    openapi::Text::of(documented(&config).split_for_parts().1, &config).at(base)
}

/// Returns the routes with their documentation.
fn documented(config: &HttpConfig) -> OpenApiRouter<Arc<App>> {
    let mut api = OpenApiRouter::with_openapi(openapi::frame(&config.route_groups));
    if config.root_routes {
        for routes in routes::operational(config) {
            api = api.routes(routes);
        }
    }
    for routes in routes::api(&config.route_groups) {
        api = api.routes(under(&config.api_prefix, routes));
    }
    api
}

/// Adds a prefix to the paths of routes. `Router::nest` would rewrite the URI of every request instead.
fn under(prefix: &str, (schemas, mut paths, methods): UtoipaMethodRouter<Arc<App>>) -> UtoipaMethodRouter<Arc<App>> {
    let own = std::mem::take(&mut paths.paths);
    paths.paths = own.into_iter().map(|(path, item)| (format!("{prefix}{path}"), item)).collect();
    (schemas, paths, methods)
}

/// Adds the route of a request to its response, for the metrics.
async fn noting_route(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(Rerouted(matched));
    }
    response
}

async fn without_slash(routes: Router, mut request: Request) -> Response {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() || trimmed.len() == path.len() {
        return ApiError::of_status(axum::http::StatusCode::NOT_FOUND).into_response();
    }
    let target = request.uri().query().map_or_else(|| trimmed.to_owned(), |q| format!("{trimmed}?{q}"));
    let Ok(uri) = target.parse::<Uri>() else {
        return ApiError::of_status(axum::http::StatusCode::NOT_FOUND).into_response();
    };
    if request.extensions().get::<OriginalUri>().is_none() {
        let original = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(original);
    }
    *request.uri_mut() = uri;
    match routes.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn cors(config: &HttpConfig) -> CorsLayer {
    let origins = &config.cors_origins;
    let allows_all = origins.iter().any(|o| o == "*");
    let allowed = if allows_all {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|o| HeaderValue::from_str(o).ok()))
    };
    // With credentials, `*` is not a wildcard.
    let has_credentials = config.refresh_cookie && !allows_all;
    let headers = if has_credentials { AllowHeaders::mirror_request() } else { AllowHeaders::any() };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_credentials(has_credentials)
        // With CORS, only this layer sets `Vary`; the middleware does not.
        .vary([header::ACCEPT_ENCODING, header::ORIGIN])
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(headers)
        .expose_headers([
            header::ETAG,
            header::LINK,
            header::LOCATION,
            header::RETRY_AFTER,
            IDEMPOTENCY_REPLAYED,
            X_LAST_EVENT_ID,
            X_RATELIMIT_LIMIT,
            X_RATELIMIT_REMAINING,
            X_RATELIMIT_RESET,
            header::HeaderName::from_static("x-cache"),
            header::HeaderName::from_static("x-request-id"),
        ])
        .max_age(Duration::from_secs(600))
}
