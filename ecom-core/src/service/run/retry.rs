//! Runs a write again, from its beginning, if another transaction was in the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
use crate::error::{Error, Result, WithCauses};
use crate::metrics;
use crate::port::storage::SharedCommitFailed;

/// How many times a write runs at most.
const TRIES: u32 = 8;
/// The pause after the first try; each that follows is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// No try begins later than this after the first one began. It does not count how long a try took that has lost a name,
/// which is the success of another write, or that has failed with another write with which it shared a commit.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long writes that failed together wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Each waits for a different time, so that they do not collide again.
    Dispersed,
    /// All wait for the same time, since the first one does the work of the others.
    Equal,
}

/// Runs `write`, a unit of work from its beginning to its commit, and again if it fails with [`Error::Contention`],
/// because then it is certainly aborted. Any other error is returned at once, above all an unknown outcome.
///
/// `write` takes a flag, which it sets if another transaction took a name that the library had made. Writes that look
/// for the next free name at the same time would find the same one, so from then on they run one after the other.
///
/// # Errors
/// Those of `write`; `Contention` if the last try failed too.
pub(super) async fn retrying<T, F>(cx: &Context, pauses: Pause, write: impl Fn(Arc<AtomicBool>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut excused = Duration::ZERO;
    let mut turn = None;
    let mut left = TRIES;
    loop {
        left -= 1;
        let (lost_name, began) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let done = write(lost_name.clone()).await;
        let lost_name = lost_name.load(Ordering::Relaxed);
        let is_excused = lost_name || done.as_ref().is_err_and(has_failed_with_another);
        if is_excused {
            excused += began.elapsed();
        }
        let goes_on = left > 0 && (is_excused || start.elapsed() < PATIENCE + excused);
        let error = match done {
            Err(error) if error.is_contention() && goes_on => error,
            done => return done,
        };
        metrics::count(metrics::WRITE_RETRIES_TOTAL, &[], 1);
        tracing::debug!(error = %WithCauses(&error), left, "a write is tried again");
        if turn.is_none() && lost_name {
            let queued = Instant::now();
            turn = Some(cx.naming.lock().await);
            excused += queued.elapsed();
        } else {
            tokio::time::sleep(if pauses == Pause::Equal { pause } else { cx.jitter(pause) }).await;
            pause *= 2;
        }
    }
}

/// Returns whether a write has failed because of another one with which it shared a commit.
fn has_failed_with_another(error: &Error) -> bool {
    matches!(error, Error::Contention { source: Some(source) } if source.is::<SharedCommitFailed>())
}
