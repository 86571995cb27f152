//! Storage adapters of `ecom`: one SQL implementation for three databases, caches and rate limiters.
//!
//! | Feature | Database | URL | Tested on |
//! |---|---|---|---|
//! | `sqlite` (default) | SQLite, file or memory | `sqlite://<path>`, `sqlite::memory:` | the bundled version |
//! | `postgres` | PostgreSQL 13 and later | `postgres://…` | PostgreSQL 15 |
//! | `mysql` | MySQL 8, MariaDB 10.6 and later | `mysql://…` | MariaDB 10.11 |
//!
//! Every database supports all methods of the ports. The features can be combined, and without any of them the crate
//! contains only the caches (see [`cache`]) and the rate limiters (see `limiter`).
//!
//! `SqlStorage` is the adapter. To run statements of a host application in the same transaction as writes of the
//! shop, use `begin_on_sqlite`, `begin_on_rusqlite`, `begin_on_postgres` or `begin_on_mysql`.
//!
//! # One repository for three databases
//! Repositories in `sql/` are plain, non-generic code over a thin executor: an enum of the connections, typed
//! values and typed rows. One folder per database contains what differs: opening a connection, binding values, reading
//! rows, classifying errors, and fragments of SQL. We rejected two alternatives. Code that is generic over
//! `sqlx::Database` repeats its bounds on every function. The same source compiled once per driver is as fast, but tools
//! see only one of the three copies. The executor costs a match per statement and per column. It resembles sqlx's
//! `Any`, but also supports ids, JSON and times.

pub mod cache;
#[cfg(any(feature = "memory", feature = "redis"))]
pub mod limiter;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

/// The crate whose connections `begin_on_rusqlite` takes, and which [`SqlStorage`] uses for SQLite.
#[cfg(feature = "sqlite")]
pub use rusqlite;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sql::SqlStorage;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use sql::{ServerOptions, ServerPool};
#[cfg(feature = "mysql")]
pub use sql::{begin_on_mysql, on_mysql};
#[cfg(feature = "postgres")]
pub use sql::{begin_on_postgres, on_postgres};
#[cfg(feature = "sqlite")]
pub use sql::{begin_on_rusqlite, begin_on_sqlite, on_rusqlite, on_sqlite};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteOptions;
/// The crate whose connections the other functions `begin_on_…` take, and which [`SqlStorage`] uses for servers.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sqlx;

/// Returns the name of an unknown URL parameter as a message may show it. A name that does not look like one may be
/// part of a password that was not percent-encoded.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "redis"))]
fn parameter_shown(name: &str) -> &str {
    if name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') { name } else { "…" }
}
