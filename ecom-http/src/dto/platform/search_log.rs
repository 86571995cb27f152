//! The representation of the search log.

use ecom_core::platform::SearchTerm;
use serde::Serialize;

/// A text that was searched for, with its counts over the days of the request.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SearchTermView<'a> {
    /// The text as it was last typed. Texts that differ only in case or white space count as one.
    #[schema(example = "red shoes")]
    pub query: &'a str,
    /// How often the text was searched for.
    pub searches: u64,
    /// How many of these searches found no product.
    pub without_result: u64,
    /// How many of these searches found no product with all words of the text, but products with some of them.
    pub partial_result: u64,
}

impl<'a> SearchTermView<'a> {
    pub(crate) const FIELDS: &'static [&'static str] = &["query", "searches", "without_result", "partial_result"];

    /// Returns the representation.
    pub(crate) fn of(term: &'a SearchTerm) -> Self {
        Self {
            query: &term.text,
            searches: term.searches,
            without_result: term.without_result,
            partial_result: term.partial_result,
        }
    }
}
