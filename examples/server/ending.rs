//! The end of a program.

use std::io::Write;
use std::process::ExitCode;

use ecom::WithCauses;

use crate::Result;

/// Returns the status of a program that has ended. If it has failed, prints the error, and returns `failure`.
pub fn status(ended: Result<ExitCode>, failure: ExitCode) -> ExitCode {
    ended.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {}", WithCauses(&*error));
        failure
    })
}
