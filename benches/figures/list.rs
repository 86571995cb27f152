//! A page of 20 with category and price filter, sorted by price: the first and the last page by cursor, with 1,000 and
//! with 100,000 products.

use std::time::Instant;

use ecom::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom::paging::{Keyset, Paging};
use ecom::port::Storage as _;

use crate::support::{Bench, median, shop, usd};

pub async fn run() {
    println!("list: a page of 20 by category and price, sorted by price, from SQLite");
    let small = shop(1_000).await;
    let large = shop(100_000).await;
    let (small_last, small_count) = last_page(&small).await;
    let (large_last, large_count) = last_page(&large).await;
    println!("  ({small_count} and {large_count} products match)");
    let (mut depth, mut size_first, mut size_last, mut micros) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..9 {
        let sf = time(&small, None).await;
        let sl = time(&small, small_last.clone()).await;
        let lf = time(&large, None).await;
        let ll = time(&large, large_last.clone()).await;
        depth.push(ll / lf);
        size_first.push(lf / sf);
        size_last.push(ll / sl);
        micros.push(lf * 1e6);
    }
    println!("first page at 100,000: {:.0} µs", median(&mut micros));
    println!("last page against first, at 100,000: {:.2}; wanted at most 1.5", median(&mut depth));
    println!("100,000 against 1,000, first page: {:.2}; wanted at most 2", median(&mut size_first));
    println!("100,000 against 1,000, last page: {:.2}; wanted at most 2", median(&mut size_last));
}

fn filter(b: &Bench) -> ProductFilter {
    ProductFilter {
        category: Some(b.category),
        min_price: Some(usd(2_000)),
        max_price: Some(usd(90_000)),
        status: Some(ProductStatus::Active),
        ..ProductFilter::default()
    }
}

/// Returns the cursor of the last full page, and the number of matching products.
async fn last_page(b: &Bench) -> (Option<Keyset>, usize) {
    let (mut after, mut count) = (None, 0);
    let mut full = None;
    loop {
        let page = page(b, after.clone()).await;
        count += page.items.len();
        if page.items.len() == 20 {
            full = after.clone();
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return (full, count),
        }
    }
}

async fn page(b: &Bench, after: Option<Keyset>) -> ecom::paging::Page<ecom::catalog::Product> {
    let mut db = b.storage.connect().await.expect("a connection");
    let paging = Paging::Keyset { after, limit: 20 };
    db.products().list(&filter(b), ProductSort::PriceAsc, &paging).await.expect("a page")
}

/// Returns the seconds per page.
async fn time(b: &Bench, after: Option<Keyset>) -> f64 {
    const N: u32 = 200;
    let start = Instant::now();
    for _ in 0..N {
        std::hint::black_box(page(b, after.clone()).await);
    }
    start.elapsed().as_secs_f64() / f64::from(N)
}
