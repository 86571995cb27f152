//! The contract of [`CartRepository`](crate::port::CartRepository).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::access::secret::SecretHash;
use crate::domain::common::{Attributes, ExternalRef, IncludeDeleted};
use crate::domain::sales::cart::{Cart, CartFilter, CartLine, CartState};
use crate::domain::sales::customer::Customer;
use crate::error::{Error, ErrorCode, FieldCode, Result};
use crate::id::{CartId, CustomerId, IdSource as _, SkuId};
use crate::paging::{Keyset, Paging, SortKey, Total};
use crate::port::storage::Storage;
use crate::testkit::check::Pages;
use crate::testkit::sample::{Env, usd};
use crate::testkit::{code_of, is_taken};

suite! {
    /// Runs the suite of [`CartRepository`](crate::port::CartRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    cart_suite, cart: fixture => &fixture.storage, __cart_tests: [
        every_field_survives_a_round_trip,
        every_field_is_updated,
        lines_are_added_changed_and_removed_by_their_ids,
        r01_an_update_from_an_old_version_changes_nothing,
        r20_a_customer_has_at_most_one_open_cart,
        external_references_are_unique,
        references_to_nobody_are_refused,
        the_lock_of_carts_makes_writers_wait_for_each_other,
        several_carts_are_read_by_id,
        carts_are_set_to_ordered_together,
        carts_are_found_by_customer_state_and_email,
        lists_page_through_all_carts_exactly_once,
        a_cursor_of_another_list_is_refused,
        counts_stop_at_their_bound,
        expired_carts_are_found_by_state_the_oldest_first,
        idle_carts_are_found_in_pages_until_they_are_reminded_of,
        carts_are_purged_with_their_lines,
        a_purge_of_a_sku_or_a_product_removes_its_lines,
        a_line_that_was_removed_with_its_sku_is_not_updated,
        a_purge_of_a_customer_removes_its_carts,
        the_number_of_statements_does_not_depend_on_the_number_of_lines,
    ]
}

async fn get(storage: &Arc<dyn Storage>, id: CartId) -> Option<Cart> {
    read!(storage, carts.get(id))
}

async fn insert(storage: &Arc<dyn Storage>, carts: &[Cart]) -> Result<()> {
    attempt!(storage, carts.insert(carts))
}

async fn update(storage: &Arc<dyn Storage>, before: &Cart, after: &Cart) -> Result<()> {
    attempt!(storage, carts.update(before, after))
}

/// Returns the cart after an edit.
fn edited(env: &Env, cart: &Cart) -> Cart {
    let mut after = cart.clone();
    after.audit.edited(env.now(), &env.actor);
    after
}

/// Stores a product with SKUs, and returns their ids.
async fn skus(env: &Env, storage: &Arc<dyn Storage>, title: &str, count: usize) -> Vec<SkuId> {
    let mut product = env.product(title);
    for n in 0..count {
        env.add_sku(&mut product, &format!("{title}-{n}"), 100, 5);
    }
    env.insert_products(storage, &[product.clone()]).await.unwrap();
    product.skus.iter().map(|s| s.id).collect()
}

async fn customer(env: &Env, storage: &Arc<dyn Storage>, email: &str) -> Customer {
    let customer = env.customer("Ada", "L", email);
    env.insert_customers(storage, std::slice::from_ref(&customer), &[]).await.unwrap();
    customer
}

async fn listed(storage: &Arc<dyn Storage>, filter: &CartFilter) -> Vec<Cart> {
    let total = read!(storage, carts.count(filter, 1_000));
    let page = read!(storage, carts.list(filter, &Paging::first(1_000)));
    assert_eq!((total, page.next), (Total { count: page.items.len() as u64, exact: true }, None), "{filter:?}");
    page.items
}

