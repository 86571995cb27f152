//! The background work of a shop: one loop for all of it, and the leases for what one process at a time does (R13).

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{BoxError, Result};
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::background::consumer::{Consumer, Follow, Invalidate};
use crate::service::run::context::Context;
use crate::service::search::index::IndexSyncService;

/// The longest wait between two tries of work whose backend is down.
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// How often old events go.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// Names that leases of the library have.
pub(crate) const RESERVED: [&str; 4] = [Invalidate::NAME, Index::NAME, Trim::NAME, IMPORT];
/// One import of categories at a time plans over the tree as it is.
pub(crate) const IMPORT: &str = "import-categories";

/// What is done again and again.
#[async_trait]
pub(crate) trait Work: Send {
    /// Does some of what there is to do; true where there may be more. With a lease, it is held at the beginning, and
    /// the call is dropped at an await once it is not.
    async fn step(&mut self, lease: Option<&mut Lease>) -> Result<bool, BoxError>;
}

/// When and where work is done.
#[derive(Debug)]
pub(crate) struct Job {
    /// For the log, and of the lease.
    name: String,
    /// Whether one process at a time does it.
    leased: bool,
    every: Duration,
    /// Whether an event of this process calls for it at once.
    woken: bool,
}

/// The index follows the log.
struct Index(Arc<Context>);

impl Index {
    const NAME: &str = "index";
}

#[async_trait]
impl Work for Index {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let report = IndexSyncService::new(&self.0).catch_up().await?;
        if report.rebuilt {
            tracing::info!(documents = report.written, "search index built");
        }
        Ok(false)
    }
}

/// Old events go.
struct Trim(Arc<Context>);

impl Trim {
    const NAME: &str = "trim";
}

#[async_trait]
impl Work for Trim {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = &self.0;
        let gone = cx.write(|mut tx| async move {
            let done = tx.outbox().trim(cx.now() - cx.config.outbox_retention).await?;
            Ok((done, tx))
        });
        let gone = gone.await?;
        tracing::debug!(gone, "old events trimmed");
        Ok(false)
    }
}

type Running = futures::future::BoxFuture<'static, ()>;

/// How often followers of the log look for events, and for a lease well before it would run out.
fn pace(cx: &Arc<Context>, leased: bool) -> Duration {
    let poll = cx.config.poll_interval;
    if leased { poll.min(cx.config.lease_ttl / 3) } else { poll }
}

/// What every process runs for a shop.
pub(crate) fn jobs(cx: &Arc<Context>, stopped: &watch::Receiver<bool>) -> Vec<Running> {
    let mut jobs: Vec<Running> = Vec::new();
    // An index that keeps its own place is this process's own.
    let leased = !cx.search.capabilities().own_checkpoint;
    let index = Job { name: Index::NAME.to_owned(), leased, every: pace(cx, leased), woken: true };
    jobs.push(Box::pin(run(cx.clone(), index, Index(cx.clone()), stopped.clone())));
    let trim = Job { name: Trim::NAME.to_owned(), leased: true, every: TRIM_EVERY, woken: false };
    jobs.push(Box::pin(run(cx.clone(), trim, Trim(cx.clone()), stopped.clone())));
    // Whoever writes here has told the cache already.
    let mut tell = |shared: bool| {
        let job = Job { name: Invalidate::NAME.to_owned(), leased: shared, every: pace(cx, shared), woken: false };
        let follow = Follow::new(cx.clone(), Arc::new(Invalidate { cx: cx.clone(), shared }));
        jobs.push(Box::pin(run(cx.clone(), job, follow, stopped.clone())));
    };
    if cx.cache.name() != "none" {
        tell(false);
    }
    if cx.cache.is_shared() {
        tell(true);
    }
    jobs
}

/// Runs a host's consumer.
pub(crate) async fn consume(cx: Arc<Context>, consumer: Arc<dyn Consumer>, stopped: watch::Receiver<bool>) {
    let job = Job { name: consumer.name().to_owned(), leased: true, every: pace(&cx, true), woken: true };
    let follow = Follow::new(cx.clone(), consumer);
    run(cx, job, follow, stopped).await;
}

