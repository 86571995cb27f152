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
mod category_paths;
mod country;
mod customers;
mod dead_letter;
mod format;
mod job;
mod outcome;
mod products;
mod record;
mod transform;
mod unknown;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use derive_setters::Setters;
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use self::carts::{CartLineRecord, CartRecord};
pub use self::customers::{AddressRecord, CustomerRecord};
pub use self::dead_letter::DeadLetters;
pub use self::format::{ColumnMap, Document, ImportFormat, RecordSource, SourceRecord};
pub use self::job::ImportRun;
pub use self::outcome::{RecordOutcome, RecordResult};
pub use self::record::{DimensionsRecord, ForeignId, ImageRecord, MetaRecord, ProductRecord, SkuRecord};
pub use self::transform::{Fate, Transform};

use self::dead_letter::{DeadLetterWriter, Refused};
pub(in crate::service::catalog) use self::format::{Column, Field, Level, PRODUCT_FIELDS, Type, joined};
use self::format::{Header, Opening};
use self::outcome::Outcomes;
use self::transform::Transforms;
use self::unknown::Unknown;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::platform::audit_log::Import;
use crate::error::{
    CatalogConflict, Conflict, Error, ErrorCode, FieldCode, FieldError, Result, ValidationErrors, WithCauses,
};
use crate::id::AuditLogEntryId;
use crate::service::run::context::Context;
use crate::text::check_text;

/// How many records may wait between the reader and the writer if batches are smaller than this. Otherwise a whole
/// batch may wait, so that it is read while the writer writes the one before.
const AHEAD: usize = 32;
/// How many bytes of records may wait. A larger record waits alone.
const AHEAD_BYTES: usize = 1 << 20;
/// How many records a batch has by default, and if the shop has no products yet.
const BATCH: usize = 100;
const FIRST_BATCH: usize = 10_000;
/// How many records a batch has in an import in bulk. More would take more memory and no less time.
const BULK_BATCH: usize = 4_000;
/// The bytes of records after which a batch is written even if it has fewer records.
const BATCH_BYTES: usize = 8 << 20;
/// How often a batch is tried while the database is unavailable, and the first pause between tries.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two units of work.
const MAX_DELAY: Duration = Duration::from_secs(60);

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
    /// The format of the source; `None` detects it from the beginning of the source: JSON in its forms, dead letters,
    /// the exports of Shopify and WooCommerce by their headers, and CSV whose header has our own field names. Each of
    /// them may be compressed with gzip, which is detected in any case.
    pub format: Option<ImportFormat>,
    /// Records per unit of work, 1 to 10,000. The default is 100. It is 4,000 for an import in [`bulk`](Self::bulk),
    /// and otherwise 10,000 for products if the shop has none yet: then no orders wait for the import, and on SQLite it
    /// takes half as long. A unit of work has fewer records if they are larger than 8 MiB in sum. Categories have a
    /// fixed number.
    pub batch: Option<usize>,
    /// Whether to import products in bulk, for the first import of everything into a shop that is not open yet. The
    /// rows are those of any other import. It differs in three ways:
    ///
    /// - The products that a unit of work creates share one event,
    ///   [`EventKind::ProductsImported`](crate::platform::EventKind::ProductsImported). The search index and all caches
    ///   follow it. A [`Consumer`](crate::platform::Consumer) gets it in place of an event for each product, and
    ///   subscriptions to live events get nothing. A product that exists is updated with an event of its own, as
    ///   always.
    /// - On SQLite and PostgreSQL, the indexes that lists need are dropped at the beginning and created again at the
    ///   end, also if the import fails. Until then, lists take longer. While an index is created, writes of products
    ///   wait on PostgreSQL, and all writes wait on SQLite. If the process dies, the next process that starts creates
    ///   them ([`Storage::migrate`](crate::port::Storage::migrate)), and so do the background work of another process,
    ///   if the import was a job, and the end of the next import in bulk.
    /// - Batches are larger.
    ///
    /// Processes of a release that does not know such events skip them, so stop these processes before the import.
    /// Imports of other kinds and dry runs ignore it. Default false.
    pub bulk: bool,
    /// The pause after each unit of work, in which others can write, at most 1 minute. Categories have none. Default 0.
    pub delay: Duration,
    /// Whether to create categories that products name and that do not exist; if not, such products are refused.
    /// Default true.
    pub create_categories: bool,
    /// Where refused records go.
    pub dead_letters: DeadLetters,
    /// The most bytes of one record; a larger one is refused. For tables, these are the rows of one product. Default
    /// 1 MiB.
    pub max_record: usize,
    /// The most bytes of the source, after decompression: the import ends early there. By default there is no limit.
    pub max_bytes: Option<u64>,
    /// Whether to check and count everything and to write nothing. Each batch runs in a transaction that is rolled
    /// back, so it sees the rows of the shop and not what earlier batches would have written. The counts are those that
    /// the import would have, because external ids and SKU codes are compared across the whole source. They differ only
    /// if a record conflicts with one of an earlier batch in something else, such as the slug. Default false.
    pub dry_run: bool,
    /// The number of records at the start of the source to leave out, because an earlier run has done them:
    /// [`ImportReport::done`] of that run. They are read and checked, so that a later record that repeats one of them
    /// is refused as it would have been, but they are not written, and the report counts them as skipped only. Imports
    /// of categories ignore it, because a tree is written as a whole. Default 0.
    pub skip: u64,
    /// The steps between the source and the shop.
    #[setters(skip)]
    transforms: Transforms,
    #[setters(skip)]
    outcomes: Outcomes,
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
            bulk: false,
            delay: Duration::ZERO,
            create_categories: true,
            dead_letters: DeadLetters::Discard,
            max_record: 1024 * 1024,
            max_bytes: None,
            dry_run: false,
            skip: 0,
            transforms: Transforms::default(),
            outcomes: Outcomes::default(),
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

