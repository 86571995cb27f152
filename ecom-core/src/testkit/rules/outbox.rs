//! Each write writes its event, and events are in order (R13).

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::ShopFixture;
use super::support::{adjustment, flat, from, me, v};
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::error::Entity;
use crate::id::{CategoryId, ProductId};

tests! {
    __shop_outbox: [
        r13_each_write_has_its_event,
        r13_a_failed_write_has_none,
        r13_events_of_an_aggregate_are_in_order,
    ]
}

/// Each write has one event of the right kind, with the stored revision.
pub async fn r13_each_write_has_its_event(f: &ShopFixture) {
    use EventKind as K;
    let mut at = f.head().await;
    let mut expect = async |what: &str, kind: EventKind, id: Uuid| {
        let events = f.events_after(at).await;
        at = f.head().await;
        assert_eq!(events.len(), 1, "{what}: {events:?}");
        let e = &events[0];
        assert_eq!((e.kind, e.aggregate_id), (kind, id), "{what}: the event must have the right kind and aggregate");
        assert_eq!(&e.actor, me().actor(), "{what}: the event must record the principal");
        let stored = match kind.entity() {
            Entity::Product => {
                let found = read!(f.storage, products.get(ProductId(id), IncludeDeleted::Yes));
                found.map(|p| p.revision)
            }
            _ => read!(f.storage, categories.get(CategoryId(id), IncludeDeleted::Yes)).map(|c| c.revision),
        };
        match stored {
            Some(revision) => assert_eq!(e.revision, revision, "{what}: the event must have the stored revision"),
            None => assert!(e.revision > 1, "{what}: the revision must be higher than that of the first event"),
        }
    };
    let shop = f.shop.acting_as(me());
    let (products, skus, categories) = (shop.products(), shop.skus(), shop.categories());
    let c = f.category("C", None).await;
    expect("create", K::CategoryCreated, c.id.0).await;
    let patch = from(&json!({ "description": "d" }));
    categories.patch(c.id, v(1), patch).await.unwrap();
    expect("edit", K::CategoryUpdated, c.id.0).await;
    f.rename_category(c.id, "D").await.unwrap();
    expect("rename", K::CategoryMoved, c.id.0).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    expect("delete", K::CategoryDeleted, c.id.0).await;
    categories.restore(c.id, v(4)).await.unwrap();
    expect("restore", K::CategoryRestored, c.id.0).await;

    let p = f.plain_in("P", &[&c]).await;
    expect("create", K::ProductCreated, p.id.0).await;
    let p = f.patch(&p, json!({ "brand": "b" })).await.unwrap();
    expect("patch", K::ProductUpdated, p.id.0).await;
    f.adjust(p.skus[0].id, 1).await.unwrap();
    expect("stock", K::StockChanged, p.id.0).await;
    f.patch(&p, json!({ "stock": 7 })).await.unwrap();
    expect("a patch of the stock", K::ProductUpdated, p.id.0).await;
    let sku = skus.create(p.id, &from(&json!({ "price": 1, "stock": 2 }))).await.unwrap();
    expect("a new SKU", K::ProductUpdated, p.id.0).await;
    skus.patch(sku.id, v(1), from(&json!({ "stock": 4, "price": 2 }))).await.unwrap();
    expect("a patch of a SKU", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(2), DeleteMode::Soft).await.unwrap();
    expect("a delete of a SKU", K::ProductUpdated, p.id.0).await;
    skus.restore(sku.id, v(3)).await.unwrap();
    expect("a restore of a SKU", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(4), DeleteMode::Force).await.unwrap();
    expect("the force delete of a SKU", K::ProductUpdated, p.id.0).await;
    let sku = skus.create(p.id, &from(&json!({ "price": 1 }))).await.unwrap();
    expect("a new SKU", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(1), DeleteMode::Soft).await.unwrap();
    expect("a delete of a SKU", K::ProductUpdated, p.id.0).await;
    skus.delete(sku.id, v(2), DeleteMode::Force).await.unwrap();
    expect("the force delete of a deleted SKU", K::ProductUpdated, p.id.0).await;
    let sku = skus.create(p.id, &from(&json!({ "price": 1 }))).await.unwrap();
    expect("a new SKU", K::ProductUpdated, p.id.0).await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await.unwrap();
    expect("delete", K::ProductDeleted, p.id.0).await;
    skus.delete(sku.id, v(2), DeleteMode::Force).await.unwrap();
    expect("the force delete of a SKU of a deleted product", K::ProductUpdated, p.id.0).await;
    products.restore(p.id, v(f.fresh(p.id).await.audit.version)).await.unwrap();
    expect("restore", K::ProductRestored, p.id.0).await;
    f.delete(&f.fresh(p.id).await, DeleteMode::Force).await.unwrap();
    expect("a force delete", K::ProductPurged, p.id.0).await;
    f.delete_category(c.id, DeleteMode::Force).await.unwrap();
    expect("a force delete", K::CategoryPurged, c.id.0).await;
}

/// The write fails in the library or in the database, or a host rolls it back.
pub async fn r13_a_failed_write_has_none(f: &ShopFixture) {
    let c = f.category("C", None).await;
    f.category("Other", None).await;
    let p = f.plain_in("P", &[&c]).await;
    f.plain("Q").await;
    let before = f.snapshot().await;
    assert!(f.patch(&p, json!({ "slug": "q" })).await.is_err());
    assert!(f.patch(&p, json!({ "sku": "Q" })).await.is_err());
    assert!(f.patch(&p, json!({ "categories": ["nowhere"] })).await.is_err());
    assert!(f.rename_category(c.id, "other").await.is_err());
    assert!(f.delete_category(c.id, DeleteMode::Soft).await.is_err());
    assert!(f.adjust(p.skus[0].id, -11).await.is_err());
    let mut tx = f.shop.begin().await.unwrap();
    f.shop.acting_as(me()).products().create_in(&mut tx, &flat("Host")).await.unwrap();
    drop(tx);
    assert_eq!(f.snapshot().await, before);
}

/// 32 tasks write the same three products.
pub async fn r13_events_of_an_aggregate_are_in_order(f: &ShopFixture) {
    let start = f.head().await;
    let products = [f.plain("A").await, f.plain("B").await, f.plain("C").await];
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..32usize {
        let (shop, p) = (f.shop.clone(), products[task % 3].clone());
        tasks.spawn(async move {
            for n in 0..4 {
                if n % 2 == 0 {
                    shop.acting_as(me()).inventory().adjust(adjustment(p.skus[0].id, 1)).await.unwrap();
                } else {
                    let read = shop.products().get_fresh(p.id, IncludeDeleted::No).await.unwrap();
                    let patch = from(&json!({ "brand": format!("{task} {n}") }));
                    // A write with a stale version writes nothing.
                    let _ = shop.acting_as(me()).products().patch(p.id, v(read.audit.version), patch).await;
                }
            }
        });
    }
    tasks.join_all().await;
    let events = f.events_after(start).await;
    let ids: HashSet<_> = events.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), events.len());
    for p in products {
        let revisions: Vec<i64> = events.iter().filter(|e| e.aggregate_id == p.id.0).map(|e| e.revision).collect();
        assert!(
            revisions.is_sorted_by(|a, b| a < b),
            "the revisions of the events of a product must increase: {revisions:?}"
        );
        assert_eq!(
            *revisions.last().unwrap(),
            f.fresh(p.id).await.revision,
            "the last event must have the last revision"
        );
    }
}
