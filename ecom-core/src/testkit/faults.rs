//! Adapters and consumers that fail as a test plans.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::domain::platform::outbox::{Event, OutboxPosition};
use crate::domain::search::query::SearchRequest;
use crate::error::{BoxError, Dependency, Error, Result};
use crate::id::ProductId;
use crate::paging::Total;
use crate::port::cache::{Cache, CacheKey, ForwardCache, NoCache};
use crate::port::catalog::product::{ForwardProducts, ProductRepository};
use crate::port::catalog::sku::{ForwardSkus, SkuRepository};
use crate::port::search::{
    Applied, BuildProgress, BuildStart, Checkpoint, ForwardSearch, IndexBuild, IndexOp, SearchCapabilities,
    SearchDocument, SearchHit, SearchProvider, SearchResults,
};
use crate::port::storage::{ForwardRepositories, ForwardStorage, ForwardUnitOfWork, Repositories, Storage, UnitOfWork};
use crate::service::background::consumer::{Consumer, StartPosition};
use crate::text::{Slug, fold};

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written, because another transaction conflicts.
    Contention,
    /// The transaction is written, and the response is lost.
    AnswerLost,
    /// The transaction is not written, and the response is lost.
    CommitLost,
}

#[derive(Debug, Default)]
struct Plan {
    faults: Mutex<VecDeque<Fault>>,
    commits: AtomicU64,
    blind_to_slugs: AtomicU64,
    blind_to_codes: AtomicU64,
}

/// A storage whose next commits fail as planned, and which can overlook names that are taken.
#[derive(Debug)]
pub struct Unsteady {
    inner: Arc<dyn Storage>,
    plan: Arc<Plan>,
}

impl Unsteady {
    /// Returns a storage over one that does not fail.
    pub fn over(inner: Arc<dyn Storage>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Arc::default() })
    }

    /// Sets the outcomes of the next commits. Later commits succeed.
    pub fn plan(&self, faults: &[Fault]) {
        *self.plan.faults.lock() = faults.iter().copied().collect();
        self.plan.commits.store(0, Ordering::SeqCst);
    }

    /// Returns the number of commits since the last plan.
    pub fn commits(&self) -> u64 {
        self.plan.commits.load(Ordering::SeqCst)
    }

    /// Sets whether the next lookups of taken slugs and of taken codes find none.
    pub fn blind(&self, slugs: bool, codes: bool) {
        self.plan.blind_to_slugs.store(u64::from(slugs), Ordering::SeqCst);
        self.plan.blind_to_codes.store(u64::from(codes), Ordering::SeqCst);
    }
}

#[async_trait]
impl ForwardStorage for Unsteady {
    fn inner(&self) -> &dyn Storage {
        &*self.inner
    }
    // All of them are short, so that the faults also meet transactions that share commits.
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>> {
        Ok(Box::new(UnsteadyUnit { inner: self.inner.begin_short().await?, plan: self.plan.clone() }))
    }
}

struct UnsteadyUnit {
    inner: Box<dyn UnitOfWork>,
    plan: Arc<Plan>,
}

impl ForwardRepositories for UnsteadyUnit {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.inner
    }
    fn products(&mut self) -> Box<dyn ProductRepository + '_> {
        Box::new(Blind { inner: self.inner.products(), left: &self.plan.blind_to_slugs })
    }
    fn skus(&mut self) -> Box<dyn SkuRepository + '_> {
        Box::new(Blind { inner: self.inner.skus(), left: &self.plan.blind_to_codes })
    }
}

#[async_trait]
impl ForwardUnitOfWork for UnsteadyUnit {
    fn unit(&mut self) -> &mut dyn UnitOfWork {
        &mut *self.inner
    }
    fn into_inner(self: Box<Self>) -> Box<dyn UnitOfWork> {
        self.inner
    }
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
}

