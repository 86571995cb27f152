//! The work that polls a feed and imports it if it has changed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::{Held, acquire, keep, release};
use super::tasks::said;
use super::work::Work;
use crate::domain::access::principal::Principal;
use crate::domain::catalog::feed::FeedState;
use crate::error::{BoxError, Result, WithCauses};
use crate::id::JobId;
use crate::log_event;
use crate::port::catalog::feed::{FeedContent, FeedError, Fetched};
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::catalog::feed::Feed;
use crate::service::catalog::import::{EndedEarly, ImportReport, ImportService, RecordSource, SourceRecord};
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// The longest time between two looks at the state of a feed.
const LOOK: Duration = Duration::from_secs(1);
/// The reason for which an import ends when the shop does.
const STOPPED: &str = "the shop was stopped; the next poll continues";

/// Polls one feed.
pub(super) struct Poll {
    cx: Arc<Context>,
    feed: Feed,
    who: Principal,
    /// The hash of the settings that versions belong to.
    settings: Vec<u8>,
    stopped: watch::Receiver<bool>,
}

/// The end of an import.
enum End {
    Imported,
    Stopped { done: u64 },
    Failed { error: String, done: u64 },
}

impl Poll {
    pub fn new(cx: &Arc<Context>, feed: &Feed, stopped: &watch::Receiver<bool>) -> Self {
        let (who, settings) = (feed.principal(), feed.settings());
        Self { cx: cx.clone(), feed: feed.clone(), who, settings, stopped: stopped.clone() }
    }

    /// Returns the name of the task, and of the lease under which one process at a time polls the feed.
    pub fn name(&self) -> String {
        format!("{}{}", super::tasks::FEED, self.feed.name())
    }

    /// Returns how often the task looks whether the feed is due.
    pub fn look(&self) -> Duration {
        self.cx.config.poll_interval.max((self.feed.interval() / 10).min(LOOK))
    }

    async fn state(&self) -> Result<Option<FeedState>> {
        self.cx.storage.connect().await?.feeds().get(FeedState::id_of(self.feed.name())).await
    }