/// Carts with all fields and many lines, and carts without optional fields, are read back as they were inserted.
pub async fn every_field_survives_a_round_trip(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 140).await;
    let owner = customer(&env, storage, "ada@example.com").await;
    let lines = skus.iter().map(|sku| env.cart_line(*sku, 1_000_000, 1_000_000_000_000_000)).collect();
    let full = env.full_cart(Some(&owner), "Zoë.O+tag@Example.com", lines);
    let guest = Cart { token_hash: Some(SecretHash([255; 32])), ..env.cart() };
    let merged = Cart { state: CartState::Merged, merged_into: Some(guest.id), ..env.cart() };
    let mut twice = env.cart();
    let engraved = CartLine {
        attributes: serde_json::from_str(r#"{"engraving": "É", "n": [1, 1.5, null], "o": {"b": 1, "a": -2}}"#).unwrap(),
        ..env.cart_line(skus[0], 1, 0)
    };
    twice.lines = vec![engraved, env.cart_line(skus[0], 1, 0)];
    let all = [full, guest, merged, twice];
    insert(storage, &all).await.unwrap();
    for cart in &all {
        assert_eq!(get(storage, cart.id).await.as_ref(), Some(cart), "a cart is read as it was inserted");
    }
    assert_eq!(get(storage, CartId(env.ids.next())).await, None, "`get` of an unknown cart finds nothing");
    let ids = [all[3].id, CartId(env.ids.next()), all[0].id, all[3].id];
    let locked = attempt!(storage, carts.lock(&ids)).unwrap();
    assert_eq!(locked, [all[0].clone(), all[3].clone()], "`lock` returns the carts that exist, each once, by id");
    assert_eq!(attempt!(storage, carts.lock(&[])).unwrap(), [], "no cart is locked");
    // The key of the attributes is the same whatever the order of their names, so that an equal line is refused.
    let twin = CartLine {
        attributes: serde_json::from_str(r#"{"o": {"a": -2, "b": 1}, "n": [1, 1.5, null], "engraving": "É"}"#).unwrap(),
        ..env.cart_line(skus[0], 1, 0)
    };
    let mut after = edited(&env, &all[3]);
    after.lines.push(twin);
    assert!(update(storage, &all[3], &after).await.is_err(), "a cart has no two lines of one SKU and equal attributes");
    assert_eq!(get(storage, all[3].id).await.as_ref(), Some(&all[3]), "a refused update changes nothing");
}

/// An update sets and clears every field.
pub async fn every_field_is_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let owner = customer(&env, storage, "ada@example.com").await;
    let (cart, other) = (env.cart(), env.cart());
    insert(storage, &[cart.clone(), other.clone()]).await.unwrap();
    let full = env.full_cart(Some(&owner), "ada@example.com", Vec::new());
    let mut after = Cart { id: cart.id, audit: edited(&env, &cart).audit, ..full };
    after.token_hash = Some(SecretHash([7; 32]));
    update(storage, &cart, &after).await.unwrap();
    assert_eq!(get(storage, cart.id).await.as_ref(), Some(&after), "every field is updated");
    let emptied = Cart {
        token_hash: None,
        customer_id: None,
        email: None,
        state: CartState::Merged,
        merged_into: Some(other.id),
        expires_at: env.now(),
        attributes: Attributes::default(),
        external: None,
        ..edited(&env, &after)
    };
    update(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, cart.id).await.as_ref(), Some(&emptied), "every field is emptied");
    assert_eq!(get(storage, other.id).await.as_ref(), Some(&other), "other carts stay as they are");
    let by_email = CartFilter { email: Some("ada@example.com".to_owned()), ..CartFilter::default() };
    assert_eq!(listed(storage, &by_email).await, [], "a cleared email finds nothing");
}

