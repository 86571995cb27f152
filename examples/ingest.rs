//! Imports, exports and indexes the shop of the reference server:
//! `cargo run --release --example ingest -- import FILE`.
//!
//! `import` loads files and URLs of products, categories, customers and carts in any format that `ecom` reads: JSON,
//! NDJSON, CSV with a column map (`--columns FILE.toml`), and the exports of Shopify and WooCommerce, also compressed
//! with gzip. It detects the format. URLs need the feature `ingest`; with `--paged`, they are read as APIs with pages
//! like those of DummyJSON. `--dry-run` checks everything and writes nothing. Records that are rejected go to the file
//! of `--dead-letters`, which can be mended and imported again. `--bulk` makes the first import of very many products
//! faster (`ecom::catalog::ImportOptions::bulk`). `export` writes the products as NDJSON or CSV.
//! `reindex` builds the search index anew, and `verify` compares it with the database.
//!
//! The shop is that of the settings in the environment, `.env` and the TOML file, which `ecom::config` describes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ecom::Shop;
use ecom::catalog::{ColumnMap, ExportFormat, ExportOptions, ImportFormat, ImportKind, ImportOptions};
use ecom::config::ServerConfig;

/// Prints to standard output, which may be closed.
macro_rules! say {
    ($($text:tt)*) => { let _ = writeln!(std::io::stdout(), $($text)*); };
}

#[path = "server/ending.rs"]
mod ending;
#[path = "server/import.rs"]
mod import;
use self::import::Input;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Imports into a shop, exports from it, and keeps its search index.
#[derive(Parser)]
#[command(
    version,
    after_help = "Settings come from the environment, .env and a TOML file: see the docs of ecom::config."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Import files and URLs. A second run of the same source writes nothing, or completes the first one.
    Import(Import),
    /// Write all products with their SKUs.
    Export(Export),
    /// Build the search index anew, while searches use the old one.
    Reindex,
    /// Compare the search index with the database, and end with status 1 if they differ.
    Verify {
        /// Repair the differences.
        #[arg(long)]
        repair: bool,
    },
}

#[derive(Args)]
struct Import {
    /// The files, and URLs that begin with `http://` or `https://`.
    #[arg(required = true, value_name = "FILE|URL")]
    sources: Vec<String>,
    /// The kind of the records; detected for each source if absent.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// The format; detected for each source if absent.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The column map of CSV files, in TOML.
    #[arg(long, value_name = "FILE.toml")]
    columns: Option<PathBuf>,
    /// The system that the ids in the files belong to.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Check and count everything, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Reject products whose categories do not exist, instead of creating the categories.
    #[arg(long)]
    refuse_categories: bool,
    /// Where rejected records go [default: dead-letters/NAME.ndjson in the data directory]
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
    /// The number of records at the start of the source that an earlier run has done.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Import products in bulk, for the first import of a whole catalog: many products share an event, and the indexes
    /// of the database are created at the end.
    #[arg(long)]
    bulk: bool,
    /// Records per transaction.
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// The pause after each transaction, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Read each URL as an API with pages like those of DummyJSON (`limit`, `skip` and `total`).
    #[arg(long)]
    paged: bool,
    /// Allow URLs that lead to this network (such as 10.1.0.0/16) or address, although it is not public.
    #[arg(long, value_name = "NETWORK")]
    allow: Vec<String>,
}

#[derive(Args)]
struct Export {
    /// The file; `-` is standard output.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// CSV with our own columns in place of NDJSON.
    #[arg(long)]
    csv: bool,
    /// CSV with the columns of this map, in TOML.
    #[arg(long, value_name = "FILE.toml")]
    columns: Option<PathBuf>,
    /// Only products that were imported from this system.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Products,
    Categories,
    Customers,
    Carts,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Ndjson,
    Csv,
    Shopify,
    Woocommerce,
    DeadLetters,
}

