//! Calls that share commits. Calls of one kind that arrive while a batch is being written form the next batch. Each is
//! answered after its own commit, and a call that is refused fails alone.
//!
//! On a database with several writers, two workers write batches at the same time. A call that needs a row which a
//! running batch has locked waits for the end of that batch, and so do the later calls that need the row. So calls on
//! one row keep their order, and all that wait for a row form one batch.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::context::Context;
use super::transaction::{Manner, Tx};
use crate::error::{Dependency, Error, Result};
use crate::id::EventId;

/// A kind of calls that share commits.
pub(crate) trait Batched: Sized + Send + Sync + 'static {
    /// The result of a call.
    type Answer: Send + 'static;

    /// What the calls do, such as `placing orders`, for errors in the log of the operator.
    const DOING: &'static str;

    /// Returns the queue of such calls.
    fn queue(cx: &Context) -> &Queue<Self>;

    /// Returns how many such calls share a commit at most.
    fn most(cx: &Context) -> usize;

    /// Returns how many rows the call writes, roughly. A batch ends before it exceeds [`MOST_ROWS`].
    fn rows(&self) -> usize;

    /// Calls `each` with what the call locks, as a number for each row, or for each name of a row.
    fn locks(&self, each: &mut dyn FnMut(u128));

    /// Runs the calls in their order, and returns for each its answer with its own last event, or the reason why it was
    /// refused. A refused call writes nothing. An error of the function itself rolls the whole batch back, and the halves of the
    /// batch run again, unless the database is unavailable.
    fn run<'a>(
        cx: &'a Arc<Context>,
        tx: &'a mut Tx<'_>,
        calls: &'a [Self],
    ) -> impl Future<Output = Result<Vec<Result<Done<Self::Answer>>>>> + Send + 'a;

    /// Finds out what became of a batch after the answer to its commit was lost. Returns for each call its answer if
    /// the call was written, and `None` if it certainly was not.
    ///
    /// # Errors
    /// The unknown outcome remains if this fails.
    fn recover<'a>(
        cx: &'a Arc<Context>,
        calls: &'a [Self],
    ) -> impl Future<Output = Result<Vec<Option<Done<Self::Answer>>>>> + Send + 'a;
}

/// The answer of a call, and the last event that was written for it.
pub(crate) type Done<A> = (A, Option<EventId>);

/// The rows that a batch of several calls writes at most, in the unit of [`Batched::rows`].
pub(crate) const MOST_ROWS: usize = 1_000;

/// The rows that a batch writes at most if it shares its commit with other writes, which wait for its statements. A larger
/// one has calls enough for a commit of their own.
const SHORT_ROWS: usize = 100;

/// The batches that are written at the same time, if the database has several writers.
const WORKERS: usize = 2;

/// A call with the caller that waits for its result.
struct Waiting<B: Batched> {
    call: B,
    answer: oneshot::Sender<Result<Done<B::Answer>>>,
}

/// Calls that wait for the next commit.
pub(crate) struct Queue<B: Batched>(Mutex<State<B>>);

struct State<B: Batched> {
    waiting: Vec<Waiting<B>>,
    /// How many workers are committing batches.
    workers: usize,
    /// The rows and names that the running batches lock.
    locked: HashSet<u128>,
}

impl<B: Batched> Default for Queue<B> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: Vec::new(), workers: 0, locked: HashSet::new() }))
    }
}

impl<B: Batched> State<B> {
    /// Takes the calls of the next batch, in the order of their arrival, without those that need a row of a running
    /// batch or of an earlier call that waits for one.
    fn take(&mut self, most: usize) -> Batch<B> {
        let mut batch = Batch { calls: Vec::new(), locks: Vec::new() };
        let (mut rest, mut blocked, mut rows) = (Vec::new(), HashSet::new(), 0);
        for waiting in self.waiting.drain(..) {
            let mut locks = Vec::new();
            waiting.call.locks(&mut |lock| locks.push(lock));
            let is_free = !locks.iter().any(|lock| self.locked.contains(lock) || blocked.contains(lock));
            let fits = batch.calls.is_empty() || (batch.calls.len() < most && rows + waiting.call.rows() <= MOST_ROWS);
            if is_free && fits {
                rows += waiting.call.rows();
                batch.locks.append(&mut locks);
                batch.calls.push(waiting);
            } else {
                blocked.extend(locks);
                rest.push(waiting);
            }
        }
        self.waiting = rest;
        self.locked.extend(&batch.locks);
        batch
    }

    /// Frees what a batch has locked.
    fn unlock(&mut self, locks: &mut Vec<u128>) {
        for lock in locks.drain(..) {
            self.locked.remove(&lock);
        }
    }

