//! REST over the services of `ecom`: a plain [`axum::Router`] to serve, or to nest beside routes of your own.
//!
//! ```no_run
//! # fn app(shop: ecom_core::Shop) -> axum::Router {
//! ecom_http::router(shop, ecom_http::HttpConfig::default())
//! # }
//! ```
//!
//! An application with its own authentication puts an [`ecom_core::access::Principal`] into the extensions of the
//! request, in a layer around the router. The router calls the services of the shop as that principal. A request without
//! one is made by [`HttpConfig::anonymous`].

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
pub use router::{openapi_json, router};
