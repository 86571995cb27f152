//! Users. A write of a user or of its sessions holds the lock of the user, so that no session begins while the user is
//! being blocked.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::role::BuiltInRole;
use crate::domain::access::session::{Session, SessionEnd};
use crate::domain::access::user::{PasswordHash, User, UserAccount, UserFilter, UserInput, UserPatch};
use crate::domain::common::{Actor, Audit, DeleteMode, ExpectedVersion, IncludeDeleted, Patch};
use crate::domain::platform::outbox::EventKind;
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::{CustomerId, RoleId, SessionId, UserId};
use crate::paging::{Page, Paging, Total};
use crate::port::cache::CacheKey;
use crate::port::storage::Repositories as _;
use crate::service::access::role::Roles;
use crate::service::run::context::Context;
use crate::service::run::transaction::{Change, Tx};

/// The service of the users of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists. A principal cannot give a
/// role that grants permissions which it does not have, and cannot change a user who has them.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::access::UserInput;
///
/// let clerk = UserInput::new("clerk@example.com").password("correct horse").role("staff");
/// let clerk = shop.users().create(&clerk).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct UserService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

/// The values of a user that a write sets, which were checked.
struct Values {
    email: String,
    name: Option<String>,
    roles: Vec<RoleId>,
    customer_id: Option<CustomerId>,
    blocked: bool,
    /// A new password.
    password: Option<PasswordHash>,
}

