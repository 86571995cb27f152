//! In which lists of a state of the index the matches of a word are, and what each is worth.

use std::collections::BTreeMap;
use std::sync::Arc;

use ecom_core::search::{Slot, Way, Word};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{SegmentPostings, TermInfo};
use tantivy::query::Bm25Weight;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, InvertedIndexReader, Score, TERMINATED};

use super::schema::Fields;
use super::view::{Segment, View};
use crate::ranking::{AS_WRITTEN, EXACT, FREQUENCY, PREFIX, SYNONYM, TYPO, Weight};

/// How a word of a query is found in a state of the index.
pub(super) struct Plan {
    /// In the order of the segments.
    pub(super) segments: Vec<Union>,
    /// How many entries the lists have.
    pub(super) entries: u64,
}

/// The lists of a word in a segment.
#[derive(Default)]
pub(super) struct Union {
    /// The best first.
    pub(super) lists: Vec<List>,
    /// Words that a document must have together, and then is worth as much as one of them on average.
    pub(super) all: Vec<Vec<Self>>,
}

/// Documents that match in one way.
pub(super) struct List {
    pub(super) docs: Docs,
    pub(super) score: Score,
    /// The addition to the score for repeated words, if the list is the postings of a stem.
    pub(super) frequency: Option<Frequency>,
    /// Whether another list has all its documents, so that this one changes scores only.
    pub(super) is_within: bool,
}

/// A list of documents in ascending order.
#[derive(Clone)]
pub(super) enum Docs {
    /// The postings of a term.
    Term(Arc<InvertedIndexReader>, TermInfo),
    /// The documents of several terms, by id.
    Few(Arc<[DocId]>),
    /// The documents of several terms, as a set of bits.
    Many(Arc<[u64]>, u32),
}

/// What the number of times that a field has a word adds to the score.
#[derive(Clone)]
pub(super) struct Frequency {
    pub(super) norms: FieldNormReader,
    pub(super) weight: Arc<FrequencyWeight>,
}

/// BM25 of a stem in a source.
pub(super) struct FrequencyWeight {
    bm25: Bm25Weight,
    /// The scores of fields that have the stem once, by the number of their length.
    once: [Score; 256],
}

impl FrequencyWeight {
    /// Returns the score of a field of a length that has the stem so many times.
    #[inline]
    pub(super) fn score(&self, length: u8, times: u32) -> Score {
        if times == 1 { self.once[usize::from(length)] } else { self.bm25.score(length, times) }
    }
}

impl Plan {
    /// Looks a word up in all dictionaries.
    pub(super) fn of(slot: &Slot, view: &View, fields: &Fields) -> tantivy::Result<Self> {
        let mut finder = Finder { view, fields, weights: BTreeMap::new() };
        let segments: Vec<Union> =
            view.segments.iter().map(|segment| finder.slot(slot, segment)).collect::<tantivy::Result<_>>()?;
        let entries = segments.iter().map(Union::entries).sum();
        Ok(Self { segments, entries })
    }

    /// Returns about how many bytes the plan takes.
    pub(super) fn bytes(&self) -> usize {
        512 + self.segments.iter().map(Union::bytes).sum::<usize>()
    }
}

impl Union {
    /// Returns how many entries the lists have.
    pub(super) fn entries(&self) -> u64 {
        let lists: u64 = self.lists.iter().map(|list| u64::from(list.docs.len())).sum();
        lists + self.all.iter().flatten().map(Self::entries).sum::<u64>()
    }

    fn bytes(&self) -> usize {
        let lists = self.lists.iter().map(|list| {
            let frequency = if list.frequency.is_some() { size_of::<FrequencyWeight>() } else { 0 };
            size_of::<List>()
                + frequency
                + match &list.docs {
                    Docs::Term(..) => 0,
                    Docs::Few(docs) => size_of_val::<[DocId]>(docs),
                    Docs::Many(bits, _) => size_of_val::<[u64]>(bits),
                }
        });
        64 + lists.sum::<usize>() + self.all.iter().flatten().map(Self::bytes).sum::<usize>()
    }
}

