//! The first import of 100,000 products of one SKU each into an empty shop on SQLite, with their index in a directory,
//! and the same import again, which finds that nothing has changed.

use std::io::{Cursor, Write as _};
use std::sync::Arc;
use std::time::Instant;

use ecom::adapters::{SqlStorage, SqliteOptions, TantivyOptions, TantivySearch};
use ecom::catalog::ImportOptions;
use ecom::money::Currency;
use ecom::port::Storage as _;
use ecom::{Shop, ShopParts};

use crate::support::{median, rounds};

const PRODUCTS: usize = 100_000;

pub async fn run() {
    println!("import: {PRODUCTS} products with their index into an empty shop");
    let file = records(PRODUCTS);
    let (mut all, mut rows, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(3) {
        let dir = tempfile::tempdir().expect("a folder");
        let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
        let storage = Arc::new(storage);
        storage.migrate(Currency::USD).await.expect("a schema");
        let search = TantivySearch::open(TantivyOptions::directory(dir.path().join("index"))).await.expect("an index");
        let shop = Shop::new(ShopParts::new(storage, Arc::new(search))).expect("a shop");
        let start = Instant::now();
        import(&shop, &file, |r| (r.inserted, r.rejected)).await;
        rows.push(rate(start));
        shop.index().catch_up().await.expect("in step");
        all.push(rate(start));
        let start = Instant::now();
        import(&shop, &file, |r| (r.unchanged, r.rejected)).await;
        again.push(rate(start));
    }
    println!("first import with its index: {:.0}/s; wanted 10000/s", median(&mut all));
    println!("  the rows alone: {:.0}/s", median(&mut rows));
    println!("the same again, unchanged: {:.0}/s", median(&mut again));
}

async fn import(shop: &Shop, file: &Arc<[u8]>, counts: impl Fn(&ecom::catalog::ImportReport) -> (u64, u64)) {
    let options = ImportOptions::default().source("bench");
    let report = shop.import().products(Cursor::new(file.clone()), options, |_| ()).await.expect("an import");
    assert_eq!(counts(&report), (PRODUCTS as u64, 0), "{report:?}");
}

fn rate(start: Instant) -> f64 {
    PRODUCTS as f64 / start.elapsed().as_secs_f64()
}

/// Returns `n` products of one SKU each, as lines of JSON.
pub fn records(n: usize) -> Arc<[u8]> {
    let mut file = Vec::new();
    for i in 0..n {
        // The values are spread without a random source, so that every run measures the same.
        let spread = i.wrapping_mul(2_654_435_761) % 100_000;
        let record = serde_json::json!({
            "external_id": i.to_string(),
            "title": format!("Imported product {i}"),
            "description": "A product that stands for the usual ones: two sentences of text. This is the second.",
            "brand": format!("Brand {}", i % 50),
            "categories": [format!("hall-{}/aisle-{}", i % 4, i % 20)],
            "tags": [format!("tag-{}", i % 30), "measured"],
            "images": [{"url": format!("/images/{i}.webp"), "alt": "The product from the front"}],
            "sku": format!("I-{i}"),
            "price": format!("{}.{:02}", 5 + spread / 100, spread % 100),
            "stock": spread,
        });
        writeln!(file, "{record}").expect("in memory");
    }
    file.into()
}
