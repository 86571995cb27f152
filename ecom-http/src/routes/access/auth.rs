//! Routes of logins. All responses contain secrets or personal data, so caches must not store them.

use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use ecom_core::access::{ProfilePatch, Tokens, UserAccount, UserInput};
use ecom_core::sales::CartToken;
use ecom_core::{Error, FieldCode};

use crate::cookie::RefreshCookie;
use crate::dto::{
    CallerView, Item, LoginInput, LogoutInput, MailInput, PasswordInput, RefreshInput, RegisterInput, ResetInput,
    TakenCartView, TokensView, UserView, VerifyEmailInput, json,
};
use crate::error::{ApiError, ApiResult};
use crate::extract::{IfMatch, IfMatchHeader, Json, NoBody, OptionalJson, Query};
use crate::headers::{no_content, private};
use crate::idempotency::{Keyed, Post};
use crate::openapi::NotModified;
use crate::resource::{Format, Reply, Shown, Write};

impl Shown for Tokens {
    const FIELDS: &'static [&'static str] = TokensView::FIELDS;
    type View<'a> = TokensView<'a>;

    fn view(&self, _: &Format) -> TokensView<'_> {
        self.into()
    }
}

/// Returns the response with the tokens of a session.
fn tokens(
    reply: &Reply,
    cookie: &RefreshCookie,
    status: StatusCode,
    (made, mut view): (&Tokens, TokensView<'_>),
) -> ApiResult {
    if cookie.is_used() {
        view.refresh_token = None;
    }
    let mut response = private(json(status, &Item::new(view, reply.target.path().to_owned()))?, None);
    cookie.set(&mut response, made);
    Ok(response)
}

/// Returns the response of a request for a mail, which is the same for every address.
fn accepted() -> Response {
    private(StatusCode::ACCEPTED.into_response(), None)
}

fn user_agent(headers: &HeaderMap) -> Option<&str> {
    headers.get(USER_AGENT)?.to_str().ok()
}

fn without_key(keyed: &Keyed) -> ApiResult<()> {
    keyed.refuse("the request or its response has a secret, which is not stored: send the request without a key")
}

/// Register
///
/// Creates a user with the role `customer` and logs it in. If the shop sends mails, the user gets one whose token
/// verifies its email address (`/auth/verify`).
#[utoipa::path(
    post, path = "/auth/register", tag = "auth", security(()), request_body = RegisterInput,
    responses((status = 201, description = "The tokens of the first session", body = Item<TokensView>))
)]
pub(crate) async fn register(
    reply: Reply,
    Query(()): Query<()>,
    headers: HeaderMap,
    cookie: RefreshCookie,
    Post { body: Json(input), keyed }: Post<Json<RegisterInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    cookie.guard()?;
    let RegisterInput { email, password, name } = input;
    let input = UserInput { name, password: Some(password), ..UserInput::new(email) };
    let made = reply.shop().auth().register(&input, user_agent(&headers)).await?;
    tokens(&reply, &cookie, StatusCode::CREATED, (&made, (&made).into()))
}

/// Log in
///
/// After five failed logins with an email address, logins with it are refused with `RATE_LIMITED`: for 2 s, and twice
/// as long after each further failure, up to 15 minutes. A successful login, or 24 hours without a failure, resets the
/// count. A user has at most 100 sessions; a further login ends the oldest one. With `cart`, the cart of a guest
/// becomes that of the customer; the response contains the result.
#[utoipa::path(
    post, path = "/auth/login", tag = "auth", security(()), request_body = LoginInput,
    responses((status = 200, description = "The tokens of the new session", body = Item<TokensView>))
)]
pub(crate) async fn login(
    reply: Reply,
    Query(()): Query<()>,
    headers: HeaderMap,
    cookie: RefreshCookie,
    Post { body: Json(input), keyed }: Post<Json<LoginInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    cookie.guard()?;
    let shop = reply.shop();
    let made = shop.auth().login(&input.email, &input.password, user_agent(&headers)).await?;
    let cart = match input.cart {
        Some(cart) => Some(shop.auth().adopt_cart(&made.user, cart.id, &CartToken::new(cart.token.reveal())).await),
        None => None,
    };
    let cart = cart.map(TakenCartView::from);
    tokens(&reply, &cookie, StatusCode::OK, (&made, TokensView { cart, ..TokensView::from(&made) }))
}

