//! The SQL adapter: repositories written once, over a thin executor.

pub(crate) mod builder;
mod category;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod executor;
mod inventory;
mod migrate;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod options;
mod outbox;
mod pool;
mod product;
mod sku;
mod unit_of_work;
pub(crate) mod value;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use options::ServerOptions;
pub use pool::SqlStorage;
pub use unit_of_work::SqlRepositories;
