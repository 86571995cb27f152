//! Words that find what other words find.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::language::Language;
use super::query_text::Word;
use super::text::{Chunk, chunks, count, texts};
use crate::error::{Error, FieldCode, Result, ValidationErrors};
use crate::text::check_text;

/// A group of synonyms, two-way or one-way.
///
/// They are compared by their stems, without case, accents, spaces and hyphens: `T-Shirts` is `t shirt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Synonym {
    /// If it is set, the synonyms are one-way: a search for this word or phrase also finds the products of `synonyms`,
    /// but not the reverse. Otherwise a search for any of `synonyms` also finds the products of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The words or phrases: at most 20, and at least 2 without `input`. A phrase has at most 8 words and 100
    /// characters.
    pub synonyms: Vec<String>,
}

/// All synonyms of a shop, ready for use.
#[derive(Debug, Clone, Default)]
pub struct Synonyms {
    /// The synonyms of each phrase, by its [`keys`].
    ways: HashMap<String, Vec<Vec<Word>>>,
    /// The largest number of chunks of a phrase, if a query writes each part apart.
    longest: usize,
    language: Language,
}

/// The most fields that an error names.
const MOST_ERRORS: usize = 100;

/// A part of a query that has synonyms.
pub(super) struct Found {
    /// Which chunks of the query have the synonyms.
    pub(super) at: Range<usize>,
    /// The words of each synonym.
    pub(super) ways: Vec<Vec<Word>>,
}

/// The entry of a phrase: its keys, and its words.
struct Phrase {
    keys: Vec<String>,
    /// The words of the phrase; and if it has several, a second way with all of them joined to one word.
    ways: Vec<Vec<Word>>,
    parts: usize,
}

impl Synonyms {
    /// The maximum number of entries.
    pub const MAX_ENTRIES: usize = 5_000;
    /// The maximum number of words and phrases in [`Synonym::synonyms`].
    pub const MAX_SYNONYMS: usize = 20;
    /// The maximum number of characters of a word or phrase.
    pub const MAX_PHRASE: usize = 100;
    /// The maximum number of words in a phrase.
    pub const MAX_WORDS: usize = 8;
    /// The maximum number of synonyms of one phrase over all entries. Further ones are not used.
    pub const MAX_WAYS: usize = 50;
    /// The maximum number of words and phrases in all entries.
    pub const MAX_PHRASES: usize = 20_000;

    /// Returns no synonyms, for searches in this language.
    pub fn none(language: Language) -> Self {
        Self { language, ..Self::default() }
    }

    /// Returns the language of the synonyms and of the searches that use them.
    pub const fn language(&self) -> Language {
        self.language
    }

    /// Returns the synonyms that these entries make in a language. They are not transitive: an entry with `a` and `b`
    /// and another one with `b` and `c` do not make `a` find `c`.
    ///
    /// # Errors
    /// `Validation` with each entry that is out of bounds, has no word, or repeats a phrase, and with the entries with
    /// an `input` that form a cycle. It names at most 100 fields.
    pub fn new(entries: &[Synonym], language: Language) -> Result<Self> {
        let mut errors = ValidationErrors::default();
        let phrases: usize = entries.iter().map(|entry| entry.synonyms.len()).sum();
        if entries.len() > Self::MAX_ENTRIES {
            errors.out_of_bounds("synonyms", format!("must have at most {} entries", Self::MAX_ENTRIES));
        } else if phrases > Self::MAX_PHRASES {
            let most = Self::MAX_PHRASES;
            errors.out_of_bounds("synonyms", format!("must have at most {most} words and phrases in all entries"));
        }
        if !errors.0.is_empty() {
            return Err(Error::Validation(errors));
        }
        let mut all = Self::none(language);
        // Key of an input → keys that it leads to, with the entry.
        let mut leads: HashMap<String, Vec<(String, usize)>> = HashMap::new();
        for (i, entry) in entries.iter().enumerate() {
            if errors.0.len() >= MOST_ERRORS {
                break;
            }
            let Some((input, others)) = entry.read(&format!("synonyms[{i}]"), language, &mut errors) else { continue };
            for from in input.iter().flat_map(|input| &input.keys) {
                let to = others.iter().flat_map(|other| &other.keys).filter(|key| *key != from);
                leads.entry(from.clone()).or_default().extend(to.map(|key| (key.clone(), i)));
            }
            all.add(input.as_ref(), &others);
        }
        for i in cycles(&leads).into_iter().take(MOST_ERRORS) {
            let why = "must not be part of a cycle of entries with `input`: list words that mean the same in one entry \
                       without `input`";
            errors.push(format!("synonyms[{i}]"), FieldCode::Inconsistent, why);
        }
        errors.into_result()?;
        Ok(all)
    }

