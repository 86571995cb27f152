//! Live subscriptions get each event once and in order, also when they go on after an earlier one; they show what their
//! principals may see, and nobody waits for a slow one (R13, R16). Tickets open one stream (R15).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::ShopFixture;
use super::orders::{guest, line, stocked};
use super::support::{LONG, PATIENCE, adjustment, fields, from, me, v};
use crate::access::{Permission, Principal, Secret, UserInput};
use crate::clock::Clock as _;
use crate::common::{DeleteMode, IncludeDeleted};
use crate::config::ShopConfig;
use crate::error::{Error, FieldCode};
use crate::id::EventId;
use crate::platform::{Event, EventKind, LiveEnd, LiveEvent, LiveEvents, LiveFilter, LiveKind, LiveMessage};
use crate::sales::{CustomerInput, OrderInput};

tests! {
    __shop_live: [
        r13_a_subscription_gets_each_event_once_and_in_order,
        r13_a_subscription_that_goes_on_joins_without_a_gap_or_a_repetition,
        r13_a_subscription_after_a_removed_event_begins_with_a_reset,
        r13_a_subscription_can_begin_at_the_beginning_of_the_log,
        a_slow_subscriber_is_dropped_and_nobody_waits,
        a_subscription_gets_the_kinds_and_ids_of_its_filter,
        a_subscription_of_stock_tells_once_when_a_sku_becomes_low,
        r16_a_subscription_shows_what_its_principal_may_see,
        r16_a_subscription_ends_with_its_session,
        r16_a_subscription_of_a_principal_that_has_ended_is_refused,
        r16_a_permanent_deletion_is_announced_to_those_who_saw_the_product,
        r15_a_ticket_is_taken_once_in_any_process,
        r15_a_ticket_ends_after_a_minute_and_with_its_session,
    ]
}

fn of(kinds: &[LiveKind]) -> LiveFilter {
    LiveFilter { kinds: kinds.iter().copied().collect(), ..LiveFilter::default() }
}

async fn next(live: &mut LiveEvents) -> LiveMessage {
    let next = tokio::time::timeout(PATIENCE, live.next()).await.expect("the subscription has another message");
    next.expect("the subscription goes on")
}

async fn event(live: &mut LiveEvents) -> LiveEvent {
    match next(live).await {
        LiveMessage::Event(event) => event,
        other => panic!("an event must be next, but it is {other:?}"),
    }
}

/// Lets a subscription join the reader, without a message.
async fn join(live: &mut LiveEvents) {
    tokio::select! {
        biased;
        message = live.next() => panic!("nothing has happened, but the subscription has {message:?}"),
        () = std::future::ready(()) => {}
    }
}

/// Writes that two processes make at once.
fn writes(f: &ShopFixture, skus: &[crate::id::SkuId]) -> tokio::task::JoinSet<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for (n, shop) in [&f.shop, &f.process(LONG)].into_iter().cycle().take(6).enumerate() {
        let (shop, sku) = (shop.clone(), skus[n % skus.len()]);
        tasks.spawn(async move {
            for _ in 0..8 {
                shop.acting_as(me()).inventory().adjust(adjustment(sku, 1)).await.unwrap();
            }
        });
    }
    tasks
}

fn ids(events: &[Event]) -> Vec<EventId> {
    events.iter().map(|event| event.id).collect()
}

