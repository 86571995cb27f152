//! The contract of [`IdempotencyRepository`](crate::port::IdempotencyRepository).

use std::sync::Arc;
use std::time::Duration;

use crate::domain::platform::idempotency::{AnswerSubject, IdempotencyKey, RequestHash, StoredAnswer};
use crate::domain::sales::cart::{Cart, CartState};
use crate::error::ErrorCode;
use crate::id::{CustomerId, IdSource as _};
use crate::port::platform::idempotency::{Claim, Claimed};
use crate::port::storage::Storage;
use crate::testkit::code_of;
use crate::testkit::sample::Env;

suite! {
    /// Runs the suite of [`IdempotencyRepository`](crate::port::IdempotencyRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    idempotency_suite, idempotency: fixture => &fixture.storage, __idempotency_tests: [
        r12_a_claim_is_new_once_and_then_has_its_answer,
        r12_another_hash_is_a_reused_key,
        r12_a_claim_commits_with_its_transaction_or_not_at_all,
        r12_of_many_claims_at_once_one_is_new,
        r12_a_claim_waits_for_the_transaction_before_it,
        r42_keys_and_scopes_are_compared_bytewise,
        r42_a_batch_finds_each_of_its_claims_in_order,
        r42_a_released_key_is_free,
        r42_batches_in_any_order_do_not_block_each_other,
        r42_a_key_counts_until_it_is_swept,
        r42_a_sweep_removes_the_oldest_expired_keys,
        r45_answers_about_a_customer_are_erased_and_their_keys_stay,
        r45_answers_about_carts_and_orders_that_were_a_guests_are_erased_with_their_customer,
        an_answer_survives_byte_by_byte,
        an_answer_needs_a_claim,
    ]
}

fn hash(text: &str) -> RequestHash {
    RequestHash::of([text.as_bytes()])
}

fn key(scope: &str, key: &str) -> IdempotencyKey {
    IdempotencyKey::new(scope, key).unwrap()
}

fn claim(env: &Env, key: &IdempotencyKey, request: &str) -> Claim {
    let created_at = env.now();
    Claim { key: key.clone(), hash: hash(request), created_at, expires_at: created_at + Duration::from_secs(3_600) }
}

/// Claims keys and stores these answers, in one transaction.
async fn claim_all(storage: &Arc<dyn Storage>, claims: &[Claim], answers: &[(IdempotencyKey, StoredAnswer)]) {
    let mut uow = storage.begin().await.unwrap();
    let found = uow.idempotency().claim(claims).await.unwrap();
    assert_eq!(found, vec![Claimed::New; claims.len()], "keys that nobody has claimed are new");
    uow.idempotency().store(answers).await.unwrap();
    uow.commit().await.unwrap();
}

async fn found(storage: &Arc<dyn Storage>, claims: &[Claim]) -> Vec<Claimed> {
    attempt!(storage, idempotency.claim(claims)).unwrap()
}

fn answer(text: &str) -> StoredAnswer {
    StoredAnswer::new(text)
}

fn answered(text: &str) -> Claimed {
    Claimed::Answered(answer(text))
}

/// A repetition finds the answer, as often as it is made.
pub async fn r12_a_claim_is_new_once_and_then_has_its_answer(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let k = key("create|ada", "1");
    claim_all(storage, &[claim(&env, &k, "a")], &[(k.clone(), answer("made"))]).await;
    for _ in 0..3 {
        assert_eq!(found(storage, &[claim(&env, &k, "a")]).await, [answered("made")], "a repetition finds the answer");
    }
    assert_eq!(found(storage, &[]).await, [], "no claims find nothing");
    attempt!(storage, idempotency.store(&[])).unwrap();
    attempt!(storage, idempotency.release(&[])).unwrap();
}

/// The key keeps the answer of the first request.
pub async fn r12_another_hash_is_a_reused_key(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let k = key("s", "1");
    claim_all(storage, &[claim(&env, &k, "a")], &[(k.clone(), answer("made"))]).await;
    assert_eq!(found(storage, &[claim(&env, &k, "b")]).await, [Claimed::Reused], "another request reuses the key");
    assert_eq!(found(storage, &[claim(&env, &k, "a")]).await, [answered("made")], "the first request has its answer");
}

