//! Spares searches the wait for an engine that does not answer.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Resting;

/// The number of failures in a row after which an engine is left alone for a while.
const FAILURES: u32 = 3;
/// How long it is left alone, at first and at most. The time doubles with each trial that fails.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// After which time an engine has failed if the caller does not wait any longer.
const LONG: Duration = Duration::from_secs(1);

/// After several failures in a row, an engine rests: no search asks it, but from time to time one of them does as a
/// trial.
#[derive(Debug, Default)]
pub(crate) struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rest: Duration,
    rests_until: Option<Instant>,
    /// Whether a trial is on its way.
    is_trying: bool,
}

impl Circuit {
    /// Returns an attempt to ask the engine.
    ///
    /// # Errors
    /// [`Resting`] while the engine rests, or while another attempt tries it.
    pub fn attempt(&self) -> Result<Attempt<'_>, Resting> {
        let mut state = self.0.lock();
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

/// An attempt to ask an engine. If it is dropped without an outcome because its caller has gone, it counts as a failure
/// if the caller has waited for long, and otherwise as none.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    circuit: &'a Circuit,
    /// Whether the engine has rested before.
    pub is_trial: bool,
    began: Instant,
    is_over: bool,
}

impl Attempt<'_> {
    /// Notes that the engine has answered, and returns true if it has rested before.
    pub fn answered(mut self) -> bool {
        self.is_over = true;
        let mut state = self.circuit.0.lock();
        if state.rests_until.is_some() && !self.is_trial {
            // It was asked before it began to rest.
            return false;
        }
        *state = State::default();
        self.is_trial
    }

    /// Notes that the engine has not been asked after all.
    pub fn unused(mut self) {
        self.is_over = true;
        self.end_trial();
    }

    fn end_trial(&self) {
        if self.is_trial {
            self.circuit.0.lock().is_trying = false;
        }
    }

    /// Notes that the engine has not answered, and returns true if it begins to rest now.
    pub fn failed(mut self) -> bool {
        self.is_over = true;
        self.fail()
    }

    fn fail(&self) -> bool {
        let mut state = self.circuit.0.lock();
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

    /// Notes that the engine answers, but cannot be used yet.
    pub fn too_early(mut self) {
        self.is_over = true;
        let mut state = self.circuit.0.lock();
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
        if self.began.elapsed() >= LONG {
            self.fail();
        } else {
            self.end_trial();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(circuit: &Circuit) -> bool {
        circuit.0.lock().rests_until.is_some()
    }

    /// Ends the rest of the engine.
    fn wake(circuit: &Circuit) {
        circuit.0.lock().rests_until = Some(Instant::now());
    }

    #[test]
    fn an_engine_rests_after_failures_and_is_tried_by_one_search_at_a_time() {
        let circuit = Circuit::default();
        let late = circuit.attempt().unwrap();
        let began: Vec<bool> = (0..FAILURES).map(|_| circuit.attempt().unwrap().failed()).collect();
        assert_eq!(began, [false, false, true]);
        assert!(rests(&circuit));
        assert!(!late.failed(), "a search that has begun before changes nothing");
        assert!(circuit.attempt().is_err_and(|resting| resting.retry_after <= FIRST_REST));
        wake(&circuit);
        let trial = circuit.attempt().unwrap();
        assert!(trial.is_trial && circuit.attempt().is_err());
        drop(trial);
        assert!(!circuit.attempt().unwrap().failed(), "it rests already");
        assert_eq!(circuit.0.lock().rest, FIRST_REST * 2);
        for _ in 0..9 {
            wake(&circuit);
            circuit.attempt().unwrap().failed();
        }
        assert_eq!(circuit.0.lock().rest, LONGEST_REST);
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
}
