//! Services: the rules of the shop, over the ports.

mod cache;
mod category;
mod consumer;
mod event_log;
mod import;
mod index_sync;
mod inventory;
mod product;
mod retry;
mod search;
mod sku;
pub(crate) mod sync;

pub use cache::*;
pub use category::*;
pub use consumer::{Consumer, Start};
pub use event_log::*;
pub use import::*;
pub use index_sync::*;
pub use inventory::*;
pub use product::*;
pub(crate) use retry::{or_next_name, retrying, retrying_together};
pub use search::*;
pub use sku::*;
