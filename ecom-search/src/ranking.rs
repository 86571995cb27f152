//! How matches are ranked, with the same scores on every engine.

/// The weights of the sources of full text. They are steps of 10, so that frequency and [`AS_WRITTEN`] never add up to
/// a step.
pub(crate) struct Weight;

impl Weight {
    pub(crate) const TITLE: f32 = 60.0;
    pub(crate) const BRAND: f32 = 50.0;
    pub(crate) const TAGS: f32 = 40.0;
    pub(crate) const CATEGORY_NAMES: f32 = 30.0;
    pub(crate) const CODES: f32 = 20.0;
    pub(crate) const DESCRIPTION: f32 = 10.0;
}

/// The score of a match of a word, by how it matches; the weight of the source is added. The steps are so large that a
/// better kind of match beats any source, and a better source beats any frequency.
pub(crate) const EXACT: f32 = 1_000.0;
pub(crate) const SYNONYM: f32 = 700.0;
pub(crate) const PREFIX: f32 = 500.0;
pub(crate) const TYPO: f32 = 100.0;
/// Puts the word itself above a word of the same stem. Less than the step between sources.
pub(crate) const AS_WRITTEN: f32 = 5.0;
/// Keeps the sum of all BM25 scores of a word below [`AS_WRITTEN`], up to an idf of about 20.
pub(crate) const FREQUENCY: f32 = 0.03 / 60.0;

/// Multiplies the score of an optional word, so that it stays below [`AS_WRITTEN`].
pub(crate) const OPTIONAL: f32 = 0.004;

/// Added to the score of each word in a search for most of the words, so that more words beat any better match of
/// fewer.
pub(crate) const PER_WORD: f32 = 10_000.0;

/// Divides the scores of partial matches, so that each is below the score of every match: 32 words with the highest
/// boost score 3,600,000 at most, and a typing error with the lowest boost scores 11 at least.
pub(crate) const BELOW_MATCHES: f32 = 1_000_000.0;

/// The step between the scores of pinned products. It exceeds the highest score of a match with the highest boost, and
/// its multiples are exact.
pub(crate) const PINNED: f32 = 10_000_000.0;
