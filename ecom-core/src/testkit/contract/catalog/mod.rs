//! The contracts of the repositories of products, SKUs and categories.

pub mod category;
pub mod product;
pub mod sku;
