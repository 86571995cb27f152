//! REST over the services of `ecom`: a plain [`axum::Router`] to serve, or to nest beside routes of your own.
//!
//! ```no_run
//! # fn app(shop: ecom_core::Shop) -> axum::Router {
//! ecom_http::router(shop, ecom_http::HttpConfig::default())
//! # }
//! ```
//!
//! A host that knows who is calling says so with an [`ecom_core::common::Actor`] in the request's extensions;
//! without one, writes are noted as `anonymous`.

mod app;
mod dto;
mod error;
mod etag;
mod extract;
mod headers;
mod middleware;
mod openapi;
mod resource;
mod router;
mod routes;

pub use app::HttpConfig;
pub use router::router;
