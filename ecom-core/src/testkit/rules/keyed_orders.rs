//! Orders with an idempotency key, which share commits with other orders (R12, R20, R42).

use futures::future::join_all;
use serde_json::json;

use super::ShopFixture;
use super::orders::{checkout, guest, line, stocked};
use super::support::{from, me};
use crate::domain::platform::idempotency::{IdempotencyKey, RequestHash, StoredAnswer};
use crate::domain::sales::cart::{CartAccess, CartInput};
use crate::domain::sales::order::input::OrderInput;
use crate::domain::sales::order::{Order, OrderFilter, OrderSort};
use crate::error::{Error, ErrorCode, Result};
use crate::id::{EventId, OrderId};
use crate::paging::Paging;
use crate::service::platform::idempotency::{KeyedCall, Once};
use crate::shop::Shop;
use crate::testkit::faults::Fault;

tests! { __shop_keyed_orders: [
    r12_orders_with_keys_share_a_commit,
    r12_of_orders_with_one_key_that_share_a_commit_one_is_placed,
    r12_an_order_with_a_key_whose_commit_was_not_answered_is_placed_once,
    r12_two_shops_that_place_orders_with_one_key_place_one,
    r20_a_checkout_with_a_key_and_one_without_make_one_order,
    r42_a_refused_order_leaves_its_key_free,
    r42_an_order_whose_answer_cannot_be_stored_is_not_placed,
] }

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::of(me(), "orders.place", text).unwrap()
}

/// Returns a key whose stored answer is the id of the order.
fn once(name: &str, input: &OrderInput) -> KeyedCall<Order> {
    let hash = RequestHash::of([format!("{input:?}").as_bytes()]);
    KeyedCall::new(key(name), hash, |order: &Order, _| StoredAnswer::json(&order.id))
}

/// Places an order at most once. Returns its id, and whether the call ran.
async fn place(shop: &Shop, name: &str, input: &OrderInput) -> Result<(OrderId, bool)> {
    Ok(match shop.orders().place_once(input, once(name, input)).await? {
        Once::Ran(order) => (order.id, true),
        Once::Replayed(answer) => (answer.read()?, false),
    })
}

async fn placed(f: &ShopFixture) -> Vec<OrderId> {
    let (page, _) =
        f.shop.orders().list(&OrderFilter::default(), OrderSort::default(), &Paging::first(100)).await.unwrap();
    page.items.into_iter().map(|o| o.id).collect()
}

/// Forty orders that arrive together need a few commits, and each has its own key.
pub async fn r12_orders_with_keys_share_a_commit(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    let pen = stocked(f, "Pen", 100).await;
    storage.plan(&[]);
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let input = guest(json!([line(&pen, 1)]));
    let first = join_all(names.iter().map(|name| place(&shop, name, &input))).await;
    assert!(storage.commits() <= 20, "forty orders must share commits: {}", storage.commits());
    let again = join_all(names.iter().map(|name| place(&shop, name, &input))).await;
    for (first, again) in first.into_iter().zip(again) {
        let (id, ran) = first.unwrap();
        assert!(ran, "the key is new");
        assert_eq!(again.unwrap(), (id, false), "a repetition gets the answer");
    }
    assert_eq!((placed(f).await.len(), f.on_hand(&pen).await), (40, 60));
    f.audited().await;
}

/// Requests with one key arrive together: the equal ones get one answer, and another one is refused.
pub async fn r12_of_orders_with_one_key_that_share_a_commit_one_is_placed(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let (one, two) = (guest(json!([line(&pen, 1)])), guest(json!([line(&pen, 2)])));
    let inputs = [&one, &one, &two, &one, &two];
    let done = join_all(inputs.iter().map(|input| place(&f.shop, "1", input))).await;
    let (mut answers, mut ran, mut refused) = (Vec::new(), 0, 0);
    for result in done {
        match result {
            Ok((id, new)) => {
                answers.push(id);
                ran += usize::from(new);
            }
            Err(e) => {
                assert_eq!(e.code(), ErrorCode::IdempotencyKeyReused);
                refused += 1;
            }
        }
    }
    answers.dedup();
    assert_eq!((answers, ran, refused), (placed(f).await, 1, 2), "the first request must be placed once");
    assert_eq!(f.on_hand(&pen).await, 99);
    f.audited().await;
}

/// The answer of the commit is lost, after the commit or before it, also for an order without lines, which locks no SKU.
pub async fn r12_an_order_with_a_key_whose_commit_was_not_answered_is_placed_once(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    let pen = stocked(f, "Pen", 100).await;
    for (n, lines) in [json!([line(&pen, 1)]), json!([])].into_iter().enumerate() {
        for fault in [Fault::AnswerLost, Fault::CommitLost] {
            let before = placed(f).await.len();
            let (name, input) = (format!("{n} {fault:?}").replace(' ', "-"), guest(lines.clone()));
            storage.plan(&[fault]);
            let twins = join_all((0..3).map(|_| place(&shop, &name, &input))).await;
            let (id, _) = *twins[0].as_ref().unwrap();
            assert!(twins.iter().all(|t| t.as_ref().is_ok_and(|(other, _)| *other == id)), "{fault:?}: {twins:?}");
            assert_eq!(place(&f.shop, &name, &input).await.unwrap(), (id, false), "{fault:?}");
            assert_eq!(placed(f).await.len(), before + 1, "{fault:?}");
        }
    }
    assert_eq!(f.on_hand(&pen).await, 98);
    f.audited().await;
}

