//! The contract of [`OutboxRepository`](crate::port::OutboxRepository).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use crate::clock::{Clock as _, Timestamp};
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::id::{EventId, IdSource as _};
use crate::port::platform::outbox::{Lease, OutboxCursor};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::fresh_seed;
use crate::testkit::sample::Env;
use crate::testkit::shop_over;

suite! {
    /// Runs the suite of [`OutboxRepository`](crate::port::OutboxRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    outbox_suite, outbox: fixture => &fixture.storage, __outbox_tests: [
        an_empty_log_has_nothing_to_read,
        every_field_survives_a_round_trip,
        events_are_read_in_order_from_any_place,
        an_event_is_found_by_its_id,
        the_head_is_where_what_is_to_come_begins,
        trim_removes_what_is_old_and_moves_the_horizon,
        a_trimmed_log_goes_on,
        r13_event_is_written_with_its_change_or_not_at_all,
        r13_a_reader_that_follows_sees_every_event_once_and_in_order,
        r13_many_readers_each_see_every_event_once_and_in_order,
        r13_an_event_that_commits_late_is_not_skipped,
        r13_what_is_rolled_back_holds_nobody_up,
        every_committed_event_gets_its_place,
        a_new_consumer_starts_at_the_beginning,
        a_lease_keeps_others_out_until_it_expires,
        the_holder_renews_its_lease,
        consumers_have_cursors_of_their_own,
        every_cursor_is_listed_with_the_end_of_its_lease,
        a_cursor_outlives_its_holder,
        a_lost_lease_moves_nothing,
        a_released_lease_is_free_at_once,
        of_many_that_ask_at_once_one_gets_the_lease,
    ]
}

const START: OutboxPosition = OutboxPosition { seq: 0 };
const TTL: Duration = Duration::from_secs(30);

async fn append(storage: &Arc<dyn Storage>, events: &[Event]) {
    attempt!(storage, outbox.append(events)).unwrap();
}

async fn read(storage: &Arc<dyn Storage>, after: OutboxPosition, limit: u32) -> Vec<(OutboxPosition, Event)> {
    let batch = shop_over(storage).events().read(after, limit).await.unwrap();
    assert_eq!(
        batch.end,
        batch.events.last().map_or(after, |(position, _)| *position),
        "`end` must be the position of the last event, or the given position if there is none"
    );
    assert_eq!(
        batch.full,
        batch.events.len() >= limit as usize,
        "`full` must be set if and only if the batch has `limit` events"
    );
    batch.events
}

async fn head(storage: &Arc<dyn Storage>) -> OutboxPosition {
    shop_over(storage).events().head().await.unwrap()
}

async fn horizon(storage: &Arc<dyn Storage>) -> OutboxPosition {
    shop_over(storage).events().bounds().await.unwrap().0
}

async fn acquire(storage: &Arc<dyn Storage>, env: &Env, consumer: &str, holder: &str) -> Option<Lease> {
    attempt!(storage, outbox.acquire(consumer, holder, env.clock.now(), TTL)).unwrap()
}

async fn advance(storage: &Arc<dyn Storage>, lease: &Lease, to: OutboxPosition) -> bool {
    attempt!(storage, outbox.advance(lease, to)).unwrap()
}

fn events(env: &Env, n: i64) -> Vec<Event> {
    let product = env.ids.next();
    (1..=n).map(|revision| env.event(EventKind::ProductUpdated, product, revision)).collect()
}

/// Reads return nothing, and no event was missed.
pub async fn an_empty_log_has_nothing_to_read(storage: &Arc<dyn Storage>) {
    assert_eq!(read(storage, START, 10).await, [], "a read of an empty log must return nothing");
    let end = head(storage).await;
    assert_eq!(read(storage, end, 10).await, [], "a read from the head of an empty log must return nothing");
    assert!(horizon(storage).await <= START, "the horizon of an empty log must be its start");
}

