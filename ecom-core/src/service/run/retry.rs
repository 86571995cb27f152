//! A write that another transaction was in the way of is run again, whole.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Conflict, Error, Result};
use crate::service::run::context::Context;

/// How often a write is run at most.
const TRIES: u32 = 8;
/// The pause after the first try; each that follows is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// No try begins later than this after the first one began.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `write`, a unit of work from its beginning to its commit, and again where it fails with
/// [`Error::Contention`]: then it is certainly aborted. Anything else is handed back at once, an unknown outcome above
/// all. Writes of a host's own transaction do not come here: only the host can run those again.
///
/// # Errors
/// Those of `write`; [`Error::Contention`] where the last try failed too.
pub(crate) async fn retrying<T, F>(cx: &Context, write: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    run(Some(cx), write).await
}

/// [`retrying`] for a write without names that whoever comes first does for the others too: they need not disperse.
///
/// # Errors
/// As [`retrying`].
pub(crate) async fn retrying_together<T, F>(write: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    run(None, write).await
}

async fn run<T, F>(cx: Option<&Context>, write: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut waited = Duration::ZERO;
    let mut turn = None;
    let mut left = TRIES;
    loop {
        left -= 1;
        let error = match write().await {
            Err(error) if error.is_contention() && left > 0 && start.elapsed() < PATIENCE + waited => error,
            done => return done,
        };
        tracing::debug!(%error, source = ?std::error::Error::source(&error), left, "a write is tried again");
        match cx {
            // Those who look for the next free name find different ones in turn, and the same one together.
            Some(cx) if turn.is_none() && is_lost_name(&error) => {
                let queued = Instant::now();
                turn = Some(cx.naming.lock().await);
                waited = queued.elapsed();
            }
            _ => {
                tokio::time::sleep(cx.map_or(pause, |cx| cx.jitter(pause))).await;
                pause *= 2;
            }
        }
    }
}

/// What a write of names fails with: those that the library has `made` were free when it looked, so that another
/// transaction took them since and a new try makes the next ones. The client who did not choose them hears nothing of it.
pub(crate) fn or_next_name<T>(written: Result<T>, made: impl Fn(&'static str) -> bool) -> Result<T> {
    written.map_err(|error| match &error {
        Error::Conflict(c) => match **c {
            Conflict::Duplicate { field, .. } if made(field) => Error::Contention { source: Some(Box::new(error)) },
            _ => error,
        },
        _ => error,
    })
}

/// True for what [`or_next_name`] makes.
fn is_lost_name(error: &Error) -> bool {
    match error {
        Error::Contention { source: Some(source) } => source.is::<Error>(),
        _ => false,
    }
}
