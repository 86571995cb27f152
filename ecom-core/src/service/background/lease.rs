//! Leases: the right to do work that one process at a time may do.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::error::Result;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::run::context::Context;

/// Returns how often followers of the log look for events. With a lease, it is also well before the lease would run
/// out.
pub(super) fn pace(cx: &Arc<Context>, leased: bool) -> Duration {
    let poll = cx.config.poll_interval;
    if leased { poll.min(cx.config.lease_ttl / 3) } else { poll }
}

/// A lease and the instant until which it is certainly held, by the clock of this machine.
pub(crate) struct Held {
    pub(super) lease: Lease,
    pub(super) until: Instant,
}

/// Returns the lease of this name, once no other process holds it.
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

/// Does work that should run in one process at a time, and then gives up the lease. If the lease is lost meanwhile, the
/// work goes on.
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

pub(super) async fn release(cx: &Arc<Context>, Held { lease, until }: Held) {
    if Instant::now() >= until {
        return;
    }
    let lease = &lease;
    let released = cx.write(|mut tx| async move {
        tx.outbox().release(lease, cx.now()).await?;
        Ok(((), tx))
    });
    if let Ok(Err(error)) = tokio::time::timeout_at(until, released).await {
        tracing::debug!(work = lease.consumer, %error, "a lease was not released; it runs out");
    }
}

pub(super) async fn acquire(cx: &Arc<Context>, name: &str, holder: &str) -> Result<Option<Lease>> {
    cx.write(|mut tx| async move {
        let done = tx.outbox().acquire(name, holder, cx.now(), cx.config.lease_ttl).await?;
        Ok((done, tx))
    })
    .await
}

/// Renews a lease for as long as that succeeds, and returns once it is lost.
pub(super) async fn keep(cx: &Arc<Context>, lease: &Lease, until: &mut Instant) {
    // With another fence, the lease had run out in between, and another process may have held it.
    let renew = || {
        let renewed = acquire(cx, &lease.consumer, &lease.holder);
        async { Ok(renewed.await?.is_some_and(|renewed| renewed.fence == lease.fence)) }.boxed()
    };
    keep_by(renew, cx.config.lease_ttl, until).await;
}

/// Renews a right for as long as `renew` returns true, each time for `ttl`, and returns once the right is lost. `until`
/// is the instant until which it is certainly held.
pub(super) async fn keep_by<'a>(renew: impl Fn() -> BoxFuture<'a, Result<bool>>, ttl: Duration, until: &mut Instant) {
    let mut next = *until - ttl * 2 / 3;
    loop {
        tokio::time::sleep_until(next.min(*until)).await;
        let asked = Instant::now();
        // An answer that comes too late counts as none.
        match tokio::time::timeout_at(*until, renew()).await {
            Ok(Ok(true)) => {
                *until = asked + ttl;
                next = asked + ttl / 3;
            }
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a lease is not renewed yet");
                next = Instant::now() + ttl / 12;
            }
        }
    }
}
