//! Many shops in one process: a shop for each customer of a platform, opened by its name when it is needed.
//!
//! `cargo run --example shops` uses files. On a server, the URL of the database is for example
//! `postgres://shop@localhost/shops?schema={shop}`, and all shops share its connections.

use std::error::Error;

use ecom::catalog::ProductInput;
use ecom::{ShopBuilder, Shops, ShopsLimits};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let at = directory.path().display().to_string();
    let shops = Shops::new(ShopsLimits::default().max_open(2), move |_name| {
        ShopBuilder::new()
            .database(format!("sqlite://{at}/{{shop}}/shop.db"))
            .search(format!("tantivy://{at}/{{shop}}/index"))
    })?;
    // Indices follow the database, and expired rows are removed, also in shops that are closed.
    let background = shops.start();

    for (name, title) in [("acme", "Anvil"), ("globex", "Orb"), ("initech", "Stapler")] {
        let shop = shops.create(name).await?;
        shop.products().create(&ProductInput::new(title).price("19.90 USD".parse()?).stock(10)).await?;
    }
    // At most two of the three are open at a time.
    for name in shops.names() {
        let shop = shops.get(name.as_str()).await?;
        let products = shop.products().list(&ecom::catalog::ProductListQuery::default()).await?;
        let titles: Vec<&str> = products.page.items.iter().map(|product| product.title.as_str()).collect();
        println!("{name}: {}", titles.join(", "));
    }

    background.shutdown().await;
    shops.close().await;
    Ok(())
}
