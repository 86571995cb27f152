//! The outbox: its order, its end and the leases of its consumers.

use std::time::Duration;

use ecom_core::clock::{Clock as _, ManualClock, Timestamp};
use ecom_core::common::Actor;
use ecom_core::id::*;
use ecom_core::platform::{Event, EventKind, OutboxPosition};
use ecom_core::port::*;

use crate::support::{TestResult, file, ids, raw};

fn event(at: Timestamp) -> Event {
    Event {
        id: EventId(ids().next()),
        kind: EventKind::ProductCreated,
        aggregate_id: ids().next(),
        revision: 1,
        data: serde_json::json!({"a": [1]}),
        occurred_at: at,
        actor: Actor::system(),
    }
}

#[tokio::test]
async fn r13_the_outbox_keeps_its_order_its_end_and_its_leases() -> TestResult {
    let (_dir, s) = file().await;
    let clock = ManualClock::at_micros(1_700_000_000_000_000);
    let mut tx = s.begin().await?;
    assert_eq!(tx.outbox().head().await?, OutboxPosition::default());
    assert_eq!(tx.outbox().horizon().await?, OutboxPosition::default());
    let first = event(clock.now());
    clock.advance(Duration::from_secs(1));
    let second = event(clock.now());
    tx.outbox().append(&[first.clone(), second.clone()]).await?;
    let read = tx.outbox().read(OutboxPosition::default(), 10).await?.events;
    assert_eq!(read.iter().map(|(_, e)| e.clone()).collect::<Vec<_>>(), [first, second]);
    assert_eq!(tx.outbox().head().await?, read[1].0);
    assert_eq!(tx.outbox().trim(clock.now()).await?, 1);
    assert_eq!(tx.outbox().horizon().await?, read[0].0);
    clock.advance(Duration::from_secs(1));
    assert_eq!(tx.outbox().trim(clock.now()).await?, 1);
    assert_eq!(tx.outbox().head().await?, read[1].0);
    assert_eq!(tx.outbox().horizon().await?, read[1].0);

    let ttl = Duration::from_secs(10);
    let lease = tx.outbox().acquire("index", "a", clock.now(), ttl).await?.ok_or("free")?;
    assert_eq!((lease.fence, lease.position), (1, OutboxPosition::default()));
    assert_eq!(tx.outbox().acquire("index", "b", clock.now(), ttl).await?, None);
    assert_eq!(tx.outbox().acquire("index", "a", clock.now(), ttl).await?.ok_or("ours")?.fence, 1);
    assert!(tx.outbox().advance(&lease, read[1].0).await?);
    clock.advance(Duration::from_secs(11));
    let taken = tx.outbox().acquire("index", "b", clock.now(), ttl).await?.ok_or("expired")?;
    assert_eq!((taken.fence, taken.position), (2, read[1].0));
    assert!(!tx.outbox().advance(&lease, read[0].0).await?);
    tx.commit().await?;
    Ok(())
}

#[tokio::test]
async fn r13_events_of_kinds_that_a_newer_release_writes_are_passed_over() -> TestResult {
    let (dir, s) = file().await;
    let sent: Vec<Event> = (0..6).map(|n| event(ManualClock::at_micros(1_700_000_000_000_000 + n).now())).collect();
    let mut tx = s.begin().await?;
    tx.outbox().append(&sent).await?;
    tx.commit().await?;
    // An unknown event alone, at the end of a batch, as a whole batch, and at the end of the log.
    raw(&dir, "UPDATE outbox_events SET kind = 'shipment.sent' WHERE seq IN (2, 3, 4, 6)").await?;
    let mut db = s.connect().await?;
    let (mut at, mut found, mut batches) = (OutboxPosition::default(), Vec::new(), Vec::new());
    loop {
        let batch = db.outbox().read(at, 2).await?;
        if batch.end == at {
            break;
        }
        at = batch.end;
        batches.push((batch.events.len(), at.seq, batch.full));
        found.extend(batch.events);
    }
    assert_eq!(batches, [(1, 2, true), (0, 4, true), (1, 6, true)]);
    assert_eq!(at, db.outbox().head().await?);
    let at = |seq| OutboxPosition { seq };
    assert_eq!(found, [(at(1), sent[0].clone()), (at(5), sent[4].clone())]);
    assert!(!db.outbox().read(at(5), 2).await?.full);
    Ok(())
}
