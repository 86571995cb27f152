//! Processes that are killed, and processes that share one database and one index.
//!
//! Each test starts this binary again as a child, whose environment names the work to do.

#![cfg(all(target_os = "linux", feature = "sqlite", feature = "memory", feature = "tantivy", feature = "webhooks"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

#[cfg(all(feature = "postgres", feature = "mysql", feature = "redis", feature = "elasticsearch"))]
#[path = "clusters/mod.rs"]
mod clusters;
#[path = "crash/imports.rs"]
mod imports;
#[cfg(any(feature = "elasticsearch", feature = "meilisearch"))]
#[path = "crash/indexing.rs"]
mod indexing;
#[path = "crash/jobs.rs"]
mod jobs;
#[path = "crash/mails.rs"]
mod mails;
#[path = "crash/orders.rs"]
mod orders;
#[path = "crash/webhooks.rs"]
mod webhooks;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ecom_core::access::Principal;
use ecom_core::catalog::ProductListQuery;
use ecom_core::catalog::{CategoryInput, ProductFilter, ProductInput, ProductPatch, ProductSort};
use ecom_core::common::{ExpectedVersion, IncludeDeleted};
use ecom_core::config::ShopConfig;
use ecom_core::id::{CategoryId, ProductId, SkuId};
use ecom_core::money::Currency;
use ecom_core::paging::Paging;
use ecom_core::platform::{JobFilter, JobState};
use ecom_core::port::{SearchProvider, Storage as _};
use ecom_core::search::SearchQuery;
use ecom_core::stock::StockAdjustment;
use ecom_core::stock::StockReason;
use ecom_core::{ErrorCode, Shop, ShopParts};
use ecom_search::{TantivyOptions, TantivySearch};
use ecom_storage::cache::{MemoryCache, MemoryCacheOptions};
use ecom_storage::{SqlStorage, SqliteOptions};

const DIR: &str = "ECOM_CRASH_DIR";
const DATABASE: &str = "ECOM_CRASH_DATABASE";
const SEARCH: &str = "ECOM_CRASH_SEARCH";
const CACHE: &str = "ECOM_CRASH_CACHE";
const ROLE: &str = "ECOM_CRASH_ROLE";
const NAME: &str = "ECOM_CRASH_NAME";

/// How long a test waits for what must happen. It is not a measure: the machine may be slow.
const LIMIT: Duration = Duration::from_secs(120);

/// The location of a test's index and database. The database is a URL, or a file beside the index. The index is on a
/// search server, or in the directory. The cache is on a Redis, or in the process.
#[derive(Debug, Clone, Default)]
struct Place {
    dir: PathBuf,
    database: Option<String>,
    search: Option<String>,
    cache: Option<String>,
}

fn storage(at: &Place) -> SqlStorage {
    match &at.database {
        None => SqlStorage::sqlite(SqliteOptions::file(at.dir.join("shop.db"))).unwrap(),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        Some(url) => {
            let mut options = ecom_storage::ServerOptions::from_url(url).unwrap();
            // Other tests use the server too.
            options.max_connections = 10;
            SqlStorage::server(options).unwrap()
        }
        #[cfg(not(any(feature = "postgres", feature = "mysql")))]
        Some(_) => panic!("no server is built in"),
    }
}

async fn engine(at: &Place) -> Arc<dyn SearchProvider> {
    match &at.search {
        None => {
            let options = TantivyOptions::directory(at.dir.join("index")).writer_memory(15_000_000);
            Arc::new(TantivySearch::open(options).await.unwrap())
        }
        #[cfg(feature = "meilisearch")]
        Some(url) if url.starts_with("meilisearch+") => {
            let options = ecom_search::MeilisearchOptions::from_url(url).unwrap();
            Arc::new(ecom_search::MeilisearchSearch::open(options).unwrap())
        }
        #[cfg(feature = "elasticsearch")]
        Some(url) => {
            let options = ecom_search::ElasticsearchOptions::from_url(url).unwrap();
            Arc::new(ecom_search::ElasticsearchSearch::open(options).unwrap())
        }
        #[cfg(not(feature = "elasticsearch"))]
        Some(_) => panic!("no such search server is built in"),
    }
}

