//! The suites of the ports, one line each, and a shop on both adapters.

use std::sync::Arc;

use adapter::{ListSearch, MapCache};
use ecom::catalog::ProductInput;
use ecom::clock::{ManualClock, SystemClock};
use ecom::search::{SearchQuery, SearchSort};
use ecom::testkit::{CacheFixture, SearchFixture};
use ecom::{ErrorCode, ShopBuilder};

async fn search() -> SearchFixture {
    SearchFixture::new(ListSearch::default(), ()).in_memory()
}

mod search_suite {
    ecom::search_suite!(crate::search);
}

async fn cache() -> CacheFixture {
    let clock = Arc::new(ManualClock::at_micros(1_800_000_000_000_000));
    CacheFixture::new(MapCache::new(clock.clone()), move |time| clock.advance(time))
}

mod cache_suite {
    ecom::cache_suite!(crate::cache);
}

#[tokio::test]
async fn a_shop_runs_on_them() -> Result<(), Box<dyn std::error::Error>> {
    let shop = ShopBuilder::new()
        .database("sqlite::memory:")
        .with_search(Arc::new(ListSearch::default()))
        .with_cache(Arc::new(MapCache::new(Arc::new(SystemClock))))
        .build()
        .await?;
    for (title, price) in [("Pen", "2 USD"), ("Ink", "1 USD")] {
        shop.products().create(&ProductInput::new(title).price(price.parse()?)).await?;
    }
    shop.index().catch_up().await?;
    let cheapest = SearchQuery { sort: SearchSort::PriceAsc, ..SearchQuery::default() };
    let found = shop.search().search(&cheapest).await?.products;
    assert_eq!(found.iter().map(|p| p.title.as_str()).collect::<Vec<_>>(), ["Ink", "Pen"]);
    let pen = SearchQuery { text: "pen".to_owned(), ..SearchQuery::default() };
    assert_eq!(shop.search().search(&pen).await.map(drop).map_err(|e| e.code()), Err(ErrorCode::Unsupported));
    shop.close().await;
    Ok(())
}
