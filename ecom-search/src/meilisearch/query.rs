//! Translates a search into filters of the server.
//!
//! A document matches a text if it has each of its words in one of their ways, in any field. All of this is in the
//! filter, so totals and facets are exact, and the server sorts by any field. [`super::rank`] sorts by relevance.

use std::collections::{BTreeMap, BTreeSet};

use ecom_core::id::ProductId;
use ecom_core::money::Money;
use ecom_core::search::{Boost, Facet, Matching, SearchFilter, SearchRequest, SearchSort, Slot, Way, Word};
use ecom_core::text::fold_key;

use super::mapping::{SOURCES, field, value};
use crate::terms::attribute_key;

/// The words of the index that a typed word may stand for, if it was mistyped.
pub(super) type Typos = BTreeMap<String, BTreeSet<String>>;

/// The filters of a search.
pub(super) struct Filters<'a> {
    request: &'a SearchRequest,
    typos: &'a Typos,
}

/// Returns the words of a request that may be mistyped, with the number of edits.
pub(super) fn mistyped(request: &SearchRequest) -> BTreeMap<&str, usize> {
    let words = request.text().slots.iter().flat_map(|slot| &slot.ways).flat_map(Way::words);
    words.filter(|word| word.edits > 0).map(|word| (word.text.as_str(), word.edits.into())).collect()
}

/// Returns a text as a value in a filter.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

pub(super) fn equals(field: &str, text: &str) -> String {
    format!("{field} = {}", quoted(text))
}

pub(super) fn is_one_of<T: AsRef<str>>(field: &str, texts: impl IntoIterator<Item = T>) -> String {
    let list: Vec<String> = texts.into_iter().map(|text| quoted(text.as_ref())).collect();
    if list.is_empty() { nothing() } else { format!("{field} IN [{}]", list.join(",")) }
}

/// Matches no document.
fn nothing() -> String {
    equals(field::LIVE, "nothing")
}

pub(super) fn any(mut clauses: Vec<String>) -> String {
    match clauses.len() {
        0 => nothing(),
        1 => clauses.remove(0),
        _ => format!("({})", clauses.join(" OR ")),
    }
}

/// There must be at least one clause.
pub(super) fn all(mut clauses: Vec<String>) -> String {
    if clauses.len() == 1 { clauses.remove(0) } else { format!("({})", clauses.join(" AND ")) }
}

pub(super) fn not(clause: &str) -> String {
    format!("NOT ({clause})")
}

pub(super) fn products(ids: &[ProductId]) -> String {
    is_one_of(field::ID, ids.iter().map(ToString::to_string))
}

/// Which matches of a word count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Every match.
    Any,
    /// The word itself or one with the same stem: neither a synonym, nor a longer word, nor one with other letters.
    Exact,
    /// As [`Kind::Exact`], in the first sources alone.
    ExactIn(usize),
}

/// The terms of a word, of which a document needs one.
#[derive(Default)]
struct Terms {
    stems: BTreeSet<String>,
    pairs: BTreeSet<String>,
    words: BTreeSet<String>,
    codes: BTreeSet<String>,
    clauses: BTreeSet<String>,
}

impl Terms {
    fn clause(self, kind: Kind) -> String {
        let mut clauses = Vec::new();
        let mut add = |field: &str, texts: &BTreeSet<String>| {
            if !texts.is_empty() {
                clauses.push(is_one_of(field, texts));
            }
        };
        if let Kind::ExactIn(sources) = kind {
            let both: BTreeSet<String> = self.stems.union(&self.pairs).cloned().collect();
            for source in &SOURCES[..sources] {
                add(&source.field(), &both);
            }
        } else {
            add(field::STEMS, &self.stems);
            add(field::PAIRS, &self.pairs);
            add(field::WORDS, &self.words);
            add(field::CODES, &self.codes);
        }
        clauses.extend(self.clauses);
        any(clauses)
    }
}

impl<'a> Filters<'a> {
    pub(super) fn new(request: &'a SearchRequest, typos: &'a Typos) -> Self {
        Self { request, typos }
    }