/// A repository that overlooks taken names, as if another transaction took them a moment later.
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
impl ForwardProducts for Blind<'_, dyn ProductRepository + '_> {
    fn inner(&mut self) -> &mut dyn ProductRepository {
        &mut *self.inner
    }
    async fn taken_slugs(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        let taken = self.inner.taken_slugs(bases).await?;
        Ok(self.sees(taken))
    }
}

#[async_trait]
impl ForwardSkus for Blind<'_, dyn SkuRepository + '_> {
    fn inner(&mut self) -> &mut dyn SkuRepository {
        &mut *self.inner
    }
    async fn taken_codes(&mut self, bases: &[Slug]) -> Result<HashSet<String>> {
        let taken = self.inner.taken_codes(bases).await?;
        Ok(self.sees(taken))
    }
}

/// The way in which a handler fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The handler returns an error.
    Error,
    /// The handler panics.
    Panic,
}

/// A consumer that records its events, fails as planned, and can be held back.
#[derive(Debug)]
pub struct Recorder {
    name: &'static str,
    start: StartPosition,
    /// The events of each call, including calls that failed.
    pub given: Mutex<Vec<Vec<Event>>>,
    /// The events that were handled.
    pub done: Mutex<Vec<Event>>,
    /// The failures of the next calls.
    pub failures: Mutex<VecDeque<Failure>>,
    /// The number of calls that were cancelled before they ended.
    pub dropped: AtomicU64,
    /// How often the consumer was notified of missed events.
    pub missed: AtomicU64,
    /// The permits. Each call needs one.
    pub permits: Semaphore,
}

impl Recorder {
    /// Returns a consumer that is not held back.
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, StartPosition::Oldest, Semaphore::MAX_PERMITS / 2))
    }

    /// Returns a consumer whose calls wait for a permit before they end.
    pub fn held(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, StartPosition::Oldest, 0))
    }

    /// Returns a consumer that begins with future events.
    pub fn from_head(name: &'static str) -> Arc<Self> {
        Arc::new(Self::with(name, StartPosition::Head, Semaphore::MAX_PERMITS / 2))
    }

    fn with(name: &'static str, start: StartPosition, permits: usize) -> Self {
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

    /// Returns the events that were handled.
    pub fn done(&self) -> Vec<Event> {
        self.done.lock().clone()
    }

    /// Returns the number of calls.
    pub fn calls(&self) -> usize {
        self.given.lock().len()
    }
}

/// Counts a call that is cancelled before it ends.
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
    fn start(&self) -> StartPosition {
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

/// An invalidation that a cache has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A key, in all processes.
    Shared(CacheKey),
    /// A key, in this process.
    Local(CacheKey),
    /// All keys, in all processes.
    SharedClear,
    /// All keys, in this process.
    LocalClear,
}

/// A shared cache that stores no values and records the invalidations that it receives.
#[derive(Debug, Default)]
pub struct Instructed(Mutex<Vec<Word>>);

impl Instructed {
    /// Returns whether the cache has received an invalidation.
    pub fn was(&self, word: Word) -> bool {
        self.0.lock().contains(&word)
    }
}

#[async_trait]
impl ForwardCache for Instructed {
    fn inner(&self) -> &dyn Cache {
        &NoCache
    }
    // The name must not be `none`, because the background work ignores a cache with that name.
    fn name(&self) -> &'static str {
        "instructed"
    }
    fn is_shared(&self) -> bool {
        true
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
}

/// A search engine that records its requests, and can be held back and fail as a test plans.
#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn SearchProvider>,
    /// The requests, in the order in which they have arrived.
    pub requests: Mutex<Vec<SearchRequest>>,
    /// How often the checkpoint was read.
    pub checkpoints: AtomicU64,
    /// The permits. Each search needs one before it returns what it has found.
    pub permits: Semaphore,
    /// The number of searches and of reads of the checkpoint that have begun.
    pub calls: AtomicU64,
    /// Whether all calls fail.
    pub is_down: AtomicBool,
    /// Whether searches fail.
    pub refuses_searches: AtomicBool,
    /// Whether changes of the index fail.
    pub refuses_changes: AtomicBool,
    /// Whether reads of the checkpoint fail.
    pub refuses_checkpoints: AtomicBool,
    /// Whether searches and reads of the checkpoint do not end.
    pub hangs: AtomicBool,
}

