//! Products are written by create, PUT and PATCH, and slugs, codes and prices follow the rules.

use std::time::Duration;

use serde_json::{Value, json};

use super::ShopFixture;
use super::support::{category_input, conflict, flat, flat_in, from, me, v};
use crate::domain::catalog::product::{ProductFilter, ProductInput};
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::error::{CatalogConflict, Conflict, ErrorCode};
use crate::testkit::sample::usd;
use crate::testkit::{code_of, duplicate_field};

tests! {
    __shop_products: [
        flat_writes_and_reads_mean_the_default_sku,
        put_reconciles_skus_by_id_and_by_code,
        put_that_swaps_codes_is_refused_clearly,
        a_code_that_is_given_up_can_be_taken_in_the_same_write,
        a_patch_merges,
        an_unchanged_write_writes_nothing,
        slugs_are_made_numbered_and_refused,
        prices_round_half_away_from_zero_per_sku,
    ]
}

/// Flat fields become one SKU and one category, and are read back from them.
pub async fn flat_writes_and_reads_mean_the_default_sku(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let input = json!({
        "title": "Lamp", "price": 12.5, "stock": 3, "sku": "L-1", "weight": "1.20", "barcode": "4012",
        "dimensions": { "width": 1, "height": "2.5", "depth": 3 }, "category": "lamps", "low_stock_threshold": 3,
    });
    let p = f.product(input).await;
    assert_eq!(p.categories.iter().map(|c| c.id).collect::<Vec<_>>(), [c.id]);
    assert_eq!(p.skus.len(), 1);
    let sku = p.default_sku().unwrap();
    assert_eq!((sku.code.as_str(), sku.price.minor(), sku.on_hand), ("L-1", 1_250, 3));
    assert_eq!(sku.weight.unwrap().hundredths(), 120);
    assert_eq!(sku.dimensions.unwrap().height.hundredths(), 250);
    assert_eq!((sku.barcode.as_deref(), sku.low_stock_threshold), (Some("4012"), 3));
    assert_eq!(p.availability().as_str(), "limited");
    assert_eq!(f.fresh(p.id).await, p);
    let p = f.patch(&p, json!({ "track_stock": false })).await.unwrap();
    assert_eq!((p.skus[0].track_stock, p.availability().as_str()), (false, "in_stock"));

    let p = f.patch(&p, json!({ "price": 13, "track_stock": true, "stock": 9, "weight": null })).await.unwrap();
    let now = p.default_sku().unwrap();
    assert_eq!((now.id, now.price.minor(), now.on_hand, now.weight), (sku.id, 1_300, 9, None));
    assert_eq!(
        (now.code.as_str(), now.barcode.as_deref()),
        ("L-1", Some("4012")),
        "a patch must not change other fields"
    );
    assert_eq!(f.fresh(p.id).await, p);
    let put: ProductInput = from(&json!({ "title": "Lamp", "price": 14 }));
    let p = f.shop.acting_as(me()).products().replace(p.id, v(p.audit.version), &put).await.unwrap();
    let now = p.default_sku().unwrap();
    assert_eq!((now.id, now.price.minor(), now.on_hand), (sku.id, 1_400, 9), "a patch must keep the SKU and its stock");
    assert!(p.categories.is_empty() && now.barcode.is_none(), "PUT replaces");

    f.shop.acting_as(me()).skus().create(p.id, &from(&json!({ "price": 20, "code": "L-2" }))).await.unwrap();
    let p = f.fresh(p.id).await;
    let before = f.snapshot().await;
    for (field, value) in [
        ("price", json!(1)),
        ("stock", json!(1)),
        ("track_stock", json!(true)),
        ("sku", json!("z")),
        ("weight", json!(1)),
    ] {
        match conflict(f.patch(&p, json!({ field: value })).await, field) {
            Conflict::Catalog(CatalogConflict::FlatWrite { product, skus: 2, field: named }) => {
                assert_eq!((product, named), (p.id.0, field));
            }
            other => panic!("{other}"),
        }
    }
    let put = f.shop.acting_as(me()).products().replace(p.id, v(p.audit.version), &put).await;
    assert_eq!(code_of(put, "PUT"), ErrorCode::FlatWriteRefused);
    assert_eq!(f.snapshot().await, before);
    assert_eq!(
        f.patch(&p, json!({ "title": "Lamps" })).await.unwrap().skus.len(),
        2,
        "a patch without SKUs must keep them"
    );
}

