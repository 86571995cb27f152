//! Who owns the connection that repositories borrow: a pooled one, a transaction, or the host.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use ecom_core::port::{Connection, UnitOfWork};
use ecom_core::{Dependency, Error, Result};

use crate::sql::engine::error::{DbResult, Kind};
use crate::sql::engine::executor::{ConnRef, Executor, Shared, State};
use crate::sql::engine::pool::{Conn, Lent};

/// A repository of a SQL database on a borrowed connection. `Port` is the trait that it implements, such as
/// `dyn ProductRepository`.
pub struct SqlRepository<'c, Port: ?Sized>(pub Executor<'c>, PhantomData<fn(&Port)>);

impl<'c, Port: ?Sized> SqlRepository<'c, Port> {
    /// On a connection.
    const fn new(executor: Executor<'c>) -> Self {
        Self(executor, PhantomData)
    }
}

/// A pooled connection outside a transaction.
pub struct PooledConnection {
    lent: Lent,
    shared: Arc<Shared>,
}

impl PooledConnection {
    /// On a connection out of the pool.
    pub const fn new(lent: Lent, shared: Arc<Shared>) -> Self {
        Self { lent, shared }
    }

    fn lend(&mut self) -> Executor<'_> {
        self.lent.conn().executor(&self.shared)
    }
}

ecom_core::repositories! { impl SqlRepository for PooledConnection }
impl Connection for PooledConnection {}

/// A transaction on a pooled connection. Dropped, its connection is closed, which rolls it back.
pub struct Transaction {
    lent: Lent,
    shared: Arc<Shared>,
}

impl Transaction {
    /// Starts it.
    pub async fn begin(mut lent: Lent, shared: Arc<Shared>) -> DbResult<Self> {
        let conn: &mut Conn = lent.conn();
        // Before the answer: a call that is dropped in between leaves a transaction open.
        conn.in_transaction = true;
        if let Err(e) = conn.executor(&shared).script(shared.dialect.begin).await {
            conn.in_transaction = false;
            return Err(e);
        }
        Ok(Self { lent, shared })
    }

    /// Runs statements in it.
    pub fn executor(&mut self) -> Executor<'_> {
        self.lent.conn().executor(&self.shared)
    }

    fn lend(&mut self) -> Executor<'_> {
        self.executor()
    }
}

ecom_core::repositories! { impl SqlRepository for Transaction }

#[async_trait]
impl UnitOfWork for Transaction {
    async fn commit(mut self: Box<Self>) -> Result<()> {
        if self.lent.conn().state == State::Failed {
            return Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: false, source: None });
        }
        match self.executor().script("COMMIT").await {
            Ok(()) => {
                self.lent.conn().in_transaction = false;
                Ok(())
            }
            // The connection is closed on drop, which rolls back what a refused commit has left open.
            Err(e) => Err(e.or_unknown()),
        }
    }

    async fn rollback(mut self: Box<Self>) -> Result<()> {
        match self.executor().script("ROLLBACK").await {
            Ok(()) => self.lent.conn().in_transaction = false,
            // The database has ended the transaction by itself; the connection is closed on drop.
            Err(e) if e.kind == Kind::Other => {}
            Err(e) => return Err(Error::unavailable(Dependency::Database, e.source)),
        }
        Ok(())
    }
}

/// The repositories on a connection of the host's own, for instance inside its transaction. What is written is
/// written when the host commits; caches are told by the outbox.
pub struct SqlRepositories<'c> {
    conn: ConnRef<'c>,
    state: State,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for SqlRepositories<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlRepositories").field("database", &self.shared.dialect.name).finish_non_exhaustive()
    }
}

impl<'c> SqlRepositories<'c> {
    /// On a connection of SQLite, which has foreign keys on, to a database that [`crate::sql::SqlStorage`] has migrated.
    /// Start its transaction with `BEGIN IMMEDIATE`.
    #[cfg(feature = "sqlite")]
    pub fn on_sqlite(conn: &'c mut sqlx::SqliteConnection, currency: ecom_core::money::Currency) -> Self {
        let shared = Shared::new(&crate::sqlite::DIALECT, currency);
        Self { conn: ConnRef::Sqlite(conn), state: State::Idle, shared: Arc::new(shared) }
    }

    /// On a connection of PostgreSQL, whose transaction is `READ COMMITTED`: that is the default unless somebody changed it.
    #[cfg(feature = "postgres")]
    pub fn on_postgres(conn: &'c mut sqlx::PgConnection, currency: ecom_core::money::Currency) -> Self {
        let shared = Shared::new(&crate::postgres::DIALECT, currency);
        Self { conn: ConnRef::Postgres(conn), state: State::Idle, shared: Arc::new(shared) }
    }

    /// On a connection of MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    pub fn on_mysql(conn: &'c mut sqlx::MySqlConnection, currency: ecom_core::money::Currency) -> Self {
        let shared = Shared::new(&crate::mysql::DIALECT, currency);
        Self { conn: ConnRef::MySql(conn), state: State::Idle, shared: Arc::new(shared) }
    }

    fn lend(&mut self) -> Executor<'_> {
        let conn = match &mut self.conn {
            #[cfg(feature = "sqlite")]
            ConnRef::Sqlite(c) => ConnRef::Sqlite(c),
            #[cfg(feature = "postgres")]
            ConnRef::Postgres(c) => ConnRef::Postgres(c),
            #[cfg(feature = "mysql")]
            ConnRef::MySql(c) => ConnRef::MySql(c),
        };
        Executor::new(conn, &mut self.state, &self.shared)
    }
}

ecom_core::repositories! { impl SqlRepository for SqlRepositories<'_> }