impl Watched {
    /// Returns an engine over a provider. It has no permits.
    pub fn held(inner: Arc<dyn SearchProvider>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            requests: Mutex::default(),
            checkpoints: AtomicU64::new(0),
            permits: Semaphore::new(0),
            calls: AtomicU64::new(0),
            is_down: AtomicBool::new(false),
            refuses_searches: AtomicBool::new(false),
            refuses_changes: AtomicBool::new(false),
            refuses_checkpoints: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
        })
    }

    /// Returns an engine over a provider that is not held back.
    pub fn over(inner: Arc<dyn SearchProvider>) -> Arc<Self> {
        let this = Self::held(inner);
        this.release();
        this
    }

    /// Holds searches back again.
    pub fn hold(&self) {
        self.permits.forget_permits(usize::MAX);
    }

    /// Ends the hold.
    pub fn release(&self) {
        self.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    fn down() -> Error {
        Error::unavailable(Dependency::Search, "as planned")
    }

    fn is_up(&self) -> Result<()> {
        if self.is_down.load(Ordering::SeqCst) { Err(Self::down()) } else { Ok(()) }
    }

    async fn called(&self) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.is_up()
    }
}

#[async_trait]
impl ForwardSearch for Watched {
    fn inner(&self) -> &dyn SearchProvider {
        &*self.inner
    }
    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        self.requests.lock().push(request.clone());
        self.called().await?;
        if self.refuses_searches.load(Ordering::SeqCst) {
            return Err(Self::down());
        }
        let found = self.inner.search(request).await;
        self.permits.acquire().await.map_err(|e| Error::internal("testing", e))?.forget();
        found
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.checkpoints.fetch_add(1, Ordering::SeqCst);
        self.called().await?;
        if self.refuses_checkpoints.load(Ordering::SeqCst) {
            return Err(Self::down());
        }
        self.inner.checkpoint().await
    }
    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        self.is_up()?;
        if self.refuses_changes.load(Ordering::SeqCst) {
            return Err(Self::down());
        }
        self.inner.apply(ops, before, checkpoint).await
    }
    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        self.is_up()?;
        self.inner.begin_rebuild(start, since).await
    }
    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        self.is_up()?;
        self.inner.revisions(after, limit).await
    }
    async fn ping(&self) -> Result<()> {
        self.is_up()?;
        self.inner.ping().await
    }
}

/// An index that all processes share, as that of a search server. It does not store its own checkpoint.
#[derive(Debug)]
pub struct SharedIndex {
    inner: Arc<dyn SearchProvider>,
    /// How often a process has tried to acquire the right to write.
    pub asked: AtomicU64,
}

impl SharedIndex {
    /// Returns a shared index over a provider.
    pub fn over(inner: Arc<dyn SearchProvider>) -> Arc<Self> {
        Arc::new(Self { inner, asked: AtomicU64::new(0) })
    }
}

#[async_trait]
impl ForwardSearch for SharedIndex {
    fn inner(&self) -> &dyn SearchProvider {
        &*self.inner
    }
    fn capabilities(&self) -> SearchCapabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.own_checkpoint = false;
        capabilities
    }
    async fn acquire_writer(&self) -> Result<bool> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.inner.acquire_writer().await
    }
}

/// An index whose rebuilds can be held back and fail as planned, as one process sees it.
#[derive(Debug)]
pub struct HeldIndex {
    inner: Arc<dyn SearchProvider>,
    hold: Arc<Hold>,
}

