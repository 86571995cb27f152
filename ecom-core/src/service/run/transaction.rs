//! The one way in which services write: a transaction that writes the events of its changes and their entries in the
//! audit log, and collects the cached documents that they make stale, and the runner that begins it, commits it, and runs
//! it again if another transaction was in the way.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Map;
use tracing::Instrument as _;

use super::after_commit::{AfterCommit, Forget};
use super::context::Context;
use super::listing::{self, Aspect};
use super::notice::Notice;
use super::retry;
use super::stale;
use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::platform::audit_log::{AuditLogEntry, Audited, Import, differences};
use crate::domain::platform::outbox::{Event, EventDetails, EventKind, ImportedProducts};
use crate::domain::stock::inventory::LowStock;
use crate::error::{Conflict, Entity, Error, Result};
use crate::id::{AuditLogEntryId, EventId, ProductId};
use crate::port::cache::CacheKey;
use crate::port::storage::{ForwardRepositories, Repositories, UnitOfWork};
use crate::trace;

/// A transaction of the shop. Every write of a service has an `…_in` form that takes one, so that larger writes are
/// made of smaller ones.
///
/// [`Shop::begin`](crate::Shop::begin) begins one on a connection of the shop's pool. `begin_on_…` and `on_…` of the
/// SQL adapters (`ecom::adapters`) open one on a connection of the host. The host ends it with [`Tx::commit`] or, if it
/// began the transaction itself, with [`Tx::finish`]. A `Tx` that is dropped writes nothing, unless the host began the
/// transaction and commits it: then all of it is written, and every cache learns of it from the outbox.
///
/// A transaction is written as a whole or not at all. If an `…_in` call fails after it has used the database, or if its
/// future is dropped before it ends, the transaction may contain half of a write, and [`Tx::commit`] and [`Tx::finish`]
/// refuse it with `STATE_CONFLICT`. The host then drops it and may run all of it again, from the beginning; after
/// [`Error::Contention`] it should. Three kinds of errors leave a transaction as it was, so that it can go on:
/// [`Error::Forbidden`], `Validation` of the input of a create or replace that is invalid without a look at the
/// database, and the refusal of [`adjust_in`](crate::stock::InventoryService::adjust_in). A host that wants to go on
/// after any other refusal reads first: a `Tx` gives access to the [`Repositories`].
#[must_use = "commit the transaction, or call `finish` if the host began it"]
pub struct Tx<'t> {
    cx: Arc<Context>,
    unit: Box<dyn UnitOfWork + 't>,
    /// The cached documents that the writes made stale.
    stale: Forget,
    /// The last event that was written.
    last_event: Option<EventId>,
    /// Whether the background work has something to do after the commit.
    wakes: bool,
    /// The named events of the log, which are logged after the commit.
    notices: Vec<Notice>,
    lost_name: Arc<AtomicBool>,
    /// The number of `…_in` calls that have begun to use the database and have not succeeded.
    unfinished: u32,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("stale", &self.stale).finish_non_exhaustive()
    }
}

/// A change that others must learn of. It is an event (R13), and an entry of the audit log unless it is made by
/// [`Change::event_only`].
pub(crate) struct Change<'a> {
    kind: EventKind,
    pub id: uuid::Uuid,
    /// The revision of the aggregate after the change.
    revision: i64,
    /// The actor who made the change.
    actor: Actor,
    /// The cached documents that show it, besides those of its kind.
    stale: Forget,
    /// The aspects of the product that lists use and that it changes, if it has no product before and after it.
    aspects: Option<Vec<Aspect>>,
    /// Further data of its event.
    details: EventDetails,
    /// The id of its event, if the caller has made one.
    pub event: Option<EventId>,
    logged: Logged<'a>,
}

/// How the audit log records a change.
enum Logged<'a> {
    /// Nothing: it is no edit of an aggregate, or the ledger of stock or the history of an order has it.
    Nothing,
    /// The change without its data.
    Action,
    /// The change with the aggregate before and after it; `None` if it did not exist.
    Edit(Option<&'a dyn Audited>, Option<&'a dyn Audited>),
}

impl<'a> Change<'a> {
    /// Returns a change that the audit log does not have.
    pub fn event_only(kind: EventKind, id: impl Into<uuid::Uuid>, revision: i64, actor: &Actor) -> Self {
        let (stale, details) = (Forget::default(), EventDetails::default());
        Self {
            kind,
            id: id.into(),
            revision,
            actor: actor.clone(),
            stale,
            aspects: None,
            details,
            event: None,
            logged: Logged::Nothing,
        }
    }

    /// Returns the creation of an aggregate.
    pub fn created(kind: EventKind, after: &'a dyn Audited, actor: &Actor) -> Self {
        let logged = Logged::Edit(None, Some(after));
        Self { logged, ..Self::event_only(kind, after.id(), after.revision(), actor) }
    }

