//! Imports as jobs: each run is a row with its counters, its state, and the records that it has refused.

use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{DeadLetters, ImportKind, ImportOptions, ImportReport, ImportService, RecordSource, patiently};
use crate::domain::platform::job::{Job, JobCounters, JobKind, JobRejection};
use crate::error::Result;
use crate::id::JobId;
use crate::log_event;
use crate::metrics;
use crate::port::storage::Repositories as _;
use crate::service::background::worker::{Held, Progress, begin_here, run_here};
use crate::service::run::context::Context;

/// The bytes of rejections that are written by one statement at most, unless a single one is larger.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// The end of an import that was a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ImportRun {
    /// The id of the job, for [`JobService::get`](crate::platform::JobService::get) and
    /// [`JobService::rejections`](crate::platform::JobService::rejections).
    pub job: JobId,
    /// The result of the import.
    pub report: ImportReport,
}

impl ImportService<'_> {
    /// Imports records of a kind, as [`Self::products`] and the methods of the other kinds do, and keeps a job for it.
    /// The job has the kind [`JobKind::IMPORT`] and the counters of the report. It keeps the products and categories
    /// that were refused, up to [`Job::MAX_REJECTIONS`] bytes, in addition to the dead letters of the options; the
    /// counter `rejections_not_kept` counts the others. It has failed if the import fails or ends early. If the process dies,
    /// the job fails once its lease has run out, provided that a process runs the background work of the shop.
    ///
    /// # Errors
    /// The errors of the method of the kind, and `Unavailable`.
    pub async fn as_job(
        &self,
        kind: ImportKind,
        records: Box<dyn RecordSource>,
        options: ImportOptions,
        on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportRun> {
        let planned = self.plan_job(kind, &options, None)?;
        let held = self.begin_job(planned).await?;
        self.run_job(held, kind, records, options, on_progress).await
    }

    /// Checks an import and returns the parameters of its job. `feed` is the name of the feed that is imported.
    ///
    /// # Errors
    /// `Validation`, `Forbidden`.
    pub(crate) fn plan_job(
        &self,
        kind: ImportKind,
        options: &ImportOptions,
        feed: Option<&str>,
    ) -> Result<Map<String, Value>> {
        self.allow(kind, options)?;
        let mut parameters = parameters(kind, options);
        parameters.extend(feed.map(|name| ("feed".to_owned(), json!(name))));
        Ok(parameters)
    }

    /// Creates the job of an import that [`Self::run_job`] runs at once.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn begin_job(&self, parameters: Map<String, Value>) -> Result<Held> {
        begin_here(self.cx, self.who, JobKind::IMPORT, parameters).await
    }

    /// Runs an import as a job of [`Self::begin_job`].
    ///
    /// # Errors
    /// As [`Self::as_job`].
    pub(crate) async fn run_job(
        &self,
        held: Held,
        kind: ImportKind,
        records: Box<dyn RecordSource>,
        mut options: ImportOptions,
        mut on_progress: impl FnMut(&ImportReport) + Send,
    ) -> Result<ImportRun> {
        let job = held.id();
        let progress = Progress::default();
        // Letters of customers and carts contain personal data, which an erasure would not find here.
        let has_letters = matches!(kind, ImportKind::Products | ImportKind::Categories);
        let kept = Arc::new(Kept { job, has_letters, letters: Mutex::default(), more: Notify::new() });
        let letters = std::mem::take(&mut options.dead_letters);
        let dead_letters = DeadLetters::Writer(Box::new(Both {
            first: letters,
            resumes: options.skip > 0 && kind != ImportKind::Categories,
            kept: kept.clone(),
        }));
        let counts = Counts { of: kind, writes: !options.dry_run, counted: Mutex::default() };
        let options = options.dead_letters(dead_letters);
        let counted = |report: &ImportReport| {
            progress.set(counters(report, &kept));
            counts.count(report);
            on_progress(report);
        };
        let work = async {
            let import = Box::pin(async {
                let report = match kind {
                    ImportKind::Products => self.products_from(records, options, counted).await,
                    ImportKind::Categories => self.categories_from(records, options, counted).await,
                    ImportKind::Customers => self.customers_from(records, options, counted).await,
                    ImportKind::Carts => self.carts_from(records, options, counted).await,
                };
                if let Ok(report) = &report {
                    progress.set(counters(report, &kept));
                    counts.count(report);
                }
                kept.end();
                Ok(report)
            });
            // A failed import has letters as well, so that its error does not end the writer.
            let (report, ()) = tokio::try_join!(import, kept.write(self.cx))?;
            report
        };
        let flaw = |report: &ImportReport| report.ended_early.as_ref().map(|end| format!("it ended early: {end}"));
        let report = run_here(self.cx, held, &progress, work, flaw).await?;
        tracing::info!(
            target: log_event::TARGET,
            event = log_event::IMPORT_FINISHED,
            %job,
            of = kind.as_str(),
            read = report.read,
            written = report.inserted + report.updated,
            unchanged = report.unchanged,
            rejected = report.rejected,
            complete = report.ended_early.is_none(),
            "an import has ended"
        );
        Ok(ImportRun { job, report })
    }
}

/// The outcomes of records, which the metrics count while an import goes on.
struct Counts {
    of: ImportKind,
    /// False for a dry run, which is not counted.
    writes: bool,
    /// How many records of each outcome are counted already.
    counted: Mutex<[u64; 5]>,
}

