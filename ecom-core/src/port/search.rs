//! The port of search engines. Queries and results have the same types and the same meaning for every provider (SPEC
//! 5).
//!
//! # Bounds of queries
//! A provider gets a [`SearchRequest`], which exists only for a query within the bounds of
//! [`SearchQuery::check`](crate::search::SearchQuery::check). It must support all queries within them.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::category::CategorySummary;
use crate::domain::catalog::product::{Image, Product, ProductStatus};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Attributes;
use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::language::Language;
use crate::domain::search::query::{Facet, SearchRequest};
use crate::error::{Error, Result};
use crate::id::ProductId;
use crate::money::Percentage;
use crate::paging::Total;

/// The document of a product in an index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchDocument {
    /// The id of the product.
    pub id: ProductId,
    /// The revision of the product. A document never replaces one with a higher revision.
    pub revision: i64,
    /// The title. Full text, with the highest weight.
    pub title: String,
    /// The brand. Full text, with the second highest weight, and filter by folded key.
    pub brand: Option<String>,
    /// The tags. Full text, with the third highest weight, and filter by folded key.
    pub tags: Vec<String>,
    /// The codes and barcodes of the live SKUs. Full text, with the fifth highest weight.
    pub codes: Vec<String>,
    /// The description. Full text, with the lowest weight.
    pub description: Option<String>,
    /// The categories of the product and then their ancestors. Their names are full text, with the fourth highest
    /// weight, and filters compare their ids (R6).
    pub categories: Vec<CategorySummary>,
    /// The images of the product.
    pub images: Vec<Image>,
    /// The lowest final price of the live SKUs, in minor units of the shop's currency; `None` without SKUs.
    pub price: Option<i64>,
    /// The lowest price of the live SKUs before the discount, in minor units of the shop's currency; `None` without
    /// SKUs.
    pub list_price: Option<i64>,
    /// The discount on the prices of all SKUs, in percent.
    pub discount: Percentage,
    /// The best availability of the live SKUs.
    pub availability: AvailabilityStatus,
    /// The mean rating, in hundredths of a star.
    pub rating: i64,
    /// The status, for filters.
    pub status: ProductStatus,
    /// The time of creation, for sorting.
    pub created_at: Timestamp,
    /// The time of the last change of the product.
    pub updated_at: Timestamp,
    /// The attributes. Filters compare top-level attributes by their JSON text.
    pub attributes: Attributes,
    /// The language of the texts, by which their words are stemmed.
    #[serde(default)]
    pub language: Language,
}

impl SearchDocument {
    /// Returns the document of a product. `ancestors` are the ancestors of its categories.
    pub fn of(product: &Product, ancestors: &[CategorySummary], language: Language) -> Self {
        Self {
            id: product.id,
            revision: product.revision,
            title: product.title.clone(),
            brand: product.brand.clone(),
            tags: product.tags.clone(),
            codes: product.skus.iter().flat_map(|s| std::iter::once(s.code.clone()).chain(s.barcode.clone())).collect(),
            description: product.description.clone(),
            categories: product.categories.iter().chain(ancestors).cloned().collect(),
            images: product.images.clone(),
            price: product.price_range().map(|(lo, _)| lo.minor()),
            list_price: product.skus.iter().map(|s| s.price.minor()).min(),
            discount: product.discount,
            availability: product.availability(),
            rating: i64::from(product.rating.mean.hundredths()),
            status: product.status,
            created_at: product.audit.created_at,
            updated_at: product.audit.updated_at,
            attributes: product.attributes.clone(),
            language,
        }
    }
}

/// A change of an index.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexOp {
    /// Adds or replaces the document of a product.
    Upsert(Box<SearchDocument>),
    /// Removes the document of a product.
    Delete {
        /// The id of the product.
        id: ProductId,
        /// The revision of the product when it was deleted.
        revision: i64,
    },
}

impl IndexOp {
    /// Returns the id of the product.
    pub fn id(&self) -> ProductId {
        match self {
            Self::Upsert(d) => d.id,
            Self::Delete { id, .. } => *id,
        }
    }