/// The same requests reach two processes at the same time.
pub async fn r12_two_shops_that_place_orders_with_one_key_place_one(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let other = f.another(crate::config::ShopConfig::default(), f.cache());
    let input = guest(json!([line(&pen, 1)]));
    let names = ["a", "b", "c", "d"];
    let done = join_all((0..40).map(|n| {
        let shop = if n % 2 == 0 { &f.shop } else { &other };
        place(shop, names[n / 2 % 4], &input)
    }))
    .await;
    let done: Vec<(OrderId, bool)> = done.into_iter().map(Result::unwrap).collect();
    for name in 0..4 {
        let of_name: Vec<_> = done.iter().enumerate().filter(|(n, _)| n / 2 % 4 == name).map(|(_, d)| d).collect();
        assert_eq!(of_name.iter().filter(|(_, ran)| *ran).count(), 1, "one call of each key runs");
        assert!(of_name.iter().all(|(id, _)| *id == of_name[0].0), "all calls of a key get one answer");
    }
    assert_eq!((placed(f).await.len(), f.on_hand(&pen).await), (4, 96));
    f.audited().await;
}

/// A cart makes one order, whichever call of a commit is the first.
pub async fn r20_a_checkout_with_a_key_and_one_without_make_one_order(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 100).await;
    let made = f.shop.carts().create(&CartInput::default().line(from(&line(&pen, 2)))).await.unwrap();
    let (cart, access) = (made.cart.cart.id, CartAccess::from(made.token.unwrap()));
    let (orders, input) = (f.shop.orders(), checkout());
    let keyed = |name: &str| {
        let call = KeyedCall::new(key(name), RequestHash::of([]), |order: &Order, _| StoredAnswer::json(&order.id));
        orders.checkout_once(cart, &access, &input, call)
    };
    let (plain, first, twin, other) =
        futures::join!(orders.checkout(cart, &access, &input), keyed("1"), keyed("1"), keyed("2"),);
    let id = plain.unwrap().id;
    for done in [first, twin, other, keyed("1").await, keyed("2").await] {
        let got = match done.unwrap() {
            Once::Ran(order) => order.id,
            Once::Replayed(answer) => answer.read().unwrap(),
        };
        assert_eq!(got, id, "every call gets the order of the cart");
    }
    assert_eq!((placed(f).await, f.on_hand(&pen).await), (vec![id], 98));
    f.audited().await;
}

/// A refusal leaves no row, also beside orders that are placed in the same commit. The key takes another request.
pub async fn r42_a_refused_order_leaves_its_key_free(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let (many, few) = (guest(json!([line(&pen, 11)])), guest(json!([line(&pen, 3)])));
    let before = f.snapshot().await;
    assert_eq!(place(&f.shop, "1", &many).await.unwrap_err().code(), ErrorCode::InsufficientStock);
    assert_eq!(f.snapshot().await, before, "a refused order writes nothing");
    let (short, beside, corrected) =
        futures::join!(place(&f.shop, "1", &many), place(&f.shop, "2", &few), place(&f.shop, "1", &few));
    assert_eq!(short.unwrap_err().code(), ErrorCode::InsufficientStock);
    assert!(beside.unwrap().1, "an order beside a refused one is placed");
    let corrected = match corrected {
        Ok(done) => done,
        // It shared the commit in which the first request was refused.
        Err(e) => {
            assert!(e.is_retryable(), "{e:?}");
            place(&f.shop, "1", &few).await.unwrap()
        }
    };
    assert!(corrected.1, "the key of a refused request takes another request");
    assert_eq!(place(&f.shop, "1", &few).await.unwrap(), (corrected.0, false));
    assert_eq!(place(&f.shop, "1", &many).await.unwrap_err().code(), ErrorCode::IdempotencyKeyReused);
    assert_eq!(f.on_hand(&pen).await, 4);
    f.audited().await;
}

/// The order and its key are written with the answer, or not at all. Orders beside it are placed.
pub async fn r42_an_order_whose_answer_cannot_be_stored_is_not_placed(f: &ShopFixture) {
    let pen = stocked(f, "Pen", 10).await;
    let input = guest(json!([line(&pen, 1)]));
    let orders = f.shop.orders();
    let with = |name: &str, answer: fn(&Order, Option<EventId>) -> Result<StoredAnswer>| {
        orders.place_once(&input, KeyedCall::new(key(name), RequestHash::of([]), answer))
    };
    let (failed, long, beside) = futures::join!(
        with("1", |_, _| Err(Error::Unauthenticated)),
        with("2", |_, _| Ok(StoredAnswer::new(vec![0; StoredAnswer::MAX + 1]))),
        place(&f.shop, "3", &input),
    );
    assert_eq!(failed.unwrap_err().code(), ErrorCode::Unauthenticated);
    assert_eq!(long.unwrap_err().code(), ErrorCode::Validation);
    assert_eq!(placed(f).await, [beside.unwrap().0]);
    for name in ["1", "2"] {
        assert!(place(&f.shop, name, &input).await.unwrap().1, "the key is free");
    }
    assert_eq!(f.on_hand(&pen).await, 7);
    f.audited().await;
}
