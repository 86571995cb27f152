//! Short transactions that share a commit.
//!
//! A commit waits for the disk, which takes many times as long as the statements of a short write. So a short
//! transaction that ends leaves its writes uncommitted, and those that were waiting at that time add theirs; each is a
//! savepoint, so that one of them can be rolled back alone. Then one commit writes them all, and each of them returns
//! when it is done.
//!
//! A transaction that has ended takes its place behind those that wait, and commits when its turn comes, unless another
//! one has done so by then. So there is always one that commits, and a transaction without company commits at once.
//!
//! A transaction sees what those before it have written. Its outcome therefore holds only once they are committed. The
//! caller of a transaction that is not committed awaits that with [`UnitOfWork::depends_on`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ecom_core::port::{SharedCommitFailed, UnitOfWork};
use ecom_core::{Dependency, Error, Result};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::connection::Room;
use super::options::SqliteOptions;
use crate::sql::engine::error::Kind;
use crate::sql::engine::executor::{Executor, Shared, State};
use crate::sql::engine::pool::{Lent, SqlStorage};
use crate::sql::engine::repository::SqlRepository;

/// The number of transactions that share a commit at most.
const MOST: usize = 256;

/// The short transactions of a database file.
#[derive(Debug)]
pub(crate) struct Groups {
    /// Who has the permit runs a transaction, or commits. Others wait in the order of their arrival.
    turn: Arc<Semaphore>,
    /// The group between two of its transactions.
    open: Mutex<Option<Group>>,
    durable: bool,
    /// A transaction that ends this long after the first one of its group commits for all.
    window: Duration,
}

/// The transactions that the next commit writes.
struct Group {
    lent: Lent,
    /// How many transactions have ended with a commit.
    members: usize,
    /// When the first of them ended.
    since: Option<Instant>,
    progress: watch::Sender<Progress>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("members", &self.members).finish_non_exhaustive()
    }
}

/// The state of a group. If its sender is gone, the group is.
#[derive(Debug, Clone)]
enum Progress {
    /// Not committed. If the group is gone, it was rolled back.
    Open,
    /// If the group is gone, nobody knows whether it was committed.
    Committing,
    /// On disk.
    Committed,
    /// The database refused the commit, with this message. Nothing was written.
    Refused(Arc<str>),
    /// The commit failed in a way that does not tell whether it was written.
    Unknown(Arc<str>),
}

impl Progress {
    /// Returns the outcome for a member of the group, once the group has ended or is gone.
    fn outcome(&self) -> Result<()> {
        let unavailable = |outcome_unknown, why: &str| Error::Unavailable {
            dependency: Dependency::Database,
            outcome_unknown,
            source: Some(why.into()),
        };
        match self {
            // Another transaction of the group broke it, and this one can run again.
            Self::Open => Err(Error::Contention { source: Some(SharedCommitFailed.into()) }),
            Self::Committing => Err(unavailable(true, "the commit was interrupted")),
            Self::Committed => Ok(()),
            Self::Refused(why) => Err(unavailable(false, why)),
            Self::Unknown(why) => Err(unavailable(true, why)),
        }
    }
}

/// Waits until a group has ended.
async fn ended(mut progress: watch::Receiver<Progress>) -> Result<()> {
    // An error means that the group is gone. Its last state says what became of it.
    let _ = progress.wait_for(|p| !matches!(p, Progress::Open | Progress::Committing)).await;
    let last = progress.borrow().clone();
    last.outcome()
}

impl Groups {
    /// Returns the groups of a database.
    pub(crate) fn new(options: &SqliteOptions) -> Arc<Self> {
        let (durable, window) = (options.durable, options.commit_window);
        Arc::new(Self { turn: Arc::new(Semaphore::new(1)), open: Mutex::new(None), durable, window })
    }

    /// Begins a transaction, in the open group or in a new one.
    ///
    /// # Errors
    /// As those of [`Storage::begin`](ecom_core::port::Storage::begin).
    pub(crate) async fn begin(self: &Arc<Self>, storage: &SqlStorage) -> Result<GroupedTransaction> {
        let permit = self.turn(storage).await?;
        let open = self.take(|group| group.since.is_none_or(|since| since.elapsed() < self.window));
        let group = match open {
            Some(group) => group,
            None => {
                self.close(storage).await;
                let mut lent = storage.begin_on_writer().await?;
                lent.conn().make_room(Room::Short);
                Group { lent, members: 0, since: None, progress: watch::Sender::new(Progress::Open) }
            }
        };
        let mut unit = GroupedTransaction {
            group: Some(group),
            permit: Some(permit),
            groups: self.clone(),
            shared: storage.shared.clone(),
        };
        if unit.is_savepoint() {
            unit.lend().savepoint().await?;
        }
        Ok(unit)
    }

    /// Begins a transaction that has a commit of its own.
    ///
    /// # Errors
    /// As those of [`Storage::begin`](ecom_core::port::Storage::begin).
    pub(crate) async fn begin_alone(&self, storage: &SqlStorage) -> Result<Lent> {
        let _permit = self.turn(storage).await?;
        self.close(storage).await;
        let mut lent = storage.begin_on_writer().await?;
        lent.conn().make_room(Room::Long);
        Ok(lent)
    }

