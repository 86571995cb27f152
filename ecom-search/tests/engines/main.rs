//! What every search engine must do alike, beyond the suite of the port: find known items, and agree with Tantivy.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

mod corpus;
#[path = "../support/documents.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod documents;

#[cfg(all(feature = "tantivy", any(feature = "elasticsearch", feature = "meilisearch")))]
mod agreement;
mod relevance;
