//! Behaviour that only databases behind a server have: wrong settings, migrations beside the host's, the host's own
//! transaction, connections that die, locks that are not granted.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up fails")]

use std::borrow::Cow;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ecom_core::access::{BuiltInRole, Permission, Principal};
use ecom_core::catalog::Category;
use ecom_core::catalog::{CategoryFilter, CategoryInput};
use ecom_core::clock::{Clock as _, SystemClock};
use ecom_core::common::{Actor, Attributes, Audit, IncludeDeleted};
use ecom_core::id::{CategoryId, IdSource as _, UuidV7Source};
use ecom_core::money::Currency;
use ecom_core::port::{NoSearch, Storage};
use ecom_core::testkit::sample::Env;
use ecom_core::text::Slug;
use ecom_core::{Error, ErrorCode, RefusedServer, Shop, ShopParts, WithCauses};
use ecom_storage::{ServerOptions, ServerPool, SqlStorage, begin_on_mysql, begin_on_postgres, on_mysql, on_postgres};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection, SqlSafeStr as _};
use test_servers::cluster::Galera;
use test_servers::{Kind, Server, TestDatabase};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Runs one test on each database.
macro_rules! on_each {
    ($($name:ident)*) => {
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() -> crate::TestResult {
                crate::$name(test_servers::postgres().await).await
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() -> crate::TestResult {
                crate::$name(test_servers::mysql().await).await
            })*
        }
    };
}

on_each! {
    migrations_run_once_also_from_many_at_once
    a_newer_schema_and_an_edited_migration_are_refused
    the_hosts_migrations_run_beside_ours
    a_host_writes_inside_its_own_transaction
    a_hosts_transaction_that_cannot_work_is_refused
    a_table_of_another_program_is_refused_as_it_is
    no_such_database_is_said_at_start
    no_such_user_is_said_at_start
    what_the_schema_holds_no_statement_breaks
    what_the_schema_of_access_refuses
    permissions_of_a_later_release_are_left_out
    connections_that_died_cost_one_call_at_most
    a_lock_that_does_not_come_ends_in_time
    r03_a_product_and_a_move_of_its_category_wait_for_each_other
    r15_a_read_only_database_is_refused
    r15_a_proxy_that_sends_reads_elsewhere_is_refused
    r15_a_server_with_another_schema_or_database_is_refused
    r15_each_shop_on_shared_connections_refuses_a_changed_schema
    a_shop_gets_the_connection_that_served_it_last
    a_full_disk_and_a_lost_pooler_are_unavailable
    a_statement_sees_what_has_committed_whatever_the_database_defaults_to
    once_migrated_nobody_needs_to_make_tables
    deferred_indexes_come_back_as_they_were
}

fn is_mysql(url: &str) -> bool {
    url.starts_with("mysql")
}

fn name_of(url: &str) -> String {
    url::Url::parse(url).unwrap().path().trim_start_matches('/').to_owned()
}

fn storage(url: &str) -> SqlStorage {
    let mut options = ServerOptions::from_url(url).unwrap();
    options.max_connections = 8;
    SqlStorage::server(options).unwrap()
}

async fn raw(url: &str, sql: &str) -> sqlx::Result<()> {
    let sql = AssertSqlSafe(sql.to_owned());
    if is_mysql(url) {
        let mut c = MySqlConnection::connect(url).await?;
        c.execute(sql).await?;
        c.close().await
    } else {
        let mut c = PgConnection::connect(url).await?;
        c.execute(sql).await?;
        c.close().await
    }
}

fn category(name: &str) -> Category {
    let slug = Slug::from_title(name, "category");
    Category {
        id: CategoryId(UuidV7Source::new(Arc::new(SystemClock)).next()),
        name: name.to_owned(),
        path: Category::path_under(None, &slug),
        slug,
        parent_id: None,
        description: None,
        attributes: Attributes::default(),
        external: None,
        product_count: 0,
        subtree_product_count: 0,
        revision: 1,
        audit: Audit::created(SystemClock.now(), &Actor::system()),
    }
}

async fn migrations_run_once_also_from_many_at_once(database: TestDatabase) -> TestResult {
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let s = storage(&database.url);
            tokio::spawn(async move {
                s.migrate(Currency::USD).await?;
                s.identity().await
            })
        })
        .collect();
    let mut identities = Vec::new();
    for t in tasks {
        identities.push(t.await??);
    }
    identities.dedup();
    assert_eq!(identities.len(), 1);
    Ok(())
}

async fn a_newer_schema_and_an_edited_migration_are_refused(database: TestDatabase) -> TestResult {
    let s = storage(&database.url);
    s.migrate(Currency::USD).await?;
    raw(&database.url, "UPDATE ecom_migrations SET checksum = 'x'").await?;
    let e = s.migrate(Currency::USD).await.unwrap_err();
    assert!(e.code() == ErrorCode::Internal && e.to_string().contains("does not know"), "{e}");
    raw(&database.url, "INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)").await?;
    raw(&database.url, "UPDATE ecom_meta SET value = '999' WHERE name = 'serves_from'").await?;
    let e = s.migrate(Currency::USD).await.unwrap_err();
    assert!(e.code() == ErrorCode::Internal && e.to_string().contains("newer"), "{e}");
    let status = storage(&database.url).schema_status().await?;
    assert!(!status.is_served && status.pending.is_empty() && status.newer == ["later"], "{status:?}");
    Ok(())
}

/// sqlx's own migration table and lock belong to the host.
async fn the_hosts_migrations_run_beside_ours(database: TestDatabase) -> TestResult {
    async fn migrate_host(url: &str) -> TestResult {
        let sql = "CREATE TABLE host_table (id INT PRIMARY KEY)".into_sql_str();
        let migration = Migration::new(1, Cow::Borrowed("host"), MigrationType::Simple, sql, false);
        let migrator = Migrator::with_migrations(vec![migration]);
        if is_mysql(url) {
            migrator.run(&mut MySqlConnection::connect(url).await?).await?;
        } else {
            migrator.run(&mut PgConnection::connect(url).await?).await?;
        }
        Ok(())
    }
    for _ in 0..2 {
        let s = storage(&database.url);
        let (ours, hosts) = tokio::join!(s.migrate(Currency::USD), migrate_host(&database.url));
        ours?;
        hosts?;
        s.identity().await?;
        raw(&database.url, "SELECT * FROM host_table").await?;
    }
    Ok(())
}

