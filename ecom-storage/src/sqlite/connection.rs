//! A connection of the shop to SQLite, whose statements run on the calling thread.
//!
//! A statement takes some 10 µs, and handing it to another thread and back takes several times as long. So it runs on
//! the thread of the task that needs it, and the following runs on a thread of the blocking pool:
//!
//! - opening and closing a file, migrations, and commits that wait for the disk;
//! - writing the log to the database, when it has become long;
//! - a statement that only reads, if it takes longer than [`BRIEF`]: it is interrupted and starts again there;
//! - a statement that took longer than [`BRIEF`] before, until an execution takes less than a quarter of it;
//! - a statement with more than [`MANY_VALUES`] parameters.
//!
//! So a statement that writes many rows by few parameters keeps its thread the first time. On a database in memory, all
//! statements run on the calling thread.
//!
//! SQLite itself never waits for a lock of another process: the task waits and tries again.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{ErrorCode, OpenFlags, ffi};

use super::options::SqliteOptions;
use super::statement::{self, Watch, Work};
use super::{Role, error};
use crate::sql::engine::error::{DbError, DbResult, Kind};
use crate::sql::engine::value::{Row, Value};

/// How long a statement may keep a thread of the runtime.
const BRIEF: Duration = Duration::from_millis(2);
/// The number of parameters from which on a statement writes so many rows that it takes longer than [`BRIEF`].
const MANY_VALUES: usize = 2_000;
/// The first and the longest pause before a database that another connection has locked is tried again.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];
/// The prepared statements that a connection keeps.
const STATEMENTS: usize = 256;
/// The size of the write-ahead log, in pages of 4 KiB, at which it is written to the database. SQLite's default of
/// 1,000 writes a page that many commits change several times as often.
const CHECKPOINT_PAGES: u32 = 4_000;
/// The page cache of a connection for reads, in KiB. What it lacks is in the cache of the operating system. Reads from a
/// memory map (`mmap_size`) are no faster, count as memory of the process once for each connection, and end the process
/// if the file cannot be read.
const READER_CACHE_KIB: i32 = 8 << 10;

/// How long the page cache stays large after the beginning of the last long transaction.
const KEPT: Duration = Duration::from_secs(10);

/// The page cache of a transaction that writes, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// For the pages of short writes, which are kept from one to the next.
    Short = 16 << 10,
    /// For the pages of an import's batch, which would be written twice if they did not fit, and read again by the next
    /// batch if they were freed in between. They are freed when a short write begins [`KEPT`] after the last batch.
    Long = 64 << 10,
}

/// An open connection.
pub(crate) struct Connection {
    /// `None` while the blocking pool has it, and for good if the call was dropped meanwhile.
    conn: Option<rusqlite::Connection>,
    watch: Arc<Watch>,
    slow: Arc<Slow>,
    role: Role,
    room: Room,
    /// When the last long transaction began, if the page cache may be large.
    last_long: Option<Instant>,
    in_file: bool,
    durable: bool,
    /// Whether the log is to be written to the database before the next transaction: after commits that do not do so.
    log_is_long: bool,
    busy_timeout: Duration,
    statement_timeout: Duration,
}

thread_local! {
    /// The length of the log in pages, as the last commit on this thread has left it.
    static LOG_PAGES: Cell<u32> = const { Cell::new(0) };
}

/// Another process has the lock of the database.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process has had the lock of the SQLite database for {0:?}: let it end its transaction, or raise \
     `SqliteOptions::busy_timeout`"
)]
struct Locked(Duration, #[source] rusqlite::Error);

/// The statements that took longer than [`BRIEF`], which all connections of a storage share.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    texts: Mutex<HashSet<u64>>,
    count: AtomicUsize,
}

impl Slow {
    /// The number of statements that are remembered.
    const MOST: usize = 1_000;

    fn key(text: &str) -> u64 {
        foldhash::fast::FixedState::default().hash_one(text)
    }

    fn contains(&self, text: &str) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.texts.lock().contains(&Self::key(text))
    }

    fn set(&self, text: &str, is_slow: bool) {
        let mut texts = self.texts.lock();
        if is_slow {
            if texts.len() >= Self::MOST {
                texts.clear();
            }
            texts.insert(Self::key(text));
        } else {
            texts.remove(&Self::key(text));
        }
        self.count.store(texts.len(), Ordering::Relaxed);
    }
}

