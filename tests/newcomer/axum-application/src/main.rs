//! Serves the site on 127.0.0.1:3000.

use axum_application::{nested, shop};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let shop = shop().await?;
    let _background = shop.start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, nested(shop)).await?;
    Ok(())
}
