//! Runs the tests of the suites. Each test has its own thread and runtime, and a time limit.
//!
//! The helpers of the suites record the call for which they wait ([`step`]), so that the failure of a test that does
//! not end names the call.

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

/// The time limit of a test. The slowest tests take some seconds on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);
/// The stack of a test, in bytes. Without optimization, a future that awaits many calls has a place of its own on the
/// stack for each of them, and some tests need more than the default of 2 MiB.
const STACK: usize = 16 << 20;

tokio::task_local! {
    static RUNNING: Arc<Running>;
}

/// The test that runs in this task.
struct Running {
    name: String,
    step: Mutex<String>,
}

/// A test of a suite as a value, for tests of the suite itself. `search_suite!(@tests)` and `cache_suite!(@tests)`
/// return the tests that these macros run.
pub struct Test<F> {
    /// The name of the test, which is also the name of its `#[test]`.
    pub name: &'static str,
    /// The test, which takes a new fixture. It panics if the adapter violates the contract.
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

/// Runs a future on a new multi-thread runtime, without a time limit. The crate of the caller does not need tokio.
pub fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

/// Runs a test of a suite as [`run`] does, within three minutes. The macros of the suites call it.
pub fn run_test<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    run_within(LIMIT, name, test);
}

/// Runs a test as [`run`] does. If it has not ended within `limit`, it panics with the name of the test and the call
/// for which it waits. This also works for a test that never yields, because its thread is then abandoned.
pub fn run_within<F: Future<Output = ()>>(limit: Duration, name: &str, test: impl FnOnce() -> F + Send + 'static) {
    let running = Arc::new(Running { name: name.to_owned(), step: Mutex::new("the fixture".to_owned()) });
    let (ends, ended) = channel::<()>();
    let inside = running.clone();
    let body = move || {
        // The sender is dropped when the thread ends, even if it panics.
        let _ends = ends;
        run(RUNNING.scope(inside, async { test().await }));
    };
    let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK);
    let thread = builder.spawn(body).expect("a test needs a thread");
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

/// Records the call for which the running test now waits.
pub(crate) fn step(what: impl fmt::Display) {
    let _ = RUNNING.try_with(|running| *running.step.lock() = what.to_string());
}

/// Reports on stderr that the running test is skipped, because the adapter `lacks` a capability. The test harness does
/// not capture this line.
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
