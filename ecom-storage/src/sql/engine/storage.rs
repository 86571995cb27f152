//! The storage port over the pool.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use deadpool::managed::Pool;
use ecom_core::money::Currency;
use ecom_core::port::{Connection, PoolStatus, Storage, UnitOfWork};
use ecom_core::{Dependency, Error, Result};
use uuid::Uuid;

use super::dialect::Sql;
use super::error::Kind;
use super::migrate;
use super::pool::{OPEN_LIMIT, Opens, SqlStorage};
use super::unit_of_work::{PooledConnection, Transaction};

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
        #[cfg(feature = "sqlite")]
        if let Some(groups) = &self.groups {
            return Ok(Box::new(Transaction::on(groups.begin_alone(self).await?, self.shared.clone())));
        }
        Ok(Box::new(Transaction::on(self.begin_on_writer().await?, self.shared.clone())))
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
            let open = tokio::time::timeout(OPEN_LIMIT, opener.open(&unlimited)).await;
            let mut conn =
                open.map_err(|e| Error::unavailable(Dependency::Database, e))?.map_err(|e| match e.kind {
                    Kind::Setup(_) => e.at_start(),
                    _ => Error::unavailable(Dependency::Database, e.source),
                })?;
            let identity = migrate::run(&mut conn.executor(&unlimited), now, identity, currency).await?;
            self.shared.migrated(currency, identity);
            return Ok(());
        }
        let mut lent = self.writer().await?;
        // Stays true if it fails, so that the connection is closed and the transaction with it.
        lent.conn().in_transaction = true;
        let identity = migrate::run(&mut lent.conn().executor(&self.shared), now, identity, currency).await?;
        lent.conn().in_transaction = false;
        self.shared.migrated(currency, identity);
        Ok(())
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
        let one = |p: &Pool<Opens>| {
            let s = p.status();
            PoolStatus::default().max(s.max_size).size(s.size).idle(s.available).waiting(s.waiting)
        };
        let (r, w) = (one(&self.readers), one(&self.writer));
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

    async fn close(&self) {
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        if let Some(part) = &self.part {
            return part.close();
        }
        self.readers.close();
        self.writer.close();
    }
}
