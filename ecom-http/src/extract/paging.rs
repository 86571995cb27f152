//! The parameters that select a part of a list: by page, by rows to skip, or by cursor.

use ecom_core::paging::{Keyset, Paging};
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;

use super::filter::present;
use crate::app::HttpConfig;

/// The parameters that select a page of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Pages {
    /// The number of the page, from 1; 1 if absent.
    #[serde(default)]
    page: Option<i64>,
    /// The maximum number of rows on the page:
    #[serde(default)]
    per_page: Option<i64>,
    /// The number of rows to skip, 0 or more, as an alternative to `page`.
    #[serde(default)]
    skip: Option<i64>,
    /// The maximum number of rows to return, as an alternative to `per_page`:
    #[serde(default)]
    limit: Option<i64>,
}

/// The parameter for paging by cursor.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Cursor {
    /// The position at which the page starts, as an alternative to `page`: an empty value selects the first page, and
    /// the `next_cursor` of a response selects the next one. A page costs the same at any depth.
    #[serde(default, deserialize_with = "present")]
    cursor: Option<String>,
}

/// The way in which a request selects a part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `page`, `per_page`.
    Page,
    /// `skip`, `limit`.
    Skip,
    /// `cursor`.
    Cursor,
}

/// The requested part of a list, and the way in which links select parts.
#[derive(Debug, Clone)]
pub(crate) struct Paged {
    pub paging: Paging,
    pub style: Style,
    pub offset: u64,
    pub per_page: u32,
}

impl Paged {
    /// Returns the number of the page, from 1.
    pub(crate) const fn page(&self) -> u64 {
        self.offset / self.per_page as u64 + 1
    }

    /// Returns the name of the parameter that sets the offset.
    pub(crate) const fn offset_name(&self) -> &'static str {
        match self.style {
            Style::Skip => "skip",
            Style::Page | Style::Cursor => "page",
        }
    }
}

/// The maximum number of rows to skip, which every database supports.
const MAX_OFFSET: u64 = 1 << 53;

impl Pages {
    /// Checks the parameters of a list without a cursor. Pushes an error for each invalid one, and then returns the
    /// first page.
    pub(crate) fn check(&self, config: &HttpConfig, errors: &mut ValidationErrors) -> Paged {
        self.check_with(&Cursor::default(), "", config, errors)
    }

    /// Checks the parameters of a list that is sorted by `sort`. Pushes an error for each invalid one, and then returns
    /// the first page.
    pub(crate) fn check_with(
        &self,
        cursor: &Cursor,
        sort: &'static str,
        config: &HttpConfig,
        errors: &mut ValidationErrors,
    ) -> Paged {
        let max = config.max_page_size;
        let size = |field: &str, n: Option<i64>, errors: &mut ValidationErrors| {
            n.and_then(|n| {
                let fits = u32::try_from(n).ok().filter(|n| (1..=max).contains(n));
                if fits.is_none() {
                    errors.out_of_bounds(field, format!("must be between 1 and {max}"));
                }
                fits
            })
        };
        let by_page = size("per_page", self.per_page, errors);
        let by_limit = size("limit", self.limit, errors);
        let at_least = |field: &str, n: Option<i64>, min: i64, errors: &mut ValidationErrors| {
            if n.is_some_and(|n| n < min) {
                errors.out_of_bounds(field, format!("must be {min} or more"));
            }
            n.and_then(|n| u64::try_from(n).ok())
        };
        let page = at_least("page", self.page, 1, errors);
        let skip = at_least("skip", self.skip, 0, errors);
        let cursor = cursor.cursor.as_deref();
        for (field, other, both) in [
            ("skip", "page", skip.is_some() && page.is_some()),
            ("limit", "per_page", by_limit.is_some() && by_page.is_some()),
            ("cursor", "page", cursor.is_some() && page.is_some()),
            ("cursor", "skip", cursor.is_some() && skip.is_some()),
        ] {
            if both {
                errors.push(
                    field,
                    FieldCode::Inconsistent,
                    format!("cannot be combined with `{other}`: send one of the two"),
                );
            }
        }
        let per_page = by_page.or(by_limit).unwrap_or(config.page_size);
        if let Some(text) = cursor {
            let after = if text.is_empty() { None } else { decode(text, sort, errors) };
            let paging = Paging::Keyset { after, limit: per_page };
            return Paged { paging, style: Style::Cursor, offset: 0, per_page };
        }
        let style = if skip.is_some() || by_limit.is_some() { Style::Skip } else { Style::Page };
        let offset = skip.unwrap_or_else(|| page.unwrap_or(1).saturating_sub(1).saturating_mul(u64::from(per_page)));
        if offset > MAX_OFFSET {
            errors.out_of_bounds(
                if skip.is_some() { "skip" } else { "page" },
                "exceeds the number of rows that can be skipped; use `cursor` to read deep pages",
            );
        }
        Paged { paging: Paging::Offset { offset, limit: per_page }, style, offset, per_page }
    }
}

fn decode(text: &str, sort: &'static str, errors: &mut ValidationErrors) -> Option<Keyset> {
    match Keyset::decode(text, sort) {
        Ok(after) => return Some(after),
        Err(Error::Validation(v)) => errors.0.extend(v.0),
        Err(_) => {
            errors.push(
                "cursor",
                FieldCode::Malformed,
                "is not a cursor of this list: start again from the first page",
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(query: &str) -> Result<Paged, Vec<String>> {
        let read = |q: &str| serde_html_form::from_str(q).unwrap();
        let (pages, cursor): (Pages, Cursor) = (read(query), serde_html_form::from_str(query).unwrap());
        let mut e = ValidationErrors::default();
        let p = pages.check_with(&cursor, "name", &HttpConfig::default(), &mut e);
        if e.0.is_empty() { Ok(p) } else { Err(e.0.into_iter().map(|f| f.field).collect()) }
    }

    #[test]
    fn r17_pages_have_bounds() {
        let p = paged("page=3&per_page=10").unwrap();
        assert_eq!(p.paging, Paging::Offset { offset: 20, limit: 10 });
        assert_eq!(p.page(), 3);
        assert_eq!(paged("page=0&per_page=101").unwrap_err(), ["per_page", "page"]);
        assert_eq!(paged("page=1&skip=1").unwrap_err(), ["skip"]);
        assert_eq!(paged(&format!("page={}", i64::MAX)).unwrap_err(), ["page"]);
        assert_eq!(paged("page=1&cursor=").unwrap_err(), ["cursor"]);
        assert_eq!(paged("cursor=x!").unwrap_err(), ["cursor"]);
        assert_eq!(paged("cursor=").unwrap().paging, Paging::first(20));
    }

    #[test]
    fn the_default_size_of_a_page_is_a_setting() {
        let config = HttpConfig::default().page_size(7);
        let p = Pages::default().check(&config, &mut ValidationErrors::default());
        assert_eq!(p.paging, Paging::Offset { offset: 0, limit: 7 });
        let config = HttpConfig::default().page_size(20).max_page_size(5).bounded();
        assert_eq!(config.page_size, 5);
    }
}
