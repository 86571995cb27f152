//! Keeps the indices in step with the database: follows the outbox, rebuilds and verifies (R14).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::category::{Category, CategorySummary, ancestor_slugs};
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{Event, EventKind, ImportedProducts, OutboxPosition};
use crate::error::{Entity, Error, Result};
use crate::id::{CategoryId, ProductId};
use crate::metrics;
use crate::port::search::{Applied, BuildStart, Checkpoint, IndexOp, SearchDocument};
use crate::service::background::worker::Progress;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;
use crate::service::search::state::Index;

/// How often products are compared anew because another process has written to the index meanwhile.
const COMPARISONS: u32 = 10;

/// The number of batches of imported products from which on an index that is nearly empty is built anew: a commit for
/// each batch takes longer.
const BATCHES_WORTH_A_BUILD: u64 = 20;

/// The result of a run of index sync.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SyncReport {
    /// False if another process writes the index, so that this one did nothing. With a fallback, it is that of the main
    /// index.
    pub writer: bool,
    /// True if the index was rebuilt.
    pub rebuilt: bool,
    /// Events that were read.
    pub events: u64,
    /// Documents that were written.
    pub written: u64,
    /// Documents that the search engine refuses because of their content. The index lacks them.
    pub refused: u64,
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
    /// Whether differences were repaired.
    pub repaired: bool,
    /// Products that remain missing or stale, because the search engine refuses their documents.
    pub refused: u64,
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

    /// Brings the indices of the shop up to the end of the outbox at the time of the call. It rebuilds an index that is
    /// new, belongs to another database, has another language, or was not synced for longer than events are kept. If a
    /// call stops early, the next one goes on from the checkpoint that the index stores.
    ///
    /// If the shop has a fallback ([`ShopParts::search_fallback`](crate::ShopParts::search_fallback)), it has two
    /// indices. Each method of this service works on both, also if one of them fails, and its report adds up both.
    ///
    /// # Errors
    /// `Unavailable` of database or index.
    pub async fn catch_up(&self) -> Result<SyncReport> {
        self.who.require(Permission::IndexWrite)?;
        let mut all = Outcome::default();
        for index in self.cx.indices.all() {
            all.add(IndexSync::new(self.cx, index).catch_up().await, SyncReport::plus);
        }
        all.into_result()
    }

    /// Builds new indices beside the old ones and then replaces these. Searches work all the time.
    ///
    /// # Errors
    /// `Unavailable`; the old index then stays in use.
    pub async fn rebuild(&self) -> Result<SyncReport> {
        self.rebuild_counted(&Progress::default()).await
    }

    /// [`Self::rebuild`] as a job, which counts the products that it has read and the documents that it has written.
    pub(crate) async fn rebuild_counted(&self, progress: &Progress) -> Result<SyncReport> {
        self.who.require(Permission::IndexWrite)?;
        let mut all = Outcome::default();
        for index in self.cx.indices.all() {
            all.add(IndexSync::new(self.cx, index).rebuild(progress).await, SyncReport::plus);
        }
        all.into_result()
    }

    /// Compares indices and database, product by product, and repairs the differences if `repair`. Call it after
    /// [`Self::catch_up`]: changes that have not reached an index yet count as stale. Only the process that has the
    /// right to write repairs; otherwise [`VerifyReport::repaired`] is false.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn verify(&self, repair: bool) -> Result<VerifyReport> {
        self.verify_counted(repair, &Progress::default()).await
    }

    /// [`Self::verify`] as a job, which counts as the report does, and the products that it has repaired.
    pub(crate) async fn verify_counted(&self, repair: bool, progress: &Progress) -> Result<VerifyReport> {
        self.who.require(Permission::IndexWrite)?;
        let mut all = Outcome::default();
        for index in self.cx.indices.all() {
            all.add(IndexSync::new(self.cx, index).verify(repair, progress).await, VerifyReport::plus);
        }
        all.into_result()
    }
}

/// The sum of the reports of all indices, and the first error.
#[derive(Debug, Default)]
struct Outcome<R> {
    report: Option<R>,
    error: Option<Error>,
}

