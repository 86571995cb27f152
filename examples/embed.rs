//! The library in an application without HTTP. Run it with `cargo run --example embed` or, on a database server, with
//! `cargo run --example embed --features postgres,mysql -- postgres://localhost/shop`. SQLite, PostgreSQL, MySQL and
//! MariaDB differ in the URL only. The example removes what it creates.

use std::sync::Arc;

use ecom::access::Principal;
use ecom::catalog::{CategoryInput, ProductInput, SkuInput};
use ecom::common::DeleteMode;
use ecom::platform::{Consumer, Event, OutboxPosition};
use ecom::search::SearchQuery;
use ecom::stock::{StockAdjustment, StockReason};
use ecom::{BoxError, ShopBuilder};

/// Prints every movement of stock.
#[derive(Debug)]
struct StockRoom;

#[ecom::async_trait]
impl Consumer for StockRoom {
    fn name(&self) -> &'static str {
        "stock-room"
    }

    async fn handle(&self, batch: &[(OutboxPosition, Event)]) -> Result<(), BoxError> {
        for change in batch.iter().flat_map(|(_, event)| event.stock_changes()) {
            println!("stock room: {:+} of SKU {} ({})", change.delta, change.sku_id, change.reason.as_str());
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = std::env::args().nth(1).unwrap_or_else(|| "sqlite::memory:".to_owned());
    let shop = ShopBuilder::new().database(database).search("tantivy::memory:").build().await?;
    let mut background = shop.start();
    background.consume(Arc::new(StockRoom))?;

    // Every row and event records its author. `shop.products()` would act as `system`.
    let clerk = Principal::trusted("user:1");
    let desk = shop.acting_as(&clerk);

    let tea = desk.categories().create(&CategoryInput::new("Tea")).await?;
    let sencha = ProductInput::new("Sencha Yabukita")
        .in_category(&tea.slug)
        .discount_percentage(10)
        .with_sku(SkuInput::new("6.90 USD".parse()?).code("TEA-50").option("size", "50 g").stock(40))
        .with_sku(SkuInput::new("12.50 USD".parse()?).code("TEA-100").option("size", "100 g").stock(25));
    let sencha = desk.products().create(&sencha).await?;

    let wet = StockAdjustment::new(sencha.skus[0].id, -3, StockReason::Damaged).reference("wet box");
    let adjusted = desk.inventory().adjust(wet).await?;
    println!("{} left of {}", adjusted.level.available(), sencha.skus[0].code);

    // The background work does this continuously; the example waits for it once.
    shop.index().catch_up().await?;
    let query = SearchQuery { text: "senca".to_owned(), ..SearchQuery::default() };
    for product in &shop.search().search(&query).await?.products {
        let (from, to) = product.price_range().ok_or("a product without SKUs")?;
        println!("{}: {} to {}", product.title, from, to);
    }

    desk.products().delete(sencha.id, sencha.audit.version.into(), DeleteMode::Force).await?;
    desk.categories().delete(tea.id, tea.audit.version.into(), DeleteMode::Force).await?;
    shop.close().await;
    Ok(())
}