/// What a [`HeldIndex`] does, and has done.
#[derive(Debug)]
pub struct Hold {
    /// The permits. Each batch of documents of a rebuild needs one.
    pub permits: Semaphore,
    /// The errors of the next rebuilds.
    pub errors: Mutex<VecDeque<Error>>,
    /// Whether the next rebuild panics.
    pub panics: AtomicBool,
    /// Whether the process may write.
    pub writer: AtomicBool,
    /// How often the process has asked for the right to write.
    pub asked: AtomicU64,
    /// The number of rebuilds that have begun.
    pub begun: AtomicU64,
    /// The number of batches of documents that rebuilds have begun to write.
    pub adding: AtomicU64,
    /// The number of rebuilds that have replaced the index.
    pub published: AtomicU64,
    /// The number of rebuilds that were dropped before they ended.
    pub dropped: AtomicU64,
}

impl HeldIndex {
    /// Returns an index over one that is not held back. Its rebuilds have this many permits.
    pub fn over(inner: Arc<dyn SearchProvider>, permits: usize) -> (Arc<dyn SearchProvider>, Arc<Hold>) {
        let hold = Arc::new(Hold {
            permits: Semaphore::new(permits),
            errors: Mutex::default(),
            panics: AtomicBool::new(false),
            writer: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            adding: AtomicU64::new(0),
            published: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        (Arc::new(Self { inner, hold: hold.clone() }), hold)
    }
}

#[async_trait]
impl ForwardSearch for HeldIndex {
    fn inner(&self) -> &dyn SearchProvider {
        &*self.inner
    }
    async fn acquire_writer(&self) -> Result<bool> {
        self.hold.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.hold.writer.load(Ordering::SeqCst) && self.inner.acquire_writer().await?)
    }
    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        self.hold.begun.fetch_add(1, Ordering::SeqCst);
        assert!(!self.hold.panics.swap(false, Ordering::SeqCst), "as planned");
        let planned = self.hold.errors.lock().pop_front();
        if let Some(error) = planned {
            return Err(error);
        }
        let inner = Some(self.inner.begin_rebuild(start, since).await?);
        Ok(Box::new(HeldBuild { inner, hold: self.hold.clone() }))
    }
}

struct HeldBuild {
    /// The rebuild, until it has ended.
    inner: Option<Box<dyn IndexBuild>>,
    hold: Arc<Hold>,
}

impl Drop for HeldBuild {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.hold.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl IndexBuild for HeldBuild {
    fn continued(&self) -> Option<BuildProgress> {
        self.inner.as_ref().and_then(|inner| inner.continued())
    }
    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        self.hold.adding.fetch_add(1, Ordering::SeqCst);
        self.hold.permits.acquire().await.map_err(|e| Error::internal("waiting for a permit", e))?.forget();
        match &mut self.inner {
            Some(inner) => inner.add(documents, after).await,
            None => Ok(()),
        }
    }
    async fn publish(mut self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        let refused = match self.inner.take() {
            Some(inner) => inner.publish(checkpoint).await?,
            None => 0,
        };
        self.hold.published.fetch_add(1, Ordering::SeqCst);
        Ok(refused)
    }
}

#[derive(Debug, Default, Clone)]
struct Listed {
    /// The revision of every product that was ever here, and its title unless it was deleted.
    products: BTreeMap<ProductId, (i64, Option<String>)>,
    checkpoint: Option<Checkpoint>,
}

/// A build of a [`ListIndex`] that is not published.
#[derive(Debug)]
struct Unpublished {
    /// The number of the call that has begun or continued it.
    number: u64,
    start: BuildStart,
    progress: Option<BuildProgress>,
    list: Listed,
}

#[derive(Debug, Default)]
struct Lists {
    current: Listed,
    build: Option<Unpublished>,
    begun: u64,
}

/// A second index for a shop: a list in memory, whose searches find all products whose titles contain the text. It
/// continues builds.
#[derive(Debug, Default, Clone)]
pub struct ListIndex(Arc<Mutex<Lists>>);

