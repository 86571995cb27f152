//! The erasure of personal data leaves the amounts, and nothing that names a person (R45).

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{from, me, v};
use crate::catalog::ImportOptions;
use crate::config::ShopConfig;
use crate::domain::catalog::product::Product;
use crate::domain::catalog::review::ReviewInput;
use crate::domain::common::{Attributes, DeleteMode, ExpectedVersion, IncludeDeleted};
use crate::domain::platform::idempotency::{AnswerSubject, RequestHash, StoredAnswer};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::bill::BillPatch;
use crate::domain::sales::cart::{CartAccess, CartInput};
use crate::domain::sales::customer::{Customer, CustomerFilter, CustomerSort};
use crate::domain::sales::order::explain::ExplainedAmount;
use crate::domain::sales::order::input::{CancelUnits, LineChange, OrderEdit, OrderInput, OrderPatch};
use crate::domain::sales::order::{ChangeKind, DeliveryMethod, Order, OrderFilter, OrderSort, OrderStatus};
use crate::error::{ErrorCode, Result};
use crate::id::{CustomerId, OrderId};
use crate::paging::Paging;
use crate::service::platform::idempotency::Once;
use crate::testkit::code_of;
use crate::testkit::faults::Fault;

tests! {
    __shop_erasure: [
        r45_an_erasure_clears_what_is_personal_and_keeps_amounts,
        r45_an_erasure_is_repeated_without_effect,
        r45_an_erased_customer_is_neither_restored_nor_imported_again,
        r45_an_erased_order_goes_on,
        r45_many_orders_are_erased_in_several_transactions,
        r45_nothing_personal_survives_what_happens_at_the_same_time,
        r45_stored_answers_about_a_customer_are_erased,
        r45_an_erasure_is_part_of_the_transaction_of_a_host,
        r45_guests_stay_as_they_are,
        r45_events_hold_nothing_personal,
    ]
}

/// Texts that name the person.
const PERSONAL: [&str; 7] =
    ["Lovelace", "ada@example.com", "79460018", "Ockham", "engraved for Ada", "1Z-TRACK", "crm-17"];

async fn pen(f: &ShopFixture) -> Product {
    f.product(json!({ "title": "Pen", "price": "10.00", "stock": 1_000 })).await
}

async fn ada(f: &ShopFixture) -> Customer {
    let input = json!({
        "first_name": "Ada",
        "last_name": "Lovelace",
        "email": "ada@example.com",
        "telephone": "+44 20 7946 0018",
        "attributes": { "note": "engraved for Ada" },
        "source": "crm",
        "external_id": "crm-17",
    });
    f.shop.acting_as(me()).customers().create(&from(&input)).await.unwrap()
}

/// An order of two pens, with personal data wherever an order can have it.
fn full(of: CustomerId, pen: &Product, n: usize) -> OrderInput {
    from(&json!({
        "customer_id": of,
        "delivery_method": "home_delivery",
        "shipping_address": { "street": "Ockham Lane", "city": "London" },
        "billing_address": { "street": "Ockham Park", "city": "London" },
        "tracking": "1Z-TRACK",
        "discount": "3.00",
        "attributes": { "note": "engraved for Ada" },
        "source": "crm",
        "external_id": format!("crm-17/{n}"),
        "lines": [{
            "sku_id": pen.skus[0].id, "quantity": 2, "unit_price": "10.00",
            "attributes": { "engraving": "engraved for Ada" },
        }],
    }))
}

/// Returns the texts of [`PERSONAL`] that a value contains.
fn personal(value: &impl std::fmt::Debug) -> Vec<&'static str> {
    let text = format!("{value:?}");
    PERSONAL.into_iter().filter(|p| text.contains(p)).collect()
}

impl ShopFixture {
    async fn erase(&self, id: CustomerId) -> Result<Customer> {
        self.shop.acting_as(me()).customers().erase(id).await
    }

    async fn orders_of(&self, id: CustomerId) -> Vec<Order> {
        let filter = OrderFilter { customer: Some(id), include_deleted: IncludeDeleted::Yes, ..OrderFilter::default() };
        self.shop.orders().list(&filter, OrderSort::PlacedAsc, &Paging::first(10_000)).await.unwrap().0.items
    }