async fn a_host_writes_inside_its_own_transaction(database: TestDatabase) -> TestResult {
    let s = storage(&database.url);
    s.migrate(Currency::USD).await?;
    raw(&database.url, "CREATE TABLE host_table (id INT PRIMARY KEY)").await?;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let actor = Principal::trusted("host");
    for (n, keep) in [(1, false), (2, true), (3, false), (4, true)] {
        let input: CategoryInput = serde_json::from_str(&format!(r#"{{"name": "c {n}"}}"#))?;
        let insert = AssertSqlSafe(format!("INSERT INTO host_table VALUES ({n})"));
        // Either the host begins its transaction, or the library does.
        let begins = n < 3;
        // The code for the connection types differs only in their names.
        macro_rules! write_on {
            ($connection:ty, $on:path, $begin_on:path) => {{
                let mut host = <$connection>::connect(&database.url).await?;
                if begins {
                    let mut host_tx = host.begin().await?;
                    let mut tx = $on(&shop, &mut host_tx).await?;
                    shop.acting_as(&actor).categories().create_in(&mut tx, &input).await?;
                    let after = tx.finish()?;
                    host_tx.execute(insert).await?;
                    if keep {
                        host_tx.commit().await?
                    } else {
                        host_tx.rollback().await?
                    }
                    after.run().await;
                } else {
                    let mut tx = $begin_on(&shop, &mut host).await?;
                    shop.acting_as(&actor).categories().create_in(&mut tx, &input).await?;
                    tx.connection::<$connection>().ok_or("the host's connection")?.execute(insert).await?;
                    if keep {
                        tx.commit().await?.run().await
                    } else {
                        drop(tx)
                    }
                    // The connection can still be used afterwards.
                    host.execute("SELECT id FROM host_table").await?;
                }
            }};
        }
        if is_mysql(&database.url) {
            write_on!(MySqlConnection, on_mysql, begin_on_mysql);
        } else {
            write_on!(PgConnection, on_postgres, begin_on_postgres);
        }
        assert_eq!(shop.categories().get_by_slug(&format!("c-{n}")).await.is_ok(), keep, "{n}");
    }
    Ok(())
}

async fn a_hosts_transaction_that_cannot_work_is_refused(database: TestDatabase) -> TestResult {
    let s = storage(&database.url);
    s.migrate(Currency::USD).await?;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let refused = |e: Error, word: &str| {
        let Error::Validation(errors) = &e else { panic!("{e:?}") };
        assert!(errors.0[0].field == "connection" && errors.0[0].message.contains(word), "{e}");
    };
    if is_mysql(&database.url) {
        let other = test_servers::mysql().await;
        let mut host = MySqlConnection::connect(&other.url).await?;
        refused(begin_on_mysql(&shop, &mut host).await.unwrap_err(), "not a connection to the database");
    } else {
        let other = test_servers::postgres().await;
        let mut host = PgConnection::connect(&other.url).await?;
        refused(begin_on_postgres(&shop, &mut host).await.unwrap_err(), "not a connection to the database");
        let mut host = PgConnection::connect(&database.url).await?;
        let mut host_tx = host.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        refused(on_postgres(&shop, &mut host_tx).await.unwrap_err(), "READ COMMITTED");
    }
    Ok(())
}

fn assert_said_at_start(e: &Error, word: &str, secret: &str) {
    let Error::Validation(errors) = e else { panic!("{e:?}") };
    assert_eq!(errors.0[0].field, "database");
    assert!(errors.0[0].message.contains(word), "{e:?}");
    assert!(!format!("{e} {e:?}").contains(secret), "{e:?}");
}

async fn a_table_of_another_program_is_refused_as_it_is(database: TestDatabase) -> TestResult {
    let url = &*database.url;
    raw(url, "CREATE TABLE products (id INT PRIMARY KEY)").await?;
    let e = storage(url).migrate(Currency::USD).await.unwrap_err();
    assert_eq!(e.code(), ErrorCode::Validation);
    assert!(e.to_string().contains("another program has a table `products`"), "{e}");
    // MySQL commits each change of the schema at once, so nothing may be written before.
    assert!(raw(url, "SELECT * FROM ecom_meta").await.is_err());
    raw(url, "DROP TABLE products").await?;
    storage(url).migrate(Currency::USD).await?;
    Ok(())
}

async fn no_such_database_is_said_at_start(database: TestDatabase) -> TestResult {
    let mut url = url::Url::parse(&database.url)?;
    url.set_path("ecom_test_nowhere");
    let s = storage(url.as_str());
    assert_said_at_start(
        &s.migrate(Currency::USD).await.unwrap_err(),
        "database that the server does not have",
        "nowhere",
    );
    // The server may come back while the shop runs.
    let e = s.identity().await.unwrap_err();
    assert!(e.is_retryable() && !e.outcome_unknown(), "{e:?}");
    Ok(())
}

async fn no_such_user_is_said_at_start(database: TestDatabase) -> TestResult {
    let mut url = url::Url::parse(&database.url)?;
    url.set_username("nobody_of_that_name").unwrap();
    url.set_password(Some("hunter2")).unwrap();
    let s = storage(url.as_str());
    assert_said_at_start(&s.migrate(Currency::USD).await.unwrap_err(), "the user and the password", "hunter2");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_said_at_start() -> TestResult {
    let server = Server::postgres().await;
    raw(&server.url(), "ALTER USER CURRENT_USER PASSWORD 'right'").await?;
    std::fs::write(server.directory().join("data/pg_hba.conf"), "host all all 127.0.0.1/32 scram-sha-256\n")?;
    raw(&server.url(), "SELECT pg_reload_conf()").await?;
    let mut url = url::Url::parse(&server.url())?;
    url.set_password(Some("right")).unwrap();
    // The signal takes effect after a moment.
    while raw(&server.url(), "SELECT 1").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    storage(url.as_str()).migrate(Currency::USD).await?;
    url.set_password(Some("hunter2")).unwrap();
    assert_said_at_start(
        &storage(url.as_str()).migrate(Currency::USD).await.unwrap_err(),
        "the user and the password",
        "hunter2",
    );

    let url = test_servers::mysql().await.url.replace("ecom:ecom@", "ecom:hunter2@");
    if url.contains("hunter2") {
        assert_said_at_start(
            &storage(&url).migrate(Currency::USD).await.unwrap_err(),
            "the user and the password",
            "hunter2",
        );
    }
    Ok(())
}

/// Foreign keys, checks and unique indexes also apply to writes that bypass the library.
async fn what_the_schema_holds_no_statement_breaks(database: TestDatabase) -> TestResult {
    let url = &database.url;
    storage(url).migrate(Currency::USD).await?;
    let (id, other) = if is_mysql(url) {
        ("X'00000000000000000000000000000001'", "X'00000000000000000000000000000002'")
    } else {
        ("'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'")
    };
    let t = "'2026-01-01 00:00:00'";
    let product = |id: &str, slug: &str, rating: i32| {
        format!(
            "INSERT INTO products (id, title, title_key, slug, status, listing_state, tags, images, attributes, \
             discount, rating, rating_count, rating_source, price_key, availability, revision, created_at, \
             updated_at, created_by, updated_by, version) VALUES ({id}, 'a', 'a', '{slug}', 1, 1, '[]', '[]', '{{}}', \
             0, {rating}, 0, 0, 9223372036854775807, 0, 1, {t}, {t}, 'x', 'x', 1)"
        )
    };
    let sku = |id: &str, product: &str, on_hand: i32| {
        format!(
            "INSERT INTO skus (id, product_id, position, code, code_key, option_values, attributes, price, on_hand, \
             reserved, low_stock_threshold, created_at, updated_at, created_by, updated_by, version) VALUES ({id}, \
             {product}, 0, 'c', 'c', '{{}}', '{{}}', 1, {on_hand}, 0, 0, {t}, {t}, 'x', 'x', 1)"
        )
    };
    raw(url, &product(id, "a", 0)).await?;
    raw(url, &sku(id, id, 5)).await?;
    for (why, sql) in [
        ("a slug is live once", product(other, "a", 0)),
        ("a rating is at most 5", product(other, "b", 501)),
        ("a code is live once", sku(other, id, 5)),
        ("a SKU has a product", sku(other, other, 5).replace("'c'", "'d'")),
        ("stock is not negative", "UPDATE skus SET on_hand = -1".to_owned()),
        ("a product with SKUs stays", "DELETE FROM products".to_owned()),
        (
            "a movement moves",
            format!(
                "INSERT INTO stock_movements (id, sku_id, delta, reason, created_at, created_by) VALUES ({id}, {id}, 0, \
             'x', {t}, 'x')"
            ),
        ),
    ] {
        assert!(raw(url, &sql).await.is_err(), "{why}: {sql}");
    }
    Ok(())
}

async fn what_the_schema_of_access_refuses(database: TestDatabase) -> TestResult {
    let url = &database.url;
    let (s, env) = (storage(url), Env::default());
    s.migrate(Currency::USD).await?;
    let user = env.full_user("ada@example.com", None, &[BuiltInRole::Staff.id()]);
    let mut tx = s.begin().await?;
    tx.users().insert(&user).await?;
    tx.sessions().insert(&env.session(&user)).await?;
    tx.api_keys().insert(&env.api_key("robot")).await?;
    tx.commit().await?;
    for (why, sql) in [
        ("the name of a role is a word", "UPDATE roles SET name = 'No Role' WHERE name = 'staff'"),
        ("the name of a role begins with a letter", "UPDATE roles SET name = '2nd' WHERE name = 'staff'"),
        ("permissions are an array", "UPDATE roles SET permissions = '{}'"),
        ("permissions are an array", "UPDATE api_keys SET permissions = '1'"),
        ("a role of a user stays", "DELETE FROM roles WHERE name = 'staff'"),
        ("a password has a time", "UPDATE users SET password_set_at = NULL"),
        ("an end has a reason", "UPDATE sessions SET ended_at = '2026-01-01 00:00:00'"),
        ("a user with sessions stays", "DELETE FROM users"),
    ] {
        assert!(raw(url, sql).await.is_err(), "{why}: {sql}");
    }
    Ok(())
}

async fn permissions_of_a_later_release_are_left_out(database: TestDatabase) -> TestResult {
    let url = &database.url;
    let (s, env) = (storage(url), Env::default());
    s.migrate(Currency::USD).await?;
    let (role, key) = (env.full_role("packer"), env.api_key("robot"));
    let mut tx = s.begin().await?;
    tx.roles().insert(&role).await?;
    tx.api_keys().insert(&key).await?;
    tx.commit().await?;
    raw(url, r#"UPDATE roles SET permissions = '["stock:teleport","stock:read",""]' WHERE name = 'packer'"#).await?;
    raw(url, r#"UPDATE api_keys SET permissions = '["stock:teleport","stock:read"]'"#).await?;
    let mut c = s.connect().await?;
    let known = [Permission::StockRead].into();
    assert_eq!(c.roles().get(role.id).await?.ok_or("gone")?.permissions, known);
    assert_eq!(c.api_keys().get(key.id).await?.ok_or("gone")?.permissions, known);
    Ok(())
}

async fn kill_connections(url: &str) -> TestResult {
    if is_mysql(url) {
        let mut c = MySqlConnection::connect(url).await?;
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = DATABASE() AND id <> \
             CONNECTION_ID()",
        )
        .fetch_all(&mut c)
        .await?;
        for id in ids {
            let _ = c.execute(AssertSqlSafe(format!("KILL {id}"))).await;
        }
    } else {
        raw(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> \
             pg_backend_pid()",
        )
        .await?;
    }
    Ok(())
}

async fn connections_that_died_cost_one_call_at_most(database: TestDatabase) -> TestResult {
    let s = Arc::new(storage(&database.url));
    s.migrate(Currency::USD).await?;
    // Opens eight connections.
    let barrier = Arc::new(tokio::sync::Barrier::new(8));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (s, barrier) = (s.clone(), barrier.clone());
            tokio::spawn(async move {
                let mut c = s.connect().await.unwrap();
                c.outbox().head().await.unwrap();
                barrier.wait().await;
            })
        })
        .collect();
    for t in tasks {
        t.await?;
    }
    kill_connections(&database.url).await?;
    let mut failed = 0;
    for _ in 0..20 {
        let answer = async { s.connect().await?.outbox().head().await }.await;
        if let Err(e) = answer {
            assert!(e.code() == ErrorCode::Unavailable && e.is_retryable(), "{e:?}");
            failed += 1;
        }
    }
    assert!(failed <= 1, "{failed} calls met dead connections");
    // A write that fails when it begins on a dead connection has certainly not happened, so it begins again by itself.
    kill_connections(&database.url).await?;
    let c = category("after");
    let mut tx = s.begin().await?;
    tx.categories().insert(std::slice::from_ref(&c)).await?;
    tx.commit().await?;
    assert!(s.connect().await?.categories().get(c.id, IncludeDeleted::No).await?.is_some());
    Ok(())
}

async fn a_lock_that_does_not_come_ends_in_time(database: TestDatabase) -> TestResult {
    let mut options = ServerOptions::from_url(&database.url)?;
    options.statement_timeout = Duration::from_secs(2);
    let s = SqlStorage::server(options)?;
    s.migrate(Currency::USD).await?;
    let mut first = s.begin().await?;
    first.categories().lock_tree().await?;
    let mut second = s.begin().await?;
    // The server gives up before this process does, so the connection survives.
    let e = second.categories().lock_tree().await.unwrap_err();
    assert!(e.is_contention() && e.is_retryable() && !e.outcome_unknown(), "{e:?}");
    second.rollback().await?;
    first.commit().await?;
    let mut third = s.begin().await?;
    third.categories().lock_tree().await?;
    third.commit().await?;
    Ok(())
}

async fn r03_a_product_and_a_move_of_its_category_wait_for_each_other(database: TestDatabase) -> TestResult {
    let s = Arc::new(storage(&database.url));
    s.migrate(Currency::USD).await?;
    let (mut a, mut b) = (s.begin().await?, s.begin().await?);
    a.categories().hold_tree().await?;
    b.categories().hold_tree().await?;
    let waits = {
        let s = s.clone();
        tokio::spawn(async move {
            let mut c = s.begin().await?;
            c.categories().lock_tree().await?;
            c.commit().await
        })
    };
    a.commit().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waits.is_finished(), "the tree was locked under one that holds it");
    b.commit().await?;
    waits.await??;
    Ok(())
}

/// Asserts that an error is a refusal for a reason that contains a word.
fn assert_refused(e: &Error, word: &str) {
    assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
    let refused = RefusedServer::among_causes(e).unwrap_or_else(|| panic!("{e:?}"));
    assert!(refused.reason.contains(word), "{refused}");
}

async fn r15_a_read_only_database_is_refused(database: TestDatabase) -> TestResult {
    let (server, url) = if is_mysql(&database.url) {
        let server = Server::mariadb().await;
        // An administrator could still write.
        raw(&server.url(), "CREATE USER app@'%'; GRANT ALL ON ecom.* TO app@'%'").await?;
        let url = server.url().replace("ecom:ecom@", "app@");
        (Some(server), url)
    } else {
        (None, database.url.clone())
    };
    let mut options = ServerOptions::from_url(&url)?;
    options.check_interval = Duration::ZERO;
    let (s, checked) = (storage(&url), SqlStorage::server(options)?);
    s.migrate(Currency::USD).await?;
    checked.migrate(Currency::USD).await?;
    s.identity().await?;
    checked.identity().await?;
    let set = |on: &str| match &server {
        Some(_) => format!("SET GLOBAL read_only = {on}"),
        None => format!("ALTER DATABASE {} SET default_transaction_read_only = {on}", name_of(&url)),
    };
    let admin = match &server {
        Some(server) => server.url(),
        None => format!("{url}?options[default_transaction_read_only]=off"),
    };
    let mut tx = s.begin().await?;
    raw(&admin, &set("on")).await?;
    // A new connection is refused, whatever it is for.
    for e in [storage(&url).identity().await.unwrap_err(), storage(&url).migrate(Currency::USD).await.unwrap_err()] {
        assert_refused(&e, "read-only");
    }
    if server.is_some() {
        // One that was checked before is refused once it is checked again: after the interval, or once a write has
        // failed. Sessions of PostgreSQL keep their setting.
        assert_refused(&checked.identity().await.unwrap_err(), "read-only");
        let e = tx.categories().insert(&[category("no")]).await.unwrap_err();
        assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
        assert!(WithCauses(&e).to_string().contains("read-only"), "{e:?}");
        assert_refused(&s.identity().await.unwrap_err(), "read-only");
        let shop = Shop::new(ShopParts::new(Arc::new(s.clone()), Arc::new(NoSearch)))?;
        let health = shop.health(Duration::from_secs(5)).await;
        assert!(!health.can_serve());
        assert!(health.dependencies[0].refused.is_some_and(|why| why.contains("read-only")), "{health:?}");
    }
    raw(&admin, &set("off")).await?;
    s.identity().await?;
    checked.identity().await?;
    Ok(())
}

/// Where a [`proxy`] sends a SELECT outside of a transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reads {
    /// Where it sends everything else.
    ToWriter,
    ToReader,
    /// To each in turn.
    InTurn,
}

