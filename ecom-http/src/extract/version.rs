//! The version that a writer has read (R1), from If-Match or from `version` in the body or the query.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use ecom_core::common::ExpectedVersion;
use ecom_core::{Error, ErrorCode, FieldCode};
use uuid::Uuid;

use crate::error::{ApiError, ApiResult};
use crate::etag::Seen;

/// The If-Match header of a write.
#[derive(Debug)]
pub(crate) enum IfMatch {
    /// The request has no If-Match.
    Absent,
    /// The header is `*`, which matches any version and does not name one.
    Any,
    /// The header is an entity tag.
    Tag(Seen),
    /// The header is anything else.
    Malformed,
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let mut all = parts.headers.get_all(IF_MATCH).iter();
        Ok(match (all.next(), all.next()) {
            (None, _) => Self::Absent,
            (Some(one), None) => Self::parse(one.to_str().unwrap_or_default()),
            _ => Self::Malformed,
        })
    }
}

impl IfMatch {
    fn parse(text: &str) -> Self {
        if text.trim() == "*" { Self::Any } else { Seen::parse(text).map_or(Self::Malformed, Self::Tag) }
    }

    /// Returns the version of the document `id` that the writer has read, from the header or else from `sent`.
    ///
    /// The tag of another document is a failed precondition (412), whether or not the document in the path exists.
    pub(crate) fn read(&self, id: Uuid, sent: Option<i64>) -> ApiResult<ExpectedVersion> {
        match self {
            Self::Malformed => Err(ApiError::field(
                "If-Match",
                FieldCode::Malformed,
                "must be a single entity tag from `ETag`, or the version in quotes, such as \"3\"",
            )),
            Self::Tag(seen) if seen.id.is_some_and(|of| of != id) => {
                let message = "If-Match belongs to another resource: read this one, and send its entity tag";
                Err(ApiError::new(ErrorCode::VersionConflict, message)
                    .at("If-Match", FieldCode::Inconsistent)
                    .precondition())
            }
            Self::Tag(seen) => Ok(ExpectedVersion::Exact(seen.version).or_named(sent)?),
            Self::Absent | Self::Any => Ok(ExpectedVersion::Unspecified.or_named(sent)?),
        }
    }

    /// Converts an error of the write into its response. A stale version is 412 if the header names it, else 409.
    pub(crate) fn error(&self, error: Error) -> ApiError {
        let api = ApiError::from(error);
        if matches!(self, Self::Tag(_)) { api.precondition() } else { api }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_only_the_document_and_version_of_an_entity_tag_are_compared() {
        let (this, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
        let read = |t: &str, b| IfMatch::parse(t).read(this, b).ok();
        assert_eq!(read("\"3.7\"", None), Some(ExpectedVersion::Exact(3)));
        assert_eq!(read("W/\"3.7\"", Some(3)), Some(ExpectedVersion::Exact(3)));
        assert_eq!(read("\"3\"", None), Some(ExpectedVersion::Exact(3)));
        assert_eq!(read("*", None), Some(ExpectedVersion::Unspecified));
        assert_eq!(read("\"3.7\"", Some(2)), None);
        assert_eq!(read("3", None), None);
        assert_eq!(read("\"3.7\", \"4.1\"", None), None);
        assert_eq!(read(&format!("W/\"3.7-{};n\"", this.simple()), None), Some(ExpectedVersion::Exact(3)));
        assert_eq!(read(&format!("\"3.7-{}\"", other.simple()), None), None);
    }
}
