//! Concurrent adjustments conserve stock (R11).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{adjustment, from, me, v};
use crate::domain::catalog::sku::SkuPatch;
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::stock::inventory::StockAdjustment;
use crate::error::ErrorCode;
use crate::id::SkuId;
use crate::paging::Paging;
use crate::testkit::fresh_seed;

tests! {
    __shop_stock: [
        r11_a_random_concurrent_history_conserves_stock,
        r11_the_oracle_finds_a_defect,
    ]
}

/// 64 tasks create SKUs, patch and adjust their stock, and delete them, all at the same time.
pub async fn r11_a_random_concurrent_history_conserves_stock(f: &ShopFixture) {
    stock_storm(f, fresh_seed()).await;
}

/// The results that one task has received.
#[derive(Debug, Default)]
struct Told {
    accepted: Vec<(SkuId, String, i64)>,
    refused: Vec<(SkuId, String)>,
    made: Vec<SkuId>,
}

/// Runs the random operations of a seed. Their interleaving depends on the machine.
pub async fn stock_storm(f: &ShopFixture, seed: u64) {
    println!("seed {seed}");
    let mut shared = Vec::new();
    for n in 0..6 {
        let skus: Vec<Value> =
            (0..3).map(|m| json!({ "code": format!("s{n}-{m}"), "price": 1, "stock": n * 5 })).collect();
        shared.push(f.product(json!({ "title": format!("Shared {n}"), "skus": skus })).await);
    }
    let shared = Arc::new(shared);
    let done = Arc::new(AtomicBool::new(false));
    let watcher = tokio::spawn({
        let (shop, done) = (f.shop.clone(), done.clone());
        async move {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(
                    shop.inventory().imbalances().await.unwrap(),
                    [],
                    "the stock must be the sum of the movements at any time"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64 {
        let (shop, shared) = (f.shop.clone(), shared.clone());
        tasks.spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed ^ (task + 1));
            let mut told = Told::default();
            for step in 0..8 {
                let p = &shared[rng.random_range(0..shared.len())];
                let sku = p.skus[rng.random_range(0..p.skus.len())].id;
                match rng.random_range(0..20) {
                    0..=13 => {
                        let reference = format!("{task}-{step}");
                        let delta = loop {
                            match rng.random_range(-8..8) {
                                0 => {}
                                d => break d,
                            }
                        };
                        let wanted = StockAdjustment { reference: Some(reference.clone()), ..adjustment(sku, delta) };
                        match shop.acting_as(me()).inventory().adjust(wanted).await {
                            Ok(a) => {
                                assert!(a.level.on_hand >= 0 && a.movement.delta == delta);
                                told.accepted.push((sku, reference, delta));
                            }
                            Err(e) => {
                                let code = e.code();
                                let expected = [ErrorCode::InsufficientStock, ErrorCode::NotFound];
                                assert!(expected.contains(&code), "seed {seed}: {e:?}");
                                told.refused.push((sku, reference));
                            }
                        }
                    }
                    14..=15 => {
                        let input = json!({ "title": format!("Made {task} {step}"), "price": 1, "stock": step });
                        told.made.push(shop.acting_as(me()).products().create(&from(&input)).await.unwrap().skus[0].id);
                    }
                    16..=18 => {
                        let Ok(read) = shop.skus().get(sku, IncludeDeleted::No).await else { continue };
                        let patch: SkuPatch = from(&json!({ "stock": rng.random_range(0..20) }));
                        if let Err(e) = shop.acting_as(me()).skus().patch(sku, v(read.audit.version), patch).await {
                            let expected = [ErrorCode::VersionConflict, ErrorCode::NotFound];
                            assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                        }
                    }
                    _ => {
                        let Ok(read) = shop.skus().get(sku, IncludeDeleted::No).await else { continue };
                        let mode = if rng.random_bool(0.3) { DeleteMode::Force } else { DeleteMode::Soft };
                        if let Err(e) = shop.acting_as(me()).skus().delete(sku, v(read.audit.version), mode).await {
                            let expected = [ErrorCode::VersionConflict, ErrorCode::NotFound, ErrorCode::StateConflict];
                            assert!(expected.contains(&e.code()), "seed {seed}: {e:?}");
                        }
                    }
                }
            }
            told
        });
    }
    let told = tasks.join_all().await;
    done.store(true, Ordering::SeqCst);
    watcher.await.unwrap();

    let mut ledgers: HashMap<SkuId, HashMap<String, i64>> = HashMap::new();
    for p in shared.iter() {
        for sku in f.shop.skus().of_product(p.id, IncludeDeleted::Yes).await.unwrap() {
            let page = Paging::first(10_000);
            let rows = f.shop.inventory().movements(sku.id, &page).await.unwrap().0.items;
            assert!(sku.on_hand >= 0, "seed {seed}: the stock must never be below 0");
            assert_eq!(rows.iter().map(|m| m.delta).sum::<i64>(), sku.on_hand, "seed {seed}: {}", sku.code);
            let mut on_hand = 0;
            for m in rows.iter().rev() {
                on_hand += m.delta;
                assert!(on_hand >= 0, "seed {seed}: the stock of {} must never be below 0", sku.code);
            }
            let named: Vec<(String, i64)> = rows.into_iter().filter_map(|m| Some((m.reference?, m.delta))).collect();
            let count = named.len();
            let by_reference: HashMap<String, i64> = named.into_iter().collect();
            assert_eq!(by_reference.len(), count, "seed {seed}: an adjustment must be recorded once");
            ledgers.insert(sku.id, by_reference);
        }
    }
    let mut accepted = 0;
    for t in &told {
        // The ledger of a SKU that was removed permanently is removed too.
        for (sku, reference, delta) in t.accepted.iter().filter(|(sku, ..)| ledgers.contains_key(sku)) {
            assert_eq!(
                ledgers[sku].get(reference),
                Some(delta),
                "seed {seed}: an acknowledged adjustment must be in the ledger"
            );
            accepted += 1;
        }
        for (sku, reference) in &t.refused {
            assert!(
                ledgers.get(sku).is_none_or(|l| !l.contains_key(reference)),
                "seed {seed}: a refused adjustment must not be in the ledger"
            );
        }
        for sku in &t.made {
            f.shop.skus().get(*sku, IncludeDeleted::No).await.unwrap();
        }
    }
    assert_eq!(
        ledgers.values().map(HashMap::len).sum::<usize>(),
        accepted,
        "seed {seed}: the ledger must contain exactly the accepted adjustments"
    );
    assert_eq!(
        f.shop.inventory().imbalances().await.unwrap(),
        [],
        "seed {seed}: the stock of every SKU must be the sum of its movements"
    );
    f.index_is_in_step(&format!("seed {seed}")).await;
}

/// A deliberate defect: the stock is not the sum of the movements.
pub async fn r11_the_oracle_finds_a_defect(f: &ShopFixture) {
    f.plain("Right").await;
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    let env = crate::testkit::sample::Env::new(7);
    let wrong = env.priced("Wrong", 100, 5);
    let mut tx = f.storage.begin().await.unwrap();
    tx.products().insert(std::slice::from_ref(&wrong)).await.unwrap();
    tx.skus().insert(&wrong.skus, &[]).await.unwrap();
    tx.commit().await.unwrap();
    let found = f.shop.inventory().imbalances().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].sku_id, found[0].on_hand, found[0].ledger), (wrong.skus[0].id, 5, 0));
}
