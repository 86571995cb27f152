//! The background work of a shop: one loop for all tasks, and the leases of the tasks that one process at a time does
//! (R13).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Pass;
use super::analytics::{CountViews, FollowSales};
use super::feeds::Poll;
use super::lease::{Held, acquire, keep, pace, release};
use super::schedules::Schedules;
use super::webhooks::{self, Deliver, Enqueue};
use super::work::Work;
use super::worker::{self, Worker};
use crate::domain::access::principal::Principal;
use crate::domain::access::session::{LoginFailures, Session};
use crate::domain::platform::idempotency::RequestHash;
use crate::domain::platform::job::Job;
use crate::error::{BoxError, Result, WithCauses};
use crate::log_event;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::access::api_key::ApiKeyService;
use crate::service::background::consumer::{Consumer, Follow, Invalidate};
use crate::service::platform::job_queue::Runner;
use crate::service::platform::mail::Mails;
use crate::service::run::context::Context;
use crate::service::sales::cart::CartService;
use crate::service::sales::reminder::Reminders;
use crate::service::search::index::IndexSync;
use crate::service::search::state::Index;

/// The longest pause between two tries of a task whose backend is down.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// How often old events are trimmed and expired carts are removed.
const TRIM_EVERY: Duration = Duration::from_secs(600);
/// How often expired idempotency keys are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// The most idempotency keys, or rows of the search log, that one transaction removes.
const SWEPT_AT_ONCE: u32 = 1_000;

/// The work under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leased {
    /// A consumer of the log, which has its position in the row of the lease.
    Consumer,
    /// Work without a position in that row.
    Other,
}

/// The names of the library's own leases.
const OWN: [(&str, Leased); 12] = [
    (Invalidate::NAME, Leased::Consumer),
    (FollowSales::NAME, Leased::Consumer),
    (Mails::NAME, Leased::Consumer),
    (Enqueue::NAME, Leased::Consumer),
    (Follower::NAME, Leased::Other),
    (Trim::NAME, Leased::Other),
    (Sweep::NAME, Leased::Other),
    (Abandoned::NAME, Leased::Other),
    (Carts::NAME, Leased::Other),
    (Reminders::NAME, Leased::Other),
    (TrimSearches::NAME, Leased::Other),
    (IMPORT, Leased::Other),
];
/// The lease under which one import of categories at a time plans over the current tree.
pub(crate) const IMPORT: &str = "import-categories";

/// The beginning of the names of the leases under which feeds are polled.
pub(super) const FEED: &str = "feed-";

/// Returns the work under a lease of the library's own, or `None` if it has none of this name.
fn own(name: &str) -> Option<Leased> {
    OWN.iter().find(|(own, _)| *own == name).map(|(_, leased)| *leased)
}

/// Returns whether a name is one of the library's own, or may be that of an index or a feed.
pub(crate) fn is_reserved(name: &str) -> bool {
    own(name).is_some()
        || name.strip_prefix(Follower::NAME).is_some_and(|rest| rest.starts_with('-'))
        || name.starts_with(FEED)
}

/// Returns whether a lease of this name belongs to a consumer of the log: one of the library, or one that this process
/// runs. The other leases are those of work without a position.
pub(crate) fn is_consumer(cx: &Context, name: &str) -> bool {
    own(name) == Some(Leased::Consumer) || cx.consumers.lock().contains(name)
}

/// When and where a task runs.
#[derive(Debug)]
pub(crate) struct Task {
    /// The name of the task, in the log and of its lease.
    name: String,
    /// Whether one process at a time does it.
    leased: bool,
    every: Duration,
    /// Whether an event of this process starts it at once.
    woken: bool,
}

/// Syncs an index with the log. That of the main index also runs the jobs of the indices, because they need the right
/// to write it.
struct Follower {
    cx: Arc<Context>,
    is_fallback: bool,
    /// How often the index follows the log while a job runs.
    every: Duration,
    stopped: watch::Receiver<bool>,
}

