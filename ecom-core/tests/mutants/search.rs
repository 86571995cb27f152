//! A plain reference search engine in memory, with a place for each bug.
//!
//! `disk` stands for what is durable: the fixture opens the provider again over the same one.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::time::Duration;

use async_trait::async_trait;
use ecom_core::id::{CategoryId, ProductId};
use ecom_core::paging::Total;
use ecom_core::platform::OutboxPosition;
use ecom_core::port::{
    Applied, BuildProgress, BuildStart, Checkpoint, FacetCount, IndexBuild, IndexOp, SearchCapabilities,
    SearchDocument, SearchHit, SearchProvider, SearchResults,
};
use ecom_core::search::{
    Facet, FieldWords, Language, Matching, Pairs, SearchFilter, SearchQuery, SearchRequest, SearchSort, Way, Word,
    code_forms,
};
use ecom_core::testkit::SearchFixture;
use ecom_core::text::fold_key;
use ecom_core::{Error, FieldCode, Result};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use uuid::Uuid;

use crate::search_mutants::SearchMutant as M;
use crate::words::{edits, words};

/// A fresh provider, with a bug or without.
pub(crate) fn search_fixture(mutant: Option<M>) -> SearchFixture {
    let (disk, build) = (Arc::new(Mutex::new(Index::default())), Arc::new(Mutex::new(None)));
    let open = move || Reference::open(&disk, &build, mutant);
    SearchFixture::new(open(), ()).reopen_with(move || ready(open()))
}

#[derive(Debug, Clone, Default)]
struct Index {
    entries: BTreeMap<ProductId, Entry>,
    checkpoint: Option<Checkpoint>,
    written: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    revision: i64,
    /// `None`: deleted.
    document: Option<SearchDocument>,
    age: u64,
}

#[derive(Debug)]
struct Reference {
    mutant: Option<M>,
    disk: Arc<Mutex<Index>>,
    index: Arc<RwLock<Index>>,
    /// For a bug: what searches see, if it is not the index.
    seen: RwLock<Option<Index>>,
    acquired: AtomicBool,
    rebuilding: Arc<AtomicBool>,
    /// The build that is not published. It is durable, as `disk`.
    build: Arc<Mutex<Option<Unpublished>>>,
}

impl Index {
    fn live(&self) -> impl Iterator<Item = (&Entry, &SearchDocument)> {
        self.entries.values().filter_map(|e| Some((e, e.document.as_ref()?)))
    }

    /// Applies an op if it is newer; returns whether it was.
    fn put(&mut self, op: IndexOp, mutant: Option<M>) -> bool {
        let is = |m| mutant == Some(m);
        let known = self.entries.get(&op.id());
        let known = known.filter(|e| !(is(M::DeletedRevisionsForgotten) && e.document.is_none())).map(|e| e.revision);
        let newer = match known {
            None => !(is(M::DeletesOfTheUnknownIgnored) && matches!(op, IndexOp::Delete { .. })),
            Some(_) if is(M::OlderRevisionWins) => true,
            Some(known) if is(M::SameRevisionWins) => op.revision() >= known,
            Some(known) => op.revision() > known,
        };
        if newer {
            self.written += 1;
            let (id, revision, age) = (op.id(), op.revision(), self.written);
            let document = match op {
                IndexOp::Upsert(document) => Some(*document),
                IndexOp::Delete { .. } => None,
            };
            self.entries.insert(id, Entry { revision, document, age });
        }
        newer
    }
}

/// How well a document matches a text.
struct Score {
    /// Whether it matches all words, or only most of them.
    is_whole: bool,
    points: f32,
}

/// A document that a text finds.
struct Match<'a> {
    document: &'a SearchDocument,
    score: Score,
    age: u64,
}

/// A field of a document with full text.
struct Source {
    weight: f32,
    of: FieldWords,
}

impl Reference {
    fn open(disk: &Arc<Mutex<Index>>, build: &Arc<Mutex<Option<Unpublished>>>, mutant: Option<M>) -> Self {
        if mutant == Some(M::ContinuedBuildsNotDurable) {
            *build.lock() = None;
        }
        let mut index = disk.lock().clone();
        if mutant == Some(M::DeletedRevisionsNotDurable) {
            index.entries.retain(|_, e| e.document.is_some());
        }
        Self {
            mutant,
            disk: disk.clone(),
            index: Arc::new(RwLock::new(index)),
            seen: RwLock::new(None),
            acquired: AtomicBool::new(false),
            rebuilding: Arc::default(),
            build: build.clone(),
        }
    }

    fn is(&self, mutant: M) -> bool {
        self.mutant == Some(mutant)
    }

