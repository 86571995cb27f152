//! The library in an app with no HTTP: `cargo run --example embed`, or on a database of yours
//! `cargo run --example embed --features postgres,mysql -- postgres://localhost/shop`. The database is a URL: nothing
//! else changes between SQLite, PostgreSQL and MySQL or MariaDB. What it makes it removes again.

use ecom::catalog::{CategoryInput, ProductInput};
use ecom::common::{Actor, DeleteMode, Read};
use ecom::search::SearchQuery;
use ecom::stock::StockAdjustment;
use ecom::stock::StockReason;
use ecom::{ShopBuilder, id::SkuId};
use serde_json::{from_value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let database = std::env::args().nth(1).unwrap_or_else(|| "sqlite::memory:".to_owned());
    let shop = ShopBuilder::new().database(database).search("tantivy::memory:").build().await?;
    let me = Actor::new("embed");

    let tea: CategoryInput = from_value(json!({ "name": "Tea" }))?;
    let tea = shop.categories().create(&tea, &me).await?;
    let sencha: ProductInput = from_value(json!({
        "title": "Sencha Yabukita", "categories": [tea.slug], "discount_percentage": 10,
        "skus": [
            { "code": "TEA-50", "price": "6.90", "stock": 40, "option_values": { "size": "50 g" } },
            { "code": "TEA-100", "price": "12.50", "stock": 25, "option_values": { "size": "100 g" } },
        ],
    }))?;
    let sencha = shop.products().create(&sencha, &me).await?;

    let sku_id: SkuId = sencha.skus[0].id;
    let (reason, reference) = (StockReason::Damaged, Some("wet box".to_owned()));
    let adjusted =
        shop.inventory().adjust(StockAdjustment { sku_id, delta: -3, reason, reference, actor: me.clone() }).await?;
    println!("{} left of {}", adjusted.level.available(), sencha.skus[0].code);

    shop.index().catch_up().await?;
    let query = SearchQuery { text: "senca".to_owned(), limit: 10, ..SearchQuery::default() };
    for product in &shop.search().search(&query).await?.products {
        let (from, to) = product.price_range().ok_or("a product without SKUs")?;
        println!("{}: {} to {} {}", product.title, from.amount(), to.amount(), from.currency());
    }

    shop.products().delete(sencha.id, Read::Version(sencha.audit.version), DeleteMode::Force, &me).await?;
    shop.categories().delete(tea.id, Read::Version(tea.audit.version), DeleteMode::Force, &me).await?;
    Ok(())
}
