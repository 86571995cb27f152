//! A search provider of an application: a list in memory, which filters, sorts and pages, and has no full text. Run it
//! with `cargo run --example search_provider`.
//!
//! `list.rs` is written from the documentation of [`ecom::port::SearchProvider`] alone. `tests/newcomer/adapter` runs
//! the suite of the port on it, with one line.

mod list;

use std::sync::Arc;

use ecom::catalog::ProductInput;
use ecom::search::{SearchFilter, SearchQuery, SearchSort};
use ecom::{ErrorCode, ShopBuilder};

use self::list::ListSearch;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let search = Arc::new(ListSearch::default());
    let shop = ShopBuilder::new().database("sqlite::memory:").with_search(search).build().await?;
    for (title, price) in [("Fountain pen", "24 USD"), ("Ink", "9 USD"), ("Paper", "5 USD")] {
        shop.products().create(&ProductInput::new(title).price(price.parse()?)).await?;
    }
    // The background work does this continuously; the example waits for it once.
    shop.index().catch_up().await?;

    let filter = SearchFilter { max_price: Some("10 USD".parse()?), ..SearchFilter::default() };
    let cheapest = SearchQuery { filter, sort: SearchSort::PriceAsc, ..SearchQuery::default() };
    let found = shop.search().search(&cheapest).await?;
    let titles: Vec<&str> = found.products.iter().map(|product| product.title.as_str()).collect();
    println!("at most 10 USD: {}", titles.join(", "));

    // The provider says what it lacks, and the shop refuses such a search.
    let text = SearchQuery { text: "pen".to_owned(), ..SearchQuery::default() };
    match shop.search().search(&text).await {
        Err(error) if error.code() == ErrorCode::Unsupported => println!("a search by text: {error}"),
        other => return Err(format!("a search by text must be refused, not {other:?}").into()),
    }
    shop.close().await;
    Ok(())
}
