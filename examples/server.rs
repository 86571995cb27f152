//! The reference server: `cargo run --release --example server`.
//!
//! It keeps SQLite, Tantivy and an in-process cache under `./ecom-data`, loads the sample catalog into an empty shop
//! and listens on 127.0.0.1:8000. The first start prints an API key that may do everything. `-- --import FILE` loads a
//! file of products, categories, customers or carts instead of the sample. `-- --demo` adds customers and some weeks of
//! orders to a shop without orders. `-- audit` checks stock and amounts, and ends with status 1 if something is wrong.
//! `-- move-search --to URL` moves to another search engine while servers go on. `ecom::config` describes the settings.
//! At SIGTERM, SIGHUP or Ctrl-C the server answers the open requests and then stops. A second signal ends it at once,
//! unless it comes within a second of the first.

use std::error::Error;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use ecom::access::Secret;
use ecom::catalog::{ImportKind, ImportOptions, ProductListQuery};
use ecom::catalog::{ProductFilter, ProductSort};
use ecom::common::IncludeDeleted;
use ecom::config::{LogFormat, ServerConfig};
use ecom::paging::Paging;
use ecom::platform::AuditFinding;
use ecom::{Shop, WithCauses};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::signal::unix;
use tokio::sync::watch;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Prints to standard output, which may be closed.
macro_rules! say {
    ($($text:tt)*) => { let _ = writeln!(std::io::stdout(), $($text)*); };
}

#[path = "server/admin_key.rs"]
mod admin_key;
#[path = "server/demo.rs"]
mod demo;
#[path = "server/import.rs"]
mod import;
#[path = "server/move_search.rs"]
mod move_search;

const SAMPLE_CATEGORIES: &str = include_str!("../sample/categories.json");
const SAMPLE_PRODUCTS: &str = include_str!("../sample/products.ndjson");
const SAMPLE_CUSTOMERS: &str = include_str!("../sample/customers.ndjson");
/// The system that the ids of the sample belong to.
const SAMPLE: &str = "sample";

// Answers are often allocated on one thread and freed on another, which mimalloc handles well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The reference server of ecom.
#[derive(Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Settings come from the environment, .env and a TOML file: see the docs of ecom::config."
)]
struct Arguments {
    /// Load this file of products, categories, customers or carts instead of the sample; may be given several times.
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,
    /// The system that the ids in an imported file belong to.
    #[arg(long, value_name = "NAME", requires = "import")]
    source: Option<String>,
    /// Stop after the import, without listening.
    #[arg(long)]
    exit: bool,
    /// Do not load the sample into an empty shop. A shop with feeds (ECOM_FEEDS) never gets it.
    #[arg(long)]
    no_sample: bool,
    /// Add customers and six weeks of orders, which end yesterday, to a shop without orders.
    #[arg(long)]
    demo: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Recompute stock and amounts from the rows, print what is wrong, and end with status 1 if anything is.
    ///
    /// Changes nothing, and can run beside servers on the same database.
    Audit,
    /// Move to another search engine: build its index, compare it with the one in use, and set SEARCH_URL.
    ///
    /// Runs beside servers on the same database, which use the old engine until they are restarted. If the new engine
    /// is not good enough, it ends with status 1 and leaves SEARCH_URL as it is.
    MoveSearch(move_search::MoveSearch),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Arguments::parse())).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {}", WithCauses(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let config = ServerConfig::load()?;
    // Dropped at the end, which writes what is still in the buffer.
    let _log = start_log(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match &arguments.command {
        Some(Command::Audit) => return audit(&config).await,
        Some(Command::MoveSearch(options)) => {
            let is_good = move_search::run(&config, options).await?;
            return Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        None => {}
    }
    let mut stopped = stop_signal()?;
    // Before the import, so that a port that is in use is reported at once.
    let listener = if arguments.exit { None } else { Some(listen(&config).await?) };
    let shop = config.shop_builder().build().await?;
    let new_key = if config.http.authentication { admin_key::ensure(&shop, &config).await? } else { None };
    let outcome = tokio::select! {
        outcome = load(&shop, &arguments, &config.data) => outcome,
        _ = stopped.changed() => Err("stopped; what was imported so far stays, and a second run completes it".into()),
    };
    match (&outcome, listener) {
        (Ok(()), Some(listener)) => serve(&shop, &config, new_key.as_ref(), listener, stopped).await?,
        // The next start does not show it.
        _ => new_key.iter().for_each(|key| admin_key::show(key, &config)),
    }
    shop.storage().close().await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Audits the shop (R41).
async fn audit(config: &ServerConfig) -> Result<ExitCode> {
    let shop = config.shop_builder().build().await?;
    let report = shop.audit().run().await;
    shop.storage().close().await;
    let report = report?;
    for AuditFinding { entity, id, message } in &report.findings {
        say!("{entity} {id}: {message}");
    }
    say!("{} SKUs and {} orders checked, {} findings", report.skus, report.orders, report.findings.len());
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn listen(config: &ServerConfig) -> Result<TcpListener> {
    let (host, port) = (config.host.as_str(), config.port);
    let bound = TcpListener::bind((host, port)).await;
    bound.map_err(|e| format!("cannot listen on {host}:{port} ({e}); set ECOM_LISTEN or PORT").into())
}

/// How many lines of the log wait to be written at most.
const LOG_LINES: usize = 50_000;
/// How long its thread lets lines gather after it has written all that there were.
const LOG_PAUSE: Duration = Duration::from_millis(5);
/// How often the lines that were dropped are counted.
const DROPPED_EVERY: Duration = Duration::from_secs(10);

/// A writer that pauses after it was flushed, which the thread of the log does when no line is waiting. Without the
/// pause, that thread would wait for the next line, and each request would have to wake it.
struct Paced<W>(W);

impl<W: Write> Write for Paced<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()?;
        std::thread::sleep(LOG_PAUSE);
        Ok(())
    }
}

/// Logs go to standard error. A thread of its own writes them, so that no request waits for a slow terminal or a full
/// pipe. If too many lines wait, further ones are dropped, and a line says how many.
fn start_log(config: &ServerConfig) -> Result<WorkerGuard> {
    // Tantivy warns of merges that a later commit made obsolete, which needs no action; a directive can turn the
    // warning on.
    let filter = EnvFilter::try_new(format!("tantivy=error,{}", config.log)).map_err(|e| format!("ECOM_LOG: {e}"))?;
    let stderr = Paced(BufWriter::with_capacity(1 << 16, std::io::stderr()));
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES).thread_name("log").finish(stderr);
    let dropped = writer.error_counter();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.log_format {
        LogFormat::Pretty => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
        other => return Err(format!("ECOM_LOG_FORMAT: this server does not write {other:?}").into()),
    }
    tokio::spawn(async move {
        let mut known = 0;
        loop {
            tokio::time::sleep(DROPPED_EVERY).await;
            let total = dropped.dropped_lines();
            if total > known {
                let lines = total - known;
                tracing::warn!(lines, total, "log lines were dropped: standard error is read too slowly");
                known = total;
            }
        }
    });
    Ok(guard)
}

