//! The principals that act in the shop, and their permissions.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::access::user::actor_of;
use crate::domain::common::{Actor, DeleteMode, IncludeDeleted};
use crate::error::{Error, Result};
use crate::id::{CustomerId, SessionId, UserId};

macro_rules! permissions {
    // `$text` is not a `literal`, whose value utoipa would not see.
    ($($(#[$doc:meta])* $variant:ident = $text:tt;)*) => {
        /// A permission: one verb on one kind of resource. Its text, such as `products:write`, is used in roles, in API
        /// keys and in the message of a refused call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[non_exhaustive]
        pub enum Permission { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl Permission {
            /// Every permission.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the text of the permission.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

permissions! {
    /// Read products that are drafts or archived, and their SKUs.
    ProductsRead = "products:read";
    /// Create, edit, delete and restore products and their SKUs.
    ProductsWrite = "products:write";
    /// Create, edit, move, delete and restore categories.
    CategoriesWrite = "categories:write";
    /// Create, edit and delete reviews, of any customer.
    ReviewsWrite = "reviews:write";
    /// Read the ledger of stock movements, and check it.
    StockRead = "stock:read";
    /// Adjust stock.
    StockAdjust = "stock:adjust";
    /// Read customers and their addresses.
    CustomersRead = "customers:read";
    /// Create, edit, delete and restore customers and their addresses.
    CustomersWrite = "customers:write";
    /// Erase the personal data of customers and of their orders.
    CustomersErase = "customers:erase";
    /// Read orders and their histories.
    OrdersRead = "orders:read";
    /// Place, edit, start, deliver, cancel, delete and restore orders.
    OrdersWrite = "orders:write";
    /// Give discounts on orders, set the prices of lines, and add custom lines and fees.
    OrdersDiscount = "orders:discount";
    /// Read bills and credit notes.
    BillsRead = "bills:read";
    /// Edit bills, record that they were paid, and choose their numbers.
    BillsWrite = "bills:write";
    /// Read carts without their tokens.
    CartsRead = "carts:read";
    /// Create the carts of customers, assign carts to customers, and edit, merge and delete carts without their tokens.
    CartsWrite = "carts:write";
    /// Read the synonyms and the rules of searches.
    SearchRead = "search:read";
    /// Edit the synonyms and the rules of searches.
    SearchWrite = "search:write";
    /// Synchronize, rebuild and verify the search index.
    IndexWrite = "index:write";
    /// Read jobs and their queues.
    JobsRead = "jobs:read";
    /// Enqueue jobs of the application, cancel jobs and run them again, and pause queues.
    JobsWrite = "jobs:write";
    /// Read analytics: sales by day and by product, SKUs that are low in stock, the funnel, and the texts that are
    /// searched for.
    AnalyticsRead = "analytics:read";
    /// Read users and the names of their roles.
    UsersRead = "users:read";
    /// Create, edit, block, delete and restore users, end their sessions, and give them roles.
    UsersWrite = "users:write";
    /// Read roles and their permissions.
    RolesRead = "roles:read";
    /// Create, edit and delete roles.
    RolesWrite = "roles:write";
    /// Read API keys, without their secrets.
    ApiKeysRead = "api_keys:read";
    /// Create, edit and delete API keys.
    ApiKeysWrite = "api_keys:write";
    /// Replace the keys that sign access tokens.
    SigningKeysWrite = "signing_keys:write";
    /// Audit the shop.
    AuditRun = "audit:run";
    /// Read the audit log.
    AuditLogRead = "audit_log:read";
    /// Read the log of events.
    EventsRead = "events:read";
    /// Read webhooks, without their secrets, and the log of their deliveries.
    WebhooksRead = "webhooks:read";
    /// Create, edit, test and delete webhooks, which send events of every kind to any URL, replace their secrets, and
    /// replay deliveries.
    WebhooksWrite = "webhooks:write";
    /// Run imports.
    ImportRun = "import:run";
    /// Read soft-deleted rows.
    DeletedRead = "deleted:read";
    /// Delete rows permanently.
    ForceDelete = "force:delete";
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error for a text that is not the name of a permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a permission")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(s: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.iter().copied().find(|p| p.as_str() == s).ok_or_else(|| UnknownPermission(s.to_owned()))
    }
}

/// A caller of the services, with the permissions that it has.
///
/// The services of [`Shop`](crate::Shop) itself act as [`Principal::system`], which has all permissions.
/// [`Shop::acting_as`](crate::Shop::acting_as) returns the same services for another principal. If the principal does
/// not have the permission for a call, the call fails with [`Error::Forbidden`], or with [`Error::Unauthenticated`] if
/// the principal has not logged in, before it reads or writes anything. A customer ([`Self::with_customer`]) needs no
/// permission for its own rows, and the rows of other customers do not exist for it.
///
/// ```
/// use ecom_core::access::{Permission, Principal};
///
/// let owner = Principal::trusted("user:1");
/// assert!(owner.may(Permission::ForceDelete));
///
/// let clerk = Principal::new("user:2", [Permission::ProductsWrite, Permission::StockAdjust]);
/// assert!(clerk.may(Permission::StockAdjust) && !clerk.may(Permission::CustomersRead));
/// ```
///
/// A clone is cheap and denotes the same principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Arc<Identity>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    actor: Actor,
    grants: Grants,
    customer: Option<CustomerId>,
    login: Option<Login>,
    /// When the API key of the principal expires, or its token of the issuer of OpenID Connect.
    expires_at: Option<Timestamp>,
    is_anonymous: bool,
}

/// The session by which a principal has logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Grants {
    Everything,
    Only(BTreeSet<Permission>),
}

impl Principal {
    /// Returns a principal with these permissions. Every row and event that the principal writes records the actor,
    /// which should not be empty (see [`Actor`]).
    pub fn new(actor: impl Into<Actor>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self::with(actor.into(), Grants::Only(permissions.into_iter().collect()))
    }

    /// Returns a principal with all permissions, including those that later releases add. Every row and event that the
    /// principal writes records the actor.
    pub fn trusted(actor: impl Into<Actor>) -> Self {
        Self::with(actor.into(), Grants::Everything)
    }

    /// Returns the principal of callers who have not logged in, with the actor `anonymous`. A call for which it lacks a
    /// permission fails with [`Error::Unauthenticated`]. Without permissions, it can read the catalog, search, and use
    /// the cart of a guest by its token.
    pub fn anonymous(permissions: impl IntoIterator<Item = Permission>) -> Self {
        let grants = Grants::Only(permissions.into_iter().collect());
        Self::with(Actor::from("anonymous"), grants).map(|identity| identity.is_anonymous = true)
    }

    /// Returns the principal as a customer, who may read and change its own profile, addresses, carts, orders and
    /// reviews, and read its own bills, without a permission.
    #[must_use]
    pub fn with_customer(self, customer: CustomerId) -> Self {
        self.map(|identity| identity.customer = Some(customer))
    }

    /// Returns the principal with the time at which its API key or its token of the issuer of OpenID Connect expires;
    /// `None` if the key does not expire.
    pub(crate) fn expiring(self, at: Option<Timestamp>) -> Self {
        self.map(|identity| identity.expires_at = at)
    }

    fn map(self, change: impl FnOnce(&mut Identity)) -> Self {
        let mut identity = Arc::unwrap_or_clone(self.0);
        change(&mut identity);
        Self(Arc::new(identity))
    }

    fn with(actor: Actor, grants: Grants) -> Self {
        Self(Arc::new(Identity { actor, grants, customer: None, login: None, expires_at: None, is_anonymous: false }))
    }

    /// Returns the principal of a login. `permissions` is `None` if it may do everything.
    pub(crate) fn logged_in(
        login: Login,
        permissions: Option<BTreeSet<Permission>>,
        customer: Option<CustomerId>,
    ) -> Self {
        let grants = permissions.map_or(Grants::Everything, Grants::Only);
        let actor = actor_of(login.user);
        let login = Some(login);
        Self(Arc::new(Identity { actor, grants, customer, login, expires_at: None, is_anonymous: false }))
    }

    /// Returns the principal of the application itself, as which the services of a [`Shop`](crate::Shop) act. Its actor
    /// is [`Actor::system`], and it has all permissions.
    pub fn system() -> &'static Self {
        static SYSTEM: LazyLock<Principal> = LazyLock::new(|| Principal::trusted(Actor::system()));
        &SYSTEM
    }

    /// Returns the actor that rows and events record.
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Returns the customer that the principal is, if it is one.
    pub fn customer(&self) -> Option<CustomerId> {
        self.0.customer
    }

    /// Returns the user and the session of the principal, if it has logged in with a password.
    pub fn login(&self) -> Option<Login> {
        self.0.login
    }

    /// Returns when the API key of the principal expires, or its token of the issuer of OpenID Connect. Returns `None`
    /// if the key does not expire, or if the principal has neither.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Returns true for the principal of callers who have not logged in ([`Self::anonymous`]).
    pub fn is_anonymous(&self) -> bool {
        self.0.is_anonymous
    }

    /// Returns the permissions of the principal; `None` if it may do everything.
    pub(crate) fn permissions(&self) -> Option<impl Iterator<Item = Permission>> {
        match &self.0.grants {
            Grants::Everything => None,
            Grants::Only(granted) => Some(granted.iter().copied()),
        }
    }

    /// Returns true if the principal has a permission.
    pub fn may(&self, permission: Permission) -> bool {
        match &self.0.grants {
            Grants::Everything => true,
            Grants::Only(granted) => granted.contains(&permission),
        }
    }

    /// Refuses a principal who does not have a permission.
    ///
    /// # Errors
    /// [`Error::Forbidden`], or [`Error::Unauthenticated`] if the principal has not logged in.
    pub fn require(&self, permission: Permission) -> Result<()> {
        if self.may(permission) { Ok(()) } else { Err(self.lacks(permission)) }
    }

    /// Returns the error for a call whose permission the principal lacks.
    pub(crate) fn lacks(&self, permission: Permission) -> Error {
        if self.0.is_anonymous { Error::Unauthenticated } else { Error::Forbidden { permission } }
    }

    /// Refuses a principal who does not have all of these permissions.
    ///
    /// # Errors
    /// As [`Self::require`], with the first permission that it lacks.
    pub(crate) fn require_all<'p>(&self, permissions: impl IntoIterator<Item = &'p Permission>) -> Result<()> {
        permissions.into_iter().try_for_each(|permission| self.require(*permission))
    }

    /// Refuses a principal who may not do everything, including what later releases add.
    ///
    /// # Errors
    /// As [`Self::require`].
    pub(crate) fn require_everything(&self) -> Result<()> {
        match &self.0.grants {
            Grants::Everything => Ok(()),
            Grants::Only(granted) => {
                let lacking = Permission::ALL.iter().copied().find(|p| !granted.contains(p));
                Err(self.lacks(lacking.unwrap_or(Permission::UsersWrite)))
            }
        }
    }

    /// Refuses a principal who may not delete in this mode.
    pub(crate) fn require_delete(&self, write: Permission, mode: DeleteMode) -> Result<()> {
        self.require(write)?;
        if mode == DeleteMode::Force { self.require(Permission::ForceDelete) } else { Ok(()) }
    }

    /// Refuses a principal who may not see soft-deleted rows and asks for them.
    pub(crate) fn require_shown(&self, include: IncludeDeleted) -> Result<()> {
        if include == IncludeDeleted::Yes { self.require(Permission::DeletedRead) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_read_from_its_text() {
        for p in Permission::ALL {
            assert_eq!(p.as_str().parse(), Ok(*p));
            assert_eq!(serde_json::to_value(p).unwrap(), p.as_str());
        }
        assert!("products:Write".parse::<Permission>().unwrap_err().to_string().contains("products:Write"));
    }

    #[test]
    fn a_principal_may_do_what_is_granted_and_nothing_else() {
        let clerk = Principal::new("clerk", [Permission::ProductsWrite]);
        assert!(clerk.require_delete(Permission::ProductsWrite, DeleteMode::Soft).is_ok());
        let refused = clerk.require_delete(Permission::ProductsWrite, DeleteMode::Force).unwrap_err();
        assert!(matches!(refused, Error::Forbidden { permission: Permission::ForceDelete }));
        assert!(clerk.require_shown(IncludeDeleted::No).is_ok());
        assert!(clerk.require_shown(IncludeDeleted::Yes).is_err());
        assert!(Permission::ALL.iter().all(|p| Principal::system().may(*p)));
    }
}
