//! Transactions on a connection of the host application, for writes of the shop and of the host together.
//!
//! `begin_on_…` begins the transaction with the settings that the shop needs. `on_…` uses one that the host began.
//! Both check that the connection leads to the shop's database, and both return the [`Tx`] that the `…_in` calls of the
//! services take.

use ecom_core::{Error, FieldCode, Result, Shop, Tx};
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use sqlx::Connection as _;

use super::dialect::{Dialect, Sql};
use super::error::{DbError, Kind};
use super::executor::Shared;
#[cfg(feature = "sqlite")]
use super::unit_of_work::HeldRusqlite;
use super::unit_of_work::{Held, HostConn, HostTransaction};

/// Changes no row, but makes a deferred transaction on SQLite the writer.
#[cfg(feature = "sqlite")]
const TAKE_TURN: &str = "UPDATE ecom_meta SET value = value WHERE name = ''";

/// Stands for the unknown number of prepared statements that the connection of a host keeps. With 0, the transaction is
/// checked after each statement.
#[cfg(feature = "mysql")]
const NOT_KNOWN: usize = 0;

static IDENTITY: Sql = Sql::new("SELECT value FROM ecom_meta WHERE name = 'identity'");

/// Begins a transaction on a connection of the host to the shop's SQLite database. The transaction begins with
/// `BEGIN IMMEDIATE`, so it is the one writer from its beginning. Foreign keys must be on, which is sqlx's default.
///
/// # Errors
/// `Unavailable` if another writer does not end in time. `Validation` on field `connection` if the connection leads to
/// another database or has foreign keys turned off.
#[cfg(feature = "sqlite")]
pub async fn begin_on_sqlite<'c>(shop: &Shop, conn: &'c mut sqlx::SqliteConnection) -> Result<Tx<'c>> {
    let dialect = &crate::sqlite::DIALECT;
    let tx = conn.begin_with(dialect.begin).await.map_err(crate::sqlite::classify_sqlx)?;
    open(shop, dialect, HostConn::Sqlite(Held::Begun(tx))).await
}

/// Uses a transaction that the host began on the shop's SQLite database, and makes it the one writer. A host that reads
/// in the transaction before this call should begin it with `BEGIN IMMEDIATE`. Otherwise this call fails if another
/// transaction has written since that read.
///
/// # Errors
/// As [`begin_on_sqlite`].
#[cfg(feature = "sqlite")]
pub async fn on_sqlite<'c>(shop: &Shop, tx: &'c mut sqlx::Transaction<'_, sqlx::Sqlite>) -> Result<Tx<'c>> {
    sqlx::Executor::execute(&mut **tx, TAKE_TURN).await.map_err(crate::sqlite::classify_sqlx)?;
    open(shop, &crate::sqlite::DIALECT, HostConn::Sqlite(Held::Lent(&mut **tx))).await
}

/// Begins a transaction as [`begin_on_sqlite`] does, on a connection of rusqlite. The task waits for another writer as
/// long as the connection's busy timeout says. The statements of the transaction run on the calling thread. Foreign keys
/// must be on; in the SQLite that is compiled into this build, they are on by default.
///
/// # Errors
/// As [`begin_on_sqlite`].
#[cfg(feature = "sqlite")]
pub async fn begin_on_rusqlite<'c>(shop: &Shop, conn: &'c mut rusqlite::Connection) -> Result<Tx<'c>> {
    let dialect = &crate::sqlite::DIALECT;
    crate::sqlite::await_turn(conn, dialect.begin).await?;
    open(shop, dialect, HostConn::Rusqlite(HeldRusqlite { conn, begun: true })).await
}

/// Uses a transaction that the host began on a connection of rusqlite, as [`on_sqlite`] does on one of sqlx. The host
/// ends the transaction after the [`Tx`]. A host should begin it with `BEGIN IMMEDIATE` and a busy timeout of zero, and
/// try again after a pause: while SQLite waits on a thread of the runtime, a write of the shop may wait for that thread.
///
/// # Errors
/// As [`begin_on_sqlite`], and `Validation` on field `connection` if the connection is not in a transaction.
#[cfg(feature = "sqlite")]
pub async fn on_rusqlite<'c>(shop: &Shop, conn: &'c mut rusqlite::Connection) -> Result<Tx<'c>> {
    if conn.is_autocommit() {
        return Err(refused("is not in a transaction: begin one with BEGIN IMMEDIATE".to_owned()));
    }
    match conn.execute_batch(TAKE_TURN).map_err(crate::sqlite::classify) {
        // The database has no tables of the shop.
        Err(DbError { kind: Kind::Other, .. }) => {
            return Err(refused("is not a connection to the database of this shop".to_owned()));
        }
        taken => taken?,
    }
    open(shop, &crate::sqlite::DIALECT, HostConn::Rusqlite(HeldRusqlite { conn, begun: false })).await
}

