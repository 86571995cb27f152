//! Every error has its code, and its message contains no SQL (R16).

use std::collections::HashSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::support::{category_input, fields, from, me, v};
use crate::domain::catalog::product::{ProductInput, ProductPatch};
use crate::domain::common::{DeleteMode, ExpectedVersion};
use crate::error::{ErrorCode, FieldCode};
use crate::id::{ProductId, SkuId};

tests! {
    __shop_errors: [
        r16_every_error_has_its_code_and_shows_no_sql,
    ]
}

/// Messages contain the values of the request, and never the names of tables or columns.
pub async fn r16_every_error_has_its_code_and_shows_no_sql(f: &ShopFixture) {
    let a = f.category("A", None).await;
    let b = f.category("B", Some(&a)).await;
    let p = f.plain_in("P", &[&b]).await;
    let two =
        f.product(json!({ "title": "Two", "skus": [{ "code": "x", "price": 1 }, { "code": "y", "price": 1 }] })).await;
    let untracked = f.product(json!({ "title": "Gift card", "price": 1, "track_stock": false })).await;
    let nobody = ProductId(Uuid::from_u128(9));
    let create = async |input: Value| f.shop.acting_as(me()).products().create(&from(&input)).await.map(drop);
    let external = json!({ "title": "E", "price": 1, "source": "s", "external_id": "1" });
    create(external.clone()).await.unwrap();
    let cases = [
        (f.shop.products().get(nobody).await.map(drop), ErrorCode::NotFound),
        (f.shop.products().get_by_slug("'; DROP TABLE products --").await.map(drop), ErrorCode::NotFound),
        (f.shop.skus().get_by_code("none").await.map(drop), ErrorCode::NotFound),
        (f.shop.categories().resolve("none").await.map(drop), ErrorCode::NotFound),
        (f.adjust(SkuId(Uuid::from_u128(9)), 1).await.map(drop), ErrorCode::NotFound),
        (f.patch(&two, json!({ "price": 5 })).await.map(drop), ErrorCode::FlatWriteRefused),
        (
            f.shop.acting_as(me()).products().patch(p.id, v(9), ProductPatch::default()).await.map(drop),
            ErrorCode::VersionConflict,
        ),
        (
            f.shop
                .acting_as(me())
                .products()
                .patch(p.id, ExpectedVersion::Unspecified, ProductPatch::default())
                .await
                .map(drop),
            ErrorCode::VersionRequired,
        ),
        (create(json!({ "title": "P", "slug": "p", "price": 1 })).await, ErrorCode::Duplicate),
        (create(json!({ "title": "P", "sku": "X", "price": 1 })).await, ErrorCode::Duplicate),
        (create(external).await, ErrorCode::Duplicate),
        (create(json!({ "title": "P", "price": 1, "currency": "EUR" })).await, ErrorCode::CurrencyMismatch),
        (create(json!({ "title": "P", "price": -1 })).await, ErrorCode::Validation),
        (create(json!({ "title": "P", "price": 1, "category": "none" })).await, ErrorCode::Validation),
        (f.move_category(a.id, Some(b.id)).await.map(drop), ErrorCode::CategoryCycle),
        (f.delete_category(a.id, DeleteMode::Soft).await, ErrorCode::CategoryNotEmpty),
        (f.shop.acting_as(me()).categories().create(&category_input("a", None)).await.map(drop), ErrorCode::Duplicate),
        (f.adjust(p.skus[0].id, -99).await.map(drop), ErrorCode::InsufficientStock),
        (f.adjust(untracked.skus[0].id, 1).await.map(drop), ErrorCode::StockNotTracked),
        (f.shop.acting_as(me()).products().restore(p.id, v(1)).await.map(drop), ErrorCode::StateConflict),
    ];
    for (result, code) in cases {
        let error = result.expect_err(code.as_str());
        assert_eq!(error.code(), code, "{error:?}");
        assert!(
            !error.is_retryable() && !error.outcome_unknown(),
            "an error of the caller must not be retryable: {error:?}"
        );
        let message = error.to_string();
        assert!(!message.is_empty());
        let quoted = message.contains("DROP TABLE");
        for word in ["SELECT", "INSERT", "UPDATE", "sqlite", "SQL", "constraint", "UNIQUE", "products.", "/tmp"] {
            assert!(
                quoted || !message.contains(word),
                "a message must not contain SQL or names of the schema: {message}"
            );
        }
    }
    let missing: ProductInput = from(&json!({ "title": "P", "price": 1, "categories": ["a", "none"] }));
    let named = fields(f.shop.acting_as(me()).products().create(&missing).await, "a reference");
    assert_eq!(named.get("categories[1]"), Some(&FieldCode::ReferenceNotFound), "{named:?}");
    let mut seen = HashSet::new();
    assert!(ErrorCode::ALL.iter().all(|c| seen.insert(c.as_str()) && !c.meaning().is_empty()));
}
