//! Cuts CSV into rows, and rows into cells.
//!
//! The crate `csv` reads a quote that is never closed as one cell up to the end of the file. Here a row with broken
//! quotes costs one line: it is refused, and reading goes on with the line after it.

use std::collections::HashSet;

use super::columns::{ColumnMap, Encoding};
use super::{Bytes, Document, Reader};
use crate::error::ErrorCode;
use crate::service::catalog::import::dead_letter::MAX_SHOWN;
use crate::service::catalog::import::{EndedEarly, Rejection};

/// The most columns of a table, and the most rows of one record. The work for a record grows with both.
const MAX_COLUMNS: usize = 2_000;
pub(super) const MAX_ROWS: usize = 5_000;

/// The bytes of a row.
struct RawRow {
    line: u64,
    cells: Vec<Vec<u8>>,
    /// The text of the row, up to the limit. If the quotes are broken, it is only the first line.
    raw: Vec<u8>,
    bad: Option<Bad>,
    /// Whether the source ends without a line break after the row.
    unterminated: bool,
}

enum Bad {
    TooLarge,
    Quotes(String),
}

struct Rows {
    bytes: Bytes,
    delimiter: u8,
    quote: u8,
    limit: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// After a quote within a quoted cell, which ends the cell or is the first of two.
    AfterQuote,
}

impl Rows {
    fn next(&mut self) -> Result<Option<RawRow>, EndedEarly> {
        loop {
            match self.row()? {
                Some(row) if row.cells.len() == 1 && row.raw.trim_ascii().is_empty() => {}
                row => return Ok(row),
            }
        }
    }

    fn row(&mut self) -> Result<Option<RawRow>, EndedEarly> {
        let line = self.bytes.line;
        let mut row = RawRow { line, cells: Vec::new(), raw: Vec::new(), bad: None, unterminated: false };
        let mut cell = Vec::new();
        let mut at = At::Start;
        let mut opened = line;
        loop {
            let Some(byte) = self.bytes.next()? else {
                if at == At::Quoted {
                    if row.bad.is_some() {
                        let reason = format!("the quote that opens on line {opened} is not closed");
                        return Err(self.bytes.stop(reason));
                    }
                    let why = format!("line {opened}: a quote opens and is not closed");
                    return Ok(Some(self.broken(row, why)));
                }
                if at == At::Start && row.cells.is_empty() {
                    return Ok(None);
                }
                row.unterminated = true;
                row.cells.push(cell);
                return Ok(Some(row));
            };
            if row.bad.is_some() {
                // Only its beginning is kept.
            } else if row.raw.len() < self.limit {
                row.raw.push(byte);
            } else {
                row.bad = Some(Bad::TooLarge);
                row.raw.truncate(MAX_SHOWN);
                row.raw.shrink_to_fit();
                cell = Vec::new();
            }
            let kept = row.bad.is_none();
            match at {
                At::Start | At::Plain | At::AfterQuote if byte == self.delimiter => {
                    if kept {
                        row.cells.push(std::mem::take(&mut cell));
                    }
                    at = At::Start;
                }
                At::Start | At::Plain | At::AfterQuote if byte == b'\n' => {
                    if at != At::AfterQuote && cell.last() == Some(&b'\r') {
                        cell.pop();
                    }
                    row.cells.push(cell);
                    return Ok(Some(row));
                }
                At::Start if byte == self.quote => {
                    at = At::Quoted;
                    opened = self.bytes.line;
                }
                At::Start | At::Plain => {
                    at = At::Plain;
                    if kept {
                        cell.push(byte);
                    }
                }
                At::Quoted if byte == self.quote => at = At::AfterQuote,
                At::Quoted => {
                    if kept {
                        cell.push(byte);
                    }
                }
                At::AfterQuote if byte == self.quote => {
                    at = At::Quoted;
                    if kept {
                        cell.push(byte);
                    }
                }
                At::AfterQuote if byte == b'\r' => {}
                At::AfterQuote if row.bad.is_some() => at = At::Plain,
                At::AfterQuote => {
                    let why = format!("line {opened}: a quote closes in the middle of a cell");
                    row.cells.push(cell);
                    return Ok(Some(self.broken(row, why)));
                }
            }
        }
    }

    /// Refuses the first line of a row, and goes back to the line after it.
    fn broken(&mut self, mut row: RawRow, why: String) -> RawRow {
        match row.raw.iter().position(|b| *b == b'\n') {
            Some(end) => {
                let rest = row.raw.split_off(end + 1);
                self.bytes.back(&rest);
            }
            // The break is within the first line, whose rest belongs to it.
            None => {
                while let Ok(Some(byte)) = self.bytes.next() {
                    if row.raw.len() < self.limit {
                        row.raw.push(byte);
                    }
                    if byte == b'\n' {
                        break;
                    }
                }
            }
        }
        row.bad = Some(Bad::Quotes(why));
        row
    }
}