impl Follower {
    /// The beginning of the names of its leases.
    const NAME: &str = "index";

    /// Returns the name of the task for an index. Processes that share the index have the same name, and those that
    /// write another one at the same time have another, as while a shop moves from one engine to the other.
    fn name(index: &Index) -> String {
        let provider = &index.provider;
        let hash = RequestHash::of([provider.identity().as_bytes()]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        format!("{}-{}-{:08x}", Self::NAME, provider.name(), u32::from_be_bytes([a, b, c, d]))
    }

    async fn follow(&self) -> Result<()> {
        let indices = &self.cx.indices;
        let index = if self.is_fallback { indices.fallback.as_ref() } else { Some(&indices.main) };
        let Some(index) = index else { return Ok(()) };
        let report = IndexSync::new(&self.cx, index).catch_up().await?;
        if report.rebuilt {
            let engine = index.provider.name();
            let (event, documents) = (log_event::INDEX_BUILT, report.written);
            tracing::info!(target: log_event::TARGET, event, documents, engine, "search index built");
        }
        Ok(())
    }

    /// Runs the jobs of the index that are due, one of each kind, and returns true if there may be more. The index
    /// follows the log meanwhile, as far as the job lets it.
    async fn run_job(&self) -> Result<bool> {
        let cx = &self.cx;
        if self.is_fallback || !worker::index_is_due(cx).await? || !cx.indices.main.provider.acquire_writer().await? {
            return Ok(false);
        }
        let over = Notify::new();
        let job = async {
            let ran = worker::run_of_index(cx, &self.stopped).await;
            over.notify_one();
            ran
        };
        let mut events = cx.events.subscribe();
        let follow = async {
            loop {
                tokio::select! {
                    () = over.notified() => break,
                    // A write of this process, or a search that waits for one.
                    _ = events.changed() => {}
                    () = tokio::time::sleep(self.every) => {}
                }
                if let Err(error) = self.follow().await {
                    tracing::debug!(%error, "the index does not follow the log while a job runs");
                }
            }
        };
        futures::join!(job, follow).0
    }
}

#[async_trait]
impl Work for Follower {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let followed = self.follow().await;
        // A rebuild may be what helps an index that cannot follow.
        let more = self.run_job().await?;
        followed?;
        Ok(more)
    }
}

/// Removes old events, jobs, deliveries of webhooks, sessions, one-time tokens, tickets, failed logins and expired API
/// keys.
struct Trim(Arc<Context>);

impl Trim {
    const NAME: &str = "trim";
}

#[async_trait]
impl Work for Trim {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = &self.0;
        let gone = cx.write_at_length(|mut tx| async move {
            let done = tx.outbox().trim(cx.now() - cx.config.outbox_retention).await?;
            Ok((done, tx))
        });
        let gone = gone.await?;
        tracing::debug!(gone, "old events removed");
        let shorter = cx.queues.all().iter().filter(|queue| queue.kept < Job::KEPT);
        let kinds = shorter.map(|queue| (Some(queue.kind()), queue.kept));
        let mut gone = 0;
        for (kind, kept) in kinds.chain([(None, Job::KEPT)]) {
            let trimmed = cx.write_at_length(|mut tx| async move {
                let done = tx.jobs().trim(kind, cx.now() - kept, SWEPT_AT_ONCE).await?;
                Ok((done, tx))
            });
            gone = trimmed.await?.max(gone);
        }
        tracing::debug!(gone, "old jobs removed");
        // Also without a sender, so that the rows from a time with one do not stay.
        gone = webhooks::trim(cx, SWEPT_AT_ONCE).await?.max(gone);
        let logins = cx.write_at_length(|mut tx| async move {
            let now = cx.now();
            let sessions = tx.sessions().trim(now - Session::KEPT, SWEPT_AT_ONCE).await?;
            let tokens = tx.sessions().trim_tokens(now, SWEPT_AT_ONCE).await?;
            let tickets = tx.sessions().trim_tickets(now, SWEPT_AT_ONCE).await?;
            let failures = tx.sessions().trim_failures(now - LoginFailures::KEPT, SWEPT_AT_ONCE).await?;
            Ok((sessions.max(tokens).max(tickets).max(failures), tx))
        });
        let most = logins.await?.max(gone);
        let more = ApiKeyService::new(cx, Principal::system()).remove_some_expired().await?;
        Ok(more || most >= u64::from(SWEPT_AT_ONCE))
    }
}

