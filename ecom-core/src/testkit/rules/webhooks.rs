//! Webhooks: every event that happens arrives, at least once and in the order of its aggregate, whatever the receiver
//! and the processes do (R13).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::ShopFixture;
use super::support::{LONG, adjustment, conflict, fields, flat, from, me, until, v};
use crate::access::SecretKey;
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::access::secret::Secret;
use crate::domain::catalog::product::{Product, ProductInput};
use crate::domain::common::Patch;
use crate::domain::platform::outbox::EventKind;
use crate::domain::platform::webhook::{
    Webhook, WebhookDelivery, WebhookDeliveryFilter, WebhookDeliveryState, WebhookInput, WebhookOffReason,
    WebhookPatch, WebhookRotation, signature,
};
use crate::error::{Conflict, ErrorCode};
use crate::id::ProductId;
use crate::paging::Paging;
use crate::port::webhook_sender::WebhookMessage;
use crate::service::background::Pass;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::receiver::{Answer, Receiver};

tests! {
    __shop_webhooks: [
        r13_events_arrive_in_the_order_of_their_aggregate_although_the_receiver_fails,
        r13_an_event_arrives_although_its_process_dies_after_the_answer,
        r13_two_processes_deliver_every_event_in_order,
        r13_very_many_deliveries_wait_for_a_dead_receiver_and_arrive_in_order,
        a_receiver_that_does_not_answer_holds_up_no_other,
        a_receiver_that_fails_for_too_long_is_switched_off_with_a_notice,
        a_delivery_that_always_fails_gives_way_in_the_end,
        messages_are_signed_by_each_secret_until_its_time,
        a_webhook_that_is_edited_meanwhile_gets_what_it_receives_now,
        deliveries_are_listed_tested_and_replayed,
        old_deliveries_are_removed_and_block_no_other,
        r17_bad_webhooks_are_refused,
    ]
}

const DAY: Duration = Duration::from_secs(86_400);
const URL: &str = "https://example.com/hooks";
const OTHER_URL: &str = "https://example.org/hooks";

fn parts(f: &ShopFixture, receiver: &Arc<Receiver>) -> ShopParts {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(LONG);
    let config = config.webhook_timeout(Duration::from_secs(60));
    ShopParts { config, webhooks: Some(receiver.clone()), ..f.parts() }
}

/// Returns a process of the shop that sends webhooks to a receiver.
fn process(f: &ShopFixture, receiver: &Arc<Receiver>) -> Shop {
    Shop::new(parts(f, receiver)).unwrap()
}

/// Does the background work of a process that is due now: events become deliveries, and these are attempted.
async fn pass(shop: &Shop) {
    for _ in 0..2 {
        shop.run_background_pass(Pass::Events, std::future::pending()).await;
    }
}

/// Lets a day pass, and then does the background work.
async fn next_day(f: &ShopFixture, shop: &Shop) {
    f.clock.advance(DAY);
    pass(shop).await;
}

/// Creates a webhook for the events of products.
async fn subscribe(shop: &Shop, url: &str) -> Webhook {
    let kinds = [EventKind::ProductCreated, EventKind::ProductUpdated, EventKind::ProductDeleted];
    shop.webhooks().create(&WebhookInput::new(url, kinds)).await.unwrap().webhook
}

async fn edit(f: &ShopFixture, id: ProductId, times: i64) {
    for n in 0..times {
        let product = f.fresh(id).await;
        let patch = from(&json!({ "brand": format!("{n} {}", product.audit.version) }));
        f.shop.acting_as(me()).products().patch(id, v(product.audit.version), patch).await.unwrap();
    }
}

/// Returns the products and the revisions of messages, in their order.
fn revisions(messages: &[WebhookMessage]) -> Vec<(Uuid, i64)> {
    let of = |message: &WebhookMessage| {
        let data = Receiver::body(message)["data"].clone();
        (data["aggregate_id"].as_str().unwrap().parse().unwrap(), data["revision"].as_i64().unwrap())
    };
    messages.iter().map(of).collect()
}

