//! What every [`OutboxRepository`](crate::port::OutboxRepository) must do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};

use super::fresh_seed;
use super::sample::Env;
use crate::clock::Clock as _;
use crate::domain::{Deleted, Event, EventKind, OutboxPosition};
use crate::id::IdSource as _;
use crate::port::{Lease, Storage};

/// Runs the suite of [`OutboxRepository`](crate::port::OutboxRepository). Takes the path of an
/// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
#[macro_export]
macro_rules! outbox_suite {
    ($make:path) => {
        $crate::__suite! {
            outbox, fixture => &fixture.storage, $make, [
                an_empty_log_has_nothing_to_read,
                every_field_survives_a_round_trip,
                events_are_read_in_order_from_any_place,
                the_head_is_where_what_is_to_come_begins,
                trim_removes_what_is_old_and_moves_the_horizon,
                a_trimmed_log_goes_on,
                r13_event_is_written_with_its_change_or_not_at_all,
                r13_a_reader_that_follows_sees_every_event_once_and_in_order,
                a_new_consumer_starts_at_the_beginning,
                a_lease_keeps_others_out_until_it_expires,
                the_holder_renews_its_lease,
                consumers_have_cursors_of_their_own,
                a_cursor_outlives_its_holder,
                a_lost_lease_moves_nothing,
                of_many_that_ask_at_once_one_gets_the_lease,
            ]
        }
    };
}

const START: OutboxPosition = OutboxPosition { epoch: 0, seq: 0 };
const TTL: Duration = Duration::from_secs(30);

async fn append(storage: &Arc<dyn Storage>, events: &[Event]) {
    attempt!(storage, outbox.append(events)).unwrap();
}

async fn read(storage: &Arc<dyn Storage>, after: OutboxPosition, limit: u32) -> Vec<(OutboxPosition, Event)> {
    read!(storage, outbox.read(after, limit))
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

/// Nothing was missed, nothing is there.
pub async fn an_empty_log_has_nothing_to_read(storage: &Arc<dyn Storage>) {
    assert_eq!(read(storage, START, 10).await, []);
    let head = read!(storage, outbox.head());
    assert_eq!(read(storage, head, 10).await, []);
    assert!(read!(storage, outbox.horizon()) <= START, "a consumer that starts now has missed nothing");
}

/// Every kind of event.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut sent: Vec<Event> = EventKind::ALL.iter().map(|kind| env.event(*kind, env.ids.next(), 3)).collect();
    sent[0].data = serde_json::Value::Null;
    sent[1].data = serde_json::json!({});
    sent[2].actor = crate::domain::Actor::new("Grüße 🛒".repeat(10));
    append(storage, &sent).await;
    let found = read(storage, START, 100).await;
    assert_eq!(found.len(), sent.len());
    for ((_, found), sent) in found.iter().zip(&sent) {
        assert_eq!(found, sent);
    }
    append(storage, &[]).await;
}

/// Positions rise; a limit is a limit; reading on from a position goes on after it.
pub async fn events_are_read_in_order_from_any_place(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let sent = events(&env, 250);
    for batch in sent.chunks(60) {
        append(storage, batch).await;
    }
    let all = read(storage, START, 1_000).await;
    assert_eq!(all.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), sent);
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "positions rise");
    let (mut at, mut found) = (START, Vec::new());
    loop {
        let page = read(storage, at, 7).await;
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        at = last.0;
        found.extend(page);
    }
    assert_eq!(found, all);
    assert_eq!(read(storage, all[100].0, 3).await, all[101..104]);
}

/// Nothing before it is new, nothing after it is lost.
pub async fn the_head_is_where_what_is_to_come_begins(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let empty = read!(storage, outbox.head());
    let old = events(&env, 3);
    append(storage, &old).await;
    assert_eq!(read(storage, empty, 10).await.len(), 3, "what came after the head of the empty log");
    let head = read!(storage, outbox.head());
    assert_eq!(read(storage, head, 10).await, []);
    let new = events(&env, 2);
    append(storage, &new).await;
    let found: Vec<Event> = read(storage, head, 10).await.into_iter().map(|(_, e)| e).collect();
    assert_eq!(found, new);
}

