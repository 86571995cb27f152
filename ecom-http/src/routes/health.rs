//! Health, for people and probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use ecom_core::{Dependency, Health};
use serde::Serialize;

use crate::app::App;
use crate::dto::json;
use crate::error::ApiResult;
use crate::headers::private;

/// How long a dependency may take to give a sign of life.
const LIMIT: Duration = Duration::from_secs(2);

/// How the shop does.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HealthView {
    /// `healthy`; `degraded` where the cache or the search is down; `unhealthy` where the database is.
    #[schema(example = "healthy")]
    status: &'static str,
    /// The release.
    version: &'static str,
    /// When this was seen.
    timestamp: DateTime<Utc>,
    /// Each dependency: `database`, `search`, `cache`.
    dependencies: BTreeMap<String, DependencyView>,
    /// The connections of the database.
    pool: PoolView,
    /// The cache since start.
    cache: CacheView,
}

/// How a dependency does.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DependencyView {
    /// `up` or `down`.
    #[schema(example = "up")]
    status: &'static str,
    /// The adapter.
    #[schema(example = "sqlite")]
    adapter: &'static str,
    /// How long it took to answer, in milliseconds.
    latency_ms: f64,
}

/// A pool of connections.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PoolView {
    /// Most connections.
    max: usize,
    /// Open.
    size: usize,
    /// Open and idle.
    idle: usize,
    /// Open and in use.
    in_use: usize,
    /// Callers that wait for one.
    waiting: usize,
    /// In use of most, 0 to 1.
    utilization: f64,
}

/// Reads of the cache.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CacheView {
    /// That found a value.
    hits: u64,
    /// That did not.
    misses: u64,
    /// Values dropped for room or age.
    evictions: u64,
    /// Values held, about.
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
                let name = match d.dependency {
                    Dependency::Database => "database",
                    Dependency::Search => "search",
                    Dependency::Cache => "cache",
                    _ => "other",
                };
                let view = DependencyView {
                    status: if d.up { "up" } else { "down" },
                    adapter: d.name,
                    latency_ms: d.latency.as_secs_f64() * 1_000.0,
                };
                (name.to_owned(), view)
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
        }
    }
}

async fn report(app: &App) -> ApiResult {
    let health = app.shop.health(LIMIT).await;
    let status = if health.can_serve() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(private(json(status, &HealthView::of(&health, app.shop.clock().now()))?, None))
}

/// Health
///
/// 200 also where the cache or the search is down (`degraded`): the shop serves on.
#[utoipa::path(
    get, path = "/health", tag = "operations",
    responses(
        (status = 200, description = "Healthy or degraded", body = HealthView),
        (status = 503, description = "The database is down", body = HealthView),
    )
)]
pub(super) async fn health(State(app): State<Arc<App>>) -> ApiResult {
    report(&app).await
}

/// Readiness
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "It can serve", body = HealthView),
        (status = 503, description = "The database is down", body = HealthView),
    )
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> ApiResult {
    report(&app).await
}

/// That the process answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Alive {
    /// `alive`.
    #[schema(example = "alive")]
    status: &'static str,
}

/// Liveness
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses((status = 200, description = "The process answers", body = Alive))
)]
pub(super) async fn live() -> ApiResult {
    Ok(private(json(StatusCode::OK, &Alive { status: "alive" })?, None))
}
