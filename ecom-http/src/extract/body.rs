//! Bodies of requests, which are JSON unless a type of body says otherwise.

use std::fmt;
use std::sync::Arc;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use ecom_core::{ErrorCode, FieldCode};
use http_body_util::BodyExt as _;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::explain::explain;
use crate::app::{App, HttpConfig};
use crate::error::{ApiError, ApiResult};

/// A JSON body of at most [`crate::HttpConfig::body_limit`] bytes.
pub(crate) struct Json<T>(pub T);

/// A type that is read from the body of a request.
pub(crate) trait Received: Sized {
    /// Returns the value for a request without a body, or `None` if a body is required.
    fn absent() -> Option<Self>;

    /// Returns the maximum size of a body, in bytes.
    fn limit(config: &HttpConfig) -> usize {
        config.body_limit
    }

    /// Refuses a body whose `Content-Type` is not the one that is required. It is JSON by default.
    fn check_type(content_type: &str) -> ApiResult<()> {
        let unsupported = |message| Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        if !is_json(content_type) {
            return unsupported("the body must be JSON, with `Content-Type: application/json`");
        }
        if !is_utf8(content_type) {
            return unsupported(
                "the body must be JSON in UTF-8: send it in UTF-8, with `Content-Type: application/json`",
            );
        }
        Ok(())
    }

    /// Reads a body.
    fn parse(bytes: &[u8]) -> ApiResult<Self>;
}

/// Returns the body of a request, as it was sent and as a value.
pub(crate) async fn receive<T: Received>(request: Request, app: &App) -> ApiResult<(Bytes, T)> {
    if request.body().is_end_stream()
        && let Some(value) = T::absent()
    {
        return Ok((Bytes::new(), value));
    }
    let limit = T::limit(&app.config);
    let too_large = || {
        ApiError::new(ErrorCode::PayloadTooLarge, format!("the body exceeds the limit of {limit} bytes"))
            .at("body", FieldCode::OutOfBounds)
    };
    let headers = request.headers();
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "the body must not be compressed: send it as it is, without `Content-Encoding`",
        ));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    T::check_type(content_type)?;
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    // A client that expects `100 Continue`, or announces more than is drained, gets the error at once.
    if announced.is_some_and(|n| n > limit && (n > DRAINED || headers.contains_key(EXPECT))) {
        return Err(too_large());
    }
    // This limit is shorter than that of the whole request, so that a client that stalls is not reported as a slow
    // database.
    let bytes = tokio::time::timeout(app.config.request_timeout / 2, read(request.into_body(), limit, announced))
        .await
        .map_err(|_| {
            ApiError::new(ErrorCode::RequestTimeout, "the body did not arrive in time; send the request again")
                .at("body", FieldCode::Malformed)
        })?
        .map_err(|_| {
            ApiError::field("body", FieldCode::Malformed, "ended before it was complete; send the request again")
        })?
        .ok_or_else(too_large)?;
    let value = T::parse(&bytes)?;
    Ok((bytes, value))
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        receive(request, app).await.map(|(_, value)| value)
    }
}

impl<T: DeserializeOwned> Received for Json<T> {
    fn absent() -> Option<Self> {
        None
    }

    fn parse(bytes: &[u8]) -> ApiResult<Self> {
        if bytes.is_empty() {
            return Err(ApiError::field("body", FieldCode::Required, "is required"));
        }
        if std::str::from_utf8(bytes).is_err() {
            return Err(ApiError::field("body", FieldCode::Malformed, "must be UTF-8, but contains other bytes"));
        }
        // Derived code would also accept an array for a struct, in the order of its fields.
        if bytes
            .trim_ascii_start()
            .first()
            .is_some_and(|b| matches!(b, b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n'))
        {
            return Err(ApiError::field("body", FieldCode::Malformed, "must be a JSON object"));
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value: T = serde_path_to_error::deserialize(&mut json).map_err(|e| {
            let path = e.path().to_string();
            let inner = e.into_inner();
            let words = inner.to_string();
            if words.starts_with("recursion limit exceeded") {
                return explain(&path, &words, "body");
            }
            // The parser reports some invalid values as syntax errors, such as null for an enum, or a huge number.
            let well_formed = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
            if well_formed && inner.is_syntax() {
                ApiError::field(
                    path,
                    FieldCode::Malformed,
                    "must have the type and the bounds that the documentation describes",
                )
            } else if inner.is_syntax() || inner.is_eof() {
                ApiError::field(
                    "body",
                    FieldCode::Malformed,
                    format!("must be valid JSON; the error is at line {}, column {}", inner.line(), inner.column()),
                )
            } else {
                explain(&path, &words, "body")
            }
        })?;
        json.end().map_err(|_| ApiError::field("body", FieldCode::Malformed, "must end after the JSON value"))?;
        let Strict(whole) = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes))
            .map_err(|e| explain(&e.path().to_string(), &e.inner().to_string(), "body"))?;
        match array_for_object(&whole, "") {
            Some(field) => Err(ApiError::field(field, FieldCode::Malformed, "must be a JSON object")),
            None => Ok(Self(value)),
        }
    }
}

/// JSON in which no object has the same field twice, because parsers disagree about which of the two counts.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(b.into())
            }
            fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
                Ok(n.into())
            }
            fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
                Ok(n.into())
            }
            fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
                Ok(n.into())
            }
            fn visit_str<E>(self, s: &str) -> Result<Value, E> {
                Ok(s.into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(list.into())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
                let mut object = serde_json::Map::new();
                while let Some((name, Strict(value))) = fields.next_entry::<String, Strict>()? {
                    if object.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
                    }
                    // The parser gives such a name a meaning of its own: it would read the text as JSON.
                    if name.starts_with("$serde_json::private::") {
                        return Err(A::Error::custom(format_args!("unknown field `{name}`, expected another name")));
                    }
                    object.insert(name, value);
                }
                Ok(object.into())
            }
        }
        d.deserialize_any(Any).map(Self)
    }
}

