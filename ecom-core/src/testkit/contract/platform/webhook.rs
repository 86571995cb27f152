//! The contract of [`WebhookRepository`](crate::port::WebhookRepository) and
//! [`WebhookDeliveryRepository`](crate::port::WebhookDeliveryRepository).

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::common::{Actor, Audit};
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::webhook::{
    PreviousSecret, SealedSecret, Webhook, WebhookAttempt, WebhookDelivery, WebhookDeliveryFilter,
    WebhookDeliveryState, WebhookHealth, WebhookOffReason,
};
use crate::error::ErrorCode;
use crate::id::{EventId, WebhookDeliveryId, WebhookId};
use crate::paging::Paging;
use crate::port::storage::Storage;
use crate::testkit::check::same;
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`WebhookRepository`](crate::port::WebhookRepository) and
    /// [`WebhookDeliveryRepository`](crate::port::WebhookDeliveryRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    webhook_suite, webhook: fixture => &fixture.storage, __webhook_tests: [
        a_webhook_is_stored_whole,
        a_delivery_is_stored_whole,
        r01_rows_of_another_version_are_not_overwritten,
        a_webhook_is_due_with_a_delivery_unless_it_is_off_or_rests,
        the_next_delivery_of_an_aggregate_is_found_once_none_is_due,
        deliveries_are_listed_by_every_filter,
        old_deliveries_and_those_of_a_deleted_webhook_are_removed,
    ]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_timestamp(1_700_000_000 + second, 123_456_000).unwrap()
}

fn webhook(n: u128) -> Webhook {
    Webhook {
        id: WebhookId(Uuid::from_u128(n)),
        url: "https://example.com/hooks".to_owned(),
        description: None,
        events: vec![EventKind::OrderPlaced],
        enabled: true,
        off_reason: None,
        secret: SealedSecret(vec![0; 25]),
        previous_secrets: Vec::new(),
        health: WebhookHealth::default(),
        audit: Audit::created(at(0), &Actor::system()),
    }
}

/// Returns a pending delivery to a webhook, with the position `n` in the log.
fn delivery(n: u128, webhook: &Webhook, aggregate: u128, due_at: Option<Timestamp>) -> WebhookDelivery {
    let (id, event) = (WebhookDeliveryId(Uuid::from_u128(n)), EventId(Uuid::from_u128(n)));
    WebhookDelivery {
        kind: "order.placed".to_owned(),
        aggregate_id: Uuid::from_u128(aggregate),
        seq: i64::try_from(n).unwrap(),
        due_at,
        ..WebhookDelivery::test(id, webhook.id, event, at(0), &Actor::system())
    }
}

async fn insert(storage: &Arc<dyn Storage>, webhook: &Webhook) {
    attempt!(storage, webhooks.insert(webhook)).unwrap();
}

async fn add(storage: &Arc<dyn Storage>, deliveries: &[WebhookDelivery]) {
    attempt!(storage, webhook_deliveries.insert(deliveries)).unwrap();
}

async fn update(storage: &Arc<dyn Storage>, before: &WebhookDelivery, after: &WebhookDelivery) {
    attempt!(storage, webhook_deliveries.update(before, after)).unwrap();
}

/// Stores the longest texts, and every field with and without a value.
pub async fn a_webhook_is_stored_whole(storage: &Arc<dyn Storage>) {
    let contract = "A webhook is read as it was written.";
    let before = webhook(1);
    same(read!(storage, webhooks.get(before.id)), None, contract, "before the insert");
    insert(storage, &before).await;
    same(read!(storage, webhooks.get(before.id)), Some(before.clone()), contract, "`get`");
    let mut after = Webhook {
        url: format!("https://example.com/{}", "a".repeat(Webhook::MAX_URL - 20)),
        description: Some("ä".repeat(255)),
        events: EventKind::ALL.to_vec(),
        enabled: false,
        off_reason: Some(WebhookOffReason::Failing),
        secret: SealedSecret(vec![255; 93]),
        previous_secrets: vec![PreviousSecret { secret: SealedSecret(vec![7; 93]), until: at(9) }],
        ..before.clone()
    };
    after.audit.edited(at(1), &Actor::new("user:1"));
    attempt!(storage, webhooks.update(&before, &after)).unwrap();
    same(read!(storage, webhooks.get(before.id)), Some(after.clone()), contract, "after the update");
    let health = WebhookHealth {
        failures: u32::MAX,
        failing_since: Some(at(2)),
        failed_at: Some(at(3)),
        rests_until: Some(at(4)),
        succeeded_at: Some(at(5)),
    };
    attempt!(storage, webhooks.note_health(before.id, &health)).unwrap();
    let after = Webhook { health, ..after };
    same(attempt!(storage, webhooks.lock(before.id)).unwrap(), Some(after.clone()), contract, "`lock`");
    let other = webhook(2);
    insert(storage, &other).await;
    let ids = [other.id, WebhookId(Uuid::from_u128(9)), before.id];
    let locked = attempt!(storage, webhooks.lock_many(&ids)).unwrap();
    same(locked, vec![after.clone(), other.clone()], contract, "`lock_many`");
    same(read!(storage, webhooks.enabled()), vec![other.clone()], "`enabled` leaves out those that are off.", "one");
    let page = read!(storage, webhooks.list(&Paging::first(1)));
    same(page.items, vec![other], "The newest webhooks come first.", "page 1");
    let rest = read!(storage, webhooks.list(&Paging::Keyset { limit: 1, after: page.next }));
    same((rest.items, rest.next), (vec![after], None), "The newest webhooks come first.", "page 2");
    same(read!(storage, webhooks.count(1)).count, 1, "The count stops at its bound.", "`count`");
}

