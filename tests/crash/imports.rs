//! A process that imports a file, or a feed, is killed. The next one completes the import, and database and index are
//! those of an import that nobody has stopped.

use std::fs::File;
use std::io::{BufWriter, Read, Write as _};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::catalog::{ExportOptions, Feed, FeedVersion, ImportKind, ImportOptions, ImportReport};
use ecom_core::config::ShopConfig;
use ecom_core::paging::Paging;
use ecom_core::platform::{JobFilter, JobKind, JobState};
use ecom_core::port::{FeedContent, FeedError, Fetched, ImportFeed};
use ecom_core::search::SearchQuery;
use ecom_core::{Shop, ShopParts};

use super::{Place, Process, index_agrees, list, open, parts, say};

const RECORDS: usize = 1_000;
const BATCH: usize = 100;
/// The batches after which the process is killed, in each round, and how it imports.
const KILLED_AFTER: [(usize, &str); 2] = [(2, "in bulk, halts"), (5, "halts")];
/// The name of a feed.
const FEED: &str = "erp";

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

/// A file that returns no more data after some bytes, and never its end, so that a kill is never too late.
struct Halting {
    file: File,
    left: usize,
}

impl Halting {
    /// Returns the file of the records. If it halts, it does so after four fifths of its bytes.
    fn open(at: &Place, halts: bool) -> Self {
        let file = records(at);
        let all = usize::try_from(file.metadata().unwrap().len()).unwrap();
        Self { file, left: if halts { all / 5 * 4 } else { usize::MAX } }
    }
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

/// The process that imports. Its name says how.
pub(super) async fn child(at: &Place, name: &str) {
    let shop = open(at).await;
    let _background = shop.start();
    let file = Halting::open(at, name.contains("halts"));
    import(&shop, file, name.contains("in bulk"), |report| say(&format!("done {}", report.done))).await;
    say("imported");
    std::future::pending::<()>().await;
}

/// What database and index show of the products.
type Digest = (Vec<u8>, Vec<(String, i64, i64)>, Vec<u64>);

async fn digest(shop: &Shop) -> Digest {
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

/// Writes the records to the place, and returns the digest of a shop that imports them undisturbed.
async fn undisturbed(at: &Place) -> Digest {
    let dir = tempfile::tempdir().unwrap();
    let own = Place { dir: dir.path().to_owned(), ..Place::default() };
    for place in [at, &own] {
        write_records(place);
    }
    let whole = open(&own).await;
    import(&whole, records(&own), false, |_| {}).await;
    whole.index().catch_up().await.unwrap();
    digest(&whole).await
}

/// Checks that a killed process has imported whole batches, and that the index follows the database.
async fn after_kill(at: &Place, at_least: usize, what: &str) {
    let shop = open(at).await;
    let there = list(&shop, None).await.len();
    assert!(there >= at_least && there < RECORDS && there % BATCH == 0, "{there} products, {what}");
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
    let background = shop.start();
    index_agrees(&shop, what).await;
    background.shutdown().await;
    shop.storage().close().await;
}

/// Returns the shop after the last process. It must be that of an undisturbed import.
async fn after_all(at: &Place, expected: &Digest) -> Shop {
    let shop = open(at).await;
    let background = shop.start();
    index_agrees(&shop, "the last round").await;
    background.shutdown().await;
    assert!(digest(&shop).await == *expected, "database and index must be those of an undisturbed import");
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
    shop
}

pub(crate) async fn r14_a_killed_import_is_completed_by_the_next_one(at: &Place) {
    let expected = undisturbed(at).await;
    for (round, (batches, name)) in KILLED_AFTER.into_iter().enumerate() {
        let process = Process::start(at, "import", name);
        for _ in 0..batches {
            process.line("done");
        }
        process.kill();
        after_kill(at, batches * BATCH, &format!("round {round}")).await;
    }
    let process = Process::start(at, "import", "in bulk");
    process.line("imported");
    process.kill();
    let shop = after_all(at, &expected).await;
    let again = import(&shop, records(at), true, |_| {}).await;
    assert_eq!(again.unchanged, RECORDS as u64, "{again:?}");
    shop.storage().close().await;
}

/// The file of the records as the source of a feed, with one version.
#[derive(Debug)]
struct FileOfRecords {
    at: Place,
    halts: bool,
}

#[async_trait]
impl ImportFeed for FileOfRecords {
    fn location(&self) -> String {
        "products.ndjson".to_owned()
    }

    fn identity(&self) -> String {
        self.location()
    }

    async fn fetch(&self, known: Option<&FeedVersion>) -> Result<Fetched, FeedError> {
        if known.is_some() {
            return Ok(Fetched::Unchanged);
        }
        let reader = Halting::open(&self.at, self.halts);
        Ok(Fetched::Changed(FeedContent::from_reader(FeedVersion::new("1"), reader)))
    }
}

/// The process that polls a feed.
pub(super) async fn feed_child(at: &Place, name: &str) {
    let source = Arc::new(FileOfRecords { at: at.clone(), halts: name == "halts" });
    let options = || ImportOptions::default().batch(BATCH);
    let feed = Feed::new(FEED, ImportKind::Products, source).every(Duration::from_secs(3_600)).options(options);
    let config = ShopConfig::default().poll_interval(Duration::from_millis(100)).lease_ttl(Duration::from_secs(1));
    let shop = Shop::new(ShopParts { feeds: vec![feed], ..parts(at, config).await }).unwrap();
    // Without a request, the import of a process that has died is repeated after 30 s.
    shop.feeds().poll(FEED).await.unwrap();
    let _background = shop.start();
    let mut last = 0;
    loop {
        let state = shop.feeds().get(FEED).await.unwrap().state;
        if state.done != last {
            last = state.done;
            say(&format!("done {last}"));
        }
        if state.version.is_some() && !state.running {
            say("imported");
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The process is killed after it has noted how far it is, and the next one skips the records up to there.
pub(crate) async fn r14_the_import_of_a_feed_continues_after_a_kill(at: &Place) {
    let expected = undisturbed(at).await;
    let process = Process::start(at, "poll a feed", "halts");
    let noted: usize = process.line("done").parse().unwrap();
    process.kill();
    assert!((BATCH..RECORDS).contains(&noted), "{noted}");
    after_kill(at, noted, "after the kill").await;
    let process = Process::start(at, "poll a feed", "ends");
    process.line("imported");
    process.kill();
    let shop = after_all(at, &expected).await;
    let filter = JobFilter { kind: Some(JobKind::IMPORT), state: Some(JobState::Succeeded) };
    let done = shop.jobs().list(&filter, &Paging::first(10)).await.unwrap().0.items;
    assert_eq!(done.len(), 1, "{done:?}");
    let (read, skipped) = (done[0].counters["read"], done[0].counters["skipped"]);
    // It may have noted more before it died.
    assert!(skipped >= noted as u64 && read > 0, "{noted}: {done:?}");
    assert_eq!(read + skipped, RECORDS as u64, "{done:?}");
    shop.storage().close().await;
}
