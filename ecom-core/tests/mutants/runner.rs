//! Runs a suite over each mutant of a reference adapter.

use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ecom_core::testkit::{Test, run_within};

/// A bug that is planted in a reference adapter.
pub(crate) trait Planted: Copy + Debug + Send + 'static {
    /// All of them.
    const ALL: &'static [Self];

    /// What the adapter does wrong.
    fn bug(self) -> &'static str;

    /// Whether it is one of those that run by default.
    fn runs_by_default(self) -> bool;
}

/// Defines an enum of mutants: the name of each, its bug in words, and `default` if it runs by default.
macro_rules! mutants {
    ($(#[$doc:meta])* $name:ident { $($variant:ident: $bug:literal $($default:ident)?,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $(#[doc = $bug] $variant,)+
        }

        impl $crate::runner::Planted for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn bug(self) -> &'static str {
                match self {
                    $(Self::$variant => $bug,)+
                }
            }

            fn runs_by_default(self) -> bool {
                match self {
                    $(Self::$variant => concat!($(stringify!($default))?) == "default",)+
                }
            }
        }
    };
}
pub(crate) use mutants;

/// A mutant that makes a test hang is caught after this.
const LIMIT: Duration = Duration::from_secs(20);

/// Runs the tests over the adapter without a bug.
pub(crate) fn reference_passes<F: 'static, M: Planted>(tests: &[Test<F>], make: fn(Option<M>) -> F) {
    for test in tests {
        run(*test, make, None);
    }
}

fn run<F: 'static, M: Planted>(test: Test<F>, make: fn(Option<M>) -> F, mutant: Option<M>) {
    run_within(LIMIT, test.name, move || async move { (test.run)(make(mutant)).await });
}

/// Returns the mutants that `ECOM_MUTANTS` asks for: those of the default, `all`, or a list of names.
fn chosen<M: Planted>() -> Vec<M> {
    let asked = std::env::var_os("ECOM_MUTANTS").map(|names| names.to_string_lossy().into_owned());
    let is_chosen = |mutant: M| match asked.as_deref() {
        None | Some("") => mutant.runs_by_default(),
        Some("all") => true,
        Some(names) => names.split(',').any(|name| name.trim() == format!("{mutant:?}")),
    };
    M::ALL.iter().copied().filter(|m| is_chosen(*m)).collect()
}

/// Returns what a test says about a mutant, or `None` if it passes.
fn caught<F: 'static, M: Planted>(test: Test<F>, make: fn(Option<M>) -> F, mutant: M) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| run(test, make, Some(mutant)))).err()?;
    Some(panic.downcast::<String>().map_or_else(|_| String::new(), |message| *message))
}

/// A message of an assertion that does not say which part of the contract is broken.
fn says_nothing(message: &str) -> bool {
    message.is_empty() || message.starts_with("assertion") || message.starts_with("called `")
}

/// Runs the tests over each chosen mutant, prints which test caught it, and fails if one was not caught, or was caught
/// without a message.
pub(crate) fn mutants_are_caught<F: 'static, M: Planted>(suite: &str, tests: &[Test<F>], make: fn(Option<M>) -> F) {
    let (mut missed, mut unexplained) = (Vec::new(), Vec::new());
    let mut table = String::from("\n");
    for mutant in chosen::<M>() {
        let found = tests.iter().find_map(|test| Some((test.name, caught(*test, make, mutant)?)));
        match &found {
            None => missed.push(mutant),
            Some((test, message)) if says_nothing(message) => unexplained.push((mutant, *test, message.clone())),
            Some(_) => {}
        }
        let (name, by) = (format!("{mutant:?}"), found.map_or("NOT CAUGHT", |(test, _)| test));
        let _ = writeln!(table, "{suite:<6} | {name:<28} | {:<81} | {by}", mutant.bug());
    }
    // Past the test harness, which keeps what a test that passes prints.
    let _ = std::io::stderr().write_all(table.as_bytes());
    assert!(missed.is_empty(), "the suite of the {suite} port does not catch {missed:?}");
    assert!(unexplained.is_empty(), "these are caught without a word of what is wrong: {unexplained:?}");
}