/// Does the work until the stop: at once where there is more or an event calls, else at the interval; after a failure
/// later and later.
async fn run(cx: Arc<Context>, job: Job, mut work: impl Work, mut stopped: watch::Receiver<bool>) {
    let mut events = cx.events.subscribe();
    let mut turn = Turn { cx: &cx, job: &job, holder: cx.ids.next().to_string(), held: None };
    let mut backoff = job.every;
    loop {
        events.mark_unchanged();
        let did = AssertUnwindSafe(turn.step(&mut work, &stopped)).catch_unwind().await;
        let (pause, woken) = match did.unwrap_or_else(|panic| Err(said(&*panic).into())) {
            Ok(Did { here, more }) => {
                backoff = job.every;
                (if more { Duration::ZERO } else { job.every }, job.woken && here)
            }
            Err(error) => {
                tracing::warn!(work = job.name, %error, source = ?error.source(), "background work failed; it waits");
                // Maybe another process can do it.
                turn.end().await;
                backoff = (backoff * 2).min(MAX_BACKOFF.max(job.every));
                // A backend that is down is not asked again at every write.
                (cx.jitter(backoff), false)
            }
        };
        tokio::select! {
            biased;
            _ = stopped.wait_for(|s| *s) => break,
            _ = events.changed(), if woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    turn.end().await;
}

/// What a panic said, for the log.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}

/// What became of a try.
struct Did {
    /// False where another process has the lease.
    here: bool,
    more: bool,
}

/// A lease and the instant, by this machine's own count, until which it is certainly held.
pub(crate) struct Held {
    lease: Lease,
    until: Instant,
}

/// The turn of this process at a job.
struct Turn<'a> {
    cx: &'a Arc<Context>,
    job: &'a Job,
    holder: String,
    held: Option<Held>,
}

impl Turn<'_> {
    /// Does some of the work, where it is this process's turn.
    async fn step(&mut self, work: &mut impl Work, stopped: &watch::Receiver<bool>) -> Result<Did, BoxError> {
        if !self.job.leased {
            return Ok(Did { here: true, more: work.step(None).await? });
        }
        let (cx, ttl) = (self.cx, self.cx.config.lease_ttl);
        if self.held.as_ref().is_none_or(|h| Instant::now() + ttl * 2 / 3 >= h.until) {
            let asked = Instant::now();
            self.held = None;
            let lease = acquire(cx, &self.job.name, &self.holder).await?;
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

    /// Lets the next one have it. Where that fails, the lease runs out.
    async fn end(&mut self) {
        if let Some(held) = self.held.take() {
            release(self.cx, held).await;
        }
    }
}

/// The lease of this name, once nobody else has it.
pub(crate) async fn wait_for(cx: &Arc<Context>, name: &str) -> Result<Held> {
    let holder = cx.ids.next().to_string();
    let mut waits = false;
    loop {
        let asked = Instant::now();
        if let Some(lease) = acquire(cx, name, &holder).await? {
            return Ok(Held { lease, until: asked + cx.config.lease_ttl });
        }
        if !waits {
            tracing::info!(work = name, "another process is at it; this one waits");
        }
        waits = true;
        tokio::time::sleep(pace(cx, true)).await;
    }
}

/// Does what is better done alone, and lets the next one have its turn. It goes on where the lease is lost meanwhile.
pub(crate) async fn holding<T>(cx: &Arc<Context>, mut held: Held, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let lease = held.lease.clone();
    let done = tokio::select! {
        biased;
        done = &mut work => done,
        () = keep(cx, &lease, &mut held.until) => return work.await,
    };
    release(cx, held).await;
    done
}

async fn release(cx: &Arc<Context>, Held { lease, until }: Held) {
    if Instant::now() >= until {
        return;
    }
    let lease = &lease;
    let released = cx.write(|mut tx| async move {
        let done = tx.outbox().release(lease).await?;
        Ok((done, tx))
    });
    if let Ok(Err(error)) = tokio::time::timeout_at(until, released).await {
        tracing::debug!(work = lease.consumer, %error, "a lease was not released; it runs out");
    }
}

async fn acquire(cx: &Arc<Context>, name: &str, holder: &str) -> Result<Option<Lease>> {
    cx.write(|mut tx| async move {
        let done = tx.outbox().acquire(name, holder, cx.now(), cx.config.lease_ttl).await?;
        Ok((done, tx))
    })
    .await
}

/// Renews a lease for as long as it can, and returns once it is lost.
async fn keep(cx: &Arc<Context>, lease: &Lease, until: &mut Instant) {
    let ttl = cx.config.lease_ttl;
    let mut next = *until - ttl * 2 / 3;
    loop {
        tokio::time::sleep_until(next.min(*until)).await;
        let asked = Instant::now();
        // An answer that comes too late is none.
        match tokio::time::timeout_at(*until, acquire(cx, &lease.consumer, &lease.holder)).await {
            // With another fence it had run out in between, and somebody may have had it.
            Ok(Ok(Some(renewed))) if renewed.fence == lease.fence => {
                *until = asked + ttl;
                next = asked + ttl / 3;
            }
            Ok(Ok(_)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::debug!(work = lease.consumer, %error, "a lease is not renewed yet");
                next = Instant::now() + ttl / 12;
            }
        }
    }
}
