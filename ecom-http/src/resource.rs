//! The frame of all resources: paths, links, entity tags, `fields`, `numbers`, and the responses of reads, writes and
//! lists.
//!
//! A resource implements [`Resource`], or [`Shown`] if it is only listed. The handlers of reads extract a [`Reply`],
//! those of writes a [`Write`], and each returns the response of one of their methods.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use ecom_core::access::Principal;
use ecom_core::common::{Cached, ExpectedVersion, Lookup};
use ecom_core::config::ShopConfig;
use ecom_core::money::Currency;
use ecom_core::paging::{Page, Total};
use ecom_core::platform::AnswerSubject;
use ecom_core::{ActingShop, Error, FieldCode, Shop, ValidationErrors};
use serde::Serialize;
use uuid::Uuid;

use crate::app::App;
use crate::dto::{Fields, Item, JSON, ListFrame, RenderedItem, RenderedList, json};
use crate::error::{ApiError, ApiResult};
use crate::etag::{Stamp, is_known};
use crate::extract::{Id, IfMatch, Paged, Params, RequestTarget, Wish};
use crate::headers::{PUBLIC, X_CACHE, cache_word, located, not_modified, private, public};

/// A type that has a representation in responses.
pub(crate) trait Shown {
    /// The top-level fields of the representation, from which `fields` selects.
    const FIELDS: &'static [&'static str];
    /// The representation.
    type View<'a>: Serialize
    where
        Self: 'a;

    /// Returns the representation.
    fn view(&self, format: &Format) -> Self::View<'_>;
}

/// A type whose values have their own paths.
pub(crate) trait Resource: Shown {
    /// The path of the collection under the API prefix, such as `/products`.
    const COLLECTION: &'static str;

    /// Returns the id, the version and the revision of the resource.
    fn stamp(&self) -> Stamp;

    /// Returns the last part of the path of the resource: its id, unless there is only one such resource.
    fn name(&self) -> String {
        self.stamp().id.to_string()
    }

    /// Returns whose personal data the representation contains.
    fn subject(&self) -> Option<AnswerSubject> {
        None
    }
}

/// Whose personal data a response contains, as an extension of the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About(pub AnswerSubject);

/// The shop of a request that may write, as an extension of the request. It notes the last event of the write.
#[derive(Debug, Clone)]
pub(crate) struct Recording(pub Shop);

/// The format of a representation.
#[derive(Debug)]
pub(crate) struct Format {
    /// The selected fields.
    pub fields: Fields,
    /// Whether decimals are JSON numbers.
    pub numbers: bool,
    /// The currency of the shop.
    pub currency: Currency,
}

impl Format {
    /// Returns the suffix of entity tags in this format, because different formats have different bytes.
    fn variant(&self) -> String {
        let mut variant = String::new();
        if self.numbers {
            variant.push_str(";n");
        }
        if let Some(hash) = self.fields.hash() {
            let _ = write!(variant, ";f{hash:016x}");
        }
        variant
    }

    /// Returns the response with one value. `this` is its path.
    fn item<S: Shown>(&self, status: StatusCode, value: &S, this: String) -> ApiResult {
        let view = value.view(self);
        if self.fields.all() {
            json(status, &Item::new(view, this))
        } else {
            json(status, &Item::new(self.fields.pick(&view)?, this))
        }
    }

    /// Renders the rows of a list.
    pub(crate) fn rows<'r, S: Shown + 'r>(
        &self,
        frame: ListFrame,
        rows: impl Iterator<Item = &'r S>,
    ) -> ApiResult<RenderedList> {
        let views = rows.map(|r| r.view(self));
        if self.fields.all() {
            RenderedList::of(&frame.with(views.collect()))
        } else {
            RenderedList::of(&frame.with(views.map(|v| self.fields.pick(&v)).collect::<ApiResult<Vec<_>>>()?))
        }
    }
}

/// The parts of a request on which the response depends. Every request of the hot path makes one, so it copies little.
#[derive(Clone)]
pub(crate) struct Reply {
    /// The state that all handlers share.
    pub app: Arc<App>,
    /// The path and query of the request.
    pub target: RequestTarget,
    /// The caller.
    principal: Principal,
    /// The shop that notes the last event, if the request may write.
    recording: Option<Recording>,
    if_none_match: Option<HeaderValue>,
}

/// Returns the caller of a request: the principal that the host has added to it, or the configured one.
pub(crate) fn principal<'a>(parts: &'a Parts, app: &'a App) -> &'a Principal {
    parts.extensions.get().unwrap_or(&app.config.anonymous)
}

