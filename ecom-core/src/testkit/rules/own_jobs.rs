//! The jobs of the shop itself: mails about orders, carts and stock, the events of low stock, and the removal of
//! expired API keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::ShopFixture;
use super::orders::{guest, line, stocked};
use super::support::{LONG, adjustment, from, me};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::access::api_key::{ApiKey, ApiKeyInput};
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::catalog::product::Product;
use crate::domain::platform::job::{Job, JobCounters, JobFilter, JobKind};
use crate::domain::platform::mail::MailKind;
use crate::domain::platform::outbox::{Event, EventKind, OutboxPosition};
use crate::domain::sales::cart::{CartAccess, CartInput, CartLineInput};
use crate::domain::sales::customer::{Customer, CustomerInput};
use crate::domain::sales::order::DeliveryMethod;
use crate::domain::sales::order::input::{CheckoutInput, OrderInput};
use crate::error::ErrorCode;
use crate::id::CartId;
use crate::paging::Paging;
use crate::service::background::Pass;
use crate::service::background::consumer::Consumer as _;
use crate::service::background::work::Work as _;
use crate::service::platform::mail::{Mails, SENT_WITHIN};
use crate::service::sales::reminder::Reminders;
use crate::shop::{Shop, ShopParts};
use crate::testkit::code_of;
use crate::testkit::faults::{Fault, Unsteady};
use crate::testkit::postbox::Postbox;

tests! {
    __shop_own_jobs: [
        r13_a_sku_becomes_low_once_for_each_crossing,
        r13_of_many_sales_at_once_one_makes_the_sku_low,
        r07_low_stock_costs_an_order_at_most_one_statement,
        r13_a_placed_order_is_confirmed_by_one_mail,
        orders_that_need_no_mail_get_none,
        r13_low_stock_is_mailed_once_for_each_crossing,
        r20_a_cart_is_reminded_of_once_and_never_after_its_checkout,
        carts_that_nobody_should_be_reminded_of_get_no_mail,
        r13_two_processes_remind_of_a_cart_once,
        a_reminder_whose_commit_has_an_unknown_outcome_is_sent_once,
        expired_api_keys_are_removed_after_some_time,
    ]
}

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

fn open(f: &ShopFixture, postbox: &Arc<Postbox>, config: ShopConfig) -> Shop {
    let config = config.lease_ttl(LONG).public_url("https://shop.example");
    Shop::new(ShopParts { mailing: Some(postbox.mailing()), config, ..f.parts() }).unwrap()
}

fn reminding() -> ShopConfig {
    ShopConfig::default().abandoned_cart_after(DAY)
}

/// Does the background work of processes until nothing is left: a pass creates jobs, and the next one runs them.
async fn settle(shops: &[&Shop]) {
    for _ in 0..3 {
        for shop in shops {
            shop.run_background_pass(Pass::Everything, std::future::pending()).await;
        }
    }
}

/// Returns the receivers of the mails of a kind, sorted, with the texts, which are the links.
fn sent(postbox: &Postbox, kind: MailKind) -> Vec<(String, String)> {
    let mails = postbox.mails().into_iter().filter(|mail| mail.subject == kind.as_str());
    let mut sent: Vec<_> = mails.map(|mail| (mail.to.to_string(), mail.text)).collect();
    sent.sort();
    sent
}

fn receivers(postbox: &Postbox, kind: MailKind) -> Vec<String> {
    sent(postbox, kind).into_iter().map(|(to, _)| to).collect()
}

async fn jobs(shop: &Shop) -> Vec<Job> {
    let filter = JobFilter { kind: Some(JobKind::MAIL), state: None };
    shop.jobs().list(&filter, &Paging::first(1_000)).await.unwrap().0.items
}

/// Returns how many mails were skipped.
fn skipped(jobs: &[Job]) -> usize {
    let skipped = JobCounters::from([("skipped".to_owned(), 1)]);
    jobs.iter().filter(|job| job.counters == skipped).count()
}

async fn ada(f: &ShopFixture) -> Customer {
    f.shop.acting_as(me()).customers().create(&CustomerInput::new("Ada", "Lovelace", "ada@example.com")).await.unwrap()
}