/// One update adds, changes and removes lines, and leaves the lines of other carts.
pub async fn lines_are_added_changed_and_removed_by_their_ids(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 400).await;
    let with = |range: std::ops::Range<usize>| Cart {
        lines: skus[range].iter().map(|sku| env.cart_line(*sku, 2, 100)).collect(),
        ..env.cart()
    };
    let (before, other) = (with(0..300), with(0..10));
    insert(storage, &[before.clone(), other.clone()]).await.unwrap();
    let mut after = edited(&env, &before);
    after.lines.drain(250..);
    for (n, line) in after.lines.iter_mut().enumerate().skip(100) {
        line.quantity += n as i64;
        line.seen_price = usd(1_000 + n as i64);
    }
    after.lines.extend(skus[300..].iter().map(|sku| env.cart_line(*sku, 1, 7)));
    update(storage, &before, &after).await.unwrap();
    assert_eq!(get(storage, before.id).await.as_ref(), Some(&after), "the lines are those of the update");
    assert_eq!(get(storage, other.id).await.as_ref(), Some(&other), "the lines of other carts stay as they are");
    let emptied = Cart { lines: Vec::new(), ..edited(&env, &after) };
    update(storage, &after, &emptied).await.unwrap();
    assert_eq!(get(storage, before.id).await.as_ref(), Some(&emptied), "all lines are removed");
}

/// An update from an old version is refused before a line is written.
pub async fn r01_an_update_from_an_old_version_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 2).await;
    let cart = Cart { lines: vec![env.cart_line(skus[0], 1, 100)], ..env.cart() };
    insert(storage, std::slice::from_ref(&cart)).await.unwrap();
    let winner = Cart { email: Some("first@example.com".to_owned()), ..edited(&env, &cart) };
    update(storage, &cart, &winner).await.unwrap();
    let mut loser = Cart { email: Some("second@example.com".to_owned()), ..edited(&env, &cart) };
    loser.lines.push(env.cart_line(skus[1], 1, 100));
    let refused = update(storage, &cart, &loser).await;
    assert_eq!(code_of(refused, "an update from an old version"), ErrorCode::VersionConflict);
    assert_eq!(get(storage, cart.id).await, Some(winner), "the newer version stays");
}

/// The first cart of a customer stays the only open one, until it is ordered, merged or removed.
pub async fn r20_a_customer_has_at_most_one_open_cart(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (ada, bob) =
        (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await);
    let of = |customer: &Customer| Cart { customer_id: Some(customer.id), ..env.cart() };
    let (first, guest) = (of(&ada), env.cart());
    insert(storage, &[first.clone(), guest.clone(), of(&bob), env.cart()]).await.unwrap();
    let nobody = CustomerId(env.ids.next());
    assert_eq!(read!(storage, carts.find_open(&[nobody, ada.id])), [first.id], "the open cart of a customer is found");
    assert_eq!(read!(storage, carts.find_open(&[ada.id, bob.id])).len(), 2, "the carts of several customers are found");
    assert_eq!(read!(storage, carts.find_open(&[nobody])), [], "nobody has no open cart");
    is_taken("customer_id", insert(storage, &[of(&ada)]).await, "a second open cart is refused");
    let assigned = Cart { customer_id: Some(ada.id), ..edited(&env, &guest) };
    is_taken("customer_id", update(storage, &guest, &assigned).await, "a second open cart is refused");
    let ordered = Cart { state: CartState::Ordered, ..edited(&env, &first) };
    update(storage, &first, &ordered).await.unwrap();
    assert_eq!(read!(storage, carts.find_open(&[ada.id])), [], "an ordered cart is not open");
    update(storage, &guest, &assigned).await.expect("the customer has no open cart");
    let merged = Cart { state: CartState::Merged, merged_into: Some(first.id), ..edited(&env, &assigned) };
    update(storage, &assigned, &merged).await.unwrap();
    insert(storage, &[of(&ada)]).await.expect("the customer has no open cart");
}

