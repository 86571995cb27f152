//! Keeps the index in step with the database: follows the outbox, rebuilds and verifies (R14).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::category::{Category, CategorySummary, ancestor_slugs};
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::error::{Entity, Result};
use crate::id::{CategoryId, ProductId};
use crate::port::search::{Checkpoint, IndexOp, SearchDocument};
use crate::service::background::worker::Progress;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;

/// The result of a run of index sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SyncReport {
    /// False if another process writes the index, so that this one did nothing.
    pub writer: bool,
    /// True if the index was rebuilt.
    pub rebuilt: bool,
    /// Events that were read.
    pub events: u64,
    /// Documents that were written.
    pub written: u64,
}

/// The result of a comparison of index and database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Products that were compared.
    pub compared: u64,
    /// Products in the database that the index lacks.
    pub missing: u64,
    /// Products that the index has with another revision.
    pub stale: u64,
    /// Products in the index that the database lacks.
    pub extra: u64,
    /// Whether the differences were repaired.
    pub repaired: bool,
}

impl VerifyReport {
    /// Returns true if index and database agree.
    pub const fn is_clean(&self) -> bool {
        self.missing + self.stale + self.extra == 0
    }
}

/// The service of the index of a shop: it brings the index up to date, rebuilds and verifies it.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// // The background work of the shop does this all the time.
/// shop.index().catch_up().await?;
/// let report = shop.index().verify(true).await?;
/// println!("{report:?}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct IndexSyncService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> IndexSyncService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Brings the index up to the end of the outbox at the time of the call. It rebuilds an index that is new, belongs
    /// to another database, or was not synced for longer than events are kept. If a call stops early, the next one goes
    /// on from there, because the index stores its checkpoint in the same commit as the documents.
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
        // A caller that writes and then catches up finds its write.
        let (horizon, head) = EventLog::new(cx, Principal::system()).bounds().await?;
        let mut report = SyncReport { writer: true, ..SyncReport::default() };
        let mut at = match cx.search.checkpoint().await? {
            // The position is past the head if the database was restored from a backup.
            Some(c) if c.database == database && (horizon..=head).contains(&c.position) => c,
            _ => {
                let built = self.build(&Progress::default()).await?;
                report.rebuilt = true;
                report.written = built.written;
                match cx.search.checkpoint().await? {
                    Some(c) => c,
                    None => return Ok(report),
                }
            }
        };
        // Events that commit meanwhile are left to the next call: otherwise a rebuild might never get its turn.
        while at.position < head {
            let batch = cx.storage.connect().await?.outbox().read(at.position, cx.config.index_batch).await?;
            if batch.end == at.position {
                break;
            }
            report.events += batch.events.len() as u64;
            report.written += self.apply(&mut at, batch.end, &batch.events).await?;
        }
        Ok(report)
    }

    /// Applies one batch of events to the index, whose checkpoint is `at`, and moves `at` to the new checkpoint. The
    /// events name the products that changed, and the documents are built from their current rows.
    async fn apply(&self, at: &mut Checkpoint, end: OutboxPosition, batch: &[(OutboxPosition, Event)]) -> Result<u64> {
        let cx = self.cx;
        let mut written = 0;
        // Id → the revision in the events, for products that the database no longer has.
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
        // Products below a moved category, in pages, at the old checkpoint: after a crash they are repeated.
        for category in moved {
            let mut after = None;
            loop {
                let limit = cx.config.index_batch;
                let ids = cx.storage.connect().await?.products().ids_in_category(category, after, limit).await?;
                let Some(last) = ids.last() else { break };
                after = Some(*last);
                let ids: BTreeMap<ProductId, i64> = ids.into_iter().map(|id| (id, 0)).collect();
                let ops = self.ops(&ids).await?;
                let start = at.position;
                written += self.write(ops, at, start).await?;
            }
        }
        let ops = self.ops(&products).await?;
        written += self.write(ops, at, end).await?;
        Ok(written)
    }

    /// Writes to the index, whose checkpoint is `at`, and moves `at` to the new checkpoint. Without changes of documents,
    /// the version of the index stays, and so do cached results.
    async fn write(&self, ops: Vec<IndexOp>, at: &mut Checkpoint, to: OutboxPosition) -> Result<u64> {
        let cx = self.cx;
        let keeps = ops.is_empty() && !at.version.is_nil();
        let version = if keeps { at.version } else { cx.ids.next() };
        let next = Checkpoint { position: to, version, ..*at };
        let written = cx.search.apply(ops, next).await.inspect_err(|_| cx.index.unsure())?;
        cx.index.written(next);
        *at = next;
        Ok(written)
    }

    /// Returns the operations that bring these products up to date in the index. The revisions in `known` are used for
    /// products that the database no longer has.
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
                let mut ancestors: Vec<CategorySummary> = p
                    .categories
                    .iter()
                    .flat_map(|c| ancestor_slugs(&c.path))
                    .filter_map(|s| above.get(s))
                    .filter(|c| !own.contains(&c.id))
                    .map(CategorySummary::from)
                    .collect();
                ancestors.sort_by_key(|c| c.id);
                ancestors.dedup_by_key(|c| c.id);
                SearchDocument::of(p, &ancestors)
            })
            .collect())
    }

    /// Builds a new index beside the old one and then replaces it. Searches work all the time.
    ///
    /// # Errors
    /// `Unavailable`; the old index then stays in use.
    pub async fn rebuild(&self) -> Result<SyncReport> {
        self.rebuild_counted(&Progress::default()).await
    }

    /// [`Self::rebuild`] as a job, which counts the products that it has read and the documents that it has written.
    pub(crate) async fn rebuild_counted(&self, progress: &Progress) -> Result<SyncReport> {
        self.who.require(Permission::IndexWrite)?;
        let _turn = self.cx.indexing.lock().await;
        if !self.cx.search.acquire_writer().await? {
            return Ok(SyncReport::default());
        }
        self.build(progress).await
    }

    /// [`Self::rebuild`] for a caller that holds the lock and the right to write.
    async fn build(&self, progress: &Progress) -> Result<SyncReport> {
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
            let written = documents.len() as u64;
            build.add(documents).await?;
            report.written += written;
            progress.add("read", ids.len() as u64);
            progress.add("written", written);
        }
        let checkpoint = Checkpoint { database, position, version: cx.ids.next() };
        build.publish(checkpoint).await.inspect_err(|_| cx.index.unsure())?;
        cx.index.written(checkpoint);
        Ok(report)
    }

    /// Compares index and database, product by product, and repairs the differences if `repair`. Call it after
    /// [`Self::catch_up`]: changes that have not reached the index yet count as stale.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn verify(&self, repair: bool) -> Result<VerifyReport> {
        self.verify_counted(repair, &Progress::default()).await
    }

    /// [`Self::verify`] as a job, which counts as the report does, and the products that it has repaired.
    pub(crate) async fn verify_counted(&self, repair: bool, progress: &Progress) -> Result<VerifyReport> {
        self.who.require(Permission::IndexWrite)?;
        let cx = self.cx;
        let mut report = VerifyReport::default();
        let limit = cx.config.index_batch;
        let mut wrong: BTreeMap<ProductId, i64> = BTreeMap::new();
        let mut after: Option<ProductId> = None;
        loop {
            // Between a comparison and its repair the index must not move, or it would already have what the repair
            // applies, which looks like an index that is ahead of its database.
            let turn = if repair { Some(cx.indexing.lock().await) } else { None };
            let before = report.clone();
            let indexed = cx.search.revisions(after, limit).await?;
            let stored = cx.storage.connect().await?.products().revisions(after, limit).await?;
            // Compares up to the smaller of the last ids of both pages.
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
            let wrong = std::mem::take(&mut wrong);
            if repair && !wrong.is_empty() && self.repair(&wrong).await? {
                report.repaired = true;
                progress.add("repaired", wrong.len() as u64);
            }
            drop(turn);
            progress.add("compared", report.compared - before.compared);
            progress.add("missing", report.missing - before.missing);
            progress.add("stale", report.stale - before.stale);
            progress.add("extra", report.extra - before.extra);
            match end {
                Some(e) => after = Some(e),
                None => return Ok(report),
            }
        }
    }

    /// Repairs the documents of some products, for a caller that holds the lock. Returns false if another process writes
    /// the index, or if there is no index yet.
    async fn repair(&self, wrong: &BTreeMap<ProductId, i64>) -> Result<bool> {
        let cx = self.cx;
        if !cx.search.acquire_writer().await? {
            return Ok(false);
        }
        let Some(mut at) = cx.search.checkpoint().await? else { return Ok(false) };
        let ops = self.ops(wrong).await?;
        let (wanted, position) = (ops.len() as u64, at.position);
        if self.write(ops, &mut at, position).await? < wanted {
            // The index has revisions that the database does not know yet, as after the restore of a backup, and
            // would refuse its documents.
            self.build(&Progress::default()).await?;
        }
        Ok(true)
    }
}