/// By the time of the event; a consumer that stands before the horizon can tell.
pub async fn trim_removes_what_is_old_and_moves_the_horizon(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 5)).await;
    let between = env.now();
    let kept = events(&env, 4);
    append(storage, &kept).await;
    let all = read(storage, START, 100).await;

    let long_ago = between - chrono::TimeDelta::days(1);
    assert_eq!(attempt!(storage, outbox.trim(long_ago)).unwrap(), 0);
    assert!(read!(storage, outbox.horizon()) <= START, "nothing was removed");

    assert_eq!(attempt!(storage, outbox.trim(between)).unwrap(), 5);
    let horizon = read!(storage, outbox.horizon());
    assert!(horizon > START, "a consumer at the start has missed events");
    assert!(horizon >= all[4].0 && horizon < all[5].0, "it is before the oldest event that is kept");
    assert_eq!(read(storage, horizon, 100).await, all[5..], "positions of what is kept stay");
    assert_eq!(attempt!(storage, outbox.trim(between)).unwrap(), 0, "a second time removes nothing");
}

/// Also when it was trimmed to nothing: numbers are not used again.
pub async fn a_trimmed_log_goes_on(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 5)).await;
    let head = read!(storage, outbox.head());
    assert_eq!(attempt!(storage, outbox.trim(env.now())).unwrap(), 5);
    assert_eq!(read(storage, START, 10).await, []);
    assert!(read!(storage, outbox.head()) >= head, "the end of the log does not move back");
    assert!(read!(storage, outbox.horizon()) > START, "the events that are gone were there");
    assert!(read!(storage, outbox.horizon()) <= head, "a consumer at the head has missed nothing");
    let new = events(&env, 2);
    append(storage, &new).await;
    let found = read(storage, head, 10).await;
    assert_eq!(found.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), new);
    assert!(found[0].0 > head);
}

/// Dropped, rolled back, failed, committed.
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
                assert!(again.is_err(), "the same category twice");
                drop(uow);
            }
            _ => uow.commit().await.unwrap(),
        }
        let written = read!(storage, categories.get(c.id, Deleted::Include)).is_some();
        let told = read(storage, START, 100).await.iter().any(|(_, e)| e.id == event.id);
        assert_eq!((written, told), (end == "commit", end == "commit"), "(change, event) after {end}");
    }
}