    /// Makes what was written durable.
    fn save(&self, before: Index) {
        let now = self.index.read().clone();
        let mut disk = self.disk.lock();
        match self.mutant {
            Some(M::NotDurable) => {}
            Some(M::CheckpointNotDurable) => *disk = Index { checkpoint: None, ..now },
            Some(M::DocumentsNotDurable) => disk.checkpoint = now.checkpoint,
            Some(M::WrittenBehind) => *disk = before,
            _ => *disk = now,
        }
    }

    /// How well the text matches the document; `None` if it does not.
    fn score(&self, d: &SearchDocument, request: &SearchRequest) -> Option<Score> {
        if request.hidden.contains(&d.id) && !self.is(M::HiddenOnlyInHits) {
            return None;
        }
        let place = request.pinned.iter().position(|id| *id == d.id);
        let place = place.filter(|_| !self.is(M::PinnedNeedTheText) || self.typed(d, request).is_some());
        if let Some(place) = place {
            let rank = if self.is(M::PinnedByAge) { 0 } else { place };
            let points = 1_000_000_000.0 - 1_000.0 * f32::from(u16::try_from(rank).unwrap_or(u16::MAX));
            return Some(Score { is_whole: true, points });
        }
        let score = self.typed(d, request)?;
        let boosts = || request.boosts.iter().filter(|boost| self.passes(d, &boost.filter, None));
        let factor = match self.mutant {
            Some(M::FirstBoostOnly) => boosts().next().map_or(1.0, |boost| boost.factor),
            _ => SearchRequest::factor(boosts().map(|boost| boost.factor)),
        };
        Some(Score { points: score.points * factor, ..score })
    }

    /// How well the words match.
    fn typed(&self, d: &SearchDocument, request: &SearchRequest) -> Option<Score> {
        let (typed, text) = (request.query().text.as_str(), request.text());
        if typed.trim().is_empty() {
            return (!self.is(M::EmptyTextFindsNothing)).then_some(Score { is_whole: true, points: 0.0 });
        }
        if self.is(M::StarMatchesEverything) && typed.contains('*') {
            return Some(Score { is_whole: true, points: 1.0 });
        }
        let sources = self.sources(d);
        let mut fields: BTreeSet<usize> = (0..sources.len()).collect();
        let (mut required, mut matched, mut points) = (0, 0, 0.0);
        for slot in &text.slots {
            let ways = slot.ways.iter().filter_map(|way| self.way(d, &sources, way, &mut fields));
            let best = ways.max_by(f32::total_cmp);
            let is_required = !slot.is_optional || self.is(M::EveryWordIsNeeded);
            required += usize::from(is_required);
            matched += usize::from(is_required && best.is_some());
            points +=
                best.unwrap_or(0.0) * if is_required || self.is(M::OptionalWordsWeighAsOthers) { 1.0 } else { 0.004 };
        }
        if self.is(M::MinusExcludes) && typed.trim_start().starts_with('-') {
            return (matched == 0).then_some(Score { is_whole: true, points: 0.0 });
        }
        if request.matching == Matching::Any && !self.is(M::AnyMeansAll) {
            let words = if self.is(M::AnyIgnoresTheNumber) { 0 } else { matched };
            let points = points + 10_000.0 * f32::from(u8::try_from(words).unwrap_or(u8::MAX));
            return (points > 0.0).then_some(Score { is_whole: true, points });
        }
        let all = match self.mutant {
            Some(M::AnyWordMatches) => matched > 0,
            Some(M::WordsOfOneField) => matched == required && !fields.is_empty(),
            _ => matched == required && required > 0,
        };
        if all {
            return Some(Score { is_whole: true, points });
        }
        let fewer = match self.mutant {
            _ if request.matching == Matching::All => None,
            Some(M::MostWordsDoNotFollow) => None,
            Some(M::OneWordFollows) => Some(1),
            _ => text.fewer_words(),
        };
        // More words beat a better match of fewer.
        let points = points + 10_000.0 * f32::from(u8::try_from(matched).unwrap_or(u8::MAX));
        fewer.filter(|least| matched >= *least).map(|_| Score { is_whole: false, points: points / 1_000_000.0 })
    }