    async fn is_clean(&self) {
        let report = self.shop.audit().run().await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
    }
}

/// The customer, its addresses, carts, orders and histories name nobody afterwards. Amounts, numbers and bills stay.
pub async fn r45_an_erasure_clears_what_is_personal_and_keeps_amounts(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let shop = f.shop.acting_as(me());
    let (orders, carts) = (shop.orders(), shop.carts());
    shop.addresses().create(ada.id, &from(&json!({ "street": "Ockham Lane", "city": "London" }))).await.unwrap();
    let review = shop.reviews().create(pen.id, &ReviewInput::new(4).customer_id(ada.id)).await.unwrap();
    let open = orders.place(&full(ada.id, &pen, 1)).await.unwrap();
    let gone = orders.place(&full(ada.id, &pen, 2)).await.unwrap();
    orders.delete(gone.id, v(1)).await.unwrap();
    let cart: CartInput = from(&json!({
        "customer_id": ada.id, "email": "ada@example.com",
        "lines": [{ "sku_id": pen.skus[0].id, "quantity": 1, "unit_price": "10.00" }],
    }));
    let made = carts.create(&cart).await.unwrap().cart.cart;
    let guest = CartInput::default().email("ada@example.com");
    let guest = carts.create(&guest).await.unwrap().cart.cart.id;
    carts.assign(guest, &CartAccess::Permission, ada.id).await.unwrap();
    let checkout = from(&json!({ "delivery_method": "on_hand" }));
    let bought = orders.checkout(made.id, &CartAccess::Permission, &checkout).await.unwrap();
    let again = CartInput { customer_id: Some(ada.id), ..CartInput::default() };
    carts.create(&again.email("ada@example.com")).await.unwrap();
    let before = f.snapshot().await;
    assert!(!personal(&before.carts).is_empty() && before.carts.len() == 3, "{:#?}", before.carts);

    let head = f.head().await;
    let erased = f.erase(ada.id).await.unwrap();
    assert_eq!((erased.first_name.as_str(), erased.last_name.as_str()), ("erased", "erased"));
    assert_eq!(erased.email, format!("{}@erased.invalid", ada.id));
    assert_eq!((erased.telephone.as_deref(), erased.external.as_ref(), erased.attributes.0.len()), (None, None, 0));
    assert_eq!((erased.audit.version, erased.erased_at), (2, erased.audit.deleted_at));
    assert!(erased.erased_at.is_some(), "{erased:?}");
    let stored = shop.customers().get(ada.id, IncludeDeleted::Yes).await.unwrap();
    assert_eq!(stored, erased);
    let after = f.snapshot().await;
    assert_eq!((&after.addresses[..], &after.carts[..]), (&[][..], &[][..]));
    assert_eq!(personal(&after), [""; 0], "{after:#?}");
    assert_eq!(after.reviews, [review], "a review stays, and the id of the customer names nobody");
    assert_eq!((after.products, after.skus, after.movements), (before.products, before.skus, before.movements));

    for (old, new) in before.orders.iter().zip(&after.orders) {
        let id = old.order.id;
        assert_eq!((new.order.erased_at, new.order.audit.version), (erased.erased_at, old.order.audit.version + 1));
        assert_eq!((&new.bills, &new.adjustments, new.order.totals), (&old.bills, &old.adjustments, old.order.totals));
        assert_eq!((&new.order.number, new.order.status), (&old.order.number, old.order.status));
        assert_eq!(new.order.customer_id, Some(ada.id));
        let mut lines = old.order.lines.clone();
        for line in &mut lines {
            line.attributes = Attributes::default();
        }
        assert_eq!(new.order.lines, lines);
        let history = read!(f.storage, orders.history(id));
        assert!(history.iter().all(|c| c.data == json!({})), "{history:#?}");
        let last = history.last().unwrap();
        assert_eq!((last.kind, last.from, last.to), (ChangeKind::Erased, Some(new.order.status), new.order.status));
        assert_eq!((last.seq, &last.actor), (new.order.audit.version, me().actor()));
    }
    let events = f.events_after(head).await;
    let kinds: BTreeSet<_> = events.iter().map(|e| (e.kind.as_str(), e.aggregate_id, e.revision)).collect();
    let order = |id: OrderId, revision: i64| ("order.erased", id.0, revision);
    let expected = [("customer.erased", ada.id.0, 2), order(open.id, 2), order(gone.id, 4), order(bought.id, 2)];
    assert_eq!(kinds, BTreeSet::from(expected));
    f.is_clean().await;
    let explained = orders.explain(open.id, IncludeDeleted::No).await.unwrap();
    assert!(explained.amounts.iter().all(ExplainedAmount::adds_up), "{explained:#?}");

    let listed =
        async |filter: OrderFilter| orders.list(&filter, OrderSort::PlacedAsc, &Paging::first(9)).await.unwrap();
    let by_email = OrderFilter { email: Some("ada@example.com".to_owned()), ..OrderFilter::default() };
    assert_eq!(listed(by_email).await.0.items, []);
    let mut of_ada: Vec<OrderId> = f.orders_of(ada.id).await.iter().map(|o| o.id).collect();
    of_ada.sort_unstable();
    assert_eq!(of_ada, after.orders.iter().map(|r| r.order.id).collect::<Vec<_>>());
    let all = CustomerFilter { include_deleted: IncludeDeleted::Yes, ..CustomerFilter::default() };
    let (page, _) = shop.customers().list(&all, CustomerSort::NameAsc, &Paging::first(9)).await.unwrap();
    assert_eq!(page.items, [erased]);
}

