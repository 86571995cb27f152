//! The contract of the repositories of customers and addresses.

pub mod customer;
