//! Everything that is particular to MySQL and MariaDB.

pub(crate) mod row;

use std::str::FromStr;

use serde_json::value::RawValue;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError};
use sqlx::types::Json;
use sqlx::{Arguments, ConnectOptions, Executor, SqlStr};

use crate::sql::dialect::{Dialect, Sql};
use crate::sql::error::{DbError, DbResult, Kind};
use crate::sql::value::{Row, Value};

static LOCK_TREE: Sql = Sql::new("SELECT value FROM ecom_meta WHERE name = 'identity' FOR UPDATE");

/// MySQL's SQL.
pub(crate) static DIALECT: Dialect = Dialect {
    name: "mysql",
    slot: 2,
    numbered: false,
    begin: "START TRANSACTION",
    fragments: &[
        (
            "{category_summaries}",
            "(SELECT JSON_ARRAYAGG(JSON_ARRAY(pc.position, LOWER(HEX(c.id)), c.name, c.slug, c.path)) \
             FROM product_categories pc JOIN categories c ON c.id = pc.category_id WHERE pc.product_id = p.id)",
        ),
        ("{for_update}", " FOR UPDATE"),
        // MariaDB has no OF: the SKUs are locked with their products.
        ("{for_update_of_p}", " FOR UPDATE"),
        ("{bigint}", "SIGNED"),
        ("{page_join}", "JOIN"),
        ("{outbox_head}", "(SELECT seq FROM outbox_head WHERE id = 1)"),
        ("{outbox_if_new}", "ON DUPLICATE KEY UPDATE consumer = consumer"),
    ],
    lock_tree: Some(&LOCK_TREE),
    sequences_outbox: true,
    joins_in_order: false,
    row_values: false,
    migrations: &[],
    survives_errors: true,
};

/// Reads a URL.
pub(crate) fn options(url: &str) -> sqlx::Result<MySqlConnectOptions> {
    MySqlConnectOptions::from_str(url).map(|o| o.statement_cache_capacity(256))
}

/// Opens a connection.
pub(crate) async fn open(options: &MySqlConnectOptions) -> DbResult<MySqlConnection> {
    options.connect().await.map_err(classify)
}

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
            Value::Uuid(v) => args.add(v),
            Value::Time(v) => args.add(v),
        }
        .map_err(|e| DbError { kind: Kind::Other, source: sqlx::Error::Encode(e) })?;
    }
    Ok(args)
}

pub(crate) async fn fetch_all(c: &mut MySqlConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
    let query = sqlx::query_with(sql, arguments(values)?);
    let rows = c.fetch_all(query).await.map_err(classify)?;
    Ok(rows.into_iter().map(Row::MySql).collect())
}

pub(crate) async fn fetch_optional(
    c: &mut MySqlConnection,
    sql: SqlStr,
    values: Vec<Value<'_>>,
) -> DbResult<Option<Row>> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.fetch_optional(query).await.map_err(classify)?.map(Row::MySql))
}

pub(crate) async fn execute(c: &mut MySqlConnection, sql: SqlStr, values: Vec<Value<'_>>) -> DbResult<u64> {
    let query = sqlx::query_with(sql, arguments(values)?);
    Ok(c.execute(query).await.map_err(classify)?.rows_affected())
}

pub(crate) async fn script(c: &mut MySqlConnection, text: &'static str) -> DbResult<()> {
    c.execute(sqlx::raw_sql(text)).await.map_err(classify)?;
    Ok(())
}

/// Why a statement failed.
fn classify(source: sqlx::Error) -> DbError {
    use sqlx::error::ErrorKind;
    let kind = match &source {
        sqlx::Error::Database(e) => match e.kind() {
            ErrorKind::UniqueViolation => Kind::Unique(quoted(e.message(), "for key '")),
            ErrorKind::ForeignKeyViolation => Kind::ForeignKey,
            ErrorKind::CheckViolation => Kind::Check(quoted(&e.message().to_lowercase(), "constraint '")),
            _ => match e.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number) {
                // Too many connections, shutdown, lock wait timeout, deadlock.
                Some(1040 | 1053 | 1205 | 1213) => Kind::Unavailable,
                _ => Kind::Other,
            },
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => Kind::Lost,
        _ => Kind::Other,
    };
    DbError { kind, source }
}

/// The name between quotes after `before`, without the table in front of it.
fn quoted(message: &str, before: &str) -> String {
    let name = message.split_once(before).and_then(|(_, rest)| rest.split_once('\'')).map_or("", |(name, _)| name);
    name.rsplit_once('.').map_or(name, |(_, n)| n).to_owned()
}
