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
use std::time::{Duration, Instant};

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
/// How long the end of the log waits until all lines are written.
const LAST_LINES: Duration = Duration::from_secs(5);
/// How long the end of the log waits until its report of lost lines is written.
const LAST_REPORT: Duration = Duration::from_secs(1);

/// Keeps the log and the traces of the process running. Its drop sends the waiting spans, which takes some seconds at
/// most, and writes the waiting lines. It waits for the lines for five seconds at most, and reports on standard error
/// how many lines were lost.
#[derive(Debug)]
#[must_use = "the log ends when the guard is dropped"]
pub struct LogGuard {
    #[cfg(feature = "otlp")]
    traces: Option<otlp::Traces>,
    _counting: mpsc::Sender<()>,
    lost: Arc<Lost>,
    backlogs: Vec<Backlog>,
    writers: Vec<WorkerGuard>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // The end of the traces may log.
        #[cfg(feature = "otlp")]
        drop(self.traces.take());
        let left = drained(&self.backlogs, LAST_LINES);
        for writer in self.writers.drain(..) {
            if left == 0 {
                drop(writer);
            } else {
                // Its drop would wait for the thread again. The thread ends with the process.
                std::mem::forget(writer);
            }
        }
        let (dropped, _) = self.lost.news();
        let lines = left.saturating_add(dropped);
        if lines > 0 {
            report(format!("{lines} log lines were lost: they could not be written, or not fast enough"));
        }
    }
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
    let Sinks { out, lost, backlogs, writers } = Sinks::open(log)?;
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
    let dropped = lost.clone();
    counter.spawn(move || count(&dropped, &stopped)).map_err(|e| Error::internal("starting a thread of the log", e))?;
    Ok(LogGuard {
        #[cfg(feature = "otlp")]
        traces,
        _counting: counting,
        lost,
        backlogs,
        writers,
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
    while stopped.recv_timeout(DROPPED_EVERY) == Err(RecvTimeoutError::Timeout) {
        let (lines, total) = lost.news();
        if lines > 0 {
            tracing::warn!(lines, total, "log lines were dropped: they could not be written, or not fast enough");
            let lines = u64::try_from(lines).unwrap_or(u64::MAX);
            metrics::count(metrics::LOG_LINES_DROPPED_TOTAL, &[], lines);
        }
    }
}

/// Waits until the writers have written all lines, or until `limit` has passed. Returns how many lines are left.
fn drained(backlogs: &[Backlog], limit: Duration) -> usize {
    let start = Instant::now();
    loop {
        let left: usize = backlogs.iter().map(Backlog::lines).sum();
        if left == 0 || start.elapsed() >= limit {
            return left;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Writes a line to standard error. If that blocks, because nobody reads it, the call does not wait for long.
fn report(line: String) {
    let (done, written) = mpsc::channel();
    let write = move || {
        let _ = writeln!(io::stderr(), "{line}");
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("log-report".to_owned()).spawn(write).is_ok() {
        let _ = written.recv_timeout(LAST_REPORT);
    }
}

/// The lines that were dropped.
#[derive(Debug)]
struct Lost {
    /// Those that found the queue of a writer full.
    waiting: Vec<ErrorCounter>,
    /// Those that could not be written.
    unwritten: Arc<AtomicUsize>,
    /// How many of both were reported.
    reported: AtomicUsize,
}

impl Lost {
    /// Returns how many lines were dropped since the last call, and in total.
    fn news(&self) -> (usize, usize) {
        let waiting: usize = self.waiting.iter().map(ErrorCounter::dropped_lines).sum();
        let total = waiting.saturating_add(self.unwritten.load(Ordering::Relaxed));
        (total.saturating_sub(self.reported.swap(total, Ordering::Relaxed)), total)
    }
}

/// Counts the lines of a writer, to know how many it still has to write.
#[derive(Debug)]
struct Backlog {
    given: Arc<AtomicUsize>,
    /// Those that found its queue full.
    dropped: ErrorCounter,
    /// Those that it has written, or could not write.
    done: Arc<AtomicUsize>,
}

impl Backlog {
    /// Returns how many lines are still to be written.
    fn lines(&self) -> usize {
        let gone = self.done.load(Ordering::Acquire).saturating_add(self.dropped.dropped_lines());
        self.given.load(Ordering::Relaxed).saturating_sub(gone)
    }
}

/// Where lines go, and the counts of lines that wait and that were dropped.
struct Sinks {
    out: Out,
    lost: Arc<Lost>,
    backlogs: Vec<Backlog>,
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
            (Some(lines), Some(errors)) => {
                let lines = written("log", file(lines)?, &unwritten);
                (lines, Some(written("log-errors", file(errors)?, &unwritten)))
            }
            _ => (written("log", BufWriter::with_capacity(1 << 16, io::stderr()), &unwritten), None),
        };
        let (lines, backlog, writer) = lines;
        let (mut backlogs, mut writers) = (vec![backlog], vec![writer]);
        let errors = errors.map(|(errors, backlog, writer)| {
            backlogs.push(backlog);
            writers.push(writer);
            errors
        });
        let waiting = backlogs.iter().map(|backlog| backlog.dropped.clone()).collect();
        let lost = Arc::new(Lost { waiting, unwritten, reported: AtomicUsize::new(0) });
        Ok(Self { out: Out { lines, errors }, lost, backlogs, writers })
    }
}

/// Starts the thread that writes to `to`. Lines that cannot be written are added to `unwritten`.
fn written(
    thread: &str,
    to: impl Write + Send + 'static,
    unwritten: &Arc<AtomicUsize>,
) -> (Sink, Backlog, WorkerGuard) {
    let (given, done) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let paced = Paced { to, buffered: 0, done: done.clone(), unwritten: unwritten.clone() };
    let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING).thread_name(thread);
    let (queue, writer) = builder.finish(paced);
    let backlog = Backlog { given: given.clone(), dropped: queue.error_counter(), done };
    (Sink { queue, given }, backlog, writer)
}

/// A writer that pauses after it was flushed, which the thread of the log does when no line is waiting. Without the
/// pause, that thread would wait for the next line, and each request would have to wake it. Each call of `write_all` is
/// one line. No call returns an error: lines that cannot be written are counted.
struct Paced<W> {
    to: W,
    /// The lines since the last flush.
    buffered: usize,
    done: Arc<AtomicUsize>,
    unwritten: Arc<AtomicUsize>,
}

impl<W: Write> Write for Paced<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.to.write_all(line).is_ok() {
            self.buffered += 1;
        } else {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
            self.done.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.buffered);
        if self.to.flush().is_err() {
            self.unwritten.fetch_add(lines, Ordering::Relaxed);
        }
        self.done.fetch_add(lines, Ordering::Release);
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

/// The queue of the lines of a writer.
struct Sink {
    queue: NonBlocking,
    /// The lines that it was given. It drops those for which it has no space.
    given: Arc<AtomicUsize>,
}

impl Sink {
    fn line(&self, line: &[u8]) -> io::Result<()> {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.queue.clone().write_all(line)
    }
}

/// The writers of lines, and of those of errors.
struct Out {
    lines: Sink,
    errors: Option<Sink>,
}

impl<'w> MakeWriter<'w> for Out {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line { lines: &self.lines, errors: None }
    }

    fn make_writer_for(&'w self, meta: &Metadata<'_>) -> Line<'w> {
        let errors = if *meta.level() == Level::ERROR { self.errors.as_ref() } else { None };
        Line { lines: &self.lines, errors }
    }
}

