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
use ecom_core::search::{
    Boost, Facet, Matching, QueryText, SearchFilter, SearchQuery, SearchRequest, SearchSort, Slot, Way, Word,
};
use ecom_core::text::fold_key;
use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{BytesColumn, Column, ColumnValues};
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, EmptyQuery, EnableScoring, FuzzyTermQuery, Occur,
    Query, RangeQuery, Scorer, TermQuery, TermSetQuery,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocId, Executor, Score, Searcher, SegmentOrdinal, SegmentReader, TantivyError, Term};
use uuid::Uuid;

use super::error::failed;
use super::schema::{Fields, availability_number, column, status_number};
use super::word::{AcceptedTerms, WordQuery};
use crate::ranking::{
    AS_WRITTEN, BELOW_MATCHES, EXACT, FREQUENCY, OPTIONAL, PER_WORD, PINNED, PREFIX, SYNONYM, TYPO, Weight,
};
use crate::terms::{MAX_FACET_VALUES, attribute_key, spelling_prefix, split_spelling};

/// Runs a search.
pub(super) fn run(
    searcher: &Searcher,
    executor: &Executor,
    fields: &Fields,
    request: &SearchRequest,
) -> Result<SearchResults> {
    let (query, text) = (request.query(), request.text());
    let mut builder = Builder { fields, by_score: request.is_scored(), per_word: 0.0 };
    let search = |drill: &Drill, clause: Option<Clause>, builder: &Builder| {
        let tantivy_query = builder.filtered(drill, &request.hidden, clause);
        let scoring = if drill.requires_scoring() {
            EnableScoring::enabled_from_searcher(searcher)
        } else {
            EnableScoring::disabled_from_searcher(searcher)
        };
        searcher.search_with_executor(&*tantivy_query, drill, executor, scoring).map_err(failed("searching"))
    };
    let drill = Drill::new(query, request, fields);
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
    let matches: Vec<ProductId> = fruit.top.held.iter().map(|(place, _)| product_at(*place)).collect();
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
    // The filters whose facet was counted are clauses now.
    let drill = Drill::new(&rest, request, fields);
    builder.per_word = if builder.by_score { PER_WORD } else { 0.0 };
    let clause = builder.most_words(text, fewer, &matches);
    let more = drill.results(search(&drill, Some(clause), &builder)?);
    results.partial = more.total.count;
    // Scores fall from the matches to the rest.
    results.hits.extend(more.hits.into_iter().map(|hit| SearchHit { score: hit.score / BELOW_MATCHES, ..hit }));
    Ok(results)
}

