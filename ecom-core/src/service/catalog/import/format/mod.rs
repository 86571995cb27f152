//! The formats of sources: each cuts a source into records, one at a time and in bounded memory.
//!
//! Formats only parse. They open no files and make no requests, so a host can give them any reader, and can implement
//! [`RecordSource`] for a format of its own.

mod cells;
mod columns;
mod csv;
mod frame;
mod json;
mod price;
mod rows;
mod shopify;
mod woocommerce;

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};

pub(in crate::service::catalog) use self::cells::joined;
pub use self::columns::ColumnMap;
pub(in crate::service::catalog) use self::columns::{Column, Field, Level, PRODUCT_FIELDS, Type};

use self::frame::Shape;
use self::json::JsonSource;
use self::rows::Table;
use crate::money::Currency;
use crate::port::catalog::feed::FeedError;
use crate::service::catalog::import::{EndedEarly, ImportKind, ImportOptions, Rejection};

/// The format of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportFormat {
    /// A JSON array of records, an object with the array in a member named after them (`products`, `categories`,
    /// `customers` or `users`, `carts`), or one object.
    Json,
    /// A JSON object per line.
    NdJson,
    /// The dead letters of an earlier import, whose records are imported again. A line that was mended may have the
    /// record as a JSON object in place of its text.
    DeadLetters,
    /// CSV whose columns the map names. [`ColumnMap::own`] is for the columns of an export.
    Csv(ColumnMap),
    /// The product export of Shopify.
    Shopify,
    /// The product export of WooCommerce.
    WooCommerce,
}

/// A record as its source has it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SourceRecord {
    /// The line that the record starts on, from 1.
    pub line: u64,
    /// The size of its text in the source, in bytes.
    pub size: usize,
    /// The record.
    pub document: Document,
}

impl SourceRecord {
    /// Makes a record that starts on a line.
    pub fn new(line: u64, size: usize, document: Document) -> Self {
        Self { line, size, document }
    }
}

/// The content of a record.
#[derive(Debug, Clone)]
pub enum Document {
    /// The text of a JSON value, which must be an object.
    Json(Vec<u8>),
    /// An object that the format made, in the field names of our own documents.
    Object(Map<String, Value>),
    /// A record that cannot be read.
    Refused {
        /// The text of the record, as the dead letter shows it.
        text: Vec<u8>,
        /// Whether the text is only the beginning of the record.
        cut: bool,
        /// The reason.
        why: Rejection,
    },
}

/// A source of records, which an import reads on a thread of its own. It may block.
///
/// An import numbers the records in the order in which the source returns them, from 0. A source must return them in
/// the same order whenever it is read again, so that a stopped import can resume.
pub trait RecordSource: Send {
    /// Returns the next record, or `None` at the regular end.
    ///
    /// # Errors
    /// Where and why the source cannot be read further. `index` is replaced by the number of records before. The source
    /// is not read again.
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly>;
}

/// How a source is opened.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub kind: ImportKind,
    pub format: Option<ImportFormat>,
    /// The most bytes of one record.
    pub max_record: usize,
    /// The most bytes of the source, after decompression.
    pub max_bytes: Option<u64>,
    /// The currency of prices; `None` if nobody reads them.
    pub currency: Option<Currency>,
}

impl Opening {
    pub fn new(kind: ImportKind, options: &ImportOptions, currency: Currency) -> Self {
        let ImportOptions { format, max_record, max_bytes, .. } = options;
        Self { kind, format: format.clone(), max_record: *max_record, max_bytes: *max_bytes, currency: Some(currency) }
    }

    /// Returns the records of a reader, which is first read when the first record is asked for.
    pub fn open<R: Read + Send + 'static>(self, reader: R) -> Box<dyn RecordSource> {
        Box::new(Lazy { unopened: Some((Box::new(reader), self)), opened: None })
    }
}

type Reader = Box<dyn Read + Send>;

struct Lazy {
    unopened: Option<(Reader, Opening)>,
    opened: Option<Box<dyn RecordSource>>,
}

impl RecordSource for Lazy {
    fn next(&mut self) -> Result<Option<SourceRecord>, EndedEarly> {
        if let Some((reader, opening)) = self.unopened.take() {
            self.opened = Some(open(reader, &opening)?);
        }
        self.opened.as_mut().map_or(Ok(None), |source| source.next())
    }
}