impl<R: Default> Outcome<R> {
    fn add(&mut self, done: Result<R>, plus: impl Fn(&mut R, &R)) {
        match (done, &mut self.report) {
            (Ok(report), None) => self.report = Some(report),
            (Ok(report), Some(sum)) => plus(sum, &report),
            (Err(error), _) => drop(self.error.get_or_insert(error)),
        }
    }

    fn into_result(self) -> Result<R> {
        self.error.map_or_else(|| Ok(self.report.unwrap_or_default()), Err)
    }
}

/// Keeps one index in step with the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexSync<'a> {
    cx: &'a Arc<Context>,
    index: &'a Index,
}

/// The documents of some products.
struct Batch {
    /// The product with the highest id, which may have no document.
    last: ProductId,
    /// How many products were read.
    read: u64,
    documents: Vec<SearchDocument>,
}

impl<'a> IndexSync<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, index: &'a Index) -> Self {
        Self { cx, index }
    }

    /// [`IndexSyncService::catch_up`] for this index.
    pub(crate) async fn catch_up(&self) -> Result<SyncReport> {
        let mut report = SyncReport::default();
        loop {
            let turn = self.index.writing.lock().await;
            report.writer = self.index.provider.acquire_writer().await?;
            if !report.writer {
                return Ok(report);
            }
            // A caller that writes and then catches up finds its write.
            let Some((at, head)) = self.usable().await? else {
                drop(turn);
                if report.rebuilt {
                    return Ok(report);
                }
                self.build(&Progress::default(), Reason::Unusable, &mut report).await?;
                continue;
            };
            match self.follow(at, head, &mut report).await? {
                Followed::Whole => return Ok(report),
                Followed::Moved => {}
                Followed::WorthABuild => {
                    drop(turn);
                    self.build(&Progress::default(), Reason::Imported, &mut report).await?;
                }
            }
        }
    }

    /// Returns the checkpoint of the index and the end of the outbox; `None` if the outbox cannot bring the index up to
    /// date.
    async fn usable(&self) -> Result<Option<(Checkpoint, OutboxPosition)>> {
        let cx = self.cx;
        let database = cx.storage.identity().await?;
        let (horizon, head) = EventLog::new(cx, Principal::system()).bounds().await?;
        // The position is past the head if the database was restored from a backup.
        let language = cx.config.search_language;
        let fits =
            |c: &Checkpoint| c.database == database && c.language == language && (horizon..=head).contains(&c.position);
        Ok(self.index.provider.checkpoint().await?.filter(fits).map(|at| (at, head)))
    }

    /// Applies the events between the checkpoint `at` of the index and `head`, for a caller that holds the lock. Events
    /// that commit meanwhile are left to the next call: otherwise a rebuild might never get its turn.
    async fn follow(&self, mut at: Checkpoint, head: OutboxPosition, report: &mut SyncReport) -> Result<Followed> {
        let cx = self.cx;
        while at.position < head {
            let batch = cx.storage.connect().await?.outbox().read(at.position, cx.config.index_batch).await?;
            if batch.end == at.position {
                break;
            }
            let imported = batch.events.iter().filter_map(|(_, event)| event.imported_products());
            let imported: u64 = imported.map(|products| products.count).sum();
            if !report.rebuilt
                && imported > u64::from(cx.config.index_batch) * BATCHES_WORTH_A_BUILD
                && self.is_nearly_empty().await?
            {
                return Ok(Followed::WorthABuild);
            }
            report.events += batch.events.len() as u64;
            let labels = [("engine", self.index.provider.name())];
            metrics::count(metrics::INDEX_EVENTS_TOTAL, &labels, batch.events.len() as u64);
            let Some(next) = self.apply(at, batch.end, &batch.events, report).await? else {
                return Ok(Followed::Moved);
            };
            at = next;
        }
        Ok(Followed::Whole)
    }

    /// Returns whether the index has less than a batch of products.
    async fn is_nearly_empty(&self) -> Result<bool> {
        let limit = self.cx.config.index_batch;
        Ok(self.index.provider.revisions(None, limit).await?.len() < limit as usize)
    }

    /// Applies one batch of events to the index, whose checkpoint is `at`, and returns the new checkpoint; `None` if
    /// the index has another one. The events name the products that changed, and the documents are built from their
    /// current rows.
    async fn apply(
        &self,
        mut at: Checkpoint,
        end: OutboxPosition,
        batch: &[(OutboxPosition, Event)],
        report: &mut SyncReport,
    ) -> Result<Option<Checkpoint>> {
        let cx = self.cx;
        // Id → the revision in the events, for products that the database no longer has.
        let mut products: BTreeMap<ProductId, i64> = BTreeMap::new();
        let mut moved: HashSet<CategoryId> = HashSet::new();
        let imported = batch.iter().filter_map(|(_, event)| event.imported_products());
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
                let Some((next, applied)) = self.write(self.ops(&ids).await?, at, at.position).await? else {
                    return Ok(None);
                };
                report.add(applied);
                at = next;
            }
        }
        // Products of imports in bulk, in the same way. Most of them may be there already, if a rebuild has read them.
        for ImportedProducts { first, last, .. } in imported {
            let mut after = first.0.as_u128().checked_sub(1).map(|before| ProductId(Uuid::from_u128(before)));
            while let Some((end, ids)) = self.differing(after, last).await? {
                after = Some(end);
                if ids.is_empty() {
                    continue;
                }
                let Some((next, applied)) = self.write(self.ops(&ids).await?, at, at.position).await? else {
                    return Ok(None);
                };
                report.add(applied);
                at = next;
            }
        }
        let Some((next, applied)) = self.write(self.ops(&products).await?, at, end).await? else { return Ok(None) };
        report.add(applied);
        Ok(Some(next))
    }

    /// Compares the next products by id, up to `last`. Returns the last one that was compared, and those that the index
    /// lacks or has with a lower revision; `None` if there are no more.
    async fn differing(
        &self,
        after: Option<ProductId>,
        last: ProductId,
    ) -> Result<Option<(ProductId, BTreeMap<ProductId, i64>)>> {
        let limit = self.cx.config.index_batch;
        let mut stored = self.cx.storage.connect().await?.products().revisions(after, limit).await?;
        stored.retain(|(id, _)| *id <= last);
        let Some((end, _)) = stored.last().copied() else { return Ok(None) };
        let indexed: HashMap<ProductId, i64> = self.index.provider.revisions(after, limit).await?.into_iter().collect();
        let differs = |(id, revision): &(ProductId, i64)| indexed.get(id).is_none_or(|known| known < revision);
        Ok(Some((end, stored.into_iter().filter(differs).map(|(id, _)| (id, 0)).collect())))
    }

    /// Writes to the index, whose checkpoint is `at`, and returns the new checkpoint; `None` if the index has another
    /// one. Without changes of documents, the version of the index stays, and so do cached results.
    async fn write(
        &self,
        ops: Vec<IndexOp>,
        at: Checkpoint,
        to: OutboxPosition,
    ) -> Result<Option<(Checkpoint, Applied)>> {
        let keeps = ops.is_empty() && !at.version.is_nil();
        let version = if keeps { at.version } else { self.cx.ids.next() };
        self.move_to(ops, at, Checkpoint { position: to, version, ..at }).await
    }

    async fn move_to(
        &self,
        ops: Vec<IndexOp>,
        at: Checkpoint,
        next: Checkpoint,
    ) -> Result<Option<(Checkpoint, Applied)>> {
        let (writing, sent) = (self.index.state.writing(), ops.len() as u64);
        let applied = self.index.provider.apply(ops, Some(at), next).await?;
        if let Some(applied) = applied {
            writing.succeeded(next);
            self.count(sent, applied);
        }
        Ok(applied.map(|applied| (next, applied)))
    }

    /// Counts changes of documents that the engine was sent.
    fn count(&self, sent: u64, applied: Applied) {
        let unchanged = sent.saturating_sub(applied.written + applied.refused);
        for (outcome, n) in [("written", applied.written), ("unchanged", unchanged), ("rejected", applied.refused)] {
            if n > 0 {
                let labels = [("engine", self.index.provider.name()), ("outcome", outcome)];
                metrics::count(metrics::INDEX_DOCUMENTS_TOTAL, &labels, n);
            }
        }
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
                SearchDocument::of(p, &ancestors, self.cx.config.search_language)
            })
            .collect())
    }

    /// [`IndexSyncService::rebuild`] for this index.
    async fn rebuild(&self, progress: &Progress) -> Result<SyncReport> {
        let mut report = SyncReport { writer: self.index.provider.acquire_writer().await?, ..SyncReport::default() };
        if report.writer {
            self.build(progress, Reason::Asked, &mut report).await?;
        }
        Ok(report)
    }

    /// [`Self::rebuild`] for a caller that has the right to write, and does not hold the lock. The current index
    /// follows the outbox meanwhile, if there is one. Unless somebody has asked for the build, an index that another
    /// task has built meanwhile is kept, and a build that was interrupted is continued if the outbox still has all
    /// events since it began.
    async fn build(&self, progress: &Progress, reason: Reason, report: &mut SyncReport) -> Result<()> {
        let cx = self.cx;
        let _turn = self.index.rebuilding.lock().await;
        let is_done = match reason {
            Reason::Asked => false,
            Reason::Unusable => self.usable().await?.is_some(),
            Reason::Imported => !self.is_nearly_empty().await?,
        };
        if is_done {
            return Ok(());
        }
        let database = cx.storage.identity().await?;
        // Whatever commits after `head` is read again from the outbox.
        let (horizon, head) = EventLog::new(cx, Principal::system()).bounds().await?;
        let start = BuildStart { database, position: head, language: cx.config.search_language };
        // Somebody who asks for a rebuild may not trust what is there, also of one that was not completed.
        let since = (reason != Reason::Asked).then_some(horizon);
        let mut build = self.index.provider.begin_rebuild(start, since).await?;
        let continued = build.continued();
        if let Some(progress) = continued {
            let engine = self.index.provider.name();
            tracing::info!(engine, after = %progress.after, "the build of the search index continues where it has stopped");
        }
        let start = continued.map_or(start, |progress| progress.start);
        let mut written = 0;
        let mut next = self.batch(continued.map(|progress| progress.after)).await?;
        while let Some(Batch { last, read, documents }) = next {
            let added = documents.len() as u64;
            // The next products are read while the engine takes these.
            let (following, taken) = futures::join!(self.batch(Some(last)), build.add(documents, last));
            taken?;
            written += added;
            progress.add("read", read);
            progress.add("written", added);
            next = following?;
        }
        let _turn = self.index.writing.lock().await;
        let BuildStart { database, position, language } = start;
        let checkpoint = Checkpoint { database, position, version: cx.ids.next(), language };
        let writing = self.index.state.writing();
        let refused = build.publish(checkpoint).await?;
        writing.succeeded(checkpoint);
        if refused > 0 {
            progress.add("refused", refused);
        }
        report.rebuilt = true;
        report.refused += refused;
        report.written += written - refused;
        self.count(written, Applied { written: written - refused, refused });
        metrics::count(metrics::INDEX_REBUILDS_TOTAL, &[("engine", self.index.provider.name())], 1);
        // The events since the rebuild began are missing now, so they come before anything else. If that fails, the
        // next call catches up.
        if let Ok(Some((at, head))) = self.usable().await {
            let mut followed = SyncReport::default();
            if let Err(error) = self.follow(at, head, &mut followed).await {
                tracing::debug!(%error, "a new index has not caught up yet");
            }
        }
        Ok(())
    }

    /// Returns the documents of the next products by id; `None` after the last product.
    async fn batch(&self, after: Option<ProductId>) -> Result<Option<Batch>> {
        let mut db = self.cx.storage.connect().await?;
        let page = db.products().revisions(after, self.cx.config.index_batch).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        let ids: Vec<ProductId> = page.iter().map(|(id, _)| *id).collect();
        let live = db.products().get_many(&ids, IncludeDeleted::No).await?;
        drop(db);
        let documents = self.documents(&live).await?;
        Ok(Some(Batch { last: *last, read: ids.len() as u64, documents }))
    }

    /// [`IndexSyncService::verify`] for this index.
    async fn verify(&self, repair: bool, progress: &Progress) -> Result<VerifyReport> {
        let cx = self.cx;
        let mut report = VerifyReport::default();
        let limit = cx.config.index_batch;
        let mut wrong: BTreeMap<ProductId, i64> = BTreeMap::new();
        let mut after: Option<ProductId> = None;
        let mut tries = 0;
        loop {
            // Between a comparison and its repair the index must not move, or it would already have what the repair
            // applies, which looks like an index that is ahead of its database.
            let turn = if repair { Some(self.index.writing.lock().await) } else { None };
            let at = if repair { self.index.provider.checkpoint().await? } else { None };
            let before = report.clone();
            let indexed = self.index.provider.revisions(after, limit).await?;
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
            let repaired = match at {
                Some(at) if !wrong.is_empty() => self.repair(&wrong, at).await?,
                _ => Repaired::NotHere,
            };
            drop(turn);
            match repaired {
                Repaired::HasMoved if tries < COMPARISONS => {
                    tries += 1;
                    report = before;
                    continue;
                }
                Repaired::NotHere | Repaired::HasMoved => {}
                Repaired::Written(applied) => {
                    report.repaired |= applied.written > 0;
                    report.refused += applied.refused;
                    progress.add("repaired", applied.written);
                    if applied.refused > 0 {
                        progress.add("refused", applied.refused);
                    }
                }
                Repaired::IsAhead => {
                    let mut built = SyncReport::default();
                    self.build(&Progress::default(), Reason::Asked, &mut built).await?;
                    report.repaired = true;
                    report.refused += built.refused;
                    progress.add("repaired", wrong.len() as u64);
                    if built.refused > 0 {
                        progress.add("refused", built.refused);
                    }
                }
            }
            tries = 0;
            progress.add("compared", report.compared - before.compared);
            progress.add("missing", report.missing - before.missing);
            progress.add("stale", report.stale - before.stale);
            progress.add("extra", report.extra - before.extra);
            match end {
                Some(e) => after = Some(e),
                None => break,
            }
        }
        if repair {
            self.renew().await?;
        }
        Ok(report)
    }

    /// Gives the index a new version, so that no cached result is left from before a repair. An earlier repair may have
    /// stopped between the documents and the version.
    async fn renew(&self) -> Result<()> {
        let cx = self.cx;
        let _turn = self.index.writing.lock().await;
        if !self.index.provider.acquire_writer().await? {
            return Ok(());
        }
        while let Some(at) = self.index.provider.checkpoint().await? {
            let next = Checkpoint { version: cx.ids.next(), ..at };
            if self.move_to(Vec::new(), at, next).await?.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Repairs the documents of some products in the index, whose checkpoint was `at` when they were compared, for a
    /// caller that holds the lock.
    async fn repair(&self, wrong: &BTreeMap<ProductId, i64>, at: Checkpoint) -> Result<Repaired> {
        if !self.index.provider.acquire_writer().await? {
            return Ok(Repaired::NotHere);
        }
        let ops = self.ops(wrong).await?;
        let wanted = ops.len() as u64;
        Ok(match self.write(ops, at, at.position).await? {
            // The index has revisions that the database does not know yet, as after the restore of a backup, and
            // refuses older documents.
            Some((_, applied)) if applied.written + applied.refused < wanted => Repaired::IsAhead,
            Some((_, applied)) => Repaired::Written(applied),
            None => Repaired::HasMoved,
        })
    }
}

/// The reason of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// Somebody asks for it, or the index has higher revisions than the database.
    Asked,
    /// The outbox cannot bring the index up to date.
    Unusable,
    /// An import in bulk has created so many products that a build takes less time.
    Imported,
}

/// How far an index has followed the outbox.
enum Followed {
    /// Up to the end at the time of the call.
    Whole,
    /// Another process has written to the index.
    Moved,
    /// An import in bulk comes next. It has created most products, so that a build takes less time.
    WorthABuild,
}

/// The outcome of a repair.
enum Repaired {
    /// Another process writes the index, or there is no index yet.
    NotHere,
    /// Another process has written to the index since the comparison.
    HasMoved,
    Written(Applied),
    /// The index has higher revisions than the database, so that only a rebuild helps.
    IsAhead,
}

impl VerifyReport {
    /// Adds the report of the fallback.
    fn plus(&mut self, other: &Self) {
        self.compared += other.compared;
        self.missing += other.missing;
        self.stale += other.stale;
        self.extra += other.extra;
        self.repaired |= other.repaired;
        self.refused += other.refused;
    }
}

impl SyncReport {
    /// Adds the report of the fallback.
    fn plus(&mut self, other: &Self) {
        self.rebuilt |= other.rebuilt;
        self.events += other.events;
        self.written += other.written;
        self.refused += other.refused;
    }

    const fn add(&mut self, applied: Applied) {
        self.written += applied.written;
        self.refused += applied.refused;
    }
}
