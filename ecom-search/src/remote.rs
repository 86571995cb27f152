//! Concurrency limit, retries and circuit breaker of the adapters of search servers.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecom_core::ValidationErrors;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The number of failures in a row after which calls are not sent for a while.
const FAILURES: u32 = 3;
/// How long calls are not sent, at first and at most. The time doubles with each trial that fails.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(10);
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
    circuit: Mutex<Circuit>,
    is_closed: AtomicBool,
}

impl Gate {
    /// Makes a gate that admits this many concurrent searches, and any number of other calls.
    pub(crate) fn new(concurrent_searches: usize) -> Self {
        Self {
            searches: Semaphore::new(concurrent_searches),
            circuit: Mutex::default(),
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
            let is_trial = self.circuit.lock().admit()?;
            // If the caller is cancelled, the circuit must not wait for the end of a trial.
            let attempt = Attempt { gate: self, is_trial, is_over: false };
            let answer = match tokio::time::timeout(left, once()).await {
                Ok(answer) => answer,
                Err(_) => Err(Stop::TooSlow.into()),
            };
            let pause = pauses.next().filter(|pause| {
                let is_temporary = answer.as_ref().is_err_and(E::is_temporary);
                is_repeatable && is_temporary && !is_trial && since.elapsed() + **pause < limit
            });
            match pause {
                // Only the last attempt of a call counts for the circuit.
                Some(pause) => {
                    drop(attempt);
                    tokio::time::sleep(*pause).await;
                }
                None => {
                    attempt.ended(answer.as_ref().is_err_and(E::blames_server));
                    return answer;
                }
            }
        }
    }
}

/// Reports the end of a call to the circuit, also if its future is dropped.
struct Attempt<'a> {
    gate: &'a Gate,
    is_trial: bool,
    is_over: bool,
}

impl Attempt<'_> {
    fn ended(mut self, failed: bool) {
        self.is_over = true;
        self.gate.circuit.lock().ended(failed, self.is_trial);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_trial && !self.is_over {
            self.gate.circuit.lock().is_trying = false;
        }
    }
}

/// Spares callers the time limit while the server does not answer: after several failures in a row, calls fail at once,
/// and from time to time one of them is sent as a trial.
#[derive(Debug, Default)]
struct Circuit {
    failures: u32,
    rest: Duration,
    rests_until: Option<Instant>,
    /// Whether a trial is on its way.
    is_trying: bool,
}

impl Circuit {
    /// Returns whether the call is a trial.
    fn admit(&mut self) -> Result<bool, Stop> {
        let Some(until) = self.rests_until else { return Ok(false) };
        if self.is_trying || Instant::now() < until {
            return Err(Stop::Resting);
        }
        self.is_trying = true;
        Ok(true)
    }

    fn ended(&mut self, failed: bool, is_trial: bool) {
        if self.rests_until.is_some() && !is_trial {
            // A call that was sent before the circuit opened.
            return;
        }
        self.is_trying = false;
        if !failed {
            if self.rests_until.is_some() {
                tracing::info!("the search server answers again");
            }
            *self = Self::default();
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            if self.rests_until.is_none() {
                tracing::warn!("the search server does not answer; calls fail at once until it does");
            }
            self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            self.rests_until = Some(Instant::now() + self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_after_failures_and_lets_one_trial_pass() {
        let mut circuit = Circuit::default();
        for _ in 0..FAILURES {
            assert!(circuit.admit().is_ok(), "calls are sent until there are enough failures");
            circuit.ended(true, false);
        }
        circuit.ended(true, false);
        assert_eq!(circuit.rest, FIRST_REST, "calls that were sent before do not make the rest longer");
        assert!(circuit.admit().is_err(), "calls are not sent after {FAILURES} failures");
        let over = |circuit: &mut Circuit| circuit.rests_until = Some(Instant::now());
        over(&mut circuit);
        assert!(matches!(circuit.admit(), Ok(true)), "one call is a trial");
        circuit.ended(false, false);
        assert!(circuit.admit().is_err(), "there is one trial at a time");
        circuit.ended(true, true);
        assert!(circuit.admit().is_err(), "a trial that fails begins another rest");
        assert_eq!(circuit.rest, FIRST_REST * 2);
        over(&mut circuit);
        assert!(circuit.admit().is_ok());
        circuit.ended(false, true);
        assert!(circuit.admit().is_ok() && circuit.admit().is_ok(), "a trial that succeeds closes the circuit");
    }
}
