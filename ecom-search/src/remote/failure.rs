//! The failures of calls and tasks, and the errors of the library that they become.

use std::error::Error as StdError;

use ecom_core::{Dependency, Error};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server answered with an error.
    #[error("the search server answered {status}: {code}: {reason}")]
    Refused { status: u16, code: String, reason: String },
    /// The server accepted a task and could not carry it out.
    #[cfg_attr(not(feature = "meilisearch"), expect(dead_code, reason = "only Meilisearch has tasks"))]
    #[error("a task of the search server failed: {code}: {reason}")]
    Task { code: String, reason: String },
    /// The server answered with something else than the call expects.
    #[error("the answer of the search server lacks {0}")]
    Garbled(&'static str),
    #[error("the search server cannot be reached")]
    Unreachable(#[source] Box<dyn StdError + Send + Sync>),
    #[error("the search server did not answer within the time limit")]
    TooSlow,
    #[error("the search server has failed several calls; it is tried again in a moment")]
    Resting,
    #[error("the server redirects calls to another address: set that one in the URL")]
    Redirected,
    #[error("the provider is closed")]
    Closed,
    #[error("an index named `{0}` exists that ecom did not make: remove it, or set another `index` in the URL")]
    Foreign(String),
    #[error("another process has moved the index on")]
    Overtaken,
    #[error("an earlier call has failed, so the new index cannot be completed")]
    BuildIsGone,
}

/// Returns the first 500 characters of a text of an answer, so that logs and errors stay short; an empty text for none.
pub(crate) fn first_chars(text: Option<&str>) -> String {
    text.unwrap_or("").chars().take(500).collect()
}

impl Failure {
    /// Returns the failure of a call that did not reach the server, or whose answer did not arrive.
    pub(crate) fn unreachable(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Unreachable(error.into())
    }

    /// Returns whether the server refused the call or its task with this code.
    pub(crate) fn has_code(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } | Self::Task { code, .. } if code == expected)
    }

    /// Returns whether the call that failed has certainly written nothing.
    pub(crate) const fn wrote_nothing(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::TooSlow | Self::Garbled(_) | Self::Refused { status: 500.., .. })
    }

    /// Returns whether the server may answer the same call if it is repeated.
    pub(crate) const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused { status: 429 | 502 | 503 | 504, .. })
    }

    /// Returns whether the failure shows that the server or the way to it is broken, and not the call.
    pub(crate) const fn blames_server(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TooSlow | Self::Refused { status: 502..=504, .. })
    }

    /// Returns the error of a read.
    pub(crate) fn reading(self) -> Error {
        Error::unavailable(Dependency::Search, self)
    }

    /// Returns the error of a write.
    pub(crate) fn writing(self) -> Error {
        Error::Unavailable {
            dependency: Dependency::Search,
            outcome_unknown: !self.wrote_nothing(),
            source: Some(self.into()),
        }
    }
}
