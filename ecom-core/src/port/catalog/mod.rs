//! The repositories of the catalog.

pub(crate) mod category;
pub(crate) mod product;
pub(crate) mod sku;
