//! Gives each test a database of its own on a shared server.

use std::fmt;
use std::mem::ManuallyDrop;

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, MySqlConnection, PgConnection, Row as _};
use tokio::sync::OnceCell;
use url::Url;

use crate::{PREFIX, now, required, unique_name};

/// After this many seconds, the databases that a run has left are removed.
const LEFTOVER_SECONDS: u64 = 2 * 3_600;

/// An empty database, for one test.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its URL.
    pub url: String,
    /// Drops the database when it is dropped.
    pub guard: DatabaseGuard,
}

/// A prefix of a Redis server that other tests use too.
#[derive(Clone, Debug)]
pub struct TestRedis {
    /// The URL of the server.
    pub url: String,
    /// The prefix of all keys and channels of this test.
    pub prefix: String,
}

/// Drops the database of a test when it is dropped, even if clients are still connected.
pub struct DatabaseGuard {
    admin: String,
    name: String,
}

impl fmt::Debug for DatabaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseGuard").field(&self.name).finish()
    }
}

impl Drop for DatabaseGuard {
    fn drop(&mut self) {
        // On a separate thread, because this may run on a runtime, while a runtime shuts down, or in a panic.
        let (admin, name) = (self.admin.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(sqlx::Error::Io)?;
            runtime.block_on(drop_database(&admin, &name))
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            Ok(Err(e)) => eprintln!("{} was not dropped: {e}", self.name),
            Err(_) => eprintln!("{} was not dropped", self.name),
        }
    }
}

/// Creates an empty database on the server of `TEST_POSTGRES_URL`.
pub async fn postgres() -> TestDatabase {
    make(required("TEST_POSTGRES_URL"), None).await
}

/// Creates a database on the server of `TEST_POSTGRES_URL` that has the tables of a shop, but no identity yet, as a copy
/// of one that `migrate` has migrated. Only the first call of a process runs `migrate`, with the URL: copying a database
/// takes a fifth of the time of migrating it.
pub async fn postgres_with_tables<T>(migrate: impl AsyncFnOnce(&str) -> T) -> TestDatabase {
    static MIGRATED: OnceCell<String> = OnceCell::const_new();
    let admin = required("TEST_POSTGRES_URL");
    let migrated = Box::pin(async {
        // The databases of runs that have ended.
        sweep(&admin).await.expect("the server drops old databases");
        // This one is kept for the following tests.
        let TestDatabase { url, guard } = make(admin.clone(), None).await;
        let guard = ManuallyDrop::new(guard);
        drop(migrate(&url).await);
        execute(&url, "DELETE FROM ecom_meta WHERE name = 'identity'".to_owned()).await.expect("the shop has a table");
        // A database that has connections cannot be copied.
        let disconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname";
        execute(&admin, format!("{disconnect} = '{}'", guard.name)).await.expect("the connections are closed");
        guard.name.clone()
    });
    let migrated = MIGRATED.get_or_init(|| migrated).await;
    make(admin.clone(), Some(migrated)).await
}

/// Creates an empty database on the server of `TEST_MYSQL_URL`, with the defaults of the server.
pub async fn mysql() -> TestDatabase {
    make(required("TEST_MYSQL_URL"), None).await
}

/// Returns a new prefix on the server of `TEST_REDIS_URL`.
pub fn redis() -> TestRedis {
    TestRedis { url: required("TEST_REDIS_URL"), prefix: format!("{}:", unique_name()) }
}

fn is_mysql(url: &str) -> bool {
    url.starts_with("mysql:") || url.starts_with("mariadb:")
}

/// Creates a database, empty or as a copy of another one.
async fn make(admin: String, original: Option<&str>) -> TestDatabase {
    let name = unique_name();
    let mut url = Url::parse(&admin).expect("the variable holds a URL");
    url.set_path(&name);
    let copy = original.map(|original| format!(" TEMPLATE {original}")).unwrap_or_default();
    execute(&admin, format!("CREATE DATABASE {name}{copy}")).await.expect("the server makes a database");
    TestDatabase { url: url.into(), guard: DatabaseGuard { admin, name } }
}

async fn execute(url: &str, sql: String) -> sqlx::Result<()> {
    if is_mysql(url) {
        let mut c = MySqlConnection::connect(url).await?;
        c.execute(AssertSqlSafe(sql)).await?;
        c.close().await
    } else {
        let mut c = PgConnection::connect(url).await?;
        c.execute(AssertSqlSafe(sql)).await?;
        c.close().await
    }
}

async fn drop_database(admin: &str, name: &str) -> sqlx::Result<()> {
    if !is_mysql(admin) {
        return execute(admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    }
    let mut c = MySqlConnection::connect(admin).await?;
    // An open transaction would lock the tables, and dropping the database would wait for it.
    let ids = sqlx::query("SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE db = ?")
        .bind(name)
        .fetch_all(&mut c)
        .await?;
    for id in ids {
        // The connection may have ended by itself.
        let _ = c.execute(AssertSqlSafe(format!("KILL {}", id.try_get::<i64, _>(0)?))).await;
    }
    c.execute("SET SESSION lock_wait_timeout = 10").await?;
    c.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await?;
    c.close().await
}

/// Drops the databases that runs left on the server at `url` more than two hours ago.
///
/// # Errors
/// Those of the server.
pub async fn sweep(url: &str) -> sqlx::Result<()> {
    let names: Vec<String> = if is_mysql(url) {
        let mut c = MySqlConnection::connect(url).await?;
        sqlx::query_scalar("SELECT CAST(schema_name AS CHAR) FROM information_schema.schemata")
            .fetch_all(&mut c)
            .await?
    } else {
        let mut c = PgConnection::connect(url).await?;
        sqlx::query_scalar("SELECT datname::text FROM pg_database").fetch_all(&mut c).await?
    };
    for name in names {
        let made = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()).and_then(|s| s.parse().ok());
        if made.is_some_and(|made: u64| made + LEFTOVER_SECONDS < now()) {
            drop_database(url, &name).await?;
        }
    }
    Ok(())
}
