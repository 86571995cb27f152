//! The error for bad input names every invalid field, and nothing is written (R17).

use serde_json::{Value, json};
use uuid::Uuid;

use super::ShopFixture;
use super::support::{adjustment, category_input, fields, from, me, v};
use crate::access::{UserFilter, UserInput};
use crate::domain::catalog::category::CategoryInput;
use crate::domain::catalog::product::{ProductFilter, ProductInput, ProductSort};
use crate::domain::catalog::sku::SkuInput;
use crate::domain::common::{Attributes, IncludeDeleted};
use crate::domain::platform::audit_log::AuditLogFilter;
use crate::domain::search::query::{SearchFilter, SearchQuery};
use crate::domain::stock::inventory::StockAdjustment;
use crate::domain::stock::inventory::StockReason;
use crate::error::{Error, ErrorCode, FieldCode, Result};
use crate::id::SkuId;
use crate::paging::Paging;
use crate::sales::{
    AddressFilter, AddressInput, CartFilter, CartInput, CustomerFilter, CustomerInput, CustomerSort, DeliveryMethod,
    OrderFilter, OrderInput, OrderLineInput, OrderSort,
};
use crate::service::catalog::product::ProductListQuery;
use crate::testkit::code_of;
use crate::testkit::sample::usd;

tests! {
    __shop_input: [
        r17_bad_products_name_each_field_and_leave_nothing,
        r17_bad_skus_name_each_field_and_leave_nothing,
        r17_bad_categories_name_each_field_and_leave_nothing,
        r17_what_nothing_can_be_called_is_not_looked_up,
        r17_a_text_is_never_a_part_of_a_statement,
        r17_bad_adjustments_leave_nothing,
        r17_searches_out_of_bounds_are_refused_field_by_field,
    ]
}

