//! What the searches of one state of an index share: its open columns and dictionaries, and what they have found in
//! the dictionaries.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use ecom_core::search::{Facet, Slot};
use parking_lot::Mutex;
use tantivy::columnar::{BytesColumn, Column, ColumnValues};
use tantivy::fieldnorm::FieldNormReader;
use tantivy::index::SegmentId;
use tantivy::query::{DfaWrapper, FuzzyTermQuery};
use tantivy::{InvertedIndexReader, Searcher, SegmentReader, Term};

use super::plan::Plan;
use super::schema::{Fields, TextSource, column};

/// How many bytes of postings and words the plans of a state of the index take at most, in each of two halves.
const PLAN_BYTES: usize = 8_000_000;
/// How many bytes the words that are like others take at most per segment, in each of two halves.
const SPELLING_BYTES: usize = 500_000;
/// How many automata are kept at most, in each of two halves. One of two edits takes about half a megabyte.
const AUTOMATA: usize = 8;

/// A map that forgets what was not used for long: it has two halves, and what is used moves to the newer one, which
/// becomes the older one when it is full.
pub(super) struct Recent<K, V> {
    halves: Mutex<Halves<K, V>>,
    /// The size of a half.
    most: usize,
}

struct Halves<K, V> {
    new: HashMap<K, (V, usize)>,
    size: usize,
    old: HashMap<K, (V, usize)>,
}

impl<K: Eq + Hash + Clone, V: Clone> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { halves: Mutex::new(Halves { new: HashMap::new(), size: 0, old: HashMap::new() }), most }
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let mut halves = self.halves.lock();
        if let Some((value, _)) = halves.new.get(key) {
            return Some(value.clone());
        }
        let (key, (value, size)) = halves.old.remove_entry(key)?;
        halves.insert(key, value.clone(), size, self.most);
        Some(value)
    }

    /// Adds a value of a size. One that is larger than a half is not kept.
    pub(super) fn insert(&self, key: K, value: V, size: usize) {
        if size <= self.most {
            self.halves.lock().insert(key, value, size, self.most);
        }
    }
}

impl<K: Eq + Hash, V> Halves<K, V> {
    fn insert(&mut self, key: K, value: V, size: usize, most: usize) {
        if self.size + size > most {
            self.old = std::mem::take(&mut self.new);
            self.size = 0;
        }
        if let Some((_, before)) = self.new.insert(key, (value, size)) {
            self.size -= before;
        }
        self.size += size;
    }
}

/// A typed word, with the number of its edits.
pub(super) type Typed = (Box<str>, u8);

/// The automata of words with typing errors, which are costly to build.
pub(super) struct Automata(Recent<Typed, Arc<DfaWrapper>>);

impl Default for Automata {
    fn default() -> Self {
        Self(Recent::new(AUTOMATA))
    }
}

impl Automata {
    fn of(&self, typed: &Typed, fields: &Fields) -> tantivy::Result<Arc<DfaWrapper>> {
        if let Some(known) = self.0.get(typed) {
            return Ok(known);
        }
        let (word, edits) = typed;
        let fuzzy = FuzzyTermQuery::new(Term::from_field_text(fields.spelling, word), *edits, true);
        let made = Arc::new(fuzzy.automaton()?);
        self.0.insert(typed.clone(), made.clone(), 1);
        Ok(made)
    }
}

/// A state of an index.
pub(super) struct View {
    pub(super) searcher: Searcher,
    /// In the order of the searcher's segments.
    pub(super) segments: Vec<Arc<Segment>>,
    /// How the words of queries are found.
    plans: Recent<Slot, Arc<Plan>>,
    automata: Arc<Automata>,
    /// The mean number of words of each source.
    pub(super) lengths: [f32; 5],
    /// The number of documents, including those that were replaced.
    pub(super) documents: u64,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}

impl View {
    /// Opens a state of an index, with what an earlier state knows of the same segments.
    pub(super) fn open(searcher: Searcher, before: Option<&Self>, fields: &Fields) -> tantivy::Result<Self> {
        let known = |id| before.and_then(|view| view.segments.iter().find(|segment| segment.id == id));
        let readers = searcher.segment_readers();
        let segments: Vec<Arc<Segment>> = readers
            .iter()
            .map(|reader| match known(reader.segment_id()) {
                Some(segment) => Ok(segment.clone()),
                None => Segment::open(reader, fields).map(Arc::new),
            })
            .collect::<tantivy::Result<_>>()?;
        let documents: u64 = readers.iter().map(|reader| u64::from(reader.max_doc())).sum();
        let lengths = std::array::from_fn(|at| {
            let words: u64 = segments.iter().map(|segment| segment.sources[at].stems.total_num_tokens()).sum();
            #[expect(clippy::cast_precision_loss, reason = "Tantivy computes the mean in the same way")]
            let mean = words as f32 / documents as f32;
            mean
        });
        let automata = before.map(|view| view.automata.clone()).unwrap_or_default();
        Ok(Self { searcher, segments, plans: Recent::new(PLAN_BYTES), automata, lengths, documents })
    }

