//! The base of the repositories: connections, statements, values, errors and migrations.

pub(crate) mod builder;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) mod check;
pub(crate) mod columns;
pub(crate) mod deferred;
pub(crate) mod dialect;
pub(crate) mod error;
pub(crate) mod executor;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) mod fullness;
pub(crate) mod host;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod idle;
pub(crate) mod migrate;
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(crate) mod options;
pub(crate) mod pool;
pub(crate) mod repository;
mod statement;
mod storage;
pub(crate) mod stored;
pub(crate) mod unit_of_work;
pub(crate) mod value;
