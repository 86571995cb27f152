//! The representations of users and of their sessions.

use chrono::{DateTime, Utc};
use ecom_core::Result;
use ecom_core::access::{Permission, Principal, Secret, Session, Tokens, UserAccount};
use ecom_core::id::CartId;
use ecom_core::sales::PricedCart;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UserView<'a> {
    /// The id of the user.
    pub id: Uuid,
    /// The email address with which the user logs in, unique among live users, ignoring case.
    #[schema(format = "email", example = "ada@example.com")]
    pub email: &'a str,
    /// When the user proved that the address is its own (RFC 3339, UTC); null if it has not.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub email_verified_at: Option<DateTime<Utc>>,
    /// A name for people.
    pub name: Option<&'a str>,
    /// Whether the user has a password.
    pub has_password: bool,
    /// The names of the roles of the user, sorted.
    #[schema(example = json!(["staff"]))]
    pub roles: &'a [String],
    /// The customer that the user is; null if it is none.
    pub customer_id: Option<Uuid>,
    /// When the user was blocked (RFC 3339, UTC); null if it may log in.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub blocked_at: Option<DateTime<Utc>>,
    /// The version, which increases when somebody edits the user. Writes name it (R1).
    pub version: i64,
    /// When the user was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the user was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the user.
    pub created_by: &'a str,
    /// The actor who last edited the user.
    pub updated_by: &'a str,
    /// When the user was soft-deleted (RFC 3339, UTC); null for a live one.
    #[serde(serialize_with = "crate::dto::maybe_time")]
    pub deleted_at: Option<DateTime<Utc>>,
}

impl UserView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "email",
        "email_verified_at",
        "name",
        "has_password",
        "roles",
        "customer_id",
        "blocked_at",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
        "deleted_at",
    ];
}

impl<'a> From<&'a UserAccount> for UserView<'a> {
    fn from(u: &'a UserAccount) -> Self {
        Self {
            id: u.id.0,
            email: &u.email,
            email_verified_at: u.email_verified_at,
            name: u.name.as_deref(),
            has_password: u.has_password,
            roles: &u.roles,
            customer_id: u.customer_id.map(|id| id.0),
            blocked_at: u.blocked_at,
            version: u.audit.version,
            created_at: u.audit.created_at,
            updated_at: u.audit.updated_at,
            created_by: u.audit.created_by.as_str(),
            updated_by: u.audit.updated_by.as_str(),
            deleted_at: u.audit.deleted_at,
        }
    }
}

/// A session of a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SessionView<'a> {
    /// The id of the session.
    pub id: Uuid,
    /// The header `User-Agent` of the login.
    pub user_agent: Option<&'a str>,
    /// When the user logged in (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the session was last refreshed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub refreshed_at: DateTime<Utc>,
    /// When the session expires unless it is refreshed (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub expires_at: DateTime<Utc>,
}

impl SessionView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] =
        &["id", "user_agent", "created_at", "refreshed_at", "expires_at"];
}

impl<'a> From<&'a Session> for SessionView<'a> {
    fn from(s: &'a Session) -> Self {
        Self {
            id: s.id.0,
            user_agent: s.user_agent.as_deref(),
            created_at: s.created_at,
            refreshed_at: s.refreshed_at,
            expires_at: s.expires_at,
        }
    }
}

/// A caller and its permissions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CallerView<'a> {
    /// The actor that rows and events record, such as `user:<id>`, `api_key:<id>` or `anonymous`.
    #[schema(example = "user:01a22394-2bae-76c3-9fc1-838452c6d15a")]
    pub actor: &'a str,
    /// Whether the caller has not logged in.
    pub anonymous: bool,
    /// The id of the customer that the caller is; null if it is none. A customer needs no permission for its own rows.
    pub customer_id: Option<Uuid>,
    /// The permissions of the caller.
    pub permissions: Vec<Permission>,
}

impl<'a> From<&'a Principal> for CallerView<'a> {
    fn from(p: &'a Principal) -> Self {
        Self {
            actor: p.actor().as_str(),
            anonymous: p.is_anonymous(),
            customer_id: p.customer().map(|id| id.0),
            permissions: Permission::ALL.iter().copied().filter(|permission| p.may(*permission)).collect(),
        }
    }
}

