//! The parts of the storage that are specific to PostgreSQL.

pub(crate) mod row;

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde_json::value::RawValue;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::types::Json;
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Executor, Row as _, SqlStr};

use crate::sql::engine::check::{self, Timeline, View};
use crate::sql::engine::dialect::{Dialect, Numbers, Sql};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::options::SchemaName;
use crate::sql::engine::value::{Row, Value};

// Advisory locks belong to the database. Their keys depend on the table or the schema, so that shops in several schemas
// of a database do not wait for each other.
static LOCK_TREE: Sql = Sql::new(
    "SELECT 1 FROM \
     (SELECT pg_advisory_xact_lock(7305804402559414117 # CAST(CAST('ecom_meta' AS regclass) AS BIGINT))) locked",
);

static HOLD_TREE: Sql = Sql::new(
    "SELECT 1 FROM \
     (SELECT pg_advisory_xact_lock_shared(7305804402559414117 # CAST(CAST('ecom_meta' AS regclass) AS BIGINT))) locked",
);
static MIGRATION_LOCK: Sql = Sql::new(
    "SELECT CAST(1 AS BIGINT) FROM \
     (SELECT pg_advisory_xact_lock(7305804402559414118 # hashtextextended(current_schema(), 0))) locked",
);

static HAS_TABLES: Sql = Sql::new("SELECT 1 WHERE to_regclass('ecom_meta') IS NOT NULL");
static NAMES: Sql = Sql::new(
    "SELECT CAST(c.relname AS TEXT) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = current_schema()",
);

static INDEXES: Sql =
    Sql::new("SELECT CAST(indexname AS TEXT), indexdef FROM pg_indexes WHERE schemaname = current_schema()");

/// Returns a row that describes what is wrong with the database, or no row.
static SETUP: Sql = Sql::new(
    "SELECT 'must name a database with the encoding UTF8' WHERE current_setting('server_encoding') <> 'UTF8' \
     UNION ALL \
     SELECT 'names a schema that the database does not have: create it first' WHERE current_schema() IS NULL",
);

/// Checks the transaction of a host.
static HOST_CHECK: Sql = Sql::new(
    "SELECT 'is in a transaction at the isolation level ' || \
     current_setting('transaction_isolation') || ': begin it at READ COMMITTED' \
     WHERE current_setting('transaction_isolation') <> 'read committed' \
     UNION ALL \
     SELECT 'is in a read-only transaction, or leads to a standby: use the server that writes' \
     WHERE current_setting('transaction_read_only') = 'on'",
);
static ORDER_NUMBERS: Sql = Sql::new("SELECT nextval('order_numbers') FROM generate_series(1, $1)");
static BILL_NUMBERS: Sql = Sql::new("SELECT nextval('bill_numbers') FROM generate_series(1, $1)");

/// The SQL of PostgreSQL.
pub(crate) static DIALECT: Dialect = Dialect {
    name: "postgres",
    slot: 1,
    numbered: true,
    // Set in every transaction, because a database may have another default, and a pooler loses the settings of a
    // session.
    begin: "BEGIN ISOLATION LEVEL READ COMMITTED",
    fragments: &[
        (
            "{category_summaries}",
            "(SELECT json_agg(json_build_array(pc.position, c.id, c.name, c.slug, c.path)) \
             FROM product_categories pc JOIN categories c ON c.id = pc.category_id WHERE pc.product_id = p.id)",
        ),
        ("{role_ids}", "(SELECT json_agg(r.role_id) FROM user_roles r WHERE r.user_id = u.id)"),
        ("{bigint}", "BIGINT"),
        ("{page_join}", "JOIN"),
        ("{outbox_head}", "(SELECT seq FROM outbox_head WHERE id = 1)"),
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
    lock_tree: Some(&LOCK_TREE),
    hold_tree: Some(&HOLD_TREE),
    // Keys never change, so other transactions may insert rows that refer to these meanwhile.
    for_update: " FOR NO KEY UPDATE",
    for_share: " FOR SHARE",
    sequences_outbox: true,
    joins_in_order: false,
    row_values: true,
    migration_lock: Some(&MIGRATION_LOCK),
    setup: Some(&SETUP),
    host_check: Some(&HOST_CHECK),
    has_tables: &HAS_TABLES,
    names: &NAMES,
    indexes: Some(&INDEXES),
    numbers: Numbers::Sequences { orders: &ORDER_NUMBERS, bills: &BILL_NUMBERS },
    survives_errors: false,
    counts_inserts: true,
    is_file: false,
};

/// The URL parameters that only PostgreSQL has.
pub(crate) const PARAMETERS: [&str; 11] = [
    "sslrootcert",
    "ssl-root-cert",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "options[]",
];

/// Reads a URL.
pub(crate) fn options(url: &str) -> sqlx::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)?;
    Ok(if url.contains("statement-cache-capacity=") { options } else { options.statement_cache_capacity(256) })
}