    /// The words of the fields of a document, and its pairs of neighbours.
    fn sources(&self, d: &SearchDocument) -> Vec<Source> {
        let language = if self.is(M::LanguageIgnored) { Language::English } else { d.language };
        let read = |text: &str, pairs: Pairs| {
            if self.is(M::AccentsMatter) {
                let words = words(text);
                return FieldWords {
                    stems: words.iter().map(|word| language.stem(word)).collect(),
                    words,
                    pairs: Vec::new(),
                };
            }
            let end = if self.is(M::LongTextsCutOff) { text.floor_char_boundary(512) } else { text.len() };
            let mut found = FieldWords::of(&text[..end], pairs, language);
            if self.is(M::WordsOnlyAsWritten) {
                found.pairs = Vec::new();
            }
            if self.is(M::SymbolsDropped) {
                for word in &mut found.words {
                    *word = word.replace(['+', '#'], "");
                }
                found.stems = found.words.iter().map(|word| language.stem(word)).collect();
            }
            found
        };
        let found = |text: &str| read(text, Pairs::All);
        let all = |texts: &[String]| {
            let mut joined = FieldWords::default();
            for found in texts.iter().map(|text| found(text)) {
                joined.words.extend(found.words);
                joined.stems.extend(found.stems);
                joined.pairs.extend(found.pairs);
            }
            joined
        };
        let mut sources = vec![
            Source { weight: 60.0, of: found(&d.title) },
            Source { weight: 50.0, of: d.brand.as_deref().map(found).unwrap_or_default() },
            Source { weight: 40.0, of: all(&d.tags) },
        ];
        if !self.is(M::CategoryNamesNotSearched) {
            let names: Vec<String> = d.categories.iter().map(|c| c.name.clone()).collect();
            sources.push(Source { weight: 30.0, of: all(&names) });
        }
        if !self.is(M::DescriptionsNotSearched) {
            let mut of = d.description.as_deref().map(|text| read(text, Pairs::Units)).unwrap_or_default();
            if self.is(M::UnitsInLongTextsWhole) {
                of.pairs = Vec::new();
            }
            sources.push(Source { weight: 10.0, of });
        }
        if self.is(M::FieldsWeighTheSame) {
            for source in &mut sources {
                source.weight = 30.0;
            }
        }
        sources
    }

    /// Returns the score of one way of a word of the query, or `None` if the document does not match in this way.
    fn way(&self, d: &SearchDocument, sources: &[Source], way: &Way, fields: &mut BTreeSet<usize>) -> Option<f32> {
        match way {
            Way::Word(word) => {
                let found: Vec<Option<f32>> = sources.iter().map(|source| self.word(word, source, true)).collect();
                fields.retain(|f| found[*f].is_some());
                found.into_iter().flatten().max_by(f32::total_cmp)
            }
            Way::Joined(_) if self.is(M::SplitWordsNotJoined) => None,
            Way::Joined(word) => self.best(word, sources, false),
            Way::All(_) if self.is(M::ConnectedWordsWhole) => None,
            Way::All(words) => self.mean(words, sources),
            Way::Synonym(_) if self.is(M::NoSynonyms) => None,
            Way::Synonym(words) => {
                let words = if self.is(M::SynonymsByTheirFirstWord) { &words[..1] } else { words };
                if self.is(M::SynonymsOverFields) {
                    return self.mean(words, sources).map(|points| points - 300.0);
                }
                let exact = if self.is(M::SynonymsRankAsTheWord) { 1_005.0 } else { 700.0 };
                let has_all = |source: &&Source| words.iter().all(|word| self.word(word, source, true).is_some());
                sources.iter().filter(has_all).map(|source| exact + source.weight).max_by(f32::total_cmp)
            }
            Way::Code(form) => {
                let forms = |own: &String| match self.mutant {
                    Some(M::CodesWithPunctuation) => vec![fold_key(own)],
                    Some(M::CodesOnlyWhole) => code_forms(own)[..1].to_vec(),
                    Some(M::CodesWithCase) => vec![own.clone()],
                    _ => code_forms(own),
                };
                let matches = |own: &String| match self.mutant {
                    Some(M::CodesByPrefix) => code_forms(own).iter().any(|own| own.starts_with(form)),
                    _ => forms(own).contains(form),
                };
                let weight = if self.is(M::FieldsWeighTheSame) { 30.0 } else { 20.0 };
                d.codes.iter().any(matches).then_some(1_000.0 + weight)
            }
        }
    }

    /// All of these words are worth as much as one.
    fn mean(&self, words: &[Word], sources: &[Source]) -> Option<f32> {
        let each: Option<Vec<f32>> = words.iter().map(|word| self.best(word, sources, true)).collect();
        each.map(|each| each.iter().sum::<f32>() / each.iter().fold(0.0, |n, _| n + 1.0))
    }

    fn best(&self, word: &Word, sources: &[Source], split: bool) -> Option<f32> {
        sources.iter().filter_map(|source| self.word(word, source, split)).max_by(f32::total_cmp)
    }

