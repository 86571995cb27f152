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
    // These are the words of serde_json and of uuid, which mean nothing to the caller; the tests notice if they change.
    let plain = if message.starts_with("recursion limit exceeded") {
        "has too many levels of objects and arrays"
    } else if message.starts_with("UUID parsing failed") {
        "is not a UUID"
    } else {
        plain
    };
    let field = if matches!(path, "." | "" | "?") { root } else { path };
    at(FieldCode::Malformed, Some(field.to_owned()), plain)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Input {
        id: Option<uuid::Uuid>,
        any: Option<serde_json::Value>,
    }

    #[test]
    fn r17_no_message_has_the_words_of_a_library() {
        let refused = |json: &str| {
            let error = serde_json::from_str::<Input>(json).map(|i| (i.id, i.any)).unwrap_err();
            format!("{:?}", explain("field", &error.to_string(), "body"))
        };
        for (json, message) in [
            (r#"{"id": "7"}"#.to_owned(), "is not a UUID"),
            (format!(r#"{{"any": {}{}}}"#, "[".repeat(200), "]".repeat(200)), "has too many levels"),
        ] {
            let error = refused(&json);
            assert!(error.contains(message) && !error.contains("parsing") && !error.contains("recursion"), "{error}");
        }
    }
}
