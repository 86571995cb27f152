//! The version that a writer read (R1): If-Match, or `version` in the body or the query.

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
    /// There is none.
    Absent,
    /// `*`: whatever is there. Not a version that was read.
    Any,
    /// An entity tag.
    Tag(Seen),
    /// Something else.
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

    /// Returns what the writer read of the document `id`, from the header and the `version` that it sent otherwise.
    ///
    /// The tag of another document is a failed precondition (412), whether or not the document of the path exists.
    pub(crate) fn read(&self, id: Uuid, sent: Option<i64>) -> ApiResult<ExpectedVersion> {
        match (self, sent) {
            (Self::Malformed, _) => Err(ApiError::field(
                "If-Match",
                FieldCode::Malformed,
                "must be one entity tag as ETag gave it, or the version in quotes, such as \"3\"",
            )),
            (Self::Tag(seen), _) if seen.id.is_some_and(|of| of != id) => {
                let message = "If-Match is the entity tag of another document; read this one and decide";
                Err(ApiError::new(ErrorCode::VersionConflict, message)
                    .at("If-Match", FieldCode::Inconsistent)
                    .precondition())
            }
            (Self::Tag(seen), Some(b)) if seen.version != b => {
                Err(ApiError::field("version", FieldCode::Inconsistent, "is not the version that If-Match names"))
            }
            (Self::Tag(seen), _) => Ok(ExpectedVersion::Exact(seen.version)),
            (Self::Absent | Self::Any, Some(v)) => Ok(ExpectedVersion::Exact(v)),
            (Self::Absent | Self::Any, None) => Ok(ExpectedVersion::Unspecified),
        }
    }

    /// Turns an error of the write into its response: a stale version is 412 by header, 409 by body.
    pub(crate) fn error(&self, error: Error) -> ApiError {
        let api = ApiError::from(error);
        if matches!(self, Self::Tag(_)) { api.precondition() } else { api }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_only_the_document_and_version_of_an_entity_tag_count() {
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
