//! The metrics that are not recorded, but read at a scrape: the state of the pool, the cache, the dependencies, the
//! outbox, the index, the jobs and the webhooks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::access::principal::Principal;
use crate::domain::platform::job::{JobKind, JobState};
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::platform::webhook::Webhook;
use crate::error::{Result, WithCauses};
use crate::health::Health;
use crate::metrics::{self, Sample};
use crate::paging::Paging;
use crate::port::platform::outbox::OutboxCursor;
use crate::port::search::NoSearch;
use crate::port::storage::Connection;
use crate::service::background::tasks;
use crate::service::platform::job_queue::JobQueue;
use crate::service::platform::outbox::EventLog;
use crate::service::run::context::Context;

/// How long a consumer is still shown after its lease has ended. A consumer that fails gives up its lease after each
/// try, and the alert of its lag fires after ten minutes, so this must be longer.
const GONE_AFTER: Duration = Duration::from_secs(1_800);
/// The maximum number of webhooks that are counted by their state.
const WEBHOOKS: u32 = 1_000;
/// The maximum number of jobs of a state that are counted, so that a scrape costs little however many jobs wait.
const JOBS: u32 = 10_000;
/// The maximum number of kinds of jobs that this process does not know and that are shown by name.
const UNKNOWN_KINDS: usize = 50;
/// The states of jobs that are counted. Those of the other states are history.
const STATES: [JobState; 3] = [JobState::Queued, JobState::Running, JobState::Failed];

/// Returns the metrics that the process knows without a call of a dependency.
pub(crate) fn of_process(cx: &Context) -> Vec<Sample> {
    let (pool, cache) = (cx.storage.pool_status(), cx.cache.stats());
    let in_use = pool.size.saturating_sub(pool.idle);
    vec![
        Sample::of(metrics::DB_POOL_CONNECTIONS, &[("state", "in_use")], in_use as u64),
        Sample::of(metrics::DB_POOL_CONNECTIONS, &[("state", "idle")], pool.idle as u64),
        Sample::of(metrics::DB_POOL_MAX_CONNECTIONS, &[], pool.max as u64),
        Sample::of(metrics::DB_POOL_WAITING, &[], pool.waiting as u64),
        Sample::of(metrics::DB_STATEMENTS_TOTAL, &[], cx.storage.statements()),
        Sample::of(metrics::CACHE_HITS_TOTAL, &[], cache.hits),
        Sample::of(metrics::CACHE_MISSES_TOTAL, &[], cache.misses),
        Sample::of(metrics::CACHE_EVICTIONS_TOTAL, &[], cache.evictions),
        Sample::of(metrics::CACHE_ENTRIES, &[], cache.entries),
        Sample::of(metrics::SEARCHES_BY_FALLBACK_TOTAL, &[], cx.indices.by_fallback.load(Ordering::Relaxed)),
    ]
}

/// Returns the health of the dependencies.
pub(crate) fn of_health(health: &Health) -> Vec<Sample> {
    let mut samples = Vec::new();
    for dependency in &health.dependencies {
        let name = dependency.dependency.as_str();
        let labels = [("dependency", name), ("adapter", dependency.name)];
        samples.push(Sample::of(metrics::DEPENDENCY_UP, &labels, u64::from(dependency.up)));
        let latency = dependency.latency.as_secs_f64();
        samples.push(Sample::new(metrics::DEPENDENCY_LATENCY_SECONDS, &[("dependency", name)], latency));
    }
    samples
}

/// Returns the metrics that are read from the database and the indices, without those that cannot be read within
/// `limit`.
pub(crate) async fn of_state(cx: &Arc<Context>, limit: Duration) -> Vec<Sample> {
    let (mut samples, mut head) = (Vec::new(), None);
    match tokio::time::timeout(limit, of_database(cx, &mut samples, &mut head)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = %WithCauses(&error), "the metrics lack the state of the shop"),
        Err(_) => tracing::debug!("the metrics lack a part of the state of the shop, which took too long to read"),
    }
    if let Some(head) = head {
        match tokio::time::timeout(limit, of_indices(cx, head, &mut samples)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %WithCauses(&error), "the metrics lack the state of the index"),
            Err(_) => tracing::debug!("the metrics lack the state of the index, which took too long to read"),
        }
    }
    samples
}

