//! Ids, slugs and numbers in paths.

use std::fmt;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use ecom_core::FieldCode;
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

impl Key {
    /// Returns the text of the segment.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Id(id) => id.to_string(),
            Self::Slug(text) => text,
        }
    }

    /// Returns the id, or an error of the parameter if it is a slug.
    fn uuid(self, parameter: &str) -> Result<Uuid, ApiError> {
        match self {
            Self::Id(id) => Ok(id),
            Self::Slug(text) => {
                let message = format!("must be a UUID, not `{}`", shorten(&text));
                Err(ApiError::field(parameter, FieldCode::Malformed, message))
            }
        }
    }
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
        let Path(key) = Path::<Self>::from_request_parts(parts, state).await.map_err(|_| not_text("id"))?;
        Ok(key)
    }
}

/// The id in a path that does not accept names.
pub(crate) struct Id<T>(pub T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize)]
        struct Named {
            id: Key,
        }
        let Path(Named { id }) = Path::from_request_parts(parts, state).await.map_err(|_| not_text("id"))?;
        id.uuid("id").map(|id| Self(id.into()))
    }
}

/// The id of a line in a path that has the id of its owner before it.
pub(crate) struct LineId<T>(pub T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for LineId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        #[derive(serde::Deserialize)]
        struct Named {
            line_id: Key,
        }
        let Path(Named { line_id }) = Path::from_request_parts(parts, state).await.map_err(|_| not_text("line_id"))?;
        line_id.uuid("line_id").map(|id| Self(id.into()))
    }
}

/// The name in a path.
pub(crate) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(name) = Path::from_request_parts(parts, state).await.map_err(|_| not_text("name"))?;
        Ok(Self(name))
    }
}

fn not_text(parameter: &str) -> ApiError {
    ApiError::field(parameter, FieldCode::Malformed, "must be percent-encoded UTF-8")
}
