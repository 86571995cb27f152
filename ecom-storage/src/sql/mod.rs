//! The SQL adapter: repositories written once, over a thin executor.

mod catalog;
pub(crate) mod engine;
mod platform;
mod stock;

#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use engine::options::ServerOptions;
pub use engine::pool::SqlStorage;
pub use engine::unit_of_work::SqlRepositories;
