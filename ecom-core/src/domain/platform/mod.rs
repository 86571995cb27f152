//! What the platform below the shop is made of.

pub(crate) mod outbox;