/// Returns the revisions of the messages about a product.
fn of(messages: &[WebhookMessage], product: &Product) -> Vec<i64> {
    revisions(messages).into_iter().filter(|(id, _)| *id == product.id.0).map(|(_, revision)| revision).collect()
}

fn is_about(message: &WebhookMessage, product: ProductId) -> bool {
    message.body.contains(&product.0.to_string())
}

async fn deliveries(shop: &Shop, filter: &WebhookDeliveryFilter) -> Vec<WebhookDelivery> {
    shop.webhooks().deliveries(filter, &Paging::first(1_000)).await.unwrap().0.items
}

async fn in_state(shop: &Shop, state: WebhookDeliveryState) -> Vec<WebhookDelivery> {
    deliveries(shop, &WebhookDeliveryFilter { state: Some(state), ..WebhookDeliveryFilter::default() }).await
}

/// The receiver fails with the first event of one product in every way, and accepts those of the other one.
pub async fn r13_events_arrive_in_the_order_of_their_aggregate_although_the_receiver_fails(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let before = f.plain("Before").await;
    f.clock.advance(Duration::from_secs(1));
    subscribe(&shop, URL).await;
    let (bad, good) = (f.plain("Bad").await, f.plain("Good").await);
    edit(f, bad.id, 2).await;
    edit(f, good.id, 2).await;
    let (calls, id) = (AtomicUsize::new(0), bad.id);
    receiver.decides(move |message| {
        let answers = [Answer::Status(500), Answer::Broken, Answer::Status(302)];
        let is_bad = is_about(message, id);
        let failed = if is_bad { answers.get(calls.fetch_add(1, Ordering::SeqCst)).copied() } else { None };
        failed.unwrap_or(Answer::Status(204))
    });
    pass(&shop).await;
    assert_eq!(of(&receiver.taken(), &good), [1, 2, 3], "events of another aggregate do not wait");
    assert!(of(&receiver.taken(), &bad).is_empty(), "later events of the aggregate wait");
    let waiting = in_state(&shop, WebhookDeliveryState::Pending).await;
    let is_waiting: Vec<bool> = waiting.iter().map(|delivery| delivery.due_at.is_none()).collect();
    assert_eq!(is_waiting, [true, true, false], "newest first: {waiting:?}");
    assert_eq!((waiting[2].status, waiting[2].response.as_deref()), (Some(500), Some("status 500")));
    for error in ["the connection has broken off", "redirects are not followed"] {
        next_day(f, &shop).await;
        let pending = in_state(&shop, WebhookDeliveryState::Pending).await;
        assert!(pending[2].error.as_ref().unwrap().contains(error), "{pending:?}");
    }
    assert!(of(&receiver.taken(), &bad).is_empty());
    next_day(f, &shop).await;
    assert_eq!(of(&receiver.taken(), &bad), [1, 2, 3]);
    assert_eq!(in_state(&shop, WebhookDeliveryState::Succeeded).await.len(), 6);
    let tried: Vec<_> = receiver.messages().into_iter().filter(|(message, _)| is_about(message, bad.id)).collect();
    let first: HashSet<&str> = tried.iter().take(4).map(|(message, _)| message.id.as_str()).collect();
    assert_eq!((tried.len(), first.len()), (6, 1), "the id of a message is the same in every attempt");
    assert!(of(&receiver.taken(), &before).is_empty(), "a webhook receives no events from before its creation");
    let event = f.log().await.into_iter().find(|event| event.aggregate_id == good.id.0).unwrap();
    let expected = json!({
        "type": "product.created",
        "timestamp": event.occurred_at,
        "data": {
            "id": event.id,
            "kind": "product.created",
            "aggregate_id": good.id,
            "revision": 1,
            "occurred_at": event.occurred_at,
            "stock": [{ "sku_id": good.skus[0].id, "delta": 10, "reason": event.stock_changes()[0].reason }],
        },
    });
    let created = receiver.taken().into_iter().find(|message| message.id == event.id.to_string()).unwrap();
    assert_eq!(Receiver::body(&created), expected);
}

