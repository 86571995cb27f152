//! Storage: connections, the unit of work, and the repositories that borrow from them.

use std::any::Any;
use std::fmt;

use async_trait::async_trait;

use crate::error::Result;
use crate::money::Currency;
pub use crate::port::{ForwardRepositories, Repositories};

port! {
    /// A database.
    ///
    /// Reads take a [`Storage::connect`]ion for a single statement's worth of work; writes take a
    /// [`Storage::begin`] unit of work. Never ask for a second connection while a unit of work is open: a pool of
    /// one would wait for itself.
    pub trait Storage / ForwardStorage(&self): Send + Sync + fmt::Debug {
        /// The adapter's name for people: `sqlite`, `postgres` …
        fn name(&self) -> &'static str;

        /// A connection for reads.
        ///
        /// # Errors
        /// `Unavailable` if none is to be had within the adapter's time limit.
        async fn connect(&self) -> Result<Box<dyn Connection>>;

        /// A transaction that may write. On a database with one writer it waits for its turn.
        ///
        /// # Errors
        /// `Unavailable` if the turn does not come within the adapter's time limit.
        async fn begin(&self) -> Result<Box<dyn UnitOfWork>>;

        /// Brings the schema up to this release and stores the shop's currency in the database, in one transaction. Safe
        /// to call from many processes at once.
        ///
        /// # Errors
        /// `CURRENCY_MISMATCH` if the database is in another currency: nothing is written then. `Internal` if the schema
        /// is newer than this release or a migration fails.
        async fn migrate(&self, currency: Currency) -> Result<()>;

        /// The currency of the database, in whose minor units it keeps prices; `None` before [`Storage::migrate`].
        fn currency(&self) -> Option<Currency>;

        /// Names this database for consumers that keep a place in its outbox outside of it, such as an index on
        /// local disk: made once, at the first migration.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn identity(&self) -> Result<uuid::Uuid>;

        /// One round trip to the server.
        ///
        /// # Errors
        /// `Unavailable`.
        async fn ping(&self) -> Result<()>;

        /// How its pool stands.
        fn pool_status(&self) -> PoolStatus;

        /// Statements sent since start, for tests and metrics that count them.
        fn statements(&self) -> u64;

        /// Closes idle connections and refuses new ones.
        async fn close(&self);
    }
}

/// How a connection pool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, derive_setters::Setters)]
#[non_exhaustive]
pub struct PoolStatus {
    /// Most connections.
    pub max: usize,
    /// Open connections.
    pub size: usize,
    /// Open and idle.
    pub idle: usize,
    /// Callers that wait for one.
    pub waiting: usize,
}

/// A pooled connection outside a transaction. Dropping it hands it back; a call that was dropped in flight
/// closes it instead.
pub trait Connection: Repositories {}

/// A transaction. Dropped without [`UnitOfWork::commit`], nothing of it is written.
#[async_trait]
pub trait UnitOfWork: Repositories {
    /// The connection that it runs on, for a host's own statements in the same transaction. `None` if the connection
    /// is the adapter's own.
    fn connection(&mut self) -> Option<&mut dyn Any> {
        None
    }

    /// Writes everything, durably.
    ///
    /// # Errors
    /// `Unavailable` with `outcome_unknown` if the answer was lost; any other error means that nothing
    /// was written.
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Writes nothing.
    ///
    /// # Errors
    /// `Unavailable`; nothing is written all the same.
    async fn rollback(self: Box<Self>) -> Result<()>;
}

/// A [`UnitOfWork`] that forwards to another one what it does not change.
#[async_trait]
pub trait ForwardUnitOfWork: Repositories {
    /// Returns the unit of work that [`commit`](Self::commit) and [`rollback`](Self::rollback) are forwarded to.
    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork>;

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
    async fn commit(self: Box<Self>) -> Result<()> {
        ForwardUnitOfWork::commit(self).await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        ForwardUnitOfWork::rollback(self).await
    }
}
