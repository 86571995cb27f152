//! Products that change from one import to the next, and SKU codes that are already in use.

use serde_json::json;

use crate::support::{all_products, assert_balanced, counts, fields, find, import, lines, outbox_head, record, shop};

on_each_database! {
    r11_changed_rows_are_written_once_and_the_ledger_follows,
    r11_records_set_whether_stock_is_tracked,
    sku_codes_are_found_again_and_never_taken_over,
}

async fn r11_changed_rows_are_written_once_and_the_ledger_follows() {
    let shop = shop().await;
    import(&shop, lines(&[record(1), record(2), record(3)])).await;
    let before = all_products(&shop).await;
    let mut changed = record(2);
    changed["stock"] = json!(50);
    changed["price"] = json!("12.5");
    let head = outbox_head(&shop).await;
    let (report, letters) = import(&shop, lines(&[record(1), changed.clone(), record(3)])).await;
    assert_eq!(counts(&report), [3, 0, 1, 2, 0], "{letters:?}");
    let after = all_products(&shop).await;
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    let (b, p) = (find(&before, "2"), find(&after, "2"));
    let sku = p.default_sku().unwrap();
    assert_eq!((sku.id, sku.on_hand, sku.price.minor()), (b.skus[0].id, 50, 1250));
    assert_eq!(sku.audit.version, 2);
    let events = shop.events().read(head, 10).await.unwrap().events;
    assert_eq!(events.len(), 1);
    assert_balanced(&shop).await;
    let (report, _) = import(&shop, lines(&[changed])).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
    // Fields that the record leaves out stay as they are: status, threshold, slug.
    let bare = json!({"id": 3, "title": "Thing three", "price": 9.99, "sku": "SKU-3", "stock": 5});
    let (report, letters) = import(&shop, bare.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let after = all_products(&shop).await;
    assert_eq!(find(&after, "3").slug.as_str(), "thing-3");
    assert_eq!(find(&after, "3").categories.len(), 1);
}

async fn r11_records_set_whether_stock_is_tracked() {
    let shop = shop().await;
    let with = |fields: serde_json::Value| {
        let mut r = record(1);
        for (k, v) in fields.as_object().unwrap() {
            r[k] = v.clone();
        }
        lines(&[r])
    };
    let (report, letters) = import(&shop, with(json!({"track_stock": false, "stock": 5}))).await;
    assert_eq!((report.rejected, fields(&letters[0])), (1, vec!["stock".to_owned()]), "{letters:?}");
    let (report, letters) = import(&shop, with(json!({"track_stock": false, "stock": 0}))).await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0], "{letters:?}");
    // A record without the field leaves it as it is, and cannot set the stock.
    let (report, letters) = import(&shop, with(json!({"stock": null}))).await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0], "{letters:?}");
    let (report, letters) = import(&shop, with(json!({"stock": 5}))).await;
    assert_eq!((report.rejected, fields(&letters[0])), (1, vec!["stock".to_owned()]), "{letters:?}");
    assert!(letters[0]["fields"][0]["message"].as_str().unwrap().contains("`track_stock`"), "{letters:?}");
    let sku = all_products(&shop).await[0].skus[0].clone();
    assert_eq!((sku.track_stock, sku.on_hand, sku.audit.version), (false, 0, 1));
    let (report, letters) = import(&shop, with(json!({"trackStock": true, "stock": 5}))).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let sku = all_products(&shop).await[0].skus[0].clone();
    assert_eq!((sku.track_stock, sku.on_hand, sku.audit.version), (true, 5, 2));
    let listed = json!({"id": 2, "title": "Two", "skus": [
        {"code": "a", "price": 1, "stock": 1}, {"code": "b", "price": 1, "stock": 1, "track_stock": false}]});
    let (report, letters) = import(&shop, lines(&[listed])).await;
    assert_eq!((report.rejected, fields(&letters[0])), (1, vec!["skus[1].stock".to_owned()]), "{letters:?}");
    assert_balanced(&shop).await;
}

async fn sku_codes_are_found_again_and_never_taken_over() {
    let shop = shop().await;
    // A product without an external id, as a person creates it.
    let by_hand: ecom::catalog::ProductInput =
        serde_json::from_value(json!({"title": "By hand", "sku": "hand-1", "price": "1", "stock": 2})).unwrap();
    let by_hand = shop.products().create(&by_hand).await.unwrap();
    let adopt = json!({"id": 7, "title": "Adopted", "sku": "HAND-1", "price": 1, "stock": 2});
    let (report, letters) = import(&shop, adopt.to_string()).await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0], "{letters:?}");
    let all = all_products(&shop).await;
    assert_eq!((find(&all, "7").id, all.len()), (by_hand.id, 1));

    let twice = [
        record(1),
        json!({"id": 2, "title": "Same code as 1", "sku": "sku-1", "price": 1}),
        json!({"id": 3, "title": "Same code as in the shop", "sku": "Hand-1", "price": 1}),
        json!({"id": 1, "title": "Same id", "sku": "SKU-9", "price": 1}),
        json!({"title": "No id", "price": 1}),
        json!({"title": "By code", "sku": "C-1", "price": 1}),
        json!({"title": "By code again", "sku": "c-1", "price": 1}),
        json!({"id": 8, "title": "Slug taken in this file", "slug": "thing-1", "sku": "S-8", "price": 1}),
    ];
    for inserted in [2, 0] {
        let (report, letters) = import(&shop, lines(&twice)).await;
        assert_eq!(counts(&report), [8, inserted, 0, 2 - inserted, 6], "{letters:#?}");
        let why: Vec<(u64, Vec<String>)> = letters.iter().map(|l| (l["index"].as_u64().unwrap(), fields(l))).collect();
        let expected = [(1, "code"), (2, "code"), (3, "external_id"), (4, "external_id"), (6, "sku"), (7, "slug")];
        assert_eq!(why, expected.map(|(i, f)| (i, vec![f.to_owned()])));
    }
    let read = ecom::common::ExpectedVersion::Exact(find(&all_products(&shop).await, "1").audit.version);
    let one = find(&all_products(&shop).await, "1").id;
    shop.products().delete(one, read, ecom::common::DeleteMode::Soft).await.unwrap();
    let (report, letters) = import(&shop, lines(&twice[..1])).await;
    assert_eq!(
        (report.rejected, letters[0]["code"].as_str()),
        (1, Some("STATE_CONFLICT")),
        "a deleted product stays so"
    );
    assert_balanced(&shop).await;
}
