//! Carts: the token of a guest, prices of the moment, lines, merges (R20), expiry, and what they share with other rows
//! (R1, R2, R5, R13, R17).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::support::{conflict, fields, flat, from, me, until, v};
use crate::access::Principal;
use crate::config::ShopConfig;
use crate::domain::catalog::product::Product;
use crate::domain::common::{DeleteMode, ExpectedVersion};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{
    Cart, CartAccess, CartFilter, CartInput, CartLineInput, CartLinePatch, CartPatch, CartState, CartToken,
    CreatedCart, PricedCart,
};
use crate::domain::sales::pricing::MAX_AMOUNT;
use crate::error::{Conflict, Entity, ErrorCode, FieldCode, Result, SalesConflict};
use crate::id::{CartId, CartLineId, CustomerId, SkuId};
use crate::money::Money;
use crate::paging::{Paging, Total};
use crate::sales::CustomerInput;
use crate::service::sales::cart::CartService;
use crate::testkit::sample::usd;
use crate::testkit::{code_of, duplicate_field};

tests! {
    __shop_carts: [
        a_guest_s_cart_is_opened_by_its_token_alone,
        a_cart_is_priced_at_each_read_which_writes_nothing,
        stock_is_compared_with_all_lines_of_a_sku,
        r08_a_price_that_is_not_the_current_one_is_refused_with_both,
        lines_add_up_and_are_changed_removed_and_cleared,
        r01_a_change_of_lines_needs_no_version_and_other_writes_do,
        of_many_shoppers_of_one_cart_none_is_lost,
        r02_a_soft_deleted_sku_stays_in_the_cart_and_is_reported,
        r05_force_removes_lines_and_the_carts_of_a_customer,
        r13_each_write_of_a_cart_has_its_events,
        r17_bad_carts_name_each_field_and_leave_nothing,
        r17_no_amount_of_a_cart_is_too_large,
        r17_a_cart_has_at_most_five_hundred_lines,
        r20_a_customer_has_one_open_cart,
        r20_of_many_creations_for_one_customer_all_return_one_cart,
        r20_a_repeated_merge_changes_nothing,
        r20_concurrent_merges_lose_no_line,
        r20_a_merged_cart_names_its_successor_and_an_ordered_one_does_not_change,
        r20_a_guest_s_cart_becomes_the_customer_s,
        r20_a_login_merges_while_the_customer_shops,
        an_expired_cart_is_refused_and_a_change_puts_it_off,
        expired_carts_are_removed_in_the_background,
        a_cart_and_a_customer_are_written_together_or_not_at_all,
        lists_of_carts_count_and_page_with_prices,
        a_read_of_a_cart_costs_the_same_whatever_its_lines,
    ]
}

const STAFF: &CartAccess = &CartAccess::Permission;
const ANY: ExpectedVersion = ExpectedVersion::Unspecified;

impl ShopFixture {
    fn carts(&self) -> CartService<'_> {
        self.shop.acting_as(me()).carts()
    }

    /// Creates an empty guest's cart, and returns its id and what opens it.
    async fn guest(&self) -> (CartId, CartAccess) {
        let made = self.carts().create(&CartInput::default()).await.unwrap();
        (made.cart.cart.id, made.token.unwrap().into())
    }

    async fn shopper(&self, email: &str) -> CustomerId {
        self.shop.acting_as(me()).customers().create(&CustomerInput::new("Ada", "L", email)).await.unwrap().id
    }

    async fn cart_of(&self, customer: CustomerId) -> Cart {
        self.carts().create(&CartInput::default().customer_id(customer)).await.unwrap().cart.cart
    }

    /// Adds a line without attributes, at the current price.
    async fn put(&self, cart: CartId, sku: SkuId, quantity: i64, price: Money) -> PricedCart {
        self.carts().add_line(cart, STAFF, ANY, &CartLineInput::new(sku, quantity, price)).await.unwrap()
    }

    /// Sets the state of a cart to ordered, as placing an order does.
    async fn order(&self, cart: CartId) {
        let by = crate::domain::common::Actor::system();
        attempt!(self.storage, carts.set_ordered(&[cart], self.shop.clock().now(), &by)).unwrap();
    }
}

fn sku_of(p: &Product) -> SkuId {
    p.skus[0].id
}

/// The quantities of a cart by SKU.
fn quantities(cart: &PricedCart) -> BTreeMap<SkuId, i64> {
    cart.cart.lines.iter().map(|l| (l.sku_id, l.quantity)).collect()
}

/// Makes every call with the token of another cart, with no token at all, and with the right one.
pub async fn a_guest_s_cart_is_opened_by_its_token_alone(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let nobody = Principal::new("nobody", []);
    let carts = f.shop.acting_as(&nobody).carts();
    let made = carts.create(&CartInput::default().line(CartLineInput::new(sku_of(&pen), 1, usd(999)))).await.unwrap();
    let CreatedCart { cart, token: Some(token), created: true } = made else { panic!("{made:?}") };
    let (id, line) = (cart.cart.id, cart.cart.lines[0].id);
    assert_eq!(token.reveal().len(), 43, "32 bytes in base64");
    let stored = read!(f.storage, carts.get(id)).unwrap();
    assert_eq!((stored.token_hash, &stored), (Some(token.hash()), &cart.cart), "only a hash of the token is stored");
    assert!(!format!("{:?} {stored:?}", f.log().await).contains(token.reveal()));
    let (other, other_access) = f.guest().await;
    assert_ne!(other_access, CartAccess::Token(token.clone()));
    let of_ada = f.cart_of(f.shopper("ada@example.com").await).await;
    let right = CartAccess::from(token.clone());
    let before = f.snapshot().await;

    let patch = CartPatch::default;
    let one = CartLineInput::new(sku_of(&pen), 1, usd(999));
    let two = CartLinePatch::quantity(2);
    let shortened = CartToken::new(&token.reveal()[..42]);
    for wrong in [other_access.clone(), CartToken::new("").into(), shortened.into()] {
        for id in [id, of_ada.id, CartId(Uuid::from_u128(1))] {
            let results = [
                carts.get(id, &wrong).await.map(drop),
                carts.patch(id, &wrong, v(1), patch()).await.map(drop),
                carts.patch(id, &wrong, v(7), patch()).await.map(drop),
                carts.delete(id, &wrong, v(1)).await,
                carts.add_line(id, &wrong, ANY, &one).await.map(drop),
                carts.change_line(id, &wrong, ANY, line, &two).await.map(drop),
                carts.remove_line(id, &wrong, ANY, line).await.map(drop),
                carts.clear(id, &wrong, ANY).await.map(drop),
                carts.merge(id, &wrong, other, &other_access).await.map(drop),
                carts.merge(other, &other_access, id, &wrong).await.map(drop),
                f.carts().assign(id, &wrong, of_ada.customer_id.unwrap()).await.map(drop),
            ];
            for (n, result) in results.into_iter().enumerate() {
                if (n == 8 || n == 9) && id == other {
                    continue;
                }
                assert_eq!(code_of(result, "a wrong token"), ErrorCode::NotFound, "call {n}");
            }
        }
    }
    assert_eq!(f.snapshot().await, before);

    assert_eq!(carts.get(id, &right).await.unwrap(), cart);
    let line = carts.add_line(id, &right, ANY, &one).await.unwrap().cart.lines[0].id;
    carts.change_line(id, &right, ANY, line, &two).await.unwrap();
    carts.remove_line(id, &right, ANY, line).await.unwrap();
    carts.clear(id, &right, ANY).await.unwrap();
    carts.patch(id, &right, v(3), from(&json!({ "email": "guest@example.com" }))).await.unwrap();
    let into = carts.merge(id, &right, other, &other_access).await.unwrap();
    carts.delete(other, &other_access, v(into.cart.audit.version)).await.unwrap();
}