    /// Returns the score of a word in one field: as typed, by its stem, as a prefix, with a typo, or, if `split`, as
    /// two neighbors.
    fn word(&self, word: &Word, source: &Source, split: bool) -> Option<f32> {
        let exact = 1_000.0;
        let same_stem = |own: &str, stem: &str| *own == word.text || (!self.is(M::NoStems) && *stem == word.stem);
        let of = || source.of.words.iter().zip(&source.of.stems);
        let same = of().filter(|(own, stem)| same_stem(own, stem));
        let frequency = same.fold(0.0, |n, _| n + 1.0) / of().fold(1.0, |n, _| n + 1.0);
        let allowed = match usize::from(word.edits) {
            _ if self.is(M::NoTypos) => 0,
            0 if self.is(M::TyposInShortWords) && word.text.chars().count() == 3 => 1,
            2 if self.is(M::OneEditInLongWords) => 1,
            edits => edits,
        };
        let swap = if self.is(M::SwapsAreTwoEdits) { 2 } else { 1 };
        let typo = if self.is(M::TyposRankAsExact) { exact + 5.0 } else { 100.0 };
        let is_prefix = (word.is_prefix || self.is(M::PrefixOfEveryWord)) && !self.is(M::NoPrefixes);
        let worth = |(own, stem): (&String, &String)| {
            if *own == word.text {
                Some(exact + 5.0)
            } else if same_stem(own, stem) {
                Some(exact)
            } else if is_prefix && own.starts_with(&word.text) {
                Some(500.0)
            } else {
                (allowed > 0 && edits(&word.text, own, swap) <= allowed).then_some(typo)
            }
        };
        let pair = (split && source.of.pairs.iter().any(|own| same_stem(own, own))).then_some(exact);
        let best = of().filter_map(worth).chain(pair).max_by(f32::total_cmp)?;
        Some(best + source.weight + frequency)
    }

    /// Whether the document passes the filter; the filter on the field of `except` is left out.
    fn passes(&self, d: &SearchDocument, f: &SearchFilter, except: Option<Facet>) -> bool {
        let checked = |facet| {
            except != Some(facet) && !(except.is_some() && self.is(M::FacetsLeaveOutAllFilters))
                || (except.is_some() && self.is(M::FacetsTakeTheirOwnFilter))
        };
        let category = |c: &CategoryId| match self.mutant {
            Some(M::FirstCategoryOnly) => d.categories.first().is_some_and(|own| own.id == *c),
            _ => d.categories.iter().any(|own| own.id == *c),
        };
        let brand = |own: &String, wanted: &String| match self.mutant {
            Some(M::BrandsWithCase) => own == wanted,
            Some(M::BrandsByPrefix) => fold_key(own).starts_with(&fold_key(wanted)),
            _ => fold_key(own) == fold_key(wanted),
        };
        let tag = |wanted: &String| d.tags.iter().any(|own| fold_key(own) == fold_key(wanted));
        let tags = match self.mutant {
            Some(M::AnyTagMatches) => f.tags.is_empty() || f.tags.iter().any(tag),
            _ => f.tags.iter().all(tag),
        };
        let price = |holds: &dyn Fn(i64) -> bool| d.price.map_or(self.is(M::PricelessMatch), holds);
        let max = |max: i64| price(&|p| if self.is(M::MaxPriceExclusive) { p < max } else { p <= max });
        let rating = |min: i64| if self.is(M::MinRatingExclusive) { d.rating > min } else { d.rating >= min };
        let availability = match self.mutant {
            Some(M::FirstAvailabilityOnly) => f.availability.first() == Some(&d.availability),
            _ => f.availability.contains(&d.availability),
        };
        let ignores = |bug: M| self.is(bug) && except.is_some();
        (!checked(Facet::Categories) || f.categories.is_empty() || f.categories.iter().any(category))
            && (!checked(Facet::Brands)
                || f.brands.is_empty()
                || d.brand.as_ref().is_some_and(|own| f.brands.iter().any(|wanted| brand(own, wanted))))
            && (!checked(Facet::Tags) || tags)
            && (!checked(Facet::Prices)
                || (f.min_price.is_none_or(|min| price(&|p| p >= min.minor()))
                    && f.max_price.is_none_or(|m| max(m.minor()))))
            && (!checked(Facet::Rating) || f.min_rating.is_none_or(rating))
            && (!checked(Facet::Availability) || f.availability.is_empty() || availability)
            && (self.is(M::StatusIgnored) || ignores(M::FacetsIgnoreStatus) || f.status.is_none_or(|s| d.status == s))
            && (ignores(M::FacetsIgnoreAttributes) || f.attributes.iter().all(|(n, v)| self.attribute(d, n, v)))
    }

    fn attribute(&self, d: &SearchDocument, name: &str, wanted: &str) -> bool {
        let matches = |own: &Value| {
            let text = match own {
                Value::String(text) => text.clone(),
                _ if self.is(M::StringAttributesOnly) => return false,
                other => other.to_string(),
            };
            let (own, wanted) = (fold_key(&text), fold_key(wanted));
            if self.is(M::AttributesByPart) { own.contains(&wanted) } else { own == wanted }
        };
        let nested = || d.attributes.0.values().filter_map(|v| v.get(name)).any(matches);
        d.attributes.0.get(name).is_some_and(matches) || (self.is(M::NestedAttributes) && nested())
    }

