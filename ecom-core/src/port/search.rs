//! Search: one query type, one result type, the same meaning on every provider (SPEC 5).
//!
//! # What a provider may rely on
//! [`SearchService::search`](crate::search::SearchService::search) calls [`SearchQuery::check`] before it asks the
//! provider, and the suite of the port asks only for queries within these bounds. A provider must answer all of them.
//! One that an application may call directly calls `check` itself, as the Tantivy adapter does.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::domain::catalog::product::{Product, ProductStatus};
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::domain::common::Attributes;
use crate::domain::platform::outbox::OutboxPosition;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::money::Money;
use crate::paging::Total;
use crate::text::fold_key;

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

/// What results are filtered by; everything given must hold. A list has at most [`SearchQuery::MAX_FILTER_VALUES`]
/// values, and an empty one filters nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchFilter {
    /// In one of these categories or below (R6).
    pub categories: Vec<CategoryId>,
    /// One of these brands, case-insensitively.
    pub brands: Vec<String>,
    /// All of these tags, case-insensitively.
    pub tags: Vec<String>,
    /// Lowest final price at least this, in the shop's currency; not above `max_price`.
    pub min_price: Option<Money>,
    /// Lowest final price at most this, in the shop's currency.
    pub max_price: Option<Money>,
    /// One of these.
    pub availability: Vec<AvailabilityStatus>,
    /// Mean rating at least this, in hundredths: 0 to [`SearchQuery::MAX_RATING`].
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

/// A search. [`SearchQuery::check`] lists the bounds of its fields. The default has a `limit` of 0, so that a query
/// that sets none is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchQuery {
    /// What the shopper typed: at most [`Self::MAX_TEXT`] characters and [`Self::MAX_WORDS`] words. A text without a
    /// character other than white space matches everything.
    pub text: String,
    /// Filters.
    pub filter: SearchFilter,
    /// Sort.
    pub sort: SearchSort,
    /// Hits to skip, at most [`Self::MAX_OFFSET`].
    pub offset: u64,
    /// Hits to return, 1 to [`Self::MAX_LIMIT`].
    pub limit: u32,
    /// Facets to count, over all matches; the filter of the counted field itself is left out (disjunctive). A facet
    /// that is listed twice is counted once.
    pub facets: Vec<Facet>,
    /// Lower bounds of the price ranges to count, in minor units: each above the one before, at most
    /// [`Self::MAX_PRICE_BOUNDS`]. The last range is open; prices below the first bound are in none.
    pub price_bounds: Vec<i64>,
}

impl Default for SearchQuery {
    /// The first [`Self::DEFAULT_LIMIT`] of all products, without facets.
    fn default() -> Self {
        Self {
            text: String::new(),
            filter: SearchFilter::default(),
            sort: SearchSort::default(),
            offset: 0,
            limit: Self::DEFAULT_LIMIT,
            facets: Vec::new(),
            price_bounds: Vec::new(),
        }
    }
}

impl SearchQuery {
    /// Hits of a page if the caller does not say how many.
    pub const DEFAULT_LIMIT: u32 = 20;
    /// The most characters of [`Self::text`].
    pub const MAX_TEXT: usize = 512;
    /// The most words of [`Self::text`]: see [`Self::words`].
    pub const MAX_WORDS: usize = 32;
    /// The most hits that a search skips; a narrower search is faster than a deeper page.
    pub const MAX_OFFSET: u64 = 10_000;
    /// The most hits of a page.
    pub const MAX_LIMIT: u32 = 1_000;
    /// The most values of one list of [`SearchFilter`].
    pub const MAX_FILTER_VALUES: usize = 64;
    /// The most characters of a brand, of a tag, and of the name or value of an attribute in [`SearchFilter`].
    pub const MAX_FILTER_TEXT: usize = 4_000;
    /// The highest [`SearchFilter::min_rating`]: five stars, in hundredths.
    pub const MAX_RATING: i64 = 500;
    /// The most [`Self::price_bounds`].
    pub const MAX_PRICE_BOUNDS: usize = 100;