/// Adds the lag of the consumers of the outbox, the jobs and the webhooks. It sets the end of the outbox first, because
/// the lag of the indices needs nothing else.
async fn of_database(cx: &Arc<Context>, samples: &mut Vec<Sample>, end: &mut Option<OutboxPosition>) -> Result<()> {
    // The events that have committed get their positions first, so that all of them count.
    let head = EventLog::new(cx, Principal::system()).head().await?;
    *end = Some(head);
    let mut db = cx.storage.connect().await?;
    let now = cx.now();
    let cursors = db.outbox().cursors().await?;
    if let Some(idle) = idle(&cursors, now) {
        samples.push(Sample::new(metrics::BACKGROUND_IDLE_SECONDS, &[], idle.as_secs_f64()));
    }
    for OutboxCursor { consumer, position, .. } in at_work(cursors, now, |name| tasks::is_consumer(cx, name)) {
        let age = age_after(&mut *db, position, head, now).await?;
        let labels = [("consumer", consumer.as_str())];
        samples.push(Sample::new(metrics::OUTBOX_LAG_SECONDS, &labels, age));
        samples.push(Sample::of(metrics::OUTBOX_LAG_EVENTS, &labels, events_after(position, head)));
    }
    let tally = db.jobs().tally_newest(&STATES, JOBS).await?;
    let known = |kind: &JobKind| JobKind::OF_SHOP.contains(kind) || cx.queues.get(kind).is_some();
    samples.extend(of_jobs(cx.queues.all().iter().map(JobQueue::kind), &tally, known));
    let webhooks = db.webhooks().list(&Paging::first(WEBHOOKS)).await?;
    samples.extend(of_webhooks(&webhooks.items));
    Ok(())
}

/// Adds the lag of the indices.
async fn of_indices(cx: &Arc<Context>, head: OutboxPosition, samples: &mut Vec<Sample>) -> Result<()> {
    for (name, index) in [("main", Some(&cx.indices.main)), ("fallback", cx.indices.fallback.as_ref())] {
        let Some(index) = index.filter(|index| index.provider.name() != NoSearch::NAME) else { continue };
        // An engine that is down is no reason to leave out the lag of the other one.
        let Ok(Some(checkpoint)) = index.checkpoint(cx.config.poll_interval).await else { continue };
        let mut db = cx.storage.connect().await?;
        let age = age_after(&mut *db, checkpoint.position, head, cx.now()).await?;
        let labels = [("index", name), ("engine", index.provider.name())];
        samples.push(Sample::new(metrics::INDEX_LAG_SECONDS, &labels, age));
        samples.push(Sample::of(metrics::INDEX_LAG_EVENTS, &labels, events_after(checkpoint.position, head)));
    }
    Ok(())
}

/// Returns how long ago the last lease of the background work has ended; 0 if one is held, and `None` if none ever was.
fn idle(cursors: &[OutboxCursor], now: Timestamp) -> Option<Duration> {
    // An import of categories on the command line takes a lease, too.
    let background = cursors.iter().filter(|cursor| cursor.consumer != tasks::IMPORT);
    let last = background.map(|cursor| cursor.lease_ends).max().filter(|end| *end > Timestamp::UNIX_EPOCH)?;
    Some((now - last).to_std().unwrap_or_default())
}

/// Returns the cursors of the consumers that are or were recently at work. Other work takes leases too, and its cursors
/// look like those of consumers that have not moved yet, so `is_consumer` tells whether a name is that of a consumer.
fn at_work(cursors: Vec<OutboxCursor>, now: Timestamp, is_consumer: impl Fn(&str) -> bool) -> Vec<OutboxCursor> {
    let has_moved = |cursor: &OutboxCursor| cursor.position != OutboxPosition::default();
    let follows = |cursor: &OutboxCursor| has_moved(cursor) || is_consumer(&cursor.consumer);
    cursors.into_iter().filter(|cursor| cursor.lease_ends > now - GONE_AFTER && follows(cursor)).collect()
}

/// Returns the age of the first event after a position, in seconds; 0 if there is none.
async fn age_after(
    db: &mut dyn Connection,
    position: OutboxPosition,
    head: OutboxPosition,
    now: Timestamp,
) -> Result<f64> {
    if position >= head {
        return Ok(0.0);
    }
    let next = db.outbox().read(position, 1).await?;
    let age = next.events.first().and_then(|(_, event)| (now - event.occurred_at).to_std().ok());
    Ok(age.unwrap_or_default().as_secs_f64())
}

/// Returns the number of events after a position.
fn events_after(position: OutboxPosition, head: OutboxPosition) -> u64 {
    u64::try_from(head.seq - position.seq.max(0)).unwrap_or_default()
}