    /// The values of a facet that a document has, as written, each with its key.
    fn values(&self, d: &SearchDocument, of: Facet, bounds: &[i64]) -> Vec<(String, String)> {
        let key = |text: &String| {
            let key = if self.is(M::SpellingsCountApart) { text.clone() } else { fold_key(text) };
            (key.clone(), if self.is(M::FacetsFoldWhatTheyShow) { key } else { text.trim().to_owned() })
        };
        let plain = |text: String| (text.clone(), text);
        let mut values: Vec<(String, String)> = match of {
            Facet::Categories => d.categories.iter().map(|c| plain(c.id.to_string())).collect(),
            Facet::Brands => d.brand.iter().map(key).collect(),
            Facet::Tags => d.tags.iter().map(key).collect(),
            Facet::Prices => d
                .price
                .and_then(|p| match bounds.iter().rfind(|b| **b <= p) {
                    None if self.is(M::PricesBelowTheFirstBoundCount) => bounds.first(),
                    bound => bound,
                })
                .map(|bound| plain(bound.to_string()))
                .into_iter()
                .collect(),
            Facet::Rating if self.is(M::StarsCountApart) => vec![plain((d.rating / 100).to_string())],
            Facet::Rating => {
                let half = if self.is(M::StarsAreRounded) { 50 } else { 0 };
                (1..=(d.rating + half) / 100).map(|stars| plain(stars.to_string())).collect()
            }
            Facet::Availability => vec![plain(d.availability.as_str().to_owned())],
        };
        let repeats = match of {
            Facet::Tags => self.is(M::RepeatedTagsCountTwice),
            Facet::Categories => self.is(M::RepeatedCategoriesCountTwice),
            _ => false,
        };
        if !repeats {
            let mut seen = BTreeSet::new();
            values.retain(|(key, _)| seen.insert(key.clone()));
        }
        values
    }