struct Builder<'a> {
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
        self.filters(&drill.query.filter, &drill.facets, &mut clauses);
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

    /// Adds the filters, except those on the fields of these facets.
    fn filters(&self, f: &SearchFilter, except: &[Facet], clauses: &mut Vec<Clause>) {
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
        for (name, value) in &f.attributes {
            filter(text(self.fields.attribute, &attribute_key(name, value)));
        }
    }

    /// Matches if all words match that are required.
    fn all_words(&self, text: &QueryText) -> Clause {
        let mut clauses: Vec<(Occur, Clause)> = Vec::with_capacity(text.slots.len());
        for slot in &text.slots {
            if !slot.is_optional {
                clauses.push((Occur::Must, self.slot(slot)));
            } else if self.by_score {
                clauses.push((Occur::Should, self.optional(slot)));
            }
        }
        match clauses.len() {
            // Punctuation alone matches nothing.
            0 => Box::new(EmptyQuery),
            1 => clauses.remove(0).1,
            _ => Box::new(BooleanQuery::new(clauses)),
        }
    }

    /// Matches if one of the words matches.
    fn any_word(&self, text: &QueryText) -> Clause {
        let words: Vec<Clause> = text
            .slots
            .iter()
            .map(|slot| if slot.is_optional { self.optional(slot) } else { self.slot(slot) })
            .collect();
        any(words)
    }

    /// Matches if at least this number of the required words match, except the products that match all of them.
    fn most_words(&mut self, text: &QueryText, at_least: usize, matches: &[ProductId]) -> Clause {
        let some = text.slots.iter().filter(|slot| !slot.is_optional).map(|slot| self.slot(slot)).collect();
        let some = BooleanQuery::union_with_minimum_required_clauses(some, at_least);
        let mut clauses: Vec<(Occur, Clause)> =
            vec![(Occur::Must, Box::new(some)), (Occur::MustNot, self.products(matches))];
        if self.by_score {
            self.per_word = 0.0;
            let optional = text.slots.iter().filter(|slot| slot.is_optional);
            clauses.extend(optional.map(|slot| (Occur::Should, self.optional(slot))));
        }
        Box::new(BooleanQuery::new(clauses))
    }

    /// Matches an optional word. It adds less than the step between two fields.
    fn optional(&self, slot: &Slot) -> Clause {
        Box::new(BoostQuery::new(self.slot(slot), OPTIONAL))
    }

    /// Matches a word of the query in the best of its ways.
    fn slot(&self, slot: &Slot) -> Clause {
        let mut query = WordQuery::default();
        let mut others: Vec<Clause> = Vec::new();
        for way in &slot.ways {
            match way {
                Way::Word(word) => self.word(word, true, &mut query),
                Way::Joined(word) => self.word(word, false, &mut query),
                Way::All(words) => others.push(self.words(words)),
                Way::Synonym(words) => self.synonym(words, &mut query),
                Way::Code(form) => {
                    let code = term(Term::from_field_text(self.fields.codes, form));
                    query.ways.push((code.into(), self.per_word + EXACT + Weight::CODES));
                }
            }
        }
        if !query.ways.is_empty() {
            others.push(Box::new(query));
        }
        best(others)
    }

    /// Matches if all these words match, and is worth as much as one of them.
    fn words(&self, words: &[Word]) -> Clause {
        let share = 1.0 / Score::from(u16::try_from(words.len()).unwrap_or(u16::MAX));
        let each = words.iter().map(|word| -> Clause {
            let mut query = WordQuery::default();
            self.word(word, true, &mut query);
            Box::new(query)
        });
        Box::new(BoostQuery::new(all(each.collect()), share))
    }

    /// Matches if one field has all these words.
    fn synonym(&self, words: &[Word], query: &mut WordQuery) {
        for source in self.fields.sources() {
            let has = |word: &Word| {
                let stem = |field| term(Term::from_field_text(field, &word.stem));
                any(vec![stem(source.stems), stem(source.pairs)])
            };
            let has_all = all(words.iter().map(has).collect());
            query.ways.push((has_all.into(), self.per_word + SYNONYM + source.weight));
        }
    }

    /// Matches a word, and also two neighbours of a document that are the word together if `split`.
    fn word(&self, word: &Word, split: bool, query: &mut WordQuery) {
        // The field of the term does not matter here.
        let any_field = || Term::from_field_text(self.fields.codes, &word.text);
        let automaton = |fuzzy: FuzzyTermQuery| fuzzy.automaton().map(Arc::new).ok();
        let prefix = word.is_prefix.then(|| FuzzyTermQuery::new_prefix(any_field(), 0, false)).and_then(automaton);
        let typo = (word.edits > 0).then(|| FuzzyTermQuery::new(any_field(), word.edits, true)).and_then(automaton);
        for source in self.fields.sources() {
            let way = |query: &mut WordQuery, clause: Clause, score| {
                query.ways.push((clause.into(), self.per_word + score + source.weight));
            };
            let stemmed = Term::from_field_text(source.stems, &word.stem);
            way(query, term(stemmed.clone()), EXACT);
            if split {
                way(query, term(Term::from_field_text(source.pairs, &word.stem)), EXACT);
            }
            if self.by_score {
                way(query, term(Term::from_field_text(source.words, &word.text)), EXACT + AS_WRITTEN);
                let frequency = Arc::new(TermQuery::new(stemmed, IndexRecordOption::WithFreqs));
                query.frequency.push((frequency, FREQUENCY * source.weight));
            }
            for (automaton, score) in [(&prefix, PREFIX), (&typo, TYPO)] {
                if let Some(automaton) = automaton.clone() {
                    way(query, Box::new(AcceptedTerms { field: source.words, automaton }), score);
                }
            }
        }
    }
}

/// A position in the order of hits: the sort key and the two halves of the id. The smaller position comes first.
type Place = (u64, u64, u64);

fn product_at((_, high, low): Place) -> ProductId {
    ProductId(Uuid::from_u64_pair(high, low))
}

/// The first `n` hits by position.
struct Top {
    n: usize,
    held: Vec<(Place, Score)>,
    /// The position of the worst of the first `n` so far.
    bar: Option<Place>,
}

impl Top {
    fn new(n: usize) -> Self {
        Self { n, held: Vec::new(), bar: None }
    }

