//! Entity tags: `"<version>.<revision>-<id>"`, with a suffix for each variant of the document.
//!
//! A tag contains the id of the document, because another row can take over a slug. `fields` and `numbers` change the
//! bytes of the representation, and so the tag. A compressed response has the weak form of the tag.

use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// The identity and the state of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The id of the document.
    pub id: Uuid,
    /// The version, which writers name (R1).
    pub version: i64,
    /// The revision, which increases with every change of the representation.
    pub revision: i64,
}

impl Stamp {
    /// Returns the entity tag. `variant` is empty or starts with `;`.
    pub(crate) fn tag(self, variant: &str) -> HeaderValue {
        let Self { id, version, revision } = self;
        HeaderValue::from_str(&format!("\"{version}.{revision}-{}{variant}\"", id.simple()))
            .unwrap_or_else(|_| HeaderValue::from_static("\"0.0\""))
    }
}

/// The document and version that a writer has read, from an entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version. The revision is not compared, so that a sale does not make an edit fail.
    pub version: i64,
    /// The id of the document; `None` for a tag that contains only the version, such as `"3"`.
    pub id: Option<Uuid>,
}

impl Seen {
    /// Parses one entity tag, strong or weak. Returns `None` if it is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let tag = text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?;
        // A list of tags is refused.
        if tag.contains('"') {
            return None;
        }
        let state = tag.split(';').next()?;
        let (state, id) = match state.split_once('-') {
            Some((state, id)) => (state, Some(Uuid::try_parse(id).ok()?)),
            None => (state, None),
        };
        // Rust would also read a plus sign.
        let version = state.split('.').next().filter(|version| version.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { version: version.parse().ok()?, id })
    }
}

/// Returns true if If-None-Match contains the tag (weak comparison, RFC 9110).
pub(crate) fn is_known(if_none_match: Option<&HeaderValue>, etag: &HeaderValue) -> bool {
    let Some(sent) = if_none_match.and_then(|v| v.to_str().ok()) else { return false };
    let Ok(tag) = etag.to_str() else { return false };
    sent.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

/// Makes the tag of a response weak, if it has one, because compression has changed the bytes.
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
    fn r01_a_tag_may_contain_only_the_version() {
        let version = |t: &str| Seen::parse(t).map(|s| (s.version, s.id));
        assert_eq!(version("\"3\""), Some((3, None)));
        assert_eq!(version("W/\"3.7\""), Some((3, None)));
        for bad in ["3", "\"3", "\"x\"", "\"3.7\", \"4.1\"", "\"3.7-x\"", "\"\"", "\"-3\"", "\"+3\""] {
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