    fn facet<'a>(
        &self,
        of: Facet,
        documents: impl Iterator<Item = &'a SearchDocument>,
        bounds: &[i64],
    ) -> Vec<FacetCount> {
        // Key → count, and the spelling that is shown.
        let mut counted: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for (key, shown) in documents.flat_map(|d| self.values(d, of, bounds)) {
            counted.entry(key).or_insert((0, shown)).0 += 1;
        }
        let mut counts: Vec<FacetCount> =
            counted.into_values().map(|(count, value)| FacetCount { value, count }).collect();
        match of {
            Facet::Prices | Facet::Rating => counts.sort_by_key(|c| c.value.parse::<i64>().ok()),
            _ if self.is(M::FacetsByName) => counts.sort_by(|a, b| a.value.cmp(&b.value)),
            _ => counts.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value))),
        }
        if !self.is(M::FacetsOver100Values) {
            counts.truncate(100);
        }
        counts
    }

    fn order(&self, request: &SearchRequest, a: &Match<'_>, b: &Match<'_>) -> Ordering {
        let query = request.query();
        // Without a price after all others, in both directions.
        let last = |m: &Match<'_>| m.document.price.is_none() != self.is(M::PricelessFirst);
        let by_score = |a: &Match<'_>, b: &Match<'_>| b.score.points.total_cmp(&a.score.points);
        let newest = |m: &Match<'_>| Reverse(m.document.created_at);
        let has_text = request.has_text();
        let pinned = |m: &Match<'_>| request.pinned.iter().position(|id| *id == m.document.id).unwrap_or(usize::MAX);
        if query.sort == SearchSort::Relevance && !has_text && !self.is(M::PinnedNeedTheText) {
            let order = pinned(a).cmp(&pinned(b));
            if order.is_ne() {
                return order;
            }
        }
        let order = match query.sort {
            _ if has_text && self.is(M::SortIgnoredWithText) => by_score(a, b),
            SearchSort::Relevance if has_text => by_score(a, b),
            SearchSort::Relevance | SearchSort::CreatedDesc if self.is(M::OldestFirst) => newest(b).cmp(&newest(a)),
            SearchSort::Relevance | SearchSort::CreatedDesc => newest(a).cmp(&newest(b)),
            SearchSort::PriceAsc => (last(a), a.document.price).cmp(&(last(b), b.document.price)),
            SearchSort::PriceDesc => (last(a), Reverse(a.document.price)).cmp(&(last(b), Reverse(b.document.price))),
            SearchSort::RatingDesc if self.is(M::RatingAscending) => a.document.rating.cmp(&b.document.rating),
            SearchSort::RatingDesc => b.document.rating.cmp(&a.document.rating),
        };
        order.then_with(|| match self.mutant {
            Some(M::TiesByAge) => a.age.cmp(&b.age),
            _ => a.document.id.cmp(&b.document.id),
        })
    }

    /// Refuses what this provider can answer: each is a bug.
    fn refuse(&self, query: &SearchQuery) -> Result<()> {
        let f = &query.filter;
        let most = f.categories.len().max(f.brands.len()).max(f.tags.len()).max(f.availability.len());
        let field = match self.mutant {
            Some(M::DeepPagesRefused) if query.offset >= 1_000 => "offset",
            Some(M::ManyValuesRefused) if most > 32 => "filter",
            Some(M::LongTextsRefused) if query.text.chars().count() > 256 => "text",
            Some(M::HasTextAndRefuses) if !query.text.trim().is_empty() => {
                return Err(Error::Unsupported { provider: "reference", capability: "full_text" });
            }
            _ => return Ok(()),
        };
        Err(Error::invalid(field, FieldCode::OutOfBounds, "must be smaller"))
    }

    fn results(&self, index: &Index, request: &SearchRequest) -> SearchResults {
        let query = request.query();
        let found = index
            .live()
            .filter_map(|(e, document)| Some(Match { document, score: self.score(document, request)?, age: e.age }));
        let (found, most): (Vec<Match<'_>>, Vec<Match<'_>>) = found.partition(|m| m.score.is_whole);
        let counted = found.len();
        let mut hits: Vec<&Match<'_>> = found.iter().filter(|m| self.passes(m.document, &query.filter, None)).collect();
        if self.is(M::FacetsNarrowTheHits) && query.facets.contains(&Facet::Brands) {
            hits.retain(|m| m.document.brand.is_some());
        }
        hits.sort_by(|a, b| self.order(request, a, b));
        let total = if self.is(M::TotalIgnoresFilters) { counted } else { hits.len() };
        let mut rest: Vec<&Match<'_>> = most.iter().filter(|m| self.passes(m.document, &query.filter, None)).collect();
        if hits.len() >= query.limit as usize && !self.is(M::MostWordsAlwaysFollow) {
            rest.clear();
        }
        rest.sort_by(|a, b| self.order(request, a, b));
        if self.is(M::HiddenOnlyInHits) {
            hits.retain(|m| !request.hidden.contains(&m.document.id));
            rest.retain(|m| !request.hidden.contains(&m.document.id));
        }
        if self.is(M::MostWordsRankByAge) {
            rest.sort_by_key(|m| m.age);
        }
        let partial = rest.len();
        hits.extend(rest);
        let (total, partial) = if self.is(M::TotalHasWhatFollows) { (total + partial, 0) } else { (total, partial) };
        let skipped = if self.is(M::OffsetIgnored) { 0 } else { usize::try_from(query.offset).unwrap_or(usize::MAX) };
        let limit = match self.mutant {
            Some(M::LimitClamped) => query.limit.min(100),
            Some(M::LimitOffByOne) => query.limit + 1,
            _ => query.limit,
        };
        let page: Vec<&Match<'_>> = hits.into_iter().skip(skipped).take(limit as usize).collect();
        let total = if self.is(M::TotalOfThePage) { page.len() } else { total };
        let mut asked: Vec<Facet> = Vec::new();
        for facet in &query.facets {
            if !asked.contains(facet) {
                asked.push(*facet);
            }
        }
        if self.is(M::UnaskedFacets) {
            asked.reverse();
        }
        let facets = asked
            .into_iter()
            .map(|of| {
                let passes = |d: &&SearchDocument| self.passes(d, &query.filter, Some(of));
                let bounds = &query.price_bounds;
                let counts = match self.mutant {
                    Some(M::FacetsOfThePage) => self.facet(of, page.iter().map(|m| m.document), bounds),
                    Some(M::FacetsIgnoreText) => self.facet(of, index.live().map(|(_, d)| d).filter(passes), bounds),
                    _ => self.facet(of, found.iter().map(|m| m.document).filter(passes), bounds),
                };
                (of, counts)
            })
            .collect();
        SearchResults {
            hits: page.into_iter().map(|m| SearchHit { id: m.document.id, score: m.score.points }).collect(),
            total: Total { count: total as u64, exact: true },
            partial: partial as u64,
            facets,
        }
    }
}