    /// Returns an edit of an aggregate, of which soft deletion and restore are two.
    pub fn edited(kind: EventKind, before: &'a dyn Audited, after: &'a dyn Audited, actor: &Actor) -> Self {
        let logged = Logged::Edit(Some(before), Some(after));
        Self { logged, ..Self::event_only(kind, after.id(), after.revision(), actor) }
    }

    /// Returns the permanent deletion of an aggregate.
    pub fn removed(kind: EventKind, before: &'a dyn Audited, actor: &Actor) -> Self {
        let logged = Logged::Edit(Some(before), None);
        Self { logged, ..Self::event_only(kind, before.id(), before.revision() + 1, actor) }
    }

    /// Returns the change without the aggregate in the audit log, because its personal data is removed.
    pub fn without_data(self) -> Self {
        Self { logged: Logged::Action, ..self }
    }

    /// Adds cached documents that show the change.
    pub fn shown_by(mut self, keys: impl IntoIterator<Item = CacheKey>) -> Self {
        self.stale.add(Forget::Keys(keys.into_iter().collect()));
        self
    }

    /// States which aspects of a product the change concerns, if it does not contain the product. It can be none.
    pub fn of_aspects(self, aspects: impl IntoIterator<Item = Aspect>) -> Self {
        Self { aspects: Some(aspects.into_iter().collect()), ..self }
    }

    /// Returns what lists of products are made from and the change has changed. A change of a product that contains no
    /// product and states no aspects can have changed anything.
    fn listings(&self) -> Forget {
        let product = |aggregate: Option<&'a dyn Audited>| aggregate.and_then(Audited::product);
        let (before, after) = match self.logged {
            Logged::Edit(before, after) => (product(before), product(after)),
            Logged::Nothing | Logged::Action => (None, None),
        };
        if before.is_some() || after.is_some() {
            return Forget::Keys(listing::moved(before, after));
        }
        match &self.aspects {
            Some(aspects) => Forget::Keys(aspects.iter().copied().map(listing::everywhere).collect()),
            None if self.kind.entity() == Entity::Product => Forget::Everything,
            None => Forget::default(),
        }
    }

    /// Returns the SKUs that the change makes low: those whose stock moves, or those of the product that it edits.
    fn low_stock(&self) -> Vec<LowStock> {
        let product = |aggregate: Option<&'a dyn Audited>| aggregate.and_then(Audited::product);
        match self.logged {
            Logged::Edit(before, after) => match (product(before), product(after)) {
                (Some(before), Some(after)) => LowStock::between(before, after),
                _ => Vec::new(),
            },
            Logged::Nothing | Logged::Action => self.details.low.clone(),
        }
    }

    /// Returns the change as one that so many cached documents show that all of them are stale.
    pub fn shown_everywhere(self) -> Self {
        Self { stale: Forget::Everything, ..self }
    }

    /// Returns the change with further data of its event.
    pub fn details(self, details: EventDetails) -> Self {
        Self { details, ..self }
    }

    /// Returns the entry of the audit log; `None` if it has none.
    fn entry(&self, id: impl FnOnce() -> AuditLogEntryId, now: Timestamp) -> Option<AuditLogEntry> {
        let (before, after) = match self.logged {
            Logged::Nothing => return None,
            Logged::Action => (None, None),
            Logged::Edit(before, after) => (before, after),
        };
        let customer_id = after.and_then(Audited::customer).or_else(|| before.and_then(Audited::customer));
        let is_edit = before.is_some() && after.is_some();
        let (before, after) = differences(before.map(Audited::document), after.map(Audited::document));
        if is_edit && [&before, &after].into_iter().flatten().all(Map::is_empty) {
            // The edit has changed only what the log does not show, such as the stock of a product.
            return None;
        }
        Some(AuditLogEntry {
            id: id(),
            action: self.kind.as_str().to_owned(),
            aggregate_id: self.id,
            customer_id,
            before,
            after,
            erased_at: None,
            occurred_at: now,
            actor: self.actor.clone(),
        })
    }
}

impl<'t> Tx<'t> {
    pub(crate) fn new(cx: Arc<Context>, unit: Box<dyn UnitOfWork + 't>) -> Self {
        Self {
            cx,
            unit,
            stale: Forget::default(),
            last_event: None,
            wakes: false,
            notices: Vec::new(),
            lost_name: Arc::default(),
            unfinished: 0,
        }
    }

    /// Writes everything, durably, and returns what remains to be done after the commit.
    ///
    /// # Errors
    /// `STATE_CONFLICT` if an `…_in` call of the transaction has failed, as the docs of [`Tx`] describe. `Unsupported` if
    /// the host began the transaction: then the host commits it, after [`Tx::finish`]. `Unavailable` with
    /// `outcome_unknown` if the answer was lost. After any other error nothing was written.
    pub async fn commit(self) -> Result<AfterCommit> {
        self.check_complete()?;
        let Self { cx, unit, stale, last_event, wakes, notices, .. } = self;
        unit.commit().await?;
        Ok(AfterCommit::new(cx, stale, last_event, wakes, notices))
    }

