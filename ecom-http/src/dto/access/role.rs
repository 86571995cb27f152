//! The representation of roles.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ecom_core::access::{Permission, Role};
use serde::Serialize;
use uuid::Uuid;

/// A role: a name for a set of permissions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RoleView<'a> {
    /// The id of the role.
    pub id: Uuid,
    /// The name, which is unique and fixed.
    #[schema(example = "warehouse")]
    pub name: &'a str,
    /// A description for people.
    pub description: Option<&'a str>,
    /// The permissions that the role grants.
    pub permissions: &'a BTreeSet<Permission>,
    /// Whether the role is built in and cannot be changed.
    pub built_in: bool,
    /// The version, which increases when somebody edits the role. Writes name it (R1).
    pub version: i64,
    /// When the role was created (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub created_at: DateTime<Utc>,
    /// When the role was last edited (RFC 3339, UTC).
    #[serde(serialize_with = "crate::dto::time")]
    pub updated_at: DateTime<Utc>,
    /// The actor who created the role.
    pub created_by: &'a str,
    /// The actor who last edited the role.
    pub updated_by: &'a str,
}

impl RoleView<'_> {
    pub(crate) const FIELDS: &'static [&'static str] = &[
        "id",
        "name",
        "description",
        "permissions",
        "built_in",
        "version",
        "created_at",
        "updated_at",
        "created_by",
        "updated_by",
    ];
}

impl<'a> From<&'a Role> for RoleView<'a> {
    fn from(r: &'a Role) -> Self {
        Self {
            id: r.id.0,
            name: &r.name,
            description: r.description.as_deref(),
            permissions: &r.permissions,
            built_in: r.built_in().is_some(),
            version: r.audit.version,
            created_at: r.audit.created_at,
            updated_at: r.audit.updated_at,
            created_by: r.audit.created_by.as_str(),
            updated_by: r.audit.updated_by.as_str(),
        }
    }
}