/// How much of the beginning of a source is read to detect its format.
const HEAD: usize = 64 * 1024;

/// Returns an error at a position before the first record.
fn stopped(reason: impl Into<String>, line: u64, byte: u64) -> EndedEarly {
    EndedEarly { reason: reason.into(), index: 0, line, byte }
}

fn unreadable(e: &std::io::Error) -> String {
    if e.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<TooLong>) {
        return "the source is larger than the limit of the import".to_owned();
    }
    if let Some(error) = e.get_ref().and_then(|e| e.downcast_ref::<FeedError>()) {
        return error.to_string();
    }
    // The text of an I/O error may name a path.
    format!("the source cannot be read further: {}", e.kind())
}

/// Reads until the first line is complete, or `HEAD` bytes. Returns what was read.
fn head(reader: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    while head.len() < HEAD && !head.contains(&b'\n') {
        match reader.read(&mut part) {
            Ok(0) => break,
            Ok(n) => head.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            // The records before the failure are imported; the next read reports it.
            Err(e) if head.is_empty() => return Err(e),
            Err(_) => break,
        }
    }
    Ok(head)
}

const GZIP: [u8; 2] = [0x1f, 0x8b];

fn open(mut reader: Reader, opening: &Opening) -> Result<Box<dyn RecordSource>, EndedEarly> {
    let failed = |e: std::io::Error| stopped(unreadable(&e), 1, 0);
    let mut start = head(&mut *reader).map_err(failed)?;
    let mut reader: Reader = Box::new(Cursor::new(start.clone()).chain(reader));
    if start.starts_with(&GZIP) {
        reader = Box::new(MultiGzDecoder::new(BufReader::new(reader)));
        reader = limited(reader, opening.max_bytes);
        start = head(&mut *reader).map_err(failed)?;
        reader = Box::new(Cursor::new(start.clone()).chain(reader));
    } else {
        reader = limited(reader, opening.max_bytes);
    }
    let format = match opening.format.clone() {
        Some(format) => Some(format),
        None => detect(&start, opening.kind),
    };
    let Opening { kind, max_record: limit, currency, .. } = *opening;
    // A program that has edited the export of another shop may have changed the delimiter.
    let delimiter = || Header::read(&start).map_or(b',', |header| header.delimiter);
    Ok(match format {
        None | Some(ImportFormat::Json | ImportFormat::NdJson | ImportFormat::DeadLetters) => {
            let shape = match format {
                Some(ImportFormat::Json) => Some(Shape::Document),
                Some(ImportFormat::NdJson | ImportFormat::DeadLetters) => Some(Shape::Lines),
                _ => None,
            };
            let letters = format.map(|f| f == ImportFormat::DeadLetters);
            Box::new(JsonSource::new(reader, kind, shape, letters, limit))
        }
        Some(ImportFormat::Csv(map)) => csv::open(reader, map, kind, limit)?,
        Some(ImportFormat::Shopify) => shopify::open(reader, delimiter(), limit, currency)?,
        Some(ImportFormat::WooCommerce) => woocommerce::open(reader, delimiter(), limit, currency)?,
    })
}

/// Detects a format of tables by the header. `None` means JSON, whose forms the source itself detects.
fn detect(head: &[u8], kind: ImportKind) -> Option<ImportFormat> {
    let header = Header::read(head)?;
    if kind == ImportKind::Products && header.is_shopify() {
        Some(ImportFormat::Shopify)
    } else if kind == ImportKind::Products && header.is_woocommerce() {
        Some(ImportFormat::WooCommerce)
    } else if header.kind() == Some(kind) {
        Some(ImportFormat::Csv(ColumnMap::own().with_delimiter(header.delimiter)))
    } else {
        None
    }
}

/// The names of columns in the first line of a source.
pub(super) struct Header {
    names: Vec<String>,
    delimiter: u8,
}

