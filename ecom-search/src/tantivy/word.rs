//! A query for one word. The score of a document is that of the best list that has it, and grows with the number of
//! times that its fields have the word.
//!
//! Tantivy's own union calls every list for every document, through a trait object. But most lists have the same
//! documents, and each gives all its documents the same score; only the frequency differs. So this query reads a window
//! of documents from one list after another, the best first, and each document keeps the first score that it gets. If
//! another word of the query is rare, the lists only look for its documents.

use std::fmt;
use std::sync::Arc;

use tantivy::index::SegmentId;
use tantivy::postings::{Postings as _, SegmentPostings};
use tantivy::query::{EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

use super::plan::{Docs, Frequency, List, Plan, Union};
use super::view::View;

/// Matches the documents of the lists of a plan.
#[derive(Clone)]
pub(super) struct WordQuery {
    pub(super) view: Arc<View>,
    pub(super) plan: Arc<Plan>,
    /// Added to the score of each document.
    pub(super) plus: Score,
    /// Whether scores are needed.
    pub(super) is_scored: bool,
}

impl fmt::Debug for WordQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WordQuery").field("entries", &self.plan.entries).finish_non_exhaustive()
    }
}

impl WordQuery {
    fn union(&self, id: SegmentId) -> tantivy::Result<&Union> {
        let at = self.view.segments.iter().position(|segment| segment.id == id);
        at.and_then(|at| self.plan.segments.get(at))
            .ok_or_else(|| TantivyError::InternalError("the plan is that of another state of the index".to_owned()))
    }

    /// Returns the scorer of a segment; `None` if no document of it matches.
    fn of(&self, segment: &SegmentReader, boost: Score, purpose: Purpose) -> tantivy::Result<Option<UnionScorer>> {
        let union = self.union(segment.segment_id())?;
        let is_scored = self.is_scored && purpose != Purpose::Matches;
        UnionScorer::of(union, Terms { documents: segment.max_doc(), plus: self.plus, boost, is_scored, purpose })
    }
}

impl Query for WordQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for WordQuery {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(match self.of(segment, boost, Purpose::Both)? {
            Some(scorer) => Box::new(scorer),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, segment: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        explain(self, segment, doc)
    }
}

/// What a scorer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Matches,
    /// The scores of documents that are known to match.
    Scores,
    Both,
}

/// How scores are made of those of the lists.
#[derive(Clone, Copy)]
struct Terms {
    /// The number of documents of the segment.
    documents: u32,
    plus: Score,
    boost: Score,
    is_scored: bool,
    purpose: Purpose,
}

/// The number of documents that are read at once.
const WINDOW: u32 = 4_096;
/// If a window has fewer entries on average, documents are read one by one.
const WORTH_A_WINDOW: u64 = 48;
/// How much longer it takes to look for a document in a list than to read an entry.
const SEEK: u64 = 6;

/// Iterates over the documents of lists.
pub(super) struct UnionScorer {
    /// The best first.
    lists: Vec<Cursor>,
    all: Vec<AllScorer>,
    doc: DocId,
    /// The number of entries of all lists.
    entries: u64,
    documents: u64,
    /// `None` until the documents are close enough to each other.
    window: Option<Box<Window>>,
    /// Whether [`Self::doc`] is in the window. Otherwise, the lists are at the document or after it.
    is_in_window: bool,
}

/// A bit for each document of a window.
type Bits = [u64; WINDOW as usize / 64];

struct Window {
    start: DocId,
    bits: Bits,
    scores: [Score; WINDOW as usize],
}

impl Window {
    /// Adds a document that is in the window.
    #[inline]
    fn add(&mut self, doc: DocId, score: Score, plus: Score) {
        let at = (doc - self.start) as usize % WINDOW as usize;
        let (bits, bit) = (&mut self.bits[at / 64], 1 << (at % 64));
        if *bits & bit == 0 {
            *bits |= bit;
            self.scores[at] = score + plus;
        } else {
            self.scores[at] += plus;
        }
    }

    fn raise(&mut self, doc: DocId, score: Score) {
        let at = (doc - self.start) as usize % WINDOW as usize;
        self.add(doc, score, 0.0);
        self.scores[at] = self.scores[at].max(score);
    }

