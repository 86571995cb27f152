//! The admission of calls to a server: concurrency limit, retries and circuit breaker.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom_core::circuit::Circuit;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Failure;

/// The pauses before a call is repeated.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

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
    pub(crate) async fn turn(&self, limit: Duration) -> Result<(SemaphorePermit<'_>, Duration), Failure> {
        let since = Instant::now();
        let turn = tokio::time::timeout(limit, self.searches.acquire());
        let turn = turn.await.map_err(|_| Failure::TooSlow)?.map_err(|_| Failure::Closed)?;
        let left = limit.saturating_sub(since.elapsed());
        if left < limit / 4 {
            // The server would get too little time to answer, and would be blamed for it.
            return Err(Failure::TooSlow);
        }
        Ok((turn, left))
    }

    /// Makes a call within a time limit, which includes all repetitions. A call is repeated only if a second one
    /// changes nothing (`is_repeatable`).
    pub(crate) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        limit: Duration,
        is_repeatable: bool,
        once: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let since = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let left = limit.saturating_sub(since.elapsed());
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Failure::Closed);
            }
            let attempt = self.circuit.attempt().map_err(|_| Failure::Resting)?;
            let answer = match tokio::time::timeout(left, once()).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::TooSlow),
            };
            let pause = pauses.next().filter(|pause| {
                let is_temporary = answer.as_ref().is_err_and(Failure::is_temporary);
                is_repeatable && is_temporary && !attempt.is_trial() && since.elapsed() + **pause < limit
            });
            match pause {
                // Only the last attempt of a call counts for the circuit.
                Some(pause) => {
                    attempt.unused();
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    if answer.as_ref().is_err_and(Failure::blames_server) {
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