/// The price, the discount, the status and the stock of a SKU change between two reads.
pub async fn a_cart_is_priced_at_each_read_which_writes_nothing(f: &ShopFixture) {
    let lamp = f
        .product(json!({
            "title": "Lamp", "discount_percentage": "10",
            "skus": [{ "code": "L-1", "price": "9.99", "stock": 3, "option_values": { "color": "red" } }]
        }))
        .await;
    let pen = f.plain("Pen").await;
    let (id, _) = f.guest().await;
    f.put(id, sku_of(&lamp), 2, usd(899)).await;
    let cart = f.put(id, sku_of(&pen), 5, usd(999)).await;
    assert_eq!(cart, f.carts().get(id, STAFF).await.unwrap(), "a write answers as a read does");
    assert_eq!(cart.subtotal, Some(usd(2 * 899 + 5 * 999)));
    let line = &cart.lines[0];
    assert_eq!((line.code.as_str(), line.title.as_str(), line.product_id), ("L-1", "Lamp", lamp.id));
    assert_eq!(line.option_values, lamp.skus[0].option_values);
    assert_eq!((line.unit_price, line.line_total, line.available), (usd(899), Some(usd(1_798)), Some(3)));
    assert!(!line.price_changed && !line.unavailable && !line.insufficient_stock);

    let lamp = f.patch(&lamp, json!({ "discount_percentage": "0" })).await.unwrap();
    f.adjust(sku_of(&lamp), -2).await.unwrap();
    let pen = f.patch(&pen, json!({ "status": "draft" })).await.unwrap();
    let pen = f.patch(&pen, json!({ "price": "0.50" })).await.unwrap();
    let (before, log) = (f.snapshot().await, f.log().await.len());
    let cart = f.carts().get(id, STAFF).await.unwrap();
    let line = &cart.lines[0];
    assert_eq!((line.unit_price, line.line.seen_price, line.available), (usd(999), usd(899), Some(1)));
    assert!(line.price_changed && line.insufficient_stock && !line.unavailable);
    let line = &cart.lines[1];
    assert!(line.unavailable && !line.price_changed && !line.insufficient_stock);
    assert_eq!((line.unit_price, line.available), (usd(999), Some(0)), "not the price and the stock of the draft");
    assert_eq!((line.line_total, cart.subtotal), (Some(usd(5 * 999)), Some(usd(2 * 999))), "only what can be sold");
    assert_eq!((f.snapshot().await, f.log().await.len()), (before, log), "a read writes nothing");

    // The shopper confirms the new price, and the product is sold again.
    let lamps = cart.lines[0].line.id;
    let confirmed = f.carts().change_line(id, STAFF, ANY, lamps, &CartLinePatch::confirm(usd(999))).await.unwrap();
    assert!(!confirmed.lines[0].price_changed);
    assert_eq!(confirmed.cart.lines[0].seen_price, usd(999));
    f.patch(&pen, json!({ "status": "active" })).await.unwrap();
    let cart = f.carts().get(id, STAFF).await.unwrap();
    assert_eq!((cart.lines[1].price_changed, cart.subtotal), (true, Some(usd(2 * 999 + 5 * 50))));
}

/// Two lines of one SKU are short together, although each alone is not.
pub async fn stock_is_compared_with_all_lines_of_a_sku(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let (id, _) = f.guest().await;
    f.put(id, sku_of(&pen), 6, usd(999)).await;
    let engraved = CartLineInput::new(sku_of(&pen), 4, usd(999)).attribute("engraving", "A");
    let cart = f.carts().add_line(id, STAFF, ANY, &engraved).await.unwrap();
    assert_eq!(cart.lines.iter().map(|l| l.insufficient_stock).collect::<Vec<_>>(), [false, false]);
    let cart = f.carts().add_line(id, STAFF, ANY, &engraved).await.unwrap();
    assert_eq!(cart.lines.iter().map(|l| l.insufficient_stock).collect::<Vec<_>>(), [true, true]);
    assert_eq!((cart.cart.lines.len(), cart.lines[1].available), (2, Some(10)));
}

/// Each wrong price is named with its field. Nothing is written.
pub async fn r08_a_price_that_is_not_the_current_one_is_refused_with_both(f: &ShopFixture) {
    let (pen, ink) = (f.plain("Pen").await, f.plain("Ink").await);
    let (id, _) = f.guest().await;
    let line = f.put(id, sku_of(&pen), 1, usd(999)).await.cart.lines[0].id;
    let before = f.snapshot().await;
    let mismatches = |c: Conflict| match c {
        Conflict::Sales(SalesConflict::PriceMismatch { prices, .. }) => {
            prices.into_iter().map(|p| (p.field, p.sku_id, p.expected, p.found)).collect::<Vec<_>>()
        }
        other => panic!("{other}"),
    };
    let named = |field: &str, p: &Product, found| vec![(field.to_owned(), sku_of(p).0, usd(999), found)];
    let wrong = CartLineInput::new(sku_of(&pen), 1, usd(998));
    let refused = f.carts().add_line(id, STAFF, ANY, &wrong).await;
    assert_eq!(mismatches(conflict(refused, "add")), named("unit_price", &pen, usd(998)));
    let refused = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::confirm(usd(0))).await;
    assert_eq!(mismatches(conflict(refused, "confirm")), named("unit_price", &pen, usd(0)));
    let input = CartInput::default()
        .line(wrong)
        .line(CartLineInput::new(sku_of(&ink), 1, usd(999)))
        .line(CartLineInput::new(sku_of(&ink), 1, usd(1_000)).attribute("a", 1));
    let expected = [named("lines[0].unit_price", &pen, usd(998)), named("lines[2].unit_price", &ink, usd(1_000))];
    assert_eq!(mismatches(conflict(f.carts().create(&input).await, "create")), expected.concat());
    assert_eq!(f.snapshot().await, before);
}