/// Two processes write while several subscribers of two processes listen. Each gets the events in the order of the log.
pub async fn r13_a_subscription_gets_each_event_once_and_in_order(f: &ShopFixture) {
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    let skus = products.each_ref().map(|p| p.skus[0].id);
    let before = f.head().await;
    let other = f.process(LONG);
    let mut subscriptions = Vec::new();
    for shop in [&f.shop, &f.shop, &other] {
        subscriptions.push(shop.live().subscribe(&LiveFilter::default(), None).await.unwrap());
    }
    writes(f, &skus).join_all().await;
    let log = f.events_after(before).await;
    assert_eq!(log.len(), 48);
    let revisions: HashMap<Uuid, i64> = products.iter().map(|p| (p.id.0, p.revision)).collect();
    for mut live in subscriptions {
        let (mut found, mut last) = (Vec::new(), revisions.clone());
        for _ in &log {
            let event = event(&mut live).await;
            let last = last.get_mut(&event.aggregate_id).unwrap();
            assert!(event.revision > *last, "the events of an aggregate must come in order");
            *last = event.revision;
            let [change] = event.stock[..] else { panic!("{event:?}") };
            let level = change.level.expect("the SKU is there");
            assert!(change.delta == 1 && level.on_hand == level.available && level.on_hand > 10, "{change:?}");
            found.push(event.id);
        }
        assert_eq!(found, ids(&log), "each event must come once, in the order of the log");
        assert_eq!(live.passed(), log.last().map(|e| e.id));
    }
}

/// A receiver loses its connection again and again while two processes write, and goes on after its last event.
pub async fn r13_a_subscription_that_goes_on_joins_without_a_gap_or_a_repetition(f: &ShopFixture) {
    let products = [f.plain("A").await, f.plain("B").await];
    let (wanted, skus) = (products[0].id.0, [products[0].skus[0].id, products[1].skus[0].id]);
    let before = f.head().await;
    let (all, one) = (LiveFilter::default(), LiveFilter { ids: [wanted].into(), ..LiveFilter::default() });
    let mut runs = Vec::new();
    for filter in [&all, &one] {
        let first = f.shop.live().subscribe(filter, None).await.unwrap();
        runs.push((filter, Some(first), None, Vec::new()));
    }
    let mut tasks = writes(f, &skus);
    // The first connections have got nothing, but they know where they are.
    for (_, live, last, _) in &mut runs {
        let mut live = live.take().unwrap();
        *last = live.passed();
        assert!(last.is_some());
    }
    // Each connection is lost after another time, so that some are lost while they read old events and some after they
    // have joined the reader.
    let mut turn = 0;
    loop {
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
        let are_writing = !tasks.is_empty();
        let log = if are_writing { Vec::new() } else { f.events_after(before).await };
        for (filter, _, last, found) in &mut runs {
            let mut live = f.shop.live().subscribe(filter, *last).await.unwrap();
            turn += 1;
            let lost = tokio::time::sleep(Duration::from_millis(turn % 20));
            tokio::pin!(lost);
            let expected: Vec<EventId> = log
                .iter()
                .filter(|e| filter.ids.is_empty() || filter.ids.contains(&e.aggregate_id))
                .map(|e| e.id)
                .collect();
            // As long as there are writes, a connection is lost in the middle.
            while are_writing || found.len() < expected.len() {
                let message = if are_writing {
                    tokio::select! {
                        biased;
                        message = next(&mut live) => Some(message),
                        () = &mut lost => None,
                    }
                } else {
                    Some(next(&mut live).await)
                };
                match message {
                    Some(LiveMessage::Event(event)) => {
                        found.push(event.id);
                        *last = Some(event.id);
                    }
                    None => {
                        *last = live.passed().or(*last);
                        break;
                    }
                    other => panic!("nothing was removed, but the subscription has {other:?}"),
                }
            }
            if !are_writing {
                assert_eq!(*found, expected, "no event may be missing or come twice");
            }
        }
        if !are_writing {
            break;
        }
    }
}

/// Events are removed while the receiver is away. An id that no event has is answered alike.
pub async fn r13_a_subscription_after_a_removed_event_begins_with_a_reset(f: &ShopFixture) {
    f.plain("Before").await;
    let last = f.log().await.last().unwrap().id;
    f.clock.advance(Duration::from_secs(10));
    f.plain("While it is away").await;
    f.log().await;
    f.clock.advance(Duration::from_secs(10));
    attempt!(f.storage, outbox.trim(f.clock.now())).unwrap();
    for after in [last, EventId(Uuid::nil()), EventId(Uuid::from_u128(7))] {
        let mut live = f.shop.live().subscribe(&LiveFilter::default(), Some(after)).await.unwrap();
        assert_eq!(next(&mut live).await, LiveMessage::Reset, "events may have been missed");
        let p = f.plain("When it is back").await;
        assert_eq!(event(&mut live).await.aggregate_id, p.id.0);
    }
    // A subscription also reports events that were removed before it has read them.
    let first = f.log().await[0].id;
    let mut live = f.shop.live().subscribe(&LiveFilter::default(), Some(first)).await.unwrap();
    f.clock.advance(Duration::from_secs(10));
    attempt!(f.storage, outbox.trim(f.clock.now())).unwrap();
    assert_eq!(next(&mut live).await, LiveMessage::Reset);
    let p = f.plain("Later").await;
    assert_eq!(event(&mut live).await.aggregate_id, p.id.0);
}

