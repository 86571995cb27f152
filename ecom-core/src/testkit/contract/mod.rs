//! The contracts of the ports: one suite per repository, for the unit of work, the caches and the search engines.

pub mod cache;
pub mod catalog;
pub mod platform;
pub mod sales;
pub mod search;
pub mod shared_cache;
pub mod stock;
