//! The core of `ecom`, an embeddable commerce engine: domain, ports, services and behaviour suites.
//!
//! Nothing here does I/O: adapters implement the traits in [`port`], and [`service`]s work on them.
//! Applications use the facade crate `ecom`, which adds the adapters.

pub mod clock;
pub mod config;
pub mod domain;
mod error;
pub mod id;
#[cfg(feature = "mocks")]
pub mod mocks;
pub mod money;
pub mod paging;
pub mod port;
pub mod service;
mod shop;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;

pub use error::*;
pub use shop::{AfterCommit, Background, DependencyHealth, Health, Shop, ShopParts};
