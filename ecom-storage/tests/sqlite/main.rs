//! The SQLite adapter: pragmas, plans, locks, cancellation, migrations, constraints and statement counts.

mod catalog;