/// Each case has the input, and exactly the fields that the error must name.
pub async fn r17_bad_products_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let huge = long(1_000_000);
    let mut attributes = Attributes::default();
    attributes.0.insert("k".to_owned(), Value::String(long(16 * 1024)));
    let many = |n: usize, value: Value| Value::Array(vec![value; n]);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (json!({ "title": "" }), vec!["title"]),
        (json!({ "title": "   " }), vec!["title"]),
        (json!({ "title": long(256) }), vec!["title"]),
        (json!({ "title": "bell \u{7}" }), vec!["title"]),
        (json!({ "slug": "" }), vec!["slug"]),
        (json!({ "slug": "No Slug" }), vec!["slug"]),
        (json!({ "slug": long(101) }), vec!["slug"]),
        (json!({ "slug": "search" }), vec!["slug"]),
        (json!({ "slug": "0193b5a6-0000-7000-8000-000000000000" }), vec!["slug"]),
        (json!({ "description": huge }), vec!["description"]),
        (json!({ "brand": long(101) }), vec!["brand"]),
        (
            json!({ "warranty_information": long(256), "shipping_information": long(256) }),
            vec!["shipping_information", "warranty_information"],
        ),
        (json!({ "tags": ["ok", "", long(51)] }), vec!["tags[1]", "tags[2]"]),
        (json!({ "tags": many(51, json!("t")) }), vec!["tags"]),
        (json!({ "images": [{ "url": "javascript:alert(1)" }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": "//evil.example/x" }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": format!("/{}", long(500)) }] }), vec!["images[0].url"]),
        (json!({ "images": [{ "url": "/a", "alt": long(256) }] }), vec!["images[0].alt"]),
        (json!({ "images": [{ "url": "/a", "width": 5 }] }), vec!["images[0].height"]),
        (
            json!({ "images": [{ "url": "/a", "width": 0, "height": 100_001 }] }),
            vec!["images[0].height", "images[0].width"],
        ),
        (json!({ "images": [{ "url": "/a", "primary": true }, { "url": "/b", "primary": true }] }), vec!["images"]),
        (json!({ "attributes": attributes.0 }), vec!["attributes"]),
        (json!({ "attributes": { "a": "\u{0}" } }), vec!["attributes"]),
        (json!({ "discount_percentage": "100.01" }), vec!["discount_percentage"]),
        (json!({ "discount_percentage": -1 }), vec!["discount_percentage"]),
        (json!({ "discount_percentage": "1.001" }), vec!["discount_percentage"]),
        (json!({ "price": -1 }), vec!["price"]),
        (json!({ "price": "99.999" }), vec!["price"]),
        (json!({ "price": "1e25" }), vec!["price"]),
        (json!({ "stock": -1 }), vec!["stock"]),
        (json!({ "stock": i64::MAX }), vec!["stock"]),
        (json!({ "track_stock": false, "stock": 4 }), vec!["stock"]),
        (json!({ "track_stock": false, "stock": -1 }), vec!["stock"]),
        (json!({ "low_stock_threshold": -1 }), vec!["low_stock_threshold"]),
        (json!({ "sku": "" }), vec!["sku"]),
        (json!({ "sku": long(101) }), vec!["sku"]),
        (json!({ "barcode": long(101) }), vec!["barcode"]),
        (json!({ "weight": "1.234" }), vec!["weight"]),
        (
            json!({ "dimensions": { "width": -1, "height": 1, "depth": "0.001" } }),
            vec!["dimensions.depth", "dimensions.width"],
        ),
        (json!({ "source": "erp" }), vec!["external_id"]),
        (json!({ "external_id": "1" }), vec!["source"]),
        (json!({ "category": "a", "categories": ["b"] }), vec!["category"]),
        (json!({ "category": "nowhere" }), vec!["categories[0]"]),
        (json!({ "categories": ["nowhere", Uuid::from_u128(5).to_string()] }), vec!["categories[0]", "categories[1]"]),
        (json!({ "currency": "EURO" }), vec!["currency"]),
        (
            json!({ "title": "", "price": -1, "stock": -1, "brand": long(101) }),
            vec!["brand", "price", "stock", "title"],
        ),
    ];
    for (bad, expected) in cases {
        let mut input = json!({ "title": "Good", "price": 1 });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let shown: String = bad.to_string().chars().take(200).collect();
        let input: ProductInput = from(&input);
        let named = fields(f.shop.acting_as(me()).products().create(&input).await, &shown);
        assert_eq!(
            named.keys().map(String::as_str).collect::<Vec<_>>(),
            expected,
            "the error must name exactly the invalid fields: {shown}"
        );
        let named = fields(f.shop.acting_as(me()).products().replace(p.id, v(1), &input).await, &shown);
        assert_eq!(named.keys().map(String::as_str).collect::<Vec<_>>(), expected, "PUT {shown}");
    }
    let no_price: ProductInput = from(&json!({ "title": "Good" }));
    let named = fields(f.shop.acting_as(me()).products().create(&no_price).await, "no price");
    assert_eq!(named.get("price"), Some(&FieldCode::Required), "a create without a price must be refused: {named:?}");
    for (patch, expected) in [
        (json!({ "title": null }), "title"),
        (json!({ "status": null }), "status"),
        (json!({ "price": null }), "price"),
        (json!({ "stock": null }), "stock"),
        (json!({ "track_stock": null }), "track_stock"),
        (json!({ "track_stock": false, "stock": 4 }), "stock"),
        (json!({ "sku": null }), "sku"),
        (json!({ "skus": null }), "skus"),
        (json!({ "skus": [] }), "skus"),
        (json!({ "title": "" }), "title"),
        (json!({ "price": "0.001" }), "price"),
        (json!({ "category": "nowhere" }), "categories[0]"),
    ] {
        let result = f.shop.acting_as(me()).products().patch(p.id, v(1), from(&patch)).await;
        let named = fields(result, &patch.to_string());
        // The error may name the field of the only SKU in place of the flat field.
        let expected_sku = format!("skus[0].{expected}");
        assert!(named.contains_key(expected) || named.contains_key(&expected_sku), "{patch}: {named:?}");
        assert_eq!(named.len(), 1, "{patch}: {named:?}");
    }
    assert_eq!(f.snapshot().await, before);
}

/// Writes the SKUs in a product and individually.
pub async fn r17_bad_skus_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    let options: Value = (0..11).map(|n| (format!("o{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        (json!({ "price": -1 }), "price"),
        (json!({ "price": "0.001" }), "price"),
        (json!({ "code": "" }), "code"),
        (json!({ "code": long(101) }), "code"),
        (json!({ "option_values": options }), "option_values"),
        (json!({ "option_values": { "size": long(101) } }), "option_values.size"),
        (json!({ "attributes": { "k": long(17_000) } }), "attributes"),
        (json!({ "weight": -1 }), "weight"),
        (json!({ "dimensions": { "width": 1, "height": -1, "depth": 1 } }), "dimensions.height"),
        (json!({ "stock": -1 }), "stock"),
        (json!({ "track_stock": false, "stock": 4 }), "stock"),
        (json!({ "low_stock_threshold": -1 }), "low_stock_threshold"),
        (json!({ "barcode": long(101) }), "barcode"),
    ];
    for (bad, field) in cases {
        let what = format!("{field} of a SKU");
        let mut input = json!({ "price": 1 });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let alone: SkuInput = from(&input);
        let skus = f.shop.acting_as(me()).skus();
        for result in [
            skus.create(p.id, &alone).await,
            skus.replace(sku, v(1), &alone).await,
            skus.patch(sku, v(1), from(&bad)).await,
        ] {
            let named = fields(result, &what);
            assert_eq!(
                named.keys().collect::<Vec<_>>(),
                [field],
                "the error must name exactly the invalid field: {what}"
            );
        }
        let both: ProductInput = from(&json!({ "title": "Two", "skus": [{ "price": 1 }, input] }));
        for result in [
            f.shop.acting_as(me()).products().create(&both).await,
            f.shop.acting_as(me()).products().replace(p.id, v(1), &both).await,
        ] {
            let named = fields(result, &what);
            assert_eq!(named.keys().cloned().collect::<Vec<_>>(), [format!("skus[1].{field}")], "{what}");
        }
    }
    let products: [(Value, &str); 5] = [
        (json!({ "skus": [{ "price": 1, "code": "a" }, { "price": 1, "code": "A" }] }), "skus[1].code"),
        (json!({ "skus": [] }), "skus"),
        (json!({ "skus": vec![json!({ "price": 1 }); 201] }), "skus"),
        (json!({ "skus": [{ "price": 1 }], "price": 1 }), "price"),
        (json!({ "skus": [{ "price": 1 }, {}] }), "skus[1].price"),
    ];
    for (bad, field) in products {
        let mut input = bad.clone();
        input["title"] = json!("Two");
        let named = fields(f.shop.acting_as(me()).products().create(&from(&input)).await, field);
        assert!(named.contains_key(field), "{named:?}");
    }
    let foreign: ProductInput = from(&json!({ "title": "P", "skus": [{ "id": Uuid::from_u128(3), "price": 1 }] }));
    let named =
        fields(f.shop.acting_as(me()).products().replace(p.id, v(1), &foreign).await, "an id of another product");
    assert_eq!(named.get("skus[0].id"), Some(&FieldCode::ReferenceNotFound));
    for field in ["code", "price", "stock", "track_stock", "low_stock_threshold"] {
        let patch = from(&json!({ field: null }));
        let named = fields(f.shop.acting_as(me()).skus().patch(sku, v(1), patch).await, field);
        assert_eq!(named.get(field), Some(&FieldCode::Required));
    }
    assert_eq!(f.snapshot().await, before);
}

/// Uses create, PUT and PATCH.
pub async fn r17_bad_categories_name_each_field_and_leave_nothing(f: &ShopFixture) {
    let c = f.category("Lamps", None).await;
    let before = f.snapshot().await;
    let long = |n: usize| "x".repeat(n);
    for (bad, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": long(101) }), "name"),
        (json!({ "name": "a\u{0}b" }), "name"),
        (json!({ "slug": "Not a slug" }), "slug"),
        (json!({ "slug": "tree" }), "slug"),
        (json!({ "description": long(5_001) }), "description"),
        (json!({ "attributes": { "k": long(17_000) } }), "attributes"),
        (json!({ "parent_id": "nowhere" }), "parent_id"),
        (json!({ "parent_id": Uuid::from_u128(4).to_string() }), "parent_id"),
        (json!({ "parent_id": "wrong/lamps" }), "parent_id"),
    ] {
        let mut input = json!({ "name": "Good" });
        for (k, value) in bad.as_object().unwrap() {
            input[k] = value.clone();
        }
        let input: CategoryInput = from(&input);
        let categories = f.shop.acting_as(me()).categories();
        for result in [
            categories.create(&input).await,
            categories.replace(c.id, v(1), &input).await,
            categories.patch(c.id, v(1), from(&bad)).await,
        ] {
            let named = fields(result, field);
            assert_eq!(named.keys().collect::<Vec<_>>(), [field]);
        }
    }
    let half = CategoryInput { source: Some("erp".to_owned()), ..category_input("Good", None) };
    assert!(
        fields(f.shop.acting_as(me()).categories().create(&half).await, "half a reference").contains_key("external_id")
    );
    let named =
        fields(f.shop.acting_as(me()).categories().patch(c.id, v(1), from(&json!({ "name": null }))).await, "null");
    assert_eq!(named.get("name"), Some(&FieldCode::Required));
    assert_eq!(f.snapshot().await, before);
}

/// A name that no row can have is not found on any database, and does not make a database fail.
pub async fn r17_what_nothing_can_be_called_is_not_looked_up(f: &ShopFixture) {
    f.plain("Lamp").await;
    for name in ["la\0mp", "\0", "", "LAMP", &"x".repeat(100_000)] {
        let shown: String = name.chars().take(10).collect();
        assert_eq!(code_of(f.shop.products().get_by_slug(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.categories().get_by_slug(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.categories().resolve(name).await, &shown), ErrorCode::NotFound);
        assert_eq!(code_of(f.shop.skus().get_by_code(&format!("{name}?")).await, &shown), ErrorCode::NotFound);
        assert_eq!(f.shop.skus().find_by_barcode(name).await.unwrap(), []);
        let statements = f.storage.statements();
        if name != "LAMP" && !name.is_empty() {
            let brand = ProductFilter { brand: Some(name.to_owned()), ..ProductFilter::default() };
            let tag = ProductFilter { tag: Some(name.to_owned()), ..ProductFilter::default() };
            for filter in [brand, tag] {
                let query =
                    ProductListQuery { filter: filter.clone(), sort: ProductSort::TitleAsc, paging: Paging::first(5) };
                let refused = f.shop.products().list(&query).await;
                assert_eq!(code_of(refused, &shown), ErrorCode::Validation);
                assert_eq!(code_of(f.shop.products().filters(&filter).await, &shown), ErrorCode::Validation);
            }
            assert_eq!(
                f.storage.statements(),
                statements,
                "{shown}: the name must be refused before any statement is sent to the database"
            );
        }
    }
}

/// A text with the syntax of SQL or of a pattern is stored and compared as it is.
pub async fn r17_a_text_is_never_a_part_of_a_statement(f: &ShopFixture) {
    let staff = f.shop.acting_as(me());
    let quoted = "Rob'); DROP TABLE customers; -- 100%_\\";
    let input = CustomerInput::new(quoted, quoted, "o'brien@example.com");
    let customer = staff.customers().create(&input).await.unwrap();
    staff.addresses().create(customer.id, &AddressInput::new(quoted, quoted)).await.unwrap();
    let product = json!({ "title": quoted, "brand": quoted, "tags": ["clock'; --"], "price": 1, "stock": 9 });
    let product = f.product(product).await;
    let line = OrderLineInput::new(product.skus[0].id, 1, product.skus[0].price.amount());
    staff.orders().place(&OrderInput::new(customer.id, DeliveryMethod::OnHand).line(line)).await.unwrap();
    let cart = CartInput { email: Some("o'brien@example.com".to_owned()), ..CartInput::default() };
    staff.carts().create(&cart).await.unwrap();
    staff.users().create(&UserInput::new("o'brien@example.com")).await.unwrap();
    let before = f.snapshot().await;
    let page = Paging::first(10);
    // How many rows each list has for a text; none if the text is refused.
    let found = async |text: &str| {
        let (some, shop) = (|| Some(text.to_owned()), &staff);
        let mut counts = Vec::new();
        let mut count = |what: &str, outcome: Result<usize>| match outcome {
            Ok(n) => counts.push(n),
            Err(Error::Validation(_) | Error::NotFound { .. }) => counts.push(0),
            Err(other) => panic!("{what} {text}: {other:?}"),
        };
        let filter = CustomerFilter { name: some(), ..CustomerFilter::default() };
        let customers = shop.customers().list(&filter, CustomerSort::NameAsc, &page).await;
        count("customers by name", customers.map(|(page, _)| page.items.len()));
        let filter = CustomerFilter { email: some(), ..CustomerFilter::default() };
        let customers = shop.customers().list(&filter, CustomerSort::NameAsc, &page).await;
        count("customers by email", customers.map(|(page, _)| page.items.len()));
        for filter in [
            AddressFilter { city: some(), ..AddressFilter::default() },
            AddressFilter { street: some(), ..AddressFilter::default() },
        ] {
            let addresses = shop.addresses().list(&filter, &page).await;
            count("addresses", addresses.map(|(page, _)| page.items.len()));
        }
        for filter in [
            ProductFilter { brand: some(), ..ProductFilter::default() },
            ProductFilter { tag: some(), ..ProductFilter::default() },
        ] {
            let query = ProductListQuery { filter, sort: ProductSort::TitleAsc, paging: page.clone() };
            count("products", shop.products().list(&query).await.map(|found| found.page.items.len()));
        }
        count("products by slug", shop.products().get_by_slug(text).await.map(|_| 1));
        count("SKUs by code", shop.skus().get_by_code(text).await.map(|_| 1));
        count("SKUs by barcode", shop.skus().find_by_barcode(text).await.map(|found| found.len()));
        let filter = OrderFilter { email: some(), ..OrderFilter::default() };
        let orders = shop.orders().list(&filter, OrderSort::PlacedAsc, &page).await;
        count("orders by email", orders.map(|(page, _)| page.items.len()));
        count("orders by number", shop.orders().get_by_number(text, IncludeDeleted::Yes).await.map(|_| 1));
        count("bills by number", shop.bills().get_by_number(text, IncludeDeleted::Yes).await.map(|_| 1));
        let filter = CartFilter { email: some(), ..CartFilter::default() };
        count("carts by email", shop.carts().list(&filter, &page).await.map(|(page, _)| page.items.len()));
        let filter = UserFilter { email: some(), ..UserFilter::default() };
        count("users by email", shop.users().list(&filter, &page).await.map(|(page, _)| page.items.len()));
        for filter in [
            AuditLogFilter { actor: some(), ..AuditLogFilter::default() },
            AuditLogFilter { entity: some(), ..AuditLogFilter::default() },
            AuditLogFilter { action: some(), ..AuditLogFilter::default() },
        ] {
            let entries = shop.audit_log().list(&filter, &page).await;
            count("audit log", entries.map(|(page, _)| page.items.len()));
        }
        counts
    };
    let by_name = [1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(found(quoted).await, by_name);
    let by_email = [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0];
    assert_eq!(found("o'brien@example.com").await, by_email);
    let by_tag = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(found("clock'; --").await, by_tag);
    for text in [
        "' OR '1'='1",
        "x' OR 1=1 --",
        "') OR 1=1 --",
        "\\' OR 1=1 --",
        "\" OR \"\"=\"",
        "x'; DELETE FROM customers; --",
        "x' UNION SELECT * FROM users --",
        "$1",
        "?",
        "%",
        "_ob%",
        "rob[^a]",
        "*",
    ] {
        assert_eq!(found(text).await, [0; 17], "{text}");
    }
    assert_eq!(f.snapshot().await, before);
}

/// A bad adjustment in a batch fails without the others.
pub async fn r17_bad_adjustments_leave_nothing(f: &ShopFixture) {
    let p = f.plain("Lamp").await;
    let sku = p.skus[0].id;
    let before = f.snapshot().await;
    let adjust = async |a: StockAdjustment| f.shop.acting_as(me()).inventory().adjust(a).await;
    for delta in [0, i64::MIN, i64::MAX, 1_000_000_000_001, 1_000_000_000_000] {
        assert!(
            fields(adjust(adjustment(sku, delta)).await, "delta").contains_key("delta"),
            "an adjustment by {delta} must be refused in the field `delta`"
        );
    }
    let initial = StockAdjustment { reason: StockReason::Initial, ..adjustment(sku, 1) };
    assert!(fields(adjust(initial).await, "reason").contains_key("reason"));
    for reference in [String::new(), "x".repeat(256), "a\u{0}".to_owned()] {
        let bad = StockAdjustment { reference: Some(reference), ..adjustment(sku, 1) };
        assert!(fields(adjust(bad).await, "reference").contains_key("reference"));
    }
    assert_eq!(code_of(adjust(adjustment(sku, -11)).await, "too many"), ErrorCode::InsufficientStock);
    assert_eq!(f.snapshot().await, before);
    let mixed =
        [adjustment(sku, -11), adjustment(sku, -4), adjustment(SkuId(Uuid::from_u128(1)), 1), adjustment(sku, -6)];
    let results = futures::future::join_all(mixed.map(adjust)).await;
    let worked: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [false, true, false, true], "{results:?}");
    assert_eq!(f.shop.inventory().level(sku).await.unwrap().on_hand, 0);
    assert_eq!(f.shop.inventory().imbalances().await.unwrap(), []);
}

/// The service refuses them before it calls the provider. A test of the port covers each bound.
pub async fn r17_searches_out_of_bounds_are_refused_field_by_field(f: &ShopFixture) {
    let filter = SearchFilter { min_price: Some(usd(2)), max_price: Some(usd(1)), ..SearchFilter::default() };
    let query = SearchQuery { offset: 10_001, limit: 0, filter, ..SearchQuery::default() };
    let refused = fields(f.shop.search().search(&query).await.map(drop), "a search out of bounds");
    let names: Vec<&str> = refused.keys().map(String::as_str).collect();
    assert_eq!(names, ["filter.min_price", "limit", "offset"], "the error must name every field that is out of bounds");
}
