//! Turns the errors of serde into errors of the fields of an input.

use ecom_core::FieldCode;

use crate::error::ApiError;

/// Turns a message of serde into the error of the field that it is about. `root` is the name of the whole input.
pub(crate) fn explain(path: &str, message: &str, root: &'static str) -> ApiError {
    // The wording of these messages is part of serde's public `Error` trait.
    let named = |prefix: &str| {
        let name = message.strip_prefix(prefix)?.split('`').next()?;
        // The path may or may not contain the name already.
        Some(match path {
            "." | "" | "?" => name.to_owned(),
            p if p == name || p.ends_with(&format!(".{name}")) => p.to_owned(),
            p => format!("{p}.{name}"),
        })
    };
    let at = |code, field: Option<String>, text: &str| ApiError::field(field.unwrap_or_default(), code, text);
    // The position in the text is omitted, because the field is named.
    let plain = message.rsplit_once(" at line ").map_or(message, |(m, _)| m);
    if let Some(field) = named("unknown field `") {
        return at(FieldCode::Unknown, Some(field), "is not a known field; check its spelling, or leave it out");
    }
    if let Some(field) = named("missing field `") {
        return at(FieldCode::Required, Some(field), "is required");
    }
    if let Some(field) = named("duplicate field `") {
        return at(FieldCode::Malformed, Some(field), "must not occur twice in one object");
    }
    // The words of libraries do not reach the caller: the first message is the parser's, the second one that of `uuid`.
    let plain = if message.starts_with("recursion limit exceeded") {
        "must have fewer levels of nested objects and arrays".to_owned()
    } else if message.starts_with("UUID parsing failed") {
        "must be a UUID".to_owned()
    } else {
        sentence(plain)
    };
    let field = if matches!(path, "." | "" | "?") { root } else { path };
    at(FieldCode::Malformed, Some(field.to_owned()), &plain)
}

/// Returns a message of serde, or of a parser of the standard library, as the end of a sentence that begins with the
/// name of the field.
fn sentence(message: &str) -> String {
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "must be a smaller number".to_owned(),
        "number too small to fit in target type" => "must be a larger number".to_owned(),
        "provided string was not `true` or `false`" => "must be `true` or `false`".to_owned(),
        _ => match (message.split_once(": "), message.split_once(", expected ")) {
            (Some(("invalid type" | "invalid value", _)), Some((_, expected))) => wrong(message, expected),
            (_, Some((unknown, expected))) if unknown.starts_with("unknown variant ") => format!("must be {expected}"),
            // An array that is too short for the struct that derived code reads from it.
            (_, Some((length, expected)))
                if length.starts_with("invalid length ") && expected.starts_with("struct ") =>
            {
                "must be a JSON object".to_owned()
            }
            _ => message.to_owned(),
        },
    }
}

/// Returns the text for a value of another type, or out of the bounds of its type. `expected` is the word of serde.
fn wrong(message: &str, expected: &str) -> String {
    let is_integer = message.contains(": integer `") || message.contains(": floating point `");
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" if message.contains(" `-") => {
            "must be a whole number, 0 or more".to_owned()
        }
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" if is_integer => {
            format!("must be a whole number of at most {} bits", expected.trim_start_matches(['i', 'u']))
                .replace("size bits", "64 bits")
        }
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "must be a whole number".to_owned(),
        "f32" | "f64" => "must be a number".to_owned(),
        "a boolean" => "must be `true` or `false`".to_owned(),
        // The deserializer of query strings names the words that it accepts.
        _ if expected.starts_with("\"true\"") => "must be `true` or `false`".to_owned(),
        "a sequence" => "must be an array".to_owned(),
        _ if expected == "a map" || expected.starts_with("struct ") => "must be a JSON object".to_owned(),
        _ if expected.contains("identifier") => "must be a name".to_owned(),
        _ => format!("must be {expected}"),
    }
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
    fn r17_messages_of_parsers_complete_a_sentence() {
        for (message, expected) in [
            ("invalid type: string \"a\", expected i64", "must be a whole number"),
            ("invalid type: floating point `1e21`, expected i64", "must be a whole number of at most 64 bits"),
            ("invalid value: integer `-1`, expected u32", "must be a whole number, 0 or more"),
            ("invalid type: sequence, expected a string", "must be a string"),
            ("invalid type: string \"yes\", expected a boolean", "must be `true` or `false`"),
            ("invalid type: null, expected struct Sku", "must be a JSON object"),
            ("invalid length 0, expected struct Guest with 5 elements", "must be a JSON object"),
            ("unknown variant `a`, expected one of `b`, `c`", "must be one of `b`, `c`"),
            ("invalid digit found in string", "must be a whole number"),
            ("must be 0 or more", "must be 0 or more"),
        ] {
            assert_eq!(sentence(message), expected);
        }
    }

    #[test]
    fn r17_no_message_contains_the_words_of_a_library() {
        let refused = |json: &str| {
            let error = serde_json::from_str::<Input>(json).map(|i| (i.id, i.any)).unwrap_err();
            format!("{:?}", explain("field", &error.to_string(), "body"))
        };
        for (json, message) in [
            (r#"{"id": "7"}"#.to_owned(), "must be a UUID"),
            (format!(r#"{{"any": {}{}}}"#, "[".repeat(200), "]".repeat(200)), "must have fewer levels"),
        ] {
            let error = refused(&json);
            assert!(error.contains(message) && !error.contains("parsing") && !error.contains("recursion"), "{error}");
        }
    }
}
