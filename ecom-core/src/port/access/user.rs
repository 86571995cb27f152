//! Users.

use crate::domain::access::user::{PasswordHash, User, UserFilter};
use crate::domain::common::IncludeDeleted;
use crate::error::Result;
use crate::id::{CustomerId, UserId};
use crate::paging::{Page, Paging, Total};

port! {
    /// The users of a shop, with the ids of their roles, by id. Each read is one statement.
    ///
    /// Every method fails with `Unavailable` if the database cannot be reached.
    pub trait UserRepository / ForwardUsers(&mut self): Send {
        /// Returns one user.
        async fn get(&mut self, id: UserId, deleted: IncludeDeleted) -> Result<Option<User>>;

        /// Returns the live user with this email, ignoring case.
        async fn get_by_email(&mut self, email: &str) -> Result<Option<User>>;

        /// Returns the live user that is this customer.
        async fn get_by_customer(&mut self, customer: CustomerId) -> Result<Option<User>>;

        /// Locks a user until the end of the transaction and returns it as it is then, soft-deleted or not. A
        /// transaction takes this lock before it writes the user or its sessions.
        async fn lock(&mut self, id: UserId) -> Result<Option<User>>;

        /// Returns a page of users, newest first: one statement whatever the limit.
        async fn list(&mut self, filter: &UserFilter, paging: &Paging) -> Result<Page<User>>;

        /// Counts the users that match, up to `bound`.
        async fn count(&mut self, filter: &UserFilter, bound: u64) -> Result<Total>;

        /// Inserts a user.
        ///
        /// # Errors
        /// `DUPLICATE` for an `email` or `customer_id` that a live user has; `Validation` (reference) for a role or a
        /// customer that does not exist.
        async fn insert(&mut self, user: &User) -> Result<()>;

        /// Writes `after` over `before`, which this transaction has locked.
        ///
        /// # Errors
        /// `VERSION_CONFLICT` if the row is no longer at `before`'s version, else as [`Self::insert`].
        async fn update(&mut self, before: &User, after: &User) -> Result<()>;

        /// Replaces the hash of a password by another hash of the same password, if it is still `before`. The version
        /// stays. Returns whether it was replaced.
        async fn rehash(&mut self, id: UserId, before: &PasswordHash, after: &PasswordHash) -> Result<bool>;

        /// Removes a user, its sessions and its one-time tokens for good.
        async fn purge(&mut self, id: UserId) -> Result<()>;
    }
}