/// Lines are equal if their SKU and attributes are. The codes of SKUs are folded.
pub async fn lines_add_up_and_are_changed_removed_and_cleared(f: &ShopFixture) {
    let pen = f.product(json!({ "title": "Pen", "price": "9.99", "stock": 10, "sku": "Straße" })).await;
    let (id, _) = f.guest().await;
    let sku = sku_of(&pen);
    f.put(id, sku, 2, usd(999)).await;
    let by_code: CartLineInput = from(&json!({ "sku": "STRASSE", "quantity": 3, "unit_price": "9.99" }));
    let cart = f.carts().add_line(id, STAFF, ANY, &by_code).await.unwrap();
    assert_eq!((cart.cart.lines.len(), cart.cart.lines[0].quantity, cart.cart.audit.version), (1, 5, 3));
    let a: CartLineInput =
        from(&json!({ "sku_id": sku, "quantity": 1, "unit_price": 9.99, "attributes": { "b": [1], "a": "x" } }));
    let b: CartLineInput =
        from(&json!({ "sku_id": sku, "quantity": 1, "unit_price": 9.99, "attributes": { "a": "x", "b": [1] } }));
    f.carts().add_line(id, STAFF, ANY, &a).await.unwrap();
    let cart = f.carts().add_line(id, STAFF, ANY, &b).await.unwrap();
    let lines = &cart.cart.lines;
    assert_eq!(lines.iter().map(|l| l.quantity).collect::<Vec<_>>(), [5, 2]);

    let set = f.carts().change_line(id, STAFF, ANY, lines[0].id, &CartLinePatch::quantity(1)).await.unwrap();
    assert_eq!((set.cart.lines[0].quantity, set.cart.audit.version), (1, 6));
    let same = f.carts().change_line(id, STAFF, ANY, lines[0].id, &CartLinePatch::quantity(1)).await.unwrap();
    assert_eq!(same, set, "what changes nothing moves no version");
    let removed = f.carts().remove_line(id, STAFF, ANY, lines[0].id).await.unwrap();
    assert_eq!(removed.cart.lines, lines[1..]);
    for line in [lines[0].id, CartLineId(Uuid::from_u128(1))] {
        let gone = f.carts().remove_line(id, STAFF, ANY, line).await;
        assert_eq!(code_of(gone, "a line that is gone"), ErrorCode::NotFound);
        let gone = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::quantity(1)).await;
        assert_eq!(code_of(gone, "a line that is gone"), ErrorCode::NotFound);
    }
    let cleared = f.carts().clear(id, STAFF, ANY).await.unwrap();
    assert_eq!((cleared.cart.lines.len(), cleared.subtotal, cleared.cart.audit.version), (0, Some(usd(0)), 8));
    assert_eq!(f.carts().clear(id, STAFF, ANY).await.unwrap(), cleared);
}

/// A stale version is refused wherever it is given.
pub async fn r01_a_change_of_lines_needs_no_version_and_other_writes_do(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let (id, _) = f.guest().await;
    let line = f.put(id, sku_of(&pen), 1, usd(999)).await.cart.lines[0].id;
    let before = f.snapshot().await;
    let one = CartLineInput::new(sku_of(&pen), 1, usd(999));
    let carts = f.carts();
    for stale in [v(1), v(3)] {
        let results = [
            carts.add_line(id, STAFF, stale, &one).await.map(drop),
            carts.change_line(id, STAFF, stale, line, &CartLinePatch::quantity(9)).await.map(drop),
            carts.remove_line(id, STAFF, stale, line).await.map(drop),
            carts.clear(id, STAFF, stale).await.map(drop),
            carts.patch(id, STAFF, stale, CartPatch::default()).await.map(drop),
            carts.delete(id, STAFF, stale).await,
        ];
        for result in results {
            match conflict(result, "a stale version") {
                Conflict::Version { entity: Entity::Cart, id: of, expected, actual: 2 } => {
                    assert_eq!((of, v(expected)), (id.0, stale));
                }
                other => panic!("{other}"),
            }
        }
    }
    for result in
        [carts.patch(id, STAFF, ANY, CartPatch::default()).await.map(drop), carts.delete(id, STAFF, ANY).await]
    {
        assert_eq!(code_of(result, "no version"), ErrorCode::VersionRequired);
    }
    assert_eq!(f.snapshot().await, before);
    carts.add_line(id, STAFF, v(2), &one).await.unwrap();
    let patch: CartPatch = from(&json!({ "email": " a@example.com ", "attributes": { "gift": true }, "version": 3 }));
    let patched = carts.patch(id, STAFF, ANY, patch).await.unwrap().cart;
    assert_eq!((patched.email.as_deref(), patched.audit.version), (Some("a@example.com"), 4));
    let emptied = carts.patch(id, STAFF, v(4), from(&json!({ "email": null, "attributes": null }))).await.unwrap().cart;
    assert_eq!((emptied.email, emptied.attributes.0.len()), (None, 0));
    carts.delete(id, STAFF, v(5)).await.unwrap();
    assert_eq!(code_of(carts.get(id, STAFF).await, "a deleted cart"), ErrorCode::NotFound);
}

/// Two processes add to one cart, and change other lines of it.
pub async fn of_many_shoppers_of_one_cart_none_is_lost(f: &ShopFixture) {
    let (pen, ink) = (f.plain("Pen").await, f.plain("Ink").await);
    let (id, access) = f.guest().await;
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let line = CartLineInput::new(sku_of(if n % 4 < 2 { &pen } else { &ink }), 1, usd(999));
        let access = access.clone();
        tasks.spawn(async move { shop.carts().add_line(id, &access, ANY, &line).await.unwrap() });
    }
    tasks.join_all().await;
    let cart = f.carts().get(id, STAFF).await.unwrap();
    assert_eq!(quantities(&cart), BTreeMap::from([(sku_of(&pen), 8), (sku_of(&ink), 8)]));
    assert_eq!((cart.cart.lines.len(), cart.cart.audit.version), (2, 17));
}

/// Neither a deletion nor a restore of the SKU or its product changes the cart.
pub async fn r02_a_soft_deleted_sku_stays_in_the_cart_and_is_reported(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let (id, _) = f.guest().await;
    let before = f.put(id, sku_of(&pen), 2, usd(999)).await;
    f.delete(&pen, DeleteMode::Soft).await.unwrap();
    let gone = f.carts().get(id, STAFF).await.unwrap();
    assert_eq!(gone.cart, before.cart);
    assert!(gone.lines[0].unavailable);
    assert_eq!(gone.subtotal, Some(usd(0)));
    // Its quantity can be changed and it can be removed, but no price of it can be confirmed.
    let line = gone.lines[0].line.id;
    let refused = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::confirm(usd(999))).await;
    assert_eq!(fields(refused, "confirm"), BTreeMap::from([("unit_price".to_owned(), FieldCode::ReferenceNotFound)]));
    f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::quantity(1)).await.unwrap();
    let pen = f.fresh(pen.id).await;
    f.shop.acting_as(me()).products().restore(pen.id, v(pen.audit.version)).await.unwrap();
    assert_eq!(f.carts().get(id, STAFF).await.unwrap().subtotal, Some(usd(999)));
    f.carts().remove_line(id, STAFF, ANY, line).await.unwrap();
}