/// Sets limits on the server. The waits for locks end after 80 % of `limit`, and statements after 90 %, so that the
/// server reports them before this process stops waiting. A transaction that is idle for six times `limit` is ended, so
/// that a hanging process does not keep it open.
pub(crate) fn with_limits(options: PgConnectOptions, limit: Duration) -> PgConnectOptions {
    let ms = |percent: u32| (limit * percent / 100).as_millis().max(1).to_string();
    options.options([
        ("lock_timeout", ms(80)),
        ("statement_timeout", ms(90)),
        ("idle_in_transaction_session_timeout", ms(600)),
    ])
}

/// Makes connections find the tables in a schema.
pub(crate) fn in_schema(options: PgConnectOptions, schema: &SchemaName) -> PgConnectOptions {
    options.options([("search_path", schema.as_str())])
}

/// Makes a connection find the tables in a schema. The server plans the statements again that the connection has
/// prepared for another schema. Returns the values of `columns`, the [`schema_columns`](check::schema_columns), if they
/// are given.
pub(crate) async fn enter(
    c: &mut PgConnection,
    schema: &SchemaName,
    columns: Option<&str>,
) -> DbResult<Option<check::Schema>> {
    // The name has letters, digits and underscores only. Quotes keep it from being a word of the language.
    let mut text = format!("SET search_path = \"{}\"", schema.as_str());
    if let Some(columns) = columns {
        let _ = write!(text, "; SELECT {columns}");
    }
    let rows = c.fetch_all(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?;
    rows.first().map(|row| Ok((text_of(row, 0)?, text_of(row, 1)?))).transpose()
}

/// Creates a schema, if it does not exist.
pub(crate) async fn create_schema(c: &mut PgConnection, schema: &SchemaName) -> DbResult<()> {
    let text = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", schema.as_str());
    c.execute(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?;
    Ok(())
}

/// Opens a connection.
pub(crate) async fn open(options: &PgConnectOptions) -> DbResult<PgConnection> {
    options.connect().await.map_err(classify)
}

/// Identifies the running server. Proxies may send a volatile function, such as `pg_is_in_recovery`, to the primary, and
/// other reads elsewhere. All functions of this text and of [`view`] are stable.
macro_rules! server {
    () => {
        "concat_ws(' ', current_setting('port'), extract(epoch FROM pg_postmaster_start_time()))"
    };
}

/// Returns the name of the server to which transactions go. All statements are in one text, which no proxy splits.
pub(crate) async fn server_of_transactions(c: &mut PgConnection) -> DbResult<String> {
    let text = concat!("BEGIN; SELECT ", server!(), "; ROLLBACK");
    let rows = c.fetch_all(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(rows.first().map(|row| text_of(row, 0)).transpose()?.flatten().unwrap_or_default())
}

/// Reads what a SELECT outside of a transaction shows about its server, with the values of `columns`, the
/// [`schema_columns`](check::schema_columns), if they are given.
pub(crate) async fn view(c: &mut PgConnection, columns: Option<&str>) -> DbResult<View> {
    // `in_hot_standby` exists since version 14.
    let base = concat!(
        "SELECT ",
        server!(),
        ", current_setting('transaction_read_only'), current_setting('in_hot_standby', true), ",
    );
    let text = format!("{base}{}", columns.unwrap_or("CAST(NULL AS TEXT), CAST(NULL AS TEXT)"));
    let row = c.fetch_one(sqlx::raw_sql(AssertSqlSafe(text))).await.map_err(classify)?;
    let is_on = |value: Option<String>| value.is_some_and(|value| value == "on");
    Ok(View {
        server: text_of(&row, 0)?.unwrap_or_default(),
        is_read_only: is_on(text_of(&row, 1)?),
        is_standby: is_on(text_of(&row, 2)?),
        schema: (text_of(&row, 3)?, text_of(&row, 4)?),
    })
}

/// Returns the timeline of the server. Engines that only speak the protocol of PostgreSQL have none.
pub(crate) async fn timeline(c: &mut PgConnection) -> DbResult<Option<Timeline>> {
    let text = "SELECT CAST(system_identifier AS TEXT), substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) \
                FROM pg_control_system()";
    let row = match c.fetch_one(sqlx::raw_sql(text)).await {
        Ok(row) => row,
        // The functions do not exist, or the user may not call them.
        Err(sqlx::Error::Database(e)) if matches!(e.code().as_deref(), Some("42501" | "42883" | "0A000")) => {
            return Ok(None);
        }
        Err(e) => return Err(classify(e)),
    };
    let (system, number) = (text_of(&row, 0)?, text_of(&row, 1)?);
    let number = number.and_then(|hex| i64::from_str_radix(&hex, 16).ok());
    Ok(system.zip(number).map(|(system, number)| Timeline { system, number }))
}

fn text_of(row: &PgRow, column: usize) -> DbResult<Option<String>> {
    row.try_get(column).map_err(classify)
}

fn arguments(values: Vec<Value<'_>>) -> DbResult<PgArguments> {
    let mut args = PgArguments::default();
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

/// Statements with more parameters than this are planned at every call. A prepared statement keeps its plan until the
/// next ANALYZE, and a plan that was made while the tables were empty scans them completely for each value, for as long
/// as a first import takes.
const KEPT_PREPARED: usize = 128;

pub(crate) async fn fetch_all(c: &mut PgConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
    let keep = values.len() <= KEPT_PREPARED;
    let query = sqlx::query_with(sql, arguments(values)?).persistent(keep);
    let rows = c.fetch_all(query).await.map_err(classify)?;
    Ok(rows.into_iter().map(Row::Postgres).collect())
}

pub(crate) async fn fetch_optional(c: &mut PgConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<Option<Row>> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.fetch_optional(query).await.map_err(classify)?.map(Row::Postgres))
}

pub(crate) async fn execute(c: &mut PgConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<u64> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.execute(query).await.map_err(classify)?.rows_affected())
}

pub(crate) async fn script(c: &mut PgConnection, text: &'static str) -> DbResult<()> {
    c.execute(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(())
}

/// Classifies the error of a statement.
pub(crate) fn classify(source: sqlx::Error) -> DbError {
    use sqlx::error::ErrorKind;
    let kind = match &source {
        sqlx::Error::Database(e) => {
            let constraint = || e.constraint().unwrap_or_default().to_owned();
            match e.kind() {
                ErrorKind::UniqueViolation => Kind::Unique(constraint()),
                ErrorKind::ForeignKeyViolation => Kind::ForeignKey(constraint()),
                ErrorKind::CheckViolation => Kind::Check(constraint()),
                _ => match e.code().as_deref() {
                    // Serialization failure, deadlock, lock timeout.
                    Some("40001" | "40P01" | "55P03") => Kind::Contention,
                    Some("28P01" | "28000") => Kind::Setup("is refused by the server: check the user and the password"),
                    Some("3D000") => Kind::Setup("names a database that the server does not have: create it first"),
                    Some("42501") => {
                        Kind::Setup("names a user who lacks a right that the shop needs in the database: grant it")
                    }
                    // A pooler has lost its connection to the server or cannot get one, possibly in the middle of a
                    // commit.
                    Some(c) if c.starts_with("08") => Kind::Lost,
                    // The server ends the connection, possibly in the middle of a commit.
                    Some("57P01" | "57P02" | "57P05") => Kind::Lost,
                    Some("25006") => Kind::ReadOnly,
                    // Rolled back, cancelled, shutting down, or out of connections, resources or disk.
                    Some(c) if c.starts_with("40") || c.starts_with("53") || c.starts_with("57") => Kind::Unavailable,
                    _ => Kind::Other,
                },
            }
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Kind::Lost,
        _ => Kind::Other,
    };
    DbError { kind, source: source.into() }
}