fn order_of(customer: &Customer, p: &Product) -> OrderInput {
    OrderInput::new(customer.id, DeliveryMethod::OnHand).line(from(&line(p, 1)))
}

fn cart_line(p: &Product) -> CartLineInput {
    CartLineInput::new(p.skus[0].id, 1, p.skus[0].final_price(p.discount))
}

/// Creates the cart of a guest with one line.
async fn cart(f: &ShopFixture, email: &str, p: &Product) -> (CartId, CartAccess) {
    let input = CartInput::default().email(email).line(cart_line(p));
    let made = f.shop.acting_as(&Principal::anonymous([])).carts().create(&input).await.unwrap();
    (made.cart.cart.id, CartAccess::Token(made.token.unwrap()))
}

fn checkout() -> CheckoutInput {
    from(&json!({
        "customer": { "first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com" },
        "delivery_method": "on_hand",
    }))
}

/// Adjustments, orders, cancellations and edits make a SKU low, each time it was in stock before. What is rolled back
/// does not.
pub async fn r13_a_sku_becomes_low_once_for_each_crossing(f: &ShopFixture) {
    let pen = f.product(json!({ "title": "Pen", "price": "10.00", "stock": 8, "low_stock_threshold": 5 })).await;
    let sku = pen.skus[0].id;
    let mut at = f.head().await;
    let mut low = async |what: &str, expected: &[(i64, i64)]| {
        let events = f.events_after(at).await;
        at = f.head().await;
        let found: Vec<(i64, i64)> = events
            .iter()
            .filter_map(|event| {
                let low = event.low_stock()?;
                assert_eq!((event.kind, event.aggregate_id, low.product_id), (EventKind::StockLow, sku.0, pen.id));
                assert_eq!(&event.actor, me().actor(), "{what}");
                Some((low.available, low.threshold))
            })
            .collect();
        assert_eq!(found, expected, "{what}: {events:#?}");
        for event in events.iter().filter(|event| event.kind == EventKind::StockLow) {
            let of_product =
                events.iter().find(|other| other.aggregate_id == pen.id.0 && other.revision == event.revision);
            assert!(of_product.is_some(), "{what}: it has the revision of the event of its product: {events:#?}");
        }
    };
    for (delta, expected) in
        [(-2, vec![]), (-1, vec![(5, 5)]), (-1, vec![]), (1, vec![]), (1, vec![]), (-2, vec![(4, 5)]), (2, vec![])]
    {
        f.adjust(sku, delta).await.unwrap();
        low(&format!("an adjustment by {delta}"), &expected).await;
    }
    let shop = f.shop.acting_as(me());
    let order = shop.orders().place(&guest(json!([line(&pen, 1)]))).await.unwrap();
    low("an order", &[(5, 5)]).await;
    shop.orders().cancel(order.id).await.unwrap();
    low("its cancellation", &[]).await;
    let order = shop.orders().place(&guest(json!([line(&pen, 6)]))).await.unwrap();
    low("an order of all pieces", &[(0, 5)]).await;
    shop.orders().cancel(order.id).await.unwrap();
    low("its cancellation", &[]).await;
    for (patch, expected) in [
        (json!({ "stock": 3 }), vec![(3, 5)]),
        (json!({ "stock": 2 }), vec![]),
        (json!({ "stock": 20 }), vec![]),
        (json!({ "low_stock_threshold": 20 }), vec![(20, 20)]),
        (json!({ "low_stock_threshold": 5 }), vec![]),
        (json!({ "track_stock": false }), vec![]),
    ] {
        f.patch(&f.fresh(pen.id).await, patch.clone()).await.unwrap();
        low(&patch.to_string(), &expected).await;
    }
    f.patch(&f.fresh(pen.id).await, json!({ "track_stock": true, "stock": 6 })).await.unwrap();
    low("the stock is tracked again", &[]).await;
    let mut tx = f.shop.begin().await.unwrap();
    shop.inventory().adjust_in(&mut tx, adjustment(sku, -1)).await.unwrap();
    drop(tx);
    low("what was rolled back", &[]).await;
}

