//! A REST API over the services of `ecom`, as a plain [`axum::Router`] that an application serves or nests beside its
//! own routes.
//!
//! ```no_run
//! # fn app(shop: ecom_core::Shop) -> axum::Router {
//! ecom_http::router(shop, ecom_http::HttpConfig::default())
//! # }
//! ```
//!
//! [`serve`] serves the router within limits of connections, which `axum::serve` does not have.
//!
//! An application with its own authentication adds an [`ecom_core::access::Principal`] to the extensions of the
//! request, in a layer around the router. The router calls the services of the shop as that principal, and as
//! [`HttpConfig::anonymous`] if the request has none.
//!
//! With the feature `metrics`, `HttpConfig::metrics` adds `/metrics` for Prometheus.
//! With the feature `admin`, the router has a web page for the staff of the shop, at `/admin`.
//!
//! With the feature `oidc`, `HttpKeySet` fetches the keys of an issuer of OpenID Connect, whose tokens a shop accepts.

mod admission;
mod app;
mod cookie;
mod csv;
mod dto;
mod error;
mod etag;
mod extract;
mod headers;
mod idempotency;
mod live;
mod metrics;
mod middleware;
#[cfg(feature = "oidc")]
mod oidc;
mod openapi;
mod resource;
mod router;
mod routes;
mod serve;

pub use app::HttpConfig;
/// The network of a trusted proxy.
pub use ipnet::IpNet;
#[cfg(feature = "metrics")]
pub use metrics::MetricsAccess;
pub use middleware::{ProxyHeader, RateLimits, UnknownProxyHeader};
#[cfg(feature = "oidc")]
pub use oidc::HttpKeySet;
pub use router::{openapi_json, router};
pub use routes::{RouteGroup, UnknownRouteGroup};
pub use serve::{ServeConfig, Stopped, serve};
