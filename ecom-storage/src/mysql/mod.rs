//! The parts of the storage that are specific to MySQL and MariaDB.

pub(crate) mod row;

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow};
use sqlx::types::Json;
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection as _, Executor, Row as _, SqlStr};

use crate::sql::engine::check::{self, View};
use crate::sql::engine::dialect::{Dialect, Numbers, Sql};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::options::SchemaName;
use crate::sql::engine::value::{Row, Value};

static LOCK_TREE: Sql = Sql::new("SELECT value FROM ecom_meta WHERE name = 'identity' FOR UPDATE");

static HOLD_TREE: Sql = Sql::new("SELECT value FROM ecom_meta WHERE name = 'identity' LOCK IN SHARE MODE");
// A lock of the session and not of a transaction, because statements that change the schema commit implicitly.
// The name of a lock has at most 64 characters.
static MIGRATION_LOCK: Sql = Sql::new(
    "SELECT CAST(GET_LOCK(CONCAT('ecom.migrations.', \
     IF(CHAR_LENGTH(DATABASE()) > 48, MD5(DATABASE()), DATABASE())), 60) AS SIGNED)",
);

static HAS_TABLES: Sql =
    Sql::new("SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'ecom_meta'");
static NAMES: Sql = Sql::new(
    "SELECT CAST(IF(@@lower_case_table_names = 0, table_name, LOWER(table_name)) AS CHAR) \
     FROM information_schema.tables WHERE table_schema = DATABASE()",
);
static INSERTED_NUMBERS: Sql =
    Sql::new("SELECT CAST(LAST_INSERT_ID() AS SIGNED), CAST(@@auto_increment_increment AS SIGNED)");

/// The SQL of MySQL and MariaDB.
pub(crate) static DIALECT: Dialect = Dialect {
    name: "mysql",
    slot: 2,
    numbered: false,
    begin: "START TRANSACTION",
    fragments: &[
        (
            "{category_summaries}",
            "(SELECT JSON_ARRAYAGG(JSON_ARRAY(pc.position, LOWER(HEX(c.id)), c.name, \
             CONVERT(c.slug USING utf8mb4), CONVERT(c.path USING utf8mb4))) \
             FROM product_categories pc JOIN categories c ON c.id = pc.category_id WHERE pc.product_id = p.id)",
        ),
        ("{role_ids}", "(SELECT JSON_ARRAYAGG(LOWER(HEX(r.role_id))) FROM user_roles r WHERE r.user_id = u.id)"),
        ("{bigint}", "SIGNED"),
        ("{page_join}", "JOIN"),
        ("{outbox_head}", "(SELECT seq FROM outbox_head WHERE id = 1)"),
        ("{outbox_if_new}", "ON DUPLICATE KEY UPDATE consumer = consumer"),
        ("{claim_if_new}", "ON DUPLICATE KEY UPDATE scope = scope"),
        (
            "{add_searches}",
            " ON DUPLICATE KEY UPDATE typed = VALUES(typed), searches = searches + VALUES(searches), \
             without_result = without_result + VALUES(without_result), \
             partial_result = partial_result + VALUES(partial_result)",
        ),
        ("{add_traffic}", " ON DUPLICATE KEY UPDATE views = views + VALUES(views), carts = carts + VALUES(carts)"),
        ("{add_views}", " ON DUPLICATE KEY UPDATE views = views + VALUES(views)"),
        (
            "{put_token}",
            "ON DUPLICATE KEY UPDATE hash = VALUES(hash), email = VALUES(email), expires_at = VALUES(expires_at)",
        ),
        (
            "{add_failure}",
            // The server assigns from left to right, and the count needs the old time.
            "ON DUPLICATE KEY UPDATE failures = CASE WHEN last_at < $3 THEN 1 ELSE failures + 1 END, \
             last_at = GREATEST(last_at, VALUES(last_at))",
        ),
    ],
    lock_tree: Some(&LOCK_TREE),
    hold_tree: Some(&HOLD_TREE),
    for_update: " FOR UPDATE",
    // MariaDB has no FOR SHARE.
    for_share: " LOCK IN SHARE MODE",
    sequences_outbox: true,
    joins_in_order: false,
    row_values: false,
    migration_lock: Some(&MIGRATION_LOCK),
    setup: None,
    host_check: None,
    has_tables: &HAS_TABLES,
    names: &NAMES,
    indexes: None,
    numbers: Numbers::Inserts(&INSERTED_NUMBERS),
    survives_errors: true,
    counts_inserts: false,
    is_file: false,
};