impl Reply {
    /// Returns the parts of a request, or an error if the caller has not logged in and the route requires it. Handlers
    /// extract this first, so that nothing else of such a request is read.
    fn admitted(parts: &Parts, app: &Arc<App>) -> ApiResult<Self> {
        let principal = principal(parts, app);
        app.admission.check(parts, principal)?;
        Ok(Self::of(parts, app, principal.clone()))
    }

    fn of(parts: &Parts, app: &Arc<App>, principal: Principal) -> Self {
        let if_none_match = parts.headers.get(IF_NONE_MATCH).cloned();
        let recording = parts.extensions.get().cloned();
        Self { app: app.clone(), target: RequestTarget::of(parts), principal, recording, if_none_match }
    }

    /// Returns the services of the shop for the caller.
    pub(crate) fn shop(&self) -> ActingShop<'_> {
        let shop = self.recording.as_ref().map_or(&self.app.shop, |Recording(shop)| shop);
        shop.acting_as(&self.principal)
    }

    /// Returns the settings of the shop.
    pub(crate) fn config(&self) -> &ShopConfig {
        self.app.shop.config()
    }

    /// Reads the parameters of the query string. Handlers that answer some requests without parameters use this in
    /// place of the extractor.
    pub(crate) fn query<P: Params>(&self) -> ApiResult<P> {
        P::read(self.target.query().unwrap_or_default())
    }

    /// Returns the format that the client requests. Pushes an error for each unknown field.
    pub(crate) fn format<S: Shown>(&self, wish: &impl Wish, errors: &mut ValidationErrors) -> Format {
        Format {
            fields: Fields::parse(wish.fields(), S::FIELDS, errors),
            numbers: wish.numbers().unwrap_or(self.app.config.numbers),
            currency: self.config().currency,
        }
    }

    /// Returns the format that the client requests, or an error if it contains unknown fields.
    pub(crate) fn only_format<S: Shown>(&self, wish: &impl Wish) -> ApiResult<Format> {
        let mut errors = ValidationErrors::default();
        let format = self.format::<S>(wish, &mut errors);
        errors.into_result()?;
        Ok(format)
    }

    /// Returns true if this is the format of a request without `fields` and `numbers`.
    fn is_plain(&self, format: &Format) -> bool {
        format.fields.all() && format.numbers == self.app.config.numbers
    }

    /// Returns the path of a resource, as links contain it.
    fn path_of<R: Resource>(&self, resource: &R) -> String {
        format!("{}{}{}/{}", self.target.base(), self.app.config.api_prefix, R::COLLECTION, resource.name())
    }

    fn document<R: Resource>(&self, status: StatusCode, resource: &R, format: &Format) -> ApiResult {
        format.item(status, resource, self.path_of(resource))
    }

    /// Returns the response of a read that shared caches must not store, such as that of a soft-deleted row.
    pub(crate) fn private<R: Resource>(&self, resource: &R, format: &Format) -> ApiResult {
        let response = self.document(StatusCode::OK, resource, format)?;
        let mut response = private(response, Some(resource.stamp().tag(&format.variant())));
        if let Some(subject) = resource.subject() {
            response.extensions_mut().insert(About(subject));
        }
        Ok(response)
    }

    /// Returns the response of a read, which is 304 if the client already has the document. `hit` is whether the value
    /// came from the cache; it is `None` if the read does not use the cache.
    pub(crate) fn public<R: Resource>(&self, resource: &R, format: &Format, hit: Option<bool>) -> ApiResult {
        let tag = resource.stamp().tag(&format.variant());
        if is_known(self.if_none_match.as_ref(), &tag) {
            return Ok(not_modified(&tag, hit));
        }
        Ok(public(self.document(StatusCode::OK, resource, format)?, Some(tag), hit))
    }

    /// Returns the response of a read through the cache.
    pub(crate) fn found<R: Resource>(&self, found: &Lookup<R>, format: &Format) -> ApiResult {
        if self.is_plain(format) {
            return Ok(self.whole(&found.value, found.hit));
        }
        self.public::<R>(&found.value, format, Some(found.hit))
    }

    /// Returns the response of a read of a cached value with all its fields, from the bytes that are stored beside the
    /// value. This is the hot path.
    pub(crate) fn whole<R: Resource>(&self, value: &Cached<R>, hit: bool) -> Response {
        let (base, numbers) = (self.target.base(), self.app.config.numbers);
        let prefix = self.app.config.api_prefix.as_str();
        let if_none_match = self.if_none_match.as_ref();
        let r = self.stored(value);
        if r.numbers == numbers && r.root.strip_prefix(base) == Some(prefix) {
            return r.respond(if_none_match, hit);
        }
        self.render::<R>(value).respond(if_none_match, hit)
    }

    /// Returns the bytes that are stored beside a cached value. Another router of the same shop, with another prefix or
    /// format, may have rendered them.
    fn stored<'v, R: Resource>(&self, value: &'v Cached<R>) -> &'v Rendered {
        value.attached(|v| self.render(v))
    }

    fn render<R: Resource>(&self, resource: &R) -> Rendered {
        let numbers = self.app.config.numbers;
        let format = Format { fields: Fields::default(), numbers, currency: self.config().currency };
        // Serialization cannot fail, because the view consists of texts, numbers and maps with text keys.
        let item = RenderedItem::of(resource.view(&format), self.path_of(resource)).unwrap_or_default();
        let root = format!("{}{}", self.target.base(), self.app.config.api_prefix).into();
        Rendered { root, numbers, item, etag: resource.stamp().tag(&format.variant()) }
    }

    /// Returns the response of a read of personal data, which shared caches must not store. It is 304 if the client
    /// already has the document.
    pub(crate) fn personal<R: Resource>(&self, resource: &R, format: &Format) -> ApiResult {
        let tag = resource.stamp().tag(&format.variant());
        if is_known(self.if_none_match.as_ref(), &tag) {
            return Ok(private(StatusCode::NOT_MODIFIED.into_response(), Some(tag)));
        }
        self.private(resource, format)
    }

    /// Returns the response of a read of a part of a resource, such as a line of an order, or of a resource by a path
    /// that is not its own. Its path is that of the request, and it has the entity tag of the resource, because the
    /// part has no version of its own.
    pub(crate) fn part_of<R: Resource, S: Shown>(&self, whole: &R, part: &S, format: &Format) -> ApiResult {
        let tag = whole.stamp().tag(&format.variant());
        if is_known(self.if_none_match.as_ref(), &tag) {
            return Ok(private(StatusCode::NOT_MODIFIED.into_response(), Some(tag)));
        }
        self.written_part(whole, part, format)
    }

    /// Returns the response of a write to a part of a resource, which has the path and the entity tag that
    /// [`Self::part_of`] describes.
    pub(crate) fn written_part<R: Resource, S: Shown>(&self, whole: &R, part: &S, format: &Format) -> ApiResult {
        let tag = whole.stamp().tag(&format.variant());
        Ok(private(format.item(StatusCode::OK, part, self.target.path().to_owned())?, Some(tag)))
    }

    /// Returns the response of a write, with the resource after the write.
    pub(crate) fn written<R: Resource>(&self, resource: &R, wish: &impl Wish) -> ApiResult {
        self.private(resource, &self.only_format::<R>(wish)?)
    }

    /// Returns the response of a write that has created a resource.
    pub(crate) fn created<R: Resource>(&self, resource: &R, wish: &impl Wish) -> ApiResult {
        let mut response = located(self.written(resource, wish)?, &self.path_of(resource));
        *response.status_mut() = StatusCode::CREATED;
        Ok(response)
    }

    /// Returns the response of a write that has begun an operation, with the resource that shows what becomes of it.
    pub(crate) fn accepted<R: Resource>(&self, resource: &R) -> ApiResult {
        let mut response = located(self.written(resource, &())?, &self.path_of(resource));
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }

    /// Returns the frame of a page of a list.
    pub(crate) fn frame<T>(&self, page: &Page<T>, total: Option<Total>, paged: &Paged) -> ListFrame {
        ListFrame::page(page.next.as_ref(), page.next.is_some(), total, paged, &self.target)
    }

    /// Renders the rows of a list of cached values. In the default format, it copies the bytes that are stored beside
    /// the values.
    pub(crate) fn rows<R: Resource>(
        &self,
        frame: ListFrame,
        rows: &[Arc<Cached<R>>],
        format: &Format,
    ) -> ApiResult<RenderedList> {
        if self.is_plain(format) {
            let stored = || rows.iter().map(|row| self.stored(row));
            if stored().all(|r| r.numbers == format.numbers) {
                return RenderedList::of_rendered(frame, stored().map(|r| &r.item));
            }
        }
        format.rows(frame, rows.iter().map(|row| &***row))
    }

    /// Renders a list without pages.
    pub(crate) fn all<'r, S: Shown + 'r>(
        &self,
        rows: impl Iterator<Item = &'r S>,
        format: &Format,
    ) -> ApiResult<Response> {
        Ok(format.rows(ListFrame::whole(&self.target), rows)?.respond())
    }

    /// Returns the response with a page of a cached list. In the default format, its bytes are stored beside the list.
    pub(crate) fn page<L>(
        &self,
        list: &Cached<L>,
        format: &Format,
        render: impl Fn(&L) -> ApiResult<RenderedList>,
    ) -> ApiResult {
        if !self.is_plain(format) {
            return Ok(render(list)?.respond());
        }
        let this = self.target.path_and_query();
        let kept = list
            .attached(|l| Some(RenderedPage { this: this.clone(), numbers: format.numbers, list: render(l).ok()? }));
        match kept {
            Some(r) if r.this == this && r.numbers == format.numbers => Ok(r.list.respond()),
            // The stored page belongs to another URL, whose links differ.
            _ => Ok(render(list)?.respond()),
        }
    }
}

