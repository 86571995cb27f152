//! Routes of users and of their sessions. All responses contain personal data, so shared caches must not store them.

use ecom_core::access::{Session, UserAccount, UserFilter, UserInput, UserPatch};
use ecom_core::id::{CustomerId, RoleId, UserId};
use ecom_core::platform::AnswerSubject;
use ecom_core::{Error, ValidationErrors};
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::{Item, List, SessionView, UserView};
use crate::error::ApiResult;
use crate::etag::Stamp;
use crate::extract::{
    ById, Cursor, Force, Id, IfMatchHeader, Json, Pages, Picked, Query, ShowDeleted, Version, VersionBody, unversioned,
};
use crate::headers::{no_content, private};
use crate::idempotency::Post;
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Resource, Shown, Write};

impl Shown for UserAccount {
    const FIELDS: &'static [&'static str] = UserView::FIELDS;
    type View<'a> = UserView<'a>;

    fn view(&self, _: &Format) -> UserView<'_> {
        self.into()
    }
}

impl Resource for UserAccount {
    const COLLECTION: &'static str = "/users";

    fn stamp(&self) -> Stamp {
        Stamp { id: self.id.0, version: self.audit.version, revision: self.audit.version }
    }

    fn subject(&self) -> Option<AnswerSubject> {
        self.customer_id.map(AnswerSubject::Customer)
    }
}

impl Shown for Session {
    const FIELDS: &'static [&'static str] = SessionView::FIELDS;
    type View<'a> = SessionView<'a>;

    fn view(&self, _: &Format) -> SessionView<'_> {
        self.into()
    }
}

/// The filters of a list of users.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserParams {
    /// Lists only the user with this email address, ignoring case.
    #[serde(default)]
    email: Option<String>,
    /// Lists only users with this role, given by its id.
    #[serde(default)]
    role_id: Option<Uuid>,
    /// Lists only the user of this customer.
    #[serde(default)]
    customer_id: Option<Uuid>,
}

/// List users
///
/// Lists the newest users first.
#[utoipa::path(
    get, path = "/users", tag = "users",
    security(("bearer" = ["users:read"])), params(Pages, Cursor, Picked, ShowDeleted, UserParams),
    responses((status = 200, description = "A page of users", body = List<UserView>))
)]
pub(crate) async fn list(
    reply: Reply,
    Query((pages, cursor, picked, deleted, p)): Query<(Pages, Cursor, Picked, ShowDeleted, UserParams)>,
) -> ApiResult {
    let mut errors = ValidationErrors::default();
    let part = pages.check_with(&cursor, "created_desc", &reply.app.config, &mut errors);
    let format = reply.format::<UserAccount>(&picked, &mut errors);
    let filter = UserFilter {
        email: p.email,
        role: p.role_id.map(RoleId),
        customer: p.customer_id.map(CustomerId),
        include_deleted: deleted.choice(),
    };
    match filter.check() {
        Err(Error::Validation(bad)) => errors.0.extend(bad.0),
        other => other?,
    }
    errors.into_result()?;
    let (page, total) = reply.shop().users().list(&filter, &part.paging).await?;
    let list = format.rows(reply.frame(&page, total, &part), page.items.iter())?;
    Ok(private(list.respond(), None))
}

/// Create a user
///
/// A user can only have roles whose permissions the caller has.
#[utoipa::path(
    post, path = "/users", tag = "users", security(("bearer" = ["users:write"])), request_body = UserInput,
    responses((status = 201, description = "The created user; `Location` has its path", body = Item<UserView>))
)]
pub(crate) async fn create(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<UserInput>>,
) -> ApiResult {
    keyed.refuse("the request has a password, which is not stored: send the request without a key")?;
    unversioned(input.version)?;
    let made = reply.shop().users().create(&input).await?;
    reply.created(&made, &())
}

/// Read a user
#[utoipa::path(
    get, path = "/users/{id}", tag = "users", security(("bearer" = ["users:read"])), params(ById, Picked, ShowDeleted),
    responses((status = 200, description = "The user", body = Item<UserView>), NotModified)
)]
pub(crate) async fn read(
    reply: Reply,
    Id(id): Id<UserId>,
    Query((picked, deleted)): Query<(Picked, ShowDeleted)>,
) -> ApiResult {
    let format = reply.only_format::<UserAccount>(&picked)?;
    reply.personal(&reply.shop().users().get(id, deleted.choice()).await?, &format)
}