    /// Writes a change of the state and returns the new one. `change` returns `None` if it is not this process's turn
    /// any more; then nothing is written.
    async fn change(&self, change: impl Fn(&FeedState) -> Option<FeedState> + Sync) -> Result<Option<FeedState>> {
        let (id, change) = (FeedState::id_of(self.feed.name()), &change);
        let write = |mut tx: Tx<'static>| async move {
            let found = tx.feeds().lock(id).await?;
            let Some((before, after)) = found.and_then(|before| change(&before).map(|after| (before, after))) else {
                return Ok((None, tx));
            };
            tx.feeds().update(&before, &after).await?;
            Ok((Some(after), tx))
        };
        self.cx.write(write).await
    }

    /// Writes the end of a poll, as [`Self::change`]. If another poll was requested since the state was `begun`, or if
    /// `again` is true, the feed is due once more.
    async fn end(
        &self,
        begun: &FeedState,
        again: bool,
        ended: impl Fn(&FeedState) -> Option<FeedState> + Sync,
    ) -> Result<Option<FeedState>> {
        let ended = |state: &FeedState| {
            let after = ended(state)?;
            Some(if again || state.was_requested_since(begun) { after.due(self.cx.now()) } else { after })
        };
        self.change(ended).await
    }

    /// Returns the state of the feed if it is due.
    async fn due(&self) -> Result<Option<FeedState>> {
        let state = match self.state().await? {
            Some(state) => state,
            None => {
                let new = &FeedState::new(self.feed.name(), self.cx.now(), self.who.actor());
                let insert = |mut tx: Tx<'static>| async move {
                    tx.feeds().insert(new).await?;
                    Ok(((), tx))
                };
                self.cx.write(insert).await?;
                new.clone()
            }
        };
        if !state.is_due(self.cx.now()) {
            return Ok(None);
        }
        if !state.running {
            return Ok(Some(state));
        }
        tracing::warn!(feed = self.feed.name(), "the process that imported a feed has died; the import is repeated");
        self.change(|state| Some(state.died(self.cx.now()))).await
    }

    /// Asks the source whether it has changed, and imports it.
    async fn poll(&self) -> Result<()> {
        let Some(state) = self.due().await? else { return Ok(()) };
        let (name, every) = (self.feed.name(), self.feed.interval());
        let fetch = AssertUnwindSafe(self.feed.source().fetch(state.known(&self.settings))).catch_unwind();
        let mut stopped = self.stopped.clone();
        let fetched = tokio::select! {
            biased;
            fetched = fetch => fetched,
            _ = stopped.wait_for(|s| *s) => return Ok(()),
        };
        let fetched = fetched.unwrap_or_else(|panic| {
            // The message of a panic may contain anything, so that only the log has it.
            tracing::error!(feed = name, error = said(&*panic), "a feed has panicked");
            Err(FeedError::new("the adapter of the source has panicked; the log of the process has the message"))
        });
        match fetched {
            Err(error) => {
                let (shown, asked) = (error.to_string(), error.retry_after);
                let failed = |before: &FeedState| Some(before.failed(&shown, before.done, asked, every, self.cx.now()));
                let after = self.end(&state, false, failed).await?;
                let next = after.map(|state| state.next_poll_at);
                tracing::warn!(
                    target: log_event::TARGET,
                    event = log_event::FEED_FAILED,
                    feed = name,
                    error = %WithCauses(&error),
                    ?next,
                    "a feed could not be read"
                );
                Ok(())
            }
            Ok(Fetched::Unchanged) => {
                self.end(&state, false, |before| Some(before.unchanged(every, self.cx.now()))).await?;
                tracing::debug!(feed = name, "a feed has not changed");
                Ok(())
            }
            Ok(Fetched::Changed(content)) => self.import(&state, content).await,
        }
    }

    /// Imports the content of the source as a job.
    async fn import(&self, state: &FeedState, content: FeedContent) -> Result<()> {
        let (kind, every) = (self.feed.kind(), self.feed.interval());
        let FeedContent { version, reader, pump } = content;
        let import = ImportService::new(&self.cx, &self.who);
        let skip = state.resumes_at(&self.settings, version.as_ref());
        let options = self.feed.make_options().skip(skip);
        let source = import.records(kind, reader, &options);
        let records = Stoppable { source, stopped: self.stopped.clone(), line: 1 };
        let planned = import.plan_job(kind, &options, Some(self.feed.name()))?;
        let held = import.begin_job(planned).await?;
        let job = held.id();
        let again = AtomicBool::new(false);
        let importing = |before: &FeedState| {
            // The source may have changed after the content was fetched.
            again.store(before.was_requested_since(state), Ordering::Relaxed);
            Some(before.importing(&self.settings, version.as_ref(), job, every, self.cx.now()))
        };
        let begun = self.change(importing).await?;
        let done = AtomicU64::new(skip);
        let progress = |report: &ImportReport| done.store(report.done, Ordering::Relaxed);
        let mut stopped = self.stopped.clone();
        let pump = async {
            if let Some(pump) = pump {
                // A thread that waits for the source then ends, and the import with it.
                tokio::select! {
                    () = pump => {}
                    _ = stopped.wait_for(|s| *s) => {}
                }
            }
            // The end of the import is what counts, also if it comes before the end of the source.
            std::future::pending::<()>().await;
        };
        let ran = tokio::select! {
            biased;
            ran = import.run_job(held, kind, Box::new(records), options, progress) => ran,
            () = pump => unreachable!("it never ends"),
            () = self.note_progress(job, &done) => unreachable!("it never ends"),
        };
        let done = done.into_inner();
        let end = match ran {
            Ok(run) => match run.report.ended_early {
                None => End::Imported,
                Some(end) if end.reason == STOPPED => End::Stopped { done },
                Some(end) => End::Failed { error: format!("the import ended early: {end}"), done },
            },
            Err(error) => End::Failed { error: format!("the import has failed: {error}"), done },
        };
        let ended = |state: &FeedState| {
            let now = self.cx.now();
            state.is_imported_by(job).then(|| match &end {
                End::Imported => state.imported(every, now),
                End::Stopped { done } => state.stopped(*done, now),
                End::Failed { error, done } => state.failed(error, *done, None, every, now),
            })
        };
        let again = again.into_inner();
        let after = self.end(begun.as_ref().unwrap_or(state), again, ended).await?;
        if let End::Failed { error, .. } = end {
            let next = after.map(|state| state.next_poll_at);
            tracing::warn!(
                target: log_event::TARGET,
                event = log_event::FEED_FAILED,
                feed = self.feed.name(),
                %job,
                error,
                ?next,
                "the import of a feed has failed"
            );
        }
        Ok(())
    }

    /// Writes from time to time how many records are done, for the process that continues if this one dies.
    async fn note_progress(&self, job: JobId, done: &AtomicU64) {
        let mut noted = done.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(self.cx.config.lease_ttl / 3).await;
            let now = done.load(Ordering::Relaxed);
            if now == noted {
                continue;
            }
            let progressed =
                |state: &FeedState| state.is_imported_by(job).then(|| state.progressed(now, self.cx.now()));
            match self.change(progressed).await {
                Ok(_) => noted = now,
                Err(error) => tracing::debug!(%error, "the progress of a feed is not noted yet"),
            }
        }
    }
}

#[async_trait]
impl Work for Poll {
    /// Polls the feed if it is due and no other process does. The lease is held for one poll, so that processes which
    /// only look write nothing.
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let (cx, ttl) = (&self.cx, self.cx.config.lease_ttl);
        if self.state().await?.is_some_and(|state| !state.is_due(cx.now())) {
            return Ok(false);
        }
        let asked = Instant::now();
        let Some(lease) = acquire(cx, &self.name(), &cx.ids.next().to_string()).await? else { return Ok(false) };
        let mut held = Held { lease: lease.clone(), until: asked + ttl };
        let mut stopped = self.stopped.clone();
        let overdue = async {
            let _ = stopped.wait_for(|s| *s).await;
            tokio::time::sleep(ttl).await;
        };
        let polled = tokio::select! {
            biased;
            polled = self.poll() => polled.map_err(BoxError::from),
            () = keep(cx, &lease, &mut held.until) => Err("its lease could not be renewed".into()),
            () = overdue => Err("it did not end in time after the stop".into()),
        };
        release(cx, held).await;
        polled.map(|()| false)
    }
}

/// A source that ends early when the shop stops.
struct Stoppable {
    source: Box<dyn RecordSource>,
    stopped: watch::Receiver<bool>,
    line: u64,
}

impl RecordSource for Stoppable {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        let next = if *self.stopped.borrow() { None } else { Some(self.source.next()) };
        match next {
            Some(Ok(record)) => {
                self.line = record.as_ref().map_or(self.line, |record| record.line);
                Ok(record)
            }
            // A stream is cut off by the stop.
            Some(Err(end)) if !*self.stopped.borrow() => Err(end),
            _ => Err(EndedEarly { reason: STOPPED.to_owned(), index: 0, line: self.line, byte: 0 }),
        }
    }
}