/// The receiver has the message, and its answer is never recorded.
pub async fn r13_an_event_arrives_although_its_process_dies_after_the_answer(f: &ShopFixture) {
    let receiver = Receiver::new();
    let (shop, other) = (process(f, &receiver), process(f, &receiver));
    subscribe(&shop, URL).await;
    let pen = f.plain("Pen").await;
    edit(f, pen.id, 1).await;
    receiver.decides(|_| Answer::Silent);
    let background = shop.start();
    until("the receiver takes the first event", async || receiver.taken().len() == 1).await;
    drop(background);
    receiver.decides(|_| Answer::Status(200));
    f.clock.advance(LONG);
    pass(&other).await;
    assert_eq!(of(&receiver.taken(), &pen), [1], "another process waits until the lease has run out");
    f.clock.advance(LONG * 2);
    pass(&other).await;
    let taken = receiver.taken();
    assert_eq!(of(&taken, &pen), [1, 1, 2]);
    assert_eq!(taken[0].id, taken[1].id, "the receiver recognizes the message");
    let done = in_state(&other, WebhookDeliveryState::Succeeded).await;
    assert_eq!(done.iter().map(|delivery| delivery.attempts).collect::<Vec<_>>(), [1, 2]);
}

/// Each process reads the log and attempts deliveries. Without failures, each event arrives once.
pub async fn r13_two_processes_deliver_every_event_in_order(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shops = [process(f, &receiver), process(f, &receiver)];
    subscribe(&shops[0], URL).await;
    let running: Vec<_> = shops.iter().map(Shop::start).collect();
    let mut products = Vec::new();
    for n in 0..8 {
        products.push(f.plain(&format!("P {n}")).await);
    }
    for product in &products {
        edit(f, product.id, 4).await;
    }
    until("every event arrives", async || receiver.taken().len() >= 40).await;
    for background in running {
        background.shutdown().await;
    }
    let taken = receiver.taken();
    for product in &products {
        assert_eq!(of(&taken, product), [1, 2, 3, 4, 5], "{}", product.title);
    }
    assert_eq!(taken.len(), 40);
    assert_eq!(in_state(&shops[0], WebhookDeliveryState::Succeeded).await.len(), 40);
}

/// A receiver is dead while 1,000 events happen, or 200 on a database server, where each delivery takes longer. A look
/// for deliveries costs the same however many wait, and the events of another webhook arrive meanwhile.
pub async fn r13_very_many_deliveries_wait_for_a_dead_receiver_and_arrive_in_order(f: &ShopFixture) {
    const PRODUCTS: usize = 40;
    let rounds = if f.storage.has_one_writer() { 25 } else { 5 };
    let receiver = Receiver::new();
    let mut parts = parts(f, &receiver);
    // While attempts run, a pass looks for others at each poll, and each look would be one more statement.
    parts.config.poll_interval = Duration::from_secs(30);
    let shop = Shop::new(parts).unwrap();
    let inputs: Vec<ProductInput> = (0..PRODUCTS).map(|n| flat(&format!("P {n}"))).collect();
    let mut tx = shop.begin().await.unwrap();
    let products = shop.products().create_many_in(&mut tx, &inputs).await.unwrap();
    tx.commit().await.unwrap().run().await;
    for (url, kind) in [(URL, EventKind::StockChanged), (OTHER_URL, EventKind::CategoryCreated)] {
        shop.webhooks().create(&WebhookInput::new(url, [kind])).await.unwrap();
    }
    receiver.decides(|message| if message.url.as_str() == URL { Answer::Broken } else { Answer::Status(200) });
    // Each round has an event of each product.
    let happen = async |rounds: usize| {
        let inventory = shop.inventory();
        for _ in 0..rounds {
            let calls = products.iter().map(|product| inventory.adjust(adjustment(product.skus[0].id, 1)));
            for adjusted in futures::future::join_all(calls).await {
                adjusted.unwrap();
            }
        }
    };
    // Returns how many statements it takes to look for deliveries, and to attempt one in vain.
    let cost = async || {
        f.clock.advance(Duration::from_secs(3_600));
        let before = f.storage.statements();
        pass(&shop).await;
        f.storage.statements() - before
    };
    happen(1).await;
    pass(&shop).await;
    let few = cost().await;
    happen(rounds - 1).await;
    f.category("Shirts", None).await;
    let arrives = async || {
        pass(&shop).await;
        receiver.taken().len() == 1
    };
    until("the other webhook gets its event", arrives).await;
    let many = cost().await;
    let all = PRODUCTS * rounds;
    assert!(many <= few + 20, "with {PRODUCTS} deliveries it takes {few} statements, and with {all} {many}");
    assert_eq!(in_state(&shop, WebhookDeliveryState::Pending).await.len(), all);
    let calls: Vec<_> = receiver.messages().into_iter().filter(|(message, _)| message.url.as_str() == URL).collect();
    assert!(calls.len() <= 10, "a dead receiver is called at intervals, but {} times", calls.len());

    receiver.decides(|_| Answer::Status(200));
    f.clock.advance(Duration::from_secs(3_600));
    let all_arrive = async || {
        pass(&shop).await;
        receiver.taken().len() > all
    };
    until("all events arrive", all_arrive).await;
    let found = revisions(&receiver.taken());
    assert_eq!(found.len(), all + 1, "each event arrives once");
    for product in &products {
        let of_product: Vec<i64> = found.iter().filter(|(id, _)| *id == product.id.0).map(|(_, n)| *n).collect();
        assert!(of_product.len() == rounds && of_product.is_sorted(), "{}: {of_product:?}", product.title);
    }
    assert_eq!(in_state(&shop, WebhookDeliveryState::Pending).await, []);
}

