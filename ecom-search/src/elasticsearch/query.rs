//! Translates a search into the JSON of `_search`, and its answer into results.
//!
//! The query contains the text, and the filters whose facet is not requested. A filter on a field whose facet is
//! requested is a `post_filter`, and each facet is counted under the other ones (disjunctive facets). So hits, total
//! and all facets come from one call.

use ecom_core::id::ProductId;
use ecom_core::money::Money;
use ecom_core::search::{
    Boost, Facet, Matching, QueryText, SearchFilter, SearchQuery, SearchRequest, SearchSort, Slot, Way, Word,
};
use ecom_core::text::fold_key;
use serde_json::{Value, json};

use super::mapping::{ANY, SOURCES, Source, field};
use crate::ranking::{AS_WRITTEN, EXACT, FREQUENCY, OPTIONAL, PER_WORD, PINNED, PREFIX, SYNONYM, TYPO, Weight};
use crate::terms::{MAX_FACET_VALUES, attribute_key};

/// The most terms of a query. Lucene refuses 1,024 and more.
const MOST_TERMS: usize = 1_000;
/// The most terms of synonyms in a query that would otherwise have too many terms. Further synonyms are left out.
const FEW_SYNONYM_TERMS: usize = 300;
/// The number of spellings that are read with the facet of tags. Those of further tags are read by another call.
const SPELLINGS: usize = 1_000;
/// The number of tags that are read to find the spelling of one of them.
const SPELLINGS_OF_ONE: usize = 200;

/// How a text is searched.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Whether scores depend on the sources of the words. Otherwise all sources count alike: for hits that are not
    /// sorted by score, and for texts with so many words that the query would have too many terms.
    by_source: bool,
    /// The most terms of synonyms.
    synonym_terms: usize,
}

/// The calls of one search.
pub(super) struct Calls<'a> {
    request: &'a SearchRequest,
    /// The requested facets, without duplicates.
    pub(super) facets: Vec<Facet>,
    plan: Plan,
}

/// Which documents a call looks for.
enum Wanted<'a> {
    /// Those that match the text.
    Matches,
    /// Those that match at least this number of the required words and are not among the matches.
    Most(usize, &'a [ProductId]),
}

impl<'a> Calls<'a> {
    pub(super) fn new(request: &'a SearchRequest) -> Self {
        let plans = [(true, usize::MAX), (false, usize::MAX), (false, FEW_SYNONYM_TERMS)];
        let plans = plans.map(|(by_source, synonym_terms)| Plan { by_source, synonym_terms });
        let fits = |plan: &Plan| {
            let mut builder = Builder::new(request, *plan);
            builder.found(request, &Wanted::Matches);
            (request.is_scored() || !plan.by_source) && builder.terms <= MOST_TERMS
        };
        let plan = plans.into_iter().find(fits).unwrap_or(plans[2]);
        Self { request, facets: request.query().distinct_facets(), plan }
    }

