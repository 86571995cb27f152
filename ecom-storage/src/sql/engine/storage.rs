//! The storage port over the pool.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::money::Currency;
use ecom_core::port::{Connection, PoolStatus, SchemaStatus, Storage, UnitOfWork};
use ecom_core::{Dependency, Error, Result, WithCauses};
use uuid::Uuid;

use super::deferred;
use super::dialect::Sql;
use super::error::{DbError, Kind};
use super::executor::Shared;
use super::migrate;
use super::pool::{Conn, Lent, OPEN_LIMIT, Opener, SqlStorage};
use super::unit_of_work::{PooledConnection, Transaction};

/// The pause between two indexes that are restored. It is longer than those between the tries of other processes, so
/// that one of them gets its turn.
const RESPITE: Duration = Duration::from_millis(30);

static PING: Sql = Sql::new("SELECT 1");
static IDENTITY: Sql = Sql::new("SELECT value FROM ecom_meta WHERE name = 'identity'");

#[async_trait]
impl Storage for SqlStorage {
    fn name(&self) -> &'static str {
        self.shared.dialect.name
    }

    async fn connect(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(PooledConnection::new(self.lend(&self.readers).await?, self.shared.clone())))
    }

    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(Transaction::on(self.begin_alone().await?, self.shared.clone())))
    }

    async fn begin_short(&self) -> Result<Box<dyn UnitOfWork>> {
        #[cfg(feature = "sqlite")]
        if let Some(groups) = &self.groups {
            return Ok(Box::new(groups.begin(self).await?));
        }
        self.begin().await
    }

    async fn migrate(&self, currency: Currency) -> Result<()> {
        let (now, identity) = (self.clock.now(), self.ids.next());
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        let _turn = match &self.part {
            None => None,
            Some(part) => {
                // A shop that is only opened again needs no connection of its own.
                let mut lent = self.lend(&self.readers).await?;
                if let Some(identity) = migrate::current(&mut lent.conn().executor(&self.shared), currency).await? {
                    self.shared.migrated(currency, identity);
                    return Ok(());
                }
                drop(lent);
                Some(part.migrations.acquire().await.map_err(|e| Error::unavailable(Dependency::Database, e))?)
            }
        };
        if let Some(opener) = &self.migrations {
            // Without a time limit, and without a schema to check: it may have to be migrated.
            let unlimited = self.shared.for_migrations();
            let mut conn = open(opener, &unlimited).await?;
            let identity = migrate::run(&mut conn.executor(&unlimited), now, identity, currency).await?;
            self.shared.migrated(currency, identity);
            report(restore(&mut conn, &unlimited).await);
            return Ok(());
        }
        let mut lent = self.writer().await?;
        // Stays true if it fails, so that the connection is closed and the transaction with it.
        lent.conn().in_transaction = true;
        let identity = migrate::run(&mut lent.conn().executor(&self.shared), now, identity, currency).await?;
        lent.conn().in_transaction = false;
        self.shared.migrated(currency, identity);
        drop(lent);
        report(self.restore_on_writer().await);
        Ok(())
    }

    async fn schema_status(&self) -> Result<SchemaStatus> {
        let mut lent = self.lend(&self.readers).await?;
        migrate::status(&mut lent.conn().executor(&self.shared)).await
    }

    fn currency(&self) -> Option<Currency> {
        self.shared.currency.get().copied()
    }

    async fn identity(&self) -> Result<Uuid> {
        let mut lent = self.lend(&self.readers).await?;
        let row = lent.conn().executor(&self.shared).fetch_optional(&IDENTITY, Vec::new()).await?;
        row.ok_or(Error::Internal { context: "reading the database's identity", source: None })?
            .text(0)?
            .parse()
            .map_err(|e: uuid::Error| Error::internal("reading the database's identity", e))
    }

    async fn ping(&self) -> Result<()> {
        let mut lent = self.lend(&self.readers).await?;
        lent.conn().executor(&self.shared).fetch_optional(&PING, Vec::new()).await?;
        Ok(())
    }

    fn pool_status(&self) -> PoolStatus {
        let (r, w) = (self.status(&self.readers), self.status(&self.writer));
        if self.one_pool {
            return w;
        }
        r.max(r.max + w.max).size(r.size + w.size).idle(r.idle + w.idle).waiting(r.waiting + w.waiting)
    }

    fn has_one_writer(&self) -> bool {
        // Only such a database needs no lock of the tree.
        self.shared.dialect.lock_tree.is_none()
    }

    fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }

    async fn defer_indexes(&self) -> Result<()> {
        if self.shared.dialect.indexes.is_none() {
            return Ok(());
        }
        // With its time limits: a lock that a long transaction of others has is not waited for.
        let mut lent = self.begin_alone().await?;
        let conn = lent.conn();
        let mut x = conn.executor(&self.shared);
        deferred::defer(&mut x).await?;
        x.commit().await.map_err(DbError::or_unknown)?;
        conn.in_transaction = false;
        Ok(())
    }

    async fn restore_indexes(&self) -> Result<()> {
        let mut lent = self.lend(&self.readers).await?;
        if !deferred::is_any(&mut lent.conn().executor(&self.shared)).await? {
            return Ok(());
        }
        drop(lent);
        let Some(opener) = &self.migrations else { return self.restore_on_writer().await };
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        let _turn = match &self.part {
            None => None,
            Some(part) => {
                Some(part.migrations.acquire().await.map_err(|e| Error::unavailable(Dependency::Database, e))?)
            }
        };
        let unlimited = self.shared.for_migrations();
        restore(&mut open(opener, &unlimited).await?, &unlimited).await
    }

    async fn close(&self) {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let Some(part) = &self.part {
            return part.close();
        }
        self.readers.close();
        self.writer.close();
    }
}

