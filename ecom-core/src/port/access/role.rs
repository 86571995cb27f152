//! Roles.

use crate::domain::access::role::Role;
use crate::error::Result;
use crate::id::RoleId;

port! {
    /// The roles of a shop: the built-in ones, which the migrations create, and its own.
    ///
    /// The repository returns the permissions that are stored, which for built-in roles are none; the service adds
    /// those of the release. It leaves out texts that are no permissions in this release.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait RoleRepository / ForwardRoles(&mut self): Send {
        /// Returns all roles, by name. One statement.
        async fn all(&mut self) -> Result<Vec<Role>>;

        /// Returns one role.
        async fn get(&mut self, id: RoleId) -> Result<Option<Role>>;

        /// Locks a role until the end of the transaction, and returns it as it is then.
        async fn lock(&mut self, id: RoleId) -> Result<Option<Role>>;

        /// Returns those of these roles that exist, by id, and takes a shared lock on them (several transactions can
        /// have it at once) until the end of the transaction.
        async fn hold(&mut self, ids: &[RoleId]) -> Result<Vec<Role>>;

        /// Inserts a role.
        ///
        /// # Errors
        /// `DUPLICATE` on `name` if another role has it.
        async fn insert(&mut self, role: &Role) -> Result<()>;

        /// Writes `after` over `before`.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version.
        async fn update(&mut self, before: &Role, after: &Role) -> Result<()>;

        /// Returns whether any user, live or soft-deleted, has the role.
        async fn is_used(&mut self, id: RoleId) -> Result<bool>;

        /// Removes a role, which no user has, for good.
        async fn delete(&mut self, id: RoleId) -> Result<()>;
    }
}
