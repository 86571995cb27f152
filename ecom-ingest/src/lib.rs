//! The feeds of `ecom`: sources that a shop polls, and imports when they have changed.
//!
//! [`FileFeed`] is a file that somebody replaces, [`HttpFeed`] a URL, and [`DummyJsonFeed`] the paged API of
//! [DummyJSON](https://dummyjson.com). Each implements [`ImportFeed`](ecom_core::port::ImportFeed); an application
//! registers them with their settings as a [`Feed`](ecom_core::catalog::Feed). [`outbound`] is the client that they
//! call URLs with. It refuses addresses of private networks.
//!
//! Applications depend on the facade crate `ecom`, whose feature `ingest` re-exports this crate.

mod file;
mod http;
pub mod outbound;
mod paged;
mod spool;

pub use file::FileFeed;
pub use http::{HttpFeed, HttpFeedOptions};
pub use paged::DummyJsonFeed;
