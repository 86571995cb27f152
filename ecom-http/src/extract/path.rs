//! Ids, slugs, numbers and names in paths.
//!
//! A parameter is found by its name, because the router can be nested below a path with parameters of its own.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use ecom_core::FieldCode;
use uuid::Uuid;

use crate::error::{ApiError, shorten};

/// Returns what `read` makes of the value of a parameter of the path.
async fn parameter<S: Send + Sync, T>(
    parts: &mut Parts,
    state: &S,
    name: &str,
    read: impl FnOnce(&str) -> T + Send,
) -> Result<T, ApiError> {
    let malformed = || ApiError::field(name, FieldCode::Malformed, "must be percent-encoded UTF-8");
    let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| malformed())?;
    // The last one: a host may have a parameter of the same name before it.
    let found = params.iter().filter(|(key, _)| *key == name).last();
    found.map(|(_, value)| read(value)).ok_or_else(malformed)
}

/// Returns the UUID in a parameter of the path.
async fn uuid<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Result<Uuid, ApiError> {
    let read = |text: &str| {
        Uuid::try_parse(text).map_err(|_| {
            let message = format!("must be a UUID, not `{}`", shorten(text));
            ApiError::field(name, FieldCode::Malformed, message)
        })
    };
    parameter(parts, state, name, read).await?
}

/// The id, or the slug or number, in a path. A segment that is not a UUID is not an id.
pub(crate) enum Key {
    /// An id.
    Id(Uuid),
    /// A slug, or the number of an order or a bill.
    Slug(String),
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let read = |text: &str| Uuid::try_parse(text).map_or_else(|_| Self::Slug(text.to_owned()), Self::Id);
        parameter(parts, state, "id", read).await
    }
}

/// The id in a path that does not accept slugs or numbers.
pub(crate) struct Id<T>(pub T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid(parts, state, "id").await.map(|id| Self(id.into()))
    }
}

/// The id of a line in a path that has the id of its owner before it.
pub(crate) struct LineId<T>(pub T);

impl<S: Send + Sync, T: From<Uuid>> FromRequestParts<S> for LineId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        uuid(parts, state, "line_id").await.map(|id| Self(id.into()))
    }
}

/// The name in a path.
pub(crate) struct Name(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        parameter(parts, state, "name", |text| Self(text.to_owned())).await
    }
}

/// The kind of jobs in a path.
pub(crate) struct Kind(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Kind {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        parameter(parts, state, "kind", |text| Self(text.to_owned())).await
    }
}
