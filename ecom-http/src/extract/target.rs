//! The path and query of a request, as its client has sent them.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::Uri;
use axum::http::request::Parts;

/// The path and query of a request as its client sees them. Links begin with this path, even if the router is nested.
#[derive(Clone)]
pub(crate) struct RequestTarget {
    original: Uri,
    /// The length of the original path before the part that this router sees, in bytes.
    base: usize,
}

impl RequestTarget {
    /// Returns the target of a request.
    pub(crate) fn of(parts: &Parts) -> Self {
        let original = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |o| o.0.clone());
        // The path that this router sees has no trailing slash.
        let whole = original.path().trim_end_matches('/').len();
        let seen = parts.uri.path().trim_end_matches('/').len();
        Self { original, base: whole.saturating_sub(seen) }
    }

    /// Returns the path without a trailing slash.
    pub(crate) fn path(&self) -> &str {
        match self.original.path().trim_end_matches('/') {
            "" => "/",
            p => p,
        }
    }

    /// Returns the query string if it is not empty.
    pub(crate) fn query(&self) -> Option<&str> {
        self.original.query().filter(|q| !q.is_empty())
    }

    /// Returns the path and the query, as links contain them.
    pub(crate) fn path_and_query(&self) -> String {
        self.query().map_or_else(|| self.path().to_owned(), |q| format!("{}?{q}", self.path()))
    }

    /// Returns the path at which the host has nested this router.
    pub(crate) fn base(&self) -> &str {
        &self.original.path()[..self.base]
    }

    /// Returns the path below the one at which the host has nested this router, without a trailing slash.
    pub(crate) fn own_path(&self) -> &str {
        self.path().get(self.base..).unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestTarget {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