/// The nil id stands for the beginning of the log. A subscription to an empty log has this id, and misses no later
/// event if it goes on after it.
pub async fn r13_a_subscription_can_begin_at_the_beginning_of_the_log(f: &ShopFixture) {
    let start = EventId(Uuid::nil());
    let mut empty = f.shop.live().subscribe(&LiveFilter::default(), None).await.unwrap();
    assert_eq!(empty.passed(), Some(start));
    drop(empty);
    for n in 0..3 {
        f.plain(&format!("P{n}")).await;
    }
    let mut live = f.shop.live().subscribe(&LiveFilter::default(), Some(start)).await.unwrap();
    for expected in f.log().await {
        assert_eq!(event(&mut live).await.id, expected.id);
    }
}

/// A subscriber reads nothing while more happens than its buffer holds.
pub async fn a_slow_subscriber_is_dropped_and_nobody_waits(f: &ShopFixture) {
    let shop = f.another(ShopConfig::default().live_buffer(4).poll_interval(Duration::from_millis(10)), f.cache());
    let p = f.plain("A").await;
    let filter = LiveFilter::default();
    let mut slow = shop.live().subscribe(&filter, None).await.unwrap();
    let mut quick = shop.live().subscribe(&filter, None).await.unwrap();
    join(&mut slow).await;
    join(&mut quick).await;
    assert_eq!(shop.live().subscribers(), 2);
    let before = f.head().await;
    let ended = slow.ended();
    for _ in 0..10 {
        shop.acting_as(me()).inventory().adjust(adjustment(p.skus[0].id, 1)).await.unwrap();
        event(&mut quick).await;
    }
    let why = tokio::time::timeout(PATIENCE, ended).await.expect("the slow subscriber is dropped");
    assert_eq!(why, LiveEnd::Lagged);
    assert_eq!(shop.live().subscribers(), 1);
    let log = ids(&f.events_after(before).await);
    for expected in &log[..4] {
        assert_eq!(event(&mut slow).await.id, *expected, "the buffer must hold what came first");
    }
    assert_eq!(slow.passed(), Some(log[3]), "it has not passed what it did not get");
    assert_eq!(next(&mut slow).await, LiveMessage::End(LiveEnd::Lagged));
    assert_eq!(slow.next().await, None);
    let mut again = shop.live().subscribe(&filter, Some(log[3])).await.unwrap();
    for expected in &log[4..] {
        assert_eq!(event(&mut again).await.id, *expected, "it must go on where it was dropped");
    }
    shop.live().end_all();
    assert_eq!(next(&mut quick).await, LiveMessage::End(LiveEnd::Closed));
}

