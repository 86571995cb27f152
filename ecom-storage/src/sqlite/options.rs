//! The options with which a SQLite database is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ecom_core::clock::{SharedClock, SystemClock};
use ecom_core::id::{IdSource, UuidV7Source};
use ecom_core::{Error, FieldCode, Result};

/// The options with which a SQLite database is opened.
///
/// Several connections read a file and one connection writes it; writers take turns in the order in which they asked. A
/// database in memory has one connection, and all callers take turns on it.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    path: Option<PathBuf>,
    /// The number of connections that read. Default 4.
    pub readers: usize,
    /// The time for which a writer waits for another process that is writing. Default 5 s.
    pub busy_timeout: Duration,
    /// The time for which a caller waits, within this process, for a connection or for its turn to write. Default 10 s.
    pub acquire_timeout: Duration,
    /// The time after which a statement is interrupted and fails with `Unavailable`. Migrations and commits have no
    /// such limit. Default 5 s.
    pub statement_timeout: Duration,
    /// Whether a commit waits until it is on disk. If it does not, the last commits are lost if the machine fails, but
    /// not if only the process does. Default true.
    pub durable: bool,
    /// The time during which short transactions can join a commit, counted from the end of the first one that the
    /// commit writes. Only transactions that are already waiting for their turn join. With zero, each short transaction
    /// has a commit of its own. Default 5 ms.
    pub commit_window: Duration,
    /// The clock.
    pub clock: SharedClock,
    /// The source of the id that identifies the database.
    pub ids: Arc<dyn IdSource>,
}

impl SqliteOptions {
    fn with_path(path: Option<PathBuf>) -> Self {
        let clock: SharedClock = Arc::new(SystemClock);
        Self {
            path,
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(5),
            durable: true,
            commit_window: Duration::from_millis(5),
            ids: Arc::new(UuidV7Source::new(clock.clone())),
            clock,
        }
    }

    /// Returns the options for a database in a file, which is created if it does not exist. Its directory must exist.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::with_path(Some(path.into()))
    }

    /// Returns the options for a database in memory, which is lost when the storage is closed.
    pub fn memory() -> Self {
        Self::with_path(None)
    }

    /// Reads `sqlite://path`, `sqlite:path` or `sqlite::memory:`.
    ///
    /// # Errors
    /// `Validation` on field `database`.
    pub fn from_url(url: &str) -> Result<Self> {
        let bad =
            || Error::invalid("database", FieldCode::Malformed, "must be `sqlite://` and a path, or `sqlite::memory:`");
        let rest = url.strip_prefix("sqlite:").ok_or_else(bad)?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let rest = rest.split_once('?').map_or(rest, |(path, _)| path);
        if rest == ":memory:" {
            return Ok(Self::memory());
        }
        let path = percent_encoding::percent_decode_str(rest).decode_utf8().map_err(|_| bad())?;
        if path.is_empty() { Err(bad()) } else { Ok(Self::file(path.as_ref())) }
    }

    /// Returns the path of the file, or `None` for a database in memory.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
