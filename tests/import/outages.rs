//! A database that is unavailable for a moment while an import runs.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use ecom::catalog::ImportOptions;
use ecom::port::{ForwardRepositories, ForwardStorage, ForwardUnitOfWork, Repositories, Storage, UnitOfWork};
use ecom::{Dependency, Error, Result, Shop, ShopBuilder};
use serde_json::{Value, json};

use crate::support::{
    Letters, all_products, assert_balanced, counts, import, import_categories, lines, products, record, shop, tree,
};

on_each_database! {
    an_import_waits_for_a_database_that_is_away_for_a_moment,
}

/// A database that is unavailable for a number of transactions.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn Storage>,
    away: AtomicU64,
    /// Whether the answer to a commit is lost after the commit has happened.
    lose_answers: bool,
}

struct LosesAnswer(Box<dyn UnitOfWork>);

impl ForwardRepositories for LosesAnswer {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.0
    }
}

#[async_trait]
impl ForwardUnitOfWork for LosesAnswer {
    fn unit(&mut self) -> &mut dyn UnitOfWork {
        &mut *self.0
    }
    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork> {
        self.0
    }
    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await?;
        Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: None })
    }
}

#[async_trait]
impl ForwardStorage for Flaky {
    fn inner(&self) -> &dyn Storage {
        &*self.inner
    }
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        let away = self.away.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        match (away, self.lose_answers) {
            (true, false) => Err(Error::unavailable(Dependency::Database, "away")),
            (true, true) => Ok(Box::new(LosesAnswer(self.inner.begin().await?))),
            (false, _) => self.inner.begin().await,
        }
    }
}

async fn flaky_shop(away: u64, lose_answers: bool) -> Shop {
    let inner = shop().await.storage().clone();
    let flaky = Arc::new(Flaky { inner, away: AtomicU64::new(away), lose_answers });
    ShopBuilder::new().with_storage(flaky).search("tantivy::memory:").build().await.unwrap()
}

async fn an_import_waits_for_a_database_that_is_away_for_a_moment() {
    let records: Vec<Value> = (1..=150).map(record).collect();
    let shop = flaky_shop(2, false).await;
    let (report, _) = import(&shop, lines(&records)).await;
    assert_eq!(counts(&report), [150, 150, 0, 0, 0]);
    // A batch that was written although its answer was lost is found, and not written again.
    let shop = flaky_shop(1, true).await;
    let letters = Letters::default();
    let report = products(&shop, lines(&records), letters.options().batch(100)).await;
    assert_eq!(counts(&report), [150, 50, 0, 100, 0], "{:?}", letters.read());
    assert_eq!(all_products(&shop).await.len(), 150);
    assert_balanced(&shop).await;
    let rows: Vec<Value> = (0..30).map(|i| json!({"id": i, "name": format!("C{i}")})).collect();
    for lose_answers in [false, true] {
        let shop = flaky_shop(1, lose_answers).await;
        let (report, letters) = import_categories(&shop, lines(&rows)).await;
        assert_eq!(counts(&report), [30, 30, 0, 0, 0], "{letters:?}");
        assert_eq!(tree(&shop).await.len(), 30);
    }
    // If the database stays unavailable, the import ends with an error, and what it wrote stays.
    let shop = flaky_shop(u64::MAX, false).await;
    let failed = shop.import().products(Cursor::new(lines(&records)), ImportOptions::default(), |_| {}).await;
    assert!(failed.unwrap_err().is_retryable());
}
