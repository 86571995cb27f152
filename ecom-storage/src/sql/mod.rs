//! The SQL adapter: repositories written once, over a thin executor.

mod catalog;
pub(crate) mod engine;
mod platform;
mod stock;

use engine::columns::Described;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use engine::options::ServerOptions;
pub use engine::pool::SqlStorage;
pub use engine::unit_of_work::SqlRepositories;

/// Every table that has unique indexes over live rows: what the database says of one becomes `DUPLICATE`.
pub(crate) static TABLES: [&dyn Described; 3] =
    [&catalog::category::CATEGORIES, &catalog::product::PRODUCTS, &catalog::sku::SKUS];
