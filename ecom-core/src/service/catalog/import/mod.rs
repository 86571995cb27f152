//! Imports: files of products, categories, customers and carts, streamed in bounded batches.
//!
//! A separate thread cuts the source into records and checks each against the bounds of its kind. A bounded channel
//! leads to the writer, so that the source is never read far ahead of the database. Refused records go to the dead
//! letters with their position; valid ones are written in batches, each in one unit of work. An import recognizes its
//! rows by external id or SKU code, so that a second run of the same file changes nothing, or completes an unfinished
//! first run.

mod batch;
mod carts;
mod categories;
mod country;
mod customers;
mod dead_letter;
mod frame;
mod products;
mod record;

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derive_setters::Setters;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::carts::{CartLineRecord, CartRecord};
pub use self::customers::{AddressRecord, CustomerRecord};
pub use self::dead_letter::DeadLetters;
pub use self::frame::ImportFormat;
pub use self::record::{DimensionsRecord, ForeignId, ImageRecord, MetaRecord, ProductRecord, SkuRecord};

use self::dead_letter::{DeadLetterWriter, MAX_SHOWN, Refused};
use self::frame::{CARTS, CATALOG, CUSTOMERS, Frame, Framer};
use crate::domain::access::principal::Principal;
use crate::domain::platform::audit_log::Import;
use crate::error::{
    CatalogConflict, Conflict, Error, ErrorCode, FieldCode, FieldError, Result, ValidationErrors, WithCauses,
};
use crate::id::AuditLogEntryId;
use crate::service::run::context::Context;
use crate::text::check_text;

/// How many records may wait between the reader and the writer.
const CHANNEL: usize = 32;
/// How many records a batch has by default, and if it is one of the first import of products.
const BATCH: usize = 100;
const FIRST_BATCH: usize = 4_000;
/// The bytes of records after which a batch is written even if it has fewer records.
const BATCH_BYTES: usize = 8 << 20;
/// How often a batch is tried while the database is unavailable, and the first pause between tries.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The options of an import.
#[derive(Debug, Setters)]
#[setters(strip_option)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The system that the external ids belong to. By default the one that a record names, else `dummyjson` for
    /// DummyJSON's documents, `import` for our own format, and `categories` for categories. The customer and the
    /// products of a cart are those of the same system.
    #[setters(into)]
    pub source: Option<String>,
    /// The name of the source in the dead letters.
    #[setters(into)]
    pub file: Option<String>,
    /// The format of the source; `None` detects it from the beginning of the source.
    pub format: Option<ImportFormat>,
    /// Records per unit of work, 1 to 10,000. By default 100, and 4,000 for products if the shop has none yet: then no
    /// orders wait for the import, and on SQLite it takes half as long. A unit of work has fewer records if they are
    /// larger than 8 MiB in sum. Categories have a fixed number.
    pub batch: Option<usize>,
    /// Whether to create categories that products name and that do not exist; if not, such products are refused.
    /// Default true.
    pub create_categories: bool,
    /// Where refused records go.
    pub dead_letters: DeadLetters,
    /// The most bytes of one record; a larger one is refused. Default 1 MiB.
    pub max_record: usize,
    /// The most categories of one file, including those that only paths name. They are held in memory until all are
    /// read, since parents may come last: about 500 bytes each, and at most 2 KiB more for a dead letter. Default
    /// 100,000.
    pub max_categories: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            source: None,
            file: None,
            format: None,
            batch: None,
            create_categories: true,
            dead_letters: DeadLetters::Discard,
            max_record: 1024 * 1024,
            max_categories: 100_000,
        }
    }
}

/// Why an import did not reach the end of its source, and where it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndedEarly {
    /// The reason.
    pub reason: String,
    /// How many records were read before, which is the index of the one that could not be read.
    pub index: u64,
    /// The line, from 1.
    pub line: u64,
    /// The number of bytes before the position.
    pub byte: u64,
}

impl fmt::Display for EndedEarly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (record {}, line {}, byte {})", self.reason, self.index, self.line, self.byte)
    }
}

