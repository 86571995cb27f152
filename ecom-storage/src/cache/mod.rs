//! Caches: adapters of [`ecom_core::port::Cache`].
//!
//! | Feature | Type | URL | Shared between processes |
//! |---|---|---|---|
//! | `memory` | `MemoryCache` | `memory://` | no |
//! | `redis` | `RedisCache` | `redis://`, `rediss://` | yes |
//! | both | `TieredCache` | `tiered+redis://`, `tiered+rediss://` | yes, with a tier in each process |

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(feature = "memory", feature = "redis"))]
mod tiered;

#[cfg(feature = "memory")]
pub use memory::{DEFAULT_MAX_BYTES, MemoryCache, MemoryCacheOptions};
/// The errors of Redis, as its adapters classify them.
#[cfg(feature = "redis")]
pub(crate) use redis::errors as redis_errors;
#[cfg(feature = "redis")]
pub use redis::{DEFAULT_DECODED_BYTES, DEFAULT_LOAD_WAIT, DEFAULT_PREFIX, DEFAULT_TIMEOUT, RedisCache, RedisOptions};
#[cfg(all(feature = "memory", feature = "redis"))]
pub use tiered::{TieredCache, TieredOptions};