/// The log contains an event of every kind.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut sent: Vec<Event> = EventKind::ALL.iter().map(|kind| env.event(*kind, env.ids.next(), 3)).collect();
    sent[0].data = serde_json::Value::Null;
    sent[1].data = serde_json::json!({});
    sent[2].actor = crate::domain::common::Actor::new("Grüße 🛒".repeat(10));
    append(storage, &sent).await;
    let found = read(storage, START, 100).await;
    assert_eq!(found.len(), sent.len(), "every event that was appended is read");
    for ((_, found), sent) in found.iter().zip(&sent) {
        assert_eq!(found, sent, "an event is read with every field as it was appended");
    }
    append(storage, &[]).await;
}

/// Positions increase, reads respect their limit, and a read from a position begins after it.
pub async fn events_are_read_in_order_from_any_place(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let sent = events(&env, 250);
    for batch in sent.chunks(60) {
        append(storage, batch).await;
    }
    let all = read(storage, START, 1_000).await;
    assert_eq!(
        all.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(),
        sent,
        "events are read in the order in which they were appended"
    );
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "positions must increase");
    let (mut at, mut found) = (START, Vec::new());
    let mut pages = Pages::over(all.len());
    loop {
        pages.turn();
        let page = read(storage, at, 7).await;
        assert!(page.len() <= 7, "a batch has at most `limit` events");
        let Some(last) = page.last() else { break };
        at = last.0;
        found.extend(page);
    }
    assert_eq!(found, all, "batches that each begin after the last position must contain every event once");
    assert_eq!(
        read(storage, all[100].0, 3).await,
        all[101..104],
        "a read must begin after its position, and return at most `limit` events"
    );
}

/// The position of an event is the one at which it is read. Events that were rolled back, that never existed or that
/// were removed are not found.
pub async fn an_event_is_found_by_its_id(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    assert_eq!(read!(storage, outbox.oldest()), None, "an empty log has no oldest event");
    let old = events(&env, 3);
    append(storage, &old).await;
    let between = env.now();
    let kept = events(&env, 4);
    append(storage, &kept).await;
    let all = read(storage, START, 100).await;
    for (position, event) in &all {
        assert_eq!(read!(storage, outbox.find(event.id)), Some(*position), "an event is found at its position");
    }
    let oldest = all[0].1.occurred_at;
    assert_eq!(read!(storage, outbox.oldest()), Some(oldest), "the oldest event is the first one of the log");
    let lost = events(&env, 1);
    let mut unit = storage.begin().await.unwrap();
    unit.outbox().append(&lost).await.unwrap();
    unit.rollback().await.unwrap();
    head(storage).await;
    for never in [lost[0].id, EventId(env.ids.next())] {
        assert_eq!(read!(storage, outbox.find(never)), None, "an event that was not committed is not found");
    }
    attempt!(storage, outbox.trim(between)).unwrap();
    assert_eq!(read!(storage, outbox.find(old[2].id)), None, "an event that was removed is not found");
    assert_eq!(
        read!(storage, outbox.find(kept[0].id)),
        Some(all[3].0),
        "`trim` does not move the events that are kept"
    );
    let oldest = read!(storage, outbox.oldest());
    assert_eq!(oldest, Some(all[3].1.occurred_at), "after `trim`, the oldest event is the first one that is kept");
    assert!(oldest > Some(all[2].1.occurred_at), "removed events occurred before the oldest one that is kept");
}

/// A read from the head returns no earlier event and all later ones.
pub async fn the_head_is_where_what_is_to_come_begins(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let empty = head(storage).await;
    let old = events(&env, 3);
    append(storage, &old).await;
    assert_eq!(
        read(storage, empty, 10).await.len(),
        3,
        "a read from the head of the empty log must return the events that were appended since"
    );
    let end = head(storage).await;
    assert_eq!(read(storage, end, 10).await, [], "a read from the head of the log must return nothing");
    let new = events(&env, 2);
    append(storage, &new).await;
    let found: Vec<Event> = read(storage, end, 10).await.into_iter().map(|(_, e)| e).collect();
    assert_eq!(found, new, "a read from an earlier head must return the events that were appended since");
}