/// The lines of a purged SKU and product are gone, and so are the carts of a purged customer.
pub async fn r05_force_removes_lines_and_the_carts_of_a_customer(f: &ShopFixture) {
    let two = f.product(json!({ "title": "Two", "skus": [{ "price": 1, "stock": 5 }, { "price": 1 }] })).await;
    let pen = f.plain("Pen").await;
    let ada = f.shopper("ada@example.com").await;
    let cart = f.cart_of(ada).await;
    f.put(cart.id, two.skus[0].id, 1, usd(100)).await;
    f.put(cart.id, two.skus[1].id, 1, usd(100)).await;
    f.put(cart.id, sku_of(&pen), 1, usd(999)).await;
    f.shop.acting_as(me()).skus().delete(two.skus[1].id, v(1), DeleteMode::Force).await.unwrap();
    let left = f.carts().get(cart.id, STAFF).await.unwrap();
    assert_eq!(quantities(&left), BTreeMap::from([(two.skus[0].id, 1), (sku_of(&pen), 1)]));
    f.delete(&pen, DeleteMode::Force).await.unwrap();
    let left = f.carts().get(cart.id, STAFF).await.unwrap();
    assert_eq!(quantities(&left), BTreeMap::from([(two.skus[0].id, 1)]));
    let (guest, _) = f.guest().await;
    f.shop.acting_as(me()).customers().delete(ada, v(1), DeleteMode::Soft).await.unwrap();
    assert_eq!(f.carts().get(cart.id, STAFF).await.unwrap(), left, "a soft deletion leaves the cart");
    let refused = f.carts().create(&CartInput::default().customer_id(ada)).await;
    assert_eq!(fields(refused, "create").keys().collect::<Vec<_>>(), ["customer_id"]);
    f.shop.acting_as(me()).customers().delete(ada, v(2), DeleteMode::Force).await.unwrap();
    assert_eq!(f.snapshot().await.carts.iter().map(|c| c.id).collect::<Vec<_>>(), [guest]);
}

/// Events name the cart, its version and the actor, and contain nothing personal.
pub async fn r13_each_write_of_a_cart_has_its_events(f: &ShopFixture) {
    use EventKind::{CartCreated, CartMerged, CartPurged, CartUpdated};

    let pen = f.plain("Pen").await;
    let ada = f.shopper("ada@example.com").await;
    let head = f.head().await;
    let (a, _) = f.guest().await;
    let (b, _) = f.guest().await;
    let line = f.put(a, sku_of(&pen), 1, usd(999)).await.cart.lines[0].id;
    let carts = f.carts();
    carts.patch(a, STAFF, v(2), from(&json!({ "email": "secret@example.com" }))).await.unwrap();
    carts.change_line(a, STAFF, ANY, line, &CartLinePatch::quantity(2)).await.unwrap();
    carts.merge(a, STAFF, b, STAFF).await.unwrap();
    carts.assign(b, STAFF, ada).await.unwrap();
    carts.delete(b, STAFF, v(3)).await.unwrap();
    carts.delete(a, STAFF, v(5)).await.unwrap();
    let events = f.events_after(head).await;
    let found: Vec<_> = events.iter().map(|e| (e.kind, CartId(e.aggregate_id), e.revision)).collect();
    let expected = [
        (CartCreated, a, 1),
        (CartCreated, b, 1),
        (CartUpdated, a, 2),
        (CartUpdated, a, 3),
        (CartUpdated, a, 4),
        (CartUpdated, b, 2),
        (CartMerged, a, 5),
        (CartUpdated, b, 3),
        (CartPurged, b, 4),
        (CartPurged, a, 6),
    ];
    assert_eq!(found, expected);
    assert!(events.iter().all(|e| e.actor == *me().actor() && e.data.is_null()), "{events:?}");
}

/// Uses each way to write a line, an email, attributes, and references.
pub async fn r17_bad_carts_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let draft = f.product(json!({ "title": "Draft", "price": 1, "status": "draft" })).await;
    let gone = f.plain("Gone").await;
    f.delete(&gone, DeleteMode::Soft).await.unwrap();
    let (id, _) = f.guest().await;
    let line = f.put(id, sku_of(&pen), 1, usd(999)).await.cart.lines[0].id;
    let before = f.snapshot().await;
    let nobody = Uuid::from_u128(7);
    let big = "x".repeat(17_000);
    let lines: Vec<(Value, Vec<&str>)> = vec![
        (json!({ "quantity": 0 }), vec!["quantity"]),
        (json!({ "quantity": -1 }), vec!["quantity"]),
        (json!({ "quantity": 1_000_001 }), vec!["quantity"]),
        (json!({ "quantity": i64::MAX }), vec!["quantity"]),
        (json!({ "sku_id": null }), vec!["sku_id"]),
        (json!({ "sku": "pen" }), vec!["sku"]),
        (json!({ "sku_id": null, "sku": "" }), vec!["sku"]),
        (json!({ "sku_id": null, "sku": "nothing" }), vec!["sku"]),
        (json!({ "sku_id": nobody }), vec!["sku_id"]),
        (json!({ "sku_id": sku_of(&draft), "unit_price": 1 }), vec!["sku_id"]),
        (json!({ "sku_id": sku_of(&gone) }), vec!["sku_id"]),
        (json!({ "unit_price": "9.999" }), vec!["unit_price"]),
        (json!({ "unit_price": -1 }), vec!["unit_price"]),
        (json!({ "unit_price": "1e27" }), vec!["unit_price"]),
        (json!({ "attributes": { "a": big } }), vec!["attributes"]),
        (json!({ "attributes": { "a\u{0}": 1 }, "quantity": 0 }), vec!["attributes", "quantity"]),
    ];
    for (bad, expected) in lines {
        let mut input = json!({ "sku_id": sku_of(&pen), "quantity": 1, "unit_price": "9.99" });
        for (name, value) in bad.as_object().unwrap() {
            input[name] = value.clone();
        }
        let shown: String = bad.to_string().chars().take(100).collect();
        let named = fields(f.carts().add_line(id, STAFF, ANY, &from(&input)).await, &shown);
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), expected, "{shown}");
        let input = CartInput::default().line(CartLineInput::new(sku_of(&pen), 1, usd(999))).line(from(&input));
        let named = fields(f.carts().create(&input).await, &shown);
        let expected: Vec<String> = expected.iter().map(|field| format!("lines[1].{field}")).collect();
        assert_eq!(named.into_keys().collect::<Vec<_>>(), expected, "{shown}");
    }
    for (bad, expected) in [
        (json!({ "email": "nobody" }), vec!["email"]),
        (json!({ "email": "" }), vec!["email"]),
        (json!({ "attributes": { "a": big } }), vec!["attributes"]),
        (json!({ "attributes": { "a": big }, "email": "a@b" }), vec!["attributes", "email"]),
    ] {
        let shown: String = bad.to_string().chars().take(100).collect();
        for result in [
            f.carts().create(&from(&bad)).await.map(drop),
            f.carts().patch(id, STAFF, v(2), from(&bad)).await.map(drop),
        ] {
            assert_eq!(fields(result, &shown).keys().map(String::as_str).collect::<Vec<_>>(), expected, "{shown}");
        }
    }
    for (bad, field) in [
        (json!({ "source": "shop" }), "external_id"),
        (json!({ "external_id": "1" }), "source"),
        (json!({ "customer_id": nobody }), "customer_id"),
    ] {
        assert_eq!(fields(f.carts().create(&from(&bad)).await, field).keys().collect::<Vec<_>>(), [field]);
    }
    let unknown = f.carts().assign(id, STAFF, CustomerId(nobody)).await;
    assert_eq!(fields(unknown, "assign").keys().collect::<Vec<_>>(), ["customer_id"]);
    for quantity in [0, -1, 1_000_001] {
        let refused = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::quantity(quantity)).await;
        assert_eq!(fields(refused, "quantity").keys().collect::<Vec<_>>(), ["quantity"]);
    }
    let most = CartLineInput::new(sku_of(&pen), 1_000_000, usd(999));
    let sum = f.carts().add_line(id, STAFF, ANY, &most).await;
    assert_eq!(fields(sum, "a sum").keys().collect::<Vec<_>>(), ["quantity"]);
    let itself = f.carts().merge(id, STAFF, id, STAFF).await;
    assert_eq!(fields(itself, "a merge with itself").keys().collect::<Vec<_>>(), ["into"]);
    let bad = CartFilter { email: Some("a\u{7}".to_owned()), ..CartFilter::default() };
    let refused = f.carts().list(&bad, &Paging::first(5)).await;
    assert_eq!(fields(refused, "a filter").keys().collect::<Vec<_>>(), ["email"]);
    assert_eq!(f.snapshot().await, before);

    // The external id of another cart.
    let imported: CartInput = from(&json!({ "source": "shop", "external_id": "1" }));
    f.carts().create(&imported).await.unwrap();
    assert_eq!(duplicate_field(f.carts().create(&imported).await, "external"), "external_id");
}