/// Stores a delivery in each state, with the longest texts.
pub async fn a_delivery_is_stored_whole(storage: &Arc<dyn Storage>) {
    let contract = "A delivery is read as it was written.";
    let to = webhook(1);
    insert(storage, &to).await;
    let mut before = delivery(1, &to, 7, Some(at(0)));
    before.payload = format!("{{\"a\": \"{}\"}}", "ä\\n🛋".repeat(20_000));
    let orphan = delivery(2, &webhook(9), 7, None);
    let refused = attempt!(storage, webhook_deliveries.insert(&[orphan]));
    assert_eq!(code_of(refused, "the webhook does not exist"), ErrorCode::Validation);
    add(storage, std::slice::from_ref(&before)).await;
    let twice = WebhookDelivery { id: WebhookDeliveryId(Uuid::from_u128(3)), ..before.clone() };
    is_taken("event_id", attempt!(storage, webhook_deliveries.insert(&[twice])), "a second delivery of an event");
    same(read!(storage, webhook_deliveries.get(before.id)), Some(before.clone()), contract, "new");
    let response = Some("🛋".repeat(WebhookDelivery::MAX_RESPONSE + 1));
    let error = Some("ä\0".repeat(WebhookDelivery::MAX_ERROR + 1));
    let duration = Duration::from_millis(7);
    let attempt = |status| {
        let (response, error) = (response.clone(), error.clone());
        WebhookAttempt { duration, status, response, error, ..WebhookAttempt::new(at(1)) }
    };
    let claimed = before.claimed(Uuid::from_u128(5), at(60), at(1));
    let failed = claimed.after(&attempt(None), Some(Duration::from_secs(5)), at(2));
    let again = failed.claimed(Uuid::from_u128(6), at(90), at(10));
    let parked = again.after(&attempt(Some(500)), None, at(11));
    let replayed = parked.replayed(at(12), &Actor::new("user:1"));
    let last = replayed.claimed(Uuid::from_u128(7), at(99), at(13));
    let done = last.after(&attempt(Some(204)), None, at(14));
    for after in [claimed, failed, again, parked, replayed, last, done] {
        update(storage, &before, &after).await;
        let found = attempt!(storage, webhook_deliveries.lock(after.id)).unwrap();
        same(found, Some(after.clone()), contract, after.state.as_str());
        before = after;
    }
    let events = [before.event_id, EventId(Uuid::from_u128(9))];
    let known = read!(storage, webhook_deliveries.known(to.id, &events));
    same(known, vec![before.event_id], "`known` returns the events of which there is a delivery.", "one of two");
    let of_other = read!(storage, webhook_deliveries.known(WebhookId(Uuid::from_u128(9)), &events));
    same(of_other, vec![], "`known` returns the events of which there is a delivery.", "another webhook");
}

