//! Translates a search into a Tantivy query and one pass over its matches.
//!
//! The query contains the text, and the filters whose facet is not requested. A filter on a field whose facet is
//! requested is checked in the pass instead: a document that fails this filter alone still counts for its facet
//! (disjunctive facets). So hits, total and all facets come from one pass.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use ecom_core::Result;
use ecom_core::catalog::AvailabilityStatus;
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::money::Money;
use ecom_core::paging::Total;
use ecom_core::port::{FacetCount, SearchHit, SearchResults};
use ecom_core::search::{Boost, Facet, Matching, QueryText, SearchFilter, SearchQuery, SearchRequest, SearchSort};
use ecom_core::text::fold_key;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{BytesColumn, Column, ColumnValues};
use tantivy::fastfield::AliveBitSet;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, EmptyQuery, EnableScoring, Occur, Query,
    RangeQuery, Scorer, TermQuery, TermSetQuery, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocAddress, DocId, Executor, Score, SegmentOrdinal, SegmentReader, TERMINATED, Term};
use uuid::Uuid;

use super::error::failed;
use super::plan::Plan;
use super::schema::{Fields, availability_number, status_number};
use super::view::{FacetValues, Segment, View};
use super::word::{UnionScorer, WordQuery, WordsQuery, WordsScorer};
use crate::ranking::{BELOW_MATCHES, OPTIONAL, PER_WORD, PINNED};
use crate::terms::{MAX_FACET_VALUES, attribute_key, spelling_prefix, split_spelling};

/// A search with the plans of its words.
pub(super) struct Search<'a> {
    view: Arc<View>,
    fields: &'a Fields,
    request: &'a SearchRequest,
    /// In the order of the words of the text.
    plans: Vec<Arc<Plan>>,
}

impl<'a> Search<'a> {
    /// Looks up the words of a request in the dictionaries.
    pub(super) fn new(view: Arc<View>, fields: &'a Fields, request: &'a SearchRequest) -> Result<Self> {
        let plans = request.text().slots.iter().map(|slot| view.plan(slot, fields)).collect::<tantivy::Result<_>>();
        Ok(Self { plans: plans.map_err(failed("reading the dictionaries of the index"))?, view, fields, request })
    }

    /// As [`Self::new`], if all words are known.
    pub(super) fn known(view: Arc<View>, fields: &'a Fields, request: &'a SearchRequest) -> Option<Self> {
        let plans = request.text().slots.iter().map(|slot| view.known(slot)).collect::<Option<_>>()?;
        if !request.query().facets.is_empty() && !view.segments.iter().all(|segment| segment.has_facet_values()) {
            return None;
        }
        Some(Self { view, fields, request, plans })
    }

    /// Returns how many entries of lists and columns are read at most.
    pub(super) fn entries(&self) -> u64 {
        let entries = if self.request.has_text() && self.request.pinned.is_empty() {
            self.plans.iter().map(|plan| plan.entries).sum()
        } else {
            self.view.documents
        };
        entries * (1 + self.request.query().facets.len() as u64)
    }

    /// Runs the search.
    pub(super) fn run(&self, executor: &Executor) -> Result<SearchResults> {
        let (request, view) = (self.request, &self.view);
        let (query, text) = (request.query(), request.text());
        let mut builder = self.builder();
        let search = |drill: &Drill, clause: Option<Clause>, builder: &Builder| {
            let tantivy_query = builder.filtered(drill, &request.hidden, clause);
            let scoring = if drill.requires_scoring() {
                EnableScoring::enabled_from_searcher(&view.searcher)
            } else {
                EnableScoring::disabled_from_searcher(&view.searcher)
            };
            let found = view.searcher.search_with_executor(&*tantivy_query, drill, executor, scoring);
            found.map_err(failed("searching"))
        };
        let drill = Drill::new(query, self, Vec::new());
        let words = request.has_text().then(|| match request.matching {
            Matching::All | Matching::AllThenMost => builder.all_words(text),
            Matching::Any => {
                builder.per_word = PER_WORD;
                builder.any_word(text)
            }
        });
        let words = builder.with_pinned(words, request);
        let fruit = search(&drill, words, &builder)?;
        // If the matches do not fill the first page, these are all of them.
        let mut matches: Vec<DocAddress> = fruit.top.held.iter().map(|hit| hit.at).collect();
        let mut results = drill.results(fruit);
        let found = results.total.count;
        let fewer =
            text.fewer_words().filter(|_| request.matching == Matching::AllThenMost && found < u64::from(query.limit));
        let Some(fewer) = fewer else { return Ok(results) };
        let rest = SearchQuery {
            offset: query.offset.saturating_sub(found),
            limit: query.limit - u32::try_from(results.hits.len()).unwrap_or(query.limit),
            facets: Vec::new(),
            ..query.clone()
        };
        matches.sort_unstable();
        // The filters whose facet was counted are clauses now.
        let drill = Drill::new(&rest, self, matches);
        builder.per_word = if builder.by_score { PER_WORD } else { 0.0 };
        let clause = builder.most_words(text, fewer);
        let more = drill.results(search(&drill, Some(clause), &builder)?);
        results.partial = more.total.count;
        // Scores fall from the matches to the rest.
        results.hits.extend(more.hits.into_iter().map(|hit| SearchHit { score: hit.score / BELOW_MATCHES, ..hit }));
        Ok(results)
    }

