//! The log and the traces of a process: a subscriber of `tracing`, which a server installs once (feature `logging`).
//!
//! Lines go to standard error, or to files that are replaced when they are full ([`LogConfig`]). Threads of their own
//! write them, so that no request waits for a slow terminal, a full pipe or a full disk. Lines that cannot be written
//! are dropped, and a later line reports their number. Each line that is logged while a request is served has the
//! field `request_id`. Work that several requests share, such as a commit of all their orders, has none.
//!
//! With the feature `otlp` and a [`TraceConfig`], spans ([`trace`]) are sent to an OpenTelemetry collector. Before the
//! first span of a trace is created, it is decided whether the trace is recorded, so that traces that are not recorded
//! cost almost nothing. Spans wait in a queue; if the collector is down or slow, they are dropped.
//!
//! ```
//! use ecom::config::LogConfig;
//!
//! let _log = ecom::logging::start(&LogConfig::default().levels("warn,ecom::event=info"), None)?;
//! tracing::warn!("this goes to standard error");
//! # Ok::<(), ecom::Error>(())
//! ```

mod files;
#[cfg(feature = "otlp")]
mod otlp;

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ecom_core::{Error, FieldCode, Result, metrics, trace};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use self::files::RollingFile;
use crate::config::{LogConfig, LogFormat, TraceConfig};

/// How many lines wait to be written at most.
const WAITING: usize = 50_000;
/// How long the thread of a log pauses after it has written all waiting lines, so that new ones gather.
const PAUSE: Duration = Duration::from_millis(5);
/// How often the lines that were dropped are counted.
const DROPPED_EVERY: Duration = Duration::from_secs(10);

/// Keeps the log and the traces of the process running. Its drop writes the waiting lines and sends the waiting spans,
/// which takes a few seconds at most.
#[derive(Debug)]
#[must_use = "the log ends when the guard is dropped"]
pub struct LogGuard {
    // The order of the fields is that in which they are dropped.
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
    _counting: mpsc::Sender<()>,
    _writers: Vec<WorkerGuard>,
}

impl LogGuard {
    /// Sends the spans that wait, and returns once the collector has answered, or after some seconds. It blocks the
    /// thread.
    #[cfg(feature = "otlp")]
    pub fn flush_traces(&self) {
        if let Some(traces) = &self.traces {
            traces.flush();
        }
    }
}

/// Installs the subscriber of the process, with its log and its traces.
///
/// # Errors
/// `Validation` if the levels cannot be read, a log file cannot be written, the collector's URL is invalid, or traces
/// are configured without the feature `otlp`. `Internal` if the process has a subscriber already.
pub fn start(log: &LogConfig, traces: Option<&TraceConfig>) -> Result<LogGuard> {
    // Tantivy warns of merges that a later commit made obsolete, which needs no action. The spans of traces would make
    // lines long. A directive can turn both on.
    let filter = || {
        EnvFilter::try_new(format!("tantivy=error,{}=off,{}", trace::TARGET, log.levels))
            .map_err(|e| Error::invalid("ECOM_LOG", FieldCode::Malformed, e.to_string()))
    };
    let Sinks { out, lost, writers } = Sinks::open(log)?;
    let lines = lines(log, out);
    let installed = |set: std::result::Result<(), tracing_subscriber::util::TryInitError>| {
        set.map_err(|e| Error::internal("installing the log, because the process has one already", e))
    };
    #[cfg(feature = "otlp")]
    let traces = match traces {
        None => {
            installed(tracing_subscriber::registry().with(lines).with(filter()?).try_init())?;
            None
        }
        Some(config) => {
            let (traces, spans) = otlp::Traces::start(config)?;
            let layers = vec![lines.with_filter(filter()?).boxed(), spans];
            let gate = otlp::Gate::new(config, filter()?);
            installed(tracing_subscriber::registry().with(layers).with(gate).try_init())?;
            Some(traces)
        }
    };
    #[cfg(not(feature = "otlp"))]
    {
        if traces.is_some() {
            let message = "needs the feature `otlp`, which this program was built without";
            return Err(Error::invalid("ECOM_OTLP_ENDPOINT", FieldCode::Unknown, message));
        }
        installed(tracing_subscriber::registry().with(lines).with(filter()?).try_init())?;
    }
    let (counting, stopped) = mpsc::channel();
    let counter = std::thread::Builder::new().name("log-count".to_owned());
    counter.spawn(move || count(&lost, &stopped)).map_err(|e| Error::internal("starting a thread of the log", e))?;
    Ok(LogGuard {
        #[cfg(feature = "otlp")]
        traces,
        _counting: counting,
        _writers: writers,
    })
}

/// Returns the layer that writes lines.
fn lines(log: &LogConfig, out: Out) -> Box<dyn Layer<Registry> + Send + Sync> {
    let has_colors = log.file.is_none() && io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt::layer::<Registry>().with_writer(out).with_ansi(has_colors);
    match log.format {
        LogFormat::Pretty => {
            layer.map_event_format(|format| WithId { format: format.with_ansi(has_colors), is_json: false }).boxed()
        }
        LogFormat::Json => layer.json().map_event_format(|format| WithId { format, is_json: true }).boxed(),
    }
}