#[tokio::main]
async fn main() -> ExitCode {
    ending::status(Box::pin(run(Arguments::parse())).await, ExitCode::FAILURE)
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let config = ServerConfig::load()?;
    for warning in &config.warnings {
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    let shop = config.shop_builder().build().await?;
    let done = match arguments.command {
        Command::Import(arguments) => Box::pin(load(&shop, &config, arguments)).await,
        Command::Export(arguments) => export(&shop, arguments).await,
        Command::Reindex => {
            let report = shop.index().rebuild().await?;
            say!("{} products indexed", report.written);
            Ok(ExitCode::SUCCESS)
        }
        Command::Verify { repair } => verify(&shop, repair).await,
    };
    shop.storage().close().await;
    done
}

fn column_map(path: &PathBuf) -> Result<ColumnMap> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|e| format!("{shown}: {e}"))?;
    Ok(toml::from_str(&text).map_err(|e| format!("{shown}: {e}"))?)
}

async fn load(shop: &Shop, config: &ServerConfig, arguments: Import) -> Result<ExitCode> {
    let map = arguments.columns.as_ref().map(column_map).transpose()?;
    let format = match (arguments.format, map) {
        (None, None) => None,
        (None | Some(Format::Csv), Some(map)) => Some(ImportFormat::Csv(map)),
        (Some(_), Some(_)) => return Err("--columns is for CSV".into()),
        (Some(Format::Csv), None) => Some(ImportFormat::Csv(ColumnMap::own())),
        (Some(Format::Json), None) => Some(ImportFormat::Json),
        (Some(Format::Ndjson), None) => Some(ImportFormat::NdJson),
        (Some(Format::Shopify), None) => Some(ImportFormat::Shopify),
        (Some(Format::Woocommerce), None) => Some(ImportFormat::WooCommerce),
        (Some(Format::DeadLetters), None) => Some(ImportFormat::DeadLetters),
    };
    let given = arguments.kind.map(|kind| match kind {
        Kind::Products => ImportKind::Products,
        Kind::Categories => ImportKind::Categories,
        Kind::Customers => ImportKind::Customers,
        Kind::Carts => ImportKind::Carts,
    });
    // The names of the columns are those of another system, so they tell no kind.
    let is_foreign = matches!(format, Some(ImportFormat::Csv(_) | ImportFormat::Shopify | ImportFormat::WooCommerce));
    let given = given.or_else(|| is_foreign.then_some(ImportKind::Products));
    let is_url = |source: &String| source.starts_with("http://") || source.starts_with("https://");
    if (arguments.paged || !arguments.allow.is_empty()) && !arguments.sources.iter().any(is_url) {
        return Err("--paged and --allow are for URLs".into());
    }
    let mut inputs = Vec::new();
    for source in &arguments.sources {
        if is_url(source) {
            inputs.push(open_url(source, given, &arguments).await?);
        } else {
            let path = PathBuf::from(source);
            let kind = given.map_or_else(|| import::kind_of(&path), Ok)?;
            inputs.push(Input::file(kind, path)?);
        }
    }
    if inputs.len() > 1 && (arguments.skip > 0 || arguments.dead_letters.is_some()) {
        return Err("--skip and --dead-letters are for one source".into());
    }
    let letters_of = |name: &str| {
        let default = || config.data.join("dead-letters").join(format!("{name}.ndjson"));
        arguments.dead_letters.clone().unwrap_or_else(default)
    };
    let options = || {
        let mut options = ImportOptions::default()
            .create_categories(!arguments.refuse_categories)
            .dry_run(arguments.dry_run)
            .bulk(arguments.bulk)
            .skip(arguments.skip)
            .delay(Duration::from_millis(arguments.delay));
        options.source.clone_from(&arguments.source);
        options.format.clone_from(&format);
        options.batch = arguments.batch;
        options
    };
    tokio::select! {
        done = import::all(shop, inputs, letters_of, options) => done?,
        _ = tokio::signal::ctrl_c() => {
            // An import in bulk has not come to it.
            shop.storage().restore_indexes().await?;
            return Err("stopped; what was imported so far stays, and a second run completes it".into());
        }
    }
    if !arguments.dry_run {
        // Searches find the products at once, unless another process keeps the index.
        shop.index().catch_up().await?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(feature = "ingest"))]