/// A line or a subtotal above the limit is refused. If a price rises later, the cart can still be read and emptied.
pub async fn r17_no_amount_of_a_cart_is_too_large(f: &ShopFixture) {
    let gold = f.product(json!({ "title": "Gold", "price": "10000000.00", "stock": 1 })).await;
    let price = usd(1_000_000_000);
    let (id, _) = f.guest().await;
    let cart = f.put(id, sku_of(&gold), 1_000_000, price).await;
    assert_eq!(cart.subtotal, Some(usd(MAX_AMOUNT)));
    let before = f.snapshot().await;
    let more = CartLineInput::new(sku_of(&gold), 1, price).attribute("a", 1);
    let refused = f.carts().add_line(id, STAFF, ANY, &more).await;
    assert_eq!(fields(refused, "the subtotal").keys().collect::<Vec<_>>(), ["quantity"]);
    let input = CartInput::default().line(CartLineInput::new(sku_of(&gold), 1_000_000, price)).line(more);
    assert_eq!(fields(f.carts().create(&input).await, "the subtotal").keys().collect::<Vec<_>>(), ["lines"]);
    assert_eq!(f.snapshot().await, before);

    let gold = f.patch(&gold, json!({ "price": "90000000000000.00" })).await.unwrap();
    let cart = f.carts().get(id, STAFF).await.unwrap();
    assert_eq!((cart.subtotal, cart.lines[0].line_total), (None, None));
    assert!(cart.lines[0].price_changed);
    let line = cart.lines[0].line.id;
    let fewer = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::quantity(500_000)).await.unwrap();
    assert_eq!(fewer.subtotal, None, "a change that lowers an amount is not refused");
    let refused = f.carts().change_line(id, STAFF, ANY, line, &CartLinePatch::quantity(500_001)).await;
    assert_eq!(fields(refused, "the line").keys().collect::<Vec<_>>(), ["quantity"]);
    f.carts().clear(id, STAFF, ANY).await.unwrap();
    f.delete(&gold, DeleteMode::Soft).await.unwrap();
}

/// Lines of one SKU with different attributes fill the cart.
pub async fn r17_a_cart_has_at_most_five_hundred_lines(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let line = |n: usize| CartLineInput::new(sku_of(&pen), 1, usd(999)).attribute("n", n);
    let with = |n: usize| CartInput { lines: (0..n).map(line).collect(), ..CartInput::default() };
    let refused = f.carts().create(&with(Cart::MAX_LINES + 1)).await;
    assert_eq!(fields(refused, "501 lines").keys().collect::<Vec<_>>(), ["lines"]);
    let huge = f.carts().create(&with(10_000)).await;
    assert_eq!(fields(huge, "10,000 lines").keys().collect::<Vec<_>>(), ["lines"]);
    let full = f.carts().create(&with(Cart::MAX_LINES)).await.unwrap().cart;
    assert_eq!((full.lines.len(), full.subtotal), (500, Some(usd(500 * 999))));
    let before = f.snapshot().await;
    let refused = f.carts().add_line(full.cart.id, STAFF, ANY, &line(500)).await;
    assert_eq!(fields(refused, "one more").keys().collect::<Vec<_>>(), ["lines"]);
    assert_eq!(f.snapshot().await, before);
    f.carts().add_line(full.cart.id, STAFF, ANY, &line(7)).await.expect("an equal line fits");
    let (guest, _) = f.guest().await;
    f.carts().add_line(guest, STAFF, ANY, &line(500)).await.unwrap();
    let refused = f.carts().merge(guest, STAFF, full.cart.id, STAFF).await;
    assert_eq!(fields(refused, "a merge").keys().collect::<Vec<_>>(), ["lines"]);
    assert_eq!(f.carts().get(guest, STAFF).await.unwrap().lines.len(), 1, "a refused merge changes nothing");
}

/// A second creation returns the open cart, which takes over the lines.
pub async fn r20_a_customer_has_one_open_cart(f: &ShopFixture) {
    let (pen, ink) = (f.plain("Pen").await, f.plain("Ink").await);
    let ada = f.shopper("ada@example.com").await;
    let input = |pens: i64| {
        CartInput::default().customer_id(ada).email("ada@example.com").attribute("gift", true).line(CartLineInput::new(
            sku_of(&pen),
            pens,
            usd(999),
        ))
    };
    let first = f.carts().create(&input(2)).await.unwrap();
    assert!(first.created && first.token.is_none() && first.cart.cart.token_hash.is_none());
    let again = f.carts().create(&input(2)).await.unwrap();
    assert_eq!((again.cart, again.created), (first.cart.clone(), false), "a repeated call changes nothing");
    let more = input(3).line(CartLineInput::new(sku_of(&ink), 1, usd(999))).attribute("note", "x");
    let more = f.carts().create(&more).await.unwrap().cart;
    assert_eq!(more.cart.id, first.cart.cart.id);
    assert_eq!(quantities(&more), BTreeMap::from([(sku_of(&pen), 3), (sku_of(&ink), 1)]));
    assert_eq!((more.cart.attributes.0.len(), more.cart.audit.version), (2, 2));
    // Others have their own, and an ordered cart makes room for the next one.
    let bob = f.cart_of(f.shopper("bob@example.com").await).await;
    assert_ne!(bob.id, more.cart.id);
    f.order(more.cart.id).await;
    let next = f.carts().create(&input(1)).await.unwrap();
    assert!(next.created && next.cart.cart.id != more.cart.id);
}

