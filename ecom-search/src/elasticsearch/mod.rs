//! Elasticsearch and OpenSearch as [`SearchProvider`]. [`index`] says which indices it makes, [`mapping`] what a
//! document contains, and [`query`] how a search is translated.

mod answer;
mod client;
mod config;
mod error;
mod index;
mod mapping;
mod query;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::elasticsearch::http::Method;
use async_trait::async_trait;
use ecom_core::Result;
use ecom_core::id::ProductId;
use ecom_core::paging::Total;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{
    Applied, BuildProgress, BuildStart, Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchDocument, SearchHit,
    SearchProvider, SearchResults,
};
use ecom_core::search::{Facet, Matching, SearchRequest};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use self::answer::Found;
use self::client::{Call, Client};
pub use self::config::{Authentication, ElasticsearchOptions};
use self::error::is_missing_index;
use self::index::{Begun, Indices, Item};
use self::query::Calls;
use crate::ranking::BELOW_MATCHES;
use crate::remote::Failure;

/// An index on an Elasticsearch or OpenSearch server as [`SearchProvider`]. It is cheap to clone.
///
/// Every call has a time limit. Reads are repeated if the server refuses them for the moment. After several failures in
/// a row, calls fail at once for a while, so that a server that is down costs a request no time.
#[derive(Clone)]
pub struct ElasticsearchSearch {
    indices: Arc<Indices>,
}

impl ElasticsearchSearch {
    /// Makes the provider. It connects to the server with the first call.
    ///
    /// # Errors
    /// `Validation` for settings out of bounds, and for a file of certificates that cannot be read.
    pub fn open(options: ElasticsearchOptions) -> Result<Self> {
        options.check()?;
        let client = Client::new(&options)?;
        Ok(Self { indices: Arc::new(Indices { client, options }) })
    }

    /// Searches the generation in use for a shopper, which waits for its turn. Without a generation, nothing is found.
    async fn ask(&self, body: Value) -> Result<Found, Failure> {
        let path = format!("{}/_search", self.indices.alias());
        let call = Self::search_call(&path, &body, self.indices.options.search_timeout);
        Self::found(self.indices.client.search(call).await)
    }

    /// Searches the generation in use for the shop itself, which neither waits for shoppers nor delays them.
    async fn look(&self, body: Value, limit: Duration) -> Result<Found, Failure> {
        let path = format!("{}/_search", self.indices.alias());
        Self::found(self.indices.client.call(Self::search_call(&path, &body, limit)).await)
    }

    fn search_call<'a>(path: &'a str, body: &Value, limit: Duration) -> Call<'a> {
        Call {
            method: Method::Post,
            path,
            parameters: &[("allow_partial_search_results", "false")],
            body: Some(body.to_string().into()),
            limit,
            is_repeatable: true,
        }
    }

    fn found(answer: Result<Value, Failure>) -> Result<Found, Failure> {
        match answer {
            Ok(answer) => Found::of(answer),
            Err(failure) if is_missing_index(&failure) => Ok(Found::default()),
            Err(failure) => Err(failure),
        }
    }

    async fn find(&self, request: &SearchRequest) -> Result<SearchResults, Failure> {
        let (query, calls) = (request.query(), Calls::new(request));
        let found = self.ask(calls.page()).await?;
        let unspelled = found.unspelled();
        let spellings =
            if unspelled.is_empty() { Found::default() } else { self.ask(calls.spellings(&unspelled)).await? };
        let counts = |facet: &Facet| (*facet, found.facet(*facet, &query.price_bounds, &unspelled, &spellings));
        let facets = calls.facets.iter().map(counts).collect();
        let total = found.total();
        let mut results =
            SearchResults { hits: found.hits()?, total: Total { count: total, exact: true }, partial: 0, facets };
        let fewer = request.text().fewer_words();
        let Some(fewer) = fewer.filter(|_| request.matching == Matching::AllThenMost && total < query.limit.into())
        else {
            return Ok(results);
        };
        // Fewer than a page match, so these are all of them.
        let matches = if query.offset == 0 || total == 0 {
            found.ids()?
        } else {
            self.ask(calls.all_matches(total)).await?.ids()?
        };
        let left = query.limit - u32::try_from(results.hits.len()).unwrap_or(query.limit);
        let more = self.ask(calls.most(fewer, &matches, query.offset.saturating_sub(total), left)).await?;
        results.partial = more.total();
        // Scores fall from the matches to the rest.
        let below = |hit: SearchHit| SearchHit { score: hit.score / BELOW_MATCHES, ..hit };
        results.hits.extend(more.hits()?.into_iter().map(below));
        Ok(results)
    }
}