    /// Returns the synonyms of stored entries, which were checked when they were written. An entry that is not valid
    /// any more is left out: another release may cut words differently.
    pub(crate) fn stored(entries: &[Synonym], language: Language) -> Self {
        let mut all = Self::none(language);
        for entry in entries {
            let mut errors = ValidationErrors::default();
            match entry.read("synonyms", language, &mut errors) {
                Some((input, others)) if errors.0.is_empty() => all.add(input.as_ref(), &others),
                _ => tracing::warn!(?entry, "a stored synonym is ignored, because it is no longer valid"),
            }
        }
        all
    }

    /// Returns a starter set of English synonyms of a shop of any kind, such as `sofa` and `couch`.
    pub fn english() -> Vec<Synonym> {
        serde_json::from_str(include_str!("synonyms.en.json")).unwrap_or_default()
    }

    /// Adds an entry.
    fn add(&mut self, input: Option<&Phrase>, others: &[Phrase]) {
        match input {
            Some(input) => self.lead(input, others.iter()),
            None => {
                for (n, phrase) in others.iter().enumerate() {
                    self.lead(phrase, others.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, other)| other));
                }
            }
        }
    }

    /// Makes a phrase find what the others find.
    fn lead<'p>(&mut self, phrase: &Phrase, others: impl Iterator<Item = &'p Phrase>) {
        let others: Vec<Vec<Word>> = others.flat_map(|other| other.ways.iter().cloned()).collect();
        self.longest = self.longest.max(phrase.parts);
        for key in &phrase.keys {
            let ways = self.ways.entry(key.clone()).or_default();
            for other in &others {
                if ways.len() < Self::MAX_WAYS && !ways.contains(other) {
                    ways.push(other.clone());
                }
            }
        }
    }

    /// Finds the words and phrases of a query that have synonyms.
    pub(super) fn find(&self, chunks: &[Chunk]) -> Vec<Found> {
        let mut found = Vec::new();
        for length in 1..=self.longest.min(chunks.len()) {
            for (at, run) in chunks.windows(length).enumerate() {
                let mut ways: Vec<Vec<Word>> = Vec::new();
                for way in keys(run, self.language).iter().filter_map(|key| self.ways.get(key)).flatten() {
                    if !ways.contains(way) {
                        ways.push(way.clone());
                    }
                }
                if !ways.is_empty() {
                    found.push(Found { at: at..at + length, ways });
                }
            }
        }
        found
    }
}

impl Synonym {
    /// Returns a group of words and phrases that mean the same.
    pub fn two_way<const N: usize>(synonyms: [&str; N]) -> Self {
        Self { input: None, synonyms: synonyms.map(str::to_owned).to_vec() }
    }

    /// Returns a word or phrase that also finds the products of others.
    pub fn one_way<const N: usize>(input: &str, synonyms: [&str; N]) -> Self {
        Self { input: Some(input.to_owned()), ..Self::two_way(synonyms) }
    }

