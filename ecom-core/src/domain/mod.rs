//! The domain: what a shop is made of, and which values are valid (SPEC 2). `lib.rs` lists what is public, by area.

pub(crate) mod catalog;
pub(crate) mod common;
pub(crate) mod platform;
pub(crate) mod stock;
