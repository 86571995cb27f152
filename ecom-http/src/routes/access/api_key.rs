//! Routes of API keys.

use ecom_core::ValidationErrors;
use ecom_core::access::{ApiKey, ApiKeyInput, ApiKeyPatch, CreatedApiKey};
use ecom_core::id::ApiKeyId;

use crate::dto::{ApiKeyView, Item, List};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{ById, Cursor, Id, IfMatchHeader, Json, Pages, Picked, Query, Version};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for ApiKey {
    const FIELDS: &'static [&'static str] = ApiKeyView::FIELDS;
    type View<'a> = ApiKeyView<'a>;

    fn view(&self, _: &Format) -> ApiKeyView<'_> {
        ApiKeyView::new(self, None)
    }
}

impl Resource for ApiKey {
    const COLLECTION: &'static str = "/api-keys";

    fn stamp(&self) -> Stamp {
        // The use of a key changes the representation, but not the version.
        let used = self.last_used_at.map_or(0, |at| at.timestamp_micros());
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version.max(used) }
    }
}

impl Shown for CreatedApiKey {
    const FIELDS: &'static [&'static str] = ApiKeyView::FIELDS;
    type View<'a> = ApiKeyView<'a>;

    fn view(&self, _: &Format) -> ApiKeyView<'_> {
        ApiKeyView::new(&self.key, Some(&self.secret))
    }
}

impl Resource for CreatedApiKey {
    const COLLECTION: &'static str = ApiKey::COLLECTION;

    fn stamp(&self) -> Stamp {
        self.key.stamp()
    }
}

/// List API keys
///
/// Lists the newest keys first.
#[utoipa::path(
    get, path = "/api-keys", tag = "api-keys", security(("bearer" = ["api_keys:read"])), params(Pages, Cursor, Picked),
    responses((status = 200, description = "A page of API keys", body = List<ApiKeyView>))
)]
pub(crate) async fn list(reply: Reply, Query((pages, cursor, picked)): Query<(Pages, Cursor, Picked)>) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<ApiKey>(&picked, &mut errors);
    errors.into_result()?;
    let (page, total) = reply.shop().api_keys().list(&part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Create an API key
///
/// The response has the secret of the key, which nobody can read again. A key can only have permissions that the caller
/// has.
#[utoipa::path(
    post, path = "/api-keys", tag = "api-keys", security(("bearer" = ["api_keys:write"])), request_body = ApiKeyInput,
    responses((status = 201, description = "The created key; `Location` has its path", body = Item<ApiKeyView>))
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<ApiKeyInput>>,
) -> ApiResult {
    keyed.refuse("the response has the secret of the key, which is not stored: send the request without a key")?;
    let made = reply.shop().api_keys().create(&input).await?;
    reply.created(&made, &())
}

/// Read an API key
///
/// The response does not have its secret.
#[utoipa::path(
    get, path = "/api-keys/{id}", tag = "api-keys", security(("bearer" = ["api_keys:read"])), params(ById, Picked),
    responses((status = 200, description = "The API key", body = Item<ApiKeyView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, Id(id): Id<ApiKeyId>, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<ApiKey>(&picked)?;
    reply.personal(&reply.shop().api_keys().get(id).await?, &format)
}

/// Change an API key
///
/// The body is a merge patch (RFC 7396). The change takes effect at once, and within the poll interval (500 ms by
/// default) in processes that do not share the cache (R15).
#[utoipa::path(
    patch, path = "/api-keys/{id}", tag = "api-keys",
    security(("bearer" = ["api_keys:write"])), params(ById, IfMatchHeader), request_body = ApiKeyPatch,
    responses((status = 200, description = "The changed key", body = Item<ApiKeyView>))
)]
pub(crate) async fn patch(w: Write<ApiKeyId>, Query(()): Query<()>, Json(patch): Json<ApiKeyPatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().api_keys().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete an API key
///
/// The deletion takes effect at once, and within the poll interval (500 ms by default) in processes that do not share
/// the cache (R15).
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "api-keys",
    security(("bearer" = ["api_keys:write"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The key is deleted"))
)]
pub(crate) async fn delete(w: Write<ApiKeyId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().api_keys().delete(w.id, read).await)?;
    Ok(no_content())
}
