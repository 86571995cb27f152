//! Searches, and the index that they ask.

pub(crate) mod index;
pub(crate) mod query;