/// The signals that stop the server.
struct Signals {
    #[cfg(unix)]
    interrupt: unix::Signal,
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    hang_up: unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: unix::signal(unix::SignalKind::terminate())?,
            #[cfg(unix)]
            hang_up: unix::signal(unix::SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// A second signal that comes this soon after the first is part of it: a supervisor may signal the process and its
/// group, and a terminal and a script may both do.
const ONE_STOP: Duration = Duration::from_secs(1);

/// Becomes true at the first signal. A second one ends the process, unless it comes within [`ONE_STOP`].
fn stop_signal() -> Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    tokio::spawn(async move {
        signals.next().await;
        // Kept until the process ends, so that its receivers wait for a signal and nothing else wakes them.
        let _ = stop.send(true);
        let first = Instant::now();
        loop {
            signals.next().await;
            if first.elapsed() >= ONE_STOP {
                break;
            }
        }
        let _ = writeln!(std::io::stderr(), "error: stopped by a second signal; open requests were not answered");
        std::process::exit(1);
    });
    Ok(stopped)
}

/// Loads the files of `--import`, or the sample if the shop is empty and has no feeds, and then the demo data.
async fn load(shop: &Shop, arguments: &Arguments, data: &Path) -> Result<()> {
    let past = if arguments.demo { demo::Past::of(shop).await? } else { None };
    let mut loaded = true;
    if !arguments.import.is_empty() {
        let mut files = Vec::new();
        for path in &arguments.import {
            files.push(import::Input::file(import::kind_of(path)?, path.clone())?);
        }
        let letters_of = |name: &str| data.join("dead-letters").join(format!("{name}.ndjson"));
        let options = || {
            let mut options = ImportOptions::default();
            options.source.clone_from(&arguments.source);
            options
        };
        import::all(shop, files, letters_of, options).await?;
    } else if !arguments.no_sample && shop.feeds().list().await?.is_empty() && is_empty(shop).await? {
        for (kind, name, text) in [
            (ImportKind::Categories, "sample/categories.json", SAMPLE_CATEGORIES),
            (ImportKind::Products, "sample/products.ndjson", SAMPLE_PRODUCTS),
        ] {
            let options = ImportOptions::default().source(SAMPLE);
            // The stock came before the orders of the demo.
            let shop = past.as_ref().map_or(shop, |past| &past.shop);
            let size = u64::try_from(text.len()).ok();
            import::run(shop, kind, name, text.as_bytes(), size, options, None).await?;
        }
    } else {
        loaded = false;
    }
    if let Some(past) = past {
        let options = ImportOptions::default().source(SAMPLE);
        let customers = SAMPLE_CUSTOMERS.as_bytes();
        let name = "sample/customers.ndjson";
        import::run(&past.shop, ImportKind::Customers, name, customers, None, options, None).await?;
        let orders = past.orders(SAMPLE).await?;
        say!("demo: {orders} orders of the last six weeks");
    } else if arguments.demo {
        say!("demo: the shop has orders, so none are added");
    } else if !loaded {
        return Ok(());
    }
    // Searches find the imported products at once; later changes reach the index in the background.
    shop.index().catch_up().await?;
    Ok(())
}

async fn is_empty(shop: &Shop) -> Result<bool> {
    let query = ProductListQuery {
        filter: ProductFilter { include_deleted: IncludeDeleted::Yes, ..ProductFilter::default() },
        sort: ProductSort::default(),
        paging: Paging::first(1),
    };
    Ok(shop.products().list(&query).await?.value.page.items.is_empty())
}

/// Describes the rate limits.
fn limits_shown(shop: &Shop, config: &ServerConfig) -> String {
    let Some(limits) = &config.http.rate_limits else { return "off".to_owned() };
    let limiter = shop.rate_limiter().name();
    match limits.address {
        Some(quota) => {
            format!("{} requests in {} s per address, counted by {limiter}", quota.limit, quota.period.as_secs())
        }
        None => format!("of users and of some routes, counted by {limiter}"),
    }
}

/// Describes who may use the API.
const fn access_shown(config: &ServerConfig) -> &'static str {
    if config.http.authentication {
        "the catalog, searches and guests' carts are open; everything else needs a login or an API key"
    } else {
        "everybody may do everything (ECOM_AUTH=off)"
    }
}