#[async_trait]
impl SearchProvider for ListIndex {
    fn name(&self) -> &'static str {
        "list"
    }
    fn identity(&self) -> String {
        self.name().to_owned()
    }

    fn capabilities(&self) -> SearchCapabilities {
        SearchCapabilities { own_checkpoint: true, continues_builds: true, ..SearchCapabilities::default() }
    }
    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        let query = request.query();
        if !query.facets.is_empty() {
            return Err(Error::Unsupported { provider: "list", capability: "facets" });
        }
        let text = fold(&query.text);
        let found: Vec<SearchHit> = {
            let list = &self.0.lock().current;
            let live = list.products.iter().filter_map(|(id, (_, title))| Some((*id, title.as_ref()?)));
            live.filter(|(_, title)| fold(title).contains(&text)).map(|(id, _)| SearchHit { id, score: 1.0 }).collect()
        };
        let total = Total { count: found.len() as u64, exact: true };
        let skipped = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let hits = found.into_iter().skip(skipped).take(query.limit as usize).collect();
        Ok(SearchResults { hits, total, partial: 0, facets: Vec::new() })
    }
    async fn acquire_writer(&self) -> Result<bool> {
        Ok(true)
    }
    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.0.lock().current.checkpoint)
    }
    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        let list = &mut self.0.lock().current;
        if list.checkpoint != before {
            return Ok(None);
        }
        let mut applied = Applied::default();
        for op in ops {
            let (id, revision) = (op.id(), op.revision());
            if list.products.get(&id).is_none_or(|(known, _)| *known < revision) {
                let title = if let IndexOp::Upsert(document) = op { Some(document.title) } else { None };
                list.products.insert(id, (revision, title));
                applied.written += 1;
            }
        }
        list.checkpoint = Some(checkpoint);
        Ok(Some(applied))
    }
    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        let mut all = self.0.lock();
        all.begun += 1;
        let number = all.begun;
        let continues = |left: &Unpublished| left.progress.is_some_and(|p| since.is_some_and(|s| p.fits(&start, s)));
        let left = all.build.take().filter(continues);
        let next = left.unwrap_or_else(|| Unpublished { number, start, progress: None, list: Listed::default() });
        let progress = next.progress;
        all.build = Some(Unpublished { number, ..next });
        Ok(Box::new(ListBuild { into: self.clone(), number, continued: progress }))
    }
    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        let list = &self.0.lock().current;
        let live = list.products.iter().filter(|(id, (_, title))| title.is_some() && after.is_none_or(|a| **id > a));
        Ok(live.map(|(id, (revision, _))| (*id, *revision)).take(limit as usize).collect())
    }
    async fn ping(&self) -> Result<()> {
        Ok(())
    }
    async fn close(&self) {}
}

struct ListBuild {
    into: ListIndex,
    number: u64,
    continued: Option<BuildProgress>,
}

impl ListBuild {
    fn with<T>(&self, change: impl FnOnce(&mut Lists, Unpublished) -> T) -> Result<T> {
        let mut lists = self.into.0.lock();
        match lists.build.take_if(|build| build.number == self.number) {
            Some(build) => Ok(change(&mut lists, build)),
            None => Err(Error::unavailable(Dependency::Search, "the build is gone")),
        }
    }
}

#[async_trait]
impl IndexBuild for ListBuild {
    fn continued(&self) -> Option<BuildProgress> {
        self.continued
    }
    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        self.with(|lists, mut build| {
            build.list.products.extend(documents.into_iter().map(|d| (d.id, (d.revision, Some(d.title)))));
            build.progress = Some(BuildProgress { start: build.start, after });
            lists.build = Some(build);
        })
    }
    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        self.with(|lists, build| lists.current = Listed { checkpoint: Some(checkpoint), ..build.list })?;
        Ok(0)
    }
}
