//! The parts of the storage that are specific to SQLite.

mod options;
pub(crate) mod row;

use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, ConnectOptions, Executor, SqlStr};

pub use options::SqliteOptions;

use crate::sql::TABLES;
use crate::sql::engine::dialect::{Dialect, Numbers, Sql};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::value::{Row, Value};

static HAS_TABLES: Sql = Sql::new("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'ecom_meta'");

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
    // The driver looks up the name of each parameter of a statement that has names, which takes a time that grows with
    // the square of their number.
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

/// Opens a connection. If another process has locked the file, waits for at most `busy_timeout`.
pub(crate) async fn open(options: &SqliteOptions, role: Role) -> DbResult<SqliteConnection> {
    let mut o = SqliteConnectOptions::new()
        .foreign_keys(true)
        .synchronous(if options.durable { SqliteSynchronous::Full } else { SqliteSynchronous::Off })
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(256)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384");
    o = match options.path() {
        Some(path) => o
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // 16 MB instead of 4 MB: under load, a page is written to the database once for many commits that change
            // it.
            .pragma("wal_autocheckpoint", "4000")
            .pragma("journal_size_limit", "67108864"),
        None => o.in_memory(true),
    };
    if role == Role::Reader {
        o = o.pragma("query_only", "ON").pragma("mmap_size", "268435456");
    }
    // Switching to WAL takes a lock that SQLite does not wait for.
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match o.connect().await {
            Ok(c) => return Ok(c),
            Err(e) => {
                let e = classify(e);
                if e.kind != Kind::Unavailable || !is_busy(&e.source) || start.elapsed() > options.busy_timeout {
                    return Err(explained(e));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
        }
    }
}

fn arguments(values: Vec<Value<'_>>) -> DbResult<SqliteArguments> {
    let mut args = SqliteArguments::default();
    args.reserve(values.len(), 0);
    for v in values {
        match v {
            Value::I32(v) => args.add(v),
            Value::I64(v) => args.add(v),
            Value::Text(v) => args.add(v),
            Value::Json(v) => args.add(v),
            Value::Bytes(v) => args.add(v),
            Value::Uuid(v) => args.add(v),
            Value::Time(v) => args.add(v.map(|t| t.timestamp_micros())),
            Value::Date(v) => args.add(v),
        }
        .map_err(|e| DbError { kind: Kind::Other, source: sqlx::Error::Encode(e) })?;
    }
    Ok(args)
}

pub(crate) async fn fetch_all(c: &mut SqliteConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
    let query = sqlx::query_with(sql, arguments(values)?);
    let rows = c.fetch_all(query).await.map_err(classify)?;
    Ok(rows.into_iter().map(Row::Sqlite).collect())
}

pub(crate) async fn fetch_optional(
    c: &mut SqliteConnection,
    sql: SqlStr,
    values: Vec<Value<'_>>,
) -> DbResult<Option<Row>> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.fetch_optional(query).await.map_err(classify)?.map(Row::Sqlite))
}

pub(crate) async fn execute(c: &mut SqliteConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<u64> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.execute(query).await.map_err(classify)?.rows_affected())
}

pub(crate) async fn script(c: &mut SqliteConnection, text: &'static str) -> DbResult<()> {
    c.execute(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(())
}

/// Turns the error for a file that SQLite cannot use into one that says what to do about the file. Returns other errors
/// as they are.
pub(crate) fn explained(error: DbError) -> DbError {
    let message = match primary_code(&error.source) {
        Some(26) => "names a file that is not an SQLite database: name another file, or move this one away",
        Some(11) => "names a database that is damaged: restore it from a backup",
        Some(14) => {
            "names a file that cannot be opened: it must not be a directory, and this process must be allowed to read \
             and write it and to create files in its directory"
        }
        Some(3 | 8 | 23) => {
            "names a file that this process cannot write to: grant the permission, or name another file"
        }
        _ => return error,
    };
    DbError { kind: Kind::Setup(message), ..error }
}

/// Returns SQLite's primary result code, without the extended part.
fn primary_code(e: &sqlx::Error) -> Option<i32> {
    let code: i32 = e.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

fn is_busy(e: &sqlx::Error) -> bool {
    matches!(primary_code(e), Some(5 | 6))
}

/// Classifies the error of a statement.
pub(crate) fn classify(source: sqlx::Error) -> DbError {
    use sqlx::error::ErrorKind;
    let kind = match &source {
        sqlx::Error::Database(e) => match e.kind() {
            ErrorKind::UniqueViolation => Kind::Unique(constraint(e.message())),
            ErrorKind::ForeignKeyViolation => Kind::ForeignKey(String::new()),
            // SQLITE_CONSTRAINT_TRIGGER: `ON DELETE RESTRICT` refuses a statement as a trigger would.
            _ if e.code().as_deref() == Some("1811") => Kind::ForeignKey(String::new()),
            ErrorKind::CheckViolation => Kind::Check(constraint(e.message())),
            // BUSY, LOCKED, INTERRUPT, FULL, CANTOPEN and PROTOCOL: nothing was written. After IOERR, the outcome is
            // not known.
            _ => match primary_code(&source) {
                Some(5 | 6 | 9 | 13 | 14 | 15) => Kind::Unavailable,
                Some(10) => Kind::Lost,
                _ => Kind::Other,
            },
        },
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => Kind::Lost,
        _ => Kind::Other,
    };
    DbError { kind, source }
}

/// Returns the name of the constraint in `UNIQUE constraint failed: products.slug`. SQLite names an index only if it
/// has expressions, and its columns otherwise.
fn constraint(message: &str) -> String {
    let what = message.split_once("constraint failed: ").map_or("", |(_, w)| w);
    if let Some(name) = what.strip_prefix("index '").and_then(|o| o.strip_suffix('\'')) {
        return name.to_owned();
    }
    let is_it = |table: &str, columns: &[&str]| what.split(", ").eq(columns.iter().map(|c| format!("{table}.{c}")));
    let index = TABLES.iter().flat_map(|t| t.indexes().into_iter().filter(|i| is_it(t.name(), i.columns))).next();
    index.map_or(what, |i| i.name).to_owned()
}
