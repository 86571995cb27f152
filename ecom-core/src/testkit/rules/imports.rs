//! Imports of customers and carts (R20), imports as jobs, and imports in bulk. `tests/import` of the facade has the
//! details.

use std::io::Cursor;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::ShopFixture;
use super::support::{LONG, until};
use crate::catalog::{DeadLetters, ImportFormat, ImportKind, ImportOptions, ImportReport, ImportRun};
use crate::clock::Clock as _;
use crate::config::ShopConfig;
use crate::domain::platform::job::{JobFilter, JobKind, JobState};
use crate::domain::platform::outbox::Event;
use crate::domain::sales::cart::{CartFilter, CartState};
use crate::domain::search::query::SearchFilter;
use crate::error::ErrorCode;
use crate::id::JobId;
use crate::paging::Paging;
use crate::port::cache::NoCache;
use crate::sales::{AddressFilter, CustomerFilter, CustomerSort};
use crate::service::catalog::product::ProductListQuery;
use crate::shop::Shop;
use crate::testkit::code_of;
use crate::testkit::faults::Recorder;

tests! {
    __shop_imports: [
        r20_customers_and_carts_are_imported_once,
        r20_imports_of_one_file_at_once_write_each_row_once,
        an_import_as_a_job_keeps_its_counters_and_what_it_refuses,
        an_import_that_ends_early_is_a_failed_job_and_cannot_be_run_again,
        the_import_of_a_dead_process_is_a_failed_job,
        r13_r14_r15_an_import_in_bulk_reaches_consumers_index_and_caches,
        r14_an_empty_index_is_built_after_a_large_import_in_bulk,
    ]
}

const CUSTOMERS: usize = 12;

/// Products, customers with an address, and two carts of each customer.
fn files() -> [Vec<u8>; 3] {
    let products = json!([
        {"id": 1, "title": "Lamp", "price": 10, "stock": 5, "sku": "LAMP", "category": "light"},
        {"id": 2, "title": "Bulb", "price": 2.5, "stock": 50, "sku": "BULB", "category": "light"},
    ]);
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|i| {
            let address = json!({"address": "12 Main Street", "city": "Phoenix", "country": "United States"});
            let email = format!("customer{i}@example.com");
            json!({"id": i, "firstName": "A", "lastName": "B", "email": email, "phone": "+81 965-431-3024",
                   "address": address})
        })
        .collect();
    let cart = |id: usize, user: usize, product: u32| {
        let lines = json!([{"id": product, "quantity": 2}, {"id": product, "quantity": 1}]);
        json!({"id": id, "userId": user, "products": lines})
    };
    let carts: Vec<_> = (0..CUSTOMERS).flat_map(|i| [cart(2 * i, i, 1), cart(2 * i + 1, i, 2)]).collect();
    [products.to_string(), json!(customers).to_string(), json!(carts).to_string()].map(String::into_bytes)
}

async fn import(shop: &Shop) -> [ImportReport; 2] {
    let [_, customers, carts] = files();
    let options = || ImportOptions::default().batch(7);
    let service = shop.import();
    let customers = service.customers(Cursor::new(customers), options(), |_| {}).await.unwrap();
    [customers, service.carts(Cursor::new(carts), options(), |_| {}).await.unwrap()]
}

async fn import_products(shop: &Shop) {
    let [products, _, _] = files();
    let report = shop.import().products(Cursor::new(products), ImportOptions::default(), |_| {}).await.unwrap();
    assert_eq!(report.inserted, 2, "{report:?}");
}

async fn assert_imported(shop: &Shop) {
    let all = Paging::first(1_000);
    let (customers, _) =
        shop.customers().list(&CustomerFilter::default(), CustomerSort::default(), &all).await.unwrap();
    let (addresses, _) = shop.addresses().list(&AddressFilter::default(), &all).await.unwrap();
    assert_eq!((customers.items.len(), addresses.items.len()), (CUSTOMERS, CUSTOMERS));
    assert!(addresses.items.iter().all(|a| a.country.as_deref() == Some("US")));
    let (carts, _) = shop.carts().list(&CartFilter::default(), &all).await.unwrap();
    assert_eq!(carts.items.len(), 2 * CUSTOMERS);
    for customer in &customers.items {
        let own = |state| {
            carts.items.iter().filter(move |c| c.cart.customer_id == Some(customer.id) && c.cart.state == state)
        };
        let (open, merged): (Vec<_>, Vec<_>) = (own(CartState::Open).collect(), own(CartState::Merged).collect());
        let ([open], [merged]) = (&open[..], &merged[..]) else { panic!("{open:?} {merged:?}") };
        assert_eq!(merged.cart.merged_into, Some(open.cart.id));
        assert_eq!(open.lines.iter().map(|l| l.line.quantity).collect::<Vec<_>>(), [3, 3], "both carts are in one");
    }
}

