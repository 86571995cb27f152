//! The macros that list the tests of the suites.
//!
//! A file of tests lists them once, in [`tests!`] or [`suite!`]. The tests are `pub` in modules that only these lists
//! re-export. If a test is not in its list, or a topic is not in its suite, the compiler warns of dead code.

/// Lists the tests of one topic. It re-exports them in a module `listed`, and defines the macro `$list`, with which a
/// suite runs them.
macro_rules! tests {
    ($list:ident: [$($test:ident,)*]) => { tests! { @($) $list [$($test,)*] } };
    // `$d` is a dollar sign, for the variables of the macro that this macro defines.
    (@($d:tt) $list:ident [$($test:ident,)*]) => {
        /// The tests of one topic.
        pub mod listed {
            pub use super::{$($test),*};
        }

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $list {
            ($d($d suite:tt)*) => { $crate::__tests! { $d($d suite)* [$($test,)*] } };
        }
    };
}

/// Defines the public macro `$suite`, which runs the tests of `testkit::$module` in a module of that name. The suite is
/// either one list of tests, or a list of topics, each with the name of its list in [`tests!`]. `$fixture` is the value
/// of the factory, and `$subject` is the part of it that tests take.
///
/// `$suite!(@tests)` returns the tests as values, a `Vec<Test<_>>`, for tests of the suite itself.
macro_rules! suite {
    (
        $(#[$doc:meta])*
        $suite:ident, $module:ident: $fixture:ident => $subject:expr, $list:ident: [$($test:ident,)*]
    ) => {
        tests! { $list: [$($test,)*] }
        suite! { @($) [$(#[$doc])*] $suite $module [$fixture => $subject] $list }
    };
    (
        $(#[$doc:meta])*
        $suite:ident, $module:ident: $fixture:ident => $subject:expr, {$($topic:ident: $list:ident,)*}
    ) => {
        /// The tests of all topics.
        pub mod listed {
            $(pub use super::$topic::listed::*;)*
        }
        suite! { @($) [$(#[$doc])*] $suite $module [$fixture => $subject] $($list)* }
    };
    (@($d:tt) [$($doc:tt)*] $suite:ident $module:ident $subject:tt $($list:ident)*) => {
        $($doc)*
        #[macro_export]
        macro_rules! $suite {
            (@tests) => {{
                let mut tests = ::std::vec::Vec::new();
                $($crate::$list! { @list tests $module, $subject })*
                tests
            }};
            ($d make:path) => {
                mod $module {
                    #[allow(unused_imports, clippy::allow_attributes, reason = "the factory may be a full path")]
                    use super::*;
                    $($crate::$list! { $module $d make, $subject })*
                }
            };
        }
    };
}

/// Makes a `#[test]` for each name, with its own runtime and fixture, or pushes each test onto a list.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (@list $tests:ident $module:ident, [$fixture:ident => $subject:expr] [$($test:ident,)*]) => {$(
        $tests.push($crate::testkit::Test {
            name: stringify!($test),
            run: |$fixture| ::std::boxed::Box::pin(async move { $crate::testkit::$module::$test($subject).await }),
        });
    )*};
    ($module:ident $make:path, [$fixture:ident => $subject:expr] [$($test:ident,)*]) => {$(
        #[test]
        fn $test() {
            $crate::testkit::run_test(concat!(stringify!($module), "::", stringify!($test)), || async {
                let $fixture = $make().await;
                $crate::testkit::$module::$test($subject).await;
            });
        }
    )*};
}