/// Exchange a refresh token
///
/// A refresh token can be exchanged once. If it is sent again, its session ends, because somebody else may have it.
///
///
/// If the server is configured so, the refresh token is a cookie, which login, registration and this route set. These
/// routes then require the header `X-Requested-With`, with any value, and refuse requests of pages of other sites with
/// `FORBIDDEN`.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "auth", security(()),
    request_body(
        content = Option<RefreshInput>,
        description = "The body can be empty if the refresh token is a cookie."
    ),
    responses((status = 200, description = "New tokens of the session", body = Item<TokensView>))
)]
pub(crate) async fn refresh(
    reply: Reply,
    Query(()): Query<()>,
    cookie: RefreshCookie,
    Post { body: OptionalJson(input), keyed }: Post<OptionalJson<RefreshInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    cookie.guard()?;
    let token = match input.refresh_token.as_ref().or(cookie.sent()) {
        Some(token) => token,
        None if cookie.is_used() => return Err(Error::Unauthenticated.into()),
        None => return Err(ApiError::field("refresh_token", FieldCode::Required, "is required")),
    };
    let made = reply.shop().auth().refresh(token).await?;
    tokens(&reply, &cookie, StatusCode::OK, (&made, (&made).into()))
}

/// Log out
///
/// Ends the session of the refresh token in the body or in the cookie or, without one, the session of the access token.
/// Without any, the request gets `UNAUTHENTICATED`. If the session of the refresh token has already ended, nothing
/// changes.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth", security(()),
    request_body(content = Option<LogoutInput>, description = "The body can be empty."),
    responses((status = 204, description = "The session has ended"))
)]
pub(crate) async fn logout(
    reply: Reply,
    Query(()): Query<()>,
    cookie: RefreshCookie,
    Post { body: OptionalJson(input), keyed }: Post<OptionalJson<LogoutInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    cookie.guard()?;
    let shop = reply.shop();
    match input.refresh_token.as_ref().or(cookie.sent()) {
        Some(token) => shop.auth().logout_by_refresh(token).await?,
        None => shop.auth().logout(shop.principal()).await?,
    }
    let mut response = no_content();
    cookie.clear(&mut response);
    Ok(response)
}

/// Read the current user
#[utoipa::path(
    get, path = "/auth/me", tag = "auth", security(("bearer" = [])),
    responses((status = 200, description = "The user of the access token", body = Item<UserView>), NotModified)
)]
pub(crate) async fn me(reply: Reply, Query(()): Query<()>) -> ApiResult {
    let shop = reply.shop();
    let user = shop.auth().me(shop.principal()).await?;
    reply.part_of(&user, &user, &reply.only_format::<UserAccount>(&())?)
}

/// Read the permissions of the caller
///
/// A page uses them to offer only what the caller may do. A caller without a login gets those that the server grants to
/// everybody, by default none.
#[utoipa::path(
    get, path = "/permissions", tag = "auth", security(()),
    responses((status = 200, description = "The caller and its permissions", body = Item<CallerView>))
)]
pub(crate) async fn permissions(reply: Reply, Query(()): Query<()>) -> ApiResult {
    let shop = reply.shop();
    let caller = CallerView::from(shop.principal());
    Ok(private(json(StatusCode::OK, &Item::new(caller, reply.target.path().to_owned()))?, None))
}

/// Change the current user
///
/// The body is a merge patch (RFC 7396). If the email address of the user is verified and the user is not a customer
/// yet, a change of the name can make it one, under the conditions of `/auth/verify` and with the same effects. Only
/// staff can change the email address; `/auth/password` changes the password.
#[utoipa::path(
    patch, path = "/auth/me", tag = "auth",
    security(("bearer" = [])), params(IfMatchHeader), request_body = ProfilePatch,
    responses((status = 200, description = "The changed user", body = Item<UserView>))
)]
pub(crate) async fn change_me(
    reply: Reply,
    if_match: IfMatch,
    Query(()): Query<()>,
    Json(patch): Json<ProfilePatch>,
) -> ApiResult {
    let user = reply.shop().principal().login().ok_or(Error::Unauthenticated)?.user;
    let w = Write::to(user, reply, if_match);
    let read = w.read(patch.version)?;
    let shop = w.shop();
    let done = shop.auth().update_profile(shop.principal(), read, patch).await;
    let user = w.done(done)?;
    w.written_part(&user, &user, &w.only_format::<UserAccount>(&())?)
}