    /// Waits for the turn.
    async fn turn(&self, storage: &SqlStorage) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(storage.wait, self.turn.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(storage.waited_to_write()),
        }
    }

    /// Takes the open group, if it is the one that is wanted. The caller has the turn.
    fn take(&self, is_wanted: impl Fn(&Group) -> bool) -> Option<Group> {
        self.open.lock().take_if(|group| is_wanted(group))
    }

    /// Commits the open group, if there is one. Its members learn what has become of it. The caller has the turn.
    async fn close(&self, storage: &SqlStorage) {
        if let Some(group) = self.take(|_| true) {
            // A task, so that the commit is completed if the call is dropped. A panic in it is known to the members.
            let _ = tokio::spawn(Self::commit(group, storage.shared.clone())).await;
        }
    }

    /// Commits a group.
    async fn commit(mut group: Group, shared: Arc<Shared>) {
        group.progress.send_replace(Progress::Committing);
        let conn = group.lent.conn();
        let done = conn.executor(&shared).commit().await;
        let progress = match done {
            Ok(()) => {
                conn.in_transaction = false;
                Progress::Committed
            }
            Err(e) => {
                let message: Arc<str> = e.source.to_string().into();
                if e.kind == Kind::Lost { Progress::Unknown(message) } else { Progress::Refused(message) }
            }
        };
        // The connection is free again before anybody who waits for the commit goes on.
        drop(group.lent);
        group.progress.send_replace(progress);
    }

    /// Commits a group and returns the outcome. If the call is dropped meanwhile, the commit is still completed.
    async fn commit_whole(&self, group: Group, permit: OwnedSemaphorePermit, shared: Arc<Shared>) -> Result<()> {
        let progress = group.progress.subscribe();
        let commit = async move {
            Self::commit(group, shared).await;
            drop(permit);
        };
        if self.durable {
            tokio::spawn(commit);
        } else {
            // This commit waits for nothing, so it cannot be interrupted.
            commit.await;
        }
        ended(progress).await
    }

    /// Waits until a group that has been left open is committed, and commits it if nobody has until the turn comes.
    async fn see_through(self: Arc<Self>, progress: watch::Receiver<Progress>, shared: Arc<Shared>) -> Result<()> {
        let permit = tokio::select! {
            biased;
            outcome = ended(progress.clone()) => return outcome,
            turn = self.turn.clone().acquire_owned() => turn,
        };
        // The group may have ended since, and the next one may be open.
        let own = self.take(|group| group.progress.subscribe().same_channel(&progress));
        if let (Some(group), Ok(permit)) = (own, permit) {
            return self.commit_whole(group, permit, shared).await;
        }
        ended(progress).await
    }
}

/// A short transaction. If it is dropped, it is rolled back to its savepoint, and the others of its group go on. If one
/// of its statements was cancelled, or failed for another reason than a constraint, the whole group is rolled back, and
/// the others get `Contention`.
pub(crate) struct GroupedTransaction {
    /// The group, until the transaction has ended.
    group: Option<Group>,
    permit: Option<OwnedSemaphorePermit>,
    groups: Arc<Groups>,
    shared: Arc<Shared>,
}

/// Sees to it that a group is committed, if the call that waits for that is dropped.
struct SeenThrough(Option<(Arc<Groups>, watch::Receiver<Progress>, Arc<Shared>)>);

impl Drop for SeenThrough {
    fn drop(&mut self) {
        if let Some((groups, progress, shared)) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(groups.see_through(progress, shared));
        }
    }
}

impl GroupedTransaction {
    fn group(&mut self) -> &mut Group {
        match &mut self.group {
            Some(group) => group,
            None => unreachable!("only the end of the transaction takes it"),
        }
    }

    /// Returns whether others of the group have written before, so that this transaction is a savepoint.
    fn is_savepoint(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.members > 0)
    }

    fn lend(&mut self) -> Executor<'_> {
        let Self { group, shared, .. } = self;
        match group {
            Some(group) => group.lent.conn().executor(shared),
            None => unreachable!("only the end of the transaction takes it"),
        }
    }
}

ecom_core::repositories! { impl SqlRepository for GroupedTransaction }

#[async_trait]
impl UnitOfWork for GroupedTransaction {
    fn depends_on(&mut self) -> Option<Pin<Box<dyn Future<Output = Result<()>> + Send>>> {
        let group = self.group.as_ref().filter(|group| group.members > 0)?;
        Some(Box::pin(ended(group.progress.subscribe())))
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        if self.group().lent.conn().state == State::Failed {
            return Err(Error::Unavailable { dependency: Dependency::Database, outcome_unknown: false, source: None });
        }
        if self.is_savepoint() {
            self.lend().release_savepoint().await?;
        }
        let (Some(mut group), Some(permit)) = (self.group.take(), self.permit.take()) else {
            unreachable!("only the end of the transaction takes them")
        };
        group.members += 1;
        let since = *group.since.get_or_insert_with(Instant::now);
        let (groups, shared) = (self.groups.clone(), self.shared.clone());
        if group.members >= MOST || since.elapsed() >= groups.window {
            return groups.commit_whole(group, permit, shared).await;
        }
        let progress = group.progress.subscribe();
        *groups.open.lock() = Some(group);
        drop(permit);
        let mut seen = SeenThrough(Some((groups.clone(), progress.clone(), shared.clone())));
        let outcome = groups.see_through(progress, shared).await;
        seen.0 = None;
        outcome
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Drop for GroupedTransaction {
    fn drop(&mut self) {
        let is_savepoint = self.is_savepoint();
        let Some(mut group) = self.group.take() else { return };
        // Otherwise, dropping the group rolls it back or closes its connection: it has no other members, or a
        // statement has failed or was cancelled.
        if is_savepoint && group.lent.conn().roll_back_savepoint() {
            *self.groups.open.lock() = Some(group);
        }
    }
}
