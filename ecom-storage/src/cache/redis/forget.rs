//! The invalidations that a shared cache still has to carry out.

use std::collections::HashSet;

use ecom_core::port::CacheKey;

/// The maximum number of keys that are kept. If there are more, everything is invalidated.
const MOST_KEPT: usize = 10_000;

/// Keys, or everything, that Redis and the other processes must drop.
#[derive(Debug, Default, Clone)]
pub(super) struct Forget {
    pub(super) all: bool,
    pub(super) keys: HashSet<CacheKey>,
}

impl Forget {
    pub(super) fn of(keys: &[CacheKey]) -> Self {
        Self { all: false, keys: keys.iter().copied().collect() }
    }

    pub(super) fn all() -> Self {
        Self { all: true, keys: HashSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.keys.extend(other.keys);
        if self.all || self.keys.len() > MOST_KEPT {
            *self = Self::all();
        }
    }
}