impl FromRequestParts<Arc<App>> for Reply {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        Self::admitted(parts, app)
    }
}

/// The bytes of a document, which are stored beside the cached value for as long as the value.
struct Rendered {
    /// The path of the API, with which the link in the document begins.
    root: Box<str>,
    numbers: bool,
    item: RenderedItem,
    etag: HeaderValue,
}

impl Rendered {
    fn respond(&self, if_none_match: Option<&HeaderValue>, hit: bool) -> Response {
        if is_known(if_none_match, &self.etag) {
            return not_modified(&self.etag, Some(hit));
        }
        let mut response = Response::new(Body::from(self.item.body()));
        let headers = response.headers_mut();
        headers.reserve(11);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, PUBLIC);
        headers.insert(X_CACHE, cache_word(hit));
        response
    }
}

/// The bytes of a page, which are stored beside the cached page for as long as the page.
struct RenderedPage {
    /// The path and query of the request, which the links of the page contain.
    this: String,
    numbers: bool,
    list: RenderedList,
}

/// A write to one resource: the id of the resource, the caller, and the version that the caller has read.
pub(crate) struct Write<T> {
    reply: Reply,
    /// The id in the path.
    pub id: T,
    if_match: IfMatch,
}

impl<T> Write<T> {
    /// Returns a write to the only resource of its kind, whose path has no id.
    pub(crate) const fn to(id: T, reply: Reply, if_match: IfMatch) -> Self {
        Self { reply, id, if_match }
    }
}

