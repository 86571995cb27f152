//! Services: the rules of the shop, over the ports.

mod cache;
mod category;
mod event_log;
mod import;
mod index_sync;
mod inventory;
mod product;
mod search;
mod sku;
pub(crate) mod sync;

pub use cache::*;
pub use category::*;
pub use event_log::*;
pub use import::*;
pub use index_sync::*;
pub use inventory::*;
pub use product::*;
pub use search::*;
pub use sku::*;
