//! The assertions of the suites. Each message names the contract that the adapter breaks, then what was found and what
//! must be found.

use std::fmt::{Debug, Display};

/// Fails unless `found` is `expected`. `contract` is the sentence of the contract that says so, and `about` the case.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers pass what a call has just returned")]
pub(crate) fn same<T: PartialEq<E> + Debug, E: Debug>(found: T, expected: E, contract: &str, about: impl Display) {
    assert!(found == expected, "{contract}\n     case: {about}\n    found: {found:?}\n must be: {expected:?}");
}

/// Fails unless `holds`.
#[track_caller]
pub(crate) fn holds(holds: bool, contract: &str, about: impl Display) {
    assert!(holds, "{contract}\n     case: {about}");
}

/// Returns what a call returned that must not fail.
#[track_caller]
pub(crate) fn succeeds<T, E: Debug>(result: Result<T, E>, call: impl Display) -> T {
    result.unwrap_or_else(|error| panic!("{call} must succeed, but fails with {error:?}"))
}

/// Counts the pages of a walk, so that a page that repeats the one before does not make the walk endless.
#[derive(Debug)]
pub(crate) struct Pages {
    rows: usize,
    turned: usize,
}

impl Pages {
    /// Over so many rows: each page has at least one of them, and an empty one may come last.
    pub(crate) const fn over(rows: usize) -> Self {
        Self { rows, turned: 0 }
    }

    /// Before each page.
    #[track_caller]
    pub(crate) fn turn(&mut self) {
        self.turned += 1;
        let contract =
            "Each page goes on after the last row of the one before, and the last one says that it is the last.";
        holds(self.turned <= self.rows + 1, contract, format_args!("page {} over {} rows", self.turned, self.rows));
    }
}