/// Two processes erase a customer at once, and again later. A customer that was soft-deleted before is erased too.
pub async fn r45_an_erasure_is_repeated_without_effect(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    for n in 0..3 {
        f.shop.orders().place(&full(ada.id, &pen, n)).await.unwrap();
    }
    f.shop.acting_as(me()).customers().delete(ada.id, v(1), DeleteMode::Soft).await.unwrap();
    let deleted_at = f.shop.customers().get(ada.id, IncludeDeleted::Yes).await.unwrap().audit.deleted_at;
    f.clock.advance(std::time::Duration::from_secs(60));
    let other = f.another(ShopConfig::default(), f.cache());
    let erasures = (0..8).map(|n| {
        let shop = if n % 2 == 0 { &f.shop } else { &other };
        async move { shop.customers().erase(ada.id).await.unwrap() }
    });
    let mut erased = join_all(erasures).await;
    erased.dedup();
    assert_eq!(erased.len(), 1, "every call returns the same customer: {erased:#?}");
    assert_eq!((erased[0].audit.version, erased[0].audit.deleted_at), (3, deleted_at));
    assert!(erased[0].erased_at > deleted_at, "{erased:#?}");
    let before = f.snapshot().await;
    f.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(f.erase(ada.id).await.unwrap(), erased[0]);
    assert_eq!(f.snapshot().await, before, "a repetition writes nothing");
    assert!(before.orders.iter().all(|r| r.order.audit.version == 2), "each order is erased once");
    let nobody = CustomerId(uuid::Uuid::from_u128(7));
    assert_eq!(code_of(f.erase(nobody).await, "nobody"), ErrorCode::NotFound);
}

/// An import of the same record makes another customer, and so does a registration with the email.
pub async fn r45_an_erased_customer_is_neither_restored_nor_imported_again(f: &ShopFixture) {
    let ada = ada(f).await;
    let erased = f.erase(ada.id).await.unwrap();
    let customers = f.shop.acting_as(me()).customers();
    let before = f.snapshot().await;
    let refused = customers.restore(ada.id, v(2)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::StateConflict);
    assert!(refused.to_string().contains("was erased"), "{refused}");
    for result in [
        customers.patch(ada.id, v(2), from(&json!({ "first_name": "Ada" }))).await.map(drop),
        customers.delete(ada.id, v(2), DeleteMode::Soft).await,
        f.shop.addresses().create(ada.id, &from(&json!({ "street": "S", "city": "C" }))).await.map(drop),
    ] {
        assert_eq!(code_of(result, "a write of an erased customer"), ErrorCode::NotFound);
    }
    let cart = f.shop.carts().create(&CartInput { customer_id: Some(ada.id), ..CartInput::default() }).await;
    assert_eq!(code_of(cart, "a cart"), ErrorCode::Validation);
    let order = f.shop.orders().place(&OrderInput::new(ada.id, DeliveryMethod::OnHand)).await;
    assert_eq!(code_of(order, "an order"), ErrorCode::Validation);
    assert_eq!(f.snapshot().await, before);

    let record = json!({
        "external_id": "crm-17", "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com",
    });
    let (file, options) = (record.to_string(), ImportOptions::default().source("crm"));
    let report = f.shop.import().customers(std::io::Cursor::new(file), options, |_| {}).await.unwrap();
    assert_eq!((report.inserted, report.rejected), (1, 0), "{report:?}");
    let all = f.snapshot().await.customers;
    assert_eq!((all.len(), &all[0]), (2, &erased));
    // Without orders, the row itself can be removed.
    customers.delete(ada.id, v(2), DeleteMode::Force).await.unwrap();
    assert_eq!(f.snapshot().await.customers, all[1..]);
}