/// Interrupts the statement of a call that is dropped.
struct InterruptOnDrop(Option<rusqlite::InterruptHandle>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.interrupt();
        }
    }
}

impl Connection {
    /// Opens a connection. If another process has locked the file, waits for at most `busy_timeout`.
    pub(crate) async fn open(options: &SqliteOptions, role: Role, slow: Arc<Slow>) -> DbResult<Self> {
        let watch = Watch::new();
        // Switching to WAL takes a lock that SQLite does not wait for.
        let mut retry = Retry::new(options.busy_timeout);
        let conn = loop {
            let (path, durable) = (options.path().map(Path::to_owned), options.durable);
            let watch = watch.clone();
            let opened = on_pool(move || open(path.as_deref(), durable, role, &watch)).await?;
            match opened {
                Err(e) if is_busy(&e) && retry.pause().await => {}
                opened => break opened.map_err(|e| classified(e, role, options.busy_timeout))?,
            }
        };
        Ok(Self {
            conn: Some(conn),
            watch,
            slow,
            role,
            room: Room::Short,
            last_long: None,
            in_file: options.path().is_some(),
            durable: options.durable,
            log_is_long: false,
            busy_timeout: options.busy_timeout,
            statement_timeout: options.statement_timeout,
        })
    }

    /// Returns all rows.
    pub(crate) async fn fetch_all(&mut self, text: &str, args: Vec<Value<'_>>) -> DbResult<Vec<Row>> {
        self.run(text, args, statement::fetch_all).await
    }

    /// Returns the first row.
    pub(crate) async fn fetch_optional(&mut self, text: &str, args: Vec<Value<'_>>) -> DbResult<Option<Row>> {
        self.run(text, args, statement::fetch_optional).await
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) async fn execute(&mut self, text: &str, args: Vec<Value<'_>>) -> DbResult<u64> {
        self.run(text, args, statement::execute).await
    }

    /// Begins a transaction that writes. If another process is writing, waits for at most `busy_timeout`.
    pub(crate) async fn begin(&mut self, text: &'static str) -> DbResult<()> {
        if std::mem::take(&mut self.log_is_long) {
            self.watch.stop();
            // If it cannot be written now, the next commits have the same reason to try again.
            let _ = self.on_thread(false, |conn| conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")).await?;
        }
        let mut retry = Retry::new(self.busy_timeout);
        loop {
            self.watch.stop();
            let begun = self.here()?.execute_batch(text);
            match begun {
                Err(e) if is_busy(&e) && retry.pause().await => {}
                done => return done.map_err(|e| self.classified(e)),
            }
        }
    }

    /// Sets the size of the page cache of a connection that writes.
    pub(crate) fn make_room(&mut self, room: Room) {
        let now = Instant::now();
        match room {
            Room::Long => self.last_long = Some(now),
            Room::Short if self.last_long.is_some_and(|began| now - began < KEPT) => return,
            Room::Short => self.last_long = None,
        }
        if self.room != room
            && let Ok(conn) = self.here()
            && conn.pragma_update(None, "cache_size", -(room as i32)).is_ok()
        {
            self.room = room;
        }
    }

    /// Commits the transaction.
    pub(crate) async fn commit(&mut self) -> DbResult<()> {
        self.watch.stop();
        if self.in_file && self.durable {
            return self.on_thread(false, |conn| conn.execute_batch("COMMIT")).await?.map_err(|e| self.classified(e));
        }
        LOG_PAGES.set(0);
        self.here()?.execute_batch("COMMIT").map_err(|e| self.classified(e))?;
        self.log_is_long = LOG_PAGES.get() >= CHECKPOINT_PAGES;
        Ok(())
    }

    /// Runs statements without parameters that wait for nothing, such as a ROLLBACK.
    pub(crate) fn brief(&mut self, text: &'static str) -> DbResult<()> {
        self.watch.stop();
        self.here()?.execute_batch(text).map_err(|e| self.classified(e))
    }

    /// Lets statements that sort rows use temporary files and little memory, as is best for those that create indexes,
    /// or lets them use memory alone, as is best for all others. It must not be called in a transaction.
    pub(crate) fn sort_in_files(&mut self, in_files: bool) {
        let Ok(conn) = self.here() else { return };
        // Besides this thread, one thread sorts.
        let (store, threads) = if in_files { ("FILE", 1) } else { ("MEMORY", 0) };
        // The size of the page cache is also that of the parts that are sorted in memory.
        let is_set = conn.pragma_update(None, "temp_store", store).is_ok()
            && conn.pragma_update(None, "threads", threads).is_ok()
            && conn.pragma_update(None, "cache_size", -(Room::Short as i32)).is_ok();
        if is_set {
            (self.room, self.last_long) = (Room::Short, None);
        }
    }

    /// Runs a text of several statements, however long they take.
    pub(crate) async fn script(&mut self, text: impl Into<Cow<'static, str>>) -> DbResult<()> {
        let text = text.into();
        self.watch.stop();
        if self.in_file {
            self.on_thread(false, move |conn| conn.execute_batch(&text)).await?.map_err(|e| self.classified(e))
        } else {
            self.here()?.execute_batch(&text).map_err(|e| self.classified(e))
        }
    }

    async fn run<T: Send + 'static>(&mut self, text: &str, args: Vec<Value<'_>>, work: Work<T>) -> DbResult<T> {
        // A task that makes many calls in a row lets others have the thread from time to time.
        tokio::task::coop::consume_budget().await;
        let mut retry = Retry::new(self.busy_timeout);
        loop {
            let done = match self.briefly(text, &args, work)? {
                Some(done) => done,
                None => self.at_length(text, &args, work).await?,
            };
            let is_alone = self.here()?.is_autocommit();
            match done {
                Err(e) if is_alone && is_busy(&e) && retry.pause().await => {}
                done => return done.map_err(|e| self.classified(e)),
            }
        }
    }

