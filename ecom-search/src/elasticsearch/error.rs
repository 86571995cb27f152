//! Reads the errors of Elasticsearch and OpenSearch.

use serde_json::Value;

use crate::remote::{Failure, first_chars};

/// Returns the failure of an answer with an error status. `body` is what the server says about it.
pub(super) fn refused(status: u16, body: &Value) -> Failure {
    let error = body.get("error").unwrap_or(body);
    let text = |v: Option<&Value>| first_chars(v.and_then(Value::as_str));
    let cause = error.get("root_cause").and_then(|causes| causes.get(0)).unwrap_or(error);
    let mut reason = text(cause.get("reason"));
    if reason.is_empty() {
        reason = text(Some(error));
    }
    Failure::Refused { status, code: text(error.get("type")), reason }
}

/// Returns whether a call failed because its index does not exist.
pub(super) fn is_missing_index(failure: &Failure) -> bool {
    failure.has_code("index_not_found_exception")
}