/// An update compares the version of the row with that of `before`.
pub async fn r01_rows_of_another_version_are_not_overwritten(storage: &Arc<dyn Storage>) {
    let to = webhook(1);
    let missing = attempt!(storage, webhooks.update(&to, &to));
    assert_eq!(code_of(missing, "there is no row"), ErrorCode::NotFound);
    insert(storage, &to).await;
    let off = to.switched_off(WebhookOffReason::Gone, WebhookHealth::default(), at(1));
    attempt!(storage, webhooks.update(&to, &off)).unwrap();
    let late = attempt!(storage, webhooks.update(&to, &off));
    assert_eq!(code_of(late, "the row has another version"), ErrorCode::VersionConflict);
    let first = delivery(1, &to, 7, Some(at(0)));
    add(storage, std::slice::from_ref(&first)).await;
    let claimed = first.claimed(Uuid::from_u128(5), at(60), at(1));
    update(storage, &first, &claimed).await;
    let late = attempt!(storage, webhook_deliveries.update(&first, &claimed));
    assert_eq!(code_of(late, "the row has another version"), ErrorCode::VersionConflict);
}

/// Deliveries that are due in the future, that wait, and that have ended do not count.
pub async fn a_webhook_is_due_with_a_delivery_unless_it_is_off_or_rests(storage: &Arc<dyn Storage>) {
    let contract = "A webhook is due if it is on, does not rest, and has a delivery that is due.";
    let (on, resting, off, idle) = (webhook(1), webhook(2), webhook(3), webhook(4));
    for one in [&on, &resting, &Webhook { enabled: false, ..off.clone() }, &idle] {
        insert(storage, one).await;
    }
    let rests = WebhookHealth { rests_until: Some(at(11)), ..WebhookHealth::default() };
    attempt!(storage, webhooks.note_health(resting.id, &rests)).unwrap();
    let ended = delivery(6, &idle, 6, Some(at(0)));
    let all = [
        delivery(1, &on, 1, Some(at(10))),
        delivery(2, &on, 2, Some(at(5))),
        delivery(3, &on, 1, None),
        delivery(4, &resting, 1, Some(at(0))),
        delivery(5, &off, 1, Some(at(0))),
        ended.clone(),
    ];
    add(storage, &all).await;
    update(storage, &ended, &ended.abandoned(at(0))).await;
    same(read!(storage, webhooks.due(at(4))), vec![], contract, "before");
    same(read!(storage, webhooks.due(at(5))), vec![on.id], contract, "the first delivery");
    same(read!(storage, webhooks.due(at(11))), vec![on.id, resting.id], contract, "after the rest");
    let due = read!(storage, webhook_deliveries.due(on.id, at(10), 9));
    same(due, vec![all[1].clone(), all[0].clone()], "Those that have been due for the longest time come first.", "two");
    let due = read!(storage, webhook_deliveries.due(on.id, at(10), 1));
    same(due, vec![all[1].clone()], "`due` returns at most `limit`.", "one");
    // Those that pause become due at once, and one that is attempted does not.
    let claimed = all[1].claimed(Uuid::from_u128(5), at(60), at(5));
    update(storage, &all[1], &claimed).await;
    attempt!(storage, webhook_deliveries.hasten(on.id, at(6))).unwrap();
    let due = read!(storage, webhook_deliveries.due(on.id, at(6), 9));
    let ids: Vec<_> = due.iter().map(|delivery| (delivery.id, delivery.due_at)).collect();
    same(ids, vec![(all[0].id, Some(at(6)))], "`hasten` makes those that pause due.", "one of two");
}

/// Deliveries of other aggregates and of other webhooks do not count.
pub async fn the_next_delivery_of_an_aggregate_is_found_once_none_is_due(storage: &Arc<dyn Storage>) {
    let contract = "The next delivery is the first that waits, if none of the aggregate is due.";
    let (to, other) = (webhook(1), webhook(2));
    insert(storage, &to).await;
    insert(storage, &other).await;
    let all = [
        delivery(1, &to, 7, Some(at(0))),
        delivery(3, &to, 7, None),
        delivery(2, &to, 7, None),
        delivery(4, &to, 8, Some(at(0))),
        delivery(5, &other, 7, None),
    ];
    add(storage, &all).await;
    let aggregate = Uuid::from_u128(7);
    let next = async || read!(storage, webhook_deliveries.next_of(to.id, aggregate)).map(|delivery| delivery.seq);
    same(next().await, None, contract, "one is due");
    let mut pending = read!(storage, webhook_deliveries.pending_of(to.id, &[aggregate, Uuid::from_u128(9)]));
    same(pending.pop(), Some(aggregate), "`pending_of` returns the aggregates with pending deliveries.", "one of two");
    same(pending.len(), 0, "`pending_of` returns each aggregate once.", "one of two");
    update(storage, &all[0], &all[0].abandoned(at(1))).await;
    same(next().await, Some(2), contract, "the first has ended");
    let orphans = read!(storage, webhook_deliveries.orphans(9));
    let seqs: Vec<i64> = orphans.iter().map(|delivery| delivery.seq).collect();
    same(seqs, vec![2, 5], "An orphan waits although none is before it.", "one of each webhook");
    update(storage, &all[2], &all[2].unblocked(at(1))).await;
    same(next().await, None, contract, "the second is due");
}

