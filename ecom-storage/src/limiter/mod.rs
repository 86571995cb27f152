//! Rate limiters: adapters of [`ecom_core::port::RateLimiter`].
//!
//! | Feature | Type | URL | Shared between processes |
//! |---|---|---|---|
//! | `memory` or `redis` | `MemoryLimiter` | `memory://` | no |
//! | `redis` | `RedisLimiter` | `redis://`, `rediss://` | yes |

mod memory;
#[cfg(feature = "redis")]
mod redis;

pub use memory::{DEFAULT_KEYS, MemoryLimiter};
#[cfg(feature = "redis")]
pub use redis::RedisLimiter;
