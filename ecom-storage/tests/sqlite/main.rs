//! The SQLite adapter: pragmas, plans, locks, cancellation, migrations, constraints and statement counts.
#![cfg(feature = "sqlite")]
#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]
#![expect(clippy::many_single_char_names, reason = "products and categories of a test are a, b, c")]

mod analytics;
mod broken;
mod bulk;
mod cancellation;
mod catalog;
mod constraints;
mod groups;
mod host_transaction;
mod inventory;
mod locks;
mod migrations;
mod outbox;
mod plans;
mod processes;
mod settings;
mod support;