    /// Returns the revision of the product after the change.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Upsert(d) => d.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// The state of an index: up to which event of which database it has applied, and the version of its documents. A
/// provider stores all fields as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The identity of the database ([`crate::port::Storage::identity`]).
    pub database: Uuid,
    /// The position of the last event that the index has applied.
    pub position: OutboxPosition,
    /// The version of the documents: a new one comes with every change of them, also if the position stays the same, as
    /// in a repair or a rebuild. Cached results are kept for as long as the version. It is nil in an index that a
    /// release without versions has written.
    #[serde(default)]
    pub version: Uuid,
    /// The language of the documents. An index in another language than that of the shop is rebuilt.
    #[serde(default)]
    pub language: Language,
}

/// The state of the database from which a new index is built. Its events after the position are applied to the index
/// once it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildStart {
    /// The identity of the database ([`crate::port::Storage::identity`]).
    pub database: Uuid,
    /// The end of the outbox before the first product was read.
    pub position: OutboxPosition,
    /// The language of the documents.
    pub language: Language,
}

impl From<Checkpoint> for BuildStart {
    /// Returns the start of a build whose index is published with this checkpoint.
    fn from(Checkpoint { database, position, language, .. }: Checkpoint) -> Self {
        Self { database, position, language }
    }
}

/// How far the build of an index is. A provider that continues builds stores all fields as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildProgress {
    /// The start of the build.
    pub start: BuildStart,
    /// The index has all products up to this one, by ascending id.
    pub after: ProductId,
}

impl BuildProgress {
    /// Returns whether a build that is to begin with `start` can continue this one: it has the same database and
    /// language, and has begun at or after `since` and not after `start`.
    pub fn fits(&self, start: &BuildStart, since: OutboxPosition) -> bool {
        self.start.database == start.database
            && self.start.language == start.language
            && (since..=start.position).contains(&self.start.position)
    }
}

/// The outcome of [`SearchProvider::apply`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// The changes that are in the index now: those with a higher revision than the index had.
    pub written: u64,
    /// The changes that the engine refuses for good because of their content, such as a document that is too large. The
    /// index lacks them or keeps an older document, and the provider has logged the reason.
    pub refused: u64,
}

/// A hit of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SearchHit {
    /// The id of the product.
    pub id: ProductId,
    /// How well the product matches. Scores can only be compared within one result.
    pub score: f32,
}

/// The count of one value of a facet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetCount {
    /// The value: the id of a category, a brand or tag in its most frequent spelling, the lower bound of a price range
    /// in minor units, a minimum number of stars, or an availability.
    pub value: String,
    /// The number of matches with the value.
    pub count: u64,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchResults {
    /// The hits of the page, in order.
    pub hits: Vec<SearchHit>,
    /// The exact number of all matches: of documents that have every required word of the text, and of pinned products,
    /// within the filters.
    pub total: Total,
    /// The number of further documents that have at least half of the required words but not all
    /// ([`QueryText::fewer_words`](crate::search::QueryText::fewer_words)), if the matches do not fill the first page;
    /// otherwise 0. They follow after the last match: by relevance those with more words first, otherwise in the order
    /// of the query. Facets do not count them.
    pub partial: u64,
    /// The counts of the facets, in the order in which the query lists them, each once. A facet has at most 100 values,
    /// sorted by count, or by value for price ranges and ratings. Values without a match are left out.
    pub facets: Vec<(Facet, Vec<FacetCount>)>,
}