    /// Returns the first document of the window from this one on.
    #[inline]
    fn next(&self, from: DocId) -> Option<DocId> {
        next_of(&self.bits, self.start, from)
    }
}

/// Returns the first document from this one on in a window that begins at `start`.
#[inline]
fn next_of(bits: &Bits, start: DocId, from: DocId) -> Option<DocId> {
    let at = (from - start) as usize;
    if at >= WINDOW as usize {
        return None;
    }
    let mut word = at / 64;
    let mut left = bits[word] >> (at % 64) << (at % 64);
    while left == 0 {
        word += 1;
        left = *bits.get(word)?;
    }
    u32::try_from(word).ok().map(|word| start + word * 64 + left.trailing_zeros())
}

struct Cursor {
    place: Place,
    score: Score,
    frequency: Option<Frequency>,
    boost: Score,
}

#[expect(
    clippy::large_enum_variant,
    reason = "most are postings, and a box would cost one more step for each document"
)]
enum Place {
    Term(SegmentPostings),
    Few(Arc<[DocId]>, usize),
    Many(Arc<[u64]>, DocId),
}

impl Place {
    #[inline]
    fn doc(&self) -> DocId {
        match self {
            Self::Term(postings) => postings.doc(),
            Self::Few(docs, at) => docs.get(*at).copied().unwrap_or(TERMINATED),
            Self::Many(_, doc) => *doc,
        }
    }

    #[inline]
    fn advance(&mut self) -> DocId {
        match self {
            Self::Term(postings) => postings.advance(),
            Self::Few(docs, at) => {
                *at = (*at + 1).min(docs.len());
                self.doc()
            }
            Self::Many(bits, doc) => {
                *doc = if *doc == TERMINATED { TERMINATED } else { next_bit(bits, *doc + 1) };
                *doc
            }
        }
    }

    /// Goes to the first document from this one on.
    #[inline]
    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc() >= target {
            return self.doc();
        }
        match self {
            Self::Term(postings) => postings.seek(target),
            Self::Few(docs, at) => {
                *at += docs[*at..].partition_point(|doc| *doc < target);
                self.doc()
            }
            Self::Many(bits, doc) => {
                *doc = next_bit(bits, target);
                *doc
            }
        }
    }
}

fn next_bit(bits: &[u64], from: DocId) -> DocId {
    let mut word = from as usize / 64;
    let Some(first) = bits.get(word) else { return TERMINATED };
    let mut found = first >> (from % 64) << (from % 64);
    while found == 0 {
        word += 1;
        match bits.get(word) {
            Some(next) => found = *next,
            None => return TERMINATED,
        }
    }
    u32::try_from(word).map_or(TERMINATED, |word| word * 64 + found.trailing_zeros())
}

impl Cursor {
    fn of(list: &List, terms: Terms) -> tantivy::Result<Self> {
        let frequency = list.frequency.clone().filter(|_| terms.is_scored);
        let place = match &list.docs {
            Docs::Term(index, info) => {
                let option = if frequency.is_some() { IndexRecordOption::WithFreqs } else { IndexRecordOption::Basic };
                Place::Term(index.read_postings_from_terminfo(info, option)?)
            }
            Docs::Few(docs) => Place::Few(docs.clone(), 0),
            Docs::Many(bits, _) => Place::Many(bits.clone(), next_bit(bits, 0)),
        };
        Ok(Self { place, score: (list.score + terms.plus) * terms.boost, frequency, boost: terms.boost })
    }

    /// Returns what the frequency adds to the score of the current document.
    #[inline]
    fn frequency(&self) -> Score {
        match (&self.frequency, &self.place) {
            (Some(Frequency { norms, weight }), Place::Term(postings)) => {
                self.boost * weight.score(norms.fieldnorm_id(postings.doc()), postings.term_freq())
            }
            _ => 0.0,
        }
    }

