//! The behaviour suites of the storage ports on PostgreSQL, each test in a database of its own.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod releases;

use ecom_core::money::Currency;
use ecom_core::port::Storage as _;
use ecom_core::testkit::StorageFixture;
use ecom_storage::{ServerOptions, SqlStorage};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

async fn migrated(url: &str) -> SqlStorage {
    let mut options = ServerOptions::from_url(url).unwrap();
    // Many tests share the server.
    options.max_connections = 8;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    storage
}

async fn database() -> StorageFixture {
    let database = test_servers::postgres_with_tables(migrated).await;
    let storage = migrated(&database.url).await;
    releases::record(&storage);
    StorageFixture::new(storage, database.guard)
}

ecom_core::storage_suite!(crate::database);

/// Returns the type that a parameter of this type has on PostgreSQL.
fn type_of(name: &str) -> &'static str {
    match name {
        "i32" => "int4",
        "i64" => "int8",
        "text" => "text",
        "uuid" => "uuid",
        "bytes" => "bytea",
        "json" => "jsonb",
        "time" => "timestamptz",
        "date" => "date",
        other => panic!("a recorded parameter has the unknown type {other}"),
    }
}

#[tokio::test]
async fn the_statements_of_the_release_before_run_on_this_schema() {
    let fixture = test_servers::postgres().await;
    let storage = SqlStorage::server(ServerOptions::from_url(&fixture.url).unwrap()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let mut database = PgConnection::connect(&fixture.url).await.unwrap();
    let required: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) FROM information_schema.columns \
         WHERE table_schema = current_schema() AND is_nullable = 'NO' AND column_default IS NULL \
         AND is_identity = 'NO' AND is_generated = 'NEVER'",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    let mut wrong = Vec::new();
    for statement in releases::recorded("postgres") {
        let types: Vec<&str> = statement.types.iter().map(|name| type_of(name)).collect();
        let types = if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) };
        let text = &statement.text;
        let prepare = format!("PREPARE release_statement{types} AS {text}; DEALLOCATE release_statement");
        let prepared = database.execute(sqlx::raw_sql(AssertSqlSafe(prepare))).await;
        let mut errors = releases::unset_columns(&required, text);
        errors.extend(prepared.err().map(|e| e.to_string()));
        if !errors.is_empty() {
            wrong.push((statement, errors.join("; ")));
        }
    }
    releases::assert_served(&wrong);
}