/// A second import writes nothing.
pub async fn r20_customers_and_carts_are_imported_once(f: &ShopFixture) {
    import_products(&f.shop).await;
    let [customers, carts] = import(&f.shop).await;
    assert_eq!(
        (customers.inserted, carts.inserted),
        (CUSTOMERS as u64, 2 * CUSTOMERS as u64),
        "{customers:?} {carts:?}"
    );
    assert_imported(&f.shop).await;
    let head = f.shop.events().head().await.unwrap();
    let [customers, carts] = import(&f.shop).await;
    assert_eq!((customers.unchanged, carts.unchanged), (CUSTOMERS as u64, 2 * CUSTOMERS as u64));
    assert_eq!(f.shop.events().head().await.unwrap(), head, "a second import writes no event");
}

/// Several processes import the same files: none is refused, and no row is written twice.
pub async fn r20_imports_of_one_file_at_once_write_each_row_once(f: &ShopFixture) {
    import_products(&f.shop).await;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let shop = f.shop.clone();
        running.spawn(async move { import(&shop).await });
    }
    let reports = running.join_all().await;
    let sum = |of: fn(&ImportReport) -> u64| reports.iter().flatten().map(of).sum::<u64>();
    assert_eq!((sum(|r| r.rejected), sum(|r| r.inserted)), (0, 3 * CUSTOMERS as u64), "{reports:?}");
    assert_imported(&f.shop).await;
}

