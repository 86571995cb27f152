//! The delivery of events to webhooks. A consumer of the log ([`Enqueue`]) makes a delivery for each event and each
//! webhook that receives it, and every process attempts deliveries that are due ([`Deliver`]).
//!
//! A delivery waits while an earlier one of the same aggregate is pending: it has no time at which it is due. Whoever
//! adds a delivery, and whoever ends one, holds the lock of the webhook, so that none is added behind a delivery that
//! ends at the same moment and then waits for ever.
//!
//! An attempt has a lease of fixed length, longer than its time limit. If its process dies, before or after the answer,
//! another process attempts the delivery again once the lease has run out, with the same id of the message. A process
//! that records the result of an attempt checks that it still holds the delivery.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{Instrument as _, field};
use url::Url;
use uuid::Uuid;

use super::consumer::Consumer;
use super::work::Work;
use crate::domain::common::Actor;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::domain::platform::webhook::{
    Webhook, WebhookAttempt, WebhookDelivery, WebhookHealth, WebhookOffReason, signature,
};
use crate::error::{BoxError, Result, WithCauses};
use crate::id::{EventId, WebhookDeliveryId, WebhookId};
use crate::log_event;
use crate::metrics;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::port::webhook_sender::{WebhookMessage, WebhookSender};
use crate::service::platform::webhook::unseal;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};
use crate::trace;

/// The error of an attempt whose message cannot be signed.
const UNREADABLE_SECRET: &str = "the secret of the webhook cannot be decrypted, because the secret key of the shop has \
                                 changed: replace the secret of the webhook";

/// Makes a delivery for each event and each webhook that receives it, unless there is one already, so that an event
/// that is read again makes no second one.
#[derive(Debug)]
pub(super) struct Enqueue(pub Arc<Context>);

impl Enqueue {
    pub const NAME: &'static str = "webhook-events";
}

#[async_trait]
impl Consumer for Enqueue {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        let cx = &self.0;
        let enabled = cx.storage.connect().await?.webhooks().enabled().await?;
        let gets_some = |webhook: &&Webhook| batch.iter().any(|(_, event)| webhook.receives(event));
        let ids: Vec<WebhookId> = enabled.iter().filter(gets_some).map(|webhook| webhook.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let ids = &ids;
        let enqueue = |mut tx: Tx<'static>| async move {
            // Read again under the locks, since a webhook may have been edited meanwhile.
            let webhooks = tx.webhooks().lock_many(ids).await?;
            for webhook in webhooks {
                let events = batch.iter().filter(|(_, event)| webhook.receives(event)).collect();
                enqueue_in(cx, &mut tx, webhook.id, events).await?;
            }
            Ok(((), tx))
        };
        // A batch can have some hundred events for each of a hundred webhooks.
        Ok(cx.write_at_length(enqueue).await?)
    }
}

/// Adds the deliveries of events to a webhook that is locked, unless it has them already.
async fn enqueue_in(
    cx: &Context,
    tx: &mut Tx<'_>,
    webhook: WebhookId,
    events: Vec<&(OutboxPosition, Event)>,
) -> Result<()> {
    let ids: Vec<EventId> = events.iter().map(|(_, event)| event.id).collect();
    let known: HashSet<EventId> = tx.webhook_deliveries().known(webhook, &ids).await?.into_iter().collect();
    let aggregates: HashSet<Uuid> = events.iter().map(|(_, event)| event.aggregate_id).collect();
    let aggregates: Vec<Uuid> = aggregates.into_iter().collect();
    let pending = tx.webhook_deliveries().pending_of(webhook, &aggregates).await?;
    let mut pending: HashSet<Uuid> = pending.into_iter().collect();
    let now = cx.now();
    let mut made = Vec::new();
    for read in events.into_iter().filter(|(_, event)| !known.contains(&event.id)) {
        let waits = !pending.insert(read.1.aggregate_id);
        made.push(WebhookDelivery::of_event(WebhookDeliveryId(cx.ids.next()), webhook, read, waits, now));
    }
    if !made.is_empty() {
        tx.webhook_deliveries().insert(&made).await?;
        tx.wake();
    }
    Ok(())
}

/// Attempts deliveries that are due: those of one aggregate one after the other, and those of several webhooks side by
/// side, so that a receiver that does not answer holds up no other.
pub(super) struct Deliver {
    cx: Arc<Context>,
    sender: Arc<dyn WebhookSender>,
    stopped: watch::Receiver<bool>,
    /// Whether it runs once, in a pass.
    once: bool,
}