    /// Ends the shop's part of a transaction that the host began and will commit. The host runs the returned
    /// [`AfterCommit`] after its commit.
    ///
    /// # Errors
    /// `STATE_CONFLICT` if an `…_in` call of the transaction has failed, as the docs of [`Tx`] describe: the host must
    /// then roll back.
    pub fn finish(self) -> Result<AfterCommit> {
        self.check_complete()?;
        Ok(AfterCommit::new(self.cx, self.stale, self.last_event, self.wakes, self.notices))
    }

    fn check_complete(&self) -> Result<()> {
        if self.unfinished == 0 {
            return Ok(());
        }
        let message = "a write of this transaction has failed, so that the transaction cannot be committed: roll it \
                       back, and run all of it again";
        Err(Conflict::State { message: message.to_owned() }.into())
    }

    /// Returns the last event that the writes of this transaction have written so far, or `None` if they have written
    /// none. It exists once the transaction is committed.
    pub const fn last_event(&self) -> Option<EventId> {
        self.last_event
    }

    /// Notes that an `…_in` call begins to use the database. The call ends with [`Tx::ended`]; if it returns an error
    /// before, or is dropped, the transaction cannot be committed.
    pub(crate) const fn started(&mut self) {
        self.unfinished += 1;
    }

    /// Notes the end of an `…_in` call if it has succeeded, and returns its result.
    pub(crate) fn ended<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_ok() {
            self.unfinished -= 1;
        }
        result
    }

    /// Returns the host's connection that this transaction runs on, for statements of the host; `None` if it runs on a
    /// connection of another type, or on one of the shop's pool.
    pub fn connection<C: Any>(&mut self) -> Option<&mut C> {
        self.unit.connection()?.downcast_mut()
    }

    /// Wakes the background work of this process after the commit, for a write that has no event.
    pub(crate) const fn wake(&mut self) {
        self.wakes = true;
    }

    /// Adds a named event, which is logged after the commit.
    pub(crate) fn note(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Records a change, as [`Tx::emit_all`] does.
    pub(crate) async fn emit(&mut self, change: Change<'_>) -> Result<()> {
        self.emit_all(vec![change]).await
    }

    /// Records changes. Their events are written at once, in one statement for a batch, and so are their entries in the
    /// audit log. Each SKU that a change makes low has an event of its own, after that of the change. The cached
    /// documents that show the changes are dropped after the commit: in this process by [`AfterCommit`], in every other
    /// process when it reads the events. [`stale::implied`] names the documents that every event of a kind makes stale,
    /// [`listing::moved`] the lists of products, and [`Change::shown_by`] the others.
    ///
    /// The products that an import in bulk creates have one event for all, which makes every document stale.
    pub(crate) async fn emit_all(&mut self, changes: Vec<Change<'_>>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let now = self.cx.now();
        let mut counters: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut entries = Vec::new();
        let mut events = Vec::with_capacity(changes.len());
        let mut imported: Option<ImportedProducts> = None;
        for change in changes {
            if let Some(import) = &self.cx.import {
                *counters.entry(change.kind.as_str()).or_default() += 1;
                if import.is_bulk && change.kind == EventKind::ProductCreated {
                    let id = ProductId(change.id);
                    imported = Some(imported.map_or(ImportedProducts::of(id), |others| others.with(id)));
                    continue;
                }
            } else {
                entries.extend(change.entry(|| AuditLogEntryId(self.cx.ids.next()), now));
            }
            let listings = change.listings();
            let low = change.low_stock();
            let Change { kind, id, revision, actor, mut stale, details, event, .. } = change;
            stale.add(listings);
            events.push(Event {
                id: event.unwrap_or_else(|| EventId(self.cx.ids.next())),
                kind,
                aggregate_id: id,
                revision,
                data: stale::data(details, &stale),
                occurred_at: now,
                actor: actor.clone(),
            });
            for low in low {
                events.push(Event {
                    id: EventId(self.cx.ids.next()),
                    kind: EventKind::StockLow,
                    aggregate_id: low.sku_id.0,
                    revision,
                    data: low.data(),
                    occurred_at: now,
                    actor: actor.clone(),
                });
                self.notices.push(Notice::StockLow(low));
            }
            self.stale.add(Forget::Keys(stale::implied(kind, id)));
            self.stale.add(stale);
        }
        if let (Some(imported), Some(import)) = (imported, &self.cx.import) {
            let details = EventDetails { imported: Some(imported), ..EventDetails::default() };
            events.push(Event {
                id: EventId(self.cx.ids.next()),
                kind: EventKind::ProductsImported,
                aggregate_id: import.id.0,
                revision: import.events.fetch_add(1, Ordering::Relaxed) + 1,
                data: stale::data(details, &Forget::Everything),
                occurred_at: now,
                actor: import.actor.clone(),
            });
            self.stale.add(Forget::Everything);
        }
        self.last_event = events.last().map(|event| event.id);
        self.wakes = true;
        self.unit.outbox().append(&events).await?;
        if !entries.is_empty() {
            self.unit.audit_log().append(&entries).await?;
        }
        if let Some(import) = self.cx.import.clone() {
            self.count(&import, &counters).await?;
        }
        Ok(())
    }

    /// Adds changes to the one entry of an import in the audit log, which begins with its first change. Each batch
    /// counts in its own transaction, so that the entry is right if the import breaks off.
    async fn count(&mut self, import: &Import, changes: &BTreeMap<&'static str, u64>) -> Result<()> {
        let begun = self.unit.audit_log().lock(import.id).await?;
        match begun {
            Some(mut entry) => {
                Import::count(&mut entry, changes);
                self.unit.audit_log().update(&entry).await
            }
            None => {
                let mut entry = import.entry(self.cx.now());
                Import::count(&mut entry, changes);
                self.unit.audit_log().append(&[entry]).await
            }
        }
    }

    /// Turns a `DUPLICATE` into [`Error::Contention`] if the library had made the name (`made` returns that for a
    /// field). The name was free when the library looked, so another transaction has taken it since, and the next try
    /// makes the next name. The caller did not choose the name and gets no error.
    pub(crate) fn or_next_name<T>(&self, written: Result<T>, made: impl Fn(&'static str) -> bool) -> Result<T> {
        written.map_err(|error| match &error {
            Error::Conflict(c) if matches!(**c, Conflict::Duplicate { field, .. } if made(field)) => {
                self.lost_name.store(true, Ordering::Relaxed);
                Error::Contention { source: Some(Box::new(error)) }
            }
            _ => error,
        })
    }
}

/// How a write runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It is so short that others can wait for it, and share its commit.
    Short,
    /// It may take long, as a batch of an import does, so that it has a commit of its own.
    Long,
    /// It is short, and the first writer does the work of all others. The pauses between tries are the same for all,
    /// since nothing is gained by keeping the writers apart.
    ForAll,
}