    fn builder(&self) -> Builder<'_> {
        Builder { search: self, fields: self.fields, by_score: self.request.is_scored(), per_word: 0.0 }
    }
}

struct Builder<'a> {
    search: &'a Search<'a>,
    fields: &'a Fields,
    by_score: bool,
    /// Added to the score of each word.
    per_word: Score,
}

type Clause = Box<dyn Query>;

fn any(mut clauses: Vec<Clause>) -> Clause {
    match clauses.len() {
        0 => Box::new(EmptyQuery),
        1 => clauses.remove(0),
        _ => Box::new(BooleanQuery::union(clauses)),
    }
}

fn all(mut clauses: Vec<Clause>) -> Clause {
    if clauses.len() == 1 { clauses.remove(0) } else { Box::new(BooleanQuery::intersection(clauses)) }
}

/// Matches any of the clauses and scores by the best one alone, not by how many match.
fn best(mut ways: Vec<Clause>) -> Clause {
    if ways.len() == 1 { ways.remove(0) } else { Box::new(DisjunctionMaxQuery::new(ways)) }
}

fn term(term: Term) -> Clause {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

fn worth(clause: Clause, score: Score) -> Clause {
    Box::new(ConstScoreQuery::new(clause, score))
}

fn range(field: Field, low: Option<i64>, high: Option<i64>) -> Clause {
    let bound = |v: Option<i64>| v.map_or(Bound::Unbounded, |v| Bound::Included(Term::from_field_i64(field, v)));
    Box::new(RangeQuery::new(bound(low), bound(high)))
}

impl Builder<'_> {
    /// Returns the query of a text with the filters.
    fn filtered(&self, drill: &Drill, hidden: &[ProductId], text: Option<Clause>) -> Clause {
        let mut clauses: Vec<Clause> = text.into_iter().collect();
        self.filters(&drill.query.filter, &drill.facets, drill.by_column, &mut clauses);
        if clauses.is_empty() {
            clauses.push(self.live());
        }
        if hidden.is_empty() {
            return all(clauses);
        }
        let mut occurs: Vec<(Occur, Clause)> = clauses.into_iter().map(|clause| (Occur::Must, clause)).collect();
        occurs.push((Occur::MustNot, self.products(hidden)));
        Box::new(BooleanQuery::new(occurs))
    }

    /// Matches all products. Every other clause excludes tombstones, which have no text and no filterable fields,
    /// except those of ids.
    fn live(&self) -> Clause {
        worth(term(Term::from_field_u64(self.fields.live, 1)), 0.0)
    }

    fn products(&self, ids: &[ProductId]) -> Clause {
        Box::new(TermSetQuery::new(ids.iter().map(|id| Term::from_field_bytes(self.fields.id, id.0.as_bytes()))))
    }

    /// Matches the pinned products too, with scores above all others in their order.
    fn with_pinned(&self, text: Option<Clause>, request: &SearchRequest) -> Option<Clause> {
        if request.pinned.is_empty() {
            return text;
        }
        let mut ways = vec![text.unwrap_or_else(|| self.live())];
        let scores = std::iter::successors(Some(PINNED), |score| Some(score + PINNED));
        for (id, score) in request.pinned.iter().rev().zip(scores) {
            let pinned = term(Term::from_field_bytes(self.fields.id, id.0.as_bytes()));
            ways.push(worth(all(vec![pinned, self.live()]), score));
        }
        Some(best(ways))
    }

    /// Adds the filters, except those on the fields of these facets, and except those on columns of numbers if
    /// `by_column`.
    fn filters(&self, f: &SearchFilter, except: &[Facet], by_column: bool, clauses: &mut Vec<Clause>) {
        let mut filter = |clause| clauses.push(worth(clause, 0.0));
        let text = |field, value: &str| term(Term::from_field_text(field, value));
        if !f.categories.is_empty() && !except.contains(&Facet::Categories) {
            filter(any(f
                .categories
                .iter()
                .map(|c| term(Term::from_field_bytes(self.fields.category, c.0.as_bytes())))
                .collect()));
        }
        if !f.brands.is_empty() && !except.contains(&Facet::Brands) {
            filter(any(f.brands.iter().map(|b| text(self.fields.brand_key, &fold_key(b))).collect()));
        }
        if !except.contains(&Facet::Tags) {
            f.tags.iter().for_each(|t| filter(text(self.fields.tag_key, &fold_key(t))));
        }
        for (name, value) in &f.attributes {
            filter(text(self.fields.attribute, &attribute_key(name, value)));
        }
        if by_column {
            return;
        }
        if (f.min_price.is_some() || f.max_price.is_some()) && !except.contains(&Facet::Prices) {
            filter(range(self.fields.price, f.min_price.map(Money::minor), f.max_price.map(Money::minor)));
        }
        if f.min_rating.is_some() && !except.contains(&Facet::Rating) {
            filter(range(self.fields.rating, f.min_rating, None));
        }
        if !f.availability.is_empty() && !except.contains(&Facet::Availability) {
            let number = |a| term(Term::from_field_u64(self.fields.availability, availability_number(a)));
            filter(any(f.availability.iter().map(|a| number(*a)).collect()));
        }
        if let Some(status) = f.status {
            filter(term(Term::from_field_u64(self.fields.status, status_number(status))));
        }
    }

    /// Matches if all words match that are required.
    fn all_words(&self, text: &QueryText) -> Clause {
        let mut required: Vec<WordQuery> = self.words(text, false).collect();
        let optional: Vec<WordQuery> = if self.by_score { self.words(text, true).collect() } else { Vec::new() };
        match required.len() {
            // Punctuation alone matches nothing.
            0 => Box::new(EmptyQuery),
            1 if optional.is_empty() => Box::new(required.remove(0)),
            _ => Box::new(WordsQuery { required, optional, factor: OPTIONAL }),
        }
    }

    /// Matches if one of the words matches.
    fn any_word(&self, text: &QueryText) -> Clause {
        let required = self.words(text, false).map(|word| -> Clause { Box::new(word) });
        any(required.chain(self.optional(text)).collect())
    }

    /// Matches if at least this number of the required words match.
    fn most_words(&mut self, text: &QueryText, at_least: usize) -> Clause {
        let some = self.words(text, false).map(|word| -> Clause { Box::new(word) }).collect();
        let some = Box::new(BooleanQuery::union_with_minimum_required_clauses(some, at_least));
        if !self.by_score {
            return some;
        }
        self.per_word = 0.0;
        let mut clauses: Vec<(Occur, Clause)> = vec![(Occur::Must, some)];
        clauses.extend(self.optional(text).map(|word| (Occur::Should, word)));
        if clauses.len() == 1 { clauses.remove(0).1 } else { Box::new(BooleanQuery::new(clauses)) }
    }

    /// Returns the words that are optional, or those that are not.
    fn words(&self, text: &QueryText, is_optional: bool) -> impl Iterator<Item = WordQuery> {
        let plans = text.slots.iter().zip(&self.search.plans).filter(move |(slot, _)| slot.is_optional == is_optional);
        let (plus, is_scored) = (self.per_word, self.by_score);
        let view = &self.search.view;
        plans.map(move |(_, plan)| WordQuery { view: view.clone(), plan: plan.clone(), plus, is_scored })
    }

    /// Returns the queries of the optional words. They add less than the step between two fields.
    fn optional(&self, text: &QueryText) -> impl Iterator<Item = Clause> {
        self.words(text, true).map(|word| -> Clause { Box::new(BoostQuery::new(Box::new(word), OPTIONAL)) })
    }
}

