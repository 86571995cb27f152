//! Tests that the servers for fault tests behave as documented, and that every test gets its own database.

#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection};
use test_servers::{Kind, Server, version};
use tokio::time::timeout;

/// The server survives a kill and a restart, hangs while it is paused, and is removed when it is dropped.
async fn breaks_and_comes_back(mut server: Server) {
    let url = server.url();
    server.kill9().await;
    assert!(!server.is_running());
    assert!(version(&url).await.is_err());
    server.start().await;
    server.restart().await;
    assert!(version(&url).await.is_ok());
    server.pause();
    let asked = url.clone();
    let answer = tokio::spawn(async move { version(&asked).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!answer.is_finished(), "a paused server answers nothing");
    server.resume();
    assert!(answer.await.unwrap().is_ok());
    server.pause();
    let directory = server.directory().to_owned();
    drop(server);
    assert!(version(&url).await.is_err());
    assert!(!directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_breaks_and_comes_back() {
    let server = Server::postgres().await;
    let mut c = PgConnection::connect(&server.url()).await.unwrap();
    let flushes: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut c).await.unwrap();
    assert_eq!(flushes, "on");
    breaks_and_comes_back(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_postgres_answers_no_open_connection() {
    let server = Server::with(Kind::Postgres, &["max_connections=7"]).await;
    let mut c = PgConnection::connect(&server.url()).await.unwrap();
    let most: String = sqlx::query_scalar("SHOW max_connections").fetch_one(&mut c).await.unwrap();
    assert_eq!(most, "7");
    server.pause();
    assert!(timeout(Duration::from_millis(500), c.execute("SELECT 1")).await.is_err());
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_breaks_and_comes_back() {
    breaks_and_comes_back(Server::mariadb().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_breaks_and_comes_back() {
    breaks_and_comes_back(Server::with(Kind::Redis, &["requirepass=secret"]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_database_is_empty_and_gone_afterwards() {
    let first = test_servers::postgres().await;
    let second = test_servers::postgres().await;
    assert_ne!(first.url, second.url);
    // A connection that is still in a transaction.
    let mut c = PgConnection::connect(&first.url).await.unwrap();
    c.execute("BEGIN").await.unwrap();
    c.execute("CREATE TABLE t (n int)").await.unwrap();
    let url = first.url.clone();
    drop(first);
    assert!(PgConnection::connect(&url).await.is_err());

    let database = test_servers::mysql().await;
    let mut c = MySqlConnection::connect(&database.url).await.unwrap();
    c.execute("CREATE TABLE t (n int)").await.unwrap();
    c.execute("BEGIN").await.unwrap();
    c.execute(AssertSqlSafe("INSERT INTO t VALUES (1)".to_owned())).await.unwrap();
    let url = database.url.clone();
    // A failed test drops its database too.
    let failed = tokio::spawn(async move {
        let _database = database;
        panic!("on purpose");
    });
    assert!(failed.await.is_err());
    assert!(MySqlConnection::connect(&url).await.is_err());
    assert_ne!(test_servers::redis().prefix, test_servers::redis().prefix);
}