impl<T: Copy + Into<Uuid>> Write<T> {
    /// Returns the version that the writer has read, from If-Match or else from `version`.
    pub(crate) fn read(&self, version: Option<i64>) -> ApiResult<ExpectedVersion> {
        self.if_match.read(self.id.into(), version)
    }

    /// Returns the version that the writer has read, from If-Match or else from the body or the query, which must
    /// agree.
    pub(crate) fn read_either(&self, body: Option<i64>, query: Option<i64>) -> ApiResult<ExpectedVersion> {
        if body.zip(query).is_some_and(|(b, q)| b != q) {
            return Err(ApiError::field(
                "version",
                FieldCode::Inconsistent,
                "must be the same in the body and in the query, or be left out of one of them",
            ));
        }
        self.read(body.or(query))
    }

    /// Returns the result of a write, or the error response of a failed one.
    pub(crate) fn done<D>(&self, outcome: Result<D, Error>) -> ApiResult<D> {
        outcome.map_err(|e| self.if_match.error(e))
    }
}

impl<T> Deref for Write<T> {
    type Target = Reply;

    fn deref(&self) -> &Reply {
        &self.reply
    }
}

impl<T: From<Uuid> + Send> FromRequestParts<Arc<App>> for Write<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let reply = Reply::admitted(parts, app)?;
        let Id(id) = Id::from_request_parts(parts, app).await?;
        let Ok(if_match) = IfMatch::from_request_parts(parts, app).await;
        Ok(Self { reply, id, if_match })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_a_document_have_different_tags() {
        let variant = |numbers, fields: Option<&str>| {
            let fields = Fields::parse(fields, &["title", "price"], &mut ValidationErrors::default());
            Format { fields, numbers, currency: Currency::USD }.variant()
        };
        let all = [
            variant(false, None),
            variant(true, None),
            variant(false, Some("title")),
            variant(true, Some("title")),
            variant(false, Some("price")),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|b| b != a), "{a}");
        }
        assert_eq!(all[0], "");
        assert_eq!(variant(false, Some("title,price")), variant(false, Some("price, title,price")));
    }
}
