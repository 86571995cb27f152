//! What a process knows of the state of the index, so that a search asks for it only now and then (R15).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Result;
use crate::port::search::{Checkpoint, SearchProvider};

/// The version of the index that searches of this process read ([`Checkpoint::version`]), as it was last seen.
///
/// It is part of the keys of cached results, so that results of an earlier version are not found any more. The version
/// is read from the index at most once per poll interval. A process that writes to the index, or has waited for an
/// event, knows the new version at once.
#[derive(Debug, Default)]
pub(crate) struct IndexState {
    seen: Mutex<Seen>,
    /// Held by the search that reads the version. The others wait for it.
    reading: tokio::sync::Mutex<()>,
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Seen {
    version: Option<Uuid>,
    /// When the version was read; `None` if the index may have changed since.
    at: Option<Instant>,
    /// Increases with each change, so that a slow read does not replace the outcome of a later one.
    turn: u64,
}

impl IndexState {
    /// Returns the version of the index, which is not older than `age`; `None` if the index has none.
    ///
    /// # Errors
    /// Those of [`SearchProvider::checkpoint`].
    pub async fn version(&self, search: &dyn SearchProvider, age: Duration) -> Result<Option<Uuid>> {
        let asked = Instant::now();
        let known = || {
            let seen = self.seen.lock();
            // If reading takes longer than `age`, the searches that have waited for one read share it all the same.
            seen.at.is_some_and(|at| at >= asked || asked.duration_since(at) < age).then_some(seen.version)
        };
        if let Some(version) = known() {
            return Ok(version);
        }
        let _turn = self.reading.lock().await;
        match known() {
            Some(version) => Ok(version),
            None => Ok(self.read(search).await?.and_then(version_of)),
        }
    }

    /// Reads the checkpoint of the index, and remembers its version.
    ///
    /// # Errors
    /// Those of [`SearchProvider::checkpoint`].
    pub async fn read(&self, search: &dyn SearchProvider) -> Result<Option<Checkpoint>> {
        // Both are from before the read: the index may change while it is read.
        let (turn, at) = (self.seen.lock().turn, Instant::now());
        let found = search.checkpoint().await?;
        let mut seen = self.seen.lock();
        if seen.turn == turn {
            *seen = Seen { version: found.and_then(version_of), at: Some(at), turn: turn + 1 };
        } else if seen.version != found.and_then(version_of) {
            // Another read has ended meanwhile, and it may have read before this one: the next search reads again.
            (seen.at, seen.turn) = (None, seen.turn + 1);
        }
        Ok(found)
    }

    /// Returns a note that this process writes to the index.
    pub const fn writing(&self) -> Writing<'_> {
        Writing { state: self, is_over: false }
    }

    fn set(&self, version: Option<Uuid>, at: Option<Instant>) {
        let mut seen = self.seen.lock();
        *seen = Seen { version, at, turn: seen.turn + 1 };
    }

    /// Returns a receiver that is notified when this process has written to the index.
    pub fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }
}

/// A write of this process to the index. If it is dropped before its outcome is known, because the write has failed or
/// was abandoned, the index may have changed or not, and the next search reads the version again.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    state: &'a IndexState,
    is_over: bool,
}

impl Writing<'_> {
    /// Notes that the index has this checkpoint now.
    pub fn succeeded(mut self, checkpoint: Checkpoint) {
        self.state.set(version_of(checkpoint), Some(Instant::now()));
        self.state.moved.send_replace(());
        self.is_over = true;
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.state.set(None, None);
        }
    }
}

/// Returns the version of an index; `None` if a release that did not know versions has written it.
fn version_of(checkpoint: Checkpoint) -> Option<Uuid> {
    Some(checkpoint.version).filter(|version| !version.is_nil())
}
