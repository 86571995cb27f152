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

/// Runs the tests over each chosen mutant, prints which test caught it, and fails if one was not caught.
pub(crate) fn mutants_are_caught<F: 'static, M: Planted>(suite: &str, tests: &[Test<F>], make: fn(Option<M>) -> F) {
    let mut missed = Vec::new();
    let mut table = String::new();
    for mutant in chosen::<M>() {
        let fails = |test: &&Test<F>| catch_unwind(AssertUnwindSafe(|| run(**test, make, Some(mutant)))).is_err();
        let caught = tests.iter().find(fails).map_or("NOT CAUGHT", |test| test.name);
        if caught == "NOT CAUGHT" {
            missed.push(mutant);
        }
        let name = format!("{mutant:?}");
        let _ = writeln!(table, "{suite:<6} | {name:<34} | {:<76} | {caught}", mutant.bug());
    }
    // Past the test harness, which keeps what a test that passes prints.
    let _ = std::io::stderr().write_all(table.as_bytes());
    assert!(missed.is_empty(), "the suite of the {suite} port does not catch {missed:?}");
}