impl Header {
    /// Returns the header, unless the source looks like JSON.
    pub fn read(head: &[u8]) -> Option<Self> {
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let first = text.iter().find(|b| !b.is_ascii_whitespace())?;
        if matches!(first, b'{' | b'[') {
            return None;
        }
        let line = text.split(|b| *b == b'\n').find(|line| !line.trim_ascii().is_empty())?;
        let count = |d: u8| line.split(|b| *b == d).count();
        let delimiter = [b',', b';', b'\t'].into_iter().max_by_key(|d| (count(*d), *d == b','))?;
        let map = ColumnMap::own().with_delimiter(delimiter);
        let table = Table::open(Box::new(Cursor::new(line.to_vec())), &map, HEAD).ok()?;
        Some(Self { names: table.header, delimiter })
    }

    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|n| n.eq_ignore_ascii_case(name))
    }

    pub fn is_shopify(&self) -> bool {
        (self.has("Handle") || self.has("URL handle"))
            && self.has("Title")
            && ["Variant Price", "Variant SKU", "Option1 Name", "Image Src", "Body (HTML)", "Product image URL"]
                .iter()
                .any(|name| self.has(name))
    }

    pub fn is_woocommerce(&self) -> bool {
        self.has("Type") && self.has("SKU") && self.has("Name") && self.has("Regular price")
    }

    /// Returns the kind of records that have these columns.
    pub fn kind(&self) -> Option<ImportKind> {
        if self.is_shopify() || self.is_woocommerce() || self.has("title") && (self.has("price") || self.has("sku")) {
            Some(ImportKind::Products)
        } else if self.has("email") && (self.has("first_name") || self.has("last_name")) {
            Some(ImportKind::Customers)
        } else if self.has("id") && self.has("name") && (self.has("parent") || self.has("path")) {
            Some(ImportKind::Categories)
        } else {
            None
        }
    }
}

/// Returns the beginning of a source as it is without compression.
pub(super) fn decompressed(head: &[u8]) -> Vec<u8> {
    if !head.starts_with(&GZIP) {
        return head.to_vec();
    }
    let mut text = Vec::new();
    let mut part = [0; 4096];
    let mut decoder = MultiGzDecoder::new(head);
    // The beginning of a compressed file ends within a block.
    while text.len() < HEAD
        && let Ok(n @ 1..) = decoder.read(&mut part)
    {
        text.extend_from_slice(part.get(..n).unwrap_or_default());
    }
    text
}

/// The source has more bytes than the import accepts.
#[derive(Debug, thiserror::Error)]
#[error("too long")]
struct TooLong;

fn limited(reader: Reader, max_bytes: Option<u64>) -> Reader {
    match max_bytes {
        None => reader,
        Some(left) => Box::new(Limited { reader, left }),
    }
}

struct Limited {
    reader: Reader,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut one = [0];
            return match self.reader.read(&mut one)? {
                0 => Ok(0),
                _ => Err(std::io::Error::other(TooLong)),
            };
        }
        let most = usize::try_from(self.left).map_or(to.len(), |left| left.min(to.len()));
        let n = self.reader.read(to.get_mut(..most).unwrap_or_default())?;
        self.left -= u64::try_from(n).unwrap_or(self.left).min(self.left);
        Ok(n)
    }
}

/// Reads bytes with their position, and can go back.
struct Bytes {
    reader: BufReader<Reader>,
    /// Bytes that are read again, in reverse order.
    again: Vec<u8>,
    line: u64,
    offset: u64,
}

impl Bytes {
    fn new(reader: Reader) -> Self {
        Self { reader: BufReader::new(reader), again: Vec::new(), line: 1, offset: 0 }
    }

    fn stop(&self, reason: impl Into<String>) -> EndedEarly {
        stopped(reason, self.line, self.offset)
    }

    fn next(&mut self) -> Result<Option<u8>, EndedEarly> {
        let byte = match self.again.pop() {
            Some(byte) => byte,
            None => loop {
                match self.reader.fill_buf().map(|b| b.first().copied()) {
                    Ok(None) => return Ok(None),
                    Ok(Some(byte)) => {
                        self.reader.consume(1);
                        break byte;
                    }
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(self.stop(unreadable(&e))),
                }
            },
        };
        self.offset += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Ok(Some(byte))
    }

    /// Goes back by these bytes, which were the last ones.
    fn back(&mut self, bytes: &[u8]) {
        self.again.extend(bytes.iter().rev());
        self.offset -= u64::try_from(bytes.len()).unwrap_or(0).min(self.offset);
        let lines = bytes.split(|b| *b == b'\n').count().saturating_sub(1);
        self.line -= u64::try_from(lines).unwrap_or(0).min(self.line);
    }
}
