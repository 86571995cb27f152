//! Categories and their tree.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use ecom_core::catalog::CategoryFilter;
use ecom_core::catalog::{Category, CategoryInput, CategoryPatch};
use ecom_core::common::Deleted;
use ecom_core::id::CategoryId;
use ecom_core::{Error, FieldCode, ValidationErrors};
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::dto::{CategoryNode, CategoryView, Fields, Item, List, MoveInput, json, respond_list, tree as nest};
use crate::error::{ApiError, ApiResult};
use crate::extract::{By, Here, Id, IfMatch, Json, Key, Query, VersionBody, page_of};
use crate::routes::stock::inventory::NoParams;
use crate::routes::{DeleteParams, conditional, deleted, etag, located, no_content, present, private, public};

fn one(status: StatusCode, c: &Category, here: &Here, fields: &Fields, app: &App) -> ApiResult {
    let view = CategoryView::from(c);
    let this = path_of(c, here, app);
    if fields.all() {
        json(status, &Item::new(view, this))
    } else {
        json(status, &Item::new(fields.pick(&view)?, this))
    }
}

fn path_of(c: &Category, here: &Here, app: &App) -> String {
    format!("{}{}/categories/{}", here.base(), app.config.api_prefix, c.id)
}

fn written(status: StatusCode, c: &Category, here: &Here, app: &App) -> ApiResult {
    let mut none = ValidationErrors::default();
    let all = Fields::parse(None, CategoryView::FIELDS, &mut none);
    Ok(private(one(status, c, here, &all, app)?, Some(etag(c.audit.version, c.revision))))
}

/// The parameters of a list of categories.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// The page, from 1.
    #[serde(default)]
    page: Option<i64>,
    /// Rows of a page, 1 to 100; 20 if absent.
    #[serde(default)]
    per_page: Option<i64>,
    /// Rows to skip, in place of `page`.
    #[serde(default)]
    skip: Option<i64>,
    /// Rows of a page, in place of `per_page`.
    #[serde(default)]
    limit: Option<i64>,
    /// Paging by cursor, in place of `page`: empty to start, then `next_cursor`.
    #[serde(default, deserialize_with = "present")]
    cursor: Option<String>,
    /// Those directly below this one: an id, slug or path; empty for the roots.
    #[serde(default, deserialize_with = "present")]
    parent_id: Option<String>,
    /// Soft-deleted ones too.
    #[serde(default)]
    include_deleted: Option<bool>,
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
}

/// List categories
///
/// By name.
#[utoipa::path(
    get, path = "/categories", tag = "categories", params(ListParams),
    responses((status = 200, description = "A page of categories", body = List<CategoryView>))
)]
pub(crate) async fn list(State(app): State<Arc<App>>, here: Here, Query(p): Query<ListParams>) -> ApiResult {
    // The words are checked before the parent is looked up (R17).
    let checked = Checked::of(&p, &app)?;
    let parent = match p.parent_id.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => Some(Some(
            app.shop.categories().resolve(text).await.map_err(|e| ApiError::reference(e, "parent_id"))?.value.id,
        )),
    };
    page(CategoryFilter { parent, deleted: deleted(p.include_deleted) }, checked, &here, &app).await
}

struct Checked {
    paged: crate::extract::Paged,
    fields: Fields,
}

impl Checked {
    fn of(p: &ListParams, app: &App) -> ApiResult<Self> {
        let mut errors = ValidationErrors::default();
        let cursor = p.cursor.as_deref().map(|c| (c, "name"));
        let max = app.config.max_page_size;
        let paged = page_of((p.page, p.per_page), (p.skip, p.limit), cursor, max, &mut errors);
        let fields = Fields::parse(p.fields.as_deref(), CategoryView::FIELDS, &mut errors);
        if let Some(t) = &p.parent_id {
            ecom_core::text::check_text("parent_id", t, 0, 4_000, &mut errors);
        }
        errors.into_result()?;
        let paged = paged.ok_or_else(|| ApiError::field("page", FieldCode::Malformed, "cannot be read"))?;
        Ok(Self { paged, fields })
    }
}

