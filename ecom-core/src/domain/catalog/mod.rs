//! What the catalog is made of.

pub(crate) mod category;
pub(crate) mod product;
pub(crate) mod sku;