/// A position in the order of hits: the sort key and the two halves of the id. The smaller position comes first.
type Place = (u64, u64, u64);

fn product_at((_, high, low): Place) -> ProductId {
    ProductId(Uuid::from_u64_pair(high, low))
}

#[derive(Debug, Clone, Copy)]
struct Hit {
    place: Place,
    score: Score,
    at: DocAddress,
}

/// The first `n` hits by position.
struct Top {
    n: usize,
    held: Vec<Hit>,
    /// The position of the worst of the first `n` so far.
    bar: Option<Place>,
}

impl Top {
    fn new(n: usize) -> Self {
        Self { n, held: Vec::new(), bar: None }
    }

    /// Returns whether a document with this key certainly comes after the first `n`. If `is_in_order`, its id is higher
    /// than those of the documents before it.
    #[inline]
    fn is_beyond(&self, key: u64, is_in_order: bool) -> bool {
        self.bar.is_some_and(|bar| key > bar.0 || (is_in_order && key == bar.0))
    }

    /// Reads a half of the id only if the parts before it are equal.
    #[inline]
    fn push(&mut self, key: u64, high: impl FnOnce() -> u64, low: impl FnOnce() -> u64, score: Score, at: DocAddress) {
        if self.n == 0 || self.bar.is_some_and(|b| key > b.0) {
            return;
        }
        let high = high();
        if self.bar.is_some_and(|b| (key, high) > (b.0, b.1)) {
            return;
        }
        let place = (key, high, low());
        if self.bar.is_some_and(|b| place >= b) {
            return;
        }
        self.held.push(Hit { place, score, at });
        if self.held.len() >= (self.n * 2).max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.held.len() > self.n {
            self.held.select_nth_unstable_by_key(self.n - 1, |hit| hit.place);
            self.held.truncate(self.n);
            self.bar = self.held.iter().map(|hit| hit.place).max();
        }
    }
}

