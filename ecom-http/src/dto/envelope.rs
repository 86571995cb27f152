//! The envelope of responses: `data`, `meta` and `links`.

use std::ops::Range;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LINK};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ecom_core::paging::{Keyset, Total};
use ecom_core::{FieldCode, ValidationErrors};
use serde::Serialize;
use serde_json::{Map, Value};

use super::catalog::product::FiltersView;
use super::search::SearchMeta;
use crate::error::{ApiError, ApiResult, shorten};
use crate::extract::{Paged, RequestTarget, Style};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A resource in the envelope.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Item<T> {
    /// The resource.
    pub data: T,
    /// An empty object, reserved for later releases.
    pub meta: NoMeta,
    /// The link to the resource.
    pub links: SelfLink,
}

/// An empty object.
#[derive(Debug, Clone, Copy, Serialize, utoipa::ToSchema)]
pub(crate) struct NoMeta {}

/// The link to a resource.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SelfLink {
    /// The path of the resource.
    #[serde(rename = "self")]
    pub this: String,
}

impl<T> Item<T> {
    pub(crate) const fn new(data: T, this: String) -> Self {
        Self { data, meta: NoMeta {}, links: SelfLink { this } }
    }
}

/// A list of resources in the envelope.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct List<T> {
    /// The resources, in order.
    pub data: Vec<T>,
    /// Information about the list.
    pub meta: ListMeta,
    /// The links to the pages of the list.
    pub links: Links,
}

/// Information about a list.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct ListMeta {
    /// The part of the list that this page contains; absent for a list without pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pagination: Option<Pagination>,
    /// The values by which the list can be filtered further; present if the request has `include=filters`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<FiltersView>,
    /// Information about the search; present for searches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchMeta>,
}

/// The part of a list that a page contains.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Pagination {
    /// The number of rows that match; absent if the request pages by cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// `false` if counting stopped early, so that there are at least `total` rows; absent if `total` is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_exact: Option<bool>,
    /// The number of the page, from 1; absent if the request pages by cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    /// The maximum number of rows on a page.
    pub per_page: u32,
    /// The number of pages, as far as the rows were counted; absent if the request pages by cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_pages: Option<u64>,
    /// Whether there is a next page.
    pub has_next: bool,
    /// The `cursor` of the next page; present if the request pages by cursor and there is a next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The links to the pages of a list, each with path and query. Links to pages that do not exist are absent.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(crate) struct Links {
    /// This page.
    #[serde(rename = "self")]
    pub this: String,
    /// The first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The previous page; absent if the request pages by cursor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// The next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The last page; present if the total is exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A list without its rows.
#[derive(Debug)]
pub(crate) struct ListFrame {
    /// Information about the list.
    pub meta: ListMeta,
    /// The links to the pages of the list.
    pub links: Links,
}

impl ListFrame {
    /// Returns the frame of a list without pages.
    pub(crate) fn whole(here: &RequestTarget) -> Self {
        Self { meta: ListMeta::default(), links: Links { this: here.path_and_query(), ..Links::default() } }
    }

    /// Returns the frame of a page.
    pub(crate) fn page(
        next: Option<&Keyset>,
        more: bool,
        total: Option<Total>,
        paged: &Paged,
        here: &RequestTarget,
    ) -> Self {
        let per_page = u64::from(paged.per_page);
        let mut frame = Self::whole(here);
        let links = &mut frame.links;
        let cursor = paged.style == Style::Cursor;
        let next_cursor = if cursor { next.map(Keyset::encode) } else { None };
        let at = |offset: u64| {
            let n = if paged.style == Style::Skip { offset } else { offset / per_page + 1 };
            with_parameter(here, paged.offset_name(), &n.to_string())
        };
        if cursor {
            links.first = Some(with_parameter(here, "cursor", ""));
            links.next = next_cursor.as_ref().map(|c| with_parameter(here, "cursor", c));
        } else {
            links.first = Some(at(0));
            let last = total.filter(|t| t.exact).map(|t| {
                if paged.style == Style::Skip { last_skip(t.count, paged) } else { last_page(t.count, per_page) }
            });
            // Before a page beyond the end comes the last page.
            let before = paged.offset.saturating_sub(per_page);
            links.prev = (paged.offset > 0).then(|| at(last.map_or(before, |last| before.min(last))));
            links.next = more.then(|| at(paged.offset + per_page));
            links.last = last.map(at);
        }
        frame.meta.pagination = Some(Pagination {
            total: total.map(|t| t.count),
            total_exact: total.filter(|t| !t.exact).map(|t| t.exact),
            page: (!cursor).then(|| paged.page()),
            per_page: paged.per_page,
            total_pages: total.map(|t| t.count.div_ceil(per_page)),
            has_next: more,
            next_cursor,
        });
        frame
    }