impl<'a> UserService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns a user; soft-deleted ones only if `deleted` asks for them (R2).
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: UserId, deleted: IncludeDeleted) -> Result<UserAccount> {
        self.who.require(Permission::UsersRead)?;
        self.who.require_shown(deleted)?;
        let found = self.cx.storage.connect().await?.users().get(id, deleted).await?;
        let user = found.ok_or_else(|| Error::not_found(Entity::User, id))?;
        Ok(account(&user, &Roles::load(self.cx).await?.value))
    }

    /// Returns a page of users, newest first, and, with [`Paging::Offset`], how many match, counted up to
    /// [`crate::config::ShopConfig::total_bound`].
    ///
    /// # Errors
    /// `Validation` of an email that no user can have, `Unavailable`.
    pub async fn list(&self, filter: &UserFilter, paging: &Paging) -> Result<(Page<UserAccount>, Option<Total>)> {
        self.who.require(Permission::UsersRead)?;
        self.who.require_shown(filter.include_deleted)?;
        paging.check()?;
        filter.check()?;
        let roles = Roles::load(self.cx).await?.value;
        let mut db = self.cx.storage.connect().await?;
        let page = db.users().list(filter, paging).await?;
        let total = match paging {
            Paging::Offset { .. } => Some(db.users().count(filter, self.cx.config.total_bound).await?),
            Paging::Keyset { .. } => None,
        };
        let items = page.items.iter().map(|user| account(user, &roles)).collect();
        Ok((Page { items, next: page.next }, total))
    }

    /// Creates a user. Its email address is not verified.
    ///
    /// # Errors
    /// `Validation`, also for a role and a customer that do not exist, `DUPLICATE` for an email or a customer that a
    /// live user has, `Unavailable`, also if too many passwords wait to be hashed.
    pub async fn create(&self, input: &UserInput) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        let values = input.check()?;
        let password = self.hashed(&values).await?;
        let (values, password) = (&values, &password);
        self.cx
            .write(|mut tx| async move { Ok((self.create_with(&mut tx, values, password.clone()).await?, tx)) })
            .await
    }

    /// [`Self::create`] inside a transaction, which waits while the password is hashed.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &UserInput) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        let values = input.check()?;
        let password = self.hashed(&values).await?;
        self.create_with(tx, &values, password).await
    }

    /// Returns the hash of the password of an input that was checked.
    async fn hashed(&self, values: &UserInput) -> Result<Option<PasswordHash>> {
        match &values.password {
            Some(password) => Ok(Some(self.cx.passwords.hash(password, self.cx.ids.secret()).await?)),
            None => Ok(None),
        }
    }

    async fn create_with(
        &self,
        tx: &mut Tx<'_>,
        input: &UserInput,
        password: Option<PasswordHash>,
    ) -> Result<UserAccount> {
        tx.started();
        let now = self.cx.now();
        if input.customer_id.is_some() {
            self.who.require_own()?;
        }
        hold_customer(tx, input.customer_id).await?;
        let roles = Roles::load_in(tx).await?;
        let held = self.hold(tx, &roles, &input.roles).await?;
        let user = User {
            id: UserId(self.cx.ids.next()),
            email: input.email.clone(),
            email_verified_at: None,
            name: input.name.clone(),
            password_set_at: password.as_ref().map(|_| now),
            password,
            roles: held,
            customer_id: input.customer_id,
            blocked_at: None,
            audit: Audit::created(now, self.who.actor()),
        };
        tx.users().insert(&user).await?;
        tx.emit(Change::created(EventKind::UserCreated, &user, self.who.actor())).await?;
        tx.ended(Ok(account(&user, &roles)))
    }

    /// Returns the ids of roles with these names, and holds them so that nobody deletes them. Refuses a principal who
    /// may not give them.
    async fn hold(&self, tx: &mut Tx<'_>, roles: &Roles, names: &[String]) -> Result<Vec<RoleId>> {
        let ids = roles.ids(names)?;
        roles.require_all(&ids, self.who)?;
        let held = tx.roles().hold(&ids).await?;
        if let Some(gone) = ids.iter().position(|id| !held.iter().any(|role| role.id == *id)) {
            let message = "must be the name of a role; it was deleted".to_owned();
            return Err(Error::invalid(format!("roles[{gone}]"), FieldCode::ReferenceNotFound, message));
        }
        Ok(ids)
    }

    /// Replaces a user (PUT, R1). A user without a new password keeps its own. A new address is not verified, so the
    /// user gets a mail with which to verify it. A new password ends all sessions of the user. A blocked user stays
    /// blocked.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, and those of [`Self::create`].
    pub async fn replace(&self, id: UserId, expected: ExpectedVersion, input: &UserInput) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check()?;
        let password = self.hashed(&values).await?;
        let (values, password) = (&values, &password);
        let replace = |mut tx| async move {
            hold_customer(&mut tx, values.customer_id).await?;
            let (before, roles) = self.lock(&mut tx, id, expected, IncludeDeleted::No).await?;
            let blocked = before.blocked_at.is_some();
            Ok((self.write_values(&mut tx, before, &roles, values, blocked, password.clone()).await?, tx))
        };
        self.cx.write(replace).await
    }

    /// Merges a patch into a user (RFC 7396, R1). A new address is not verified, so the user gets a mail with which to
    /// verify it. A new password, and blocking the user, end all its sessions and void the tokens of mails that were
    /// sent before. If a caller sets a password who may not do everything that customers may do with their own rows, the
    /// address is not verified any more.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: UserId, expected: ExpectedVersion, patch: UserPatch) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        let expected = expected.or_named(patch.version)?;
        // The password is hashed before the transaction, which must not wait for it.
        let hash = match &patch.password {
            Patch::Set(password) => {
                let input = UserInput { password: Some(password.clone()), ..UserInput::new("a@example.com") };
                input.check()?;
                self.hashed(&input).await?
            }
            Patch::Keep => None,
            Patch::Clear => {
                let message = "must not be null; to prevent logins, block the user";
                return Err(Error::invalid("password", FieldCode::Required, message));
            }
        };
        let (patch, hash) = (&patch, &hash);
        let merge = |mut tx| async move {
            let customer = match &patch.customer_id {
                Patch::Set(customer) => Some(*customer),
                Patch::Keep | Patch::Clear => None,
            };
            hold_customer(&mut tx, customer).await?;
            let (before, roles) = self.lock(&mut tx, id, expected, IncludeDeleted::No).await?;
            let (values, blocked) = merged(patch.clone(), &before, &roles)?;
            Ok((self.write_values(&mut tx, before, &roles, &values, blocked, hash.clone()).await?, tx))
        };
        self.cx.write(merge).await
    }

    /// Writes values that were checked over a user that is locked, if they differ.
    async fn write_values(
        &self,
        tx: &mut Tx<'_>,
        before: User,
        roles: &Roles,
        input: &UserInput,
        blocked: bool,
        password: Option<PasswordHash>,
    ) -> Result<UserAccount> {
        tx.started();
        let held = self.hold(tx, roles, &input.roles).await?;
        let values = Values {
            email: input.email.clone(),
            name: input.name.clone(),
            roles: held,
            customer_id: input.customer_id,
            blocked,
            password,
        };
        let after = self.update_in(tx, before, values).await?;
        tx.ended(Ok(account(&after, roles)))
    }

    async fn update_in(&self, tx: &mut Tx<'_>, before: User, values: Values) -> Result<User> {
        let now = self.cx.now();
        let mut after = User {
            email_verified_at: before.email_verified_at.filter(|_| before.email == values.email),
            email: values.email,
            name: values.name,
            roles: values.roles,
            customer_id: values.customer_id,
            blocked_at: if values.blocked { before.blocked_at.or(Some(now)) } else { None },
            ..before.clone()
        };
        let is_taken_over = values.password.is_some() || after.email != before.email;
        let is_customer = before.customer_id.is_some() || after.customer_id.is_some();
        if is_customer && (is_taken_over || after.customer_id != before.customer_id) {
            self.who.require_own()?;
        }
        // Whoever sets the password can log in as the user. With a verified address, the user could become a customer,
        // and get the orders that guests have placed with the address.
        if values.password.is_some() && self.who.require_own().is_err() {
            after.email_verified_at = None;
        }
        let gains = after.customer_id.is_some_and(|id| before.customer_id != Some(id))
            || after.roles.iter().any(|role| *role != BuiltInRole::Customer.id() && !before.roles.contains(role));
        let is_unknown = before.email_verified_at.is_none() && before.audit.created_by == before.actor();
        if gains && is_unknown && values.password.is_none() {
            let message = format!(
                "user {} has registered itself and has not verified its email address, so it cannot get roles or a \
                 customer: wait until it has, or set another password",
                before.id
            );
            return Err(Conflict::State { message }.into());
        }
        let ends = if after.blocked_at.is_some() && before.blocked_at.is_none() {
            Some(SessionEnd::UserBlocked)
        } else {
            values.password.as_ref().map(|_| SessionEnd::PasswordChanged)
        };
        if let Some(password) = values.password {
            after.password = Some(password);
            after.password_set_at = Some(now);
        }
        if after == before {
            return Ok(before);
        }
        after.audit.edited(now, self.who.actor());
        tx.users().update(&before, &after).await?;
        let is_moved = after.email != before.email;
        if is_moved || ends.is_some() {
            tx.sessions().remove_tokens(after.id).await?;
        }
        let change = Change::edited(EventKind::UserUpdated, &before, &after, self.who.actor());
        written(tx, change, ends, now, self.who).await?;
        if is_moved {
            tx.emit(verification_of(&after, self.who.actor())).await?;
        }
        Ok(after)
    }

    /// Locks a user for a write, and checks that it is the one that the writer read (R1), and that the writer may
    /// change it. Returns it with the roles of the shop.
    async fn lock(
        &self,
        tx: &mut Tx<'_>,
        id: UserId,
        expected: ExpectedVersion,
        deleted: IncludeDeleted,
    ) -> Result<(User, Roles)> {
        let before = tx.users().lock(id).await?;
        let before = before
            .filter(|u| deleted == IncludeDeleted::Yes || u.audit.is_live())
            .ok_or_else(|| Error::not_found(Entity::User, id))?;
        expected.check(Entity::User, id, before.audit.version, self.cx.config.last_write_wins)?;
        let roles = Roles::load_in(tx).await?;
        roles.require_all(&before.roles, self.who)?;
        Ok((before, roles))
    }

    /// Deletes a user and ends its sessions: softly (R2), or for good with its sessions.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn delete(&self, id: UserId, expected: ExpectedVersion, mode: DeleteMode) -> Result<()> {
        self.who.require_delete(Permission::UsersWrite, mode)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected, mode).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(
        &self,
        tx: &mut Tx<'_>,
        id: UserId,
        expected: ExpectedVersion,
        mode: DeleteMode,
    ) -> Result<()> {
        self.who.require_delete(Permission::UsersWrite, mode)?;
        tx.started();
        let (before, _) = self.lock(tx, id, expected, mode.of()).await?;
        let now = self.cx.now();
        match mode {
            DeleteMode::Soft => {
                let mut gone = before.clone();
                gone.audit.deleted(now, self.who.actor());
                tx.users().update(&before, &gone).await?;
                tx.sessions().remove_tokens(id).await?;
                let change = Change::edited(EventKind::UserDeleted, &before, &gone, self.who.actor());
                written(tx, change, Some(SessionEnd::UserBlocked), now, self.who).await?;
            }
            DeleteMode::Force => {
                tx.audit_log().erase_user(id, now).await?;
                let change = Change::removed(EventKind::UserPurged, &before, self.who.actor()).without_data();
                written(tx, change, Some(SessionEnd::UserBlocked), now, self.who).await?;
                tx.users().purge(id).await?;
            }
        }
        tx.ended(Ok(()))
    }

    /// Restores a soft-deleted user (R2).
    ///
    /// # Errors
    /// `NotFound`, `STATE_CONFLICT` if it is not deleted, `DUPLICATE` if its email or its customer was taken in
    /// between, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `Unavailable`.
    pub async fn restore(&self, id: UserId, expected: ExpectedVersion) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.restore_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::restore`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::restore`].
    pub async fn restore_in(&self, tx: &mut Tx<'_>, id: UserId, expected: ExpectedVersion) -> Result<UserAccount> {
        self.who.require(Permission::UsersWrite)?;
        tx.started();
        let (before, roles) = self.lock(tx, id, expected, IncludeDeleted::Yes).await?;
        before.audit.check_deleted("user", id)?;
        let mut after = before.clone();
        after.audit.restored(self.cx.now(), self.who.actor());
        tx.users().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::UserRestored, &before, &after, self.who.actor())).await?;
        tx.ended(Ok(account(&after, &roles)))
    }

    /// Returns the sessions of a user that have not ended and can be refreshed, newest first, at most 1,000.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn sessions(&self, id: UserId) -> Result<Vec<Session>> {
        self.who.require(Permission::UsersRead)?;
        let mut db = self.cx.storage.connect().await?;
        if db.users().get(id, IncludeDeleted::No).await?.is_none() {
            return Err(Error::not_found(Entity::User, id));
        }
        db.sessions().active(id, self.cx.now()).await
    }

    /// Ends all sessions of a user, and returns how many.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn end_sessions(&self, id: UserId) -> Result<u64> {
        self.who.require(Permission::UsersWrite)?;
        let end = |mut tx: Tx<'static>| async move {
            let user = tx.users().lock(id).await?.filter(|u| u.audit.is_live());
            let user = user.ok_or_else(|| Error::not_found(Entity::User, id))?;
            Roles::load_in(&mut tx).await?.require_all(&user.roles, self.who)?;
            let ended = end_all(&mut tx, id, self.cx.now(), SessionEnd::Revoked, self.who).await?;
            Ok((ended.len() as u64, tx))
        };
        self.cx.write(end).await
    }
}

