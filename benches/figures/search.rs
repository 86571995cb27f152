//! Searches over 100,000 products through the shop: the median time of each kind of query, and the time to build the
//! index and to index one batch.

use std::time::Instant;

use ecom::search::{Facet, SearchFilter, SearchQuery};

use crate::support::usd;
use crate::support::{median, shop};

pub async fn run() {
    println!("search: 100,000 products, Tantivy in memory");
    let b = shop(100_000).await;
    let start = Instant::now();
    let built = b.shop.index().rebuild().await.expect("an index");
    println!("rebuild: {} documents in {:.1?}", built.written, start.elapsed());
    let start = Instant::now();
    let followed = b.shop.index().catch_up().await.expect("in step");
    println!("following {} events: {:.1?}", followed.events, start.elapsed());
    let all = |text: &str| SearchQuery {
        text: text.to_owned(),
        limit: 20,
        facets: Facet::ALL.to_vec(),
        ..SearchQuery::default()
    };
    let narrow =
        SearchFilter { brands: vec!["brand 3".to_owned()], max_price: Some(usd(30_000)), ..SearchFilter::default() };
    for (what, query) in [
        ("everything, all facets", all("")),
        ("all match, all facets", all("measured")),
        ("filtered, all facets", SearchQuery { filter: narrow, ..all("measured") }),
        ("a typo, all facets", all("mesaured prodcut")),
        ("a number, no facets", SearchQuery { facets: Vec::new(), ..all("product 4711") }),
        ("deep page", SearchQuery { facets: Vec::new(), offset: 10_000, ..all("measured") }),
    ] {
        let mut times = Vec::new();
        let mut total = 0;
        for _ in 0..11 {
            let start = Instant::now();
            total = b.shop.search().search(&query).await.expect("results").total.count;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("{what}: {total} match, {:.1} ms", median(&mut times));
    }
}
