//! Search: one query type, one result type, the same meaning on every provider (SPEC 5).

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Attributes;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::{Error, Result};
use crate::id::{CategoryId, ProductId};
use crate::paging::Total;

/// What an index keeps of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchDocument {
    /// Its id.
    pub id: ProductId,
    /// Orders the documents of a product: a late older one never wins.
    pub revision: i64,
    /// Full text, weight 1st.
    pub title: String,
    /// Full text, weight 2nd, and filter (by folded key).
    pub brand: Option<String>,
    /// Full text, weight 3rd, and filter (by folded key).
    pub tags: Vec<String>,
    /// Full text, weight 4th: names of the categories and of everything above them.
    pub category_names: Vec<String>,
    /// Full text, weight 5th: codes and barcodes of the live SKUs.
    pub codes: Vec<String>,
    /// Full text, weight 6th.
    pub description: Option<String>,
    /// Filter: the categories that the product is in and everything above them (R6).
    pub categories: Vec<CategoryId>,
    /// Lowest final price over the live SKUs, in minor units of the shop's currency; `None` without SKUs.
    pub price: Option<i64>,
    /// Best availability over the live SKUs.
    pub availability: AvailabilityStatus,
    /// Mean rating in hundredths.
    pub rating: i64,
    /// Filter.
    pub status: ProductStatus,
    /// Sort.
    pub created_at: Timestamp,
    /// Filter: top-level attributes by their JSON text.
    pub attributes: Attributes,
}

impl SearchDocument {
    /// From a product and the categories above its own, which the caller has looked up.
    pub fn of(product: &Product, ancestors: &[(CategoryId, String)]) -> Self {
        Self {
            id: product.id,
            revision: product.revision,
            title: product.title.clone(),
            brand: product.brand.clone(),
            tags: product.tags.clone(),
            category_names: product
                .categories
                .iter()
                .map(|c| c.name.clone())
                .chain(ancestors.iter().map(|(_, n)| n.clone()))
                .collect(),
            codes: product.skus.iter().flat_map(|s| std::iter::once(s.code.clone()).chain(s.barcode.clone())).collect(),
            description: product.description.clone(),
            categories: product.categories.iter().map(|c| c.id).chain(ancestors.iter().map(|(i, _)| *i)).collect(),
            price: product.price_range().map(|(lo, _)| lo.minor()),
            availability: product.availability(),
            rating: i64::from(product.rating.mean.hundredths()),
            status: product.status,
            created_at: product.audit.created_at,
            attributes: product.attributes.clone(),
        }
    }
}

/// A change of the index.
#[derive(Debug, Clone, PartialEq)]
pub enum IndexOp {
    /// The product is so.
    Upsert(Box<SearchDocument>),
    /// The product is no longer there, as of this revision.
    Delete {
        /// Which product.
        id: ProductId,
        /// Its revision when it went.
        revision: i64,
    },
}

impl IndexOp {
    /// Which product.
    pub fn id(&self) -> ProductId {
        match self {
            Self::Upsert(d) => d.id,
            Self::Delete { id, .. } => *id,
        }
    }

    /// As of which revision.
    pub fn revision(&self) -> i64 {
        match self {
            Self::Upsert(d) => d.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }
}

/// How far an index has followed which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`crate::port::Storage::identity`] of the database.
    pub database: Uuid,
    /// Everything at or before it is in the index.
    pub position: OutboxPosition,
}

/// How results are sorted; ties by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchSort {
    /// Best match first; without a text, newest first.
    #[default]
    Relevance,
    /// Lowest final price first.
    PriceAsc,
    /// Highest final price first.
    PriceDesc,
    /// Best rating first.
    RatingDesc,
    /// Newest first.
    CreatedDesc,
}

impl SearchSort {
    /// All.
    pub const ALL: [Self; 5] = [Self::Relevance, Self::PriceAsc, Self::PriceDesc, Self::RatingDesc, Self::CreatedDesc];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relevance => "relevance",
            Self::PriceAsc => "price_asc",
            Self::PriceDesc => "price_desc",
            Self::RatingDesc => "rating_desc",
            Self::CreatedDesc => "created_desc",
        }
    }

    /// From the word on the wire.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// What results are filtered by; everything given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchFilter {
    /// In one of these categories or below (R6).
    pub categories: Vec<CategoryId>,
    /// One of these brands, case-insensitively.
    pub brands: Vec<String>,
    /// All of these tags, case-insensitively.
    pub tags: Vec<String>,
    /// Lowest final price at least this, minor units.
    pub min_price: Option<i64>,
    /// Lowest final price at most this, minor units.
    pub max_price: Option<i64>,
    /// One of these.
    pub availability: Vec<AvailabilityStatus>,
    /// Mean rating at least this, in hundredths.
    pub min_rating: Option<i64>,
    /// Top-level attributes with these values, case-insensitively (`"color" = "red"`).
    pub attributes: Vec<(String, String)>,
    /// `None`: any status.
    pub status: Option<ProductStatus>,
}

