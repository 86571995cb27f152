//! The contract of [`OfferRepository`](crate::port::OfferRepository).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::catalog::sku::Sku;
use crate::domain::sales::offer::Offer;
use crate::id::{IdSource as _, SkuId};
use crate::money::Percentage;
use crate::port::storage::Storage;
use crate::testkit::sample::{Env, usd};

suite! {
    /// Runs the suite of [`OfferRepository`](crate::port::OfferRepository). Takes the path of an
    /// `async fn() -> StorageFixture`; see [`testkit`](crate::testkit).
    offer_suite, offer: fixture => &fixture.storage, __offer_tests: [
        offers_show_the_rows_of_skus_and_products,
        offers_of_deleted_skus_and_products_are_not_live,
        offers_come_by_id_and_once,
        codes_find_live_skus_by_their_folded_form,
        a_locked_offer_is_the_current_one,
        locks_make_sellers_wait_for_each_other,
        a_lock_of_an_offer_holds_its_product,
        the_number_of_statements_does_not_depend_on_the_number_of_offers,
    ]
}

fn offer(product: &Product, sku: &Sku) -> Offer {
    Offer {
        sku_id: sku.id,
        product_id: product.id,
        code: sku.code.clone(),
        title: product.title.clone(),
        option_values: sku.option_values.clone(),
        list_price: sku.price,
        discount: product.discount,
        status: product.status,
        live: product.audit.is_live() && sku.audit.is_live(),
        tracked: sku.track_stock,
        on_hand: sku.on_hand,
        reserved: sku.reserved,
        low_stock_threshold: sku.low_stock_threshold,
    }
}

/// Reads offers with both methods, which must agree.
async fn offers(storage: &Arc<dyn Storage>, ids: &[SkuId]) -> Vec<Offer> {
    let read = read!(storage, offers.get(ids));
    let locked = attempt!(storage, offers.lock(ids)).unwrap();
    assert_eq!(read, locked, "`lock` returns the same offers as `get`");
    read
}

/// Prices, discounts, titles, codes, options and stock are those of the rows, for every status of a product.
pub async fn offers_show_the_rows_of_skus_and_products(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    for status in ProductStatus::ALL {
        let mut product = env.full_product(&format!("Größe 茶 {}", status.as_str()), &[]);
        product.status = status;
        product.discount = Percentage::from_hundredths(3_333).unwrap();
        product.skus[0].track_stock = true;
        product.skus[1].option_values = BTreeMap::from([("Farbe".to_owned(), "weiß".to_owned())]);
        product.skus[2].price = usd(1_000_000_000_000);
        env.insert_products(storage, &[product.clone()]).await.unwrap();
        let ids: Vec<SkuId> = product.skus.iter().map(|s| s.id).collect();
        let mut expected: Vec<Offer> = product.skus.iter().map(|s| offer(&product, s)).collect();
        expected.sort_by_key(|o| o.sku_id);
        assert_eq!(offers(storage, &ids).await, expected, "{status:?}");
    }
}

/// A SKU that is deleted alone, and one whose product is deleted, are returned and not live.
pub async fn offers_of_deleted_skus_and_products_are_not_live(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut lamp = env.priced("Lamp", 100, 5);
    env.add_sku(&mut lamp, "LAMP-2", 200, 5);
    lamp.skus[0].audit = env.deleted(&lamp.skus[0].audit);
    let mut pen = env.priced("Pen", 100, 5);
    // Its SKU is still live, as between the two statements of a delete.
    pen.audit = env.deleted(&pen.audit);
    env.insert_products(storage, &[lamp.clone(), pen.clone()]).await.unwrap();
    let ids = [lamp.skus[0].id, lamp.skus[1].id, pen.skus[0].id];
    let found: BTreeMap<SkuId, bool> = offers(storage, &ids).await.into_iter().map(|o| (o.sku_id, o.live)).collect();
    assert_eq!(found, BTreeMap::from([(ids[0], false), (ids[1], true), (ids[2], false)]));
}

/// Unknown ids are left out.
pub async fn offers_come_by_id_and_once(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products: Vec<Product> = (0..5).map(|n| env.priced(&format!("Lamp {n}"), 100 + n, n)).collect();
    env.insert_products(storage, &products).await.unwrap();
    let mut expected: Vec<Offer> = products.iter().map(|p| offer(p, &p.skus[0])).collect();
    expected.sort_by_key(|o| o.sku_id);
    let mut ids: Vec<SkuId> = expected.iter().rev().map(|o| o.sku_id).collect();
    ids.extend([SkuId(env.ids.next()), ids[2], ids[0]]);
    assert_eq!(offers(storage, &ids).await, expected);
    assert_eq!(offers(storage, &[]).await, []);
}

/// The answer has the folded codes. Codes of soft-deleted SKUs, and parts of codes, find nothing.
pub async fn codes_find_live_skus_by_their_folded_form(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let mut lamp = env.product("Lamp");
    for code in ["Straße-1", "Ｔea", "gone", "tea-2"] {
        env.add_sku(&mut lamp, code, 100, 5);
    }
    lamp.skus[2].audit = env.deleted(&lamp.skus[2].audit);
    env.insert_products(storage, &[lamp.clone()]).await.unwrap();
    let codes = ["STRASSE-1", "straße-1", "TEA", "gone", "te", "%", "té"].map(str::to_owned);
    let mut found = read!(storage, offers.by_codes(&codes));
    found.sort();
    let expected = [("strasse-1".to_owned(), lamp.skus[0].id), ("tea".to_owned(), lamp.skus[1].id)];
    assert_eq!(found, expected, "each SKU is found once, by its folded code");
    assert_eq!(read!(storage, offers.by_codes(&[])), []);
}

