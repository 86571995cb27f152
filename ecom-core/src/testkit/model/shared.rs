//! Rules that all aggregates of the model share.

use crate::domain::common::ExternalRef;
use crate::text::Slug;

/// Returns whether `slug` is `base`, or `base` with a number.
pub(super) fn is_made_from(slug: &Slug, base: &Slug) -> bool {
    let number = slug.as_str().rsplit('-').next().and_then(|n| n.parse::<u32>().ok());
    slug == base || number.is_some_and(|n| base.numbered(n) == *slug)
}

/// Returns an optional text as it is stored: without space around it, and as `None` if nothing is left.
pub(super) fn trimmed(text: Option<&String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

pub(super) fn external(source: Option<&String>, id: Option<&String>) -> Option<ExternalRef> {
    Some(ExternalRef::new(source?, id?))
}