/// Reports the lines that were dropped, until the guard is dropped.
fn count(lost: &Lost, stopped: &mpsc::Receiver<()>) {
    let mut known = 0;
    while stopped.recv_timeout(DROPPED_EVERY) == Err(RecvTimeoutError::Timeout) {
        let total = lost.total();
        if total > known {
            let lines = total - known;
            tracing::warn!(lines, total, "log lines were dropped: they could not be written, or not fast enough");
            let lines = u64::try_from(lines).unwrap_or(u64::MAX);
            metrics::count(metrics::LOG_LINES_DROPPED_TOTAL, &[], lines);
            known = total;
        }
    }
}

/// The lines that were dropped.
struct Lost {
    /// Those that found the queue of a writer full.
    waiting: Vec<ErrorCounter>,
    /// Those that could not be written to a file.
    unwritten: Arc<AtomicUsize>,
}

impl Lost {
    fn total(&self) -> usize {
        let waiting: usize = self.waiting.iter().map(ErrorCounter::dropped_lines).sum();
        waiting.saturating_add(self.unwritten.load(Ordering::Relaxed))
    }
}

/// Where lines go, and what counts those that are dropped.
struct Sinks {
    out: Out,
    lost: Lost,
    writers: Vec<WorkerGuard>,
}

impl Sinks {
    fn open(log: &LogConfig) -> Result<Self> {
        let unwritten = Arc::new(AtomicUsize::new(0));
        let file = |path| {
            let cannot = |e: io::Error| {
                let message = format!("must be the path of a file that can be written ({})", e.kind());
                Error::invalid("ECOM_LOG_FILE", FieldCode::ReferenceNotFound, message)
            };
            RollingFile::open(path, log.file_size, log.files, unwritten.clone()).map_err(cannot)
        };
        let (lines, errors) = match (log.file.clone(), log.errors_file()) {
            (Some(lines), Some(errors)) => (written("log", file(lines)?), Some(written("log-errors", file(errors)?))),
            _ => (written("log", BufWriter::with_capacity(1 << 16, io::stderr())), None),
        };
        let (lines, guard) = lines;
        let mut lost = Lost { waiting: vec![lines.error_counter()], unwritten };
        let mut writers = vec![guard];
        let errors = errors.map(|(errors, guard)| {
            lost.waiting.push(errors.error_counter());
            writers.push(guard);
            errors
        });
        Ok(Self { out: Out { lines, errors }, lost, writers })
    }
}

/// Starts the thread that writes to `to`.
fn written(thread: &str, to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(WAITING).thread_name(thread).finish(Paced(to))
}

/// A writer that pauses after it was flushed, which the thread of the log does when no line is waiting. Without the
/// pause, that thread would wait for the next line, and each request would have to wake it.
struct Paced<W>(W);

impl<W: Write> Write for Paced<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

/// The writers of lines, and of those of errors.
struct Out {
    lines: NonBlocking,
    errors: Option<NonBlocking>,
}

impl<'w> MakeWriter<'w> for Out {
    type Writer = Line;

    fn make_writer(&'w self) -> Line {
        Line { lines: self.lines.clone(), errors: None }
    }

    fn make_writer_for(&'w self, meta: &Metadata<'_>) -> Line {
        let errors = if *meta.level() == Level::ERROR { self.errors.clone() } else { None };
        Line { lines: self.lines.clone(), errors }
    }
}

/// The writer of one line.
struct Line {
    lines: NonBlocking,
    errors: Option<NonBlocking>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(errors) = &mut self.errors {
            errors.write_all(line)?;
        }
        self.lines.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A format whose lines have the id of the request that is being served.
struct WithId<F> {
    format: F,
    is_json: bool,
}

impl<S, N, F> FormatEvent<S, N> for WithId<F>
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, cx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(id) = trace::request_id() else { return self.format.format_event(cx, writer, event) };
        if !self.is_json && event.metadata().fields().field("request_id").is_some() {
            return self.format.format_event(cx, writer, event);
        }
        let mut line = String::with_capacity(300);
        self.format.format_event(cx, Writer::new(&mut line), event)?;
        match line.strip_prefix('{').filter(|_| self.is_json) {
            // All lines of a request have the field at the same place, also those with a field of this name.
            Some(fields) => {
                writer.write_str("{\"request_id\":\"")?;
                for c in id.chars() {
                    if matches!(c, '"' | '\\') {
                        writer.write_char('\\')?;
                    }
                    writer.write_char(c)?;
                }
                writer.write_str("\",")?;
                writer.write_str(fields)
            }
            None => writeln!(writer, "{} request_id={id}", line.trim_end_matches('\n')),
        }
    }
}