async fn page(filter: CategoryFilter, checked: Checked, here: &Here, app: &App) -> ApiResult {
    let Checked { paged, fields } = checked;
    let found = app.shop.categories().list(&filter, &paged.paging).await?;
    let (page, total) = (&found.value.page, found.value.total);
    let views = page.items.iter().map(CategoryView::from);
    let (next, more) = (page.next.as_ref(), page.next.is_some());
    let response = if fields.all() {
        respond_list(&List::page(views.collect(), next, more, total, &paged, here))?
    } else {
        let rows = views.map(|v| fields.pick(&v)).collect::<ApiResult<Vec<Value>>>()?;
        respond_list(&List::page(rows, next, more, total, &paged, here))?
    };
    Ok(if filter.deleted == Deleted::Include {
        private(response, None)
    } else {
        public(response, None, Some(found.hit))
    })
}

/// The tree
///
/// All categories, nested.
#[utoipa::path(
    get, path = "/categories/tree", tag = "categories",
    responses((status = 200, description = "The roots with what is below them", body = List<CategoryNode>))
)]
pub(crate) async fn tree(State(app): State<Arc<App>>, here: Here, Query(NoParams {}): Query<NoParams>) -> ApiResult {
    let found = app.shop.categories().tree().await?;
    Ok(public(respond_list(&List::whole(nest(&found.value), &here))?, None, Some(found.hit)))
}

/// The parameters of one category.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadParams {
    /// Top-level fields to return, with commas between; all if absent.
    #[serde(default)]
    fields: Option<String>,
    /// Also where it is soft-deleted (by id only).
    #[serde(default)]
    include_deleted: Option<bool>,
}

/// Read a category
///
/// By id or slug: what is no UUID is a slug.
#[utoipa::path(
    get, path = "/categories/{id}", tag = "categories",
    params(("id" = String, Path, description = "Id or slug"), ReadParams),
    responses(
        (status = 200, description = "The category", body = Item<CategoryView>),
        (status = 304, description = "If-None-Match names it as it is"),
    )
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    key: Key,
    here: Here,
    headers: HeaderMap,
    Query(params): Query<ReadParams>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let fields = Fields::parse(params.fields.as_deref(), CategoryView::FIELDS, &mut errors);
    errors.into_result()?;
    let categories = app.shop.categories();
    let found = match key {
        Key::Id(id) if params.include_deleted == Some(true) => {
            let c = categories.get_fresh(CategoryId(id), Deleted::Include).await?;
            let tag = etag(c.audit.version, c.revision);
            return Ok(private(one(StatusCode::OK, &c, &here, &fields, &app)?, Some(tag)));
        }
        Key::Id(id) => categories.get(CategoryId(id)).await?,
        Key::Slug(slug) => categories.get_by_slug(&slug).await?,
    };
    let c = &found.value;
    conditional(&headers, etag(c.audit.version, c.revision), Some(found.hit), || {
        one(StatusCode::OK, c, &here, &fields, &app)
    })
}

async fn id_of(app: &App, key: Key) -> Result<CategoryId, Error> {
    match key {
        Key::Id(id) => Ok(app.shop.categories().get(CategoryId(id)).await?.value.id),
        Key::Slug(slug) => Ok(app.shop.categories().get_by_slug(&slug).await?.value.id),
    }
}

/// Children of a category
#[utoipa::path(
    get, path = "/categories/{id}/children", tag = "categories",
    params(("id" = String, Path, description = "Id or slug"), ListParams),
    responses((status = 200, description = "A page of those directly below, by name", body = List<CategoryView>))
)]
pub(crate) async fn children(
    State(app): State<Arc<App>>,
    key: Key,
    here: Here,
    Query(p): Query<ListParams>,
) -> ApiResult {
    if p.parent_id.is_some() {
        return Err(ApiError::field("parent_id", FieldCode::Unknown, "the path says it"));
    }
    let checked = Checked::of(&p, &app)?;
    let parent = Some(Some(id_of(&app, key).await?));
    page(CategoryFilter { parent, deleted: deleted(p.include_deleted) }, checked, &here, &app).await
}

/// Ancestors of a category
#[utoipa::path(
    get, path = "/categories/{id}/ancestors", tag = "categories",
    params(("id" = String, Path, description = "Id or slug")),
    responses((status = 200, description = "Those above it, root first", body = List<CategoryView>))
)]
pub(crate) async fn ancestors(
    State(app): State<Arc<App>>,
    key: Key,
    here: Here,
    Query(NoParams {}): Query<NoParams>,
) -> ApiResult {
    let id = id_of(&app, key).await?;
    let above = app.shop.categories().ancestors(id).await?;
    let views: Vec<_> = above.iter().map(CategoryView::from).collect();
    Ok(public(respond_list(&List::whole(views, &here))?, None, None))
}

