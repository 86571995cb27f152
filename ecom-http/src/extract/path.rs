//! Ids, slugs and numbers in paths.

use std::fmt;

use axum::extract::{FromRequestParts, Path, RawPathParams};
use axum::http::request::Parts;
use ecom_core::FieldCode;
use ecom_core::id::OrderLineId;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use uuid::Uuid;

use crate::error::{ApiError, shorten};

/// The id, or the name, in a path. A segment that is not a UUID is a name.
pub(crate) enum Key {
    /// An id.
    Id(Uuid),
    /// A slug, or the number of an order or a bill.
    Slug(String),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id or a slug")
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Key, E> {
                Ok(Uuid::try_parse(s).map_or_else(|_| Key::Slug(s.to_owned()), Key::Id))
            }
        }
        d.deserialize_str(Text)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(key) = Path::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::field("id", FieldCode::Malformed, "must be percent-encoded UTF-8"))?;
        Ok(key)
    }
}

/// The id in a path that does not accept names.
pub(crate) struct Id<T>(pub T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        id_of(parts, state, "id").await.map(|id| Self(id.into()))
    }
}

/// The id of a line in the path of an order.
pub(crate) struct LineId(pub OrderLineId);

impl<S: Send + Sync> FromRequestParts<S> for LineId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        id_of(parts, state, "line_id").await.map(|id| Self(id.into()))
    }
}

/// Returns the id that the path has under a name.
async fn id_of<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<Uuid, ApiError> {
    let all = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| ApiError::field(name, FieldCode::Malformed, "must be percent-encoded UTF-8"))?;
    let text = all.iter().find(|(key, _)| *key == name).map_or("", |(_, text)| text);
    Uuid::try_parse(text)
        .map_err(|_| ApiError::field(name, FieldCode::Malformed, format!("must be a UUID, not `{}`", shorten(text))))
}
