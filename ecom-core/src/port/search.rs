//! The port of search engines. Queries and results have the same types and the same meaning for every provider (SPEC
//! 5).
//!
//! # Bounds of queries
//! [`SearchService::search`](crate::search::SearchService::search) calls [`SearchQuery::check`] before it calls the
//! provider, and the suite of the port uses only queries within these bounds. A provider must support all of them. If
//! an application can call the provider directly, the provider calls `check` itself, as the Tantivy adapter does.

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
use crate::domain::search::text::chunks;
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::money::{Money, Percentage, check_price_order};
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
    /// The categories of the product and then their ancestors. Their names are full text, with the fourth highest weight,
    /// and filters compare their ids (R6).
    pub categories: Vec<CategorySummary>,
    /// The images of the product.
    pub images: Vec<Image>,
    /// The lowest final price of the live SKUs, in minor units of the shop's currency; `None` without SKUs.
    pub price: Option<i64>,
    /// The lowest price of the live SKUs before the discount, in minor units of the shop's currency; `None` without SKUs.
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
}

impl SearchDocument {
    /// Returns the document of a product. `ancestors` are the ancestors of its categories.
    pub fn of(product: &Product, ancestors: &[CategorySummary]) -> Self {
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

/// The state of a database up to which an index has applied events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The identity of the database ([`crate::port::Storage::identity`]).
    pub database: Uuid,
    /// The position of the last event that the index has applied.
    pub position: OutboxPosition,
}

/// The order of results. Equal results are ordered by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SearchSort {
    /// By relevance, best match first; without a text, newest first.
    #[default]
    Relevance,
    /// By lowest final price, ascending.
    PriceAsc,
    /// By lowest final price, descending.
    PriceDesc,
    /// By mean rating, best first.
    RatingDesc,
    /// By time of creation, newest first.
    CreatedDesc,
}

impl SearchSort {
    /// Every order.
    pub const ALL: [Self; 5] = [Self::Relevance, Self::PriceAsc, Self::PriceDesc, Self::RatingDesc, Self::CreatedDesc];

    /// Returns the word in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Relevance => "relevance",
            Self::PriceAsc => "price_asc",
            Self::PriceDesc => "price_desc",
            Self::RatingDesc => "rating_desc",
            Self::CreatedDesc => "created_desc",
        }
    }

    /// Returns the order for a word, or `None` if the word is unknown.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

/// The filters of a search. A product must match every filter that is set. A list has at most
/// [`SearchQuery::MAX_FILTER_VALUES`] values, and an empty list matches all products.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchFilter {
    /// The product is in one of these categories or their descendants (R6).
    pub categories: Vec<CategoryId>,
    /// The product has one of these brands, ignoring case.
    pub brands: Vec<String>,
    /// The product has all of these tags, ignoring case.
    pub tags: Vec<String>,
    /// The lowest final price is at least this amount, in the shop's currency. It must not be above `max_price`.
    pub min_price: Option<Money>,
    /// The lowest final price is at most this amount, in the shop's currency.
    pub max_price: Option<Money>,
    /// The best availability over the SKUs is one of these.
    pub availability: Vec<AvailabilityStatus>,
    /// The mean rating is at least this, in hundredths of a star: 0 to [`SearchQuery::MAX_RATING`].
    pub min_rating: Option<i64>,
    /// The product has all of these top-level attributes, ignoring case: pairs of a name and a value.
    pub attributes: Vec<(String, String)>,
    /// The product has this status; `None` matches all.
    pub status: Option<ProductStatus>,
}

/// A field by whose values matches are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facet {
    /// By category, including its descendants.
    Categories,
    /// By brand.
    Brands,
    /// By price range. The value is the lower bound of the range, which ends one minor unit below the next bound: a
    /// filter with this minimum and maximum finds what is counted.
    Prices,
    /// By tag.
    Tags,
    /// By rating: 1 to 5 whole stars or more, as a filter by `min_rating` finds them. A product with 4.5 stars counts in
    /// the values 1, 2, 3 and 4, and one without stars in none.
    Rating,
    /// By availability.
    Availability,
}

impl Facet {
    /// Every facet.
    pub const ALL: [Self; 6] =
        [Self::Categories, Self::Brands, Self::Prices, Self::Tags, Self::Rating, Self::Availability];
}