/// The other webhook gets all events meanwhile.
pub async fn a_receiver_that_does_not_answer_holds_up_no_other(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let silent = subscribe(&shop, URL).await;
    let other = subscribe(&shop, OTHER_URL).await;
    receiver.decides(|message| if message.url.as_str() == OTHER_URL { Answer::Status(200) } else { Answer::Silent });
    let background = shop.start();
    let mut products = Vec::new();
    for n in 0..10 {
        products.push(f.plain(&format!("P {n}")).await);
    }
    let to = |url: &str| receiver.taken().into_iter().filter(|message| message.url.as_str() == url).count();
    let done = WebhookDeliveryState::Succeeded;
    until("the other one gets all", async || in_state(&shop, done).await.len() == 10).await;
    assert!(to(OTHER_URL) == 10 && to(URL) <= 4, "a receiver gets at most four messages at a time: {}", to(URL));
    drop(background);
    let all = deliveries(&shop, &WebhookDeliveryFilter::default()).await;
    let of = |webhook: &Webhook| all.iter().filter(|delivery| delivery.webhook_id == webhook.id).count();
    assert_eq!((of(&silent), of(&other)), (10, 10));
}

/// The receiver is dead for days. Then it works again, and somebody switches the webhook on.
pub async fn a_receiver_that_fails_for_too_long_is_switched_off_with_a_notice(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let webhook = subscribe(&shop, URL).await;
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    receiver.decides(|_| Answer::Status(503));
    for day in 0.. {
        pass(&shop).await;
        let now = shop.webhooks().get(webhook.id).await.unwrap();
        if !now.enabled {
            assert_eq!((now.off_reason, day), (Some(WebhookOffReason::Failing), 3));
            break;
        }
        assert!(now.health.failures > 0 && day < 3, "{now:?}");
        f.clock.advance(DAY);
    }
    let notices: Vec<_> = f.log().await.into_iter().filter(|e| e.kind == EventKind::WebhookDisabled).collect();
    let log = f.audit_log().await;
    let entry = log.iter().find(|entry| entry.action == "webhook.disabled").unwrap();
    assert_eq!((notices.len(), notices[0].aggregate_id), (1, webhook.id.0));
    assert_eq!(json!(entry.after), json!({ "enabled": false, "off_reason": "failing" }));
    let calls = receiver.messages().len();
    receiver.decides(|_| Answer::Status(200));
    let missed = f.plain("Missed").await;
    next_day(f, &shop).await;
    assert_eq!(receiver.messages().len(), calls, "nothing is sent to a webhook that is off");
    for id in in_state(&shop, WebhookDeliveryState::Pending).await.iter().map(|delivery| delivery.id) {
        let refused = conflict(shop.webhooks().replay(id).await, "it is off");
        assert!(matches!(refused, Conflict::State { .. }), "{refused}");
    }
    conflict(shop.webhooks().test(webhook.id).await, "it is off");
    let off = shop.webhooks().get(webhook.id).await.unwrap();
    let on = WebhookPatch { enabled: Patch::Set(true), ..WebhookPatch::default() };
    let on = shop.webhooks().patch(webhook.id, v(off.audit.version), on).await.unwrap();
    assert_eq!((on.enabled, on.off_reason, on.health.failures), (true, None, 0));
    pass(&shop).await;
    let taken = receiver.taken();
    for product in &products {
        assert_eq!(of(&taken, product), [1], "what has waited is delivered");
    }
    assert!(of(&taken, &missed).is_empty(), "events that happened while it was off are not delivered");

    receiver.decides(|_| Answer::Status(410));
    f.plain("D").await;
    pass(&shop).await;
    let gone = shop.webhooks().get(webhook.id).await.unwrap();
    assert_eq!((gone.enabled, gone.off_reason), (false, Some(WebhookOffReason::Gone)));
}