/// Events are removed by their time. A consumer whose position is before the horizon can detect this.
pub async fn trim_removes_what_is_old_and_moves_the_horizon(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 5)).await;
    let between = env.now();
    let kept = events(&env, 4);
    append(storage, &kept).await;
    let all = read(storage, START, 100).await;

    let long_ago = between - chrono::TimeDelta::days(1);
    assert_eq!(
        attempt!(storage, outbox.trim(long_ago)).unwrap(),
        0,
        "`trim` must keep events that are not older than the given time"
    );
    assert!(horizon(storage).await <= START, "the horizon must not move if no event was removed");

    assert_eq!(attempt!(storage, outbox.trim(between)).unwrap(), 5, "`trim` returns how many events it removed");
    let from = horizon(storage).await;
    assert!(from > START, "the horizon must move past the start after events were removed");
    assert!(
        from >= all[4].0 && from < all[5].0,
        "the horizon must be at the last removed event and before the oldest one that remains"
    );
    assert_eq!(
        read(storage, from, 100).await,
        all[5..],
        "`trim` must not change the remaining events or their positions"
    );
    assert_eq!(
        attempt!(storage, outbox.trim(between)).unwrap(),
        0,
        "a second `trim` with the same time must remove nothing"
    );
}

/// Sequence numbers are not reused, even if all events were removed.
pub async fn a_trimmed_log_goes_on(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 5)).await;
    let end = head(storage).await;
    assert_eq!(attempt!(storage, outbox.trim(env.now())).unwrap(), 5, "`trim` returns how many events it removed");
    assert_eq!(read(storage, START, 10).await, [], "a read must not return events that were removed");
    assert!(head(storage).await >= end, "`trim` must not move the head of the log back");
    assert!(horizon(storage).await > START, "the horizon must move past the start after all events were removed");
    assert!(horizon(storage).await <= end, "the horizon must not be behind the head of the log");
    let new = events(&env, 2);
    append(storage, &new).await;
    let found = read(storage, end, 10).await;
    assert_eq!(
        found.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(),
        new,
        "a read after `trim` must return new events"
    );
    assert!(found[0].0 > end, "the positions of new events are above those that were trimmed");
}

/// The transaction is dropped, rolled back, failed and committed.
pub async fn r13_event_is_written_with_its_change_or_not_at_all(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for (n, end) in ["drop", "rollback", "failure", "commit"].into_iter().enumerate() {
        let c = env.category(&format!("C {n}"), None);
        let event = env.event(EventKind::CategoryCreated, c.id, 1);
        let mut uow = storage.begin().await.unwrap();
        uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
        uow.outbox().append(std::slice::from_ref(&event)).await.unwrap();
        match end {
            "drop" => drop(uow),
            "rollback" => uow.rollback().await.unwrap(),
            "failure" => {
                let again = uow.categories().insert(std::slice::from_ref(&c)).await;
                assert!(again.is_err(), "an insert of a category that already exists must fail");
                drop(uow);
            }
            _ => uow.commit().await.unwrap(),
        }
        let written = read!(storage, categories.get(c.id, IncludeDeleted::Yes)).is_some();
        let told = read(storage, START, 100).await.iter().any(|(_, e)| e.id == event.id);
        assert_eq!(
            (written, told),
            (end == "commit", end == "commit"),
            "the change and its event must both be stored, or neither: (change, event) after {end}"
        );
    }
}

/// Writers that commit in any order never insert an event before the position of a reader.
pub async fn r13_a_reader_that_follows_sees_every_event_once_and_in_order(storage: &Arc<dyn Storage>) {
    follow(storage, 1).await;
}

/// Every reader assigns positions to committed events, and readers do not block each other.
pub async fn r13_many_readers_each_see_every_event_once_and_in_order(storage: &Arc<dyn Storage>) {
    follow(storage, 5).await;
}

