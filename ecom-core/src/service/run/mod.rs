//! The code that services share: their context, the write runner, and reads through the cache.

pub(crate) mod after_commit;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod listing;
pub(crate) mod notice;
pub(crate) mod queue;
pub(crate) mod read_through;
mod retry;
pub(crate) mod stale;
pub(crate) mod transaction;
