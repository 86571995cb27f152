//! How often searches find the products that they should: known items, from a catalog that the caller provides.
//!
//! The queries are made from the documents: a title, a title with one typing error, the first words of a title, the
//! brand with the category, and a title whose last word is in the plural. A query succeeds if one of the first three
//! hits is its product or a product that the query describes as well.

use std::fmt;

use uuid::Uuid;

use crate::domain::platform::outbox::OutboxPosition;
use crate::domain::search::language::Language;
use crate::domain::search::query::{SearchQuery, SearchRequest};
use crate::domain::search::synonyms::Synonyms;
use crate::error::Result;
use crate::port::search::{Checkpoint, IndexOp, SearchDocument, SearchProvider};

/// A kind of query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownItem {
    /// The title.
    Title,
    /// The title with one typing error in its longest word.
    Typo,
    /// The first half of the words of the title, at least two.
    FirstWords,
    /// The brand and the category. Every product with both is a success.
    BrandAndCategory,
    /// The title with its last word in the plural.
    Plural,
}

impl KnownItem {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Title, Self::Typo, Self::FirstWords, Self::BrandAndCategory, Self::Plural];

    /// Returns the query for a document; `None` if there is none of this kind.
    fn query(self, d: &SearchDocument) -> Option<String> {
        let words: Vec<&str> = d.title.split_whitespace().collect();
        match self {
            Self::Title => Some(d.title.clone()),
            Self::Typo => {
                let longest = words.iter().max_by_key(|word| word.len()).filter(|word| is_word(word, 5))?;
                // The third letter is missing.
                let typed: String = longest.chars().enumerate().filter(|(i, _)| *i != 2).map(|(_, c)| c).collect();
                Some(d.title.replacen(longest, &typed, 1))
            }
            Self::FirstWords => Some(words[..words.len().div_ceil(2).max(2).min(words.len())].join(" ")),
            Self::BrandAndCategory => {
                Some(format!("{} {}", d.brand.as_ref()?, d.categories.first()?.name.replace('-', " ")))
            }
            Self::Plural => {
                let last = words.last().filter(|word| is_word(word, 3) && !word.ends_with('s'))?;
                let ending = if last.ends_with(['x', 'z', 'h']) { "es" } else { "s" };
                Some(format!("{}{ending}", d.title))
            }
        }
    }

    /// Returns whether a product is what the query for `wanted` describes.
    fn describes(self, found: &SearchDocument, wanted: &SearchDocument, query: &str) -> bool {
        match self {
            Self::BrandAndCategory => found.brand == wanted.brand && found.categories == wanted.categories,
            Self::FirstWords => found.title.starts_with(query),
            _ => found.id == wanted.id,
        }
    }
}

fn is_word(word: &str, letters: usize) -> bool {
    word.chars().count() >= letters && word.chars().all(char::is_alphabetic)
}

/// How many queries of a kind succeeded.
#[derive(Debug, Clone)]
pub struct Found {
    /// The kind.
    pub kind: KnownItem,
    /// How many queries there were.
    pub queries: usize,
    /// The queries that failed.
    pub missed: Vec<String>,
}

impl Found {
    /// Returns the share of the queries that succeeded, in percent.
    pub fn percent(&self) -> f64 {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        100.0 * count(self.queries - self.missed.len()) / count(self.queries)
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:.1} % of {}; missed: {:?}", self.kind, self.percent(), self.queries, self.missed)
    }
}

/// Fills an empty index with documents, and searches for each `step`-th of them by each kind of query.
///
/// # Errors
/// As [`SearchProvider::search`] and [`SearchProvider::apply`].
pub async fn relevance(provider: &dyn SearchProvider, documents: &[SearchDocument], step: usize) -> Result<Vec<Found>> {
    provider.acquire_writer().await?;
    let (database, version) = (Uuid::from_u128(0xDB), Uuid::from_u128(1));
    let checkpoint = Checkpoint { database, position: OutboxPosition { seq: 1 }, version, language: Language::English };
    let ops = documents.iter().map(|d| IndexOp::Upsert(Box::new(d.clone()))).collect();
    let filled = provider.apply(ops, None, checkpoint).await?;
    assert!(filled.is_some(), "the index is not empty: it has the checkpoint {:?}", provider.checkpoint().await);
    let mut measured = Vec::new();
    for kind in KnownItem::ALL {
        let mut found = Found { kind, queries: 0, missed: Vec::new() };
        for wanted in documents.iter().step_by(step) {
            let Some(text) = kind.query(wanted) else { continue };
            found.queries += 1;
            let query = SearchQuery { text: text.clone(), limit: 3, ..SearchQuery::default() };
            let hits = provider.search(&SearchRequest::new(query, &Synonyms::default())?).await?.hits;
            let is_found = hits.iter().any(|hit| {
                let hit = documents.iter().find(|d| d.id == hit.id);
                hit.is_some_and(|hit| kind.describes(hit, wanted, &text))
            });
            if !is_found {
                found.missed.push(text);
            }
        }
        measured.push(found);
    }
    Ok(measured)
}
