//! A search: its text, filters, sort order and facets.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::query_text::QueryText;
use super::synonyms::Synonyms;
use super::text::{Chunk, chunks, count};
use crate::domain::catalog::product::ProductStatus;
use crate::domain::catalog::sku::AvailabilityStatus;
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::{CategoryId, ProductId};
use crate::money::{Money, check_price_order};

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
    /// By rating: 1 to 5 whole stars or more, as a filter by `min_rating` finds them. A product with 4.5 stars counts
    /// in the values 1, 2, 3 and 4, and one without stars in none.
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
    /// Returns the facets to count, each once, in the order in which they are listed first.
    pub fn distinct_facets(&self) -> Vec<Facet> {
        let mut facets = Vec::new();
        for facet in &self.facets {
            if !facets.contains(facet) {
                facets.push(*facet);
            }
        }
        facets
    }

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

    /// Refuses a query whose fields are out of bounds (R17).
    /// [`SearchProvider::search`](crate::port::SearchProvider::search) can rely on these bounds:
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
        self.cut().map(drop)
    }

    /// Checks the query as [`Self::check`], and returns the chunks of its text.
    pub(crate) fn cut(&self) -> Result<Vec<Chunk>> {
        let mut errors = ValidationErrors::default();
        let mut cut = Vec::new();
        if is_longer(&self.text, Self::MAX_TEXT) {
            errors.out_of_bounds("text", format!("must have at most {} characters", Self::MAX_TEXT));
        } else {
            cut = chunks(&self.text);
            if count(&cut) > Self::MAX_WORDS {
                errors.out_of_bounds("text", format!("must have at most {} words", Self::MAX_WORDS));
            }
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
        errors.into_result().map(|()| cut)
    }

    /// Returns the number of words and numbers in [`Self::text`], as [`chunks`] cuts it: `AB-1234/X` has three.
    pub fn words(&self) -> usize {
        count(&chunks(&self.text))
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

/// How many of the words of a text a product must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matching {
    /// All that are required. If the matches do not fill the first page, products with at least half of the words
    /// follow ([`QueryText::fewer_words`]).
    #[default]
    AllThenMost,
    /// All that are required, and no others follow.
    All,
    /// At least one of them, required or not. By relevance, products with more words come first.
    Any,
}

/// A factor that ranks some products higher or lower.
#[derive(Debug, Clone, PartialEq)]
pub struct Boost {
    /// The products: those that a search with this filter finds.
    pub filter: SearchFilter,
    /// The factor by which their scores are multiplied: [`Boost::MIN_FACTOR`] to [`Boost::MAX_FACTOR`].
    pub factor: f32,
}

impl Boost {
    /// The lowest factor.
    pub const MIN_FACTOR: f32 = 0.1;
    /// The highest factor.
    pub const MAX_FACTOR: f32 = 10.0;
}

/// A search as a provider gets it: a query within its bounds, the words of its text with their synonyms, and the
/// products to pin, hide and boost.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    query: SearchQuery,
    text: QueryText,
    /// Which of the words a product must have.
    pub matching: Matching,
    /// Products that match whatever the text is, if they pass the filters: at most [`Self::MAX_PINNED`], each once. If
    /// the hits are sorted by relevance, they come first, in this order.
    /// Needs [`SearchCapabilities::merchandising`](crate::port::SearchCapabilities::merchandising), as do `hidden` and
    /// `boosts`.
    pub pinned: Vec<ProductId>,
    /// Products that never match: at most [`Self::MAX_HIDDEN`]. Facets do not count them.
    pub hidden: Vec<ProductId>,
    /// Factors for the scores of matches: at most [`Self::MAX_BOOSTS`]. If several boosts find a product, their factors
    /// are multiplied and the result is limited, as [`Self::factor`] does it. Boosts have an effect only if the hits
    /// are sorted by relevance to a text. They never move a partial match before a match, but can move a product with
    /// fewer of the words before one with more.
    pub boosts: Vec<Boost>,
}

impl SearchRequest {
    /// The maximum number of pinned products.
    pub const MAX_PINNED: usize = 200;
    /// The maximum number of hidden products.
    pub const MAX_HIDDEN: usize = 5_000;
    /// The maximum number of boosts.
    pub const MAX_BOOSTS: usize = 50;

    /// Returns the request of a query, with the synonyms of its words.
    ///
    /// # Errors
    /// `Validation` as [`SearchQuery::check`].
    pub fn new(query: SearchQuery, synonyms: &Synonyms) -> Result<Self> {
        let cut = query.cut()?;
        Ok(Self::checked(query, &cut, synonyms))
    }

    /// [`Self::new`] for a query of which [`SearchQuery::cut`] has returned the chunks.
    pub(crate) fn checked(query: SearchQuery, cut: &[Chunk], synonyms: &Synonyms) -> Self {
        let text = QueryText::of_chunks(cut, synonyms);
        let (pinned, hidden, boosts) = (Vec::new(), Vec::new(), Vec::new());
        Self { query, text, matching: Matching::AllThenMost, pinned, hidden, boosts }
    }

    /// Returns the request for products with any of the words, as they are written or by their stems. Optional words
    /// are left out.
    #[must_use]
    pub fn for_any_word(mut self) -> Self {
        self.matching = Matching::Any;
        self.text.exactly();
        self
    }

    /// Returns the query, which is within its bounds.
    pub const fn query(&self) -> &SearchQuery {
        &self.query
    }

    /// Returns the words of [`SearchQuery::text`].
    pub const fn text(&self) -> &QueryText {
        &self.text
    }

    /// Returns whether the query has a text. A text of punctuation alone has no words, and matches nothing.
    pub fn has_text(&self) -> bool {
        !self.query.text.trim().is_empty()
    }

    /// Returns whether the hits are sorted by their scores: by relevance to a text.
    pub fn is_scored(&self) -> bool {
        self.query.sort == SearchSort::Relevance && self.has_text()
    }

    /// Returns whether a product is pinned, hidden or boosted.
    pub fn has_merchandising(&self) -> bool {
        !(self.pinned.is_empty() && self.hidden.is_empty() && self.boosts.is_empty())
    }

    /// Returns a hash of all that the result depends on, if the version of the index is this one. Nobody can find two
    /// requests with the same hash.
    pub(crate) fn hash(&self, version: Uuid) -> u128 {
        /// Hashes a text while it is written.
        struct Feed(Sha256);

        impl fmt::Write for Feed {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.update(text);
                Ok(())
            }
        }

        let mut feed = Feed(Sha256::new());
        feed.0.update(version);
        for ids in [&self.pinned, &self.hidden] {
            feed.0.update((ids.len() as u64).to_be_bytes());
            for id in ids {
                feed.0.update(id.0);
            }
        }
        let Self { query, text, matching, pinned: _, hidden: _, boosts } = self;
        // `Feed` accepts every text, and the texts in the values are escaped.
        let _ = write!(feed, "{:?}", (query, text, matching, boosts));
        let hash: [u8; 32] = feed.0.finalize().into();
        u128::from_be_bytes(hash[..16].try_into().unwrap_or_default())
    }

    /// Returns the factor for a product whose boosts have these factors.
    pub fn factor(factors: impl IntoIterator<Item = f32>) -> f32 {
        factors.into_iter().product::<f32>().clamp(Boost::MIN_FACTOR, Boost::MAX_FACTOR)
    }
}

/// Returns true if a text has more than `max` characters. It does not count the characters of very long texts.
fn is_longer(text: &str, max: usize) -> bool {
    text.len() > max * 4 || text.chars().count() > max
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::error::Error;
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
