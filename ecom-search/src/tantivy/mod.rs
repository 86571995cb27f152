//! The embedded search engine: [`SearchProvider`] on Tantivy.
//!
//! # On disk
//! ```text
//! <directory>/writer.lock   locked by the one process that writes; the system frees it when that process ends
//! <directory>/CURRENT       names the generation in use; replaced by rename
//! <directory>/gen-<n>/      a generation: a Tantivy index
//! ```
//! Documents and checkpoint are one commit of one generation, so they agree whenever a process is killed. A rebuild
//! fills the next generation and replaces `CURRENT`. Readers, including those of other processes, check `CURRENT` and
//! the generation's `meta.json` at most every 200 ms and follow them. An index that cannot be read, or that was written
//! in another format, is replaced by an empty generation without checkpoint, which the caller rebuilds.

mod config;
mod error;
mod generation;
mod plan;
mod query;
mod schema;
mod view;
mod word;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::id::ProductId;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{
    Applied, BuildStart, Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchDocument, SearchProvider,
    SearchResults,
};
use ecom_core::search::SearchRequest;
use ecom_core::{Error, Result, trace};
use parking_lot::{Mutex, RwLock};
use tantivy::{Executor, IndexWriter, TantivyDocument, Term};
use tokio::sync::Semaphore;

pub use self::config::{Location, TantivyOptions};
use self::error::{Refusal, failed, is_unusable, unavailable};
use self::generation::{Generation, Layout, Stamp};
use self::query::Search;
use self::schema::Fields;

/// The time by which a reader may lag behind the writer.
const FRESHNESS: Duration = Duration::from_millis(200);

/// A Tantivy index as [`SearchProvider`]. It is cheap to clone. When the last clone is dropped, the right to write is
/// released.
#[derive(Clone)]
pub struct TantivySearch {
    inner: Arc<Inner>,
}

struct Inner {
    writer_memory: usize,
    /// `None` if the index is in memory.
    layout: Option<Layout>,
    fields: Fields,
    current: RwLock<Arc<Generation>>,
    /// Held while `current` is replaced, and by the reader that checks the directory.
    seen: Mutex<Seen>,
    writing: Mutex<Writing>,
    /// The generations that are being filled, which need the right to write.
    fillings: AtomicUsize,
    searches: Arc<Semaphore>,
    /// The number of searches at a time, and of threads of `parallel`.
    concurrent_searches: usize,
    /// Reads the segments of an index at the same time. A small index never starts its threads.
    parallel: OnceLock<Executor>,
}

/// The minimum number of entries of lists and columns of a search whose segments are read at the same time. Fewer are
/// read faster than they can be handed to other threads.
const WORTH_SHARING: u64 = 100_000;

/// The maximum number of entries of a search that runs on the calling thread, which takes less than a millisecond.
const WORTH_A_THREAD: u64 = 100_000;

/// The state of the directory when it was last checked.
struct Seen {
    at: Option<Instant>,
    current: Option<Stamp>,
    meta: Option<Stamp>,
    /// Whether this process is the writer, so that no other process replaces the generation.
    own: bool,
}

impl Seen {
    /// Returns whether the directory need not be checked yet.
    fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < FRESHNESS)
    }
}

#[derive(Default)]
struct Writing {
    writer: Option<(IndexWriter, Arc<Generation>)>,
    lock: Option<File>,
}

impl Drop for Writing {
    /// Releases the lock once nothing in this process can write any more.
    fn drop(&mut self) {
        if let Some((writer, _)) = self.writer.take() {
            retire(writer);
        }
    }
}

/// Ends a writer. If a merge outlived it, the merge could replace `meta.json` over the commit of a successor.
fn retire(writer: IndexWriter) {
    if let Err(error) = writer.wait_merging_threads() {
        tracing::warn!(%error, "the writer of the search index ended with an error");
    }
}

