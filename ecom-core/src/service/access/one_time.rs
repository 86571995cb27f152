//! One-time tokens, which users get by mail: requests for them, and what they permit.

use std::time::Duration;

use super::auth::{AuthService, address};
use super::link::OwnEdit;
use super::role::Roles;
use super::user::account;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::secret::Secret;
use crate::domain::access::session::{OneTimePurpose, OneTimeToken, SessionEnd};
use crate::domain::access::user::{User, UserAccount, actor_of, check_password};
use crate::domain::common::{Actor, IncludeDeleted};
use crate::domain::platform::outbox::EventKind;
use crate::domain::sales::cart::{CartAccess, CartToken, PricedCart};
use crate::error::{Conflict, Error, FieldCode, Result, ValidationErrors};
use crate::id::{CartId, UserId};
use crate::port::rate_limiter::{Quota, RateKey};
use crate::port::storage::Repositories as _;
use crate::service::run::transaction::{Change, Tx};
use crate::service::sales::cart::CartService;

/// How many mails an email address can be asked for.
const REQUESTS: Quota = Quota::new(5, Duration::from_secs(3_600));

impl AuthService<'_> {
    /// Asks for a mail with which a user verifies its email address. Users that register get one without asking.
    ///
    /// The background work sends the mail ([`Shop::start`](crate::Shop::start)), unless no active user has the address,
    /// or the user has verified it. An address that no user has costs as much and has the same result. If the shop has
    /// a rate limiter, a further request, after five within an hour for one address, has no effect.
    ///
    /// # Errors
    /// `Unsupported` for a shop that sends no mails, `Unavailable`.
    pub async fn request_verification(&self, email: &str) -> Result<()> {
        self.request(email, EventKind::UserVerificationRequested).await
    }

    /// Asks for a mail with which a user sets a new password, also one that has none yet. It is sent as that of
    /// [`Self::request_verification`].
    ///
    /// # Errors
    /// `Unsupported` for a shop that sends no mails, `Unavailable`.
    pub async fn request_password_reset(&self, email: &str) -> Result<()> {
        self.request(email, EventKind::UserResetRequested).await
    }

    async fn request(&self, email: &str, kind: EventKind) -> Result<()> {
        if self.cx.mailing.is_none() {
            let capability = "mails, because it has no mailer";
            return Err(Error::Unsupported { provider: "this shop", capability });
        }
        // No user has such an address, and not every database accepts the second kind.
        let Ok((email, hash)) = address(email) else { return Ok(()) };
        if email.contains(char::is_control) {
            return Ok(());
        }
        let key = RateKey::new(kind.as_str(), &hash.0);
        if !self.cx.rate_limiter.check(key, REQUESTS).await.is_allowed() {
            tracing::warn!(kind = kind.as_str(), "too many mails were asked for, so one is not sent");
            return Ok(());
        }
        let found = self.cx.storage.connect().await?.users().get_by_email(email).await?;
        // An event of nobody, so that an unknown address costs as much. The sender of mails finds no user and skips it.
        let (id, version) = match found {
            Some(user) => (user.id, user.audit.version),
            None => (UserId(self.cx.ids.next()), 1),
        };
        let actor = &Actor::new("anonymous");
        self.cx
            .write(|mut tx| async move {
                tx.emit(Change::event_only(kind, id, version, actor)).await?;
                Ok(((), tx))
            })
            .await
    }

    /// Verifies an email address by the token of a mail, and returns the user. The caller must have logged in as that
    /// user, or have `users:write`. Reading the mail is not enough: if Eve registers Ada's address and Ada follows the
    /// link, Eve's login must not become Ada's customer.
    ///
    /// The user becomes the live customer with the same email, unless another user is that customer. If there is none,
    /// a user with the role `customer` whose name has at least two words becomes a new customer; the last word is the
    /// last name. A user that is a customer already stays that one. A user without such a name becomes a customer once
    /// it gives itself one ([`Self::update_profile`]).
    ///
    /// The orders that guests have placed with the address become those of the customer, soft-deleted ones too. The
    /// customer can then read and edit them, and its erasure includes them (R45). Only the case of ASCII letters is
    /// ignored when addresses are compared. The token of a guest's cart still opens the order that was made from it. An
    /// order that a guest places with the address later stays the guest's until the user resets its password.
    ///
    /// # Errors
    /// `Validation` on `token` if it was used, if a newer mail has replaced it, or if it has expired; also if the user
    /// was blocked or deleted, or has another address or password since, and if the caller is another user.
    /// `Unauthenticated` without a login, `Unavailable`.
    pub async fn verify_email(&self, who: &Principal, token: &Secret) -> Result<UserAccount> {
        let for_others = who.may(Permission::UsersWrite);
        if !for_others && who.login().is_none() {
            return Err(Error::Unauthenticated);
        }
        let found = self.find(token, OneTimePurpose::VerifyEmail).await?;
        if !for_others && who.login().is_none_or(|login| login.user != found.user_id) {
            return Err(void());
        }
        let found = &found;
        let verify = |mut tx: Tx<'static>| async move {
            tx.started();
            let verified = self.redeem(&mut tx, found).await?.write(self.cx, &mut tx, None).await?;
            let roles = Roles::load_in(&mut tx).await?;
            tx.ended(Ok(account(&verified, &roles))).map(|done| (done, tx))
        };
        self.cx.write(verify).await
    }

    /// Sets a new password by the token of a mail. All sessions of the user end, and its other tokens are void. The
    /// mail also proves that the address is the user's own, so the user becomes a customer, and orders of guests become
    /// those of the customer, as in [`Self::verify_email`].
    ///
    /// # Errors
    /// `Validation` on `token` as [`Self::verify_email`], and on `password` if it cannot be one; `Unavailable`, also if
    /// too many passwords wait to be hashed.
    pub async fn reset_password(&self, token: &Secret, password: &Secret) -> Result<()> {
        let found = self.find(token, OneTimePurpose::ResetPassword).await?;
        let mut errors = ValidationErrors::default();
        check_password("password", password, &found.email, &mut errors);
        errors.into_result()?;
        let (_, failures) = address(&found.email)?;
        // Hashed before the transaction, which must not wait for it.
        let hash = self.cx.passwords.hash(password, self.cx.ids.secret()).await?;
        let (found, hash, failures) = (&found, &hash, &failures);
        let reset = |mut tx: Tx<'static>| async move {
            tx.started();
            let mut proven = self.redeem(&mut tx, found).await?;
            proven.after.password = Some(hash.clone());
            proven.after.password_set_at = Some(self.cx.now());
            tx.sessions().remove_tokens(proven.after.id).await?;
            tx.sessions().clear_failures(failures).await?;
            proven.write(self.cx, &mut tx, Some(SessionEnd::PasswordChanged)).await?;
            tx.ended(Ok(())).map(|()| ((), tx))
        };
        self.cx.write(reset).await
    }

    /// Makes a guest's cart the cart of a user's customer, as a login does, and returns the customer's cart (R20).
    ///
    /// # Errors
    /// `STATE_CONFLICT` if the user is not a customer, else as [`CartService::assign`].
    pub async fn adopt_cart(&self, user: &UserAccount, cart: CartId, token: &CartToken) -> Result<PricedCart> {
        let Some(customer) = user.customer_id else {
            let message = "the user is not a customer yet: its email address must be verified first".to_owned();
            return Err(Conflict::State { message }.into());
        };
        let who = Principal::new(actor_of(user.id), []).with_customer(customer);
        CartService::new(self.cx, &who).assign(cart, &CartAccess::Token(token.clone()), customer).await
    }

    /// Returns a token that is stored and has not expired.
    async fn find(&self, token: &Secret, purpose: OneTimePurpose) -> Result<OneTimeToken> {
        let found = self.cx.storage.connect().await?.sessions().find_token(&token.hash(), purpose).await?;
        found.filter(|found| self.cx.now() < found.expires_at).ok_or_else(void)
    }

    /// Takes a token in a transaction, and locks its user. Returns the edit that verifies the address of the user.
    async fn redeem(&self, tx: &mut Tx<'_>, found: &OneTimeToken) -> Result<OwnEdit> {
        let is_right = |user: &User| user.is_active() && user.email == found.email;
        let user = tx.users().get(found.user_id, IncludeDeleted::No).await?.filter(is_right).ok_or_else(void)?;
        let now = self.cx.now();
        let verify = |user: &mut User| user.email_verified_at = user.email_verified_at.or(Some(now));
        let edit = OwnEdit::with_customer(self.cx, tx, &user, verify).await?;
        let taken = tx.sessions().take_token(&found.hash, found.purpose).await?.ok_or_else(void)?;
        if taken.user_id != user.id || taken.expires_at <= now {
            return Err(void());
        }
        Ok(edit)
    }
}

/// Returns the error for a token that is not valid, whatever the reason.
fn void() -> Error {
    let message = "is not valid: it was used, a newer mail has replaced it, it has expired, or it is that of another \
                   user; ask for another mail";
    Error::invalid("token", FieldCode::ReferenceNotFound, message)
}
