//! Adapters and consumers that fail when a test says so.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::domain::catalog::product::{Product, ProductFilter, ProductFilters, ProductSort};
use crate::domain::catalog::sku::Sku;
use crate::domain::common::Deleted;
use crate::domain::platform::outbox::{Event, OutboxPosition};
use crate::domain::stock::inventory::StockMovement;
use crate::error::{BoxError, Dependency, Error, Result};
use crate::id::{ProductId, SkuId};
use crate::money::Currency;
use crate::paging::{Page, Paging, Total};
use crate::port::cache::{Cache, CacheKey, CacheStats, CacheValue, Codec, FillToken};
use crate::port::catalog::category::CategoryRepository;
use crate::port::catalog::product::ProductRepository;
use crate::port::catalog::sku::SkuRepository;
use crate::port::platform::outbox::OutboxRepository;
use crate::port::search::{
    Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchProvider, SearchQuery, SearchResults,
};
use crate::port::stock::inventory::InventoryRepository;
use crate::port::storage::{Connection, PoolStatus, Repositories, Storage, UnitOfWork};
use crate::service::background::consumer::{Consumer, Start};
use crate::text::Slug;

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written: another transaction was in the way.
    Contention,
    /// It is written, and the answer is lost.
    AnswerLost,
    /// It is not written, and the answer is lost.
    CommitLost,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Mutex<VecDeque<Fault>>,
    commits: AtomicU64,
    blind_to_slugs: AtomicU64,
    blind_to_codes: AtomicU64,
}

/// A storage whose next commits fail as planned, and which does not see the names that others took.
#[derive(Debug)]
pub struct Unsteady {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

impl Unsteady {
    /// Over a steady one.
    pub fn over(inner: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Arc::default() })
    }

    /// What becomes of the next commits; those after them succeed.
    pub fn plan(&self, faults: &[Fault]) {
        *self.plan.faults.lock() = faults.iter().copied().collect();
        self.plan.commits.store(0, Ordering::SeqCst);
    }

    /// Commits that were asked for since the plan was made.
    pub fn commits(&self) -> u64 {
        self.plan.commits.load(Ordering::SeqCst)
    }

    /// The next look for taken slugs and the next for taken codes find so few of them: none.
    pub fn blind(&self, slugs: bool, codes: bool) {
        self.plan.blind_to_slugs.store(u64::from(slugs), Ordering::SeqCst);
        self.plan.blind_to_codes.store(u64::from(codes), Ordering::SeqCst);
    }
}

#[async_trait]
impl Storage for Unsteady {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn connect(&self) -> Result<Box<dyn Connection>> {
        self.inner.connect().await
    }
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(UnsteadyUnit { inner: self.inner.begin().await?, plan: self.plan.clone() }))
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

struct UnsteadyUnit {
    inner: Box<dyn UnitOfWork>,
    plan: Arc<Plan>,
}

impl Repositories for UnsteadyUnit {
    fn products(&mut self) -> Box<dyn ProductRepository + '_> {
        Box::new(Blind { inner: self.inner.products(), left: &self.plan.blind_to_slugs })
    }
    fn categories(&mut self) -> Box<dyn CategoryRepository + '_> {
        self.inner.categories()
    }
    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        Box::new(Blind { inner: self.inner.skus(), left: &self.plan.blind_to_codes })
    }
    fn inventory(&mut self) -> Box<dyn InventoryRepository + '_> {
        self.inner.inventory()
    }
    fn outbox(&mut self) -> Box<dyn OutboxRepository + '_> {
        self.inner.outbox()
    }
}

#[async_trait]
impl UnitOfWork for UnsteadyUnit {
    async fn commit(self: Box<Self>) -> Result<()> {
        self.plan.commits.fetch_add(1, Ordering::SeqCst);
        let fault = self.plan.faults.lock().pop_front();
        let lost = || Error::Unavailable { dependency: Dependency::Database, outcome_unknown: true, source: None };
        match fault {
            None => self.inner.commit().await,
            Some(Fault::Contention) => {
                self.inner.rollback().await?;
                Err(Error::Contention { source: None })
            }
            Some(Fault::AnswerLost) => {
                self.inner.commit().await?;
                Err(lost())
            }
            Some(Fault::CommitLost) => {
                self.inner.rollback().await?;
                Err(lost())
            }
        }
    }
    async fn rollback(self: Box<Self>) -> Result<()> {
        self.inner.rollback().await
    }
}

/// A repository that does not see which names are taken, as if another transaction took them a moment later.
struct Blind<'a, R: ?Sized> {
    inner: Box<R>,
    left: &'a AtomicU64,
}

