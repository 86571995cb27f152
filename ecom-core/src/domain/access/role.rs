//! Roles: names for sets of permissions, which users have.

use std::collections::BTreeSet;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::access::principal::Permission;
use crate::domain::common::{Audit, Patch};
use crate::domain::platform::audit_log::{Audited, fields};
use crate::error::{FieldCode, Result, ValidationErrors};
use crate::id::RoleId;
use crate::text::{check_text, trimmed};

/// A role: a name for a set of permissions. A user has the permissions of all its roles.
///
/// Every shop has the [`BuiltInRole`]s, which cannot be changed, and the roles that it creates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The id of the role.
    pub id: RoleId,
    /// The name, unique and fixed: 1–50 lower-case letters, digits, `-` and `_`, beginning with a letter.
    pub name: String,
    /// A description for people, at most 255 characters.
    pub description: Option<String>,
    /// The permissions that the role grants.
    pub permissions: BTreeSet<Permission>,
    /// When and by whom the role was created and edited, and its version.
    pub audit: Audit,
}

impl Audited for Role {
    fn id(&self) -> Uuid {
        self.id.0
    }

    fn revision(&self) -> i64 {
        self.audit.version
    }

    fn document(&self) -> Map<String, Value> {
        fields(self, &["id"])
    }
}

impl Role {
    /// The maximum number of roles of a shop, and of roles of a user.
    pub const MAX: usize = 100;

    /// Returns the built-in role that this one is, if it is one.
    pub fn built_in(&self) -> Option<BuiltInRole> {
        BuiltInRole::ALL.iter().copied().find(|role| role.id() == self.id)
    }
}

/// The roles that every shop has. Their permissions belong to the release, so that a new permission reaches them with
/// the release that adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuiltInRole {
    /// May do everything.
    Admin,
    /// Has every permission except those to write users and roles, to read or write API keys, to replace the keys of
    /// access tokens, to write webhooks, to read the audit log, to erase customers, and to delete permanently.
    Manager,
    /// Reads drafts, stock, customers, carts, orders and bills; adjusts stock; and edits customers, carts, orders and
    /// reviews.
    Staff,
    /// A customer with a login. The role grants no permissions, because customers need none for their own profile,
    /// addresses, carts, orders, bills and reviews.
    Customer,
}

impl BuiltInRole {
    /// Every built-in role.
    pub const ALL: &'static [Self] = &[Self::Admin, Self::Manager, Self::Staff, Self::Customer];

    /// Returns the name of the role.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Staff => "staff",
            Self::Customer => "customer",
        }
    }

    /// Returns the id of the role, which is the same in every shop.
    pub const fn id(self) -> RoleId {
        RoleId(Uuid::from_u128(match self {
            Self::Admin => 1,
            Self::Manager => 2,
            Self::Staff => 3,
            Self::Customer => 4,
        }))
    }

    /// Returns the permissions that the role grants.
    pub fn permissions(self) -> BTreeSet<Permission> {
        use Permission as P;
        let all = Permission::ALL.iter().copied();
        match self {
            Self::Admin => all.collect(),
            Self::Manager => all
                .filter(|p| {
                    !matches!(
                        p,
                        P::UsersWrite
                            | P::RolesWrite
                            | P::ApiKeysRead
                            | P::ApiKeysWrite
                            | P::SigningKeysWrite
                            | P::WebhooksWrite
                            | P::AuditLogRead
                            | P::CustomersErase
                            | P::ForceDelete
                    )
                })
                .collect(),
            Self::Staff => BTreeSet::from([
                P::ProductsRead,
                P::StockRead,
                P::StockAdjust,
                P::CustomersRead,
                P::CustomersWrite,
                P::OrdersRead,
                P::OrdersWrite,
                P::BillsRead,
                P::CartsRead,
                P::CartsWrite,
                P::ReviewsWrite,
            ]),
            Self::Customer => BTreeSet::new(),
        }
    }
}