/// A PUT keeps SKUs by id or code, adds new ones and removes others, in the order of the request.
pub async fn put_reconciles_skus_by_id_and_by_code(f: &ShopFixture) {
    let skus: Vec<Value> = ["a", "b", "c"].iter().map(|c| json!({ "code": c, "price": 1, "stock": 5 })).collect();
    let p = f.product(json!({ "title": "P", "skus": skus })).await;
    let put = json!({ "title": "P", "skus": [
        { "code": "new", "price": 9, "stock": 2 },
        { "code": "C", "price": 3 },
        { "id": p.skus[0].id, "code": "a-renamed", "price": 1, "stock": 8 },
        { "price": 4 },
    ] });
    let after = f.shop.acting_as(me()).products().replace(p.id, v(1), &from(&put)).await.unwrap();
    let seen: Vec<(&str, i64, i64)> =
        after.skus.iter().map(|s| (s.code.as_str(), s.price.minor(), s.on_hand)).collect();
    assert_eq!(seen, [("new", 900, 2), ("C", 300, 5), ("a-renamed", 100, 8), ("p", 400, 0)]);
    assert_eq!((after.skus[1].id, after.skus[2].id), (p.skus[2].id, p.skus[0].id));
    assert_eq!(f.fresh(p.id).await, after, "the call must return the stored product");
    let gone = f.shop.skus().get(p.skus[1].id, IncludeDeleted::Yes).await.unwrap();
    assert!(!gone.audit.is_live(), "a PUT must delete SKUs that it does not list");
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
    let named = json!({ "title": "P", "skus": [{ "id": after.skus[1].id, "price": 3 }] });
    let one = f.shop.acting_as(me()).products().replace(p.id, v(2), &from(&named)).await.unwrap();
    assert_eq!((one.skus.len(), one.skus[0].code.as_str()), (1, "C"), "a PUT without a code must keep the code");
    f.index_is_in_step("after").await;
}

/// The library refuses the write before the database would fail.
pub async fn put_that_swaps_codes_is_refused_clearly(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "P", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let before = f.snapshot().await;
    let put = json!({ "title": "P", "skus": [
        { "id": p.skus[0].id, "code": "b", "price": 1 }, { "id": p.skus[1].id, "code": "a", "price": 2 },
    ] });
    let swapped = f.shop.acting_as(me()).products().replace(p.id, v(1), &from(&put)).await;
    assert_eq!(duplicate_field(swapped, "a swap"), "code");
    assert_eq!(f.snapshot().await, before);
}

/// The write removes the SKU that has the code.
pub async fn a_code_that_is_given_up_can_be_taken_in_the_same_write(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "P", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let put = json!({ "title": "P", "skus": [{ "id": p.skus[0].id, "code": "B", "price": 1 }] });
    let after = f.shop.acting_as(me()).products().replace(p.id, v(1), &from(&put)).await.unwrap();
    assert_eq!((after.skus[0].id, after.skus[0].code.as_str()), (p.skus[0].id, "B"));
    assert_eq!(f.shop.skus().get_by_code("b").await.unwrap().id, p.skus[0].id);
}