    /// Reads the documents up to the end of a window.
    fn fill(&mut self, window: &mut Window) {
        let end = window.start.saturating_add(WINDOW).min(TERMINATED);
        let mut doc = self.place.seek(window.start);
        let score = self.score;
        match (&mut self.place, &self.frequency) {
            (Place::Term(postings), Some(Frequency { norms, weight })) => {
                while doc < end {
                    let plus = self.boost * weight.score(norms.fieldnorm_id(doc), postings.term_freq());
                    window.add(doc, score, plus);
                    doc = postings.advance();
                }
            }
            (Place::Term(postings), None) => {
                while doc < end {
                    window.add(doc, score, 0.0);
                    doc = postings.advance();
                }
            }
            (place, _) => {
                while doc < end {
                    window.add(doc, score, 0.0);
                    doc = place.advance();
                }
            }
        }
    }
}

impl Cursor {
    /// Marks the documents up to the end of a window.
    fn mark(&mut self, start: DocId, bits: &mut Bits) {
        let end = start.saturating_add(WINDOW).min(TERMINATED);
        let mut doc = self.place.seek(start);
        let mut add = |doc: DocId| {
            let at = (doc - start) as usize % WINDOW as usize;
            bits[at / 64] |= 1 << (at % 64);
        };
        match &mut self.place {
            Place::Term(postings) => {
                while doc < end {
                    add(doc);
                    doc = postings.advance();
                }
            }
            place => {
                while doc < end {
                    add(doc);
                    doc = place.advance();
                }
            }
        }
    }
}

/// Matches the documents that match each of several words.
struct AllScorer {
    /// Those with the fewest entries first.
    words: Vec<UnionScorer>,
    /// What the sum of the scores is multiplied by.
    share: Score,
    doc: DocId,
    /// The matches of a window, if all words are read by windows.
    window: Option<Box<(DocId, Bits)>>,
}

impl AllScorer {
    fn of(words: &[Union], terms: Terms) -> tantivy::Result<Option<Self>> {
        let share = 1.0 / Score::from(u16::try_from(words.len()).unwrap_or(u16::MAX));
        let mut scorers = Vec::with_capacity(words.len());
        for word in words {
            match UnionScorer::of(word, terms)? {
                Some(scorer) => scorers.push(scorer),
                None => return Ok(None),
            }
        }
        Ok(Self::from(scorers, share))
    }

    /// Returns `None` if no document matches all.
    fn from(mut words: Vec<UnionScorer>, share: Score) -> Option<Self> {
        words.sort_by_key(|scorer| scorer.entries);
        let mut all = Self { words, share, doc: 0, window: None };
        all.find(0);
        (all.doc != TERMINATED).then_some(all)
    }

    /// As [`Self::from`], but by windows if that takes less time than to look for each document of the rarest word.
    fn by_windows(mut words: Vec<UnionScorer>) -> Option<Self> {
        words.sort_by_key(|scorer| scorer.entries);
        let entries: u64 = words.iter().map(|word| word.entries).sum();
        let (first, others) = words.split_first()?;
        let cursors: u64 = others.iter().map(|word| word.lists.len() as u64).sum();
        if others.is_empty() || entries > first.entries * cursors * SEEK {
            return Self::from(words, 1.0);
        }
        let mut all = Self { words, share: 1.0, doc: 0, window: Some(Box::new((0, [0; WINDOW as usize / 64]))) };
        all.find(0);
        (all.doc != TERMINATED).then_some(all)
    }

    /// Goes to the first document from this one on, by windows.
    fn find_by_windows(words: &mut [UnionScorer], (start, bits): &mut (DocId, Bits), target: DocId) -> DocId {
        if let Some(doc) = next_of(bits, *start, target) {
            return doc;
        }
        let mut from = target.max(start.saturating_add(if bits.iter().all(|bits| *bits == 0) { 0 } else { WINDOW }));
        loop {
            for word in &mut *words {
                word.look(from);
                from = word.doc;
            }
            if from >= TERMINATED {
                return TERMINATED;
            }
            *start = from;
            for (n, word) in words.iter_mut().enumerate() {
                let mut own = [0; WINDOW as usize / 64];
                word.mark(from, &mut own);
                if n == 0 {
                    *bits = own;
                } else {
                    bits.iter_mut().zip(&own).for_each(|(bits, own)| *bits &= own);
                }
            }
            if let Some(doc) = next_of(bits, *start, from) {
                return doc;
            }
            from = from.saturating_add(WINDOW).min(TERMINATED);
        }
    }

