//! Runs the tests of the suites: each on a thread and a runtime of its own, within a time limit.
//!
//! The helpers of the suites note what they wait for ([`step`]), so that a test that does not end can say where it is.

use std::fmt;
use std::future::Future;
use std::io::Write as _;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

/// How long a test of a suite may take. The slowest ones take some seconds on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);

tokio::task_local! {
    static RUNNING: Arc<Running>;
}

/// The test that runs in this task.
struct Running {
    name: String,
    step: Mutex<String>,
}

/// A test of a suite as a value, for those who test the suite itself: `search_suite!(@tests)` and `cache_suite!(@tests)`
/// return the list of the tests that these macros run.
pub struct Test<F> {
    /// Its name: the one of the `#[test]` that the suite makes of it.
    pub name: &'static str,
    /// The test, over a fresh fixture. It panics if the adapter breaks the contract.
    pub run: fn(F) -> Pin<Box<dyn Future<Output = ()>>>,
}

impl<F> Clone for Test<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Test<F> {}

impl<F> fmt::Debug for Test<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Test").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Runs a future on a multi-thread runtime of its own, so that the crate that calls it needs no tokio. It has no time
/// limit.
pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Runs one test of a suite as [`run`] does, within three minutes; for the suites' macros.
pub fn run_test<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    run_within(LIMIT, name, test);
}

/// Runs a test as [`run`] does, and panics with its name and with what it waits for if it has not ended within `limit`.
/// That covers a test that never yields too: it runs on a thread of its own, which is left behind then.
pub fn run_within<F: Future<Output = ()>>(limit: Duration, name: &str, test: impl FnOnce() -> F + Send + 'static) {
    let running = Arc::new(Running { name: name.to_owned(), step: Mutex::new("the fixture".to_owned()) });
    let (ends, ended) = channel::<()>();
    let inside = running.clone();
    let body = move || {
        // Dropped when the thread ends, also if it panics.
        let _ends = ends;
        run(RUNNING.scope(inside, async { test().await }));
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body).expect("a test needs a thread");
    match ended.recv_timeout(limit) {
        Err(RecvTimeoutError::Timeout) => {
            let step = running.step.lock().clone();
            panic!("{name} has not ended within {} s: it still waits for {step}", limit.as_secs_f32());
        }
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }
}

/// Notes what the running test waits for from now on.
pub(crate) fn step(what: impl fmt::Display) {
    let _ = RUNNING.try_with(|running| *running.step.lock() = what.to_string());
}

/// Reports on stderr that the running test proves nothing, because the adapter `lacks` what the test is about. The test
/// harness does not hold this line back.
pub(crate) fn skipped(suite: &str, topic: &str, lacks: &str) {
    let test = RUNNING.try_with(|running| running.name.clone()).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "skipped: {suite} suite, {topic}: {lacks} ({test})");
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn message(result: thread::Result<()>) -> String {
        match result {
            Ok(()) => "passes".to_owned(),
            Err(panic) => panic.downcast::<String>().map_or_else(|_| "panics".to_owned(), |text| *text),
        }
    }

    #[test]
    fn a_test_that_never_ends_says_what_it_waits_for() {
        let spins = || {
            run_within(Duration::from_millis(200), "spins", || async {
                step("`revisions` after page 7");
                loop {
                    thread::sleep(Duration::from_millis(10));
                }
            });
        };
        let waits = || run_within(Duration::from_millis(200), "waits", std::future::pending);
        let said = message(catch_unwind(spins));
        assert!(said.starts_with("spins has not ended") && said.ends_with("`revisions` after page 7"), "{said}");
        let said = message(catch_unwind(waits));
        assert!(said.starts_with("waits has not ended") && said.ends_with("the fixture"), "{said}");
    }

    #[test]
    fn a_test_that_ends_passes_or_fails_as_it_does() {
        run_test("ends", || async { tokio::task::yield_now().await });
        let place = String::from("here");
        let fails = move || run_test("fails", move || async move { panic!("failed {place}") });
        assert_eq!(message(catch_unwind(fails)), "failed here");
    }
}
