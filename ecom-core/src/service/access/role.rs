//! Roles. All roles of a shop are one cached document, since every request with a login needs some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::access::principal::{Permission, Principal};
use crate::domain::access::role::{BuiltInRole, Role, RoleInput, RolePatch};
use crate::domain::common::{Audit, ExpectedVersion};
use crate::domain::platform::outbox::EventKind;
use crate::error::{Conflict, Entity, Error, FieldCode, Result, ValidationErrors};
use crate::id::RoleId;
use crate::port::cache::CacheKey;
use crate::port::storage::{Connection, Repositories as _};
use crate::service::access::auth::GRANT_TTL;
use crate::service::run::context::Context;
use crate::service::run::read_through::Lookup;
use crate::service::run::transaction::{Change, Tx};

/// The service of the roles of a shop.
///
/// A method for which the principal of the service lacks a permission fails with
/// [`Error::Forbidden`](crate::Error::Forbidden), in addition to the errors that it lists. A principal cannot grant
/// permissions that it does not have, and cannot change a role that grants them.
///
/// ```
/// # async fn app(shop: ecom_core::Shop) -> Result<(), Box<dyn std::error::Error>> {
/// use ecom_core::access::{Permission, RoleInput};
///
/// let input = RoleInput::new("warehouse", [Permission::StockRead, Permission::StockAdjust]);
/// let role = shop.roles().create(&input).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct RoleService<'a> {
    cx: &'a Arc<Context>,
    who: &'a Principal,
}

impl<'a> RoleService<'a> {
    pub(crate) const fn new(cx: &'a Arc<Context>, who: &'a Principal) -> Self {
        Self { cx, who }
    }