impl Deliver {
    pub const NAME: &'static str = "webhook-deliveries";
    /// For how long a pass begins attempts. The other work of the shop waits for the end of the pass, so that a slow
    /// receiver with many deliveries must not hold it up.
    const PASS: Duration = Duration::from_secs(10);

    pub fn new(
        cx: &Arc<Context>,
        sender: &Arc<dyn WebhookSender>,
        stopped: &watch::Receiver<bool>,
        once: bool,
    ) -> Self {
        Self { cx: cx.clone(), sender: sender.clone(), stopped: stopped.clone(), once }
    }

    /// Begins as many attempts as are due and may run at a time.
    async fn begin(&self, running: &mut Running) -> Result<()> {
        if *self.stopped.borrow() {
            return Ok(());
        }
        let cx = &self.cx;
        let due = cx.storage.connect().await?.webhooks().due(cx.now()).await?;
        for id in due {
            let busy = running.of(id);
            if busy >= Webhook::AT_ONCE {
                continue;
            }
            for claimed in claim(cx, id, busy).await? {
                let attempt = attempt(cx.clone(), self.sender.clone(), claimed);
                let task = running.tasks.spawn(attempt).id();
                running.webhooks.insert(task, id);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Work for Deliver {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let mut events = self.cx.events.subscribe();
        let mut running = Running::default();
        let start = Instant::now();
        let (mut stopped, grace) = (self.stopped.clone(), self.cx.config.lease_ttl);
        // After a stop, the attempts that run may end within this time. Those that are dropped are made again.
        let mut overdue = pin!(async move {
            let _ = stopped.wait_for(|s| *s).await;
            tokio::time::sleep(grace).await;
        });
        loop {
            events.mark_unchanged();
            let is_over = self.once && start.elapsed() >= Self::PASS;
            let begun = if is_over { Ok(()) } else { self.begin(&mut running).await };
            if running.tasks.is_empty() {
                if is_over {
                    // Asks for another pass, since deliveries may be left.
                    self.cx.events.send_replace(());
                }
                return Ok(begun.map(|()| false)?);
            }
            if let Err(error) = begun {
                tracing::warn!(error = %WithCauses(&error), "no deliveries to webhooks are begun at the moment");
            }
            let stopping = *self.stopped.borrow();
            tokio::select! {
                biased;
                Some(done) = running.tasks.join_next_with_id() => running.collect(done),
                () = &mut overdue => return Ok(false),
                _ = events.changed(), if !stopping => {}
                () = tokio::time::sleep(self.cx.config.poll_interval) => {}
            }
        }
    }
}

/// The attempts of a process that run.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    webhooks: HashMap<Id, WebhookId>,
}

impl Running {
    /// Returns how many attempts to a webhook run.
    fn of(&self, id: WebhookId) -> u32 {
        let busy = self.webhooks.values().filter(|webhook| **webhook == id).count();
        u32::try_from(busy).unwrap_or(u32::MAX)
    }

    /// Takes note of an attempt that has ended, and of all others that have.
    fn collect(&mut self, first: Result<(Id, ()), JoinError>) {
        let mut next = Some(first);
        while let Some(done) = next {
            let task = match done {
                Ok((task, ())) => task,
                // The sender of an application has panicked. The delivery is attempted again after its lease.
                Err(error) => {
                    tracing::error!(%error, "an attempt to call a webhook has panicked");
                    error.id()
                }
            };
            self.webhooks.remove(&task);
            next = self.tasks.try_join_next_with_id();
        }
    }
}

/// A delivery that this process attempts.
struct Claimed {
    webhook: Webhook,
    delivery: WebhookDelivery,
    holder: Uuid,
    /// Until when this process certainly holds the delivery, by the clock of this machine.
    until: Instant,
}

/// Returns how long a process holds a delivery that it attempts.
fn lease(cx: &Context) -> Duration {
    cx.config.webhook_timeout + cx.config.lease_ttl
}

/// Takes deliveries to a webhook that are due, of which `busy` are attempted in this process already.
async fn claim(cx: &Arc<Context>, id: WebhookId, busy: u32) -> Result<Vec<Claimed>> {
    let (holder, until) = (cx.ids.next(), Instant::now() + lease(cx));
    cx.write(|mut tx| async move {
        let now = cx.now();
        let mut claimed = Vec::new();
        let Some(webhook) = tx.webhooks().lock(id).await? else { return Ok((claimed, tx)) };
        let free = webhook.at_once(now).saturating_sub(busy);
        let due = if free == 0 { Vec::new() } else { tx.webhook_deliveries().due(id, now, free).await? };
        for before in due {
            if before.attempts >= WebhookDelivery::MAX_ATTEMPTS {
                let after = before.abandoned(now);
                tx.webhook_deliveries().update(&before, &after).await?;
                unblock(&mut tx, &after).await?;
                continue;
            }
            let delivery = before.claimed(holder, now + lease(cx), now);
            tx.webhook_deliveries().update(&before, &delivery).await?;
            claimed.push(Claimed { webhook: webhook.clone(), delivery, holder, until });
        }
        Ok((claimed, tx))
    })
    .await
}

/// Makes the next delivery of the aggregate due, after one has ended. The webhook is locked.
async fn unblock(tx: &mut Tx<'_>, ended: &WebhookDelivery) -> Result<()> {
    let next = tx.webhook_deliveries().next_of(ended.webhook_id, ended.aggregate_id).await?;
    if let Some(before) = next {
        let after = before.unblocked(ended.audit.updated_at);
        tx.webhook_deliveries().update(&before, &after).await?;
        tx.wake();
    }
    Ok(())
}

/// Sends a message and records what has become of it.
async fn attempt(cx: Arc<Context>, sender: Arc<dyn WebhookSender>, claimed: Claimed) {
    let (began, start) = (cx.now(), Instant::now());
    let mut attempt = WebhookAttempt::new(began);
    match message(&cx, &claimed) {
        Err(error) => attempt.error = Some(error.to_owned()),
        Ok(message) => {
            let limit = cx.config.webhook_timeout;
            let span = tracing::debug_span!(
                target: trace::TARGET,
                "webhook",
                otel.kind = "client",
                webhook = %claimed.webhook.id,
                delivery = %claimed.delivery.id,
                http.response.status_code = field::Empty,
            );
            let sent = tokio::time::timeout(limit, sender.send(&message)).instrument(span.clone()).await;
            match sent {
                Ok(Ok(answer)) => {
                    span.record("http.response.status_code", answer.status);
                    attempt.status = Some(answer.status);
                    attempt.response = answer.excerpt;
                    attempt.retry_after = answer.retry_after;
                }
                Ok(Err(error)) => {
                    tracing::debug!(
                        webhook = %claimed.webhook.id,
                        error = %WithCauses(&error),
                        "a webhook could not be called"
                    );
                    attempt.error = Some(error.context.to_owned());
                }
                Err(_) => attempt.error = Some(format!("the receiver did not answer within {limit:?}")),
            }
        }
    }
    attempt.duration = start.elapsed();
    measure(&attempt);
    loop {
        match record(&cx, &claimed, &attempt).await {
            Err(error) if error.is_retryable() && Instant::now() < claimed.until => {
                tracing::debug!(%error, "the result of a call of a webhook is not recorded yet");
                tokio::time::sleep(cx.config.lease_ttl / 12).await;
            }
            Err(error) => {
                let delivery = claimed.delivery.id;
                tracing::warn!(
                    %delivery,
                    error = %WithCauses(&error),
                    "the result of a call of a webhook could not be recorded; it is repeated"
                );
                return;
            }
            Ok(()) => return,
        }
    }
}

/// Records the time and the outcome of an attempt in the metrics.
fn measure(attempt: &WebhookAttempt) {
    if metrics::is_enabled() {
        let outcome = match attempt.status {
            _ if attempt.is_success() => "succeeded",
            Some(_) => "refused",
            None => "failed",
        };
        let took = metrics::histogram(metrics::WEBHOOK_ATTEMPT_DURATION_SECONDS, &[("outcome", outcome)]);
        took.record(attempt.duration.as_secs_f64());
    }
}

/// Returns the signed message of a delivery, or why there is none.
fn message(cx: &Context, claimed: &Claimed) -> Result<WebhookMessage, &'static str> {
    let (webhook, delivery) = (&claimed.webhook, &claimed.delivery);
    let url = Url::parse(&webhook.url).map_err(|_| "the URL of the webhook is not valid")?;
    let now = cx.now();
    let keys: Option<Vec<Vec<u8>>> = webhook.secrets(now).map(|sealed| unseal(cx, webhook.id, sealed)).collect();
    let keys = keys.ok_or(UNREADABLE_SECRET)?;
    let (id, timestamp) = (delivery.event_id.to_string(), now.timestamp());
    let signature = signature(&keys, &id, timestamp, &delivery.payload);
    Ok(WebhookMessage::new(url, id, timestamp, signature, delivery.payload.clone()))
}

/// Records an attempt: the state of the delivery, the next one of its aggregate, and the health of the webhook. Writes
/// nothing if another process holds the delivery by now, or if the webhook was deleted.
async fn record(cx: &Arc<Context>, claimed: &Claimed, attempt: &WebhookAttempt) -> Result<()> {
    let (id, delivery) = (claimed.webhook.id, claimed.delivery.id);
    let off = cx
        .write(|mut tx| async move {
            let now = cx.now();
            let Some(webhook) = tx.webhooks().lock(id).await? else { return Ok((None, tx)) };
            let before = tx.webhook_deliveries().lock(delivery).await?;
            let Some(before) = before.filter(|delivery| delivery.is_held_by(claimed.holder)) else {
                return Ok((None, tx));
            };
            let pause = WebhookDelivery::pause(before.attempts).map(|pause| cx.jitter(pause).max(attempt.asked()));
            let after = before.after(attempt, pause, now);
            tx.webhook_deliveries().update(&before, &after).await?;
            if !after.is_pending() {
                unblock(&mut tx, &after).await?;
            }
            let off_after = cx.config.webhook_off_after;
            let (health, reason) = webhook.after(attempt, off_after, now, |pause| cx.jitter(pause));
            note(&mut tx, &webhook, &health, reason).await?;
            Ok((reason, tx))
        })
        .await?;
    if let Some(reason) = off {
        tracing::warn!(
            target: log_event::TARGET,
            event = log_event::WEBHOOK_DISABLED,
            webhook = %id,
            reason = reason.as_str(),
            "a webhook was switched off; see its deliveries, and set `enabled` to true once its receiver works again"
        );
    }
    Ok(())
}

/// Writes the health of a webhook after an attempt, and switches it off if there is a reason.
async fn note(
    tx: &mut Tx<'_>,
    webhook: &Webhook,
    health: &WebhookHealth,
    reason: Option<WebhookOffReason>,
) -> Result<()> {
    if webhook.health != *health {
        tx.webhooks().note_health(webhook.id, health).await?;
    }
    if webhook.health.is_resting() && health.failures == 0 {
        // The receiver works again, so that nothing has to pause any more.
        let now = health.succeeded_at.unwrap_or(webhook.audit.updated_at);
        tx.webhook_deliveries().hasten(webhook.id, now).await?;
        tx.wake();
    }
    if let Some(reason) = reason {
        let now = health.failed_at.unwrap_or(webhook.audit.updated_at);
        let after = webhook.switched_off(reason, health.clone(), now);
        tx.webhooks().update(webhook, &after).await?;
        tx.emit(Change::edited(EventKind::WebhookDisabled, webhook, &after, &Actor::system())).await?;
    }
    Ok(())
}

/// Removes at most `limit` deliveries that are older than the retention time, whether they have ended or not, and
/// returns how many. Those that waited for a removed one become due.
///
/// # Errors
/// `Unavailable`.
pub(super) async fn trim(cx: &Arc<Context>, limit: u32) -> Result<u64> {
    let trimmed = cx.write_at_length(|mut tx| async move {
        let gone = tx.webhook_deliveries().trim(cx.now() - cx.config.webhook_retention, limit).await?;
        Ok((gone, tx))
    });
    let gone = trimmed.await?;
    tracing::debug!(gone, "old deliveries of webhooks removed");
    // This reads all deliveries that wait. So it holds up no write, and if there are too many for the time limit of a
    // statement, old ones are removed nevertheless.
    let orphans = match orphans(cx, limit).await {
        Ok(orphans) => orphans,
        Err(error) => {
            tracing::warn!(
                error = %WithCauses(&error),
                "deliveries to webhooks that waited for a removed one were not looked for"
            );
            return Ok(gone);
        }
    };
    let webhooks: HashSet<WebhookId> = orphans.iter().map(|orphan| orphan.webhook_id).collect();
    let webhooks: Vec<WebhookId> = webhooks.into_iter().collect();
    if webhooks.is_empty() {
        return Ok(gone);
    }
    let (webhooks, orphans) = (&webhooks, &orphans);
    let unblocked = cx.write_at_length(|mut tx| async move {
        tx.webhooks().lock_many(webhooks).await?;
        for orphan in orphans {
            // Read again under the locks, since deliveries may have ended meanwhile.
            let next = tx.webhook_deliveries().next_of(orphan.webhook_id, orphan.aggregate_id).await?;
            if let Some(before) = next {
                tx.webhook_deliveries().update(&before, &before.unblocked(cx.now())).await?;
                tx.wake();
            }
        }
        Ok(((), tx))
    });
    unblocked.await?;
    Ok(gone)
}

/// Returns at most `limit` deliveries that wait for one that was removed.
async fn orphans(cx: &Context, limit: u32) -> Result<Vec<WebhookDelivery>> {
    cx.storage.connect().await?.webhook_deliveries().orphans(limit).await
}
