//! How a shop and its dependencies do.

use std::time::Duration;

use crate::error::Dependency;
use crate::port::cache::CacheStats;
use crate::port::storage::PoolStatus;

/// How a dependency does.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DependencyHealth {
    /// Which one.
    pub dependency: Dependency,
    /// The adapter.
    pub name: &'static str,
    /// Whether it answered in time.
    pub up: bool,
    /// How long that took.
    pub latency: Duration,
}

/// How a shop does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// Each dependency.
    pub dependencies: Vec<DependencyHealth>,
    /// The pool of the database.
    pub pool: PoolStatus,
    /// The cache.
    pub cache: CacheStats,
}

impl Health {
    /// True where the shop can serve: the database is up.
    pub fn can_serve(&self) -> bool {
        self.dependencies.iter().all(|d| d.up || d.dependency != Dependency::Database)
    }

    /// True where nothing is down.
    pub fn is_whole(&self) -> bool {
        self.dependencies.iter().all(|d| d.up)
    }
}
