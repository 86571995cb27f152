//! Entity tags: `"<version>.<revision>-<id>"`, with a suffix for each variant of the document.
//!
//! A tag names the document and not only its state, since another row can take over a slug. `fields` and `numbers` change
//! the bytes and therefore the tag; a compressed response has the same tag, made weak.

use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// A document and its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The document.
    pub id: Uuid,
    /// The version, which a writer names (R1).
    pub version: i64,
    /// The revision, which moves with whatever the document shows.
    pub revision: i64,
}

impl Stamp {
    /// Returns the entity tag. `variant` is empty, or starts with `;`.
    pub(crate) fn tag(self, variant: &str) -> HeaderValue {
        let Self { id, version, revision } = self;
        HeaderValue::from_str(&format!("\"{version}.{revision}-{}{variant}\"", id.simple()))
            .unwrap_or_else(|_| HeaderValue::from_static("\"0.0\""))
    }
}

/// What a writer read, by an entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version. The revision does not count: an editor does not lose to a sale.
    pub version: i64,
    /// The document; `None` for a tag that holds only the version, such as `"3"`.
    pub id: Option<Uuid>,
}

impl Seen {
    /// Reads one entity tag, strong or weak; returns `None` if it cannot be read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let tag = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
        // A list of tags is not one.
        if tag.contains('"') {
            return None;
        }
        let state = tag.split(';').next()?;
        let (state, id) = match state.split_once('-') {
            Some((state, id)) => (state, Some(Uuid::try_parse(id).ok()?)),
            None => (state, None),
        };
        Some(Self { version: state.split('.').next()?.parse().ok()?, id })
    }
}

/// Returns true if If-None-Match names the tag (weak comparison, RFC 9110).
pub(crate) fn is_known(if_none_match: Option<&HeaderValue>, etag: &HeaderValue) -> bool {
    let Some(sent) = if_none_match.and_then(|v| v.to_str().ok()) else { return false };
    let Ok(tag) = etag.to_str() else { return false };
    sent.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

/// Makes the tag of a response weak, if there is one: its bytes are not those that the tag was made for.
pub(crate) fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).filter(|t| !t.as_bytes().starts_with(b"W/")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x19ab_0000_0000_7000_8000_0000_0000_0007);

    #[test]
    fn a_tag_names_the_document_and_its_state() {
        let stamp = Stamp { id: ID, version: 3, revision: 7 };
        assert_eq!(stamp.tag(""), "\"3.7-19ab0000000070008000000000000007\"");
        assert_eq!(stamp.tag(";n"), "\"3.7-19ab0000000070008000000000000007;n\"");
        for variant in ["", ";n", ";n;f00ff"] {
            let tag = stamp.tag(variant);
            let seen = Some(Seen { version: 3, id: Some(ID) });
            assert_eq!(Seen::parse(tag.to_str().unwrap()), seen);
            assert_eq!(Seen::parse(&format!("W/{}", tag.to_str().unwrap())), seen);
            assert!(is_known(Some(&tag), &tag));
        }
    }

    #[test]
    fn r01_a_tag_may_hold_the_version_alone() {
        let version = |t: &str| Seen::parse(t).map(|s| (s.version, s.id));
        assert_eq!(version("\"3\""), Some((3, None)));
        assert_eq!(version("W/\"3.7\""), Some((3, None)));
        for bad in ["3", "\"3", "\"x\"", "\"3.7\", \"4.1\"", "\"3.7-x\"", "\"\"", "\"-3\""] {
            assert_eq!(version(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tag_becomes_weak_once() {
        let mut headers = HeaderMap::new();
        weaken(&mut headers);
        assert!(headers.is_empty());
        headers.insert(ETAG, HeaderValue::from_static("\"1.1\""));
        weaken(&mut headers);
        weaken(&mut headers);
        assert_eq!(headers[ETAG], "W/\"1.1\"");
    }
}
