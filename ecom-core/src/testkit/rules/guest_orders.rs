//! The orders of guests become those of a customer once its user has proven that the email address is its own (R45).

use std::collections::BTreeSet;

use futures::future::join_all;
use serde_json::json;

use super::ShopFixture;
use super::mails::{ADA, Mailed, RESET, VERIFY, is_void, mailed};
use super::orders::{line, stocked};
use super::support::{fields, from, me, v};
use crate::config::ShopConfig;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::secret::Secret;
use crate::domain::access::user::{ProfilePatch, UserInput, UserPatch};
use crate::domain::catalog::product::Product;
use crate::domain::common::{DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::platform::idempotency::{AnswerSubject, IdempotencyKey, RequestHash, StoredAnswer};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{CartAccess, CartInput, CartLineInput, CartToken};
use crate::domain::sales::customer::{Customer, CustomerInput};
use crate::domain::sales::order::input::{CheckoutInput, LineChange, OrderEdit, OrderInput};
use crate::domain::sales::order::{ChangeKind, Order, OrderFilter, OrderSort, OrderStatus};
use crate::error::{ErrorCode, Result};
use crate::id::{CartId, CustomerId, OrderId};
use crate::paging::Paging;
use crate::service::platform::idempotency::{KeyedCall, Once};
use crate::testkit::code_of;
use crate::testkit::faults::Fault;

tests! {
    __shop_guest_orders: [
        r45_guest_orders_become_the_customers_once_its_address_is_verified,
        r45_a_customer_uses_its_linked_orders_and_the_guest_keeps_the_token,
        r45_a_reset_of_the_password_links_guest_orders_too,
        r45_orders_of_other_addresses_and_other_customers_are_not_linked,
        r45_a_user_that_is_no_live_customer_gets_no_orders,
        r45_a_verified_user_becomes_a_customer_once_it_gives_its_name,
        r45_only_the_user_itself_with_a_verified_address_becomes_a_customer_by_its_name,
        r45_whoever_sets_the_password_of_a_user_gets_no_orders_by_its_name,
        r45_an_erasure_after_the_link_erases_the_orders_and_their_answers,
        r45_guest_orders_are_linked_once_whatever_happens_at_the_same_time,
        r45_a_verification_that_runs_again_links_once,
    ]
}

const NO: IncludeDeleted = IncludeDeleted::No;

async fn pen(f: &ShopFixture) -> Product {
    stocked(f, "Pen", 1_000).await
}

/// An order of a guest with this email.
fn order(email: &str, pen: &Product) -> OrderInput {
    from(&json!({
        "customer": { "first_name": "Ada", "last_name": "Lovelace", "email": email },
        "delivery_method": "on_hand",
        "lines": [line(pen, 2)],
    }))
}

fn checkout(email: &str) -> CheckoutInput {
    from(&json!({
        "customer": { "first_name": "Ada", "last_name": "Lovelace", "email": email },
        "delivery_method": "on_hand",
    }))
}

async fn placed(f: &ShopFixture, email: &str, pen: &Product) -> OrderId {
    f.shop.acting_as(me()).orders().place(&order(email, pen)).await.unwrap().id
}

/// Creates the cart of a guest with its email address and one line.
async fn cart(f: &ShopFixture, pen: &Product) -> (CartId, CartToken) {
    let line = CartLineInput::new(pen.skus[0].id, 1, pen.skus[0].price);
    let input = CartInput::default().email(ADA).line(line);
    let made = f.shop.acting_as(&Principal::anonymous([])).carts().create(&input).await.unwrap();
    (made.cart.cart.id, made.token.unwrap())
}

async fn customer(f: &ShopFixture, email: &str) -> Customer {
    let input = CustomerInput::new("Augusta", "King", email);
    f.shop.acting_as(me()).customers().create(&input).await.unwrap()
}

impl ShopFixture {
    async fn stored_order(&self, id: OrderId) -> Order {
        self.shop.orders().get(id, IncludeDeleted::Yes).await.unwrap()
    }

    /// Returns the customers of orders.
    async fn owners(&self, ids: &[OrderId]) -> Vec<Option<CustomerId>> {
        let mut owners = Vec::new();
        for id in ids {
            owners.push(self.stored_order(*id).await.customer_id);
        }
        owners
    }
}

impl Mailed {
    /// Registers a user and verifies its address. Returns its customer.
    async fn customer_of(&self, email: &str, name: Option<&str>) -> Option<CustomerId> {
        self.verified(email, name).await.customer_id
    }
}

/// Neither a registration nor a customer with the email gets the orders. The verification gives each order one version,
/// one entry in its history, and one event.
pub async fn r45_guest_orders_become_the_customers_once_its_address_is_verified(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let first = placed(f, ADA, &pen).await;
    let gone = placed(f, "Ada@Example.com", &pen).await;
    f.shop.acting_as(me()).orders().delete(gone, v(1)).await.unwrap();
    let other = placed(f, "bob@example.com", &pen).await;
    let all = [first, gone, other];
    let before = [f.stored_order(first).await, f.stored_order(gone).await, f.stored_order(other).await];

    let registered = m.register(ADA, Some("Ada Lovelace")).await;
    let token = m.token(ADA, VERIFY, None).await;
    assert_eq!(f.owners(&all).await, [None; 3], "a registration proves nothing");
    let augusta = customer(f, ADA).await;
    assert_eq!(f.owners(&all).await, [None; 3], "and neither does a customer with the email");
    is_void(m.shop.auth().verify_email(Principal::system(), &Secret::new("wrong")).await, "a wrong token");
    assert_eq!(f.owners(&all).await, [None; 3]);

    let head = f.head().await;
    let who = m.shop.auth().authenticate(&registered.access).await.unwrap();
    let ada = m.shop.auth().verify_email(&who, &token).await.unwrap();
    assert_eq!(ada.customer_id, Some(augusta.id));
    assert_eq!(f.owners(&all).await, [Some(augusta.id), Some(augusta.id), None]);
    for before in &before[..2] {
        let after = f.stored_order(before.id).await;
        let mut expected = before.clone();
        (expected.customer_id, expected.audit) = (Some(augusta.id), after.audit.clone());
        assert_eq!(after, expected, "only the customer changes");
        assert_eq!(after.audit.version, before.audit.version + 1);
        assert_eq!(&after.audit.updated_by, who.actor());
        let last = read!(f.storage, orders.history(before.id)).pop().unwrap();
        assert_eq!((last.seq, last.kind, last.to), (after.audit.version, ChangeKind::Patched, before.status));
        assert_eq!((last.data, &last.actor), (json!({ "customer_id": augusta.id }), who.actor()));
    }
    assert_eq!(f.stored_order(other).await, before[2]);
    let events = f.events_after(head).await;
    let edited: BTreeSet<_> =
        events.iter().filter(|e| e.kind == EventKind::OrderUpdated).map(|e| e.aggregate_id).collect();
    assert_eq!(edited, BTreeSet::from([first.0, gone.0]));
    assert_eq!(events.len(), 3, "and one event of the user: {events:#?}");
    assert!(events.iter().all(|e| e.actor == *who.actor()), "{events:#?}");

    // An order that the guest places later is the guest's.
    let late = placed(f, ADA, &pen).await;
    assert_eq!(f.stored_order(late).await.customer_id, None);
    f.audited().await;
    m.background.shutdown().await;
}

/// The customer lists, reads, edits and cancels the orders as its own. The token of the cart opens the order as before.
pub async fn r45_a_customer_uses_its_linked_orders_and_the_guest_keeps_the_token(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let (cart, token) = cart(f, &pen).await;
    let (access, guest) = (CartAccess::from(token), Principal::anonymous([]));
    let bought = f.shop.acting_as(&guest).orders().checkout(cart, &access, &checkout(ADA)).await.unwrap();
    let second = placed(f, ADA, &pen).await;
    let owner = m.customer_of(ADA, Some("Ada Lovelace")).await.unwrap();
    let who = Principal::new("user:ada", []).with_customer(owner);
    let own = f.shop.acting_as(&who);
    let mut listed =
        own.orders().list(&OrderFilter::default(), OrderSort::default(), &Paging::first(9)).await.unwrap().0;
    listed.items.sort_by_key(|order| order.id);
    assert_eq!(listed.items.iter().map(|o| o.id).collect::<Vec<_>>(), [bought.id, second]);
    let read = own.orders().get(bought.id, NO).await.unwrap();
    assert_eq!((read.customer_id, read.audit.version), (Some(owner), 2));
    assert_eq!(own.orders().history(bought.id, NO).await.unwrap().len(), 2);
    assert_eq!(own.bills().of_order(bought.id, NO).await.unwrap().len(), 1);
    let edit = OrderEdit::default().with(LineChange::quantity(read.lines[0].id, 3));
    let stale = own.orders().edit(bought.id, v(1), &edit).await;
    assert_eq!(code_of(stale, "the version before"), ErrorCode::VersionConflict);
    own.orders().edit(bought.id, v(2), &edit).await.unwrap();
    assert_eq!(own.orders().cancel(second).await.unwrap().status, OrderStatus::Canceled);

    let followed = f.shop.acting_as(&guest).orders().get_by_cart(cart, &access).await.unwrap();
    assert_eq!((followed.id, followed.lines[0].quantity), (bought.id, 3));
    let again = f.shop.acting_as(&guest).orders().checkout(cart, &access, &checkout(ADA)).await.unwrap();
    assert_eq!(again, followed, "a second checkout returns the order (R20)");
    let stranger = Principal::new("user:bob", []).with_customer(customer(f, "bob@example.com").await.id);
    let refused = f.shop.acting_as(&stranger).orders().get(bought.id, NO).await;
    assert_eq!(code_of(refused, "another customer"), ErrorCode::NotFound);
    f.audited().await;
    m.background.shutdown().await;
}

/// The mail also proves the address, also if it was proven before.
pub async fn r45_a_reset_of_the_password_links_guest_orders_too(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let first = placed(f, ADA, &pen).await;
    m.register(ADA, Some("Ada Lovelace")).await;
    let token = m.reset(None).await;
    assert_eq!(f.stored_order(first).await.customer_id, None);
    m.shop.auth().reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    let user = m.shop.auth().login(ADA, &Secret::new("battery staple"), None).await.unwrap().user;
    let owner = user.customer_id;
    assert!(owner.is_some(), "{user:?}");
    assert_eq!(f.stored_order(first).await.customer_id, owner);
    let late = placed(f, ADA, &pen).await;
    let token = m.reset(Some(&token)).await;
    m.shop.auth().reset_password(&token, &Secret::new("correct horse")).await.unwrap();
    assert_eq!(f.stored_order(late).await.customer_id, owner);
    assert_eq!([f.stored_order(first).await.audit.version, f.stored_order(late).await.audit.version], [2, 2]);
    f.audited().await;
    m.background.shutdown().await;
}

/// Addresses that only fold alike can belong to two people. What a customer has bought stays its own.
pub async fn r45_orders_of_other_addresses_and_other_customers_are_not_linked(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let alike = [placed(f, "ada@strasse.de", &pen).await, placed(f, "ADA@STRASSE.de", &pen).await];
    let same = placed(f, "Ada@straße.de", &pen).await;
    // A customer had the address when it bought, and has another one now.
    let bob = customer(f, "ada@straße.de").await;
    let input = from(&json!({ "customer_id": bob.id, "delivery_method": "on_hand", "lines": [line(&pen, 1)] }));
    let bobs = f.shop.orders().place(&input).await.unwrap().id;
    f.shop.customers().patch(bob.id, v(1), from(&json!({ "email": "bob@example.com" }))).await.unwrap();
    let owner = m.unlike("ada@straße.de", "Ada Lovelace").await.customer_id;
    assert!(owner.is_some() && owner != Some(bob.id), "{owner:?}");
    assert_eq!(f.owners(&alike).await, [None, None]);
    assert_eq!(f.owners(&[same, bobs]).await, [owner, Some(bob.id)]);
    assert_eq!(f.stored_order(bobs).await.audit.version, 1);
    f.audited().await;
    m.background.shutdown().await;
}

/// The orders stay those of guests.
pub async fn r45_a_user_that_is_no_live_customer_gets_no_orders(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let (nameless, clerk) = (placed(f, "x@example.com", &pen).await, placed(f, "clerk@example.com", &pen).await);
    assert_eq!(m.customer_of("x@example.com", None).await, None);
    // The customer of the user is soft-deleted.
    let gone = customer(f, "gone@example.com").await;
    let input = UserInput { customer_id: Some(gone.id), ..UserInput::new("clerk@example.com") };
    m.shop.users().create(&input).await.unwrap();
    m.shop.auth().request_verification("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", VERIFY, None).await;
    f.shop.customers().delete(gone.id, v(1), DeleteMode::Soft).await.unwrap();
    let user = m.shop.auth().verify_email(Principal::system(), &token).await.unwrap();
    assert_eq!(user.customer_id, Some(gone.id));
    assert_eq!(f.owners(&[nameless, clerk]).await, [None, None]);
    // A user that is a live customer gets the orders of its own address, whatever that of the customer is.
    f.shop.customers().restore(gone.id, v(2)).await.unwrap();
    m.shop.auth().request_password_reset("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", RESET, None).await;
    m.shop.auth().reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    assert_eq!(f.owners(&[nameless, clerk]).await, [None, Some(gone.id)]);
    f.audited().await;
    m.background.shutdown().await;
}

fn named(name: &str) -> ProfilePatch {
    ProfilePatch { name: Patch::Set(name.to_owned()), version: None }
}

/// Somebody has registered the address without a name, and the owner resets the password. The edit of the name has the
/// effects of a verification, and those that follow do not.
pub async fn r45_a_verified_user_becomes_a_customer_once_it_gives_its_name(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let first = placed(f, ADA, &pen).await;
    m.register(ADA, None).await;
    let token = m.reset(None).await;
    m.shop.auth().reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    let auth = m.shop.auth();
    let tokens = auth.login(ADA, &Secret::new("battery staple"), None).await.unwrap();
    assert_eq!((tokens.user.customer_id, f.stored_order(first).await.customer_id), (None, None));
    let who = auth.authenticate(&tokens.access).await.unwrap();
    let read = tokens.user.audit.version;
    let edit = async |version: i64, name: &str| auth.update_profile(&who, v(version), named(name)).await;
    let before = f.snapshot().await;
    assert_eq!(code_of(edit(read - 1, "Ada Lovelace").await, "a stale version"), ErrorCode::VersionConflict);
    let unnamed = auth.update_profile(&who, ExpectedVersion::Unspecified, named("Ada Lovelace")).await;
    assert_eq!(code_of(unnamed, "no version"), ErrorCode::VersionRequired);
    let bad = auth.update_profile(&who, v(read), named(&"x".repeat(201))).await;
    assert_eq!(fields(bad, "a long name").into_keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(f.snapshot().await, before);
    let user = edit(read, "Ada").await.unwrap();
    assert_eq!((user.customer_id, user.name.as_deref(), user.audit.version), (None, Some("Ada"), read + 1));

    let head = f.head().await;
    let user = edit(read + 1, " Ada Lovelace ").await.unwrap();
    let owner = user.customer_id.unwrap();
    assert_eq!((user.name.as_deref(), user.audit.version), (Some("Ada Lovelace"), read + 2));
    assert_eq!(auth.me(&who).await.unwrap(), user);
    let made = f.shop.customers().get(owner, NO).await.unwrap();
    assert_eq!((made.first_name.as_str(), made.last_name.as_str(), &*made.email), ("Ada", "Lovelace", ADA));
    assert_eq!(f.stored_order(first).await.customer_id, Some(owner));
    assert_eq!(auth.authenticate(&tokens.access).await.unwrap().customer(), Some(owner), "the session goes on");
    let events = f.events_after(head).await;
    assert!(events.iter().all(|e| e.actor == *who.actor()), "{events:#?}");
    let kinds: Vec<_> = events.iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [EventKind::CustomerCreated, EventKind::UserUpdated, EventKind::OrderUpdated]);
    let log = f.audit_log().await.into_iter().filter(|entry| entry.actor == *who.actor());
    let mut actions: Vec<_> = log.map(|entry| entry.action).collect();
    actions.sort();
    // The reset of the password is the first edit.
    assert_eq!(actions, ["customer.created", "user.created", "user.updated", "user.updated", "user.updated"]);

    // A later edit changes the name of the user alone.
    let late = placed(f, ADA, &pen).await;
    let user = edit(read + 2, "Augusta King").await.unwrap();
    assert_eq!((user.customer_id, f.stored_order(late).await.customer_id), (Some(owner), None));
    assert_eq!(f.shop.customers().get(owner, NO).await.unwrap(), made);
    // An edit that changes nothing is no edit, and the name can be removed.
    assert_eq!(edit(read + 3, "Augusta King").await.unwrap(), user);
    let nameless = ProfilePatch { name: Patch::Clear, version: Some(read + 3) };
    let user = auth.update_profile(&who, ExpectedVersion::Unspecified, nameless).await.unwrap();
    assert_eq!((user.name, user.customer_id), (None, Some(owner)));
    f.audited().await;
    m.background.shutdown().await;
}

/// Somebody who may write users, but not act as customers, sets a password and logs in as the user.
pub async fn r45_whoever_sets_the_password_of_a_user_gets_no_orders_by_its_name(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let order = placed(f, ADA, &pen).await;
    let user = m.register(ADA, None).await.user;
    let token = m.reset(None).await;
    let auth = m.shop.auth();
    auth.reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    let user = m.shop.users().get(user.id, NO).await.unwrap();
    assert!(user.email_verified_at.is_some());
    let password = || UserPatch { password: Patch::Set(Secret::new("correct horse")), ..UserPatch::default() };
    let manager = Principal::new("manager", [Permission::UsersWrite]);
    let edited = m.shop.acting_as(&manager).users().patch(user.id, v(user.audit.version), password()).await.unwrap();
    assert_eq!(edited.email_verified_at, None);
    let tokens = auth.login(ADA, &Secret::new("correct horse"), None).await.unwrap();
    let who = auth.authenticate(&tokens.access).await.unwrap();
    let named = auth.update_profile(&who, v(tokens.user.audit.version), named("Ada Lovelace")).await.unwrap();
    assert_eq!((named.customer_id, f.stored_order(order).await.customer_id), (None, None));
    // The owner of the address proves it again. An admin, who may act as any customer, leaves the proof as it is.
    let token = m.reset(Some(&token)).await;
    auth.reset_password(&token, &Secret::new("battery staple")).await.unwrap();
    let owner = m.shop.users().get(user.id, NO).await.unwrap();
    assert_eq!(f.stored_order(order).await.customer_id, owner.customer_id);
    assert!(owner.customer_id.is_some());
    let same = m.shop.users().patch(user.id, v(owner.audit.version), password()).await.unwrap();
    assert_eq!(same.email_verified_at, owner.email_verified_at);
    f.audited().await;
    m.background.shutdown().await;
}

/// A name proves nothing. Of many edits at once, in two processes, one succeeds.
pub async fn r45_only_the_user_itself_with_a_verified_address_becomes_a_customer_by_its_name(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let first = placed(f, ADA, &pen).await;
    let augusta = customer(f, ADA).await;
    let auth = m.shop.auth();
    let tokens = m.register(ADA, None).await;
    let who = auth.authenticate(&tokens.access).await.unwrap();
    let eve = auth.update_profile(&who, v(1), named("Eve Evil")).await.unwrap();
    assert_eq!((eve.customer_id, f.stored_order(first).await.customer_id), (None, None), "not verified");
    for nobody in [me(), &Principal::anonymous([]), &Principal::new("user:ada", []).with_customer(augusta.id)] {
        let refused = auth.update_profile(nobody, v(2), named("Eve Evil")).await;
        assert_eq!(code_of(refused, "without a session"), ErrorCode::Unauthenticated);
    }
    // The customer is another user when the address is verified, and not any more when the name is edited.
    let input = UserInput { customer_id: Some(augusta.id), ..UserInput::new("other@example.com") };
    let other = m.shop.users().create(&input).await.unwrap();
    let token = m.token(ADA, VERIFY, None).await;
    let user = auth.verify_email(&who, &token).await.unwrap();
    assert_eq!(user.customer_id, None);
    let version = user.audit.version;
    let same = auth.update_profile(&who, v(version), ProfilePatch::default()).await.unwrap();
    assert_eq!(same, user, "a patch without a name");
    m.shop.users().delete(other.id, v(other.audit.version), DeleteMode::Soft).await.unwrap();
    let process = f.another(ShopConfig::default(), f.cache());
    let edits = join_all((0..8).map(|n| {
        let shop = if n % 2 == 0 { &m.shop } else { &process };
        let who = &who;
        async move { shop.auth().update_profile(who, v(version), named(&format!("Ada {n}"))).await }
    }));
    let (won, lost): (Vec<_>, Vec<_>) = edits.await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    assert_eq!(won[0].as_ref().unwrap().customer_id, Some(augusta.id));
    for lost in lost {
        assert_eq!(code_of(lost, "another edit was first"), ErrorCode::VersionConflict);
    }
    assert_eq!(f.stored_order(first).await.customer_id, Some(augusta.id));
    // An employee does not become a new customer.
    let clerk = UserInput::new("clerk@example.com").password("correct horse").role("staff");
    m.shop.users().create(&clerk).await.unwrap();
    auth.request_verification("clerk@example.com").await.unwrap();
    let token = m.token("clerk@example.com", VERIFY, None).await;
    let tokens = auth.login("clerk@example.com", &Secret::new("correct horse"), None).await.unwrap();
    let who = auth.authenticate(&tokens.access).await.unwrap();
    let read = auth.verify_email(&who, &token).await.unwrap().audit.version;
    let clerk = auth.update_profile(&who, v(read), named("Charles Babbage")).await.unwrap();
    assert_eq!((clerk.customer_id, clerk.name.as_deref()), (None, Some("Charles Babbage")));
    f.audited().await;
    m.background.shutdown().await;
}

/// The answers were stored while the orders were a guest's. Those about the order of another guest stay.
pub async fn r45_an_erasure_after_the_link_erases_the_orders_and_their_answers(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let key = |name: &str| IdempotencyKey::of(me(), "orders.place", name).unwrap();
    let once = |name: &str| KeyedCall::new(key(name), RequestHash::of([]), |o: &Order, _| StoredAnswer::json(&o.buyer));
    let shop = f.shop.acting_as(me());
    let place = async |name: &str, email: &str| shop.orders().place_once(&order(email, &pen), once(name)).await;
    let Once::Ran(first) = place("a", ADA).await.unwrap() else { panic!("the call must run") };
    let (cart, token) = cart(f, &pen).await;
    let access = CartAccess::from(token);
    let check = async |name: &str| shop.orders().checkout_once(cart, &access, &checkout(ADA), once(name)).await;
    let Once::Ran(bought) = check("b").await.unwrap() else { panic!("the call must run") };
    place("c", "bob@example.com").await.unwrap();
    // A write in a transaction of its own, such as that of a POST.
    let calls = shop.idempotency();
    let cancel = async || {
        calls
            .run(&key("d"), RequestHash::of([]), |mut tx| async move {
                let order = f.shop.acting_as(me()).orders().cancel_in(&mut tx, first.id).await?;
                let answer = StoredAnswer::json(&order.buyer)?.about(order.subject());
                Ok((order, answer, tx))
            })
            .await
    };
    let Once::Ran(canceled) = cancel().await.unwrap() else { panic!("the call must run") };
    assert_eq!(canceled.subject(), Some(AnswerSubject::Guest(first.id.0)));
    let owner = m.customer_of(ADA, Some("Ada Lovelace")).await.unwrap();
    assert_eq!(f.owners(&[first.id, bought.id]).await, [Some(owner); 2]);
    for replayed in [place("a", ADA).await, check("b").await, cancel().await] {
        assert!(matches!(replayed, Ok(Once::Replayed(_))), "a repetition gets its answer: {replayed:?}");
    }

    shop.customers().erase(owner).await.unwrap();
    for erased in [place("a", ADA).await, check("b").await, cancel().await] {
        assert_eq!(code_of(erased, "a repetition"), ErrorCode::IdempotencyAnswerErased);
    }
    assert!(matches!(place("c", "bob@example.com").await, Ok(Once::Replayed(_))), "of another guest");
    let after = f.snapshot().await;
    let text = format!("{:?} {:?} {:?}", after.customers, after.carts, after.orders);
    assert!(!text.contains(ADA) && text.contains("bob@example.com"), "{text}");
    for id in [first.id, bought.id] {
        let order = f.stored_order(id).await;
        assert!(order.erased_at.is_some() && order.is_anonymous(), "{order:#?}");
        assert!(read!(f.storage, orders.history(id)).iter().all(|c| c.data == json!({})));
    }
    let followed = shop.orders().get_by_cart(cart, &access).await;
    assert_eq!(code_of(followed, "the cart is removed with the data of its order"), ErrorCode::NotFound);
    f.audited().await;
    m.background.shutdown().await;
}

/// Two processes use two tokens of a user, while guests place orders and others are canceled. In the second round, the
/// customer is erased meanwhile.
pub async fn r45_guest_orders_are_linked_once_whatever_happens_at_the_same_time(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    for (email, erases) in [(ADA, false), ("grace@example.com", true)] {
        let mut early = Vec::new();
        for _ in 0..12 {
            early.push(placed(f, email, &pen).await);
        }
        let owner = customer(f, email).await.id;
        // An erasure before the link finds the user, which is the customer already.
        let user = UserInput { customer_id: Some(owner), ..UserInput::new(email) };
        m.shop.users().create(&user).await.unwrap();
        m.shop.auth().request_verification(email).await.unwrap();
        let verification = m.token(email, VERIFY, None).await;
        m.shop.auth().request_password_reset(email).await.unwrap();
        let reset = m.token(email, RESET, None).await;
        let other = f.another(ShopConfig::default(), f.cache());
        let shop = |n: usize| if n.is_multiple_of(2) { &f.shop } else { &other };
        let password = Secret::new("battery staple");
        let (late, canceled, proven, ()) = tokio::join!(
            join_all((0..12).map(|n| {
                let input = order(email, &pen);
                async move { shop(n).orders().place(&input).await.unwrap().id }
            })),
            join_all(early.iter().enumerate().map(|(n, id)| async move { shop(n).orders().cancel(*id).await })),
            async {
                let (auth, others) = (m.shop.auth(), other.auth());
                tokio::join!(
                    auth.verify_email(Principal::system(), &verification),
                    others.reset_password(&reset, &password),
                )
            },
            async {
                if erases {
                    shop(1).customers().erase(owner).await.unwrap();
                }
            },
        );
        assert!(canceled.iter().all(Result::is_ok), "{canceled:?}");
        // The erasure voids the tokens, and the reset voids that of the verification.
        for (outcome, what) in [(proven.0.map(drop), "a verification"), (proven.1, "a reset")] {
            if outcome.is_err() {
                is_void(outcome, what);
            }
        }
        if erases {
            shop(0).customers().erase(owner).await.unwrap();
        }
        for id in early.iter().chain(&late) {
            let order = f.stored_order(*id).await;
            let links = read!(f.storage, orders.history(*id)).iter().filter(|c| c.kind == ChangeKind::Patched).count();
            assert_eq!(links, usize::from(order.customer_id.is_some()), "{order:#?}");
            assert!(erases || order.customer_id.is_some() || late.contains(id), "{order:#?}");
            assert_eq!(order.erased_at.is_some(), erases && order.customer_id.is_some(), "{order:#?}");
        }
    }
    f.audited().await;
    m.background.shutdown().await;
}

/// Another transaction is in the way three times, and the answer of the last commit is lost.
pub async fn r45_a_verification_that_runs_again_links_once(f: &ShopFixture) {
    let m = mailed(f);
    let pen = pen(f).await;
    let (shop, storage) = f.unsteady();
    for (email, fault) in
        [(ADA, None), ("lost@example.com", Some(Fault::CommitLost)), ("b@example.com", Some(Fault::AnswerLost))]
    {
        let id = placed(f, email, &pen).await;
        m.register(email, Some("Ada Lovelace")).await;
        let token = m.token(email, VERIFY, None).await;
        let mut faults = vec![Fault::Contention; 3];
        faults.extend(fault);
        storage.plan(&faults);
        let outcome: Result<_> = shop.auth().verify_email(Principal::system(), &token).await;
        assert_eq!(outcome.is_ok(), fault.is_none(), "{outcome:?}");
        let order = f.stored_order(id).await;
        let is_linked = fault != Some(Fault::CommitLost);
        assert_eq!(
            (order.customer_id.is_some(), order.audit.version),
            (is_linked, 1 + i64::from(is_linked)),
            "{email}"
        );
    }
    f.audited().await;
    m.background.shutdown().await;
}