/// The result of an import. Once it is done, `read` = `inserted` + `updated` + `unchanged` + `rejected` + `dropped`.
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
    /// Records that a [`Transform`] left out.
    pub dropped: u64,
    /// Records at the start of the source that were left out by [`ImportOptions::skip`]. `read` does not count them.
    pub skipped: u64,
    /// How many records at the start of the source are done: written durably, or in the dead letters. A later run with
    /// this number as [`ImportOptions::skip`] continues after them. It is 0 after a dry run.
    pub done: u64,
    /// The names of fields that the import does not know and has ignored, such as `images[].caption`, with the number
    /// of their occurrences. Columns that have no field are under `columns`. The report has at most 100 names, and
    /// counts the fields beyond them as `(more)`. Fields that the shop derives itself, such as the totals of a cart,
    /// are no part of it.
    pub unknown_fields: BTreeMap<String, u64>,
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
        let head = &format::decompressed(head);
        if let Some(header) = Header::read(head) {
            return header.kind();
        }
        let names = |kind| -> Option<Names> {
            let opening = Opening { kind, format: None, max_record: head.len(), max_bytes: None, currency: None };
            match opening.open(Cursor::new(head.clone())).next().ok()??.document {
                Document::Json(text) => serde_json::from_slice(&text).ok(),
                _ => None,
            }
        };
        if names(Self::Customers).is_some_and(|n| n.first_name.is_some()) {
            return Some(Self::Customers);
        }
        // Before products, because a cart of DummyJSON has an array of that name.
        if names(Self::Carts).is_some_and(|n| n.customer_external_id.is_some()) {
            return Some(Self::Carts);
        }
        let (product, category) = match names(Self::Products) {
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

    /// Returns the records of a reader in the format of the options, for an import from a [`RecordSource`]. Nothing is
    /// read before the first record is asked for. A buffer around the reader is not necessary.
    pub fn records<R: Read + Send + 'static>(
        &self,
        kind: ImportKind,
        reader: R,
        options: &ImportOptions,
    ) -> Box<dyn RecordSource> {
        Opening::new(kind, options, self.cx.config.currency).open(reader)
    }

    /// Refuses a principal who may not run an import of this kind, and options that cannot work.
    fn allow(&self, kind: ImportKind, options: &ImportOptions) -> Result<()> {
        self.who.require(Permission::ImportRun)?;
        self.who.require(ImportOptions::permission(kind))?;
        if kind == ImportKind::Products && options.create_categories {
            self.who.require(Permission::CategoriesWrite)?;
        }
        options.check(kind)
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
            is_bulk: kind == ImportKind::Products && options.bulk,
            events: AtomicI64::new(0),
        };
        self.cx.importing(import)
    }
}

impl ImportOptions {
    /// Adds a step between the source and the shop, after those that were added before.
    pub fn transform(mut self, step: impl Transform + 'static) -> Self {
        self.transforms.0.push(Box::new(step));
        self
    }

    /// Calls `on_outcome` for each record when its outcome is final: once its batch is committed, or once it is
    /// refused. The order within a batch is not that of the source. Dry runs call it too. Imports of categories call it
    /// for refused records only.
    pub fn on_outcome(mut self, on_outcome: impl FnMut(RecordOutcome) + Send + 'static) -> Self {
        self.outcomes.0 = Some(Box::new(on_outcome));
        self
    }

