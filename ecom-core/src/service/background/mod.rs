//! The background work of a shop: the loops that every process runs, and consumers of the log of events.

mod analytics;
pub(crate) mod consumer;
mod feeds;
pub(crate) mod lease;
mod schedules;
pub(crate) mod tasks;
mod webhooks;
pub(crate) mod work;
pub(crate) mod worker;

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::consumer::Consumer;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::service::run::context::Context;
use crate::text::check_text;

/// A part of the background work, for [`Shop::run_background_pass`](crate::Shop::run_background_pass).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The work that should follow a write soon: it updates the index, the cache and the figures of analytics, sends
    /// mails, calls webhooks, runs jobs, adds the counts of searches and of views to the database, and polls the feeds
    /// that are due.
    Events,
    /// All background work. In addition to [`Self::Events`], it removes what has expired and what is old
    /// (`docs/production.md` has the list), asks for the mails about abandoned carts, and ends the imports of processes
    /// that have died.
    Everything,
}

/// Reports the events that this process writes to a shop; see [`Shop::event_signal`](crate::Shop::event_signal).
#[derive(Debug, Clone)]
pub struct EventSignal(pub(crate) watch::Receiver<()>);

impl EventSignal {
    /// Waits until this process has committed an event, or until a search waits for the index to catch up. Returns at
    /// once if that has happened since the last call. Returns false once the shop has been dropped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// The background work of a shop. If it is dropped, the work is aborted between two steps, never within a commit that
/// would not be repeated, and other processes wait until its leases run out.
#[must_use = "dropping it aborts the background work: keep it until `Background::shutdown` or `Shop::close`"]
#[derive(Debug)]
pub struct Background {
    cx: Arc<Context>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    consumers: HashSet<String>,
}

impl Background {
    /// Runs a consumer of the log in this process, whenever no other process runs it; see [`Consumer`].
    ///
    /// # Errors
    /// `Validation` if the name is empty, too long, one of the library's own, or that of a consumer that runs already.
    pub fn consume(&mut self, consumer: Arc<dyn Consumer>) -> Result<()> {
        let name = consumer.name();
        let mut errors = ValidationErrors::default();
        check_text("name", name, 1, 100, &mut errors);
        errors.into_result()?;
        if tasks::is_reserved(name) || !self.consumers.insert(name.to_owned()) {
            let message = format!("must not be `{name}`, which is the name of another consumer");
            return Err(Error::invalid("name", FieldCode::OutOfBounds, message));
        }
        self.cx.consumers.lock().insert(name.to_owned());
        self.tasks.spawn(tasks::consume(self.cx.clone(), consumer, self.stop.subscribe()));
        Ok(())
    }

    /// Lets each task finish its step, gives up its leases, so that other processes go on at once, and waits for its
    /// end. A consumer that takes longer than [`ShopConfig::lease_ttl`](crate::config::ShopConfig::lease_ttl) is
    /// dropped, and its batch is delivered again.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Background {
    /// Starts the tasks that every process runs.
    pub(crate) fn start(cx: &Arc<Context>) -> Self {
        let (stop, stopped) = Self::stop(cx);
        let tasks = tasks::all(cx, &stopped, None).into_iter().map(|task| task.map(drop)).collect();
        Self { cx: cx.clone(), stop, tasks, consumers: HashSet::new() }
    }

    /// Returns a new stop for work, which [`Self::end_all`] uses too.
    pub(crate) fn stop(cx: &Context) -> (watch::Sender<bool>, watch::Receiver<bool>) {
        let (stop, stopped) = watch::channel(false);
        let mut all = cx.background.lock();
        all.retain(|other| other.receiver_count() > 0);
        all.push(stop.clone());
        (stop, stopped)
    }

    /// Runs each task until it has no more to do or `until` completes, and gives up its lease.
    pub(crate) async fn pass(cx: &Arc<Context>, pass: Pass, until: impl Future<Output = ()> + Send) -> bool {
        let (stop, stopped) = Self::stop(cx);
        let all = futures::future::join_all(tasks::all(cx, &stopped, Some(pass)));
        let stopping = async {
            until.await;
            let _ = stop.send(true);
            std::future::pending::<()>().await;
        };
        let unfinished = tokio::select! {
            unfinished = all => unfinished.contains(&true),
            () = stopping => false,
        };
        for index in cx.indices.all() {
            if let Err(error) = index.provider.release_writer().await {
                tracing::warn!(%error, "the right to write the search index was not given up");
            }
        }
        unfinished
    }

    /// Stops all background work of this shop in this process, as [`Background::shutdown`] does, and waits for its end.
    pub(crate) async fn end_all(cx: &Context) {
        let all = std::mem::take(&mut *cx.background.lock());
        for stop in all {
            let _ = stop.send(true);
            // Every task holds a receiver for as long as it runs.
            stop.closed().await;
        }
    }
}