/// Starts a proxy between two servers with the same users, none of which has a password, and returns its port. It is
/// enough for clients that send each command in a packet of its own and wait for the response.
async fn proxy(reads: Reads, is_mysql: bool, writer: u16, reader: u16) -> u16 {
    async fn serve(mut client: TcpStream, reads: Reads, is_mysql: bool, ports: [u16; 2]) -> std::io::Result<()> {
        let mut writer = TcpStream::connect(("127.0.0.1", ports[0])).await?;
        let mut reader = TcpStream::connect(("127.0.0.1", ports[1])).await?;
        let (mut request, mut answer, mut other) = (vec![0; 1 << 16], vec![0; 1 << 16], vec![0; 1 << 16]);
        let (mut begun, mut in_transaction, mut turn) = (false, false, false);
        let mut greeting = Vec::new();
        loop {
            tokio::select! {
                n = client.read(&mut request) => {
                    let sent = &request[..n?];
                    if sent.is_empty() {
                        return Ok(());
                    }
                    // A command, and not a part of the handshake: of PostgreSQL by the kind of the message, of MySQL by
                    // its sequence number.
                    let is_command = if is_mysql { sent.get(3) == Some(&0) } else { sent[0] != 0 };
                    if is_command {
                        // The reader has answered the handshake by then.
                        while !begun {
                            begun = if is_mysql { is_ok(&greeting) } else { greeting.ends_with(b"Z\0\0\0\x05I") };
                            if !begun {
                                let n = reader.read(&mut other).await?;
                                greeting.extend(&other[..n]);
                            }
                        }
                        let is_text = if is_mysql { sent[4] == 3 } else { sent[0] == b'Q' };
                        let text = String::from_utf8_lossy(if is_text { &sent[5..] } else { b"" }).into_owned();
                        let is_read = text.starts_with("SELECT") && !in_transaction;
                        if text.starts_with("BEGIN") || text.starts_with("START") {
                            in_transaction = true;
                        }
                        if text.trim_end_matches('\0').ends_with("ROLLBACK") || text.contains("COMMIT") {
                            in_transaction = false;
                        }
                        turn = turn != is_read;
                        let to_reader = is_read && (reads == Reads::ToReader || reads == Reads::InTurn && turn);
                        (if to_reader { &mut reader } else { &mut writer }).write_all(sent).await?;
                    } else {
                        writer.write_all(sent).await?;
                        reader.write_all(sent).await?;
                    }
                }
                n = writer.read(&mut answer) => {
                    let n = n?;
                    if n == 0 { return Ok(()) }
                    client.write_all(&answer[..n]).await?;
                }
                n = reader.read(&mut other) => {
                    let n = n?;
                    if n == 0 { return Ok(()) }
                    if begun { client.write_all(&other[..n]).await? } else { greeting.extend(&other[..n]) }
                }
            }
        }
    }
    /// Whether a greeting is followed by a packet, which is the answer to the login.
    fn is_ok(greeting: &[u8]) -> bool {
        let Some([a, b, c, _]) = greeting.first_chunk() else { return false };
        greeting.len() > 4 + u32::from_le_bytes([*a, *b, *c, 0]) as usize
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, reads, is_mysql, [writer, reader]));
        }
    });
    port
}

