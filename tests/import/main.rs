//! Imports into shops on each database that is compiled in, with Tantivy in memory.
#![cfg(all(feature = "sqlite", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

#[macro_use]
mod support;

mod bulk;
mod catalogs;
mod categories;
mod concurrency;
mod exports;
#[cfg(feature = "ingest")]
mod feeds;
mod load;
mod outages;
#[path = "../../examples/server/pictures.rs"]
mod pictures;
mod products;
mod rejections;
mod sales;
mod sources;
mod tables;