/// The claim of a transaction that is rolled back, or dropped, is new again.
pub async fn r12_a_claim_commits_with_its_transaction_or_not_at_all(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let k = key("s", "1");
    for dropped in [true, false] {
        let mut uow = storage.begin().await.unwrap();
        assert_eq!(uow.idempotency().claim(&[claim(&env, &k, "a")]).await.unwrap(), [Claimed::New]);
        uow.idempotency().store(&[(k.clone(), answer("lost"))]).await.unwrap();
        let again = uow.idempotency().claim(&[claim(&env, &k, "a"), claim(&env, &k, "b")]).await.unwrap();
        assert_eq!(again, [answered("lost"), Claimed::Reused], "a transaction sees its own keys");
        if dropped {
            drop(uow);
        } else {
            uow.rollback().await.unwrap();
        }
    }
    claim_all(storage, &[claim(&env, &k, "b")], &[(k.clone(), answer("made"))]).await;
}

/// Every other transaction finds the answer of the one that was first.
pub async fn r12_of_many_claims_at_once_one_is_new(storage: &Arc<dyn Storage>) {
    let now = Env::default();
    let k = key("s", "1");
    let c = claim(&now, &k, "a");
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let (storage, c) = (storage.clone(), c.clone());
            tokio::spawn(async move {
                let mut uow = storage.begin().await.unwrap();
                let found = uow.idempotency().claim(std::slice::from_ref(&c)).await.unwrap().pop().unwrap();
                if found == Claimed::New {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    uow.idempotency().store(&[(c.key.clone(), answer(&format!("made by {n}")))]).await.unwrap();
                }
                uow.commit().await.unwrap();
                (n, found)
            })
        })
        .collect();
    let (mut new, mut answers) = (Vec::new(), Vec::new());
    for t in tasks {
        match t.await.unwrap() {
            (n, Claimed::New) => new.push(answered(&format!("made by {n}"))),
            (_, found) => answers.push(found),
        }
    }
    assert_eq!((new.len(), answers.len()), (1, 15), "one claim is new: {answers:?}");
    assert!(answers.iter().all(|a| *a == new[0]), "the others find its answer: {answers:?}");
}