/// A transaction that has read before it locks sees what the lock waited for.
pub async fn a_locked_offer_is_the_current_one(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = env.priced("Lamp", 100, 5);
    env.insert_products(storage, &[lamp.clone()]).await.unwrap();
    let id = lamp.skus[0].id;
    let mut seller = storage.begin().await.unwrap();
    let first = seller.offers().lock(&[id]).await.unwrap();
    assert_eq!(first, [offer(&lamp, &lamp.skus[0])]);
    let waiting = {
        let (storage, env) = (storage.clone(), Env::new(77));
        tokio::spawn(async move {
            let mut uow = storage.begin().await.unwrap();
            let on_hand = uow.offers().lock(&[id]).await.unwrap()[0].on_hand;
            uow.inventory().apply(&[env.movement(id, -1)]).await.unwrap();
            uow.commit().await.unwrap();
            on_hand
        })
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    seller.inventory().apply(&[env.movement(id, -3)]).await.unwrap();
    seller.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 2, "a lock that waited returns what was written meanwhile");
    assert_eq!(offers(storage, &[id]).await[0].on_hand, 1);
}

/// Sellers name the SKUs in different orders, and nothing is sold twice.
pub async fn locks_make_sellers_wait_for_each_other(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products = [env.priced("Lamp", 100, 7), env.priced("Pen", 100, 7)];
    env.insert_products(storage, &products).await.unwrap();
    let skus = products.each_ref().map(|p| p.skus[0].id);
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..12 {
        let (storage, mut ids) = (storage.clone(), skus);
        if seed % 2 == 1 {
            ids.reverse();
        }
        tasks.spawn(async move {
            let env = Env::new(1_000 + seed);
            let mut uow = storage.begin().await.unwrap();
            let locked = uow.offers().lock(&ids).await.unwrap();
            tokio::task::yield_now().await;
            if locked.iter().any(|o| o.on_hand < 1) {
                return false;
            }
            let movements: Vec<_> = ids.iter().map(|id| env.movement(*id, -1)).collect();
            uow.inventory().apply(&movements).await.unwrap();
            uow.commit().await.unwrap();
            true
        });
    }
    let sold = tasks.join_all().await.into_iter().filter(|sold| *sold).count();
    assert_eq!(sold, 7, "as many are sold as there are");
    assert!(offers(storage, &skus).await.iter().all(|o| o.on_hand == 0));
}

/// Discount and status do not change while a seller holds the offer.
pub async fn a_lock_of_an_offer_holds_its_product(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let lamp = env.priced("Lamp", 100, 5);
    env.insert_products(storage, &[lamp.clone()]).await.unwrap();
    let id = lamp.skus[0].id;
    let mut after = env.edited(&lamp);
    (after.discount, after.status) = (Percentage::from_hundredths(5_000).unwrap(), ProductStatus::Archived);
    let mut seller = storage.begin().await.unwrap();
    let sold = seller.offers().lock(&[id]).await.unwrap();
    let editing = {
        let (storage, env, lamp, after) = (storage.clone(), Env::new(78), lamp.clone(), after.clone());
        tokio::spawn(async move { env.update_product(&storage, &lamp, &after).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!editing.is_finished(), "an edit of the product waits for the seller");
    assert_eq!(seller.offers().get(&[id]).await.unwrap(), sold, "the price does not change meanwhile");
    seller.commit().await.unwrap();
    editing.await.unwrap().unwrap();
    let found = offers(storage, &[id]).await.remove(0);
    assert_eq!((found.discount, found.status), (after.discount, after.status), "the next seller sees the edit");
    assert_eq!((found.unit_price(), found.is_for_sale()), (usd(50), false));
}

/// Reads of 1 offer and of 200 offers cost the same.
pub async fn the_number_of_statements_does_not_depend_on_the_number_of_offers(storage: &Arc<dyn Storage>) {
    let env = Env::default();
    let products: Vec<Product> = (0..200).map(|n| env.priced(&format!("Lamp {n}"), 100, 1)).collect();
    env.insert_products(storage, &products).await.unwrap();
    let ids: Vec<SkuId> = products.iter().map(|p| p.skus[0].id).collect();
    let codes: Vec<String> = products.iter().map(|p| p.skus[0].code.clone()).collect();
    let mut costs = Vec::new();
    for n in [1, 200] {
        let mut uow = storage.begin().await.unwrap();
        let mut counts = vec![storage.statements()];
        assert_eq!(uow.offers().get(&ids[..n]).await.unwrap().len(), n);
        counts.push(storage.statements());
        assert_eq!(uow.offers().lock(&ids[..n]).await.unwrap().len(), n);
        counts.push(storage.statements());
        assert_eq!(uow.offers().by_codes(&codes[..n]).await.unwrap().len(), n);
        counts.push(storage.statements());
        uow.commit().await.unwrap();
        costs.push(counts.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<u64>>());
    }
    assert_eq!(costs, [[2, 2, 1], [2, 2, 1]]);
}
