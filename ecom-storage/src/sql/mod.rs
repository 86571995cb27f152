//! The SQL adapter: repositories written once, over a thin executor.

pub(crate) mod builder;
mod category;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod executor;
mod inventory;
mod migrate;
mod outbox;
mod pool;
mod product;
mod sku;
mod unit_of_work;
pub(crate) mod value;

pub use pool::SqlStorage;
pub use unit_of_work::SqlRepositories;
