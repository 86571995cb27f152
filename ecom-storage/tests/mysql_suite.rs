//! The behaviour suites of the storage ports on MySQL, each test in a database of its own.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made fails its test")]

mod releases;

use ecom_core::money::Currency;
use ecom_core::port::Storage as _;
use ecom_core::testkit::StorageFixture;
use ecom_storage::{ServerOptions, SqlStorage};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, SqlSafeStr as _};

async fn database() -> StorageFixture {
    let database = test_servers::mysql().await;
    let mut options = ServerOptions::from_url(&database.url).unwrap();
    // Many tests share the server.
    options.max_connections = 8;
    let storage = SqlStorage::server(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    releases::record(&storage);
    StorageFixture::new(storage, database.guard)
}

ecom_core::storage_suite!(crate::database);

#[tokio::test]
async fn the_statements_of_the_release_before_run_on_this_schema() {
    let fixture = test_servers::mysql().await;
    let storage = SqlStorage::server(ServerOptions::from_url(&fixture.url).unwrap()).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    let mut database = MySqlConnection::connect(&fixture.url).await.unwrap();
    let required: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND is_nullable = 'NO' AND column_default IS NULL \
         AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%'",
    )
    .fetch_all(&mut database)
    .await
    .unwrap();
    let mut wrong = Vec::new();
    for statement in releases::recorded("mysql") {
        let prepared = database.prepare(AssertSqlSafe(statement.text.clone()).into_sql_str()).await;
        let mut errors = releases::unset_columns(&required, &statement.text);
        errors.extend(prepared.err().map(|e| e.to_string()));
        if !errors.is_empty() {
            wrong.push((statement, errors.join("; ")));
        }
    }
    releases::assert_served(&wrong);
}
