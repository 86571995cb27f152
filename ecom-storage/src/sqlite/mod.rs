//! The parts of the storage that are specific to SQLite.

mod connection;
mod error;
mod group;
mod host;
mod options;
pub(crate) mod row;
mod statement;

pub(crate) use connection::{Connection, Room, Slow};
pub(crate) use error::{classify, classify_sqlx};
pub(crate) use group::Groups;
pub(crate) use host::{HostConnection, await_turn};
pub use options::SqliteOptions;

use crate::sql::engine::dialect::{Dialect, Numbers, Sql};

static HAS_TABLES: Sql = Sql::new("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ecom_meta'");
static NAMES: Sql = Sql::new("SELECT lower(name) FROM sqlite_master");
static INDEXES: Sql = Sql::new("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL");

/// Checks the transaction of a host, and makes it the one writer.
static HOST_CHECK: Sql = Sql::new(
    "SELECT 'has foreign keys turned off: run PRAGMA foreign_keys = ON before the transaction begins' \
     FROM pragma_foreign_keys WHERE foreign_keys = 0",
);
static NEXT_NUMBERS: Sql = Sql::new("UPDATE document_numbers SET value = value + $2 WHERE kind = $1 RETURNING value");

/// The SQL of SQLite.
pub(crate) static DIALECT: Dialect = Dialect {
    name: "sqlite",
    slot: 0,
    // sqlx, on a host's connection, looks up the name of each parameter of a statement that has names, which takes a
    // time that grows with the square of their number.
    numbered: false,
    // Takes the write lock at once: a transaction that starts as a reader and writes later can fail half-way.
    begin: "BEGIN IMMEDIATE",
    fragments: &[
        (
            "{category_summaries}",
            "(SELECT json_group_array(json_array(pc.position, lower(hex(c.id)), c.name, c.slug, c.path)) \
             FROM product_categories pc JOIN categories c ON c.id = pc.category_id WHERE pc.product_id = p.id)",
        ),
        ("{role_ids}", "(SELECT json_group_array(lower(hex(r.role_id))) FROM user_roles r WHERE r.user_id = u.id)"),
        ("{bigint}", "INTEGER"),
        ("{page_join}", "CROSS JOIN"),
        // AUTOINCREMENT remembers the last number even if all rows are trimmed, and forgets it with a rollback.
        ("{outbox_head}", "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_events'), 0)"),
        ("{outbox_if_new}", "ON CONFLICT DO NOTHING"),
        ("{claim_if_new}", "ON CONFLICT DO NOTHING"),
        (
            "{add_searches}",
            " ON CONFLICT (day, term) DO UPDATE SET typed = excluded.typed, \
             searches = search_log.searches + excluded.searches, \
             without_result = search_log.without_result + excluded.without_result, \
             partial_result = search_log.partial_result + excluded.partial_result",
        ),
        (
            "{add_traffic}",
            " ON CONFLICT (day) DO UPDATE SET views = traffic_days.views + excluded.views, \
             carts = traffic_days.carts + excluded.carts",
        ),
        ("{add_views}", " ON CONFLICT (product_id, day) DO UPDATE SET views = product_views.views + excluded.views"),
        (
            "{put_token}",
            "ON CONFLICT (user_id, purpose) DO UPDATE SET hash = excluded.hash, email = excluded.email, \
             expires_at = excluded.expires_at",
        ),
        (
            "{add_failure}",
            "ON CONFLICT (address) DO UPDATE SET \
             failures = CASE WHEN login_failures.last_at < $3 THEN 1 ELSE login_failures.failures + 1 END, \
             last_at = CASE WHEN login_failures.last_at < excluded.last_at THEN excluded.last_at \
             ELSE login_failures.last_at END",
        ),
    ],
    lock_tree: None,
    hold_tree: None,
    for_update: "",
    for_share: "",
    sequences_outbox: false,
    joins_in_order: true,
    row_values: true,
    migration_lock: None,
    setup: None,
    host_check: Some(&HOST_CHECK),
    has_tables: &HAS_TABLES,
    names: &NAMES,
    indexes: Some(&INDEXES),
    numbers: Numbers::Row(&NEXT_NUMBERS),
    survives_errors: true,
    counts_inserts: true,
    is_file: true,
};

/// The role of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The connection only reads.
    Reader,
    /// The connection reads and writes.
    Writer,
}
