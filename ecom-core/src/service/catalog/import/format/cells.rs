//! Texts in cells: lists, numbers and booleans.

use serde_json::{Map, Number, Value};

/// Splits a list. A backslash escapes the separator and another backslash. Empty values are left out.
pub(super) fn split(text: &str, separator: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut value = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let escaped = rest.strip_prefix('\\').and_then(|after| {
            let text = if after.starts_with('\\') { "\\" } else { separator };
            after.strip_prefix(text).map(|rest| (text, rest))
        });
        if let Some((text, after)) = escaped {
            value.push_str(text);
            rest = after;
        } else if let Some(after) = rest.strip_prefix(separator).filter(|_| !separator.is_empty()) {
            values.push(std::mem::take(&mut value));
            rest = after;
        } else {
            value.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    values.push(value);
    values.into_iter().map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
}

/// Joins values to a list that [`split`] splits.
pub(in crate::service::catalog) fn joined<'v>(values: impl IntoIterator<Item = &'v str>, separator: &str) -> String {
    let escaped = |v: &str| {
        let v = v.replace('\\', "\\\\");
        if separator.is_empty() { v } else { v.replace(separator, &format!("\\{separator}")) }
    };
    values.into_iter().map(escaped).collect::<Vec<_>>().join(separator)
}

/// Returns a decimal number with a point, or the text as it is if it is not a number; the checks of the record then
/// refuse it.
pub(super) fn decimal(text: &str, decimal_comma: bool) -> Value {
    if !decimal_comma {
        return text.into();
    }
    // Points and spaces group the digits.
    let plain: String = text.chars().filter(|c| !c.is_whitespace() && *c != '.').collect();
    let fits = plain.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | '-')) && plain.matches(',').count() < 2;
    if fits { plain.replace(',', ".").into() } else { text.into() }
}

/// Returns a whole number, or the text if it is none, which the checks of a record refuse with the name of the field.
pub(super) fn integer(text: &str) -> Value {
    let whole = text.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|b| b == b'0')).map_or(text, |(n, _)| n);
    whole.parse::<i64>().map_or_else(|_| text.into(), Into::into)
}

/// Returns a truth value, or the text if it is none.
pub(super) fn boolean(text: &str) -> Value {
    read_boolean(text).map_or_else(|| text.into(), Value::Bool)
}

/// Reads a truth value in the words that exports use.
pub(super) fn read_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" => Some(true),
        "false" | "0" | "no" | "n" => Some(false),
        _ => None,
    }
}

/// Returns the value of an attribute: a number or a truth value if its JSON text is exactly that of the cell, and
/// otherwise the text.
pub(super) fn plain(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Bool(b)) => b.into(),
        Ok(Value::Number(n)) if is_exact(&n, text) => Value::Number(n),
        _ => text.into(),
    }
}

fn is_exact(n: &Number, text: &str) -> bool {
    n.to_string() == text
}

/// Puts a value at a path of names into an object.
pub(super) fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| Map::new().into());
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_joined_list_is_split_as_it_was(values in prop::collection::vec("[a|\\\\,]{1,4}", 0..4)) {
            let text = joined(values.iter().map(String::as_str), "|");
            prop_assert_eq!(split(&text, "|"), values);
        }
    }

    #[test]
    fn numbers_are_read_as_the_map_says() {
        assert_eq!(decimal("1.234,50", true), Value::from("1234.50"));
        assert_eq!(decimal("1,5", false), Value::from("1,5"));
        assert_eq!(decimal("nine,5", true), Value::from("nine,5"));
        assert_eq!((integer("3"), integer("3.00"), integer("3.5")), (3.into(), 3.into(), "3.5".into()));
        assert_eq!(
            (plain("7"), plain("007"), plain("true"), plain("1e3")),
            (7.into(), "007".into(), true.into(), "1e3".into())
        );
    }
}
