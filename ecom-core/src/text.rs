//! Texts: the keys by which every database compares and sorts texts in the same way, slugs, and cells of tables.

use std::borrow::Cow;
use std::fmt;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::CodePointSetData;
use icu_properties::props::DefaultIgnorableCodePoint;
use serde::{Deserialize, Serialize};

use crate::error::{FieldCode, ValidationErrors};

/// Returns the key of a name, code or email. The text is normalized (NFKC) and case-folded, and it keeps its accents.
/// White space around it is removed, and each run of white space in it becomes one space. Every database compares keys
/// bytewise, for uniqueness and for sorting.
///
/// A key has at most [`MAX_KEY`] bytes, which every database can index. A longer key is cut off and ends in a hash of
/// the whole, so that long texts with the same beginning have different keys.
pub fn fold_key(text: &str) -> String {
    let mut out = fold(text);
    if out.len() > MAX_KEY {
        // SHA-1 of the whole, as in a UUIDv5: 32 digits.
        let hash = uuid::Uuid::new_v5(&uuid::Uuid::nil(), out.as_bytes()).simple().to_string();
        out.truncate(out.floor_char_boundary(MAX_KEY - hash.len()));
        out.push_str(&hash);
    }
    out
}

/// Returns a text of any length as [`fold_key`] folds it: normalized, case-folded, and with single spaces.
pub fn fold(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let first = nfkc.normalize(text);
    let folded = CaseMapper::new().fold_string(&first);
    // Folding can leave a form that NFKC composes again.
    let again = nfkc.normalize(&folded);
    let mut out = String::with_capacity(again.len());
    for word in again.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

/// The maximum length of a [`fold_key`], in bytes.
pub const MAX_KEY: usize = 512;

/// Pushes an error if `text` has fewer than `min` or more than `max` characters after trimming, if `min` is above 0 and
/// all characters are invisible, or if it contains control characters, such as NUL, which some databases cannot store.
#[doc(hidden)]
pub fn check_text(field: &str, text: &str, min: usize, max: usize, errors: &mut ValidationErrors) {
    // Bytes first: a text of 10 MB is refused without being walked.
    let length = if text.len() > max * 4 { usize::MAX } else { text.trim().chars().count() };
    if length < min || length > max {
        let code = if length < min && length == 0 { FieldCode::Required } else { FieldCode::OutOfBounds };
        let message = match min {
            0 => format!("must have at most {max} characters"),
            _ => format!("must have {min} to {max} characters"),
        };
        errors.push(field, code, message);
    } else if min > 0 && is_blank(text) {
        errors.push(field, FieldCode::Required, "must contain at least one visible character");
    } else if text.trim().chars().any(|c| c.is_control() && (max <= MAX_LINE || !matches!(c, '\n' | '\r' | '\t'))) {
        errors.out_of_bounds(field, "must not contain control characters");
    }
}

/// Returns true for a character that is not rendered, such as a zero-width space or a joiner.
pub(crate) fn is_invisible(c: char) -> bool {
    !c.is_ascii() && CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Returns true for a text without a visible character.
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_invisible(c))
}

/// Returns true if the text can be the name of a row: 1 to 100 characters, none of them a control character. No row has
/// any other name, and some databases refuse to search for one.
pub(crate) fn is_name(text: &str) -> bool {
    let mut errors = ValidationErrors::default();
    check_text("name", text, 1, 100, &mut errors);
    errors.0.is_empty()
}

/// Returns the beginning of a caller's text, for a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// Returns an optional text as it is stored: trimmed, and `None` if it has no visible character.
pub(crate) fn trimmed(text: Option<&str>) -> Option<String> {
    text.map(str::trim).filter(|t| !is_blank(t)).map(str::to_owned)
}

/// Texts that may be longer than this may have several lines.
const MAX_LINE: usize = 500;

/// The reason why a text is not a slug. The message completes a sentence that begins with the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlugError {
    /// The text is empty, or it has more than [`Slug::MAX`] characters.
    #[error("must have 1 to 100 characters")]
    Length,
    /// The text contains a character that slugs cannot contain.
    #[error("must contain only a-z, 0-9 and -")]
    Characters,
    /// The text consists of dashes.
    #[error("must contain a letter or a digit")]
    OnlyDashes,
    /// The text is a UUID, or it is reserved ([`Slug::RESERVED`]).
    #[error("must not be a UUID or one of the reserved words {}", Slug::RESERVED.join(", "))]
    Reserved,
}

/// A readable name in URLs: 1–100 characters of a-z, 0-9 and -, neither a UUID nor a reserved word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slug(String);

