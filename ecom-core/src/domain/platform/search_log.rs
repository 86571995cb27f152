//! The search log: how often each text was searched for on a day, and how often nothing was found. It records no
//! single searches and not who searched.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::platform::idempotency::RequestHash;
use crate::domain::words::words;
use crate::text::fold;

/// A text that was searched for, with its counts over some days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchTerm {
    /// The id: a hash of the folded text, so that texts which differ only in case or white space are one term.
    pub id: Uuid,
    /// The text as it was last typed, with single spaces.
    pub text: String,
    /// How often the text was searched for.
    pub searches: u64,
    /// How many of these searches found no product.
    pub without_result: u64,
    /// How many of these searches found no product with all words of the text, but products with some of them.
    pub partial_result: u64,
}

impl SearchTerm {
    /// Returns the term of one search, which has found `total` products with all words and `partial` products with some
    /// of them.
    pub fn once(text: &str, total: u64, partial: u64) -> Self {
        Self {
            id: Self::id_of(text),
            text: shown(text),
            searches: 1,
            without_result: u64::from(total == 0 && partial == 0),
            partial_result: u64::from(total == 0 && partial > 0),
        }
    }

    /// Returns the id of a text.
    pub fn id_of(text: &str) -> Uuid {
        RequestHash::of([fold(text).as_bytes()]).to_id()
    }

    /// Adds the counts of a later term of the same id, and takes over its text.
    pub fn add(&mut self, later: Self) {
        self.text = later.text;
        self.searches = self.searches.saturating_add(later.searches);
        self.without_result = self.without_result.saturating_add(later.without_result);
        self.partial_result = self.partial_result.saturating_add(later.partial_result);
    }
}

/// Returns a text in one line, without the characters that some databases cannot store.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The searches for one text on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchCount {
    /// The day, in the time zone of the shop.
    pub day: NaiveDate,
    /// The term with the counts of the day.
    pub term: SearchTerm,
}

words! {
    /// Which terms a list has, and in which order. Terms with equal counts are in the order of their ids.
    SearchTermSort {
        /// All terms, those with the most searches first.
        Searches = "searches_desc",
        /// The terms with searches that found no product, those with the most such searches first.
        WithoutResult = "without_result_desc",
    }
}

impl SearchTermSort {
    /// Returns the count by which a term is sorted.
    pub const fn count(self, term: &SearchTerm) -> u64 {
        match self {
            Self::Searches => term.searches,
            Self::WithoutResult => term.without_result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_case_or_white_space_are_one_term() {
        let id = SearchTerm::id_of("Red  Shoes");
        for same in ["red shoes", " RED\tshoes\n", "red ｓｈｏｅｓ"] {
            assert_eq!(SearchTerm::id_of(same), id, "{same:?}");
        }
        for other in ["red shoe", "redshoes", "réd shoes"] {
            assert_ne!(SearchTerm::id_of(other), id, "{other:?}");
        }
    }

    #[test]
    fn a_search_counts_once_in_one_way() {
        let counts = |total, partial| {
            let term = SearchTerm::once(" Red\u{0}\r\n shoes ", total, partial);
            assert_eq!(term.text, "Red shoes");
            (term.searches, term.without_result, term.partial_result)
        };
        assert_eq!(
            (counts(3, 0), counts(1, 2), counts(0, 2), counts(0, 0)),
            ((1, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0))
        );
    }
}
