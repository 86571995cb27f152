//! The library in an application without HTTP. Run it with `cargo run --example embed` or, on a database server and a
//! search server, with `cargo run --example embed --features postgres,mysql,elasticsearch --
//! postgres://localhost/shop 'elasticsearch+http://localhost?index=example'`. Databases differ in the URL only, and so do
//! search engines. At the end, the example deletes the product and the category. It can only soft-delete
//! them, because the product was sold.

use std::sync::Arc;

use ecom::access::Principal;
use ecom::catalog::{CategoryInput, ProductInput, SkuInput};
use ecom::common::{DeleteMode, ExpectedVersion, IncludeDeleted};
use ecom::platform::{Consumer, Event, OutboxPosition};
use ecom::sales::{CartAccess, CartInput, CartLineInput, CheckoutInput, DeliveryMethod, GuestInput};
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
    let mut urls = std::env::args().skip(1);
    let database = urls.next().unwrap_or_else(|| "sqlite::memory:".to_owned());
    let search = urls.next().unwrap_or_else(|| "tantivy::memory:".to_owned());
    let shop = ShopBuilder::new().database(database).search(search).build().await?;
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

    // A shopper without an account needs no permission: the token opens the cart.
    let shopper = Principal::new("guest", []);
    let browser = shop.acting_as(&shopper);
    let guest = browser.carts().create(&CartInput::default()).await?;
    let access = CartAccess::from(guest.token.ok_or("a guest's cart has a token")?);
    let (cart, sku) = (guest.cart.cart.id, &sencha.skus[0]);
    // The price that the shopper sees. If it is not the current one, the call fails.
    let two = CartLineInput::new(sku.id, 2, sku.final_price(sencha.discount));
    let filled = browser.carts().add_line(cart, &access, ExpectedVersion::Unspecified, &two).await?;
    println!("in the cart: {}", filled.subtotal.ok_or("a sum that is too large")?);

    let checkout =
        CheckoutInput::for_guest(GuestInput::new("Ada", "Lovelace", "ada@example.com"), DeliveryMethod::OnHand);
    let order = browser.orders().checkout(cart, &access, &checkout).await?;
    let left = desk.inventory().level(sku.id).await?.available();
    println!("{} order over {}, {left} left", order.status.as_str(), order.totals.total);

    let order = desk.orders().cancel(order.id).await?;
    let left = desk.inventory().level(sku.id).await?.available();
    println!("{} order, {left} left", order.status.as_str());
    let due = desk.orders().explain(order.id, IncludeDeleted::No).await?.amounts.pop().ok_or("no amount")?;
    println!("due: {} ({})", due.amount, due.formula);

    desk.products().delete(sencha.id, sencha.audit.version.into(), DeleteMode::Soft).await?;
    desk.categories().delete(tea.id, tea.audit.version.into(), DeleteMode::Soft).await?;
    shop.close().await;
    Ok(())
}