/// Two processes sell and take pieces at once, and share commits.
pub async fn r13_of_many_sales_at_once_one_makes_the_sku_low(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 40).await;
    let other = f.process(LONG);
    let head = f.head().await;
    let sales = (0..40).map(|n| {
        let shop = if n % 2 == 0 { &f.shop } else { &other };
        let pen = &pen;
        async move {
            if n % 4 < 2 {
                shop.orders().place(&guest(json!([line(pen, 1)]))).await.map(drop)
            } else {
                shop.inventory().adjust(adjustment(pen.skus[0].id, -1)).await.map(drop)
            }
        }
    });
    for sold in join_all(sales).await {
        sold.unwrap();
    }
    assert_eq!(f.on_hand(&pen).await, 0);
    let events = f.events_after(head).await;
    let low: Vec<_> = events.iter().filter_map(Event::low_stock).collect();
    assert_eq!(low.len(), 1, "{low:?}");
    assert!(low[0].available <= low[0].threshold, "{low:?}");
}

/// The event of the SKU is a row more in the statement that writes the events, which some databases get in several
/// parts. The other SKU of the product keeps its availability, whose change costs statements of its own.
pub async fn r07_low_stock_costs_an_order_at_most_one_statement(f: &ShopFixture) {
    let pen = json!({ "title": "Pen", "skus": [{ "price": "10.00", "stock": 6 }, { "price": "10.00", "stock": 100 }] });
    let pen = f.product(pen).await;
    let sell = async |sku: usize| {
        let line = json!({ "sku_id": pen.skus[sku].id, "quantity": 1, "unit_price": "10.00" });
        let before = f.storage.statements();
        f.shop.orders().place(&guest(json!([line]))).await.unwrap();
        f.storage.statements() - before
    };
    // Statements that are needed once.
    sell(1).await;
    let head = f.head().await;
    let (plain, low) = (sell(1).await, sell(0).await);
    assert_eq!(f.events_after(head).await.iter().filter_map(Event::low_stock).count(), 1);
    assert!(low <= plain + 1, "{low} statements, and {plain} without low stock");
}

/// The orders of a guest and of a customer, with two processes and an event that is delivered again.
pub async fn r13_a_placed_order_is_confirmed_by_one_mail(f: &ShopFixture) {
    let postbox = Postbox::new();
    let shops = [open(f, &postbox, ShopConfig::default()), open(f, &postbox, ShopConfig::default())];
    let (pen, ada) = (stocked(f, "Pen", 100).await, ada(f).await);
    let of_guest = shops[0].orders().place(&guest(json!([line(&pen, 2)]))).await.unwrap();
    let of_ada = shops[1].orders().place(&order_of(&ada, &pen)).await.unwrap();
    settle(&[&shops[0], &shops[1]]).await;
    let link = |order: &crate::domain::sales::order::Order| format!("https://shop.example/order?id={}", order.id);
    let expected = [
        // Whoever has placed the order may not be the owner of the address, so that the mail shows no name.
        ("Ada Lovelace <ada@example.com>".to_owned(), link(&of_ada)),
        ("grace@example.com".to_owned(), link(&of_guest)),
    ];
    assert_eq!(sent(&postbox, MailKind::OrderConfirmation), expected);
    let log = shops[0].events().read(OutboxPosition { seq: 0 }, 1_000).await.unwrap().events;
    Mails(shops[0].cx.clone()).handle(&log).await.unwrap();
    settle(&[&shops[0], &shops[1]]).await;
    assert_eq!(sent(&postbox, MailKind::OrderConfirmation).len(), 2);
    let seen = format!("{:?}", jobs(&shops[0]).await).to_lowercase();
    assert!(!seen.contains("example.com") && !seen.contains("lovelace"), "no personal data is in a job: {seen}");
}

