//! A database that is slow, damaged or locked: the requests that meet the fault get an error without a trace of SQL or
//! paths, nothing is half written, and other requests go on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::money::Currency;
use ecom_core::port::{NoCache, NoSearch, Storage as _};
use ecom_storage::{SqlStorage, SqliteOptions};
use serde_json::json;

use crate::support::{Answer, Api, column, id, open};

/// Returns an API over a file, without a cache.
async fn on_file(path: &Path) -> Api {
    let mut options = SqliteOptions::file(path);
    options.statement_timeout = Duration::from_millis(300);
    options.busy_timeout = Duration::from_millis(100);
    let storage = SqlStorage::sqlite(options).unwrap();
    storage.migrate(Currency::USD).await.unwrap();
    Api::changed(open(), Arc::new(NoSearch), |parts| {
        parts.storage = Arc::new(storage);
        parts.cache = Arc::new(NoCache);
    })
    .await
}

/// Runs statements on the file, as another program does.
fn raw(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Checks that the response shows neither SQL nor the file.
#[track_caller]
fn discreet(a: &Answer) {
    let text = String::from_utf8_lossy(&a.bytes).to_ascii_lowercase();
    for word in ["select", "insert", "update ", "sqlite", "malformed", "locked", "interrupted", "shop.db", "tmp"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[tokio::test]
async fn r16_a_statement_that_runs_too_long_is_interrupted_and_answered_503() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let api = on_file(&path).await;
    let customer = api.customer("Ada", "Lovelace", "ada@example.com").await;
    raw(
        &path,
        "CREATE TABLE numbers (n INTEGER);
         INSERT INTO numbers WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 3000) SELECT n FROM c;
         CREATE TRIGGER endless AFTER INSERT ON categories WHEN NEW.name = 'Endless' BEGIN
         UPDATE numbers SET n = (SELECT count(*) FROM numbers a, numbers b, numbers c WHERE a.n + b.n + c.n = 0); END;
         ALTER TABLE customers RENAME TO stored_customers;
         CREATE VIEW customers AS SELECT * FROM stored_customers WHERE
         (SELECT count(*) FROM numbers a, numbers b, numbers c WHERE a.n + b.n + c.n = 0) = 0;",
    );
    let customer = format!("/customers/{}", id(&customer));
    let endless = || api.write("POST", "/categories", json!({"name": "Endless"}));
    let (read, written, other) = tokio::join!(api.get(&customer), endless(), api.get("/products"));
    for refused in [read, written] {
        let refused = refused.refused(503, "UNAVAILABLE", "");
        assert_eq!(refused.header("retry-after"), "1");
        discreet(&refused);
    }
    other.ok(200);
    assert_eq!(column(&api.get("/categories").await.ok(200), "name"), [""; 0]);
    api.category(json!({"name": "Office"})).await;
    assert_eq!(column(&api.get("/categories").await.ok(200), "name"), ["Office"]);
}

#[tokio::test]
async fn r16_a_damaged_page_is_an_internal_error_of_those_who_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let api = on_file(&path).await;
    api.category(json!({"name": "Office"})).await;
    api.shop.close().await;
    let log = path.with_extension("db-wal");
    drop(api);
    while log.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let conn = rusqlite::Connection::open(&path).unwrap();
    let mut pages =
        conn.prepare("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'customers' AND rootpage > 0").unwrap();
    let pages: Vec<u32> = pages.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut bytes = std::fs::read(&path).unwrap();
    for page in pages {
        let page = usize::try_from(page).unwrap();
        bytes[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    }
    std::fs::write(&path, bytes).unwrap();

    let api = on_file(&path).await;
    for _ in 0..2 {
        discreet(&api.get("/customers").await.refused(500, "INTERNAL", ""));
        let ada = json!({"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"});
        discreet(&api.write("POST", "/customers", ada).await.refused(500, "INTERNAL", ""));
        assert_eq!(column(&api.get("/categories").await.ok(200), "name"), ["Office"]);
    }
    api.category(json!({"name": "Paper"})).await;
    assert_eq!(column(&api.get("/categories").await.ok(200), "name").len(), 2);
}

#[tokio::test]
async fn r16_a_file_that_another_program_has_locked_is_read_and_its_writes_get_503() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop.db");
    let api = on_file(&path).await;
    api.category(json!({"name": "Office"})).await;
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; DELETE FROM product_tags").unwrap();
    let refused = api.write("POST", "/categories", json!({"name": "Paper"})).await.refused(503, "UNAVAILABLE", "");
    assert_eq!(refused.header("retry-after"), "1");
    discreet(&refused);
    assert_eq!(column(&api.get("/categories").await.ok(200), "name"), ["Office"]);
    other.execute_batch("COMMIT").unwrap();
    api.category(json!({"name": "Paper"})).await;
    assert_eq!(column(&api.get("/categories").await.ok(200), "name").len(), 2);
}
