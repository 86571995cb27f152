//! Writes return their last event, and a search that waits for it finds them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::ShopFixture;
use super::orders::{guest, line};
use super::support::{PATIENCE, adjustment, fields, flat, from, me, until, v};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{EventKind, OutboxPosition};
use crate::domain::search::query::SearchQuery;
use crate::error::{Error, ErrorCode, FieldCode};
use crate::id::EventId;
use crate::port::cache::NoCache;
use crate::port::search::{Checkpoint, NoSearch};
use crate::shop::Shop;
use crate::testkit::code_of;
use crate::testkit::faults::{Fault, SharedIndex, Watched};

tests! {
    __shop_read_your_writes: [
        r13_a_transaction_of_a_host_returns_its_last_event,
        r13_calls_that_share_a_commit_have_events_of_their_own,
        r13_an_event_has_a_position_as_long_as_the_log_and_after,
        a_search_that_waits_finds_the_write,
        a_search_that_waits_finds_the_write_of_another_process,
        a_search_that_waits_returns_products_as_they_are_after_the_write,
        a_search_waits_for_the_process_that_writes_a_shared_index,
        a_wait_ends_if_the_index_cannot_follow,
        a_wait_for_an_event_that_never_was_is_refused,
        an_index_ahead_of_its_database_has_not_applied_the_event,
    ]
}

/// The longest poll interval, for a process that learns of nothing by itself in a test.
const NEVER: Duration = Duration::from_secs(60);
/// How long a search waits for what must happen, which is less than [`NEVER`].
const LIMIT: Duration = Duration::from_secs(40);
/// How long a search waits for what cannot happen.
const SHORT: Duration = Duration::from_millis(30);

fn slow() -> ShopConfig {
    ShopConfig::default().poll_interval(NEVER)
}

/// Returns the sorted titles of all products that a search finds.
async fn found(shop: &Shop) -> Vec<String> {
    let query = SearchQuery { limit: 100, ..SearchQuery::default() };
    super::support::titles(shop.search().search(&query).await.unwrap().products.iter().map(|p| &***p))
}

/// Panics unless the search fails because the index is behind.
async fn is_behind(shop: &Shop, event: EventId, why: &str) {
    let error = shop.search().wait_for(event, SHORT).await.expect_err(why);
    assert!(matches!(error, Error::IndexBehind { event: named, .. } if named == event), "{why}: {error:?}");
    assert!(error.is_retryable() && error.code() == ErrorCode::Unavailable, "{why}: {error:?}");
}

impl ShopFixture {
    /// Creates a product, and returns the last event of the write.
    pub(super) async fn created(&self, title: &str) -> EventId {
        let recording = self.shop.recording();
        recording.acting_as(me()).products().create(&flat(title)).await.unwrap();
        recording.last_event().unwrap()
    }
}

/// The transaction and its `AfterCommit` return the event. The shop notes it once the `AfterCommit` runs.
pub async fn r13_a_transaction_of_a_host_returns_its_last_event(f: &ShopFixture) {
    let recording = f.shop.recording();
    let mut tx = recording.begin().await.unwrap();
    assert_eq!(tx.last_event(), None);
    let products = recording.acting_as(me()).products();
    products.create_in(&mut tx, &flat("Lamp")).await.unwrap();
    products.create_in(&mut tx, &flat("Rug")).await.unwrap();
    let last = tx.last_event();
    let after = tx.commit().await.unwrap();
    assert_eq!((after.last_event(), recording.last_event()), (last, None));
    after.run().await;
    assert_eq!(recording.clone().last_event(), last, "clones share the note");
    assert_eq!(f.log().await.last().map(|e| e.id), last);
    assert_eq!((f.shop.last_event(), recording.recording().last_event()), (None, None), "other shops do not");
    // A write that fails, and one that changes nothing, have no event.
    let recording = f.shop.recording();
    assert!(recording.products().create(&from(&json!({ "title": "", "price": 1 }))).await.is_err());
    let lamp = f.plain("Lamp two").await;
    recording.products().patch(lamp.id, v(1), from(&json!({ "title": "Lamp two" }))).await.unwrap();
    assert_eq!(recording.last_event(), None);
}

