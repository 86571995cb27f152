//! A process that imports in bulk is killed. The next one completes the import, and database and index are those of an
//! import that nobody has stopped.

use std::fs::File;
use std::io::{BufWriter, Read, Write as _};

use ecom_core::Shop;
use ecom_core::catalog::{ExportOptions, ImportOptions, ImportReport};
use ecom_core::search::SearchQuery;

use super::{Place, Process, index_agrees, list, open, say};

const RECORDS: usize = 1_500;
const BATCH: usize = 100;
/// The batches after which the process is killed, in each round.
const KILLED_AFTER: [usize; 2] = [2, 5];
/// The name of a process that never comes to the end of the file, so that a kill is never too late.
const HALTS: &str = "halts";

fn write_records(at: &Place) {
    let mut file = BufWriter::new(File::create(at.dir.join("products.ndjson")).unwrap());
    for n in 0..RECORDS {
        let spread = n * 7_919 % 1_000;
        let record = serde_json::json!({
            "source": "erp", "external_id": n.to_string(), "title": format!("Lamp {spread}"), "price": spread,
            "brand": format!("Brand {}", n % 7), "categories": [format!("lamps/kind-{}", n % 5)], "tags": ["lamp"],
            "sku": format!("L-{n}"), "stock": spread % 10,
        });
        writeln!(file, "{record}").unwrap();
    }
    file.flush().unwrap();
}

/// A file that returns no more data after some bytes, and never its end.
struct Halting {
    file: File,
    left: usize,
}

impl Read for Halting {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            loop {
                std::thread::park();
            }
        }
        let most = to.len().min(self.left);
        let n = self.file.read(&mut to[..most])?;
        self.left -= n;
        Ok(n)
    }
}

fn records(at: &Place) -> File {
    File::open(at.dir.join("products.ndjson")).unwrap()
}

async fn import(
    shop: &Shop,
    source: impl Read + Send + 'static,
    bulk: bool,
    on_progress: impl FnMut(&ImportReport) + Send,
) -> ImportReport {
    let options = ImportOptions::default().batch(BATCH).bulk(bulk);
    let report = shop.import().products(source, options, on_progress).await.unwrap();
    assert_eq!((report.rejected, report.done), (0, RECORDS as u64), "{report:?}");
    report
}

/// The process that imports.
pub(super) async fn child(at: &Place, name: &str) {
    let shop = open(at).await;
    let _background = shop.start();
    let file = records(at);
    let all = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let left = if name == HALTS { all / 5 * 4 } else { usize::MAX };
    import(&shop, Halting { file, left }, true, |report| say(&format!("done {}", report.done))).await;
    say("imported");
    std::future::pending::<()>().await;
}

/// Returns the products as the database and the index show them.
async fn digest(shop: &Shop) -> (Vec<u8>, Vec<(String, i64, i64)>, Vec<u64>) {
    let mut export = Vec::new();
    shop.export().products(&mut export, ExportOptions::default(), |_| {}).await.unwrap();
    let categories = shop.categories().tree().await.unwrap();
    let counts = categories.value.iter().map(|c| (c.path.clone(), c.product_count, c.subtree_product_count)).collect();
    let mut found = Vec::new();
    for text in ["lamp", "lamp 7", "kind-3", "l-17", "brand"] {
        let query = SearchQuery { text: text.to_owned(), limit: 10, ..SearchQuery::default() };
        found.push(shop.search().search(&query).await.unwrap().total.count);
    }
    (export, counts, found)
}

pub(crate) async fn r14_a_killed_import_in_bulk_is_completed_by_the_next_one(at: &Place) {
    let dir = tempfile::tempdir().unwrap();
    let undisturbed = Place { dir: dir.path().to_owned(), ..Place::default() };
    for place in [at, &undisturbed] {
        write_records(place);
    }
    let whole = open(&undisturbed).await;
    import(&whole, records(&undisturbed), false, |_| {}).await;
    whole.index().catch_up().await.unwrap();
    let expected = digest(&whole).await;

    for (round, batches) in KILLED_AFTER.into_iter().enumerate() {
        let process = Process::start(at, "import in bulk", HALTS);
        for _ in 0..batches {
            process.line("done");
        }
        process.kill();
        let shop = open(at).await;
        let there = list(&shop, None).await.len();
        assert!(there >= batches * BATCH && there < RECORDS && there % BATCH == 0, "{there} products in round {round}");
        assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
        let background = shop.start();
        index_agrees(&shop, &format!("round {round}")).await;
        background.shutdown().await;
        shop.storage().close().await;
    }
    let process = Process::start(at, "import in bulk", "ends");
    process.line("imported");
    process.kill();
    let shop = open(at).await;
    let background = shop.start();
    index_agrees(&shop, "the last round").await;
    background.shutdown().await;
    assert!(digest(&shop).await == expected, "database and index must be those of an undisturbed import");
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
    let again = import(&shop, records(at), true, |_| {}).await;
    assert_eq!(again.unchanged, RECORDS as u64, "{again:?}");
    shop.storage().close().await;
}
