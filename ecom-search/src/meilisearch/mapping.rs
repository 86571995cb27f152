//! The settings of an index, and its documents.
//!
//! A document has two halves. The first is for people, dashboards and other services: the [`SearchDocument`] under the
//! names of its fields. The second, `search`, is what this adapter searches: lists of words that filters compare. The
//! words come from [`FieldWords`], which stems them alike for every engine. The server's own search for a text is not
//! used, because it stems no word, has other rules for typing errors, and estimates totals.
//!
//! An index has more kinds of documents: one for each word of the products ([`word_document`]), by which typing errors
//! are resolved, one that says which rebuild has made the index ([`mark`]), one that contains the checkpoint
//! ([`checkpoint_document`]), and one that says how far its build has come ([`progress_document`]). A word stays until
//! the next rebuild, even if no product has it any more: it then stands for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ecom_core::id::ProductId;
use ecom_core::port::{BuildProgress, Checkpoint, SearchDocument};
use ecom_core::search::{FieldWords, Pairs, code_forms};
use ecom_core::text::fold_key;
use meilisearch_sdk::settings::{FacetSortValue, FacetingSettings, PaginationSetting, Settings};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::ranking::Weight;
use crate::terms::{attribute_key, json_text};

/// The format of the index. Increase it with every change of this file: processes of both formats then use indexes of
/// their own, and the first process of the new one builds its index.
pub(super) const FORMAT: u32 = 1;

/// The id of the document by which an index is recognized.
pub(super) const MARK: &str = "ecom";

/// A source of full text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) weight: f32,
    pairs: Pairs,
    /// How many words it usually has, for the frequency of a word.
    pub(super) usual_words: f32,
}

/// The sources of full text, except codes.
pub(super) const SOURCES: [Source; 5] = [
    Source { name: "title", weight: Weight::TITLE, pairs: Pairs::All, usual_words: 5.0 },
    Source { name: "brand", weight: Weight::BRAND, pairs: Pairs::All, usual_words: 1.5 },
    Source { name: "tags", weight: Weight::TAGS, pairs: Pairs::All, usual_words: 4.0 },
    Source { name: "category_names", weight: Weight::CATEGORY_NAMES, pairs: Pairs::All, usual_words: 4.0 },
    Source { name: "description", weight: Weight::DESCRIPTION, pairs: Pairs::Units, usual_words: 40.0 },
];

impl Source {
    /// Returns the field with the stems and pairs of this source alone.
    pub(super) fn field(self) -> String {
        format!("search.in.{}", self.name)
    }
}

/// The names of the other fields that searches use.
pub(super) mod field {
    pub(crate) const ID: &str = "id";
    pub(crate) const REVISION: &str = "revision";
    pub(crate) const LIVE: &str = "search.live";
    /// The stems, pairs and words of all sources together.
    pub(crate) const STEMS: &str = "search.stems";
    pub(crate) const PAIRS: &str = "search.pairs";
    pub(crate) const WORDS: &str = "search.words";
    pub(crate) const CODES: &str = "search.codes";
    /// What the ranking reads: the words of each source in their order.
    pub(crate) const RANK: &str = "search.rank";
    /// The number of words of the title.
    pub(crate) const LENGTH: &str = "search.length";
    pub(crate) const CATEGORY: &str = "search.category";
    pub(crate) const BRAND_KEY: &str = "search.brand_key";
    pub(crate) const BRAND: &str = "search.brand";
    pub(crate) const TAG_KEY: &str = "search.tag_key";
    pub(crate) const TAG: &str = "search.tag";
    pub(crate) const ATTRIBUTE: &str = "search.attribute";
    /// The numbers of whole stars that the rating has or exceeds.
    pub(crate) const STARS: &str = "search.stars";
    pub(crate) const CREATED: &str = "search.created";
    pub(crate) const PRICE: &str = "price";
    pub(crate) const RATING: &str = "rating";
    pub(crate) const AVAILABILITY: &str = "availability";
    pub(crate) const STATUS: &str = "status";
    /// Of the document of a word: the word, and its forms without some letters.
    pub(crate) const WORD: &str = "search.word";
    pub(crate) const TYPOS: &str = "search.typos";
}

/// Greater than the number of documents of any index, so that totals are exact.
const ALL_HITS: usize = 1_000_000_000;

/// The most values of a facet that the server returns. The adapter needs more than it returns itself, because it counts
/// the spellings of a brand or tag together.
const FACET_VALUES: usize = 10_000;

