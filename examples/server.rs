//! The reference server: `cargo run --release --example server`.
//!
//! It keeps SQLite, Tantivy and an in-process cache under `./ecom-data`, loads the sample catalog into an empty shop
//! and listens on 127.0.0.1:8000. The first start prints an API key that may do everything. `-- --import FILE` loads a
//! file of products, categories, customers or carts instead of the sample. `-- --demo` adds customers and some weeks of
//! orders to a shop without orders. `-- audit` checks stock and amounts, and ends with status 1 if something is wrong.
//! `-- move-search --to URL` moves to another search engine while servers keep running. `-- migrate` migrates the
//! schema of the database to this release, `-- migrate --check` only compares both, and `-- smoke URL` checks a running
//! server from outside. With `-- --only catalog,search`, the server has the routes of some areas only. `ecom::config`
//! describes the settings. At SIGTERM, SIGHUP or Ctrl-C the server answers the open requests and then stops. A second
//! signal ends it at once, unless it comes within a second of the first.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ecom::Shop;
use ecom::access::Secret;
use ecom::catalog::{ImportKind, ImportOptions, ProductListQuery};
use ecom::catalog::{ProductFilter, ProductSort};
use ecom::common::IncludeDeleted;
use ecom::config::ServerConfig;
use ecom::paging::Paging;
use ecom::platform::AuditFinding;
use ecom_http::RouteGroup;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Prints to standard output, which may be closed.
macro_rules! say {
    ($($text:tt)*) => { let _ = writeln!(std::io::stdout(), $($text)*); };
}

#[path = "server/admin_key.rs"]
mod admin_key;
#[path = "server/demo.rs"]
mod demo;
#[path = "server/ending.rs"]
mod ending;
#[path = "server/import.rs"]
mod import;
#[path = "server/migrate.rs"]
mod migrate;
#[path = "server/move_search.rs"]
mod move_search;
#[path = "server/pictures.rs"]
mod pictures;
#[path = "server/signals.rs"]
mod signals;
#[path = "server/smoke.rs"]
mod smoke;

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
    /// Have the routes of these areas or resources only (ECOM_ONLY), so that areas run as services of their own.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    only: Vec<RouteGroup>,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Arguments {
    /// Returns the status with which the program ends after an error.
    fn failure(&self) -> ExitCode {
        match &self.command {
            Some(Command::Migrate(options)) => options.failure(),
            _ => ExitCode::FAILURE,
        }
    }
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
    /// Migrate the schema of the database to this release, and end.
    ///
    /// Servers do so when they start, unless ECOM_MIGRATE is false. Servers of the release before keep running
    /// meanwhile.
    Migrate(migrate::Migrate),
    /// Check a running server from outside: health, a read, a search, and a write that is undone.
    ///
    /// If anything is wrong, it prints the reason and ends with status 1. It needs no settings.
    Smoke(smoke::Smoke),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failure = arguments.failure();
    ending::status(Box::pin(run(arguments)).await, failure)
}

/// Returns the status of a check.
fn status(is_good: bool) -> ExitCode {
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Command::Smoke(options)) = &arguments.command {
        return smoke::run(options).await.map(status);
    }
    let mut config = ServerConfig::load()?;
    if !arguments.only.is_empty() {
        config.http.route_groups.clone_from(&arguments.only);
    }
    // Dropped at the end, which writes the lines and sends the spans that still wait.
    let _log = ecom::logging::start(&config.log, config.traces.as_ref())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match &arguments.command {
        Some(Command::Audit) => return audit(&config).await,
        Some(Command::MoveSearch(options)) => return move_search::run(&config, options).await.map(status),
        Some(Command::Migrate(options)) => return migrate::run(&config, options).await,
        Some(Command::Smoke(_)) | None => {}
    }
    let mut stopped = signals::stop_signal()?;
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
    Ok(status(report.is_clean()))
}

async fn listen(config: &ServerConfig) -> Result<TcpListener> {
    let (host, port) = (config.host.as_str(), config.port);
    let bound = TcpListener::bind((host, port)).await;
    bound.map_err(|e| format!("cannot listen on {host}:{port} ({e}); set ECOM_LISTEN or PORT").into())
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
    let app = ecom_http::router(shop.clone(), config.http.clone()).merge(pictures::router());
    let background = shop.start();
    say!("ecom {} listens on http://{address}", env!("CARGO_PKG_VERSION"));
    say!("  database  {}", config.database_url.shown());
    say!("  search    {}", config.search_url.shown());
    say!("  cache     {}", config.cache_url.shown());
    say!("  limits    {}", limits_shown(shop, config));
    say!("  access    {}", access_shown(config));
    let has = |group| config.http.route_groups.contains(&group);
    if !RouteGroup::AREAS.into_iter().all(has) {
        let groups: Vec<&str> = config.http.route_groups.iter().map(|group| group.name()).collect();
        say!("  routes    {} only", groups.join(", "));
    }
    let (catalog, search) = (has(RouteGroup::CATALOG), has(RouteGroup::SEARCH));
    say!("Look at");
    for (is_there, path, what) in [
        (true, "/".to_owned(), "everything there is"),
        (cfg!(feature = "admin") && config.http.admin_page, "/admin".to_owned(), "the shop, for its staff"),
        (true, "/docs".to_owned(), "the API, to try"),
        (true, "/redoc".to_owned(), "the API, to read"),
        (catalog, format!("{api}/products?include=filters"), "products"),
        (catalog, format!("{api}/categories/tree"), "categories"),
        (search, format!("{api}/products/search?q=hedphones&sort=price_asc"), "a search, with a typing error"),
        (true, "/health".to_owned(), "health"),
    ] {
        if is_there {
            say!("  http://{address}{path}  ({what})");
        }
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