impl Context {
    /// Begins a transaction, runs `body` in it, commits it and runs its [`AfterCommit`]. If another transaction was in
    /// the way, all of it runs again, after a pause. `body` takes the transaction, and returns it with the value of the
    /// write.
    ///
    /// # Errors
    /// Those of `body` and of the commit. [`Error::Contention`] if the last try failed too.
    #[track_caller]
    pub(crate) fn write<T, F>(self: &Arc<Self>, body: impl Fn(Tx<'static>) -> F) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        self.write_as(Manner::Short, body)
    }

    /// As [`Context::write`], for a write that may take long.
    ///
    /// # Errors
    /// As [`Context::write`].
    #[track_caller]
    pub(crate) fn write_at_length<T, F>(
        self: &Arc<Self>,
        body: impl Fn(Tx<'static>) -> F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        self.write_as(Manner::Long, body)
    }

    /// As [`Context::write`], in the given manner. The span of the write is named after the service that calls.
    ///
    /// # Errors
    /// As [`Context::write`].
    #[track_caller]
    pub(crate) fn write_as<T, F>(
        self: &Arc<Self>,
        manner: Manner,
        body: impl Fn(Tx<'static>) -> F,
    ) -> impl Future<Output = Result<T>>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        let span = trace::of_write(Location::caller());
        self.write_retried(manner, body).instrument(span)
    }

    /// Writes in the given manner, and again if another transaction was in the way.
    async fn write_retried<T, F>(self: &Arc<Self>, manner: Manner, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        let pause = if manner == Manner::ForAll { retry::Pause::Equal } else { retry::Pause::Dispersed };
        let body = &body;
        retry::retrying(self, pause, |lost_name| async move {
            let mut unit = match manner {
                Manner::Short | Manner::ForAll => self.storage.begin_short().await?,
                Manner::Long => self.storage.begin().await?,
            };
            let seen = unit.depends_on();
            match body(Tx { lost_name, ..Tx::new(self.clone(), unit) }).await {
                Ok((value, tx)) => {
                    tx.commit().await?.run().await;
                    Ok(value)
                }
                Err(error) => {
                    // The reason may be a write that is not durable yet.
                    if let Some(seen) = seen {
                        seen.await?;
                    }
                    Err(error)
                }
            }
        })
        .await
    }
}

impl ForwardRepositories for Tx<'_> {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.unit
    }
}