impl Slug {
    /// The maximum number of characters of a slug.
    pub const MAX: usize = 100;
    /// Words that cannot be slugs, because paths of the REST API contain them in the same position.
    pub const RESERVED: [&'static str; 3] = ["search", "suggest", "tree"];

    /// Returns the text as a slug, unchanged.
    ///
    /// # Errors
    /// [`SlugError`] if the text is not a slug.
    pub fn parse(text: &str) -> Result<Self, SlugError> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(SlugError::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            return Err(SlugError::Characters);
        }
        if text.bytes().all(|b| b == b'-') {
            return Err(SlugError::OnlyDashes);
        }
        if !Self::free(text) {
            return Err(SlugError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns a slug that is known to be valid, such as one from the database.
    pub const fn trusted(text: String) -> Self {
        Self(text)
    }

    fn free(text: &str) -> bool {
        uuid::Uuid::try_parse(text).is_err() && !Self::RESERVED.contains(&text)
    }

    /// Derives a slug from a title by transliteration: `Crème brûlée` becomes `creme-brulee`. A title without a letter
    /// or digit becomes `fallback`.
    pub fn from_title(title: &str, fallback: &str) -> Self {
        let head: String = title.chars().take(Self::MAX * 2).collect();
        let mut s = slug::slugify(head);
        s.truncate(Self::MAX);
        let s = s.trim_matches('-');
        let s = if s.is_empty() { fallback } else { s };
        if Self::free(s) { Self(s.to_owned()) } else { Self(format!("{}-{fallback}", &s[..s.len().min(80)])) }
    }

    /// Returns the `n`th candidate for a slug that is taken: the slug itself, then with `-2`, `-3` …. A candidate is
    /// shortened so that it does not exceed the maximum length.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Self {
        if n < 2 {
            return self.clone();
        }
        let suffix = format!("-{n}");
        let head = &self.0[..self.0.len().min(Self::MAX - suffix.len())];
        Self(format!("{}{suffix}", head.trim_end_matches('-')))
    }

    /// Returns the first candidate that is not in `taken`.
    #[must_use]
    pub fn first_free(&self, taken: &std::collections::HashSet<String>) -> Self {
        let mut n = 1;
        loop {
            let s = self.numbered(n);
            if !taken.contains(s.as_str()) {
                return s;
            }
            n += 1;
        }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Returns whether a spreadsheet would take the text of a cell for a formula.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Guards a cell of a table against spreadsheets that would take it for a formula, with an apostrophe before it, as
/// WooCommerce does. A cell that begins with apostrophes before a formula gets one more, so that [`unguard_formula`]
/// returns it as it was.
///
/// ```
/// use ecom_core::text::{guard_formula, unguard_formula};
///
/// assert_eq!(guard_formula("=1+1"), "'=1+1");
/// assert_eq!(unguard_formula("'=1+1".to_owned()), "=1+1");
/// assert_eq!(guard_formula("desk lamp"), "desk lamp");
/// ```
pub fn guard_formula(text: &str) -> Cow<'_, str> {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}").into() } else { text.into() }
}

/// Removes the guard of [`guard_formula`] from a cell, if it has one.
pub fn unguard_formula(mut text: String) -> String {
    if text.starts_with('\'') && is_formula(text.trim_start_matches('\'')) {
        text.remove(0);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_guarded_cell_is_read_as_it_was(text in "['=+@-]{0,3}.{0,3}") {
            let written = guard_formula(&text).into_owned();
            prop_assert!(!is_formula(&written));
            prop_assert_eq!(unguard_formula(written), text);
        }
    }

    #[test]
    fn keys_fold_case_and_width_but_keep_accents() {
        assert_eq!(fold_key("  Straße  X "), "strasse x");
        assert_eq!(fold_key("ＡＢＣ"), "abc");
        assert_ne!(fold_key("Café"), fold_key("Cafe"));
        assert_eq!(fold_key("Cafe\u{301}"), fold_key("CAFÉ"));
        // Long keys fit the index of every database and differ.
        let (a, b) = ("\u{1F600}".repeat(254), "\u{1F600}".repeat(255));
        assert_eq!(fold_key(&"x".repeat(MAX_KEY)), "x".repeat(MAX_KEY));
        assert!(fold_key(&a).len() <= MAX_KEY && fold_key(&a) != fold_key(&b));
        assert!(fold_key(&a).starts_with(&"\u{1F600}".repeat(120)));
    }

    #[test]
    fn r17_a_text_of_invisible_characters_is_refused() {
        let fields = |text: &str, min| {
            let mut errors = ValidationErrors::default();
            check_text("title", text, min, 100, &mut errors);
            errors.0.into_iter().map(|e| (e.field, e.code)).collect::<Vec<_>>()
        };
        for text in ["\u{200b}", "\u{200d}\u{feff} \u{2060}", "\u{3164}", "\u{ad}", " "] {
            assert_eq!(fields(text, 1), [("title".to_owned(), FieldCode::Required)], "{text:?}");
            assert_eq!(fields(text, 0), [], "{text:?}");
        }
        for text in ["a", "\u{200b}a", "\u{1F469}\u{200d}\u{1F52C}", "\u{645}\u{6cc}\u{200c}\u{62e}"] {
            assert_eq!(fields(text, 1), [], "{text:?}");
        }
    }

    #[test]
    fn slugs_are_readable_and_never_ids_or_routes() {
        assert_eq!(Slug::from_title("Crème Brûlée №5", "product").as_str(), "creme-brulee-no5");
        assert_eq!(Slug::from_title("!!!", "product").as_str(), "product");
        assert_eq!(Slug::from_title("Search", "product").as_str(), "search-product");
        assert!(Slug::parse("0193b5a6-0000-7000-8000-000000000000").is_err());
        assert!(Slug::parse("0193b5a600007000800000000000abcd").is_err());
        assert!(Slug::parse("Tree").is_err());
        let long = Slug::from_title(&"word ".repeat(60), "product");
        assert!(long.as_str().len() <= Slug::MAX && long.numbered(12345).as_str().len() <= Slug::MAX);
    }
}
