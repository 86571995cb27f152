//! `server move-search`: moves a shop to another search engine while its servers go on answering.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use ecom::Shop;
use ecom::config::{SecretUrl, ServerConfig};
use ecom::paging::Paging;
use ecom::platform::DayRange;
use ecom::search::SearchComparison;

use super::Result;

/// How often the new index may catch up before it is compared with the database. Servers write meanwhile.
const ROUNDS: usize = 20;
/// How many queries of the search log are compared.
const FREQUENT: u32 = 200;

/// The new engine, and how well it must agree with the old one.
#[derive(Args)]
pub(super) struct MoveSearch {
    /// The URL of the new search engine, as in SEARCH_URL.
    #[arg(long, value_name = "URL", env = "ECOM_MOVE_SEARCH_TO", hide_env_values = true)]
    to: String,
    /// A file with one query per line, on whose first 10 hits the engines must agree (--min-overlap). Without it, the
    /// most frequent queries of the search log are used.
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// The number of product titles to search for.
    #[arg(long, value_name = "N", default_value_t = 500)]
    sample: u32,
    /// The least mean share of the first 10 hits that both engines have in common.
    #[arg(long, value_name = "SHARE", default_value_t = 0.7)]
    min_overlap: f64,
    /// The least share of titles whose product is among the first 3 hits of the new engine.
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    min_known: f64,
    /// Set SEARCH_URL in this file, if the new engine is good enough.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

/// Builds the new index, compares it with the one in use, and switches. Returns false if it was not good enough.
pub(super) async fn run(config: &ServerConfig, options: &MoveSearch) -> Result<bool> {
    let mut moved = config.clone();
    moved.search_fallback_url = None;
    let old = moved.shop_builder().build().await?;
    moved.search_url = SecretUrl::new(&options.to);
    let new = moved.shop_builder().build().await?;
    let is_good = compared(&old, &new, options).await;
    old.close().await;
    new.close().await;
    is_good
}

async fn compared(old: &Shop, new: &Shop, options: &MoveSearch) -> Result<bool> {
    build(new).await?;
    old.index().catch_up().await?;
    let texts = match &options.queries {
        Some(path) => lines(path)?,
        None => frequent(old).await?,
    };
    let found = old.search().compare(&new.search(), &texts, options.sample).await?;
    let SearchComparison { texts, overlap, titles, known_here, known_there, .. } = found;
    say!("{texts} searches: {:.1} % of the first 10 hits are the same", overlap * 100.0);
    for (text, overlap) in &found.worst {
        say!("  {:5.1} %  {text}", overlap * 100.0);
    }
    say!(
        "{titles} titles: {:.1} % are found by the old engine, {:.1} % by the new one",
        known_here * 100.0,
        known_there * 100.0
    );
    if texts + titles == 0 {
        return Err("there is nothing to compare: the search log has no queries, and no active product was found; \
                    name queries by --queries"
            .into());
    }
    // A comparison with NaN is false.
    if !(overlap >= options.min_overlap && known_there >= options.min_known) {
        let (overlap, known) = (options.min_overlap * 100.0, options.min_known * 100.0);
        say!("not switched: {overlap:.0} % of the hits and {known:.0} % of the titles are required");
        return Ok(false);
    }
    if let Some(path) = &options.env_file {
        switch(path, &options.to)?;
        say!("SEARCH_URL is set in {}; restart the servers one after another", path.display());
    } else {
        say!("the new index is ready: set SEARCH_URL and restart the servers one after another");
    }
    Ok(true)
}

/// Builds the index and brings it in step with the database.
async fn build(shop: &Shop) -> Result<()> {
    let mut refused = 0;
    for _ in 0..ROUNDS {
        let report = shop.index().catch_up().await?;
        if !report.writer {
            return Err("another process writes the new index: stop it, or move to another index".into());
        }
        refused += report.refused;
        if report.rebuilt {
            say!("{} products indexed, {} refused", report.written, report.refused);
        }
        if report.events > 0 || report.rebuilt {
            continue;
        }
        let report = shop.index().verify(false).await?;
        if report.missing + report.stale + report.extra <= refused {
            say!("{} products compared with the database", report.compared);
            return Ok(());
        }
    }
    // Servers write all the time, so that some products are always on their way.
    let report = shop.index().verify(true).await?;
    let repaired = report.missing + report.stale + report.extra;
    if repaired > refused && !report.repaired {
        return Err(format!("the new index lacks changes of {repaired} products, which could not be repaired").into());
    }
    say!("{} products compared with the database, {repaired} of them repaired", report.compared);
    Ok(())
}

/// Returns the most frequent queries of the last 30 days.
async fn frequent(shop: &Shop) -> Result<Vec<String>> {
    let range = DayRange::last(30, shop.clock().now().date_naive());
    let (page, _) = shop.search_log().popular(&range, &Paging::first(FREQUENT)).await?;
    Ok(page.items.into_iter().map(|term| term.text).collect())
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// Replaces or adds the line of SEARCH_URL in a file of settings, atomically.
fn switch(path: &Path, url: &str) -> Result<()> {
    if url.contains(['\'', '\n']) {
        return Err("--to: write a quote in a URL as %27".into());
    }
    let shown = path.display();
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("{shown}: {e}").into()),
    };
    let is_setting = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix("SEARCH_URL").is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let mut after: String = before.lines().filter(|line| !is_setting(line)).flat_map(|line| [line, "\n"]).collect();
    after.extend(["SEARCH_URL='", url, "'\n"]);
    // A link stays one. The URL may contain a password.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let written = PathBuf::from(format!("{}.{}.new", path.display(), std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&written).map_err(|e| format!("{}: {e}", written.display()))?;
    let mut write = || {
        if let Ok(before) = fs::metadata(&path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(after.as_bytes())?;
        file.sync_all()?;
        fs::rename(&written, &path)
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&written);
        format!("{shown}: {e}").into()
    })
}