async fn open(at: &Place) -> Shop {
    open_with(at, ShopConfig::default().poll_interval(Duration::from_millis(100))).await
}

async fn open_with(at: &Place, config: ShopConfig) -> Shop {
    Shop::new(parts(at, config).await).unwrap()
}

async fn parts(at: &Place, config: ShopConfig) -> ShopParts {
    let storage = storage(at);
    storage.migrate(Currency::USD).await.unwrap();
    let search = engine(at).await;
    let cache = Arc::new(MemoryCache::new(MemoryCacheOptions::default()));
    ShopParts { cache, config, ..ShopParts::new(Arc::new(storage), search) }
}

fn me() -> Principal {
    Principal::trusted("user:crash")
}

fn input(value: &serde_json::Value) -> ProductInput {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn adjustment(sku_id: SkuId, delta: i64, reference: String) -> StockAdjustment {
    StockAdjustment { sku_id, delta, reason: StockReason::Received, reference: Some(reference) }
}

/// Prints one line at once and whole, because the parent takes each line for an acknowledgement.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A child, which is killed at the end of the test, however the test ends.
pub(crate) struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    lines: Receiver<String>,
    /// The lines that were read so far.
    read: RefCell<Vec<String>>,
    /// When each order was acknowledged.
    #[cfg_attr(
        not(all(feature = "postgres", feature = "mysql", feature = "redis", feature = "elasticsearch")),
        expect(dead_code, reason = "only the tests of clusters read it")
    )]
    accepted: Arc<Mutex<Vec<Instant>>>,
}

