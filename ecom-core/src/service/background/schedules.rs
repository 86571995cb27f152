//! The work that creates the jobs of schedules.

use std::sync::Arc;

use async_trait::async_trait;

use super::work::Work;
use crate::clock::Timestamp;
use crate::domain::common::Actor;
use crate::domain::platform::job::{Job, JobKind};
use crate::domain::platform::schedule::{CronLine, ScheduleState};
use crate::error::{BoxError, Result};
use crate::id::JobId;
use crate::port::platform::outbox::Lease;
use crate::port::storage::Repositories as _;
use crate::service::platform::job_queue::JobSchedule;
use crate::service::run::context::Context;
use crate::service::run::transaction::Tx;

/// Creates a job for each time of a schedule, in one process of the shop: the one that moves the state of the schedule
/// to its next time, in the transaction that inserts the job.
pub(super) struct Schedules {
    cx: Arc<Context>,
    /// The time before which no schedule is due, as far as this process knows. Other processes only move schedules to
    /// later times.
    next: Option<Timestamp>,
}

impl Schedules {
    pub fn new(cx: &Arc<Context>) -> Self {
        Self { cx: cx.clone(), next: None }
    }

    /// Writes a change of the state of a schedule, and returns the new state.
    async fn step_of(&self, kind: &JobKind, schedule: &JobSchedule, cron: &CronLine) -> Result<ScheduleState> {
        let (cx, is_first) = (&self.cx, self.next.is_none());
        let written = cx.write(|mut tx: Tx<'static>| async move {
            let now = cx.now();
            let Some(before) = tx.jobs().lock_schedule(ScheduleState::id_of(&schedule.name)).await? else {
                let new = ScheduleState::new(&schedule.name, cron, now);
                let inserted = tx.jobs().insert_schedule(&new).await;
                // Another process has inserted it meanwhile, which the next try finds.
                tx.or_next_name(inserted, |field| field == "name")?;
                return Ok((new, tx));
            };
            // Only at the start, so that processes with different lines do not change them back and forth.
            let after = if is_first && before.cron != cron.as_str() {
                before.replanned(cron, now)
            } else if before.is_due(now) {
                create(cx, &mut tx, kind, schedule, now).await?;
                before.fired(cron, now)
            } else {
                return Ok((before, tx));
            };
            tx.jobs().update_schedule(&before, &after).await?;
            Ok((after, tx))
        });
        written.await
    }
}

/// Inserts the job of a schedule, unless the one before still waits.
async fn create(cx: &Context, tx: &mut Tx<'_>, kind: &JobKind, schedule: &JobSchedule, now: Timestamp) -> Result<()> {
    let key = format!("cron:{}", schedule.name);
    if let Some(waiting) = tx.jobs().queued(kind, &key).await? {
        tracing::warn!(schedule = &*schedule.name, job = %waiting.id, "a schedule has created no job: one still waits");
        return Ok(());
    }
    let id = JobId(cx.ids.next());
    let job =
        Job { unique_key: Some(key), ..Job::new(id, kind.clone(), schedule.parameters.clone(), now, &Actor::system()) };
    let inserted = tx.jobs().insert(&job).await;
    // The application has enqueued a job with this key meanwhile, which the next try finds.
    tx.or_next_name(inserted, |field| field == "unique_key")?;
    tx.wake();
    tracing::info!(schedule = &*schedule.name, job = %id, kind = kind.as_str(), "a schedule has created a job");
    Ok(())
}

#[async_trait]
impl Work for Schedules {
    async fn step(&mut self, _: Option<&mut Lease>) -> Result<bool, BoxError> {
        let cx = &self.cx;
        let now = cx.now();
        if self.next.is_some_and(|next| now < next) {
            return Ok(false);
        }
        let states = cx.storage.connect().await?.jobs().schedules().await?;
        let mut next = Timestamp::MAX_UTC;
        for queue in cx.queues.all() {
            for schedule in &queue.schedules {
                // A shop with another line is not built.
                let Ok(cron) = &schedule.cron else { continue };
                let state = states.iter().find(|state| state.name == *schedule.name);
                let is_settled = |state: &&ScheduleState| !state.is_due(now) && state.cron == cron.as_str();
                let state = match state.filter(is_settled) {
                    Some(state) => state.clone(),
                    None => self.step_of(queue.kind(), schedule, cron).await?,
                };
                next = next.min(state.next_at);
            }
        }
        self.next = Some(next);
        Ok(false)
    }
}
