//! The SQL adapter: repositories written once, over a thin executor.

mod catalog;
pub(crate) mod engine;
mod platform;
mod stock;

#[cfg(feature = "mysql")]
pub use engine::host::{begin_on_mysql, on_mysql};
#[cfg(feature = "postgres")]
pub use engine::host::{begin_on_postgres, on_postgres};
#[cfg(feature = "sqlite")]
pub use engine::host::{begin_on_sqlite, on_sqlite};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use engine::options::ServerOptions;
pub use engine::pool::SqlStorage;