/// The receiver accepts all but one event.
pub async fn a_delivery_that_always_fails_gives_way_in_the_end(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let webhook = subscribe(&shop, URL).await;
    let bad = f.plain("Bad").await;
    edit(f, bad.id, 1).await;
    let first = f.log().await.into_iter().find(|event| event.aggregate_id == bad.id.0).unwrap().id.to_string();
    receiver.decides(move |message| if message.id == first { Answer::Status(400) } else { Answer::Status(200) });
    for n in 0..WebhookDelivery::MAX_ATTEMPTS {
        assert!(of(&receiver.taken(), &bad).is_empty(), "attempt {n}");
        // The receiver works, as the delivery of another event shows.
        f.plain(&format!("Good {n}")).await;
        next_day(f, &shop).await;
        let health = shop.webhooks().get(webhook.id).await.unwrap().health;
        assert!(!health.is_resting(), "{health:?}");
    }
    assert_eq!(of(&receiver.taken(), &bad), [2], "the next event follows");
    let failed = in_state(&shop, WebhookDeliveryState::Failed).await;
    assert_eq!((failed.len(), failed[0].attempts), (1, WebhookDelivery::MAX_ATTEMPTS));
    assert!(shop.webhooks().get(webhook.id).await.unwrap().enabled);
}

/// The database has no readable secret, and neither has the audit log.
pub async fn messages_are_signed_by_each_secret_until_its_time(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let given = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let input = WebhookInput { secret: Some(given.clone()), ..WebhookInput::new(URL, [EventKind::ProductCreated]) };
    let made = shop.webhooks().create(&input).await.unwrap();
    assert_eq!(made.secret, given);
    let (id, hour) = (made.webhook.id, Duration::from_secs(3_600));
    let send = async |title: &str| {
        f.plain(title).await;
        pass(&shop).await;
        receiver.taken().pop().unwrap()
    };
    let signed = |message: &WebhookMessage, secrets: &[&Secret]| {
        let keys: Vec<Vec<u8>> = secrets.iter().map(|secret| Webhook::key_of(secret).unwrap()).collect();
        assert_eq!(message.timestamp, f.clock.now().timestamp());
        assert_eq!(message.signature, signature(&keys, &message.id, message.timestamp, &message.body));
    };
    signed(&send("One").await, &[&given]);
    let rotation = WebhookRotation { secret: None, overlap_seconds: Some(3_600) };
    let second = shop.webhooks().rotate_secret(id, &rotation).await.unwrap().secret;
    // The response was lost, so that the caller repeats the call.
    let third = shop.webhooks().rotate_secret(id, &rotation).await.unwrap().secret;
    assert!(second != third && second != given);
    signed(&send("Two").await, &[&third, &second, &given]);
    f.clock.advance(hour);
    signed(&send("Three").await, &[&third]);

    let stored = shop.webhooks().get(id).await.unwrap();
    assert_eq!(stored.audit.version, 3);
    let key = Webhook::key_of(&third).unwrap();
    assert!(!stored.secret.0.windows(key.len()).any(|bytes| bytes == key), "the secret must be encrypted");
    let shown = format!("{stored:?} {:?} {:?} {made:?}", f.audit_log().await, f.log().await);
    for secret in [&given, &second, &third] {
        assert!(!shown.contains(secret.reveal().trim_start_matches(Webhook::SECRET_MARK)));
    }
    let actions: Vec<String> = f.audit_log().await.into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "webhook.updated").count(), 2);
    // A process with another secret key cannot sign.
    let secret_key = Some(SecretKey::from_random([1; 32]));
    let stranger = Shop::new(ShopParts { secret_key, ..parts(f, &receiver) }).unwrap();
    let calls = receiver.messages().len();
    f.plain("Four").await;
    pass(&stranger).await;
    let pending = in_state(&shop, WebhookDeliveryState::Pending).await;
    assert!(pending[0].error.as_ref().unwrap().contains("replace the secret"), "{pending:?}");
    assert_eq!(receiver.messages().len(), calls);
}

