//! The contract of [`Storage`], its connections and its units of work.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::domain::catalog::category::Category;
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::product::Product;
use crate::domain::common::IncludeDeleted;
use crate::domain::platform::outbox::{EventKind, OutboxPosition};
use crate::error::ErrorCode;
use crate::port::storage::Storage;
use crate::testkit::code_of;
use crate::testkit::sample::Env;
use crate::testkit::shop_over;

suite! {
    /// Runs the suite of [`Storage`] and [`UnitOfWork`](crate::port::UnitOfWork). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    unit_of_work_suite, unit_of_work: fixture => &fixture.storage, __unit_of_work_tests: [
        it_has_a_name_and_answers,
        identity_is_made_once,
        migrating_again_changes_nothing,
        a_migrated_schema_is_ready,
        dropped_without_commit_writes_nothing,
        rolled_back_writes_nothing,
        commit_is_visible_to_other_connections,
        uncommitted_writes_are_invisible_to_others,
        reads_inside_see_their_own_writes,
        r17_a_failed_write_leaves_nothing_of_its_transaction,
        many_dropped_units_leave_the_pool_usable,
        calls_that_are_canceled_at_any_await_leave_all_or_nothing,
        many_writers_at_once_all_get_their_turn,
        short_transactions_at_once_have_each_their_own_outcome,
        what_a_short_transaction_has_seen_is_durable_once_it_says_so,
        readers_go_on_while_writers_write,
        statements_are_counted,
        closed_it_refuses_new_connections,
    ]
}

async fn get(storage: &Arc<dyn Storage>, c: &Category) -> Option<Category> {
    read!(storage, categories.get(c.id, IncludeDeleted::Yes))
}

/// The storage has a name for people, and responds to probes.
pub async fn it_has_a_name_and_answers(storage: &Arc<dyn Storage>) {
    assert!(!storage.name().is_empty(), "`name` must not be empty");
    storage.ping().await.unwrap();
    drop(storage.connect().await.unwrap());
    let pool = storage.pool_status();
    assert!(
        pool.max >= 1 && pool.size <= pool.max && pool.idle <= pool.size,
        "`pool_status` must have `idle` <= `size` <= `max`, and `max` >= 1: {pool:?}"
    );
}

/// Every call returns the same identity.
pub async fn identity_is_made_once(storage: &Arc<dyn Storage>) {
    let first = storage.identity().await.unwrap();
    assert!(!first.is_nil(), "`identity` must not be the nil UUID");
    storage.migrate(storage.currency().unwrap()).await.unwrap();
    assert_eq!(
        storage.identity().await.unwrap(),
        first,
        "`identity` must return the same value on every call, also after a migration"
    );
}

/// Migrations run one after the other, and at the same time.
pub async fn migrating_again_changes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let c = env.full_category("C", None);
    env.insert_categories(storage, &[&c]).await.unwrap();
    storage.migrate(storage.currency().unwrap()).await.unwrap();
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let storage = storage.clone();
            tokio::spawn(async move { storage.migrate(storage.currency().unwrap()).await })
        })
        .collect();
    for t in tasks {
        t.await.unwrap().unwrap();
    }
    assert_eq!(get(storage, &c).await, Some(c), "a second migration keeps what is stored");
}

/// No migration is pending after all were applied.
pub async fn a_migrated_schema_is_ready(storage: &Arc<dyn Storage>) {
    let status = storage.schema_status().await.unwrap();
    assert!(status.is_ready() && status.newer.is_empty(), "after `migrate`, nothing must be pending: {status:?}");
}

/// The unit of work is only dropped.
pub async fn dropped_without_commit_writes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let c = env.category("C", None);
    let mut uow = storage.begin().await.unwrap();
    uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
    drop(uow);
    assert_eq!(get(storage, &c).await, None, "a unit of work that is dropped writes nothing");
    env.insert_categories(storage, &[&c]).await.expect("a unit of work that is dropped must release its locks");
}

/// The connection can still be used after the rollback.
pub async fn rolled_back_writes_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let c = env.category("C", None);
    let mut uow = storage.begin().await.unwrap();
    uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
    uow.rollback().await.unwrap();
    assert_eq!(get(storage, &c).await, None, "a unit of work that is rolled back writes nothing");
    // A unit of work without writes can be rolled back and committed.
    storage.begin().await.unwrap().rollback().await.unwrap();
    storage.begin().await.unwrap().commit().await.unwrap();
}

