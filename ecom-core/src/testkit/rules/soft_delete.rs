//! A soft delete hides products, SKUs and categories, and a restore shows them again (R2).

use std::time::Duration;

use serde_json::json;

use super::ShopFixture;
use super::support::{category_input, from, me, v};
use crate::domain::catalog::category::CategoryFilter;
use crate::domain::catalog::product::ProductFilter;
use crate::domain::common::{DeleteMode, IncludeDeleted};
use crate::domain::search::query::SearchFilter;
use crate::error::ErrorCode;
use crate::paging::{Paging, Total};
use crate::testkit::{code_of, duplicate_field};

tests! {
    __shop_soft_delete: [
        r02_soft_deleted_rows_are_hidden_unless_asked,
        r02_a_restore_brings_back_what_went_with_the_product,
        r02_skus_and_categories_are_restored,
        r02_slugs_names_and_codes_are_free_again,
        r02_a_restore_conflicts_where_its_names_are_taken,
        r02_a_restore_under_what_is_deleted_says_so,
    ]
}

/// Reads products, SKUs and categories by id, slug, code, list, tree and search.
pub async fn r02_soft_deleted_rows_are_hidden_unless_asked(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let p = f.plain("Desk lamp").await;
    let other = f.plain("Floor lamp").await;
    let sku = p.skus[0].clone();
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    f.index_is_in_step("after the deletes").await;

    let products = f.shop.acting_as(me()).products();
    assert_eq!(code_of(products.get(p.id).await, "by id"), ErrorCode::NotFound);
    assert_eq!(code_of(products.get_by_slug("desk-lamp").await, "by slug"), ErrorCode::NotFound);
    assert_eq!(code_of(products.get_fresh(p.id, IncludeDeleted::No).await, "fresh"), ErrorCode::NotFound);
    assert_eq!(f.listed(ProductFilter::default()).await, ["Floor lamp"]);
    assert_eq!(f.searched("lamp", SearchFilter::default()).await, ["Floor lamp"]);
    assert_eq!(products.get_many(&[p.id, other.id]).await.unwrap().len(), 1);
    assert_eq!(code_of(f.shop.skus().get(sku.id, IncludeDeleted::No).await, "a SKU"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.skus().get_by_code(&sku.code).await, "by code"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.skus().of_product(p.id, IncludeDeleted::No).await, "of product"), ErrorCode::NotFound);
    assert_eq!(code_of(f.adjust(sku.id, 1).await, "stock"), ErrorCode::NotFound);
    assert_eq!(code_of(f.patch(&f.fresh(p.id).await, json!({ "brand": "x" })).await, "patch"), ErrorCode::NotFound);
    assert_eq!(code_of(f.delete(&f.fresh(p.id).await, DeleteMode::Soft).await, "twice"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.categories().get(c.id).await, "a category"), ErrorCode::NotFound);
    assert_eq!(code_of(f.shop.categories().resolve("lamps").await, "by slug"), ErrorCode::NotFound);
    assert!(f.shop.categories().tree().await.unwrap().value.is_empty());

    let all = ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() };
    assert_eq!(f.listed(all).await, ["Desk lamp", "Floor lamp"]);
    assert!(f.fresh(p.id).await.audit.deleted_at.is_some());
    assert_eq!(f.shop.skus().of_product(p.id, IncludeDeleted::Yes).await.unwrap().len(), 1);
    assert!(!f.shop.skus().get(sku.id, IncludeDeleted::Yes).await.unwrap().audit.is_live());
    assert!(!f.fresh_category(c.id).await.audit.is_live());
    let listed = |deleted| CategoryFilter { parent: None, include_deleted: deleted };
    let page = Paging::Offset { offset: 0, limit: 10 };
    let hidden = f.shop.categories().list(&listed(IncludeDeleted::No), &page).await.unwrap().value;
    assert_eq!((hidden.page.items.len(), hidden.total), (0, Some(Total { count: 0, exact: true })));
    let with_deleted = f.shop.categories().list(&listed(IncludeDeleted::Yes), &page).await.unwrap().value;
    assert_eq!(with_deleted.page.items.len(), 1);
}

