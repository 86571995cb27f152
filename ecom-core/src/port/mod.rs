//! Ports: what the library needs from the outside, as object-safe traits that adapters implement.

pub(crate) mod cache;
pub(crate) mod catalog;
pub(crate) mod platform;
pub(crate) mod search;
pub(crate) mod stock;
pub(crate) mod storage;

pub use self::cache::{Cache, CacheKey, CacheStats, CacheValue, Codec, FillToken, Load, NoCache};
pub use self::catalog::category::{CategoryRepository, CategoryUsage};
pub use self::catalog::product::ProductRepository;
pub use self::catalog::sku::SkuRepository;
pub use self::platform::outbox::{Lease, OutboxRepository};
pub use self::search::{
    Checkpoint, FacetCount, IndexBuild, IndexOp, NoSearch, SearchCapabilities, SearchDocument, SearchHit,
    SearchProvider, SearchResults,
};
pub use self::stock::inventory::{InventoryRepository, TouchedProduct};
pub use self::storage::{Connection, PoolStatus, Repositories, Storage, UnitOfWork};