/// An email address and a password.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginInput {
    /// The email address of the user.
    #[schema(format = "email", example = "ada@example.com")]
    pub email: String,
    /// The password of the user.
    #[schema(value_type = String, format = "password")]
    pub password: Secret,
    /// The cart of the guest who logs in, which becomes the cart of the customer, or is merged into it.
    #[serde(default)]
    pub cart: Option<GuestCartInput>,
}

/// The cart of a guest.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestCartInput {
    /// The id of the cart.
    pub id: CartId,
    /// The token of the cart, as the header `X-Cart-Token` has it.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// A token that was sent by mail.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyEmailInput {
    /// The token.
    #[schema(value_type = String)]
    pub token: Secret,
}

/// The email address of a user who asks for a mail.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailInput {
    /// The email address. The response to a text that is none is the same.
    #[schema(example = "ada@example.com")]
    pub email: String,
}

/// A token that was sent by mail, and a new password.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetInput {
    /// The token.
    #[schema(value_type = String)]
    pub token: Secret,
    /// The new password, 8–256 characters.
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password")]
    pub password: Secret,
}

/// A new user, who registers itself.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterInput {
    /// The email address with which the user logs in, at most 254 characters, unique among live users, ignoring case.
    /// An address that counts as the same as another spelling, such as one with `ß` for `ss` or with full-width
    /// letters, is refused.
    #[schema(max_length = 254, format = "email", example = "ada@example.com")]
    pub email: String,
    /// The password, 8–256 characters.
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password")]
    pub password: Secret,
    /// A name for people, at most 200 characters.
    #[serde(default)]
    pub name: Option<String>,
}

/// A refresh token, or nothing if it is a cookie.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshInput {
    /// The refresh token. Required unless it is a cookie.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub refresh_token: Option<Secret>,
}

/// A refresh token, or nothing.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogoutInput {
    /// The refresh token of the session to end. Without it, the session of the access token ends.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub refresh_token: Option<Secret>,
}

/// A change of a password.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordInput {
    /// The current password.
    #[schema(value_type = String, format = "password")]
    pub old_password: Secret,
    /// The new password, 8–256 characters.
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password")]
    pub password: Secret,
}

/// The tokens of a session.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TokensView<'a> {
    /// The token that authenticates requests, in the header `Authorization: Bearer <token>`.
    pub access_token: &'a str,
    /// The type of the access token: `Bearer`.
    pub token_type: &'static str,
    /// When the access token expires (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub access_expires_at: DateTime<Utc>,
    /// The token that `/auth/refresh` exchanges once for new tokens. It is absent if the refresh token is a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<&'a str>,
    /// When the refresh token expires, unless it is exchanged before (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub refresh_expires_at: DateTime<Utc>,
    /// The user.
    pub user: UserView<'a>,
    /// The result for the guest's cart that the login names; absent if it names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cart: Option<TakenCartView>,
}

impl TokensView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] =
        &["access_token", "token_type", "access_expires_at", "refresh_token", "refresh_expires_at", "user", "cart"];
}

/// The result of taking over a guest's cart. A login succeeds even if the cart cannot be taken over.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TakenCartView {
    /// The cart of the customer, which now has the lines of the guest's cart; null if the cart was not taken over.
    pub id: Option<Uuid>,
    /// The reason why the cart was not taken over; null if it was taken over.
    pub error: Option<CartErrorView>,
}

/// The reason why a guest's cart was not taken over.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CartErrorView {
    /// The code of the error, such as `NOT_FOUND` for a cart that does not exist or has another token,
    /// `STATE_CONFLICT` for a user that is no customer yet, or `CART_ORDERED`.
    #[schema(example = "NOT_FOUND")]
    pub code: &'static str,
    /// The error in words.
    pub message: String,
}

impl From<Result<PricedCart>> for TakenCartView {
    fn from(taken: Result<PricedCart>) -> Self {
        match taken {
            Ok(taken) => Self { id: Some(taken.cart.id.0), error: None },
            Err(error) => {
                let error = CartErrorView { code: error.code().as_str(), message: error.to_string() };
                Self { id: None, error: Some(error) }
            }
        }
    }
}

impl<'a> From<&'a Tokens> for TokensView<'a> {
    fn from(t: &'a Tokens) -> Self {
        Self {
            access_token: t.access.reveal(),
            token_type: "Bearer",
            access_expires_at: t.access_expires_at,
            refresh_token: Some(t.refresh.reveal()),
            refresh_expires_at: t.refresh_expires_at,
            user: (&t.user).into(),
            cart: None,
        }
    }
}