/// A SKU that was deleted before its product stays deleted.
pub async fn r02_a_restore_brings_back_what_went_with_the_product(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let input = json!({ "title": "Lamp", "category": "lamps", "skus": [
        { "code": "a", "price": 1, "stock": 1 }, { "code": "b", "price": 2, "stock": 2 }, { "code": "c", "price": 3 },
    ] });
    let p = f.product(input).await;
    f.clock.advance(Duration::from_secs(1));
    f.shop.acting_as(me()).skus().delete(p.skus[1].id, v(1), DeleteMode::Soft).await.unwrap();
    f.clock.advance(Duration::from_secs(1));
    let p = f.fresh(p.id).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.fresh_category(c.id).await.product_count, 0);
    let gone = f.fresh(p.id).await;
    f.clock.advance(Duration::from_secs(1));

    let back = f.shop.acting_as(me()).products().restore(p.id, v(gone.audit.version)).await.unwrap();
    assert_eq!(back.skus.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(back, f.fresh(p.id).await, "the call must return the stored product");
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, back);
    assert_eq!(back.skus[0].on_hand, 1, "a restore must keep the stock");
    assert!(back.revision > gone.revision && back.audit.version > gone.audit.version);
    assert_eq!(f.fresh_category(c.id).await.product_count, 1);
    let again = f.shop.acting_as(me()).products().restore(p.id, v(back.audit.version)).await;
    assert_eq!(code_of(again, "a live product"), ErrorCode::StateConflict);
    f.index_is_in_step("after the restore").await;
    assert_eq!(f.searched("lamp", SearchFilter::default()).await, ["Lamp"]);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// SKUs and categories are deleted and restored individually.
pub async fn r02_skus_and_categories_are_restored(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 2 }] })).await;
    let skus = f.shop.acting_as(me()).skus();
    skus.delete(p.skus[0].id, v(1), DeleteMode::Soft).await.unwrap();
    assert_eq!(f.fresh(p.id).await.skus.len(), 1);
    let last = skus.delete(p.skus[1].id, v(1), DeleteMode::Soft).await;
    assert_eq!(code_of(last, "the last SKU of a product"), ErrorCode::StateConflict);
    let back = skus.restore(p.skus[0].id, v(2)).await.unwrap();
    assert_eq!(back.audit.version, 3);
    let now = f.fresh(p.id).await;
    assert_eq!(
        now.skus.iter().map(|s| s.code.as_str()).collect::<Vec<_>>(),
        ["a", "b"],
        "a restored SKU must have its old position"
    );
    assert_eq!(**f.shop.products().get(p.id).await.unwrap().value, now);
    assert_eq!(code_of(skus.restore(back.id, v(3)).await, "a live SKU"), ErrorCode::StateConflict);

    let c = f.category("Lamps", None).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    let back = f.shop.acting_as(me()).categories().restore(c.id, v(2)).await.unwrap();
    assert_eq!((back.audit.version, back.path.as_str()), (3, "lamps"));
    assert_eq!(**f.shop.categories().get(c.id).await.unwrap().value, back);
    let again = f.shop.acting_as(me()).categories().restore(c.id, v(3)).await;
    assert_eq!(code_of(again, "a live category"), ErrorCode::StateConflict);
}

/// Other rows can use the slug, name and code of a soft-deleted row.
pub async fn r02_slugs_names_and_codes_are_free_again(f: &ShopFixture) {
    let input = json!({ "title": "Lamp", "slug": "lamp", "skus": [{ "code": "L-1", "price": 1 }] });
    let first = f.product(input.clone()).await;
    let taken = f.shop.acting_as(me()).products().create(&from(&input)).await;
    assert_eq!(duplicate_field(taken, "a live slug"), "slug");
    let code = json!({ "title": "Lamp", "skus": [{ "code": "l-1", "price": 1 }] });
    assert_eq!(duplicate_field(f.shop.acting_as(me()).products().create(&from(&code)).await, "a live code"), "code");
    f.delete(&first, DeleteMode::Soft).await.unwrap();
    let second = f.product(input).await;
    assert_eq!((second.slug.as_str(), second.skus[0].code.as_str()), ("lamp", "L-1"));

    let c = f.category("Lamps", None).await;
    let taken = f.shop.acting_as(me()).categories().create(&category_input("LAMPS", None)).await;
    assert_eq!(duplicate_field(taken, "a live name"), "name");
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.category("LAMPS", None).await.slug.as_str(), "lamps");
}