/// Begins a transaction at `READ COMMITTED` on a connection of the host to the shop's PostgreSQL database, whatever the
/// default level of the database is.
///
/// # Errors
/// `Unavailable` if the server does not answer. `Validation` on field `connection` if the connection leads to another
/// database.
#[cfg(feature = "postgres")]
pub async fn begin_on_postgres<'c>(shop: &Shop, conn: &'c mut sqlx::PgConnection) -> Result<Tx<'c>> {
    let dialect = &crate::postgres::DIALECT;
    let tx = conn.begin_with(dialect.begin).await.map_err(crate::postgres::classify)?;
    open(shop, dialect, HostConn::Postgres(Held::Begun(tx))).await
}

/// Uses a transaction that the host began on the shop's PostgreSQL database. This function checks that the transaction
/// is at `READ COMMITTED`, because at a higher level a statement does not see the change that it waited for.
///
/// # Errors
/// As [`begin_on_postgres`], and `Validation` on field `connection` for another isolation level.
#[cfg(feature = "postgres")]
pub async fn on_postgres<'c>(shop: &Shop, tx: &'c mut sqlx::Transaction<'_, sqlx::Postgres>) -> Result<Tx<'c>> {
    open(shop, &crate::postgres::DIALECT, HostConn::Postgres(Held::Lent(&mut **tx))).await
}

/// Begins a transaction at `READ COMMITTED` on a connection of the host to the shop's MySQL or MariaDB database,
/// whatever the default level of the session is.
///
/// # Errors
/// `Unavailable` if the server does not answer. `Validation` on field `connection` if the connection leads to another
/// database.
#[cfg(feature = "mysql")]
pub async fn begin_on_mysql<'c>(shop: &Shop, conn: &'c mut sqlx::MySqlConnection) -> Result<Tx<'c>> {
    let dialect = &crate::mysql::DIALECT;
    // The level applies to the next transaction only.
    let isolation = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";
    let node = crate::mysql::node(conn, NOT_KNOWN).await?;
    sqlx::Executor::execute(&mut *conn, isolation).await.map_err(crate::mysql::classify)?;
    let begin = match node {
        crate::mysql::Node::Alone => dialect.begin,
        crate::mysql::Node::Galera { .. } => crate::mysql::BEGIN_ON_GALERA,
    };
    let tx = conn.begin_with(begin).await.map_err(crate::mysql::classify)?;
    open(shop, dialect, HostConn::MySql(Held::Begun(tx), node)).await
}

/// Uses a transaction that the host began on the shop's MySQL or MariaDB database. The transaction must be at
/// `READ COMMITTED`, which the host sets with `SET TRANSACTION ISOLATION LEVEL READ COMMITTED` before it begins. The
/// server does not report the level of a transaction, so this function cannot check it. At `REPEATABLE READ`, the
/// server's default, a write may not see the change that it waited for. [`begin_on_mysql`] sets the level.
///
/// # Errors
/// As [`begin_on_mysql`].
#[cfg(feature = "mysql")]
pub async fn on_mysql<'c>(shop: &Shop, tx: &'c mut sqlx::Transaction<'_, sqlx::MySql>) -> Result<Tx<'c>> {
    let node = crate::mysql::node(tx, NOT_KNOWN).await?;
    open(shop, &crate::mysql::DIALECT, HostConn::MySql(Held::Lent(&mut **tx), node)).await
}

async fn open<'c>(shop: &Shop, dialect: &'static Dialect, conn: HostConn<'c>) -> Result<Tx<'c>> {
    let mut unit = HostTransaction::new(conn, Shared::new(dialect, shop.config().currency));
    if let Some(check) = dialect.host_check
        && let Some(wrong) = unit.lend().fetch_optional(check, Vec::new()).await?
    {
        return Err(refused(wrong.string(0)?));
    }
    let identity = match unit.lend().fetch_optional(&IDENTITY, Vec::new()).await {
        Ok(row) => row.map(|r| r.string(0)).transpose()?,
        // The database has no tables of the shop.
        Err(DbError { kind: Kind::Other, .. }) => None,
        Err(e) => return Err(e.into()),
    };
    if identity != Some(shop.identity().await?.to_string()) {
        return Err(refused("is not a connection to the database of this shop".to_owned()));
    }
    Ok(shop.transaction(Box::new(unit)))
}

fn refused(message: String) -> Error {
    Error::invalid("connection", FieldCode::OutOfBounds, message)
}
