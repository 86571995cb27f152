//! Routes of health, for people and for probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use ecom_core::Health;
use serde::Serialize;

use crate::app::App;
use crate::dto::json;
use crate::error::ApiResult;
use crate::headers::private;

/// How long a dependency may take to respond before it counts as down.
const LIMIT: Duration = Duration::from_secs(2);

/// The health of the shop.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HealthView {
    /// `healthy`; `degraded` if another dependency than the database is down; `unhealthy` if the database is
    /// down.
    #[schema(example = "healthy")]
    status: &'static str,
    /// The release of the server.
    version: &'static str,
    /// When the health was checked (RFC 3339, UTC).
    timestamp: DateTime<Utc>,
    /// The health of each dependency: `database`, `search`, `search_fallback` if the shop has one, `cache`,
    /// `rate_limiter` if several processes share one, and `media` if the shop takes uploads of images.
    dependencies: BTreeMap<String, DependencyView>,
    /// The pool of database connections.
    pool: PoolView,
    /// The use of the cache since the start of the process.
    cache: CacheView,
    /// The number of searches that the fallback has answered since the start of the process.
    searches_by_fallback: u64,
}

/// The health of a dependency.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DependencyView {
    /// `up` or `down`.
    #[schema(example = "up")]
    status: &'static str,
    /// The name of the adapter.
    #[schema(example = "sqlite")]
    adapter: &'static str,
    /// How long the dependency took to respond, in milliseconds, rounded to 0.01.
    latency_ms: f64,
    /// Why the server of the dependency is refused, although it responds, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

/// A pool of connections.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PoolView {
    /// The maximum number of connections.
    max: usize,
    /// The number of open connections.
    size: usize,
    /// The number of open connections that are idle.
    idle: usize,
    /// The number of open connections that are in use.
    in_use: usize,
    /// The number of callers that wait for a connection.
    waiting: usize,
    /// The share of the maximum number of connections that is in use, 0 to 1.
    utilization: f64,
}

/// The use of the cache.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CacheView {
    /// The number of reads that found a value.
    hits: u64,
    /// The number of reads that did not find a value.
    misses: u64,
    /// The number of values that were removed because of their age or to make room.
    evictions: u64,
    /// The approximate number of values in the cache.
    entries: u64,
}

impl HealthView {
    fn of(h: &Health, timestamp: DateTime<Utc>) -> Self {
        let status = match (h.can_serve(), h.is_whole()) {
            (false, _) => "unhealthy",
            (true, false) => "degraded",
            (true, true) => "healthy",
        };
        let dependencies = h
            .dependencies
            .iter()
            .map(|d| {
                let view = DependencyView {
                    status: if d.up { "up" } else { "down" },
                    adapter: d.name,
                    latency_ms: (d.latency.as_secs_f64() * 100_000.0).round() / 100.0,
                    refused: d.refused,
                };
                (d.dependency.as_str().to_owned(), view)
            })
            .collect();
        let in_use = h.pool.size.saturating_sub(h.pool.idle);
        #[expect(clippy::cast_precision_loss, reason = "a share of at most some thousands")]
        let utilization = if h.pool.max == 0 { 0.0 } else { in_use as f64 / h.pool.max as f64 };
        Self {
            status,
            version: env!("CARGO_PKG_VERSION"),
            timestamp,
            dependencies,
            pool: PoolView {
                max: h.pool.max,
                size: h.pool.size,
                idle: h.pool.idle,
                in_use,
                waiting: h.pool.waiting,
                utilization,
            },
            cache: CacheView {
                hits: h.cache.hits,
                misses: h.cache.misses,
                evictions: h.cache.evictions,
                entries: h.cache.entries,
            },
            searches_by_fallback: h.searches_by_fallback,
        }
    }
}

async fn report(app: &App) -> ApiResult {
    let health = app.shop.health(LIMIT).await;
    let status = if health.can_serve() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(private(json(status, &HealthView::of(&health, app.shop.clock().now()))?, None))
}

/// Read the health of the shop
///
/// The status is also 200 if only other dependencies than the database are down (`degraded`), because the shop can
/// still serve requests.
#[utoipa::path(
    get, path = "/health", tag = "operations", security(()),
    responses(
        (status = 200, description = "The shop is healthy or degraded", body = HealthView),
        (status = 503, description = "The database is down", body = HealthView),
    )
)]
pub(super) async fn health(State(app): State<Arc<App>>) -> ApiResult {
    report(&app).await
}

/// Check readiness
///
/// Answers as `/health` does.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations", security(()),
    responses(
        (status = 200, description = "The shop can serve requests", body = HealthView),
        (status = 503, description = "The database is down", body = HealthView),
    )
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> ApiResult {
    report(&app).await
}

/// The response of a live process.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    /// Always `alive`.
    #[schema(example = "alive")]
    status: &'static str,
}

/// Check liveness
#[utoipa::path(
    get, path = "/health/live", tag = "operations", security(()),
    responses((status = 200, description = "The process responds", body = Alive))
)]
pub(super) async fn live() -> ApiResult {
    Ok(private(json(StatusCode::OK, &Alive { status: "alive" })?, None))
}