/// The last order shows that the mails of the others would have been sent by then.
pub async fn orders_that_need_no_mail_get_none(f: &ShopFixture) {
    let postbox = Postbox::new();
    let (shop, silent) =
        (open(f, &postbox, ShopConfig::default()), open(f, &postbox, ShopConfig::default().order_confirmation(false)));
    let (pen, ada) = (stocked(f, "Pen", 100).await, ada(f).await);
    let orders = shop.orders();
    // Long before the shop has a mailer.
    orders.place(&guest(json!([line(&pen, 1)]))).await.unwrap();
    f.clock.advance(SENT_WITHIN);
    let canceled = orders.place(&guest(json!([line(&pen, 1)]))).await.unwrap();
    orders.cancel(canceled.id).await.unwrap();
    let mut imported = guest(json!([line(&pen, 1)]));
    (imported.source, imported.external_id) = (Some("erp".to_owned()), Some("1".to_owned()));
    orders.place(&imported).await.unwrap();
    orders.place(&OrderInput::new(ada.id, DeliveryMethod::OnHand)).await.unwrap();
    settle(&[&shop]).await;
    let all = jobs(&shop).await;
    assert_eq!((all.len(), skipped(&all)), (3, 3), "{all:#?}");
    orders.place(&guest(json!([line(&pen, 1)]))).await.unwrap();
    settle(&[&silent]).await;
    assert_eq!(jobs(&shop).await.len(), 3, "a process of a shop without such mails has handled the event");
    orders.place(&order_of(&ada, &pen)).await.unwrap();
    settle(&[&shop]).await;
    assert_eq!(receivers(&postbox, MailKind::OrderConfirmation), ["Ada Lovelace <ada@example.com>"]);
}

/// One mail names the SKUs that have become low at the same time. A SKU that was refilled meanwhile is left out.
pub async fn r13_low_stock_is_mailed_once_for_each_crossing(f: &ShopFixture) {
    let postbox = Postbox::new();
    let config = ShopConfig::default().low_stock_mail("Stock <stock@example.com>".parse().unwrap());
    let (shop, other) = (open(f, &postbox, config.clone()), open(f, &postbox, config));
    let (pen, ink) = (stocked(f, "Pen", 6).await, stocked(f, "Ink", 6).await);
    let (pen, ink) = (pen.skus[0].id, ink.skus[0].id);
    for sku in [pen, ink] {
        f.adjust(sku, -1).await.unwrap();
    }
    settle(&[&shop, &other]).await;
    let expected = [("Stock <stock@example.com>".to_owned(), "https://shop.example/admin".to_owned())];
    assert_eq!(sent(&postbox, MailKind::LowStock), expected);
    let named: Vec<Value> = jobs(&shop).await.into_iter().map(|job| job.parameters["skus"].clone()).collect();
    assert_eq!(named, [json!([pen, ink])]);

    // The batch is delivered again, with more events at its end.
    f.adjust(pen, 10).await.unwrap();
    f.adjust(pen, -12).await.unwrap();
    let log = shop.events().read(OutboxPosition { seq: 0 }, 1_000).await.unwrap().events;
    Mails(shop.cx.clone()).handle(&log).await.unwrap();
    settle(&[&shop, &other]).await;
    assert_eq!(sent(&postbox, MailKind::LowStock).len(), 2);
    let all = jobs(&shop).await;
    assert_eq!(all.len(), 2, "{all:#?}");
    assert_eq!(all[0].parameters["skus"], json!([pen]), "the newest job");

    f.adjust(pen, 10).await.unwrap();
    f.adjust(pen, -10).await.unwrap();
    f.adjust(pen, 10).await.unwrap();
    settle(&[&shop, &other]).await;
    assert_eq!(sent(&postbox, MailKind::LowStock).len(), 2, "the pens were refilled before the mail was made");
    assert_eq!(skipped(&jobs(&shop).await), 1);
}