impl TantivySearch {
    /// Opens the index, and creates its directory if it does not exist. Another process may have the index open too.
    ///
    /// # Errors
    /// `Validation` for settings out of bounds, and on the field `search` if the directory cannot be created, written
    /// to or read. `Unavailable` for other errors of the directory.
    pub async fn open(options: TantivyOptions) -> Result<Self> {
        options.check()?;
        let inner = blocking(move || Inner::open(options)).await?;
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.inner.clone();
        if inner.searches.is_closed() {
            return Err(unavailable(Refusal::Closed));
        }
        blocking(move || work(&inner)).await
    }
}

impl fmt::Debug for TantivySearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TantivySearch").field("memory", &self.inner.layout.is_none()).finish_non_exhaustive()
    }
}

/// Runs work on an index on a blocking thread. Nothing reads or writes an index on the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let work = tokio::task::spawn_blocking(trace::carry_blocking(work));
    work.await.unwrap_or_else(|e| Err(Error::internal("working on the search index", e)))
}

#[async_trait]
impl SearchProvider for TantivySearch {
    fn name(&self) -> &'static str {
        "tantivy"
    }

    fn identity(&self) -> String {
        self.name().to_owned()
    }

    fn capabilities(&self) -> SearchCapabilities {
        let mut c = SearchCapabilities::default();
        c.full_text = true;
        c.facets = true;
        c.disjunctive_facets = true;
        c.attribute_filters = true;
        c.merchandising = true;
        c.own_checkpoint = true;
        c
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        if let Some(found) = self.inner.at_once(request) {
            return found;
        }
        let turn = self.inner.searches.clone().acquire_owned().await.map_err(|_| unavailable(Refusal::Closed))?;
        let request = request.clone();
        self.run(move |inner| {
            // Held until the work ends, so that no other search starts in its place after the caller is cancelled.
            let _turn = turn;
            inner.refresh(false)?;
            let view = inner.current().view(&inner.fields).map_err(failed("reading the search index"))?;
            let search = Search::new(view, &inner.fields, &request)?;
            search.run(inner.executor(search.entries()))
        })
        .await
    }

    async fn acquire_writer(&self) -> Result<bool> {
        self.run(|inner| inner.ensure_writer(&mut inner.writing.lock())).await
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.run(|inner| inner.checkpoint()).await
    }

    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        self.run(move |inner| inner.apply(ops, before, checkpoint)).await
    }

    async fn begin_rebuild(&self, _: BuildStart, _: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        let build = self.run(Inner::begin_rebuild).await?;
        Ok(Box::new(build))
    }

    async fn release_writer(&self) -> Result<()> {
        self.run(|inner| {
            let mut writing = inner.writing.lock();
            if inner.fillings.load(Ordering::SeqCst) > 0 {
                return Ok(());
            }
            // From now on, another process may write.
            inner.seen.lock().own = false;
            *writing = Writing::default();
            Ok(())
        })
        .await
    }

    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        self.run(move |inner| {
            inner.refresh(true)?;
            inner.current().revisions(&inner.fields, after, limit as usize)
        })
        .await
    }

    async fn ping(&self) -> Result<()> {
        self.run(|inner| inner.checkpoint().map(drop)).await
    }

    async fn close(&self) {
        self.inner.searches.close();
        let inner = self.inner.clone();
        // The writer ends before the lock is freed for another process.
        let ended = tokio::task::spawn_blocking(move || drop(std::mem::take(&mut *inner.writing.lock())));
        if let Err(error) = ended.await {
            tracing::warn!(%error, "closing the search index failed");
        }
    }
}

impl Inner {
    fn open(options: TantivyOptions) -> Result<Self> {
        let (_, fields) = Fields::new();
        let layout = match options.location {
            Location::Directory(directory) => Some(Layout::open(directory)?),
            Location::Memory => None,
        };
        let inner = Self {
            writer_memory: options.writer_memory,
            layout,
            fields,
            current: RwLock::new(Arc::new(Generation::in_memory()?)),
            seen: Mutex::new(Seen { at: None, current: None, meta: None, own: false }),
            writing: Mutex::new(Writing::default()),
            fillings: AtomicUsize::new(0),
            searches: Arc::new(Semaphore::new(options.concurrent_searches)),
            concurrent_searches: options.concurrent_searches,
            parallel: OnceLock::new(),
        };
        inner.refresh(true)?;
        Ok(inner)
    }