impl Docs {
    /// Returns how many documents the list has.
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Term(_, info) => info.doc_freq,
            Self::Few(docs) => u32::try_from(docs.len()).unwrap_or(u32::MAX),
            Self::Many(_, count) => *count,
        }
    }

    /// Returns the documents of terms; `None` if there are none.
    fn of(index: &Arc<InvertedIndexReader>, terms: &[TermInfo], documents: u32) -> tantivy::Result<Option<Self>> {
        let entries: u64 = terms.iter().map(|term| u64::from(term.doc_freq)).sum();
        Ok(match terms {
            [] => None,
            [term] => Some(Self::Term(index.clone(), term.clone())),
            // Bits take less memory than numbers.
            _ if entries > u64::from(documents / 32) => {
                let mut bits = vec![0u64; documents as usize / 64 + 1];
                for term in terms {
                    each(index, term, |doc| bits[doc as usize / 64] |= 1 << (doc % 64))?;
                }
                let count = bits.iter().map(|bits| bits.count_ones()).sum();
                Some(Self::Many(bits.into(), count))
            }
            _ => {
                let mut docs = Vec::new();
                for term in terms {
                    each(index, term, |doc| docs.push(doc))?;
                }
                docs.sort_unstable();
                docs.dedup();
                Some(Self::Few(docs.into()))
            }
        })
    }
}

fn each(index: &InvertedIndexReader, term: &TermInfo, mut take: impl FnMut(DocId)) -> tantivy::Result<()> {
    let mut postings: SegmentPostings = index.read_postings_from_terminfo(term, IndexRecordOption::Basic)?;
    let mut doc = postings.doc();
    while doc != TERMINATED {
        take(doc);
        doc = postings.advance();
    }
    Ok(())
}

struct Finder<'a> {
    view: &'a View,
    fields: &'a Fields,
    /// How often a stem occurs in a source, by the stem and the number of the source.
    weights: BTreeMap<(String, usize), Arc<FrequencyWeight>>,
}

impl Finder<'_> {
    fn slot(&mut self, slot: &Slot, segment: &Segment) -> tantivy::Result<Union> {
        let mut union = Union::default();
        for way in &slot.ways {
            match way {
                Way::Word(word) => self.word(word, true, segment, &mut union)?,
                Way::Joined(word) => self.word(word, false, segment, &mut union)?,
                Way::All(words) => {
                    let mut all = Vec::with_capacity(words.len());
                    for word in words {
                        let mut each = Union::default();
                        self.word(word, true, segment, &mut each)?;
                        each.sort();
                        all.push(each);
                    }
                    // A word that no document has matches nothing together with others.
                    if all.iter().all(|each| each.entries() > 0) {
                        union.all.push(all);
                    }
                }
                Way::Synonym(words) => synonym(words, segment, &mut union)?,
                Way::Code(form) => {
                    if let Some(info) = segment.codes.terms().get(form)? {
                        union.add(Docs::Term(segment.codes.clone(), info), EXACT + Weight::CODES);
                    }
                }
            }
        }
        union.sort();
        Ok(union)
    }

    /// Adds the lists of a word, and also those of two neighbours of a document that are the word together if `split`.
    fn word(&mut self, word: &Word, split: bool, segment: &Segment, union: &mut Union) -> tantivy::Result<()> {
        let similar = if word.edits > 0 {
            self.view.similar(segment, (word.text.as_str().into(), word.edits), self.fields)?
        } else {
            Arc::default()
        };
        for (at, source) in segment.sources.iter().enumerate() {
            let term = |index: &Arc<InvertedIndexReader>, text: &str| {
                let info = index.terms().get(text)?;
                Ok::<_, tantivy::TantivyError>(info.map(|info| Docs::Term(index.clone(), info)))
            };
            if let Some(docs) = term(&source.stems, &word.stem)? {
                let frequency = Some(Frequency { norms: source.norms.clone(), weight: self.weight(&word.stem, at)? });
                union.lists.push(List { docs, score: EXACT + source.weight, frequency, is_within: false });
            }
            if split && let Some(docs) = term(&source.pairs, &word.stem)? {
                union.add(docs, EXACT + source.weight);
            }
            if let Some(docs) = term(&source.words, &word.text)? {
                // Not so if the documents have another language than the query.
                let is_within = is_within((&source.words, &word.text), (&source.stems, &word.stem))?;
                let score = EXACT + AS_WRITTEN + source.weight;
                union.lists.push(List { docs, score, frequency: None, is_within });
            }
            if word.is_prefix {
                let longer = beginning_with(&source.words, &word.text)?;
                if let Some(docs) = Docs::of(&source.words, &longer, segment.documents)? {
                    union.add(docs, PREFIX + source.weight);
                }
            }
            let terms = source.words.terms();
            let mut typos = Vec::new();
            for word in &*similar {
                typos.extend(terms.get(&**word)?);
            }
            if let Some(docs) = Docs::of(&source.words, &typos, segment.documents)? {
                union.add(docs, TYPO + source.weight);
            }
        }
        Ok(())
    }

    fn weight(&mut self, stem: &str, source: usize) -> tantivy::Result<Arc<FrequencyWeight>> {
        if let Some(weight) = self.weights.get(&(stem.to_owned(), source)) {
            return Ok(weight.clone());
        }
        let mut frequency = 0;
        for segment in &self.view.segments {
            frequency += segment.sources[source].stems.terms().get(stem)?.map_or(0, |info| u64::from(info.doc_freq));
        }
        let factor = FREQUENCY * self.fields.sources()[source].weight;
        let lengths = self.view.lengths[source];
        let bm25 = Bm25Weight::for_one_term_without_explain(frequency, self.view.documents, lengths).boost_by(factor);
        let mut once = [0.0; 256];
        for (length, score) in (0..=u8::MAX).zip(&mut once) {
            *score = bm25.score(length, 1);
        }
        let weight = Arc::new(FrequencyWeight { bm25, once });
        self.weights.insert((stem.to_owned(), source), weight.clone());
        Ok(weight)
    }
}

