//! The repository of stock.

pub(crate) mod inventory;