/// The URL, the kinds and the webhook itself change while deliveries wait and run.
pub async fn a_webhook_that_is_edited_meanwhile_gets_what_it_receives_now(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let webhook = subscribe(&shop, URL).await;
    let pen = f.plain("Pen").await;
    receiver.decides(|_| Answer::Broken);
    pass(&shop).await;
    let patch = WebhookPatch {
        url: Patch::Set(OTHER_URL.to_owned()),
        events: Patch::Set(vec!["product.deleted".to_owned()]),
        ..WebhookPatch::default()
    };
    let edited = shop.webhooks().patch(webhook.id, v(1), patch.clone()).await.unwrap();
    assert_eq!((edited.url.as_str(), &edited.events[..]), (OTHER_URL, &[EventKind::ProductDeleted][..]));
    assert_eq!(code_of(shop.webhooks().patch(webhook.id, v(1), patch).await, "stale"), ErrorCode::VersionConflict);
    edit(f, pen.id, 1).await;
    receiver.decides(|_| Answer::Status(200));
    next_day(f, &shop).await;
    let taken = receiver.taken();
    assert_eq!((of(&taken, &pen), taken[0].url.as_str()), (vec![1], OTHER_URL));
    // It is deleted while an attempt runs.
    receiver.decides(|_| Answer::Silent);
    f.delete(&f.fresh(pen.id).await, crate::common::DeleteMode::Soft).await.unwrap();
    let background = shop.start();
    until("an attempt runs", async || receiver.taken().len() == 2).await;
    shop.webhooks().delete(webhook.id, v(edited.audit.version)).await.unwrap();
    drop(background);
    assert_eq!(deliveries(&shop, &WebhookDeliveryFilter::default()).await, []);
    assert_eq!(code_of(shop.webhooks().get(webhook.id).await, "it is gone"), ErrorCode::NotFound);
    let removed: Vec<_> = f.log().await.into_iter().filter(|e| e.kind == EventKind::WebhookDeleted).collect();
    assert_eq!(removed.len(), 1);
}