/// No two carts have the same source and external id, which are compared bytewise.
pub async fn external_references_are_unique(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let with = |source: &str, id: &str| Cart { external: Some(ExternalRef::new(source, id)), ..env.cart() };
    let all = [with("shop", "1"), with("shop", "2"), with("SHOP", "1")];
    insert(storage, &all).await.unwrap();
    let ids = ["2", "1", "3"].map(str::to_owned);
    let mut found = read!(storage, carts.find_by_external("shop", &ids));
    found.sort_unstable();
    assert_eq!(found, [all[0].id, all[1].id], "carts are found by source and external id");
    is_taken("external_id", insert(storage, &[with("shop", "1")]).await, "an insert");
    let after = Cart { external: all[0].external.clone(), ..edited(&env, &all[1]) };
    is_taken("external_id", update(storage, &all[1], &after).await, "an update");
}

/// A cart refers to a customer and its lines to SKUs that exist.
pub async fn references_to_nobody_are_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let refused = |result: Result<()>, field: &str| match result {
        Err(Error::Validation(e)) => {
            let named: Vec<_> = e.0.iter().map(|f| (f.field.as_str(), f.code)).collect();
            assert_eq!(named, [(field, FieldCode::ReferenceNotFound)]);
        }
        other => panic!("{field}: {other:?}"),
    };
    let of_nobody = Cart { customer_id: Some(CustomerId(env.ids.next())), ..env.cart() };
    refused(insert(storage, &[of_nobody]).await, "customer_id");
    let line = env.cart_line(SkuId(env.ids.next()), 1, 100);
    let of_nothing = Cart { lines: vec![line.clone()], ..env.cart() };
    refused(insert(storage, std::slice::from_ref(&of_nothing)).await, "sku_id");
    assert_eq!(get(storage, of_nothing.id).await, None, "all or nothing");
    let cart = env.cart();
    insert(storage, std::slice::from_ref(&cart)).await.unwrap();
    refused(update(storage, &cart, &Cart { lines: vec![line], ..edited(&env, &cart) }).await, "sku_id");
}

/// Writers lock two carts in different orders. Each writer sees what the writer before it has written.
pub async fn the_lock_of_carts_makes_writers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 1).await;
    let with_line = || Cart { lines: vec![env.cart_line(skus[0], 1, 100)], ..env.cart() };
    let (a, b) = (with_line(), with_line());
    insert(storage, &[a.clone(), b.clone()]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let (storage, mut ids) = (storage.clone(), [a.id, b.id]);
        if seed % 2 == 1 {
            ids.reverse();
        }
        tasks.spawn(async move {
            let env = Env::new(seed);
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.carts().lock(&ids).await.unwrap();
            tokio::task::yield_now().await;
            for before in &locked {
                let mut after = edited(&env, before);
                after.lines[0].quantity += 1;
                uow.carts().update(before, &after).await.unwrap();
            }
            uow.commit().await.unwrap();
        });
    }
    tasks.join_all().await;
    for id in [a.id, b.id] {
        let cart = get(storage, id).await.unwrap();
        assert_eq!((cart.lines[0].quantity, cart.audit.version), (9, 9), "no change is lost");
    }
}

/// `get_many` returns the carts that exist, each once and with its lines, by id, in one statement.
pub async fn several_carts_are_read_by_id(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = env.priced("Lamp", 100, 5);
    env.insert_products(storage, std::slice::from_ref(&lamp)).await.unwrap();
    let lines = vec![env.cart_line(lamp.skus[0].id, 2, 100)];
    let carts = [env.cart(), Cart { lines, ..env.cart() }, env.cart()];
    insert(storage, &carts).await.unwrap();
    let ids = [carts[1].id, CartId(env.ids.next()), carts[0].id, carts[1].id];
    let before = storage.statements();
    let found = read!(storage, carts.get_many(&ids));
    assert_eq!(storage.statements() - before, 1, "several carts are read in one statement");
    assert_eq!(found, carts[..2], "carts that do not exist are left out, and each other is returned once, by id");
    assert_eq!(read!(storage, carts.get_many(&[])), [], "no ids find no carts");
}