/// The carts of a guest and of a customer, changed carts, and carts that are ordered before or after the mail is asked
/// for.
pub async fn r20_a_cart_is_reminded_of_once_and_never_after_its_checkout(f: &ShopFixture) {
    let postbox = Postbox::new();
    let shop = open(f, &postbox, reminding());
    let (pen, ada) = (stocked(f, "Pen", 100).await, ada(f).await);
    let (of_guest, access) = cart(f, "grace@example.com", &pen).await;
    // A customer's cart has the address of the customer, whatever address it names.
    let input = CartInput::default().customer_id(ada.id).email("eve@example.com").line(cart_line(&pen));
    let of_ada = f.shop.carts().create(&input).await.unwrap().cart.cart.id;
    let (ordered, ordered_access) = cart(f, "ordered@example.com", &pen).await;
    f.shop.orders().checkout(ordered, &ordered_access, &checkout_of("ordered@example.com")).await.unwrap();
    settle(&[&shop]).await;
    f.clock.advance(DAY.checked_sub(SECOND).unwrap());
    settle(&[&shop]).await;
    assert_eq!(postbox.tried(), 1, "the order was confirmed, and no cart was abandoned for long enough");
    f.clock.advance(SECOND);
    settle(&[&shop]).await;
    let link = |cart: CartId| format!("https://shop.example/cart?id={cart}");
    let expected =
        [("Ada Lovelace <ada@example.com>".to_owned(), link(of_ada)), ("grace@example.com".to_owned(), link(of_guest))];
    assert_eq!(sent(&postbox, MailKind::AbandonedCart), expected);

    // The shopper comes back and leaves again.
    let carts = f.shop.acting_as(me()).carts();
    let any = crate::domain::common::ExpectedVersion::Unspecified;
    carts.add_line(of_guest, &access, any, &cart_line(&pen)).await.unwrap();
    for _ in 0..3 {
        f.clock.advance(DAY);
        settle(&[&shop, &open(f, &postbox, reminding())]).await;
    }
    assert_eq!(sent(&postbox, MailKind::AbandonedCart), expected);

    // The checkout, or a change, comes after the job was created and before the mail is made.
    let (late, late_access) = cart(f, "late@example.com", &pen).await;
    let (changed, changed_access) = cart(f, "changed@example.com", &pen).await;
    f.clock.advance(DAY);
    Reminders::new(&shop.cx).step(None).await.unwrap();
    f.shop.orders().checkout(late, &late_access, &checkout_of("late@example.com")).await.unwrap();
    carts.add_line(changed, &changed_access, any, &cart_line(&pen)).await.unwrap();
    settle(&[&shop]).await;
    assert_eq!(sent(&postbox, MailKind::AbandonedCart), expected);
    assert_eq!(skipped(&jobs(&shop).await), 2);
}

fn checkout_of(email: &str) -> CheckoutInput {
    let mut input = checkout();
    if let Some(customer) = &mut input.customer {
        email.clone_into(&mut customer.email);
    }
    input
}

/// The last cart shows that the shop reminds shoppers.
pub async fn carts_that_nobody_should_be_reminded_of_get_no_mail(f: &ShopFixture) {
    let postbox = Postbox::new();
    let pen = stocked(f, "Pen", 100).await;
    cart(f, "long-ago@example.com", &pen).await;
    f.clock.advance(DAY + DAY + SECOND);
    let carts = f.shop.carts();
    carts.create(&CartInput::default().line(cart_line(&pen))).await.unwrap();
    carts.create(&CartInput::default().email("empty@example.com")).await.unwrap();
    let mut imported = CartInput::default().email("imported@example.com").line(cart_line(&pen));
    (imported.source, imported.external_id) = (Some("legacy".to_owned()), Some("1".to_owned()));
    carts.create(&imported).await.unwrap();
    // Somebody with this address has ordered without the cart.
    cart(f, "GRACE@example.com", &pen).await;
    f.shop.orders().place(&guest(json!([line(&pen, 1)]))).await.unwrap();
    // Somebody makes many carts with the address of somebody else.
    for _ in 0..3 {
        cart(f, "victim@example.com", &pen).await;
    }
    f.clock.advance(DAY);
    let shop = open(f, &postbox, reminding());
    let off = open(f, &postbox, ShopConfig::default());
    settle(&[&off]).await;
    assert!(receivers(&postbox, MailKind::AbandonedCart).is_empty());
    settle(&[&shop]).await;
    assert_eq!(receivers(&postbox, MailKind::AbandonedCart), ["victim@example.com"]);
    // A cart in which nothing can be sold leads to no mail.
    let ink = stocked(f, "Ink", 100).await;
    cart(f, "gone@example.com", &ink).await;
    cart(f, "last@example.com", &pen).await;
    f.patch(&f.fresh(ink.id).await, json!({ "status": "archived" })).await.unwrap();
    f.clock.advance(DAY);
    settle(&[&shop]).await;
    assert_eq!(receivers(&postbox, MailKind::AbandonedCart), ["last@example.com", "victim@example.com"]);
}

