//! Views of stock.

pub(crate) mod inventory;