    /// Returns all roles, by name: the built-in ones and those of the shop, at most [`Role::MAX`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list(&self) -> Result<Vec<Role>> {
        self.who.require(Permission::RolesRead)?;
        let roles = self.cx.storage.connect().await?.roles().all().await?;
        Ok(roles.into_iter().map(of_release).collect())
    }

    /// Returns a role.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn get(&self, id: RoleId) -> Result<Role> {
        self.who.require(Permission::RolesRead)?;
        let found = self.cx.storage.connect().await?.roles().get(id).await?;
        found.map(of_release).ok_or_else(|| Error::not_found(Entity::Role, id))
    }

    /// Creates a role.
    ///
    /// # Errors
    /// `Validation`, also if the shop has [`Role::MAX`] roles, `DUPLICATE` for a name that a role has, `Unavailable`.
    pub async fn create(&self, input: &RoleInput) -> Result<Role> {
        self.may_write(&input.permissions)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.create_in(&mut tx, input).await?, tx)) }).await
    }

    /// [`Self::create`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn create_in(&self, tx: &mut Tx<'_>, input: &RoleInput) -> Result<Role> {
        self.may_write(&input.permissions)?;
        let values = input.check()?;
        tx.started();
        if tx.roles().all().await?.len() >= Role::MAX {
            let message = format!("must be one of at most {} roles; delete one that no user has", Role::MAX);
            return Err(Error::invalid("name", FieldCode::OutOfBounds, message));
        }
        let role = Role {
            id: RoleId(self.cx.ids.next()),
            name: values.name,
            description: values.description,
            permissions: values.permissions,
            audit: Audit::created(self.cx.now(), self.who.actor()),
        };
        tx.roles().insert(&role).await?;
        tx.emit(Change::created(EventKind::RoleCreated, &role, self.who.actor())).await?;
        tx.ended(Ok(role))
    }

    /// Replaces a role (PUT, R1). Its name must stay. The change takes effect as R15 says: immediately in this process,
    /// and within the poll interval in processes that do not share the cache.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `STATE_CONFLICT` for a built-in role, `Validation`,
    /// `Unavailable`.
    pub async fn replace(&self, id: RoleId, expected: ExpectedVersion, input: &RoleInput) -> Result<Role> {
        self.may_write(&input.permissions)?;
        let expected = expected.or_named(input.version)?;
        input.check()?;
        self.cx.write(|mut tx| async move { Ok((self.replace_in(&mut tx, id, expected, input).await?, tx)) }).await
    }

    /// [`Self::replace`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn replace_in(
        &self,
        tx: &mut Tx<'_>,
        id: RoleId,
        expected: ExpectedVersion,
        input: &RoleInput,
    ) -> Result<Role> {
        self.may_write(&input.permissions)?;
        let expected = expected.or_named(input.version)?;
        let values = input.check()?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    /// Merges a patch into a role (RFC 7396, R1). The change takes effect as R15 says: immediately in this process, and
    /// within the poll interval in processes that do not share the cache.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch(&self, id: RoleId, expected: ExpectedVersion, patch: RolePatch) -> Result<Role> {
        self.who.require(Permission::RolesWrite)?;
        let expected = expected.or_named(patch.version)?;
        let patch = &patch;
        self.cx
            .write(|mut tx| async move { Ok((self.patch_in(&mut tx, id, expected, patch.clone()).await?, tx)) })
            .await
    }

    /// [`Self::patch`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub async fn patch_in(
        &self,
        tx: &mut Tx<'_>,
        id: RoleId,
        expected: ExpectedVersion,
        patch: RolePatch,
    ) -> Result<Role> {
        self.who.require(Permission::RolesWrite)?;
        let expected = expected.or_named(patch.version)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        let values = patch.onto(&before).check()?;
        self.may_write(&values.permissions)?;
        let written = self.update_in(tx, before, values).await;
        tx.ended(written)
    }

    async fn update_in(&self, tx: &mut Tx<'_>, before: Role, values: RoleInput) -> Result<Role> {
        if values.name != before.name {
            let message = format!("must be `{}`: the name of a role is fixed", before.name);
            return Err(Error::invalid("name", FieldCode::Inconsistent, message));
        }
        let mut after = Role { description: values.description, permissions: values.permissions, ..before.clone() };
        if after == before {
            return Ok(before);
        }
        after.audit.edited(self.cx.now(), self.who.actor());
        tx.roles().update(&before, &after).await?;
        tx.emit(Change::edited(EventKind::RoleUpdated, &before, &after, self.who.actor())).await?;
        Ok(after)
    }

    /// Deletes a role that no user has.
    ///
    /// # Errors
    /// `NotFound`, `VERSION_CONFLICT`, `VERSION_REQUIRED`, `STATE_CONFLICT` for a built-in role and for one that a user
    /// has, soft-deleted users included, `Unavailable`.
    pub async fn delete(&self, id: RoleId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::RolesWrite)?;
        self.cx.write(|mut tx| async move { Ok((self.delete_in(&mut tx, id, expected).await?, tx)) }).await
    }

    /// [`Self::delete`] inside a transaction.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_in(&self, tx: &mut Tx<'_>, id: RoleId, expected: ExpectedVersion) -> Result<()> {
        self.who.require(Permission::RolesWrite)?;
        tx.started();
        let before = self.lock(tx, id, expected).await?;
        if tx.roles().is_used(id).await? {
            let message = format!("role `{}` is not deleted, because users have it", before.name);
            return Err(Conflict::State { message }.into());
        }
        tx.roles().delete(id).await?;
        tx.emit(Change::removed(EventKind::RoleDeleted, &before, self.who.actor())).await?;
        tx.ended(Ok(()))
    }

    /// Locks a role of the shop and checks that it is the one that the writer read (R1), and that the writer may change
    /// it.
    async fn lock(&self, tx: &mut Tx<'_>, id: RoleId, expected: ExpectedVersion) -> Result<Role> {
        let before = tx.roles().lock(id).await?.ok_or_else(|| Error::not_found(Entity::Role, id))?;
        if before.built_in().is_some() {
            let message = format!("role `{}` is built in and cannot be changed; create another one", before.name);
            return Err(Conflict::State { message }.into());
        }
        expected.check(Entity::Role, id, before.audit.version, self.cx.config.last_write_wins)?;
        self.may_write(&before.permissions)?;
        Ok(before)
    }

    /// Refuses a principal who may not write roles or lacks one of these permissions.
    fn may_write(&self, permissions: &BTreeSet<Permission>) -> Result<()> {
        self.who.require(Permission::RolesWrite)?;
        self.who.require_all(permissions)
    }
}

