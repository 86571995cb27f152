//! Calls that run at most once for an idempotency key (R12, R42).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ShopFixture;
use super::support::{conflict, flat, me, until};
use crate::config::ShopConfig;
use crate::domain::access::principal::Principal;
use crate::domain::catalog::product::{Product, ProductFilter};
use crate::domain::platform::idempotency::{IdempotencyKey, RequestHash, StoredAnswer};
use crate::error::{Conflict, Error, ErrorCode, PlatformConflict, Result};
use crate::id::ProductId;
use crate::service::platform::idempotency::Once;
use crate::service::run::transaction::Tx;
use crate::shop::Shop;
use crate::testkit::faults::Fault;

tests! { __shop_idempotency: [
    r12_one_key_and_many_callers_have_one_effect_and_one_answer,
    r12_a_repetition_gets_the_stored_answer_and_runs_nothing,
    r12_another_request_with_the_key_is_refused,
    r12_two_shops_share_the_keys_of_their_database,
    r12_after_an_unknown_outcome_the_key_finds_out,
    r12_a_write_that_is_tried_again_has_one_effect,
    r12_a_key_works_inside_a_transaction_of_the_host,
    r42_a_refused_call_leaves_its_key_free,
    r42_a_key_belongs_to_its_caller_and_its_operation,
    r42_keys_are_swept_after_their_time,
] }

fn hash(text: &str) -> RequestHash {
    RequestHash::of([text.as_bytes()])
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::of(me(), "products.create", text).unwrap()
}

async fn make_in(shop: &Shop, mut tx: Tx<'static>, title: &str) -> Result<(Product, StoredAnswer, Tx<'static>)> {
    let product = shop.products().create_in(&mut tx, &flat(title)).await?;
    let answer = StoredAnswer::json(&product.id)?;
    Ok((product, answer, tx))
}

/// Returns the refusal of a call.
fn refused(tx: Tx<'static>, error: Error) -> Result<((), StoredAnswer, Tx<'static>)> {
    drop(tx);
    Err(error)
}

/// Creates a product at most once, and returns its id, and whether the call ran.
async fn make(shop: &Shop, key: &IdempotencyKey, title: &str) -> Result<(ProductId, bool)> {
    let calls = shop.idempotency();
    let done = calls.run(key, hash(title), |tx| make_in(shop, tx, title));
    Ok(match done.await? {
        Once::Ran(product) => (product.id, true),
        Once::Replayed(answer) => (answer.read()?, false),
    })
}

async fn titles(f: &ShopFixture) -> Vec<String> {
    f.listed(ProductFilter::default()).await
}

