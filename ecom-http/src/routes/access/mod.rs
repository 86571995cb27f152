//! Routes of access: logins, users, roles and API keys.

mod api_key;
mod auth;
mod role;
mod user;

use ecom_core::ErrorCode;
use utoipa_axum::routes;

use super::{Area, RouteGroup, Tag};
use crate::app::Routes;

/// Access, as an area of the API.
pub(super) const AREA: Area = Area {
    group: RouteGroup::ACCESS,
    routes,
    tags: &[
        Tag { name: "auth", text: "Logins and their tokens", conflicts: &[ErrorCode::Duplicate] },
        Tag { name: "users", text: "Users and their sessions", conflicts: &[ErrorCode::Duplicate] },
        Tag { name: "roles", text: "Roles: names for permissions", conflicts: &[ErrorCode::Duplicate] },
        Tag { name: "api-keys", text: "API keys of machines", conflicts: &[] },
    ],
    links: &[("users", "/users"), ("roles", "/roles"), ("api_keys", "/api-keys")],
};

/// Returns the routes of access.
fn routes() -> Routes {
    vec![
        routes!(auth::register),
        routes!(auth::login),
        routes!(auth::refresh),
        routes!(auth::logout),
        routes!(auth::me, auth::change_me),
        routes!(auth::permissions),
        routes!(auth::change_password),
        routes!(auth::verify),
        routes!(auth::resend_verification),
        routes!(auth::forgot_password),
        routes!(auth::reset_password),
        routes!(auth::key_set),
        routes!(auth::replace_keys),
        routes!(user::list, user::create),
        routes!(user::read, user::replace, user::patch, user::delete),
        routes!(user::restore),
        routes!(user::sessions, user::end_sessions),
        routes!(role::list, role::create),
        routes!(role::read, role::replace, role::patch, role::delete),
        routes!(api_key::list, api_key::create),
        routes!(api_key::read, api_key::patch, api_key::delete),
    ]
}
