//! The documentation: the OpenAPI document, two pages that show it, and the links at the root.

use std::io::Read as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use utoipa_swagger_ui::Config;

use crate::app::App;
use crate::dto::{JSON, json as respond};
use crate::error::{ApiError, ApiResult};
use crate::extract::RequestTarget;
use crate::headers::public;
use crate::openapi::Text;

/// The pages load nothing from another host.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// List the links of the API
///
/// The links lead to the operations, to the documentation and to the resources.
#[utoipa::path(
    get, path = "/", tag = "operations", security(()),
    responses(
        (status = 200, description = "The release, the currency of the shop, and the links", body = Object),
    )
)]
pub(super) async fn root(State(app): State<Arc<App>>, here: RequestTarget) -> ApiResult {
    let (base, api) = (here.base(), app.config.api_prefix.as_str());
    let mut links = Map::new();
    links.insert("self".to_owned(), Value::String(if base.is_empty() { "/".to_owned() } else { base.to_owned() }));
    for (name, path) in super::links() {
        let path = format!("{api}{path}");
        if app.admission.has(&path) {
            links.insert(name.to_owned(), Value::String(format!("{base}{path}")));
        }
    }
    for (name, path) in [
        ("health", "/health"),
        ("live", "/health/live"),
        ("ready", "/health/ready"),
        ("openapi", "/openapi.json"),
        ("docs", "/docs"),
        ("redoc", "/redoc"),
    ] {
        links.insert(name.to_owned(), Value::String(format!("{base}{path}")));
    }
    #[cfg(feature = "metrics")]
    if app.config.metrics != crate::MetricsAccess::Off {
        links.insert("metrics".to_owned(), Value::String(format!("{base}/metrics")));
    }
    if cfg!(feature = "admin") && app.config.admin_page {
        links.insert("admin".to_owned(), Value::String(format!("{base}/admin")));
    }
    let data = json!({"name": "ecom", "version": env!("CARGO_PKG_VERSION"), "currency": app.shop.config().currency});
    Ok(public(respond(StatusCode::OK, &json!({"data": data, "meta": {}, "links": links}))?, None, None))
}

/// Returns the routes of the document and of the pages that show it.
pub(crate) fn pages(document: Arc<Text>) -> Router<Arc<App>> {
    let at_root: Bytes = document.at("").into();
    let redoc: Bytes = redoc().into();
    // The URL is relative, so that it is also valid if the router is nested.
    let swagger = Arc::new(Config::from("../openapi.json"));
    let index = swagger.clone();
    Router::new()
        .route(
            "/openapi.json",
            get(async move |here: RequestTarget| {
                // The links of the document begin with the path at which the router is nested.
                let json = if here.base().is_empty() { at_root.clone() } else { document.at(here.base()).into() };
                public(([(CONTENT_TYPE, JSON)], json).into_response(), None, None)
            }),
        )
        .route("/redoc", get(move || async move { page(HTML, redoc) }))
        .route("/redoc/", get(|| async { moved("../redoc") }))
        .route("/docs", get(|here: RequestTarget| async move { moved(&format!("{}/docs/", here.base())) }))
        .route("/docs/", get(move || async move { file("", index) }))
        .route("/docs/{*file}", get(move |Path(path): Path<String>| async move { file(&path, swagger) }))
}

fn redoc() -> String {
    // The bundle loads one picture from another host, which the policy of the page refuses.
    aide::redoc::Redoc::new("openapi.json")
        .with_title("ecom")
        .html()
        .replace("https://cdn.redoc.ly/redoc/logo-mini.svg", "data:,")
}

fn page(kind: HeaderValue, body: Bytes) -> Response {
    let mut response = ([(CONTENT_TYPE, kind)], body).into_response();
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    public(response, None, None)
}

/// Returns the redirect to another path.
pub(super) fn moved(to: &str) -> Response {
    let mut response = StatusCode::PERMANENT_REDIRECT.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn file(path: &str, config: Arc<Config<'static>>) -> Response {
    let internal = |why: String| ApiError::from(ecom_core::Error::internal("serving the documentation", why));
    let file = match utoipa_swagger_ui::serve(path, config) {
        Ok(Some(file)) => file,
        Ok(None) => return ApiError::of_status(StatusCode::NOT_FOUND).into_response(),
        Err(why) => return internal(why.to_string()).into_response(),
    };
    let kind = HeaderValue::from_str(&file.content_type).unwrap_or(HTML);
    // The program contains compressed files, but not every client accepts them.
    if !file.gzpipped {
        return page(kind, file.bytes.into_owned().into());
    }
    let mut content = Vec::new();
    match GzDecoder::new(&*file.bytes).read_to_end(&mut content) {
        Ok(_) => page(kind, content.into()),
        Err(why) => internal(why.to_string()).into_response(),
    }
}
