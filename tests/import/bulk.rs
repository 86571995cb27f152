//! Imports in bulk, compared with normal ones.

use std::collections::BTreeMap;

use ecom::Shop;
use ecom::catalog::{ExportOptions, ImportOptions};
use ecom::paging::Paging;
use ecom::platform::{AuditLogFilter, Event, EventKind, OutboxPosition};
use serde_json::{Value, json};

use crate::support::{
    Letters, all_products, assert_balanced, counts, import, lines, outbox_head, products, record, shop, tree,
};

on_each_database! {
    r13_an_import_in_bulk_writes_the_rows_of_a_normal_one_and_one_event_for_each_batch,
    r14_an_index_that_exists_follows_an_import_in_bulk,
}

/// Products with categories, tags and several SKUs. Two are refused: one for its price, one for the code of another.
fn some() -> Vec<Value> {
    let product = |i: u32| {
        json!({
            "source": "erp", "external_id": i.to_string(), "title": format!("Thing {}", i / 2), "tags": ["new", "thing"],
            "brand": format!("Brand {}", i % 3), "categories": [format!("hall-{}/aisle-{i}", i % 2, i = i % 4)],
            "skus": [{"code": format!("T-{i}-S"), "price": i, "stock": i % 5, "barcode": format!("{i:012}")},
                {"code": format!("T-{i}-M"), "price": "7.50", "stock": 3}],
        })
    };
    let mut all: Vec<Value> = (0..250).map(product).collect();
    all[30]["skus"][0]["price"] = json!("nine");
    all[170]["skus"][1]["code"] = json!("T-3-S");
    all
}

/// Returns what an import writes, without ids and times.
async fn written(shop: &Shop) -> (String, Vec<(String, i64, i64)>, Vec<String>, Vec<Value>) {
    let mut export = Vec::new();
    shop.export().products(&mut export, ExportOptions::default(), |_| {}).await.unwrap();
    let counts = tree(shop).await.into_iter().map(|c| (c.path, c.product_count, c.subtree_product_count)).collect();
    let mut ledger = Vec::new();
    for sku in all_products(shop).await.iter().flat_map(|p| &p.skus) {
        let (page, _) = shop.inventory().movements(sku.id, &Paging::first(10)).await.unwrap();
        let moved = page.items.iter().map(|m| format!("{}: {} {:?} {:?}", sku.code, m.delta, m.reason, m.created_by));
        ledger.extend(moved);
    }
    let log = shop.audit_log().list(&AuditLogFilter::default(), &Paging::first(1_000)).await.unwrap().0.items;
    let entries = log.iter().map(|e| json!([e.action, e.before, e.after])).collect();
    (String::from_utf8(export).unwrap(), counts, ledger, entries)
}

/// Returns the events after a position, and how many of each kind there are.
async fn events(shop: &Shop, after: OutboxPosition) -> (Vec<Event>, BTreeMap<&'static str, usize>) {
    let batch = shop.events().read(after, 10_000).await.unwrap();
    let events: Vec<Event> = batch.events.into_iter().map(|(_, event)| event).collect();
    let mut kinds = BTreeMap::new();
    for event in &events {
        *kinds.entry(event.kind.as_str()).or_default() += 1;
    }
    (events, kinds)
}

async fn r13_an_import_in_bulk_writes_the_rows_of_a_normal_one_and_one_event_for_each_batch() {
    let (normal, bulk) = (shop().await, shop().await);
    let mut records = some();
    let letters = [Letters::default(), Letters::default()];
    let options = |letters: &Letters| letters.options().batch(40);
    let plain = products(&normal, lines(&records), options(&letters[0])).await;
    let report = products(&bulk, lines(&records), options(&letters[1]).bulk(true)).await;
    assert_eq!(counts(&report), [250, 248, 0, 0, 2], "{:?}", letters[1].read());
    assert_eq!((counts(&report), report.done), (counts(&plain), plain.done));
    assert_eq!(letters[1].read(), letters[0].read());
    assert_eq!(written(&bulk).await, written(&normal).await);
    assert_balanced(&bulk).await;

    // The events name the products, each once, and the categories have theirs.
    let (log, kinds) = events(&bulk, OutboxPosition::default()).await;
    assert_eq!(kinds, BTreeMap::from([("category.created", 6), ("products.imported", 7)]));
    let imported: Vec<&Event> = log.iter().filter(|e| e.kind == EventKind::ProductsImported).collect();
    let ranges: Vec<_> = imported.iter().filter_map(|e| e.imported_products()).collect();
    assert_eq!(ranges.iter().map(|r| r.count).sum::<u64>(), 248);
    for product in all_products(&bulk).await {
        assert_eq!(ranges.iter().filter(|r| (r.first..=r.last).contains(&product.id)).count(), 1, "{ranges:?}");
    }
    let aggregates = imported.iter().map(|e| (e.aggregate_id, e.revision));
    assert!(aggregates.eq((1..=7).map(|n| (imported[0].aggregate_id, n))), "one aggregate, in order");

    // Changes have events of their own, and a third import writes nothing.
    let head = outbox_head(&bulk).await;
    for record in &mut records[..5] {
        record["brand"] = json!("Another");
    }
    records.push(record(9_001));
    let report = products(&bulk, lines(&records), ImportOptions::default().bulk(true)).await;
    assert_eq!(counts(&report), [251, 1, 5, 243, 2]);
    let (_, kinds) = events(&bulk, head).await;
    let expected = [("category.created", 1), ("product.updated", 5), ("products.imported", 1)];
    assert_eq!(kinds, BTreeMap::from(expected));
    let head = outbox_head(&bulk).await;
    let report = products(&bulk, lines(&records), ImportOptions::default().bulk(true)).await;
    assert_eq!(counts(&report), [251, 0, 0, 249, 2]);
    let dry = products(&bulk, lines(&some()), ImportOptions::default().bulk(true).dry_run(true)).await;
    assert_eq!((dry.rejected, outbox_head(&bulk).await), (2, head));
}

/// The index is behind, and products of the import have changed by the time that it comes to them.
async fn r14_an_index_that_exists_follows_an_import_in_bulk() {
    let shop = shop().await;
    let records: Vec<Value> = (1..=30).map(record).collect();
    import(&shop, lines(&records)).await;
    assert!(shop.index().catch_up().await.unwrap().rebuilt, "the index is new");
    let report = products(&shop, lines(&some()), ImportOptions::default().batch(40).bulk(true)).await;
    assert_eq!(report.inserted, 248);
    let all = all_products(&shop).await;
    let version = |n: usize| ecom::common::ExpectedVersion::Exact(all[n].audit.version);
    shop.products().delete(all[40].id, version(40), ecom::common::DeleteMode::Soft).await.unwrap();
    let patch = serde_json::from_value(json!({"brand": "Another"})).unwrap();
    shop.products().patch(all[200].id, version(200), patch).await.unwrap();
    let caught_up = shop.index().catch_up().await.unwrap();
    assert!(!caught_up.rebuilt && caught_up.written >= 248, "{caught_up:?}");
    let found = shop.index().verify(false).await.unwrap();
    assert!(found.is_clean() && found.compared == 277, "{found:?}");
    // A product that the index has already is not written again.
    let again = products(&shop, lines(&[record(31)]), ImportOptions::default().bulk(true)).await;
    assert_eq!(again.inserted, 1);
    assert_eq!(shop.index().catch_up().await.unwrap().written, 1);
}