/// Orders and adjustments of stock that arrive together.
pub async fn r13_calls_that_share_a_commit_have_events_of_their_own(f: &ShopFixture) {
    let mut products = Vec::new();
    for n in 0..6 {
        products.push(f.plain(&format!("Lamp {n}")).await);
    }
    let order = |n: usize| guest(json!([line(&products[n], 1)]));
    let calls = products.iter().enumerate().map(|(n, product)| {
        let (shop, order) = (f.shop.recording(), order(n));
        async move {
            if n % 2 == 0 {
                shop.acting_as(me()).inventory().adjust(adjustment(product.skus[0].id, 1)).await.unwrap();
                (shop.last_event(), EventKind::StockChanged, product.id.0, product.id.0)
            } else {
                let placed = shop.acting_as(me()).orders().place(&order).await.unwrap();
                (shop.last_event(), EventKind::OrderPlaced, placed.id.0, product.id.0)
            }
        }
    });
    let done = futures::future::join_all(calls).await;
    let log = f.log().await;
    for (event, kind, id, product) in done {
        let at = log.iter().position(|e| Some(e.id) == event).expect("the event must be in the log");
        assert_eq!((log[at].kind, log[at].aggregate_id), (kind, id), "the event must be that of the call");
        let stock = log.iter().rposition(|e| e.kind == EventKind::StockChanged && e.aggregate_id == product);
        assert!(stock.unwrap() <= at, "the last event of an order comes after the event of its stock");
    }
    // The order is found after the answer to its commit was lost, and so is its event.
    let (shop, storage) = f.unsteady();
    let shop = shop.recording();
    storage.plan(&[Fault::AnswerLost]);
    let placed = shop.acting_as(me()).orders().place(&order(5)).await.unwrap();
    let log = f.log().await;
    let event = log.iter().find(|e| e.aggregate_id == placed.id.0 && e.kind == EventKind::OrderPlaced).unwrap();
    assert_eq!(shop.last_event(), Some(event.id));
}

/// An event that was removed is at the horizon.
pub async fn r13_an_event_has_a_position_as_long_as_the_log_and_after(f: &ShopFixture) {
    let start = f.head().await;
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(f.created(&format!("Lamp {n}")).await);
        f.clock.advance(Duration::from_secs(100));
    }
    let log = f.shop.events();
    let seq = |n| Some(OutboxPosition { seq: start.seq + n });
    for (n, event) in (1..).zip(&events) {
        assert_eq!(log.position(*event).await.unwrap(), seq(n));
    }
    let never = EventId(f.shop.ids().next());
    assert_eq!(log.position(never).await.unwrap(), None);
    let v4 = EventId(uuid::Uuid::from_u128(0x1234_0000_4000_8000_0000_0000_0000));
    assert_eq!(attempt!(f.storage, outbox.trim(f.clock.now() - chrono::TimeDelta::seconds(150))).unwrap(), 2);
    assert_eq!(log.position(events[0]).await.unwrap(), seq(2), "a removed event is at the horizon");
    assert_eq!(log.position(events[2]).await.unwrap(), seq(3));
    for never in [never, v4] {
        assert_eq!(
            log.position(never).await.unwrap(),
            None,
            "newer than the oldest event that is kept, or without time"
        );
    }
    assert_eq!(attempt!(f.storage, outbox.trim(f.clock.now())).unwrap(), 1);
    assert_eq!(log.position(events[2]).await.unwrap(), seq(3), "all events are removed");
    f.clock.advance(Duration::from_secs(1));
    let next = f.created("Lamp").await;
    assert_eq!(log.position(next).await.unwrap(), seq(4));
}

