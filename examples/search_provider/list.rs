//! A search provider without full text: it filters, sorts and pages a list of documents in memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ecom::id::ProductId;
use ecom::paging::Total;
use ecom::platform::OutboxPosition;
use ecom::port::{
    Applied, BuildStart, Checkpoint, IndexBuild, IndexOp, SearchCapabilities, SearchDocument, SearchHit,
    SearchProvider, SearchResults,
};
use ecom::search::{SearchFilter, SearchRequest, SearchSort};
use ecom::text::fold_key;
use ecom::{Dependency, Error, Result, async_trait};

#[derive(Debug, Default, Clone)]
struct List {
    /// The revision of every product that was ever here, and its document unless it was deleted.
    products: BTreeMap<ProductId, (i64, Option<SearchDocument>)>,
    checkpoint: Option<Checkpoint>,
    closed: bool,
}

/// A list of documents.
#[derive(Debug, Default, Clone)]
pub struct ListSearch(Arc<Mutex<List>>);

impl ListSearch {
    /// Returns the list, or `Unavailable` after [`SearchProvider::close`].
    fn list(&self) -> Result<MutexGuard<'_, List>> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.closed { Err(Error::unavailable(Dependency::Search, "the list is closed")) } else { Ok(list) }
    }
}

fn passes(d: &SearchDocument, f: &SearchFilter) -> bool {
    let same = |a: &str, b: &str| fold_key(a) == fold_key(b);
    (f.categories.is_empty() || f.categories.iter().any(|c| d.categories.iter().any(|own| own.id == *c)))
        && (f.brands.is_empty() || d.brand.as_ref().is_some_and(|own| f.brands.iter().any(|b| same(own, b))))
        && f.tags.iter().all(|tag| d.tags.iter().any(|own| same(own, tag)))
        && f.min_price.is_none_or(|min| d.price.is_some_and(|p| p >= min.minor()))
        && f.max_price.is_none_or(|max| d.price.is_some_and(|p| p <= max.minor()))
        && (f.availability.is_empty() || f.availability.contains(&d.availability))
        && f.min_rating.is_none_or(|min| d.rating >= min)
        && f.status.is_none_or(|s| d.status == s)
}

#[async_trait]
impl SearchProvider for ListSearch {
    fn name(&self) -> &'static str {
        "list"
    }

    fn identity(&self) -> String {
        self.name().to_owned()
    }

    /// It filters and sorts, and every process has a list of its own.
    fn capabilities(&self) -> SearchCapabilities {
        let mut capabilities = SearchCapabilities::default();
        capabilities.own_checkpoint = true;
        capabilities
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        let query = request.query();
        let lacks = |capability| Err(Error::Unsupported { provider: "list", capability });
        if request.has_text() {
            return lacks("full_text");
        }
        if !query.facets.is_empty() {
            return lacks("facets");
        }
        if !query.filter.attributes.is_empty() {
            return lacks("attribute_filters");
        }
        if request.has_merchandising() {
            return lacks("merchandising");
        }
        let list = self.list()?;
        let live = list.products.values().filter_map(|(_, document)| document.as_ref());
        let mut found: Vec<&SearchDocument> = live.filter(|d| passes(d, &query.filter)).collect();
        // By id first: the sorts below are stable, so that ties stay by id. Without a price comes last.
        found.sort_by_key(|d| d.id);
        match query.sort {
            SearchSort::PriceAsc => found.sort_by_key(|d| (d.price.is_none(), d.price)),
            SearchSort::PriceDesc => found.sort_by_key(|d| (d.price.is_none(), Reverse(d.price))),
            SearchSort::RatingDesc => found.sort_by_key(|d| Reverse(d.rating)),
            // Without a text the best match is the newest.
            _ => found.sort_by_key(|d| Reverse(d.created_at)),
        }
        let total = Total { count: found.len() as u64, exact: true };
        let skipped = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let page = found.into_iter().skip(skipped).take(query.limit as usize);
        let hits = page.map(|d| SearchHit { id: d.id, score: 1.0 }).collect();
        Ok(SearchResults { hits, total, partial: 0, facets: Vec::new() })
    }

    async fn acquire_writer(&self) -> Result<bool> {
        Ok(true)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.list()?.checkpoint)
    }

    async fn apply(
        &self,
        ops: Vec<IndexOp>,
        before: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        let mut list = self.list()?;
        if list.checkpoint != before {
            return Ok(None);
        }
        let mut applied = Applied::default();
        for op in ops {
            let (id, revision) = (op.id(), op.revision());
            if list.products.get(&id).is_none_or(|(known, _)| *known < revision) {
                let document = if let IndexOp::Upsert(document) = op { Some(*document) } else { None };
                list.products.insert(id, (revision, document));
                applied.written += 1;
            }
        }
        list.checkpoint = Some(checkpoint);
        Ok(Some(applied))
    }

    async fn begin_rebuild(&self, _: BuildStart, _: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        drop(self.list()?);
        Ok(Box::new(Rebuild { into: self.clone(), list: List::default() }))
    }

    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        let list = self.list()?;
        let live = list.products.iter().filter(|(id, (_, d))| d.is_some() && after.is_none_or(|a| **id > a));
        Ok(live.map(|(id, (revision, _))| (*id, *revision)).take(limit as usize).collect())
    }

    async fn ping(&self) -> Result<()> {
        self.list().map(drop)
    }

    async fn close(&self) {
        if let Ok(mut list) = self.list() {
            list.closed = true;
        }
    }
}

struct Rebuild {
    into: ListSearch,
    list: List,
}

#[async_trait]
impl IndexBuild for Rebuild {
    async fn add(&mut self, documents: Vec<SearchDocument>, _: ProductId) -> Result<()> {
        self.list.products.extend(documents.into_iter().map(|d| (d.id, (d.revision, Some(d)))));
        Ok(())
    }

    async fn publish(mut self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        self.list.checkpoint = Some(checkpoint);
        *self.into.list()? = self.list;
        Ok(0)
    }
}