/// The commit is visible on every connection at once.
pub async fn commit_is_visible_to_other_connections(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for n in 0..20 {
        let c = env.category(&format!("C {n}"), None);
        env.insert_categories(storage, &[&c]).await.unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (storage, c) = (storage.clone(), c.clone());
                tokio::spawn(async move { get(&storage, &c).await.is_some() })
            })
            .collect();
        for r in readers {
            assert!(r.await.unwrap(), "a read that begins after a commit must see it");
        }
    }
}

/// A read of another caller does not contain the write, or waits for the end of the transaction.
pub async fn uncommitted_writes_are_invisible_to_others(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let old = env.category("Old", None);
    env.insert_categories(storage, &[&old]).await.unwrap();
    let new = env.category("New", None);
    let edited = Category { description: Some("edited".into()), ..env.edited_category(&old) };
    let mut uow = storage.begin().await.unwrap();
    uow.categories().insert(std::slice::from_ref(&new)).await.unwrap();
    uow.categories().update(&old, &edited).await.unwrap();
    let mut reader = tokio::spawn({
        let (storage, old, new) = (storage.clone(), old.clone(), new.clone());
        async move { (get(&storage, &new).await, get(&storage, &old).await) }
    });
    let early = tokio::time::timeout(Duration::from_millis(1_500), &mut reader).await;
    if let Ok(seen) = early {
        assert_eq!(seen.unwrap(), (None, Some(old.clone())), "a read must not see the writes of an open transaction");
    }
    uow.commit().await.unwrap();
    assert_eq!(get(storage, &new).await, Some(new), "other connections must see a committed insert");
    assert_eq!(get(storage, &old).await, Some(edited), "other connections must see a committed update");
}

/// Reads of every repository return the writes of the unit of work.
pub async fn reads_inside_see_their_own_writes(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let c = env.category("C", None);
    let p = Product { categories: vec![(&c).into()], ..env.priced("P", 100, 5) };
    let event = env.event(EventKind::ProductCreated, p.id, 1);
    let mut uow = storage.begin().await.unwrap();
    uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
    uow.products().insert(std::slice::from_ref(&p)).await.unwrap();
    uow.skus().insert(&p.skus, &env.opening(&p.skus)).await.unwrap();
    uow.outbox().append(std::slice::from_ref(&event)).await.unwrap();
    assert_eq!(
        uow.products().get(p.id, IncludeDeleted::No).await.unwrap().as_ref(),
        Some(&p),
        "a unit of work reads a product that it has inserted"
    );
    assert_eq!(
        uow.products().get_by_slug("p").await.unwrap().as_ref(),
        Some(&p),
        "a unit of work finds a product that it has inserted by its slug"
    );
    assert_eq!(
        uow.products().count(&crate::domain::catalog::product::ProductFilter::default(), 9).await.unwrap().count,
        1,
        "a unit of work counts a product that it has inserted"
    );
    let counted = uow.categories().get(c.id, IncludeDeleted::No).await.unwrap().unwrap();
    assert_eq!(
        (counted.product_count, counted.subtree_product_count),
        (1, 1),
        "a unit of work must read the product counts that its own writes have changed"
    );
    assert_eq!(
        uow.skus().get_by_code("P").await.unwrap().as_ref(),
        Some(&p.skus[0]),
        "a unit of work finds a SKU that it has inserted by its code"
    );
    assert_eq!(
        uow.inventory().levels(&[p.skus[0].id]).await.unwrap()[0].on_hand,
        5,
        "a unit of work must read the stock that its own writes have changed"
    );
    assert_eq!(
        uow.inventory().imbalances().await.unwrap(),
        [],
        "the stock of every SKU must be the sum of its movements, also inside a unit of work"
    );
    uow.rollback().await.unwrap();
    assert_eq!(
        read!(storage, products.get(p.id, IncludeDeleted::Yes)),
        None,
        "a unit of work that was not committed leaves no product"
    );
    assert_eq!(
        shop_over(storage).events().read(OutboxPosition::default(), 9).await.unwrap().events,
        [],
        "a unit of work that was not committed leaves no event"
    );
}