    /// Returns the list with its rows.
    pub(crate) fn with<T>(self, data: Vec<T>) -> List<T> {
        List { data, meta: self.meta, links: self.links }
    }
}

/// Returns the offset of the last page.
fn last_page(count: u64, per_page: u64) -> u64 {
    count.div_ceil(per_page).saturating_sub(1) * per_page
}

/// Returns the offset of the last page, in steps of `per_page` from the offset that the caller has requested.
fn last_skip(count: u64, paged: &Paged) -> u64 {
    let per_page = u64::from(paged.per_page);
    let first = paged.offset % per_page;
    if count <= first { 0 } else { first + last_page(count - first, per_page) }
}

/// Returns the path and query of the request, with another value of one parameter, which comes last.
fn with_parameter(here: &RequestTarget, name: &str, value: &str) -> String {
    let mut out = String::with_capacity(64);
    out.push_str(here.path());
    out.push('?');
    for pair in here.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        if pair.split('=').next() != Some(name) {
            out.push_str(pair);
            out.push('&');
        }
    }
    out.push_str(name);
    out.push('=');
    out.push_str(value);
    out
}

/// The approximate size of a row in a list, in bytes. Buffers of this size rarely have to grow.
const ROW_BYTES: usize = 2_048;

fn unwritable(e: serde_json::Error) -> ApiError {
    ecom_core::Error::internal("writing a representation", e).into()
}

/// How an [`Item`] and a [`List`] begin: their data are their first field.
const DATA: &str = "{\"data\":";

fn write<T: Serialize>(body: &T, room: usize) -> ApiResult<Bytes> {
    let mut bytes = Vec::with_capacity(room);
    serde_json::to_writer(&mut bytes, body).map_err(unwritable)?;
    Ok(bytes.into())
}

/// Returns a value as a response.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> ApiResult {
    Ok((status, [(CONTENT_TYPE, JSON)], write(body, ROW_BYTES)?).into_response())
}

/// The body of a resource. The representation of the resource is a part of it, so that lists can contain it too.
#[derive(Default)]
pub(crate) struct RenderedItem {
    body: Bytes,
    data: Range<usize>,
}

impl RenderedItem {
    pub(crate) fn of<T: Serialize>(data: T, this: String) -> ApiResult<Self> {
        let around = write(&Item::new((), this.clone()), ROW_BYTES)?.len() - "null".len();
        let body = write(&Item::new(data, this), ROW_BYTES)?;
        let end = DATA.len() + body.len() - around;
        Ok(Self { body, data: DATA.len()..end })
    }

    /// Returns the body.
    pub(crate) fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// Returns the representation of the resource.
    pub(crate) fn data(&self) -> &[u8] {
        &self.body[self.data.clone()]
    }
}

/// The body of a list that is worth keeping in compressed form, as an extension of the response.
#[derive(Debug, Clone)]
pub(crate) struct WholeList(pub Bytes);

impl WholeList {
    /// The shortest body in bytes. Shorter ones are compressed quickly.
    const LEAST: usize = 4_096;
}

/// The body of a list, and its header `Link` with the pages (RFC 8288).
pub(crate) struct RenderedList {
    body: Bytes,
    link: Option<HeaderValue>,
}

impl RenderedList {
    pub(crate) fn of<T: Serialize>(list: &List<T>) -> ApiResult<Self> {
        Ok(Self { body: write(list, ROW_BYTES * (list.data.len() + 1))?, link: Self::link(&list.links) })
    }