/// A search. [`SearchQuery::check`] lists the bounds of its fields. By default it asks for the first 20
/// of all products, without facets.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchQuery {
    /// The text to search for: at most [`Self::MAX_TEXT`] characters and [`Self::MAX_WORDS`] words. An empty text, and
    /// a text of white space, matches all products.
    pub text: String,
    /// The filters.
    pub filter: SearchFilter,
    /// The order of the hits.
    pub sort: SearchSort,
    /// The number of hits to skip, at most [`Self::MAX_OFFSET`].
    pub offset: u64,
    /// The maximum number of hits to return, 1 to [`Self::MAX_LIMIT`].
    pub limit: u32,
    /// The facets to count. The counts of a facet include all matches of the query without the filter on the same field
    /// (disjunctive). A facet that is listed twice is counted once.
    pub facets: Vec<Facet>,
    /// The lower bounds of the price ranges to count, in minor units: at most [`Self::MAX_PRICE_BOUNDS`], in ascending
    /// order. The last range is open, and prices below the first bound are not counted.
    pub price_bounds: Vec<i64>,
}

impl Default for SearchQuery {
    /// Returns a query for the first [`Self::DEFAULT_LIMIT`] of all products, without facets.
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
    /// The number of hits by default.
    pub const DEFAULT_LIMIT: u32 = 20;
    /// The maximum number of characters in [`Self::text`].
    pub const MAX_TEXT: usize = 512;
    /// The maximum number of words in [`Self::text`], as [`Self::words`] counts them.
    pub const MAX_WORDS: usize = 32;
    /// The maximum number of hits to skip. Deeper pages would be slow.
    pub const MAX_OFFSET: u64 = 10_000;
    /// The maximum number of hits to return.
    pub const MAX_LIMIT: u32 = 1_000;
    /// The maximum number of values in a list of [`SearchFilter`].
    pub const MAX_FILTER_VALUES: usize = 64;
    /// The maximum number of characters in a brand, a tag, and the name or value of an attribute in [`SearchFilter`].
    pub const MAX_FILTER_TEXT: usize = 4_000;
    /// The maximum of [`SearchFilter::min_rating`]: five stars, in hundredths.
    pub const MAX_RATING: i64 = 500;
    /// The maximum number of [`Self::price_bounds`].
    pub const MAX_PRICE_BOUNDS: usize = 100;

    /// Refuses a query whose fields are out of bounds (R17). [`SearchProvider::search`] can rely on these bounds:
    ///
    /// | Field | Bounds |
    /// |---|---|
    /// | `text` | at most 512 characters and 32 words and numbers (`500ml` has two) |
    /// | `offset` | at most 10,000 |
    /// | `limit` | 1 to 1,000 |
    /// | `price_bounds` | at most 100, in ascending order |
    /// | `filter.categories`, `filter.brands`, `filter.tags`, `filter.availability`, `filter.attributes` | at most 64 values each, and at most 4,000 characters in a text |
    /// | `filter.min_price` | not above `filter.max_price` |
    /// | `filter.min_rating` | 0 to 500 |
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
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

    /// Returns the number of words and numbers in [`Self::text`], as [`chunks`] cuts it: `AB-1234/X` has three.
    pub fn words(&self) -> usize {
        chunks(&self.text).iter().map(|chunk| chunk.parts.len()).sum()
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
        check_price_order("filter.", self.min_price, self.max_price, errors);
        if self.min_rating.is_some_and(|rating| !(0..=SearchQuery::MAX_RATING).contains(&rating)) {
            let max = SearchQuery::MAX_RATING;
            errors.out_of_bounds("filter.min_rating", format!("must be between 0 and {max}, in hundredths of a star"));
        }
    }
}

/// Returns true if a text has more than `max` characters. It does not count the characters of very long texts.
fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max * 4 || text.chars().count() > max
}

/// A hit of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResults {
    /// The hits of the page, in order.
    pub hits: Vec<SearchHit>,
    /// The exact number of all matches: of documents that have every required word of the text.
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
    /// Whether the index belongs to this process, or to the process that has the right to write to it, and commits its
    /// checkpoint durably together with the documents.
    ///
    /// The capability decides two things:
    /// - *Which process follows the outbox.* True: every process follows it for its own index, without a lease. If
    ///   processes share a directory, [`SearchProvider::acquire_writer`] lets one of them write. False: the index is
    ///   shared by all processes, as a search server is, and one process at a time follows the outbox for it, under the
    ///   lease `index` in the database. In both cases, the next holder continues from [`SearchProvider::checkpoint`].
    /// - *The content of a reopened index.* True: if the provider is dropped and opened again, also after a crash, it
    ///   has every document, every deleted revision and the checkpoint of each [`SearchProvider::apply`] and
    ///   [`IndexBuild::publish`] that has returned, and the checkpoint is never ahead of the documents. A provider
    ///   whose index is gone with the process (in memory) opens empty and without a checkpoint, so that the shop builds
    ///   it anew. The suite reopens the provider to prove this (`testkit::SearchFixture::reopen_with`). False: the
    ///   server is responsible for the durability of its data.
    pub own_checkpoint: bool,
}

