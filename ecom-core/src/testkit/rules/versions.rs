//! Writes check the version that their caller has read (R1).

use serde_json::json;

use super::ShopFixture;
use super::support::{category_input, conflict, from, me, v};
use crate::config::ShopConfig;
use crate::domain::catalog::product::{ProductInput, ProductPatch};
use crate::domain::common::{DeleteMode, ExpectedVersion};
use crate::error::{Conflict, Entity, ErrorCode, Result, StockConflict};
use crate::testkit::code_of;

tests! {
    __shop_versions: [
        r01_a_stale_version_changes_nothing,
        r01_a_write_says_which_version_it_read,
        r01_the_last_write_wins_where_the_shop_says_so,
        r01_adjustments_need_no_version_and_move_none,
        r01_a_sale_in_between_does_not_fail_an_editors_patch,
        r01_of_many_writers_of_one_version_one_wins,
    ]
}

/// Patches, replaces, deletes and restores a product, a SKU and a category.
pub async fn r01_a_stale_version_changes_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let deleted = f.plain("Gone").await;
    f.delete(&deleted, DeleteMode::Soft).await.unwrap();
    let p = f.patch(&p, json!({ "title": "Lamp, new" })).await.unwrap();
    f.rename_category(c.id, "Lights").await.unwrap();
    assert_eq!(p.audit.version, 2);
    let sku = &p.skus[0];
    let before = f.snapshot().await;

    let shop = f.shop.acting_as(me());
    let (products, skus, categories) = (shop.products(), shop.skus(), shop.categories());
    for stale in [v(0), v(1), v(3), v(i64::MAX)] {
        let patch = from(&json!({ "title": "Mine" }));
        match conflict(products.patch(p.id, stale, patch).await, "patch") {
            Conflict::Version { entity: Entity::Product, id, expected, actual: 2 } => {
                assert_eq!((id, v(expected)), (p.id.0, stale));
            }
            other => panic!("{other}"),
        }
        let results = [
            products.replace(p.id, stale, &flat_for_many()).await.map(drop),
            products.delete(p.id, stale, DeleteMode::Soft).await,
            products.delete(p.id, stale, DeleteMode::Force).await,
            categories.patch(c.id, stale, from(&json!({ "name": "Mine" }))).await.map(drop),
            categories.replace(c.id, stale, &category_input("Mine", None)).await.map(drop),
            categories.delete(c.id, stale, DeleteMode::Soft).await,
            categories.delete(c.id, stale, DeleteMode::Force).await,
        ];
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionConflict);
        }
    }
    for stale in [v(0), v(2)] {
        let results = [
            skus.patch(sku.id, stale, from(&json!({ "price": 3 }))).await.map(drop),
            skus.replace(sku.id, stale, &from(&json!({ "price": 3 }))).await.map(drop),
            skus.delete(sku.id, stale, DeleteMode::Soft).await,
            skus.delete(sku.id, stale, DeleteMode::Force).await,
        ];
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(code_of(result, &format!("write {n} of a SKU")), ErrorCode::VersionConflict);
        }
    }
    let restored = products.restore(deleted.id, v(1)).await;
    assert_eq!(code_of(restored, "a restore"), ErrorCode::VersionConflict);
    assert_eq!(f.snapshot().await, before);
}

/// Returns a replacement that is valid for any product.
fn flat_for_many() -> ProductInput {
    from(&json!({ "title": "Mine", "skus": [{ "price": 1 }] }))
}