    /// Returns whether a searcher has the same documents.
    pub(super) fn is_of(&self, searcher: &Searcher) -> bool {
        let (ours, theirs) = (self.searcher.generation(), searcher.generation());
        ours.generation_id() == theirs.generation_id() || ours.segments() == theirs.segments()
    }

    /// Returns the plan of a word if it is known.
    pub(super) fn known(&self, slot: &Slot) -> Option<Arc<Plan>> {
        self.plans.get(slot)
    }

    /// Returns the plan of a word.
    pub(super) fn plan(&self, slot: &Slot, fields: &Fields) -> tantivy::Result<Arc<Plan>> {
        if let Some(plan) = self.known(slot) {
            return Ok(plan);
        }
        let plan = Arc::new(Plan::of(slot, self, fields)?);
        self.plans.insert(slot.clone(), plan.clone(), plan.bytes());
        Ok(plan)
    }

    /// Returns the words of a segment that are this one with at most so many edits, without the word itself.
    pub(super) fn similar(&self, segment: &Segment, typed: Typed, fields: &Fields) -> tantivy::Result<Arc<[Box<str>]>> {
        if let Some(known) = segment.similar.get(&typed) {
            return Ok(known);
        }
        let automaton = self.automata.of(&typed, fields)?;
        let mut words: Vec<Box<str>> = Vec::new();
        let mut stream = segment.spelling.terms().search(&*automaton).into_stream()?;
        while stream.advance() {
            if stream.key() != typed.0.as_bytes()
                && let Ok(word) = str::from_utf8(stream.key())
            {
                words.push(word.into());
            }
        }
        let words: Arc<[Box<str>]> = words.into();
        let bytes = 64 + typed.0.len() + words.iter().map(|word| word.len() + size_of::<Box<str>>()).sum::<usize>();
        segment.similar.insert(typed, words.clone(), bytes);
        Ok(words)
    }
}

/// The dictionaries of a source of full text in a segment.
pub(super) struct Source {
    pub(super) stems: Arc<InvertedIndexReader>,
    pub(super) words: Arc<InvertedIndexReader>,
    pub(super) pairs: Arc<InvertedIndexReader>,
    pub(super) norms: FieldNormReader,
    pub(super) weight: f32,
}

impl Source {
    fn open(reader: &SegmentReader, source: TextSource) -> tantivy::Result<Self> {
        Ok(Self {
            stems: reader.inverted_index(source.stems)?,
            words: reader.inverted_index(source.words)?,
            pairs: reader.inverted_index(source.pairs)?,
            norms: reader.get_fieldnorms_reader(source.stems)?,
            weight: source.weight,
        })
    }
}

/// A segment, which never changes, except that its documents are replaced by those of others.
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) documents: u32,
    /// In the order of [`Fields::sources`].
    pub(super) sources: [Source; 5],
    pub(super) codes: Arc<InvertedIndexReader>,
    spelling: Arc<InvertedIndexReader>,
    similar: Recent<Typed, Arc<[Box<str>]>>,
    pub(super) columns: Columns,
    facet_values: Mutex<Option<Arc<FacetValues>>>,
}

impl Segment {
    fn open(reader: &SegmentReader, fields: &Fields) -> tantivy::Result<Self> {
        Ok(Self {
            id: reader.segment_id(),
            documents: reader.max_doc(),
            sources: [
                Source::open(reader, fields.title)?,
                Source::open(reader, fields.brand)?,
                Source::open(reader, fields.tags)?,
                Source::open(reader, fields.category_names)?,
                Source::open(reader, fields.description)?,
            ],
            codes: reader.inverted_index(fields.codes)?,
            spelling: reader.inverted_index(fields.spelling)?,
            similar: Recent::new(SPELLING_BYTES),
            columns: Columns::open(reader)?,
            facet_values: Mutex::default(),
        })
    }

    /// Returns the values of facets, which the first call reads.
    pub(super) fn facet_values(&self) -> tantivy::Result<Arc<FacetValues>> {
        let mut place = self.facet_values.lock();
        if let Some(values) = &*place {
            return Ok(values.clone());
        }
        let values = Arc::new(FacetValues::read(&self.columns, self.documents)?);
        *place = Some(values.clone());
        Ok(values)
    }

    /// Returns whether [`Self::facet_values`] is quick.
    pub(super) fn has_facet_values(&self) -> bool {
        self.facet_values.try_lock().is_some_and(|values| values.is_some())
    }
}

/// The values of facets by document, about 40 bytes for each: the columns are compressed, and to read them takes twice
/// as long.
pub(super) struct FacetValues {
    categories: Option<Texts>,
    brands: Option<Texts>,
    tags: Option<Texts>,
    /// [`NO_PRICE`] if a document has none.
    prices: Vec<i64>,
    /// Whole stars.
    pub(super) stars: Vec<u8>,
    /// [`u8::MAX`] if a document has none.
    pub(super) availabilities: Vec<u8>,
}

/// Stands for no price. Prices are not negative.
const NO_PRICE: i64 = i64::MIN;

/// Texts by document.
pub(super) struct Texts {
    /// All texts, by their numbers.
    pub(super) terms: Vec<Arc<[u8]>>,
    /// The place of the first number of each document, and the end.
    starts: Vec<u32>,
    numbers: Vec<u32>,
}

