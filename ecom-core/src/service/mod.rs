//! Services: the rules of the shop, over the ports. `lib.rs` lists what is public, by area.

pub(crate) mod background;
/// The rules of the catalog.
pub(crate) mod catalog {
    pub(crate) mod category;
    pub(crate) mod import;
    pub(crate) mod product;
    pub(crate) mod resolver;
    pub(crate) mod sku;
}
/// Reading the log of events.
pub(crate) mod platform {
    pub(crate) mod outbox;
}
pub(crate) mod run;
/// Searches, and the index that they ask.
pub(crate) mod search {
    pub(crate) mod index;
    pub(crate) mod query;
}
/// The rules of stock.
pub(crate) mod stock {
    pub(crate) mod inventory;
}
/// The rules of sales.
pub(crate) mod sales {
    pub(crate) mod customer;
}
