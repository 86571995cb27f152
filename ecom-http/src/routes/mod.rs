//! The routes, one file per aggregate.

mod catalog;
pub(crate) mod docs;
mod health;
mod search;
mod stock;

use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ecom_core::common::{DeleteMode, Deleted};
use ecom_core::{FieldCode, Result, ValidationErrors};
use serde::{Deserialize, Deserializer};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use self::catalog::{category, product, sku};
use self::stock::inventory;
use crate::app::App;
use crate::error::ApiResult;

pub(crate) type Routes = Vec<UtoipaMethodRouter<Arc<App>>>;

/// Health and the links at the root.
pub(crate) fn operational() -> Routes {
    vec![routes!(docs::root), routes!(health::health), routes!(health::live), routes!(health::ready)]
}

/// What stands under the prefix.
pub(crate) fn api() -> Routes {
    vec![
        routes!(product::list, product::create),
        routes!(search::search),
        routes!(product::read, product::replace, product::patch, product::delete),
        routes!(product::restore),
        routes!(sku::of_product, sku::create),
        routes!(sku::find),
        routes!(sku::read, sku::replace, sku::patch, sku::delete),
        routes!(sku::restore),
        routes!(inventory::level, inventory::adjust),
        routes!(inventory::movements),
        routes!(category::list, category::create),
        routes!(category::tree),
        routes!(category::read, category::replace, category::patch, category::delete),
        routes!(category::children),
        routes!(category::ancestors),
        routes!(category::move_to),
        routes!(category::restore),
    ]
}

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const HIT: HeaderValue = HeaderValue::from_static("HIT");
const MISS: HeaderValue = HeaderValue::from_static("MISS");
/// Shared caches may keep it and must ask whether it still holds: never older than the shop's own answer.
const PUBLIC: HeaderValue = HeaderValue::from_static("public, no-cache");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

fn cache_word(hit: bool) -> HeaderValue {
    if hit { HIT } else { MISS }
}

/// `"version.revision"`.
fn etag(version: i64, revision: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}.{revision}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0.0\""))
}

/// True where If-None-Match names the tag (weak comparison, RFC 9110).
fn is_known(if_none_match: Option<&HeaderValue>, etag: &HeaderValue) -> bool {
    let Some(said) = if_none_match.and_then(|v| v.to_str().ok()) else { return false };
    let Ok(tag) = etag.to_str() else { return false };
    said.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

fn not_modified(etag: &HeaderValue, hit: bool) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    let headers = response.headers_mut();
    headers.insert(ETAG, etag.clone());
    headers.insert(CACHE_CONTROL, PUBLIC);
    headers.insert(X_CACHE, cache_word(hit));
    response
}

/// The headers of a public read.
fn public(mut response: Response, etag: Option<HeaderValue>, hit: Option<bool>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, PUBLIC);
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    if let Some(hit) = hit {
        headers.insert(X_CACHE, cache_word(hit));
    }
    response
}

/// An answer that is not for shared caches: of a write, of stock, with soft-deleted rows.
fn private(mut response: Response, etag: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, PRIVATE);
    if let Some(etag) = etag {
        headers.insert(ETAG, etag);
    }
    response
}

/// A read with its tag, or 304 where the client has it.
fn conditional(
    headers: &HeaderMap,
    tag: HeaderValue,
    hit: Option<bool>,
    body: impl FnOnce() -> ApiResult,
) -> ApiResult {
    if is_known(headers.get(IF_NONE_MATCH), &tag) {
        return Ok(not_modified(&tag, hit.unwrap_or(false)));
    }
    Ok(public(body()?, Some(tag), hit))
}

fn located(mut response: Response, path: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn deleted(include: Option<bool>) -> Deleted {
    if include == Some(true) { Deleted::Include } else { Deleted::Hide }
}

/// A parameter that means something also where it is empty (`cursor=`).
fn present<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    String::deserialize(d).map(Some)
}

/// The word of a parameter as a value; those that there are stand in the error.
fn word<T: Copy>(
    field: &str,
    said: Option<&str>,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    errors: &mut ValidationErrors,
) -> Option<T> {
    let said = said?;
    let found = all.iter().copied().find(|v| name(*v) == said);
    if found.is_none() {
        let names: Vec<&str> = all.iter().map(|v| name(*v)).collect();
        errors.out_of_bounds(field, format!("must be one of {}", names.join(", ")));
    }
    found
}

/// The parameters of one resource.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadParams {
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
    /// Also where it is soft-deleted (by id only).
    #[serde(default)]
    include_deleted: Option<bool>,
}

/// The parameters of a write that has no body, or whose body is the resource.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WriteParams {
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    version: Option<i64>,
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

/// The parameters of a write with a body.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BodyParams {
    /// Prices and measures as JSON numbers in place of strings.
    #[serde(default)]
    numbers: Option<bool>,
}

/// The parameters of a delete.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// For good, where nothing refers to it (R4, R5).
    #[serde(default)]
    force: Option<bool>,
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    version: Option<i64>,
}

impl DeleteParams {
    const fn mode(&self) -> DeleteMode {
        match self.force {
            Some(true) => DeleteMode::Force,
            _ => DeleteMode::Soft,
        }
    }
}

/// An exact price of a filter, in minor units; what is wrong is pushed to `errors`.
fn price(
    field: &str,
    said: Option<&str>,
    currency: ecom_core::money::Currency,
    errors: &mut ValidationErrors,
) -> Option<i64> {
    match ecom_core::money::ExactDecimal::parse(said?) {
        Ok(d) => ecom_core::money::price_of(d, currency, field, errors).map(ecom_core::money::Money::minor),
        Err(why) => {
            errors.push(field, FieldCode::Malformed, why);
            None
        }
    }
}

/// Both bounds of a filter by price.
fn prices(
    min: Option<&str>,
    max: Option<&str>,
    currency: ecom_core::money::Currency,
    errors: &mut ValidationErrors,
) -> (Option<i64>, Option<i64>) {
    let min = price("min_price", min, currency, errors);
    let max = price("max_price", max, currency, errors);
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        errors.push("min_price", FieldCode::Inconsistent, "is above max_price");
    }
    (min, max)
}