    /// Returns the filter of live products that are not hidden and pass the filters of the query, except those on the
    /// fields of these facets. `found` is the filter of the text, if there is one.
    pub(super) fn filter(&self, found: Option<&str>, except: &[Facet]) -> String {
        let mut clauses = vec![format!("{} = true", field::LIVE)];
        clauses.extend(filter_clauses(&self.request.query().filter, |facet| !except.contains(&facet)));
        clauses.extend(found.map(str::to_owned));
        if !self.request.hidden.is_empty() {
            clauses.push(not(&products(&self.request.hidden)));
        }
        all(clauses)
    }

    /// Returns the filter of the text alone; `None` if every product matches.
    fn text(&self) -> Option<String> {
        let slots = &self.request.text().slots;
        self.request.has_text().then(|| match self.request.matching {
            Matching::All | Matching::AllThenMost => self.all_words(Kind::Any),
            Matching::Any => any(slots.iter().map(|slot| self.slot(slot, Kind::Any)).collect()),
        })
    }

    /// Returns the filter of the text and of the pinned products; `None` if every product matches.
    pub(super) fn matches(&self) -> Option<String> {
        let text = self.text()?;
        Some(if self.request.pinned.is_empty() { text } else { any(vec![text, products(&self.request.pinned)]) })
    }

    /// Returns the filter of products that match at least `fewer` of the required words and are no matches.
    pub(super) fn most_words(&self, fewer: usize) -> String {
        all(vec![self.at_least(fewer, Kind::Any), not(&self.matches().unwrap_or_else(nothing))])
    }

    /// Returns filters of which the earlier ones have the better matches, roughly: each product has the first one that
    /// it passes. The last one has all matches.
    pub(super) fn tiers(&self) -> Vec<String> {
        let required = self.request.text().slots.iter().filter(|slot| !slot.is_optional).count();
        let mut tiers = Vec::new();
        if !self.request.pinned.is_empty() {
            tiers.push(products(&self.request.pinned));
        }
        let raised: Vec<String> =
            self.request.boosts.iter().filter(|boost| boost.factor > 1.0).map(boost_clause).collect();
        let mut by_match: Vec<String> =
            [Kind::ExactIn(1), Kind::ExactIn(2), Kind::Exact].map(|kind| self.all_words(kind)).into();
        if self.request.matching == Matching::Any && required > 1 {
            by_match.push(self.at_least(required, Kind::Any));
            by_match.push(self.at_least(required.div_ceil(2), Kind::Any));
        }
        by_match.push(self.matches().unwrap_or_else(nothing));
        if !raised.is_empty() {
            let raised = any(raised);
            tiers.extend(by_match.iter().map(|tier| all(vec![tier.clone(), raised.clone()])));
        }
        tiers.extend(by_match);
        tiers
    }

    /// Returns the tiers of products with at least `fewer` of the required words and not all of them: those with more
    /// of them are first, and of these the ones that have them in the title.
    pub(super) fn tiers_of_most(&self, fewer: usize) -> Vec<String> {
        let required = self.request.text().slots.iter().filter(|slot| !slot.is_optional).count();
        let tiers = |n| [Kind::ExactIn(1), Kind::Any].map(|kind| self.at_least(n, kind));
        (fewer..required).rev().flat_map(tiers).collect()
    }

    /// Matches if all required words match.
    fn all_words(&self, kind: Kind) -> String {
        let required = self.request.text().slots.iter().filter(|slot| !slot.is_optional);
        let clauses: BTreeSet<String> = required.map(|slot| self.slot(slot, kind)).collect();
        // Punctuation alone matches nothing.
        if clauses.is_empty() { nothing() } else { all(clauses.into_iter().collect()) }
    }

    /// Matches if at least `n` of the required words match.
    fn at_least(&self, n: usize, kind: Kind) -> String {
        let mut words: BTreeMap<String, usize> = BTreeMap::new();
        for slot in self.request.text().slots.iter().filter(|slot| !slot.is_optional) {
            *words.entry(self.slot(slot, kind)).or_default() += 1;
        }
        at_least(n, &words.into_iter().collect::<Vec<_>>())
    }