/// The lines and the status of an erased order change as before, and what would be personal is refused.
pub async fn r45_an_erased_order_goes_on(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let orders = f.shop.acting_as(me()).orders();
    let mut placed = Vec::new();
    for n in 0..3 {
        placed.push(orders.place(&full(ada.id, &pen, n)).await.unwrap());
    }
    let [first, second, third] = &placed[..] else { unreachable!() };
    let units = [CancelUnits { line_id: second.lines[0].id, quantity: 1 }];
    orders.cancel_units(second.id, v(1), &units).await.unwrap();
    f.erase(ada.id).await.unwrap();

    for patch in [json!({ "tracking": "1Z-TRACK" }), json!({ "shipping_address": { "street": "S", "city": "C" } })] {
        let refused = orders.patch(first.id, v(2), from::<OrderPatch>(&patch)).await;
        assert_eq!(code_of(refused, "a patch of an erased order"), ErrorCode::StateConflict);
    }
    let edit = OrderEdit::default().with(LineChange::quantity(first.lines[0].id, 3));
    orders.edit(first.id, v(2), &edit).await.unwrap();
    let bill = f.shop.bills().of_order(first.id, IncludeDeleted::No).await.unwrap().remove(0);
    let paid = BillPatch { paid: Some(true), ..BillPatch::default() };
    f.shop.bills().patch(bill.id, bill.audit.version.into(), paid).await.unwrap();
    orders.start(first.id, ExpectedVersion::Unspecified).await.unwrap();
    let delivered = orders.deliver(first.id, ExpectedVersion::Unspecified).await.unwrap();
    assert_eq!((delivered.status, delivered.delivery_method), (OrderStatus::Delivered, DeliveryMethod::HomeDelivery));
    orders.cancel_units(second.id, v(3), &units).await.unwrap();
    orders.delete(third.id, v(2)).await.unwrap();
    let hidden = orders.get(third.id, IncludeDeleted::Yes).await.unwrap();
    orders.restore(third.id, hidden.audit.version.into()).await.unwrap();
    f.is_clean().await;
    for order in &placed {
        let explained = orders.explain(order.id, IncludeDeleted::No).await.unwrap();
        assert!(explained.amounts.iter().all(ExplainedAmount::adds_up), "{explained:#?}");
    }
    let on_hand = f.shop.inventory().level(pen.skus[0].id).await.unwrap().on_hand;
    assert_eq!(on_hand, 1_000 - 3, "the canceled orders gave their pieces back");
}

/// The first transaction is committed without an answer, and a repetition erases what it left.
pub async fn r45_many_orders_are_erased_in_several_transactions(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let inputs: Vec<OrderInput> = (0..510)
        .map(|n| full(ada.id, &pen, n))
        .map(|o| OrderInput { lines: Vec::new(), discount: None, ..o })
        .collect();
    for placed in join_all(inputs.iter().map(|o| async { f.shop.orders().place(o).await })).await {
        placed.unwrap();
    }
    let (shop, storage) = f.unsteady();
    storage.plan(&[Fault::AnswerLost]);
    let lost = shop.customers().erase(ada.id).await.unwrap_err();
    assert!(lost.outcome_unknown(), "{lost:?}");
    let erased = |orders: &[Order]| orders.iter().filter(|o| o.erased_at.is_some()).count();
    assert_eq!((erased(&f.orders_of(ada.id).await), storage.commits()), (500, 1));
    storage.plan(&[]);
    shop.customers().erase(ada.id).await.unwrap();
    assert_eq!(storage.commits(), 1);
    let orders = f.orders_of(ada.id).await;
    assert_eq!((orders.len(), erased(&orders), personal(&orders).len()), (510, 510, 0));
    assert!(orders.iter().all(|o| o.audit.version == 2), "each order is erased once");
    let events = f.log().await;
    assert_eq!(events.iter().filter(|e| e.kind == EventKind::OrderErased).count(), 510);
    assert_eq!(events.iter().filter(|e| e.kind == EventKind::CustomerErased).count(), 1);
    f.is_clean().await;
}

