//! Routes of categories and of their tree.

use ecom_core::catalog::{Category, CategoryFilter, CategoryInput, CategoryPatch};
use ecom_core::common::IncludeDeleted;
use ecom_core::id::CategoryId;
use ecom_core::text::check_text;
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;

use crate::dto::{CategoryNode, CategoryView, Item, List, ListFrame, MoveInput, RenderedList, tree as nest};
use crate::error::{ApiError, ApiResult};
use crate::etag::Stamp;
use crate::extract::{
    ById, ByKey, Cursor, Force, IfMatchHeader, Json, Key, Paged, Pages, Picked, Query, ShowDeleted, Version,
    VersionBody, present, unversioned,
};
use crate::headers::{listed, no_content, public};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Category {
    const FIELDS: &'static [&'static str] = CategoryView::FIELDS;
    type View<'a> = CategoryView<'a>;

    fn view(&self, _: &Format) -> CategoryView<'_> {
        self.into()
    }
}

impl Resource for Category {
    const COLLECTION: &'static str = "/categories";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.revision }
    }
}

/// The filter of a list of categories.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ParentParam {
    /// Lists only the children of this category, given by its id, slug or path. An empty value lists the roots; without
    /// the parameter, all categories are listed.
    #[serde(default, deserialize_with = "present")]
    parent_id: Option<String>,
}

/// The checked parameters of a page of categories.
struct Listing {
    part: Paged,
    format: Format,
    deleted: IncludeDeleted,
}

impl Listing {
    fn check(
        reply: &Reply,
        (pages, cursor, picked, deleted): (Pages, Cursor, Picked, ShowDeleted),
        mut errors: ValidationErrors,
    ) -> ApiResult<Self> {
        let part = pages.check_with(&cursor, "name", &reply.app.config, &mut errors);
        let format = reply.format::<Category>(&picked, &mut errors);
        errors.into_result()?;
        Ok(Self { part, format, deleted: deleted.choice() })
    }

    async fn respond(self, reply: &Reply, filter: CategoryFilter) -> ApiResult {
        let found = reply.shop().categories().list(&filter, &self.part.paging).await?;
        let response = reply.page(&found.value, &self.format, |list| {
            self.format.rows(reply.frame(&list.page, list.total, &self.part), list.page.items.iter())
        })?;
        Ok(listed(response, filter.include_deleted, Some(found.hit)))
    }
}

/// List categories
///
/// Categories are sorted by name.
#[utoipa::path(
    get, path = "/categories", tag = "categories",
    security(()), params(Pages, Cursor, Picked, ShowDeleted, ParentParam),
    responses((status = 200, description = "A page of categories", body = List<CategoryView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, picked, deleted, p)): Query<(Pages, Cursor, Picked, ShowDeleted, ParentParam)>,
) -> ApiResult {
    // All parameters are checked before the parent is looked up (R17).
    let mut errors = ValidationErrors::default();
    if let Some(text) = &p.parent_id {
        check_text("parent_id", text, 0, 4_000, &mut errors);
    }
    let listing = Listing::check(&reply, (pages, cursor, picked, deleted), errors)?;
    let parent = match p.parent_id.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(text) => {
            let found = reply.shop().categories().resolve(text).await;
            Some(Some(found.map_err(|e| ApiError::reference(e, "parent_id"))?.value.id))
        }
    };
    let filter = CategoryFilter { parent, include_deleted: listing.deleted };
    listing.respond(&reply, filter).await
}

/// Read the tree of categories
///
/// Returns all live categories, each with its children.
#[utoipa::path(
    get, path = "/categories/tree", tag = "categories", security(()),
    responses((status = 200, description = "The roots with their descendants", body = List<CategoryNode>))
)]
pub(crate) async fn tree(reply: Reply, Query(()): Query<()>) -> ApiResult {
    let found = reply.shop().categories().tree().await?;
    let list = RenderedList::of(&ListFrame::whole(&reply.target).with(nest(&found.value)))?;
    Ok(public(list.respond(), None, Some(found.hit)))
}

/// Read a category
///
/// The category is given by its id or slug. A value that is not a UUID is a slug.
#[utoipa::path(
    get, path = "/categories/{id}", tag = "categories", security(()), params(ByKey, Picked, ShowDeleted),
    responses((status = 200, description = "The category", body = Item<CategoryView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, key: Key, Query((picked, deleted)): Query<(Picked, ShowDeleted)>) -> ApiResult {
    let format = reply.only_format::<Category>(&picked)?;
    let categories = reply.shop().categories();
    let found = match key {
        Key::Id(id) if deleted.choice() == IncludeDeleted::Yes => {
            return reply.private(&categories.get_fresh(CategoryId(id), IncludeDeleted::Yes).await?, &format);
        }
        Key::Id(id) => categories.get(CategoryId(id)).await?,
        Key::Slug(slug) => categories.get_by_slug(&slug).await?,
    };
    reply.found(&found, &format)
}

async fn id_of(reply: &Reply, key: Key) -> Result<CategoryId, Error> {
    let categories = reply.shop().categories();
    let found = match key {
        Key::Id(id) => categories.get(CategoryId(id)).await?,
        Key::Slug(slug) => categories.get_by_slug(&slug).await?,
    };
    Ok(found.value.id)
}

/// List the children of a category
///
/// Children are sorted by name.
#[utoipa::path(
    get, path = "/categories/{id}/children", tag = "categories",
    security(()), params(ByKey, Pages, Cursor, Picked, ShowDeleted),
    responses((status = 200, description = "A page of the child categories", body = List<CategoryView>))
)]
pub(crate) async fn children(
    reply: Reply,
    key: Key,
    Query(params): Query<(Pages, Cursor, Picked, ShowDeleted)>,
) -> ApiResult {
    let listing = Listing::check(&reply, params, ValidationErrors::default())?;
    let parent = Some(Some(id_of(&reply, key).await?));
    let filter = CategoryFilter { parent, include_deleted: listing.deleted };
    listing.respond(&reply, filter).await
}