/// The result of an import. Once it is done, `read` = `inserted` + `updated` + `unchanged` + `rejected`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// Records that were read completely.
    pub read: u64,
    /// Records that became new rows.
    pub inserted: u64,
    /// Records that changed their rows.
    pub updated: u64,
    /// Records that agreed with their rows, so that nothing was written.
    pub unchanged: u64,
    /// Records in the dead letters.
    pub rejected: u64,
    /// Categories that were created without a record of their own, because products or paths name them.
    pub categories_created: u64,
    /// How many seconds it took so far.
    pub seconds: f64,
    /// Records per second.
    pub rate: f64,
    /// Where the source broke off or could not be read further. The records before that are imported.
    pub ended_early: Option<EndedEarly>,
}

impl ImportReport {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn clock(&mut self, start: Instant) {
        self.seconds = start.elapsed().as_secs_f64();
        self.rate = if self.seconds > 0.0 { self.read as f64 / self.seconds } else { 0.0 };
    }
}

/// The kind of the records in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportKind {
    /// Products, for [`ImportService::products`].
    Products,
    /// Categories, for [`ImportService::categories`].
    Categories,
    /// Customers, for [`ImportService::customers`].
    Customers,
    /// Carts, for [`ImportService::carts`].
    Carts,
}

impl ImportKind {
    /// Every kind, in the order in which the files of a shop are imported: products name categories, and carts name
    /// customers and products.
    pub const ALL: [Self; 4] = [Self::Categories, Self::Products, Self::Customers, Self::Carts];

    /// Returns the word for the records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Products => "products",
            Self::Categories => "categories",
            Self::Customers => "customers",
            Self::Carts => "carts",
        }
    }

    /// Returns the kind of the records in a file, by its beginning (64 KiB are enough): by the first record or, if the
    /// record is longer than that, by the names in it. Returns `None` if it looks like no kind.
    pub fn detect(head: &[u8]) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Names {
            title: Option<IgnoredAny>,
            price: Option<IgnoredAny>,
            skus: Option<IgnoredAny>,
            name: Option<IgnoredAny>,
            path: Option<IgnoredAny>,
            #[serde(alias = "firstName")]
            first_name: Option<IgnoredAny>,
            #[serde(alias = "userId")]
            customer_external_id: Option<IgnoredAny>,
        }
        let names = |wrappers| -> Option<Names> {
            let first = Framer::new(head, wrappers, None, head.len()).next().ok().flatten();
            first.and_then(|f| serde_json::from_slice(&f.raw).ok())
        };
        if names(CUSTOMERS).is_some_and(|n| n.first_name.is_some()) {
            return Some(Self::Customers);
        }
        // Before products, because a cart of DummyJSON has an array of that name.
        if names(CARTS).is_some_and(|n| n.customer_external_id.is_some()) {
            return Some(Self::Carts);
        }
        let (product, category) = match names(CATALOG) {
            Some(n) => {
                (n.title.is_some() || n.price.is_some() || n.skus.is_some(), n.path.is_some() || n.name.is_some())
            }
            None => {
                let text = String::from_utf8_lossy(head);
                (text.contains("\"title\"") || text.contains("\"price\""), text.contains("\"path\""))
            }
        };
        match (product, category) {
            (true, _) => Some(Self::Products),
            (false, true) => Some(Self::Categories),
            (false, false) => None,
        }
    }
}

/// The service of imports into a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::catalog::{DeadLetters, ImportOptions};
///
/// let file = std::fs::File::open("products.ndjson")?;
/// let options = ImportOptions::default().dead_letters(DeadLetters::File("rejected.ndjson".into()));
/// let report = shop.import().products(file, options, |so_far| println!("{} read", so_far.read)).await?;
/// println!("{} inserted, {} rejected", report.inserted, report.rejected);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ImportService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> ImportService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns the context of an import, whose changes have one entry in the audit log.
    fn begin(&self, kind: ImportKind, options: &ImportOptions) -> Arc<Context> {
        let ImportOptions { source, file, .. } = options;
        let (id, actor) = (AuditLogEntryId(self.cx.ids.next()), self.who.actor().clone());
        let import = Import {
            id,
            of: kind.as_str(),
            source: source.clone(),
            file: file.as_ref().map(|file| file.replace('\0', "")),
            actor,
        };
        self.cx.importing(import)
    }
}

impl ImportOptions {
    fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if self.batch.is_some_and(|batch| !(1..=10_000).contains(&batch)) {
            errors.out_of_bounds("batch", "must be between 1 and 10000");
        }
        if let Some(s) = &self.source {
            check_text("source", s, 1, 100, &mut errors);
        }
        errors.into_result()
    }
}