/// The URL parameters that only MySQL has. The library itself sets character set, collation and time zone.
pub(crate) const PARAMETERS: [&str; 2] = ["sslca", "socket"];

/// How many prepared statements a connection keeps.
const KEPT: usize = 256;
/// On Galera, a connection that has room for fewer than this many further prepared statements closes all of them before a
/// transaction.
const ROOM: usize = 64;

/// Reads a URL. Also returns how many prepared statements a connection keeps.
pub(crate) fn options(url: &str) -> sqlx::Result<(MySqlConnectOptions, usize)> {
    let options = MySqlConnectOptions::from_str(url)?;
    // `session` sets these.
    let options = options.pipes_as_concat(false).no_engine_substitution(false);
    let given = url.split_once("statement-cache-capacity=").map(|(_, rest)| rest.split(['&', '#']).next());
    match given {
        // The driver has read it too.
        Some(kept) => Ok((options, kept.and_then(|kept| kept.parse().ok()).unwrap_or(0))),
        None => Ok((options.statement_cache_capacity(KEPT), KEPT)),
    }
}

/// Returns the settings of every session: the server refuses invalid values instead of adjusting them, and a statement
/// sees what has committed. With a `limit`, the waits for locks end after 80 % of it, and statements after 90 %, so
/// that the server reports them before this process stops waiting.
fn session(limit: Option<Duration>) -> String {
    let mut text = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
                    SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
        .to_owned();
    if let Some(limit) = limit {
        let (lock, statement) = (limit * 8 / 10, limit * 9 / 10);
        // MariaDB takes seconds. MySQL takes milliseconds and applies them to reads only. Each setting is in a comment
        // that the other server skips.
        let _ = write!(
            text,
            ", innodb_lock_wait_timeout = {} /*M!100100 , max_statement_time = {} */ /*!80000 , max_execution_time = {} */",
            lock.as_secs().max(1),
            statement.as_secs_f64(),
            statement.as_millis().max(1),
        );
    }
    text
}

/// The kind of server that a connection leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// It decides by itself about each transaction.
    Alone,
    /// It is a node of a Galera cluster, on which a write of another node may roll back a transaction at any time.
    Galera {
        /// The capacity of the cache of prepared statements. If the cache is full, its size does not show whether a
        /// statement was new.
        full: usize,
    },
}

/// Identifies the server, as its neighbours in a cluster do. MariaDB skips the comment.
macro_rules! server {
    () => {
        "CONCAT_WS(' ', @@hostname, @@port, @@server_id /*!80000 , @@server_uuid */)"
    };
}

/// Whether the server refuses writes, as a number. Newer servers have more words than ON for it.
macro_rules! read_only {
    () => {
        "CAST(CAST(@@read_only AS CHAR) NOT IN ('0', 'OFF') OR @@innodb_read_only AS SIGNED)"
    };
}

/// Finds nodes of Galera. Not every server has the variable.
macro_rules! galera {
    () => {
        "SHOW VARIABLES WHERE Variable_name = 'wsrep_on' AND Value = 'ON'"
    };
}

/// Returns the kind of server, from the rows of a text that ends with [`galera!`].
fn node_of(rows: &[MySqlRow], full: usize) -> Node {
    let is_galera = rows.last().is_some_and(|row| row.try_get_unchecked::<&str, _>(0).is_ok_and(|n| n == "wsrep_on"));
    if is_galera { Node::Galera { full } } else { Node::Alone }
}

