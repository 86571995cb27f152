//! The domain: what a shop is made of, and which values are valid (SPEC 2).

mod category;
mod common;
mod event;
mod inventory;
mod product;
mod sku;

pub use category::*;
pub use common::*;
pub use event::*;
pub use inventory::*;
pub use product::*;
pub use sku::*;
