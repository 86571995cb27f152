//! The repository of the outbox.

pub(crate) mod outbox;