/// No search may end before it is complete: each has the time limit of its call.
const NO_CUTOFF_MS: u64 = 600_000;

/// Returns the settings of a new index.
pub(super) fn settings() -> Value {
    let mut filters: Vec<Value> = Vec::new();
    let mut filter = |fields: &[String], comparison: bool| {
        filters.push(json!({
            "attributePatterns": fields,
            "features": {"facetSearch": false, "filter": {"equality": true, "comparison": comparison}},
        }));
    };
    let names = |fields: &[&str]| fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>();
    let mut words = names(&[field::STEMS, field::PAIRS, field::WORDS, field::CODES, field::TYPOS]);
    words.extend(SOURCES.map(Source::field));
    filter(&words, false);
    filter(&names(&[field::BRAND_KEY, field::TAG_KEY, field::ATTRIBUTE]), false);
    filter(&names(&[field::ID, field::PRICE, field::RATING]), true);
    let counted = [field::LIVE, field::CATEGORY, field::BRAND, field::TAG, field::STARS];
    filter(&names(&counted), true);
    filter(&names(&[field::AVAILABILITY, field::STATUS]), true);
    let by_count = [("*".to_owned(), FacetSortValue::Count)].into_iter().collect();
    let faceting = FacetingSettings { max_values_per_facet: FACET_VALUES, sort_facet_values_by: Some(by_count) };
    let settings = Settings::new()
        // For dashboards alone.
        .with_searchable_attributes(["title"])
        .with_sortable_attributes([field::ID, field::PRICE, field::RATING, field::CREATED, field::LENGTH])
        .with_ranking_rules(["sort"])
        .with_pagination(PaginationSetting { max_total_hits: ALL_HITS })
        .with_faceting(faceting)
        .with_search_cutoff(NO_CUTOFF_MS);
    let mut settings = serde_json::to_value(settings).unwrap_or_default();
    settings["filterableAttributes"] = filters.into();
    // No index for searches in facets and for incomplete words of dashboards.
    settings["facetSearch"] = false.into();
    settings["prefixSearch"] = "disabled".into();
    settings
}

/// The longest value that a filter compares, in bytes. The server cuts longer ones.
const LONGEST_VALUE: usize = 400;

/// Returns the value of a filter. If the text is too long, its hash stands for its end.
pub(super) fn value(text: &str) -> String {
    if text.len() <= LONGEST_VALUE {
        return text.to_owned();
    }
    let hash = Uuid::new_v5(&Uuid::nil(), text.as_bytes()).simple();
    format!("{}{hash}", &text[..text.floor_char_boundary(LONGEST_VALUE - 32)])
}

/// Separates the key of a brand or tag from its spelling, which is written as [`spelled`] says.
const SPELLING: char = '\0';
/// Marks the next letter as a capital, or the number of a character in hexadecimal digits up to a semicolon.
const CAPITAL: char = '^';
const NUMBER: char = '%';

/// Returns the value of a brand or tag in a facet, from which [`split_spelled`] reads key and spelling. The server
/// counts values together that differ only in case or in the form of a character, so the spelling is written without
/// such characters. The spelling is left out if it is too long.
pub(super) fn spelled(key: &str, written: &str) -> String {
    let mut out = format!("{key}{SPELLING}");
    for c in written.trim().chars() {
        if c.is_ascii_uppercase() {
            out.extend([CAPITAL, c.to_ascii_lowercase()]);
        } else if c.is_ascii() && !matches!(c, CAPITAL | NUMBER) {
            out.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "{NUMBER}{:x};", u32::from(c));
        }
    }
    if out.len() > LONGEST_VALUE { value(key) } else { out }
}

/// Returns key and spelling of a value of [`spelled`].
pub(super) fn split_spelled(value: &str) -> (&str, String) {
    let Some((key, written)) = value.split_once(SPELLING) else { return (value, value.to_owned()) };
    let mut out = String::with_capacity(written.len());
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        match c {
            CAPITAL => out.extend(rest.next().map(|c| c.to_ascii_uppercase())),
            NUMBER => {
                let digits: String = rest.by_ref().take_while(|c| *c != ';').collect();
                out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            }
            c => out.push(c),
        }
    }
    (key, out)
}

/// The document of a live product, and its words.
pub(super) struct Made {
    pub(super) document: Value,
    pub(super) words: BTreeSet<String>,
}

