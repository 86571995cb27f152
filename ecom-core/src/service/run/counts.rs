//! Counts in memory that are added to the database from time to time: views of products, and searches.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::context::Context;
use super::transaction::Tx;
use crate::error::{Dependency, Error, Result, WithCauses};

/// A count in memory, which is added to a row of the database.
pub(crate) trait Count: Clone + Debug + Send + Sync {
    /// The key of the row. Transactions lock the rows in the order of their keys.
    type Key: Copy + Debug + Eq + Hash + Ord + Send;

    /// The name of the counted things in the log, in the plural.
    const WHAT: &'static str;

    /// Returns the key of the row.
    fn key(&self) -> Self::Key;

    /// Returns the number that is added to the row.
    fn times(&self) -> u64;

    /// Adds a count of the same row that was noted after this one.
    fn add(&mut self, later: Self);

    /// Adds counts to the database, in the order of their keys.
    ///
    /// # Errors
    /// The errors of the repository.
    fn write(tx: &mut Tx<'_>, counts: &[Self]) -> impl Future<Output = Result<()>> + Send;
}

/// The counts of this process that the database does not have yet.
///
/// A call that counts takes a lock for a moment and waits for nothing else. The number of rows is bounded, so that
/// neither a database that is down nor a flood of different rows fills the memory.
#[derive(Debug)]
pub(crate) struct Counts<C: Count>(Mutex<Pending<C>>);

#[derive(Debug)]
struct Pending<C: Count> {
    counts: HashMap<C::Key, C>,
    /// How often something was not counted, because there were too many rows.
    lost: u64,
}

impl<C: Count> Default for Pending<C> {
    fn default() -> Self {
        Self { counts: HashMap::new(), lost: 0 }
    }
}

impl<C: Count> Pending<C> {
    /// Adds a count. `is_later` is false if the count is older than the pending one of the same row.
    fn add(&mut self, count: C, is_later: bool) {
        let is_full = self.counts.len() >= Counts::<C>::CAPACITY;
        match self.counts.entry(count.key()) {
            Entry::Occupied(mut here) if is_later => here.get_mut().add(count),
            Entry::Occupied(mut here) => {
                let later = std::mem::replace(here.get_mut(), count);
                here.get_mut().add(later);
            }
            Entry::Vacant(_) if is_full => self.lose(count.times()),
            Entry::Vacant(free) => drop(free.insert(count)),
        }
    }

    const fn lose(&mut self, times: u64) {
        self.lost = self.lost.saturating_add(times);
    }
}

/// The counts that a call has taken and not written. They are put back when the call ends, also if it is abandoned.
struct Rest<'a, C: Count> {
    counts: &'a Counts<C>,
    left: &'a [C],
}

impl<C: Count> Drop for Rest<'_, C> {
    fn drop(&mut self) {
        let mut pending = self.counts.0.lock();
        self.left.iter().cloned().for_each(|count| pending.add(count, false));
    }
}

impl<C: Count> Default for Counts<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C: Count> Counts<C> {
    /// The most rows that wait for the next write.
    pub const CAPACITY: usize = 10_000;
    /// The most rows that one transaction writes, so that other writes need not wait for long.
    const AT_ONCE: usize = 1_000;

    /// Counts something.
    pub fn note(&self, count: C) {
        self.0.lock().add(count, true);
    }

    /// Records that something is not counted, because there is too much of it.
    pub fn lose(&self, times: u64) {
        self.0.lock().lose(times);
    }

    /// Takes all counts, in the order of their keys.
    fn take(&self) -> Vec<C> {
        let Pending { counts, lost } = std::mem::take(&mut *self.0.lock());
        if lost > 0 {
            let what = C::WHAT;
            tracing::warn!(lost, what, "some were not counted, because too many different rows were pending");
        }
        let mut counts: Vec<C> = counts.into_values().collect();
        counts.sort_unstable_by_key(C::key);
        counts
    }

    /// Adds all counts of this process to the database. Those of a transaction that was certainly not written are kept
    /// for the next call. If the answer to a commit was lost, its counts are not written again.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn flush(&self, cx: &Arc<Context>) -> Result<()> {
        let counts = self.take();
        let mut rest = Rest { counts: self, left: &counts };
        for chunk in counts.chunks(Self::AT_ONCE) {
            let done = cx.write(|mut tx| async move {
                C::write(&mut tx, chunk).await?;
                Ok(((), tx))
            });
            // If this call is dropped now, the transaction may be written or not.
            let before = rest.left;
            rest.left = &before[chunk.len()..];
            if let Err(error) = done.await {
                if !error.outcome_unknown() {
                    rest.left = before;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// [`Self::flush`] before the database is closed. It does not wait long for a database that is down.
    pub async fn flush_last(&self, cx: &Arc<Context>) {
        const LIMIT: Duration = Duration::from_secs(5);
        let error = match tokio::time::timeout(LIMIT, self.flush(cx)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::unavailable(Dependency::Database, "the database did not answer in time"),
        };
        tracing::warn!(error = %WithCauses(&error), what = C::WHAT, "the last counts were not written");
    }
}
