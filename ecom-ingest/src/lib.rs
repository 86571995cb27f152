//! The feeds of `ecom`: sources that a shop polls, and imports when they have changed.
//!
//! [`FileFeed`] reads a file, [`HttpFeed`] a URL, and [`DummyJsonFeed`] the paged API of
//! [DummyJSON](https://dummyjson.com). Each implements [`ImportFeed`](ecom_core::port::ImportFeed). An application
//! registers one with the settings of its imports as a [`Feed`](ecom_core::catalog::Feed). [`outbound`] has the HTTP
//! client of the last two, which refuses addresses that are not public.
//!
//! Applications depend on the facade crate `ecom`, whose feature `ingest` re-exports this crate.

mod file;
mod http;
mod paged;
mod spool;

pub use ecom_outbound as outbound;
pub use file::FileFeed;
pub use http::{HttpFeed, HttpFeedOptions};
pub use paged::DummyJsonFeed;
