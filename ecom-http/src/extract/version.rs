//! The version that a writer read (R1): If-Match, or `version` in the body or the query.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use ecom_core::FieldCode;
use ecom_core::common::Read;

use crate::error::{ApiError, ApiResult};

/// The If-Match header of a write.
pub(crate) enum IfMatch {
    /// There is none.
    Absent,
    /// `*`: whatever is there. Not a version that was read.
    Any,
    /// Of an entity tag `"version.revision"`, the version: an editor does not lose to a sale.
    Version(i64),
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
        let text = text.trim();
        if text == "*" {
            return Self::Any;
        }
        // Proxies that compress make the tag weak.
        text.strip_prefix("W/")
            .unwrap_or(text)
            .strip_prefix('"')
            .and_then(|t| t.strip_suffix('"'))
            .filter(|t| !t.contains('"'))
            .and_then(|t| t.split('.').next()?.parse().ok())
            .map_or(Self::Malformed, Self::Version)
    }

    /// What the writer read, of the header and the `version` that it sent otherwise.
    pub(crate) fn read(&self, said: Option<i64>) -> ApiResult<Read> {
        match (self, said) {
            (Self::Malformed, _) => Err(ApiError::field(
                "If-Match",
                FieldCode::Malformed,
                "must be one entity tag as ETag gave it, such as \"3.7\"",
            )),
            (Self::Version(h), Some(b)) if *h != b => {
                Err(ApiError::field("version", FieldCode::Inconsistent, "is not the version that If-Match names"))
            }
            (Self::Version(v), _) => Ok(Read::Version(*v)),
            (Self::Absent | Self::Any, Some(v)) => Ok(Read::Version(v)),
            (Self::Absent | Self::Any, None) => Ok(Read::Unsaid),
        }
    }

    /// An error of the write: stale by header is 412, by body 409.
    pub(crate) fn error(&self, error: ecom_core::Error) -> ApiError {
        let api = ApiError::from(error);
        if matches!(self, Self::Version(_)) { api.precondition() } else { api }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_only_the_version_of_an_entity_tag_counts() {
        let read = |t: &str, b| IfMatch::parse(t).read(b).ok();
        assert_eq!(read("\"3.7\"", None), Some(Read::Version(3)));
        assert_eq!(read("W/\"3.7\"", Some(3)), Some(Read::Version(3)));
        assert_eq!(read("\"3\"", None), Some(Read::Version(3)));
        assert_eq!(read("*", None), Some(Read::Unsaid));
        assert_eq!(read("\"3.7\"", Some(2)), None);
        assert_eq!(read("3", None), None);
        assert_eq!(read("\"3.7\", \"4.1\"", None), None);
    }
}
