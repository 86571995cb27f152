//! The assertions of the suites. Each message names the contract that the adapter breaks, then what was found and what
//! must be found.

use std::fmt::{Debug, Display};

/// Fails unless `found` is `expected`. `contract` is the sentence of the contract that says so, and `about` the case.
#[track_caller]
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
