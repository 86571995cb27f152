//! The contracts of the unit of work and of the outbox.

pub mod outbox;
pub mod unit_of_work;