/// Every kind, and the ids of a product, a SKU, an order and a category.
pub async fn a_subscription_gets_the_kinds_and_ids_of_its_filter(f: &ShopFixture) {
    use EventKind as K;

    let (a, b) = (stocked(f, "A", 9).await, stocked(f, "B", 9).await);
    let start = f.log().await.last().unwrap().id;
    let two = from(&json!({ "price": "3.00", "stock": 5 }));
    let sku = f.shop.acting_as(me()).skus().create(a.id, &two).await.unwrap();
    let a = f.fresh(a.id).await;
    let c = f.category("C", None).await;
    let order = f.shop.acting_as(me()).orders().place(&guest(json!([line(&a, 2), line(&b, 1)]))).await.unwrap();
    f.adjust(sku.id, -1).await.unwrap();
    let patch = from(&json!({ "price": "2.50" }));
    f.shop.acting_as(me()).skus().patch(sku.id, v(sku.audit.version), patch).await.unwrap();
    f.rename_category(c.id, "D").await.unwrap();
    let all = f.shop.live();
    let kinds = async |filter: LiveFilter, many: usize| {
        let mut live = all.subscribe(&filter, Some(start)).await.unwrap();
        let mut found = Vec::new();
        for _ in 0..many {
            found.push(event(&mut live).await);
        }
        // What comes next is from the end of the log, so that nothing more was between.
        join(&mut live).await;
        found
    };
    let words =
        |events: &[LiveEvent]| events.iter().map(|e| (e.kind, e.stock.len(), e.prices.len())).collect::<Vec<_>>();
    let stock = kinds(of(&[LiveKind::Stock]), 4).await;
    // The order of the two products of an order is not fixed.
    assert_eq!(
        words(&stock),
        [(K::ProductUpdated, 1, 0), (K::StockChanged, 1, 0), (K::StockChanged, 1, 0), (K::StockChanged, 1, 0)]
    );
    let prices = kinds(of(&[LiveKind::Prices]), 1).await;
    assert_eq!(words(&prices), [(K::ProductUpdated, 0, 1)]);
    let (old, new) = (prices[0].prices[0].old.to_string(), prices[0].prices[0].new.to_string());
    assert_eq!((prices[0].prices[0].sku_id, &*old, &*new), (sku.id, "3.00 USD", "2.50 USD"));
    let orders = kinds(of(&[LiveKind::Orders]), 1).await;
    assert_eq!((orders[0].kind, orders[0].aggregate_id), (K::OrderPlaced, order.id.0));
    assert_eq!(words(&kinds(of(&[LiveKind::Products]), 2).await), [(K::ProductUpdated, 0, 0); 2]);
    let categories = kinds(of(&[LiveKind::Categories]), 2).await;
    assert_eq!(words(&categories), [(K::CategoryCreated, 0, 0), (K::CategoryMoved, 0, 0)]);

    let named = |kinds: &[LiveKind], ids: &[Uuid]| LiveFilter { ids: ids.iter().copied().collect(), ..of(kinds) };
    let of_sku = kinds(named(&[LiveKind::Stock], &[sku.id.0]), 2).await;
    assert!(of_sku.iter().all(|e| e.stock.len() == 1 && e.stock[0].sku_id == sku.id), "{of_sku:?}");
    assert_eq!(of_sku.iter().map(|e| e.stock[0].delta).collect::<Vec<_>>(), [5, -1]);
    let of_b = kinds(named(&[], &[b.id.0]), 1).await;
    assert_eq!((of_b[0].kind, of_b[0].stock[0].delta), (K::StockChanged, -1));
    assert_eq!(of_b[0].stock[0].level.map(|l| (l.on_hand, l.available)), Some((8, 8)));
    assert_eq!(kinds(named(&[], &[order.id.0, c.id.0]), 3).await.len(), 3);
    // An id that nothing has hides all events before the one that is named besides it.
    let last = f.category("Last", None).await;
    let of_last = kinds(named(&[], &[Uuid::from_u128(1), last.id.0]), 1).await;
    assert_eq!(of_last[0].aggregate_id, last.id.0);
    let many = named(&[], &(0..101).map(Uuid::from_u128).collect::<Vec<_>>());
    let refused = fields(all.subscribe(&many, None).await.map(drop), "too many ids");
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), [("id".to_owned(), FieldCode::OutOfBounds)]);
}