/// The capabilities of a provider. Calls that need another one fail with `UNSUPPORTED`, and the suite of the port
/// reports their tests as skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct SearchCapabilities {
    /// Full text with stemming, typing errors and prefixes.
    pub full_text: bool,
    /// Facet counts.
    pub facets: bool,
    /// Counts of a facet that leave out the filter on the same field.
    pub disjunctive_facets: bool,
    /// Filters by attribute.
    pub attribute_filters: bool,
    /// Products that are pinned, hidden or boosted.
    pub merchandising: bool,
    /// Whether the index belongs to this process, or to the process that has the right to write to it, and commits its
    /// checkpoint durably together with the documents.
    ///
    /// The capability decides two things:
    /// - *Which process follows the outbox.* True: every process follows it for its own index, without a lease. If
    ///   processes share a directory, [`SearchProvider::acquire_writer`] lets one of them write. False: the index is
    ///   shared by all processes, as a search server is, and one process at a time follows the outbox for it, under a
    ///   lease of the index ([`SearchProvider::identity`]) in the database. In both cases, the next holder continues
    ///   from [`SearchProvider::checkpoint`].
    /// - *The content of a reopened index.* True: if the provider is dropped and opened again, also after a crash, it
    ///   has every document, every deleted revision and the checkpoint of each [`SearchProvider::apply`] and
    ///   [`IndexBuild::publish`] that has returned, and the checkpoint is never ahead of the documents. A provider
    ///   whose index is gone with the process (in memory) opens empty and without a checkpoint, so that the shop builds
    ///   it anew. The suite reopens the provider to prove this (`testkit::SearchFixture::reopen_with`). False: the
    ///   server is responsible for the durability of its data.
    pub own_checkpoint: bool,
    /// Whether [`SearchProvider::begin_rebuild`] continues a build that was not published, also after a crash of the
    /// process or of the engine. If not, it begins anew each time.
    pub continues_builds: bool,
}

port! {
    /// A search engine. An implementation runs `ecom_core::search_suite!` (feature `testkit`);
    /// `examples/search_provider/list.rs` in the repository is an example.
    ///
    /// Every method that waits fails with `Unavailable` if the engine cannot be reached.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait SearchProvider / ForwardSearch(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter for people, such as `tantivy`.
        fn name(&self) -> &'static str;

        /// Returns a text that distinguishes the index from others that processes of the same shop may use at the same
        /// time, such as the address of the server with the name of the index; without secrets. Processes that return
        /// the same text take turns in writing the index. Only the name matters if the index belongs to the process
        /// ([`SearchCapabilities::own_checkpoint`]).
        fn identity(&self) -> String;

        /// Returns the capabilities of the provider.
        fn capabilities(&self) -> SearchCapabilities;

        /// Searches. [`SearchRequest`] says what its parts mean.
        ///
        /// A value that a document has twice, even in another spelling, counts once in a facet. Every filter applies to
        /// every facet, including filters by status and attribute, which have no facet. Only the filter on the counted
        /// field itself is left out.
        ///
        /// # Errors
        /// `Unsupported` for queries that need a missing capability, `Unavailable`.
        async fn search(&self, request: &SearchRequest) -> Result<SearchResults>;

        /// Acquires or keeps the right to write. Returns false if another process has it. It can be called often.
        async fn acquire_writer(&self) -> Result<bool>;

        /// Returns the checkpoint of the index that searches read; `None` for a new index. Searches that begin after it
        /// has returned find all that was applied with the checkpoint, whichever process has applied it: a provider
        /// whose changes become visible later returns the checkpoint no earlier than the changes. A search with a
        /// cached result reads it at most once per [`poll_interval`](crate::config::ShopConfig::poll_interval), and a
        /// search that waits for an event several times.
        async fn checkpoint(&self) -> Result<Option<Checkpoint>>;

        /// Applies changes to an index whose checkpoint is `before` (`None` if it has none), and sets its checkpoint to
        /// `checkpoint`. When it returns, both are durable, and the changes are searchable (see
        /// [`SearchCapabilities::own_checkpoint`]). A change is left out if its revision is not above the revision that
        /// the index has, or had before the product was deleted.
        ///
        /// It returns `None` and leaves the checkpoint as it is if the index has another one than `before`, because
        /// another process has written to it or has replaced it. The caller then reads the checkpoint again.
        ///
        /// A search finds all changes of a call or none. A provider that must divide a very large call may show its
        /// parts one after another; the checkpoint comes with the last part. If a call fails or returns `None`, a
        /// provider without [`own_checkpoint`](SearchCapabilities::own_checkpoint) may have applied some of them: a
        /// change is never older than what it replaces, and the caller applies it again.
        ///
        /// # Errors
        /// `Unavailable`; the checkpoint has not moved, unless the outcome is unknown.
        async fn apply(
            &self,
            ops: Vec<IndexOp>,
            before: Option<Checkpoint>,
            checkpoint: Checkpoint,
        ) -> Result<Option<Applied>>;

        /// Begins to build a new index, whose documents are read from the state `start` of the database. The current
        /// index continues to serve searches and to accept changes.
        ///
        /// A provider that [continues builds](SearchCapabilities::continues_builds) keeps at most one unpublished
        /// build. If there is one already, of this process or another one, and its [`BuildProgress`]
        /// [fits](BuildProgress::fits) `since`, this call continues it ([`IndexBuild::continued`]). Otherwise, and
        /// always without `since`, its data is removed.
        ///
        /// The process that has begun the earlier build may still live. If its build was removed, its calls fail. If it
        /// was continued, its calls fail too, or both processes add to the same index, in which no document replaces
        /// one with a higher revision; the first one that publishes the index ends the build, and the other one fails.
        /// Other providers ignore `start` and `since`.
        async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>>;

        /// Returns the id and revision of at most `limit` documents whose id is above `after`, by ascending id, for a
        /// comparison with the database. The result is empty if there are no more.
        async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>>;

        /// Checks that the engine responds.
        async fn ping(&self) -> Result<()>;

        /// Closes connections, ends background work, and releases the right to write. Later calls fail with
        /// `Unavailable`.
        async fn close(&self);
    }
    provided {
        /// Gives up the right to write and frees the memory of the writer. The next call that writes takes the right
        /// again. Searches continue, and so does a build that has begun. If the build needs the right, the provider
        /// keeps it until the first such call after the end of the build. A pass of background work calls this at its
        /// end. The default does nothing, for providers without such a right.
        ///
        /// # Errors
        /// `Internal`.
        async fn release_writer(&self) -> Result<()> {
            Ok(())
        }
    }
}