    fn query(&self) -> &'a SearchQuery {
        self.request.query()
    }

    /// Returns the body of the call for the page of matches, with the total and the facets.
    pub(super) fn page(&self) -> Value {
        let mut body = self.body(&Wanted::Matches, &self.facets, self.query().offset, self.query().limit);
        let after = self.filters_of(&self.facets);
        if !after.is_empty() {
            body["post_filter"] = json!({"bool": {"filter": after}});
        }
        for facet in &self.facets {
            let others: Vec<Facet> = self.facets.iter().copied().filter(|f| f != facet).collect();
            let within = json!({"bool": {"filter": self.filters_of(&others)}});
            body["aggs"][name(*facet)] = json!({"filter": within, "aggs": counts(*facet, &self.query().price_bounds)});
        }
        body
    }

    /// Returns the body of the call for all matches, of which there are `found`.
    pub(super) fn all_matches(&self, found: u64) -> Value {
        self.body(&Wanted::Matches, &[], 0, u32::try_from(found).unwrap_or(u32::MAX))
    }

    /// Returns the body of the call for those that match at least `fewer` words, of which the first page begins at
    /// `offset`.
    pub(super) fn most(&self, fewer: usize, matches: &[ProductId], offset: u64, limit: u32) -> Value {
        self.body(&Wanted::Most(fewer, matches), &[], offset, limit)
    }

    /// Returns the body of the call for the spellings of tags.
    pub(super) fn spellings(&self, keys: &[String]) -> Value {
        let mut body = self.body(&Wanted::Matches, &self.facets, 0, 0);
        for (at, key) in keys.iter().enumerate() {
            let spelled = json!({"terms": {"field": field::TAG_SPELLED, "size": SPELLINGS_OF_ONE}});
            body["aggs"][at.to_string()] =
                json!({"filter": {"term": {field::TAG_KEY: key}}, "aggs": {"spelled": spelled}});
        }
        body
    }

    /// Returns the body of a call, without the filters on the fields of the facets `except`.
    fn body(&self, wanted: &Wanted<'_>, except: &[Facet], offset: u64, limit: u32) -> Value {
        let (request, query) = (self.request, self.query());
        let has_pinned = query.sort == SearchSort::Relevance && !request.pinned.is_empty();
        let by_score = request.is_scored() || (has_pinned && matches!(wanted, Wanted::Matches));
        let mut filters = vec![json!({"term": {field::LIVE: true}})];
        filters.extend(clauses(&query.filter, |facet| !except.contains(&facet)));
        let mut bool_query = json!({});
        if let Some(found) = Builder::new(request, self.plan).found(request, wanted) {
            if by_score {
                bool_query["must"] = json!([found]);
            } else {
                filters.push(found);
            }
        }
        bool_query["filter"] = filters.into();
        if !request.hidden.is_empty() {
            bool_query["must_not"] = json!([products(&request.hidden)]);
        }
        let created = json!({field::CREATED: "desc"});
        let mut sort = match query.sort {
            SearchSort::Relevance if request.is_scored() => vec![json!({"_score": "desc"})],
            SearchSort::Relevance if by_score => vec![json!({"_score": "desc"}), created],
            SearchSort::Relevance | SearchSort::CreatedDesc => vec![created],
            SearchSort::PriceAsc => vec![json!({field::PRICE: "asc"})],
            SearchSort::PriceDesc => vec![json!({field::PRICE: "desc"})],
            SearchSort::RatingDesc => vec![json!({field::RATING: "desc"})],
        };
        sort.push(json!({field::ID: "asc"}));
        json!({
            "query": {"bool": bool_query},
            "sort": sort,
            "from": offset,
            "size": limit,
            "track_total_hits": true,
            "track_scores": by_score,
            "_source": false,
        })
    }

    /// Returns the filters on the fields of these facets.
    fn filters_of(&self, facets: &[Facet]) -> Vec<Value> {
        let filter = SearchFilter { status: None, attributes: Vec::new(), ..self.query().filter.clone() };
        clauses(&filter, |facet| facets.contains(&facet))
    }
}

/// Returns the name of a facet in calls and answers.
pub(super) const fn name(facet: Facet) -> &'static str {
    match facet {
        Facet::Categories => "categories",
        Facet::Brands => "brands",
        Facet::Prices => "prices",
        Facet::Tags => "tags",
        Facet::Rating => "rating",
        Facet::Availability => "availability",
    }
}

fn counts(facet: Facet, price_bounds: &[i64]) -> Value {
    let values = |field: &str| {
        let order = json!([{"_count": "desc"}, {"_key": "asc"}]);
        json!({"terms": {"field": field, "size": MAX_FACET_VALUES, "order": order}})
    };
    let ranges = |field: &str, ranges: Vec<Value>| {
        let filters: Vec<Value> = ranges.into_iter().map(|range| json!({"range": {field: range}})).collect();
        // A call without filters is refused.
        if filters.is_empty() { json!({}) } else { json!({"counts": {"filters": {"filters": filters}}}) }
    };
    match facet {
        Facet::Categories => json!({"counts": values(field::CATEGORY)}),
        Facet::Brands => {
            let mut brands = values(field::BRAND_KEY);
            brands["aggs"] = json!({"spelled": {"terms": {"field": field::BRAND_SPELLED, "size": 1}}});
            json!({"counts": brands})
        }
        Facet::Tags => {
            let spelled = json!({"terms": {"field": field::TAG_SPELLED, "size": SPELLINGS}});
            json!({"counts": values(field::TAG_KEY), "spelled": spelled})
        }
        Facet::Availability => json!({"counts": values(field::AVAILABILITY)}),
        Facet::Prices => {
            let ends = price_bounds.iter().skip(1).map(Some).chain([None]);
            let range = |(low, end): (&i64, Option<&i64>)| match end {
                Some(end) => json!({"gte": low, "lt": end}),
                None => json!({"gte": low}),
            };
            ranges(field::PRICE, price_bounds.iter().zip(ends).map(range).collect())
        }
        Facet::Rating => ranges(field::RATING, (1..=5).map(|stars| json!({"gte": stars * 100})).collect()),
    }
}

