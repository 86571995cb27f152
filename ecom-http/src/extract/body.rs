//! JSON bodies.

use std::sync::Arc;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use ecom_core::{ErrorCode, FieldCode};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;

use super::explain::explain;
use crate::app::App;
use crate::error::ApiError;

/// A JSON body of at most [`crate::HttpConfig::body_limit`] bytes.
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let limit = app.config.body_limit;
        let too_large = || {
            ApiError::new(ErrorCode::PayloadTooLarge, format!("the body is over the limit of {limit} bytes"))
                .at("body", FieldCode::OutOfBounds)
        };
        let headers = request.headers();
        let json = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).is_some_and(is_json);
        if !json {
            return Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "the body must be JSON, with `Content-Type: application/json`",
            ));
        }
        let said = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        // A client that waits for our word, or sends without end, hears it at once.
        if said.is_some_and(|n| n > limit && (n > DRAINED || headers.contains_key(EXPECT))) {
            return Err(too_large());
        }
        // Before the limit of the whole request, so that a client that stalls is not taken for a slow database.
        let bytes = tokio::time::timeout(app.config.request_timeout / 2, read(request.into_body(), limit, said))
            .await
            .map_err(|_| ApiError::field("body", FieldCode::Malformed, "did not arrive in time"))?
            .map_err(|_| ApiError::field("body", FieldCode::Malformed, "broke off"))?
            .ok_or_else(too_large)?;
        if bytes.is_empty() {
            return Err(ApiError::field("body", FieldCode::Required, "is required"));
        }
        // Derived code would also fill a struct from an array, by the order of its fields.
        if bytes
            .trim_ascii_start()
            .first()
            .is_some_and(|b| matches!(b, b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n'))
        {
            return Err(ApiError::field("body", FieldCode::Malformed, "must be a JSON object"));
        }
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        let value: T = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let path = e.path().to_string();
            let inner = e.into_inner();
            // Some values that do not fit are called syntax errors: an enum's null, a number without bounds.
            let well_formed = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
            if well_formed && inner.is_syntax() {
                ApiError::field(path, FieldCode::Malformed, "has the wrong type, or a value that cannot be read")
            } else if inner.is_syntax() || inner.is_eof() {
                ApiError::field(
                    "body",
                    FieldCode::Malformed,
                    format!("is no JSON at line {} column {}", inner.line(), inner.column()),
                )
            } else {
                explain(&path, &inner.to_string(), "body")
            }
        })?;
        json.end().map_err(|_| ApiError::field("body", FieldCode::Malformed, "has something after the JSON value"))?;
        let whole: serde_json::Value = serde_json::from_slice(&bytes)
            .map_err(|_| ApiError::field("body", FieldCode::Malformed, "has a value that cannot be read"))?;
        match array_for_object(&whole, "") {
            Some(field) => Err(ApiError::field(field, FieldCode::Malformed, "must be a JSON object")),
            None => Ok(Self(value)),
        }
    }
}

/// Where an array stands in the place of one of the inputs' nested objects.
fn array_for_object(object: &serde_json::Value, prefix: &str) -> Option<String> {
    let object = object.as_object()?;
    if object.get("dimensions").is_some_and(serde_json::Value::is_array) {
        return Some(format!("{prefix}dimensions"));
    }
    ["images", "skus"].into_iter().find_map(|list| {
        object.get(list)?.as_array()?.iter().enumerate().find_map(|(i, item)| {
            let at = format!("{prefix}{list}[{i}]");
            if item.is_array() { Some(at) } else { array_for_object(item, &format!("{at}.")) }
        })
    })
}

/// The version that was read, in the body of a call that needs none: `{"version": 3}`, or nothing.
#[derive(Debug, Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionBody {
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl FromRequest<Arc<App>> for VersionBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        if request.body().is_end_stream() {
            return Ok(Self::default());
        }
        Json::from_request(request, app).await.map(|Json(body)| body)
    }
}

/// The most bytes of a body over the limit that are read and thrown away: a client that is still sending when the
/// connection closes would see that in place of the error.
const DRAINED: usize = 32 * 1024 * 1024;

/// The bytes of a body; `None` where it is over the limit.
async fn read(mut body: Body, limit: usize, said: Option<usize>) -> Result<Option<Bytes>, axum::Error> {
    let mut kept = BytesMut::with_capacity(said.unwrap_or(0).min(limit));
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= limit {
            kept.extend_from_slice(&data);
        } else if length > DRAINED.max(limit) {
            break;
        } else {
            kept = BytesMut::new();
        }
    }
    Ok((length <= limit).then(|| kept.freeze()))
}

/// `application/json`, and what is built on it (`application/merge-patch+json`).
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|t| t == "json" || t.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::{array_for_object, is_json};

    #[test]
    fn arrays_are_no_objects() {
        let at = |json: &str| array_for_object(&serde_json::from_str(json).unwrap(), "");
        assert_eq!(at(r#"{"images": [["/a"]]}"#).as_deref(), Some("images[0]"));
        assert_eq!(at(r#"{"skus": [{"dimensions": [1, 2, 3]}]}"#).as_deref(), Some("skus[0].dimensions"));
        assert_eq!(at(r#"{"dimensions": {"width": 1}, "tags": ["a"], "skus": [{}]}"#), None);
    }

    #[test]
    fn json_has_several_names() {
        for yes in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(yes), "{yes}");
        }
        for no in ["text/plain", "application/jsonp", "application/x-www-form-urlencoded", "json", ""] {
            assert!(!is_json(no), "{no}");
        }
    }
}
