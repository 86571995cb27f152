//! The rules of the catalog.

pub(crate) mod category;
pub(crate) mod import;
pub(crate) mod product;
pub(crate) mod resolver;
pub(crate) mod sku;
