//! Query strings: known parameters only, and both pagings.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ecom_core::paging::{Keyset, Paging};
use ecom_core::{FieldCode, Result, ValidationErrors};
use serde::de::DeserializeOwned;

use super::explain;
use crate::app::App;
use crate::error::{ApiError, ApiResult};

/// The parameters of a query string; unknown ones are refused.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl<T: DeserializeOwned> Query<T> {
    pub(crate) fn parse(query: &str) -> ApiResult<Self> {
        let de = serde_html_form::Deserializer::from_bytes(query.as_bytes());
        serde_path_to_error::deserialize(de).map(Self).map_err(|e| {
            let path = e.path().to_string();
            explain(&path, &e.into_inner().to_string(), "query")
        })
    }
}

/// How a list was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `page`, `per_page`.
    Page,
    /// `skip`, `limit`.
    Skip,
    /// `cursor`.
    Cursor,
}

/// Which part of a list is wanted, and how to say it in links.
#[derive(Debug, Clone)]
pub(crate) struct Paged {
    pub paging: Paging,
    pub style: Style,
    pub offset: u64,
    pub per_page: u32,
}

impl Paged {
    pub(crate) const fn page(&self) -> u64 {
        self.offset / self.per_page as u64 + 1
    }
}

/// Rows that a list skips at most: what every database can count to.
const MAX_OFFSET: u64 = 1 << 53;

/// The paging parameters of a list; what is wrong is pushed to `errors`, `None` then.
pub(crate) fn page_of(
    (page, per_page): (Option<i64>, Option<i64>),
    (skip, limit): (Option<i64>, Option<i64>),
    cursor: Option<(&str, &'static str)>,
    max: u32,
    errors: &mut ValidationErrors,
) -> Option<Paged> {
    let before = errors.0.len();
    let size = |field: &str, n: Option<i64>, errors: &mut ValidationErrors| {
        n.and_then(|n| {
            let fits = u32::try_from(n).ok().filter(|n| (1..=max).contains(n));
            if fits.is_none() {
                errors.out_of_bounds(field, format!("must be 1 to {max}"));
            }
            fits
        })
    };
    let by_page = size("per_page", per_page, errors);
    let by_limit = size("limit", limit, errors);
    let at_least = |field: &str, n: Option<i64>, min: i64, errors: &mut ValidationErrors| {
        if n.is_some_and(|n| n < min) {
            errors.out_of_bounds(field, format!("must be {min} or more"));
        }
        n.and_then(|n| u64::try_from(n).ok())
    };
    let page = at_least("page", page, 1, errors);
    let skip = at_least("skip", skip, 0, errors);
    let together = |errors: &mut ValidationErrors, field: &str, with: &str| {
        errors.push(field, FieldCode::Inconsistent, format!("goes in place of `{with}`, not beside it"));
    };
    if skip.is_some() && page.is_some() {
        together(errors, "skip", "page");
    }
    if by_limit.is_some() && by_page.is_some() {
        together(errors, "limit", "per_page");
    }
    let per_page = by_page.or(by_limit).unwrap_or(20.min(max));
    if let Some((text, sort)) = cursor {
        if page.is_some() {
            together(errors, "cursor", "page");
        }
        if skip.is_some() {
            together(errors, "cursor", "skip");
        }
        let after = if text.is_empty() {
            None
        } else {
            match Keyset::decode(text, sort) {
                Ok(k) => Some(k),
                Err(ecom_core::Error::Validation(v)) => {
                    errors.0.extend(v.0);
                    None
                }
                Err(_) => {
                    errors.push("cursor", FieldCode::Malformed, "is not a cursor of this list");
                    None
                }
            }
        };
        if errors.0.len() > before {
            return None;
        }
        let paging = Paging::Keyset { after, limit: per_page };
        return Some(Paged { paging, style: Style::Cursor, offset: 0, per_page });
    }
    let style = if skip.is_some() || by_limit.is_some() { Style::Skip } else { Style::Page };
    let offset = skip.unwrap_or_else(|| page.unwrap_or(1).saturating_sub(1).saturating_mul(u64::from(per_page)));
    if offset > MAX_OFFSET {
        errors.out_of_bounds(if skip.is_some() { "skip" } else { "page" }, "is too large");
    }
    if errors.0.len() > before {
        return None;
    }
    Some(Paged { paging: Paging::Offset { offset, limit: per_page }, style, offset, per_page })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(
        page: (Option<i64>, Option<i64>),
        skip: (Option<i64>, Option<i64>),
        cursor: Option<(&str, &'static str)>,
    ) -> Result<Paged, Vec<String>> {
        let mut e = ValidationErrors::default();
        let p = page_of(page, skip, cursor, 100, &mut e);
        p.ok_or_else(|| e.0.into_iter().map(|f| f.field).collect())
    }

    #[test]
    fn r17_pages_have_bounds() {
        let p = paged((Some(3), Some(10)), (None, None), None).unwrap();
        assert_eq!(p.paging, Paging::Offset { offset: 20, limit: 10 });
        assert_eq!(p.page(), 3);
        let none = (None, None);
        assert_eq!(paged((Some(0), Some(101)), none, None).unwrap_err(), ["per_page", "page"]);
        assert_eq!(paged((Some(1), None), (Some(1), None), None).unwrap_err(), ["skip"]);
        assert_eq!(paged((Some(i64::MAX), None), none, None).unwrap_err(), ["page"]);
        assert_eq!(paged((Some(1), None), none, Some(("", "name"))).unwrap_err(), ["cursor"]);
        assert_eq!(paged(none, none, Some(("x!", "name"))).unwrap_err(), ["cursor"]);
        assert_eq!(paged(none, none, Some(("", "name"))).unwrap().paging, Paging::first(20));
    }
}
