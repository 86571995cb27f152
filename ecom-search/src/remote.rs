//! Concurrency limit, retries and circuit breaker of the adapters of search servers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom_core::ValidationErrors;
use ecom_core::circuit::Circuit;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The pauses before a call is repeated.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Checks the name of an index, from which the names on the server are made.
pub(crate) fn check_index(name: &str, errors: &mut ValidationErrors) {
    let is_plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    if !(1..=100).contains(&name.len())
        || !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.bytes().all(is_plain)
    {
        let message = "must have 1 to 100 characters `a`–`z`, `0`–`9`, `-` and `_`, beginning with a letter";
        errors.out_of_bounds("index", message);
    }
}

/// Why a call is not made or not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The time limit is over.
    TooSlow,
    /// The server has failed several calls.
    Resting,
    /// The provider is closed.
    Closed,
}

/// The failure of a call.
pub(crate) trait Failed: From<Stop> {
    /// Returns whether the server may answer the same call if it is repeated.
    fn is_temporary(&self) -> bool;

    /// Returns whether the failure shows that the server or the way to it is broken, and not the call.
    fn blames_server(&self) -> bool;
}

/// Admits calls to a server.
pub(crate) struct Gate {
    searches: Semaphore,
    circuit: Circuit,
    is_closed: AtomicBool,
}

impl Gate {
    /// Makes a gate that admits this many concurrent searches, and any number of other calls.
    pub(crate) fn new(concurrent_searches: usize) -> Self {
        Self {
            searches: Semaphore::new(concurrent_searches),
            circuit: Circuit::ignoring_cancellation(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Refuses all later calls.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.searches.close();
    }

    /// Waits for a permit to search, and returns it with the time that is left of `limit`.
    pub(crate) async fn turn<E: Failed>(&self, limit: Duration) -> Result<(SemaphorePermit<'_>, Duration), E> {
        let since = Instant::now();
        let turn = tokio::time::timeout(limit, self.searches.acquire());
        let turn = turn.await.map_err(|_| Stop::TooSlow)?.map_err(|_| Stop::Closed)?;
        let left = limit.saturating_sub(since.elapsed());
        if left < limit / 4 {
            // The server would get too little time to answer, and would be blamed for it.
            return Err(Stop::TooSlow.into());
        }
        Ok((turn, left))
    }

    /// Makes a call within a time limit, which includes all repetitions. A call is repeated only if a second one
    /// changes nothing (`is_repeatable`).
    pub(crate) async fn call<T, E: Failed, F: Future<Output = Result<T, E>>>(
        &self,
        limit: Duration,
        is_repeatable: bool,
        once: impl Fn() -> F,
    ) -> Result<T, E> {
        let since = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let left = limit.saturating_sub(since.elapsed());
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Stop::Closed.into());
            }
            let attempt = self.circuit.attempt().map_err(|_| Stop::Resting)?;
            let answer = match tokio::time::timeout(left, once()).await {
                Ok(answer) => answer,
                Err(_) => Err(Stop::TooSlow.into()),
            };
            let pause = pauses.next().filter(|pause| {
                let is_temporary = answer.as_ref().is_err_and(E::is_temporary);
                is_repeatable && is_temporary && !attempt.is_trial() && since.elapsed() + **pause < limit
            });
            match pause {
                // Only the last attempt of a call counts for the circuit.
                Some(pause) => {
                    attempt.unused();
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    if answer.as_ref().is_err_and(E::blames_server) {
                        if attempt.failed() {
                            tracing::warn!("the search server does not answer; calls fail at once until it does");
                        }
                    } else if attempt.answered() {
                        tracing::info!("the search server answers again");
                    }
                    return answer;
                }
            }
        }
    }
}