/// One call orders several carts.
pub async fn carts_are_set_to_ordered_together(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let carts = [env.cart(), env.cart(), env.cart()];
    insert(storage, &carts).await.unwrap();
    let (at, by) = (env.now(), crate::domain::common::Actor::new("user:cashier"));
    let ids = [carts[2].id, carts[0].id];
    let mut uow = storage.begin().await.unwrap();
    uow.carts().lock(&ids).await.unwrap();
    uow.carts().set_ordered(&ids, at, &by).await.unwrap();
    uow.commit().await.unwrap();
    for cart in [&carts[0], &carts[2]] {
        let mut ordered = Cart { state: CartState::Ordered, ..cart.clone() };
        ordered.audit.edited(at, &by);
        assert_eq!(get(storage, cart.id).await, Some(ordered), "the cart is ordered");
    }
    assert_eq!(get(storage, carts[1].id).await.as_ref(), Some(&carts[1]), "other carts stay open");
}

/// The filters can be combined. Emails are compared by their folded keys.
pub async fn carts_are_found_by_customer_state_and_email(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (ada, bob) =
        (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await);
    let mut all = Vec::new();
    for (customer, state, email) in [
        (Some(&ada), CartState::Open, Some("Straße@example.com")),
        (Some(&ada), CartState::Ordered, None),
        (Some(&ada), CartState::Ordered, Some("STRASSE@example.com")),
        (Some(&bob), CartState::Open, Some("strasse@example.com")),
        (None, CartState::Open, Some("zoë@example.com")),
        (None, CartState::Merged, None),
    ] {
        all.push(Cart {
            customer_id: customer.map(|c| c.id),
            state,
            merged_into: (state == CartState::Merged)
                .then(|| all.first().map_or(CartId(env.ids.next()), |c: &Cart| c.id)),
            email: email.map(str::to_owned),
            ..env.cart()
        });
    }
    insert(storage, &all).await.unwrap();
    for customer in [None, Some(ada.id), Some(bob.id), Some(CustomerId(env.ids.next()))] {
        for state in [None].into_iter().chain(CartState::ALL.iter().copied().map(Some)) {
            for email in [None, Some("straSSe@EXAMPLE.com"), Some("zoe@example.com"), Some("%")] {
                let filter = CartFilter { customer, state, email: email.map(str::to_owned) };
                let matches = |c: &&Cart| {
                    customer.is_none_or(|id| c.customer_id == Some(id))
                        && state.is_none_or(|s| c.state == s)
                        && email.is_none_or(|e| {
                            c.email.as_ref().is_some_and(|own| crate::text::fold_key(own) == crate::text::fold_key(e))
                        })
                };
                let expected: Vec<Cart> = all.iter().rev().filter(matches).cloned().collect();
                assert_eq!(listed(storage, &filter).await, expected, "{filter:?}");
            }
        }
    }
}

/// Pages by cursor and by offset, of several sizes, together contain every cart once, with its lines.
pub async fn lists_page_through_all_carts_exactly_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 4).await;
    let mut all: Vec<Cart> = (0..50)
        .map(|n| Cart { lines: skus[..n % 5].iter().map(|s| env.cart_line(*s, 1, 100)).collect(), ..env.cart() })
        .collect();
    insert(storage, &all).await.unwrap();
    all.reverse();
    let filter = CartFilter { state: Some(CartState::Open), ..CartFilter::default() };
    for limit in [1, 7, 50, 1_000] {
        let (mut by_cursor, mut after) = (Vec::new(), None::<Keyset>);
        let mut pages = Pages::over(all.len());
        loop {
            pages.turn();
            let page = read!(storage, carts.list(&filter, &Paging::Keyset { after: after.take(), limit }));
            by_cursor.extend(page.items);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(by_cursor, all, "pages of {limit} by cursor");
        let mut by_offset = Vec::new();
        while by_offset.len() < all.len() {
            let paging = Paging::Offset { offset: by_offset.len() as u64, limit };
            by_offset.extend(read!(storage, carts.list(&filter, &paging)).items);
        }
        assert_eq!(by_offset, all, "pages of {limit} by offset");
    }
}

