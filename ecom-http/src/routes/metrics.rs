//! The route of the metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse as _;
use ecom_core::access::Permission;
use ecom_core::metrics::{self, Sample};

use crate::app::App;
use crate::error::ApiResult;
use crate::headers::private;
use crate::resource::Reply;

/// The text format of Prometheus.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Read the metrics
///
/// The metrics of the process and of the shop, in the text format of Prometheus. The dependencies, the outbox, the
/// index, the jobs and the webhooks are read at most every five seconds.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", security(("bearer" = ["jobs:read"])),
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(reply: Reply) -> ApiResult {
    reply.shop().principal().require(Permission::JobsRead)?;
    page(&reply.app).await
}

/// Read the metrics
///
/// The metrics of the process and of the shop, in the text format of Prometheus. The dependencies, the outbox, the
/// index, the jobs and the webhooks are read at most every five seconds.
#[utoipa::path(
    get, path = "/metrics", tag = "operations", security(()),
    responses((status = 200, description = "The metrics", content_type = "text/plain", body = String))
)]
pub(super) async fn open_metrics(State(app): State<Arc<App>>) -> ApiResult {
    page(&app).await
}

async fn page(app: &App) -> ApiResult {
    let text = app.page.text(&app.shop, samples(app)).await?;
    Ok(private(([(CONTENT_TYPE, TEXT)], text).into_response(), None))
}

/// Returns the samples of the server itself.
fn samples(app: &App) -> Vec<Sample> {
    let (config, places) = (&app.config, app.places.available_permits());
    let clients = config.live_clients.saturating_sub(app.live.available_permits());
    vec![
        Sample::of(metrics::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1),
        Sample::of(metrics::HTTP_REQUESTS_IN_FLIGHT, &[], config.max_requests.saturating_sub(places) as u64),
        Sample::of(metrics::LIVE_CLIENTS, &[], clients as u64),
    ]
}
