//! The domain: what a shop is made of, and which values are valid (SPEC 2). `lib.rs` lists what is public, by area.

/// What the catalog is made of.
pub(crate) mod catalog {
    pub(crate) mod category;
    pub(crate) mod product;
    pub(crate) mod sku;
}
pub(crate) mod common;
/// What the platform below the shop is made of.
pub(crate) mod platform {
    pub(crate) mod outbox;
}
/// What stock is made of.
pub(crate) mod stock {
    pub(crate) mod inventory;
}
/// Who buys.
pub(crate) mod sales {
    pub(crate) mod customer;
}
