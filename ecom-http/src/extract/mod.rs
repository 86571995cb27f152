//! What handlers take from a request; everything that cannot be read is named by its field (R17).

mod body;
mod path;
mod query;
mod version;

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::Uri;
use axum::http::request::Parts;
use ecom_core::FieldCode;
use ecom_core::common::Actor;

pub(crate) use body::{Json, VersionBody};
pub(crate) use path::{Id, Key};
pub(crate) use query::{Paged, Query, Style, page_of};
pub(crate) use version::IfMatch;

use crate::error::ApiError;

/// What serde says of an input, as the field that it means.
pub(crate) fn explain(path: &str, message: &str, root: &'static str) -> ApiError {
    // serde's wording of these is part of its public `Error` trait.
    let named = |prefix: &str| {
        let name = message.strip_prefix(prefix)?.split('`').next()?;
        // The path may or may not hold the key already.
        Some(match path {
            "." | "" | "?" => name.to_owned(),
            p if p == name || p.ends_with(&format!(".{name}")) => p.to_owned(),
            p => format!("{p}.{name}"),
        })
    };
    let at = |code, field: Option<String>, text: &str| ApiError::field(field.unwrap_or_default(), code, text);
    // Where in the text it stands helps nobody who is told the field.
    let plain = message.rsplit_once(" at line ").map_or(message, |(m, _)| m);
    if let Some(field) = named("unknown field `") {
        return at(FieldCode::Unknown, Some(field), "there is no such field");
    }
    if let Some(field) = named("missing field `") {
        return at(FieldCode::Required, Some(field), "is required");
    }
    if let Some(field) = named("duplicate field `") {
        return at(FieldCode::Malformed, Some(field), "stands twice");
    }
    let field = if matches!(path, "." | "" | "?") { root } else { path };
    at(FieldCode::Malformed, Some(field.to_owned()), plain)
}

/// Who does it: what the host's authentication says.
pub(crate) struct By(pub Actor);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Actor>().cloned().unwrap_or_else(|| Actor::new("anonymous"))))
    }
}

/// Where the request came in, as its client sees it: links start there, also where the router is nested.
pub(crate) struct Here {
    original: Uri,
    /// Bytes of the original path before the one that this router sees.
    base: usize,
}

impl Here {
    pub(crate) fn of(parts: &Parts) -> Self {
        let original = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |o| o.0.clone());
        // A trailing slash is gone from the path that this router sees.
        let whole = original.path().trim_end_matches('/').len();
        let seen = parts.uri.path().trim_end_matches('/').len();
        Self { original, base: whole.saturating_sub(seen) }
    }

    /// The path without a trailing slash.
    pub(crate) fn path(&self) -> &str {
        match self.original.path().trim_end_matches('/') {
            "" => "/",
            p => p,
        }
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.original.query().filter(|q| !q.is_empty())
    }

    /// What the host put before the paths of this router.
    pub(crate) fn base(&self) -> &str {
        &self.original.path()[..self.base]
    }

    /// The path up to its last segment, with the slash.
    pub(crate) fn collection(&self) -> &str {
        let p = self.path();
        p.rfind('/').map_or(p, |i| &p[..=i])
    }
}

impl<S: Sync> FromRequestParts<S> for Here {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
