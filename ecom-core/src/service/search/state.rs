//! The indices of a shop, and what a process knows of their states, so that a search asks for them only now and then
//! (R15).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::circuit::Circuit;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::Result;
use crate::port::search::{Checkpoint, SearchProvider};

/// The indices of a shop.
#[derive(Debug)]
pub(crate) struct Indices {
    /// The index that searches use.
    pub main: Index,
    /// The index that searches use while the main one does not answer.
    pub fallback: Option<Index>,
    /// The highest position for which a caller has waited: no index that is behind it answers any more.
    pub promised: Mutex<OutboxPosition>,
    /// How many searches the fallback has answered.
    pub by_fallback: AtomicU64,
}

impl Indices {
    /// Returns the indices of these engines.
    pub fn new(main: Arc<dyn SearchProvider>, fallback: Option<Arc<dyn SearchProvider>>) -> Self {
        Self {
            main: Index::new(main),
            fallback: fallback.map(Index::new),
            promised: Mutex::default(),
            by_fallback: AtomicU64::new(0),
        }
    }

    /// Returns all indices, the main one first.
    pub fn all(&self) -> impl Iterator<Item = &Index> {
        std::iter::once(&self.main).chain(&self.fallback)
    }
}

/// An index with its engine.
#[derive(Debug)]
pub(crate) struct Index {
    pub provider: Arc<dyn SearchProvider>,
    /// What this process knows of the state of the index.
    pub state: IndexState,
    /// Held by the task that writes to the index that is in use. A rebuild takes it when it replaces that index.
    pub writing: tokio::sync::Mutex<()>,
    /// Held by the task that builds a new index. It is taken before [`Self::writing`].
    pub rebuilding: tokio::sync::Mutex<()>,
    /// Whether searches ask the engine.
    pub circuit: Circuit,
}

impl Index {
    fn new(provider: Arc<dyn SearchProvider>) -> Self {
        Self {
            provider,
            state: IndexState::default(),
            writing: tokio::sync::Mutex::default(),
            rebuilding: tokio::sync::Mutex::default(),
            circuit: Circuit::default(),
        }
    }

    /// Returns the checkpoint of the index, which is not older than `age`.
    ///
    /// # Errors
    /// Those of [`SearchProvider::checkpoint`].
    pub async fn checkpoint(&self, age: Duration) -> Result<Option<Checkpoint>> {
        self.state.checkpoint(&*self.provider, age).await
    }

    /// Reads the checkpoint of the index.
    ///
    /// # Errors
    /// Those of [`SearchProvider::checkpoint`].
    pub async fn read_checkpoint(&self) -> Result<Option<Checkpoint>> {
        self.state.read(&*self.provider).await
    }
}

/// The checkpoint of the index that searches of this process read, as it was last seen.
///
/// Its version is part of the keys of cached results, so that results of an earlier version are not found any more. The
/// checkpoint is read from the index at most once per poll interval. A process that writes to the index, or has waited
/// for an event, knows the new one at once.
#[derive(Debug, Default)]
pub(crate) struct IndexState {
    seen: Mutex<Seen>,
    /// Held by the search that reads the checkpoint. The others wait for it.
    reading: tokio::sync::Mutex<()>,
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Seen {
    checkpoint: Option<Checkpoint>,
    /// When the checkpoint was read; `None` if the index may have changed since.
    at: Option<Instant>,
    /// Increases with each change, so that a slow read does not replace the outcome of a later one.
    turn: u64,
}

impl IndexState {
    async fn checkpoint(&self, search: &dyn SearchProvider, age: Duration) -> Result<Option<Checkpoint>> {
        let asked = Instant::now();
        let known = || {
            let seen = self.seen.lock();
            // If reading takes longer than `age`, the searches that have waited for one read share it all the same.
            seen.at.is_some_and(|at| at >= asked || asked.duration_since(at) < age).then_some(seen.checkpoint)
        };
        if let Some(checkpoint) = known() {
            return Ok(checkpoint);
        }
        let _turn = self.reading.lock().await;
        match known() {
            Some(checkpoint) => Ok(checkpoint),
            None => self.read(search).await,
        }
    }

    /// Reads the checkpoint of the index, and remembers it.
    async fn read(&self, search: &dyn SearchProvider) -> Result<Option<Checkpoint>> {
        // Both are from before the read: the index may change while it is read.
        let (turn, at) = (self.seen.lock().turn, Instant::now());
        let found = search.checkpoint().await?;
        let mut seen = self.seen.lock();
        if seen.turn == turn {
            *seen = Seen { checkpoint: found, at: Some(at), turn: turn + 1 };
        } else if seen.checkpoint.and_then(version_of) != found.and_then(version_of) {
            // Another read has ended meanwhile, and it may have read before this one: the next search reads again.
            (seen.at, seen.turn) = (None, seen.turn + 1);
        }
        Ok(found)
    }

    /// Returns a note that this process writes to the index.
    pub const fn writing(&self) -> Writing<'_> {
        Writing { state: self, is_over: false }
    }

    fn set(&self, checkpoint: Option<Checkpoint>, at: Option<Instant>) {
        let mut seen = self.seen.lock();
        *seen = Seen { checkpoint, at, turn: seen.turn + 1 };
    }

    /// Returns the position at which the index was last seen.
    pub fn position(&self) -> Option<OutboxPosition> {
        self.seen.lock().checkpoint.map(|checkpoint| checkpoint.position)
    }

    /// Returns a receiver that is notified when this process has written to the index.
    pub fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }
}

/// A write of this process to the index. If it is dropped before its outcome is known, because the write has failed or
/// was abandoned, the index may have changed or not, and the next search reads the checkpoint again.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    state: &'a IndexState,
    is_over: bool,
}

impl Writing<'_> {
    /// Notes that the index has this checkpoint now.
    pub fn succeeded(mut self, checkpoint: Checkpoint) {
        self.state.set(Some(checkpoint), Some(Instant::now()));
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
pub(crate) fn version_of(checkpoint: Checkpoint) -> Option<Uuid> {
    Some(checkpoint.version).filter(|version| !version.is_nil())
}
