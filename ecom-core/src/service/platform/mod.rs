//! Reading the log of events.

pub(crate) mod outbox;
