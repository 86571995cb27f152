//! A query for one word. The score of a document is that of the best way in which it matches, and grows with the number
//! of times that its fields have the word.
//!
//! Tantivy's own union calls every way for every document, through a trait object. But most ways match the same
//! documents, and each way gives all its documents the same score; only the frequency differs. So this query reads the
//! ways one after another, the best first, and each document keeps the first score that it gets. This copies one block
//! of postings after another into a table.

use std::fmt;
use std::sync::Arc;

use tantivy::query::{AutomatonWeight, DfaWrapper, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::Field;
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

/// The ways in which a document can match a word, each with the score of its matches, which is not 0.
#[derive(Debug, Clone, Default)]
pub(super) struct WordQuery {
    pub ways: Vec<(Arc<dyn Query>, Score)>,
    /// Queries whose scores are multiplied by a factor and added. They match no document that no way matches.
    pub frequency: Vec<(Arc<dyn Query>, Score)>,
}

/// Matches the documents with a term of a field that an automaton accepts. Fields share automata, because building one
/// that accepts typing errors costs more than reading the terms of a field.
#[derive(Clone)]
pub(super) struct AcceptedTerms {
    pub field: Field,
    pub automaton: Arc<DfaWrapper>,
}

impl fmt::Debug for AcceptedTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptedTerms").field("field", &self.field).finish_non_exhaustive()
    }
}

impl Query for AcceptedTerms {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(AutomatonWeight::<DfaWrapper>::new(self.field, self.automaton.clone())))
    }
}

type Weights = Vec<(Box<dyn Weight>, Score)>;

struct WordWeight {
    /// The best first.
    ways: Weights,
    frequency: Weights,
}

impl Query for WordQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let weights = |queries: &[(Arc<dyn Query>, Score)], scoring: EnableScoring<'_>| {
            queries.iter().map(|(query, score)| Ok((query.weight(scoring)?, *score))).collect::<tantivy::Result<_>>()
        };
        let mut ways: Weights = weights(&self.ways, EnableScoring::disabled_from_schema(scoring.schema()))?;
        ways.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let frequency = if scoring.is_scoring_enabled() { weights(&self.frequency, scoring)? } else { Vec::new() };
        Ok(Box::new(WordWeight { ways, frequency }))
    }
}

impl Weight for WordWeight {
    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut matches = Matches::new(segment.max_doc());
        for (way, score) in &self.ways {
            let score = score * boost;
            way.for_each_no_score(segment, &mut |docs| matches.take(docs, score))?;
        }
        matches.sort();
        for (frequency, factor) in &self.frequency {
            let factor = factor * boost;
            let mut sparse_at = 0;
            frequency.for_each(segment, &mut |doc, score| matches.raise(doc, score * factor, &mut sparse_at))?;
        }
        Ok(match matches {
            Matches::Few { matches, .. } => Box::new(Few { matches, at: 0 }),
            Matches::Many { scores, count } => {
                let mut many = Many { scores, count, doc: 0 };
                many.seek(0);
                Box::new(many)
            }
        })
    }

    fn explain(&self, segment: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        let mut scorer = self.scorer(segment, 1.0)?;
        if scorer.doc() > doc || scorer.seek(doc) != doc {
            return Err(TantivyError::InvalidArgument("the document does not match the word".to_owned()));
        }
        Ok(Explanation::new("WordQuery", scorer.score()))
    }
}

/// If more than one in this many documents matches, the matches are kept in a table of all documents. With fewer
/// matches, clearing the table would cost more than sorting them.
const DOCUMENTS_PER_MATCH: usize = 64;

/// The documents of a segment that match, with their scores.
enum Matches {
    /// In the order in which they were found, and after [`Matches::sort`] by document.
    Few { matches: Vec<(DocId, Score)>, documents: usize },
    /// The scores of all documents of the segment; 0 for those that do not match.
    Many { scores: Vec<Score>, count: u32 },
}

impl Matches {
    fn new(documents: DocId) -> Self {
        Self::Few { matches: Vec::new(), documents: documents as usize }
    }

    /// Adds matches with a score that is not higher than those before. Documents that match already keep their scores.
    fn take(&mut self, docs: &[DocId], score: Score) {
        match self {
            Self::Few { matches, documents } => {
                matches.extend(docs.iter().map(|doc| (*doc, score)));
                if matches.len() * DOCUMENTS_PER_MATCH > *documents {
                    let mut many = Self::Many { scores: vec![0.0; *documents], count: 0 };
                    for (doc, score) in matches {
                        many.take(std::slice::from_ref(doc), *score);
                    }
                    *self = many;
                }
            }
            Self::Many { scores, count } => {
                for doc in docs {
                    if let Some(slot) = scores.get_mut(*doc as usize)
                        && *slot == 0.0
                    {
                        *slot = score;
                        *count += 1;
                    }
                }
            }
        }
    }

    fn sort(&mut self) {
        if let Self::Few { matches, .. } = self {
            // The sort is stable, so the best score of a document comes first.
            matches.sort_by_key(|(doc, _)| *doc);
            matches.dedup_by_key(|(doc, _)| *doc);
        }
    }