/// Two processes place orders, check carts out, patch orders, and add addresses and carts while the customer is erased.
pub async fn r45_nothing_personal_survives_what_happens_at_the_same_time(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let first = f.shop.orders().place(&full(ada.id, &pen, 999)).await.unwrap().id;
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..24 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let (pen, id) = (pen.clone(), ada.id);
        tasks.spawn(async move {
            // Whether a call came before the erasure or after it decides whether it is refused.
            let late = |result: Result<()>| match result.map_err(|e| e.code()) {
                Ok(()) => false,
                Err(ErrorCode::NotFound | ErrorCode::Validation | ErrorCode::StateConflict) => true,
                Err(code) => panic!("task {n}: {code}"),
            };
            for m in 0..4 {
                if (n, m) == (3, 1) {
                    shop.customers().erase(id).await.unwrap();
                }
                let home = json!({ "street": "Ockham Lane", "city": "London" });
                let cart = CartInput { customer_id: Some(id), ..CartInput::default() };
                late(match n % 4 {
                    0 => shop.orders().place(&full(id, &pen, n * 10 + m)).await.map(drop),
                    1 => shop.addresses().create(id, &from(&home)).await.map(drop),
                    2 => shop.carts().create(&cart.email("ada@example.com")).await.map(drop),
                    _ => {
                        let patch = json!({ "attributes": { format!("n{n}/{m}"): "engraved for Ada" } });
                        let version = shop.orders().get(first, IncludeDeleted::No).await.unwrap().audit.version;
                        let patched = shop.orders().patch(first, v(version), from::<OrderPatch>(&patch)).await;
                        if patched.as_ref().is_err_and(|e| e.code() == ErrorCode::VersionConflict) {
                            continue;
                        }
                        patched.map(drop)
                    }
                });
            }
        });
    }
    tasks.join_all().await;
    let after = f.snapshot().await;
    assert_eq!(personal(&after), [""; 0], "{after:#?}");
    assert_eq!((after.carts.len(), after.addresses.len()), (0, 0));
    assert!(after.orders.iter().all(|r| r.order.erased_at.is_some()), "{:#?}", after.orders);
    f.is_clean().await;
}

/// A repetition of the call does not run, and does not show the answer.
pub async fn r45_stored_answers_about_a_customer_are_erased(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let calls = f.shop.idempotency();
    let place = async |key: &str, of: Option<CustomerId>| {
        let key = calls.key("orders.place", key).unwrap();
        let (shop, pen) = (&f.shop, &pen);
        let input = &full(ada.id, pen, 1);
        calls
            .run(&key, RequestHash::of([b"1".as_slice()]), |mut tx| async move {
                let order = shop.orders().place_in(&mut tx, input).await?;
                let answer = StoredAnswer::json(&order.buyer)?.about(of.map(AnswerSubject::Customer));
                Ok((order, answer, tx))
            })
            .await
    };
    let Once::Ran(order) = place("a", Some(ada.id)).await.unwrap() else { panic!("the call must run") };
    let Once::Replayed(answer) = place("a", Some(ada.id)).await.unwrap() else { panic!("the call must not run again") };
    assert!(String::from_utf8_lossy(answer.as_bytes()).contains("Lovelace"));
    f.erase(ada.id).await.unwrap();
    let before = f.snapshot().await;
    for _ in 0..2 {
        let refused = place("a", Some(ada.id)).await;
        assert_eq!(code_of(refused, "a repetition"), ErrorCode::IdempotencyAnswerErased);
    }
    let mut tx = f.shop.begin().await.unwrap();
    let key = calls.key("orders.place", "a").unwrap();
    let claimed = calls.claim_in(&mut tx, &key, RequestHash::of([b"1".as_slice()])).await;
    assert_eq!(code_of(claimed, "a claim"), ErrorCode::IdempotencyAnswerErased);
    drop(tx);
    assert_eq!(f.snapshot().await, before);
    assert_eq!(before.orders.iter().map(|r| r.order.id).collect::<Vec<_>>(), [order.id]);
}