/// The key of a cursor is that of the list.
pub async fn a_cursor_of_another_list_is_refused(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keyset = Keyset { sort: "created_desc".to_owned(), key: SortKey::Int(7), id: env.ids.next() };
    let paging = Paging::Keyset { after: Some(keyset), limit: 5 };
    let mut connection = storage.connect().await.unwrap();
    let refused = connection.carts().list(&CartFilter::default(), &paging).await;
    assert_eq!(code_of(refused, "a cursor of another list"), ErrorCode::Validation);
}

/// A count above the bound is the bound, and not exact.
pub async fn counts_stop_at_their_bound(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    insert(storage, &[env.cart(), env.cart(), env.cart()]).await.unwrap();
    for (bound, count, exact) in [(2, 2, false), (3, 3, true), (10, 3, true)] {
        assert_eq!(read!(storage, carts.count(&CartFilter::default(), bound)), Total { count, exact });
    }
}

/// Carts that expire at the very time are found, and later ones are not.
pub async fn expired_carts_are_found_by_state_the_oldest_first(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let now = env.now();
    let at = |offset: i64, state: CartState| Cart {
        expires_at: now + chrono::TimeDelta::microseconds(offset),
        state,
        merged_into: (state == CartState::Merged).then(|| CartId(env.ids.next())),
        ..env.cart()
    };
    let carts = [
        at(0, CartState::Open),
        at(-2, CartState::Open),
        at(1, CartState::Open),
        at(-1, CartState::Ordered),
        at(-1, CartState::Merged),
        at(-1, CartState::Open),
    ];
    insert(storage, &carts).await.unwrap();
    let ids = |places: &[usize]| places.iter().map(|i| carts[*i].id).collect::<Vec<_>>();
    let expired = async |state: CartState, at: Timestamp, limit: u32| read!(storage, carts.expired(state, at, limit));
    assert_eq!(expired(CartState::Open, now, 10).await, ids(&[1, 5, 0]));
    assert_eq!(expired(CartState::Open, now, 2).await, ids(&[1, 5]));
    assert_eq!(expired(CartState::Merged, now, 10).await, ids(&[4]));
    assert_eq!(expired(CartState::Open, now - Duration::from_secs(1), 10).await, []);
}