    fn current(&self) -> Arc<Generation> {
        self.current.read().clone()
    }

    /// Returns the executor of a search that reads so many entries: several threads if no other search uses them, so
    /// that a single search ends sooner, and one thread otherwise, because handing over work would only slow down
    /// concurrent searches.
    fn executor(&self, entries: u64) -> &Executor {
        let alone = self.searches.available_permits() > 0;
        if !alone || entries < WORTH_SHARING {
            return &Executor::SingleThread;
        }
        self.parallel.get_or_init(|| {
            Executor::multi_thread(self.concurrent_searches, "ecom-search-").unwrap_or_else(|error| {
                tracing::warn!(%error, "the threads of searches were not started; each search uses one thread");
                Executor::SingleThread
            })
        })
    }

    /// Runs a search on the calling thread if that takes less time than to wake another one: if its words have been
    /// looked up before, so that it only reads lists that are in memory, and these are short.
    fn at_once(&self, request: &SearchRequest) -> Option<Result<SearchResults>> {
        let _turn = self.searches.try_acquire().ok()?;
        let is_fresh = self.layout.is_none() || self.seen.try_lock()?.is_fresh();
        let view = self.current().opened().filter(|_| is_fresh)?;
        let search = Search::known(view, &self.fields, request)?;
        if search.entries() > WORTH_A_THREAD {
            return None;
        }
        // As on another thread, a panic is an error.
        let found = catch_unwind(AssertUnwindSafe(|| search.run(&Executor::SingleThread)));
        Some(found.unwrap_or_else(|_| Err(Error::internal("searching", Refusal::Panicked))))
    }

