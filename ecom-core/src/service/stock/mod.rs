//! The rules of stock.

pub(crate) mod inventory;