impl Union {
    fn add(&mut self, docs: Docs, score: Score) {
        self.lists.push(List { docs, score, frequency: None, is_within: false });
    }

    fn sort(&mut self) {
        self.lists.sort_by(|a, b| b.score.total_cmp(&a.score));
    }
}

/// Returns whether all documents of a term are those of another one too.
fn is_within(
    (index, text): (&InvertedIndexReader, &str),
    (other, other_text): (&InvertedIndexReader, &str),
) -> tantivy::Result<bool> {
    let open = |index: &InvertedIndexReader, text: &str| -> tantivy::Result<Option<SegmentPostings>> {
        let Some(info) = index.terms().get(text)? else { return Ok(None) };
        Ok(Some(index.read_postings_from_terminfo(&info, IndexRecordOption::Basic)?))
    };
    let (Some(mut few), Some(mut many)) = (open(index, text)?, open(other, other_text)?) else { return Ok(false) };
    while few.doc() != TERMINATED {
        if many.seek(few.doc()) != few.doc() {
            return Ok(false);
        }
        few.advance();
    }
    Ok(true)
}

/// Returns the terms that are longer than this one and begin with it.
fn beginning_with(index: &InvertedIndexReader, text: &str) -> tantivy::Result<Vec<TermInfo>> {
    let mut longer = Vec::new();
    let mut stream = index.terms().range().gt(text).into_stream()?;
    while stream.advance() && stream.key().starts_with(text.as_bytes()) {
        longer.push(stream.value().clone());
    }
    Ok(longer)
}

/// Adds the documents in which one source has all these words.
fn synonym(words: &[Word], segment: &Segment, union: &mut Union) -> tantivy::Result<()> {
    for source in &segment.sources {
        let score = SYNONYM + source.weight;
        let mut together: Option<Vec<DocId>> = None;
        for word in words {
            let has = |index: &InvertedIndexReader| index.terms().get(&word.stem);
            let found = [(&source.stems, has(&source.stems)?), (&source.pairs, has(&source.pairs)?)];
            if words.len() == 1 {
                for (index, info) in found {
                    if let Some(info) = info {
                        union.add(Docs::Term(index.clone(), info), score);
                    }
                }
                continue;
            }
            let mut docs = Vec::new();
            for (index, info) in found {
                if let Some(info) = info {
                    each(index, &info, |doc| docs.push(doc))?;
                }
            }
            docs.sort_unstable();
            docs.dedup();
            if let Some(before) = &together {
                docs.retain(|doc| before.binary_search(doc).is_ok());
            }
            let is_over = docs.is_empty();
            together = Some(docs);
            if is_over {
                break;
            }
        }
        if let Some(docs) = together.filter(|docs| !docs.is_empty()) {
            union.add(Docs::Few(docs.into()), score);
        }
    }
    Ok(())
}
