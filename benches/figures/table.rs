//! A million rows of CSV, a product with one SKU each, into an empty shop, in bulk: on SQLite with its index, and on
//! PostgreSQL without one, against COPY of the same tables. Then the same file again, which finds that nothing has
//! changed.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ecom::adapters::{SqlStorage, SqliteOptions, TantivyOptions, TantivySearch};
use ecom::catalog::{ColumnMap, ImportFormat, ImportOptions, ImportReport};
use ecom::money::Currency;
use ecom::port::Storage as _;
use ecom::{Shop, ShopParts};

use crate::support::rounds;

/// The fields that the columns of the file stand for.
const MAP: &str = r#"{"columns": {"Id": "external_id", "Name": "title", "Text": "description", "Maker": "brand",
    "Group": "categories", "Labels": "tags", "Picture": "images", "Code": "sku", "Price": "price", "Amount": "stock"},
    "constants": {"source": "bench"}}"#;

/// Returns the number of rows: a million, or fewer with `--once`.
fn rows() -> usize {
    if rounds(2) == 1 { 20_000 } else { 1_000_000 }
}

/// On SQLite, with the index in a directory.
pub async fn run() {
    let n = rows();
    println!("table: {n} rows of CSV into an empty shop on SQLite with its index");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rows.csv");
    write(&file, n);
    let storage = SqlStorage::sqlite(SqliteOptions::file(dir.path().join("shop.db"))).expect("a database");
    let storage = Arc::new(storage);
    storage.migrate(Currency::USD).await.expect("a schema");
    let search = TantivySearch::open(TantivyOptions::directory(dir.path().join("index"))).await.expect("an index");
    let shop = Shop::new(ShopParts::new(storage, Arc::new(search))).expect("a shop");
    forget_peak();
    let own = OwnMemory::watch();
    let start = Instant::now();
    let report = import(&shop, &file, true).await;
    assert_eq!((report.inserted, report.rejected), (n as u64, 0), "{report:?}");
    let rows = start.elapsed();
    let (peak, own_with_rows) = (peak(), own.most());
    shop.index().catch_up().await.expect("in step");
    let first = start.elapsed();
    println!("first import with its index: {:.0}/s; wanted 10000/s", n as f64 / first.as_secs_f64());
    println!("  the rows alone: {:.0}/s", n as f64 / rows.as_secs_f64());
    println!("  most resident memory: {peak} MB with the rows, {} MB with the index; wanted 300 MB", self::peak());
    println!("  of these, without mapped files: {own_with_rows} MB with the rows, {} MB with the index", own.end());
    let start = Instant::now();
    let report = import(&shop, &file, false).await;
    assert_eq!((report.unchanged, report.rejected), (n as u64, 0), "{report:?}");
    let again = start.elapsed();
    println!("the same again, unchanged, against the rows: {:.1}; wanted 3", rows.as_secs_f64() / again.as_secs_f64());
}

async fn import(shop: &Shop, file: &Path, bulk: bool) -> ImportReport {
    let map: ColumnMap = serde_json::from_str(MAP).expect("a map");
    let options = ImportOptions::default().format(ImportFormat::Csv(map)).bulk(bulk);
    let mut told = Instant::now();
    let tell = |report: &ImportReport| {
        if told.elapsed().as_secs() >= 20 {
            told = Instant::now();
            println!("  ({} rows)", report.read);
        }
    };
    shop.import().products(File::open(file).expect("the file"), options, tell).await.expect("an import")
}

/// Writes the file. The values are spread without a random source, so that every run measures the same.
fn write(file: &Path, n: usize) {
    let mut out = BufWriter::new(File::create(file).expect("a file"));
    writeln!(out, "Id,Name,Text,Maker,Group,Labels,Picture,Code,Price,Amount").expect("written");
    for i in 0..n {
        let spread = i.wrapping_mul(2_654_435_761) % 100_000;
        writeln!(
            out,
            "{i},Imported product {i},\"A product that stands for the usual ones, in two sentences. This is the \
             second.\",Brand {},hall-{}/aisle-{},tag-{}|measured,/images/{i}.webp,I-{i},{}.{:02},{spread}",
            i % 50,
            i % 4,
            i % 20,
            i % 30,
            5 + spread / 100,
            spread % 100,
        )
        .expect("written");
    }
    out.flush().expect("written");
}

