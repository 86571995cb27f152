//! Routes of stock.

pub(crate) mod inventory;
