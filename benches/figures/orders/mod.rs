//! Orders of two lines from 64 callers at once, on databases that flush to disk. `sqlite`, `postgres` and `mysql`
//! compare the rate with that of plain code on the same database, `size` with a shop that has a million orders.
//!
//! `benches/peers` compares orders on SQLite with `rusqlite` and with `stateset-embedded`.

#[cfg(feature = "mysql")]
pub mod mysql;
mod placing;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(all(feature = "postgres", feature = "mysql"))]
pub mod size;
pub mod sqlite;

#[cfg(feature = "postgres")]
pub use placing::Choice;
pub use placing::{CALLERS, Prices, ROUNDS, audit, hot, order, place, prices, spread};
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub use placing::{SECONDS, number};
#[cfg(all(feature = "postgres", feature = "mysql"))]
pub use placing::{line, place_each};