/// The second transaction finds what the first one has left, at its commit or its rollback.
pub async fn r12_a_claim_waits_for_the_transaction_before_it(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for commits in [false, true] {
        let k = key("s", "1");
        let mut first = storage.begin().await.unwrap();
        assert_eq!(first.idempotency().claim(&[claim(&env, &k, "a")]).await.unwrap(), [Claimed::New]);
        let second = tokio::spawn({
            let (storage, c) = (storage.clone(), claim(&env, &k, "a"));
            async move {
                let mut uow = storage.begin().await.unwrap();
                let found = uow.idempotency().claim(&[c]).await.unwrap();
                uow.rollback().await.unwrap();
                found
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!second.is_finished(), "a claim waits while another transaction has the key");
        if commits {
            first.idempotency().store(&[(k.clone(), answer("made"))]).await.unwrap();
            first.commit().await.unwrap();
            assert_eq!(second.await.unwrap(), [answered("made")], "after the commit it finds the answer");
        } else {
            first.rollback().await.unwrap();
            assert_eq!(second.await.unwrap(), [Claimed::New], "after the rollback the key is new");
        }
    }
}

/// Keys that differ in case or in trailing characters, and scopes that do, are different keys.
pub async fn r42_keys_and_scopes_are_compared_bytewise(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let long = "k".repeat(254);
    let scope = "é".repeat(199);
    let names = [
        ("s", "a"),
        ("s", "A"),
        ("S", "a"),
        ("s ", "a"),
        ("s", "a."),
        ("sa", "a"),
        ("ß", "a"),
        ("ss", "a"),
        ("s", &format!("{long}1")),
        ("s", &format!("{long}2")),
        (&format!("{scope}1"), &format!("{long}1")),
        (&format!("{scope}2"), &format!("{long}1")),
    ];
    for (n, (s, k)) in names.iter().enumerate() {
        let k = key(s, k);
        claim_all(storage, &[claim(&env, &k, "a")], &[(k.clone(), answer(&n.to_string()))]).await;
    }
    let claims: Vec<Claim> = names.iter().map(|(s, k)| claim(&env, &key(s, k), "a")).collect();
    let all: Vec<Claimed> = (0..names.len()).map(|n| answered(&n.to_string())).collect();
    assert_eq!(found(storage, &claims).await, all, "every key has its own answer");
}

/// The batch is larger than a statement, and contains new, answered and reused keys, and one key twice.
pub async fn r42_a_batch_finds_each_of_its_claims_in_order(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keys: Vec<IdempotencyKey> = (0..300).map(|n| key(&format!("s{}", n % 3), &format!("k{}", 999 - n))).collect();
    let claims: Vec<Claim> = keys.iter().map(|k| claim(&env, k, k.key())).collect();
    let answers: Vec<_> = keys[..200].iter().map(|k| (k.clone(), answer(k.key()))).collect();
    claim_all(storage, &claims[..200], &answers).await;
    let mut sent = claims.clone();
    sent[7].hash = hash("another");
    sent.push(claims[299].clone());
    let mut expected: Vec<Claimed> = keys[..200].iter().map(|k| answered(k.key())).collect();
    expected[7] = Claimed::Reused;
    expected.extend(vec![Claimed::New; 101]);
    assert_eq!(found(storage, &sent).await, expected, "each claim has its own result");
}

/// The other keys of the transaction keep their answers.
pub async fn r42_a_released_key_is_free(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let (refused, done) = (key("s", "refused"), key("s", "done"));
    let mut uow = storage.begin().await.unwrap();
    uow.idempotency().claim(&[claim(&env, &refused, "a"), claim(&env, &done, "a")]).await.unwrap();
    uow.idempotency().release(std::slice::from_ref(&refused)).await.unwrap();
    uow.idempotency().store(&[(done.clone(), answer("made"))]).await.unwrap();
    uow.commit().await.unwrap();
    assert_eq!(
        found(storage, &[claim(&env, &refused, "b"), claim(&env, &done, "a")]).await,
        [Claimed::New, answered("made")],
        "a released key is free, also for another request"
    );
}

/// Transactions that claim the same keys in opposite orders all succeed.
pub async fn r42_batches_in_any_order_do_not_block_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for round in 0..10 {
        let keys: Vec<IdempotencyKey> = (0..8).map(|n| key("s", &format!("{round}-{n}"))).collect();
        let tasks: Vec<_> = (0..6)
            .map(|n| {
                let mut claims: Vec<Claim> = keys.iter().map(|k| claim(&env, k, "a")).collect();
                if n % 2 == 1 {
                    claims.reverse();
                }
                let storage = storage.clone();
                tokio::spawn(async move {
                    let mut uow = storage.begin().await.unwrap();
                    let found = uow.idempotency().claim(&claims).await?;
                    let mine = claims.iter().zip(&found).filter(|(_, f)| **f == Claimed::New);
                    let answers: Vec<_> = mine.map(|(c, _)| (c.key.clone(), answer("made"))).collect();
                    uow.idempotency().store(&answers).await?;
                    uow.commit().await?;
                    Ok::<_, crate::Error>(answers.len())
                })
            })
            .collect();
        let mut new = 0;
        for t in tasks {
            new += t.await.unwrap().expect("claims are locked in one order, so that none waits in a circle");
        }
        assert_eq!(new, 8, "each key is new once");
    }
}

/// `expires_at` alone does not free a key.
pub async fn r42_a_key_counts_until_it_is_swept(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let k = key("s", "1");
    claim_all(storage, &[claim(&env, &k, "a")], &[(k.clone(), answer("made"))]).await;
    env.clock.advance(Duration::from_secs(7_200));
    assert_eq!(found(storage, &[claim(&env, &k, "a")]).await, [answered("made")], "an expired key still counts");
    assert_eq!(attempt!(storage, idempotency.sweep(env.now(), 10)).unwrap(), 1);
    claim_all(storage, &[claim(&env, &k, "b")], &[(k.clone(), answer("made again"))]).await;
}

/// Keys that have not expired are kept, and so are those beyond the limit.
pub async fn r42_a_sweep_removes_the_oldest_expired_keys(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let keys: Vec<IdempotencyKey> = (0..400).map(|n| key("s", &format!("{}", (n * 7) % 400))).collect();
    let answers: Vec<_> = keys.iter().map(|k| (k.clone(), answer("made"))).collect();
    let mut claims = Vec::new();
    for k in &keys {
        claims.push(claim(&env, k, "a"));
        env.clock.advance(Duration::from_secs(1));
    }
    claim_all(storage, &claims, &answers).await;
    assert_eq!(attempt!(storage, idempotency.sweep(claims[0].expires_at, 500)).unwrap(), 0, "none has expired before");
    let before = claims[300].expires_at;
    for gone in [150, 150, 0] {
        assert_eq!(attempt!(storage, idempotency.sweep(before, 150)).unwrap(), gone, "at most the limit");
    }
    let mut expected = vec![Claimed::New; 300];
    expected.extend(vec![answered("made"); 100]);
    assert_eq!(found(storage, &claims).await, expected, "keys that have not expired are kept");
}

/// Answers are bytes of any length, and an empty answer is one.
pub async fn an_answer_survives_byte_by_byte(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let every: Vec<u8> = (0..=255).collect();
    let answers = [Vec::new(), vec![0], every.clone(), every.repeat(8_192)];
    let keys: Vec<IdempotencyKey> = (0..answers.len()).map(|n| key("s", &n.to_string())).collect();
    let claims: Vec<Claim> = keys.iter().map(|k| claim(&env, k, "a")).collect();
    let stored: Vec<_> = keys.iter().cloned().zip(answers.iter().cloned().map(StoredAnswer::new)).collect();
    claim_all(storage, &claims, &stored).await;
    let found = found(storage, &claims).await;
    assert!(
        found.iter().zip(stored).all(|(f, (_, a))| *f == Claimed::Answered(a)),
        "an answer is read as it was stored"
    );
}

/// The answer of a key that was never claimed, or that was released, is refused.
pub async fn an_answer_needs_a_claim(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let k = key("s", "1");
    let stored = attempt!(storage, idempotency.store(&[(k.clone(), answer("made"))]));
    assert_eq!(code_of(stored, "an answer without a claim"), ErrorCode::Internal);
    assert_eq!(found(storage, &[claim(&env, &k, "a")]).await, [Claimed::New]);
}

/// The answers about other customers, and about none, stay. An answer is erased once.
pub async fn r45_answers_about_a_customer_are_erased_and_their_keys_stay(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let [ada, bob] = [CustomerId(env.ids.next()), CustomerId(env.ids.next())];
    let about = [Some(ada), None, Some(bob), Some(ada)].map(|id| id.map(AnswerSubject::Customer));
    let claims: Vec<Claim> = (0..4).map(|n| claim(&env, &key("s", &n.to_string()), "a")).collect();
    let answers: Vec<_> =
        claims.iter().zip(about).map(|(c, about)| (c.key.clone(), answer("made").about(about))).collect();
    claim_all(storage, &claims, &answers).await;
    let stored = found(storage, &claims).await;
    let expected: Vec<Claimed> = answers.iter().map(|(_, a)| Claimed::Answered(a.clone())).collect();
    assert_eq!(stored, expected, "an answer has the customer that it is about");
    assert_eq!(attempt!(storage, idempotency.erase(CustomerId(env.ids.next()), env.now())).unwrap(), 0);

    assert_eq!(attempt!(storage, idempotency.erase(ada, env.now())).unwrap(), 2);
    let left = [Claimed::Erased, expected[1].clone(), expected[2].clone(), Claimed::Erased];
    for _ in 0..2 {
        assert_eq!(found(storage, &claims).await, left, "an erased key is not new");
        assert_eq!(attempt!(storage, idempotency.erase(ada, env.now())).unwrap(), 0, "an answer is erased once");
    }
    let other = claim(&env, &claims[0].key, "b");
    assert_eq!(found(storage, &[other]).await, [Claimed::Reused], "another request reuses the key");
    let after = claims[0].expires_at + Duration::from_secs(1);
    assert_eq!(attempt!(storage, idempotency.sweep(after, 10)).unwrap(), 4, "erased keys are swept as others");
}

/// A guest's order or cart has become a customer's since the answer was stored. The answers about those that are still
/// a guest's, or another customer's, stay.
pub async fn r45_answers_about_carts_and_orders_that_were_a_guests_are_erased_with_their_customer(
    storage: &Arc<dyn Storage>,
) {
    let env = Env::default();
    let (ada, bob) = (env.customer("Ada", "L", "ada@example.com"), env.customer("Bob", "B", "bob@example.com"));
    env.insert_customers(storage, &[ada.clone(), bob.clone()], &[]).await.unwrap();
    let open = Cart { customer_id: Some(ada.id), ..env.cart() };
    let merged = Cart { state: CartState::Merged, merged_into: Some(open.id), ..env.cart() };
    let ordered = Cart { state: CartState::Ordered, ..env.cart() };
    let guests = env.cart();
    let mut orders = [env.order(), env.order(), env.order()];
    (orders[0].order.customer_id, orders[0].order.cart_id) = (Some(ada.id), Some(ordered.id));
    orders[1].order.customer_id = Some(bob.id);
    env.insert_orders(storage, &orders).await.unwrap();
    let about = [orders[0].order.id.0, ordered.id.0, open.id.0, merged.id.0];
    let stays = [orders[1].order.id.0, orders[2].order.id.0, guests.id.0];
    attempt!(storage, carts.insert(&[open, merged, ordered.clone(), guests])).unwrap();
    // More answers about one order than a statement names keys.
    let about = about.into_iter().chain(std::iter::repeat_n(orders[0].order.id.0, 300)).chain(stays);
    let about: Vec<AnswerSubject> = about.map(AnswerSubject::Guest).chain([AnswerSubject::Customer(ada.id)]).collect();
    let claims: Vec<Claim> = (0..about.len()).map(|n| claim(&env, &key("s", &n.to_string()), "a")).collect();
    let answers: Vec<_> =
        claims.iter().zip(&about).map(|(c, about)| (c.key.clone(), answer("made").about(Some(*about)))).collect();
    claim_all(storage, &claims, &answers).await;
    let mut expected: Vec<Claimed> = answers.iter().map(|(_, a)| Claimed::Answered(a.clone())).collect();
    assert_eq!(found(storage, &claims).await, expected, "an answer says whom it is about");

    assert_eq!(attempt!(storage, idempotency.erase(ada.id, env.now())).unwrap(), 305);
    expected[..304].fill(Claimed::Erased);
    expected[307] = Claimed::Erased;
    assert_eq!(found(storage, &claims).await, expected);
    assert_eq!(attempt!(storage, idempotency.erase(ada.id, env.now())).unwrap(), 0, "an answer is erased once");
    // An order remembers its cart after the cart is removed.
    let late = claim(&env, &key("s", "late"), "a");
    let about_cart = answer("made").about(Some(AnswerSubject::Guest(ordered.id.0)));
    claim_all(storage, std::slice::from_ref(&late), &[(late.key.clone(), about_cart)]).await;
    attempt!(storage, carts.purge(&[ordered.id])).unwrap();
    assert_eq!(attempt!(storage, idempotency.erase(ada.id, env.now())).unwrap(), 1);
    assert_eq!(found(storage, &[late]).await, [Claimed::Erased]);
}