impl Process {
    fn start(at: &Place, role: &str, name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIR, &at.dir)
            .envs(at.database.iter().map(|url| (DATABASE, url)))
            .envs(at.search.iter().map(|url| (SEARCH, url)))
            .envs(at.cache.iter().map(|url| (CACHE, url)))
            .env(ROLE, role)
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        let accepted = Arc::<Mutex<Vec<Instant>>>::default();
        let orders = accepted.clone();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if line.starts_with("placed ") {
                    orders.lock().unwrap().push(Instant::now());
                }
                if to.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, commands, lines, read: RefCell::default(), accepted }
    }

    /// Writes a command to the input of the child.
    fn tell(&mut self, command: &str) {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
    }

    /// Closes the input of the child, which ends after its last command.
    fn close(&mut self) {
        self.commands = None;
    }

    /// Returns the rest of the next line that starts with `word`.
    fn line(&self, word: &str) -> String {
        let start = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(start.elapsed());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("the child does not print `{word}`"));
            let rest = line.strip_prefix(word).map(|rest| rest.trim().to_owned());
            self.read.borrow_mut().push(line);
            if let Some(rest) = rest {
                return rest;
            }
        }
    }

    /// Kills the child with SIGKILL, and returns what it had acknowledged until then.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.read.take().into_iter().chain(self.lines.iter()).collect()
    }

    /// Waits for the end of the child, and returns every line that it printed.
    fn end(mut self) -> Vec<String> {
        let lines: Vec<String> = self.read.take().into_iter().chain(self.lines.iter()).collect();
        assert!(self.child.wait().unwrap().success(), "the child failed");
        lines
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The test that every child runs.
#[test]
#[ignore = "the child process of other tests"]
fn child() {
    let said = |name| std::env::var_os(name).and_then(|v| v.into_string().ok());
    let (Some(dir), Some(role), Some(name)) = (said(DIR), said(ROLE), said(NAME)) else { return };
    let at = Place { dir: dir.into(), database: said(DATABASE), search: said(SEARCH), cache: said(CACHE) };
    ecom_core::testkit::run(async move {
        // The test harness has printed on the same line before.
        say("");
        if role.starts_with("orders ") {
            return orders::child(&at, &role, &name).await;
        }
        if role.starts_with("mails ") {
            return mails::child(&at, &role).await;
        }
        if role == "jobs work" {
            return jobs::child(&at).await;
        }
        if role == "webhooks" {
            return webhooks::child(&at, &name).await;
        }
        match role.as_str() {
            "work" => return work(&at).await,
            "import" => return imports::child(&at, &name).await,
            "poll a feed" => return imports::feed_child(&at, &name).await,
            #[cfg(any(feature = "elasticsearch", feature = "meilisearch"))]
            "index" => return indexing::index(&at).await,
            _ => {}
        }
        let shop = open(&at).await;
        match role.as_str() {
            "write until killed" => write_until_killed(shop, name).await,
            "search" => search(shop).await,
            "compete" => compete(shop, name).await,
            other => panic!("no such role: {other}"),
        }
    });
}

// ---------------------------------------------------------------- kill -9

async fn write_until_killed(shop: Shop, round: String) {
    let _background = shop.start();
    let categories = shop.categories().tree().await.unwrap();
    let categories: Vec<CategoryId> = categories.value.iter().map(|c| c.id).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8usize {
        let (shop, round, categories) = (shop.clone(), round.clone(), categories.clone());
        tasks.spawn(async move {
            let mut last: Option<(ProductId, SkuId)> = None;
            for n in 0usize.. {
                let key = format!("{round}-{task}-{n}");
                match (n % 4, last) {
                    (0, _) | (_, None) => {
                        let category = categories[n / 4 % categories.len()].to_string();
                        let skus = [
                            serde_json::json!({ "code": format!("{key}-a"), "price": 5, "stock": 3 }),
                            serde_json::json!({ "code": format!("{key}-b"), "price": "7.5", "stock": 4 }),
                        ];
                        let made =
                            serde_json::json!({ "title": format!("Lamp {key}"), "skus": skus, "category": category });
                        let p = shop.acting_as(&me()).products().create(&input(&made)).await.unwrap();
                        say(&format!("created {} {key}", p.id));
                        last = Some((p.id, p.skus[0].id));
                    }
                    (3, Some((id, _))) if task == 0 && n % 8 == 7 => {
                        let c = shop.categories().get_fresh(categories[0], IncludeDeleted::No).await.unwrap();
                        let patch = serde_json::json!({ "name": format!("Renamed {key}") });
                        let patch = serde_json::from_value(patch).unwrap();
                        shop.acting_as(&me())
                            .categories()
                            .patch(c.id, ExpectedVersion::Exact(c.audit.version), patch)
                            .await
                            .unwrap();
                        say(&format!("renamed {} Renamed {key}", c.id));
                        last = Some((id, shop.products().get_fresh(id, IncludeDeleted::No).await.unwrap().skus[0].id));
                    }
                    (3, Some((id, _))) => {
                        let p = shop.products().get_fresh(id, IncludeDeleted::No).await.unwrap();
                        let patch: ProductPatch =
                            serde_json::from_str(&format!("{{\"brand\":\"Brand {key}\"}}")).unwrap();
                        shop.acting_as(&me())
                            .products()
                            .patch(id, ExpectedVersion::Exact(p.audit.version), patch)
                            .await
                            .unwrap();
                        say(&format!("branded {id} Brand {key}"));
                    }
                    (_, Some((_, sku))) => {
                        shop.inventory().adjust(adjustment(sku, 2, key.clone())).await.unwrap();
                        say(&format!("adjusted {sku} {key}"));
                    }
                }
            }
        });
    }
    tasks.join_all().await;
}

/// Checks that everything that the killed process acknowledged is there, and that nothing is incomplete.
async fn nothing_is_lost(shop: &Shop, acknowledged: &[String], round: usize) {
    let mut seen = HashMap::<&str, usize>::new();
    let mut brands = HashMap::<ProductId, String>::new();
    for line in acknowledged {
        let mut words = line.splitn(3, ' ');
        let (Some(verb), Some(id), Some(rest)) = (words.next(), words.next(), words.next()) else { continue };
        match verb {
            "created" => {
                let p = shop.products().get_fresh(id.parse().unwrap(), IncludeDeleted::No).await.unwrap();
                assert_eq!(p.title, format!("Lamp {rest}"), "round {round}");
                assert_eq!(p.skus.len(), 2, "round {round}");
            }
            "branded" => drop(brands.insert(id.parse().unwrap(), rest.to_owned())),
            "adjusted" => {
                let (page, _) = shop.inventory().movements(id.parse().unwrap(), &Paging::first(100)).await.unwrap();
                let found = page.items.iter().filter(|m| m.reference.as_deref() == Some(rest)).count();
                assert_eq!(found, 1, "round {round}: {line}");
            }
            "renamed" => {}
            _ => continue,
        }
        *seen.entry(verb).or_default() += 1;
    }
    for (id, brand) in brands {
        let p = shop.products().get_fresh(id, IncludeDeleted::No).await.unwrap();
        // One more may have been written whose answer was lost.
        let key = |b: &str| b.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap();
        assert!(p.brand.as_deref().is_some_and(|b| key(b) >= key(&brand)), "round {round}: {brand} {:?}", p.brand);
    }
    if let Some(renamed) = acknowledged.iter().rev().find_map(|l| l.strip_prefix("renamed ")) {
        let (id, name) = renamed.split_once(' ').unwrap();
        let c = shop.categories().get_fresh(id.parse().unwrap(), IncludeDeleted::No).await.unwrap();
        let key = |b: &str| b.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()).unwrap();
        assert!(key(&c.name) >= key(name), "round {round}: {name}, {}", c.name);
    }
    assert!(seen.len() >= 2, "round {round}: the child was killed before it did anything: {seen:?}");
    println!("round {round}: {seen:?}");

    assert_eq!(shop.inventory().imbalances().await.unwrap(), [], "round {round}");
    let all = list(shop, None).await;
    assert!(all.iter().all(|(_, skus, _)| *skus == 2), "round {round}: a product without its SKUs");
    for c in shop.categories().tree().await.unwrap().value.iter() {
        let listed: BTreeSet<ProductId> = list(shop, Some(c.id)).await.into_iter().map(|(id, ..)| id).collect();
        let scanned: BTreeSet<ProductId> =
            all.iter().filter(|(.., of)| of.contains(&c.id)).map(|(id, ..)| *id).collect();
        assert_eq!(listed, scanned, "round {round}: the list of {} and a full scan", c.path);
        assert_eq!(c.product_count, i64::try_from(scanned.len()).unwrap(), "round {round}: {}", c.path);
    }
}

