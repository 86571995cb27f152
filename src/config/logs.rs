//! The settings of the log and of traces.

use std::path::{Path, PathBuf};

use derive_setters::Setters;
use rust_decimal::Decimal;

use super::SecretUrl;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogFormat {
    /// A format for people.
    #[default]
    Pretty,
    /// One JSON object per line.
    Json,
}

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(strip_option, into)]
#[non_exhaustive]
pub struct LogConfig {
    /// The events to log: a level, or directives of `tracing-subscriber`'s `EnvFilter`. Default `info`.
    pub levels: String,
    /// The format of lines. Default [`LogFormat::Pretty`].
    pub format: LogFormat,
    /// The file that lines are written to, in place of standard error. Each process needs its own. Lines of the level
    /// `error` are also written to [`Self::errors_file`]. Default none.
    pub file: Option<PathBuf>,
    /// The size in bytes at which a file is replaced by a new one. Default 10,000,000.
    pub file_size: u64,
    /// How many files are kept, with the one that is written, and as many files of errors. Default 5.
    pub files: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            levels: "info".to_owned(),
            format: LogFormat::default(),
            file: None,
            file_size: Self::FILE_SIZE,
            files: Self::FILES,
        }
    }
}

impl LogConfig {
    /// The default of [`Self::file_size`].
    pub const FILE_SIZE: u64 = 10_000_000;
    /// The default of [`Self::files`].
    pub const FILES: u32 = 5;

    /// Returns the file of the lines of errors: `server.error.log` beside `server.log`. `None` if there is no file.
    pub fn errors_file(&self) -> Option<PathBuf> {
        self.file.as_deref().map(errors_beside)
    }
}

fn errors_beside(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".error");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The settings of traces, which are sent to a collector of OpenTelemetry (OTLP over HTTP).
#[derive(Debug, Clone, PartialEq, Eq, Setters)]
#[setters(into)]
#[non_exhaustive]
pub struct TraceConfig {
    /// The URL of the collector, such as `http://collector:4318`; spans are sent to `v1/traces` below it.
    pub endpoint: SecretUrl,
    /// The share of the traces that begin in this process and are recorded, from 0 to 1. A request whose caller has
    /// begun a trace follows the caller's decision. Default 0.01.
    pub sample: Decimal,
    /// The name of the service in traces. Default `ecom`.
    pub service: String,
}

impl TraceConfig {
    /// Returns the settings for a collector, with the defaults for all others.
    pub fn new(endpoint: SecretUrl) -> Self {
        Self { endpoint, sample: Decimal::new(1, 2), service: "ecom".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_beside_the_log() {
        for (log, errors) in [
            ("/var/log/ecom/server.log", "/var/log/ecom/server.error.log"),
            ("server", "server.error"),
            ("a.b/server.1.log", "a.b/server.1.error.log"),
        ] {
            assert_eq!(LogConfig::default().file(log).errors_file(), Some(errors.into()));
        }
        assert_eq!(LogConfig::default().errors_file(), None);
    }
}