impl<R: ?Sized> Blind<'_, R> {
    fn sees(&self, taken: HashSet<String>) -> HashSet<String> {
        let blind = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if blind { HashSet::new() } else { taken }
    }
}

#[async_trait]
impl ProductRepository for Blind<'_, dyn ProductRepository + '_> {
    async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        let taken = self.inner.taken_slugs(bases).await?;
        Ok(self.sees(taken))
    }
    async fn get(&mut self, id: ProductId, deleted: Deleted) -> Result<Option<Product>> {
        self.inner.get(id, deleted).await
    }
    async fn get_by_slug(&mut self, slug: &str) -> Result<Option<Product>> {
        self.inner.get_by_slug(slug).await
    }
    async fn get_many(&mut self, ids: &[ProductId], deleted: Deleted) -> Result<Vec<Product>> {
        self.inner.get_many(ids, deleted).await
    }
    async fn lock(&mut self, ids: &[ProductId]) -> Result<Vec<Product>> {
        self.inner.lock(ids).await
    }
    async fn find_by_external(&mut self, source: &str, external_ids: &[String]) -> Result<Vec<(String, ProductId)>> {
        self.inner.find_by_external(source, external_ids).await
    }
    async fn list(&mut self, filter: &ProductFilter, sort: ProductSort, paging: &Paging) -> Result<Page<Product>> {
        self.inner.list(filter, sort, paging).await
    }
    async fn count(&mut self, filter: &ProductFilter, bound: u64) -> Result<Total> {
        self.inner.count(filter, bound).await
    }
    async fn filters(&mut self, filter: &ProductFilter) -> Result<ProductFilters> {
        self.inner.filters(filter).await
    }
    async fn ids_in_category(
        &mut self,
        category: crate::id::CategoryId,
        after: Option<ProductId>,
        limit: u32,
    ) -> Result<Vec<ProductId>> {
        self.inner.ids_in_category(category, after, limit).await
    }
    async fn revisions(&mut self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        self.inner.revisions(after, limit).await
    }
    async fn insert(&mut self, products: &[Product]) -> Result<()> {
        self.inner.insert(products).await
    }
    async fn update(&mut self, before: &Product, after: &Product) -> Result<()> {
        self.inner.update(before, after).await
    }
    async fn refresh_categories(&mut self, ids: &[ProductId]) -> Result<()> {
        self.inner.refresh_categories(ids).await
    }
    async fn purge(&mut self, product: &Product) -> Result<()> {
        self.inner.purge(product).await
    }
}

#[async_trait]
impl SkuRepository for Blind<'_, dyn SkuRepository + '_> {
    async fn taken_codes(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        let taken = self.inner.taken_codes(bases).await?;
        Ok(self.sees(taken))
    }
    async fn get(&mut self, id: SkuId, deleted: Deleted) -> Result<Option<Sku>> {
        self.inner.get(id, deleted).await
    }
    async fn get_by_code(&mut self, code: &str) -> Result<Option<Sku>> {
        self.inner.get_by_code(code).await
    }
    async fn find_by_barcode(&mut self, barcode: &str) -> Result<Vec<Sku>> {
        self.inner.find_by_barcode(barcode).await
    }
    async fn find_by_codes(&mut self, codes: &[String]) -> Result<Vec<(String, SkuId, ProductId)>> {
        self.inner.find_by_codes(codes).await
    }
    async fn of_product(&mut self, product: ProductId, deleted: Deleted) -> Result<Vec<Sku>> {
        self.inner.of_product(product, deleted).await
    }
    async fn insert(&mut self, skus: &[Sku], opening: &[StockMovement]) -> Result<()> {
        self.inner.insert(skus, opening).await
    }
    async fn update(&mut self, before: &Sku, after: &Sku) -> Result<()> {
        self.inner.update(before, after).await
    }
    async fn purge(&mut self, id: SkuId) -> Result<()> {
        self.inner.purge(id).await
    }
}

/// How a handler fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// With an error.
    Error,
    /// With a panic.
    Panic,
}

/// A consumer that keeps what it is given, fails as planned, and stops where it is told to.
#[derive(Debug)]
pub struct Recorder {
    name: &'static str,
    start: Start,
    /// Each call, whatever became of it.
    pub given: Mutex<Vec<Vec<Event>>>,
    /// What it handled.
    pub done: Mutex<Vec<Event>>,
    /// What becomes of the next calls.
    pub failures: Mutex<VecDeque<Failure>>,
    /// Calls that were dropped before they ended.
    pub dropped: AtomicU64,
    /// How often it was told that it had missed events.
    pub missed: AtomicU64,
    /// Calls need a permit each.
    pub permits: Semaphore,
}