const fn bit(facet: Facet) -> u8 {
    1 << facet as u8
}

/// Collects hits, total and facets in one pass.
struct Drill<'a> {
    query: &'a SearchQuery,
    view: &'a View,
    by_score: bool,
    /// Whether products may be pinned that come before all others in another order than by score.
    has_pinned: bool,
    /// Whether the pass checks the filters on columns of numbers. That is faster than to intersect the few documents
    /// of a text with the many that pass such a filter.
    by_column: bool,
    /// The requested facets, without duplicates.
    facets: Vec<Facet>,
    /// What scores are multiplied by, with the query of the products.
    boosts: Vec<(Clause, f32)>,
    /// Documents that are left out, in order.
    without: Vec<DocAddress>,
}

impl<'a> Drill<'a> {
    fn new(query: &'a SearchQuery, search: &'a Search<'_>, without: Vec<DocAddress>) -> Self {
        let request = search.request;
        let by_score = request.is_scored();
        let builder = search.builder();
        let boosted = |boost: &Boost| {
            let mut clauses = vec![builder.live()];
            builder.filters(&boost.filter, &[], false, &mut clauses);
            (all(clauses), boost.factor)
        };
        let boosts = request.boosts.iter().filter(|_| by_score).map(boosted).collect();
        let has_pinned = !by_score && query.sort == SearchSort::Relevance && !request.pinned.is_empty();
        let (facets, by_column) = (query.distinct_facets(), request.has_text());
        Self { query, view: &search.view, by_score, has_pinned, by_column, facets, boosts, without }
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.query.offset).unwrap_or(usize::MAX).saturating_add(self.query.limit as usize)
    }

    fn results(&self, fruit: Fruit) -> SearchResults {
        let mut held = fruit.top.held;
        held.sort_unstable_by_key(|hit| hit.place);
        let hits = held
            .into_iter()
            .skip(usize::try_from(self.query.offset).unwrap_or(usize::MAX))
            .take(self.query.limit as usize)
            .map(|hit| SearchHit { id: product_at(hit.place), score: hit.score })
            .collect();
        let facets = self.facets.iter().zip(fruit.counts).map(|(f, c)| (*f, c.into_facet())).collect();
        SearchResults { hits, total: Total { count: fruit.total, exact: true }, partial: 0, facets }
    }

    /// Returns the check for the filter on the field of a facet.
    fn check(&self, facet: Facet, segment: &Segment) -> tantivy::Result<Option<Check>> {
        let f = &self.query.filter;
        let columns = &segment.columns;
        Ok(match facet {
            Facet::Categories if !f.categories.is_empty() => Some(match &columns.categories {
                None => Check::Never,
                Some(column) => {
                    let mut wanted = vec![0; column.num_terms()];
                    for category in &f.categories {
                        mark(&mut wanted, column.dictionary().term_ord(category.0.as_bytes())?, 1);
                    }
                    Check::Values { column: column.clone(), wanted, all: 1 }
                }
            }),
            Facet::Brands if !f.brands.is_empty() => Some(match &columns.brands {
                None => Check::Never,
                Some(column) => spellings(column, f.brands.iter().map(|b| (b, 1)), 1)?,
            }),
            Facet::Tags if !f.tags.is_empty() => Some(match &columns.tags {
                None => Check::Never,
                Some(column) => {
                    let all = u64::MAX >> (64 - f.tags.len().min(64));
                    // Equal keys share their ordinals, so each tag sets its bit in a walk of its own.
                    spellings(column, f.tags.iter().enumerate().map(|(i, t)| (t, 1 << i)), all)?
                }
            }),
            Facet::Prices if f.min_price.is_some() || f.max_price.is_some() => Some(Check::Between {
                column: columns.price.clone(),
                low: f.min_price.map_or(i64::MIN, Money::minor),
                high: f.max_price.map_or(i64::MAX, Money::minor),
            }),
            Facet::Rating => {
                f.min_rating.map(|low| Check::Between { column: columns.rating.clone(), low, high: i64::MAX })
            }
            Facet::Availability if !f.availability.is_empty() => Some(Check::OneOf {
                column: columns.availability.clone(),
                mask: f.availability.iter().fold(0, |m, a| m | 1 << availability_number(*a)),
            }),
            _ => None,
        })
    }

    /// Returns the checks of the filters that no facet asks for and that are on columns of numbers.
    fn gates(&self, segment: &Segment) -> tantivy::Result<Vec<Check>> {
        let mut gates = Vec::new();
        if !self.by_column {
            return Ok(gates);
        }
        for facet in [Facet::Prices, Facet::Rating, Facet::Availability] {
            if !self.facets.contains(&facet) {
                gates.extend(self.check(facet, segment)?);
            }
        }
        if let Some(status) = self.query.filter.status.map(status_number) {
            let column = &segment.columns.status;
            // What has a text has a status.
            if (column.min_value(), column.max_value()) != (status, status) {
                gates.push(Check::OneOf { column: column.clone(), mask: 1 << status });
            }
        }
        Ok(gates)
    }

    fn counter(&self, facet: Facet, values: &FacetValues) -> Counter {
        let bounds = if facet == Facet::Prices { self.query.price_bounds.clone() } else { Vec::new() };
        let length = match facet {
            Facet::Categories | Facet::Brands | Facet::Tags => values.texts(facet).map_or(0, |texts| texts.terms.len()),
            Facet::Prices => bounds.len(),
            Facet::Rating => 5,
            Facet::Availability => AvailabilityStatus::ALL.len(),
        };
        Counter { facet, bounds, counts: vec![0; length] }
    }
}

