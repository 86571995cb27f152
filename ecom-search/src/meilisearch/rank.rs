//! Sorts matches by relevance, with the scores of the other engines ([`crate::ranking`]).

use std::collections::HashMap;

use ecom_core::id::ProductId;
use ecom_core::money::Money;
use ecom_core::port::SearchHit;
use ecom_core::search::{Matching, SearchFilter, SearchRequest, Slot, Way, Word};
use ecom_core::text::fold_key;
use serde::Deserialize;

use super::mapping::{SOURCES, value};
use super::query::Typos;
use crate::ranking::{AS_WRITTEN, EXACT, FREQUENCY, OPTIONAL, PER_WORD, PINNED, PREFIX, SYNONYM, TYPO, Weight};
use crate::terms::attribute_key;

/// A hit with what its score depends on.
#[derive(Debug, Deserialize)]
pub(super) struct Candidate {
    pub(super) id: ProductId,
    #[serde(default)]
    search: Words,
    price: Option<i64>,
    #[serde(default)]
    rating: i64,
    #[serde(default)]
    availability: String,
    #[serde(default)]
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Words {
    /// The stems, words and pairs of each source.
    rank: HashMap<String, [String; 3]>,
    codes: Vec<String>,
    category: Vec<String>,
    brand_key: Option<String>,
    tag_key: Vec<String>,
    attribute: Vec<String>,
}

/// How a source of a document has a word of the query.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    stem: u16,
    is_written: bool,
    is_pair: bool,
    is_prefix: bool,
    is_typo: bool,
}

/// The words of a query by the forms in which a document has them.
pub(super) struct Ranking<'a> {
    request: &'a SearchRequest,
    /// Each different word, by its position.
    words: Vec<&'a Word>,
    by_stem: HashMap<&'a str, Vec<usize>>,
    by_word: HashMap<&'a str, Vec<usize>>,
    by_typo: HashMap<&'a str, Vec<usize>>,
    prefixes: Vec<(&'a str, usize)>,
}

/// What a document has of the words of the query: for each source its number of words, and for each word how it has it.
type Has = [(f32, Vec<Seen>); SOURCES.len()];

/// Which of the words a document must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Matches,
    Most,
}

impl<'a> Ranking<'a> {
    pub(super) fn new(request: &'a SearchRequest, typos: &'a Typos) -> Self {
        let mut ranking = Self {
            request,
            words: Vec::new(),
            by_stem: HashMap::new(),
            by_word: HashMap::new(),
            by_typo: HashMap::new(),
            prefixes: Vec::new(),
        };
        for word in request.text().slots.iter().flat_map(|slot| &slot.ways).flat_map(Way::words) {
            if ranking.words.contains(&word) {
                continue;
            }
            let at = ranking.words.len();
            ranking.words.push(word);
            ranking.by_stem.entry(&word.stem).or_default().push(at);
            ranking.by_word.entry(&word.text).or_default().push(at);
            if word.is_prefix {
                ranking.prefixes.push((&word.text, at));
            }
            if word.edits > 0 {
                for typo in typos.get(&word.text).into_iter().flatten() {
                    ranking.by_typo.entry(typo).or_default().push(at);
                }
            }
        }
        ranking
    }

    /// Returns the hits of candidates, best first. Equal ones are ordered by id.
    pub(super) fn hits(&self, candidates: &[Candidate], wanted: Wanted) -> Vec<SearchHit> {
        let mut hits: Vec<SearchHit> = candidates
            .iter()
            .map(|candidate| SearchHit { id: candidate.id, score: self.score(candidate, wanted) })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits
    }

    fn score(&self, candidate: &Candidate, wanted: Wanted) -> f32 {
        let pinned = &self.request.pinned;
        if let Some(at) = pinned.iter().position(|id| *id == candidate.id).filter(|_| wanted == Wanted::Matches) {
            // At most 200 products are pinned.
            return PINNED * f32::from(u16::try_from(pinned.len() - at).unwrap_or(u16::MAX));
        }
        let has = self.has(candidate);
        let per_word = if wanted == Wanted::Most || self.request.matching == Matching::Any { PER_WORD } else { 0.0 };
        let mut score = 0.0;
        for slot in &self.request.text().slots {
            let (per_word, times) = match (slot.is_optional, wanted) {
                (false, _) => (per_word, 1.0),
                (true, Wanted::Matches) => (per_word, OPTIONAL),
                (true, Wanted::Most) => (0.0, OPTIONAL),
            };
            score += self.slot(slot, &has, candidate, per_word).unwrap_or(0.0) * times;
        }
        let boosts = self.request.boosts.iter().filter(|boost| candidate.passes(&boost.filter));
        score * SearchRequest::factor(boosts.map(|boost| boost.factor))
    }