/// Returns the kind of server that a connection of a host leads to.
///
/// # Errors
/// `Unavailable` if the server is read-only.
pub(crate) async fn node(c: &mut MySqlConnection, full: usize) -> DbResult<Node> {
    let text = concat!("SELECT ", server!(), ", ", read_only!(), ", NULL, NULL; ", galera!());
    let rows = c.fetch_all(sqlx::raw_sql(text)).await.map_err(classify)?;
    if let Some(row) = rows.first() {
        let view = view_of(row)?;
        view.check(&view.server)?;
    }
    Ok(node_of(&rows, full))
}

/// Returns the name of the server to which transactions go. All statements are in one text, which no proxy splits.
pub(crate) async fn server_of_transactions(c: &mut MySqlConnection) -> DbResult<String> {
    let text = concat!("START TRANSACTION; SELECT ", server!(), "; ROLLBACK");
    let rows = c.fetch_all(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(rows.first().map(|row| text_of(row, 0)).transpose()?.flatten().unwrap_or_default())
}

/// Reads what a SELECT outside of a transaction shows about its server, with the values of `columns`, the
/// [`schema_columns`](check::schema_columns), if they are given.
pub(crate) async fn view(c: &mut MySqlConnection, columns: Option<&str>) -> DbResult<View> {
    let base = concat!("SELECT ", server!(), ", ", read_only!(), ", ");
    let text = format!("{base}{}", columns.unwrap_or("NULL, NULL"));
    view_of(&c.fetch_one(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?)
}

fn view_of(row: &MySqlRow) -> DbResult<View> {
    Ok(View {
        server: text_of(row, 0)?.unwrap_or_default(),
        is_read_only: row.try_get::<i64, _>(1).map_err(classify)? != 0,
        // A replica whose replication has stopped looks like any other server that is read-only.
        is_standby: false,
        schema: (text_of(row, 2)?, text_of(row, 3)?),
    })
}

fn text_of(row: &MySqlRow, column: usize) -> DbResult<Option<String>> {
    row.try_get_unchecked(column).map_err(classify)
}

/// Opens a connection that keeps `kept` prepared statements.
pub(crate) async fn open(
    options: &MySqlConnectOptions,
    kept: usize,
    limit: Option<Duration>,
) -> DbResult<(MySqlConnection, Node)> {
    let mut c = options.connect().await.map_err(classify)?;
    let text = format!("{}; {}", session(limit), galera!());
    let node = node_of(&c.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?, kept);
    if matches!(node, Node::Galera { .. }) {
        if kept == 0 {
            let advice = "leads to a Galera cluster, which needs a `statement-cache-capacity` of more than 0";
            return Err(DbError { kind: Kind::Setup(advice), source: "no prepared statements are kept".into() });
        }
        // A read sees what another process has written on another node before. Dirty reads would neither wait for that
        // nor be refused by a node that has lost its cluster.
        let text = "SET SESSION wsrep_sync_wait = 1, wsrep_dirty_reads = OFF";
        c.execute(sqlx::raw_sql(text)).await.map_err(classify)?;
    }
    Ok((c, node))
}

/// Makes a database the one of a connection. The server runs a prepared statement in the database in which it was
/// prepared, so those of another database are closed. Returns the values of `columns`, the
/// [`schema_columns`](check::schema_columns), if they are given.
pub(crate) async fn enter(
    c: &mut MySqlConnection,
    schema: &SchemaName,
    columns: Option<&str>,
) -> DbResult<Option<check::Schema>> {
    c.clear_cached_statements().await.map_err(classify)?;
    // The name has letters, digits and underscores only.
    let mut text = format!("USE `{}`", schema.as_str());
    if let Some(columns) = columns {
        let _ = write!(text, "; SELECT {columns}");
    }
    let rows = c.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?;
    rows.first().map(|row| Ok((text_of(row, 0)?, text_of(row, 1)?))).transpose()
}

/// Creates a database, if it does not exist.
pub(crate) async fn create_schema(c: &mut MySqlConnection, schema: &SchemaName) -> DbResult<()> {
    let text = format!("CREATE DATABASE IF NOT EXISTS `{}`", schema.as_str());
    c.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?;
    Ok(())
}

/// Returns the error of a transaction that the server has rolled back.
fn rolled_back() -> DbError {
    DbError { kind: Kind::Contention, source: "a write of another node has rolled back the transaction".into() }
}

/// Prepares a statement of a transaction on Galera, and checks that the transaction is still the one that began.
///
/// While a node prepares a statement, a write of another node may roll back the transaction. The server (MariaDB 10.11)
/// then loses the error: it answers that the statement is prepared. The next statements would commit by themselves, and
/// the COMMIT would succeed. Every other command returns the error, so nothing is asked about a statement that the
/// connection has already prepared.
async fn prepare(c: &mut MySqlConnection, node: Node, sql: &SqlStr) -> DbResult<()> {
    let Node::Galera { full } = node else { return Ok(()) };
    let before = c.cached_statements_size();
    c.prepare(sql.clone()).await.map_err(classify)?;
    if c.cached_statements_size() == before && before < full {
        return Ok(());
    }
    let row = c.fetch_one(sqlx::raw_sql("SELECT CAST(@@in_transaction AS SIGNED)")).await.map_err(classify)?;
    if row.try_get::<i64, _>(0).map_err(classify)? == 1 { Ok(()) } else { Err(rolled_back()) }
}

/// Begins a transaction.
pub(crate) async fn begin(c: &mut MySqlConnection, node: Node, text: &'static str) -> DbResult<()> {
    let Node::Galera { full } = node else { return script(c, text).await };
    if c.cached_statements_size() + ROOM > full {
        c.clear_cached_statements().await.map_err(classify)?;
    }
    script(c, BEGIN_ON_GALERA).await
}

/// Commits a transaction. On Galera, it fails if a write of another node has rolled the transaction back.
pub(crate) async fn commit(c: &mut MySqlConnection, node: Node) -> DbResult<()> {
    match node {
        Node::Alone => script(c, "COMMIT").await,
        // `STILL_BEGUN` and the commit: the server runs the second statement only if the first succeeds.
        Node::Galera { .. } => script(c, "RELEASE SAVEPOINT ecom_begun; COMMIT").await,
    }
}

/// Begins a transaction with a savepoint. A transaction that the server begins after a rollback lacks it.
pub(crate) const BEGIN_ON_GALERA: &str = "START TRANSACTION; SAVEPOINT ecom_begun";
/// Fails if the transaction that [`BEGIN_ON_GALERA`] began was rolled back.
pub(crate) const STILL_BEGUN: &str = "RELEASE SAVEPOINT ecom_begun";

fn arguments(values: Vec<Value<'_>>) -> DbResult<MySqlArguments> {
    let mut args = MySqlArguments::default();
    args.reserve(values.len(), values.len() * 16);
    for v in values {
        match v {
            Value::I32(v) => args.add(v),
            Value::I64(v) => args.add(v),
            Value::Text(v) => args.add(v),
            Value::Json(v) => match v.map(RawValue::from_string).transpose() {
                Ok(v) => args.add(v.map(Json)),
                Err(e) => Err(e.into()),
            },
            Value::Bytes(v) => args.add(v.as_deref()),
            Value::Uuid(v) => args.add(v),
            Value::Time(v) => args.add(v),
            Value::Date(v) => args.add(v),
        }
        .map_err(|e| DbError { kind: Kind::Other, source: e })?;
    }
    Ok(args)
}

pub(crate) async fn fetch_all(
    c: &mut MySqlConnection,
    node: Node,
    sql: SqlStr,
    values: Vec<Value<'_>>,
) -> DbResult<Vec<Row>> {
    prepare(c, node, &sql).await?;
    let query = sqlx::query_with(sql, arguments(values)?);
    let rows = c.fetch_all(query).await.map_err(classify)?;
    Ok(rows.into_iter().map(Row::MySql).collect())
}

pub(crate) async fn fetch_optional(
    c: &mut MySqlConnection,
    node: Node,
    sql: SqlStr,
    values: Vec<Value<'_>>,
) -> DbResult<Option<Row>> {
    prepare(c, node, &sql).await?;
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.fetch_optional(query).await.map_err(classify)?.map(Row::MySql))
}

pub(crate) async fn execute(c: &mut MySqlConnection, node: Node, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<u64> {
    prepare(c, node, &sql).await?;
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.execute(query).await.map_err(classify)?.rows_affected())
}

pub(crate) async fn script(c: &mut MySqlConnection, text: &'static str) -> DbResult<()> {
    c.execute(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(())
}

/// Classifies the error of a statement.
pub(crate) fn classify(source: sqlx::Error) -> DbError {
    use sqlx::error::ErrorKind;
    let kind = match &source {
        sqlx::Error::Database(e) => match e.kind() {
            ErrorKind::UniqueViolation => Kind::Unique(quoted(e.message(), "for key '")),
            ErrorKind::ForeignKeyViolation => Kind::ForeignKey(foreign_key(e.message())),
            ErrorKind::CheckViolation => Kind::Check(check(e.message())),
            _ => match e.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number) {
                // The record has changed since the snapshot, lock wait timeout, deadlock; the savepoint of a transaction
                // that the server has rolled back (see `commit`).
                Some(1020 | 1205 | 1213 | 1305) => Kind::Contention,
                Some(1045 | 1698) => Kind::Setup("is refused by the server: check the user and the password"),
                Some(1044 | 1142 | 1227) => {
                    Kind::Setup("names a user who lacks a right that the shop needs in the database: grant it")
                }
                Some(1049) => Kind::Setup("names a database that the server does not have: create it first"),
                // The server ends the connection, or a cluster loses a node, possibly in the middle of a commit.
                Some(1053 | 1180 | 1927) => Kind::Lost,
                Some(1290 | 1792 | 1836) => Kind::ReadOnly,
                // Too many connections, a node that a cluster has lost, disk or table full, interrupted, over the time
                // limit.
                Some(1021 | 1040 | 1047 | 1114 | 1203 | 1317 | 1969 | 3024) => Kind::Unavailable,
                _ => Kind::Other,
            },
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Kind::Lost,
        _ => Kind::Other,
    };
    DbError { kind, source: source.into() }
}

/// Returns the name in ``CONSTRAINT `name` failed for …`` (MariaDB) or `Check constraint 'name' is violated.` (MySQL).
fn check(message: &str) -> String {
    message.split(['`', '\'']).nth(1).unwrap_or_default().to_owned()
}

/// Returns the name between quotes after `before`, without the table in front of it.
fn quoted(message: &str, before: &str) -> String {
    // The last match is used, because the value before it is text of the caller.
    let name = message.rsplit_once(before).and_then(|(_, rest)| rest.split_once('\'')).map_or("", |(name, _)| name);
    name.rsplit_once('.').map_or(name, |(_, n)| n).to_owned()
}

/// Returns the name of the foreign key in the message of an error.
fn foreign_key(message: &str) -> String {
    let rest = message.split_once("CONSTRAINT `").and_then(|(_, rest)| rest.split_once('`'));
    rest.map_or("", |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_prepared_statements_is_that_of_the_url() {
        let kept = |parameters: &str| options(&format!("mysql://h/d{parameters}")).unwrap().1;
        assert_eq!(kept(""), KEPT);
        assert_eq!(kept("?statement-cache-capacity=7&ssl-mode=disabled"), 7);
        assert_eq!(kept("?ssl-mode=disabled&statement-cache-capacity=0"), 0);
    }

    #[test]
    fn constraints_are_known_by_what_either_server_says() {
        let maria = "CONSTRAINT `skus_on_hand_not_negative` failed for `shop`.`skus`";
        assert_eq!(check(maria), "skus_on_hand_not_negative");
        assert_eq!(check("Check constraint 'skus_on_hand_not_negative' is violated."), "skus_on_hand_not_negative");
        for name in ["products_slug_live", "products.products_slug_live"] {
            let message = format!("Duplicate entry 'for key 'x'-1' for key '{name}'");
            assert_eq!(quoted(&message, "for key '"), "products_slug_live");
        }
    }
}