/// The writer of one line.
struct Line<'w> {
    lines: &'w Sink,
    errors: Option<&'w Sink>,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(errors) = self.errors {
            errors.line(line)?;
        }
        self.lines.line(line)?;
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

#[cfg(test)]
mod tests {
    use std::slice;
    use std::sync::Mutex;

    use super::*;

    /// A terminal that nobody reads while the test holds its text.
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_waits_for_a_slow_writer_and_knows_how_many_lines_are_left() {
        let (text, unwritten) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::default());
        let (sink, backlog, writer) = written("test", Terminal(text.clone()), &unwritten);
        let held = text.lock().unwrap();
        for _ in 0..3 {
            sink.line(b"line\n").unwrap();
        }
        assert_eq!(drained(slice::from_ref(&backlog), Duration::ZERO), 3);
        drop(held);
        assert_eq!(drained(slice::from_ref(&backlog), Duration::from_secs(60)), 0);
        assert_eq!(*text.lock().unwrap(), b"line\n".repeat(3));
        drop(writer);
    }

    /// A pipe whose reader has ended.
    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_not_waited_for() {
        // The first writer fails at each line, and the second one when its buffer is flushed.
        let unwritten = Arc::default();
        let (at_once, first, _writer) = written("test", Broken, &unwritten);
        let (later, second, _writer) = written("test", BufWriter::new(Broken), &unwritten);
        for sink in [&at_once, &later] {
            sink.line(b"line 1\n").unwrap();
            sink.line(b"line 2\n").unwrap();
        }
        let backlogs = [first, second];
        assert_eq!(drained(&backlogs, Duration::from_secs(60)), 0);
        let waiting = backlogs.iter().map(|backlog| backlog.dropped.clone()).collect();
        let lost = Lost { waiting, unwritten, reported: AtomicUsize::new(0) };
        assert_eq!([lost.news(), lost.news()], [(4, 4), (0, 4)]);
    }
}
