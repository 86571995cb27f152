//! Storage: connections, the unit of work, and the repositories that borrow from them.

use std::any::Any;
use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;

use crate::error::Result;
use crate::money::Currency;
pub use crate::port::{ForwardRepositories, Repositories};

port! {
    /// A database. An implementation runs `ecom_core::storage_suite!` (feature `testkit`);
    /// `ecom_core::testkit` has an example.
    ///
    /// A read takes a connection ([`Storage::connect`]) for about one statement. A write takes a unit of work
    /// ([`Storage::begin`]). Never ask for a second connection while a unit of work is open: with a pool of one
    /// connection, the caller would wait for itself.
    pub trait Storage / ForwardStorage(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter in messages: `sqlite`, `postgres` …
        fn name(&self) -> &'static str;

        /// Returns a connection for reads.
        ///
        /// # Errors
        /// `Unavailable` if none is free within the adapter's time limit.
        async fn connect(&self) -> Result<Box<dyn Connection>>;

        /// Begins a transaction that may write. On a database with one writer it waits for its turn.
        ///
        /// # Errors
        /// `Unavailable` if its turn does not come within the adapter's time limit.
        async fn begin(&self) -> Result<Box<dyn UnitOfWork>>;

        /// Brings the schema up to this release and stores the shop's currency in the database, in one transaction.
        /// Safe to call from many processes at once. If a later release has migrated the database, and its schema
        /// serves this release too, nothing is changed.
        ///
        /// # Errors
        /// `CURRENCY_MISMATCH` if the database is in another currency: nothing is written then. `Internal` if a later
        /// release has made the schema and it does not serve this release, or if a migration fails.
        async fn migrate(&self, currency: Currency) -> Result<()>;

        /// Compares the schema with this release, and changes nothing.
        ///
        /// # Errors
        /// `Internal` if a migration of the database has the name of one of this release and another text;
        /// `Unavailable`.
        async fn schema_status(&self) -> Result<SchemaStatus>;

        /// Returns the currency of the database, in whose minor units it stores prices; `None` before
        /// [`Storage::migrate`].
        fn currency(&self) -> Option<Currency>;

        /// Returns the id of this database, which is made once, at the first migration. Consumers that store their
        /// position outside of the database, such as an index on local disk, recognize the database by it.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn identity(&self) -> Result<uuid::Uuid>;

        /// Makes one round trip to the server.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn ping(&self) -> Result<()>;

        /// Returns true if one transaction writes at a time, and the others wait until it ends.
        fn has_one_writer(&self) -> bool;

        /// Returns the state of the connection pool.
        fn pool_status(&self) -> PoolStatus;

        /// Returns how many statements were sent since the start, for tests and metrics.
        fn statements(&self) -> u64;

        /// Closes idle connections and refuses new ones.
        async fn close(&self);
    }
    provided {
        /// Begins a transaction as [`Storage::begin`] does, for a caller that ends it soon: the caller must wait for
        /// nothing but the database, and write few rows. An adapter may give several such transactions one commit.
        ///
        /// # Errors
        /// As [`Storage::begin`].
        async fn begin_short(&self) -> Result<Box<dyn UnitOfWork>> {
            self.begin().await
        }

        /// Prepares the database for a large number of new products, before the first of them is written. An adapter
        /// may drop indexes that only make reads fast, until [`Storage::restore_indexes`]. It records them in the same
        /// transaction, and [`Storage::migrate`] restores them after a process has died, if it can. Meanwhile, every
        /// call of any process has the same result as before, but may be slower. A second call changes nothing. By
        /// default, nothing is dropped.
        ///
        /// # Errors
        /// `Unavailable`, or `Contention` if another transaction was in the way: nothing was dropped then.
        async fn defer_indexes(&self) -> Result<()> {
            Ok(())
        }

        /// Creates the indexes again that [`Storage::defer_indexes`] has dropped, however long it takes. Safe to call
        /// from many processes at once, and if nothing was dropped. Writes may wait meanwhile.
        ///
        /// # Errors
        /// `Unavailable`, and `Internal` if an index cannot be created. Those that are missing then are created by the
        /// next call.
        async fn restore_indexes(&self) -> Result<()> {
            Ok(())
        }
    }
}