fn mark(wanted: &mut [u64], place: Option<u64>, bits: u64) {
    if let Some(slot) = place.and_then(|p| usize::try_from(p).ok()).and_then(|p| wanted.get_mut(p)) {
        *slot |= bits;
    }
}

/// Returns a check of a column of spellings, by folded keys.
fn spellings<'k>(
    column: &BytesColumn,
    keys: impl Iterator<Item = (&'k String, u64)>,
    all: u64,
) -> tantivy::Result<Check> {
    let mut wanted = vec![0; column.num_terms()];
    for (key, bits) in keys {
        let mut places = column.dictionary().prefix_range(spelling_prefix(&fold_key(key))).into_stream()?;
        while places.advance() {
            mark(&mut wanted, Some(places.term_ord()), bits);
        }
    }
    Ok(Check::Values { column: column.clone(), wanted, all })
}

/// A filter that is checked in the pass.
enum Check {
    /// No document of the segment has the field.
    Never,
    /// The bits of a document's values, combined, must equal `all`.
    Values {
        column: BytesColumn,
        wanted: Vec<u64>,
        all: u64,
    },
    Between {
        column: Column<i64>,
        low: i64,
        high: i64,
    },
    OneOf {
        column: Column<u64>,
        mask: u64,
    },
}

impl Check {
    fn passes(&self, doc: DocId) -> bool {
        match self {
            Self::Never => false,
            Self::Values { column, wanted, all } => {
                let found = column.ords().values_for_doc(doc).fold(0, |bits, ord| {
                    bits | usize::try_from(ord).ok().and_then(|o| wanted.get(o)).copied().unwrap_or(0)
                });
                found == *all
            }
            Self::Between { column, low, high } => column.first(doc).is_some_and(|v| (*low..=*high).contains(&v)),
            Self::OneOf { column, mask } => column.first(doc).is_some_and(|v| mask >> v & 1 == 1),
        }
    }
}

/// Counts the values of a facet in one segment.
struct Counter {
    facet: Facet,
    /// The lower bounds of price ranges.
    bounds: Vec<i64>,
    /// By the number of a text, of a price range or of an availability, or, for ratings, by whole stars from 1 on.
    counts: Vec<u32>,
}

impl Counter {
    fn count(&mut self, docs: &[DocId], values: &FacetValues) {
        let counts = &mut self.counts;
        let mut add = |at: Option<usize>| {
            if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        };
        let docs = docs.iter().map(|doc| *doc as usize);
        match self.facet {
            Facet::Categories | Facet::Brands | Facet::Tags => {
                let Some(texts) = values.texts(self.facet) else { return };
                for doc in docs {
                    texts.of(doc).iter().for_each(|number| add(Some(*number as usize)));
                }
            }
            Facet::Prices => {
                for price in docs.filter_map(|doc| values.price(doc)) {
                    add(self.bounds.partition_point(|bound| *bound <= price).checked_sub(1));
                }
            }
            Facet::Rating => docs.for_each(|doc| add(usize::from(values.stars[doc]).checked_sub(1))),
            Facet::Availability => docs.for_each(|doc| add(Some(values.availabilities[doc].into()))),
        }
    }

