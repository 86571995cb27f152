//! A shop in an application without HTTP and without JSON, with only `ecom` and `tokio` as dependencies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecom::access::{Permission, Principal};
use ecom::catalog::{
    CategoryInput, ImageInput, ProductFilter, ProductInput, ProductListQuery, ProductPatch, ProductSort, SkuInput,
};
use ecom::common::{DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use ecom::money::{Currency, Money};
use ecom::paging::Paging;
use ecom::platform::{Consumer, Event, EventKind, OutboxPosition};
use ecom::sales::{AddressInput, CustomerInput};
use ecom::search::SearchQuery;
use ecom::stock::{StockAdjustment, StockConflict, StockReason};
use ecom::{BoxError, Conflict, Error, ErrorCode, Shop, ShopBuilder, ShopConfig};

type Failure = Box<dyn std::error::Error>;

async fn shop() -> Result<Shop, Failure> {
    Ok(ShopBuilder::new().database("sqlite::memory:").search("tantivy::memory:").build().await?)
}

fn usd(text: &str) -> Money {
    format!("{text} USD").parse().expect("an amount")
}

#[tokio::test]
async fn a_catalog_is_made_listed_searched_and_edited() -> Result<(), Failure> {
    let shop = shop().await?;
    let background = shop.start();

    let tea = shop.categories().create(&CategoryInput::new("Tea")).await?;
    let green = CategoryInput::new("Green tea").under(tea.id).description("Steamed or roasted in a pan");
    let green = shop.categories().create(&green).await?;
    let sencha = ProductInput::new("Sencha Yabukita")
        .in_category(&green.path)
        .tagged("loose leaf")
        .brand("Yabukita")
        .discount_percentage(10)
        .attribute("harvest", 2026)
        .with_image(ImageInput::new("/images/sencha.jpg").alt("A tin of tea"))
        .with_sku(SkuInput::new(usd("6.90")).code("TEA-50").option("size", "50 g").stock(40))
        .with_sku(SkuInput::new(usd("12.50")).code("TEA-100").option("size", "100 g").stock(25));
    let sencha = shop.products().create(&sencha).await?;
    assert_eq!(sencha.price_range(), Some((usd("6.21"), usd("11.25"))));

    // A lookup derefs to the product.
    assert_eq!(shop.products().get(sencha.id).await?.slug.as_str(), "sencha-yabukita");
    let filter = ProductFilter {
        category: Some(tea.id),
        min_price: Some(usd("6")),
        max_price: Some(usd("7")),
        ..ProductFilter::default()
    };
    let query = ProductListQuery { filter, sort: ProductSort::PriceAsc, ..ProductListQuery::default() };
    let found = shop.products().list(&query).await?;
    assert_eq!(found.page.items.iter().map(|product| product.id).collect::<Vec<_>>(), [sencha.id]);

    shop.index().catch_up().await?;
    let query = SearchQuery { text: "senca".to_owned(), ..SearchQuery::default() };
    assert_eq!(shop.search().search(&query).await?.products[0].id, sencha.id);

    // The version in an input counts, and the one in the call must agree with it.
    let mut patch = ProductPatch { brand: Patch::Set("Chagusaba".to_owned()), ..ProductPatch::default() };
    patch.version = Some(sencha.audit.version);
    let edited = shop.products().patch(sencha.id, ExpectedVersion::Unspecified, patch.clone()).await?;
    let stale = shop.products().patch(sencha.id, ExpectedVersion::Unspecified, patch.clone()).await;
    assert_eq!(stale.expect_err("a stale version").code(), ErrorCode::VersionConflict);
    let torn = shop.products().patch(sencha.id, edited.audit.version.into(), patch).await;
    assert!(torn.expect_err("two versions").to_string().contains("version"));

    shop.products().delete(sencha.id, edited.audit.version.into(), DeleteMode::Soft).await?;
    assert!(shop.products().get(sencha.id).await.is_err());
    assert!(shop.products().get_fresh(sencha.id, IncludeDeleted::Yes).await?.audit.deleted_at.is_some());

    background.shutdown().await;
    shop.close().await;
    assert_eq!(shop.products().get(sencha.id).await.expect_err("closed").code(), ErrorCode::Unavailable);
    Ok(())
}

#[tokio::test]
async fn a_shortage_says_what_is_short() -> Result<(), Failure> {
    let shop = shop().await?;
    let pen = shop.products().create(&ProductInput::new("Pen").price(usd("2")).stock(3)).await?;
    let sku = pen.skus[0].id;
    match shop.inventory().adjust(StockAdjustment::new(sku, -5, StockReason::Damaged)).await {
        Err(Error::Conflict(conflict)) => match *conflict {
            Conflict::Stock(StockConflict::Insufficient { shortages }) => {
                assert_eq!((shortages[0].requested, shortages[0].available), (5, 3));
            }
            other => return Err(other.into()),
        },
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn a_principal_does_what_it_may_and_is_recorded() -> Result<(), Failure> {
    let shop = shop().await?;
    let clerk = Principal::new("user:7", [Permission::CustomersRead, Permission::CustomersWrite]);
    let desk = shop.acting_as(&clerk);
    let ada = desk.customers().create(&CustomerInput::new("Ada", "Lovelace", "ada@example.com")).await?;
    assert_eq!(ada.audit.created_by.as_str(), "user:7");
    let home = AddressInput::new("St James's Square", "London").number("12").country("GB");
    desk.addresses().create(ada.id, &home).await?;

    let refused = desk.products().create(&ProductInput::new("Pen").price(usd("2"))).await.expect_err("no permission");
    assert_eq!(refused.code(), ErrorCode::Forbidden);
    assert!(refused.to_string().contains("products:write"), "{refused}");
    let hidden = desk.customers().get(ada.id, IncludeDeleted::Yes).await.expect_err("no permission");
    assert_eq!(hidden.code(), ErrorCode::Forbidden);
    Ok(())
}

#[tokio::test]
async fn several_writes_happen_together_or_not_at_all() -> Result<(), Failure> {
    let shop = shop().await?;
    let mut tx = shop.begin().await?;
    let tea = shop.categories().create_in(&mut tx, &CategoryInput::new("Tea")).await?;
    drop(tx);
    assert!(shop.categories().get(tea.id).await.is_err());

    let mut tx = shop.begin().await?;
    let tea = shop.categories().create_in(&mut tx, &CategoryInput::new("Tea")).await?;
    let mate = ProductInput::new("Mate").price(usd("3.50")).in_category(tea.id);
    let mate = shop.products().create_in(&mut tx, &mate).await?;
    tx.commit().await?.run().await;
    assert_eq!(shop.products().get(mate.id).await?.categories[0].id, tea.id);
    Ok(())
}

/// Keeps the events that it receives.
#[derive(Debug, Default)]
struct Ledger(Mutex<Vec<String>>);

#[ecom::async_trait]
impl Consumer for Ledger {
    fn name(&self) -> &str {
        "ledger"
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        let mut lines = self.0.lock().map_err(|e| e.to_string())?;
        for (_, event) in batch {
            for s in event.stock_changes() {
                lines.push(format!("{:+} {} {}", s.delta, s.reason.as_str(), s.reference.unwrap_or_default()));
            }
            for p in event.price_changes() {
                lines.push(format!("{} to {}", p.old_final, p.new_final));
            }
            if event.kind == EventKind::ProductDeleted {
                lines.push(format!("deleted by {}", event.actor.as_str()));
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_consumer_learns_what_happened() -> Result<(), Failure> {
    let shop = shop().await?;
    let mut background = shop.start();
    let ledger = Arc::new(Ledger::default());
    background.consume(ledger.clone())?;

    let pen = shop.products().create(&ProductInput::new("Pen").price(usd("2")).stock(3)).await?;
    let returned = StockAdjustment::new(pen.skus[0].id, 2, StockReason::Returned).reference("RMA 7");
    shop.inventory().adjust(returned).await?;
    let cheaper = ProductInput::new("Pen").price(usd("1.50")).version(1);
    shop.products().replace(pen.id, ExpectedVersion::Unspecified, &cheaper).await?;
    let boss = Principal::trusted("user:boss");
    shop.acting_as(&boss).products().delete(pen.id, 2.into(), DeleteMode::Soft).await?;

    let wanted = ["+3 initial ", "+2 returned RMA 7", "2.00 USD to 1.50 USD", "deleted by user:boss"];
    for _ in 0..600 {
        if ledger.0.lock().expect("the lines").len() >= wanted.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(*ledger.0.lock().expect("the lines"), wanted);
    shop.close().await;
    Ok(())
}

#[tokio::test]
async fn a_shop_without_search_and_in_another_currency() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let config = ShopConfig::default().currency(Currency::EUR).last_write_wins(true);
    let url = format!("sqlite://{}", directory.path().join("shop.db").display());
    let shop = ShopBuilder::new().database(url).search("none").cache("none").config(config).build().await?;

    let dollars = shop.products().create(&ProductInput::new("Pen").price(usd("2"))).await.expect_err("not in euros");
    assert_eq!(dollars.code(), ErrorCode::CurrencyMismatch);
    let filter = ProductFilter { max_price: Some(usd("2")), ..ProductFilter::default() };
    let listed = shop.products().list(&ProductListQuery { filter, ..ProductListQuery::default() }).await;
    assert_eq!(listed.expect_err("not in euros").code(), ErrorCode::CurrencyMismatch);
    let searched = shop.search().search(&SearchQuery::default()).await;
    assert_eq!(searched.expect_err("no search").code(), ErrorCode::Unsupported);
    shop.close().await;
    Ok(())
}

/// The builder's errors name the method that was called, and explain what to do.
#[tokio::test]
async fn bad_settings_are_named_as_the_caller_knows_them() {
    let message = |error: Error| error.to_string();
    let nothing = message(ShopBuilder::new().build().await.expect_err("nothing is chosen"));
    assert!(nothing.contains("database") && nothing.contains("with_search"), "{nothing}");
    let twice = ShopBuilder::new().database("sqlite::memory:").database("sqlite::memory:").search("none");
    let twice = message(twice.build().await.expect_err("two databases"));
    assert!(twice.contains("only once"), "{twice}");
    let absent = ShopBuilder::new().database("postgres://localhost/shop").search("none");
    let absent = message(absent.build().await.expect_err("not compiled in"));
    assert!(absent.contains("turn on the feature `postgres`"), "{absent}");
    let config = ShopConfig::default().poll_interval(Duration::from_nanos(500));
    let unit = ShopBuilder::new().database("sqlite::memory:").search("none").config(config);
    let unit = message(unit.build().await.expect_err("another unit"));
    assert!(unit.contains("poll_interval") && unit.contains("10 ms"), "{unit}");
}

/// Bounds in the wrong order and limits of 0 are refused, instead of matching nothing.
#[tokio::test]
async fn bad_queries_are_refused_by_field() -> Result<(), Failure> {
    let shop = shop().await?;
    let filter = ProductFilter { min_price: Some(usd("9")), max_price: Some(usd("1")), ..ProductFilter::default() };
    let descending = shop.products().list(&ProductListQuery { filter, ..ProductListQuery::default() }).await;
    assert!(descending.expect_err("descending").to_string().contains("min_price"));
    let none = ProductListQuery { paging: Paging::first(0), ..ProductListQuery::default() };
    assert!(shop.products().list(&none).await.expect_err("no rows").to_string().contains("limit"));
    let none = SearchQuery { limit: 0, ..SearchQuery::default() };
    assert!(shop.search().search(&none).await.expect_err("no hits").to_string().contains("limit"));
    Ok(())
}
