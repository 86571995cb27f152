//! Concurrent adjustments conserve stock (R11).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{adjustment, conflict, fields, from, me, v};
use crate::domain::catalog::product::ProductFilter;
use crate::domain::catalog::sku::{AvailabilityStatus, SkuPatch};
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::stock::inventory::StockAdjustment;
use crate::error::{Conflict, ErrorCode, StockConflict};
use crate::id::SkuId;
use crate::paging::Paging;
use crate::testkit::fresh_seed;

tests! {
    __shop_stock: [
        r07_a_sku_that_does_not_track_its_stock_is_never_short,
        r11_stock_that_is_not_tracked_does_not_move,
        r11_a_random_concurrent_history_conserves_stock,
        r11_the_oracle_finds_a_defect,
    ]
}

/// It is in stock without any pieces, and so is its product. Adjustments are refused, also in a batch with others.
pub async fn r07_a_sku_that_does_not_track_its_stock_is_never_short(f: &ShopFixture) {
    let card = f.product(json!({ "title": "Gift card", "price": 5, "track_stock": false, "stock": 0 })).await;
    let sku = &card.skus[0];
    assert_eq!((sku.track_stock, sku.on_hand, sku.availability()), (false, 0, AvailabilityStatus::InStock));
    assert_eq!(card.availability(), AvailabilityStatus::InStock);
    let pen = f.product(json!({ "title": "Pen", "skus": [{ "code": "pen", "price": 1 }] })).await;
    assert_eq!(pen.availability(), AvailabilityStatus::OutOfStock);
    let in_stock = ProductFilter { availability: Some(AvailabilityStatus::InStock), ..ProductFilter::default() };
    assert_eq!(f.listed(in_stock).await, ["Gift card"]);
    let level = f.shop.inventory().level(sku.id).await.unwrap();
    assert_eq!((level.tracked, level.on_hand, level.availability()), (false, 0, AvailabilityStatus::InStock));

    let before = f.fresh(card.id).await;
    for delta in [1, -1] {
        match conflict(f.adjust(sku.id, delta).await, "an adjustment") {
            Conflict::Stock(StockConflict::NotTracked { sku_id }) => assert_eq!(sku_id, sku.id.0),
            other => panic!("{other}"),
        }
    }
    let mixed = [adjustment(sku.id, 1), adjustment(pen.skus[0].id, 2), adjustment(sku.id, -1)];
    let adjust = async |a: StockAdjustment| f.shop.acting_as(me()).inventory().adjust(a).await;
    let worked: Vec<bool> = futures::future::join_all(mixed.map(adjust)).await.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [false, true, false]);
    assert_eq!(f.fresh(card.id).await, before);
    assert_eq!(f.shop.inventory().movements(sku.id, &Paging::first(9)).await.unwrap().0.items, []);
}

/// The pieces stay as they are until the stock is tracked again. Both changes are edits of the SKU.
pub async fn r11_stock_that_is_not_tracked_does_not_move(f: &ShopFixture) {
    let skus = || f.shop.acting_as(me()).skus();
    let p = f.plain("Lamp").await;
    let id = p.skus[0].id;
    f.adjust(id, -7).await.unwrap();
    let ledger = async || f.shop.inventory().movements(id, &Paging::first(9)).await.unwrap().0.items;
    let rows = ledger().await;
    assert_eq!((f.fresh(p.id).await.availability(), rows.len()), (AvailabilityStatus::Limited, 2));

    let off = skus().patch(id, v(1), from(&json!({ "track_stock": false }))).await.unwrap();
    assert_eq!((off.track_stock, off.on_hand, off.audit.version), (false, 3, 2), "an edit of the SKU");
    let product = f.fresh(p.id).await;
    assert_eq!((product.availability(), product.audit.version), (AvailabilityStatus::InStock, 2));
    assert_eq!(product.skus, std::slice::from_ref(&off));

    let before = f.snapshot().await;
    for result in [
        skus().patch(id, v(2), from(&json!({ "stock": 4 }))).await.map(drop),
        skus().replace(id, v(2), &from(&json!({ "price": 10, "track_stock": false, "stock": 0 }))).await.map(drop),
        f.patch(&product, json!({ "stock": 4 })).await.map(drop),
    ] {
        assert_eq!(fields(result, "stock").into_keys().collect::<Vec<_>>(), ["stock"]);
    }
    let listed = f.patch(&product, json!({ "skus": [{ "id": id, "price": 10, "track_stock": false, "stock": 4 }] }));
    assert_eq!(fields(listed.await, "stock").into_keys().collect::<Vec<_>>(), ["skus[0].stock"]);
    assert_eq!(skus().patch(id, v(2), from(&json!({ "stock": 3 }))).await.unwrap(), off, "the number that it has");
    assert_eq!(f.snapshot().await, before);

    let on = skus().patch(id, v(2), from(&json!({ "track_stock": true }))).await.unwrap();
    assert_eq!((on.track_stock, on.on_hand, on.audit.version), (true, 3, 3));
    assert_eq!(f.fresh(p.id).await.availability(), AvailabilityStatus::Limited);
    assert_eq!(ledger().await, rows, "the ledger has no row of it");
    assert_eq!(f.adjust(id, 1).await.unwrap().level.on_hand, 4, "it continues from there");
    skus().patch(id, v(3), from(&json!({ "track_stock": false }))).await.unwrap();
    let put = skus().replace(id, v(4), &from(&json!({ "price": 10, "stock": 9 }))).await.unwrap();
    assert_eq!((put.track_stock, put.on_hand), (true, 9), "a replacement tracks the stock unless it says otherwise");
    assert_eq!((ledger().await.len(), ledger().await[0].delta), (4, 5));
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
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
