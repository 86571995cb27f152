//! The health of a shop and of its dependencies.

use std::time::Duration;

use crate::error::Dependency;
use crate::port::cache::CacheStats;
use crate::port::storage::PoolStatus;

/// The health of a dependency.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DependencyHealth {
    /// The dependency.
    pub dependency: Dependency,
    /// The name of the adapter.
    pub name: &'static str,
    /// Whether the dependency responded within the time limit.
    pub up: bool,
    /// How long the response, or the wait for it, took.
    pub latency: Duration,
    /// Why the server of the dependency is refused, although it responds, and what to do about it.
    pub refused: Option<&'static str>,
}

/// The health of a shop.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// The health of each dependency.
    pub dependencies: Vec<DependencyHealth>,
    /// The state of the pool of database connections.
    pub pool: PoolStatus,
    /// The use of the cache since the start of the process.
    pub cache: CacheStats,
    /// The number of searches that the fallback has answered since the start of the process.
    pub searches_by_fallback: u64,
}

impl Health {
    /// Returns true if the shop can serve requests, which is the case if the database is up.
    pub fn can_serve(&self) -> bool {
        self.dependencies.iter().all(|d| d.up || d.dependency != Dependency::Database)
    }

    /// Returns true if all dependencies are up.
    pub fn is_whole(&self) -> bool {
        self.dependencies.iter().all(|d| d.up)
    }
}