/// Fifty tasks send the same request with the same key at the same time.
pub async fn r12_one_key_and_many_callers_have_one_effect_and_one_answer(f: &ShopFixture) {
    let ran = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (shop, ran) = (f.shop.clone(), ran.clone());
            tokio::spawn(async move {
                let (id, new) = make(&shop, &key("1"), "Pen").await.unwrap();
                ran.fetch_add(u64::from(new), Ordering::SeqCst);
                id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for t in tasks {
        ids.push(t.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "all callers get the same answer");
    assert_eq!(ran.load(Ordering::SeqCst), 1, "one call has run");
    assert_eq!(titles(f).await, ["Pen"], "there is one effect");
}

/// The replay neither runs the call nor writes an event.
pub async fn r12_a_repetition_gets_the_stored_answer_and_runs_nothing(f: &ShopFixture) {
    let (id, ran) = make(&f.shop, &key("1"), "Pen").await.unwrap();
    assert!(ran);
    let before = f.snapshot().await;
    let (calls, k) = (f.shop.idempotency(), key("1"));
    for _ in 0..3 {
        let done = calls.run(&k, hash("Pen"), |tx| async { refused(tx, Error::Unauthenticated) });
        assert_eq!(done.await.unwrap(), Once::Replayed(StoredAnswer::json(&id).unwrap()));
    }
    assert_eq!(f.snapshot().await, before, "a repetition writes nothing");
    assert_ne!(make(&f.shop, &key("2"), "Pen").await.unwrap().0, id, "another key is another call");
}

/// The refusal names the key, and changes nothing.
pub async fn r12_another_request_with_the_key_is_refused(f: &ShopFixture) {
    let (id, _) = make(&f.shop, &key("1"), "Pen").await.unwrap();
    let before = f.snapshot().await;
    match conflict(make(&f.shop, &key("1"), "Ink").await, "another request with the key") {
        Conflict::Platform(PlatformConflict::KeyReused { key }) => assert_eq!(key, "1"),
        other => panic!("must be IDEMPOTENCY_KEY_REUSED, is {other}"),
    }
    assert_eq!(f.snapshot().await, before, "it changes nothing");
    assert_eq!(make(&f.shop, &key("1"), "Pen").await.unwrap(), (id, false), "the first request keeps its answer");
}

/// Two processes have one database. Their callers send the same keys at the same time.
pub async fn r12_two_shops_share_the_keys_of_their_database(f: &ShopFixture) {
    let other = f.another(ShopConfig::default(), f.cache());
    for n in 0..10 {
        let (key, title) = (key(&n.to_string()), format!("Pen {n}"));
        let (one, two) = tokio::join!(make(&f.shop, &key, &title), make(&other, &key, &title));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!(one.0, two.0, "both get the same answer");
        assert!(one.1 != two.1, "one of the two runs");
    }
    assert_eq!(titles(f).await.len(), 10);
}

/// The response to the commit is lost. The caller repeats the call, and learns whether the first one has happened.
pub async fn r12_after_an_unknown_outcome_the_key_finds_out(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    for (n, (fault, happened)) in [(Fault::AnswerLost, true), (Fault::CommitLost, false)].into_iter().enumerate() {
        let (key, title) = (key(&n.to_string()), format!("Pen {n}"));
        storage.plan(&[fault]);
        let lost = make(&shop, &key, &title).await.unwrap_err();
        assert!(lost.outcome_unknown(), "{lost:?}");
        let (_, ran) = make(&shop, &key, &title).await.unwrap();
        assert_eq!(ran, !happened, "the repetition runs only if the first call has not happened");
        assert!(!make(&shop, &key, &title).await.unwrap().1);
    }
    assert_eq!(titles(f).await, ["Pen 0", "Pen 1"], "each call has one effect");
}

/// Other transactions are in the way twice, and the call runs three times.
pub async fn r12_a_write_that_is_tried_again_has_one_effect(f: &ShopFixture) {
    let (shop, storage) = f.unsteady();
    storage.plan(&[Fault::Contention, Fault::Contention]);
    let tries = AtomicU64::new(0);
    let (calls, k) = (shop.idempotency(), key("1"));
    let done = calls.run(&k, hash("Pen"), |tx| {
        tries.fetch_add(1, Ordering::SeqCst);
        make_in(&shop, tx, "Pen")
    });
    let Once::Ran(product) = done.await.unwrap() else { panic!("the key is new") };
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    assert_eq!(make(&shop, &key("1"), "Pen").await.unwrap(), (product.id, false));
    assert_eq!(titles(f).await, ["Pen"]);
}

/// The key, the effect and the answer are committed with the other writes of the transaction, or not at all.
pub async fn r12_a_key_works_inside_a_transaction_of_the_host(f: &ShopFixture) {
    let (shop, calls, k) = (&f.shop, f.shop.idempotency(), key("1"));
    for commits in [false, true] {
        let mut tx = shop.begin().await.unwrap();
        assert_eq!(calls.claim_in(&mut tx, &k, hash("Pen")).await.unwrap(), None);
        let product = shop.products().create_in(&mut tx, &flat("Pen")).await.unwrap();
        let answer = StoredAnswer::json(&product.id).unwrap();
        calls.store_in(&mut tx, &k, answer.clone()).await.unwrap();
        assert_eq!(calls.claim_in(&mut tx, &k, hash("Pen")).await.unwrap(), Some(answer));
        shop.products().create_in(&mut tx, &flat("Ink")).await.unwrap();
        if commits {
            tx.commit().await.unwrap().run().await;
        } else {
            drop(tx);
        }
    }
    assert_eq!(titles(f).await, ["Ink", "Pen"]);
    assert!(!make(shop, &k, "Pen").await.unwrap().1, "the other form of the call finds the answer");
    let mut tx = shop.begin().await.unwrap();
    let reused = calls.claim_in(&mut tx, &k, hash("Ink")).await.unwrap_err();
    assert_eq!(reused.code(), ErrorCode::IdempotencyKeyReused);
    drop(tx);
}

/// The same key is used again, with the same request and with another one.
pub async fn r42_a_refused_call_leaves_its_key_free(f: &ShopFixture) {
    let (shop, calls, k) = (&f.shop, f.shop.idempotency(), key("1"));
    let before = f.snapshot().await;
    for _ in 0..2 {
        let early = make(shop, &key("1"), "").await.unwrap_err();
        assert_eq!(early.code(), ErrorCode::Validation);
        // The call refuses after it has written.
        let late = calls.run(&k, hash("x"), |tx| async {
            let (.., tx) = make_in(shop, tx, "Pen").await?;
            refused(tx, Error::Unauthenticated)
        });
        assert_eq!(late.await.unwrap_err().code(), ErrorCode::Unauthenticated);
    }
    // An answer that does not fit.
    let long = StoredAnswer::new(vec![0; StoredAnswer::MAX + 1]);
    let late = calls.run(&k, hash("x"), |tx| async {
        let (product, _, tx) = make_in(shop, tx, "Pen").await?;
        Ok((product, long.clone(), tx))
    });
    assert_eq!(late.await.unwrap_err().code(), ErrorCode::Validation);
    assert_eq!(f.snapshot().await, before, "a refused call writes nothing");
    assert!(make(shop, &key("1"), "Pen").await.unwrap().1, "the key is free, also for another request");
}

/// The same key of another principal, or for another operation, is another key.
pub async fn r42_a_key_belongs_to_its_caller_and_its_operation(f: &ShopFixture) {
    let (ada, bob) = (Principal::trusted("user:ada"), Principal::trusted("user:bob"));
    let mut ids = Vec::new();
    for (who, operation) in [(&ada, "products.create"), (&bob, "products.create"), (&ada, "products.copy")] {
        let key = f.shop.acting_as(who).idempotency().key(operation, "1").unwrap();
        let (id, ran) = make(&f.shop, &key, &format!("{} {operation}", who.actor().as_str())).await.unwrap();
        assert!(ran, "{key:?}");
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// The background work removes keys that have expired, and no others.
pub async fn r42_keys_are_swept_after_their_time(f: &ShopFixture) {
    let retention = Duration::from_secs(600);
    let config = ShopConfig::default().idempotency_retention(retention).poll_interval(Duration::from_millis(10));
    let shop = f.another(config.clone(), f.cache());
    let (first, _) = make(&shop, &key("1"), "Pen").await.unwrap();
    f.clock.advance(retention / 2);
    let (kept, _) = make(&shop, &key("2"), "Ink").await.unwrap();
    f.clock.advance(retention / 2);
    // No sweeper has run, so that the key counts although it has expired.
    assert_eq!(make(&shop, &key("1"), "Pen").await.unwrap(), (first, false));
    f.clock.advance(Duration::from_secs(1));
    let background = shop.start();
    let (calls, k) = (f.shop.idempotency(), key("1"));
    until("the expired key is removed", async || {
        let claimed = calls.run(&k, hash("another"), |tx| async { refused(tx, Error::Unauthenticated) });
        claimed.await.unwrap_err().code() == ErrorCode::Unauthenticated
    })
    .await;
    background.shutdown().await;
    assert_eq!(make(&shop, &key("2"), "Ink").await.unwrap(), (kept, false), "a key that has not expired is kept");
    assert_ne!(make(&shop, &key("1"), "Pen").await.unwrap().0, first, "a request that comes later runs again");
    let bounds = [Duration::from_secs(59), Duration::from_secs(31 * 86_400)];
    assert!(bounds.iter().all(|b| config.clone().idempotency_retention(*b).check().is_err()));
}