/// Create a category
#[utoipa::path(
    post, path = "/categories", tag = "categories", request_body = CategoryInput,
    responses((status = 201, description = "Made; `Location` says where", body = Item<CategoryView>))
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    here: Here,
    By(actor): By,
    Query(NoParams {}): Query<NoParams>,
    Json(input): Json<CategoryInput>,
) -> ApiResult {
    let made = app.shop.categories().create(&input, &actor).await?;
    Ok(located(written(StatusCode::CREATED, &made, &here, &app)?, &path_of(&made, &here, &app)))
}

/// Replace a category
#[utoipa::path(
    put, path = "/categories/{id}", tag = "categories",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)")
    ),
    request_body = CategoryInput,
    responses((status = 200, description = "Replaced", body = Item<CategoryView>))
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    Id(id): Id<CategoryId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(NoParams {}): Query<NoParams>,
    Json(input): Json<CategoryInput>,
) -> ApiResult {
    let read = if_match.read(input.version)?;
    let done = app.shop.categories().replace(id, read, &input, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, &app)
}

/// Change a category
///
/// A merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/categories/{id}", tag = "categories",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)")
    ),
    request_body = CategoryPatch,
    responses((status = 200, description = "Changed", body = Item<CategoryView>))
)]
pub(crate) async fn patch(
    State(app): State<Arc<App>>,
    Id(id): Id<CategoryId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(NoParams {}): Query<NoParams>,
    Json(patch): Json<CategoryPatch>,
) -> ApiResult {
    let read = if_match.read(patch.version)?;
    let done = app.shop.categories().patch(id, read, patch, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, &app)
}

/// Move a category
///
/// With everything below it; the paths follow.
#[utoipa::path(
    post, path = "/categories/{id}/move", tag = "categories",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)")
    ),
    request_body = MoveInput,
    responses((status = 200, description = "Moved", body = Item<CategoryView>))
)]
pub(crate) async fn move_to(
    State(app): State<Arc<App>>,
    Id(id): Id<CategoryId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(NoParams {}): Query<NoParams>,
    Json(input): Json<MoveInput>,
) -> ApiResult {
    let read = if_match.read(input.version)?;
    let moved = app.shop.categories().move_to(id, read, input.parent_id, &actor).await;
    written(StatusCode::OK, &moved.map_err(|e| if_match.error(e))?, &here, &app)
}

/// Delete a category
///
/// Refused while it has live children or products; `force` deletes for good what nothing refers to.
#[utoipa::path(
    delete, path = "/categories/{id}", tag = "categories",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        DeleteParams
    ),
    responses((status = 204, description = "Deleted"))
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Id(id): Id<CategoryId>,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<DeleteParams>,
) -> ApiResult {
    let read = if_match.read(params.version)?;
    app.shop.categories().delete(id, read, params.mode(), &actor).await.map_err(|e| if_match.error(e))?;
    Ok(no_content())
}

/// The parameters of a restore.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RestoreParams {
    /// The version that was read (R1), unless If-Match says it.
    #[serde(default)]
    version: Option<i64>,
}

/// Restore a category
#[utoipa::path(
    post, path = "/categories/{id}/restore", tag = "categories",
    params(
        ("id" = uuid::Uuid, Path, description = "Id"),
        ("If-Match" = Option<String>, Header, description = "The entity tag that was read (R1)"),
        RestoreParams
    ),
    request_body(content = VersionBody, description = "Or nothing"),
    responses((status = 200, description = "Restored", body = Item<CategoryView>))
)]
pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    Id(id): Id<CategoryId>,
    here: Here,
    if_match: IfMatch,
    By(actor): By,
    Query(params): Query<RestoreParams>,
    body: VersionBody,
) -> ApiResult {
    let read = if_match.read(body.version.or(params.version))?;
    let done = app.shop.categories().restore(id, read, &actor).await.map_err(|e| if_match.error(e))?;
    written(StatusCode::OK, &done, &here, &app)
}