async fn r15_a_proxy_that_sends_reads_elsewhere_is_refused(database: TestDatabase) -> TestResult {
    let mut url = url::Url::parse(&database.url)?;
    let other = if is_mysql(&database.url) {
        let other = Server::mariadb().await;
        let name = name_of(&database.url);
        let user = format!("CREATE USER {name}@'%'; GRANT ALL ON {name}.* TO {name}@'%'");
        raw(&database.url, &user).await?;
        raw(&other.url(), &format!("CREATE DATABASE {name}; {user}")).await?;
        url.set_username(&name).unwrap();
        url.set_password(None).unwrap();
        url.set_query(Some("ssl-mode=disabled"));
        other
    } else {
        let other = Server::postgres().await;
        raw(&other.url(), &format!("CREATE DATABASE {}", name_of(&database.url))).await?;
        url.set_query(Some("sslmode=disable"));
        other
    };
    let writer = url.port().ok_or("a port")?;
    for reads in [Reads::ToWriter, Reads::ToReader, Reads::InTurn] {
        let port = proxy(reads, is_mysql(&database.url), writer, other.port()).await;
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(port)).unwrap();
        let s = storage(url.as_str());
        if reads == Reads::ToWriter {
            s.migrate(Currency::USD).await?;
            s.identity().await?;
        } else {
            assert_refused(&s.migrate(Currency::USD).await.unwrap_err(), "proxy");
            assert_refused(&s.identity().await.unwrap_err(), "proxy");
        }
        s.close().await;
    }
    if is_mysql(&database.url) {
        raw(&database.url, &format!("DROP USER {}@'%'", name_of(&database.url))).await?;
    }
    Ok(())
}

