//! Meilisearch as [`SearchProvider`]. [`index`] says which indexes it makes, [`mapping`] what a document contains,
//! [`query`] how a search is translated, and [`rank`] how matches are sorted by relevance.

mod client;
mod config;
mod error;
mod index;
mod mapping;
mod query;
mod rank;
mod search;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::id::ProductId;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{
    Applied, BuildProgress, BuildStart, Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchDocument,
    SearchProvider, SearchResults,
};
use ecom_core::search::SearchRequest;

use self::client::Client;
pub use self::config::MeilisearchOptions;
use self::error::blames_documents;
use self::index::{Change, Generation, Indexes, Item};
use crate::remote::Failure;

/// The most tasks of a rebuild that the server has not ended yet. It carries several that wait out together.
const TASKS_UNDER_WAY: usize = 8;

/// An index on a Meilisearch server as [`SearchProvider`]. It is cheap to clone.
///
/// Every call has a time limit. Reads are repeated if the server refuses them for the moment. After several failures in
/// a row, calls fail at once for a while, so that a server that is down costs a request no time.
#[derive(Clone)]
pub struct MeilisearchSearch {
    indexes: Arc<Indexes>,
}

impl MeilisearchSearch {
    /// Makes the provider. It connects to the server with the first call.
    ///
    /// # Errors
    /// `Validation` for settings out of bounds, and for a file of certificates that cannot be read.
    pub fn open(options: MeilisearchOptions) -> Result<Self> {
        options.check()?;
        let client = Client::new(&options)?;
        Ok(Self { indexes: Arc::new(Indexes { client, options, seen: AtomicU64::new(0) }) })
    }
}

impl fmt::Debug for MeilisearchSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeilisearchSearch").field("options", &self.indexes.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl SearchProvider for MeilisearchSearch {
    fn name(&self) -> &'static str {
        "meilisearch"
    }

    fn identity(&self) -> String {
        format!("{} {}", self.indexes.options.server, self.indexes.live())
    }

    fn capabilities(&self) -> SearchCapabilities {
        let mut c = SearchCapabilities::default();
        c.full_text = true;
        c.facets = true;
        c.disjunctive_facets = true;
        c.attribute_filters = true;
        c.merchandising = true;
        c.continues_builds = true;
        c
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        self.indexes.find(request).await.map_err(Failure::reading)
    }

    /// Returns true: which process writes is decided by a lease in the database.
    async fn acquire_writer(&self) -> Result<bool> {
        Ok(true)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let mark = self.indexes.mark(&self.indexes.live()).await.map_err(Failure::reading)?;
        Ok(mark.and_then(|mark| mark.checkpoint))
    }

    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        match self.indexes.apply(ops, before, checkpoint).await {
            Ok(applied) => Ok(Some(applied)),
            Err(Failure::Overtaken) => Ok(None),
            Err(failure) => Err(failure.writing()),
        }
    }

    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        let (generation, continued) = self.indexes.begin_build(start, since).await.map_err(Failure::writing)?;
        Ok(Box::new(Build {
            indexes: self.indexes.clone(),
            generation,
            start: continued.map_or(start, |progress| progress.start),
            continued,
            has_failed: false,
            words: HashSet::new(),
            sent: VecDeque::new(),
            refused: 0,
        }))
    }

    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        self.indexes.revisions(after, limit).await.map_err(Failure::reading)
    }

    async fn ping(&self) -> Result<()> {
        self.indexes.ping().await.map_err(Failure::reading)
    }

    async fn close(&self) {
        self.indexes.client.close();
    }
}

/// [`IndexBuild`] of a [`MeilisearchSearch`].
struct Build {
    indexes: Arc<Indexes>,
    generation: Generation,
    start: BuildStart,
    /// How far an earlier process has come.
    continued: Option<BuildProgress>,
    /// Whether a call has failed half-way. A batch that was only partly written must never be published.
    has_failed: bool,
    /// The words of all documents so far.
    words: HashSet<String>,
    /// The tasks that are under way, with their documents in case the server refuses one of them.
    sent: VecDeque<(u64, Vec<Item>)>,
    /// The documents that the server has refused for good.
    refused: u64,
}

impl Build {
    fn generation(&self) -> Result<Generation, Failure> {
        if self.has_failed { Err(Failure::BuildIsGone) } else { Ok(self.generation.clone()) }
    }

    /// Waits until at most this number of tasks is under way.
    async fn wait(&mut self, generation: &Generation, most: usize) -> Result<(), Failure> {
        while self.sent.len() > most {
            let Some((task, items)) = self.sent.pop_front() else { break };
            match self.indexes.client.finished(task, self.indexes.options.write_timeout).await {
                Err(failure) if blames_documents(&failure) => {
                    self.refused += self.indexes.write_at_once(&generation.name, items).await?;
                }
                ended => ended?,
            }
        }
        Ok(())
    }

    async fn send(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<(), Failure> {
        let generation = self.generation()?;
        // Set before the first call, in case this future is dropped.
        self.has_failed = true;
        let changes = Change::of_each(documents, Change::upsert).await?;
        let words: BTreeSet<&String> = changes.iter().flat_map(Change::words).collect();
        let mut items = Vec::with_capacity(changes.len());
        for word in words {
            if self.words.insert(word.clone()) {
                items.push(Item::word(word));
            }
        }
        items.extend(changes.iter().map(Change::item));
        items.push(Item::progress(BuildProgress { start: self.start, after }));
        while !items.is_empty() {
            let rest = items.split_off(self.indexes.fits(&items));
            self.wait(&generation, TASKS_UNDER_WAY - 1).await?;
            match self.indexes.send(&generation.name, &items).await {
                Ok(task) => self.sent.push_back((task, items)),
                Err(failure) if blames_documents(&failure) => {
                    self.refused += self.indexes.write_at_once(&generation.name, items).await?;
                }
                Err(failure) => return Err(failure),
            }
            items = rest;
        }
        self.has_failed = false;
        Ok(())
    }

    async fn finish(&mut self, checkpoint: Checkpoint) -> Result<u64, Failure> {
        let generation = self.generation()?;
        self.wait(&generation, 0).await?;
        self.indexes.set_checkpoint(&generation, checkpoint).await?;
        // If another process has removed the generation or continues it, the server has made an index without settings
        // and mark in its place. If that happens later, the server refuses to put it in use.
        match self.indexes.mark(&generation.name).await {
            Ok(Some(mark)) if mark.generation == generation.number => {}
            Ok(_) | Err(Failure::Foreign(_)) => return Err(Failure::BuildIsGone),
            Err(failure) => return Err(failure),
        }
        self.indexes.switch(&generation).await?;
        Ok(self.refused)
    }
}

#[async_trait]
impl IndexBuild for Build {
    fn continued(&self) -> Option<BuildProgress> {
        self.continued
    }

    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        self.send(documents, after).await.map_err(Failure::writing)
    }

    async fn publish(mut self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        self.finish(checkpoint).await.map_err(Failure::writing)
    }
}
