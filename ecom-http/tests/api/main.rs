//! The REST API over SQLite, Tantivy and the in-process cache, all in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![expect(clippy::many_single_char_names, clippy::similar_names, reason = "answers of a test are a, b, c")]

mod analytics;
mod audit;
mod audit_log;
mod bad_input;
mod bill;
mod broken_database;
mod cart;
mod category;
mod connections;
mod customer;
mod etag;
mod feeds;
mod freshness;
mod idempotency;
mod imports;
mod job;
mod live;
mod login;
mod mail;
mod media;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "oidc")]
mod oidc;
mod operations;
mod order;
mod permissions;
mod product;
mod rate_limit;
mod review;
mod route_groups;
mod search;
mod search_log;
mod search_outage;
mod sku;
mod support;
mod webhooks;
