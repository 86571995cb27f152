//! What serde says of an input, by field.

use ecom_core::FieldCode;

use crate::error::ApiError;

/// Turns a message of serde into the error of the field that it means. `root` names the input as a whole.
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
    // The place in the text helps nobody who has the name of the field.
    let plain = message.rsplit_once(" at line ").map_or(message, |(m, _)| m);
    if let Some(field) = named("unknown field `") {
        return at(FieldCode::Unknown, Some(field), "there is no such field");
    }
    if let Some(field) = named("missing field `") {
        return at(FieldCode::Required, Some(field), "is required");
    }
    if let Some(field) = named("duplicate field `") {
        return at(FieldCode::Malformed, Some(field), "is given twice");
    }
    let field = if matches!(path, "." | "" | "?") { root } else { path };
    at(FieldCode::Malformed, Some(field.to_owned()), plain)
}
