//! Databases and caches behind the ports of `ecom-core`.

pub mod cache;