/// A host erases a customer in a transaction of its own, which it rolls back, and then commits.
pub async fn r45_an_erasure_is_part_of_the_transaction_of_a_host(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    f.shop.orders().place(&full(ada.id, &pen, 1)).await.unwrap();
    let before = f.snapshot().await;
    let customers = f.shop.acting_as(me()).customers();
    let mut tx = f.shop.begin().await.unwrap();
    customers.erase_in(&mut tx, ada.id).await.unwrap();
    drop(tx);
    assert_eq!(f.snapshot().await, before);
    let mut tx = f.shop.begin().await.unwrap();
    let erased = customers.erase_in(&mut tx, ada.id).await.unwrap();
    assert_eq!(customers.erase_in(&mut tx, ada.id).await.unwrap(), erased);
    tx.commit().await.unwrap().run().await;
    let after = f.snapshot().await;
    assert_eq!((personal(&after).len(), &after.customers[..]), (0, &[erased][..]));
    f.is_clean().await;
}

/// Orders and carts of guests with the email of an erased customer are not those of the customer.
pub async fn r45_guests_stay_as_they_are(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let guest: OrderInput = from(&json!({
        "customer": { "first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com" },
        "delivery_method": "on_hand",
        "lines": [{ "sku_id": pen.skus[0].id, "quantity": 1, "unit_price": "10.00" }],
    }));
    let order = f.shop.orders().place(&guest).await.unwrap();
    let cart = CartInput::default().email("ada@example.com");
    let cart = f.shop.carts().create(&cart).await.unwrap().cart.cart;
    f.erase(ada.id).await.unwrap();
    let after = f.snapshot().await;
    assert_eq!((&after.orders[0].order, &after.carts[..]), (&order, &[cart][..]));
}

/// Neither the life of an order nor an erasure writes personal data to the outbox.
pub async fn r45_events_hold_nothing_personal(f: &ShopFixture) {
    let (pen, ada) = (pen(f).await, ada(f).await);
    let shop = f.shop.acting_as(me());
    let orders = shop.orders();
    let order = orders.place(&full(ada.id, &pen, 1)).await.unwrap();
    let edit = OrderEdit::default().with(LineChange::quantity(order.lines[0].id, 4));
    orders.edit(order.id, v(1), &edit).await.unwrap();
    let patch = json!({ "shipping_address": { "street": "Ockham Road", "city": "London" }, "tracking": "1Z-TRACK-2" });
    orders.patch(order.id, v(2), from::<OrderPatch>(&patch)).await.unwrap();
    orders.start(order.id, v(3)).await.unwrap();
    let units = [CancelUnits { line_id: order.lines[0].id, quantity: 1 }];
    orders.cancel_units(order.id, v(4), &units).await.unwrap();
    orders.cancel(order.id).await.unwrap();
    let cart = CartInput { customer_id: Some(ada.id), ..CartInput::default() };
    shop.carts().create(&cart.email("ada@example.com")).await.unwrap();
    shop.addresses().create(ada.id, &from(&json!({ "street": "Ockham Lane", "city": "London" }))).await.unwrap();
    f.erase(ada.id).await.unwrap();
    let events = f.log().await;
    assert!(events.len() >= 14, "{events:#?}");
    for event in &events {
        let text = serde_json::to_string(event).unwrap();
        for word in PERSONAL.into_iter().chain(["Ada", "London", "example.com", "erased.invalid"]) {
            assert!(!text.contains(word), "an event must not contain `{word}`: {text}");
        }
    }
    let kinds: Vec<Value> = events.iter().rev().take(2).map(|e| json!(e.kind)).collect();
    assert_eq!(kinds, ["order.erased", "customer.erased"]);
}