/// Null clears a field, objects are merged, arrays are replaced, and absent fields stay (RFC 7396).
pub async fn a_patch_merges(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f
        .product(json!({
            "title": "Lamp", "description": "d", "brand": "b", "tags": ["x", "y"], "price": 1, "discount_percentage": 10,
            "images": [{ "url": "/a" }, { "url": "/b" }], "category": "lamps", "warranty_information": "w",
            "attributes": { "keep": 1, "drop": 2, "deep": { "a": 1, "b": 2 }, "list": [1, 2] },
        }))
        .await;
    let patch = json!({
        "description": null, "tags": ["z"], "images": [{ "url": "/c" }],
        "attributes": { "drop": null, "deep": { "b": null, "c": 3 }, "list": [3] },
    });
    let p = f.patch(&p, patch).await.unwrap();
    assert_eq!((p.description.as_deref(), p.brand.as_deref()), (None, Some("b")));
    assert_eq!(p.tags, ["z"]);
    assert_eq!(p.images.len(), 1);
    assert!(p.images[0].primary, "if no image is primary, the first one must become primary");
    assert_eq!(Value::Object(p.attributes.0.clone()), json!({ "keep": 1, "deep": { "a": 1, "c": 3 }, "list": [3] }));
    assert_eq!((p.discount.hundredths(), p.categories.len()), (1_000, 1));
    assert_eq!((p.title.as_str(), p.slug.as_str()), ("Lamp", "lamp"));
    assert_eq!(f.fresh(p.id).await, p);
    let nulls = json!({
        "tags": null, "images": null, "attributes": null, "discount_percentage": null, "categories": null,
        "brand": null, "warranty_information": null,
    });
    let p = f.patch(&p, nulls).await.unwrap();
    assert!(p.tags.is_empty() && p.images.is_empty() && p.attributes.0.is_empty() && p.categories.is_empty());
    assert_eq!((p.discount.hundredths(), p.brand, p.warranty_information), (0, None, None));

    let input =
        json!({ "price": 1, "attributes": { "a": 1, "b": 2 }, "option_values": { "size": "M" }, "barcode": "1" });
    let sku = f.shop.acting_as(me()).skus().create(p.id, &from(&input)).await.unwrap();
    let patch = json!({ "attributes": { "a": null }, "option_values": { "color": "red" },
        "dimensions": { "width": 1, "height": 2, "depth": 3 }, "barcode": null });
    let sku = f.shop.acting_as(me()).skus().patch(sku.id, v(1), from(&patch)).await.unwrap();
    assert_eq!(Value::Object(sku.attributes.0.clone()), json!({ "b": 2 }));
    assert_eq!(
        sku.option_values.keys().collect::<Vec<_>>(),
        ["color", "size"],
        "a patch must merge objects (RFC 7396)"
    );
    assert_eq!(sku.barcode, None);
    let patch = json!({ "option_values": { "size": null }, "dimensions": { "depth": 4 } });
    let sku = f.shop.acting_as(me()).skus().patch(sku.id, v(2), from(&patch)).await.unwrap();
    assert_eq!(sku.option_values.keys().collect::<Vec<_>>(), ["color"]);
    let d = sku.dimensions.unwrap();
    let sides = [d.width.hundredths(), d.height.hundredths(), d.depth.hundredths()];
    assert_eq!(sides, [100, 200, 400]);
    let patch = from(&json!({ "attributes": { "a": 1 }, "description": "d" }));
    let c = f.shop.acting_as(me()).categories().patch(c.id, v(1), patch).await.unwrap();
    let patch = from(&json!({ "attributes": { "b": 2 }, "description": null }));
    let c = f.shop.acting_as(me()).categories().patch(c.id, v(2), patch).await.unwrap();
    assert_eq!(Value::Object(c.attributes.0.clone()), json!({ "a": 1, "b": 2 }));
    assert_eq!(c.description, None);
}

/// A PATCH and a PUT without a change do not increase the version, and write no event and no row of the ledger.
pub async fn an_unchanged_write_writes_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f.plain_in("Lamp", &[&c]).await;
    f.clock.advance(Duration::from_secs(1));
    let before = f.snapshot().await;
    let same = f.patch(&p, json!({ "title": "Lamp", "stock": 10, "price": "9.990", "sku": "lamp" })).await.unwrap();
    assert_eq!(same, p);
    f.patch(&p, json!({})).await.unwrap();
    let put = f.shop.acting_as(me()).products().replace(p.id, v(1), &flat_in("Lamp", &[&c])).await.unwrap();
    assert_eq!(put, p);
    let sku = f
        .shop
        .acting_as(me())
        .skus()
        .patch(p.skus[0].id, v(1), from(&json!({ "price": 9.99, "stock": 10 })))
        .await
        .unwrap();
    assert_eq!(sku, p.skus[0]);
    let same = f.shop.acting_as(me()).categories().patch(c.id, v(1), from(&json!({ "name": "Lamps" }))).await.unwrap();
    assert_eq!(same.audit.version, 1);
    f.shop.acting_as(me()).categories().replace(c.id, v(1), &category_input("Lamps", None)).await.unwrap();
    assert_eq!(f.snapshot().await, before);
}