    /// Adds to the score of a match. Among few matches, the search for the document begins at `at`, because documents
    /// come in ascending order.
    fn raise(&mut self, doc: DocId, plus: Score, at: &mut usize) {
        match self {
            Self::Few { matches, .. } => {
                *at += matches[*at..].partition_point(|(found, _)| *found < doc);
                if let Some((_, score)) = matches.get_mut(*at).filter(|(found, _)| *found == doc) {
                    *score += plus;
                }
            }
            Self::Many { scores, .. } => {
                if let Some(score) = scores.get_mut(doc as usize).filter(|score| **score != 0.0) {
                    *score += plus;
                }
            }
        }
    }
}

/// Iterates over few matches.
struct Few {
    matches: Vec<(DocId, Score)>,
    at: usize,
}

impl DocSet for Few {
    fn advance(&mut self) -> DocId {
        self.at = (self.at + 1).min(self.matches.len());
        self.doc()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.at += self.matches[self.at..].partition_point(|(doc, _)| *doc < target);
        self.doc()
    }

    fn doc(&self) -> DocId {
        self.matches.get(self.at).map_or(TERMINATED, |(doc, _)| *doc)
    }

    fn size_hint(&self) -> u32 {
        u32::try_from(self.matches.len()).unwrap_or(u32::MAX)
    }
}

impl Scorer for Few {
    fn score(&mut self) -> Score {
        self.matches.get(self.at).map_or(0.0, |(_, score)| *score)
    }
}

/// Iterates over the table of all documents.
struct Many {
    scores: Vec<Score>,
    count: u32,
    doc: DocId,
}

impl DocSet for Many {
    fn advance(&mut self) -> DocId {
        if self.doc == TERMINATED { TERMINATED } else { self.seek(self.doc + 1) }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        let rest = self.scores.get(target as usize..).unwrap_or_default();
        let next = rest.iter().position(|score| *score != 0.0).and_then(|n| DocId::try_from(n).ok());
        self.doc = next.map_or(TERMINATED, |n| target + n);
        self.doc
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.count
    }
}

impl Scorer for Many {
    fn score(&mut self) -> Score {
        self.scores.get(self.doc as usize).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tantivy::collector::Count;
    use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, TermQuery};
    use tantivy::schema::{IndexRecordOption, Schema, TEXT};
    use tantivy::{Index, Searcher, Term, doc};

    use super::*;

    const WAYS: [(&str, Score); 4] = [("rare", 700.0), ("half", 1_000.0), ("all", 500.0), ("some", 1_005.0)];
    const FREQUENCY: Score = 0.05;

    fn term(field: Field, text: &str, option: IndexRecordOption) -> TermQuery {
        TermQuery::new(Term::from_field_text(field, text), option)
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

    #[test]
    fn a_word_scores_as_the_union_of_its_ways() {
        let mut schema = Schema::builder();
        let field = schema.add_text_field("text", TEXT);
        let index = Index::create_in_ram(schema.build());
        let mut writer = index.writer_with_num_threads(1, 20_000_000).unwrap();
        for n in 0..5_000u32 {
            let mut text = if n >= 4_000 { String::new() } else { "all".to_owned() };
            for (every, word) in [(997, " rare rare"), (2, " half"), (61, " some")] {
                if n % every == 0 {
                    text.push_str(word);
                }
            }
            writer.add_document(doc!(field => text)).unwrap();
        }
        writer.commit().unwrap();
        let searcher = index.reader().unwrap().searcher();
        // From few matches to nearly all documents.
        for ways in [&WAYS[..1], &WAYS[..2], &WAYS[..], &WAYS[2..3], &WAYS[3..]] {
            let basic = |word| term(field, word, IndexRecordOption::Basic);
            let rare = ways[0].0 == "rare";
            let frequency = rare.then(|| term(field, "rare", IndexRecordOption::WithFreqs));
            let consts = ways.iter().map(|(word, score)| -> Box<dyn Query> {
                Box::new(ConstScoreQuery::new(Box::new(basic(word)), *score))
            });
            let mut union: Vec<Box<dyn Query>> = vec![Box::new(DisjunctionMaxQuery::new(consts.collect()))];
            if let Some(query) = &frequency {
                union.push(Box::new(BoostQuery::new(Box::new(query.clone()), FREQUENCY)));
            }
            let union = BooleanQuery::union(union);
            let word = WordQuery {
                ways: ways
                    .iter()
                    .map(|(word, score)| -> (Arc<dyn Query>, _) { (Arc::new(basic(word)), *score) })
                    .collect(),
                frequency: frequency
                    .into_iter()
                    .map(|query| -> (Arc<dyn Query>, _) { (Arc::new(query), FREQUENCY) })
                    .collect(),
            };

            let (ours, theirs) = (scores(&searcher, &word), scores(&searcher, &union));
            assert!(ours.keys().eq(theirs.keys()) && !ours.is_empty());
            for (at, score) in &ours {
                assert!((score - theirs[at]).abs() < 1e-3, "{at:?}: {score} and {}", theirs[at]);
            }
            // Among other clauses, which seek.
            let within = |query: Box<dyn Query>| {
                let both = BooleanQuery::intersection(vec![query, Box::new(basic("half"))]);
                searcher.search(&both, &Count).unwrap()
            };
            assert_eq!(within(Box::new(word)), within(Box::new(union)));
        }
    }
}