    /// Returns the checkpoint of the generation that searches read. Its documents are searchable when this function
    /// returns, whichever process has committed them.
    fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.refresh(true)?;
        // The generation may be replaced and removed meanwhile, again and again by a writer that keeps rebuilding.
        for _ in 0..5 {
            let current = self.current();
            let Ok(found) = current.checkpoint() else {
                self.refresh(true)?;
                continue;
            };
            // The commit may be later than the documents that the reader has loaded.
            if self.layout.is_none() {
                current.reload().map_err(failed("reading the search index"))?;
            }
            self.refresh(true)?;
            if Arc::ptr_eq(&current, &self.current()) {
                return Ok(found);
            }
        }
        self.current().checkpoint()
    }

    /// Loads the changes that other processes, and merges of this process, have made to the directory.
    fn refresh(&self, now: bool) -> Result<()> {
        let Some(layout) = &self.layout else { return Ok(()) };
        let mut seen = if now {
            self.seen.lock()
        } else {
            // Another reader is checking already, so the current state is fresh enough.
            let Some(seen) = self.seen.try_lock() else { return Ok(()) };
            if seen.is_fresh() {
                return Ok(());
            }
            seen
        };
        seen.at = Some(Instant::now());
        if !seen.own {
            self.follow(layout, &mut seen)?;
        }
        let current = self.current();
        let meta = current.meta_stamp();
        if meta.is_some() && meta != seen.meta {
            // The generation may just have been replaced and removed; the next check finds its successor.
            match current.reload() {
                Ok(()) => seen.meta = meta,
                Err(e) if !seen.own && is_unusable(&e) => seen.current = None,
                Err(e) => return Err(failed("reading the search index")(e)),
            }
        }
        Ok(())
    }

    /// Switches to the generation that `CURRENT` names.
    fn follow(&self, layout: &Layout, seen: &mut Seen) -> Result<()> {
        // The writer may replace the generation again meanwhile.
        for _ in 0..5 {
            let stamp = layout.current_stamp();
            if stamp.is_none() || stamp == seen.current {
                return Ok(());
            }
            match layout.open_current(false)? {
                Some(generation) => {
                    seen.meta = generation.meta_stamp();
                    *self.current.write() = Arc::new(generation);
                    seen.current = stamp;
                    return Ok(());
                }
                None if layout.current_stamp() == stamp => {
                    tracing::warn!(
                        "the search index cannot be read; searches use the previous generation until it is rebuilt"
                    );
                    seen.current = stamp;
                    return Ok(());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn install(&self, generation: &Arc<Generation>, seen: &mut Seen) {
        seen.own = true;
        seen.current = self.layout.as_ref().and_then(Layout::current_stamp);
        seen.meta = None;
        *self.current.write() = generation.clone();
    }

    /// Acquires the right to write and opens the generation to write to, unless this process already has.
    fn ensure_writer(&self, writing: &mut Writing) -> Result<bool> {
        if writing.writer.is_some() {
            return Ok(true);
        }
        let Some(layout) = &self.layout else {
            let current = self.current();
            writing.writer = Some((current.writer(self.writer_memory)?, current));
            return Ok(true);
        };
        if writing.lock.is_some() {
            writing.writer = Some(self.open_writer(layout)?);
            return Ok(true);
        }
        let lock = layout.lock_file()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(e)) => return Err(unavailable(e)),
        }
        // If this fails, the lock is released, so that another process can try.
        let writer = self.open_writer(layout)?;
        layout.remove_others(&writer.1);
        writing.lock = Some(lock);
        writing.writer = Some(writer);
        Ok(true)
    }

    fn open_writer(&self, layout: &Layout) -> Result<(IndexWriter, Arc<Generation>)> {
        let mut seen = self.seen.lock();
        let generation = if let Some(generation) = layout.open_current(true)? {
            generation
        } else {
            if layout.current_stamp().is_some() {
                tracing::warn!("the search index cannot be read or has another format; starting an empty one");
            }
            let generation = layout.create()?;
            layout.publish(&generation)?;
            generation
        };
        let generation = Arc::new(generation);
        let writer = generation.writer(self.writer_memory)?;
        self.install(&generation, &mut seen);
        Ok((writer, generation))
    }

    fn apply(&self, ops: Vec<IndexOp>, before: Option<Checkpoint>, checkpoint: Checkpoint) -> Result<Option<Applied>> {
        let mut writing = self.writing.lock();
        if !self.ensure_writer(&mut writing)? {
            return Err(unavailable(Refusal::NotTheWriter));
        }
        // The writer is taken out, so that the next call starts from the last commit after any failure, even a panic.
        let Some((mut writer, generation)) = writing.writer.take() else {
            return Err(unavailable(Refusal::NotTheWriter));
        };
        match self.apply_to(&mut writer, &generation, ops, before, checkpoint) {
            Ok(applied) => {
                writing.writer = Some((writer, generation));
                Ok(applied)
            }
            Err(e) => {
                retire(writer);
                Err(e)
            }
        }
    }

    fn apply_to(
        &self,
        writer: &mut IndexWriter,
        generation: &Generation,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        let stored = generation.checkpoint()?;
        if stored != before {
            return Ok(None);
        }
        let lookup = generation.revision_lookup().map_err(failed("reading revisions"))?;
        let mut known: HashMap<ProductId, Option<i64>> = HashMap::new();
        let mut last: BTreeMap<ProductId, IndexOp> = BTreeMap::new();
        let mut applied = Applied::default();
        for op in ops {
            let revision = match known.get(&op.id()) {
                Some(revision) => *revision,
                None => lookup.find(&self.fields, op.id()).map_err(failed("reading revisions"))?,
            };
            if revision.is_some_and(|r| op.revision() <= r) {
                known.insert(op.id(), revision);
                continue;
            }
            known.insert(op.id(), Some(op.revision()));
            last.insert(op.id(), op);
            applied.written += 1;
        }
        if applied.written == 0 && stored == Some(checkpoint) {
            return Ok(Some(applied));
        }
        for (id, op) in last {
            writer.delete_term(Term::from_field_bytes(self.fields.id, id.0.as_bytes()));
            let document = match op {
                IndexOp::Upsert(d) => self.fields.document(&d),
                IndexOp::Delete { id, revision } => self.fields.tombstone(id, revision),
            };
            writer.add_document(document).map_err(failed("writing to the search index"))?;
        }
        commit(writer, generation, checkpoint)?;
        Ok(Some(applied))
    }

    fn begin_rebuild(self: &Arc<Self>) -> Result<TantivyBuild> {
        let mut writing = self.writing.lock();
        if !self.ensure_writer(&mut writing)? {
            return Err(unavailable(Refusal::NotTheWriter));
        }
        let generation = match &self.layout {
            Some(layout) => layout.create()?,
            None => Generation::in_memory()?,
        };
        // From here on, a failure removes the new generation.
        let mut filling =
            Filling { writer: None, generation: Arc::new(generation), inner: self.clone(), published: false };
        self.fillings.fetch_add(1, Ordering::SeqCst);
        filling.writer = Some(filling.generation.writer(self.writer_memory)?);
        Ok(TantivyBuild { filling: Arc::new(Mutex::new(Some(filling))) })
    }
}

/// Commits documents and checkpoint together. They are durable and searchable when this function returns.
fn commit(writer: &mut IndexWriter, generation: &Generation, checkpoint: Checkpoint) -> Result<()> {
    let payload =
        serde_json::to_string(&checkpoint).map_err(|e| Error::internal("writing the checkpoint of the index", e))?;
    let mut prepared = writer.prepare_commit().map_err(failed("writing to the search index"))?;
    prepared.set_payload(&payload);
    prepared.commit().map_err(failed("writing to the search index"))?;
    // The commit has happened. Even if a later step fails, it may become visible.
    let unknown = |source| Error::Unavailable {
        dependency: ecom_core::Dependency::Search,
        outcome_unknown: true,
        source: Some(source),
    };
    generation.sync().map_err(|e| unknown(e.into()))?;
    generation.reload().map_err(|e| unknown(e.into()))
}

/// A generation that is being filled. If it is dropped before it is published, it is removed.
struct Filling {
    writer: Option<IndexWriter>,
    generation: Arc<Generation>,
    inner: Arc<Inner>,
    published: bool,
}

impl Filling {
    fn add(&mut self, documents: &[SearchDocument]) -> Result<()> {
        let Some(writer) = &self.writer else { return Err(unavailable(Refusal::BuildIsGone)) };
        for document in documents {
            let document: TantivyDocument = self.inner.fields.document(document);
            writer.add_document(document).map_err(failed("writing to the new search index"))?;
        }
        Ok(())
    }

    fn publish(mut self, checkpoint: Checkpoint) -> Result<()> {
        let Some(mut writer) = self.writer.take() else { return Err(unavailable(Refusal::BuildIsGone)) };
        commit(&mut writer, &self.generation, checkpoint)?;
        let inner = self.inner.clone();
        let mut writing = inner.writing.lock();
        let mut seen = inner.seen.lock();
        let old = inner.current();
        if let Some(layout) = &inner.layout {
            layout.publish(&self.generation)?;
        }
        self.published = true;
        inner.install(&self.generation, &mut seen);
        drop(seen);
        // The old writer ends before its directory is removed.
        writing.writer = None;
        writing.writer = Some((writer, self.generation.clone()));
        if let Some(layout) = &inner.layout {
            layout.remove(&old);
        }
        Ok(())
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.writer = None;
        self.inner.fillings.fetch_sub(1, Ordering::SeqCst);
        if !self.published
            && let Some(layout) = &self.inner.layout
        {
            layout.remove(&self.generation);
        }
    }
}

/// [`IndexBuild`] of a [`TantivySearch`].
struct TantivyBuild {
    /// `None` after a call has failed half-way.
    filling: Arc<Mutex<Option<Filling>>>,
}

#[async_trait]
impl IndexBuild for TantivyBuild {
    async fn add(&mut self, documents: Vec<SearchDocument>, _: ProductId) -> Result<()> {
        let filling = self.filling.clone();
        blocking(move || {
            let mut slot = filling.lock();
            // The build is taken out, because a batch that was only partly written must never be published.
            let mut filling = slot.take().ok_or_else(|| unavailable(Refusal::BuildIsGone))?;
            filling.add(&documents)?;
            *slot = Some(filling);
            Ok(())
        })
        .await
    }

    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        let filling = self.filling.clone();
        blocking(move || {
            let filling = filling.lock().take().ok_or_else(|| unavailable(Refusal::BuildIsGone))?;
            filling.publish(checkpoint)?;
            Ok(0)
        })
        .await
    }
}