    /// Goes to the first document from this one on.
    fn find(&mut self, mut target: DocId) {
        if let Some(window) = &mut self.window {
            self.doc = Self::find_by_windows(&mut self.words, window, target);
            return;
        }
        'again: while target < TERMINATED {
            for word in &mut self.words {
                let doc = if word.doc < target { word.seek(target) } else { word.doc };
                if doc > target {
                    target = doc;
                    continue 'again;
                }
            }
            break;
        }
        self.doc = target;
    }

    fn score(&mut self) -> Score {
        self.share * self.words.iter_mut().map(UnionScorer::score).sum::<Score>()
    }
}

impl UnionScorer {
    fn of(union: &Union, terms: Terms) -> tantivy::Result<Option<Self>> {
        let lists = union.lists.iter().filter(|list| terms.is_scored || !list.is_within);
        let lists = lists.map(|list| Cursor::of(list, terms)).collect::<tantivy::Result<Vec<_>>>()?;
        let mut all = Vec::new();
        for words in &union.all {
            all.extend(AllScorer::of(words, terms)?);
        }
        if lists.is_empty() && all.is_empty() {
            return Ok(None);
        }
        let (entries, documents) = (union.entries(), u64::from(terms.documents));
        let mut scorer = Self { lists, all, doc: 0, entries, documents, window: None, is_in_window: false };
        match terms.purpose {
            Purpose::Both => scorer.go_on(0),
            Purpose::Matches | Purpose::Scores => scorer.look(0),
        }
        Ok((scorer.doc != TERMINATED).then_some(scorer))
    }

    /// Marks the documents up to the end of a window.
    fn mark(&mut self, start: DocId, bits: &mut Bits) {
        for list in &mut self.lists {
            list.mark(start, bits);
        }
        let end = start.saturating_add(WINDOW).min(TERMINATED);
        for all in &mut self.all {
            if all.doc < start {
                all.find(start);
            }
            while all.doc < end {
                let at = (all.doc - start) as usize % WINDOW as usize;
                bits[at / 64] |= 1 << (at % 64);
                all.find(all.doc + 1);
            }
        }
    }

    /// Returns the score of a document that is not before those of earlier calls; 0 if it does not match.
    fn score_of(&mut self, doc: DocId) -> Score {
        if self.doc < doc {
            self.look(doc);
        }
        if self.doc == doc { self.score() } else { 0.0 }
    }

    /// Returns the first document of the lists, all of which are after the window.
    fn head(&self) -> DocId {
        let lists = self.lists.iter().map(|list| list.place.doc());
        lists.chain(self.all.iter().map(|all| all.doc)).min().unwrap_or(TERMINATED)
    }

    /// Goes to the first document from this one on, by the lists.
    fn look(&mut self, target: DocId) {
        self.is_in_window = false;
        let mut first = TERMINATED;
        for list in &mut self.lists {
            first = first.min(list.place.seek(target));
        }
        for all in &mut self.all {
            if all.doc < target {
                all.find(target);
            }
            first = first.min(all.doc);
        }
        self.doc = first;
    }

    /// Goes to the first document from this one on, by a window if the documents are close to each other.
    fn go_on(&mut self, target: DocId) {
        if self.entries * u64::from(WINDOW) < self.documents * WORTH_A_WINDOW {
            self.look(target);
        } else {
            self.fill(target);
        }
    }

    /// Goes to the first document from this one on, by windows.
    fn fill(&mut self, mut target: DocId) {
        let mut window = self.window.take().unwrap_or_else(|| {
            Box::new(Window { start: 0, bits: [0; WINDOW as usize / 64], scores: [0.0; WINDOW as usize] })
        });
        loop {
            if target == TERMINATED {
                self.doc = TERMINATED;
                break;
            }
            window.start = target;
            window.bits.fill(0);
            for list in &mut self.lists {
                list.fill(&mut window);
            }
            let end = target.saturating_add(WINDOW).min(TERMINATED);
            for all in &mut self.all {
                if all.doc < target {
                    all.find(target);
                }
                while all.doc < end {
                    let (doc, score) = (all.doc, all.score());
                    window.raise(doc, score);
                    all.find(doc + 1);
                }
            }
            if let Some(doc) = window.next(target) {
                self.doc = doc;
                break;
            }
            target = self.head();
        }
        self.is_in_window = self.doc != TERMINATED;
        self.window = Some(window);
    }

