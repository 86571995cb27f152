//! Services: the rules of the shop, over the ports. `lib.rs` lists what is public, by area.

pub(crate) mod background;
pub(crate) mod catalog;
pub(crate) mod platform;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod stock;