/// Returns the jobs by kind and state. The kinds of `queues` always have all states. Of the kinds that are not `known`,
/// such as those of an older release, [`UNKNOWN_KINDS`] are shown by name, and the others share the label `other`.
fn of_jobs<'a>(
    queues: impl Iterator<Item = &'a JobKind>,
    tally: &[(JobKind, JobState, u64)],
    known: impl Fn(&JobKind) -> bool,
) -> Vec<Sample> {
    let mut jobs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for kind in queues {
        jobs.extend(STATES.map(|state| ((kind.as_str(), state.as_str()), 0)));
    }
    let unknown: BTreeSet<&JobKind> = tally.iter().map(|(kind, ..)| kind).filter(|kind| !known(kind)).collect();
    let named: BTreeSet<&JobKind> = unknown.into_iter().take(UNKNOWN_KINDS).collect();
    for (kind, state, n) in tally {
        let name = if known(kind) || named.contains(kind) { kind.as_str() } else { "other" };
        *jobs.entry((name, state.as_str())).or_default() += n;
    }
    let sample = |((kind, state), n)| Sample::of(metrics::JOBS, &[("kind", kind), ("state", state)], n);
    jobs.into_iter().map(sample).collect()
}

fn of_webhooks(webhooks: &[Webhook]) -> Vec<Sample> {
    let mut states = BTreeMap::from(["on", "failing", "switched_off", "off"].map(|state| (state, 0)));
    for webhook in webhooks {
        let state = match (webhook.enabled, webhook.off_reason) {
            (true, _) if webhook.health.failures > 0 => "failing",
            (true, _) => "on",
            (false, Some(_)) => "switched_off",
            (false, None) => "off",
        };
        *states.entry(state).or_default() += 1;
    }
    states.into_iter().map(|(state, n)| Sample::of(metrics::WEBHOOKS, &[("state", state)], n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_jobs_that_this_process_does_not_know_have_a_bounded_number_of_labels() {
        let (mail, crm) = (JobKind::MAIL, JobKind::new("crm"));
        let mut tally = vec![(crm.clone(), JobState::Queued, 1)];
        tally.extend((0..UNKNOWN_KINDS + 2).map(|n| (JobKind::new(format!("old-{n:02}")), JobState::Failed, 3)));
        let samples = of_jobs([&mail, &crm].into_iter(), &tally, |kind| [&mail, &crm].contains(&kind));
        let shown: Vec<String> = samples
            .iter()
            .map(|sample| format!("{} {} {}", sample.labels[0].1, sample.labels[1].1, sample.value))
            .collect();
        let of_queues =
            ["crm failed 0", "crm queued 1", "crm running 0", "mail failed 0", "mail queued 0", "mail running 0"];
        assert_eq!(shown[..6], of_queues);
        assert_eq!(shown[6], "old-00 failed 3");
        assert_eq!(shown[6 + UNKNOWN_KINDS..], ["other failed 6"], "the two last kinds of {}", UNKNOWN_KINDS + 2);
    }

    fn cursor(consumer: &str, seq: i64, lease_ends: Timestamp) -> OutboxCursor {
        OutboxCursor { consumer: consumer.to_owned(), position: OutboxPosition { seq }, lease_ends }
    }

    #[test]
    fn a_consumer_is_shown_while_it_works_and_also_before_it_has_moved() {
        let now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds: u64| now - Duration::from_secs(seconds);
        let cursors = vec![
            cursor("away", 7, ago(1_800)),
            cursor("crm", 7, ago(1_799)),
            cursor("new", 0, ago(3)),
            cursor("trim", 0, now + Duration::from_secs(5)),
        ];
        let shown = at_work(cursors, now, |name| name == "new");
        let names: Vec<&str> = shown.iter().map(|cursor| cursor.consumer.as_str()).collect();
        assert_eq!(names, ["crm", "new"]);
    }

    #[test]
    fn the_background_work_is_idle_since_the_end_of_its_last_lease() {
        let (never, now) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH + Duration::from_secs(1_000));
        let at = |consumer, seconds: u64| cursor(consumer, 0, never + Duration::from_secs(seconds));
        let seconds = |cursors: &[OutboxCursor]| idle(cursors, now).map(|idle| idle.as_secs());
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[at("trim", 0), at(tasks::IMPORT, 990)]), None, "nothing but an import has held a lease");
        assert_eq!(seconds(&[at("carts", 400), at("trim", 700), at(tasks::IMPORT, 990)]), Some(300));
        assert_eq!(seconds(&[at("analytics", 1_005), at("trim", 700)]), Some(0), "a lease is held");
    }

    #[test]
    fn the_lag_of_a_position_counts_events() {
        let at = |seq| OutboxPosition { seq };
        let lags = [(-1, 0), (-1, 3), (2, 5), (5, 5), (7, 5)].map(|(seq, head)| events_after(at(seq), at(head)));
        assert_eq!(lags, [0, 3, 3, 0, 0]);
    }
}