/// Returns a stored role with the permissions that this release gives it, if it is built in.
fn of_release(role: Role) -> Role {
    match role.built_in() {
        Some(built_in) => Role { permissions: built_in.permissions(), ..role },
        None => role,
    }
}

/// The roles of a shop, by id.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Roles(BTreeMap<RoleId, Role>);

impl Roles {
    /// Returns the roles through the cache.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn load(cx: &Context) -> Result<Lookup<Self>> {
        let load = async { Ok(Some(Self::of(cx.storage.connect().await?.roles().all().await?))) };
        let found = cx.cache.get_or_load(CacheKey::Roles, GRANT_TTL, load).await?;
        found.ok_or_else(|| Error::Internal { context: "the roles of the shop", source: None })
    }

    /// Returns the roles as a transaction sees them.
    pub async fn load_in(tx: &mut Tx<'_>) -> Result<Self> {
        Ok(Self::of(tx.roles().all().await?))
    }

    /// Returns the roles as a connection sees them now.
    pub async fn load_from(db: &mut dyn Connection) -> Result<Self> {
        Ok(Self::of(db.roles().all().await?))
    }

    fn of(roles: Vec<Role>) -> Self {
        Self(roles.into_iter().map(|role| (role.id, role)).collect())
    }

    /// Returns the names of some roles, sorted. Roles that do not exist any more are left out.
    pub fn names(&self, ids: &[RoleId]) -> Vec<String> {
        let mut names: Vec<String> = ids.iter().filter_map(|id| self.0.get(id)).map(|r| r.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Returns the ids of the roles with these names, sorted.
    ///
    /// # Errors
    /// `Validation` with each name that no role has.
    pub fn ids(&self, names: &[String]) -> Result<Vec<RoleId>> {
        let by_name: BTreeMap<&str, RoleId> = self.0.values().map(|r| (r.name.as_str(), r.id)).collect();
        let mut errors = ValidationErrors::default();
        let mut ids = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            match by_name.get(name.as_str()) {
                Some(id) => ids.push(*id),
                None => errors.push(
                    format!("roles[{i}]"),
                    FieldCode::ReferenceNotFound,
                    format!("must be the name of a role; there is no role `{name}`"),
                ),
            }
        }
        errors.into_result()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Returns the ids of those roles with these names that exist.
    pub fn existing(&self, names: &[String]) -> Vec<RoleId> {
        self.0.values().filter(|role| names.contains(&role.name)).map(|role| role.id).collect()
    }

    /// Returns the permissions that some roles grant together; `None` if they grant everything.
    pub fn permissions(&self, ids: &[RoleId]) -> Option<BTreeSet<Permission>> {
        let mut granted = BTreeSet::new();
        for id in ids {
            match BuiltInRole::ALL.iter().find(|role| role.id() == *id) {
                Some(BuiltInRole::Admin) => return None,
                Some(built_in) => granted.extend(built_in.permissions()),
                None => granted.extend(self.0.get(id).into_iter().flat_map(|role| &role.permissions)),
            }
        }
        Some(granted)
    }

    /// Refuses a principal who lacks a permission that some of the roles grant.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn require_all(&self, ids: &[RoleId], who: &Principal) -> Result<()> {
        match self.permissions(ids) {
            Some(permissions) => who.require_all(&permissions),
            None => who.require_everything(),
        }
    }
}
