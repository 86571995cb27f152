//! The owners of the connection that repositories borrow: a pooled connection, a transaction, or the host.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use ecom_core::port::{Connection, UnitOfWork};
use ecom_core::{Dependency, Error, Result};

use crate::sql::engine::error::{DbError, Kind};
use crate::sql::engine::executor::{ConnRef, Executor, Shared, State};
use crate::sql::engine::pool::Lent;
use crate::sql::engine::repository::SqlRepository;
#[cfg(feature = "sqlite")]
use crate::sqlite::HostConnection;

/// A pooled connection outside a transaction.
pub struct PooledConnection {
    lent: Lent,
    shared: Arc<Shared>,
}

impl PooledConnection {
    /// Wraps a connection of the pool.
    pub const fn new(lent: Lent, shared: Arc<Shared>) -> Self {
        Self { lent, shared }
    }

    fn lend(&mut self) -> Executor<'_> {
        self.lent.conn().executor(&self.shared)
    }
}

ecom_core::repositories! { impl SqlRepository for PooledConnection }
impl Connection for PooledConnection {}

/// A transaction on a pooled connection. If it is dropped, it is rolled back: by closing the connection, or on SQLite by
/// a statement.
pub struct Transaction {
    lent: Lent,
    shared: Arc<Shared>,
}

impl Transaction {
    /// Wraps a connection in a transaction that has begun.
    pub const fn on(lent: Lent, shared: Arc<Shared>) -> Self {
        Self { lent, shared }
    }

    fn lend(&mut self) -> Executor<'_> {
        self.lent.conn().executor(&self.shared)
    }
}

ecom_core::repositories! { impl SqlRepository for Transaction }

#[async_trait]
impl UnitOfWork for Transaction {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        if self.lent.conn().state == State::Failed {
            return Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: false, source: None });
        }
        match self.lend().commit().await {
            Ok(()) => {
                self.lent.conn().in_transaction = false;
                Ok(())
            }
            // Dropping closes the connection, which rolls back what a refused commit leaves open.
            Err(e) => Err(e.or_unknown()),
        }
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        match self.lend().rollback().await {
            Ok(()) => self.lent.conn().in_transaction = false,
            // The database has already ended the transaction, and dropping closes the connection.
            Err(e) if e.kind == Kind::Other => {}
            Err(e) => return Err(Error::unavailable(Dependency::Database, e.source)),
        }
        Ok(())
    }
}

/// A transaction on a connection of the host; the functions in `host.rs` create it.
pub struct HostTransaction<'c> {
    conn: HostConn<'c>,
    state: State,
    shared: Arc<Shared>,
}

/// The connection of the host, by database.
pub enum HostConn<'c> {
    /// A connection to SQLite.
    #[cfg(feature = "sqlite")]
    Sqlite(Held<'c, sqlx::Sqlite>),
    /// A connection of rusqlite to SQLite.
    #[cfg(feature = "sqlite")]
    Rusqlite(HeldRusqlite<'c>),
    /// A connection to PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(Held<'c, sqlx::Postgres>),
    /// A connection to MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    MySql(Held<'c, sqlx::MySql>, crate::mysql::Node),
}

/// A connection of the host, by who began its transaction.
pub enum Held<'c, D: sqlx::Database> {
    /// The library began the transaction. If it is dropped, it is rolled back before the connection is used again.
    Begun(sqlx::Transaction<'c, D>),
    /// The host began the transaction and ends it.
    Lent(&'c mut D::Connection),
}

impl<D: sqlx::Database> Held<'_, D> {
    fn conn(&mut self) -> &mut D::Connection {
        match self {
            Self::Begun(tx) => tx,
            Self::Lent(conn) => conn,
        }
    }

    async fn commit(self, classify: fn(sqlx::Error) -> DbError) -> Result<()> {
        match self {
            Self::Begun(tx) => tx.commit().await.map_err(|e| classify(e).or_unknown()),
            Self::Lent(_) => Err(host_ends_it(COMMITTING)),
        }
    }

    async fn rollback(self, classify: fn(sqlx::Error) -> DbError) -> Result<()> {
        match self {
            Self::Begun(tx) => tx.rollback().await.map_err(|e| classify(e).into()),
            Self::Lent(_) => Err(host_ends_it(ROLLING_BACK)),
        }
    }
}

const COMMITTING: &str = "committing a transaction that the host began; the host commits it";
const ROLLING_BACK: &str = "rolling back a transaction that the host began; the host rolls it back";

/// A connection of rusqlite.
#[cfg(feature = "sqlite")]
pub struct HeldRusqlite<'c> {
    /// The connection, in a transaction.
    pub conn: &'c mut rusqlite::Connection,
    /// Whether the library began the transaction. If so, dropping this rolls it back.
    pub begun: bool,
}

