//! A circuit breaker: spares callers the wait for a server that does not answer. Searches have one for each engine, and
//! adapters of servers can have one for their calls.
//!
//! ```
//! use ecom_core::circuit::Circuit;
//!
//! let circuit = Circuit::default();
//! for _ in 0..3 {
//!     circuit.attempt()?.failed();
//! }
//! let resting = circuit.attempt().unwrap_err();
//! println!("the next attempt is in {:?}", resting.retry_after);
//! # Ok::<(), ecom_core::Resting>(())
//! ```

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Resting;

/// The number of failures in a row after which a server is left alone for a while.
const FAILURES: u32 = 3;
/// How long it is left alone, at first and at most. The time doubles with each trial that fails.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// After which time a server has failed if the caller does not wait any longer.
const LONG: Duration = Duration::from_secs(1);

/// After three failures in a row, a server rests: calls fail at once, except for one trial after each rest.
/// The first rest takes half a second, and each further one twice as long, up to 5 seconds.
#[derive(Debug, Default)]
pub struct Circuit {
    state: Mutex<State>,
    ignores_cancellation: bool,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rest: Duration,
    rests_until: Option<Instant>,
    /// Whether a trial is on its way.
    is_trying: bool,
}

impl Circuit {
    /// Returns a circuit for which an attempt that is dropped without an outcome never counts as a failure, for servers
    /// of which some calls take long.
    pub fn ignoring_cancellation() -> Self {
        Self { ignores_cancellation: true, ..Self::default() }
    }

    /// Returns an attempt to ask the server.
    ///
    /// # Errors
    /// [`Resting`] while the server rests, or while another attempt tries it.
    pub fn attempt(&self) -> Result<Attempt<'_>, Resting> {
        let mut state = self.state.lock();
        let Some(until) = state.rests_until else { return Ok(self.begin(false)) };
        let left = until.saturating_duration_since(Instant::now());
        if state.is_trying || !left.is_zero() {
            return Err(Resting { retry_after: left });
        }
        state.is_trying = true;
        Ok(self.begin(true))
    }

    fn begin(&self, is_trial: bool) -> Attempt<'_> {
        Attempt { circuit: self, is_trial, began: Instant::now(), is_over: false }
    }
}

/// An attempt to ask a server. If it is dropped without an outcome because its caller has gone, it counts as a failure if
/// the caller has waited for a second ([`Circuit::ignoring_cancellation`] is the exception), and otherwise as none.
#[derive(Debug)]
#[must_use = "call `answered`, `failed`, `too_early` or `unused`"]
pub struct Attempt<'a> {
    circuit: &'a Circuit,
    is_trial: bool,
    began: Instant,
    is_over: bool,
}

impl Attempt<'_> {
    /// Returns true if the server has rested before.
    pub const fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Notes that the server has answered, and returns true if it has rested before.
    pub fn answered(mut self) -> bool {
        self.is_over = true;
        let mut state = self.circuit.state.lock();
        if state.rests_until.is_some() && !self.is_trial {
            // It was asked before it began to rest.
            return false;
        }
        *state = State::default();
        self.is_trial
    }

    /// Notes that the attempt says nothing about the server, for example because the call is repeated.
    pub fn unused(mut self) {
        self.is_over = true;
        self.end_trial();
    }

    fn end_trial(&self) {
        if self.is_trial {
            self.circuit.state.lock().is_trying = false;
        }
    }

    /// Notes that the server has not answered, and returns true if it begins to rest now.
    pub fn failed(mut self) -> bool {
        self.is_over = true;
        self.fail()
    }

    fn fail(&self) -> bool {
        let mut state = self.circuit.state.lock();
        if state.rests_until.is_some() && !self.is_trial {
            return false;
        }
        state.is_trying = false;
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        state.rest = (state.rest * 2).clamp(FIRST_REST, LONGEST_REST);
        let until = Instant::now() + state.rest;
        state.rests_until.replace(until).is_none()
    }

    /// Notes that the server answers, but cannot be used yet.
    pub fn too_early(mut self) {
        self.is_over = true;
        let mut state = self.circuit.state.lock();
        if state.rests_until.is_some() && self.is_trial {
            state.is_trying = false;
            state.rest = Duration::ZERO;
            state.rests_until = Some(Instant::now() + FIRST_REST);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if !self.circuit.ignores_cancellation && self.began.elapsed() >= LONG {
            if self.fail() {
                tracing::warn!("a server rests, because its callers did not wait for its answers");
            }
        } else {
            self.end_trial();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(circuit: &Circuit) -> bool {
        circuit.state.lock().rests_until.is_some()
    }

    /// Ends the rest.
    fn wake(circuit: &Circuit) {
        circuit.state.lock().rests_until = Some(Instant::now());
    }

    #[test]
    fn a_server_rests_after_failures_and_is_tried_by_one_caller_at_a_time() {
        let circuit = Circuit::default();
        let late = circuit.attempt().unwrap();
        let began: Vec<bool> = (0..FAILURES).map(|_| circuit.attempt().unwrap().failed()).collect();
        assert_eq!(began, [false, false, true]);
        assert!(rests(&circuit));
        assert!(!late.failed(), "an attempt that has begun before changes nothing");
        assert!(circuit.attempt().is_err_and(|resting| resting.retry_after <= FIRST_REST));
        wake(&circuit);
        let trial = circuit.attempt().unwrap();
        assert!(trial.is_trial && circuit.attempt().is_err());
        drop(trial);
        assert!(!circuit.attempt().unwrap().failed(), "it rests already");
        assert_eq!(circuit.state.lock().rest, FIRST_REST * 2);
        for _ in 0..9 {
            wake(&circuit);
            circuit.attempt().unwrap().failed();
        }
        assert_eq!(circuit.state.lock().rest, LONGEST_REST);
        wake(&circuit);
        circuit.attempt().unwrap().too_early();
        assert!(rests(&circuit) && circuit.attempt().is_err());
        wake(&circuit);
        assert!(circuit.attempt().unwrap().answered());
        assert!(!rests(&circuit) && !circuit.attempt().unwrap().answered());
    }

    #[test]
    fn an_answer_between_failures_counts() {
        let circuit = Circuit::default();
        for _ in 0..10 {
            circuit.attempt().unwrap().failed();
            circuit.attempt().unwrap().failed();
            circuit.attempt().unwrap().answered();
        }
        assert!(!rests(&circuit));
    }

    #[test]
    fn an_attempt_whose_caller_has_gone_counts_if_it_took_long() {
        for (circuit, counts) in [(Circuit::default(), true), (Circuit::ignoring_cancellation(), false)] {
            for _ in 0..FAILURES * 2 {
                drop(circuit.attempt().unwrap());
            }
            assert!(!rests(&circuit), "callers that go at once say nothing");
            for _ in 0..FAILURES {
                let mut attempt = circuit.attempt().unwrap();
                attempt.began = attempt.began.checked_sub(LONG).unwrap();
                drop(attempt);
            }
            assert_eq!(rests(&circuit), counts);
        }
    }
}