    /// Refuses a query whose fields are out of bounds (R17). [`SearchProvider::search`] may rely on:
    ///
    /// | Field | Bounds |
    /// |---|---|
    /// | `text` | at most 512 characters and 32 words |
    /// | `offset` | at most 10,000 |
    /// | `limit` | 1 to 1,000 |
    /// | `price_bounds` | at most 100, each above the one before |
    /// | `filter.categories`, `filter.brands`, `filter.tags`, `filter.availability`, `filter.attributes` | at most 64 values each, and at most 4,000 characters in a text |
    /// | `filter.min_price` | not above `filter.max_price` |
    /// | `filter.min_rating` | 0 to 500 |
    ///
    /// # Errors
    /// `Validation`, which names every field that is out of bounds and says what would be right.
    pub fn check(&self) -> Result<()> {
        let mut errors = ValidationErrors::default();
        if is_longer(&self.text, Self::MAX_TEXT) {
            errors.out_of_bounds("text", format!("must have at most {} characters", Self::MAX_TEXT));
        } else if self.words() > Self::MAX_WORDS {
            errors.out_of_bounds("text", format!("must have at most {} words", Self::MAX_WORDS));
        }
        if self.offset > Self::MAX_OFFSET {
            let max = Self::MAX_OFFSET;
            errors.out_of_bounds("offset", format!("must be at most {max}: add filters instead of skipping more hits"));
        }
        if !(1..=Self::MAX_LIMIT).contains(&self.limit) {
            errors.out_of_bounds("limit", format!("must be between 1 and {}", Self::MAX_LIMIT));
        }
        if self.price_bounds.len() > Self::MAX_PRICE_BOUNDS {
            errors.out_of_bounds("price_bounds", format!("must have at most {} entries", Self::MAX_PRICE_BOUNDS));
        }
        if !self.price_bounds.is_sorted_by(|a, b| a < b) {
            errors.push("price_bounds", FieldCode::Inconsistent, "must be in ascending order, without duplicates");
        }
        self.filter.check(&mut errors);
        errors.into_result()
    }

    /// Returns how many words [`Self::text`] has after folding: runs of letters and digits, with the apostrophes and
    /// combining accents inside them. Punctuation that stands alone counts as a word.
    pub fn words(&self) -> usize {
        let is_inside = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '\u{2019}' | '\u{300}'..='\u{36f}');
        fold_key(&self.text)
            .split_whitespace()
            .map(|chunk| {
                let runs = chunk.split(|c| !is_inside(c)).filter(|run| run.chars().any(char::is_alphanumeric));
                runs.count().max(1)
            })
            .sum()
    }
}

impl SearchFilter {
    fn check(&self, errors: &mut ValidationErrors) {
        let max = SearchQuery::MAX_FILTER_VALUES;
        for (field, values) in [
            ("filter.categories", self.categories.len()),
            ("filter.brands", self.brands.len()),
            ("filter.tags", self.tags.len()),
            ("filter.availability", self.availability.len()),
            ("filter.attributes", self.attributes.len()),
        ] {
            if values > max {
                errors.out_of_bounds(field, format!("must have at most {max} values"));
            }
        }
        let max = SearchQuery::MAX_FILTER_TEXT;
        let has_long = |texts: &[String]| texts.iter().any(|text| is_longer(text, max));
        for (field, long) in [
            ("filter.brands", has_long(&self.brands)),
            ("filter.tags", has_long(&self.tags)),
            (
                "filter.attributes",
                self.attributes.iter().any(|(name, value)| is_longer(name, max) || is_longer(value, max)),
            ),
        ] {
            if long {
                errors.out_of_bounds(field, format!("must have values of at most {max} characters"));
            }
        }
        if self.min_price.zip(self.max_price).is_some_and(|(min, max)| min.minor() > max.minor()) {
            errors.push("filter.min_price", FieldCode::Inconsistent, "must not be above `filter.max_price`");
        }
        if self.min_rating.is_some_and(|rating| !(0..=SearchQuery::MAX_RATING).contains(&rating)) {
            let max = SearchQuery::MAX_RATING;
            errors.out_of_bounds("filter.min_rating", format!("must be between 0 and {max}, in hundredths of a star"));
        }
    }
}