/// Returns the field of an input that has an array where the input has a nested object.
fn array_for_object(object: &Value, prefix: &str) -> Option<String> {
    let object = object.as_object()?;
    let objects = ["dimensions", "customer", "shipping_address", "billing_address"];
    if let Some(name) = objects.into_iter().find(|name| object.get(*name).is_some_and(Value::is_array)) {
        return Some(format!("{prefix}{name}"));
    }
    ["images", "skus", "lines", "extra_lines", "add", "add_extra", "change"].into_iter().find_map(|list| {
        object.get(list)?.as_array()?.iter().enumerate().find_map(|(i, item)| {
            let at = format!("{prefix}{list}[{i}]");
            if item.is_array() { Some(at) } else { array_for_object(item, &format!("{at}.")) }
        })
    })
}

/// Refuses a `version` in a request that creates a resource, which has no version yet.
pub(crate) fn unversioned(version: Option<i64>) -> Result<(), ApiError> {
    match version {
        None => Ok(()),
        Some(_) => {
            Err(ApiError::field("version", FieldCode::Unknown, "is not a field of a new resource; leave it out"))
        }
    }
}

/// The version that the client read, in an optional body: `{"version": 3}`.
#[derive(Debug, Default, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionBody {
    /// The version that the client read (R1), unless `If-Match` or the query names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl Received for VersionBody {
    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn parse(bytes: &[u8]) -> ApiResult<Self> {
        Json::parse(bytes).map(|Json(body)| body)
    }
}

/// An empty body, or an empty JSON object.
pub(crate) struct NoBody;

impl Received for NoBody {
    fn absent() -> Option<Self> {
        Some(Self)
    }

    fn parse(bytes: &[u8]) -> ApiResult<Self> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Empty {}

        Json::parse(bytes).map(|Json(Empty {})| Self)
    }
}

/// A JSON body as [`Json`], or the default value if the body is empty.
pub(crate) struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default> Received for OptionalJson<T> {
    fn absent() -> Option<Self> {
        Some(Self(T::default()))
    }

    fn parse(bytes: &[u8]) -> ApiResult<Self> {
        Json::parse(bytes).map(|Json(body)| Self(body))
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Arc<App>> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        receive(request, app).await.map(|(_, value)| value)
    }
}

/// How many bytes of a body that exceeds the limit are read and discarded. A client that is still sending when the
/// connection closes would not see the error.
const DRAINED: usize = 32 * 1024 * 1024;

/// Reads the bytes of a body; returns `None` if it exceeds the limit.
async fn read(mut body: Body, limit: usize, announced: Option<usize>) -> Result<Option<Bytes>, axum::Error> {
    let mut kept = BytesMut::with_capacity(announced.unwrap_or(0).min(limit));
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

/// Returns true for `application/json` and for types that end in `+json`, such as `application/merge-patch+json`.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("application/").is_some_and(|t| t == "json" || t.ends_with("+json"))
}

/// Returns true unless the type names a character set other than UTF-8.
fn is_utf8(content_type: &str) -> bool {
    content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let charset = value.trim().trim_matches('"');
        // Clients send both names.
        let is_utf8 = charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8");
        is_utf8 || !name.trim().eq_ignore_ascii_case("charset")
    })
}

#[cfg(test)]
mod tests {
    use super::{Strict, array_for_object, is_json, is_utf8};

    #[test]
    fn r17_json_is_utf8() {
        for yes in ["application/json", "application/json; charset=utf-8", "application/json;Charset=\"UTF-8\"; x=y"] {
            assert!(is_utf8(yes), "{yes}");
        }
        for no in ["application/json; charset=utf-16", "application/json; x=y; charset=latin1"] {
            assert!(!is_utf8(no), "{no}");
        }
    }

    #[test]
    fn r17_no_object_has_a_field_twice() {
        let read = |json: &str| serde_json::from_str::<Strict>(json).map(|Strict(value)| value);
        let json = r#"{"a": [{"b": 1}, {"b": -2.5}], "b": {"a": null, "c": true, "d": "\u00e9"}}"#;
        assert_eq!(read(json).unwrap(), serde_json::from_str::<serde_json::Value>(json).unwrap());
        for json in [r#"{"a": 1, "a": 1}"#, r#"{"a": [{"b": 1, "\u0062": 2}]}"#] {
            assert!(read(json).unwrap_err().to_string().starts_with("duplicate field"), "{json}");
        }
        let hidden = r#"{"a": {"$serde_json::private::RawValue": "{\"b\": 1, \"b\": 2}"}}"#;
        assert!(read(hidden).unwrap_err().to_string().starts_with("unknown field"));
    }

    #[test]
    fn arrays_are_no_objects() {
        let at = |json: &str| array_for_object(&serde_json::from_str(json).unwrap(), "");
        assert_eq!(at(r#"{"images": [["/a"]]}"#).as_deref(), Some("images[0]"));
        assert_eq!(at(r#"{"skus": [{"dimensions": [1, 2, 3]}]}"#).as_deref(), Some("skus[0].dimensions"));
        assert_eq!(at(r#"{"shipping_address": ["Lane", "London"]}"#).as_deref(), Some("shipping_address"));
        assert_eq!(at(r#"{"lines": [{"quantity": 1}, ["x"]]}"#).as_deref(), Some("lines[1]"));
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
