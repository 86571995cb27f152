//! Routes of roles.

use ecom_core::access::{Role, RoleInput, RolePatch};
use ecom_core::id::RoleId;

use crate::dto::{Item, List, RoleView};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{ById, Id, IfMatchHeader, Json, Picked, Query, Version, unversioned};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for Role {
    const FIELDS: &'static [&'static str] = RoleView::FIELDS;
    type View<'a> = RoleView<'a>;

    fn view(&self, _: &Format) -> RoleView<'_> {
        self.into()
    }
}

impl Resource for Role {
    const COLLECTION: &'static str = "/roles";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }
}

/// List roles
///
/// Lists all roles, by name: the built-in ones and those of the shop.
#[utoipa::path(
    get, path = "/roles", tag = "roles", security(("bearer" = ["roles:read"])), params(Picked),
    responses((status = 200, description = "All roles", body = List<RoleView>))
)]
pub(crate) async fn list(reply: Reply, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<Role>(&picked)?;
    let roles = reply.shop().roles().list().await?;
    Ok(private(reply.all(roles.iter(), &format)?, None))
}

/// Create a role
///
/// A role can only grant permissions that the caller has.
#[utoipa::path(
    post, path = "/roles", tag = "roles", security(("bearer" = ["roles:write"])), request_body = RoleInput,
    responses((status = 201, description = "The created role; `Location` has its path", body = Item<RoleView>))
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<RoleInput>>,
) -> ApiResult {
    unversioned(input.version)?;
    let roles = reply.shop().roles();
    let within = |mut tx| async { Ok((roles.create_in(&mut tx, &input).await?, tx)) };
    let render = |made: &_| reply.created::<Role>(made, &());
    Ok(keyed.answer(&reply, roles.create(&input), within, render).await?)
}

/// Read a role
#[utoipa::path(
    get, path = "/roles/{id}", tag = "roles", security(("bearer" = ["roles:read"])), params(ById, Picked),
    responses((status = 200, description = "The role", body = Item<RoleView>), NotModified)
)]
pub(crate) async fn read(reply: Reply, Id(id): Id<RoleId>, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<Role>(&picked)?;
    reply.personal(&reply.shop().roles().get(id).await?, &format)
}

/// Replace a role
///
/// The name is fixed. The change takes effect at once, and within the poll interval (500 ms by default) in processes
/// that do not share the cache (R15).
#[utoipa::path(
    put, path = "/roles/{id}", tag = "roles",
    security(("bearer" = ["roles:write"])), params(ById, IfMatchHeader), request_body = RoleInput,
    responses((status = 200, description = "The replaced role", body = Item<RoleView>))
)]
pub(crate) async fn replace(w: Write<RoleId>, Query(()): Query<()>, Json(input): Json<RoleInput>) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().roles().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &())
}

/// Change a role
///
/// The body is a merge patch (RFC 7396). The change takes effect at once, and within the poll interval (500 ms by
/// default) in processes that do not share the cache (R15).
#[utoipa::path(
    patch, path = "/roles/{id}", tag = "roles",
    security(("bearer" = ["roles:write"])), params(ById, IfMatchHeader), request_body = RolePatch,
    responses((status = 200, description = "The changed role", body = Item<RoleView>))
)]
pub(crate) async fn patch(w: Write<RoleId>, Query(()): Query<()>, Json(patch): Json<RolePatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().roles().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete a role
///
/// A role that a user has is not deleted.
#[utoipa::path(
    delete, path = "/roles/{id}", tag = "roles",
    security(("bearer" = ["roles:write"])), params(ById, IfMatchHeader, Version),
    responses((status = 204, description = "The role is deleted"))
)]
pub(crate) async fn delete(w: Write<RoleId>, Query((version,)): Query<(Version,)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().roles().delete(w.id, read).await)?;
    Ok(no_content())
}
