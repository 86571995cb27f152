//! `server migrate`: migrates the schema of the database to this release, or only compares both.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use ecom::config::ServerConfig;

use super::Result;

/// What to do with the schema.
#[derive(Args)]
pub(super) struct Migrate {
    /// Change nothing, and end with status 0 if this release can use the database, or with 1 if migrations are
    /// pending.
    ///
    /// The status is 2 if the schema was made by a later release that does not serve this one, if the database cannot
    /// be reached, and after every other error.
    #[arg(long)]
    check: bool,
}

impl Migrate {
    /// Returns the status with which the program ends after an error.
    pub(super) fn failure(&self) -> ExitCode {
        // 1 says that migrations are pending.
        if self.check { ExitCode::from(2) } else { ExitCode::FAILURE }
    }
}

/// Applies all migrations, or only looks at the schema. Prints the result.
pub(super) async fn run(config: &ServerConfig, options: &Migrate) -> Result<ExitCode> {
    if !options.check {
        let before = config.shop_builder().migrate().await.map_err(with_advice)?;
        for name in &before.pending {
            say!("applied {name}");
        }
        match (before.pending.len(), before.newer.last()) {
            (0, Some(newest)) => {
                say!("nothing to do: a later release has made the schema ({newest}), which serves this one");
            }
            (0, None) => {
                say!("nothing to do: the schema is that of this release");
            }
            (applied, _) => {
                say!("{applied} migrations applied: the schema is that of this release");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let status = config.shop_builder().schema_status().await.map_err(with_advice)?;
    if !status.is_served {
        let newest = status.newer.join(", ");
        return Err(format!(
            "a later release has made the schema of the database ({newest}), and it does not serve this one: run that \
             release, or a later one"
        )
        .into());
    }
    for name in &status.pending {
        say!("pending {name}");
    }
    match (status.pending.len(), status.newer.last()) {
        (0, Some(newest)) => {
            say!("a later release has made the schema ({newest}), which serves this one");
        }
        (0, None) => {
            say!("the schema is that of this release");
        }
        (pending, _) => {
            say!("{pending} migrations are pending: run `server migrate` before servers of this release");
        }
    }
    Ok(if status.is_ready() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Adds to an error what can be done if the database is down.
fn with_advice(error: ecom::Error) -> Box<dyn Error + Send + Sync> {
    match error {
        ecom::Error::Unavailable { .. } => {
            let causes = ecom::WithCauses(&error);
            format!("{causes} (is the database running, and does DATABASE_URL lead to it?)").into()
        }
        other => other.into(),
    }
}
