//! What stock is made of.

pub(crate) mod inventory;