async fn follow(storage: &Arc<dyn Storage>, readers: usize) {
    const WRITERS: u64 = 12;
    const BATCHES: i64 = 8;
    let seed = fresh_seed();
    println!("seed {seed}");
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..readers)
        .map(|n| {
            let (storage, done) = (storage.clone(), done.clone());
            tokio::spawn(async move {
                let (mut at, mut found) = (START, Vec::new());
                loop {
                    let finished = done.load(Ordering::SeqCst);
                    let page = read(&storage, at, 5 + 3 * u32::try_from(n).unwrap()).await;
                    if let Some(last) = page.last() {
                        at = last.0;
                    } else if finished {
                        return found;
                    }
                    found.extend(page);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let storage = storage.clone();
        writers.push(tokio::spawn(async move {
            let env = Env::new(seed ^ (writer + 1));
            let mut rng = StdRng::seed_from_u64(seed ^ (writer + 1));
            let (product, mut revision) = (env.ids.next(), 0);
            let mut sent = Vec::new();
            for _ in 0..BATCHES {
                let batch: Vec<Event> = (0..rng.random_range(1..4))
                    .map(|_| {
                        revision += 1;
                        env.event(EventKind::StockChanged, product, revision)
                    })
                    .collect();
                let mut uow = storage.begin().await.unwrap();
                uow.outbox().append(&batch).await.unwrap();
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
                if rng.random_bool(0.15) {
                    drop(uow);
                } else {
                    uow.commit().await.unwrap();
                    sent.extend(batch.into_iter().map(|e| e.id));
                }
            }
            sent
        }));
    }
    let mut sent = HashSet::new();
    for w in writers {
        sent.extend(w.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    let mut first: Option<Vec<(OutboxPosition, Event)>> = None;
    for reader in readers {
        let found = reader.await.unwrap();
        let ids: HashSet<_> = found.iter().map(|(_, e)| e.id).collect();
        assert_eq!(found.len(), ids.len(), "seed {seed}: a reader must not receive an event twice");
        assert_eq!(ids, sent, "seed {seed}: a reader must receive exactly the committed events");
        let mut last = HashMap::new();
        for (_, e) in &found {
            let before = last.insert(e.aggregate_id, e.revision).unwrap_or(0);
            assert!(before < e.revision, "seed {seed}: a reader must receive the events of one aggregate in order");
        }
        assert_eq!(
            first.get_or_insert_with(|| found.clone()),
            &found,
            "seed {seed}: all readers must receive the same events at the same positions"
        );
    }
}

/// A unit of work appends before others, and commits after their events were read.
pub async fn r13_an_event_that_commits_late_is_not_skipped(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let late = env.event(EventKind::ProductCreated, env.ids.next(), 1);
    let mut slow = storage.begin().await.unwrap();
    slow.outbox().append(std::slice::from_ref(&late)).await.unwrap();
    let quick = events(&env, 3);
    let mut others = tokio::spawn({
        let (storage, quick) = (storage.clone(), quick.clone());
        async move {
            for event in quick {
                append(&storage, &[event]).await;
            }
            read(&storage, START, 100).await
        }
    });
    // On a database with one writer, the others wait and come after it.
    let overtaken = tokio::time::timeout(Duration::from_secs(2), &mut others).await.ok();
    let was_overtaken = overtaken.is_some();
    slow.commit().await.unwrap();
    let mut found = match overtaken {
        Some(found) => found,
        None => others.await,
    }
    .unwrap();
    if was_overtaken {
        assert_eq!(
            found.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(),
            quick,
            "a read must return the events that have committed, without waiting for others"
        );
    }
    let at = found.last().unwrap().0;
    found.extend(read(storage, at, 100).await);
    let ids = |events: &[Event]| events.iter().map(|e| e.id).collect::<Vec<_>>();
    let found: Vec<Event> = found.into_iter().map(|(_, e)| e).collect();
    let expected = if was_overtaken { [quick, vec![late]] } else { [vec![late], quick] }.concat();
    assert_eq!(ids(&found), ids(&expected), "a reader must receive an event that commits late, and every event once");
}

/// A reader does not wait for an event that was rolled back, nor for an unfinished transaction.
pub async fn r13_what_is_rolled_back_holds_nobody_up(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut uow = storage.begin().await.unwrap();
    uow.outbox().append(&events(&env, 3)).await.unwrap();
    uow.rollback().await.unwrap();
    let kept = events(&env, 2);
    append(storage, &kept).await;
    let found: Vec<Event> = read(storage, START, 10).await.into_iter().map(|(_, e)| e).collect();
    assert_eq!(found, kept, "events of a transaction that was rolled back must neither be read nor delay others");
}

/// Any number of events receive positions, and each call respects its limit.
pub async fn every_committed_event_gets_its_place(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let sent = events(&env, 700);
    attempt!(storage, outbox.append(&sent)).unwrap();
    let placed = attempt!(storage, outbox.sequence(300)).unwrap();
    assert!(
        placed == 300 || placed == 0,
        "`sequence` must assign `limit` positions, or none if all events have one, but assigns {placed}"
    );
    assert_eq!(
        read!(storage, outbox.pending()),
        placed > 0,
        "`pending` must be true if and only if an event has no position"
    );
    let found: Vec<Event> = read(storage, START, 1_000).await.into_iter().map(|(_, e)| e).collect();
    assert_eq!(found, sent, "a read must return every committed event once");
    assert!(!read!(storage, outbox.pending()), "`pending` must be false when every event has a position");
    assert_eq!(
        attempt!(storage, outbox.sequence(300)).unwrap(),
        0,
        "`sequence` must assign a position to each event once"
    );
}

/// A new consumer has position 0.
pub async fn a_new_consumer_starts_at_the_beginning(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let lease = acquire(storage, &env, "mail", "process a").await.expect("a lease that nobody holds must be free");
    assert_eq!(
        (lease.consumer.as_str(), lease.holder.as_str()),
        ("mail", "process a"),
        "a lease names its consumer and its holder"
    );
    assert_eq!(lease.position, START, "a new consumer starts at the beginning of the log");
}

/// After its expiry, another holder can acquire the lease.
pub async fn a_lease_keeps_others_out_until_it_expires(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    assert_eq!(acquire(storage, &env, "mail", "b").await, None, "a lease that has not expired keeps others out");
    env.clock.advance(TTL / 2);
    assert_eq!(
        acquire(storage, &env, "mail", "b").await,
        None,
        "a refused `acquire` must not free the lease of the holder"
    );
    env.clock.advance(TTL);
    let b = acquire(storage, &env, "mail", "b").await.expect("an expired lease must be free for another holder");
    assert!(b.fence > a.fence, "the fence must increase with every change of the holder");
    assert_eq!(
        acquire(storage, &env, "mail", "a").await,
        None,
        "the former holder must not acquire the lease while another one holds it"
    );
}

/// A renewal keeps the fence and extends the time.
pub async fn the_holder_renews_its_lease(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = acquire(storage, &env, "mail", "a").await.unwrap();
    for _ in 0..3 {
        env.clock.advance(TTL * 2 / 3);
        let renewed = acquire(storage, &env, "mail", "a").await.expect("the holder must be able to renew its lease");
        assert_eq!(renewed.fence, first.fence, "a renewal must not change the fence");
    }
    env.clock.advance(TTL / 2);
    assert_eq!(
        acquire(storage, &env, "mail", "b").await,
        None,
        "a renewed lease must keep others out until the new expiry"
    );
}

/// Each consumer has its own lease and position.
pub async fn consumers_have_cursors_of_their_own(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let mail = acquire(storage, &env, "mail", "a").await.unwrap();
    let hooks = acquire(storage, &env, "webhooks", "b")
        .await
        .expect("the lease of one consumer must not keep another consumer out");
    assert!(advance(storage, &mail, all[2].0).await, "the holder of a lease must be able to store its position");
    assert!(advance(storage, &hooks, all[0].0).await, "the holder of another lease must be able to store its position");
    assert_eq!(
        acquire(storage, &env, "mail", "a").await.unwrap().position,
        all[2].0,
        "`acquire` must return the position that the consumer has stored"
    );
    assert_eq!(
        acquire(storage, &env, "webhooks", "b").await.unwrap().position,
        all[0].0,
        "`advance` of one consumer must not change the position of another"
    );
}

/// Cursors that have not moved are listed too, and a released lease has ended at the time of its release.
pub async fn every_cursor_is_listed_with_the_end_of_its_lease(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    assert_eq!(attempt!(storage, outbox.cursors()).unwrap(), [], "`cursors` must list no cursor that nobody has taken");
    let hooks = acquire(storage, &env, "webhooks", "b").await.unwrap();
    acquire(storage, &env, "mail", "a").await.unwrap();
    assert!(advance(storage, &hooks, all[0].0).await, "the holder of a lease must be able to store its position");
    let cursor = |consumer: &str, position: OutboxPosition, lease_ends: Timestamp| OutboxCursor {
        consumer: consumer.to_owned(),
        position,
        lease_ends,
    };
    let ends = env.clock.now() + TTL;
    let expected = [cursor("mail", START, ends), cursor("webhooks", all[0].0, ends)];
    let listed = attempt!(storage, outbox.cursors()).unwrap();
    assert_eq!(listed, expected, "`cursors` must list all cursors with their positions, sorted by name");
    env.clock.advance(TTL / 2);
    let released = env.clock.now();
    attempt!(storage, outbox.release(&hooks, released)).unwrap();
    let expected = [cursor("mail", START, ends), cursor("webhooks", all[0].0, released)];
    let listed = attempt!(storage, outbox.cursors()).unwrap();
    assert_eq!(listed, expected, "a release must keep the position, and end the lease at its time");
}

/// The next holder continues at the position of the last one.
pub async fn a_cursor_outlives_its_holder(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    assert!(advance(storage, &a, all[0].0).await, "the holder of a lease must be able to store its position");
    assert!(
        advance(storage, &a, all[1].0).await,
        "the holder of a lease must be able to store its position repeatedly"
    );
    env.clock.advance(TTL * 2);
    let b = acquire(storage, &env, "mail", "b").await.unwrap();
    assert_eq!(b.position, all[1].0, "the next holder must continue at the stored position");
    assert_eq!(
        read(storage, b.position, 10).await,
        all[2..],
        "a read from the stored position must return the events after it"
    );
}

/// A former holder is refused because of its old fence, even if it holds the lease again.
pub async fn a_lost_lease_moves_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    env.clock.advance(TTL * 2);
    let b = acquire(storage, &env, "mail", "b").await.unwrap();
    assert!(!advance(storage, &a, all[2].0).await, "`advance` must refuse a lease that another holder has taken over");
    assert!(advance(storage, &b, all[0].0).await, "the holder of a lease must be able to store its position");
    env.clock.advance(TTL * 2);
    let again = acquire(storage, &env, "mail", "a").await.unwrap();
    assert_eq!(again.position, all[0].0, "the next holder must continue at the stored position");
    assert!(again.fence > b.fence, "the fence must increase with every change of the holder");
    assert!(
        !advance(storage, &a, all[2].0).await,
        "`advance` must refuse the fence of a lost lease, even if the same holder holds the lease again"
    );
    assert!(!advance(storage, &b, all[2].0).await, "`advance` must refuse a lost lease");
    assert!(advance(storage, &again, all[1].0).await, "the holder of the lease must be able to store its position");
    let nobody = Lease { consumer: "nobody".into(), ..again };
    assert!(
        !advance(storage, &nobody, all[1].0).await,
        "`advance` must refuse a consumer whose lease was never acquired"
    );
}

/// The holder can release the lease, and a former holder cannot.
pub async fn a_released_lease_is_free_at_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let now = env.clock.now();
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    attempt!(storage, outbox.release(&a, now)).unwrap();
    let b = acquire(storage, &env, "mail", "b").await.expect("a released lease must be free at once");
    assert!(b.fence > a.fence, "the fence must increase with every change of the holder");
    attempt!(storage, outbox.release(&a, now)).unwrap();
    assert_eq!(acquire(storage, &env, "mail", "c").await, None, "`release` by a former holder must not free the lease");
    attempt!(storage, outbox.release(&b, now)).unwrap();
    let again = attempt!(storage, outbox.acquire("mail", "a", now - TTL, TTL)).unwrap();
    let again = again.expect("a released lease must be free for a process whose clock is behind");
    assert!(again.fence > b.fence, "the fence must increase with every change of the holder");
}

/// The consumer does not exist yet when the processes try to acquire its lease.
pub async fn of_many_that_ask_at_once_one_gets_the_lease(storage: &Arc<dyn Storage>) {
    let now = Env::default().now();
    let mut tasks = Vec::new();
    for n in 0..16 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            attempt!(storage, outbox.acquire("mail", &format!("process {n}"), now, TTL)).unwrap()
        }));
    }
    let mut leases = Vec::new();
    for t in tasks {
        leases.extend(t.await.unwrap());
    }
    assert_eq!(leases.len(), 1, "exactly one of many processes must acquire the lease: {leases:?}");
}
