//! Documents of JSON, and the dead letters of an import.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::frame::{CARTS, CATALOG, CUSTOMERS, Frame, Framer, Shape};
use super::{Document, Reader, RecordSource, SourceRecord};
use crate::error::ErrorCode;
use crate::service::catalog::import::dead_letter::MAX_SHOWN;
use crate::service::catalog::import::{EndedEarly, ImportKind, Rejection};

/// A source of JSON: an array, a wrapper of one, one object, or a record per line.
pub(super) struct JsonSource {
    framer: Framer<Reader>,
    /// Whether the records are dead letters; `None` before the first record.
    letters: Option<bool>,
}

/// The names of the members that wrap the records of a kind.
pub(in super::super) const fn wrappers(kind: ImportKind) -> &'static [&'static str] {
    match kind {
        ImportKind::Products | ImportKind::Categories => CATALOG,
        ImportKind::Customers => CUSTOMERS,
        ImportKind::Carts => CARTS,
    }
}

impl JsonSource {
    pub fn new(reader: Reader, kind: ImportKind, shape: Option<Shape>, letters: Option<bool>, limit: usize) -> Self {
        Self { framer: Framer::new(reader, wrappers(kind), shape, limit.max(MAX_SHOWN)), letters }
    }
}

impl RecordSource for JsonSource {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        let Some(frame) = self.framer.next()? else { return Ok(None) };
        let (line, size) = (frame.line, frame.raw.len());
        if frame.unterminated
            && let Err(e) = serde_json::from_slice::<IgnoredAny>(&frame.raw)
            && e.is_eof()
        {
            return Err(self.framer.broke_off_at(&frame));
        }
        if frame.too_large {
            return Ok(Some(SourceRecord::new(line, size, too_large(frame.raw))));
        }
        let letters = *self.letters.get_or_insert_with(|| is_letter(&frame));
        let document = if letters { record_of(frame.raw) } else { Document::Json(frame.raw) };
        Ok(Some(SourceRecord::new(line, size, document)))
    }
}

/// Returns a record that is larger than the limit, with its beginning.
pub(super) fn too_large(mut text: Vec<u8>) -> Document {
    text.truncate(MAX_SHOWN);
    let why = Rejection::new(ErrorCode::PayloadTooLarge, "the record exceeds the maximum size");
    Document::Refused { text, cut: true, why }
}

/// The members by which a dead letter is recognized.
#[derive(Deserialize)]
struct Letter<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
    #[serde(rename = "code")]
    _code: IgnoredAny,
    #[serde(rename = "reason")]
    _reason: IgnoredAny,
    #[serde(rename = "index")]
    _index: IgnoredAny,
    #[serde(default)]
    cut: bool,
}

fn is_letter(frame: &Frame) -> bool {
    serde_json::from_slice::<Letter<'_>>(&frame.raw).is_ok()
}

/// Returns the record of a dead letter, which is the text of the record or, after an edit, a JSON object.
fn record_of(line: Vec<u8>) -> Document {
    // The line may have been replaced by the record alone.
    let Ok(letter) = serde_json::from_slice::<Letter<'_>>(&line) else { return Document::Json(line) };
    let record = letter.record.get();
    if !record.starts_with('"') {
        return Document::Json(record.as_bytes().to_vec());
    }
    match serde_json::from_str::<String>(record) {
        Ok(text) if letter.cut => {
            let reason = "the dead letter has only the beginning of the record: put the whole record in its place";
            Document::Refused { text: text.into_bytes(), cut: true, why: Rejection::new(ErrorCode::BadRequest, reason) }
        }
        Ok(text) => Document::Json(text.into_bytes()),
        Err(_) => Document::Json(line),
    }
}
