//! Imports of files, with their progress, for the server and for `ingest`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ecom::Shop;
use ecom::catalog::{DeadLetters, ImportKind, ImportOptions, ImportReport};
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Result;

/// How often a line shows the progress where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// Returns the kind of the records in a file, by its beginning.
pub fn kind_of(path: &Path) -> Result<ImportKind> {
    let shown = path.display();
    let mut head = Vec::new();
    File::open(path).map_err(|e| format!("{shown}: {e}"))?.take(64 * 1024).read_to_end(&mut head)?;
    ImportKind::detect(&head)
        .ok_or_else(|| format!("{shown}: holds no products, categories, customers or carts that ecom can read").into())
}

/// A source that is imported.
pub struct Input {
    /// The kind of the records.
    pub kind: ImportKind,
    /// The name in messages and of the file of dead letters.
    pub name: String,
    /// The path of a file.
    pub path: Option<PathBuf>,
    /// The number of bytes, if it is known.
    pub size: Option<u64>,
    /// The content.
    pub reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens a file.
    pub fn file(kind: ImportKind, path: PathBuf) -> Result<Self> {
        let name = path.file_name().map_or_else(|| "import".into(), |n| n.to_string_lossy().into_owned());
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let size = Some(file.metadata()?.len());
        Ok(Self { kind, name, path: Some(path), size, reader: Box::new(file) })
    }
}

/// Imports sources, each after those that it refers to. `letters_of` returns where the dead letters of the source with
/// a name go. Stops at the first one that ends early.
pub async fn all(
    shop: &Shop,
    mut inputs: Vec<Input>,
    letters_of: impl Fn(&str) -> PathBuf,
    options: impl Fn() -> ImportOptions,
) -> Result<()> {
    inputs.sort_by_key(|input| ImportKind::ALL.iter().position(|kind| *kind == input.kind));
    let mut used = HashSet::new();
    for Input { kind, name, path, size, reader } in inputs {
        let options = options();
        // The dead letters of a real run outlive those of a dry run.
        let path_of = |name: &str| {
            let letters = letters_of(name);
            if options.dry_run { letters.with_extension("dry-run.ndjson") } else { letters }
        };
        let mut letters = path_of(&name);
        for n in 2.. {
            if used.insert(letters.clone()) {
                break;
            }
            // Another file of this call has the same name.
            letters = path_of(&format!("{name}.{n}"));
        }
        let source = path.map(fs::canonicalize).transpose()?;
        if letters.exists() && Some(fs::canonicalize(&letters)?) == source {
            // Somebody has mended the dead letters of an earlier run.
            letters = letters.with_extension("again.ndjson");
        }
        if let Some(folder) = letters.parent() {
            fs::create_dir_all(folder)?;
        }
        let options = options.dead_letters(DeadLetters::File(letters.clone()));
        // The dead letters of an earlier run would pass for those of this one, unless this one continues it.
        if letters.exists() && options.skip == 0 {
            fs::remove_file(&letters)?;
        }
        run(shop, kind, &name, reader, size, options, Some(&letters)).await?;
    }
    Ok(())
}

/// Counts the bytes that are read.
struct Counted<R> {
    source: R,
    bar: ProgressBar,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(to)?;
        self.bar.inc(n as u64);
        Ok(n)
    }
}

/// Imports one source, shows its progress, and prints the report. A terminal gets a progress bar, and anything else a
/// line from time to time.
pub async fn run(
    shop: &Shop,
    kind: ImportKind,
    name: &str,
    source: impl Read + Send + 'static,
    size: Option<u64>,
    options: ImportOptions,
    letters: Option<&Path>,
) -> Result<()> {
    let dry_run = options.dry_run;
    let options = options.file(name.to_owned());
    let on_a_terminal = std::io::stderr().is_terminal();
    let target = if on_a_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(size, target);
    let shape = if size.is_some() { "{prefix} {wide_bar} {percent}% {msg} {eta}" } else { "{prefix} {spinner} {msg}" };
    bar.set_style(ProgressStyle::with_template(shape)?);
    bar.set_prefix(name.to_owned());
    let source = Counted { source, bar: bar.clone() };
    let mut shown = Instant::now();
    let progress = |report: &ImportReport| {
        let ImportReport { read, rejected, rate, .. } = report;
        if on_a_terminal {
            bar.set_message(format!("{read} read, {rejected} rejected, {rate:.0}/s"));
        } else if shown.elapsed() > EVERY {
            shown = Instant::now();
            let bytes = HumanBytes(bar.position());
            let _ = writeln!(std::io::stderr(), "{name}: {read} read ({bytes}), {rejected} rejected, {rate:.0}/s");
        }
    };
    let records = shop.import().records(kind, source, &options);
    let imported = shop.import().as_job(kind, records, options, progress).await;
    bar.finish_and_clear();
    let report = imported?.report;
    let ImportReport { read, inserted, updated, unchanged, rejected, categories_created: made, seconds, .. } = report;
    let dry = if dry_run { " (dry run: nothing was written)" } else { "" };
    say!(
        "{name}: {read} read, {inserted} inserted, {updated} updated, {unchanged} unchanged, {rejected} rejected, \
         {made} categories made; {seconds:.1} s{dry}"
    );
    if report.skipped > 0 {
        say!("  {} records of an earlier run skipped", report.skipped);
    }
    if !report.unknown_fields.is_empty() {
        let fields = report.unknown_fields.iter().map(|(name, count)| format!("{name} ({count})"));
        say!("  fields that ecom does not know: {}", fields.collect::<Vec<_>>().join(", "));
    }
    if let (Some(letters), 1..) = (letters, rejected) {
        say!("  rejected records, with their place and reason: {}", letters.display());
    }
    if let Some(end) = report.ended_early {
        let done = report.done;
        return Err(format!("{name} ended early: {end}; the {done} records before are done").into());
    }
    Ok(())
}
