//! The one way in which services write: a transaction that collects its events and the cached documents that they
//! make stale, and the runner that begins it, commits it, and runs it again if another transaction was in the way.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::after_commit::{AfterCommit, Forget};
use super::context::Context;
use super::retry;
use super::stale;
use crate::domain::common::Actor;
use crate::domain::platform::outbox::{Event, EventKind};
use crate::error::{Conflict, Error, Result};
use crate::id::EventId;
use crate::port::cache::CacheKey;
use crate::port::storage::{ForwardRepositories, Repositories, UnitOfWork};

/// A transaction of the shop. Every write of a service has an `…_in` form that takes one, so that larger writes are
/// made of smaller ones.
///
/// It comes from `begin_on_…` or `on_…` of the SQL adapters (`ecom::adapters`), which open it on a connection of the
/// host's own. The host ends it with [`Tx::commit`] or, if it began the transaction itself, with [`Tx::finish`].
/// Dropped, it writes nothing. After an error of an `…_in` call nothing of it may be committed. After
/// [`Error::Contention`] the host may run its whole transaction again, from its beginning.
#[must_use = "a transaction that is dropped writes nothing"]
pub struct Tx<'t> {
    cx: Arc<Context>,
    unit: Box<dyn UnitOfWork + 't>,
    events: Vec<Event>,
    keys: HashSet<CacheKey>,
    everything: bool,
    lost_name: Arc<AtomicBool>,
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("events", &self.events.len()).finish_non_exhaustive()
    }
}

/// A transaction that is ready to commit, and what its write returns. Made by [`Tx::done`].
#[must_use = "the runner commits it"]
pub(crate) struct Done<T> {
    tx: Tx<'static>,
    value: T,
}

impl<'t> Tx<'t> {
    pub(crate) fn new(cx: Arc<Context>, unit: Box<dyn UnitOfWork + 't>) -> Self {
        let (events, keys) = (Vec::new(), HashSet::new());
        Self { cx, unit, events, keys, everything: false, lost_name: Arc::default() }
    }

    /// Writes everything, durably, and returns what remains to be done after the commit.
    ///
    /// # Errors
    /// `Unsupported` if the host began the transaction: then the host commits it, after [`Tx::finish`].
    /// `Unavailable` with `outcome_unknown` if the answer was lost; after any other error nothing was written.
    pub async fn commit(mut self) -> Result<AfterCommit> {
        let after = self.flush().await?;
        self.unit.commit().await?;
        Ok(after)
    }

    /// Ends the shop's part of a transaction that the host began and will commit. The host runs the returned
    /// [`AfterCommit`] after its commit.
    ///
    /// # Errors
    /// `Unavailable`, `Contention`: the host rolls its transaction back.
    pub async fn finish(mut self) -> Result<AfterCommit> {
        self.flush().await
    }

    /// The host's connection that this transaction runs on, for statements of the host's own; `None` if it runs on a
    /// connection of another type.
    pub fn connection<C: Any>(&mut self) -> Option<&mut C> {
        self.unit.connection()?.downcast_mut()
    }

    /// Writes the events and hands over what they make stale.
    async fn flush(&mut self) -> Result<AfterCommit> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            self.unit.outbox().append(&events).await?;
        }
        let keys = std::mem::take(&mut self.keys);
        let forget = if self.everything { Forget::Everything } else { Forget::Keys(keys.into_iter().collect()) };
        Ok(AfterCommit::new(self.cx.clone(), forget, !events.is_empty()))
    }

    /// Notes a change: its event is written with this transaction, and the cached documents that show it are dropped
    /// after the commit, here and, by the event, in every other process. [`stale::implied`] adds the documents that
    /// every event of a kind makes stale; `shown_by` names the others.
    pub(crate) fn emit(
        &mut self,
        kind: EventKind,
        id: impl Into<uuid::Uuid>,
        revision: i64,
        actor: &Actor,
        shown_by: impl IntoIterator<Item = CacheKey>,
    ) {
        let shown_by: HashSet<CacheKey> = shown_by.into_iter().collect();
        self.note(kind, id.into(), revision, actor, stale::data(&shown_by));
        self.keys.extend(shown_by);
    }

    /// [`Tx::emit`] for a change that so many documents show that all of them are dropped.
    pub(crate) fn emit_to_everything(
        &mut self,
        kind: EventKind,
        id: impl Into<uuid::Uuid>,
        revision: i64,
        actor: &Actor,
    ) {
        self.note(kind, id.into(), revision, actor, stale::everything());
        self.everything = true;
    }

    fn note(&mut self, kind: EventKind, id: uuid::Uuid, revision: i64, actor: &Actor, data: serde_json::Value) {
        self.keys.extend(stale::implied(kind, id));
        self.events.push(Event {
            id: EventId(self.cx.ids.next()),
            kind,
            aggregate_id: id,
            revision,
            data,
            occurred_at: self.cx.now(),
            actor: actor.clone(),
        });
    }

    /// Ends the write of a service with what it returns.
    #[expect(clippy::unnecessary_wraps, reason = "it is the last expression of a write, as `Ok` is elsewhere")]
    pub(crate) fn ok<T>(self, value: T) -> Result<Done<T>>
    where
        't: 'static,
    {
        Ok(Done { tx: self, value })
    }

    /// Turns the `DUPLICATE` of a name that the library has `made` into [`Error::Contention`]: the name was free when
    /// the library looked, so another transaction has taken it since, and the next try makes the next one. The caller
    /// did not choose the name and does not hear of it.
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
    /// Begins a transaction, runs `body` in it, commits it and does what follows the commit. If another transaction
    /// was in the way, all of it runs again, after a pause. `body` ends with [`Tx::ok`].
    ///
    /// # Errors
    /// Those of `body` and of the commit. [`Error::Contention`] if the last try failed too.
    pub(crate) async fn write<T, F>(self: &Arc<Self>, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<Done<T>>>,
    {
        self.run(retry::Pause::Dispersed, body).await
    }

    /// [`Context::write`] for work that whoever comes first does for the others too: tries need not disperse.
    ///
    /// # Errors
    /// As [`Context::write`].
    pub(crate) async fn write_together<T, F>(self: &Arc<Self>, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<Done<T>>>,
    {
        self.run(retry::Pause::Equal, body).await
    }

    async fn run<T, F>(self: &Arc<Self>, pause: retry::Pause, body: impl Fn(Tx<'static>) -> F) -> Result<T>
    where
        F: Future<Output = Result<Done<T>>>,
    {
        let body = &body;
        retry::retrying(self, pause, |lost_name| async move {
            let tx = Tx { lost_name, ..Tx::new(self.clone(), self.storage.begin().await?) };
            let Done { tx, value } = body(tx).await?;
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