/// A row of a table.
pub(super) struct Row {
    pub line: u64,
    pub size: usize,
    pub cells: Vec<String>,
    /// The text of the row, if it is refused.
    pub text: Vec<u8>,
    pub bad: Option<Rejection>,
    /// Where the source ends, if it ends within the row. The cells before are complete.
    pub broke_off: Option<EndedEarly>,
}

/// Rows under a header.
pub(super) struct Table {
    rows: Rows,
    encoding: Encoding,
    pub header: Vec<String>,
}

impl Table {
    /// Reads the header.
    pub fn open(reader: Reader, map: &ColumnMap, limit: usize) -> Result<Self, EndedEarly> {
        let mut bytes = Bytes::new(reader);
        let mut head = Vec::new();
        for _ in 0..3 {
            head.extend(bytes.next()?);
        }
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            return Err(bytes.stop("the source is UTF-16: save it as UTF-8"));
        }
        if head != b"\xef\xbb\xbf" {
            bytes.back(&head);
        }
        let mut rows = Rows { bytes, delimiter: map.delimiter(), quote: map.quote(), limit: limit.max(MAX_SHOWN) };
        let encoding = map.encoding();
        let first = rows.next()?;
        let mut header = Vec::new();
        let mut names = HashSet::new();
        if let Some(first) = first {
            let stop = |reason: &str| super::stopped(reason, first.line, 0);
            match first.bad {
                Some(Bad::TooLarge) => return Err(stop("the header exceeds the maximum size of a record")),
                Some(Bad::Quotes(why)) => return Err(stop(&format!("the header cannot be read: {why}"))),
                None => {}
            }
            if first.cells.len() > MAX_COLUMNS {
                return Err(stop(&format!("the header has more than {MAX_COLUMNS} columns")));
            }
            for cell in first.cells {
                let name = encoding.decode(cell).map_err(|why| stop(&format!("the header {why}")))?;
                let name = name.trim().to_owned();
                if !name.is_empty() && !names.insert(name.clone()) {
                    return Err(stop(&format!("the header has the column `{}` twice", crate::text::shown(&name))));
                }
                header.push(name);
            }
        }
        Ok(Self { rows, encoding, header })
    }

    /// Returns the next row. A row that cannot be read has the cells that could.
    pub fn next(&mut self) -> Result<Option<Row>, EndedEarly> {
        let Some(mut raw) = self.rows.next()? else { return Ok(None) };
        let (line, size) = (raw.line, raw.raw.len());
        let (found, expected) = (raw.cells.len(), self.header.len());
        let mut broke_off = None;
        if raw.unterminated && found < expected && raw.bad.is_none() {
            let reason = format!("the source ends within the row that starts on line {line}");
            broke_off = Some(self.rows.bytes.stop(reason));
            raw.cells.pop();
        }
        let malformed = |reason: String| Rejection::new(ErrorCode::BadRequest, reason);
        let mut bad = match raw.bad {
            Some(Bad::TooLarge) => {
                Some(Rejection::new(ErrorCode::PayloadTooLarge, "the record exceeds the maximum size"))
            }
            Some(Bad::Quotes(why)) => Some(malformed(format!("the row cannot be read: {why}"))),
            None => None,
        };
        let mut cells = Vec::with_capacity(found);
        for (i, cell) in raw.cells.into_iter().enumerate() {
            match self.encoding.decode(cell) {
                Ok(text) => cells.push(crate::text::unguard_formula(text)),
                Err(why) => {
                    let column = self.header.get(i).map_or("", String::as_str);
                    bad = bad.or_else(|| Some(malformed(format!("line {line}: the column `{column}` {why}"))));
                    cells.push(String::new());
                }
            }
        }
        let too_many = cells.get(expected..).is_some_and(|more| more.iter().any(|c| !c.is_empty()));
        if bad.is_none() && (found < expected || too_many) {
            let reason = format!("line {line}: the row has {found} cells, and the header has {expected}");
            bad = Some(malformed(reason));
        }
        cells.truncate(expected);
        let text = if bad.is_some() { raw.raw } else { Vec::new() };
        Ok(Some(Row { line, size, cells, text, bad, broke_off }))
    }
}

impl Row {
    /// Returns a cell without surrounding white space, unless it is empty.
    pub fn cell(&self, column: usize) -> Option<&str> {
        self.cells.get(column).map(|c| c.trim()).filter(|c| !c.is_empty())
    }
}

/// Returns a record for rows of which some cannot be read.
pub(super) fn refused(rows: &[Row]) -> Option<Document> {
    let why = rows.iter().find_map(|row| row.bad.clone())?;
    let text: Vec<u8> = rows.iter().flat_map(|row| row.text.iter().copied()).collect();
    let cut = why.code == ErrorCode::PayloadTooLarge;
    Some(Document::Refused { text, cut, why })
}
