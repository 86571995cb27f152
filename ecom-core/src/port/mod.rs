//! Ports: what the library needs from the outside, as object-safe traits that adapters implement.

mod cache;
mod category;
mod inventory;
mod outbox;
mod product;
mod search;
mod sku;
mod storage;

pub use cache::*;
pub use category::*;
pub use inventory::*;
pub use outbox::*;
pub use product::*;
pub use search::*;
pub use sku::*;
pub use storage::*;