    /// Runs a statement on this thread. Returns `None` if the blocking pool must run it: it is known to take long and
    /// was not started, or it only reads and was interrupted.
    fn briefly<T>(&self, text: &str, args: &[Value<'_>], work: Work<T>) -> DbResult<Option<rusqlite::Result<T>>> {
        let conn = self.here()?;
        if !self.in_file {
            // A database in memory has only this connection, and never waits for a disk.
            self.watch.limit(self.statement_timeout, self.statement_timeout);
            return Ok(Some(work(conn, &self.watch, text, args)));
        }
        if args.len() > MANY_VALUES || self.slow.contains(text) {
            return Ok(None);
        }
        self.watch.limit(BRIEF, self.statement_timeout);
        let start = Instant::now();
        let done = work(conn, &self.watch, text, args);
        let took = start.elapsed();
        if took <= BRIEF {
            return Ok(Some(done));
        }
        self.slow.set(text, true);
        // A statement that writes is never begun anew: its interruption has rolled back the transaction.
        let begins_anew = took < self.statement_timeout && is_interrupted(&done);
        Ok((!begins_anew).then_some(done))
    }

    /// Runs a statement on a thread of the blocking pool.
    async fn at_length<T: Send + 'static>(
        &mut self,
        text: &str,
        args: &[Value<'_>],
        work: Work<T>,
    ) -> DbResult<rusqlite::Result<T>> {
        self.watch.limit(self.statement_timeout, self.statement_timeout);
        let own: String = text.to_owned();
        let args: Vec<Value<'static>> = args.iter().cloned().map(Value::into_owned).collect();
        let watch = self.watch.clone();
        let run = move |conn: &rusqlite::Connection| {
            let start = Instant::now();
            (work(conn, &watch, &own, &args), start.elapsed())
        };
        let (done, took) = self.on_thread(true, run).await?;
        if took < BRIEF / 4 {
            self.slow.set(text, false);
        }
        Ok(done)
    }

    /// Lends the connection to a thread of the blocking pool. If the call is dropped, the connection is closed once the
    /// thread is done with it, and interrupted before that if `can_be_interrupted`.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        can_be_interrupted: bool,
        work: impl FnOnce(&rusqlite::Connection) -> T + Send + 'static,
    ) -> DbResult<T> {
        let conn = self.conn.take().ok_or_else(gone)?;
        let mut guard = InterruptOnDrop(can_be_interrupted.then(|| conn.get_interrupt_handle()));
        let (conn, done) = on_pool(move || {
            let done = work(&conn);
            (conn, done)
        })
        .await?;
        guard.0 = None;
        self.conn = Some(conn);
        Ok(done)
    }

