//! The indexes that an import in bulk drops, and creates again at its end or at the start of the next process.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};

use ecom_core::catalog::{
    Document, EndedEarly, ImportKind, ImportOptions, ImportReport, ProductFilter, RecordSource, SourceRecord,
};
use ecom_core::clock::ManualClock;
use ecom_core::money::Currency;
use ecom_core::platform::Pass;
use ecom_core::port::*;
use ecom_core::{Shop, ShopParts};

use crate::support::{TestResult, at, category, file, product, raw, rows, write_categories, write_products};

const INDEXES: &str = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name";
const DEFERRED: &str = "SELECT name, definition FROM deferred_indexes ORDER BY name";
/// How many indexes an import in bulk drops.
const DROPPED: usize = 15;

#[tokio::test]
async fn deferred_indexes_come_back_as_they_were() -> TestResult {
    let (dir, s) = file().await;
    let office = category("Office", None);
    write_categories(&s, std::slice::from_ref(&office)).await?;
    write_products(&s, &[product("Pen", &[&office], 100, 1)]).await?;
    let before = rows(&dir, INDEXES).await?;
    for _ in 0..2 {
        s.defer_indexes().await?;
        let (kept, dropped) = (rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?);
        assert_eq!((dropped.len(), kept.len()), (DROPPED, before.len() - DROPPED));
        let all: BTreeSet<_> = kept.iter().chain(&dropped).collect();
        assert_eq!(all, before.iter().collect(), "what is dropped is recorded as it was");
        assert!(dropped.iter().all(|(_, sql)| sql.starts_with("CREATE INDEX ")), "{dropped:?}");
    }
    // Meanwhile, everything works as before.
    write_products(&s, &[product("Ink", &[&office], 200, 2)]).await?;
    let all = ProductFilter { category: Some(office.id), ..ProductFilter::default() };
    assert_eq!(s.connect().await?.products().count(&all, 10).await?.count, 2);
    for _ in 0..2 {
        s.restore_indexes().await?;
        assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before.clone(), Vec::new()));
    }
    assert_eq!(rows(&dir, "SELECT integrity_check, '' FROM pragma_integrity_check").await?[0].0, "ok");
    let sorted_in = ["temp_store", "cache_size"].map(|name| s.pragma(name, true));
    assert_eq!(futures::future::try_join_all(sorted_in).await?, ["2", "-16384"], "the connection is as it was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_restore_deferred_indexes() -> TestResult {
    let (dir, s) = file().await;
    let products: Vec<_> = (0..500).map(|n| product(&format!("Pen {n}"), &[], n, 1)).collect();
    write_products(&s, &products).await?;
    let before = rows(&dir, INDEXES).await?;
    s.defer_indexes().await?;
    s.close().await;
    let starts = (0..4).map(|_| {
        let s = at(&dir);
        tokio::spawn(async move { s.migrate(Currency::USD).await })
    });
    for start in starts.collect::<Vec<_>>() {
        start.await??;
    }
    assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before, Vec::new()));
    Ok(())
}

/// A migration that is not applied yet finds all indexes, and one that somebody has created by hand stays.
#[tokio::test]
async fn migrations_find_deferred_indexes() -> TestResult {
    let (dir, s) = file().await;
    let before = rows(&dir, INDEXES).await?;
    s.defer_indexes().await?;
    s.close().await;
    raw(&dir, "CREATE INDEX skus_barcode ON skus (barcode, id) WHERE barcode IS NOT NULL").await?;
    raw(&dir, "DROP TABLE live_tickets").await?;
    raw(&dir, "DELETE FROM ecom_migrations WHERE version = 16").await?;
    at(&dir).migrate(Currency::USD).await?;
    assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before, Vec::new()));
    Ok(())
}

/// Twenty products, of which the last come once the test lets them.
struct Records {
    next: u64,
    held: mpsc::Receiver<()>,
}

impl RecordSource for Records {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        let n = self.next;
        self.next += 1;
        if n == 10 {
            // It ends when the test drops the sender.
            let _ = self.held.recv();
        }
        let text = format!(r#"{{"id": {n}, "title": "Pen", "price": 1, "sku": "P{n}"}}"#);
        Ok((n < 20).then(|| SourceRecord::new(n, text.len(), Document::Json(text.into_bytes()))))
    }
}

/// An import that is dropped in the middle, as if its process had died, leaves a shop that the next start completes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_in_bulk_that_dies_leaves_no_index_missing() -> TestResult {
    let (dir, s) = file().await;
    let before = rows(&dir, INDEXES).await?;
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let options = || ImportOptions::default().batch(8).bulk(true);
    let (gate, held) = mpsc::channel();
    let (to, mut batches) = tokio::sync::mpsc::unbounded_channel();
    let importing = shop.clone();
    let import = tokio::spawn(async move {
        let records = Box::new(Records { next: 0, held });
        let progress = |report: &ImportReport| {
            let _ = to.send(report.inserted);
        };
        importing.import().products_from(records, options(), progress).await.map(drop)
    });
    assert_eq!(batches.recv().await, Some(8));
    assert_eq!(rows(&dir, DEFERRED).await?.len(), DROPPED, "the indexes are dropped during the import");
    import.abort();
    let _ = import.await;
    drop(gate);
    shop.storage().close().await;

    let s = at(&dir);
    s.migrate(Currency::USD).await?;
    assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before.clone(), Vec::new()));
    // The next import completes the first one, and restores the indexes too.
    let shop = Shop::new(ShopParts::new(Arc::new(s), Arc::new(NoSearch)))?;
    let (_, held) = mpsc::channel();
    let report = shop.import().products_from(Box::new(Records { next: 0, held }), options(), |_| {}).await?;
    assert_eq!((report.unchanged, report.inserted), (8, 12), "{report:?}");
    assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before, Vec::new()));
    Ok(())
}

/// The background work of another process ends the job of an import that has died, and restores the indexes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_process_restores_the_indexes_of_a_dead_import() -> TestResult {
    let (dir, s) = file().await;
    let before = rows(&dir, INDEXES).await?;
    let clock = Arc::new(ManualClock::at_micros(1_767_323_045_678_901));
    let parts = ShopParts::new(Arc::new(s), Arc::new(NoSearch));
    let shop = Shop::new(ShopParts { clock: clock.clone(), ..parts })?;
    let (gate, held) = mpsc::channel();
    let (to, mut batches) = tokio::sync::mpsc::unbounded_channel();
    let importing = shop.clone();
    let import = tokio::spawn(async move {
        let (records, options) = (Box::new(Records { next: 0, held }), ImportOptions::default().batch(8).bulk(true));
        let progress = |report: &ImportReport| {
            let _ = to.send(report.inserted);
        };
        importing.import().as_job(ImportKind::Products, records, options, progress).await.map(drop)
    });
    assert_eq!(batches.recv().await, Some(8));
    import.abort();
    let _ = import.await;
    drop(gate);
    assert_eq!(rows(&dir, DEFERRED).await?.len(), DROPPED);
    clock.advance(std::time::Duration::from_secs(60));
    shop.run_background_pass(Pass::Everything, std::future::pending()).await;
    assert_eq!((rows(&dir, INDEXES).await?, rows(&dir, DEFERRED).await?), (before, Vec::new()));
    Ok(())
}