    /// Returns the permission to write rows of a kind.
    pub(crate) const fn permission(kind: ImportKind) -> Permission {
        match kind {
            ImportKind::Products => Permission::ProductsWrite,
            ImportKind::Categories => Permission::CategoriesWrite,
            ImportKind::Customers => Permission::CustomersWrite,
            ImportKind::Carts => Permission::CartsWrite,
        }
    }

    pub(crate) fn check(&self, kind: ImportKind) -> Result<()> {
        let mut errors = ValidationErrors::default();
        match &self.format {
            Some(ImportFormat::Csv(map)) => map.check(kind, &mut errors),
            Some(format @ (ImportFormat::Shopify | ImportFormat::WooCommerce)) if kind != ImportKind::Products => {
                let message = format!("must not be {format:?}, which has products only");
                errors.push("format", FieldCode::Inconsistent, message);
            }
            _ => {}
        }
        if self.batch.is_some_and(|batch| !(1..=10_000).contains(&batch)) {
            errors.out_of_bounds("batch", "must be between 1 and 10000");
        }
        if self.delay > MAX_DELAY {
            errors.out_of_bounds("delay", "must be at most 1 minute");
        }
        if let Some(s) = &self.source {
            check_text("source", s, 1, 100, &mut errors);
        }
        errors.into_result()
    }
}

/// Why a record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The code of the error.
    pub code: ErrorCode,
    /// The reason, for people.
    pub reason: String,
    /// The refused fields, if the reason is in fields.
    pub fields: Vec<FieldError>,
}

impl Rejection {
    /// Refuses a record as a whole.
    pub fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), fields: Vec::new() }
    }

    /// Refuses one field of a record. The message completes a sentence that begins with the name of the field.
    pub fn field(field: &str, code: FieldCode, message: impl Into<String>) -> Self {
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
        Self { code: e.code(), reason: e.to_string(), fields }
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
    /// The text of the record, for a dead letter.
    raw: Vec<u8>,
    /// Whether `raw` is only the beginning of the text.
    cut: bool,
    /// The size of the record in the source, in bytes.
    size: usize,
    external_id: Option<String>,
    value: Checked<T>,
}

/// A record after its checks.
enum Checked<T> {
    Valid(T),
    /// A transform left it out.
    Dropped,
    Refused(Rejection),
}

impl<T> Item<T> {
    fn refused(self, why: Rejection) -> Refused {
        let Self { index, line, external_id, raw, cut, .. } = self;
        Refused { index, line, external_id, raw, cut, why }
    }
}

enum Message<T> {
    Item(Box<Item<T>>),
    End(Option<EndedEarly>),
}

/// The records of an import, as they come from the thread that reads them.
struct Incoming<T> {
    /// Each message, with a permit for the bytes of its record.
    from: mpsc::Receiver<(Message<T>, OwnedSemaphorePermit)>,
    unknown: Arc<Mutex<Unknown>>,
    skip: u64,
}

impl<T> Incoming<T> {
    /// Returns the next message, and makes room for others. `None` if the reader has failed.
    async fn next(&mut self) -> Option<Message<T>> {
        self.from.recv().await.map(|(message, _)| message)
    }
}

/// The member of a record with the cells of the columns that have no field.
const COLUMNS: &str = "columns";

/// The state of the thread that reads records.
struct RecordReader {
    transforms: Transforms,
    unknown: Arc<Mutex<Unknown>>,
    /// Fields that are ignored on purpose.
    derived: &'static [&'static str],
    /// Whether dead letters need the text of the records.
    keeps_text: bool,
}