    fn here(&self) -> DbResult<&rusqlite::Connection> {
        self.conn.as_ref().ok_or_else(gone)
    }

    fn classified(&self, e: rusqlite::Error) -> DbError {
        classified(e, self.role, self.busy_timeout)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("in_file", &self.in_file).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Frees the lock at once, since the thread below may be long in coming.
        if let Some(conn) = self.conn.as_ref().filter(|conn| !conn.is_autocommit()) {
            self.watch.stop();
            let _ = conn.execute_batch("ROLLBACK");
        }
        // Closing the last connection of a file writes the log to the database.
        if let Some(conn) = self.conn.take_if(|_| self.in_file)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(conn));
        }
    }
}

/// The tries of a statement that finds the database locked by another connection.
pub(super) struct Retry {
    until: Option<Instant>,
    limit: Duration,
    next: Duration,
}

impl Retry {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { until: None, limit, next: PAUSES[0] }
    }

    /// Waits before the next try. Returns false if the time is over.
    pub(super) async fn pause(&mut self) -> bool {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.limit.min(Duration::from_secs(3_600)));
        if now >= until {
            return false;
        }
        tokio::time::sleep(self.next.min(until - now)).await;
        self.next = (self.next * 2).min(PAUSES[1]);
        true
    }
}

/// Runs something on a thread of the blocking pool.
async fn on_pool<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> DbResult<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| DbError { kind: Kind::Lost, source: e.into() })
}

fn open(path: Option<&Path>, durable: bool, role: Role, watch: &Arc<Watch>) -> rusqlite::Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = match path {
        Some(path) => {
            create_private(path);
            rusqlite::Connection::open_with_flags(path, flags)?
        }
        None => rusqlite::Connection::open_in_memory_with_flags(flags)?,
    };
    conn.busy_timeout(Duration::ZERO)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    if path.is_some() {
        conn.pragma_update(None, "journal_mode", "WAL")?;
        if durable {
            conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        } else {
            // Such a commit runs on a thread of the runtime, which must not write so much.
            conn.wal_hook(Some(|_, pages| {
                LOG_PAGES.set(u32::try_from(pages).unwrap_or_default());
                Ok(())
            }));
        }
        conn.pragma_update(None, "journal_size_limit", 64 << 20)?;
    }
    conn.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    match role {
        Role::Writer => conn.pragma_update(None, "cache_size", -(Room::Short as i32))?,
        Role::Reader => {
            conn.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
            conn.pragma_update(None, "query_only", true)?;
        }
    }
    watch.install(&conn)?;
    Ok(conn)
}

/// Creates the file of a database, if it does not exist, so that only the user of this process can read it. SQLite gives
/// its other files the same mode. If this fails, opening the file says why.
fn create_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let _ = options.open(path);
}

/// Classifies an error of a connection that has waited for `busy_timeout` if the database was locked.
fn classified(e: rusqlite::Error, role: Role, busy_timeout: Duration) -> DbError {
    if is_busy(&e) {
        return DbError { kind: Kind::Unavailable, source: Locked(busy_timeout, e).into() };
    }
    // A write on a connection for reads is a defect, whatever the file is.
    let is_defect =
        role == Role::Reader && e.sqlite_error().is_some_and(|code| code.extended_code == ffi::SQLITE_READONLY);
    let error = error::classify(e);
    if is_defect { DbError { kind: Kind::Other, ..error } } else { error }
}

fn gone() -> DbError {
    DbError { kind: Kind::Lost, source: "an earlier call on this connection was dropped".into() }
}

pub(super) fn is_busy(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn is_interrupted<T>(done: &rusqlite::Result<T>) -> bool {
    done.as_ref().is_err_and(|e| e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
}
