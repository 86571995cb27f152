//! How services run: what they work with, how they write, and how they read through the cache.

pub(crate) mod after_commit;
pub(crate) mod context;
pub(crate) mod queue;
pub(crate) mod read_through;
mod retry;
pub(crate) mod stale;
pub(crate) mod transaction;