/// A new connection may lead to another server than the ones before: one that was restored from an old backup, or one
/// of another shop.
async fn r15_a_server_with_another_schema_or_database_is_refused(database: TestDatabase) -> TestResult {
    let url = &database.url;
    let s = storage(url);
    s.migrate(Currency::USD).await?;
    s.identity().await?;
    for (sql, word) in [
        ("UPDATE ecom_migrations SET version = -version WHERE version > 5", "schema"),
        ("UPDATE ecom_migrations SET version = -version WHERE version < 0", ""),
        ("UPDATE ecom_migrations SET checksum = REVERSE(checksum)", "schema"),
        ("UPDATE ecom_migrations SET checksum = REVERSE(checksum)", ""),
        // A newer release may have migrated it.
        ("INSERT INTO ecom_migrations VALUES (999, 'later', '0', 0)", ""),
        ("UPDATE ecom_meta SET value = CONCAT('x', value) WHERE name = 'identity'", "another database"),
        ("UPDATE ecom_meta SET value = SUBSTRING(value, 2) WHERE name = 'identity'", ""),
        ("ALTER TABLE ecom_migrations RENAME TO elsewhere", "schema"),
        ("ALTER TABLE elsewhere RENAME TO ecom_migrations", ""),
    ] {
        raw(url, sql).await?;
        kill_connections(url).await?;
        // The first call may meet a connection that has died.
        let _ = s.identity().await;
        if word.is_empty() {
            s.identity().await.map_err(|e| format!("{sql}: {e:?}"))?;
        } else {
            assert_refused(&s.identity().await.unwrap_err(), word);
            assert_refused(&s.begin().await.err().ok_or("a transaction begins")?, word);
        }
    }
    Ok(())
}

/// Some shops on a pool of a few connections. Each shop may use all of these.
struct SharedPool {
    url: String,
    schemas: Vec<String>,
    pool: ServerPool,
    shops: Vec<SqlStorage>,
}

impl SharedPool {
    async fn new(database: &TestDatabase, shops: &[&str], connections: usize) -> Result<Self, Error> {
        let name = name_of(&database.url);
        let schemas: Vec<String> = shops.iter().map(|shop| format!("{name}_{shop}")).collect();
        let options = |schema: &str| {
            let url = if is_mysql(&database.url) {
                database.url.replace(&name, schema)
            } else {
                format!("{}?schema={schema}", database.url)
            };
            let mut options = ServerOptions::from_url(&url)?;
            options.max_connections = connections;
            Ok::<_, Error>(options)
        };
        let pool = ServerPool::new(options(&schemas[0])?)?;
        let mut shops = Vec::new();
        for schema in &schemas {
            let s = SqlStorage::server_on(&pool, options(schema)?)?;
            s.create_schema().await?;
            s.migrate(Currency::USD).await?;
            shops.push(s);
        }
        Ok(Self { url: database.url.clone(), schemas, pool, shops })
    }

    /// Drops the databases of the shops on MySQL and MariaDB. On PostgreSQL, the database of the test contains their
    /// schemas.
    async fn clear(self) -> sqlx::Result<()> {
        self.pool.close();
        if is_mysql(&self.url) {
            for schema in &self.schemas {
                raw(&self.url, &format!("DROP DATABASE {schema}")).await?;
            }
        }
        Ok(())
    }
}

/// Shops that share connections are checked when a connection enters their schema.
async fn r15_each_shop_on_shared_connections_refuses_a_changed_schema(database: TestDatabase) -> TestResult {
    let shared = SharedPool::new(&database, &["a", "b"], 1).await?;
    let shops = &shared.shops;
    let statements = shops[0].statements();
    for s in shops.iter().chain(shops) {
        s.identity().await?;
    }
    // To enter the schema, and to read: the check is a part of the first.
    assert_eq!(shops[0].statements() - statements, 4);
    raw(&database.url, &format!("UPDATE {}.ecom_migrations SET checksum = 'x'", shared.schemas[1])).await?;
    shops[0].identity().await?;
    assert_refused(&shops[1].identity().await.unwrap_err(), "schema");
    shops[0].identity().await?;
    shared.clear().await?;
    Ok(())
}

