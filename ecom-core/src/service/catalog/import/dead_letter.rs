//! Dead letters: the records that an import refused, one JSON object per line.
//!
//! A dead letter has the whole record, so that the file can be mended and imported again: a record of JSON as it was,
//! and one of a table as the JSON object that the table means. If a record is too large, it has only the beginning.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, FieldError, Result};
use crate::service::catalog::import::Rejection;

/// The most bytes that the dead letter of a record shows if the record is too large.
pub(super) const MAX_SHOWN: usize = 4 * 1024;

/// Where dead letters go. Nothing is created before the first one.
#[derive(Default)]
pub enum DeadLetters {
    /// Nowhere: the report only counts them.
    #[default]
    Discard,
    /// Into this file. A run with dead letters replaces it, and one that resumes ([`ImportOptions::skip`]) adds to it.
    ///
    /// [`ImportOptions::skip`]: crate::catalog::ImportOptions::skip
    File(PathBuf),
    /// Into this writer, as they occur; it is flushed after each batch.
    Writer(Box<dyn Write + Send>),
}

impl DeadLetters {
    /// Writes a line, and opens the file before the first one. `resumes` is whether the file has the dead letters of an
    /// earlier part of the run.
    pub(super) fn write_line(&mut self, line: &[u8], resumes: bool) -> io::Result<()> {
        if let Self::File(path) = self {
            let mut open = File::options();
            if resumes {
                open.append(true)
            } else {
                open.write(true).truncate(true)
            };
            let file = open.create(true).open(path)?;
            *self = Self::Writer(Box::new(BufWriter::new(file)));
        }
        match self {
            Self::Writer(to) => to.write_all(line),
            Self::Discard | Self::File(_) => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Writer(to) => to.flush(),
            Self::Discard | Self::File(_) => Ok(()),
        }
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "Discard",
            Self::File(_) => "File",
            Self::Writer(_) => "Writer",
        })
    }
}

/// One line.
#[derive(Serialize)]
struct Letter<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    index: u64,
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    code: &'a str,
    reason: &'a str,
    fields: &'a [FieldError],
    /// Whether `record` is only the beginning.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    record: std::borrow::Cow<'a, str>,
}

/// A record that was refused, with its position.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub index: u64,
    pub line: u64,
    pub external_id: Option<String>,
    pub raw: Vec<u8>,
    /// Whether `raw` is only the beginning of the record.
    pub cut: bool,
    pub why: Rejection,
}

/// Writes dead letters. If one cannot be written, the import ends, so that none is lost.
pub(super) struct DeadLetterWriter {
    sink: DeadLetters,
    file: Option<String>,
    /// Whether the file has the dead letters of an earlier part of the run.
    resumes: bool,
}

impl DeadLetterWriter {
    pub fn new(sink: DeadLetters, file: Option<String>, resumes: bool) -> Self {
        Self { sink, file, resumes }
    }

    pub fn write(&mut self, refused: &Refused) -> Result<()> {
        if matches!(self.sink, DeadLetters::Discard) {
            return Ok(());
        }
        let letter = Letter {
            file: self.file.as_deref(),
            index: refused.index,
            line: refused.line,
            external_id: refused.external_id.as_deref(),
            code: refused.why.code.as_str(),
            reason: &refused.why.reason,
            fields: &refused.why.fields,
            cut: refused.cut,
            record: String::from_utf8_lossy(&refused.raw),
        };
        let mut line = serde_json::to_vec(&letter).map_err(|e| Error::internal("writing dead letters", e))?;
        line.push(b'\n');
        self.sink.write_line(&line, self.resumes).map_err(|e| Error::internal("writing dead letters", e))
    }

    pub fn flush(&mut self) -> Result<()> {
        self.sink.flush().map_err(|e| Error::internal("writing dead letters", e))
    }
}