impl Texts {
    fn read(column: &BytesColumn, documents: u32) -> tantivy::Result<Self> {
        let (mut starts, mut numbers) = (Vec::with_capacity(documents as usize + 1), Vec::new());
        for doc in 0..documents {
            starts.push(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
            numbers.extend(column.term_ords(doc).map(|number| u32::try_from(number).unwrap_or(u32::MAX)));
        }
        starts.push(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
        let mut terms = Vec::with_capacity(column.num_terms());
        let mut all = column.dictionary().stream()?;
        while all.advance() {
            terms.push(Arc::from(all.key()));
        }
        Ok(Self { terms, starts, numbers })
    }

    /// Returns the numbers of the texts of a document.
    #[inline]
    pub(super) fn of(&self, doc: usize) -> &[u32] {
        &self.numbers[self.starts[doc] as usize..self.starts[doc + 1] as usize]
    }
}

impl FacetValues {
    fn read(columns: &Columns, documents: u32) -> tantivy::Result<Self> {
        let texts = |column: &Option<BytesColumn>| column.as_ref().map(|c| Texts::read(c, documents)).transpose();
        let stars = |doc| columns.rating.first(doc).and_then(|rating| u8::try_from(rating / 100).ok()).unwrap_or(0);
        let availability = |doc| columns.availability.first(doc).and_then(|a| u8::try_from(a).ok()).unwrap_or(u8::MAX);
        Ok(Self {
            categories: texts(&columns.categories)?,
            brands: texts(&columns.brands)?,
            tags: texts(&columns.tags)?,
            prices: (0..documents).map(|doc| columns.price.first(doc).unwrap_or(NO_PRICE)).collect(),
            stars: (0..documents).map(|doc| stars(doc).min(5)).collect(),
            availabilities: (0..documents).map(availability).collect(),
        })
    }

    /// Returns the price of a document.
    #[inline]
    pub(super) fn price(&self, doc: usize) -> Option<i64> {
        Some(self.prices[doc]).filter(|price| *price != NO_PRICE)
    }

    /// Returns the texts of a facet; `None` if no document has any, or if its values are numbers.
    pub(super) const fn texts(&self, facet: Facet) -> Option<&Texts> {
        match facet {
            Facet::Categories => self.categories.as_ref(),
            Facet::Brands => self.brands.as_ref(),
            Facet::Tags => self.tags.as_ref(),
            Facet::Prices | Facet::Rating | Facet::Availability => None,
        }
    }
}

/// The columns of a segment.
pub(super) struct Columns {
    /// Whether each document has a higher id than those before it, as after a rebuild.
    pub(super) is_in_order: bool,
    pub(super) id_high: Arc<dyn ColumnValues<u64>>,
    pub(super) id_low: Arc<dyn ColumnValues<u64>>,
    pub(super) created: Column<i64>,
    pub(super) price: Column<i64>,
    pub(super) rating: Column<i64>,
    pub(super) availability: Column<u64>,
    pub(super) status: Column<u64>,
    pub(super) categories: Option<BytesColumn>,
    pub(super) brands: Option<BytesColumn>,
    pub(super) tags: Option<BytesColumn>,
}

impl Columns {
    fn open(reader: &SegmentReader) -> tantivy::Result<Self> {
        let fast = reader.fast_fields();
        let (id_high, id_low) =
            (fast.column_first_or_default(column::ID_HIGH)?, fast.column_first_or_default(column::ID_LOW)?);
        let id = |doc| (id_high.get_val(doc), id_low.get_val(doc));
        Ok(Self {
            is_in_order: (0..reader.max_doc()).is_sorted_by_key(id),
            id_high,
            id_low,
            created: fast.i64(column::CREATED)?,
            price: fast.i64(column::PRICE)?,
            rating: fast.i64(column::RATING)?,
            availability: fast.u64(column::AVAILABILITY)?,
            status: fast.u64(column::STATUS)?,
            categories: fast.bytes(column::CATEGORIES)?,
            brands: fast.str(column::BRAND)?.map(Into::into),
            tags: fast.str(column::TAGS)?.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_kept_and_the_rest_is_bounded() {
        let recent: Recent<u32, u32> = Recent::new(100);
        for n in 0..1_000 {
            recent.insert(n, n * 2, 10);
            assert_eq!(recent.get(&0), Some(0), "it is used again and again");
        }
        assert_eq!(recent.get(&999), Some(1_998));
        assert_eq!(recent.get(&500), None);
        let halves = recent.halves.lock();
        assert!(halves.new.len() <= 10 && halves.old.len() <= 10 && halves.size <= 100);
    }

    #[test]
    fn what_is_larger_than_a_half_is_not_kept() {
        let recent: Recent<u32, u32> = Recent::new(100);
        recent.insert(1, 1, 101);
        assert_eq!(recent.get(&1), None);
        for size in [60, 100, 20] {
            recent.insert(2, size, 50);
            assert_eq!(recent.get(&2), Some(size), "the newest value");
        }
        assert_eq!(recent.halves.lock().size, 50);
    }
}
