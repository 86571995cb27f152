//! Rows to which others refer are not deleted (R4), and a force delete removes rows permanently (R5).

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{conflict, me, v};
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::error::{CatalogConflict, Conflict, ErrorCode, Result};
use crate::port::search::SearchFilter;
use crate::testkit::code_of;

tests! {
    __shop_removal: [
        r04_a_category_in_use_is_not_deleted,
        r04_force_is_refused_while_anything_refers,
        r05_force_removes_a_product_for_good,
        r05_force_removes_a_sku_for_good,
        r05_force_removes_a_sku_of_a_deleted_product,
    ]
}

fn not_empty<T: fmt::Debug>(result: Result<T>, what: &str) -> (u64, u64) {
    match conflict(result, what) {
        Conflict::Catalog(CatalogConflict::CategoryNotEmpty { children, products, .. }) => (children, products),
        other => panic!("{what}: {other}"),
    }
}

/// Children and products use the category.
pub async fn r04_a_category_in_use_is_not_deleted(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    let before = f.snapshot().await;
    assert_eq!(not_empty(f.delete_category(a.id, DeleteMode::Soft).await, "a child"), (1, 0));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Soft).await, "a product"), (0, 1));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Force).await, "by force"), (0, 1));
    assert_eq!(f.snapshot().await, before);
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(b.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(a.id, DeleteMode::Soft).await.unwrap();
}

/// Live and soft-deleted rows prevent the deletion. The database enforces this too.
pub async fn r04_force_is_refused_while_anything_refers(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(b.id, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    assert_eq!(not_empty(f.delete_category(a.id, DeleteMode::Force).await, "a deleted child"), (1, 0));
    assert_eq!(not_empty(f.delete_category(b.id, DeleteMode::Force).await, "a deleted product"), (0, 1));
    for id in [a.id, b.id] {
        let around = attempt!(f.storage, categories.purge(id));
        assert_eq!(code_of(around, "the foreign keys prevent the deletion"), ErrorCode::CategoryNotEmpty);
    }
    assert_eq!(f.snapshot().await, before);
    f.delete(&f.fresh(p.id).await, DeleteMode::Force).await.unwrap();
    f.delete_category(b.id, DeleteMode::Force).await.unwrap();
    f.delete_category(a.id, DeleteMode::Force).await.unwrap();
    assert!(f.snapshot().await.categories.is_empty());
}

/// A live and a soft-deleted product are removed with their SKUs, the ledger and the links to categories.
pub async fn r05_force_removes_a_product_for_good(f: &ShopFixture) {
    let c = f.category("C", None).await;
    let (p, q) = (f.plain_in("P", &[&c]).await, f.plain_in("Q", &[&c]).await);
    f.adjust(p.skus[0].id, 5).await.unwrap();
    f.index_is_in_step("before").await;
    f.delete(&q, DeleteMode::Soft).await.unwrap();
    f.delete(&p, DeleteMode::Force).await.unwrap();
    f.delete(&f.fresh(q.id).await, DeleteMode::Force).await.unwrap();
    for id in [p.id, q.id] {
        let gone = f.shop.products().get_fresh(id, IncludeDeleted::Yes).await;
        assert_eq!(code_of(gone, "a removed product"), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.acting_as(me()).products().restore(id, v(1)).await, "restore"), ErrorCode::NotFound);
    }
    assert_eq!(code_of(f.shop.skus().get(p.skus[0].id, IncludeDeleted::Yes).await, "its SKU"), ErrorCode::NotFound);
    assert_eq!(
        code_of(f.shop.inventory().level(p.skus[0].id).await, "the stock of a removed SKU"),
        ErrorCode::NotFound
    );
    let left = f.snapshot().await;
    assert_eq!((left.products.len(), left.skus.len(), left.movements), (0, 0, 0));
    assert_eq!(left.categories[0].product_count, 0);
    f.index_is_in_step("after").await;
    assert!(f.searched("", SearchFilter::default()).await.is_empty());
    f.delete_category(c.id, DeleteMode::Force).await.unwrap();
}

/// A live and a soft-deleted SKU are removed, but never the last one.
pub async fn r05_force_removes_a_sku_for_good(f: &ShopFixture) {
    let skus: Vec<Value> = ["a", "b", "c"].iter().map(|c| json!({ "code": c, "price": 1, "stock": 4 })).collect();
    let p = f.product(json!({ "title": "P", "skus": skus })).await;
    let skus = f.shop.acting_as(me()).skus();
    skus.delete(p.skus[0].id, v(1), DeleteMode::Force).await.unwrap();
    skus.delete(p.skus[1].id, v(1), DeleteMode::Soft).await.unwrap();
    skus.delete(p.skus[1].id, v(2), DeleteMode::Force).await.unwrap();
    let last = skus.delete(p.skus[2].id, v(1), DeleteMode::Force).await;
    assert_eq!(code_of(last, "the last SKU of a product"), ErrorCode::StateConflict);
    assert_eq!(f.shop.skus().of_product(p.id, IncludeDeleted::Yes).await.unwrap().len(), 1);
    let left = f.snapshot().await;
    assert_eq!((left.skus.len(), left.movements), (1, 1));
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, f.fresh(p.id).await);
}

/// A SKU that was deleted with its product, and one that was deleted before it, are removed, but never the last one
/// that a restore would restore.
pub async fn r05_force_removes_a_sku_of_a_deleted_product(f: &ShopFixture) {
    let skus: Vec<Value> = ["a", "b", "c"].iter().map(|c| json!({ "code": c, "price": 1, "stock": 4 })).collect();
    let p = f.product(json!({ "title": "P", "skus": skus })).await;
    let skus = f.shop.acting_as(me()).skus();
    skus.delete(p.skus[0].id, v(1), DeleteMode::Soft).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await.unwrap();
    let soft = skus.delete(p.skus[1].id, v(2), DeleteMode::Soft).await;
    assert_eq!(code_of(soft, "a SKU that is already deleted"), ErrorCode::NotFound);
    skus.delete(p.skus[1].id, v(2), DeleteMode::Force).await.unwrap();
    let last = skus.delete(p.skus[2].id, v(2), DeleteMode::Force).await;
    assert_eq!(code_of(last, "the last SKU that a restore would restore"), ErrorCode::StateConflict);
    skus.delete(p.skus[0].id, v(2), DeleteMode::Force).await.unwrap();
    assert_eq!(f.snapshot().await.skus.len(), 1);
    f.index_is_in_step("after the deletes").await;
    let version = f.fresh(p.id).await.audit.version;
    let back = f.shop.acting_as(me()).products().restore(p.id, v(version)).await.unwrap();
    assert_eq!(back.skus.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(), ["c"]);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}