#[cfg(feature = "sqlite")]
impl HeldRusqlite<'_> {
    fn end(mut self, text: &'static str, capability: &'static str) -> Result<()> {
        if !self.begun {
            return Err(host_ends_it(capability));
        }
        self.conn.execute_batch(text).map_err(|e| crate::sqlite::classify(e).or_unknown())?;
        self.begun = false;
        Ok(())
    }
}

#[cfg(feature = "sqlite")]
impl Drop for HeldRusqlite<'_> {
    fn drop(&mut self) {
        if self.begun && !self.conn.is_autocommit() {
            // If it fails, SQLite has rolled back already.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }
}

fn host_ends_it(capability: &'static str) -> Error {
    Error::Unsupported { provider: "a host's transaction", capability }
}

impl<'c> HostTransaction<'c> {
    /// Creates the unit of work on a connection of the host that is in a transaction.
    pub fn new(conn: HostConn<'c>, shared: Shared) -> Self {
        Self { conn, state: State::Idle, shared: Arc::new(shared) }
    }

    /// Returns an executor in this transaction.
    pub fn lend(&mut self) -> Executor<'_> {
        let conn = match &mut self.conn {
            #[cfg(feature = "sqlite")]
            HostConn::Sqlite(c) => ConnRef::SqliteOfHost(HostConnection::Sqlx(c.conn())),
            #[cfg(feature = "sqlite")]
            HostConn::Rusqlite(c) => ConnRef::SqliteOfHost(HostConnection::Rusqlite(c.conn)),
            #[cfg(feature = "postgres")]
            HostConn::Postgres(c) => ConnRef::Postgres(c.conn()),
            #[cfg(feature = "mysql")]
            HostConn::MySql(c, node) => ConnRef::MySql(c.conn(), *node),
        };
        Executor::new(conn, &mut self.state, &self.shared)
    }
}

ecom_core::repositories! { impl SqlRepository for HostTransaction<'_> }

#[async_trait]
impl UnitOfWork for HostTransaction<'_> {
    fn connection(&mut self) -> Option<&mut dyn Any> {
        Some(match &mut self.conn {
            #[cfg(feature = "sqlite")]
            HostConn::Sqlite(c) => c.conn(),
            #[cfg(feature = "sqlite")]
            HostConn::Rusqlite(c) => c.conn,
            #[cfg(feature = "postgres")]
            HostConn::Postgres(c) => c.conn(),
            #[cfg(feature = "mysql")]
            HostConn::MySql(c, _) => c.conn(),
        })
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        if self.state == State::Failed {
            return Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: false, source: None });
        }
        match self.conn {
            #[cfg(feature = "sqlite")]
            HostConn::Sqlite(c) => c.commit(crate::sqlite::classify_sqlx).await,
            #[cfg(feature = "sqlite")]
            HostConn::Rusqlite(c) => c.end("COMMIT", COMMITTING),
            #[cfg(feature = "postgres")]
            HostConn::Postgres(c) => c.commit(crate::postgres::classify).await,
            #[cfg(feature = "mysql")]
            HostConn::MySql(mut c, node) => {
                if let (Held::Begun(tx), crate::mysql::Node::Galera { .. }) = (&mut c, node) {
                    crate::mysql::script(tx, crate::mysql::STILL_BEGUN).await?;
                }
                c.commit(crate::mysql::classify).await
            }
        }
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        match self.conn {
            #[cfg(feature = "sqlite")]
            HostConn::Sqlite(c) => c.rollback(crate::sqlite::classify_sqlx).await,
            #[cfg(feature = "sqlite")]
            HostConn::Rusqlite(c) => c.end("ROLLBACK", ROLLING_BACK),
            #[cfg(feature = "postgres")]
            HostConn::Postgres(c) => c.rollback(crate::postgres::classify).await,
            #[cfg(feature = "mysql")]
            HostConn::MySql(c, _) => c.rollback(crate::mysql::classify).await,
        }
    }
}