/// Returns the document of a live product.
pub(super) fn document(d: &SearchDocument) -> serde_json::Result<Made> {
    let (mut stems, mut pairs, mut words) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut within, mut rank) = (Map::new(), Map::new());
    let mut length = 0;
    let mut add = |source: Source, texts: &[&str]| {
        let mut all = FieldWords::default();
        for text in texts {
            let found = FieldWords::of(text, source.pairs, d.language);
            all.stems.extend(found.stems);
            all.words.extend(found.words);
            all.pairs.extend(found.pairs);
        }
        if source.name == "title" {
            length = all.words.len();
        }
        if all.words.is_empty() {
            return;
        }
        let has: BTreeSet<&String> = all.stems.iter().chain(&all.pairs).collect();
        within.insert(source.name.to_owned(), json!(has));
        let lists = [all.stems.join(" "), all.words.join(" "), all.pairs.join(" ")];
        rank.insert(source.name.to_owned(), json!(lists));
        stems.extend(all.stems);
        pairs.extend(all.pairs);
        words.extend(all.words);
    };
    let [title, brand, tags, category_names, description] = SOURCES;
    add(title, &[&d.title]);
    add(brand, &d.brand.iter().map(String::as_str).collect::<Vec<_>>());
    add(tags, &d.tags.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    let categories: Vec<_> = d.categories.iter().filter(|c| seen.insert(c.id)).collect();
    add(category_names, &categories.iter().map(|c| c.name.as_str()).collect::<Vec<_>>());
    add(description, &d.description.iter().map(String::as_str).collect::<Vec<_>>());
    let codes: BTreeSet<String> = d.codes.iter().flat_map(|code| code_forms(code)).map(|form| value(&form)).collect();
    let mut tags: BTreeMap<String, &str> = BTreeMap::new();
    for tag in &d.tags {
        tags.entry(fold_key(tag)).or_insert(tag);
    }
    let attributes: BTreeSet<String> =
        d.attributes.0.iter().map(|(name, v)| value(&attribute_key(name, &json_text(v)))).collect();
    let mut search = json!({
        "live": true,
        "stems": stems, "pairs": pairs, "words": words, "codes": codes,
        "in": within, "rank": rank, "length": length,
        "category": categories.iter().map(|c| c.id).collect::<Vec<_>>(),
        "tag_key": tags.keys().map(|key| value(key)).collect::<Vec<_>>(),
        "tag": tags.iter().map(|(key, tag)| spelled(key, tag)).collect::<Vec<_>>(),
        "attribute": attributes,
        "stars": (1..=d.rating / 100).collect::<Vec<_>>(),
        "created": d.created_at.timestamp_micros(),
    });
    if let Some(brand) = &d.brand {
        let key = fold_key(brand);
        search["brand"] = spelled(&key, brand).into();
        search["brand_key"] = value(&key).into();
    }
    let mut document = serde_json::to_value(d)?;
    document["search"] = search;
    Ok(Made { document, words })
}

/// Returns what stays in the index of a deleted product, so that an older document that arrives late is recognized
/// (R14).
pub(super) fn tombstone(id: ProductId, revision: i64) -> Value {
    json!({"id": id, "revision": revision})
}

/// Returns the document by which an index is recognized as one of ecom. `generation` is the number of the rebuild that
/// has made the index.
pub(super) fn mark(generation: u64) -> Value {
    json!({"id": MARK, "format": FORMAT, "generation": generation})
}

/// The beginning of the ids of checkpoints.
pub(super) const CHECKPOINT_ID: &str = "ecom-";

/// Returns the id of the document that contains the checkpoint of a generation. A write that is late, and meets another
/// generation in its place, leaves a document there that nobody reads.
pub(super) fn checkpoint_id(generation: u64) -> String {
    format!("{CHECKPOINT_ID}{generation}")
}

/// Returns the document that contains the checkpoint of a generation.
pub(super) fn checkpoint_document(generation: u64, checkpoint: Checkpoint) -> Value {
    json!({"id": checkpoint_id(generation), "checkpoint": checkpoint})
}

/// The id of the document that says how far the build of an index is. It begins as those of checkpoints do, which have
/// a number after that.
pub(super) const PROGRESS: &str = "ecom-progress";

/// Returns the document that says how far the build of an index is.
pub(super) fn progress_document(progress: BuildProgress) -> Value {
    json!({"id": PROGRESS, "progress": progress})
}

/// The beginning of the ids of words. Those of products are UUIDs.
pub(super) const WORD_ID: &str = "w-";