/// Why a record was refused.
#[derive(Debug, Clone)]
struct Rejection {
    code: &'static str,
    reason: String,
    fields: Vec<FieldError>,
}

impl Rejection {
    fn field(field: &str, code: FieldCode, message: impl Into<String>) -> Self {
        Self::from(&Error::invalid(field, code, message))
    }
}

impl From<&Error> for Rejection {
    fn from(e: &Error) -> Self {
        let at = |field: &str| {
            vec![FieldError { field: field.to_owned(), code: FieldCode::Inconsistent, message: e.to_string() }]
        };
        let fields = match e {
            Error::Validation(v) => v.0.clone(),
            Error::Conflict(c) => match &**c {
                Conflict::Duplicate { field, .. } | Conflict::Catalog(CatalogConflict::FlatWrite { field, .. }) => {
                    at(field)
                }
                Conflict::Stock(_) => at("stock"),
                Conflict::CurrencyMismatch { .. } => at("currency"),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        Self { code: e.code().as_str(), reason: e.to_string(), fields }
    }
}

/// Returns whether one record caused the error, so that the next record may succeed.
fn is_of_a_record(e: &Error) -> bool {
    matches!(e, Error::Validation(_) | Error::Conflict(_) | Error::NotFound { .. })
}

/// Retries a few times while the database is unavailable. A write of unknown outcome is repeated too: the second one
/// finds what the first one wrote.
///
/// It is not a function that takes the work, because the compiler cannot prove that the future of a borrowing async
/// closure is `Send`.
struct Patience {
    left: u32,
    pause: Duration,
}

impl Patience {
    const fn new() -> Self {
        Self { left: TRIES - 1, pause: FIRST_PAUSE }
    }

    /// Waits if another try makes sense, and returns the error otherwise.
    async fn after(&mut self, error: Error) -> Result<()> {
        if !error.is_retryable() || self.left == 0 {
            return Err(error);
        }
        tracing::warn!(error = %WithCauses(&error), "an import waits for the database");
        tokio::time::sleep(self.pause).await;
        self.left -= 1;
        self.pause *= 2;
        Ok(())
    }
}

/// Tries, and tries again after a pause if that makes sense.
async fn patiently<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    let mut patience = Patience::new();
    loop {
        match attempt().await {
            Err(e) => patience.after(e).await?,
            done => return done,
        }
    }
}

/// A record on its way to the writer.
struct Item<T> {
    index: u64,
    line: u64,
    /// Its text, cut to the length that a dead letter shows.
    raw: Vec<u8>,
    /// The length of its whole text, in bytes.
    size: usize,
    external_id: Option<String>,
    value: Result<T, Rejection>,
}

impl<T> Item<T> {
    fn refused(self, why: Rejection) -> Refused {
        Refused { index: self.index, line: self.line, external_id: self.external_id, raw: self.raw, why }
    }
}

enum Message<T> {
    Item(Box<Item<T>>),
    End(Option<EndedEarly>),
}

/// Reads, parses and checks records in a separate thread, which runs ahead by no more than the length of the channel.
fn stream<R, D, T>(
    source: R,
    wrappers: &'static [&'static str],
    options: &ImportOptions,
    check: impl Fn(D) -> Result<T, Rejection> + Send + 'static,
) -> mpsc::Receiver<Message<T>>
where
    R: Read + Send + 'static,
    D: DeserializeOwned,
    T: Send + 'static,
{
    let (to, from) = mpsc::channel(CHANNEL);
    let mut framer = Framer::new(source, wrappers, options.format, options.max_record.max(MAX_SHOWN));
    tokio::task::spawn_blocking(move || {
        loop {
            let message = match framer.next() {
                Err(stop) => Message::End(Some(stop)),
                Ok(None) => Message::End(None),
                Ok(Some(frame)) => match parse(&frame) {
                    Err(Unread::BrokenOff) => Message::End(Some(framer.broke_off_at(&frame))),
                    Err(Unread::Refused(why)) => Message::Item(Box::new(item(frame, Err(why)))),
                    Ok(document) => Message::Item(Box::new(item(frame, check(document)))),
                },
            };
            let last = matches!(message, Message::End(_));
            // If the writer has failed, nothing receives any more.
            if to.blocking_send(message).is_err() || last {
                return;
            }
        }
    });
    from
}