/// Both processes do the work without its lease, as if the lease of one had run out.
pub async fn r13_two_processes_remind_of_a_cart_once(f: &ShopFixture) {
    let postbox = Postbox::new();
    let (one, two) = (open(f, &postbox, reminding()), open(f, &postbox, reminding()));
    let pen = stocked(f, "Pen", 100).await;
    for n in 0..20 {
        cart(f, &format!("guest{n}@example.com"), &pen).await;
    }
    f.clock.advance(DAY);
    let (mut first, mut second) = (Reminders::new(&one.cx), Reminders::new(&two.cx));
    let (first, second) = futures::join!(first.step(None), second.step(None));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    assert_eq!(jobs(&one).await.len(), 20);
    settle(&[&one, &two]).await;
    let to: BTreeSet<String> = receivers(&postbox, MailKind::AbandonedCart).into_iter().collect();
    assert_eq!((to.len(), postbox.tried()), (20, 20), "{to:?}");
}

/// The work is repeated after each fault, because it is unknown whether the commit was written.
pub async fn a_reminder_whose_commit_has_an_unknown_outcome_is_sent_once(f: &ShopFixture) {
    let postbox = Postbox::new();
    let storage = Unsteady::over(f.storage.clone());
    let config = reminding().lease_ttl(LONG);
    let parts = ShopParts { storage: storage.clone(), mailing: Some(postbox.mailing()), config, ..f.parts() };
    let unsteady = Shop::new(parts).unwrap();
    let pen = stocked(f, "Pen", 100).await;
    for (n, fault) in [Fault::CommitLost, Fault::AnswerLost, Fault::Contention].into_iter().enumerate() {
        cart(f, &format!("guest{n}@example.com"), &pen).await;
        f.clock.advance(DAY);
        let mut work = Reminders::new(&unsteady.cx);
        storage.plan(&[fault]);
        assert_eq!(work.step(None).await.is_ok(), fault == Fault::Contention, "{fault:?}");
        work.step(None).await.unwrap();
        assert_eq!(jobs(&unsteady).await.len(), n + 1, "{fault:?}");
    }
    settle(&[&unsteady]).await;
    let expected = ["guest0@example.com", "guest1@example.com", "guest2@example.com"];
    assert_eq!(receivers(&postbox, MailKind::AbandonedCart), expected);
}

/// A key that does not expire stays.
pub async fn expired_api_keys_are_removed_after_some_time(f: &ShopFixture) {
    let shop = f.process(LONG);
    let keys = f.shop.api_keys();
    let input = ApiKeyInput::new("robot", [Permission::StockAdjust]);
    let lasting = keys.create(&input).await.unwrap().key;
    let expired = keys.create(&input.expires_at(f.clock.now() + DAY)).await.unwrap().key;
    f.clock.advance(DAY + ApiKey::KEPT);
    settle(&[&shop]).await;
    assert_eq!(keys.get(expired.id).await.unwrap(), expired);
    let head = f.head().await;
    f.clock.advance(SECOND);
    settle(&[&shop]).await;
    assert_eq!(code_of(keys.get(expired.id).await, "an expired key"), ErrorCode::NotFound);
    assert_eq!(keys.get(lasting.id).await.unwrap(), lasting);
    let deleted: Vec<_> = f.events_after(head).await.iter().map(|e| (e.kind, e.aggregate_id)).collect();
    assert_eq!(deleted, [(EventKind::ApiKeyDeleted, expired.id.0)]);
}
