//! The domain: what a shop is made of, and which values are valid (SPEC 2). `lib.rs` lists what is public, by area.

/// Products, SKUs and categories.
pub(crate) mod catalog {
    pub(crate) mod category;
    pub(crate) mod product;
    pub(crate) mod sku;
}
pub(crate) mod common;
/// The log of events.
pub(crate) mod platform {
    pub(crate) mod outbox;
}
/// Stock levels and the ledger.
pub(crate) mod stock {
    pub(crate) mod inventory;
}
/// Customers and their addresses.
pub(crate) mod sales {
    pub(crate) mod customer;
}