    /// Returns the phrases of an entry, or pushes errors for those that cannot be used.
    fn read(
        &self,
        field: &str,
        language: Language,
        errors: &mut ValidationErrors,
    ) -> Option<(Option<Phrase>, Vec<Phrase>)> {
        let (least, most) = (if self.input.is_some() { 1 } else { 2 }, Synonyms::MAX_SYNONYMS);
        if !(least..=most).contains(&self.synonyms.len()) {
            let field = format!("{field}.synonyms");
            errors.out_of_bounds(field, format!("must have {least} to {most} words or phrases"));
            return None;
        }
        let input = self.input.as_ref().and_then(|text| Phrase::of(text, language, &format!("{field}.input"), errors));
        let mut seen: BTreeSet<String> = input.iter().flat_map(|phrase| phrase.keys.clone()).collect();
        let mut others = Vec::with_capacity(self.synonyms.len());
        for (n, text) in self.synonyms.iter().enumerate() {
            let field = format!("{field}.synonyms[{n}]");
            let Some(phrase) = Phrase::of(text, language, &field, errors) else { continue };
            if phrase.keys.iter().any(|key| seen.contains(key)) {
                errors.push(field, FieldCode::Inconsistent, "must not repeat another word or phrase of the same entry");
            }
            seen.extend(phrase.keys.iter().cloned());
            others.push(phrase);
        }
        Some((input, others))
    }
}

impl Phrase {
    fn of(text: &str, language: Language, field: &str, errors: &mut ValidationErrors) -> Option<Self> {
        let before = errors.0.len();
        check_text(field, text, 1, Synonyms::MAX_PHRASE, errors);
        if errors.0.len() > before {
            return None;
        }
        let cut = chunks(text);
        let parts = count(&cut);
        if !(1..=Synonyms::MAX_WORDS).contains(&parts) {
            errors.out_of_bounds(field, format!("must have 1 to {} words", Synonyms::MAX_WORDS));
            return None;
        }
        let words: Vec<Word> = cut
            .iter()
            .flat_map(|chunk| match chunk.joined() {
                Some(joined) => vec![joined],
                None => texts(&chunk.parts).map(str::to_owned).collect(),
            })
            .map(|word| Word::exactly(word, false, language))
            .collect();
        let mut ways = vec![words];
        if let Some(joined) = Chunk::of(&cut).joined().filter(|_| cut.len() > 1) {
            ways.push(vec![Word::exactly(joined, false, language)]);
        }
        Some(Self { keys: keys(&cut, language), ways, parts })
    }
}

/// Returns the forms by which a phrase is recognized: the stems of its parts as one word, and the stem of its parts as
/// one word. They are the same for `cellphones`, `cell phones` and `Cell-Phone`, of which each has one of them at
/// least. Numbers are not joined with each other.
pub(super) fn keys(chunks: &[Chunk], language: Language) -> Vec<String> {
    let (mut of_stems, mut whole) = (String::new(), String::new());
    let mut after_number = false;
    for part in chunks.iter().flat_map(|chunk| &chunk.parts) {
        if after_number && part.is_number() {
            of_stems.push(' ');
            whole.push(' ');
        }
        of_stems.push_str(&language.stem(&part.text));
        whole.push_str(&part.text);
        after_number = part.is_number();
    }
    let mut keys = vec![of_stems, language.stem(&whole)];
    keys.dedup();
    keys
}

/// Returns the entries that are part of a cycle, or lead from one cycle to another: those that are left when inputs
/// that lead to nothing, and inputs that nothing leads to, are removed again and again.
fn cycles(leads: &HashMap<String, Vec<(String, usize)>>) -> BTreeSet<usize> {
    let forth = |key: &str| leads.get(key).into_iter().flatten().map(|(to, _)| to.as_str());
    let mut back: HashMap<&str, Vec<&str>> = HashMap::new();
    for from in leads.keys() {
        for to in forth(from) {
            back.entry(to).or_default().push(from);
        }
    }
    let all: BTreeSet<&str> = leads.keys().map(String::as_str).chain(back.keys().copied()).collect();
    let within = peeled(&all, |key| forth(key).collect(), |key| back.get(key).cloned().unwrap_or_default());
    let within = peeled(
        &within,
        |key| back.get(key).into_iter().flatten().copied().filter(|from| within.contains(from)).collect(),
        |key| forth(key).filter(|to| within.contains(to)).collect(),
    );
    let edges = within.iter().flat_map(|from| leads.get(*from).into_iter().flatten());
    edges.filter(|(to, _)| within.contains(to.as_str())).map(|(_, entry)| *entry).collect()
}