/// The schema of a database, compared with the migrations of this release.
#[derive(Debug, Clone, PartialEq, Eq, derive_setters::Setters)]
#[non_exhaustive]
pub struct SchemaStatus {
    /// The names of the migrations of this release that the database does not have, oldest first.
    pub pending: Vec<String>,
    /// The names of the migrations that the database has and this release does not know, oldest first. A later release
    /// has made them.
    pub newer: Vec<String>,
    /// Whether this release can use the database, once the pending migrations are applied. It is false if a later
    /// release has made the schema, and the schema does not serve this release.
    pub is_served: bool,
}

impl SchemaStatus {
    /// Returns true if this release can use the database as it is.
    pub const fn is_ready(&self) -> bool {
        self.is_served && self.pending.is_empty()
    }
}

impl Default for SchemaStatus {
    /// Returns the status of a schema that is that of this release.
    fn default() -> Self {
        Self { pending: Vec::new(), newer: Vec::new(), is_served: true }
    }
}

/// The state of a connection pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, derive_setters::Setters)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The maximum number of connections.
    pub max: usize,
    /// The number of open connections.
    pub size: usize,
    /// The number of idle connections among them.
    pub idle: usize,
    /// The number of callers that wait for a connection.
    pub waiting: usize,
}

/// A pooled connection outside a transaction. When it is dropped, it returns to the pool, or is closed if a call on it
/// was cancelled in flight.
pub trait Connection: Repositories {}

/// A transaction. If it is dropped without [`UnitOfWork::commit`], nothing of it is written.
#[async_trait]
pub trait UnitOfWork: Repositories {
    /// Returns the connection that it runs on, for a host's own statements in the same transaction. `None` if the
    /// connection belongs to the adapter.
    fn connection(&mut self) -> Option<&mut dyn Any> {
        None
    }

    /// Returns a future that completes when all writes that this transaction can see and others have made are durable,
    /// or `None` if they already are. A caller that does not commit must await it before it reports anything that it
    /// has read in the transaction; [`UnitOfWork::commit`] waits by itself. Only a transaction of
    /// [`Storage::begin_short`] can see writes that are not durable yet.
    ///
    /// The future fails with the errors of [`UnitOfWork::commit`] if the writes of the others were not committed.
    fn depends_on(&mut self) -> Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>> {
        None
    }

    /// Writes everything, durably.
    ///
    /// # Errors
    /// `Unavailable` with `outcome_unknown` if the answer was lost; after any other error nothing was written.
    /// `Contention` from [`SharedCommitFailed`] if another transaction that shared the commit has made it fail.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Rolls back: nothing is written.
    ///
    /// # Errors
    /// `Unavailable`; nothing is written in that case either.
    async fn rollback(self: Box<Self>) -> Result<()>;
}

/// The source of [`Error::Contention`](crate::Error::Contention) for a transaction whose commit was to be shared, after
/// another one has failed in a way that has rolled back all of them. It did nothing wrong, and the services run it again
/// however long the other one has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a transaction that shared the commit has failed")]
pub struct SharedCommitFailed;

/// A [`UnitOfWork`] that forwards the methods that it does not change to another one.
#[async_trait]
pub trait ForwardUnitOfWork: Repositories {
    /// Returns the unit of work that [`connection`](Self::connection) and [`depends_on`](Self::depends_on) are
    /// forwarded to.
    fn unit(&mut self) -> &mut dyn UnitOfWork;

    /// Returns the unit of work that [`commit`](Self::commit) and [`rollback`](Self::rollback) are forwarded to.
    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork>;

    /// Forwards [`UnitOfWork::connection`].
    fn connection(&mut self) -> Option<&mut dyn Any> {
        self.unit().connection()
    }

    /// Forwards [`UnitOfWork::depends_on`].
    fn depends_on(&mut self) -> Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>> {
        self.unit().depends_on()
    }

    /// Forwards [`UnitOfWork::commit`].
    async fn commit(self: Box<Self>) -> Result<()> {
        self.into_inner().commit().await
    }

    /// Forwards [`UnitOfWork::rollback`].
    async fn rollback(self: Box<Self>) -> Result<()> {
        self.into_inner().rollback().await
    }
}

#[async_trait]
impl<F: ForwardUnitOfWork> UnitOfWork for F {
    fn connection(&mut self) -> Option<&mut dyn Any> {
        ForwardUnitOfWork::connection(self)
    }

    fn depends_on(&mut self) -> Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>> {
        ForwardUnitOfWork::depends_on(self)
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        ForwardUnitOfWork::commit(self).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        ForwardUnitOfWork::rollback(self).await
    }
}