    #[inline]
    fn in_window(&self, target: DocId) -> Option<DocId> {
        self.window.as_ref().filter(|_| self.is_in_window)?.next(target)
    }
}

impl DocSet for UnionScorer {
    #[inline]
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED {
            return TERMINATED;
        }
        let target = self.doc + 1;
        match self.in_window(target) {
            Some(doc) => self.doc = doc,
            // The lists are after the window.
            None if self.is_in_window => self.go_on(self.head()),
            None => self.go_on(target),
        }
        self.doc
    }

    #[inline]
    fn seek(&mut self, target: DocId) -> DocId {
        if self.doc >= target {
            return self.doc;
        }
        if let Some(doc) = self.in_window(target) {
            self.doc = doc;
            return doc;
        }
        let gap = u64::from(target - self.doc);
        let target = if self.is_in_window { target.max(self.head()) } else { target };
        // If documents are looked for that are far from each other, most of a window would be read in vain.
        let cursors = self.lists.len() as u64;
        if gap * self.entries > cursors * SEEK * self.documents {
            self.look(target);
        } else {
            self.go_on(target);
        }
        self.doc
    }

    #[inline]
    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        u32::try_from(self.entries.min(self.documents)).unwrap_or(u32::MAX)
    }
}

impl Scorer for UnionScorer {
    #[inline]
    fn score(&mut self) -> Score {
        match &self.window {
            Some(window) if self.is_in_window => window.scores[(self.doc - window.start) as usize % WINDOW as usize],
            _ => self.score_of_lists(),
        }
    }
}

impl UnionScorer {
    /// Returns the score of the document at which the lists are.
    fn score_of_lists(&mut self) -> Score {
        let doc = self.doc;
        let (mut best, mut plus) = (0.0, 0.0);
        for list in &self.lists {
            if list.place.doc() == doc {
                if best == 0.0 {
                    best = list.score;
                }
                plus += list.frequency();
            }
        }
        let all = self.all.iter_mut().filter(|all| all.doc == doc).map(AllScorer::score);
        all.fold(best + plus, Score::max)
    }
}

/// Matches the documents that match each of several words. The score is the sum of those of the words.
#[derive(Debug, Clone)]
pub(super) struct WordsQuery {
    /// At least one.
    pub(super) required: Vec<WordQuery>,
    /// Words that change the score alone, by this factor.
    pub(super) optional: Vec<WordQuery>,
    pub(super) factor: Score,
}

impl WordsQuery {
    fn of(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Option<WordsScorer>> {
        let mut words = Vec::with_capacity(self.required.len());
        for word in &self.required {
            match word.of(segment, boost, Purpose::Matches)? {
                Some(scorer) => words.push(scorer),
                None => return Ok(None),
            }
        }
        let Some(required) = AllScorer::by_windows(words) else { return Ok(None) };
        let mut scores = Vec::new();
        for word in self.required.iter().filter(|word| word.is_scored) {
            scores.extend(word.of(segment, boost, Purpose::Scores)?);
        }
        for word in &self.optional {
            scores.extend(word.of(segment, boost * self.factor, Purpose::Scores)?);
        }
        Ok(Some(WordsScorer { required, scores }))
    }
}

impl Query for WordsQuery {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for WordsQuery {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        Ok(match self.of(segment, boost)? {
            Some(scorer) => Box::new(scorer),
            None => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, segment: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        explain(self, segment, doc)
    }
}

fn explain(weight: &dyn Weight, segment: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
    let mut scorer = weight.scorer(segment, 1.0)?;
    if scorer.doc() > doc || scorer.seek(doc) != doc {
        return Err(TantivyError::InvalidArgument("the document does not match the words".to_owned()));
    }
    Ok(Explanation::new("words", scorer.score()))
}

/// Iterates over the documents that match all words.
pub(super) struct WordsScorer {
    required: AllScorer,
    /// The scores of all words, which are looked up for the matches alone.
    scores: Vec<UnionScorer>,
}

impl DocSet for WordsScorer {
    #[inline]
    fn advance(&mut self) -> DocId {
        if self.required.doc != TERMINATED {
            self.required.find(self.required.doc + 1);
        }
        self.required.doc
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.required.doc < target {
            self.required.find(target);
        }
        self.required.doc
    }

