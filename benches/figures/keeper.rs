//! A search provider that keeps the documents of a rebuild.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ecom::Result;
use ecom::id::ProductId;
use ecom::platform::OutboxPosition;
use ecom::port::{
    Applied, BuildStart, Checkpoint, IndexBuild, IndexOp, NoSearch, SearchCapabilities, SearchDocument, SearchProvider,
    SearchResults,
};
use ecom::search::SearchRequest;

type Documents = Arc<Mutex<Vec<SearchDocument>>>;

#[derive(Debug, Default)]
pub struct Keeper(Documents);

impl Keeper {
    pub fn take(&self) -> Vec<SearchDocument> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

#[async_trait]
impl SearchProvider for Keeper {
    fn name(&self) -> &'static str {
        "keeper"
    }

    fn identity(&self) -> String {
        self.name().to_owned()
    }

    fn capabilities(&self) -> SearchCapabilities {
        SearchCapabilities::default()
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        NoSearch.search(request).await
    }

    async fn acquire_writer(&self) -> Result<bool> {
        Ok(true)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    async fn apply(&self, _: Vec<IndexOp>, _: Option<Checkpoint>, _: Checkpoint) -> Result<Option<Applied>> {
        Ok(Some(Applied::default()))
    }

    async fn begin_rebuild(&self, _: BuildStart, _: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        Ok(Box::new(Keeping(self.0.clone())))
    }

    async fn revisions(&self, _: Option<ProductId>, _: u32) -> Result<Vec<(ProductId, i64)>> {
        Ok(Vec::new())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

struct Keeping(Documents);

#[async_trait]
impl IndexBuild for Keeping {
    async fn add(&mut self, documents: Vec<SearchDocument>, _: ProductId) -> Result<()> {
        self.0.lock().expect("no panic").extend(documents);
        Ok(())
    }

    async fn publish(self: Box<Self>, _: Checkpoint) -> Result<u64> {
        Ok(0)
    }
}