impl Counts {
    /// Counts the records since the last call.
    fn count(&self, report: &ImportReport) {
        if !self.writes {
            return;
        }
        let outcomes = [
            ("inserted", report.inserted),
            ("updated", report.updated),
            ("unchanged", report.unchanged),
            ("rejected", report.rejected),
            ("dropped", report.dropped),
        ];
        for ((outcome, now), before) in outcomes.into_iter().zip(self.counted.lock().iter_mut()) {
            if now > *before {
                let labels = [("of", self.of.as_str()), ("outcome", outcome)];
                metrics::count(metrics::IMPORT_RECORDS_TOTAL, &labels, now - *before);
                *before = now;
            }
        }
    }
}

/// Returns the parameters of a job, for people.
fn parameters(kind: ImportKind, options: &ImportOptions) -> Map<String, Value> {
    let text = |text: &String| json!(text.chars().filter(|c| *c != '\0').take(255).collect::<String>());
    let mut parameters = Map::from_iter([("of".to_owned(), json!(kind.as_str()))]);
    parameters.extend(options.source.as_ref().map(|s| ("source".to_owned(), text(s))));
    parameters.extend(options.file.as_ref().map(|s| ("file".to_owned(), text(s))));
    if options.bulk && kind == ImportKind::Products {
        parameters.insert("bulk".to_owned(), json!(true));
    }
    if options.dry_run {
        parameters.insert("dry_run".to_owned(), json!(true));
    }
    parameters
}

/// Returns the counters of a job.
fn counters(report: &ImportReport, kept: &Kept) -> JobCounters {
    let not_kept = kept.letters.lock().not_kept;
    let ImportReport { read, inserted, updated, unchanged, rejected, dropped, skipped, categories_created, .. } =
        report;
    let all = [
        ("read", *read),
        ("inserted", *inserted),
        ("updated", *updated),
        ("unchanged", *unchanged),
        ("rejected", *rejected),
        ("dropped", *dropped),
        ("skipped", *skipped),
        ("categories_created", *categories_created),
        ("rejections_not_kept", not_kept),
    ];
    let set = all.into_iter().filter(|(name, n)| *n > 0 || *name == "read");
    set.map(|(name, n)| (name.to_owned(), n)).collect()
}

/// The dead letters that the job keeps, on their way to the database.
struct Kept {
    job: JobId,
    /// Whether the job keeps letters. If not, it counts them.
    has_letters: bool,
    letters: Mutex<Letters>,
    more: Notify,
}

#[derive(Default)]
struct Letters {
    /// The letters that are not written yet.
    waiting: Vec<JobRejection>,
    /// The bytes of all letters, written or not.
    bytes: usize,
    not_kept: u64,
    /// Whether no more letters come.
    ended: bool,
}

impl Kept {
    /// Takes a line with a dead letter.
    fn add(&self, line: &[u8]) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Position {
            index: u64,
            line: u64,
        }
        let letter = line.trim_ascii_end();
        let mut letters = self.letters.lock();
        if !self.has_letters || letters.bytes + letter.len() > Job::MAX_REJECTIONS {
            letters.not_kept += 1;
            return Ok(());
        }
        let Position { index, line } = serde_json::from_slice(letter)?;
        let letter = String::from_utf8(letter.to_vec()).map_err(io::Error::other)?;
        letters.bytes += letter.len();
        letters.waiting.push(JobRejection { job_id: self.job, index, line, letter });
        drop(letters);
        self.more.notify_one();
        Ok(())
    }

    /// Lets [`Self::write`] end once it has written all letters.
    fn end(&self) {
        self.letters.lock().ended = true;
        self.more.notify_one();
    }

    /// Writes letters as they come, until [`Self::end`]. The caller runs it to its end: if it were dropped during a
    /// commit, nobody would know which letters the commit has written.
    async fn write(&self, cx: &Arc<Context>) -> Result<()> {
        loop {
            self.more.notified().await;
            let ended = self.letters.lock().ended;
            self.write_all(cx).await?;
            if ended {
                return Ok(());
            }
        }
    }

    /// Writes all letters that wait.
    async fn write_all(&self, cx: &Arc<Context>) -> Result<()> {
        loop {
            let part: Vec<JobRejection> = {
                let letters = self.letters.lock();
                let mut bytes = 0;
                let fits = letters.waiting.iter().take_while(|letter| {
                    let first = bytes == 0;
                    bytes += letter.letter.len();
                    first || bytes <= WRITTEN_AT_ONCE
                });
                fits.take(1_000).cloned().collect()
            };
            if part.is_empty() {
                return Ok(());
            }
            let part = &part;
            let write = || {
                cx.write_at_length(|mut tx| async move {
                    // They may be there already, all of them, if the outcome of a commit was unknown.
                    let first = part.first().map(|letter| letter.index);
                    let after = first.and_then(|index| index.checked_sub(1));
                    let found = tx.jobs().rejections(self.job, after, 1).await?;
                    if found.first().map(|letter| letter.index) != first {
                        tx.jobs().add_rejections(part).await?;
                    }
                    Ok(((), tx))
                })
            };
            patiently(write).await?;
            self.letters.lock().waiting.drain(..part.len());
        }
    }
}

/// Writes dead letters to where the options want them, and to the job.
struct Both {
    first: DeadLetters,
    resumes: bool,
    kept: Arc<Kept>,
}

impl Write for Both {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.first.write_line(line, self.resumes)?;
        self.kept.add(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.first.flush()
    }
}