port! {
    /// A search engine. An implementation runs `ecom_core::search_suite!` (feature `testkit`);
    /// `tests/newcomer/adapter/src/search.rs` in the repository is an example.
    ///
    /// Every method that waits fails with `Unavailable` if the engine cannot be reached.
    #[cfg_attr(feature = "mocks", mockall::automock)]
    pub trait SearchProvider / ForwardSearch(&self): Send + Sync + fmt::Debug {
        /// Returns the name of the adapter for people, such as `tantivy`.
        fn name(&self) -> &'static str;

        /// Returns the capabilities of the provider.
        fn capabilities(&self) -> SearchCapabilities;

        /// Searches. The query is within the bounds of [`SearchQuery::check`].
        ///
        /// A value that a document has twice, even in another spelling, counts once in a facet. Every filter applies to
        /// every facet, including filters by status and attribute, which have no facet. Only the filter on the counted
        /// field itself is left out.
        ///
        /// # Errors
        /// `Unsupported` for queries that need a missing capability, `Unavailable`.
        async fn search(&self, query: &SearchQuery) -> Result<SearchResults>;

        /// Acquires or keeps the right to write. Returns false if another process has it. It can be called often.
        async fn acquire_writer(&self) -> Result<bool>;

        /// Returns the checkpoint of the index; `None` for a new index.
        async fn checkpoint(&self) -> Result<Option<Checkpoint>>;

        /// Applies the changes and the checkpoint atomically, and returns how many changes were applied. After it
        /// returns, they are searchable and durable (see [`SearchCapabilities::own_checkpoint`]). A change is left out
        /// if its revision is not above the revision that the index has, or had before the product was deleted.
        ///
        /// # Errors
        /// `Unavailable`, and nothing was applied.
        async fn apply(&self, ops: Vec<IndexOp>, checkpoint: Checkpoint) -> Result<u64>;

        /// Begins to build a new index. The current one continues to serve searches.
        async fn begin_rebuild(&self) -> Result<Box<dyn IndexBuild>>;

        /// Returns the id and revision of at most `limit` documents whose id is above `after`, by ascending id, for a
        /// comparison with the database. The result is empty if there are no more.
        async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>>;

        /// Checks that the engine responds.
        async fn ping(&self) -> Result<()>;

        /// Closes connections, ends background work, and releases the right to write. Later calls fail with
        /// `Unavailable`.
        async fn close(&self);
    }
}

/// A new index that is being built while the current one serves searches. If it is dropped, its data is removed.
#[async_trait]
pub trait IndexBuild: Send {
    /// Adds documents, at most one for each product.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn add(&mut self, documents: Vec<SearchDocument>) -> Result<()>;

    /// Replaces the current index atomically, without an interruption of searches.
    ///
    /// # Errors
    /// `Unavailable`, and the current index stays.
    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<()>;
}

/// The provider of a shop without search. It has no index, and every search fails with `Unsupported`.
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
        Error::Unsupported { provider: "a shop without search", capability: "searching" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;

    fn usd(minor: i64) -> Money {
        Money::from_minor(minor, Currency::USD)
    }

    /// Returns the fields that the check refuses.
    fn refused(query: &SearchQuery) -> Vec<String> {
        match query.check() {
            Ok(()) => Vec::new(),
            Err(Error::Validation(errors)) => {
                assert!(
                    errors.0.iter().all(|e| e.message.starts_with("must ")),
                    "{errors:?} must describe valid values"
                );
                errors.0.into_iter().map(|e| e.field).collect()
            }
            Err(other) => panic!("{other:?} must be a refusal of a field"),
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
            (of(&"x1".repeat(33)), "text"),
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
    fn words_are_counted_as_searches_split_them() {
        for (text, words) in [
            ("", 0),
            ("  lamp  ", 1),
            ("chef's knife", 2),
            ("AB-1234/X", 3),
            ("500ml", 2),
            ("lamp & *", 1),
            ("a\u{300}b", 1),
        ] {
            assert_eq!(of(text).words(), words, "{text}");
        }
    }
}