/// Removes each key whose `next` are all removed, again and again, and returns the others. `previous` are the keys
/// whose `next` a key is.
fn peeled<'k>(
    all: &BTreeSet<&'k str>,
    next: impl Fn(&'k str) -> Vec<&'k str>,
    previous: impl Fn(&'k str) -> Vec<&'k str>,
) -> BTreeSet<&'k str> {
    let mut left = all.clone();
    let mut open: HashMap<&str, usize> = all.iter().map(|key| (*key, next(key).len())).collect();
    let mut ended: Vec<&str> = open.iter().filter(|(_, n)| **n == 0).map(|(key, _)| *key).collect();
    while let Some(key) = ended.pop() {
        left.remove(key);
        for from in previous(key) {
            if let Some(n) = open.get_mut(from) {
                *n -= 1;
                if *n == 0 {
                    ended.push(from);
                }
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the fields that are refused.
    fn refused(entries: &[Synonym]) -> Vec<String> {
        match Synonyms::new(entries, Language::English) {
            Ok(_) => Vec::new(),
            Err(Error::Validation(errors)) => errors.0.into_iter().map(|e| e.field).collect(),
            Err(other) => panic!("{other:?} must be a refusal of a field"),
        }
    }

    #[test]
    fn entries_that_cannot_be_meant_are_refused() {
        assert_eq!(refused(&[Synonym::two_way(["sofa", "couch"]), Synonym::one_way("tv", ["monitor"])]), [""; 0]);
        assert_eq!(refused(&[Synonym::two_way(["sofa"])]), ["synonyms[0].synonyms"]);
        assert_eq!(refused(&[Synonym::one_way("sofa", [])]), ["synonyms[0].synonyms"]);
        assert_eq!(refused(&[Synonym::two_way(["sofa", "--"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&[Synonym::two_way(["sofa", "Sofas"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&[Synonym::one_way("Sofa", ["couch", "sofa"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&[Synonym::two_way(["sofa", &"x".repeat(101)])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&[Synonym::two_way(["sofa", "a b c d e f g h i"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&[Synonym::two_way(["sofa", "a\0b"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(&vec![Synonym::two_way(["a", "b"]); 5_001]), ["synonyms"]);
        assert_eq!(refused(&vec![Synonym::two_way(["a", "b", "c", "d", "e"]); 4_001]), ["synonyms"]);
        assert!(refused(&vec![Synonym::two_way(["-", "-", "-"]); 5_000]).len() <= 120);
    }

    #[test]
    fn one_way_entries_form_no_cycle() {
        let cycle = [
            Synonym::one_way("a", ["b"]),
            Synonym::one_way("x", ["a"]),
            Synonym::one_way("b", ["c", "A"]),
            Synonym::one_way("a", ["y"]),
        ];
        assert_eq!(refused(&cycle), ["synonyms[0]", "synonyms[2]"]);
        let chain = |n: usize| Synonym::one_way(&format!("w{n}"), [&format!("w{}", n + 1)]);
        assert_eq!(refused(&(0..5_000).map(chain).collect::<Vec<_>>()), [""; 0]);
        assert_eq!(refused(&[Synonym::one_way("a", ["b"]), Synonym::one_way("b", ["c"])]), [""; 0]);
    }

    #[test]
    fn phrases_are_known_however_they_are_written() {
        let all = Synonyms::new(&[Synonym::two_way(["cell phone", "handy"])], Language::English).unwrap();
        for text in ["cellphone", "Cell-Phones", "cell phones", "cellphones"] {
            assert_eq!(all.find(&chunks(text)).len(), 1, "{text}");
        }
        assert_eq!(all.find(&chunks("cell, a phone")).len(), 0);
        let all = Synonyms::new(&[Synonym::two_way(["36", "thirty six"])], Language::English).unwrap();
        assert_eq!(all.find(&chunks("baby 3-6 months")).len(), 0, "numbers are not joined");
    }

    #[test]
    fn the_starter_set_is_valid() {
        let entries = Synonyms::english();
        assert!(entries.len() > 100);
        Synonyms::new(&entries, Language::English).unwrap();
    }
}