/// A SKU becomes low in stock, and the stock of another one changes.
pub async fn a_subscription_of_stock_tells_once_when_a_sku_becomes_low(f: &ShopFixture) {
    use EventKind as K;

    let (pen, ink) = (stocked(f, "Pen", 7).await, stocked(f, "Ink", 9).await);
    let (sku, other) = (pen.skus[0].id, ink.skus[0].id);
    let start = f.log().await.last().unwrap().id;
    // The threshold is 5 by default.
    for _ in 0..3 {
        f.adjust(sku, -1).await.unwrap();
    }
    f.adjust(other, -1).await.unwrap();
    let changed = [K::StockChanged, K::StockChanged, K::StockLow, K::StockChanged, K::StockChanged];
    for (ids, expected) in [(vec![], &changed[..]), (vec![sku.0], &changed[..4]), (vec![other.0], &changed[4..])] {
        let filter = LiveFilter { ids: ids.into_iter().collect(), ..of(&[LiveKind::Stock]) };
        let mut live = f.shop.live().subscribe(&filter, Some(start)).await.unwrap();
        let mut found = Vec::new();
        for _ in expected {
            found.push(event(&mut live).await);
        }
        assert_eq!(found.iter().map(|e| e.kind).collect::<Vec<_>>(), expected);
        if let Some(low) = found.get(2) {
            let low = low.low_stock.as_ref().unwrap();
            assert_eq!((low.sku_id, low.product_id, low.available, low.threshold), (sku, pen.id, 5, 5));
        }
    }
}

/// Strangers see active products, customers also their own orders, and clerks what their permissions cover.
pub async fn r16_a_subscription_shows_what_its_principal_may_see(f: &ShopFixture) {
    let shop = f.shop.acting_as(me());
    let (active, draft) =
        (stocked(f, "A", 9).await, f.product(json!({ "title": "D", "price": "1.00", "status": "draft" })).await);
    let mut people = Vec::new();
    for name in ["ada", "bob"] {
        let input = CustomerInput::new(name, "Tester", format!("{name}@example.com"));
        people.push(shop.customers().create(&input).await.unwrap().id);
    }
    let start = f.log().await.last().unwrap().id;
    f.adjust(active.skus[0].id, 1).await.unwrap();
    f.patch(&draft, json!({ "price": "5.00", "stock": 3 })).await.unwrap();
    let mut orders = Vec::new();
    for customer in &people {
        let order = json!({ "customer_id": customer, "delivery_method": "on_hand", "lines": [line(&active, 1)] });
        orders.push(shop.orders().place(&from::<OrderInput>(&order)).await.unwrap().id);
    }
    shop.orders().place(&guest(json!([line(&active, 1)]))).await.unwrap();
    let role = crate::access::RoleInput::new("other", [Permission::OrdersRead]);
    f.shop.roles().create(&role).await.unwrap();
    let end = f.category("End", None).await.id.0;

    let ada = Principal::new("user:ada", []).with_customer(people[0]);
    let clerk = Principal::new("user:clerk", [Permission::OrdersRead, Permission::ProductsRead]);
    let stranger = Principal::anonymous([]);
    let (stock, own) = (active.id.0, orders[0].0);
    for (who, drafts, seen) in [(&stranger, 0, 0), (&ada, 0, 1), (&clerk, 1, 3)] {
        let mut live = f.shop.acting_as(who).live().subscribe(&LiveFilter::default(), Some(start)).await.unwrap();
        let mut found = Vec::new();
        while found.last() != Some(&end) {
            found.push(event(&mut live).await.aggregate_id);
        }
        let count = |id: Uuid| found.iter().filter(|found| **found == id).count();
        assert_eq!((count(stock), count(draft.id.0)), (4, drafts), "{who:?}");
        let of_orders: HashSet<&Uuid> = found.iter().filter(|id| ![stock, draft.id.0, end].contains(id)).collect();
        assert_eq!(of_orders.len(), seen, "{who:?}: {found:?}");
        assert_eq!(of_orders.contains(&own), seen > 0, "{who:?}");
    }
    let asks = of(&[LiveKind::Orders, LiveKind::Stock]);
    let refused = f.shop.acting_as(&stranger).live().subscribe(&asks, None).await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated), "{refused:?}");
    let robot = Principal::new("api_key:robot", [Permission::StockRead]);
    let refused = f.shop.acting_as(&robot).live().subscribe(&asks, None).await.map(drop).unwrap_err();
    assert!(matches!(refused, Error::Forbidden { permission: Permission::OrdersRead }), "{refused:?}");
}