enum Unread {
    BrokenOff,
    Refused(Rejection),
}

fn parse<D: DeserializeOwned>(frame: &Frame) -> Result<D, Unread> {
    let refused = |reason: String, fields: Vec<FieldError>| {
        Unread::Refused(Rejection { code: ErrorCode::BadRequest.as_str(), reason, fields })
    };
    if frame.too_large {
        return Err(Unread::Refused(Rejection {
            code: ErrorCode::PayloadTooLarge.as_str(),
            reason: "the record exceeds the maximum size".to_owned(),
            fields: Vec::new(),
        }));
    }
    if !frame.raw.starts_with(b"{") {
        return Err(refused("the record must be a JSON object".to_owned(), Vec::new()));
    }
    let mut from = serde_json::Deserializer::from_slice(&frame.raw);
    let document = serde_path_to_error::deserialize(&mut from).map_err(|e| {
        let field = e.path().to_string();
        let why = e.into_inner();
        if why.is_eof() && frame.unterminated {
            return Unread::BrokenOff;
        }
        let reason = format!("the record cannot be read: {why}");
        let fields = if why.is_data() && field != "." {
            vec![FieldError { field, code: FieldCode::Malformed, message: why.to_string() }]
        } else {
            Vec::new()
        };
        refused(reason, fields)
    })?;
    from.end().map_err(|e| refused(format!("the record cannot be read: {e}"), Vec::new()))?;
    Ok(document)
}

fn item<T>(mut frame: Frame, value: Result<T, Rejection>) -> Item<T> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Ident {
        external_id: Option<serde_json::Value>,
        id: Option<serde_json::Value>,
    }
    // A record that is written needs neither its text nor, apart from a later conflict, its id.
    let ident: Ident = serde_json::from_slice(&frame.raw).unwrap_or_default();
    let external_id = ident.external_id.or(ident.id).and_then(|v| match v {
        serde_json::Value::String(s) => Some(s.chars().take(255).collect()),
        serde_json::Value::Number(n) => Some(n.to_string()),
        _ => None,
    });
    let size = frame.raw.len();
    frame.raw.truncate(MAX_SHOWN);
    frame.raw.shrink_to_fit();
    Item { index: frame.index, line: frame.line, raw: frame.raw, size, external_id, value }
}

/// Counts, dead letters and progress of one run.
struct Run<P> {
    report: ImportReport,
    letters: DeadLetterWriter,
    /// The refused records of the current batch.
    refused: Vec<Refused>,
    start: Instant,
    on_progress: P,
}

impl<P: FnMut(&ImportReport) + Send> Run<P> {
    fn new(letters: DeadLetterWriter, on_progress: P) -> Self {
        Self { report: ImportReport::default(), letters, refused: Vec::new(), start: Instant::now(), on_progress }
    }

    fn refuse(&mut self, refused: Refused) {
        self.report.rejected += 1;
        self.refused.push(refused);
    }

    /// Ends a batch: writes its dead letters in order, flushes them, and reports progress to the host.
    fn batch_done(&mut self) -> Result<()> {
        self.refused.sort_by_key(|r| r.index);
        for r in self.refused.drain(..) {
            self.letters.write(&r)?;
        }
        self.letters.flush()?;
        self.report.clock(self.start);
        (self.on_progress)(&self.report);
        Ok(())
    }
}

/// Returns the end of an import whose reader thread ended without a message.
fn lost_reader(read: u64) -> EndedEarly {
    EndedEarly { reason: "the reader of the source failed".to_owned(), index: read, line: 0, byte: 0 }
}

/// Returns the system that a record belongs to, and its id there. `chosen` is the system of the options, and `source`
/// that of the record; without either, an `external_id` is of no named system and an `id` is one of DummyJSON.
fn origin(
    chosen: Option<&str>,
    source: Option<String>,
    external_id: Option<ForeignId>,
    id: Option<ForeignId>,
) -> (String, Option<String>) {
    let default_source = if external_id.is_some() { "import" } else { "dummyjson" };
    let id = external_id.or(id).map(|i| i.0).filter(|i| !i.is_empty());
    (chosen.map(str::to_owned).or(source).unwrap_or_else(|| default_source.to_owned()), id)
}