/// Reads, transforms and checks records in a separate thread, which runs ahead by no more than a batch of `size` records
/// and [`AHEAD_BYTES`]. `derived` are the fields that the shop derives itself, so that they do not count as unknown.
fn stream<D, T>(
    mut records: Box<dyn RecordSource>,
    options: &mut ImportOptions,
    size: usize,
    derived: &'static [&'static str],
    check: impl Fn(D) -> Result<T, Rejection> + Send + 'static,
) -> Incoming<T>
where
    D: DeserializeOwned,
    T: Send + 'static,
{
    let (to, from) = mpsc::channel(size.max(AHEAD));
    let (room, runtime) = (Arc::new(Semaphore::new(AHEAD_BYTES)), Handle::current());
    let unknown = Arc::new(Mutex::new(Unknown::default()));
    let mut reader = RecordReader {
        transforms: std::mem::take(&mut options.transforms),
        unknown: unknown.clone(),
        derived,
        keeps_text: !matches!(options.dead_letters, DeadLetters::Discard),
    };
    let incoming = Incoming { from, unknown, skip: options.skip };
    tokio::task::spawn_blocking(move || {
        for index in 0.. {
            let message = match records.next() {
                Err(stop) => Message::End(Some(EndedEarly { index, ..stop })),
                Ok(None) => Message::End(None),
                Ok(Some(record)) => Message::Item(Box::new(reader.item(index, record, &check))),
            };
            let (bytes, last) = match &message {
                Message::Item(item) => (item.size.min(AHEAD_BYTES), false),
                Message::End(_) => (0, true),
            };
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let taken = room.clone().try_acquire_many_owned(bytes).or_else(|_| {
                // The writer makes room, or drops all messages if it has failed.
                runtime.block_on(room.clone().acquire_many_owned(bytes))
            });
            let Ok(taken) = taken else { return };
            // If the writer has failed, nothing receives any more.
            if to.blocking_send((message, taken)).is_err() || last {
                return;
            }
        }
    });
    incoming
}

impl RecordReader {
    fn item<D: DeserializeOwned, T>(
        &mut self,
        index: u64,
        record: SourceRecord,
        check: &impl Fn(D) -> Result<T, Rejection>,
    ) -> Item<T> {
        let SourceRecord { line, size, document, .. } = record;
        let external_id = match &document {
            Document::Refused { text, .. } | Document::Json(text) => ident(text),
            Document::Object(object) => ident_of(object),
        };
        let (mut raw, cut, value) = match document {
            Document::Refused { text, cut, why } => (text, cut, Checked::Refused(why)),
            Document::Json(text) if self.transforms.0.is_empty() => {
                let value = self.read(&text, check);
                (text, false, value)
            }
            Document::Json(text) => {
                let value = match parse_object(&text) {
                    Ok(object) => self.transformed(object, check),
                    Err(why) => Checked::Refused(why),
                };
                (text, false, value)
            }
            Document::Object(object) if self.transforms.0.is_empty() => {
                self.note_columns(&object);
                let text = text_of(&object);
                let value = self.read(&text, check);
                (text, false, value)
            }
            Document::Object(object) => {
                let text = text_of(&object);
                let value = self.transformed(object, check);
                (text, false, value)
            }
        };
        // A row of a table is shorter than the object that it means.
        let size = size.max(raw.len());
        if !self.keeps_text {
            raw = Vec::new();
        }
        Item { index, line, raw, cut, size, external_id, value }
    }

    fn transformed<D: DeserializeOwned, T>(
        &mut self,
        mut object: Map<String, Value>,
        check: &impl Fn(D) -> Result<T, Rejection>,
    ) -> Checked<T> {
        match self.transforms.apply(&mut object) {
            Fate::Drop => return Checked::Dropped,
            Fate::Refuse(why) => return Checked::Refused(why),
            Fate::Keep => {}
        }
        self.note_columns(&object);
        self.read(&text_of(&object), check)
    }

    /// Notes the columns that have no field.
    fn note_columns(&self, object: &Map<String, Value>) {
        if let Some(Value::Object(columns)) = object.get(COLUMNS) {
            let mut unknown = self.unknown.lock();
            for name in columns.keys() {
                unknown.add(&unknown::of_column(name));
            }
        }
    }

    fn read<D: DeserializeOwned, T>(&self, text: &[u8], check: &impl Fn(D) -> Result<T, Rejection>) -> Checked<T> {
        let mut names = Vec::new();
        let document = parse(text, |path| {
            let name = unknown::name(&path);
            if name != COLUMNS && !self.derived.contains(&name.as_str()) {
                names.push(name);
            }
        });
        if !names.is_empty() {
            let mut unknown = self.unknown.lock();
            for name in &names {
                unknown.add(name);
            }
        }
        match document.and_then(check) {
            Ok(value) => Checked::Valid(value),
            Err(why) => Checked::Refused(why),
        }
    }
}

fn unreadable(reason: impl fmt::Display, fields: Vec<FieldError>) -> Rejection {
    Rejection { code: ErrorCode::BadRequest, reason: format!("the record cannot be read: {reason}"), fields }
}

fn parse_object(text: &[u8]) -> Result<Map<String, Value>, Rejection> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Rejection::new(ErrorCode::BadRequest, "the record must be a JSON object")),
        Err(e) => Err(unreadable(e, Vec::new())),
    }
}