    /// Matches a word of the query in one of its ways.
    fn slot(&self, slot: &Slot, kind: Kind) -> String {
        let mut terms = Terms::default();
        for way in &slot.ways {
            match way {
                Way::Word(word) => self.word(word, true, kind, &mut terms),
                Way::Joined(word) => self.word(word, false, kind, &mut terms),
                Way::Code(form) => {
                    if !matches!(kind, Kind::ExactIn(_)) {
                        terms.codes.insert(value(form));
                    }
                }
                Way::All(words) => {
                    let each = words.iter().map(|word| {
                        let mut terms = Terms::default();
                        self.word(word, true, kind, &mut terms);
                        terms.clause(kind)
                    });
                    terms.clauses.insert(all(each.collect()));
                }
                Way::Synonym(_) if kind != Kind::Any => {}
                Way::Synonym(words) => {
                    // One word is in a field if it is in any.
                    if let [word] = words.as_slice() {
                        terms.stems.insert(word.stem.clone());
                        terms.pairs.insert(word.stem.clone());
                        continue;
                    }
                    for source in SOURCES {
                        let each = words.iter().map(|word| equals(&source.field(), &word.stem));
                        terms.clauses.insert(all(each.collect()));
                    }
                }
            }
        }
        terms.clause(kind)
    }

    /// Adds the terms of a word, and also two neighbors of a document that are the word together if `split`.
    fn word(&self, word: &Word, split: bool, kind: Kind, terms: &mut Terms) {
        terms.stems.insert(word.stem.clone());
        if split {
            terms.pairs.insert(word.stem.clone());
        }
        if kind != Kind::Any {
            return;
        }
        if word.is_prefix {
            terms.clauses.insert(format!("{} STARTS WITH {}", field::WORDS, quoted(&word.text)));
        }
        if word.edits > 0 {
            terms.words.extend(self.typos.get(&word.text).into_iter().flatten().cloned());
        }
    }

    /// Returns the order of hits that are not sorted by their scores.
    pub(super) fn sort(&self) -> Vec<String> {
        let first = match self.request.query().sort {
            SearchSort::Relevance if self.request.is_scored() => format!("{}:asc", field::LENGTH),
            SearchSort::Relevance | SearchSort::CreatedDesc => format!("{}:desc", field::CREATED),
            SearchSort::PriceAsc => format!("{}:asc", field::PRICE),
            SearchSort::PriceDesc => format!("{}:desc", field::PRICE),
            SearchSort::RatingDesc => format!("{}:desc", field::RATING),
        };
        vec![first, format!("{}:asc", field::ID)]
    }
}

/// Matches if words with a total weight of at least `n` match. The words are divided into halves, so that the filter
/// does not list each combination: it has 400 words for 8 of 16, of which there are 12,870 combinations.
fn at_least(n: usize, words: &[(String, usize)]) -> String {
    let weight = |words: &[(String, usize)]| words.iter().map(|(_, weight)| weight).sum::<usize>();
    if n > weight(words) {
        return nothing();
    }
    if let [(word, _)] = words {
        return word.clone();
    }
    let (left, right) = words.split_at(words.len() / 2);
    let (fewest, most) = (n.saturating_sub(weight(right)), n.min(weight(left)));
    let divided = (fewest..=most).map(|of_left| match (of_left, n - of_left) {
        (0, of_right) => at_least(of_right, right),
        (of_left, 0) => at_least(of_left, left),
        (of_left, of_right) => all(vec![at_least(of_left, left), at_least(of_right, right)]),
    });
    any(divided.collect())
}

pub(super) fn boost_clause(boost: &Boost) -> String {
    let clauses = filter_clauses(&boost.filter, |_| true);
    if clauses.is_empty() { format!("{} = true", field::LIVE) } else { all(clauses) }
}

