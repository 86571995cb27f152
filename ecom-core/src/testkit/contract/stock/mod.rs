//! The contract of the repository of stock levels and movements.

pub mod inventory;