    fn harvest(self, values: &FacetValues) -> Counts {
        match self.facet {
            Facet::Categories | Facet::Brands | Facet::Tags => {
                let Some(texts) = values.texts(self.facet) else { return Counts::Nothing };
                let found = texts.terms.iter().zip(self.counts).filter(|(_, count)| *count > 0);
                let values = found.map(|(text, count)| (text.clone(), u64::from(count))).collect();
                Counts::Values { values, of_categories: self.facet == Facet::Categories }
            }
            Facet::Prices => {
                Counts::Ordered(self.bounds.into_iter().zip(self.counts.into_iter().map(u64::from)).collect())
            }
            Facet::Rating => {
                let or_more = |stars: usize| self.counts[stars..].iter().copied().map(u64::from).sum();
                Counts::Ordered((1..).zip((0..self.counts.len()).map(or_more)).collect())
            }
            Facet::Availability => Counts::Availability(self.counts.into_iter().map(u64::from).collect()),
        }
    }
}

/// Counts of a facet over all segments.
enum Counts {
    Nothing,
    Values { values: HashMap<Arc<[u8]>, u64>, of_categories: bool },
    Ordered(BTreeMap<i64, u64>),
    Availability(Vec<u64>),
}

impl Counts {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, o) => o,
            (Self::Values { mut values, of_categories }, Self::Values { values: more, .. }) => {
                for (v, n) in more {
                    *values.entry(v).or_default() += n;
                }
                Self::Values { values, of_categories }
            }
            (Self::Ordered(mut counts), Self::Ordered(more)) => {
                for (v, n) in more {
                    *counts.entry(v).or_default() += n;
                }
                Self::Ordered(counts)
            }
            (Self::Availability(a), Self::Availability(b)) => {
                Self::Availability(a.into_iter().zip(b).map(|(a, b)| a + b).collect())
            }
            (counts, _) => counts,
        }
    }

    fn into_facet(self) -> Vec<FacetCount> {
        let mut counts: Vec<FacetCount> = match self {
            Self::Nothing => Vec::new(),
            Self::Values { values, of_categories: true } => values
                .into_iter()
                .filter_map(|(v, count)| {
                    let id = CategoryId(Uuid::from_slice(&v).ok()?);
                    Some(FacetCount { value: id.to_string(), count })
                })
                .collect(),
            Self::Values { values, of_categories: false } => {
                // Key → count of all spellings, and the most frequent spelling with its count.
                let mut keys: HashMap<String, (u64, u64, String)> = HashMap::with_capacity(values.len());
                for (value, n) in values {
                    let value = String::from_utf8_lossy(&value);
                    let (key, spelling) = split_spelling(&value);
                    let (total, most, shown) = keys.entry(key.to_owned()).or_default();
                    *total += n;
                    if n > *most || (n == *most && spelling < shown.as_str()) {
                        *most = n;
                        spelling.clone_into(shown);
                    }
                }
                keys.into_values().map(|(count, _, value)| FacetCount { value, count }).collect()
            }
            Self::Ordered(counts) => {
                return counts
                    .into_iter()
                    .filter(|(_, n)| *n > 0)
                    .map(|(value, count)| FacetCount { value: value.to_string(), count })
                    .collect();
            }
            Self::Availability(counts) => AvailabilityStatus::ALL
                .into_iter()
                .zip(counts)
                .filter(|(_, n)| *n > 0)
                .map(|(a, count)| FacetCount { value: a.as_str().to_owned(), count })
                .collect(),
        };
        counts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        counts.truncate(MAX_FACET_VALUES);
        counts
    }
}

/// The sort key of hits, as a number; the smaller comes first.
enum Key {
    Score,
    /// Pinned products by score, and then the others as [`Key::Descending`].
    PinnedThenDescending(Column<i64>),
    Ascending(Column<i64>),
    Descending(Column<i64>),
}

impl Key {
    fn of(&self, doc: DocId, score: Score) -> u64 {
        // Documents without a value come last in both directions.
        let ordered = |v: i64| v.cast_unsigned() ^ (1 << 63);
        match self {
            // Scores are never negative, and such floats sort as their bits do.
            Self::Score => u64::from(!score.to_bits()),
            Self::PinnedThenDescending(_) if score >= PINNED => u64::from(!score.to_bits()),
            Self::Ascending(column) => column.first(doc).map_or(u64::MAX, ordered),
            Self::PinnedThenDescending(column) | Self::Descending(column) => {
                column.first(doc).map_or(u64::MAX, |v| !ordered(v))
            }
        }
    }
}

struct Fruit {
    top: Top,
    total: u64,
    counts: Vec<Counts>,
}