    fn is_free(&self, call: &B) -> bool {
        let mut is_free = true;
        call.locks(&mut |lock| is_free &= !self.locked.contains(&lock));
        is_free
    }
}

/// Calls that share a commit.
struct Batch<B: Batched> {
    calls: Vec<Waiting<B>>,
    locks: Vec<u128>,
}

impl<B: Batched> fmt::Debug for Queue<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// A worker at a batch. If it panics, its locks are free again, and the callers that no other worker serves are released.
struct Turn<B: Batched> {
    cx: Arc<Context>,
    locks: Vec<u128>,
    working: bool,
    kind: std::marker::PhantomData<fn(B)>,
}

impl<B: Batched> Turn<B> {
    /// Ends the batch before, and takes the next one. Returns `None` if there is none that could run now.
    fn next(&mut self) -> Option<Vec<Waiting<B>>> {
        let mut state = B::queue(&self.cx).0.lock();
        state.unlock(&mut self.locks);
        let Batch { calls, locks } = state.take(B::most(&self.cx));
        if calls.is_empty() {
            // Set under the lock, so that the next caller starts a worker. Calls that wait here need a row of another
            // worker, which takes them after its batch.
            state.workers -= 1;
            self.working = false;
            return None;
        }
        self.locks = locks;
        Some(calls)
    }
}

impl<B: Batched> Drop for Turn<B> {
    fn drop(&mut self) {
        if self.working {
            let mut state = B::queue(&self.cx).0.lock();
            state.workers -= 1;
            state.unlock(&mut self.locks);
            if state.workers == 0 {
                state.waiting.clear();
            }
        }
    }
}

/// Makes a call in the next batch, and returns once its commit is on disk. Dropping the future does not undo the call.
pub(crate) async fn submit<B: Batched>(cx: &Arc<Context>, call: B) -> Result<B::Answer> {
    let (answer, answered) = oneshot::channel();
    let most = if cx.storage.has_one_writer() { 1 } else { WORKERS };
    let needs_worker = {
        let mut state = B::queue(cx).0.lock();
        let needs_worker = state.workers == 0 || (state.workers < most && state.is_free(&call));
        state.workers += usize::from(needs_worker);
        state.waiting.push(Waiting { call, answer });
        needs_worker
    };
    if needs_worker {
        // The worker writes the calls of others too, whose events are not those of this caller.
        tokio::spawn(work::<B>(cx.silent()));
    }
    // The worker ended without an answer, so it is not known whether its commit happened.
    let (answer, event) = answered.await.unwrap_or(Err(Error::Unavailable {
        dependency: Dependency::Database,
        outcome_unknown: true,
        source: None,
    }))?;
    cx.note(event);
    Ok(answer)
}

/// Commits batches until no caller waits.
async fn work<B: Batched>(cx: Arc<Context>) {
    let mut turn = Turn::<B> { cx: cx.clone(), locks: Vec::new(), working: true, kind: std::marker::PhantomData };
    while let Some(batch) = turn.next() {
        let (calls, answers): (Vec<B>, Vec<_>) = batch.into_iter().map(|w| (w.call, w.answer)).unzip();
        let mut answers = answers.into_iter();
        // Halves that are still to be written, the next one last.
        let mut parts: Vec<&[B]> = vec![&calls];
        while let Some(part) = parts.pop() {
            match write(&cx, part).await {
                Ok(results) => {
                    // In this order, `zip` takes no answer of the next part after the last result.
                    for (result, answer) in results.into_iter().zip(answers.by_ref()) {
                        let _ = answer.send(result);
                    }
                }
                // The database refused something that the calls themselves allowed, or a row stays locked. The call
                // that is concerned is found by halves, so that it fails alone.
                Err(error) if part.len() > 1 && (error.is_contention() || !error.is_retryable()) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Err(error) if part.len() == 1 => drop(answers.next().map(|answer| answer.send(Err(error)))),
                Err(error) => {
                    let shared = Arc::new(error);
                    for answer in answers.by_ref().take(part.len()) {
                        let _ = answer.send(Err(share(&shared, B::DOING)));
                    }
                }
            }
        }
        // Callers that have just got their answers and call again should join the next commit, not the one after.
        tokio::task::yield_now().await;
    }
}

