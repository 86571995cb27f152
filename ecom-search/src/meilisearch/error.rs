//! Reads the errors of Meilisearch.

use serde_json::Value;

use crate::remote::{Failure, first_chars};

fn text(of: &Value, name: &str) -> String {
    first_chars(of.get(name).and_then(Value::as_str))
}

/// Returns the failure of an answer with an error status. `body` is what the server says about it.
pub(super) fn refused(status: u16, body: &Value) -> Failure {
    Failure::Refused { status, code: text(body, "code"), reason: text(body, "message") }
}

/// Returns the failure of a task that ended with `error`.
pub(super) fn failed_task(error: &Value) -> Failure {
    Failure::Task { code: text(error, "code"), reason: text(error, "message") }
}

/// Returns whether a call failed because its index does not exist.
pub(super) fn is_missing_index(failure: &Failure) -> bool {
    failure.has_code("index_not_found")
}

/// Returns whether the server refuses the documents of a call, and not the call.
pub(super) fn blames_documents(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { status: 413, .. } => true,
        Failure::Task { code, .. } => {
            code.starts_with("invalid_document")
                || matches!(code.as_str(), "malformed_payload" | "missing_document_id" | "max_fields_limit_exceeded")
        }
        _ => false,
    }
}
