//! Converts failures of calls into the errors of the library.

use ecom_core::{Dependency, Error};
use serde_json::Value;

use crate::remote::{Failed, Stop};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server answered with an error.
    #[error("the search server answered {status}: {kind}: {reason}")]
    Refused { status: u16, kind: String, reason: String },
    /// The server answered with something else than the call expects.
    #[error("the answer of the search server lacks {0}")]
    Garbled(&'static str),
    #[error("the search server cannot be reached")]
    Unreachable(#[source] ::elasticsearch::Error),
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

impl Failure {
    /// Returns the failure of an answer with an error status. `body` is what the server says about it.
    pub(super) fn refused(status: u16, body: &Value) -> Self {
        let error = body.get("error").unwrap_or(body);
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or("").chars().take(500).collect::<String>();
        let cause = error.get("root_cause").and_then(|causes| causes.get(0)).unwrap_or(error);
        let mut reason = text(cause.get("reason"));
        if reason.is_empty() {
            reason = text(Some(error));
        }
        Self::Refused { status, kind: text(error.get("type")), reason }
    }

    /// Returns whether the call that failed has certainly written nothing.
    pub(super) const fn wrote_nothing(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::TooSlow | Self::Garbled(_) | Self::Refused { status: 500.., .. })
    }

    pub(super) fn is_missing_index(&self) -> bool {
        matches!(self, Self::Refused { status: 404, kind, .. } if kind == "index_not_found_exception")
    }

    /// Returns the error of a read.
    pub(super) fn reading(self) -> Error {
        Error::unavailable(Dependency::Search, self)
    }

    /// Returns the error of a write.
    pub(super) fn writing(self) -> Error {
        Error::Unavailable {
            dependency: Dependency::Search,
            outcome_unknown: !self.wrote_nothing(),
            source: Some(self.into()),
        }
    }
}

impl Failed for Failure {
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Refused { status: 429 | 502 | 503 | 504, .. })
    }

    fn blames_server(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TooSlow | Self::Refused { status: 502..=504, .. })
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::TooSlow => Self::TooSlow,
            Stop::Resting => Self::Resting,
            Stop::Closed => Self::Closed,
        }
    }
}