/// Two processes create the cart of one customer.
pub async fn r20_of_many_creations_for_one_customer_all_return_one_cart(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let other = f.another(ShopConfig::default(), f.cache());
    let ada = f.shopper("ada@example.com").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let line = CartLineInput::new(sku_of(&pen), 1, usd(999)).attribute("n", n);
        let input = CartInput::default().customer_id(ada).line(line);
        tasks.spawn(async move { shop.acting_as(me()).carts().create(&input).await.unwrap() });
    }
    let made = tasks.join_all().await;
    assert_eq!(made.iter().filter(|m| m.created).count(), 1);
    let stored = f.snapshot().await.carts;
    assert_eq!((stored.len(), stored[0].lines.len()), (1, 8), "no line is lost");
    assert!(made.iter().all(|m| m.cart.cart.id == stored[0].id));
}

/// The greater quantity of equal lines stays, whichever cart has it.
pub async fn r20_a_repeated_merge_changes_nothing(f: &ShopFixture) {
    let (pen, ink, lamp) = (f.plain("Pen").await, f.plain("Ink").await, f.plain("Lamp").await);
    let (from, from_access) = f.guest().await;
    let (into, into_access) = f.guest().await;
    f.put(from, sku_of(&pen), 5, usd(999)).await;
    f.put(from, sku_of(&ink), 1, usd(999)).await;
    f.put(from, sku_of(&lamp), 1, usd(999)).await;
    f.put(into, sku_of(&pen), 2, usd(999)).await;
    f.put(into, sku_of(&ink), 3, usd(999)).await;
    let carts = f.shop.carts();
    let merged = carts.merge(from, &from_access, into, &into_access).await.unwrap();
    assert_eq!(quantities(&merged), BTreeMap::from([(sku_of(&pen), 5), (sku_of(&ink), 3), (sku_of(&lamp), 1)]));
    let before = f.snapshot().await;
    for _ in 0..2 {
        assert_eq!(carts.merge(from, &from_access, into, &into_access).await.unwrap(), merged);
    }
    assert_eq!(f.snapshot().await, before);
}

/// Twelve guests' carts are merged into one at the same time, some of them twice and by two processes, while the shopper
/// adds to it.
pub async fn r20_concurrent_merges_lose_no_line(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let (into, _) = f.guest().await;
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (from, _) = f.guest().await;
        for m in 0..5 {
            let line = CartLineInput::new(sku_of(&pen), n + 1, usd(999)).attribute("n", n * 5 + m);
            f.carts().add_line(from, STAFF, ANY, &line).await.unwrap();
        }
        f.put(from, sku_of(&pen), n + 1, usd(999)).await;
        for shop in [&f.shop, &other].into_iter().take(if n % 3 == 0 { 2 } else { 1 }) {
            let shop = shop.clone();
            tasks.spawn(async move {
                let line = CartLineInput::new(sku_of(&shop_pen(&shop).await), 1, usd(999)).attribute("own", n);
                shop.carts().add_line(into, STAFF, ANY, &line).await.unwrap();
                shop.carts().merge(from, STAFF, into, STAFF).await.unwrap();
            });
        }
    }
    tasks.join_all().await;
    let cart = f.carts().get(into, STAFF).await.unwrap().cart;
    let with = |name: &str| cart.lines.iter().filter(|l| l.attributes.0.contains_key(name)).count();
    assert_eq!((with("n"), with("own"), cart.lines.len()), (60, 12, 73));
    let plain = cart.lines.iter().find(|l| l.attributes.0.is_empty()).unwrap();
    assert_eq!(plain.quantity, 12, "the greatest quantity stays");
    assert!(f.snapshot().await.carts.iter().all(|c| c.id == into || c.merged_into == Some(into)));

    // Two carts that are merged into each other at once: one merge happens, and no line is lost.
    let (a, _) = f.guest().await;
    let (b, _) = f.guest().await;
    f.put(a, sku_of(&pen), 2, usd(999)).await;
    f.carts().add_line(b, STAFF, ANY, &CartLineInput::new(sku_of(&pen), 1, usd(999)).attribute("b", 1)).await.unwrap();
    let (shop, carts) = (f.shop.clone(), f.carts());
    let there = tokio::spawn(async move { shop.carts().merge(b, STAFF, a, STAFF).await });
    let outcomes = [carts.merge(a, STAFF, b, STAFF).await, there.await.unwrap()];
    let (done, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 1));
    assert_eq!(done.into_iter().next().unwrap().unwrap().lines.len(), 2);
    assert_eq!(code_of(refused.into_iter().next().unwrap(), "the other merge"), ErrorCode::CartMerged);
}

/// Returns the only product of a shop.
async fn shop_pen(shop: &crate::shop::Shop) -> Product {
    let query = crate::catalog::ProductListQuery::default();
    (**shop.products().list(&query).await.unwrap().page.items[0]).clone()
}

/// Makes every call with a merged and with an ordered cart.
pub async fn r20_a_merged_cart_names_its_successor_and_an_ordered_one_does_not_change(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let (merged, token) = f.guest().await;
    let line = f.put(merged, sku_of(&pen), 1, usd(999)).await.cart.lines[0].id;
    let (into, _) = f.guest().await;
    let (third, _) = f.guest().await;
    let kept = f.carts().merge(merged, STAFF, into, STAFF).await.unwrap();
    let ada = f.shopper("ada@example.com").await;
    let before = f.snapshot().await;
    let one = CartLineInput::new(sku_of(&pen), 1, usd(999));
    let carts = f.carts();
    let two = CartLinePatch::quantity(2);
    for access in [STAFF, &token] {
        let results = [
            carts.get(merged, access).await.map(drop),
            carts.patch(merged, access, v(3), CartPatch::default()).await.map(drop),
            carts.add_line(merged, access, ANY, &one).await.map(drop),
            carts.change_line(merged, access, ANY, line, &two).await.map(drop),
            carts.remove_line(merged, access, ANY, line).await.map(drop),
            carts.clear(merged, access, ANY).await.map(drop),
            carts.merge(merged, access, third, STAFF).await.map(drop),
            carts.merge(third, STAFF, merged, access).await.map(drop),
            carts.assign(merged, access, ada).await.map(drop),
        ];
        for (n, result) in results.into_iter().enumerate() {
            match conflict(result, "a merged cart") {
                Conflict::Sales(SalesConflict::CartMerged { cart, into: successor }) => {
                    assert_eq!((cart, successor), (merged.0, into.0), "call {n}");
                }
                other => panic!("call {n}: {other}"),
            }
        }
    }
    assert_eq!(f.snapshot().await, before);

    f.order(into).await;
    let before = f.snapshot().await;
    let line = kept.cart.lines[0].id;
    let results = [
        carts.patch(into, STAFF, v(3), CartPatch::default()).await.map(drop),
        carts.delete(into, STAFF, v(3)).await,
        carts.add_line(into, STAFF, ANY, &one).await.map(drop),
        carts.change_line(into, STAFF, ANY, line, &two).await.map(drop),
        carts.remove_line(into, STAFF, ANY, line).await.map(drop),
        carts.clear(into, STAFF, ANY).await.map(drop),
        carts.merge(into, STAFF, third, STAFF).await.map(drop),
        carts.merge(third, STAFF, into, STAFF).await.map(drop),
        carts.assign(into, STAFF, ada).await.map(drop),
    ];
    for result in results {
        assert_eq!(code_of(result, "an ordered cart"), ErrorCode::CartOrdered);
    }
    let read = carts.get(into, STAFF).await.unwrap();
    assert_eq!((read.cart.state, read.lines.len()), (CartState::Ordered, 1), "an ordered cart can be read");
    assert_eq!(f.snapshot().await, before);
    carts.delete(merged, &token, v(3)).await.expect("a merged cart can be removed");
}