/// Removes expired idempotency keys.
struct Sweep(Arc<Context>);

impl Sweep {
    const NAME: &str = "idempotency";
}

#[async_trait]
impl Work for Sweep {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = &self.0;
        let gone = cx.write_at_length(|mut tx| async move {
            let done = tx.idempotency().sweep(cx.now(), SWEPT_AT_ONCE).await?;
            Ok((done, tx))
        });
        let gone = gone.await?;
        tracing::debug!(gone, "expired idempotency keys removed");
        Ok(gone >= u64::from(SWEPT_AT_ONCE))
    }
}

/// Ends the jobs of dead processes that no other process can run.
struct Abandoned(Arc<Context>);

impl Abandoned {
    const NAME: &str = "abandoned-jobs";
}

#[async_trait]
impl Work for Abandoned {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        worker::fail_abandoned(&self.0).await?;
        Ok(false)
    }
}

/// Removes expired carts.
struct Carts(Arc<Context>);

impl Carts {
    const NAME: &str = "carts";
}

#[async_trait]
impl Work for Carts {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let (gone, more) = CartService::new(&self.0, Principal::system()).remove_some_expired().await?;
        tracing::debug!(gone, "expired carts removed");
        Ok(more)
    }
}

/// Adds the searches that this process has counted to the search log.
struct CountSearches(Arc<Context>);

#[async_trait]
impl Work for CountSearches {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        self.0.searches.flush(&self.0).await?;
        Ok(false)
    }
}

/// Removes old days from the search log.
struct TrimSearches(Arc<Context>);

impl TrimSearches {
    const NAME: &str = "search-log";
}

#[async_trait]
impl Work for TrimSearches {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = &self.0;
        let day = cx.config.time_zone.day_of(cx.now() - cx.config.search_log_retention);
        let gone = cx.write_at_length(|mut tx| async move {
            let done = tx.search_log().trim(day, SWEPT_AT_ONCE).await?;
            Ok((done, tx))
        });
        let gone = gone.await?;
        tracing::debug!(gone, "old days of the search log removed");
        Ok(gone >= u64::from(SWEPT_AT_ONCE))
    }
}

/// A task; see [`run`].
type Running = futures::future::BoxFuture<'static, bool>;

/// The tasks of a shop, as they are collected.
struct Tasks<'a> {
    cx: &'a Arc<Context>,
    stopped: &'a watch::Receiver<bool>,
    pass: Option<Pass>,
    all: Vec<Running>,
}

impl Tasks<'_> {
    /// Adds a task, unless it is left out of the pass.
    fn add(&mut self, task: Task, work: impl Work + 'static) {
        if self.pass != Some(Pass::Events) || task.every < SWEEP_EVERY {
            self.all.push(Box::pin(run(self.cx.clone(), task, work, self.stopped.clone(), self.pass.is_some())));
        }
    }
}