/// Parses a record. `ignored` gets the path of each field that its type does not have.
fn parse<D: DeserializeOwned>(text: &[u8], mut ignored: impl FnMut(serde_ignored::Path<'_>)) -> Result<D, Rejection> {
    if !text.starts_with(b"{") {
        return Err(Rejection::new(ErrorCode::BadRequest, "the record must be a JSON object"));
    }
    let mut from = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    let with_path = serde_path_to_error::Deserializer::new(&mut from, &mut track);
    let document = serde_ignored::deserialize(with_path, &mut ignored).map_err(|why: serde_json::Error| {
        let field = track.path().to_string();
        let fields = if why.is_data() && field != "." {
            vec![FieldError { field, code: FieldCode::Malformed, message: why.to_string() }]
        } else {
            Vec::new()
        };
        unreadable(why, fields)
    })?;
    from.end().map_err(|e| unreadable(e, Vec::new()))?;
    Ok(document)
}

/// Returns the id of a record in the other system, for its dead letter.
fn ident(text: &[u8]) -> Option<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Ident {
        external_id: Option<Value>,
        id: Option<Value>,
    }
    let ident: Ident = serde_json::from_slice(text).unwrap_or_default();
    ident.external_id.or(ident.id).as_ref().and_then(id_text)
}

/// As [`ident`], for a record that a format has made.
fn ident_of(object: &Map<String, Value>) -> Option<String> {
    let there = |name: &str| object.get(name).filter(|value| !value.is_null());
    there("external_id").or_else(|| there("id")).and_then(id_text)
}

fn id_text(id: &Value) -> Option<String> {
    match id {
        Value::String(s) => Some(s.chars().take(255).collect()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    }
}

/// Returns the JSON text of a record. An object can always be written as JSON.
fn text_of(object: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(object).unwrap_or_default()
}

/// Counts, dead letters and progress of one run.
struct Run<P> {
    report: ImportReport,
    letters: DeadLetterWriter,
    /// The refused records of the current batch.
    refused: Vec<Refused>,
    start: Instant,
    on_progress: P,
    unknown: Arc<Mutex<Unknown>>,
    skip: u64,
    rolls_back: bool,
    delay: Duration,
    outcomes: Outcomes,
}

impl<P: FnMut(&ImportReport) + Send> Run<P> {
    fn new<T>(incoming: &Incoming<T>, options: ImportOptions, on_progress: P) -> Self {
        let ImportOptions { file, dead_letters, dry_run, delay, outcomes, .. } = options;
        Self {
            report: ImportReport::default(),
            letters: DeadLetterWriter::new(dead_letters, file, incoming.skip > 0),
            refused: Vec::new(),
            start: Instant::now(),
            on_progress,
            unknown: incoming.unknown.clone(),
            skip: incoming.skip,
            rolls_back: dry_run,
            delay,
            outcomes,
        }
    }

    /// Counts a record, and returns whether it is one of those to skip.
    fn skips(&mut self, index: u64) -> bool {
        let skips = index < self.skip;
        if skips {
            self.report.skipped += 1;
        } else {
            self.report.read += 1;
        }
        skips
    }

    /// Counts a record that was not refused.
    fn count<T>(&mut self, item: Item<T>, result: RecordResult) {
        let counter = match result {
            RecordResult::Inserted => &mut self.report.inserted,
            RecordResult::Updated => &mut self.report.updated,
            RecordResult::Unchanged => &mut self.report.unchanged,
            RecordResult::Dropped => &mut self.report.dropped,
            RecordResult::Rejected(_) => &mut self.report.rejected,
        };
        *counter += 1;
        let Item { index, line, external_id, .. } = item;
        self.outcomes.report(|| RecordOutcome { index, line, external_id, result });
    }

    fn refuse(&mut self, refused: Refused) {
        self.report.rejected += 1;
        self.outcomes.report(|| {
            let Refused { index, line, external_id, why, .. } = refused.clone();
            RecordOutcome { index, line, external_id, result: RecordResult::Rejected(why) }
        });
        self.refused.push(refused);
    }

    /// Notes the time at which the import has ended, for work that comes after its last batch.
    fn ended(&mut self) {
        self.report.clock(self.start);
    }

    /// Ends a batch: writes its dead letters in order, flushes them, and reports progress to the host.
    fn batch_done(&mut self) -> Result<()> {
        self.refused.sort_by_key(|r| r.index);
        for r in self.refused.drain(..) {
            self.letters.write(&r)?;
        }
        self.letters.flush()?;
        if let Some(names) = self.unknown.lock().news() {
            self.report.unknown_fields = names;
        }
        if !self.rolls_back {
            self.report.done = self.report.skipped + self.report.read;
        }
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