impl SqlStorage {
    /// Passes the text of each statement to a function from now on, with the types of its parameters, for the tests
    /// that compare releases. Migrations and the statements that begin and end transactions are left out.
    #[doc(hidden)]
    pub fn record_statements(&self, recorder: fn(&str, &[&'static str])) {
        self.shared.recorder.get_or_init(|| recorder);
    }

    /// Returns a connection with a transaction that has a commit of its own.
    async fn begin_alone(&self) -> Result<Lent> {
        #[cfg(feature = "sqlite")]
        if let Some(groups) = &self.groups {
            return groups.begin_alone(self).await;
        }
        self.begin_on_writer().await
    }

    /// Restores the indexes of a file, or of a database in memory, on its connection that writes. It gives the
    /// connection back after each of them, so that other writes of this process wait for one index only.
    async fn restore_on_writer(&self) -> Result<()> {
        #[cfg(feature = "sqlite")]
        let mut in_files = true;
        loop {
            let mut lent = self.writer().await?;
            if !deferred::is_any(&mut lent.conn().executor(&self.shared)).await? {
                return Ok(());
            }
            #[cfg(feature = "sqlite")]
            if in_files {
                lent.conn().sort_in_files(true);
            }
            let restored = restore_one(lent.conn(), &self.shared).await;
            #[cfg(feature = "sqlite")]
            if in_files {
                match &restored {
                    // There may be no place for temporary files. The connection is closed, because a statement has
                    // failed.
                    Err(error) if !error.is_retryable() => {
                        tracing::warn!(
                            %error,
                            "an index could not be created with temporary files; it is tried without"
                        );
                        in_files = false;
                        continue;
                    }
                    _ => lent.conn().sort_in_files(false),
                }
            }
            restored?;
            drop(lent);
            tokio::time::sleep(RESPITE).await;
        }
    }
}

/// Opens a connection for changes of the schema, besides those of the pool.
async fn open(opener: &Opener, unlimited: &Shared) -> Result<Conn> {
    let conn = tokio::time::timeout(OPEN_LIMIT, opener.open(unlimited)).await;
    conn.map_err(|e| Error::unavailable(Dependency::Database, e))?.map_err(|e| match e.kind {
        Kind::Setup(_) => e.at_start(),
        _ => Error::unavailable(Dependency::Database, e.source),
    })
}

/// Logs that indexes could not be restored at a start. The shop works without them.
fn report(restored: Result<()>) {
    if let Err(error) = restored {
        tracing::warn!(
            error = %WithCauses(&error),
            "indexes that an import in bulk has dropped are missing, so that lists take longer; the next process that \
             starts tries again to create them, as a user that owns the tables"
        );
    }
}

/// Creates the indexes again that an import in bulk has dropped, each in a transaction of its own, so that others wait
/// for one of them only. If it fails, the caller must close the connection, or give it back to the pool, which does.
async fn restore(conn: &mut Conn, shared: &Shared) -> Result<()> {
    while deferred::is_any(&mut conn.executor(shared)).await? {
        restore_one(conn, shared).await?;
        tokio::time::sleep(RESPITE).await;
    }
    Ok(())
}

/// Creates the next of these indexes, if there are more.
async fn restore_one(conn: &mut Conn, shared: &Shared) -> Result<()> {
    // Stays true if it fails, so that the connection is closed and the transaction with it.
    conn.in_transaction = true;
    let mut x = conn.executor(shared);
    x.begin().await?;
    migrate::lock(&mut x).await?;
    deferred::restore_next(&mut x).await?;
    x.commit().await?;
    conn.in_transaction = false;
    Ok(())
}