#[async_trait]
impl SearchProvider for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn identity(&self) -> String {
        self.name().to_owned()
    }

    fn capabilities(&self) -> SearchCapabilities {
        let mut c = SearchCapabilities::default();
        c.full_text = true;
        c.facets = !self.is(M::LacksFacetsAndAnswers);
        c.disjunctive_facets = true;
        c.attribute_filters = true;
        c.merchandising = true;
        c.own_checkpoint = true;
        c.continues_builds = true;
        c
    }

    async fn search(&self, request: &SearchRequest) -> Result<SearchResults> {
        self.refuse(request.query())?;
        if let Some(seen) = &*self.seen.read() {
            return Ok(self.results(seen, request));
        }
        Ok(self.results(&self.index.read(), request))
    }

    async fn acquire_writer(&self) -> Result<bool> {
        let again = self.acquired.swap(true, Atomic::SeqCst);
        Ok(!(again && self.is(M::WriterForgotten)))
    }

    async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        Ok(self.index.read().checkpoint)
    }

    async fn apply(
        &self,
        mut ops: Vec<IndexOp>,
        known: Option<Checkpoint>,
        checkpoint: Checkpoint,
    ) -> Result<Option<Applied>> {
        let before = self.index.read().clone();
        if before.checkpoint != known && !self.is(M::CheckpointOfOthersIgnored) {
            return Ok(None);
        }
        if self.is(M::SeenLate) {
            *self.seen.write() = Some(before.clone());
        }
        let all = ops.len() as u64;
        if self.is(M::LastOfABatchWins) {
            let last: BTreeMap<ProductId, IndexOp> = ops.drain(..).map(|op| (op.id(), op)).collect();
            ops = last.into_values().collect();
        }
        if self.is(M::RebuildBlocksChanges) && self.rebuilding.load(Atomic::SeqCst) {
            ops.clear();
        }
        if self.is(M::CheckpointSeenEarly) {
            self.index.write().checkpoint = Some(checkpoint);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut applied = 0;
        if self.is(M::BatchesSeenInParts) {
            for op in ops {
                applied += u64::from(self.index.write().put(op, self.mutant));
                tokio::task::yield_now().await;
            }
        } else {
            let mut index = self.index.write();
            for op in ops {
                applied += u64::from(index.put(op, self.mutant));
            }
        }
        let moves = match self.mutant {
            Some(M::CheckpointNeedsDocuments) => applied > 0,
            Some(M::CheckpointOnlyRises) => before.checkpoint.is_none_or(|c| c.position < checkpoint.position),
            _ => true,
        };
        if moves {
            let database = if self.is(M::CheckpointForgetsTheDatabase) {
                before.checkpoint.map_or(checkpoint.database, |c| c.database)
            } else {
                checkpoint.database
            };
            let first = before.checkpoint.filter(|_| self.is(M::VersionForgotten));
            let version = first.map_or(checkpoint.version, |c| c.version);
            self.index.write().checkpoint = Some(Checkpoint { database, version, ..checkpoint });
        }
        self.save(before);
        let written = if self.is(M::AppliedCountsAllOps) { all } else { applied };
        Ok(Some(Applied { written, refused: 0 }))
    }

    async fn begin_rebuild(&self, start: BuildStart, since: Option<OutboxPosition>) -> Result<Box<dyn IndexBuild>> {
        self.rebuilding.store(true, Atomic::SeqCst);
        let mut place = self.build.lock();
        let continued = place.as_ref().and_then(|left| self.continued(left, start, since));
        let number = place.as_ref().map_or(0, |left| left.number) + 1;
        let left = place.take().filter(|_| continued.is_some());
        let mut left = left.unwrap_or(Unpublished { number, start, after: None, documents: Vec::new() });
        left.number = number;
        if self.is(M::ContinuedBuildsLoseDocuments) {
            left.documents.clear();
        }
        if self.is(M::ContinuedBuildsAheadOfDocuments) {
            left.documents.pop();
        }
        *place = Some(left);
        let (index, disk) = (self.index.clone(), self.disk.clone());
        let (place, rebuilding) = (self.build.clone(), self.rebuilding.clone());
        Ok(Box::new(Build { mutant: self.mutant, number, continued, place, index, disk, rebuilding }))
    }

    async fn release_writer(&self) -> Result<()> {
        if self.is(M::ReleaseEndsBuilds) {
            *self.build.lock() = None;
        }
        Ok(())
    }

    async fn revisions(&self, after: Option<ProductId>, limit: u32) -> Result<Vec<(ProductId, i64)>> {
        if self.is(M::RevisionsEndEarly) && after.is_some() {
            return Ok(Vec::new());
        }
        let index = self.index.read();
        let follows = |id: ProductId| match after {
            Some(after) if self.is(M::RevisionsRepeatTheLast) => id >= after,
            Some(after) => id > after,
            None => true,
        };
        let listed = |e: &Entry| e.document.is_some() || self.is(M::RevisionsListDeleted);
        let limit = if self.is(M::RevisionsIgnoreTheLimit) { usize::MAX } else { limit as usize };
        let live = index.entries.iter().filter(|(id, e)| follows(**id) && listed(e));
        let mut page: Vec<(ProductId, i64)> = live.map(|(id, e)| (*id, e.revision)).take(limit).collect();
        if self.is(M::RevisionsFalling) {
            page.reverse();
        }
        Ok(page)
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

/// A build that is not published.
#[derive(Debug, Clone)]
struct Unpublished {
    /// The number of the call that has begun or continued it.
    number: u64,
    start: BuildStart,
    after: Option<ProductId>,
    documents: Vec<SearchDocument>,
}

impl Reference {
    /// Returns the progress of the build that was left, if it is to be continued.
    fn continued(&self, left: &Unpublished, start: BuildStart, since: Option<OutboxPosition>) -> Option<BuildProgress> {
        let since = if self.is(M::BuildsContinueUnasked) { since.or(Some(left.start.position)) } else { since }?;
        let progress = BuildProgress { start: left.start, after: left.after? };
        let (mut asked, mut since) = (start, since);
        match self.mutant {
            Some(M::BuildsNeverContinue) => return None,
            Some(M::OtherDatabasesContinue) => asked.database = left.start.database,
            Some(M::OtherLanguagesContinue) => asked.language = left.start.language,
            Some(M::OldBuildsContinue) => since = since.min(left.start.position),
            Some(M::LaterBuildsContinue) => asked.position = asked.position.max(left.start.position),
            _ => {}
        }
        let mut progress = Some(progress).filter(|progress| progress.fits(&asked, since))?;
        if self.is(M::ContinuedBuildsStartLater) {
            progress.start = start;
        }
        if self.is(M::ContinuedBuildsBeginAgain) {
            progress.after = left.documents.iter().map(|document| document.id).nth(2)?;
        }
        Some(progress)
    }
}

struct Build {
    mutant: Option<M>,
    number: u64,
    continued: Option<BuildProgress>,
    place: Arc<Mutex<Option<Unpublished>>>,
    index: Arc<RwLock<Index>>,
    disk: Arc<Mutex<Index>>,
    rebuilding: Arc<AtomicBool>,
}

impl Build {
    fn install(&self, documents: &[SearchDocument], checkpoint: Checkpoint) {
        let mut index = self.index.write();
        let mut next = Index { checkpoint: Some(checkpoint), ..Index::default() };
        if self.mutant == Some(M::RebuildMerges) {
            next.entries = std::mem::take(&mut index.entries);
        }
        for document in documents {
            let entry = Entry { revision: document.revision, age: next.written, document: Some(document.clone()) };
            next.entries.insert(document.id, entry);
        }
        if self.mutant == Some(M::RebuildKeepsItsCheckpoint) {
            next.checkpoint = index.checkpoint;
        }
        *index = next.clone();
        if !matches!(self.mutant, Some(M::PublishNotDurable | M::NotDurable)) {
            *self.disk.lock() = next;
        }
    }

    /// Returns whether this build was neither published nor continued nor removed.
    fn is_mine(&self, build: &Unpublished) -> bool {
        build.number == self.number || self.mutant == Some(M::LateDocumentsOfABuildWin)
    }

    fn gone() -> Error {
        Error::unavailable(ecom_core::Dependency::Search, "the build is gone")
    }
}

#[async_trait]
impl IndexBuild for Build {
    fn continued(&self) -> Option<BuildProgress> {
        self.continued
    }

    async fn add(&mut self, documents: Vec<SearchDocument>, after: ProductId) -> Result<()> {
        let mut place = self.place.lock();
        let build = place.as_mut().filter(|build| self.is_mine(build)).ok_or_else(Self::gone)?;
        build.after = Some(after);
        match self.mutant {
            Some(M::RebuildKeepsTheLastBatch) => build.documents = documents,
            Some(M::RebuildServesEarly) => {
                for document in documents {
                    self.index.write().put(IndexOp::Upsert(Box::new(document.clone())), None);
                    build.documents.push(document);
                }
            }
            _ => build.documents.extend(documents),
        }
        Ok(())
    }

    async fn publish(self: Box<Self>, checkpoint: Checkpoint) -> Result<u64> {
        let mut place = self.place.lock();
        let is_mine =
            |build: &&mut Unpublished| build.number == self.number || self.mutant == Some(M::BuildsArePublishedTwice);
        let build = place.as_mut().filter(is_mine).ok_or_else(Self::gone)?;
        self.install(&build.documents, checkpoint);
        if !matches!(self.mutant, Some(M::PublishedBuildsContinue | M::BuildsArePublishedTwice)) {
            *place = None;
        }
        drop(place);
        Ok(0)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.rebuilding.store(false, Atomic::SeqCst);
        if self.mutant == Some(M::DroppedRebuildPublishes)
            && let Some(build) = self.place.lock().take()
        {
            let version = Uuid::nil();
            let BuildStart { database, position, language } = build.start;
            self.install(&build.documents, Checkpoint { database, position, version, language });
        }
    }
}