/// Returns the clauses of the filters on the fields of the facets that `includes` accepts, and on fields without a
/// facet.
fn clauses(f: &SearchFilter, includes: impl Fn(Facet) -> bool) -> Vec<Value> {
    let mut clauses = Vec::new();
    if !f.categories.is_empty() && includes(Facet::Categories) {
        clauses.push(json!({"terms": {field::CATEGORY: f.categories}}));
    }
    if !f.brands.is_empty() && includes(Facet::Brands) {
        let keys: Vec<String> = f.brands.iter().map(|brand| fold_key(brand)).collect();
        clauses.push(json!({"terms": {field::BRAND_KEY: keys}}));
    }
    if includes(Facet::Tags) {
        clauses.extend(f.tags.iter().map(|tag| json!({"term": {field::TAG_KEY: fold_key(tag)}})));
    }
    if (f.min_price.is_some() || f.max_price.is_some()) && includes(Facet::Prices) {
        let (low, high) = (f.min_price.map_or(i64::MIN, Money::minor), f.max_price.map_or(i64::MAX, Money::minor));
        clauses.push(json!({"range": {field::PRICE: {"gte": low, "lte": high}}}));
    }
    if let Some(low) = f.min_rating.filter(|_| includes(Facet::Rating)) {
        clauses.push(json!({"range": {field::RATING: {"gte": low}}}));
    }
    if !f.availability.is_empty() && includes(Facet::Availability) {
        clauses.push(json!({"terms": {field::AVAILABILITY: f.availability}}));
    }
    if let Some(status) = f.status {
        clauses.push(json!({"term": {field::STATUS: status}}));
    }
    let attribute = |(name, value): &(String, String)| json!({"term": {field::ATTRIBUTE: attribute_key(name, value)}});
    clauses.extend(f.attributes.iter().map(attribute));
    clauses
}

fn products(ids: &[ProductId]) -> Value {
    json!({"terms": {field::ID: ids}})
}

fn nothing() -> Value {
    json!({"match_none": {}})
}

/// Returns an object with one field. The value is moved, and not copied as `json!` does.
fn object(name: &str, value: impl Into<Value>) -> Value {
    Value::Object([(name.to_owned(), value.into())].into_iter().collect())
}