/// Change the password
///
/// A wrong current password gets `INVALID_CREDENTIALS`. All other sessions of the user end.
#[utoipa::path(
    post, path = "/auth/password", tag = "auth", security(("bearer" = [])), request_body = PasswordInput,
    responses((status = 204, description = "The password is changed"))
)]
pub(crate) async fn change_password(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<PasswordInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    let shop = reply.shop();
    shop.auth().change_password(shop.principal(), &input.old_password, &input.password).await?;
    Ok(no_content())
}

/// Verify an email address
///
/// Takes the token of a mail, which can be used once, from the user to whom it was sent. The user becomes the customer
/// with the same email address, unless another user is that customer. If there is none, a user with the role `customer`
/// whose name has at least two words becomes a new customer; a user without such a name can set one later
/// (`PATCH /auth/me`). The orders that guests have placed with the address become those of the customer. A caller with
/// `users:write` can verify the address of any user.
#[utoipa::path(
    post, path = "/auth/verify", tag = "auth", security(("bearer" = [])), request_body = VerifyEmailInput,
    responses((status = 200, description = "The user, whose email address is verified", body = Item<UserView>))
)]
pub(crate) async fn verify(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<VerifyEmailInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    let shop = reply.shop();
    let user = shop.auth().verify_email(shop.principal(), &input.token).await?;
    reply.written_part(&user, &user, &reply.only_format::<UserAccount>(&())?)
}

/// Ask for another mail that verifies an email address
///
/// The response is the same whether or not a user has the address. Five mails can be requested for
/// an address at once, and then one every 12 minutes; further requests have no effect.
#[utoipa::path(
    post, path = "/auth/verify/resend", tag = "auth", security(()), request_body = MailInput,
    responses(
        (status = 202, description = "A mail is sent, if a user has the address and has not verified it"),
        (status = 501, description = "UNSUPPORTED: the shop sends no mails."),
    )
)]
pub(crate) async fn resend_verification(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<MailInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    reply.shop().auth().request_verification(&input.email).await?;
    Ok(accepted())
}

/// Ask for a mail that resets a password
///
/// The response is the same whether or not a user has the address. Five mails can be requested for
/// an address at once, and then one every 12 minutes; further requests have no effect.
#[utoipa::path(
    post, path = "/auth/forgot-password", tag = "auth", security(()), request_body = MailInput,
    responses(
        (status = 202, description = "A mail is sent, if a user has the address"),
        (status = 501, description = "UNSUPPORTED: the shop sends no mails."),
    )
)]
pub(crate) async fn forgot_password(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<MailInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    reply.shop().auth().request_password_reset(&input.email).await?;
    Ok(accepted())
}

/// Reset a password
///
/// Takes the token of a mail, which can be used once. All sessions of the user end, and tokens of other mails are void.
/// The mail also proves that the email address is the user's own, with the same effects as `/auth/verify`.
#[utoipa::path(
    post, path = "/auth/reset-password", tag = "auth", security(()), request_body = ResetInput,
    responses((status = 204, description = "The password is set"))
)]
pub(crate) async fn reset_password(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: Json(input), keyed }: Post<Json<ResetInput>>,
) -> ApiResult {
    without_key(&keyed)?;
    reply.shop().auth().reset_password(&input.token, &input.password).await?;
    Ok(no_content())
}

/// Replace the keys of access tokens
///
/// Replaces all keys that sign access tokens by a new one, for example after the secret key of the shop has become
/// known to others. All access tokens that were signed before are void. Sessions go on: clients get new access tokens
/// with their refresh tokens.
#[utoipa::path(
    post, path = "/auth/keys/replace", tag = "auth", security(("bearer" = ["signing_keys:write"])),
    responses((status = 204, description = "The keys are replaced"))
)]
pub(crate) async fn replace_keys(
    reply: Reply,
    Query(()): Query<()>,
    Post { body: NoBody, keyed }: Post<NoBody>,
) -> ApiResult {
    keyed.refuse("the request can be sent again without one: each replaces the keys")?;
    let shop = reply.shop();
    shop.auth().replace_keys(shop.principal()).await?;
    Ok(no_content())
}

/// Read the public keys of access tokens
///
/// A JSON Web Key Set (RFC 7517), by which other services verify access tokens. It is not in the envelope of other
/// responses. It is empty if the shop signs its tokens by HMAC.
#[utoipa::path(
    get, path = "/auth/jwks.json", tag = "auth", security(()),
    responses((status = 200, description = "The key set", content_type = "application/json", body = serde_json::Value))
)]
pub(crate) async fn key_set(reply: Reply, Query(()): Query<()>) -> ApiResult {
    json(StatusCode::OK, &reply.shop().auth().key_set().await?)
}