/// A call whose connection last served another shop sends one more statement.
async fn a_shop_gets_the_connection_that_served_it_last(database: TestDatabase) -> TestResult {
    let shared = SharedPool::new(&database, &["a", "b", "c"], 2).await?;
    let shops = shared.shops.clone();
    let (first, second, third) = (&shops[0], &shops[1], &shops[2]);
    let read = async |shop: &SqlStorage| {
        let before = shop.statements();
        shop.identity().await?;
        Ok::<_, Error>(shop.statements() - before)
    };
    // Both connections are opened, one for each of two shops.
    drop((first.connect().await?, second.connect().await?));
    for _ in 0..5 {
        assert_eq!((read(first).await?, read(second).await?), (1, 1));
    }
    // The third shop takes the connection that has been idle longest, and keeps it.
    assert_eq!((read(third).await?, read(second).await?, read(third).await?, read(second).await?), (2, 1, 1, 1));
    // The first shop takes that one back, because it has used it before.
    assert_eq!((read(first).await?, read(second).await?), (2, 1));
    // A shop does not wait for its connection if another one is idle.
    let held = first.connect().await?;
    let status = shared.pool.status();
    assert_eq!((status.size, status.idle, status.waiting), (2, 1, 0));
    assert_eq!((read(first).await?, read(first).await?), (2, 1));
    // If none is idle, it gets the first that is returned.
    let other = second.connect().await?;
    let waiting = tokio::spawn({
        let shop = first.clone();
        async move { shop.identity().await }
    });
    while shared.pool.status().waiting == 0 {
        tokio::task::yield_now().await;
    }
    drop(other);
    waiting.await??;
    drop(held);
    let status = shared.pool.status();
    assert_eq!((status.size, status.idle, status.waiting), (2, 2, 0));
    // A connection with an open transaction is closed.
    drop(first.begin().await?);
    assert_eq!(shared.pool.status().size, 1);
    assert_eq!(read(second).await?, 2);
    shared.clear().await?;
    let error = second.identity().await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    Ok(())
}

/// Triggers return the errors of a server whose disk is full, and of a pooler that lost its connection.
async fn a_full_disk_and_a_lost_pooler_are_unavailable(database: TestDatabase) -> TestResult {
    let url = &database.url;
    let s = storage(url);
    s.migrate(Currency::USD).await?;
    let answers = if is_mysql(url) { ["1021", "1114", "1927"] } else { ["53100", "53200", "08006"] };
    for answer in answers {
        for at_commit in [false, true] {
            // MariaDB has no triggers at commit.
            if at_commit && is_mysql(url) {
                continue;
            }
            if is_mysql(url) {
                let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {answer}, MESSAGE_TEXT = 'test'");
                raw(url, &format!("CREATE TRIGGER refuse BEFORE INSERT ON categories FOR EACH ROW {signal}")).await?;
            } else {
                let body = format!("BEGIN RAISE EXCEPTION 'test' USING ERRCODE = '{answer}'; END");
                let function = format!("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$");
                let (kind, when) = if at_commit { ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED") } else { ("", "") };
                let trigger = format!(
                    "CREATE {kind} TRIGGER refuse AFTER INSERT ON categories {when} FOR EACH ROW EXECUTE FUNCTION refuse()"
                );
                raw(url, &format!("{function}; {trigger}")).await?;
            }
            let mut tx = s.begin().await?;
            let inserted = tx.categories().insert(&[category("no")]).await;
            assert_eq!(inserted.is_ok(), at_commit, "{answer}");
            let e = match inserted {
                Ok(()) => tx.commit().await.unwrap_err(),
                Err(e) => {
                    tx.rollback().await?;
                    e
                }
            };
            assert_eq!(e.code(), ErrorCode::Unavailable, "{answer}: {e:?}");
            assert_eq!(e.outcome_unknown(), at_commit && answer == "08006", "{answer}: {e:?}");
            let (trigger, function) = if is_mysql(url) {
                ("DROP TRIGGER refuse", "")
            } else {
                ("DROP TRIGGER refuse ON categories", "; DROP FUNCTION refuse")
            };
            raw(url, &format!("{trigger}{function}")).await?;
            let all = CategoryFilter { parent: None, include_deleted: IncludeDeleted::Yes };
            assert_eq!(s.connect().await?.categories().count(&all, 10).await?.count, 0, "{answer}");
        }
    }
    let mut tx = s.begin().await?;
    tx.categories().insert(&[category("yes")]).await?;
    tx.commit().await?;
    Ok(())
}

async fn a_statement_sees_what_has_committed_whatever_the_database_defaults_to(database: TestDatabase) -> TestResult {
    let url = &database.url;
    storage(url).migrate(Currency::USD).await?;
    // MySQL has the same default.
    if !is_mysql(url) {
        let default = "SET default_transaction_isolation = 'repeatable read'";
        raw(url, &format!("ALTER DATABASE {} {default}", name_of(url))).await?;
    }
    let s = storage(url);
    let all = CategoryFilter { parent: None, include_deleted: IncludeDeleted::Yes };
    let mut tx = s.begin().await?;
    assert_eq!(tx.categories().count(&all, 10).await?.count, 0);
    let mut other = s.begin().await?;
    other.categories().insert(&[category("meanwhile")]).await?;
    other.commit().await?;
    assert_eq!(tx.categories().count(&all, 10).await?.count, 1);
    Ok(())
}

async fn once_migrated_nobody_needs_to_make_tables(database: TestDatabase) -> TestResult {
    let url = &database.url;
    storage(url).migrate(Currency::USD).await?;
    let name = name_of(url);
    let drop = if is_mysql(url) {
        let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@'%'");
        raw(url, &format!("CREATE USER {name}@'%' IDENTIFIED BY 'app'; {grant}")).await?;
        format!("DROP USER {name}@'%'")
    } else {
        let tables = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}");
        let sequences = format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}");
        let schema = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        raw(url, &format!("CREATE ROLE {name} LOGIN PASSWORD 'app'; {tables}; {sequences}; {schema}")).await?;
        format!("DROP OWNED BY {name}; DROP ROLE {name}")
    };
    let mut as_user = url::Url::parse(url)?;
    as_user.set_username(&name).unwrap();
    as_user.set_password(Some("app")).unwrap();
    let s = storage(as_user.as_str());
    s.migrate(Currency::USD).await?;
    let mut tx = s.begin().await?;
    tx.categories().insert(&[category("by the user")]).await?;
    tx.commit().await?;
    s.close().await;
    raw(url, &drop).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_cannot_hold_every_text_is_refused() -> TestResult {
    let database = test_servers::postgres().await;
    let name = format!("{}_latin", name_of(&database.url));
    raw(&database.url, &format!("CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")).await?;
    let mut url = url::Url::parse(&database.url)?;
    url.set_path(&name);
    let s = storage(url.as_str());
    let e = s.migrate(Currency::USD).await.unwrap_err();
    s.close().await;
    raw(&database.url, &format!("DROP DATABASE {name} WITH (FORCE)")).await?;
    assert!(e.code() == ErrorCode::Validation && e.to_string().contains("UTF8"), "{e:?}");
    Ok(())
}

