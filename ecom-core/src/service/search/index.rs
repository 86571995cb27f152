//! Keeps the index in step with the database: follows the outbox, rebuilds, verifies (R14).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::category::{Category, ancestor_slugs};
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::error::{Entity, Result};
use crate::id::{CategoryId, ProductId};
use crate::port::search::{Checkpoint, IndexOp, SearchDocument};
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;

/// What a run of index sync did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SyncReport {
    /// False where another process writes the index: nothing was done here.
    pub writer: bool,
    /// True where the index was built anew.
    pub rebuilt: bool,
    /// Events that were read.
    pub events: u64,
    /// Documents that were written.
    pub written: u64,
}

/// What a comparison of index and database found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Products that were compared.
    pub compared: u64,
    /// In the database, not in the index.
    pub missing: u64,
    /// In the index with another revision.
    pub stale: u64,
    /// In the index, not in the database.
    pub extra: u64,
    /// Whether what was found was repaired.
    pub repaired: bool,
}

impl VerifyReport {
    /// True where index and database agree.
    pub const fn is_clean(&self) -> bool {
        self.missing + self.stale + self.extra == 0
    }
}

/// The index of a shop.
#[derive(Debug, Clone, Copy)]
pub struct IndexSyncService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> IndexSyncService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Brings the index up to where the outbox ends now; builds it anew where it is new, belongs to another
    /// database, or was away for longer than events are kept. Where it stops, the next call goes on: the
    /// checkpoint lies in the index, in the same commit as the documents.
    ///
    /// # Errors
    /// `Unavailable` of database or index.
    pub async fn catch_up(&self) -> Result<SyncReport> {
        self.who.require(Permission::IndexWrite)?;
        let cx = self.cx;
        let _turn = cx.indexing.lock().await;
        if !cx.search.acquire_writer().await? {
            return Ok(SyncReport::default());
        }
        let database = cx.storage.identity().await?;
        // Whoever writes and then catches up finds what it wrote.
        let (horizon, head) = EventLog::new(cx, Principal::system()).bounds().await?;
        let mut report = SyncReport { writer: true, ..SyncReport::default() };
        let mut at = match cx.search.checkpoint().await? {
            // Past the head where the database came back from a backup.
            Some(c) if c.database == database && (horizon..=head).contains(&c.position) => c.position,
            _ => {
                let built = self.build().await?;
                report.rebuilt = true;
                report.written = built.written;
                match cx.search.checkpoint().await? {
                    Some(c) => c.position,
                    None => return Ok(report),
                }
            }
        };
        // What commits meanwhile is the next call's, or a rebuild would never have its turn.
        while at < head {
            let batch = cx.storage.connect().await?.outbox().read(at, cx.config.index_batch).await?;
            if batch.end == at {
                break;
            }
            report.events += batch.events.len() as u64;
            report.written += self.apply(database, at, batch.end, &batch.events).await?;
            at = batch.end;
        }
        Ok(report)
    }

    /// Applies one batch of events. Events say which products changed; the documents are made of what the
    /// database has now.
    async fn apply(
        &self,
        database: uuid::Uuid,
        start: OutboxPosition,
        end: OutboxPosition,
        batch: &[(OutboxPosition, Event)],
    ) -> Result<u64> {
        let cx = self.cx;
        let mut written = 0;
        // Id → the revision that the events know, for products that are gone from the database.
        let mut products: BTreeMap<ProductId, i64> = BTreeMap::new();
        let mut moved: HashSet<CategoryId> = HashSet::new();
        for (_, event) in batch {
            match event.kind.entity() {
                Entity::Product => {
                    let known = products.entry(ProductId(event.aggregate_id)).or_default();
                    *known = event.revision.max(*known);
                }
                Entity::Category if !matches!(event.kind, EventKind::CategoryCreated | EventKind::CategoryUpdated) => {
                    moved.insert(CategoryId(event.aggregate_id));
                }
                _ => {}
            }
        }
        // Products that show a moved category, in pages, at the old checkpoint: a crash repeats them.
        for category in moved {
            let mut after = None;
            loop {
                let limit = cx.config.index_batch;
                let ids = cx.storage.connect().await?.products().ids_in_category(category, after, limit).await?;
                let Some(last) = ids.last() else { break };
                after = Some(*last);
                let ids: BTreeMap<ProductId, i64> = ids.into_iter().map(|id| (id, 0)).collect();
                let ops = self.ops(&ids).await?;
                written += cx.search.apply(ops, Checkpoint { database, position: start }).await?;
            }
        }
        let ops = self.ops(&products).await?;
        written += cx.search.apply(ops, Checkpoint { database, position: end }).await?;
        Ok(written)
    }

    /// What the index must hold for these products. `known` revisions stand for products that are gone.
    async fn ops(&self, known: &BTreeMap<ProductId, i64>) -> Result<Vec<IndexOp>> {
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<ProductId> = known.keys().copied().collect();
        let found = self.cx.storage.connect().await?.products().get_many(&ids, IncludeDeleted::Yes).await?;
        let (live, deleted): (Vec<Product>, Vec<Product>) = found.into_iter().partition(|p| p.audit.is_live());
        let here: HashSet<ProductId> = live.iter().chain(&deleted).map(|p| p.id).collect();
        let mut ops: Vec<IndexOp> =
            self.documents(&live).await?.into_iter().map(|d| IndexOp::Upsert(Box::new(d))).collect();
        ops.extend(deleted.iter().map(|p| IndexOp::Delete { id: p.id, revision: p.revision }));
        ops.extend(
            known
                .iter()
                .filter(|(id, _)| !here.contains(id))
                .map(|(id, revision)| IndexOp::Delete { id: *id, revision: *revision }),
        );
        Ok(ops)
    }

    async fn documents(&self, products: &[Product]) -> Result<Vec<SearchDocument>> {
        let slugs: HashSet<String> = products
            .iter()
            .flat_map(|p| &p.categories)
            .flat_map(|c| ancestor_slugs(&c.path))
            .map(str::to_owned)
            .collect();
        let above: HashMap<String, Category> = if slugs.is_empty() {
            HashMap::new()
        } else {
            let slugs: Vec<String> = slugs.into_iter().collect();
            let read = self.cx.storage.connect().await?.categories().get_by_slugs(&slugs).await?;
            read.into_iter().map(|c| (c.slug.to_string(), c)).collect()
        };
        Ok(products
            .iter()
            .map(|p| {
                let own: HashSet<CategoryId> = p.categories.iter().map(|c| c.id).collect();
                let mut ancestors: Vec<(CategoryId, String)> = p
                    .categories
                    .iter()
                    .flat_map(|c| ancestor_slugs(&c.path))
                    .filter_map(|s| above.get(s))
                    .filter(|c| !own.contains(&c.id))
                    .map(|c| (c.id, c.name.clone()))
                    .collect();
                ancestors.sort_by_key(|(id, _)| *id);
                ancestors.dedup_by_key(|(id, _)| *id);
                SearchDocument::of(p, &ancestors)
            })
            .collect())
    }

    /// Builds a new index beside the old one and swaps them; searches are served all the while.
    ///
    /// # Errors
    /// `Unavailable`; the old index stays then.
    pub async fn rebuild(&self) -> Result<SyncReport> {
        self.who.require(Permission::IndexWrite)?;
        let _turn = self.cx.indexing.lock().await;
        if !self.cx.search.acquire_writer().await? {
            return Ok(SyncReport::default());
        }
        self.build().await
    }

    /// [`Self::rebuild`] of one who has the turn and the right to write.
    async fn build(&self) -> Result<SyncReport> {
        let cx = self.cx;
        let database = cx.storage.identity().await?;
        // Whatever commits from here on is read again from the outbox.
        let position = cx.storage.connect().await?.outbox().head().await?;
        let mut build = cx.search.begin_rebuild().await?;
        let mut report = SyncReport { writer: true, rebuilt: true, ..SyncReport::default() };
        let mut after = None;
        loop {
            let page = cx.storage.connect().await?.products().revisions(after, cx.config.index_batch).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let ids: Vec<ProductId> = page.iter().map(|(id, _)| *id).collect();
            let live = cx.storage.connect().await?.products().get_many(&ids, IncludeDeleted::No).await?;
            let documents = self.documents(&live).await?;
            report.written += documents.len() as u64;
            build.add(documents).await?;
        }
        build.publish(Checkpoint { database, position }).await?;
        Ok(report)
    }

    /// Compares index and database, product by product, and repairs what differs where asked. Run it after
    /// [`Self::catch_up`]: what is on its way counts as stale.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn verify(&self, repair: bool) -> Result<VerifyReport> {
        self.who.require(Permission::IndexWrite)?;
        let cx = self.cx;
        let mut report = VerifyReport::default();
        let limit = cx.config.index_batch;
        let mut wrong: BTreeMap<ProductId, i64> = BTreeMap::new();
        let mut after: Option<ProductId> = None;
        loop {
            let indexed = cx.search.revisions(after, limit).await?;
            let stored = cx.storage.connect().await?.products().revisions(after, limit).await?;
            // Compare up to where both pages reach.
            let end = match (indexed.len() < limit as usize, stored.len() < limit as usize) {
                (true, true) => None,
                (true, false) => stored.last().map(|(id, _)| *id),
                (false, true) => indexed.last().map(|(id, _)| *id),
                (false, false) => stored.last().map(|(id, _)| *id).min(indexed.last().map(|(id, _)| *id)),
            };
            let within = |id: &ProductId| end.is_none_or(|e| *id <= e);
            let ids: Vec<ProductId> = stored.iter().map(|(id, _)| *id).filter(within).collect();
            let live = cx.storage.connect().await?.products().get_many(&ids, IncludeDeleted::No).await?;
            let mut live: HashMap<ProductId, i64> = live.into_iter().map(|p| (p.id, p.revision)).collect();
            report.compared += live.len() as u64;
            for (id, revision) in indexed.into_iter().filter(|(id, _)| within(id)) {
                match live.remove(&id) {
                    Some(r) if r == revision => {}
                    Some(_) => {
                        report.stale += 1;
                        wrong.insert(id, 0);
                    }
                    None => {
                        report.extra += 1;
                        wrong.insert(id, revision + 1);
                    }
                }
            }
            report.missing += live.len() as u64;
            wrong.extend(live.into_keys().map(|id| (id, 0)));
            if repair && !wrong.is_empty() {
                self.repair(&std::mem::take(&mut wrong)).await?;
                report.repaired = true;
            }
            match end {
                Some(e) => after = Some(e),
                None => return Ok(report),
            }
        }
    }

    async fn repair(&self, wrong: &BTreeMap<ProductId, i64>) -> Result<()> {
        let cx = self.cx;
        let _turn = cx.indexing.lock().await;
        if cx.search.acquire_writer().await?
            && let Some(checkpoint) = cx.search.checkpoint().await?
        {
            let ops = self.ops(wrong).await?;
            let wanted = ops.len() as u64;
            if cx.search.apply(ops, checkpoint).await? < wanted {
                // Revisions that the database does not know yet, as after the restore of a backup, refuse them.
                self.build().await?;
            }
        }
        Ok(())
    }
}