/// A refused restore restores nothing.
pub async fn r02_a_restore_conflicts_where_its_names_are_taken(f: &ShopFixture) {
    let p =
        f.product(json!({ "title": "Lamp", "skus": [{ "code": "a", "price": 1 }, { "code": "b", "price": 1 }] })).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    let other = f.product(json!({ "title": "Other", "slug": "lamp", "skus": [{ "code": "B", "price": 1 }] })).await;
    let c = f.category("Lamps", None).await;
    f.delete_category(c.id, DeleteMode::Soft).await.unwrap();
    let named = f.category("Lamps", None).await;
    let before = f.snapshot().await;
    assert_eq!(duplicate_field(f.shop.acting_as(me()).products().restore(p.id, v(2)).await, "slug"), "slug");
    assert_eq!(duplicate_field(f.shop.acting_as(me()).categories().restore(c.id, v(2)).await, "slug"), "slug");
    assert_eq!(f.snapshot().await, before);

    let other = f.patch(&other, json!({ "slug": "other" })).await.unwrap();
    let patch = from(&json!({ "slug": "other-lamps" }));
    f.shop.acting_as(me()).categories().patch(named.id, v(1), patch).await.unwrap();
    let before = f.snapshot().await;
    assert_eq!(duplicate_field(f.shop.acting_as(me()).products().restore(p.id, v(2)).await, "code"), "code");
    assert_eq!(duplicate_field(f.shop.acting_as(me()).categories().restore(c.id, v(2)).await, "name"), "name");
    assert_eq!(f.snapshot().await, before);

    f.delete(&other, DeleteMode::Soft).await.unwrap();
    assert_eq!(f.shop.acting_as(me()).products().restore(p.id, v(2)).await.unwrap().skus.len(), 2);
    let q =
        f.product(json!({ "title": "Q", "skus": [{ "code": "c", "price": 1 }, { "code": "d", "price": 1 }] })).await;
    f.shop.acting_as(me()).skus().delete(q.skus[0].id, v(1), DeleteMode::Soft).await.unwrap();
    f.product(json!({ "title": "R", "sku": "C", "price": 1 })).await;
    assert_eq!(duplicate_field(f.shop.acting_as(me()).skus().restore(q.skus[0].id, v(2)).await, "a SKU"), "code");
}

/// Restores a SKU of a deleted product, a child of a deleted category, and a product in a deleted category.
pub async fn r02_a_restore_under_what_is_deleted_says_so(f: &ShopFixture) {
    let (parent, other) = (f.category("Lamps", None).await, f.category("Gifts", None).await);
    let child = f.category("Desk lamps", Some(&parent)).await;
    let p = f.plain_in("Lamp", &[&child, &other]).await;
    f.delete(&p, DeleteMode::Soft).await.unwrap();
    f.delete_category(child.id, DeleteMode::Soft).await.unwrap();
    f.delete_category(parent.id, DeleteMode::Soft).await.unwrap();
    let before = f.snapshot().await;
    let sku = f.shop.acting_as(me()).skus().restore(p.skus[0].id, v(2)).await;
    assert_eq!(code_of(sku, "a SKU of a deleted product"), ErrorCode::StateConflict);
    let category = f.shop.acting_as(me()).categories().restore(child.id, v(2)).await;
    assert_eq!(code_of(category, "a child of a deleted category"), ErrorCode::StateConflict);
    let product = f.shop.acting_as(me()).products().restore(p.id, v(2)).await;
    assert_eq!(code_of(product, "a product in a deleted category"), ErrorCode::StateConflict);
    assert_eq!(f.snapshot().await, before);
    f.shop.acting_as(me()).categories().restore(parent.id, v(2)).await.unwrap();
    f.shop.acting_as(me()).categories().restore(child.id, v(2)).await.unwrap();
    let back = f.shop.acting_as(me()).products().restore(p.id, v(2)).await.unwrap();
    assert_eq!(back.categories.len(), 2);
    f.patch(&back, json!({ "brand": "x" })).await.unwrap();
}
