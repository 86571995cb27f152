//! Converts Tantivy's errors into those of the library.

use std::io;

use ecom_core::{BoxError, Dependency, Error, FieldCode};
use tantivy::TantivyError;
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError};

/// The reason why a call failed before it reached the index.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("another process holds the right to write to the index")]
    NotTheWriter,
    #[error("an earlier call has failed, so the new index cannot be completed")]
    BuildIsGone,
    #[error("the search panicked")]
    Panicked,
    #[error("the index is shutting down")]
    Closed,
}

/// Returns the library's error. Problems with the disk or a lock may be temporary; any other failure is a defect.
pub(super) fn failed(context: &'static str) -> impl FnOnce(TantivyError) -> Error {
    move |e| match e {
        TantivyError::InvalidArgument(_)
        | TantivyError::FieldNotFound(_)
        | TantivyError::SchemaError(_)
        | TantivyError::InternalError(_)
        | TantivyError::IndexBuilderMissingArgument(_) => Error::internal(context, e),
        other => unavailable(other),
    }
}

pub(super) fn unavailable(source: impl Into<BoxError>) -> Error {
    Error::unavailable(Dependency::Search, source)
}

/// Converts an error of the files of an index. If the directory itself is the cause, returns `Validation` on field
/// `search` with `message`, and otherwise `Unavailable`.
pub(super) fn at_start(message: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind as K;
    move |e| match e.kind() {
        K::AlreadyExists
        | K::InvalidFilename
        | K::InvalidInput
        | K::IsADirectory
        | K::NotADirectory
        | K::NotFound
        | K::PermissionDenied
        | K::ReadOnlyFilesystem => {
            tracing::debug!(error = %e, "the directory of the search index cannot be used");
            Error::invalid("search", FieldCode::OutOfBounds, format!("{message} ({})", e.kind()))
        }
        _ => unavailable(e),
    }
}

/// Returns whether the index exists and can never be read, so that a new one must replace it.
pub(super) fn is_unusable(error: &TantivyError) -> bool {
    let broken = |e: &io::Error| {
        use io::ErrorKind as K;
        matches!(e.kind(), K::NotFound | K::InvalidData | K::InvalidInput | K::UnexpectedEof | K::NotADirectory)
    };
    match error {
        TantivyError::DataCorruption(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::SchemaError(_)
        | TantivyError::InternalError(_)
        | TantivyError::FieldNotFound(_)
        | TantivyError::InvalidArgument(_)
        | TantivyError::MissingPlugin(_)
        | TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_))
        | TantivyError::OpenDirectoryError(
            OpenDirectoryError::DoesNotExist(_) | OpenDirectoryError::NotADirectory(_),
        ) => true,
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. })
        | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError { io_error, .. })
        | TantivyError::IoError(io_error)
        // The directory was removed before Tantivy has opened its lock file.
        | TantivyError::LockFailure(LockError::IoError(io_error), _) => broken(io_error),
        _ => false,
    }
}