const PASSWORD: &str = "correct horse";

async fn logged_in(f: &ShopFixture, email: &str) -> Principal {
    f.shop.users().create(&UserInput::new(email).password(PASSWORD)).await.unwrap();
    let tokens = f.shop.auth().login(email, &Secret::new(PASSWORD), None).await.unwrap();
    f.shop.auth().authenticate(&tokens.access).await.unwrap()
}

/// Of two sessions, one ends.
pub async fn r16_a_subscription_ends_with_its_session(f: &ShopFixture) {
    let (ada, bob) = (logged_in(f, "ada@example.com").await, logged_in(f, "bob@example.com").await);
    let filter = LiveFilter::default();
    let mut of_ada = f.shop.acting_as(&ada).live().subscribe(&filter, None).await.unwrap();
    let mut of_bob = f.shop.acting_as(&bob).live().subscribe(&filter, None).await.unwrap();
    // The other process has not seen the end of the session when it reads the log.
    let other = f.process(LONG);
    let mut behind = other.acting_as(&ada).live().subscribe(&filter, None).await.unwrap();
    join(&mut of_ada).await;
    f.shop.auth().logout(&ada).await.unwrap();
    assert_eq!(next(&mut of_ada).await, LiveMessage::End(LiveEnd::Revoked));
    assert_eq!(next(&mut behind).await, LiveMessage::End(LiveEnd::Revoked));
    let p = f.plain("After").await;
    assert_eq!(event(&mut of_bob).await.aggregate_id, p.id.0);
    // Whoever logs in again gets what happened meanwhile.
    let tokens = f.shop.auth().login("ada@example.com", &Secret::new(PASSWORD), None).await.unwrap();
    let ada = f.shop.auth().authenticate(&tokens.access).await.unwrap();
    let mut again = f.shop.acting_as(&ada).live().subscribe(&filter, of_ada.passed()).await.unwrap();
    assert_eq!(event(&mut again).await.aggregate_id, p.id.0);
}

/// One process still has the session, the user and the API key in its cache when another one ends them.
pub async fn r16_a_subscription_of_a_principal_that_has_ended_is_refused(f: &ShopFixture) {
    let other = f.process(LONG);
    let mut people = Vec::new();
    for email in ["ada@example.com", "bob@example.com"] {
        f.shop.users().create(&UserInput::new(email).password(PASSWORD)).await.unwrap();
        let tokens = other.auth().login(email, &Secret::new(PASSWORD), None).await.unwrap();
        people.push(other.auth().authenticate(&tokens.access).await.unwrap());
    }
    let input = crate::access::ApiKeyInput::new("robot", [Permission::OrdersRead]);
    let made = f.shop.api_keys().create(&input).await.unwrap();
    people.push(other.auth().authenticate(&made.secret).await.unwrap());
    for who in &people {
        other.acting_as(who).live().subscribe(&LiveFilter::default(), None).await.unwrap();
    }
    f.shop.auth().logout(&people[0]).await.unwrap();
    let bob = people[1].login().unwrap().user;
    let version = f.shop.users().get(bob, IncludeDeleted::No).await.unwrap().audit.version;
    f.shop.users().delete(bob, v(version), DeleteMode::Soft).await.unwrap();
    f.shop.api_keys().delete(made.key.id, v(made.key.audit.version)).await.unwrap();
    for who in &people {
        let refused = other.acting_as(who).live().subscribe(&LiveFilter::default(), None).await.map(drop).unwrap_err();
        assert!(matches!(refused, Error::Unauthenticated), "{who:?}: {refused:?}");
    }
}