    #[inline]
    fn doc(&self) -> DocId {
        self.required.doc
    }

    fn size_hint(&self) -> u32 {
        self.required.words.first().map_or(0, DocSet::size_hint)
    }
}

impl Scorer for WordsScorer {
    #[inline]
    fn score(&mut self) -> Score {
        let doc = self.required.doc;
        self.scores.iter_mut().map(|word| word.score_of(doc)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ecom_core::search::{Language, Slot, Way, Word};
    use tantivy::indexer::NoMergePolicy;
    use tantivy::query::{
        BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, FuzzyTermQuery, QueryClone, TermQuery,
    };
    use tantivy::schema::Field;
    use tantivy::{Index, Searcher, TantivyDocument, Term};

    use super::super::schema::{Fields, tokenizers};
    use super::*;
    use crate::ranking::{AS_WRITTEN, EXACT, FREQUENCY, PREFIX, TYPO};

    /// Returns an index of two segments, with words that a few, some, half or nearly all documents have.
    fn index() -> (Searcher, Fields) {
        let (schema, fields) = Fields::new();
        let mut index = Index::create_in_ram(schema);
        index.set_tokenizers(tokenizers());
        let mut writer = index.writer_with_num_threads(1, 20_000_000).unwrap();
        writer.set_merge_policy(Box::new(NoMergePolicy));
        for n in 0..20_000u32 {
            let mut words = if n % 9_000 >= 8_000 { Vec::new() } else { vec!["every"] };
            for (step, word) in [(997, "scarce"), (997, "scarce"), (2, "halved"), (61, "others"), (61, "other")] {
                if n % step == 0 {
                    words.push(word);
                }
            }
            if n % 13 == 0 {
                words.push(["scarces", "scarcely", "scarc"][n as usize / 13 % 3]);
            }
            let mut document = TantivyDocument::new();
            let (title, description) = words.split_at(words.len() / 2);
            for (source, words) in [(fields.title, title), (fields.description, description)] {
                let stems: Vec<String> = words.iter().map(|word| Language::English.stem(word)).collect();
                document.add_text(source.stems, stems.join(" "));
                document.add_text(source.words, words.join(" "));
                if n % 7 == 0 {
                    document.add_text(source.pairs, "every");
                }
            }
            document.add_text(fields.spelling, words.join(" "));
            writer.add_document(document).unwrap();
            if n == 12_000 {
                writer.commit().unwrap();
            }
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        assert_eq!(searcher.segment_readers().len(), 2);
        (searcher, fields)
    }

    fn word(text: &str, edits: u8, is_prefix: bool) -> Word {
        Word { text: text.to_owned(), stem: Language::English.stem(text), edits, is_prefix }
    }

    fn query(view: &Arc<View>, fields: &Fields, ways: Vec<Way>) -> WordQuery {
        let plan = view.plan(&Slot { ways, is_optional: false }, fields).unwrap();
        WordQuery { view: view.clone(), plan, plus: 0.0, is_scored: true }
    }

    /// Returns the query of a word as Tantivy's own queries express it.
    fn plainly(fields: &Fields, word: &Word) -> Box<dyn Query> {
        let term = |field: Field, text: &str| Term::from_field_text(field, text);
        let mut ways: Vec<Box<dyn Query>> = Vec::new();
        let mut sum: Vec<Box<dyn Query>> = Vec::new();
        for source in fields.sources() {
            let mut way = |query: Box<dyn Query>, score: Score| {
                ways.push(Box::new(ConstScoreQuery::new(query, score + source.weight)));
            };
            let basic = |field, text: &str| Box::new(TermQuery::new(term(field, text), IndexRecordOption::Basic));
            way(basic(source.stems, &word.stem), EXACT);
            way(basic(source.pairs, &word.stem), EXACT);
            way(basic(source.words, &word.text), EXACT + AS_WRITTEN);
            if word.is_prefix {
                way(Box::new(FuzzyTermQuery::new_prefix(term(source.words, &word.text), 0, true)), PREFIX);
            }
            if word.edits > 0 {
                way(Box::new(FuzzyTermQuery::new(term(source.words, &word.text), word.edits, true)), TYPO);
            }
            let stem = TermQuery::new(term(source.stems, &word.stem), IndexRecordOption::WithFreqs);
            sum.push(Box::new(BoostQuery::new(Box::new(stem), FREQUENCY * source.weight)));
        }
        sum.push(Box::new(DisjunctionMaxQuery::new(ways)));
        Box::new(BooleanQuery::union(sum))
    }

    /// Returns the scores of all documents, as the collectors get them.
    fn scores(searcher: &Searcher, query: &dyn Query) -> BTreeMap<(usize, DocId), Score> {
        let weight = query.weight(EnableScoring::enabled_from_searcher(searcher)).unwrap();
        let mut found = BTreeMap::new();
        for (at, segment) in searcher.segment_readers().iter().enumerate() {
            let mut last = None;
            weight
                .for_each(segment, &mut |doc, score| {
                    assert!(last.is_none_or(|last| last < doc), "ascending and once each");
                    last = Some(doc);
                    found.insert((at, doc), score);
                })
                .unwrap();
        }
        found
    }

    fn assert_same(searcher: &Searcher, ours: &dyn Query, theirs: &dyn Query, about: &str) {
        let (ours, theirs) = (scores(searcher, ours), scores(searcher, theirs));
        assert!(ours.keys().eq(theirs.keys()), "{about}: {} and {} documents", ours.len(), theirs.len());
        for (at, score) in &ours {
            assert!((score - theirs[at]).abs() < 0.01, "{about} {at:?}: {score} and {}", theirs[at]);
        }
    }

    #[test]
    fn words_match_and_score_as_tantivys_own_queries() {
        let (searcher, fields) = index();
        let view = Arc::new(View::open(searcher.clone(), None, &fields).unwrap());
        let words = [
            word("scarce", 0, false),
            word("scarce", 1, false),
            word("scarce", 2, true),
            word("halved", 0, false),
            word("every", 0, false),
            word("every", 1, true),
            word("other", 0, true),
            word("othres", 1, false),
            word("missing", 2, true),
        ];
        for one in &words {
            let about = format!("{one:?}");
            let ours = query(&view, &fields, vec![Way::Word(one.clone())]);
            let theirs = plainly(&fields, one);
            assert_same(&searcher, &ours, &*theirs, &about);
            for other in &words {
                let about = format!("{one:?} and {other:?}");
                let required = vec![ours.clone(), query(&view, &fields, vec![Way::Word(other.clone())])];
                let both = BooleanQuery::intersection(vec![theirs.box_clone(), plainly(&fields, other)]);
                // Tantivy's intersection seeks in our lists.
                let within: Vec<Box<dyn Query>> = required.iter().map(QueryClone::box_clone).collect();
                assert_same(&searcher, &BooleanQuery::intersection(within), &both, &about);
                let all = query(&view, &fields, vec![Way::All(vec![one.clone(), other.clone()])]);
                assert_same(&searcher, &all, &BoostQuery::new(Box::new(both.clone()), 0.5), &about);
                assert_same(&searcher, &WordsQuery { required, optional: Vec::new(), factor: 1.0 }, &both, &about);
            }
        }
    }

    #[test]
    fn an_optional_word_changes_the_score_alone() {
        let (searcher, fields) = index();
        let view = Arc::new(View::open(searcher.clone(), None, &fields).unwrap());
        let [needed, more] = ["halved", "scarce"].map(|text| word(text, 0, false));
        let of = |word: &Word| query(&view, &fields, vec![Way::Word(word.clone())]);
        let ours = WordsQuery { required: vec![of(&needed)], optional: vec![of(&more)], factor: 0.5 };
        let theirs = BooleanQuery::new(vec![
            (tantivy::query::Occur::Must, plainly(&fields, &needed)),
            (tantivy::query::Occur::Should, Box::new(BoostQuery::new(plainly(&fields, &more), 0.5))),
        ]);
        assert_same(&searcher, &ours, &theirs, "an optional word");
    }
}