    fn has(&self, candidate: &Candidate) -> Has {
        SOURCES.map(|source| {
            let mut seen = vec![Seen::default(); self.words.len()];
            let Some([stems, words, pairs]) = candidate.search.rank.get(source.name) else { return (0.0, seen) };
            let mut length = 0.0;
            for stem in stems.split(' ') {
                length += 1.0;
                for at in self.by_stem.get(stem).into_iter().flatten() {
                    seen[*at].stem = seen[*at].stem.saturating_add(1);
                }
            }
            for pair in pairs.split(' ') {
                self.by_stem.get(pair).into_iter().flatten().for_each(|at| seen[*at].is_pair = true);
            }
            for word in words.split(' ') {
                self.by_word.get(word).into_iter().flatten().for_each(|at| seen[*at].is_written = true);
                self.by_typo.get(word).into_iter().flatten().for_each(|at| seen[*at].is_typo = true);
                let begins = self.prefixes.iter().filter(|(prefix, _)| word.starts_with(prefix));
                begins.for_each(|(_, at)| seen[*at].is_prefix = true);
            }
            (length, seen)
        })
    }

    /// Returns the score of a word of the query in the best of its ways.
    fn slot(&self, slot: &Slot, has: &Has, candidate: &Candidate, per_word: f32) -> Option<f32> {
        let ways = slot.ways.iter().filter_map(|way| match way {
            Way::Word(word) => self.word(word, has, true, per_word),
            Way::Joined(word) => self.word(word, has, false, per_word),
            Way::All(words) => {
                let each: Option<Vec<f32>> = words.iter().map(|word| self.word(word, has, true, per_word)).collect();
                let share = 1.0 / f32::from(u16::try_from(words.len()).unwrap_or(u16::MAX));
                Some(each?.into_iter().sum::<f32>() * share)
            }
            Way::Synonym(words) => {
                let sources = SOURCES.iter().zip(has).filter(|(_, (_, seen))| {
                    words.iter().all(|word| self.position(word).is_some_and(|at| seen[at].stem > 0 || seen[at].is_pair))
                });
                sources.map(|(source, _)| per_word + SYNONYM + source.weight).max_by(f32::total_cmp)
            }
            Way::Code(form) => {
                let form = value(form);
                candidate.search.codes.contains(&form).then_some(per_word + EXACT + Weight::CODES)
            }
        });
        ways.max_by(f32::total_cmp)
    }

    fn position(&self, word: &Word) -> Option<usize> {
        self.words.iter().position(|other| *other == word)
    }

    fn word(&self, word: &Word, has: &Has, split: bool, per_word: f32) -> Option<f32> {
        let at = self.position(word)?;
        let mut best: Option<f32> = None;
        let mut frequency = 0.0;
        for (source, (length, seen)) in SOURCES.iter().zip(has) {
            let seen = seen[at];
            let exact = seen.stem > 0 || (split && seen.is_pair);
            let ways =
                [(exact, EXACT), (seen.is_written, EXACT + AS_WRITTEN), (seen.is_prefix, PREFIX), (seen.is_typo, TYPO)];
            let score = ways.iter().filter(|(is_found, _)| *is_found).map(|(_, score)| *score).max_by(f32::total_cmp);
            best = best.max_by_score(score.map(|score| per_word + score + source.weight));
            frequency += FREQUENCY * source.weight * bm25(seen.stem, *length, source.usual_words);
        }
        best.map(|best| best + frequency)
    }
}

trait MaxByScore {
    fn max_by_score(self, other: Self) -> Self;
}

impl MaxByScore for Option<f32> {
    fn max_by_score(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        }
    }
}

/// Returns how often a field has a word, weighed against its length, by the formula of BM25 with k1 = 1.2 and b = 0.75.
/// How rare the word is in the index is left out.
fn bm25(times: u16, length: f32, usual_length: f32) -> f32 {
    let times = f32::from(times);
    times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / usual_length))
}

impl Candidate {
    /// Returns whether a filter finds the product.
    fn passes(&self, f: &SearchFilter) -> bool {
        let search = &self.search;
        let has = |list: &[String], term: &str| list.iter().any(|own| own == term);
        (f.categories.is_empty() || f.categories.iter().any(|c| has(&search.category, &c.to_string())))
            && (f.brands.is_empty()
                || search.brand_key.as_ref().is_some_and(|own| f.brands.iter().any(|b| *own == value(&fold_key(b)))))
            && f.tags.iter().all(|tag| has(&search.tag_key, &value(&fold_key(tag))))
            && f.min_price.is_none_or(|low| self.price.is_some_and(|price| price >= low.minor()))
            && f.max_price.is_none_or(|high| self.price.is_some_and(|price| price <= Money::minor(high)))
            && f.min_rating.is_none_or(|low| self.rating >= low)
            && (f.availability.is_empty() || f.availability.iter().any(|a| a.as_str() == self.availability))
            && f.status.is_none_or(|status| status.as_str() == self.status)
            && f.attributes.iter().all(|(name, v)| has(&search.attribute, &value(&attribute_key(name, v))))
    }
}