/// List the ancestors of a category
#[utoipa::path(
    get, path = "/categories/{id}/ancestors", tag = "categories", security(()), params(ByKey),
    responses((status = 200, description = "All ancestors of the category, root first", body = List<CategoryView>))
)]
pub(crate) async fn ancestors(reply: Reply, key: Key, Query(()): Query<()>) -> ApiResult {
    let id = id_of(&reply, key).await?;
    let above = reply.shop().categories().ancestors(id).await?;
    Ok(public(reply.all(above.iter(), &reply.only_format::<Category>(&())?)?, None, None))
}

/// Create a category
#[utoipa::path(
    post, path = "/categories", tag = "categories",
    security(("bearer" = ["categories:write"])), request_body = CategoryInput,
    responses(
        (status = 201, description = "The created category; `Location` has its path", body = Item<CategoryView>),
    )
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<CategoryInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let categories = reply.shop().categories();
    let within = |mut tx| async { Ok((categories.create_in(&mut tx, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Category>(made, &());
    Ok(keyed.answer(&reply, categories.create(&input), within, render).await?)
}

/// Replace a category
///
/// Fields that the request leaves out are cleared, except `source` and `external_id`. Without `slug`, a slug that was
/// derived from the same name stays; otherwise it is derived from the name.
#[utoipa::path(
    put, path = "/categories/{id}", tag = "categories",
    security(("bearer" = ["categories:write"])), params(ById, IfMatchHeader), request_body = CategoryInput,
    responses((status = 200, description = "The replaced category", body = Item<CategoryView>))
)]
pub(crate) async fn replace(w: Write<CategoryId>, Query(()): Query<()>, Json(input): Json<CategoryInput>) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().categories().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &())
}

/// Change a category
///
/// The body is a merge patch (RFC 7396).
#[utoipa::path(
    patch, path = "/categories/{id}", tag = "categories",
    security(("bearer" = ["categories:write"])), params(ById, IfMatchHeader), request_body = CategoryPatch,
    responses((status = 200, description = "The changed category", body = Item<CategoryView>))
)]
pub(crate) async fn patch(w: Write<CategoryId>, Query(()): Query<()>, Json(patch): Json<CategoryPatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().categories().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Move a category
///
/// The category moves with its descendants, and their paths change accordingly.
#[utoipa::path(
    post, path = "/categories/{id}/move", tag = "categories",
    security(("bearer" = ["categories:write"])), params(ById, IfMatchHeader), request_body = MoveInput,
    responses((status = 200, description = "The moved category", body = Item<CategoryView>))
)]
pub(crate) async fn move_to(
    w: Write<CategoryId>,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<MoveInput>>,
) -> ApiResult {
    let read = w.read(input.version)?;
    let categories = w.shop().categories();
    let plain = categories.move_to(w.id, read, input.parent_id.clone());
    let within = |mut tx| async {
        let moved = categories.move_to_in(&mut tx, w.id, read, input.parent_id.clone()).await?;
        Ok((moved, tx))
    };
    let render = |moved: &_| w.written::<Category>(moved, &());
    w.done(keyed.answer(&w, plain, within, render).await)
}

/// Delete a category
///
/// The category is soft-deleted and can be restored, unless `force` deletes it permanently. The request is refused
/// while the category has child categories or products; with `force`, soft-deleted ones count too.
#[utoipa::path(
    delete, path = "/categories/{id}", tag = "categories",
    security(("bearer" = ["categories:write"])), params(ById, IfMatchHeader, Force, Version),
    responses((status = 204, description = "The category is deleted"))
)]
pub(crate) async fn delete(w: Write<CategoryId>, Query((force, version)): Query<(Force, Version)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().categories().delete(w.id, read, force.mode()).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted category
///
/// Its parent must not be soft-deleted.
#[utoipa::path(
    post, path = "/categories/{id}/restore", tag = "categories",
    security(("bearer" = ["categories:write"])), params(ById, IfMatchHeader, Version),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored category", body = Item<CategoryView>))
)]
pub(crate) async fn restore(
    w: Write<CategoryId>,
    Query((version,)): Query<(Version,)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let categories = w.shop().categories();
    let within = |mut tx| async { Ok((categories.restore_in(&mut tx, w.id, read).await?, tx)) };
    let render = |restored: &_| w.written::<Category>(restored, &());
    w.done(keyed.answer(&w, categories.restore(w.id, read), within, render).await)
}