/// Writers that commit in any order never slip an event behind a reader.
pub async fn r13_a_reader_that_follows_sees_every_event_once_and_in_order(storage: &Arc<dyn Storage>) {
    const WRITERS: u64 = 12;
    const BATCHES: i64 = 8;
    let seed = fresh_seed();
    println!("seed {seed}");
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (storage, done) = (storage.clone(), done.clone());
        async move {
            let (mut at, mut found) = (START, Vec::new());
            loop {
                let finished = done.load(Ordering::SeqCst);
                let page = read(&storage, at, 5).await;
                if let Some(last) = page.last() {
                    at = last.0;
                } else if finished {
                    return found;
                }
                found.extend(page);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let storage = storage.clone();
        writers.push(tokio::spawn(async move {
            let env = Env::new(seed ^ (writer + 1));
            let mut rng = StdRng::seed_from_u64(seed ^ (writer + 1));
            let product = env.ids.next();
            let mut sent = Vec::new();
            for revision in 1..=BATCHES {
                let event = env.event(EventKind::StockChanged, product, revision);
                let mut uow = storage.begin().await.unwrap();
                uow.outbox().append(std::slice::from_ref(&event)).await.unwrap();
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3_000))).await;
                if rng.random_bool(0.15) {
                    drop(uow);
                } else {
                    uow.commit().await.unwrap();
                    sent.push(event.id);
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
    let found = reader.await.unwrap();
    let ids: HashSet<_> = found.iter().map(|(_, e)| e.id).collect();
    assert_eq!(found.len(), ids.len(), "seed {seed}: an event was read twice");
    assert_eq!(ids, sent, "seed {seed}: an event was skipped, or one that was never committed was read");
    let mut last = HashMap::new();
    for (_, e) in &found {
        let before = last.insert(e.aggregate_id, e.revision).unwrap_or(0);
        assert!(before < e.revision, "seed {seed}: events of one aggregate come in order");
    }
}

/// At position 0.
pub async fn a_new_consumer_starts_at_the_beginning(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let lease = acquire(storage, &env, "mail", "process a").await.expect("nobody holds it");
    assert_eq!((lease.consumer.as_str(), lease.holder.as_str()), ("mail", "process a"));
    assert_eq!(lease.position, START);
}

/// And not longer.
pub async fn a_lease_keeps_others_out_until_it_expires(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    assert_eq!(acquire(storage, &env, "mail", "b").await, None);
    env.clock.advance(TTL / 2);
    assert_eq!(acquire(storage, &env, "mail", "b").await, None);
    env.clock.advance(TTL);
    let b = acquire(storage, &env, "mail", "b").await.expect("it has expired");
    assert!(b.fence > a.fence, "the fence grows with every change of holder");
    assert_eq!(acquire(storage, &env, "mail", "a").await, None, "now b holds it");
}

/// The fence stays, the time runs anew.
pub async fn the_holder_renews_its_lease(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let first = acquire(storage, &env, "mail", "a").await.unwrap();
    for _ in 0..3 {
        env.clock.advance(TTL * 2 / 3);
        let renewed = acquire(storage, &env, "mail", "a").await.expect("its own lease");
        assert_eq!(renewed.fence, first.fence, "the holder has not changed");
    }
    env.clock.advance(TTL / 2);
    assert_eq!(acquire(storage, &env, "mail", "b").await, None, "it was renewed");
}

/// A lease and a position each.
pub async fn consumers_have_cursors_of_their_own(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let mail = acquire(storage, &env, "mail", "a").await.unwrap();
    let hooks = acquire(storage, &env, "webhooks", "b").await.expect("another consumer's cursor is free");
    assert!(advance(storage, &mail, all[2].0).await);
    assert!(advance(storage, &hooks, all[0].0).await);
    assert_eq!(acquire(storage, &env, "mail", "a").await.unwrap().position, all[2].0);
    assert_eq!(acquire(storage, &env, "webhooks", "b").await.unwrap().position, all[0].0);
}

/// The next one goes on where the last one stood.
pub async fn a_cursor_outlives_its_holder(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    assert!(advance(storage, &a, all[0].0).await);
    assert!(advance(storage, &a, all[1].0).await, "a lease moves its cursor as often as it likes");
    env.clock.advance(TTL * 2);
    let b = acquire(storage, &env, "mail", "b").await.unwrap();
    assert_eq!(b.position, all[1].0);
    assert_eq!(read(storage, b.position, 10).await, all[2..]);
}

/// A late old holder is refused by its fence, even once it holds the lease again.
pub async fn a_lost_lease_moves_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    append(storage, &events(&env, 3)).await;
    let all = read(storage, START, 10).await;
    let a = acquire(storage, &env, "mail", "a").await.unwrap();
    env.clock.advance(TTL * 2);
    let b = acquire(storage, &env, "mail", "b").await.unwrap();
    assert!(!advance(storage, &a, all[2].0).await, "b holds it");
    assert!(advance(storage, &b, all[0].0).await);
    env.clock.advance(TTL * 2);
    let again = acquire(storage, &env, "mail", "a").await.unwrap();
    assert_eq!(again.position, all[0].0);
    assert!(again.fence > b.fence);
    assert!(!advance(storage, &a, all[2].0).await, "the same holder with the fence of its lost lease");
    assert!(!advance(storage, &b, all[2].0).await);
    assert!(advance(storage, &again, all[1].0).await);
    let nobody = Lease { consumer: "nobody".into(), ..again };
    assert!(!advance(storage, &nobody, all[1].0).await, "a cursor that was never taken");
}

/// Also when the consumer is new to all of them.
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
    assert_eq!(leases.len(), 1, "{leases:?}");
}
