//! Lists and reports as CSV, for spreadsheets.

use std::borrow::Cow;
use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use ecom_core::text::guard_formula;
use ecom_core::{Error, ValidationErrors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dto::Links;
use crate::dto::RenderedList;
use crate::error::ApiResult;
use crate::extract::word;
use crate::headers::private;

/// The parameter for the format of a list or a report.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Output {
    /// The format of the response: `json` or `csv`. If it is absent, the header `Accept` decides (`text/csv`), and JSON
    /// is the default.
    #[serde(default)]
    format: Option<String>,
}

/// A format of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Csv,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Json, Self::Csv];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

impl Output {
    /// Returns whether the response is CSV. Pushes an error if the format is unknown.
    pub(crate) fn is_csv(&self, accepted: Accepted, errors: &mut ValidationErrors) -> bool {
        match &self.format {
            Some(text) => word("format", Some(text.as_str()), &Kind::ALL, Kind::as_str, errors) == Some(Kind::Csv),
            None => accepted.csv,
        }
    }
}

/// The format that the header `Accept` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    csv: bool,
}

impl Accepted {
    /// Reads the header. The first type that is CSV, or that includes JSON, counts.
    fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let first = sent.flat_map(|value| value.split(',')).find_map(|range| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let is_refused = parameters.split(';').any(|p| matches!(p.trim(), "q=0" | "q=0.0"));
            match name.trim().to_ascii_lowercase().as_str() {
                _ if is_refused => None,
                "text/csv" => Some(true),
                "application/json" | "application/*" | "*/*" => Some(false),
                _ => None,
            }
        });
        Self { csv: first.unwrap_or(false) }
    }
}

impl<S: Sync> FromRequestParts<S> for Accepted {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// Returns a table with a line of the names of its columns, and a line for each row. A column is a field of the
/// representation. `links` are those to the other pages, for the header `Link`.
pub(crate) fn table<V: Serialize>(
    name: &str,
    columns: &[&str],
    rows: impl Iterator<Item = V>,
    links: Option<&Links>,
) -> ApiResult {
    let mut text = columns.join(",");
    text.push('\n');
    for row in rows {
        let row = serde_json::to_value(row).map_err(|e| Error::internal("writing a table", e))?;
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            match row.get(column) {
                None | Some(Value::Null) => {}
                Some(Value::String(cell)) => put(&mut text, cell),
                Some(other) => text.push_str(&other.to_string()),
            }
        }
        text.push('\n');
    }
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    let mut response: Response = ([(CONTENT_TYPE, kind)], text).into_response();
    let headers = response.headers_mut();
    if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.csv\"")) {
        headers.insert(CONTENT_DISPOSITION, file);
    }
    if let Some(link) = links.and_then(RenderedList::link) {
        headers.insert(LINK, link);
    }
    Ok(private(response, None))
}

/// Adds a cell with a text, in quotes if it needs them (RFC 4180). A spreadsheet would run a text that begins like a
/// formula, and strangers type what the search log contains, so such a text gets an apostrophe in front. Where the
/// comma is the decimal mark, a spreadsheet separates cells by semicolons, so a text with one is in quotes, too:
/// otherwise its second half would be a cell of its own.
fn put(to: &mut String, cell: &str) {
    let is_number = cell.parse::<rust_decimal::Decimal>().is_ok();
    let cell = if is_number { Cow::Borrowed(cell) } else { guard_formula(cell) };
    let needs_quotes = cell.contains([',', ';', '\t', '"', '\n', '\r']);
    if needs_quotes {
        to.push('"');
    }
    for c in cell.chars() {
        if c == '"' {
            to.push('"');
        }
        to.push(c);
    }
    if needs_quotes {
        to.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formulas() {
        let cell = |text: &str| {
            let mut to = String::new();
            put(&mut to, text);
            to
        };
        assert_eq!(cell("red shoes"), "red shoes");
        assert_eq!(cell("12\", black"), "\"12\"\", black\"");
        assert_eq!(cell("-9.99"), "-9.99");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@SUM(A1,A2)"), "\"'@SUM(A1,A2)\"");
        assert_eq!(cell("shoes;=1+1"), "\"shoes;=1+1\"");
        assert_eq!(cell("shoes\t=1+1"), "\"shoes\t=1+1\"");
    }

    #[test]
    fn the_first_type_that_is_known_decides() {
        let accepted = |sent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(sent).unwrap());
            Accepted::of(&headers).csv
        };
        for csv in ["text/csv", "Text/CSV; charset=utf-8", "text/html, text/csv, */*;q=0.1"] {
            assert!(accepted(csv), "{csv}");
        }
        for json in ["*/*", "application/json, text/csv", "text/csv;q=0, */*", "text/html", ""] {
            assert!(!accepted(json), "{json}");
        }
    }
}