/// Lets the kernel measure the most resident memory anew.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux resets the peak");
}

/// Returns the most resident memory since [`forget_peak`], in MB.
fn peak() -> u64 {
    of_status("VmHWM:")
}

/// Returns a value of `/proc/self/status`, in MB.
fn of_status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

/// Watches the resident memory without that of mapped files, which the kernel frees when it needs memory. The kernel
/// keeps no peak of it, so a thread looks 20 times a second.
struct OwnMemory {
    most: Arc<AtomicU64>,
    stops: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl OwnMemory {
    fn watch() -> Self {
        let (most, stops) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (most.clone(), stops.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.fetch_max(of_status("RssAnon:"), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { most, stops, thread }
    }

    /// Returns the maximum so far, in MB.
    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Ends the watch, and returns the maximum, in MB.
    fn end(self) -> u64 {
        self.stops.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch");
        self.most.load(Ordering::Relaxed)
    }
}

/// On PostgreSQL, whose server flushes to disk.
#[cfg(feature = "postgres")]
pub async fn on_postgres() {
    use ecom::adapters::ServerOptions;
    use ecom::port::NoSearch;
    use test_servers::Server;

    /// The tables that the import writes, parents first.
    const TABLES: [&str; 8] = [
        "categories",
        "products",
        "skus",
        "product_categories",
        "product_listings",
        "product_tags",
        "stock_movements",
        "outbox_events",
    ];

    let n = rows();
    println!("table-postgres: {n} rows of CSV into an empty shop on PostgreSQL, without an index");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rows.csv");
    write(&file, n);
    let server = Server::postgres().await;
    let empty = async |url: &str| {
        let storage = SqlStorage::server(ServerOptions::from_url(url).expect("a URL")).expect("a pool");
        storage.migrate(Currency::USD).await.expect("a schema");
        Arc::new(storage)
    };
    let client = crate::postgres::connect(&server).await;
    let storage = empty(&server.url()).await;
    let shop = Shop::new(ShopParts::new(storage, Arc::new(NoSearch))).expect("a shop");
    let start = Instant::now();
    let report = import(&shop, &file, true).await;
    assert_eq!((report.inserted, report.rejected), (n as u64, 0), "{report:?}");
    let imported = start.elapsed();
    let start = Instant::now();
    let report = import(&shop, &file, false).await;
    assert_eq!((report.unchanged, report.rejected), (n as u64, 0), "{report:?}");
    let again = start.elapsed();

    // The server is another user, and reads and writes the files by itself.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).expect("a folder for all");
    let copy = async |way: &str| {
        for table in TABLES {
            let sql = format!("COPY {table} {way} '{}' (FORMAT binary)", dir.path().join(table).display());
            client.batch_execute(&sql).await.expect("copied");
        }
    };
    copy("TO").await;
    // The rows go into the same tables, with the same indexes and constraints.
    client.batch_execute(&format!("TRUNCATE {} CASCADE; CHECKPOINT", TABLES.join(", "))).await.expect("empty tables");
    let start = Instant::now();
    copy("FROM").await;
    let copied = start.elapsed();
    println!("first import: {:.0}/s", n as f64 / imported.as_secs_f64());
    println!("COPY of the same tables: {:.0}/s", n as f64 / copied.as_secs_f64());
    println!("import against COPY: {:.2}; wanted 0.5", copied.as_secs_f64() / imported.as_secs_f64());
    println!("the same again, unchanged: {:.1}; wanted 3", imported.as_secs_f64() / again.as_secs_f64());
}
