//! The one way in which services write: a transaction that writes the events of its changes and collects the cached
//! documents that they make stale, and the runner that begins it, commits it, and runs it again if another transaction
//! was in the way.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::after_commit::{AfterCommit, Forget};
use super::context::Context;
use super::retry;
use super::stale;
use crate::domain::common::Actor;
use crate::domain::platform::outbox::{Event, EventDetails, EventKind};
use crate::error::{Conflict, Error, Result};
use crate::id::EventId;
use crate::port::cache::CacheKey;
use crate::port::storage::{ForwardRepositories, Repositories, UnitOfWork};

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
    lost_name: Arc<AtomicBool>,
    /// The number of `…_in` calls that have begun to use the database and have not succeeded.
    unfinished: u32,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("stale", &self.stale).finish_non_exhaustive()
    }
}

/// A change that others must learn of.
pub(crate) struct Change {
    pub kind: EventKind,
    pub id: uuid::Uuid,
    /// The revision of the aggregate after the change.
    pub revision: i64,
    /// The actor who made the change.
    pub actor: Actor,
    /// The cached documents that show it, besides those of its kind.
    pub stale: Forget,
    /// Further data of its event.
    pub details: EventDetails,
    /// The id of its event, if the caller has made one.
    pub event: Option<EventId>,
}

impl Change {
    /// Returns a change that no cached document shows besides those of its kind, and whose event has no further data.
    pub fn new(kind: EventKind, id: impl Into<uuid::Uuid>, revision: i64, actor: &Actor) -> Self {
        let (stale, details) = (Forget::default(), EventDetails::default());
        Self { kind, id: id.into(), revision, actor: actor.clone(), stale, details, event: None }
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
        let Self { cx, unit, stale, last_event, wakes, .. } = self;
        unit.commit().await?;
        Ok(AfterCommit::new(cx, stale, last_event, wakes))
    }

    /// Ends the shop's part of a transaction that the host began and will commit. The host runs the returned
    /// [`AfterCommit`] after its commit.
    ///
    /// # Errors
    /// `STATE_CONFLICT` if an `…_in` call of the transaction has failed, as the docs of [`Tx`] describe: the host must
    /// then roll back.
    pub fn finish(self) -> Result<AfterCommit> {
        self.check_complete()?;
        Ok(AfterCommit::new(self.cx, self.stale, self.last_event, self.wakes))
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

    /// Records a change, as [`Tx::emit_all`] does.
    pub(crate) async fn emit(
        &mut self,
        kind: EventKind,
        id: impl Into<uuid::Uuid>,
        revision: i64,
        actor: &Actor,
        shown_by: impl IntoIterator<Item = CacheKey>,
    ) -> Result<()> {
        let stale = Forget::Keys(shown_by.into_iter().collect());
        self.emit_all(vec![Change { stale, ..Change::new(kind, id, revision, actor) }]).await
    }

    /// Records a change that so many documents show that all of them are stale.
    pub(crate) async fn emit_seen_everywhere(
        &mut self,
        kind: EventKind,
        id: impl Into<uuid::Uuid>,
        revision: i64,
        actor: &Actor,
    ) -> Result<()> {
        let stale = Forget::Everything;
        self.emit_all(vec![Change { stale, ..Change::new(kind, id, revision, actor) }]).await
    }

    /// Records changes. Their events are written at once, in one statement for a batch. The cached documents that show
    /// the changes are dropped after the commit: in this process by [`AfterCommit`], in every other process when it
    /// reads the events. [`stale::implied`] names the documents that every event of a kind makes stale;
    /// [`Change::stale`] names the others.
    pub(crate) async fn emit_all(&mut self, changes: Vec<Change>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut events = Vec::with_capacity(changes.len());
        for Change { kind, id, revision, actor, stale, details, event } in changes {
            events.push(Event {
                id: event.unwrap_or_else(|| EventId(self.cx.ids.next())),
                kind,
                aggregate_id: id,
                revision,
                data: stale::data(details, &stale),
                occurred_at: self.cx.now(),
                actor,
            });
            self.stale.add(Forget::Keys(stale::implied(kind, id)));
            self.stale.add(stale);
        }
        self.unit.outbox().append(&events).await?;
        self.last_event = events.last().map(|event| event.id);
        self.wakes = true;
        Ok(())
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

impl Context {
    /// Begins a transaction, runs `body` in it, commits it and runs its [`AfterCommit`]. If another transaction was in
    /// the way, all of it runs again, after a pause. `body` takes the transaction, and returns it with the value of the
    /// write.
    ///
    /// # Errors
    /// Those of `body` and of the commit. [`Error::Contention`] if the last try failed too.
    pub(crate) async fn write<T, F>(self: &Arc<Self>, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        self.run(retry::Pause::Dispersed, body).await
    }

    /// As [`Context::write`], for work that the first writer does for all others. The pauses between tries are the same
    /// for all, since nothing is gained by keeping the writers apart.
    ///
    /// # Errors
    /// As [`Context::write`].
    pub(crate) async fn write_together<T, F>(self: &Arc<Self>, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        self.run(retry::Pause::Equal, body).await
    }

    async fn run<T, F>(self: &Arc<Self>, pause: retry::Pause, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<(T, Tx<'static>)>>,
    {
        let body = &body;
        retry::retrying(self, pause, |lost_name| async move {
            let tx = Tx { lost_name, ..Tx::new(self.clone(), self.storage.begin().await?) };
            let (value, tx) = body(tx).await?;
            tx.commit().await?.run().await;
            Ok(value)
        })
        .await
    }
}

impl ForwardRepositories for Tx<'_> {
    fn inner(&mut self) -> &mut dyn Repositories {
        &mut *self.unit
    }
}