/// A unit of work that is dropped after an error writes nothing.
pub async fn r17_a_failed_write_leaves_nothing_of_its_transaction(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let taken = env.priced("Taken", 100, 1);
    env.insert_products(storage, std::slice::from_ref(&taken)).await.unwrap();
    let c = env.category("C", None);
    let fresh = env.priced("Fresh", 100, 1);
    let twin = env.priced("Taken", 100, 1);
    let mut uow = storage.begin().await.unwrap();
    uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
    uow.products().insert(std::slice::from_ref(&fresh)).await.unwrap();
    let answer = uow.products().insert(&[twin]).await;
    assert_eq!(
        code_of(answer, "an insert with a taken slug"),
        ErrorCode::Duplicate,
        "a taken slug must be refused with `DUPLICATE`"
    );
    drop(uow);
    assert_eq!(get(storage, &c).await, None, "a transaction with a failed write must store nothing");
    assert_eq!(
        read!(storage, products.get(fresh.id, IncludeDeleted::Yes)),
        None,
        "a transaction with a failed write must not store its earlier writes"
    );
    assert_eq!(read!(storage, inventory.imbalances()), [], "the stock of every SKU must be the sum of its movements");
}

/// Connections return to the pool in whichever way their transactions end.
pub async fn many_dropped_units_leave_the_pool_usable(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let rounds = storage.pool_status().max.clamp(10, 100) * 2;
    for n in 0..rounds {
        let c = env.category(&format!("C {n}"), None);
        let mut uow =
            storage.begin().await.expect("a unit of work that is dropped must return its connection to the pool");
        uow.categories().insert(&[c]).await.unwrap();
        drop(uow);
    }
    assert_eq!(
        read!(storage, categories.count(&CategoryFilter::default(), 9)).count,
        0,
        "units of work that are dropped write nothing"
    );
}

/// Polls a future at most `polls` times, and then drops it. Returns `None` if the future was not ready.
async fn canceled_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The future is polled without waiting for a wake-up, so that it is also dropped in the middle of a call.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A call that is cancelled, for example by a disconnect of the client, is written completely or not at all, and the
/// next caller finds the connection in a clean state.
pub async fn calls_that_are_canceled_at_any_await_leave_all_or_nothing(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut completed = 0;
    for polls in 1..200 {
        let c = env.category(&format!("C {polls}"), None);
        let p = Product { categories: vec![(&c).into()], ..env.priced(&format!("P {polls}"), 100, 3) };
        let event = env.event(EventKind::ProductCreated, p.id, 1);
        let outcome = canceled_after(polls, async {
            let mut uow = storage.begin().await?;
            uow.categories().insert(std::slice::from_ref(&c)).await?;
            uow.products().insert(std::slice::from_ref(&p)).await?;
            uow.skus().insert(&p.skus, &env.opening(&p.skus)).await?;
            uow.outbox().append(std::slice::from_ref(&event)).await?;
            uow.commit().await
        })
        .await;
        // The next write begins after the cancelled one has ended.
        let next = env.category(&format!("next {polls}"), None);
        env.insert_categories(storage, &[&next]).await.expect("a write after a cancelled one must succeed");
        let product = read!(storage, products.get(p.id, IncludeDeleted::Yes));
        let category = read!(storage, categories.get(c.id, IncludeDeleted::Yes));
        let events = shop_over(storage).events().read(OutboxPosition::default(), 1_000).await.unwrap().events;
        let there = [
            category.is_some(),
            product.is_some(),
            product.is_some_and(|p| p.skus.len() == 1),
            events.iter().any(|(_, e)| e.id == event.id),
        ];
        assert!(
            there == [true; 4] || there == [false; 4],
            "a cancelled write must be stored completely or not at all; after {polls} polls: {there:?}"
        );
        if let Some(outcome) = outcome {
            outcome.unwrap();
            assert_eq!(there, [true; 4], "a write whose commit has returned must be stored completely");
            completed += 1;
            if completed == 3 {
                break;
            }
        }
    }
    assert!(completed > 0, "a write must complete within 200 polls");
    assert_eq!(
        read!(storage, inventory.imbalances()),
        [],
        "the stock of every SKU must be the sum of its movements, wherever a call was cancelled"
    );
}