/// Applies each filter alone, and all of them at once.
pub async fn deliveries_are_listed_by_every_filter(storage: &Arc<dyn Storage>) {
    let (to, other) = (webhook(1), webhook(2));
    insert(storage, &to).await;
    insert(storage, &other).await;
    let test = WebhookDelivery { kind: WebhookDelivery::TEST.to_owned(), ..delivery(3, &to, 3, Some(at(0))) };
    let all = [delivery(1, &to, 1, Some(at(0))), delivery(2, &other, 2, Some(at(0))), test];
    add(storage, &all).await;
    update(storage, &all[0], &all[0].abandoned(at(1))).await;
    let default = WebhookDeliveryFilter::default;
    let filters: [(WebhookDeliveryFilter, &[u128]); 6] = [
        (default(), &[3, 2, 1]),
        (WebhookDeliveryFilter { webhook_id: Some(to.id), ..default() }, &[3, 1]),
        (WebhookDeliveryFilter { state: Some(WebhookDeliveryState::Pending), ..default() }, &[3, 2]),
        (WebhookDeliveryFilter { kind: Some("order.placed".to_owned()), ..default() }, &[2, 1]),
        (WebhookDeliveryFilter { event_id: Some(all[1].event_id), ..default() }, &[2]),
        (
            WebhookDeliveryFilter {
                webhook_id: Some(to.id),
                state: Some(WebhookDeliveryState::Failed),
                kind: Some("order.placed".to_owned()),
                event_id: Some(all[0].event_id),
            },
            &[1],
        ),
    ];
    for (filter, expected) in filters {
        let mut found = Vec::new();
        let mut paging = Paging::Keyset { limit: 2, after: None };
        loop {
            let page = read!(storage, webhook_deliveries.list(&filter, &paging));
            found.extend(page.items.iter().map(|delivery| delivery.id.0.as_u128()));
            let Some(next) = page.next else { break };
            paging = Paging::Keyset { limit: 2, after: Some(next) };
        }
        same(found, expected.to_vec(), "A list has the rows that match, newest first.", format!("{filter:?}"));
        let count = read!(storage, webhook_deliveries.count(&filter, 100)).count;
        same(count, expected.len() as u64, "A count counts the rows that match.", format!("{filter:?}"));
    }
}

/// Old deliveries are removed whether they have ended or not.
pub async fn old_deliveries_and_those_of_a_deleted_webhook_are_removed(storage: &Arc<dyn Storage>) {
    let (to, other) = (webhook(1), webhook(2));
    insert(storage, &to).await;
    insert(storage, &other).await;
    let mut all = [delivery(1, &to, 1, Some(at(0))), delivery(2, &other, 2, None), delivery(3, &to, 3, None)];
    all[2].audit.created_at = at(10);
    add(storage, &all).await;
    let rest = async || {
        let page = read!(storage, webhook_deliveries.list(&WebhookDeliveryFilter::default(), &Paging::first(9)));
        page.items.into_iter().map(|delivery| delivery.seq).collect::<Vec<_>>()
    };
    same(attempt!(storage, webhook_deliveries.trim(at(0), 9)).unwrap(), 0, "Only older ones are removed.", "none");
    same(attempt!(storage, webhook_deliveries.trim(at(5), 1)).unwrap(), 1, "At most `limit` are removed.", "one");
    same(attempt!(storage, webhook_deliveries.trim(at(5), 9)).unwrap(), 1, "Only older ones are removed.", "the other");
    same(rest().await, vec![3], "Only older ones are removed.", "the rest");
    let many: Vec<WebhookDelivery> = (10..1_100).map(|n| delivery(n, &to, n, None)).collect();
    add(storage, &many).await;
    attempt!(storage, webhooks.delete(to.id)).unwrap();
    same(rest().await.len(), 0, "The deliveries of a deleted webhook are removed.", "the last");
    same(read!(storage, webhooks.get(to.id)), None, "A deleted webhook is gone.", "`get`");
    let page = read!(storage, webhooks.list(&Paging::first(9)));
    same(page.items, vec![other], "The other webhook stays.", "`list`");
}
