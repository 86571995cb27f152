//! A database that is away for a moment while an import runs.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use ecom::catalog::ImportOptions;
use ecom::money::Currency;
use ecom::port::{
    CategoryRepository, Connection, InventoryRepository, OutboxRepository, PoolStatus, ProductRepository, Repositories,
    SkuRepository, Storage, UnitOfWork,
};
use ecom::{Dependency, Error, Result, Shop, ShopBuilder};
use serde_json::{Value, json};

use crate::support::{all_products, assert_balanced, counts, import, import_categories, lines, record, shop, tree};

/// A database that is away for a number of transactions.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Storage>,
    away: AtomicU64,
    /// Whether the answer to a commit is lost after it has happened.
    lose_answers: bool,
}

struct LosesAnswer(Box<dyn UnitOfWork>);

impl Repositories for LosesAnswer {
    fn products(&mut self) -> Box<dyn ProductRepository + '_> {
        self.0.products()
    }
    fn categories(&mut self) -> Box<dyn CategoryRepository + '_> {
        self.0.categories()
    }
    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        self.0.skus()
    }
    fn inventory(&mut self) -> Box<dyn InventoryRepository + '_> {
        self.0.inventory()
    }
    fn outbox(&mut self) -> Box<dyn OutboxRepository + '_> {
        self.0.outbox()
    }
}

#[async_trait]
impl UnitOfWork for LosesAnswer {
    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await?;
        Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: None })
    }
    async fn rollback(self: Box<Self>) -> Result<()> {
        self.0.rollback().await
    }
}

#[async_trait]
impl Storage for Flaky {
    fn name(&self) -> &'static str {
        "flaky"
    }
    async fn connect(&self) -> Result<Box<dyn Connection>> {
        self.inner.connect().await
    }
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        let away = self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        match (away, self.lose_answers) {
            (true, false) => Err(Error::unavailable(Dependency::Database, "away")),
            (true, true) => Ok(Box::new(LosesAnswer(self.inner.begin().await?))),
            (false, _) => self.inner.begin().await,
        }
    }
    async fn migrate(&self, currency: Currency) -> Result<()> {
        self.inner.migrate(currency).await
    }
    fn currency(&self) -> Option<Currency> {
        self.inner.currency()
    }
    async fn identity(&self) -> Result<uuid::Uuid> {
        self.inner.identity().await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
    fn pool_status(&self) -> PoolStatus {
        self.inner.pool_status()
    }
    fn statements(&self) -> u64 {
        self.inner.statements()
    }
    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn flaky_shop(away: u64, lose_answers: bool) -> Shop {
    let inner = shop().await.storage().clone();
    let flaky = Arc::new(Flaky { inner, away: AtomicU64::new(away), lose_answers });
    ShopBuilder::new().with_storage(flaky).search("tantivy::memory:").build().await.unwrap()
}

#[tokio::test]
async fn an_import_waits_for_a_database_that_is_away_for_a_moment() {
    let records: Vec<Value> = (1..=150).map(record).collect();
    let shop = flaky_shop(2, false).await;
    let (report, _) = import(&shop, lines(&records)).await;
    assert_eq!(counts(&report), [150, 150, 0, 0, 0]);
    // A batch that was written although its answer was lost is found, not written again.
    let shop = flaky_shop(1, true).await;
    let (report, letters) = import(&shop, lines(&records)).await;
    assert_eq!(counts(&report), [150, 50, 0, 100, 0], "{letters:?}");
    assert_eq!(all_products(&shop).await.len(), 150);
    assert_balanced(&shop).await;
    let rows: Vec<Value> = (0..30).map(|i| json!({"id": i, "name": format!("C{i}")})).collect();
    for lose_answers in [false, true] {
        let shop = flaky_shop(1, lose_answers).await;
        let (report, letters) = import_categories(&shop, lines(&rows)).await;
        assert_eq!(counts(&report), [30, 30, 0, 0, 0], "{letters:?}");
        assert_eq!(tree(&shop).await.len(), 30);
    }
    // One that stays away ends the import with an error; what was written stays.
    let shop = flaky_shop(u64::MAX, false).await;
    let failed = shop.import().products(Cursor::new(lines(&records)), ImportOptions::default(), |_| {}).await;
    assert!(failed.unwrap_err().is_retryable());
}