/// Returns the clauses of the filters on the fields of the facets that `includes` accepts, and on fields without a
/// facet.
fn filter_clauses(f: &SearchFilter, includes: impl Fn(Facet) -> bool) -> Vec<String> {
    let mut clauses = Vec::new();
    if !f.categories.is_empty() && includes(Facet::Categories) {
        clauses.push(is_one_of(field::CATEGORY, f.categories.iter().map(ToString::to_string)));
    }
    if !f.brands.is_empty() && includes(Facet::Brands) {
        clauses.push(is_one_of(field::BRAND_KEY, f.brands.iter().map(|brand| value(&fold_key(brand)))));
    }
    if includes(Facet::Tags) {
        let keys: BTreeSet<String> = f.tags.iter().map(|tag| value(&fold_key(tag))).collect();
        clauses.extend(keys.iter().map(|key| equals(field::TAG_KEY, key)));
    }
    if includes(Facet::Prices) {
        clauses.extend(f.min_price.map(|low| format!("{} >= {}", field::PRICE, low.minor())));
        clauses.extend(f.max_price.map(|high| format!("{} <= {}", field::PRICE, Money::minor(high))));
    }
    if let Some(low) = f.min_rating.filter(|_| includes(Facet::Rating)) {
        clauses.push(format!("{} >= {low}", field::RATING));
    }
    if !f.availability.is_empty() && includes(Facet::Availability) {
        let names: BTreeSet<&str> = f.availability.iter().map(|a| a.as_str()).collect();
        clauses.push(is_one_of(field::AVAILABILITY, names));
    }
    if let Some(status) = f.status {
        clauses.push(equals(field::STATUS, status.as_str()));
    }
    let attributes = f.attributes.iter().map(|(name, v)| value(&attribute_key(name, v)));
    clauses.extend(attributes.collect::<BTreeSet<_>>().iter().map(|term| equals(field::ATTRIBUTE, term)));
    clauses
}

/// Returns whether the filter on the field of a facet is set.
pub(super) fn filters(f: &SearchFilter, facet: Facet) -> bool {
    match facet {
        Facet::Categories => !f.categories.is_empty(),
        Facet::Brands => !f.brands.is_empty(),
        Facet::Prices => f.min_price.or(f.max_price).is_some(),
        Facet::Tags => !f.tags.is_empty(),
        Facet::Rating => f.min_rating.is_some(),
        Facet::Availability => !f.availability.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted() {
        assert_eq!(equals("f", "a\"b\\c'"), r#"f = "a\"b\\c'""#);
        assert_eq!(is_one_of("f", ["a", "b"]), r#"f IN ["a","b"]"#);
    }

    /// The filter of some of the words, read as a formula, agrees with counting.
    #[test]
    fn at_least_some_words_are_counted() {
        fn holds(formula: &str, has: u32) -> bool {
            fn expression(text: &mut &str, has: u32) -> bool {
                if let Some(rest) = text.strip_prefix('(') {
                    *text = rest;
                    let mut truth = expression(text, has);
                    loop {
                        if let Some(rest) = text.strip_prefix(" OR ") {
                            *text = rest;
                            truth |= expression(text, has);
                        } else if let Some(rest) = text.strip_prefix(" AND ") {
                            *text = rest;
                            truth &= expression(text, has);
                        } else {
                            *text = text.strip_prefix(')').unwrap();
                            return truth;
                        }
                    }
                }
                let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
                *text = &text[digits.len()..];
                has & (1 << digits.parse::<u32>().unwrap()) != 0
            }
            expression(&mut &*formula, has)
        }
        for weights in [&[1, 1, 1, 1, 1][..], &[3, 1, 1], &[1, 1], &[2, 2, 1, 1, 1, 1, 1]] {
            let words: Vec<(String, usize)> = weights.iter().enumerate().map(|(n, w)| (n.to_string(), *w)).collect();
            for n in 1..=weights.iter().sum() {
                let formula = at_least(n, &words);
                for has in 0..1_u32 << weights.len() {
                    let weight: usize =
                        weights.iter().enumerate().filter(|(i, _)| has & (1 << i) != 0).map(|(_, w)| w).sum();
                    assert_eq!(holds(&formula, has), weight >= n, "{n} of {weights:?}: {formula}");
                }
            }
        }
        let words: Vec<(String, usize)> = (0..16).map(|n| (n.to_string(), 1)).collect();
        assert!(at_least(8, &words).matches(char::is_numeric).count() < 1_000);
        let words: Vec<(String, usize)> = (0..32).map(|n| (n.to_string(), 1)).collect();
        assert!(at_least(16, &words).len() < 100_000, "{}", at_least(16, &words).len());
    }
}
