//! Words that find what other words find.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::query_text::Word;
use super::text::{Chunk, chunks, stem, texts};
use crate::error::{Error, FieldCode, Result, ValidationErrors};

/// Words and phrases that mean the same, or a word that also finds what others find.
///
/// They are compared by their stems, without case, accents, spaces and hyphens: `T-Shirts` is `t shirt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Synonym {
    /// If it is set, only this word or phrase finds more: what `synonyms` find. Otherwise each of `synonyms` finds what
    /// the others find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The words or phrases: at most 20, and at least 2 without `input`. A phrase has at most 8 words and 100 characters.
    pub synonyms: Vec<String>,
}

/// All synonyms of a shop, ready for use.
#[derive(Debug, Clone, Default)]
pub struct Synonyms {
    entries: Vec<Synonym>,
    /// What each phrase finds, by its [`keys`].
    ways: HashMap<String, Vec<Vec<Word>>>,
    /// The largest number of chunks of a phrase, if a query writes each part apart.
    longest: usize,
}

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
    /// Its words, and if there are several, all of them as one word.
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

    /// Returns the synonyms that these entries make. They are not transitive: an entry with `a` and `b` and another one
    /// with `b` and `c` do not make `a` find `c`.
    ///
    /// # Errors
    /// `Validation` with each entry that is out of bounds, has no word, or repeats a phrase, and with the entries with
    /// an `input` that lead in a circle.
    pub fn new(entries: Vec<Synonym>) -> Result<Self> {
        let mut errors = ValidationErrors::default();
        if entries.len() > Self::MAX_ENTRIES {
            errors.out_of_bounds("synonyms", format!("must have at most {} entries", Self::MAX_ENTRIES));
            return Err(Error::Validation(errors));
        }
        let mut all = Self::default();
        // Key of an input → keys that it leads to, with its entry.
        let mut leads: HashMap<String, Vec<(String, usize)>> = HashMap::new();
        for (i, entry) in entries.iter().enumerate() {
            let field = format!("synonyms[{i}]");
            let least = if entry.input.is_some() { 1 } else { 2 };
            let most = Self::MAX_SYNONYMS;
            if !(least..=most).contains(&entry.synonyms.len()) {
                let field = format!("{field}.synonyms");
                errors.out_of_bounds(field, format!("must have {least} to {most} words or phrases"));
                continue;
            }
            let input = entry.input.as_ref().and_then(|text| Phrase::of(text, &format!("{field}.input"), &mut errors));
            let others: Vec<Option<Phrase>> = entry
                .synonyms
                .iter()
                .enumerate()
                .map(|(n, text)| Phrase::of(text, &format!("{field}.synonyms[{n}]"), &mut errors))
                .collect();
            let mut seen: BTreeSet<&String> = input.iter().flat_map(|phrase| &phrase.keys).collect();
            for (n, phrase) in others.iter().enumerate() {
                let Some(phrase) = phrase else { continue };
                if phrase.keys.iter().any(|key| seen.contains(key)) {
                    let field = format!("{field}.synonyms[{n}]");
                    errors.push(field, FieldCode::Inconsistent, "must not repeat another word or phrase of its entry");
                }
                seen.extend(&phrase.keys);
            }
            let others: Vec<Phrase> = others.into_iter().flatten().collect();
            match &input {
                Some(input) => {
                    for from in &input.keys {
                        let to = others.iter().flat_map(|other| &other.keys).filter(|key| *key != from);
                        leads.entry(from.clone()).or_default().extend(to.map(|key| (key.clone(), i)));
                    }
                    all.add(input, others.iter());
                }
                None => {
                    for (n, phrase) in others.iter().enumerate() {
                        all.add(phrase, others.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, other)| other));
                    }
                }
            }
        }
        for i in circles(&leads) {
            let why = "must not lead back to its input: use one entry without `input` for words that mean the same";
            errors.push(format!("synonyms[{i}]"), FieldCode::Inconsistent, why);
        }
        errors.into_result()?;
        all.entries = entries;
        Ok(all)
    }

    /// Returns a starter set of English synonyms of a shop of any kind, such as `sofa` and `couch`.
    pub fn english() -> Vec<Synonym> {
        serde_json::from_str(include_str!("synonyms.en.json")).unwrap_or_default()
    }

    /// Returns the entries.
    pub fn entries(&self) -> &[Synonym] {
        &self.entries
    }

    fn add<'p>(&mut self, phrase: &Phrase, others: impl Iterator<Item = &'p Phrase>) {
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
                for way in keys(run).iter().filter_map(|key| self.ways.get(key)).flatten() {
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

impl Phrase {
    fn of(text: &str, field: &str, errors: &mut ValidationErrors) -> Option<Self> {
        if text.chars().nth(Synonyms::MAX_PHRASE).is_some() {
            errors.out_of_bounds(field, format!("must have at most {} characters", Synonyms::MAX_PHRASE));
            return None;
        }
        let cut = chunks(text);
        let parts: usize = cut.iter().map(|chunk| chunk.parts.len()).sum();
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
            .map(|word| Word::exactly(word, false))
            .collect();
        let mut ways = vec![words];
        let all = Chunk { parts: cut.iter().flat_map(|chunk| chunk.parts.iter().cloned()).collect() };
        if let Some(joined) = all.joined().filter(|_| cut.len() > 1) {
            ways.push(vec![Word::exactly(joined, false)]);
        }
        Some(Self { keys: keys(&cut), ways, parts })
    }
}

/// Returns the forms by which a phrase is recognized: the stems of its parts as one word, and the stem of its parts as
/// one word. They are the same for `cellphones`, `cell phones` and `Cell-Phone`, of which each has one of them at least.
pub(super) fn keys(chunks: &[Chunk]) -> Vec<String> {
    let parts = || chunks.iter().flat_map(|chunk| texts(&chunk.parts));
    let mut keys = vec![parts().map(stem).collect::<String>(), stem(&parts().collect::<String>())];
    keys.dedup();
    keys
}

/// Returns the entries with an input that lead in a circle.
fn circles(leads: &HashMap<String, Vec<(String, usize)>>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for (start, first) in leads {
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        let mut open: Vec<&String> = first.iter().map(|(key, _)| key).collect();
        while let Some(key) = open.pop() {
            if key == start {
                found.extend(first.iter().map(|(_, entry)| *entry));
                break;
            }
            if seen.insert(key) {
                open.extend(leads.get(key).into_iter().flatten().map(|(next, _)| next));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(input: Option<&str>, synonyms: &[&str]) -> Synonym {
        Synonym { input: input.map(str::to_owned), synonyms: synonyms.iter().map(|&text| text.to_owned()).collect() }
    }

    /// Returns the fields that are refused.
    fn refused(entries: Vec<Synonym>) -> Vec<String> {
        match Synonyms::new(entries) {
            Ok(_) => Vec::new(),
            Err(Error::Validation(errors)) => errors.0.into_iter().map(|e| e.field).collect(),
            Err(other) => panic!("{other:?} must be a refusal of a field"),
        }
    }

    #[test]
    fn entries_that_cannot_be_meant_are_refused() {
        assert_eq!(refused(vec![entry(None, &["sofa", "couch"]), entry(Some("tv"), &["monitor"])]), [""; 0]);
        assert_eq!(refused(vec![entry(None, &["sofa"])]), ["synonyms[0].synonyms"]);
        assert_eq!(refused(vec![entry(Some("sofa"), &[])]), ["synonyms[0].synonyms"]);
        assert_eq!(refused(vec![entry(None, &["sofa", "--"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(vec![entry(None, &["sofa", "Sofas"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(vec![entry(Some("Sofa"), &["couch", "sofa"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(vec![entry(None, &["sofa", &"x".repeat(101)])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(vec![entry(None, &["sofa", "a b c d e f g h i"])]), ["synonyms[0].synonyms[1]"]);
        assert_eq!(refused(vec![entry(None, &["a", "b"]); 5_001]), ["synonyms"]);
    }

    #[test]
    fn one_way_entries_lead_in_no_circle() {
        let circle = vec![entry(Some("a"), &["b"]), entry(Some("x"), &["a"]), entry(Some("b"), &["c", "A"])];
        assert_eq!(refused(circle), ["synonyms[0]", "synonyms[2]"]);
        assert_eq!(refused(vec![entry(Some("a"), &["b"]), entry(Some("b"), &["c"])]), [""; 0]);
    }

    #[test]
    fn phrases_are_known_however_they_are_written() {
        let all = Synonyms::new(vec![entry(None, &["cell phone", "handy"])]).unwrap();
        for text in ["cellphone", "Cell-Phones", "cell phones", "cellphones"] {
            assert_eq!(all.find(&chunks(text)).len(), 1, "{text}");
        }
        assert_eq!(all.find(&chunks("cell, a phone")).len(), 0);
    }

    #[test]
    fn the_starter_set_is_valid() {
        let entries = Synonyms::english();
        assert!(entries.len() > 100);
        Synonyms::new(entries).unwrap();
    }
}