/// The process that searches also syncs the index.
pub async fn a_search_that_waits_finds_the_write(f: &ShopFixture) {
    let shop = f.another(slow(), f.cache());
    let background = shop.start();
    for n in 1..=4 {
        let recording = shop.recording();
        recording.acting_as(me()).products().create(&flat(&format!("Lamp {n}"))).await.unwrap();
        shop.search().wait_for(recording.last_event().unwrap(), LIMIT).await.unwrap();
        assert_eq!(found(&shop).await.len(), n);
        // An event that was applied long ago costs no wait.
        shop.search().wait_for(recording.last_event().unwrap(), LIMIT).await.unwrap();
    }
    background.shutdown().await;
}

/// The process would follow after its poll interval of a minute. The wait wakes it.
pub async fn a_search_that_waits_finds_the_write_of_another_process(f: &ShopFixture) {
    let shop = f.another(slow(), f.cache());
    let background = shop.start();
    let first = f.created("Lamp 0").await;
    shop.search().wait_for(first, LIMIT).await.unwrap();
    for n in 1..=3 {
        assert_eq!(found(&shop).await.len(), n, "the result is cached");
        let event = f.created(&format!("Lamp {n}")).await;
        shop.search().wait_for(event, LIMIT).await.unwrap();
        assert_eq!(found(&shop).await.len(), n + 1);
    }
    background.shutdown().await;
}

/// A product that the process has in its cache was edited by another process.
pub async fn a_search_that_waits_returns_products_as_they_are_after_the_write(f: &ShopFixture) {
    let shop = f.another(slow(), f.cache());
    let lamp = f.plain("Old").await;
    let background = shop.start();
    shop.search().wait_for(f.created("Other").await, LIMIT).await.unwrap();
    until("the background work follows the log", async || !f.caches() || shop.cx.forgotten.lock().is_some()).await;
    for n in 0..3 {
        found(&shop).await;
        shop.products().get(lamp.id).await.unwrap();
        let (recording, title) = (f.shop.recording(), format!("New {n}"));
        let read = f.shop.products().get_fresh(lamp.id, IncludeDeleted::No).await.unwrap();
        let patch = from(&json!({ "title": title }));
        recording.acting_as(me()).products().patch(lamp.id, v(read.audit.version), patch).await.unwrap();
        shop.search().wait_for(recording.last_event().unwrap(), LIMIT).await.unwrap();
        assert_eq!(found(&shop).await, [title, "Other".to_owned()]);
    }
    background.shutdown().await;
}

/// One process writes the index of a server, under its lease. Another one, which does not write it, waits for it.
pub async fn a_search_waits_for_the_process_that_writes_a_shared_index(f: &ShopFixture) {
    let writer =
        f.over(SharedIndex::over(f.search.clone()), ShopConfig::default().poll_interval(Duration::from_millis(10)));
    let reader = f.over(SharedIndex::over(f.search.clone()), slow());
    let background = writer.start();
    for n in 1..=3 {
        let event = f.created(&format!("Lamp {n}")).await;
        reader.search().wait_for(event, LIMIT).await.unwrap();
        assert_eq!(found(&reader).await.len(), n);
    }
    background.shutdown().await;
}