/// As a login does: the guest's cart is taken over, or merged into the customer's.
pub async fn r20_a_guest_s_cart_becomes_the_customer_s(f: &ShopFixture) {
    let (pen, ink) = (f.plain("Pen").await, f.plain("Ink").await);
    let (ada, bob) = (f.shopper("ada@example.com").await, f.shopper("bob@example.com").await);
    let (first, token) = f.guest().await;
    f.put(first, sku_of(&pen), 1, usd(999)).await;
    let carts = f.carts();
    let assigned = carts.assign(first, &token, ada).await.unwrap();
    assert_eq!((assigned.cart.id, assigned.cart.customer_id, assigned.cart.token_hash), (first, Some(ada), None));
    assert_eq!(
        code_of(carts.get(first, &token).await, "the token"),
        ErrorCode::NotFound,
        "the token opens it no longer"
    );
    assert_eq!(carts.assign(first, STAFF, ada).await.unwrap(), assigned, "a repeated call changes nothing");
    for id in [bob, ada] {
        let (other, _) = f.guest().await;
        let moved = carts.merge(first, STAFF, other, STAFF).await;
        assert_eq!(code_of(moved, "the cart of a customer is not merged away"), ErrorCode::StateConflict);
        if id == bob {
            let refused = carts.assign(first, STAFF, id).await;
            assert_eq!(code_of(refused, "the cart of another customer"), ErrorCode::StateConflict);
        }
    }

    let (second, token) = f.guest().await;
    f.put(second, sku_of(&pen), 4, usd(999)).await;
    f.put(second, sku_of(&ink), 1, usd(999)).await;
    let merged = carts.assign(second, &token, ada).await.unwrap();
    assert_eq!(merged.cart.id, first);
    assert_eq!(quantities(&merged), BTreeMap::from([(sku_of(&pen), 4), (sku_of(&ink), 1)]));
    let before = f.snapshot().await;
    assert_eq!(carts.assign(second, &token, ada).await.unwrap(), merged, "a repeated login changes nothing");
    assert_eq!(f.snapshot().await, before);
}

/// Several guests' carts are assigned to one customer, whose cart is created at the same time.
pub async fn r20_a_login_merges_while_the_customer_shops(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let ada = f.shopper("ada@example.com").await;
    let other = f.another(ShopConfig::default(), f.cache());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (guest, token) = f.guest().await;
        let line = CartLineInput::new(sku_of(&pen), 1, usd(999)).attribute("n", n);
        f.carts().add_line(guest, &token, ANY, &line).await.unwrap();
        let shop = if n % 2 == 0 { f.shop.clone() } else { other.clone() };
        let own = CartInput::default().customer_id(ada).line(line.attribute("own", true));
        tasks.spawn(async move {
            if n % 3 == 0 {
                shop.acting_as(me()).carts().create(&own).await.unwrap();
            }
            shop.acting_as(me()).carts().assign(guest, &token, ada).await.unwrap();
        });
    }
    tasks.join_all().await;
    let filter = CartFilter { customer: Some(ada), state: Some(CartState::Open), ..CartFilter::default() };
    let open = f.carts().list(&filter, &Paging::first(9)).await.unwrap().0.items;
    assert_eq!((open.len(), open[0].lines.len()), (1, 8), "no line is lost");
}

/// Only a change puts the expiry off.
pub async fn an_expired_cart_is_refused_and_a_change_puts_it_off(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let ttl = ShopConfig::default().cart_ttl;
    let (id, token) = f.guest().await;
    f.clock.advance(ttl / 2);
    f.carts().get(id, &token).await.unwrap();
    let cart = f.put(id, sku_of(&pen), 1, usd(999)).await.cart;
    assert_eq!(cart.expires_at, cart.audit.updated_at + ttl);
    f.clock.advance(ttl.saturating_sub(Duration::from_micros(1)));
    f.carts().get(id, &token).await.unwrap();
    f.clock.advance(Duration::from_micros(1));
    let (other, _) = f.guest().await;
    let ada = f.shopper("ada@example.com").await;
    let before = f.snapshot().await;
    let carts = f.carts();
    let line = cart.lines[0].id;
    let results = [
        carts.get(id, &token).await.map(drop),
        carts.get(id, STAFF).await.map(drop),
        carts.patch(id, &token, v(2), CartPatch::default()).await.map(drop),
        carts.add_line(id, &token, ANY, &CartLineInput::new(sku_of(&pen), 1, usd(999))).await.map(drop),
        carts.change_line(id, &token, ANY, line, &CartLinePatch::quantity(2)).await.map(drop),
        carts.remove_line(id, &token, ANY, line).await.map(drop),
        carts.clear(id, &token, ANY).await.map(drop),
        carts.merge(id, &token, other, STAFF).await.map(drop),
        carts.merge(other, STAFF, id, &token).await.map(drop),
        carts.assign(id, &token, ada).await.map(drop),
    ];
    for result in results {
        match conflict(result, "an expired cart") {
            Conflict::Sales(SalesConflict::CartExpired { cart }) => assert_eq!(cart, id.0),
            other => panic!("{other}"),
        }
    }
    assert_eq!(f.snapshot().await, before);

    // The expired cart of a customer makes room for the next one, also for one that is assigned.
    let first = f.cart_of(ada).await;
    f.clock.advance(ttl);
    let second = f.carts().create(&CartInput::default().customer_id(ada)).await.unwrap();
    assert!(second.created && second.cart.cart.id != first.id);
    f.clock.advance(ttl);
    let (guest, token) = f.guest().await;
    assert_eq!(f.carts().assign(guest, &token, ada).await.unwrap().cart.id, guest);
    let left: Vec<CartId> = f.snapshot().await.carts.iter().map(|c| c.id).collect();
    assert!(left.contains(&guest) && !left.contains(&first.id) && !left.contains(&second.cart.cart.id), "{left:?}");
}