fn open_url(_: &str, _: Option<ImportKind>, _: &Import) -> std::future::Ready<Result<Input>> {
    let message = "URLs need the feature `ingest`: cargo run --release --features ingest --example ingest";
    std::future::ready(Err(message.into()))
}

/// Calls a URL, and returns its content as a source.
#[cfg(feature = "ingest")]
async fn open_url(url: &str, given: Option<ImportKind>, arguments: &Import) -> Result<Input> {
    use std::io::{Cursor, Read as _};

    use ecom::WithCauses;
    use ecom::adapters::outbound::OutboundOptions;
    use ecom::adapters::{DummyJsonFeed, HttpFeed, HttpFeedOptions};
    use ecom::port::{Fetched, ImportFeed};

    let mut outbound = OutboundOptions::default();
    for network in &arguments.allow {
        outbound = outbound.allow(network)?;
    }
    let options = HttpFeedOptions::default().outbound(outbound);
    let feed: Box<dyn ImportFeed> = if arguments.paged {
        Box::new(DummyJsonFeed::new(url, options)?)
    } else {
        Box::new(HttpFeed::new(url, options)?)
    };
    let location = feed.location();
    let content = match feed.fetch(None).await.map_err(|e| format!("{location}: {}", WithCauses(&e)))? {
        Fetched::Changed(content) => content,
        Fetched::Unchanged => return Err(format!("{location}: has not changed").into()),
    };
    let (mut reader, pump) = content.into_parts();
    // It runs until the reader has everything, or is dropped.
    drop(pump.map(tokio::spawn));
    let (head, reader) = tokio::task::spawn_blocking(move || {
        let mut head = Vec::new();
        reader.by_ref().take(64 * 1024).read_to_end(&mut head).map(|_| (head, reader))
    })
    .await?
    .map_err(|e| format!("{location}: {e}"))?;
    let kind = given
        .or_else(|| ImportKind::detect(&head))
        .ok_or_else(|| format!("{location}: holds no products, categories, customers or carts that ecom can read"))?;
    let name = location.rsplit('/').find(|part| !part.is_empty()).unwrap_or("url").to_owned();
    let reader = Box::new(Cursor::new(head).chain(reader));
    Ok(Input { kind, name, path: None, size: None, reader })
}

async fn export(shop: &Shop, arguments: Export) -> Result<ExitCode> {
    let mut options = ExportOptions::default();
    options.source = arguments.source;
    if let Some(path) = &arguments.columns {
        options.format = ExportFormat::Csv(column_map(path)?);
    } else if arguments.csv {
        options.format = ExportFormat::Csv(ColumnMap::own());
    }
    let to_stdout = arguments.file.as_os_str() == "-";
    let to: Box<dyn Write + Send> =
        if to_stdout { Box::new(std::io::stdout()) } else { Box::new(File::create(&arguments.file)?) };
    let report = shop.export().products(BufWriter::new(to), options, |_| {}).await?;
    if !to_stdout {
        say!("{} products with {} SKUs in {}", report.products, report.skus, arguments.file.display());
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(shop: &Shop, repair: bool) -> Result<ExitCode> {
    shop.index().catch_up().await?;
    let report = shop.index().verify(repair).await?;
    say!(
        "{} products compared: {} missing, {} stale, {} extra{}",
        report.compared,
        report.missing,
        report.stale,
        report.extra,
        if report.repaired { "; repaired" } else { "" }
    );
    let agrees = report.missing == 0 && report.stale == 0 && report.extra == 0;
    Ok(if agrees || report.repaired { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