/// Writes a batch. If the answer to its commit is lost, it finds out what became of the batch, and writes what was not
/// written again.
async fn write<B: Batched>(cx: &Arc<Context>, calls: &[B]) -> Result<Vec<Result<Done<B::Answer>>>> {
    let error = match try_to_write(cx, calls).await {
        Err(error) if error.outcome_unknown() => error,
        done => return done,
    };
    let Ok(found) = B::recover(cx, calls).await else { return Err(error) };
    if found.iter().all(Option::is_none) {
        return try_to_write(cx, calls).await;
    }
    // The batch was written. Each of the other calls was refused, or has the effect of an earlier call. It is decided
    // anew, since the decision was lost with the answer.
    let mut results = Vec::with_capacity(calls.len());
    for (call, found) in calls.iter().zip(found) {
        results.push(match found {
            Some(answer) => Ok(answer),
            None => match try_to_write(cx, std::slice::from_ref(call)).await {
                Ok(mut alone) => {
                    alone.pop().unwrap_or(Err(Error::Internal { context: "a call has no result", source: None }))
                }
                Err(error) => Err(error),
            },
        });
    }
    Ok(results)
}

async fn try_to_write<B: Batched>(cx: &Arc<Context>, calls: &[B]) -> Result<Vec<Result<Done<B::Answer>>>> {
    let rows: usize = calls.iter().map(Batched::rows).sum();
    let manner = if rows > SHORT_ROWS { Manner::Long } else { Manner::Short };
    cx.write_as(manner, |mut tx| async move { Ok((B::run(cx, &mut tx, calls).await?, tx)) }).await
}

/// Returns the error of a batch for one of its calls.
fn share(error: &Arc<Error>, doing: &'static str) -> Error {
    let source: Option<crate::BoxError> = Some(Box::new(error.clone()));
    match **error {
        Error::Unavailable { dependency, outcome_unknown, .. } => {
            Error::Unavailable { dependency, outcome_unknown, source }
        }
        Error::Contention { .. } => Error::Contention { source },
        _ => Error::Internal { context: doing, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call with the rows that it locks, and how many it writes.
    struct Call(Vec<u128>, usize);

    impl Batched for Call {
        type Answer = ();

        const DOING: &'static str = "testing";

        fn queue(_: &Context) -> &Queue<Self> {
            unreachable!("the tests have no shop")
        }

        fn most(_: &Context) -> usize {
            unreachable!("the tests have no shop")
        }

        fn rows(&self) -> usize {
            self.1
        }

        fn locks(&self, each: &mut dyn FnMut(u128)) {
            self.0.iter().copied().for_each(each);
        }

        async fn run(_: &Arc<Context>, _: &mut Tx<'_>, _: &[Self]) -> Result<Vec<Result<Done<()>>>> {
            unreachable!("the tests have no shop")
        }

        async fn recover(_: &Arc<Context>, _: &[Self]) -> Result<Vec<Option<Done<()>>>> {
            unreachable!("the tests have no shop")
        }
    }

    fn waiting(calls: &[(&[u128], usize)]) -> State<Call> {
        let waiting = |(locks, rows): &(&[u128], usize)| {
            let (answer, _) = oneshot::channel();
            Waiting { call: Call(locks.to_vec(), *rows), answer }
        };
        let waiting = calls.iter().map(waiting).collect();
        State { waiting, workers: 0, locked: HashSet::new() }
    }

    fn locks(batch: &Batch<Call>) -> Vec<&[u128]> {
        batch.calls.iter().map(|w| &*w.call.0).collect()
    }

    #[test]
    fn r24_a_call_waits_for_the_batch_that_has_its_rows_and_for_earlier_calls() {
        let mut state = waiting(&[(&[1], 1), (&[1, 2], 1), (&[3], 1), (&[2], 1), (&[], 1)]);
        state.locked.insert(1);
        let batch = state.take(256);
        assert_eq!(locks(&batch), [[3].as_slice(), &[]], "the fourth call comes after the second");
        assert_eq!(state.locked, HashSet::from([1, 3]));
        assert!(state.take(256).calls.is_empty());
        assert!(!state.is_free(&Call(vec![4, 3], 1)) && state.is_free(&Call(vec![4], 1)));
        state.locked.clear();
        assert_eq!(locks(&state.take(256)), [[1].as_slice(), &[1, 2], &[2]], "calls on one row form one batch");
        assert!(state.waiting.is_empty());
    }

    #[test]
    fn r24_a_batch_has_bounds_and_calls_keep_their_order() {
        let mut state = waiting(&[(&[1], 600), (&[2], 400), (&[3], 1), (&[4], 5_000), (&[5], 1)]);
        assert_eq!(locks(&state.take(256)), [[1], [2]]);
        assert_eq!(locks(&state.take(256)), [[3], [5]], "a large call waits for a batch of its own");
        assert_eq!(locks(&state.take(256)), [[4]]);
        let mut state = waiting(&[(&[1], 1), (&[1], 1), (&[1], 1)]);
        assert_eq!(locks(&state.take(2)), [[1], [1]]);
    }
}