impl Recorder {
    /// One that does not stop.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, Start::Oldest, Semaphore::MAX_PERMITS / 2))
    }

    /// One that stops before the end of each call, until it gets a permit.
    pub fn held(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, Start::Oldest, 0))
    }

    /// One that begins with what is to come.
    pub fn from_head(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, Start::Head, Semaphore::MAX_PERMITS / 2))
    }

    fn with(name: &'static str, start: Start, permits: usize) -> Self {
        Self {
            name,
            start,
            given: Mutex::default(),
            done: Mutex::default(),
            failures: Mutex::default(),
            dropped: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            permits: Semaphore::new(permits),
        }
    }

    /// What it handled.
    pub fn done(&self) -> Vec<Event> {
        self.done.lock().clone()
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.given.lock().len()
    }
}

/// Counts a call that is dropped before its end.
struct Unfinished<'a>(Option<&'a AtomicU64>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(dropped) = self.0 {
            dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Consumer for Recorder {
    fn name(&self) -> &str {
        self.name
    }
    fn start(&self) -> Start {
        self.start
    }
    fn batch(&self) -> u32 {
        7
    }
    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        let events: Vec<Event> = batch.iter().map(|(_, e)| e.clone()).collect();
        self.given.lock().push(events.clone());
        let mut unfinished = Unfinished(Some(&self.dropped));
        self.permits.acquire().await?.forget();
        unfinished.0 = None;
        let failure = self.failures.lock().pop_front();
        match failure {
            Some(Failure::Error) => Err("as planned".into()),
            Some(Failure::Panic) => panic!("as planned"),
            None => {
                self.done.lock().extend(events);
                Ok(())
            }
        }
    }
    async fn missed(&self) -> Result<(), BoxError> {
        self.missed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// What a cache was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// To drop a key everywhere.
    Shared(CacheKey),
    /// To drop a key in this process.
    Local(CacheKey),
    /// To drop everything everywhere.
    SharedClear,
    /// To drop everything in this process.
    LocalClear,
}

/// A shared cache that holds nothing and keeps what it is told.
#[derive(Debug, Default)]
pub struct Instructed(Mutex<Vec<Word>>);

impl Instructed {
    /// Whether it was told this.
    pub fn was(&self, word: Word) -> bool {
        self.0.lock().contains(&word)
    }
}

#[async_trait]
impl Cache for Instructed {
    fn name(&self) -> &'static str {
        "instructed"
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn local(&self, _: &CacheKey) -> Option<CacheValue> {
        None
    }
    async fn get(&self, _: &CacheKey, _: &'static Codec) -> Option<CacheValue> {
        None
    }
    async fn begin_fill(&self, _: &CacheKey) -> FillToken {
        FillToken::default()
    }
    async fn fill(&self, _: &CacheKey, _: CacheValue, _: &'static Codec, _: Duration, _: FillToken) -> bool {
        false
    }
    async fn invalidate(&self, keys: &[CacheKey]) -> Result<()> {
        self.0.lock().extend(keys.iter().copied().map(Word::Shared));
        Ok(())
    }
    async fn invalidate_local(&self, keys: &[CacheKey]) {
        self.0.lock().extend(keys.iter().copied().map(Word::Local));
    }
    async fn clear(&self) -> Result<()> {
        self.0.lock().push(Word::SharedClear);
        Ok(())
    }
    async fn clear_local(&self) {
        self.0.lock().push(Word::LocalClear);
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    fn stats(&self) -> CacheStats {
        CacheStats::default()
    }
}

/// An index that all processes share, as a search server is: its place in the log is not its own.
#[derive(Debug)]
pub struct SharedIndex {
    inner: Arc<dyn SearchProvider>,
    /// How often somebody wanted to write through it.
    pub asked: AtomicU64,
}

impl SharedIndex {
    /// Over one that serves.
    pub fn over(inner: Arc<dyn SearchProvider>) -> Arc<Self> {
        Arc::new(Self { inner, asked: AtomicU64::new(0) })
    }
}

#[async_trait]
impl SearchProvider for SharedIndex {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn capabilities(&self) -> SearchCapabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.own_checkpoint = false;
        capabilities
    }
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        self.inner.search(query).await
    }
    async fn acquire_writer(&self) -> Result<bool> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.acquire_writer().await
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.inner.checkpoint().await
    }
    async fn apply(&self, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> Result<u64> {
        self.inner.apply(ops, checkpoint).await
    }
    async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>> {
        self.inner.begin_rebuild().await
    }
    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        self.inner.revisions(after, limit).await
    }
    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}