/// The log has a row for each delivery, also for tests.
pub async fn deliveries_are_listed_tested_and_replayed(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let (one, two) = (subscribe(&shop, URL).await, subscribe(&shop, OTHER_URL).await);
    let pen = f.plain("Pen").await;
    edit(f, pen.id, 1).await;
    pass(&shop).await;
    let webhooks = shop.webhooks();
    let test = webhooks.test(one.id).await.unwrap();
    assert_eq!((test.kind.as_str(), test.is_pending()), (WebhookDelivery::TEST, true));
    pass(&shop).await;
    let test = webhooks.delivery(test.id).await.unwrap();
    assert_eq!((test.state, test.status, test.attempts), (WebhookDeliveryState::Succeeded, Some(200), 1));
    let sent = receiver.taken().pop().unwrap();
    assert_eq!((&sent.id, &Receiver::body(&sent)["type"]), (&test.event_id.to_string(), &json!("webhook.test")));

    let default = WebhookDeliveryFilter::default;
    let of_one = deliveries(&shop, &WebhookDeliveryFilter { webhook_id: Some(one.id), ..default() }).await;
    let kinds: Vec<&str> = of_one.iter().map(|delivery| delivery.kind.as_str()).collect();
    assert_eq!(kinds, ["webhook.test", "product.updated", "product.created"]);
    let first = of_one[2].clone();
    let of_event = deliveries(&shop, &WebhookDeliveryFilter { event_id: Some(first.event_id), ..default() }).await;
    let receivers: HashSet<_> = of_event.iter().map(|delivery| delivery.webhook_id).collect();
    assert_eq!(receivers, HashSet::from([one.id, two.id]));
    let kind = Some("product.updated".to_owned());
    assert_eq!(deliveries(&shop, &WebhookDeliveryFilter { kind, ..default() }).await.len(), 2);
    let mut found = Vec::new();
    let mut paging = Paging::first(2);
    loop {
        let (page, _) = webhooks.deliveries(&default(), &paging).await.unwrap();
        found.extend(page.items.into_iter().map(|delivery| delivery.id));
        let Some(next) = page.next else { break };
        paging = Paging::Keyset { limit: 2, after: Some(next) };
    }
    let all: Vec<_> = deliveries(&shop, &default()).await.into_iter().map(|delivery| delivery.id).collect();
    assert_eq!((found.len(), found), (5, all));

    let again = webhooks.replay(first.id).await.unwrap();
    assert_eq!((again.state, again.attempts, again.event_id), (WebhookDeliveryState::Pending, 0, first.event_id));
    assert_eq!(webhooks.replay(first.id).await.unwrap(), again, "it waits already");
    pass(&shop).await;
    let last = receiver.taken().pop().unwrap();
    assert_eq!((last.id, last.url.as_str()), (first.event_id.to_string(), URL));
    // A replay does not wait for a delivery that pauses, and a delivery that pauses can be made due.
    receiver.decides(|_| Answer::Status(500));
    edit(f, pen.id, 2).await;
    pass(&shop).await;
    let pausing = in_state(&shop, WebhookDeliveryState::Pending).await;
    let calls = receiver.messages().len();
    receiver.decides(|_| Answer::Status(200));
    webhooks.replay(first.id).await.unwrap();
    for delivery in pausing.iter().filter(|delivery| delivery.webhook_id == one.id) {
        webhooks.replay(delivery.id).await.unwrap();
    }
    pass(&shop).await;
    let after: Vec<WebhookMessage> = receiver.messages().split_off(calls).into_iter().map(|(sent, _)| sent).collect();
    let after: Vec<WebhookMessage> = after.into_iter().filter(|message| message.url.as_str() == URL).collect();
    let mut revisions: Vec<i64> = of(&after, &pen);
    assert_eq!(revisions.iter().filter(|n| **n > 1).copied().collect::<Vec<_>>(), [3, 4], "{revisions:?}");
    revisions.sort_unstable();
    assert_eq!(revisions, [1, 3, 4]);
    let unknown = crate::id::WebhookDeliveryId(Uuid::nil());
    assert_eq!(code_of(webhooks.delivery(unknown).await, "there is none"), ErrorCode::NotFound);
    assert_eq!(code_of(webhooks.replay(unknown).await, "there is none"), ErrorCode::NotFound);
}

/// A delivery that waits for a removed one becomes due.
pub async fn old_deliveries_are_removed_and_block_no_other(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let webhook = subscribe(&shop, URL).await;
    let pen = f.plain("Pen").await;
    receiver.decides(|_| Answer::Status(500));
    pass(&shop).await;
    f.clock.advance(DAY);
    edit(f, pen.id, 1).await;
    shop.run_background_pass(Pass::Events, std::future::pending()).await;
    let off = WebhookPatch { enabled: Patch::Set(false), ..WebhookPatch::default() };
    let off = shop.webhooks().patch(webhook.id, v(1), off).await.unwrap();
    f.clock.advance(DAY * 29 + Duration::from_secs(1));
    assert_eq!(in_state(&shop, WebhookDeliveryState::Pending).await.len(), 2);
    shop.run_background_pass(Pass::Everything, std::future::pending()).await;
    let rest = in_state(&shop, WebhookDeliveryState::Pending).await;
    assert_eq!(rest.iter().map(|delivery| delivery.kind.as_str()).collect::<Vec<_>>(), ["product.updated"]);
    receiver.decides(|_| Answer::Status(200));
    let on = WebhookPatch { enabled: Patch::Set(true), ..WebhookPatch::default() };
    shop.webhooks().patch(webhook.id, v(off.audit.version), on).await.unwrap();
    pass(&shop).await;
    assert_eq!(of(&receiver.taken(), &pen), [2]);
}