/// What matches are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facet {
    /// By category (subtree).
    Categories,
    /// By brand.
    Brands,
    /// By price range.
    Prices,
    /// By tag.
    Tags,
    /// By whole stars.
    Rating,
    /// By availability.
    Availability,
}

impl Facet {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Categories, Self::Brands, Self::Prices, Self::Tags, Self::Rating, Self::Availability];
}

/// A search.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchQuery {
    /// What the shopper typed; empty matches everything.
    pub text: String,
    /// Filters.
    pub filter: SearchFilter,
    /// Sort.
    pub sort: SearchSort,
    /// Hits to skip, at most 10,000.
    pub offset: u64,
    /// Hits to return, at most 1,000.
    pub limit: u32,
    /// Facets to count, over all matches; the filter of the counted field itself is left out (disjunctive).
    pub facets: Vec<Facet>,
    /// Lower bounds of the price ranges to count, ascending, minor units; the last one is open.
    pub price_bounds: Vec<i64>,
}

/// One hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchHit {
    /// Which product.
    pub id: ProductId,
    /// How well it matches; comparable within one result only.
    pub score: f32,
}

/// One count of a facet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FacetCount {
    /// The value: a category id, a brand or tag as written, a price bound in minor units, whole stars, an
    /// availability.
    pub value: String,
    /// How many matches have it.
    pub count: u64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResults {
    /// Hits of the page, in order.
    pub hits: Vec<SearchHit>,
    /// How many match.
    pub total: Total,
    /// Counts, most first (price ranges and ratings by value), at most 100 each.
    pub facets: Vec<(Facet, Vec<FacetCount>)>,
}

/// What a provider can do; a call for the rest fails with `UNSUPPORTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct SearchCapabilities {
    /// Full text with stemming, typos and prefix.
    pub full_text: bool,
    /// Facet counts.
    pub facets: bool,
    /// Counts that leave out the counted field's own filter.
    pub disjunctive_facets: bool,
    /// Filters by attribute.
    pub attribute_filters: bool,
    /// Keeps its checkpoint in the index itself, together with the documents.
    pub own_checkpoint: bool,
}

port! {
    /// A search engine.
    ///
    /// Every method that waits fails with `Unavailable` if the engine cannot be reached.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait SearchProvider / ForwardSearch(&self): Send + Sync + fmt::Debug {
        /// The adapter's name for people: `tantivy` …
        fn name(&self) -> &'static str;

        /// What it can do.
        fn capabilities(&self) -> SearchCapabilities;

        /// Searches.
        ///
        /// # Errors
        /// `Unsupported` for what the capabilities exclude, `Unavailable`.
        async fn search(&self, query: &SearchQuery) -> Result<SearchResults>;

        /// Takes the right to write, or keeps it; false if another process has it. Safe to call often.
        async fn acquire_writer(&self) -> Result<bool>;

        /// How far the index has followed, `None` for a new one.
        async fn checkpoint(&self) -> Result<Option<Checkpoint>>;

        /// Applies the changes and the checkpoint, all or nothing; searchable and durable on return. An op whose
        /// revision is not above what the index has (or had, for a deleted product) is left out. Returns how many
        /// were applied.
        ///
        /// # Errors
        /// `Unavailable`; nothing was applied then.
        async fn apply(&self, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> Result<u64>;

        /// Starts a new index beside the one that serves.
        async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>>;

        /// Id and revision of the live documents after `after`, by id; for `verify`.
        async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>>;

        /// Whether it answers.
        async fn ping(&self) -> Result<()>;

        /// Ends connections and background work, and gives up the right to write. Later calls fail with `Unavailable`.
        async fn close(&self);
    }
}

/// A new index that is being filled beside the one that serves. Dropped, it leaves nothing behind.
#[async_trait]
pub trait IndexBuild: Send {
    /// Adds documents; each product once.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn add(&mut self, documents: Vec<SearchDocument>) -> Result<()>;

    /// Puts the new index in the place of the old one, atomically; searches are served all the while.
    ///
    /// # Errors
    /// `Unavailable`; the old index stays then.
    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<()>;
}

/// The provider of a shop that does not search: it has no index, and every search is refused as unsupported.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSearch;

#[async_trait]
impl SearchProvider for NoSearch {
    fn name(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> SearchCapabilities {
        SearchCapabilities::default()
    }

    async fn search(&self, _: &SearchQuery) -> Result<SearchResults> {
        Err(Self::lacks())
    }

    async fn acquire_writer(&self) -> Result<bool> {
        Ok(false)
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    async fn apply(&self, _: Vec<IndexOp>, _: Checkpoint) -> Result<u64> {
        Err(Self::lacks())
    }

    async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>> {
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
    const fn lacks() -> Error {
        Error::Unsupported { provider: "none", capability: "searching" }
    }
}