/// Returns the id of the document of a word.
pub(super) fn word_id(word: &str) -> String {
    format!("{WORD_ID}{}", Uuid::new_v5(&Uuid::nil(), word.as_bytes()).simple())
}

/// Returns the document of a word of some product.
pub(super) fn word_document(word: &str) -> Value {
    let letters = word.chars().count();
    // A word that was typed with two errors has at least eight letters.
    let most = if letters < 6 { 1 } else { 2 };
    json!({"id": word_id(word), "search": {"word": word, "typos": without_letters(word, most)}})
}

/// The letters at the beginning of a word of which some are left out. With all letters, a long word would have hundreds
/// of forms.
const FIRST_LETTERS: usize = 7;

/// Returns the beginning of a word without none, one or `most` of its letters. If two words differ in at most `most`
/// edits, they have one of these forms in common, whichever edits they are: each edit affects at most one letter of
/// each of the beginnings.
pub(super) fn without_letters(word: &str, most: usize) -> BTreeSet<String> {
    let begin: Vec<char> = word.chars().take(FIRST_LETTERS).collect();
    let mut forms = BTreeSet::from([begin]);
    for _ in 0..most {
        let shorter = forms.iter().flat_map(|form| {
            (0..form.len()).map(|at| {
                let mut form = form.clone();
                form.remove(at);
                form
            })
        });
        let shorter: Vec<Vec<char>> = shorter.filter(|form| !form.is_empty()).collect();
        forms.extend(shorter);
    }
    forms.into_iter().map(|form| form.into_iter().collect()).collect()
}

/// Returns the number of edits between two words: a letter that is missing, added, replaced or swapped with its
/// neighbor.
pub(super) fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = [vec![0; other.len() + 1], (0..=other.len()).collect::<Vec<usize>>(), vec![0; other.len() + 1]];
    for i in 1..=one.len() {
        let [before, last, row] = &mut rows;
        row[0] = i;
        for j in 1..=other.len() {
            let same = one[i - 1] == other[j - 1];
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_read_as_they_were_written() {
        for written in ["Red", "STRASSE", "Straße", "a^b%c;", "Ünder", "", "x\u{301}", "100 % Wool"] {
            let value = spelled(&fold_key(written), written);
            assert_eq!(value, value.to_lowercase(), "the server ignores case");
            assert_eq!(split_spelled(&value), (fold_key(written).as_str(), written.to_owned()));
        }
        let long = "Ж".repeat(100);
        assert_eq!(split_spelled(&spelled(&fold_key(&long), &long)).1, fold_key(&long), "too long for its spelling");
    }

    #[test]
    fn long_values_differ_in_their_hash() {
        let (one, other) = ("ö".repeat(4_000), format!("{}x", "ö".repeat(3_999)));
        assert_ne!(value(&one), value(&other));
        assert!(value(&one).len() <= LONGEST_VALUE);
        assert_eq!(value("short"), "short");
    }

    #[test]
    fn edits_are_counted() {
        for (one, other, n) in [
            ("lamp", "lamp", 0),
            ("lamp", "lapm", 1),
            ("lamp", "laamp", 1),
            ("lamp", "lemp", 1),
            ("blanket", "lanket", 1),
            ("keyboard", "kayboord", 2),
            ("", "ab", 2),
            ("ab", "", 2),
        ] {
            assert_eq!(edits(one, other), n, "{one} {other}");
        }
    }

    /// Every word within the edits of a typed word has a form in common with it.
    #[test]
    fn a_word_is_found_by_the_forms_without_letters() {
        let letters = ['a', 'b', 'c'];
        let mut state = 7_u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % n
        };
        for _ in 0..20_000 {
            let length = 4 + random(9);
            let typed: String = (0..length).map(|_| letters[random(3)]).collect();
            let most = if length < 8 { 1 } else { 2 };
            let mut word: Vec<char> = typed.chars().collect();
            for _ in 0..most {
                let at = random(word.len());
                match random(4) {
                    0 => drop(word.remove(at)),
                    1 => word.insert(at, letters[random(3)]),
                    2 => word[at] = letters[random(3)],
                    _ if at > 0 => word.swap(at, at - 1),
                    _ => {}
                }
            }
            let word: String = word.into_iter().collect();
            if edits(&typed, &word) > most {
                continue;
            }
            let stored = if word.chars().count() < 6 { 1 } else { 2 };
            let (ours, theirs) = (without_letters(&typed, most), without_letters(&word, stored));
            assert!(ours.intersection(&theirs).next().is_some(), "{typed} and {word}");
        }
    }
}