/// Returns an object with two fields.
fn pair(one: (&str, Value), other: (&str, Value)) -> Value {
    Value::Object([one, other].into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn any(mut clauses: Vec<Value>) -> Value {
    match clauses.len() {
        0 => nothing(),
        1 => clauses.remove(0),
        _ => object("bool", pair(("should", clauses.into()), ("minimum_should_match", 1.into()))),
    }
}

fn all(mut clauses: Vec<Value>) -> Value {
    if clauses.len() == 1 { clauses.remove(0) } else { object("bool", object("must", clauses)) }
}

/// Matches any of the clauses and scores by the best one alone, not by how many match.
fn best(mut clauses: Vec<Value>) -> Value {
    match clauses.len() {
        0 => nothing(),
        1 => clauses.remove(0),
        _ => object("dis_max", object("queries", clauses)),
    }
}

fn worth(clause: Value, score: f32) -> Value {
    object("constant_score", pair(("filter", clause), ("boost", score.into())))
}

fn times(clause: Value, factor: f32) -> Value {
    object("bool", pair(("must", clause), ("boost", factor.into())))
}

/// Builds the clauses of a text and counts their terms.
struct Builder {
    plan: Plan,
    by_score: bool,
    /// Added to the score of each word.
    per_word: f32,
    terms: usize,
    synonym_terms: usize,
}

impl Builder {
    fn new(request: &SearchRequest, plan: Plan) -> Self {
        Self { plan, by_score: request.is_scored(), per_word: 0.0, terms: 0, synonym_terms: 0 }
    }

    /// Returns the clause of the text and of the pinned products; `None` if all products match.
    fn found(&mut self, request: &SearchRequest, wanted: &Wanted<'_>) -> Option<Value> {
        let text = request.text();
        match wanted {
            Wanted::Matches => {
                let words = request.has_text().then(|| {
                    let words = match request.matching {
                        Matching::All | Matching::AllThenMost => self.all_words(text),
                        Matching::Any => {
                            self.per_word = PER_WORD;
                            self.any_word(text)
                        }
                    };
                    self.boosted(words, &request.boosts)
                });
                self.with_pinned(words, request)
            }
            Wanted::Most(fewer, matches) => {
                let words = self.most_words(text, *fewer, matches);
                Some(self.boosted(words, &request.boosts))
            }
        }
    }

    /// Multiplies the scores by the factors of the boosts.
    fn boosted(&mut self, words: Value, boosts: &[Boost]) -> Value {
        if boosts.is_empty() || !self.by_score {
            return words;
        }
        let function = |boost: &Boost| {
            let filter = json!({"bool": {"filter": clauses(&boost.filter, |_| true)}});
            json!({"filter": filter, "weight": boost.factor})
        };
        let functions: Vec<Value> = boosts.iter().map(function).collect();
        let boosted = json!({"function_score": {
            "query": words, "functions": functions,
            "score_mode": "multiply", "boost_mode": "multiply", "max_boost": Boost::MAX_FACTOR,
        }});
        let lowest: f32 = boosts.iter().map(|boost| boost.factor.min(1.0)).product();
        if lowest >= Boost::MIN_FACTOR {
            return boosted;
        }
        // The product of the factors has no lower limit in a function score.
        self.terms *= 2;
        best(vec![boosted, times(words, Boost::MIN_FACTOR)])
    }

    /// Matches the pinned products too, with scores above all others in their order.
    fn with_pinned(&mut self, words: Option<Value>, request: &SearchRequest) -> Option<Value> {
        if request.pinned.is_empty() {
            return words;
        }
        let mut ways = vec![words.unwrap_or_else(|| worth(json!({"match_all": {}}), 0.0))];
        let scores = std::iter::successors(Some(PINNED), |score| Some(score + PINNED));
        for (id, score) in request.pinned.iter().rev().zip(scores) {
            let pinned = self.term(field::ID, &id.to_string());
            ways.push(worth(pinned, score));
        }
        Some(best(ways))
    }

    /// Matches if all words match that are required.
    fn all_words(&mut self, text: &QueryText) -> Value {
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for slot in &text.slots {
            if !slot.is_optional {
                required.push(self.slot(slot));
            } else if self.by_score {
                optional.push(self.optional(slot));
            }
        }
        match (required.len(), optional.len()) {
            // Punctuation alone matches nothing.
            (0, _) => nothing(),
            (_, 0) => all(required),
            _ => object("bool", pair(("must", required.into()), ("should", optional.into()))),
        }
    }

    /// Matches if one of the words matches.
    fn any_word(&mut self, text: &QueryText) -> Value {
        let word = |slot: &Slot| if slot.is_optional { self.optional(slot) } else { self.slot(slot) };
        any(text.slots.iter().map(word).collect())
    }

    /// Matches if at least this number of the required words match, except the products that match all of them.
    fn most_words(&mut self, text: &QueryText, at_least: usize, matches: &[ProductId]) -> Value {
        self.per_word = if self.by_score { PER_WORD } else { 0.0 };
        let required: Vec<Value> = text.slots.iter().filter(|s| !s.is_optional).map(|slot| self.slot(slot)).collect();
        let some = json!({"bool": {"should": required, "minimum_should_match": at_least}});
        self.per_word = 0.0;
        let optional = text.slots.iter().filter(|slot| slot.is_optional && self.by_score);
        let optional: Vec<&Slot> = optional.collect();
        let optional: Vec<Value> = optional.into_iter().map(|slot| self.optional(slot)).collect();
        json!({"bool": {"must": [some], "must_not": [products(matches)], "should": optional}})
    }

    /// Matches an optional word. It adds less than the step between two fields.
    fn optional(&mut self, slot: &Slot) -> Value {
        times(self.slot(slot), OPTIONAL)
    }

    /// Matches a word of the query in the best of its ways.
    fn slot(&mut self, slot: &Slot) -> Value {
        let mut ways = Vec::with_capacity(slot.ways.len());
        for way in &slot.ways {
            ways.push(match way {
                Way::Word(word) => self.word(word, true),
                Way::Joined(word) => self.word(word, false),
                Way::All(words) => self.words(words),
                Way::Synonym(words) => self.synonym(words),
                Way::Code(form) => {
                    let code = self.term(field::CODES, form);
                    worth(code, self.per_word + EXACT + Weight::CODES)
                }
            });
        }
        best(ways)
    }

    /// Matches if all these words match, and is worth as much as one of them.
    fn words(&mut self, words: &[Word]) -> Value {
        let share = 1.0 / f32::from(u16::try_from(words.len()).unwrap_or(u16::MAX));
        let each = words.iter().map(|word| self.word(word, true)).collect();
        times(all(each), share)
    }

    fn sources(&self) -> &'static [Source] {
        if self.plan.by_source { &SOURCES } else { &ANY }
    }

    /// Matches if one field has all these words.
    fn synonym(&mut self, words: &[Word]) -> Value {
        // One word is in a field if it is in any.
        let sources = if words.len() == 1 { self.sources() } else { &SOURCES };
        self.synonym_terms += sources.len() * words.len() * 2;
        if self.synonym_terms > self.plan.synonym_terms {
            return nothing();
        }
        let mut ways = Vec::with_capacity(sources.len());
        for source in sources {
            let mut has =
                |word: &Word| any(vec![self.term(&source.stems(), &word.stem), self.term(&source.pairs(), &word.stem)]);
            let each = words.iter().map(&mut has).collect();
            let weight = if self.plan.by_source { source.weight } else { 0.0 };
            ways.push(worth(all(each), self.per_word + SYNONYM + weight));
        }
        best(ways)
    }

    /// Matches a word, and also two neighbours of a document that are the word together if `split`.
    fn word(&mut self, word: &Word, split: bool) -> Value {
        let per_word = self.per_word;
        let (mut ways, mut frequency) = (Vec::new(), Vec::new());
        for source in self.sources() {
            ways.push(worth(self.term(&source.stems(), &word.stem), per_word + EXACT + source.weight));
            if split {
                ways.push(worth(self.term(&source.pairs(), &word.stem), per_word + EXACT + source.weight));
            }
            if self.by_score {
                let written = self.term(&source.words(), &word.text);
                ways.push(worth(written, per_word + EXACT + source.weight + AS_WRITTEN));
            }
            if self.by_score && self.plan.by_source {
                self.terms += 1;
                let boost = FREQUENCY * source.weight;
                frequency.push(json!({"term": {source.stems(): {"value": word.stem, "boost": boost}}}));
            }
            if word.is_prefix {
                self.terms += 1;
                let prefix = json!({"prefix": {source.words(): {"value": word.text}}});
                ways.push(worth(prefix, per_word + PREFIX + source.weight));
            }
            if word.edits > 0 {
                self.terms += 1;
                // All words within the distance match, not only the 50 nearest.
                let typo = json!({"fuzzy": {source.words(): {
                    "value": word.text, "fuzziness": word.edits, "prefix_length": 0, "transpositions": true,
                    "rewrite": "constant_score",
                }}});
                ways.push(worth(typo, per_word + TYPO + source.weight));
            }
        }
        if !self.by_score {
            return any(ways);
        }
        let ways = best(ways);
        if frequency.is_empty() {
            return ways;
        }
        object("bool", pair(("must", ways), ("should", frequency.into())))
    }

    fn term(&mut self, field: &str, value: &str) -> Value {
        self.terms += 1;
        json!({"term": {field: {"value": value}}})
    }
}

#[cfg(test)]
mod tests {
    use ecom_core::search::Synonyms;

    use super::*;

    /// Returns the body of the call for a text that is also a brand, a tag, and the name and value of an attribute.
    fn body(text: &str) -> Value {
        let own = || text.to_owned();
        let filter = SearchFilter {
            brands: vec![own()],
            tags: vec![own()],
            attributes: vec![(own(), own())],
            ..SearchFilter::default()
        };
        let query = SearchQuery { text: own(), filter, facets: Facet::ALL.to_vec(), ..SearchQuery::default() };
        let request = SearchRequest::new(query, &Synonyms::default()).unwrap();
        let calls = Calls::new(&request);
        json!([calls.page(), calls.most(1, &[], 0, 10), calls.spellings(&[own()])])
    }

    /// Empties the texts of a body, and leaves its structure, with the names in it.
    fn emptied(body: Value) -> Value {
        match body {
            Value::Array(items) => items.into_iter().map(emptied).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, emptied(value))).collect(),
            Value::String(_) => Value::String(String::new()),
            other => other,
        }
    }

    #[test]
    fn a_text_is_a_value_and_never_a_clause() {
        let plain = emptied(body("desk lamp"));
        for text in ["desk\":{\"lamp", "desk\"}},{\"lamp\":{}}", "desk\\\" \\lamp", "{desk: {lamp}}"] {
            assert_eq!(emptied(body(text)), plain, "{text}");
        }
    }
}
