//! Consumers of events run under leases, in processes that can hang, fail or die (R13).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ShopFixture;
use super::support::{LONG, PATIENCE, adjustment, fields, me, until};
use crate::clock::Clock as _;
use crate::metrics::{self, Sample};
use crate::testkit::faults::{Failure, Recorder};

tests! {
    __shop_consumers: [
        r13_one_process_at_a_time_runs_a_shared_consumer,
        r13_a_released_lease_is_taken_over_at_once,
        r13_the_next_takes_over_from_a_holder_that_died,
        r13_a_late_holder_moves_nothing,
        r13_a_handler_whose_lease_is_lost_is_dropped,
        r13_a_lease_is_renewed_while_a_handler_works,
        r13_a_failing_handler_gets_its_batch_again_and_holds_up_nobody,
        r13_a_consumer_learns_that_it_missed_events,
        r13_a_consumer_that_began_on_an_empty_log_misses_nothing,
        r13_a_handler_that_hangs_does_not_hold_up_a_shutdown,
        r13_a_consumer_has_a_name_of_its_own,
    ]
}

/// Two processes run the same consumer while many tasks write. One of them handles every event once, in the order of
/// the log.
pub async fn r13_one_process_at_a_time_runs_a_shared_consumer(f: &ShopFixture) {
    let recorders = [Recorder::new("mail"), Recorder::new("mail")];
    let mut running = Vec::new();
    for recorder in &recorders {
        let mut background = f.process(LONG).start();
        background.consume(recorder.clone()).unwrap();
        running.push(background);
    }
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12usize {
        let (shop, sku) = (f.shop.clone(), products[task % 3].skus[0].id);
        tasks.spawn(async move {
            for _ in 0..5 {
                shop.acting_as(me()).inventory().adjust(adjustment(sku, 1)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let log = f.log().await;
    until("all events are handled", async || recorders.iter().map(|r| r.done().len()).sum::<usize>() >= log.len())
        .await;
    let [a, b] = &recorders;
    let (busy, idle) = if a.calls() > 0 { (a, b) } else { (b, a) };
    assert_eq!(busy.done(), log);
    assert_eq!(idle.calls(), 0, "only one process at a time must run the consumer");
    for background in running {
        background.shutdown().await;
    }
    assert_eq!(f.cursor("mail").await, f.head().await);
}

/// The clock does not move, so that no lease expires.
pub async fn r13_a_released_lease_is_taken_over_at_once(f: &ShopFixture) {
    let (a, b) = (Recorder::new("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first holder has handled the event", async || a.done().len() == 1).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    f.plain("B").await;
    until("the first holder continues", async || a.done().len() == 2).await;
    first.shutdown().await;
    f.plain("C").await;
    until("the second holder continues", async || b.done().len() == 1).await;
    assert_eq!([a.done(), b.done()].concat(), f.log().await, "each event must be handled once");
    second.shutdown().await;
}

/// A holder is killed in the middle of a batch. The next holder receives that batch again, and no earlier event.
pub async fn r13_the_next_takes_over_from_a_holder_that_died(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    let p = f.plain("A").await;
    a.permits.add_permits(1);
    until("the first holder has handled the event", async || a.done().len() == 1).await;
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    until("the first holder has the next batch", async || a.calls() == 2).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    drop(first);
    until("the first holder is dead", async || a.dropped.load(Ordering::SeqCst) == 1).await;
    let other = attempt!(f.storage, outbox.acquire("mail", "other", f.clock.now(), LONG)).unwrap();
    assert_eq!(other, None, "the lease of the dead holder must not be free before it expires");
    assert_eq!(b.calls(), 0);
    f.clock.advance(LONG * 2);
    let log = f.log().await;
    until("the second holder continues", async || b.done().len() >= log.len() - 1).await;
    assert_eq!(b.done(), log[1..], "the second holder must continue after the position of the first, in order");
    second.shutdown().await;
}

/// A holder finishes its batch after its lease has expired and another holder has continued.
pub async fn r13_a_late_holder_moves_nothing(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    let p = f.plain("A").await;
    until("the first holder has the batch", async || a.calls() == 1).await;
    // The handler hangs until its lease has expired.
    f.clock.advance(LONG * 2);
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    let log = f.log().await;
    until("the second holder has handled all events", async || b.done().len() >= log.len()).await;
    a.permits.add_permits(100);
    until("the first holder has ended", async || a.done().len() == 1).await;
    first.shutdown().await;
    f.adjust(p.skus[0].id, 1).await.unwrap();
    let log = f.log().await;
    until("the second holder continues", async || b.done().len() >= log.len()).await;
    second.shutdown().await;
    assert_eq!(b.done(), log, "the second holder must handle every event once, in order");
    assert_eq!(a.done(), log[..1], "the first holder must not handle further events after its lease was lost");
    assert_eq!(f.cursor("mail").await, f.head().await, "the late position of the first holder must be refused");
}

/// A handler that hangs does not continue while the next holder works.
pub async fn r13_a_handler_whose_lease_is_lost_is_dropped(f: &ShopFixture) {
    let ttl = Duration::from_secs(1);
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(ttl).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first holder has the batch", async || a.calls() == 1).await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    until("the handler is cancelled, because of another holder or of the time limit", async || {
        f.clock.advance(ttl * 2);
        a.dropped.load(Ordering::SeqCst) > 0
    })
    .await;
    until("the second holder has handled the batch", async || {
        f.clock.advance(ttl * 2);
        b.done().len() == 1
    })
    .await;
    assert_eq!(a.done(), []);
    first.shutdown().await;
    second.shutdown().await;
}

/// A handler works for longer than the time of a lease.
pub async fn r13_a_lease_is_renewed_while_a_handler_works(f: &ShopFixture) {
    let ttl = Duration::from_secs(2);
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(ttl).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the first holder has the batch", async || a.calls() == 1).await;
    let mut second = f.process(ttl).start();
    second.consume(b.clone()).unwrap();
    // The clock of the lease moves at half the speed of the machine's clock, which decides when the lease is renewed.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        f.clock.advance(Duration::from_millis(50));
    }
    assert_eq!(b.calls(), 0, "a holder that renews its lease must keep it");
    a.permits.add_permits(1);
    until("the first holder has ended", async || a.done().len() == 1).await;
    assert_eq!((a.calls(), a.dropped.load(Ordering::SeqCst)), (1, 0));
    first.shutdown().await;
    second.shutdown().await;
    assert_eq!((b.calls(), f.cursor("mail").await), (0, f.head().await));
}

/// A handler returns errors and panics. Another consumer in the same process continues meanwhile.
pub async fn r13_a_failing_handler_gets_its_batch_again_and_holds_up_nobody(f: &ShopFixture) {
    let (broken, mail) = (Recorder::held("broken"), Recorder::new("mail"));
    *broken.failures.lock() = [Failure::Error, Failure::Panic, Failure::Error].into();
    let p = f.plain("A").await;
    for _ in 0..20 {
        f.adjust(p.skus[0].id, 1).await.unwrap();
    }
    let shop = f.process(LONG);
    let mut background = shop.start();
    background.consume(broken.clone()).unwrap();
    background.consume(mail.clone()).unwrap();
    let log = f.log().await;
    until("the other consumer has handled all events", async || mail.done().len() == log.len()).await;
    until("the failing consumer has the batch", async || broken.calls() == 1).await;
    assert_eq!(broken.done(), []);
    let samples = shop.state_samples(PATIENCE).await;
    let of_broken = |sample: &&Sample| sample.labels == [("consumer", "broken".to_owned())];
    let lag = samples.iter().filter(of_broken).find(|sample| sample.metric == metrics::OUTBOX_LAG_EVENTS);
    let lag = lag.map(|sample| sample.value.to_string());
    assert_eq!(lag, Some(log.len().to_string()), "a consumer that has never moved must have a lag");
    broken.permits.add_permits(100);
    until("the failing consumer has recovered", async || broken.done().len() == log.len()).await;
    assert_eq!(broken.done(), log);
    let given = broken.given.lock().clone();
    assert_eq!(given[..4], vec![log[..7].to_vec(); 4], "the same batch must be delivered again until it is handled");
    assert_eq!(mail.done(), log);
    background.shutdown().await;
}

/// A consumer begins with future events, and it is stopped while events are removed.
pub async fn r13_a_consumer_learns_that_it_missed_events(f: &ShopFixture) {
    f.plain("Before").await;
    let run = async |recorder: &Arc<Recorder>| {
        let mut background = f.process(LONG).start();
        background.consume(recorder.clone()).unwrap();
        background
    };
    let first = Recorder::from_head("mail");
    let background = run(&first).await;
    until("the consumer has begun", async || first.missed.load(Ordering::SeqCst) == 1).await;
    until("the position of the consumer is stored", async || {
        f.plain("Later").await;
        !first.done().is_empty()
    })
    .await;
    let before = f.log().await[0].id;
    assert!(
        first.done().iter().all(|e| e.id != before),
        "a consumer that begins at the end of the log must not receive earlier events"
    );
    background.shutdown().await;

    f.clock.advance(Duration::from_secs(10));
    f.plain("While it is away").await;
    // The events get their positions in the log before they are removed.
    f.log().await;
    f.clock.advance(Duration::from_secs(10));
    attempt!(f.storage, outbox.trim(f.clock.now())).unwrap();
    f.plain("When it is back").await;
    let second = Recorder::from_head("mail");
    let background = run(&second).await;
    until("the consumer continues", async || second.done().len() == 1).await;
    assert_eq!(second.missed.load(Ordering::SeqCst), 1, "the consumer must be notified of the missed events once");
    background.shutdown().await;
    let third = Recorder::from_head("mail");
    let background = run(&third).await;
    f.plain("Nothing missed").await;
    until("the consumer continues", async || third.done().len() == 1).await;
    assert_eq!(third.missed.load(Ordering::SeqCst), 0);
    background.shutdown().await;
}

/// A consumer begins with future events while the log is empty. The next holder, which has never run before, receives
/// the events that were written since.
pub async fn r13_a_consumer_that_began_on_an_empty_log_misses_nothing(f: &ShopFixture) {
    let (a, b) = (Recorder::from_head("mail"), Recorder::from_head("mail"));
    let mut first = f.process(LONG).start();
    first.consume(a.clone()).unwrap();
    until("the consumer has begun", async || a.missed.load(Ordering::SeqCst) == 1).await;
    first.shutdown().await;
    f.plain("A").await;
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    f.plain("B").await;
    until("the next holder continues", async || b.done().len() == 2).await;
    assert_eq!(b.done(), f.log().await);
    assert_eq!((a.missed.load(Ordering::SeqCst), b.missed.load(Ordering::SeqCst)), (1, 0));
    second.shutdown().await;
}

/// The handler is cancelled, and the next holder receives its batch at once.
pub async fn r13_a_handler_that_hangs_does_not_hold_up_a_shutdown(f: &ShopFixture) {
    let (a, b) = (Recorder::held("mail"), Recorder::new("mail"));
    let mut first = f.process(Duration::from_secs(1)).start();
    first.consume(a.clone()).unwrap();
    f.plain("A").await;
    until("the holder has the batch", async || a.calls() == 1).await;
    tokio::time::timeout(PATIENCE, first.shutdown()).await.expect("the shutdown must end");
    assert_eq!((a.done(), a.dropped.load(Ordering::SeqCst)), (Vec::new(), 1));
    let mut second = f.process(LONG).start();
    second.consume(b.clone()).unwrap();
    until("the next holder has handled the batch", async || b.done().len() == 1).await;
    second.shutdown().await;
}

/// Two consumers with the same name would share a position in the log.
pub async fn r13_a_consumer_has_a_name_of_its_own(f: &ShopFixture) {
    let mut background = f.process(LONG).start();
    background.consume(Recorder::new("mail")).unwrap();
    for name in ["mail", "cache", "index", "index-of-mine", "trim", "", "two\nlines"] {
        let refused = fields(background.consume(Recorder::new(name)), name);
        assert_eq!(
            refused.keys().collect::<Vec<_>>(),
            ["name"],
            "an invalid, reserved or repeated name of a consumer must be refused: {name}"
        );
    }
    background.consume(Recorder::new("webhooks")).unwrap();
    background.shutdown().await;
}