/// The refused webhooks are not stored.
pub async fn r17_bad_webhooks_are_refused(f: &ShopFixture) {
    let receiver = Receiver::new();
    let shop = process(f, &receiver);
    let webhooks = shop.webhooks();
    let good = || WebhookInput::new(URL, [EventKind::OrderPlaced]);
    let bad: [(WebhookInput, &[&str]); 4] = [
        (WebhookInput { url: "http://example.com/".to_owned(), ..good() }, &["url"]),
        (WebhookInput { url: "https://refused.test/".to_owned(), ..good() }, &["url"]),
        (WebhookInput { events: vec!["order.lost".to_owned()], ..good() }, &["events[0]"]),
        (WebhookInput { secret: Some(Secret::new("secret")), events: vec![], ..good() }, &["events", "secret"]),
    ];
    let before = f.snapshot().await;
    for (input, expected) in bad {
        let found = fields(webhooks.create(&input).await, expected[0]);
        let found: HashSet<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(found, expected.iter().copied().collect::<HashSet<_>>());
    }
    let none = Shop::new(f.parts()).unwrap();
    assert_eq!(code_of(none.webhooks().create(&good()).await, "it sends none"), ErrorCode::Unsupported);
    assert_eq!(f.snapshot().await, before);
    let made = webhooks.create(&good()).await.unwrap().webhook;
    let good_patch = WebhookPatch::default;
    let patch = WebhookPatch { url: Patch::Set("https://refused.test/".to_owned()), ..good_patch() };
    assert_eq!(fields(webhooks.patch(made.id, v(1), patch).await, "the URL").len(), 1);
    let nulls = WebhookPatch { url: Patch::Clear, events: Patch::Clear, enabled: Patch::Clear, ..good_patch() };
    assert_eq!(fields(webhooks.patch(made.id, v(1), nulls).await, "nulls").len(), 3);
    let rotation = WebhookRotation { secret: Some(Secret::new("whsec_")), overlap_seconds: Some(u64::MAX) };
    assert_eq!(fields(webhooks.rotate_secret(made.id, &rotation).await, "the rotation").len(), 2);
    assert_eq!(webhooks.get(made.id).await.unwrap(), made);
    assert_eq!(webhooks.patch(made.id, v(1), good_patch()).await.unwrap(), made, "nothing changes");
    let no_longer_allowed = Webhook { url: "https://refused.test/".to_owned(), ..made.clone() };
    let mut uow = f.storage.begin().await.unwrap();
    uow.webhooks().update(&made, &no_longer_allowed).await.unwrap();
    uow.commit().await.unwrap();
    let version = webhooks.get(made.id).await.unwrap().audit.version;
    let off = WebhookPatch { enabled: Patch::Set(false), ..good_patch() };
    assert!(!webhooks.patch(made.id, v(version), off).await.unwrap().enabled, "a URL that stays is not refused");
    for n in 1..Webhook::MAX {
        webhooks.create(&WebhookInput::new(format!("{URL}/{n}"), [EventKind::OrderPlaced])).await.unwrap();
    }
    let refused = conflict(webhooks.create(&good()).await, "there are too many");
    assert!(matches!(refused, Conflict::State { .. }), "{refused}");
    let (page, total) = webhooks.list(&Paging::Offset { offset: 0, limit: 10 }).await.unwrap();
    assert_eq!((page.items.len(), total.map(|total| total.count)), (10, Some(Webhook::MAX)));
}