/// Replace a user
///
/// Fields that the request leaves out are cleared, except the password. A new password ends all sessions of the user.
#[utoipa::path(
    put, path = "/users/{id}", tag = "users",
    security(("bearer" = ["users:write"])), params(ById, IfMatchHeader), request_body = UserInput,
    responses((status = 200, description = "The replaced user", body = Item<UserView>))
)]
pub(crate) async fn replace(w: Write<UserId>, Query(()): Query<()>, Json(input): Json<UserInput>) -> ApiResult {
    let read = w.read(input.version)?;
    let done = w.shop().users().replace(w.id, read, &input).await;
    w.written(&w.done(done)?, &())
}

/// Change a user
///
/// The body is a merge patch (RFC 7396). A new password, and `blocked`, end all sessions of the user.
#[utoipa::path(
    patch, path = "/users/{id}", tag = "users",
    security(("bearer" = ["users:write"])), params(ById, IfMatchHeader), request_body = UserPatch,
    responses((status = 200, description = "The changed user", body = Item<UserView>))
)]
pub(crate) async fn patch(w: Write<UserId>, Query(()): Query<()>, Json(patch): Json<UserPatch>) -> ApiResult {
    let read = w.read(patch.version)?;
    let done = w.shop().users().patch(w.id, read, patch).await;
    w.written(&w.done(done)?, &())
}

/// Delete a user
///
/// The user is soft-deleted: it can be restored. Its sessions end. `force` deletes it permanently. With `force`, it
/// also requires `force:delete`.
#[utoipa::path(
    delete, path = "/users/{id}", tag = "users",
    security(("bearer" = ["users:write"])), params(ById, IfMatchHeader, Force, Version),
    responses((status = 204, description = "The user is deleted"))
)]
pub(crate) async fn delete(w: Write<UserId>, Query((force, version)): Query<(Force, Version)>) -> ApiResult {
    let read = w.read(version.version)?;
    w.done(w.shop().users().delete(w.id, read, force.mode()).await)?;
    Ok(no_content())
}

/// Restore a soft-deleted user
#[utoipa::path(
    post, path = "/users/{id}/restore", tag = "users",
    security(("bearer" = ["users:write"])), params(ById, IfMatchHeader, Version),
    request_body(
        content = Option<VersionBody>,
        description = "The version that the client read. The body can be empty."
    ),
    responses((status = 200, description = "The restored user", body = Item<UserView>))
)]
pub(crate) async fn restore(
    w: Write<UserId>,
    Query((version,)): Query<(Version,)>,
    Post { body, keyed }: Post<VersionBody>,
) -> ApiResult {
    let read = w.read_either(body.version, version.version)?;
    let users = w.shop().users();
    let within = |mut tx| async { Ok((users.restore_in(&mut tx, w.id, read).await?, tx)) };
    let render = |restored: &_| w.written::<UserAccount>(restored, &());
    w.done(keyed.answer(&w, users.restore(w.id, read), within, render).await)
}

/// List the sessions of a user
///
/// Lists the newest sessions first, without those that have ended.
#[utoipa::path(
    get, path = "/users/{id}/sessions", tag = "users", security(("bearer" = ["users:read"])), params(ById, Picked),
    responses((status = 200, description = "The sessions", body = List<SessionView>))
)]
pub(crate) async fn sessions(reply: Reply, Id(id): Id<UserId>, Query((picked,)): Query<(Picked,)>) -> ApiResult {
    let format = reply.only_format::<Session>(&picked)?;
    let sessions = reply.shop().users().sessions(id).await?;
    Ok(private(reply.all(sessions.iter(), &format)?, None))
}

/// End all sessions of a user
///
/// Its tokens are void at once, and within the poll interval (500 ms by default) in processes that do not share the
/// cache (R15).
#[utoipa::path(
    delete, path = "/users/{id}/sessions", tag = "users", security(("bearer" = ["users:write"])), params(ById),
    responses((status = 204, description = "The sessions have ended"))
)]
pub(crate) async fn end_sessions(reply: Reply, Id(id): Id<UserId>, Query(()): Query<()>) -> ApiResult {
    reply.shop().users().end_sessions(id).await?;
    Ok(no_content())
}