/// Returns the tasks that every process runs for a shop: until the shop stops, or once in a pass.
pub(crate) fn all(cx: &Arc<Context>, stopped: &watch::Receiver<bool>, pass: Option<Pass>) -> Vec<Running> {
    let mut tasks = Tasks { cx, stopped, pass, all: Vec::new() };
    // Each index has a task of its own, so that one that is down does not hold up the other.
    for (index, is_fallback) in cx.indices.all().zip([false, true]) {
        // An index that stores its own checkpoint belongs to this process alone.
        let leased = !index.provider.capabilities().own_checkpoint;
        let every = pace(cx, leased);
        let task = Task { name: Follower::name(index), leased, every, woken: true };
        tasks.add(task, Follower { cx: cx.clone(), is_fallback, every, stopped: stopped.clone() });
    }
    let leased = |name: &str, every| Task { name: name.to_owned(), leased: true, every, woken: false };
    tasks.add(leased(Trim::NAME, TRIM_EVERY), Trim(cx.clone()));
    tasks.add(leased(Sweep::NAME, SWEEP_EVERY), Sweep(cx.clone()));
    tasks.add(leased(Abandoned::NAME, SWEEP_EVERY), Abandoned(cx.clone()));
    tasks.add(leased(Carts::NAME, TRIM_EVERY), Carts(cx.clone()));
    // Also without the log, so that the rows from a time with it do not stay.
    tasks.add(leased(TrimSearches::NAME, TRIM_EVERY), TrimSearches(cx.clone()));
    if cx.config.search_log {
        let every = cx.config.search_log_interval;
        let count = Task { name: TrimSearches::NAME.to_owned(), leased: false, every, woken: false };
        tasks.add(count, CountSearches(cx.clone()));
    }
    let every = cx.config.analytics_interval;
    // Not woken by events: the figures of a day are computed as a whole.
    tasks.add(leased(FollowSales::NAME, every), FollowSales::new(cx));
    let views = Task { name: "product-views".to_owned(), leased: false, every, woken: false };
    tasks.add(views, CountViews(cx.clone()));
    for feed in &cx.feeds {
        let poll = Poll::new(cx, feed, stopped);
        // The work takes its lease itself, because it rarely needs it.
        let task = Task { name: poll.name(), leased: false, every: poll.look(), woken: false };
        tasks.add(task, poll);
    }
    if cx.mailing.is_some() {
        let mails: Arc<dyn Consumer> = Arc::new(Mails(cx.clone()));
        tasks.add(of_consumer(cx, &*mails), Follow::new(cx.clone(), mails));
        if cx.config.abandoned_cart_after.is_some() {
            tasks.add(leased(Reminders::NAME, SWEEP_EVERY), Reminders::new(cx));
        }
    }
    if let Some(sender) = &cx.webhooks {
        let enqueue: Arc<dyn Consumer> = Arc::new(Enqueue(cx.clone()));
        tasks.add(of_consumer(cx, &*enqueue), Follow::new(cx.clone(), enqueue));
        let name = Deliver::NAME.to_owned();
        let deliver = Task { name, leased: false, every: cx.config.poll_interval, woken: true };
        tasks.add(deliver, Deliver::new(cx, sender, stopped, pass.is_some()));
    }
    if cx.queues.of(Runner::Worker).next().is_some() {
        let jobs = Task { name: "jobs".to_owned(), leased: false, every: cx.config.poll_interval, woken: true };
        tasks.add(jobs, Worker::new(cx, stopped));
    }
    if cx.queues.all().iter().any(|queue| !queue.schedules.is_empty()) {
        let every = cx.config.poll_interval;
        let schedules = Task { name: "schedules".to_owned(), leased: false, every, woken: false };
        tasks.add(schedules, Schedules::new(cx));
    }
    // The process that writes invalidates the cache itself; these tasks are for the writes of others.
    let mut tell = |shared: bool| {
        let task = Task { name: Invalidate::NAME.to_owned(), leased: shared, every: pace(cx, shared), woken: false };
        tasks.add(task, Follow::new(cx.clone(), Arc::new(Invalidate { cx: cx.clone(), shared })));
    };
    if cx.cache.name() != "none" {
        tell(false);
    }
    if cx.cache.is_shared() {
        tell(true);
    }
    tasks.all
}

/// Returns the task of a consumer that one process at a time runs.
fn of_consumer(cx: &Arc<Context>, consumer: &dyn Consumer) -> Task {
    Task { name: consumer.name().to_owned(), leased: true, every: pace(cx, true), woken: true }
}