/// Holds the customer that a user is, so that nobody deletes it. Customers are locked before users.
async fn hold_customer(tx: &mut Tx<'_>, customer: Option<CustomerId>) -> Result<()> {
    let Some(id) = customer else { return Ok(()) };
    let held = tx.customers().hold(&[id]).await?;
    if held.iter().any(|customer| customer.audit.is_live()) {
        return Ok(());
    }
    let message = format!("must be the id of a customer; there is no customer {id}");
    Err(Error::invalid("customer_id", FieldCode::ReferenceNotFound, message))
}

/// Returns the values of a user with a patch, and whether it is blocked then.
fn merged(patch: UserPatch, before: &User, roles: &Roles) -> Result<(UserInput, bool)> {
    let mut e = ValidationErrors::default();
    let mut values = UserInput {
        email: before.email.clone(),
        name: before.name.clone(),
        roles: roles.names(&before.roles),
        customer_id: before.customer_id,
        ..UserInput::default()
    };
    patch.email.apply_required(&mut values.email, "email", &mut e);
    patch.name.apply(&mut values.name);
    let mut names = Some(std::mem::take(&mut values.roles));
    patch.roles.apply(&mut names);
    values.roles = names.unwrap_or_default();
    patch.customer_id.apply(&mut values.customer_id);
    if let Patch::Set(password) = patch.password {
        values.password = Some(password);
    }
    let mut blocked = Some(before.blocked_at.is_some());
    patch.blocked.apply(&mut blocked);
    e.into_result()?;
    Ok((values.check()?, blocked.unwrap_or_default()))
}

