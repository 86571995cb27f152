//! The assertions of the suites. Each message names the contract that the adapter breaks, then what was found and what
//! must be found.

use std::fmt::{Debug, Display};

/// Fails unless `found` is `expected`. `contract` is the sentence of the contract that requires it, and `about`
/// describes the case.
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

/// Returns the value of a call, and fails if the call has failed.
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
    /// Returns a counter for a list of `rows` rows. Each page has at least one row, and an empty page may come last.
    pub(crate) const fn over(rows: usize) -> Self {
        Self { rows, turned: 0 }
    }

    /// Counts a page. Call it before each page is read.
    #[track_caller]
    pub(crate) fn turn(&mut self) {
        self.turned += 1;
        let contract =
            "Each page begins after the last row of the page before, and the last page has no position to go on from.";
        holds(self.turned <= self.rows + 1, contract, format_args!("page {} over {} rows", self.turned, self.rows));
    }
}