    /// Reads a half of the id only if the parts before it are equal.
    fn push(&mut self, key: u64, high: impl FnOnce() -> u64, low: impl FnOnce() -> u64, score: Score) {
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
        self.held.push((place, score));
        if self.held.len() >= (self.n * 2).max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.held.len() > self.n {
            self.held.select_nth_unstable_by_key(self.n - 1, |h| h.0);
            self.held.truncate(self.n);
            self.bar = self.held.iter().map(|h| h.0).max();
        }
    }
}

const fn bit(facet: Facet) -> u8 {
    1 << facet as u8
}

/// Collects hits, total and facets in one pass.
struct Drill<'a> {
    query: &'a SearchQuery,
    by_score: bool,
    /// Whether products may be pinned that come before all others in another order than by score.
    has_pinned: bool,
    /// The requested facets, without duplicates.
    facets: Vec<Facet>,
    /// What scores are multiplied by, with the query of the products.
    boosts: Vec<(Clause, f32)>,
}

impl<'a> Drill<'a> {
    fn new(query: &'a SearchQuery, request: &SearchRequest, fields: &Fields) -> Self {
        let by_score = request.is_scored();
        let builder = Builder { fields, by_score: false, per_word: 0.0 };
        let boosted = |boost: &Boost| {
            let mut clauses = vec![builder.live()];
            builder.filters(&boost.filter, &[], &mut clauses);
            (all(clauses), boost.factor)
        };
        let boosts = request.boosts.iter().filter(|_| by_score).map(boosted).collect();
        let has_pinned = !by_score && query.sort == SearchSort::Relevance && !request.pinned.is_empty();
        Self { query, by_score, has_pinned, facets: query.distinct_facets(), boosts }
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.query.offset).unwrap_or(usize::MAX).saturating_add(self.query.limit as usize)
    }

    fn results(&self, fruit: Fruit) -> SearchResults {
        let mut held = fruit.top.held;
        held.sort_unstable_by_key(|h| h.0);
        let hits = held
            .into_iter()
            .skip(usize::try_from(self.query.offset).unwrap_or(usize::MAX))
            .take(self.query.limit as usize)
            .map(|(place, score)| SearchHit { id: product_at(place), score })
            .collect();
        let facets = self.facets.iter().zip(fruit.counts).map(|(f, c)| (*f, c.into_facet())).collect();
        SearchResults { hits, total: Total { count: fruit.total, exact: true }, partial: 0, facets }
    }

    /// Returns the check for the filter on the field of a requested facet.
    fn check(&self, facet: Facet, segment: &SegmentReader) -> tantivy::Result<Option<Check>> {
        let f = &self.query.filter;
        let fast = segment.fast_fields();
        Ok(match facet {
            Facet::Categories if !f.categories.is_empty() => Some(match fast.bytes(column::CATEGORIES)? {
                None => Check::Never,
                Some(column) => {
                    let mut wanted = vec![0; column.num_terms()];
                    for category in &f.categories {
                        mark(&mut wanted, column.dictionary().term_ord(category.0.as_bytes())?, 1);
                    }
                    Check::Values { column, wanted, all: 1 }
                }
            }),
            Facet::Brands if !f.brands.is_empty() => Some(match fast.str(column::BRAND)? {
                None => Check::Never,
                Some(column) => spellings(&column, f.brands.iter().map(|b| (b, 1)), 1)?,
            }),
            Facet::Tags if !f.tags.is_empty() => Some(match fast.str(column::TAGS)? {
                None => Check::Never,
                Some(column) => {
                    let all = u64::MAX >> (64 - f.tags.len().min(64));
                    // Equal keys share their ordinals, so each tag sets its bit in a walk of its own.
                    spellings(&column, f.tags.iter().enumerate().map(|(i, t)| (t, 1 << i)), all)?
                }
            }),
            Facet::Prices if f.min_price.is_some() || f.max_price.is_some() => Some(Check::Between {
                column: fast.i64(column::PRICE)?,
                low: f.min_price.map_or(i64::MIN, Money::minor),
                high: f.max_price.map_or(i64::MAX, Money::minor),
            }),
            Facet::Rating => f
                .min_rating
                .map(|low| {
                    Ok::<_, TantivyError>(Check::Between { column: fast.i64(column::RATING)?, low, high: i64::MAX })
                })
                .transpose()?,
            Facet::Availability if !f.availability.is_empty() => Some(Check::OneOf {
                column: fast.u64(column::AVAILABILITY)?,
                mask: f.availability.iter().fold(0, |m, a| m | 1 << availability_number(*a)),
            }),
            _ => None,
        })
    }

    fn counter(&self, facet: Facet, segment: &SegmentReader) -> tantivy::Result<Counter> {
        let fast = segment.fast_fields();
        let values = |column: Option<BytesColumn>, kind| {
            column.map_or(Counter::Nothing, |column| Counter::Values {
                counts: vec![0; column.num_terms()],
                column,
                kind,
            })
        };
        let spelled = |name| Ok::<_, TantivyError>(fast.str(name)?.map(Into::into));
        Ok(match facet {
            Facet::Categories => values(fast.bytes(column::CATEGORIES)?, ValueKind::Category),
            Facet::Brands => values(spelled(column::BRAND)?, ValueKind::Spelled),
            Facet::Tags => values(spelled(column::TAGS)?, ValueKind::Spelled),
            Facet::Prices => Counter::Prices {
                column: fast.i64(column::PRICE)?,
                bounds: self.query.price_bounds.clone(),
                counts: vec![0; self.query.price_bounds.len()],
            },
            Facet::Rating => Counter::Stars { column: fast.i64(column::RATING)?, counts: [0; 5] },
            Facet::Availability => Counter::Availability { column: fast.u64(column::AVAILABILITY)?, counts: [0; 3] },
        })
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

#[derive(Clone, Copy)]
enum ValueKind {
    Category,
    Spelled,
}

/// Counts the values of a facet in one segment.
enum Counter {
    Nothing,
    Values {
        column: BytesColumn,
        counts: Vec<u32>,
        kind: ValueKind,
    },
    Prices {
        column: Column<i64>,
        bounds: Vec<i64>,
        counts: Vec<u64>,
    },
    /// How many ratings there are from 1, 2, 3, 4 and 5 stars up to the next star.
    Stars {
        column: Column<i64>,
        counts: [u64; 5],
    },
    Availability {
        column: Column<u64>,
        counts: [u64; 3],
    },
}

impl Counter {
    fn count(&mut self, doc: DocId) {
        match self {
            Self::Nothing => {}
            Self::Values { column, counts, .. } => {
                for ord in column.ords().values_for_doc(doc) {
                    if let Some(n) = usize::try_from(ord).ok().and_then(|o| counts.get_mut(o)) {
                        *n += 1;
                    }
                }
            }
            Self::Prices { column, bounds, counts } => {
                if let Some(price) = column.first(doc)
                    && let Some(i) = bounds.partition_point(|b| *b <= price).checked_sub(1)
                {
                    counts[i] += 1;
                }
            }
            Self::Stars { column, counts } => {
                let stars = column.first(doc).and_then(|rating| usize::try_from(rating / 100).ok()).unwrap_or(0);
                if let Some(last) = stars.min(counts.len()).checked_sub(1) {
                    counts[last] += 1;
                }
            }
            Self::Availability { column, counts } => {
                if let Some(n) = column.first(doc).and_then(|a| usize::try_from(a).ok()).and_then(|a| counts.get_mut(a))
                {
                    *n += 1;
                }
            }
        }
    }

    fn harvest(self) -> tantivy::Result<Counts> {
        Ok(match self {
            Self::Nothing => Counts::Nothing,
            Self::Values { column, counts, kind } => {
                let ords: Vec<u64> = (0..).zip(&counts).filter(|(_, n)| **n > 0).map(|(ord, _)| ord).collect();
                let mut found = counts.iter().copied().filter(|n| *n > 0).map(u64::from);
                let mut values: HashMap<Vec<u8>, u64> = HashMap::with_capacity(ords.len());
                column.dictionary().sorted_ords_to_term_cb(&ords, |value| {
                    *values.entry(value.to_vec()).or_default() += found.next().unwrap_or(0);
                })?;
                Counts::Values { values, kind }
            }
            Self::Prices { bounds, counts, .. } => Counts::Ordered(bounds.into_iter().zip(counts).collect()),
            Self::Stars { counts, .. } => {
                let or_more = |stars: usize| counts[stars..].iter().sum();
                Counts::Ordered((1..).zip((0..counts.len()).map(or_more)).collect())
            }
            Self::Availability { counts, .. } => Counts::Availability(counts),
        })
    }
}

/// Counts of a facet over all segments.
enum Counts {
    Nothing,
    Values { values: HashMap<Vec<u8>, u64>, kind: ValueKind },
    Ordered(BTreeMap<i64, u64>),
    Availability([u64; 3]),
}

impl Counts {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, o) => o,
            (Self::Values { mut values, kind }, Self::Values { values: more, .. }) => {
                for (v, n) in more {
                    *values.entry(v).or_default() += n;
                }
                Self::Values { values, kind }
            }
            (Self::Ordered(mut counts), Self::Ordered(more)) => {
                for (v, n) in more {
                    *counts.entry(v).or_default() += n;
                }
                Self::Ordered(counts)
            }
            (Self::Availability(a), Self::Availability(b)) => {
                Self::Availability([a[0] + b[0], a[1] + b[1], a[2] + b[2]])
            }
            (counts, _) => counts,
        }
    }

    fn into_facet(self) -> Vec<FacetCount> {
        let mut counts: Vec<FacetCount> = match self {
            Self::Nothing => Vec::new(),
            Self::Values { values, kind: ValueKind::Category } => values
                .into_iter()
                .filter_map(|(v, count)| {
                    let id = CategoryId(Uuid::from_slice(&v).ok()?);
                    Some(FacetCount { value: id.to_string(), count })
                })
                .collect(),
            Self::Values { values, kind: ValueKind::Spelled } => {
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
    key: Key,
    boosts: Vec<(Box<dyn Scorer>, f32)>,
    id_high: Arc<dyn ColumnValues<u64>>,
    id_low: Arc<dyn ColumnValues<u64>>,
    top: Top,
    total: u64,
    checks: Vec<(u8, Check)>,
    counters: Vec<(u8, Counter)>,
}

impl Collector for Drill<'_> {
    type Fruit = Fruit;
    type Child = SegmentDrill;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentDrill> {
        let fast = segment.fast_fields();
        let mut checks = Vec::new();
        let mut counters = Vec::new();
        for facet in &self.facets {
            if let Some(check) = self.check(*facet, segment)? {
                checks.push((bit(*facet), check));
            }
            counters.push((bit(*facet), self.counter(*facet, segment)?));
        }
        let schema = segment.schema();
        let mut boosts = Vec::new();
        for (products, factor) in &self.boosts {
            let weight = products.weight(EnableScoring::disabled_from_schema(schema))?;
            boosts.push((weight.scorer(segment, 1.0)?, *factor));
        }
        Ok(SegmentDrill {
            boosts,
            key: match self.query.sort {
                SearchSort::Relevance if self.by_score => Key::Score,
                SearchSort::Relevance if self.has_pinned => Key::PinnedThenDescending(fast.i64(column::CREATED)?),
                SearchSort::Relevance | SearchSort::CreatedDesc => Key::Descending(fast.i64(column::CREATED)?),
                SearchSort::PriceAsc => Key::Ascending(fast.i64(column::PRICE)?),
                SearchSort::PriceDesc => Key::Descending(fast.i64(column::PRICE)?),
                SearchSort::RatingDesc => Key::Descending(fast.i64(column::RATING)?),
            },
            id_high: fast.column_first_or_default(column::ID_HIGH)?,
            id_low: fast.column_first_or_default(column::ID_LOW)?,
            top: Top::new(self.wanted()),
            total: 0,
            checks,
            counters,
        })
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
            for ((key, high, low), score) in segment.top.held {
                merged.top.push(key, || high, || low, score);
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

impl SegmentCollector for SegmentDrill {
    type Fruit = tantivy::Result<Fruit>;

    fn collect(&mut self, doc: DocId, score: Score) {
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
            let (high, low) = (&self.id_high, &self.id_low);
            let score = if score < PINNED { score * boost(&mut self.boosts, doc) } else { score };
            self.top.push(self.key.of(doc, score), || high.get_val(doc), || low.get_val(doc), score);
        }
        for (bit, counter) in &mut self.counters {
            if failed & !*bit == 0 {
                counter.count(doc);
            }
        }
    }

    fn harvest(mut self) -> Self::Fruit {
        self.top.cut();
        let counts = self.counters.into_iter().map(|(_, c)| c.harvest()).collect::<tantivy::Result<_>>()?;
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
                top.push(*key, || *high, || *low, 0.0);
            }
            top.cut();
            let mut held: Vec<Place> = top.held.iter().map(|h| h.0).collect();
            held.sort_unstable();
            let mut expected = places;
            expected.sort_unstable();
            expected.truncate(n);
            assert_eq!(held, expected);
        }
    }
}