/// An active product and a draft are deleted permanently, and others after a soft delete.
pub async fn r16_a_permanent_deletion_is_announced_to_those_who_saw_the_product(f: &ShopFixture) {
    let (active, soft) = (f.plain("A").await, f.plain("S").await);
    let draft = f.product(json!({ "title": "D", "price": "1.00", "status": "draft" })).await;
    let hidden = f.product(json!({ "title": "H", "price": "1.00", "status": "draft" })).await;
    let stranger = Principal::anonymous([]);
    let mut live = f.shop.acting_as(&stranger).live().subscribe(&LiveFilter::default(), None).await.unwrap();
    for p in [&draft, &active] {
        f.delete(p, DeleteMode::Force).await.unwrap();
    }
    for p in [&hidden, &soft] {
        f.delete(p, DeleteMode::Soft).await.unwrap();
    }
    let end = f.category("End", None).await.id.0;
    let mut found = Vec::new();
    while found.last().is_none_or(|(_, id)| *id != end) {
        let event = event(&mut live).await;
        found.push((event.kind, event.aggregate_id));
    }
    let expected = [
        (EventKind::ProductPurged, active.id.0),
        (EventKind::ProductDeleted, soft.id.0),
        (EventKind::CategoryCreated, end),
    ];
    assert_eq!(found, expected);
}

/// A ticket that one process has made opens a stream in another one, with the permissions of its principal.
pub async fn r15_a_ticket_is_taken_once_in_any_process(f: &ShopFixture) {
    let other = f.process(LONG);
    let customer = crate::id::CustomerId(Uuid::from_u128(7));
    let ada = logged_in(f, "ada@example.com").await;
    for who in [
        ada,
        Principal::trusted("user:owner"),
        Principal::new("user:host", [Permission::OrdersRead]).with_customer(customer),
    ] {
        let (ticket, expires_at) = f.shop.auth().issue_ticket(&who).await.unwrap();
        assert_eq!(expires_at, f.clock.now() + Duration::from_secs(60));
        assert!(!format!("{ticket:?}").contains(ticket.reveal()));
        let taken = (0..8).map(|n| {
            let shop = [&f.shop, &other][n % 2].clone();
            let ticket = ticket.clone();
            async move { shop.auth().redeem_ticket(&ticket).await }
        });
        let taken = futures::future::join_all(taken).await;
        let (found, refused): (Vec<_>, Vec<_>) = taken.into_iter().partition(Result::is_ok);
        assert_eq!(found.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [who]);
        assert!(refused.iter().all(|r| matches!(r, Err(Error::Unauthenticated))), "{refused:?}");
    }
    let refused = f.shop.auth().issue_ticket(&Principal::anonymous([])).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated));
    let refused = f.shop.auth().redeem_ticket(&Secret::new("made up")).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated));
}

/// By the clock of the shop.
pub async fn r15_a_ticket_ends_after_a_minute_and_with_its_session(f: &ShopFixture) {
    let ada = logged_in(f, "ada@example.com").await;
    let auth = f.shop.auth();
    let is_refused = async |ticket: &Secret| matches!(auth.redeem_ticket(ticket).await, Err(Error::Unauthenticated));
    let (ticket, _) = auth.issue_ticket(&ada).await.unwrap();
    f.clock.advance(Duration::from_secs(59));
    assert_eq!(auth.redeem_ticket(&ticket).await.unwrap(), ada);
    let (ticket, _) = auth.issue_ticket(&ada).await.unwrap();
    f.clock.advance(Duration::from_secs(60));
    assert!(is_refused(&ticket).await, "a ticket must expire");
    let (ticket, _) = auth.issue_ticket(&ada).await.unwrap();
    auth.logout(&ada).await.unwrap();
    assert!(is_refused(&ticket).await, "a ticket must end with its session");
    let input = crate::access::ApiKeyInput::new("robot", [Permission::OrdersRead]);
    let made = f.shop.api_keys().create(&input).await.unwrap();
    let robot = auth.authenticate(&made.secret).await.unwrap();
    let (one, _) = auth.issue_ticket(&robot).await.unwrap();
    let (two, _) = auth.issue_ticket(&robot).await.unwrap();
    assert_eq!(auth.redeem_ticket(&one).await.unwrap(), robot);
    f.shop.api_keys().delete(made.key.id, v(made.key.audit.version)).await.unwrap();
    assert!(is_refused(&two).await, "a ticket must end with its API key");
}
