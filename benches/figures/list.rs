//! A page of 20 with category and price filter, sorted by price: the first and the last page by cursor, with 1,000 and
//! with 100,000 products.

use std::hint::black_box;
use std::time::Instant;

use ecom::catalog::{ProductFilter, ProductSort, ProductStatus};
use ecom::paging::{Keyset, Paging};
use ecom::port::Storage as _;

use crate::plain::{self, Columns};
use crate::support::{Bench, median, pair, shop, usd};

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
    stored(&large).await;
}

/// Measures the first page of the shop against rusqlite on the calling thread.
async fn stored(b: &Bench) {
    const N: usize = 2_000;
    let filter = filter(b);
    let paging = Paging::Keyset { after: None, limit: 20 };
    let text = b.storage.list_text(&filter, ProductSort::PriceAsc, &paging).expect("a statement");
    let conn = plain::open(b);
    let columns = Columns::of(&conn.prepare(&text).expect("a statement"));
    let category = b.category.0.as_bytes().as_slice();
    pair(
        "a page of 20 from SQLite, against rusqlite with the same statement",
        "0.7",
        7,
        async || {
            let start = Instant::now();
            for _ in 0..N {
                black_box(page(b, None).await);
            }
            (N as u64, start.elapsed())
        },
        async || {
            let start = Instant::now();
            for _ in 0..N {
                // One product more than the page has tells whether there is a next page. Each has two SKUs.
                let rows = plain::read(&conn, &text, &columns, (category, 2_000, 90_000));
                assert_eq!(black_box(rows).len(), 42);
            }
            (N as u64, start.elapsed())
        },
    )
    .await;
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
        black_box(page(b, after.clone()).await);
    }
    start.elapsed().as_secs_f64() / f64::from(N)
}
