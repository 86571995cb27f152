//! The terms of filters and facets, which every engine builds alike.

use ecom_core::text::fold_key;
use serde_json::Value;

/// The most values that a facet returns.
pub(crate) const MAX_FACET_VALUES: usize = 100;

/// Separates the parts of a term: the folded key of a brand or tag and its spelling, or the name of an attribute and
/// its value.
const SPELLING: char = '\0';

/// Returns the term of a brand or tag in a facet, which sorts and groups by `key` and shows `written`.
#[cfg(any(feature = "elasticsearch", feature = "tantivy"))]
pub(crate) fn spelled(key: &str, written: &str) -> String {
    format!("{key}{SPELLING}{}", written.trim())
}

/// Returns the prefix of the terms of all spellings of `key`.
#[cfg(feature = "tantivy")]
pub(crate) fn spelling_prefix(key: &str) -> String {
    format!("{key}{SPELLING}")
}

/// Splits the term of a brand or tag into key and spelling.
#[cfg(any(feature = "elasticsearch", feature = "tantivy"))]
pub(crate) fn split_spelling(term: &str) -> (&str, &str) {
    term.split_once(SPELLING).unwrap_or((term, term))
}

/// Returns the term of an attribute with a value.
pub(crate) fn attribute_key(name: &str, value: &str) -> String {
    format!("{name}{SPELLING}{}", fold_key(value))
}

/// Returns the text of an attribute's value that filters compare.
pub(crate) fn json_text(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}
