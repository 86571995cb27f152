//! Imports into an embedded shop: SQLite and Tantivy in memory, and SQLite in a file.
#![cfg(all(feature = "sqlite", feature = "tantivy"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

mod catalogs;
mod categories;
mod concurrency;
mod exports;
mod load;
mod outages;
mod products;
mod rejections;
mod sales;
mod sources;
mod support;
mod tables;
