//! The path and query that a request came in with.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::Uri;
use axum::http::request::Parts;

/// Where the request came in, as its client sees it: links start there, also if the router is nested.
pub(crate) struct RequestTarget {
    original: Uri,
    /// Bytes of the original path before the one that this router sees.
    base: usize,
}

impl RequestTarget {
    /// Reads it from a request.
    pub(crate) fn of(parts: &Parts) -> Self {
        let original = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |o| o.0.clone());
        // A trailing slash is gone from the path that this router sees.
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

    /// Returns the path and the query, as links name them.
    pub(crate) fn path_and_query(&self) -> String {
        self.query().map_or_else(|| self.path().to_owned(), |q| format!("{}?{q}", self.path()))
    }

    /// Returns what the host put before the paths of this router.
    pub(crate) fn base(&self) -> &str {
        &self.original.path()[..self.base]
    }

    /// Returns the path up to its last segment, with the slash.
    pub(crate) fn collection(&self) -> &str {
        let p = self.path();
        p.rfind('/').map_or(p, |i| &p[..=i])
    }
}

impl<S: Sync> FromRequestParts<S> for RequestTarget {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