/// A role to create or to replace (PUT).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[setters(strip_option, into)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RoleInput {
    /// The name, unique and fixed: 1–50 lower-case letters, digits, `-` and `_`, beginning with a letter.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 50, example = "warehouse"))]
    #[setters(skip)]
    pub name: String,
    /// A description for people, at most 255 characters.
    #[serde(default)]
    pub description: Option<String>,
    /// The permissions that the role grants, such as `stock:adjust`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Permission>))]
    #[serde(default)]
    pub permissions: BTreeSet<Permission>,
    /// The version of the role that the client read (R1). Only a replacement without `If-Match` uses it.
    #[serde(default)]
    pub version: Option<i64>,
}

/// A merge patch of a role (RFC 7396): fields that it leaves out stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolePatch {
    /// A description for people, at most 255 characters; null removes it.
    #[serde(default)]
    pub description: Patch<String>,
    /// The permissions that the role grants, all of them; null removes all.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Vec<Permission>>))]
    #[serde(default)]
    pub permissions: Patch<BTreeSet<Permission>>,
    /// The version of the role that the client read (R1), unless `If-Match` names it.
    #[serde(default)]
    pub version: Option<i64>,
}

impl RoleInput {
    /// Returns a role with this name and these permissions.
    pub fn new(name: impl Into<String>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self { name: name.into(), permissions: permissions.into_iter().collect(), ..Self::default() }
    }

    /// Checks the input and returns it as it is stored.
    ///
    /// # Errors
    /// `Validation` with every field that is out of bounds.
    pub(crate) fn check(&self) -> Result<Self> {
        let mut e = ValidationErrors::default();
        check_role_name("name", &self.name, &mut e);
        if let Some(text) = &self.description {
            check_text("description", text, 0, 255, &mut e);
        }
        e.into_result()?;
        Ok(Self { description: trimmed(self.description.as_deref()), ..self.clone() })
    }
}

impl RolePatch {
    /// Merges the patch into a role and returns the result as an input.
    pub(crate) fn onto(self, role: &Role) -> RoleInput {
        let mut description = role.description.clone();
        self.description.apply(&mut description);
        let mut permissions = Some(role.permissions.clone());
        self.permissions.apply(&mut permissions);
        RoleInput { name: role.name.clone(), description, permissions: permissions.unwrap_or_default(), version: None }
    }
}

/// Pushes an error if a text cannot be the name of a role.
pub(crate) fn check_role_name(field: &str, name: &str, errors: &mut ValidationErrors) {
    let is_name = name.len() <= 50
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if name.is_empty() {
        errors.push(field, FieldCode::Required, "must have 1 to 50 characters");
    } else if !is_name {
        errors.push(
            field,
            FieldCode::OutOfBounds,
            "must have 1 to 50 lower-case letters, digits, `-` or `_`, and begin with a letter",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_roles_grant_less_and_less() {
        let granted = |role: BuiltInRole| role.permissions();
        assert_eq!(granted(BuiltInRole::Admin).len(), Permission::ALL.len());
        assert!(granted(BuiltInRole::Manager).is_superset(&granted(BuiltInRole::Staff)));
        assert!(granted(BuiltInRole::Admin).is_superset(&granted(BuiltInRole::Manager)));
        for kept in [Permission::UsersWrite, Permission::RolesWrite, Permission::ForceDelete] {
            assert!(!granted(BuiltInRole::Manager).contains(&kept), "{kept}");
        }
        assert!(granted(BuiltInRole::Customer).is_empty());
    }

    #[test]
    fn r17_the_name_of_a_role_is_a_word() {
        for good in ["a", "warehouse", "night-shift_2"] {
            RoleInput::new(good, []).check().unwrap();
        }
        for bad in ["", "Admin", "2nd", "a b", "ä", "-a", &"a".repeat(51)] {
            assert!(RoleInput::new(bad, []).check().is_err(), "{bad}");
        }
    }
}
