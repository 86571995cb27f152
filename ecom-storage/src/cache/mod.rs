//! Caches: adapters of [`ecom_core::port::Cache`].
//!
//! | Feature | Type | Shared between processes |
//! |---|---|---|
//! | `memory` | `MemoryCache` | no |

#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "memory")]
pub use memory::{DEFAULT_CAPACITY, MemoryCache, MemoryCacheOptions, Weigher};