/// Slugs are transliterated, and numbered if they are taken. UUIDs and reserved words are refused.
pub async fn slugs_are_made_numbered_and_refused(f: &ShopFixture) {
    for expected in ["creme-brulee", "creme-brulee-2", "creme-brulee-3"] {
        let p = f.plain("Crème brûlée").await;
        assert_eq!((p.slug.as_str(), p.skus[0].code.as_str()), (expected, expected));
    }
    for (title, expected) in [("Search", "search-product"), ("!!!", "product"), ("Ёлка", "iolka"), ("A/B & C", "a-b-c")]
    {
        assert_eq!(f.plain(title).await.slug.as_str(), expected, "the slug must be derived from the title: {title}");
    }
    let id = "0193b5a6-0000-7000-8000-000000000000";
    assert_eq!(f.plain(id).await.slug.as_str(), format!("{id}-product"));
    let long = f.plain(&"long ".repeat(50)).await;
    assert!(long.slug.as_str().len() <= 100);
    let also = f.plain(&"long ".repeat(50)).await;
    assert!(
        also.slug.as_str().len() <= 100 && also.slug.as_str().ends_with("-2"),
        "a numbered slug must have at most 100 characters: {}",
        also.slug
    );

    let p = f.plain("Lamp").await;
    let p = f.patch(&p, json!({ "title": "Light" })).await.unwrap();
    assert_eq!(p.slug.as_str(), "lamp", "a patch of the title must keep the slug");
    let p = f.patch(&p, json!({ "slug": null })).await.unwrap();
    assert_eq!(p.slug.as_str(), "light", "null must derive the slug from the title again");
    let p = f.patch(&p, json!({ "slug": "own" })).await.unwrap();
    let put = f.shop.acting_as(me()).products().replace(p.id, v(p.audit.version), &flat("Light")).await.unwrap();
    assert_eq!(put.slug.as_str(), "light");
    assert_eq!(f.category("Tree", None).await.slug.as_str(), "tree-category");
    let a = f.category("A", None).await;
    assert_eq!(
        f.category("Tree", Some(&a)).await.slug.as_str(),
        "tree-category-2",
        "slugs must be unique in the whole tree"
    );
}

/// The price of each SKU is rounded, and not their sum.
pub async fn prices_round_half_away_from_zero_per_sku(f: &ShopFixture) {
    for (price, discount, expected) in [
        ("9.99", "10.48", 894),
        ("0.01", "50", 1),
        ("0.03", "50", 2),
        ("0.05", "50", 3),
        ("0.01", "49.99", 1),
        ("0.01", "50.01", 0),
        ("100", "33.33", 6_667),
        ("19.99", "0", 1_999),
        ("19.99", "100", 0),
        ("1234567.89", "12.5", 108_024_690),
    ] {
        let p = f.product(json!({ "title": "P", "price": price, "discount_percentage": discount })).await;
        let stored = f.fresh(p.id).await;
        let shown = stored.skus[0].final_price(stored.discount);
        assert_eq!(shown.minor(), expected, "{price} less {discount} %");
        assert_eq!(stored.price_range(), Some((shown, shown)));
        let found = ProductFilter {
            min_price: Some(usd(expected)),
            max_price: Some(usd(expected)),
            ..ProductFilter::default()
        };
        assert!(f.listed(found).await.contains(&"P".to_owned()), "lists must filter by the price that products show");
        f.delete(&p, DeleteMode::Force).await.unwrap();
    }
}