    /// Returns the list of some resources, which have been rendered.
    pub(crate) fn of_rendered<'r>(
        frame: ListFrame,
        rows: impl ExactSizeIterator<Item = &'r RenderedItem> + Clone,
    ) -> ApiResult<Self> {
        let link = Self::link(&frame.links);
        let empty = write(&frame.with(Vec::<()>::new()), ROW_BYTES)?;
        let (head, tail) = empty.split_at(DATA.len() + "[".len());
        let room = rows.clone().map(|row| row.data.len() + ",".len()).sum::<usize>() + empty.len();
        let mut body = Vec::with_capacity(room);
        body.extend_from_slice(head);
        for (i, row) in rows.enumerate() {
            if i > 0 {
                body.push(b',');
            }
            body.extend_from_slice(row.data());
        }
        body.extend_from_slice(tail);
        Ok(Self { body: body.into(), link })
    }

    /// Returns the header `Link` with the pages of a list; `None` if it has only one.
    pub(crate) fn link(l: &Links) -> Option<HeaderValue> {
        let mut text = String::new();
        for (rel, target) in [("first", &l.first), ("prev", &l.prev), ("next", &l.next), ("last", &l.last)] {
            if let Some(target) = target {
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push('<');
                text.push_str(target);
                text.push_str(">; rel=\"");
                text.push_str(rel);
                text.push('"');
            }
        }
        if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() }
    }

    pub(crate) fn respond(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(link) = &self.link {
            headers.insert(LINK, link.clone());
        }
        if self.body.len() >= WholeList::LEAST {
            response.extensions_mut().insert(WholeList(self.body.clone()));
        }
        response
    }
}

/// The fields that the parameter `fields` selects; `None` selects all.
#[derive(Debug, Default)]
pub(crate) struct Fields(Option<Vec<String>>);

impl Fields {
    /// Parses names separated by commas. Pushes an error for an unknown name and for a list without names.
    pub(crate) fn parse(sent: Option<&str>, known: &[&str], errors: &mut ValidationErrors) -> Self {
        Self(sent.map(|sent| {
            let names: Vec<String> =
                sent.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
            if names.is_empty() {
                let message = "must name at least one field; leave the parameter out for all fields";
                errors.push("fields", FieldCode::Required, message);
            }
            for n in names.iter().filter(|n| !known.contains(&n.as_str())) {
                errors.push(
                    "fields",
                    FieldCode::Unknown,
                    format!("must not contain the unknown field `{}`", shorten(n)),
                );
            }
            names
        }))
    }

    /// Returns true if all fields are selected.
    pub(crate) const fn all(&self) -> bool {
        self.0.is_none()
    }

    /// Returns those of all fields that are selected, in their order.
    pub(crate) fn of<'f>(&self, all: &[&'f str]) -> Vec<&'f str> {
        let is_selected = |name: &&&str| self.0.as_ref().is_none_or(|names| names.iter().any(|n| n == **name));
        all.iter().filter(is_selected).copied().collect()
    }

    /// Returns a hash (FNV-1a) of the selected fields, which does not depend on their order; `None` if all are
    /// selected.
    pub(crate) fn hash(&self) -> Option<u64> {
        let mut names: Vec<&str> = self.0.as_ref()?.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let bytes = names.iter().flat_map(|n| n.bytes().chain([b',']));
        Some(bytes.fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// Returns the selected fields of a representation.
    pub(crate) fn pick<T: Serialize>(&self, view: &T) -> ApiResult<Value> {
        Ok(match (&self.0, serde_json::to_value(view).map_err(unwritable)?) {
            (Some(names), Value::Object(all)) => {
                Value::Object(all.into_iter().filter(|(k, _)| names.contains(k)).collect::<Map<_, _>>())
            }
            (_, value) => value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_json_already_make_the_same_bytes() {
        let frame = || ListFrame {
            meta: ListMeta::default(),
            links: Links {
                this: "/products".to_owned(),
                next: Some("/products?page=2".to_owned()),
                ..Links::default()
            },
        };
        for rows in [vec![], vec!["a"], vec!["a", "b, \"c\"", "d"]] {
            let item = |row: &&str| RenderedItem::of(row, format!("/rows/{row}")).unwrap();
            let rendered: Vec<RenderedItem> = rows.iter().map(item).collect();
            let one = RenderedList::of(&frame().with(rows)).unwrap();
            let other = RenderedList::of_rendered(frame(), rendered.iter()).unwrap();
            assert_eq!((one.body, one.link), (other.body, other.link));
        }
    }
}