struct SegmentDrill {
    ordinal: SegmentOrdinal,
    key: Key,
    boosts: Vec<(Box<dyn Scorer>, f32)>,
    id_high: Arc<dyn ColumnValues<u64>>,
    id_low: Arc<dyn ColumnValues<u64>>,
    top: Top,
    total: u64,
    /// Documents that are left out, in order.
    without: Vec<DocId>,
    /// Filters that a document must pass to count for anything.
    gates: Vec<Check>,
    checks: Vec<(u8, Check)>,
    counters: Vec<Counting>,
    /// Documents that count for every facet and have not been counted yet.
    passed: Vec<DocId>,
    values: Option<Arc<FacetValues>>,
    /// Whether documents with an equal key come in the order of their ids.
    is_in_order: bool,
}

/// A facet that is counted.
struct Counting {
    bit: u8,
    counter: Counter,
    /// Documents that count for this facet alone and have not been counted yet.
    docs: Vec<DocId>,
}

/// How many documents are counted at once, which takes less time than one after the other.
const COUNTED_AT_ONCE: usize = 512;

impl Collector for Drill<'_> {
    type Fruit = Fruit;
    type Child = SegmentDrill;

    fn for_segment(&self, ordinal: SegmentOrdinal, reader: &SegmentReader) -> tantivy::Result<SegmentDrill> {
        let segment = &self.view.segments[ordinal as usize];
        let columns = &segment.columns;
        let mut checks = Vec::new();
        let mut counters = Vec::new();
        let values = if self.facets.is_empty() { None } else { Some(segment.facet_values()?) };
        for facet in &self.facets {
            if let Some(check) = self.check(*facet, segment)? {
                checks.push((bit(*facet), check));
            }
            let counter = values.as_ref().map(|values| self.counter(*facet, values));
            counters.extend(counter.map(|counter| Counting { bit: bit(*facet), counter, docs: Vec::new() }));
        }
        let mut boosts = Vec::new();
        for (products, factor) in &self.boosts {
            let weight = products.weight(EnableScoring::disabled_from_schema(reader.schema()))?;
            boosts.push((weight.scorer(reader, 1.0)?, *factor));
        }
        let without = self.without.iter().filter(|at| at.segment_ord == ordinal).map(|at| at.doc_id).collect();
        Ok(SegmentDrill {
            ordinal,
            boosts,
            key: match self.query.sort {
                SearchSort::Relevance if self.by_score => Key::Score,
                SearchSort::Relevance if self.has_pinned => Key::PinnedThenDescending(columns.created.clone()),
                SearchSort::Relevance | SearchSort::CreatedDesc => Key::Descending(columns.created.clone()),
                SearchSort::PriceAsc => Key::Ascending(columns.price.clone()),
                SearchSort::PriceDesc => Key::Descending(columns.price.clone()),
                SearchSort::RatingDesc => Key::Descending(columns.rating.clone()),
            },
            id_high: columns.id_high.clone(),
            id_low: columns.id_low.clone(),
            top: Top::new(self.wanted()),
            total: 0,
            without,
            gates: self.gates(segment)?,
            checks,
            counters,
            passed: Vec::new(),
            values,
            is_in_order: columns.is_in_order,
        })
    }

    fn collect_segment(
        &self,
        weight: &dyn Weight,
        ordinal: SegmentOrdinal,
        reader: &SegmentReader,
    ) -> tantivy::Result<tantivy::Result<Fruit>> {
        let mut drill = self.for_segment(ordinal, reader)?;
        let (alive, by_score) = (reader.alive_bitset(), self.requires_scoring());
        let mut scorer = weight.scorer(reader, 1.0)?;
        // The usual queries are read without a call through a pointer for each document.
        if let Some(word) = scorer.downcast_mut::<UnionScorer>() {
            drill.pass(word, alive, by_score);
        } else if let Some(words) = scorer.downcast_mut::<WordsScorer>() {
            drill.pass(words, alive, by_score);
        } else {
            drill.pass(&mut *scorer, alive, by_score);
        }
        Ok(drill.harvest())
    }

    fn requires_scoring(&self) -> bool {
        self.by_score || self.has_pinned
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Fruit>>) -> tantivy::Result<Fruit> {
        let mut merged = Fruit {
            top: Top::new(self.wanted()),
            total: 0,
            counts: self.facets.iter().map(|_| Counts::Nothing).collect(),
        };
        for segment in segments {
            let segment = segment?;
            merged.total += segment.total;
            merged.counts = merged.counts.into_iter().zip(segment.counts).map(|(a, b)| a.merge(b)).collect();
            for Hit { place: (key, high, low), score, at } in segment.top.held {
                merged.top.push(key, || high, || low, score, at);
            }
        }
        merged.top.cut();
        Ok(merged)
    }
}