impl fmt::Debug for ElasticsearchSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchSearch").field("options", &self.indices.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl SearchProvider for ElasticsearchSearch {
    fn name(&self) -> &'static str {
        if self.indices.options.is_opensearch { "opensearch" } else { "elasticsearch" }
    }

    fn identity(&self) -> String {
        format!("{} {}", self.indices.options.server, self.indices.alias())
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
        self.find(request).await.map_err(Failure::reading)
    }

    /// Returns true: which process writes is decided by a lease in the database.
    async fn acquire_writer(&self) -> Result<bool> {
        Ok(true)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let read = async || match self.indices.current().await? {
            Some(generation) => Ok(self.indices.checkpoint(&generation).await?.checkpoint),
            None => Ok(None),
        };
        let mut found = read().await;
        // Another process may replace and remove the generation between the two calls.
        for _ in 0..3 {
            if !found.as_ref().is_err_and(is_missing_index) {
                break;
            }
            found = read().await;
        }
        found.map_err(Failure::reading)
    }

    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        match self.indices.apply(ops, before, checkpoint).await {
            Ok(applied) => Ok(Some(applied)),
            Err(Failure::Overtaken) => Ok(None),
            Err(failure) => Err(failure.writing()),
        }
    }

    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        let begun = self.indices.begin_build(start, since).await.map_err(Failure::writing)?;
        let start = begun.continued.map_or(start, |progress| progress.start);
        let indices = self.indices.clone();
        Ok(Box::new(Build { indices, begun, start, written: None, has_failed: false, sending: None, refused: 0 }))
    }

    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        let read = async {
            if after.is_none()
                && let Some(generation) = self.indices.current().await?
            {
                // A call that failed half-way may have left documents that are not searchable yet.
                self.indices.refresh(&generation).await?;
            }
            let limit_of_call = self.indices.options.write_timeout;
            let found = self.look(Indices::revisions(after, limit), limit_of_call).await?;
            found.numbers(mapping::field::REVISION)
        };
        read.await.map_err(Failure::reading)
    }

    async fn ping(&self) -> Result<()> {
        let body = json!({"size": 0, "track_total_hits": false, "terminate_after": 1});
        let limit = self.indices.options.search_timeout;
        self.look(body, limit).await.map(drop).map_err(Failure::reading)
    }

    async fn close(&self) {
        self.indices.client.close();
    }
}

/// [`IndexBuild`] of an [`ElasticsearchSearch`].
struct Build {
    indices: Arc<Indices>,
    begun: Begun,
    start: BuildStart,
    /// The server has written all products up to this one. The next call stores it.
    written: Option<ProductId>,
    /// Whether a call has failed half-way. A batch that was only partly written must never be published.
    has_failed: bool,
    /// The batch that is on its way, so that the next one is read and prepared meanwhile, and the last product up to
    /// which the server will have written all.
    sending: Option<(JoinHandle<Result<Applied, Failure>>, ProductId)>,
    /// The documents that the server has refused for good.
    refused: u64,
}

impl Build {
    fn check(&self) -> Result<(), Failure> {
        if self.has_failed { Err(Failure::BuildIsGone) } else { Ok(()) }
    }

    /// Waits for the batch that is on its way.
    async fn sent(&mut self) -> Result<(), Failure> {
        let Some((sending, after)) = &mut self.sending else { return Ok(()) };
        let (sent, after) = (sending.await.unwrap_or(Err(Failure::BuildIsGone)), *after);
        self.sending = None;
        self.refused += sent?.refused;
        self.written = Some(after);
        Ok(())
    }

    async fn send(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<(), Failure> {
        self.check()?;
        // Set before the first call, in case this future is dropped.
        self.has_failed = true;
        let mut items = Item::of_each(documents, Item::upsert).await?;
        self.sent().await?;
        if let Some(after) = self.written.take() {
            items.push(Item::progress(BuildProgress { start: self.start, after }, &self.indices.options));
        }
        let (indices, generation) = (self.indices.clone(), self.begun.generation.clone());
        let sending = tokio::spawn(async move { indices.write(&generation, items).await });
        self.sending = Some((sending, after));
        self.has_failed = false;
        Ok(())
    }

    async fn finish(&mut self, checkpoint: Checkpoint) -> Result<u64, Failure> {
        self.check()?;
        self.sent().await?;
        let Begun { generation, stored, .. } = &self.begun;
        self.indices.refresh(generation).await?;
        self.indices.set_checkpoint(generation, stored, checkpoint).await?;
        self.indices.switch(generation).await?;
        Ok(self.refused)
    }
}

#[async_trait]
impl IndexBuild for Build {
    fn continued(&self) -> Option<BuildProgress> {
        self.begun.continued
    }

    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        self.send(documents, after).await.map_err(Failure::writing)
    }

    async fn publish(mut self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        self.finish(checkpoint).await.map_err(Failure::writing)
    }
}