/// A standby may lag, so that no connection to one is used, also not after the server has changed its role. Once it was
/// promoted, the old primary is refused: it lacks what was written since. The cluster is one server, whose directory
/// stands for the old primary before the promotion, and again after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r15_a_standby_and_then_the_old_primary_of_postgres_are_refused() -> TestResult {
    let mut server = Server::postgres().await;
    let s = storage(&server.url());
    s.migrate(Currency::USD).await?;
    s.identity().await?;
    server.stop().await;
    let data = |name: &str| server.directory().join(name);
    let (current, old) = (data("data"), data("old"));
    assert!(Command::new("cp").arg("-a").args([&current, &old]).status()?.success());
    std::fs::write(server.directory().join("data/standby.signal"), "")?;
    server.start().await;
    // The first call finds that its connection is closed.
    assert!(s.identity().await.is_err());
    for e in [s.identity().await.unwrap_err(), storage(&server.url()).migrate(Currency::USD).await.unwrap_err()] {
        assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
        assert!(format!("{e:?}").contains("standby"), "{e:?}");
    }
    // A host's connection is refused, too.
    let shop = Shop::new(ShopParts::new(Arc::new(s.clone()), Arc::new(NoSearch)))?;
    let mut host = PgConnection::connect(&server.url()).await?;
    let e = begin_on_postgres(&shop, &mut host).await.unwrap_err();
    assert!(e.code() == ErrorCode::Validation && e.to_string().contains("standby"), "{e:?}");
    raw(&server.url(), "SELECT pg_promote()").await?;
    s.identity().await?;
    server.stop().await;
    std::fs::remove_dir_all(&current)?;
    std::fs::rename(&old, &current)?;
    server.start().await;
    let _ = s.identity().await;
    assert_refused(&s.identity().await.unwrap_err(), "old primary");
    // A process that knows no other primary cannot tell.
    storage(&server.url()).identity().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r15_a_replica_of_mariadb_is_refused_until_it_is_promoted() -> TestResult {
    let primary = Server::with(Kind::MariaDb, &["server-id=1", "log-bin=primary"]).await;
    let replica = Server::with(Kind::MariaDb, &["server-id=2", "log-bin=replica"]).await;
    let s = storage(&replica.url());
    s.migrate(Currency::USD).await?;
    s.identity().await?;
    let port = primary.port();
    raw(
        &replica.url(),
        &format!(
            "CHANGE MASTER TO master_host = '127.0.0.1', master_port = {port}, master_user = 'ecom', \
             master_password = 'ecom', master_use_gtid = slave_pos; START SLAVE; SET GLOBAL read_only = 1"
        ),
    )
    .await?;
    assert_refused(&storage(&replica.url()).identity().await.unwrap_err(), "replica");
    // Its rows become older still if its replication stops.
    raw(&replica.url(), "STOP SLAVE").await?;
    assert_refused(&storage(&replica.url()).identity().await.unwrap_err(), "replica");
    raw(&replica.url(), "SET GLOBAL read_only = 0").await?;
    storage(&replica.url()).identity().await?;
    Ok(())
}

/// A node that a split has cut off from most of its cluster answers each statement with the error 1047, as this one
/// does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_of_galera_that_is_cut_off_is_unavailable() -> TestResult {
    let node = Galera::one_node().await;
    let s = storage(&node.url());
    s.migrate(Currency::USD).await?;
    let mut tx = s.begin().await?;
    raw(&node.url(), "SET GLOBAL wsrep_reject_queries = 'ALL'").await?;
    let e = tx.categories().insert(&[category("no")]).await.unwrap_err();
    assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
    drop(tx);
    for e in [s.identity().await.unwrap_err(), storage(&node.url()).migrate(Currency::USD).await.unwrap_err()] {
        assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
    }
    raw(&node.url(), "SET GLOBAL wsrep_reject_queries = 'NONE'").await?;
    s.identity().await?;
    // Also if such nodes return old rows by default.
    raw(&node.url(), "SET GLOBAL wsrep_dirty_reads = ON").await?;
    raw(&node.url(), "SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1'").await?;
    raw(&node.url(), "SELECT * FROM categories").await?;
    for _ in 0..2 {
        let e = s.identity().await.unwrap_err();
        assert!(e.code() == ErrorCode::Unavailable && !e.outcome_unknown(), "{e:?}");
    }
    Ok(())
}