/// More carts than one transaction removes have expired. Ordered carts stay, and so do carts that have not expired.
pub async fn expired_carts_are_removed_in_the_background(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let mut tx = f.shop.begin().await.unwrap();
    for _ in 0..450 {
        f.carts().create_in(&mut tx, &CartInput::default()).await.unwrap();
    }
    let line = CartLineInput::new(sku_of(&pen), 1, usd(999));
    f.carts().create_in(&mut tx, &CartInput::default().line(line)).await.unwrap();
    tx.commit().await.unwrap().run().await;
    let (ordered, _) = f.guest().await;
    f.order(ordered).await;
    let (merged, _) = f.guest().await;
    let (late, _) = f.guest().await;
    f.carts().merge(merged, STAFF, late, STAFF).await.unwrap();
    f.clock.advance(Duration::from_secs(5));
    f.put(late, sku_of(&pen), 1, usd(999)).await;
    f.clock.advance(ShopConfig::default().cart_ttl.saturating_sub(Duration::from_secs(5)));
    let head = f.head().await;
    assert_eq!(f.carts().remove_expired().await.unwrap(), 452);
    assert_eq!(f.carts().remove_expired().await.unwrap(), 0);
    let purged = f.events_after(head).await;
    assert!(purged.len() == 452 && purged.iter().all(|e| e.kind == EventKind::CartPurged), "each has its event");
    assert_eq!(f.snapshot().await.carts.iter().map(|c| c.id).collect::<Vec<_>>(), [late, ordered]);

    let (gone, _) = f.guest().await;
    f.clock.advance(ShopConfig::default().cart_ttl);
    let shop = f.process(Duration::from_secs(60));
    let background = shop.start();
    until("the background work removes the cart", async || read!(f.storage, carts.get(gone)).is_none()).await;
    background.shutdown().await;
}

/// A transaction of a host is first dropped, and then committed.
pub async fn a_cart_and_a_customer_are_written_together_or_not_at_all(f: &ShopFixture) {
    let pen = f.shop.acting_as(me()).products().create(&flat("Pen")).await.unwrap();
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let carts = shop.carts();
    for commit in [false, true] {
        let mut tx = f.shop.begin().await.unwrap();
        let ada =
            shop.customers().create_in(&mut tx, &CustomerInput::new("Ada", "L", "ada@example.com")).await.unwrap();
        let own = carts.create_in(&mut tx, &CartInput::default().customer_id(ada.id)).await.unwrap().cart.cart;
        let guest = carts.create_in(&mut tx, &CartInput::default()).await.unwrap();
        let (id, token) = (guest.cart.cart.id, CartAccess::from(guest.token.unwrap()));
        let two = CartLineInput::new(sku_of(&pen), 2, usd(999));
        let line = carts.add_line_in(&mut tx, id, &token, ANY, &two).await.unwrap().cart.lines[0].id;
        carts.change_line_in(&mut tx, id, &token, ANY, line, &CartLinePatch::quantity(3)).await.unwrap();
        carts.patch_in(&mut tx, id, &token, v(3), from(&json!({ "email": "a@example.com" }))).await.unwrap();
        let merged = carts.assign_in(&mut tx, id, &token, ada.id).await.unwrap();
        assert_eq!((merged.cart.id, merged.cart.email.as_deref()), (own.id, Some("a@example.com")));
        assert_eq!(carts.get_in(&mut tx, own.id, STAFF).await.unwrap(), merged);
        let line = merged.cart.lines[0].id;
        carts.remove_line_in(&mut tx, own.id, STAFF, ANY, line).await.unwrap();
        carts.clear_in(&mut tx, own.id, STAFF, ANY).await.unwrap();
        let (other, last) = (
            carts.create_in(&mut tx, &CartInput::default()).await.unwrap().cart.cart.id,
            carts.create_in(&mut tx, &CartInput::default()).await.unwrap().cart.cart.id,
        );
        carts.merge_in(&mut tx, other, STAFF, last, STAFF).await.unwrap();
        carts.delete_in(&mut tx, last, STAFF, v(1)).await.unwrap();
        if !commit {
            drop(tx);
            assert_eq!(f.snapshot().await, before);
            continue;
        }
        tx.commit().await.unwrap().run().await;
        let after = f.snapshot().await;
        assert_eq!(after.carts.iter().map(|c| c.id).collect::<Vec<_>>(), [other, id, own.id]);
    }
}

/// A page by number has the total, and a page by cursor does not.
pub async fn lists_of_carts_count_and_page_with_prices(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let ada = f.shopper("ada@example.com").await;
    let mut all = Vec::new();
    for n in 0..7_i64 {
        let mut input = CartInput::default().email(format!("c{}@example.com", n % 2));
        if n > 0 {
            input = input.line(CartLineInput::new(sku_of(&pen), n, usd(999)));
        }
        if n == 3 {
            input = input.customer_id(ada);
        }
        all.push(f.carts().create(&input).await.unwrap().cart);
    }
    all.reverse();
    let filter = CartFilter { email: Some("C0@EXAMPLE.com".to_owned()), ..CartFilter::default() };
    let (page, total) = f.carts().list(&filter, &Paging::Offset { offset: 1, limit: 2 }).await.unwrap();
    assert_eq!(page.items, [all[2].clone(), all[4].clone()]);
    assert_eq!(total, Some(Total { count: 4, exact: true }));
    let (page, total) = f.carts().list(&filter, &Paging::Keyset { after: page.next, limit: 2 }).await.unwrap();
    assert_eq!((page.items, page.next, total), (vec![all[6].clone()], None, None));
    let filter = CartFilter { customer: Some(ada), state: Some(CartState::Open), ..CartFilter::default() };
    assert_eq!(f.carts().list(&filter, &Paging::first(9)).await.unwrap().0.items, [all[3].clone()]);
    let filter = CartFilter { state: Some(CartState::Merged), ..CartFilter::default() };
    assert_eq!(f.carts().list(&filter, &Paging::first(9)).await.unwrap().0.items, []);
}

/// Reads and lists are counted for carts of 1 and of 100 lines.
pub async fn a_read_of_a_cart_costs_the_same_whatever_its_lines(f: &ShopFixture) {
    let pen = f.plain("Pen").await;
    let mut costs = Vec::new();
    for lines in [1, 100] {
        let line = |n: usize| CartLineInput::new(sku_of(&pen), 1, usd(999)).attribute("n", n);
        let input = CartInput { lines: (0..lines).map(line).collect(), ..CartInput::default() };
        let id = f.carts().create(&input).await.unwrap().cart.cart.id;
        let start = f.storage.statements();
        f.carts().get(id, STAFF).await.unwrap();
        let read = f.storage.statements() - start;
        f.carts().list(&CartFilter::default(), &Paging::first(9)).await.unwrap();
        costs.push((read, f.storage.statements() - start - read));
    }
    assert_eq!(costs[0], costs[1]);
    assert_eq!(costs[0], (3, 4), "the cart with its lines, SKUs and products");
}