/// A new index that is being built while the current one serves searches. If it is dropped, its data is removed; a
/// provider that [continues builds](SearchCapabilities::continues_builds) keeps the data until the next build begins or
/// is published.
#[async_trait]
pub trait IndexBuild: Send {
    /// Returns how far the earlier build was that this one continues; `None` for a new one. The caller adds the
    /// products after that, and publishes the index with the start of the earlier build.
    fn continued(&self) -> Option<BuildProgress> {
        None
    }

    /// Adds documents, at most one for each product. Together with what was added before, they are all products up to
    /// the id `after`. A provider that [continues builds](SearchCapabilities::continues_builds) stores this no earlier
    /// than the documents are durable, which may be later than the call returns. A build that was continued may have
    /// some of the documents already.
    ///
    /// # Errors
    /// `Unavailable`. The build then accepts no more calls.
    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()>;

    /// Replaces the current index atomically, without an interruption of searches. It returns how many of the documents
    /// that were added to this object the engine has refused because of their content ([`Applied::refused`]).
    ///
    /// # Errors
    /// `Unavailable`, and the current index stays. This is also the outcome if another process has published or removed
    /// the build.
    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<u64>;
}

/// The provider of a shop without search. It has no index, and every search fails with `Unsupported`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSearch;

#[async_trait]
impl SearchProvider for NoSearch {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn identity(&self) -> String {
        self.name().to_owned()
    }

    fn capabilities(&self) -> SearchCapabilities {
        SearchCapabilities::default()
    }

    async fn search(&self, _: &SearchRequest) -> Result<SearchResults> {
        Err(Self::lacks())
    }

    async fn acquire_writer(&self) -> Result<bool> {
        Ok(false)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Err(Self::lacks())
    }

    async fn apply(&self, _: Vec<IndexOp>, _: Option<Checkpoint>, _: Checkpoint) -> Result<Option<Applied>> {
        Err(Self::lacks())
    }

    async fn begin_rebuild(&self, _: BuildStart, _: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        Err(Self::lacks())
    }

    async fn revisions(&self, _: Option<ProductId>, _: u32) -> Result<Vec<(ProductId, i64)>> {
        Err(Self::lacks())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

impl NoSearch {
    /// The name of the provider.
    pub(crate) const NAME: &'static str = "none";

    pub(crate) const fn lacks() -> Error {
        Error::Unsupported { provider: "a shop without search", capability: "searching" }
    }
}
