//! Storage adapters of `ecom`: one SQL implementation for three databases, and caches.
//!
//! | Feature | Database | State |
//! |---|---|---|
//! | `sqlite` (default) | SQLite, a file or memory | works in full |
//! | `postgres` | PostgreSQL 13 and later | works in full; tested on 15 |
//! | `mysql` | MySQL 8, MariaDB 10.6 and later | works in full; tested on MariaDB 10.11 |
//!
//! Features add up; without any the crate has caches only.
//!
//! # One repository for three databases
//! Repositories in `sql/` are plain, non-generic code over a thin executor: an enum of the three connections, typed
//! values and typed rows. What is particular to a database is in its own folder: opening a connection, binding
//! values, reading rows, naming errors, and fragments of SQL. Two other ways were looked at. Code that is generic over
//! `sqlx::Database` repeats its bounds on every function. The same source compiled once per driver is as fast, but
//! tools see one of three. The executor costs a match per statement and per column, and is what sqlx's `Any` would be
//! if it knew ids, JSON and times.

pub mod cache;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use sql::ServerOptions;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sql::SqlStorage;
#[cfg(feature = "mysql")]
pub use sql::{begin_on_mysql, on_mysql};
#[cfg(feature = "postgres")]
pub use sql::{begin_on_postgres, on_postgres};
#[cfg(feature = "sqlite")]
pub use sql::{begin_on_sqlite, on_sqlite};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteOptions;
/// The crate whose connections [`SqlStorage`] opens.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub use sqlx;

/// The name of a URL's parameter for a message. One that is none of ours may be a piece of a password that was not
/// percent-encoded.
#[cfg(any(feature = "postgres", feature = "mysql", feature = "redis"))]
fn parameter_shown(name: &str) -> &str {
    if name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') { name } else { "…" }
}