/// Only open carts that can be mailed about are found, and those of one time come one after the other.
pub async fn idle_carts_are_found_in_pages_until_they_are_reminded_of(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 2).await;
    let ada = customer(&env, storage, "ada@example.com").await;
    let now = env.now();
    let at = |offset: i64, email: Option<&str>, state: CartState| {
        let mut cart = Cart {
            email: email.map(str::to_owned),
            state,
            merged_into: (state == CartState::Merged).then(|| CartId(env.ids.next())),
            lines: skus.iter().map(|sku| env.cart_line(*sku, 1, 100)).collect(),
            ..env.cart()
        };
        cart.audit.updated_at = now + chrono::TimeDelta::microseconds(offset);
        cart
    };
    let guest = Some("Grace@example.com");
    let of_ada = Cart { customer_id: Some(ada.id), ..at(-3, None, CartState::Open) };
    let external = Some(ExternalRef::new("Legacy shop", "7"));
    let carts = [
        at(0, guest, CartState::Open),
        at(-2, guest, CartState::Open),
        at(-2, guest, CartState::Open),
        of_ada,
        at(1, guest, CartState::Open),
        at(-1, guest, CartState::Ordered),
        at(-1, guest, CartState::Merged),
        at(-1, None, CartState::Open),
        Cart { lines: Vec::new(), ..at(-1, guest, CartState::Open) },
        Cart { external, ..at(-1, guest, CartState::Open) },
    ];
    insert(storage, &carts).await.unwrap();
    let expected =
        |places: &[usize]| places.iter().map(|i| (carts[*i].audit.updated_at, carts[*i].id)).collect::<Vec<_>>();
    let idle = async |after: (Timestamp, CartId), limit: u32| read!(storage, carts.idle(after, now, limit));
    let start = (now - Duration::from_secs(60), CartId(uuid::Uuid::nil()));
    assert_eq!(idle(start, 10).await, expected(&[3, 1, 2, 0]));
    let first = idle(start, 2).await;
    assert_eq!(first, expected(&[3, 1]));
    assert_eq!(idle(first[1], 2).await, expected(&[2, 0]), "a cart of the same time is not skipped");
    assert_eq!(idle(expected(&[0])[0], 2).await, []);

    let reminded = async |email: &str, at: Timestamp| read!(storage, carts.reminded_since(email, at));
    let second = Duration::from_secs(1);
    assert!(!reminded("grace@example.com", now - second).await);
    assert!(attempt!(storage, carts.set_reminded(carts[1].id, now)).unwrap());
    assert!(!attempt!(storage, carts.set_reminded(carts[1].id, now)).unwrap(), "it is recorded once");
    assert_eq!(get(storage, carts[1].id).await.as_ref(), Some(&carts[1]), "the cart itself stays");
    assert_eq!(idle(start, 10).await, expected(&[3, 2, 0]));
    assert!(reminded("GRACE@EXAMPLE.COM", now - second).await);
    assert!(!reminded("grace@example.com", now).await && !reminded("ada@example.com", now - second).await);
    let after = Cart { email: Some("new@example.com".to_owned()), ..edited(&env, &carts[1]) };
    update(storage, &carts[1], &after).await.unwrap();
    assert!(!attempt!(storage, carts.set_reminded(carts[1].id, now)).unwrap(), "an edit keeps the record");
}

/// Other carts stay.
pub async fn carts_are_purged_with_their_lines(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 2).await;
    let with_lines = || Cart { lines: skus.iter().map(|s| env.cart_line(*s, 1, 100)).collect(), ..env.cart() };
    let carts = [with_lines(), with_lines(), with_lines()];
    insert(storage, &carts).await.unwrap();
    attempt!(storage, carts.purge(&[carts[2].id, carts[0].id])).unwrap();
    assert_eq!(get(storage, carts[0].id).await, None);
    assert_eq!(listed(storage, &CartFilter::default()).await, [carts[1].clone()]);
    attempt!(storage, carts.purge(&[])).unwrap();
    // No line is left behind that refers to the SKU.
    attempt!(storage, carts.purge(&[carts[1].id])).unwrap();
    assert_eq!(listed(storage, &CartFilter::default()).await, []);
}

/// Carts lose the lines of a SKU that is deleted permanently, and keep the others.
pub async fn a_purge_of_a_sku_or_a_product_removes_its_lines(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (lamp, pen) = (skus(&env, storage, "Lamp", 2).await, skus(&env, storage, "Pen", 2).await);
    let lines = [&lamp[..], &pen[..]].concat().into_iter().map(|s| env.cart_line(s, 1, 100)).collect();
    let cart = Cart { lines, ..env.cart() };
    insert(storage, std::slice::from_ref(&cart)).await.unwrap();
    attempt!(storage, skus.purge(lamp[1])).unwrap();
    let left = get(storage, cart.id).await.unwrap();
    assert_eq!(left.lines, [&cart.lines[..1], &cart.lines[2..]].concat(), "the lines of the SKU are removed");
    let product = read!(storage, skus.get(pen[0], IncludeDeleted::Yes)).unwrap().product_id;
    let product = read!(storage, products.get(product, IncludeDeleted::Yes)).unwrap();
    attempt!(storage, products.purge(&product)).unwrap();
    let left = get(storage, cart.id).await.unwrap();
    assert_eq!(left.lines, cart.lines[..1], "the lines of the product are removed");
}