/// Returns what the score of a document is multiplied by. Documents come in ascending order.
fn boost(boosts: &mut [(Box<dyn Scorer>, f32)], doc: DocId) -> f32 {
    if boosts.is_empty() {
        return 1.0;
    }
    SearchRequest::factor(boosts.iter_mut().filter_map(|(products, factor)| {
        let at = if products.doc() < doc { products.seek(doc) } else { products.doc() };
        (at == doc).then_some(*factor)
    }))
}

impl SegmentDrill {
    /// Reads all documents of a query.
    fn pass<S: Scorer + ?Sized>(&mut self, scorer: &mut S, alive: Option<&AliveBitSet>, by_score: bool) {
        let mut doc = scorer.doc();
        let is_plain = self.gates.is_empty()
            && self.without.is_empty()
            && self.checks.is_empty()
            && self.counters.is_empty()
            && self.boosts.is_empty();
        // A search for the best matches of a text, of which nothing is counted but their number.
        if let (Key::Score, true, true, None) = (&self.key, by_score, is_plain, alive) {
            while doc != TERMINATED {
                self.total += 1;
                let score = scorer.score();
                let key = u64::from(!score.to_bits());
                if !self.top.is_beyond(key, self.is_in_order) {
                    self.push(doc, key, score);
                }
                doc = scorer.advance();
            }
            return;
        }
        while doc != TERMINATED {
            if alive.is_none_or(|alive| alive.is_alive(doc)) {
                self.take(doc, || if by_score { scorer.score() } else { 0.0 });
            }
            doc = scorer.advance();
        }
    }

    #[inline]
    fn take(&mut self, doc: DocId, score: impl FnOnce() -> Score) {
        if self.gates.iter().any(|gate| !gate.passes(doc)) || self.without.binary_search(&doc).is_ok() {
            return;
        }
        let mut failed = 0u8;
        for (bit, check) in &self.checks {
            if !check.passes(doc) {
                if failed != 0 {
                    // Two filters fail, so it counts for no facet.
                    return;
                }
                failed = *bit;
            }
        }
        if failed == 0 {
            self.total += 1;
            if self.top.n > 0 {
                let score = score();
                let score = if score < PINNED { score * boost(&mut self.boosts, doc) } else { score };
                let key = self.key.of(doc, score);
                if !self.top.is_beyond(key, self.is_in_order) {
                    self.push(doc, key, score);
                }
            }
            if !self.counters.is_empty() {
                self.passed.push(doc);
                if self.passed.len() >= COUNTED_AT_ONCE {
                    self.count();
                }
            }
        } else if let Some(counting) = self.counters.iter_mut().find(|counting| counting.bit == failed) {
            counting.docs.push(doc);
            if counting.docs.len() >= COUNTED_AT_ONCE {
                self.count();
            }
        }
    }

    #[cold]
    fn push(&mut self, doc: DocId, key: u64, score: Score) {
        let (high, low) = (&self.id_high, &self.id_low);
        let at = DocAddress::new(self.ordinal, doc);
        self.top.push(key, || high.get_val(doc), || low.get_val(doc), score, at);
    }

    /// Counts the documents that have not been counted yet.
    fn count(&mut self) {
        let Some(values) = &self.values else { return };
        for counting in &mut self.counters {
            counting.counter.count(&self.passed, values);
            counting.counter.count(&counting.docs, values);
            counting.docs.clear();
        }
        self.passed.clear();
    }
}

impl SegmentCollector for SegmentDrill {
    type Fruit = tantivy::Result<Fruit>;

    fn collect(&mut self, doc: DocId, score: Score) {
        self.take(doc, || score);
    }

    fn harvest(mut self) -> Self::Fruit {
        self.top.cut();
        self.count();
        let counters = self.counters.into_iter().map(|counting| counting.counter);
        let counts = match &self.values {
            Some(values) => counters.map(|counter| counter.harvest(values)).collect(),
            None => Vec::new(),
        };
        Ok(Fruit { top: self.top, total: self.total, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_keeps_the_first_by_key_then_id() {
        for n in [1, 3, 50, 200] {
            let mut top = Top::new(n);
            // A fixed shuffle of 1,000 positions with many equal keys.
            let places: Vec<Place> =
                (0..1_000u64).map(|i| (i * 7919 % 1000 % 10, i * 104_729 % 1000 / 4, i * 104_729 % 4)).collect();
            for (key, high, low) in &places {
                top.push(*key, || *high, || *low, 0.0, DocAddress::new(0, 0));
            }
            top.cut();
            let mut held: Vec<Place> = top.held.iter().map(|hit| hit.place).collect();
            held.sort_unstable();
            let mut expected = places;
            expected.sort_unstable();
            expected.truncate(n);
            assert_eq!(held, expected);
        }
    }
}