/// Returns whether a text has more than `max` characters. A text of 10 MB is not walked for that.
fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max * 4 || text.chars().count() > max
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
    /// How many match, exactly, whatever the page.
    pub total: Total,
    /// Counts, most first (price ranges and ratings by value), at most 100 each. The facets are in the order in which
    /// the query lists them, each once; a value that no match has is left out.
    pub facets: Vec<(Facet, Vec<FacetCount>)>,
}

/// What a provider can do; a call for the rest fails with `UNSUPPORTED`. The suite of the port reports the tests of
/// what a provider lacks as skipped.
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
    /// The index belongs to this process (or to whichever process has the right to write to it), and it keeps its
    /// checkpoint in the same durable commit as the documents.
    ///
    /// It decides two things:
    /// - *Who follows the outbox.* True: every process follows it for its own index, without a lease. If processes
    ///   share a directory, [`SearchProvider::acquire_writer`] lets one of them write. False: the index is shared by
    ///   all processes, as a search server is, and one process at a time follows the outbox for it, under the lease
    ///   `index` in the database. The next holder goes on from [`SearchProvider::checkpoint`] in both cases.
    /// - *What a reopened index has.* True: if the provider is dropped and opened again, also after a crash, it has
    ///   every document, every deleted revision and the checkpoint of each [`SearchProvider::apply`] and
    ///   [`IndexBuild::publish`] that has returned, and the checkpoint is never ahead of the documents. A provider
    ///   whose index is gone with the process (in memory) opens empty and without a checkpoint, so that the shop
    ///   builds it anew. The suite reopens the provider to prove this
    ///   (`testkit::SearchFixture::reopen_with`). False: the server answers for what it keeps.
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

        /// Searches. The query is within the bounds of [`SearchQuery::check`].
        ///
        /// A value that a document has twice, also in another spelling, counts once in a facet. Every filter narrows
        /// every facet, also a status and an attribute, for which there is no facet; only the filter on the counted
        /// field itself is left out.
        ///
        /// # Errors
        /// `Unsupported` for what the capabilities exclude, `Unavailable`.
        async fn search(&self, query: &SearchQuery) -> Result<SearchResults>;

        /// Takes the right to write, or keeps it; false if another process has it. Safe to call often.
        async fn acquire_writer(&self) -> Result<bool>;

        /// How far the index has followed, `None` for a new one.
        async fn checkpoint(&self) -> Result<Option<Checkpoint>>;

        /// Applies the changes and the checkpoint, all or nothing; searchable and durable on return (see
        /// [`SearchCapabilities::own_checkpoint`]). An op whose revision is not above what the index has (or had, for
        /// a deleted product) is left out. Returns how many were applied.
        ///
        /// # Errors
        /// `Unavailable`; nothing was applied then.
        async fn apply(&self, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> Result<u64>;

        /// Starts a new index beside the one that serves.
        async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>>;

        /// Id and revision of at most `limit` live documents whose id is above `after`, by ascending id; for
        /// `verify`. An empty page says that there are no more.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    fn usd(minor: i64) -> Money {
        Money::from_minor(minor, Currency::USD)
    }

    /// The fields that the check refuses.
    fn refused(query: &SearchQuery) -> Vec<String> {
        match query.check() {
            Ok(()) => Vec::new(),
            Err(Error::Validation(errors)) => {
                assert!(errors.0.iter().all(|e| e.message.starts_with("must ")), "{errors:?} says what would be right");
                errors.0.into_iter().map(|e| e.field).collect()
            }
            Err(other) => panic!("{other:?} is no refusal of a field"),
        }
    }

    fn of(text: &str) -> SearchQuery {
        SearchQuery { text: text.to_owned(), limit: 1, ..SearchQuery::default() }
    }

    fn by(filter: SearchFilter) -> SearchQuery {
        SearchQuery { filter, limit: 1, ..SearchQuery::default() }
    }

    fn many<T: Clone>(value: T, n: usize) -> Vec<T> {
        vec![value; n]
    }

    #[test]
    fn r17_queries_within_the_bounds_pass() {
        let none = SearchFilter::default;
        for query in [
            of(""),
            of(&"x".repeat(512)),
            of(&"ö".repeat(512)),
            of(&"lamp ".repeat(32)),
            SearchQuery { offset: 10_000, limit: 1_000, price_bounds: (0..100).collect(), ..of("") },
            SearchQuery { facets: many(Facet::Brands, 2), price_bounds: vec![i64::MIN, i64::MAX], ..of("") },
            by(SearchFilter { brands: many("b".repeat(4_000), 64), tags: many("t".to_owned(), 64), ..none() }),
            by(SearchFilter {
                min_price: Some(usd(i64::MIN)),
                max_price: Some(usd(i64::MAX)),
                min_rating: Some(0),
                ..none()
            }),
            by(SearchFilter { min_price: Some(usd(7)), max_price: Some(usd(7)), min_rating: Some(500), ..none() }),
        ] {
            assert_eq!(refused(&query), [""; 0], "{query:?}");
        }
    }

    #[test]
    fn r17_every_field_out_of_bounds_is_named() {
        let none = SearchFilter::default;
        let long = || "x".repeat(4_001);
        for (query, field) in [
            (of(&"x".repeat(513)), "text"),
            (of(&"ö".repeat(1_000_000)), "text"),
            (of(&"lamp ".repeat(33)), "text"),
            (of(&"x-".repeat(33)), "text"),
            (of(&"- ".repeat(33)), "text"),
            (SearchQuery { offset: 10_001, ..of("") }, "offset"),
            (SearchQuery { limit: 0, ..of("") }, "limit"),
            (SearchQuery { limit: 1_001, ..of("") }, "limit"),
            (SearchQuery { price_bounds: (0..101).collect(), ..of("") }, "price_bounds"),
            (SearchQuery { price_bounds: vec![2, 1], ..of("") }, "price_bounds"),
            (SearchQuery { price_bounds: vec![1, 1], ..of("") }, "price_bounds"),
            (by(SearchFilter { categories: many(CategoryId(Uuid::nil()), 65), ..none() }), "filter.categories"),
            (by(SearchFilter { brands: many("b".to_owned(), 65), ..none() }), "filter.brands"),
            (by(SearchFilter { brands: vec![long()], ..none() }), "filter.brands"),
            (by(SearchFilter { tags: many("t".to_owned(), 65), ..none() }), "filter.tags"),
            (by(SearchFilter { tags: vec![long()], ..none() }), "filter.tags"),
            (by(SearchFilter { availability: many(AvailabilityStatus::InStock, 65), ..none() }), "filter.availability"),
            (by(SearchFilter { attributes: many((String::new(), String::new()), 65), ..none() }), "filter.attributes"),
            (by(SearchFilter { attributes: vec![(String::new(), long())], ..none() }), "filter.attributes"),
            (by(SearchFilter { min_price: Some(usd(2)), max_price: Some(usd(1)), ..none() }), "filter.min_price"),
            (by(SearchFilter { min_rating: Some(-1), ..none() }), "filter.min_rating"),
            (by(SearchFilter { min_rating: Some(501), ..none() }), "filter.min_rating"),
        ] {
            assert_eq!(refused(&query), [field]);
        }
        let several = SearchQuery { offset: 10_001, limit: 0, ..by(SearchFilter { min_rating: Some(501), ..none() }) };
        assert_eq!(refused(&several), ["offset", "limit", "filter.min_rating"], "all of them at once");
    }

    #[test]
    fn words_are_counted_as_they_are_searched() {
        for (text, words) in
            [("", 0), ("  lamp  ", 1), ("chef's knife", 2), ("AB-1234/X", 3), ("lamp & *", 3), ("a\u{300}b", 1)]
        {
            assert_eq!(of(text).words(), words, "{text}");
        }
    }
}
