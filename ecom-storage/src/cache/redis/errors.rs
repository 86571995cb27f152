//! What an error of Redis means for its adapters.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Returns whether an error means that the connection or the server cannot be used at the moment.
pub(crate) fn is_loss(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed | ErrorKind::ClusterConnectionNotFound => {
            true
        }
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
        ),
        _ => error.code() == Some("NOAUTH"),
    }
}

/// Returns whether an error means that no retry helps, because the URL must be corrected.
pub(crate) fn is_refusal(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig)
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError))
            && error.detail().is_some_and(|d| d.contains("DB index"))
}