/// A write without a version is refused.
pub async fn r01_a_write_says_which_version_it_read(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let shop = f.shop.acting_as(me());
    let (products, skus, categories) = (shop.products(), shop.skus(), shop.categories());
    let results = [
        products.patch(p.id, ExpectedVersion::Unspecified, from(&json!({ "title": "Mine" }))).await.map(drop),
        products.replace(p.id, ExpectedVersion::Unspecified, &flat_for_many()).await.map(drop),
        products.delete(p.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await,
        products.delete(p.id, ExpectedVersion::Unspecified, DeleteMode::Force).await,
        skus.patch(sku, ExpectedVersion::Unspecified, from(&json!({ "price": 3 }))).await.map(drop),
        skus.replace(sku, ExpectedVersion::Unspecified, &from(&json!({ "price": 3 }))).await.map(drop),
        skus.delete(sku, ExpectedVersion::Unspecified, DeleteMode::Soft).await,
        categories.patch(c.id, ExpectedVersion::Unspecified, from(&json!({ "name": "Mine" }))).await.map(drop),
        categories.replace(c.id, ExpectedVersion::Unspecified, &category_input("Mine", None)).await.map(drop),
        categories.delete(c.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await,
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(code_of(result, &format!("write {n}")), ErrorCode::VersionRequired);
    }
    assert_eq!(f.snapshot().await, before);
}

/// A version in the request is still checked.
pub async fn r01_the_last_write_wins_where_the_shop_says_so(f: &ShopFixture) {
    let shop = f.another(ShopConfig::default().last_write_wins(true), f.cache());
    let p = f.plain("Lamp").await;
    let c = f.category("Lamps", None).await;
    f.patch(&p, json!({ "brand": "Theirs" })).await.unwrap();
    let patch: ProductPatch = from(&json!({ "brand": "Mine" }));
    let mine = shop.acting_as(me()).products().patch(p.id, ExpectedVersion::Unspecified, patch.clone()).await.unwrap();
    assert_eq!((mine.brand.as_deref(), mine.audit.version), (Some("Mine"), 3));
    let stale = shop.acting_as(me()).products().patch(p.id, v(1), patch).await;
    assert_eq!(code_of(stale, "a stale version in the request"), ErrorCode::VersionConflict);
    let sku = shop
        .acting_as(me())
        .skus()
        .patch(p.skus[0].id, ExpectedVersion::Unspecified, from(&json!({ "price": 3 })))
        .await
        .unwrap();
    assert_eq!(sku.price.minor(), 300);
    shop.acting_as(me()).categories().delete(c.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await.unwrap();
    shop.acting_as(me()).categories().restore(c.id, ExpectedVersion::Unspecified).await.unwrap();
    shop.acting_as(me()).products().delete(p.id, ExpectedVersion::Unspecified, DeleteMode::Soft).await.unwrap();
}

/// An adjustment increases the revision, and not the versions of the product and the SKU.
pub async fn r01_adjustments_need_no_version_and_move_none(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let done = f.adjust(sku, 5).await.unwrap();
    assert_eq!((done.level.on_hand, done.movement.delta), (15, 5));
    assert_eq!(f.adjust(sku, -15).await.unwrap().level.on_hand, 0);
    let after = f.fresh(p.id).await;
    assert_eq!(after.audit.version, 1);
    assert_eq!(after.skus[0].audit.version, 1);
    assert_eq!(after.revision, p.revision + 2);
    let short = conflict(f.adjust(sku, -1).await, "one piece too many");
    let Conflict::Stock(StockConflict::Insufficient { shortages }) = short else { panic!("{short}") };
    assert_eq!((shortages[0].sku_id, shortages[0].requested, shortages[0].available), (sku.0, 1, 0));
}

/// The PATCH does not undo the sale either.
pub async fn r01_a_sale_in_between_does_not_fail_an_editors_patch(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let read = f.fresh(p.id).await;
    f.adjust(p.skus[0].id, -3).await.unwrap();
    let patched = f.patch(&read, json!({ "description": "Bright" })).await.unwrap();
    assert_eq!((patched.audit.version, patched.skus[0].on_hand), (2, 7));
    assert_eq!(f.fresh(p.id).await, patched);
    f.adjust(p.skus[0].id, -3).await.unwrap();
    let replaced: ProductInput = from(&json!({ "title": "Lamp", "price": "9.99" }));
    let replaced = f.shop.acting_as(me()).products().replace(p.id, v(2), &replaced).await.unwrap();
    assert_eq!((replaced.audit.version, replaced.skus[0].on_hand), (3, 4), "a write without stock must keep the stock");
    let (sku, read) = (p.skus[0].id, v(replaced.skus[0].audit.version));
    let sku = f.shop.acting_as(me()).skus().patch(sku, read, from(&json!({ "price": 5 }))).await.unwrap();
    assert_eq!(sku.on_hand, 4);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// Sixteen tasks edit a product at the same time.
pub async fn r01_of_many_writers_of_one_version_one_wins(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let (shop, id) = (f.shop.clone(), p.id);
        tasks.spawn(async move {
            let patch = from(&json!({ "brand": format!("Editor {n}") }));
            shop.acting_as(me()).products().patch(id, v(1), patch).await.map(|p| p.brand)
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|l| code_of(l, "an edit that came too late") == ErrorCode::VersionConflict));
    let after = f.fresh(p.id).await;
    assert_eq!(after.audit.version, 2);
    assert_eq!(Some(&after.brand), won[0].as_ref().ok());
}