/// Runs a consumer that one process at a time runs.
pub(crate) async fn consume(cx: Arc<Context>, consumer: Arc<dyn Consumer>, stopped: watch::Receiver<bool>) {
    let task = of_consumer(&cx, &*consumer);
    let follow = Follow::new(cx.clone(), consumer);
    run(cx, task, follow, stopped, false).await;
}

/// Runs the task until the shop stops. The next step comes at once if there is more to do or an event of this process
/// calls for it, and otherwise after the interval. After a failure the pauses grow. With `once`, it ends when there is
/// no more to do, or with the first failure, and returns true if it has failed or another process has the lease.
async fn run(
    cx: Arc<Context>,
    task: Task,
    mut work: impl Work,
    mut stopped: watch::Receiver<bool>,
    once: bool,
) -> bool {
    let mut events = cx.events.subscribe();
    let mut turn = Turn { cx: &cx, task: &task, holder: cx.ids.next().to_string(), held: None };
    let mut backoff = task.every;
    let mut unfinished;
    loop {
        events.mark_unchanged();
        let did = AssertUnwindSafe(turn.step(&mut work, &stopped)).catch_unwind().await;
        let (pause, woken) = match did.unwrap_or_else(|panic| Err(said(&*panic).into())) {
            Ok(Did { here, more }) => {
                unfinished = !here;
                backoff = task.every;
                (if more { Duration::ZERO } else { task.every }, task.woken && here)
            }
            Err(error) => {
                unfinished = true;
                backoff = (backoff * 2).min(MAX_BACKOFF.max(task.every));
                let pause = cx.jitter(backoff);
                let name = &task.name;
                if once {
                    tracing::warn!(
                        work = name,
                        error = %WithCauses(&*error),
                        "background work `{name}` failed; the next pass runs it again"
                    );
                } else {
                    tracing::warn!(
                        work = name,
                        error = %WithCauses(&*error),
                        "background work `{name}` failed; it runs again in {pause:.1?}"
                    );
                }
                // Another process may succeed.
                turn.end().await;
                // A backend that is down is not tried again at every write.
                (pause, false)
            }
        };
        if once && !pause.is_zero() {
            break;
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|s| *s) => break,
            _ = events.changed(), if woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    turn.end().await;
    unfinished
}

/// Returns the message of a panic, for the log.
pub(super) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

/// The outcome of a step.
struct Did {
    /// False if another process holds the lease.
    here: bool,
    more: bool,
}

/// The turn of this process at a task.
struct Turn<'a> {
    cx: &'a Arc<Context>,
    task: &'a Task,
    holder: String,
    held: Option<Held>,
}

impl Turn<'_> {
    /// Runs one step of the work if it is this process's turn.
    async fn step(&mut self, work: &mut impl Work, stopped: &watch::Receiver<bool>) -> Result<Did, BoxError> {
        if !self.task.leased {
            return Ok(Did { here: true, more: work.step(None).await? });
        }
        let (cx, ttl) = (self.cx, self.cx.config.lease_ttl);
        if self.held.as_ref().is_none_or(|h| Instant::now() + ttl * 2 / 3 >= h.until) {
            let asked = Instant::now();
            self.held = None;
            let lease = acquire(cx, &self.task.name, &self.holder).await?;
            self.held = lease.map(|lease| Held { lease, until: asked + ttl });
        }
        let Some(held) = &mut self.held else { return Ok(Did { here: false, more: false }) };
        let lease = held.lease.clone();
        let mut stopped = stopped.clone();
        let overdue = async {
            let _ = stopped.wait_for(|s| *s).await;
            tokio::time::sleep(ttl).await;
        };
        tokio::select! {
            biased;
            more = work.step(Some(&mut held.lease)) => Ok(Did { here: true, more: more? }),
            () = keep(cx, &lease, &mut held.until) => Err("its lease could not be renewed".into()),
            () = overdue => Err("it did not end in time after the stop".into()),
        }
    }

    /// Gives up the lease to the next process. If that fails, the lease runs out.
    async fn end(&mut self) {
        if let Some(held) = self.held.take() {
            release(self.cx, held).await;
        }
    }
}
