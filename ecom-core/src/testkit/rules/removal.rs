//! Rows to which others refer are not deleted (R4), and a force delete removes rows permanently (R5).

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{conflict, from, me, v};
use crate::config::ShopConfig;
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::sales::order::input::OrderInput;
use crate::domain::search::query::SearchFilter;
use crate::error::{CatalogConflict, Conflict, Entity, ErrorCode, Result, SalesConflict};
use crate::id::SkuId;
use crate::testkit::code_of;

tests! {
    __shop_removal: [
        r04_a_category_in_use_is_not_deleted,
        r04_force_is_refused_while_anything_refers,
        r05_force_removes_a_product_for_good,
        r05_force_removes_a_sku_for_good,
        r05_force_removes_a_sku_of_a_deleted_product,
        r05_a_shop_can_keep_what_was_sold,
        r05_a_delete_and_an_order_at_once_leave_no_order_of_what_is_gone,
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

/// An order of one piece of a SKU at 10.00.
fn order_of(sku: SkuId) -> OrderInput {
    from(&json!({
        "customer": { "first_name": "Grace", "last_name": "Hopper", "email": "grace@example.com" },
        "delivery_method": "on_hand",
        "lines": [{ "sku_id": sku, "quantity": 1, "unit_price": "10.00" }],
    }))
}

fn kept<T: fmt::Debug>(result: Result<T>, what: &str) -> (Entity, uuid::Uuid) {
    match conflict(result, what) {
        Conflict::Sales(SalesConflict::Kept { entity, id }) => (entity, id),
        other => panic!("{what}: {other}"),
    }
}

/// Neither a soft delete, nor a write that leaves a SKU out, removes what an order refers to, also if the order is
/// canceled or deleted. What was not sold is removed, and a shop with the default settings removes both.
pub async fn r05_a_shop_can_keep_what_was_sold(f: &ShopFixture) {
    let two = json!({
        "title": "Two",
        "skus": [{ "code": "sold", "price": 10, "stock": 5 }, { "code": "not sold", "price": 10, "stock": 5 }],
    });
    let (two, other) = (f.product(two).await, f.plain("Other").await);
    let [sold, unsold] = [two.skus[0].id, two.skus[1].id];
    let order = f.shop.orders().place(&order_of(sold)).await.unwrap();
    f.shop.orders().delete(order.id, v(1)).await.unwrap();
    let two = f.fresh(two.id).await;
    let shop = f.another(ShopConfig::default().keep_sold(true), f.cache());
    let (products, skus) = (shop.products(), shop.skus());
    let (of_product, of_sku) = ((Entity::Product, two.id.0), (Entity::Sku, sold.0));
    let before = f.snapshot().await;
    let version = v(two.audit.version);
    assert_eq!(kept(products.delete(two.id, version, DeleteMode::Soft).await, "a soft delete"), of_product);
    assert_eq!(kept(skus.delete(sold, v(1), DeleteMode::Soft).await, "a soft delete of a SKU"), of_sku);
    let without = json!({ "title": "Two", "skus": [{ "code": "not sold", "price": 10 }] });
    assert_eq!(kept(products.replace(two.id, version, &from(&without)).await, "a replacement"), of_sku);
    let patch = json!({ "skus": [{ "code": "new", "price": 1 }] });
    assert_eq!(kept(products.patch(two.id, version, from(&patch)).await, "a patch"), of_sku);
    let forced = products.delete(two.id, version, DeleteMode::Force).await;
    assert_eq!(code_of(forced, "a force delete"), ErrorCode::HasSales);
    let forced = skus.delete(sold, v(1), DeleteMode::Force).await;
    assert_eq!(code_of(forced, "a force delete of a SKU"), ErrorCode::HasSales);
    assert_eq!(f.snapshot().await, before, "a refused delete writes nothing");

    skus.delete(unsold, v(1), DeleteMode::Soft).await.unwrap();
    products.delete(other.id, v(1), DeleteMode::Soft).await.unwrap();
    let left = f.fresh(two.id).await;
    assert_eq!(left.skus.iter().map(|s| s.id).collect::<Vec<_>>(), [sold]);
    let archived = products.patch(two.id, v(left.audit.version), from(&json!({ "status": "archived" }))).await.unwrap();
    f.delete(&archived, DeleteMode::Soft).await.unwrap();
}

/// Two processes: one sells what the other deletes. Whichever comes first, no live order sells what was deleted.
pub async fn r05_a_delete_and_an_order_at_once_leave_no_order_of_what_is_gone(f: &ShopFixture) {
    let keeping = f.another(ShopConfig::default().keep_sold(true), f.cache());
    let (mut deleted, mut placed) = (0, 0);
    for n in 0..24 {
        let p = f
            .product(json!({ "title": format!("P {n}"), "skus": [{ "price": 10, "stock": 5 }, { "price": 1 }] }))
            .await;
        let sku = p.skus[0].id;
        let delete = async {
            if n % 4 == 0 {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            match n % 3 {
                0 => keeping.products().delete(p.id, v(1), DeleteMode::Soft).await,
                1 => keeping.skus().delete(sku, v(1), DeleteMode::Soft).await,
                _ => {
                    let put = json!({ "title": "Put", "skus": [{ "price": 1 }] });
                    keeping.products().replace(p.id, v(1), &from(&put)).await.map(drop)
                }
            }
        };
        let (orders, input) = (f.shop.orders(), order_of(sku));
        let (delete, order) = tokio::join!(delete, orders.place(&input));
        let is_live = f.shop.skus().get(sku, IncludeDeleted::No).await.is_ok();
        match (delete, order) {
            (Ok(()), Err(e)) => {
                assert_eq!(e.code(), ErrorCode::Validation, "round {n}: {e:?}");
                assert!(!is_live, "round {n}");
                deleted += 1;
            }
            (Err(e), Ok(_)) => {
                assert_eq!(e.code(), ErrorCode::HasSales, "round {n}: {e:?}");
                assert!(is_live, "round {n}");
                placed += 1;
            }
            both => panic!("round {n}: {both:?}"),
        }
    }
    assert_eq!(deleted + placed, 24);
    let report = f.shop.audit().run().await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
}