/// Nobody syncs the index, the index takes no changes, or the engine does not answer.
pub async fn a_wait_ends_if_the_index_cannot_follow(f: &ShopFixture) {
    let first = f.created("Lamp").await;
    is_behind(&f.shop, first, "there is no index").await;
    f.shop.index().catch_up().await.unwrap();
    f.shop.search().wait_for(first, LIMIT).await.unwrap();

    let engine = Watched::over(f.search.clone());
    engine.refuses_changes.store(true, Ordering::SeqCst);
    let shop = f.over(engine.clone(), ShopConfig::default().poll_interval(Duration::from_millis(10)));
    let background = shop.start();
    let second = f.created("Rug").await;
    is_behind(&shop, second, "the index takes no changes").await;
    shop.search().wait_for(first, LIMIT).await.unwrap();
    engine.hangs.store(true, Ordering::SeqCst);
    is_behind(&shop, first, "the engine does not answer").await;
    engine.hangs.store(false, Ordering::SeqCst);
    engine.refuses_checkpoints.store(true, Ordering::SeqCst);
    assert_eq!(code_of(shop.search().wait_for(first, LIMIT).await, "the engine is down"), ErrorCode::Unavailable);
    engine.refuses_checkpoints.store(false, Ordering::SeqCst);
    engine.refuses_changes.store(false, Ordering::SeqCst);
    shop.search().wait_for(second, PATIENCE).await.unwrap();
    assert_eq!(found(&shop).await, ["Lamp", "Rug"]);
    background.shutdown().await;

    let without = f.over(Arc::new(NoSearch), ShopConfig::default());
    assert_eq!(code_of(without.search().wait_for(first, LIMIT).await, "there is no engine"), ErrorCode::Unsupported);
}

/// The error names the field and the id. An event that was removed from the log counts as applied once the index has
/// applied what was removed.
pub async fn a_wait_for_an_event_that_never_was_is_refused(f: &ShopFixture) {
    let old = f.created("Lamp").await;
    f.clock.advance(Duration::from_secs(100));
    let refused = async |shop: &Shop| {
        let never = EventId(f.shop.ids().next());
        let error = shop.search().wait_for(never, LIMIT).await;
        if let Err(error) = &error {
            assert!(error.to_string().contains(&never.to_string()), "{error}");
        }
        let refused = fields(error, "an event that never was");
        assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("at_least".to_owned(), FieldCode::ReferenceNotFound)]);
    };
    refused(&f.shop).await;
    // The event of a write that is rolled back.
    let mut tx = f.shop.begin().await.unwrap();
    f.shop.acting_as(me()).products().create_in(&mut tx, &flat("Rug")).await.unwrap();
    let lost = tx.last_event().unwrap();
    drop(tx);
    let error = f.shop.search().wait_for(lost, LIMIT).await;
    assert_eq!(code_of(error, "an event that was rolled back"), ErrorCode::Validation);

    let kept = f.created("Rug").await;
    assert_eq!(attempt!(f.storage, outbox.trim(f.clock.now())).unwrap(), 1);
    is_behind(&f.shop, old, "the index has not applied the removed events").await;
    f.shop.index().catch_up().await.unwrap();
    for event in [old, kept] {
        f.shop.search().wait_for(event, LIMIT).await.unwrap();
    }
    let shop = f.another(ShopConfig::default(), Arc::new(NoCache));
    shop.search().wait_for(old, LIMIT).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    refused(&shop).await;
}

/// After the restore of an older database, the position of the index says nothing about its events.
pub async fn an_index_ahead_of_its_database_has_not_applied_the_event(f: &ShopFixture) {
    f.plain("Lamp").await;
    f.shop.index().catch_up().await.unwrap();
    let now = f.search.checkpoint().await.unwrap().unwrap();
    let position = OutboxPosition { seq: now.position.seq + 1_000 };
    let ahead = Checkpoint { position, ..now };
    f.search.apply(Vec::new(), Some(now), ahead).await.unwrap().unwrap();
    let event = f.created("Rug").await;
    is_behind(&f.shop, event, "the index is that of another state of the database").await;
    let elsewhere = Checkpoint { database: uuid::Uuid::from_u128(7), ..now };
    f.search.apply(Vec::new(), Some(ahead), elsewhere).await.unwrap().unwrap();
    is_behind(&f.shop, event, "the index is that of another database").await;
    f.shop.index().catch_up().await.unwrap();
    f.shop.search().wait_for(event, LIMIT).await.unwrap();
    assert_eq!(found(&f.shop).await, ["Lamp", "Rug"]);
}