/// Raises the limit of open files as far as the system allows, and returns how many connections it leaves room for.
fn file_limit() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};

        /// The files of the database, of the index and of the connections to servers.
        const OTHERS: u64 = 500;
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current;
        limit.current = limit.maximum;
        let files = if setrlimit(Resource::Nofile, limit).is_ok() { limit.maximum } else { before };
        files.map_or(usize::MAX, |files| usize::try_from(files.saturating_sub(OTHERS).max(files / 2)).unwrap_or(1))
    }
    #[cfg(not(unix))]
    usize::MAX
}

async fn serve(
    shop: &Shop,
    config: &ServerConfig,
    new_key: Option<&Secret>,
    listener: TcpListener,
    stopped: watch::Receiver<bool>,
) -> Result<()> {
    let address = listener.local_addr()?;
    let api = &config.http.api_prefix;
    let app = ecom_http::router(shop.clone(), config.http.clone());
    let background = shop.start();
    say!("ecom {} listens on http://{address}", env!("CARGO_PKG_VERSION"));
    say!("  database  {}", config.database_url.shown());
    say!("  search    {}", config.search_url.shown());
    say!("  cache     {}", config.cache_url.shown());
    say!("  limits    {}", limits_shown(shop, config));
    say!("  access    {}", access_shown(config));
    say!("Look at");
    for (path, what) in [
        ("/".to_owned(), "everything there is"),
        #[cfg(feature = "admin")]
        ("/admin".to_owned(), "the shop, for its staff"),
        ("/docs".to_owned(), "the API, to try"),
        ("/redoc".to_owned(), "the API, to read"),
        (format!("{api}/products?include=filters"), "products"),
        (format!("{api}/categories/tree"), "categories"),
        (format!("{api}/products/search?q=hedphones&sort=price_asc"), "a search, with a typing error"),
        ("/health".to_owned(), "health"),
    ] {
        say!("  http://{address}{path}  ({what})");
    }
    if let Some(key) = new_key {
        admin_key::show(key, config);
    }
    say!("Ctrl-C stops it; another Ctrl-C, after a second or more, ends it at once.");

    let mut limits = config.serve.clone();
    limits.max_connections = limits.max_connections.min(file_limit());
    let mut drain = stopped;
    let stopped = ecom_http::serve(listener, app, limits, async move {
        let _ = drain.changed().await;
        tracing::info!("stopping: open requests are answered first");
    })
    .await;
    if stopped.unanswered > 0 {
        let connections = stopped.unanswered;
        tracing::warn!(connections, "some requests were still open at the end of ECOM_SHUTDOWN_TIMEOUT");
    }
    background.shutdown().await;
    Ok(())
}