/// Returns id, number of SKUs and categories of all products.
async fn list(shop: &Shop, category: Option<CategoryId>) -> Vec<(ProductId, usize, Vec<CategoryId>)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let query = ProductListQuery {
            filter: ProductFilter { category, ..ProductFilter::default() },
            sort: ProductSort::PriceAsc,
            paging: Paging::Keyset { after: after.clone(), limit: 200 },
        };
        let found = shop.products().list(&query).await.unwrap();
        let page = &found.value.page;
        all.extend(page.items.iter().map(|p| (p.id, p.skus.len(), p.categories.iter().map(|c| c.id).collect())));
        after.clone_from(&page.next);
        if after.is_none() {
            return all;
        }
    }
}

async fn catalog(at: &Place) {
    let shop = open(at).await;
    for name in ["Lamps", "Chairs", "Tables"] {
        let category = CategoryInput { name: name.to_owned(), ..CategoryInput::default() };
        shop.acting_as(&me()).categories().create(&category).await.unwrap();
    }
    shop.storage().close().await;
}

/// Waits until the index agrees with the database, without calling for it.
pub(crate) async fn index_agrees(shop: &Shop, what: &str) {
    let start = Instant::now();
    loop {
        let report = shop.index().verify(false).await.unwrap();
        if report.is_clean() && report.compared > 0 {
            println!("{what}: the index agrees after {:?}", start.elapsed());
            return;
        }
        assert!(start.elapsed() < LIMIT, "{what}: the index does not follow: {report:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Five rounds on one database: acknowledged writes are there, stock adds up, and the index follows by itself.
async fn r11_r14_kill_9_leaves_index_and_database_in_step(at: &Place) {
    catalog(at).await;
    for round in 0..5u64 {
        let process = Process::start(at, "write until killed", &round.to_string());
        let first = process.line("created");
        // Waits for this line however slow the machine is: a kill before any work proves nothing.
        process.line("adjusted");
        // Derived from the ids of the run, so that each run kills at another moment; it is printed.
        let noise: u64 = std::collections::hash_map::RandomState::new().hash_one_of(&first);
        let life = Duration::from_millis(100 + noise % 700);
        println!("round {round}: killed after {life:?}");
        tokio::time::sleep(life).await;
        let acknowledged = process.kill();

        let shop = open(at).await;
        nothing_is_lost(&shop, &acknowledged, usize::try_from(round).unwrap()).await;
        let background = shop.start();
        index_agrees(&shop, &format!("round {round}")).await;
        let query = SearchQuery { text: "lamp".to_owned(), limit: 10, ..SearchQuery::default() };
        let (found, listed) = (shop.search().search(&query).await.unwrap(), list(&shop, None).await);
        assert_eq!(found.total.count, listed.len() as u64, "round {round}");
        background.shutdown().await;
        shop.storage().close().await;
    }
}

trait HashOneOf {
    fn hash_one_of(&self, text: &str) -> u64;
}

impl HashOneOf for std::collections::hash_map::RandomState {
    fn hash_one_of(&self, text: &str) -> u64 {
        std::hash::BuildHasher::hash_one(self, text)
    }
}

// ---------------------------------------------------------------- jobs

/// The number of products of a reindex that is killed.
const INDEXED: u64 = 100;

/// Runs jobs, with a commit of the index for each product, and prints when one has begun.
async fn work(at: &Place) {
    let config = ShopConfig::default().poll_interval(Duration::from_millis(10)).lease_ttl(Duration::from_secs(1));
    let shop = open_with(at, config.index_batch(1)).await;
    let _background = shop.start();
    let running = JobFilter { state: Some(JobState::Running), ..JobFilter::default() };
    loop {
        if !shop.jobs().list(&running, &Paging::default()).await.unwrap().0.items.is_empty() {
            say("runs");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A process is killed while it rebuilds the index. The next one runs the job again, to its end.
async fn a_job_of_a_killed_process_is_run_by_the_next_one(at: &Place) {
    let shop = open(at).await;
    for n in 1..=INDEXED {
        let lamp = input(&serde_json::json!({ "title": format!("Lamp {n}"), "price": 1 }));
        shop.acting_as(&me()).products().create(&lamp).await.unwrap();
    }
    for round in 1.. {
        let id = shop.jobs().enqueue_reindex().await.unwrap().id;
        let worker = Process::start(at, "work", "first");
        worker.line("runs");
        worker.kill();
        let killed = shop.jobs().get(id).await.unwrap();
        if killed.state == JobState::Succeeded && round < 20 {
            // The kill came too late.
            continue;
        }
        assert_eq!((killed.state, killed.attempts), (JobState::Running, 1), "round {round}");
        let _worker = Process::start(at, "work", "second");
        let start = Instant::now();
        let done = loop {
            let job = shop.jobs().get(id).await.unwrap();
            if job.finished_at.is_some() {
                break job;
            }
            assert!(start.elapsed() < LIMIT, "the next process must run the job: {job:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!((done.state, done.attempts, done.last_error), (JobState::Succeeded, 2, None));
        assert_eq!(done.counters["written"], INDEXED);
        break;
    }
    index_agrees(&shop, "after the job").await;
    shop.storage().close().await;
}

// ---------------------------------------------------------------- two processes

/// Prints how many lamps it finds whenever the number changes.
async fn search(shop: Shop) {
    let _background = shop.start();
    let query = SearchQuery { text: "lamp".to_owned(), limit: 10, ..SearchQuery::default() };
    let mut last = None;
    say("ready");
    loop {
        let found = shop.search().search(&query).await.unwrap();
        if last != Some(found.total.count) {
            last = Some(found.total.count);
            say(&format!("finds {}", found.total.count));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The first process writes the index and is killed; the second one searches all the time, and then takes over.
async fn r14_of_two_processes_one_writes_the_index_and_the_other_takes_over(at: &Place) {
    catalog(at).await;
    let first = Process::start(at, "search", "first");
    first.line("ready");
    let second = Process::start(at, "search", "second");
    second.line("ready");
    let lamp = |n: usize| input(&serde_json::json!({ "title": format!("Lamp {n}"), "price": 1 }));
    // This process writes to the database only.
    let shop = open(at).await;
    let until = |process: &Process, n: usize| {
        let start = Instant::now();
        while process.line("finds") != n.to_string() {}
        start.elapsed()
    };
    for n in 1..=3 {
        shop.acting_as(&me()).products().create(&lamp(n)).await.unwrap();
        for process in [&first, &second] {
            println!("lamp {n} took {:?}", until(process, n));
        }
    }
    first.kill();
    for n in 4..=6 {
        shop.acting_as(&me()).products().create(&lamp(n)).await.unwrap();
        println!("lamp {n} took {:?} after the writer was killed", until(&second, n));
    }
    index_agrees(&shop, "after the second took over").await;
    shop.storage().close().await;
    second.kill();
}

const TASKS: usize = 32;
const WRITES: usize = 6;

/// Creates and adjusts from many tasks; every write must succeed.
async fn compete(shop: Shop, name: String) {
    let shared = shop.skus().get_by_code("shared").await.unwrap().id;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (shop, name) = (shop.clone(), name.clone());
        tasks.spawn(async move {
            for n in 0..WRITES {
                let key = format!("{name}-{task}-{n}");
                let result = if n % 2 == 0 {
                    let made = serde_json::json!({ "title": format!("Lamp {key}"), "price": 1, "stock": 1 });
                    shop.acting_as(&me()).products().create(&input(&made)).await.map(drop)
                } else {
                    shop.inventory().adjust(adjustment(shared, 1, key.clone())).await.map(drop)
                };
                match result {
                    Ok(()) => say(&format!("wrote {key}")),
                    Err(e) => say(&format!("failed {key}: {e:?}")),
                }
            }
        });
    }
    tasks.join_all().await;
}

/// "Database is locked" never reaches a caller.
async fn r11_two_processes_write_one_database_and_no_lock_reaches_a_caller(at: &Place) {
    let shop = open(at).await;
    let shared = serde_json::json!({ "title": "Shared", "price": 1, "stock": 0, "sku": "shared" });
    let shared = shop.acting_as(&me()).products().create(&input(&shared)).await.unwrap().skus[0].id;
    let children = ["a", "b"].map(|name| Process::start(at, "compete", name));
    let said: Vec<String> = children.into_iter().flat_map(Process::end).collect();
    let failed: Vec<&String> = said.iter().filter(|l| l.starts_with("failed")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(said.iter().filter(|l| l.starts_with("wrote")).count(), 2 * TASKS * WRITES);
    let level = shop.inventory().level(shared).await.unwrap();
    assert_eq!(level.on_hand, i64::try_from(2 * TASKS * WRITES / 2).unwrap());
    assert_eq!(shop.inventory().imbalances().await.unwrap(), []);
    let gone = shop.skus().get_by_code("nobody").await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
    assert_eq!(list(&shop, None).await.len(), 1 + 2 * TASKS * WRITES / 2);
}

// ---------------------------------------------------------------- each database

macro_rules! on {
    ($module:ident, $at:expr) => {
        mod $module {
            on!(@ $at, [
                r11_r14_kill_9_leaves_index_and_database_in_step,
                r14_of_two_processes_one_writes_the_index_and_the_other_takes_over,
                r11_two_processes_write_one_database_and_no_lock_reaches_a_caller,
                r14_a_killed_import_is_completed_by_the_next_one,
                r14_the_import_of_a_feed_continues_after_a_kill,
                a_job_of_a_killed_process_is_run_by_the_next_one,
                jobs_of_killed_processes_take_effect_once,
                r13_webhooks_of_killed_processes_arrive_in_order,
                r07_r12_killed_processes_sell_each_piece_once,
                r07_r09_r10_r12_killed_processes_edit_and_cancel_and_lose_nothing,
                r12_one_key_of_many_callers_in_killed_processes_makes_one_order,
                r10_two_hundred_cancels_of_one_order_restore_its_stock_once,
                r20_a_hundred_checkouts_of_one_cart_make_one_order,
                r20_merges_of_several_processes_lose_no_line,
                r41_a_naive_shop_is_caught,
            ]);
        }
    };
    (@ $at:expr, [$($test:ident,)*]) => {$(
        #[test]
        fn $test() {
            super::on(async || $at.await, async |at| super::tests::$test(at).await);
        }
    )*};
}

/// The tests, each of which runs on each database.
mod tests {
    pub(crate) use super::imports::{
        r14_a_killed_import_is_completed_by_the_next_one, r14_the_import_of_a_feed_continues_after_a_kill,
    };
    pub(crate) use super::jobs::jobs_of_killed_processes_take_effect_once;
    pub(crate) use super::orders::*;
    pub(crate) use super::webhooks::r13_webhooks_of_killed_processes_arrive_in_order;
    pub(crate) use super::{
        a_job_of_a_killed_process_is_run_by_the_next_one, r11_r14_kill_9_leaves_index_and_database_in_step,
        r11_two_processes_write_one_database_and_no_lock_reaches_a_caller,
        r14_of_two_processes_one_writes_the_index_and_the_other_takes_over,
    };
}

/// Runs a test in a new place.
fn on(database: impl AsyncFnOnce() -> (Option<String>, Box<dyn std::any::Any>), test: impl AsyncFnOnce(&Place)) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (database, _guard) = database().await;
        test(&Place { dir: dir.path().to_owned(), database, ..Place::default() }).await;
    });
}

#[expect(clippy::unused_async, reason = "a place like those on servers, which are waited for")]
async fn beside_the_index() -> (Option<String>, Box<dyn std::any::Any>) {
    (None, Box::new(()))
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
async fn on_a_server(
    database: impl Future<Output = test_servers::TestDatabase>,
) -> (Option<String>, Box<dyn std::any::Any>) {
    let database = database.await;
    (Some(database.url), Box::new(database.guard))
}

on!(sqlite, super::beside_the_index());
#[cfg(feature = "postgres")]
on!(postgres, super::on_a_server(test_servers::postgres()));
#[cfg(feature = "mysql")]
on!(mysql, super::on_a_server(test_servers::mysql()));

/// The tests of the index, with an index on a search server that all processes share.
#[cfg(feature = "elasticsearch")]
mod search_servers {
    use test_servers::TestIndex;

    use super::Place;

    fn on(product: &str, index: &TestIndex, test: impl AsyncFnOnce(&Place)) {
        let dir = tempfile::tempdir().unwrap();
        let search = format!("{product}+{}?index={}&replicas=0", index.url, index.name);
        let at = Place { dir: dir.path().to_owned(), search: Some(search), ..Place::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(test(&at));
    }

    #[test]
    fn r11_r14_kill_9_leaves_elasticsearch_and_database_in_step() {
        let test = async |at: &Place| super::r11_r14_kill_9_leaves_index_and_database_in_step(at).await;
        on("elasticsearch", &test_servers::elasticsearch(), test);
    }

    #[test]
    fn r14_of_two_processes_one_writes_to_opensearch_and_the_other_takes_over() {
        let test =
            async |at: &Place| super::r14_of_two_processes_one_writes_the_index_and_the_other_takes_over(at).await;
        on("opensearch", &test_servers::opensearch(), test);
    }
}