/// No writer fails because another one writes: callers never receive "database is locked".
pub async fn many_writers_at_once_all_get_their_turn(storage: &Arc<dyn Storage>) {
    let mut tasks = Vec::new();
    for n in 0..64 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            let env = Env::new(n);
            for m in 0..3 {
                env.insert_categories(&storage, &[&env.category(&format!("C {n} {m}"), None)]).await.unwrap();
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    assert_eq!(
        read!(storage, categories.count(&CategoryFilter::default(), 1_000)).count,
        192,
        "every one of many concurrent writers must succeed"
    );
}

/// Short transactions may share a commit. Each that returns from it is written, and each that is dropped or rolled back
/// is not.
pub async fn short_transactions_at_once_have_each_their_own_outcome(storage: &Arc<dyn Storage>) {
    let mut tasks = Vec::new();
    for n in 0..48_u64 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            let env = Env::new(n);
            for m in 0..3 {
                let c = env.category(&format!("C {n} {m}"), None);
                let mut uow = storage.begin_short().await.unwrap();
                uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
                let commits = n % 3 == 0;
                match n % 3 {
                    0 => uow.commit().await.unwrap(),
                    1 => uow.rollback().await.unwrap(),
                    _ => drop(uow),
                }
                assert_eq!(
                    get(&storage, &c).await.is_some(),
                    commits,
                    "a short transaction must be visible to others once its commit returns, and never without a commit"
                );
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    assert_eq!(
        read!(storage, categories.count(&CategoryFilter::default(), 1_000)).count,
        48,
        "every short transaction that is committed must be stored, and no other one"
    );
}

/// A short transaction may read what others have written before it is stored. Once the caller has awaited what its
/// transaction depends on, every other connection reads these writes too.
pub async fn what_a_short_transaction_has_seen_is_durable_once_it_says_so(storage: &Arc<dyn Storage>) {
    let mut tasks = Vec::new();
    for n in 0..24_u64 {
        let c = Env::new(n).category(&format!("C {n}"), None);
        for reads in [false, true] {
            let (storage, c) = (storage.clone(), c.clone());
            tasks.push(tokio::spawn(async move {
                let mut uow = storage.begin_short().await.unwrap();
                if !reads {
                    uow.categories().insert(std::slice::from_ref(&c)).await.unwrap();
                    return uow.commit().await.unwrap();
                }
                let found = uow.categories().get(c.id, IncludeDeleted::No).await.unwrap();
                let depends_on = uow.depends_on();
                drop(uow);
                if let Some(durable) = depends_on {
                    durable.await.unwrap();
                }
                assert!(
                    found.is_none() || get(&storage, &c).await.is_some(),
                    "what a short transaction has seen must be committed once `depends_on` has completed"
                );
            }));
        }
    }
    for t in tasks {
        t.await.unwrap();
    }
}

/// Each read is a consistent snapshot: a product is never read without its SKU.
pub async fn readers_go_on_while_writers_write(storage: &Arc<dyn Storage>) {
    let mut tasks = Vec::new();
    for n in 0..4 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            let env = Env::new(n);
            for m in 0..15 {
                env.insert_products(&storage, &[env.priced(&format!("P {n} {m}"), 100, 1)]).await.unwrap();
            }
        }));
    }
    for _ in 0..8 {
        let storage = storage.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..30 {
                let all = crate::paging::Paging::first(100);
                let page = read!(
                    storage,
                    products.list(
                        &crate::domain::catalog::product::ProductFilter::default(),
                        crate::domain::catalog::product::ProductSort::TitleAsc,
                        &all
                    )
                );
                assert!(
                    page.items.iter().all(|p| p.skus.len() == 1),
                    "a read must not see a part of a transaction: each product must have its SKU"
                );
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
}

/// The number of statements is exact, so that tests and metrics can rely on it.
pub async fn statements_are_counted(storage: &Arc<dyn Storage>) {
    let c = Env::default().category("C", None);
    let mut connection = storage.connect().await.unwrap();
    let before = storage.statements();
    for _ in 0..5 {
        connection.categories().get(c.id, IncludeDeleted::No).await.unwrap();
    }
    assert_eq!(storage.statements() - before, 5, "a single read must take one statement");
}

/// Calls fail with a retryable error and do not hang.
pub async fn closed_it_refuses_new_connections(storage: &Arc<dyn Storage>) {
    storage.close().await;
    let connect = storage.connect().await.err().expect("`connect` must fail after `close`");
    assert_eq!(connect.code(), ErrorCode::Unavailable, "`connect` must fail with `UNAVAILABLE` after `close`");
    let begin = storage.begin().await.err().expect("`begin` must fail after `close`");
    assert_eq!(begin.code(), ErrorCode::Unavailable, "`begin` must fail with `UNAVAILABLE` after `close`");
    storage.close().await;
}