/// Runs an import of products as a job, and returns its end with the outcomes of its records, in order.
async fn as_job(shop: &Shop, text: &str, options: ImportOptions) -> (ImportRun, Vec<(u64, &'static str)>) {
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let told = outcomes.clone();
    let options = options.on_outcome(move |o| told.lock().push((o.index, o.result.as_str())));
    let records = shop.import().records(ImportKind::Products, Cursor::new(text.to_owned()), &options);
    let run = shop.import().as_job(ImportKind::Products, records, options, |_| {}).await.unwrap();
    let mut outcomes = std::mem::take(&mut *outcomes.lock());
    outcomes.sort_unstable();
    (run, outcomes)
}

/// Six records, of which three are refused: one that cannot be read, one without a title, and one with the code of
/// another.
const SOME_BAD: &str = r#"{"id": 1, "title": "Lamp", "price": 10, "sku": "LAMP"}
{"id": 2, "title": "Bulb", "price": "ten", "sku": "BULB"}
{"id": 3, "price": 1, "sku": "WIRE"}
{"id": 4, "title": "Shade", "price": 4, "sku": "SHADE"}
{"id": 5, "title": "Lamp again", "price": 1, "sku": "LAMP"}
{"id": 6, "title": "Plug", "price": 6, "sku": "PLUG"}
"#;

/// The rejections are letters that can be imported again, and a dry run has them too.
pub async fn an_import_as_a_job_keeps_its_counters_and_what_it_refuses(f: &ShopFixture) {
    for (dry_run, result) in [(true, "inserted"), (false, "inserted"), (false, "unchanged")] {
        let letters = Arc::new(Mutex::new(Vec::new()));
        let options = ImportOptions::default().batch(2).source("erp").file("a.ndjson").dry_run(dry_run);
        let options = options.dead_letters(DeadLetters::Writer(Box::new(Shared(letters.clone()))));
        let (run, outcomes) = as_job(&f.shop, SOME_BAD, options).await;
        assert_eq!((run.report.read, run.report.rejected), (6, 3), "{run:?}");
        let good = |index| (index, result);
        let bad = |index| (index, "rejected");
        assert_eq!(outcomes, [good(0), bad(1), bad(2), good(3), bad(4), good(5)]);
        let job = f.shop.jobs().get(run.job).await.unwrap();
        assert_eq!(
            (job.kind, job.state, job.last_error, job.lease),
            (JobKind::IMPORT, JobState::Succeeded, None, None)
        );
        let counters = [("read", 6), ("rejected", 3), (result, 3)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(job.counters, counters.into_iter().collect());
        let mut parameters = json!({"of": "products", "source": "erp", "file": "a.ndjson"});
        if dry_run {
            parameters["dry_run"] = json!(true);
        }
        assert_eq!(json!(job.parameters), parameters);
        let kept = f.shop.jobs().rejections(run.job, None, 10).await.unwrap();
        let places: Vec<(u64, u64)> = kept.iter().map(|r| (r.index, r.line)).collect();
        assert_eq!(places, [(1, 2), (2, 3), (4, 5)]);
        assert_eq!(f.shop.jobs().rejections(run.job, Some(1), 1).await.unwrap(), kept[1..2]);
        let text: String = kept.iter().flat_map(|r| [r.letter.as_str(), "\n"]).collect();
        assert_eq!(text.as_bytes(), *letters.lock(), "the dead letters of the options are the same");
    }
    let kept = f.shop.jobs().list(&JobFilter { kind: Some(JobKind::IMPORT), state: None }, &Paging::first(10)).await;
    let last = kept.unwrap().0.items.remove(0);
    let letters = f.shop.jobs().rejections(last.id, None, 10).await.unwrap();
    let lines: String = letters.iter().flat_map(|r| [r.letter.as_str(), "\n"]).collect();
    let mended = lines.replace("ten", "10.00");
    let options = ImportOptions::default().source("erp").format(ImportFormat::DeadLetters);
    let (again, _) = as_job(&f.shop, &mended, options).await;
    assert_eq!((again.report.inserted, again.report.rejected), (1, 2), "{again:?}");
    let unknown = f.shop.jobs().rejections(JobId(uuid::Uuid::nil()), None, 1).await;
    assert_eq!(code_of(unknown, "the job does not exist"), ErrorCode::NotFound);
    let none = f.shop.jobs().rejections(last.id, None, 0).await;
    assert_eq!(code_of(none, "the limit is out of bounds"), ErrorCode::Validation);
}

/// A sink that the test can read.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// No other process has the source, so a retry is refused.
pub async fn an_import_that_ends_early_is_a_failed_job_and_cannot_be_run_again(f: &ShopFixture) {
    let text = r#"[{"id": 1, "title": "Lamp", "price": 10, "sku": "LAMP"}, {"id": 2, "ti"#;
    let (run, _) = as_job(&f.shop, text, ImportOptions::default()).await;
    assert_eq!((run.report.inserted, run.report.ended_early.is_some()), (1, true), "{run:?}");
    let job = f.shop.jobs().get(run.job).await.unwrap();
    assert_eq!((job.state, job.counters["inserted"]), (JobState::Failed, 1));
    assert!(job.last_error.as_ref().is_some_and(|e| e.starts_with("it ended early: ")), "{job:?}");
    assert_eq!(code_of(f.shop.jobs().retry(run.job).await, "the source is gone"), ErrorCode::StateConflict);
    assert_eq!(f.shop.jobs().get(run.job).await.unwrap(), job);

    // Options that cannot work and a principal who may not import make no job.
    let options = || ImportOptions::default().batch(0);
    let records = f.shop.import().records(ImportKind::Products, std::io::empty(), &options());
    let refused = f.shop.import().as_job(ImportKind::Products, records, options(), |_| {}).await;
    assert_eq!(code_of(refused, "the batch is out of bounds"), ErrorCode::Validation);
    let all = f.shop.jobs().list(&JobFilter::default(), &Paging::first(10)).await.unwrap();
    assert_eq!(all.0.items.len(), 1);
}

/// A reader that stops the thread of the import for as long as the test wants.
struct Stuck(mpsc::Receiver<()>);

impl std::io::Read for Stuck {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        // It ends when the test drops the sender.
        let _ = self.0.recv();
        Ok(0)
    }
}

/// The call is dropped, as if its process had died, and the background work of another process ends its job.
pub async fn the_import_of_a_dead_process_is_a_failed_job(f: &ShopFixture) {
    let (hold, stuck) = mpsc::channel();
    let shop = f.shop.clone();
    let options = ImportOptions::default();
    let records = shop.import().records(ImportKind::Products, Stuck(stuck), &options);
    let import =
        tokio::spawn(
            async move { shop.import().as_job(ImportKind::Products, records, options, |_| {}).await.map(drop) },
        );
    let filter = JobFilter { kind: Some(JobKind::IMPORT), state: Some(JobState::Running) };
    let running = async || f.shop.jobs().list(&filter, &Paging::first(1)).await.unwrap().0.items;
    until("the import has a job", async || !running().await.is_empty()).await;
    let job = running().await.remove(0);
    import.abort();
    let _ = import.await;
    drop(hold);
    let lease = job.lease.unwrap();
    f.clock.advance((lease.expires_at - f.clock.now()).to_std().unwrap() + Duration::from_secs(1));
    let background = f.shop.start();
    until("its job is over", async || f.shop.jobs().get(job.id).await.unwrap().state == JobState::Failed).await;
    let over = f.shop.jobs().get(job.id).await.unwrap();
    assert!(over.last_error.is_some_and(|e| e.contains("died")), "it must say why");
    background.shutdown().await;
}

/// Another process has cached lists and categories, and a consumer is behind, when an import in bulk begins.
pub async fn r13_r14_r15_an_import_in_bulk_reaches_consumers_index_and_caches(f: &ShopFixture) {
    const NEW: usize = 40;
    import_products(&f.shop).await;
    f.index_is_in_step("before the import").await;
    let other = f.process(LONG);
    let background = other.start();
    let truth = f.another(ShopConfig::default(), Arc::new(NoCache));
    let shown = async |shop: &Shop| {
        let all = ProductListQuery { paging: Paging::first(1_000), ..ProductListQuery::default() };
        let products = shop.products().list(&all).await.unwrap();
        let tree = shop.categories().tree().await.unwrap();
        (products.page.items.len(), tree.value.iter().map(|c| c.subtree_product_count).collect::<Vec<_>>())
    };
    assert_eq!(shown(&other).await, (2, vec![2]));
    f.plain("Candle").await;
    until("another process follows the log", async || shown(&other).await == (3, vec![2])).await;
    let record = |i: usize| {
        json!({"id": 100 + i, "title": format!("Lantern {i}"), "price": i, "stock": 3, "sku": format!("LANTERN-{i}"),
               "category": "light"})
    };
    let records: Vec<_> = (0..NEW).map(record).collect();
    let options = ImportOptions::default().batch(15).bulk(true);
    let text = json!(records).to_string();
    let report = f.shop.import().products(Cursor::new(text), options, |_| {}).await.unwrap();
    assert_eq!(report.inserted, NEW as u64, "{report:?}");
    let all = (3 + NEW, vec![i64::try_from(2 + NEW).unwrap()]);
    assert_eq!(shown(&f.shop).await, all, "the process that imports knows its own writes");
    until("another process shows the products", async || shown(&other).await == all).await;
    assert_eq!(shown(&truth).await, all);
    background.shutdown().await;
    let consumer = Recorder::new("mail");
    let mut background = f.process(LONG).start();
    background.consume(consumer.clone()).unwrap();
    let log = f.log().await;
    until("the consumer has all events", async || consumer.done().len() >= log.len()).await;
    assert_eq!(consumer.done(), log);
    let counts = log.iter().filter_map(Event::imported_products).map(|imported| imported.count);
    assert_eq!(counts.collect::<Vec<_>>(), [15, 15, 10]);
    background.shutdown().await;
    f.index_is_in_step("after the import").await;
    assert_eq!(f.searched("lantern", SearchFilter::default()).await.len(), NEW);
}

/// An index that is nearly empty is built anew, and one with products follows the log.
pub async fn r14_an_empty_index_is_built_after_a_large_import_in_bulk(f: &ShopFixture) {
    let shop = f.another(ShopConfig::default().index_batch(2), f.cache());
    assert!(shop.index().catch_up().await.unwrap().rebuilt, "the index is new");
    for (first, rebuilt) in [(0, true), (100, false)] {
        let record = |i: usize| json!({"id": i, "title": format!("Lantern {i}"), "price": 1, "sku": format!("L-{i}")});
        let records: Vec<_> = (first..first + 50).map(record).collect();
        let options = ImportOptions::default().batch(25).bulk(true);
        let text = json!(records).to_string();
        let report = shop.import().products(Cursor::new(text), options, |_| {}).await.unwrap();
        assert_eq!(report.inserted, 50, "{report:?}");
        let report = shop.index().catch_up().await.unwrap();
        assert_eq!((report.rebuilt, report.written), (rebuilt, 50), "{report:?}");
        f.index_is_in_step("after the import").await;
    }
}