/// Records a change of a user, ends its sessions if there is a reason to, and forgets what is cached of them.
pub(super) async fn written(
    tx: &mut Tx<'_>,
    change: Change<'_>,
    ends: Option<SessionEnd>,
    now: Timestamp,
    who: &Principal,
) -> Result<()> {
    let user = UserId(change.id);
    let stale: Vec<CacheKey> = match ends {
        Some(reason) => {
            end_all(tx, user, now, reason, who).await?;
            Vec::new()
        }
        None => tx.sessions().active(user, now).await?.iter().map(|s| CacheKey::Session(s.id)).collect(),
    };
    tx.emit(change.shown_by(stale)).await
}

/// Returns the event that asks for a mail with which a user verifies its email address.
pub(super) fn verification_of(user: &User, actor: &Actor) -> Change<'static> {
    Change::event_only(EventKind::UserVerificationRequested, user.id, user.audit.version, actor)
}

/// Ends all sessions of a user that the transaction has locked.
pub(crate) async fn end_all(
    tx: &mut Tx<'_>,
    user: UserId,
    now: Timestamp,
    reason: SessionEnd,
    who: &Principal,
) -> Result<Vec<SessionId>> {
    let ended = tx.sessions().end_all(user, now, reason).await?;
    tx.emit_all(ended.iter().map(|id| Change::event_only(EventKind::SessionEnded, *id, 1, who.actor())).collect())
        .await?;
    Ok(ended)
}

/// Returns a user as the shop shows it.
pub(crate) fn account(user: &User, roles: &Roles) -> UserAccount {
    UserAccount {
        id: user.id,
        email: user.email.clone(),
        email_verified_at: user.email_verified_at,
        name: user.name.clone(),
        has_password: user.password.is_some(),
        roles: roles.names(&user.roles),
        customer_id: user.customer_id,
        blocked_at: user.blocked_at,
        audit: user.audit.clone(),
    }
}