/// A write of another node rolls a transaction back, and the server loses the error: the transaction can neither write
/// more nor commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r11_a_transaction_that_galera_has_rolled_back_writes_nothing_more() -> TestResult {
    let node = Galera::one_node().await;
    let s = storage(&node.url());
    s.migrate(Currency::USD).await?;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let input = |name: &str| -> CategoryInput { serde_json::from_str(&format!(r#"{{"name": "{name}"}}"#)).unwrap() };
    let mut host = MySqlConnection::connect(&node.url()).await?;
    for autocommit in [true, false] {
        host.execute(AssertSqlSafe(format!("SET autocommit = {}", u8::from(autocommit)))).await?;
        let is_lost = |e: &Error| matches!(e, Error::Contention { .. });
        // A statement that comes after the loss.
        let mut tx = begin_on_mysql(&shop, &mut host).await?;
        shop.categories().create_in(&mut tx, &input("one")).await?;
        tx.connection::<MySqlConnection>().ok_or("the host's connection")?.execute("ROLLBACK").await?;
        let e = shop.categories().create_in(&mut tx, &input("two")).await.unwrap_err();
        assert!(is_lost(&e), "{e:?}");
        assert!(tx.commit().await.is_err());
        // A commit that comes after it.
        let mut tx = begin_on_mysql(&shop, &mut host).await?;
        shop.categories().create_in(&mut tx, &input("three")).await?;
        tx.connection::<MySqlConnection>().ok_or("the host's connection")?.execute("ROLLBACK").await?;
        let e = tx.commit().await.err().ok_or("a lost transaction was acknowledged")?;
        assert!(is_lost(&e), "{e:?}");
        // In a transaction that the host began.
        let mut host_tx = host.begin().await?;
        let mut tx = on_mysql(&shop, &mut host_tx).await?;
        shop.categories().create_in(&mut tx, &input("four")).await?;
        tx.connection::<MySqlConnection>().ok_or("the host's connection")?.execute("ROLLBACK").await?;
        let e = shop.categories().create_in(&mut tx, &input("five")).await.unwrap_err();
        assert!(is_lost(&e), "{e:?}");
        drop(tx);
        host_tx.rollback().await?;
        // Without a loss.
        let mut tx = begin_on_mysql(&shop, &mut host).await?;
        shop.categories().create_in(&mut tx, &input(&format!("kept {autocommit}"))).await?;
        tx.commit().await?.run().await;
    }
    let names: Vec<String> = shop.categories().tree().await?.value.iter().map(|c| c.name.clone()).collect();
    assert_eq!(names, ["kept false", "kept true"]);
    Ok(())
}

/// Returns the indexes of a database, with their definitions on PostgreSQL.
async fn indexes(url: &str) -> sqlx::Result<Vec<(String, String)>> {
    if is_mysql(url) {
        let mut c = MySqlConnection::connect(url).await?;
        let all = "SELECT DISTINCT CAST(table_name AS CHAR), CAST(index_name AS CHAR) FROM information_schema.statistics \
                   WHERE table_schema = database() ORDER BY 1, 2";
        sqlx::query_as(all).fetch_all(&mut c).await
    } else {
        let mut c = PgConnection::connect(url).await?;
        let all = "SELECT CAST(indexname AS TEXT), indexdef FROM pg_indexes \
                   WHERE schemaname = current_schema() ORDER BY indexname";
        sqlx::query_as(all).fetch_all(&mut c).await
    }
}

/// An import in bulk drops them, and its end or the next start creates them again. MySQL drops none.
async fn deferred_indexes_come_back_as_they_were(database: TestDatabase) -> TestResult {
    let url = &database.url;
    let s = storage(url);
    s.migrate(Currency::USD).await?;
    let before = indexes(url).await?;
    let dropped = if is_mysql(url) { 0 } else { 15 };
    for _ in 0..2 {
        s.defer_indexes().await?;
        assert_eq!(indexes(url).await?.len(), before.len() - dropped);
    }
    for _ in 0..2 {
        s.restore_indexes().await?;
        assert_eq!(indexes(url).await?, before);
    }
    s.defer_indexes().await?;
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let s = storage(url);
            tokio::spawn(async move { s.migrate(Currency::USD).await })
        })
        .collect();
    for start in starts {
        start.await??;
    }
    assert_eq!(indexes(url).await?, before);
    Ok(())
}

/// Servers that replicate, with a proxy in front of them. Only `tests/run clusters` runs these tests.
mod clusters {
    use test_servers::cluster::Pgpool;

    use super::*;

    async fn insert(s: &SqlStorage, name: &str) -> TestResult {
        let mut tx = s.begin().await?;
        tx.categories().insert(&[category(name)]).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The standby has none of the changes since it was made.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[ignore = "starts a cluster: run `tests/run clusters`"]
    async fn r15_a_pgpool_that_sends_reads_to_a_standby_is_refused() -> TestResult {
        let cluster = Pgpool::start().await;
        let s = storage(&cluster.plain.url());
        s.migrate(Currency::USD).await?;
        insert(&s, "new").await?;
        let all = CategoryFilter { parent: None, include_deleted: IncludeDeleted::Yes };
        assert_eq!(s.connect().await?.categories().count(&all, 10).await?.count, 1);
        let mut standby = PgConnection::connect(&cluster.standby.url()).await?;
        let text = "SELECT CAST(to_regclass('categories') AS text)";
        let table: Option<String> = sqlx::query_scalar(text).fetch_one(&mut standby).await?;
        assert_eq!(table, None, "the standby lags");
        for (server, word) in [(&cluster.balanced, "proxy"), (&cluster.standby, "standby")] {
            let s = storage(&server.url());
            assert_refused(&s.identity().await.unwrap_err(), word);
            assert_refused(&s.migrate(Currency::USD).await.unwrap_err(), word);
        }
        Ok(())
    }

    /// The replica lacks the last change.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    #[ignore = "starts a cluster: run `tests/run clusters`"]
    async fn r15_a_proxy_that_sends_reads_to_a_replica_that_lags_is_refused() -> TestResult {
        let primary = Server::with(Kind::MariaDb, &["server-id=1", "log-bin=log"]).await;
        let replica = Server::with(Kind::MariaDb, &["server-id=2"]).await;
        let source = format!("MASTER_HOST = '127.0.0.1', MASTER_PORT = {}", primary.port());
        let user = "MASTER_USER = 'ecom', MASTER_PASSWORD = 'ecom'";
        raw(&replica.url(), &format!("CHANGE MASTER TO {source}, {user}; START SLAVE")).await?;
        // The proxy needs a user without a password.
        raw(&primary.url(), "CREATE USER app@'%'; GRANT ALL ON ecom.* TO app@'%'").await?;
        let as_app = |port: u16| format!("mysql://app@127.0.0.1:{port}/ecom?ssl-mode=disabled");
        let follow = async || {
            while raw(&as_app(replica.port()), "SELECT 1").await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), follow()).await?;
        let through = async |reads: Reads| storage(&as_app(proxy(reads, true, primary.port(), replica.port()).await));
        let categories = async |server: &Server| -> sqlx::Result<i64> {
            let mut c = MySqlConnection::connect(&server.url()).await?;
            sqlx::query_scalar("SELECT COUNT(*) FROM categories").fetch_one(&mut c).await
        };
        let s = through(Reads::ToWriter).await;
        s.migrate(Currency::USD).await?;
        insert(&s, "old").await?;
        let follow = async || {
            while !categories(&replica).await.is_ok_and(|count| count == 1) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), follow()).await?;
        raw(&replica.url(), "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 3600; START SLAVE").await?;
        insert(&s, "new").await?;
        assert_eq!((categories(&primary).await?, categories(&replica).await?), (2, 1), "the replica lags");
        for reads in [Reads::ToReader, Reads::InTurn] {
            assert_refused(&through(reads).await.identity().await.unwrap_err(), "proxy");
        }
        // Without a proxy, a replica is known by `read_only`.
        raw(&replica.url(), "SET GLOBAL read_only = ON").await?;
        assert_refused(&storage(&replica.url()).identity().await.unwrap_err(), "read-only");
        Ok(())
    }
}