/// The transaction has read a line that is gone now: it must run again.
pub async fn a_line_that_was_removed_with_its_sku_is_not_updated(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 2).await;
    let cart = Cart { lines: skus.iter().map(|s| env.cart_line(*s, 1, 100)).collect(), ..env.cart() };
    insert(storage, std::slice::from_ref(&cart)).await.unwrap();
    attempt!(storage, skus.purge(skus[1])).unwrap();
    let mut after = edited(&env, &cart);
    after.lines[1].quantity = 7;
    let error = update(storage, &cart, &after).await.unwrap_err();
    assert!(error.is_contention(), "{error:?}");
    assert_eq!(get(storage, cart.id).await.unwrap().audit.version, 1, "a refused update changes nothing");
}

/// Carts of others stay, also those from which an order was placed.
pub async fn a_purge_of_a_customer_removes_its_carts(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 1).await;
    let (ada, bob) =
        (customer(&env, storage, "ada@example.com").await, customer(&env, storage, "bob@example.com").await);
    let of = |customer: Option<&Customer>, state: CartState| Cart {
        customer_id: customer.map(|c| c.id),
        state,
        lines: vec![env.cart_line(skus[0], 1, 100)],
        ..env.cart()
    };
    let carts = [
        of(Some(&ada), CartState::Open),
        of(Some(&ada), CartState::Ordered),
        of(Some(&bob), CartState::Ordered),
        of(None, CartState::Open),
    ];
    insert(storage, &carts).await.unwrap();
    attempt!(storage, customers.purge(ada.id)).unwrap();
    assert_eq!(listed(storage, &CartFilter::default()).await, [carts[3].clone(), carts[2].clone()]);
}

/// Reads, inserts and updates of 1 line and of 100 lines cost the same.
pub async fn the_number_of_statements_does_not_depend_on_the_number_of_lines(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let skus = skus(&env, storage, "Lamp", 128).await;
    let mut costs = Vec::new();
    for n in [1, 64] {
        let cart = Cart { lines: skus[..n].iter().map(|s| env.cart_line(*s, 1, 100)).collect(), ..env.cart() };
        let mut after = edited(&env, &cart);
        after.lines.truncate(n / 2);
        after.lines.iter_mut().for_each(|l| l.quantity += 1);
        after.lines.extend(skus[64..64 + n].iter().map(|s| env.cart_line(*s, 1, 100)));
        let mut uow = storage.begin().await.unwrap();
        let mut counts = vec![storage.statements()];
        uow.carts().insert(std::slice::from_ref(&cart)).await.unwrap();
        counts.push(storage.statements());
        uow.carts().lock(&[cart.id]).await.unwrap();
        counts.push(storage.statements());
        uow.carts().get(cart.id).await.unwrap();
        counts.push(storage.statements());
        uow.carts().list(&CartFilter::default(), &Paging::first(5)).await.unwrap();
        counts.push(storage.statements());
        uow.carts().purge(&[cart.id]).await.unwrap();
        counts.push(storage.statements());
        uow.carts().insert(std::slice::from_ref(&cart)).await.unwrap();
        let before = storage.statements();
        uow.carts().update(&cart, &after).await.unwrap();
        if n > 1 {
            let cost = storage.statements() - before;
            assert_eq!(cost, 4, "an update of the cart, and one statement for each kind of change of lines");
        }
        uow.carts().purge(&[cart.id]).await.unwrap();
        uow.commit().await.unwrap();
        let cost: Vec<u64> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        costs.push(cost);
    }
    assert_eq!(costs[0], costs[1]);
    assert_eq!((costs[0][0], costs[0][2], costs[0][3], costs[0][4]), (2, 1, 2, 2));
}
